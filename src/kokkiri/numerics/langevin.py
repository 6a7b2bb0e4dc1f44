"""Langevin dynamics with gradients from batches: a sampler that rejects nothing, for data beyond one gradient.

    dθ = s v dt,   dv = s ∇log p(θ) dt - γ v dt + √(2γ) dW       leaves p(θ) N(v; 0, 1) as it is; s: a scale each

A step of length ε drifts for ε/2, kicks, and drifts for ε/2: the splitting ABOBA of Leimkuhler & Matthews 2013,
"Rational construction of stochastic numerical methods for molecular sampling", of second order in what θ does. The kick
is half the gradient, friction and noise, half the gradient:

    v ← v + ½ ε s g;   v ← a v + √n ξ;   v ← v + ½ ε s g,            a = e^{-γε}

Without momentum (a = 0, n = 1) this is Welling & Teh 2011, with ε² in place of their ε. A gradient from a batch is in
error by noise of variance V, and kicks by c (1 + a)² of its own, c = ¼ ε² s² V: that much less is added (Ahn,
Korattikara & Welling 2012 and Chen, Fox & Guestrin 2014 take it off in the same way, at first order in ε),

    n = 1 - a² - c (1 + a)²,   and so that the batches' part is at most η of the whole:   a <= (η - c) / (η + c).

Only the diagonal of V is known, so η must be small: where gradients are correlated, some directions are warmer and some
colder than they should be, by about η. To move a scale then takes some 2 / η passes over the data.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor


class Walk(NamedTuple):
    """Where the chains are, and how they move in scales: theta (R, P), velocity (R, P)."""

    theta: Tensor
    velocity: Tensor


class Pace(NamedTuple):
    """One length of step: step is ε; keep a and noise √n, (P,) each; scale s (P,)."""

    step: float
    keep: Tensor
    noise: Tensor
    scale: Tensor


def pace(step: float, friction: float, scale: Tensor, gradient_variance: Tensor, share: float = 0.1) -> Pace:
    """What a step of ε keeps of the velocity and adds to it. friction: γ. scale, gradient_variance: s and V. share: η.

    >>> from math import exp
    >>> one = torch.ones(2, dtype=torch.float64)
    >>> calm = pace(0.1, 1.0, one, 0 * one)
    >>> torch.allclose(calm.keep, one * exp(-0.1)), torch.allclose(calm.keep**2 + calm.noise**2, one)
    (True, True)
    >>> rough = pace(0.1, 1.0, one, 20 * one)  # c = 0.05: the batches' part is a tenth, so more must be forgotten
    >>> [round(float(t), 6) for t in (rough.keep[0], 0.05 * (1 + rough.keep[0]) ** 2 / (1 - rough.keep[0] ** 2))]
    [0.333333, 0.1]
    """
    own = 0.25 * step**2 * scale**2 * gradient_variance
    keep = torch.minimum(torch.full_like(own, -friction * step).exp(), (share - own) / (share + own)).clamp(min=0.0)
    noise = (1 - keep**2 - own * (1 + keep) ** 2).clamp(min=0.0).sqrt()
    return Pace(step, keep, noise, scale)


def longest_step(curvature: float, scale: Tensor, variance: Tensor, stable: float, share: float = 0.1) -> float:
    """ε: `stable` of where it becomes unstable, 2 / √curvature, and no longer than leaves c = η / 2 on average.

    >>> one = torch.ones(2)
    >>> longest_step(100.0, one, 0 * one, 0.5), round(longest_step(100.0, one, 80 * one, 0.5), 4)
    (0.1, 0.05)
    """
    rough = float((scale**2 * variance).mean())
    return min(2 * stable / curvature**0.5, (2 * share / rough) ** 0.5 if rough > 0 else float("inf"))


def advance(walk: Walk, slope: Callable[[Tensor], Tensor], by: Pace, normal: Tensor) -> Walk:
    """One step. slope: θ (R, P) -> ∇log p (R, P), or an estimate of it. normal: ξ (R, P)."""
    half = 0.5 * by.step * by.scale
    theta = walk.theta + half * walk.velocity
    kick = half * slope(theta)
    velocity = by.keep * (walk.velocity + kick) + by.noise * normal + kick
    return Walk(theta + half * velocity, velocity)


def largest_curvature(
    slope: Callable[[Tensor], Tensor], theta: Tensor, scale: Tensor, direction: Tensor, rounds: int = 12
) -> float:
    """The largest |eigenvalue| of s ∇²log p s over R places at once, by differences of gradients and the power method.

    A step longer than 2 / √ of it is unstable. direction: (R, P), any start.

    >>> precision = torch.tensor([1.0, 100.0], dtype=torch.float64)
    >>> one = torch.ones(1, 2, dtype=torch.float64)
    >>> round(largest_curvature(lambda theta: -precision * theta, one, one[0], one), 3)
    100.0
    """
    here, small = slope(theta), 1e-2
    unit = lambda t: t / t.norm(dim=1, keepdim=True).clamp(min=torch.finfo(t.dtype).tiny)
    direction, size = unit(direction), 0.0
    for _ in range(rounds):
        change = scale * (slope(theta + small * scale * direction) - here) / small
        size = float(change.norm(dim=1).max())
        direction = unit(change)
    return size
