"""What is known of a network's parameters: seen on three rows, and checked there against automatic differentiation.

A parameter whose every use is known belongs to a group with a form; the gradient that the form gives must equal
autograd's on each of the three rows alone, and must not feel the other rows. Two of the rows are run again in the other
order: where data lie must be told by both runs alike, so that an axis that is three long by chance, or gradients that
are zero, prove nothing. Every edge of autograd's graph into a parameter must be a use that was seen. What fails any of
it, or went through a function that is not known, is differentiated datum by datum: slower, and exact.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from kokkiri.curvature.patches import Rule, channels_last, inputs, outputs
from kokkiri.curvature.pieces import Affine, Lookup, Piece, Vector
from kokkiri.curvature.probe import (
    TOLERANCE,
    calls_of,
    dense,
    edges_into,
    require_rows,
    rules_of,
    run,
    seen,
    slopes_of,
)
from kokkiri.curvature.tape import Tape, Use

PROBE = 3  # rows that a plan is made on


@dataclass(frozen=True)
class Group:
    """Some parameters whose curvature is one block.

    form: affine, lookup, vector (known uses), or opaque. names: the parameters, a joined bias last. shape: (G, o, i) of
    the block, a joined bias its last input. uses: which calls, by their place in the order of the forward pass.
    """

    form: str
    names: tuple[str, ...]
    shape: tuple[int, int, int]
    uses: tuple[int, ...] = ()

    @property
    def joined(self) -> bool:
        """Whether a bias is part of an affine block."""
        return self.form == "affine" and len(self.names) == 2

    @property
    def label(self) -> str:
        """How the record speaks of it."""
        return self.names[0].removesuffix(".weight") if self.joined else self.names[0]


@dataclass(frozen=True)
class Plan:
    """How a network's curvature is collected. calls: kinds and names of all calls, in order; rules: where data lie.

    edges: how many of autograd's graph lead to each parameter that has a form. floats: of networks that are walked by
    hand, how many numbers the outputs and the inputs of all layers hold for each row.
    """

    groups: tuple[Group, ...]
    calls: tuple[tuple[str, str, str], ...] = ()
    rules: tuple[Rule, ...] = ()
    copies: bool = False
    edges: tuple[tuple[str, int], ...] = ()
    notes: tuple[str, ...] = ()
    floats: tuple[int, int] | None = None
    index: dict[str, Tensor] = field(
        default_factory=dict, repr=False, compare=False
    )  # of each group in the flat vector

    @property
    def opaque(self) -> tuple[str, ...]:
        """Parameters that are differentiated datum by datum."""
        return tuple(g.names[0] for g in self.groups if g.form == "opaque")


def plan_of(module: nn.Module, x: Any, names: Sequence[str], flat_index: Callable[[str], Tensor]) -> Plan:
    """The plan for some parameters of a module in evaluation mode.

    x: rows of its inputs, of which three are used; names: the parameters whose curvature is wanted; flat_index: where a
    parameter lies in the flat vector. Raises Unsupported where the outputs are not one row of numbers for each row of
    inputs, or where a row's depend on the other rows.
    """
    rows = x[:PROBE]
    tape, out = run(module, rows, copies=False)
    require_rows(out, len(rows))
    copies = tape.overwritten
    if copies:
        tape, out = run(module, rows, copies=True)
    slopes = slopes_of(tape, out)
    rules = rules_of(module, rows, tape, out, slopes, copies=copies)
    edges = edges_into(module, out)
    hidden = {n for n, many in edges.items() if many != seen(tape, slopes, n)}
    groups = _groups(module, tape, rules, names, tape.opaque | hidden)
    trusted, doubted = _checked(module, tape, out, groups, rules, slopes)
    groups = trusted + [_opaque(module, name) for name in doubted]
    notes = tuple(
        f"{g.names[0]}: its gradient is taken datum by datum, since its use is not one of the known ones"
        for g in groups
        if g.form == "opaque"
    )
    kept = Plan(
        tuple(groups), calls_of(tape), tuple(r or ("axis", 0) for r in rules),
        copies, tuple((n, edges.get(n, 0)) for g in trusted for n in g.names), notes,
    )  # fmt: skip
    for g in kept.groups:
        kept.index[g.names[0]] = place(g, flat_index)
    return kept


def piece(group: Group, plan: Plan, uses: Sequence[Use], grads: Sequence[Tensor | None], rows: int) -> Piece:
    """A group's piece from one pass: uses, and gradients (K, ...) at their outputs; None: nothing depends on it."""
    shaped = [_zeros(use, g, grads) for use, g in zip(uses, grads, strict=True)]
    mine = [(uses[i], shaped[i], plan.rules[i]) for i in group.uses]
    name = group.names[0]
    if group.form == "affine":
        a = torch.cat([inputs(use, rule, rows) for use, _, rule in mine], 1)
        g = torch.cat([outputs(g, use, rule, rows) for use, g, rule in mine], 2)
        return Affine(a, g, group.joined)
    if group.form == "lookup":
        tokens, g = [], []
        for use, slope, rule in mine:
            token = _tokens(use, rule, rows)
            tokens.append(torch.where(token == use.settings["ignored"], -1, token))
            g.append(channels_last(slope, use, rule, rows))
        return Lookup(torch.cat(tokens, 1), torch.cat(g, 2), mine[0][0].settings["rows"])
    total = sum(_gradient(name, use, g, rule, rows) for use, g, rule in mine)
    assert isinstance(total, Tensor)
    return Vector(total)


def _gradient(name: str, use: Use, g: Tensor, rule: Rule, rows: int) -> Tensor:
    """(B, K, P) of one use of a parameter, as weight or bias."""
    if use.bias == name:
        if use.kind == "convolution":
            return outputs(g, use, rule, rows).sum(2).flatten(2)
        return channels_last(g, use, rule, rows).sum(2)
    if use.kind == "scale":
        kind, axis = rule
        z = use.input
        z = z.movedim(axis, 0) if kind == "axis" else z.unflatten(0, (rows, -1))
        z = z if kind != "inner" else use.input.unflatten(0, (-1, rows)).movedim(1, 0)
        z = z.reshape(rows, 1, -1, z.shape[-1])
        return (channels_last(g, use, rule, rows) * z).sum(2)
    if use.kind == "lookup":
        token = _tokens(use, rule, rows)
        token = torch.where(token == use.settings["ignored"], -1, token)
        return Lookup(token, channels_last(g, use, rule, rows), use.settings["rows"]).gradients()
    return Affine(inputs(use, rule, rows), outputs(g, use, rule, rows)).gradients()


def _tokens(use: Use, rule: Rule, rows: int) -> Tensor:
    kind, axis = rule
    if kind == "axis":
        return use.input.movedim(axis, 0).reshape(rows, -1)
    return use.input.reshape(rows, -1) if kind == "outer" else use.input.reshape(-1, rows).T


def _zeros(use: Use, g: Tensor | None, grads: Sequence[Tensor | None]) -> Tensor:
    if g is not None:
        return g
    k = next((len(t) for t in grads if t is not None), 1)
    return use.output.new_zeros(k, *use.output.shape)


def _groups(
    module: nn.Module, tape: Tape, rules: Sequence[Rule | None], names: Sequence[str], opaque: set[str]
) -> list[Group]:
    shapes = {name: p.shape for name, p in module.named_parameters()}
    at = lambda name, role: tuple(i for i, u in enumerate(tape.uses) if getattr(u, role) == name)
    wanted, done, groups = set(names), set(), []
    sound = lambda name: (
        name not in opaque and all(rules[i] is not None for i in (*at(name, "weight"), *at(name, "bias")))
    )
    for name in names:
        uses, shifts = at(name, "weight"), at(name, "bias")
        if name in done:
            continue
        if not sound(name) or not (uses or shifts):
            groups.append(_opaque(module, name))
            continue
        kinds = {tape.uses[i].kind for i in uses}
        same = len({str(tape.uses[i].settings) for i in uses}) == 1
        size = shapes[name].numel()
        if not shifts and len(kinds) == 1 and same and kinds <= {"linear", "convolution"}:
            g = tape.uses[uses[0]].settings.get("groups", 1)
            o, i = shapes[name][0] // g, shapes[name][1:].numel()
            biases = {tape.uses[j].bias for j in uses}
            bias = next(iter(biases))
            if (
                len(biases) == 1
                and bias in wanted
                and sound(bias)
                and at(bias, "bias") == uses
                and not at(bias, "weight")
            ):
                groups.append(Group("affine", (name, bias), (g, o, i + 1), uses))
                done.add(bias)
            else:
                groups.append(Group("affine", (name,), (g, o, i), uses))
        elif not shifts and kinds == {"lookup"}:
            groups.append(Group("lookup", (name,), (1, *shapes[name]), uses))  # pyright: ignore[reportArgumentType]
        else:
            groups.append(Group("vector", (name,), (1, 1, size), tuple(sorted({*uses, *shifts}))))
    return [g for g in groups if g.names[0] not in done or g.form != "vector"]


def _opaque(module: nn.Module, name: str) -> Group:
    size = dict(module.named_parameters())[name].numel()
    return Group("opaque", (name,), (1, 1, size))


def _checked(
    module: nn.Module, tape: Tape, out: Tensor, groups: list[Group], rules: Sequence[Rule | None],
    slopes: Sequence[Sequence[Tensor | None]],
) -> tuple[list[Group], list[str]]:  # fmt: skip
    """The groups whose gradients are autograd's, and the names of all other parameters."""
    parameters = dict(module.named_parameters())
    plan = Plan(tuple(groups), rules=tuple(r or ("axis", 0) for r in rules))
    generator = torch.Generator().manual_seed(7)
    known = [g for g in groups if g.form != "opaque"]
    names = [name for g in known for name in g.names]
    bad: set[str] = set()
    rows = len(out)
    for row in range(rows if names and out.requires_grad else 0):
        seed = torch.zeros_like(out)
        seed[row] = torch.randn(out.shape[1:], generator=generator, dtype=torch.float64).to(out)
        wanted = [parameters[n] for n in names]
        truth = dict(
            zip(names, torch.autograd.grad(out, wanted, seed, retain_graph=True, allow_unused=True), strict=True)
        )
        for g in known:
            grads = [None if s is None else s[None] for s in slopes[row]]
            said = piece(g, plan, tape.uses, grads, rows).gradients()[:, 0]  # (B, P)
            right = _block([dense(truth[n], parameters[n]) for n in g.names], g)
            scale = right.abs().amax().clamp(min=1e-30)
            tolerance = TOLERANCE if right.dtype == torch.float32 else 1e-8
            if bool((said.sum(0) - right).abs().amax() > tolerance * scale) or bool(
                said[[r for r in range(rows) if r != row]].any()
            ):
                bad |= set(g.names)
    opaque = [n for g in groups if g.form == "opaque" for n in g.names]
    return [g for g in known if not bad & set(g.names)], sorted(bad) + opaque


def _block(parts: Sequence[Tensor], group: Group) -> Tensor:
    """Parameters in the order of their block, (P,)."""
    if group.form != "affine":
        return torch.cat([p.reshape(-1) for p in parts])
    g, o, _ = group.shape
    weight = parts[0].reshape(g, o, -1)
    return (torch.cat([weight, parts[1].reshape(g, o, 1)], -1) if group.joined else weight).reshape(-1)


def place(group: Group, of: Callable[[str], Tensor]) -> Tensor:
    """What belongs to the parameters of a group, in the order of its block, (P,)."""
    return _block([of(name) for name in group.names], group)
