"""Adjustment, front doors and instruments against slow twins: what formulas give in random models, for every set."""

import numpy as np
import pytest
import torch
from causal_support import Truth, all_graphs, random_graph, subsets

from kokkiri.causal import (
    adjustment_sets,
    front_door_set,
    graph_of,
    instruments,
    is_adjustment_set,
    optimal_adjustment_set,
    separated,
)
from kokkiri.causal.adjustment import question
from kokkiri.causal.expression import Covariances, Fraction, probability, product, total
from kokkiri.causal.front_door import is_front_door
from kokkiri.causal.linear import linear_value, partial_covariance, random_linear

EXACT = 1e-10


def adjusted(x, y, z, given=()):
    inner = probability(y, (*x, *z, *given))
    return total(z, product(inner, probability(z, given))) if z else inner


def roles(graph, rng, treatments=1):
    """Treatments, an outcome that one of them may act on, and the other nodes."""
    order = list(graph.order)
    last = int(rng.integers(treatments, len(order)))
    x = [order[i] for i in sorted(rng.permutation(last)[:treatments])]
    return x, [order[last]], [v for v in graph.nodes if v not in {*x, order[last]}]


def test_a_set_is_valid_exactly_when_adjusting_gives_the_truth():
    rng = np.random.default_rng(0)
    some = [random_graph(rng, n, arrow=0.5, both=0.25) for n in (4, 4, 5) for _ in range(25)]
    verdicts = []
    for i, graph in enumerate([*all_graphs(("a", "b", "c")), *some]):
        truth = Truth(graph, models=3, seed=i)
        for x, y, rest in [roles(graph, rng), roles(graph, rng, treatments=2)]:
            effect = truth.effect(graph.mask(x), graph.mask(y))
            for z in subsets(rest):
                error = truth.difference(effect, adjusted(x, y, z))
                valid = is_adjustment_set(graph, x, y, z)
                assert error < EXACT if valid else error > 1e-6, (str(graph), x, y, z, error)
                verdicts.append(valid)
    assert len(verdicts) > 1000
    assert 0.2 < np.mean(verdicts) < 0.8


def test_minimal_and_all_sets_are_those_of_brute_force():
    rng = np.random.default_rng(1)
    found = 0
    for _ in range(150):
        graph = random_graph(rng, 6, arrow=0.4, both=0.12, latent=0.1)
        seen = graph.projected()
        if len(seen.nodes) < 3:
            continue
        x, y, rest = roles(seen, rng, treatments=1 + int(rng.random() < 0.3))
        valid = {z for z in subsets(rest) if is_adjustment_set(graph, x, y, z)}
        minimal = {z for z in valid if not any(set(t) < set(z) for t in valid)}
        every = adjustment_sets(graph, x, y, minimal=False)
        assert len(every) == len(valid)
        assert set(every) == valid
        assert [len(z) for z in every] == sorted(len(z) for z in every)
        assert set(adjustment_sets(graph, x, y)) == minimal
        assert len(adjustment_sets(graph, x, y, minimal=False, limit=2)) == min(2, len(valid))
        best = optimal_adjustment_set(graph, x, y)
        assert (best is None) is (not valid)
        assert best is None or best.variables in valid
        found += len(minimal)
    assert found > 100


def test_sets_for_effects_given_covariates_give_the_truth():
    rng = np.random.default_rng(2)
    found = 0
    for i in range(60):
        graph = random_graph(rng, 5, arrow=0.4, both=0.12)
        x, y, rest = roles(graph, rng)
        truth, c = Truth(graph, models=1, seed=i), rest[:1]
        effect = truth.effect(graph.mask(x), graph.mask(y), graph.mask(c))
        for z in adjustment_sets(graph, x, y, given=c, minimal=False):
            assert truth.difference(effect, adjusted(x, y, z, c)) < EXACT
            found += 1
    assert found > 60


def variance(model, graph, x, y, z):
    """The asymptotic variance of least squares with covariates z: Var(y | x, z) / Var(x | z)."""
    place = lambda names: [graph.index[v] for v in names]
    left = partial_covariance(model.covariance, place(y), place(y), place((*x, *z)))
    return float(left / partial_covariance(model.covariance, place(x), place(x), place(z)))


def test_the_optimal_set_has_the_smallest_variance_of_all_that_it_is_compared_with():
    rng = np.random.default_rng(3)
    compared, among = 0, []
    for seed in range(250):
        graph = random_graph(rng, 7, arrow=0.4, both=0.0 if seed % 2 else 0.12)
        x, y, rest = roles(graph, rng)
        best = optimal_adjustment_set(graph, x, y)
        if best is None or y[0] not in graph.descendants(x):
            continue
        candidates = rest if best.among == "all" else [v for v in rest if v in graph.ancestors([*x, *y])]
        model = random_linear(graph, seed)
        smallest = variance(model, graph, x, y, best.variables)
        for z in subsets(candidates):
            if is_adjustment_set(graph, x, y, z):
                assert variance(model, graph, x, y, z) >= smallest * (1 - 1e-9), (str(graph), x, y, z, best)
                compared += z != best.variables
        among.append(best.among)
    assert compared > 500
    assert {"all", "ancestors"} == set(among)


def test_without_hidden_causes_the_optimal_set_is_made_of_parents():
    # Henckel, Perković & Maathuis 2022: the parents of what is on causal paths, save what is forbidden
    rng = np.random.default_rng(4)
    for _ in range(100):
        graph = random_graph(rng, 8, arrow=0.35, both=0.0)
        x, y, _ = roles(graph, rng)
        on_paths = {v for v in graph.descendants(x) if v not in x} & set(graph.ancestors(y))
        if not on_paths:
            continue
        parents = {v for v in graph.parents(on_paths) if v not in {*x, *graph.descendants(on_paths)}}
        assert set(optimal_adjustment_set(graph, x, y).variables) == parents


@pytest.mark.parametrize(
    ("text", "adjust"),
    [
        ("z -> {x, y}; x -> y", [("z",)]),
        ("x -> y; x -> c <- y", [()]),  # a collider behind both
        ("a -> x; a -> m; b -> m; b -> y; x -> y", [()]),  # M-bias: m must be left alone
        ("a -> x; a -> m; b -> m; b -> y; m -> {x, y}; x -> y", [("a", "m"), ("m", "b")]),  # the butterfly
        ("x -> y; x <-> y", []),
        ("x -> m -> y; z -> {x, m}", [("z",)]),
        ("U -> {x, z}; z -> y; x -> y; U [latent]", [("z",)]),
    ],
)
def test_textbook_graphs_get_their_minimal_sets(text, adjust):
    assert adjustment_sets(text, "x", "y") == adjust


# -- front door ------------------------------------------------------------------------------------------------------


def definition(graph, x, y, m):
    """Pearl 1995, by separation and directed paths as they are written down."""
    behind = graph.without_arrows_out_of(x)
    if any(not separated(behind, x, v) for v in m):
        return False
    if m and any(not separated(graph.without_arrows_out_of(m), v, y, x) for v in m):
        return False
    rest = graph.subgraph([v for v in graph.nodes if v not in m])
    return not set(rest.descendants(x)) & set(y)


def test_front_doors_are_found_whenever_there_is_one():
    rng = np.random.default_rng(5)
    found = 0
    for i in range(800):
        graph = random_graph(rng, 5, arrow=0.5, both=0.2)
        x, y, rest = roles(graph, rng)
        asked = question(graph, x, y)
        good = [m for m in subsets(rest) if definition(graph, x, y, m)]
        assert good == [m for m in subsets(rest) if is_front_door(asked, graph.mask(m))]
        some = front_door_set(graph, x, y)
        assert (some is None) is (not good), (str(graph), x, y)
        if some:
            assert some in good
            assert not any(set(m) == set(some) - {v} for m in good for v in some)
            inner = total(x, product(probability(y, (*some, *x)), probability(x)))
            truth = Truth(graph, models=1, seed=i)
            formula = total(some, product(probability(some, x), inner))
            assert truth.difference(truth.effect(graph.mask(x), graph.mask(y)), formula) < EXACT
            found += 1
    assert found > 20


def test_two_mediators_make_one_front_door():
    # a set of one variable does not cut both ways
    text = "x -> {m1, m2}; {m1, m2} -> y; x <-> y"
    assert front_door_set(text, "x", "y") == ("m1", "m2")
    assert front_door_set("x -> m -> y; x <-> y; x <-> m", "x", "y") is None
    assert front_door_set("x -> m -> y; x <-> y; x -> y", "x", "y") is None


# -- instruments -----------------------------------------------------------------------------------------------------


def works(graph, z, x, y, w):
    """Whether Cov(z, x | w)⁻¹ Cov(z, y | w) is the effect in random linear models."""
    for seed in range(2):
        model = random_linear(graph, seed)
        place = lambda names: [graph.index[v] for v in names]
        moved = partial_covariance(model.covariance, place(z), place(x), place(w))
        if float(torch.linalg.svdvals(moved)[-1]) < 1e-9:
            return False
        found = linear_value(Fraction(Covariances(z, y, w), Covariances(z, x, w)), model.covariance, graph.nodes)
        if float((found - model.total(place(y), place(x)).mT).abs().max()) > 1e-8:
            return False
    return True


def test_an_instrument_is_found_whenever_some_variable_and_covariates_work():
    rng = np.random.default_rng(6)
    found = 0
    for _ in range(500):
        graph = random_graph(rng, 5, arrow=0.4, both=0.2)
        x, y, _ = roles(graph, rng)
        if y[0] not in graph.descendants(x):
            continue
        before = [v for v in graph.nodes if v not in {*graph.descendants(x), *graph.descendants(y)}]
        there = {
            v
            for v in before
            for w in subsets([u for u in before if u != v])
            if works(graph, (v,), tuple(x), tuple(y), w)
        }
        listed = instruments(graph, x, y)
        assert {i.variables[0] for i in listed} <= there, (str(graph), x, y)
        for i in listed:
            assert works(graph, i.variables, tuple(x), tuple(y), i.given)
        assert bool(listed) is bool(there), (str(graph), x, y, there)
        found += len(listed)
    assert found > 50


def test_instruments_of_textbooks():
    assert str(instruments("z -> x -> y; x <-> y", "x", "y")[0]) == "z"
    assert instruments("z -> x -> y; x <-> y; z -> y", "x", "y") == []
    assert instruments("z -> x -> y; x <-> y; z <-> y", "x", "y") == []
    assert str(instruments("w -> z -> x -> y; w -> y; x <-> y", "x", "y")[0]) == "z given w"
    assert instruments("x -> y; x <-> y", "x", "y") == []
    (several,) = instruments("z1 -> x1; z2 -> x2; z1 -> x2; {x1, x2} -> y; x1 <-> y; x2 <-> y", ["x1", "x2"], "y")
    assert several.variables == ("z1", "z2")
    # both move the treatments in one and the same direction
    assert instruments("{z1, z2} -> m -> {x1, x2} -> y; {x1, x2, m} <-> y", ["x1", "x2"], "y") == []


def test_several_treatments_need_instruments_that_work_together():
    rng = np.random.default_rng(7)
    found = 0
    for _ in range(500):
        graph = random_graph(rng, 6, arrow=0.45, both=0.2)
        x, y, _ = roles(graph, rng, treatments=2)
        for i in instruments(graph, x, y):
            assert works(graph, i.variables, tuple(x), tuple(y), i.given), (str(graph), x, y, i)
            found += 1
    assert found > 20


def test_random_linear_models_are_what_their_graph_says():
    graph = graph_of("a -> b -> c; b <-> c")
    model = random_linear(graph, seed=3)
    draws = 200_000
    rng = torch.Generator().manual_seed(0)
    noise = torch.randn(draws, 3, generator=rng, dtype=torch.float64) @ torch.linalg.cholesky(model.noise).mT
    values = torch.linalg.solve(torch.eye(3, dtype=torch.float64) - model.effects, noise.mT).mT
    error = (values.mT @ values / draws - model.covariance).abs()
    scale = model.covariance.diagonal().sqrt()
    assert float((error / (scale[:, None] * scale)).max()) < 5 * (2 / draws) ** 0.5  # five standard errors
    assert float(model.total([2], [0])) == pytest.approx(float(model.effects[1, 0] * model.effects[2, 1]))
