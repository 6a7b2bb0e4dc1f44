"""Families as plain-text tables of at most 80 columns."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from itertools import product
from typing import Any

from torch import Tensor

from kokkiri import phrases

SHOWN = 12  # lines of parameters; a batch may have thousands


def table(family: Any, following: tuple[str, Any] | None = None, level: float = 0.95) -> str:
    """Each parameter with mean, standard deviation, central interval and mode; the next row; what was learnt."""
    lines = lines_of(family, level)
    hidden = len(lines) - SHOWN
    lines = lines[:SHOWN]
    if following is not None:
        lines += _predicted(family, *following, level)[: SHOWN // 2]
    header = ["", "mean", "sd", *ends(level), "mode"]
    out = [wrapped(repr(family)), phrases.table(header, lines)]
    if hidden > 0:
        out.append(f"and {phrases.count(hidden, 'more line')}")
    if family.why_no_mode:
        out.append(wrapped(f"mode: {family.why_no_mode}"))
    return "\n".join([*out, *map(wrapped, _learnt(family))])


def ends(level: float) -> tuple[str, str]:
    """The ends of a central interval.

    >>> ends(0.9)
    ('5 %', '95 %')
    """
    return f"{50 * (1 - level):.4g} %", f"{50 * (1 + level):.4g} %"


def lines_of(family: Any, level: float) -> list[list[str]]:
    """One line a parameter and member of the batch: name, mean, sd, interval, mode."""
    out = []
    for name, dist in family.marginals.items():
        (low, high), mode = dist.interval(level), mode_of(family, name, dist.mean)
        columns = [t.expand(dist.mean.shape).reshape(-1).tolist() for t in (dist.mean, dist.sd, low, high, mode)]
        labels = labels_of(family, name, dist.mean)
        out += [[label, *_numbers(values)] for label, *values in zip(labels, *columns, strict=True)]
    return out


def mode_of(family: Any, name: str, like: Tensor) -> Tensor:
    """The mode of one of several parameters, or of the only one."""
    mode = family.mode
    if not isinstance(mode, Tensor):
        mode = mode[list(family.marginals).index(name)]
    return mode.diagonal(dim1=-2, dim2=-1) if mode.ndim > like.ndim else mode


def labels_of(family: Any, name: str, like: Tensor) -> list[str]:
    """probability; rate[2] of the third family; weight of age: the last axis by its names, where it has any."""
    own: Sequence[str] = getattr(family, "names", ()) if like.ndim > len(family.batch) else ()
    axes: list[Sequence[str]] = [[str(i) for i in range(n)] for n in like.shape[: like.ndim - bool(own)]]
    out = []
    for place in product(*axes, *([own] if own else [])):
        index = place[:-1] if own else place
        out.append((f"{name} of {place[-1]}" if own else name) + (f"[{', '.join(index)}]" if index else ""))
    return out


def no_mode(mode: Tensor, flat: Tensor, otherwise: str) -> str:
    """Why there is no mode, if there is none, in words.

    >>> import torch
    >>> no_mode(torch.tensor(math.nan), torch.tensor(True), "")
    'none where the density is flat: every value is as good'
    """
    missing = mode.isnan()
    if not bool(missing.any()):
        return ""
    lacking = missing.reshape(flat.shape) if missing.ndim == flat.ndim else missing.any(-1)
    said = []
    if bool((lacking & flat).any()):
        said.append("none where the density is flat: every value is as good")
    if bool((lacking & ~flat).any()):
        said.append(f"none where {otherwise}")
    return "; ".join(said)


def number(value: float, spread: float) -> str:
    """A number to three digits of its spread.

    >>> number(170.23456, 0.031), number(0.25, math.inf), number(math.nan, 1.0), number(123456789.0, 2000.0)
    ('170.2346', '0.250', 'none', '123,456,789')
    """
    if math.isnan(value):
        return "none"
    if not (0 < spread < math.inf) or not math.isfinite(value):
        return phrases.plain(value)
    decimals = max(0, 2 - math.floor(math.log10(spread)))
    if decimals > 8 or abs(value) >= 1e15:
        return f"{value:.6g}"
    return f"{value:,.{decimals}f}" if abs(value) >= 0.5 * 10.0**-decimals else f"{0:.{decimals}f}"


def _numbers(values: Sequence[float]) -> list[str]:
    """Mean, sd, low, high, mode."""
    spread = values[1] if 0 < values[1] < math.inf else (values[3] - values[2]) / 4
    sd = phrases.plain(values[1]) if not math.isnan(values[1]) else "none"
    return [number(values[0], spread), sd, *(number(v, spread) for v in values[2:])]


def _predicted(family: Any, name: str, dist: Any, level: float) -> list[list[str]]:
    """The next row, where it is a single value."""
    low, high = dist.interval(level)
    columns = [t.expand(dist.mean.shape).reshape(-1).tolist() for t in (dist.mean, dist.sd, low, high)]
    whole = all(float(v).is_integer() for v in (*columns[2], *columns[3]))
    labels = [label.replace(" of ", " ") for label in labels_of(family, name, dist.mean)]
    out = []
    for label, *values in zip(labels, *columns, strict=True):
        found = _numbers([*values, math.nan])[:-1]
        ends = [phrases.plain(v, 0) if whole else text for v, text in zip(values[2:], found[2:], strict=True)]
        out.append([label, *found[:2], *ends, ""])
    return out


def _learnt(family: Any) -> list[str]:
    """How many rows, the evidence, and how much they taught."""
    past = family.history
    if past.prior is None:
        return ["no rows learnt: this is a prior"]
    rows, nats = past.rows.reshape(-1), past.log_evidence.reshape(-1)
    if len(nats) == 1:
        gained = f"{phrases.plain(family.divergence(past.prior).item())} nats of information gained"
        evidence = f"log evidence {phrases.plain(nats.item(), 2)} nats"
        return [f"{count(rows[0])} learnt since {past.prior!r}: {evidence}; {gained}"]
    evidence = f"log evidence {phrases.plain(nats.sum().item(), 2)} nats in all"
    return [f"{len(nats):,} families, {spread(rows)} each: {evidence}"]


def count(rows: Tensor) -> str:
    """So many rows; a weight may be a fraction."""
    n = float(rows)
    return phrases.count(int(n), "row") if n.is_integer() else f"{phrases.plain(n)} rows"


def following(family: Any) -> Any:
    """The distribution of the next row, where it is a single number that needs no inputs; else None."""
    if "weight" in family.marginals:
        return None
    found = family.predictive()
    return found if hasattr(found, "quantile") and found.mean.numel() == 1 else None


def spread(rows: Tensor) -> str:
    """So many rows, or from so many to so many."""
    low, high = rows.min(), rows.max()
    return count(low) if low == high else f"{count(low).split()[0]} to {count(high)}"


def wrapped(text: str) -> str:
    """In lines of at most 78 letters."""
    return "\n".join(textwrap.wrap(text, 78))
