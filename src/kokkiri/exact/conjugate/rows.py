"""Rows that a family learns: float64, with weights, checked, in the shape of the family's batch.

The last axis of y is the rows; the axes before it are families side by side. A weight counts a row: 2 is the row
twice, 0 is no row, whatever stands there (NaN, too), so that families of few rows fit beside those of many.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from kokkiri.errors import DataError, ShapeError, UsageError
from kokkiri.exact.distributions.arguments import Numbers, numbers
from kokkiri.numerics.conjugate import Moments


class Rows(NamedTuple):
    """y: (..., N) or (..., N, D), 0 where the weight is. weight: (..., N)."""

    y: Tensor
    weight: Tensor


class Support(NamedTuple):
    """Which values a family can give: a test of each, and what to say of the others."""

    inside: Callable[[Tensor], Tensor]
    needs: str
    fix: str


WHOLE = Support(
    lambda y: (y >= 0) & (y == y.round()) & y.isfinite(), "whole numbers >= 0", "NormalInverseGamma takes any number"
)
POSITIVE = Support(lambda y: (y >= 0) & y.isfinite(), "finite numbers >= 0", "NormalInverseGamma takes any number")
FINITE = Support(torch.isfinite, "finite numbers", "leave out rows without a value, or give them weight 0")


def values(owner: str, batch: torch.Size, y: Numbers, weight: Numbers | None, support: Support) -> Rows:
    """Single values (..., N); a number is one row."""
    found = numbers(owner, "y", y)
    found = found if found.ndim else found[None]
    w = torch.ones_like(found) if weight is None else weights(owner, weight)
    shape = _fitting(owner, batch, found.shape, w.shape, "y (..., N): rows along the last axis")
    found, w = found.expand(shape), w.expand(shape)
    found = torch.where(w > 0, found, 0.0)
    wrong = ~support.inside(found)
    if bool(wrong.any()):
        raise _outside(owner, found, wrong, support)
    return Rows(found, w)


class Exposed(NamedTuple):
    """Counts, how long each was looked at, and how often it counts, (..., N) each."""

    y: Tensor
    exposure: Tensor
    weight: Tensor


def exposed(owner: str, batch: torch.Size, y: Numbers, exposure: Numbers | None, weight: Numbers | None) -> Exposed:
    """Counts (..., N) with their exposure, 1 where none is given."""
    seen = values(owner, batch, y, weight, WHOLE)
    if exposure is None:
        return Exposed(seen.y, torch.ones_like(seen.y), seen.weight)
    units = numbers(owner, "exposure", exposure)
    units = units if units.ndim else units[None]
    shape = _fitting(owner, batch, seen.y.shape, units.shape, "exposure (..., N): one for each count", "exposure")
    y_, units, w = (t.expand(shape) for t in (seen.y, units, seen.weight))
    return Exposed(y_, weights(owner, torch.where(w > 0, units, 1.0), "exposure", positive=True), w)


def vectors(
    owner: str, batch: torch.Size, y: Numbers, weight: Numbers | None, coordinates: int, name: str = "y"
) -> Rows:
    """Rows of D numbers, (..., N, D)."""
    found = numbers(owner, name, y)
    found = found[None] if found.ndim == 1 else found
    if found.ndim < 2 or found.shape[-1] != coordinates:
        raise ShapeError(
            f"{owner} got {name} {tuple(found.shape)}",
            needs=f"{name} (..., N, {coordinates}): rows of {coordinates} numbers",
            found=f"{found.shape[-1]} along the last axis" if found.ndim else "a single number",
            fix=f"{name} of shape (N, {coordinates}), one number for each coordinate",
        )
    w = torch.ones_like(found[..., 0]) if weight is None else weights(owner, weight)
    shape = _fitting(owner, batch, found.shape[:-1], w.shape, f"{name} (..., N, {coordinates})")
    found, w = found.expand(*shape, coordinates), w.expand(shape)
    found = torch.where(w.unsqueeze(-1) > 0, found, 0.0)
    wrong = ~found.isfinite().all(-1)
    if bool(wrong.any()):
        raise _outside(owner, found, wrong, FINITE, name)
    return Rows(found, w)


class Pairs(NamedTuple):
    """x: (..., N, D). y, weight: (..., N)."""

    x: Tensor
    y: Tensor
    weight: Tensor


def pairs(owner: str, batch: torch.Size, x: Numbers, y: Numbers, weight: Numbers | None, features: int) -> Pairs:
    """Rows of inputs and one value each."""
    w = torch.ones(1, dtype=torch.float64) if weight is None else weights(owner, weight)
    inputs = vectors(owner, batch, x, w, features, "x")
    target = values(owner, batch, y, w, FINITE)
    shape = _fitting(owner, inputs.weight.shape[:-1], target.y.shape, inputs.weight.shape, "as many y as rows of x")
    return Pairs(inputs.y.expand(*shape, features), target.y.expand(shape), inputs.weight.expand(shape))


def must_fit(owner: str, name: str, value: Tensor, coordinates: int, names: Sequence[str]) -> None:
    """A parameter (..., D) beside a matrix D x D, and names of the coordinates."""
    if not value.ndim or value.shape[-1] != coordinates:
        raise ShapeError(
            f"{owner} got {name} {tuple(value.shape)} beside a matrix of {coordinates} x {coordinates}",
            needs=f"{name} (..., {coordinates})",
            found=f"{value.shape[-1]} along the last axis" if value.ndim else "a single number",
            fix="one number for each row of the matrix",
        )
    if len(names) and len(set(names)) != coordinates:
        raise ShapeError(
            f"{owner} got {len(set(names))} different names for {coordinates} coordinates",
            needs=f"{coordinates} different names, or none",
            found=", ".join(map(str, names[:8])),
            fix="one name for each coordinate",
        )


def weights(owner: str, weight: Numbers, name: str = "weight", *, positive: bool = False) -> Tensor:
    """How often each row counts, >= 0; or how long it was looked at, > 0."""
    w = numbers(owner, name, weight)
    w = w if w.ndim else w[None]
    wrong = ~(w.isfinite() & ((w > 0) if positive else (w >= 0)))
    if bool(wrong.any()):
        raise UsageError(
            f"{owner} got {name} {float(w[wrong][0]):g} in row {_row(wrong)} (rows count from 0)",
            needs=f"finite numbers {'>' if positive else '>='} 0",
            found=f"{float(w[wrong][0]):g}",
            fix="leave out rows that were not looked at" if positive else "rows are taken out by downdate",
        )
    return w


def total(owner: str, batch: torch.Size, **given: Numbers) -> list[Tensor]:
    """Sufficient statistics, finite and >= 0, one of each for every family of the batch."""
    found = {name: numbers(owner, name, value) for name, value in given.items()}
    for name, value in found.items():
        if not bool((value.isfinite() & (value >= 0)).all()):
            wrong = float(value[~(value.isfinite() & (value >= 0))].flatten()[0])
            raise DataError(
                f"{owner} got {name} = {wrong:g}",
                needs=f"{name}: a finite number >= 0",
                found=f"{wrong:g}",
                fix="sums over rows; what is to be taken out goes to downdate",
            )
    try:
        torch.broadcast_shapes(batch, *(v.shape for v in found.values()))
    except RuntimeError:
        raise ShapeError(
            f"the statistics do not fit a {owner} of batch {tuple(batch)}",
            needs="a number for each family of the batch",
            found=", ".join(f"{name} {tuple(v.shape)}" for name, v in found.items()),
            fix="the axes of the batch, and none for rows: statistics are sums over rows",
        ) from None
    return list(found.values())


def summary(owner: str, batch: torch.Size, n: Numbers, mean: Numbers, scatter: Numbers) -> Moments:
    """How many values, their mean, and Σ (y - mean)², one of each for every family of the batch."""
    centre = numbers(owner, "mean", mean)
    size, spread, _ = total(owner, batch, n=n, scatter=scatter, mean=centre.abs())
    return Moments(*torch.broadcast_tensors(size, torch.where(size > 0, centre, 0.0), spread))


def vector_summary(owner: str, batch: torch.Size, n: Numbers, mean: Numbers, scatter: Numbers) -> Moments:
    """How many rows (...), their mean (..., D), and Σ (y - mean)(y - mean)ᵀ, (..., D, D)."""
    (size,) = total(owner, batch, n=n)
    centre, spread = numbers(owner, "mean", mean), numbers(owner, "scatter", scatter)
    d = centre.shape[-1] if centre.ndim else 0
    if not d or spread.shape[-2:] != (d, d):
        raise ShapeError(
            f"the statistics do not fit a {owner}",
            needs="n (...), mean (..., D), scatter (..., D, D)",
            found=f"mean {tuple(centre.shape)}, scatter {tuple(spread.shape)}",
            fix="scatter: the sum over rows of (y - mean)(y - mean)ᵀ",
        )
    least = torch.linalg.eigvalsh(spread)[..., 0]
    size_of = spread.diagonal(dim1=-2, dim2=-1).amax(-1).clamp(min=0)
    if not bool(centre.isfinite().all() and (least >= -1e-9 * size_of).all()):
        raise DataError(
            f"{owner} got statistics that no rows have",
            needs="a finite mean, and a scatter that is symmetric and positive semi-definite",
            found=f"least eigenvalue {float(least.min()):g}",
            fix="scatter: the sum over rows of (y - mean)(y - mean)ᵀ",
        )
    shape = torch.broadcast_shapes(batch, size.shape, centre.shape[:-1], spread.shape[:-2])
    n_ = size.expand(shape)
    return Moments(n_, torch.where(n_.unsqueeze(-1) > 0, centre, 0.0), spread.expand(*shape, d, d))


def _fitting(
    owner: str, batch: torch.Size, y: torch.Size, weight: torch.Size, needs: str, beside: str = "weight"
) -> torch.Size:
    """The shape of rows that fits batch, y and what stands beside them."""
    try:
        rows = torch.broadcast_shapes(y, weight)
        return torch.Size((*torch.broadcast_shapes(batch, rows[:-1]), rows[-1]))
    except RuntimeError:
        raise ShapeError(
            f"rows do not fit a {owner} of batch {tuple(batch)}",
            needs=f"{needs}, the axes before them like the batch",
            found=f"y {tuple(y)}, {beside} {tuple(weight)}",
            fix=f"y of shape {(*batch, 'N')}".replace("'", "") if len(batch) else f"one {beside} for each row",
        ) from None


def _outside(owner: str, y: Tensor, wrong: Tensor, support: Support, name: str = "y") -> DataError:
    first = y[wrong][0]
    many = int(wrong.sum())
    return DataError(
        f"{owner} cannot learn {name} in row {_row(wrong)} (rows count from 0)",
        needs=support.needs,
        found=f"{first.tolist()}" + (f", and {many - 1:,} more such row{'s' * (many > 2)}" if many > 1 else ""),
        fix=support.fix,
    )


def _row(wrong: Tensor) -> str:
    *member, row = wrong.nonzero()[0].tolist()
    return f"{row} of family {tuple(member)}" if member else f"{row}"
