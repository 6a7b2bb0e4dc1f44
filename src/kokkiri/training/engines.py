"""How a herd is stepped: `Loop`, one replica after the other, and `Stack`, all replicas in one vmapped call.

Both do the same arithmetic: any engine must give the loop's answer. Nothing outside `training` knows which one ran.

The traps, met by running torch: BatchNorm writes its buffers even under grad (so the state owns clones of them);
Dropout raises under vmap unless its randomness is "different" (so replicas agree in law there, not bit by bit); norms
must be taken one replica at a time (so clipping and the optimizer's step are lifted, too).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from operator import itemgetter
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap

from kokkiri.errors import CannotLift
from kokkiri.herd import load
from kokkiri.numerics.random import key, step_seed
from kokkiri.optimizers.clipping import clip_by_norm
from kokkiri.training.beside import noise, prior_terms
from kokkiri.training.flat import Layout
from kokkiri.training.objective import batch_scale, prior_gradient
from kokkiri.types import LIKELIHOOD_PREFIX, Likelihood, Optimizer, Params, Prior, State


@dataclass
class Fleet:
    """The moving state of a run: what a checkpoint holds. Owned by the run; nobody else's tensors are in it."""

    flat: Tensor  # (R, P)
    buffers: Params  # (R, ...)
    memory: State  # the optimizer's, (R, ...) each
    step: int = 0


@dataclass(frozen=True)
class Job:
    """What does not move during a run."""

    network: nn.Module
    where: Layout
    likelihood: Likelihood
    optimizer: Optimizer
    prior: Prior
    hyper: Params  # (R,) each: the optimizer's and the prior's
    weight: Tensor | None  # (R, N)
    total: Tensor  # (R,) sum of each replica's weights
    rows: int  # N
    factor: Callable[[int], float]  # the learning rate's, by step
    batch: Callable[[int], tuple[Any, Tensor, Tensor | None]]  # step -> x, y, index (None: all rows in order)
    clip: float | None
    seed: int
    device: torch.device
    noise: bool = field(default=True)  # whether the network draws random numbers in training
    table: Tensor | None = None  # noise for an optimizer that looks beside the parameters


def of_network(params: Params) -> Params:
    """The parameters of the network."""
    return {name: t for name, t in params.items() if not name.startswith(LIKELIHOOD_PREFIX)}


def of_likelihood(params: Params) -> Params:
    """The parameters of the likelihood, their prefix taken off."""
    return {name.removeprefix(LIKELIHOOD_PREFIX): t for name, t in params.items() if name.startswith(LIKELIHOOD_PREFIX)}


def descend(job: Job, flat: Tensor, gradient: Tensor, memory: State, hyper: Any, factor: float, total: Any) -> Any:
    """One step of one replica from its likelihood's gradient, (P,), which is used up: prior, clipping, optimizer."""
    where = job.where
    if job.table is None:  # else the optimizer was given the prior as such
        split = where.blocks if job.prior.elementwise else where.views
        slots = split(gradient)
        for name, pull in prior_gradient(job.prior, split(flat), hyper).items():
            slots[name].sub_(pull / total)
    whole = lambda t: {"": t} if job.optimizer.elementwise else where.views(t)
    grads = clip_by_norm(whole(gradient), job.clip)
    params, memory = job.optimizer.step(whole(flat), grads, memory, {**hyper, "lr": hyper["lr"] * factor})
    return (params[""] if job.optimizer.elementwise else torch.cat([p.reshape(-1) for p in params.values()])), memory


def beside(
    job: Job, flat: Tensor, place: Tensor, memory: State, hyper: Any, step: int, replicas: Tensor | int
) -> State:
    """Moves `place` to where the optimizer wants its gradient, beside `flat`, and gives its state.

    replicas: which one, of (P,), or which ones, of (R, P).
    """
    if job.table is None:
        return memory
    drawn = noise(job.table, flat.shape[-1], job.seed, step, replicas)
    near, memory = job.optimizer.look({"": flat}, memory, hyper, {"": drawn})  # pyright: ignore[reportAttributeAccessIssue]
    place.copy_(near[""])
    return memory


def blank_memory(job: Job, flat: Tensor) -> State:
    """The optimizer's state before the first step, stacked over replicas: (R, P) -> (R, ...) each."""
    whole = lambda t: {"": t} if job.optimizer.elementwise else job.where.views(t)
    one = [job.optimizer.init({n: t.clone() for n, t in whole(row).items()}) for row in flat]
    return tree_map(lambda *rows: torch.stack(rows), *one)


def tree_map(fn: Callable[..., Tensor], *trees: Any) -> Any:
    """`fn` over the leaves of trees of dicts."""
    if isinstance(trees[0], dict):
        return {name: tree_map(fn, *(t[name] for t in trees)) for name in trees[0]}
    return fn(*trees)


def alone(memory: State, rows: int | slice) -> State:
    """The state of some replicas, its counts as plain numbers: replicas step together, and an operation is saved."""
    count = lambda t: (t[rows] if isinstance(rows, int) else t[0]).item()
    return {n: count(t) if isinstance(t, Tensor) else tree_map(itemgetter(rows), t) for n, t in memory.items()}


def put(whole: Tensor, rows: Any, part: Any) -> Tensor:
    """Writes a leaf of some replicas back into the stack."""
    whole[rows] = part
    return whole


@contextmanager
def own_randomness(job: Job) -> Generator[Callable[[int, int], None]]:
    """Seeds the global generator for a step of a replica, and puts its state back at the end.

    Networks draw their dropout from torch's global generator; there is no other way in. Seeding costs 3 microseconds.
    """
    if not job.noise:
        yield lambda _step, _replica: None
        return
    base = key(job.seed, "step")
    kept = torch.get_rng_state()
    on_card = job.device.type == "cuda"
    kept_card = torch.cuda.get_rng_state(job.device) if on_card else None

    def seed(step: int, replica: int) -> None:
        number = step_seed(base, step, replica)
        torch.default_generator.manual_seed(number)
        if on_card:
            torch.cuda.default_generators[job.device.index or 0].manual_seed(number)

    try:
        yield seed
    finally:
        torch.set_rng_state(kept)
        if kept_card is not None:
            torch.cuda.set_rng_state(kept_card, job.device)


class Engine(Protocol):
    """How the replicas of a herd are stepped, and how they answer. `chunk`: how many at a time."""

    name: ClassVar[str]

    @property
    def chunk(self) -> int:
        """How many replicas at a time."""
        ...

    def advance(self, job: Job, fleet: Fleet, replicas: list[int], steps: int) -> Tensor:
        """Takes `steps` steps with some replicas, in place; gives (R,) the mean log-likelihood per unit of weight."""
        ...

    def outputs(self, module: nn.Module, params: Params, buffers: Params, x: Any, *, shared: bool) -> Tensor:
        """(B, ...) shared, or (R, B, ...) -> (R, B, C) in evaluation mode; params, buffers: (R, ...)."""
        ...


@dataclass(frozen=True)
class Loop:
    """One replica after the other: any module, any size. The reference that other engines must agree with."""

    name: ClassVar[str] = "loop"
    chunk: int = field(default=1, init=False)

    def advance(self, job: Job, fleet: Fleet, replicas: list[int], steps: int) -> Tensor:
        """Takes `steps` steps with some replicas, in place; gives (R,) the mean log-likelihood per unit of weight."""
        module = copy.deepcopy(job.network).to(job.device).train()
        couples = any("BatchNorm" in type(m).__name__ for m in module.modules())  # rows feel one another
        leaves = dict(module.named_parameters())
        slot = torch.zeros_like(fleet.flat[0])  # gradients accumulate here, so that no leaf is visited one by one
        slots = job.where.views(slot)
        said = torch.zeros(len(fleet.flat), dtype=torch.float64)
        span = range(fleet.step, fleet.step + steps)
        batches = [job.batch(t) for t in span] if len(replicas) > 1 else None
        with own_randomness(job) as seed:
            for r in replicas:
                flat = fleet.flat[r]
                place = flat if job.table is None else flat.clone()  # where gradients are taken
                own = job.where.views(place)
                load(module, of_network(own) | {n: b[r] for n, b in fleet.buffers.items()})
                for name in of_network(own):
                    leaves[name].grad = slots[name]
                phi = {n: t.detach().requires_grad_() for n, t in of_likelihood(own).items()}
                for name, leaf in phi.items():
                    leaf.grad = slots[LIKELIHOOD_PREFIX + name]
                memory = alone(fleet.memory, r)
                hyper = {name: h[r].item() for name, h in job.hyper.items()}
                total, sums = job.total[r].item(), torch.zeros((), dtype=flat.dtype, device=flat.device)
                hyper |= {} if job.table is None else prior_terms(job.prior, job.where, flat, hyper, total)
                for k, t in enumerate(span):
                    x, y, index = batches[k] if batches is not None else job.batch(t)
                    weight = None if job.weight is None else job.weight[r] if index is None else job.weight[r, index]
                    scale = batch_scale(job.rows, len(y), total)
                    if couples and weight is not None:  # what counts nothing must not be seen either
                        x, y, weight = x[weight > 0], y[weight > 0], weight[weight > 0]
                    seed(t, r)
                    memory = beside(job, flat, place, memory, hyper, t, r)
                    slot.zero_()
                    ll = job.likelihood.bind(phi).log_prob(module(x), y)
                    score = ll.sum() if weight is None else (weight * ll).sum()
                    cost = score * -scale
                    cost.backward()
                    with torch.no_grad():
                        new, memory = descend(job, flat, slot, memory, hyper, job.factor(t), total)
                        flat.copy_(new)
                        sums -= cost.detach()
                said[r] = (sums / steps).item()
                tree_map(lambda whole, one, r=r: put(whole, r, one), fleet.memory, memory)
        return said

    def outputs(self, module: nn.Module, params: Params, buffers: Params, x: Any, *, shared: bool) -> Tensor:
        """(B, ...) shared, or (R, B, ...) -> (R, B, C) in evaluation mode."""
        answers = []
        for r in range(len(next(iter(params.values())))):
            load(module, {n: t[r] for n, t in (of_network(params) | buffers).items()})
            answers.append(module(x if shared else x[r]))
        return torch.stack(answers)


@dataclass(frozen=True)
class Stack:
    """All replicas in one vmapped call, `chunk` at a time: on a CPU larger stacks fall out of the cache."""

    chunk: int = 16
    name: ClassVar[str] = "stack"

    def advance(self, job: Job, fleet: Fleet, replicas: list[int], steps: int) -> Tensor:
        """Takes `steps` steps with some replicas, in place; gives (R,) the mean log-likelihood per unit of weight."""
        if job.table is not None:
            raise CannotLift(
                f"{type(job.optimizer).__name__} looks beside the parameters, and vmap lifts no such step",
                needs="an engine that calls it itself", found="Stack()", fix="engine=kk.Loop()",
            )  # fmt: skip
        said = torch.zeros(len(fleet.flat), dtype=torch.float64)
        with own_randomness(job) as seed:
            for first in range(0, len(replicas), self.chunk):
                rows = torch.tensor(replicas[first : first + self.chunk], device=fleet.flat.device)
                said[rows.cpu()] = self._advance(job, fleet, rows, steps, seed)
        return said

    def outputs(self, module: nn.Module, params: Params, buffers: Params, x: Any, *, shared: bool) -> Tensor:
        """(B, ...) shared, or (R, B, ...) -> (R, B, C) in evaluation mode."""
        one = lambda params, buffers, x: functional_call(module, (of_network(params), buffers), (x,))
        return vmap(one, (0, 0, None if shared else 0))(params, buffers, x)

    def _advance(self, job: Job, fleet: Fleet, rows: Tensor, steps: int, seed: Callable[[int, int], None]) -> Tensor:
        module = copy.deepcopy(job.network).train()
        take = itemgetter(rows)
        flat, memory = fleet.flat[rows], tree_map(take, fleet.memory)
        buffers, hyper, total = tree_map(take, fleet.buffers), tree_map(take, job.hyper), job.total[rows]

        def cost(params: Params, buffers: Params, x: Any, y: Tensor, weight: Tensor | None, scale: Tensor) -> Tensor:
            output = functional_call(module, (of_network(params), buffers), (x,))
            ll = job.likelihood.bind(of_likelihood(params)).log_prob(output, y)
            score = ll.sum() if weight is None else (weight * ll).sum()
            return -score * scale

        dims = (0, 0, None, None, None if job.weight is None else 0, 0)
        lifted = vmap(grad_and_value(cost), dims, randomness="different")
        move = vmap(partial(descend, job), (0, 0, 0, 0, None, 0))
        sums = torch.zeros(len(rows), dtype=flat.dtype, device=flat.device)
        for t in range(fleet.step, fleet.step + steps):
            x, y, index = job.batch(t)
            weight = None if job.weight is None else job.weight[rows] if index is None else job.weight[rows][:, index]
            seed(t, int(rows[0]))
            scale = batch_scale(job.rows, len(y), total).to(flat.dtype)
            grads, value = lifted(job.where.views(flat), buffers, x, y, weight, scale)
            gradient = torch.cat([grads[name].reshape(len(rows), -1) for name in job.where.names], 1)
            with torch.no_grad():
                flat, memory = move(flat, gradient, memory, hyper, job.factor(t), total)
                sums -= value
        fleet.flat[rows] = flat
        tree_map(lambda whole, part: whole.index_copy_(0, rows, part), fleet.memory, memory)
        tree_map(lambda whole, part: whole.index_copy_(0, rows, part), fleet.buffers, buffers)
        return (sums / steps).cpu().double()


def lifts(network: nn.Module, params: Params, buffers: Params, x: Any) -> str:
    """Why `Stack` cannot run this network; "" if it can. Tried on a few rows, and compared with the loop.

    params, buffers: (R, ...). The comparison guards against modules that run under vmap and answer wrongly.
    """
    module = copy.deepcopy(network).eval()
    two = {n: t[[0, -1]] for n, t in params.items()}, {n: t[[0, -1]] for n, t in buffers.items()}
    try:
        with torch.no_grad():
            lifted = vmap(lambda p, b: functional_call(module, (p, b), (x,)), randomness="different")(*two)
            looped = torch.stack([
                functional_call(
                    module, ({n: t[r] for n, t in two[0].items()}, {n: t[r] for n, t in two[1].items()}), (x,)
                )
                for r in (0, 1)
            ])
    except RuntimeError as error:  # vmap refuses by RuntimeError, whatever the cause
        return str(error).splitlines()[0]
    except (ValueError, TypeError) as error:
        return f"{type(error).__name__}: {str(error).splitlines()[0]}"
    near = torch.allclose(lifted, looped, rtol=1e-3, atol=1e-4 * float(looped.abs().amax()) + 1e-12)
    return "" if near else "lifted over replicas it gives other numbers than alone"
