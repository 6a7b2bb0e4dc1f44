"""RMSprop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from kokkiri.optimizers import arguments
from kokkiri.optimizers.arithmetic import minus_ratio, mix, root
from kokkiri.types import Params, State


@dataclass(frozen=True)
class RMSprop:
    """s ← α s + (1 − α) g²;  θ ← θ − lr g / (√s + ε): Adagrad with a memory of about 1 / (1 − α) steps.

    Source: Tieleman & Hinton 2012, Coursera lecture 6.5; Goodfellow et al. 2016, Deep Learning, algorithm 8.5, which
    has ε inside the root. As torch.optim.RMSprop with ε outside, not centred and without momentum.

    >>> rmsprop = RMSprop(lr=0.05)
    >>> params = {"x": torch.tensor([1.0, 2.0])}
    >>> state = rmsprop.init(params)
    >>> for _ in range(4):
    ...     print(f"{params['x'].square().sum():.3f}")
    ...     params, state = rmsprop.step(params, {"x": 2 * params["x"]}, state, {})
    5.000
    2.500
    1.514
    0.987
    """

    lr: float = 0.01
    alpha: float = 0.99
    eps: float = 1e-8
    elementwise: ClassVar[bool] = True
    full_batch: ClassVar[bool] = False

    def __post_init__(self) -> None:
        arguments.positive("RMSprop", "lr", self.lr, 0.01)
        arguments.fraction("RMSprop", "alpha", self.alpha, 0.99)
        arguments.positive("RMSprop", "eps", self.eps, 1e-8)

    def hyperparameters(self) -> dict[str, Tensor]:
        """What a sweep may vary."""
        return arguments.hyperparameters(self)

    def init(self, params: Params) -> State:
        """No gradient was seen yet."""
        return {"square": {k: torch.zeros_like(p) for k, p in params.items()}}

    def step(self, params: Params, grads: Params, state: State, hyper: dict[str, Tensor]) -> tuple[Params, State]:
        """One step of descent; what `hyper` does not name is the field of that name."""
        lr, alpha, eps = hyper.get("lr", self.lr), hyper.get("alpha", self.alpha), hyper.get("eps", self.eps)
        square = {k: mix(s, grads[k] * grads[k], 1 - alpha) for k, s in state["square"].items()}
        return {k: minus_ratio(p, grads[k], root(square[k], eps), lr) for k, p in params.items()}, {"square": square}
