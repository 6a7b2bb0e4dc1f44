"""The columns that a causal question is about, by name, from whatever holds data."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from kokkiri.data import named
from kokkiri.data.columns import INPUT_KINDS, Column, Kind, declared_kind, infer
from kokkiri.data.core import Data, Source
from kokkiri.data.digest import digest_of
from kokkiri.data.frames import open_table
from kokkiri.data.sources import SQL
from kokkiri.data.tables import ROW, Schema
from kokkiri.errors import DataError, UsageError, nearest
from kokkiri.phrases import count, joined

FEW = 12  # different numbers up to which a column of numbers may be taken for categories
GONE = "missing"  # what a missing value is called where it counts as one


class Coded(NamedTuple):
    """A variable with few values: (N,) numbers of its levels (-1 missing), their names, and what they are worth."""

    codes: Tensor
    levels: tuple[str, ...]
    worth: Tensor | None


@dataclass(frozen=True, eq=False)
class Variable:
    """A column with its cells: (N,) int64 codes into the column's levels, -1 where missing, or float64 with NaN."""

    column: Column
    cells: Tensor

    @property
    def name(self) -> str:
        """Of the column."""
        return self.column.name

    @property
    def missing(self) -> Tensor:
        """(N,) where there is no value."""
        return self.cells.isnan() if self.cells.is_floating_point() else self.cells < 0

    @property
    def constant(self) -> bool:
        """Whether it has one value at the most, the missing ones aside."""
        there = self.cells[~self.missing]
        return not len(there) or bool((there == there[0]).all())

    @property
    def numeric(self) -> bool:
        """Whether its values are numbers, with differences and means."""
        return self.column.kind in {Kind.NUMBER, Kind.DATE, Kind.IDENTIFIER} and self.cells.is_floating_point()

    def coded(self, limit: int = FEW) -> Coded | None:
        """As categories; None for numbers of more than `limit` values, dates, names of rows and free text.

        >>> dose = Variable(Column("dose", Kind.NUMBER, ""), torch.tensor([0.0, 2.5, torch.nan, 0.0]))
        >>> dose.coded().levels, dose.coded().codes.tolist()
        (('0', '2.5'), [0, 1, -1, 0])
        """
        column, cells = self.column, self.cells
        if column.kind is Kind.BOOLEAN:
            codes = torch.where(cells.isnan(), -1.0, cells).to(torch.int64)
            return Coded(codes, column.levels, torch.tensor([0.0, 1.0], dtype=torch.float64))
        if not cells.is_floating_point():
            return Coded(cells, column.levels, worth(column)) if column.kind is Kind.CATEGORY else None
        if not self.numeric or column.kind is Kind.DATE:
            return None
        distinct = cells[~cells.isnan()].unique()
        if not 0 < len(distinct) <= limit:
            return None
        codes = torch.searchsorted(distinct, cells.nan_to_num(0.0)).clamp(max=len(distinct) - 1)
        return Coded(torch.where(cells.isnan(), -1, codes), tuple(map(number_name, distinct.tolist())), distinct)


def worth(column: Column) -> Tensor | None:
    """The numbers that the levels of a category are, where all are."""
    try:
        return torch.tensor([float(level) for level in column.levels], dtype=torch.float64)
    except ValueError:
        return None


def number_name(value: float) -> str:
    """A number as the name of a level.

    >>> number_name(2.0), number_name(0.5)
    ('2', '0.5')
    """
    return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)


@dataclass(frozen=True, eq=False)
class Rows:
    """Variables of the same N rows, where they came from, and what was noticed.

    digest: of the rows, to know them again. tensors: inputs that are no columns. lost: what is to be said of rows that
    were left out.
    """

    variables: Mapping[str, Variable]
    source: Source
    size: int
    notes: tuple[str, ...] = ()
    digest: str = ""
    tensors: Mapping[str, Tensor] | None = None
    lost: tuple[str, ...] = ()

    def take(self, keep: Tensor) -> Rows:
        """Only the rows where `keep` holds."""
        variables = {name: replace(v, cells=v.cells[keep]) for name, v in self.variables.items()}
        tensors = None if self.tensors is None else {name: t[keep] for name, t in self.tensors.items()}
        return replace(self, variables=variables, size=int(keep.sum()), tensors=tensors)

    def categorical(self, name: str) -> Rows:
        """The same, with this column as categories, if it has few values.

        >>> Columns({"old": [True, False, True]}).rows(["old"]).categorical("old").variables["old"].column.levels
        ('false', 'true')
        """
        v = self.variables[name]
        coded = v.coded()
        if coded is None or v.column.kind is Kind.CATEGORY:
            return self
        column = replace(v.column, kind=Kind.CATEGORY, levels=coded.levels)
        return replace(self, variables={**self.variables, name: Variable(column, coded.codes)})

    def with_values(self, names: Sequence[str]) -> Rows:
        """The rows in which none of these is missing; `lost` says how many others there are."""
        keep = torch.ones(self.size, dtype=torch.bool)
        notes = []
        for name in names:
            gone = self.variables[name].missing & keep
            if self.variables[name].missing.all() and self.size:
                none = f"{count(self.size, 'row')}, none with one"
                raise DataError(f"'{name}' has no values", needs="values to learn from", found=none,
                                fix="choose another column")  # fmt: skip
            if n := int(gone.sum()):
                notes.append(f"{count(n, 'row')} without a value of '{name}' left out: right only if what is missing "
                             "has nothing to do with the outcome")  # fmt: skip
            keep &= ~gone
        if notes and not keep.any():
            words = " and ".join(f"'{n}'" for n in names)
            raise DataError(
                f"no row has both {words}", needs="rows that have all of them",
                found=f"{count(self.size, 'row')}, each without one", fix="fill the gaps, or choose other columns",
            )  # fmt: skip
        return self if not notes else replace(self.take(keep), lost=(*self.lost, *notes))


Table = tuple[Callable[[str], Variable], tuple[str, ...], Source, int, tuple[str, ...], dict[str, Tensor]]


class Columns:
    """All columns of some data, each made ready when it is asked for.

    >>> columns = Columns({"age": [31, 45, 31], "dose": ["low", "high", "low"]})
    >>> columns.names, columns.rows(["dose"]).variables["dose"].coded().codes.tolist()
    (('age', 'dose'), [1, 0, 1])
    """

    def __init__(
        self,
        what: Any,
        *,
        kinds: Mapping[str, str | Kind] | None = None,
        table: str | None = None,
        encoding: str = "utf-8",
    ) -> None:
        if isinstance(what, str):
            what = _named(what)
        found = _of_data(what) if isinstance(what, Data) else _of_table(what, kinds or {}, table, encoding)
        self._make, self.names, self.source, self.size, self.notes, self._tensors = found
        self.digest = digest_of(what) if isinstance(what, Data) else _with_tensors(self.source.sha256, self._tensors)
        if not self.size:
            raise DataError(f"{self.source.name} has no rows", needs="rows to learn from", found="none",
                            fix="look at the file")  # fmt: skip

    def must_have(self, name: str, role: str) -> None:
        """An error that names the nearest column where there is none of this name."""
        if name not in self.names and name not in self._tensors:
            raise UsageError(f"{self.source.name} has no column '{name}'", needs=f"a column as {role}",
                             found=f"{len(self.names)} other columns",
                             fix=nearest(name, self.names))  # fmt: skip

    def adjustable(self, name: str) -> bool:
        """Whether rows share values of this column, so that it can be adjusted for."""
        return name in self._tensors or self._make(name).column.kind in INPUT_KINDS

    def rows(self, names: Sequence[str]) -> Rows:
        """These columns, each once."""
        wanted = list(dict.fromkeys(names))
        variables = {name: self._make(name) for name in wanted if name not in self._tensors}
        tensors = {name: self._tensors[name] for name in wanted if name in self._tensors}
        return Rows(variables, self.source, self.size, self.notes, self.digest, tensors or None)


def _with_tensors(digest: str, tensors: Mapping[str, Tensor]) -> str:
    """The digest of columns, and of the pictures or texts beside them."""
    if not tensors or not digest:
        return digest
    whole = hashlib.sha256(digest.encode())
    for name in sorted(tensors):
        whole.update(name.encode() + tensors[name].contiguous().numpy().tobytes())
    return whole.hexdigest()


def _named(what: str) -> Any:
    """A data set by its name, or the text as it is; an error for a word that is neither a name nor a file."""
    names = [d.name for d in named.DATA_SETS]
    if what in names and not Path(what).is_file():
        return named.load(what)
    path = Path(what) if len(what) < 256 else Path()
    if SQL.match(what) or path.exists() or path.suffix or path.name != what:
        return what
    there = sorted(p.name for p in Path().iterdir() if not p.name.startswith("."))
    raise DataError(
        f"there is no data set and no file '{what}'", needs="a named data set, or a file that exists",
        found=f"{len(names)} data sets, {len(there):,} names in this folder", fix=nearest(what, [*names, *there]),
    )  # fmt: skip


def _of_table(what: Any, kinds: Mapping[str, str | Kind], table: str | None, encoding: str) -> Table:
    tensors = {}
    if isinstance(what, Mapping):  # a dict may hold pictures beside its columns
        tensors = {name: torch.as_tensor(v) for name, v in what.items() if getattr(v, "ndim", 1) > 1}
        what = {name: v for name, v in what.items() if name not in tensors}
    words = [name for name, kind in kinds.items() if declared_kind(name, kind) is Kind.CATEGORY]
    found = open_table(what, table=table, encoding=encoding, words=words)
    for name in kinds:
        if name not in found.names:
            raise UsageError(f"{found.source.name} has no column '{name}'", needs="names of columns", found=name,
                             fix=nearest(name, found.names))  # fmt: skip
    declared = {**found.kinds, **kinds}

    def make(name: str) -> Variable:
        kind = declared_kind(name, declared[name]) if name in declared else None
        reading = infer(name, found.values[name], declared=kind, decimal=found.decimal, index=found.index)
        if reading.column.kind is Kind.CONSTANT and reading.column.distinct:  # one value is a level, too
            again = Kind.NUMBER if reading.data.dtype == np.float64 else Kind.CATEGORY
            same = infer(name, found.values[name], declared=again, decimal=found.decimal, index=found.index)
            reading = same._replace(column=replace(same.column, reason=reading.column.reason))
        data = reading.data
        if data.dtype == np.float64:
            data = np.where(np.isinf(data), np.nan, data)
        return Variable(reading.column, torch.from_numpy(data))

    for name, t in tensors.items():
        if len(t) != found.rows:
            raise DataError(f"'{name}' has {count(len(t), 'row')}", needs=count(found.rows, "row"),
                            found=str(tuple(t.shape)), fix="take all from the same rows")  # fmt: skip
    return make, tuple(found.names), found.source, found.rows, found.notes, tensors


def _of_data(data: Data) -> Table:
    schema, target = data.schema, data.target
    if isinstance(schema, Schema) and target is not None and data.y is None:
        raise DataError(f"'{target.name}' is missing in some rows", needs="an outcome in every row",
                        found="rows without one", fix="leave those rows out")  # fmt: skip
    if not isinstance(schema, Schema) or target is None or data.y is None:
        raise DataError(
            "these data have no columns with names", needs="a table with treatment and outcome",
            found=f"inputs of shape {data.inputs.shape}",
            fix='a dict of columns, pictures among them: {"image": x, "treatment": t, "outcome": y}',
        )  # fmt: skip
    blocks: dict[str, Tensor] = {}
    used = [c for c in schema.columns if c.used]
    for key, kinds in (("number", {Kind.NUMBER, Kind.BOOLEAN}), ("category", {Kind.CATEGORY}), ("date", {Kind.DATE})):
        inside = [c.name for c in used if c.kind in kinds]
        blocks |= {name: data.raw[key][:, i].contiguous() for i, name in enumerate(inside)}
    columns = {c.name: c for c in used}
    for c in schema.columns:  # words of a column that was left out are gone; numbers are not
        if not c.used and ROW + c.name in data.raw and data.raw[ROW + c.name].is_floating_point():
            blocks[c.name], columns[c.name] = data.raw[ROW + c.name], c
    columns[target.name] = schema.target_column
    blocks[target.name] = _outcome(schema.target_column, data.y)
    gone = [c.name for c in schema.columns if c.name not in columns]

    def make(name: str) -> Variable:
        if name in gone:
            raise DataError(
                f"the column '{name}' was left out when these data were read", needs="its cells", found=joined(gone),
                fix="hand do the file or frame itself, not what read made of it",
            )  # fmt: skip
        return Variable(columns[name], blocks[name])

    names = (*(c.name for c in schema.columns), target.name)
    # what was noticed about inputs of a prediction is no matter here
    return make, names, data.source, len(data), (), {}


def _outcome(column: Column, y: Tensor) -> Tensor:
    if column.kind is Kind.BOOLEAN or y.is_floating_point():
        return y.to(torch.float64)
    return y
