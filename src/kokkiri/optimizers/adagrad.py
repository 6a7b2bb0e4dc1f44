"""Adagrad."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from kokkiri.optimizers import arguments
from kokkiri.optimizers.arithmetic import minus_ratio, root
from kokkiri.types import Params, State


@dataclass(frozen=True)
class Adagrad:
    """s ← s + g²;  θ ← θ − lr g / (√s + ε): the more a weight was pushed so far, the less it moves.

    Source: Duchi, Hazan & Singer 2011, "Adaptive subgradient methods for online learning and stochastic optimization"
    (the diagonal variant, without projection); Goodfellow et al. 2016, Deep Learning, algorithm 8.4. As
    torch.optim.Adagrad without its `lr_decay` (a schedule does that) and with s = 0 at the start.

    >>> adagrad = Adagrad(lr=0.5)
    >>> params = {"x": torch.tensor([1.0, 2.0])}
    >>> state = adagrad.init(params)
    >>> for _ in range(4):
    ...     print(f"{params['x'].square().sum():.3f}")
    ...     params, state = adagrad.step(params, {"x": 2 * params["x"]}, state, {})
    5.000
    2.500
    1.516
    0.992
    """

    lr: float = 0.01
    eps: float = 1e-10
    elementwise: ClassVar[bool] = True
    full_batch: ClassVar[bool] = False

    def __post_init__(self) -> None:
        arguments.positive("Adagrad", "lr", self.lr, 0.01)
        arguments.positive("Adagrad", "eps", self.eps, 1e-10)

    def hyperparameters(self) -> dict[str, Tensor]:
        """What a sweep may vary."""
        return arguments.hyperparameters(self)

    def init(self, params: Params) -> State:
        """No gradient was seen yet."""
        return {"sum": {k: torch.zeros_like(p) for k, p in params.items()}}

    def step(self, params: Params, grads: Params, state: State, hyper: dict[str, Tensor]) -> tuple[Params, State]:
        """One step of descent; what `hyper` does not name is the field of that name."""
        lr, eps = hyper.get("lr", self.lr), hyper.get("eps", self.eps)
        total = {k: torch.addcmul(s, grads[k], grads[k]) for k, s in state["sum"].items()}
        return {k: minus_ratio(p, grads[k], root(total[k], eps), lr) for k, p in params.items()}, {"sum": total}
