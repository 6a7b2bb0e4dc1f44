"""Beta: what is believed of a proportion."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from kokkiri.exact.distributions import arguments
from kokkiri.exact.distributions.arguments import Numbers
from kokkiri.exact.distributions.drawing import log_gamma_draws
from kokkiri.numerics.quantiles import beta_quantile
from kokkiri.numerics.special import incomplete_beta, log_beta_power


@dataclass(frozen=True, eq=False, repr=False, init=False)
class Beta:
    """p^(a-1) (1-p)^(b-1) / B(a, b) on 0 <= p <= 1; a, b > 0, numbers or tensors that broadcast: (...).

    Source: Johnson, Kotz and Balakrishnan 1995, "Continuous univariate distributions", chapter 25.

    >>> Beta(8, 14).mean.item(), [round(v.item(), 4) for v in Beta(8, 14).interval(0.95)]
    (0.36363636363636365, [0.1811, 0.5697])
    """

    a: Tensor
    b: Tensor

    def __init__(self, a: Numbers, b: Numbers) -> None:
        arguments.settle(self, positive={"a": a, "b": b})

    def __repr__(self) -> str:
        return arguments.shown(self, ("a", "b"))

    @property
    def mean(self) -> Tensor:
        """E[p] = a / (a + b)."""
        return self.a / (self.a + self.b)

    @property
    def variance(self) -> Tensor:
        """E[p] (1 - E[p]) / (a + b + 1)."""
        n = self.a + self.b
        return (self.a / n) * (self.b / n) / (n + 1)  # 1 - a / n would lose the digits of a small b

    @property
    def sd(self) -> Tensor:
        """√variance."""
        return self.variance.sqrt()

    @property
    def mode(self) -> Tensor:
        """(a - 1) / (a + b - 2); NaN where the density is flat, or grows without bound towards 0 or 1 (a or b < 1)."""
        up, down = self.a - 1, self.b - 1
        return torch.where((up >= 0) & (down >= 0), up / (up + down), torch.nan)

    def log_prob(self, p: Numbers) -> Tensor:
        """The log density, nats; -∞ outside of [0, 1]."""
        x, a, b = torch.broadcast_tensors(arguments.numbers("Beta", "p", p), self.a, self.b)
        inside = (x > 0) & (x < 1)
        safe = torch.where(inside, x, 0.5)
        density = log_beta_power(a, b, safe, 1 - safe) - safe.log() - torch.log1p(-safe)
        power = torch.where(x == 0, a, b)  # of the end, where x lies at one
        at_end = torch.where(power < 1, torch.inf, torch.where(power > 1, -torch.inf, torch.where(x == 0, b, a).log()))
        outside = torch.where((x == 0) | (x == 1), at_end, -torch.inf)
        return torch.where(x.isnan(), torch.nan, torch.where(inside, density, outside))

    def cdf(self, p: Numbers) -> Tensor:
        """P(P <= p), accurate where it is small."""
        x = arguments.numbers("Beta", "p", p).clamp(0, 1)
        return incomplete_beta(self.a, self.b, x)

    def survival(self, p: Numbers) -> Tensor:
        """P(P > p), accurate where it is small."""
        x = arguments.numbers("Beta", "p", p).clamp(0, 1)
        return incomplete_beta(self.b, self.a, 1 - x, x)

    def quantile(self, q: Numbers) -> Tensor:
        """The p with P(P <= p) = q."""
        return beta_quantile(arguments.fraction("Beta.quantile", "q", q), self.a, self.b)

    def interval(self, level: float = 0.95) -> tuple[Tensor, Tensor]:
        """The central interval: (1 - level) / 2 is left out on either side."""
        below, above = arguments.ends("Beta.interval", level, self.a)
        low, high = beta_quantile(below, self.a, self.b, above)
        return low, high

    def sample(self, n: int, *, seed: int) -> Tensor:
        """(n, ...) draws."""
        logs = log_gamma_draws(torch.stack([self.a, self.b], -1), n, seed, "Beta")
        return torch.softmax(logs, -1)[..., 0]
