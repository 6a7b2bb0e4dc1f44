"""What a network may be made with, checked when it is made."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from itertools import starmap
from numbers import Real
from typing import Any, TypeAlias

from kokkiri.data.core import Group, Inputs
from kokkiri.errors import UsageError

InputsLike: TypeAlias = Inputs | int | tuple[int, ...] | list[int] | Mapping[str, Any]


def inputs_of(owner: str, inputs: InputsLike) -> Inputs:
    """A width, a shape, the `inputs` of data, or what `plain` made of them, as Inputs."""
    if isinstance(inputs, Mapping):
        groups = tuple(starmap(Group, inputs.get("groups", ())))
        return Inputs(whole_numbers(owner, "inputs", inputs.get("shape", ()), "(8,)"), groups)
    if isinstance(inputs, Inputs):
        whole_numbers(owner, "inputs", inputs.shape, "(8,)")
        return inputs
    if isinstance(inputs, tuple | list):
        return Inputs(whole_numbers(owner, "inputs", inputs, "(8,)"))
    return Inputs((whole_number(owner, "inputs", inputs, "8"),))


def plain(inputs: Inputs) -> dict[str, Any]:
    """Inputs as plain JSON values."""
    return {"shape": list(inputs.shape), "groups": [list(asdict(g).values()) for g in inputs.groups]}


def whole_number(owner: str, name: str, value: Any, example: str) -> int:
    """Refuse what is not a whole number of one or more."""
    try:
        number = 0 if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = 0
    if number < 1:
        raise refusal(owner, name, value, "a whole number >= 1", example)
    return number


def whole_numbers(owner: str, name: str, values: Any, example: str, *, least: int = 1) -> tuple[int, ...]:
    """Refuse what is not a sequence of at least `least` whole numbers of one or more."""
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise refusal(owner, name, values, "a list of whole numbers >= 1", example)
    listed = list(values)
    if len(listed) < least:
        raise refusal(owner, name, listed, "at least one whole number", example)
    return tuple(whole_number(owner, name, value, example) for value in listed)


def fraction(owner: str, name: str, value: Any, example: str) -> float:
    """Refuse what is not in [0, 1)."""
    if isinstance(value, bool) or not isinstance(value, Real) or not 0 <= float(value) < 1:
        raise refusal(owner, name, value, "a number in [0, 1)", example)
    return float(value)


def flag(owner: str, name: str, value: Any) -> bool:
    """Refuse what is not True or False."""
    if not isinstance(value, bool):
        raise refusal(owner, name, value, "True or False", "True")
    return value


def refusal(owner: str, name: str, value: Any, needs: str, example: str) -> UsageError:
    """The error for an argument that a network cannot be made with."""
    return UsageError(
        f"{owner} cannot be made with this {name}", needs=needs, found=repr(value), fix=f"{owner}(…, {name}={example})"
    )
