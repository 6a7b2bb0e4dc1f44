"""The most probable explanation: the states of all variables that are most probable together, given the evidence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from kokkiri.exact.networks.batches import Batch, batches_of
from kokkiri.exact.networks.evidence import Rows
from kokkiri.exact.networks.network import BayesianNetwork
from kokkiri.exact.networks.query import Query, compiled, tables_of_case, tables_of_rows
from kokkiri.numerics.contraction import forward, take_maximum, walk_back
from kokkiri.phrases import probability, table


@dataclass(frozen=True, eq=False)
class Explanation:
    """One state for every variable. Of equally probable explanations it is always the same one.

    codes: the number of the state, () or (N,) for rows. log_prob: log p(these states | evidence), nats. known: names of
    variables that were evidence (of one case).
    """

    network: BayesianNetwork
    codes: Mapping[str, Tensor]
    log_prob: Tensor
    known: tuple[str, ...] = ()

    @property
    def states(self) -> dict[str, str]:
        """The names of the states, for one case."""
        return {v.name: v.states[int(self.codes[v.name])] for v in self.network.structure.variables}

    def __str__(self) -> str:
        """The states as a table."""
        if self.log_prob.ndim:
            return f"{len(self.log_prob):,} most probable explanations, of {len(self.codes):,} variables each"
        rows = [[name, state, "known" if name in self.known else ""] for name, state in self.states.items()]
        p = float(self.log_prob.exp())
        head = f"the most probable states of all variables together: p = {probability(p)}"
        return f"{head}\n\n{table(['variable', 'state', ''], rows, left=3)}"


def most_probable_case(
    network: BayesianNetwork, case: Mapping[int, int], soft: Mapping[int, np.ndarray], log_evidence: Tensor
) -> Explanation:
    """Max-product, in logarithms, with a walk back.

    >>> from kokkiri.exact.networks.bif import read_network
    >>> found = read_network("asia").given(xray="yes", dysp="yes").most_probable()
    >>> [name for name, state in found.states.items() if state == "yes"]
    ['smoke', 'lung', 'bronc', 'either', 'xray', 'dysp']
    """
    what = network.structure
    query = compiled(what, case, [], soft=soft, everything=True)
    tables = tables_of_case(network, query, case, soft, logs=True)
    made = forward(query.plan, tables.operands, take_maximum)
    best = walk_back(query.plan, made, _first_of_the_largest, np.zeros(1, np.int64), logs=True)
    codes = {v.name: torch.tensor(case[i] if i in case else int(best[i][0])) for i, v in enumerate(what.variables)}
    log_joint = torch.as_tensor(made[-1] + tables.constant, dtype=torch.float64)
    return Explanation(network, codes, log_joint - log_evidence, tuple(what.variables[i].name for i in case))


def most_probable_rows(
    network: BayesianNetwork, rows: Rows, soft: Mapping[int, np.ndarray], log_evidence: Tensor
) -> Explanation:
    """The same for every row."""
    what, n = network.structure, len(rows.codes)
    codes = np.zeros((len(what.sizes), n), np.int64)
    log_joint = np.zeros(n)

    def question(batch: Batch) -> Query:
        return compiled(what, batch.known, [], soft=batch.soft, many=True, everything=True)

    for batch in batches_of(rows, what.sizes, soft, question):
        query = question(batch)
        for start in range(0, len(batch.rows), query.rows_at_once):
            part = slice(start, start + query.rows_at_once)
            index, some = batch.rows[part], {i: s[part] for i, s in batch.soft.items()}
            tables = tables_of_rows(network, query, rows.states(query.known, index), some, logs=True)
            made = forward(query.plan, tables.operands, take_maximum)
            best = walk_back(query.plan, made, _first_of_the_largest, np.arange(len(index)), logs=True)
            for i, values in best.items():
                codes[i, index] = values
            log_joint[index] = made[-1] + tables.constant
    for k, i in enumerate(rows.columns):
        codes[i] = np.where(rows.codes[:, k] >= 0, rows.codes[:, k], codes[i])
    named = {v.name: torch.from_numpy(codes[i]) for i, v in enumerate(what.variables)}
    return Explanation(network, named, torch.from_numpy(log_joint) - log_evidence)


def _first_of_the_largest(log_products: np.ndarray) -> np.ndarray:
    """Products that are equal but for rounding are equal: the first of them is taken."""
    best = log_products.max(1, keepdims=True)
    return (log_products >= best - 1e-12 * np.maximum(1.0, np.abs(best))).argmax(1)
