"""One number that mends a finished prediction: the temperature of class probabilities, the stretch of a density.

Both are maxima of the log-likelihood of rows that nothing was trained on, found in the logarithm of the number.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

LIMIT = math.log(1000.0)  # the number is sought between 1/1000 and 1000
GRID = 29  # values tried first where a likelihood may have several maxima


class Factor(NamedTuple):
    """The number, and the standard error of its logarithm from the curvature there; NaN at the limits, or unknown."""

    value: float
    log_error: float


def temperature(log_probabilities: Tensor, y: Tensor, *, prior: float = 0.0) -> Factor:
    """T that maximises Σ_i log softmax(l_i / T)[y_i] + prior (log 1/T - 1/T), for l (B, C), y (B,) class numbers.

    The sum is concave in 1/T, so that there is one maximum, and Newton's method in log T, kept in a bracket, finds it
    to rounding. Rows whose truth was excluded (l = -∞) are lost at any T, and count for nothing.
    prior: in rows. The second term has its maximum at T = 1; without it few rows of which all are right give T = 0,
    and then the first mistake costs everything.
    Source: Guo et al. 2017, "On calibration of modern neural networks", eq. 9.

    >>> l = torch.tensor([[0.8, 0.2]], dtype=torch.float64).log().expand(4, 2)
    >>> round(temperature(3 * l, torch.tensor([0, 0, 0, 1])).value, 3)  # 3 log 4 / T = log 3
    3.786
    """
    truth = log_probabilities.double().gather(1, y[:, None])[:, 0]
    possible = truth != -math.inf
    logits = (log_probabilities.double() - truth[:, None])[possible]  # relative to the truth's, which is then 0
    finite = torch.where(logits.isfinite(), logits, 0.0)

    def slopes(t: float) -> tuple[float, float]:
        beta = math.exp(-t)
        p = torch.softmax(beta * logits, 1)
        mean = (p * finite).sum(1, keepdim=True)
        first = -float(mean.sum()) + prior * (1 / beta - 1)
        second = -float((p * (finite - mean).square()).sum()) - prior / beta**2
        return -beta * first, beta * beta * second + beta * first  # by the chain rule, beta = exp(-t)

    return _factor(slopes, -LIMIT, LIMIT, 0.0)


def stretch(log_density: Callable[[Tensor], Tensor], residual: Tensor) -> Factor:
    """C that maximises Σ log p(mean + residual / c) - n log c: spreads about the mean times c; n = residual.numel().

    log_density: residuals (B, ...), shrunk by c, -> (B,) nats, differentiable twice. For one normal of known variance c
    is the root mean square of residual / sd. Mixtures may have several maxima: a grid finds the highest to start from.

    >>> normal = torch.distributions.Normal(0.0, 2.0)
    >>> round(stretch(normal.log_prob, torch.tensor([3.0, -5.0], dtype=torch.float64)).value, 6)  # √(34 / 2) / 2
    2.061553
    """
    residual, n = residual.double(), residual.numel()

    def value(t: Tensor) -> Tensor:
        return log_density(residual * torch.exp(-t)).sum() - n * t

    def slopes(t: float) -> tuple[float, float]:
        with torch.enable_grad():
            at = torch.tensor(t, dtype=torch.float64, device=residual.device, requires_grad=True)
            (first,) = torch.autograd.grad(value(at), at, create_graph=True)
            (second,) = torch.autograd.grad(first, at)
        return first.item(), second.item()

    grid = torch.linspace(-LIMIT, LIMIT, GRID, dtype=torch.float64, device=residual.device)
    with torch.no_grad():
        values = torch.stack([value(t) for t in grid])
    if values.isnan().all():
        return Factor(math.nan, math.nan)
    best = int(torch.where(values.isnan(), -math.inf, values).argmax())
    return _factor(slopes, float(grid[max(best - 1, 0)]), float(grid[min(best + 1, GRID - 1)]), float(grid[best]))


def _factor(slopes: Callable[[float], tuple[float, float]], low: float, high: float, start: float) -> Factor:
    """Newton's method on the slope within [low, high], replaced by bisection where it would leave the bracket."""
    t, move = start, high - low
    for _ in range(200):
        first, second = slopes(t)
        if math.isnan(first):
            return Factor(math.nan, math.nan)
        if first == 0:
            break
        low, high = (t, high) if first > 0 else (low, t)
        newton = t - first / second if second < 0 else math.nan
        slow = not (low < newton < high) or abs(newton - t) > 0.5 * move  # NaN is slow
        new = (low + high) / 2 if slow else newton
        move, t = abs(new - t), new
        if move <= 1e-14 * max(1.0, abs(t)):
            break
    inside = abs(t) < LIMIT - 1e-9
    _, second = slopes(t)
    return Factor(math.exp(t), (-second) ** -0.5 if inside and second < 0 else math.nan)
