"""Bayes without approximation: discrete hypotheses, screening tests, conjugate families, Bayesian networks."""

from kokkiri.exact import distributions
from kokkiri.exact.conjugate import (
    BetaBernoulli,
    DirichletCategorical,
    GammaExponential,
    GammaPoisson,
    LinearRegression,
    NormalInverseGamma,
    NormalInverseWishart,
    NormalKnownVariance,
)
from kokkiri.exact.experiment import Experiment
from kokkiri.exact.hypotheses import BayesRule, CromwellWarning, Hypotheses
from kokkiri.exact.intervals import Interval
from kokkiri.exact.networks import (
    BayesianNetwork,
    Beliefs,
    DirichletTables,
    Explanation,
    Structure,
    TableDraws,
    TablesMode,
    Variable,
    bayesian_network,
    bdeu,
    counts_from,
    equal_counts,
    from_bif,
    most_probable_tables,
    read_network,
    sample_tables,
    structure,
    to_bif,
    write_network,
)
from kokkiri.exact.screening import Screening, SecondTest
from kokkiri.exact.screening_counts import ScreeningCounts

__all__ = [
    "BayesRule",
    "BayesianNetwork",
    "Beliefs",
    "BetaBernoulli",
    "CromwellWarning",
    "DirichletCategorical",
    "DirichletTables",
    "Experiment",
    "Explanation",
    "GammaExponential",
    "GammaPoisson",
    "Hypotheses",
    "Interval",
    "LinearRegression",
    "NormalInverseGamma",
    "NormalInverseWishart",
    "NormalKnownVariance",
    "Screening",
    "ScreeningCounts",
    "SecondTest",
    "Structure",
    "TableDraws",
    "TablesMode",
    "Variable",
    "bayesian_network",
    "bdeu",
    "counts_from",
    "distributions",
    "equal_counts",
    "from_bif",
    "most_probable_tables",
    "read_network",
    "sample_tables",
    "structure",
    "to_bif",
    "write_network",
]
