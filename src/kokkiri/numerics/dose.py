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

from kokkiri.numerics.effects import dirichlet
from kokkiri.numerics.projection import spline

_NUMBERS = 8_000_000


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


def knots_of(t: Tensor, many: int) -> Tensor:
    """(many,) quantiles of the treatment, the outer ones at 2.5 and 97.5 %; fewer where they coincide."""
    at = torch.linspace(0.025, 0.975, many, dtype=torch.float64)
    return torch.unique(t.double().quantile(at))


def response(doses: Doses, draws: int = 2000, seed: int = 0, knots: int | None = None) -> Tensor:
    """(draws, G) of the corrected curve. knots: of the correction; grows as n^(1/4), six at 500 rows, by default."""
    n = len(doses.t)
    at = knots_of(doses.t, knots or max(3, round(1.25 * n**0.25)))
    inside = lambda t: t.clamp(float(at[0]), float(at[-1]))  # the correction is flat beyond what rows can tell
    basis, there = spline(inside(doses.t), at), spline(inside(doses.grid), at)
    rest = (doses.y - doses.own) * doses.ratio
    width = basis.shape[1]
    i, j = torch.triu_indices(width, width)
    pairs, moments = basis[:, i] * basis[:, j], basis * rest.unsqueeze(1)
    out, size = [], max(1, _NUMBERS // n)
    for k, start in enumerate(range(0, draws, size)):
        w = dirichlet(n, min(size, draws - start), seed + 7919 * k, doses.weight)
        gram = torch.empty(len(w), width, width, dtype=torch.float64)
        packed = w @ pairs
        gram[:, i, j] = packed
        gram[:, j, i] = packed
        gram = gram + 1e-9 * torch.diag_embed(gram.diagonal(dim1=-2, dim2=-1))
        beta = torch.cholesky_solve((w @ moments).unsqueeze(-1), torch.linalg.cholesky(gram)).squeeze(-1)
        total = w.sum(1, keepdim=True)
        out.append(w @ doses.outcome.T / total + beta @ there.T)
    return torch.cat(out)


def uncorrected(doses: Doses) -> Tensor:
    """(G,) what the outcome model alone says."""
    if doses.weight is None:
        return doses.outcome.mean(1)
    return doses.outcome @ doses.weight / doses.weight.sum()
