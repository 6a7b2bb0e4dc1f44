"""How good a prediction is on rows that nothing has seen: evaluation, baselines, and both in one table."""

from __future__ import annotations

from kokkiri.evaluation.baseline import baselines
from kokkiri.evaluation.compare import Compared, Comparison, comparison
from kokkiri.evaluation.scoring import evaluate
from kokkiri.evaluation.values import (
    Calibration,
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
    "Calibration",
    "ClassErrors",
    "ClassScore",
    "Compared",
    "Comparison",
    "Coverage",
    "Evaluation",
    "Measure",
    "NumberErrors",
    "Points",
    "Residuals",
    "TwoClasses",
    "Uncertainty",
    "baselines",
    "comparison",
    "evaluate",
]
