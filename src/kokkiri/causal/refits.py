"""The Bayesian bootstrap with everything solved again in each draw: heads in closed form, or whole networks.

In a draw the rows have Dirichlet weights, for the models as for the mean of the score. Heads (lines on what the first
networks predict, which stays) are one batch of ridge and logistic regressions, whose priors are found by evidence;
whole networks are a herd, many times the work, and the yardstick for the heads.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from kokkiri.causal.crossfit import Sets
from kokkiri.causal.networks import CrossFit, embedded, is_columns, learner, learners_of, steep, whole
from kokkiri.causal.outcomes import outcomes
from kokkiri.causal.propensities import propensities
from kokkiri.causal.solvers import predictions
from kokkiri.likelihoods import Bernoulli, Gaussian
from kokkiri.numerics.effects import Kind, Nuisances, average, dirichlet, scores
from kokkiri.numerics.heads import Heads, Replicates, freeze, precisions, solve
from kokkiri.numerics.random import key
from kokkiri.types import Likelihood

CHUNK = 50  # draws at once


def head_draws(found: CrossFit, draws: int, seed: int = 0, kind: Kind = "average", *, hidden: bool = False) -> Tensor:
    """(draws, K) of θ, outcome and propensity solved anew in each draw on what the networks predict out of fold.

    hidden: on their last hidden layers instead, which have learnt noise by heart that the heads then weigh anew: draws
    scatter more than those of networks trained anew do (benchmarks/results/refuters.md).
    """
    nuisances = found.nuisances
    features = found.features if hidden else predictions(nuisances.outcome, nuisances.propensity)
    frozen = freeze(features, nuisances.fold)
    weight = torch.ones_like(nuisances.y) if nuisances.weight is None else nuisances.weight
    prior = precisions(frozen, nuisances.levels, nuisances.t, nuisances.y, weight)
    out = []
    for w in dirichlet(len(weight), draws, seed, nuisances.weight).split(CHUNK):
        given = Replicates(nuisances.t[None], nuisances.y[None], w)
        out.append(_means(nuisances, solve(frozen, nuisances.levels, given, prior), w, kind))
    return torch.cat(out)


def network_draws(
    found: CrossFit, x: Tensor, draws: int, seed: int = 0, kind: Kind = "average", *,
    likelihood: Likelihood | None = None, network: Callable[[int], nn.Module] | None = None,
    propensity: Callable[[int], nn.Module] | None = None,
) -> Tensor:  # fmt: skip
    """(draws, K) of θ, all networks trained anew in each draw: as many as the cross-fit has. x, …: as they were.

    Folds and initial weights are the same in all draws, which so differ in their rows' weights and in nothing else.
    """
    nuisances, steps, out = found.nuisances, found.facts["steps"], []
    n, t, y, levels = len(nuisances.y), nuisances.t, nuisances.y, nuisances.levels
    if likelihood is None:
        likelihood = Bernoulli() if bool(((y == 0) | (y == 1)).all()) else Gaussian()
    x = whole(x, network) if network is not None and embedded(network) else x.float()
    inputs, own = steep(x) if is_columns(x) else x, key(seed, "refit") >> 1
    used = [one for one in learners_of(x, n, steps, network) if found.outcome[one.name] > 0]
    names = {name for name, w in found.propensity.items() if w > 0}
    fold = found.foreteller.runs[0][0].fold
    many, net = len(fold), learner("network", propensity, x, n, steps)
    for w in dirichlet(n, draws, seed, nuisances.weight).split(max(1, CHUNK // many)):
        each = fold.repeat(len(w), 1), w.float().repeat_interleave(many, 0)
        sets = Sets(*each, found.facts["folds"], 1, starts=many)
        made = outcomes(x, inputs, t, y, likelihood, levels, sets, used, own, found.facts["noise"])
        treated = propensities(x, inputs, t, levels, sets, made.features, net, own, None, names)
        heads = (v.unflatten(0, (len(w), many)).mean(1) for v in (made.mean, treated.probability))
        out.append(_means(nuisances, Heads(*heads), w, kind))
    return torch.cat(out)


def _means(nuisances: Nuisances, heads: Heads, w: Tensor, kind: Kind) -> Tensor:
    """(R, K): the score's weighted mean under each draw's own models."""
    out = [
        average(scores(nuisances._replace(outcome=mu, propensity=e), kind), one)
        for mu, e, one in zip(heads.outcome, heads.propensity, w, strict=True)
    ]
    return torch.stack(out)
