"""Targeting: predictions of the outcome moved along one direction, so that the plug-in is its own correction.

The move solves the score's equation Σ w 1{t=k} d_k (y - μ*_k) = 0 for each level, with d_k = 1 / e_k for the average
over all rows, e_j / e_k among those who had level j, and 1 / e_k in a group and 0 elsewhere. Source: van der Laan &
Rubin 2006, "Targeted maximum likelihood learning"; the logistic move of bounded outcomes is Gruber & van der Laan
2010.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from kokkiri.numerics.effects import Kind, Nuisances, dirichlet, odds_of, plug_in

_STEPS = 60


def targeted(
    nuisances: Nuisances, weight: Tensor | None = None, *, bounded: bool | None = None, kind: Kind = "average"
) -> Tensor:
    """(K, n), or (S, K, n) for weights (S, n): μ*_k = μ_k + ε_k d_k, or expit(logit μ_k + ε_k d_k) where `bounded`.

    kind: whom the plug-in will be about, as in `effects.scores`. weight: beside the rows' own. bounded: outcomes and
    predictions within 0 and 1; None: where they are. Levels that no row has are left as they are.

    >>> two, half = torch.tensor([0, 1]), torch.full((2, 2), 0.5, dtype=torch.float64)
    >>> y = torch.tensor([3.0, 5.0], dtype=torch.float64)
    >>> targeted(Nuisances(two, y, None, two, torch.zeros(2, 2, dtype=torch.float64), half)).mean(1)
    tensor([3., 5.], dtype=torch.float64)
    """
    mu, y = nuisances.outcome, nuisances.y
    direction = _direction(nuisances, kind)
    if bounded is None:
        bounded = all(bool(((v >= 0) & (v <= 1)).all()) for v in (mu, y))
    w = torch.ones_like(y) if nuisances.weight is None else nuisances.weight
    w = w if weight is None else w * weight
    clever = one_hot(nuisances.t, len(mu)).T * direction  # (K, n)
    share = w.unsqueeze(-2) * clever
    if not bounded:
        curve = (share * clever).sum(-1)
        step = (share * (y - mu)).sum(-1) / torch.where(curve > 0, curve, 1.0)
        return mu + step.unsqueeze(-1) * direction
    least = torch.finfo(torch.float64).eps
    logit = torch.logit(mu.clamp(least, 1 - least))
    epsilon = torch.zeros(share.shape[:-1], dtype=torch.float64)
    for _ in range(_STEPS):
        found = torch.sigmoid(logit + epsilon.unsqueeze(-1) * direction)
        slope = (share * (y - found)).sum(-1)
        curve = (share * clever * found * (1 - found)).sum(-1)
        step = slope / torch.where(curve > 0, curve, 1.0)
        epsilon = epsilon + step.clamp(-1.0, 1.0)
        if float(step.abs().max()) < 1e-14:
            break
    return torch.sigmoid(logit + epsilon.unsqueeze(-1) * direction)


def targeted_posterior(nuisances: Nuisances, kind: Kind = "average", draws: int = 1000, seed: int = 0) -> Tensor:
    """(draws, K): the plug-in of targeted predictions, both under the same Dirichlet weights, draw by draw."""
    out, n = [], len(nuisances.y)
    bounded = all(bool(((v >= 0) & (v <= 1)).all()) for v in (nuisances.outcome, nuisances.y))
    for w in dirichlet(n, draws, seed).split(max(1, 1_000_000 // n)):
        moved = targeted(nuisances, w, bounded=bounded, kind=kind)
        own = w if nuisances.weight is None else w * nuisances.weight
        out += [plug_in(nuisances._replace(outcome=m, weight=v), kind) for m, v in zip(moved, own, strict=True)]
    return torch.stack(out)


def _direction(nuisances: Nuisances, kind: Kind) -> Tensor:
    """(K, n) d_k."""
    e = nuisances.propensity
    if isinstance(kind, tuple):
        return odds_of(e, int(kind[1]), nuisances.least)
    about = kind.to(e.dtype) if isinstance(kind, Tensor) else e[0] * e[1] if kind == "overlap" else 1.0
    return about / e.clamp(min=nuisances.least)
