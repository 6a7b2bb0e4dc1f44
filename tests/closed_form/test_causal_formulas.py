"""Formulas of probabilities: simplified, printed, evaluated; bounds and models against sums written by hand."""

import itertools

import pytest
import torch
from causal_support import Truth, random_graph

import kokkiri as kk
from kokkiri.causal import Bounds, graph_of
from kokkiri.causal.expression import (
    ONE,
    Covariances,
    Fraction,
    case_by_case,
    probability,
    product,
    ratio,
    total,
    variables,
)
from kokkiri.causal.formulas import latex, unicode
from kokkiri.causal.models import random_models, thinned
from kokkiri.causal.tables import evaluate
from kokkiri.numerics.random import philox

P = probability
EXACT = {"rtol": 0.0, "atol": 1e-12}


def joint(*cards, seed=0, batch=()):
    draws = philox(seed, "test causal formulas").dirichlet([1.0] * torch.Size(cards).numel(), size=batch)
    return torch.from_numpy(draws).reshape(*batch, *cards)


# -- simplified ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("formula", "text"),
    [
        (product(P("a", "bc"), P("b", "c")), "P(a, b | c)"),
        (product(P("a", "b"), P("b"), P("c", "ab")), "P(a, b, c)"),
        (product(P("a", "bc"), P("b")), "P(a | b, c) P(b)"),  # the adjustment formula stays as it is
        (total("b", product(P("a", "b"), P("b"))), "P(a)"),
        (total("b", product(P("a", "bc"), P("b"))), "Σ_b P(a | b, c) P(b)"),
        (total("a", P("ab", "c")), "P(b | c)"),
        (total("a", product(P("a", "b"), P("c", "b"))), "P(c | b)"),
        (total("a", P("a")), "1"),
        (total("ab", P("a", "b")), "Σ_{a, b} P(a | b)"),  # the number of values of b
        (total("b", product(P("d"), P("a", "bc"), P("b"))), "P(d) Σ_b P(a | b, c) P(b)"),
        (total("a", total("b", product(P("c", "abd"), P("ab")))), "Σ_{a, b} P(c | a, b, d) P(a, b)"),
        (ratio(P("ab", "c"), P("b", "c")), "P(a | b, c)"),
        (ratio(P("ab", "c"), P("a", "bc")), "P(b | c)"),
        (ratio(product(P("a", "b"), P("c")), P("c")), "P(a | b)"),
        (ratio(P("a"), product(P("a"), P("b"))), "1 / P(b)"),
        (product(ratio(P("a"), P("b", "c")), P("b", "c")), "P(a)"),
        (ratio(ratio(P("a"), P("b")), ratio(P("c"), P("b"))), "P(a) / P(c)"),
        (ratio(P("a", "b"), P("a", "b")), "1"),
        (total("a", ratio(product(P("a", "b"), P("c", "a")), P("d"))), "[Σ_a P(a | b) P(c | a)] / P(d)"),
        (product(), "1"),
    ],
)
def test_formulas_are_simplified_by_the_laws_of_probability(formula, text):
    assert str(formula) == text


def test_simplified_formulas_have_the_same_value():
    names, table = ("a", "b", "c", "d"), joint(2, 3, 2, 2)
    rng = philox(0, "random formulas")
    subset = lambda: {n for n in names if rng.random() < 0.5}
    changed = 0
    for _ in range(200):
        terms = []
        for _ in range(3):
            of = subset() or {"a"}
            terms.append(P(of, subset() - of))
        values = [evaluate(t, table, names) for t in terms]
        plain = values[0] * values[1] / values[2]
        quotient = evaluate(ratio(product(*terms[:2]), terms[2]), table, names)
        torch.testing.assert_close(*torch.broadcast_tensors(quotient, plain), **EXACT)
        both = product(*terms[:2])
        over = subset() & both.free
        if over:
            summed = (values[0] * values[1]).sum([names.index(n) for n in over], keepdim=True)
            shorter = total(over, both)
            torch.testing.assert_close(*torch.broadcast_tensors(evaluate(shorter, table, names), summed), **EXACT)
            changed += str(shorter) != str(case_by_case(over, *terms[:2]))
    assert changed > 50


def test_equal_products_are_equal_whatever_their_order():
    a, b = P("a", "b"), P("c", "d")
    assert product(a, b) == product(b, a)
    assert hash(product(a, b)) == hash(product(b, a))
    assert ratio(total("b", product(a, P("b", "c"))), total("b", product(P("b", "c"), a))) == ONE


def test_a_sum_over_what_does_not_occur_is_refused():
    with pytest.raises(ValueError, match=r"nothing depends on \['z'\]"):
        total("z", P("a", "b"))


def test_names_that_sums_bind_are_not_free():
    formula = product(P("m", "x"), total("x", product(P("y", "mx"), P("x"))))
    assert formula.free == {"m", "x", "y"}
    assert total("m", formula).free == {"x", "y"}
    assert variables(total("m", formula)) == {"m", "x", "y"}
    assert variables(Fraction(Covariances(("z",), ("y",), ("w",)), P("a"))) == {"z", "y", "w", "a"}


# -- printed ---------------------------------------------------------------------------------------------------------


def test_bound_names_get_a_prime_where_the_name_is_in_use():
    inner = total("x", product(P("y", "mx"), P("x")))
    front_door = total("m", product(P("m", "x"), inner))
    assert str(inner) == "Σ_x P(x) P(y | m, x)"
    assert str(front_door) == "Σ_m P(m | x) Σ_x′ P(x′) P(y | m, x′)"
    assert latex(front_door, "xmy") == r"\sum_{m} P(m \mid x) \, \sum_{x'} P(y \mid x', m) \, P(x')"
    third = total("x", product(P("y", "wx"), P("x")))
    second = total("x", product(P("x", "m"), total("w", product(P("w", "x"), third))))
    assert str(product(P("m", "x"), second)) == "P(m | x) Σ_x′ P(x′ | m) Σ_w P(w | x′) Σ_x′′ P(x′′) P(y | w, x′′)"


def test_order_brackets_and_odd_names():
    assert unicode(product(P("z"), P("y", "xz")), "zxy") == "P(y | z, x) P(z)"
    fraction = Fraction(total("w", product(P("y", "wx"), P("w"))), P("x"))
    assert unicode(product(fraction, P("a")), "awxy") == "[P(a) Σ_w P(y | w, x) P(w)] / P(x)"
    names = P(["blood pressure"], ["a_b", "50 %"])
    assert str(names) == "P(blood pressure | 50 %, a_b)"
    assert latex(names) == r"P(\text{blood pressure} \mid \text{50 \%}, \text{a\_b})"
    assert str(total(["blood pressure"], product(P("y", ["blood pressure"]), P(["blood pressure"], "x")))) == (
        "Σ_{blood pressure} P(blood pressure | x) P(y | blood pressure)"
    )
    assert latex(P("y", "z", "x")) == r"P(y \mid \mathrm{do}(x), z)"
    assert str(P("y", "z", "x")) == "P(y | do(x), z)"


def test_covariances_are_printed_as_quotients_or_inverses():
    one = Fraction(Covariances(("z",), ("y",), ("w",)), Covariances(("z",), ("x",), ("w",)))
    assert str(one) == "Cov(z, y | w) / Cov(z, x | w)"
    assert latex(one) == r"\frac{\mathrm{Cov}(z, y \mid w)}{\mathrm{Cov}(z, x \mid w)}"
    two = Fraction(Covariances(("a", "b"), ("y",)), Covariances(("a", "b"), ("x", "t")))
    assert str(two) == "Cov(a, b; x, t)⁻¹ Cov(a, b; y)"


# -- evaluated -------------------------------------------------------------------------------------------------------


def test_the_front_door_formula_has_the_value_of_its_sums():
    table = joint(2, 3, 2)
    formula = total("m", product(P("m", "x"), total("x", product(P("y", "mx"), P("x")))))
    value = evaluate(formula, table, ("x", "m", "y"))
    p_x, p_xm = table.sum((1, 2)), table.sum(2)
    for x, y in itertools.product(range(2), range(2)):
        by_hand = sum(
            p_xm[x, m] / p_x[x] * sum(table[k, m, y] / p_xm[k, m] * p_x[k] for k in range(2)) for m in range(3)
        )
        assert float(value[x, 0, y]) == pytest.approx(float(by_hand), abs=1e-14)
    torch.testing.assert_close(value.sum(2), torch.ones(2, 1, dtype=torch.float64), **EXACT)


def test_many_tables_are_evaluated_at_once():
    tables = joint(2, 3, 2, batch=(5, 4))
    formula = total("b", product(P("c", "ab"), P("b")))
    value = evaluate(formula, tables, ("a", "b", "c"))
    assert value.shape == (5, 4, 2, 1, 2)
    torch.testing.assert_close(value[3, 1], evaluate(formula, tables[3, 1], ("a", "b", "c")), **EXACT)


def test_kidney_stones_get_their_known_answers():
    # Charig et al. 1986: recovered of 87 and 263 with treatment A, of 270 and 80 with B, small and large stones
    good, n = (torch.tensor(numbers).double() for numbers in ([[81, 192], [234, 55]], [[87, 263], [270, 80]]))
    counts = torch.stack([n - good, good], -1)
    names = ("treatment", "stone", "recovery")
    table = counts / counts.sum()
    estimand = kk.identify("stone -> {treatment, recovery}; treatment -> recovery", "treatment", "recovery")
    effect = estimand.evaluate(table, names)[:, 0, 1]
    seen = evaluate(P(["recovery"], ["treatment"]), table, names)[:, 0, 1]
    assert [round(float(v), 4) for v in effect] == [0.8325, 0.7789]
    assert [round(float(v), 4) for v in seen] == [0.78, 0.8257]


def test_impossible_events_are_nan_unless_nothing_hangs_on_them():
    table = torch.zeros(2, 2, dtype=torch.float64)
    table[0] = torch.tensor([0.25, 0.75])
    assert evaluate(P("b", "a"), table, "ab")[1].isnan().all()
    # the third value of z never occurs: it takes nothing away from what is summed over it
    table = joint(2, 2, 2)
    wide = torch.cat([table, torch.zeros(2, 1, 2, dtype=torch.float64)], 1)
    formula = total("z", product(P("y", "xz"), P("z")))
    torch.testing.assert_close(evaluate(formula, wide, "xzy"), evaluate(formula, table, "xzy"), **EXACT)


def test_tables_of_the_wrong_variables_are_refused():
    table = joint(2, 2)
    with pytest.raises(kk.UsageError, match="speaks of 'c'"):
        evaluate(P("a", "c"), table, "ab")
    with pytest.raises(kk.ShapeError, match="too few axes"):
        evaluate(P("a"), table, "abc")
    with pytest.raises(kk.UsageError, match=r"do\(…\) cannot be read"):
        evaluate(P("a", (), "b"), table, "ab")
    with pytest.raises(kk.UsageError, match="covariance cannot be read"):
        evaluate(Covariances(("a",), ("b",)), table, "ab")


# -- models and bounds -----------------------------------------------------------------------------------------------


def test_models_are_sums_over_their_hidden_causes():
    graph = graph_of("a -> b -> c; a <-> c; b <-> c")
    model = random_models(graph, models=2, seed=1, cards=(2, 3, 2))
    (to_a, to_b, to_c), (first, second) = model.tables, model.hidden
    by_hand = (to_a * to_b * to_c * first * second).sum((4, 5))
    torch.testing.assert_close(model.joint(), by_hand, **EXACT)
    cut = (to_a * to_c * first * second).sum((4, 5))
    torch.testing.assert_close(model.joint(["b"]), cut.expand(2, 2, 3, 2), **EXACT)
    torch.testing.assert_close(model.joint().sum((1, 2, 3)), torch.ones(2, dtype=torch.float64), **EXACT)
    torch.testing.assert_close(model.joint(["b"]).sum((1, 3)), torch.ones(2, 3, dtype=torch.float64), **EXACT)


def test_large_graphs_are_thinned_and_keep_their_nodes():
    names = tuple("abcdefghijkl")
    pairs = tuple(itertools.combinations(names, 2))
    dense = kk.Graph(names, pairs, pairs)
    thin = thinned(dense, seed=0)
    assert thin.nodes == names
    assert set(thin.directed) < set(pairs)
    assert len(thin.bidirected) <= 10
    assert random_models(thin, 1, 0).joint().shape == (1, *(2,) * 12)
    small = graph_of("a -> b; a <-> b")
    assert thinned(small, seed=0) == small


@pytest.mark.parametrize("given", [False, True])
def test_the_truth_lies_within_its_bounds(given):
    tight = []
    for seed in range(30):
        graph = random_graph(philox(seed, "bounds"), 4, arrow=0.6, both=0.5)
        truth = Truth(graph, models=3, seed=seed)
        x, y, z = graph.order[0], graph.order[-1], graph.order[1:2] if given else ()
        effect = truth.value(P([y], z, [x]))
        lower, upper = Bounds((x,), (y,), tuple(z)).evaluate(truth.joint(), graph.nodes)
        assert bool((lower <= effect + 1e-12).all())
        assert bool((effect <= upper + 1e-12).all())
        tight.append(float((upper - lower).min()))
    assert min(tight) < 0.2


def test_bounds_are_printed_as_inequalities():
    assert str(Bounds(("x",), ("y",), ("z",))) == (
        "P(x, y, z) / [P(x, z) + 1 - P(x)] ≤ P(y | do(x), z) ≤ [P(x, y, z) + 1 - P(x)] / [P(x, z) + 1 - P(x)]"
    )
