"""A linear model that predicts after every row: the covariance is kept, and a row changes it by one outer product.

Recursive least squares, which is the Kalman filter of a state at rest (Kalman 1960), on the bordered matrix

    table = [ Λ⁻¹   m ]        A row (φ, y) gives v = (Λ⁻¹ φ, φᵀ m - y) and d = 1 + w unit φᵀ Λ⁻¹ φ, and
            [ mᵀ   -E ]        table loses (w unit / d) v vᵀ (Sherman & Morrison 1950), while log |Λ| grows by log d,

with the residuals of `linear_priors` on the diagonal of E, T x T. So mean, covariance and residual are one product and
one outer product. `LinearGaussian` is faster where rows come in blocks, and can remove them.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from kokkiri.errors import ShapeError, UsageError
from kokkiri.numerics.distributions import Normal, StudentT
from kokkiri.numerics.linear_gaussian import LinearGaussian
from kokkiri.numerics.linear_priors import Noise

_SMALL = 192  # up to this many features an outer product costs less than remembering it
_PENDING = 32  # outer products that wait, to be taken out of the table in one matrix product


class Recursive(NamedTuple):
    """A linear model after n rows, of D features: its table is `table` - pendingᵀ pending, (D + T, D + T), (k, D + T).

    pending: only where D is large enough for outer products to be dearer than remembering them.
    prior_noise: what was believed of the noise before the rows. unit: its precision, 1 where it is unknown.
    log_ratio: log |Λ| - log |Λ₀|.

    >>> from kokkiri.numerics.linear_gaussian import fit
    >>> from kokkiri.numerics.linear_priors import Diagonal, Known
    >>> one = torch.tensor(1.0)
    >>> state = recursive(fit(torch.zeros(0, 1), torch.zeros(0), Diagonal(one), Known(one)))
    >>> for y in (1.0, 2.0, 3.0):
    ...     state = state.update(torch.ones(1), torch.tensor([y]))
    >>> state.n, state.mean.item(), round(state.predict(torch.ones(1)).variance.item(), 4)
    (3.0, 1.5, 1.25)
    """

    table: Tensor
    pending: Tensor | None
    features: int
    prior_noise: Noise
    unit: float
    n: float
    log_ratio: float

    def update(self, phi: Tensor, y: Tensor, weight: float = 1.0) -> Recursive:
        """After one more row: phi (D,), y (T,). weight: how many times it was seen, >= 0. Raises ShapeError."""
        d = self.features
        if phi.shape != (d,) or y.shape != (self.table.shape[0] - d,) or weight < 0:
            raise self._refusal(phi, y, weight)
        phi = phi.double()
        v = self._product(phi)
        v[d:].sub_(y)
        q = weight * self.unit
        growth = 1 + q * torch.dot(phi, v[:d]).item()
        table, pending, scale = self.table, self.pending, q / growth
        if pending is None:
            table = torch.addr(table, v, v, alpha=-scale)
        else:
            pending = torch.cat([pending, (v * math.sqrt(scale))[None]])
            if len(pending) == _PENDING:
                table, pending = torch.addmm(table, pending.mT, pending, alpha=-1), pending[:0]
        log_ratio = self.log_ratio + math.log(growth)
        return Recursive(table, pending, d, self.prior_noise, self.unit, self.n + weight, log_ratio)

    def predict(self, phi: Tensor) -> Normal | StudentT:
        """The density of the next target at phi (D,): parameters that broadcast to (1, T)."""
        phi = phi.double()
        v = self._product(phi)
        return self.noise.predictive(v[None, self.features :], torch.dot(phi, v[: self.features])[None])

    @property
    def mean(self) -> Tensor:
        """E[w], (D, T)."""
        d = self.features
        return self._block(slice(0, d), slice(d, None))

    @property
    def covariance(self) -> Tensor:
        """Λ⁻¹, (D, D); with an unknown noise, in units of σ²."""
        both = slice(0, self.features)
        return self._block(both, both)

    @property
    def residual(self) -> Tensor:
        """(T,), as `linear_priors` has it."""
        d = self.features
        residual = -self.table.diagonal()[d:]
        return residual if self.pending is None else residual + self.pending[:, d:].square().sum(0)

    @property
    def noise(self) -> Noise:
        """What is known of the noise after the rows."""
        residual = self.residual
        return self.prior_noise.after(torch.full_like(residual[0], self.n), residual)

    @property
    def log_evidence(self) -> Tensor:
        """Log p(all rows), (T,) nats: the sum of log p(row | rows before)."""
        residual = self.residual
        n, log_ratio = torch.full_like(residual[0], self.n), torch.full_like(residual[0], self.log_ratio)
        return self.prior_noise.log_evidence(n, log_ratio, residual)

    def _product(self, phi: Tensor) -> Tensor:
        """(Λ⁻¹ φ, mᵀ φ), (D + T,), in memory of its own."""
        d = self.features
        v = torch.mv(self.table[:, :d], phi)
        if self.pending is not None:
            v.addmv_(self.pending.mT, torch.mv(self.pending[:, :d], phi), alpha=-1)
        return v

    def _block(self, rows: slice, columns: slice) -> Tensor:
        """Of the table, with what is pending taken out."""
        block, waiting = self.table[rows, columns], self.pending
        if waiting is None:
            return block
        return torch.addmm(block, waiting[:, rows].mT, waiting[:, columns], alpha=-1)

    def _refusal(self, phi: Tensor, y: Tensor, weight: float) -> ShapeError | UsageError:
        if weight < 0:
            return UsageError(
                "a recursive model cannot remove rows",
                needs="weight >= 0",
                found=f"{weight:g}",
                fix="LinearGaussian.remove",
            )
        return ShapeError(
            "one row did not fit a recursive model",
            needs=f"phi ({self.features},), y ({self.table.shape[0] - self.features},)",
            found=f"phi {tuple(phi.shape)}, y {tuple(y.shape)}",
            fix="one row at a time; blocks of rows go to LinearGaussian.update",
        )


def recursive(model: LinearGaussian) -> Recursive:
    """A model, as far as it has come, in the form that takes single rows. It is for one model: no leading axes."""
    s, (log_ratio, residual) = model.solution, model.quality
    if s.mean.ndim != 2:
        raise ShapeError(
            "a recursive model got several models side by side",
            needs="mean (D, T)",
            found=f"mean {tuple(s.mean.shape)}",
            fix="one model at a time",
        )
    features = s.mean.shape[0]
    table = torch.cat([torch.cat([model.covariance, s.mean], 1), torch.cat([s.mean.mT, -torch.diag(residual)], 1)])
    n, unit = float(model.statistics.n), float(model.noise.unit)
    pending = None if features <= _SMALL else table[:0]
    return Recursive(table, pending, features, model.noise, unit, n, float(log_ratio))
