"""Posterior intervals of rates: of a Beta in closed form, of anything else from draws."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from kokkiri.errors import UsageError
from kokkiri.numerics.quantiles import beta_quantile


class Interval(NamedTuple):
    """A probability (or a ratio of two) for the next person, and the central interval of the rate behind it.

    error: the Monte Carlo standard error of the ends; 0 where they are quantiles in closed form.
    """

    value: float
    low: float
    high: float
    error: float = 0.0


def beta_interval(a: float, b: float, level: float = 0.95) -> Interval:
    """Mean and central interval of Beta(a, b).

    >>> [round(v, 6) for v in beta_interval(1.0, 1.0, 0.9)]
    [0.5, 0.05, 0.95, 0.0]
    """
    tails = torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=torch.float64)
    shape = torch.tensor([a, b], dtype=torch.float64)
    low, high = beta_quantile(tails, shape[0], shape[1], tails.flip(0)).tolist()
    return Interval(a / (a + b), low, high)


def drawn_interval(drawn: Tensor, value: float, level: float = 0.95) -> Interval:
    """The central interval of (S,) draws, and its error: half the distance between draws a standard error of rank away.

    >>> drawn_interval(torch.arange(1001).double(), 500.0, 0.9)
    Interval(value=500.0, low=50.0, high=950.0, error=7.0)
    """
    n, tail = len(drawn), (1 - level) / 2
    rank = max(1, round((n * tail * (1 - tail)) ** 0.5))
    at = [min(n - 1, max(0, round(q * n - 0.5))) for q in (tail, 1 - tail)]
    near = [(max(0, k - rank), min(n - 1, k + rank)) for k in at]
    ordered = np.partition(drawn.double().numpy(), sorted({*at, *near[0], *near[1]}))  # sorting all takes longer
    spread = [float(ordered[b] - ordered[a]) / 2 for a, b in near]
    return Interval(value, float(ordered[at[0]]), float(ordered[at[1]]), max(spread))


def must_be_level(level: float) -> None:
    """An error where no interval holds so much."""
    if not 0 < level < 1:
        raise UsageError(
            f"no interval holds a probability of {level:g}", needs="a level between 0 and 1", found=f"{level:g}",
            fix=f"{level / 100:g}, if that was meant in percent" if 1 < level < 100 else "0.95",
        )  # fmt: skip
