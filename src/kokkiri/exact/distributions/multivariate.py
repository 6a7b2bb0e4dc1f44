"""Multivariate Student's t and inverse Wishart: what is believed of a mean vector, a covariance, the next row."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from kokkiri.errors import ShapeError, UsageError
from kokkiri.exact.distributions import arguments
from kokkiri.exact.distributions.arguments import Numbers
from kokkiri.exact.distributions.drawing import generator, log_gamma_draws, normal_draws
from kokkiri.exact.distributions.gamma import InverseGamma
from kokkiri.exact.distributions.normal import StudentT
from kokkiri.numerics.gammas import log_gamma_power, log_rising


@dataclass(frozen=True, eq=False, repr=False, init=False)
class MultivariateStudentT:
    """Student's t over rows (..., D): location (..., D), scale (..., D, D) positive definite, df > 0 (...).

    mean, variance, quantiles and intervals are those of each coordinate by itself, (..., D). ignorance: as in
    `StudentT`. Source: Kotz and Nadarajah 2004, "Multivariate t distributions and their applications", eq. 1.1.

    >>> t = MultivariateStudentT(torch.zeros(2), torch.eye(2), 4.0)
    >>> t.variance.tolist(), round(t.log_prob([0.0, 0.0]).exp().item() * 2 * math.pi, 12)
    ([2.0, 2.0], 1.0)
    """

    location: Tensor
    scale: Tensor
    df: Tensor
    ignorance: Tensor
    _factor: Tensor = field(init=False)

    def __init__(self, location: Numbers, scale: Numbers, df: Numbers, ignorance: Numbers = 0.0) -> None:
        owner = "MultivariateStudentT"
        arguments.settle(self, positive={"df": df}, real={"ignorance": ignorance})
        centre, matrix = arguments.numbers(owner, "location", location), arguments.numbers(owner, "scale", scale)
        factor, d = arguments.positive_definite(owner, "scale", matrix), matrix.shape[-1]
        if not centre.ndim or centre.shape[-1] != d:
            raise ShapeError(
                f"a location {tuple(centre.shape)} does not fit a scale of {d} x {d}",
                needs=f"location (..., {d})",
                found=str(tuple(centre.shape)),
                fix="one number for each coordinate",
            )
        batch = torch.broadcast_shapes(centre.shape[:-1], matrix.shape[:-2], self.df.shape)
        arguments.put(
            self, location=centre.expand(*batch, d), scale=matrix.expand(*batch, d, d), df=self.df.expand(batch),
            ignorance=self.ignorance.expand(batch), _factor=factor.expand(*batch, d, d),
        )  # fmt: skip

    def __repr__(self) -> str:
        return f"MultivariateStudentT(location {tuple(self.location.shape)})"

    @property
    def marginal(self) -> StudentT:
        """Each coordinate by itself, (..., D)."""
        root = self.scale.diagonal(dim1=-2, dim2=-1).sqrt()
        return StudentT(self.location, root, self.df.unsqueeze(-1), self.ignorance.unsqueeze(-1))

    @property
    def mean(self) -> Tensor:
        """The location; NaN where df <= 1."""
        return self.marginal.mean

    @property
    def variance(self) -> Tensor:
        """Of each coordinate; ∞ where df <= 2."""
        return self.marginal.variance

    @property
    def covariance(self) -> Tensor:
        """(..., D, D), scale df / (df - 2); ∞ where df <= 2."""
        df = self.df[..., None, None]
        return torch.where(df > 2, self.scale * (df / (df - 2)), torch.inf)

    @property
    def sd(self) -> Tensor:
        """√variance."""
        return self.variance.sqrt()

    @property
    def epistemic(self) -> Tensor:
        """The variance of the mean that is not known, of each coordinate."""
        return self.marginal.epistemic

    @property
    def aleatoric(self) -> Tensor:
        """The expected variance of the noise, of each coordinate."""
        return self.marginal.aleatoric

    def log_prob(self, value: Numbers) -> Tensor:
        """The log density of rows (..., D), nats."""
        y = arguments.numbers("MultivariateStudentT", "value", value)
        d = self.location.shape[-1]
        if not y.ndim or y.shape[-1] != d:
            raise ShapeError(
                f"MultivariateStudentT.log_prob got a value {tuple(y.shape)}",
                needs=f"(..., {d})",
                found=f"{y.shape[-1]} along the last axis" if y.ndim else "a single number",
                fix="one number for each coordinate",
            )
        z = torch.linalg.solve_triangular(self._factor, (y - self.location).unsqueeze(-1), upper=False).squeeze(-1)
        half = torch.full_like(self.df, d / 2)
        constant = log_rising(self.df / 2, half) - half * (math.pi * self.df).log()
        root = self._factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        return constant - root - (self.df + d) / 2 * torch.log1p(z.square().sum(-1) / self.df)

    def quantile(self, q: Numbers) -> Tensor:
        """The value with P(Y_d <= value) = q, of each coordinate by itself."""
        return self.marginal.quantile(q)

    def interval(self, level: float = 0.95) -> tuple[Tensor, Tensor]:
        """The central interval of each coordinate by itself."""
        return self.marginal.interval(level)

    def sample(self, n: int, *, seed: int) -> Tensor:
        """(n, ..., D) draws."""
        normal = normal_draws(tuple(self.location.shape), n, seed, "MultivariateStudentT").to(self.location)
        chi = log_gamma_draws(self.df / 2, n, seed, "MultivariateStudentT df") - (self.df / 2).log()
        return self.location + (self._factor @ normal.unsqueeze(-1)).squeeze(-1) * (-0.5 * chi).exp().unsqueeze(-1)


@dataclass(frozen=True, eq=False, repr=False, init=False)
class InverseWishart:
    """Covariances Σ (..., D, D) with density ∝ |Σ|^(-(df+D+1)/2) e^(-½ tr scale Σ⁻¹).

    df: (...), > D - 1. scale: (..., D, D), positive definite. For D = 1 it is InverseGamma(df / 2, scale / 2).
    Source: Gelman et al. 2013, "Bayesian data analysis", appendix A.

    >>> InverseWishart(5.0, torch.eye(2)).mean.tolist()
    [[0.5, 0.0], [0.0, 0.5]]
    """

    df: Tensor
    scale: Tensor
    _factor: Tensor = field(init=False)

    def __init__(self, df: Numbers, scale: Numbers) -> None:
        arguments.settle(self, positive={"df": df})
        matrix = arguments.numbers("InverseWishart", "scale", scale)
        factor, d = arguments.positive_definite("InverseWishart", "scale", matrix), matrix.shape[-1]
        if not bool((self.df > d - 1).all()):
            raise UsageError(
                f"InverseWishart got df = {self.df.min().item():g} for {d} coordinates",
                needs=f"df > {d - 1}, one less than there are coordinates",
                found=f"{self.df.min().item():g}",
                fix=f"df={d + 2}: its mean is then the scale itself",
            )
        batch = torch.broadcast_shapes(self.df.shape, matrix.shape[:-2])
        arguments.put(
            self, df=self.df.expand(batch), scale=matrix.expand(*batch, d, d), _factor=factor.expand(*batch, d, d)
        )

    def __repr__(self) -> str:
        return f"InverseWishart(scale {tuple(self.scale.shape)})"

    @property
    def mean(self) -> Tensor:
        """E[Σ] = scale / (df - D - 1), (..., D, D); ∞ where df <= D + 1."""
        left = self._wide(1)
        return torch.where(left > 0, self.scale / left, torch.inf)

    @property
    def variance(self) -> Tensor:
        """Of each entry, (..., D, D); ∞ where df <= D + 3."""
        one, spread = self._wide(1), self.scale.diagonal(dim1=-2, dim2=-1)
        square = (one + 2) * self.scale.square() + one * spread.unsqueeze(-1) * spread.unsqueeze(-2)
        return torch.where(one > 2, square / ((one + 1) * one.square() * (one - 2)), torch.inf)

    @property
    def mode(self) -> Tensor:
        """The scale / (df + D + 1), (..., D, D)."""
        return self.scale / (self.df[..., None, None] + self.scale.shape[-1] + 1)

    @property
    def marginal(self) -> InverseGamma:
        """Of the variance of each coordinate by itself, (..., D)."""
        d = self.scale.shape[-1]
        return InverseGamma((self.df.unsqueeze(-1) - d + 1) / 2, self.scale.diagonal(dim1=-2, dim2=-1) / 2)

    def log_prob(self, value: Numbers) -> Tensor:
        """The log density of covariances (..., D, D), nats. Raises NotPositiveDefinite."""
        covariance = arguments.numbers("InverseWishart", "value", value)
        root = arguments.positive_definite("InverseWishart.log_prob", "value", covariance)
        d = self.scale.shape[-1]
        half = torch.linalg.solve_triangular(root, self._factor, upper=False)
        ratios = torch.linalg.svdvals(half).square() / 2  # the eigenvalues of ½ scale Σ⁻¹
        i = torch.arange(d, device=self.scale.device)
        powers = log_gamma_power((self.df.unsqueeze(-1) - i) / 2, ratios) + i / 2 * ratios.log()
        volume = (d + 1) * root.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        return powers.sum(-1) - volume - d * (d - 1) / 4 * math.log(math.pi)

    def interval(self, level: float = 0.95) -> tuple[Tensor, Tensor]:
        """The central interval of the variance of each coordinate by itself, (..., D) each."""
        return self.marginal.interval(level)

    def sample(self, n: int, *, seed: int) -> Tensor:
        """(n, ..., D, D) draws: Bartlett's decomposition of the precision (Bartlett 1933)."""
        root = self.sample_root(n, seed=seed)
        return root @ root.mT

    def sample_root(self, n: int, *, seed: int) -> Tensor:
        """(n, ..., D, D), roots R of draws Σ = R Rᵀ."""
        d, size = self.scale.shape[-1], (arguments.count("InverseWishart", n), *self.scale.shape)
        below = torch.as_tensor(np.asarray(generator("InverseWishart", seed).standard_normal(size))).to(self.scale)
        i = torch.arange(d, device=self.scale.device)
        chi = (
            0.5 * (log_gamma_draws((self.df.unsqueeze(-1) - i) / 2, n, seed, "InverseWishart df") + math.log(2))
        ).exp()
        bartlett = below.tril(-1) + torch.diag_embed(chi)
        return torch.linalg.solve_triangular(bartlett, self._factor.mT.expand(size), upper=False).mT

    def _wide(self, less: int) -> Tensor:
        """Df - D - less, (..., 1, 1)."""
        return self.df[..., None, None] - self.scale.shape[-1] - less
