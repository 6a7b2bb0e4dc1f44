"""Counts: a Poisson whose rate is not known, each row looked at for some exposure."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from kokkiri.exact.conjugate import history, pictures, rows, words
from kokkiri.exact.conjugate.history import NOTHING, History
from kokkiri.exact.distributions import Gamma, NegativeBinomial, arguments
from kokkiri.exact.distributions.arguments import Numbers
from kokkiri.numerics import divergences
from kokkiri.numerics.conjugate import gamma_poisson_log_evidence

IMPROPER = "a Gamma with a 0 is no distribution; GammaPoisson(1, 0.1) is worth one event in 0.1 units of exposure"


@dataclass(frozen=True, eq=False, repr=False, init=False)
class GammaPoisson:
    """y ~ Poisson(exposure λ), λ ~ Gamma(shape, rate): rows that are counts 0, 1, 2, …

    shape, rate: (...), > 0; the prior is worth `shape` events in `rate` units of exposure. After t events in E units it
    is Gamma(shape + t, rate + E) (Gelman et al. 2013, eq. 2.15). exposure: how long, or how much, a row was looked at;
    1 where none is given.

    >>> post = GammaPoisson(1, 1).update([3, 5, 4], exposure=[1.0, 2.0, 1.0])
    >>> print(post)
    GammaPoisson(shape=13, rate=5)
             mean     sd  2.5 %  97.5 %   mode
    rate    2.600  0.721  1.384   4.192  2.400
    next y   2.60   1.77      0       7
    3 rows learnt since GammaPoisson(shape=1, rate=1): log evidence -7.23 nats;
    1.53 nats of information gained
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

    def update(self, y: Numbers, exposure: Numbers | None = None, weight: Numbers | None = None) -> GammaPoisson:
        """After counts y (..., N); exposure (..., N) > 0; weight (..., N): how often each row counts."""
        seen = self._rows(y, exposure, weight)
        total, units = (seen.weight * seen.y).sum(-1), (seen.weight * seen.exposure).sum(-1)
        past = history.after(self, seen.weight.sum(-1), self._log_evidence(seen))
        return GammaPoisson(self.shape + total, self.rate + units, past)

    def update_statistics(self, events: Numbers, exposure: Numbers) -> GammaPoisson:
        """After so many events in so much exposure, (...) each: one row, a count of its own."""
        t, units = rows.total("GammaPoisson", self.shape.shape, events=events, exposure=exposure)
        return self.update(t.unsqueeze(-1), units.unsqueeze(-1))

    def downdate(self, y: Numbers, exposure: Numbers | None = None, weight: Numbers | None = None) -> GammaPoisson:
        """As if these rows had never been learnt. Raises DataError where they cannot have been."""
        seen, first = self._rows(y, exposure, weight), self.history.prior
        total, units = (seen.weight * seen.y).sum(-1), (seen.weight * seen.exposure).sum(-1)
        less = GammaPoisson(
            history.left(self, self.shape, total, first and first.shape),
            history.left(self, self.rate, units, first and first.rate),
        )
        past = history.before(self, seen.weight.sum(-1), less._log_evidence(seen))
        return GammaPoisson(less.shape, less.rate, past)

    def log_evidence(self, y: Numbers, exposure: Numbers | None = None, weight: Numbers | None = None) -> Tensor:
        """Log p(these counts), (...) nats."""
        return self._log_evidence(self._rows(y, exposure, weight))

    def predictive(self, exposure: Numbers = 1.0) -> NegativeBinomial:
        """The count of the next row; exposure=n: of the next n rows together."""
        return NegativeBinomial(self.shape, self.rate, exposure)

    def maximum_likelihood(self, y: Numbers, exposure: Numbers | None = None, weight: Numbers | None = None) -> Tensor:
        """Events a unit of exposure, (...); NaN without rows."""
        seen = self._rows(y, exposure, weight)
        return (seen.weight * seen.y).sum(-1) / (seen.weight * seen.exposure).sum(-1)

    def log_prob(self, rate: Numbers) -> Tensor:
        """The log density of the parameter, nats."""
        return self._rate.log_prob(rate)

    def draw(self, n: int, *, seed: int) -> Tensor:
        """Rates, (n, ...)."""
        return self._rate.sample(n, seed=seed)

    def interval(self, level: float = 0.95) -> tuple[Tensor, Tensor]:
        """The central interval of the rate."""
        return self._rate.interval(level)

    def divergence(self, other: GammaPoisson) -> Tensor:
        """KL(self ‖ other), (...) nats; from its own prior it is what the rows taught."""
        return divergences.gamma(self.shape, self.rate, other.shape, other.rate)

    def picture(self, *stages: GammaPoisson) -> str:
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

    def _rows(self, y: Numbers, exposure: Numbers | None, weight: Numbers | None) -> rows.Exposed:
        return rows.exposed("GammaPoisson", self.batch, y, exposure, weight)

    def _log_evidence(self, seen: rows.Exposed) -> Tensor:
        return gamma_poisson_log_evidence(self.shape, self.rate, seen.y, seen.exposure, seen.weight)
