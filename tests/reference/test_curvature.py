"""The Gauss-Newton matrix of many kinds of networks equals the one from autograd, row by row and output by output."""

import math
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
from scipy.stats import norm
from tests_support import data_of
from torch import nn
from torch.nn import functional as F
from zoo import CLASSES, REFUSED, ROWS, ZOO, Cube, Net, animal, jacobians, lin, raw

import kokkiri as kk
from kokkiri.curvature import Diagonal, Full, Kronecker, TopEigen, curvature_root, ggn, named
from kokkiri.curvature.collect import collector
from kokkiri.curvature.ggn import curvature_trace
from kokkiri.curvature.models import flat_index, replica_module, wanted
from kokkiri.errors import Unsupported, UsageError
from kokkiri.likelihoods import (
    HeteroscedasticGaussian,
    HeteroscedasticStudentT,
    Laplace,
    NegativeBinomial,
    Rescaled,
    StudentT,
)
from kokkiri.training.flat import layout
from kokkiri.training.loop import with_likelihood

STRUCTURES = {
    "diagonal": Diagonal(), "kronecker": Kronecker(), "ekfac": Kronecker(corrected=True), "full": Full(),
    "low-rank": TopEigen(6),
}  # fmt: skip


@pytest.fixture
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


pytestmark = pytest.mark.usefixtures("_one_thread")


def near(a, b, tolerance=1e-10):
    scale = max(1.0, float(b.abs().amax())) if b.numel() else 1.0
    assert a.shape == b.shape
    assert float((a - b).abs().amax() if b.numel() else 0.0) <= tolerance * scale


def classes_of(x, seed=0):
    y = torch.randint(0, CLASSES, (len(x),), generator=torch.Generator().manual_seed(seed))
    return data_of(x, y, kind="category", levels=("a", "b", "c"))


def brute(network, x, likelihood=None, weight=None):
    """(P, P) sum of J ᵀ Λ J."""
    j = jacobians(network, x)
    with torch.no_grad():
        out = torch.cat([network(x[b : b + 1]) for b in range(len(x))])
        curvature = (likelihood or kk.Categorical()).curvature(out)
    if weight is not None:
        curvature = curvature * weight[:, None, None]
    return torch.einsum("bcp,bcd,bdq->pq", j, curvature, j)


def silent(run, *args, **more):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Using padding='same'")  # what torch says of even kernels
        return run(*args, **more)


@pytest.mark.parametrize("name", ZOO)
def test_gradients_and_all_structures_are_those_of_autograd(name):
    network, x = animal(name)
    herd = kk.herd(network)
    j, truth = silent(jacobians, network, x), silent(brute, network, x)

    where = layout(herd.params)
    module = replica_module(herd, 0)
    collect = silent(collector, module, x, wanted(module, None, x), flat_index(where))
    _, _, pieces = collect(x, lambda out: torch.eye(CLASSES, dtype=out.dtype).expand(len(out), -1, -1))
    v, mix = torch.randn(where.size, dtype=torch.float64), torch.randn(len(x), CLASSES, 2, dtype=torch.float64)
    seen = torch.zeros_like(j)
    for group in collect.plan.groups:
        piece, index = pieces[group.names[0]], collect.plan.index[group.names[0]]
        own = j[:, :, index]
        near(piece.gradients(), own)
        near(piece.squares(), own.square().sum((0, 1)))
        near(piece.trace(), own.square().sum())
        near(piece.along(v[index]), own @ v[index])
        near(piece.total(), own.sum((0, 1)))
        near(piece.mixed(mix).gradients(), mix.mT @ own)
        seen[:, :, index] += 1
    assert bool((seen == 1).all())  # every parameter in one group

    found = {k: silent(ggn, herd, classes_of(x), kk.Categorical(), s) for k, s in STRUCTURES.items() if k != "low-rank"}
    near(found["full"].matrix.dense(), truth)
    near(found["diagonal"].matrix.diagonal(), truth.diagonal())
    for k in ("diagonal", "kronecker", "ekfac", "full"):
        assert curvature_trace(found[k]) == pytest.approx(float(truth.trace()), rel=1e-10)
    assert found["full"].exact
    assert not found["diagonal"].exact


FEWER = [name for name in ZOO if not name.startswith("mlp ") or name == "mlp Tanh"]  # one activation is enough


@pytest.mark.parametrize("name", FEWER)
def test_on_one_datum_every_structure_has_the_exact_trace(name):
    network, x = animal(name, seed=1)
    truth = float(silent(brute, network, x[:1]).trace())
    for structure in (Kronecker(), Kronecker(corrected=True), TopEigen(6)):  # the others are exact for any data
        found = silent(ggn, kk.herd(network), classes_of(x[:1]), kk.Categorical(), structure)
        assert curvature_trace(found) == pytest.approx(truth, rel=1e-5)


@pytest.mark.parametrize("name", FEWER)
def test_float32_gives_the_same_diagonal(name):
    network, x = animal(name)
    truth = silent(brute, network, x).diagonal()
    network, x = animal(name, dtype=torch.float32)
    found = silent(ggn, kk.herd(network), classes_of(x), kk.Categorical(), Diagonal())
    near(found.matrix.diagonal(), truth, 1e-4)


@pytest.mark.parametrize("name", REFUSED)
def test_a_network_without_independent_rows_is_refused(name):
    network, x = animal(name)
    for structure in (Full(), Kronecker(), Diagonal()):
        with pytest.raises(Unsupported):
            ggn(kk.herd(network), classes_of(x), kk.Categorical(), structure)


@pytest.mark.parametrize("name", ["dropout for ever", "noise"])
def test_even_one_row_tells_that_answers_are_drawn_at_random(name):
    network, x = animal(name)
    with pytest.raises(Unsupported, match="at random"):
        ggn(kk.herd(network), classes_of(x[:1]), kk.Categorical(), Full())


@pytest.mark.parametrize("rows", [1, 2, 3, 4, 5])
@pytest.mark.parametrize(
    "name", ["prelu", "in chunks", "per place, turned and reshaped", "attention, sequence first", "gpt", "residual"]
)
def test_any_number_of_rows_will_do(name, rows):
    """Torch's own rule for PReLU under vmap is wrong where there are as many rows as columns: two of each here."""
    network, x = animal(name)
    truth = brute(network, x[:rows])
    found = ggn(kk.herd(network), classes_of(x[:rows]), kk.Categorical(), Full())
    near(found.matrix.dense(), truth)
    if rows > 1:
        found = ggn(kk.herd(network), classes_of(x[:rows]), kk.Categorical(), Full(), budget=1)
        near(found.matrix.dense(), truth)


class Twofold(torch.autograd.Function):
    """A backward pass that is right for one column and wrong for several at once."""

    generate_vmap_rule = False

    @staticmethod
    def forward(x):
        return 2 * x

    @staticmethod
    def setup_context(ctx, inputs, output):
        pass

    @staticmethod
    def backward(ctx, g):
        return g * (3 if torch._C._functorch.is_batchedtensor(g) else 2)


def test_a_backward_pass_that_is_wrong_for_many_columns_is_found_out():
    torch.manual_seed(0)
    network = Net(lambda m, x: m.b(Twofold.apply(m.a(x))), a=lin(4, 5), b=lin(5)).double()
    x = torch.randn(ROWS, 4, dtype=torch.float64)
    found = ggn(kk.herd(network), classes_of(x), kk.Categorical(), Full())
    near(found.matrix.dense(), brute(network, x))


def test_a_forward_pass_that_is_another_under_vmap_is_found_out():
    torch.manual_seed(0)
    lifted = torch._C._functorch.is_batchedtensor
    network = Net(lambda m, x: torch.addmm(m.b * (3 if lifted(x) else 1), x, m.w), w=raw(4, 3), b=raw(3)).double()
    x = torch.randn(ROWS, 4, dtype=torch.float64)
    found = ggn(kk.herd(network), classes_of(x), kk.Categorical(), Full())
    near(found.matrix.dense(), brute(network, x))


KNOWN = (
    "residual", "encoder layer", "attention, sequence first", "embedding", "tied by linear", "two lengths", "pooling",
    "conv2d groups", "conv2d circular", "conv1d same", "layer norm by place", "batch norm 2d", "three times",
    "per place, turned and reshaped", "conv and norm of turned places", "checkpointed",
)  # fmt: skip


@pytest.mark.parametrize("name", KNOWN)
def test_what_is_known_is_not_differentiated_datum_by_datum(name):
    """A plan that gave up would be right, too: these networks must be known whole."""
    network, x = animal(name)
    assert ggn(kk.herd(network), classes_of(x), kk.Categorical(), Diagonal()).notes == ()


def test_what_is_not_known_is_said():
    network, x = animal("raw")
    found = ggn(kk.herd(network), classes_of(x), kk.Categorical(), Kronecker())
    assert [note.split(":")[0] for note in found.notes] == ["a", "b", "c"]


def linear(outputs=CLASSES, seed=0, rows=20):
    torch.manual_seed(seed)
    return nn.Linear(4, outputs).double(), torch.randn(rows, 4, dtype=torch.float64)


@pytest.mark.parametrize("likelihood", [kk.Categorical(), kk.Bernoulli(), kk.Poisson(), kk.Gaussian(0.7, learn=False)])
def test_for_models_linear_in_their_parameters_it_is_the_hessian(likelihood):
    """Likelihoods whose curvature does not depend on y, on the natural parameter (Martens 2020, section 9.2)."""
    outputs = CLASSES if likelihood == kk.Categorical() else 1
    network, x = linear(outputs)
    y = torch.randint(0, max(outputs, 2), (len(x),), generator=torch.Generator().manual_seed(1))
    data = data_of(x, y if likelihood.discrete else y.double())
    found = ggn(kk.herd(network), data, likelihood, Full())
    assert found.exact

    def cost(flat):
        out = x @ flat[: 4 * outputs].reshape(outputs, 4).T + flat[4 * outputs :]
        return -likelihood.log_prob(out, data.y).sum()

    flat = torch.cat([p.detach().flatten() for p in network.parameters()])
    near(found.matrix.dense(), torch.func.hessian(cost)(flat))


LIKELIHOODS = [
    kk.Categorical(), kk.Bernoulli(), kk.Poisson(), kk.Gaussian(0.7), kk.Gaussian(2.0, learn=False), StudentT(),
    Laplace(), NegativeBinomial(), HeteroscedasticGaussian(), HeteroscedasticStudentT(),
    Rescaled(StudentT(), 3.0, 2.0),
]  # fmt: skip


@pytest.mark.parametrize("likelihood", LIKELIHOODS, ids=repr)
@pytest.mark.parametrize("size", [1.0, 30.0])
def test_the_root_times_itself_is_the_curvature(likelihood, size):
    width = likelihood.outputs(2)
    width = 4 if likelihood == kk.Categorical() else width
    f = size * torch.randn(50, width, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    bound = likelihood.bind({n: t.double() for n, t in likelihood.parameters().items()})
    root = curvature_root(bound, f)
    near(root @ root.mT, bound.curvature(f))
    assert root.shape[2] == (3 if likelihood == kk.Categorical() else width)


def test_the_root_of_classes_keeps_small_probabilities_in_float32():
    f = torch.tensor([[20.0, 0.0, -3.0], [0.0, -3.0, 20.0], [0.0, 20.0, 0.0]])
    root, true = curvature_root(kk.Categorical(), f), kk.Categorical().curvature(f.double())
    error = (root.double() @ root.double().mT - true).abs().amax((1, 2))
    assert bool((error <= 1e-4 * true.abs().amax((1, 2))).all())


def numbers_of(x, seed=0):
    return data_of(x, torch.randn(len(x), generator=torch.Generator().manual_seed(seed), dtype=torch.float64))


@pytest.mark.parametrize(
    "likelihood",
    [kk.Gaussian(0.7), StudentT(0.7), Laplace(0.7), Rescaled(kk.Gaussian(), 1.0, 2.0)],
    ids=repr,
)
def test_what_the_likelihood_learns_has_its_own_block_the_hessian(likelihood):
    network, x = linear(1)
    data, herd = numbers_of(x), with_likelihood(kk.herd(network), likelihood)
    weight = torch.arange(len(x)).double()
    found = ggn(herd, data, likelihood, Diagonal(), weight=weight)
    index, block = found.matrix.parts[-1]
    names = list(likelihood.parameters())
    assert index.tolist() == list(range(5, 5 + len(names)))
    out = network(x).detach()

    def cost(phi):
        return -(weight * likelihood.bind(dict(zip(names, phi, strict=True))).log_prob(out, data.y)).sum()

    hessian = torch.func.hessian(cost)(torch.stack([likelihood.parameters()[n].double() for n in names]))
    values, vectors = torch.linalg.eigh(hessian)
    near(block.dense(), (vectors * values.clamp(min=0)) @ vectors.mT)
    assert found.known[-1].label == "likelihood"
    bound = likelihood.bind({n: t.double() for n, t in likelihood.parameters().items()})
    assert curvature_trace(found) == pytest.approx(float(brute(network, x, bound, weight).trace()), rel=1e-10)


SOME = ["mlp Tanh", "deep, flattened", "residual", "gpt", "conv2d groups", "two lengths", "raw", "tied by linear"]


def more(x, rows=40):
    """So many rows that Kronecker factors have full rank: else their eigenvectors, and EKFAC, are not determined."""
    if x.dtype == torch.long:
        return torch.randint(0, int(x.max()) + 1, (rows, *x.shape[1:]), generator=torch.Generator().manual_seed(3))
    return torch.randn(rows, *x.shape[1:], generator=torch.Generator().manual_seed(3), dtype=x.dtype)


@pytest.mark.parametrize("name", SOME)
@pytest.mark.parametrize("structure", STRUCTURES)
def test_weight_two_is_twice_and_weight_zero_is_absent(name, structure):
    network, x = animal(name)
    herd, s = kk.herd(network), STRUCTURES[structure]
    data = classes_of(more(x))
    weight = torch.tensor([2.0, 0.0, 1.0, 3.0]).repeat(10)
    repeated = data.rows(torch.arange(40).repeat_interleave(weight.long()))
    weighed, again = (ggn(herd, d, kk.Categorical(), s, weight=w) for d, w in ((data, weight), (repeated, None)))
    assert weighed.rows == 30
    if structure == "low-rank":
        assert curvature_trace(weighed) == pytest.approx(curvature_trace(again), rel=1e-6)
    else:
        near(weighed.matrix.dense(), again.matrix.dense(), 1e-9)


@pytest.mark.parametrize("name", [name for name in SOME if name != "gpt"])
@pytest.mark.parametrize("structure", STRUCTURES)
def test_tiny_chunks_give_the_same_answer(name, structure):
    network, x = animal(name)
    x = more(x, 30 if structure == "ekfac" else 6)
    run = lambda c, b: ggn(herd, data, kk.Categorical(), STRUCTURES[structure], columns=c, budget=b).matrix.dense()
    herd, data = kk.herd(network), classes_of(x)
    found = [run(c, b) for c in (None, 1) for b in (None, 1)]
    near(found[1], found[0], 1e-9)
    near(found[3], found[2], 1e-9)
    assert float((found[2] - found[0]).abs().amax()) > 1e-3  # random columns are another matrix


def test_the_first_rows_choose_for_a_shared_weight_whatever_the_chunks():
    """More rows than are looked at to choose between expand and reduce."""
    network, _ = animal("per place")
    x = torch.randn(600, 3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    one, many = (ggn(kk.herd(network), classes_of(x), kk.Categorical(), Kronecker(), budget=b) for b in (10**9, 10**5))
    near(one.matrix.dense(), many.matrix.dense(), 1e-9)
    assert all(k.note.startswith("shared weight") and k.note.endswith("on 256 rows") for k in one.known)
    assert not one.exact
    truth = float(ggn(kk.herd(network), classes_of(x), kk.Categorical(), Diagonal()).matrix.trace())
    assert curvature_trace(one) == pytest.approx(truth, rel=0.1)


def unbiased(draws, truth):
    """The smallest p-value that the mean of draws (n, P, P) is the truth, of many entries: Bonferroni's."""
    mean, se = draws.mean(0), draws.std(0) / math.sqrt(len(draws))
    real = se > 1e-9
    z = ((mean - truth) / se.clamp(min=1e-12))[real].abs()
    assert bool(((mean - truth).abs() < 1e-8)[~real].all())
    return min(1.0, 2 * float(norm.sf(float(z.amax()))) * int(real.sum()))


@pytest.mark.parametrize("name", ["mlp Tanh", "two lengths", "raw"])
def test_random_columns_are_unbiased(name):
    network, x = animal(name)
    truth = brute(network, x)
    run = lambda seed: ggn(kk.herd(network), classes_of(x), kk.Categorical(), Full(), columns=1, seed=seed)
    assert run(0).columns == 1
    assert not run(0).exact
    draws = torch.stack([run(seed).matrix.dense() for seed in range(80)])
    assert unbiased(draws, truth) > 1e-3
    assert unbiased(draws * 1.3, truth) < 1e-3


def test_as_many_columns_as_the_curvature_has_are_the_exact_ones():
    network, x = animal("mlp Tanh")
    found = ggn(kk.herd(network), classes_of(x), kk.Categorical(), Full(), columns=2)
    near(found.matrix.dense(), brute(network, x))
    assert found.columns is None
    assert found.exact


@pytest.mark.parametrize("weighed", [False, True])
def test_some_rows_stand_for_all_without_bias(weighed):
    network, x = linear(CLASSES, rows=12)
    weight = torch.arange(12.0) if weighed else None
    truth = brute(network, x, weight=weight)
    run = lambda seed: ggn(
        kk.herd(network), classes_of(x), kk.Categorical(), Full(), sample=5, seed=seed, weight=weight
    )
    assert run(0).rows == 5
    assert run(0).sampled
    assert not run(0).exact
    draws = torch.stack([run(seed).matrix.dense() for seed in range(150)])
    assert unbiased(draws, truth) > 1e-3
    assert unbiased(draws * 1.3, truth) < 1e-3
    everything = ggn(kk.herd(network), classes_of(x), kk.Categorical(), Full(), sample=12, weight=weight)
    near(everything.matrix.dense(), truth)
    assert everything.exact


def test_layers_are_chosen_by_name_and_the_others_held_fixed():
    network, x = animal("deep, flattened")
    data, truth = classes_of(x), brute(network, x)
    found = ggn(kk.herd(network), data, kk.Categorical(), Full(), layers=("last",))
    index = found.matrix.free
    assert sorted(index.tolist()) == list(range(35 + 30, 35 + 30 + 18))
    near(found.matrix.dense()[index[:, None], index], truth[index[:, None], index])
    assert not bool(found.matrix.dense()[:65].any())
    two = ggn(kk.herd(network), data, kk.Categorical(), Full(), layers=("1", "5.bias"))
    index = two.matrix.free
    assert sorted(index.tolist()) == [*range(35), *range(80, 83)]
    near(two.matrix.dense()[index[:, None], index], truth[index[:, None], index])
    with pytest.raises(UsageError, match="no trained parameter"):
        ggn(kk.herd(network), data, kk.Categorical(), Full(), layers=("7",))
    network, x = animal("skip")
    with pytest.raises(UsageError, match="does not end in a linear map"):
        ggn(kk.herd(network), classes_of(x), kk.Categorical(), Full(), layers=("last",))


def test_each_replica_has_its_own_curvature():
    network, x = animal("mlp Tanh")
    herd = kk.herd(network, seed=range(3))
    for r in range(3):
        found = ggn(herd, classes_of(x), kk.Categorical(), Full(), replica=r)
        near(found.matrix.dense(), brute(herd.module(r), x))


def test_what_is_exact_is_said_and_nothing_else():
    """Blocks that are exact do not make the whole exact where two of them are torn apart."""
    network, x = animal("raw")
    herd, data = kk.herd(network), classes_of(x)
    torn = ggn(herd, data, kk.Categorical(), Kronecker())
    assert all(k.exact for k in torn.known)
    assert not torn.exact
    truth = brute(network, x)
    assert float((torn.matrix.dense() - truth).abs().amax()) > 1e-3
    assert ggn(herd, data, kk.Categorical(), Full()).exact
    one = ggn(kk.herd(linear()[0]), classes_of(linear()[1][:1]), kk.Categorical(), Kronecker())
    assert one.exact  # a single datum and a single map: one Kronecker product
    network, x = animal("conv2d groups, one place")
    grouped = ggn(kk.herd(network), classes_of(x[:1]), kk.Categorical(), Kronecker(), layers=("0",))
    assert not grouped.exact  # groups are torn apart
    low = ggn(herd, data, kk.Categorical(), TopEigen(3))
    assert not low.exact
    whole = ggn(herd, data, kk.Categorical(), TopEigen(100))
    assert whole.exact
    near(whole.matrix.dense(), truth, 1e-9)


def test_the_largest_eigenvalues_are_found():
    network, _ = animal("mlp Tanh")
    x = torch.randn(60, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    truth = torch.linalg.eigvalsh(brute(network, x)).flip(0)
    found = ggn(kk.herd(network), classes_of(x), kk.Categorical(), TopEigen(6)).matrix
    near(found.parts[0][1].values.flip(0), truth[:6], 1e-6)
    exact = ggn(kk.herd(network), classes_of(x), kk.Categorical(), Diagonal()).matrix
    near(found.diagonal(), exact.diagonal(), 1e-6)


def test_kronecker_factors_of_independent_inputs_and_gradients_are_exact():
    """A linear map under a curvature that does not depend on the input: B ⊗ A is the matrix."""
    network, x = linear(2)
    data = data_of(x, torch.zeros(len(x), 2, dtype=torch.float64))
    for structure in (Kronecker(), Kronecker(corrected=True)):
        found = ggn(kk.herd(network), data, kk.Gaussian(0.5, learn=False), structure)
        near(found.matrix.dense(), brute(network, x, kk.Gaussian(0.5, learn=False)))


@pytest.mark.parametrize("structure", [Kronecker(), Kronecker(corrected=True)], ids=repr)
def test_a_map_too_wide_for_factors_has_its_diagonal(structure):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(10_500, 2), nn.Tanh(), nn.Linear(2, CLASSES))
    x = torch.randn(4, 10_500)
    herd, data = kk.herd(network), classes_of(x)
    found = ggn(herd, data, kk.Categorical(), structure)
    assert [k.form for k in found.known] == ["diagonal", "kronecker" if structure == Kronecker() else "ekfac"]
    index, block = found.matrix.parts[0]
    near(block.diagonal(), ggn(herd, data, kk.Categorical(), Diagonal()).matrix.diagonal()[index], 1e-5)


def test_a_matrix_too_large_to_be_made_whole_is_refused():
    network = nn.Linear(7000, CLASSES)
    data = data_of(torch.zeros(1, 7000).expand(10_001, -1), torch.zeros(10_001, dtype=torch.long))
    with pytest.raises(Unsupported, match="a full matrix of 21,003 parameters"):
        ggn(kk.herd(network), data, kk.Categorical(), Full())
    few = data_of(torch.randn(5, 7000), torch.zeros(5, dtype=torch.long))
    assert ggn(kk.herd(network), few, kk.Categorical(), Full()).exact  # by their inner products


def test_corrected_factors_keep_the_diagonal_in_their_basis():
    network, x = animal("mlp Tanh")
    found = ggn(kk.herd(network), classes_of(x), kk.Categorical(), Kronecker(corrected=True))
    truth = brute(network, x)
    for index, block in found.matrix.parts:
        u = torch.kron(block.left[0], block.right[0])
        near(block.values.flatten(), (u.mT @ truth[index[:, None], index] @ u).diagonal())


def test_a_network_whose_outputs_do_not_move_has_no_curvature():
    network = Net(lambda m, x: x[:, :3] + 0 * m.a(x), a=lin(4)).double()
    x = torch.randn(ROWS, 4, dtype=torch.float64)
    for structure in STRUCTURES.values():
        found = ggn(kk.herd(network), classes_of(x), kk.Categorical(), structure)
        assert curvature_trace(found) == pytest.approx(0.0, abs=1e-200)
        precise = found.matrix.plus(2.0)
        assert float(precise.logdet()) == pytest.approx(15 * math.log(2))


def test_names_of_structures():
    for name, structure in STRUCTURES.items():
        assert type(named(name)) is type(structure)
    with pytest.raises(UsageError, match="there is no structure"):
        named("krnecker")


def test_neither_the_network_nor_the_random_state_is_touched():
    network, x = animal("batch norm 2d")
    before, state = {n: t.clone() for n, t in network.state_dict().items()}, torch.get_rng_state()
    ggn(kk.herd(network), classes_of(x), kk.Categorical(), Kronecker(), columns=1, sample=4)
    assert all(torch.equal(t, before[n]) for n, t in network.state_dict().items())
    assert all(p.grad is None for p in network.parameters())
    assert torch.equal(torch.get_rng_state(), state)


def test_a_custom_function_beside_a_known_use_is_seen_in_the_graph():
    """Where its gradients are zero on the rows that are looked at, only autograd's edges tell."""
    torch.manual_seed(0)
    network = Net(
        lambda m, x: F.linear(x, m.w) + torch.relu(x[:, :1]) * F.linear(x, Cube.apply(m.w)), w=raw(3, 4)
    ).double()
    x = torch.randn(40, 4, dtype=torch.float64)
    x[:3, 0] = -1
    found = ggn(kk.herd(network), classes_of(x), kk.Categorical(), Full())
    near(found.matrix.dense(), brute(network, x))


MEMORY = """
import resource, sys, torch, kokkiri as kk
sys.path.insert(0, {path!r})
from tests_support import data_of
from kokkiri.curvature import ggn, named
torch.set_num_threads(1)
n = 8_000
data = data_of(torch.rand(n, 784), torch.randint(0, 10, (n,)), kind="category", levels=tuple("abcdefghij"))
herd = kk.herd(lambda: kk.networks.MLP(784, [128], 10), seed=[0])
for _ in kk.train(herd, data, kk.Categorical(), kk.Adam(), kk.Normal(), kk.Plan(steps=1, batch=128)): pass
for name in ("diagonal", "kronecker", "ekfac"):
    ggn(herd, data.rows(torch.arange(8)), kk.Categorical(), named(name))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    ggn(herd, data, kk.Categorical(), named(name))
    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


def test_memory_stays_within_the_budget():
    """MB above a step of an MLP 784-128-10, whose own is below 64 MB: then that is the budget.

    All 8,000 rows at once would have 8,000 x 9 x 128 gradients at hidden outputs (37 MB), of which a Kronecker or a
    corrected block forms others again; chunks of 1,024 rows have 5 MB.
    """
    code = MEMORY.format(path=str(Path(__file__).parents[1]))
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert all(float(line) < 64 for line in out.stdout.split())
    assert len(out.stdout.split()) == 3
