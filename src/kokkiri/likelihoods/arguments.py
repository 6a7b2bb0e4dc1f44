"""What every likelihood asks of its arguments, and how its parameters are put next to its outputs.

Checks in `log_prob` look at shapes only, so that they cost nothing and hold under torch.func; values are looked at
once, by `check`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from kokkiri.errors import DataError, ShapeError, UsageError
from kokkiri.numerics.distributions import LOG_SCALE_LIMIT
from kokkiri.types import Params


def positive(owner: str, name: str, value: float, above: float = 0.0) -> None:
    """A parameter whose log (of its excess over `above`) is learned must lie where that log is not clamped."""
    low, high = math.exp(-LOG_SCALE_LIMIT), math.exp(LOG_SCALE_LIMIT)
    if not above + low <= value <= above + high:
        raise UsageError(
            f"{owner} got {name}={value!r}",
            needs=f"{name} > {above:g}, and at most {high:.1e}" if above else f"{low:.1e} <= {name} <= {high:.1e}",
            found=repr(value),
            fix=f"{owner}({name}={above + 1:g}) and, where the target has other units, Rescaled(…)",
        )


def targets(owner: str, output: Tensor, y: Tensor, per_target: int = 1) -> Tensor:
    """The targets as (B, T), for an output (B, per_target · T); y may be (B,) where T = 1."""
    t = y.shape[1] if y.ndim == 2 else 1
    if output.ndim == 2 and y.ndim in {1, 2} and output.shape == (y.shape[0], per_target * t):
        return y[:, None] if y.ndim == 1 else y
    each = "one output a target" if per_target == 1 else f"{per_target} outputs a target"
    rows = output.shape[:1] == y.shape[:1]
    raise ShapeError(
        f"{owner}.log_prob got output {tuple(output.shape)}, y {tuple(y.shape)}",
        needs=f"output (B, {'' if per_target == 1 else per_target}T) and y (B, T), or y (B,) for T = 1: {each}",
        found=_found(output, y, f" for {t} target{'s' * (t > 1)}"),
        fix=f"kk.networks.MLP(…, outputs={per_target * t})" if rows else "pass one output a row of y",
    )


def one_per_row(owner: str, output: Tensor, y: Tensor, outputs: int | None) -> None:
    """Classes: output (B, outputs), or (B, C) with C >= 2 for None, and y (B,)."""
    wide = output.shape[1] if output.ndim == 2 else 0
    if y.shape == output.shape[:1] and (wide == outputs if outputs is not None else wide >= 2):
        return
    one = outputs == 1
    fix = "kk.networks.MLP(…, outputs=1), or use kk.Categorical()"
    if not one:
        fix = "kk.networks.MLP(…, outputs=2), or use kk.Bernoulli()"
    if y.shape != output.shape[:1]:
        fix = "pass one class number a row of output"
    raise ShapeError(
        f"{owner}.log_prob got output {tuple(output.shape)}, y {tuple(y.shape)}",
        needs="output (B, 1) and y (B,)" if one else "output (B, C) with C >= 2, and y (B,)",
        found=_found(output, y),
        fix=fix,
    )


def _found(output: Tensor, y: Tensor, what_for: str = "") -> str:
    if output.ndim != 2:
        return f"an output with {output.ndim} axes"
    if output.shape[:1] != y.shape[:1]:
        return f"{len(output)} rows of output, {len(y) if y.ndim else 'a single number'} of y"
    if y.ndim > (2 if what_for else 1):
        return f"y with {y.ndim} axes"
    wide = output.shape[1]
    return f"the last layer has {'one output' if wide == 1 else f'{wide} outputs'}{what_for}"


def draws(owner: str, outputs: Tensor, per_target: int = 1) -> Tensor:
    """Outputs (S, B, C) in float64."""
    if outputs.ndim != 3 or outputs.shape[2] % per_target or not outputs.shape[2]:
        raise ShapeError(
            f"{owner}.predictive got outputs {tuple(outputs.shape)}",
            needs="outputs (S, B, C), S draws of the parameters" + (f", C = {per_target}T" if per_target > 1 else ""),
            found=f"{outputs.ndim} axes" if outputs.ndim != 3 else f"{outputs.shape[2]} outputs",
            fix="outputs[None] for a single draw" if outputs.ndim == 2 else "see the likelihood's `outputs`",
        )
    return outputs.double()


def single(owner: str, outputs: Tensor) -> None:
    """Outputs (S, B, 1)."""
    if outputs.ndim == 3 and outputs.shape[2] != 1:
        raise ShapeError(
            f"{owner}.predictive got outputs {tuple(outputs.shape)}",
            needs="outputs (S, B, 1)",
            found=f"{outputs.shape[2]} outputs",
            fix="kk.networks.MLP(…, outputs=1), or use kk.Categorical()",
        )


def learned(parameter: Tensor | None, start: float, output: Tensor, lowest: float = -LOG_SCALE_LIMIT) -> Tensor:
    """A parameter on the log scale, clamped, that broadcasts with outputs (B, T) of one model or (S, B, T) of S draws.

    parameter: () for one model, () or (S,) for draws; None: the value it starts from.
    """
    if parameter is None:
        return output.new_full((), start)
    if parameter.ndim and (output.ndim != 3 or parameter.shape != output.shape[:1]):
        raise ShapeError(
            f"a likelihood was bound to parameters {tuple(parameter.shape)}",
            needs="() for one model, (S,) for S draws",
            found=f"output {tuple(output.shape)}",
            fix="bind the parameters of the models that gave the outputs",
        )
    value = parameter.to(output.dtype).clamp(lowest, LOG_SCALE_LIMIT)
    return value[:, None, None] if value.ndim else value


def column(y: Tensor) -> Tensor:
    """Targets as (B, T)."""
    return y[:, None] if y.ndim == 1 else y


def bound(owner: str, expected: tuple[str, ...], given: Params) -> Params:
    """What `bind` was given, which must be what `parameters` names."""
    if len(given) != len(expected) or any(name not in given for name in expected):
        raise UsageError(
            f"{owner}.bind got {', '.join(sorted(given)) or 'nothing'}",
            needs=", ".join(expected) or "no parameters: it learns none",
            found=", ".join(sorted(given)) or "none",
            fix="pass a value for each of likelihood.parameters(), their prefix taken off",
        )
    return given


def support(owner: str, y: Tensor, inside: Tensor, needs: str, fix: str) -> None:
    """Refuse the first row whose y is not in the support."""
    wrong = ~(inside.flatten(1).all(1) if inside.ndim > 1 else inside)
    if bool(wrong.any()):
        row = int(wrong.nonzero()[0])
        raise DataError(
            f"{owner} cannot give y in row {row} (rows count from 0)", needs=needs, found=f"{y[row].tolist()}", fix=fix
        )


def finite(owner: str, y: Tensor) -> None:
    """Values must be numbers."""
    fix = "leave out the rows without a target, or mend them"
    support(owner, y, torch.isfinite(y), "finite numbers", fix)


def counts(owner: str, y: Tensor) -> None:
    """Values must be 0, 1, 2, …"""
    inside = torch.isfinite(y) & (y >= 0) & (y == torch.round(y)) if y.is_floating_point() else y >= 0
    support(owner, y, inside, "whole numbers >= 0", "kk.Gaussian() takes any number")
