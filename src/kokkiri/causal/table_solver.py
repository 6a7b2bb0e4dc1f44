"""Refuters of effects from tables of counts: any identified formula, on the table of each replicate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from kokkiri.causal.asked import Asked
from kokkiri.causal.counts import Counts
from kokkiri.causal.graph import Graph
from kokkiri.causal.identify import identify
from kokkiri.causal.replicates import Table
from kokkiri.causal.solvers import how_many, in_parts
from kokkiri.causal.table_effects import Evaluator
from kokkiri.numerics.heads import Replicates
from kokkiri.numerics.one_step import Estimates

NOISE = "noise that a refuter adds"


@dataclass(frozen=True, eq=False)
class TableSolver:
    """Any identified formula on tables of counts: the posterior mean table of each replicate, and by the delta method
    the posterior standard deviation of its effect.

    codes: (v, n) numbers of levels of each row; treatments, outcome: places of the variables among them.
    with_noise: the same question with one more cause of treatment and outcome, which is adjusted for.
    """

    asked: Asked
    counts: Counts
    level: int
    versus: int
    codes: Tensor
    with_noise: tuple[Asked, Counts]

    def __call__(self, given: Replicates) -> Estimates:
        """Effects of the replicates."""
        return in_parts(self._few, given, max(self.codes.shape[1], 2 * self.counts.size))

    def _few(self, given: Replicates) -> Estimates:
        asked, counts = (self.asked, self.counts) if given.extra is None else self.with_noise
        R, n = how_many(given), self.codes.shape[1]
        index = torch.zeros(1, n, dtype=torch.int64)
        parts_of_t = self._treatments(given.treatment.long())
        for i, name in enumerate(self.counts.names):
            own = self.codes[i].unsqueeze(0)
            if name in self.asked.treatments:
                own = parts_of_t[name]
            elif name == self.asked.outcome:
                own = given.outcome.long()  # numbers of levels
            index = index * len(self.counts.levels[i]) + own
        if given.extra is not None:
            index = index * 2 + given.extra.long()
        cells = torch.zeros(R, counts.size, dtype=torch.float64)
        cells.scatter_add_(1, index.expand(R, n), given.weight.double().expand(R, n))
        prior = self.asked.prior * self.counts.size / counts.size
        total = cells.sum(1, keepdim=True) + prior * counts.size
        joint = ((cells + prior) / total).reshape(R, *counts.cells.shape).requires_grad_()
        means = Evaluator(asked, counts, self.level, self.versus).done(joint)
        effect = means[:, self.level] - means[:, self.versus]
        (slope,) = torch.autograd.grad(effect.sum(), joint)
        p, g = joint.detach().flatten(1), slope.flatten(1)
        variance = ((p * g.square()).sum(1) - (p * g).sum(1).square()) / (total.squeeze(1) + 1)
        return Estimates(effect.detach(), variance.clamp(min=0.0).sqrt())

    def _treatments(self, joint: Tensor) -> dict[str, Tensor]:
        """Numbers of levels of each treatment from those of their combinations."""
        found = {}
        for name in reversed(self.asked.treatments):
            size = len(self.counts.levels[self.counts.axis[name]])
            found[name], joint = joint % size, joint // size
        return found

    def rows(self) -> Table:
        """What replicates are made of: numbers of combinations of treatments, and of levels of the outcome.

        What is expected is the mean of the rows that are alike in what is adjusted for, all treatments as they occur.
        """
        t = self._number(self.asked.treatments)
        y = self.codes[self.counts.axis[self.asked.outcome]]
        worth = self.counts.worth(self.asked.outcome, self.asked.event)[y]
        adjusted = self.asked.adjust if self.asked.estimand is None else self.asked.estimand.adjustment
        expected, predicted = _means(t, worth, self._number(adjusted))
        return Table(t, y, torch.ones_like(worth), expected, predicted, coins=True)

    def _number(self, names: Sequence[str]) -> Tensor:
        """(n,) of the combination of some variables' levels."""
        found = torch.zeros_like(self.codes[0])
        for name in names:
            found = found * len(self.counts.levels[self.counts.axis[name]]) + self.codes[self.counts.axis[name]]
        return found


def _means(t: Tensor, y: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
    """(n,) means of y among the rows of a cell: Σ_k P(k) E[Y | k, cell], and that of the row's own k. Half a row with
    the mean of the cell stands in each.
    """
    _, place = cell.unique(return_inverse=True)
    size = int(t.max()) + 1, int(place.max()) + 1
    count = torch.zeros(size, dtype=torch.float64).index_put_((t, place), torch.ones_like(y), accumulate=True)
    total = torch.zeros(size, dtype=torch.float64).index_put_((t, place), y, accumulate=True)
    mean = (total + 0.5 * total.sum(0) / count.sum(0)) / (count + 0.5)
    return ((count.sum(1) / len(t)) @ mean)[place], mean[t, place]


def table_solver(asked: Asked, counts: Counts, level: int, versus: int) -> TableSolver:
    """From the question and the counts of an effect."""
    names = counts.names
    rows = counts.expanded()
    noisy_counts = Counts((*names, NOISE), (*counts.levels, ("0", "1")), torch.stack([counts.cells / 2] * 2, -1))
    return TableSolver(
        asked, counts, level, versus, torch.stack([rows[n] for n in names]), (with_cause(asked), noisy_counts)
    )


def with_cause(asked: Asked) -> Asked:
    """The same question where one more variable, seen, acts on treatments and outcome."""
    if asked.estimand is None:
        return replace(asked, adjust=(*asked.adjust, NOISE))
    old = asked.estimand.graph
    arrows: Sequence[tuple[str, str]] = [(NOISE, name) for name in (*asked.treatments, asked.outcome)]
    graph = Graph((*old.nodes, NOISE), (*old.directed, *arrows), old.bidirected, old.latent)
    if asked.estimand.kind == "back-door":
        adjust = (*asked.estimand.adjustment, NOISE)
        found = identify(graph, asked.treatments, asked.outcome, asked.estimand.given, adjust=adjust)
    else:
        found = identify(graph, asked.treatments, asked.outcome, asked.estimand.given)
    return replace(asked, estimand=found)
