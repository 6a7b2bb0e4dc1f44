"""Priors: log densities of one model's parameters, each a frozen value in a file of its own."""

from __future__ import annotations

from kokkiri.priors.cauchy import Cauchy
from kokkiri.priors.flat import Flat
from kokkiri.priors.grouped import GroupedNormal
from kokkiri.priors.names import from_config
from kokkiri.priors.normal import Normal

__all__ = ["Cauchy", "Flat", "GroupedNormal", "Normal", "from_config"]
