"""The linear model with Gaussian noise, exactly: posterior, evidence, predictive, and rows that come and go.

    y = φᵀ w + ε,   ε ~ N(0, σ²),   w ~ N(m₀, (Λ₀ τ)⁻¹)        priors and noises in `linear_priors`

A model is a prior and sufficient statistics. More rows are a new value that costs one matrix product, few rows wait
until they are many, and nothing is factorised before something is asked.

Source: Bishop 2006, "Pattern recognition and machine learning", chapter 3.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from kokkiri.errors import ShapeError
from kokkiri.numerics.distributions import Normal, StudentT
from kokkiri.numerics.linear_priors import Full, Noise, Prior, cholesky, log_determinant
from kokkiri.numerics.linear_statistics import Statistics, Weights

WAITING = 64  # rows: a few at a time are copied, and added together, since a new D x D matrix is dearer than they are


class Waiting(NamedTuple):
    """Rows that are not in sums yet, (k, D) and (k, T), and how many wait with those before them."""

    phi: Tensor
    y: Tensor
    so_far: int


class Solution(NamedTuple):
    """The lower Cholesky factor of Λ, (..., D, D); the posterior mean, and that less the prior's, (..., D, T)."""

    factor: Tensor
    mean: Tensor
    move: Tensor


class Quality(NamedTuple):
    """log_ratio: log |Λ| - log |Λ₀|, (...,). residual: (..., T), as `linear_priors` has it."""

    log_ratio: Tensor
    residual: Tensor


@dataclass(frozen=True, eq=False)
class LinearGaussian:
    """A linear model after the rows in `statistics`; T targets share features and prior, each with weights of its own.

    base, waiting: the rows that are in sums, and the few that are not yet.

    With `Known` noise the posterior is N(mean, Λ⁻¹); with `InverseGamma` it is N(mean, σ² Λ⁻¹) IG(σ²), whose marginals
    are Student t. Everything is exact, so `update` in any batches and any order equals one fit of all rows.

    >>> from kokkiri.numerics.linear_priors import Diagonal, Known
    >>> phi, y = torch.tensor([[1.0, 0.0], [1.0, 1.0], [1.0, 2.0]]), torch.tensor([1.0, 2.0, 3.0])
    >>> prior, noise = Diagonal(torch.tensor(1e-6)), Known(torch.tensor(4.0, dtype=torch.float64))
    >>> model = fit(phi[:2], y[:2], prior, noise).update(phi[2:], y[2:])
    >>> model.mean.squeeze(1).round(decimals=4).tolist(), round(model.log_evidence.item(), 4)
    ([1.0, 1.0], -16.7751)
    >>> model.predict(torch.tensor([[1.0, 3.0]])).mean.round(decimals=4).item()
    4.0
    """

    base: Statistics
    prior: Prior
    noise: Noise
    waiting: tuple[Waiting, ...] = ()
    _cache: dict[str, Any] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        features = self.base.features
        if self.prior.precision.shape[-1] not in {1, features}:
            raise ShapeError(
                f"a prior does not fit {features} features",
                needs=f"a precision of 1 or {features} numbers, or a matrix {features} x {features}",
                found=f"precision {tuple(self.prior.precision.shape)}",
                fix="Diagonal(torch.tensor(1.0)) fits any number of features",
            )

    def update(self, phi: Tensor, y: Tensor, weights: Weights = None) -> LinearGaussian:
        """After these rows, too: phi (..., N, D), y (..., N, T) or (..., N), weights (..., N)."""
        base, waiting = (self._cache["statistics"], ()) if "statistics" in self._cache else (self.base, self.waiting)
        few = weights is None and base.gram.ndim == phi.ndim == 2 and len(phi) * 4 <= WAITING
        if not few:
            return LinearGaussian(base.add(phi, y, weights), self.prior, self.noise, waiting)
        count = len(phi) + (waiting[-1].so_far if waiting else 0)
        own_phi, own_y = base.own(phi, y)
        waiting = (*waiting, Waiting(own_phi, own_y, count))
        if count < WAITING:
            return LinearGaussian(base, self.prior, self.noise, waiting)
        return LinearGaussian(_added(base, waiting), self.prior, self.noise)

    def remove(self, phi: Tensor, y: Tensor, weights: Weights = None, *, check: bool = True) -> LinearGaussian:
        """As if these rows had never been seen: `update` undone. `Statistics.remove` says what is refused."""
        return LinearGaussian(self.statistics.remove(phi, y, weights, check=check), self.prior, self.noise)

    @property
    def statistics(self) -> Statistics:
        """Of all rows."""
        if not self.waiting:
            return self.base
        if "statistics" not in self._cache:
            self._cache["statistics"] = _added(self.base, self.waiting)
        return self._cache["statistics"]

    @property
    def solution(self) -> Solution:
        """The factorised posterior, once for each value. Raises NotPositiveDefinite."""
        if "solution" not in self._cache:
            self._cache["solution"] = _solve(self.statistics, self.prior, self.noise)
        return self._cache["solution"]

    @property
    def quality(self) -> Quality:
        """What evidence and noise are made of, once for each value. Raises NotPositiveDefinite."""
        if "quality" not in self._cache:
            self._cache["quality"] = _judge(self.solution, self.statistics, self.prior, self.noise)
        return self._cache["quality"]

    @property
    def precision(self) -> Tensor:
        """Λ, (..., D, D); with an unknown noise, in units of 1/σ²."""
        return self.prior.plus(self.noise.unit, self.statistics.gram)

    @property
    def mean(self) -> Tensor:
        """E[w], (..., D, T)."""
        return self.solution.mean

    @property
    def covariance(self) -> Tensor:
        """Λ⁻¹, (..., D, D); with an unknown noise, in units of σ²."""
        return torch.cholesky_inverse(self.solution.factor)

    @property
    def log_evidence(self) -> Tensor:
        """Log p(y), (..., T) nats: the density of all rows before any was seen. -∞ for an improper prior."""
        return self.noise.log_evidence(self.statistics.n, *self.quality)

    @property
    def posterior_noise(self) -> Noise:
        """What is known of the noise after the rows."""
        return self.noise.after(self.statistics.n, self.quality.residual)

    def predict(self, phi: Tensor) -> Normal | StudentT:
        """The density of new targets at phi (..., B, D), each by itself: parameters that broadcast to (..., B, T)."""
        return self.posterior_noise.predictive(phi.double() @ self.mean, self._spread(phi))

    def variances(self, phi: Tensor) -> tuple[Tensor, Tensor]:
        """(aleatoric, epistemic) variance of new targets at phi (..., B, D): they broadcast to (..., B, T)."""
        return self.posterior_noise.variances(self._spread(phi))

    def draw(self, n: int, rng: np.random.Generator) -> Tensor:
        """Weights from the posterior, (n, ..., D, T)."""
        s = self.solution
        normal = torch.as_tensor(rng.standard_normal((n, *s.mean.shape))).to(s.mean)
        scale = self.posterior_noise.draw(n, rng).sqrt().unsqueeze(-2)
        return s.mean + scale * torch.linalg.solve_triangular(s.factor.mT, normal, upper=True)

    def condensed(self) -> LinearGaussian:
        """The posterior as the prior of what comes next: no rows, and the same answers from here on.

        Its evidence is log p(new | old). Rows that were condensed can no longer be removed.
        """
        s, noise = self.solution, self.posterior_noise
        *leading, features, targets = s.mean.shape
        empty = Statistics.empty(features, targets, leading=tuple(leading), like=s.mean)
        return LinearGaussian(empty, Full(self.precision, s.mean, s.factor), noise)

    def log_joint(self, phi: Tensor, y: Tensor, weights: Weights = None) -> Tensor:
        """Log p(new rows | old rows), all together: (..., T) nats; with the old evidence it adds up to the new one."""
        return self.condensed().update(phi, y, weights).log_evidence

    def _spread(self, phi: Tensor) -> Tensor:
        """φᵀ Λ⁻¹ φ, (..., B)."""
        return torch.linalg.solve_triangular(self.solution.factor, phi.double().mT, upper=False).square().sum(-2)


def fit(phi: Tensor, y: Tensor, prior: Prior, noise: Noise, weights: Weights = None) -> LinearGaussian:
    """The model after the rows phi (..., N, D), y (..., N, T) or (..., N), weights (..., N)."""
    y = y if y.ndim >= phi.ndim else y.unsqueeze(-1)
    leading = tuple(torch.broadcast_shapes(phi.shape[:-2], y.shape[:-2]))
    empty = Statistics.empty(phi.shape[-1], y.shape[-1], leading=leading, like=phi)
    return LinearGaussian(empty, prior, noise).update(phi, y, weights)


def _added(base: Statistics, waiting: tuple[Waiting, ...]) -> Statistics:
    return base.add(torch.cat([rows.phi for rows in waiting]), torch.cat([rows.y for rows in waiting]))


def _solve(statistics: Statistics, prior: Prior, noise: Noise) -> Solution:
    """The mean, Λ⁻¹ (Λ₀ m₀ + unit Φᵀ W y), by way of y - Φ m₀: the move from a good guess keeps digits."""
    unit, moment = noise.unit, statistics.moment
    factor = cholesky(prior.plus(unit, statistics.gram), "the precision of a posterior")
    pull = moment if prior.mean is None else moment - statistics.gram @ prior.mean
    half = torch.linalg.solve_triangular(factor, unit[..., None, None] * pull, upper=False)
    move = torch.linalg.solve_triangular(factor.mT, half, upper=True)
    return Solution(factor, move if prior.mean is None else prior.mean + move, move)


def _judge(solution: Solution, statistics: Statistics, prior: Prior, noise: Noise) -> Quality:
    """The residual in a form whose error is of second order in that of the solution."""
    rest, move = statistics if prior.mean is None else statistics.shifted(prior.mean), solution.move
    error = (rest.square + (move * (rest.gram @ move - 2 * rest.moment)).sum(-2)).clamp(min=0)
    residual = noise.unit.unsqueeze(-1) * error + (move * prior.mv(move)).sum(-2)
    return Quality(log_determinant(solution.factor) - prior.log_determinant(statistics.features), residual)
