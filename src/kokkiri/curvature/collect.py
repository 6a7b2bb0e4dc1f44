"""The primitive that all curvature stands on: a pass that gives each group's piece, for K columns at the outputs.

    columns(outputs) -> (B, C, K): S with S Sᵀ the curvature of the likelihood (its exact square root), a few random
    combinations of its columns, or the identity (for predictions).

No gradient with respect to a parameter is taken but of opaque ones. A network of affine maps and nonlinearities is
walked by hand, all columns in one product; others are differentiated to the outputs of their calls.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.func import functional_call, vjp, vmap

from kokkiri.curvature.by_hand import Columns, Program, hand_plan, walk_by_hand
from kokkiri.curvature.pieces import Piece, Vector
from kokkiri.curvature.plan import Group, Plan, piece, plan_of
from kokkiri.curvature.probe import TOLERANCE, calls_of, dense, edges_into, fits, require_alone, require_rows, run
from kokkiri.curvature.tape import Tape
from kokkiri.errors import Unsupported

Right: TypeAlias = dict[tuple[str, int, int], bool]  # whether lifting over columns or data was right for (B, K)


@dataclass(frozen=True)
class Collector:
    """A module with its own weights in evaluation mode, the plan of its parameters, and how it is walked."""

    module: nn.Module
    plan: Plan
    operations: Program | None = None
    right: Right = field(default_factory=dict, repr=False, compare=False)

    def __call__(self, x: Any, columns: Columns, *, squares: bool = False) -> tuple[Tensor, Tensor, dict[str, Piece]]:
        """(B, ...) inputs -> outputs (B, C), columns (B, C, K), and the piece of each group under its first name.

        squares: the pieces will only be asked for sums of squares over columns, which may be cheaper.
        """
        if self.operations is not None:
            return walk_by_hand(self.module, self.operations, self.plan, x, columns, squares=squares)
        return _by_autograd(self, x, columns)


def collector(module: nn.Module, x: Any, names: tuple[str, ...], flat_index: Callable[[str], Tensor]) -> Collector:
    """A collector for the named parameters. x: some rows of inputs; the module must be in evaluation mode.

    Raises Unsupported where the outputs are not one row of numbers for each row of inputs.
    """
    by_hand = hand_plan(module, x, names, flat_index) if isinstance(x, Tensor) else None
    return Collector(module, *by_hand) if by_hand else Collector(module, plan_of(module, x, names, flat_index))


def _by_autograd(collect: Collector, x: Any, columns: Columns) -> tuple[Tensor, Tensor, dict[str, Piece]]:
    module, plan = collect.module, collect.plan
    tape, out = run(module, x, copies=plan.copies)
    require_rows(out, len(x))
    root = columns(out.detach())
    known = [g for g in plan.groups if g.form != "opaque"]
    pieces: dict[str, Piece] = {}
    if known:
        _require_plan(module, plan, tape, out)
        used = sorted({i for g in known for i in g.uses})
        found = dict(zip(used, _gradients(out, [tape.uses[i].output for i in used], root, collect.right), strict=True))
        grads = [found.get(i) for i in range(len(tape.uses))]
        with torch.no_grad():
            pieces = {g.names[0]: piece(g, plan, tape.uses, grads, len(out)) for g in known}
    opaque = [g for g in plan.groups if g.form == "opaque"]
    if opaque:
        pieces |= _datum_by_datum(module, opaque, x, root, out, collect.right)
    return out.detach(), root, pieces


def _require_plan(module: nn.Module, plan: Plan, tape: Tape, out: Tensor) -> None:
    """Raises Unsupported where a batch is not computed as the first rows were."""
    edges = edges_into(module, out)
    same = calls_of(tape) == plan.calls and all(edges.get(n, 0) == many for n, many in plan.edges)
    used = {i for g in plan.groups for i in g.uses}
    if not same or not all(fits(tape.uses[i], plan.rules[i], len(out)) for i in used):
        raise Unsupported(
            "the network took another path than on the first rows", needs="the same calls for every batch",
            found=f"{len(tape.uses)} calls of known functions, then {len(plan.calls)}",
            fix="posterior=Ensemble(5), or one path for all inputs",
        )  # fmt: skip


def _gradients(out: Tensor, at: list[Tensor], root: Tensor, right: Right) -> list[Tensor | None]:
    """(K, ...) gradients of each column at some tensors of the graph."""
    seeds = root.movedim(2, 0)
    back = partial(torch.autograd.grad, out, at, retain_graph=True, allow_unused=True)
    key = ("columns", len(out), len(seeds))
    if len(seeds) > 1 and right.get(key, True):
        with contextlib.suppress(RuntimeError), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found: list[Tensor | None] = list(back(seeds, is_grads_batched=True))
            if key not in right:
                share = _share(len(seeds), root)
                sums = [None if g is None else torch.tensordot(share, g, 1) for g in found]
                right[key] = all(map(_near, sums, back(root @ share)))
            if right[key]:
                return found
        right[key] = False  # some backward passes have no rule for a batch of columns, or a wrong one
    each = [back(s) for s in seeds]
    return [None if column[0] is None else torch.stack(column) for column in zip(*each, strict=True)]


def _share(n: int, like: Tensor) -> Tensor:
    """(n,) numbers for a random sum in which no two mistakes cancel."""
    return torch.rand(n, generator=torch.Generator().manual_seed(11), dtype=torch.float64).add(0.5).to(like)


def _near(said: Tensor | None, true: Tensor | None) -> bool:
    if said is None or true is None:
        return said is None and true is None
    tolerance = TOLERANCE if true.dtype == torch.float32 else 1e-8
    return bool((said - true).abs().amax() <= tolerance * true.abs().amax().clamp(min=1e-30))


def _datum_by_datum(
    module: nn.Module, groups: list[Group], x: Any, root: Tensor, together: Tensor, right: Right
) -> dict[str, Piece]:
    """Gradients (B, K, P) of parameters that went through functions that are not known.

    together: the outputs of all rows in one batch. Raises Unsupported where a row alone is answered otherwise.
    """
    parameters = dict(module.named_parameters())
    wanted: list[Tensor] = [parameters[g.names[0]] for g in groups]
    everything = {n: p.detach() for n, p in module.named_parameters()} | dict(module.named_buffers())
    own = {g.names[0]: everything[g.names[0]] for g in groups}

    def one(row: Tensor, seeds: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        answer = lambda p: functional_call(module, {**everything, **p}, (row[None],))[0]
        out, back, *_ = vjp(answer, own)
        return out, vmap(lambda s: back(s)[0])(seeds)

    seeds = root.mT  # (B, K, C)
    key = ("data", len(root), root.shape[2])
    if right.get(key, True):
        with contextlib.suppress(RuntimeError, TypeError, ValueError, Unsupported), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch says what is slow to lift; what cannot be is done one by one
            out, found = vmap(one)(x, seeds)
            require_alone(together.detach(), out.detach())
            gradients = [found[g.names[0]].detach().reshape(*root.mT.shape[:2], -1) for g in groups]
            if key not in right:
                data, columns = _share(len(root), root), _share(root.shape[2], root)
                true = _backward(together, wanted, (root @ columns) * data[:, None])
                sums = [torch.einsum("b,k,bkp->p", data, columns, t) for t in gradients]
                right[key] = all(map(_near, sums, true))
            if right[key]:
                return {g.names[0]: Vector(t) for g, t in zip(groups, gradients, strict=True)}
        right[key] = False
    rows: list[list[Tensor]] = []
    apart: list[Tensor] = []
    for b in range(len(root)):
        with torch.enable_grad():
            out = module(x[b : b + 1])[0]
        apart.append(out.detach())
        each = [_backward(out, wanted, s) for s in seeds[b]]
        rows.append([torch.stack(column) for column in zip(*each, strict=True)])
    require_alone(together.detach(), torch.stack(apart))
    return {g.names[0]: Vector(torch.stack([r[j] for r in rows])) for j, g in enumerate(groups)}


def _backward(out: Tensor, wanted: list[Tensor], seed: Tensor) -> list[Tensor]:
    """(P,) of each parameter, 0 where nothing depends on it."""
    if not out.requires_grad:
        return [torch.zeros_like(p).reshape(-1).detach() for p in wanted]
    found = torch.autograd.grad(out, wanted, seed, retain_graph=True, allow_unused=True)
    return [dense(g, p).reshape(-1) for g, p in zip(found, wanted, strict=True)]


def chunks(rows: int, size: int) -> Iterator[Tensor]:
    """Row numbers, so many at a time."""
    return iter(torch.arange(rows).split(max(1, size)))
