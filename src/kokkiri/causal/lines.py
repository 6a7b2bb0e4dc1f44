"""Straight lines for an outcome with normal noise, one for each level of the treatment: solved, not trained."""

from __future__ import annotations

from dataclasses import replace

import torch

from kokkiri.causal.arms import Arms
from kokkiri.causal.crossfit import Fitted, Learner, Rows, Sets, outputs_of
from kokkiri.herd import herd, sweep
from kokkiri.numerics.heads import Frozen, ridges


def lines(rows: Rows, sets: Sets, learner: Learner, arms: Arms) -> Fitted:
    """The replicas of all sets and folds. learner: makes linear networks of K outputs; rows.y: (n, 2), (level, y).

    Levels share nothing here, and each has its own noise and prior precision, both by evidence: where a treatment
    changes everything, one prior for all of its levels would bend the line of the rarer one.
    """
    many, levels = len(sets.fold), arms.levels
    x, t, y = rows.x.double(), rows.y[:, 0].long(), rows.y[:, 1]
    middle, unit = x.mean(0), x.std(0, correction=0)
    unit = torch.where(unit > 0, unit, 1.0)
    phi = torch.cat([torch.ones_like(x[:, :1]), (x - middle) / unit], 1)
    each = [ridges(Frozen(phi[None], fold), levels, t, y, w) for fold, w in zip(sets.fold, sets.weight, strict=True)]
    coded = torch.linalg.solve(arms.code().double(), torch.cat(each))  # (M F, K, D): what all share, contrasts
    weight = coded[..., 1:] / unit
    bias = coded[..., 0] - weight @ middle
    empty = sweep(herd(lambda: learner.make(levels), seed=range(many)), fold=range(sets.folds))
    solved = {"output.weight": weight.float(), "output.bias": bias.float()}
    assert {name: v.shape for name, v in empty.params.items()} == {name: v.shape for name, v in solved.items()}
    made = replace(empty, params=solved, weight=sets.masks(), hyper={})
    return Fitted(made, outputs_of(made, rows.x).unflatten(0, (many, sets.folds)))
