"""Bayes' rule for discrete hypotheses: prior, likelihood, evidence, posterior.

    p(h | x) = p(h) p(x | h) / p(x),    p(x) = Σ_h p(h) p(x | h).

H hypotheses lie along the last axis of every tensor; axes before it are cases: patients, rows. Everything is kept as
logarithms (`numerics.log_space`).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from kokkiri.errors import DataError, ShapeError
from kokkiri.exact import belief_words as words
from kokkiri.exact.experiment import Experiment
from kokkiri.exact.probabilities import (
    by_name,
    distribution,
    log_likelihood,
    logarithms,
    numbers,
    place_of,
    probability,
)
from kokkiri.numerics import log_space


class CromwellWarning(UserWarning):
    """A prior of exactly 0 or 1, which no evidence can change: "think it possible you may be mistaken" (Lindley)."""


@dataclass(frozen=True, eq=False, repr=False)
class Hypotheses:
    """What may be the case, and how probable each is before anything was seen.

    prior: probabilities by name, or a tensor (..., H) that adds up to one, one line a case. names: of the hypotheses,
    where prior is a tensor. log: whether prior holds logarithms. A prior of exactly 0 or 1 is allowed, with a
    `CromwellWarning`.

    >>> after = Hypotheses({"ill": 0.1, "well": 0.9}).update({"ill": 0.99, "well": 0.01})
    >>> print(str(after).partition("Evidence")[0].rstrip())
    hypothesis   prior  likelihood  prior × likelihood  posterior  Bayes factor
    ill         0.1000      0.9900              0.0990     0.9167          99.0
    well        0.9000      0.0100             0.00900     0.0833        0.0101
    evidence                                    0.1080
    """

    prior: Any
    names: Sequence[str] = ()
    log: bool = field(default=False, kw_only=True)
    log_prior: Tensor = field(init=False)

    def __post_init__(self) -> None:
        given, names = self.prior, tuple(self.names)
        if isinstance(given, Mapping):
            names = names or tuple(map(str, given))
            values = by_name("the prior", given, names)
        else:
            values = numbers("the prior", given)
            names = names or tuple(f"H{i}" for i in range(1, (values.shape[-1] if values.ndim else 0) + 1))
        if values.ndim == 0 or values.shape[-1] != len(names) or len(names) < 2 or len(set(names)) < len(names):
            raise ShapeError(
                f"a prior {tuple(values.shape)} for {len(names)} hypotheses",
                needs="two hypotheses or more, each with a name of its own, along the last axis",
                found=", ".join(names[:8]) or "none", fix='Hypotheses({"ill": 0.1, "well": 0.9})',
            )  # fmt: skip
        if self.log:
            log_prior = logarithms("the prior", values)
            distribution("the prior", log_prior.exp(), names)
            log_prior = log_prior - torch.logsumexp(log_prior, -1, keepdim=True)
        else:
            log_prior = distribution("the prior", probability("a prior", values), names).log()
        if bool((log_prior == -math.inf).any()):
            row = log_prior.reshape(-1, len(names))
            row = row[int((row == -math.inf).any(-1).nonzero()[0])].tolist()
            never = [n for n, v in zip(names, row, strict=True) if v == -math.inf]
            warnings.warn(words.cromwell(never, len(names)), CromwellWarning, stacklevel=3)
        object.__setattr__(self, "names", names)
        object.__setattr__(self, "log_prior", log_prior)
        object.__setattr__(self, "prior", log_prior.exp())
        object.__setattr__(self, "log", False)

    def __repr__(self) -> str:
        return f"Hypotheses({words.short(self.names, self.log_prior)})"

    def __str__(self) -> str:
        return words.prior_table(self.names, self.log_prior)

    def __getitem__(self, name: str) -> Tensor:
        """The prior of one hypothesis."""
        return self.prior[..., place_of(name, self.names)]

    @property
    def log_probability(self) -> Tensor:
        """(..., H): what is believed now."""
        return self.log_prior

    def odds(self, name: str, against: str | None = None, *, log: bool = False) -> Tensor:
        """Prior odds of a hypothesis against another, or against all others together; log: their logarithm, nats."""
        return _odds(self.log_prior, self.names, name, against, log=log)

    def update(self, *likelihoods: Any, log: bool = False) -> BayesRule:
        """Bayes' rule, for one observation or several in turn, independent given the hypothesis.

        Each: p(x | h), the likelihood of what was observed under each hypothesis, by name or as a tensor (..., H) whose
        axes before the last are cases. log: they are logarithms, and may be those of densities.
        """
        return self._unobserved().update(*likelihoods, log=log)

    def observe(self, experiment: Experiment, *outcomes: Any) -> BayesRule:
        """Bayes' rule for outcomes of an experiment: their names in turn, or tensors of outcome numbers, a case each.

        >>> test = Experiment({"ill": {"+": 0.99, "-": 0.01}, "well": {"+": 0.01, "-": 0.99}})
        >>> round(Hypotheses({"ill": 0.1, "well": 0.9}).observe(test, "+", "+")["ill"].item(), 6)
        0.999083
        """
        return self._unobserved().observe(experiment, *outcomes)

    def _unobserved(self) -> BayesRule:
        return BayesRule(self, (), (), torch.zeros_like(self.log_prior))


@dataclass(frozen=True, eq=False, repr=False)
class BayesRule:
    """Bayes' rule at work: hypotheses with their prior, and what was observed.

    log_likelihoods: (..., H) for each observation in turn; labels: their names. The posterior is the prior of whatever
    comes next: `update` and `observe` go on from here, and the order of the observations does not matter.
    """

    hypotheses: Hypotheses
    log_likelihoods: tuple[Tensor, ...]
    labels: tuple[str, ...]
    log_likelihood: Tensor  # (..., H), log p(x_1, …, x_T | h): their sum
    names: tuple[str, ...] = field(init=False)  # of the hypotheses
    log_posterior: Tensor = field(init=False)  # (..., H), log p(h | x_1, …, x_T)
    log_evidence: Tensor = field(init=False)  # (...), log p(x_1, …, x_T) as the normaliser

    def __post_init__(self) -> None:
        found = log_space.bayes(self.hypotheses.log_prior, self.log_likelihood)
        never = found.log_evidence == -math.inf
        if bool(never.any()):
            where = f" in case {int(never.flatten().nonzero()[0]) + 1:,}" if never.ndim else ""
            allowed = bool((self.log_likelihood.expand(*never.shape, -1)[never] > -math.inf).any())
            more = f", in {int(never.sum()):,} cases" if int(never.sum()) > 1 else ""
            raise DataError(
                f"what was observed is impossible{where}: its evidence is 0",
                needs="a hypothesis with a prior above 0 that allows it",
                found=f"likelihoods above 0 only where the prior is 0{more}" if allowed else f"likelihoods of 0{more}",
                fix="add the hypothesis that is missing, or give what happened a small likelihood",
            )  # fmt: skip
        object.__setattr__(self, "names", tuple(self.hypotheses.names))
        object.__setattr__(self, "log_posterior", found.log_posterior)
        object.__setattr__(self, "log_evidence", found.log_evidence)

    def __repr__(self) -> str:
        seen = len(self.log_likelihoods)
        return f"BayesRule({words.short(self.names, self.log_posterior)}, after {seen} observation{'s' * (seen != 1)})"

    def __str__(self) -> str:
        return words.rule_table(self)

    def __getitem__(self, name: str) -> Tensor:
        """The posterior of one hypothesis."""
        return self.posterior[..., place_of(name, self.names)]

    @property
    def prior(self) -> Tensor:
        """p(h), (..., H)."""
        return self.hypotheses.prior

    @property
    def likelihood(self) -> Tensor:
        """p(x_1, …, x_T | h), (..., H)."""
        return self.log_likelihood.exp()

    @property
    def log_probability(self) -> Tensor:
        """(..., H): what is believed now, the posterior."""
        return self.log_posterior

    @property
    def posterior(self) -> Tensor:
        """p(h | x_1, …, x_T), (..., H)."""
        return self.log_posterior.exp()

    @property
    def evidence(self) -> Tensor:
        """p(x_1, …, x_T), (...), as the normaliser."""
        return self.log_evidence.exp()

    @property
    def log_expected_likelihood(self) -> Tensor:
        """Log Σ_h p(h) p(x_1, …, x_T | h), (...): the evidence as the mean of the likelihood under the prior."""
        return log_space.expected(self.log_likelihood, self.hypotheses.log_prior)

    @property
    def expected_likelihood(self) -> Tensor:
        """The evidence as the mean of the likelihood under the prior, computed for itself; equal to `evidence`."""
        return self.log_expected_likelihood.exp()

    @property
    def forecasts(self) -> Tensor:
        """p(x_t | x_1, …, x_{t-1}), (T, ...): how probable each observation was beforehand; their product is p(x)."""
        path = self.log_path
        steps = [log_space.expected(step, path[t]) for t, step in enumerate(self.log_likelihoods)]
        return torch.stack(torch.broadcast_tensors(*steps)).exp() if steps else torch.ones(0, dtype=torch.float64)

    @property
    def path(self) -> Tensor:
        """(T + 1, ..., H): the prior, then the posterior after each observation, each the prior of the next."""
        return self.log_path.exp()

    @property
    def log_path(self) -> Tensor:
        """Its logarithm."""
        beliefs = [self.hypotheses.log_prior]
        for step in self.log_likelihoods:
            beliefs.append(log_space.bayes(beliefs[-1], step).log_posterior)
        return torch.stack(torch.broadcast_tensors(*beliefs))

    @property
    def most_probable(self) -> str | list[str]:
        """The name of the hypothesis with the largest posterior; a list of them, where there are cases."""
        best = self.log_posterior.argmax(-1)
        return self.names[int(best)] if best.ndim == 0 else [self.names[i] for i in best.flatten().tolist()]

    def odds(self, name: str, against: str | None = None, *, log: bool = False) -> Tensor:
        """Posterior odds of a hypothesis against another, or against all others together: prior odds × Bayes factor.

        log: their logarithm, nats.
        """
        return _odds(self.log_posterior, self.names, name, against, log=log)

    def bayes_factor(self, name: str, against: str | None = None, *, log: bool = False) -> Tensor:
        """How many times more probable a hypothesis makes what was observed than another, or than all others together.

        Against all others their likelihood is averaged under the prior, so that here the prior matters: only with two
        hypotheses does the data alone say it. log: the weight of evidence, nats (Good 1950, "Probability and the
        weighing of evidence").
        """
        place, likelihood = place_of(name, self.names), self.log_likelihood
        if against is not None:
            factor = likelihood[..., place] - likelihood[..., place_of(against, self.names)]
        else:
            others = [i for i in range(len(self.names)) if i != place]
            rest = self.hypotheses.log_prior[..., others]
            rest = rest - torch.logsumexp(rest, -1, keepdim=True)
            factor = likelihood[..., place] - log_space.expected(likelihood[..., others], rest)
        return factor if log else factor.exp()

    def update(self, *likelihoods: Any, log: bool = False) -> BayesRule:
        """More observations, in turn: yesterday's posterior is today's prior. See `Hypotheses.update`."""
        before, first = (self.hypotheses.log_prior, *self.log_likelihoods), len(self.labels) + 1
        steps = [log_likelihood(x, self.names, before, log=log) for x in likelihoods]
        return self._with(steps, [f"observation {first + i}" for i in range(len(steps))])

    def observe(self, experiment: Experiment, *outcomes: Any) -> BayesRule:
        """More outcomes of an experiment, in turn. See `Hypotheses.observe`."""
        steps = [experiment.log_likelihood(x, self.names) for x in outcomes]
        labels = [
            x if isinstance(x, str) else f"observation {len(self.labels) + 1 + i}" for i, x in enumerate(outcomes)
        ]
        return self._with(steps, labels)

    def picture(self) -> str:
        """Bayes' rule as areas, and the beliefs before and after, as SVG text."""
        from kokkiri.exact.belief_pictures import rule_picture

        return rule_picture(self)

    def _with(self, steps: Sequence[Tensor], labels: Sequence[str]) -> BayesRule:
        total = sum(steps, self.log_likelihood)
        return BayesRule(self.hypotheses, (*self.log_likelihoods, *steps), (*self.labels, *labels), total)


def _odds(log_p: Tensor, names: Sequence[str], name: str, against: str | None, *, log: bool) -> Tensor:
    place = place_of(name, names)
    others = [place_of(against, names)] if against is not None else [i for i in range(len(names)) if i != place]
    odds = log_p[..., place] - torch.logsumexp(log_p[..., others], -1)
    return odds if log else odds.exp()
