"""Means of levels in a straight line: exact where the difference is, so that both agree to the last digit."""

import numpy as np
import pytest
import torch

import kokkiri as kk
from kokkiri.errors import DataError


def rows(n=60, seed=0):
    rng = np.random.default_rng(seed)
    age, t = rng.uniform(20, 80, n), rng.choice(["a", "b", "c"], n)
    dose = 0.1 * age + rng.normal(0, 1, n)
    return {"age": age, "t": t.tolist(), "dose": dose, "y": 3 * (t == "b") - 0.2 * age + dose + rng.normal(0, 1, n)}


@pytest.mark.parametrize("about", [
    {}, {"interact": "age"}, {"estimand": "treated"}, {"estimand": "untreated", "interact": "age"},
])  # fmt: skip
def test_means_of_levels_are_exact_and_differ_by_the_effect(about):
    effect = kk.do(rows(), {"t": "b"}, versus={"t": "a"}, outcome="y", adjust="age", method="linear", **about)
    for exact, draws in ((effect.exact_means, effect.means), (effect.exact_seen, effect.seen)):
        error = draws.std(0) / len(draws) ** 0.5
        assert bool(((exact - draws.mean(0)).abs() < 4.5 * error).all())
    assert float(effect.exact_means[1] - effect.exact_means[0]) == pytest.approx(effect.mean, abs=1e-10)
    assert float(effect.exact_seen[1] - effect.exact_seen[0]) == pytest.approx(effect.association.mean, abs=1e-10)


def test_means_of_levels_are_those_of_least_squares():
    data = rows()
    effect = kk.do(data, {"dose": 6}, versus={"dose": 4}, outcome="y", adjust="age", method="linear")
    x = np.column_stack([np.ones(60), data["dose"], data["age"]])
    beta = np.linalg.lstsq(x, data["y"], rcond=None)[0]
    expected = [beta @ [1, dose, data["age"].mean()] for dose in (6, 4)]
    assert torch.allclose(effect.exact_means, torch.tensor(expected, dtype=torch.float64), atol=1e-10, rtol=0)


def test_with_two_degrees_of_freedom_there_is_no_answer_and_with_three_there_is():
    few = lambda n: {name: list(column)[:n] for name, column in rows().items()}
    ask = lambda n, **more: kk.do(few(n), {"dose": 6}, versus={"dose": 4}, outcome="y", adjust="age",
                                  method="linear", **more)  # fmt: skip
    with pytest.raises(DataError, match="its posterior has no variance") as error:
        ask(5)
    assert (error.value.needs, error.value.found) == ("6 rows, 3 more than the 3 coefficients", "5 rows")
    assert np.isfinite(ask(6).sd)
    with pytest.raises(DataError, match="too few rows"):
        ask(8, estimand=("group", "t"))
