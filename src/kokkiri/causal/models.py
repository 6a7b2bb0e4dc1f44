"""Random discrete structural models of a causal graph: what is seen, and what would be seen under an intervention.

Every bidirected edge is a hidden cause of its own. All conditional tables are drawn from uniform Dirichlet
distributions, so that every event has a probability above zero.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import reduce
from operator import mul

import numpy as np
import torch
from torch import Tensor

from kokkiri.causal.graph import Graph
from kokkiri.numerics.random import philox


@dataclass(frozen=True)
class DiscreteModel:
    """`models` models of one graph. Axis 0 counts them, then follow the nodes, then the hidden causes.

    `tables[v]` is P(v | parents, hidden causes), of size one along all other axes; `hidden` are the hidden causes'
    probabilities.
    """

    graph: Graph
    tables: tuple[Tensor, ...]
    hidden: tuple[Tensor, ...]

    def joint(self, do: Iterable[str] = ()) -> Tensor:
        """(models, c₁, …, c_k): P(v), or P(v | do) for each value of what is set, which then stands for itself."""
        fixed = set(do)
        factors = [t for t, name in zip(self.tables, self.graph.nodes, strict=True) if name not in fixed]
        n = 1 + len(self.graph.nodes)
        waiting = {n + i: prior for i, prior in enumerate(self.hidden)}
        while waiting:  # the hidden cause whose table is smallest goes first
            about = {axis: [f for f in factors if f.shape[axis] > 1] for axis in waiting}
            axis = min(about, key=lambda a: _cells(about[a]))
            gone = reduce(mul, about[axis], waiting.pop(axis)).sum(axis, keepdim=True)
            factors = [f for f in factors if f.shape[axis] == 1] + ([gone] if about[axis] else [])
        one = torch.ones((1,) * (n + len(self.hidden)), dtype=torch.float64)
        table = reduce(mul, sorted(factors, key=torch.Tensor.numel), one)
        shape = [max(t.shape[i] for t in self.tables) for i in range(n)]
        return table.reshape(table.shape[:n]).expand(shape)


def _cells(tensors: list[Tensor]) -> int:
    return int(np.prod([max(sizes) for sizes in zip(*(t.shape for t in tensors), strict=True)])) if tensors else 1


def random_models(
    graph: Graph, models: int, seed: int, cards: tuple[int, ...] = (), hidden_card: int = 2
) -> DiscreteModel:
    """Models of a graph without latent nodes; `cards` are the numbers of values, two each where none are given.

    >>> model = random_models(Graph(("a", "b"), (("a", "b"),), (("a", "b"),)), models=3, seed=0)
    >>> model.joint().shape, bool((model.joint().sum((1, 2)) - 1).abs().max() < 1e-12)
    (torch.Size([3, 2, 2]), True)
    """
    n, m = len(graph.nodes), len(graph.bidirected)
    cards = cards or (2,) * n
    rng = philox(seed, "random structural models", n, m)
    hidden_of = [[k for k, edge in enumerate(graph.bidirected) if name in edge] for name in graph.nodes]
    tables, masks = [], graph.masks
    for v in range(n):
        shape = [models] + [1] * (n + m)
        for p in range(n):
            if masks.parents[v] >> p & 1:
                shape[1 + p] = cards[p]
        for k in hidden_of[v]:
            shape[1 + n + k] = hidden_card
        draws = rng.dirichlet(np.ones(cards[v]), size=shape)
        shape[1 + v] = cards[v]
        tables.append(torch.from_numpy(np.ascontiguousarray(np.moveaxis(draws, -1, 1 + v).reshape(shape))))
    priors = rng.dirichlet(np.ones(hidden_card), size=(models, m))
    hidden = []
    for k in range(m):
        shape = [models] + [1] * (n + m)
        shape[1 + n + k] = hidden_card
        hidden.append(torch.from_numpy(priors[:, k].reshape(shape)))
    return DiscreteModel(graph, tuple(tables), tuple(hidden))


def thinned(graph: Graph, seed: int) -> Graph:
    """The graph, or where models of it would be too large, one that lacks some of its edges: still a model of it."""
    rng = philox(seed, "thinned graph")
    directed, both = list(graph.directed), list(graph.bidirected)
    while True:
        into: dict[str, list[tuple[list[tuple[str, str]], tuple[str, str]]]] = {name: [] for name in graph.nodes}
        for edge in directed:
            into[edge[1]].append((directed, edge))
        for edge in both:
            for end in edge:
                into[end].append((both, edge))
        most = max(graph.nodes, key=lambda name: len(into[name]))
        if len(into[most]) <= 6 and len(both) <= 10:
            return replace(graph, directed=tuple(directed), bidirected=tuple(both))
        edges, edge = (
            into[most][rng.integers(len(into[most]))] if len(into[most]) > 6 else (both, both[rng.integers(len(both))])
        )
        edges.remove(edge)
