"""The variational Gaussian where the best one is known: linear models with Gaussian noise."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import tests_support
import torch
from tests_support import data_of
from torch import nn

import kokkiri as kk
from kokkiri.errors import UsageError
from kokkiri.numerics.random import generator
from kokkiri.optimizers import IVON
from kokkiri.posteriors.recipe import Recipe, Run
from kokkiri.posteriors.variational import Variational, elbo
from kokkiri.records import Status

N, D, NOISE, PRECISION = 200, 4, 0.5, 3.0


def linear():
    """Rows with correlated inputs; mean and precision H = XᵀX / σ² + λ of the exact posterior; evidence."""
    random = generator(0, "linear")
    mix = torch.eye(D, dtype=torch.float64) + 0.4
    x = torch.randn(N, D, generator=random, dtype=torch.float64) @ mix
    y = x @ torch.linspace(-1, 1, D, dtype=torch.float64) + NOISE * torch.randn(
        N, generator=random, dtype=torch.float64
    )
    precision = x.mT @ x / NOISE**2 + PRECISION * torch.eye(D)
    mean = torch.linalg.solve(precision, x.mT @ y / NOISE**2)
    marginal = torch.distributions.MultivariateNormal(
        torch.zeros(N, dtype=torch.float64), NOISE**2 * torch.eye(N) + x @ x.mT / PRECISION
    )
    return data_of(x, y), mean, precision, marginal.log_prob(y).item()


def trained(recipe, *, steps=3000, batch=None, seed=0, prior=None):
    net, likelihood = nn.Sequential(nn.Linear(D, 1, bias=False)).double(), kk.Gaussian(NOISE, learn=False)
    return tests_support.trained(
        recipe, net, linear()[0], steps=steps, batch=batch, seed=seed, every=steps, likelihood=likelihood,
        prior=prior or kk.Normal(PRECISION),
    )  # fmt: skip


def fitted(recipe, **more):
    return recipe.finish(trained(recipe, **more))


@pytest.mark.parametrize(("batch", "bound"), [(None, 0.05), (50, 0.08)])
def test_it_reaches_the_best_diagonal_gaussian(batch, bound):
    _, mean, precision, _ = linear()
    ratios, errors = [], []
    for seed in range(4):
        found = fitted(Variational(), batch=batch, seed=seed)
        ratios.append(found.precision[0].diagonal() / precision.diagonal())
        errors.append((found.herd.params["0.weight"].flatten() - mean) * precision.diagonal().sqrt())
    logs = torch.stack(ratios).log()
    assert logs.abs().max() < 3 * bound
    assert logs.mean().abs() < bound
    assert (torch.linalg.inv(precision).diagonal() * precision.diagonal()).amax() > 1.3  # what a diagonal leaves out
    assert torch.stack(errors).abs().max() < 0.3  # of a standard deviation


def test_the_elbo_is_the_evidence_less_the_divergence_from_the_posterior():
    data, mean, precision, evidence = linear()
    members = kk.herd(nn.Linear(D, 1, bias=False).double())
    shift = torch.tensor([0.02, -0.01, 0.03, 0.0], dtype=torch.float64)
    members.params["weight"][:] = (mean + shift)[None, None]
    spread = torch.linspace(0.02, 0.05, D, dtype=torch.float64)
    value, error = elbo(
        members, data, kk.Gaussian(NOISE, learn=False), kk.Normal(PRECISION), 0, spread, draws=400, seed=0
    )  # fmt: skip
    q = torch.distributions.MultivariateNormal(mean + shift, torch.diag(spread**2))
    posterior = torch.distributions.MultivariateNormal(mean, precision_matrix=precision)
    gap = torch.distributions.kl_divergence(q, posterior).item()
    assert gap > 1
    assert abs(value - (evidence - gap)) < 4 * error
    assert error < 0.1 * gap


def test_what_it_reaches_has_nearly_the_highest_elbo():
    _, _, precision, evidence = linear()
    found = fitted(Variational(draws=64))
    best = 0.5 * (precision.diagonal().log().sum() - torch.logdet(precision)).item()  # KL of the best diagonal Gaussian
    error = float(found.notes[0].split("±")[1].split()[0])
    assert found.evidence.nats < evidence - best + 4 * error + 0.05
    assert found.evidence.nats > evidence - best - 4 * error - 0.1
    assert found.evidence.method == "elbo, a lower bound"
    assert not found.evidence.exact


def test_several_are_each_their_own_and_share_the_weight():
    found = fitted(Variational(size=3), steps=300)
    assert len(found.precision) == len(found.evidence.each) == len(found.herd) == 3
    assert torch.allclose(found.log_weight, torch.full((3,), -math.log(3), dtype=torch.float64))
    assert found.evidence.nats <= max(found.evidence.each)


def test_an_ivon_that_was_asked_for_is_kept_and_others_are_replaced():
    data, own = linear()[0], IVON(lr=0.02)
    run = Run(
        kk.herd(nn.Linear(D, 1).double()), data, kk.Gaussian(), own, kk.Normal(), kk.Plan(1000, 50)
    )  # fmt: skip
    assert Variational().prepare(run).optimizer is own
    made = Variational().prepare(replace(run, optimizer=kk.Adam(lr=7.0))).optimizer
    assert made == IVON(lr=0.1, spread=0.1, memory=500.0)
    assert isinstance(Variational(), Recipe)


def test_a_spread_that_is_no_number_leaves_points():
    run = trained(Variational(), steps=20)
    broken = replace(run.last, make_memory=lambda: {"spread": {"": torch.full((1, D), math.nan)}})
    found = Variational().finish(replace(run, last=broken))
    assert found.precision == ()
    assert found.status is Status.DIVERGED


@pytest.mark.parametrize("recipe", [lambda: Variational(size=0), lambda: Variational(draws=2)])
def test_what_means_nothing_is_refused(recipe):
    with pytest.raises(UsageError):
        recipe()


def test_a_flat_prior_is_refused():
    with pytest.raises(UsageError, match="flat prior"):
        fitted(Variational(), prior=kk.Flat())
