"""Symmetric matrices that are never formed: products, solutions, log-determinants, diagonals and draws.

    Rotated    (L ⊗ R) diag(d) (L ⊗ R)ᵀ      a diagonal, a full matrix by its eigenvectors, a Kronecker product, EKFAC
    Dense      M itself
    Products   sum_k B_k ⊗ A_k + diag(rest)
    LowRank    V diag(s) Vᵀ + diag(rest)
    Inverse    (V diag(s) Vᵀ + diag(rest))⁻¹
    Blocks     a block-diagonal matrix, each block over some of the coordinates

All are positive semi-definite as they come; `plus(precision)` adds a diagonal, and makes them definite. `solve`,
`logdet` and `sample` are for definite ones. A vector is a tensor (..., P). Decompositions belong in float64, by `eigh`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import torch
from torch import Tensor

from kokkiri.numerics.symmetric import Forms, forms, pairs_of


@dataclass(frozen=True, eq=False)
class Rotated:
    """M = (L ⊗ R) diag(values) (L ⊗ R)ᵀ, on vectors that are (G, o, i) arrays written out row by row.

    left: (G, o, o) orthogonal, or None for the identity; right: (G, i, i), or None. values: (G, o, i), not negative.
    With X the vector as an array, M x = L (values ∘ (Lᵀ X R)) Rᵀ. A Kronecker product B ⊗ A of matrices with
    eigenvalues b and a has values b aᵀ; an eigenvalue-corrected one any values (George et al. 2018, eq. 6).

    >>> m = Rotated(None, None, torch.tensor([[[1.0, 2.0]]])).plus(1.0)
    >>> m.mv(torch.ones(2)), m.solve(torch.ones(2)), round(m.logdet().item(), 4)
    (tensor([2., 3.]), tensor([0.5000, 0.3333]), 1.7918)
    """

    left: Tensor | None
    right: Tensor | None
    values: Tensor

    @property
    def size(self) -> int:
        """P."""
        return self.values.numel()

    def turn(self, v: Tensor) -> Tensor:
        """(..., P) -> (..., G, o, i): the coordinates in which the matrix is diagonal."""
        x = v.reshape(*v.shape[:-1], *self.values.shape)
        x = x if self.left is None else self.left.mT @ x
        return x if self.right is None else x @ self.right

    def back(self, x: Tensor) -> Tensor:
        """(..., G, o, i) -> (..., P): the way back."""
        x = x if self.left is None else self.left @ x
        x = x if self.right is None else x @ self.right.mT
        return x.reshape(*x.shape[:-3], self.size)

    def mv(self, v: Tensor) -> Tensor:
        """M v."""
        return self.back(self.values * self.turn(v))

    def solve(self, v: Tensor) -> Tensor:
        """M⁻¹ v."""
        return self.back(self.turn(v) / self.values)

    def logdet(self) -> Tensor:
        """Log |M|."""
        return self.values.log().sum()

    def trace(self) -> Tensor:
        """Tr M."""
        return self.values.sum()

    def diagonal(self) -> Tensor:
        """(P,) of M."""
        return self._diagonal(self.values)

    def inverse_diagonal(self) -> Tensor:
        """(P,) of M⁻¹."""
        return self._diagonal(1 / self.values)

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """(n, P) draws from N(0, M⁻¹)."""
        z = torch.randn(n, *self.values.shape, generator=generator, dtype=self.values.dtype)
        return self.back(z.to(self.values.device) / self.values.sqrt())

    def plus(self, precision: Tensor | float) -> Rotated | Dense:
        """M + diag(precision): a number, or (P,). Where it varies within a rotated block, the block is formed.

        Raises ValueError for a Kronecker block with more than 4096 coordinates under a precision that varies in it.
        """
        if not isinstance(precision, Tensor) or precision.ndim == 0:
            return replace(self, values=self.values + precision)
        if self.left is None and self.right is None:
            return replace(self, values=self.values + precision.reshape(self.values.shape))
        if bool((precision == precision[0]).all()):
            return replace(self, values=self.values + precision[0])
        if self.size > 4096:
            raise ValueError("a precision that varies within a Kronecker block")
        return Dense(self.dense() + torch.diag(precision.to(self.values.dtype)))

    def dense(self) -> Tensor:
        """(P, P), for small ones."""
        return self.mv(torch.eye(self.size, dtype=self.values.dtype, device=self.values.device))

    def to(self, like: Tensor) -> Rotated:
        """The same in another dtype, or elsewhere."""
        move = lambda t: None if t is None else t.to(like)
        return Rotated(move(self.left), move(self.right), self.values.to(like))

    def _diagonal(self, values: Tensor) -> Tensor:
        x = values if self.left is None else self.left.square() @ values
        x = x if self.right is None else x @ self.right.square().mT
        return x.reshape(-1)


@dataclass(frozen=True, eq=False)
class Dense:
    """A full matrix (P, P), float64, factorised when asked: by Cholesky, or by `eigh` where rounding left that no root.

    least: what no eigenvalue can be below but by rounding, as of a sum of squares with a precision: where there is no
    root, smaller ones are taken for it.

    >>> m = Dense(torch.tensor([[1.0, 1.0], [1.0, 1.0]], dtype=torch.float64)).plus(1.0)
    >>> m.solve(torch.tensor([3.0, 3.0], dtype=torch.float64)), round(m.logdet().exp().item(), 6)
    (tensor([1.0000, 1.0000], dtype=torch.float64), 3.0)
    """

    matrix: Tensor
    _cache: dict[str, Any] = field(default_factory=dict, repr=False)
    least: float = 0.0

    @property
    def size(self) -> int:
        """P."""
        return len(self.matrix)

    def mv(self, v: Tensor) -> Tensor:
        """M v."""
        return v @ self.matrix

    def whiten(self, v: Tensor) -> Tensor:
        """W v with Wᵀ W = M⁻¹, so that |W v|² = vᵀ M⁻¹ v."""
        root = self._root().to(v)
        flat = v.reshape(-1, self.size).mT
        return torch.linalg.solve_triangular(root, flat, upper=False).mT.reshape(v.shape)

    def solve(self, v: Tensor) -> Tensor:
        """M⁻¹ v."""
        flat = v.reshape(-1, self.size).mT
        return torch.cholesky_solve(flat.to(self.matrix), self._root()).mT.reshape(v.shape).to(v)

    def logdet(self) -> Tensor:
        """Log |M|."""
        return 2 * self._root().diagonal().log().sum()

    def trace(self) -> Tensor:
        """Tr M."""
        return self.matrix.diagonal().sum()

    def diagonal(self) -> Tensor:
        """(P,) of M."""
        return self.matrix.diagonal()

    def inverse_diagonal(self) -> Tensor:
        """(P,) of M⁻¹."""
        if "inverse diagonal" not in self._cache:
            self._cache["inverse diagonal"] = torch.cholesky_inverse(self._root()).diagonal()
        return self._cache["inverse diagonal"]

    def inverse_forms(self, outputs: int, *, pairs: bool) -> Forms:
        """Of M over (o, i) arrays, φᵀ (M⁻¹)_cd φ: for each output c = d, or for all pairs c <= d. Made once."""
        name = f"forms of {'pairs' if pairs else 'outputs'}"
        if name not in self._cache:
            if "inverse" not in self._cache:
                self._cache["inverse"] = torch.cholesky_inverse(self._root())
            inverse = self._cache["inverse"].unflatten(0, (outputs, -1)).unflatten(2, (outputs, -1)).transpose(1, 2)
            own = inverse.diagonal(dim1=0, dim2=1).movedim(2, 0)
            c, d = pairs_of(outputs)
            some = (inverse[c, d] + inverse[c, d].mT) / 2 if pairs else own
            self._cache[name] = forms(some, own.mean(0))
        return self._cache[name]

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """(n, P) draws from N(0, M⁻¹)."""
        z = torch.randn(self.size, n, generator=generator, dtype=self.matrix.dtype).to(self.matrix.device)
        return torch.linalg.solve_triangular(self._root().mT, z, upper=True).mT

    def plus(self, precision: Tensor | float) -> Dense:
        """M + diag(precision)."""
        out = self.matrix.clone()
        out.diagonal().add_(precision)
        more = float(precision.min()) if isinstance(precision, Tensor) else float(precision)
        return Dense(out, least=self.least + more)

    def dense(self) -> Tensor:
        """(P, P)."""
        return self.matrix

    def eigen(self) -> Rotated:
        """The same by its eigenvectors: a precision for all coordinates is then added in microseconds."""
        return symmetric(self.matrix)

    def to(self, like: Tensor) -> Dense:
        """The same in another dtype, or elsewhere."""
        return Dense(self.matrix.to(like), least=self.least)

    def _root(self) -> Tensor:
        if "root" not in self._cache:
            root, failed = torch.linalg.cholesky_ex(self.matrix)
            if bool(failed) or not bool(root.isfinite().all()):
                values, vectors = eigen(self.matrix)
                floor = values.amax() * len(values) * torch.finfo(values.dtype).eps
                half = vectors * values.clamp(min=max(float(floor), self.least, 1e-300)).sqrt()
                root = torch.linalg.qr(half.mT)[1].mT
                root = root * root.diagonal().sign()
            self._cache["root"] = root
        return self._cache["root"]


@dataclass(frozen=True, eq=False)
class LowRank:
    """M = V diag(s) Vᵀ + diag(rest). vectors: V (P, k), orthonormal or not; values: s (k,) > 0; rest: (P,) >= 0.

    Solutions and determinants by the Woodbury identity, through the eigenvalues of the k x k matrix
    I + √s Vᵀ diag(rest)⁻¹ V √s.

    >>> m = LowRank(torch.tensor([[1.0], [1.0]]), torch.tensor([2.0]), torch.ones(2))
    >>> m.mv(torch.tensor([1.0, 0.0])), round(m.logdet().exp().item(), 4)
    (tensor([3., 2.]), 5.0)
    """

    vectors: Tensor
    values: Tensor
    rest: Tensor
    _cache: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict, repr=False)

    @property
    def size(self) -> int:
        """P."""
        return len(self.rest)

    def mv(self, v: Tensor) -> Tensor:
        """M v."""
        return (v @ self.vectors * self.values) @ self.vectors.mT + self.rest * v

    def solve(self, v: Tensor) -> Tensor:
        """M⁻¹ v = D⁻¹v - D⁻¹W (I + WᵀD⁻¹W)⁻¹ WᵀD⁻¹v with W = V √s, D = diag(rest)."""
        core, basis = self._core()
        scaled = v / self.rest
        return scaled - ((scaled @ self._root() @ basis) / core) @ basis.mT @ self._root().mT / self.rest

    def logdet(self) -> Tensor:
        """Log |M|."""
        return self._core()[0].log().sum() + self.rest.log().sum()

    def trace(self) -> Tensor:
        """Tr M."""
        return self.diagonal().sum()

    def diagonal(self) -> Tensor:
        """(P,) of M."""
        return self.vectors.square() @ self.values + self.rest

    def inverse_diagonal(self) -> Tensor:
        """(P,) of M⁻¹."""
        core, basis = self._core()
        return 1 / self.rest - ((self._root() @ basis / self.rest[:, None]).square() / core).sum(1)

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """(n, P) draws from N(0, M⁻¹): e of covariance M gives M⁻¹e the covariance M⁻¹."""
        return self.solve(self.noise(n, generator))

    def noise(self, n: int, generator: torch.Generator) -> Tensor:
        """(n, P) draws from N(0, M): D^½ z + W u, with W = V √s, D = diag(rest)."""
        draw = lambda k: torch.randn(n, k, generator=generator, dtype=self.rest.dtype).to(self.rest.device)
        return draw(self.size) * self.rest.sqrt() + draw(len(self.values)) @ self._root().mT

    def plus(self, precision: Tensor | float) -> LowRank:
        """M + diag(precision)."""
        return LowRank(self.vectors, self.values, self.rest + precision)

    def dense(self) -> Tensor:
        """(P, P), for small ones."""
        return (self.vectors * self.values) @ self.vectors.mT + torch.diag(self.rest)

    def to(self, like: Tensor) -> LowRank:
        """The same in another dtype, or elsewhere."""
        return LowRank(self.vectors.to(like), self.values.to(like), self.rest.to(like))

    def _root(self) -> Tensor:
        return self.vectors * self.values.sqrt()

    def _core(self) -> tuple[Tensor, Tensor]:
        if "core" not in self._cache:
            root = self._root()
            inner = (root / self.rest[:, None]).mT @ root
            eye = torch.eye(len(inner), dtype=inner.dtype, device=inner.device)
            self._cache["core"] = tuple(torch.linalg.eigh((inner + inner.mT) / 2 + eye))
        return self._cache["core"]


@dataclass(frozen=True, eq=False)
class Inverse:
    """M = Σ⁻¹ of a covariance Σ that is known as low rank and a diagonal: what Σ solves, M multiplies.

    >>> m = Inverse(LowRank(torch.tensor([[1.0], [1.0]]), torch.tensor([2.0]), torch.ones(2)))
    >>> m.solve(torch.tensor([1.0, 0.0])), round(m.logdet().exp().item(), 4)
    (tensor([3., 2.]), 0.2)
    """

    covariance: LowRank

    @property
    def size(self) -> int:
        """P."""
        return self.covariance.size

    def mv(self, v: Tensor) -> Tensor:
        """M v."""
        return self.covariance.solve(v)

    def solve(self, v: Tensor) -> Tensor:
        """M⁻¹ v = Σ v."""
        return self.covariance.mv(v)

    def logdet(self) -> Tensor:
        """Log |M|."""
        return -self.covariance.logdet()

    def trace(self) -> Tensor:
        """Tr M."""
        return self.diagonal().sum()

    def diagonal(self) -> Tensor:
        """(P,) of M."""
        return self.covariance.inverse_diagonal()

    def inverse_diagonal(self) -> Tensor:
        """(P,) of M⁻¹ = Σ."""
        return self.covariance.diagonal()

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """(n, P) draws from N(0, M⁻¹) = N(0, Σ), without a solution."""
        return self.covariance.noise(n, generator)

    def plus(self, precision: Tensor | float) -> Dense:
        """M + diag(precision), formed: the sum has no covariance of low rank.

        Raises ValueError beyond 4096 coordinates.
        """
        if self.size > 4096:
            raise ValueError("a precision added to the inverse of a covariance of low rank")
        return Dense(self.dense()).plus(precision)

    def dense(self) -> Tensor:
        """(P, P), for small ones."""
        return self.mv(torch.eye(self.size, dtype=self.covariance.rest.dtype, device=self.covariance.rest.device))

    def to(self, like: Tensor) -> Inverse:
        """The same in another dtype, or elsewhere."""
        return Inverse(self.covariance.to(like))


@dataclass(frozen=True, eq=False)
class Products:
    """M = sum_k B_k ⊗ A_k + diag(rest): Kronecker products kept apart, on (o, i) arrays; M x = sum_k B_k X A_k.

    Products are exact in it; solutions, determinants and draws are those of `near`, the matrix with the same diagonal
    in the eigenbasis of the products' sum: the best of that form (the sum of two Kronecker products is not one).
    terms: (B_k, A_k) with (o, o) and (i, i).
    """

    terms: tuple[tuple[Tensor, Tensor], ...]
    rest: Tensor  # (o, i)
    near: Rotated

    @property
    def size(self) -> int:
        """P."""
        return self.rest.numel()

    def mv(self, v: Tensor) -> Tensor:
        """M v, exactly."""
        x = v.reshape(*v.shape[:-1], *self.rest.shape)
        total = self.rest * x
        for b, a in self.terms:
            total = total + b @ x @ a
        return total.reshape(v.shape)

    def solve(self, v: Tensor) -> Tensor:
        """Approximately M⁻¹ v."""
        return self.near.solve(v)

    def logdet(self) -> Tensor:
        """Approximately log |M|: at most too large, by Hadamard's inequality."""
        return self.near.logdet()

    def trace(self) -> Tensor:
        """Tr M."""
        return self.near.trace()

    def diagonal(self) -> Tensor:
        """(P,) of M."""
        parts = [torch.outer(b.diagonal(), a.diagonal()) for b, a in self.terms]
        return (torch.stack(parts).sum(0) + self.rest).reshape(-1)

    def inverse_diagonal(self) -> Tensor:
        """Approximately (P,) of M⁻¹."""
        return self.near.inverse_diagonal()

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """(n, P) draws from about N(0, M⁻¹)."""
        return self.near.sample(n, generator)

    def plus(self, precision: Tensor | float) -> Products:
        """M + diag(precision), a number or (P,)."""
        if isinstance(precision, Tensor) and precision.ndim:
            if not bool((precision == precision[0]).all()):
                return kronecker_sum(self.terms, self.rest + precision.reshape(self.rest.shape))
            precision = precision[0]
        near = Rotated(self.near.left, self.near.right, self.near.values + precision)
        return Products(self.terms, self.rest + precision, near)

    def dense(self) -> Tensor:
        """(P, P), for small ones."""
        return self.mv(torch.eye(self.size, dtype=self.rest.dtype, device=self.rest.device))

    def to(self, like: Tensor) -> Products:
        """The same in another dtype, or elsewhere."""
        return Products(tuple((b.to(like), a.to(like)) for b, a in self.terms), self.rest.to(like), self.near.to(like))


@dataclass(frozen=True, eq=False)
class Blocks:
    """A block-diagonal matrix over P coordinates. parts: (index, block), the coordinates of each block in its order.

    Coordinates in no part are held fixed: `mv` and `solve` give 0 there, a draw 0, and the determinant leaves them out.

    >>> one = Rotated(None, None, torch.tensor([[[4.0]]]))
    >>> Blocks(2, ((torch.tensor([1]), one),)).solve(torch.ones(2))
    tensor([0.0000, 0.2500])
    """

    size: int
    parts: tuple[tuple[Tensor, Block], ...]

    def mv(self, v: Tensor) -> Tensor:
        """M v."""
        return self._each(v, "mv")

    def solve(self, v: Tensor) -> Tensor:
        """M⁻¹ v."""
        return self._each(v, "solve")

    def logdet(self) -> Tensor:
        """Log |M|."""
        return torch.stack([part.logdet() for _, part in self.parts]).sum()

    def trace(self) -> Tensor:
        """Tr M."""
        return torch.stack([part.trace() for _, part in self.parts]).sum()

    def diagonal(self) -> Tensor:
        """(P,) of M."""
        return self._spread([part.diagonal() for _, part in self.parts])

    def inverse_diagonal(self) -> Tensor:
        """(P,) of M⁻¹, 0 where a coordinate is held fixed."""
        return self._spread([part.inverse_diagonal() for _, part in self.parts])

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """(n, P) draws from N(0, M⁻¹)."""
        return self._spread([part.sample(n, generator) for _, part in self.parts])

    def plus(self, precision: Tensor | float) -> Blocks:
        """M + diag(precision), a number or (P,)."""
        own = lambda index: precision[index] if isinstance(precision, Tensor) and precision.ndim else precision
        return Blocks(self.size, tuple((index, part.plus(own(index))) for index, part in self.parts))

    @property
    def free(self) -> Tensor:
        """The coordinates that are not held fixed."""
        return torch.cat([index for index, _ in self.parts])

    def dense(self) -> Tensor:
        """(P, P), for small ones."""
        some = self.parts[0][1].diagonal()
        return self.mv(torch.eye(self.size, dtype=some.dtype, device=some.device))

    def to(self, like: Tensor) -> Blocks:
        """The same in another dtype, or elsewhere."""
        return Blocks(self.size, tuple((index.to(like.device), part.to(like)) for index, part in self.parts))

    def _each(self, v: Tensor, method: str) -> Tensor:
        out = torch.zeros_like(v)
        for index, part in self.parts:
            out[..., index] = (part.mv if method == "mv" else part.solve)(v[..., index])
        return out

    def _spread(self, values: Sequence[Tensor]) -> Tensor:
        out = values[0].new_zeros(*values[0].shape[:-1], self.size)
        for (index, _), value in zip(self.parts, values, strict=True):
            out[..., index] = value
        return out


Block: TypeAlias = Rotated | Dense | LowRank | Inverse | Products


def diagonal(values: Tensor) -> Rotated:
    """diag(values), (P,)."""
    return Rotated(None, None, values.reshape(1, 1, -1))


def symmetric(matrix: Tensor) -> Rotated:
    """A full matrix (P, P) by its eigenvectors; eigenvalues that rounding made negative are 0.

    >>> symmetric(torch.tensor([[2.0, 1.0], [1.0, 2.0]])).values.flatten()
    tensor([1., 3.], dtype=torch.float64)
    """
    values, vectors = eigen(matrix)
    return Rotated(vectors[None], None, values[None, :, None])


def kronecker(left: Tensor, right: Tensor) -> Rotated:
    """B ⊗ A, B = left (G, o, o), A = right (G, i, i): G such products one after the other."""
    (b, left), (a, right) = eigen(left), eigen(right)
    return Rotated(left, right, b[..., :, None] * a[..., None, :])


def kronecker_sum(terms: Sequence[tuple[Tensor, Tensor]], rest: Tensor | None = None) -> Products:
    """sum_k B_k ⊗ A_k + diag(rest), rest (o, i) or none.

    The basis of `near` is that of the sums of factors, each scaled to its share.
    """
    if rest is None:
        rest = terms[0][0].new_zeros(len(terms[0][0]), len(terms[0][1]))
        if len(terms) == 1:  # its own basis says it all
            return Products(tuple(terms), rest, kronecker(terms[0][0][None], terms[0][1][None]))
    trace = lambda m: m.diagonal().sum().clamp(min=torch.finfo(m.dtype).tiny)
    left = torch.stack([b * trace(a) for b, a in terms]).sum(0)
    right = torch.stack([a * trace(b) for b, a in terms]).sum(0)
    left, right = eigen(left)[1], eigen(right)[1]
    along = lambda m, basis: ((m @ basis) * basis).sum(0)
    values = torch.stack([torch.outer(along(b, left), along(a, right)) for b, a in terms]).sum(0).clamp(min=0)
    values = values + left.square().mT @ rest @ right.square()  # the diagonal of `rest`, seen from the basis
    return Products(tuple(terms), rest, Rotated(left[None], right[None], values[None]))


def added(one: Block, other: Block) -> Block:
    """The sum of two blocks over the same coordinates.

    Kronecker products stay apart; rotated matrices in different bases are seen from the basis of their sum, which keeps
    the trace. Raises ValueError for forms that do not add up.
    """
    one, other = (m.plus(0.0) if isinstance(m, Inverse) else m for m in (one, other))
    if isinstance(one, Products) and isinstance(other, Products):
        return kronecker_sum((*one.terms, *other.terms), one.rest + other.rest)
    if isinstance(one, Dense) and isinstance(other, Dense):
        return Dense(one.matrix + other.matrix, least=one.least + other.least)
    if isinstance(one, LowRank) and isinstance(other, LowRank):
        vectors, values = torch.cat([one.vectors, other.vectors], 1), torch.cat([one.values, other.values])
        return LowRank(vectors, values, one.rest + other.rest)
    if isinstance(one, Rotated) and isinstance(other, Rotated) and one.values.shape == other.values.shape:
        return _rotated_sum(one, other)
    if isinstance(one, Dense):
        return Dense(one.matrix + other.dense(), least=one.least)
    if isinstance(other, Dense):
        return Dense(one.dense() + other.matrix, least=other.least)
    raise ValueError(f"{type(one).__name__} and {type(other).__name__} do not add up")


def blocks_added(one: Blocks, other: Blocks) -> Blocks:
    """The sum of two block-diagonal matrices with the same blocks. Raises ValueError where they differ."""
    if len(one.parts) != len(other.parts) or any(
        not torch.equal(a, b) for (a, _), (b, _) in zip(one.parts, other.parts, strict=True)
    ):
        raise ValueError("matrices with different blocks")
    pairs = zip(one.parts, other.parts, strict=True)
    return Blocks(one.size, tuple((index, added(a, b)) for (index, a), (_, b) in pairs))


def _rotated_sum(one: Rotated, other: Rotated) -> Rotated:
    same = lambda a, b: (a is None and b is None) or (a is not None and b is not None and torch.equal(a, b))
    if same(one.left, other.left) and same(one.right, other.right):
        return Rotated(one.left, one.right, one.values + other.values)
    left = eigen(_marginal(one.left, one.values.sum(2)) + _marginal(other.left, other.values.sum(2)))[1]
    right = eigen(_marginal(one.right, one.values.sum(1)) + _marginal(other.right, other.values.sum(1)))[1]
    seen = [
        _squared(left, m.left) @ m.values @ _squared(right, m.right).mT  # (u_a · l_i)² d_ij (v_b · r_j)²
        for m in (one, other)
    ]
    return Rotated(left, right, seen[0] + seen[1])


def _marginal(basis: Tensor | None, values: Tensor) -> Tensor:
    """(G, o, o) the partial trace of a rotated matrix."""
    return torch.diag_embed(values) if basis is None else (basis * values[:, None]) @ basis.mT


def _squared(basis: Tensor, old: Tensor | None) -> Tensor:
    return basis.mT.square() if old is None else (basis.mT @ old).square()


def eigen(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues (..., P), 0 where rounding made them negative, and eigenvectors, in float64.

    Raises ValueError where the matrix is not finite: LAPACK would not say so.
    """
    if not bool(matrix.isfinite().all()):
        raise ValueError("a curvature that is not finite")
    values, vectors = torch.linalg.eigh(((matrix + matrix.mT) / 2).double())
    return values.clamp(min=0), vectors.contiguous()  # as they come from a file: products round alike


def gaussian_log_density(precision: Blocks, offset: Tensor) -> Tensor:
    """Log N(offset | 0, M⁻¹) over the free coordinates, (..., P) -> (...,) nats."""
    n = sum(part.size for _, part in precision.parts)
    quadratic = (offset * precision.mv(offset)).sum(-1)
    return 0.5 * (precision.logdet() - n * math.log(2 * math.pi) - quadratic)


def packed(matrix: Blocks) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Plain values and tensors by name that `unpacked` makes the matrix of again."""
    page: dict[str, Any] = {"size": matrix.size, "parts": []}
    tensors: dict[str, Tensor] = {}
    for k, (index, block) in enumerate(matrix.parts):
        tensors[f"{k}/index"] = index
        kind, own = _packed(block)
        page["parts"].append(kind)
        tensors |= {f"{k}/{name}": t for name, t in own.items()}
    return page, tensors


def _packed(block: Block) -> tuple[str, dict[str, Tensor]]:
    match block:
        case Rotated():
            some = {"left": block.left, "right": block.right, "values": block.values}
            return "rotated", {n: t for n, t in some.items() if t is not None}
        case Dense():
            return "dense", {"matrix": block.matrix, "least": torch.tensor(block.least, dtype=torch.float64)}
        case LowRank():
            return "low rank", {"vectors": block.vectors, "values": block.values, "rest": block.rest}
        case Inverse(covariance=c):
            return "inverse of low rank", {"vectors": c.vectors, "values": c.values, "rest": c.rest}
        case Products():
            own = {f"b{k}": b for k, (b, _) in enumerate(block.terms)} | {
                f"a{k}": a for k, (_, a) in enumerate(block.terms)
            }
            return "products", {**own, "rest": block.rest}


def unpacked(page: dict[str, Any], tensors: dict[str, Tensor]) -> Blocks:
    """The matrix that `packed` wrote down. Raises KeyError where it is not one."""
    parts = []
    for k, kind in enumerate(page["parts"]):
        own = {n.removeprefix(f"{k}/"): t for n, t in tensors.items() if n.startswith(f"{k}/")}
        index = own.pop("index")
        match kind:
            case "rotated":
                block: Block = Rotated(own.get("left"), own.get("right"), own["values"])
            case "dense":
                block = Dense(own["matrix"], least=float(own.get("least", 0.0)))
            case "low rank":
                block = LowRank(own["vectors"], own["values"], own["rest"])
            case "inverse of low rank":
                block = Inverse(LowRank(own["vectors"], own["values"], own["rest"]))
            case "products":
                many = len([n for n in own if n.startswith("b")])
                block = kronecker_sum([(own[f"b{i}"], own[f"a{i}"]) for i in range(many)], own["rest"])
            case _:
                raise KeyError(kind)
        parts.append((index, block))
    return Blocks(int(page["size"]), tuple(parts))
