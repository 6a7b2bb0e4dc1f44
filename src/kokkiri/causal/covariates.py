"""What is adjusted for, encoded as numbers: the same for new rows as for the first ones, or refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from kokkiri.causal.variables import Rows, Variable
from kokkiri.data.columns import INPUT_KINDS, Column, Kind
from kokkiri.data.encoders import TableEncoder, fit_encoder
from kokkiri.errors import DataError

BLOCKS = {
    Kind.NUMBER: "number", Kind.BOOLEAN: "number", Kind.IDENTIFIER: "number", Kind.CATEGORY: "category",
    Kind.DATE: "date",
}  # fmt: skip
DATE = ("day", *(f"{what} ({wave})" for what in ("season", "weekday", "hour") for wave in ("sine", "cosine")))


@dataclass(frozen=True, eq=False)
class Covariates:
    """Columns with the encoder that their first rows were given. names: of the encoded columns; spans: where those of
    each column lie.

    >>> from kokkiri.causal.variables import Columns
    >>> rows = Columns({"age": [20.0, 40.0, 30.0], "city": ["a", "b", "a"]}).rows(["age", "city"])
    >>> covariates, x = encoded(rows, ["age", "city"])
    >>> covariates.names, x.shape
    (('age', 'city = a', 'city = b'), torch.Size([3, 3]))
    >>> days = Columns({"seen": ["2021-03-01", "2021-07-19", "2022-01-08"]}).rows(["seen"])
    >>> encoded(days, ["seen"])[0].names[:3]
    ('seen = day', 'seen = season (sine)', 'seen = season (cosine)')
    """

    columns: tuple[Column, ...]
    encoder: TableEncoder | None
    names: tuple[str, ...]
    spans: Mapping[str, tuple[int, ...]]

    def of(self, rows: Rows) -> Tensor:
        """(N, p) float64."""
        if self.encoder is None:
            return torch.empty(rows.size, 0, dtype=torch.float64)
        variables = [recoded(rows.variables[c.name], c, self.encoder) for c in self.columns]
        with torch.no_grad():
            return self.encoder.encode(_raw(variables))


def encoded(rows: Rows, names: Sequence[str]) -> tuple[Covariates, Tensor]:
    """The encoder of these columns of these rows, and what it makes of them. Columns that do not vary are left out."""
    variables = [_as_input(rows.variables[name]) for name in dict.fromkeys(names)]
    variables = [v for v in variables if not v.constant or bool(v.missing.any())]
    columns = tuple(v.column for v in variables)
    if not columns:
        return Covariates((), None, (), {}), torch.empty(rows.size, 0, dtype=torch.float64)
    encoder = fit_encoder(_raw(variables), columns)
    labels, spans = _labels(encoder, {c.name: c for c in columns})
    found = Covariates(columns, encoder, labels, spans)
    return found, found.of(rows)


def _as_input(v: Variable) -> Variable:
    """A column as an input: constants too, since they may have gaps; names of rows and free text are refused."""
    kind = v.column.kind
    if kind is Kind.TEXT or (kind is Kind.IDENTIFIER and not v.cells.is_floating_point()):
        raise DataError(
            f"'{v.name}' cannot be adjusted for", needs="a column whose values several rows share, or numbers",
            found=v.column.reason, fix="leave it out, or sort its values into a few categories first",
        )  # fmt: skip
    if kind not in INPUT_KINDS:
        kind = Kind.NUMBER if v.cells.is_floating_point() else Kind.CATEGORY
    levels = v.column.levels
    if kind is Kind.CATEGORY and not levels:
        levels = tuple(str(i) for i in range(int(v.cells.max()) + 1))
    return replace(v, column=replace(v.column, kind=kind, used=True, levels=levels))


def _raw(variables: Sequence[Variable]) -> dict[str, Tensor]:
    blocks: dict[str, list[Tensor]] = {}
    for v in variables:
        blocks.setdefault(BLOCKS[v.column.kind], []).append(v.cells)
    return {name: torch.stack(cells, 1) for name, cells in blocks.items()}


def recoded(v: Variable, known: Column, encoder: TableEncoder) -> Variable:
    """New cells under the old codes; a level or a gap that the first rows had not would be a new column."""
    if v.column.levels == known.levels and v.column.kind is known.kind:
        new = v
    elif known.kind is Kind.CATEGORY:
        place = {level: i for i, level in enumerate(known.levels)}
        if strange := [level for level in v.column.levels if level not in place]:
            raise DataError(
                f"'{known.name}' has a value that the first rows had not", needs="the same categories",
                found=f"'{strange[0]}'", fix="call kk.do on all rows together",
            )  # fmt: skip
        lookup = torch.tensor([*(place[level] for level in v.column.levels), -1])
        new = Variable(known, lookup[v.cells])
    elif v.cells.is_floating_point():
        new = Variable(known, v.cells)
    else:
        raise DataError(f"'{known.name}' is another kind of column now", needs=known.kind.value,
                        found=v.column.reason, fix="rows like the first ones")  # fmt: skip
    gaps = {g.name: g.gaps for g in (*encoder.layout.numbers, *encoder.layout.categories, *encoder.layout.dates)}
    if not gaps[known.name] and bool(new.missing.any()):
        raise DataError(
            f"'{known.name}' has missing values, and the first rows had none", needs="a value in each row",
            found=f"{int(new.missing.sum())} without one", fix="call kk.do on all rows together",
        )  # fmt: skip
    return replace(new, column=known)


def _labels(encoder: TableEncoder, columns: Mapping[str, Column]) -> tuple[tuple[str, ...], dict[str, tuple[int, ...]]]:
    """A name for each encoded column, and the places of each column of the table."""
    slots = {c.name: c for c in encoder.layout.categories}
    labels: list[str] = []
    spans: dict[str, tuple[int, ...]] = {}
    for group in encoder.layout.groups:
        width = group.stop - group.start
        if group.kind == "missing":
            own = [f"{group.name} missing"]
        elif group.kind == "category":
            own = [f"{group.name} missing"] * width
            for level, slot in zip(columns[group.name].levels, slots[group.name].slots, strict=True):
                if slot >= 0:
                    own[slot] = f"{group.name} = {level}"
            if slots[group.name].other:
                own[-1 - slots[group.name].gaps] = f"{group.name} = other"
        elif group.kind == "date":
            own = [f"{group.name} = {part}" for part in DATE[:width]]
        else:
            own = [group.name] if width == 1 else [f"{group.name} {k}" for k in range(width)]
        labels += own
        spans[group.name] = (*spans.get(group.name, ()), *range(group.start, group.stop))
    return tuple(labels), spans
