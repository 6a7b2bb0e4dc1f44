"""Linear regression with a normal-inverse-gamma prior: parameters in, parameters out, by way of `linear_gaussian`.

    y ~ N(xᵀ w, σ²),  w ~ N(location, σ² precision⁻¹),  σ² ~ InverseGamma(shape, rate)

Rows are predicted by the prior's location first, so that only what is new is squared; float64.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from kokkiri.numerics.conjugate import LOG_2PI
from kokkiri.numerics.gammas import log_gamma_update
from kokkiri.numerics.linear_gaussian import fit
from kokkiri.numerics.linear_priors import Full, InverseGamma

RANK = 1e-12  # singular values below this times the largest are none
PERFECT = 1e-24  # of Σ w y²: a residual below it is rounding


class Coefficients(NamedTuple):
    """location: (..., D). precision: (..., D, D), in units of 1 / σ². shape, rate: (...)."""

    location: Tensor
    precision: Tensor
    shape: Tensor
    rate: Tensor


class Learnt(NamedTuple):
    """What is believed after rows, and log p(y | x) of them, (...) nats."""

    belief: Coefficients
    log_evidence: Tensor


def learn(belief: Coefficients, x: Tensor, y: Tensor, weight: Tensor) -> Learnt:
    """After rows x (..., N, D), y, weight (..., N) (Bishop 2006, exercises 3.12 and 3.23). Raises NotPositiveDefinite.

    >>> one = torch.ones((), dtype=torch.float64)
    >>> prior = Coefficients(torch.zeros(1).double(), torch.eye(1).double(), one, one)
    >>> rows = torch.ones(3, dtype=torch.float64)
    >>> learn(prior, rows[:, None], 2 * rows, rows).belief.location.item()
    1.5
    """
    unexplained = y - (x @ belief.location.unsqueeze(-1)).squeeze(-1)
    model = fit(x, unexplained, Full(belief.precision), InverseGamma(belief.shape, belief.rate.unsqueeze(-1)), weight)
    move = model.solution.move
    error = unexplained - (x @ move).squeeze(-1)
    residual = (weight * error.square()).sum(-1) + (move * (belief.precision @ move)).sum((-2, -1))
    n = weight.sum(-1)
    after = Coefficients(
        belief.location + move.squeeze(-1), model.precision, belief.shape + n / 2, belief.rate + residual / 2
    )
    unknown = log_gamma_update(belief.shape, belief.rate, n / 2, residual / 2)
    return Learnt(after, unknown - 0.5 * (n * LOG_2PI + model.quality.log_ratio))


def unlearn(belief: Coefficients, x: Tensor, y: Tensor, weight: Tensor) -> Coefficients:
    """As if these rows had never been learnt. Raises NotPositiveDefinite where they cannot have been."""
    unexplained = y - (x @ belief.location.unsqueeze(-1)).squeeze(-1)
    model = fit(x, unexplained, Full(belief.precision), InverseGamma(belief.shape, belief.rate.unsqueeze(-1)), -weight)
    move, precision = model.solution.move, model.precision
    residual = (weight * unexplained.square()).sum(-1) + (move * (precision @ move)).sum((-2, -1))
    return Coefficients(
        belief.location + move.squeeze(-1), precision, belief.shape - weight.sum(-1) / 2, belief.rate - residual / 2
    )


def least_squares(x: Tensor, y: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Weights (..., D) and the mean square that they leave (...): maximum likelihood.

    NaN where the rows do not determine the weights; the mean square also where the rows are met perfectly.
    """
    root = weight.sqrt()
    left, scale, right = torch.linalg.svd(x * root.unsqueeze(-1), full_matrices=False)
    whole = torch.zeros(x.shape[:-2], dtype=torch.bool, device=x.device)
    if scale.shape[-1] == x.shape[-1]:
        whole = scale[..., -1] > RANK * scale[..., 0]
    inverse = torch.where(scale > 0, 1 / scale, 0.0)
    found = (right.mT @ ((left.mT @ (y * root).unsqueeze(-1)) * inverse.unsqueeze(-1))).squeeze(-1)
    error = y - (x @ found.unsqueeze(-1)).squeeze(-1)
    square = (weight * error.square()).sum(-1)
    some = whole & (square > PERFECT * (weight * y.square()).sum(-1))
    variance = torch.where(some, square / weight.sum(-1), torch.nan)
    return torch.where(whole.unsqueeze(-1), found, torch.nan), variance
