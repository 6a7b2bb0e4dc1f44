"""Masks of dropout: torch's law, fixed over rows, functions of their seed; what cannot be masked is refused."""

from __future__ import annotations

import pytest
import torch
from tests_support import fitted, some_numbers
from torch import nn
from torch.special import ndtr

import kokkiri as kk
from kokkiri.errors import Unsupported, UsageError
from kokkiri.networks.dense import program
from kokkiri.numerics.random import generator
from kokkiri.posteriors.dropout import Dropout, Masked, masked
from kokkiri.posteriors.recipe import Recipe

SHARED = nn.Dropout(0.5)


def networks():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield "one module called at two widths", kk.networks.MLP(3, [6, 9], 2, dropout=0.3), (3,)
        yield "residual", kk.networks.MLP(3, [6, 6], 2, dropout=0.3, residual=True, norm=True), (3,)
        twice = nn.Sequential(nn.Linear(3, 5), SHARED, nn.Tanh(), nn.Linear(5, 4), SHARED, nn.Linear(4, 2))
        yield "one module under two names", twice, (3,)
        channels = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Dropout2d(0.4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2))
        yield "whole channels", channels, (1, 4, 4)
        yield "input", nn.Sequential(nn.Dropout(0.2), nn.Linear(3, 2)), (3,)


NETWORKS = list(networks())
each = pytest.mark.parametrize(("net", "shape"), [n[1:] for n in NETWORKS], ids=[n[0] for n in NETWORKS])


def rows(shape, n=5):
    return torch.randn(n, *shape, generator=generator(1, "rows"))


def same_mean(a, b):
    """p-value that two samples (S, ...) have one mean, of the most suspicious entry, for as many as there are."""
    z = (a.mean(0) - b.mean(0)) / (a.var(0) / len(a) + b.var(0) / len(b)).sqrt()
    return min(1.0, float(2 * ndtr(-z.abs().double()).min()) * z.numel())


@each
def test_masks_have_the_law_of_dropout_in_training(net, shape):
    x, many = rows(shape), 3000
    drawn = masked(kk.herd(net), many, seed=0)(x)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(1)
        theirs = torch.cat([net.train()(x.repeat(100, *[1] * len(shape))).reshape(100, 5, 2) for _ in range(30)])
    net.eval()
    assert same_mean(drawn, theirs) > 1e-6
    assert same_mean(drawn.square(), theirs.square()) > 1e-6  # rows alone: of two rows together, masks are shared here
    assert drawn.std(0).min() > 1e-3


@each
def test_a_draw_is_a_function_of_its_inputs_and_its_seed(net, shape):
    x, models = rows(shape), kk.herd(net)
    before = torch.get_rng_state()
    drawn, again, other = (masked(models, 4, seed=s) for s in (3, 3, 4))
    whole = drawn(x)
    assert torch.equal(whole, again(x))
    torch.testing.assert_close(whole[:, 2:3], drawn(x[2:3]))
    assert not torch.allclose(whole, other(x))
    assert not torch.allclose(whole[0], whole[1])
    assert torch.equal(before, torch.get_rng_state())
    torch.testing.assert_close(drawn.module(2)(x), whole[2])
    more = masked(models, 6, seed=3)(x)
    assert torch.equal(more[:4], whole)  # more draws begin with the fewer


def test_calls_of_one_module_have_masks_of_their_own():
    net = kk.networks.MLP(3, [400, 400], 2, dropout=0.5)
    module = masked(kk.herd(net), 1, seed=0).module()
    seen = []
    module.dropout.register_forward_hook(lambda _m, inputs, output: seen.append(output / inputs[0]))
    module(torch.ones(1, 3))
    one, two = ((m[0] > 0)[~m[0].isnan()] for m in seen)
    k = min(len(one), len(two))
    agree = (one[:k] == two[:k]).double().mean()
    assert abs(agree - 0.5) < 5 * 0.5 / k**0.5


def test_the_network_and_its_weights_stay_as_they_are():
    net = kk.networks.MLP(3, [6], 2, dropout=0.3)
    models = kk.herd(net)
    drawn = masked(models, 3, seed=0)
    assert isinstance(net.dropout, nn.Dropout)
    assert isinstance(models.network.dropout, nn.Dropout)
    assert isinstance(drawn.network.dropout, Masked)
    assert all(torch.equal(t, models.params[n].expand_as(t)) for n, t in drawn.params.items())
    assert program(drawn.network) is None  # no engine steps it by hand, and forgets the masks


def test_several_networks_are_taken_in_turn():
    models = kk.herd(lambda: kk.networks.MLP(3, [6], 2, dropout=0.3), seed=range(2))
    drawn = masked(models, 5, seed=0)
    for name, t in models.params.items():
        assert torch.equal(drawn.params[name], t[[0, 1, 0, 1, 0]])


class Turned(nn.Module):
    """Rows on the second axis while it drops."""

    def __init__(self):
        super().__init__()
        self.linear, self.drop, self.out = nn.Linear(3, 4), nn.Dropout(0.5), nn.Linear(4, 1)

    def forward(self, x):
        return self.out(self.drop(self.linear(x).mT).mT)


class Idle(nn.Module):
    """A dropout that nobody calls."""

    def __init__(self):
        super().__init__()
        self.linear, self.drop = nn.Linear(3, 1), nn.Dropout(0.5)

    def forward(self, x):
        return self.linear(x)


REFUSED = [
    (kk.networks.MLP(3, [4], 1), UsageError, "MLP has no dropout"),
    (nn.Sequential(nn.Dropout(0.0), nn.Linear(3, 1)), UsageError, "Sequential has no dropout"),
    (nn.Sequential(nn.AlphaDropout(0.1), nn.Linear(3, 1)), Unsupported, "dropout of 0 .AlphaDropout"),
    (nn.TransformerEncoderLayer(4, 2, dropout=0.1), Unsupported, "dropout of self_attn"),
]


@pytest.mark.parametrize(("net", "error", "says"), REFUSED)
def test_what_cannot_be_masked_is_refused_before_training(net, error, says):
    with pytest.raises(error, match=says):
        Dropout().herd(net, seed=0)


@pytest.mark.parametrize(("net", "says"), [(Turned(), "rows beside it"), (Idle(), "takes no part")])
def test_what_runs_and_is_wrong_is_refused_after_a_look(net, says):
    with pytest.raises(Unsupported, match=says):
        fitted(Dropout(), net, some_numbers(), steps=2)


def test_it_is_a_recipe():
    assert isinstance(Dropout(), Recipe)
    with pytest.raises(UsageError):
        Dropout(size=0)
