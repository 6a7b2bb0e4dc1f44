"""Every operator equals the matrix that it stands for: products, solutions, determinants, diagonals and draws."""

import math
from itertools import starmap

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2

from kokkiri.numerics import operators
from kokkiri.numerics.operators import (
    Blocks,
    Dense,
    Inverse,
    LowRank,
    Products,
    Rotated,
    blocks_added,
    gaussian_log_density,
    kronecker,
    kronecker_sum,
    packed,
    symmetric,
    unpacked,
)
from kokkiri.numerics.random import generator

KINDS = [
    "diagonal", "full", "full, deficient", "full by eigenvectors", "kronecker", "grouped kronecker", "corrected",
    "low rank", "low rank, not orthonormal", "low rank, rank 0", "one product",
    "inverse of low rank",
]  # fmt: skip
DRAWS = 20_000


def rng(seed):
    return torch.Generator().manual_seed(seed)


def normal(seed, *shape):
    return torch.randn(shape, generator=rng(seed), dtype=torch.float64)


def positive(seed, n, rank=None):
    a = normal(seed, n, n if rank is None else rank)
    return a @ a.mT


def kron(*pairs):
    return torch.block_diag(*list(starmap(torch.kron, pairs)))


def pair(kind, seed):
    """(operator, the matrix it stands for), positive semi-definite."""
    match kind:
        case "diagonal":
            d = normal(seed, 6).square()
            return operators.diagonal(d), d.diag()
        case "full":
            m = positive(seed, 6)
            return Dense(m), m
        case "full, deficient":
            m = positive(seed, 6, 2)
            return Dense(m), m
        case "full by eigenvectors":
            m = positive(seed, 6)
            return Dense(m).eigen(), m
        case "kronecker":
            b, a = positive(seed, 2), positive(seed + 1, 3, 2)
            return kronecker(b[None], a[None]), kron((b, a))
        case "grouped kronecker":
            b = torch.stack([positive(seed + i, 2) for i in range(3)])
            a = torch.stack([positive(seed + 9 + i, 3) for i in range(3)])
            return kronecker(b, a), kron(*zip(b, a, strict=True))
        case "corrected":
            left, right = (torch.linalg.eigh(positive(seed + i, n))[1] for i, n in enumerate((2, 3)))
            values = normal(seed + 5, 1, 2, 3).square()
            u = torch.kron(left, right)
            return Rotated(left[None], right[None], values), u @ values.flatten().diag() @ u.mT
        case "low rank" | "low rank, not orthonormal" | "low rank, rank 0":
            v = normal(seed, 6, 0 if kind.endswith("0") else 3)
            v = torch.linalg.qr(v)[0] if kind == "low rank" else v
            s, rest = normal(seed + 1, v.shape[1]).square(), normal(seed + 2, 6).square()
            return LowRank(v, s, rest), v @ s.diag() @ v.mT + rest.diag()
        case "inverse of low rank":
            v, s, rest = normal(seed, 6, 3), normal(seed + 1, 3).square(), normal(seed + 2, 6).square() + 0.1
            return Inverse(LowRank(v, s, rest)), torch.linalg.inv(v @ s.diag() @ v.mT + rest.diag())
        case _:
            b, a = positive(seed, 2), positive(seed + 1, 3)
            return kronecker_sum([(b, a)]), kron((b, a))


def near(a, b, tolerance=1e-10):
    assert a.shape == b.shape
    assert torch.allclose(a, b, rtol=tolerance, atol=tolerance * max(1.0, float(b.abs().amax()) if b.numel() else 1.0))


def agrees(m, dense, seed):
    """All that a definite operator says."""
    n = len(dense)
    assert m.size == n
    v = normal(seed, 2, 3, n)
    near(m.dense(), dense)
    near(m.mv(v), v @ dense)
    near(m.trace(), dense.trace())
    near(m.diagonal(), dense.diagonal())
    inverse = torch.linalg.inv(dense)
    scale = float(torch.linalg.cond(dense))
    near(m.solve(v), v @ inverse, 1e-14 * scale + 1e-10)
    near(m.solve(m.mv(v)), v, 1e-14 * scale + 1e-10)
    near(m.logdet(), torch.logdet(dense), 1e-14 * scale + 1e-10)
    near(m.inverse_diagonal(), inverse.diagonal(), 1e-14 * scale + 1e-10)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 10**6), precision=st.floats(1e-2, 1e3))
def test_an_operator_with_a_precision_is_its_matrix_with_a_diagonal(kind, seed, precision):
    m, dense = pair(kind, seed)
    near(m.dense(), dense)
    near(m.trace(), dense.trace())
    near(m.diagonal(), dense.diagonal())
    agrees(m.plus(precision), dense + precision * torch.eye(len(dense), dtype=torch.float64), seed)
    agrees(m.plus(torch.tensor(precision)), dense + torch.tensor(precision) * torch.eye(len(dense)), seed)


@pytest.mark.parametrize("kind", [k for k in KINDS if k != "one product"])
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_a_precision_may_differ_from_coordinate_to_coordinate(kind, seed):
    m, dense = pair(kind, seed)
    precision = normal(seed + 3, len(dense)).square() + 0.1
    agrees(m.plus(precision), dense + precision.diag(), seed)
    same = torch.full_like(precision, 0.3)
    agrees(m.plus(same), dense + same.diag(), seed)
    agrees(m.plus(same).plus(0.5), dense + same.diag() + 0.5 * torch.eye(len(dense)), seed)


def test_a_precision_that_is_the_same_keeps_a_kronecker_product_in_factors():
    m, _ = pair("kronecker", 0)
    assert isinstance(m.plus(torch.full((6,), 0.3, dtype=torch.float64)), Rotated)
    assert isinstance(m.plus(torch.arange(1.0, 7.0, dtype=torch.float64)), Dense)


def test_a_large_kronecker_block_refuses_a_precision_that_differs_within_it():
    m = Rotated(None, torch.eye(5000, dtype=torch.float64)[None], torch.ones(1, 1, 5000, dtype=torch.float64))
    with pytest.raises(ValueError, match="varies"):
        m.plus(torch.arange(1.0, 5001.0, dtype=torch.float64))


def p_of_covariance(draws, precision):
    """Of sum x ᵀ M x over draws, and of the largest standardised entry of M^½ cov M^½ - I."""
    n, p = draws.shape
    quadratic = torch.einsum("np,pq,nq->", draws, precision, draws)
    total = 2 * min(chi2.cdf(float(quadratic), n * p), chi2.sf(float(quadratic), n * p))
    white = draws @ torch.linalg.cholesky(precision)  # covariance the identity
    second = white.mT @ white / n
    z = (second - torch.eye(p)) * math.sqrt(n) / torch.where(torch.eye(p) > 0, 2.0, 1.0).sqrt()
    return total, float(z.abs().amax())


@pytest.mark.parametrize("kind", KINDS)
def test_draws_have_the_covariance_of_the_inverse(kind):
    m, dense = pair(kind, 3)
    m, dense = m.plus(0.5), dense + 0.5 * torch.eye(len(dense))
    draws = m.sample(DRAWS, generator(0, "draws"))
    assert draws.shape == (DRAWS, len(dense))
    p, z = p_of_covariance(draws, dense)
    assert p > 1e-3
    assert z < 4.5
    assert float(draws.mean(0).abs().amax()) < 5 * float(torch.linalg.inv(dense).diagonal().amax().sqrt()) / DRAWS**0.5


def test_the_judge_of_draws_can_tell_a_wrong_covariance():
    m, dense = pair("full", 3)
    draws = m.plus(0.5).sample(DRAWS, generator(0, "draws"))
    p, z = p_of_covariance(draws * 1.04, dense + 0.5 * torch.eye(6))
    assert p < 1e-3
    assert z > 4.5


def test_draws_are_a_function_of_the_seed():
    m = pair("low rank", 1)[0].plus(1.0)
    assert torch.equal(m.sample(3, generator(5, "draws")), m.sample(3, generator(5, "draws")))
    assert not torch.equal(m.sample(3, generator(5, "draws")), m.sample(3, generator(6, "draws")))


def test_whitening_gives_the_quadratic_form_of_the_inverse():
    m = positive(0, 6) + torch.eye(6)
    v = normal(1, 2, 3, 6)
    near(Dense(m).whiten(v).square().sum(-1), (v @ torch.linalg.inv(m) * v).sum(-1))


def test_a_full_matrix_that_rounding_made_indefinite_is_still_solved():
    m = positive(0, 6, 2)
    m[0, 0] -= 1e-17 * float(m[0, 0])
    m = m - 1e-15 * torch.eye(6)
    assert torch.linalg.cholesky_ex(m)[1] > 0
    root = Dense(m)._root()
    near(root @ root.mT, m, 1e-13)
    near(root, root.tril())
    assert bool((root.diagonal() > 0).all())
    assert bool(torch.isfinite(Dense(m).logdet()))


def test_eigenvalues_that_rounding_took_below_the_precision_are_taken_for_it():
    """Of a sum of squares and 0.1 none is below 0.1: without that, variances of 1e10 would follow."""
    turn = torch.linalg.qr(normal(0, 4, 4))[0]
    noisy = turn @ torch.tensor([-0.3, 0.02, 5.0, 1e6], dtype=torch.float64).diag() @ turn.mT
    m = Dense(noisy).plus(0.1)
    assert m.least == pytest.approx(0.1)
    again = unpacked(*packed(Blocks(4, ((torch.arange(4), m),)))).parts[0][1]
    for found in (m, again):
        inverse = found.solve(torch.eye(4, dtype=torch.float64))
        near(inverse, turn @ torch.tensor([10.0, 1 / 0.12, 1 / 5.1, 1 / (1e6 + 0.1)]).double().diag() @ turn.mT, 1e-6)
    both = blocks_added(Blocks(4, ((torch.arange(4), m),)), Blocks(4, ((torch.arange(4), Dense(noisy).plus(0.2)),)))
    assert both.parts[0][1].least == pytest.approx(0.3)
    assert Dense(noisy).plus(torch.tensor([0.4, 0.3, 0.2, 0.5])).least == pytest.approx(0.2)


def test_what_is_not_finite_is_refused():
    with pytest.raises(ValueError, match="not finite"):
        symmetric(torch.full((2, 2), math.nan))
    with pytest.raises(ValueError, match="not finite"):
        kronecker(torch.full((1, 2, 2), math.inf), torch.eye(2)[None])


def sum_of_products(seed, terms=3):
    pairs = [(positive(seed + 2 * i, 2), positive(seed + 2 * i + 1, 3)) for i in range(terms)]
    rest = normal(seed + 50, 2, 3).square() + 0.1
    return kronecker_sum(pairs, rest), sum(kron(p) for p in pairs) + rest.flatten().diag()


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_a_sum_of_kronecker_products_multiplies_exactly(seed):
    m, dense = sum_of_products(seed)
    v = normal(seed, 4, 6)
    near(m.mv(v), v @ dense)
    near(m.dense(), dense)
    near(m.trace(), dense.trace())
    near(m.diagonal(), dense.diagonal())
    near(m.plus(0.7).mv(v), v @ dense + 0.7 * v)
    precision = normal(seed, 6).square()
    near(m.plus(precision).mv(v), v @ dense + precision * v)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_what_stands_for_a_sum_of_products_keeps_its_diagonal_in_the_basis_and_overstates_the_determinant(seed):
    for m, dense in (
        sum_of_products(seed),
        (sum_of_products(seed)[0].plus(0.5), sum_of_products(seed)[1] + 0.5 * torch.eye(6)),
    ):
        assert isinstance(m, Products)
        u = torch.kron(m.near.left[0], m.near.right[0])
        near(m.near.values.flatten(), (u.mT @ dense @ u).diagonal())
        assert float(m.logdet()) >= float(torch.logdet(dense)) - 1e-10
        v = normal(seed, 4, 6)
        near(m.near.mv(m.solve(v)), v)


def test_products_with_one_basis_are_exact():
    b, a = positive(0, 2), positive(1, 3)
    m = kronecker_sum([(b, a), (2 * b, 3 * a), (torch.eye(2, dtype=torch.float64), 0.5 * a)])
    eye = torch.eye(6, dtype=torch.float64)
    agrees(m.plus(0.3), 7 * kron((b, a)) + 0.5 * kron((eye[:2, :2], a)) + 0.3 * eye, 2)


def blocks(seed=0):
    """Three blocks over 11 of 13 coordinates, out of order."""
    order = torch.randperm(13, generator=rng(seed))
    parts, dense, at = [], torch.zeros(13, 13, dtype=torch.float64), 0
    for kind, n in (("diagonal", 6), ("full", 6)):
        index = order[at : at + n] if n + at <= 11 else order[at:11]
        m, d = pair(kind, seed + n)
        if len(index) < n:
            m, d = Dense(d[: len(index), : len(index)]), d[: len(index), : len(index)]
        dense[index[:, None], index] = d
        parts.append((index, m))
        at += len(index)
    return Blocks(13, tuple(parts)), dense, order[:11]


def test_blocks_are_a_block_diagonal_matrix_and_hold_the_other_coordinates_fixed():
    m, dense, free = blocks()
    precision = normal(4, 13).square() + 0.2
    m, dense = m.plus(precision), dense + precision.diag()
    inside = torch.zeros(13, dtype=torch.float64)
    inside[free] = 1
    part = dense[free[:, None], free]
    inverse = torch.zeros(13, 13, dtype=torch.float64)
    inverse[free[:, None], free] = torch.linalg.inv(part)
    v = normal(5, 3, 13)
    near(m.mv(v), v @ (dense * inside[:, None] * inside))
    near(m.solve(v), v @ inverse)
    near(m.logdet(), torch.logdet(part))
    near(m.trace(), part.trace())
    near(m.diagonal(), dense.diagonal() * inside)
    near(m.inverse_diagonal(), inverse.diagonal())
    near(m.dense(), dense * inside[:, None] * inside)
    draws = m.sample(5, generator(0, "draws"))
    assert draws.shape == (5, 13)
    assert bool((draws[:, inside == 0] == 0).all())
    assert bool((draws[:, inside == 1] != 0).all())
    assert sorted(m.free.tolist()) == sorted(free.tolist())


def test_a_number_is_added_to_the_free_coordinates_only():
    m, dense, free = blocks()
    inside = torch.zeros(13)
    inside[free] = 1
    near(m.plus(0.5).dense(), dense + 0.5 * inside.diag())


def test_the_density_of_a_gaussian_is_that_of_torch():
    m, dense, free = blocks()
    m, dense = m.plus(0.5), dense + 0.5 * torch.eye(13)
    v = normal(6, 3, 13)
    true = torch.distributions.MultivariateNormal(
        torch.zeros(11, dtype=torch.float64), precision_matrix=dense[free[:, None], free]
    )
    near(gaussian_log_density(m, v), true.log_prob(v[:, free]))


@pytest.mark.parametrize("kind", [*KINDS, "products"])
def test_what_was_written_down_is_read_again(kind):
    m = sum_of_products(4)[0] if kind == "products" else pair(kind, 4)[0]
    whole = Blocks(m.size + 1, ((torch.arange(m.size), m),)).plus(0.4)
    again = unpacked(*packed(whole))
    v = normal(7, m.size + 1)
    near(again.mv(v), whole.mv(v))
    near(again.solve(v), whole.solve(v))
    near(again.logdet(), whole.logdet())


@pytest.mark.parametrize("kind", KINDS)
def test_two_of_a_kind_add_up_with_the_trace_of_both(kind):
    one, a = pair(kind, 1)
    other, b = pair(kind, 2)
    wrap = lambda m: Blocks(m.size, ((torch.arange(m.size), m),))
    both = blocks_added(wrap(one), wrap(other))
    near(both.trace(), (a + b).trace())
    if kind in {"diagonal", "full", "full, deficient", "low rank", "low rank, not orthonormal", "low rank, rank 0"}:
        agrees(both.plus(0.5), a + b + 0.5 * torch.eye(len(a)), 3)
    if kind == "one product":
        near(both.dense(), a + b)


def test_blocks_that_differ_do_not_add_up():
    one = Blocks(3, ((torch.tensor([0, 1]), operators.diagonal(torch.ones(2))),))
    other = Blocks(3, ((torch.tensor([1, 2]), operators.diagonal(torch.ones(2))),))
    with pytest.raises(ValueError, match="different blocks"):
        blocks_added(one, other)


@pytest.mark.parametrize("kind", KINDS)
def test_an_operator_moves_to_another_dtype(kind):
    m, dense = pair(kind, 8)
    whole = Blocks(m.size, ((torch.arange(m.size), m.plus(1.0)),)).to(torch.empty(0))
    v = normal(1, len(dense)).float()
    assert whole.mv(v).dtype == torch.float32
    near(whole.mv(v).double(), v.double() @ (dense + torch.eye(len(dense))), 1e-5)
