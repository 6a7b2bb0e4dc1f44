"""Tables as data to learn from, and as new rows for a model that exists."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kokkiri.data.cells import first_row
from kokkiri.data.columns import Column, Kind, Reading, column_from_json, declared_kind, infer, read_as
from kokkiri.data.core import Data, Target
from kokkiri.data.encoders import TableEncoder, fit_encoder, inputs
from kokkiri.data.frames import open_table
from kokkiri.data.leaks import leaks
from kokkiri.data.sources import RawTable
from kokkiri.data.targets import must_suffice, new_target, outcome_of, rare_classes, rows_text, target_name, with_target
from kokkiri.errors import DataError, UsageError, nearest

ROW = "row:"  # raw tensors under this name are no inputs: columns left out, which a split may go by


@dataclass(frozen=True)
class Schema:
    """The columns of a table as a model knows them. target_column says how the target's cells are written."""

    columns: tuple[Column, ...]
    target: Target
    target_column: Column
    decimal: str = "."

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "columns": [c.to_json() for c in self.columns],
            "target": asdict(self.target) | {"levels": list(self.target.levels)},
            "target_column": self.target_column.to_json(),
            "decimal": self.decimal,
        }

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> Schema:
        """The inverse of `to_json`."""
        return Schema(
            tuple(column_from_json(c) for c in value["columns"]),
            Target(**{**value["target"], "levels": tuple(value["target"]["levels"])}),
            column_from_json(value["target_column"]),
            value["decimal"],
        )


def table_data(
    table: RawTable,
    target: str | None,
    *,
    kinds: Mapping[str, str | Kind] | None = None,
    drop: Iterable[str] = (),
    drop_missing_target: bool = False,
    published: Sequence[Tensor] = (),
) -> Data:
    """A table as data to learn from: kinds inferred where they are not declared, the encoder fitted on all rows.

    kinds: "number", "category", "boolean" or "date" by column. drop: columns that are not to be inputs.
    published: row numbers, counted in the table as it was read.

    >>> from kokkiri.data.frames import open_table
    >>> table = open_table({"age": range(20, 40), "city": ["Oslo", "Bergen"] * 10, "y": [0, 1, 1, 0] * 5})
    >>> data = table_data(table, "y")
    >>> data.target.levels, [(g.name, g.kind) for g in data.inputs.groups], data.batch(torch.tensor([0])).x.shape
    (('0', '1'), [('age', 'number'), ('city', 'category')], torch.Size([1, 3]))
    """
    name = target_name(table, target)
    declared = {n: declared_kind(n, k) for n, k in {**table.kinds, **(kinds or {})}.items()}
    out = tuple(drop)
    _must_know(table, [n for n in (*(kinds or {}), *out) if n not in table.names])
    if name in out:
        raise UsageError(
            f"'{name}' is the target",
            needs="a target that is kept",
            found=f"--drop {name}",
            fix="leave it out of --drop",
        )
    must_suffice(table.rows, table.source.name)
    table, reading, notes = with_target(table, name, declared.get(name), drop=drop_missing_target)
    must_suffice(table.rows, f"{table.source.name}, without rows that lack '{name}',")
    outcome, column, y = outcome_of(reading, declared.get(name))
    notes += rare_classes(outcome, y)
    readings: list[Reading] = []
    for other in table.names:
        if other == name:
            continue
        r = infer(other, table.values[other], declared=declared.get(other), decimal=table.decimal, index=table.index)
        r = _finite(r, table.index)
        if other in out:
            r = Reading(replace(r.column, used=False, reason="left out by you"), r.data)
        readings.append(r)
        notes += r.notes
    used = [r for r in readings if r.column.used]
    left = [f"{r.column.name} ({r.column.reason})" for r in readings if not r.column.used]
    if not used:
        raise DataError(
            "no column is left to learn from",
            needs=f"at least one input beside the target '{name}'",
            found="left out: " + "; ".join(left[:6]) if left else "no other column",
            fix="declare what a column is: --kind NAME=number, category, boolean or date",
        )
    if left:
        notes += ("left out: " + ", ".join(left[:8]) + (f", … ({len(left)} in all)" if len(left) > 8 else ""),)
    notes += leaks(used, outcome, y)
    raw = _raw(used)
    encoder = fit_encoder(raw, [r.column for r in used])
    apart = {ROW + r.column.name: torch.from_numpy(r.data) for r in readings if _may_split(r)}
    index = np.arange(table.rows) if table.index is None else table.index
    return Data(
        raw={**raw, **apart},
        y=torch.from_numpy(y),
        encoder=encoder,
        inputs=inputs(encoder),
        target=outcome,
        source=table.source,
        schema=Schema(tuple(r.column for r in readings), outcome, column, table.decimal),
        notes=table.notes + notes,
        row_index=torch.from_numpy(index),
        published=_published(published, index, table.source.rows),
    )


def new_rows(
    what: Any, schema: Schema, encoder: TableEncoder, *, table: str | None = None, encoding: str = "utf-8"
) -> Data:
    """Rows for a model that exists: columns found by name, in any order; the target may be there, to score by.

    Unseen categories and unheard-of columns are accepted, and counted in `notes`.

    >>> from kokkiri.data.frames import open_table
    >>> data = table_data(open_table({"x": range(5, 25), "y": [0, 1] * 10}), "y", kinds={"x": "number"})
    >>> new = new_rows([{"x": 14.5, "z": 1}], data.schema, data.encoder)
    >>> new.batch(torch.tensor([0])).x.tolist(), new.notes
    ([[0.0]], ('1 column that the model does not know was ignored: z',))
    """
    outcome = schema.target_column
    written = [c.name for c in (*schema.columns, outcome) if c.kind is Kind.CATEGORY and c.form != "number"]
    found = open_table(what, table=table, encoding=encoding, words=written, decimal=schema.decimal)
    used = [c for c in schema.columns if c.used]
    if absent := [c.name for c in used if c.name not in found.names]:
        raise DataError(
            f"{found.source.name} lacks {len(absent)} column{'s' * (len(absent) > 1)} that the model needs",
            needs=", ".join(c.name for c in used),
            found=f"missing: {', '.join(absent)}",
            fix=f"add {'them' if len(absent) > 1 else 'it'}, empty where unknown; for '{absent[0]}': "
            + nearest(absent[0], [n for n in found.names if n not in {c.name for c in used}] or found.names),
        )
    if not found.rows:
        raise DataError(f"{found.source.name} has no rows", needs="at least one", found="none", fix="add the rows")
    notes = found.notes
    known = {c.name for c in schema.columns} | {outcome.name}
    if extra := [n for n in found.names if n not in known]:
        many = len(extra) > 1
        shown = ", ".join(extra[:8]) + (", …" if len(extra) > 8 else "")
        unknown = f"{len(extra)} column{'s' * many} that the model does not know"
        notes += (f"{unknown} {'were' if many else 'was'} ignored: {shown}",)
    gaps = {g.name for g in (*encoder.layout.numbers, *encoder.layout.categories, *encoder.layout.dates) if g.gaps}
    readings = []
    for column in used:
        r = _finite(read_as(column, found.values[column.name], index=found.index), found.index)
        missing = int((r.data == -1).sum() if r.data.dtype == np.int64 else np.isnan(r.data).sum())
        notes += r.notes
        if missing and column.name not in gaps:
            stands = "counted as no level at all" if column.kind is Kind.CATEGORY else "the training mean stands in"
            notes += (f"column {column.name}: {rows_text(missing)} without a value, none in training; {stands}",)
        readings.append(r)
    y, more = new_target(found, schema.target_column)
    return Data(
        raw=_raw(readings),
        y=y,
        encoder=encoder,
        inputs=inputs(encoder),
        target=schema.target,
        source=found.source,
        schema=schema,
        notes=notes + more,
        row_index=torch.arange(found.rows),
    )


def conform(data: Data, schema: Schema, encoder: TableEncoder) -> Data:
    """Data that were read by themselves, in the terms of a model: its columns, its codes for words, its classes.

    >>> from kokkiri.data.frames import open_table
    >>> of = lambda cities: table_data(open_table({"city": cities, "x": range(20), "y": [0, 1, 1, 1] * 5}), "y")
    >>> data, new = of(["Bergen", "Oslo"] * 10), of(["Oslo", "Turku"] * 10)
    >>> conform(new, data.schema, data.encoder).raw["category"][:2, 0].tolist()
    [1, -2]
    """
    own = data.schema
    if not isinstance(own, Schema):
        raise DataError(
            "these data are no table",
            needs=f"the columns {', '.join(c.name for c in schema.columns if c.used)}",
            found=f"inputs of shape {data.inputs.shape} without columns",
            fix="hand predict a table",
        )
    if own.columns == schema.columns and own.target_column == schema.target_column:
        return replace(data, encoder=encoder, inputs=inputs(encoder), target=schema.target, schema=schema, _cache={})
    # words of a column that was left out are gone; numbers are not
    kept = [
        c for c in own.columns if c.used or (ROW + c.name in data.raw and data.raw[ROW + c.name].is_floating_point())
    ]
    cells = {c.name: _cells_again(c, data) for c in kept}
    if absent := [c.name for c in schema.columns if c.used and c.name not in cells]:
        raise DataError(
            f"these data have no column '{absent[0]}' any more, which the model needs",
            needs=", ".join(c.name for c in schema.columns if c.used),
            found=f"left out when they were read: {', '.join(absent)}",
            fix="hand predict the file or frame itself, not what read made of it",
        )
    if data.y is not None:
        cells[own.target.name] = _words_again(own.target.levels, data.y) if own.target.levels else _masked(data.y)
    table = RawTable(tuple(cells), cells, len(data), data.source)
    found = new_rows(table, schema, encoder)
    return replace(found, row_index=data.row_index, notes=tuple(dict.fromkeys((*data.notes, *found.notes))))


def _must_know(table: RawTable, unknown: Sequence[str]) -> None:
    if unknown:
        raise UsageError(
            f"{table.source.name} has no column '{unknown[0]}'",
            needs="names of columns",
            found=", ".join(unknown),
            fix=nearest(unknown[0], table.names),
        )


def _finite(reading: Reading, index: np.ndarray | None) -> Reading:
    """Infinity taken as missing, with a note."""
    infinite = np.isinf(reading.data) if reading.data.dtype == np.float64 else np.zeros(1, bool)
    if not infinite.any():
        return reading
    where = (
        f"{rows_text(int(infinite.sum()))} with infinity, the first row {first_row(infinite, index):,}; read as missing"
    )
    note = f"column {reading.column.name}: {where}"
    return Reading(reading.column, np.where(infinite, np.nan, reading.data), (*reading.notes, note))


def _raw(readings: Sequence[Reading]) -> dict[str, Tensor]:
    """The cells by kind, in the order of the columns."""
    blocks = {"number": {Kind.NUMBER, Kind.BOOLEAN}, "category": {Kind.CATEGORY}, "date": {Kind.DATE}}
    raw: dict[str, Tensor] = {}
    for name, kinds in blocks.items():
        if columns := [r.data for r in readings if r.column.kind in kinds]:
            raw[name] = torch.from_numpy(np.stack(columns, axis=1))
    return raw


def _may_split(reading: Reading) -> bool:
    return not reading.column.used and reading.column.distinct > 1


def _published(published: Sequence[Tensor], index: np.ndarray, rows: int) -> tuple[Tensor, ...]:
    """Row numbers of the source as row numbers of the data, which may lack some."""
    place = torch.full((rows,), -1)
    place[torch.from_numpy(index)] = torch.arange(len(index))
    parts: list[Tensor] = []
    for part in published:
        if len(part) and (int(part.min()) < 0 or int(part.max()) >= rows):
            raise DataError(
                "a published split does not fit the data",
                needs=f"row numbers from 0 to {rows - 1:,}",
                found=f"{int(part.min()):,} to {int(part.max()):,}",
                fix="take data and split from the same publication",
            )
        at = place[part]
        parts.append(at[at >= 0])
    return tuple(parts)


def _cells_again(column: Column, data: Data) -> np.ma.MaskedArray:
    """A column's cells as they could have been read, from the raw tensors."""
    used = [c for c in data.schema.columns if c.used]
    block = lambda *kinds: [c.name for c in used if c.kind in kinds]
    if not column.used:
        return _masked(data.raw[ROW + column.name].to(torch.float64))
    if column.kind is Kind.CATEGORY:
        return _words_again(column.levels, data.raw["category"][:, block(Kind.CATEGORY).index(column.name)])
    if column.kind is Kind.DATE:
        days = _masked(data.raw["date"][:, block(Kind.DATE).index(column.name)])
        moments = np.round(days.filled(0) * 86_400e6).astype(np.int64).astype("datetime64[us]")
        return np.ma.MaskedArray(moments, mask=days.mask)
    return _masked(data.raw["number"][:, block(Kind.NUMBER, Kind.BOOLEAN).index(column.name)])


def _words_again(levels: Sequence[str], codes: Tensor) -> np.ma.MaskedArray:
    known = np.array([*levels, None], dtype=object)
    return np.ma.MaskedArray(known[codes.numpy()], mask=codes.numpy() < 0)


def _masked(x: Tensor) -> np.ma.MaskedArray:
    return np.ma.MaskedArray(x.numpy(), mask=torch.isnan(x).numpy())
