"""Mixtures over S draws: averages, the split of the variance, and quantiles. Draws run along the first axis.

log_weights: (S,), log of weights that sum to one.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from kokkiri.numerics.distributions import Continuous, Counts, Distribution, NegativeBinomial, Poisson

_TOLERANCE = 1e-12  # of a quantile, relative to the narrowest component's scale
_ULPS = 2e-15  # of a quantile, relative to itself
_ROUNDING = 64 * 2.0**-52  # a count whose cdf misses q by less than this reaches it, so that quantile(cdf(k)) = k


class Moments(NamedTuple):
    """mean, and the two parts of the variance: within the draws, and between them."""

    mean: Tensor
    aleatoric: Tensor
    epistemic: Tensor


def average(values: Tensor, log_weights: Tensor) -> Tensor:
    """sum_s w_s values_s: (S, ...) -> (...).

    >>> average(torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([0.5, 0.5]).log()).tolist()
    [2.0, 3.0]
    """
    return (values * _over(log_weights.exp(), values)).sum(0)


def log_average(log_values: Tensor, log_weights: Tensor) -> Tensor:
    """The log of `average` of exponentials, without overflow: (S, ...) -> (...)."""
    return torch.logsumexp(log_values + _over(log_weights, log_values), 0)


def moments(mean: Tensor, variance: Tensor, log_weights: Tensor) -> Moments:
    """The law of total variance: E[var] + var[E] of a mixture whose components have this mean and variance, (S, ...).

    >>> moments(torch.tensor([-1.0, 1.0]), torch.tensor([2.0, 4.0]), torch.tensor([0.5, 0.5]).log())
    Moments(mean=tensor(0.), aleatoric=tensor(3.), epistemic=tensor(1.))
    """
    centre = average(mean, log_weights)
    return Moments(centre, average(variance, log_weights), average((mean - centre) ** 2, log_weights))


def quantile(components: Distribution, log_weights: Tensor, q: float) -> Tensor:
    """The least y with F(y) >= q, 0 < q < 1, F the mixture's distribution function: (S, ...) -> (...), float64."""
    if isinstance(components, Poisson | NegativeBinomial):
        return _count(components, log_weights, q)
    return _value(components, log_weights, q)


def _over(weights: Tensor, values: Tensor) -> Tensor:
    return weights.reshape(-1, *[1] * (values.ndim - 1))


def _value(components: Continuous, log_weights: Tensor, q: float) -> Tensor:
    """Newton's method on log F, kept in a bracket and replaced by bisection where it is slow.

    Works on the side with the smaller mass: the upper tail is turned around, so that it loses no digits to 1 - q.
    """
    location, scale = components.location, components.scale.expand_as(components.location)
    upper = q > 0.5
    sign, goal = (-1.0, 1 - q) if upper else (1.0, q)
    mass = components.survival if upper else components.cdf

    def below(u: Tensor) -> Tensor:
        return average(mass(sign * u), log_weights)

    centre, least, widest = sign * location, scale.amin(0), scale.amax(0)
    high = centre.amax(0)  # every component has half of its mass below its centre, and goal <= 1/2
    reach = widest * 4
    low = centre.amin(0) - reach
    while bool((below(low) > goal).any()):
        reach *= 4
        low = centre.amin(0) - reach

    spread = moments(centre, scale**2, log_weights)
    guess = math.sqrt(2) * torch.erfinv(torch.tensor(2 * goal - 1, dtype=torch.float64, device=scale.device))
    u = (spread.mean + guess * (spread.aleatoric + spread.epistemic).sqrt()).clamp(low, high)
    move = high - low
    for _ in range(400):  # bisection alone takes 120 from a bracket 1e24 times as wide as the tolerance
        now = below(u)
        density = average(components.log_prob(sign * u).exp(), log_weights)
        error = torch.log(now / goal)
        low, high = torch.where(error <= 0, u, low), torch.where(error >= 0, u, high)
        newton = u - error * now / density
        step, near = (newton - u).abs(), _TOLERANCE * least + _ULPS * u.abs()
        fast = (step <= 0.5 * move.abs()) | (step <= near)  # rounding alone is no reason to bisect
        new = torch.where((newton >= low) & (newton <= high) & fast, newton, 0.5 * (low + high))
        move, u = new - u, new
        if not bool((move.abs() > near).any()):  # NaN ends it, too
            break
    return sign * u


def _count(components: Counts, log_weights: Tensor, q: float) -> Tensor:
    """Bisection over whole numbers, from a bracket of ten standard deviations that is widened where it must be."""
    goal = q * (1 - _ROUNDING)

    def below(k: Tensor) -> Tensor:
        return average(components.cdf(k), log_weights)

    centre, within, between = moments(components.mean, components.variance, log_weights)
    reach = 10 * (within + between).sqrt() + 10
    low = (centre - reach).floor().clamp(min=-1)
    low = torch.where(below(low) < goal, low, -1.0)
    high = (centre + reach).ceil()
    while bool((below(high) < goal).any()):
        reach *= 2
        high = (centre + reach).ceil()
    for _ in range(1100):  # past 2^53 whole numbers have gaps, and the middle stops moving
        middle = ((low + high) / 2).floor()
        if not bool(((middle > low) & (middle < high)).any()):
            break
        reached = below(middle) >= goal
        low, high = torch.where(reached, low, middle), torch.where(reached, middle, high)
    return high
