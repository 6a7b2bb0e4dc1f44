"""Rows of several numbers, whose means and covariance are all unknown."""

# ruff: file-ignore[too-many-public-methods]

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

import torch
from torch import Tensor

from kokkiri.exact.conjugate import history, pictures, rows, words
from kokkiri.exact.conjugate.history import NOTHING, History
from kokkiri.exact.distributions import InverseGamma, InverseWishart, MultivariateStudentT, StudentT, arguments
from kokkiri.exact.distributions.arguments import Numbers
from kokkiri.exact.distributions.drawing import normal_draws
from kokkiri.numerics import divergences
from kokkiri.numerics.conjugate import (
    Moments,
    normal_inverse_wishart_log_evidence,
    shift,
    vector_moments,
    without_mean,
)
from kokkiri.numerics.special import HALF_LOG_2PI

T = TypeVar("T")
IMPROPER = "strength=0.01 says little of the means; degrees=D + 2 makes `scale` the expected covariance"


class MeanAndCovariance(NamedTuple, Generic[T]):
    """One thing of the means, one of the covariance."""

    mean: T
    covariance: T


@dataclass(frozen=True, eq=False, repr=False, init=False)
class NormalInverseWishart:
    """y ~ N(μ, Σ), μ ~ N(location, Σ / strength), Σ ~ InverseWishart(degrees, scale): rows of D numbers.

    location: (..., D); strength, degrees: (...), degrees > D - 1; scale: (..., D, D), symmetric, positive definite.
    names: of the D coordinates. The prior is worth `strength` rows in what it says of the means, `degrees` in what it
    says of the covariance. The next row is a multivariate Student t (Gelman et al. 2013, section 3.6).

    >>> prior = NormalInverseWishart([0, 0], strength=1, degrees=4, scale=torch.eye(2), names=["x", "y"])
    >>> post = prior.update([[1.0, 2.0], [2.0, 3.0], [3.0, 5.0]])
    >>> print(post)
    NormalInverseWishart(x, y)
                    mean     sd  2.5 %  97.5 %   mode
    mean of x      1.500  0.612  0.277   2.723  1.500
    mean of y      2.500  0.935  0.631   4.369  2.500
    variance of x   1.50   1.50   0.42    4.85   0.55
    variance of y   3.50   3.50   0.97   11.31   1.27
    next x          1.50   1.37  -1.24    4.24
    next y          2.50   2.09  -1.68    6.68
    3 rows learnt since NormalInverseWishart(x, y): log evidence -13.29 nats; 5.73
    nats of information gained
    """

    location: Tensor
    strength: Tensor
    degrees: Tensor
    scale: Tensor
    names: tuple[str, ...]
    history: History

    def __init__(
        self,
        location: Numbers,
        strength: Numbers,
        degrees: Numbers,
        scale: Numbers,
        names: Sequence[str] = (),
        history: History = NOTHING,
    ) -> None:
        owner = "NormalInverseWishart"
        arguments.settle(self, positive={"strength": strength, "degrees": degrees}, fix=IMPROPER)
        centre, covariance = arguments.numbers(owner, "location", location), InverseWishart(self.degrees, scale)
        d = covariance.scale.shape[-1]
        rows.must_fit(owner, "location", centre, d, names)
        batch = torch.broadcast_shapes(centre.shape[:-1], covariance.df.shape)
        arguments.put(
            self, location=centre.expand(*batch, d), strength=self.strength.expand(batch),
            degrees=self.degrees.expand(batch), scale=covariance.scale.expand(*batch, d, d),
            names=tuple(map(str, names)), history=history,
        )  # fmt: skip

    def __repr__(self) -> str:
        inside = ", ".join(self.names) if self.names else f"{self.location.shape[-1]} coordinates"
        batch = f", batch {tuple(self.batch)}" if len(self.batch) else ""
        return f"NormalInverseWishart({inside}{batch})"

    def __str__(self) -> str:
        return words.table(self, ("next", self.predictive()))

    def update(self, y: Numbers, weight: Numbers | None = None) -> NormalInverseWishart:
        """After rows y (..., N, D); weight (..., N): how often each counts."""
        return self._learn(self._moments(y, weight))

    def update_statistics(self, n: Numbers, mean: Numbers, scatter: Numbers) -> NormalInverseWishart:
        """After n rows (...) with this mean (..., D) and scatter Σ (y - mean)(y - mean)ᵀ, (..., D, D)."""
        return self._learn(rows.vector_summary("NormalInverseWishart", self.batch, n, mean, scatter))

    def downdate(self, y: Numbers, weight: Numbers | None = None) -> NormalInverseWishart:
        """As if these rows had never been learnt. Raises DataError where they cannot have been."""
        seen, first = self._moments(y, weight), self.history.prior
        strength = history.left(self, self.strength, seen.n, first and first.strength)
        degrees = history.left(self, self.degrees, seen.n, first and first.degrees)
        location = without_mean(self.location, strength, seen)
        away = (seen.mean - location).unsqueeze(-1)
        gone = seen.scatter + shift(strength, seen.n)[..., None, None] * (away @ away.mT)
        there = self.scale.diagonal(dim1=-2, dim2=-1)
        history.left(self, there, gone.diagonal(dim1=-2, dim2=-1), first and first.scale.diagonal(dim1=-2, dim2=-1))
        with history.possible(self):
            less = NormalInverseWishart(location, strength, degrees, self.scale - gone, self.names)
        past = history.before(self, seen.n, less._log_evidence(seen))
        return NormalInverseWishart(location, strength, degrees, less.scale, self.names, past)

    def log_evidence(self, y: Numbers, weight: Numbers | None = None) -> Tensor:
        """The log density of these rows together, (...) nats."""
        return self._log_evidence(self._moments(y, weight))

    def predictive(self) -> MultivariateStudentT:
        """The next row, with degrees - D + 1 degrees of freedom."""
        df = self.degrees - self.location.shape[-1] + 1
        return MultivariateStudentT(self.location, self._spread(1 + 1 / self.strength), df, 1 / (1 + self.strength))

    def maximum_likelihood(self, y: Numbers, weight: Numbers | None = None) -> MeanAndCovariance[Tensor]:
        """The rows' mean and scatter / n. NaN without rows; the covariance also where it is singular: D rows or fewer.

        Then the likelihood grows without bound: there is no maximum.
        """
        given = self._rows(y, weight)
        seen = vector_moments(*given)
        _, info = torch.linalg.cholesky_ex(seen.scatter)
        full = (info == 0) & ((given.weight > 0).sum(-1) > self.location.shape[-1])
        covariance = torch.where(full[..., None, None], seen.scatter / seen.n[..., None, None], torch.nan)
        return MeanAndCovariance(torch.where(seen.n.unsqueeze(-1) > 0, seen.mean, torch.nan), covariance)

    def log_prob(self, mean: Numbers, covariance: Numbers) -> Tensor:
        """The log density of means (..., D) and covariance (..., D, D), nats. Raises NotPositiveDefinite."""
        m, sigma = (arguments.numbers("NormalInverseWishart", "parameter", t) for t in (mean, covariance))
        of_sigma = self._covariance.log_prob(sigma)
        root = torch.linalg.cholesky(sigma)
        z = torch.linalg.solve_triangular(root, (m - self.location).unsqueeze(-1), upper=False).squeeze(-1)
        volume = root.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        d = self.location.shape[-1]
        given = -0.5 * self.strength * z.square().sum(-1) - volume - d * (HALF_LOG_2PI - 0.5 * self.strength.log())
        return of_sigma + given

    def draw(self, n: int, *, seed: int) -> MeanAndCovariance[Tensor]:
        """Means (n, ..., D) and covariances (n, ..., D, D) that belong together."""
        root = self._covariance.sample_root(n, seed=seed)
        normal = normal_draws(tuple(self.location.shape), n, seed, "NormalInverseWishart").to(root).unsqueeze(-1)
        away = (root @ normal).squeeze(-1) / self.strength.sqrt().unsqueeze(-1)
        return MeanAndCovariance(self.location + away, root @ root.mT)

    def interval(self, level: float = 0.95) -> MeanAndCovariance[tuple[Tensor, Tensor]]:
        """The central interval of each mean by itself, (..., D), and of each variance, the covariance's diagonal."""
        return MeanAndCovariance(self.joint.interval(level), self._covariance.interval(level))

    def divergence(self, other: NormalInverseWishart) -> Tensor:
        """KL(self ‖ other), (...) nats; from its own prior it is what the rows taught."""
        mine, theirs = torch.linalg.cholesky(self.scale), torch.linalg.cholesky(other.scale)
        of_sigma = divergences.inverse_wishart(self.degrees, mine, other.degrees, theirs)
        move = (self.location - other.location).unsqueeze(-1)
        pull = torch.linalg.solve_triangular(mine, move, upper=False).square().sum((-2, -1))
        d, zero = self.location.shape[-1], torch.zeros_like(self.strength)
        widths = divergences.normal(zero, other.strength, zero, self.strength)
        return of_sigma + 0.5 * other.strength * self.degrees * pull + d * widths

    def picture(self, *stages: NormalInverseWishart, parameter: str = "mean") -> str:
        """The intervals of the means or of the variances, beside those of the prior or the stage before: SVG text."""
        return pictures.draw(parameter, self, stages)

    @property
    def batch(self) -> torch.Size:
        """The axes of families side by side."""
        return self.strength.shape

    @property
    def joint(self) -> MultivariateStudentT:
        """What is believed of all means together."""
        return MultivariateStudentT(
            self.location, self._spread(1 / self.strength), self.degrees - self.location.shape[-1] + 1
        )

    @property
    def marginals(self) -> dict[str, StudentT | InverseGamma]:
        """What is believed of each mean and of each variance by itself, (..., D), by name."""
        return {"mean": self.joint.marginal, "variance": self._covariance.marginal}

    @property
    def mean(self) -> MeanAndCovariance[Tensor]:
        """E[μ], NaN where degrees <= D; E[Σ], ∞ where degrees <= D + 1."""
        return MeanAndCovariance(self.joint.mean, self._covariance.mean)

    @property
    def variance(self) -> MeanAndCovariance[Tensor]:
        """var(μ_d), (..., D), and of each entry of Σ, (..., D, D); ∞ where there are too few degrees."""
        return MeanAndCovariance(self.joint.variance, self._covariance.variance)

    @property
    def mode(self) -> MeanAndCovariance[Tensor]:
        """The maximum a posteriori of all together: location and scale / (degrees + D + 2)."""
        return MeanAndCovariance(
            self.location, self.scale / (self.degrees + self.location.shape[-1] + 2)[..., None, None]
        )

    @property
    def why_no_mode(self) -> str:
        """In words: there always is one."""
        return ""

    @property
    def _covariance(self) -> InverseWishart:
        return InverseWishart(self.degrees, self.scale)

    def _spread(self, factor: Tensor) -> Tensor:
        df = self.degrees - self.location.shape[-1] + 1
        return self.scale * (factor / df)[..., None, None]

    def _learn(self, seen: Moments) -> NormalInverseWishart:
        strength = self.strength + seen.n
        away = seen.mean - self.location
        outer = away.unsqueeze(-1) @ away.unsqueeze(-2)
        scale = self.scale + seen.scatter + shift(self.strength, seen.n)[..., None, None] * outer
        location = self.location + (seen.n / strength).unsqueeze(-1) * away
        past = history.after(self, seen.n, self._log_evidence(seen))
        return NormalInverseWishart(location, strength, self.degrees + seen.n, scale, self.names, past)

    def _rows(self, y: Numbers, weight: Numbers | None) -> rows.Rows:
        return rows.vectors("NormalInverseWishart", self.batch, y, weight, self.location.shape[-1])

    def _moments(self, y: Numbers, weight: Numbers | None) -> Moments:
        return vector_moments(*self._rows(y, weight))

    def _log_evidence(self, seen: Moments) -> Tensor:
        factor = torch.linalg.cholesky(self.scale)
        return normal_inverse_wishart_log_evidence(self.location, self.strength, self.degrees, factor, seen)
