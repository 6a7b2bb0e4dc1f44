"""Columns that give the target away: they are known only once it is, and a model that sees them learns nothing else."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from kokkiri.data.cells import distinct_of
from kokkiri.data.columns import Reading
from kokkiri.data.core import Target

CORRELATION = 0.999999
FEW = 20  # levels that determine the class perfectly are suspicious when they are this few
REPEATS = 10  # rows a level, so that it is no accident
_SMALL = 64  # distinct values up to which a column of numbers is looked at as a relabelling


def leaks(readings: Iterable[Reading], target: Target, y: np.ndarray) -> tuple[str, ...]:
    """A warning for each input that equals the target, renames it, or determines it.

    >>> from kokkiri.data.columns import infer
    >>> size = infer("size", np.ma.array(["small", "large"] * 20, mask=False, dtype=object))
    >>> leaks([size], Target("y", "category", ("no", "yes")), np.array([0, 1] * 20))[0].split(";")[0]
    "LEAK? column 'size' stands, one to one, for the target 'y'"
    """
    warnings: list[str] = []
    values = distinct_of(y)
    classes = np.searchsorted(values, y) if len(values) <= _SMALL else None
    for reading in readings:
        how = _follows(reading.data, y) if target.kind == "number" and reading.data.dtype == np.float64 else ""
        if not how and classes is not None:
            how = _renames(reading, target, values, classes)
        if how:
            name = reading.column.name
            advice = f"if it is not known before '{target.name}' is, leave it out: --drop {name}"
            warnings.append(f"LEAK? column '{name}' {how} '{target.name}'; {advice}")
    return tuple(warnings)


def _renames(reading: Reading, target: Target, values: np.ndarray, classes: np.ndarray) -> str:
    """Whether few values stand for the target's."""
    data = reading.data
    if not 2 <= reading.column.distinct <= _SMALL:
        return ""
    if data.dtype == np.float64:
        data = np.where(np.isnan(data), np.inf, data)  # missing is a value, too: gaps may give the target away
    levels = distinct_of(data)
    pairs = len(distinct_of(np.searchsorted(levels, data) * len(values) + classes))
    if pairs != len(levels):
        return ""
    if pairs == len(values):
        same = data.dtype == np.float64 and bool((levels == values).all())
        return "is a copy of the target" if same else "stands, one to one, for the target"
    if target.kind == "category" and len(levels) <= FEW and len(classes) >= REPEATS * len(levels):
        return "has values that each go with one class of the target"
    return ""


def _follows(x: np.ndarray, y: np.ndarray) -> str:
    """Whether numbers are the target's, or a straight line of them."""
    there = np.isfinite(x)
    if there.sum() < 3:
        return ""
    a, b = x[there], y[there]
    if bool((a == b).all()):
        return "is a copy of the target"
    with np.errstate(over="ignore", invalid="ignore"):  # numbers near 1e200: not finite, so not called a leak
        a, b = a - a.mean(), b - b.mean()
        size, product = float(np.sqrt((a @ a) * (b @ b))), abs(float(a @ b))
    if 0 < size < np.inf and product > CORRELATION * size:
        return "lies on a straight line with the target"
    return ""
