"""Causal graphs that tests share: all small ones, and random ones; and what is true under do in random models."""

from functools import cache
from itertools import combinations, product

from kokkiri.causal.expression import probability
from kokkiri.causal.graph import Graph
from kokkiri.causal.identification import HedgeFound, identified
from kokkiri.causal.models import random_models
from kokkiri.causal.tables import evaluate_under
from kokkiri.errors import GraphError


def subsets(items):
    return [chosen for k in range(len(items) + 1) for chosen in combinations(items, k)]


@cache
def all_graphs(nodes):
    """Every acyclic graph over these nodes with every set of bidirected edges."""
    pairs, found = list(combinations(nodes, 2)), []
    for ways in product(range(3), repeat=len(pairs)):
        directed = tuple((a, b) if way == 1 else (b, a) for (a, b), way in zip(pairs, ways, strict=True) if way)
        try:
            Graph(nodes, directed)
        except GraphError:
            continue
        found += [Graph(nodes, directed, both) for both in subsets(pairs)]
    return found


def random_graph(rng, n, arrow=0.4, both=0.2, latent=0.0):
    """A graph of n nodes in a random order; `rng` is numpy's."""
    nodes = tuple("abcdefghij"[:n])
    order = list(rng.permutation(n))
    pairs = [(nodes[order[i]], nodes[order[j]]) for i in range(n) for j in range(i + 1, n)]
    directed = tuple(p for p in pairs if rng.random() < arrow)
    bidirected = tuple(p for p in pairs if rng.random() < both)
    return Graph(nodes, directed, bidirected, tuple(v for v in nodes if rng.random() < latent))


def queries(graph, conditional=True):
    """Every (x, y, z) of disjoint sets, x and y not empty, as bits."""
    full = graph.masks.all
    for x in range(1, full):
        for y in range(1, full + 1):
            if not x & y:
                for z in range(full + 1) if conditional else (0,):
                    if not z & (x | y):
                        yield x, y, z


class Truth:
    """Random models of a graph, and what formulas are in them."""

    def __init__(self, graph, models=2, seed=0, cards=()):
        self.graph, self.tables = graph, {}
        self.model = random_models(graph, models, seed, cards)

    def joint(self, do=frozenset()):
        if do not in self.tables:
            self.tables[do] = self.model.joint(do)
        return self.tables[do]

    def value(self, expression):
        return evaluate_under(expression, self.joint, self.graph.nodes)

    def difference(self, left, right):
        return float((self.value(left) - self.value(right)).abs().max())

    def effect(self, x, y, z=0):
        """P(y | do(x), z) itself, as a formula with do."""
        return probability(*(self.graph.names(m) for m in (y, z, x)))


def derived(graph, x, y, z=0):
    """What the algorithms find, or the hedge."""
    try:
        return identified(graph, y, x, z)
    except HedgeFound as hedge:
        return hedge
