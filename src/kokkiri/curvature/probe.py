"""What runs of a network on a few rows tell: its uses, where the data lie in each, and which rows feel which."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from kokkiri.curvature.patches import Rule, batch_first
from kokkiri.curvature.tape import Tape, Use
from kokkiri.errors import Unsupported

TOLERANCE = 2e-3  # of what must be equal, in float32, relative to its largest entry


def run(module: nn.Module, x: Any, *, copies: bool) -> tuple[Tape, Tensor]:
    """One watched forward pass."""
    with torch.enable_grad(), Tape(module, copies=copies) as tape:
        out = module(x)
    return tape, out


def require_rows(out: Tensor, rows: int) -> None:
    """Raises Unsupported where outputs are not (B, C)."""
    if out.ndim != 2 or len(out) != rows:
        raise Unsupported(
            f"the network's output has shape {tuple(out.shape)} for {rows} rows",
            needs="(B, C): one row of outputs a row of inputs",
            found=f"{out.ndim} axes" if out.ndim != 2 else f"{len(out)} rows of outputs",
            fix="flatten the outputs, or posterior=Ensemble(5)",
        )


def require_alone(out: Tensor, apart: Tensor) -> None:
    """Raises Unsupported where rows are answered otherwise in other company."""
    tolerance = TOLERANCE if out.dtype == torch.float32 else 1e-8
    far = (out - apart).abs().amax() > tolerance * out.abs().amax().clamp(min=1e-30)
    if bool(far):
        raise Unsupported(
            "a row's outputs depend on the other rows, or are drawn at random", needs="one answer for each row",
            found=f"outputs that differ by up to {float((out - apart).abs().amax()):.2g} in other company",
            fix="BatchNorm with running statistics, no dropout in evaluation mode; or posterior=Ensemble(5)",
        )  # fmt: skip


def edges_into(module: nn.Module, out: Tensor) -> dict[str, int]:
    """How many edges of autograd's graph lead to each parameter: by whatever function, seen or not."""
    names = {id(p): name for name, p in module.named_parameters()}
    found: dict[str, int] = {}
    ahead, known = [out.grad_fn], {out.grad_fn}
    while ahead:
        node = ahead.pop()
        for following, _ in () if node is None else node.next_functions:
            leaf = getattr(following, "variable", None)
            if leaf is not None and id(leaf) in names:
                found[names[id(leaf)]] = found.get(names[id(leaf)], 0) + 1
            elif following is not None and following not in known:
                known.add(following)
                ahead.append(following)
    return found


def calls_of(tape: Tape) -> tuple[tuple[str, str, str], ...]:
    """Kinds and names of all uses, in order."""
    return tuple((u.kind, u.weight, u.bias) for u in tape.uses)


def slopes_of(tape: Tape, out: Tensor) -> list[list[Tensor | None]]:
    """Of each row alone: gradients of a random combination of its outputs at the output of every call; None: unused."""
    generator = torch.Generator().manual_seed(7)
    found = []
    for row in range(len(out)):
        seed = torch.zeros_like(out)
        seed[row] = torch.randn(out.shape[1:], generator=generator, dtype=torch.float64).to(out)
        if not tape.uses or not out.requires_grad:
            found.append([None] * len(tape.uses))
            continue
        grads = torch.autograd.grad(out, [u.output for u in tape.uses], seed, retain_graph=True, allow_unused=True)
        found.append(list(grads))
    return found


def seen(tape: Tape, slopes: Sequence[Sequence[Tensor | None]], name: str) -> int:
    """How many uses of a parameter that were written down the outputs depend on."""
    real = [use for i, use in enumerate(tape.uses) if any(s[i] is not None for s in slopes)]
    return sum((use.weight == name) + (use.bias == name) for use in real)


def rules_of(
    module: nn.Module, x: Tensor, tape: Tape, out: Tensor, slopes: Sequence[Sequence[Tensor | None]], *, copies: bool
) -> tuple[Rule | None, ...]:
    """Where the data lie in each use, from these rows and from two of them in the other order; None where unclear."""
    first = [_possible(use, [s[i] for s in slopes], len(x)) for i, use in enumerate(tape.uses)]
    order = list(range(len(x)))[:0:-1] or [0]  # without the first row; one row alone is asked twice
    try:
        again, answer = run(module, x[order], copies=copies)
    except (RuntimeError, ValueError) as error:
        raise Unsupported(
            "the network cannot answer fewer rows than it was given", needs="one answer for each row",
            found=str(error).splitlines()[0], fix="BatchNorm with running statistics; or posterior=Ensemble(5)",
        ) from error  # fmt: skip
    require_rows(answer, len(order))
    require_alone(out[order].detach(), answer.detach())
    if len(x) == 1:
        return tuple(next(iter(found), None) for found in first)  # one row lies everywhere at once
    if calls_of(again) != calls_of(tape) or again.opaque != tape.opaque:
        return (None,) * len(tape.uses)
    turned = slopes_of(again, answer)
    second = [_possible(use, [s[i] for s in turned], len(order)) for i, use in enumerate(again.uses)]
    both = [[rule for rule in one if rule in other] for one, other in zip(first, second, strict=True)]
    return tuple(found[0] if len(found) == 1 else None for found in map(_distinct, both))


def _possible(use: Use, slopes: Sequence[Tensor | None], rows: int) -> list[Rule]:
    """Along which axes of a use the data may lie: where a row's gradient lies in its own part alone."""
    leading = {"linear": use.output.ndim - 1, "lookup": use.output.ndim - 1, "convolution": 1}.get(use.kind, 1)
    if use.kind == "scale" and use.settings["last"]:
        leading = use.output.ndim - use.settings["last"]
    rules: list[Rule] = [("axis", axis) for axis in range(leading)]
    rules += [("outer", 0), ("inner", 0)] if leading else []
    real = [s if s is not None else torch.zeros_like(use.output) for s in slopes]
    return [rule for rule in rules if fits(use, rule, rows) and _apart([batch_first(s, rule, rows) for s in real])]


def fits(use: Use, rule: Rule, rows: int) -> bool:
    """Whether a use's output can hold so many rows in that way."""
    kind, axis = rule
    return use.output.shape[axis] == rows if kind == "axis" else use.output.shape[0] % rows == 0


def _distinct(rules: list[Rule]) -> list[Rule]:
    """Where the first axis is the data's alone, cutting it up says the same."""
    return [r for r in rules if r[0] == "axis"] if ("axis", 0) in rules else rules


def _apart(slopes: Sequence[Tensor]) -> bool:
    return all(not bool(s[[i for i in range(len(s)) if i != row]].any()) for row, s in enumerate(slopes))


def dense(gradient: Tensor | None, parameter: Tensor) -> Tensor:
    """A gradient as autograd gives it: perhaps none, perhaps sparse."""
    if gradient is None:
        return torch.zeros_like(parameter.detach())
    return gradient.to_dense() if gradient.is_sparse else gradient.detach()
