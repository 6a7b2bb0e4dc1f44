"""Priors by name: the door from saved models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from kokkiri.errors import ModelError
from kokkiri.priors.cauchy import Cauchy
from kokkiri.priors.flat import Flat
from kokkiri.priors.grouped import GroupedNormal
from kokkiri.priors.normal import Normal
from kokkiri.types import Prior

_OURS = (Normal, GroupedNormal, Cauchy, Flat)


def from_config(values: Mapping[str, Any]) -> Prior:
    """The prior that its `config()` wrote down.

    >>> from_config(Normal(precision=2.0).config())
    Normal(precision=2.0)
    """
    given = {field: value for field, value in values.items() if field != "name"}
    for kind in _OURS:
        if kind.__name__ == values.get("name") and given.keys() <= {f.name for f in fields(kind)}:
            pairs = {f: tuple((str(g), float(p)) for g, p in v) for f, v in given.items() if isinstance(v, list)}
            return kind(**{**given, **pairs})
    raise ModelError(
        f"the model's prior {values.get('name')!r} is not known",
        needs="one of " + ", ".join(f"{kind.__name__}({', '.join(f.name for f in fields(kind))})" for kind in _OURS),
        found=str(dict(values)),
        fix="load it with the version of kokkiri that saved it",
    )
