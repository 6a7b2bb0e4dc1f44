"""Scores of effects against formulas, enumeration and automatic differentiation."""

import math

import pytest
import torch
from scipy import stats
from torch.nn.functional import one_hot

from kokkiri.errors import UsageError
from kokkiri.numerics import effects
from kokkiri.numerics.effects import Nuisances, average, bayesian_bootstrap, dirichlet, influence, plug_in, scores
from kokkiri.numerics.targeted import targeted, targeted_posterior


def some(n=60, levels=3, seed=0, replicates=0):
    g = torch.Generator().manual_seed(seed)
    draw = lambda *shape: torch.randn(*shape, generator=g, dtype=torch.float64)
    t = torch.arange(n) % levels
    many = (draw(replicates, levels, n), torch.softmax(draw(replicates, levels, n), 1)) if replicates else (None, None)
    return Nuisances(t, draw(n), None, t, draw(levels, n), torch.softmax(draw(levels, n), 0), *many)


GROUP = torch.arange(60, dtype=torch.float64) % 2
KINDS = ["average", ("level", 1), GROUP]


class Population:
    """A discrete world: x of five values, two levels, y of three values, with all its probabilities."""

    def __init__(self, seed):
        g = torch.Generator().manual_seed(seed)
        draw = lambda *shape: torch.rand(*shape, generator=g, dtype=torch.float64) + 0.1
        self.p_x = draw(5) / draw(5).sum()
        self.p_x = self.p_x / self.p_x.sum()
        self.e = torch.stack([1 - 0.8 * draw(5) / 1.1, 0.8 * draw(5) / 1.1])
        self.e[0] = 1 - self.e[1]
        self.y = torch.tensor([0.0, 1.0, 3.0], dtype=torch.float64)
        p_y = draw(2, 5, 3)
        self.p_y = p_y / p_y.sum(-1, keepdim=True)
        self.mu = (self.p_y * self.y).sum(-1)  # (K, x)

    def rows(self, mu, e):
        """Every (x, t, y) once, weighted by its probability."""
        x, t, y = (
            v.flatten() for v in torch.meshgrid(torch.arange(5), torch.arange(2), torch.arange(3), indexing="ij")
        )
        weight = self.p_x[x] * self.e[t, x] * self.p_y[t, x, y]
        return Nuisances(t, self.y[y], weight, t, mu[:, x], e[:, x]), x

    def truth(self, kind):
        w = {"average": self.p_x, "overlap": self.p_x * self.e[0] * self.e[1]}.get(kind)
        w = self.p_x * self.e[kind[1]] if w is None else w
        return (w * self.mu).sum(1) / w.sum()


@pytest.mark.parametrize("kind", ["average", ("level", 0), ("level", 1)])
@pytest.mark.parametrize("right", ["outcome", "propensity"])
def test_one_right_nuisance_is_enough(kind, right):
    world, other = Population(1), Population(2)
    mu = world.mu if right == "outcome" else other.mu
    e = world.e if right == "propensity" else other.e
    nuisances, _ = world.rows(mu, e)
    assert torch.allclose(average(scores(nuisances, kind), nuisances.weight), world.truth(kind), atol=1e-12, rtol=0)
    wrong, _ = world.rows(other.mu, other.e)
    assert not torch.allclose(average(scores(wrong, kind), wrong.weight), world.truth(kind), atol=1e-3)


def test_a_group_is_its_own_world():
    world, other = Population(3), Population(4)
    nuisances, x = world.rows(world.mu, other.e)
    found = average(scores(nuisances, (x < 2).double()), nuisances.weight)
    inside = world.p_x[:2] / world.p_x[:2].sum()
    assert torch.allclose(found, (inside * world.mu[:, :2]).sum(1), atol=1e-12, rtol=0)


@pytest.mark.parametrize("kind", ["average", ("level", 1), "overlap"])
def test_errors_move_the_score_by_their_product_only(kind):
    world, other = Population(5), Population(6)

    def value(s, u):
        mu = world.mu + s * (other.mu - world.mu)
        e = world.e + u * (other.e - world.e)
        nuisances, _ = world.rows(mu, e)
        found = average(scores(nuisances, kind), nuisances.weight)
        return found[1] - found[0]

    zero = torch.zeros((), dtype=torch.float64)
    slope = torch.autograd.functional.jacobian(value, (zero, zero))
    assert max(float(s.abs()) for s in slope) < 1e-10
    assert float(value(zero, zero)) == pytest.approx(float(world.truth(kind) @ torch.tensor([-1.0, 1.0]).double()))


def test_the_score_is_the_derivative_of_the_target_along_the_distribution():
    """Influence functions by automatic differentiation: of θ at p + s (row - p), for every row of a discrete world."""
    world = Population(7)
    nuisances, x = world.rows(world.mu, world.e)
    p, t, y = nuisances.weight, nuisances.t, nuisances.y

    def theta(weights, kind):
        joint = torch.zeros(5, 2, dtype=torch.float64).index_put((x, t), weights, accumulate=True)
        sums = torch.zeros(5, 2, dtype=torch.float64).index_put((x, t), weights * y, accumulate=True)
        mu, p_x = (sums / joint).T, joint.sum(1)
        e = joint.T / p_x
        w = p_x if kind == "average" else p_x * e[0] * e[1] if kind == "overlap" else joint[:, kind[1]]
        return (w * mu).sum(1) / w.sum()

    for kind in ("average", ("level", 0), ("level", 1), "overlap"):
        slope = torch.autograd.functional.jacobian(lambda w, kind=kind: theta(w / w.sum(), kind), p)
        found = influence(scores(nuisances, kind), p) / (p / p.mean())
        assert torch.allclose(found, slope, atol=1e-12, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_without_residuals_the_score_is_the_plug_in(kind):
    nuisances = some()
    nuisances = nuisances._replace(y=nuisances.outcome.gather(0, nuisances.t[None])[0])
    assert torch.allclose(average(scores(nuisances, kind)), plug_in(nuisances, kind), atol=1e-12, rtol=0)


def test_without_predictions_the_score_is_inverse_weighting():
    nuisances = some()._replace(outcome=torch.zeros(3, 60, dtype=torch.float64))
    had = one_hot(nuisances.t, 3).T
    assert torch.allclose(average(scores(nuisances)), (had * nuisances.y / nuisances.propensity).mean(1))


def test_shares_and_means_of_cells_give_standardisation():
    """Saturated models of a discrete x: the correction vanishes, and all estimators are the formula."""
    g = torch.Generator().manual_seed(1)
    x, t = torch.randint(4, (400,), generator=g), torch.randint(2, (400,), generator=g)
    y = torch.randn(400, generator=g, dtype=torch.float64) + x + t
    cell = one_hot(x, 4).double().T
    had = one_hot(t, 2).double().T
    mu = (had * y) @ cell.T / (had @ cell.T)
    e = had @ cell.T / cell.sum(1)
    nuisances = Nuisances(t, y, None, t, mu[:, x], e[:, x])
    formula = mu @ cell.mean(1)
    for found in (average(scores(nuisances)), plug_in(nuisances), targeted(nuisances).mean(1)):
        assert torch.allclose(found, formula, atol=1e-12, rtol=0)
    of_treated = (mu * (cell * t).sum(1)).sum(1) / t.sum()
    assert torch.allclose(average(scores(nuisances, ("level", 1))), of_treated, atol=1e-12, rtol=0)


@pytest.mark.parametrize("bounded", [False, True])
def test_targeted_predictions_solve_their_equation(bounded):
    nuisances = some()
    if bounded:
        nuisances = nuisances._replace(y=(nuisances.y > 0).double(), outcome=torch.sigmoid(nuisances.outcome))
    weight = dirichlet(60, 5, seed=3)
    found = targeted(nuisances, weight)
    assert found.shape == (5, 3, 60)
    left = (weight.unsqueeze(1) * one_hot(nuisances.t, 3).T / nuisances.propensity * (nuisances.y - found)).sum(-1)
    assert float(left.abs().max()) < 1e-10
    if bounded:
        assert float(found.min()) >= 0
        assert float(found.max()) <= 1
    moved = nuisances._replace(outcome=found[0], weight=weight[0])
    one_step = average(scores(moved), weight[0])
    assert torch.allclose(one_step, plug_in(moved), atol=1e-10, rtol=0)


def test_the_targeted_posterior_agrees_with_the_one_step_posterior():
    nuisances = some(1200)
    drawn = torch.rand(1200, generator=torch.Generator().manual_seed(1)) > nuisances.propensity.cumsum(0)
    t = drawn.sum(0)
    nuisances = nuisances._replace(t=t, y=nuisances.outcome.gather(0, t[None])[0] + nuisances.y)
    a, b = targeted_posterior(nuisances, draws=400), effects.posterior(nuisances, draws=4000)
    assert torch.allclose(a.std(0), b.std(0), rtol=0.2)
    assert torch.allclose(a.mean(0), b.mean(0), atol=float(0.5 * b.std(0).min()))


def test_dirichlet_weights_have_their_moments():
    n, draws = 5, 40_000
    w = dirichlet(n, draws, seed=0) / n
    assert torch.allclose(w.sum(1), torch.ones(draws, dtype=torch.float64))
    for i in range(n):  # a margin of Dirichlet(1, …, 1) is Beta(1, n - 1)
        assert stats.kstest(w[:, i].numpy(), stats.beta(1, n - 1).cdf).pvalue > 1e-4
    covariance = torch.cov(w.T)
    exact = (torch.eye(n, dtype=torch.float64) - 1 / n) / (n * (n + 1))
    assert torch.allclose(covariance, exact, atol=6 * 0.03 / math.sqrt(draws))


def test_the_bootstrap_of_a_mean_has_its_variance():
    nuisances = some(300)
    found = scores(nuisances)
    draws = bayesian_bootstrap(found, 20_000, seed=1)
    exact = found.value.var(1, correction=0) / 301
    ratio = draws.var(0) / exact
    assert float((ratio - 1).abs().max()) < 5 * math.sqrt(2 / 20_000)
    z = (draws.mean(0) - found.value.mean(1)) / (exact / 20_000).sqrt()
    assert float(z.abs().max()) < 4.5


def test_weights_of_rows_are_rows():
    nuisances = some(60)
    twice = torch.arange(60) % 4 == 0
    index = torch.cat([torch.arange(60), torch.arange(60)[twice]])
    weighted = nuisances._replace(weight=1 + twice.double())
    copied = Nuisances(
        nuisances.t[index], nuisances.y[index], None, nuisances.fold[index], nuisances.outcome[:, index],
        nuisances.propensity[:, index],
    )  # fmt: skip
    for kind in ("average", ("level", 2)):
        assert torch.allclose(average(scores(weighted, kind), weighted.weight), average(scores(copied, kind)))
        assert torch.allclose(plug_in(weighted, kind), plug_in(copied, kind))


def test_the_remainder_is_the_product_of_errors():
    nuisances = some(replicates=4)
    found = effects.remainder(nuisances)
    product = (nuisances.outcome_draws - nuisances.outcome) * (1 - nuisances.propensity / nuisances.propensity_draws)
    assert torch.allclose(found, product.mean(-1), atol=1e-12, rtol=0)
    for kind in (("level", 1), GROUP):
        same = nuisances._replace(outcome_draws=nuisances.outcome.expand(4, 3, 60))
        assert float(effects.remainder(same, kind).abs().max()) < 1e-12
    same = nuisances._replace(propensity_draws=nuisances.propensity.expand(4, 3, 60))
    assert float(effects.remainder(same).abs().max()) < 1e-12


@pytest.mark.parametrize("kind", ["average", ("level", 1), "overlap"])
def test_the_remainder_is_what_the_score_misses_in_a_discrete_world(kind):
    world, other = Population(8), Population(9)
    nuisances, x = world.rows(other.mu, other.e)
    missed = average(scores(nuisances, kind), nuisances.weight) - world.truth(kind)
    at_x = Nuisances(
        torch.arange(5) % 2, torch.zeros(5, dtype=torch.float64), world.p_x, x, world.mu, world.e, other.mu[None],
        other.e[None],
    )  # fmt: skip
    assert torch.allclose(effects.remainder(at_x, kind)[0], missed, atol=1e-12, rtol=0)


def test_the_posterior_takes_the_remainder_off_and_is_wider_for_it():
    nuisances = some(500, replicates=6)
    plain = effects.posterior(nuisances._replace(outcome_draws=None), draws=20_000)
    whole = effects.posterior(nuisances, draws=20_000)
    rest = effects.remainder(nuisances)
    assert torch.allclose(whole.mean(0), plain.mean(0) - rest.mean(0), atol=0.01)
    assert torch.allclose(whole.var(0), plain.var(0) + rest.var(0) * 7 / 6, rtol=0.06)


def test_probabilities_are_raised_where_they_divide_and_nowhere_else():
    nuisances = some()._replace(least=0.2)
    raised = nuisances.propensity.clamp(min=0.2)
    assert torch.equal(scores(nuisances).value, scores(nuisances._replace(propensity=raised, least=0.0)).value)
    found, had = scores(nuisances, ("level", 1)), one_hot(nuisances.t, 3).T
    odds = nuisances.propensity[1] / raised
    odds[1] = 1.0
    by_hand = had[1] * nuisances.outcome + odds * had * (nuisances.y - nuisances.outcome)
    assert torch.allclose(found.value, by_hand, atol=1e-12, rtol=0)


def test_the_outcome_of_those_who_had_a_rare_level_is_what_they_had():
    """Theirs are no predictions, be their probability as small as it may."""
    nuisances = some()._replace(least=0.9)
    found = average(scores(nuisances, ("level", 1)))
    assert float(found[1]) == pytest.approx(float(nuisances.y[nuisances.t == 1].mean()), abs=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_targeted_predictions_solve_the_equation_of_those_whom_they_are_about(kind):
    world, other = Population(10), Population(11)
    nuisances, x = world.rows(other.mu, world.e)
    kind = (x < 2).double() if isinstance(kind, torch.Tensor) else kind
    moved = nuisances._replace(outcome=targeted(nuisances, kind=kind))
    found, known = plug_in(moved, kind), average(scores(moved, kind), nuisances.weight)
    assert torch.allclose(found, known, atol=1e-10, rtol=0)
    if not isinstance(kind, torch.Tensor):
        assert torch.allclose(found, world.truth(kind), atol=1e-10, rtol=0)


def test_what_is_no_target_is_refused():
    with pytest.raises(UsageError, match="no target"):
        scores(some(), ("level", 3))
    with pytest.raises(UsageError, match="two levels"):
        scores(some(), "overlap")
