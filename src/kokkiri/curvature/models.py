"""One replica of a herd as a module, which of its parameters are meant, and where they lie in the flat vector."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from kokkiri.curvature.plan import PROBE
from kokkiri.curvature.probe import run
from kokkiri.errors import UsageError
from kokkiri.herd import Herd, load
from kokkiri.networks.dense import program
from kokkiri.training.flat import Layout
from kokkiri.types import LIKELIHOOD_PREFIX, Likelihood


def replica_module(herd: Herd, replica: int) -> nn.Module:
    """A replica as a module in evaluation mode whose trained parameters alone require gradients."""
    known = program(herd.network) is not None
    module = (_copied(herd.network) if known else copy.deepcopy(herd.network)).eval()
    tensors = {n: t[replica].detach().clone() for n, t in (herd.params | herd.buffers).items()}
    load(module, {n: t for n, t in tensors.items() if not n.startswith(LIKELIHOOD_PREFIX)})
    for name, p in module.named_parameters():
        p.requires_grad_(name in herd.params)
    return module


def _copied(module: nn.Module) -> nn.Module:
    """A copy of a network that is known by its program: its modules and parameters are its own, all else is shared."""
    made = copy.copy(module)
    parameters = {n: None if p is None else nn.Parameter(p.detach()) for n, p in module._parameters.items()}  # ruff: ignore[private-member-access] - the only place where a module keeps them
    children = {n: None if m is None else _copied(m) for n, m in module._modules.items()}  # ruff: ignore[private-member-access] - a module used twice has two names here
    made.__dict__.update(_parameters=parameters, _buffers=dict(module.named_buffers(recurse=False)), _modules=children)
    return made


def bound_likelihood(herd: Herd, likelihood: Likelihood, replica: int) -> Likelihood:
    """The likelihood with a replica's own parameters."""
    return likelihood.bind({n: t[replica] for n, t in herd.likelihood_params().items()})


def flat_index(where: Layout) -> Callable[[str], Tensor]:
    """Where a parameter's entries lie in the flat vector, in the parameter's own shape."""
    starts = dict(zip(where.names, zip(where.starts, where.shapes, strict=True), strict=True))

    def index(name: str) -> Tensor:
        start, shape = starts[name]
        return torch.arange(start, start + math.prod(shape)).reshape(shape)

    return index


def wanted(module: nn.Module, layers: Sequence[str] | None, x: Any) -> tuple[str, ...]:
    """The names of the parameters that a choice of layers means."""
    names = [n for n, p in module.named_parameters() if p.requires_grad]
    if layers is None:
        return tuple(names)
    prefixes = last_layer(module, x) if tuple(layers) == ("last",) else tuple(layers)
    chosen = tuple(n for n in names if any(n == p or n.startswith(p.rstrip(".") + ".") for p in prefixes))
    if not chosen:
        raise UsageError(
            f"no trained parameter belongs to {', '.join(prefixes)}", needs="names of layers, or 'last'",
            found="there are: " + ", ".join(names[:8]) + (" …" if len(names) > 8 else ""),
            fix=f"layers=({names[-1]!r},)",
        )  # fmt: skip
    return chosen


def last_layer(module: nn.Module, x: Any) -> tuple[str, ...]:
    """The affine map whose output is the network's.

    Raises UsageError where the network ends otherwise.
    """
    tape, out = run(module, x[:PROBE], copies=False)
    last = [u for u in tape.uses if u.kind == "linear" and u.output is out]
    if not last:
        ends = [u for u in tape.uses if u.kind == "linear"]
        raise UsageError(
            "the network does not end in a linear map", needs="nn.Linear as the last operation",
            found=f"the last linear map is {ends[-1].weight}, and its output is changed" if ends else "no linear map",
            fix="layers=None for all of them, or name some",
        )  # fmt: skip
    return tuple(n for n in (last[-1].weight, last[-1].bias) if n)
