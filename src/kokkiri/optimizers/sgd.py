"""Stochastic gradient descent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from kokkiri.optimizers import arguments
from kokkiri.optimizers.arithmetic import minus
from kokkiri.types import Params, State


@dataclass(frozen=True)
class SGD:
    """θ ← θ − lr g, where g is an unbiased estimate of the gradient, from a batch of rows.

    Source: Robbins & Monro 1951, "A stochastic approximation method"; Goodfellow et al. 2016, Deep Learning, algorithm
    8.1. As torch.optim.SGD, whose momentum, Nesterov step and weight decay are here `Momentum`, `Nesterov`, a prior.

    >>> import torch
    >>> sgd = SGD(lr=0.25)
    >>> params = {"x": torch.tensor([1.0, 2.0])}
    >>> state = sgd.init(params)
    >>> for _ in range(4):
    ...     print(f"{params['x'].square().sum():.3f}")
    ...     params, state = sgd.step(params, {"x": 2 * params["x"]}, state, {})
    5.000
    1.250
    0.312
    0.078
    """

    lr: float
    elementwise: ClassVar[bool] = True
    full_batch: ClassVar[bool] = False

    def __post_init__(self) -> None:
        arguments.positive("SGD", "lr", self.lr, 0.1)

    def hyperparameters(self) -> dict[str, Tensor]:
        """What a sweep may vary."""
        return arguments.hyperparameters(self)

    def init(self, params: Params) -> State:  # ruff: ignore[unused-method-argument]  the protocol's argument
        """Nothing is remembered."""
        return {}

    def step(self, params: Params, grads: Params, state: State, hyper: dict[str, Tensor]) -> tuple[Params, State]:
        """One step of descent; what `hyper` does not name is the field of that name."""
        lr = hyper.get("lr", self.lr)
        return {k: minus(p, grads[k], lr) for k, p in params.items()}, state
