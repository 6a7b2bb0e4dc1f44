"""Symmetric products xᵀx, summed over batches, and quadratic forms: the upper halves alone are computed."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

NARROW, BROAD = 64, 128  # widths of the strips that the upper half is taken in, of small matrices and of large ones


def add_gram(total: Tensor | None, x: Tensor) -> Tensor:
    """(M, G, d) -> xᵀx added to `total` (G, d, d) in place, its upper half."""
    g, d = x.shape[1:]
    total = x.new_zeros(g, d, d) if total is None else total
    if g > 1:
        return total.baddbmm_(x.permute(1, 2, 0), x.transpose(0, 1))
    out, x, width = total[0], x[:, 0], NARROW if d <= 4 * BROAD else BROAD
    for first in range(0, d, width):
        out[first : first + width, first:].addmm_(x[:, first : first + width].mT, x[:, first:])
    return total


def mirrored(total: Tensor) -> Tensor:
    """The whole symmetric matrix of its upper half."""
    return total.triu() + total.triu(1).mT


@dataclass(frozen=True)
class Forms:
    """F symmetric matrices M_f (D, D), ready for φᵀ M_f φ of many vectors.

    basis: (D, D), which φ is turned by first; strips: of some columns at a time what lies above the diagonal of all
    matrices, (last, F width), all but the diagonal doubled.
    """

    basis: Tensor
    strips: tuple[Tensor, ...]

    def __call__(self, vectors: Tensor) -> Tensor:
        """(B, D) -> (B, F)."""
        turned, first = vectors @ self.basis, 0
        total: Tensor | None = None
        for strip in self.strips:
            width = len(strip) - first
            part = (turned[:, : len(strip)] @ strip).unflatten(1, (-1, width))  # (B, F, width)
            more = torch.linalg.vecdot(part, turned[:, None, first : len(strip)])
            total, first = more if total is None else total + more, len(strip)
        assert total is not None
        return total

    def to(self, like: Tensor) -> Forms:
        """The same in another dtype, or elsewhere."""
        return Forms(self.basis.to(like), tuple(s.to(like) for s in self.strips))


def forms(matrices: Tensor, mean: Tensor) -> Forms:
    """(F, D, D) float64, symmetric, and a positive definite (D, D) of about their size.

    With mean = R Rᵀ the vectors are turned by R, after which the matrices R⁻¹ M R⁻ᵀ are about the identity: so they
    keep their digits in float32, however large some directions are.
    """
    root = torch.linalg.cholesky(mean)
    half = torch.linalg.solve_triangular(root, matrices, upper=False)
    turned = torch.linalg.solve_triangular(root, half.mT, upper=False)
    upper = turned.triu() + turned.triu(1)
    size = len(mean)
    strips = []
    for first in range(0, size, NARROW):
        last = min(first + NARROW, size)
        strips.append(upper[:, :last, first:last].transpose(0, 1).reshape(last, -1).contiguous())
    return Forms(root, tuple(strips))


def pairs_of(n: int) -> tuple[Tensor, Tensor]:
    """Rows and columns of the upper half of an (n, n) matrix, row by row."""
    first, second = torch.triu_indices(n, n)
    return first, second
