"""Values that are a weighted sum of inputs, with weights and noise that are not known."""

# ruff: file-ignore[too-many-public-methods]

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

import torch
from torch import Tensor

from kokkiri.exact.conjugate import history, pictures, rows, words
from kokkiri.exact.conjugate.history import NOTHING, History
from kokkiri.exact.distributions import InverseGamma, MultivariateStudentT, StudentT, arguments
from kokkiri.exact.distributions.arguments import Numbers
from kokkiri.exact.distributions.drawing import normal_draws
from kokkiri.numerics import divergences
from kokkiri.numerics.coefficients import Coefficients, learn, least_squares, unlearn
from kokkiri.numerics.special import HALF_LOG_2PI

T = TypeVar("T")
IMPROPER = "LinearRegression.ridge(features=3, precision=0.01) says little, in units where values are about 1"


class WeightsAndVariance(NamedTuple, Generic[T]):
    """One thing of the weights, one of the noise."""

    weights: T
    variance: T


@dataclass(frozen=True, eq=False, repr=False, init=False)
class LinearRegression:
    """y ~ N(xᵀ w, σ²), w ~ N(location, σ² precision⁻¹), σ² ~ InverseGamma(shape, rate): rows (x, y) of numbers.

    location: (..., D); precision: (..., D, D), symmetric, positive definite, in units of 1 / σ²; shape, rate: (...).
    names: of the D inputs. x has a column of ones where an intercept is wanted. After rows X, y the precision is
    precision + Xᵀ X (Bishop 2006, exercise 3.12); weights and the next y are Student t. `ridge` makes a plain prior.
    The arithmetic is that of `kokkiri.numerics.linear_gaussian`, which also has row-by-row updates and evidence maxima.

    >>> x = torch.tensor([[1.0, 0.0], [1.0, 1.0], [1.0, 2.0], [1.0, 3.0]])
    >>> post = LinearRegression.ridge(["intercept", "slope"], precision=0.01).update(x, [1.0, 3.1, 4.9, 7.0])
    >>> print(post)
    LinearRegression(intercept, slope)
                          mean     sd   2.5 %  97.5 %   mode
    weight of intercept  1.029  0.599  -0.168   2.226  1.029
    weight of slope      1.979  0.321   1.339   2.619  1.979
    noise variance       0.517  0.517   0.143   1.671  0.207
    4 rows learnt since LinearRegression(intercept, slope): log evidence -9.19
    nats; 6.27 nats of information gained
    """

    location: Tensor
    precision: Tensor
    shape: Tensor
    rate: Tensor
    names: tuple[str, ...]
    history: History

    def __init__(
        self,
        location: Numbers,
        precision: Numbers,
        shape: Numbers,
        rate: Numbers,
        names: Sequence[str] = (),
        history: History = NOTHING,
    ) -> None:
        owner = "LinearRegression"
        arguments.settle(self, positive={"shape": shape, "rate": rate}, fix=IMPROPER)
        centre = arguments.numbers(owner, "location", location)
        matrix = arguments.numbers(owner, "precision", precision)
        arguments.positive_definite(owner, "precision", matrix)
        rows.must_fit(owner, "location", centre, matrix.shape[-1], names)
        batch = torch.broadcast_shapes(centre.shape[:-1], matrix.shape[:-2], self.shape.shape)
        d = matrix.shape[-1]
        arguments.put(
            self, location=centre.expand(*batch, d), precision=matrix.expand(*batch, d, d),
            shape=self.shape.expand(batch), rate=self.rate.expand(batch), names=tuple(map(str, names)), history=history,
        )  # fmt: skip

    @classmethod
    def ridge(
        cls, features: int | Sequence[str], precision: Numbers = 1.0, shape: Numbers = 1.0, rate: Numbers = 1.0
    ) -> LinearRegression:
        """Independent weights around 0, as in ridge regression.

        features: how many inputs, or their names. precision: (...), > 0; each weight is worth so many rows of size 1.
        """
        count = features if isinstance(features, int) else len(features)
        p = arguments.numbers("LinearRegression", "precision", precision)
        matrix = torch.eye(count, dtype=torch.float64, device=p.device) * p[..., None, None]
        return cls(torch.zeros(count), matrix, shape, rate, () if isinstance(features, int) else features)

    def __repr__(self) -> str:
        inside = ", ".join(self.names) if self.names else f"{self.location.shape[-1]} inputs"
        batch = f", batch {tuple(self.batch)}" if len(self.batch) else ""
        return f"LinearRegression({inside}{batch})"

    def __str__(self) -> str:
        return words.table(self)

    def update(self, x: Numbers, y: Numbers, weight: Numbers | None = None) -> LinearRegression:
        """After rows x (..., N, D), y (..., N); weight (..., N): how often each counts."""
        seen = self._rows(x, y, weight)
        found = learn(self._belief, *seen)
        past = history.after(self, seen.weight.sum(-1), found.log_evidence)
        return LinearRegression(*found.belief, self.names, past)

    def downdate(self, x: Numbers, y: Numbers, weight: Numbers | None = None) -> LinearRegression:
        """As if these rows had never been learnt. Raises DataError where they cannot have been."""
        seen, first = self._rows(x, y, weight), self.history.prior
        n = seen.weight.sum(-1)
        shape = history.left(self, self.shape, n / 2, first and first.shape)
        diagonal = (seen.weight.unsqueeze(-1) * seen.x.square()).sum(-2)
        there = self.precision.diagonal(dim1=-2, dim2=-1)
        history.left(self, there, diagonal, first and first.precision.diagonal(dim1=-2, dim2=-1))
        with history.possible(self):
            found = unlearn(self._belief, *seen)
        rate = history.left(self, self.rate, self.rate - found.rate, first and first.rate)
        belief = found._replace(shape=shape, rate=rate)
        return LinearRegression(*belief, self.names, history.before(self, n, learn(belief, *seen).log_evidence))

    def log_evidence(self, x: Numbers, y: Numbers, weight: Numbers | None = None) -> Tensor:
        """The log density of the y of these rows together, given their x, (...) nats."""
        return learn(self._belief, *self._rows(x, y, weight)).log_evidence

    def predictive(self, x: Numbers) -> StudentT:
        """The y of each of new rows x (..., B, D), by itself: (..., B)."""
        x_ = rows.vectors("LinearRegression", self.batch, x, None, self.location.shape[-1], "x").y
        spread = torch.linalg.solve_triangular(self._factor, x_.mT, upper=False).square().sum(-2)
        centre = (x_ @ self.location.unsqueeze(-1)).squeeze(-1)
        noise = (self.rate / self.shape).unsqueeze(-1)
        df = (2 * self.shape).unsqueeze(-1)
        return StudentT(centre, (noise * (1 + spread)).sqrt(), df, spread / (1 + spread))

    def maximum_likelihood(self, x: Numbers, y: Numbers, weight: Numbers | None = None) -> WeightsAndVariance[Tensor]:
        """Least squares, and the mean square of what it leaves. NaN where rows do not determine the weights.

        The variance is NaN also where the rows are met perfectly: the likelihood grows without bound as it goes to 0.
        """
        return WeightsAndVariance(*least_squares(*self._rows(x, y, weight)))

    def log_prob(self, weights: Numbers, variance: Numbers) -> Tensor:
        """The log density of weights (..., D) and noise variance (...), nats."""
        w, v = (arguments.numbers("LinearRegression", "parameter", t) for t in (weights, variance))
        safe = torch.where(v > 0, v, 1.0)
        z = (self._factor.mT @ (w - self.location).unsqueeze(-1)).squeeze(-1).square().sum(-1) / safe
        root = self._factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        given = root - 0.5 * z - self.location.shape[-1] * (HALF_LOG_2PI + 0.5 * safe.log())
        return torch.where(v > 0, given + self._variance.log_prob(safe), -torch.inf)

    def draw(self, n: int, *, seed: int) -> WeightsAndVariance[Tensor]:
        """Weights (n, ..., D) and noise variances (n, ...) that belong together."""
        variance = self._variance.sample(n, seed=seed)
        normal = normal_draws(tuple(self.location.shape), n, seed, "LinearRegression").to(variance).unsqueeze(-1)
        turned = torch.linalg.solve_triangular(self._factor.mT, normal, upper=True).squeeze(-1)
        return WeightsAndVariance(self.location + variance.sqrt().unsqueeze(-1) * turned, variance)

    def interval(self, level: float = 0.95) -> WeightsAndVariance[tuple[Tensor, Tensor]]:
        """The central interval of each weight by itself, and of the noise variance."""
        return WeightsAndVariance(self.joint.interval(level), self._variance.interval(level))

    def divergence(self, other: LinearRegression) -> Tensor:
        """KL(self ‖ other), (...) nats; from its own prior it is what the rows taught."""
        of_noise = divergences.gamma(self.shape, self.rate, other.shape, other.rate)
        move, noise = self.location - other.location, self.shape / self.rate
        return of_noise + divergences.coefficients(move, self._factor, other._factor, noise)

    def picture(self, *stages: LinearRegression, parameter: str = "weight") -> str:
        """The intervals of the weights, or the density of the noise variance, beside those before: SVG text."""
        return pictures.draw(parameter, self, stages)

    @property
    def batch(self) -> torch.Size:
        """The axes of families side by side."""
        return self.shape.shape

    @property
    def joint(self) -> MultivariateStudentT:
        """What is believed of all weights together."""
        covariance = torch.cholesky_inverse(self._factor) * (self.rate / self.shape)[..., None, None]
        return MultivariateStudentT(self.location, covariance, 2 * self.shape)

    @property
    def marginals(self) -> dict[str, StudentT | InverseGamma]:
        """What is believed of each weight by itself, (..., D), and of the noise variance, by name."""
        return {"weight": self.joint.marginal, "noise variance": self._variance}

    @property
    def mean(self) -> WeightsAndVariance[Tensor]:
        """E[w], NaN where shape <= ½; E[σ²], ∞ where shape <= 1."""
        return WeightsAndVariance(self.joint.mean, self._variance.mean)

    @property
    def variance(self) -> WeightsAndVariance[Tensor]:
        """var(w), ∞ where shape <= 1; var(σ²), ∞ where shape <= 2."""
        return WeightsAndVariance(self.joint.variance, self._variance.variance)

    @property
    def mode(self) -> WeightsAndVariance[Tensor]:
        """The maximum a posteriori of all together: location and rate / (shape + 1 + D/2)."""
        return WeightsAndVariance(self.location, self.rate / (self.shape + 1 + self.location.shape[-1] / 2))

    @property
    def why_no_mode(self) -> str:
        """In words: there always is one."""
        return ""

    @property
    def _belief(self) -> Coefficients:
        return Coefficients(self.location, self.precision, self.shape, self.rate)

    @property
    def _factor(self) -> Tensor:
        return torch.linalg.cholesky(self.precision)

    @property
    def _variance(self) -> InverseGamma:
        return InverseGamma(self.shape, self.rate)

    def _rows(self, x: Numbers, y: Numbers, weight: Numbers | None) -> rows.Pairs:
        return rows.pairs("LinearRegression", self.batch, x, y, weight, self.location.shape[-1])
