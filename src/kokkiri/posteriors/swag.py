"""A Gaussian over the way of the weights in the last part of training, at a learning rate that no longer falls."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from kokkiri.errors import Unsupported, UsageError
from kokkiri.herd import Herd, herd
from kokkiri.numerics.operators import Blocks, Inverse, LowRank
from kokkiri.posteriors.members import member_seeds
from kokkiri.posteriors.recipe import Approximation, Run, Trained, even
from kokkiri.training.flat import flatten, layout
from kokkiri.training.loop import Moment
from kokkiri.types import Schedule

LEAST = 1e-12  # of the largest variance: a weight that never moved must not make the covariance singular


@dataclass(frozen=True)
class Tail:
    """A schedule over the first 1 - share of the steps, where it falls not below `level`; then `level`.

    >>> from kokkiri.optimizers import Cosine, WarmUp
    >>> [round(Tail(WarmUp(0.5, Cosine()), 0.5, 0.3)(step, 8), 2) for step in range(8)]
    [0.5, 1.0, 1.0, 0.5, 0.3, 0.3, 0.3, 0.3]
    """

    schedule: Schedule
    share: float
    level: float

    def __call__(self, step: int, steps: int) -> float:
        """The factor at this step."""
        before = steps - round(self.share * steps)
        if step >= before:
            return self.level
        factor = self.schedule(step, before)
        rises = step + 1 < before and self.schedule(step + 1, before) > factor  # a warm-up is left as it is
        return factor if rises else max(self.level, factor)


class Moments:
    """Mean and variance of the weights (Welford 1962) and their last deviations from the running mean.

    Fed with moments of a run; it remembers, so that no snapshots need be kept.
    """

    def __init__(self, first: int, every: int, rank: int) -> None:
        self.first, self.every = first, every
        self.count = 0
        self.mean = self.square = torch.zeros(0, dtype=torch.float64)  # (R, P)
        self.deviations: deque[Tensor] = deque(maxlen=rank)  # (R, P) each

    def __call__(self, moment: Moment) -> None:
        """Takes the weights, where they are due."""
        if moment.step < self.first or moment.step % self.every or moment.done:
            return
        models = moment.herd
        self.add(flatten(models.params, layout(models.params)).double())

    def add(self, weights: Tensor) -> None:
        """One more snapshot, (R, P)."""
        if not self.count:
            self.mean, self.square = torch.zeros_like(weights), torch.zeros_like(weights)
        self.count += 1
        before = weights - self.mean
        self.mean = self.mean + before / self.count
        self.square = self.square + before * (weights - self.mean)
        self.deviations.append((weights - self.mean).float())


@dataclass(frozen=True)
class SWAG:
    """N(θ̄, ½ diag(s²) + D Dᵀ / (2 (K - 1))): mean θ̄, variances s² and last K deviations D of the weights in the tail.

    Source: Maddox et al. 2019, "A simple baseline for Bayesian uncertainty in deep learning", algorithm 1 and eq. 1;
    deviations are from the running mean, as there. In the last `share` of the steps the learning rate is `level` times
    the optimizer's, and 2 `rank` snapshots are taken. rank: K. size: how many such Gaussians, from starts of their own
    (Wilson & Izmailov 2020, "Bayesian deep learning and a probabilistic perspective of generalization", section 4).

    How wide it is depends on the learning rate more than on the data: it describes the way, not the posterior, and has
    no evidence. All rows are trained on. Networks with batch normalisation are refused: each draw would need statistics
    of its own.

    >>> import kokkiri as kk
    >>> data = kk.read("breast-cancer")
    >>> net = kk.networks.MLP(data.inputs, [8], 1)
    >>> post = kk.fit(data, net, kk.Bernoulli(), posterior=SWAG(rank=5), steps=200, progress=False)
    >>> kk.predict(post, data).epistemic.shape
    torch.Size([569, 2])
    """

    rank: int = 20
    share: float = 0.25
    level: float = 1.0
    size: int = 1

    def __post_init__(self) -> None:
        """Refuses what means nothing."""
        for name, holds, needs in (
            ("rank", self.rank >= 2, "a whole number of at least 2"),
            ("share", 0 < self.share <= 1, "a share of the steps in (0, 1]"),
            ("level", self.level > 0, "a factor above 0"),
            ("size", self.size >= 1, "a whole number of at least 1"),
        ):
            if not holds:
                found = str(getattr(self, name))
                raise UsageError(f"SWAG({name}={found})", needs=needs, found=found, fix="SWAG()")

    @property
    def folds(self) -> int:
        """None: all rows are trained on."""
        return 0

    @property
    def stops(self) -> bool:
        """Nothing stops the training."""
        return False

    def herd(self, make: nn.Module | Callable[[], nn.Module], *, seed: int) -> Herd:
        """`size` replicas; a single one keeps the weights of a network that is handed in.

        Raises Unsupported for networks with batch normalisation.
        """
        lone = self.size == 1 and isinstance(make, nn.Module)
        models = herd(make) if lone else herd(make, seed=member_seeds(seed, self.size))
        normalised = [name for name, m in models.network.named_modules() if "BatchNorm" in type(m).__name__]
        if normalised:
            raise Unsupported(
                "SWAG draws weights that no batch statistics belong to", needs="a network without batch normalisation",
                found=f"{len(normalised)} such modules: {', '.join(normalised[:3])}",
                fix="nn.LayerNorm or nn.GroupNorm in its place, or kk.Ensemble()",
            )  # fmt: skip
        return models

    def prepare(self, run: Run) -> Run:
        """A tail of constant learning rate, and what takes snapshots of it."""
        plan = run.plan
        tail = round(self.share * plan.steps)
        every = max(1, tail // (2 * self.rank))
        schedule = Tail(plan.schedule, self.share, self.level)
        keep = Moments(plan.steps - tail + 1, every, self.rank)
        return replace(run, plan=replace(plan, schedule=schedule, every=every), keep=keep)

    def finish(self, trained: Trained) -> Approximation:
        """The Gaussians; a run that ended before its tail leaves points."""
        models, seen = trained.herd, trained.run.keep
        assert isinstance(seen, Moments)
        if seen.count < 2:
            note = "the run ended before the tail that SWAG looks at: the weights are points"
            return Approximation(models, even(len(models)), exact="points: no snapshots", notes=(note,))
        where = layout(models.params)
        some = next(iter(models.params.values()))
        params = {name: t.to(some.dtype).clone() for name, t in where.views(seen.mean).items()}
        deviations = torch.stack(tuple(seen.deviations), 1)  # (R, K, P)
        variance = seen.square / seen.count
        k, blocks = deviations.shape[1], []
        for r in range(len(models)):
            rest = (variance[r] / 2).clamp(min=max(float(variance[r].amax()) * LEAST, 1e-30))
            values = torch.full((k,), 1 / (2 * (k - 1)), dtype=torch.float64)
            covariance = LowRank(deviations[r].mT.double(), values, rest)
            blocks.append(Blocks(where.size, ((torch.arange(where.size), Inverse(covariance)),)))
        many = "the Gaussian" if len(blocks) == 1 else f"{len(blocks)} Gaussians"
        return Approximation(
            replace(models, params=params), even(len(models)), tuple(blocks), linear=False,
            exact=f"approximate: {many} over {seen.count} snapshots of the weights, rank {k}",
        )  # fmt: skip
