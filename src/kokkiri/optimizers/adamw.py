"""Adam with decoupled weight decay."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from kokkiri.optimizers import arguments
from kokkiri.optimizers.adam import descend, moments
from kokkiri.optimizers.arithmetic import minus
from kokkiri.types import Params, State


@dataclass(frozen=True)
class AdamW:
    """θ ← θ − lr λ θ, then a step of `Adam` with the gradient taken before; λ is `decay`.

    The decay is no prior: it adds nothing to log p(θ), so it enters no evidence, and it acts on every parameter, those
    of the likelihood too. For a decay that is a belief use `Adam` with a Normal prior.

    Source: Loshchilov & Hutter 2019, "Decoupled weight decay regularization", algorithm 2. There λ is multiplied by the
    schedule alone; here, as in torch.optim.AdamW, by the scheduled learning rate.

    >>> import torch
    >>> adamw = AdamW(lr=0.1, decay=0.1)
    >>> params = {"x": torch.tensor([1.0, 2.0])}
    >>> state = adamw.init(params)
    >>> for _ in range(4):
    ...     print(f"{params['x'].square().sum():.3f}")
    ...     params, state = adamw.step(params, {"x": 2 * params["x"]}, state, {})
    5.000
    4.326
    3.713
    3.160
    """

    lr: float = 1e-3
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    decay: float = 0.01
    elementwise: ClassVar[bool] = True
    full_batch: ClassVar[bool] = False

    def __post_init__(self) -> None:
        arguments.positive("AdamW", "lr", self.lr, 1e-3)
        arguments.fraction("AdamW", "beta1", self.beta1, 0.9)
        arguments.fraction("AdamW", "beta2", self.beta2, 0.999)
        arguments.positive("AdamW", "eps", self.eps, 1e-8)
        arguments.not_negative("AdamW", "decay", self.decay, 0.01)

    def hyperparameters(self) -> dict[str, Tensor]:
        """What a sweep may vary."""
        return arguments.hyperparameters(self)

    def init(self, params: Params) -> State:
        """No gradient was seen yet."""
        return moments(params)

    def step(self, params: Params, grads: Params, state: State, hyper: dict[str, Tensor]) -> tuple[Params, State]:
        """One step of descent; what `hyper` does not name is the field of that name."""
        lr, eps, decay = hyper.get("lr", self.lr), hyper.get("eps", self.eps), hyper.get("decay", self.decay)
        beta1, beta2 = hyper.get("beta1", self.beta1), hyper.get("beta2", self.beta2)
        shrunk = {k: minus(p, p, lr * decay) for k, p in params.items()}
        return descend(shrunk, grads, state, lr, beta1, beta2, eps)
