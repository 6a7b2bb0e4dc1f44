"""Likelihoods: log p(y | output) in nats, normalised, each a frozen value in a file of its own."""

from __future__ import annotations

from kokkiri.likelihoods.bernoulli import Bernoulli
from kokkiri.likelihoods.categorical import Categorical
from kokkiri.likelihoods.gaussian import Gaussian
from kokkiri.likelihoods.heteroscedastic import HeteroscedasticGaussian
from kokkiri.likelihoods.heteroscedastic_t import HeteroscedasticStudentT
from kokkiri.likelihoods.laplace import Laplace
from kokkiri.likelihoods.names import from_config, named
from kokkiri.likelihoods.negative_binomial import NegativeBinomial
from kokkiri.likelihoods.poisson import Poisson
from kokkiri.likelihoods.rescaled import Rescaled
from kokkiri.likelihoods.student_t import StudentT

__all__ = [
    "Bernoulli",
    "Categorical",
    "Gaussian",
    "HeteroscedasticGaussian",
    "HeteroscedasticStudentT",
    "Laplace",
    "NegativeBinomial",
    "Poisson",
    "Rescaled",
    "StudentT",
    "from_config",
    "named",
]
