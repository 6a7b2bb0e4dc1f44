"""Waiting times: an exponential whose rate is not known."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from kokkiri.exact.conjugate import history, pictures, rows, words
from kokkiri.exact.conjugate.history import NOTHING, History
from kokkiri.exact.distributions import Gamma, Lomax, arguments
from kokkiri.exact.distributions.arguments import Numbers
from kokkiri.numerics import divergences
from kokkiri.numerics.gammas import log_gamma_update

IMPROPER = "a Gamma with a 0 is no distribution; GammaExponential(1, 10) is worth one event in a time of 10"


@dataclass(frozen=True, eq=False, repr=False, init=False)
class GammaExponential:
    """y ~ Exponential(λ), λ ~ Gamma(shape, rate): rows that are times >= 0 until something happens.

    shape, rate: (...), > 0; the prior is worth `shape` events in a time of `rate`. After n events in a time of T it is
    Gamma(shape + n, rate + T) (Gelman et al. 2013, section 2.6). Where some rows were only looked at until a time, with
    no event yet, `update_statistics(events, time)` takes the time of all and the events that there were.

    >>> post = GammaExponential(2, 10).update([3.0, 8.0, 1.0])
    >>> print(post)
    GammaExponential(shape=5, rate=22)
             mean     sd  2.5 %  97.5 %   mode
    rate    0.227  0.102  0.074   0.466  0.182
    next y   5.50   7.10   0.11   24.01
    3 rows learnt since GammaExponential(shape=2, rate=10): log evidence -7.67
    nats; 0.190 nats of information gained
    """

    shape: Tensor
    rate: Tensor
    history: History

    def __init__(self, shape: Numbers, rate: Numbers, history: History = NOTHING) -> None:
        arguments.settle(self, positive={"shape": shape, "rate": rate}, fix=IMPROPER)
        arguments.put(self, history=history)

    def __repr__(self) -> str:
        return arguments.shown(self, ("shape", "rate"))

    def __str__(self) -> str:
        return words.table(self, ("next y", self.predictive()))

    def update(self, y: Numbers, weight: Numbers | None = None) -> GammaExponential:
        """After times y (..., N) >= 0; weight (..., N): how often each counts."""
        return self.update_statistics(*self._totals(y, weight))

    def update_statistics(self, events: Numbers, time: Numbers) -> GammaExponential:
        """After so many events in so much time, (...) each."""
        n, t = rows.total("GammaExponential", self.shape.shape, events=events, time=time)
        past = history.after(self, n, log_gamma_update(self.shape, self.rate, n, t))
        return GammaExponential(self.shape + n, self.rate + t, past)

    def downdate(self, y: Numbers, weight: Numbers | None = None) -> GammaExponential:
        """As if these rows had never been learnt. Raises DataError where they cannot have been."""
        (n, t), first = self._totals(y, weight), self.history.prior
        shape = history.left(self, self.shape, n, first and first.shape)
        rate = history.left(self, self.rate, t, first and first.rate)
        less = GammaExponential(shape, rate)
        past = history.before(self, n, log_gamma_update(less.shape, less.rate, n, t))
        return GammaExponential(shape, rate, past)

    def log_evidence(self, y: Numbers, weight: Numbers | None = None) -> Tensor:
        """The log density of these times together, (...) nats."""
        return log_gamma_update(self.shape, self.rate, *self._totals(y, weight))

    def predictive(self) -> Lomax:
        """The next time."""
        return Lomax(self.shape, self.rate)

    def maximum_likelihood(self, y: Numbers, weight: Numbers | None = None) -> Tensor:
        """Events a unit of time, (...); NaN without rows, ∞ where all times are 0."""
        n, t = self._totals(y, weight)
        return n / t

    def log_prob(self, rate: Numbers) -> Tensor:
        """The log density of the parameter, nats."""
        return self._rate.log_prob(rate)

    def draw(self, n: int, *, seed: int) -> Tensor:
        """Rates, (n, ...)."""
        return self._rate.sample(n, seed=seed)

    def interval(self, level: float = 0.95) -> tuple[Tensor, Tensor]:
        """The central interval of the rate."""
        return self._rate.interval(level)

    def divergence(self, other: GammaExponential) -> Tensor:
        """KL(self ‖ other), (...) nats; from its own prior it is what the rows taught."""
        return divergences.gamma(self.shape, self.rate, other.shape, other.rate)

    def picture(self, *stages: GammaExponential) -> str:
        """The density of the rate, beside that of its prior or of the stages before it: SVG text."""
        return pictures.draw("rate", self, stages)

    @property
    def batch(self) -> torch.Size:
        """The axes of families side by side."""
        return self.shape.shape

    @property
    def marginals(self) -> dict[str, Gamma]:
        """What is believed of the rate, by name."""
        return {"rate": self._rate}

    @property
    def mean(self) -> Tensor:
        """E[λ] = shape / rate."""
        return self._rate.mean

    @property
    def variance(self) -> Tensor:
        """var(λ)."""
        return self._rate.variance

    @property
    def mode(self) -> Tensor:
        """The maximum a posteriori, (shape - 1) / rate; NaN where there is none (see `why_no_mode`)."""
        return self._rate.mode

    @property
    def why_no_mode(self) -> str:
        """In words, where there is none."""
        flat = torch.zeros_like(self.shape, dtype=torch.bool)
        return words.no_mode(self.mode, flat, "the density grows without bound towards 0, where shape < 1")

    @property
    def _rate(self) -> Gamma:
        return Gamma(self.shape, self.rate)

    def _totals(self, y: Numbers, weight: Numbers | None) -> tuple[Tensor, Tensor]:
        seen = rows.values("GammaExponential", self.batch, y, weight, rows.POSITIVE)
        return seen.weight.sum(-1), (seen.weight * seen.y).sum(-1)
