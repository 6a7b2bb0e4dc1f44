"""Lomax: the next waiting time, where the rate is a gamma."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from kokkiri.exact.distributions import arguments
from kokkiri.exact.distributions.arguments import Numbers
from kokkiri.exact.distributions.drawing import generator


@dataclass(frozen=True, eq=False, repr=False, init=False)
class Lomax:
    """y ~ Exponential(λ), λ ~ Gamma(shape, rate): P(Y > y) = (1 + y / rate)^-shape for y >= 0.

    Source: Lomax 1954, "Business failures".

    >>> Lomax(3, 4).mean.item(), round(Lomax(3, 4).survival(4.0).item(), 12)
    (2.0, 0.125)
    """

    shape: Tensor
    rate: Tensor

    def __init__(self, shape: Numbers, rate: Numbers) -> None:
        arguments.settle(self, positive={"shape": shape, "rate": rate})

    def __repr__(self) -> str:
        return arguments.shown(self, ("shape", "rate"))

    @property
    def mean(self) -> Tensor:
        """E[1/λ] = rate / (shape - 1); ∞ where shape <= 1."""
        return torch.where(self.shape > 1, self.rate / (self.shape - 1), torch.inf)

    @property
    def variance(self) -> Tensor:
        """The sum of the two below; ∞ where shape <= 2."""
        return self.aleatoric + self.epistemic

    @property
    def aleatoric(self) -> Tensor:
        """E[1/λ²], the variance of waiting times at a known rate."""
        return torch.where(self.shape > 2, self.mean * (self.rate / (self.shape - 2)), torch.inf)

    @property
    def epistemic(self) -> Tensor:
        """var(1/λ), ignorance of the rate."""
        return torch.where(self.shape > 2, self.mean.square() / (self.shape - 2), torch.inf)

    @property
    def sd(self) -> Tensor:
        """√variance."""
        return self.variance.sqrt()

    @property
    def mode(self) -> Tensor:
        """0."""
        return torch.zeros_like(self.rate)

    def log_prob(self, y: Numbers) -> Tensor:
        """The log density, nats; -∞ below 0."""
        x = arguments.numbers("Lomax", "y", y)
        density = self.shape.log() - self.rate.log() - (self.shape + 1) * torch.log1p(x.clamp(min=0) / self.rate)
        return torch.where(x < 0, -torch.inf, density)

    def cdf(self, y: Numbers) -> Tensor:
        """P(Y <= y), accurate where it is small."""
        return -torch.expm1(self._log_survival(y))

    def survival(self, y: Numbers) -> Tensor:
        """P(Y > y), accurate where it is small."""
        return self._log_survival(y).exp()

    def quantile(self, q: Numbers) -> Tensor:
        """The y with P(Y <= y) = q."""
        below = arguments.fraction("Lomax.quantile", "q", q)
        return self.rate * torch.expm1(-torch.log1p(-below) / self.shape)

    def interval(self, level: float = 0.95) -> tuple[Tensor, Tensor]:
        """The central interval: (1 - level) / 2 is left out on either side."""
        tail = arguments.tail("Lomax.interval", level)
        return self.quantile(tail), self.rate * torch.expm1(-tail.log() / self.shape)

    def sample(self, n: int, *, seed: int) -> Tensor:
        """(n, ...) draws."""
        size = (arguments.count("Lomax", n), *self.rate.shape)
        uniform = torch.as_tensor(generator("Lomax", seed).random(size)).to(self.rate)
        return self.rate * torch.expm1(-torch.log1p(-uniform) / self.shape)

    def _log_survival(self, y: Numbers) -> Tensor:
        return -self.shape * torch.log1p(arguments.numbers("Lomax", "y", y).clamp(min=0) / self.rate)
