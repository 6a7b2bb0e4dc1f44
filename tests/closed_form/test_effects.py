"""Effects against fractions, enumeration, least squares, textbook formulas and the models that the rows came from."""

from fractions import Fraction
from itertools import product

import numpy as np
import pytest
import scipy.stats
import torch
from effects_support import KIDNEY, STONES, categories, hidden, straight

import kokkiri as kk
from kokkiri.causal.asked import Asked
from kokkiri.causal.counts import Counts
from kokkiri.causal.expression import probability
from kokkiri.causal.models import random_models
from kokkiri.causal.table_effects import Evaluator
from kokkiri.causal.tables import evaluate
from kokkiri.causal.variables import Coded
from kokkiri.errors import DataError
from kokkiri.numerics.regressions import regression
from kokkiri.numerics.two_stages import TwoStages, f_quantile

GRAPHS = {
    "back-door": "z -> x; z -> y; x -> y",
    "front-door": "x -> m -> y; x <-> y",
    "napkin": "w -> z -> x -> y; w <-> x; w <-> y",
    "two treatments": "a -> x; {a, x} -> y; z -> {a, x, y}",
}


# -- tables of counts ------------------------------------------------------------------------------------------------


def test_kidney_stones_are_what_the_fractions_say():
    effect = kk.do("kidney-stones", {"treatment": "A"}, versus={"treatment": "B"}, graph=STONES)
    size = {s: sum(KIDNEY[t, s][1] for t in "AB") for s in ("small", "large")}
    rate = lambda t, s, prior: Fraction(KIDNEY[t, s][0] + prior, KIDNEY[t, s][1] + 2 * prior)
    done = {
        prior: [sum(Fraction(size[s] + 4 * prior, 700 + 8 * prior) * rate(t, s, prior) for s in size) for t in "AB"]
        for prior in (0, 1)
    }
    seen = [Fraction(sum(KIDNEY[t, s][0] for s in size), 350) for t in "AB"]
    assert effect.plugin.tolist() == pytest.approx(list(map(float, done[0])), abs=1e-12)
    assert effect.seen_plugin.tolist() == pytest.approx(list(map(float, seen)), abs=1e-12)
    assert effect.exact_means.tolist() == pytest.approx(list(map(float, done[1])), abs=1e-12)
    assert effect.mean == pytest.approx(float(done[1][0] - done[1][1]), abs=1e-12)
    assert [round(float(v), 4) for v in (*seen, *done[0])] == [0.78, 0.8257, 0.8325, 0.7789]
    assert abs(effect.mean - 0.0515) < 5e-5
    error = effect.sd / len(effect.draws) ** 0.5
    assert abs(float(effect.draws.mean()) - effect.mean) < 4 * error
    assert effect.interval() == pytest.approx((-0.0144, 0.1178), abs=0.0008)
    assert effect.probability() == pytest.approx(0.9376, abs=0.003)
    assert effect.association.mean < 0 < effect.mean


@pytest.mark.parametrize("name", GRAPHS)
def test_means_under_interventions_are_those_of_the_models_that_made_the_tables(name):
    graph = kk.causal.graph_of(GRAPHS[name])
    x = ("a", "x") if name == "two treatments" else ("x",)
    cards = tuple(3 if n in {"x", "y"} else 2 for n in graph.nodes)
    model = random_models(graph, models=4, seed=1, cards=cards)
    names = tuple(graph.nodes)
    counts = Counts(names, tuple(tuple(map(str, range(c))) for c in cards), torch.ones(cards, dtype=torch.float64))
    asked = Asked(x, None, None, "y", "", estimand=kk.identify(graph, x, "y"))
    found = Evaluator(asked, counts, 0, 1).done(model.joint())
    truth = evaluate(probability(["y"], x), model.joint(x), names)
    y, axes = names.index("y") + 1, [names.index(n) + 1 for n in x]
    worth = torch.arange(3, dtype=torch.float64).reshape(-1, *(1,) * (truth.ndim - y - 1))
    mean = (truth * worth).sum(y, keepdim=True)
    others = [i for i in range(1, mean.ndim) if i not in axes]
    torch.testing.assert_close(found, mean.permute(0, *axes, *others).flatten(1), rtol=0, atol=1e-12)
    if name == "front-door":  # x and y are joined by more than the effect
        assert (found - Evaluator(asked, counts, 0, 1).seen(model.joint())).abs().max() > 1e-3


@pytest.mark.parametrize("whom", ["treated", "untreated"])
def test_the_effect_on_the_treated_is_what_enumeration_gives(whom):
    effect = kk.do(categories(), {"dose": "d2"}, versus="d0", outcome={"recovered": "yes"}, adjust=["sex", "stage"],
                   estimand=whom)  # fmt: skip
    data = categories()
    rows = list(zip(data["sex"], data["stage"], data["dose"], data["recovered"], strict=True))
    own, total = {"treated": "d2", "untreated": "d0"}[whom], 0.0
    for z in product(sorted(set(data["sex"])), sorted(set(data["stage"]))):
        cell = lambda d, z=z: [r for r in rows if r[:2] == z and r[2] == d]
        rate = lambda d, cell=cell: sum(r[3] == "yes" for r in cell(d)) / len(cell(d)) if cell(d) else np.nan
        share = len(cell(own)) / sum(r[2] == own for r in rows)
        total += share * (rate("d2") - rate("d0")) if share else 0.0
    got = effect.plugin[effect.level] - effect.plugin[effect.versus]
    np.testing.assert_allclose(got, total, atol=1e-12, equal_nan=True)
    assert effect.whom == whom


def test_of_two_levels_the_effect_on_the_treated_follows_from_the_average_by_any_formula():
    graph = kk.causal.graph_of("z -> {x, y}; x -> y")
    model = random_models(graph, models=5, seed=3, cards=(3, 2, 2))
    names = tuple(graph.nodes)
    counts = Counts(names, (("0", "1", "2"), ("0", "1"), ("0", "1")), torch.ones(3, 2, 2, dtype=torch.float64))
    asked = Asked(("x",), None, None, "y", "", whom="treated", estimand=kk.identify(graph, "x", "y"))
    found = Evaluator(asked, counts, 1, 0)
    torch.testing.assert_close(found.done(model.joint()), found.by_consistency(model.joint(), 1), rtol=0, atol=1e-12)


def test_joint_tables_have_the_moments_of_the_dirichlet_distribution():
    counts = Counts(
        ("a", "b"), (("0", "1"), ("0", "1", "2")), torch.tensor([[5.0, 0.0, 2.0], [1.0, 9.0, 3.0]]).double()
    )
    for prior in (1.0, 0.3):
        drawn = torch.cat(list(counts.posterior(prior, seed=0)))
        alpha = counts.cells + prior
        total = alpha.sum()
        mean = alpha / total
        variance = mean * (1 - mean) / (total + 1)
        n = len(drawn)
        assert n == counts.draws
        assert ((drawn.mean(0) - mean).abs() < 5 * (variance / n).sqrt()).all()
        assert (drawn.var(0) / variance - 1).abs().max() < 0.03
        torch.testing.assert_close(drawn.sum((1, 2)), torch.ones(n, dtype=torch.float64))
        torch.testing.assert_close(counts.posterior_mean(prior), mean)


def test_the_front_door_mean_in_closed_form_is_that_of_the_draws():
    rng = np.random.default_rng(0)
    u = rng.random(500) < 0.5
    x = rng.random(500) < 0.2 + 0.6 * u
    m = rng.random(500) < 0.1 + 0.7 * x
    y = rng.random(500) < 0.1 + 0.4 * m + 0.4 * u
    data = {"x": x, "m": m, "y": y}
    effect = kk.do(data, "x", outcome="y", graph="x -> m -> y; x <-> y")
    error = effect.sd / len(effect.draws) ** 0.5
    assert abs(float(effect.draws.mean()) - effect.mean) < 4 * error
    low, high = effect.interval()
    assert low < 0.7 * 0.4 < high  # the truth; what goes along is about 0.5
    assert effect.association.mean > 0.4


def test_a_number_of_few_values_is_averaged_as_a_number():
    data = {"t": [0, 0, 1, 1] * 200, "y": ([0, 2, 2, 4] * 200)}
    effect = kk.do(data, {"t": 1}, outcome="y", adjust=())
    assert effect.method == "discrete"
    assert float(effect.plugin[1] - effect.plugin[0]) == pytest.approx(2.0)


def test_groups_are_the_rates_of_each_group():
    effect = kk.do("kidney-stones", "treatment", graph=STONES, estimand=("group", "size"))
    for value, q in effect.group_effects.items():
        expected = [Fraction(KIDNEY[t, value][0] + 1, KIDNEY[t, value][1] + 2) for t in "AB"]
        assert abs(q.mean - float(expected[0] - expected[1])) < 5 * q.sd / len(q.draws) ** 0.5
    assert sum(g.share for g in effect.groups) == pytest.approx(1.0)


# -- linear models ---------------------------------------------------------------------------------------------------


def least_squares(x, y):
    weights = np.linalg.lstsq(x, y, rcond=None)[0]
    df = len(y) - x.shape[1]
    noise = ((y - x @ weights) ** 2).sum() / df
    return weights, noise * np.linalg.inv(x.T @ x), df


def design(data, *more):
    city = np.array(data["city"])
    return np.column_stack([np.ones(len(city)), data["age"], city == "b", city == "c", *more]).astype(float)


def test_a_linear_effect_is_least_squares_with_the_intervals_of_student_t():
    data = straight()
    effect = kk.do(data, {"t": 1}, outcome="y", adjust=["age", "city"], method="linear")
    weights, covariance, df = least_squares(design(data, data["t"]), data["y"])
    law = scipy.stats.t(df, weights[-1], covariance[-1, -1] ** 0.5)
    assert effect.mean == pytest.approx(weights[-1], abs=1e-10)
    assert effect.interval(0.9) == pytest.approx(law.interval(0.9), abs=1e-9)
    assert effect.probability(2.0) == pytest.approx(law.sf(2.0), abs=1e-9)
    assert effect.sd == pytest.approx(law.std(), abs=1e-9)
    raw, spread, free = least_squares(np.column_stack([np.ones(200), data["t"]]), data["y"])
    assert effect.association.interval() == pytest.approx(
        scipy.stats.t(free, raw[1], spread[1, 1] ** 0.5).interval(0.95), abs=1e-9
    )
    assert abs(float(effect.draws.mean()) - effect.mean) < 5 * effect.sd / len(effect.draws) ** 0.5


def test_a_treatment_of_several_levels_has_all_its_contrasts():
    data = straight()
    data["drug"] = np.random.default_rng(1).choice(["p", "q", "r"], 200).tolist()
    effect = kk.do(data, {"drug": "q"}, versus={"drug": "p"}, outcome="y", adjust=["age", "city"], method="linear")
    drug = np.array(data["drug"])
    weights, covariance, df = least_squares(design(data, drug == "q", drug == "r"), data["y"])
    assert effect.mean == pytest.approx(weights[-2], abs=1e-9)
    other = effect.contrast("r", "q")
    spread = covariance[-1, -1] + covariance[-2, -2] - 2 * covariance[-1, -2]
    assert other.interval() == pytest.approx(
        scipy.stats.t(df, weights[-1] - weights[-2], spread**0.5).interval(0.95), abs=1e-9
    )
    average = design(data, drug == "q", drug == "r").mean(0)
    average[-2:] = 0, 1
    assert float(other.means[:, 2].mean()) == pytest.approx(average @ weights, abs=0.01)


def test_with_interactions_the_effect_is_that_at_the_mean_of_those_it_is_about():
    data = straight(n=1000)
    age = data["age"]
    weights, *_ = least_squares(design(data, data["t"], data["t"] * age), data["y"])
    for whom, rows in (("average", slice(None)), ("treated", data["t"] == 1), ("untreated", data["t"] == 0)):
        effect = kk.do(
            data, {"t": 1}, outcome="y", adjust=["age", "city"], method="linear", interact="age", estimand=whom
        )
        expected = weights[-2] + weights[-1] * age[rows].mean()
        assert effect.mean == pytest.approx(expected, abs=5 * effect.sd / len(effect.draws) ** 0.5)


def test_groups_of_a_linear_effect_are_coefficients_of_products():
    data = straight()
    effect = kk.do(data, {"t": 1}, outcome="y", adjust=["age", "city"], method="linear", estimand=("group", "city"))
    city = np.array(data["city"])
    products = [data["t"] * (city == c) for c in "abc"]
    weights, covariance, df = least_squares(design(data, *products), data["y"])
    for k, q in enumerate(effect.group_effects.values()):
        law = scipy.stats.t(df, weights[-3 + k], covariance[-3 + k, -3 + k] ** 0.5)
        assert q.interval() == pytest.approx(law.interval(0.95), abs=1e-8)
    whole, *_ = least_squares(design(data, data["t"]), data["y"])
    assert effect.mean == pytest.approx(whole[-1], abs=1e-9)  # groups leave the effect among all as it was


def test_a_dose_has_a_slope_and_a_curve():
    data = straight()
    effect = kk.do(data, {"dose": 3.0}, versus={"dose": 1.0}, outcome="y", adjust=["age", "city", "t"], method="linear")
    weights, covariance, df = least_squares(design(data, data["t"], data["dose"]), data["y"])
    assert effect.mean == pytest.approx(2 * weights[-1], abs=1e-9)
    assert effect.sd == pytest.approx(2 * scipy.stats.t(df, 0, covariance[-1, -1] ** 0.5).std(), abs=1e-9)
    curve = effect.curve
    assert curve.values[0] == pytest.approx(min(data["dose"]))
    slope = (curve.means[:, -1] - curve.means[:, 0]).mean() / (curve.values[-1] - curve.values[0])
    assert float(slope) == pytest.approx(weights[-1], abs=0.01)
    assert not effect.warnings
    far = kk.do(data, {"dose": 99.0}, versus={"dose": 1.0}, outcome="y", adjust=["age"], method="linear")
    assert "lies outside the rows" in far.warnings[0]


def test_several_treatments_are_set_together():
    data = straight()
    effect = kk.do(data, {"t": 1, "dose": 2.0}, versus={"t": 0, "dose": 1.0}, outcome="y", adjust=["age", "city"],
                   method="linear")  # fmt: skip
    weights, *_ = least_squares(design(data, data["t"], data["dose"]), data["y"])
    assert effect.mean == pytest.approx(weights[-1] + weights[-2], abs=1e-9)
    assert effect.levels == ("t=1, dose=2", "t=0, dose=1")


def test_columns_that_are_sums_of_others_change_nothing():
    data = straight()
    data["twice"] = 2 * data["age"] + 1
    plain, more = (
        kk.do(data, {"t": 1}, outcome="y", adjust=adjust, method="linear")
        for adjust in (["age", "city"], ["age", "city", "twice"])
    )
    assert more.interval() == pytest.approx(plain.interval(), abs=1e-8)


def test_what_the_rows_say_nothing_of_is_known_to_be_so():
    x = torch.tensor([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [1.0, 0.0, 1.0], [1.0, 0.0, 1.0]]).double()
    rows = torch.cat([x, torch.tensor([[1.0], [2.0], [3.0], [5.0]]).double()], 1)
    found = regression(rows.T @ rows, [0, 1, 2], 3)
    asked = torch.tensor([[1.0, 1.0, 0.0], [0.0, 1.0, -1.0], [0.0, 1.0, 0.0]]).double()
    assert found.estimable(asked).tolist() == [True, True, False]


# -- instruments -----------------------------------------------------------------------------------------------------


def without(data, v):
    w = np.column_stack([np.ones(len(data["w"])), data["w"]])
    return v - w @ np.linalg.lstsq(w, v, rcond=None)[0]


def stages(data, names):
    z = np.column_stack([without(data, data[n]) for n in names])
    v = np.column_stack([without(data, data["t"]), without(data, data["y"])])
    tensor = torch.from_numpy
    return TwoStages(tensor(z.T @ z), tensor(z.T @ v), tensor(v.T @ v), len(v) - 2 - len(names)), z, v


def test_one_instrument_gives_the_textbook_ratio_and_its_standard_error():
    data = hidden()
    effect = kk.do(data, {"t": 1}, versus=0, outcome="y", instruments="z", adjust="w")
    _, z, v = stages(data, ["z"])
    ratio = (z.T @ v[:, 1:]).item() / (z.T @ v[:, :1]).item()
    residual = v[:, 1] - ratio * v[:, 0]
    error = (residual @ residual / (300 - 3) * (z**2).sum()) ** 0.5 / abs((z.T @ v[:, :1]).item())
    assert float(effect.plugin[0] - effect.plugin[1]) == pytest.approx(ratio, abs=1e-9)
    assert effect.facts["two-stage estimate"] == pytest.approx([ratio], abs=1e-9)
    assert effect.facts["two-stage standard error"] == pytest.approx([error], abs=1e-9)
    assert np.isnan(effect.mean)  # a ratio of normals has none
    assert effect.effect.median == pytest.approx(ratio, abs=0.02)
    low, high = effect.interval(0.68)
    assert high - low == pytest.approx(2 * error, rel=0.1)


def test_several_instruments_give_two_stage_least_squares():
    data = hidden(instruments=3)
    names = ["z0", "z1", "z2"]
    effect = kk.do(data, {"t": 2}, versus=0, outcome="y", instruments=names, adjust="w")
    _, z, v = stages(data, names)
    fitted = z @ np.linalg.lstsq(z, v[:, 0], rcond=None)[0]
    slope = fitted @ v[:, 1] / (fitted @ fitted)
    residual = v[:, 1] - slope * v[:, 0]
    assert float(effect.plugin[0] - effect.plugin[1]) == pytest.approx(2 * slope, abs=1e-9)
    assert effect.facts["two-stage standard error"] == pytest.approx(
        [(residual @ residual / (300 - 3) / (fitted @ fitted)) ** 0.5], abs=1e-9
    )
    unexplained = v[:, 0] - fitted
    strength = (fitted @ fitted / 3) / (unexplained @ unexplained / (300 - 2 - 3))
    assert effect.facts["first-stage F"] == pytest.approx(strength, rel=1e-9)
    assert effect.mean == pytest.approx(2 * slope, abs=0.02)
    assert not effect.warnings


@pytest.mark.parametrize(("strength", "count"), [(1.0, 1), (0.4, 1), (0.05, 1), (0.3, 3)])
def test_the_interval_of_anderson_and_rubin_inverts_their_test(strength, count):
    data = hidden(strength=strength, instruments=count)
    names = [f"z{k}" for k in range(count)] if count > 1 else ["z"]
    found, z, v = stages(data, names)
    df = len(v) - 2 - count
    limit = scipy.stats.f.ppf(0.95, count, df)
    assert f_quantile(0.95, count, df) == pytest.approx(limit, rel=1e-9)

    def refuted(beta):
        left = v[:, 1] - beta * v[:, 0]
        fitted = z @ np.linalg.lstsq(z, left, rcond=None)[0]
        return (fitted @ fitted / count) / ((left - fitted) @ (left - fitted) / df) > limit

    parts = found.anderson_rubin()
    for beta in np.linspace(-20, 20, 401):
        assert refuted(beta) != any(low <= beta <= high for low, high in parts), beta
    assert len(parts) in {1, 2}


def test_a_weak_instrument_is_called_weak_and_its_interval_is_wide():
    effect = kk.do(hidden(strength=0.05), {"t": 1}, versus=0, outcome="y", instruments="z", adjust="w")
    assert effect.warnings[0].startswith("a weak instrument: the first stage's F is")
    low, high = effect.interval()
    assert high - low > 5
    assert "Anderson-Rubin" in effect.facts


def test_the_posterior_of_two_stages_has_the_spread_that_repetitions_have():
    """The 90 % interval contains the truth in 90 of 100 repetitions, give or take."""
    holds = 0
    for seed in range(60):
        data = hidden(n=150, seed=seed)
        found, *_ = stages(data, ["z"])
        draws = found.draw(2000, np.random.default_rng(seed))[:, 0]
        low, high = np.quantile(draws.numpy(), [0.05, 0.95])
        holds += low < 1.5 < high
    assert scipy.stats.binomtest(holds, 60, 0.9).pvalue > 0.01


def test_an_instrument_that_says_nothing_beside_the_controls_is_refused():
    data = hidden()
    data["copy"] = 2 * data["w"] + 1
    with pytest.raises(DataError, match="cannot tell the effect"):
        kk.do(data, {"t": 1}, versus=0, outcome="y", instruments="copy", adjust="w")


def test_missing_values_count_as_a_value_of_their_own():
    coded = Coded(torch.tensor([0, -1, 1, -1]), ("a", "b"), None)
    table = Counts.of({"z": coded})
    assert table.levels == (("a", "b", "missing"),)
    assert table.cells.tolist() == [1, 1, 2]
