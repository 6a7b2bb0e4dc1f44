"""Bayes without approximation: discrete hypotheses, screening tests, conjugate families, Bayesian networks."""

from kokkiri.exact.experiment import Experiment
from kokkiri.exact.hypotheses import BayesRule, CromwellWarning, Hypotheses

__all__ = ["BayesRule", "CromwellWarning", "Experiment", "Hypotheses"]
