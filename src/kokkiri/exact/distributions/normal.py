"""Normal, and Student's t: what is believed of a mean, and of the next value."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from kokkiri.exact.distributions import arguments
from kokkiri.exact.distributions.arguments import Numbers
from kokkiri.exact.distributions.drawing import generator, normal_draws
from kokkiri.numerics.gammas import student_t_log_prob
from kokkiri.numerics.quantiles import student_t_quantile
from kokkiri.numerics.special import HALF_LOG_2PI, normal_cdf, student_t_cdf


@dataclass(frozen=True, eq=False, repr=False, init=False)
class Normal:
    """N(mean, variance), numbers or tensors that broadcast.

    ignorance: the share of the variance, from 0 to 1, that more rows would take away; the rest is noise in the world.

    >>> Normal(1.0, 4.0).sd.item(), round(Normal(0.0, 1.0).quantile(0.975).item(), 6)
    (2.0, 1.959964)
    """

    mean: Tensor
    variance: Tensor
    ignorance: Tensor

    def __init__(self, mean: Numbers, variance: Numbers, ignorance: Numbers = 0.0) -> None:
        arguments.settle(self, positive={"variance": variance}, real={"mean": mean, "ignorance": ignorance})

    def __repr__(self) -> str:
        return arguments.shown(self, ("mean", "variance"))

    @property
    def sd(self) -> Tensor:
        """√variance."""
        return self.variance.sqrt()

    @property
    def mode(self) -> Tensor:
        """The mean."""
        return self.mean

    @property
    def epistemic(self) -> Tensor:
        """The variance that is ignorance of the parameters."""
        return self.variance * self.ignorance

    @property
    def aleatoric(self) -> Tensor:
        """The variance that is noise: it stays, however much is learnt."""
        return self.variance * (1 - self.ignorance)

    def log_prob(self, value: Numbers) -> Tensor:
        """The log density, nats."""
        z = (arguments.numbers("Normal", "value", value) - self.mean) / self.sd
        return -0.5 * z * z - 0.5 * self.variance.log() - HALF_LOG_2PI

    def cdf(self, value: Numbers) -> Tensor:
        """P(Y <= value), accurate where it is small."""
        return normal_cdf((arguments.numbers("Normal", "value", value) - self.mean) / self.sd)

    def survival(self, value: Numbers) -> Tensor:
        """P(Y > value), accurate where it is small."""
        return normal_cdf((self.mean - arguments.numbers("Normal", "value", value)) / self.sd)

    def quantile(self, q: Numbers) -> Tensor:
        """The value with P(Y <= value) = q."""
        return self.mean + self.sd * torch.special.ndtri(arguments.fraction("Normal.quantile", "q", q))

    def interval(self, level: float = 0.95) -> tuple[Tensor, Tensor]:
        """The central interval: (1 - level) / 2 is left out on either side."""
        reach = -self.sd * torch.special.ndtri(arguments.tail("Normal.interval", level))
        return self.mean - reach, self.mean + reach

    def sample(self, n: int, *, seed: int) -> Tensor:
        """(n, ...) draws."""
        return self.mean + self.sd * normal_draws(tuple(self.mean.shape), n, seed, "Normal").to(self.mean)


@dataclass(frozen=True, eq=False, repr=False, init=False)
class StudentT:
    """Student's t with df > 0 degrees of freedom, shifted by `location` and stretched by `scale` > 0.

    A normal whose variance is not known but ~ InverseGamma(df / 2, df scale² / 2). The mean is NaN where df <= 1 (there
    is none), the variance ∞ where df <= 2. ignorance: the share of the variance that more rows would take away, beyond
    that of not knowing the noise.

    >>> t = StudentT(0.0, 1.0, 4.0)
    >>> t.variance.item(), round(t.quantile(0.975).item(), 6)
    (2.0, 2.776445)
    """

    location: Tensor
    scale: Tensor
    df: Tensor
    ignorance: Tensor

    def __init__(self, location: Numbers, scale: Numbers, df: Numbers, ignorance: Numbers = 0.0) -> None:
        arguments.settle(self, positive={"scale": scale, "df": df}, real={"location": location, "ignorance": ignorance})

    def __repr__(self) -> str:
        return arguments.shown(self, ("location", "scale", "df"))

    @property
    def mean(self) -> Tensor:
        """The location; NaN where df <= 1."""
        return torch.where(self.df > 1, self.location, torch.nan)

    @property
    def variance(self) -> Tensor:
        """scale² df / (df - 2); ∞ where df <= 2, NaN where there is no mean."""
        found = torch.where(self.df > 2, self.scale.square() * (self.df / (self.df - 2)), torch.inf)
        return torch.where(self.df > 1, found, torch.nan)

    @property
    def sd(self) -> Tensor:
        """√variance."""
        return self.variance.sqrt()

    @property
    def mode(self) -> Tensor:
        """The location."""
        return self.location

    @property
    def epistemic(self) -> Tensor:
        """The variance of the mean that is not known."""
        return torch.where(self.ignorance > 0, self.variance * self.ignorance, 0.0)

    @property
    def aleatoric(self) -> Tensor:
        """The expected variance of the noise."""
        return torch.where(self.ignorance < 1, self.variance * (1 - self.ignorance), 0.0)

    def log_prob(self, value: Numbers) -> Tensor:
        """The log density, nats."""
        z = (arguments.numbers("StudentT", "value", value) - self.location) / self.scale
        return student_t_log_prob(z, self.df) - self.scale.log()

    def cdf(self, value: Numbers) -> Tensor:
        """P(Y <= value), accurate where it is small."""
        z = (arguments.numbers("StudentT", "value", value) - self.location) / self.scale
        return student_t_cdf(*torch.broadcast_tensors(z, self.df))

    def survival(self, value: Numbers) -> Tensor:
        """P(Y > value), accurate where it is small."""
        z = (self.location - arguments.numbers("StudentT", "value", value)) / self.scale
        return student_t_cdf(*torch.broadcast_tensors(z, self.df))

    def quantile(self, q: Numbers) -> Tensor:
        """The value with P(Y <= value) = q."""
        return self.location + self.scale * student_t_quantile(arguments.fraction("StudentT.quantile", "q", q), self.df)

    def interval(self, level: float = 0.95) -> tuple[Tensor, Tensor]:
        """The central interval: (1 - level) / 2 is left out on either side."""
        tail = arguments.tail("StudentT.interval", level)
        reach = -self.scale * student_t_quantile(tail, self.df, 1 - tail)
        return self.location - reach, self.location + reach

    def sample(self, n: int, *, seed: int) -> Tensor:
        """(n, ...) draws."""
        size = (arguments.count("StudentT", n), *self.df.shape)
        t = torch.from_numpy(np.asarray(generator("StudentT", seed).standard_t(self.df.cpu().numpy(), size)))
        return self.location + self.scale * t.to(self.location)
