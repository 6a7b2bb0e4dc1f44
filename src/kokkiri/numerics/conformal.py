"""Split conformal prediction: sets that hold the truth as often as promised, whatever the model, for exchangeable rows.

A score says how badly a truth fits its prediction. Of n + 1 exchangeable rows, the score of the new one is among the k
smallest with probability k / (n + 1) (or more, with ties): so the k-th smallest of n known scores, k = ⌈(n + 1) level⌉,
bounds it with probability `level` at least, and level + 1 / (n + 1) at most without ties.
Source: Vovk, Gammerman & Shafer 2005, "Algorithmic learning in a random world"; Lei et al. 2018,
"Distribution-free predictive inference for regression", section 2.2.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def rank(n: int, level: float) -> int:
    """K = ⌈(n + 1) level⌉, counted from 1: the place, in ascending order, of the score that bounds. n + 1 means ∞.

    >>> rank(9, 0.9), rank(10, 0.9), rank(8, 0.9)
    (9, 10, 9)
    """
    return math.ceil((n + 1) * level - 1e-9)  # 10 · 0.9 is 9, and must not become 10 by rounding


def threshold(scores: Tensor, level: float) -> Tensor:
    """(n, ...) scores -> (...) the k-th smallest along the first axis; ∞ where n rows are too few to promise `level`.

    >>> threshold(torch.tensor([3.0, 1.0, 2.0]), 0.5), threshold(torch.tensor([3.0, 1.0, 2.0]), 0.9)
    (tensor(2.), tensor(inf))
    """
    k = rank(len(scores), level)
    if k > len(scores):
        return torch.full(scores.shape[1:], math.inf, dtype=scores.dtype, device=scores.device)
    return scores.kthvalue(max(k, 1), 0).values


# -- numbers ---------------------------------------------------------------------------------------------------------


def distance(y: Tensor, mean: Tensor, spread: Tensor) -> Tensor:
    """|y - mean| / spread: intervals mean ± threshold · spread. Source: Lei et al. 2018, section 5.2.

    >>> distance(torch.tensor([3.0]), torch.tensor([1.0]), torch.tensor([4.0]))
    tensor([0.5000])
    """
    return (y - mean).abs() / spread


def excess(y: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """How far y lies outside [low, high], negative inside: intervals [low - threshold, high + threshold].

    Source: Romano, Patterson & Candès 2019, "Conformalized quantile regression", eq. 6.

    >>> excess(torch.tensor([3.0, 1.5]), torch.tensor([1.0, 1.0]), torch.tensor([2.0, 2.0]))
    tensor([ 1.0000, -0.5000])
    """
    return torch.maximum(low - y, y - high)


def widened(low: Tensor, high: Tensor, by: Tensor) -> tuple[Tensor, Tensor]:
    """[low - by, high + by]; where `by` is so negative that nothing would be left, the middle alone."""
    middle = (low + high) / 2
    return torch.minimum(low - by, middle), torch.maximum(high + by, middle)


# -- classes ---------------------------------------------------------------------------------------------------------


def adaptive(probabilities: Tensor, uniform: Tensor) -> Tensor:
    """(B, C), (B,) uniforms on [0, 1) -> (B, C) score of each class: the mass of more probable ones + uniform · p.

    The set of a row is {c: score_c <= threshold}: it is large where the model is unsure. With right probabilities the
    scores of truths are uniform, so that sets have exactly the mass that was promised; some of them are empty.
    Equally probable classes stand in the order of their numbers.
    Source: Romano, Sesia & Candès 2020, "Classification with valid and adaptive coverage", algorithm 1.

    >>> adaptive(torch.tensor([[0.2, 0.5, 0.3]]), torch.tensor([0.5]))
    tensor([[0.9000, 0.2500, 0.6500]])
    """
    p, order = torch.sort(probabilities, dim=-1, descending=True, stable=True)
    scores = p.cumsum(-1) - p + uniform[:, None] * p
    return torch.zeros_like(scores).scatter(-1, order, scores)


def doubt(probabilities: Tensor) -> Tensor:
    """(B, C) -> (B, C) score of each class, 1 - p: sets of all classes that are probable enough, small on average.

    Source: Sadinle, Lei & Wasserman 2019, "Least ambiguous set-valued classifiers with bounded error levels".
    """
    return 1 - probabilities
