"""Networks of affine maps and nonlinearities, walked by hand: all columns go back through a layer in one product.

Such a network is read once as a program (`networks.dense`), and needs no watching: its plan is its list of layers. The
program must give the module's own outputs on the first rows, and its pieces autograd's gradients there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor, nn

from kokkiri.curvature.pieces import Affine, Piece
from kokkiri.curvature.plan import PROBE, Group, Plan, place
from kokkiri.curvature.probe import TOLERANCE
from kokkiri.networks.dense import Operation, program

Columns: TypeAlias = Callable[[Tensor], Tensor]
Program: TypeAlias = tuple[Operation, ...]
KNOWN = {"affine", "relu", "tanh", "sigmoid", "gelu", "silu", "dropout", "hold", "add held", "add input"}
WITH_WEIGHT = {"affine", "add input"}
FROM_OUTPUT = {"relu", "tanh", "sigmoid"}  # whose derivative is told by their output


def hand_plan(
    module: nn.Module, x: Tensor, names: tuple[str, ...], flat_index: Callable[[str], Tensor]
) -> tuple[Plan, Program] | None:
    """The plan and the program of a network that can be walked by hand; None for others."""
    operations = program(module)
    if operations is None or any(op.kind not in KNOWN for op in operations):
        return None
    shapes = {n: p.shape for n, p in module.named_parameters()}
    free = set(names)
    groups: list[Group] = []
    for op in operations:
        weight, bias = op.name + "weight", op.name + "bias"
        if op.kind in WITH_WEIGHT and weight in free:
            outputs, inputs = shapes[weight]
            joined = bias in free
            groups.append(Group("affine", (weight, bias)[: 1 + joined], (1, outputs, inputs + joined)))
            free -= {weight, bias}
    if free or not groups:  # a bias whose weight is held fixed
        return None
    order = {name: i for i, name in enumerate(names)}
    groups.sort(key=lambda g: order[g.names[0]])
    layers = [shapes[op.name + "weight"] for op in operations if op.kind in WITH_WEIGHT]
    plan = Plan(tuple(groups), floats=(sum(s[0] for s in layers), sum(s[1] for s in layers)))
    plan.index.update({g.names[0]: place(g, flat_index) for g in groups})
    return (plan, operations) if _told(module, operations, plan, x[:PROBE]) else None


def _told(module: nn.Module, operations: Program, plan: Plan, x: Tensor) -> bool:
    """Whether the program gives the module's outputs for these rows, one row of numbers each, and its gradients."""
    with torch.enable_grad():
        out = module(x)
    first = next(op for op in operations if op.kind == "affine")
    if out.ndim != 2 or len(out) != len(x) or x[0].numel() != module.get_parameter(first.name + "weight").shape[1]:
        return False
    seed = torch.randn(out.shape, generator=torch.Generator().manual_seed(7), dtype=torch.float64).to(out)
    names = [name for g in plan.groups for name in g.names]
    gradients = torch.autograd.grad(out, [module.get_parameter(n) for n in names], seed)
    true = dict(zip(names, gradients, strict=True))
    said, _, pieces = walk_by_hand(module, operations, plan, x, lambda _: seed[..., None])
    tolerance = TOLERANCE if out.dtype == torch.float32 else 1e-8
    near = lambda a, b: bool((a - b).abs().amax() <= tolerance * b.abs().amax().clamp(min=1e-30))
    return near(said, out.detach()) and all(
        near(pieces[g.names[0]].total(), place(g, true.__getitem__)) for g in plan.groups
    )


def walk_by_hand(
    module: nn.Module, operations: Program, plan: Plan, x: Tensor, columns: Columns, *, squares: bool = False
) -> tuple[Tensor, Tensor, dict[str, Piece]]:
    """(B, ...) inputs -> outputs (B, C), columns (B, C, K), and the piece of each group under its first name.

    squares: the pieces are only asked for sums of squares over columns; the lowest may then have one column, as long as
    all of them, so that they are never held together.
    """
    with torch.no_grad():
        own = {n: p.detach() for n, p in module.named_parameters()}
        out, tape = _forward(operations, own, x.flatten(1))
        root = columns(out)
        g = root.movedim(2, 0).contiguous()  # (K, B, C)
        wanted = {group.names[0]: group for group in plan.groups}
        left, pieces, held = set(wanted), {}, []
        fresh: Tensor | None = None  # a gradient that nothing else holds, which may be multiplied in place
        for i in reversed(range(len(operations))):
            op, kept = operations[i], tape[i]
            if op.kind in WITH_WEIGHT:
                name = op.name + "weight"
                if name in wanted:
                    columns_last = g.movedim(0, 1)[:, :, None, None]
                    pieces[name] = Affine(kept[:, None, None], columns_last, wanted[name].joined)
                    left.discard(name)
                if not left:
                    break
                if op.kind == "affine":
                    short = squares and not held and len(left) == 1 and _next(operations[:i]) in left
                    g = fresh = _length(g, own[name]) if short else g @ own[name]
            elif op.kind == "add held":
                held.append(g)
                fresh = None
            elif op.kind == "hold":
                g = g + held.pop()
            elif op.kind != "dropout":
                slope = _derivative(op.kind, kept)
                g = g * slope if fresh is not g else g.mul_(slope)
    return out, root, pieces


def _next(below: Program) -> str | None:
    """The next weight that gradients come to, where all of them come straight there."""
    for op in reversed(below):
        if op.kind in WITH_WEIGHT:
            return op.name + "weight"
        if op.kind in {"hold", "add held"}:
            return None
    return None


def _length(g: Tensor, weight: Tensor) -> Tensor:
    """(K, B, C) and (C, D) -> (1, B, D): how long the K columns are together behind a layer, one after the other."""
    total: Tensor | None = None
    for column in g:
        behind = column @ weight
        total = behind.square_() if total is None else total.addcmul_(behind, behind)
    assert total is not None
    return total.sqrt_()[None]


def _forward(operations: Program, own: dict[str, Tensor], x: Tensor) -> tuple[Tensor, list[Tensor]]:
    """(B, D) -> (B, C), and what the way back needs of each operation, in evaluation mode."""
    linear = lambda name, h: nn.functional.linear(h, own[name + "weight"], own.get(name + "bias"))
    plain = {"tanh": torch.tanh, "sigmoid": torch.sigmoid, "gelu": nn.functional.gelu, "silu": nn.functional.silu}
    h, fresh = x, False  # whether nobody else holds h
    tape: list[Tensor] = []
    held: list[Tensor] = []
    for op in operations:
        before = h
        match op.kind:
            case "affine":
                h = linear(op.name, h)
            case "relu":
                h = h.relu_() if fresh else torch.relu(h)
            case "hold":
                held.append(h)
            case "add held":
                h = h + held.pop()
            case "add input":
                h = h + linear(op.name, x)
            case "dropout":
                pass
            case kind:
                h = plain[kind](h)
        fresh = op.kind == "affine"
        tape.append(x if op.kind == "add input" else h if op.kind in FROM_OUTPUT else before)
    return h, tape


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
