"""Projections of effects and dose-response curves against least squares, worlds in which all is known, and coverage."""

import math

import pytest
import torch
from scipy import stats
from scipy.interpolate import CubicSpline

from kokkiri.errors import UsageError
from kokkiri.numerics.dose import Doses, knots_of, near, response, uncorrected
from kokkiri.numerics.effects import Nuisances, bayesian_bootstrap, scores
from kokkiri.numerics.projection import band, projected, pseudo_outcomes, spline


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def some(n=80):
    t = torch.arange(n) % 2
    return Nuisances(t, draw(n), None, t, draw(2, n, seed=1), torch.softmax(draw(2, n, seed=2), 0))


def test_on_a_constant_the_projection_is_the_average_effect():
    nuisances = some()
    found = projected(pseudo_outcomes(nuisances, 1, 0), torch.ones(80, 1, dtype=torch.float64), 300, seed=4)
    means = bayesian_bootstrap(scores(nuisances), 300, seed=4)
    assert torch.allclose(found[:, 0], means[:, 1] - means[:, 0], atol=1e-10, rtol=0)


def test_on_indicators_the_projection_is_the_effect_of_each_group():
    nuisances = some()
    group = torch.arange(80) % 3
    basis = torch.nn.functional.one_hot(group, 3).double()
    found = projected(pseudo_outcomes(nuisances, 1, 0), basis, 50, seed=4)
    for g in range(3):
        means = bayesian_bootstrap(scores(nuisances, (group == g).double()), 50, seed=4)
        assert torch.allclose(found[:, g], means[:, 1] - means[:, 0], atol=1e-10, rtol=0)


def test_each_draw_is_weighted_least_squares_and_the_law_that_of_its_sandwich():
    x = draw(400, 2)
    basis = torch.cat([torch.ones(400, 1, dtype=torch.float64), x], 1)
    values = 1 + 2 * x[:, 0] + x[:, 1].abs() + draw(400, seed=3) * (1 + x[:, 0].abs())
    found = projected(values, basis, 20_000, seed=0)
    beta = torch.linalg.lstsq(basis, values[:, None]).solution[:, 0]
    bread = torch.linalg.inv(basis.T @ basis)
    meat = (basis * (values - basis @ beta)[:, None]).T @ (basis * (values - basis @ beta)[:, None])
    sandwich = bread @ meat @ bread
    sd = sandwich.diagonal().sqrt()
    assert torch.allclose(found.mean(0), beta, atol=float(0.1 * sd.max()))
    assert torch.allclose(found.std(0), sd, rtol=0.05)


def test_columns_that_depend_on_one_another_are_refused():
    twice = torch.ones(30, 2, dtype=torch.float64)
    with pytest.raises(UsageError, match="depend on one another"):
        projected(draw(30), twice, 3, seed=0)


def test_splines_are_natural_cubic_splines():
    knots = torch.tensor([0.0, 1.0, 2.5, 3.0, 5.0], dtype=torch.float64)
    at = torch.linspace(0, 5, 60, dtype=torch.float64)
    values = draw(5)
    beta = torch.linalg.solve(spline(knots, knots), values)
    theirs = CubicSpline(knots.numpy(), values.numpy(), bc_type="natural")(at.numpy())
    assert torch.allclose(spline(at, knots) @ beta, torch.from_numpy(theirs), atol=1e-10, rtol=0)
    beyond = spline(torch.tensor([6.0, 7.0, 8.0], dtype=torch.float64), knots) @ beta
    assert float((beyond[2] - 2 * beyond[1] + beyond[0]).abs()) < 1e-10


def test_a_band_holds_whole_curves_and_points_as_often_as_it_says():
    curves = draw(40_000, 6) @ draw(6, 30, seed=1) + torch.arange(30)
    found = band(curves, 0.9)
    inside = ((curves >= found.lowest) & (curves <= found.highest)).all(1).double().mean()
    assert float(inside) == pytest.approx(0.9, abs=0.002)
    each = ((curves >= found.low) & (curves <= found.high)).double().mean(0)
    assert torch.allclose(each, torch.full_like(each, 0.9), atol=0.002)


class World:
    """x standard normal, t = x + noise, E[Y | t, x] = sin(t) + x; E[Y(t)] = sin t. All of it known."""

    def __init__(self, n, seed):
        self.x = draw(n, seed=seed)
        self.t = self.x + draw(n, seed=seed + 1)
        self.y = torch.sin(self.t) + self.x + draw(n, seed=seed + 2)
        self.grid = torch.linspace(-2, 2, 9, dtype=torch.float64)
        self.own = torch.sin(self.t) + self.x
        self.outcome = torch.sin(self.grid)[:, None] + self.x
        normal = torch.distributions.Normal(torch.zeros((), dtype=torch.float64), 1.0)
        self.density = normal.log_prob(self.t - self.x).exp()
        self.margin = normal.log_prob(self.t / 2**0.5).exp() / 2**0.5

    def doses(self, outcome=0.0, density=True):
        """outcome: an error of the outcome's model, x t / 2 and so much; density: whether π is known or taken flat."""
        wrong = lambda t: outcome * (0.5 * self.x * t + 0.5 * t)
        flat = torch.ones_like(self.t)
        return Doses(
            self.t, self.y, None, self.grid, self.outcome + wrong(self.grid[:, None]), self.own + wrong(self.t),
            self.density if density else flat, self.margin if density else flat,
        )  # fmt: skip


def test_without_residuals_the_curve_is_the_outcome_models():
    world = World(200, 0)
    doses = world.doses()._replace(y=world.own)
    assert torch.allclose(response(doses, 3).mean(0), uncorrected(doses), atol=0.3)
    even = response(doses, 2000).mean(0) - uncorrected(doses)
    assert float(even.abs().max()) < 4 * float(response(doses, 2000).std(0).max()) / math.sqrt(2000)


def test_a_wrong_outcome_model_is_corrected_by_a_right_density():
    worlds = [World(4000, 100 * k) for k in range(6)]
    right = torch.sin(worlds[0].grid)
    before = torch.stack([uncorrected(w.doses(1.0)) - right for w in worlds]).mean(0)
    after = torch.stack([response(w.doses(1.0), 200).mean(0) - right for w in worlds]).mean(0)
    flat = torch.stack([response(w.doses(1.0, density=False), 200).mean(0) - right for w in worlds]).mean(0)
    assert float(before[[0, -1]].abs().min()) > 0.8
    assert float(after.abs().max()) < 0.25
    assert float(flat.abs().max()) > 3 * float(after.abs().max())


def test_bands_of_curves_cover():
    """60 worlds: pointwise intervals and bands, judged by the chance of so few or so many under 0.95."""
    points, wholes = 0, 0
    for k in range(60):
        world = World(500, 1000 + 7 * k)
        found = band(response(world.doses(), 800, seed=k))
        truth = torch.sin(world.grid)
        points += int((found.low[4] <= truth[4]) & (truth[4] <= found.high[4]))
        wholes += int(((found.lowest <= truth) & (truth <= found.highest)).all())
    assert stats.binomtest(points, 60, 0.95).pvalue > 0.001
    assert stats.binomtest(wholes, 60, 0.95).pvalue > 0.001


def test_rows_near_a_dose_are_weighted_to_stand_for_all():
    """Where all densities are known, the weights near a dose add up to one."""
    world = World(40_000, 3)
    doses = world.doses()
    normal = torch.distributions.Normal(torch.zeros((), dtype=torch.float64), 1.0)
    density = lambda dose: normal.log_prob(dose - world.x).exp()
    for dose in (0.0, 0.7):
        found = near(doses, dose, density(dose), 0.05)
        assert abs(found.total - 1) < 4 * found.se + 0.005
        assert 0 < found.effective < found.rows
        away = math.sqrt(2 * math.log(20) + math.log(2) + dose**2 / 2)  # where φ(d - x) = φ(d / √2) / √2 / 20
        share = stats.norm.cdf(dose - away) + stats.norm.sf(dose + away)
        assert float(found.thin.double().mean()) == pytest.approx(share, abs=0.003)
    flat = near(world.doses(density=False), 0.0, torch.ones_like(world.x), 0.05)
    assert flat.effective / flat.rows == pytest.approx(1.0)


def test_knots_lie_within_the_rows_and_never_coincide():
    t = torch.cat([torch.zeros(90), torch.arange(10)]).double()
    knots = knots_of(t, 6)
    assert bool((knots.diff() > 0).all())
    assert len(knots) < 6
