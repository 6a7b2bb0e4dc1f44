"""Evidence, log p(data), by Laplace's method, and the precisions of the prior at which it is highest.

    log p(D) ~ log p(D, θ*) + ½ P log 2π - ½ log |H|,   H = G + Λ       (MacKay 1992, "A practical framework", eq. 4.5)
    λ_g <- γ_g / |θ_g|²,   γ_g = P_g - λ_g tr_g H⁻¹                     (the same, eq. 4.8)

G the curvature of the log-likelihood at the mode θ*, Λ the prior's. Exact where the log joint is quadratic.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from kokkiri.curvature import Curvature, Structure, ggn
from kokkiri.curvature.ggn import bound_likelihood, flat_index, replica_module
from kokkiri.errors import KokkiriError
from kokkiri.herd import Herd
from kokkiri.numerics.operators import Blocks, Products, Rotated
from kokkiri.priors.grouped import PREFIX, GroupedNormal
from kokkiri.training.flat import Layout, layout
from kokkiri.training.objective import log_joint
from kokkiri.types import LIKELIHOOD_PREFIX, Likelihood, Params, Prior

LOWEST, HIGHEST = 1e-6, 1e8  # of a precision: beyond, a group is free, or gone
CHUNK = 8192


def hyper_of(herd: Herd, prior: Prior, replica: int) -> dict[str, Any]:
    """A replica's hyperparameters of the prior: the herd's where it varies them, else the prior's own."""
    own = prior.hyperparameters()
    return {n: herd.hyper[n][replica].double().cpu() if n in herd.hyper else t.double() for n, t in own.items()}


def replica_params(herd: Herd, replica: int) -> Params:
    """A replica's parameters in float64."""
    return {n: t[replica].double() for n, t in herd.params.items()}


def flat_of(params: Params, where: Layout) -> Tensor:
    """(P,) of one model."""
    return torch.cat([params[name].reshape(-1) for name in where.names])


def prior_precision(herd: Herd, prior: Prior, replica: int) -> Tensor:
    """(P,) -d² log prior / dθ², float64."""
    params = replica_params(herd, replica)
    at = getattr(prior, "precision_at", None)
    if at is not None:
        return flat_of(at(params, hyper_of(herd, prior, replica)), layout(herd.params))
    hyper = hyper_of(herd, prior, replica)
    slope = torch.func.grad(lambda p: prior.log_prob(p, hyper))
    diagonal = torch.func.jvp(slope, (params,), ({n: torch.ones_like(t) for n, t in params.items()},))[1]
    return -flat_of(diagonal, layout(herd.params))  # exact where the Hessian is diagonal, as an elementwise prior's is


def log_likelihoods(herd: Herd, data: Any, likelihood: Likelihood, replica: int) -> Tensor:
    """(N,) log p(y | x, θ_r) of every row, float64 nats."""
    module, bound = replica_module(herd, replica), bound_likelihood(herd, likelihood, replica)
    parts = []
    with torch.no_grad():
        for index in torch.arange(len(data)).split(CHUNK):
            x, y = data.batch(index)
            parts.append(bound.log_prob(module(x).double(), y))
    return torch.cat(parts)


def joint(
    herd: Herd, data: Any, likelihood: Likelihood, prior: Prior, replica: int, *, weight: Tensor | None = None,
    free: Tensor | None = None,
) -> float:  # fmt: skip
    """Log p(data, θ_r), nats; of the free coordinates given the others, where some are held fixed."""
    rows = log_likelihoods(herd, data, likelihood, replica)
    params, hyper = replica_params(herd, replica), hyper_of(herd, prior, replica)
    if free is not None:
        where = layout(herd.params)
        held = torch.ones(where.size, dtype=torch.bool)
        held[free] = False
        index = flat_index(where)
        params = {n: t for n, t in params.items() if not bool(held[index(n)].all())}
    return float(log_joint(rows, None if weight is None else weight.double(), prior, params, hyper))


def laplace_evidence(log_joint: float, precision: Blocks) -> float:
    """Log p(D, θ*) + ½ P log 2π - ½ log |H| over the parameters that are not held fixed, nats.

    >>> from kokkiri.numerics.operators import diagonal
    >>> round(laplace_evidence(-3.0, Blocks(2, ((torch.arange(2), diagonal(torch.ones(2))),))), 4)
    -1.1621
    """
    free = sum(part.size for _, part in precision.parts)
    return log_joint + 0.5 * free * math.log(2 * math.pi) - 0.5 * float(precision.logdet())


def group_indices(herd: Herd, prior: GroupedNormal, free: Tensor) -> dict[str, Tensor]:
    """Where the free parameters of each group lie in the flat vector."""
    where = layout(herd.params)
    index, out = flat_index(where), {}
    held = torch.zeros(where.size, dtype=torch.bool)
    held[free] = True
    for name in where.names:
        if not name.startswith(LIKELIHOOD_PREFIX):
            mine = index(name).reshape(-1)
            out.setdefault(prior.group(name), []).append(mine[held[mine]])
    return {g: torch.cat(parts) for g, parts in out.items()}


def _spectra(
    matrix: Blocks, indices: Mapping[str, Tensor]
) -> tuple[dict[str, list[Tensor]], Blocks, dict[str, Tensor]]:
    """Eigenvalues of the blocks that lie in one group each: a step then costs microseconds. The other blocks of the
    network, and where those lie, group by group.
    """
    member = torch.full((matrix.size,), -1)
    for k, index in enumerate(indices.values()):
        member[index] = k
    names, whole, rest = list(indices), {g: [] for g in indices}, []
    for index, block in matrix.parts:
        mine = member[index]
        if bool((mine < 0).all()):
            continue  # what the likelihood learns
        turned = block.near if isinstance(block, Products) else block
        if isinstance(turned, Rotated) and bool((mine == mine[0]).all()):
            whole[names[int(mine[0])]].append(turned.values)
        else:
            rest.append((index, block))
    left = torch.zeros(matrix.size, dtype=torch.bool)
    for index, _ in rest:
        left[index] = True
    others = {g: index[left[index]] for g, index in indices.items() if bool(left[index].any())}
    return whole, Blocks(matrix.size, tuple(rest)), others


def precisions(
    matrix: Blocks,
    theta: Tensor,
    start: Mapping[str, float],
    indices: Mapping[str, Tensor],
    *,
    steps: int,
    most: float = 10.0,
) -> tuple[dict[str, float], float]:
    """So many steps of MacKay's fixed point for fixed curvature and parameters: precisions, and γ over all groups.

    most: by how much a precision may change in one step.
    """
    own = {g: float(start[g]) for g in indices}
    square = {g: float(theta[index].square().sum()) for g, index in indices.items()}
    whole, rest, others = _spectra(matrix, indices)
    freedom = 0.0
    for _ in range(steps):
        freedom, moved = 0.0, {}
        along = torch.zeros(matrix.size, dtype=torch.float64)
        for g, index in others.items():
            along[index] = own[g]
        spread = rest.plus(along).inverse_diagonal() if rest.parts else along
        for g, index in indices.items():
            gained = sum(float((values / (values + own[g])).sum()) for values in whole[g])
            if g in others:
                gained += float((1 - own[g] * spread[others[g]]).sum())
            gained = max(gained, 1e-9)
            new = gained / max(square[g], 1e-300)
            moved[g] = min(max(new, own[g] / most, LOWEST), own[g] * most, HIGHEST) if len(index) else own[g]
            freedom += gained
        still = all(abs(math.log(moved[g] / own[g])) < 1e-8 for g in own)
        own = moved
        if still:
            break
    return own, freedom


@dataclass(frozen=True)
class EvidenceTuner:
    """Moves the precisions of a `GroupedNormal` towards the highest evidence while the networks are trained.

    Called every so many steps: one curvature a replica, a few steps of the fixed point.
    """

    data: Any
    likelihood: Likelihood
    prior: GroupedNormal
    structure: Structure
    layers: Sequence[str] | None
    columns: int | None
    sample: int | None
    start: int
    every: int
    seed: int
    steps: int = 3
    device: str = "cpu"

    def __repr__(self) -> str:
        return (
            f"EvidenceTuner({self.structure!r}, layers={self.layers}, columns={self.columns}, sample={self.sample}, "
            f"start={self.start}, every={self.every}, steps={self.steps}, seed={self.seed})"
        )

    def __call__(self, herd: Herd) -> dict[str, Tensor]:
        """New precisions and freedoms, (R,) each; a replica whose curvature is not finite keeps its own."""
        names = [PREFIX + g for g, _ in self.prior.precisions]
        out = {n: [] for n in (*names, "freedom")}
        for r in range(len(herd)):
            hyper = hyper_of(herd, self.prior, r)
            found = self._tuned(herd, r, hyper)
            for n, values in out.items():
                values.append(found.get(n, float(hyper[n])))
        return {n: torch.tensor(v, dtype=torch.float64) for n, v in out.items()}

    def _tuned(self, herd: Herd, r: int, hyper: Mapping[str, Any]) -> dict[str, float]:
        try:
            curvature = self._curvature(herd, r)
            theta = flat_of(replica_params(herd, r), layout(herd.params))
            free = torch.cat([index for index, _ in curvature.matrix.parts])
            indices = {g: i for g, i in group_indices(herd, self.prior, free).items() if len(i)}
            start = {g: float(hyper[PREFIX + g]) for g in indices}
            own, freedom = precisions(curvature.matrix, theta, start, indices, steps=self.steps)
        except KokkiriError:
            raise
        except ValueError:  # not finite: the loop stops such a replica by itself
            return {}
        return {**{PREFIX + g: p for g, p in own.items()}, "freedom": freedom}

    def _curvature(self, herd: Herd, r: int) -> Curvature:
        weight = None if herd.weight is None else herd.weight[r]
        return ggn(
            herd, self.data, self.likelihood, self.structure, replica=r, layers=self.layers, columns=self.columns,
            sample=self.sample, weight=weight, seed=self.seed, device=self.device,
        )  # fmt: skip


def with_theta(herd: Herd, replica: int, theta: Tensor) -> Herd:
    """The herd of one replica, with these parameters."""
    where = layout(herd.params)
    one = herd[replica]
    some = next(iter(one.params.values()))
    return replace(one, params={n: t.to(some.dtype).clone() for n, t in where.views(theta[None]).items()})
