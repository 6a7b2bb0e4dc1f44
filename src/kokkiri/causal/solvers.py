"""Estimators that answer many replicates at once: heads on frozen features, a linear model, two stages.

Each is a function of Replicates, and everything that depends on a treatment, the propensity above all, is solved anew
for each: a placebo with the old propensities would find effects where none are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from kokkiri.causal.replicates import Table
from kokkiri.numerics.heads import Frozen, Precisions, Replicates, freeze, precisions, ridge_precision, solve
from kokkiri.numerics.one_step import Estimates, estimates, parts

AT_ONCE = 2**23  # numbers of one tensor
_PAIRS = 8  # columns up to which their products count, too


class Solver(Protocol):
    """Effects and their standard errors, of R replicates."""

    def __call__(self, given: Replicates) -> Estimates:
        """Effects of the replicates."""
        ...


def some(given: Replicates, start: int, stop: int) -> Replicates:
    """A few of the replicates; what all share stays."""
    cut = lambda v: v if len(v) == 1 else v[start:stop]
    extra = None if given.extra is None else cut(given.extra)
    return Replicates(cut(given.treatment), cut(given.outcome), cut(given.weight), extra)


def how_many(given: Replicates) -> int:
    """R."""
    return max(len(v) for v in given if v is not None)


def in_parts(solver: Solver, given: Replicates, numbers_each: int) -> Estimates:
    """The same, a few replicates at a time, so that no tensor has more than AT_ONCE numbers."""
    total, step = how_many(given), max(1, AT_ONCE // max(1, numbers_each))
    found = [solver(some(given, start, start + step)) for start in range(0, total, step)]
    return Estimates(*(torch.cat(part) for part in zip(*found, strict=True)))


# -- heads on frozen features ------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class HeadsSolver:
    """The one-step estimate with heads solved in closed form on features that stay (numerics/heads)."""

    frozen: Frozen
    levels: int
    prior: Precisions
    level: int
    versus: int
    whom: str = "average"
    floor: float = 0.01

    def __call__(self, given: Replicates) -> Estimates:
        """Effects of the replicates."""
        return in_parts(self._few, given, len(self.frozen.fold) * self.levels * 2)

    def _few(self, given: Replicates) -> Estimates:
        heads = solve(self.frozen, self.levels, given, self.prior)
        found = parts(given.treatment, given.outcome.double(), *heads, self.level, self.versus, self.whom, self.floor)
        return estimates(found, given.weight.double())

    def rows(self, treatment: Tensor, outcome: Tensor, weight: Tensor) -> Table:
        """What replicates are made of. Expected is Σ_k P(k) E[Y | k, x]: with P(k | x), whose errors know of the
        treatments, the dummy outcome would know of them, too.
        """
        given = Replicates(treatment.unsqueeze(0), outcome.unsqueeze(0), weight.unsqueeze(0))
        mu = solve(self.frozen, self.levels, given, self.prior).outcome[0]
        own = mu.gather(0, treatment.long().unsqueeze(0))[0]
        share = torch.bincount(treatment.long(), weight.double(), self.levels) / weight.sum()
        return Table(treatment, outcome, weight, share @ mu, own)


def heads_solver(
    features: Tensor,
    fold: Tensor,
    treatment: Tensor,
    outcome: Tensor,
    weight: Tensor,
    *,
    levels: int,
    level: int,
    versus: int,
    whom: str = "average",
    floor: float = 0.01,
) -> HeadsSolver:
    """With the priors of greatest evidence for the rows as they are. features: (F, n, D) or (n, D)."""
    frozen = freeze(features, fold)
    prior = precisions(frozen, levels, treatment, outcome, weight)
    return HeadsSolver(frozen, levels, prior, level, versus, whom, floor)


def predictions(outcome: Tensor, propensity: Tensor) -> Tensor:
    """(n, 2 K - 1) features for heads: predictions (K, n) under each level, and log-odds of each against the first.

    Out of fold, they are few, and know what networks learnt: heads on them (Ahrens, Hansen, Schaffer & Wiemann 2024,
    "Model averaging and double machine learning", call it short-stacking) scatter as networks trained anew do, while
    those on a hidden layer learn its noise (benchmarks/refuters.py, "full").
    """
    odds = (propensity[1:].clamp(min=1e-6) / propensity[:1].clamp(min=1e-6)).log()
    return torch.cat([outcome, odds]).T


# -- a linear model ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class LinearSolver:
    """Least squares on (1, x, t, t x_i): x (n, p), `interact` the columns that the effect may differ by; or two stages
    with instruments (n, q).

    levels: of the treatment, 0 where it is a number; pair: the two settings, numbers of levels or values.
    """

    x: Tensor
    levels: int
    pair: tuple[float, float]
    interact: tuple[int, ...] = ()
    whom: str = "average"
    instruments: Tensor | None = None

    def __call__(self, given: Replicates) -> Estimates:
        """Effects of the replicates."""
        width = self.x.shape[1] + 2 + max(1, self.levels) * (1 + len(self.interact))
        return in_parts(self._few, given, len(self.x) * width)

    def _few(self, given: Replicates) -> Estimates:
        R, n = how_many(given), len(self.x)
        t, w, y = (v.expand(R, n) for v in (given.treatment, given.weight.double(), given.outcome.double()))
        x = _ones_and(self.x).expand(R, n, -1)
        x = x if given.extra is None else torch.cat([x, given.extra.expand(R, n).unsqueeze(-1)], -1)
        inside, own = self.x[:, list(self.interact)], self._coded(t)
        both = (own.unsqueeze(-1) * inside.unsqueeze(-2)).flatten(-2)
        whose = w if self.whom == "average" else w * (t == self.pair[0 if self.whom == "treated" else 1])
        mean = (whose @ inside) / whose.sum(-1, keepdim=True)
        first, second = self._coded(torch.tensor(self.pair, dtype=torch.float64)).split(1)
        step = first - second
        along = torch.cat([step.expand(R, -1), (step.unsqueeze(-1) * mean.unsqueeze(1)).flatten(1)], -1)
        along = torch.nn.functional.pad(along, (x.shape[-1], 0))
        columns = torch.cat([x, own, both], -1)
        z = columns if self.instruments is None else torch.cat([x, self.instruments.expand(R, n, -1)], -1)
        return _two_stages(columns, z, y, w, along)

    def _coded(self, t: Tensor) -> Tensor:
        """Columns of the treatment: the number, or one for each level but the first."""
        if not self.levels:
            return t.double().unsqueeze(-1)
        return torch.nn.functional.one_hot(t.long(), self.levels)[..., 1:].double()

    def rows(self, treatment: Tensor, outcome: Tensor, weight: Tensor) -> Table:
        """What replicates are made of, by a ridge regression on bent covariates (`bent`) and the treatment.

        A dummy outcome that only straight lines made would be removed by straight lines; this one need not be.
        """
        y, root = outcome.double(), weight.double().sqrt().unsqueeze(1)
        own = self._coded(treatment)
        base, more = _ones_and(own) * root, bent(self.x)
        away = lambda v: v - base @ (torch.linalg.pinv(base) @ v)  # what treatment and intercept do not say
        rest, target = away(more * root), away((y * root[:, 0]).unsqueeze(1)).squeeze(1)
        moment, gram = rest.mT @ target, rest.mT @ rest
        if more.shape[1]:
            wide = torch.nn.functional.pad(gram, (1, 0, 1, 0))
            wide[0, 0] = weight.sum()
            ridge = ridge_precision(wide, torch.nn.functional.pad(moment, (1, 0)), target.square().sum())
            gram = gram + ridge * torch.eye(len(gram), dtype=gram.dtype)
        curve = more @ torch.linalg.solve(gram, moment)
        gamma = torch.linalg.pinv(base) @ ((y - curve).unsqueeze(1) * root)
        mean = (weight.double() @ own) / weight.sum()
        level = curve + gamma[0] + mean @ gamma[1:, 0]
        return Table(treatment, outcome, weight, level, level + (own - mean) @ gamma[1:, 0])


def bent(x: Tensor) -> Tensor:
    """(n, q) standardised columns: each of x, its bends at the quartiles where it has more than two values, and the
    products of all pairs where there are few columns.

    >>> bent(torch.tensor([[0.0], [1.0], [2.0], [3.0], [4.0]], dtype=torch.float64)).shape
    torch.Size([5, 4])
    """
    columns = [x]
    for i in range(x.shape[1]):
        column = x[:, i]
        if len(column.unique()) > 2:
            quartiles = torch.quantile(column[: 2**20], torch.tensor([0.25, 0.5, 0.75], dtype=x.dtype))
            columns.append((column.unsqueeze(1) - quartiles).clamp(min=0.0))
    if x.shape[1] <= _PAIRS:
        i, j = torch.triu_indices(x.shape[1], x.shape[1], 1)
        columns.append(x[:, i] * x[:, j])
    every = torch.cat(columns, 1)
    if not every.shape[1]:
        return every
    every = every - every.mean(0)
    sd = every.std(0, correction=0)
    alive = sd > 1e-9 * (1e-30 + sd.max())
    return every[:, alive] / sd[alive]


def _ones_and(x: Tensor) -> Tensor:
    return torch.cat([torch.ones(len(x), 1, dtype=torch.float64), x], 1)


def _two_stages(columns: Tensor, z: Tensor, y: Tensor, w: Tensor, along: Tensor) -> Estimates:
    """Of Σ along · weights, where `columns` (R, n, d) explain y (R, n) through z (R, n, q); least squares if z is they.

    Columns that are sums of others share what is theirs, by pseudoinverses.
    """
    size = lambda m: (w.unsqueeze(-1) * m.square()).sum(-2).clamp(min=1e-300).sqrt()
    inverse = lambda m: torch.linalg.pinv(m, rtol=1e-10, hermitian=True)
    along = along / size(columns)
    columns, z = columns / size(columns).unsqueeze(-2), z / size(z).unsqueeze(-2)
    zw = (z * w.unsqueeze(-1)).mT
    first, moment = zw @ columns, zw @ y.unsqueeze(-1)
    weigh = first.mT @ inverse(zw @ z)
    spread = inverse(weigh @ first)
    beta = spread @ (weigh @ moment)
    rest = (w * (y - (columns @ beta).squeeze(-1)).square()).sum(-1)
    variance = rest / (w.sum(-1) - columns.shape[-1]).clamp(min=1.0)
    square = ((along.unsqueeze(1) @ spread).squeeze(1) * along).sum(-1)
    return Estimates((beta.squeeze(-1) * along).sum(-1), (variance * square).clamp(min=0.0).sqrt())
