"""The generalised Gauss-Newton matrix of a network's log-likelihood, summed over data, in some structure.

    G = sum_n w_n J_nᵀ Λ_n J_n      J_n = d f(x_n) / dθ (C, P),  Λ_n = -E d² log p(y | f) / df² (C, C)

For likelihoods whose Hessian does not depend on y (Gaussian, Bernoulli, categorical, Poisson) this is the Hessian of a
model that is linear in θ around the mode (Martens 2020, section 8). What the likelihood itself learns has its own small
block, the Hessian; it is orthogonal to the outputs for locations and scales.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from kokkiri.curvature.collect import collector
from kokkiri.curvature.models import bound_likelihood, flat_index, last_layer, replica_module, wanted
from kokkiri.curvature.plan import PROBE
from kokkiri.curvature.structures import (
    CorrectedSums,
    Diagonal,
    DiagonalSums,
    Exactness,
    Full,
    FullSums,
    Kronecker,
    KroneckerSums,
    RangeSums,
    Structure,
    low_rank,
)
from kokkiri.curvature.walk import Walk, chunk_rows, curvature_root, identity, tangent
from kokkiri.errors import Unsupported
from kokkiri.herd import Herd
from kokkiri.numerics import operators
from kokkiri.numerics.operators import Blocks
from kokkiri.numerics.random import generator, permutation
from kokkiri.training.flat import Layout, layout
from kokkiri.types import LIKELIHOOD_PREFIX, Likelihood

DUAL = 3  # so many times fewer gradients than parameters, and their eigenvectors cost less than the whole matrix
MOST_WHOLE = 20_000  # parameters, or rows times columns, of a matrix that is made whole: 3 GB
LIKELIHOOD = "likelihood"  # the label of the likelihood's own block


@dataclass(frozen=True)
class Curvature:
    """A curvature over the flat vector of a model's parameters, those of the likelihood last.

    matrix: positive semi-definite, block by block. known: what is exact, block by block. columns: None for all of Λ,
    else how many random ones stood for it.
    """

    matrix: Blocks
    structure: Structure
    known: tuple[Exactness, ...]
    rows: int
    columns: int | None = None
    notes: tuple[str, ...] = ()
    sampled: bool = False  # whether other rows were left out

    @property
    def exact(self) -> bool:
        """Whether it is the whole matrix of these parameters: all rows and columns, and no two blocks torn apart."""
        whole = len([k for k in self.known if k.label != LIKELIHOOD]) == 1
        return whole and self.columns is None and not self.sampled and all(k.exact for k in self.known)


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
    so many random rows (of those with a weight), counted N / n times each. weight: (N,), how much each row counts.
    budget: bytes for what a chunk of rows needs (default: twice a training step, at least 64 MB). offset: (P,), for a
    network that is linearised at the replica and has moved so far from it: Λ is that of the outputs f + J offset.
    Raises Unsupported for outputs that are not (B, C), where they depend on other rows, and for a whole matrix of more
    than 20,000 coordinates.

    >>> import kokkiri as kk
    >>> from kokkiri.curvature import ggn
    >>> data = kk.read("breast-cancer")
    >>> found = ggn(kk.herd(kk.networks.MLP(data.inputs, [8], 1)), data, kk.Bernoulli(), Diagonal())
    >>> found.matrix.size, found.exact
    (257, False)
    """
    where = layout(herd.params)
    module = replica_module(herd, replica).to(device)
    bound = bound_likelihood(herd, likelihood, replica)
    counted = torch.arange(len(data)) if weight is None else weight.nonzero()[:, 0]
    rows = counted
    if sample is not None and sample < len(counted):
        rows = counted[permutation(len(counted), seed, "curvature rows")[:sample].sort().values]
    x = data.batch(rows[:PROBE]).x.to(device)
    some = collector(module, x, wanted(module, layers, x), flat_index(where))
    with torch.no_grad():
        whole = curvature_root(bound, module(x[:1])).shape[2]
    columns = None if columns is None or columns >= whole else columns
    dense = not isinstance(structure, Kronecker | Diagonal)
    size = chunk_rows(module, some.plan, x, columns=columns or whole, budget=budget, dense=dense)
    scale = len(counted) / len(rows)
    walk = Walk(
        some, data, bound, rows, weight, scale, columns, size, seed, torch.device(device), offset,
        squares=isinstance(structure, Diagonal),
    )  # fmt: skip
    found = _in_structure(walk, structure, where, columns or whole)
    parts = [(index, block) for index, block, _ in found]
    known = [k for _, _, k in found]
    if own := likelihood_block(herd, likelihood, replica, walk, where):
        parts.append(own)
        known.append(Exactness(LIKELIHOOD, len(own[0]), "full", exact=True))
    return Curvature(
        Blocks(where.size, tuple(parts)), structure, tuple(known), len(rows), columns, some.plan.notes,
        sampled=len(rows) < len(counted),
    )  # fmt: skip


def likelihood_block(
    herd: Herd, likelihood: Likelihood, replica: int, walk: Walk, where: Layout
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

        with torch.enable_grad():  # twice backwards: torch.func.hessian would load the compiler of torch first
            phi = start.clone().requires_grad_()
            log_p = likelihood.bind(dict(zip(names, phi, strict=True))).log_prob(out, y)
            (slope,) = torch.autograd.grad(-(weight.to(out) * log_p).sum(), phi, create_graph=True)
            for k, row in enumerate(slope):
                total[k] += torch.autograd.grad(row, phi, retain_graph=True)[0]
    index = torch.cat([flat_index(where)(LIKELIHOOD_PREFIX + n).reshape(-1) for n in names])
    return index, operators.symmetric(total * walk.scale).to(torch.empty(0, dtype=torch.float64))


def _in_structure(
    walk: Walk, structure: Structure, where: Layout, columns: int
) -> list[tuple[Tensor, operators.Block, Exactness]]:
    """(index, block, what is known of it) for each block."""
    plan = walk.collect.plan
    index = lambda g: plan.index[g.names[0]]
    cpu = torch.empty(0, dtype=torch.float64)
    if isinstance(structure, Diagonal):
        sums = DiagonalSums(plan)
        walk(sums.add)
        return [(index(g), b.to(cpu), k) for g, b, k in sums.blocks()]
    if isinstance(structure, Kronecker):
        sums = KroneckerSums(plan, apart=not structure.corrected)
        walk(sums.add)
        found = sums.blocks()
        if structure.corrected:
            corrected = CorrectedSums(plan, found)
            walk(corrected.add)
            found = corrected.blocks()
        return [(index(g), b.to(cpu), k) for g, b, k in found]
    whole = torch.cat([index(g) for g in plan.groups])
    size, n = len(whole), len(walk.rows)
    label = "all parameters" if size == where.split else f"{size:,} parameters"
    if isinstance(structure, Full):
        if min(size, n * columns) > MOST_WHOLE:
            raise Unsupported(
                f"a full matrix of {size:,} parameters", needs=f"at most {MOST_WHOLE:,} of them",
                found=f"{8 * size**2 / 2**30:,.0f} GB, and several times that to invert it",
                fix="structure='kronecker', or layers='last'",
            )  # fmt: skip
        full = FullSums(plan, dual=DUAL * n * columns < size)
        walk(full.add)
        return [(whole, full.block().to(cpu), Exactness(label, size, "full", exact=True))]
    rank = min(structure.rank, size)
    wide = min(size, rank + 10)  # ten more than asked for make the range finder safe (Halko et al., section 4.2)
    some = next(iter(walk.collect.module.parameters()))
    basis = torch.randn(size, wide, generator=generator(walk.seed, "range finder"), dtype=torch.float64)
    last = RangeSums(plan, basis.to(some))
    for _ in range(structure.passes + 1):
        last = RangeSums(plan, torch.linalg.qr(last.basis if last.product is None else last.product)[0])
        walk(last.add)
    return [(whole, low_rank(last, rank).to(cpu), Exactness(label, size, "low-rank", exact=rank == size))]


def curvature_trace(found: Curvature) -> float:
    """Tr G, without the likelihood's own block."""
    each = zip(found.matrix.parts, found.known, strict=True)
    return sum(float(block.trace()) for (_, block), k in each if k.label != LIKELIHOOD)


__all__ = [
    "Curvature",
    "bound_likelihood",
    "chunk_rows",
    "curvature_root",
    "curvature_trace",
    "flat_index",
    "ggn",
    "identity",
    "last_layer",
    "replica_module",
    "tangent",
]
