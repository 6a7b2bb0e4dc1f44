"""The herd: R models of one architecture whose every tensor has a leading axis R.

Ensembles, sweeps, folds, bootstraps and posterior draws are ways to build a herd; there is one way to run one.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from kokkiri.errors import ShapeError, UsageError
from kokkiri.numerics.random import key
from kokkiri.types import LIKELIHOOD_PREFIX, Params


@dataclass(frozen=True)
class Herd:
    """R models as one value. Nothing in it is ever changed; every operation gives a new herd.

    network: the skeleton; its own weights are never read. params, buffers: (R, ...) each; parameters of the likelihood
    lie among `params` under `LIKELIHOOD_PREFIX`, frozen parameters among `buffers`. axes: the named logical axes of the
    one physical axis, {"seed": 4, "lr": 3}. weight: (R, N), how much each datum counts for each replica; None: once.
    hyper: (R,) each, what the optimizer and the prior of each replica use instead of their own values.
    """

    network: nn.Module
    params: Params
    buffers: Params
    axes: Mapping[str, int]
    weight: Tensor | None = None
    hyper: Mapping[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return math.prod(self.axes.values())

    def __getitem__(self, replica: int | list[int] | Tensor) -> Herd:
        """Some of the replicas, as a herd with the one axis "replica"."""
        rows = torch.as_tensor([replica] if isinstance(replica, int) else replica)
        pick = lambda tree: {name: t[rows] for name, t in tree.items()}
        weight = self.weight[rows] if self.weight is not None else None
        axes = {"replica": len(rows)}
        return replace(
            self, params=pick(self.params), buffers=pick(self.buffers), axes=axes, weight=weight, hyper=pick(self.hyper)
        )

    def __call__(self, x: Any) -> Tensor:
        """(B, ...) -> (R, B, C), every model on the same inputs, in evaluation mode and without gradients."""
        with torch.no_grad():
            module = _copy(self.network).eval()
            tree = {name: t for name, t in (self.params | self.buffers).items() if _of_network(name)}
            outputs = []
            for r in range(len(self)):
                load(module, {name: t[r] for name, t in tree.items()})
                outputs.append(module(x))
            return torch.stack(outputs)

    def unflatten(self, t: Tensor) -> Tensor:
        """(R, ...) -> (*axes, ...)."""
        return t.reshape(*self.axes.values(), *t.shape[1:])

    def likelihood_params(self) -> Params:
        """The parameters of the likelihood, (R, ...) each, their prefix taken off."""
        cut = len(LIKELIHOOD_PREFIX)
        return {name[cut:]: t for name, t in self.params.items() if name.startswith(LIKELIHOOD_PREFIX)}

    def module(self, replica: int = 0) -> nn.Module:
        """One replica as an ordinary module of its own, in evaluation mode."""
        module = copy.deepcopy(self.network)
        own = {name: t[replica].clone() for name, t in (self.params | self.buffers).items() if _of_network(name)}
        load(module, own)
        return module.eval()


def herd(make: nn.Module | Callable[[], nn.Module], **axes: Iterable[Any]) -> Herd:
    """A herd from a network, or from a function that makes one.

    `seed=range(4)` gives four initialisations, each a function of its seed alone. A network that is handed in keeps its
    own weights when no seed is named; with seeds it is initialised anew through its modules' `reset_parameters`.
    Every other axis is a hyperparameter of the optimizer or the prior: `lr=[1e-3, 1e-2]`. Axes multiply.

    >>> h = herd(lambda: nn.Linear(3, 1), seed=range(2), lr=[0.1, 0.01, 0.001])
    >>> len(h), h.params["weight"].shape, h.hyper["lr"].tolist()[:2]
    (6, torch.Size([6, 1, 3]), [0.1, 0.01])
    """
    seeds = axes.pop("seed", None)
    modules = [_initialised(make, s) for s in seeds] if seeds is not None else [_copy(make)]
    if not modules:
        raise UsageError("a herd needs at least one seed", found="seed=()", fix="seed=range(4)")
    params = [{n: p.detach() for n, p in m.named_parameters() if p.requires_grad} for m in modules]
    frozen = [{n: p.detach() for n, p in m.named_parameters() if not p.requires_grad} for m in modules]
    buffers = [frozen[i] | dict(m.named_buffers()) for i, m in enumerate(modules)]
    made = Herd(modules[0], _stack(params), _stack(buffers), {"seed": len(modules)} if seeds is not None else {})
    return sweep(made, **axes)


def sweep(base: Herd, **values: Iterable[Any]) -> Herd:
    """Crosses the herd with values of hyperparameters, one new axis each."""
    out = base
    for name, given in values.items():
        column = torch.tensor([float(v) for v in given], dtype=torch.float64)
        repeat = partial(torch.repeat_interleave, repeats=len(column), dim=0)
        out = replace(
            out,
            params={n: repeat(t) for n, t in out.params.items()},
            buffers={n: repeat(t) for n, t in out.buffers.items()},
            weight=repeat(out.weight) if out.weight is not None else None,
            hyper={n: repeat(t) for n, t in out.hyper.items()} | {name: column.repeat(len(out))},
            axes={**out.axes, name: len(column)},
        )
    return out


def reweight(base: Herd, axis: str, weights: Tensor) -> Herd:
    """Crosses the herd with K ways to weigh the N data, `weights` (K, N): folds (0 and 1), bootstraps, influence."""
    if weights.ndim != 2:
        raise ShapeError(
            f"reweight got weights of shape {tuple(weights.shape)}", needs="(K, N): one row of weights a replica"
        )
    crossed = sweep(base, **{axis: range(len(weights))})
    hyper = {name: t for name, t in crossed.hyper.items() if name != axis}
    new = weights.repeat(len(base), 1)
    return replace(crossed, hyper=hyper, weight=new if crossed.weight is None else crossed.weight * new)


def load(module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Points a module's parameters and buffers at these tensors, without copying. Tied parameters stay tied."""
    own: dict[str, Tensor] = dict(module.named_parameters())
    own |= dict(module.named_buffers())
    for name, t in tensors.items():
        own[name].data = t


def _of_network(name: str) -> bool:
    return not name.startswith(LIKELIHOOD_PREFIX)


def _copy(make: nn.Module | Callable[[], nn.Module]) -> nn.Module:
    return copy.deepcopy(make) if isinstance(make, nn.Module) else make()


def _initialised(make: nn.Module | Callable[[], nn.Module], seed: int) -> nn.Module:
    """A network whose initial weights are a function of `seed`; the global random state is put back."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(key(int(seed), "init") >> 1)
        module = _copy(make)
        if isinstance(make, nn.Module):
            _reset(module)
    return module


def _reset(module: nn.Module) -> None:
    """Children first: a network that knows how it wants to begin has the last word."""
    for child in module.children():
        _reset(child)
    reset = getattr(module, "reset_parameters", None)
    if callable(reset):
        reset()


def _stack(trees: list[Params]) -> Params:
    return {name: torch.stack([t[name] for t in trees]) for name in trees[0]}
