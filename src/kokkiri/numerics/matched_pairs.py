"""Matched pairs, and how much hidden bias their signed ranks withstand: Rosenbaum's Γ.

In a pair matched on what was measured, a hidden cause may make one of the two at most Γ times as likely (in odds) to be
the treated one. The signed-rank statistic T, the sum of the ranks of positive differences, then lies at most as high as
if each were positive with probability Γ / (1 + Γ), independently (Rosenbaum 2002, "Observational studies", section
4.3.3).
"""

from __future__ import annotations

import bisect
import math
from operator import itemgetter
from typing import NamedTuple

import torch
from torch import Tensor


class Pairs(NamedTuple):
    """Rows of the two levels that belong together: treated, control (m,). left: how many treated rows found nobody."""

    treated: Tensor
    control: Tensor
    left: int


def match(score: Tensor, treated: Tensor, control: Tensor, caliper: float) -> Pairs:
    """Pairs whose scores (the log-odds of treatment) differ by at most the caliper, each row in one pair at most.

    The rows of the smaller arm choose in turn the nearest row that is left, those first whose own score is the hardest
    to find in the other arm. score: (n,); treated, control: numbers of rows. Equals are taken in the order of these,
    which must know nothing of the outcome.

    >>> score = torch.tensor([0.0, 1.0, 0.1, 0.9, 5.0])
    >>> pairs = match(score, torch.tensor([0, 1]), torch.tensor([2, 3, 4]), 0.5)
    >>> pairs.treated.tolist(), pairs.control.tolist(), pairs.left
    ([1, 0], [3, 2], 0)
    """
    few, many = (treated, control) if len(treated) <= len(control) else (control, treated)
    pool = sorted(zip(score[many].tolist(), many.tolist(), strict=True), key=itemgetter(0))
    values = [value for value, _ in pool]
    free, right, left = _Free(len(pool)), score[few].tolist(), few.tolist()
    chosen: list[tuple[int, int]] = []
    outermost_first = sorted(range(len(left)), key=lambda i: -right[i] * (1 if few is treated else -1))
    for i in outermost_first:
        near = free.nearest(values, right[i])
        if near is not None and abs(values[near] - right[i]) <= caliper:
            free.take(near)
            chosen.append((left[i], pool[near][1]))
    first = torch.tensor([a for a, _ in chosen], dtype=torch.int64)
    second = torch.tensor([b for _, b in chosen], dtype=torch.int64)
    pair = (first, second) if few is treated else (second, first)
    return Pairs(*pair, len(treated) - len(chosen))


class _Free:
    """Which places of a sorted list are left: the next one on either side, with paths halved."""

    def __init__(self, n: int) -> None:
        self.up, self.down, self.n = list(range(n + 1)), list(range(n + 1)), n  # down is shifted by one: 0 is nobody

    def take(self, i: int) -> None:
        self.up[i], self.down[i + 1] = i + 1, i

    def nearest(self, values: list[float], at: float) -> int | None:
        i = bisect.bisect_left(values, at)
        above, below = self._find(self.up, i), self._find(self.down, i) - 1
        if above == self.n and below < 0:
            return None
        if above == self.n or (below >= 0 and at - values[below] <= values[above] - at):
            return below
        return above

    @staticmethod
    def _find(parent: list[int], i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i


class SignedRanks(NamedTuple):
    """Of the pairs that differ: whether the difference is positive (m,), and the rank of its size among all pairs."""

    positive: Tensor
    rank: Tensor
    statistic: Tensor  # T, the ranks of positive differences added up


def signed_ranks(difference: Tensor) -> SignedRanks:
    """Ranks of |difference|, ties averaged; pairs without a difference take ranks and count on neither side.

    >>> signed_ranks(torch.tensor([1.0, -1.0, 3.0, 0.0])).statistic
    tensor(6.5000, dtype=torch.float64)
    """
    d = difference.double()
    _, place, count = d.abs().unique(return_inverse=True, return_counts=True)
    last = count.cumsum(0).double()
    rank = (last - (count - 1) / 2)[place]
    positive = d > 0
    return SignedRanks(positive[d != 0], rank[d != 0], rank[positive].sum())


def highest_p_value(ranks: SignedRanks, gamma: float) -> float:
    """The largest one-sided p-value of "no effect" against a positive one under hidden bias of up to Γ, by the normal
    approximation (Rosenbaum 2002, eq. 4.23).

    >>> lead = [22, 5, 23, -6, 18, 25, 13, 47, 15, 16, 6, 1, 2, 7, 0, 4, -9, -3, 36, 25, 1, 16, 42, 30, 25, 23, 32, 17,
    ...     9, -3, 60, 14, 14]
    >>> ranks = signed_ranks(torch.tensor(lead, dtype=torch.float64))
    >>> [round(highest_p_value(ranks, gamma), 4) for gamma in (3.0, 4.25, 5.0)]  # as in table 4.1
    [0.0136, 0.0468, 0.074]
    """
    share = gamma / (1.0 + gamma)
    mean, variance = share * ranks.rank.sum(), share * (1.0 - share) * ranks.rank.square().sum()
    return float(torch.special.ndtr((mean - ranks.statistic) / variance.sqrt()))


def critical_gamma(ranks: SignedRanks, alpha: float = 0.05) -> float:
    """The Γ at which the largest one-sided p-value reaches alpha: above it, bias could explain it all; 1 at least."""
    total, square, statistic = float(ranks.rank.sum()), float(ranks.rank.square().sum()), float(ranks.statistic)
    z = float(torch.special.ndtri(torch.tensor(1 - alpha, dtype=torch.float64)))
    # (T - λ S₁)² = z² λ (1 - λ) S₂, the root with T above the mean
    a, b, c = total**2 + z * z * square, -(2 * statistic * total + z * z * square), statistic**2
    share = (-b - math.sqrt(max(b * b - 4 * a * c, 0.0))) / (2 * a)
    return max(1.0, share / (1.0 - share)) if statistic > total / 2 else 1.0


def undoing_gamma(difference: Tensor, weight: Tensor) -> Tensor:
    """(S,) the Γ at which the Hodges-Lehmann estimate could be zero: ranks of positive differences over the others'.

    At T = Γ / (1 + Γ) of all ranks the observed T is what bias alone would lead to. With weights (S, m) of the pairs
    (the Bayesian bootstrap) ranks are places in the weighted distribution of |difference|; 1 at least.

    >>> d = torch.tensor([3.0, 2.0, -1.0], dtype=torch.float64)
    >>> undoing_gamma(d, torch.ones(1, 3, dtype=torch.float64) / 3)
    tensor([5.0000], dtype=torch.float64)
    """
    d = difference
    _, place = d.abs().unique(return_inverse=True)
    together = torch.zeros(len(weight), int(place.max()) + 1, dtype=weight.dtype).index_add_(1, place, weight)
    below = together.cumsum(-1) - together
    moment = weight * (below[:, place] + (together[:, place] + weight) / 2)  # the rank of a tie is its middle
    positive, negative = moment[:, d > 0].sum(-1), moment[:, d < 0].sum(-1)
    ratio = torch.where(negative > 0, positive / negative.clamp(min=torch.finfo(weight.dtype).tiny), torch.inf)
    return ratio.clamp(min=1.0)
