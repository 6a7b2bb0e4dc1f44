"""Draws of the posterior by Langevin dynamics on batches: for networks and data of any size."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from kokkiri.errors import UsageError
from kokkiri.herd import Herd, herd
from kokkiri.numerics import diagnostics, langevin
from kokkiri.numerics.random import generator, philox
from kokkiri.posteriors.density import Slopes, joint_slopes
from kokkiri.posteriors.evidence import hyper_of, prior_precision
from kokkiri.posteriors.hamiltonian import draws_of, refuse_coupled, shared_buffers
from kokkiri.posteriors.members import member_seeds
from kokkiri.posteriors.recipe import Approximation, Run, Trained, even
from kokkiri.records import Status
from kokkiri.training.flat import flatten, layout
from kokkiri.training.loop import threads

MOST_ROWS = 1024  # of a batch, unless more are asked for
UNSETTLED = 1.5  # R-hat between halves of a chain
LOOKS = 16  # batches from which the noise of gradients is learnt
STUCK = 0.5  # variance within chains as a share of that of all draws, below which they have not moved
SLOWEST = 0.1  # of the longest step, at the end of a cycle


@dataclass(frozen=True)
class Langevin:
    """p(θ | D) by at least `draws` equally weighted draws.

    chains: networks that are trained, and walk on from where they stand. cycles: the step begins long, so that a chain
    may leave where it was, and shortens by a cosine; draws are taken in the second half (Zhang et al. 2020, "Cyclical
    stochastic gradient MCMC", eq. 1). steps: of each chain, over all cycles. batch: rows a gradient; None: all, at most
    1024. step: the longest one, as a share of the longest stable one; shorter where batches are too noisy for it.

    Scales are those of the diagonal Fisher information and the prior, measured anew for each cycle (a preconditioner as
    in Li et al. 2016, from the Fisher information itself in place of its root), and the noise of the batches' gradients
    is measured and counted (`numerics.langevin`). All rows are trained on, and the prior alone regularises.

    >>> Langevin(draws=64, chains=4)
    Langevin(draws=64, chains=4, cycles=4, steps=4000, batch=None, step=0.5)
    """

    draws: int = 128
    chains: int = 8
    cycles: int = 4
    steps: int = 4000
    batch: int | None = None
    step: float = 0.5

    def __post_init__(self) -> None:
        """Refuses what cannot walk."""
        for name in ("draws", "chains", "cycles", "steps", "batch"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise UsageError(
                    f"Langevin({name}={value})", needs="a whole number of at least 1", found=str(value),
                    fix="Langevin()",
                )  # fmt: skip
        if not 0 < self.step < 1:
            raise UsageError(
                f"Langevin(step={self.step})", needs="a share of the longest stable step, within (0, 1)",
                found=str(self.step), fix="step=0.5",
            )  # fmt: skip
        if self.steps // self.cycles < 2 * self.kept:
            raise UsageError(
                f"Langevin(steps={self.steps})", needs=f"at least {2 * self.kept * self.cycles} for {self.draws} draws",
                found=str(self.steps), fix=f"steps={100 * self.kept * self.cycles}",
            )  # fmt: skip

    @property
    def kept(self) -> int:
        """Draws of a chain in a cycle."""
        return math.ceil(self.draws / (self.chains * self.cycles))

    @property
    def size(self) -> int:
        """Networks that are trained: one for each chain."""
        return self.chains

    @property
    def folds(self) -> int:
        """None: all rows are trained on."""
        return 0

    @property
    def stops(self) -> bool:
        """Nothing stops the training."""
        return False

    def herd(self, make: nn.Module | Callable[[], nn.Module], *, seed: int) -> Herd:
        """A replica for each chain, each from weights of its own."""
        return herd(make, seed=member_seeds(seed, self.chains))

    def prepare(self, run: Run) -> Run:
        """As it is. Raises Unsupported for networks whose rows feel one another."""
        refuse_coupled(run.herd, "Langevin")
        return run

    def finish(self, trained: Trained) -> Approximation:
        """The draws. A chain that leaves the numbers ends the walk: points, DIVERGED."""
        models, run = trained.herd, trained.run
        where = layout(models.params)
        slopes = joint_slopes(
            models.module(), where, run.likelihood, run.prior, buffers=shared_buffers(models, double=False),
            hyper=hyper_of(models, run.prior, 0),
        )  # fmt: skip
        rows = min(len(run.data), self.batch or MOST_ROWS)
        feed = _Feed(slopes, run.data, rows, run.plan.seed)
        precision = prior_precision(models, run.prior, 0).clamp(min=0.0)
        walk = langevin.Walk(flatten(models.params, where), torch.zeros_like(flatten(models.params, where)))
        kept, facts = [], {"step": [], "noise share": []}
        for cycle in range(self.cycles):
            with threads(replace(run.plan, batch=self.chains * rows), models):
                walk, some, told = self._cycle(walk, feed, precision.to(walk.theta), cycle)
            kept += some
            for name, value in told.items():
                facts[name].append(value)
            if not bool(torch.isfinite(walk.theta).all()):
                return Approximation(
                    models, even(len(models)), status=Status.DIVERGED, exact="points: the walk diverged"
                )
        draws = torch.stack(kept, 1)
        share, settled = _moved(draws), _settled(draws)
        facts = {**facts, "gradients": self.chains * self.steps, "moved": share, "settled": settled}
        found, more = draws_of(models, draws.flatten(0, 1)), f"raise steps from {self.steps}"
        notes = []
        if share < STUCK:
            notes.append(f"chains stay apart: the variance within them is {share:.2f} of that of all draws; {more}")
        if settled > UNSETTLED:
            notes.append(f"chains still drift: R-hat between their halves is {settled:.1f}; {more}, or the batch")
        return Approximation(
            found, even(len(found)), notes=tuple(notes), facts=facts,
            exact=f"draws of the posterior: {self.chains} chains of {draws.shape[1]} by Langevin dynamics on batches "
            f"of {rows} rows; exact in the limit of short steps and long chains",
        )  # fmt: skip

    def _cycle(
        self, walk: langevin.Walk, feed: _Feed, precision: Tensor, cycle: int
    ) -> tuple[langevin.Walk, list[Tensor], dict[str, float]]:
        """One cycle: measured, then walked; gives where it ends, the draws (R, P) it took, and what it measured."""
        steps = self.steps // self.cycles
        variance, fisher = feed.noise(walk.theta, cycle)
        scale = (fisher + precision).clamp(min=1e-12).rsqrt()
        normal = lambda k: torch.randn(
            walk.theta.shape, generator=generator(feed.seed, "langevin", cycle, k), dtype=walk.theta.dtype
        ).to(walk.theta.device)
        curvature = langevin.largest_curvature(feed.large(cycle), walk.theta, scale, normal(steps))
        longest = langevin.longest_step(curvature, scale, variance, self.step)
        slow = float((precision * scale**2).median().sqrt())  # how fast what only the prior holds would swing
        friction = max(slow, 4 / (longest * steps))
        taken = {steps - 1 - round(i * (steps // 2) / self.kept) for i in range(self.kept)}
        walk, kept = langevin.Walk(walk.theta, normal(steps + 1)), []
        for k in range(steps):
            length = longest * (SLOWEST + (1 - SLOWEST) * math.cos(0.5 * math.pi * k / steps) ** 2)
            by = langevin.pace(length, friction, scale, variance)
            walk = langevin.advance(walk, feed.slope(cycle, k), by, normal(k))
            if k in taken:
                kept.append(walk.theta)
        share = float((0.25 * longest**2 * scale**2 * variance).mean())
        return walk, kept, {"step": longest, "noise share": share}


class _Feed(NamedTuple):
    """Gradients of the log joint from batches that are drawn anew, each a function of (seed, cycle, step)."""

    slopes: Slopes
    data: Any
    rows: int
    seed: int

    def slope(self, cycle: int, step: int) -> Callable[[Tensor], Tensor]:
        """From one batch, all chains the same."""
        n = len(self.data)
        whole = torch.arange(n)
        index = whole if self.rows == n else torch.from_numpy(
            philox(self.seed, "langevin batch", cycle, step).choice(n, self.rows, replace=False)
        )  # fmt: skip
        x, y = self.data.batch(index)
        return lambda theta: self.slopes(theta, x.to(theta) if x.is_floating_point() else x, y, n / self.rows)[1]

    def large(self, cycle: int) -> Callable[[Tensor], Tensor]:
        """From eight batches' worth of rows."""
        return self._replace(rows=min(len(self.data), 8 * self.rows)).slope(cycle, -1)

    def noise(self, theta: Tensor, cycle: int) -> tuple[Tensor, Tensor]:
        """The variance of a batch's gradient (P,), and the diagonal Fisher information of all rows (P,).

        From halves of batches: half their difference has the variance of their mean. Drawn without replacement, a batch
        of B of N rows has (N - B) / (N - 1) of that; rows times their own variance is the empirical Fisher information.
        """
        n, b = len(self.data), max(1, self.rows // 2)
        half = self._replace(rows=b)
        total = torch.zeros_like(theta[0])
        for k in range(LOOKS):
            one, two = (half.slope(cycle, -2 - 2 * k - i)(theta) for i in (0, 1))
            total += (0.5 * (one - two)).square().mean(0) / LOOKS
        own = 2 * b * total / n**2 * (n - 1) / max(n - b, 1)  # variance of one row's
        return n**2 * own / self.rows * (n - self.rows) / max(n - 1, 1), n * own


def _moved(draws: Tensor) -> float:
    """(R, S, P) -> the variance within chains as a share of that of all draws, the median over parameters."""
    if draws.shape[1] < 2:
        return math.nan
    whole = draws.flatten(0, 1).var(0).clamp(min=1e-30)
    return float((draws.var(1).mean(0) / whole).median())


def _settled(draws: Tensor) -> float:
    """(R, S, P) -> R-hat between the halves of each chain by itself: mean over chains, 90 % of parameters are below."""
    if draws.shape[1] < 2 * diagnostics.FEWEST_DRAWS:
        return math.nan
    each = torch.stack([diagnostics.r_hat(chain[None]) for chain in draws])
    return float(each.mean(0).sort().values[int(0.9 * (draws.shape[2] - 1))])
