"""Gradient descent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from kokkiri.optimizers import arguments
from kokkiri.optimizers.arithmetic import minus
from kokkiri.types import Params, State


@dataclass(frozen=True)
class GradientDescent:
    """θ ← θ − lr ∇f(θ), with the gradient of the whole data set.

    `full_batch` asks the training loop for all rows at every step; the step itself is that of `SGD`.

    Source: Cauchy 1847, "Méthode générale pour la résolution des systèmes d'équations simultanées"; Goodfellow et al.
    2016, Deep Learning, eq. 4.5. torch has no class of its own for it.

    >>> import torch
    >>> descent = GradientDescent(lr=0.1)
    >>> params = {"x": torch.tensor([1.0, 2.0])}
    >>> state = descent.init(params)
    >>> for _ in range(4):
    ...     print(f"{params['x'].square().sum():.3f}")
    ...     params, state = descent.step(params, {"x": 2 * params["x"]}, state, {})
    5.000
    3.200
    2.048
    1.311
    """

    lr: float
    elementwise: ClassVar[bool] = True
    full_batch: ClassVar[bool] = True

    def __post_init__(self) -> None:
        arguments.positive("GradientDescent", "lr", self.lr, 0.1)

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
