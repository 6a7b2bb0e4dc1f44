"""Schedules: frozen values, called (step, steps) for the factor that multiplies lr at step 0 … steps − 1.

They are functions of two integers and remember nothing, so a run that was cut goes on where it stood.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from numbers import Real
from typing import Any

from kokkiri.errors import UsageError, nearest
from kokkiri.optimizers import arguments
from kokkiri.types import Schedule


@dataclass(frozen=True)
class Constant:
    """The learning rate stays.

    >>> Constant()(7, 10)
    1.0
    """

    def __call__(self, step: int, steps: int) -> float:  # ruff: ignore[unused-method-argument]  the protocol's arguments
        """The factor at this step."""
        return 1.0


@dataclass(frozen=True)
class StepDecay:
    """The learning rate is multiplied by `factor` when each of the fractions `at` of the steps is reached.

    As torch.optim.lr_scheduler.MultiStepLR with milestones at · steps, rounded up.
    Source: the schedule of He et al. 2016, "Deep residual learning for image recognition", section 4.2.

    >>> [round(StepDecay()(step, 8), 4) for step in range(8)]
    [1.0, 1.0, 1.0, 1.0, 0.1, 0.1, 0.01, 0.01]
    """

    factor: float = 0.1
    at: tuple[float, ...] = (0.5, 0.75)

    def __post_init__(self) -> None:
        arguments.positive("StepDecay", "factor", self.factor, 0.1)
        if isinstance(self.at, list):  # as JSON gives it
            object.__setattr__(self, "at", tuple(self.at))
        if not isinstance(self.at, tuple) or not all(isinstance(a, Real) and 0 < a < 1 for a in self.at):
            raise UsageError(
                "StepDecay cannot be made with this at",
                needs="fractions of the steps, each in (0, 1)",
                found=repr(self.at),
                fix="at=(0.5, 0.75)",
            )

    def __call__(self, step: int, steps: int) -> float:
        """The factor at this step."""
        done = step / max(steps, 1)  # not compared as at · steps: 3 / 30 is the float 0.1, while 0.1 · 30 is above 3
        return float(self.factor ** sum(done >= a for a in self.at))


@dataclass(frozen=True)
class Cosine:
    """end + (1 − end) (1 + cos(π step / steps)) / 2.

    Source: Loshchilov & Hutter 2017, "SGDR: stochastic gradient descent with warm restarts", eq. 5, without restarts.
    As torch.optim.lr_scheduler.CosineAnnealingLR(T_max=steps), whose eta_min is end · lr here.

    >>> [round(Cosine()(step, 4), 4) for step in range(4)]
    [1.0, 0.8536, 0.5, 0.1464]
    """

    end: float = 0.0

    def __post_init__(self) -> None:
        arguments.not_negative("Cosine", "end", self.end, 0.0)

    def __call__(self, step: int, steps: int) -> float:
        """The factor at this step."""
        done = min(step / steps, 1.0) if steps > 0 else 1.0
        return self.end + (1 - self.end) * (1 + math.cos(math.pi * done)) / 2


@dataclass(frozen=True)
class WarmUp:
    """1/w, 2/w, …, 1 over the first w = round(fraction · steps) steps, then another schedule over the rest.

    Source: Goyal et al. 2017, "Accurate, large minibatch SGD: training ImageNet in 1 hour", section 2.2.
    As torch.optim.lr_scheduler.LinearLR(start_factor=1/w, total_iters=w − 1) before the other in a SequentialLR.

    >>> [round(WarmUp(0.4, then=Constant())(step, 10), 4) for step in range(5)]
    [0.25, 0.5, 0.75, 1.0, 1.0]
    """

    fraction: float = 0.05
    then: Schedule = field(default_factory=Cosine)

    def __post_init__(self) -> None:
        arguments.fraction("WarmUp", "fraction", self.fraction, 0.05)

    def __call__(self, step: int, steps: int) -> float:
        """The factor at this step."""
        warm = min(round(self.fraction * steps), max(steps - 1, 0))
        return (step + 1) / warm if step < warm else self.then(step - warm, steps - warm)


_KINDS = {"constant": Constant, "step": StepDecay, "cosine": Cosine, "warm-up": WarmUp}


def named(name: str, **values: Any) -> Schedule:
    """A schedule by its name on the command line: constant, step, cosine, warm-up.

    >>> named("cosine", end=0.1)
    Cosine(end=0.1)
    """
    if name not in _KINDS:
        raise UsageError(
            f"there is no schedule {name!r}",
            needs="the name of a schedule",
            found=repr(name),
            fix=nearest(name, _KINDS),
        )
    return arguments.build(_KINDS[name], values)


def config(schedule: Schedule) -> dict[str, Any] | None:
    """A schedule as plain JSON values; None if it is not one of kokkiri's.

    >>> config(WarmUp())
    {'name': 'warm-up', 'fraction': 0.05, 'then': {'name': 'cosine', 'end': 0.0}}
    """
    for name, kind in _KINDS.items():
        if type(schedule) is kind:
            values = {f.name: getattr(schedule, f.name) for f in fields(kind)}
            return {"name": name} | {k: _plain(v) for k, v in values.items()}
    return None


def from_config(values: Mapping[str, Any]) -> Schedule:
    """The schedule that `config` wrote down."""
    rest = {k: from_config(v) if isinstance(v, Mapping) else v for k, v in values.items() if k != "name"}
    return named(str(values.get("name")), **rest)


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [float(v) for v in value]
    return float(value) if isinstance(value, Real) else config(value)
