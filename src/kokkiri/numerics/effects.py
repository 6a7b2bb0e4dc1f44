"""Means under interventions from predictions of outcome and treatment: plug-in, one-step correction, and posteriors.

With μ_k(x) = E[y | t = k, x] and e_k(x) = P(t = k | x), every target here is a ratio of two means over rows,

    θ_k = E[value_k] / E[unit],

whose value is orthogonal: small errors of μ and e move it by their product only. So the posterior of θ is that of the
rows' distribution (Rubin 1981, "The Bayesian bootstrap"): Dirichlet(1, …, 1) weights on the rows; and what remains of
the errors' product is judged by replicates of μ and e, trained under such weights themselves (`remainder`).
Sources: Robins, Rotnitzky & Zhao 1994, JASA 89, eq. 2.4; Hahn 1998, Econometrica 66, theorem 1, for the treated;
Yiu, Fong, Holmes & Rousseau 2023, arXiv 2306.06059, for the corrected posterior; Crump, Hotz, Imbens & Mitnik 2006 for
the overlap weights e₀ e₁; Hall 1992, "The bootstrap and Edgeworth expansion", section 1.4, for the bootstrap of a bias.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from kokkiri.errors import UsageError
from kokkiri.numerics.random import generator

Kind: TypeAlias = "str | tuple[str, int] | Tensor"


class Nuisances(NamedTuple):
    """What is known of n rows, each predicted by networks that have not seen it; float64.

    t: (n,) number of the level. y: (n,). weight: (n,) how much each row counts, or None. fold: (n,) int64.
    outcome: (K, n) mean outcome under each level. propensity: (K, n) probability of each level, adding up to one.
    outcome_draws, propensity_draws: (M, K, n) what the whole procedure made of M sets of treatments and outcomes that
    were drawn from `outcome` and `propensity` at the same inputs, or None. least: what probabilities are raised to
    where something is divided by them.
    """

    t: Tensor
    y: Tensor
    weight: Tensor | None
    fold: Tensor
    outcome: Tensor
    propensity: Tensor
    outcome_draws: Tensor | None = None
    propensity_draws: Tensor | None = None
    least: float = 0.0

    @property
    def levels(self) -> int:
        """K."""
        return len(self.outcome)


class Scores(NamedTuple):
    """θ_k = Σ w value_k / Σ w unit. value: (..., K, n). unit: (..., n), one where θ is an average over all rows."""

    value: Tensor
    unit: Tensor


def scores(nuisances: Nuisances, kind: Kind = "average") -> Scores:
    """The orthogonal score of E[Y(k)] for each level k and row.

    kind: "average": over all rows, μ_k + 1{t=k} (y - μ_k) / e_k. ("level", j): over the rows that had level j (the
    treated), 1{t=j} μ_k + 1{t=k} (e_j / e_k) (y - μ_k) over 1{t=j}. "overlap": rows count e₀ e₁, for two levels.
    A tensor (n,): rows count so much, which may depend on x alone (a group: 0 or 1).

    >>> two = torch.tensor([0, 1])
    >>> half = torch.full((2, 2), 0.5)
    >>> scores(Nuisances(two, torch.tensor([3.0, 5.0]), None, two, torch.zeros(2, 2), half)).value
    tensor([[ 6.,  0.],
            [ 0., 10.]])
    """
    had = one_hot(nuisances.t, nuisances.levels).T.to(nuisances.outcome.dtype)
    mu, e = nuisances.outcome, nuisances.propensity
    return _scores(had, had * (nuisances.y - mu), mu, e, kind, nuisances.least)


def plug_in(nuisances: Nuisances, kind: Kind = "average") -> Tensor:
    """(K,) what the outcome model alone says: the mean of μ_k over the rows that `kind` is about."""
    mu, e = nuisances.outcome, nuisances.propensity
    if isinstance(kind, Tensor):
        about = kind.to(mu.dtype)
    elif kind == "overlap":
        about = e[0] * e[1]
    elif kind == "average":
        about = torch.ones_like(mu[0])
    else:
        about = one_hot(nuisances.t, len(mu)).T[int(kind[1])].to(mu.dtype)
    return average(Scores(about * mu, about), nuisances.weight)


def average(found: Scores, weight: Tensor | None = None) -> Tensor:
    """(..., K) ratios of sums. weight: (n,), or (S, n) for S at once, (S, K)."""
    if weight is None:
        return found.value.sum(-1) / found.unit.sum(-1, keepdim=True)
    if weight.ndim == 1:
        return (found.value * weight).sum(-1) / (found.unit * weight).sum(-1, keepdim=True)
    return (weight @ found.value.mT) / (weight @ found.unit).unsqueeze(-1)


def influence(found: Scores, weight: Tensor | None = None) -> Tensor:
    """(K, n) how much each row moves θ, n times: value - θ unit over the mean unit. Its covariance / n is that of θ."""
    w = torch.ones_like(found.unit) if weight is None else weight / weight.mean()
    theta = average(found, weight)
    return w * (found.value - theta.unsqueeze(-1) * found.unit) / (w * found.unit).mean()


def dirichlet(n: int, draws: int, seed: int, weight: Tensor | None = None) -> Tensor:
    """(draws, n) weights of the Bayesian bootstrap, of mean 1 a row: n · Dirichlet(1, …, 1), times the rows' own.

    >>> dirichlet(3, 2, seed=0).sum(1)
    tensor([3., 3.], dtype=torch.float64)
    """
    uniform = torch.rand(draws, n, generator=generator(seed, "Dirichlet weights"), dtype=torch.float64)
    gamma = -torch.log1p(-uniform)
    w = n * gamma / gamma.sum(1, keepdim=True)
    return w if weight is None else w * (weight / weight.mean())


def bayesian_bootstrap(found: Scores, draws: int, seed: int, weight: Tensor | None = None) -> Tensor:
    """(draws, K) of θ, in chunks that fit in memory."""
    return torch.cat([average(found, w) for w in bootstrap_weights(found.value.shape[-1], draws, seed, weight)])


def bootstrap_weights(n: int, draws: int, seed: int, weight: Tensor | None = None) -> Iterator[Tensor]:
    """The weights of `bayesian_bootstrap`, (s, n) at a time."""
    size = max(1, 4_000_000 // n)
    for k, start in enumerate(range(0, draws, size)):
        yield dirichlet(n, min(size, draws - start), seed + 7919 * k, weight)


def remainder(nuisances: Nuisances, kind: Kind = "average") -> Tensor | None:
    """(M, K) by how much the score with the nuisances of each replicate misses; None without replicates.

    There μ and e are the truth, and the replicate's score has mean E[value] / E[unit] under them; for the average over
    all rows it misses by E[(μ_mk - μ_k)(1 - e_k / e_mk)], the product of errors. As the replicates miss what they come
    from, the procedure misses the truth: their mean is the second-order bias of the score, their spread what is not
    known of it. It is rather too small than too large, since μ and e are smoother than what they were learned from.
    """
    if nuisances.outcome_draws is None or nuisances.propensity_draws is None:
        return None
    mu, e = nuisances.outcome, nuisances.propensity
    mu_m, e_m = nuisances.outcome_draws, nuisances.propensity_draws
    said = _scores(e, e * (mu - mu_m), mu_m, e_m, kind, nuisances.least)
    true = _scores(e, torch.zeros_like(mu), mu, e, kind, nuisances.least)
    return average(said, nuisances.weight) - average(true, nuisances.weight)


def posterior(nuisances: Nuisances, kind: Kind = "average", draws: int = 4000, seed: int = 0) -> Tensor:
    """(draws, K) of θ: the Bayesian bootstrap of the score, less its remainder where replicates tell of it.

    The remainder is normal with the replicates' mean and covariance, times 1 + 1/M since the mean of M is not known
    better than that.
    """
    found = bayesian_bootstrap(scores(nuisances, kind), draws, seed, nuisances.weight)
    rest = remainder(nuisances, kind)
    if rest is None:
        return found
    many = len(rest)
    found = found - rest.mean(0)
    if many < 2:
        return found
    away = (rest - rest.mean(0)) * ((1 + 1 / many) / (many - 1)) ** 0.5
    z = torch.randn(draws, many, generator=generator(seed, "remainder"), dtype=away.dtype)
    return found + z @ away


def effective_rows(nuisances: Nuisances) -> Tensor:
    """(K,) rows that the weights 1{t=k} / e_k are worth: (Σ w)² / Σ w² (Kish 1965)."""
    had = one_hot(nuisances.t, nuisances.levels).T / nuisances.propensity.clamp(min=nuisances.least)
    had = had if nuisances.weight is None else had * nuisances.weight
    return had.sum(1).square() / had.square().sum(1)


def least_propensity(n: int) -> float:
    """Below which probabilities of a treatment are raised: 5 / (√n log n), or a tenth if that is less.

    Source: Gruber, Phillips, Lee & van der Laan 2022, American Journal of Epidemiology 191, "Data-adaptive selection of
    the propensity score truncation level".

    >>> round(least_propensity(500), 3), round(least_propensity(5000), 4)
    (0.036, 0.0083)
    """
    return min(0.1, 5 / (math.sqrt(n) * math.log(n))) if n > 1 else 0.1


def _scores(had: Tensor, residual: Tensor, mu: Tensor, e: Tensor, kind: Kind, least: float = 0.0) -> Scores:
    """had: (..., K, n) indicators of the level, or their expectations; residual: had · (y - μ), likewise."""
    below = e.clamp(min=least)  # what is multiplied by a probability needs no such care
    if isinstance(kind, Tensor):
        about = kind.to(mu.dtype)
        value = about * (mu + residual / below)
        return Scores(value, about.expand(value.shape[:-2] + about.shape))
    if kind == "average":
        value = mu + residual / below
        return Scores(value, torch.ones_like(value[..., 0, :]))
    if kind == "overlap":
        if mu.shape[-2] != 2:
            raise UsageError("overlap weights compare two levels", needs="two levels", found=str(mu.shape[-2]),
                             fix='"average"')  # fmt: skip
        h = (e[..., 0, :] * e[..., 1, :]).unsqueeze(-2)
        moved = ((1 - 2 * e[..., 1, :]) * (had[..., 1, :] - e[..., 1, :])).unsqueeze(-2)  # by errors of e within h
        return Scores((h + moved) * mu + h * residual / below, (h + moved).squeeze(-2))
    name, j = kind[0], int(kind[1])
    if name != "level" or not 0 <= j < mu.shape[-2]:
        raise UsageError(f"{kind!r} is no target", needs='"average", ("level", j), "overlap" or weights (n,)',
                         found=repr(kind), fix='"average"')  # fmt: skip
    about = had[..., j, :]
    return Scores(about.unsqueeze(-2) * mu + odds_of(e, j, least) * residual, about)


def odds_of(e: Tensor, j: int, least: float = 0.0) -> Tensor:
    """(..., K, n) e_j / e_k, by which rows with level k stand for those with level j; those themselves count as one."""
    odds = e[..., j, :].unsqueeze(-2) / e.clamp(min=least)
    itself = torch.arange(e.shape[-2]) == j
    return torch.where(itself.unsqueeze(-1), 1.0, odds)  # raised, rare levels would count as less
