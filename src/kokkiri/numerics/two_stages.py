"""An instrument's effect from sums: two-stage least squares, its posterior, how strong the instrument is, and the
interval of Anderson and Rubin, which holds however weak it is.

With controls taken out, z are k instruments, t m treatments, y the outcome; the reduced form is [t, y] = Π z + v with
Cov(v) = Σ. Two stages give β = (Π_tᵀ A Π_t)⁻¹ Π_tᵀ A Π_y with A = zᵀz. Under the reference prior Σ is inverse Wishart
and Π normal around least squares; β of draws of both is its exact posterior (Zellner 1971, "An introduction to Bayesian
inference in econometrics", ch. 9; Kleibergen & Zivot 2003, "Bayesian and classical approaches to instrumental variable
regression"). With as many instruments as treatments β is a ratio, which has no mean.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from kokkiri.errors import DataError
from kokkiri.numerics.linear_priors import cholesky
from kokkiri.numerics.quantiles import beta_quantile


@dataclass(frozen=True, eq=False)
class TwoStages:
    """Sums with controls taken out. zz: (k, k). zv: (k, m + 1), with t and then y. vv: (m + 1, m + 1). df: rows less
    controls less instruments.
    """

    zz: Tensor
    zv: Tensor
    vv: Tensor
    df: float

    @property
    def reduced(self) -> Tensor:
        """Π, (k, m + 1)."""
        return torch.cholesky_solve(self.zv, cholesky(self.zz, "the sums of squares of the instruments"))

    @property
    def residual(self) -> Tensor:
        """Squares and products that the instruments leave, (m + 1, m + 1)."""
        return self.vv - self.zv.mT @ self.reduced

    @property
    def estimate(self) -> Tensor:
        """β, (m,): two-stage least squares.

        >>> one = lambda *rows: torch.tensor(rows, dtype=torch.float64)
        >>> TwoStages(one([4.0]), one([2.0, 6.0]), one([3.0, 5.0], [5.0, 20.0]), 10.0).estimate.tolist()
        [3.0]
        """
        return self.functional(self.reduced.unsqueeze(0))[0]

    def functional(self, reduced: Tensor) -> Tensor:
        """β (n, m) of reduced forms (n, k, m + 1)."""
        first, second = reduced[..., :-1], reduced[..., -1:]
        weighted = first.mT @ self.zz
        return torch.linalg.solve(weighted @ first, weighted @ second).squeeze(-1)

    def standard_errors(self) -> Tensor:
        """Classical ones of β, (m,): √ of σ² (Π_tᵀ A Π_t)⁻¹, σ² from y - tᵀ β with the treatments as they are."""
        beta, first = self.estimate, self.reduced[:, :-1]
        turned = torch.cat([-beta, beta.new_ones(1)])
        noise = turned @ self.vv @ turned / (self.df + len(self.zz) - len(beta))
        return (noise * torch.linalg.inv(first.mT @ self.zz @ first).diagonal()).sqrt()

    def draw(self, n: int, rng: np.random.Generator) -> Tensor:
        """β from its posterior, (n, m)."""
        q, k = len(self.vv), len(self.zz)
        if self.df < q:
            raise DataError("there are too few rows for these instruments", needs=f"{q - self.df:g} more",
                            found=f"{self.df:g} degrees of freedom", fix="fewer controls or instruments")  # fmt: skip
        root = cholesky(self.residual, "the residuals of the first stage")
        bartlett = torch.zeros(n, q, q, dtype=torch.float64)  # lower factor of a Wishart(df, 1)
        for i in range(q):
            bartlett[:, i, i] = torch.from_numpy(np.sqrt(rng.chisquare(self.df - i, n)))
            bartlett[:, i, :i] = torch.from_numpy(rng.standard_normal((n, i)))
        # Σ⁻¹ = R⁻ᵀ B Bᵀ R⁻¹, so that Σ = C Cᵀ with C = R B⁻ᵀ
        spread = root @ torch.linalg.inv(bartlett).mT
        normal = torch.from_numpy(rng.standard_normal((n, k, q)))
        left = torch.linalg.solve_triangular(cholesky(self.zz, "the instruments").mT, normal, upper=True)
        return self.functional(self.reduced + left @ spread.mT)

    @property
    def strength(self) -> float:
        """The first stage's F; for several treatments the least eigenvalue of its matrix (Cragg & Donald 1993)."""
        first = self.reduced[:, :-1]
        root = cholesky(self.residual[:-1, :-1], "the residuals of the first stage")
        half = torch.linalg.solve_triangular(root, first.mT @ self.zz @ first, upper=False)
        whole = torch.linalg.solve_triangular(root, half.mT, upper=False)
        least = torch.linalg.eigvalsh((whole + whole.mT) / 2)[0]
        return float(least) * self.df / len(self.zz)

    def anderson_rubin(self, level: float = 0.95) -> tuple[tuple[float, float], ...]:
        """Values of β that are not refuted, as intervals: one; two half-lines; the whole line; or none.

        Those β under which z says nothing of y - β t: F(β) = (N(β) / k) / (D(β) / df) up to the quantile of F(k, df)
        (Anderson & Rubin 1949). Only for one treatment.
        """
        k = len(self.zz)
        explained = self.zv.mT @ self.reduced
        limit = k / self.df * f_quantile(level, k, self.df)
        a, b, c = (
            float(explained[i, j] - limit * self.residual[i, j]) for i, j in ((0, 0), (0, 1), (1, 1))
        )  # a β² - 2 b β + c <= 0
        inside = b * b - a * c
        if a == 0 or (a > 0 and inside < 0):
            return ()
        if inside < 0:
            return ((-math.inf, math.inf),)
        low, high = sorted(((b - math.sqrt(inside)) / a, (b + math.sqrt(inside)) / a))
        return ((low, high),) if a > 0 else ((-math.inf, low), (high, math.inf))


def f_quantile(level: float, k: float, df: float) -> float:
    """The quantile of the F distribution: that of a beta, turned.

    >>> round(f_quantile(0.95, 1, 10), 4)
    4.9646
    """
    number = lambda v: torch.tensor(float(v), dtype=torch.float64)
    x = float(beta_quantile(number(level), number(k / 2), number(df / 2)))
    return df / k * x / (1 - x)
