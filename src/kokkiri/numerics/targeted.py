"""Targeting: predictions of the outcome moved along one direction, so that the plug-in is its own correction.

The move solves the score's equation Σ w 1{t=k} (y - μ*_k) / e_k = 0 for each level. Source: van der Laan & Rubin 2006,
"Targeted maximum likelihood learning"; the logistic move of bounded outcomes is Gruber & van der Laan 2010.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from kokkiri.numerics.effects import Kind, Nuisances, dirichlet, plug_in

_STEPS = 60


def targeted(nuisances: Nuisances, weight: Tensor | None = None, *, bounded: bool | None = None) -> Tensor:
    """(K, n), or (S, K, n) for weights (S, n): μ*_k = μ_k + ε_k / e_k, or expit(logit μ_k + ε_k / e_k) where `bounded`.

    weight: beside the rows' own. bounded: outcomes and predictions within 0 and 1; None: where they are. Levels that no
    row has are left as they are.

    >>> two, half = torch.tensor([0, 1]), torch.full((2, 2), 0.5, dtype=torch.float64)
    >>> y = torch.tensor([3.0, 5.0], dtype=torch.float64)
    >>> targeted(Nuisances(two, y, None, two, torch.zeros(2, 2, dtype=torch.float64), half)).mean(1)
    tensor([3., 5.], dtype=torch.float64)
    """
    mu, y = nuisances.outcome, nuisances.y
    e = nuisances.propensity.clamp(min=nuisances.least)
    if bounded is None:
        bounded = all(bool(((v >= 0) & (v <= 1)).all()) for v in (mu, y))
    w = torch.ones_like(y) if nuisances.weight is None else nuisances.weight
    w = w if weight is None else w * weight
    clever = one_hot(nuisances.t, len(mu)).T / e  # (K, n)
    share = w.unsqueeze(-2) * clever
    if not bounded:
        curve = (share * clever).sum(-1)
        step = (share * (y - mu)).sum(-1) / torch.where(curve > 0, curve, 1.0)
        return mu + step.unsqueeze(-1) / e
    least = torch.finfo(torch.float64).eps
    logit = torch.logit(mu.clamp(least, 1 - least))
    epsilon = torch.zeros(share.shape[:-1], dtype=torch.float64)
    for _ in range(_STEPS):
        found = torch.sigmoid(logit + epsilon.unsqueeze(-1) / e)
        slope = (share * (y - found)).sum(-1)
        curve = (share * clever * found * (1 - found)).sum(-1)
        step = slope / torch.where(curve > 0, curve, 1.0)
        epsilon = epsilon + step.clamp(-1.0, 1.0)
        if float(step.abs().max()) < 1e-14:
            break
    return torch.sigmoid(logit + epsilon.unsqueeze(-1) / e)


def targeted_posterior(nuisances: Nuisances, kind: Kind = "average", draws: int = 1000, seed: int = 0) -> Tensor:
    """(draws, K): the plug-in of targeted predictions, both under the same Dirichlet weights, draw by draw."""
    out, n = [], len(nuisances.y)
    bounded = all(bool(((v >= 0) & (v <= 1)).all()) for v in (nuisances.outcome, nuisances.y))
    for w in dirichlet(n, draws, seed).split(max(1, 1_000_000 // n)):
        moved = targeted(nuisances, w, bounded=bounded)
        own = w if nuisances.weight is None else w * nuisances.weight
        out += [plug_in(nuisances._replace(outcome=m, weight=v), kind) for m, v in zip(moved, own, strict=True)]
    return torch.stack(out)
