"""Recipes that draw from the posterior: on linear-Gaussian models their moments are those of the closed form."""

from __future__ import annotations

import math

import pytest
import torch
from tests_support import data_of
from torch import nn

import kokkiri as kk
from kokkiri.errors import Unsupported, UsageError
from kokkiri.numerics import diagnostics, langevin
from kokkiri.numerics.random import generator
from kokkiri.training.flat import flatten, layout

NOISE = 0.5


def linear_problem(rows, correlated):
    """Data, and the mean and covariance of N(0, 1) weights and bias after seeing them with a noise of 0.5."""
    g = generator(0, "test samplers")
    x = torch.randn(rows, 4, generator=g, dtype=torch.float64) * torch.tensor([1.0, 1, 1, 5])
    if correlated:
        x[:, 1] = 0.9 * x[:, 0] + math.sqrt(1 - 0.81) * x[:, 1]
    noise = NOISE * torch.randn(rows, generator=g, dtype=torch.float64)
    y = x @ torch.tensor([1.0, -1, 0.5, 0.1], dtype=torch.float64) + noise
    whole = torch.cat([x, torch.ones(rows, 1, dtype=torch.float64)], 1)
    covariance = torch.linalg.inv(whole.T @ whole / NOISE**2 + torch.eye(5, dtype=torch.float64))
    return data_of(x.float(), y), covariance @ (whole.T @ y) / NOISE**2, covariance


def fitted(data, recipe, **more):
    network = kk.networks.MLP(data.inputs, [], 1)
    likelihood = kk.Gaussian(NOISE, learn=False)
    return kk.fit(data, network, likelihood, prior=kk.Normal(1.0), posterior=recipe, progress=False, **more)


def chains_of(post, recipe):
    """(chains, draws, P)."""
    theta = flatten(post.herd.params, layout(post.herd.params)).double()
    return theta.reshape(recipe.chains, -1, theta.shape[1])


def z_scores(values, wanted):
    error = values.flatten(0, 1).std(0) / diagnostics.effective_sample_size(values).sqrt()
    return (values.flatten(0, 1).mean(0) - wanted) / error


@pytest.mark.parametrize("correlated", [False, True])
def test_hamiltonian_draws_have_the_moments_of_the_closed_form(correlated):
    data, mean, covariance = linear_problem(60, correlated)
    recipe = kk.Hamiltonian(chains=16, draws=150, warm_up=100)
    post = fitted(data, recipe)
    draws = chains_of(post, recipe)
    assert len(post.herd) == 2400
    assert post.herd.axes == {"draw": 2400}
    off = draws - mean
    i, j = torch.triu_indices(5, 5)
    z = torch.cat([z_scores(off, 0.0), z_scores(off[..., i] * off[..., j], covariance[i, j])])
    assert float(z.abs().max()) < 4.1  # twenty of them: p = 1e-3
    assert float(diagnostics.r_hat(draws).max()) < 1.02
    assert "Hamiltonian" in post.record.posterior
    assert post.record.notes == ()


def test_many_short_hamiltonian_chains_have_them_too():
    data, mean, covariance = linear_problem(60, correlated=True)
    recipe = kk.Hamiltonian(chains=256, draws=1, warm_up=25)
    last = chains_of(fitted(data, recipe), recipe)[:, -1]  # one draw of each chain: independent
    z = (last.mean(0) - mean) / (covariance.diagonal() / 256).sqrt()
    assert float(z.abs().max()) < 3.9  # five of them: p = 5e-4
    ratio = last.var(0) / covariance.diagonal()
    assert float(((ratio - 1) / math.sqrt(2 / 255)).abs().max()) < 3.9


@pytest.mark.parametrize("correlated", [False, True])
def test_langevin_draws_with_all_rows_have_the_moments_of_the_closed_form(correlated):
    data, mean, covariance = linear_problem(200, correlated)
    recipe = kk.Langevin(draws=1600, chains=8, cycles=4, steps=4000)
    post = fitted(data, recipe, steps=300)
    draws = chains_of(post, recipe)
    off = draws - mean
    z = torch.cat([z_scores(off, 0.0), z_scores(off.square(), covariance.diagonal())])
    assert float(z.abs().max()) < 4.0  # ten of them: p = 6e-4
    assert float(diagnostics.effective_sample_size(draws).min()) > 100  # it moves


def test_langevin_draws_from_batches_have_them_within_the_share_that_batches_may_add():
    data, mean, covariance = linear_problem(400, correlated=False)
    recipe = kk.Langevin(draws=1600, chains=8, cycles=4, steps=6000, batch=40)
    post = fitted(data, recipe, steps=400)
    draws = chains_of(post, recipe)
    size = diagnostics.effective_sample_size(draws)
    assert float(size.min()) > 50
    assert float(((draws.flatten(0, 1).mean(0) - mean) / (covariance.diagonal() / size).sqrt()).abs().max()) < 4
    ratio = draws.flatten(0, 1).var(0) / covariance.diagonal()
    spread = (2 / diagnostics.effective_sample_size((draws - mean).square())).sqrt()
    assert bool(((ratio - 1).abs() < 0.1 + 3.5 * spread).all())  # 0.1: what is not known of the batches' noise


def test_a_walk_on_a_gaussian_has_its_variance_at_every_stable_step():
    # half a step, kick, half a step leaves a normal's θ (before the last drift) exact to second order: ε² / 4 at most
    precision = torch.tensor([1.0, 100.0], dtype=torch.float64)
    scale = precision.rsqrt()
    for step in (0.1, 0.4):
        by = langevin.pace(step, 1.0, scale, torch.zeros(2, dtype=torch.float64))
        walk = langevin.Walk(torch.zeros(200, 2, dtype=torch.float64), torch.zeros(200, 2, dtype=torch.float64))
        squares = []
        for k in range(800):
            normal = torch.randn(200, 2, generator=generator(0, "test walk", k), dtype=torch.float64)
            walk = langevin.advance(walk, lambda theta: -precision * theta, by, normal)
            if k >= 200 and k % 10 == 0:
                squares.append(walk.theta.square() * precision)
        found = torch.stack(squares, 1)
        error = found.mean(1).std(0) / math.sqrt(200)  # of independent chains
        assert bool(((found.mean((0, 1)) - 1).abs() < 4 * error + step**2 / 4).all())


def test_noise_of_batches_is_taken_off_the_noise_that_is_added():
    # gradients -θ + e, e ~ N(0, V): with it counted the variance of θ stays one
    variance = torch.tensor([4.0], dtype=torch.float64)
    by = langevin.pace(0.2, 1.0, torch.ones(1, dtype=torch.float64), variance)
    walk, squares = langevin.Walk(*(torch.zeros(500, 1, dtype=torch.float64) for _ in range(2))), []
    for k in range(1500):
        normal, rough = torch.randn(2, 500, 1, generator=generator(1, "test noise", k), dtype=torch.float64)
        walk = langevin.advance(walk, lambda theta, rough=rough: -theta + 2 * rough, by, normal)
        if k >= 300 and k % 10 == 0:
            squares.append(walk.theta.square())
    found = torch.stack(squares, 1)
    assert abs(float(found.mean()) - 1) < 4 * float(found.mean(1).std()) / math.sqrt(500) + 0.01
    own = 0.25 * 0.04 * 4.0
    assert own * float(1 + by.keep) ** 2 > 0.09 * float(1 - by.keep**2)  # it was no small part


def test_the_same_seed_gives_the_same_draws():
    data, *_ = linear_problem(30, correlated=False)
    for recipe in (
        kk.Hamiltonian(chains=4, draws=2, warm_up=4),
        kk.Langevin(draws=8, chains=2, cycles=2, steps=40, batch=10),
    ):
        one, two, three = (fitted(data, recipe, seed=s, steps=20).herd.params["output.weight"] for s in (0, 0, 1))
        assert torch.equal(one, two)
        assert not torch.equal(one, three)


def test_a_learnt_noise_is_drawn_with_the_weights_and_predictions_are_mixtures_over_draws():
    data, *_ = linear_problem(60, correlated=False)
    network = kk.networks.MLP(data.inputs, [4], 1, activation="tanh")
    post = kk.fit(data, network, kk.Gaussian(), posterior=kk.Hamiltonian(chains=8, draws=4, warm_up=8), progress=False)
    assert post.herd.params["likelihood.log_scale"].shape == (32,)
    assert float(post.herd.params["likelihood.log_scale"].std()) > 0.01
    predicted = kk.predict(post, data)
    assert predicted.mean.shape == (60,)
    assert float(predicted.epistemic.min()) > 0


def test_what_is_too_large_or_has_no_density_is_refused_with_the_mend():
    data, *_ = linear_problem(30, correlated=False)
    large = kk.networks.MLP(data.inputs, [200, 200], 1)
    with pytest.raises(Unsupported, match="at most 20,000 parameters") as caught:
        kk.fit(data, large, kk.Gaussian(), posterior=kk.Hamiltonian(), progress=False)
    assert "Langevin" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 4
    many, *_ = linear_problem(200_000, correlated=False)
    wide = kk.networks.MLP(data.inputs, [100], 1)
    with pytest.raises(Unsupported, match="200,000 rows takes too long"):
        kk.fit(many, wide, kk.Gaussian(), posterior=kk.Hamiltonian(), progress=False)
    coupled = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 1))
    for recipe in (kk.Hamiltonian(chains=2), kk.Langevin()):
        with pytest.raises(Unsupported, match="rows feel one another"):
            kk.fit(data, coupled, kk.Gaussian(), posterior=recipe, progress=False)


@pytest.mark.parametrize(
    "make",
    [
        lambda: kk.Hamiltonian(chains=0),
        lambda: kk.Hamiltonian(acceptance=1.0),
        lambda: kk.Langevin(step=1.5),
        lambda: kk.Langevin(draws=0),
        lambda: kk.Langevin(draws=1000, chains=1, cycles=1, steps=100),
    ],
)
def test_bad_settings_are_refused(make):
    with pytest.raises(UsageError):
        make()
