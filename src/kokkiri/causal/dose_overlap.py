"""Overlap of two doses: whether rows near each of them are alike enough to stand for all.

The measures are those of levels (causal/overlap.py) with densities for probabilities. A row could hardly have had a
dose whose density, given what is adjusted for, is less than THIN times what it is in the mean over all rows; and rows
near a dose, weighted as the correction weights them, are worth fewer than they are.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from kokkiri.causal.overlap import THIN, Arm, Overlap
from kokkiri.causal.variables import number_name
from kokkiri.numerics.dose import Doses, near


def dose_overlap(name: str, doses: Doses, values: tuple[float, float], at: Tensor, outcome: Tensor) -> Overlap:
    """Of the two values that are compared. at, outcome: (2, n) their density given each row's x, and mean outcome."""
    found = [near(doses, value, own, THIN) for value, own in zip(values, at, strict=True)]
    thin = found[0].thin | found[1].thin
    size = (outcome[0] - outcome[1]).abs()
    effect = float(size[thin].sum() / size.sum()) if float(size.sum()) > 0 else math.nan
    arms = [
        Arm(f"{name} near {number_name(v)}", round(f.rows), f.effective, f.heaviest, f.total, f.se, torch.empty(0))
        for v, f in zip(values, found, strict=True)
    ]
    least = float((at / at.mean(1, keepdim=True).clamp(min=1e-300)).min())
    return Overlap(arms[0], arms[1], "average", float(thin.double().mean()), effect, least, doses=True)
