"""Whether probabilities of classes can be believed: said against seen, and calibration errors as papers print them."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import one_hot

from kokkiri.data.core import Target
from kokkiri.evaluation.values import Calibration, CalibrationError, Measure
from kokkiri.numerics import scores
from kokkiri.numerics.calibration import (
    Grouping,
    calibration_error,
    calibration_error_by_chance,
    calibration_error_interval,
    class_by_class,
    equal_mass_groups,
    equal_width_groups,
    expected_calibration_error,
    reliability,
)

GROUP_ROWS, GROUPS = 20, 10  # at most ten groups, each of about twenty rows or more
BINS = 15  # of the errors as they are published, since Guo et al. 2017


def calibration_of(p: Tensor, y: Tensor, target: Target, *, seed: int = 0) -> Calibration:
    """Of the probability of the second class where there are two, else of the class that is named; p (B, C)."""
    if target.classes == 2:
        return _calibration(f"probability of {target.levels[1]}", p[:, 1], y == 1, seed)
    return _calibration("probability of the class it names", p.amax(1), scores.correct(p, y), seed)


def published_errors(p: Tensor, y: Tensor, *, seed: int = 0) -> tuple[CalibrationError, ...]:
    """The errors that published tables print: of the class that is named, and of all classes; p (B, C)."""
    named, hit = p.amax(1), scores.correct(p, y)
    return (
        _calibration_error("ECE, 15 bins of equal width", named, hit, equal_width_groups, seed),
        _calibration_error("ECE, 15 bins of equal mass", named, hit, equal_mass_groups, seed),
        _calibration_error("ECE of all classes, 15 bins each", p, one_hot(y, p.shape[1]), class_by_class, seed),
    )


def _calibration_error(name: str, probability: Tensor, outcome: Tensor, group: Grouping, seed: int) -> CalibrationError:
    error = expected_calibration_error(probability, outcome, BINS, group)
    low, high = calibration_error_interval(probability, outcome, BINS, seed=seed, group=group)
    chance = calibration_error_by_chance(probability, BINS, seed=seed, group=group)
    return CalibrationError(
        name,
        Measure(name, float(error), "proportion", float(low), float(high)),
        float(chance.mean()),
        float(chance.quantile(0.95)),
    )


def _calibration(what: str, probability: Tensor, outcome: Tensor, seed: int) -> Calibration:
    groups = max(2, min(GROUPS, len(outcome) // GROUP_ROWS))
    bins = reliability(probability, outcome, groups)
    low, high = scores.wilson((bins.frequency * bins.rows).round(), bins.rows)
    error_low, error_high = calibration_error_interval(probability, outcome, groups, seed=seed)
    chance = calibration_error_by_chance(probability, groups, seed=seed)
    gap = float(calibration_error(bins))
    error = Measure("calibration error", gap, "proportion", float(error_low), float(error_high))
    return Calibration(
        what,
        *map(_floats, (bins.probability, bins.frequency, low, high)),
        rows=tuple(bins.rows.tolist()),
        error=error,
        by_chance=float(chance.mean()),
        by_chance_high=float(chance.quantile(0.95)),
    )


def _floats(values: Tensor) -> tuple[float, ...]:
    return tuple(values.double().tolist())
