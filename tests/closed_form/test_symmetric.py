"""Symmetric products in strips are the whole product."""

import pytest
import torch
from tests_support import data_of

import kokkiri as kk
from kokkiri.curvature import Full, Kronecker, ggn
from kokkiri.curvature.pieces import Affine, unfolded
from kokkiri.numerics.symmetric import add_gram, mirrored


def normal(seed, *shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("d", [1, 63, 64, 65, 130, 512, 513, 600])
@pytest.mark.parametrize("groups", [1, 3])
def test_the_upper_half_in_strips_is_mirrored_to_the_whole(d, groups):
    one, other = normal(0, 5, groups, d), normal(1, 4, groups, d)
    total = add_gram(add_gram(None, one), other)
    truth = torch.einsum("mgi,mgj->gij", one, one) + torch.einsum("mgi,mgj->gij", other, other)
    assert torch.allclose(mirrored(total), truth, rtol=0, atol=1e-12)


@pytest.mark.parametrize("inputs", [1, 64, 65, 130])
@pytest.mark.parametrize("outputs", [1, 2, 5])
@pytest.mark.parametrize("joined", [False, True])
def test_the_matrix_of_one_affine_map_is_that_of_its_gradients(inputs, outputs, joined):
    total, truth = None, 0.0
    for seed in (0, 1):
        piece = Affine(normal(seed, 4, 1, 1, inputs), normal(seed + 2, 4, 3, 1, 1, outputs), joined)
        total = piece.add_matrix(total)
        rows = piece.gradients().flatten(0, 1)
        truth = truth + rows.mT @ rows
    assert torch.allclose(unfolded(total), truth, rtol=0, atol=1e-11)


def test_layers_that_are_wider_than_a_strip_have_the_right_factors():
    """B ⊗ A up to the scale that gives the exact trace: sum_n tr(B_n) |a_n|²."""
    torch.manual_seed(0)
    network = kk.networks.MLP(150, [70], 3).double()
    x = normal(0, 20, 150)
    data = data_of(x, torch.zeros(20, dtype=torch.long), kind="category", levels=("a", "b", "c"))
    hidden = torch.relu(network.hidden[0](x)).detach()
    curvature = kk.Categorical().curvature(network(x)).detach()
    slopes = network.output.weight.detach() * (hidden > 0).double()[:, None]  # (B, C, 70)
    wide = lambda t: torch.cat([t, torch.ones(20, 1, dtype=torch.float64)], 1)
    inputs, outputs = (wide(x), wide(hidden)), (slopes.mT @ curvature @ slopes, curvature)
    found = ggn(kk.herd(network), data, kk.Categorical(), Kronecker())
    for (_, block), a, b in zip(found.matrix.parts, inputs, outputs, strict=True):
        ((left, right),) = block.terms
        for said, true in ((left, b.sum(0)), (right, a.mT @ a)):
            assert torch.allclose(said / said.trace(), true / true.trace(), rtol=0, atol=1e-12)
        exact = (b.diagonal(dim1=1, dim2=2).sum(1) * a.square().sum(1)).sum()
        assert float(left.trace() * right.trace()) == pytest.approx(float(exact), rel=1e-12)
    ((_, last),) = ggn(kk.herd(network), data, kk.Categorical(), Full(), layers=("last",)).matrix.parts
    truth = torch.einsum("bcd,bi,bj->cidj", curvature, wide(hidden), wide(hidden)).reshape(213, 213)
    assert torch.allclose(last.dense(), truth, rtol=0, atol=1e-11)
