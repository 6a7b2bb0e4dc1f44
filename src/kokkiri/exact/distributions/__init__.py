"""Distributions as small frozen values: tensors of any batch shape in, moments, densities, quantiles and draws out."""

from __future__ import annotations

from kokkiri.exact.distributions.beta import Beta
from kokkiri.exact.distributions.counts import BetaBinomial, NegativeBinomial
from kokkiri.exact.distributions.dirichlet import Categorical, Dirichlet, DirichletMultinomial
from kokkiri.exact.distributions.gamma import Gamma, InverseGamma
from kokkiri.exact.distributions.lomax import Lomax
from kokkiri.exact.distributions.multivariate import InverseWishart, MultivariateStudentT
from kokkiri.exact.distributions.normal import Normal, StudentT

__all__ = [
    "Beta",
    "BetaBinomial",
    "Categorical",
    "Dirichlet",
    "DirichletMultinomial",
    "Gamma",
    "InverseGamma",
    "InverseWishart",
    "Lomax",
    "MultivariateStudentT",
    "NegativeBinomial",
    "Normal",
    "StudentT",
]
