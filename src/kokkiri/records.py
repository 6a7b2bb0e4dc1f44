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
    INDEFINITE = (
        "the curvature is not finite or not positive: no posterior was made, and the networks are points. (a) The "
        "network is not at a mode: raise --steps. (b) Outputs overflow: --clip 1, or look at extreme columns. (c) A "
        "precision is zero: use a Normal prior."
    )
    INFINITE_EVIDENCE = (
        "the evidence is not finite, and chose nothing. (a) The prior is improper: use kk.Normal(1.0). (b) A "
        "likelihood gives some row probability zero: use one with heavier tails."
    )
    NOISE_COLLAPSED = (
        "the noise fell to its lower limit: the network passes through every target. (a) A column gives the target "
        "away: --drop it. (b) Targets repeat: try --likelihood student-t, or fewer parameters."
    )
    DIVERGED = (
        "the loss became infinite or not a number. (a) The learning rate is too large: divide --lr by 10. (b) A column "
        "has extreme values: look at the data. (c) Gradients explode: --clip 1."
    )


@dataclass(frozen=True)
class Evidence:
    """log p(data) of a model, or log p(new | old) after an update; nats over `rows` data, and how it was found.

    each: of every replica, where there are several; nats is then that of their mixture.
    """

    nats: float
    rows: int
    method: str
    exact: bool = False
    each: tuple[float, ...] = ()

    def __repr__(self) -> str:
        return f"Evidence({self.nats:,.1f} nats, n={self.rows:,}, {self.method}{', exact' if self.exact else ''})"


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
    """A configuration that `fit` tried, how it did on rows it had not seen (nats per row), and its evidence."""

    name: str
    held_out: float
    se: float
    seconds: float
    parameters: int
    chosen: bool = False
    evidence: float | None = None  # log p(data), nats


@dataclass(frozen=True)
class Update:
    """New data that a posterior has learnt.

    level: exact, local or full. nats: log p(new | old), chained. per_row, se: mean of log p(y_i | x_i, old) over the
    new rows, each predicted by the posterior as it was, and its standard error. expected: the same of rows that the
    model had not seen before, where it is known; drift: by how many standard errors the new rows differ from it, below
    0 where they fall short. gap: by how many nats the network says less of the new rows than its linearisation. sha256:
    of the rows themselves (`data.digest`); file: of what they were read from. since, until: the first and the last day
    of each column of dates. removed: the rows were taken out. classes: how many rows each class had.
    """

    source: str
    sha256: str
    rows: int
    level: str
    nats: float
    per_row: float
    se: float
    expected: float | None = None
    drift: float | None = None
    gap: float | None = None
    exact: bool = False
    seconds: float = 0.0
    file: str = ""
    since: Mapping[str, float] = field(default_factory=dict)
    until: Mapping[str, float] = field(default_factory=dict)
    removed: bool = False
    classes: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Record:
    """A run.

    posterior: what is exact of the posterior and what approximate, in a sentence.

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
    posterior: str = ""
    updates: tuple[Update, ...] = ()
    notes: tuple[str, ...] = ()
