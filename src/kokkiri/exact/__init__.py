"""Bayes without approximation: discrete hypotheses, screening tests, conjugate families, Bayesian networks."""

from kokkiri.exact.experiment import Experiment
from kokkiri.exact.hypotheses import BayesRule, CromwellWarning, Hypotheses
from kokkiri.exact.intervals import Interval
from kokkiri.exact.screening import Screening, SecondTest
from kokkiri.exact.screening_counts import ScreeningCounts

__all__ = [
    "BayesRule",
    "CromwellWarning",
    "Experiment",
    "Hypotheses",
    "Interval",
    "Screening",
    "ScreeningCounts",
    "SecondTest",
]
