"""Laws of causal graphs: text and back, projection, separation by slow definitions, for random graphs."""

from itertools import pairwise

import networkx as nx
import numpy as np
import pytest
from causal_support import all_graphs, random_graph, subsets
from hypothesis import given, settings
from hypothesis import strategies as st

from kokkiri.causal import graph_of, open_path, separated
from kokkiri.causal.graph import Graph
from kokkiri.causal.masks import bits
from kokkiri.causal.separation import apart, reachable, shortest_open
from kokkiri.causal.separators import joined, minimal_separators, nearest_separator
from kokkiri.errors import GraphError

LETTERS = st.sampled_from("abcdefg")
SIGNS = st.text(list('ab -<>=;,#/[]{}→↔"\\\n\r\t'), min_size=1, max_size=6)
NAMES = (SIGNS | st.text(min_size=1, max_size=6)).filter(str.strip)


@st.composite
def graphs(draw, names=LETTERS, largest=6):
    """Acyclic: arrows lead from earlier to later nodes of a random order."""
    nodes = draw(st.lists(names, min_size=1, max_size=largest, unique=True))
    order = draw(st.permutations(nodes))
    pairs = [(a, b) for i, a in enumerate(order) for b in order[i + 1 :]]
    chosen = st.lists(st.sampled_from(pairs), unique=True) if pairs else st.just([])
    latent = draw(st.lists(st.sampled_from(nodes), unique=True, max_size=2))
    return Graph(tuple(nodes), tuple(draw(chosen)), tuple(draw(chosen)), tuple(latent))


# -- text ------------------------------------------------------------------------------------------------------------


@given(graphs(names=NAMES))
@settings(deadline=None, max_examples=400)
def test_a_graph_is_read_back_from_its_own_text(graph):
    if "\0" not in str(graph):
        assert graph_of(str(graph)) == graph


@given(graphs())
@settings(deadline=None, max_examples=100)
def test_all_formats_give_the_same_graph(graph):
    value = nx.MultiDiGraph()
    for name in graph.nodes:
        value.add_node(name, observed="no" if name in graph.latent else "yes")
    value.add_edges_from(graph.directed)
    value.add_edges_from(graph.bidirected, dir="both")
    assert graph_of(value) == graph
    assert graph_of("\n".join(nx.generate_gml(value))) == graph
    nodes = [f'"{name}"' + ("[latent]" if name in graph.latent else "") for name in graph.nodes]
    arrows = [f"{a} -> {b}" for a, b in graph.directed]
    dagitty = [*nodes, *arrows, *(f"{a} <-> {b}" for a, b in graph.bidirected)]
    assert graph_of("dag {" + "\n".join(dagitty) + "}") == graph
    dot = [*(n.replace("[latent]", " [observed=no]") for n in nodes), *arrows]
    dot += [f"{a} -> {b} [dir=both, style=dashed]" for a, b in graph.bidirected]
    assert graph_of("digraph G { rankdir=LR; " + "; ".join(dot) + " }") == graph


# -- relatives -------------------------------------------------------------------------------------------------------


@given(graphs())
@settings(deadline=None, max_examples=100)
def test_relatives_are_those_of_networkx(graph):
    other = nx.DiGraph(graph.directed)
    other.add_nodes_from(graph.nodes)
    for v in graph.nodes:
        assert set(graph.ancestors(v)) == nx.ancestors(other, v) | {v}
        assert set(graph.descendants(v)) == nx.descendants(other, v) | {v}
    both = nx.Graph(graph.bidirected)
    both.add_nodes_from(graph.nodes)
    assert {frozenset(d) for d in graph.districts()} == {frozenset(c) for c in nx.connected_components(both)}
    place = {v: i for i, v in enumerate(graph.order)}
    assert sorted(graph.order) == sorted(graph.nodes)
    assert all(place[a] < place[b] for a, b in graph.directed)


@given(graphs(), st.data())
@settings(deadline=None, max_examples=50)
def test_a_cycle_is_refused_and_shown(graph, data):
    start = data.draw(st.sampled_from(graph.nodes))
    ends = [v for v in graph.descendants(start) if v != start]
    if not ends:
        return
    end = data.draw(st.sampled_from(ends))
    with pytest.raises(GraphError, match="cycle") as caught:
        Graph(graph.nodes, (*graph.directed, (end, start)))
    shown = caught.value.args[0].split("found   ")[1].split("\n")[0].split(" -> ")
    assert shown[0] == shown[-1]
    assert set(pairwise(shown)) <= {*graph.directed, (end, start)}


# -- separation ------------------------------------------------------------------------------------------------------


def ends_of(graph, kind, a, b):
    """The marks of an edge of some kind at a and at b, where there is one: every way to go from a to b."""
    return {
        "→": ("tail", "head") if (a, b) in graph.directed else None,
        "←": ("head", "tail") if (b, a) in graph.directed else None,
        "↔": ("head", "head") if (a, b) in graph.bidirected or (b, a) in graph.bidirected else None,
    }[kind]


def is_open(graph, nodes, kinds, z):
    """The definition: no non-collider in z, every collider an ancestor of z."""
    marks = [ends_of(graph, kind, a, b) for kind, (a, b) in zip(kinds, pairwise(nodes), strict=True)]
    for v, (_, before), (after, _) in zip(nodes[1:-1], marks, marks[1:], strict=False):
        if before == after == "head":
            if not set(graph.descendants(v)) & set(z):
                return False
        elif v in z:
            return False
    return True


def some_open_path(graph, a, b, z):
    """By enumeration of all paths, a node at most once on each."""
    stack = [((a,), ())]
    while stack:
        nodes, kinds = stack.pop()
        if nodes[-1] == b:
            if is_open(graph, nodes, kinds, z):
                return True
            continue
        stack += [
            ((*nodes, w), (*kinds, kind))
            for w in graph.nodes
            if w not in nodes
            for kind in "→←↔"
            if ends_of(graph, kind, nodes[-1], w)
        ]
    return False


@given(graphs(largest=5), st.data())
@settings(deadline=None, max_examples=200)
def test_separation_is_that_no_path_is_open(graph, data):
    if len(graph.nodes) < 2:
        return
    a, b = data.draw(st.lists(st.sampled_from(graph.nodes), min_size=2, max_size=2, unique=True))
    z = data.draw(st.lists(st.sampled_from(graph.nodes), unique=True).map(lambda z: [v for v in z if v not in {a, b}]))
    expected = some_open_path(graph, a, b, z)
    assert separated(graph, a, b, z) is not expected
    path = open_path(graph, a, b, z)
    assert (path is not None) is expected
    if path:
        assert path.nodes[0] == a
        assert path.nodes[-1] == b
        assert len(set(path.nodes)) == len(path.nodes)
        assert is_open(graph, path.nodes, path.edges, z)


def test_all_separations_of_all_graphs_of_three_nodes_are_right():
    for graph in all_graphs(("a", "b", "c")):
        for a, b, c in (("a", "b", "c"), ("a", "c", "b"), ("b", "c", "a")):
            for z in ((), (c,)):
                assert separated(graph, a, b, z) is not some_open_path(graph, a, b, z)


def test_separation_of_sets_in_larger_graphs_is_that_of_networkx():
    rng = np.random.default_rng(0)
    answers = []
    for _ in range(60):
        graph = random_graph(rng, 9, arrow=0.25, both=0.1)
        other = nx.DiGraph(graph.directed)
        other.add_nodes_from(graph.nodes)
        for k, (a, b) in enumerate(graph.bidirected):  # networkx knows no bidirected edges: a cause for each
            other.add_edges_from([(f"cause {k}", a), (f"cause {k}", b)])
        for _ in range(10):
            sides = rng.integers(0, 4, 9)
            x, y, z = (tuple(v for v, s in zip(graph.nodes, sides, strict=True) if s == k) for k in (0, 1, 2))
            if x and y:
                expected = nx.is_d_separator(other, set(x), set(y), set(z))
                answers.append(expected)
                assert separated(graph, x, y, z) is expected
                path = open_path(graph, x, y, z)
                assert (path is None) is expected
                assert path is None or is_open(graph, path.nodes, path.edges, z)
    assert 0.05 < np.mean(answers) < 0.9


@given(graphs(largest=6), st.data())
@settings(deadline=None, max_examples=100)
def test_projection_keeps_separations_and_ancestors_among_the_measured(graph, data):
    small = graph.projected()
    assert small.nodes == graph.observed
    assert small.projected() == small
    for v in small.nodes:
        assert set(small.ancestors(v)) == set(graph.ancestors(v)) - set(graph.latent)
    if len(small.nodes) < 2:
        return
    a, b = data.draw(st.lists(st.sampled_from(small.nodes), min_size=2, max_size=2, unique=True))
    z = [v for v in small.nodes if v not in {a, b} and data.draw(st.booleans())]
    assert separated(small, a, b, z) is separated(graph, a, b, z)


def test_latents_may_be_taken_out_in_any_order():
    rng = np.random.default_rng(2)
    for _ in range(50):
        graph = random_graph(rng, 7, arrow=0.4, both=0.15)
        keep = [v for v in graph.nodes if rng.random() < 0.5] or [graph.nodes[0]]
        stepwise = graph
        for v in rng.permutation([v for v in graph.nodes if v not in keep]):
            stepwise = stepwise.projected([w for w in stepwise.nodes if w != v])
        assert graph.projected(keep) == stepwise


# -- separators ------------------------------------------------------------------------------------------------------


def test_minimal_separators_are_all_there_and_minimal():
    rng, found = np.random.default_rng(3), 0
    for _ in range(150):
        graph = random_graph(rng, 7, arrow=0.3, both=0.15)
        masks, (x, y) = graph.masks, (1 << int(i) for i in rng.choice(7, 2, replace=False))
        usable = sum(1 << i for i in range(7) if rng.random() < 0.8) & ~(x | y)
        sets = [sum(1 << v for v in s) for s in subsets(list(bits(usable)))]
        separating = [s for s in sets if apart(masks, x, y, s)]
        minimal = {s for s in separating if not any(t != s and t & s == t for t in separating)}
        structure = joined(masks, x | y, usable)
        assert set(minimal_separators(structure, x, y)) == minimal
        nearest = nearest_separator(structure, x, y)
        assert (nearest is None) is (not separating)
        assert nearest is None or nearest in separating
        found += len(minimal)
    assert found > 60


def test_what_a_path_reaches_is_what_is_not_apart():
    rng = np.random.default_rng(4)
    for _ in range(50):
        graph = random_graph(rng, 8, arrow=0.3, both=0.1)
        z = int(rng.integers(256)) & ~1
        touched = reachable(graph.masks, 1, z)
        for v in range(1, 8):
            if not z >> v & 1:
                path = shortest_open(graph, graph.masks, 1, 1 << v, z)
                assert (path is not None) is bool(touched >> v & 1)
