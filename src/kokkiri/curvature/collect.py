"""The primitive that all curvature stands on: a pass that gives each group's piece, for K columns at the outputs.

    columns(outputs) -> (B, C, K): S with S Sᵀ the curvature of the likelihood (its exact square root), a few random
    combinations of its columns, or the identity (for predictions).

No gradient with respect to a parameter is taken but of opaque ones. A network of affine maps and nonlinearities is
walked by hand, all columns in one product; others are differentiated to the outputs of their calls.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vjp, vmap

from kokkiri.curvature.pieces import Affine, Piece, Vector
from kokkiri.curvature.plan import Group, Plan, piece, plan_of, run
from kokkiri.errors import Unsupported
from kokkiri.networks.dense import Operation, program
from kokkiri.training.dense import forward

Columns = Callable[[Tensor], Tensor]
BY_HAND = {"affine", "relu", "tanh", "sigmoid", "gelu", "silu", "dropout", "hold", "add held", "add input"}


@dataclass(frozen=True)
class Collector:
    """A module with its own weights in evaluation mode, the plan of its parameters, and how it is walked."""

    module: nn.Module
    plan: Plan
    operations: tuple[Operation, ...] | None = None

    def __call__(self, x: Any, columns: Columns) -> tuple[Tensor, Tensor, dict[str, Piece]]:
        """(B, ...) inputs -> outputs (B, C), columns (B, C, K), and the piece of each group under its first name."""
        if self.operations is not None:
            return _by_hand(self.module, self.operations, self.plan, x, columns)
        return _by_autograd(self.module, self.plan, x, columns)


def collector(module: nn.Module, x: Any, names: tuple[str, ...], flat_index: Callable[[str], Tensor]) -> Collector:
    """A collector for the named parameters. x: some rows of inputs; the module must be in evaluation mode.

    Raises Unsupported where the outputs are not one row of numbers for each row of inputs.
    """
    plan = plan_of(module, x, names, flat_index)
    operations = program(module) if isinstance(x, Tensor) else None
    plain = operations is not None and all(op.kind in BY_HAND for op in operations)
    known = all(g.form == "affine" for g in plan.groups)
    return Collector(module, plan, operations if plain and known and not plan.copies else None)


def _by_autograd(module: nn.Module, plan: Plan, x: Any, columns: Columns) -> tuple[Tensor, Tensor, dict[str, Piece]]:
    tape, out = run(module, x, copies=plan.copies)
    if out.ndim != 2:
        raise Unsupported(
            f"the network's output has shape {tuple(out.shape)}", needs="(B, C): one row of outputs a row of inputs",
            found=f"{out.ndim} axes", fix="flatten the outputs, or posterior=Ensemble(5)",
        )  # fmt: skip
    calls = tuple((u.kind, u.weight, u.bias) for u in tape.uses)
    if calls != plan.calls:
        raise Unsupported(
            "the network took another path than on the first rows", needs="the same calls for every batch",
            found=f"{len(calls)} calls of known functions, then {len(plan.calls)}",
            fix="posterior=Ensemble(5), or one path for all inputs",
        )  # fmt: skip
    root = columns(out.detach())
    known = [g for g in plan.groups if g.form != "opaque"]
    pieces: dict[str, Piece] = {}
    if known:
        used = sorted({i for g in known for i in g.uses})
        found = dict(zip(used, _gradients(out, [tape.uses[i].output for i in used], root), strict=True))
        grads = [found.get(i) for i in range(len(tape.uses))]
        with torch.no_grad():
            pieces = {g.names[0]: piece(g, plan, tape.uses, grads, len(out)) for g in known}
    opaque = [g for g in plan.groups if g.form == "opaque"]
    if opaque:
        pieces |= _datum_by_datum(module, opaque, x, root)
    return out.detach(), root, pieces


def _gradients(out: Tensor, at: list[Tensor], root: Tensor) -> list[Tensor | None]:
    """(K, ...) gradients of each column at some tensors of the graph."""
    seeds = root.movedim(2, 0)
    if len(seeds) > 1:
        try:
            return list(
                torch.autograd.grad(out, at, seeds, retain_graph=True, allow_unused=True, is_grads_batched=True)
            )
        except RuntimeError:  # some backward passes have no rule for a batch of columns
            pass
    each = [torch.autograd.grad(out, at, s, retain_graph=True, allow_unused=True) for s in seeds]
    return [None if column[0] is None else torch.stack(column) for column in zip(*each, strict=True)]


def _datum_by_datum(module: nn.Module, groups: list[Group], x: Any, root: Tensor) -> dict[str, Piece]:
    """Gradients (B, K, P) of parameters that went through functions that are not known."""
    everything = {n: p.detach() for n, p in module.named_parameters()} | dict(module.named_buffers())
    own = {g.names[0]: everything[g.names[0]] for g in groups}

    def one(row: Tensor, seeds: Tensor) -> dict[str, Tensor]:
        answer = lambda p: functional_call(module, {**everything, **p}, (row[None],))[0]
        back = vjp(answer, own)[1]
        return vmap(lambda s: back(s)[0])(seeds)

    seeds = root.mT  # (B, K, C)
    with contextlib.suppress(RuntimeError, TypeError, ValueError):  # what cannot be lifted is done one by one
        found = vmap(one)(x, seeds)
        return {n: Vector(t.flatten(2).detach()) for n, t in found.items()}
    parameters = dict(module.named_parameters())
    wanted, rows = [parameters[g.names[0]] for g in groups], []
    for b in range(len(root)):
        with torch.enable_grad():
            out = module(x[b : b + 1])[0]
        each = [torch.autograd.grad(out, wanted, s, retain_graph=True, allow_unused=True) for s in seeds[b]]
        zero = lambda g, p: torch.zeros_like(p) if g is None else g
        rows.append([torch.stack([zero(g[j], p).reshape(-1) for g in each]) for j, p in enumerate(wanted)])
    return {g.names[0]: Vector(torch.stack([r[j] for r in rows])) for j, g in enumerate(groups)}


def _by_hand(
    module: nn.Module, operations: tuple[Operation, ...], plan: Plan, x: Tensor, columns: Columns
) -> tuple[Tensor, Tensor, dict[str, Piece]]:
    with torch.no_grad():
        own = {n: p.detach()[None] for n, p in module.named_parameters()}
        out, tape = forward(operations, own, x.flatten(1), training=False)
        root = columns(out[0])
        g = root.movedim(2, 0).contiguous()  # (K, B, C)
        wanted = {group.names[0]: group for group in plan.groups}
        left, pieces, held = set(wanted), {}, []
        fresh: Tensor | None = None  # a gradient that nothing else holds, which may be multiplied in place
        for op, kept in zip(reversed(operations), reversed(tape), strict=True):
            if op.kind in {"affine", "add input"}:
                name = op.name + "weight"
                if name in wanted:
                    columns_last = g.movedim(0, 1)[:, :, None, None]
                    pieces[name] = Affine(kept[0][:, None, None], columns_last, wanted[name].joined)
                    left.discard(name)
                if not left:
                    break
                if op.kind == "affine":
                    g = fresh = g @ own[name][0]
            elif op.kind == "add held":
                held.append(g)
                fresh = None
            elif op.kind == "hold":
                g = g + held.pop()
            elif op.kind != "dropout":
                slope = _derivative(op.kind, kept[0])
                g = g * slope if fresh is not g else g.mul_(slope)
    return out[0], root, pieces


def _derivative(kind: str, kept: Tensor) -> Tensor:
    """Of a nonlinearity, from what the forward pass kept of it: its output, or for gelu and silu its input."""
    match kind:
        case "relu":
            return (kept > 0).to(kept.dtype)
        case "tanh":
            return 1 - kept.square()
        case "sigmoid":
            return kept * (1 - kept)
        case "gelu":
            return torch.ops.aten.gelu_backward(torch.ones_like(kept), kept)
        case _:
            return torch.ops.aten.silu_backward(torch.ones_like(kept), kept)


def chunks(rows: int, size: int) -> Iterator[Tensor]:
    """Row numbers, so many at a time."""
    return iter(torch.arange(rows).split(max(1, size)))
