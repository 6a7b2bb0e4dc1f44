"""What a run leaves behind: enough to judge it and to repeat it. Plain values, stored in model.json as they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any


class Status(Enum):
    """How a run ended. The value is the sentence that the report prints."""

    DONE = "all steps were taken"
    STOPPED_EARLY = "stopped early: the held-out log-likelihood no longer rose; the best weights were kept"
    INTERRUPTED = "interrupted by the user; the weights are those of the moment"
    NOT_CONVERGED = (
        "the held-out log-likelihood was still rising at the last step. (a) Too few steps: raise --steps. "
        "(b) The learning rate is too small: raise --lr."
    )
    DIVERGED = (
        "the loss became infinite or not a number. (a) The learning rate is too large: divide --lr by 10. (b) A column "
        "has extreme values: look at the data. (c) Gradients explode: --clip 1."
    )


@dataclass(frozen=True)
class Curve:
    """Learning curves of R replicas at K moments, in nats per row (higher is better).

    steps: K step numbers. train: R lists of K mean log-likelihoods over the steps since the last moment; held_out: the
    same over rows that no gradient has seen, empty where there are none. best: the step whose weights each replica
    kept.
    """

    steps: tuple[int, ...] = ()
    train: tuple[tuple[float, ...], ...] = ()
    held_out: tuple[tuple[float, ...], ...] = ()
    best: tuple[int, ...] = ()


@dataclass(frozen=True)
class Candidate:
    """One of the configurations that `fit` tried, and how it did on rows it had not seen (nats per row)."""

    name: str
    held_out: float
    se: float
    seconds: float
    parameters: int
    chosen: bool = False


@dataclass(frozen=True)
class Record:
    """A run.

    config: everything that was chosen, by whom and why: name -> (value, reason). data: source, SHA-256, rows, columns.
    seconds: CPU seconds of this process; wall: seconds on the clock. notes: what the user should know, a sentence each.
    """

    status: Status = Status.DONE
    steps: int = 0
    seconds: float = 0.0
    wall: float = 0.0
    seed: int = 0
    config: Mapping[str, tuple[Any, str]] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    source: str = ""  # SHA-256 of the network's source text
    curve: Curve = field(default_factory=Curve)
    candidates: tuple[Candidate, ...] = ()
    notes: tuple[str, ...] = ()
