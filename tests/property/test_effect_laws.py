"""What holds of every effect: new rows equal all rows, the order of rows and of levels is nothing."""

import numpy as np
import pytest
import torch
from effects_support import STONES, categories, hidden, rows_between, straight
from hypothesis import given, settings
from hypothesis import strategies as st

import kokkiri as kk
from kokkiri.causal.counts import Counts
from kokkiri.causal.variables import Coded
from kokkiri.errors import DataError

QUESTIONS = {
    "discrete": (categories, {"dose": "d1"}, {
        "versus": {"dose": "d0"}, "outcome": {"recovered": "yes"}, "adjust": ["sex", "stage"],
        "estimand": ("group", "stage"), "method": "discrete",
    }),
    "discrete by a formula": (categories, {"dose": "d1"}, {
        "versus": {"dose": "d0"}, "outcome": {"recovered": "yes"}, "method": "discrete",
        "graph": "dose -> stage -> recovered; dose <-> recovered",
    }),
    "linear": (straight, {"t": 1}, {"outcome": "y", "adjust": ["age", "city"], "method": "linear"}),
    "linear with groups": (straight, {"t": 1}, {
        "outcome": "y", "adjust": ["age", "city"], "method": "linear", "estimand": ("group", "city"),
    }),
    "linear with interactions": (straight, {"t": 1}, {
        "outcome": "y", "adjust": ["age", "city"], "method": "linear", "interact": "age", "estimand": "treated",
    }),
    "dose": (straight, {"dose": 2.0}, {"versus": 1.0, "outcome": "y", "adjust": ["age", "t"], "method": "linear"}),
    "instrument": (hidden, {"t": 1}, {"versus": 0, "outcome": "y", "instruments": "z", "adjust": "w"}),
}  # fmt: skip


@pytest.mark.parametrize("name", QUESTIONS)
def test_an_effect_after_new_rows_is_that_of_all_rows(name):
    make, treatment, more = QUESTIONS[name]
    data = make(n=240)
    whole = kk.do(data, treatment, **more)
    parts = kk.do(rows_between(data, 0, 100), treatment, **more)
    for start, stop in ((100, 130), (130, 240)):
        parts = parts.update(rows_between(data, start, stop))
    assert parts.rows == whole.rows == 240
    assert parts.facts["updates"] == 2
    drawn = 8 * whole.effect.error() if "interactions" in name else 0.0  # the same sums, other draws
    assert parts.interval() == pytest.approx(whole.interval(), abs=1e-8 + drawn)
    torch.testing.assert_close(
        parts.means.mean(0), whole.means.mean(0), rtol=0, atol=1e-8 if "discrete" in name else 0.05
    )
    for a, b in zip(parts.group_effects.values(), whole.group_effects.values(), strict=True):
        assert a.interval() == pytest.approx(b.interval(), abs=1e-8)
    assert parts.association.interval() == pytest.approx(whole.association.interval(), abs=1e-8)
    assert len(parts.sample.t) == len(whole.sample.t) == 240


def test_a_level_that_only_new_rows_have_is_taken_into_the_table():
    data = categories(n=300)
    first = [i for i in range(300) if data["dose"][i] != "d2" and data["sex"][i] == "f"]
    others = [i for i in range(300) if i not in set(first)]
    pick = lambda rows: {name: [values[i] for i in rows] for name, values in data.items()}
    more = {"versus": {"dose": "d0"}, "outcome": {"recovered": "yes"}, "adjust": ["sex", "stage"], "method": "discrete"}
    whole = kk.do(data, {"dose": "d1"}, **more)
    parts = kk.do(pick(first), {"dose": "d1"}, **more).update(pick(others))
    assert parts.levels == whole.levels == ("d0", "d1", "d2")
    assert parts.interval() == pytest.approx(whole.interval(), abs=1e-12)
    assert parts.contrast("d2", "d1").mean == pytest.approx(whole.contrast("d2", "d1").mean, abs=1e-12)


def test_a_level_that_a_linear_model_has_no_column_for_is_refused():
    data = straight()
    few = {name: [v for v, c in zip(values, data["city"], strict=True) if c != "c"] for name, values in data.items()}
    effect = kk.do(few, {"t": 1}, outcome="y", adjust=["age", "city"], method="linear")
    with pytest.raises(DataError, match="'city' has a value that the first rows had not"):
        effect.update(data)


@pytest.mark.parametrize("name", QUESTIONS)
def test_rows_are_not_learnt_twice(name):
    make, treatment, more = QUESTIONS[name]
    data = make(n=120)
    effect = kk.do(data, treatment, **more)
    with pytest.raises(DataError, match="learnt already"):
        effect.update(data)
    assert effect.update(data, force=True).rows == 240


@pytest.mark.parametrize("name", QUESTIONS)
def test_the_order_of_rows_does_not_matter_and_the_seed_does(name):
    make, treatment, more = QUESTIONS[name]
    data = make(n=200)
    order = np.random.default_rng(0).permutation(200)
    mixed = {column: [values[i] for i in order] for column, values in data.items()}
    one, two = kk.do(data, treatment, **more), kk.do(mixed, treatment, **more)
    assert one.interval() == pytest.approx(two.interval(), abs=1e-8)
    again, other = (kk.do(data, treatment, seed=seed, **more) for seed in (0, 1))
    assert torch.equal(one.means, again.means)
    assert not torch.equal(one.means, other.means)


@pytest.mark.parametrize("name", ["discrete", "linear", "instrument"])
def test_exchanging_what_is_compared_turns_the_sign(name):
    make, treatment, more = QUESTIONS[name]
    effect = kk.do(make(n=200), treatment, **more)
    turned = effect.contrast(effect.levels[effect.versus], effect.levels[effect.level])
    low, high = effect.interval()
    back = turned.interval()
    assert (-back[1], -back[0]) == pytest.approx((low, high), rel=0.01, abs=1e-3)
    assert turned.effect.centre == pytest.approx(-effect.effect.centre, abs=0.002)
    assert turned.probability() == pytest.approx(1 - effect.probability(), abs=0.001)


def test_the_same_question_by_a_graph_and_by_a_declared_adjustment_has_one_answer():
    by_graph = kk.do("kidney-stones", "treatment", graph=STONES)
    declared = kk.do("kidney-stones", "treatment", adjust="size")
    assert torch.equal(by_graph.means, declared.means)
    assert "as the graph has it" in str(by_graph)
    assert "as you declared" in str(declared)


def test_a_drawn_treatment_needs_no_adjustment_and_the_effect_is_what_is_seen():
    effect = kk.do("kidney-stones", "treatment", adjust=())
    assert torch.equal(effect.means, effect.seen)


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(-1, 1)), min_size=2, max_size=30), st.integers(1, 29))
@settings(max_examples=60, deadline=None)
def test_counts_add_up(rows, cut):
    def table(part):
        a, b = (torch.tensor(column, dtype=torch.int64) for column in zip(*part, strict=True))
        levels = sorted(set(a.tolist()))
        codes = torch.tensor([levels.index(int(v)) for v in a])
        return Counts.of({"a": Coded(codes, tuple(map(str, levels)), None), "b": Coded(b, ("x", "y"), None)})

    cut = min(cut, len(rows) - 1)
    whole, parts = table(rows), table(rows[:cut]).plus(table(rows[cut:]))
    assert parts.levels == whole.levels
    assert torch.equal(parts.cells, whole.cells)
    assert torch.equal(whole.over(("b", "a")).cells, whole.cells.T)
    expanded = whole.expanded()
    assert len(expanded["a"]) == len(rows) == whole.rows
