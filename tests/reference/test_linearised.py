"""Predictions through the linearised network equal J Σ Jᵀ by brute force, and averages equal integrals."""

import math

import pytest
import torch
from tests_support import data_of
from torch import nn
from zoo import CLASSES, ZOO, animal, jacobians

import kokkiri as kk
from kokkiri.curvature import Diagonal, Full, Kronecker, TopEigen, ggn
from kokkiri.errors import UsageError
from kokkiri.likelihoods import (
    HeteroscedasticGaussian,
    HeteroscedasticStudentT,
    Laplace,
    NegativeBinomial,
    Rescaled,
    StudentT,
)
from kokkiri.numerics.operators import Blocks, Inverse, LowRank, Products, Rotated, blocks_added
from kokkiri.posteriors.linearised import averaged, output_moments

STRUCTURES = {
    "diagonal": Diagonal(), "kronecker": Kronecker(), "ekfac": Kronecker(corrected=True), "full": Full(),
    "low-rank": TopEigen(6),
}  # fmt: skip
ZERO = torch.zeros(1, dtype=torch.float64)


def near(a, b, tolerance=1e-9):
    assert a.shape == b.shape
    assert float((a - b).abs().amax()) <= tolerance * max(1.0, float(b.abs().amax()))


def classes_of(x):
    y = torch.randint(0, CLASSES, (len(x),), generator=torch.Generator().manual_seed(0))
    return data_of(x, y, kind="category", levels=("a", "b", "c"))


def covariance_of(matrix):
    """(P, P) of N(0, M⁻¹) as the operator means it: what stands for products, where only that can be inverted."""
    out = torch.zeros(matrix.size, matrix.size, dtype=torch.float64)
    for index, block in matrix.parts:
        dense = block.near.dense() if isinstance(block, Products) else block.dense()
        out[index[:, None], index] = torch.linalg.inv(dense)
    return out


SOME = [
    "mlp Tanh", "deep, flattened", "skip", "residual", "conv2d groups", "conv2d groups, one place", "conv2d depthwise",
    "embedding, padded", "embedding, repeated", "tied by linear", "two lengths", "attention, sequence first", "gpt",
    "raw", "layer norm, two axes", "batch norm 2d", "lstm", "frozen weight", "conv1d same",
    "custom function of a weight",
]  # fmt: skip


@pytest.mark.parametrize("name", SOME)
@pytest.mark.parametrize("structure", STRUCTURES)
def test_output_covariances_are_those_of_brute_force(name, structure):
    network, x = animal(name)
    herd = kk.herd(network)
    precision = ggn(herd, classes_of(x), kk.Categorical(), STRUCTURES[structure]).matrix.plus(0.3)
    mean, covariance = output_moments(herd, [precision], x)
    j = jacobians(network, x)
    near(mean[0], torch.cat([network(x[b : b + 1]) for b in range(len(x))]).detach())
    near(covariance[0], j @ covariance_of(precision) @ j.mT)


@pytest.mark.parametrize("name", ["mlp Tanh", "embedding, padded", "conv2d groups", "two lengths"])
@pytest.mark.parametrize("structure", STRUCTURES)
def test_a_precision_that_differs_within_a_layer_will_do(name, structure):
    network, x = animal(name)
    herd = kk.herd(network)
    found = ggn(herd, classes_of(x), kk.Categorical(), STRUCTURES[structure]).matrix
    own = torch.rand(found.size, generator=torch.Generator().manual_seed(1), dtype=torch.float64) + 0.2
    precision = found.plus(own)
    j = jacobians(network, x)
    near(output_moments(herd, [precision], x)[1][0], j @ covariance_of(precision) @ j.mT)


@pytest.mark.parametrize("structure", STRUCTURES)
def test_layers_that_are_held_fixed_add_nothing(structure):
    network, x = animal("deep, flattened")
    herd = kk.herd(network)
    for layers in (("last",), ("1", "5.bias")):
        precision = ggn(herd, classes_of(x), kk.Categorical(), STRUCTURES[structure], layers=layers).matrix.plus(0.3)
        j = jacobians(network, x)
        near(output_moments(herd, [precision], x)[1][0], j @ covariance_of(precision) @ j.mT)


@pytest.mark.parametrize("structure", ["kronecker", "ekfac", "full"])
def test_the_sum_of_two_batches_predicts_as_it_stands(structure):
    network, x = animal("mlp Tanh")
    herd = kk.herd(network)
    one, other = (
        ggn(herd, classes_of(part), kk.Categorical(), STRUCTURES[structure]).matrix for part in (x[:3], x[3:])
    )
    precision = blocks_added(one.plus(0.3), other)
    j = jacobians(network, x)
    near(output_moments(herd, [precision], x)[1][0], j @ covariance_of(precision) @ j.mT)


@pytest.mark.parametrize("name", ["conv2d groups", "per place, turned and reshaped", "masked"])
def test_rows_that_are_computed_in_another_way_than_those_of_the_mode_are_predicted_all_the_same(name):
    """One row, all units dead, a plan of other blocks: the matrix is the mode's, and the answer the same."""
    if name == "masked":
        torch.manual_seed(0)
        network = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, CLASSES)).double()
        x = torch.randn(5, 4, dtype=torch.float64)
        with torch.no_grad():
            network[0].bias.copy_(torch.where(torch.arange(5) < 4, 0.0, -50.0))
    else:
        network, x = animal(name)
    herd = kk.herd(network)
    for structure in STRUCTURES.values():
        precision = ggn(herd, classes_of(x), kk.Categorical(), structure).matrix.plus(0.3)
        whole = output_moments(herd, [precision], x)[1][0]
        for rows in (x[:1], x[:2], x[3:], torch.zeros_like(x)):
            j = jacobians(network, rows)
            near(output_moments(herd, [precision], rows)[1][0], j @ covariance_of(precision) @ j.mT)
        near(torch.cat([output_moments(herd, [precision], x[b : b + 1])[1][0] for b in range(len(x))]), whole)


def test_blocks_that_are_no_group_of_the_plan_are_taken_from_whole_gradients():
    """As a plan of other rows may join a bias to its weight, or not."""
    network, x = animal("mlp Tanh")
    herd = kk.herd(network)
    found = ggn(herd, classes_of(x), kk.Categorical(), Kronecker(corrected=True)).matrix.plus(0.3)
    turned = []
    for index, block in found.parts:
        order = torch.randperm(len(index), generator=torch.Generator().manual_seed(0))
        values, vectors = torch.linalg.eigh(block.dense()[order[:, None], order])
        turned.append((index[order], Rotated(vectors[None], None, values[None, :, None])))
    j = jacobians(network, x)
    expected = j @ covariance_of(found) @ j.mT
    near(output_moments(herd, [type(found)(found.size, tuple(turned))], x)[1][0], expected)


def test_each_replica_is_predicted_by_its_own_gaussian():
    network, x = animal("mlp Tanh")
    herd = kk.herd(network, seed=range(3))
    own = [ggn(herd, classes_of(x), kk.Categorical(), Kronecker(), replica=r).matrix.plus(0.1 + r) for r in range(3)]
    mean, covariance = output_moments(herd, own, x)
    for r in range(3):
        j = jacobians(herd.module(r), x)
        near(mean[r], herd.module(r)(x).detach())
        near(covariance[r], j @ covariance_of(own[r]) @ j.mT)


@pytest.mark.parametrize("structure", STRUCTURES)
def test_float32_keeps_the_digits_of_a_badly_conditioned_matrix(structure):
    """Data say a hundred million times as much as the prior: variances of what they say are still right."""
    torch.manual_seed(0)
    network, x = animal("mlp Tanh", dtype=torch.float32)
    data = data_of(x, torch.zeros(len(x), CLASSES))
    herd = kk.herd(network)
    likelihood = kk.Gaussian(1e-4, learn=False)
    precision = ggn(herd, data, likelihood, STRUCTURES[structure]).matrix.plus(1.0)
    _, covariance = output_moments(herd, [precision], x)
    j = jacobians(network.double(), x.double())
    truth = j @ covariance_of(precision) @ j.mT
    variance = truth.diagonal(dim1=1, dim2=2)
    assert float(((covariance[0].diagonal(dim1=1, dim2=2) - variance) / variance).abs().amax()) < 5e-3


@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("apart", [False, True])
def test_float32_keeps_the_digits_of_a_last_layer_whose_features_say_little_new(outputs, apart):
    """Fifty features of one input: the data say 1e8 times as much as the prior of some of them, and nothing of most."""
    torch.manual_seed(0)
    network = kk.networks.MLP(1, [50], outputs, activation="tanh")
    x = torch.randn(1000, 1)
    y = torch.zeros(1000) if outputs == 1 else torch.zeros(1000, outputs)
    herd = kk.herd(network)
    precision = ggn(herd, data_of(x, y), kk.Gaussian(0.1, learn=False), Full(), layers=("last",)).matrix.plus(0.01)
    _, found = output_moments(herd, [precision], x[:50], apart=apart)
    variance = found[0] if apart else found[0].diagonal(dim1=1, dim2=2)
    features = torch.cat([torch.tanh(network.double().hidden[0](x.double())), torch.ones(1000, 1)], 1).detach()
    inverse = torch.linalg.inv(features.mT @ features / 0.01 + 0.01 * torch.eye(51, dtype=torch.float64))
    truth = (features[:50] @ inverse * features[:50]).sum(1, keepdim=True)
    assert float((variance / truth - 1).abs().amax()) < 5e-3


@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize(
    "name", ["mlp Tanh", "linear", "conv2d groups, one place", "two lengths", "embedding, repeated"]
)
def test_variances_alone_are_the_diagonals(name, structure):
    network, x = animal(name)
    herd = kk.herd(network)
    for layers in (None, ("last",)):
        precision = ggn(herd, classes_of(x), kk.Categorical(), STRUCTURES[structure], layers=layers).matrix.plus(0.3)
        whole = output_moments(herd, [precision], x)[1]
        near(output_moments(herd, [precision], x, apart=True)[1], whole.diagonal(dim1=2, dim2=3))


def test_a_covariance_that_is_known_by_its_inverse_predicts_as_it_stands():
    network, x = animal("mlp Tanh")
    herd = kk.herd(network)
    g = torch.Generator().manual_seed(0)
    vectors, values = (torch.randn(43, *s, generator=g, dtype=torch.float64) for s in ((3,), ()))
    spread = LowRank(vectors, torch.rand(3, generator=g, dtype=torch.float64), values.square())
    j = jacobians(network, x)
    _, found = output_moments(herd, [Blocks(43, ((torch.arange(43), Inverse(spread)),))], x)
    near(found[0], j @ spread.dense() @ j.mT)


def test_many_outputs_keep_their_variances_alone():
    torch.manual_seed(0)
    network = nn.Linear(3, 70).double()
    x = torch.randn(4, 3, dtype=torch.float64)
    herd = kk.herd(network)
    data = data_of(x, torch.zeros(4, 70, dtype=torch.float64))
    precision = ggn(herd, data, kk.Gaussian(learn=False), Kronecker()).matrix.plus(1.0)
    _, variance = output_moments(herd, [precision], x)
    j = jacobians(network, x)
    near(variance[0], (j @ covariance_of(precision) @ j.mT).diagonal(dim1=1, dim2=2))


# averages over Gaussian outputs


def bound(likelihood, replicas=1):
    return likelihood.bind({n: t.double().repeat(replicas) for n, t in likelihood.parameters().items()})


def by_rule(likelihood, mean, sd, y):
    """Log of the integral of p(y | f) N(f | mean, sd²), by 20,001 points."""
    z = torch.linspace(-9, 9, 20_001, dtype=torch.float64)
    log_p = likelihood.log_prob(mean + sd * z[:, None], torch.full((len(z),), y, dtype=torch.float64))
    return float(torch.logsumexp(log_p + torch.log_softmax(-0.5 * z.square(), 0), 0))


@pytest.mark.parametrize(
    ("likelihood", "ys", "most"),
    [
        (kk.Bernoulli(), (0.0, 1.0), 1e-4), (kk.Poisson(), (0.0, 1.0, 4.0), 1e-3),
        (NegativeBinomial(), (0.0, 1.0, 5.0), 1e-3),
        (kk.Gaussian(learn=False), (-3.0, 0.0, 2.0), 1e-6), (StudentT(learn=False), (-3.0, 0.0, 0.5, 5.0), 1e-3),
        (Laplace(learn=False), (-3.0, 0.0, 0.5, 5.0), 0.1),
    ],
    ids=lambda v: type(v).__name__,
)  # fmt: skip
@pytest.mark.parametrize("sd", [0.1, 1.0, 2.0, 5.0])
def test_one_output_is_integrated_to_the_error_that_is_stated(likelihood, ys, most, sd):
    if isinstance(likelihood, kk.Poisson):
        sd = min(sd, 2.0)  # e^5: counts of 150 beside 0, five standard deviations of f beside a width of 0.1
    for mean in (0.0, 1.5):
        found = averaged(bound(likelihood), torch.full((1, 1, 1), mean), torch.full((1, 1, 1, 1), sd**2), ZERO)
        for y in ys:
            truth = by_rule(bound(likelihood) if not likelihood.parameters() else likelihood, mean, sd, y)
            assert float(found.log_prob(torch.tensor([y], dtype=torch.float64))) == pytest.approx(truth, abs=most)


def draws(mean, covariance, n=200_000, seed=0):
    root = torch.linalg.cholesky(covariance + 1e-12 * torch.eye(len(mean), dtype=torch.float64))
    z = torch.randn(n, len(mean), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return mean + z @ root.mT


@pytest.mark.parametrize("classes", [2, 3, 10])
@pytest.mark.parametrize(("size", "most"), [(0.1, 4e-3), (1.0, 0.02), (3.0, 0.04)])
def test_class_probabilities_and_their_variances_are_those_of_many_draws(classes, size, most):
    g = torch.Generator().manual_seed(classes)
    a = torch.randn(classes, classes, generator=g, dtype=torch.float64)
    mean, covariance = 2 * torch.randn(classes, generator=g, dtype=torch.float64), size * a @ a.mT / classes
    p = torch.softmax(draws(mean, covariance), -1)
    found = averaged(kk.Categorical(), mean[None, None], covariance[None, None], ZERO)
    near(found.mean[0], p.mean(0), most)
    near(found.epistemic[0], p.var(0), most)
    near(found.aleatoric[0], (p * (1 - p)).mean(0), most)


@pytest.mark.parametrize("likelihood", [HeteroscedasticGaussian(), HeteroscedasticStudentT()], ids=repr)
@pytest.mark.parametrize(("location", "scale"), [(0.01, 0.01), (0.1, 0.1), (1.0, 0.1), (4.0, 0.1)])
def test_a_mean_and_its_noise_are_integrated_to_a_tenth_of_a_nat(likelihood, location, scale):
    width = likelihood.outputs(1)
    variance = torch.full((width,), scale, dtype=torch.float64)
    variance[0] = location
    f = draws(torch.zeros(width, dtype=torch.float64), variance.diag())
    found = averaged(likelihood, torch.zeros(1, 1, width).double(), variance.diag()[None, None], ZERO)
    for y in (-1.0, 0.0, 0.3, 1.0):
        log_p = likelihood.log_prob(f, torch.full((len(f),), y, dtype=torch.float64))
        truth = float(torch.logsumexp(log_p, 0)) - math.log(len(f))
        assert float(found.log_prob(torch.tensor([y], dtype=torch.float64))) == pytest.approx(truth, abs=0.1)


LIKELIHOODS = [
    kk.Categorical(), kk.Bernoulli(), kk.Poisson(), kk.Gaussian(0.7), kk.Gaussian(2.0, learn=False), StudentT(),
    Laplace(), NegativeBinomial(), HeteroscedasticGaussian(), HeteroscedasticStudentT(),
    Rescaled(kk.Gaussian(), 3.0, 2.0),
    Rescaled(StudentT(), 3.0, 2.0),
]  # fmt: skip


@pytest.mark.parametrize("likelihood", LIKELIHOODS, ids=repr)
@pytest.mark.parametrize("replicas", [1, 3])
def test_uncertainty_splits_in_two_parts_that_are_not_negative_and_add_up(likelihood, replicas):
    width = likelihood.outputs(CLASSES if likelihood == kk.Categorical() else 1)
    g = torch.Generator().manual_seed(0)
    mean = torch.randn(replicas, 4, width, generator=g, dtype=torch.float64)
    a = torch.randn(replicas, 4, width, width, generator=g, dtype=torch.float64)
    weight = torch.log_softmax(torch.randn(replicas, generator=g, dtype=torch.float64), 0)
    found = averaged(bound(likelihood, replicas), mean, a @ a.mT, weight)
    assert len(found) == 4
    assert bool((found.aleatoric >= 0).all())
    assert bool((found.epistemic >= 0).all())
    near(found.aleatoric + found.epistemic, found.variance)
    none = averaged(bound(likelihood, replicas), mean, torch.zeros_like(a), weight)
    points = bound(likelihood, replicas).predictive(mean, weight)
    near(none.mean, points.mean)
    near(none.epistemic, points.epistemic, 1e-7)
    y = found.sample(1, seed=0)[0]
    near(none.log_prob(y), points.log_prob(y), 1e-7)
    part = found.rows(slice(1, 3))
    near(part.mean, found.mean[1:3])
    near(part.epistemic, found.epistemic[1:3])


@pytest.mark.parametrize("likelihood", [kk.Gaussian(0.7), Rescaled(kk.Gaussian(0.35), 3.0, 2.0)], ids=repr)
def test_a_gaussian_is_averaged_in_closed_form(likelihood):
    """N(f, σ² + v), v ignorance and σ² noise; the law of total variance over replicas."""
    scale, shift = (2.0, 3.0) if isinstance(likelihood, Rescaled) else (1.0, 0.0)
    noise = (0.7 / scale) ** 2
    mean = torch.tensor([[[0.0]], [[1.0]]], dtype=torch.float64)
    variance = torch.tensor([[[[0.5]]], [[[2.0]]]], dtype=torch.float64)
    weight = torch.tensor([0.25, 0.75]).double().log()
    log_scale = torch.full((2,), math.log(noise) / 2, dtype=torch.float64)
    found = averaged(
        likelihood.bind({"log_scale": log_scale}),
        mean,
        variance,
        weight,
    )
    near(found.mean, torch.tensor([shift + scale * 0.75], dtype=torch.float64))
    near(found.aleatoric, torch.tensor([scale**2 * noise], dtype=torch.float64))
    near(found.epistemic, scale**2 * torch.tensor([0.25 * 0.5 + 0.75 * 2.0 + 0.25 * 0.75], dtype=torch.float64))
    normal = torch.distributions.Normal(
        shift + scale * mean[:, 0, 0], scale * (noise + variance[:, 0, 0, 0]).sqrt(), validate_args=False
    )
    y = torch.tensor([1.3]).double()
    near(found.log_prob(y), torch.logsumexp(normal.log_prob(y) + weight, 0)[None])
    lots = found.sample(100_000, seed=0)
    assert float(lots.var()) == pytest.approx(float(found.variance), rel=0.02)


def test_the_probit_formula():
    """MacKay 1992, eq. 4, for two classes: σ(f / √(1 + π v / 8))."""
    mean, v = torch.tensor([[[1.0], [-2.0]]]).double(), torch.tensor([[[[3.0]], [[0.5]]]]).double()
    found = averaged(kk.Bernoulli(), mean, v, ZERO, integral="probit")
    kappa = 1 / (1 + math.pi * v[0, :, 0, 0] / 8).sqrt()
    near(found.mean[:, 1], torch.sigmoid(kappa * mean[0, :, 0]))
    exact = averaged(kk.Bernoulli(), mean, v, ZERO)
    near(found.mean, exact.mean, 0.02)  # the formula's own error


def test_probit_within_is_the_delta_method():
    g = torch.Generator().manual_seed(0)
    mean = torch.randn(1, 6, 4, generator=g, dtype=torch.float64)
    v = 0.01 * torch.rand(1, 6, 4, generator=g, dtype=torch.float64)
    found = averaged(kk.Categorical(), mean, torch.diag_embed(v), ZERO, integral="probit")
    p = found.mean
    slope = torch.diag_embed(p) - p[:, :, None] * p[:, None, :]
    near(found.epistemic, (slope.square() @ v[0, :, :, None])[..., 0])
    near(found.aleatoric + found.epistemic, p * (1 - p))
    assert bool((found.mutual_information >= 0).all())
    truth = averaged(kk.Categorical(), mean, torch.diag_embed(v), ZERO)
    assert torch.allclose(found.mutual_information, truth.mutual_information, rtol=0.1)
    wide = averaged(kk.Categorical(), mean, torch.diag_embed(1e4 * v), ZERO, integral="probit")
    assert bool((wide.aleatoric >= 0).all())
    assert bool((wide.expected_entropy >= 0).all())


def test_probit_of_counts_or_values_is_refused():
    with pytest.raises(UsageError, match="no probit approximation"):
        averaged(kk.Poisson(), ZERO[None, :, None], ZERO[None, :, None, None], ZERO, integral="probit")


def test_variances_alone_will_do_where_there_are_many_outputs():
    mean = torch.randn(2, 3, 70, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = averaged(kk.Categorical(), mean, torch.zeros_like(mean), ZERO.repeat(2) - math.log(2))
    near(found.mean, torch.softmax(mean, -1).mean(0))


def test_every_kind_of_network_of_the_zoo_can_predict():
    """Under the diagonal, which all have: J diag J by brute force."""
    for name in ZOO:
        if name in SOME or name.startswith(("mlp ", "conv1d same, even")):
            continue
        network, x = animal(name)
        herd = kk.herd(network)
        precision = ggn(herd, classes_of(x), kk.Categorical(), Diagonal()).matrix.plus(0.3)
        j = jacobians(network, x)
        near(output_moments(herd, [precision], x)[1][0], (j / precision.diagonal()) @ j.mT)
