"""Temperature, stretch, conformal ranks, published calibration errors and closed-form CRPS, against formulas."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, optimize, stats

from kokkiri.numerics import calibration, conformal, recalibration, scores
from kokkiri.numerics.distributions import Laplace, Normal, StudentT
from kokkiri.numerics.random import philox
from kokkiri.predictive import Mixture

EXACT = {"rtol": 1e-10, "atol": 1e-12}


def logits(n: int, c: int, seed: int, factor: float = 1.0):
    """Log-probabilities that are right but for a factor, and classes drawn from the right ones."""
    rng = philox(seed, "test logits", n, c)
    right = torch.from_numpy(2 * rng.normal(size=(n, c))).log_softmax(1)
    y = (torch.from_numpy(rng.random((n, 1))) > right.exp().cumsum(1)).sum(1).clamp(max=c - 1)
    return (factor * right).log_softmax(1), y


def best(objective, low=-6.0, high=6.0):
    """The root of a derivative, by scipy: more digits than a minimum of the function itself would have."""
    return math.exp(optimize.brentq(objective, low, high, xtol=1e-14, rtol=1e-15))


# -- temperature -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("c", "factor", "prior"), [(2, 1.0, 0.0), (10, 3.0, 0.0), (3, 0.2, 1.0), (5, 1.0, 25.0)])
def test_the_temperature_is_the_root_that_scipy_finds(c, factor, prior):
    log_p, y = logits(300, c, 0, factor)
    said, row = log_p.numpy(), np.arange(300)

    def slope(log_t):
        """The derivative in 1/T, in plain numpy."""
        beta = math.exp(-log_t)
        e = np.exp(beta * (said - said.max(1, keepdims=True)))
        expected = (e / e.sum(1, keepdims=True) * said).sum(1)
        return (said[row, y] - expected).sum() + prior * (1 / beta - 1)

    found = recalibration.temperature(log_p, y, prior=prior)
    assert math.isclose(found.value, best(slope), rel_tol=1e-10)
    h = 1e-4
    value = lambda t: float((log_p / math.exp(t)).log_softmax(1)[row, y].sum()) + prior * (-t - math.exp(-t))
    t = math.log(found.value)
    curvature = (value(t + h) - 2 * value(t) + value(t - h)) / h**2
    assert math.isclose(found.log_error, (-curvature) ** -0.5, rel_tol=1e-4)


def test_the_temperature_undoes_a_factor_on_the_logits():
    log_p, y = logits(400, 4, 1)
    once = recalibration.temperature(log_p, y).value
    assert math.isclose(recalibration.temperature((3 * log_p).log_softmax(1), y).value, 3 * once, rel_tol=1e-10)


def test_one_wrong_in_four_of_a_constant_prediction_has_its_temperature_in_closed_form():
    log_p = torch.tensor([[0.99, 0.01]], dtype=torch.float64).log().expand(40, 2)
    found = recalibration.temperature(log_p, torch.tensor([0, 0, 0, 1] * 10))
    assert math.isclose(found.value, math.log(99) / math.log(3), rel_tol=1e-12)


def test_the_temperature_is_finite_at_every_extreme():
    sure = torch.tensor([[0.0, -800.0], [-800.0, 0.0]], dtype=torch.float64).repeat(20, 1)
    right, wrong = torch.tensor([0, 1] * 20), torch.tensor([1, 0] * 20)
    assert recalibration.temperature(sure, right, prior=1.0).value == pytest.approx(1, abs=1e-6)  # nothing to learn
    assert recalibration.temperature(sure, wrong).value == pytest.approx(1000)  # the limit: all is wrong
    hopeless = recalibration.temperature(sure, wrong, prior=1.0)
    assert 100 < hopeless.value < 1000 * 1.01
    nearly = torch.tensor([[0.6, 0.4]], dtype=torch.float64).log().expand(40, 2)
    always = torch.zeros(40, dtype=torch.int64)
    assert recalibration.temperature(nearly, always).value < 0.02  # separated: without a prior it goes to 0
    assert 0.05 < recalibration.temperature(nearly, always, prior=1.0).value < 0.5
    flat = torch.full((40, 2), -math.log(2), dtype=torch.float64)
    assert recalibration.temperature(flat, always, prior=1.0).value == 1
    excluded = torch.tensor([[0.0, -math.inf], [-0.1, math.log(-math.expm1(-0.1))]], dtype=torch.float64).repeat(9, 1)
    some = recalibration.temperature(excluded, torch.tensor([1, 1] * 9), prior=1.0)  # rows lost at any T do not count
    alone = recalibration.temperature(excluded[1::2], torch.ones(9, dtype=torch.int64), prior=1.0)
    assert some == alone
    assert math.isnan(recalibration.temperature(flat * math.nan, always).value)


# -- stretch ---------------------------------------------------------------------------------------------------------


def test_the_stretch_of_normals_is_the_root_mean_square_of_standardised_residuals():
    rng = philox(0, "test stretch")
    sd = torch.from_numpy(rng.uniform(0.1, 5, 200))
    r = 1.7 * sd * torch.from_numpy(rng.normal(size=200))
    found = recalibration.stretch(lambda u: Normal(torch.zeros_like(sd), sd.log()).log_prob(u), r)
    assert math.isclose(found.value, (r / sd).square().mean().sqrt(), rel_tol=1e-12)
    assert math.isclose(found.log_error, 1 / math.sqrt(2 * 200), rel_tol=1e-10)  # Fisher information of log sd is 2n


def test_the_stretch_of_laplace_densities_is_the_mean_absolute_residual():
    r = torch.from_numpy(philox(1, "test stretch").laplace(size=101))
    b = torch.tensor(0.3, dtype=torch.float64)
    found = recalibration.stretch(Laplace(torch.zeros((), dtype=torch.float64), b.log()).log_prob, r)
    assert math.isclose(found.value, r.abs().mean() / 0.3, rel_tol=1e-12)


def test_the_stretch_of_a_mixture_of_student_t_is_the_root_that_scipy_finds():
    rng = philox(2, "test stretch")
    location, df, scale = rng.normal(size=(3, 80)), 4.0, 0.5
    r = 2 * rng.standard_t(df, size=80)
    zero = torch.zeros(3, 80, 1, dtype=torch.float64)
    components = StudentT(torch.from_numpy(location)[..., None], zero + math.log(scale), zero + math.log(df - 1))
    mixture = Mixture(components, torch.full((3,), 1 / 3, dtype=torch.float64).log())

    def slope(t):
        """The derivative of Σ log mean_s t((u - μ_s) / σ) / σ - n t, u = r e^-t."""
        z = (r * math.exp(-t) - location) / scale
        density = stats.t.pdf(z, df)
        score = (-density * (df + 1) * z / (df + z**2)).sum(0) / density.sum(0) / scale
        return (score * -r * math.exp(-t)).sum() - 80

    found = recalibration.stretch(mixture.log_prob, torch.from_numpy(r))
    assert math.isclose(found.value, best(slope), rel_tol=1e-10)


def test_the_stretch_goes_to_the_higher_of_two_maxima():
    two = Mixture(
        Normal(torch.tensor([-1.0, 1.0]).reshape(2, 1, 1).expand(2, 40, 1), torch.tensor(0.001).log().expand(2, 40, 1)),
        torch.full((2,), 0.5).log(),
    )
    r = torch.tensor([5.0] * 39 + [0.05], dtype=torch.float64)
    value = lambda c: float(two.log_prob(r / c).sum()) - 40 * math.log(c)
    found = recalibration.stretch(two.log_prob, r).value
    near = max(value(found * math.exp(d)) for d in np.linspace(-0.4, 0.4, 201))
    assert value(found) >= near - 1e-9
    assert value(found) >= max(value(c) for c in np.geomspace(0.01, 100, 29))


def test_a_stretch_that_nothing_bounds_stays_at_the_limit_and_has_no_error():
    found = recalibration.stretch(Normal(torch.zeros(()).double(), torch.zeros(()).double()).log_prob, torch.zeros(5))
    assert found.value == pytest.approx(1 / 1000, rel=1e-6)
    assert math.isnan(found.log_error)
    nan = recalibration.stretch(lambda u: u * math.nan, torch.ones(3))
    assert math.isnan(nan.value)


# -- conformal -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", [0.5, 0.6, 2 / 3, 0.75, 0.8, 0.9])
@pytest.mark.parametrize("n", range(1, 7))
def test_of_all_orders_of_small_n_exactly_enough_are_held_and_one_rank_less_would_fail(n, level):
    """Exchangeable rows: all (n + 1)! orders of distinct scores are equally likely, the last one is the new row's."""
    orders = list(itertools.permutations(range(n + 1)))
    k = conformal.rank(n, level)

    def held(k):
        """Share of orders whose last score is no larger than the k-th smallest of the others."""
        bound = lambda known: sorted(known)[k - 1] if k <= n else math.inf
        return sum(o[-1] <= bound(o[:-1]) for o in orders) / len(orders)

    ours = sum(o[-1] <= float(conformal.threshold(torch.tensor(o[:-1]).double(), level)) for o in orders) / len(orders)
    assert ours == held(k)
    assert level - 1e-12 <= ours < level + 1 / (n + 1) - 1e-12 or ours == 1
    assert k == 1 or held(k - 1) < level - 1e-12


def test_ranks_are_whole_where_the_product_is_whole():
    for n in range(1, 2000):
        assert conformal.rank(n, 0.9) == -((-9 * (n + 1)) // 10)
        assert conformal.rank(n, 0.95) == -((-19 * (n + 1)) // 20)


def test_thresholds_of_columns_are_those_of_each():
    s = torch.from_numpy(philox(0, "test threshold").normal(size=(30, 2)))
    both = conformal.threshold(s, 0.8)
    assert both.tolist() == [float(conformal.threshold(s[:, 0], 0.8)), float(conformal.threshold(s[:, 1], 0.8))]
    assert conformal.threshold(s[:3], 0.8).tolist() == [math.inf, math.inf]


@given(st.integers(2, 6), st.integers(0, 10_000))
@settings(deadline=None, max_examples=40)
def test_adaptive_scores_are_mass_above_plus_a_share_of_ones_own(c, seed):
    rng = philox(seed, "test adaptive")
    p, u = rng.dirichlet(np.ones(c), 7), rng.random(7)
    ours = conformal.adaptive(torch.from_numpy(p), torch.from_numpy(u))
    slow = [[sum(q for q in row if q > row[k]) + v * row[k] for k in range(c)] for row, v in zip(p, u, strict=True)]
    np.testing.assert_allclose(ours, slow, rtol=1e-10, atol=1e-12)


def test_equally_probable_classes_are_told_apart_so_that_scores_of_right_predictions_are_uniform():
    n = 20_000
    rng = philox(1, "test adaptive")
    p = torch.full((n, 4), 0.25, dtype=torch.float64)
    y, u = torch.from_numpy(rng.integers(0, 4, n)), torch.from_numpy(rng.random(n))
    truth = conformal.adaptive(p, u).gather(1, y[:, None])[:, 0]
    assert stats.kstest(truth, "uniform").pvalue > 1e-6


def test_quantile_scores_are_negative_inside_and_intervals_never_turn_inside_out():
    low, high = torch.tensor([0.0, 0.0, 0.0]), torch.tensor([1.0, 1.0, 1.0])
    assert conformal.excess(torch.tensor([-2.0, 0.25, 3.0]), low, high).tolist() == [2.0, -0.25, 2.0]
    assert [t.tolist() for t in conformal.widened(low, high, torch.tensor([1.0, -0.25, -2.0]))] == [
        [-1.0, 0.25, 0.5],
        [2.0, 0.75, 0.5],
    ]


# -- calibration errors ----------------------------------------------------------------------------------------------


def guo(confidence, hit, bins=15):
    """The loop that most papers run: bins (a, b], |accuracy - confidence| weighted by their rows."""
    total = 0.0
    for k in range(bins):
        inside = (confidence > k / bins) & (confidence <= (k + 1) / bins)
        if inside.any():
            total += inside.mean() * abs(hit[inside].mean() - confidence[inside].mean())
    return total


def test_the_calibration_error_of_equal_widths_is_that_of_the_usual_loop():
    log_p, y = logits(500, 6, 2, 1.8)
    p = log_p.exp()
    named, hit = p.amax(1), scores.correct(p, y)
    ours = calibration.expected_calibration_error(named, hit)
    assert math.isclose(ours, guo(named.numpy(), hit.numpy().astype(float)), rel_tol=1e-10)
    edges = torch.arange(16, dtype=torch.float64) / 15  # a bin owns its upper edge
    assert calibration.equal_width_groups(edges, 15).tolist() == [0, *range(15)]


def test_the_calibration_error_of_all_classes_is_the_mean_over_classes():
    log_p, y = logits(400, 4, 3, 1.5)
    p, hit = log_p.exp(), torch.nn.functional.one_hot(y, 4)
    ours = calibration.expected_calibration_error(p, hit, 15, calibration.class_by_class)
    each = [guo(p[:, c].numpy(), hit[:, c].numpy().astype(float)) for c in range(4)]
    assert math.isclose(ours, np.mean(each), rel_tol=1e-10)


def test_the_calibration_error_of_equal_masses_is_that_of_the_reliability_diagram():
    log_p, y = logits(450, 3, 4)
    p = log_p.exp()
    named, hit = p.amax(1), scores.correct(p, y)
    ours = calibration.expected_calibration_error(named, hit, 15, calibration.equal_mass_groups)
    assert math.isclose(ours, calibration.calibration_error(calibration.reliability(named, hit, 15)), rel_tol=1e-10)


@pytest.mark.parametrize("group", [calibration.equal_width_groups, calibration.equal_mass_groups, None])
def test_right_probabilities_show_what_chance_shows_and_wrong_ones_more(group):
    above = []
    for factor in (1.0, 3.0):
        log_p, y = logits(1500, 5, 5, factor)
        p = log_p.exp()
        if group is None:
            said, came, how = p, torch.nn.functional.one_hot(y, 5), calibration.class_by_class
        else:
            said, came, how = p.amax(1), scores.correct(p, y), group
        error = calibration.expected_calibration_error(said, came, 15, how)
        chance = calibration.calibration_error_by_chance(said, 15, seed=0, group=how)
        low, high = calibration.calibration_error_interval(said, came, 15, seed=0, group=how)
        assert low <= error <= high
        assert chance.min() < chance.max()
        above.append(float((error - chance.mean()) / chance.std()))
    assert abs(above[0]) < 5
    assert above[1] > 20


def test_outcomes_by_chance_are_one_class_a_row():
    p = torch.tensor([[0.2, 0.5, 0.3]], dtype=torch.float64)
    drawn = calibration._outcome(p.expand(6, 3), torch.tensor([0.0, 0.19, 0.21, 0.69, 0.71, 0.99]))
    assert drawn.argmax(1).tolist() == [0, 0, 1, 1, 2, 2]
    assert drawn.sum(1).tolist() == [1.0] * 6


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
@settings(deadline=None, max_examples=50)
def test_the_pit_distance_is_the_integral_of_the_gap(values):
    u = np.sort(values)
    points = np.unique(np.r_[0.0, u, np.arange(len(u)) / len(u), 1.0])  # where the gap jumps or turns
    slow = sum(
        integrate.quad(lambda t: abs(np.searchsorted(u, t, side="right") / len(u) - t), a, b, epsabs=1e-13)[0]
        for a, b in itertools.pairwise(points)
    )
    ours = calibration.pit_distance(torch.tensor(values, dtype=torch.float64))
    assert math.isclose(ours, slow, rel_tol=1e-10, abs_tol=1e-12)


def test_the_pit_distance_of_uniform_values_is_that_of_a_brownian_bridge():
    rng = philox(6, "test pit distance")
    d = np.array([float(calibration.pit_distance(torch.from_numpy(rng.random(400)))) for _ in range(400)]) * 20
    mean = math.sqrt(2 / math.pi) * math.pi / 8  # E|N(0, u (1 - u))| integrated over u
    assert abs(d.mean() - mean) < 4 * d.std() / 20


# -- CRPS ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("draws", [1, 2, 5])
def test_the_crps_of_a_mixture_of_normals_is_its_integral(draws):
    rng = philox(draws, "test crps")
    mean, sd = rng.normal(size=(draws, 4)), rng.uniform(0.2, 3, (draws, 4))
    weight, y = rng.dirichlet(np.ones(draws)), np.array([-4.0, 0.1, 1.0, 6.0])
    ours = scores.crps_normals(*map(torch.from_numpy, (mean, sd, np.log(weight), y)))
    for i in range(4):
        size = lambda t, i=i: (weight @ stats.norm.cdf(t, mean[:, i], sd[:, i]) - (t >= y[i])) ** 2
        parts = [
            integrate.quad(size, *ends, epsabs=1e-12, epsrel=1e-12, limit=500)[0] for ends in ((-40, y[i]), (y[i], 40))
        ]
        assert math.isclose(ours[i], sum(parts), rel_tol=1e-8)


def test_the_crps_of_equal_components_is_that_of_one_and_of_sharp_ones_that_of_points():
    y = torch.tensor([0.3, -2.0], dtype=torch.float64)
    one = scores.crps_normals(torch.zeros(1, 2).double(), torch.ones(1, 2).double(), torch.zeros(1).double(), y)
    uneven = torch.tensor([0.1, 0.2, 0.7], dtype=torch.float64).log()
    three = scores.crps_normals(torch.zeros(3, 2).double(), torch.ones(3, 2).double(), uneven, y)
    torch.testing.assert_close(three, one, **EXACT)
    points = torch.tensor([[1.0, 0.0], [2.0, 5.0]], dtype=torch.float64)
    even = torch.full((2,), 0.5, dtype=torch.float64).log()
    sharp = scores.crps_normals(points, torch.full((2, 2), 1e-9, dtype=torch.float64), even, y)
    torch.testing.assert_close(sharp, scores.crps_samples(points, y, fair=False), rtol=1e-7, atol=1e-8)
