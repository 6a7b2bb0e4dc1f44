"""The laws of the herd, in float64."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests_support import data_of
from torch import nn

from kokkiri.errors import UsageError
from kokkiri.herd import herd, reweight, sweep
from kokkiri.likelihoods import Bernoulli, Categorical, Gaussian, StudentT
from kokkiri.networks import MLP
from kokkiri.optimizers import Adam, AdamW, Cosine, GradientDescent, Momentum
from kokkiri.priors import Flat, Normal
from kokkiri.training import Dense, Loop, Plan, Stack, train
from kokkiri.training.engines import lifts
from kokkiri.training.objective import log_joint

SHAPES = [
    {},
    {"norm": True, "activation": "gelu"},
    {"residual": True, "skip": True, "activation": "tanh"},
    {"activation": "silu"},
    {"activation": "sigmoid"},
]
ENGINES = [Loop(), Stack(chunk=2), Dense(chunk=2)]


def some_data(likelihood, n=40, seed=0):
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 3, generator=g, dtype=torch.float64)
    f = torch.sin(x[:, 0]) + 0.3 * torch.randn(n, generator=g, dtype=torch.float64)
    if isinstance(likelihood, Bernoulli):
        return data_of(x, (f > 0).long(), "category", ("a", "b"))
    if isinstance(likelihood, Categorical):
        return data_of(x, (f > -0.3).long() + (f > 0.3).long(), "category", ("a", "b", "c"))
    return data_of(x, f)


def net(likelihood, **options):
    targets = 3 if isinstance(likelihood, Categorical) else 1
    return lambda: MLP(3, [6, 6], likelihood.outputs(targets), **options).double()


def last(*arguments, **options):
    *_, moment = train(*arguments, **options)
    return moment


def same(a, b, rtol=1e-9):
    assert a.keys() == b.keys()
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=rtol, atol=1e-11)


@pytest.mark.parametrize("engine", ENGINES[1:], ids=lambda e: e.name)
@pytest.mark.parametrize("likelihood", [Gaussian(), StudentT(), Bernoulli(), Categorical()], ids=repr)
@pytest.mark.parametrize("options", SHAPES, ids=str)
def test_every_engine_gives_the_loops_answer(engine, likelihood, options):
    h = sweep(herd(net(likelihood, **options), seed=range(2)), lr=[0.01, 0.03])
    plan = Plan(steps=15, batch=16, schedule=Cosine(), clip=0.5)
    data = some_data(likelihood)
    answers = [last(h, data, likelihood, Adam(), Normal(2.0), plan, engine=e) for e in (Loop(), engine)]
    same(*(a.herd.params for a in answers))
    torch.testing.assert_close(answers[0].train, answers[1].train, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("engine", ENGINES, ids=lambda e: e.name)
def test_folds_and_early_stopping_are_the_same_in_every_engine(engine):
    likelihood = Gaussian()
    seen = (torch.arange(40) % 3 != torch.arange(3)[:, None]).double()
    h = reweight(herd(net(likelihood), seed=range(1)), "fold", seen)
    plan = Plan(steps=120, batch=16, every=5, patience=3)
    data = some_data(likelihood)
    reference = last(h, data, likelihood, Adam(lr=0.05), Normal(0.1), plan, engine=Loop())
    answer = last(h, data, likelihood, Adam(lr=0.05), Normal(0.1), plan, engine=engine)
    assert reference.curve().best == answer.curve().best
    assert not reference.running
    same(reference.herd.params, answer.herd.params)


@pytest.mark.parametrize("engine", ENGINES, ids=lambda e: e.name)
def test_a_replica_does_not_feel_its_herd(engine):
    likelihood = Gaussian()
    h = sweep(herd(net(likelihood), seed=range(2)), lr=[0.01, 0.1], precision=[1.0, 5.0])
    arguments = (some_data(likelihood), likelihood, Adam(), Normal(), Plan(steps=20, batch=16, seed=3))
    together = last(h, *arguments, engine=engine).herd
    for r in (0, 3, 7):
        same(together[r].params, last(h[r], *arguments, engine=engine).herd.params)


@pytest.mark.parametrize("engine", ENGINES, ids=lambda e: e.name)
@settings(max_examples=5, deadline=None)
@given(order=st.permutations(range(4)))
def test_the_order_of_replicas_does_not_matter(engine, order):
    likelihood = Bernoulli()
    h = sweep(herd(net(likelihood), seed=range(2)), lr=[0.01, 0.1])
    arguments = (some_data(likelihood), likelihood, Adam(), Normal(), Plan(steps=6, batch=16))
    a = last(h, *arguments, engine=engine).herd[list(order)]
    b = last(h[list(order)], *arguments, engine=engine).herd
    same(a.params, b.params)


@pytest.mark.parametrize("engine", ENGINES, ids=lambda e: e.name)
def test_weight_zero_is_absent_and_weight_two_is_twice(engine):
    likelihood = Gaussian()
    data = some_data(likelihood)
    h = herd(net(likelihood), seed=range(1))
    plan = Plan(steps=25, batch=None)
    weight = torch.ones(1, 40, dtype=torch.float64)
    weight[0, :10], weight[0, 10:15] = 0, 2
    weighted = last(reweight(h, "w", weight), data, likelihood, GradientDescent(0.1), Normal(), plan, engine=engine)
    rows = torch.cat([torch.arange(10, 40), torch.arange(10, 15)])
    plain = last(h, data.rows(rows), likelihood, GradientDescent(0.1), Normal(), plan, engine=engine)
    same(weighted.herd.params, plain.herd.params)


def test_log_joint_counts_weights_as_rows():
    ll = torch.randn(6, dtype=torch.float64)
    params = {"w": torch.randn(3, dtype=torch.float64)}
    weight = torch.tensor([0.0, 2.0, 1, 1, 1, 1], dtype=torch.float64)
    hyper = {"precision": torch.tensor(2.0, dtype=torch.float64)}
    once = torch.cat([ll[1:2], ll[1:]])
    torch.testing.assert_close(
        log_joint(ll, weight, Normal(), params, hyper), log_joint(once, None, Normal(), params, hyper)
    )


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (Adam(lr=0.02), lambda p: torch.optim.Adam(p, lr=0.02)),
        (AdamW(lr=0.02, decay=0.1), lambda p: torch.optim.AdamW(p, lr=0.02, weight_decay=0.1)),
        (Momentum(lr=0.05), lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9)),
    ],
    ids=["adam", "adamw", "momentum"],
)
@pytest.mark.parametrize("engine", ENGINES, ids=lambda e: e.name)
def test_a_herd_of_one_is_an_ordinary_torch_loop(engine, ours, theirs):
    likelihood = Gaussian(learn=False)
    data = some_data(likelihood)
    h = herd(net(likelihood), seed=[5])
    module = h.module().train()
    optimizer = theirs(module.parameters())
    for _ in range(100):
        optimizer.zero_grad()
        (0.5 * (module(data.x)[:, 0] - data.y) ** 2).mean().backward()
        optimizer.step()
    moment = last(h, data, likelihood, ours, Flat(), Plan(steps=100, batch=None), engine=engine)
    same({n: t[0] for n, t in moment.herd.params.items()}, {n: p.detach() for n, p in module.named_parameters()}, 1e-8)


def test_the_normal_prior_is_weight_decay():
    likelihood = Gaussian(learn=False)
    data = some_data(likelihood)
    h = herd(net(likelihood), seed=[1])
    module = h.module().train()
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1, weight_decay=3.0 / 40)  # precision / n
    for _ in range(50):
        optimizer.zero_grad()
        (0.5 * (module(data.x)[:, 0] - data.y) ** 2).mean().backward()
        optimizer.step()
    moment = last(h, data, likelihood, GradientDescent(0.1), Normal(3.0), Plan(steps=50, batch=None))
    same({n: t[0] for n, t in moment.herd.params.items()}, {n: p.detach() for n, p in module.named_parameters()})


class Branching(nn.Module):
    """A network that looks at its data, ties two weights, and keeps running statistics."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.norm = nn.Linear(3, 3), nn.Linear(3, 3), nn.BatchNorm1d(3)
        self.b.weight = self.a.weight
        self.out = nn.Linear(3, 1)

    def forward(self, x):
        h = self.a(x)
        if h.sum() > 0:
            h = self.b(h.relu())
        return self.out(self.norm(h))


def test_a_network_with_control_flow_ties_and_buffers_trains_in_the_loop_and_says_why():
    likelihood = Gaussian()
    data = some_data(likelihood)
    h = herd(lambda: Branching().double(), seed=range(2))
    assert "a.weight" in h.params
    assert "b.weight" not in h.params
    x = data.x[:4]
    assert lifts(h.network, h.params, h.buffers, x)
    moment = last(h, data, likelihood, Adam(lr=0.02), Normal(), Plan(steps=30, batch=16))
    assert torch.isfinite(moment.train).all()
    assert not torch.equal(moment.herd.buffers["norm.running_mean"], h.buffers["norm.running_mean"])
    module = moment.herd.module(1)
    torch.testing.assert_close(module(x), moment.herd(x)[1])
    assert module.a.weight is module.b.weight


def test_a_silently_wrong_lift_is_noticed():
    class Sneaky(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.ones(()))

        def forward(self, x):
            lifted = torch._C._functorch.maybe_get_level(self.w) > 0
            return x[:, :1] * self.w + (1.0 if lifted else 0.0)

    h = herd(Sneaky, seed=range(2))
    assert "other numbers" in lifts(h.network, h.params, h.buffers, torch.ones(3, 1))


def test_nothing_that_was_handed_in_changes():
    likelihood = Gaussian()
    data, network = some_data(likelihood), net(likelihood, dropout=0.3)()
    before, state = copy.deepcopy(network.state_dict()), torch.get_rng_state()
    h = herd(network)
    kept = {n: t.clone() for n, t in h.params.items()}
    moment = last(h, data, likelihood, Adam(), Normal(), Plan(steps=10, batch=8))
    assert torch.equal(torch.get_rng_state(), state)
    same(dict(network.state_dict()), dict(before), 0)
    same(h.params, kept, 0)
    assert network.training
    assert not torch.equal(moment.herd.params["output.weight"], h.params["output.weight"])


@pytest.mark.parametrize("engine", [Loop(), Dense()], ids=lambda e: e.name)
def test_dropout_is_a_function_of_seed_and_step(engine):
    likelihood = Gaussian()
    h = herd(net(likelihood, dropout=0.5), seed=range(1))
    run = lambda seed, e: last(
        h, some_data(likelihood), likelihood, Adam(), Normal(), Plan(steps=10, batch=8, seed=seed), engine=e
    )
    same(run(1, engine).herd.params, run(1, Loop()).herd.params)
    assert not torch.allclose(run(1, engine).herd.params["output.weight"], run(2, engine).herd.params["output.weight"])


def test_a_hyperparameter_that_nobody_has_is_refused():
    likelihood = Gaussian()
    h = sweep(herd(net(likelihood), seed=range(1)), momentum=[0.5])
    with pytest.raises(UsageError, match="momentum"):
        last(h, some_data(likelihood), likelihood, Adam(), Normal(), Plan(steps=1))


def test_a_learning_rate_that_is_far_too_large_is_reported_and_the_weights_stay_finite():
    likelihood = Gaussian(learn=False)
    h = sweep(herd(net(likelihood, activation="identity"), seed=[0]), lr=[1e6, 0.01])
    moment = last(h, some_data(likelihood), likelihood, GradientDescent(1.0), Flat(), Plan(steps=60, batch=None))
    assert moment.diverged == (0,)
    assert all(bool(t.isfinite().all()) for t in moment.herd.params.values())
