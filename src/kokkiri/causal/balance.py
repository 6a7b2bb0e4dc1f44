"""Balance: whether both arms are alike in what is adjusted for, before weighting and after.

A covariate's standardised difference is that of its means, in standard deviations of the rows as they are. Weighted by
the propensity, both arms stand for the same rows, so that no difference may be left but by chance. Of many covariates
some differ by chance: one is called unbalanced if its difference exceeds LIMIT and what chance explains, at level 0.05
over all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kokkiri import phrases
from kokkiri.causal.estimand import wrapped
from kokkiri.causal.overlap import must_be_probabilities
from kokkiri.errors import ShapeError
from kokkiri.numerics.weighting import arm_weights, pooled_scale, standardised_differences

LIMIT = 0.1  # of a standard deviation (Austin 2009, Statistics in Medicine 28)
LEVEL = 0.05
SHOWN = 25  # covariates in table and picture


@dataclass(frozen=True, eq=False)
class Balance:
    """Standardised differences, level less versus: before and after weighting, (p,), with what chance gives, (p,)."""

    names: tuple[str, ...]
    before: Tensor
    after: Tensor
    chance_before: Tensor
    chance: Tensor

    @property
    def limit(self) -> Tensor:
        """(p,) beyond which a difference is no chance, and matters."""
        many = max(1, len(self.names))
        z = torch.special.ndtri(torch.tensor(1 - LEVEL / (2 * many), dtype=torch.float64))
        return (z * self.chance).clamp(min=LIMIT)

    @property
    def unbalanced(self) -> tuple[str, ...]:
        """Covariates that weighting leaves different, the worst first."""
        order = self.after.abs().argsort(descending=True).tolist()
        return tuple(self.names[i] for i in order if abs(float(self.after[i])) > float(self.limit[i]))

    @property
    def worst(self) -> tuple[float, float]:
        """The largest difference before and after."""
        if not self.names:
            return 0.0, 0.0
        return float(self.before.abs().max()), float(self.after.abs().max())

    @property
    def verdict(self) -> str:
        """In words."""
        if not self.names:
            return "nothing is adjusted for"
        first, last = self.worst
        many = phrases.count(len(self.names), "covariate")
        moved = f"{many}, the largest difference {first:.2f} standard deviations before weighting and {last:.2f} after"
        if bad := self.unbalanced:
            return f"unbalanced: {moved}; {phrases.joined(list(bad), 4)} still differ{'s' if len(bad) == 1 else ''}"
        return f"balanced: {moved}"

    @property
    def warnings(self) -> tuple[str, ...]:
        """What must be read with the effect."""
        if not self.unbalanced:
            return ()
        return (f"{self.verdict}: the propensity does not do its work, and the effect rests on the outcome model",)

    @property
    def order(self) -> list[int]:
        """The covariates that differ most, before or after, first."""
        return torch.maximum(self.before.abs(), self.after.abs()).argsort(descending=True, stable=True).tolist()

    def picture(self) -> str:
        """A love plot as SVG text: differences before and after, a line for each covariate."""
        from kokkiri.causal.check_pictures import balance

        return balance(self)

    def rows(self) -> list[list[str]]:
        """A line for each covariate, those that differ most first."""
        bad = set(self.unbalanced)
        return [
            [self.names[i], f"{float(self.before[i]):+.2f}", f"{float(self.after[i]):+.2f}",
             "differs" if self.names[i] in bad else ""]
            for i in self.order[:SHOWN]
        ]  # fmt: skip

    def __str__(self) -> str:
        lines = "\n".join(wrapped(self.verdict, "", "  "))
        if not self.names:
            return lines
        more = len(self.names) - SHOWN
        rest = f"\nand {phrases.count(more, 'more covariate')}, which differ less" if more > 0 else ""
        return f"{phrases.table(['standardised difference', 'before', 'after', ''], self.rows())}{rest}\n\n{lines}"


def balance_of(
    x: Tensor,
    names: Sequence[str],
    treatment: Tensor,
    propensity: Tensor,
    *,
    level: int,
    versus: int,
    whom: str = "average",
) -> Balance:
    """Of covariates (n, p) with names, treatments (n,), propensities (K, n) out of fold.

    >>> x, t = torch.tensor([[0.0], [1.0], [1.0], [1.0], [0.0], [1.0]]), torch.tensor([1, 1, 1, 1, 0, 0])
    >>> e = torch.where(x[:, 0] > 0, 0.75, 0.5)
    >>> found = balance_of(x, ["old"], t, torch.stack([1 - e, e]), level=1, versus=0)
    >>> round(found.before.item(), 2), round(found.after.item(), 2)
    (0.41, 0.0)
    """
    must_be_probabilities(treatment, propensity, level, versus)
    if x.ndim != 2 or len(x) != len(treatment) or x.shape[1] != len(names):
        raise ShapeError("covariates do not fit", needs=f"({len(treatment)}, {len(names)})",
                         found=str(tuple(x.shape)), fix="a row for each treatment, a column for each name")  # fmt: skip
    x, propensity = x.double(), propensity.double()
    had = (treatment == level, treatment == versus)
    scale = pooled_scale(x, *had)
    plain = standardised_differences(x, had[0].double(), had[1].double(), scale)
    weighted = standardised_differences(x, *arm_weights(treatment, propensity, level, versus, whom), scale)
    return Balance(tuple(names), plain.difference, weighted.difference, plain.chance, weighted.chance)
