"""Means of an outcome under interventions, from joint tables of categories: any number of tables at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kokkiri.causal.asked import Asked
from kokkiri.causal.counts import Counts
from kokkiri.causal.estimand import Estimand
from kokkiri.causal.expression import Expression, probability, product, total
from kokkiri.causal.tables import evaluate
from kokkiri.errors import Unsupported
from kokkiri.numerics.folding import folded


@dataclass(frozen=True, eq=False)
class Evaluator:
    """E[Y | do(t)] and E[Y | t] at all K settings, of joint tables (s, c₁, …, c_k): (s, K) each."""

    asked: Asked
    counts: Counts
    level: int
    versus: int

    def done(self, joint: Tensor) -> Tensor:
        """(s, K) under interventions, among those the question is about."""
        asked, names = self.asked, self.counts.names
        if asked.whom == "average":
            return self.mean(done(asked.estimand, asked, joint, names))
        own = self.level if asked.whom == "treated" else self.versus
        adjusted = asked.adjust if asked.estimand is None else asked.estimand.adjustment
        if asked.estimand is None or asked.estimand.kind == "back-door":
            inner = evaluate(probability([asked.outcome], [*asked.treatments, *adjusted]), joint, names)
            if not adjusted:
                return self.mean(inner)
            among = self.at(evaluate(probability(adjusted, asked.treatments), joint, names), own)
            return self.mean(folded(inner * among, [self.counts.axis[n] + 1 for n in adjusted]))
        return self.by_consistency(joint, own)

    def by_consistency(self, joint: Tensor, own: int) -> Tensor:
        """E[Y_k | t = own] of two settings.

        From E[Y_k] = Σ_t P(t) E[Y_k | t], and E[Y_t | t] = E[Y | t].
        """
        average, seen = self.mean(done(self.asked.estimand, self.asked, joint, self.counts.names)), self.seen(joint)
        if seen.shape[1] != 2:
            raise Unsupported(
                "the effect on the treated of several treatments needs adjustment", needs="two levels, or a back-door "
                "formula", found=f"{seen.shape[1]} levels", fix="the average effect",
            )  # fmt: skip
        share = evaluate(probability(self.asked.treatments), joint, self.counts.names)
        p = self.places(share)
        other = 1 - own
        of_other = (average[:, other] - p[:, other] * seen[:, other]) / p[:, own]
        parts = [of_other, of_other]
        parts[own] = seen[:, own]
        return torch.stack(parts, 1)

    def seen(self, joint: Tensor) -> Tensor:
        """(s, K) among those with each setting."""
        given = probability([self.asked.outcome], self.asked.treatments)
        return self.mean(evaluate(given, joint, self.counts.names))

    def mean(self, table: Tensor) -> Tensor:
        """Σ_y y P(y | …) as (s, K); a table that does not depend on a treatment is the same for all its levels."""
        axis = self.counts.axis[self.asked.outcome] + 1
        worth = self.counts.worth(self.asked.outcome, self.asked.event)
        wide = worth.reshape(-1, *(1,) * (table.ndim - axis - 1))
        return self.places(folded(table * wide, [axis])).flatten(1)

    def places(self, table: Tensor) -> Tensor:
        """(s, settings of all treatments): the axes of the treatments in their order, all others gone."""
        axes = [self.counts.axis[n] + 1 for n in self.asked.treatments]
        shape = list(table.shape)
        for n, axis in zip(self.asked.treatments, axes, strict=True):
            shape[axis] = len(self.counts.levels[self.counts.axis[n]])
        wide = table.expand(shape)
        rest = [a for a in range(1, table.ndim) if a not in axes]
        return wide.permute(0, *axes, *rest).reshape(table.shape[0], -1)

    def at(self, table: Tensor, setting: int) -> Tensor:
        """The part of a table with the treatments at one setting, their axes kept."""
        sizes = [len(self.counts.levels[self.counts.axis[n]]) for n in self.asked.treatments]
        for n, size in reversed(list(zip(self.asked.treatments, sizes, strict=True))):
            table = table.narrow(self.counts.axis[n] + 1, setting % size, 1)
            setting //= size
        return table


def done(
    estimand: Estimand | None, asked: Asked, joint: Tensor, names: Sequence[str], given: Sequence[str] = ()
) -> Tensor:
    """P(outcome | do(treatments), given), by the estimand's formula or by the adjustment that was declared."""
    if estimand is not None:
        return estimand.evaluate(joint, names)
    return evaluate(adjusted(asked, given), joint, names)


def adjusted(asked: Asked, given: Sequence[str] = ()) -> Expression:
    """Σ_z P(y | t, z) P(z), for the declared z."""
    z = [n for n in asked.adjust if n not in given]
    inner = probability([asked.outcome], [*asked.treatments, *z, *given])
    return total(z, product(inner, probability(z, given))) if z else inner
