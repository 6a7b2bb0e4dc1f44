"""Draws of the posterior itself, by Hamiltonian Monte Carlo: the yardstick for small networks, and often the answer.

The mass of a posterior lies where there is much room, not at its modes. Networks that have climbed half-way there are
nearer to it than modes are, and many short chains from them, all in one batch, reach it within a dozen trajectories
(`benchmarks/results/yardstick.md`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from kokkiri.errors import Unsupported, UsageError
from kokkiri.herd import Herd, herd
from kokkiri.numerics import diagnostics, hamiltonian
from kokkiri.optimizers import Adam, Cosine
from kokkiri.posteriors.density import Density, log_density
from kokkiri.posteriors.evidence import hyper_of
from kokkiri.posteriors.members import member_seeds
from kokkiri.posteriors.recipe import Approximation, Run, Trained, even
from kokkiri.records import Status
from kokkiri.training.flat import flatten, layout
from kokkiri.training.loop import threads, with_likelihood
from kokkiri.training.plan import Plan
from kokkiri.types import Params

MOST_PARAMETERS = 20_000
MOST_SECONDS = 1.0  # of one gradient of all chains
TRIED = 1000  # rows that it is judged by
RATE = 0.05  # of the climb
DRIFTS = 4.0  # standard errors between the halves of the chains
MIXES = 1.05  # R-hat, where chains are long enough to be asked for it
LONG = 50  # draws


@dataclass(frozen=True)
class Hamiltonian:
    """p(θ | D) by `chains` x `draws` equally weighted draws.

    climb: steps of Adam on all rows that each chain begins with. warm_up: trajectories that are thrown away, in which
    the step is found; from 60 on also the scale of every parameter and the length of a trajectory. draws: trajectories
    that are kept, of each chain. acceptance: what the step is tuned to; higher is slower and safer.

    The default, many short chains, is for predictions; for moments of the parameters themselves take fewer and longer
    ones, Hamiltonian(chains=8, draws=1000, warm_up=500). All rows are trained on, and the prior alone regularises.
    Refused for more than 20,000 parameters, and where one gradient of all chains takes more than a second.

    >>> Hamiltonian(chains=8, draws=1000, warm_up=500)
    Hamiltonian(chains=8, draws=1000, warm_up=500, climb=50, acceptance=0.8)
    """

    chains: int = 64
    draws: int = 8
    warm_up: int = 16
    climb: int = 50
    acceptance: float = 0.8

    def __post_init__(self) -> None:
        """Refuses what is no chain."""
        for name in ("chains", "draws", "warm_up", "climb"):
            if (value := getattr(self, name)) < 1:
                raise UsageError(
                    f"Hamiltonian({name}={value})", needs="a whole number of at least 1", found=str(value),
                    fix="Hamiltonian()",
                )  # fmt: skip
        if not 0 < self.acceptance < 1:
            raise UsageError(
                f"Hamiltonian(acceptance={self.acceptance})", needs="a probability within (0, 1)",
                found=str(self.acceptance), fix="acceptance=0.8",
            )  # fmt: skip

    @property
    def size(self) -> int:
        """Networks that climb: one for each chain."""
        return self.chains

    @property
    def folds(self) -> int:
        """None: all rows are trained on."""
        return 0

    @property
    def stops(self) -> bool:
        """Nothing stops the climb."""
        return False

    def herd(self, make: nn.Module | Callable[[], nn.Module], *, seed: int) -> Herd:
        """A replica for each chain, each from weights of its own."""
        return herd(make, seed=member_seeds(seed, self.chains))

    def prepare(self, run: Run) -> Run:
        """A short climb with all rows. Raises Unsupported for what is too large to be sampled so."""
        size = layout(with_likelihood(run.herd, run.likelihood).params).size
        if size > MOST_PARAMETERS:
            raise Unsupported(
                "the network is too large for Hamiltonian Monte Carlo", needs=f"at most {MOST_PARAMETERS:,} parameters",
                found=f"{size:,}", fix="kk.Laplace(), or kk.Langevin(), which takes batches",
            )  # fmt: skip
        refuse_coupled(run.herd, "Hamiltonian")
        tried = min(len(run.data), TRIED)
        density, start = _target(with_likelihood(run.herd, run.likelihood), run, tried)
        with threads(self._plan(run), run.herd):
            clock = time.process_time()
            density.gradient(start)
            seconds = (time.process_time() - clock) * len(run.data) / tried
        if seconds > MOST_SECONDS:
            raise Unsupported(
                f"Hamiltonian Monte Carlo over {len(run.data):,} rows takes too long",
                needs=f"a gradient of all {self.chains} chains within {MOST_SECONDS:.0f} s", found=f"{seconds:.1f} s",
                fix="fewer chains, fewer rows, or kk.Langevin(), which takes batches",
            )  # fmt: skip
        plan = replace(run.plan, steps=self.climb, batch=None, schedule=Cosine(end=0.05), patience=None, every=None)
        return replace(run, optimizer=Adam(lr=RATE, beta2=0.99), plan=plan)

    def _plan(self, run: Run) -> Plan:
        """What decides on threads: a batch is what one gradient takes."""
        return replace(run.plan, batch=self.chains * len(run.data))

    def finish(self, trained: Trained) -> Approximation:
        """The draws, and whether they can be trusted. Without a finite start there are none: points, DIVERGED."""
        density, start = _target(trained.herd, trained.run)
        sound = torch.isfinite(density(start)[0]) & torch.isfinite(start).all(1)
        if not bool(sound.any()):
            return Approximation(trained.herd, even(len(start)), status=Status.DIVERGED, exact="points: no chain began")
        rows = sound.nonzero()[:, 0]
        start = start[rows[torch.arange(len(start)) % len(rows)]]  # a chain without a start takes another's
        with threads(self._plan(trained.run), trained.herd):
            chains = hamiltonian.sample(
                density, start, draws=self.draws, warm_up=self.warm_up, seed=trained.run.plan.seed,
                acceptance=self.acceptance,
            )  # fmt: skip
        facts = _facts(chains)
        notes = _warnings(facts, chains, self)
        if len(rows) < len(start):
            notes += (
                f"{len(start) - len(rows)} of {len(start)} climbs diverged; their chains began where others ended",
            )
        kept = draws_of(trained.herd, chains.draws.flatten(0, 1))
        return Approximation(
            kept, even(len(kept)), notes=notes, facts=facts,
            exact=f"draws of the posterior: {self.chains} chains of {self.draws} by Hamiltonian Monte Carlo, "
            f"acceptance {chains.acceptance:.2f}, {chains.gradients:,} gradients; exact in the limit of long chains",
        )  # fmt: skip


def refuse_coupled(models: Herd, name: str) -> None:
    """Raises Unsupported for networks whose buffers move while they are trained: their density is no function of θ."""
    moved = [n for n in models.buffers if "running" in n or "num_batches" in n]
    if moved:
        raise Unsupported(
            f"{name} cannot sample a network whose rows feel one another", needs="a density that is a function of θ",
            found=f"running statistics: {', '.join(moved[:3])}", fix="norm=True of kk.networks.MLP, or LayerNorm",
        )  # fmt: skip


def draws_of(models: Herd, theta: Tensor) -> Herd:
    """(S, P) parameter vectors as a herd with the one axis "draw"."""
    where = layout(models.params)
    some = next(iter(models.params.values()))
    params = {n: t.to(some).contiguous() for n, t in where.views(theta).items()}
    buffers = {n: t[:1].expand(len(theta), *t.shape[1:]) for n, t in models.buffers.items()}
    return replace(models, params=params, buffers=buffers, axes={"draw": len(theta)}, weight=None, hyper={})


def shared_buffers(models: Herd, *, double: bool = True) -> Params:
    """Buffers and frozen parameters of one model, in float64 where they are floating and that is wanted."""
    return {n: t[0].double() if double and t.is_floating_point() else t[0] for n, t in models.buffers.items()}


def _target(models: Herd, run: Run, rows: int | None = None) -> tuple[Density, Tensor]:
    """The log joint of all rows, or the first few, in float64, and where the chains stand (R, P)."""
    x, y = run.data.batch(torch.arange(rows or len(run.data)))
    x = x.double() if isinstance(x, Tensor) and x.is_floating_point() else x
    where = layout(models.params)
    density = log_density(
        models.module().double(), where, run.likelihood, run.prior, x, y, buffers=shared_buffers(models),
        hyper=hyper_of(models, run.prior, 0),
    )  # fmt: skip
    return density, flatten(models.params, where).double()


def _facts(chains: hamiltonian.Chains) -> dict[str, Any]:
    """What tells whether to trust them. drift: of log p from the first half of the draws to the second, in its SEs."""
    before, after = (half.mean(1) for half in chains.log_density.tensor_split(2, dim=1))
    moved = after - before  # of chains that know nothing of one another; NaN where there is but one draw or chain
    drift = float(moved.mean() / (moved.std() / math.sqrt(len(moved)))) if len(moved) > 1 else math.nan
    found: dict[str, Any] = {
        "acceptance": chains.acceptance, "step": chains.step, "length": chains.length,
        "divergences": chains.divergences, "gradients": chains.gradients, "drift": drift,
    }  # fmt: skip
    if chains.draws.shape[1] >= LONG:
        found["r_hat"] = float(diagnostics.r_hat(chains.log_density))
        found["effective"] = float(diagnostics.bulk_effective_sample_size(chains.log_density))
    return found


def _warnings(facts: dict[str, Any], chains: hamiltonian.Chains, recipe: Hamiltonian) -> tuple[str, ...]:
    notes = []
    if abs(facts["drift"]) > DRIFTS:
        notes.append(
            f"the chains still drift: log p moves by {facts['drift']:.1f} standard errors from their first half to "
            f"their second; raise warm_up from {recipe.warm_up}"
        )
    if facts.get("r_hat", 0.0) > MIXES:
        notes.append(f"the chains have not mixed: R-hat of log p is {facts['r_hat']:.2f}; raise draws and warm_up")
    if chains.divergences:
        notes.append(
            f"{chains.divergences} of {chains.draws.shape[0] * chains.draws.shape[1]} trajectories diverged; raise "
            f"acceptance from {recipe.acceptance:g}"
        )
    return tuple(notes)
