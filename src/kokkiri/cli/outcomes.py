"""Columns of one file or several, as the rows that a conjugate family learns."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from kokkiri.errors import DataError, UsageError, nearest
from kokkiri.phrases import count

if TYPE_CHECKING:
    from kokkiri.cli.families import Batch
    from kokkiri.data.columns import Column
    from kokkiri.data.sources import RawTable


class Support(NamedTuple):
    """Which numbers a column may hold, and what to do about others."""

    inside: Callable[[np.ndarray], np.ndarray]
    needs: str
    fix: str


NORMAL = "--family normal takes any number"
FINITE = Support(np.isfinite, "finite numbers", "empty those cells: their rows are left out")
LOOKED_AT = Support(lambda v: np.isfinite(v) & (v > 0), "finite numbers > 0", "leave out rows that were not looked at")
SINGLE = ("poisson", "exponential", "normal", "normal-known-variance")  # of one column
SUPPORT = {
    "poisson": Support(lambda v: np.isfinite(v) & (v >= 0) & (v == np.floor(v)), "whole numbers >= 0", NORMAL),
    "exponential": Support(lambda v: np.isfinite(v) & (v >= 0), "finite numbers >= 0", NORMAL),
}


class Outcome(NamedTuple):
    """What was read: family and why; names of classes, inputs or coordinates; the rows of each file."""

    family: str
    reason: str
    names: tuple[str, ...]
    batches: list[Batch]


class Wanted(NamedTuple):
    """What the command line asked for."""

    columns: tuple[str, ...]
    family: str | None
    inputs: tuple[str, ...]
    exposure: str | None
    success: str | None


def opened(source: str, table: str | None, encoding: str) -> RawTable:
    """A file, SQL, or a table by name."""
    from kokkiri.data.frames import open_table
    from kokkiri.data.named import DATA_SETS, find, locate

    if not Path(source).exists() and source in {dataset.name for dataset in DATA_SETS}:
        dataset = find(source)
        if not any(file.name.endswith(".csv") for layout in dataset.layouts for file in layout.files):
            raise DataError(f"the data set '{source}' is no table with columns", needs="a table", found=dataset.title,
                            fix="kokkiri data list")  # fmt: skip
        return open_table(next(path for name, path in locate(dataset).items() if name.endswith(".csv")))
    return open_table(source, table=table, encoding=encoding)


def read(tables: Sequence[RawTable], wanted: Wanted) -> Outcome:
    """The rows of each table, all in the same form: classes are those of all tables together."""
    _different(tables)
    needed = [*wanted.columns, *wanted.inputs, *([wanted.exposure] if wanted.exposure else [])]
    for table in tables:
        for name in needed:
            _must_have(table, name)
    family, reason = (wanted.family, "") if wanted.family else _chosen(tables, wanted)
    if family in {"bernoulli", "categorical"}:
        return _classes(tables, wanted, family, reason)
    batches: list[Batch] = []
    for table in tables:
        values = {name: _numbers(table, name, family) for name in needed}
        for name in wanted.columns:
            _supported(table, name, values[name], SUPPORT.get(family, FINITE))
        for name in (*wanted.inputs, *([wanted.exposure] if wanted.exposure else [])):
            _supported(table, name, values[name], LOOKED_AT if name == wanted.exposure else FINITE)
        kept = ~np.any([np.isnan(v) for v in values.values()], axis=0)
        _left_out(table, int((~kept).sum()), needed)
        y = [values[name][kept] for name in wanted.columns]
        batch: Batch = {"y": y[0] if family != "multivariate-normal" else np.stack(y, -1)}
        if family == "linear":
            batch["x"] = np.stack([np.ones(kept.sum()), *(values[name][kept] for name in wanted.inputs)], -1)
        if wanted.exposure:
            batch["exposure"] = values[wanted.exposure][kept]
        batches.append(batch)
    names = ("intercept", *wanted.inputs) if family == "linear" else wanted.columns
    return Outcome(family, reason, names if family in {"linear", "multivariate-normal"} else (), batches)


def _different(tables: Sequence[RawTable]) -> None:
    """Rows that are learnt twice would make the posterior too sure."""
    seen: dict[str, str] = {}
    for table in tables:
        name, digest = table.source.name, table.source.sha256
        if digest and digest in seen:
            raise UsageError(
                f"{name} holds the rows of {seen[digest]} again" if name != seen[digest] else f"{name} is named twice",
                needs="each row once", found="the same SHA-256 twice", fix="leave one of them out",
            )  # fmt: skip
        seen[digest] = name


def _supported(table: RawTable, name: str, values: np.ndarray, support: Support) -> None:
    from kokkiri.data.cells import first_row

    wrong = ~np.isnan(values) & ~support.inside(values)
    if wrong.any():
        raise DataError(
            f"{table.source.name}: column '{name}' cannot be learnt",
            needs=support.needs,
            found=f"{values[wrong][0]:g} in row {first_row(wrong, table.index):,}"
            + (f", and {count(int(wrong.sum()) - 1, 'more such cell')}" if wrong.sum() > 1 else ""),
            fix=support.fix,
        )


def _must_have(table: RawTable, name: str) -> None:
    if name not in table.names:
        raise UsageError(
            f"{table.source.name} has no column '{name}'", needs="names of columns",
            found=f"{count(len(table.names), 'column')}", fix=nearest(name, table.names),
        )  # fmt: skip


def _chosen(tables: Sequence[RawTable], wanted: Wanted) -> tuple[str, str]:
    """The family that the column looks like, where no flag says it."""
    from kokkiri.data.columns import Kind

    column = _inferred(tables[0], wanted.columns[0])
    if column.kind in {Kind.BOOLEAN, Kind.CATEGORY} or wanted.success is not None:
        two = column.kind is Kind.BOOLEAN or column.distinct == 2 or wanted.success is not None
        return ("bernoulli" if two else "categorical"), column.reason
    if tables[0].values[column.name].dtype.kind in "if" or column.kind is Kind.NUMBER:
        values = np.concatenate([_numbers(table, column.name, "a family") for table in tables])
        values = values[~np.isnan(values)]
        if len(values) and np.isin(values, [0.0, 1.0]).all():
            return "bernoulli", "zeros and ones"
        if len(values) and (values >= 0).all() and (values == np.floor(values)).all():
            return "poisson", "whole numbers from 0 on"
        return "normal", "numbers"
    raise DataError(
        f"column '{column.name}' is no outcome that a family is known for",
        needs="numbers, counts, yes or no, or a few classes",
        found=column.reason,
        fix="choose another column, or name the family: --family categorical",
    )


def _inferred(table: RawTable, name: str) -> Column:
    from kokkiri.data.columns import infer

    return infer(name, table.values[name], decimal=table.decimal, index=table.index).column


def _numbers(table: RawTable, name: str, family: str) -> np.ndarray:
    """float64 with NaN where a cell is empty."""
    from kokkiri.data.columns import Kind, infer

    cells, column = table.values[name], _inferred(table, name)
    if column.kind is Kind.BOOLEAN:
        return infer(name, cells, index=table.index).data
    if column.kind is Kind.DATE or (cells.dtype == object and column.kind is not Kind.NUMBER and cells.count()):
        what = "dates" if column.kind is Kind.DATE else "words"
        raise DataError(
            f"column '{name}' of {table.source.name} holds {what}", needs=f"numbers for {family}",
            found=", ".join(f"'{cell}'" for cell in _no_numbers(cells)),
            fix="--family categorical, or another column" if family in SINGLE else "choose another column",
        )  # fmt: skip
    data = infer(name, cells, declared=Kind.NUMBER, decimal=table.decimal, index=table.index).data
    return data.astype(np.float64)


def _no_numbers(cells: np.ma.MaskedArray) -> list[str]:
    """A few cells, those first that are no numbers."""
    from kokkiri.data.cells import number_form

    return sorted(dict.fromkeys(map(str, cells.compressed())), key=lambda cell: number_form([cell]) is not None)[:3]


def _classes(tables: Sequence[RawTable], wanted: Wanted, family: str, reason: str) -> Outcome:
    """Yes or no, or one of several; the classes are those of all tables."""
    from kokkiri.data.cells import sort_levels
    from kokkiri.data.columns import Kind, infer, read_as

    name = wanted.columns[0]
    found = [infer(name, t.values[name], declared=Kind.CATEGORY, decimal=t.decimal, index=t.index) for t in tables]
    levels = sort_levels(list({level for reading in found for level in reading.column.levels}))
    if not levels:
        raise DataError(f"column '{name}' has no values", needs="values to learn", found="empty cells only",
                        fix="choose another column")  # fmt: skip
    column = replace(found[0].column, levels=tuple(levels))
    success, names = (None, tuple(levels)) if family == "categorical" else _success(name, levels, wanted.success)
    batches: list[Batch] = []
    for table in tables:
        codes = read_as(column, table.values[name], index=table.index).data
        kept = codes >= 0
        _left_out(table, int((~kept).sum()), [name])
        one = levels.index(success) if success in levels else -1
        batches.append({"y": codes[kept] if success is None else (codes[kept] == one).astype(float)})
    if success is None and len(levels) < 2:
        raise DataError(
            f"column '{name}' has one class", needs="two classes or more", found=f"'{levels[0]}' in every row",
            fix=f"--family bernoulli --success {levels[0]}, if there could be others",
        )  # fmt: skip
    return Outcome(family, reason, names, batches)


def _success(name: str, levels: Sequence[str], asked: str | None) -> tuple[str, tuple[str, ...]]:
    """Which of the words counts as a one."""
    from kokkiri.data.cells import TRUTH

    if asked is not None:
        if asked not in levels:
            raise UsageError(
                f"column '{name}' never is '{asked}'", needs="--success with one of its values", found=f"'{asked}'",
                fix=nearest(asked, levels),
            )  # fmt: skip
        return asked, (asked,)
    yes = [level for level in levels if TRUTH.get(level.casefold()) == 1]
    if len(levels) > 2 or (len(levels) == 1 and not yes and TRUTH.get(levels[0].casefold()) != 0):
        raise DataError(
            f"column '{name}' has {count(len(levels), 'value')}", needs="two values, or which of them is a success",
            found=", ".join(levels[:8]), fix=f"--success {levels[-1]}, or --family categorical",
        )  # fmt: skip
    best = yes[0] if yes else levels[-1] if len(levels) == 2 else ""
    return best, (best,)


def _left_out(table: RawTable, rows: int, names: Sequence[str]) -> None:
    if rows:
        sys.stderr.write(
            f"! {table.source.name}: {count(rows, 'row')} without a value of {' or '.join(names)} left out\n"
        )
