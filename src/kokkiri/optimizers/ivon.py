"""IVON: a Gaussian over the parameters, learnt at about the price of Adam."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from kokkiri.optimizers import arguments
from kokkiri.optimizers.arithmetic import Scalar, constant, largest, minus, mix, plus_product, scaled, shifted, within
from kokkiri.types import Params, State

WINDOW = 3.0  # h is an average over about a third of the steps so far


@dataclass(frozen=True)
class IVON:
    """Descends -ELBO / N over q = N(m, σ²), σ² = 1 / (N (h + δ)), by natural gradients; m are the `params`.

        θ = m + σ ε                       `look`: where the gradient is taken, ε standard normal
        ĝ = d/dθ of the mean -log p(y | x, θ) over a batch,   ĥ = ĝ ε / σ        (Price's theorem: E ĥ = E d²/dθ²)
        g ← β₁ g + (1 - β₁) ĝ
        h ← h + ρ (ĥ - h) + ½ ρ² (ĥ - h)² / (h + δ)
        m ← m - lr (g / (1 - β₁ᵗ) + δ m) / (h + δ)

    Source: Shen et al. 2024, "Variational learning is effective for large deep networks", algorithm 1. δ is the prior's
    precision over N: the prior enters exactly, and no engine adds another gradient of it. N is the weight of all rows,
    so no temperature is hidden. The last term of h keeps σ real whatever ĥ is. lr = 1 is a whole Newton step of each
    parameter by itself.

    Two departures. (a) ρ = max(1 - β₂, 3 / (t + memory + 2)) in place of 1 - β₂, so that short runs forget the start as
    long ones do; memory=1e30 is the paper's. (b) No parameter moves by more than `reach` times its own σ in a step: far
    from the optimum a Newton step may leave all that h knows of; reach=1e30 is the paper's.

    `spread` is σ at the start, and `state["spread"]` is σ, from which h + δ follows: the fourth line is
    σ² ← 2σ² / (1 + w²), w = 1 - ρ + ρ N σ (ĝ ε + δ σ). `step` without `look` before it leaves σ as it is.
    An engine puts into `hyper` "rows" (N), "decay" (δ), and where it is not 0 "pull" (δ times the prior's centre).

    >>> ivon, params = IVON(lr=0.1, spread=0.3), {"x": torch.tensor([1.0, 2.0])}
    >>> state, hyper = ivon.init(params), {"rows": 100.0, "decay": 0.01}
    >>> random = torch.Generator().manual_seed(0)
    >>> for _ in range(3000):  # the mean loss is x²/2, so σ = 1 / √(100 · 1.01)
    ...     near, state = ivon.look(params, state, hyper, {"x": torch.randn(2, generator=random)})
    ...     params, state = ivon.step(params, near, state, hyper)
    >>> [round(s, 2) for s in state["spread"]["x"].tolist()]
    [0.1, 0.1]
    """

    lr: float = 0.1
    beta1: float = 0.9
    beta2: float = 0.99999
    spread: float = 0.05
    memory: float = 300.0
    reach: float = 1.0
    elementwise: ClassVar[bool] = True
    full_batch: ClassVar[bool] = False

    def __post_init__(self) -> None:
        """Refuses what is out of range."""
        arguments.fraction("IVON", "beta1", self.beta1, 0.9)
        arguments.fraction("IVON", "beta2", self.beta2, 0.99999)
        for name, example in (("lr", 0.1), ("spread", 0.05), ("memory", 300.0), ("reach", 1.0)):
            arguments.positive("IVON", name, getattr(self, name), example)

    def hyperparameters(self) -> dict[str, Tensor]:
        """What a sweep may vary: all but the start."""
        return {n: t for n, t in arguments.hyperparameters(self).items() if n != "spread"}

    def init(self, params: Params) -> State:
        """σ is `spread` everywhere; no gradient was seen yet."""
        count = torch.zeros((), dtype=torch.float64, device=next((p.device for p in params.values()), None))
        return {
            "step": count,
            "momentum": {k: torch.zeros_like(p) for k, p in params.items()},
            "spread": {k: torch.full_like(p, self.spread) for k, p in params.items()},
        }

    def look(self, params: Params, state: State, hyper: dict[str, Any], noise: Params) -> tuple[Params, State]:
        """Where the gradient is to be taken, m + σ ε, and a state for `step` that knows of it."""
        del hyper  # other optimizers may need them to look
        near = {k: torch.addcmul(p, state["spread"][k], noise[k]) for k, p in params.items()}
        return near, {**state, "noise": noise}

    def step(self, params: Params, grads: Params, state: State, hyper: dict[str, Any]) -> tuple[Params, State]:
        """One step, from the gradient of the mean -log-likelihood at the place that `look` gave."""
        own = lambda name: hyper.get(name, getattr(self, name))
        lr, beta1, beta2, memory, reach = (own(n) for n in ("lr", "beta1", "beta2", "memory", "reach"))
        rows, decay, pull = hyper.get("rows", 1.0), hyper.get("decay", 0.0), hyper.get("pull")
        t = state["step"] + 1
        kept = 1 - beta1**t
        size, rate = lr * rows / kept, largest(1 - beta2, WINDOW / (t + memory + 2))
        momentum = {k: mix(g, grads[k], 1 - beta1) for k, g in state["momentum"].items()}
        spread = state["spread"]
        if (noise := state.get("noise")) is not None:
            spread = {k: _spread(s, grads[k] * noise[k], decay, rows, rate) for k, s in spread.items()}
        limit = reach / size if isinstance(size, Tensor) or size else math.inf
        moved = {}
        for k, p in params.items():
            slope = plus_product(momentum[k], constant(decay, p), p, kept)
            slope = slope if pull is None else minus(slope, pull, kept)
            moved[k] = plus_product(p, within(slope.mul_(spread[k]), limit), spread[k], -size)
        return moved, {"step": t, "momentum": momentum, "spread": spread}


def _spread(s: Tensor, product: Tensor, decay: Scalar, rows: Scalar, rate: Scalar) -> Tensor:
    """σ √(2 / (1 + w²)), w = 1 - ρ + ρ N σ (ĝ ε + δ σ). product: ĝ ε, which is used up: memory costs more than sums."""
    half = 0.5**0.5
    curved = product.addcmul_(constant(decay, s), s).mul_(s)
    w = shifted(scaled(curved, rate * rows * half), (1 - rate) * half)
    return w.mul_(w).add_(0.5).rsqrt_().mul_(s)
