"""Curves through pseudo-outcomes: an effect's projection on a few functions, under Dirichlet weights, with bands.

The pseudo-outcome of a contrast, φ_i = value_ai - value_vi, has mean τ(x_i), the effect among rows like i; so its least
squares on b(x) estimate the best straight line (in b) through τ, at the rate of a mean and with its posterior. Source:
Semenova & Chernozhukov 2021, "Debiased machine learning of conditional average treatment effects", Econometrics Journal
24; Kennedy 2023, "Towards optimal doubly robust estimation of heterogeneous causal effects".
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from kokkiri.errors import UsageError
from kokkiri.numerics.effects import Nuisances, bootstrap_weights, scores


class Band(NamedTuple):
    """(G,) each. low, high: of each point alone; lowest, highest: the whole curve lies between them with the level."""

    mean: Tensor
    low: Tensor
    high: Tensor
    lowest: Tensor
    highest: Tensor


def pseudo_outcomes(nuisances: Nuisances, level: int, versus: int) -> Tensor:
    """(n,) whose mean at x is the effect of `level` against `versus` there."""
    value = scores(nuisances).value
    return value[level] - value[versus]


def projected(
    values: Tensor, basis: Tensor, draws: int, seed: int, weight: Tensor | None = None, ridge: float = 0.0
) -> Tensor:
    """(draws, D) coefficients of least squares of values (n,) on basis (n, D), each under its own Dirichlet weights.

    ridge: a fraction of the mean square of each column of the basis, for bases that are nearly dependent.

    >>> x = torch.linspace(-1, 1, 50, dtype=torch.float64)
    >>> projected(2 + 3 * x, torch.stack([torch.ones(50, dtype=torch.float64), x], 1), 2, seed=0)
    tensor([[2.0000, 3.0000],
            [2.0000, 3.0000]], dtype=torch.float64)
    """
    b, v = basis.double(), values.double()
    n, width = b.shape
    i, j = torch.triu_indices(width, width)
    pairs = b[:, i] * b[:, j]
    out = []
    for w in bootstrap_weights(n, draws, seed, weight):
        packed = w @ pairs
        gram = torch.empty(len(w), width, width, dtype=torch.float64)
        gram[:, i, j] = packed
        gram[:, j, i] = packed
        diagonal = gram.diagonal(dim1=-2, dim2=-1)
        gram = gram + ridge * torch.diag_embed(diagonal)
        solved, info = torch.linalg.cholesky_ex(gram)
        if bool((info > 0).any()):
            raise UsageError("an effect cannot be projected on columns that depend on one another",
                             needs="columns that do not", found=f"{width} columns", fix="leave one out")  # fmt: skip
        out.append(torch.cholesky_solve((w @ (b * v.unsqueeze(1))).unsqueeze(-1), solved).squeeze(-1))
    return torch.cat(out)


def band(curves: Tensor, level: float = 0.95) -> Band:
    """Pointwise and simultaneous intervals of draws (S, G) of a curve.

    The simultaneous one is mean ± q sd, q such that so many draws lie within it everywhere (Montiel Olea &
    Plagborg-Møller 2019, "Simultaneous confidence bands", algorithm 2).

    >>> found = band(torch.randn(4000, 5, generator=torch.Generator().manual_seed(0)))
    >>> bool((found.highest > found.high).all())
    True
    """
    curves = curves.double()
    mean, sd = curves.mean(0), curves.std(0)
    away = ((curves - mean).abs() / torch.where(sd > 0, sd, 1.0)).amax(1)
    q = away.quantile(level)
    ends = torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=torch.float64)
    low, high = curves.quantile(ends, 0)
    return Band(mean, low, high, mean - q * sd, mean + q * sd)


def spline(t: Tensor, knots: Tensor) -> Tensor:
    """(n,) -> (n, K): 1, t and K - 2 natural cubic splines with these (K,) knots, straight beyond the outer ones.

    t is measured in units of the outer knots' distance. Source: Hastie, Tibshirani & Friedman 2009, "The elements of
    statistical learning", eq. 5.4 and 5.5.

    >>> spline(torch.tensor([0.0, 2.0, 4.0]), torch.tensor([0.0, 1.0, 2.0]))[:, :2]
    tensor([[1., 0.],
            [1., 1.],
            [1., 2.]], dtype=torch.float64)
    """
    k = knots.double()
    unit = k[-1] - k[0]
    u, k = (t.double() - k[0]) / unit, (k - k[0]) / unit
    cube = lambda knot: (u - knot).clamp(min=0.0) ** 3
    slope = lambda i: (cube(k[i]) - cube(k[-1])) / (k[-1] - k[i])
    last = slope(len(k) - 2) if len(k) > 2 else None
    columns = [torch.ones_like(u), u] + [slope(i) - last for i in range(len(k) - 2)]
    return torch.stack(columns, 1)
