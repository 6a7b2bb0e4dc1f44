"""Treatments, outcome and covariates as columns of one matrix, of which linear models keep the sums of squares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from shlex import quote

import torch
from torch import Tensor

from kokkiri.causal.asked import Asked, Value, index_of, must_differ, pair_of
from kokkiri.causal.covariates import Covariates, encoded
from kokkiri.causal.variables import Coded, Rows, Variable, number_name
from kokkiri.data.columns import Column, Kind
from kokkiri.errors import DataError, UsageError, nearest
from kokkiri.phrases import plain

LEVELS = 64  # of a treatment of categories


@dataclass(frozen=True, eq=False)
class Treatment:
    """One treatment. levels: its categories, a column each; none for a number, which is taken less `shift`. low, high:
    of the rows.
    """

    column: Column
    levels: tuple[str, ...]
    shift: float
    low: float
    high: float

    @property
    def width(self) -> int:
        """How many columns."""
        return len(self.levels) or 1

    def of(self, v: Variable) -> Tensor:
        """(N, width)."""
        if not self.levels:
            return (v.cells.to(torch.float64) - self.shift).unsqueeze(1)
        coded = _coded(v, self.column)
        place = {level: i for i, level in enumerate(self.levels)}
        if strange := [level for level in coded.levels if level not in place]:
            raise DataError(
                f"'{v.name}' is '{strange[0]}' in new rows, and never was in the first", needs="the same treatments",
                found=strange[0], fix="call kk.do on all rows together",
            )  # fmt: skip
        codes = torch.tensor([place[level] for level in coded.levels])[coded.codes]
        return torch.nn.functional.one_hot(codes, len(self.levels)).double()

    def at(self, value: Value) -> Tensor:
        """(width,) for a setting."""
        if self.levels:
            return torch.eye(len(self.levels), dtype=torch.float64)[self.levels.index(str(value))]
        return torch.tensor([float(value) - self.shift], dtype=torch.float64)


@dataclass(frozen=True, eq=False)
class Design:
    """How rows become (1, x, z, t, t x, y): x covariates, z instruments, t treatments, t x their products with the
    covariates `interact`. event, centre: the outcome is that indicator, or the number less a centre.
    """

    treatments: tuple[Treatment, ...]
    covariates: Covariates
    instruments: Covariates
    interact: tuple[int, ...]
    outcome: Column
    event: str
    centre: float

    def of(self, rows: Rows) -> Tensor:
        """(N, d) float64."""
        x, z = self.covariates.of(rows), self.instruments.of(rows)
        t = torch.cat([t.of(rows.variables[t.column.name]) for t in self.treatments], 1)
        both = (t.unsqueeze(2) * x[:, list(self.interact)].unsqueeze(1)).flatten(1)
        y = worth_of(rows.variables[self.outcome.name], self.outcome, self.event) - self.centre
        return torch.cat([torch.ones(rows.size, 1, dtype=torch.float64), x, z, t, both, y.unsqueeze(1)], 1)

    @property
    def places(self) -> dict[str, list[int]]:
        """Of the parts: one, x, z, t, tx, y."""
        t = sum(t.width for t in self.treatments)
        sizes = {"one": 1, "x": len(self.covariates.names), "z": len(self.instruments.names), "t": t,
                 "tx": t * len(self.interact), "y": 1}  # fmt: skip
        out, start = {}, 0
        for name, size in sizes.items():
            out[name] = list(range(start, start + size))
            start += size
        return out

    def setting(self, values: Sequence[Value]) -> Tensor:
        """(width of t,) of a setting of all treatments."""
        return torch.cat([t.at(v) for t, v in zip(self.treatments, values, strict=True)])

    def columns_of(self, names: Sequence[str]) -> list[int]:
        """Places in x of what some columns became."""
        return [i for name in names for i in self.covariates.spans.get(name, ())]


def design_of(
    asked: Asked, rows: Rows, adjust: Sequence[str], instruments: Sequence[str] = ()
) -> tuple[Design, Tensor]:
    """The design of these rows, and the matrix that it makes of them."""
    covariates, _ = encoded(rows, adjust)
    z, _ = encoded(rows, instruments)
    treatments = tuple(_treatment(rows.variables[name]) for name in asked.treatments)
    outcome = rows.variables[asked.outcome]
    interact = tuple(i for name in asked.interact for i in covariates.spans.get(name, ()))
    first = Design(treatments, covariates, z, interact, outcome.column, asked.event, 0.0)
    centre = 0.0 if asked.event else float(worth_of(outcome, outcome.column, "").mean())
    found = replace(first, centre=centre)
    return found, found.of(rows)


def chosen(asked: Asked, rows: Rows, treatments: Sequence[Treatment]) -> tuple[tuple[Value, ...], tuple[Value, ...]]:
    """The two settings that are compared: names of levels, or numbers."""
    variables = [rows.variables[name] for name in asked.treatments]
    if all(t.levels for t in treatments):
        coded = [_coded(v, t.column) for v, t in zip(variables, treatments, strict=True)]
        i, j = pair_of(asked, variables, coded)
        return tuple(tuple(c.levels[k] for c, k in zip(coded, side, strict=True)) for side in (i, j))  # type: ignore[return-value]
    if asked.level is None or asked.versus is None:
        number = next(t for t in treatments if not t.levels)
        name = number.column.name
        quartiles = torch.tensor([0.75, 0.25], dtype=torch.float64)  # where there are rows, unlike at the ends
        cells = rows.variables[name].cells[: 2**20].double()
        ends = [number_name(round(v, 6)) for v in cells.quantile(quartiles).tolist()]
        raise UsageError(
            f"'{name}' is a number: which two settings are compared?", needs="a setting, and what it is compared with",
            found=f"{plain(number.low)} to {plain(number.high)}",
            fix=f"--set {quote(f'{name}={ends[0]}')} --versus {quote(f'{name}={ends[1]}')}",
        )  # fmt: skip
    level, versus = (_values(side, variables, treatments) for side in (asked.level, asked.versus))
    must_differ(level, versus, level)
    return level, versus


def doses_of(asked: Asked, rows: Rows) -> tuple[float, float, tuple[Treatment, ...]]:
    """The two numbers that are compared, of one treatment that is a number, and what the rows have of it."""
    treatments = (_treatment(rows.variables[asked.treatments[0]]),)
    level, versus = chosen(asked, rows, treatments)
    return float(level[0]), float(versus[0]), treatments


def _values(side: Sequence[Value], variables: Sequence[Variable], treatments: Sequence[Treatment]) -> tuple[Value, ...]:
    out: list[Value] = []
    for value, v, t in zip(side, variables, treatments, strict=True):
        if t.levels:
            coded = _coded(v, t.column)
            out.append(coded.levels[index_of(v, coded, value)])
            continue
        try:
            out.append(float(value))
        except ValueError:
            raise UsageError(f"'{v.name}' is a number, and cannot be '{value}'", needs="a number", found=repr(value),
                             fix=f"something from {plain(t.low)} to {plain(t.high)}") from None  # fmt: skip
    return tuple(out)


def beyond(treatments: Sequence[Treatment], *sides: Sequence[Value]) -> list[str]:
    """A warning for each number that lies outside the rows."""
    told = []
    for value, t in ((v, t) for side in sides for t, v in zip(treatments, side, strict=True)):
        if not t.levels and not t.low <= float(value) <= t.high:
            where = f"{t.column.name} = {number_name(float(value))} lies outside the rows"
            told.append(f"{where}, which go from {plain(t.low)} to {plain(t.high)}: only the model speaks there")
    return told


def label(names: Sequence[str], setting: Sequence[Value]) -> str:
    """A setting as text."""
    words = [v if isinstance(v, str) else number_name(float(v)) for v in setting]
    return words[0] if len(words) == 1 else ", ".join(f"{n}={w}" for n, w in zip(names, words, strict=True))


def worth_of(v: Variable, column: Column, event: str) -> Tensor:
    """(N,) what is averaged: 1 where the outcome is the event, or the number that it is."""
    if event:
        coded = _coded(v, column)
        if event not in coded.levels:
            return torch.zeros(len(coded.codes), dtype=torch.float64)
        return (coded.codes == coded.levels.index(event)).double()
    if v.cells.is_floating_point():
        return v.cells.to(torch.float64)
    coded = v.coded(LEVELS)
    if coded is None or coded.worth is None:
        raise DataError(f"the outcome '{v.name}' is no number", needs="a number", found=v.column.reason,
                        fix=f"name the value that is meant; {nearest('', v.column.levels)}")  # fmt: skip
    return coded.worth[coded.codes]


def _treatment(v: Variable) -> Treatment:
    coded = v.coded(2 if v.numeric else LEVELS)
    if coded is not None and len(coded.levels) <= LEVELS:
        return Treatment(v.column, coded.levels, 0.0, 0.0, 0.0)
    if not v.cells.is_floating_point():
        raise DataError(
            f"the treatment '{v.name}' has too many values", needs=f"numbers, or at most {LEVELS} categories",
            found=v.column.reason, fix="another treatment, or fewer categories",
        )  # fmt: skip
    cells = v.cells.to(torch.float64)
    return Treatment(v.column, (), float(cells.mean()), float(cells.min()), float(cells.max()))


def _coded(v: Variable, known: Column) -> Coded:
    column = v.column
    if known.kind is Kind.BOOLEAN and v.cells.is_floating_point():
        column = known
    coded = Variable(column, v.cells).coded(LEVELS)
    if coded is None:
        raise DataError(f"'{v.name}' has more values than the first rows had", needs=known.reason,
                        found=column.reason, fix="rows like the first ones")  # fmt: skip
    return coded
