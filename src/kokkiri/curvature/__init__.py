"""Curvature: how sharply the data hold the parameters, as matrices that are never formed."""

from __future__ import annotations

from kokkiri.curvature.ggn import Curvature, curvature_root, ggn
from kokkiri.curvature.structures import Diagonal, Exactness, Full, Kronecker, Structure, TopEigen, named

__all__ = [
    "Curvature",
    "Diagonal",
    "Exactness",
    "Full",
    "Kronecker",
    "Structure",
    "TopEigen",
    "curvature_root",
    "ggn",
    "named",
]
