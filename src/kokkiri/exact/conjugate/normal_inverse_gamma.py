"""Values whose mean and variance are both unknown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

import torch
from torch import Tensor

from kokkiri.exact.conjugate import history, pictures, rows, words
from kokkiri.exact.conjugate.history import NOTHING, History
from kokkiri.exact.distributions import InverseGamma, Normal, StudentT, arguments
from kokkiri.exact.distributions.arguments import Numbers
from kokkiri.exact.distributions.drawing import normal_draws
from kokkiri.numerics import divergences
from kokkiri.numerics.conjugate import Moments, moments, normal_inverse_gamma_log_evidence, shift, without_mean

T = TypeVar("T")
IMPROPER = "NormalInverseGamma(mean=0, strength=0.01, shape=1, rate=1) says little, in units where values are about 1"


class MeanAndVariance(NamedTuple, Generic[T]):
    """One thing of each parameter."""

    mean: T
    variance: T


@dataclass(frozen=True, eq=False, repr=False, init=False)
class NormalInverseGamma:
    """y ~ N(μ, σ²), μ ~ N(location, σ² / strength), σ² ~ InverseGamma(shape, rate): rows that are numbers.

    location, strength, shape, rate: (...). The prior is worth `strength` rows in what it says of the mean, and
    2 `shape` rows with a mean square of rate / shape in what it says of the variance. Marginals and the next row are
    Student t with 2 `shape` degrees of freedom (Gelman et al. 2013, section 3.3).

    >>> post = NormalInverseGamma(location=10, strength=1, shape=1, rate=1).update([9.0, 11.0, 13.0])
    >>> print(post)
    NormalInverseGamma(location=10.75, strength=4, shape=2.5, rate=5.375)
                mean     sd  2.5 %  97.5 %    mode
    mean      10.750  0.946  8.865  12.635  10.750
    variance    3.58   5.07   0.84   12.93    1.34
    next y     10.75   2.12   6.54   14.96
    3 rows learnt since NormalInverseGamma(location=10, strength=1, shape=1,
    rate=1): log evidence -7.37 nats; 0.866 nats of information gained
    """

    location: Tensor
    strength: Tensor
    shape: Tensor
    rate: Tensor
    history: History

    def __init__(
        self, location: Numbers, strength: Numbers, shape: Numbers, rate: Numbers, history: History = NOTHING
    ) -> None:
        positive = {"strength": strength, "shape": shape, "rate": rate}
        arguments.settle(self, positive=positive, real={"location": location}, fix=IMPROPER)
        arguments.put(self, history=history)

    def __repr__(self) -> str:
        return arguments.shown(self, ("location", "strength", "shape", "rate"))

    def __str__(self) -> str:
        return words.table(self, ("next y", self.predictive()))

    def update(self, y: Numbers, weight: Numbers | None = None) -> NormalInverseGamma:
        """After rows y (..., N); weight (..., N): how often each counts."""
        return self._learn(self._moments(y, weight))

    def update_statistics(self, n: Numbers, mean: Numbers, scatter: Numbers) -> NormalInverseGamma:
        """After n rows with this mean and scatter Σ (y - mean)², (...) each."""
        return self._learn(rows.summary("NormalInverseGamma", self.batch, n, mean, scatter))

    def downdate(self, y: Numbers, weight: Numbers | None = None) -> NormalInverseGamma:
        """As if these rows had never been learnt. Raises DataError where they cannot have been."""
        seen, first = self._moments(y, weight), self.history.prior
        strength = history.left(self, self.strength, seen.n, first and first.strength)
        location = without_mean(self.location, strength, seen)
        shape = history.left(self, self.shape, seen.n / 2, first and first.shape)
        gone = 0.5 * (seen.scatter + shift(strength, seen.n) * (seen.mean - location).square())
        rate = history.left(self, self.rate, gone, first and first.rate)
        less = NormalInverseGamma(location, strength, shape, rate)
        past = history.before(self, seen.n, less._log_evidence(seen))
        return NormalInverseGamma(location, strength, shape, rate, past)

    def log_evidence(self, y: Numbers, weight: Numbers | None = None) -> Tensor:
        """The log density of these rows together, (...) nats."""
        return self._log_evidence(self._moments(y, weight))

    def predictive(self) -> StudentT:
        """The next row."""
        scale = (self.rate / self.shape * (1 + 1 / self.strength)).sqrt()
        return StudentT(self.location, scale, 2 * self.shape, 1 / (1 + self.strength))

    def maximum_likelihood(self, y: Numbers, weight: Numbers | None = None) -> MeanAndVariance[Tensor]:
        """The rows' mean and scatter / n. NaN where there are no rows; the variance also where they are all the same.

        Then the likelihood grows without bound as the variance goes to 0: there is no maximum.
        """
        seen = self._moments(y, weight)
        variance = torch.where(seen.scatter > 0, seen.scatter / seen.n, torch.nan)
        return MeanAndVariance(torch.where(seen.n > 0, seen.mean, torch.nan), variance)

    def log_prob(self, mean: Numbers, variance: Numbers) -> Tensor:
        """The log density of both parameters, nats."""
        v = arguments.numbers("NormalInverseGamma", "variance", variance)
        safe = torch.where(v > 0, v, 1.0)
        both = Normal(self.location, safe / self.strength).log_prob(mean) + self._variance.log_prob(safe)
        return torch.where(v > 0, both, -torch.inf)

    def draw(self, n: int, *, seed: int) -> MeanAndVariance[Tensor]:
        """Means and variances that belong together, (n, ...) each."""
        variance = self._variance.sample(n, seed=seed)
        normal = normal_draws(tuple(self.batch), n, seed, "NormalInverseGamma").to(variance)
        return MeanAndVariance(self.location + (variance / self.strength).sqrt() * normal, variance)

    def interval(self, level: float = 0.95) -> MeanAndVariance[tuple[Tensor, Tensor]]:
        """The central interval of each parameter by itself."""
        return MeanAndVariance(self._mean.interval(level), self._variance.interval(level))

    def divergence(self, other: NormalInverseGamma) -> Tensor:
        """KL(self ‖ other), (...) nats; from its own prior it is what the rows taught."""
        of_noise = divergences.gamma(self.shape, self.rate, other.shape, other.rate)
        pull = other.strength * (self.shape / self.rate) * (self.location - other.location).square()
        return of_noise + 0.5 * pull + divergences.normal(self.location, other.strength, self.location, self.strength)

    def picture(self, *stages: NormalInverseGamma, parameter: str = "mean") -> str:
        """The density of the mean or of the variance, beside that of its prior or of the stages before it: SVG text."""
        return pictures.draw(parameter, self, stages)

    @property
    def batch(self) -> torch.Size:
        """The axes of families side by side."""
        return self.location.shape

    @property
    def marginals(self) -> dict[str, StudentT | InverseGamma]:
        """What is believed of each parameter by itself, by name."""
        return {"mean": self._mean, "variance": self._variance}

    @property
    def mean(self) -> MeanAndVariance[Tensor]:
        """E[μ], NaN where shape <= ½; E[σ²], ∞ where shape <= 1."""
        return MeanAndVariance(self._mean.mean, self._variance.mean)

    @property
    def variance(self) -> MeanAndVariance[Tensor]:
        """var(μ), ∞ where shape <= 1; var(σ²), ∞ where shape <= 2."""
        return MeanAndVariance(self._mean.variance, self._variance.variance)

    @property
    def mode(self) -> MeanAndVariance[Tensor]:
        """The maximum a posteriori of both together: location and rate / (shape + 3/2)."""
        return MeanAndVariance(self.location, self.rate / (self.shape + 1.5))

    @property
    def why_no_mode(self) -> str:
        """In words: there always is one."""
        return ""

    @property
    def _mean(self) -> StudentT:
        return StudentT(self.location, (self.rate / self.shape / self.strength).sqrt(), 2 * self.shape)

    @property
    def _variance(self) -> InverseGamma:
        return InverseGamma(self.shape, self.rate)

    def _learn(self, seen: Moments) -> NormalInverseGamma:
        strength = self.strength + seen.n
        away = seen.mean - self.location
        gained = 0.5 * (seen.scatter + shift(self.strength, seen.n) * away.square())
        past = history.after(self, seen.n, self._log_evidence(seen))
        return NormalInverseGamma(
            self.location + seen.n / strength * away, strength, self.shape + seen.n / 2, self.rate + gained, past
        )

    def _moments(self, y: Numbers, weight: Numbers | None) -> Moments:
        return moments(*rows.values("NormalInverseGamma", self.batch, y, weight, rows.FINITE))

    def _log_evidence(self, seen: Moments) -> Tensor:
        return normal_inverse_gamma_log_evidence(self.location, self.strength, self.shape, self.rate, seen)
