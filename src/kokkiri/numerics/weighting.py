"""What weights do to samples: how many rows they are worth, and how alike they make two groups."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


def effective_size(weight: Tensor) -> Tensor:
    """(Σ w)² / Σ w²: so many rows of equal weight know as much about a mean (Kish 1965, "Survey sampling"); (..., n).

    >>> effective_size(torch.tensor([[1.0, 1.0, 1.0], [1.0, 0.0, 0.0]]))
    tensor([3., 1.])
    """
    return weight.sum(-1).square() / weight.square().sum(-1).clamp(min=torch.finfo(weight.dtype).tiny)


class Differences(NamedTuple):
    """(p,) each: standardised differences of means, and the standard error that chance alone gives them."""

    difference: Tensor
    chance: Tensor


def standardised_differences(x: Tensor, first: Tensor, second: Tensor, scale: Tensor) -> Differences:
    """(mean of x under the first weights - under the second) / scale: x (n, p), weights (n,), scale (p,).

    chance: √(v₁ + v₂) / scale, with v = Σ w² (x - mean)² / (Σ w)² the variance of a weighted mean: heavy weights in the
    tails of a covariate make its mean less certain than their number says.

    >>> x = torch.tensor([[0.0], [2.0], [1.0], [3.0]])
    >>> group = torch.tensor([1.0, 1.0, 0.0, 0.0])
    >>> found = standardised_differences(x, group, 1 - group, torch.tensor([2.0]))
    >>> found.difference, found.chance
    (tensor([-0.5000]), tensor([0.5000]))
    """
    means, variances = [], []
    for w in (first, second):
        total = w.sum().clamp(min=torch.finfo(w.dtype).tiny)
        means.append((w @ x) / total)
        variances.append(w.square() @ (x - means[-1]).square() / total.square())
    safe = torch.where(scale > 0, scale, torch.ones_like(scale))
    chance = (variances[0] + variances[1]).sqrt() / safe
    return Differences(torch.where(scale > 0, (means[0] - means[1]) / safe, 0.0), chance)


def pooled_scale(x: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """√((s₁² + s₂²) / 2) of the groups without weighting, (p,), so that weights cannot make differences look small
    (Austin & Stuart 2015, "Moving towards best practice when using inverse probability of treatment weighting",
    Statistics in Medicine 34). first, second: (n,) bool.
    """
    if not x.shape[1]:
        return x.new_zeros(0)
    square = lambda g: x[g].var(0, correction=1) if int(g.sum()) > 1 else x.new_zeros(x.shape[1])
    return ((square(first) + square(second)) / 2).sqrt()


def arm_weights(
    treatment: Tensor, propensity: Tensor, level: int, versus: int, whom: str = "average"
) -> tuple[Tensor, Tensor]:
    """(n,) weights of the rows of both levels that make each stand for those the effect is about.

    average: 1 / e_k; treated: 1 and e_a / e_v; untreated: e_v / e_a and 1. propensity: (K, n).
    """
    had_a, had_v = (treatment == level).to(propensity.dtype), (treatment == versus).to(propensity.dtype)
    e_a, e_v = propensity[level], propensity[versus]
    tiny = torch.finfo(propensity.dtype).tiny
    if whom == "treated":
        return had_a, had_v * e_a / e_v.clamp(min=tiny)
    if whom == "untreated":
        return had_a * e_v / e_a.clamp(min=tiny), had_v
    return had_a / e_a.clamp(min=tiny), had_v / e_v.clamp(min=tiny)
