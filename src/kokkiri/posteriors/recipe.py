"""What a way to approximate a posterior must offer, and what it is given.

A recipe says how many networks are trained, may step into the training (a tuner of the prior, an optimizer of its own, a
look at every moment), and makes of the trained herd an `Approximation`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn

from kokkiri.herd import Herd
from kokkiri.numerics.operators import Blocks
from kokkiri.records import Evidence
from kokkiri.training.loop import Moment, Tuner
from kokkiri.training.plan import Plan
from kokkiri.types import Likelihood, Optimizer, Prior


@dataclass(frozen=True)
class Trained:
    """A training run, as `finish` is given it.

    herd: the trained networks, their precisions in `hyper`. data: the rows that they were trained on. moments: what
    `keep` asked to be kept of the run.
    """

    herd: Herd
    data: Any
    likelihood: Likelihood  # in the target's own units
    prior: Prior
    plan: Plan
    moments: tuple[Moment, ...] = ()


@dataclass(frozen=True)
class Approximation:
    """sum_r exp(log_weight_r) N(θ | herd_r, precision_r⁻¹). precision: one for each replica, or () for points.

    linear: whether predictions linearise the network around each replica, as a Gaussian around a mode asks for; else
    they run it at draws. exact, notes: what the record says.
    """

    herd: Herd
    log_weight: Tensor
    precision: tuple[Blocks, ...] = ()
    linear: bool = False
    evidence: Evidence | None = None
    prior: Prior | None = None  # where evidence moved it
    exact: str = ""
    notes: tuple[str, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)


@runtime_checkable
class Recipe(Protocol):
    """How a posterior comes about. Frozen values, one file each.

    size: networks that are trained. folds: with early stopping, the rows are cut into so many folds, and each network is
    stopped by one it has not seen; 0: a share of the rows stops them. stops: whether held-out rows stop the training at
    all (False: all rows are trained on, the prior alone regularises).
    """

    @property
    def size(self) -> int: ...
    @property
    def folds(self) -> int: ...
    @property
    def stops(self) -> bool: ...
    def herd(self, make: nn.Module | Callable[[], nn.Module], *, seed: int) -> Herd: ...
    def prior(self, prior: Prior, herd: Herd) -> Prior: ...  # the prior to train under
    def start(self, herd: Herd) -> Herd: ...  # may set hyperparameters of the prior, replica by replica
    def optimizer(self, optimizer: Optimizer, rows: int) -> Optimizer: ...  # the optimizer to train with
    def tuner(self, data: Any, likelihood: Likelihood, prior: Prior, plan: Plan) -> Tuner | None: ...
    def keep(self, plan: Plan) -> Callable[[Moment], bool] | None: ...  # which moments `finish` wants
    def finish(self, trained: Trained) -> Approximation: ...


def even(n: int) -> Tensor:
    """(n,) equal log weights."""
    import math

    import torch

    return torch.full((n,), -math.log(n), dtype=torch.float64)
