"""What the checks of an effect look at: its rows, with predictions and propensities, wherever they come from."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from kokkiri.causal.solvers import bent
from kokkiri.numerics.heads import Replicates, freeze, precisions, solve
from kokkiri.numerics.random import permutation

if TYPE_CHECKING:
    from kokkiri.causal.effect import Effect

FOLDS = 5


class Ground(NamedTuple):
    """Rows of an effect. t: (n,) number of the level, or the value of a treatment without levels; y, weight: (n,);
    x: (n, p) covariates with names; outcome, propensity: (K, n) out of fold, or None where nothing is weighted.
    event: whether y is 0 or 1. how: what the predictions are, in words. least: what a propensity is raised to where it
    divides, as in the effect.
    """

    t: Tensor
    y: Tensor
    x: Tensor
    names: tuple[str, ...]
    weight: Tensor
    outcome: Tensor | None
    propensity: Tensor | None
    level: int
    versus: int
    whom: str
    event: bool
    how: str = ""
    fold: Tensor | None = None
    least: float = 0.0


def ground_of(effect: Effect) -> Ground | str:
    """The rows of an effect; or why there are none that checks could look at."""
    sample = effect.sample
    if sample is None:
        return "the effect does not keep its rows"
    weight = torch.ones(len(sample.t), dtype=torch.float64)
    bare = Ground(sample.t, sample.y.double(), sample.x.double(), sample.names, weight, None, None, effect.level,
                  effect.versus, effect.whom, bool(effect.event))  # fmt: skip
    if effect.nuisances is not None:
        n = effect.nuisances
        return bare._replace(
            t=n.t, y=n.y.double(), weight=weight if n.weight is None else n.weight.double(), fold=n.fold,
            outcome=n.outcome.double(), propensity=n.propensity.double(), how="networks, out of fold", least=n.least,
        )  # fmt: skip
    kind = effect.estimand.kind if effect.estimand is not None else "back-door"
    if kind != "back-door" or effect.method == "instrument" or sample.t.is_floating_point():
        return bare
    levels = len(effect.levels)
    return cells(bare, levels) if effect.method == "discrete" or not bare.names else linear(bare, levels)


def cells(ground: Ground, levels: int, prior: float = 0.5) -> Ground:
    """Means and shares of the rows that are alike in all covariates; a half row for each level and cell besides."""
    _, place = ground.x.unique(dim=0, return_inverse=True) if ground.names else (None, torch.zeros_like(ground.t))
    count = torch.zeros(levels, int(place.max()) + 1, dtype=torch.float64)
    count.index_put_((ground.t.long(), place), ground.weight, accumulate=True)
    total = torch.zeros_like(count).index_put_((ground.t.long(), place), ground.weight * ground.y, accumulate=True)
    mean = float((ground.weight * ground.y).sum() / ground.weight.sum())
    outcome = (total + prior * mean) / (count + prior)
    propensity = (count + prior) / (count + prior).sum(0)
    return ground._replace(outcome=outcome[:, place], propensity=propensity[:, place], how="frequencies of the table")


def linear(ground: Ground, levels: int, seed: int = 0) -> Ground:
    """Ridge and logistic regressions on the covariates and their bends, out of fold."""
    n = len(ground.t)
    fold = permutation(n, seed, "folds of checks") % FOLDS
    frozen = freeze(bent(ground.x) if ground.names else torch.zeros(n, 1), fold)
    given = Replicates(ground.t.long().unsqueeze(0), ground.y.unsqueeze(0), ground.weight.unsqueeze(0))
    prior = precisions(frozen, levels, ground.t.long(), ground.y, ground.weight)
    heads = solve(frozen, levels, given, prior)
    return ground._replace(outcome=heads.outcome[0], propensity=heads.propensity[0], fold=fold,
                           how="linear and logistic regressions on bent covariates, out of fold")  # fmt: skip
