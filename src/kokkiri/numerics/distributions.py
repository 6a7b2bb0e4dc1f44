"""Families of distributions as named tuples of tensors that broadcast together; every method is elementwise.

`log_prob` is differentiable, works under torch.func, keeps the dtype of the parameters, and gives no NaN for parameters
inside the limits below. `cdf`, `survival` and `sample` are for float64 parameters and need no gradient.
"""

# ruff: file-ignore[undocumented-public-method]

from __future__ import annotations

import math
from typing import NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor

from kokkiri.numerics import special

LOG_SCALE_LIMIT = 20.0  # |log| of scales: in float32, squares of gradients past e^±20 overflow or vanish
LOG_RATE_LOWEST, LOG_RATE_HIGHEST = -80.0, 30.0  # e^-80 is a normal float32; 1e13 events are more than any table counts
LOG_EXCESS_LOWEST = -10.0  # log(df - 1): below it 1 + e^x is 1 in float32, and a t with df = 1 has no mean
MOST_EVENTS = 9e18  # numpy's largest Poisson rate


class Normal(NamedTuple):
    """N(location, exp(log_scale)²)."""

    location: Tensor
    log_scale: Tensor

    discrete = False

    @property
    def mean(self) -> Tensor:
        return self.location.expand(_shape(self))

    @property
    def scale(self) -> Tensor:
        return self.log_scale.exp()

    @property
    def variance(self) -> Tensor:
        return (2 * self.log_scale).exp().expand(_shape(self))

    def log_prob(self, y: Tensor) -> Tensor:
        z = (y.to(self.location.dtype) - self.location) * torch.exp(-self.log_scale)
        return -0.5 * z * z - (self.log_scale + special.HALF_LOG_2PI)

    def cdf(self, y: Tensor) -> Tensor:
        return special.normal_cdf((y - self.location) / self.scale)

    def survival(self, y: Tensor) -> Tensor:
        return special.normal_cdf((self.location - y) / self.scale)

    def sample(self, rng: np.random.Generator) -> Tensor:
        return self.location + self.scale * _draw(self.location, rng.standard_normal(_shape(self)))


class Laplace(NamedTuple):
    """exp(-|y - location| / b) / 2b with b = exp(log_scale)."""

    location: Tensor
    log_scale: Tensor

    discrete = False

    @property
    def mean(self) -> Tensor:
        return self.location.expand(_shape(self))

    @property
    def scale(self) -> Tensor:
        return self.log_scale.exp()

    @property
    def variance(self) -> Tensor:
        return 2 * (2 * self.log_scale).exp().expand(_shape(self))

    def log_prob(self, y: Tensor) -> Tensor:
        distance = (y.to(self.location.dtype) - self.location).abs()
        return -distance * torch.exp(-self.log_scale) - (self.log_scale + math.log(2))

    def cdf(self, y: Tensor) -> Tensor:
        return self._below((y - self.location) / self.scale)

    def survival(self, y: Tensor) -> Tensor:
        return self._below((self.location - y) / self.scale)

    def _below(self, z: Tensor) -> Tensor:
        tail = 0.5 * torch.exp(-z.abs())
        return torch.where(z < 0, tail, 1 - tail)

    def sample(self, rng: np.random.Generator) -> Tensor:
        return self.location + self.scale * _draw(self.location, rng.laplace(size=_shape(self)))


class StudentT(NamedTuple):
    """Student's t with df = 1 + exp(log_excess) degrees of freedom, shifted and scaled; variance ∞ where df <= 2."""

    location: Tensor
    log_scale: Tensor
    log_excess: Tensor

    discrete = False

    @property
    def mean(self) -> Tensor:
        return self.location.expand(_shape(self))

    @property
    def scale(self) -> Tensor:
        return self.log_scale.exp()

    @property
    def df(self) -> Tensor:
        return 1 + self.log_excess.exp()

    @property
    def variance(self) -> Tensor:
        excess = self.log_excess.exp()
        ratio = torch.where(excess > 1, (1 + excess) / (excess - 1), math.inf)
        return ((2 * self.log_scale).exp() * ratio).expand(_shape(self))

    def log_prob(self, y: Tensor) -> Tensor:
        z = (y.to(self.location.dtype) - self.location) * torch.exp(-self.log_scale)
        a = self.df / 2
        return (
            special.log_half_step(a) - special.HALF_LOG_2PI - self.log_scale - (a + 0.5) * torch.log1p(z * z / (2 * a))
        )

    def slopes(self, y: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Log p(y) and its derivatives in location, log scale and log excess.

        With z = (y - f) / σ and w = (ν+1) / (ν+z²): d/df = w z / σ, d/d log σ = w z² - 1, and d/dν =
        ½ [ψ((ν+1)/2) - ψ(ν/2) - 1/ν - log(1 + z²/ν) + w z²/ν].
        """
        inverse, df = torch.exp(-self.log_scale), self.df
        z = (y.to(self.location.dtype) - self.location) * inverse
        square = z * z
        pull, spread = (df + 1) / (df + square), torch.log1p(square / df)
        a = df.double() / 2  # the difference of digammas has few digits left in float32
        start = (special.log_half_step(a) - special.HALF_LOG_2PI).to(z.dtype) - self.log_scale
        step = (torch.digamma(a + 0.5) - torch.digamma(a) - 0.5 / a).to(z.dtype)
        excess = 0.5 * (df - 1) * (step - spread + pull * square / df)
        return start - (df + 1) / 2 * spread, pull * z * inverse, pull * square - 1, excess

    def cdf(self, y: Tensor) -> Tensor:
        return special.student_t_cdf((y - self.location) / self.scale, self.df)

    def survival(self, y: Tensor) -> Tensor:
        return special.student_t_cdf((self.location - y) / self.scale, self.df)

    def sample(self, rng: np.random.Generator) -> Tensor:
        df = self.df.detach().expand(_shape(self)).cpu().numpy()
        return self.location + self.scale * _draw(self.location, rng.standard_t(df))


class Poisson(NamedTuple):
    """Counts with mean and variance exp(log_rate)."""

    log_rate: Tensor

    discrete = True

    @property
    def mean(self) -> Tensor:
        return self.log_rate.exp()

    @property
    def variance(self) -> Tensor:
        return self.log_rate.exp()

    def log_prob(self, y: Tensor) -> Tensor:
        """Minus the deviance from the saturated model, y(e^t - 1 - t) with t = log rate - log y, and log p of that."""
        y = y.to(self.log_rate.dtype)
        some, t = _above_zero(y, self.log_rate)
        deviance = torch.where(y > 0, some * (torch.expm1(t) - t), self.log_rate.exp())
        return _saturated(y, some) - deviance

    def cdf(self, y: Tensor) -> Tensor:
        return special.poisson_cdf(y, self.mean)

    def survival(self, y: Tensor) -> Tensor:
        return special.poisson_survival(y, self.mean)

    def sample(self, rng: np.random.Generator) -> Tensor:
        return _draw(self.log_rate, rng.poisson(self.mean.detach().cpu().numpy()))


class NegativeBinomial(NamedTuple):
    """Counts with mean μ = exp(log_mean) and variance μ + μ² exp(log_dispersion): a Poisson with a Gamma rate."""

    log_mean: Tensor
    log_dispersion: Tensor

    discrete = True

    @property
    def mean(self) -> Tensor:
        return self.log_mean.exp().expand(_shape(self))

    @property
    def variance(self) -> Tensor:
        return self.mean + (2 * self.log_mean + self.log_dispersion).exp()

    @property
    def size(self) -> Tensor:
        """The Gamma's shape, r = 1 / dispersion."""
        return (-self.log_dispersion).exp()

    def log_prob(self, y: Tensor) -> Tensor:
        """(y+r) log[(y+r)/(μ+r)] - y log(y/μ), the saturated Poisson's log p, and Stirling's rest of Γ(y+r) / Γ(r)."""
        y = y.to(self.log_mean.dtype)
        mean, size = self.log_mean.exp(), self.size
        some, t = _above_zero(y, self.log_mean)
        beyond = torch.where(y > 0, -some * torch.expm1(t), -mean)  # y - μ without cancellation
        log_rest = (y + size) * special.log_ratio(y + size, mean + size, beyond)
        up, down = special.stirling_error(torch.stack(torch.broadcast_tensors(y + size, size)))
        gammas = up - down - 0.5 * torch.log1p(y / size)
        return log_rest + torch.where(y > 0, some * t, 0.0) + gammas + _saturated(y, some)

    def cdf(self, y: Tensor) -> Tensor:
        return special.negative_binomial_cdf(y, self.mean, self.size)

    def survival(self, y: Tensor) -> Tensor:
        return special.negative_binomial_survival(y, self.mean, self.size)

    def sample(self, rng: np.random.Generator) -> Tensor:
        size = self.size.detach().expand(_shape(self)).cpu().numpy()
        rate = rng.gamma(size) * (self.mean.detach().cpu().numpy() / size)
        return _draw(self.log_mean, rng.poisson(np.minimum(rate, MOST_EVENTS)))


Continuous: TypeAlias = Normal | Laplace | StudentT
Counts: TypeAlias = Poisson | NegativeBinomial
Distribution: TypeAlias = Continuous | Counts


def _shape(tensors: tuple[Tensor, ...]) -> torch.Size:
    return torch.broadcast_shapes(*(t.shape for t in tensors))


def _draw(like: Tensor, values: np.ndarray | float) -> Tensor:
    return torch.as_tensor(values).to(like.device, like.dtype)


def _above_zero(y: Tensor, log_rate: Tensor) -> tuple[Tensor, Tensor]:
    """Counts with zeros made ones, and log rate - log of that: finite in both branches of a `where`."""
    some = torch.where(y > 0, y, 1.0)
    return some, log_rate - some.log()


def _saturated(y: Tensor, some: Tensor) -> Tensor:
    """The log probability of y when the rate is y: -½ log 2πy - Stirling's error; 0 for y = 0."""
    return torch.where(y > 0, -0.5 * some.log() - special.HALF_LOG_2PI - special.stirling_error(some), 0.0)
