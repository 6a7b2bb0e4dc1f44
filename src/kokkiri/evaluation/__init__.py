"""How good a prediction is on rows that nothing has seen: evaluation, baselines, and both in one table."""

from __future__ import annotations

from kokkiri.evaluation.alternatives import alternatives
from kokkiri.evaluation.baseline import baselines
from kokkiri.evaluation.compare import Compared, Comparison, comparison
from kokkiri.evaluation.out_of_distribution import out_of_distribution, separation, shuffled
from kokkiri.evaluation.recalibration import (
    ConformalIntervals,
    ConformalSets,
    Recalibration,
    conformal_intervals,
    conformal_sets,
    recalibrated,
    recalibration_for,
)
from kokkiri.evaluation.scoring import evaluate
from kokkiri.evaluation.values import (
    Alternative,
    Alternatives,
    Calibration,
    CalibrationError,
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

__all__ = [
    "Alternative",
    "Alternatives",
    "Calibration",
    "CalibrationError",
    "ClassErrors",
    "ClassScore",
    "Compared",
    "Comparison",
    "ConformalIntervals",
    "ConformalSets",
    "Coverage",
    "Evaluation",
    "Measure",
    "NumberErrors",
    "Points",
    "Recalibration",
    "Residuals",
    "TwoClasses",
    "Uncertainty",
    "alternatives",
    "baselines",
    "comparison",
    "conformal_intervals",
    "conformal_sets",
    "evaluate",
    "out_of_distribution",
    "recalibrated",
    "recalibration_for",
    "separation",
    "shuffled",
]
