"""Beta-binomial and negative binomial: the next count, where the proportion or the rate is not known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from kokkiri.errors import Unsupported, UsageError
from kokkiri.exact.distributions import arguments
from kokkiri.exact.distributions.arguments import Numbers
from kokkiri.exact.distributions.beta import Beta
from kokkiri.exact.distributions.drawing import generator, log_gamma_draws
from kokkiri.numerics import distributions as plain
from kokkiri.numerics import mixture, special
from kokkiri.numerics.gammas import dirichlet_multinomial_log_prob, gamma_penalty, poisson_log_prob

MOST_SUMMED = 10_000_000  # probabilities that a distribution function may add up
MOST_EVENTS = 9e18  # the greatest rate that numpy draws from


@dataclass(frozen=True, eq=False, repr=False, init=False)
class BetaBinomial:
    """k successes in `trials`, k ~ Binomial(trials, p), p ~ Beta(a, b).

    cdf, quantile and interval add up probabilities, trials + 1 of them for each member of the batch.
    Source: Johnson, Kemp and Kotz 2005, "Univariate discrete distributions", section 6.2.2.

    >>> BetaBinomial(2, 1, 1).log_prob([0, 1, 2]).exp().round(decimals=12).tolist()  # uniform
    [0.333333333333, 0.333333333333, 0.333333333333]
    """

    trials: Tensor
    a: Tensor
    b: Tensor

    def __init__(self, trials: Numbers, a: Numbers, b: Numbers) -> None:
        arguments.settle(self, positive={"a": a, "b": b}, real={"trials": trials})
        if not bool(((self.trials >= 0) & (self.trials == self.trials.round())).all()):
            wrong = self.trials[(self.trials < 0) | (self.trials != self.trials.round())].flatten()[0].item()
            raise UsageError(
                f"BetaBinomial got trials = {wrong:g}",
                needs="a whole number >= 0",
                found=f"{wrong:g}",
                fix="trials=1 for the next observation, trials=10 for the sum of the next ten",
            )

    def __repr__(self) -> str:
        return arguments.shown(self, ("trials", "a", "b"))

    @property
    def mean(self) -> Tensor:
        """Trials times E[p]."""
        return self.trials * self._p.mean

    @property
    def variance(self) -> Tensor:
        """The sum of the two below."""
        return self.aleatoric + self.epistemic

    @property
    def aleatoric(self) -> Tensor:
        """E[trials p (1 - p)]: how far the count varies at a known proportion."""
        n = self.a + self.b
        return self.trials * (self.a / n) * (self.b / (n + 1))

    @property
    def epistemic(self) -> Tensor:
        """trials² var(p), ignorance of the proportion."""
        return self.trials.square() * self._p.variance

    @property
    def sd(self) -> Tensor:
        """√variance."""
        return self.variance.sqrt()

    def log_prob(self, k: Numbers) -> Tensor:
        """The log probability, nats; -∞ outside of 0, 1, …, trials."""
        given = arguments.numbers("BetaBinomial", "k", k)
        found, trials, a, b = torch.broadcast_tensors(given, self.trials, self.a, self.b)
        inside = (found >= 0) & (found <= trials) & (found == found.round())
        safe = torch.where(inside, found, 0.0)
        logs = dirichlet_multinomial_log_prob(torch.stack([a, b], -1), torch.stack([safe, trials - safe], -1))
        return torch.where(found.isnan(), torch.nan, torch.where(inside, logs, -torch.inf))

    def cdf(self, k: Numbers) -> Tensor:
        """P(K <= k)."""
        return self._summed(arguments.numbers("BetaBinomial", "k", k).floor(), upper=False)

    def survival(self, k: Numbers) -> Tensor:
        """P(K > k)."""
        return self._summed(arguments.numbers("BetaBinomial", "k", k).floor(), upper=True)

    def quantile(self, q: float) -> Tensor:
        """The least k with P(K <= k) >= q."""
        goal = arguments.fraction("BetaBinomial.quantile", "q", q)
        below = self._masses().cumsum(-1)
        return (below < goal * (1 - 2.0**-46)).sum(-1).double().clamp(max=self.trials)

    def interval(self, level: float = 0.95) -> tuple[Tensor, Tensor]:
        """The central interval: at most (1 - level) / 2 is left out on either side."""
        tail = float(arguments.tail("BetaBinomial.interval", level))
        return self.quantile(tail), self.quantile(1 - tail)

    def sample(self, n: int, *, seed: int) -> Tensor:
        """(n, ...) draws."""
        p = self._p.sample(n, seed=seed).cpu().numpy()
        trials = self.trials.cpu().numpy().astype(np.int64)
        return torch.as_tensor(generator("BetaBinomial", seed).binomial(trials, p)).to(self.a)

    @property
    def _p(self) -> Beta:
        return Beta(self.a, self.b)

    def _masses(self) -> Tensor:
        """(..., K + 1), the probabilities of 0, 1, …, K, the most trials of any."""
        most = int(self.trials.max()) if self.trials.numel() else 0
        if (most + 1) * self.trials.numel() > MOST_SUMMED:
            raise Unsupported(
                f"{self!r} has no distribution function in closed form, and too many counts to add up",
                needs=f"(trials + 1) x members of the batch <= {MOST_SUMMED:,}",
                found=f"{most + 1:,} x {self.trials.numel():,}",
                fix="for so many trials take the proportion: trials * Beta(a, b).quantile(q), or draws",
            )
        k = torch.arange(most + 1, dtype=torch.float64, device=self.a.device)
        wide = BetaBinomial(self.trials.unsqueeze(-1), self.a.unsqueeze(-1), self.b.unsqueeze(-1))
        return wide.log_prob(k).exp()

    def _summed(self, k: Tensor, *, upper: bool) -> Tensor:
        """From the end that is asked for, so that small tails keep their digits."""
        masses = self._masses()
        zero = torch.zeros_like(masses[..., :1])
        k, trials = torch.broadcast_tensors(k, self.trials)
        if upper:
            table = torch.cat([masses.flip(-1).cumsum(-1).flip(-1), zero], -1)
            place = (k + 1).clamp(min=0).minimum(trials + 1)
        else:
            table = torch.cat([zero, masses.cumsum(-1)], -1)
            place = (k + 1).clamp(min=0).minimum(trials + 1)
        place = place.clamp(max=table.shape[-1] - 1).long()
        table = table.expand(*k.shape, table.shape[-1])
        return torch.gather(table, -1, place.unsqueeze(-1)).squeeze(-1).clamp(max=1.0)


@dataclass(frozen=True, eq=False, repr=False, init=False)
class NegativeBinomial:
    """A count over some exposure, y ~ Poisson(exposure λ), λ ~ Gamma(shape, rate).

    Source: Greenwood and Yule 1920, "An inquiry into the nature of frequency distributions".

    >>> next_one = NegativeBinomial(3, 2, exposure=4.0)
    >>> next_one.mean.item(), next_one.aleatoric.item(), next_one.epistemic.item()
    (6.0, 6.0, 12.0)
    """

    shape: Tensor
    rate: Tensor
    exposure: Tensor

    def __init__(self, shape: Numbers, rate: Numbers, exposure: Numbers = 1.0) -> None:
        arguments.settle(self, positive={"shape": shape, "rate": rate, "exposure": exposure})

    def __repr__(self) -> str:
        return arguments.shown(self, ("shape", "rate", "exposure"))

    @property
    def mean(self) -> Tensor:
        """Exposure times E[λ]."""
        return self.exposure * (self.shape / self.rate)

    @property
    def variance(self) -> Tensor:
        """The sum of the two below."""
        return self.aleatoric + self.epistemic

    @property
    def aleatoric(self) -> Tensor:
        """The mean: how far the count varies at a known rate."""
        return self.mean

    @property
    def epistemic(self) -> Tensor:
        """exposure² var(λ), ignorance of the rate."""
        return self.mean.square() / self.shape

    @property
    def sd(self) -> Tensor:
        """√variance."""
        return self.variance.sqrt()

    def log_prob(self, y: Numbers) -> Tensor:
        """The log probability, nats; -∞ outside of 0, 1, 2, …"""
        y = arguments.numbers("NegativeBinomial", "y", y)
        inside = (y >= 0) & (y == y.round()) & y.isfinite()
        safe = torch.where(inside, y, 0.0)
        mean = self.exposure * ((self.shape + safe) / (self.rate + self.exposure))
        found = poisson_log_prob(safe, mean) + gamma_penalty(
            self.shape, self.rate, safe, torch.as_tensor(self.exposure)
        )
        return torch.where(y.isnan(), torch.nan, torch.where(inside, found, -torch.inf))

    def cdf(self, y: Numbers) -> Tensor:
        """P(Y <= y), accurate where it is small."""
        return special.negative_binomial_cdf(*self._beside(y))

    def survival(self, y: Numbers) -> Tensor:
        """P(Y > y), accurate where it is small."""
        return special.negative_binomial_survival(*self._beside(y))

    def quantile(self, q: float) -> Tensor:
        """The least y with P(Y <= y) >= q, 0 < q < 1."""
        goal = float(arguments.fraction("NegativeBinomial.quantile", "q", q))
        if goal in {0.0, 1.0}:
            return torch.full_like(self.mean, torch.inf if goal else 0.0)
        one = plain.NegativeBinomial(self.mean.log()[None], -self.shape.log()[None])
        return mixture.quantile(one, torch.zeros(1, dtype=torch.float64, device=self.mean.device), goal)

    def interval(self, level: float = 0.95) -> tuple[Tensor, Tensor]:
        """The central interval: at most (1 - level) / 2 is left out on either side."""
        tail = float(arguments.tail("NegativeBinomial.interval", level))
        return self.quantile(tail), self.quantile(1 - tail)

    def sample(self, n: int, *, seed: int) -> Tensor:
        """(n, ...) draws."""
        logs = log_gamma_draws(self.shape, n, seed, "NegativeBinomial rate")
        mean = (logs - self.rate.log()).exp() * self.exposure
        draws = generator("NegativeBinomial", seed).poisson(mean.clamp(max=MOST_EVENTS).cpu().numpy())
        return torch.as_tensor(draws).to(self.rate)

    def _beside(self, y: Numbers) -> tuple[Tensor, ...]:
        return torch.broadcast_tensors(arguments.numbers("NegativeBinomial", "y", y), self.mean, self.shape)
