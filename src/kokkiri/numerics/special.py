"""Special functions that torch lacks, in float64: incomplete beta, and the distribution functions built on it.

Written around the saddle point, as in Loader 2000, "Fast and accurate computation of binomial probabilities": with
large arguments lgamma(a) - lgamma(b) loses all digits, while deviances and Stirling errors are small to begin with.
DLMF: NIST Digital Library of Mathematical Functions, https://dlmf.nist.gov.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)

_STIRLING = (1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188, -691 / 360360)  # DLMF 5.11.1
_HALF_STEP = (-1 / 8, 1 / 192, -1 / 640, 17 / 14336, -31 / 18432, 691 / 180224)  # DLMF 5.11.8
_STEPS = 10
_SERIES_FROM = 10.0  # the first term left out is 1 / (156 z^13): 6e-16
_TINY = 1e-300  # added to what Lentz divides by: changes nothing but a zero
_TERMS = 20_000  # the fraction needs O(sqrt(min(a, b))) terms, and min(a, b) <= _LARGE
_LARGE = 3000.0  # beyond it the tail is integrated instead
_NODES = 60
_INFINITE_SIZE = 1e60  # counts up to 1e15 change log p by k² / size: 1e-30


def stirling_error(z: Tensor) -> Tensor:
    """What Stirling's formula leaves: log Γ(z) - [(z - ½) log z - z + ½ log 2π] for z > 0 (DLMF 5.11.1).

    Elementwise, differentiable, in z's dtype.

    >>> round(stirling_error(torch.tensor(1e9, dtype=torch.float64)).item() * 12e9, 9)
    1.0
    """
    small, large = z.clamp(max=_SERIES_FROM), z.clamp(min=_SERIES_FROM)
    direct = torch.lgamma(small) - (small - 0.5) * small.log() + small - HALF_LOG_2PI
    return torch.where(z < _SERIES_FROM, direct, _odd_series(_STIRLING, large))


def log_half_step(a: Tensor) -> Tensor:
    """The small part of a half step of log Γ: log Γ(a + ½) - log Γ(a) - ½ log a for a >= ½; differentiable, a's dtype.

    Ten steps up by the recurrence DLMF 5.5.1, then the series 5.11.8.

    >>> round(log_half_step(torch.tensor(1.0, dtype=torch.float64)).exp().item() ** 2, 12)  # Γ(3/2)² = π / 4
    0.785398163397
    """
    z = a + _STEPS
    steps = torch.log1p(0.5 / (a[..., None] + torch.arange(_STEPS, device=a.device))).sum(-1)
    return _odd_series(_HALF_STEP, z) + 0.5 * torch.log1p(_STEPS / a) - steps


def log_ratio(a: Tensor, b: Tensor, difference: Tensor) -> Tensor:
    """log(a / b) for a, b > 0, where a - b is known more precisely than subtraction gives.

    >>> log_ratio(torch.tensor(1.0), torch.tensor(1.0), torch.tensor(1e-12)).item() > 0
    True
    """
    relative = difference / b
    near = relative.abs() < 0.5
    # the branch not taken must have a finite derivative too
    return torch.where(near, torch.log1p(torch.where(near, relative, 0.0)), a.log() - b.log())


def log1p_minus(t: Tensor) -> Tensor:
    """log(1 + t) - t for t > -1, to full precision for small t, where it is -t² / 2.

    >>> round(log1p_minus(torch.tensor(1e-9, dtype=torch.float64)).item() * 2e18, 8)
    -1.0
    """
    small = torch.where(t.abs() < 0.01, t, 0.0)
    series = torch.zeros_like(t)
    for k in range(10, 1, -1):  # the first term left out is 0.01^9 * 2 / 11 of the first: below rounding
        series = series * small + (-1) ** (k + 1) / k
    return torch.where(t.abs() < 0.01, series * small * small, torch.log1p(t) - t)


def incomplete_beta(a: Tensor, b: Tensor, x: Tensor, complement: Tensor | None = None) -> Tensor:
    """I_x(a, b) = ∫_0^x t^(a-1) (1-t)^(b-1) dt / B(a, b), elementwise, float64 (DLMF 8.17.2).

    a, b > 0; 0 <= x <= 1. complement: 1 - x, where it is known more precisely than subtraction gives.
    The continued fraction DLMF 8.17.22, on the side of the mean where it converges fast (8.17.4 for the other): good to
    1e-10 of itself below the mean, and to 1e-14 of one above it, where the swapped arguments give the tail.

    >>> incomplete_beta(torch.tensor(2.0), torch.tensor(2.0), torch.tensor(0.5)).item()
    0.5
    """
    complement = 1 - x.double() if complement is None else complement
    a, b, x, y = (t.double() for t in torch.broadcast_tensors(a, b, x, complement))
    n = a + b + 2
    swap = torch.where(x < y, x > (a + 1) / n, y < (b + 1) / n)  # the smaller of x and y has not been rounded
    a, b = torch.where(swap, b, a), torch.where(swap, a, b)
    x, y = torch.where(swap, y, x), torch.where(swap, x, y)
    large = torch.minimum(a, b) > _LARGE
    tail = torch.empty_like(x)
    tail[~large] = _beta_fraction(*(t[~large] for t in (a, b, x, y)))
    tail[large] = _beta_integral(*(t[large] for t in (a, b, x, y)))
    return torch.where(swap, 1 - tail, tail)


def _odd_series(coefficients: tuple[float, ...], z: Tensor) -> Tensor:
    """c_0 / z + c_1 / z³ + c_2 / z⁵ + …, by Horner's rule in fused steps: it is part of training."""
    inverse = z.reciprocal()
    square, (*rest, total) = inverse * inverse, z.new_tensor(coefficients).unbind()
    for coefficient in reversed(rest):
        total = torch.addcmul(coefficient, total, square)
    return total * inverse


def log_beta_power(a: Tensor, b: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """log[x^a y^b / B(a, b)] with x + y = 1: minus the deviance of x from a / (a + b), and Stirling's errors."""
    n = a + b
    excess = b * x - a * y  # x = (a + excess) / n, y = (b - excess) / n; the linear terms cancel in the sum
    up, down = excess / a, -excess / b
    near = (up.abs() < 0.5) & (down.abs() < 0.5)
    around = a * log1p_minus(torch.where(near, up, 0.0)) + b * log1p_minus(torch.where(near, down, 0.0))
    away = a * log_ratio(x * n, a, excess) + b * log_ratio(y * n, b, -excess)
    errors = stirling_error(n) - stirling_error(a) - stirling_error(b)
    return torch.where(near, around, away) + errors + 0.5 * (a.log() + b.log() - n.log()) - HALF_LOG_2PI


def _beta_fraction(a: Tensor, b: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """x^a y^b / (a B(a, b)) / (1 + d1/(1 + d2/(1 + …))), d as in DLMF 8.17.23.

    Its even part, f0 + p1/(f1 + p2/(f2 + …)) with f_m = 1 + d_2m + d_2m+1 and p_m = -d_2m-1 d_2m, where 1 + d_2m+1 is
    written out: as it stands it cancels to nothing for large a. Evaluated by Lentz's method as modified by Thompson and
    Barnett 1986.
    """
    above = a * y - b * x  # a - (a + b) x, >= -1 on this side of the mean, so that nothing below cancels
    value = (1 + above) / (a + 1) + _TINY
    numerator, denominator = value, torch.zeros_like(x)
    for m in range(1, _TERMS):
        s = a + m
        t, before = s + m, s + (m - 1)
        even = (m * x) * (b - m) / (before * t)
        product = even * x * (s - 1) * (s - 1 + b) / (before * (t - 2))
        factor = (s * (above + m * y) + t + m * (2 * a + 3 * m)) / (t * (t + 1)) + even
        denominator = (factor + product * denominator + _TINY).reciprocal()
        numerator = factor + product / numerator + _TINY
        change = numerator * denominator
        value *= change
        if not bool(((change - 1).abs() > 5e-16).any()):  # twice the rounding; written so that NaN ends it
            break
    return (log_beta_power(a, b, x, y) - a.log()).exp() / value


def _beta_integral(a: Tensor, b: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """The lower tail for large a and b by Gauss-Legendre from x downwards, until the density has fallen by e^-60.

    The log-density is concave: slope and curvature at x bound how far that is. x is not far above the mean.
    """
    knots, weights = (torch.from_numpy(t).to(x.device) for t in np.polynomial.legendre.leggauss(_NODES))
    a, b, x, y = (t[..., None] for t in (a, b, x, y))
    slope = ((a - 1) / x - (b - 1) / y).clamp(min=0.0)
    curvature = (a - 1) / x**2 + (b - 1) / y**2
    reach = torch.minimum(120 / (slope + (slope**2 + 120 * curvature).sqrt()), x)
    reach = torch.where(x > 0, reach, 0.0)
    step = reach * (knots + 1) / 2
    t, s = x - step, y + step
    density = (log_beta_power(a, b, t, s) - t.log() - s.log()).exp()
    return (torch.where(t > 0, density, 0.0) * weights * reach / 2).sum(-1)


def normal_cdf(z: Tensor) -> Tensor:
    """Φ(z), accurate in the lower tail."""
    return 0.5 * torch.erfc(-z * math.sqrt(0.5))


def student_t_cdf(t: Tensor, df: Tensor) -> Tensor:
    """P(T <= t) with df degrees of freedom, accurate in the lower tail: ½ I_{df/(df+t²)}(df/2, ½) for t < 0.

    Source: DLMF 8.17 with Abramowitz and Stegun 26.7.1. df may be a fraction.

    >>> round(student_t_cdf(torch.tensor(-1.0), torch.tensor(1.0)).item(), 12)
    0.25
    """
    t, df = t.double(), df.double()
    ratio = t * t / df
    half = torch.full_like(df, 0.5)
    outside = incomplete_beta(df / 2, half, 1 / (1 + ratio), ratio / (1 + ratio))  # P(|T| > |t|)
    outside = torch.where(torch.isinf(ratio), 0.0, outside)
    return torch.where(t < 0, 0.5 * outside, 1 - 0.5 * outside)


def poisson_cdf(k: Tensor, rate: Tensor) -> Tensor:
    """P(K <= k), 0 for k < 0: of a negative binomial whose size float64 cannot tell from infinity.

    (torch.special.gammaincc, DLMF 8.4.10, is right to nine digits only.)

    >>> round(poisson_cdf(torch.tensor(0.0), torch.tensor(1.0)).log().item(), 12)
    -1.0
    """
    return negative_binomial_cdf(k, rate, torch.full_like(rate, _INFINITE_SIZE, dtype=torch.float64))


def poisson_survival(k: Tensor, rate: Tensor) -> Tensor:
    """P(K > k), accurate where it is small."""
    return negative_binomial_survival(k, rate, torch.full_like(rate, _INFINITE_SIZE, dtype=torch.float64))


def negative_binomial_cdf(k: Tensor, mean: Tensor, size: Tensor) -> Tensor:
    """P(K <= k) = I_{size/(size+mean)}(size, floor(k) + 1) with variance mean + mean² / size (DLMF 8.17.24).

    >>> round(negative_binomial_cdf(torch.tensor(0.0), torch.tensor(1.0), torch.tensor(1.0)).item(), 12)
    0.5
    """
    k, mean, size = k.double().floor(), mean.double(), size.double()
    total = size + mean
    below = incomplete_beta(size, k.clamp(min=0) + 1, size / total, mean / total)
    return torch.where(k < 0, 0.0, below)


def negative_binomial_survival(k: Tensor, mean: Tensor, size: Tensor) -> Tensor:
    """P(K > k), accurate where it is small."""
    k, mean, size = k.double().floor(), mean.double(), size.double()
    total = size + mean
    above = incomplete_beta(k.clamp(min=0) + 1, size, mean / total, size / total)
    return torch.where(k < 0, 1.0, above)
