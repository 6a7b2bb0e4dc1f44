"""Dose and response: E[Y(t)] as a curve in a continuous treatment, corrected, with its posterior.

With μ(x, t) the outcome's mean and π(t | x) the treatment's density, the uncorrected curve is θ(t) = mean over rows of
μ(x_j, t). What is wrong with it at t is, to first order, the mean of the weighted residual

    r_i = (y_i - μ(x_i, t_i)) ϖ(t_i) / π(t_i | x_i),      ϖ(t) = mean over rows of π(t | x_j),

among rows with treatment near t: so the least squares of r on a few functions of t are added to the curve. Errors of μ
that such functions can say are taken out if π is right, and errors of π do nothing if μ is. Rows are weighted by
Dirichlet weights throughout. Source: Kennedy, Ma, McHugh & Small 2017, JRSS B 79, eq. 3, whose pseudo-outcome
r_i + θ(t_i) is regressed on t by a kernel; Semenova & Chernozhukov 2021 for series.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from kokkiri.numerics.effects import bootstrap_weights
from kokkiri.numerics.projection import projected, spline


class Doses(NamedTuple):
    """Of n rows and G values of the treatment, each row predicted by networks that have not seen it; float64.

    t, y: (n,). weight: (n,) or None. grid: (G,) values of the treatment. outcome: (G, n) mean outcome of row j were it
    treated with each. own: (n,) at its own treatment. density: (n,) of its own treatment given x. margin: (n,) mean
    density of that treatment over all rows.
    """

    t: Tensor
    y: Tensor
    weight: Tensor | None
    grid: Tensor
    outcome: Tensor
    own: Tensor
    density: Tensor
    margin: Tensor

    @property
    def ratio(self) -> Tensor:
        """(n,) ϖ(t_i) / π(t_i | x_i), cut at its `most`."""
        return (self.margin / self.density).clamp(max=self.most)

    @property
    def most(self) -> float:
        """The largest weight of a row: √n log n / 5, the reciprocal of `effects.least_propensity`."""
        n = len(self.t)
        return max(10.0, n**0.5 * torch.tensor(float(n)).log().item() / 5)

    @property
    def raised(self) -> int:
        """How many rows were cut."""
        return int((self.margin / self.density > self.most).sum())


class Near(NamedTuple):
    """The rows near a dose, under a Gaussian kernel K: how many they are worth, (Σ K)² / Σ K², and once weighted by the
    ratio ϖ(t) / π(t | x), too; the share of the largest weight; Σ K ratio / Σ K, which is 1 in the mean where the
    densities are right, with its standard error. thin: (n,) rows whose density of the dose is at most a small
    fraction of what it is in the mean over all rows; all of them where nobody's is above zero.
    """

    rows: float
    effective: float
    heaviest: float
    total: float
    se: float
    thin: Tensor


def near(doses: Doses, dose: float, at: Tensor, fraction: float) -> Near:
    """Of one dose. at: (n,) its density given each row's x. The kernel's width is Silverman's (1986, eq. 3.31).

    >>> one, t = torch.ones(200, dtype=torch.float64), torch.linspace(0, 1, 200, dtype=torch.float64)
    >>> drawn = Doses(t, t, None, t[:1], t[None], t, one, one)  # the dose does not depend on x: weights change nothing
    >>> found = near(drawn, 0.5, one, 0.05)
    >>> round(found.rows), round(found.effective), found.total, bool(found.thin.any())
    (64, 64, 1.0, False)
    """
    tiny = torch.finfo(torch.float64).tiny
    quarter = doses.t.quantile(torch.tensor([0.25, 0.75], dtype=torch.float64))
    width = 0.9 * min(float(doses.t.std()), float(quarter.diff()) / 1.34) * len(doses.t) ** -0.2
    width = max(width, 1e-9 * float(doses.t.std()))  # where half of the rows have one dose
    own = 1.0 if doses.weight is None else doses.weight
    kernel = own * torch.exp(-0.5 * ((doses.t - dose) / width).square())
    weight = kernel * doses.ratio
    worth = lambda w: float(w.sum().square() / w.square().sum().clamp(min=tiny))
    here = kernel.sum().clamp(min=tiny)
    total = weight.sum() / here
    se = (kernel * (doses.ratio - total)).square().sum().sqrt() / here
    heaviest = float(weight.max() / weight.sum().clamp(min=tiny))
    return Near(worth(kernel), worth(weight), heaviest, float(total), float(se), at <= fraction * at.mean())


def knots_of(t: Tensor, many: int) -> Tensor:
    """(many,) quantiles of the treatment, the outer ones at 2.5 and 97.5 %; fewer where they coincide."""
    at = torch.linspace(0.025, 0.975, many, dtype=torch.float64)
    return torch.unique(t.double().quantile(at))


def knots_for(n: int) -> int:
    """How many knots n rows bear: they grow as n^(1/4), six at 500 rows."""
    return max(3, round(1.25 * n**0.25))


def response(doses: Doses, draws: int = 2000, seed: int = 0, knots: int | None = None) -> Tensor:
    """(draws, G) of the corrected curve. knots: of the correction, `knots_for` by default."""
    n = len(doses.t)
    at = knots_of(doses.t, knots or knots_for(n))
    inside = lambda t: t.clamp(float(at[0]), float(at[-1]))  # the correction is flat beyond what rows can tell
    rest = (doses.y - doses.own) * doses.ratio
    beta = projected(rest, spline(inside(doses.t), at), draws, seed, doses.weight, ridge=1e-9)
    weights = bootstrap_weights(n, draws, seed, doses.weight)  # those of the correction, once more
    plain = torch.cat([w @ doses.outcome.T / w.sum(1, keepdim=True) for w in weights])
    return plain + beta @ spline(inside(doses.grid), at).T


def uncorrected(doses: Doses) -> Tensor:
    """(G,) what the outcome model alone says."""
    if doses.weight is None:
        return doses.outcome.mean(1)
    return doses.outcome @ doses.weight / doses.weight.sum()
