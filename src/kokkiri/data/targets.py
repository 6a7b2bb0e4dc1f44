"""The column that is to be predicted: what it is, whether it can be, and its values."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from kokkiri.data.cells import distinct_of, first_row
from kokkiri.data.columns import Column, Kind, Reading, infer, read_as
from kokkiri.data.core import Target
from kokkiri.data.sources import RawTable
from kokkiri.errors import DataError, nearest

ROWS = 10  # with fewer there is nothing to hold out
CLASSES = 20  # so many whole numbers in a row, from 0 or 1, may be the names of classes


def target_name(table: RawTable, target: str | None) -> str:
    """The target's name, if the table has it."""
    names = list(table.names)
    shown = ", ".join(names[:12]) + (", …" if len(names) > 12 else "")
    if target is None:
        raise DataError(
            f"{table.source.name}: which column is to be predicted?",
            needs="the name of the target",
            found=f"the columns {shown}",
            fix=f"--target {names[-1]}",
        )
    if target not in table.names:
        raise DataError(
            f"{table.source.name} has no column '{target}'",
            needs="the name of a column as the target",
            found=f"{len(table.names)} other columns",
            fix=nearest(target, table.names),
        )
    return target


def must_suffice(rows: int, where: str) -> None:
    """An error where there are too few rows to learn from."""
    if rows < ROWS:
        raise DataError(
            f"{where} has {rows_text(rows)}: too few to learn from",
            needs=f"at least {ROWS} rows",
            found=rows_text(rows),
            fix="add rows; nothing could be held out to see whether anything was learnt",
        )


def with_target(
    table: RawTable, name: str, declared: Kind | None, *, drop: bool
) -> tuple[RawTable, Reading, tuple[str, ...]]:
    """The rows that have a target, and the target."""
    read = lambda t: infer(name, t.values[name], declared=declared, decimal=t.decimal, index=t.index)
    reading: Reading = read(table)
    infinite = np.isinf(reading.data) if reading.data.dtype == np.float64 else np.zeros(table.rows, bool)
    if infinite.any():
        raise DataError(
            f"the target '{name}' is infinite in row {first_row(infinite, table.index):,}",
            needs="finite numbers",
            found=rows_text(int(infinite.sum())) + " with infinity",
            fix="mend those cells; where infinity means unknown, empty them and use --drop-missing-target",
        )
    missing = reading.data == -1 if reading.data.dtype == np.int64 else np.isnan(reading.data)
    if missing.all():
        raise DataError(
            f"the target '{name}' has no values", needs="values to learn", found=f"{rows_text(table.rows)}, all empty",
            fix=f"choose another target; {nearest(name, [n for n in table.names if n != name])}",
        )  # fmt: skip
    if not missing.any():
        return table, reading, reading.notes
    lacking = rows_text(int(missing.sum()))
    if not drop:
        raise DataError(
            f"the target '{name}' is missing in {lacking}",
            needs="a value in every row",
            found=f"none in row {first_row(missing, table.index):,}" + (" and others" if missing.sum() > 1 else ""),
            fix="leave those rows out: --drop-missing-target",
        )
    kept = table.take(~missing)
    again: Reading = read(kept)
    return kept, again, (*again.notes, f"{lacking} without a value of '{name}' left out")


def outcome_of(reading: Reading, declared: Kind | None) -> tuple[Target, Column, np.ndarray]:
    """The target, how its cells are written, and y."""
    column, data = reading.column, reading.data
    name = column.name
    if column.distinct == 1 or column.kind is Kind.CONSTANT:
        value = column.levels[int(data[0])] if column.levels else column.reason.removesuffix(" in every row")
        raise DataError(
            f"the target '{name}' has one value",
            needs="two classes, or numbers that differ",
            found=f"{value.strip(chr(39))} in all {rows_text(len(data))}",
            fix="choose another target, or rows where it varies",
        )
    if column.kind in {Kind.IDENTIFIER, Kind.TEXT, Kind.DATE}:
        what = {Kind.IDENTIFIER: "names its rows", Kind.TEXT: "is free text", Kind.DATE: "is a date"}[column.kind]
        kind = "number" if data.dtype == np.float64 and column.kind is Kind.IDENTIFIER else "category"
        raise DataError(
            f"the target '{name}' {what}",
            needs="a number or a class",
            found=column.reason,
            fix=f"choose another target; to predict it all the same: --kind {name}={kind}",
        )
    if column.kind is Kind.NUMBER and declared is None and _names_classes(data):
        low = int(data.min())
        high = low + column.distinct - 1
        reason = f"the whole numbers {low} to {high}, read as classes; --kind {name}=number for values"
        levels = tuple(str(i) for i in range(low, high + 1))
        column = replace(column, kind=Kind.CATEGORY, reason=reason, levels=levels, form="number")
        return Target(name, "category", levels, reason=reason), column, data.astype(np.int64) - low
    if column.kind is Kind.NUMBER:
        whole = bool((data == np.floor(data)).all() and data.min() >= 0)
        with np.errstate(over="ignore", invalid="ignore"):
            shift, scale = float(data.mean()), float(data.std())
        if not np.isfinite(scale):
            row = int(np.abs(data).argmax())
            raise DataError(
                f"the target '{name}' has numbers too large to be squared",
                needs="numbers up to about 1e150",
                found=f"{data[row]:g}",
                fix="mend those cells, or choose a larger unit",
            )
        return Target(name, "number", (), shift, scale, column.reason, whole), column, data
    reason = f"{column.reason}: {len(column.levels)} classes"
    return Target(name, "category", column.levels, reason=reason), column, data.astype(np.int64)


def _names_classes(x: np.ndarray) -> bool:
    distinct = distinct_of(x)
    contiguous = bool((distinct == distinct[0] + np.arange(len(distinct))).all())
    return contiguous and len(distinct) <= CLASSES and distinct[0] in {0, 1}


def rare_classes(outcome: Target, y: np.ndarray) -> tuple[str, ...]:
    """A note on classes with one row."""
    if outcome.kind != "category":
        return ()
    counts = np.bincount(y, minlength=outcome.classes)
    rare = [f"'{level}'" for level, n in zip(outcome.levels, counts, strict=True) if n == 1]
    if not rare:
        return ()
    shown = ", ".join(rare[:5]) + (", …" if len(rare) > 5 else "")
    return (f"{len(rare)} class{'es' * (len(rare) > 1)} of '{outcome.name}' with a single row: {shown}",)


def new_target(found: RawTable, column: Column) -> tuple[Tensor | None, tuple[str, ...]]:
    """The targets of new rows, if they are known in all of them."""
    if column.name not in found.names:
        return None, ()
    data = read_as(column, found.values[column.name], index=found.index).data
    missing = data == -1 if data.dtype == np.int64 else np.isnan(data)
    if missing.any():
        lacking = "all rows" if missing.all() else rows_text(int(missing.sum()))
        return None, (f"the target '{column.name}' is missing in {lacking}: nothing to score by",)
    strange = data == -2 if data.dtype == np.int64 else np.isinf(data)
    if strange.any():
        row = first_row(strange, found.index)
        raise DataError(
            f"the target '{column.name}' has a value in row {row:,} that the model does not know",
            needs=f"one of {', '.join(column.levels[:12])}" if column.levels else "finite numbers",
            found=f"'{found.values[column.name].data[int(strange.argmax())]}' in row {row:,}",
            fix=f"mend those cells, or leave the column '{column.name}' out: it is needed only to score",
        )
    return torch.from_numpy(data.astype(np.int64) if column.levels else data), ()


def rows_text(n: int) -> str:
    """How many rows, in words.

    >>> rows_text(1), rows_text(4000)
    ('1 row', '4,000 rows')
    """
    return f"{n:,} row{'s' * (n != 1)}"
