"""IVON against the published algorithm written out, on its own and in the engines; what engines owe it."""

from __future__ import annotations

import pytest
import torch
from tests_support import some_numbers
from torch.func import functional_call, grad

import kokkiri as kk
from kokkiri.errors import CannotLift, Unsupported, UsageError
from kokkiri.numerics.random import generator
from kokkiri.optimizers import IVON, Adam
from kokkiri.training.beside import noise, noise_table, prior_terms
from kokkiri.training.feed import Feed
from kokkiri.training.flat import flatten, layout

PAPER = {"memory": 1e30, "reach": 1e30}


def exact(a, b, tolerance=1e-10):
    torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


def published(mean, slope, noises, *, lr, beta1, beta2, curvature, decay, rows):
    """Algorithm 1 of Shen et al. 2024 as it is printed; slope(θ, step): gradient of the mean loss. Gives m and σ."""
    momentum, h = torch.zeros_like(mean), torch.full_like(mean, curvature)
    sigma = 1 / torch.sqrt(rows * (h + decay))
    for t, e in enumerate(noises, 1):
        theta = mean + sigma * e
        g = slope(theta, t - 1)
        h_hat = g * (theta - mean) / sigma**2
        momentum = beta1 * momentum + (1 - beta1) * g
        h = beta2 * h + (1 - beta2) * h_hat + 0.5 * (1 - beta2) ** 2 * (h - h_hat) ** 2 / (h + decay)
        mean = mean - lr * (momentum / (1 - beta1**t) + decay * mean) / (h + decay)
        sigma = 1 / torch.sqrt(rows * (h + decay))
    return mean, sigma


def test_a_hundred_steps_are_those_of_the_published_algorithm():
    random = generator(0, "ivon")
    matrix = torch.randn(4, 4, generator=random, dtype=torch.float64)
    slope = lambda theta, _t: torch.tanh(matrix @ theta) @ matrix
    mean = torch.randn(4, generator=random, dtype=torch.float64)
    noises = torch.randn(100, 4, generator=random, dtype=torch.float64)
    rows, decay, beta2 = 50.0, 0.02, 0.95
    ivon = IVON(lr=0.1, beta2=beta2, spread=(rows * (0.7 + decay)) ** -0.5, **PAPER)
    params, state = {"x": mean}, ivon.init({"x": mean})
    for e in noises:
        near, state = ivon.look(params, state, {}, {"x": e})
        grads = {"x": slope(near["x"], 0)}
        params, state = ivon.step(params, grads, state, {"rows": rows, "decay": torch.full_like(mean, decay)})
    wanted = published(
        mean, slope, noises, lr=0.1, beta1=0.9, beta2=beta2, curvature=0.7, decay=decay, rows=rows
    )  # fmt: skip
    exact(params["x"], wanted[0])
    exact(state["spread"]["x"], wanted[1])


def arguments(optimizer=None, *, seeds=(0,), steps=40, prior=None):
    herd = kk.herd(lambda: kk.networks.MLP(3, [5], 1, activation="tanh").double(), seed=seeds)
    plan = kk.Plan(steps, 16, 3, schedule=kk.Cosine(), every=7)
    data = some_numbers(dtype=torch.float64)
    return herd, data, kk.Gaussian(), optimizer or IVON(), prior or kk.Normal(2.0), plan


def fitted(optimizer, *, engine=None, **more):
    return list(kk.train(*arguments(optimizer, **more), engine=engine))


@pytest.mark.parametrize("engine", [kk.Loop(), kk.Dense()])
def test_an_engine_takes_the_published_steps_with_the_prior_once(engine):
    spread, steps = 0.1, 40
    ivon = IVON(lr=0.05, beta2=0.99, spread=spread, **PAPER)
    moments = fitted(ivon, engine=engine, steps=steps)
    herd, data, *_, plan = arguments(ivon, steps=steps)
    start = {n: t[0] for n, t in herd.params.items()}
    start["likelihood.log_scale"] = kk.Gaussian().parameters()["log_scale"].double()
    where = layout(moments[-1].herd.params)
    flat = torch.cat([start[n].reshape(-1) for n in where.names])
    feed = Feed(data, plan)

    def loss(theta, step):
        params = where.views(theta)
        x, y, _ = feed(step)
        own = {n: t for n, t in params.items() if not n.startswith("likelihood.")}
        bound = kk.Gaussian().bind({"log_scale": params["likelihood.log_scale"]})
        return -bound.log_prob(functional_call(herd.network, own, (x,)), y).mean()

    decay = torch.full_like(flat, 2.0 / len(data))
    decay[where.split :] = 1 / 9 / len(data)
    table = noise_table(plan.seed, where.size, flat)
    mean, momentum = flat, torch.zeros_like(flat)
    h = 1 / (len(data) * torch.full_like(flat, spread) ** 2) - decay
    sigma = torch.full_like(flat, spread)
    for t in range(1, steps + 1):  # as `published`, with a schedule
        theta = mean + sigma * noise(table, where.size, plan.seed, t - 1, 0)
        g = grad(loss)(theta, t - 1)
        h_hat = g * (theta - mean) / sigma**2
        momentum = 0.9 * momentum + 0.1 * g
        h = 0.99 * h + 0.01 * h_hat + 0.5 * 0.01**2 * (h - h_hat) ** 2 / (h + decay)
        lr = 0.05 * kk.Cosine()(t - 1, steps)
        mean = mean - lr * (momentum / (1 - 0.9**t) + decay * mean) / (h + decay)
        sigma = 1 / torch.sqrt(len(data) * (h + decay))
    exact(flatten(moments[-1].herd.params, where)[0], mean, 1e-8)
    exact(moments[-1].memory["spread"][""][0], sigma, 1e-8)
    assert (mean - flat).abs().max() > 0.01


def test_engines_agree_on_replicas_with_weights_and_rates_of_their_own():
    weight = torch.tensor([[1.0] * 40, [0.0] * 10 + [2.0] * 30])
    ends = []
    for engine in (kk.Loop(), kk.Dense()):
        data = some_numbers(dtype=torch.float64)
        herd = kk.herd(lambda: kk.networks.MLP(3, [5], 1).double(), seed=range(2), lr=[0.02, 0.05])
        herd = kk.reweight(herd, "fold", weight.double())
        plan = kk.Plan(30, 16, every=11)
        ends.append(list(kk.train(herd, data, kk.Gaussian(), IVON(), kk.Normal(1.0), plan, engine=engine))[-1])
    for name, t in ends[0].herd.params.items():
        exact(t, ends[1].herd.params[name], 1e-8)
    exact(ends[0].memory["spread"][""], ends[1].memory["spread"][""], 1e-8)
    assert ends[0].memory["spread"][""][0].std() > 1e-4


def test_a_cut_run_goes_on_to_the_same_bits(tmp_path):
    whole = fitted(IVON())[-1]
    first = iter(kk.train(*arguments(), checkpoints=tmp_path, checkpoint_seconds=0))
    for moment in first:
        if moment.step >= 21:
            break
    last = list(kk.train(*arguments(), checkpoints=tmp_path))[-1]
    assert last.resumed == 14  # the moment was yielded before its checkpoint was written
    assert all(torch.equal(t, last.herd.params[n]) for n, t in whole.herd.params.items())
    assert torch.equal(whole.memory["spread"][""], last.memory["spread"][""])


def test_the_memory_of_a_moment_is_a_value_of_its_own():
    moments = kk.train(*arguments())
    first = next(moments)
    kept = first.memory["spread"][""]
    before = kept.clone()
    list(moments)
    assert torch.equal(kept, before)


def test_no_parameter_moves_further_than_its_reach():
    params = {"x": torch.tensor([0.0, 0.0], dtype=torch.float64)}
    ivon = IVON(lr=1.0, spread=0.1, reach=0.5)
    moved, _ = ivon.step(
        params, {"x": torch.tensor([1e6, -0.001], dtype=torch.float64)}, ivon.init(params), {"rows": 100.0}
    )
    exact(moved["x"], torch.tensor([-0.05, 0.001], dtype=torch.float64))


def test_noise_is_normal_independent_within_a_step_and_a_function_of_seed_step_and_replica():
    table = noise_table(0, 50, torch.zeros(1, dtype=torch.float64))
    many = torch.stack([noise(table, 50, 0, t, r) for t in range(400) for r in range(3)])
    assert torch.equal(many[4], noise(table, 50, 0, 1, 1))
    assert torch.equal(noise(table, 50, 0, 7, torch.tensor([2, 0])), torch.stack([many[23], many[21]]))
    assert len(torch.unique(many[:, 0])) > 1190  # of 1200
    n = len(many)
    assert many.mean(0).abs().max() < 4.5 / n**0.5
    covariance = many.mT @ many / n
    off = covariance - torch.eye(50)
    assert off.abs().max() < 5 / n**0.5
    assert off.diagonal().abs().max() < 5 * (2 / n) ** 0.5


@pytest.mark.parametrize(
    "prior",
    [kk.Normal(3.0), kk.priors.GroupedNormal((("hidden.0", 1.0), ("output", 5.0)))],
    ids=["normal", "grouped"],
)
def test_a_prior_is_given_as_its_curvature_and_its_pull(prior):
    moments = fitted(Adam(), steps=1)
    where, params = layout(moments[-1].herd.params), moments[-1].herd.params
    flat = flatten(params, where)[0]
    hyper = {n: t.item() for n, t in prior.hyperparameters().items()}
    terms = prior_terms(prior, where, flat, hyper, 40.0)
    slope = grad(lambda t: prior.log_prob(where.views(t), {n: torch.tensor(h) for n, h in hyper.items()}))(flat)
    exact(-terms["decay"] * flat * 40, slope)
    assert "pull" not in terms
    moved = prior_terms(_Shifted(prior), where, flat, hyper, 40.0)
    exact((moved["pull"] - moved["decay"] * flat) * 40, -terms["decay"] * (flat - 0.3) * 40)


class _Shifted:
    """A Gaussian prior about 0.3."""

    elementwise = False

    def __init__(self, inner):
        self.inner = inner

    def gradient(self, params, hyper):
        return self.inner.gradient({n: t - 0.3 for n, t in params.items()}, hyper)

    def precision_at(self, params, hyper):
        return self.inner.precision_at(params, hyper)


def test_what_cannot_be_stepped_is_refused_by_name():
    with pytest.raises(CannotLift, match="IVON"):
        fitted(IVON(), engine=kk.Stack(), seeds=(0, 1))

    class Cauchy:
        elementwise = True
        hyperparameters = staticmethod(dict)
        log_prob = staticmethod(lambda params, hyper: -sum((1 + t * t).log().sum() for t in params.values()))

    with pytest.raises(UsageError, match="Cauchy does not fit"):
        fitted(IVON(), prior=Cauchy())

    class Whole(IVON):
        elementwise = False

    with pytest.raises(Unsupported, match="tensor by tensor"):
        fitted(Whole())
