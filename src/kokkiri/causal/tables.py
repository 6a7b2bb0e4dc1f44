"""Formulas of discrete variables in numbers: one tensor in, one tensor out, for any number of joint tables at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from kokkiri.causal.expression import Expression, Fraction, Probability, Product, Sum
from kokkiri.errors import ShapeError, UsageError, nearest
from kokkiri.numerics.folding import folded

Joint = Callable[[frozenset[str]], Tensor]


def evaluate(expression: Expression, joint: Tensor, names: Sequence[str]) -> Tensor:
    """The value of a formula for joint probabilities P(v₁, …, v_k), (*batch, c₁, …, c_k), one axis a name.

    The result has the same axes, of size one where the formula does not depend on a variable. What is conditioned on an
    event of probability zero is nan, unless a factor beside it is zero.

    >>> from kokkiri.causal.expression import probability
    >>> joint = torch.tensor([[0.1, 0.2], [0.3, 0.4]])
    >>> evaluate(probability(["a"], ["b"]), joint, ("a", "b"))
    tensor([[0.2500, 0.3333],
            [0.7500, 0.6667]])
    """
    if joint.ndim < len(names):
        raise ShapeError("the table has too few axes", needs=f"one for each of {', '.join(names)}",
                         found=f"shape {tuple(joint.shape)}", fix="give the joint table of all of them")  # fmt: skip
    for name in sorted(expression.free - set(names)):
        raise UsageError(f"the formula speaks of '{name}', the table does not", needs="a table of all its variables",
                         found=", ".join(names), fix=nearest(name, names))  # fmt: skip
    return evaluate_under(expression, lambda do: _only_seen(do, joint), names)


def evaluate_under(expression: Expression, joint: Joint, names: Sequence[str]) -> Tensor:
    """The value of a formula whose terms may hold do(...): `joint(do)` is the table of P(v | do), with an axis for
    each.

    In P(v | do(x)) the table has, for each value of x, the distribution of the others; it does not add up over x.
    """
    return _Evaluation(joint, {name: i - len(names) for i, name in enumerate(names)}).value(expression)


def _only_seen(do: frozenset[str], joint: Tensor) -> Tensor:
    if do:
        raise UsageError("do(…) cannot be read from a table of what was seen", needs="a formula without it",
                         found=f"do({', '.join(sorted(do))})", fix="evaluate an estimand, not one step")  # fmt: skip
    return joint


@dataclass
class _Evaluation:
    joint: Joint
    axis: dict[str, int]  # from the end
    marginals: dict[tuple[frozenset[str], frozenset[str]], Tensor] = field(default_factory=dict)

    def value(self, e: Expression) -> Tensor:
        if isinstance(e, Probability):
            if not e.given:
                return self.marginal(e.of | e.do, e.do)
            return self.marginal(e.of | e.given | e.do, e.do) / self.marginal(e.given | e.do, e.do)
        if isinstance(e, Sum):
            inner = self.value(e.of)
            return folded(inner, [self.axis[name] for name in e.over])
        if isinstance(e, Fraction):
            return self.value(e.numerator) / self.value(e.denominator)
        if isinstance(e, Product):
            return _product([self.value(f) for f in e.factors], self.joint, len(self.axis))
        raise UsageError("a covariance cannot be read from a table of probabilities", needs="probabilities",
                         found=str(e), fix="estimate it from the rows, in a linear model")  # fmt: skip

    def marginal(self, of: frozenset[str], do: frozenset[str]) -> Tensor:
        key = of, do
        if key not in self.marginals:
            table = self.joint(do)
            away = [self.axis[name] for name in self.axis if name not in of]
            self.marginals[key] = folded(table, away)
        return self.marginals[key]


def _product(factors: list[Tensor], joint: Joint, axes: int) -> Tensor:
    if not factors:
        return torch.ones((1,) * axes, dtype=joint(frozenset()).dtype)
    result = factors[0]
    for factor in factors[1:]:
        result = result * factor
    if not result.isnan().any():
        return result
    zero = torch.zeros((), dtype=torch.bool)
    for factor in factors:
        zero = zero | (factor == 0)
    return torch.where(zero, 0.0, result)
