"""Yes or no: a Bernoulli whose probability is not known."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from kokkiri.exact.conjugate import history, pictures, rows, words
from kokkiri.exact.conjugate.history import NOTHING, History
from kokkiri.exact.distributions import Beta, BetaBinomial, arguments
from kokkiri.exact.distributions.arguments import Numbers
from kokkiri.numerics import divergences
from kokkiri.numerics.gammas import dirichlet_log_evidence

BINARY = rows.Support(lambda y: (y == 0) | (y == 1), "0 or 1, False or True", "DirichletCategorical takes more classes")
IMPROPER = "Beta(0, 0) is no distribution; BetaBernoulli(1, 1) is uniform, BetaBernoulli(0.5, 0.5) is Jeffreys' prior"


@dataclass(frozen=True, eq=False, repr=False, init=False)
class BetaBernoulli:
    """y ~ Bernoulli(p), p ~ Beta(a, b): rows that are 0 or 1.

    a, b: (...), > 0; the prior is worth a + b rows, of which a were ones. After s ones and f zeros it is
    Beta(a + s, b + f) (Bishop 2006, eq. 2.18), so rows may come in any batches and any order.

    >>> post = BetaBernoulli(1, 1).update([1, 0, 1, 1]).update([0, 1])
    >>> post, round(post.history.log_evidence.exp().item(), 6)
    (BetaBernoulli(a=5, b=3), 0.009524)
    >>> print(post)
    BetaBernoulli(a=5, b=3)
                  mean     sd  2.5 %  97.5 %   mode
    probability  0.625  0.161  0.290   0.901  0.667
    next y       0.625  0.484      0       1
    6 rows learnt since BetaBernoulli(a=1, b=1): log evidence -4.65 nats; 0.430
    nats of information gained
    """

    a: Tensor
    b: Tensor
    history: History

    def __init__(self, a: Numbers = 1.0, b: Numbers = 1.0, history: History = NOTHING) -> None:
        arguments.settle(self, positive={"a": a, "b": b}, fix=IMPROPER)
        arguments.put(self, history=history)

    def __repr__(self) -> str:
        return arguments.shown(self, ("a", "b"))

    def __str__(self) -> str:
        return words.table(self, ("next y", self.predictive()))

    def update(self, y: Numbers, weight: Numbers | None = None) -> BetaBernoulli:
        """After rows y (..., N), each 0 or 1; weight (..., N): how often each counts."""
        return self.update_statistics(*self._counts(y, weight))

    def update_statistics(self, successes: Numbers, failures: Numbers) -> BetaBernoulli:
        """After so many ones and zeros, (...) each."""
        s, f = rows.total("BetaBernoulli", self.a.shape, successes=successes, failures=failures)
        return BetaBernoulli(self.a + s, self.b + f, history.after(self, s + f, self._log_evidence(s, f)))

    def downdate(self, y: Numbers, weight: Numbers | None = None) -> BetaBernoulli:
        """As if these rows had never been learnt. Raises DataError where they cannot have been."""
        s, f = self._counts(y, weight)
        first = self.history.prior
        a = history.left(self, self.a, s, first and first.a)
        b = history.left(self, self.b, f, first and first.b)
        less = BetaBernoulli(a, b)
        return BetaBernoulli(a, b, history.before(self, s + f, less._log_evidence(s, f)))

    def log_evidence(self, y: Numbers, weight: Numbers | None = None) -> Tensor:
        """Log p(these rows, in this order), (...) nats: log B(a + s, b + f) / B(a, b)."""
        return self._log_evidence(*self._counts(y, weight))

    def predictive(self, trials: Numbers = 1) -> BetaBinomial:
        """The sum of the next rows, so many of them; of the next one by itself."""
        return BetaBinomial(trials, self.a, self.b)

    def maximum_likelihood(self, y: Numbers, weight: Numbers | None = None) -> Tensor:
        """The share of ones, (...); NaN without rows."""
        s, f = self._counts(y, weight)
        return s / (s + f)

    def log_prob(self, probability: Numbers) -> Tensor:
        """The log density of the parameter, nats."""
        return self._p.log_prob(probability)

    def draw(self, n: int, *, seed: int) -> Tensor:
        """Probabilities, (n, ...)."""
        return self._p.sample(n, seed=seed)

    def interval(self, level: float = 0.95) -> tuple[Tensor, Tensor]:
        """The central interval of the probability."""
        return self._p.interval(level)

    def divergence(self, other: BetaBernoulli) -> Tensor:
        """KL(self ‖ other), (...) nats; from its own prior it is what the rows taught."""
        mine, theirs = torch.stack([self.a, self.b], -1), torch.stack([other.a, other.b], -1)
        return divergences.dirichlet(*torch.broadcast_tensors(mine, theirs))

    def picture(self, *stages: BetaBernoulli) -> str:
        """The density of the probability, beside that of its prior or of the stages before it: SVG text."""
        return pictures.draw("probability", self, stages)

    @property
    def batch(self) -> torch.Size:
        """The axes of families side by side."""
        return self.a.shape

    @property
    def marginals(self) -> dict[str, Beta]:
        """What is believed of the probability, by name."""
        return {"probability": self._p}

    @property
    def mean(self) -> Tensor:
        """E[p] = a / (a + b)."""
        return self._p.mean

    @property
    def variance(self) -> Tensor:
        """var(p)."""
        return self._p.variance

    @property
    def mode(self) -> Tensor:
        """The maximum a posteriori, (a - 1) / (a + b - 2); NaN where there is none (see `why_no_mode`)."""
        return self._p.mode

    @property
    def why_no_mode(self) -> str:
        """In words, where there is none."""
        flat = (self.a == 1) & (self.b == 1)
        return words.no_mode(self.mode, flat, "the density grows without bound towards 0 or 1, where a < 1 or b < 1")

    @property
    def _p(self) -> Beta:
        return Beta(self.a, self.b)

    def _counts(self, y: Numbers, weight: Numbers | None) -> tuple[Tensor, Tensor]:
        found = rows.values("BetaBernoulli", self.a.shape, y, weight, BINARY)
        successes = (found.weight * found.y).sum(-1)
        return successes, (found.weight * (1 - found.y)).sum(-1)

    def _log_evidence(self, successes: Tensor, failures: Tensor) -> Tensor:
        counts = torch.stack(torch.broadcast_tensors(successes, failures), -1)
        prior = torch.stack([self.a, self.b], -1)
        return dirichlet_log_evidence(*torch.broadcast_tensors(prior, counts))
