"""What a pass yields of each group of parameters: the inputs of its maps, and gradients of K columns at their outputs.

A gradient of datum b and column k with respect to an affine map is G = sum_t g_t a_tᵀ over the T places where the map
is used (pixels, words, calls); everything that structures and predictions need are sums of squares of such G, and most
of them never form one.

Shape letters beside the usual: K columns, T places of a shared weight, G groups of a grouped convolution, o and i
outputs and inputs of a map.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from kokkiri.numerics.operators import Rotated
from kokkiri.numerics.symmetric import NARROW, mirrored, pairs_of


@dataclass(frozen=True)
class Affine:
    """Of an affine map h = W a + b. a: (B, T, G, i) inputs; g: (B, K, T, G, o). Coordinates (G, o, i).

    joined: the bias belongs to the block, as one more input that is always one; it is never appended to `a`, whose copy
    would cost more than the products of a small layer. weight: (B,), how much each datum counts, where not once; `g`
    has its square root already.
    """

    a: Tensor
    g: Tensor
    joined: bool = False
    weight: Tensor | None = None

    @property
    def once(self) -> bool:
        """Whether the weight is used at one place a datum: then G = g aᵀ."""
        return self.a.shape[1] == 1

    @property
    def wide(self) -> Tensor:
        """(B, T, G, i) with the ones appended."""
        return torch.cat([self.a, self.a.new_ones(*self.a.shape[:-1], 1)], -1) if self.joined else self.a

    def gradients(self) -> Tensor:
        """(B, K, P) each datum's gradient."""
        return torch.einsum("btgi,bktgo->bkgoi", self.wide, self.g).flatten(2)

    def split(self, rows: int) -> tuple[Affine, Affine]:
        """The first rows, and the others."""
        own = lambda s: None if self.weight is None else self.weight[s]
        part = lambda s: Affine(self.a[s], self.g[s], self.joined, own(s))
        return part(slice(None, rows)), part(slice(rows, None))

    def mixed(self, weights: Tensor) -> Affine:
        """The piece of other columns, combinations of these: weights (B, K, K')."""
        return Affine(self.a, torch.einsum("bktgo,bkl->bltgo", self.g, weights), self.joined)

    def along(self, direction: Tensor) -> Tensor:
        """(B, K) each gradient times a direction (P,)."""
        v = direction.reshape(self.a.shape[2], self.g.shape[4], -1)
        h = torch.einsum("btgi,goi->btgo", self.a, v[..., : self.a.shape[3]])
        return torch.einsum("bktgo,btgo->bk", self.g, h + v[..., -1] if self.joined else h)

    def total(self) -> Tensor:
        """(P,) sum of all gradients."""
        g = self.g.sum(1)  # (B, T, G, o)
        out = torch.einsum("btgo,btgi->goi", g, self.a)
        return (torch.cat([out, g.sum((0, 1))[..., None]], -1) if self.joined else out).reshape(-1)

    def squares(self) -> Tensor:
        """(P,) sum over data and columns of squared gradients: the diagonal of the curvature."""
        return self.add_squares(None)

    def add_squares(self, total: Tensor | None) -> Tensor:
        """The same added to what there is, in place."""
        if not self.once:
            return plus(total, self.gradients().square_().sum((0, 1)))
        power, a = self._power(), self.a[:, 0].square()
        if a.shape[1] > 1:
            out = torch.einsum("bgo,bgi->goi", power, a)
            more = torch.cat([out, power.sum(0)[..., None]], -1) if self.joined else out
            return plus(total, more.reshape(-1))
        outputs, inputs = power.shape[2], a.shape[2]
        total = a.new_zeros(outputs * (inputs + self.joined)) if total is None else total
        out = total.view(outputs, -1)
        out[:, :inputs].addmm_(power[:, 0].mT, a[:, 0])
        if self.joined:
            out[:, inputs].add_(power[:, 0].sum(0))
        return total

    def squares_in(self, left: Tensor, right: Tensor) -> Tensor:
        """(G, o, i) the same in other coordinates, Lᵀ G R."""
        shape = (self.a.shape[2], self.g.shape[4], self.a.shape[3] + self.joined)
        return Affine(self.turned(right), _turned(self.g, left)).squares().reshape(shape)

    def trace(self) -> Tensor:
        """() the sum of all squares, without forming a gradient where |g aᵀ|² = |g|² |a|²."""
        if not self.once:
            return self.gradients().square_().sum()
        length = torch.linalg.vector_norm(self.a[:, 0], dim=2).square() + float(self.joined)  # (B, G)
        return (self._power().sum(2) * length).sum()

    def rows(self) -> tuple[Tensor, Tensor]:
        """Gradients (B K T, G, o) in whatever order costs no copy, and inputs (B T, G, i), each as its datum counts."""
        g = self.g if self.g.is_contiguous() else self.g.transpose(0, 1)
        a = self.a if self.weight is None else self.a * self.weight.sqrt()[:, None, None, None]
        return g.reshape(-1, *g.shape[3:]), a.flatten(0, 1)

    def ones(self) -> Tensor:
        """(G, i) what the bias's one has in common with the inputs: their sum, each as its datum counts."""
        if self.weight is None:
            return self.a.sum((0, 1))
        return torch.einsum("b,btgi->gi", self.weight, self.a)

    def add_matrix(self, total: Tensor | None) -> Tensor:
        """The whole block added to what there is, where the weight is used once and G is 1; `unfolded` makes it (P, P).

        sum_b Λ_b ⊗ a aᵀ, Λ_b = sum_k g gᵀ: (o (o + 1) / 2, i, i), of each pair of outputs the upper half of a symmetric
        sum of weighed a aᵀ: 4 K times fewer operations than from gradients.
        """
        g, a = self.g[:, :, 0, 0], self.wide[:, 0, 0]
        outputs, inputs = g.shape[2], a.shape[1]
        held = g.mT @ g  # (B, o, o)
        if total is None:  # float64: batches add up without a loss
            total = a.new_zeros(outputs * (outputs + 1) // 2, inputs, inputs, dtype=torch.float64)
        at = 0
        for p in range(outputs):
            weighed, pairs = a[:, None] * held[:, p, p:, None], outputs - p  # (B, o - p, i)
            for first in range(0, inputs, NARROW):
                row = a[:, first : first + NARROW].mT @ weighed[:, :, first:].flatten(1)
                total[at : at + pairs, first : first + NARROW, first:] += row.unflatten(1, (pairs, -1)).transpose(0, 1)
            at += pairs
        return total

    def covariance(self, precision: Rotated) -> Tensor:
        """(B, K, K) of the columns' directional derivatives under N(0, M⁻¹), M a block of these coordinates."""
        if precision.right is None and precision.left is not None:  # a full block
            turned = precision.turn(self.gradients()).flatten(2)
            return (turned / precision.values.reshape(-1)) @ turned.mT
        if not self.once:
            a = self.wide if precision.right is None else self.turned(precision.right)
            g = self.g if precision.left is None else _turned(self.g, precision.left)
            turned = Affine(a, g).gradients()
            return (turned / precision.values.reshape(-1)) @ turned.mT
        g, share = self._apart(precision)
        return (g * share[:, None]) @ g.mT

    def variances(self, precision: Rotated) -> Tensor:
        """(B, K), the diagonal of `covariance`."""
        if not self.once or (precision.right is None and precision.left is not None):
            return self.covariance(precision).diagonal(dim1=1, dim2=2)
        g, share = self._apart(precision)
        return torch.linalg.vecdot(g * share[:, None], g)

    def _apart(self, precision: Rotated) -> tuple[Tensor, Tensor]:
        """For a weight used once: gradients (B, K, G o) in the matrix's basis, and the variance (B, G o) of each."""
        a = (self.wide if precision.right is None else self.turned(precision.right))[:, 0].square()
        g = self.g if precision.left is None else _turned(self.g.transpose(0, 1), precision.left).transpose(0, 1)
        variance = (1 / precision.values).reshape(a.shape[1], g.shape[4], a.shape[2])
        share = a[:, 0] @ variance[0].mT if len(variance) == 1 else torch.einsum("bgi,goi->bgo", a, variance).flatten(1)
        return g[:, :, 0].flatten(2), share

    def _power(self) -> Tensor:
        """(B, G, o) sum over columns of squared gradients at the one place; column by column, in the cache."""
        first, *others = self.g[:, :, 0].unbind(1)
        power = first.square()
        for g in others:
            power.addcmul_(g, g)
        return power

    def turned(self, basis: Tensor) -> Tensor:
        """(B, T, G, i) inputs with their one, in another basis (G, i, i)."""
        if not self.joined:
            return _turned(self.a, basis)
        return _turned(self.a, basis[:, :-1]).add_(basis[:, -1])


def _turned(x: Tensor, basis: Tensor) -> Tensor:
    return x @ basis[0] if len(basis) == 1 else torch.einsum("...gi,gij->...gj", x, basis)


def plus(total: Tensor | None, more: Tensor) -> Tensor:
    """A running sum, in place after the first."""
    return more if total is None else total.add_(more)


def unfolded(pairs: Tensor) -> Tensor:
    """(o (o + 1) / 2, i, i) of `Affine.add_matrix` -> (P, P)."""
    n, inputs, _ = pairs.shape
    outputs = (math.isqrt(8 * n + 1) - 1) // 2
    first, second = pairs_of(outputs)
    whole = mirrored(pairs)
    out = pairs.new_empty(outputs, outputs, inputs, inputs)
    out[second, first], out[first, second] = whole, whole
    return out.transpose(1, 2).reshape(outputs * inputs, outputs * inputs)


@dataclass(frozen=True)
class Vector:
    """Each datum's gradient itself: G (B, K, P). Of gains, biases, and of whatever is differentiated datum by datum."""

    values: Tensor

    def gradients(self) -> Tensor:
        """(B, K, P) each datum's gradient."""
        return self.values

    def mixed(self, weights: Tensor) -> Vector:
        """The piece of other columns, combinations of these: weights (B, K, K')."""
        return Vector(weights.mT @ self.values)

    def along(self, direction: Tensor) -> Tensor:
        """(B, K) each gradient times a direction (P,)."""
        return self.values @ direction

    def total(self) -> Tensor:
        """(P,) sum of all gradients."""
        return self.values.sum((0, 1))

    def squares(self) -> Tensor:
        """(P,) their squares' sum."""
        return self.values.square().sum((0, 1))

    def add_squares(self, total: Tensor | None) -> Tensor:
        """The same added to what there is, in place."""
        return plus(total, self.squares())

    def trace(self) -> Tensor:
        """() the sum of all squares."""
        return self.values.square().sum()

    def covariance(self, precision: Rotated) -> Tensor:
        """(B, K, K): see `Affine.covariance`."""
        turned = precision.turn(self.values).flatten(2)
        return (turned / precision.values.reshape(-1)) @ turned.mT


@dataclass(frozen=True)
class Lookup:
    """A table of V vectors: token (B, T) row numbers, -1: counts nothing; g (B, K, T, D). Coordinates (V, D)."""

    token: Tensor
    g: Tensor
    rows: int

    def gradients(self) -> Tensor:
        """(B, K, V D): dense, for small tables."""
        b, k, _, d = self.g.shape
        out = self.g.new_zeros(b, k, self.rows + 1, d)
        where = self.token.remainder(self.rows + 1)[:, None, :, None].expand_as(self.g)
        return out.scatter_add_(2, where, self.g)[:, :, : self.rows].flatten(2)

    def mixed(self, weights: Tensor) -> Lookup:
        """The piece of other columns, combinations of these: weights (B, K, K')."""
        return Lookup(self.token, torch.einsum("bktd,bkl->bltd", self.g, weights), self.rows)

    def along(self, direction: Tensor) -> Tensor:
        """(B, K) each gradient times a direction (V D,)."""
        table = torch.cat([direction.reshape(self.rows, -1), direction.new_zeros(1, self.g.shape[3])])
        return torch.einsum("bktd,btd->bk", self.g, table[self.token])  # token -1 is the row of zeros

    def total(self) -> Tensor:
        """(V D,) sum of all gradients."""
        out = self.g.new_zeros(self.rows + 1, self.g.shape[3])
        where = self.token.remainder(self.rows + 1).reshape(-1)
        return out.index_add_(0, where, self.g.sum(1).flatten(0, 1))[: self.rows].reshape(-1)

    def squares(self) -> Tensor:
        """(V D,) a word that comes twice in a datum adds up before it is squared."""
        _, token, total = self._sums()
        out = total.new_zeros(self.rows, self.g.shape[3])
        return out.index_add_(0, token, total.square().sum(1)).reshape(-1)

    def add_squares(self, total: Tensor | None) -> Tensor:
        """The same added to what there is, in place."""
        return plus(total, self.squares())

    def trace(self) -> Tensor:
        """() the sum of all squares."""
        return self._sums()[2].square().sum()

    def covariance(self, precision: Rotated) -> Tensor:
        """(B, K, K): see `Affine.covariance`."""
        if precision.left is not None:
            return Vector(self.gradients()).covariance(precision)
        datum, token, total = self._sums()
        variance = (1 / precision.values).reshape(self.rows, -1)[token]  # (M, D)
        products = (total * variance[:, None]) @ total.mT
        return products.new_zeros(len(self.token), *products.shape[1:]).index_add_(0, datum, products)

    def _sums(self) -> tuple[Tensor, Tensor, Tensor]:
        """Of every pair of datum and token that occurs: which datum, which token, the sum (K, D) of its gradients."""
        datum = torch.arange(len(self.token), device=self.token.device)
        pair = datum[:, None] * (self.rows + 1) + self.token + 1
        unique, inverse = pair.reshape(-1).unique(return_inverse=True)
        flat = self.g.movedim(2, 1).flatten(0, 1)  # (B T, K, D)
        total = flat.new_zeros(len(unique), *flat.shape[1:]).index_add_(0, inverse, flat)
        token = unique % (self.rows + 1) - 1
        real = token >= 0
        return (unique // (self.rows + 1))[real], token[real], total[real]


Piece: TypeAlias = Affine | Vector | Lookup
