"""Frozen dataclasses to plain JSON values and back."""

from __future__ import annotations

import dataclasses
import math
import types
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

T = TypeVar("T")


def to_plain(value: Any) -> Any:
    """A tree of dataclasses, tuples, numbers and strings as JSON holds it. What is not finite becomes its name.

    >>> to_plain((1.5, float("-inf"), "a", None))
    [1.5, '-inf', 'a', None]
    """
    if dataclasses.is_dataclass(value):
        return {f.name: to_plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, tuple):
        return [to_plain(v) for v in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def from_plain(kind: type[T], value: Any) -> T:
    """The value of type `kind` that `to_plain` wrote.

    >>> from_plain(tuple[float, ...], [1, "-inf"])
    (1.0, -inf)
    """
    return _read(kind, value)


def _read(kind: Any, value: Any) -> Any:
    if dataclasses.is_dataclass(kind):
        hints = get_type_hints(kind)
        return kind(**{name: _read(hints[name], v) for name, v in value.items()})  # pyright: ignore[reportCallIssue]
    if get_origin(kind) is tuple:
        inner = get_args(kind)[0]
        return tuple(_read(inner, v) for v in value)
    if get_origin(kind) is types.UnionType:  # X | None
        return None if value is None else _read(get_args(kind)[0], value)
    return float(value) if kind is float else value
