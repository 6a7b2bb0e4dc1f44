"""What an optimizer's and a schedule's fields may be, and how they are written down."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import MISSING, fields
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from kokkiri.errors import UsageError, nearest


def positive(owner: str, name: str, value: Any, example: float) -> None:
    """Refuse what is not a finite number above zero."""
    if not (_number(value) and value > 0):
        raise _refusal(owner, name, value, f"a finite number > 0, such as {example:g}", example)


def not_negative(owner: str, name: str, value: Any, example: float) -> None:
    """Refuse what is not a finite number of zero or more."""
    if not (_number(value) and value >= 0):
        raise _refusal(owner, name, value, f"a finite number >= 0, such as {example:g}", example)


def fraction(owner: str, name: str, value: Any, example: float) -> None:
    """Refuse what is not in [0, 1)."""
    if not (_number(value) and 0 <= value < 1):
        raise _refusal(owner, name, value, f"a number in [0, 1), such as {example:g}", example)


def _number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def _refusal(owner: str, name: str, value: Any, needs: str, example: float) -> UsageError:
    fix = f"{name}={example:g}"
    return UsageError(f"{owner} cannot be made with this {name}", needs=needs, found=repr(value), fix=fix)


def hyperparameters(optimizer: Any) -> dict[str, Tensor]:
    """The fields of an optimizer as 0-dimensional float64 tensors."""
    return {f.name: torch.tensor(getattr(optimizer, f.name), dtype=torch.float64) for f in fields(optimizer)}


def build(kind: type, values: Mapping[str, Any]) -> Any:
    """kind(**values), or a UsageError that names the field which is not there or is missing."""
    known = [f.name for f in fields(kind)]
    for name in values:
        if name not in known:
            raise UsageError(
                f"{kind.__name__} has no {name!r}",
                needs="one of its fields: " + (", ".join(known) or "it has none"),
                found=repr(name),
                fix=nearest(name, known),
            )
    for f in fields(kind):
        if f.name not in values and f.default is MISSING and f.default_factory is MISSING:
            fix = f"{kind.__name__}({f.name}=0.1)"
            raise UsageError(f"{kind.__name__} has no {f.name} of its own", needs=f.name, found="none given", fix=fix)
    return kind(**values)
