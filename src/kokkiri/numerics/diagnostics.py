"""Can these draws be trusted? Of Markov chains: R-hat and effective sample sizes; of importance weights: Pareto k-hat.

R-hat compares the spread of all chains with that within each: near 1 where they agree, to be mistrusted above 1.01. The
effective sample size is how many independent draws would leave the same Monte Carlo error. Both work on ranks, so that
heavy tails and skew do not fool them (Vehtari, Gelman, Simpson, Carpenter & Bürkner 2021, "Rank-normalization, folding,
and localization: an improved R-hat", cited as V21).

Importance weights p / q have a generalized Pareto tail of some shape k: below ½ their variance is finite, above 0.7 no
practical number of draws makes a weighted mean reliable (Vehtari, Simpson, Gelman, Yao & Gabry 2024, "Pareto smoothed
importance sampling", cited as V24).

Draws are (chains, draws, ...): quantities along the further axes are judged one by one, in float64.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from kokkiri.errors import ShapeError

FEWEST_DRAWS = 4  # a chain, so that each half has a variance
FEWEST_IN_TAIL = 5  # weights that a Pareto tail can be fitted to


def r_hat(draws: Tensor) -> Tensor:
    """(chains, draws, ...) -> (...): the larger of R-hat for location and for spread.

    sqrt(((n-1) W / n + B / n) / W) of half chains of n draws, B / n the variance of their means, W the mean of their
    variances (V21 eq. 1-4), of the normal scores of ranks (eq. 14) and of those of |x - median| (section 4.2). A
    quantity that never changes has 1; one that is constant within half chains and differs between them, ∞.

    >>> x = torch.randn(4, 500, generator=torch.Generator().manual_seed(0))
    >>> bool(r_hat(x) < 1.01), bool(r_hat(x + 2 * torch.arange(4)[:, None]) > 1.5)
    (True, True)
    """
    x = _split(draws)
    folded = (x - _quantile(x, 0.5)).abs()
    return torch.maximum(_plain_r_hat(_normal_scores(x)), _plain_r_hat(_normal_scores(folded)))


def effective_sample_size(draws: Tensor) -> Tensor:
    """(chains, draws, ...) -> (...): for the mean of the draws as they are, chains split (V21 eq. 7-13)."""
    return _effective(_split(draws))


def bulk_effective_sample_size(draws: Tensor) -> Tensor:
    """(chains, draws, ...) -> (...): of the normal scores of ranks: the middle of the distribution (V21 section 4.1).

    >>> x = torch.randn(4, 1000, generator=torch.Generator().manual_seed(0))
    >>> 3000 < float(bulk_effective_sample_size(x)) < 5000
    True
    """
    return _effective(_normal_scores(_split(draws)))


def tail_effective_sample_size(draws: Tensor) -> Tensor:
    """(chains, draws, ...) -> (...): the smaller of those of the 5 % and of the 95 % quantile (V21 section 4.3)."""
    low, high = (_effective(_split((draws <= _quantile(draws, q)).double())) for q in (0.05, 0.95))
    return torch.minimum(low, high)


class ParetoTail(NamedTuple):
    """A generalized Pareto distribution of exceedances: p(x > t) = (1 + k t / scale)^(-1/k)."""

    shape: float  # k
    scale: float


def fit_pareto(exceedances: Tensor) -> ParetoTail:
    """The tail of exceedances (n,) > 0 (Zhang & Stephens 2009, "A new and efficient estimation method for the GPD").

    With b = -k / scale the profile log-likelihood is n (log(-b / k(b)) - k(b) - 1), k(b) = mean log(1 - b x); b is its
    mean over a grid of 30 + √n points under a weak prior that is read off the quartile (their eq. 7-9).

    >>> u = (torch.arange(2000, dtype=torch.float64) + 0.5) / 2000
    >>> tail = fit_pareto((u**-0.4 - 1) / 0.4 * 3)  # quantiles of k = 0.4, scale 3
    >>> round(tail.shape, 2), round(tail.scale, 2)
    (0.4, 3.0)
    """
    x = exceedances.double().sort().values
    n = len(x)
    grid = 30 + math.isqrt(n)
    j = torch.arange(1, grid + 1, dtype=torch.float64, device=x.device)
    quartile = x[int(n / 4 + 0.5) - 1]
    b = 1 / x[-1] + (1 - (grid / (j - 0.5)).sqrt()) / (3 * quartile)
    shape = torch.log1p(-b[:, None] * x).mean(1)
    profile = n * ((-b / shape).log() - shape - 1)
    mean_b = (torch.softmax(profile, 0) * b).sum()
    k = torch.log1p(-mean_b * x).mean()
    return ParetoTail(float(k), float(-k / mean_b))


class Smoothed(NamedTuple):
    """Importance weights whose tail was smoothed. log_weight: (S,), normalised.

    k_hat: ∞ where the tail has too few draws to tell, -∞ where no ratio stands out from the largest ones. effective:
    the number of equal weights with the same sum of squares.
    """

    log_weight: Tensor
    k_hat: float
    effective: float


def pareto_smoothed(log_ratio: Tensor) -> Smoothed:
    """log(p/q) (S,) of S draws from q, up to a constant -> smoothed weights (V24, Algorithm 1 and Appendix).

    The largest min(S / 5, 3 √S) ratios are replaced by the expected order statistics of the fitted tail, and never
    exceed the largest raw one. k-hat is drawn towards ½ as if by ten more draws (V24, Appendix C). Reliable below
    min(1 - 1 / log10 S, 0.7).

    >>> z = torch.randn(4000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    >>> wide, narrow = (pareto_smoothed((1 - s**-2) * -0.5 * (s * z) ** 2) for s in (1.3, 0.4))  # N(0, 1) from N(0, s²)
    >>> wide.k_hat < 0.3, narrow.k_hat > 0.5
    (True, True)
    """
    finite = torch.isfinite(log_ratio)
    if log_ratio.ndim != 1 or not bool(finite.any()) or bool((~finite & (log_ratio != -math.inf)).any()):
        raise ShapeError(
            f"pareto_smoothed got log ratios {tuple(log_ratio.shape)}",
            needs="(S,), one a draw, finite or -∞, at least one of them finite",
            found=f"{int(finite.sum())} finite ones of {log_ratio.numel()}",
            fix="log p(draw) - log q(draw) of each draw",
        )
    lw = log_ratio.double()
    lw = lw - lw.max()
    s = len(lw)
    m = math.ceil(min(0.2 * s, 3 * math.sqrt(s)))
    value, order = lw.sort()
    cut = max(float(value[max(s - m - 1, 0)]), math.log(torch.finfo(torch.float64).tiny))
    tail = order[value > cut]
    k_hat = math.inf if len(tail) else -math.inf
    if m >= FEWEST_IN_TAIL and len(tail) >= FEWEST_IN_TAIL - 1:
        n, base = len(tail), math.exp(cut)
        fitted = fit_pareto(lw[tail].exp() - base)
        k_hat = (n * fitted.shape + 5) / (n + 10)
        if math.isfinite(k_hat):
            at = (torch.arange(n, dtype=torch.float64, device=lw.device) + 0.5) / n
            survived = -torch.log1p(-at)  # -log(1 - p): quantile = scale (e^{k·} - 1) / k
            stretched = survived if abs(k_hat) < 1e-12 else torch.expm1(k_hat * survived) / k_hat
            lw = lw.clone()
            lw[tail] = torch.log(base + fitted.scale * stretched).clamp(max=0.0)
    lw = torch.log_softmax(lw, 0)
    return Smoothed(lw, k_hat, float(torch.exp(-torch.logsumexp(2 * lw, 0))))


def _split(draws: Tensor) -> Tensor:
    """(M, N, ...) -> (2M, N // 2, ...): first and second halves; of an odd number the middle draw is left out."""
    if draws.ndim < 2 or draws.shape[1] < FEWEST_DRAWS:
        raise ShapeError(
            f"these draws cannot be diagnosed: {tuple(draws.shape)}",
            needs=f"(chains, draws, ...) with at least {FEWEST_DRAWS} draws a chain",
            found=f"{draws.shape[1]} draws" if draws.ndim > 1 else "one axis",
            fix="draws[None] makes one chain of a sequence",
        )
    half = draws.shape[1] // 2
    return torch.cat([draws[:, :half], draws[:, -half:]]).double()


def _normal_scores(x: Tensor) -> Tensor:
    """Φ⁻¹((r - 3/8) / (S + 1/4)) with r the rank among all S draws, averaged over ties (V21 eq. 14)."""
    flat = x.flatten(0, 1).flatten(1) if x.ndim > 2 else x.flatten()[:, None]
    columns = flat.T.contiguous()
    ordered = columns.sort(1).values
    below = torch.searchsorted(ordered, columns)
    upto = torch.searchsorted(ordered, columns, right=True)
    rank = (below + upto + 1).double() / 2
    return torch.special.ndtri((rank - 0.375) / (columns.shape[1] + 0.25)).T.reshape(x.shape)


def _quantile(x: Tensor, q: float) -> Tensor:
    """(M, N, ...) -> (...), linear between order statistics; torch's own refuses more than 16 million numbers."""
    ordered = x.flatten(0, 1).sort(0).values
    place = q * (len(ordered) - 1)
    low = math.floor(place)
    return torch.lerp(ordered[low], ordered[min(low + 1, len(ordered) - 1)], place - low)


def _plain_r_hat(x: Tensor) -> Tensor:
    n = x.shape[1]
    within, between = x.var(1).mean(0), x.mean(1).var(0)
    ratio = ((n - 1) / n * within + between) / within
    return torch.where((within == 0) & (between == 0), torch.ones_like(ratio), ratio).sqrt()


def _effective(x: Tensor) -> Tensor:
    """(M, N, ...) -> (...): M N / τ, τ by Geyer's initial monotone sequence (V21 eq. 10-13, Geyer 1992 section 3.3)."""
    m, n = x.shape[:2]
    centred = x - x.mean(1, keepdim=True)
    spectrum = torch.fft.rfft(centred, n=2 * n, dim=1)
    autocovariance = torch.fft.irfft(spectrum.abs().square(), n=2 * n, dim=1)[:, :n].mean(0) / n  # (N, ...)
    within = autocovariance[0] * n / (n - 1)
    total = within * (n - 1) / n + (x.mean(1).var(0) if m > 1 else 0.0)
    rho = 1 - (within - autocovariance) / total
    rho[0] = 1.0
    even = n - n % 2
    pairs = rho[:even].unflatten(0, (even // 2, 2)).sum(1)  # positive and falling for a reversible chain
    pairs = pairs[: max((n - 3) // 2 + 1, 1)]  # the last lags rest on a handful of products
    leading = (pairs > 0).long().cumprod(0)
    kept = leading.sum(0)
    falling = (torch.where(leading.bool(), pairs, 0).cummin(0).values * leading).sum(0)
    last = rho.gather(0, (2 * kept).clamp(max=n - 1)[None])[0].clamp(min=0)
    tau = (2 * falling - 1 + last).clamp(min=1 / math.log10(m * n))
    return torch.where(total == 0, torch.full_like(tau, m * n), m * n / tau)
