"""Every optimizer, schedule and the clipping against torch's own, in float64."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.func import functional_call, grad

from kokkiri.numerics.random import generator
from kokkiri.optimizers import (
    SGD,
    Adagrad,
    Adam,
    AdamW,
    Constant,
    Cosine,
    GradientDescent,
    Momentum,
    Nesterov,
    RMSprop,
    StepDecay,
    WarmUp,
    clip_by_norm,
)

T = torch.optim
PAIRS = [
    (GradientDescent(0.1), lambda ps: T.SGD(ps, 0.1)),
    (SGD(0.03), lambda ps: T.SGD(ps, 0.03)),
    (Momentum(0.02, 0.8), lambda ps: T.SGD(ps, 0.02, momentum=0.8)),
    (Nesterov(0.02, 0.8), lambda ps: T.SGD(ps, 0.02, momentum=0.8, nesterov=True)),
    (Adagrad(), T.Adagrad),
    (Adagrad(0.05, 1e-4), lambda ps: T.Adagrad(ps, 0.05, eps=1e-4)),
    (RMSprop(), T.RMSprop),
    (RMSprop(0.003, 0.9, 1e-4), lambda ps: T.RMSprop(ps, 0.003, 0.9, 1e-4)),
    (Adam(), T.Adam),
    (Adam(0.02, 0.8, 0.95, 1e-3), lambda ps: T.Adam(ps, 0.02, (0.8, 0.95), 1e-3)),
    (AdamW(), T.AdamW),
    (AdamW(0.02, 0.8, 0.95, 1e-3, 0.3), lambda ps: T.AdamW(ps, 0.02, (0.8, 0.95), 1e-3, 0.3)),
]


def exact(a, b):
    torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-13)


def problem(seed=0):
    """A random network with random data, float64, and its loss on a batch of step t."""
    random = generator(seed, "test")
    with torch.random.fork_rng(devices=[]):
        net = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 2)).double()
    for p in net.parameters():
        p.data = torch.randn(p.shape, generator=random, dtype=torch.float64)
    x, y = (torch.randn(100, k, generator=random, dtype=torch.float64) for k in (3, 2))
    loss = lambda out, t: (out - y[10 * (t % 10) : 10 * (t % 10) + 10]).square().mean()
    return net, lambda t: x[10 * (t % 10) : 10 * (t % 10) + 10], loss


@pytest.mark.parametrize(("ours", "theirs"), PAIRS, ids=[repr(o) for o, _ in PAIRS])
@pytest.mark.parametrize("schedule", [Constant(), WarmUp(0.1)], ids=["constant", "warm-up"])
def test_a_hundred_steps_are_those_of_torch(ours, theirs, schedule):
    net, x, loss = problem()
    params, start = ({k: p.detach().clone() for k, p in net.named_parameters()} for _ in range(2))
    optimizer, state = theirs(net.parameters()), ours.init(params)
    rate = T.lr_scheduler.LambdaLR(optimizer, lambda step: schedule(step, 100))
    gradient = grad(lambda params, t: loss(functional_call(net, params, (x(t),)), t))
    for t in range(100):
        params, state = ours.step(params, gradient(params, t), state, {"lr": ours.lr * schedule(t, 100)})
        optimizer.zero_grad()
        loss(net(x(t)), t).backward()
        optimizer.step()
        rate.step()
    for name, p in net.named_parameters():
        exact(params[name], p.detach())
        assert (p - start[name]).abs().max() > 1e-3  # they went somewhere


def rates(make, steps):
    """What a torch scheduler makes of a learning rate of 1."""
    optimizer = T.SGD([nn.Parameter(torch.zeros(1))], 1.0)
    scheduler, out = make(optimizer), []
    for _ in range(steps):
        out.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return out


S = T.lr_scheduler
SCHEDULES = [
    (Constant(), 7, lambda o: S.ConstantLR(o, factor=1.0)),
    (StepDecay(), 8, lambda o: S.MultiStepLR(o, [4, 6], 0.1)),
    (StepDecay(), 7, lambda o: S.MultiStepLR(o, [4, 6], 0.1)),  # 3.5 and 5.25, rounded up
    (StepDecay(0.5, (0.1, 0.7)), 30, lambda o: S.MultiStepLR(o, [3, 21], 0.5)),
    (Cosine(), 20, lambda o: S.CosineAnnealingLR(o, 20)),
    (Cosine(0.1), 20, lambda o: S.CosineAnnealingLR(o, 20, eta_min=0.1)),
    (
        WarmUp(0.25),
        40,
        lambda o: S.SequentialLR(o, [S.LinearLR(o, 0.1, total_iters=9), S.CosineAnnealingLR(o, 30)], [10]),
    ),
]


@pytest.mark.parametrize(("ours", "steps", "theirs"), SCHEDULES)
@pytest.mark.filterwarnings("ignore:The epoch parameter")  # SequentialLR calls the schedulers inside it in an old way
def test_schedules_are_those_of_torch(ours, steps, theirs):
    assert [ours(t, steps) for t in range(steps)] == pytest.approx(rates(theirs, steps), rel=1e-10)


@pytest.mark.parametrize("limit", [0.1, 1.0, 100.0, torch.tensor(0.5, dtype=torch.float64)])
def test_clipping_is_that_of_torch(limit):
    net, x, loss = problem(1)
    loss(net(x(0)), 0).backward()
    grads = {k: p.grad.clone() for k, p in net.named_parameters()}
    kept = {k: g.clone() for k, g in grads.items()}
    clipped = clip_by_norm(grads, limit)
    nn.utils.clip_grad_norm_(net.parameters(), float(limit))
    for name, p in net.named_parameters():
        exact(clipped[name], p.grad)
        assert torch.equal(grads[name], kept[name])
