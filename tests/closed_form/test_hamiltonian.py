"""Hamiltonian Monte Carlo: its integrator against mechanics, its draws against densities whose moments are known."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch

from kokkiri.errors import ShapeError, UsageError
from kokkiri.numerics import diagnostics, hamiltonian
from kokkiri.numerics.random import generator

CORRELATED = torch.tensor([[1.0, 0.9, 0.2], [0.9, 1.5, 0.0], [0.2, 0.0, 25.0]], dtype=torch.float64)


def gaussian(covariance, mean):
    precision = torch.linalg.inv(covariance)

    def log_density(theta):
        off = theta - mean
        return -0.5 * torch.einsum("ri,ij,rj->r", off, precision, off), -off @ precision

    return log_density


def banana(theta):
    """x ~ N(0, 1), y | x ~ N(x², 0.5²)."""
    x, y = theta.unbind(1)
    off = (y - x * x) / 0.25
    return -0.5 * x * x - 0.5 * off * (y - x * x), torch.stack([-x + 2 * x * off, -off], 1)


def start(*shape, seed=0):
    return torch.randn(*shape, generator=generator(seed, "test start"), dtype=torch.float64)


def point(log_density, theta):
    return hamiltonian.Point(theta, *log_density(theta))


def energy(at, velocity):
    return 0.5 * velocity.square().sum(1) - at.log_density


def test_the_gradient_of_the_banana_is_right():
    theta = start(5, 2).requires_grad_()
    value, gradient = banana(theta)
    torch.testing.assert_close(torch.autograd.grad(value.sum(), theta)[0], gradient.detach())


def test_leapfrog_is_verlets_recursion_written_out():
    at, velocity, step = point(banana, start(3, 2)), start(3, 2, seed=1), torch.tensor([0.1, 0.2], dtype=torch.float64)
    theta = [at.theta - step * (velocity - 0.5 * step * at.gradient), at.theta]
    theta[0] = at.theta - step * velocity + 0.5 * step**2 * at.gradient
    for _ in range(4):
        theta.append(2 * theta[-1] - theta[-2] + step**2 * banana(theta[-1])[1])
    new, end = hamiltonian.leapfrog(banana, at, velocity, step, 3)
    torch.testing.assert_close(new.theta, theta[4], rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(end * step, (theta[5] - theta[3]) / 2, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(new.log_density, banana(new.theta)[0])


def test_leapfrog_comes_back_when_the_velocity_is_turned_round():
    at, velocity = point(banana, start(16, 2)), start(16, 2, seed=1)
    new, end = hamiltonian.leapfrog(banana, at, velocity, 0.05, 40)
    assert float((new.theta - at.theta).norm(dim=1).min()) > 0.05
    back, again = hamiltonian.leapfrog(banana, new, -end, 0.05, 40)
    torch.testing.assert_close(back.theta, at.theta, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(-again, velocity, rtol=1e-10, atol=1e-10)


def test_leapfrog_keeps_volume():
    theta, velocity = start(2), start(2, seed=1)

    def move(state):
        new, end = hamiltonian.leapfrog(banana, point(banana, state[None, :2]), state[None, 2:], 0.1, 7)
        return torch.cat([new.theta[0], end[0]])

    jacobian = torch.func.jacrev(move)(torch.cat([theta, velocity]))
    torch.testing.assert_close(torch.linalg.det(jacobian), torch.ones((), dtype=torch.float64), rtol=1e-9, atol=0)


def test_the_error_of_the_energy_is_of_second_order_in_the_step():
    at, velocity = point(banana, start(64, 2)), start(64, 2, seed=1)
    steps, errors = [16, 32, 64, 128, 256], []
    for n in steps:
        new, end = hamiltonian.leapfrog(banana, at, velocity, 1.0 / n, n)
        errors.append(float((energy(new, end) - energy(at, velocity)).abs().mean()))
    slopes = [math.log2(a / b) for a, b in pairwise(errors)]
    assert all(abs(slope - 2) < 0.05 for slope in slopes[1:])


def z_scores(values, wanted):
    """(chains, draws, ...) of one quantity each: its mean's distance from `wanted` in Monte Carlo standard errors."""
    error = values.flatten(0, 1).std(0) / diagnostics.effective_sample_size(values).sqrt()
    return (values.flatten(0, 1).mean(0) - wanted) / error


@pytest.mark.parametrize("length", [None, 1.3])
def test_moments_of_a_correlated_gaussian_are_right(length):
    mean = torch.tensor([3.0, -1.0, 50.0], dtype=torch.float64)
    chains = hamiltonian.sample(gaussian(CORRELATED, mean), start(16, 3), draws=400, warm_up=200, seed=1, length=length)
    off = chains.draws - mean
    products = (off[..., :, None] * off[..., None, :]).flatten(2)[..., [0, 1, 2, 4, 5, 8]]
    wanted = CORRELATED.flatten()[[0, 1, 2, 4, 5, 8]]
    z = torch.cat([z_scores(off, 0.0), z_scores(products, wanted)])
    assert float(z.abs().max()) < 3.9  # p = 1e-4 for nine normals, two-sided, 1e-3 together
    assert float(diagnostics.r_hat(chains.draws).max()) < 1.01
    assert float(diagnostics.effective_sample_size(chains.draws).min()) > 1600  # a quarter of the draws
    assert chains.divergences == 0
    assert 0.6 < chains.acceptance < 0.97


def test_moments_of_a_banana_are_those_of_quadrature():
    # in its tails it is ten times narrower than in the middle: a step for the middle alone would not enter them
    chains = hamiltonian.sample(banana, start(32, 2), draws=500, warm_up=200, seed=2, acceptance=0.97)
    grid = torch.linspace(-8, 8, 4001, dtype=torch.float64)
    weight = torch.softmax(-0.5 * grid**2, 0)  # y is integrated out in closed form: E[y] = x², E[y²] = x⁴ + 0.5²
    x, y = chains.draws.unbind(-1)
    found = torch.stack([x, x**2, y, y**2, x.cos(), x**2 * y], -1)
    wanted = torch.stack([(weight * t).sum() for t in (grid, grid**2, grid**2, grid**4 + 0.25, grid.cos(), grid**4)])
    assert float(z_scores(found, wanted).abs().max()) < 3.8  # p = 1.5e-4 each
    off = (y - x**2) / 0.5  # standard normal and independent of x
    assert float(z_scores(torch.stack([off, off**2, off * x], -1), torch.tensor([0.0, 1, 0])).abs().max()) < 3.8


def test_the_law_of_the_draws_is_uniform_where_the_density_says_so():
    chains = hamiltonian.sample(
        gaussian(torch.eye(1, dtype=torch.float64), 0.0), start(200, 1), draws=40, warm_up=100, seed=3, length=1.57
    )
    thinned = chains.draws[:, ::20, 0].flatten().sort().values  # 20 trajectories apart
    u = torch.special.ndtr(thinned)
    n = len(u)
    gap = torch.maximum(torch.arange(1, n + 1) / n - u, u - torch.arange(n) / n).max()
    assert float(gap) < 1.95 / math.sqrt(n)  # Kolmogorov-Smirnov, p = 1e-3


def test_scales_are_found_within_chains_and_not_between_modes():
    def two_modes(theta):
        near = torch.logaddexp(-0.5 * (theta - 20).square(), -0.5 * (theta + 20).square())
        pull = -theta + 20 * torch.tanh(20 * theta)
        return near.sum(1), pull

    begin = torch.cat([start(8, 1) + 20, start(8, 1) - 20])
    chains = hamiltonian.sample(two_modes, begin, draws=100, warm_up=200, seed=0)
    assert 0.8 < float(chains.scale) < 1.25
    assert float(diagnostics.r_hat(chains.draws)) > 1.5  # and it says that they never met


def test_the_length_found_is_the_one_that_moves_furthest_per_gradient():
    # a normal of standard deviation w in scales jumps by J(t) ~ 1 - cos(t / w); its integral over (0, 2T) per 2T² is
    # greatest where u = 2T / w maximises (1 - sin(u) / u) / u
    u = torch.linspace(1, 6, 5001, dtype=torch.float64)
    best = float(u[((1 - u.sin() / u) / u).argmax()]) / 2
    lengths = []
    for correlation in (0.0, 0.99):
        covariance = torch.tensor([[1.0, correlation], [correlation, 1.0]], dtype=torch.float64)
        target = gaussian(covariance, 0.0)
        found = hamiltonian.sample(target, start(64, 2), draws=1, warm_up=300, seed=0, acceptance=0.99)
        lengths.append(found.length)
    assert abs(lengths[0] / best - 1) < 0.2
    assert abs(lengths[1] / (best * math.sqrt(1.99)) - 1) < 0.2  # the widest direction decides


def test_the_same_seed_gives_the_same_draws_another_other_ones_and_no_global_state_is_touched():
    target, state = gaussian(CORRELATED, 0.0), torch.get_rng_state()
    one, two, three = (hamiltonian.sample(target, start(4, 3), draws=10, warm_up=10, seed=s).draws for s in (0, 0, 1))
    assert torch.equal(one, two)
    assert not torch.equal(one, three)
    assert torch.equal(state, torch.get_rng_state())


def test_gradients_are_counted():
    asked = []

    def counting(theta):
        asked.append(len(theta))
        return banana(theta)

    chains = hamiltonian.sample(counting, start(8, 2), draws=20, warm_up=30, seed=0)
    assert chains.gradients == sum(asked)


def test_divergences_are_counted_and_rejected():
    def cliff(theta):  # finite at the start, infinitely steep beyond one
        inside = theta.abs().amax(1) < 1
        return torch.where(inside, 0.0, -math.inf).double(), torch.where(inside[:, None], 0.0, math.nan).double()

    chains = hamiltonian.sample(cliff, 0.1 * start(8, 1), draws=50, warm_up=20, seed=0, length=1.0)
    assert chains.divergences > 0
    assert float(chains.draws.abs().max()) < 1
    assert bool(torch.isfinite(chains.log_density).all())


def test_bad_starts_are_refused():
    with pytest.raises(ShapeError, match="chains, parameters"):
        hamiltonian.sample(banana, torch.zeros(2, dtype=torch.float64), draws=1, warm_up=1, seed=0)
    with pytest.raises(UsageError, match="chain 1 starts"):
        hamiltonian.sample(
            banana, torch.tensor([[0.0, 0.0], [math.inf, 0.0]], dtype=torch.float64), draws=1, warm_up=1, seed=0
        )
    with pytest.raises(UsageError, match="at least one of each"):
        hamiltonian.sample(banana, torch.zeros(1, 2, dtype=torch.float64), draws=0, warm_up=1, seed=0)
