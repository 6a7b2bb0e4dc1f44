"""Nesterov's accelerated gradient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from kokkiri.optimizers import arguments
from kokkiri.optimizers.arithmetic import minus, plus
from kokkiri.types import Params, State


@dataclass(frozen=True)
class Nesterov:
    """v ← μ v + g;  θ ← θ − lr (g + μ v).

    Source: Nesterov 1983, "A method of solving a convex programming problem with convergence rate O(1/k²)"; Sutskever
    et al. 2013, "On the importance of initialization and momentum in deep learning", eqs. 3 and 4. There the gradient
    is taken at θ + μ v; here, as in torch.optim.SGD(nesterov=True), the stored θ is that shifted point, so that a step
    needs only the gradient where the weights are.

    >>> nesterov = Nesterov(lr=0.05)
    >>> params = {"x": torch.tensor([1.0, 2.0])}
    >>> state = nesterov.init(params)
    >>> for _ in range(4):
    ...     print(f"{params['x'].square().sum():.3f}")
    ...     params, state = nesterov.step(params, {"x": 2 * params["x"]}, state, {})
    5.000
    3.280
    1.654
    0.536
    """

    lr: float
    momentum: float = 0.9
    elementwise: ClassVar[bool] = True
    full_batch: ClassVar[bool] = False

    def __post_init__(self) -> None:
        arguments.positive("Nesterov", "lr", self.lr, 0.1)
        arguments.fraction("Nesterov", "momentum", self.momentum, 0.9)

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
        moved = {k: minus(p, plus(grads[k], velocity[k], mu), lr) for k, p in params.items()}
        return moved, {"velocity": velocity}
