"""What is believed of a linear model before its rows: a Gaussian over weights, and a noise that is known or is not.

    Diagonal, Full          p(weights) = N(mean, (Λ₀ τ)⁻¹), one such column for each target
    Known, InverseGamma     τ: 1 for a known noise precision, the unknown precision 1/σ² otherwise

Both noises work with the same algebra. `unit` is the noise precision in units of which Λ₀ is meant: β itself where it
is known, 1 where Λ₀ is a multiple of the unknown 1/σ². With Λ = Λ₀ + unit ΦᵀWΦ and the least value of

    residual = unit Σ w (y - φᵀ m)² + (m - m₀)ᵀ Λ₀ (m - m₀),

evidence, posterior noise and predictive are functions of n, log |Λ| - log |Λ₀|, residual and φᵀ Λ⁻¹ φ.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from kokkiri.errors import NotPositiveDefinite, UsageError
from kokkiri.numerics.distributions import Normal, StudentT

LOG_2PI = math.log(2 * math.pi)


@dataclass(frozen=True, eq=False)
class Diagonal:
    """Independent weights, Λ₀ = diag(precision): precision (), (..., 1) or (..., D) >= 0, mean (..., D, T) or 0.

    A precision of 0 is a flat, improper prior of that weight: the posterior may exist all the same, the evidence is -∞.

    >>> Diagonal(torch.tensor(2.0)).log_determinant(3).exp().round(decimals=6).item()
    8.0
    """

    precision: Tensor
    mean: Tensor | None = None

    def __post_init__(self) -> None:
        precision = self.precision.double()
        object.__setattr__(self, "precision", precision if precision.ndim else precision[None])
        object.__setattr__(self, "mean", None if self.mean is None else self.mean.double())
        if not bool(((precision >= 0) & precision.isfinite()).all()):
            raise NotPositiveDefinite(
                "a prior got precisions that are none",
                needs="finite numbers >= 0",
                found=f"least {precision.min().item():g}, greatest {precision.max().item():g}",
                fix="a precision is 1 / variance",
            )

    def plus(self, unit: Tensor, gram: Tensor) -> Tensor:
        """Λ₀ + unit gram, (..., D, D); unit: (...)."""
        unit = unit.expand(torch.broadcast_shapes(self.precision.shape[:-1], unit.shape))
        out = unit[..., None, None] * gram
        out.diagonal(dim1=-2, dim2=-1).add_(self.precision)
        return out

    def mv(self, v: Tensor) -> Tensor:
        """Λ₀ v, (..., D, T)."""
        return self.precision.unsqueeze(-1) * v

    def log_determinant(self, features: int) -> Tensor:
        """Log |Λ₀|, (...)."""
        return self.precision.log().sum(-1) * (features if self.precision.shape[-1] == 1 else 1)

    def scaled(self, factor: Tensor) -> Diagonal:
        """Λ₀ times a factor (...)."""
        return replace(self, precision=self.precision * factor.unsqueeze(-1))

    def whiten(self, v: Tensor) -> Tensor:
        """Λ₀^-½ v, (..., D, T): Λ₀^-½ A Λ₀^-½ is `whiten(whiten(A)ᵀ)`."""
        return v / self.precision.sqrt().unsqueeze(-1)


@dataclass(frozen=True, eq=False)
class Full:
    """Correlated weights: precision Λ₀ (..., D, D), positive definite. mean: (..., D, T), or none for 0.

    factor: its lower Cholesky factor, found here if not given. Raises NotPositiveDefinite.

    >>> Full(torch.tensor([[2.0, 1.0], [1.0, 2.0]])).log_determinant(2).exp().round(decimals=6).item()
    3.0
    """

    precision: Tensor
    mean: Tensor | None = None
    factor: Tensor | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        precision = self.precision.double()
        object.__setattr__(self, "mean", None if self.mean is None else self.mean.double())
        if self.factor is None:
            precision = (precision + precision.mT) / 2
            object.__setattr__(self, "factor", cholesky(precision, "the precision of a prior"))
        object.__setattr__(self, "precision", precision)

    def plus(self, unit: Tensor, gram: Tensor) -> Tensor:
        """Λ₀ + unit gram, (..., D, D); unit: (...)."""
        return torch.addcmul(self.precision, unit[..., None, None], gram)

    def mv(self, v: Tensor) -> Tensor:
        """Λ₀ v, (..., D, T)."""
        return self.precision @ v

    def log_determinant(self, features: int) -> Tensor:
        """Log |Λ₀|, (...)."""
        del features  # the matrix has its own
        return log_determinant(self._lower)

    def scaled(self, factor: Tensor) -> Full:
        """Λ₀ times a factor (...)."""
        factor = factor[..., None, None]
        return replace(self, precision=self.precision * factor, factor=self._lower * factor.sqrt())

    def whiten(self, v: Tensor) -> Tensor:
        """L⁻¹ v with Λ₀ = L Lᵀ, (..., D, T): L⁻¹ A L⁻ᵀ is `whiten(whiten(A)ᵀ)`."""
        return torch.linalg.solve_triangular(self._lower, v, upper=False)

    @property
    def _lower(self) -> Tensor:
        assert self.factor is not None
        return self.factor


Prior: TypeAlias = Diagonal | Full


@dataclass(frozen=True, eq=False)
class Known:
    """Noise of known precision β = 1/σ² > 0, (...) over models side by side; the targets of one model share it."""

    precision: Tensor

    def __post_init__(self) -> None:
        object.__setattr__(self, "precision", _positive(self.precision, "the precision of a noise"))

    @property
    def unit(self) -> Tensor:
        """β."""
        return self.precision

    def log_evidence(self, n: Tensor, log_ratio: Tensor, residual: Tensor) -> Tensor:
        """Log p(y), (..., T) nats: ½ [n log(β / 2π) - log |Λ| / |Λ₀| - residual] (Bishop 2006, eq. 3.86)."""
        return 0.5 * ((n * (self.precision.log() - LOG_2PI) - log_ratio).unsqueeze(-1) - residual)

    def after(self, n: Tensor, residual: Tensor) -> Known:
        """The same: known is known."""
        del n, residual
        return self

    def predictive(self, mean: Tensor, spread: Tensor) -> Normal:
        """N(φᵀ m, 1/β + φᵀ Λ⁻¹ φ) (Bishop 2006, eq. 3.58). mean: (..., B, T); spread = φᵀ Λ⁻¹ φ: (..., B)."""
        aleatoric, epistemic = self.variances(spread)
        return Normal(mean, 0.5 * (aleatoric + epistemic).log())

    def variances(self, spread: Tensor) -> tuple[Tensor, Tensor]:
        """Variance of the noise, and of φᵀ w: (..., 1, 1) and (..., B, 1)."""
        return 1 / self.precision[..., None, None], spread.unsqueeze(-1)

    def draw(self, n: int, rng: np.random.Generator) -> Tensor:
        """1, the variance in units of which Λ is meant: nothing is drawn."""
        del n, rng
        return torch.ones(1, dtype=torch.float64, device=self.precision.device)


@dataclass(frozen=True, eq=False)
class InverseGamma:
    """Noise variance σ² ~ IG(shape a, rate b), density ∝ σ^(-2a-2) exp(-b / σ²), for each target by itself.

    shape: (...); rate: (..., T), or (..., 1) for all alike. With `Diagonal` or `Full` it is the normal-inverse-gamma.
    """

    shape: Tensor
    rate: Tensor

    def __post_init__(self) -> None:
        rate = _positive(self.rate, "the rate of an inverse gamma")
        object.__setattr__(self, "shape", _positive(self.shape, "the shape of an inverse gamma"))
        object.__setattr__(self, "rate", rate if rate.ndim else rate[None])

    @property
    def unit(self) -> Tensor:
        """1: Λ₀ is a multiple of 1/σ²."""
        return torch.ones_like(self.shape)

    def log_evidence(self, n: Tensor, log_ratio: Tensor, residual: Tensor) -> Tensor:
        """Log p(y), (..., T) nats, a multivariate Student t (Bishop 2006, exercise 3.23).

        ½ [-n log 2π - log |Λ| / |Λ₀|] + a log b - a' log b' + log Γ(a') - log Γ(a), with a', b' as in `after`.
        """
        after = self.after(n, residual)
        gammas = torch.lgamma(after.shape) - torch.lgamma(self.shape)
        # a log b - a' log b' without the difference of two large numbers
        rates = (
            -self.shape.unsqueeze(-1) * torch.log1p(residual / (2 * self.rate))
            - (n / 2).unsqueeze(-1) * after.rate.log()
        )
        return (gammas - 0.5 * (n * LOG_2PI + log_ratio)).unsqueeze(-1) + rates

    def after(self, n: Tensor, residual: Tensor) -> InverseGamma:
        """IG(a + n/2, b + residual/2) (Bishop 2006, exercise 3.12; Murphy 2012, sect. 7.6.3)."""
        return InverseGamma(self.shape + n / 2, self.rate + residual / 2)

    def predictive(self, mean: Tensor, spread: Tensor) -> StudentT:
        """T with 2a degrees of freedom, location φᵀ m, scale² (b/a) (1 + φᵀ Λ⁻¹ φ) (Bishop 2006, exercise 3.13).

        Raises UsageError unless a > ½: with one degree of freedom or fewer there is no mean.
        """
        if not bool((self.shape > 0.5).all()):
            raise UsageError(
                "a Student t without a mean cannot predict",
                needs="a noise InverseGamma(shape, rate) with shape > 1/2",
                found=f"shape {self.shape.min().item():g}",
                fix="InverseGamma(shape=1, rate=1), or rows before predictions",
            )
        square = (self.rate / self.shape.unsqueeze(-1)).unsqueeze(-2) * (1 + spread).unsqueeze(-1)
        return StudentT(mean, 0.5 * square.log(), torch.log(2 * self.shape - 1)[..., None, None])

    def variances(self, spread: Tensor) -> tuple[Tensor, Tensor]:
        """E[σ²] = b / (a - 1), and its product with φᵀ Λ⁻¹ φ: (..., 1, T) and (..., B, T); ∞ where a <= 1."""
        shape = self.shape.unsqueeze(-1)
        noise = torch.where(shape > 1, self.rate / (shape - 1), math.inf).unsqueeze(-2)
        return noise, torch.where(spread.unsqueeze(-1) > 0, noise * spread.unsqueeze(-1), 0.0)

    def draw(self, n: int, rng: np.random.Generator) -> Tensor:
        """σ², (n, ..., T)."""
        shape = self.shape.unsqueeze(-1).expand(self.rate.shape)
        return self.rate / torch.as_tensor(rng.standard_gamma(shape.cpu().numpy(), (n, *shape.shape))).to(self.rate)


Noise: TypeAlias = Known | InverseGamma


def cholesky(matrix: Tensor, name: str) -> Tensor:
    """The lower factor of (..., P, P), float64. Raises NotPositiveDefinite, which also says whether it is finite."""
    factor, info = torch.linalg.cholesky_ex(matrix)
    if bool(info.any()):
        finite = bool(matrix.isfinite().all())
        raise NotPositiveDefinite(
            f"{name} has no Cholesky factor",
            needs="a symmetric positive definite matrix",
            found="a leading minor that is not positive" if finite else "entries that are not finite",
            fix="a larger prior precision, or fewer collinear columns" if finite else "rows without NaN or ∞",
        )
    return factor


def log_determinant(factor: Tensor) -> Tensor:
    """Log |L Lᵀ| of a Cholesky factor, (...)."""
    return 2 * factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)


def _positive(value: Tensor, name: str) -> Tensor:
    value = value.double()
    if not bool(((value > 0) & value.isfinite()).all()):
        least, greatest = value.min().item(), value.max().item()
        raise UsageError(
            f"{name} is not a positive number",
            needs="finite numbers > 0",
            found=f"least {least:g}, greatest {greatest:g}",
            fix="a precision is 1 / variance; InverseGamma(shape=1, rate=1) says little",
        )
    return value
