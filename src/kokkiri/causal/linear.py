"""Random linear models of a causal graph, and what holds in all of them: covariances and total effects.

v = B v + e with Cov(e) = Ω, so that Cov(v) = (1 - B)⁻¹ Ω (1 - B)⁻ᵀ. B has an entry for each arrow; each bidirected edge
adds a hidden cause of both ends to Ω.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from kokkiri.causal.expression import Covariances, Expression, Fraction
from kokkiri.causal.graph import Graph
from kokkiri.errors import UsageError
from kokkiri.numerics.random import generator


@dataclass(frozen=True)
class LinearModel:
    """`effects[i, j]` is the direct effect of node j on node i, `noise` the covariance of what comes on top: (n, n)."""

    effects: Tensor
    noise: Tensor

    @cached_property
    def covariance(self) -> Tensor:
        """Cov(v), (n, n)."""
        identity = torch.eye(len(self.effects), dtype=self.effects.dtype)
        total = torch.linalg.solve(identity - self.effects, identity)
        return total @ self.noise @ total.mT

    def total(self, on: Sequence[int], of: Sequence[int]) -> Tensor:
        """(|on|, |of|): how much the means of `on` move when each of `of` is set, the others of them being held."""
        cut = self.effects.clone()
        cut[list(of)] = 0.0
        identity = torch.eye(len(cut), dtype=cut.dtype)
        return torch.linalg.solve(identity - cut, identity[:, list(of)])[list(on)]


def random_linear(graph: Graph, seed: int) -> LinearModel:
    """A model with effects of size 0.3 to 1 and either sign; hidden causes likewise."""
    n, rng = len(graph.nodes), generator(seed, "random linear model")
    draw = lambda k: (
        (0.3 + 0.7 * torch.rand(k, generator=rng, dtype=torch.float64))
        * (2.0 * torch.randint(2, (k,), generator=rng, dtype=torch.float64) - 1.0)
    )
    effects, loadings = (
        torch.zeros(n, n, dtype=torch.float64),
        torch.zeros(n, len(graph.bidirected), dtype=torch.float64),
    )
    for (a, b), value in zip(graph.directed, draw(len(graph.directed)), strict=True):
        effects[graph.index[b], graph.index[a]] = value
    for k, (a, b) in enumerate(graph.bidirected):
        loadings[graph.index[a], k], loadings[graph.index[b], k] = draw(2)
    own = 0.5 + torch.rand(n, generator=rng, dtype=torch.float64)
    return LinearModel(effects, loadings @ loadings.mT + torch.diag(own))


def partial_covariance(covariance: Tensor, rows: Sequence[int], columns: Sequence[int], given: Sequence[int]) -> Tensor:
    """Cov(rows, columns | given) of normal variables: (|rows|, |columns|)."""
    r, c, g = list(rows), list(columns), list(given)
    plain = covariance[r][:, c]
    if not g:
        return plain
    return plain - covariance[r][:, g] @ torch.linalg.solve(covariance[g][:, g], covariance[g][:, c])


def linear_value(expression: Expression, covariance: Tensor, names: Sequence[str]) -> Tensor:
    """(treatments, outcomes): the effects that a formula of covariances gives, in the units of the variables.

    Cov(z, x | w)⁻¹ Cov(z, y | w); a division where z and x are one variable each.

    >>> formula = Fraction(Covariances(("z",), ("y",)), Covariances(("z",), ("x",)))
    >>> covariance = torch.tensor([[1.0, 0.5, 1.5], [0.5, 2.0, 0.0], [1.5, 0.0, 9.0]])
    >>> linear_value(formula, covariance, ("z", "x", "y"))
    tensor([[3.]])
    """
    if not (
        isinstance(expression, Fraction)
        and isinstance(expression.numerator, Covariances)
        and isinstance(expression.denominator, Covariances)
    ):
        raise UsageError("the formula is not one of covariances", needs="the estimand of an instrument",
                         found=str(expression), fix="evaluate it on a table of probabilities")  # fmt: skip
    place = {name: i for i, name in enumerate(names)}
    above, below = (
        partial_covariance(covariance, *([place[n] for n in side] for side in (e.rows, e.columns, e.given)))
        for e in (expression.numerator, expression.denominator)
    )
    return torch.linalg.solve(below, above)
