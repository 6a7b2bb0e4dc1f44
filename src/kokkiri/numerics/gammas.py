"""Ratios of gamma functions and of what stands beside them in conjugate families, without cancellation, in float64.

log Γ(a + n) - log Γ(a) loses all digits where a is large and n is not, or where two such ratios nearly cancel. Here
every formula is a log-likelihood at the posterior mean plus terms that are small, or of one sign:
a [log r - (r - 1)] <= 0 with r the posterior mean over the prior mean, and differences of Stirling's errors S,

    log Γ(z) = (z - ½) log z - z + ½ log 2π + S(z).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from kokkiri.numerics.special import HALF_LOG_2PI, log1p_minus, log_ratio, stirling_error


def log_rising(a: Tensor, n: Tensor) -> Tensor:
    """Log Γ(a + n) - log Γ(a) for a > 0 and a + n > 0.

    >>> round(log_rising(torch.tensor(1e8).double(), torch.tensor(1.0).double()).exp().item() / 1e8, 12)
    1.0
    """
    t = n / a
    powers = n * (a + n).log() + a * log1p_minus(t) - 0.5 * torch.log1p(t)
    return powers + stirling_error(a + n) - stirling_error(a)


def log_gamma_update(shape: Tensor, rate: Tensor, count: Tensor, total: Tensor) -> Tensor:
    """Log ∫ λ^count e^(-total λ) Gamma(λ | shape, rate) dλ = log [Γ(a+n) b^a / Γ(a) (b+t)^(a+n)]; count, total >= 0.

    >>> one = torch.tensor(1.0).double()
    >>> round(log_gamma_update(one, one, one, one).exp().item(), 12)  # ∫ λ e^(-2 λ) dλ
    0.25
    """
    mean = (shape + count) / (rate + total)
    return torch.special.xlogy(count, mean) - total * mean + gamma_penalty(shape, rate, count, total)


def gamma_penalty(shape: Tensor, rate: Tensor, count: Tensor, total: Tensor) -> Tensor:
    """What `log_gamma_update` lacks of n log λ' - t λ', the likelihood at the posterior mean λ' = (a + n) / (b + t).

    a [log r - (r - 1)] - ½ log(1 + n/a) + S(a+n) - S(a) with r = λ' b / a.
    """
    more = torch.log1p(count / shape)
    excess = (rate * count - shape * total) / (shape * (rate + total))
    pull = shape * _log_minus(excess, more - torch.log1p(total / rate))
    return pull - 0.5 * more + stirling_error(shape + count) - stirling_error(shape)


def poisson_log_prob(y: Tensor, mean: Tensor) -> Tensor:
    """Log [mean^y e^(-mean) / Γ(y + 1)], y >= 0: minus the deviance, and what the best mean would give.

    >>> round(poisson_log_prob(torch.tensor(2.0).double(), torch.tensor(1.0).double()).exp().item() * 2, 12)  # 1 / e
    0.367879441171
    """
    some = torch.where(y > 0, y, 1.0)
    deviance = some * _log_minus((mean - some) / some, mean.log() - some.log())
    best = -0.5 * some.log() - HALF_LOG_2PI - stirling_error(some)
    return torch.where(y > 0, deviance + best, -mean)


def log_gamma_power(shape: Tensor, x: Tensor) -> Tensor:
    """Log [x^shape e^(-x) / Γ(shape)] for x > 0: x times the density of a gamma of rate 1.

    >>> round(log_gamma_power(torch.tensor(1.0).double(), torch.tensor(1.0).double()).item(), 12)
    -1.0
    """
    pull = shape * _log_minus((x - shape) / shape, x.log() - shape.log())
    return pull + 0.5 * shape.log() - HALF_LOG_2PI - stirling_error(shape)


def student_t_log_prob(z: Tensor, df: Tensor) -> Tensor:
    """Log [Γ((df+1)/2) / (Γ(df/2) √(π df))] - (df+1)/2 log(1 + z²/df), for any df > 0.

    >>> round(student_t_log_prob(torch.tensor(1.0).double(), torch.tensor(1.0).double()).exp().item(), 12)  # 1 / 2π
    0.159154943092
    """
    half = torch.full_like(df, 0.5)
    ratio = z.abs() / df.sqrt()
    far = ratio > 1e8  # its square may overflow
    near = torch.log1p(torch.where(far, 1.0, ratio).square())
    spread = torch.where(far, 2 * torch.where(far, ratio, 1.0).log(), near)
    return log_rising(df / 2, half) - 0.5 * df.log() - 0.5 * math.log(math.pi) - (df + 1) / 2 * spread


def dirichlet_log_evidence(concentration: Tensor, counts: Tensor) -> Tensor:
    """Log ∫ Π p_k^counts_k Dirichlet(p | concentration) dp = log B(α + c) / B(α): (..., K), (..., K) -> (...) nats.

    The probability of rows of these classes in one given order.

    >>> round(dirichlet_log_evidence(torch.ones(2).double(), torch.tensor([3.0, 0.0]).double()).exp().item(), 12)
    0.25
    """
    after = concentration + counts
    whole = after.sum(-1, keepdim=True).expand_as(after)
    log_mean = log_ratio(after, whole, -sum_of_others(after))
    return torch.where(counts > 0, counts * log_mean, 0.0).sum(-1) + _dirichlet_penalty(concentration, counts)


def dirichlet_multinomial_log_prob(concentration: Tensor, counts: Tensor) -> Tensor:
    """The same times the number of orders, n! / Π c_k!: the probability of the counts, (..., K), (..., K) -> (...)."""
    prior, n = concentration.sum(-1, keepdim=True), counts.sum(-1, keepdim=True)
    after = prior + n
    some = torch.where(counts > 0, counts, 1.0)
    excess = concentration * sum_of_others(counts) - counts * sum_of_others(concentration)
    ratio = torch.log1p(concentration / some) - torch.log1p(prior / torch.where(n > 0, n, 1.0))
    deviance = some * _log_minus(excess / (some * after), ratio)
    deviance = torch.where(counts > 0, deviance, -concentration * (n / after)).sum(-1)
    all_ = n.squeeze(-1)
    total = torch.where(all_ > 0, all_, 1.0)
    sizes = torch.where(counts > 0, 0.5 * some.log() + HALF_LOG_2PI + stirling_error(some), 0.0).sum(-1)
    orders = 0.5 * total.log() + HALF_LOG_2PI + stirling_error(total) - sizes
    likelihood = torch.where(all_ > 0, deviance + orders, 0.0)
    return likelihood + _dirichlet_penalty(concentration, counts)


def dirichlet_log_prob(concentration: Tensor, p: Tensor) -> Tensor:
    """Log Π p_k^(α_k - 1) / B(α) for Σ p = 1, p > 0: (..., K), (..., K) -> (...).

    >>> round(dirichlet_log_prob(torch.ones(3).double(), torch.ones(3).double() / 3).exp().item(), 12)
    2.0
    """
    whole, classes = concentration.sum(-1, keepdim=True), concentration.shape[-1]
    excess = (p * whole - concentration) / concentration  # its sum, weighted with α, is 0
    pull = concentration * _log_minus(excess, p.log() + whole.log() - concentration.log())
    own = pull + 0.5 * concentration.log() - stirling_error(concentration) - p.log()
    rest = stirling_error(whole) - 0.5 * whole.log() - (classes - 1) * HALF_LOG_2PI
    return own.sum(-1) + rest.squeeze(-1)


def sum_of_others(x: Tensor) -> Tensor:
    """The sum of all but one along the last axis, for each: no large number is taken from another.

    >>> sum_of_others(torch.tensor([1e20, 1.0, 2.0], dtype=torch.float64)).tolist()
    [3.0, 1e+20, 1e+20]
    """
    before = x.cumsum(-1).roll(1, -1)
    after = x.flip(-1).cumsum(-1).roll(1, -1).flip(-1)
    before[..., 0], after[..., -1] = 0.0, 0.0
    return before + after


def _dirichlet_penalty(concentration: Tensor, counts: Tensor) -> Tensor:
    """What the evidence lacks of the likelihood at the posterior mean."""
    prior, n = concentration.sum(-1, keepdim=True), counts.sum(-1, keepdim=True)
    more, all_more = torch.log1p(counts / concentration), torch.log1p(n / prior)
    excess = counts * sum_of_others(concentration) - concentration * sum_of_others(
        counts
    )  # linear terms cancel in the sum
    pull = concentration * _log_minus(excess / (concentration * (prior + n)), more - all_more)
    own = pull - 0.5 * more + stirling_error(concentration + counts) - stirling_error(concentration)
    whole = 0.5 * all_more - stirling_error(prior + n) + stirling_error(prior)
    return own.sum(-1) + whole.squeeze(-1)


def _log_minus(excess: Tensor, log_r: Tensor) -> Tensor:
    """Log r - (r - 1) <= 0, for r - 1 = excess and log r, each exact where it is needed."""
    near = excess.abs() < 0.5
    far = torch.where(excess.isinf(), -excess, log_r - excess)
    return torch.where(near, log1p_minus(torch.where(near, excess, 0.0)), far)
