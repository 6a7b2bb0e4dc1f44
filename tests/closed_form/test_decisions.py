"""Decisions against formulas, brute force, scipy and simulation; what is refused."""

from __future__ import annotations

import math
import operator
import xml.etree.ElementTree as ET
from functools import partial

import numpy as np
import pytest
import scipy.stats
import torch

import kokkiri as kk
from kokkiri import decisions
from kokkiri.decisions import Costs
from kokkiri.errors import DataError, KokkiriError, ShapeError, Unsupported, UsageError
from kokkiri.exact import Experiment, Hypotheses, Screening
from kokkiri.likelihoods import Gaussian, Poisson
from kokkiri.numerics.random import philox
from kokkiri.predictive import Classes

f64 = partial(torch.tensor, dtype=torch.float64)
EXACT = {"rtol": 1e-12, "atol": 1e-14}


def labelled(n=400, share=0.4, seed=0):
    """Probabilities (n, 2) that are right, and classes drawn from them."""
    rng = philox(seed, "decided")
    y = rng.random(n) < share
    x = rng.normal(0, 1, n) + 1.5 * y
    p = 1 / (1 + np.exp(-(1.5 * x - 1.125 + np.log(share / (1 - share)))))
    return torch.from_numpy(np.stack((1 - p, p), 1)), torch.from_numpy(y).long()


# -- thresholds and prevalence ---------------------------------------------------------------------------------------


def test_the_threshold_is_that_of_elkan():
    assert math.isclose(Costs(1, 9).threshold, 0.1, rel_tol=1e-15)
    assert math.isclose(decisions.threshold([[0, -9], [-1, 0]]), 0.1, rel_tol=1e-15)
    assert math.isclose(decisions.threshold([[1.0, -8.0], [-1.0, 4.0]]), 2 / 14, rel_tol=1e-15)


def test_chow_rejects_where_the_larger_probability_is_below_one_minus_the_cost():
    costs = Costs(1.0, 1.0, reject=0.2)
    assert costs.rejected == (0.2, 0.8)
    assert costs.decide([0.1, 0.2, 0.5, 0.79, 0.8]).tolist() == [0, 2, 2, 2, 1]
    assert Costs(1.0, 1.0, reject=0.5).rejected == (0.5, 0.5)


def test_correcting_for_prevalence_is_bayes_rule_with_the_likelihood_that_the_model_holds():
    p, old, new = f64([[0.2, 0.5, 0.3]]), f64([0.25, 0.25, 0.5]), f64([0.6, 0.3, 0.1])
    likelihood = p[0] / old / (p[0] / old).max()
    expected = Hypotheses(new).update(likelihood).posterior
    torch.testing.assert_close(decisions.corrected(p, old, new)[0], expected, **EXACT)
    torch.testing.assert_close(decisions.corrected(p, old, old), p, **EXACT)
    there = decisions.corrected(p, old, new)
    torch.testing.assert_close(decisions.corrected(there, new, old), p, **EXACT)


def test_the_mean_over_draws_is_what_is_corrected():
    """Σ_s p(s | x, new) p_new(y | x, s), where a draw counts by how probable it makes x among the new classes."""
    each, weights = f64([[[0.2, 0.8]], [[0.6, 0.4]]]), f64([0.3, 0.7])
    old, new = f64([0.5, 0.5]), f64([0.9, 0.1])
    ratio = new / old
    by_draw = weights * (each[:, 0] * ratio).sum(-1)
    own = each[:, 0] * ratio / (each[:, 0] * ratio).sum(-1, keepdim=True)
    expected = (by_draw[:, None] * own).sum(0) / by_draw.sum()
    found = decisions.corrected(Classes(each.log(), weights.log()), old, new)
    torch.testing.assert_close(found[0], expected, **EXACT)


def test_corrected_probabilities_are_right_in_the_new_world():
    p, _ = labelled(20_000, share=0.5)
    rng = philox(1, "new world")
    y = rng.random(20_000) < 0.05
    x = rng.normal(0, 1, 20_000) + 1.5 * y
    own = torch.from_numpy(1 / (1 + np.exp(-(1.5 * x - 1.125))))
    both = torch.stack((1 - own, own), -1)
    said = decisions.corrected(both, [0.5, 0.5], [0.95, 0.05])[:, 1].numpy()
    z = (y - said).sum() / math.sqrt((said * (1 - said)).sum())
    assert scipy.stats.norm.sf(abs(z)) * 2 > 1e-6
    z_without = (y - own.numpy()).sum() / math.sqrt((own * (1 - own)).sum())
    assert scipy.stats.norm.sf(abs(z_without)) < 1e-6
    assert p.shape == (20_000, 2)


# -- decide ----------------------------------------------------------------------------------------------------------


def test_decisions_have_the_least_expected_cost_of_all_thresholds():
    p, y = labelled()
    made = decisions.decide(p, y, costs=Costs(1, 5))
    curve = decisions.decide(p, costs=Costs(1, 5)).curve()
    assert float(made.expected_cost.mean()) <= float(curve.cost.min()) + 1e-12
    every = [(1 - p[p[:, 1] >= t, 1]).sum() + 5 * p[p[:, 1] < t, 1].sum() for t in p[:, 1]]
    assert float(made.expected_cost.sum()) <= min(map(float, every)) + 1e-9


def test_errors_of_both_types_have_betas_intervals():
    p, y = labelled()
    made = decisions.decide(p, y, costs=Costs(1, 5), level=0.9)
    act = p[:, 1] >= 1 / 6
    false_alarms, negatives = int((act & (y == 0)).sum()), int((y == 0).sum())
    misses, positives = int((~act & (y == 1)).sum()), int((y == 1).sum())
    chosen = made.strategies[0]
    for found, k, n in ((chosen.type_one, false_alarms, negatives), (chosen.type_two, misses, positives)):
        beta = scipy.stats.beta(k + 1, n - k + 1)
        assert math.isclose(found.value, beta.mean(), rel_tol=1e-12)
        assert math.isclose(found.low, beta.ppf(0.05), rel_tol=1e-9)
        assert math.isclose(found.high, beta.ppf(0.95), rel_tol=1e-9)


def test_costs_are_put_together_at_the_prevalence_whatever_mix_the_rows_have():
    p, y = labelled()
    made = decisions.decide(p, y, costs=Costs(1, 20), prevalence=0.02, trained_at=0.4)
    chosen, half, always, never = made.strategies
    cost = 0.98 * chosen.type_one.value + 0.02 * 20 * chosen.type_two.value
    assert math.isclose(chosen.cost.value, cost, rel_tol=1e-12)
    assert chosen.cost.low < cost < chosen.cost.high
    assert math.isclose(always.cost.value, 0.98, rel_tol=1e-12)
    assert math.isclose(never.cost.value, 0.4, rel_tol=1e-12)
    torch.testing.assert_close(made.by_half, (p[:, 1] >= 0.5).long())
    assert half.name == "model's own 0.5"
    rare = torch.cat([torch.arange(len(y))[y == 0], torch.arange(len(y))[y == 1][:20]])  # other rows, same rates
    fewer = decisions.decide(p[rare], y[rare], costs=Costs(1, 20), prevalence=0.02, trained_at=0.4)
    assert math.isclose(fewer.strategies[0].type_one.value, chosen.type_one.value, rel_tol=1e-12)
    assert math.isclose(fewer.strategies[2].cost.value, 0.98, rel_tol=1e-12)


def test_the_interval_of_the_cost_is_that_of_two_betas():
    p, y = labelled(n=120)
    made = decisions.decide(p, y, costs=Costs(1, 5), prevalence=0.3, trained_at=0.4)
    chosen = made.strategies[0]
    act = made.action == 1
    rng = np.random.default_rng(0)
    k, n, j, m = (int(v.sum()) for v in (act & (y == 0), y == 0, ~act & (y == 1), y == 1))
    drawn = 0.7 * rng.beta(k + 1, n - k + 1, 400_000) + 0.3 * 5 * rng.beta(j + 1, m - j + 1, 400_000)
    low, high = np.quantile(drawn, [0.025, 0.975])
    assert abs(chosen.cost.low - low) < 8 * chosen.cost.error
    assert abs(chosen.cost.high - high) < 8 * chosen.cost.error
    assert chosen.cost.error < 0.02 * (high - low)


def test_without_labels_the_errors_are_those_that_the_model_expects():
    p, _ = labelled()
    made = decisions.decide(p, costs=Costs(1, 5))
    q, act = p[:, 1], p[:, 1] >= 1 / 6
    chosen = made.strategies[0]
    assert math.isclose(chosen.type_one.value, (1 - q)[act].sum() / (1 - q).sum(), rel_tol=1e-12)
    assert math.isclose(chosen.type_two.value, q[~act].sum() / q.sum(), rel_tol=1e-12)
    assert math.isclose(chosen.cost.value, made.expected_cost.mean(), rel_tol=1e-12)
    assert math.isnan(chosen.cost.low)
    assert "No row has a label" in " ".join(str(made).split())


def test_the_cost_curve_ends_at_acting_always_and_never():
    p, y = labelled()
    for labels in (y, None):
        curve = decisions.decide(p, labels, costs=Costs(1, 5), prevalence=0.4, trained_at=0.4).curve()
        always, never = curve.cost[0], curve.cost[-1]
        at = 0.4 if labels is not None else float(p[:, 1].mean())
        assert math.isclose(always, 1 - at, rel_tol=0.02)
        assert math.isclose(never, 5 * at, rel_tol=0.02)
        at_half = int((curve.threshold - 0.5).abs().argmin())
        if labels is None:
            cost = ((1 - p[:, 1]) * (p[:, 1] >= 0.5) + 5 * p[:, 1] * (p[:, 1] < 0.5)).mean()
            assert math.isclose(curve.cost[at_half], cost, rel_tol=1e-9)
        else:
            assert bool((curve.low <= curve.cost).all())
            assert bool((curve.cost <= curve.high).all())


def test_right_costs_are_cheaper_than_one_half_and_the_chance_of_that_is_said():
    p, y = labelled(2000)
    made = decisions.decide(p, y, costs=Costs(1, 20))
    assert made.cheaper > 0.999
    even = decisions.decide(p, y, costs=Costs(1, 1))
    assert math.isnan(even.cheaper)
    assert "at 0.5 decide the same" in str(even)
    timid = (p.log() / 10).softmax(-1)  # of whose probabilities none lies below a third
    assert decisions.decide(timid, y, costs=Costs(1, 2)).cheaper < 0.001


def test_rejected_rows_cost_what_rejecting_costs():
    p, y = labelled(2000)
    made = decisions.decide(p, y, costs=Costs(1, 5, reject=0.3), prevalence=0.4, trained_at=0.4)
    low, high = Costs(1, 5, reject=0.3).rejected
    q = p[:, 1]
    assert made.counts == [int((q < low).sum()), int((q >= high).sum()), int(((q >= low) & (q < high)).sum())]
    each = torch.where(made.action == 2, 0.3, torch.where(made.action == 1, (y == 0) * 1.0, (y == 1) * 5.0)).double()
    seen = 0.6 * each[y == 0].mean() + 0.4 * each[y == 1].mean()
    assert math.isclose(made.strategies[0].cost.value, seen, rel_tol=0.02)
    assert made.strategies[0].cost.value < decisions.decide(p, y, costs=Costs(1, 5)).strategies[0].cost.value
    assert "reject" in str(made)


def test_any_class_can_be_the_one_that_is_acted_upon():
    p = torch.from_numpy(philox(0, "three").dirichlet(np.ones(3), 50))
    made = decisions.decide(p, torch.arange(50) % 3, costs=Costs(1, 1), positive=2, prevalence=0.1, trained_at=1 / 3)
    shares = [1 / 3, 1 / 3, 1 / 3], [0.45, 0.45, 0.1]
    torch.testing.assert_close(made.probability, decisions.corrected(p, *shares)[:, 2], **EXACT)
    assert made.y is not None
    assert int(made.y.sum()) == 16


def test_tiny_probabilities_and_prevalences_keep_their_digits():
    even = Classes(f64([[[0.5, 0.5]]]).log(), f64([0.0]))
    rare = decisions.decide(even, costs=Costs(1, 1), prevalence=1e-300, trained_at=0.5)
    assert math.isclose(rare.probability, 1e-300, rel_tol=1e-10)
    sure = Classes(f64([[[0.0, -690.0]]]), f64([0.0]))  # P(positive) = e^-690 where 1e-290 of the rows were positive
    back = decisions.decide(sure, costs=Costs(1, 1), prevalence=0.5, trained_at=1e-290)
    assert math.isclose(back.probability, 1e290 * math.exp(-690.0) / (1 + 1e290 * math.exp(-690.0)), rel_tol=1e-9)


def test_the_table_has_a_line_a_row():
    p, y = labelled(30)
    made = decisions.decide(p, y, costs=Costs(1, 5), levels=("no", "yes"))
    header, lines = made.table(torch.arange(30) + 100)
    assert header == ["row", "truth", "p(yes) of the model", "p(yes)", "decision", "expected cost"]
    assert [line[0] for line in lines] == list(range(101, 131))
    assert [line[1] for line in lines] == ["yes" if v else "no" for v in y.tolist()]
    assert {line[4] for line in lines} == {"act", "leave"}


def test_decisions_print_themselves_in_eighty_columns_and_draw_themselves():
    p, y = labelled()
    tried = (
        (y, Costs(1, 5), None), (None, Costs(1, 5), 0.02), (y, Costs(1e6, 12345678.0, reject=99.0), 0.0001),
        (y, Costs(0, 1), 0.02), (y, Costs(1, 0), 0.9999),
    )  # fmt: skip
    for labels, costs, prevalence in tried:
        made = decisions.decide(
            p, labels, costs=costs, prevalence=prevalence, trained_at=None if prevalence is None else 0.4
        )
        assert max(map(len, str(made).splitlines())) <= 80, str(made)
        assert ET.fromstring(kk.drawing.file_of(made.picture())).tag.endswith("svg")
        assert repr(made).startswith("Decisions(leave ")


def test_rows_that_are_not_the_prevalences_are_noticed():
    p, _ = labelled()
    assert "! The mean probability of these rows is" in str(
        decisions.decide(p, costs=Costs(1, 5), prevalence=0.02, trained_at=0.4)
    )
    assert "!" not in str(decisions.decide(p, costs=Costs(1, 5), prevalence=0.4, trained_at=0.4))


# -- expected utility ------------------------------------------------------------------------------------------------


def test_the_best_action_over_classes_is_that_of_the_matrix_product():
    rng = philox(0, "utilities")
    p, u = torch.from_numpy(rng.dirichlet(np.ones(4), 20)), torch.from_numpy(rng.normal(size=(3, 4)))
    found = decisions.best(p, u)
    torch.testing.assert_close(found.expected, p @ u.T, **EXACT)
    torch.testing.assert_close(found.value_of_knowing, p @ u.amax(0) - (p @ u.T).amax(-1), **EXACT)
    assert found.action == [f"action {k + 1}" for k in (p @ u.T).argmax(-1).tolist()]
    assert bool(found.sure.all())
    assert len(found) == 20


def test_utilities_are_found_by_name():
    ill = Hypotheses({"ill": 0.1, "well": 0.9})
    utility = {"treat": {"well": -1, "ill": 0}, "wait": {"ill": -20, "well": 0}}
    assert decisions.best(ill, utility).action == ["treat"]
    assert decisions.best(ill.update({"ill": 0.01, "well": 0.99}), utility).action == ["wait"]
    assert decisions.best(torch.tensor([[0.5, 0.5]]), [[1.0, 0.0]], ["only"]).action == ["only"]


def test_the_best_action_over_a_normal_is_that_of_the_news_vendor():
    """Selling at 3 what costs 1: the best stock is the quantile 2/3 of demand, which is normal."""
    demand = Gaussian(10.0, learn=False).predictive(torch.full((1, 2, 1), 100.0))
    stocks = torch.linspace(80, 130, 51).tolist()
    found = decisions.best(
        demand, lambda stock, y: 3 * torch.minimum(y, torch.tensor(stock)) - stock, stocks, draws=20_000
    )
    best = scipy.stats.norm(100, 10).ppf(2 / 3)
    for action in found.action:
        assert abs(action - best) < 3
    density = scipy.stats.norm(100, 10)
    at = stocks.index(100.0)
    exact = 3 * (100 - 10 * density.pdf(100) * 10) - 100  # E min(y, 100) = 100 - σ φ(0)
    assert abs(found.expected[0, at] - exact) < 6 * found.error[0, at]
    assert 0 < float(found.gap_error[0]) < float(found.error[0].min())  # the same draws for all actions


def test_counts_and_named_actions_are_decided_over_as_well():
    calls = Poisson().predictive(torch.tensor([[[math.log(3.0)], [math.log(30.0)]]]))
    staff = {"one": 5, "many": 40}
    found = decisions.best(calls, lambda able, y: -2.0 * (y - able).clamp(min=0) - 0.5 * able, staff)
    assert found.action == ["one", "many"]
    assert bool((found.value_of_knowing >= 0).all())
    assert "Monte Carlo standard error" in str(found)
    again = decisions.best(calls, lambda able, y: -2.0 * (y - able).clamp(min=0) - 0.5 * able, staff)
    assert torch.equal(found.expected, again.expected)


def test_two_actions_that_draws_cannot_tell_apart_are_said_to_be_so():
    y = Gaussian(1.0, learn=False).predictive(torch.zeros(1, 1, 1))
    found = decisions.best(y, operator.mul, [-1.0, 1.0], draws=1000)
    assert not bool(found.sure)
    clear = decisions.best(y, lambda shift, v: v + shift, [0.0, 1.0], draws=1000)
    assert bool(clear.sure)


# -- information -----------------------------------------------------------------------------------------------------


def test_the_value_of_a_screening_test_by_hand():
    """Deciding now: act, at 0.9. After: 0.009 false alarms at 1 and 0.001 misses at 20 are left."""
    found = decisions.value_of_test(Screening(0.1, 0.99, 0.01), Costs(1, 20), price=0.1)
    assert math.isclose(found.before, -0.9, rel_tol=1e-12)
    assert math.isclose(found.informed, -0.029, rel_tol=1e-12)
    assert math.isclose(found.value, 0.871, rel_tol=1e-12)
    assert math.isclose(found.value_of_knowing, 0.9, rel_tol=1e-12)
    assert bool(found.worth)
    assert not bool(decisions.value_of_test(Screening(0.1, 0.99, 0.01), Costs(1, 20), price=0.9).worth)
    assert found.then.tolist() == [1, 0]


def test_two_tests_are_worth_more_than_one_but_not_twice_as_much():
    test, costs = Screening(0.1, 0.9, 0.2), Costs(1, 5)
    once, twice = (float(decisions.value_of_test(test, costs, twice=t).value) for t in (False, True))
    assert once < twice < 2 * once


def test_a_test_that_cannot_change_the_decision_is_worth_nothing():
    found = decisions.value_of_test(Screening(0.5, 0.6, 0.4), Costs(1, 1000))
    assert float(found.value) < 1e-12
    assert float(found.value_of_knowing) > 0


def test_information_for_many_cases_is_that_of_each():
    p = torch.linspace(0.01, 0.99, 30, dtype=torch.float64)
    cases = Hypotheses(torch.stack((p, 1 - p), -1), ("ill", "well"))
    experiment = Screening(0.5, 0.9, 0.2).experiment
    utility = {"treat": {"ill": 0, "well": -1}, "wait": {"ill": -4, "well": 0}}
    many = decisions.sample_information(cases, experiment, utility, price=0.05)
    for i in range(30):
        one = decisions.sample_information(Hypotheses({"ill": p[i], "well": 1 - p[i]}), experiment, utility, price=0.05)
        assert math.isclose(many.value[i], one.value, rel_tol=1e-10, abs_tol=1e-14)
        assert bool(many.worth[i]) == bool(one.worth)
    assert 0 < int(many.worth.sum()) < 30  # those of whom one is unsure
    assert "of them" in str(many)


def test_what_is_worth_knowing_prints_itself():
    found = decisions.value_of_test(Screening(0.1, 0.99, 0.01), Costs(1, 20, reject=0.5), price=0.1, twice=True)
    assert max(map(len, str(found).splitlines())) <= 80
    assert "worth it" in str(found)
    assert "Information(value" in repr(found)


def test_long_names_do_not_leave_the_page():
    names, actions = ([f"a {what} with a very long name, {i}" for i in range(6)] for what in ("hypothesis", "action"))
    p, u = torch.full((6,), 1 / 6).double(), torch.eye(6).double()
    beliefs = Hypotheses(p, names)
    utility = dict(zip(actions, u, strict=True))
    experiment = Experiment((torch.eye(6) * 0.94 + 0.01).double(), names, [f"an outcome, long, {i}" for i in range(6)])
    found = decisions.sample_information(beliefs, experiment, utility)
    chosen = decisions.best(Hypotheses(p.expand(20, 6), names), utility)
    levels = ("the class of all others, which is long", "the class that one acts upon, which is longer still")
    made = decisions.decide(*labelled(50), costs=Costs(1, 5, reject=0.5), levels=levels)
    for value in (found, chosen, made):
        assert max(map(len, str(value).splitlines())) <= 80, str(value)


P, Y = labelled(20)
ILL, TEST = Hypotheses({"ill": 0.1, "well": 0.9}), Experiment({"ill": {"+": 1, "-": 0}, "well": {"+": 0.1, "-": 0.9}})
NUMBERS = Gaussian(1.0).predictive(torch.zeros(2, 3, 1))
REFUSED = {
    "cost below 0": (UsageError, lambda: Costs(-1, 1), "0 or more"),
    "cost infinite": (UsageError, lambda: Costs(1, math.inf), "a miss cannot be inf"),
    "cost of rejecting": (UsageError, lambda: Costs(1, 1, reject=-1), "of a rejection"),
    "no costs": (UsageError, lambda: Costs(0, 0), "no error costs anything"),
    "no probability": (UsageError, lambda: Costs(1, 1).decide([1.5]), "from 0 to 1"),
    "threshold of three": (UsageError, lambda: decisions.threshold([[1, 2, 3]]), "(1, 3)"),
    "dominated": (UsageError, lambda: decisions.threshold([[0, 0], [-1, -1]]), "never the better one"),
    "prevalence 0": (
        UsageError, lambda: decisions.decide(P, Y, costs=Costs(1, 1), prevalence=0.0, trained_at=0.5), "above 0",
    ),
    "prevalence 1": (
        UsageError, lambda: decisions.decide(P, Y, costs=Costs(1, 1), prevalence=1, trained_at=0.5), "below 1",
    ),
    "trained at 0": (
        UsageError, lambda: decisions.decide(P, Y, costs=Costs(1, 1), prevalence=0.5, trained_at=0), "training rows",
    ),
    "prevalence alone": (UsageError, lambda: decisions.decide(P, Y, costs=Costs(1, 1), prevalence=0.5), "trained_at"),
    "numbers": (Unsupported, lambda: decisions.decide(NUMBERS, costs=Costs(1, 1)), "has no classes"),
    "one class": (DataError, lambda: decisions.decide(P, torch.ones(20).long(), costs=Costs(1, 1)), "all 20 rows"),
    "no such class": (ShapeError, lambda: decisions.decide(P, Y, costs=Costs(1, 1), positive=2), "one of its classes"),
    "labels of other rows": (ShapeError, lambda: decisions.decide(P, Y[:5], costs=Costs(1, 1)), "(5,)"),
    "labels of floats": (ShapeError, lambda: decisions.decide(P, Y.double(), costs=Costs(1, 1)), "float64"),
    "no rows": (ShapeError, lambda: decisions.decide(P[:0], costs=Costs(1, 1)), "one row at least"),
    "no distribution": (UsageError, lambda: decisions.decide(P * 0.9, costs=Costs(1, 1)), "add up to 1"),
    "level": (UsageError, lambda: decisions.decide(P, costs=Costs(1, 1), level=95), "0.95"),
    "shares of other classes": (ShapeError, lambda: decisions.corrected(P, [0.5, 0.5], [0.2, 0.3, 0.5]), "(3,)"),
    "old share of 0": (UsageError, lambda: decisions.corrected(P, [0, 1], [0.5, 0.5]), "the old prevalence"),
    "shares that do not add up": (UsageError, lambda: decisions.corrected(P, [0.5, 0.4], [0.5, 0.5]), "adds up to 0.9"),
    "excluded": (
        UsageError, lambda: decisions.corrected(f64([[1.0, 0.0]]), [0.5, 0.5], [0.0, 1.0]), "a share above 0",
    ),
    "utility of other classes": (ShapeError, lambda: decisions.best(P, [[1, 2, 3]]), "(A, 2)"),
    "ragged utility": (ShapeError, lambda: decisions.best(P, {"a": [1, 2], "b": [1]}), "a row for each action"),
    "infinite utility": (UsageError, lambda: decisions.best(P, [[1, math.inf]]), "finite"),
    "unknown name": (
        UsageError, lambda: decisions.best(ILL, {"a": {"il": 1, "well": 0}}), "did you mean 'ill'?",
    ),
    "names of actions": (ShapeError, lambda: decisions.best(P, [[1, 2]], ["a", "b"]), "a name for each row"),
    "function for classes": (UsageError, lambda: decisions.best(P, lambda a, y: y, [1]), "a matrix"),
    "matrix for numbers": (Unsupported, lambda: decisions.best(NUMBERS, [[1, 2]]), "decisions about numbers"),
    "no actions": (UsageError, lambda: decisions.best(NUMBERS, lambda a, y: y), "nothing to choose from"),
    "one draw": (UsageError, lambda: decisions.best(NUMBERS, lambda a, y: y, [1], draws=1), "two draws"),
    "utility of a shape": (ShapeError, lambda: decisions.best(NUMBERS, lambda a, y: y.sum(), [1]), "one for each draw"),
    "utility not finite": (ShapeError, lambda: decisions.best(NUMBERS, lambda a, y: y / 0, [1]), "not finite"),
    "price": (UsageError, lambda: decisions.sample_information(ILL, TEST, [[0, 1]], price=-1), "0 or more"),
    "other hypotheses": (
        UsageError, lambda: decisions.sample_information(Hypotheses([0.5, 0.5]), TEST, [[0, 1]]), "no hypothesis 'H1'",
    ),
    "utility of hypotheses": (ShapeError, lambda: decisions.perfect_information(ILL, [[1, 2, 3]]), "ill, well"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_bad_input_gets_four_lines(what):
    kind, call, says = REFUSED[what]
    with pytest.raises(KokkiriError) as caught:
        call()
    assert type(caught.value) is kind
    assert [line.split()[0] for line in str(caught.value).splitlines()[1:]] == ["needs", "found", "fix"]
    assert says in str(caught.value)
