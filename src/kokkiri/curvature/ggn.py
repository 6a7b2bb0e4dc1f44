"""The generalised Gauss-Newton matrix of a network's log-likelihood, summed over data, in some structure.

    G = sum_n w_n J_nᵀ Λ_n J_n      J_n = d f(x_n) / dθ (C, P),  Λ_n = -E d² log p(y | f) / df² (C, C)

For likelihoods whose Hessian does not depend on y (Gaussian, Bernoulli, categorical, Poisson) this is the Hessian of a
model that is linear in θ around the mode (Martens 2020, section 8). What the likelihood itself learns has its own small
block, the Hessian; it is orthogonal to the outputs for locations and scales.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from kokkiri.curvature.collect import Collector, Columns, collector
from kokkiri.curvature.pieces import Piece
from kokkiri.curvature.plan import PROBE, Plan
from kokkiri.curvature.probe import run
from kokkiri.curvature.structures import (
    CorrectedSums,
    Diagonal,
    DiagonalSums,
    Exactness,
    Factors,
    Full,
    FullSums,
    Kronecker,
    KroneckerSums,
    RangeSums,
    Structure,
    low_rank,
)
from kokkiri.errors import UsageError
from kokkiri.herd import Herd, load
from kokkiri.numerics import operators
from kokkiri.numerics.operators import Blocks
from kokkiri.numerics.random import generator, permutation
from kokkiri.training.flat import Layout, layout
from kokkiri.types import LIKELIHOOD_PREFIX, Likelihood, Params

MOST_ROWS = 1024  # at a time: more fall out of the cache
SMALLEST_BUDGET = 64 << 20  # bytes; less would be all overhead


@dataclass(frozen=True)
class Curvature:
    """A curvature over the flat vector of a model's parameters, those of the likelihood last.

    matrix: positive semi-definite, block by block. factors: of the Kronecker blocks, for those who add products up.
    known: what is exact, block by block. columns: None for the exact matrix, else how many random ones stood for it.
    """

    matrix: Blocks
    structure: Structure
    known: tuple[Exactness, ...]
    rows: int
    columns: int | None = None
    factors: dict[str, tuple[Tensor, Tensor]] | None = None
    notes: tuple[str, ...] = ()

    @property
    def exact(self) -> bool:
        """Whether every block is the exact one."""
        return self.columns is None and all(k.exact for k in self.known)


def ggn(
    herd: Herd,
    data: Any,
    likelihood: Likelihood,
    structure: Structure,
    *,
    replica: int = 0,
    layers: Sequence[str] | None = None,
    columns: int | None = None,
    sample: int | None = None,
    weight: Tensor | None = None,
    budget: int | None = None,
    seed: int = 0,
    device: str = "cpu",
    offset: Tensor | None = None,
) -> Curvature:
    """The curvature of one replica's log-likelihood, summed over data.

    layers: prefixes of parameter names; the others are held fixed. ("last",) is the last affine map. columns: so many
    random combinations of the C columns of Λ's square root instead of all (1: a Monte-Carlo Fisher; unbiased). sample:
    so many random rows, counted N / n times each. weight: (N,). budget: bytes for what a chunk of rows needs (default:
    twice a training step, at least 64 MB). offset: (P,), for a network that is linearised at the replica and has moved so
    far from it: Λ is that of the outputs f + J offset. Raises Unsupported for outputs that are not (B, C).

    >>> import kokkiri as kk
    >>> from kokkiri.curvature import ggn
    >>> data = kk.read("breast-cancer")
    >>> found = ggn(kk.herd(kk.networks.MLP(data.inputs, [8], 1)), data, kk.Bernoulli(), Diagonal())
    >>> found.matrix.size, found.exact
    (257, True)
    """
    where = layout(herd.params)
    module = replica_module(herd, replica).to(device)
    bound = bound_likelihood(herd, likelihood, replica)
    rows = torch.arange(len(data))
    if sample is not None and sample < len(data):
        rows = permutation(len(data), seed, "curvature rows")[:sample].sort().values
    if weight is not None:
        rows = rows[weight[rows] > 0]
    scale = len(data) / len(rows) if sample is not None and weight is None else 1.0
    x = data.batch(rows[:PROBE]).x
    some = collector(module, x.to(device) if isinstance(x, Tensor) else x, wanted(module, layers, x), flat_index(where))
    k = columns or 0
    size = chunk_rows(
        module, some.plan, x, columns=k or 10, budget=budget, dense=not isinstance(structure, Kronecker | Diagonal)
    )
    walk = _Walk(some, data, bound, rows, weight, scale, columns, size, seed, torch.device(device), offset)
    found, factors = _in_structure(walk, structure, where)
    parts = [(index, block) for index, block, _ in found]
    known = [k for _, _, ks in found for k in ks]
    if own := likelihood_block(herd, likelihood, replica, walk, where):
        parts.append(own)
        known.append(Exactness("likelihood", len(own[0]), "full", exact=True))
    return Curvature(
        Blocks(where.size, tuple(parts)), structure, tuple(known), len(rows), columns, factors, some.plan.notes
    )


@dataclass(frozen=True)
class _Walk:
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

    def __call__(self, show: Callable[..., None]) -> None:
        """Calls `show(pieces)` for every chunk."""
        for i, index in enumerate(self.rows.split(self.size)):
            x, _ = self.batch(index)
            if self.offset is None:
                show(self.collect(x, self._columns(index, i))[2])
            else:
                out, pieces = tangent(self.collect, x, self.offset)
                show({name: piece.mixed(self._columns(index, i)(out)) for name, piece in pieces.items()})

    def batch(self, index: Tensor) -> tuple[Any, Tensor]:
        """Inputs and targets on the device."""
        x, y = self.data.batch(index)
        return (x.to(self.device) if isinstance(x, Tensor) else x), y.to(self.device)

    def _columns(self, index: Tensor, chunk: int) -> Columns:
        weight = None if self.weight is None else self.weight[index]

        def columns(out: Tensor) -> Tensor:
            root = curvature_root(self.likelihood, out)
            if self.columns is not None and self.columns < root.shape[2]:
                rng = generator(self.seed, "curvature columns", chunk)
                signs = torch.randint(0, 2, (len(out), root.shape[2], self.columns), generator=rng).to(root) * 2 - 1
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


def replica_module(herd: Herd, replica: int) -> nn.Module:
    """A replica as a module in evaluation mode whose trained parameters alone require gradients."""
    module = copy.deepcopy(herd.network).eval()
    tensors = {n: t[replica].detach().clone() for n, t in (herd.params | herd.buffers).items()}
    load(module, {n: t for n, t in tensors.items() if not n.startswith(LIKELIHOOD_PREFIX)})
    for name, p in module.named_parameters():
        p.requires_grad_(name in herd.params)
    return module


def bound_likelihood(herd: Herd, likelihood: Likelihood, replica: int) -> Likelihood:
    """The likelihood with a replica's own parameters."""
    return likelihood.bind({n: t[replica] for n, t in herd.likelihood_params().items()})


def flat_index(where: Layout) -> Callable[[str], Tensor]:
    """Where a parameter's entries lie in the flat vector, in the parameter's own shape."""
    starts = dict(zip(where.names, zip(where.starts, where.shapes, strict=True), strict=True))

    def index(name: str) -> Tensor:
        start, shape = starts[name]
        return torch.arange(start, start + math.prod(shape)).reshape(shape)

    return index


def wanted(module: nn.Module, layers: Sequence[str] | None, x: Any) -> tuple[str, ...]:
    """The names of the parameters that a choice of layers means."""
    names = [n for n, p in module.named_parameters() if p.requires_grad]
    if layers is None:
        return tuple(names)
    prefixes = last_layer(module, x) if tuple(layers) == ("last",) else tuple(layers)
    chosen = tuple(n for n in names if any(n == p or n.startswith(p.rstrip(".") + ".") for p in prefixes))
    if not chosen:
        raise UsageError(
            f"no trained parameter belongs to {', '.join(prefixes)}", needs="names of layers, or 'last'",
            found="there are: " + ", ".join(names[:8]) + (" …" if len(names) > 8 else ""),
            fix=f"layers=({names[-1]!r},)",
        )  # fmt: skip
    return chosen


def last_layer(module: nn.Module, x: Any) -> tuple[str, ...]:
    """The affine map whose output is the network's.

    Raises UsageError where the network ends otherwise.
    """
    tape, out = run(module, x[:PROBE], copies=False)
    last = [u for u in tape.uses if u.kind == "linear" and u.output is out]
    if not last:
        ends = [u for u in tape.uses if u.kind == "linear"]
        raise UsageError(
            "the network does not end in a linear map", needs="nn.Linear as the last operation",
            found=f"the last linear map is {ends[-1].weight}, and its output is changed" if ends else "no linear map",
            fix="layers=None for all of them, or name some",
        )  # fmt: skip
    return tuple(n for n in (last[-1].weight, last[-1].bias) if n)


def chunk_rows(module: nn.Module, plan: Plan, x: Any, *, columns: int, budget: int | None, dense: bool) -> int:
    """How many rows at a time keep within the budget."""
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
    row = 4 * (held * (2 + columns) + 2 * taken + 2 * patches + 1.5 * columns * gradients)
    size = sum(p.numel() for p in module.parameters())
    step = 4 * (128 * (2 * held + taken + patches) + 4 * size)  # a training step of 128 rows: activations, Adam
    return min(MOST_ROWS, max(1, int((budget or max(SMALLEST_BUDGET, 2 * step)) // max(row, 1.0))))


def likelihood_block(
    herd: Herd, likelihood: Likelihood, replica: int, walk: _Walk, where: Layout
) -> tuple[Tensor, operators.Block] | None:
    """The Hessian of -log p in what the likelihood learns, at the replica's outputs."""
    own = {n: t[replica].double() for n, t in herd.likelihood_params().items()}
    if not own:
        return None
    names = list(own)
    start = torch.stack([own[n] for n in names]).to(walk.device)
    total = torch.zeros(len(names), len(names), dtype=torch.float64, device=walk.device)
    for index in walk.rows.split(8192):
        x, y = walk.batch(index)
        with torch.no_grad():
            out = walk.collect.module(x) if walk.offset is None else tangent(walk.collect, x, walk.offset)[0]
        out = out.double()
        weight = torch.ones(len(index)) if walk.weight is None else walk.weight[index]

        def cost(phi: Tensor, out: Tensor = out, y: Tensor = y, weight: Tensor = weight) -> Tensor:
            bound = likelihood.bind(dict(zip(names, phi, strict=True)))
            return -(weight.to(out) * bound.log_prob(out, y)).sum()

        total += torch.func.hessian(cost)(start)
    index = torch.cat([flat_index(where)(LIKELIHOOD_PREFIX + n).reshape(-1) for n in names])
    return index, operators.symmetric(total * walk.scale).to(torch.empty(0, dtype=torch.float64))


def _in_structure(walk: _Walk, structure: Structure, where: Layout) -> tuple[list[Any], Any]:
    """(index, block, what is known of it) for each block, and Kronecker factors by name."""
    plan = walk.collect.plan
    index = lambda g: plan.index[g.names[0]]
    cpu = torch.empty(0, dtype=torch.float64)
    if isinstance(structure, Diagonal):
        sums = DiagonalSums(plan)
        walk(sums.add)
        return [(index(g), b.to(cpu), [replace(k, exact=False)]) for g, b, k in sums.blocks()], None
    if isinstance(structure, Kronecker):
        sums = KroneckerSums(plan, apart=not structure.corrected)
        walk(sums.add)
        found = sums.blocks()
        if structure.corrected:
            corrected = CorrectedSums(plan, found)
            walk(corrected.add)
            found = corrected.blocks()
        factors = {n: tuple(t.cpu() for t in f.product()) for n, f in sums.factors.items()}
        return [(index(g), b.to(cpu), [k]) for g, b, k in found], factors
    whole = torch.cat([index(g) for g in plan.groups])
    size, n = len(whole), len(walk.rows)
    label = "all parameters" if size == where.split else f"{size:,} parameters"
    if isinstance(structure, Full):
        probe = walk.collect(walk.batch(walk.rows[:1])[0], walk._columns(walk.rows[:1], 0))[1].shape[2]  # ruff: ignore[private-member-access]
        full = FullSums(plan, dual=n * probe < size)
        walk(full.add)
        return [(whole, full.block().to(cpu), [Exactness(label, size, "full", exact=True)])], None
    rank = min(structure.rank, size)
    wide = min(
        size, rank + 10
    )  # ten more columns than asked for make the range finder safe (Halko et al., section 4.2)
    some = next(iter(walk.collect.module.parameters()))
    basis = torch.randn(size, wide, generator=generator(walk.seed, "range finder"), dtype=torch.float64)
    last = RangeSums(plan, basis.to(some))
    for _ in range(structure.passes + 1):
        last = RangeSums(plan, torch.linalg.qr(last.basis if last.product is None else last.product)[0])
        walk(last.add)
    return [(whole, low_rank(last, rank).to(cpu), [Exactness(label, size, "low-rank", exact=rank == size)])], None


def curvature_trace(found: Curvature) -> float:
    """Tr G, without the likelihood's own block."""
    return sum(
        float(b.trace()) for (_, b), k in zip(found.matrix.parts, _blocks(found), strict=True) if k != "likelihood"
    )


def _blocks(found: Curvature) -> list[str]:
    return [k.label for k in found.known]


def names_of(where: Layout, params: Params) -> list[str]:
    """The network's parameters in the order of the flat vector."""
    return [n for n in where.names if n in params and not n.startswith(LIKELIHOOD_PREFIX)]


__all__ = ["Curvature", "Factors", "curvature_root", "curvature_trace", "ggn"]
