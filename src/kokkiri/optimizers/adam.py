"""Adam."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from kokkiri.optimizers import arguments
from kokkiri.optimizers.arithmetic import Scalar, minus_ratio, mix, root
from kokkiri.types import Params, State


@dataclass(frozen=True)
class Adam:
    """m ← β₁ m + (1 − β₁) g;  v ← β₂ v + (1 − β₂) g²;  θ ← θ − lr m̂ / (√v̂ + ε),  m̂ = m / (1 − β₁ᵗ), v̂ = v / (1 − β₂ᵗ).

    Source: Kingma & Ba 2015, "Adam: a method for stochastic optimization", algorithm 1. As torch.optim.Adam without its
    `weight_decay`, which is a prior here. `state["step"]` is t, a 0-dimensional float64 tensor; an engine that runs one
    model alone may keep it as a plain number, which halves a step over 5,000 parameters.

    >>> adam = Adam(lr=0.1)
    >>> params = {"x": torch.tensor([1.0, 2.0])}
    >>> state = adam.init(params)
    >>> for _ in range(4):
    ...     print(f"{params['x'].square().sum():.3f}")
    ...     params, state = adam.step(params, {"x": 2 * params["x"]}, state, {})
    5.000
    4.420
    3.881
    3.384
    """

    lr: float = 1e-3
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    elementwise: ClassVar[bool] = True
    full_batch: ClassVar[bool] = False

    def __post_init__(self) -> None:
        arguments.positive("Adam", "lr", self.lr, 1e-3)
        arguments.fraction("Adam", "beta1", self.beta1, 0.9)
        arguments.fraction("Adam", "beta2", self.beta2, 0.999)
        arguments.positive("Adam", "eps", self.eps, 1e-8)

    def hyperparameters(self) -> dict[str, Tensor]:
        """What a sweep may vary."""
        return arguments.hyperparameters(self)

    def init(self, params: Params) -> State:
        """No gradient was seen yet."""
        return moments(params)

    def step(self, params: Params, grads: Params, state: State, hyper: dict[str, Tensor]) -> tuple[Params, State]:
        """One step of descent; what `hyper` does not name is the field of that name."""
        lr, eps = hyper.get("lr", self.lr), hyper.get("eps", self.eps)
        return descend(params, grads, state, lr, hyper.get("beta1", self.beta1), hyper.get("beta2", self.beta2), eps)


def moments(params: Params) -> State:
    """What Adam remembers, before the first gradient."""
    # float64, since 1 − 0.999 in float32 has a relative error of 6e-5; a 0-dimensional tensor upcasts nothing
    count = torch.zeros((), dtype=torch.float64, device=next((p.device for p in params.values()), None))
    first, second = ({k: torch.zeros_like(p) for k, p in params.items()} for _ in range(2))
    return {"step": count, "first": first, "second": second}


def descend(
    params: Params, grads: Params, state: State, lr: Scalar, beta1: Scalar, beta2: Scalar, eps: Scalar
) -> tuple[Params, State]:
    """Algorithm 1 with its corrections moved from the moments to scalars: two passes over memory fewer.

    lr m̂ / (√v̂ + ε) = (lr c / (1 − β₁ᵗ)) m / (√v + c ε), where c = √(1 − β₂ᵗ).
    """
    t = state["step"] + 1
    c = (1 - beta2**t) ** 0.5
    size, small = c / (1 - beta1**t) * lr, c * eps
    first = {k: mix(m, grads[k], 1 - beta1) for k, m in state["first"].items()}
    second = {k: mix(v, grads[k] * grads[k], 1 - beta2) for k, v in state["second"].items()}
    moved = {k: minus_ratio(p, first[k], root(second[k], small), size) for k, p in params.items()}
    return moved, {"step": t, "first": first, "second": second}
