"""Kullback-Leibler divergences KL(p ‖ q) = E_p[log p - log q] between members of conjugate families, in nats, float64.

Of a posterior from its prior it is what the rows taught. Leading axes are families side by side.
Sources: Penny 2001, "Kullback-Liebler divergences of normal, gamma, Dirichlet and Wishart densities"; Bishop 2006,
appendix B.
"""

from __future__ import annotations

import torch
from torch import Tensor

from kokkiri.numerics.gammas import log_rising
from kokkiri.numerics.special import log1p_minus


def gamma(shape: Tensor, rate: Tensor, other_shape: Tensor, other_rate: Tensor) -> Tensor:
    """KL of Gamma(shape, rate) from Gamma(other_shape, other_rate), and of the inverse gammas.

    >>> one = torch.tensor(1.0).double()
    >>> round(gamma(one, 2 * one, one, one).item(), 12)  # log 2 - ½
    0.19314718056
    """
    more, stretch = other_shape - shape, other_rate / rate
    shapes = log_rising(shape, more) - more * torch.digamma(shape)
    return shapes - more * stretch.log() - shape * log1p_minus(stretch - 1)


def dirichlet(concentration: Tensor, other: Tensor) -> Tensor:
    """KL of one Dirichlet from another, (..., K), (..., K) -> (...); a beta is one of two.

    >>> round(dirichlet(torch.tensor([2.0, 1.0]).double(), torch.ones(2).double()).item(), 12)  # log 2 - ½
    0.19314718056
    """
    whole, more = concentration.sum(-1), other - concentration
    each = log_rising(concentration, more) - more * torch.digamma(concentration)
    together = log_rising(whole, more.sum(-1)) - more.sum(-1) * torch.digamma(whole)
    return each.sum(-1) - together


def normal(mean: Tensor, variance: Tensor, other_mean: Tensor, other_variance: Tensor) -> Tensor:
    """KL of N(mean, variance) from N(other_mean, other_variance)."""
    return 0.5 * ((mean - other_mean).square() / other_variance - log1p_minus(variance / other_variance - 1))


def inverse_wishart(degrees: Tensor, factor: Tensor, other_degrees: Tensor, other_factor: Tensor) -> Tensor:
    """KL of one inverse Wishart from another: degrees (...), lower Cholesky factors of the scales (..., D, D)."""
    d = factor.shape[-1]
    i = torch.arange(d, device=factor.device)
    shape, more = (degrees.unsqueeze(-1) - i) / 2, ((other_degrees - degrees) / 2).unsqueeze(-1)
    shapes = (log_rising(shape, more.expand_as(shape)) - more * torch.digamma(shape)).sum(-1)
    ratios = torch.linalg.svdvals(torch.linalg.solve_triangular(factor, other_factor, upper=False)).square()
    stretch = (degrees.unsqueeze(-1) / 2 * log1p_minus(ratios - 1) + more * ratios.log()).sum(-1)
    return shapes - stretch


def coefficients(move: Tensor, factor: Tensor, other_factor: Tensor, precision: Tensor) -> Tensor:
    """E over the noise of KL of N(m, (τ Λ)⁻¹) from N(m₂, (τ Λ₂)⁻¹): move = m - m₂ (..., D), precision = E[τ] (...).

    factor, other_factor: the lower Cholesky factors of Λ and Λ₂, (..., D, D).
    """
    ratios = torch.linalg.svdvals(torch.linalg.solve_triangular(factor, other_factor, upper=False)).square()
    pull = (other_factor.mT @ move.unsqueeze(-1)).squeeze(-1).square().sum(-1)
    return 0.5 * (precision * pull - log1p_minus(ratios - 1).sum(-1))
