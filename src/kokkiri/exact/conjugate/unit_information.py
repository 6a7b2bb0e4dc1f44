"""Priors that are worth one row, centred where the rows are: for those who have none of their own.

The rows are used twice, once for the centre, so that evidence is a little too good: by about half a nat a parameter.
Source: Kass and Wasserman 1995, "A reference Bayesian test for nested hypotheses and its relationship to the Schwarz
criterion". A prior of one's own is better.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from kokkiri.errors import DataError
from kokkiri.exact.conjugate import rows
from kokkiri.exact.conjugate.gamma_exponential import GammaExponential
from kokkiri.exact.conjugate.gamma_poisson import GammaPoisson
from kokkiri.exact.conjugate.linear_regression import LinearRegression
from kokkiri.exact.conjugate.normal_inverse_gamma import NormalInverseGamma
from kokkiri.exact.conjugate.normal_inverse_wishart import NormalInverseWishart
from kokkiri.exact.conjugate.normal_known_variance import NormalKnownVariance
from kokkiri.exact.distributions.arguments import Numbers
from kokkiri.numerics.conjugate import moments, vector_moments

ONE = torch.Size()


def poisson(y: Numbers, exposure: Numbers | None = None) -> GammaPoisson:
    """As many events as a row has on average, at least half a one, in the exposure of an average row.

    >>> poisson([2, 4])
    GammaPoisson(shape=3, rate=1)
    """
    seen = rows.exposed("a prior worth one row", ONE, y, exposure, None)
    _some(len(seen.y), 1)
    return GammaPoisson(seen.y.mean().clamp(min=0.5), seen.exposure.mean())


def exponential(y: Numbers) -> GammaExponential:
    """One event in the average time.

    >>> exponential([3.0, 5.0])
    GammaExponential(shape=1, rate=4)
    """
    seen = rows.values("a prior worth one row", ONE, y, None, rows.POSITIVE).y
    _some(len(seen), 1)
    if not bool(seen.sum() > 0):
        raise _no_centre("times that are all 0")
    return GammaExponential(1.0, seen.mean())


def normal(y: Numbers) -> NormalInverseGamma:
    """The rows' mean and variance, worth one row each.

    >>> normal([1.0, 3.0])
    NormalInverseGamma(location=2, strength=1, shape=0.5, rate=0.5)
    """
    mean, variance = _centre(y)
    return NormalInverseGamma(mean, 1.0, 0.5, variance / 2)


def known_variance(y: Numbers, noise: Numbers) -> NormalKnownVariance:
    """The rows' mean, as if it had been measured once."""
    seen = rows.values("a prior worth one row", ONE, y, None, rows.FINITE).y
    _some(len(seen), 1)
    return NormalKnownVariance(seen.mean(), noise, noise)


def linear(x: Numbers, y: Numbers, names: Sequence[str] = ()) -> LinearRegression:
    """All weights 0 but the first, an intercept, which is the mean of y; precision XᵀX / N.

    >>> linear([[1.0, 0.0], [1.0, 2.0]], [1.0, 3.0]).location.tolist()
    [2.0, 0.0]
    """
    inputs = rows.vectors("a prior worth one row", ONE, x, None, _width(x), "x").y
    mean, variance = _centre(y)
    precision = inputs.mT @ inputs / len(inputs)
    values = torch.linalg.eigvalsh(precision)
    if not bool(values[0] > 1e-12 * values[-1]):
        raise DataError(
            "no prior worth one row: the inputs are collinear, or fewer rows than inputs",
            needs="inputs none of which is a weighted sum of others",
            found=f"{inputs.shape[1]} inputs, {int((values > 1e-12 * values[-1]).sum())} of them independent",
            fix="leave one of them out, or name a prior of your own",
        )
    location = torch.zeros_like(values)
    location[0] = mean
    return LinearRegression(location, precision, 0.5, variance / 2, names)


def vectors(y: Numbers, names: Sequence[str] = ()) -> NormalInverseWishart:
    """The rows' means and covariance, worth one row: D degrees of freedom.

    >>> vectors([[0.0, 0.0], [2.0, 0.0], [1.0, 3.0]]).location.tolist()
    [1.0, 1.0]
    """
    given = rows.vectors("a prior worth one row", ONE, y, None, _width(y))
    seen, d = vector_moments(*given), given.y.shape[-1]
    _, info = torch.linalg.cholesky_ex(seen.scatter)
    if bool(info) or len(given.y) <= d:
        raise _no_centre(f"{len(given.y)} rows of {d} numbers with a covariance that is singular")
    return NormalInverseWishart(seen.mean, 1.0, float(d), seen.scatter / seen.n, names)


def _width(x: Numbers) -> int:
    shape = torch.as_tensor(x).shape
    return shape[-1] if shape else 0


def _centre(y: Numbers) -> tuple[Tensor, Tensor]:
    """Mean and variance of values that differ."""
    seen = moments(*rows.values("a prior worth one row", ONE, y, None, rows.FINITE))
    _some(int(seen.n), 2)
    if not bool(seen.scatter > 0):
        raise _no_centre("values that are all the same")
    return seen.mean, seen.scatter / seen.n


def _some(count: int, least: int) -> None:
    if count < least:
        raise _no_centre(f"{count} row{'s' * (count != 1)}")


def _no_centre(found: str) -> DataError:
    return DataError(
        "no prior worth one row can be read off the rows",
        needs="rows that have a centre and a spread",
        found=found,
        fix="name a prior of your own",
    )
