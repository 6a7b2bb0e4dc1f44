"""Bounds on E[Y(k)] when a hidden cause may shift the odds of treatment by a factor of up to Λ, for everybody.

The marginal sensitivity model (Tan 2006): the odds of level k given x and the hidden cause are within [1/Λ, Λ] times
those given x. Two bounds:

- `weighting_bounds`: of the weighted mean, weights moved within their limits (Zhao, Small & Bhattacharya 2019,
  "Sensitivity analysis for inverse probability weighting estimators via the percentile bootstrap", JRSS-B 81). They
  hold, but are not sharp: the moved weights need not fit the covariates.
- `sharp_scores`: per row, means whose mean is the sharp bound (Dorn & Guo 2023, "Sharp sensitivity analysis for inverse
  propensity weighting via quantile balancing", JASA 118; the scores are those of Dorn, Guo & Kallus 2024, "Doubly-valid
  / doubly-sharp sensitivity analysis for causal inference with unmeasured confounding", JASA). Among rows of level k
  the worst hidden cause multiplies the share Λ / (1 + Λ) of the smallest outcomes by 1/Λ and the others by Λ, so that
  the outcome of rows that had another level is

      ρ(x) = μ(x) / Λ + (1 - 1/Λ) CVaR(x),   CVaR = q + E[(Y - q)₊ | x] / (1 - τ),   τ = Λ / (1 + Λ), q the τ-quantile.

  A wrong quantile makes the bound wider, never false. At Λ = 1 the scores are those of the average effect.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Tail(NamedTuple):
    """What lies above a quantile. quantile, expected: (L, n) q(x) and CVaR(x) for each of L factors Λ."""

    quantile: Tensor
    expected: Tensor


def weighting_bounds(y: Tensor, propensity: Tensor, factors: Tensor, weight: Tensor | None = None) -> Tensor:
    """(2, L, S) lower and upper bounds of E[Y(k)] from the rows of level k alone: y, propensity (m,), weight (S, m).

    The largest of Σ w y (1 + z / odds) / Σ w (1 + z / odds) over z in [1/Λ, Λ]: a fractional linear programme, whose z
    is Λ above a threshold of y and 1/Λ below it (Zhao, Small & Bhattacharya 2019, proposition 2). All thresholds are
    tried: O(m log m).

    >>> y, e = torch.tensor([0.0, 1.0, 2.0]), torch.tensor([0.5, 0.5, 0.5])
    >>> weighting_bounds(y, e, torch.tensor([1.0, 3.0])).squeeze(-1)
    tensor([[1.0000, 0.6000],
            [1.0000, 1.4000]])
    """
    w = torch.ones(1, len(y), dtype=y.dtype) if weight is None else weight
    order = y.argsort()
    y, spare, w = y[order], ((1.0 - propensity) / propensity)[order], w[:, order]
    found = [_thresholds(y, spare, w, factor) for factor in factors]
    return torch.stack([torch.stack([low for low, _ in found]), torch.stack([high for _, high in found])])


def _thresholds(y: Tensor, spare: Tensor, w: Tensor, factor: Tensor) -> tuple[Tensor, Tensor]:
    """The least and the greatest over thresholds, (S,) each."""

    def totals(below: Tensor, above: Tensor, value: Tensor | float) -> Tensor:
        first = torch.nn.functional.pad((w * (1.0 + spare * below) * value).cumsum(-1), (1, 0))
        last = torch.nn.functional.pad((w * (1.0 + spare * above) * value).cumsum(-1), (1, 0))
        return first + last[:, -1:] - last

    up, down = factor, 1.0 / factor
    high = (totals(down, up, y) / totals(down, up, 1.0)).amax(-1)
    low = (totals(up, down, y) / totals(up, down, 1.0)).amin(-1)
    return low, high


def number_tails(predicted: Tensor, residuals: Tensor, factors: Tensor, weight: Tensor | None = None) -> Tail:
    """The upper tail of outcomes that scatter around their prediction as the residuals of level k do.

    predicted: (n,), residuals: (m,) of the rows that had the level, weight: (m,).
    """
    r, order = residuals.sort()
    w = torch.ones_like(r) if weight is None else weight[order]
    below = (w.cumsum(0) - w / 2) / w.sum()
    share = factors / (1.0 + factors)
    place = torch.searchsorted(below, share).clamp(max=len(r) - 1)
    quantile = r[place]
    above = (r - quantile.unsqueeze(-1)).clamp(min=0.0) @ w / w.sum()
    expected = quantile + above * (1.0 + factors)
    return Tail(predicted + quantile.unsqueeze(-1), predicted + expected.unsqueeze(-1))


def event_tails(probability: Tensor, factors: Tensor) -> Tail:
    """The upper tail of an outcome that is 0 or 1: known from its probability, (n,).

    >>> [t.squeeze().tolist() for t in event_tails(torch.tensor([0.2, 0.9]), torch.tensor([3.0]))]
    [[0.0, 1.0], [0.800000..., 1.0]]
    """
    above = 1.0 / (1.0 + factors).unsqueeze(-1)  # 1 - τ
    return Tail((probability > above).to(probability.dtype), (probability / above).clamp(max=1.0))


class Bounded(NamedTuple):
    """The scores of one level. had: (n,) 1 where a row has it. own: (L, n) y of those. other: (L, n) ρ(x), what y would
    be for the others. correction: (L, n) of rows that have it, before the odds: R - ρ.
    """

    had: Tensor
    own: Tensor
    other: Tensor
    correction: Tensor


def sharp_scores(
    y: Tensor, had: Tensor, predicted: Tensor, above: Tail, below: Tail, factors: Tensor
) -> tuple[Bounded, Bounded]:
    """The parts of the lower and the upper bound's scores of one level.

    y, had, predicted: (n,); above: the tail of y, below: that of -y. The mean over all rows is that of
    had · own + (1 - had) · other + had · (1 - e) / e · correction; see `average` and `among`.
    """

    def upper(y: Tensor, predicted: Tensor, tail: Tail) -> tuple[Tensor, Tensor]:
        inverse = (1.0 / factors).unsqueeze(-1)
        other = predicted * inverse + (1.0 - inverse) * tail.expected
        excess = (y - tail.quantile).clamp(min=0.0) * (1.0 + factors).unsqueeze(-1)
        return other, y * inverse + (1.0 - inverse) * (tail.quantile + excess) - other

    own = y.expand(len(factors), -1)
    high, low = upper(y, predicted, above), upper(-y, -predicted, below)
    return Bounded(had, own, -low[0], -low[1]), Bounded(had, own, *high)


def average(part: Bounded, propensity: Tensor) -> Tensor:
    """(L, n) scores whose mean bounds E[Y(k)]: of all rows."""
    odds = (1.0 - propensity) / propensity
    return part.had * part.own + (1.0 - part.had) * part.other + part.had * odds * part.correction


def among(part: Bounded, propensity: Tensor, others: Tensor, propensity_others: Tensor) -> Tensor:
    """(L, n) scores whose mean, over that of `others`, bounds E[Y(k) | the other level]: e.g. of the treated without
    treatment. others: (n,) 1 where a row has the other level, propensity_others its probability.
    """
    return others * part.other + part.had * (propensity_others / propensity) * part.correction


def crossing(bounds: Tensor, factors: Tensor) -> Tensor:
    """The Λ at which a bound reaches zero: bounds (..., L) for increasing factors, all positive or less at the end.

    Straight between grid points in log Λ; 1 where already the first is not positive, infinite where the last still is.

    >>> crossing(torch.tensor([[2.0, 1.0, -1.0], [-1.0, -2.0, -3.0], [3.0, 2.0, 1.0]]), torch.tensor([1.0, 2.0, 8.0]))
    tensor([4., 1., inf])
    """
    logs = factors.log()
    fallen = (bounds <= 0).to(torch.int64)
    first = fallen.argmax(-1, keepdim=True)
    before = (first - 1).clamp(min=0)
    high, low = bounds.gather(-1, before), bounds.gather(-1, first)
    part = torch.where(first > 0, high / (high - low).clamp(min=torch.finfo(bounds.dtype).tiny), 0.0)
    found = (logs[before] + part * (logs[first] - logs[before])).exp().squeeze(-1)
    return torch.where(fallen.any(-1), found, torch.inf)
