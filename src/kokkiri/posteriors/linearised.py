"""Predictions of Gaussians around modes, through the network linearised there; no Jacobian where factors serve.

    f(x; θ) ~ f(x; θ_r) + J_r(x) (θ - θ_r)   =>   f | x ~ N(f_r(x), J_r H_r⁻¹ J_rᵀ)      (Immer et al. 2021a, eq. 7)

The likelihood is then averaged over f: in closed form where it can be, else at points. Measured (tests/reference), for
one output: log p to 1e-3 nats where the standard deviation of f is at most five times the width of the likelihood in f
(0.1 for Laplace's kink); for several: class probabilities to 0.04 for variances of f up to 3, log p of a mean and its
noise to 0.1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from kokkiri.curvature.collect import Collector, collector
from kokkiri.curvature.ggn import chunk_rows, flat_index, identity, replica_module, tangent
from kokkiri.curvature.pieces import Piece, Vector
from kokkiri.curvature.spread import covariance, variances
from kokkiri.errors import UsageError
from kokkiri.herd import Herd
from kokkiri.numerics.operators import Blocks, Dense, LowRank
from kokkiri.predictive import Classes
from kokkiri.training.flat import Layout, layout
from kokkiri.types import LIKELIHOOD_PREFIX, Likelihood, Predictive

NODES = 64  # of the trapezoidal rule for one output; half as many for each of several Gaussians
POINTS = 64  # quasi-random points for several outputs, shared out among the Gaussians
FEWEST = 16  # for each of them
REACH = 6.0  # standard deviations on either side
ROWS = 256  # at a time at most: columns of all outputs should stay in the cache
WIDE = 64  # more outputs than this: their covariances are left out, and variances alone are kept


def output_moments(
    herd: Herd, precision: Sequence[Blocks], x: Any, offset: Tensor | None = None, *, apart: bool = False
) -> tuple[Tensor, Tensor]:
    """((R, B, C) means, (R, B, C, C) covariances) of the outputs under each Gaussian; (R, B, C) variances if C > 64.

    offset: (R, P), how far each Gaussian's mean lies from where the network is linearised. apart: variances alone, for
    which a last layer with a full matrix needs C forms instead of C (C + 1) / 2.
    """
    where = layout(herd.params)
    means, covariances = [], []
    for r, own in enumerate(precision):
        module = replica_module(herd, r)
        some = next(iter(module.parameters()))
        blocks = _moved(own, some.detach())
        names = _names(where, blocks)
        collect = collector(module, x, names, flat_index(where))
        dense = any(isinstance(b, Dense | LowRank) for _, b in blocks.parts)
        with torch.no_grad():
            wide = module(x[:1]).shape[-1]
        size = min(ROWS, chunk_rows(module, collect.plan, x[:8], columns=wide, budget=None, dense=dense))
        away = None if offset is None else offset[r]
        ahead = range(0, len(x), size)
        parts = [_moments(collect, blocks, where, x[i : i + size], away, apart=apart or wide > WIDE) for i in ahead]
        means.append(torch.cat([m for m, _ in parts]))
        covariances.append(torch.cat([c for _, c in parts]))
    return torch.stack(means), torch.stack(covariances)


def drawn(herd: Herd, precision: Sequence[Blocks], x: Any, replica: Tensor, steps: Tensor) -> Tensor:
    """(S, B, C) outputs f_r + J_r step_s of draws of the linearised network: one draw serves all rows.

    replica: (S,) around which Gaussian each draw lies; steps: (S, P), from where its network is linearised.
    """
    where = layout(herd.params)
    out: list[Tensor] = [torch.empty(0)] * len(replica)
    for r in replica.unique().tolist():
        module = replica_module(herd, r)
        collect = collector(module, x, _names(where, precision[r]), flat_index(where))
        with torch.no_grad():
            wide = module(x[:1]).shape[-1]
        size = min(ROWS, chunk_rows(module, collect.plan, x[:8], columns=wide, budget=None, dense=False))
        mine = (replica == r).nonzero()[:, 0].tolist()
        parts: dict[int, list[Tensor]] = {s: [] for s in mine}
        for i in range(0, len(x), size):
            outputs, _, pieces = collect(x[i : i + size], identity)
            with torch.no_grad():
                for s in mine:
                    move = steps[s].to(outputs)
                    moved = [piece.along(move[collect.plan.index[name]]) for name, piece in pieces.items()]
                    parts[s].append(outputs + torch.stack(moved).sum(0))
        for s in mine:
            out[s] = torch.cat(parts[s])
    return torch.stack(out)


def _moved(precision: Blocks, like: Tensor) -> Blocks:
    """Rotated blocks in the network's dtype; what has to be solved stays in float64, where it keeps its digits."""
    own = lambda block: block if isinstance(block, Dense | LowRank) else block.to(like)
    return Blocks(precision.size, tuple((index, own(block)) for index, block in precision.parts))


def _names(where: Layout, blocks: Blocks) -> tuple[str, ...]:
    """The network's parameters that are not held fixed."""
    free = torch.zeros(where.size, dtype=torch.bool)
    free[blocks.free] = True
    index = flat_index(where)
    own = [n for n in where.names if not n.startswith(LIKELIHOOD_PREFIX)]
    return tuple(n for n in own if bool(free[index(n)].any()))


def _moments(
    collect: Collector, blocks: Blocks, where: Layout, x: Any, offset: Tensor | None, *, apart: bool
) -> tuple[Tensor, Tensor]:
    if offset is None:
        out, _, pieces = collect(x, identity)
    else:
        out, pieces = tangent(collect, x, offset)
    index = {name: collect.plan.index[name] for name in pieces}
    wide = out.shape[1]
    spread = variances if apart else covariance
    total = out.new_zeros(len(out), wide) if apart else out.new_zeros(len(out), wide, wide)
    whole: Tensor | None = None
    with torch.no_grad():
        for coordinates, block in blocks.parts:
            if int(coordinates.min()) >= where.split:
                continue  # what the likelihood learns moves no output
            mine = next((n for n, i in index.items() if torch.equal(i, coordinates)), None)
            if mine is not None:
                total += spread(pieces[mine], block)
                continue
            whole = _gradients(pieces, index, where.size) if whole is None else whole
            total += spread(Vector(whole[:, :, coordinates]), block)  # also where the plan is another than at the mode
    return out, total


def _gradients(pieces: dict[str, Piece], index: dict[str, Tensor], size: int) -> Tensor:
    """(B, C, P) all gradients in the flat vector's order."""
    some = next(iter(pieces.values())).gradients()
    out = some.new_zeros(*some.shape[:2], size)
    for name, piece in pieces.items():
        out[:, :, index[name]] = piece.gradients()
    return out


def averaged(
    likelihood: Likelihood, mean: Tensor, covariance: Tensor, log_weight: Tensor, *, integral: str = "points"
) -> Predictive:
    """The likelihood averaged over Gaussian outputs of R components; likelihood: bound to (R,) parameters.

    integral: "points", or "probit" for classes: softmax(f / √(1 + π/8 v)), MacKay 1992, "The evidence framework applied
    to classification networks", eq. 4. Raises UsageError for "probit" of anything else.
    """
    full = covariance.ndim == 4
    variance = covariance.diagonal(dim1=2, dim2=3) if full else covariance
    closed = getattr(likelihood, "marginal", None)
    if closed is not None and (found := closed(mean, variance, log_weight)) is not None:
        return found
    if integral == "probit":
        if not isinstance(likelihood.predictive(mean[:, :1], log_weight), Classes):
            raise UsageError(
                f"{likelihood!r} has no probit approximation", needs="a likelihood of classes",
                found=repr(likelihood), fix="integral='points'",
            )  # fmt: skip
        return _probit(mean, variance, log_weight)
    many = len(mean)
    if mean.shape[2] == 1:
        nodes, weights = _trapezoid(NODES if many == 1 else NODES // 2)
        z = nodes.to(mean)[None, :, None, None] * variance.clamp(min=0).sqrt()[:, None]
    else:
        n = max(FEWEST, POINTS // many) // 2 * 2  # in pairs
        nodes = torch.stack([_quasi_normal(n, mean.shape[2], seed=r) for r in range(many)]).to(mean)[:, None]
        weights = torch.full((n,), 1 / n, dtype=torch.float64)
        z = nodes @ _root(covariance).mT if full else nodes * variance.clamp(min=0).sqrt()[:, :, None]
        z = z.transpose(1, 2)  # (R, S, B, C)
    outputs = (mean[:, None] + z).flatten(0, 1)
    log_weights = (log_weight[:, None] + weights[None].log()).reshape(-1)
    return _repeated(likelihood, len(weights)).predictive(outputs, log_weights)


def _repeated(likelihood: Any, times: int) -> Any:
    """The likelihood for every replica's draws, one replica after the other."""
    own = getattr(likelihood, "inner", likelihood)
    names = list(own.parameters())
    bound = {n: getattr(own, n) for n in names}
    if not names or any(t is None for t in bound.values()):
        return likelihood
    return likelihood.bind({n: t.repeat_interleave(times) for n, t in bound.items()})


def _root(covariance: Tensor) -> Tensor:
    """(..., C, C) L with L Lᵀ = the covariance, made safe by rounding's share of its largest entry."""
    size = covariance.diagonal(dim1=-2, dim2=-1).amax(-1).clamp(min=1e-30)
    least = 8 * torch.finfo(covariance.dtype).eps
    jitter = least * size[..., None, None] * torch.eye(covariance.shape[-1], dtype=covariance.dtype)
    root, failed = torch.linalg.cholesky_ex(covariance + jitter)
    if bool(failed.any()):
        values, vectors = torch.linalg.eigh(covariance[failed > 0].double())
        root[failed > 0] = (vectors * values.clamp(min=0).sqrt()[..., None, :]).to(root)
    return root


def _trapezoid(n: int) -> tuple[Tensor, Tensor]:
    """Evenly spaced nodes and their weights under N(0, 1): exact but for e^(-2π²/h²) where the integrand is smooth.

    Gauss-Hermite's nodes lie further apart where the mass is, and narrow likelihoods fall between them.
    """
    z = torch.linspace(-REACH, REACH, n, dtype=torch.float64)
    return z, torch.softmax(-0.5 * z.square(), 0)


def _quasi_normal(n: int, dimensions: int, *, seed: int) -> Tensor:
    """(n, D) scrambled Sobol points as normals, in pairs ± so that odd moments vanish, scaled to variance one."""
    half = torch.quasirandom.SobolEngine(dimensions, scramble=True, seed=11 + seed).draw(n // 2, dtype=torch.float64)
    z = torch.erfinv(2 * half.clamp(1e-6, 1 - 1e-6) - 1) * math.sqrt(2)
    z = z / z.square().mean(0).sqrt()
    return torch.cat([z, -z])


def _probit(mean: Tensor, variance: Tensor, log_weight: Tensor) -> Classes:
    mean, variance = mean.double(), variance.double().clamp(min=0)
    if mean.shape[2] == 1:
        mean = torch.cat([torch.zeros_like(mean), mean], 2)
        variance = torch.cat([torch.zeros_like(variance), variance], 2)
    logits = mean / (1 + math.pi / 8 * variance).sqrt()
    log_p = torch.log_softmax(logits, -1)
    p = log_p.exp()
    spread = p.square() * (
        (1 - 2 * p) * variance + (p.square() * variance).sum(-1, keepdim=True)
    )  # sum_j (dp_c/df_j)² v_j
    within = torch.minimum(spread.clamp(min=0), p * (1 - p))
    return Classes(log_p, log_weight, within)
