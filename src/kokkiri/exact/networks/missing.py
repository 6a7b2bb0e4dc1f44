"""Tables learned from rows with missing cells: the mode by expectation maximisation, the posterior by Gibbs sampling.

Both take it that whether a cell is missing does not depend on what stood in it, given the cells that are there (missing
at random, Rubin 1976, "Inference and missing data").
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from kokkiri.errors import UsageError
from kokkiri.exact.networks.batches import Batch, batches_of
from kokkiri.exact.networks.beliefs import given
from kokkiri.exact.networks.evidence import Rows
from kokkiri.exact.networks.learning import DirichletTables, counted, draw_tables, rows_with_all
from kokkiri.exact.networks.network import BayesianNetwork, trusted
from kokkiri.exact.networks.query import Query, answer_rows, compiled
from kokkiri.exact.networks.sampling import draw_rows
from kokkiri.exact.networks.structure import Structure
from kokkiri.numerics.diagnostics import bulk_effective_sample_size, r_hat
from kokkiri.numerics.random import philox
from kokkiri.phrases import count, plain

ENOUGH = 20  # draws of a chain that R-hat says something of


@dataclass(frozen=True, eq=False)
class TablesMode:
    """The most probable tables that were found.

    log_posteriors: log p(rows, tables) at each step, nats, which never falls. log_likelihood: log p(rows | tables) at
    the end. starts: where each start led; the best is kept. converged: whether the last step gained hardly anything.
    """

    network: BayesianNetwork
    log_posteriors: tuple[float, ...]
    log_likelihood: float
    starts: tuple[float, ...]
    converged: bool

    def __repr__(self) -> str:
        ended = "converged" if self.converged else "not converged"
        return (f"TablesMode({count(len(self.log_posteriors), 'step')}, {ended}, log p(rows | tables) = "
                f"{plain(self.log_likelihood, 2)} nats)")  # fmt: skip


@dataclass(frozen=True, eq=False)
class TableDraws:
    """Draws from the posterior of the tables: Markov chains.

    tables: by name, (chains, draws, ...) in the shape of the tables.
    """

    structure: Structure
    tables: Mapping[str, Tensor]

    @property
    def networks(self) -> tuple[BayesianNetwork, ...]:
        """A network for each draw, chain after chain."""
        flat = {name: t.flatten(0, 1) for name, t in self.tables.items()}
        n = len(next(iter(flat.values())))
        return tuple(trusted(self.structure, {m: t[k] for m, t in flat.items()}, f"draw {k}") for k in range(n))

    @property
    def mean(self) -> BayesianNetwork:
        """The tables' means. Predictions of several variables at once are those of `predict`, not of this network."""
        return trusted(self.structure, {n: t.mean((0, 1)) for n, t in self.tables.items()}, "learnt")

    def predict(self, evidence: Any = None, of: str | Sequence[str] | None = None) -> dict[str, Tensor]:
        """p(variable | evidence, rows): averaged over the draws, each weighted by p(evidence | its tables)."""
        found = [given(network, evidence, of=of) for network in self.networks]
        weight = torch.stack([b.log_evidence for b in found]).softmax(0)[..., None]
        return {name: (weight * torch.stack([b[name] for b in found])).sum(0) for name in found[0].marginals}

    @property
    def r_hat(self) -> float:
        """The worst of all entries: to be mistrusted above 1.01."""
        return max(float(r_hat(t).max()) for t in self.tables.values())

    @property
    def effective_draws(self) -> float:
        """The least effective sample size of any entry."""
        return min(float(bulk_effective_sample_size(t).min()) for t in self.tables.values())

    def __repr__(self) -> str:
        chains, draws = next(iter(self.tables.values())).shape[:2]
        trust = f", R-hat {self.r_hat:.3f}" if draws >= ENOUGH else ""
        return f"TableDraws({count(chains, 'chain')} of {count(draws, 'draw')}{trust})"


def most_probable_tables(
    prior: DirichletTables,
    rows: Any,
    *,
    hidden: Sequence[str] = (),
    starts: int = 1,
    steps: int = 2000,
    tolerance: float = 1e-9,
    simplex: bool = False,
    seed: int = 0,
) -> TablesMode:
    """The most probable tables given rows with missing cells: expectation maximisation with exact expectations.

    Each step gives every table the expected counts of its families plus the pseudo-counts α, and never lowers
    log p(rows, tables) (Lauritzen 1995, "The EM algorithm for graphical association models with missing data"). It is
    the mode in log odds, which exists for all α > 0 and is the posterior mean where nothing is missing; `simplex` takes
    the mode in probabilities, with α - 1, which needs α >= 1. There may be several modes: from `starts` places they are
    looked for: the prior's mean, then draws; draws only where a variable was never seen, whose states would all stay
    alike. hidden: variables that were never seen. tolerance: nats.

    >>> from kokkiri.exact.networks.learning import equal_counts
    >>> from kokkiri.exact.networks.structure import structure
    >>> pair = structure("a -> b", {"a": ("0", "1"), "b": ("0", "1")})
    >>> found = most_probable_tables(equal_counts(pair), {"a": ["0", "0", None], "b": ["0", None, "1"]})
    >>> found.converged, [round(v, 4) for v in found.network.tables["a"].tolist()]
    (True, [0.7394, 0.2606])
    """
    what = prior.structure
    _at_least(1, starts=starts, steps=steps)
    if simplex and any(bool((alpha < 1).any()) for alpha in prior.counts.values()):
        low = min((float(alpha.min()), name) for name, alpha in prior.counts.items())
        raise UsageError(f"the density of the table of '{low[1]}' has no mode in probabilities",
                         needs="pseudo-counts of 1 or more", found=f"{low[0]:g}",
                         fix="leave simplex out: the mode in log odds always exists")  # fmt: skip
    data, weights = _distinct(rows_with_all(what, rows, tuple(hidden)))
    parts = _parts(what, data)
    alphas = {name: alpha - 1 if simplex else alpha for name, alpha in prior.counts.items()}
    constant = sum(float((a.sum(-1).lgamma() - a.lgamma().sum(-1)).sum()) for a in prior.counts.values())
    rng = philox(seed, "starts of expectation maximisation")
    best, reached = None, []
    unseen = len(data.ever) < len(what.sizes)
    for start in range(starts):
        tables = {n: a / a.sum(-1, keepdim=True) for n, a in prior.counts.items()}
        if start or unseen:
            tables = draw_tables({n: torch.ones_like(a) for n, a in prior.counts.items()}, rng)
        trace: list[float] = []
        likelihood, converged = -np.inf, False
        for step in range(steps):
            expected, likelihood = _expected_counts(trusted(what, tables), data, parts, weights)
            pull = sum(float(torch.xlogy(a, tables[n]).sum()) for n, a in alphas.items())
            trace.append(likelihood + constant + pull)
            converged = len(trace) > 1 and trace[-1] - trace[-2] < tolerance
            if converged or step == steps - 1:
                break
            tables = {n: _normal(expected[n] + a) for n, a in alphas.items()}
        reached.append(trace[-1])
        if best is None or trace[-1] > best.log_posteriors[-1]:
            network = trusted(what, tables, "most probable")
            best = TablesMode(network, tuple(trace), likelihood, (), converged)
    assert best is not None
    return TablesMode(best.network, best.log_posteriors, best.log_likelihood, tuple(reached), best.converged)


def sample_tables(
    prior: DirichletTables,
    rows: Any,
    *,
    draws: int = 500,
    chains: int = 4,
    warm_up: int = 100,
    hidden: Sequence[str] = (),
    seed: int = 0,
) -> TableDraws:
    """Draws from the posterior of the tables given rows with missing cells.

    By turns the missing cells are drawn given the tables, exactly and together for each row, and the tables given the
    completed rows (Tanner & Wong 1987, "The calculation of posterior distributions by data augmentation"). warm_up:
    turns that are thrown away, after a start from draws of the prior.
    """
    what = prior.structure
    _at_least(1, draws=draws, chains=chains)
    _at_least(0, warm_up=warm_up)
    data = rows_with_all(what, rows, tuple(hidden))
    parts = _parts(what, data)
    kept = {name: torch.empty(chains, draws, *a.shape, dtype=torch.float64) for name, a in prior.counts.items()}
    for chain in range(chains):
        rng = philox(seed, "data augmentation", chain)
        tables = draw_tables(prior.counts, rng)
        for turn in range(-warm_up, draws):
            network = trusted(what, tables)
            codes = data.codes.copy()
            for batch, query, _, _ in parts:
                drawn = draw_rows(network, query, data.states(query.known, batch.rows), batch.soft, 1, rng)
                for i in set(drawn) - set(query.known):
                    codes[batch.rows, i] = drawn[i][0]
            full = counted(what, Rows(data.columns, codes))
            tables = draw_tables({n: a + full[n] for n, a in prior.counts.items()}, rng)
            if turn >= 0:
                for name, table in tables.items():
                    kept[name][chain, turn] = table
    return TableDraws(what, kept)


class _Part(NamedTuple):
    """A batch of rows, its query for draws, and that for expectations of the families that are not known throughout."""

    batch: Batch
    query: Query
    expectations: Query
    families: tuple[int, ...]


def _parts(what: Structure, data: Rows) -> list[_Part]:
    def families(batch: Batch) -> tuple[int, ...]:
        return tuple(i for i, family in enumerate(what.families) if not set(family) <= set(batch.known))

    def expectations(batch: Batch) -> Query:
        wanted = [tuple(i for i in what.families[f] if i not in batch.known) for f in families(batch)]
        return compiled(what, batch.known, wanted, soft=batch.soft, many=True)

    return [
        _Part(b, compiled(what, b.known, [], soft=b.soft, many=True), expectations(b), families(b))
        for b in batches_of(data, what.sizes, {}, expectations)
    ]


def _expected_counts(
    network: BayesianNetwork, data: Rows, parts: Sequence[_Part], weights: np.ndarray
) -> tuple[dict[str, Tensor], float]:
    """The expected count of each family of states given the rows, and log p(rows)."""
    what = network.structure
    total = {name: np.zeros(what.shape(name)) for name in what.names}
    log_evidence = 0.0
    for batch, query, expectations, families in parts:
        seen, weight = data.states(query.known, batch.rows), weights[batch.rows]
        answer = answer_rows(network, expectations, seen, batch.soft)
        log_evidence += float(weight @ answer.log_evidence)
        place = {i: k for k, i in enumerate(query.known)}
        joints = dict(zip(families, answer.joints, strict=True))
        for f, family in enumerate(what.families):
            free = [k for k, i in enumerate(family) if i not in place]
            held = [k for k, i in enumerate(family) if i in place]
            shape = tuple(what.sizes[family[k]] for k in held)
            line = np.ravel_multi_index(tuple(seen[place[family[k]]] for k in held), shape) if held else None
            mass = joints[f].reshape(-1, len(weight)) * weight if f in joints else weight[None]
            if line is None:
                each = mass.sum(1, keepdims=True)
            else:
                each = np.stack([np.bincount(line, m, minlength=int(np.prod(shape))) for m in mass])
            table = each.reshape(*(what.sizes[family[k]] for k in free), *shape)
            total[what.variables[f].name] += table.transpose(np.argsort([*free, *held]))
    return {name: torch.from_numpy(t) for name, t in total.items()}, log_evidence


def _distinct(rows: Rows) -> tuple[Rows, np.ndarray]:
    """Each different row once, and how often it is there."""
    codes, times = np.unique(rows.codes, axis=0, return_counts=True)
    return Rows(rows.columns, codes, rows.others), times.astype(np.float64)


def _at_least(least: int, **numbers: int) -> None:
    for name, value in numbers.items():
        if value < least:
            raise UsageError(f"{name} cannot be {value}", needs=f"a whole number, {least} or more", found=f"{value}",
                             fix="leave it out for the usual number")  # fmt: skip


def _normal(weights: Tensor) -> Tensor:
    """Rows that add up to one; of a setting that nothing is known of, all states alike."""
    total = weights.sum(-1, keepdim=True)
    return torch.where(total > 0, weights / torch.where(total > 0, total, 1.0), 1.0 / weights.shape[-1])
