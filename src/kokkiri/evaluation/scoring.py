"""A prediction and the truth -> an Evaluation."""

from __future__ import annotations

import math
from itertools import starmap
from typing import Any

import torch
from torch import Tensor

from kokkiri.data.core import Target
from kokkiri.errors import DataError, ShapeError
from kokkiri.evaluation.calibration import GROUP_ROWS, GROUPS, calibration_of, published_errors
from kokkiri.evaluation.values import (
    ClassErrors,
    ClassScore,
    Coverage,
    Evaluation,
    Measure,
    NumberErrors,
    Points,
    Residuals,
    TwoClasses,
    Uncertainty,
)
from kokkiri.numerics import scores
from kokkiri.numerics.calibration import equal_mass_groups
from kokkiri.numerics.distributions import Normal
from kokkiri.numerics.random import permutation
from kokkiri.predictive import Mixture
from kokkiri.types import Predictive

COVERAGE_LEVELS = (0.5, 0.8, 0.9, 0.95)
POINTS = 500  # more dots than this hide one another in a picture of a few hundred pixels
PAIRS = 100_000_000  # terms of a closed form that are worth a second or two; more of them, and draws give the CRPS


def evaluate(predictive: Predictive, y: Tensor, target: Target, *, seed: int = 0) -> Evaluation:
    """Scores of p(y | x) for B rows and their true y: (B,) class numbers, or (B,) or (B, T) values.

    seed: for the bootstrap, the draws behind CRPS and PIT, and the choice of points for pictures.
    """
    if not len(y):
        raise DataError("there are no rows to evaluate on", needs="one test row at least", fix="a larger test share")
    y = y.squeeze(1) if y.ndim == 2 and y.shape[1] == 1 else y  # one target in a column of its own
    expected = (len(y), target.classes) if target.kind == "category" else tuple(y.shape)
    if tuple(predictive.mean.shape) != expected:
        raise ShapeError(
            f"a prediction of shape {tuple(predictive.mean.shape)} for targets of shape {tuple(y.shape)}",
            needs=f"a mean of shape {expected} for the {target.kind} {target.name!r}",
            found=f"{tuple(predictive.mean.shape)}",
            fix="predict the rows whose targets these are",
        )
    log_likelihood = _mean("log-likelihood", predictive.log_prob(y).double(), "nats per row")
    common: dict[str, Any] = {
        "target": target.name, "kind": target.kind, "rows": len(y), "log_likelihood": log_likelihood,
        "headline": headline(predictive, y, target)[0], "uncertainty": _uncertainty(predictive, y, target),
    }  # fmt: skip
    if target.kind == "category":
        return Evaluation(
            metrics=_class_metrics(predictive, y, seed), classes=_classes(predictive, y, target, seed), **common
        )
    return Evaluation(metrics=_number_metrics(predictive, y, seed), numbers=_numbers(predictive, y, seed), **common)


def headline(predictive: Predictive, y: Tensor, target: Target) -> tuple[Measure, ...]:
    """What matters beside the log-likelihood: accuracy, or RMSE and R² (of several targets their mean R²)."""
    mean = predictive.mean.double()
    if target.kind == "category":
        return (_proportion("accuracy", int(scores.correct(mean, y).sum()), len(y)),)
    if y.ndim > 1:
        values, errors = zip(*starmap(scores.r2, zip(mean.T, y.double().T, strict=True)), strict=True)
        error = torch.stack(errors).square().mean().sqrt()  # as if the targets erred together: on the wide side
        return (_interval("R²", torch.stack(values).mean(), error, highest=1.0),)
    return _interval("RMSE", *scores.rmse(mean, y.double()), "target", lowest=0.0), _r_squared(mean, y)


def _r_squared(mean: Tensor, y: Tensor) -> Measure:
    return _interval("R²", *scores.r2(mean, y.double()), highest=1.0)


# -- classes ---------------------------------------------------------------------------------------------------------


def _class_metrics(predictive: Predictive, y: Tensor, seed: int) -> tuple[Measure, ...]:
    p = predictive.mean.double()
    brier = _mean("Brier score", scores.brier(p, y))
    if p.shape[1] > 2:
        hit, present = scores.correct(p, y).double(), torch.bincount(y, minlength=p.shape[1])
        recall = torch.bincount(y, hit, minlength=p.shape[1])[present > 0] / present[present > 0]
        error = (recall * (1 - recall) / present[present > 0]).sum().sqrt() / len(recall)
        return _interval("balanced accuracy", recall.mean(), error, "proportion", 0.0, 1.0), brier
    positive, score = y == 1, p[:, 1]
    if positive.all() or not positive.any():  # nothing to rank
        return (brier,)
    precision = scores.average_precision(score, positive)
    draws = scores.bootstrap(
        lambda rows: scores.average_precision(score[rows], positive[rows]), len(y), seed=seed, draws=200
    )
    low, high = draws[draws.isfinite()].quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return (
        _interval("AUROC", *scores.auroc(score, positive), lowest=0.0, highest=1.0),
        Measure("average precision", float(precision), low=low, high=high),
        brier,
    )


def _classes(predictive: Predictive, y: Tensor, target: Target, seed: int) -> ClassErrors:
    p = predictive.mean.double()
    counts = scores.confusion(p.argmax(1), y, target.classes)
    present, predicted, right = counts.sum(1).tolist(), counts.sum(0).tolist(), counts.diagonal().tolist()
    by_class = tuple(
        ClassScore(level, n, m, _proportion("precision", k, m), _proportion("recall", k, n))
        for level, n, m, k in zip(target.levels, present, predicted, right, strict=True)
    )
    two = None
    if target.classes == 2:
        (_, false_alarms), (misses, _) = counts.tolist()
        two = TwoClasses(
            positive=target.levels[1], negative=target.levels[0], positives=present[1], negatives=present[0],
            false_alarms=false_alarms, misses=misses,
            type_one=_proportion("type I error", false_alarms, present[0]),
            type_two=_proportion("type II error", misses, present[1]),
        )  # fmt: skip
    return ClassErrors(
        target.levels, tuple(tuple(row) for row in counts.tolist()), by_class,
        calibration_of(p, y, target, seed=seed), two, published_errors(p, y, seed=seed),
    )  # fmt: skip


# -- numbers ---------------------------------------------------------------------------------------------------------


def _number_metrics(predictive: Predictive, y: Tensor, seed: int) -> tuple[Measure, ...]:
    mean, y = predictive.mean.double(), y.double()
    crps = crps_of(predictive, y, seed=seed)
    if y.ndim > 1:
        columns = enumerate(zip(mean.T, y.T, crps.T, strict=True), 1)
        return tuple(_named(m, f" of target {t}") for t, (m, column, c) in columns for m in _one_target(m, column, c))
    return _one_target(mean, y, crps)[1:]  # the RMSE is the headline


def crps_of(predictive: Predictive, y: Tensor, *, seed: int = 0) -> Tensor:
    """CRPS of each value, of the shape of y: exact for mixtures of normals of not too many draws, else from draws."""
    if isinstance(predictive, Mixture) and isinstance(predictive.components, Normal):
        location, scale = predictive.components.location, predictive.components.scale
        if location.numel() * len(location) <= PAIRS:
            z = (y.double().reshape(location.shape[1:]) - predictive.shift) / predictive.scale
            exact = predictive.scale * scores.crps_normals(location, scale, predictive.log_weights, z)
            return exact.reshape(y.shape)
    return scores.crps_samples(_draws(predictive, y, seed), y)


def pit_of(predictive: Predictive, y: Tensor, *, seed: int = 0) -> Tensor:
    """P(Y <= y) of each value, of the shape of y: exact for densities, by ranks among draws with ties cut at random."""
    if isinstance(predictive, Mixture) and not predictive.components.discrete:
        return predictive.cdf(y).reshape(y.shape)
    return scores.pit(_draws(predictive, y, seed), y.double(), seed=seed)


def _one_target(mean: Tensor, y: Tensor, crps: Tensor) -> tuple[Measure, ...]:
    median, low, high = scores.median_absolute_error(mean, y)
    return (
        _interval("RMSE", *scores.rmse(mean, y), "target", lowest=0.0),
        _r_squared(mean, y),
        _mean("mean absolute error", (mean - y).abs(), "target"),
        Measure("median absolute error", float(median), "target", float(low), float(high)),
        _mean("CRPS", crps, "target"),
    )


def _numbers(predictive: Predictive, y: Tensor, seed: int) -> NumberErrors:
    y = y.double()
    residual, mean, coverage = (y - predictive.mean.double()).flatten(), predictive.mean.double(), []
    for level in COVERAGE_LEVELS:
        low, high = (bound.double() for bound in predictive.interval(level))
        held = int(scores.inside(low, high, y).sum())
        coverage.append(Coverage(level, _proportion("coverage", held, y.numel()), float((high - low).mean())))
    low, high = (bound.double().flatten() for bound in predictive.interval(0.9))
    some = permutation(y.numel(), seed, "points")[:POINTS].sort().values
    row = some // (y.numel() // len(y))
    points = (_floats(values.flatten()[some]) for values in (y, mean, low, high))
    levels = torch.tensor([0.05, 0.25, 0.5, 0.75, 0.95], dtype=torch.float64)
    quantiles = residual.sort().values[
        (levels * (len(residual) - 1)).round().long()
    ]  # torch.quantile stops at 16 M rows
    pit = pit_of(predictive, y, seed=seed)
    return NumberErrors(
        coverage=tuple(coverage),
        residuals=Residuals(_mean("bias", residual, "target"), float(residual.std(correction=0)), _floats(quantiles)),
        pit=tuple(scores.histogram(pit.flatten(), 10).tolist()),
        points=Points(tuple(row.tolist()), *points),
    )


def _draws(predictive: Predictive, y: Tensor, seed: int) -> Tensor:
    return predictive.sample(max(20, min(200, 4_000_000 // y.numel())), seed=seed).double()


# -- both ------------------------------------------------------------------------------------------------------------


def _uncertainty(predictive: Predictive, y: Tensor, target: Target) -> Uncertainty | None:
    aleatoric, epistemic, mean = predictive.aleatoric.double(), predictive.epistemic.double(), predictive.mean.double()
    if not (aleatoric.isfinite().all() and epistemic.isfinite().all()):
        return None
    observed = scores.brier(mean, y) if target.kind == "category" else (mean - y).square()
    per_row = lambda t: t.reshape(len(y), -1).sum(1)
    aleatoric, epistemic, observed = per_row(aleatoric), per_row(epistemic), per_row(observed)
    group = equal_mass_groups(aleatoric + epistemic, max(1, min(GROUPS, len(y) // GROUP_ROWS)))
    rows = torch.bincount(group)
    means = (_floats(torch.bincount(group, values) / rows) for values in (aleatoric, epistemic, observed))
    total = float((aleatoric + epistemic).sum())
    return Uncertainty(
        tuple(rows.tolist()), *means, epistemic_share=float(epistemic.sum()) / total if total > 0 else 0.0
    )


def _mean(name: str, values: Tensor, unit: str = "") -> Measure:
    error = float(scores.standard_error(values))
    return Measure(name, float(values.mean()), unit, se=None if math.isnan(error) else error)  # one row alone has none


def _proportion(name: str, successes: int, n: int) -> Measure:
    low, high = scores.wilson(successes, n)
    return Measure(name, successes / n if n else float("nan"), "proportion", float(low), float(high))


def _interval(
    name: str,
    value: Tensor,
    error: Tensor,
    unit: str = "",
    lowest: float = float("-inf"),
    highest: float = float("inf"),
) -> Measure:
    """The normal 95 % interval, cut at what the value can be; none where the error is unknown or degenerate."""
    centre, half = float(value), 1.959964 * float(error)
    if not half > 0:
        return Measure(name, centre, unit)
    return Measure(name, centre, unit, max(centre - half, lowest), min(centre + half, highest))


def _named(measure: Measure, suffix: str) -> Measure:
    return Measure(measure.name + suffix, measure.value, measure.unit, measure.low, measure.high, measure.se)


def _floats(values: Tensor) -> tuple[float, ...]:
    return tuple(values.double().tolist())
