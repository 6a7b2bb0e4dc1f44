"""Exact, independent draws of all variables given evidence: a walk back through the sums, then downwards."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from kokkiri.exact.networks.batches import Batch, batches_of
from kokkiri.exact.networks.evidence import Rows
from kokkiri.exact.networks.network import BayesianNetwork
from kokkiri.exact.networks.query import Query, compiled, tables_of_case, tables_of_rows
from kokkiri.numerics.contraction import add, add_logs, forward, walk_back
from kokkiri.numerics.random import philox


def draw_given(
    network: BayesianNetwork, evidence: Mapping[int, int] | Rows, soft: Mapping[int, np.ndarray], draws: int, seed: int
) -> dict[str, Tensor]:
    """States of every variable by number: (draws,), or (draws, N) for rows."""
    what, rng = network.structure, philox(seed, "draws of a Bayesian network")
    if not isinstance(evidence, Rows):
        query = compiled(what, evidence, [], soft=soft)
        tables = tables_of_case(network, query, evidence, soft)
        found = {i: np.full(draws, k) for i, k in evidence.items()}
        found |= _walk(query, tables.operands, np.zeros(draws, np.int64), rng, logs=tables.logs)
        _downwards(network, found, draws, rng)
        return {v.name: torch.from_numpy(found[i]) for i, v in enumerate(what.variables)}
    codes = np.zeros((len(what.sizes), draws, len(evidence.codes)), np.int64)

    def question(batch: Batch) -> Query:
        return compiled(what, batch.known, [], soft=batch.soft, many=True)

    for batch in batches_of(evidence, what.sizes, soft, question):
        seen = evidence.states(batch.known, batch.rows)
        for i, values in draw_rows(network, question(batch), seen, batch.soft, draws, rng).items():
            codes[i][:, batch.rows] = values
    return {v.name: torch.from_numpy(codes[i]) for i, v in enumerate(what.variables)}


def draw_rows(
    network: BayesianNetwork,
    query: Query,
    seen: np.ndarray,
    soft: Mapping[int, np.ndarray],
    draws: int,
    rng: np.random.Generator,
) -> dict[int, np.ndarray]:
    """All variables for rows in which the same ones are known: (draws, n) each.

    seen: (K, n) states of the known variables, in the order of `query.known`. soft: likelihoods, (n, states).
    """
    parts: list[dict[int, np.ndarray]] = []
    for start in range(0, max(seen.shape[1], 1), query.rows_at_once):
        part = slice(start, start + query.rows_at_once)
        some = seen[:, part]
        n = some.shape[1]
        tables = tables_of_rows(network, query, some, {i: s[part] for i, s in soft.items()})
        found = {i: np.tile(some[k], draws) for k, i in enumerate(query.known)}
        found |= _walk(query, tables.operands, np.tile(np.arange(n), draws), rng, logs=tables.logs)
        _downwards(network, found, draws * n, rng)
        parts.append({i: values.reshape(draws, n) for i, values in found.items()})
    return {i: np.concatenate([p[i] for p in parts], 1) for i in parts[0]}


def _walk(
    query: Query, operands: list[np.ndarray], rows: np.ndarray, rng: np.random.Generator, *, logs: bool
) -> dict[int, np.ndarray]:
    """The variables that the evidence bears upon."""

    def choose(products: np.ndarray) -> np.ndarray:
        if logs:
            products = np.exp(products - products.max(1, keepdims=True))
        return pick(products, rng)

    made = forward(query.plan, operands, add_logs if logs else add)
    return walk_back(query.plan, made, choose, rows, logs=logs)


def _downwards(network: BayesianNetwork, found: dict[int, np.ndarray], rows: int, rng: np.random.Generator) -> None:
    """The others, from their tables, parents before children."""
    what = network.structure
    for i in what.order:
        if i not in found:
            setting = tuple(found[p] for p in what.parents[i])
            found[i] = pick(np.broadcast_to(network.arrays[i][setting], (rows, what.sizes[i])), rng)


def pick(weights: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A place for each row, with probabilities in proportion to its weights: (R, K) -> (R,).

    >>> pick(np.array([[0.0, 2.0], [1.0, 0.0]]), np.random.default_rng(0)).tolist()
    [1, 0]
    """
    cumulative = weights.cumsum(1)
    u = (1.0 - rng.random((len(weights), 1))) * cumulative[:, -1:]  # above zero: what weighs nothing is not taken
    return (cumulative < u).sum(1)
