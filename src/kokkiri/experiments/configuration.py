"""One way to fit some data, as a value, and what comes of it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kokkiri.data.splits import folds, random_split
from kokkiri.herd import Herd
from kokkiri.likelihoods import Rescaled
from kokkiri.posteriors.recipe import Approximation, Recipe, Run, Trained
from kokkiri.records import Curve, Status
from kokkiri.training.engines import Engine
from kokkiri.training.held_out import held_out_rows, row_log_likelihoods
from kokkiri.training.loop import Moment, train
from kokkiri.training.plan import Plan
from kokkiri.types import Likelihood, Optimizer, Prior

Watch = Callable[[Moment], None]


@dataclass(frozen=True)
class Configuration:
    """One way to fit.

    network: a module, or a function that makes one. held_out: the share of rows that a Point is stopped by; an ensemble
    with folds is stopped by its folds. name: for the report.
    """

    network: nn.Module | Callable[[], nn.Module]
    likelihood: Likelihood
    optimizer: Optimizer
    prior: Prior
    posterior: Recipe
    plan: Plan
    held_out: float = 0.1
    name: str = ""


@dataclass(frozen=True)
class Outcome:
    """What came of a configuration.

    herd: the trained models. rows: (M,) log-likelihood of each row under models that have not seen it, nats; empty
    where all rows were trained on. That estimate is somewhat too good, since the same rows stopped the training.
    """

    configuration: Configuration
    herd: Herd
    likelihood: Likelihood  # in the target's own units
    rows: Tensor
    curve: Curve
    status: Status
    steps: int
    seconds: float
    wall: float
    resumed: int
    notes: tuple[str, ...]
    trained: Trained
    approximation: Approximation | None = None  # of the finals

    @property
    def held_out(self) -> float:
        """Mean held-out log-likelihood, nats per row."""
        return self.rows.mean().item() if len(self.rows) else math.nan

    @property
    def se(self) -> float:
        """Its standard error."""
        return (self.rows.std() / len(self.rows) ** 0.5).item() if len(self.rows) > 1 else math.nan


def run(
    configuration: Configuration,
    data: Any,
    *,
    groups: Tensor | None = None,
    engine: Engine | None = None,
    checkpoints: Path | None = None,
    watch: Watch | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Outcome:
    """Trains one configuration. groups: (N,) rows of one group are never on both sides of a held-out split."""
    c, began, clock = configuration, time.process_time(), time.perf_counter()
    target, stops = data.target, configuration.plan.patience is not None and configuration.posterior.stops
    plan = c.plan if stops else replace(c.plan, patience=None)
    likelihood = in_units(c.likelihood, target)
    members = c.posterior.herd(c.network, seed=c.plan.seed)
    classes = data.y if target is not None and target.kind == "category" else None
    training, held = data, None
    if stops and c.posterior.folds and len(data) >= 10:
        own = torch.arange(len(members)) % max(1, min(c.posterior.folds, len(members)))
        number = folds(len(data), int(own.max()) + 1, c.plan.seed, y=classes, groups=groups)
        members = replace(members, weight=(number[None, :] != own[:, None]).float())
    elif stops and len(data) >= 10:
        keep, out = random_split(len(data), c.held_out, c.plan.seed, y=classes, groups=groups)
        training, held = data.rows(keep), data.rows(out)
    last: Moment | None = None
    made = c.posterior.prepare(Run(members, training, likelihood, c.optimizer, c.prior, plan))
    moments = train(
        made.herd, training, likelihood, made.optimizer, made.prior, made.plan, held_out=held, engine=engine,
        checkpoints=checkpoints if made.keep is None else None, stop=stop, tuner=made.tuner,
    )  # fmt: skip
    kept = []
    for moment in moments:
        last = moment
        if watch is not None:
            watch(moment)
        if made.keep is not None and (some := made.keep(moment)) is not None:
            kept.append(some)
    assert last is not None
    models = last.herd
    judged = held_out_rows(held, training, models.weight, plan)
    rows = row_log_likelihoods(models, likelihood, judged) if judged is not None else torch.empty(0)
    return Outcome(
        c, models, likelihood, rows, last.curve(), _status(last, made.plan, stops), last.step,
        time.process_time() - began, time.perf_counter() - clock, last.resumed, (),
        Trained(models, made, last, tuple(kept)),
    )  # fmt: skip


def finished(outcome: Outcome) -> Outcome:
    """The same with its posterior, and the seconds that it took."""
    began, clock = time.process_time(), time.perf_counter()
    found = outcome.configuration.posterior.finish(outcome.trained)
    return replace(
        outcome, approximation=found, status=found.status or outcome.status,
        seconds=outcome.seconds + time.process_time() - began, wall=outcome.wall + time.perf_counter() - clock,
    )  # fmt: skip


def in_units(likelihood: Likelihood, target: Any) -> Likelihood:
    """The likelihood in the target's own units, where the network answers in standardised ones."""
    if target is None or target.kind != "number" or not likelihood.location_scale:
        return likelihood
    return Rescaled(likelihood, target.shift, target.scale)


def _status(last: Moment, plan: Plan, stops: bool) -> Status:
    if last.diverged and len(last.diverged) == len(last.train):
        return Status.DIVERGED
    if last.running and last.step < plan.steps:
        return Status.INTERRUPTED
    if not stops:
        return Status.DONE
    if not last.running:
        return Status.STOPPED_EARLY
    rising = [b >= plan.steps for b in last.curve().best]
    anneals = plan.schedule(plan.steps - 1, plan.steps) < 0.05  # a schedule that ends at zero is best at its end
    return Status.NOT_CONVERGED if sum(rising) > len(rising) / 2 and not anneals else Status.DONE
