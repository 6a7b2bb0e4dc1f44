"""What to do: costs, thresholds, prevalence, errors of both types, the value of a further test."""

from kokkiri.decisions.best import Best, best
from kokkiri.decisions.costs import Costs, threshold
from kokkiri.decisions.decide import Decisions, decide
from kokkiri.decisions.information import Information, perfect_information, sample_information, value_of_test
from kokkiri.decisions.prevalence import corrected, training_shares

__all__ = [
    "Best",
    "Costs",
    "Decisions",
    "Information",
    "best",
    "corrected",
    "decide",
    "perfect_information",
    "sample_information",
    "threshold",
    "training_shares",
    "value_of_test",
]
