"""MLP, ConvNet, Embeddings: shapes, special cases, lifting, saving, describing, refusing."""

from __future__ import annotations

import copy
import json
import math
from itertools import starmap

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.func import functional_call, grad, stack_module_state, vmap

from kokkiri.data.core import Group, Inputs
from kokkiri.errors import KokkiriError, ModelError, ShapeError, UsageError
from kokkiri.networks import MLP, ConvNet, Embeddings, config, describe, from_config
from kokkiri.networks.activations import OUTPUT_SCALE
from kokkiri.numerics.random import generator

pytestmark = pytest.mark.usefixtures("own_generator")

ACTIVATIONS = ("relu", "sigmoid", "tanh", "gelu", "silu", "identity")
TABLE = Inputs(
    (30,),
    (Group("age", 0, 1, "number"), Group("city", 1, 15, "category"), Group("sex", 15, 18, "category"),
     Group("born", 18, 19, "date"), Group("job", 19, 30, "category")),
)  # fmt: skip
widths = st.lists(st.integers(1, 6), max_size=3)
quick = settings(deadline=None, max_examples=30)


@pytest.fixture
def own_generator():
    """Making a network draws from the global generator, which other tests are to find as it was."""
    with torch.random.fork_rng(devices=[]):
        yield


def seeded(make, seed=0):
    """A network of which the seed decides everything, in float64, the global generator left alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make().double()


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=generator(seed, "test"), dtype=torch.float64)


def exact(a, b):
    torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


def rows(n, seed=0):
    """Encoded rows of TABLE, the levels of each category."""
    levels = {g.name: torch.randint(g.stop - g.start, (n,), generator=generator(seed, g.name)) for g in TABLE.groups}
    one_hot = lambda g: nn.functional.one_hot(levels[g.name], g.stop - g.start).double()
    parts = [one_hot(g) if g.kind == "category" else randn(n, 1, seed=g.start) for g in TABLE.groups]
    return torch.cat(parts, 1), levels


NETWORKS = {
    "linear": lambda: MLP(7, [], 2),
    "mlp": lambda: MLP(7, [5, 5], 2, activation="tanh"),
    "everything": lambda: MLP(7, [7, 5, 5], 2, activation="gelu", norm=True, residual=True, skip=True),
    "embedded": lambda: MLP(TABLE, [6], 2, activation="silu", skip=True),
    "convnet": lambda: ConvNet((2, 8, 9), 2, channels=(3, 4), dense=5),
}
every = pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS)


def example(net, n=4):
    return rows(n)[0] if net.inputs.groups else randn(n, *net.inputs.shape)


@quick
@given(
    st.lists(st.integers(1, 4), min_size=1, max_size=3), widths, st.integers(1, 4), st.sampled_from(ACTIVATIONS),
    st.booleans(), st.booleans(), st.booleans(), st.integers(1, 3),
)  # fmt: skip
def test_an_mlp_has_the_outputs_it_promises(shape, hidden, outputs, name, norm, residual, skip, batch):
    options = {"activation": name, "norm": norm, "residual": residual, "skip": skip, "dropout": 0.5}
    net = seeded(lambda: MLP(tuple(shape), hidden, outputs, **options)).eval()
    x = randn(batch, *shape)
    assert net(x).shape == (batch, outputs)
    exact(net(x), net(x.flatten(1)))
    exact(net(x)[:1], net(x[:1]))  # a row does not feel its batch
    sizes = [x[0].numel(), *hidden]
    count = sum((i + 1) * o for i, o in zip(sizes, [*hidden, outputs], strict=True))
    count += 2 * sum(hidden) * norm + sizes[0] * outputs * (skip and bool(hidden))
    assert sum(p.numel() for p in net.parameters()) == count


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (3, 32, 32), (2, 1, 5)])
@pytest.mark.parametrize("pool", [1, 2, 3])
def test_a_convnet_takes_small_and_large_images(shape, pool):
    net = seeded(lambda: ConvNet(shape, 3, channels=(2, 3), dense=4, pool=pool, dropout=0.5)).eval()
    x = randn(2, *shape)
    assert net(x).shape == (2, 3)
    exact(net(x)[:1], net(x[:1]))


def test_images_are_pooled_where_four_pixels_remain():
    features = {shape: ConvNet((1, shape, shape), 10).features[1] for shape in (4, 8, 15, 16, 28, 32)}
    assert features == {4: 4, 8: 4, 15: 7, 16: 4, 28: 7, 32: 8}


@quick
@given(widths, st.booleans(), st.booleans(), st.integers(0, 99))
def test_layers_without_activations_collapse_into_one_affine_map(hidden, residual, skip, seed):
    net = seeded(lambda: MLP(3, hidden, 2, activation="identity", residual=residual, skip=skip), seed)
    offset = net(torch.zeros(1, 3, dtype=torch.float64))
    matrix = net(torch.eye(3, dtype=torch.float64)) - offset
    x = randn(5, 3, seed=seed)
    exact(net(x), x @ matrix + offset)


def test_a_layer_with_an_activation_does_not_collapse():
    for name in ACTIVATIONS[:-1]:
        net = seeded(lambda name=name: MLP(3, [4], 2, activation=name))
        offset = net(torch.zeros(1, 3, dtype=torch.float64))
        x = randn(5, 3)
        assert (net(x) - x @ (net(torch.eye(3, dtype=torch.float64)) - offset) - offset).abs().max() > 1e-6, name


@quick
@given(st.lists(st.integers(1, 5), min_size=1, max_size=3), st.integers(0, 99))
def test_a_skip_contains_the_linear_model(hidden, seed):
    net = seeded(lambda: MLP(4, hidden, 2, skip=True), seed)
    nn.init.zeros_(net.output.weight)
    x = randn(5, 4, seed=seed)
    exact(net(x), x @ net.skip.weight.T + net.output.bias)


@quick
@given(st.integers(1, 5), st.integers(1, 3), st.sampled_from(["relu", "tanh", "gelu", "silu"]), st.integers(0, 99))
def test_residual_layers_contain_the_linear_model(width, depth, name, seed):
    net = seeded(lambda: MLP(width, [width] * depth, 2, activation=name, residual=True), seed)
    for p in net.hidden.parameters():
        nn.init.zeros_(p)
    x = randn(5, width, seed=seed)
    exact(net(x), x @ net.output.weight.T + net.output.bias)


def test_a_residual_is_added_where_widths_are_equal_only():
    net = seeded(lambda: MLP(3, [5, 5], 2, activation="tanh", residual=True))
    x, (first, second) = randn(4, 3), net.hidden
    h = torch.tanh(first(x))
    exact(net(x), net.output(h + torch.tanh(second(h))))


def test_a_normalised_layer_is_normalised_before_its_activation():
    net = seeded(lambda: MLP(3, [5], 2, norm=True))
    x = randn(4, 3)
    f = net.hidden[0](x)
    z = (f - f.mean(1, keepdim=True)) / (f.var(1, correction=0, keepdim=True) + 1e-5).sqrt()
    exact(net(x), net.output(torch.relu(z)))


@every
def test_a_lifted_stack_is_the_loop(make):
    nets = [seeded(make, seed) for seed in range(3)]
    x, target = example(nets[0]), randn(4, 2, seed=5)
    params, buffers = stack_module_state(nets)
    skeleton = copy.deepcopy(nets[0])
    loss = lambda p, b, x: (functional_call(skeleton, (p, b), (x,)) - target).square().mean()
    outputs = vmap(lambda p, b, x: functional_call(skeleton, (p, b), (x,)), (0, 0, None))(params, buffers, x)
    grads = vmap(grad(loss), (0, 0, None))(params, buffers, x)
    for r, net in enumerate(nets):
        exact(outputs[r], net(x))
        (net(x) - target).square().mean().backward()
        for name, p in net.named_parameters():
            exact(grads[name][r].detach(), p.grad)


@every
def test_gradients_are_those_of_finite_differences(make):
    net = seeded(make)
    x = example(net, 2)
    names = list(dict(net.named_parameters()))
    f = lambda *values: functional_call(net, dict(zip(names, values, strict=True)), (x,))
    with torch.random.fork_rng(devices=[]):
        assert torch.autograd.gradcheck(f, tuple(net.parameters()), fast_mode=True)


@pytest.mark.parametrize("make", [lambda d: MLP(7, [50], 2, dropout=d), lambda d: ConvNet((1, 4, 4), 2, dropout=d)])
def test_dropout_acts_in_training_only_and_keeps_the_mean(make):
    net = seeded(lambda: make(0.5))
    bare = seeded(lambda: make(0.0))
    x = randn(1, *net.inputs.shape)
    exact(net.eval()(x), bare(x))
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        many = net.train()(x.expand(4000, *x.shape[1:]))
    z = (many.mean(0) - bare(x)[0].detach()) / (many.std(0) / math.sqrt(4000))
    assert many.std(0).min() > 0
    assert torch.special.erfc(z.abs() / math.sqrt(2)).min() > 1e-6  # two-sided p-values of the mean


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_signals_neither_grow_nor_fade_with_depth(name):
    net = seeded(lambda: MLP(200, [200] * 8, 200, activation=name))
    h = first = randn(200, 200)
    with torch.no_grad():
        for layer in net.hidden:
            h = net.activation(layer(h))
    ratio = h.std(0).mean() / first.std(0).mean()  # of what differs between rows
    assert 0.1 < ratio < 1.2  # 0.12 to 1.04 over 20 seeds; torch's own initial weights give 1e-7 to 0.013


def test_kinks_of_relu_units_on_one_input_are_spread():
    layer = seeded(lambda: MLP(1, [50], 1)).hidden[0]
    kinks = -layer.bias / layer.weight[:, 0]
    assert kinks.std() > 0.1  # they are all 0 without initial biases


def test_an_untrained_network_says_nearly_nothing():
    net = seeded(lambda: MLP(100, [200, 200], 50, skip=True))
    exact(net.output.bias, torch.zeros(50, dtype=torch.float64))
    for layer in (net.output, net.skip):
        assert layer.weight.std().item() * math.sqrt(layer.in_features) == pytest.approx(OUTPUT_SCALE, rel=0.05)
    assert net(randn(100, 100)).std() < 0.3


def test_making_a_network_draws_from_the_global_generator_alone():
    one, same, other = (seeded(NETWORKS["everything"], seed) for seed in (3, 3, 4))
    assert all(starmap(torch.equal, zip(one.parameters(), same.parameters(), strict=True)))
    assert not torch.equal(one.output.weight, other.output.weight)


def test_embeddings_are_lookups():
    net = seeded(lambda: Embeddings(TABLE))
    x, levels = rows(9)
    sizes = {"city": 7, "job": 6}  # 14 and 11 levels: round(1.6 · 14^0.56), round(1.6 · 11^0.56)
    tables = [nn.Embedding.from_pretrained(layer.weight.detach().T) for layer in net.categories]
    assert [(t.num_embeddings, t.embedding_dim) for t in tables] == [(14, 7), (11, 6)]
    city, job = (table(levels[name]) for table, name in zip(tables, sizes, strict=True))
    exact(net(x).detach(), torch.cat([x[:, :1], city, x[:, 15:19], job], 1))
    assert net.width == net(x).shape[1] == 1 + 7 + 4 + 6


def test_an_unseen_level_has_a_vector_of_zeros():
    net = seeded(lambda: Embeddings(TABLE))
    assert torch.equal(net(torch.zeros(1, 30, dtype=torch.float64)), torch.zeros(1, net.width, dtype=torch.float64))


@pytest.mark.parametrize(("limit", "embedded"), [(10, 2), (11, 1), (14, 0)])
def test_categories_above_the_limit_are_embedded(limit, embedded):
    assert len(Embeddings(TABLE, limit).categories) == embedded  # of 14, 3 and 11 levels


def test_no_vector_is_longer_than_fifty():
    assert Embeddings(Inputs((900,), (Group("zip", 0, 900, "category"),))).width == 50


def test_categories_are_embedded_where_some_are_large():
    small = Inputs((3,), (Group("sex", 0, 3, "category"),))
    assert MLP(TABLE, [4], 1).embed is not None
    assert MLP(TABLE, [4], 1, embed=False).embed is None
    assert MLP(small, [4], 1).embed is None
    with pytest.raises(UsageError, match="nothing to embed"):
        MLP(small, [4], 1, embed=True)


MADE = {
    **NETWORKS,
    "embeddings": lambda: Embeddings(TABLE, limit=12),
    "bare table": lambda: MLP(TABLE, (3,), 1, embed=False, dropout=0.2),
}


@pytest.mark.parametrize("make", MADE.values(), ids=MADE)
def test_a_configuration_survives_json(make):
    net = seeded(make)
    again = seeded(lambda: from_config(json.loads(json.dumps(config(net)))), seed=1)
    again.load_state_dict(net.state_dict())
    x = example(net)
    assert torch.equal(again.eval()(x), net.eval()(x))
    assert config(again) == config(net)


def test_others_networks_have_no_configuration():
    class Own(MLP):
        pass

    assert config(Own(2, [3], 1)) is None
    assert config(nn.Linear(2, 1)) is None


@every
def test_a_description_counts_every_parameter_once(make):
    net = seeded(make)
    described = describe(net, net.inputs)
    assert sum(row.parameters for row in described) == sum(p.numel() for p in net.parameters())
    assert (described[-1].name, described[-1].shape) in {("output", (2,)), ("skip", (2,))}
    assert all(dict(net.named_modules())[row.name].__class__.__name__ == row.type for row in described)


def test_a_description_follows_the_calls():
    described = describe(ConvNet((1, 8, 8), 10, channels=(3, 4), dense=5, dropout=0.1), (1, 8, 8))
    assert [tuple(row) for row in described] == [
        ("convolutions.0", "Conv2d", (3, 8, 8), 30),
        ("pool", "MaxPool2d", (3, 4, 4), 0),
        ("activation", "ReLU", (3, 4, 4), 0),
        ("convolutions.1", "Conv2d", (4, 4, 4), 112),
        ("activation", "ReLU", (4, 4, 4), 0),
        ("dense", "Linear", (5,), 325),
        ("activation", "ReLU", (5,), 0),
        ("dropout", "Dropout", (5,), 0),
        ("output", "Linear", (10,), 60),
    ]


class Odd(nn.Module):
    """Owns a parameter, ties two layers, leaves one unused, draws noise, counts its calls in a buffer."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(3))
        self.a, self.b, self.unused = nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(2, 2)
        self.b.weight = self.a.weight
        self.lstm = nn.LSTM(3, 4, batch_first=True)
        self.bend = nn.ReLU()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.calls += 1
        h = self.bend(self.b(self.bend(self.a(x * self.scale)))) + torch.randn(1)
        return self.lstm(h[:, None])[0][:, 0]


def test_describing_leaves_a_network_and_the_generator_as_they_were():
    with torch.random.fork_rng(devices=[]):
        net = Odd().train()
        net.a.eval()
        state, random = copy.deepcopy(net.state_dict()), torch.get_rng_state()
        described = {row.name: row for row in reversed(describe(net, 3))}
        assert torch.equal(torch.get_rng_state(), random)
    assert [m.training for m in (net, net.a, net.b)] == [True, False, True]
    assert all(starmap(torch.equal, zip(state.values(), net.state_dict().values(), strict=True)))
    assert not any(m._forward_hooks for m in net.modules())
    assert sum(row.parameters for row in described.values()) == sum(p.numel() for p in net.parameters())
    assert [described[n].parameters for n in ("", "a", "b", "unused")] == [3, 12, 3, 6]
    assert (described["lstm"].shape, described["unused"].shape) == ((1, 4), None)


def test_a_description_needs_no_second_row():
    described = describe(nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)), 3)  # which in training refuses one row
    assert [row.parameters for row in described] == [8, 4]


def test_describing_a_network_that_cannot_run_says_so():
    with pytest.raises(ModelError, match="does not run"):
        describe(nn.Embedding(3, 2), 3)
    assert describe(nn.Embedding(3, 2), torch.zeros(1, 4, dtype=torch.int64))[0].shape == (4, 2)
    with pytest.raises(ShapeError):
        describe(MLP(3, [2], 1), 4)


@pytest.mark.parametrize(
    ("call", "fix"),
    [
        (lambda: MLP(8, [4], 1)(torch.zeros(5, 7)), "MLP(7, …)"),
        (lambda: MLP(8, [4], 1)(torch.zeros(8)), "x[None]"),
        (lambda: MLP((2, 4), [4], 1)(torch.zeros(5, 3, 4)), "MLP(12, …)"),
        (lambda: vmap(MLP(8, [4], 1))(torch.zeros(3, 5, 7)), "MLP(7, …)"),
        (lambda: ConvNet((1, 8, 8), 2)(torch.zeros(5, 64)), "x.reshape(-1, *(1, 8, 8))"),
        (lambda: ConvNet((1, 8, 8), 2)(torch.zeros(5, 3, 8, 8)), "ConvNet((3, 8, 8), …)"),
        (lambda: vmap(ConvNet((1, 8, 8), 2))(torch.zeros(3, 1, 8, 8)), "x.reshape(-1, *(1, 8, 8))"),
        (lambda: Embeddings(TABLE)(torch.zeros(5, 29)), "data.inputs"),
    ],
)
def test_rows_of_the_wrong_width_are_refused_with_the_mend(call, fix):
    with pytest.raises(ShapeError) as error:
        call()
    assert fix in error.value.fix
    assert error.value.needs
    assert error.value.found


@pytest.mark.parametrize(
    ("call", "hint"),
    [
        (lambda: MLP(8, [64, -1], 1), "widths=[64, 64]"),
        (lambda: MLP(8, 64, 1), "widths=[64, 64]"),
        (lambda: MLP(8, "64", 1), "widths=[64, 64]"),
        (lambda: MLP(8, [6.5], 1), "widths=[64, 64]"),
        (lambda: MLP(0, [4], 1), "inputs=8"),
        (lambda: MLP((), [4], 1), "inputs=(8,)"),
        (lambda: MLP(8, [4], 0), "outputs=1"),
        (lambda: MLP(8, [4], True), "outputs=1"),
        (lambda: MLP(8, [4], 1, activation="rellu"), "did you mean 'relu'"),
        (lambda: MLP(8, [4], 1, activation=None), "there are: relu"),
        (lambda: MLP(8, [4], 1, dropout=1.0), "dropout=0.1"),
        (lambda: MLP(8, [4], 1, dropout=-0.1), "dropout=0.1"),
        (lambda: MLP(8, [4], 1, dropout="0.1"), "dropout=0.1"),
        (lambda: MLP(8, [4], 1, norm="batch"), "norm=True"),
        (lambda: MLP(8, [4], 1, embed=True), "leave embed out"),
        (lambda: ConvNet((8, 8), 2), "(1, 8, 8)"),
        (lambda: ConvNet(64, 2), "MLP"),
        (lambda: ConvNet((1, 8, 8), 2, channels=()), "channels=(32, 64)"),
        (lambda: ConvNet((1, 8, 8), 2, pool=0), "pool=2"),
        (lambda: ConvNet((1, 8, 8), 2, dense=-1), "dense=128"),
        (lambda: ConvNet((1, 8, 8), 2, activation="tanhh"), "did you mean 'tanh'"),
        (lambda: Embeddings((2, 8)), "data.inputs"),
        (
            lambda: Embeddings(Inputs((20,), (Group("a", 0, 12, "category"), Group("b", 8, 20, "category")))),
            "data.inputs",
        ),
        (lambda: Embeddings(Inputs((5,), (Group("a", 0, 12, "category"),))), "data.inputs"),
        (lambda: Embeddings(TABLE, limit=0), "limit=10"),
        (lambda: from_config({"name": "MLPP"}), "did you mean 'MLP'"),
        (lambda: from_config({"name": "MLP", "inputs": 3}), "save the model again"),
        (lambda: from_config({"name": "MLP", "inputs": 3, "widths": [-1], "outputs": 1}), "save the model again"),
    ],
)
def test_arguments_that_cannot_be_are_refused_with_the_mend(call, hint):
    with pytest.raises((UsageError, ModelError)) as error:
        call()
    assert hint in error.value.fix
    assert [line.split()[0] for line in str(error.value).splitlines()[1:]] == ["needs", "found", "fix"]


def test_every_refusal_is_a_kokkiri_error():
    with pytest.raises(KokkiriError):
        MLP(8, [-1], 1)


def test_a_small_mlp_fits_a_sine():
    x = torch.linspace(-math.pi, math.pi, 64, dtype=torch.float64)[:, None]
    worst = []
    for seed in range(2):
        net = seeded(lambda: MLP(1, [32, 32], 1, activation="tanh"), seed)
        optimizer = torch.optim.Adam(net.parameters(), 0.01)
        for _ in range(400):
            optimizer.zero_grad()
            loss = (net(x) - x.sin()).square().mean()
            loss.backward()
            optimizer.step()
        worst.append((net(x) - x.sin()).abs().max().item())
    assert max(worst) < 0.05  # 0.007 to 0.017 over 20 seeds
