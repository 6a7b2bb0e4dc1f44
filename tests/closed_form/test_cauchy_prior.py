"""The Cauchy prior: its density, its derivatives, every engine, and what it is for."""

import math
from dataclasses import replace

import pytest
import torch
from tests_support import data_of, some_numbers

import kokkiri as kk
from kokkiri.errors import UsageError
from kokkiri.priors import Cauchy, Normal, from_config
from kokkiri.training.dense import Dense
from kokkiri.training.engines import Loop, Stack

PRIOR = Cauchy((("hidden.0.weight", 0.1), ("skip", 0.3)), precision=4.0, spread=2.0)


def params(seed=0):
    g = torch.Generator().manual_seed(seed)
    shapes = {"hidden.0.weight": (4, 3), "hidden.0.bias": (4,), "output.weight": (1, 4), "skip.weight": (1, 3),
              "likelihood.log_scale": ()}  # fmt: skip
    return {n: torch.randn(s, generator=g, dtype=torch.float64) for n, s in shapes.items()}


def test_it_is_the_product_of_its_densities():
    own, d = params(), torch.distributions
    one = lambda x: torch.tensor(x, dtype=torch.float64)
    each = {
        "hidden.0.weight": d.Cauchy(one(0.0), one(0.1)), "hidden.0.bias": d.Normal(one(0.0), one(2.0)),
        "output.weight": d.Normal(one(0.0), one(0.5)), "skip.weight": d.Cauchy(one(0.0), one(0.3)),
        "likelihood.log_scale": d.Normal(one(0.0), one(3.0)),
    }  # fmt: skip
    total = sum(float(each[n].log_prob(t).sum()) for n, t in own.items())
    assert float(PRIOR.log_prob(own, PRIOR.hyperparameters())) == pytest.approx(total, rel=1e-12)


def test_gradient_is_its_derivative():
    own, hyper = params(), PRIOR.hyperparameters()
    slope = torch.func.grad(lambda p: PRIOR.log_prob(p, hyper))(own)
    for name, t in PRIOR.gradient(own, hyper).items():
        assert torch.allclose(t, slope[name], atol=1e-10, rtol=0)
    many = {"precision": torch.tensor([1.0, 4.0]).double(), "scale": torch.tensor([2.0, 1.0]).double()}
    stacked = {n: torch.stack([t, t]) for n, t in own.items()}
    for name, t in PRIOR.gradient(stacked, many).items():
        assert torch.allclose(t[1], slope[name], atol=1e-10, rtol=0)


def test_every_engine_takes_the_same_steps():
    data = some_numbers(40, dtype=torch.float64)
    made = kk.herd(lambda: kk.networks.MLP(3, [4], 1, activation="tanh", skip=True).double(), seed=range(2))
    run = lambda engine: [*kk.train(made, data, kk.Gaussian(), kk.Adam(0.05), PRIOR, kk.Plan(20, None), engine=engine)]
    found = [run(engine)[-1].herd.params for engine in (Loop(), Stack(), Dense())]
    for name, t in found[0].items():
        assert torch.allclose(found[1][name], t, atol=1e-10, rtol=0), name
        assert torch.allclose(found[2][name], t, atol=1e-10, rtol=0), name


def test_inputs_that_do_not_matter_are_let_go():
    """Three of twenty inputs matter: under the Cauchy prior the others' weights nearly vanish, and predictions gain."""
    g = torch.Generator().manual_seed(3)
    x = torch.randn(600, 20, generator=g, dtype=torch.float64)
    clean = torch.tanh(3 * (x[:, 0] - x[:, 1])) + 0.5 * x[:, 2]
    y = clean + 0.5 * torch.randn(600, generator=g, dtype=torch.float64)
    data = data_of(x[:300], y[:300])
    errors = {}
    net = lambda: kk.networks.MLP(20, [16], 1, activation="tanh", skip=True).double()
    sparse = Cauchy((("hidden.0.weight", 0.03), ("skip.weight", 0.01)))
    for name, prior in (("sparse", sparse), ("normal", Normal(1.0))):
        made = kk.herd(net, seed=range(1))
        plan = kk.Plan(400, None, schedule=kk.Cosine())
        *_, last = kk.train(made, data, kk.Gaussian(0.5, learn=False), kk.Adam(0.03), prior, plan)
        errors[name] = float((last.herd(x[300:])[0, :, 0] - clean[300:]).square().mean())
        if name == "sparse":
            reach = last.herd.params["hidden.0.weight"][0].abs().amax(0)
            assert float(reach[3:].max()) < 0.1 * float(reach[:2].min())
    assert errors["sparse"] < 0.3 * errors["normal"]


def test_it_comes_back_from_its_config():
    assert from_config(PRIOR.config()) == PRIOR


@pytest.mark.parametrize(
    "wrong", [{"scales": ()}, {"scales": (("w", 0.0),)}, {"precision": -1.0}, {"spread": math.inf}]
)
def test_what_is_no_scale_is_refused(wrong):
    with pytest.raises(UsageError, match="Cauchy got"):
        replace(PRIOR, **wrong)
