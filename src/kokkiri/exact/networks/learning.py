"""Tables learned from rows: a Dirichlet for every row of every table, which complete rows update in closed form.

Tables of different variables, and rows of one table, are independent a priori, and complete rows leave them so
(Spiegelhalter & Lauritzen 1990, "Sequential updating of conditional probabilities on directed graphical structures").
Rows with missing cells are for `most_probable_tables` and `sample_tables`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kokkiri.errors import DataError, ShapeError, UsageError, nearest
from kokkiri.exact.distributions import Dirichlet
from kokkiri.exact.networks.evidence import Rows, rows_of
from kokkiri.exact.networks.network import BayesianNetwork, trusted
from kokkiri.exact.networks.structure import Structure
from kokkiri.numerics.gammas import dirichlet_log_evidence
from kokkiri.numerics.random import philox
from kokkiri.phrases import count


@dataclass(frozen=True, eq=False)
class DirichletTables:
    """What is believed of the tables of a network: every row is Dirichlet, independent of the others.

    counts: by name, the parameters α, float64 in the shape of the tables: before any rows they are pseudo-counts, as if
    so many rows had been seen.

    >>> from kokkiri.exact.networks.structure import structure
    >>> coin = equal_counts(structure("coin", {"coin": ("heads", "tails")}))
    >>> learnt = coin.update({"coin": ["heads", "heads", "tails"]})
    >>> learnt.counts["coin"].tolist(), learnt.network.tables["coin"].tolist()
    ([3.0, 2.0], [0.6, 0.4])
    """

    structure: Structure
    counts: Mapping[str, Tensor]

    def __post_init__(self) -> None:
        object.__setattr__(self, "counts", _checked_counts(self.structure, self.counts))

    def __getitem__(self, name: str) -> Dirichlet:
        """The posterior of the table of one variable: a Dirichlet for each setting of its parents."""
        self.structure.number(name)
        return Dirichlet(self.counts[name])

    def update(self, rows: Any) -> DirichletTables:
        """The posterior after complete rows, by Bayes' rule: each adds one to a count of every table.

        rows: whatever holds a table, with a column for each variable; others are left aside. Raises DataError where a
        cell is missing.
        """
        more = counted(self.structure, complete_rows(self.structure, rows))
        return DirichletTables(self.structure, {name: alpha + more[name] for name, alpha in self.counts.items()})

    def log_evidence(self, rows: Any) -> float:
        """Log p(rows | what is believed now), nats, of complete rows in their order.

        From a prior it is the Bayesian Dirichlet score of the structure (Heckerman, Geiger & Chickering 1995, "Learning
        Bayesian networks", eq. 28).

        >>> from kokkiri.exact.networks.structure import structure
        >>> coin = equal_counts(structure("coin", {"coin": ("heads", "tails")}))
        >>> round(float(np.exp(coin.log_evidence({"coin": ["heads", "heads"]}))), 12)  # 1 / 2 · 2 / 3
        0.333333333333
        """
        more = counted(self.structure, complete_rows(self.structure, rows))
        return sum(float(dirichlet_log_evidence(alpha, more[name]).sum()) for name, alpha in self.counts.items())

    @property
    def network(self) -> BayesianNetwork:
        """The tables' means: for one case more, the exact prediction of what the rows have taught."""
        means = {name: alpha / alpha.sum(-1, keepdim=True) for name, alpha in self.counts.items()}
        return trusted(self.structure, means, "learnt")

    def draw(self, draws: int, seed: int = 0) -> tuple[BayesianNetwork, ...]:
        """Networks whose tables are independent draws."""
        rng = philox(seed, "draws of tables")
        return tuple(trusted(self.structure, draw_tables(self.counts, rng), "drawn") for _ in range(draws))

    def __repr__(self) -> str:
        entries = sum(alpha.numel() for alpha in self.counts.values())
        return f"DirichletTables({count(len(self.counts), 'table')}, {count(entries, 'count')})"


def bdeu(what: Structure | BayesianNetwork, size: float = 1.0) -> DirichletTables:
    """Pseudo-counts as if `size` rows had been seen, alike in all settings: α = size / (settings of parents · states).

    Structures with the same independences get the same evidence (Heckerman et al. 1995, BDeu).

    >>> from kokkiri.exact.networks.bif import read_network
    >>> bdeu(read_network("asia"), 4.0).counts["lung"].tolist()
    [[1.0, 1.0], [1.0, 1.0]]
    """
    found = what.structure if isinstance(what, BayesianNetwork) else what
    _positive("the size", size)
    shapes = {name: found.shape(name) for name in found.names}
    return DirichletTables(found, {n: torch.full(s, size / np.prod(s), dtype=torch.float64) for n, s in shapes.items()})


def equal_counts(what: Structure | BayesianNetwork, each: float = 1.0) -> DirichletTables:
    """The same pseudo-count for every entry: 1 is uniform over all tables, 1/2 Jeffreys' for a single row."""
    found = what.structure if isinstance(what, BayesianNetwork) else what
    _positive("a pseudo-count", each)
    return DirichletTables(found, {n: torch.full(found.shape(n), each, dtype=torch.float64) for n in found.names})


def counts_from(network: BayesianNetwork, size: float) -> DirichletTables:
    """Pseudo-counts as if `size` rows of this network had been seen: α = size · p(state, parents), which must not be 0.

    Source: Heckerman et al. 1995, eq. 30 (BDe, from a prior network).

    >>> from kokkiri.exact.networks.network import bayesian_network
    >>> pair = bayesian_network("a -> b", {"a": [0.5, 0.5], "b": [[0.75, 0.25], [0.5, 0.5]]})
    >>> counts_from(pair, 16).counts["b"].tolist()
    [[6.0, 2.0], [4.0, 4.0]]
    """
    _positive("the size", size)
    joint = {v.name: network.prior.joint(*v.parents, v.name) * size for v in network.structure.variables}
    return DirichletTables(network.structure, joint)


def complete_rows(what: Structure, rows: Any) -> Rows:
    """Rows with a known state of every variable; others are refused, with the place."""
    found = rows_with_all(what, rows)
    gone = found.codes < 0
    if gone.any():
        row, k = np.argwhere(gone)[0].tolist()
        raise DataError(
            f"row {row + 1:,} has no '{what.variables[found.columns[k]].name}'", needs="complete rows",
            found=f"{count(int(gone.any(1).sum()), 'row')} of {len(gone):,} with a cell missing",
            fix="most_probable_tables and sample_tables learn from such rows",
        )  # fmt: skip
    return found


def rows_with_all(what: Structure, rows: Any, hidden: tuple[str, ...] | list[str] = ()) -> Rows:
    """Rows with a column for every variable; those in `hidden` were never seen, and are missing throughout."""
    found = rows_of(what, rows)
    for name in hidden:
        what.number(name)
    absent = [what.variables[i].name for i in range(len(what.sizes)) if i not in found.columns]
    if unsaid := [name for name in absent if name not in hidden]:
        raise DataError(
            f"there is no column '{unsaid[0]}'", needs="a column for every variable",
            found=f"{len(found.columns)} of {len(what.sizes)} variables; other columns: "
            + (", ".join(found.others[:6]) or "none"),
            fix=nearest(unsaid[0], found.others) if found.others
            else f'with missing cells: hidden=["{unsaid[0]}"] for a variable that was never seen',
        )  # fmt: skip
    codes = np.full((len(found.codes), len(what.sizes)), -1)
    codes[:, list(found.columns)] = found.codes
    return Rows(tuple(range(len(what.sizes))), codes, found.others)


def counted(what: Structure, rows: Rows, weights: np.ndarray | None = None) -> dict[str, Tensor]:
    """How often each family of states occurs in complete rows, in the shape of the tables."""
    found = {}
    for v, family in zip(what.variables, what.families, strict=True):
        shape = tuple(what.sizes[i] for i in family)
        line = np.ravel_multi_index(tuple(rows.codes[:, i] for i in family), shape)
        n = np.bincount(line, weights, minlength=int(np.prod(shape)))
        found[v.name] = torch.from_numpy(n.astype(np.float64).reshape(shape))
    return found


def draw_tables(counts: Mapping[str, Tensor], rng: np.random.Generator) -> dict[str, Tensor]:
    """One draw of every table.

    Gamma(a) = Gamma(a + 1) U^(1/a) in distribution (Stuart 1962), so that small counts do not underflow all at once.
    """
    found = {}
    for name, alpha in counts.items():
        a = alpha.numpy()
        logs = np.log(rng.standard_gamma(a + 1)) + np.log1p(-rng.random(a.shape)) / a
        g = np.exp(logs - logs.max(-1, keepdims=True))
        found[name] = torch.from_numpy(g / g.sum(-1, keepdims=True))
    return found


def _checked_counts(what: Structure, counts: Mapping[str, Any]) -> dict[str, Tensor]:
    for name in counts:
        what.number(name)
    found = {}
    for name in what.names:
        if name not in counts:
            raise UsageError(f"'{name}' has no counts", needs="counts for each variable",
                             found=", ".join(list(counts)[:8]) or "none", fix="equal_counts gives all")  # fmt: skip
        alpha = torch.as_tensor(counts[name], dtype=torch.float64, device="cpu").detach()
        if tuple(alpha.shape) != what.shape(name):
            raise ShapeError(
                f"the counts of '{name}' have the wrong shape", needs=str(what.shape(name)),
                found=str(tuple(alpha.shape)), fix="an axis for each parent, in their order, and its own, the last",
            )  # fmt: skip
        if not bool(((alpha > 0) & (alpha < torch.inf)).all()):
            wrong = alpha[~((alpha > 0) & (alpha < torch.inf))]
            raise UsageError(
                f"a count of '{name}' cannot be {float(wrong[0]):g}", needs="counts above zero",
                found=f"{float(wrong[0]):g}", fix="a small one, such as 0.01, where little is meant",
            )  # fmt: skip
        found[name] = alpha
    return found


def _positive(what: str, value: float) -> None:
    if not 0 < value < np.inf:
        raise UsageError(
            f"{what} cannot be {value:g}", needs="a number above zero", found=f"{value:g}", fix="such as 1"
        )
