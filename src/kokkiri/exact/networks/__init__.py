"""Bayesian networks over discrete variables: exact questions, explanations, draws, and tables learned from data."""

from kokkiri.exact.networks.beliefs import Beliefs
from kokkiri.exact.networks.bif import from_bif, read_network, to_bif, write_network
from kokkiri.exact.networks.explain import Explanation
from kokkiri.exact.networks.learning import DirichletTables, bdeu, counts_from, equal_counts
from kokkiri.exact.networks.missing import TableDraws, TablesMode, most_probable_tables, sample_tables
from kokkiri.exact.networks.network import BayesianNetwork, bayesian_network
from kokkiri.exact.networks.structure import Structure, Variable, structure

__all__ = [
    "BayesianNetwork",
    "Beliefs",
    "DirichletTables",
    "Explanation",
    "Structure",
    "TableDraws",
    "TablesMode",
    "Variable",
    "bayesian_network",
    "bdeu",
    "counts_from",
    "equal_counts",
    "from_bif",
    "most_probable_tables",
    "read_network",
    "sample_tables",
    "structure",
    "to_bif",
    "write_network",
]
