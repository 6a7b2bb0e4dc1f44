"""Least squares and two stages from one matrix of sums: every regression among the columns that it covers.

gram = Σ v vᵀ over rows v = (1, x, t, y): which columns explain which is chosen afterwards, and rows are added by adding
matrices. Under the reference prior, p(w, σ²) ∝ 1/σ², the posterior of the weights is Student t around least squares
with n - rank degrees of freedom, so that its intervals are the classical ones (Gelman et al. 2013, "Bayesian data
analysis", sect. 14.2).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from kokkiri.errors import DataError
from kokkiri.numerics.linear_priors import cholesky

DEPENDENT = 1e-9  # of a column's square: what is left of it beside the columns before it, below which it is one of them
ESTIMABLE = 1e-6


class Within(NamedTuple):
    """The law of some linear combinations: location (K,), scale² (K, K), degrees of freedom."""

    location: Tensor
    scale: Tensor
    df: Tensor


@dataclass(frozen=True, eq=False)
class Regression:
    """A target on columns of a gram: weights (d,), 0 for columns that are combinations of earlier ones.

    kept: places, among the d columns, of those that are independent. spanned: (kept, d) how each column is made of
    them. factor: lower Cholesky of their gram. residual: the sum of squares that is left. df: rows less rank.
    """

    weights: Tensor
    kept: Tensor
    spanned: Tensor
    factor: Tensor
    residual: Tensor
    df: Tensor

    def estimable(self, combinations: Tensor) -> Tensor:
        """(K,) whether the rows say anything of each combination (K, d) of weights.

        A combination v is estimable when it lies in the row space: v = v_kept · spanned.
        """
        gap = (combinations - combinations[:, self.kept] @ self.spanned).abs().amax(1)
        return gap <= ESTIMABLE * combinations.abs().amax(1).clamp(min=1.0)

    def within(self, combinations: Tensor) -> Within:
        """The posterior of combinations (K, d) of weights."""
        v = combinations[:, self.kept]
        root = torch.linalg.solve_triangular(self.factor, v.mT, upper=False)
        return Within(v @ self.weights[self.kept], (self.residual / self.df) * (root.mT @ root), self.df)

    def draw(self, n: int, rng: np.random.Generator) -> Tensor:
        """Weights from the posterior, (n, d); 0 for columns that were left out."""
        sigma = (self.residual / torch.from_numpy(rng.chisquare(float(self.df), n))).sqrt()
        normal = torch.from_numpy(rng.standard_normal((len(self.kept), n)))
        step = torch.linalg.solve_triangular(self.factor.mT, normal, upper=True).mT
        out = self.weights.expand(n, -1).clone()
        out[:, self.kept] += sigma.unsqueeze(1) * step
        return out


def regression(gram: Tensor, columns: Sequence[int], target: int) -> Regression:
    """The target on columns of the gram, the first of which is the column of ones. Raises DataError for too few rows.

    >>> rows = torch.tensor([[1.0, 0.0, 1.0], [1.0, 1.0, 3.0], [1.0, 2.0, 4.0], [1.0, 3.0, 8.0]]).double()
    >>> found = regression(rows.T @ rows, [0, 1], 2)
    >>> found.weights.round(decimals=6).tolist(), round(found.residual.item(), 6), found.df.item()
    ([0.7, 2.2], 1.8, 2.0)
    """
    places = list(columns)
    square, moment = gram[places][:, places], gram[places, target]
    kept = independent(square)
    rows = gram[places[0], places[0]]
    if rows <= len(kept):
        raise DataError(
            "there are too few rows for so many columns", needs=f"more than {len(kept)} rows, one for each coefficient",
            found=f"{rows:g}", fix="adjust for fewer columns, or for columns with fewer levels",
        )  # fmt: skip
    factor = cholesky(square[kept][:, kept], "the sums of squares of some columns")
    half = torch.linalg.solve_triangular(factor, moment[kept].unsqueeze(1), upper=False)
    weights = gram.new_zeros(len(places))
    weights[kept] = torch.linalg.solve_triangular(factor.mT, half, upper=True).squeeze(1)
    spanned = torch.cholesky_solve(square[kept], factor)
    residual = (gram[target, target] - half.square().sum()).clamp(min=1e-14 * gram[target, target] + 1e-300)
    return Regression(weights, kept, spanned, factor, residual, rows - len(kept))


def independent(square: Tensor) -> Tensor:
    """Places of the columns that are no combination of those before them, by elimination in order.

    >>> independent(torch.tensor([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 2.0]]).double())
    tensor([0, 2])
    """
    left, size = square.clone(), square.diagonal()
    kept = []
    for k in range(len(square)):
        if left[k, k] <= DEPENDENT * size[k] or size[k] <= 0:
            continue
        kept.append(k)
        left = left - torch.outer(left[:, k], left[k]) / left[k, k]
    return torch.tensor(kept, dtype=torch.int64)


def mean_draws(gram: Tensor, columns: Sequence[int], ones: int, n: int, rng: np.random.Generator) -> Tensor:
    """Population means of columns, (n, |columns|): normal rows under the reference prior.

    ones: the column whose entries say which rows count: that of ones, or that of an indicator.
    """
    places = list(columns)
    rows = gram[ones, ones]
    centre = gram[ones, places] / rows
    return centre + _spread(gram[places][:, places] / rows - torch.outer(centre, centre), float(rows), n, rng)


def _spread(covariance: Tensor, rows: float, n: int, rng: np.random.Generator) -> Tensor:
    """Draws of a mean around its estimate: Student t with rows - 1 degrees of freedom."""
    if not len(covariance):
        return covariance.new_zeros(n, 0)
    values, vectors = torch.linalg.eigh((covariance + covariance.mT) / 2)
    root = vectors * (values.clamp(min=0) / max(rows - 1, 1)).sqrt()
    scale = np.sqrt(max(rows - 1, 1) / rng.chisquare(max(rows - 1, 1), n))
    return (torch.from_numpy(rng.standard_normal((n, len(covariance)))) @ root.mT) * torch.from_numpy(scale).unsqueeze(
        1
    )


def partialled(gram: Tensor, out: Sequence[int], rest: Sequence[int]) -> tuple[Tensor, int]:
    """The gram of what is left of some columns when others are taken out by least squares, and the rank of those."""
    w, v = list(out), list(rest)
    kept = [w[i] for i in independent(gram[w][:, w]).tolist()]
    factor = cholesky(gram[kept][:, kept], "the sums of squares of some columns")
    half = torch.linalg.solve_triangular(factor, gram[kept][:, v], upper=False)
    return gram[v][:, v] - half.mT @ half, len(kept)
