"""What distributions and families ask of their numbers: float64 tensors of one shape, positive where they must be."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from kokkiri.errors import NotPositiveDefinite, ShapeError, UsageError

Numbers: TypeAlias = Tensor | np.ndarray | Sequence[Any] | float  # what parameters and rows may be handed in as


def numbers(owner: str, name: str, value: Numbers) -> Tensor:
    """Whatever holds numbers, as a float64 tensor.

    >>> numbers("Beta", "a", [1, 2])
    tensor([1., 2.], dtype=torch.float64)
    """
    try:
        if isinstance(value, Tensor):
            return value.detach().double()
        return torch.as_tensor(np.asarray(value, dtype=np.float64))
    except (TypeError, ValueError, RuntimeError):
        raise UsageError(
            f"{owner} got {name} that is not made of numbers",
            needs="a number, a list of numbers of one length, an array or a tensor",
            found=f"{repr(value)[:60]}",
            fix="numbers such as 0.5, or [0.5, 2.0] for two side by side",
        ) from None


def settle(
    self: object,
    *,
    positive: Mapping[str, Numbers] | None = None,
    real: Mapping[str, Numbers] | None = None,
    fix: str = "",
) -> None:
    """Gives a frozen value its fields: float64 tensors of one shape, refused where they cannot be what they must."""
    owner, bound = type(self).__name__, positive or {}
    found = {name: numbers(owner, name, value) for name, value in {**bound, **(real or {})}.items()}
    for name, value in found.items():
        wrong = ~(value.isfinite() & (value > 0)) if name in bound else ~value.isfinite()
        if bool(wrong.any()):
            first, many = float(value[wrong].flatten()[0]), int(wrong.sum())
            raise UsageError(
                f"{owner} got {name} = {first:g}",
                needs=f"{name} > 0, a finite number" if name in bound else f"{name}, a finite number",
                found=f"{first:g}" + (f", one of {many:,}" if many > 1 else ""),
                fix=fix or f"a {'positive ' * (name in bound)}number for each",
            )
    try:
        together = torch.broadcast_tensors(*found.values())
    except RuntimeError:
        shapes = ", ".join(f"{name} {tuple(value.shape)}" for name, value in found.items())
        raise ShapeError(
            f"the parameters of {owner} do not fit together",
            needs="shapes that broadcast: numbers, or tensors of one shape",
            found=shapes,
            fix="one value of each parameter for every member of the batch",
        ) from None
    put(self, **dict(zip(found, together, strict=True)))


def put(self: object, **fields: object) -> None:
    """Sets fields of a frozen value while it is made."""
    vars(self).update(fields)


def fraction(owner: str, name: str, value: Numbers) -> Tensor:
    """A probability, 0 and 1 included."""
    p = numbers(owner, name, value)
    if not bool(((p >= 0) & (p <= 1)).all()):
        wrong = float(p[~((p >= 0) & (p <= 1))].flatten()[0])
        raise UsageError(
            f"{owner} got {name} = {wrong:g}",
            needs=f"0 <= {name} <= 1",
            found=f"{wrong:g}",
            fix=f"{name} = {wrong / 100:g}, if percent was meant" if 1 < wrong <= 100 else f"{name} = 0.95",
        )
    return p


def tail(owner: str, level: float) -> Tensor:
    """What is left out on either side of a central interval."""
    p = fraction(owner, "level", level)
    return (1 - p) / 2


def ends(owner: str, level: float, like: Tensor) -> tuple[Tensor, Tensor]:
    """The masses below, and above, the two ends of a central interval: (2, 1, …), so that both are found at once."""
    p = tail(owner, level).to(like.device)
    below = torch.stack([p, 1 - p]).reshape(2, *[1] * like.ndim)
    return below, below.flip(0)


def count(owner: str, n: int) -> int:
    """How many draws."""
    if not isinstance(n, int) or isinstance(n, bool) or n < 0:
        raise UsageError(f"{owner} got n = {n!r}", needs="a whole number >= 0", found=repr(n), fix="n = 1000")
    return n


def shown(self: Any, names: Iterable[str], more: str = "") -> str:
    """A short repr: the numbers where there are few, else the shape of the batch.

    >>> from kokkiri.exact.distributions import Beta
    >>> Beta(1, 2.5), Beta(torch.ones(3, 4), 1)
    (Beta(a=1, b=2.5), Beta(batch (3, 4)))
    """
    fields = {name: getattr(self, name) for name in names}
    if all(value.numel() == 1 for value in fields.values()):
        digits = 6 if len(fields) < 4 else 5
        inside = ", ".join(f"{name}={value.item():.{digits}g}" for name, value in fields.items())
    else:
        inside = f"batch {tuple(next(iter(fields.values())).shape)}"
    return f"{type(self).__name__}({inside}{more})"


def positive_definite(owner: str, name: str, matrix: Tensor) -> Tensor:
    """The lower Cholesky factor of (..., D, D), which must be symmetric and positive definite."""
    if matrix.ndim < 2 or matrix.shape[-1] != matrix.shape[-2] or not matrix.shape[-1]:
        raise ShapeError(
            f"{owner} got {name} of shape {tuple(matrix.shape)}",
            needs=f"{name} (..., D, D)",
            found=f"{matrix.ndim} axes" if matrix.ndim < 2 else f"{matrix.shape[-2]} x {matrix.shape[-1]}",
            fix="torch.eye(D) for independent coordinates of variance 1",
        )
    size = matrix.diagonal(dim1=-2, dim2=-1).abs().amax(-1)
    symmetric = ((matrix - matrix.mT).abs().amax((-2, -1)) <= 1e-9 * size).all()
    factor, info = torch.linalg.cholesky_ex(matrix)
    if bool(info.any()) or not bool(symmetric) or not bool(matrix.isfinite().all()):
        found = "a leading minor that is not positive" if bool(symmetric) else "entries that differ from their mirror"
        raise NotPositiveDefinite(
            f"{owner} got {name} that is no covariance",
            needs="a symmetric positive definite matrix",
            found=found if bool(matrix.isfinite().all()) else "entries that are not finite",
            fix=f"something added to its diagonal: {name} + 1e-6 * torch.eye({matrix.shape[-1]})",
        )
    return factor
