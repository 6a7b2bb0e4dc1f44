"""Whether what is said is what is seen: reliability, calibration errors, and what chance alone would show."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from kokkiri.numerics.random import philox
from kokkiri.numerics.scores import affordable, bootstrap, midranks

Grouping: TypeAlias = Callable[[Tensor, int], Tensor]  # (values, K) -> group numbers below K, or K of each class


class Reliability(NamedTuple):
    """Said against seen in K groups of rows: mean probability (K,), observed frequency (K,), how many rows (K,)."""

    probability: Tensor
    frequency: Tensor
    rows: Tensor


def equal_mass_groups(values: Tensor, groups: int) -> Tensor:
    """(B,) -> (B,) group numbers 0 … K-1 of about equal size, K <= groups: ties are never cut apart.

    >>> equal_mass_groups(torch.tensor([0.9, 0.1, 0.2, 0.8]), 2).tolist()
    [1, 0, 0, 1]
    """
    group = ((midranks(values) - 0.5) * groups / max(len(values), 1)).long()
    return group.unique(return_inverse=True)[1]


def equal_width_groups(values: Tensor, groups: int) -> Tensor:
    """(...) values in [0, 1] -> (...) group numbers 0 … K-1: k holds (k/K, (k+1)/K], and 0 belongs to the first.

    >>> equal_width_groups(torch.tensor([0.0, 0.5, 0.51, 1.0]), 2).tolist()
    [0, 0, 1, 1]
    """
    edges = torch.arange(1, groups, dtype=torch.float64, device=values.device) / groups
    return torch.bucketize(values.double().contiguous(), edges)


def class_by_class(values: Tensor, groups: int) -> Tensor:
    """(B, C) -> (B, C) group numbers: K of equal width for each class."""
    offset = groups * torch.arange(values.shape[1], device=values.device)
    return equal_width_groups(values, groups) + offset


def reliability(probability: Tensor, outcome: Tensor, groups: int = 10) -> Reliability:
    """(B,) probabilities, (B,) what happened -> what was said against what was seen, in groups of equal mass."""
    index = equal_mass_groups(probability, groups)
    rows = torch.bincount(index)
    mean = lambda values: torch.bincount(index, values.double()) / rows
    return Reliability(mean(probability), mean(outcome), rows)


def calibration_error(bins: Reliability) -> Tensor:
    """ECE = Σ_k n_k / n |frequency_k - probability_k|.

    Source: Naeini, Cooper & Hauskrecht 2015, "Obtaining well calibrated probabilities using Bayesian binning".

    >>> calibration_error(reliability(torch.tensor([0.2, 0.2, 0.9, 0.9]), torch.tensor([0, 0, 1, 1]).bool(), 2))
    tensor(0.1500, dtype=torch.float64)
    """
    return (bins.rows * (bins.frequency - bins.probability).abs()).sum() / bins.rows.sum()


def expected_calibration_error(
    probability: Tensor, outcome: Tensor, groups: int = 15, group: Grouping = equal_width_groups
) -> Tensor:
    """The same in groups of equal width, 15 unless told, as most tables have it: of the class that was named (B,).

    Or of all classes, (B, C) probabilities and which one came true, with `group=class_by_class`: the mean over classes.
    Source: Guo et al. 2017, "On calibration of modern neural networks", eq. 3; over classes Kull et al. 2019, "Beyond
    temperature scaling".

    >>> expected_calibration_error(torch.tensor([0.9, 0.9, 0.6]), torch.tensor([1, 0, 1]).bool())
    tensor(0.4000, dtype=torch.float64)
    """
    index = group(probability, groups)
    return _grouped_error(index, outcome.double() - probability.double(), int(index.max()) + 1)


def _grouped_error(index: Tensor, gap: Tensor, groups: int) -> Tensor:
    return torch.bincount(index.flatten(), gap.flatten(), minlength=groups).abs().sum() / gap.numel()


def calibration_error_interval(
    probability: Tensor,
    outcome: Tensor,
    groups: int = 10,
    *,
    seed: int,
    level: float = 0.95,
    group: Grouping = equal_mass_groups,
) -> tuple[Tensor, Tensor]:
    """The interval of the calibration error by `wide_interval`; (B,) or, class by class, (B, C)."""
    index = group(probability, groups)
    gap = outcome.double() - probability.double()
    k = int(index.max()) + 1
    error = lambda rows: _grouped_error(index[rows], gap[rows], k)
    return wide_interval(error, len(gap), seed=seed, level=level, draws=affordable(400, gap.numel()))


def wide_interval(
    error: Callable[[Tensor], Tensor], n: int, *, seed: int, level: float = 0.95, draws: int = 400
) -> tuple[Tensor, Tensor]:
    """An interval of an error >= 0 of n rows that errs on the wide side.

    Noise makes such an error too large, and that of a bootstrap draw larger still. So this is the union of the
    percentile interval and of its mirror image about the estimate (the "basic" one, Davison & Hinkley 1997, eq. 5.6),
    cut at 0. error: row numbers -> ().
    """
    tails = torch.tensor([0.5 - level / 2, 0.5 + level / 2], dtype=torch.float64)
    low, high = bootstrap(error, n, seed=seed, draws=draws).quantile(tails)
    estimate = error(torch.arange(n))
    return torch.minimum(low, 2 * estimate - high).clamp(min=0), torch.maximum(high, 2 * estimate - low)


def calibration_error_by_chance(
    probability: Tensor, groups: int = 10, *, seed: int, draws: int = 400, group: Grouping = equal_mass_groups
) -> Tensor:
    """(draws,) calibration errors that the same probabilities would show if they were exactly right.

    Outcomes are drawn from the probabilities themselves, (B,) or, one class a row, (B, C): only an error beyond most of
    these says that they are wrong.
    Source: Bröcker & Smith 2007, "Increasing the reliability of reliability diagrams".
    """
    index, p = group(probability, groups), probability.double()
    k = int(index.max()) + 1
    uniform = (
        torch.from_numpy(philox(seed, "calibration by chance", i).random(len(p)))
        for i in range(affordable(draws, p.numel()))
    )
    return torch.stack([_grouped_error(index, _outcome(p, u) - p, k) for u in uniform])


def _outcome(p: Tensor, uniform: Tensor) -> Tensor:
    """Whether it came true, (B,); or which class did, one-hot (B, C)."""
    if p.ndim == 1:
        return (uniform < p).double()
    drawn = (uniform[:, None] >= p.cumsum(1)[:, :-1]).sum(1)
    return torch.nn.functional.one_hot(drawn, p.shape[1]).double()


def pit_distance(pit: Tensor) -> Tensor:
    """(B,) -> ∫_0^1 |F(u) - u| du, F the distribution function of these values: 0 if uniform, at most 1/2.

    The calibration error of predictions of numbers: by how much, on average over the levels u, the share of truths
    below the u-quantile differs from u. In closed form between order statistics. Right predictions show about
    0.3133 / √B by chance, the mean of |Brownian bridge|. Source: after Kuleshov, Fenner & Ermon 2018, "Accurate
    uncertainties for deep learning using calibrated regression", who square the differences at a few levels.

    >>> pit_distance(torch.tensor([0.5])), pit_distance(torch.tensor([0.25, 0.75]))
    (tensor(0.2500, dtype=torch.float64), tensor(0.1250, dtype=torch.float64))
    """
    u, n = pit.double().sort().values, len(pit)
    edges = torch.cat([u.new_zeros(1), u, u.new_ones(1)])
    step = torch.arange(n + 1, dtype=torch.float64, device=u.device) / n
    # the integral of |step - u| from a to b is G(b) - G(a), G(u) = (u - step)|u - step| / 2
    primitive = lambda at: (at - step) * (at - step).abs() / 2
    return (primitive(edges[1:]) - primitive(edges[:-1])).sum()
