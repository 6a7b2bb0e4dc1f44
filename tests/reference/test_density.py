"""The log joint of many parameter vectors at once against automatic differentiation of one."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.func import functional_call

import kokkiri as kk
from kokkiri.likelihoods import Laplace, Rescaled
from kokkiri.numerics.random import generator
from kokkiri.posteriors.density import joint_slopes, log_density
from kokkiri.training.flat import layout
from kokkiri.training.objective import log_joint
from kokkiri.types import LIKELIHOOD_PREFIX


class Gate(nn.Module):
    """What no program can say: a product of its input."""

    def __init__(self):
        super().__init__()
        self.inside, self.out = nn.Linear(3, 4), nn.Linear(4, 1)
        self.register_buffer("shift", torch.full((4,), 0.3))

    def forward(self, x):
        h = self.inside(x)
        return self.out(h * torch.sigmoid(h + self.shift))


CASES = {
    "MLP, Gaussian": (lambda: kk.networks.MLP(3, [4], 1, activation="tanh"), kk.Gaussian(), kk.Normal(2.0)),
    "MLP, Rescaled t": (lambda: kk.networks.MLP(3, [4, 4], 1), Rescaled(kk.StudentT(), 3.0, 2.0), kk.Normal(0.5)),
    "MLP, Rescaled without a score": (lambda: kk.networks.MLP(3, [4], 1), Rescaled(Laplace(), 3.0, 2.0), kk.Normal()),
    "MLP, flat": (lambda: kk.networks.MLP(3, [4], 1, norm=True), kk.Gaussian(0.5, learn=False), kk.Flat()),
    "MLP, grouped": (
        lambda: kk.networks.MLP(3, [4], 1),
        kk.Gaussian(),
        kk.priors.GroupedNormal((("hidden.0", 1.0), ("output", 3.0))),
    ),
    "gate, Gaussian": (Gate, kk.Gaussian(), kk.Normal(2.0)),
}


def twin(network, where, likelihood, prior, theta, x, y, weight):
    """One model's log joint by autograd."""
    theta = theta.clone().requires_grad_()
    params = {name: t[0] for name, t in where.views(theta[None]).items()}
    cut = len(LIKELIHOOD_PREFIX)
    own = {n: t for n, t in params.items() if not n.startswith(LIKELIHOOD_PREFIX)}
    phi = {n[cut:]: t for n, t in params.items() if n.startswith(LIKELIHOOD_PREFIX)}
    output = functional_call(network, own, (x,))
    ll = likelihood.bind(phi).log_prob(output, y)
    value = log_joint(ll, weight, prior, params, prior.hyperparameters())
    return ll.detach(), value.detach(), torch.autograd.grad(value, theta)[0]


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("weighted", [False, True])
def test_values_and_gradients_are_autograds_for_every_network_likelihood_and_prior(name, weighted):
    make, likelihood, prior = CASES[name]
    g = generator(0, "test density")
    network = make().double()
    params = {n: p.detach()[None] for n, p in network.named_parameters()}
    params |= {LIKELIHOOD_PREFIX + n: t.double()[None] for n, t in likelihood.parameters().items()}
    where = layout(params)
    theta = 0.5 * torch.randn(5, where.size, generator=g, dtype=torch.float64)
    x, y = torch.randn(7, 3, generator=g, dtype=torch.float64), torch.randn(7, generator=g, dtype=torch.float64)
    weight = torch.rand(7, generator=g, dtype=torch.float64) if weighted else None
    buffers = dict(network.named_buffers())
    density = log_density(network, where, likelihood, prior, x, y, buffers=buffers, weight=weight)
    value, gradient = density(theta)
    slopes = joint_slopes(network, where, likelihood, prior, buffers=buffers)
    for r in range(5):
        rows, wanted, slope = twin(network, where, likelihood, prior, theta[r], x, y, weight)
        torch.testing.assert_close(value[r], wanted, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(gradient[r], slope, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(density.gradient(theta)[r], slope, rtol=1e-10, atol=1e-10)
        ll, _ = slopes(theta, x, y, 1.0 if weight is None else weight)
        torch.testing.assert_close(ll[r], rows if weight is None else weight * rows, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", ["MLP, Gaussian", "gate, Gaussian"])
def test_batches_that_count_n_over_b_times_average_to_the_whole(name):
    make, likelihood, prior = CASES[name]
    network = make().double()
    params = {n: p.detach()[None] for n, p in network.named_parameters()} | {
        LIKELIHOOD_PREFIX + n: t.double()[None] for n, t in likelihood.parameters().items()
    }
    where = layout(params)
    g = generator(1, "test density")
    theta = torch.randn(2, where.size, generator=g, dtype=torch.float64)
    x, y = torch.randn(12, 3, generator=g, dtype=torch.float64), torch.randn(12, generator=g, dtype=torch.float64)
    slopes = joint_slopes(network, where, likelihood, prior, buffers=dict(network.named_buffers()))
    parts = [slopes(theta, x[i : i + 4], y[i : i + 4], 3.0)[1] for i in (0, 4, 8)]
    torch.testing.assert_close(torch.stack(parts).mean(0), slopes(theta, x, y, 1.0)[1], rtol=1e-10, atol=1e-10)
