"""The only training loop: an iterator that the user can drive.

    for moment in kk.train(herd, data, likelihood, optimizer, prior, plan):
        print(moment.step, moment.train, moment.held_out)
    trained = moment.herd

Between two moments the process may be killed at any instant: with `checkpoints` the same call goes on to the same bits.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from kokkiri.errors import ShapeError, Unsupported, UsageError
from kokkiri.herd import Herd
from kokkiri.networks.dense import program
from kokkiri.records import Curve
from kokkiri.training.beside import noise_table
from kokkiri.training.checkpoints import flatten_tree, last_checkpoint, refill_tree, save_checkpoint
from kokkiri.training.dense import Dense
from kokkiri.training.engines import Engine, Fleet, Job, Loop, Stack, blank_memory, lifts, tree_map
from kokkiri.training.feed import Feed
from kokkiri.training.flat import flatten, layout
from kokkiri.training.held_out import held_out_rows, score
from kokkiri.training.plan import Plan
from kokkiri.types import LIKELIHOOD_PREFIX, Likelihood, Optimizer, Prior, State

FLOP_A_SEGMENT = 1e10  # about a second of one core's work at the most between two looks at the clock
SECONDS_A_CHECKPOINT = 5.0


@dataclass(frozen=True)
class Moment:
    """A look at a run. train, held_out: (R,) nats per row; held_out is None between two looks at the held-out rows.

    herd: the models of the moment, or, where held-out rows decide, the best so far. running: replicas not yet stopped.
    """

    step: int
    steps: int
    train: Tensor
    held_out: Tensor | None
    running: int
    done: bool
    resumed: int  # the step that a checkpoint gave, 0 where the run began anew
    diverged: tuple[int, ...]
    curve: Callable[[], Curve] = field(repr=False)
    make_herd: Callable[[], Herd] = field(repr=False)
    make_memory: Callable[[], State] = field(repr=False)

    @property
    def herd(self) -> Herd:
        """The models, as a value of their own."""
        return self.make_herd()

    @property
    def memory(self) -> State:
        """The optimizer's state after the last step, (R, ...) each, as a value of its own."""
        return self.make_memory()


class Tuner(Protocol):
    """What moves hyperparameters of the prior while a run goes on, at steps `start`, `start + every`, …"""

    start: int
    every: int

    def __call__(self, herd: Herd) -> dict[str, Tensor]:
        """The herd, with its hyperparameters -> new values, (R,) each."""
        ...


@dataclass
class _Best:
    """The best weights of each replica on rows it has not been trained on."""

    flat: Tensor
    buffers: dict[str, Tensor]
    value: Tensor  # (R,)
    step: Tensor  # (R,)
    running: Tensor  # (R,) bool


def train(
    herd: Herd,
    data: Any,
    likelihood: Likelihood,
    optimizer: Optimizer,
    prior: Prior,
    plan: Plan,
    *,
    held_out: Any = None,
    engine: Engine | None = None,
    checkpoints: Path | None = None,
    checkpoint_seconds: float = SECONDS_A_CHECKPOINT,
    stop: Callable[[], bool] = lambda: False,
    tuner: Tuner | None = None,
) -> Iterator[Moment]:
    """Trains every replica of a herd, and yields moments; the last has `done`.

    held_out: data that no gradient sees; without it, where the herd has weights, each replica's rows of weight zero.
    checkpoints: a folder; the run goes on from what it holds, and adds to it every `checkpoint_seconds` at the soonest,
    and never so often that it costs more than a hundredth of the time, unless 0 is said. stop: asked between segments;
    True ends the run in order. tuner: moves hyperparameters of the prior between segments; `hyper` of a moment's herd
    holds their last values. Neither the herd nor the data nor any global random state is changed.
    """
    with threads(plan, herd):
        yield from _train(
            herd,
            data,
            likelihood,
            optimizer,
            prior,
            plan,
            held_out,
            engine,
            checkpoints,
            checkpoint_seconds,
            stop,
            tuner,
        )


def _train(
    herd: Herd,
    data: Any,
    likelihood: Likelihood,
    optimizer: Optimizer,
    prior: Prior,
    plan: Plan,
    held_out: Any,
    engine: Engine | None,
    checkpoints: Path | None,
    checkpoint_seconds: float,
    stop: Callable[[], bool],
    tuner: Tuner | None,
) -> Iterator[Moment]:
    herd = with_likelihood(herd, likelihood)
    feed = Feed(data, plan)
    held = held_out_rows(held_out, data, herd.weight, plan)
    job = _job(herd, likelihood, optimizer, prior, plan, feed)
    engine = engine or choose_engine(herd, feed, optimizer)[0]
    every = plan.every or max(feed.per_epoch, 20)
    segment = max(1, min(every, int(FLOP_A_SEGMENT / (6 * job.where.size * feed.size * len(herd) + 1)) or 1))

    start = flatten(herd.params, job.where).to(job.device)
    own = {n: t.clone().to(job.device) for n, t in herd.buffers.items()}
    fleet = Fleet(start, own, blank_memory(job, start))
    r = len(herd)
    best = _Best(
        fleet.flat.clone(), tree_map(torch.clone, fleet.buffers), torch.full((r,), -math.inf, dtype=torch.float64),
        torch.zeros(r, dtype=torch.int64), torch.ones(r, dtype=torch.bool),
    )  # fmt: skip
    looks: list[tuple[int, Tensor, Tensor | None]] = []
    sums, counted = torch.zeros(r, dtype=torch.float64), torch.zeros(r, dtype=torch.float64)
    diverged: set[int] = set()
    extra = () if tuner is None else (tuner,)
    mark = fingerprint(herd, data, likelihood, optimizer, prior, plan, engine, *extra) if checkpoints else ""
    resumed = 0
    if checkpoints is not None and (kept := last_checkpoint(checkpoints, mark)) is not None:
        tensors, facts = kept
        fleet.flat, fleet.step = tensors["flat"].to(job.device), facts["step"]
        fleet.buffers = refill_tree(fleet.buffers, "buffers", tensors)
        fleet.memory = refill_tree(fleet.memory, "memory", tensors)
        best.flat, best.buffers = tensors["best"].to(job.device), refill_tree(best.buffers, "best buffers", tensors)
        best.value, best.step, best.running = (tensors[f"best {n}"] for n in ("value", "step", "running"))
        train_rows, held_rows = tensors["curve train"], tensors.get("curve held out")
        looks = [
            (s, train_rows[k], held_rows[k] if held_rows is not None else None) for k, s in enumerate(facts["looks"])
        ]
        sums, counted, diverged = tensors["sums"], tensors["counted"], set(facts["diverged"])
        job = replace(job, hyper=refill_tree(job.hyper, "hyper", tensors)) if tuner is not None else job
        resumed = fleet.step

    def make_herd() -> Herd:
        keep_best = held is not None and plan.patience is not None
        flat = (
            (torch.where((best.step > 0)[:, None].to(job.device), best.flat, fleet.flat)) if keep_best else fleet.flat
        )
        buffers = best.buffers if keep_best else fleet.buffers
        params = {n: t.clone().cpu() for n, t in job.where.views(flat).items()}
        hyper = herd.hyper if tuner is None else {n: t.clone().cpu() for n, t in job.hyper.items()}
        return replace(herd, params=params, buffers={n: t.clone().cpu() for n, t in buffers.items()}, hyper=hyper)

    def curve() -> Curve:
        rows = lambda k: tuple(zip(*[look[k].tolist() for look in looks], strict=True)) if looks else ()
        return Curve(
            tuple(s for s, _, _ in looks), rows(1), rows(2) if held is not None else (), tuple(best.step.tolist())
        )

    def checkpoint() -> None:
        if checkpoints is None:
            return
        tensors = {
            "flat": fleet.flat, "best": best.flat, "best value": best.value, "best step": best.step,
            "best running": best.running, "sums": sums, "counted": counted, **flatten_tree(fleet.memory, "memory"),
            **flatten_tree(fleet.buffers, "buffers"), **flatten_tree(best.buffers, "best buffers"),
            "curve train": torch.stack([t for _, t, _ in looks]) if looks else torch.zeros(0, r),
            **(flatten_tree(job.hyper, "hyper") if tuner is not None else {}),
        }  # fmt: skip
        if held is not None and looks:
            tensors["curve held out"] = torch.stack([h for _, _, h in looks if h is not None])
        facts = {
            "fingerprint": mark, "step": fleet.step, "looks": [s for s, _, _ in looks],
            "diverged": sorted(diverged),
        }  # fmt: skip
        save_checkpoint(checkpoints, fleet.step, tensors, facts)

    def train_now() -> Tensor:
        """Of the steps since the last look; a replica that has stopped keeps what it had."""
        before = looks[-1][1] if looks else torch.zeros(r, dtype=torch.float64)
        return torch.where(counted > 0, sums / counted.clamp(min=1), before)

    def moment(held_now: Tensor | None, *, done: bool) -> Moment:
        running = int(best.running.sum())
        return Moment(
            fleet.step,
            plan.steps,
            train_now(),
            held_now,
            running,
            done,
            resumed,
            tuple(sorted(diverged)),
            curve,
            make_herd,
            lambda: tree_map(lambda t: t.clone().cpu(), fleet.memory),
        )

    saved, cost = time.monotonic(), 0.0
    while fleet.step < plan.steps and bool(best.running.any()) and not stop():
        replicas = best.running.nonzero()[:, 0].tolist()
        ahead = min(segment, every - fleet.step % every, plan.steps - fleet.step)
        if tuner is not None:
            due = tuner.start + max(0, -(-(fleet.step - tuner.start) // tuner.every)) * tuner.every
            if fleet.step == due and fleet.step:
                new = {n: t.to(job.device, torch.float64) for n, t in tuner(make_herd()).items()}
                job = replace(job, hyper={**job.hyper, **new})
                due += tuner.every
            ahead = min(ahead, max(1, due - fleet.step))
        before = fleet.flat.clone()
        said = engine.advance(job, fleet, replicas, ahead)
        fleet.step += ahead
        sums += said * ahead
        counted[replicas] += ahead
        for i in replicas:
            if not (math.isfinite(said[i]) and bool(fleet.flat[i].isfinite().all())):
                fleet.flat[i] = before[i]  # the last finite weights, so that what is returned can be looked at
                best.running[i] = False
                diverged.add(i)
        held_now = None
        if fleet.step % every == 0 or fleet.step == plan.steps:
            if held is not None:
                held_now = score(engine, job, fleet, held)
                _keep_best(best, fleet, held_now, plan, every)
            looks.append((fleet.step, train_now(), held_now))
            yield moment(held_now, done=False)
            sums, counted = torch.zeros(r, dtype=torch.float64), torch.zeros(r, dtype=torch.float64)
        else:
            yield moment(None, done=False)
        if time.monotonic() - saved >= (checkpoint_seconds and max(checkpoint_seconds, 100 * cost)):
            began = time.monotonic()
            checkpoint()
            saved, cost = time.monotonic(), time.monotonic() - began
    checkpoint()
    yield moment(looks[-1][2] if looks else None, done=True)


def _keep_best(best: _Best, fleet: Fleet, now: Tensor, plan: Plan, every: int) -> None:
    better = best.running & (now > best.value)
    rows = better.nonzero()[:, 0].to(fleet.flat.device)
    best.flat[rows] = fleet.flat[rows]
    for name, t in fleet.buffers.items():
        best.buffers[name][rows] = t[rows]
    best.value = torch.where(better, now, best.value)
    best.step = torch.where(better, fleet.step, best.step)
    if plan.patience is not None:
        best.running &= fleet.step - best.step < plan.patience * every


def with_likelihood(herd: Herd, likelihood: Likelihood) -> Herd:
    """The herd with the likelihood's own parameters among its params, at their initial values."""
    some = next(iter(herd.params.values()), None)
    if some is None:
        raise Unsupported("the network has no parameters to train", fix="requires_grad_(True) on some of them")
    new = {
        LIKELIHOOD_PREFIX + name: value.to(some.dtype).expand(len(herd), *value.shape).clone()
        for name, value in likelihood.parameters().items()
        if LIKELIHOOD_PREFIX + name not in herd.params
    }
    return replace(herd, params={**herd.params, **new})


def choose_engine(herd: Herd, feed: Feed, optimizer: Optimizer) -> tuple[Engine, str]:
    """The engine that is likely to be fastest, and why.

    Measured on a CPU: dense networks gain most by hand-written products; stacking by vmap pays for small networks only,
    and convolutions lose by it (see benchmarks/results).
    """
    x, _, _ = feed(0)
    if program(herd.network) is not None and isinstance(x, Tensor) and not herd.buffers:
        chunk = Dense().chunk if feed.device.type == "cpu" else len(herd)  # a card takes all at once
        return Dense(chunk), "affine maps and nonlinearities alone: stepped by hand"
    if len(herd) == 1:
        return Loop(), "one replica"
    if hasattr(optimizer, "look"):
        return Loop(), "the optimizer looks beside the parameters"
    kinds = {type(m).__name__ for m in herd.network.modules()}
    if any(k.startswith(("Conv", "Dropout")) for k in kinds) and feed.device.type == "cpu":
        return Loop(), "convolutions and dropout are faster, and repeatable, one replica at a time"
    if herd.weight is not None and any("BatchNorm" in k for k in kinds):
        return Loop(), "batch normalisation must not see rows of weight zero"
    size = sum(t[0].numel() for t in herd.params.values())
    if feed.device.type == "cpu" and 6 * size * feed.size > 1e8:
        return Loop(), "a step is large enough to fill a core by itself"
    own = {n: t for n, t in herd.params.items() if not n.startswith(LIKELIHOOD_PREFIX)}
    reason = lifts(herd.network, own, herd.buffers, x[:4])
    return (
        (Loop(), f"the network cannot be lifted: {reason}") if reason else (Stack(), "a small network, many replicas")
    )


def fingerprint(herd: Herd, data: Any, *values: Any) -> str:
    """A SHA-256 of all that decides the bits of a run."""
    digest = hashlib.sha256(json.dumps([repr(v) for v in values]).encode())
    digest.update(f"{len(data)} {data.source!r} {herd.axes!r} {herd.network!r}".encode())
    extra = {"weight": herd.weight} if herd.weight is not None else {}
    for name, t in {**herd.params, **herd.buffers, **herd.hyper, **extra}.items():
        digest.update(name.encode())
        kept = t.detach().cpu()
        digest.update((kept.float() if kept.dtype is torch.bfloat16 else kept).numpy().tobytes())
    return digest.hexdigest()


def _job(herd: Herd, likelihood: Likelihood, optimizer: Optimizer, prior: Prior, plan: Plan, feed: Feed) -> Job:
    r, n, device = len(herd), feed.rows, feed.device
    if herd.weight is not None and herd.weight.shape != (r, n):
        raise ShapeError(
            f"the herd's weight has shape {tuple(herd.weight.shape)}", needs=f"({r}, {n}): replicas, rows of the data"
        )
    own = {**prior.hyperparameters(), **optimizer.hyperparameters()}
    if unknown := set(herd.hyper) - set(own):
        raise UsageError(
            f"the herd varies {', '.join(sorted(unknown))}",
            needs="hyperparameters of the optimizer or the prior",
            found=f"there are: {', '.join(own)}",
        )
    some = next(iter(herd.params.values()))
    spread = lambda name, value: herd.hyper[name] if name in herd.hyper else value.detach().expand(r)
    hyper = {name: spread(name, value).to(device) for name, value in own.items()}  # float64: 1 - beta2 is small
    weight = None if herd.weight is None else herd.weight.to(device, some.dtype)
    total = torch.full((r,), float(n)) if weight is None else weight.sum(1)
    if bool((total <= 0).any()):
        raise UsageError("a replica gives weight zero to all rows", needs="at least one row a replica")
    factor, where = lambda t: plan.schedule(t, plan.steps), layout(herd.params)
    looks = hasattr(optimizer, "look")
    if looks and not optimizer.elementwise:
        raise Unsupported(
            f"{type(optimizer).__name__} looks beside the parameters tensor by tensor",
            needs="elementwise = True, with `look`", found="elementwise = False", fix="kk.optimizers.IVON()",
        )  # fmt: skip
    table = noise_table(plan.seed, where.size, some.to(device)) if looks else None
    return Job(
        herd.network, where, likelihood, optimizer, prior, hyper, weight, total.to(device, some.dtype), n, factor, feed,
        plan.clip, plan.seed, device, table=table,
    )  # fmt: skip


@contextmanager
def threads(plan: Plan, herd: Herd) -> Generator[None]:
    """One thread for small networks: OpenMP's barriers cost small steps up to 18 times on a busy machine."""
    before = torch.get_num_threads()
    size = sum(t[0].numel() for t in herd.params.values())
    convolves = any(type(m).__name__.startswith("Conv") for m in herd.network.modules())
    small = 6 * size * (plan.batch or 1024) < 1e9 and not convolves
    torch.set_num_threads(plan.threads or (1 if small else before))
    try:
        yield
    finally:
        torch.set_num_threads(before)
