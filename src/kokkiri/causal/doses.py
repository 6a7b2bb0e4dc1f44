"""Dose and response by networks: outcome and treatment's density out of fold, for a treatment that is a number."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from kokkiri.causal.crossfit import Sets, sets_of
from kokkiri.causal.networks import STEEP, learners_of, steep
from kokkiri.causal.outcomes import outcomes
from kokkiri.errors import DataError, ShapeError
from kokkiri.likelihoods import Bernoulli, Gaussian
from kokkiri.numerics.dose import Doses, knots_of
from kokkiri.numerics.projection import spline
from kokkiri.numerics.random import key
from kokkiri.types import Likelihood

GRID = 41
KERNEL = 512  # places at which the density of the treatment's noise is tabulated
CHUNK = 4_000_000


@dataclass(frozen=True, eq=False)
class DoseFit:
    """What `numerics.dose.response` needs, and how it came about. at: (G, n) density of each value of the grid given
    each row's x. spread: whether the treatment's noise varies.
    """

    doses: Doses
    at: Tensor
    outcome: Mapping[str, float]
    treatment: Mapping[str, float]
    spread: bool
    facts: Mapping[str, Any]


def network_doses(
    x: Tensor, t: Tensor, y: Tensor, likelihood: Likelihood | None = None, *, grid: Tensor | None = None,
    folds: int = 5, repetitions: int = 2, steps: int = 300, weight: Tensor | None = None, seed: int = 0,
) -> DoseFit:  # fmt: skip
    """Cross-fitted outcome at every value of `grid`, and the density of the treatment given x.

    x: (n, p) encoded. t: (n,) numbers. grid: by default GRID values between the 2.5 and 97.5 % quantiles. The density
    is that of t = m(x) + s(x) ε: m mixed of a line and a network, log s a line in m and x where that foretells better
    than a constant, and ε with a density estimated by a Gaussian kernel from residuals out of fold.

    >>> g = torch.Generator().manual_seed(0)
    >>> x = torch.randn(120, 2, generator=g)
    >>> t = x[:, 0] + torch.randn(120, generator=g)
    >>> found = network_doses(x, t, t + x[:, 0], folds=2, repetitions=1, steps=50)
    >>> found.doses.outcome.shape, bool((found.doses.density > 0).all())
    (torch.Size([41, 120]), True)
    """
    n = len(y)
    if x.ndim != 2 or len(x) != n or t.shape != (n,):
        raise ShapeError("inputs, treatments and outcomes do not belong together", needs="x (n, p), t (n,), y (n,)",
                         found=f"{tuple(x.shape)}, {tuple(t.shape)}, {tuple(y.shape)}", fix="one row each")  # fmt: skip
    t, y = t.double(), y.double()
    if not bool(t.isfinite().all() & y.isfinite().all() & x.isfinite().all()):
        raise DataError("some numbers are missing", needs="finite inputs, treatments and outcomes", found="others",
                        fix="leave those rows out")  # fmt: skip
    if len(t.unique()) < 5:
        raise DataError("the treatment takes few values", needs="a number of five values at least",
                        found=f"{len(t.unique())}", fix="treat them as levels")  # fmt: skip
    if likelihood is None:
        likelihood = Bernoulli() if bool(((y == 0) | (y == 1)).all()) else Gaussian()
    if grid is None:
        low, high = t.quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
        grid = torch.linspace(low, high, GRID, dtype=torch.float64)
    one = torch.zeros(n, dtype=torch.int64)
    sets = sets_of(n, folds, repetitions, 0, seed, strata=_quarters(t), weight=weight)
    wide = steep(x)
    knots = knots_of(t, 4)
    curve = spline(t, knots)[:, 1:]
    mean, sd = curve.mean(0), curve.std(0)
    shape = lambda values: (STEEP * (spline(values, knots)[:, 1:] - mean) / sd).float()
    inputs = torch.cat([wide, shape(t)], 1)
    made = outcomes(inputs, inputs, one, y, likelihood, 1, sets, learners_of(inputs, n, steps), seed)
    each = [made.at(inputs, torch.cat([wide, shape(v.expand(n))], 1), sets)[0] for v in grid.double()]
    how = outcomes(wide, wide, one, t, Gaussian(), 1, sets, learners_of(wide, n, steps), key(seed, "treatment") >> 1)
    density, margin, at, spread = _densities(t, how.mean[0, 0], wide.double(), sets, grid.double())
    own = None if weight is None else weight.double()
    doses = Doses(t, y, own, grid.double(), torch.stack(each), made.mean[0, 0], density, margin)
    facts = {"rows": n, "folds": folds, "repetitions": repetitions, "raised": doses.raised, "noise": made.noise,
             "treatment noise": how.noise, "networks": 2 * folds * repetitions, "seed": seed}  # fmt: skip
    return DoseFit(doses, at, made.weights, how.weights, spread, facts)


def _quarters(t: Tensor) -> Tensor:
    """(n,) which quarter of its values each is in, so that folds are alike."""
    return torch.bucketize(t, t.quantile(torch.tensor([0.25, 0.5, 0.75], dtype=torch.float64)))


def _densities(
    t: Tensor, mean: Tensor, x: Tensor, sets: Sets, grid: Tensor
) -> tuple[Tensor, Tensor, Tensor, bool]:  # fmt: skip
    """(n,) density of each treatment given its x, (n,) the mean of that over all x, (G, n) density of each value of the
    grid given each x, and whether the noise varies.
    """
    rest = t - mean
    constant = rest.square().mean().sqrt().expand(len(t))
    moving = _scales(rest, mean, x, sets)
    fits = lambda s: -s.log() - 0.5 * (rest / s).square()
    gain = fits(moving) - fits(constant)
    spread = float(gain.mean()) > 2 * float(gain.std()) / math.sqrt(len(t))
    s = moving if spread else constant
    z, table = _kernel(rest / s)
    density = _looked_up(z, table, rest / s) / s
    margin = torch.zeros_like(t)
    for rows in torch.arange(len(t)).split(max(1, CHUNK // len(t))):
        away = (t[rows, None] - mean) / s
        margin[rows] = (_looked_up(z, table, away) / s).mean(1)
    at = torch.stack([_looked_up(z, table, (value - mean) / s, 0.0) / s for value in grid])
    return density, margin, at, spread


def _scales(rest: Tensor, mean: Tensor, x: Tensor, sets: Sets) -> Tensor:
    """(n,) standard deviations out of fold, their logarithm a ridge regression on mean and x."""
    design = torch.cat([torch.ones(len(x), 1, dtype=torch.float64), ((mean - mean.mean()) / mean.std())[:, None], x], 1)
    target = rest.square().clamp(min=1e-12 * rest.square().mean()).log()
    found = torch.empty_like(rest)
    ridge = torch.full((design.shape[1],), 30.0, dtype=torch.float64)
    ridge[0] = 0.0
    for f in range(sets.folds):
        out = sets.fold[0] == f
        b, v = design[~out], target[~out]
        beta = torch.linalg.solve(b.T @ b + torch.diag(ridge), b.T @ v)
        log = (design @ beta) / 2
        unit = (rest[~out] / log[~out].exp()).square().mean().sqrt()  # E log ε² is not log E ε²
        found[out] = log[out].exp() * unit
    return found


def _kernel(z: Tensor) -> tuple[Tensor, Tensor]:
    """Places and density of standardised noise: a Gaussian kernel of Silverman's width (1986, eq. 3.31)."""
    quarter = z.quantile(torch.tensor([0.25, 0.75], dtype=torch.float64))
    width = 0.9 * min(float(z.std()), float(quarter.diff()) / 1.34) * len(z) ** -0.2
    at = torch.linspace(float(z.min()) - 4 * width, float(z.max()) + 4 * width, KERNEL, dtype=torch.float64)
    table = torch.zeros_like(at)
    for some in z.split(max(1, CHUNK // KERNEL)):
        table += torch.exp(-0.5 * ((at[:, None] - some) / width).square()).sum(1)
    return at, table / (len(z) * width * math.sqrt(2 * math.pi))


def _looked_up(at: Tensor, table: Tensor, z: Tensor, least: float = 1e-12) -> Tensor:
    """The table between its places, and `least` outside: nearly nothing where something is divided by it."""
    step = at[1] - at[0]
    place = ((z - at[0]) / step).clamp(0, len(at) - 1.000001)
    low = place.floor().long()
    share = place - low
    found = table[low] * (1 - share) + table[low + 1] * share
    inside = (z >= at[0]) & (z <= at[-1])
    return torch.where(inside, found, 0.0).clamp(min=least)
