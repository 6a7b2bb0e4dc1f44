"""The curvature averaged over the posterior, in place of that at its mode.

    H <- Λ + E_q[G(θ)],  q = N(θ*, H⁻¹), from H = Λ + G(θ*)

The fixed point is the precision of the best Gaussian around θ* (Opper & Archambeau 2009, "The variational Gaussian
approximation revisited", section 2). At the mode of a classifier that is nearly always right, Λ_n = diag(p) - p pᵀ is
nearly nought, and the Gaussian believes that the weights may go nearly anywhere; a little way off they may not. Each
draw sees its own share of the rows.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from kokkiri.curvature import Curvature
from kokkiri.data.core import Data
from kokkiri.herd import Herd
from kokkiri.numerics.operators import Blocks, Products, blocks_added, kronecker_sum
from kokkiri.numerics.random import generator, permutation
from kokkiri.posteriors.evidence import flat_of, replica_params, with_theta
from kokkiri.training.flat import layout


def expected_curvature(
    herd: Herd, replica: int, data: Data, precision: Blocks, curvature: Callable[[Herd, Data], Curvature], *,
    draws: int, seed: int,
) -> Blocks:  # fmt: skip
    """E_q[G], by `draws` draws of q = N(θ_r, precision⁻¹), each with its own share of the rows.

    curvature: of a herd of one and some rows. Kronecker factors of the draws are added up to one product. One step of
    the fixed point; for another, call it with the precision that this one gave.
    """
    theta = flat_of(replica_params(herd, replica), layout(herd.params))
    steps = precision.sample(draws, generator(seed, "expected curvature", replica))
    order = permutation(len(data), seed, "rows of the draws")
    total: Blocks | None = None
    for s in range(min(draws, len(data))):
        part = curvature(with_theta(herd, replica, theta + steps[s]), data.rows(order[s::draws].sort().values)).matrix
        total = part if total is None else blocks_added(total, part)
    assert total is not None
    return Blocks(total.size, tuple((i, _one(b) if isinstance(b, Products) else b) for i, b in total.parts))


def _one(block: Products) -> Products:
    """sum_k B_k ⊗ A_k as one product of the same trace: each factor the sum of its kind, weighed by the other's."""
    if len(block.terms) == 1:
        return block
    trace = lambda m: m.diagonal().sum()
    left = torch.stack([b * trace(a) for b, a in block.terms]).sum(0)
    right = torch.stack([a * trace(b) for b, a in block.terms]).sum(0)
    return kronecker_sum([(left / trace(left).clamp(min=1e-300), right)], block.rest)
