"""Scores against formulas, slow twins and scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kokkiri.numerics import calibration, scores
from kokkiri.numerics.random import philox

EXACT = {"rtol": 1e-10, "atol": 1e-12}


def classes(n: int, c: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Calibrated probabilities with ties, and classes drawn from them."""
    rng = philox(seed, "test classes")
    p = torch.from_numpy(rng.dirichlet(np.ones(c), n).round(2)) + 1e-3
    p /= p.sum(1, keepdim=True)
    return p, (torch.from_numpy(rng.random((n, 1))) > p.cumsum(1)).sum(1).clamp(max=c - 1)


@pytest.mark.parametrize("c", [2, 5])
def test_class_scores_are_those_of_scikit_learn(c):
    from sklearn import metrics

    p, y = classes(300, c, 0)
    torch.testing.assert_close(-scores.log_score(p, y).mean().item(), metrics.log_loss(y, p, labels=range(c)), **EXACT)
    assert math.isclose(scores.correct(p, y).double().mean(), metrics.accuracy_score(y, p.argmax(1)), rel_tol=1e-12)
    assert scores.confusion(p.argmax(1), y, c).tolist() == metrics.confusion_matrix(y, p.argmax(1)).tolist()
    indicator = torch.nn.functional.one_hot(y, c).double()
    torch.testing.assert_close(scores.brier(p, y), (p - indicator).square().sum(1), **EXACT)


def test_ranking_scores_are_those_of_scikit_learn_with_ties():
    from sklearn import metrics

    p, y = classes(400, 2, 1)
    score, positive = p[:, 1].round(decimals=1), y.bool()
    assert len(score.unique()) < 15
    assert math.isclose(scores.auroc(score, positive)[0], metrics.roc_auc_score(y, score), rel_tol=1e-10)
    ours = scores.average_precision(score, positive)
    assert math.isclose(ours, metrics.average_precision_score(y, score), rel_tol=1e-10)


def test_the_standard_error_of_auroc_is_that_of_its_placements():
    p, y = classes(120, 2, 2)
    score, positive = p[:, 1].round(decimals=1), y.bool()
    a, b = score[positive], score[~positive]
    wins = (a[:, None] > b[None]).double() + 0.5 * (a[:, None] == b[None]).double()
    value, error = scores.auroc(score, positive)
    torch.testing.assert_close(value, wins.mean(), **EXACT)
    expected = (wins.mean(1).var() / len(a) + wins.mean(0).var() / len(b)).sqrt()
    torch.testing.assert_close(error, expected, **EXACT)


def test_the_wilson_interval_solves_its_quadratic():
    for k, n in [(0, 5), (3, 5), (5, 5), (97, 114)]:
        z = 1.959963984540054
        for p in map(float, scores.wilson(k, n)):
            assert math.isclose(abs(k / n - p), z * math.sqrt(max(p * (1 - p), 0) / n), rel_tol=1e-9, abs_tol=1e-9)
    low, high = scores.wilson(torch.tensor([0, 1]), torch.tensor([0, 1]))
    assert low[0] == 0
    assert high.tolist() == [1.0, 1.0]


@given(st.lists(st.integers(0, 6), min_size=1, max_size=40), st.integers(1, 12), st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=60)
def test_groups_keep_ties_together_order_values_and_do_not_mind_the_order_of_rows(values, groups, random):
    v = torch.tensor(values, dtype=torch.float64)
    group = calibration.equal_mass_groups(v, groups)
    assert group.unique().tolist() == list(range(int(group.max()) + 1))
    assert int(group.max()) < groups
    assert all((group[i] < group[j]) <= (v[i] < v[j]) for i in range(len(v)) for j in range(len(v)))
    assert all(group[i] == group[j] for i in range(len(v)) for j in range(len(v)) if v[i] == v[j])
    order = list(range(len(v)))
    random.shuffle(order)
    assert torch.equal(calibration.equal_mass_groups(v[order], groups), group[order])


def test_groups_without_ties_have_equal_mass():
    group = calibration.equal_mass_groups(torch.linspace(0, 1, 1000), 10)
    assert torch.bincount(group).tolist() == [100] * 10


def test_the_reliability_diagram_is_scikit_learns_quantile_curve():
    from sklearn.calibration import calibration_curve

    rng = philox(3, "test reliability")
    p = torch.from_numpy(rng.random(1000))
    y = torch.from_numpy(rng.random(1000)) < p**2
    frequency, probability = calibration_curve(y, p, n_bins=10, strategy="quantile")
    bins = calibration.reliability(p, y, 10)
    np.testing.assert_allclose(bins.frequency, frequency, rtol=0.02, atol=1e-12)  # its edges are interpolated quantiles
    np.testing.assert_allclose(bins.probability, probability, rtol=0.02)
    assert int(bins.rows.sum()) == 1000
    expected = sum(c * abs(f - q) for q, f, c in zip(*(t.tolist() for t in bins), strict=True)) / 1000
    assert math.isclose(calibration.calibration_error(bins), expected, rel_tol=1e-10)


def test_calibration_error_is_zero_when_said_is_seen_and_the_gap_when_not():
    p, y = torch.tensor([0.25] * 4 + [0.75] * 4, dtype=torch.float64), torch.tensor([1, 0, 0, 0, 1, 1, 1, 0]).bool()
    assert calibration.calibration_error(calibration.reliability(p, y, 2)) == 0
    assert math.isclose(
        calibration.calibration_error(calibration.reliability(p * 0.8, y, 2)), (0.05 + 0.15) / 2, rel_tol=1e-10
    )


def test_calibration_by_chance_tells_right_probabilities_from_wrong_ones():
    rng = philox(4, "test chance")
    p = torch.from_numpy(rng.random(2000))
    y = torch.from_numpy(rng.random(2000)) < p
    chance = calibration.calibration_error_by_chance(p, seed=0)
    assert calibration.calibration_error(calibration.reliability(p, y)) < chance.max()
    assert calibration.calibration_error(calibration.reliability(p, y)) > chance.min()
    assert calibration.calibration_error(calibration.reliability((3 * p).clamp(max=1), y)) > 5 * chance.max()
    assert torch.equal(chance, calibration.calibration_error_by_chance(p, seed=0))


def test_the_calibration_interval_holds_its_estimate_and_narrows_with_rows():
    width = []
    for n in (200, 5000):
        rng = philox(5, "test interval", n)
        p = torch.from_numpy(rng.random(n))
        y = torch.from_numpy(rng.random(n)) < 0.8 * p
        low, high = calibration.calibration_error_interval(p, y, seed=0)
        assert 0 <= low <= calibration.calibration_error(calibration.reliability(p, y)) <= high
        width.append(float(high - low))
    assert width[1] < 0.4 * width[0]
    assert low < 0.1 < high  # mean of p - 0.8 p


@pytest.mark.parametrize("fair", [False, True])
def test_crps_of_draws_is_the_energy_form(fair):
    rng = philox(6, "test crps")
    x, y = torch.from_numpy(rng.normal(size=(17, 3, 2))), torch.from_numpy(rng.normal(size=(3, 2)))
    pairs = (x[:, None] - x[None]).abs().sum((0, 1)) / (17 * 16 if fair else 17 * 17)
    torch.testing.assert_close(scores.crps_samples(x, y, fair=fair), (x - y).abs().mean(0) - pairs / 2, **EXACT)


def test_crps_by_quantiles_at_mid_levels_is_crps_of_those_points():
    rng = philox(7, "test crps")
    x, y = torch.from_numpy(rng.normal(size=(9, 4))), torch.from_numpy(rng.normal(size=4))
    levels = (torch.arange(9, dtype=torch.float64) + 0.5) / 9
    ours = scores.crps_quantiles(x.sort(0).values, levels, y)
    torch.testing.assert_close(ours, scores.crps_samples(x, y, fair=False), **EXACT)


def test_crps_by_quantiles_tends_to_the_normals_closed_form():
    y = torch.tensor([-1.5, 0.0, 0.3, 4.0], dtype=torch.float64)
    levels = (torch.arange(20_000, dtype=torch.float64) + 0.5) / 20_000
    quantiles = torch.special.ndtri(levels)[:, None].expand(-1, 4)
    density = torch.exp(-(y**2) / 2) / math.sqrt(2 * math.pi)
    exact = y * (2 * torch.special.ndtr(y) - 1) + 2 * density - 1 / math.sqrt(math.pi)  # Gneiting & Raftery, p. 367
    torch.testing.assert_close(scores.crps_quantiles(quantiles, levels, y), exact, rtol=1e-4, atol=1e-4)


def test_errors_of_numbers_are_those_of_scikit_learn():
    from sklearn import metrics

    rng = philox(8, "test numbers")
    y, f = torch.from_numpy(rng.normal(size=101)), torch.from_numpy(rng.normal(size=101))
    assert math.isclose(scores.rmse(f, y)[0], metrics.root_mean_squared_error(y, f), rel_tol=1e-10)
    assert math.isclose(scores.r2(f, y)[0], metrics.r2_score(y, f), rel_tol=1e-10)
    median, low, high = scores.median_absolute_error(f, y)
    assert math.isclose(median, metrics.median_absolute_error(y, f), rel_tol=1e-10)
    assert low < median < high


def test_standard_errors_of_rmse_and_r2_are_those_of_the_jackknife():
    rng = philox(9, "test jackknife")
    y = torch.from_numpy(rng.normal(size=3000))
    f = 0.7 * y + 0.4 * torch.from_numpy(rng.normal(size=3000))
    for statistic in (scores.rmse, scores.r2):
        left_out = torch.stack([
            statistic(torch.cat([f[:i], f[i + 1 :]]), torch.cat([y[:i], y[i + 1 :]]))[0] for i in range(0, 3000, 5)
        ])
        jackknife = (left_out.var(correction=0) * 2999).sqrt()  # every fifth row: the variance of 600 influences
        assert math.isclose(statistic(f, y)[1], jackknife, rel_tol=0.2)


def test_the_median_interval_covers_as_it_says():
    hits = 0
    for i in range(400):
        errors = torch.from_numpy(philox(i, "test median").exponential(size=60))
        _, low, high = scores.median_absolute_error(errors, torch.zeros(60))
        hits += bool(low <= math.log(2) <= high)
    assert 0.895 < hits / 400 < 1  # five standard errors below; 0.95^400 < 1e-6 above


def test_pit_is_uniform_for_counts_as_for_numbers_and_skewed_when_the_draws_are_wrong():
    from scipy import stats

    rng = philox(10, "test pit")
    rates = rng.gamma(2.0, 2.0, size=2000)
    y, draws = torch.from_numpy(rng.poisson(rates)), torch.from_numpy(rng.poisson(rates, size=(99, 2000)))
    u = scores.pit(draws, y, seed=0)
    assert stats.kstest(u, "uniform").pvalue > 1e-6
    assert stats.kstest(scores.pit(draws + 1, y, seed=0), "uniform").pvalue < 1e-6
    assert scores.histogram(u, 10).sum() == 2000


def test_bootstrap_repeats_itself_and_gives_the_standard_error_of_a_mean():
    x = torch.from_numpy(philox(11, "test bootstrap").normal(size=500))
    draws = scores.bootstrap(lambda rows: x[rows].mean(), 500, seed=1)
    assert torch.equal(draws, scores.bootstrap(lambda rows: x[rows].mean(), 500, seed=1))
    assert math.isclose(draws.std(), scores.standard_error(x), rel_tol=0.2)  # 400 draws: 3.5 % one standard error


def test_scores_leave_global_random_state_alone():
    before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()
    calibration.calibration_error_interval(torch.rand(50, generator=torch.Generator()), torch.ones(50).bool(), seed=0)
    assert torch.equal(before, torch.get_rng_state())
    assert np.array_equal(numpy_before, np.random.get_state()[1])
