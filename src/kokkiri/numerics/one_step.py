"""The contrast of two levels by the one-step correction, for any number of replicates, as a ratio of two means.

A numerator and a denominator per row, whose weighted means divide to the effect, say all: the estimate, its standard
error, and by reweighting its Bayesian bootstrap. With the prediction μ_k(x) of the outcome under level k and the
propensity e_k(x):

    average     μ_a - μ_v + 1{t=a} (y - μ_a) / e_a - 1{t=v} (y - μ_v) / e_v              over 1
    treated     1{t=a} (y - μ_v) - 1{t=v} (e_a / e_v) (y - μ_v)                           over 1{t=a}
    untreated   1{t=a} (e_v / e_a) (y - μ_a) - 1{t=v} (y - μ_a)                           over 1{t=v}

Source: Robins, Rotnitzky & Zhao 1994, JASA 89; Hahn 1998, Econometrica 66, for the treated.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

WHOM = ("average", "treated", "untreated")


class Parts(NamedTuple):
    """(R, n) each: rows whose weighted sums divide to the effect."""

    above: Tensor
    below: Tensor


class Estimates(NamedTuple):
    """(R,) each: effects and their standard errors."""

    estimate: Tensor
    se: Tensor


def parts(
    treatment: Tensor,
    y: Tensor,
    outcome: Tensor,
    propensity: Tensor,
    level: int,
    versus: int,
    whom: str = "average",
    floor: float = 0.0,
) -> Parts:
    """The rows' parts. treatment, y: (R or 1, n); outcome, propensity: (R or 1, K, n), the latter
    raised to `floor` where something is divided by it.

    >>> t, y = torch.tensor([[1, 0]]), torch.tensor([[3.0, 1.0]])
    >>> flat, half = torch.zeros(1, 2, 2), torch.full((1, 2, 2), 0.5)
    >>> parts(t, y, flat, half, 1, 0).above.mean()  # weighting alone
    tensor(2.)
    """
    p_a, p_v = propensity[:, level], propensity[:, versus]
    e_a, e_v = p_a.clamp(min=floor), p_v.clamp(min=floor)  # where they divide, and nowhere else
    mu_a, mu_v = outcome[:, level], outcome[:, versus]
    had_a, had_v = (treatment == level).to(y.dtype), (treatment == versus).to(y.dtype)
    if whom == "treated":
        above = (had_a - had_v * p_a / e_v) * (y - mu_v)
        below = had_a
    elif whom == "untreated":
        above = (had_a * p_v / e_a - had_v) * (y - mu_a)
        below = had_v
    else:
        above = mu_a - mu_v + had_a * (y - mu_a) / e_a - had_v * (y - mu_v) / e_v
        below = torch.ones_like(y)
    return Parts(*torch.broadcast_tensors(above, below))


def estimates(found: Parts, weight: Tensor) -> Estimates:
    """Weighted ratios, and standard errors by the influence of single rows; weight (R or 1, n), 0 or 1 for the latter.

    >>> e, se = estimates(Parts(torch.tensor([[1.0, 3.0]]), torch.ones(1, 2)), torch.ones(1, 2))
    >>> e.item(), round(se.item(), 4)
    (2.0, 0.7071)
    """
    size = (weight * found.below).sum(-1)
    estimate = (weight * found.above).sum(-1) / size
    rest = weight * (found.above - estimate.unsqueeze(-1) * found.below)
    return Estimates(estimate, rest.square().sum(-1).sqrt() / size)
