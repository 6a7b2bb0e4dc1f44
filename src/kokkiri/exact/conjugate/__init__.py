"""Conjugate families: posterior, prediction and evidence in closed form. Yesterday's posterior is today's prior."""

from __future__ import annotations

from kokkiri.exact.conjugate import unit_information
from kokkiri.exact.conjugate.beta_bernoulli import BetaBernoulli
from kokkiri.exact.conjugate.dirichlet_categorical import DirichletCategorical
from kokkiri.exact.conjugate.estimates import Estimates, estimate
from kokkiri.exact.conjugate.gamma_exponential import GammaExponential
from kokkiri.exact.conjugate.gamma_poisson import GammaPoisson
from kokkiri.exact.conjugate.linear_regression import LinearRegression
from kokkiri.exact.conjugate.normal_inverse_gamma import NormalInverseGamma
from kokkiri.exact.conjugate.normal_inverse_wishart import NormalInverseWishart
from kokkiri.exact.conjugate.normal_known_variance import NormalKnownVariance

__all__ = [
    "BetaBernoulli",
    "DirichletCategorical",
    "Estimates",
    "GammaExponential",
    "GammaPoisson",
    "LinearRegression",
    "NormalInverseGamma",
    "NormalInverseWishart",
    "NormalKnownVariance",
    "estimate",
    "unit_information",
]
