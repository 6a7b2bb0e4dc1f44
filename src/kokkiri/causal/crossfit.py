"""Cross-fitting as one herd: every fold, repetition and replicate is a replica that differs in its rows' weights.

A set is one complete cross-fit: its own cut of the rows into folds, its own initial weights, its own weights of rows.
Sets whose rows count once are averaged; sets whose rows have Dirichlet weights are replicates of the whole procedure
(the weighted likelihood bootstrap of Newton & Raftery 1994), which tell how far it may be from the truth.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from kokkiri.data.core import Source
from kokkiri.data.splits import folds as cut
from kokkiri.herd import Herd, herd, sweep
from kokkiri.numerics.effects import dirichlet
from kokkiri.numerics.random import key
from kokkiri.optimizers import Adam, Cosine, WarmUp
from kokkiri.training.loop import train
from kokkiri.training.plan import Plan
from kokkiri.types import Batch, Likelihood, Prior

ROWS = 8192  # a forward pass


@dataclass(frozen=True, eq=False)
class Rows:
    """Inputs and targets as tensors, with what `train` asks of data."""

    x: Tensor
    y: Tensor
    source: ClassVar[Source] = Source("rows of a cross-fit")

    def __len__(self) -> int:
        return len(self.x)

    def batch(self, index: Tensor) -> Batch:
        """The rows at `index`."""
        return Batch(self.x[index], self.y[index])


class Sets(NamedTuple):
    """M complete cross-fits. fold: (M, n) which fold each row is in. weight: (M, n). whole: the first so many count
    every row once, and the others are replicates. starts: set m begins with the weights of set m
    modulo `starts`; 0 for weights of its own.
    """

    fold: Tensor
    weight: Tensor
    folds: int
    whole: int
    starts: int = 0

    def masks(self) -> Tensor:
        """(M F, n) weights of rows for the replica of each set and fold: zero in the fold."""
        out = self.fold[:, None, :] == torch.arange(self.folds)[None, :, None]
        return (self.weight[:, None, :] * ~out).flatten(0, 1)

    def part(self, start: int, stop: int) -> Sets:
        """Some of the sets."""
        whole = max(0, min(stop, self.whole) - start)
        return Sets(self.fold[start:stop], self.weight[start:stop], self.folds, whole, self.starts)

    def unseen(self, values: Tensor) -> Tensor:
        """(M, F, n, ...) what each replica says of all rows -> (M, n, ...), each row by the replica of its fold."""
        index = self.fold[:, None, :].reshape(len(self.fold), 1, -1, *[1] * (values.ndim - 3))
        return values.gather(1, index.expand(-1, 1, *values.shape[2:])).squeeze(1)


def sets_of(
    n: int, folds: int, whole: int, replicates: int, seed: int, *, strata: Tensor, weight: Tensor | None = None,
    groups: Tensor | None = None,
) -> Sets:  # fmt: skip
    """`whole` cross-fits of all rows and `replicates` under Dirichlet weights. strata: (n,) spread evenly over folds.

    groups: (n,) rows of one group are never in two folds.
    """
    many = whole + replicates
    cuts = [cut(n, folds, key(seed, "cross-fit", m) >> 1, y=strata if groups is None else None, groups=groups)
            for m in range(many)]  # fmt: skip
    own = torch.ones(n, dtype=torch.float64) if weight is None else weight / weight.mean()
    drawn = dirichlet(n, replicates, key(seed, "replicates") >> 1, weight) if replicates else own[None, :0]
    weights = torch.cat([own.expand(whole, n), drawn.reshape(replicates, n)])
    return Sets(torch.stack(cuts), weights.float(), folds, whole)


@dataclass(frozen=True)
class Learner:
    """How one kind of network is trained. make: outputs -> network. steps, batch, lr: of Adam, with a cosine.

    raw: whether it is given the inputs as they came, and not `networks.steep`.
    """

    name: str
    make: Callable[[int], nn.Module]
    prior: Prior
    steps: int = 500
    batch: int | None = None
    lr: float = 0.02
    raw: bool = False


class Fitted(NamedTuple):
    """herd: the replicas, set by set, in each fold by fold. outputs: (M, F, n, C) of every replica for every row."""

    herd: Herd
    outputs: Tensor


def crossfit(
    rows: Rows, sets: Sets, learner: Learner, likelihood: Likelihood, seed: int, targets: int = 1, first: int = 0
) -> Fitted:
    """Trains the replicas of all sets and folds as one herd. first: the number of the first set, for its weights."""
    many, folds = len(sets.fold), sets.folds
    outputs = likelihood.outputs(targets)
    place = [first + m for m in range(many)]
    seeds = [key(seed, "member", m % sets.starts if sets.starts else m) >> 1 for m in place]
    made = sweep(herd(lambda: learner.make(outputs), seed=seeds), fold=range(folds))
    made = replace(made, weight=sets.masks(), hyper={})
    trained = trained_herd(made, rows, learner, likelihood, seed)
    said = outputs_of(trained, rows.x)
    return Fitted(trained, said.unflatten(0, (many, folds)))


def trained_herd(made: Herd, rows: Rows, learner: Learner, likelihood: Likelihood, seed: int) -> Herd:
    """A herd after all its steps; no rows stop it, since those that could are the ones it must not have seen."""
    size = None if learner.batch is None else min(learner.batch, len(rows))
    plan = Plan(learner.steps, size, seed, WarmUp(0.02, Cosine()), every=learner.steps)
    last: Any = None
    for moment in train(made, rows, likelihood, Adam(lr=learner.lr), learner.prior, plan):
        last = moment
    return last.herd


def outputs_of(trained: Herd, x: Tensor) -> Tensor:
    """(R, n, C) of every replica for every row."""
    return torch.cat([trained(x[start : start + ROWS]) for start in range(0, len(x), ROWS)], 1)
