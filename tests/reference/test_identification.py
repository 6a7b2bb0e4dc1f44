"""ID and IDC against the truth: formulas in random models, refusals by two models that agree on what is observed."""

from itertools import combinations, product

import numpy as np
import pytest
from causal_support import Truth, all_graphs, derived, queries, random_graph, subsets

from kokkiri.causal import graph_of
from kokkiri.causal.formulas import unicode
from kokkiri.causal.graph import Graph
from kokkiri.causal.identification import Derived, HedgeFound
from kokkiri.causal.witness import witness

EXACT = 1e-10
THREE = ("a", "b", "c")


def prove(graph, x, y, z, truth):
    """Whether an effect is identified: the formula and every line of its derivation hold, or two models disagree."""
    found = derived(graph, x, y, z)
    if isinstance(found, HedgeFound):
        models = witness(graph, (found.larger, found.smaller), x, y, z)
        assert models is not None, (str(graph), x, y, z)
        assert models.observed() == models.observed(second=True)
        assert models.effect() != models.effect(second=True)
        return False
    effect = truth.effect(x, y, z)
    assert found.expression.free <= set(graph.nodes)
    assert not any(term.do for term in terms(found.expression))
    assert truth.difference(effect, found.expression) < EXACT, (str(graph), str(effect), str(found.expression))
    for step in found.steps:
        assert truth.difference(step.left, step.right) < EXACT, (str(graph), str(effect), step)
    assert found.steps[-1].right == found.expression
    return True


def terms(expression):
    """The probabilities in a formula."""
    if hasattr(expression, "do"):
        return [expression]
    parts = getattr(expression, "factors", None) or (
        (expression.of,) if hasattr(expression, "over") else (expression.numerator, expression.denominator)
    )
    return [t for part in parts for t in terms(part)]


def test_every_query_on_every_graph_of_three_nodes_is_answered_rightly():
    answers = [
        prove(graph, *query, truth)
        for i, graph in enumerate(all_graphs(THREE))
        for truth in [Truth(graph, seed=i, cards=(2, 3, 2))]
        for query in queries(graph)
    ]
    assert len(answers) == 200 * 18
    assert sum(answers) == 2598


def test_single_effects_on_all_graphs_of_four_ordered_nodes_are_as_many_as_published():
    # 12,288 queries P(d | do(v)), of which 6,961 are identified; the formulas are checked as well
    nodes = ("a", "b", "c", "d")
    pairs, identified = list(combinations(nodes, 2)), 0
    for i, j in product(range(64), repeat=2):
        graph = Graph(nodes, *(tuple(p for k, p in enumerate(pairs) if n >> k & 1) for n in (i, j)))
        truth = Truth(graph, models=1, seed=64 * i + j)
        for x in (1, 2, 4):
            found = derived(graph, x, 8)
            if isinstance(found, Derived):
                identified += 1
                assert truth.difference(truth.effect(x, 8), found.expression) < EXACT, (str(graph), x)
    assert identified == 6961


@pytest.mark.parametrize(("n", "graphs"), [(4, 40), (5, 12)])
def test_every_query_on_some_larger_graphs_is_answered_rightly(n, graphs):
    rng = np.random.default_rng(n)
    answers = []
    for seed in range(graphs):
        graph = random_graph(rng, n, arrow=0.5, both=0.3)
        truth = Truth(graph, models=1, seed=seed)
        asked = list(queries(graph))
        chosen = [asked[i] for i in rng.permutation(len(asked))[:30]]
        answers += [prove(graph, *query, truth) for query in chosen]
    assert 0.1 < np.mean(answers) < 0.9


@pytest.mark.slow
def test_every_query_on_a_tenth_of_all_graphs_of_four_nodes_is_answered_rightly():
    for i, graph in enumerate(all_graphs(("a", "b", "c", "d"))[::10]):
        truth = Truth(graph, models=1, seed=i)
        for query in queries(graph, conditional=i % 4 == 0):
            prove(graph, *query, truth)


# -- a second opinion ------------------------------------------------------------------------------------------------


def tian(graph, x, y):
    """Whether P(y | do(x)) is identified, by Tian & Pearl 2002 with sets in place of bits: no code is shared."""
    parents = {v: {a for a, b in graph.directed if b == v} for v in graph.nodes}
    beside = {v: {a for e in graph.bidirected if v in e for a in e if a != v} for v in graph.nodes}

    def above(of, inside):
        found = set(of)
        while new := {p for v in found for p in parents[v] & inside} - found:
            found |= new
        return found

    def district(of, inside):
        found = set(of)
        while new := {s for v in found for s in beside[v] & inside} - found:
            found |= new
        return found

    def from_within(part, whole):
        ancestors = above(part, whole)
        if ancestors == part:
            return True
        return ancestors != whole and from_within(part, district({next(iter(part))}, ancestors))

    rest = above(y, set(graph.nodes) - set(x))
    parts = {frozenset(district({v}, rest)) for v in rest}
    return all(from_within(set(p), district({next(iter(p))}, set(graph.nodes))) for p in parts)


def test_a_second_implementation_by_districts_agrees():
    rng = np.random.default_rng(0)
    graphs = [*all_graphs(THREE), *(random_graph(rng, int(rng.integers(4, 8)), 0.4, 0.2) for _ in range(400))]
    same = []
    for graph in graphs:
        asked = list(queries(graph, conditional=False))
        for i in rng.permutation(len(asked))[:20]:
            x, y, _ = asked[i]
            found = isinstance(derived(graph, x, y), Derived)
            assert found == tian(graph, graph.names(x), graph.names(y)), (str(graph), x, y)
            same.append(found)
    assert 0.2 < np.mean(same) < 0.9


# -- graphs from the literature --------------------------------------------------------------------------------------

KNOWN = {
    "bow": ("x -> y; x <-> y", "x", "y", None),
    "front door": ("x -> m -> y; x <-> y", "x", "y", "Σ_m P(m | x) Σ_x′ P(y | x′, m) P(x′)"),
    "napkin": ("w -> z -> x -> y; w <-> x; w <-> y", "x", "y",
               "[Σ_w P(x, y | w, z) P(w)] / [Σ_w P(x | w, z) P(w)]"),
    "Verma, third": ("a -> b -> c -> d; b <-> d", "c", "d", "Σ_b P(d | a, b, c) P(b | a)"),
    "Verma, first": ("a -> b -> c -> d; b <-> d", "a", "d", "Σ_{b, c} P(d | a, b, c) P(c | b) P(b | a)"),
    "instrument": ("z -> x -> y; x <-> y", "x", "y", None),
    "M": ("a -> x; a <-> m; m <-> y; x -> y", "x", "y", "P(y | x)"),
    "two mediators that share a cause": ("x -> z1 -> y; x -> z2 -> y; z1 <-> z2; x <-> y", "x", "y",
                          "Σ_{z1, z2} P(z1, z2 | x) Σ_x′ P(y | x′, z1, z2) P(x′)"),
    "child of the treatment shares a cause": ("x -> m -> y; x <-> m", "x", "y", None),
}  # fmt: skip


@pytest.mark.parametrize("name", KNOWN)
def test_graphs_of_the_literature_get_their_published_answers(name):
    text, x, y, formula = KNOWN[name]
    graph = graph_of(text)
    found = derived(graph, graph.mask(x), graph.mask(y))
    if formula is None:
        assert isinstance(found, HedgeFound)
    else:
        assert unicode(found.expression, graph.order) == formula
    prove(graph, graph.mask(x), graph.mask(y), 0, Truth(graph))


def test_seeing_and_setting_a_covariate_differ_in_conditional_effects():
    # conditioning on z2 ties x to the hidden cause of y
    graph = graph_of("z2 -> x -> z1 -> y; z2 <-> y; x <-> z1")
    x, y, z = (graph.mask(v) for v in ("x", "y", "z2"))
    assert isinstance(derived(graph, x, y, z), HedgeFound)
    mediated = graph_of("x -> z -> y; x <-> y")
    found = derived(mediated, *(mediated.mask(v) for v in ("x", "y", "z")))
    assert unicode(found.expression, mediated.order) == "Σ_x P(y | x, z) P(x)"


def test_the_napkin_does_not_depend_on_the_value_of_what_is_free():
    graph = graph_of("w -> z -> x -> y; w <-> x; w <-> y")
    truth = Truth(graph, cards=(3, 3, 2, 2))
    value = truth.value(derived(graph, graph.mask("x"), graph.mask("y")).expression)
    assert value.shape == (2, 1, 3, 2, 2)
    assert float((value - value[:, :, :1]).abs().max()) < EXACT
    assert float((truth.value(derived(graph, 4, 8).expression).sum(-1) - 1).abs().max()) < EXACT


def test_a_wrong_formula_would_be_noticed():
    # P(y | x) for the napkin is what another library answers
    graph = graph_of("w -> z -> x -> y; w <-> x; w <-> y")
    truth = Truth(graph)
    wrong = truth.effect(0, 8, 4)
    assert str(wrong) == "P(y | x)"
    assert truth.difference(truth.effect(4, 8), wrong) > 1e-3


def test_latent_nodes_and_their_projection_have_the_same_effects():
    # models of the whole graph, its latents summed out, against the formula for the projection
    rng = np.random.default_rng(1)
    checked = 0
    for seed in range(60):
        graph = random_graph(rng, 6, arrow=0.45, both=0.1, latent=0.35)
        if len(graph.observed) < 2:
            continue
        small, truth = graph.projected(), Truth(graph, models=1, seed=seed)
        for x, y, _ in list(queries(small, conditional=False))[::7]:
            found = derived(small, x, y)
            if isinstance(found, Derived):
                whole = truth.effect(graph.mask(small.names(x)), graph.mask(small.names(y)))
                assert truth.difference(whole, found.expression) < EXACT
                checked += 1
    assert checked > 100


def test_all_sets_of_a_few_nodes_are_asked_about():
    assert len(subsets("abc")) == 8
    assert len(list(queries(Graph(THREE)))) == 18
