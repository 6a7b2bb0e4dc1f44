"""Beliefs as text: tables of at most 80 columns."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from kokkiri.phrases import count, cut, plain, probability, table

if TYPE_CHECKING:
    from kokkiri.exact.hypotheses import BayesRule

CASES = 10  # so many are printed
WIDE, LONG = 4, 12  # so many hypotheses have a column of their own, with so many letters of their names


def cromwell(never: Sequence[str], hypotheses: int) -> str:
    """What a prior of 0 means, in a sentence.

    >>> cromwell(["ill"], 2)
    "the prior of 'ill' is 0: no evidence can change that (Cromwell's rule)"
    """
    certain = len(never) == hypotheses - 1 and hypotheses > 2
    who = "', '".join(never[:4])
    what = "all priors but one are" if certain else f"the prior of '{who}' is"
    return f"{what} 0: no evidence can change that (Cromwell's rule)"


def of_log(log_p: float) -> str:
    """A likelihood from its logarithm: a density may be large, and a product of many too small for a float.

    >>> of_log(math.log(0.25)), of_log(-2000.0), of_log(-math.inf), of_log(5.0)
    ('0.2500', '10^-868.6', '0', '148')
    """
    if log_p == -math.inf:
        return "0"
    if not -700 < log_p < 700:
        return f"10^{log_p / math.log(10):.1f}"
    return probability(math.exp(log_p)) if log_p <= 0 else plain(math.exp(log_p))


def of_beliefs(log_p: Tensor) -> list[str]:
    """The probabilities of H hypotheses from their logarithms; what is not certain never looks so.

    >>> of_beliefs(torch.tensor([0.0, -2000.0], dtype=torch.float64))
    ['1 - 10^-868.6', '10^-868.6']
    """
    same = torch.eye(len(log_p), dtype=torch.bool)
    others = torch.logsumexp(log_p.masked_fill(same, -math.inf), -1).tolist()  # of each hypothesis
    near = lambda rest: f"1 - {math.exp(rest):.1e}" if rest > -700 else f"1 - {of_log(rest)}"
    pairs = zip(log_p.tolist(), others, strict=True)
    return [near(rest) if -math.inf < rest < -18 else of_log(own) for own, rest in pairs]


def of_ratio(log_ratio: float) -> str:
    """Odds or a Bayes factor from its logarithm.

    >>> of_ratio(math.log(99)), of_ratio(math.inf), of_ratio(-3000.0), of_ratio(math.nan)
    ('99.0', 'infinite', '10^-1302.9', 'none')
    """
    if math.isnan(log_ratio):
        return "none"
    if math.isinf(log_ratio):
        return "infinite" if log_ratio > 0 else "0"
    return plain(math.exp(log_ratio)) if abs(log_ratio) < 30 else f"10^{log_ratio / math.log(10):.1f}"


def short(names: Sequence[str], log_p: Tensor) -> str:
    """For a repr."""
    if log_p.ndim > 1:
        return f"{', '.join(names[:4])}{', …' * (len(names) > 4)}; {count(log_p[..., 0].numel(), 'case')}"
    pairs = [f"{n} {p}" for n, p in zip(names, of_beliefs(log_p), strict=True)]
    return ", ".join(pairs[:6]) + (", …" if len(pairs) > 6 else "")


def prior_table(names: Sequence[str], log_prior: Tensor) -> str:
    """A line a hypothesis, or a line a case."""
    if log_prior.ndim > 1:
        return _cases(names, log_prior, "prior")
    rows = [[n, p] for n, p in zip(names, of_beliefs(log_prior), strict=True)]
    return table(["hypothesis", "prior"], rows)


def rule_table(rule: BayesRule) -> str:
    """Prior, likelihood, their product and the posterior, the evidence below them; then the steps, if there are any."""
    if rule.log_posterior.ndim > 1:
        shown = _cases(rule.names, rule.log_posterior, "posterior")
        return f"{shown}\n\nlog evidence of all cases together {plain(float(rule.log_evidence.sum()))} nats"
    prior, likelihood = rule.hypotheses.log_prior, rule.log_likelihood
    rows = list(
        zip(
            rule.names, of_beliefs(prior), map(of_log, likelihood.tolist()), map(of_log, (prior + likelihood).tolist()),
            of_beliefs(rule.log_posterior), (of_ratio(float(rule.bayes_factor(n, log=True))) for n in rule.names),
            strict=True,
        )
    )  # fmt: skip
    evidence, mean = float(rule.log_evidence), float(rule.log_expected_likelihood)
    rows.append(("evidence", "", "", of_log(evidence), "", ""))
    parts = [table(["hypothesis", "prior", "likelihood", "prior × likelihood", "posterior", "Bayes factor"], rows)]
    parts.append(
        textwrap.fill(
            f"Evidence {of_log(evidence)} as normaliser, {of_log(mean)} as expected likelihood under the prior; log "
            f"evidence {plain(evidence)} nats. Bayes factors: against all others together.",
            80,
        )
    )
    if len(rule.log_likelihoods) > 1:
        parts.append(_steps(rule))
    return "\n\n".join(parts)


def _steps(rule: BayesRule) -> str:
    """Observation after observation: how probable it was beforehand, and what was believed then."""
    places = rule.log_posterior.argsort(descending=True)[:WIDE].sort().values.tolist()
    forecasts, beliefs = rule.forecasts.tolist(), [of_beliefs(line) for line in rule.log_path]
    beliefs = [[line[i] for i in places] for line in beliefs]
    rows = [["prior", "", *beliefs[0]]]
    for label, forecast, belief in zip(rule.labels, forecasts, beliefs[1:], strict=True):
        rows.append([label, probability(forecast) if forecast <= 1 else plain(forecast), *belief])
    if len(rows) > 2 * CASES:
        rows = [*rows[:CASES], ["…", *[""] * (len(rows[0]) - 1)], *rows[-CASES:]]
    return table(["in turn", "forecast", *(cut(rule.names[i], LONG) for i in places)], rows)


def _cases(names: Sequence[str], log_p: Tensor, what: str) -> str:
    flat = log_p.reshape(-1, len(names))
    places = list(range(min(len(names), WIDE)))
    shown = [of_beliefs(line) for line in flat[:CASES]]
    rows = [[str(i), *(line[k] for k in places)] for i, line in enumerate(shown, start=1)]
    rest = len(flat) - CASES
    more = f"\n… {count(rest, 'case')} more" if rest > 0 else ""
    hidden = len(names) - len(places)
    more += f"\n… and {count(hidden, 'hypothesis', 'hypotheses')} more" if hidden > 0 else ""
    return f"{what}\n" + table(["case", *(cut(names[i], LONG) for i in places)], rows) + more
