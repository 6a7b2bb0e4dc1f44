"""What a way to approximate a posterior must offer, and what it is given.

A recipe says how many networks are trained, may change the run before it begins (its prior, its optimizer, its
schedule; a tuner, a keeper of moments), and makes of the trained herd an `Approximation`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from kokkiri.herd import Herd
from kokkiri.numerics.operators import Blocks
from kokkiri.records import Evidence, Status
from kokkiri.training.loop import Moment, Tuner
from kokkiri.training.plan import Plan
from kokkiri.types import Likelihood, Optimizer, Prior


@dataclass(frozen=True)
class Run:
    """A run that is about to be made. data: the rows that will be trained on.

    keep: is shown every moment, and gives what `finish` is to get of it (a tree of tensors, None for nothing).
    """

    herd: Herd
    data: Any
    likelihood: Likelihood  # in the target's own units
    optimizer: Optimizer
    prior: Prior
    plan: Plan
    tuner: Tuner | None = None
    keep: Callable[[Moment], Any] | None = None


@dataclass(frozen=True)
class Trained:
    """A run that was made. herd: the trained networks, precisions in `hyper`. kept: what `keep` gave, in order."""

    herd: Herd
    run: Run
    last: Moment
    kept: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Approximation:
    """sum_r exp(log_weight_r) N(θ | herd_r, precision_r⁻¹). precision: one for each replica, or () for points.

    linear: whether predictions linearise the network around each replica, as a Gaussian around a mode asks for; else
    they run it at draws. prior: where evidence moved it. exact: what is exact and what approximate, a sentence for the
    record.
    """

    herd: Herd
    log_weight: Tensor
    precision: tuple[Blocks, ...] = ()
    linear: bool = False
    evidence: Evidence | None = None
    prior: Prior | None = None
    status: Status | None = None
    exact: str = ""
    notes: tuple[str, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)


@runtime_checkable
class Recipe(Protocol):
    """How a posterior comes about. Frozen values, one file each.

    size: networks that are trained. folds: with early stopping, the rows are cut into so many folds, and each network
    is stopped by one it has not seen; 0: a share of the rows stops them. stops: whether held-out rows stop the training
    at all; False: all rows are trained on, and the prior alone regularises.
    """

    @property
    def size(self) -> int: ...  # ruff: ignore[undocumented-public-method]
    @property
    def folds(self) -> int: ...  # ruff: ignore[undocumented-public-method]
    @property
    def stops(self) -> bool: ...  # ruff: ignore[undocumented-public-method]

    def herd(self, make: nn.Module | Callable[[], nn.Module], *, seed: int) -> Herd:
        """The networks before training."""
        ...

    def prepare(self, run: Run) -> Run:
        """The run as the recipe wants it; itself where it wants nothing."""
        ...

    def finish(self, trained: Trained) -> Approximation:
        """What the trained networks stand for."""
        ...


def even(n: int) -> Tensor:
    """(n,) equal log weights, nats."""
    return torch.full((n,), -math.log(n), dtype=torch.float64)
