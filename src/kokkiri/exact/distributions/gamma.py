"""Gamma and inverse gamma: what is believed of a rate, and of a variance."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from kokkiri.exact.distributions import arguments
from kokkiri.exact.distributions.arguments import Numbers
from kokkiri.exact.distributions.drawing import log_gamma_draws
from kokkiri.numerics.gammas import log_gamma_power
from kokkiri.numerics.quantiles import gamma_cdf, gamma_log_quantile, gamma_survival


@dataclass(frozen=True, eq=False, repr=False, init=False)
class Gamma:
    """rate^shape λ^(shape-1) e^(-rate λ) / Γ(shape) for λ >= 0; shape, rate > 0, numbers or tensors that broadcast.

    Source: Johnson, Kotz and Balakrishnan 1994, "Continuous univariate distributions", chapter 17.

    >>> Gamma(3, 2).mean.item(), [round(v.item(), 4) for v in Gamma(3, 2).interval(0.95)]
    (1.5, [0.3093, 3.6123])
    """

    shape: Tensor
    rate: Tensor

    def __init__(self, shape: Numbers, rate: Numbers) -> None:
        arguments.settle(self, positive={"shape": shape, "rate": rate})

    def __repr__(self) -> str:
        return arguments.shown(self, ("shape", "rate"))

    @property
    def mean(self) -> Tensor:
        """E[λ] = shape / rate."""
        return self.shape / self.rate

    @property
    def variance(self) -> Tensor:
        """The shape / rate²."""
        return self.shape / self.rate / self.rate

    @property
    def sd(self) -> Tensor:
        """√variance."""
        return self.shape.sqrt() / self.rate

    @property
    def mode(self) -> Tensor:
        """(shape - 1) / rate; NaN where the density grows without bound towards 0 (shape < 1)."""
        return torch.where(self.shape >= 1, (self.shape - 1) / self.rate, torch.nan)

    def log_prob(self, value: Numbers) -> Tensor:
        """The log density, nats; -∞ below 0."""
        x, shape, rate = torch.broadcast_tensors(arguments.numbers("Gamma", "value", value), self.shape, self.rate)
        inside = (x > 0) & x.isfinite()
        safe = torch.where(inside, x, 1.0)
        density = log_gamma_power(shape, rate * safe) - safe.log()
        at_zero = torch.where(shape < 1, torch.inf, torch.where(shape > 1, -torch.inf, rate.log()))
        outside = torch.where(x == 0, at_zero, -torch.inf)
        return torch.where(x.isnan(), torch.nan, torch.where(inside, density, outside))

    def cdf(self, value: Numbers) -> Tensor:
        """P(Λ <= value), accurate where it is small."""
        return gamma_cdf(self.rate * arguments.numbers("Gamma", "value", value).clamp(min=0), self.shape)

    def survival(self, value: Numbers) -> Tensor:
        """P(Λ > value), accurate where it is small."""
        return gamma_survival(self.rate * arguments.numbers("Gamma", "value", value).clamp(min=0), self.shape)

    def quantile(self, q: Numbers) -> Tensor:
        """The value with P(Λ <= value) = q."""
        return (gamma_log_quantile(arguments.fraction("Gamma.quantile", "q", q), self.shape) - self.rate.log()).exp()

    def interval(self, level: float = 0.95) -> tuple[Tensor, Tensor]:
        """The central interval: (1 - level) / 2 is left out on either side."""
        below, above = arguments.ends("Gamma.interval", level, self.shape)
        low, high = (gamma_log_quantile(below, self.shape, above) - self.rate.log()).exp()
        return low, high

    def sample(self, n: int, *, seed: int) -> Tensor:
        """(n, ...) draws."""
        return (log_gamma_draws(self.shape, n, seed, "Gamma") - self.rate.log()).exp()


@dataclass(frozen=True, eq=False, repr=False, init=False)
class InverseGamma:
    """The distribution of v = 1 / λ for λ ~ Gamma(shape, rate): rate^shape v^(-shape-1) e^(-rate/v) / Γ(shape).

    >>> InverseGamma(3, 2).mean.item(), InverseGamma(3, 2).mode.item()
    (1.0, 0.5)
    """

    shape: Tensor
    rate: Tensor

    def __init__(self, shape: Numbers, rate: Numbers) -> None:
        arguments.settle(self, positive={"shape": shape, "rate": rate})

    def __repr__(self) -> str:
        return arguments.shown(self, ("shape", "rate"))

    @property
    def mean(self) -> Tensor:
        """E[v] = rate / (shape - 1); ∞ where shape <= 1."""
        return torch.where(self.shape > 1, self.rate / (self.shape - 1), torch.inf)

    @property
    def variance(self) -> Tensor:
        """E[v]² / (shape - 2); ∞ where shape <= 2."""
        return torch.where(self.shape > 2, self.mean.square() / (self.shape - 2), torch.inf)

    @property
    def sd(self) -> Tensor:
        """√variance."""
        return self.variance.sqrt()

    @property
    def mode(self) -> Tensor:
        """The rate / (shape + 1)."""
        return self.rate / (self.shape + 1)

    def log_prob(self, value: Numbers) -> Tensor:
        """The log density, nats; -∞ at 0 and below."""
        x, shape, rate = torch.broadcast_tensors(
            arguments.numbers("InverseGamma", "value", value), self.shape, self.rate
        )
        inside = (x > 0) & x.isfinite()
        safe = torch.where(inside, x, 1.0)
        density = log_gamma_power(shape, rate / safe) - safe.log()
        return torch.where(x.isnan(), torch.nan, torch.where(inside, density, -torch.inf))

    def cdf(self, value: Numbers) -> Tensor:
        """P(V <= value), accurate where it is small."""
        x = arguments.numbers("InverseGamma", "value", value).clamp(min=0)
        return gamma_survival(self.rate / x, self.shape)

    def survival(self, value: Numbers) -> Tensor:
        """P(V > value), accurate where it is small."""
        x = arguments.numbers("InverseGamma", "value", value).clamp(min=0)
        return gamma_cdf(self.rate / x, self.shape)

    def quantile(self, q: Numbers) -> Tensor:
        """The value with P(V <= value) = q."""
        below = arguments.fraction("InverseGamma.quantile", "q", q)
        return (self.rate.log() - gamma_log_quantile(1 - below, self.shape, below)).exp()

    def interval(self, level: float = 0.95) -> tuple[Tensor, Tensor]:
        """The central interval: (1 - level) / 2 is left out on either side."""
        below, above = arguments.ends("InverseGamma.interval", level, self.shape)
        low, high = (self.rate.log() - gamma_log_quantile(above, self.shape, below)).exp()
        return low, high

    def sample(self, n: int, *, seed: int) -> Tensor:
        """(n, ...) draws."""
        return (self.rate.log() - log_gamma_draws(self.shape, n, seed, "InverseGamma")).exp()
