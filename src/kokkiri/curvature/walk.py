"""A pass over rows in chunks that fit: outputs, and pieces with columns of the likelihood's curvature."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from kokkiri.curvature.collect import Collector, Columns
from kokkiri.curvature.pieces import Affine, Piece
from kokkiri.curvature.plan import Plan
from kokkiri.curvature.probe import run
from kokkiri.numerics import operators
from kokkiri.numerics.random import uniforms
from kokkiri.types import Likelihood

MOST_ROWS = 1024  # at a time: more fall out of the cache
SMALLEST_BUDGET = 64 << 20  # bytes; less would be all overhead


@dataclass(frozen=True)
class Walk:
    """A pass over rows, a chunk at a time: outputs and pieces with columns of the likelihood's curvature."""

    collect: Collector
    data: Any
    likelihood: Likelihood
    rows: Tensor
    weight: Tensor | None
    scale: float
    columns: int | None
    size: int
    seed: int
    device: torch.device
    offset: Tensor | None = None
    squares: bool = False  # whether nothing but squares summed over columns is wanted

    def __call__(self, show: Callable[..., None]) -> None:
        """Calls `show(pieces)` for every chunk."""
        whole = self._neighbours()  # batches are views of it
        for index in self.rows.split(self.size):
            show(self._pieces(index, whole))  # bound to no name: a chunk's are gone before the next one's are made

    def _pieces(self, index: Tensor, whole: Tensor | None) -> dict[str, Piece]:
        x = self.batch(index)[0] if whole is None else whole[int(index[0]) : int(index[-1]) + 1].to(self.device)
        if self.offset is None:
            pieces = self.collect(x, self._columns(index), squares=self.squares)[2]
        else:
            out, identical = tangent(self.collect, x, self.offset)
            pieces = {name: piece.mixed(self._columns(index)(out)) for name, piece in identical.items()}
        return pieces if self.weight is None else self._counted(pieces, self.weight[index])

    def batch(self, index: Tensor) -> tuple[Any, Tensor]:
        """Inputs and targets on the device."""
        x, y = self.data.batch(index)
        return (x.to(self.device) if isinstance(x, Tensor) else x), y.to(self.device)

    def _neighbours(self) -> Tensor | None:
        """All inputs, where batches may be views of them: a network that is walked by hand changes none of them."""
        first, last = int(self.rows[0]), int(self.rows[-1])
        if self.collect.operations is None or last - first + 1 != len(self.rows):
            return None
        x = getattr(self.data, "x", None)
        return x if isinstance(x, Tensor) else None

    def _counted(self, pieces: dict[str, Piece], weight: Tensor) -> dict[str, Piece]:
        own = lambda p: replace(p, weight=weight.to(p.a)) if isinstance(p, Affine) else p
        return {name: own(piece) for name, piece in pieces.items()}

    def _columns(self, index: Tensor) -> Columns:
        weight = None if self.weight is None else self.weight[index]

        def columns(out: Tensor) -> Tensor:
            root = curvature_root(self.likelihood, out)
            if self.columns is not None:
                coins = uniforms(index, root.shape[2] * self.columns, self.seed, "curvature columns") < 0.5
                signs = coins.to(root).reshape(len(out), -1, self.columns) * 2 - 1
                root = root @ signs / math.sqrt(self.columns)
            if weight is not None:
                root = root * weight.to(root).sqrt()[:, None, None]
            return root * math.sqrt(self.scale)

        return columns


def tangent(collect: Collector, x: Any, offset: Tensor) -> tuple[Tensor, dict[str, Piece]]:
    """Outputs f + J offset (B, C) of the linearised network, and pieces whose K columns are the outputs themselves."""
    out, _, pieces = collect(x, identity)
    for name, piece in pieces.items():
        out = out + piece.along(offset[collect.plan.index[name]].to(out))
    return out, pieces


def identity(out: Tensor) -> Tensor:
    """(B, C, C): columns that leave the outputs as they are."""
    return torch.eye(out.shape[1], dtype=out.dtype, device=out.device).expand(len(out), -1, -1)


def curvature_root(likelihood: Likelihood, output: Tensor) -> Tensor:
    """S (B, C, K) with S Sᵀ = Λ (B, C, C): in closed form where the likelihood offers `root`, else by eigenvectors."""
    own = getattr(likelihood, "root", None)
    if own is not None:
        return own(output)
    matrix = likelihood.curvature(output)
    diagonal = matrix.diagonal(dim1=1, dim2=2)
    if matrix.shape[1] == 1 or torch.equal(torch.diag_embed(diagonal), matrix):
        return torch.diag_embed(diagonal.clamp(min=0).sqrt())
    values, vectors = operators.eigen(matrix)
    return (vectors * values.sqrt()[:, None]).to(output)


def chunk_rows(module: nn.Module, plan: Plan, x: Any, *, columns: int, budget: int | None, dense: bool) -> int:
    """How many rows at a time keep within the budget."""
    each = next(module.parameters()).element_size()
    size = sum(p.numel() for p in module.parameters())
    if plan.floats is not None:
        held, taken = plan.floats
        gradients = sum(math.prod(g.shape) for g in plan.groups) if dense else 0
        row = each * (held * (2 + columns) + 2 * taken + 1.5 * columns * gradients)
        step = each * (128 * (2 * held + taken) + 4 * size)
        return min(MOST_ROWS, max(1, int((budget or max(SMALLEST_BUDGET, 2 * step)) // max(row, 1.0))))
    tape, _ = run(module, x, copies=False)
    n = max(1, len(x))
    held = sum(u.output.numel() for u in tape.uses) / n
    taken = sum(u.input.numel() for u in tape.uses) / n
    patches = sum(
        u.output.numel() / n / max(1, u.output.shape[1]) * math.prod(u.settings["kernel"]) * u.input.shape[1]
        for u in tape.uses
        if u.kind == "convolution"
    )
    formed = [g for g in plan.groups if dense or g.form in {"opaque", "vector"} or any(
        tape.uses[i].output.ndim > 2 for i in g.uses
    )]  # fmt: skip
    gradients = (
        sum(math.prod(g.shape) for g in formed) if dense else max((math.prod(g.shape) for g in formed), default=0)
    )
    row = each * (held * (2 + columns) + 2 * taken + 2 * patches + 1.5 * columns * gradients)
    step = each * (128 * (2 * held + taken + patches) + 4 * size)  # a training step of 128 rows: activations, Adam
    return min(MOST_ROWS, max(1, int((budget or max(SMALLEST_BUDGET, 2 * step)) // max(row, 1.0))))
