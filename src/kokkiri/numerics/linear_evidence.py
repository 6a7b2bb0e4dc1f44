"""The prior precision, and the noise, that make the evidence of a linear model greatest: one eigendecomposition.

With Λ₀ = a K, whitened by K, let λ be the eigenvalues of ΦᵀWΦ, c = Vᵀ ΦᵀWy and ρ = a / unit. Then

    log p(y) = T/2 Σ log ρ / (ρ + λ) + g(R),   R = Σ w y² - Σ c² / (ρ + λ) >= 0,

with g from the noise: -β R / 2 + n/2 log β if β is known, -(a₀ + n/2) log(b₀ + R/2) if σ² is marginalised, and
-nT/2 log R if β is to be found, too: its best value, nT / R, is put in. What is left is a curve over log ρ, made of
logistic steps of width one. So a grid of half that width finds its highest peak and Newton's method the top of it: no
eigenvalue is taken twice, and no start is needed. At the top MacKay's two equations hold, a |w|² = γ T and
β E = nT - γ T, whose iteration finds a top, too, though slowly, and the nearest only.

Source: MacKay 1992, "Bayesian interpolation", eq. 4.8 to 4.10.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from kokkiri.errors import UsageError
from kokkiri.numerics.linear_gaussian import LinearGaussian
from kokkiri.numerics.linear_priors import Diagonal, InverseGamma, Known

PERFECT = 1e-12  # of Σ w y²: residuals below it are rounding, so that the noise has no estimate
_SPACING = 0.5  # of the grid in log ρ: a logistic step is 3.5 wide between 15 and 85 %
_NOTHING = math.log(1e8)  # beyond λ_max e^this the curve is flat to 1e-8
_STEPS = 60

Curve: TypeAlias = tuple[Tensor, Tensor, Tensor]  # value, slope, curvature


class Maximum(NamedTuple):
    """Where the evidence is greatest, for each model of the leading axes.

    model: with that prior and noise. factor: of the given prior precision. log_evidence: over all targets, nats.
    effective: γ = Σ λ / (ρ + λ), how many directions of weights the data determine (MacKay 1992, eq. 4.9).
    no_noise: the rows are met perfectly, so that the noise precision would be ∞; it is held where rounding begins.
    no_signal: the best weights are those of the prior, so that the prior precision would be ∞; it is held where the
    evidence no longer changes.
    """

    model: LinearGaussian
    factor: Tensor
    log_evidence: Tensor
    effective: Tensor
    no_noise: Tensor
    no_signal: Tensor


def maximise_evidence(model: LinearGaussian, *, keep_noise: bool = False) -> Maximum:
    """The model with its prior precision times the best factor, and the best noise where it is `Known`.

    All targets of a model share both; `Statistics.by_target` gives each its own. keep_noise: find the factor only.
    Raises UsageError without rows, or for a prior with a precision of 0.

    >>> from kokkiri.numerics.linear_gaussian import fit
    >>> phi = torch.tensor([[1.0], [2.0], [3.0], [4.0]])
    >>> start = fit(phi, torch.tensor([2.1, 3.9, 6.2, 7.9]), Diagonal(torch.tensor(1.0)), Known(torch.tensor(1.0)))
    >>> best = maximise_evidence(start)
    >>> [round(v.item(), 3) for v in (best.factor, best.model.noise.precision, best.effective)]
    [0.249, 43.062, 1.0]
    """
    spectrum, fixed = _spectrum(model), model.noise
    noise = _slopes(fixed, spectrum, keep_noise)
    low, high = _bounds(spectrum)
    cells = math.ceil((high - low).max().item() / _SPACING) + 1
    grid = low.unsqueeze(-1) + _SPACING * torch.arange(cells, dtype=low.dtype, device=low.device)
    grid = torch.minimum(grid, high.unsqueeze(-1))
    top = grid.gather(-1, _curve(grid, spectrum, noise)[0].argmax(-1, keepdim=True))
    no_signal = top.squeeze(-1) > high - 2 * _SPACING
    ratio = _climb(top, lambda u: _curve(u, spectrum, noise)).exp().squeeze(-1)

    no_noise = torch.zeros_like(no_signal)
    if isinstance(fixed, Known) and not keep_noise:
        fixed, ratio, no_noise = _best_noise(ratio, spectrum)
    share, residual = _residual(ratio, spectrum)
    log_ratio = torch.log1p(spectrum.values / ratio.unsqueeze(-1)).sum(-1)
    evidence = fixed.log_evidence(spectrum.n, log_ratio, fixed.unit.unsqueeze(-1) * residual).sum(-1)
    factor = fixed.unit * ratio
    found = replace(model, prior=model.prior.scaled(factor), noise=fixed)
    return Maximum(found, factor, evidence, share.sum(-1), no_noise, no_signal)


class _Spectrum(NamedTuple):
    """values: λ (..., D), 0 where rounding; energy: c² / λ (..., D, T); rest, total: R at ρ = 0 and Σ w y² (..., T)."""

    values: Tensor
    energy: Tensor
    rest: Tensor
    total: Tensor
    n: Tensor


_Noise: TypeAlias = Callable[[Tensor, Tensor, Tensor], Curve]  # R, R', R'' (..., K, T) -> g, g', g'' (..., K)


def _spectrum(model: LinearGaussian) -> _Spectrum:
    prior, statistics = model.prior, model.statistics
    if not bool((statistics.n > 0).all()):
        raise UsageError("the evidence of no rows has no maximum", needs="rows", found="0 of them", fix="update first")
    if isinstance(prior, Diagonal) and not bool((prior.precision > 0).all()):
        raise UsageError(
            "a flat prior cannot be scaled",
            needs="precisions > 0",
            found="a precision of 0",
            fix="a small precision for that weight, or take its column out of features and targets by least squares",
        )
    rest = statistics if prior.mean is None else statistics.shifted(prior.mean)
    gram = prior.whiten(prior.whiten(rest.gram).mT)
    values, vectors = torch.linalg.eigh((gram + gram.mT) / 2)
    cut = torch.finfo(values.dtype).eps * values.shape[-1] * values[..., -1:]
    real = values > cut
    moment = vectors.mT @ prior.whiten(rest.moment)
    energy = torch.where(real.unsqueeze(-1), moment.square() / torch.where(real, values, 1.0).unsqueeze(-1), 0.0)
    least = torch.finfo(values.dtype).eps * rest.square + 1e-100
    left = torch.maximum(rest.square - energy.sum(-2), least)
    return _Spectrum(torch.where(real, values, 0.0), energy, left, rest.square, statistics.n)


def _bounds(spectrum: _Spectrum) -> tuple[Tensor, Tensor]:
    """Log ρ from where the noise of a perfect fit is rounding to where nothing is left of the signal, (...) each."""
    values = spectrum.values
    greatest = values[..., -1]
    least = torch.where(values > 0, values, math.inf).amin(-1)
    some = greatest > 0
    low = torch.where(some, (least * PERFECT / (10 * spectrum.n.clamp(min=1))).log(), 0.0)
    return low, torch.where(some, greatest.log() + _NOTHING, 0.0)


def _curve(u: Tensor, spectrum: _Spectrum, noise: _Noise) -> Curve:
    """Log p(y) up to a constant, and two derivatives, at u = log ρ, (..., K) each.

    With s = λ / (ρ + λ), ds/du = -s (1 - s); R = rest + Σ energy (1 - s).
    """
    values, t = spectrum.values.unsqueeze(-2), spectrum.total.shape[-1]
    share = values / (u.exp().unsqueeze(-1) + values)
    change = share * (1 - share)
    residual = spectrum.rest.unsqueeze(-2) + (1 - share) @ spectrum.energy
    g, slope, curvature = noise(residual, change @ spectrum.energy, (change * (2 * share - 1)) @ spectrum.energy)
    log_ratio = torch.log1p(values * (-u).exp().unsqueeze(-1)).sum(-1)
    return g - 0.5 * t * log_ratio, slope + 0.5 * t * share.sum(-1), curvature - 0.5 * t * change.sum(-1)


def _residual(ratio: Tensor, spectrum: _Spectrum) -> tuple[Tensor, Tensor]:
    """S (..., D) and R (..., T) at ρ (...)."""
    share = spectrum.values / (ratio.unsqueeze(-1) + spectrum.values)
    return share, spectrum.rest + ((1 - share).unsqueeze(-1) * spectrum.energy).sum(-2)


def _best_noise(ratio: Tensor, spectrum: _Spectrum) -> tuple[Known, Tensor, Tensor]:
    """The noise at its best, nT / R, with ρ, and whether it has no estimate because errors are rounding.

    With as many features as rows, R is the price of the weights alone where ρ is small: so errors are looked at, and
    where they are rounding the prior precision stays where MacKay's equation has it, γ T / |w|², with ρ to match.
    """
    share, residual = _residual(ratio, spectrum)
    rounding = PERFECT * spectrum.total.sum(-1) + 1e-99  # targets that are all 0 leave a number, too
    errors = (spectrum.rest + ((1 - share).square().unsqueeze(-1) * spectrum.energy).sum(-2)).sum(-1)
    none = errors <= rounding
    count = spectrum.n * residual.shape[-1]
    precision = count / torch.where(none, torch.maximum(errors, rounding), residual.sum(-1))
    scale = torch.where(spectrum.values > 0, spectrum.values, 1.0)
    weights = (share.square() / scale * spectrum.energy.sum(-1)).sum(-1)
    factor = share.sum(-1) * residual.shape[-1] / torch.where(weights > 0, weights, math.inf)
    return Known(precision), torch.where(none & (factor > 0), factor / precision, ratio), none


def _slopes(noise: Known | InverseGamma, spectrum: _Spectrum, keep_noise: bool) -> _Noise:
    if isinstance(noise, InverseGamma):
        return _marginal(noise, spectrum)
    return _known(noise) if keep_noise else _estimated(spectrum)


def _estimated(spectrum: _Spectrum) -> _Noise:
    """-nT/2 log Σ_t R, the noise precision at its best."""

    def g(residual: Tensor, slope: Tensor, curvature: Tensor) -> Curve:
        half = 0.5 * spectrum.n.unsqueeze(-1) * residual.shape[-1]
        whole = residual.sum(-1)
        first, second = slope.sum(-1) / whole, curvature.sum(-1) / whole
        return -half * whole.log(), -half * first, -half * (second - first.square())

    return g


def _known(noise: Known) -> _Noise:
    """-β Σ_t R / 2."""

    def g(residual: Tensor, slope: Tensor, curvature: Tensor) -> Curve:
        half = -0.5 * noise.precision.unsqueeze(-1)
        return half * residual.sum(-1), half * slope.sum(-1), half * curvature.sum(-1)

    return g


def _marginal(noise: InverseGamma, spectrum: _Spectrum) -> _Noise:
    """-(a + n/2) Σ_t log(b + R/2)."""

    def g(residual: Tensor, slope: Tensor, curvature: Tensor) -> Curve:
        shape = -(noise.shape + spectrum.n / 2).unsqueeze(-1)
        rate = 2 * noise.rate.unsqueeze(-2) + residual
        first, second = slope / rate, curvature / rate
        value = (rate / 2).log().sum(-1)
        return shape * value, shape * first.sum(-1), shape * (second - first.square()).sum(-1)

    return g


def _climb(top: Tensor, curve: Callable[[Tensor], Curve]) -> Tensor:
    """Newton's method for slope 0 within one grid cell on either side of `top`, halving where it would leave."""
    low, high, u = top - _SPACING, top + _SPACING, top
    for _ in range(_STEPS):
        _, slope, curvature = curve(u)
        low, high = torch.where(slope > 0, u, low), torch.where(slope < 0, u, high)
        newton = u - slope / torch.where(curvature < 0, curvature, -1.0)
        inside = (curvature < 0) & (newton >= low) & (newton <= high)
        new = torch.where(inside, newton, 0.5 * (low + high))
        move, u = (new - u).abs(), new
        if not bool((move > 1e-14 * (1 + u.abs())).any()):
            break
    return u
