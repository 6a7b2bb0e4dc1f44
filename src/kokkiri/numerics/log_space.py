"""Probabilities as their logarithms, so that 1e-300, and products of thousands of factors, lose no digits.

log 0 = -∞ and log 1 = 0 are allowed throughout: certainty is a probability, too. float64, elementwise or along `dim`.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor


class Bayes(NamedTuple):
    """What Bayes' rule gives: log p(h | x), normalised along the last axis, and log p(x)."""

    log_posterior: Tensor
    log_evidence: Tensor


def log_complement(log_p: Tensor) -> Tensor:
    """log(1 - p) from log p, to full precision for p near 0 and near 1.

    Source: Mächler 2012, "Accurately computing log(1 - exp(-|a|))", eq. 7.

    >>> log_complement(torch.tensor([-1e-300, 0.0, -1000.0], dtype=torch.float64)).tolist()
    [-690.7755278982137, -inf, -0.0]
    """
    near_one = log_p > -math.log(2)
    # the branch that is not taken must not see log 0: its derivative would be no number
    near = torch.where(near_one, log_p, -1.0)
    far = torch.where(near_one, -1.0, log_p)
    return torch.where(near_one, torch.log(-torch.expm1(near)), torch.log1p(-torch.exp(far)))


def log_odds(log_p: Tensor) -> Tensor:
    """log(p / (1 - p)) from log p: -∞ for 0 and +∞ for 1.

    >>> log_odds(torch.tensor(0.5, dtype=torch.float64).log()).item()
    0.0
    """
    return log_p - log_complement(log_p)


def from_log_odds(odds: Tensor) -> Tensor:
    """Log p from log(p / (1 - p)), the inverse of `log_odds`.

    >>> from_log_odds(torch.tensor([-1000.0, 0.0], dtype=torch.float64)).tolist()
    [-1000.0, -0.6931471805599453]
    """
    return torch.where(odds > 0, -torch.log1p(torch.exp(-odds.clamp(min=0))), odds - torch.log1p(torch.exp(odds)))


def bayes(log_prior: Tensor, log_likelihood: Tensor) -> Bayes:
    """Bayes' rule along the last axis: (..., H), (..., H) -> (..., H), (...).

    The evidence is what the joint is divided by to add up to one, as odds against the most probable hypothesis t:
    log p(x) = log joint_t + log(1 + Σ_{h≠t} joint_h / joint_t). So a posterior of 1 - 1e-300 is told from certainty:
    its logarithm is -1e-300. Where the evidence is zero there is no posterior: it is zero throughout.

    >>> prior, likelihood = torch.tensor([[0.1, 0.9], [0.99, 0.01]], dtype=torch.float64).log()
    >>> found = bayes(prior, likelihood)
    >>> [round(v, 4) for v in (*found.log_posterior.exp().tolist(), found.log_evidence.exp().item())]
    [0.9167, 0.0833, 0.108]
    """
    joint = log_prior + log_likelihood
    best, top = joint.max(-1, keepdim=True)
    odds = joint - torch.where(best > -math.inf, best, 0.0)
    rest = torch.log1p(odds.exp().scatter(-1, top, 0.0).sum(-1, keepdim=True))
    return Bayes(odds - rest, (best + rest).squeeze(-1))


def expected(log_values: Tensor, log_weights: Tensor) -> Tensor:
    """Log Σ_h w_h v_h along the last axis: the mean of values under probabilities, (..., H), (..., H) -> (...).

    >>> prior, likelihood = torch.tensor([[0.1, 0.9], [0.99, 0.01]], dtype=torch.float64).log()
    >>> round(expected(likelihood, prior).exp().item(), 12)
    0.108
    """
    return torch.logsumexp(log_weights + log_values, -1)
