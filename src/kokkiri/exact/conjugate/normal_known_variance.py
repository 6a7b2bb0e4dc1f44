"""Values around a mean that is not known, with a variance that is."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from kokkiri.exact.conjugate import history, pictures, rows, words
from kokkiri.exact.conjugate.history import NOTHING, History
from kokkiri.exact.distributions import Normal, arguments
from kokkiri.exact.distributions.arguments import Numbers
from kokkiri.numerics import divergences
from kokkiri.numerics.conjugate import Moments, NormalBelief, known_variance_log_evidence, learn_mean, moments

IMPROPER = "a variance is > 0 and finite: 1e6 for a mean of which nothing is known in these units"


@dataclass(frozen=True, eq=False, repr=False, init=False)
class NormalKnownVariance:
    """y ~ N(μ, noise), μ ~ N(mean, variance): rows that are numbers, measured with an error of known variance `noise`.

    mean, variance, noise: (...). The precisions add up: after n rows 1 / variance' = 1 / variance + n / noise, and the
    new mean is the average of the old one and the rows', weighted with them (Bishop 2006, eq. 2.141 and 2.142).

    >>> post = NormalKnownVariance(mean=0, variance=100, noise=4).update([9.0, 11.0, 13.0])
    >>> print(post)
    NormalKnownVariance(mean=10.8553, variance=1.31579, noise=4)
             mean    sd  2.5 %  97.5 %   mode
    mean    10.86  1.15   8.61   13.10  10.86
    next y  10.86  2.31   6.34   15.37
    3 rows learnt since NormalKnownVariance(mean=0, variance=100, noise=4): log
    evidence -8.60 nats; 2.26 nats of information gained
    """

    mean: Tensor
    variance: Tensor
    noise: Tensor
    history: History

    def __init__(self, mean: Numbers, variance: Numbers, noise: Numbers, history: History = NOTHING) -> None:
        arguments.settle(self, positive={"variance": variance, "noise": noise}, real={"mean": mean}, fix=IMPROPER)
        arguments.put(self, history=history)

    def __repr__(self) -> str:
        return arguments.shown(self, ("mean", "variance", "noise"))

    def __str__(self) -> str:
        return words.table(self, ("next y", self.predictive()))

    def update(self, y: Numbers, weight: Numbers | None = None) -> NormalKnownVariance:
        """After rows y (..., N); weight (..., N): how often each counts."""
        return self._learn(self._moments(y, weight))

    def update_statistics(self, n: Numbers, mean: Numbers, scatter: Numbers = 0.0) -> NormalKnownVariance:
        """After n rows with this mean and scatter Σ (y - mean)², (...) each; the posterior needs no scatter."""
        return self._learn(rows.summary("NormalKnownVariance", self.batch, n, mean, scatter))

    def downdate(self, y: Numbers, weight: Numbers | None = None) -> NormalKnownVariance:
        """As if these rows had never been learnt. Raises DataError where they cannot have been."""
        seen, first = self._moments(y, weight), self.history.prior
        precision = history.left(self, 1 / self.variance, seen.n / self.noise, first and 1 / first.variance)
        mean = self.mean + seen.n / self.noise / precision * (self.mean - seen.mean)
        less = NormalKnownVariance(mean, 1 / precision, self.noise)
        return NormalKnownVariance(
            less.mean, less.variance, self.noise, history.before(self, seen.n, less._log_evidence(seen))
        )

    def log_evidence(self, y: Numbers, weight: Numbers | None = None) -> Tensor:
        """The log density of these rows together, (...) nats."""
        return self._log_evidence(self._moments(y, weight))

    def predictive(self) -> Normal:
        """The next row: N(mean, variance + noise)."""
        both = self.variance + self.noise
        return Normal(self.mean, both, self.variance / both)

    def maximum_likelihood(self, y: Numbers, weight: Numbers | None = None) -> Tensor:
        """The mean of the rows, (...); NaN without rows."""
        seen = self._moments(y, weight)
        return torch.where(seen.n > 0, seen.mean, torch.nan)

    def log_prob(self, mean: Numbers) -> Tensor:
        """The log density of the parameter, nats."""
        return self._mean.log_prob(mean)

    def draw(self, n: int, *, seed: int) -> Tensor:
        """Means, (n, ...)."""
        return self._mean.sample(n, seed=seed)

    def interval(self, level: float = 0.95) -> tuple[Tensor, Tensor]:
        """The central interval of the mean."""
        return self._mean.interval(level)

    def divergence(self, other: NormalKnownVariance) -> Tensor:
        """KL(self ‖ other), (...) nats; from its own prior it is what the rows taught."""
        return divergences.normal(self.mean, self.variance, other.mean, other.variance)

    def picture(self, *stages: NormalKnownVariance) -> str:
        """The density of the mean, beside that of its prior or of the stages before it: SVG text."""
        return pictures.draw("mean", self, stages)

    @property
    def batch(self) -> torch.Size:
        """The axes of families side by side."""
        return self.mean.shape

    @property
    def marginals(self) -> dict[str, Normal]:
        """What is believed of the mean, by name."""
        return {"mean": self._mean}

    @property
    def mode(self) -> Tensor:
        """The maximum a posteriori: the mean."""
        return self.mean

    @property
    def why_no_mode(self) -> str:
        """In words: there always is one."""
        return ""

    @property
    def _mean(self) -> Normal:
        return Normal(self.mean, self.variance)

    def _learn(self, seen: Moments) -> NormalKnownVariance:
        found = learn_mean(NormalBelief(self.mean, self.variance), self.noise, seen)
        past = history.after(self, seen.n, self._log_evidence(seen))
        return NormalKnownVariance(found.mean, found.variance, self.noise, past)

    def _moments(self, y: Numbers, weight: Numbers | None) -> Moments:
        return moments(*rows.values("NormalKnownVariance", self.batch, y, weight, rows.FINITE))

    def _log_evidence(self, seen: Moments) -> Tensor:
        return known_variance_log_evidence(NormalBelief(self.mean, self.variance), self.noise, seen)
