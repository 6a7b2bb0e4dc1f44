"""Sufficient statistics of a linear model: all that N rows say of it, in O(D² + D T) numbers that add up over rows."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TypeAlias

import torch
from torch import Tensor

from kokkiri.errors import NotPositiveDefinite, ShapeError

Weights: TypeAlias = Tensor | None
REMOVAL_TOLERANCE = 1e-11  # of all rows ever added, times √D; sums of n rows carry about √n ulps: 1e-12 at 10⁸ rows


@dataclass(frozen=True, eq=False, repr=False)
class Statistics:
    """Φᵀ W Φ, Φᵀ W Y, the diagonal of Yᵀ W Y and the sum of weights, of features Φ (N, D) and targets Y (N, T).

    gram: (..., D, D). moment: (..., D, T). square: (..., T). n: (...,). Float64; leading axes are models side by side.
    removed: (..., D + T + 1), the diagonals of the three squares and n of all rows that were taken out again, which is
    what tells rounding from rows that were never there.
    A weight counts a row: 2 is the row twice, 0 is no row. Nothing is factorised here; a block of rows costs one matrix
    product. Targets far from zero lose digits in `square`: take out the mean first.

    >>> one = Statistics.empty(1).add(torch.tensor([[2.0]]), torch.tensor([3.0]))
    >>> one, one.gram.item(), one.moment.item(), one.square.item()
    (Statistics(rows=1, features=1, targets=1), 4.0, 6.0, 9.0)
    """

    gram: Tensor
    moment: Tensor
    square: Tensor
    n: Tensor
    removed: Tensor

    @classmethod
    def empty(
        cls, features: int, targets: int = 1, *, leading: tuple[int, ...] = (), like: Tensor | None = None
    ) -> Statistics:
        """Of no rows. like: a tensor on the device that is wanted."""
        zeros = lambda *shape: torch.zeros(
            leading + shape, dtype=torch.float64, device=None if like is None else like.device
        )
        return cls(
            zeros(features, features), zeros(features, targets), zeros(targets), zeros(), zeros(features + targets + 1)
        )

    def __repr__(self) -> str:
        rows = f"{self.n.item():g}" if self.n.ndim == 0 else str(tuple(self.n.shape))
        return f"Statistics(rows={rows}, features={self.features}, targets={self.targets})"

    @property
    def features(self) -> int:
        """D."""
        return self.moment.shape[-2]

    @property
    def targets(self) -> int:
        """T."""
        return self.moment.shape[-1]

    def add(self, phi: Tensor, y: Tensor, weights: Weights = None) -> Statistics:
        """With the rows phi (..., N, D), y (..., N, T) or (..., N), weights (..., N). Raises ShapeError."""
        return self._with(phi, y, weights, 1.0)

    def remove(self, phi: Tensor, y: Tensor, weights: Weights = None, *, check: bool = True) -> Statistics:
        """Without these rows: `add` undone, as if they had never been seen.

        check: factorise what is left, O(D³), and refuse what no data can give. Rows that were never added, and whose
        absence is possible nevertheless, cannot be told from those that were.

        Raises NotPositiveDefinite where too much would be removed, ShapeError.
        """
        left = self._with(phi, y, weights, -1.0)
        left = replace(left, removed=self.removed + self.diagonals() - left.diagonals())
        return _possible(left) if check else left

    def scaled(self, factor: float) -> Statistics:
        """Every weight times a factor: below one, old rows are discounted."""
        return Statistics(*(getattr(self, f.name) * factor for f in fields(self)))

    def by_target(self) -> Statistics:
        """T targets as T models side by side, (..., T) leading and one target each, so that each has its own noise."""
        gram = self.gram.unsqueeze(-3).expand(*self.moment.shape[:-2], self.targets, -1, -1)
        n = self.n.unsqueeze(-1).expand(self.square.shape)
        features, own, rows = self.removed.split([self.features, self.targets, 1], -1)
        removed = torch.stack([torch.cat([features, t, rows], -1) for t in own.split(1, -1)], -2)
        return Statistics(gram, self.moment.mT.unsqueeze(-1), self.square.unsqueeze(-1), n, removed)

    def shifted(self, weights: Tensor) -> Statistics:
        """Those of Φ and Y - Φ weights: (..., D, T) is taken out of the targets."""
        image = self.gram @ weights
        square = self.square + (weights * (image - 2 * self.moment)).sum(-2)
        return Statistics(self.gram, self.moment - image, square, self.n, self.removed)

    def own(self, phi: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Rows phi (N, D), y (N, T) in memory of their own, if they fit. Raises ShapeError."""
        y = y if y.ndim >= phi.ndim else y.unsqueeze(-1)
        self._fits(phi, y, None)
        phi, y = (t.clone() if t.dtype == torch.float64 else t.double() for t in (phi, y))
        return phi, y

    def _with(self, phi: Tensor, y: Tensor, weights: Weights, sign: float) -> Statistics:
        phi, y = phi.double(), y.double()
        y = y if y.ndim >= phi.ndim else y.unsqueeze(-1)
        self._fits(phi, y, weights)
        left, counted = phi, y
        n = self.n + sign * phi.shape[-2]
        if weights is not None:
            w = weights.double().unsqueeze(-1)
            left, counted, n = phi * w, y * w, self.n + sign * w.sum((-2, -1))
        square = self.square + sign * (counted * y).sum(-2)
        gram, moment = _plus_product(self.gram, left, phi, sign), _plus_product(self.moment, left, y, sign)
        return Statistics(gram, moment, square, n, self.removed)

    def diagonals(self) -> Tensor:
        """Of gram, of the targets' squares, and n: (..., D + T + 1)."""
        return torch.cat([self.gram.diagonal(dim1=-2, dim2=-1), self.square, self.n.unsqueeze(-1)], -1)

    def _fits(self, phi: Tensor, y: Tensor, weights: Weights) -> None:
        rows = phi.shape[:-1]
        right = phi.ndim > 1 and phi.shape[-1] == self.features and y.shape[-1] == self.targets
        if not (right and y.shape[-2] == rows[-1] and (weights is None or weights.shape[-1] == rows[-1])):
            weighed = "" if weights is None else f", weights {tuple(weights.shape)}"
            raise ShapeError(
                f"statistics of {self.features} features and {self.targets} targets got rows that do not fit",
                needs=f"phi (N, {self.features}), y (N, {self.targets}), weights (N,)",
                found=f"phi {tuple(phi.shape)}, y {tuple(y.shape)}{weighed}",
                fix="one row of phi, of y and of weights for each datum",
            )


def combine(first: Statistics, *others: Statistics) -> Statistics:
    """Those of all rows together: sums.

    >>> a = Statistics.empty(1).add(torch.ones(2, 1), torch.ones(2))
    >>> combine(a, a, a)
    Statistics(rows=6, features=1, targets=1)
    """
    parts = (first, *others)
    return Statistics(*(torch.stack([getattr(p, f.name) for p in parts]).sum(0) for f in fields(Statistics)))


def _plus_product(total: Tensor, a: Tensor, b: Tensor, sign: float) -> Tensor:
    """Total + sign aᵀ b, in one pass where no leading axes are in the way."""
    if total.ndim == a.ndim == b.ndim == 2:
        return torch.addmm(total, a.mT, b, alpha=sign)
    return total + sign * (a.mT @ b)


def _possible(left: Statistics) -> Statistics:
    """What is left, if rows exist that have these statistics up to rounding; nothing at all where no row is left.

    That is the case where [ΦᵀWΦ, ΦᵀWy; yᵀWΦ, yᵀWy] is positive semi-definite for each target.
    """
    scale = (left.diagonals() + left.removed).clamp(min=0).sqrt()
    features, targets, rows = torch.where(scale > 0, scale, 1.0).split([left.features, left.targets, 1], -1)
    gram = left.gram / (features.unsqueeze(-1) * features.unsqueeze(-2))  # within [-1, 1] before any removal
    moment, square = left.moment / (features.unsqueeze(-1) * targets.unsqueeze(-2)), left.square / targets.square()
    n = left.n / rows.squeeze(-1).square()
    tolerance = REMOVAL_TOLERANCE * left.features**0.5
    none = n <= tolerance
    nothing = (gram.abs().amax((-2, -1)) <= tolerance) & (square.abs().amax(-1) <= tolerance) & (n >= -tolerance)
    factor, info = torch.linalg.cholesky_ex(gram + tolerance * torch.eye(left.features, device=gram.device))
    explained = torch.linalg.solve_triangular(factor, moment, upper=False).square().sum(-2)
    whole = (info == 0) & (square - explained >= -tolerance).all(-1)
    if not bool(torch.where(none, nothing, whole).all()):
        raise NotPositiveDefinite(
            "rows cannot be removed: no data have the statistics that would be left",
            needs="rows and weights that were added before",
            found=f"{left.n.min().item():g} rows would be left",
            fix="remove each row once, with the features, target and weight that it was added with",
        )
    if not bool(none.any()):
        return left
    some = (~none).double()
    return Statistics(
        left.gram * some[..., None, None],
        left.moment * some[..., None, None],
        left.square * some[..., None],
        left.n * some,
        left.removed * some[..., None],
    )
