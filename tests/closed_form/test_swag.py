"""SWAG: running moments, the covariance of the paper, draws that follow it, its tail, what it refuses."""

from __future__ import annotations

import pytest
import torch
from scipy.stats import chi2
from tests_support import data_of, fitted, some_numbers, trained
from torch import nn

import kokkiri as kk
from kokkiri.errors import Unsupported, UsageError
from kokkiri.numerics.random import generator
from kokkiri.posteriors.recipe import Recipe
from kokkiri.posteriors.swag import SWAG, Moments, Tail
from kokkiri.training.flat import flatten, layout


def exact(a, b):
    torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


def network():
    return kk.networks.MLP(3, [4], 1)


def test_running_moments_are_those_of_all_snapshots():
    random = generator(0, "snapshots")
    way = 1000 + torch.randn(30, 2, 7, generator=random, dtype=torch.float64)  # (S, R, P), far from zero
    moments = Moments(0, 1, rank=5)
    for weights in way:
        moments.add(weights)
    exact(moments.mean, way.mean(0))
    exact(moments.square / moments.count, way.var(0, unbiased=False))
    running = torch.stack([way[i] - way[: i + 1].mean(0) for i in range(25, 30)])
    torch.testing.assert_close(torch.stack(tuple(moments.deviations)).double(), running, rtol=1e-6, atol=1e-6)


def test_the_gaussian_is_that_of_the_paper():
    run = trained(SWAG(rank=4, size=2), network(), some_numbers(), steps=160)
    seen, found = run.run.keep, SWAG(rank=4, size=2).finish(run)
    where = layout(found.herd.params)
    for r in range(2):
        d = torch.stack(tuple(seen.deviations))[:, r].double().mT  # (P, K)
        covariance = (seen.square[r] / seen.count / 2).diag() + d @ d.mT / (2 * 3)
        exact(
            torch.stack([found.precision[r].solve(e) for e in torch.eye(where.size, dtype=torch.float64)]), covariance
        )
        torch.testing.assert_close(flatten(found.herd.params, where)[r].double(), seen.mean[r], rtol=1e-6, atol=1e-6)
    assert seen.count == 8
    assert found.evidence is None
    assert not found.linear


def test_draws_follow_the_gaussian():
    found = fitted(SWAG(rank=4), nn.Linear(3, 1), some_numbers(), steps=160)
    precision, n = found.precision[0], 20_000
    z = precision.sample(n, generator(0, "test"))
    square = (z * precision.mv(z)).sum(1)
    edges = torch.tensor(chi2.ppf([i / 20 for i in range(1, 20)], precision.size))
    counts = torch.bincount(torch.bucketize(square, edges), minlength=20)
    statistic = ((counts - n / 20) ** 2 / (n / 20)).sum().item()
    assert chi2.sf(statistic, 19) > 1e-6


def test_snapshots_are_of_the_tail_alone_and_at_its_rate():
    class Watched:
        def __call__(self, step, steps):
            return 1.0 if step == 0 else 0.0

    run = trained(SWAG(rank=3, share=0.5, level=0.25), network(), some_numbers(), steps=60, schedule=Watched())
    assert run.run.plan.every == 5
    assert run.run.keep.count == 6  # at steps 35, 40, …, 60
    assert [run.run.plan.schedule(t, 60) for t in (0, 1, 29, 30, 59)] == [1.0, 0.25, 0.25, 0.25, 0.25]


def test_a_warm_up_is_left_as_it_is():
    tail = Tail(kk.WarmUp(0.1, kk.Cosine()), 0.2, 0.5)
    factors = [tail(t, 100) for t in range(100)]
    assert factors[:8] == pytest.approx([(t + 1) / 8 for t in range(8)])
    assert min(factors[8:]) == pytest.approx(0.5)
    assert set(factors[80:]) == {0.5}


def test_a_way_of_stochastic_gradients_is_as_wide_as_theory_says():
    """For the loss θ² / 2 with gradients of variance 1, descent at rate a has the stationary variance a / (2 - a)."""
    y = torch.randn(4000, generator=generator(0, "rows"))
    y = (y - y.mean()) / y.std(unbiased=False)
    rate, data = 0.2, data_of(torch.ones(4000, 1), y)
    run = trained(
        SWAG(rank=100, share=0.9), nn.Sequential(nn.Linear(1, 1, bias=False)), data, steps=10_000, batch=1,
        optimizer=kk.SGD(rate), prior=kk.Normal(1e-6), likelihood=kk.Gaussian(1.0, learn=False),
        schedule=kk.Constant(),
    )  # fmt: skip
    seen, found = run.run.keep, run.run.keep.square.item()
    assert seen.count == 200  # 45 steps apart: independent, as the way forgets within 5
    below = chi2.cdf(found / (rate / (2 - rate)), seen.count - 1)
    assert 1e-4 < below < 1 - 1e-4
    width = SWAG(rank=100).finish(run).precision[0].inverse_diagonal().item()
    assert abs(width / (rate / (2 - rate)) - 1) < 5 * (2 / 100) ** 0.5


def test_a_run_that_never_reached_its_tail_is_a_point():
    recipe = SWAG(rank=4)
    run = trained(recipe, network(), some_numbers(), steps=160)
    run.run.keep.count = 1
    found = recipe.finish(run)
    assert found.precision == ()
    assert "before the tail" in found.notes[0]


def test_batch_normalisation_is_refused_by_name():
    with pytest.raises(Unsupported, match="batch statistics"):
        SWAG().herd(nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1)), seed=0)


@pytest.mark.parametrize("values", [{"rank": 1}, {"share": 0.0}, {"share": 1.5}, {"level": -1.0}, {"size": 0}])
def test_what_means_nothing_is_refused(values):
    with pytest.raises(UsageError):
        SWAG(**values)
    assert isinstance(SWAG(), Recipe)
