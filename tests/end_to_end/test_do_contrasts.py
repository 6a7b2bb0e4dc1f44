"""Another pair of levels, and groups with gaps: whose effect it is stays clear."""

import numpy as np
import pytest

import kokkiri as kk
from kokkiri.causal import Networks
from kokkiri.errors import DataError, Unsupported, UsageError

FAST = Networks(folds=2, repetitions=1, replicates=0, steps=50)


def three(n=400, seed=0):
    """Three levels; the effects of q and r against p are 1 + x and 2 + 2 x."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=n)
    t = np.array(["p", "q", "r"])[(x + rng.normal(size=n) > 0) * 1 + (0.5 * x + rng.normal(size=n) > 0.5)]
    y = x + (t == "q") * (1 + x) + (t == "r") * (2 + 2 * x) + 0.1 * rng.normal(size=n)
    group = np.where(rng.random(n) < 0.5, "a", "b").astype(object)
    return {"x": x, "t": t.tolist(), "y": y, "group": group.tolist()}


@pytest.mark.parametrize("more", [{"method": "linear", "interact": "x"}, {"method": FAST}], ids=["linear", "networks"])
def test_the_treated_stay_the_same_rows_when_another_pair_is_compared(more):
    data = three()
    effect = kk.do(data, {"t": "q"}, versus="p", outcome="y", adjust="x", estimand="treated", **more)
    turned = effect.contrast("p", "q")
    assert (turned.whom, turned.mean) == ("untreated", pytest.approx(-effect.mean, abs=1e-9))
    assert turned.contrast("q", "r").whom == "treated"
    with pytest.raises(Unsupported, match="among rows with q"):
        effect.contrast("r", "p")
    more_rows = three(seed=1)
    after = turned.update(more_rows)
    assert (after.whom, after.mean) == ("untreated", pytest.approx(-effect.update(more_rows).mean, abs=1e-9))


def test_refuters_of_a_turned_effect_on_the_treated_ask_the_same_rows():
    data = three()
    data["x"], data["y"] = data["x"] > 0, data["y"] > 1
    effect = kk.do(data, {"t": "q"}, versus="p", outcome="y", adjust="x", estimand="treated", method="discrete")
    turned = effect.contrast("p", "q")
    assert turned.refute("subset").base == pytest.approx(-effect.refute("subset").base, abs=1e-12)
    assert effect.refute("subset").base == pytest.approx(effect.mean, abs=0.01)


def test_a_curve_along_a_column_is_that_of_the_pair_that_is_compared():
    data = three()
    effect = kk.do(data, {"t": "q"}, versus="p", outcome="y", adjust="x", estimand=("along", "x"), method=FAST)
    middle = lambda e: float(e.along[1].means.mean())
    other = effect.contrast("r", "p")
    direct = kk.do(data, {"t": "r"}, versus="p", outcome="y", adjust="x", estimand=("along", "x"), method=FAST)
    assert middle(other) == pytest.approx(middle(direct), abs=1e-9)
    assert middle(effect.contrast("p", "q")) == pytest.approx(-middle(effect), abs=1e-9)
    assert middle(other.update(three(seed=1))) == pytest.approx(2 * middle(effect), abs=0.3)


def test_levels_that_no_row_is_left_of_are_not_compared():
    data = three()
    data["t"][:3], data["y"][:3] = ["s"] * 3, np.nan
    for method in ("linear", "discrete"):
        own = data if method == "linear" else {**data, "x": data["x"] > 0, "y": np.sign(data["y"])}
        effect = kk.do(own, {"t": "q"}, versus="p", outcome="y", adjust="x", method=method)
        with pytest.raises(DataError, match="too few rows have t = s"):
            effect.contrast("s", "p")


def test_a_level_of_one_row_is_not_compared_by_means():
    data = three()
    data["t"][0] = "s"
    effect = kk.do(data, {"t": "q"}, versus="p", outcome="y", adjust=(), method="means")
    with pytest.raises(DataError, match="too few rows have t = s"):
        effect.contrast("s", "p")


def test_doses_that_are_turned_are_refuted_as_they_stand():
    data = three()
    rng = np.random.default_rng(1)
    dose = data["x"] + rng.normal(size=400)
    rows = {"x": data["x"], "dose": dose, "y": 2 * dose + data["x"]}
    effect = kk.do(rows, {"dose": 1}, versus=0, outcome="y", adjust="x", method="linear").contrast(0, 1)
    found = effect.refute(["subset", "cause"])
    assert found.base == pytest.approx(effect.mean, abs=1e-9) == -2.0


def test_doses_far_from_zero_are_checked_as_those_around_it():
    rng = np.random.default_rng(1)
    x, noise = rng.normal(size=(2, 300))
    dose = x + rng.normal(size=300)
    found, shares = [], []
    for far in (0.0, 1e5, 1e7):
        rows = {"x": x, "dose": dose + far, "y": 2 * dose + x + noise + far}
        effect = kk.do(rows, {"dose": far + 1}, versus=far, outcome="y", adjust="x", method="linear")
        found.append(effect.refute(["subset", "dummy"]))
        shares.append(effect.sensitivity(draws=100).benchmark.outcome)
        assert found[-1].base == pytest.approx(effect.mean, abs=1e-6)
        assert not found[-1].convicted
    assert found[0].base == pytest.approx(found[2].base, abs=1e-6)
    assert shares == pytest.approx([shares[0]] * 3, abs=1e-6)


def test_levels_of_yes_and_no_are_compared_by_whatever_stands_for_them():
    data = three()
    data["t"] = np.array(data["t"]) == "p"
    effect = kk.do(data, {"t": True}, outcome="y", adjust="x", method="linear")
    for level, versus in ((False, True), (0, 1), ("false", "true")):
        assert effect.contrast(level, versus).mean == pytest.approx(-effect.mean)


def test_rows_without_a_group_are_no_rows_of_another_group():
    data = three(600)
    data["y"] = np.array(data["y"]) + 3 * ((np.array(data["t"]) == "q") & (np.array(data["group"]) == "b"))
    clean = kk.do(data, {"t": "q"}, versus="p", outcome="y", adjust="x", estimand=("group", "group"), method=FAST)
    gaps = [None if g == "a" and k % 2 else g for k, g in enumerate(data["group"])]
    rows = {**data, "group": gaps}
    found = kk.do(rows, {"t": "q"}, versus="p", outcome="y", adjust="x", estimand=("group", "group"), method=FAST)
    assert list(found.group_effects) == ["a", "b", "missing"]
    assert sum(g.share for g in found.groups) == pytest.approx(1.0)
    assert found.group_effects["b"].mean == pytest.approx(clean.group_effects["b"].mean, abs=0.2)
    assert found.group_effects["missing"].mean == pytest.approx(clean.group_effects["a"].mean, abs=0.3)


@pytest.mark.parametrize("wrong", [{"folds": 1}, {"repetitions": 0}, {"replicates": -1}, {"steps": 2.5}])
def test_networks_with_impossible_settings_are_refused(wrong):
    with pytest.raises(UsageError, match=f"networks have no {next(iter(wrong))}="):
        Networks(**wrong)


def test_a_posterior_does_not_take_levels_for_numbers():
    data = three(200)
    data["t"] = [{"p": "1", "q": "2", "r": "3"}[level] for level in data["t"]]
    data["dose"] = np.random.default_rng(2).normal(size=200)
    columns = {name: data[name] for name in ("x", "t", "dose", "y")}
    rows = kk.read(columns, "y", kinds={"t": "category"})
    post = kk.fit(rows, kk.networks.MLP(rows.inputs, [4], 1), kk.Gaussian(), steps=20, progress=False)
    with pytest.raises(Unsupported, match="does not set numbers and levels together"):
        kk.do(post, columns, {"dose": 0.0, "t": "2"}, versus={"dose": 0.0, "t": "1"}, adjust="x")


def test_a_level_whose_rows_are_all_alike_is_warned_of_by_means():
    data = three()
    data["y"] = np.where(np.array(data["t"]) == "p", 0.0, data["y"])
    effect = kk.do(data, {"t": "q"}, versus="p", outcome="y", adjust=(), method="means")
    assert [w for w in effect.warnings if "with p have the same y" in w]
    assert not kk.do(data, {"t": "q"}, versus="r", outcome="y", adjust=(), method="means").warnings


@pytest.mark.parametrize("method", ["linear", FAST], ids=["linear", "networks"])
def test_what_was_told_of_the_first_rows_is_told_after_others(method):
    data, two = three(), lambda d: {**d, "t": np.array(d["t"]) == "q"}
    data["y"][:9] = np.nan
    effect = kk.do(two(data), {"t": True}, outcome="y", adjust="x", estimand=("group", "group"), method=method)
    first = ("9 rows without a value of 'y' left out", "an effect by group is adjusted for it, too")
    for after in (effect, effect.update(two(three(seed=1))).update(two(three(seed=2)))):
        assert [sum(w.startswith(start) for w in after.warnings) for start in first] == [1, 1]


def test_a_line_that_bends_still_bends_after_new_rows():
    def rows(n):
        x, dose, noise = np.random.default_rng(n).normal(size=(3, n))
        return {"x": x, "dose": dose, "y": dose**2 + noise}

    effect = kk.do(rows(200), {"dose": 1}, versus=0, outcome="y", adjust="x", method="linear")
    for found in (effect, effect.update(rows(100))):
        assert sum("is no straight line in dose" in w for w in found.warnings) == 1
