"""The Bayesian bootstrap with everything solved again in each draw: heads in closed form, or whole networks.

In a draw the rows have Dirichlet weights, for the models as for the mean of the score. Heads (the last layers, on
features that stay as the first cross-fit left them) are one batch of ridge and logistic regressions, whose priors are
found by evidence; whole networks are a herd, many times the work, and the yardstick for the heads.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from kokkiri.causal.crossfit import Sets
from kokkiri.causal.networks import CrossFit, learner, learners_of, steep
from kokkiri.causal.outcomes import outcomes
from kokkiri.causal.propensities import propensities
from kokkiri.likelihoods import Bernoulli, Gaussian
from kokkiri.numerics.effects import Kind, Nuisances, average, dirichlet, scores
from kokkiri.numerics.heads import Frozen, Heads, Replicates, freeze, precisions, solve
from kokkiri.numerics.random import key
from kokkiri.types import Likelihood

CHUNK = 50  # draws at once


def head_draws(found: CrossFit, draws: int, seed: int = 0, kind: Kind = "average", most: int = 0) -> Tensor:
    """(draws, K) of θ, outcome and propensity solved anew on the networks' features in each draw.

    most: how many principal directions of the features are kept, those of greatest variance; 0 for all.
    """
    nuisances = found.nuisances
    frozen = freeze(found.features, nuisances.fold)
    if most and frozen.features.shape[-1] > most + 1:
        frozen = Frozen(_principal(frozen.features, most), frozen.fold)
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
    """(draws, K) of θ, all networks trained anew in each draw: `folds` of each kind a draw. x, …: as they were."""
    nuisances, steps, out = found.nuisances, found.facts["steps"], []
    n, t, y, levels = len(nuisances.y), nuisances.t, nuisances.y, nuisances.levels
    if likelihood is None:
        likelihood = Bernoulli() if bool(((y == 0) | (y == 1)).all()) else Gaussian()
    x = x.float()
    inputs = steep(x) if x.ndim == 2 else x
    used = [one for one in learners_of(x, n, steps, network) if found.outcome[one.name] > 0]
    names = {name for name, w in found.propensity.items() if w > 0}
    for part, w in enumerate(dirichlet(n, draws, seed, nuisances.weight).split(CHUNK)):
        sets = Sets(nuisances.fold.expand(len(w), n), w.float(), found.facts["folds"], 1)
        own = key(seed, "refit", part) >> 1
        made = outcomes(x, inputs, t, y, likelihood, levels, sets, used, own, found.facts["noise"])
        treated = propensities(
            x, inputs, t, levels, sets, made.features, learner("network", propensity, x, n, steps), own, None, names
        )
        out.append(_means(nuisances, Heads(made.mean, treated.probability), w, kind))
    return torch.cat(out)


def _means(nuisances: Nuisances, heads: Heads, w: Tensor, kind: Kind) -> Tensor:
    """(R, K): the score's weighted mean under each draw's own models."""
    out = [
        average(scores(nuisances._replace(outcome=mu, propensity=e), kind), one)
        for mu, e, one in zip(heads.outcome, heads.propensity, w, strict=True)
    ]
    return torch.stack(out)


def _principal(features: Tensor, most: int) -> Tensor:
    """(F, n, 1 + most) of (F, n, D), the first column being 1."""
    phi = features[..., 1:]
    _, _, v = torch.linalg.svd(phi, full_matrices=False)
    return torch.cat([features[..., :1], phi @ v[:, :most].mT], -1)
