"""Gradient descent with momentum: the heavy ball."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from kokkiri.optimizers import arguments
from kokkiri.optimizers.arithmetic import minus, plus
from kokkiri.types import Params, State


@dataclass(frozen=True)
class Momentum:
    """v ← μ v + g;  θ ← θ − lr v.

    Source: Polyak 1964, "Some methods of speeding up the convergence of iteration methods"; Sutskever et al. 2013, "On
    the importance of initialization and momentum in deep learning", eqs. 1 and 2, where v is −lr times ours: the two
    part only when the learning rate moves. As torch.optim.SGD(momentum=μ) with its dampening 0.

    >>> momentum = Momentum(lr=0.05)
    >>> params = {"x": torch.tensor([1.0, 2.0])}
    >>> state = momentum.init(params)
    >>> for _ in range(4):
    ...     print(f"{params['x'].square().sum():.3f}")
    ...     params, state = momentum.step(params, {"x": 2 * params["x"]}, state, {})
    5.000
    4.050
    2.592
    1.181
    """

    lr: float
    momentum: float = 0.9
    elementwise: ClassVar[bool] = True
    full_batch: ClassVar[bool] = False

    def __post_init__(self) -> None:
        arguments.positive("Momentum", "lr", self.lr, 0.1)
        arguments.fraction("Momentum", "momentum", self.momentum, 0.9)

    def hyperparameters(self) -> dict[str, Tensor]:
        """What a sweep may vary."""
        return arguments.hyperparameters(self)

    def init(self, params: Params) -> State:
        """A ball at rest."""
        return {"velocity": {k: torch.zeros_like(p) for k, p in params.items()}}

    def step(self, params: Params, grads: Params, state: State, hyper: dict[str, Tensor]) -> tuple[Params, State]:
        """One step of descent; what `hyper` does not name is the field of that name."""
        lr, mu = hyper.get("lr", self.lr), hyper.get("momentum", self.momentum)
        velocity = {k: plus(grads[k], v, mu) for k, v in state["velocity"].items()}
        return {k: minus(p, velocity[k], lr) for k, p in params.items()}, {"velocity": velocity}
