"""`Dense`: networks of affine maps and nonlinearities, stepped by hand.

Such a network's step is a dozen matrix products; most of what autograd and module dispatch cost is spent around them.
The backward pass here writes every gradient straight into one flat tensor, for R replicas at once, with batched
products. A network is read once into a program (`networks.dense`); what a program cannot say is left to other
engines.

For affine maps h' = h W^T + b and a gradient g at h':  dW = g^T h,  db = sum g,  dh = g W. Elementwise functions
multiply g by their derivative, which is torch's own; so is layer normalisation's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from operator import itemgetter
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.func import grad_and_value, vmap

from kokkiri.errors import CannotLift
from kokkiri.networks.dense import Operation, program
from kokkiri.optimizers.clipping import clip_rows
from kokkiri.training.beside import prior_terms
from kokkiri.training.engines import (
    Fleet,
    Job,
    alone,
    beside,
    descend,
    of_likelihood,
    of_network,
    own_randomness,
    put,
    tree_map,
)
from kokkiri.training.objective import batch_scale
from kokkiri.types import LIKELIHOOD_PREFIX, Params

_aten = torch.ops.aten
Tape = list[Any]


@dataclass(frozen=True)
class Dense:
    """All replicas by hand-written batched products, `chunk` at a time."""

    chunk: int = 16
    name: ClassVar[str] = "dense"

    def advance(self, job: Job, fleet: Fleet, replicas: list[int], steps: int) -> Tensor:
        """Takes `steps` steps with some replicas, in place; gives (R,) the mean log-likelihood per unit of weight."""
        operations = program(job.network)
        if operations is None:
            raise CannotLift(
                f"{type(job.network).__name__} is not made of affine maps and nonlinearities alone",
                needs="kk.networks.MLP, or nn.Sequential of Linear, activations, Dropout",
                fix="engine=kk.Loop()",
            )
        said = torch.zeros(len(fleet.flat), dtype=torch.float64)
        with own_randomness(job) as seed:
            for first in range(0, len(replicas), self.chunk):
                rows = torch.tensor(replicas[first : first + self.chunk], device=fleet.flat.device)
                said[rows.cpu()] = _advance(job, fleet, rows, steps, seed, operations)
        return said

    def outputs(self, module: nn.Module, params: Params, buffers: Params, x: Tensor, *, shared: bool) -> Tensor:
        """(B, ...) shared, or (R, B, ...) -> (R, B, C) in evaluation mode."""
        operations = program(module)
        assert operations is not None
        assert not buffers
        return forward(operations, of_network(params), x.flatten(1 if shared else 2), training=False)[0]


def _advance(
    job: Job,
    fleet: Fleet,
    rows: Tensor,
    steps: int,
    seed: Callable[[int, int], None],
    operations: tuple[Operation, ...],
) -> Tensor:
    take = itemgetter(rows)
    flat, total = fleet.flat[rows], job.total[rows]
    gradient = torch.zeros_like(flat)
    hyper = _columns(job, flat, rows) if _broadcasts(job) else {}
    move = _broadcast_move(job, flat, gradient, hyper, rows) if hyper else _lifted_move(job, flat, gradient, rows)
    weights = None if job.weight is None else job.weight[rows]
    place = flat if job.table is None else flat.clone()  # where gradients are taken
    slots, views = job.where.views(gradient), job.where.views(place)  # of tensors that are written in place below
    slope = _slope(job, of_likelihood(views), weighted=weights is not None)
    scales: dict[int, Tensor] = {}
    memory = tree_map(take, fleet.memory)
    if _broadcasts(job):
        memory = alone(memory, slice(None))
    sums = torch.zeros(len(rows), dtype=flat.dtype, device=flat.device)
    with torch.no_grad():
        for t in range(fleet.step, fleet.step + steps):
            x, y, index = job.batch(t)
            weight = weights if weights is None or index is None else weights[:, index]
            seed(t, int(rows[0]))
            memory = beside(job, flat, place, memory, hyper, t, rows)
            output, tape = forward(operations, views, x.flatten(1), training=True)
            if len(y) not in scales:
                scales[len(y)] = batch_scale(job.rows, len(y), total).to(flat.dtype)
            cost, at_output, at_phi = slope(output, y, weight, scales[len(y)])
            backward(operations, views, slots, tape, at_output)
            for name, g in at_phi.items():
                slots[LIKELIHOOD_PREFIX + name].copy_(g)
            new, memory = move(memory, job.factor(t))
            flat.copy_(new)
            sums += cost
    fleet.flat[rows] = flat
    tree_map(lambda whole, part: put(whole, rows, part), fleet.memory, memory)
    return (-sums / steps).cpu().double()


def _broadcasts(job: Job) -> bool:
    """Whether optimizer and prior work on a stack of replicas as on one model, with a column of hyperparameters."""
    return job.optimizer.elementwise and (job.table is not None or hasattr(job.prior, "gradient"))


def _column(t: Tensor) -> Any:
    """(R,) as a plain number where replicas share it, else as a column (R, 1)."""
    return t[0].item() if bool((t == t[0]).all()) else t[:, None]


def _columns(job: Job, flat: Tensor, rows: Tensor) -> dict[str, Any]:
    """Hyperparameters of a stack, and the prior as such where the optimizer takes it apart."""
    hyper = {name: _column(h[rows]) for name, h in job.hyper.items()}
    if job.table is None:
        return hyper
    each = [
        prior_terms(job.prior, job.where, flat[i], {n: h[r].item() for n, h in job.hyper.items()}, job.total[r].item())
        for i, r in enumerate(rows.tolist())
    ]
    stacked = {n: torch.stack([own.get(n, torch.zeros_like(flat[0])) for own in each]) for n in each[0] if n != "rows"}
    return {**hyper, **stacked, "rows": _column(job.total[rows])}


def _broadcast_move(
    job: Job, flat: Tensor, gradient: Tensor, hyper: dict[str, Any], rows: Tensor
) -> Callable[..., tuple[Tensor, Any]]:
    """`engines.descend` for a stack without lifting: what all replicas share is a plain number, the rest a column."""
    total = _column(job.total[rows])
    split = job.where.blocks if job.prior.elementwise else job.where.views
    own, slots = split(flat), split(gradient)
    none = lambda _own, _hyper: {}
    gradient_of = none if job.table is not None else job.prior.gradient  # pyright: ignore[reportAttributeAccessIssue]

    def move(memory: Any, factor: float) -> tuple[Tensor, Any]:
        for name, pull in gradient_of(own, hyper).items():
            slots[name].sub_(pull / (total if pull.ndim == 2 or isinstance(total, float) else _over(total, pull)))
        grads = {"": clip_rows(gradient, job.clip)}
        params, memory = job.optimizer.step({"": flat}, grads, memory, {**hyper, "lr": hyper["lr"] * factor})
        return params[""], memory

    return move


def _over(column: Tensor, t: Tensor) -> Tensor:
    """(R, 1) as it divides (R, ...)."""
    return column.reshape(len(column), *[1] * (t.ndim - 1))


def _lifted_move(job: Job, flat: Tensor, gradient: Tensor, rows: Tensor) -> Callable[..., tuple[Tensor, Any]]:
    hyper, total = {name: h[rows] for name, h in job.hyper.items()}, job.total[rows]
    lifted = vmap(partial(descend, job), (0, 0, 0, 0, None, 0))
    return lambda memory, factor: lifted(flat, gradient, memory, hyper, factor, total)


def _slope(job: Job, phi: Params, *, weighted: bool) -> Callable[..., tuple[Tensor, Tensor, Params]]:
    """(R,) costs, and their gradients at outputs and at the likelihood's parameters, in closed form or by autograd."""

    def cost(output: Tensor, phi: Params, y: Tensor, weight: Tensor | None, scale: Tensor) -> Tensor:
        ll = job.likelihood.bind(phi).log_prob(output, y)
        return (ll.sum() if weight is None else (weight * ll).sum()) * -scale

    lifted = vmap(grad_and_value(cost, (0, 1)), (0, 0, None, 0 if weighted else None, 0))
    bound = job.likelihood.bind(phi)

    def slope(output: Tensor, y: Tensor, weight: Tensor | None, scale: Tensor) -> Any:
        score = bound.score(output, y) if hasattr(bound, "score") else None  # pyright: ignore[reportAttributeAccessIssue]
        if score is None:
            (at_output, at_phi), value = lifted(output, phi, y, weight, scale)
            return value, at_output, at_phi
        share = -scale[:, None] if weight is None else weight * -scale[:, None]
        value = (share * score.log_prob).sum(1)
        return value, share[..., None] * score.output, {n: (share * t).sum(1) for n, t in score.parameters.items()}

    return slope


def forward(operations: tuple[Operation, ...], params: Params, x: Tensor, *, training: bool) -> tuple[Tensor, Tape]:
    """X (B, D), or (R, B, D) where replicas differ; params (R, ...) -> output (R, B, C) and what backward needs."""
    many = next(iter(params.values())).shape[0]
    x = x.expand(many, *x.shape) if x.ndim == 2 else x
    h, tape, held = x, [], []
    for op in operations:
        match op.kind:
            case "affine":
                tape.append(h)
                h = _affine(params, op.name, h)
            case "relu":
                h = torch.relu(h)
                tape.append(h)
            case "tanh":
                h = torch.tanh(h)
                tape.append(h)
            case "sigmoid":
                h = torch.sigmoid(h)
                tape.append(h)
            case "gelu":
                tape.append(h)
                h = torch.nn.functional.gelu(h)
            case "silu":
                tape.append(h)
                h = torch.nn.functional.silu(h)
            case "dropout":  # as torch draws it, so that one replica gets the loop's mask bit for bit
                keep_share = 1.0 - op.value
                mask = torch.empty_like(h).bernoulli_(keep_share).div_(keep_share) if training else None
                tape.append(mask)
                h = h if mask is None else h * mask
            case "norm":
                mean = h.mean(-1, keepdim=True)
                inverse = (h.var(-1, unbiased=False, keepdim=True) + op.value).rsqrt()
                z = (h - mean) * inverse
                tape.append((z, inverse))
                h = torch.addcmul(params[op.name + "bias"][:, None], z, params[op.name + "weight"][:, None])
            case "hold":
                tape.append(None)
                held.append(h)
            case "add held":
                tape.append(None)
                h = h + held.pop()
            case "add input":
                tape.append(x)
                h = h + _affine(params, op.name, x)
    return h, tape


def backward(operations: tuple[Operation, ...], params: Params, slots: Params, tape: Tape, g: Tensor) -> None:
    """Writes d cost / d params into `slots`, (R, ...) each, from g = d cost / d output (R, B, C)."""
    held: list[Tensor] = []
    first = next(i for i, op in enumerate(operations) if op.kind == "affine")
    for i in range(len(operations) - 1, first - 1, -1):  # nothing before the first affine map has parameters
        op, kept = operations[i], tape[i]
        match op.kind:
            case "affine":
                _affine_slots(slots, op.name, g, kept)
                if i > first:
                    g = torch.bmm(g, params[op.name + "weight"])
            case "relu":
                g = _aten.threshold_backward(g, kept, 0)
            case "tanh":
                g = _aten.tanh_backward(g, kept)
            case "sigmoid":
                g = _aten.sigmoid_backward(g, kept)
            case "gelu":
                g = _aten.gelu_backward(g, kept)
            case "silu":
                g = _aten.silu_backward(g, kept)
            case "dropout":
                g = g if kept is None else g * kept
            case "norm":
                z, inverse = kept
                slots[op.name + "bias"].copy_(g.sum(1))
                slots[op.name + "weight"].copy_((g * z).sum(1))
                g = g * params[op.name + "weight"][:, None]
                g = (g - g.mean(-1, keepdim=True) - z * (g * z).mean(-1, keepdim=True)) * inverse
            case "add held":
                held.append(g)
            case "hold":
                g = g + held.pop()
            case "add input":
                _affine_slots(slots, op.name, g, kept)


def _affine(params: Params, name: str, h: Tensor) -> Tensor:
    weight = params[name + "weight"].transpose(1, 2)
    bias = params.get(name + "bias")
    return torch.bmm(h, weight) if bias is None else torch.baddbmm(bias[:, None], h, weight)


def _affine_slots(slots: Params, name: str, g: Tensor, h: Tensor) -> None:
    weight = slots[name + "weight"]
    if weight.is_contiguous():
        torch.bmm(g.transpose(1, 2), h, out=weight)
    else:
        weight.copy_(torch.bmm(g.transpose(1, 2), h))
    if name + "bias" in slots:
        torch.sum(g, 1, out=slots[name + "bias"])
