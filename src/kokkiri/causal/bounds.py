"""What is known of an effect that is not identified: bounds without assumptions.

Who got x anyway shows what x does to them; of the others nothing is known (Manski 1990, "Nonparametric bounds on
treatment effects"). So P(x, y) ≤ P(y | do(x)) ≤ P(x, y) + 1 - P(x), in every graph.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from kokkiri.causal.expression import Expression, probability
from kokkiri.causal.formulas import unicode
from kokkiri.causal.tables import evaluate


@dataclass(frozen=True)
class Bounds:
    """The bounds of P(outcome | do(treatment), given) for discrete variables.

    >>> print(Bounds(("x",), ("y",)))
    P(x, y) ≤ P(y | do(x)) ≤ P(x, y) + 1 - P(x)
    """

    treatment: tuple[str, ...]
    outcome: tuple[str, ...]
    given: tuple[str, ...] = ()

    def evaluate(self, joint: Tensor, names: Sequence[str]) -> tuple[Tensor, Tensor]:
        """The lower and the upper bound from joint probabilities (*batch, c₁, …, c_k), with the axes of the joint.

        >>> import torch
        >>> lower, upper = Bounds(("x",), ("y",)).evaluate(torch.tensor([[0.4, 0.1], [0.2, 0.3]]), ("x", "y"))
        >>> float(lower[1, 1]), round(float(upper[1, 1]), 6)
        (0.30000001192092896, 0.8)
        """
        both, set_, seen = (evaluate(e, joint, names) for e in self._terms())
        open_ = 1 - set_
        norm = seen + open_ if self.given else 1.0
        return both / norm, (both + open_) / norm

    def _terms(self) -> tuple[Expression, Expression, Expression]:
        """P(x, y, z), P(x), P(x, z)."""
        of = (*self.treatment, *self.outcome, *self.given)
        return probability(of), probability(self.treatment), probability((*self.treatment, *self.given))

    def __str__(self) -> str:
        order = (*self.treatment, *self.outcome, *self.given)
        both, set_, seen = (unicode(e, order) for e in self._terms())
        query = unicode(probability(self.outcome, self.given, self.treatment), order)
        if not self.given:
            return f"{both} ≤ {query} ≤ {both} + 1 - {set_}"
        norm = f"[{seen} + 1 - {set_}]"
        return f"{both} / {norm} ≤ {query} ≤ [{both} + 1 - {set_}] / {norm}"
