"""Overlap and balance against formulas, on designs whose overlap is known; what is refused."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import numpy as np
import pytest
import torch

from kokkiri.causal.balance import balance_of
from kokkiri.causal.overlap import overlap_of
from kokkiri.errors import ShapeError
from kokkiri.numerics.random import philox
from kokkiri.numerics.weighting import arm_weights, effective_size, standardised_differences


def design(n: int, strength: float, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    rng = philox(seed, "design")
    x = rng.normal(size=(n, 3))
    e = 1 / (1 + np.exp(-strength * x[:, 0]))
    t = rng.random(n) < e
    return torch.from_numpy(x), torch.from_numpy(t.astype(int)), torch.from_numpy(np.stack([1 - e, e]))


def test_effective_sizes_are_kishs():
    w = torch.from_numpy(philox(0, "weights").exponential(size=(4, 50)))
    torch.testing.assert_close(effective_size(w), w.sum(1) ** 2 / (w**2).sum(1), rtol=1e-12, atol=0)
    torch.testing.assert_close(effective_size(7 * w), effective_size(w), rtol=1e-12, atol=0)
    assert float(effective_size(torch.ones(9).double())) == pytest.approx(9)


@pytest.mark.parametrize("whom", ["average", "treated", "untreated"])
def test_weights_make_both_arms_stand_for_those_the_effect_is_about(whom: str):
    x, t, e = design(200_000, 0.8)
    about = {"average": torch.ones(len(t)).double(), "treated": (t == 1).double(), "untreated": (t == 0).double()}[whom]
    goal = (about @ x) / about.sum()
    for w in arm_weights(t, e, 1, 0, whom):
        torch.testing.assert_close((w @ x) / w.sum(), goal, rtol=0, atol=0.03)
        assert float(w.sum() / about.sum()) == pytest.approx(1, abs=0.03)


def test_standardised_differences_are_differences_of_means_over_the_pooled_deviation():
    x, t, e = design(500, 1.0)
    found = balance_of(x, ["a", "b", "c"], t, e, level=1, versus=0)
    x, t, e = x.numpy(), t.numpy(), e.numpy()
    sd = np.sqrt((x[t == 1].var(0, ddof=1) + x[t == 0].var(0, ddof=1)) / 2)
    np.testing.assert_allclose(found.before, (x[t == 1].mean(0) - x[t == 0].mean(0)) / sd, rtol=1e-12)
    weighted = [np.average(x[t == k], axis=0, weights=1 / e[k][t == k]) for k in (1, 0)]
    np.testing.assert_allclose(found.after, (weighted[0] - weighted[1]) / sd, rtol=1e-12, atol=1e-12)
    assert abs(float(found.before[0])) > 0.7
    assert abs(float(found.after[0])) < 0.15


def test_chance_is_the_standard_error_of_a_difference_between_two_samples_of_one_population():
    rng = philox(3, "chance")
    found = []
    for _ in range(400):
        x = torch.from_numpy(rng.normal(size=(120, 1)))
        w = torch.from_numpy(rng.exponential(size=120))
        group = torch.arange(120) < 50
        first, second = torch.where(group, w, 0.0), torch.where(group, 0.0, w)
        d = standardised_differences(x, first, second, torch.ones(1).double())
        found.append((float(d.difference), float(d.chance)))
    difference, chance = np.array(found).T
    assert difference.std() / np.sqrt((chance**2).mean()) == pytest.approx(1, abs=4 / np.sqrt(2 * 400))


def test_right_propensities_are_called_unbalanced_once_in_twenty_times_at_the_most():
    wrong = []
    for seed in range(150):
        x, t, e = design(400, 0.7, seed)
        wrong.append(bool(balance_of(x, ["a", "b", "c"], t, e, level=1, versus=0).unbalanced))
    assert np.mean(wrong) <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 150)


def test_a_propensity_that_knows_nothing_leaves_the_covariate_unbalanced():
    x, t, _ = design(1000, 1.0)
    flat = torch.full((2, 1000), 0.5, dtype=torch.float64)
    found = balance_of(x, ["age", "b", "c"], t, flat, level=1, versus=0)
    assert found.unbalanced == ("age",)
    assert "age still differs" in found.verdict
    assert found.warnings
    torch.testing.assert_close(found.before, found.after, rtol=1e-12, atol=1e-12)


def test_good_weak_and_bad_overlap_are_told_apart():
    grades = {}
    for strength in (0.5, 1.6, 4.0):
        _, t, e = design(3000, strength)
        grades[strength] = overlap_of(t, e, level=1, versus=0).grade
    assert grades == {0.5: "good", 1.6: "weak", 4.0: "bad"}


def test_the_share_beyond_is_that_of_rows_with_a_propensity_below_a_twentieth():
    _, t, e = design(4000, 2.0)
    found = overlap_of(t, e, level=1, versus=0)
    expected = ((e < 0.05).any(0)).double().mean()
    assert found.beyond == pytest.approx(float(expected))
    assert found.least == pytest.approx(float(e.min()))
    treated = overlap_of(t, e, level=1, versus=0, whom="treated")
    assert treated.beyond == pytest.approx(float((e[0][t == 1] < 0.05).double().mean()))
    untreated = overlap_of(t, e, level=1, versus=0, whom="untreated")
    assert untreated.beyond == pytest.approx(float((e[1][t == 0] < 0.05).double().mean()))


def test_the_share_of_the_effect_is_weighed_by_its_size():
    t = torch.tensor([1, 0] * 50)
    e1 = torch.full((100,), 0.5, dtype=torch.float64)
    e1[:10] = 0.01
    e = torch.stack([1 - e1, e1])
    outcome = torch.zeros(2, 100, dtype=torch.float64)
    outcome[1, :10], outcome[1, 10:] = 9.0, 1.0
    found = overlap_of(t, e, level=1, versus=0, outcome=outcome)
    assert found.beyond == pytest.approx(0.1)
    assert found.effect_beyond == pytest.approx(0.5)
    assert found.grade == "bad"
    assert found.warnings


def test_no_overlap_at_all_is_no_effect():
    t = torch.tensor([1, 0] * 40)
    e = torch.stack([1.0 - t, t]).double()
    found = overlap_of(t, e, level=1, versus=0)
    assert found.grade == "none"
    assert found.verdict.startswith("no overlap at all")
    assert found.warnings


def test_a_propensity_that_is_off_is_seen_by_its_weights():
    _, t, e = design(4000, 0.8)
    right = overlap_of(t, e, level=1, versus=0)
    assert not right.misfit
    squeezed = (0.35 * e[1]).clamp(0.02, 0.98)
    wrong = overlap_of(t, torch.stack([1 - squeezed, squeezed]), level=1, versus=0)
    assert wrong.level.total == pytest.approx(1 / 0.35, rel=0.1)
    assert any("the propensity is off" in w for w in wrong.warnings)


def test_histograms_count_every_row():
    _, t, e = design(700, 1.0)
    found = overlap_of(t, e, level=1, versus=0)
    assert int(found.level.counts.sum()) == int((t == 1).sum())
    assert int(found.versus.counts.sum()) == int((t == 0).sum())


def test_pictures_and_tables():
    x, t, e = design(700, 1.0)
    found = overlap_of(t, e, level=1, versus=0, names=("statin", "no statin"), clipped=3)
    ET.fromstring(found.picture())
    assert "statin" in found.picture()
    assert "raised" in str(found)
    love = balance_of(x, ["age", "a name that is so long that nobody reads it", "c"], t, e, level=1, versus=0)
    ET.fromstring(love.picture())
    for text in (str(found), str(love)):
        assert max(map(len, text.splitlines())) <= 80
    assert str(balance_of(x[:, :0], [], t, e, level=1, versus=0)) == "nothing is adjusted for"


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"propensity": torch.full((2, 3), 0.5)}, "do not fit the treatments"),
        ({"propensity": torch.full((2, 4), 1.5)}, "no probabilities"),
        ({"level": 2}, "no row has treatment 2"),
        ({"treatment": torch.zeros(4, dtype=torch.int64)}, "no row has treatment 1"),
    ],
)
def test_what_does_not_fit_is_refused(change: dict, what: str):
    good = {"treatment": torch.tensor([0, 1, 0, 1]), "propensity": torch.full((2, 4), 0.5), "level": 1, "versus": 0}
    with pytest.raises(ShapeError, match=what) as error:
        overlap_of(**(good | change))
    assert len(str(error.value).splitlines()) == 4
    with pytest.raises(ShapeError):
        balance_of(torch.zeros(4, 2), ["one"], **good)
