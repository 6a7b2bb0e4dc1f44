"""What a network is made of."""

from __future__ import annotations

import copy
from itertools import starmap
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from kokkiri.data.core import Inputs
from kokkiri.errors import KokkiriError, ModelError
from kokkiri.networks import arguments


class Row(NamedTuple):
    """One call of one layer. shape: of what it makes of one example, or None if it was never called."""

    name: str
    type: str
    shape: tuple[int, ...] | None
    parameters: int


def describe(network: nn.Module, inputs: Inputs | int | tuple[int, ...] | Tensor) -> list[Row]:
    """The layers that one batch goes through, in order of their calls, and how many parameters each has.

    inputs: the shape of one example (a batch of one, all zeros, is run), or a batch. The run is that of a copy in
    evaluation mode, so that the network keeps its weights, buffers, mode and hooks. A parameter that two layers share
    is counted at the first; layers that own parameters and are never called come last. So the counts add up.

    >>> from kokkiri.networks import MLP
    >>> for row in describe(MLP(2, [4], 1), 2):
    ...     print(*row)
    hidden.0 Linear (4,) 12
    activation ReLU (4,) 0
    output Linear (1,) 5
    """
    network = copy.deepcopy(network).eval()
    x = inputs if isinstance(inputs, Tensor) else _zeros(network, arguments.inputs_of("describe", inputs))
    cuda = list({p.device for p in network.parameters() if p.is_cuda})
    modules = [(name, m) for name, m in network.named_modules() if _owned(m) or not any(m.children())]
    calls: list[tuple[str, nn.Module, tuple[int, ...] | None]] = []

    def watch(name: str, module: nn.Module) -> RemovableHandle:
        return module.register_forward_hook(lambda m, _x, out: calls.append((name, m, _shape(out))))

    handles = list(starmap(watch, modules))
    try:
        # a network may draw noise in its forward; whoever looks at a model must not move the global generator
        with torch.no_grad(), torch.random.fork_rng(devices=cuda):
            network(x)
    except KokkiriError:
        raise
    except Exception as error:
        raise ModelError(
            f"{type(network).__name__} does not run on x {tuple(x.shape)}",
            needs="a network that takes one batch",
            found=f"{type(error).__name__}: {str(error).partition(chr(10))[0]}",
            fix="describe(network, x) with a batch x of your own",
        ) from error
    finally:
        for handle in handles:
            handle.remove()
    called = {id(module) for _, module, _ in calls}
    calls += [(name, m, None) for name, m in modules if id(m) not in called and _owned(m)]
    counted: set[int] = set()
    rows = []
    for name, module, shape in calls:
        fresh = {id(p): p.numel() for p in _owned(module) if id(p) not in counted}
        counted |= set(fresh)
        rows.append(Row(name, type(module).__name__, shape, sum(fresh.values())))
    return rows


def _owned(module: nn.Module) -> list[nn.Parameter]:
    return list(module.parameters(recurse=False))


def _zeros(network: nn.Module, inputs: Inputs) -> Tensor:
    like = next((p for p in network.parameters() if p.is_floating_point()), torch.empty(0))
    return torch.zeros(1, *inputs.shape, dtype=like.dtype, device=like.device)


def _shape(out: Any) -> tuple[int, ...] | None:
    while isinstance(out, tuple | list) and out:  # an LSTM gives its output first
        out = out[0]
    return tuple(out.shape[1:]) if isinstance(out, Tensor) else None
