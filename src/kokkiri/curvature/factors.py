"""Kronecker factors of one affine map, where its weight is used once a datum, and where it is shared over places."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from kokkiri.curvature.pieces import Affine, plus
from kokkiri.numerics.symmetric import add_gram, mirrored

PROBE_ROWS = 256  # by how many rows the trace of a shared weight's block is set


@dataclass
class Factored:
    """A = sum of a aᵀ, B = sum of g gᵀ, over all places of all data, and how many places those were.

    inputs (G, i, i) and slopes (G, o, o): upper halves; ones (G, i): the row of A that is the bias's, if it is joined.
    """

    inputs: Tensor | None = None
    slopes: Tensor | None = None
    ones: Tensor | None = None
    count: float = 0.0

    def add(self, piece: Affine) -> None:
        """One batch."""
        each, places = piece.a.shape[:2]
        self.count += places * (each if piece.weight is None else float(piece.weight.double().sum()))
        g, a = piece.rows()
        self.slopes, self.inputs = add_gram(self.slopes, g), add_gram(self.inputs, a)
        if piece.joined:
            self.ones = plus(self.ones, piece.ones())

    @property
    def trace(self) -> float:
        """Of B ⊗ A / count."""
        if self.inputs is None or self.slopes is None:
            return 0.0
        inputs = self.inputs.diagonal(dim1=-2, dim2=-1).sum(-1) + (0.0 if self.ones is None else self.count)
        return float((inputs * self.slopes.diagonal(dim1=-2, dim2=-1).sum(-1)).sum()) / max(self.count, 1e-30)

    def pair(self) -> tuple[Tensor, Tensor]:
        """(B, A), whole, in float64."""
        assert self.inputs is not None
        assert self.slopes is not None
        a, b = mirrored(self.inputs).double(), mirrored(self.slopes).double()
        if self.ones is not None:
            side = self.ones.double()[..., None]  # (G, i, 1)
            corner = torch.full_like(side[:, :1], self.count)
            a = torch.cat([torch.cat([a, side], 2), torch.cat([side.mT, corner], 2)], 1)
        return b, a


@dataclass
class Factors:
    """The sums of one affine group, of each treatment of a shared weight until one of them is chosen.

    expand: every place is a datum of its own; reduce: a datum is its summed gradient and averaged input. The first
    `PROBE_ROWS` rows choose, whatever the size of batches, and set the scale; where nothing is shared, all rows do.
    """

    expand: Factored = field(default_factory=Factored)
    reduce: Factored = field(default_factory=Factored)
    rows: int = 0  # on which the exact trace was taken
    trace: float = 0.0
    said: float = 0.0  # by the factors of the same rows
    shared: bool = False
    reduced: bool | None = None

    def add(self, piece: Affine) -> None:
        """One batch."""
        if piece.once and not self.shared:
            self._probe(piece)
            return
        if not self.shared:
            self.shared, self.reduce = True, copy.deepcopy(self.expand)
        if self.reduced is None:
            first, piece = piece.split(PROBE_ROWS - self.rows)
            self._probe(first)
            self.reduce.add(_reduced(first))
            if self.rows >= PROBE_ROWS:
                self._choose()
        if self.reduced is not None and len(piece.a):
            self.reduce.add(_reduced(piece)) if self.reduced else self.expand.add(piece)

    def _probe(self, piece: Affine) -> None:
        self.expand.add(piece)
        self.trace += float(piece.trace())
        self.rows += len(piece.a)

    def _choose(self) -> None:
        off = lambda factored: abs(factored.trace - self.trace)
        self.reduced = off(self.reduce) < off(self.expand)
        self.said = self._chosen.trace
        self.expand, self.reduce = (Factored(), self.reduce) if self.reduced else (self.expand, Factored())

    @property
    def _chosen(self) -> Factored:
        return self.reduce if self.reduced else self.expand

    @property
    def ratio(self) -> float:
        """What the factors say of the trace, over the trace."""
        said = self.said if self.reduced is not None else self.expand.trace
        return said / self.trace if self.trace > 0 else 1.0

    def product(self) -> tuple[Tensor, Tensor]:
        """(B, A) whose Kronecker product is the block, scaled to the exact trace; float64."""
        if self.shared and self.reduced is None:
            self._choose()
        b, a = self._chosen.pair()
        return b / max(self._chosen.count * self.ratio, 1e-30), a


def _reduced(piece: Affine) -> Affine:
    return replace(piece, a=piece.a.mean(1, keepdim=True), g=piece.g.sum(2, keepdim=True))
