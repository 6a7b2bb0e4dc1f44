"""Probabilities as people hand them in: numbers, lists, tensors, names with numbers; checked, and in float64."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from kokkiri.errors import ShapeError, UsageError, nearest

SUM = 1e-6  # how far from one a sum may be: six digits of 1/3 are thirds


def numbers(what: str, value: Any) -> Tensor:
    """A float64 tensor, or four lines that say what is no number."""
    try:
        return torch.as_tensor(value, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError) as error:
        raise UsageError(
            f"{what} is not made of numbers", needs="a number, a list of numbers, or a tensor", found=repr(value)[:80],
            fix="plain numbers such as 0.25",
        ) from error  # fmt: skip


def probability(what: str, value: Any, *, inside: bool = False) -> Tensor:
    """A float64 tensor of probabilities; `inside`: neither 0 nor 1.

    >>> probability("sensitivity", 0.99)
    tensor(0.9900, dtype=torch.float64)
    """
    p = numbers(what, value)
    wrong = ~((p > 0) & (p < 1)) if inside else ~((p >= 0) & (p <= 1))  # written so that NaN is wrong, too
    if bool(wrong.any()):
        first = float(p[wrong].flatten()[0])
        percent = f"{first / 100:g}, if that was meant in percent" if 2 <= first < 100 else "a number such as 0.1"
        raise UsageError(
            f"{what} cannot be {first:g}",
            needs="a probability above 0 and below 1" if inside else "a probability, from 0 to 1",
            found=f"{first:g}" + (f" and {int(wrong.sum()) - 1:,} more that are none" if int(wrong.sum()) > 1 else ""),
            fix="without any doubt beforehand no evidence counts: name a number between" if inside and first in {0, 1}
            else percent,
        )  # fmt: skip
    return p


def distribution(what: str, p: Tensor, names: Sequence[str]) -> Tensor:
    """(..., H) probabilities that add up to one along the last axis, made exact; `names` for the message."""
    total = p.sum(-1)
    wrong = (total - 1).abs() > SUM
    if bool(wrong.any()):
        row = p.reshape(-1, p.shape[-1])[int(wrong.flatten().nonzero()[0])]
        shown = [f"{n} {v:g}" for n, v in zip(names, row.tolist(), strict=True)]
        fixed = [f"{n}={v:.4g}" for n, v in zip(names, (row / row.sum()).tolist(), strict=True)]
        raise UsageError(
            f"{what} adds up to {float(row.sum()):.6g}", needs="probabilities that add up to 1",
            found=", ".join(shown[:8]) + (", …" if len(shown) > 8 else ""),
            fix=",".join(fixed[:8]) if float(row.sum()) > 0 and len(fixed) <= 8 else "divide them by their sum",
        )  # fmt: skip
    return p / total[..., None]


def by_name(what: str, given: Mapping[str, Any], names: Sequence[str], kind: str = "hypothesis") -> Tensor:
    """Values by name as a tensor with the names along its last axis.

    Raises UsageError for names that are unknown, with the nearest, and for names that are missing.
    """
    given = {str(name): value for name, value in given.items()}
    for name in given:
        must_know(name, names, kind)
    if missing := [n for n in names if n not in given]:
        raise UsageError(
            f"{what} says nothing of '{missing[0]}'", needs=f"a value for each {kind}: {', '.join(names)}",
            found=", ".join(given) or "none", fix=f"add {', '.join(missing)}",
        )  # fmt: skip
    values = [numbers(f"{what} of '{n}'", given[n]) for n in names]
    try:
        return torch.stack(torch.broadcast_tensors(*values), -1)
    except RuntimeError as error:
        raise ShapeError(
            f"{what} has values that do not fit together", needs="numbers, or tensors of one shape",
            found=", ".join(f"{n} {tuple(v.shape)}" for n, v in zip(names, values, strict=True)),
            fix="one value a case for each of them",
        ) from error  # fmt: skip


def must_know(name: str, names: Iterable[str], kind: str) -> None:
    """An error with the nearest name, where there is no such one."""
    known = list(names)
    if name not in known:
        raise UsageError(
            f"there is no {kind} '{name}'", needs=f"the name of a{'n' * (kind[0] in 'aeiou')} {kind}",
            found=f"'{name}'", fix=nearest(str(name), known),
        )  # fmt: skip


def place_of(name: str, names: Sequence[str], kind: str = "hypothesis") -> int:
    """Where a name stands."""
    must_know(name, names, kind)
    return list(names).index(name)


def logarithms(what: str, values: Tensor) -> Tensor:
    """Logarithms: below +∞, and no NaN; -∞ is the logarithm of 0."""
    wrong = values.isnan() | (values == math.inf)
    if bool(wrong.any()):
        raise UsageError(
            f"{what} has a logarithm that is {float(values[wrong].flatten()[0]):g}",
            needs="numbers, or -inf for what is impossible", found=f"{int(wrong.sum()):,} of {values.numel():,}",
            fix="look at what made them: a density of infinity, or the log of a number below 0",
        )  # fmt: skip
    return values


def log_likelihood(given: Any, names: Sequence[str], before: Sequence[Tensor], *, log: bool) -> Tensor:
    """(..., H) log-likelihoods of one observation, of which probabilities or, with `log`, their logarithms are given.

    before: what it must broadcast with.
    """
    what = "the likelihood"
    values = by_name(what, given, names) if isinstance(given, Mapping) else numbers(what, given)
    if values.ndim == 0 or values.shape[-1] != len(names):
        raise ShapeError(
            f"a likelihood {tuple(values.shape)} for {len(names)} hypotheses",
            needs=f"one value for each along the last axis, (..., {len(names)})",
            found=f"the hypotheses {', '.join(names[:8])}",
            fix="several observations in turn are several arguments: update(first, second)",
        )  # fmt: skip
    _fits(values, before)
    if log:
        return logarithms(what, values)
    if bool((values > 1).any()):
        raise UsageError(
            f"a likelihood cannot be {float(values[values > 1][0]):g}", needs="a probability, from 0 to 1",
            found=f"{float(values[values > 1][0]):g}", fix="of densities take logarithms: update(…, log=True)",
        )  # fmt: skip
    return probability("a likelihood", values).log()


def _fits(values: Tensor, before: Sequence[Tensor]) -> None:
    """An error where cases do not broadcast."""
    shapes = [tuple(t.shape) for t in before]
    try:
        torch.broadcast_shapes(values.shape, *shapes)
    except RuntimeError as error:
        raise ShapeError(
            f"a likelihood {tuple(values.shape)} does not fit the cases before it",
            needs="axes before the last that broadcast", found=f"{tuple(torch.broadcast_shapes(*shapes))} so far",
            fix="one line a case in all of them",
        ) from error  # fmt: skip
