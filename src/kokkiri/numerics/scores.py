"""How good predictions are: proper scores, errors and ranking, as functions of tensors.

Scores of single rows come back as (B,), so that means, standard errors and paired differences stay the caller's choice.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from kokkiri.numerics.random import philox


def standard_error(values: Tensor) -> Tensor:
    """Standard error of the mean of (B,) values, sd / √B with B - 1 in the variance; NaN below two values.

    >>> standard_error(torch.tensor([1.0, 3.0]))
    tensor(1.)
    """
    return values.std() / len(values) ** 0.5 if len(values) > 1 else torch.tensor(torch.nan)


def wilson(successes: Tensor | float, n: Tensor | float, level: float = 0.95) -> tuple[Tensor, Tensor]:
    """Score interval of a proportion: the p with |k/n - p| <= z √(p (1 - p) / n). (0, 1) where n is 0.

    Source: Wilson 1927, "Probable inference, the law of succession, and statistical inference".

    >>> [round(float(p), 4) for p in wilson(9, 10)]
    [0.5958, 0.9821]
    """
    k, n = torch.as_tensor(successes, dtype=torch.float64), torch.as_tensor(n, dtype=torch.float64)
    z2 = torch.special.ndtri(torch.tensor(0.5 + level / 2, dtype=torch.float64)) ** 2
    centre = (k + z2 / 2) / (n + z2)
    half = (z2 * (k * (n - k) / n.clamp(min=1) + z2 / 4)).clamp(min=0).sqrt() / (n + z2)
    return (centre - half).clamp(min=0), (centre + half).clamp(max=1)


def bootstrap(statistic: Callable[[Tensor], Tensor], n: int, *, seed: int, draws: int = 400) -> Tensor:
    """(draws,) values of `statistic(rows)`, rows drawn from n with replacement (Efron 1979, "Bootstrap methods")."""
    draws = affordable(draws, n)
    index = (torch.from_numpy(philox(seed, "bootstrap", i).integers(0, n, n)) for i in range(draws))
    return torch.stack([statistic(i).double() for i in index])


def affordable(draws: int, size: int) -> int:
    """A few million look-ups give an interval two digits."""
    return min(draws, max(50, 4_000_000 // max(size, 1)))


# -- classes ---------------------------------------------------------------------------------------------------------


def log_score(probabilities: Tensor, y: Tensor) -> Tensor:
    """(B, C), (B,) class numbers -> (B,) log p(y), nats: proper and local (Good 1952, "Rational decisions")."""
    return probabilities.gather(1, y[:, None])[:, 0].log()


def brier(probabilities: Tensor, y: Tensor) -> Tensor:
    """(B, C), (B,) -> (B,) Σ_c (p_c - [y = c])², between 0 and 2: for two classes twice the squared error of p_1.

    Source: Brier 1950, "Verification of forecasts expressed in terms of probability", eq. 2.

    >>> brier(torch.tensor([[0.75, 0.25]]), torch.tensor([0]))
    tensor([0.1250])
    """
    return probabilities.square().sum(1) - 2 * probabilities.gather(1, y[:, None])[:, 0] + 1


def correct(probabilities: Tensor, y: Tensor) -> Tensor:
    """(B, C), (B,) -> (B,) whether the most probable class is the true one. Its mean is the accuracy."""
    return probabilities.argmax(1) == y


def confusion(predicted: Tensor, y: Tensor, classes: int) -> Tensor:
    """(B,), (B,) -> (C, C) counts: row = true class, column = predicted class.

    >>> confusion(torch.tensor([0, 1, 1]), torch.tensor([0, 0, 1]), 2).tolist()
    [[1, 1], [0, 1]]
    """
    return torch.bincount(y * classes + predicted, minlength=classes * classes).reshape(classes, classes)


def midranks(values: Tensor) -> Tensor:
    """(B,) -> (B,) ranks from 1, ties sharing the mean of theirs.

    >>> midranks(torch.tensor([5.0, 2.0, 5.0])).tolist()
    [2.5, 1.0, 2.5]
    """
    _, inverse, counts = values.unique(return_inverse=True, return_counts=True)
    counts = counts.double()
    return (counts.cumsum(0) - (counts - 1) / 2)[inverse]


def auroc(score: Tensor, positive: Tensor) -> tuple[Tensor, Tensor]:
    """(B,) scores, (B,) bools -> P(a positive scores above a negative), ties counting one half, and its standard error.

    Source: DeLong, DeLong & Clarke-Pearson 1988, "Comparing the areas under two or more correlated receiver operating
    characteristic curves"; by midranks as in Sun & Xu 2014, "Fast implementation of DeLong's algorithm".

    >>> auroc(torch.tensor([0.1, 0.4, 0.35, 0.8]), torch.tensor([False, False, True, True]))[0].item()
    0.75
    """
    inside, outside = score[positive], score[~positive]
    ranks = midranks(score)
    beaten = (ranks[positive] - midranks(inside)) / len(outside)  # share of negatives below each positive
    beating = 1 - (ranks[~positive] - midranks(outside)) / len(inside)  # share of positives above each negative
    variance = standard_error(beaten) ** 2 + standard_error(beating) ** 2
    return beaten.mean(), variance.sqrt()


def average_precision(score: Tensor, positive: Tensor) -> Tensor:
    """Area under the precision-recall steps, Σ_t (recall_t - recall_{t-1}) precision_t over distinct thresholds t.

    >>> round(average_precision(torch.tensor([0.1, 0.4, 0.35, 0.8]), torch.tensor([0, 0, 1, 1]).bool()).item(), 4)
    0.8333
    """
    values, inverse, counts = score.unique(return_inverse=True, return_counts=True)
    hits = torch.zeros(len(values), dtype=torch.float64).index_add_(0, inverse, positive.double()).flip(0)
    precision = hits.cumsum(0) / counts.flip(0).cumsum(0)
    return (hits * precision).sum() / hits.sum()


# -- numbers ---------------------------------------------------------------------------------------------------------


def crps_normals(mean: Tensor, sd: Tensor, log_weights: Tensor, y: Tensor) -> Tensor:
    """(S, ...), (S, ...), (S,), (...) -> (...) CRPS of a mixture of S normals, in closed form and S² / 2 terms.

    Σ_s w_s A(y - μ_s, σ_s²) - ½ Σ_s Σ_r w_s w_r A(μ_s - μ_r, σ_s² + σ_r²) with A(m, v) = E|N(m, v)|.
    Source: Grimit et al. 2006, "The continuous ranked probability score for circular variables and its application to
    mesoscale forecast ensemble verification".

    >>> crps_normals(torch.zeros(1, 1), torch.ones(1, 1), torch.zeros(1), torch.zeros(1))  # (√2 - 1) / √π
    tensor([0.2337])
    """
    weight = log_weights.exp().reshape(-1, *[1] * y.ndim)
    score = (weight * _mean_size(y - mean, sd)).sum(0) - (weight**2 * sd).sum(0) / math.pi**0.5  # s = r: A = 2σ / √π
    for s in range(len(mean) - 1):
        pairs = _mean_size(mean[s + 1 :] - mean[s], torch.hypot(sd[s + 1 :], sd[s]))
        score = score - weight[s] * (weight[s + 1 :] * pairs).sum(0)
    return score


def _mean_size(mean: Tensor, sd: Tensor) -> Tensor:
    """E|X| of X ~ N(mean, sd²): sd √(2/π) exp(-z²/2) + mean erf(z / √2), z = mean / sd."""
    z = mean / sd
    return sd * (2 / math.pi) ** 0.5 * torch.exp(-z * z / 2) + mean * torch.erf(z / 2**0.5)


def crps_samples(samples: Tensor, y: Tensor, *, fair: bool = True) -> Tensor:
    """(S, ...), (...) -> (...) continuous ranked probability score E|X - y| - ½ E|X - X'|, in units of y; 0 is best.

    fair: pairs of different draws only, unbiased for the distribution they come from; else the score of the draws.
    Source: Gneiting & Raftery 2007, "Strictly proper scoring rules", eq. 21; by sorting, in S log S.

    >>> crps_samples(torch.tensor([[0.0], [2.0]]), torch.tensor([1.0]), fair=False)
    tensor([0.5000])
    """
    s = len(samples)
    ordered = samples.sort(0).values
    weight = (2 * torch.arange(s, dtype=samples.dtype, device=samples.device) - s + 1).reshape(-1, *[1] * y.ndim)
    return (samples - y).abs().mean(0) - (weight * ordered).sum(0) / (s * (s - 1 if fair else s))


def crps_quantiles(quantiles: Tensor, levels: Tensor, y: Tensor) -> Tensor:
    """(Q, ...) quantiles at (Q,) levels, (...) -> (...) CRPS = 2 ∫ (y - q_u)(u - [y < q_u]) du as a mean over levels.

    Levels (i - ½) / Q make this the midpoint rule. Source: Laio & Tamea 2007, "Verification tools for probabilistic
    forecasts of continuous hydrological variables".
    """
    u = levels.reshape(-1, *[1] * y.ndim)
    return (2 * (y - quantiles) * (u - (y < quantiles).to(quantiles.dtype))).mean(0)


def rmse(prediction: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """√(mean squared error) over the rows, and its standard error by the delta method, se(MSE) / (2 RMSE).

    >>> rmse(torch.tensor([1.0, 2.0]), torch.tensor([2.0, 1.0]))
    (tensor(1.), tensor(0.))
    """
    squared = (prediction - y).square()
    value = squared.mean().sqrt()
    return value, standard_error(squared) / (2 * value) if value > 0 else value * 0


def median_absolute_error(prediction: Tensor, y: Tensor, level: float = 0.95) -> tuple[Tensor, Tensor, Tensor]:
    """Median of |prediction - y|, with the interval between order statistics n/2 ± z √n / 2, free of any distribution.

    >>> [float(v) for v in median_absolute_error(torch.zeros(9), torch.arange(9.0))]
    [4.0, 1.0, 7.0]
    """
    error, n = (prediction - y).abs().sort().values, len(y)
    z = float(torch.special.ndtri(torch.tensor(0.5 + level / 2, dtype=torch.float64)))
    low, high = int(n / 2 - z * n**0.5 / 2), int(n / 2 + z * n**0.5 / 2)
    return error.quantile(0.5), error[max(low, 0)], error[min(high, n - 1)]


def r2(prediction: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """R² = 1 - mean (y - prediction)² / mean (y - ȳ)², and its standard error from the influence of each row.

    1 is perfect, 0 no better than the mean of these rows, below 0 worse; -inf where y is constant and missed.

    >>> float(r2(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([1.0, 2.0, 3.0]))[0])
    1.0
    """
    residual, deviation = (y - prediction).square(), (y - y.mean()).square()
    ratio = residual.mean() / deviation.mean()
    influence = (residual - ratio * deviation) / deviation.mean()
    return 1 - ratio, standard_error(influence)


def inside(low: Tensor, high: Tensor, y: Tensor) -> Tensor:
    """Whether y lies in the closed interval. The mean is the coverage; `wilson` says how well n rows can tell."""
    return (low <= y) & (y <= high)


def pit(samples: Tensor, y: Tensor, *, seed: int) -> Tensor:
    """(S, B), (B,) -> (B,) probability integral transform: the rank of y among draws, uniform if they are right.

    Ties (counts) are broken at random, so it is exactly uniform for discrete distributions as well.
    Source: Czado, Gneiting & Held 2009, "Predictive model assessment for count data".
    """
    below, ties = (samples < y).sum(0).double(), (samples == y).sum(0).double()
    uniform = torch.from_numpy(philox(seed, "pit").random(tuple(y.shape)))
    return (below + (ties + 1) * uniform.to(below.device)) / (len(samples) + 1)


def histogram(values: Tensor, groups: int) -> Tensor:
    """(B,) values in [0, 1] -> (groups,) counts.

    >>> histogram(torch.tensor([0.0, 0.3, 1.0]), 4).tolist()
    [1, 1, 0, 1]
    """
    return torch.bincount((values * groups).long().clamp(0, groups - 1), minlength=groups)
