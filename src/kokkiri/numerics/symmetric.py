"""Symmetric products xᵀx, summed over batches: only the upper half is computed, for which torch has no function."""

from __future__ import annotations

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
