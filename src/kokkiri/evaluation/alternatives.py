"""The model beside the usual repairs of its uncertainty, and beside the baselines, in one table.

The repairs need rows that nothing was trained on, and are judged on rows that they have not seen either. Both are found
among the test rows, by cross-fitting: they are cut in two, and each half is judged with what the other taught.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from kokkiri.data.core import Target
from kokkiri.data.splits import folds
from kokkiri.errors import Unsupported
from kokkiri.evaluation.calibration import calibration_of
from kokkiri.evaluation.recalibration import (
    Recalibration,
    conformal_intervals,
    conformal_sets,
    log_probabilities,
    recalibrated,
    recalibration_for,
)
from kokkiri.evaluation.scoring import crps_of, pit_of
from kokkiri.evaluation.values import Alternative, Alternatives, Measure
from kokkiri.numerics import scores
from kokkiri.numerics.calibration import pit_distance, wide_interval
from kokkiri.predictive import Classes, Mixture
from kokkiri.types import Predictive

FEWEST_ROWS = 20  # in each half: 90 % conformal sets need 9, and a factor from fewer than 20 is mostly noise


class _Part(NamedTuple):
    """Row numbers of the half that teaches, and of the half that is judged."""

    teaching: Tensor
    judged: Tensor


def alternatives(
    rows: Sequence[tuple[str, Predictive]],
    y: Tensor,
    target: Target,
    *,
    level: float = 0.9,
    seed: int = 0,
    groups: Tensor | None = None,
) -> Alternatives:
    """Compare predictions of the same rows, the first the model's, with temperature scaling and conformal sets of it.

    level: of the sets and intervals. seed: for the halves, and what `evaluate` has one for. groups: (B,) rows of one
    group stay in one half. Halves of fewer than 20 rows leave the repairs out, and `left_out` says so.

    >>> from kokkiri.numerics.distributions import Normal
    >>> y = torch.linspace(-3, 3, 100, dtype=torch.float64)
    >>> p = Mixture(Normal(torch.zeros(1, 100, 1), torch.zeros(1, 100, 1)), torch.zeros(1))
    >>> [line.name for line in alternatives([("model", p)], y, Target("y", "number")).lines]
    ['model', 'spread rescaled', 'conformal, scaled', 'conformal, quantiles']
    """
    y = y.squeeze(1) if y.ndim == 2 and y.shape[1] == 1 else y
    model = rows[0][1]
    lines = [_line(name, predictive, y, target, level, seed) for name, predictive in rows]
    parts, left_out = _halves(model, y, seed, groups)
    repairs, factors = _repairs(model, y, target, parts, level, seed) if parts else ([], ())
    return Alternatives(
        target.kind, level, len(y), (lines[0], *repairs, *lines[1:]), tuple(len(p.judged) for p in parts),
        factors, groups is not None, left_out,
    )  # fmt: skip


def _halves(model: Predictive, y: Tensor, seed: int, groups: Tensor | None) -> tuple[list[_Part], str]:
    """Two parts, or none and why."""
    if not isinstance(model, Classes | Mixture):
        return [], f"a {type(model).__name__} cannot be taken apart by rows"
    if not bool(model.mean.isfinite().all()):
        return [], "its predictions are not finite"
    units = len(y) if groups is None else len(groups.unique())
    half = folds(len(y), 2, seed, groups=groups) if units >= 2 else torch.zeros(len(y))
    parts = [_Part((half != k).nonzero()[:, 0], (half == k).nonzero()[:, 0]) for k in (0, 1)]
    if min(len(p.judged) for p in parts) < FEWEST_ROWS:
        whole = "" if groups is None else " that leave groups whole"
        return [], f"{len(y)} test rows do not give two halves of {FEWEST_ROWS}{whole}"
    return parts, ""


# -- the lines -------------------------------------------------------------------------------------------------------


def _line(name: str, predictive: Predictive, y: Tensor, target: Target, level: float, seed: int) -> Alternative:
    """Of what has a density."""
    log_likelihood = _mean("log-likelihood", predictive.log_prob(y).double(), "nats per row")
    if target.kind == "category":
        p = predictive.mean.double()
        score, error = _mean("Brier score", scores.brier(p, y)), calibration_of(p, y, target, seed=seed).error
        coverage, size = _of_sets(_smallest(predictive, level), y)
    else:
        score = _mean("CRPS", crps_of(predictive, y, seed=seed).flatten(), "target")
        error = _pit_error(pit_of(predictive, y, seed=seed).flatten(), seed)
        coverage, size = _of_intervals(*predictive.interval(level), y)
    return Alternative(name, log_likelihood, score, error, coverage, size)


def _repairs(
    model: Any, y: Tensor, target: Target, parts: list[_Part], level: float, seed: int
) -> tuple[list[Alternative], tuple[Measure, ...]]:
    lines: list[Alternative] = []
    factors: tuple[Measure, ...] = ()
    category = target.kind == "category"
    with contextlib.suppress(Unsupported):  # counts have no spread of their own
        found = [recalibration_for(model.rows(p.teaching), y[p.teaching]) for p in parts]
        factor = [
            torch.full((len(p.judged),), f.factor, dtype=torch.float64) for f, p in zip(found, parts, strict=True)
        ]
        mended = recalibrated(model, _in_place(factor, parts))
        name = "temperature scaling" if category else "spread rescaled"
        lines.append(_line(name, mended, y, target, level, seed))
        factors = tuple(map(_factor, found))
    for flag in (True, False):
        if category:
            sets = [_conformal_sets(model, y, p, level, flag, seed) for p in parts]
            measures = _of_sets(_in_place(sets, parts), y)
        else:
            lows, highs = zip(*(_conformal_interval(model, y, p, level, not flag) for p in parts), strict=True)
            measures = _of_intervals(_in_place(lows, parts), _in_place(highs, parts), y)
        name = ("adaptive" if flag else "simple") if category else ("scaled" if flag else "quantiles")
        lines.append(Alternative(f"conformal, {name}", None, None, None, *measures))
    return lines, factors


def _conformal_sets(model: Any, y: Tensor, part: _Part, level: float, adaptive: bool, seed: int) -> Tensor:
    taught = conformal_sets(model.rows(part.teaching), y[part.teaching], level, adaptive=adaptive, seed=seed)
    return taught.sets(model.rows(part.judged), seed=seed)


def _conformal_interval(model: Any, y: Tensor, part: _Part, level: float, by_quantiles: bool) -> tuple[Tensor, Tensor]:
    taught = conformal_intervals(model.rows(part.teaching), y[part.teaching], level, by_quantiles=by_quantiles)
    return taught.interval(model.rows(part.judged))


def _in_place(values: Sequence[Tensor], parts: list[_Part]) -> Tensor:
    """What was found for each half, in the order of the rows."""
    return torch.cat(list(values))[torch.cat([p.judged for p in parts]).argsort()]


# -- their numbers ---------------------------------------------------------------------------------------------------


def _smallest(predictive: Predictive, level: float) -> Tensor:
    """The fewest classes that the model says hold the truth with probability `level`."""
    return Classes(log_probabilities(predictive)[None], torch.zeros(1)).prediction_set(level)


def _of_sets(sets: Tensor, y: Tensor) -> tuple[Measure, Measure]:
    return _coverage(sets.gather(1, y[:, None])), _mean("classes in a set", sets.sum(1).double())


def _of_intervals(low: Tensor, high: Tensor, y: Tensor) -> tuple[Measure, Measure]:
    width = (high - low).double().flatten()
    return _coverage(scores.inside(low, high, y.double())), _mean("mean width", width, "target")


def _coverage(held: Tensor) -> Measure:
    low, high = scores.wilson(int(held.sum()), held.numel())
    return Measure("coverage", int(held.sum()) / held.numel(), "proportion", float(low), float(high))


def _pit_error(pit: Tensor, seed: int) -> Measure:
    low, high = wide_interval(lambda rows: pit_distance(pit[rows]), len(pit), seed=seed)
    return Measure("calibration error", float(pit_distance(pit)), "proportion", float(low), float(high))


def _mean(name: str, values: Tensor, unit: str = "") -> Measure:
    mean, error = float(values.mean()), float(scores.standard_error(values))
    return Measure(name, mean, unit, se=error if math.isfinite(error) and error > 1e-12 * abs(mean) else None)


def _factor(found: Recalibration) -> Measure:
    half = math.exp(1.959964 * found.log_error)
    if math.isnan(half):
        return Measure("factor", found.factor)
    return Measure("factor", found.factor, low=found.factor / half, high=found.factor * half)
