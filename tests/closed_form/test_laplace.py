"""Where Laplace's method is exact, it is: linear models with normal noise, against the marginal normal density."""

import math
from dataclasses import replace

import pytest
import torch
from scipy.optimize import minimize
from tests_support import data_of, some_numbers
from torch import nn

import kokkiri as kk
from kokkiri.curvature import Full, Kronecker, TopEigen, ggn
from kokkiri.errors import UsageError
from kokkiri.numerics.operators import Blocks, Dense
from kokkiri.posteriors.evidence import (
    EvidenceTuner,
    group_indices,
    joint,
    laplace_evidence,
    precisions,
    prior_precision,
)
from kokkiri.posteriors.laplace import Laplace
from kokkiri.posteriors.linearised import averaged, output_moments
from kokkiri.posteriors.recipe import Run, Trained
from kokkiri.priors import Flat, GroupedNormal, Normal
from kokkiri.priors.grouped import PREFIX
from kokkiri.records import Status
from kokkiri.training.loop import with_likelihood

NOISE = 0.5
GROUPED = GroupedNormal((("weight", 0.7), ("bias", 2.5)))


def rows(n=14, targets=1, seed=0):
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 3, generator=g, dtype=torch.float64)
    y = x @ torch.randn(3, targets, generator=g, dtype=torch.float64) + 0.5
    y = y + NOISE * torch.randn(n, targets, generator=g, dtype=torch.float64)
    return data_of(x, y[:, 0] if targets == 1 else y)


def linear(targets=1, seed=0):
    torch.manual_seed(seed)
    return kk.herd(nn.Linear(3, targets).double())


def design(x, targets):
    """(N T, P): outputs, row by row, are this times the parameters; the weight, then the bias."""
    eye = torch.eye(targets, dtype=torch.float64)
    weight = torch.einsum("ni,st->nsti", x, eye).reshape(len(x) * targets, -1)
    return torch.cat([weight, eye.repeat(len(x), 1)], 1)


def truth(data, precision, noise=NOISE):
    """(log p(y), posterior mean, posterior covariance, design) by the normal distribution itself."""
    targets = 1 if data.y.ndim == 1 else data.y.shape[1]
    a = design(data.x, targets)
    y = data.y.reshape(-1)
    cover = noise**2 * torch.eye(len(y), dtype=torch.float64) + a @ (a / precision).mT
    evidence = torch.distributions.MultivariateNormal(torch.zeros_like(y), cover).log_prob(y)
    covariance = torch.linalg.inv(a.mT @ a / noise**2 + precision.diag())
    return float(evidence), covariance @ a.mT @ y / noise**2, covariance, a


def fitted(data, recipe, prior=GROUPED, herd=None, likelihood=None):
    """A recipe's answer, from networks that are nowhere near a mode where the matrix is full."""
    targets = 1 if data.y.ndim == 1 else data.y.shape[1]
    herd = linear(targets) if herd is None else herd
    likelihood = kk.Gaussian(NOISE, learn=False) if likelihood is None else likelihood
    run = recipe.prepare(Run(herd, data, likelihood, kk.Adam(), prior, kk.Plan(steps=10, batch=None)))
    return recipe.finish(Trained(run.herd, run, None))


def at(herd, theta):
    """The herd with these parameters, (P,), in every replica."""
    r = len(herd)
    shape = {n: t.shape[1:] for n, t in herd.params.items()}
    parts = theta.split([s.numel() for s in shape.values()])
    params = {n: p.reshape(1, *s).expand(r, *s).clone() for (n, s), p in zip(shape.items(), parts, strict=True)}
    return replace(herd, params=params)


def along(herd, prior=GROUPED):
    return prior_precision(herd, prior, 0)


def dense(precision):
    """(P, P) covariance."""
    return precision.solve(torch.eye(precision.size, dtype=torch.float64))


@pytest.mark.parametrize("targets", [1, 2])
@pytest.mark.parametrize("prior", [Normal(1.7), GROUPED], ids=repr)
def test_evidence_posterior_and_predictions_of_a_linear_model_are_exact(targets, prior):
    data = rows(targets=targets)
    found = fitted(data, Laplace("full", tune="never"), prior)
    evidence, mean, covariance, _ = truth(data, along(linear(targets), prior))
    assert found.evidence.nats == pytest.approx(evidence, rel=1e-10)
    assert found.exact.startswith("exact")
    theta = torch.cat([found.herd.params[n][0].reshape(-1) for n in ("weight", "bias")])
    assert torch.allclose(theta, mean, rtol=0, atol=1e-10)
    assert torch.allclose(dense(found.precision[0]), covariance, rtol=0, atol=1e-10)

    new = rows(6, targets, seed=1).x
    a = design(new, targets)
    outputs, cover = output_moments(found.herd, found.precision, new)
    assert torch.allclose(outputs[0].reshape(-1), a @ mean, atol=1e-10)
    whole = (a @ covariance @ a.mT).reshape(6, targets, 6, targets)
    assert torch.allclose(cover[0], torch.stack([whole[b, :, b] for b in range(6)]), atol=1e-10)
    predicted = averaged(kk.Gaussian(NOISE, learn=False), outputs, cover, found.log_weight)
    flat = lambda t: t.reshape(6, targets)
    assert torch.allclose(flat(predicted.mean), flat(a @ mean), atol=1e-10)
    variance = torch.stack([whole[b, :, b].diagonal() for b in range(6)])
    assert torch.allclose(flat(predicted.epistemic), variance, atol=1e-10)
    assert torch.allclose(flat(predicted.variance), variance + NOISE**2, atol=1e-10)


@pytest.mark.parametrize("structure", [Kronecker(), Kronecker(corrected=True), TopEigen(10), Full()], ids=repr)
def test_every_structure_that_can_hold_it_gives_the_exact_evidence(structure):
    """Of one precision: I/σ² ⊗ Σ x xᵀ is a Kronecker product."""
    data, prior = rows(targets=2), Normal(1.7)
    evidence, mean, covariance, _ = truth(data, along(linear(2), prior))
    found = fitted(data, Laplace(structure, tune="never"), prior, at(linear(2), mean))
    assert found.evidence.nats == pytest.approx(evidence, rel=1e-9)
    assert torch.allclose(dense(found.precision[0]), covariance, atol=1e-9)


def test_a_diagonal_understates_the_evidence_and_says_that_it_is_approximate():
    """|H| <= the product of its diagonal (Hadamard)."""
    data = rows()
    evidence, mean, _, _ = truth(data, along(linear()))
    found = fitted(data, Laplace("diagonal", tune="never"), GROUPED, at(linear(), mean))
    assert found.evidence.nats < evidence - 1e-3
    assert found.exact.startswith("approximate")
    assert not found.evidence.exact


def test_the_last_layer_is_a_linear_model_of_its_features():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)).double()
    data = rows()
    features = torch.tanh(network[0](data.x)).detach()
    prior = Normal(1.7)
    own = data_of(features, data.y)
    evidence, mean, covariance, _ = truth(own, torch.full((5,), 1.7, dtype=torch.float64))
    found = fitted(data, Laplace("full", layers="last", tune="never"), prior, kk.herd(network))
    theta = torch.cat([found.herd.params[n][0].reshape(-1) for n in ("2.weight", "2.bias")])
    assert torch.allclose(theta, mean, atol=1e-10)
    assert torch.equal(found.herd.params["0.weight"][0], network[0].weight)
    free = found.precision[0].free.sort().values
    assert torch.allclose(dense(found.precision[0])[free[:, None], free], covariance, atol=1e-10)
    assert found.evidence.nats == pytest.approx(evidence, rel=1e-10)  # of the last layer, given the features


def herd_of(lambdas, noise, data, scale=False):
    """The mode, in closed form, under these precisions and this noise."""
    precision = torch.tensor([lambdas[0]] * 3 + [lambdas[1]], dtype=torch.float64)
    mean = truth(data, precision, noise)[1]
    herd = at(linear(), mean)
    hyper = {
        PREFIX + g: torch.tensor([v], dtype=torch.float64) for g, v in zip(("weight", "bias"), lambdas, strict=True)
    }
    herd = replace(herd, hyper=hyper)
    if scale:
        herd = with_likelihood(herd, kk.Gaussian())
        herd.params["likelihood.log_scale"][:] = math.log(noise)
    return herd, precision


def tuner_of(data, likelihood):
    return EvidenceTuner(data, likelihood, GROUPED, Full(), None, None, None, 1, 1, 0)


def test_the_fixed_point_of_the_precisions_is_the_highest_exact_evidence():
    data, likelihood = rows(40), kk.Gaussian(NOISE, learn=False)
    own = (1.0, 1.0)
    for _ in range(300):
        new = tuner_of(data, likelihood)(herd_of(own, NOISE, data)[0])
        before, own = own, (float(new[PREFIX + "weight"]), float(new[PREFIX + "bias"]))
        if max(abs(a / b - 1) for a, b in zip(own, before, strict=True)) < 1e-12:
            break
    expand = lambda t: torch.tensor([math.exp(t[0])] * 3 + [math.exp(t[1])], dtype=torch.float64)
    best = minimize(
        lambda t: -truth(data, expand(t))[0],
        (0.0, 0.0),
        tol=1e-14,
        method="Nelder-Mead",
        options={"maxiter": 4000, "xatol": 1e-9, "fatol": 1e-14},
    )
    assert [math.log(p) for p in own] == pytest.approx(best.x, abs=1e-5)
    herd, precision = herd_of(own, NOISE, data)
    curvature = ggn(herd, data, likelihood, Full()).matrix
    freedom = float((curvature.dense() @ torch.linalg.inv(curvature.dense() + precision.diag())).trace())
    assert float(new["freedom"]) == pytest.approx(freedom, rel=1e-6)


def test_with_the_freedom_in_its_gradient_the_noise_goes_to_the_highest_evidence_too():
    """Of precisions and noise together: RSS / σ² = N - γ, but for the weak prior of log σ."""
    data, likelihood = rows(40), kk.Gaussian()
    own, noise = (1.0, 1.0), 1.0
    for _ in range(400):
        herd, _ = herd_of(own, noise, data, scale=True)
        new = tuner_of(data, likelihood)(herd)
        own = (float(new[PREFIX + "weight"]), float(new[PREFIX + "bias"]))
        hyper = {n: t[0] for n, t in new.items()}
        residual = float((data.y - herd(data.x)[0, :, 0]).square().sum())

        def slope(log_scale, hyper=hyper, residual=residual):
            pull = GROUPED.gradient({"likelihood.log_scale": torch.tensor(log_scale, dtype=torch.float64)}, hyper)
            return residual * math.exp(-2 * log_scale) - 40 + float(pull["likelihood.log_scale"])

        low, high = -10.0, 10.0
        for _ in range(80):
            middle = (low + high) / 2
            low, high = (middle, high) if slope(middle) > 0 else (low, middle)
        before, noise = noise, math.exp(low)
        if abs(noise / before - 1) < 1e-12:
            break
    expand = lambda t: torch.tensor([math.exp(t[0])] * 3 + [math.exp(t[1])], dtype=torch.float64)
    cost = lambda t: -truth(data, expand(t), math.exp(t[2]))[0] + t[2] ** 2 / 18
    options = {"maxiter": 8000, "maxfev": 8000, "xatol": 1e-9, "fatol": 1e-14}
    best = minimize(cost, (0.0, 0.0, 0.0), method="Nelder-Mead", options=options)
    assert [math.log(own[0]), math.log(own[1]), math.log(noise)] == pytest.approx(best.x, abs=1e-5)


def test_precisions_move_by_no_more_than_they_may_and_stay_within_bounds():
    matrix = Blocks(3, ((torch.arange(3), Dense(1e3 * torch.eye(3, dtype=torch.float64))),))
    indices = {"a": torch.tensor([0, 1]), "b": torch.tensor([2])}
    theta = torch.tensor([1e-9, 1e-9, 1e9], dtype=torch.float64)
    own, freedom = precisions(matrix, theta, {"a": 1.0, "b": 1.0}, indices, steps=1)
    assert own == {"a": 10.0, "b": 0.1}
    assert freedom == pytest.approx(3 * (1 - 1 / 1001))
    own, _ = precisions(matrix, theta, {"a": 1.0, "b": 1.0}, indices, steps=100)
    assert own["b"] == pytest.approx(1e-6)
    assert own["a"] <= 1e8
    still, _ = precisions(matrix, torch.zeros(3, dtype=torch.float64), {"a": 1.0, "b": 1.0}, indices, steps=100)
    assert still == {"a": 1e8, "b": 1e8}


def test_a_curvature_that_is_not_finite_leaves_the_precisions_alone():
    data = rows()
    herd, _ = herd_of((2.0, 3.0), NOISE, data)
    herd.params["weight"][:] = math.nan
    new = tuner_of(data, kk.Gaussian(NOISE, learn=False))(herd)
    assert {n: float(t) for n, t in new.items()} == {PREFIX + "weight": 2.0, PREFIX + "bias": 3.0, "freedom": 0.0}


def test_a_mode_that_is_not_finite_leaves_points_and_says_so():
    herd = kk.herd(kk.networks.MLP(3, [2], 1))
    lost = replace(herd, params={n: torch.full_like(t, math.nan) for n, t in herd.params.items()})
    data = rows()
    found = fitted(data_of(data.x.float(), data.y.float()), Laplace("kronecker", tune="never"), Normal(), lost)
    assert found.status is Status.INDEFINITE
    assert found.precision == ()
    assert found.evidence is None
    nowhere = at(linear(), torch.full((4,), math.nan, dtype=torch.float64))  # its curvature does not depend on it
    assert fitted(data, Laplace("kronecker", tune="never"), Normal(), nowhere).status is Status.INFINITE_EVIDENCE


def test_tuning_after_training_gives_the_fixed_point_for_that_mode():
    data = rows(40)
    found = fitted(data, Laplace("full", tune="after", groups="tensor"), Normal(1.0))
    own = tuple(float(found.herd.hyper[PREFIX + g]) for g in ("weight", "bias"))
    theta = torch.cat([found.herd.params[n][0].reshape(-1) for n in ("weight", "bias")])
    curvature = ggn(found.herd, data, kk.Gaussian(NOISE, learn=False), Full()).matrix.dense()
    spread = torch.linalg.inv(curvature + torch.tensor([own[0]] * 3 + [own[1]], dtype=torch.float64).diag())
    for p, i in zip(own, (slice(0, 3), slice(3, 4)), strict=True):
        gained = float((1 - p * spread.diagonal()[i]).sum())
        assert p * float(theta[i].square().sum()) == pytest.approx(gained, rel=1e-6)
    assert any("chosen after training" in note for note in found.notes)


def test_modes_weigh_what_their_evidence_says():
    data = rows()
    torch.manual_seed(0)
    herd = kk.herd(nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)).double(), seed=range(3))
    found = fitted(data, Laplace("full", size=3, tune="never", weights="evidence"), Normal(1.0), herd)
    each = torch.tensor(found.evidence.each, dtype=torch.float64)
    assert torch.allclose(found.log_weight, torch.log_softmax(each, 0))
    assert found.evidence.nats == pytest.approx(float(torch.logsumexp(each, 0)) - math.log(3))
    for r in range(3):
        curvature = ggn(found.herd, data, kk.Gaussian(NOISE, learn=False), Full(), replica=r).matrix.plus(1.0)
        own = joint(found.herd, data, kk.Gaussian(NOISE, learn=False), Normal(1.0), r)
        assert float(each[r]) == pytest.approx(laplace_evidence(own, curvature), rel=1e-9)
    even = fitted(data, Laplace("full", size=3, tune="never"), Normal(1.0), herd)
    assert torch.allclose(even.log_weight, torch.full((3,), -math.log(3), dtype=torch.float64))


def test_each_mode_starts_from_a_precision_of_its_own_in_turn():
    run = lambda recipe, prior: recipe.prepare(
        Run(kk.herd(nn.Linear(3, 1), seed=range(3)), rows(), kk.Gaussian(), kk.Adam(), prior, kk.Plan(steps=100))
    )
    found = run(Laplace(size=3, starts=(0.1, 10.0), groups="tensor", structure="full"), Normal(1.0))
    assert (
        found.herd.hyper[PREFIX + "weight"].tolist() == found.herd.hyper[PREFIX + "bias"].tolist() == [0.1, 10.0, 0.1]
    )
    own = run(Laplace(size=3), GROUPED)
    assert own.prior == GROUPED
    assert own.herd.hyper[PREFIX + "weight"].tolist() == [0.7] * 3
    assert own.herd.hyper[PREFIX + "bias"].tolist() == [2.5] * 3
    assert own.tuner.start == 10
    assert own.tuner.every == 8
    usual = run(Laplace(size=3), Normal(2.0))
    assert usual.herd.hyper[PREFIX + "weight"].tolist() == [40.0, 10.0, 2.0]
    never = run(Laplace(size=3, tune="never"), Normal(2.0))
    assert never.tuner is None
    assert never.prior == Normal(2.0)
    after = run(Laplace(size=3, tune="after"), Normal(2.0))
    assert after.tuner is None
    assert after.herd.hyper[PREFIX + "weight"].tolist() == [2.0] * 3
    assert isinstance(after.prior, GroupedNormal)


def test_priors_that_evidence_cannot_choose_are_refused():
    class Other:
        elementwise = True

        def hyperparameters(self):
            return {}

    of = lambda prior, **more: Laplace(**more).prepare(
        Run(linear(), rows(), kk.Gaussian(), kk.Adam(), prior, kk.Plan(steps=10))
    )
    with pytest.raises(UsageError, match="no evidence"):
        of(Flat())
    with pytest.raises(UsageError, match="cannot choose"):
        of(Other())
    assert isinstance(of(Other(), tune="never").prior, Other)


@pytest.mark.parametrize(
    "wrong",
    [
        {"tune": "later"},
        {"groups": "many"},
        {"weights": "odd"},
        {"size": 0},
        {"columns": 0},
        {"sample": 0},
        {"structure": "ful"},
    ],
)
def test_what_means_nothing_is_refused(wrong):
    with pytest.raises(UsageError):
        Laplace(**wrong)


def test_a_prior_that_tells_only_its_density_has_its_curvature_found():
    class Odd:
        elementwise = True

        def hyperparameters(self):
            return {}

        def log_prob(self, params, hyper):
            return -sum((t**4).sum() for t in params.values())

    herd = linear()
    theta = torch.cat([t.reshape(-1) for t in herd.params.values()])
    assert torch.allclose(prior_precision(herd, Odd(), 0), 12 * theta**2)
    assert torch.allclose(prior_precision(herd, Normal(1.3), 0), torch.full((4,), 1.3, dtype=torch.float64))
    learned = with_likelihood(herd, kk.Gaussian())
    assert prior_precision(learned, GROUPED, 0).tolist() == pytest.approx([0.7] * 3 + [2.5, 1 / 9])


def test_groups_hold_the_parameters_that_are_free():
    torch.manual_seed(0)
    herd = kk.herd(kk.networks.MLP(3, [2], 1))
    prior = GroupedNormal((("hidden.0", 1.0), ("output", 1.0)))
    found = group_indices(herd, prior, torch.tensor([0, 1, 6, 8]))
    assert found["hidden.0"].tolist() == [0, 1, 6]
    assert found["output"].tolist() == [8]


def test_a_large_layer_under_two_precisions_is_refused_in_words():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(64, 128, 3, groups=2, bias=True), nn.Flatten(), nn.Linear(128, 1))
    data = data_of(torch.randn(4, 64, 3, 3), torch.randn(4))
    prior = GroupedNormal((("0.weight", 1.0), ("0.bias", 2.0), ("2", 1.0)))
    with pytest.raises(UsageError, match="differs within a layer"):
        fitted(data, Laplace("ekfac", tune="never"), prior, kk.herd(network))


def test_float32_networks_have_nearly_the_same_evidence():
    data = rows(40)
    evidence, mean, _, _ = truth(data, along(linear()))
    single = data_of(data.x.float(), data.y.float())
    herd = at(linear(), mean)
    herd = replace(herd, network=herd.network.float(), params={n: t.float() for n, t in herd.params.items()})
    found = fitted(single, Laplace("full", tune="never"), GROUPED, herd)
    assert found.evidence.nats == pytest.approx(evidence, abs=1e-3)


def test_a_network_that_is_trained_with_its_evidence_finds_the_noise():
    """End to end, in float32 and by descent: 200 rows of noise 0.3."""
    data = some_numbers(200)
    recipe = Laplace("full", groups="layer")
    herd = kk.herd(lambda: kk.networks.MLP(3, [8], 1, activation="tanh"), seed=[0])
    plan = kk.Plan(steps=1500, batch=None, schedule=kk.Cosine())
    run = recipe.prepare(Run(herd, data, kk.Gaussian(), kk.Adam(3e-2), Normal(1.0), plan))
    *_, last = kk.train(run.herd, data, run.likelihood, run.optimizer, run.prior, plan, tuner=run.tuner)
    found = recipe.finish(Trained(last.herd, run, last))
    noise = float(found.herd.params["likelihood.log_scale"].exp())
    assert noise == pytest.approx(0.3, rel=0.15)
    assert 3 < float(found.herd.hyper["freedom"]) < 41
    assert found.status is None
