"""Our Hamiltonian Monte Carlo against NumPyro's NUTS on the posterior of a small network, the density written twice."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

import kokkiri as kk
from kokkiri.numerics import diagnostics, hamiltonian
from kokkiri.numerics.random import generator
from kokkiri.posteriors.density import log_density
from kokkiri.training.flat import layout
from kokkiri.types import LIKELIHOOD_PREFIX

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what they announce at import is not ours
    jax = pytest.importorskip("jax")
    infer = pytest.importorskip("numpyro.infer")

HIDDEN, ROWS = 3, 20


@pytest.fixture(scope="module")
def data():
    g = generator(0, "test nuts")
    x = 4 * torch.rand(ROWS, 1, generator=g, dtype=torch.float64) - 2
    return x, torch.sin(1.5 * x[:, 0]) + 0.3 * torch.randn(ROWS, generator=g, dtype=torch.float64)


@pytest.fixture(scope="module")
def network():
    return kk.networks.MLP(1, [HIDDEN], 1, activation="tanh").double()


@pytest.fixture(scope="module")
def where(network):
    params = {n: p.detach()[None] for n, p in network.named_parameters()}
    return layout(params | {LIKELIHOOD_PREFIX + "log_scale": torch.zeros(1, dtype=torch.float64)})


@pytest.fixture(scope="module")
def energy(data):
    """-log joint in JAX, float64."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        jax.config.update("jax_enable_x64", True)
    numpy = jax.numpy
    x, y = (numpy.array(t.numpy()) for t in data)

    def of(theta):
        weight, bias, out = (theta[i * HIDDEN : (i + 1) * HIDDEN] for i in range(3))
        f = numpy.tanh(x * weight + bias) @ out + theta[-2]
        z = (y - f) / numpy.exp(theta[-1])
        log_likelihood = numpy.sum(-0.5 * z**2 - theta[-1] - 0.5 * numpy.log(2 * numpy.pi))
        size = len(theta)
        squares = numpy.sum(theta[:-1] ** 2) + theta[-1] ** 2 / 9
        return 0.5 * squares + 0.5 * size * numpy.log(2 * numpy.pi) + numpy.log(3.0) - log_likelihood

    return of


def test_the_two_ways_to_write_the_density_agree(data, network, where, energy):
    theta = torch.randn(4, where.size, generator=generator(1, "test nuts"), dtype=torch.float64)
    value, gradient = log_density(network, where, kk.Gaussian(), kk.Normal(1.0), *data)(theta)
    for r in range(4):
        theirs, slope = jax.value_and_grad(energy)(jax.numpy.array(theta[r].numpy()))
        np.testing.assert_allclose(value[r], -theirs, rtol=1e-10)
        np.testing.assert_allclose(gradient[r], -slope, rtol=1e-9, atol=1e-9)


def test_means_and_variances_of_the_function_are_those_of_nuts(data, network, where, energy):
    begin = np.random.default_rng(0).uniform(-1, 1, (2, where.size))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        nuts = infer.MCMC(
            infer.NUTS(potential_fn=energy), num_warmup=300, num_samples=600, num_chains=2,
            chain_method="sequential", progress_bar=False,
        )  # fmt: skip
        nuts.run(jax.random.PRNGKey(0), init_params=jax.numpy.array(begin))
    theirs = torch.from_numpy(np.array(nuts.get_samples(group_by_chain=True)))

    density = log_density(network, where, kk.Gaussian(), kk.Normal(1.0), *data)
    start = torch.from_numpy(np.random.default_rng(1).uniform(-1, 1, (32, where.size)))
    chains = hamiltonian.sample(density, start, draws=150, warm_up=150, seed=0)

    grid = torch.linspace(-3, 3, 7, dtype=torch.float64)

    def outputs(draws):  # (chains, draws, P) -> (chains, draws, 2 x 7): f and its square, and log σ
        weight, bias, out = (draws[..., None, i * HIDDEN : (i + 1) * HIDDEN] for i in range(3))
        f = (torch.tanh(grid[:, None] * weight + bias) * out).sum(-1) + draws[..., -2:-1]
        return torch.cat([f, f.square(), draws[..., -1:]], -1)

    found = []
    for draws in (outputs(chains.draws), outputs(theirs)):
        assert float(diagnostics.r_hat(draws).max()) < 1.03
        size = diagnostics.effective_sample_size(draws)
        flat = draws.flatten(0, 1)
        found.append((flat.mean(0), flat.var(0) / size))
    (mean, error), (other, other_error) = found
    z = (mean - other) / (error + other_error).sqrt()
    assert float(z.abs().max()) < 4.0  # of fifteen: p = 1e-3
    spread = outputs(theirs)[..., :7].flatten(0, 1).std(0)
    assert float(((mean - other)[:7] / spread).square().mean().sqrt()) < 0.15
