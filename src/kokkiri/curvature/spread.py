"""How far directional derivatives spread under a Gaussian over parameters: J M⁻¹ Jᵀ, without J where factors serve."""

from __future__ import annotations

import torch
from torch import Tensor

from kokkiri.curvature.pieces import Affine, Piece
from kokkiri.numerics.operators import Block, Dense, Inverse, LowRank, Products, Rotated
from kokkiri.numerics.symmetric import pairs_of


def covariance(piece: Piece, precision: Block) -> Tensor:
    """(B, K, K) covariance of the K directional derivatives when the parameters are N(mode, M⁻¹): J M⁻¹ Jᵀ."""
    if isinstance(precision, Rotated):
        return piece.covariance(precision)
    if isinstance(precision, Products):
        return piece.covariance(precision.near)
    if isinstance(precision, Dense) and isinstance(piece, Affine) and _plain(piece):
        return _of_one_map(piece, precision)
    return dense_covariance(piece.gradients(), precision)


def _of_one_map(piece: Affine, precision: Dense) -> Tensor:
    """(B, K, K) without a gradient: g_k V g_l with V_cd = φᵀ (M⁻¹)_cd φ, (B, o, o), φ the map's inputs."""
    outputs = piece.g.shape[4]
    each = precision.inverse_forms(outputs, pairs=True).to(piece.a)(piece.wide[:, 0, 0])
    c, d = pairs_of(outputs)
    where = torch.empty(outputs, outputs, dtype=torch.long, device=each.device)
    where[c, d] = where[d, c] = torch.arange(len(c), device=each.device)
    whole = each[:, where.reshape(-1)].unflatten(1, (outputs, outputs))
    return whole if _as_they_are(piece) else piece.g[:, :, 0, 0] @ whole @ piece.g[:, :, 0, 0].mT


def variances(piece: Piece, precision: Block) -> Tensor:
    """(B, K), the diagonal of `covariance`."""
    if isinstance(precision, Dense) and isinstance(piece, Affine) and _plain(piece) and _as_they_are(piece):
        return precision.inverse_forms(piece.g.shape[4], pairs=False).to(piece.a)(piece.wide[:, 0, 0])
    if isinstance(piece, Affine) and isinstance(precision, Rotated | Products):
        return piece.variances(precision.near if isinstance(precision, Products) else precision)
    return covariance(piece, precision).diagonal(dim1=1, dim2=2)


def _plain(piece: Affine) -> bool:
    """Whether the weight is used once a datum, and not in groups."""
    return piece.once and piece.a.shape[2] == 1


def _as_they_are(piece: Affine) -> bool:
    """Whether the columns are the map's own outputs."""
    g = piece.g[:, :, 0, 0]
    return g.shape[1] == g.shape[2] and torch.equal(
        g, torch.eye(g.shape[1], dtype=g.dtype, device=g.device).expand_as(g)
    )


def dense_covariance(gradients: Tensor, precision: Dense | LowRank | Inverse) -> Tensor:
    """(B, K, P) -> (B, K, K): J M⁻¹ Jᵀ from the gradients themselves."""
    if isinstance(precision, Dense):
        half = precision.whiten(gradients)
        return half @ half.mT
    own = precision.rest if isinstance(precision, LowRank) else precision.covariance.rest
    wide = gradients.to(own)  # the difference of two large numbers: in its dtype, float64
    return (wide @ precision.solve(wide).mT).to(gradients)
