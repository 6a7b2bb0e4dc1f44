"""Forms of a curvature: what is kept of sum_n J_nᵀ Λ_n J_n, the generalised Gauss-Newton matrix, from passes over data.

Each structure is a value with `passes` and, for each pass, an accumulator that is shown the pieces of a batch and gives
blocks at the end. Sums are in the dtype of the network, decompositions in float64.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch
from torch import Tensor

from kokkiri.curvature.factors import Factors
from kokkiri.curvature.pieces import Affine, Lookup, Piece, plus, unfolded
from kokkiri.curvature.plan import Group, Plan
from kokkiri.errors import UsageError, nearest
from kokkiri.numerics import operators
from kokkiri.numerics.operators import Block, Dense, LowRank, Rotated
from kokkiri.numerics.symmetric import add_gram, mirrored

WIDEST = 10_000  # inputs or outputs of a map: the eigenvectors of a larger factor take an hour
SMALL = 256  # vectors of at most so many coordinates get a full block of their own in a Kronecker structure


@dataclass(frozen=True)
class Exactness:
    """Of one block. ratio: what its factors say of the trace, over the trace itself, before it was set right."""

    label: str
    size: int
    form: str
    exact: bool  # whether the block is the exact block of the matrix, for the columns that were used
    note: str = ""
    ratio: float = 1.0


@dataclass(frozen=True)
class Diagonal:
    """The diagonal, exactly."""

    def __repr__(self) -> str:
        return "Diagonal()"


@dataclass(frozen=True)
class Kronecker:
    """For each affine map B ⊗ A, scaled to the exact trace (Martens & Grosse 2015, eq. 1; George et al. 2018).

    A sums a aᵀ, B sums g gᵀ. A weight that is shared over T places is treated as T data (expand) or as one datum with
    summed gradients and averaged inputs (reduce; Eschenhagen et al. 2023, eqs. 17 and 22), whichever is nearer to the
    exact trace on the first rows. corrected: a second pass finds the exact diagonal in the eigenbasis (EKFAC; George et
    al. 2018, eq. 6). Gains, biases of their own and parameters without a form get a full block up to 256 coordinates,
    else the diagonal; so do maps of more than 10,000 inputs or outputs.
    """

    corrected: bool = False


@dataclass(frozen=True)
class Full:
    """The whole matrix: P x P, or from the (N K) x (N K) matrix of inner products where that is much smaller."""


@dataclass(frozen=True)
class TopEigen:
    """The `rank` largest eigenvalues of the whole matrix, by a randomised range finder, and the diagonal of the rest.

    passes: power iterations (Halko, Martinsson & Tropp 2011, algorithm 4.4).
    """

    rank: int = 32
    passes: int = 2


Structure: TypeAlias = Diagonal | Kronecker | Full | TopEigen

NAMES: Mapping[str, Structure] = {
    "diagonal": Diagonal(), "kronecker": Kronecker(), "ekfac": Kronecker(corrected=True), "full": Full(),
    "low-rank": TopEigen(),
}  # fmt: skip


def named(name: str) -> Structure:
    """A structure by its name.

    >>> named("ekfac")
    Kronecker(corrected=True)
    """
    if name not in NAMES:
        raise UsageError(
            f"there is no structure {name!r}", needs="one of " + ", ".join(NAMES), found=name, fix=nearest(name, NAMES)
        )
    return NAMES[name]


def name_of(structure: Structure) -> str:
    """The name of a structure."""
    if isinstance(structure, TopEigen):
        return "low-rank"
    return next(name for name, s in NAMES.items() if s == structure)


@dataclass
class DiagonalSums:
    """Accumulates the diagonal of every group."""

    plan: Plan
    sums: dict[str, Tensor] = field(default_factory=dict)

    def add(self, pieces: Mapping[str, Piece]) -> None:
        """One batch."""
        for name, piece in pieces.items():
            self.sums[name] = piece.add_squares(self.sums.get(name))

    def blocks(self) -> list[tuple[Group, Block, Exactness]]:
        """Of all groups."""
        return [
            (
                g,
                operators.diagonal(self.sums[g.names[0]].double()),
                Exactness(g.label, _size(g), "diagonal", exact=False),
            )
            for g in self.plan.groups
        ]


@dataclass
class KroneckerSums:
    """Accumulates A and B of every affine group; of the others a full block where it is small, else the diagonal."""

    plan: Plan
    apart: bool = True
    factors: dict[str, Factors] = field(default_factory=dict)
    matrices: dict[str, Tensor] = field(default_factory=dict)
    diagonals: dict[str, Tensor] = field(default_factory=dict)

    def add(self, pieces: Mapping[str, Piece]) -> None:
        """One batch."""
        for name, piece in pieces.items():
            if isinstance(piece, Affine) and max(piece.a.shape[3], piece.g.shape[4]) <= WIDEST:
                self.factors.setdefault(name, Factors()).add(piece)
            elif isinstance(piece, Affine | Lookup) or piece.gradients().shape[2] > SMALL:
                self.diagonals[name] = piece.add_squares(self.diagonals.get(name))
            else:
                self.matrices[name] = plus(self.matrices.get(name), _outer(piece.gradients()))

    def blocks(self) -> list[tuple[Group, Block, Exactness]]:
        """Of all groups."""
        out: list[tuple[Group, Block, Exactness]] = []
        for g in self.plan.groups:
            name, size = g.names[0], _size(g)
            if name in self.matrices:
                out.append((g, Dense(self.matrices[name].double()), Exactness(g.label, size, "full", exact=True)))
            elif name in self.diagonals:
                block = operators.diagonal(self.diagonals[name].double())
                out.append((g, block, Exactness(g.label, size, "diagonal", exact=False, note="its diagonal, exactly")))
            else:
                f = self.factors[name]
                left, right = f.product()
                note = f"shared weight: {'reduce' if f.reduced else 'expand'}, trace set on {f.rows} rows"
                exact = f.rows == 1 and not f.shared and len(left) == 1
                apart = self.apart and len(left) == 1  # a product of its own can be added to others without loss
                out.append((
                    g, operators.kronecker_sum([(left[0], right[0])]) if apart else operators.kronecker(left, right),
                    Exactness(g.label, size, "kronecker", exact, note if f.shared else "", f.ratio),
                ))  # fmt: skip
        return out


@dataclass
class CorrectedSums:
    """Accumulates exact second moments of the gradients in the eigenbasis that `KroneckerSums` gave."""

    plan: Plan
    found: Sequence[tuple[Group, Block, Exactness]]
    sums: dict[str, Tensor] = field(default_factory=dict)

    def add(self, pieces: Mapping[str, Piece]) -> None:
        """One batch."""
        for g, block, _ in self.found:
            piece = pieces[g.names[0]]
            if isinstance(block, Rotated) and block.left is not None and block.right is not None:
                assert isinstance(piece, Affine)
                like = piece.a
                squares = piece.squares_in(block.left.to(like), block.right.to(like))
                self.sums[g.names[0]] = plus(self.sums.get(g.names[0]), squares)

    def blocks(self) -> list[tuple[Group, Block, Exactness]]:
        """Of all groups."""
        out = []
        for g, block, known in self.found:
            if g.names[0] in self.sums and isinstance(block, Rotated):
                moved = Rotated(block.left, block.right, self.sums[g.names[0]].double())
                out.append((g, moved, Exactness(g.label, known.size, "ekfac", known.exact)))
            else:
                out.append((g, block, known))
        return out


@dataclass
class FullSums:
    """Accumulates the whole matrix, or all gradients where they are fewer than the parameters.

    In float64: rounded in float32 the smallest eigenvalues are wrong by 1e-7 of the largest, which grows with 1 / σ²,
    and where that is more than the prior's precision the sum is indefinite. The products of a last layer of many
    outputs are left in float32: the curvature of a class is at most ¼.
    """

    plan: Plan
    dual: bool
    matrix: Tensor | None = None  # (1, P, P), its upper half
    pairs: Tensor | None = None  # of a single affine map, see `Affine.add_matrix`
    rows: list[Tensor] = field(default_factory=list)

    def add(self, pieces: Mapping[str, Piece]) -> None:
        """One batch."""
        only = next(iter(pieces.values()))
        if not self.dual and len(pieces) == 1 and isinstance(only, Affine) and only.once and only.a.shape[2] == 1:
            if only.g.shape[4] <= 2 or float(only.g.abs().amax()) > 0.5:  # no class has such a root of its curvature
                only = Affine(only.a.double(), only.g.double(), only.joined)
            self.pairs = only.add_matrix(self.pairs)
            return
        gradients = _all(self.plan, pieces).flatten(0, 1)
        gradients = gradients if self.dual else gradients.double()
        if self.dual:
            self.rows.append(gradients)
        else:
            self.matrix = add_gram(self.matrix, gradients[:, None])

    def block(self) -> Block:
        """Over the coordinates of all groups, one group after the other."""
        if self.pairs is not None:
            return Dense(unfolded(self.pairs).double())
        if self.matrix is not None:
            return Dense(mirrored(self.matrix)[0].double())
        j = torch.cat(self.rows).double()
        values, vectors = operators.eigen(j @ j.mT)
        keep = values > values.amax() * 1e-12
        root = values[keep].sqrt()
        return LowRank((j.mT @ vectors[:, keep]) / root, values[keep], j.new_zeros(j.shape[1]))


@dataclass
class RangeSums:
    """One pass of the range finder: accumulates M Q, and in the first pass the diagonal of M."""

    plan: Plan
    basis: Tensor
    product: Tensor | None = None
    squares: Tensor | None = None

    def add(self, pieces: Mapping[str, Piece]) -> None:
        """One batch."""
        gradients = _all(self.plan, pieces).flatten(0, 1)
        self.product = plus(self.product, gradients.mT @ (gradients @ self.basis))
        self.squares = plus(self.squares, gradients.square().sum(0))


def low_rank(last: RangeSums, rank: int) -> Block:
    """Rayleigh-Ritz on the basis of the last pass; the rest of the diagonal beside it, so that the trace is exact."""
    assert last.product is not None
    assert last.squares is not None
    small = last.basis.double().mT @ last.product.double()
    values, turn = operators.eigen(small)
    values, turn = values[-rank:], turn[:, -rank:]
    vectors = last.basis.double() @ turn
    rest = last.squares.double() - vectors.square() @ values
    return LowRank(vectors, values.clamp(min=1e-300), rest.clamp(min=0))


def _all(plan: Plan, pieces: Mapping[str, Piece]) -> Tensor:
    return torch.cat([pieces[g.names[0]].gradients() for g in plan.groups], 2)


def _outer(gradients: Tensor) -> Tensor:
    flat = gradients.flatten(0, 1)
    return flat.mT @ flat


def _size(group: Group) -> int:
    g, o, i = group.shape
    return g * o * i


Accumulator: TypeAlias = Any  # whatever has add(pieces)
