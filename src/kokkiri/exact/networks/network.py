"""A Bayesian network: a structure and its tables. What can be asked of it is in `beliefs`, `explain` and `sampling`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from kokkiri.exact.networks.structure import Structure
from kokkiri.exact.networks.tables import checked, log_floor, with_states
from kokkiri.phrases import count

if TYPE_CHECKING:
    from kokkiri.exact.networks.beliefs import Beliefs


@dataclass(frozen=True, eq=False)
class BayesianNetwork:
    """p(x) = ∏ p(x_v | its parents), for discrete variables.

    tables: by name, float64 probabilities with an axis for each parent, in their order, and one for the variable
    itself, the last. They are checked, and rows whose sum is off by rounding are divided by it.

    >>> net = bayesian_network("rain -> wet", {
    ...     "rain": {"yes": 0.2, "no": 0.8},
    ...     "wet": {"yes": {"yes": 0.9, "no": 0.1}, "no": {"yes": 0.1, "no": 0.9}},
    ... })
    >>> [round(p, 6) for p in net.given(wet="yes")["rain"].tolist()]
    [0.692308, 0.307692]
    """

    structure: Structure
    tables: Mapping[str, Tensor]
    name: str = "network"
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "tables", checked(self.structure, self.tables))

    @cached_property
    def arrays(self) -> tuple[np.ndarray, ...]:
        """The tables as numpy sees them, by number."""
        return tuple(self.tables[name].numpy() for name in self.structure.names)

    @cached_property
    def log_arrays(self) -> tuple[np.ndarray, ...]:
        """Their logarithms."""
        with np.errstate(divide="ignore"):
            return tuple(np.log(table) for table in self.arrays)

    @cached_property
    def log_floors(self) -> tuple[float, ...]:
        """The logarithm of the least probability above zero in each table: no product falls below their sum."""
        return tuple(log_floor(self.tables[name]) for name in self.structure.names)

    @property
    def entries(self) -> int:
        """How many probabilities the tables hold."""
        return sum(table.numel() for table in self.tables.values())

    @cached_property
    def prior(self) -> Beliefs:
        """All marginals without evidence."""
        return self.given()

    def given(
        self,
        evidence: Any = None,
        *,
        of: str | Sequence[str] | None = None,
        soft: Mapping[str, Any] | None = None,
        **states: str,
    ) -> Beliefs:
        """What is believed once some variables are known: see `beliefs.given`."""
        from kokkiri.exact.networks.beliefs import given

        return given(self, evidence, states, of=of, soft=soft)

    def draw(self, draws: int, seed: int = 0) -> dict[str, Tensor]:
        """(draws,) states of every variable, as their numbers, out of the joint distribution."""
        return self.given(of=()).draw(draws, seed)

    def log_prob(self, rows: Any) -> Tensor:
        """Log p of rows of evidence, (N,) nats; cells that are missing are summed over."""
        return self.given(rows, of=()).log_evidence

    def __repr__(self) -> str:
        variables, arrows = count(len(self.structure.variables), "variable"), count(len(self.structure.arrows), "arrow")
        return f"BayesianNetwork({self.name}: {variables}, {arrows}, {self.entries:,} probabilities)"

    def __str__(self) -> str:
        """Its marginals, as a table."""
        return str(self.prior)

    def picture(self) -> str:
        """The graph with the marginals of every variable, as the text of an SVG."""
        return self.prior.picture()


def bayesian_network(
    arrows: str | Mapping[str, Sequence[str]] | Structure,
    tables: Mapping[str, Any],
    states: Mapping[str, Sequence[str]] | None = None,
    *,
    name: str = "network",
) -> BayesianNetwork:
    """A network out of an arrow string (or the parents of each variable) and tables.

    A table is a tensor, or nested lists, with an axis for each parent and one for the variable; or mappings, from each
    state to its probability, within mappings from the parents' states, one parent inside the other or in tuples.
    states: the names of states where no mapping says them.

    >>> bayesian_network("{a, b} -> c", {
    ...     "a": [0.5, 0.5], "b": [0.9, 0.1],
    ...     "c": {("0", "0"): {"no": 1.0, "yes": 0.0}, ("0", "1"): [0.5, 0.5], "1": {"0": [0.5, 0.5], "1": [0.0, 1.0]}},
    ... })
    BayesianNetwork(network: 3 variables, 2 arrows, 12 probabilities)
    """
    return BayesianNetwork(with_states(arrows, tables, states), tables, name)


def trusted(structure: Structure, tables: Mapping[str, Tensor], name: str = "network") -> BayesianNetwork:
    """A network of tables that were made here, and need no check."""
    network = object.__new__(BayesianNetwork)
    vars(network).update(structure=structure, tables=tables, name=name, notes=())
    return network
