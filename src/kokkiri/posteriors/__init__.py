"""What `fit` returns, and how it comes about: one file each."""

from __future__ import annotations

from kokkiri.posteriors.dropout import Dropout
from kokkiri.posteriors.ensemble import Ensemble
from kokkiri.posteriors.hamiltonian import Hamiltonian
from kokkiri.posteriors.langevin import Langevin
from kokkiri.posteriors.laplace import Laplace
from kokkiri.posteriors.last_layer import LastLayer
from kokkiri.posteriors.particles import Form, Particles, form
from kokkiri.posteriors.point import Point
from kokkiri.posteriors.swag import SWAG
from kokkiri.posteriors.variational import Variational

__all__ = [
    "SWAG",
    "Dropout",
    "Ensemble",
    "Form",
    "Hamiltonian",
    "Langevin",
    "Laplace",
    "LastLayer",
    "Particles",
    "Point",
    "Variational",
    "form",
]
