"""Cross-fits: no row is predicted by a network that has seen it; arms, likelihoods, replicates, refits, recovery."""

import pytest
import torch
from scipy import stats
from torch import nn

import kokkiri as kk
from kokkiri.causal.arms import SHRINK, Arms
from kokkiri.causal.crossfit import Learner, Rows, crossfit, sets_of
from kokkiri.causal.doses import network_doses
from kokkiri.causal.networks import STEEP, network_nuisances, steep
from kokkiri.causal.refits import head_draws, hidden_layers, network_draws
from kokkiri.errors import DataError, ShapeError, UsageError
from kokkiri.likelihoods import Bernoulli, Gaussian, NegativeBinomial, Poisson
from kokkiri.numerics import dose, effects
from kokkiri.priors import Normal


def world(n, seed=0, inputs=4):
    """x confounds: it moves treatment and outcome; the effect is 1."""
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(n, inputs, generator=g)
    t = (torch.rand(n, generator=g) < torch.sigmoid(1.5 * x[:, 0])).long()
    y = torch.sin(2 * x[:, 0]) + x[:, 0] + t + 0.5 * torch.randn(n, generator=g)
    return x, t, y.double()


# -- arms --------------------------------------------------------------------------------------------------------------


def test_arms_share_their_first_output_and_contrasts_are_orthogonal():
    code = Arms(Gaussian(), 4).code().double()
    assert torch.equal(code[:, 0], torch.ones(4, dtype=torch.float64))
    assert torch.allclose(code[:, 1:].sum(0), torch.zeros(3, dtype=torch.float64), atol=1e-6)
    gram = code[:, 1:].T @ code[:, 1:]
    assert float((gram - torch.diag(gram.diagonal())).abs().max()) < 1e-6
    two = Arms(Gaussian(), 2).code()
    assert torch.allclose(two[:, 1], torch.tensor([-0.5, 0.5]) * SHRINK)


@pytest.mark.parametrize("inner", [Gaussian(0.7), Bernoulli(), Poisson()])
def test_scores_of_arms_are_derivatives(inner):
    arms = Arms(inner, 3)
    output = torch.randn(6, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    y = torch.tensor([[k % 3, k % 2] for k in range(6)], dtype=torch.float64)
    bound = arms.bind({n: p.double() for n, p in arms.parameters().items()})
    (slope,) = torch.autograd.grad(bound.log_prob(output, y).sum(), output)
    found = bound.score(output.detach()[None], y)
    if found is None:
        assert not hasattr(inner, "score")
        return
    assert torch.allclose(found.output[0], slope, atol=1e-10, rtol=0)


def test_an_arm_has_the_likelihood_of_its_own_output():
    arms = Arms(Gaussian(0.7, learn=False), 2)
    output, y = torch.randn(5, 2), torch.tensor([[0, 1.0], [1, 2.0], [1, 0.0], [0, 0.5], [1, 1.0]])
    found = arms.log_prob(output, y)
    for i in range(5):
        own = arms.of_arm(output[i : i + 1], int(y[i, 0]))
        assert torch.allclose(found[i], arms.inner.log_prob(own, y[i : i + 1, 1])[0])
    assert torch.allclose(arms.mean(output[None])[0, 1], arms.of_arm(output, 1)[:, 0].double())


# -- who has seen what -------------------------------------------------------------------------------------------------


def test_every_replica_ignores_its_fold_and_every_row_is_asked_of_the_one_that_ignored_it():
    sets = sets_of(30, 5, 2, 1, seed=0, strata=torch.arange(30) % 2)
    masks = sets.masks().unflatten(0, (3, 5))
    for m in range(3):
        for f in range(5):
            assert torch.equal(masks[m, f] == 0, sets.fold[m] == f)
    who = torch.arange(15).reshape(3, 5, 1, 1).expand(3, 5, 30, 1)
    assert torch.equal(sets.unseen(who)[..., 0], torch.arange(3)[:, None] * 5 + sets.fold)
    assert torch.equal(sets.weight[0], torch.ones(30))
    assert float(sets.weight[2].mean()) == pytest.approx(1.0)
    assert float(sets.weight[2].std()) > 0.5


def test_rows_do_not_move_their_own_predictions():
    x, t, y = world(60)
    sets = sets_of(60, 3, 1, 0, seed=1, strata=t)
    line = Learner("line", lambda outputs: kk.networks.MLP(4, [8], outputs), Normal(1.0), 30)
    arms = Arms(Gaussian(0.5, learn=False), 2)
    target = torch.stack([t.double(), y], 1)
    before = crossfit(Rows(x, target), sets, line, arms, 0).outputs
    moved = target.clone()
    fold = sets.fold[0] == 1
    moved[fold, 1] += 100.0
    after = crossfit(Rows(x, moved), sets, line, arms, 0).outputs
    assert torch.equal(sets.unseen(before)[0][fold], sets.unseen(after)[0][fold])
    assert not torch.equal(sets.unseen(before)[0][~fold], sets.unseen(after)[0][~fold])


def test_a_part_of_the_sets_is_the_same_as_in_the_whole():
    x, t, y = world(40)
    sets = sets_of(40, 2, 1, 1, seed=1, strata=t)
    line = Learner("line", lambda outputs: kk.networks.MLP(4, [], outputs), Normal(1.0), 10)
    rows, arms = Rows(x, torch.stack([t.double(), y], 1)), Arms(Gaussian(0.5, learn=False), 2)
    whole = crossfit(rows, sets, line, arms, 0).outputs
    part = crossfit(rows, sets.part(1, 2), line, arms, 0, first=1).outputs
    assert torch.allclose(whole[1], part[0], atol=1e-6)


def test_groups_stay_in_one_fold():
    groups = torch.arange(40) // 4
    sets = sets_of(40, 4, 3, 0, seed=0, strata=torch.zeros(40), groups=groups)
    for m in range(3):
        for g in range(10):
            assert len(sets.fold[m][groups == g].unique()) == 1


def test_steep_inputs_have_one_size_and_rare_categories_are_not_blown_up():
    x = torch.cat([5 + 3 * torch.randn(400, 1), (torch.arange(400)[:, None] < 4).float(), torch.ones(400, 1)], 1)
    found = steep(x)
    assert float(found[:, 0].std(correction=0)) == pytest.approx(STEEP, rel=1e-4)
    assert float(found[:, 1].max()) < 4.1 * STEEP
    assert torch.equal(found[:, 2], torch.zeros(400))


# -- the whole ---------------------------------------------------------------------------------------------------------


def test_effects_are_recovered_and_confounding_is_not_believed():
    x, t, y = world(800)
    found = network_nuisances(x, t, y, seed=0)
    draws = effects.posterior(found.nuisances)
    effect = draws[:, 1] - draws[:, 0]
    naive = float(y[t == 1].mean() - y[t == 0].mean())
    assert naive > 1.8
    assert abs(float(effect.mean()) - 1.0) < 3.5 * float(effect.std()) < 0.35
    assert found.score[0] > found.score[1] + 0.1
    assert 0.6 < found.slope < 1.6
    p = found.nuisances.propensity[1]
    assert float((p - torch.sigmoid(1.5 * x[:, 0])).abs().mean()) < 0.06
    assert torch.allclose(found.nuisances.propensity.sum(0), torch.ones(800, dtype=torch.float64))
    assert found.nuisances.outcome_draws.shape == (2, 2, 800)
    again = network_nuisances(x, t, y, seed=0)
    assert torch.equal(again.nuisances.outcome, found.nuisances.outcome)


def test_treatment_by_expected_outcome_is_found_to_be_that():
    g = torch.Generator().manual_seed(1)
    x = torch.randn(800, 12, generator=g)
    m = 1.5 * torch.sign(x[:, 0] - x[:, 1])
    t = (torch.rand(800, generator=g) < torch.sigmoid(m)).long()
    found = network_nuisances(x, t, m + t + torch.randn(800, generator=g), replicates=0, repetitions=1)
    by_outcome = sum(w for name, w in found.propensity.items() if "outcome" in name)
    assert by_outcome > 0.7
    assert float((found.nuisances.propensity[1] - torch.sigmoid(m)).square().mean()) < 0.01


def test_three_levels_and_counts():
    g = torch.Generator().manual_seed(2)
    x = torch.randn(600, 2, generator=g)
    t = torch.bucketize(x[:, 0] + torch.randn(600, generator=g), torch.tensor([-0.7, 0.7]))
    rate = torch.exp(0.3 * x[:, 0] + 0.5 * t)
    y = torch.poisson(rate, generator=g).double()
    found = network_nuisances(x, t, y, Poisson(), replicates=1, repetitions=1, folds=3)
    truth = torch.stack([torch.exp(0.3 * x[:, 0] + 0.5 * k).mean() for k in range(3)]).double()
    draws = effects.posterior(found.nuisances)
    assert float(((draws.mean(0) - truth) / draws.std(0)).abs().max()) < 4
    assert float(found.nuisances.outcome.min()) > 0


def test_probabilities_of_events_stay_probabilities():
    x, t, y = world(300)
    found = network_nuisances(x, t, (y > 1).double(), replicates=1, repetitions=1, folds=3)
    assert found.facts["likelihood"] == "Bernoulli"
    assert float(found.nuisances.outcome.min()) >= 0
    assert float(found.nuisances.outcome.max()) <= 1
    assert set(found.nuisances.y.tolist()) == {0.0, 1.0}


def test_pictures_are_adjusted_for_with_a_network_of_the_callers():
    g = torch.Generator().manual_seed(0)
    x = torch.randn(400, 1, 6, 6, generator=g)
    shade = 3 * x.mean((1, 2, 3))
    t = (torch.rand(400, generator=g) < torch.sigmoid(3 * shade)).long()
    y = 2 * shade + t + 0.3 * torch.randn(400, generator=g)
    net = lambda outputs: nn.Sequential(nn.Flatten(), nn.Linear(36, 8), nn.Tanh(), nn.Linear(8, outputs))
    found = network_nuisances(x, t, y, network=net, propensity=net, replicates=0, repetitions=1, folds=2)
    a = effects.average(effects.scores(found.nuisances))
    assert abs(float(a[1] - a[0]) - 1) < 0.3
    assert float(y[t == 1].mean() - y[t == 0].mean()) > 1.5
    assert hidden_layers(found, x).shape == (2, 400, 8)
    with pytest.raises(UsageError, match="no default network"):
        network_nuisances(x, t, y)


def test_drawn_outcomes_have_the_means_and_spread_that_they_should():
    from kokkiri.causal.outcomes import drawn

    rng, n = torch.Generator().manual_seed(0), 40_000
    mean = 0.5 + torch.rand(n, generator=rng, dtype=torch.float64) * 0.4
    counts = torch.poisson(mean * torch.distributions.Gamma(2.0, 2.0).sample((n,)).double())
    for likelihood, rest, variance in (
        (Gaussian(), torch.zeros(n), 4.0), (Bernoulli(), torch.zeros(n), float((mean * (1 - mean)).mean())),
        (NegativeBinomial(), counts - mean, float((mean + mean.square() / 2).mean())),
        (kk.likelihoods.StudentT(), torch.randn(n, generator=rng, dtype=torch.float64), 1.0),
    ):  # fmt: skip
        y = drawn(likelihood, mean, 2.0, rest, rng)
        assert abs(float((y - mean).mean())) < 5 * (variance / n) ** 0.5
        assert float((y - mean).square().mean()) == pytest.approx(variance, rel=0.1)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"t": torch.zeros(60)}, DataError, "seen in 0 rows"),
        ({"y": torch.full((60,), torch.nan)}, DataError, "missing"),
        ({"x": torch.zeros(59, 4)}, ShapeError, "belong together"),
        ({"y": torch.full((60,), -1.0), "likelihood": Poisson()}, DataError, "Poisson"),
    ],
)
def test_what_cannot_be_fitted_is_refused(change, error, words):
    x, t, y = world(60)
    with pytest.raises(error, match=words):
        network_nuisances(**{"x": x, "t": t, "y": y, **change})


# -- everything solved again -------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_heads_solved_again_spread_as_networks_trained_again():
    x, t, y = world(1000)
    found = network_nuisances(x, t, y, replicates=0, repetitions=1)
    a, b = head_draws(found, 400), network_draws(found, x, 60)
    assert abs(float(a.mean() - b.mean())) < 0.1 * abs(float(b.mean()))
    error = (1 / 120 + 1 / 800) ** 0.5
    assert float(a.std() / b.std()) == pytest.approx(1.0, abs=0.1 + 3 * error)


def test_draws_of_heads_and_of_networks_lie_about_the_same_effect():
    x, t, y = world(300)
    found = network_nuisances(x, t, y, replicates=0, repetitions=1, folds=2)
    heads, whole = head_draws(found, 100), network_draws(found, x, 4)
    assert heads.shape == (100,)
    assert whole.shape == (4,)
    assert abs(float(heads.mean() - whole.mean())) < 4 * float(heads.std())


# -- doses -------------------------------------------------------------------------------------------------------------


def test_dose_response_curves_lose_their_confounding():
    g = torch.Generator().manual_seed(0)
    x = torch.randn(600, 3, generator=g)
    t = x[:, 0] + torch.randn(600, generator=g)
    y = torch.sin(t) + 1.5 * x[:, 0] + 0.5 * torch.randn(600, generator=g)
    found = network_doses(x, t, y, grid=torch.linspace(-2, 2, 9), repetitions=1, folds=3)
    draws = dose.response(found.doses, 1000)
    truth = torch.sin(torch.linspace(-2, 2, 9)).double()
    away = (draws.mean(0) - truth) / draws.std(0)
    assert float(away.abs().max()) < 4
    assert float((draws.mean(0) - truth).abs().max()) < 0.35
    near = (t - 2).abs() < 0.3
    assert abs(float(y[near].mean()) - float(truth[-1])) > 1.0
    ideal = torch.exp(-0.5 * (t - x[:, 0]).square()) / (2 * torch.pi) ** 0.5
    assert stats.spearmanr(found.doses.density, ideal).statistic > 0.8
    with pytest.raises(DataError, match="few values"):
        network_doses(x, (t > 0).float(), y)
