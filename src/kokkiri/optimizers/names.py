"""Optimizers by name: what the command line takes and what model.json holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from kokkiri.errors import UsageError, nearest
from kokkiri.optimizers import arguments
from kokkiri.optimizers.adagrad import Adagrad
from kokkiri.optimizers.adam import Adam
from kokkiri.optimizers.adamw import AdamW
from kokkiri.optimizers.gradient_descent import GradientDescent
from kokkiri.optimizers.ivon import IVON
from kokkiri.optimizers.momentum import Momentum
from kokkiri.optimizers.nesterov import Nesterov
from kokkiri.optimizers.rmsprop import RMSprop
from kokkiri.optimizers.sgd import SGD
from kokkiri.types import Optimizer

_KINDS = {
    "gradient-descent": GradientDescent,
    "sgd": SGD,
    "momentum": Momentum,
    "nesterov": Nesterov,
    "adagrad": Adagrad,
    "rmsprop": RMSprop,
    "adam": Adam,
    "adamw": AdamW,
    "ivon": IVON,
}


def named(name: str, **values: Any) -> Optimizer:
    """An optimizer by its name on the command line, with the fields that differ from their defaults.

    >>> named("adam", lr=0.01)
    Adam(lr=0.01, beta1=0.9, beta2=0.999, eps=1e-08)
    """
    kind = _KINDS.get("gradient-descent" if name == "gd" else name)
    if kind is None:
        raise UsageError(
            f"there is no optimizer {name!r}",
            needs="the name of an optimizer",
            found=repr(name),
            fix=nearest(name, ["gd", *_KINDS]),
        )
    return arguments.build(kind, values)


def config(optimizer: Optimizer) -> dict[str, Any] | None:
    """An optimizer as plain JSON values; None if it is not one of kokkiri's.

    >>> config(Momentum(lr=0.1))
    {'name': 'momentum', 'lr': 0.1, 'momentum': 0.9}
    """
    for name, kind in _KINDS.items():
        if type(optimizer) is kind:
            return {"name": name} | {f.name: float(getattr(optimizer, f.name)) for f in fields(kind)}
    return None


def from_config(values: Mapping[str, Any]) -> Optimizer:
    """The optimizer that `config` wrote down.

    >>> from_config(config(SGD(lr=0.5)))
    SGD(lr=0.5)
    """
    return named(str(values.get("name")), **{k: v for k, v in values.items() if k != "name"})
