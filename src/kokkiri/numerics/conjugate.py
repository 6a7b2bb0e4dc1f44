"""Posteriors and evidences of conjugate families of values: rows become sums, sums become parameters. float64.

Leading axes are families side by side. weight: how often each row counts, >= 0. Evidences are in nats.
Sources: Gelman et al. 2013, "Bayesian data analysis", sections 2.4 to 2.6, 3.3, 3.6; Murphy 2007, "Conjugate Bayesian
analysis of the Gaussian distribution".
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from kokkiri.numerics.gammas import gamma_penalty, log_gamma_update, poisson_log_prob

LOG_2PI = math.log(2 * math.pi)


class Moments(NamedTuple):
    """Of rows: n, the sum of weights, (...); their mean, 0 where there are none; scatter, Σ w (y - mean)².

    mean: (...), or (..., D) of rows of D coordinates; scatter: (...), or (..., D, D).
    """

    n: Tensor
    mean: Tensor
    scatter: Tensor


def moments(y: Tensor, weight: Tensor) -> Moments:
    """Of values (..., N): in two passes, so that values near 1e9 with a spread of 1e-3 keep their digits.

    >>> moments(torch.tensor([1.0, 3.0]), torch.tensor([1.0, 1.0]))
    Moments(n=tensor(2.), mean=tensor(2.), scatter=tensor(2.))
    """
    n = weight.sum(-1)
    some = torch.where(n > 0, n, 1.0)
    rough = (weight * y).sum(-1) / some
    away = torch.where(weight > 0, y - rough.unsqueeze(-1), 0.0)
    left = (weight * away).sum(-1) / some
    scatter = (weight * (away - left.unsqueeze(-1)).square()).sum(-1)
    return Moments(n, rough + left, scatter)


def vector_moments(y: Tensor, weight: Tensor) -> Moments:
    """Of rows (..., N, D) with weights (..., N)."""
    n, w = weight.sum(-1), weight.unsqueeze(-1)
    some = torch.where(n > 0, n, 1.0).unsqueeze(-1)
    rough = (w * y).sum(-2) / some
    away = torch.where(w > 0, y - rough.unsqueeze(-2), 0.0)
    left = (w * away).sum(-2) / some
    away = (away - left.unsqueeze(-2)) * w.sqrt()
    return Moments(n, rough + left, away.mT @ away)


def gamma_poisson_log_evidence(shape: Tensor, rate: Tensor, y: Tensor, exposure: Tensor, weight: Tensor) -> Tensor:
    """Log ∫ Π Poisson(y_i | exposure_i λ)^w_i Gamma(λ | shape, rate) dλ: y, exposure, weight (..., N) -> (...).

    The log-likelihood at the posterior mean, and `gamma_penalty`.
    """
    total, seen = (weight * y).sum(-1), (weight * exposure).sum(-1)
    mean = (shape + total) / (rate + seen)
    likelihood = (weight * poisson_log_prob(y, exposure * mean.unsqueeze(-1))).sum(-1)
    return likelihood + gamma_penalty(shape, rate, total, seen)


class NormalBelief(NamedTuple):
    """μ ~ N(mean, variance), (...)."""

    mean: Tensor
    variance: Tensor


def learn_mean(belief: NormalBelief, noise: Tensor, seen: Moments) -> NormalBelief:
    """The mean of values whose variance is `noise`, after rows."""
    spread = noise + seen.n * belief.variance
    gain = seen.n * belief.variance / spread
    return NormalBelief(belief.mean + gain * (seen.mean - belief.mean), belief.variance * (noise / spread))


def known_variance_log_evidence(belief: NormalBelief, noise: Tensor, seen: Moments) -> Tensor:
    """Log N(y | mean 1, noise I + variance 1 1ᵀ), (...): the scatter, and how far the rows' mean is from the belief."""
    away = (seen.mean - belief.mean).square()
    ratio = seen.n * belief.variance / noise
    square = seen.scatter / noise + seen.n * away / (noise + seen.n * belief.variance)
    return -0.5 * (seen.n * (LOG_2PI + noise.log()) + torch.log1p(ratio) + square)


def normal_inverse_gamma_log_evidence(
    mean: Tensor, strength: Tensor, shape: Tensor, rate: Tensor, seen: Moments
) -> Tensor:
    """Of values whose mean and variance are unknown, (...): a multivariate Student t (Murphy 2007)."""
    residual = seen.scatter + shift(strength, seen.n) * (seen.mean - mean).square()
    unknown = log_gamma_update(shape, rate, seen.n / 2, residual / 2)
    return unknown - 0.5 * (seen.n * LOG_2PI + torch.log1p(seen.n / strength))


def normal_inverse_wishart_log_evidence(
    mean: Tensor, strength: Tensor, degrees: Tensor, factor: Tensor, seen: Moments
) -> Tensor:
    """Of rows of D coordinates, (...); factor: the lower Cholesky factor of the scale, (..., D, D) (Murphy 2007).

    With t_i the eigenvalues of scale^-½ (new scale - scale) scale^-½, |new scale| / |scale| = Π (1 + t_i): each of them
    is an update of a gamma, so that nothing cancels where the prior is strong.
    """
    away = (seen.mean - mean).unsqueeze(-1)
    gain = seen.scatter + shift(strength, seen.n)[..., None, None] * (away @ away.mT)
    half = torch.linalg.solve_triangular(factor, gain, upper=False)
    t = torch.linalg.eigvalsh(torch.linalg.solve_triangular(factor, half.mT, upper=False)).clamp(min=0)
    d = t.shape[-1]
    i = torch.arange(d, device=t.device)
    n, nu = seen.n.unsqueeze(-1), degrees.unsqueeze(-1)
    parts = log_gamma_update((nu - i) / 2, torch.ones_like(t), n / 2, t) - i / 2 * torch.log1p(t)
    volume = seen.n * factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    constant = seen.n * d / 2 * math.log(math.pi) + d / 2 * torch.log1p(seen.n / strength)
    return parts.sum(-1) - volume - constant


def shift(strength: Tensor, n: Tensor) -> Tensor:
    """How much (rows' mean - prior's mean)² counts in the scatter: strength n / (strength + n)."""
    return n * (strength / (strength + n))


def without_mean(mean: Tensor, strength: Tensor, seen: Moments) -> Tensor:
    """The mean, (...) or (..., D), before rows were learnt; strength: what is left without them, (...)."""
    pull = seen.n / strength
    return mean + (pull.unsqueeze(-1) if mean.ndim > pull.ndim else pull) * (mean - seen.mean)
