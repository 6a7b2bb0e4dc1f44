"""The grouped Gaussian prior: its density, its way through every engine, and the ridge solution that it leads to."""

import math
from dataclasses import replace

import pytest
import torch
from tests_support import data_of, some_numbers
from torch import nn

import kokkiri as kk
from kokkiri.errors import UsageError
from kokkiri.priors import GroupedNormal, Normal, from_config
from kokkiri.priors.grouped import PREFIX, groups_of
from kokkiri.training.dense import Dense
from kokkiri.training.engines import Loop, Stack

PRIOR = GroupedNormal((("hidden.0", 0.5), ("output", 4.0)))


def params(seed=0):
    g = torch.Generator().manual_seed(seed)
    shapes = {"hidden.0.weight": (4, 3), "hidden.0.bias": (4,), "output.weight": (1, 4), "likelihood.log_scale": ()}
    return {n: torch.randn(s, generator=g, dtype=torch.float64) for n, s in shapes.items()}


def test_it_is_the_product_of_normal_densities():
    own, total = params(), 0.0
    for name, t in own.items():
        precision = 1 / 9 if name.startswith("likelihood") else 0.5 if name.startswith("hidden") else 4.0
        normal = torch.distributions.Normal(0.0, torch.tensor(precision**-0.5, dtype=torch.float64))
        total += float(normal.log_prob(t).sum())
    assert float(PRIOR.log_prob(own, PRIOR.hyperparameters())) == pytest.approx(total, rel=1e-12)
    plain = {n: float(t) for n, t in PRIOR.hyperparameters().items()}
    assert float(PRIOR.log_prob(own, plain)) == pytest.approx(total, rel=1e-12)


def test_gradient_and_precision_are_its_derivatives():
    own, hyper = params(), PRIOR.hyperparameters()
    slope = torch.func.grad(lambda p: PRIOR.log_prob(p, hyper))(own)
    for name, t in PRIOR.gradient(own, hyper).items():
        assert torch.allclose(t, slope[name], rtol=0, atol=1e-12)
    bend = torch.func.jvp(
        lambda p: PRIOR.gradient(p, hyper), (own,), ({n: torch.ones_like(t) for n, t in own.items()},)
    )[1]
    for name, t in PRIOR.precision_at(own, hyper).items():
        assert torch.allclose(t, -bend[name], rtol=0, atol=1e-12)


def test_the_freedom_is_added_to_the_slope_of_the_noise_alone():
    own, hyper = params(), PRIOR.hyperparameters()
    more = {**hyper, "freedom": torch.tensor(7.0, dtype=torch.float64)}
    before, after = PRIOR.gradient(own, hyper), PRIOR.gradient(own, more)
    for name in own:
        change = 7.0 if name == "likelihood.log_scale" else 0.0
        assert torch.allclose(after[name] - before[name], torch.full_like(own[name], change))
    assert torch.equal(PRIOR.log_prob(own, more), PRIOR.log_prob(own, hyper))


def test_one_precision_for_all_groups_is_the_normal_prior():
    own = params()
    grouped, normal = GroupedNormal((("hidden.0", 1.7), ("output", 1.7))), Normal(1.7)
    a, b = grouped.hyperparameters(), normal.hyperparameters()
    assert float(grouped.log_prob(own, a)) == pytest.approx(float(normal.log_prob(own, b)), rel=1e-12)
    for offered in ("gradient", "precision_at"):
        one, other = getattr(grouped, offered)(own, a), getattr(normal, offered)(own, b)
        assert all(torch.allclose(one[n], other[n]) for n in own)


def test_the_longest_name_that_fits_is_the_group():
    prior = GroupedNormal((("a", 1.0), ("a.b", 2.0), ("a.b.weight", 3.0)))
    assert [prior.group(n) for n in ("a.c", "a.b.bias", "a.b.weight")] == ["a", "a.b", "a.b.weight"]
    with pytest.raises(UsageError, match="no group of the prior holds ab"):
        prior.group("ab.weight")
    assert not GroupedNormal((("", 1.0),)).group("anything")


@pytest.mark.parametrize("wrong", [(), (("a", 0.0),), (("a", -1.0),), (("a", math.inf),), (("a", math.nan),)])
def test_precisions_that_are_none_are_refused(wrong):
    with pytest.raises(UsageError, match="GroupedNormal got"):
        GroupedNormal(wrong)


def test_it_is_written_down_and_read_again():
    assert from_config(PRIOR.config()) == PRIOR


def test_groups_by_layer_by_tensor_and_one():
    names = ["hidden.0.weight", "hidden.0.bias", "scale"]
    assert groups_of(names, "layer") == {"hidden.0.weight": "hidden.0", "hidden.0.bias": "hidden.0", "scale": "scale"}
    assert groups_of(names, "tensor") == {n: n for n in names}
    assert groups_of(names, "one") == dict.fromkeys(names, "")


ENGINES = [Loop(), Stack(), Dense()]


def trained(engine, prior, hyper=None, weight=None, steps=25):
    data = some_numbers(dtype=torch.float64)
    herd = kk.herd(lambda: kk.networks.MLP(3, [4], 1).double(), seed=range(3))
    herd = replace(herd, hyper=hyper or {}, weight=weight)
    plan = kk.Plan(steps=steps, batch=16)
    *_, last = kk.train(herd, data, kk.Gaussian(), kk.Adam(1e-2), prior, plan, engine=engine)
    return last.herd.params


@pytest.mark.parametrize("varied", [False, True])
def test_every_engine_takes_the_same_steps(varied):
    """Replicas that share their precisions, and replicas of different ones and freedoms."""
    column = lambda *v: torch.tensor(v, dtype=torch.float64)
    hyper = {
        PREFIX + "hidden.0": column(0.1, 3.0, 20.0), PREFIX + "output": column(5.0, 0.2, 1.0),
        "freedom": column(0.0, 4.0, 9.0),
    }  # fmt: skip
    found = [trained(e, PRIOR, hyper if varied else None) for e in ENGINES]
    for other in found[1:]:
        for name, t in found[0].items():
            assert torch.allclose(other[name], t, rtol=0, atol=1e-10), name


@pytest.mark.parametrize("engine", ENGINES, ids=lambda e: e.name)
def test_equal_precisions_train_as_the_normal_prior_does(engine):
    grouped, normal = trained(engine, GroupedNormal((("", 1.7),))), trained(engine, Normal(1.7))
    for name, t in normal.items():
        assert torch.allclose(grouped[name], t, rtol=0, atol=1e-10), name


@pytest.mark.parametrize("engine", ENGINES, ids=lambda e: e.name)
def test_a_linear_model_is_led_to_ridge_regression_with_a_penalty_for_each_group(engine):
    """argmax -|y - Xw - b|² / 2σ² - ½ λ_w |w|² - ½ λ_b b²: (XᵀX / σ² + Λ)⁻¹ Xᵀ y / σ²."""
    data = some_numbers(30, dtype=torch.float64)
    herd = kk.herd(lambda: nn.Sequential(nn.Linear(3, 1)).double(), seed=range(2))
    column = lambda *v: torch.tensor(v, dtype=torch.float64)
    herd = replace(herd, hyper={PREFIX + "0.weight": column(2.0, 30.0), PREFIX + "0.bias": column(9.0, 0.5)})
    prior, likelihood = GroupedNormal((("0.weight", 1.0), ("0.bias", 1.0))), kk.Gaussian(0.5, learn=False)
    plan = kk.Plan(steps=400, batch=None, schedule=kk.Cosine())
    *_, last = kk.train(herd, data, likelihood, kk.Adam(5e-2), prior, plan, engine=engine)
    design = torch.cat([data.x, torch.ones(30, 1, dtype=torch.float64)], 1)
    for r, (w, b) in enumerate(((2.0, 9.0), (30.0, 0.5))):
        penalty = torch.tensor([w, w, w, b], dtype=torch.float64).diag()
        best = torch.linalg.solve(design.mT @ design / 0.25 + penalty, design.mT @ data.y / 0.25)
        found = torch.cat([last.herd.params["0.weight"][r, 0], last.herd.params["0.bias"][r]])
        assert torch.allclose(found, best, rtol=0, atol=1e-5)


def test_a_herd_may_vary_its_precisions_and_nothing_else():
    herd = kk.sweep(kk.herd(lambda: kk.networks.MLP(3, [4], 1), seed=[0]), nonsense=[1.0, 2.0])
    with pytest.raises(UsageError, match="nonsense"):
        next(kk.train(herd, some_numbers(), kk.Gaussian(), kk.Adam(), PRIOR, kk.Plan(steps=1)))


def test_rows_of_weight_zero_leave_the_prior_as_strong_as_it_was():
    """The prior is divided by the sum of a replica's weights, as its likelihood is."""
    data = some_numbers(20, dtype=torch.float64)
    make = lambda: nn.Sequential(nn.Linear(3, 1)).double()
    prior, likelihood = GroupedNormal((("0", 5.0),)), kk.Gaussian(0.5, learn=False)
    plan = kk.Plan(steps=800, batch=None, schedule=kk.Cosine())
    weight = torch.cat([torch.ones(1, 12), torch.zeros(1, 8)], 1).double()
    herd = kk.herd(make, seed=[0])
    *_, some = kk.train(replace(herd, weight=weight), data, likelihood, kk.Adam(3e-2), prior, plan)
    part = data_of(data.x[:12], data.y[:12])
    *_, alone = kk.train(herd, part, likelihood, kk.Adam(3e-2), prior, plan)
    for name, t in alone.herd.params.items():
        assert torch.allclose(some.herd.params[name], t, rtol=0, atol=1e-6)
