"""What a column of a table means: its kind, and why."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import Enum
from typing import Any, NamedTuple

import numpy as np

from kokkiri.data.cells import (
    NUMBER_FORMS,
    NUMBER_MARKERS,
    Words,
    as_booleans,
    as_dates,
    as_float,
    as_numbers,
    as_words,
    canonical,
    date_text,
    distinct_of,
    first_row,
    number_form,
    quoted,
    sort_levels,
    truth_words,
    words,
)
from kokkiri.data.dates import ISO, date_form, iso
from kokkiri.errors import UsageError, nearest

_PAIRS = tuple(frozenset(p.split()) for p in ("true false", "yes no", "y n", "t f", "on off"))
_UUID = re.compile(r"\{?[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\}?")
_ID_NAME = re.compile(r"(?:.*[_\s.-])?(?i:id|uuid|guid|key|index|idx)|.*[a-z0-9]I[dD]")  # id, patient_id, patientId


class Kind(Enum):
    """What the cells of a column are. The last three are left out of the inputs."""

    NUMBER = "number"
    CATEGORY = "category"
    BOOLEAN = "boolean"
    DATE = "date"
    CONSTANT = "constant"
    IDENTIFIER = "identifier"
    TEXT = "text"


INPUT_KINDS = (Kind.NUMBER, Kind.CATEGORY, Kind.BOOLEAN, Kind.DATE)


@dataclass(frozen=True)
class Column:
    """One column: what it is, why that was concluded, and what it holds.

    used: whether it is an input. missing: rows without a value. distinct: different values among the others.
    levels: the words of a category in order; of a boolean the word for false, then the one for true.
    summary: a few plain values for a report. form: how its cells are written, so that new rows are read alike.
    """

    name: str
    kind: Kind
    reason: str
    used: bool = True
    missing: int = 0
    distinct: int = 0
    levels: tuple[str, ...] = ()
    summary: Mapping[str, float | str] = field(default_factory=dict)
    form: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self) | {"kind": self.kind.value, "levels": list(self.levels)}


def column_from_json(value: Mapping[str, Any]) -> Column:
    """The inverse of `Column.to_json`.

    >>> column = Column("size", Kind.CATEGORY, "2 distinct words", levels=("large", "small"))
    >>> column_from_json(column.to_json()) == column
    True
    """
    return Column(**{**value, "kind": Kind(value["kind"]), "levels": tuple(value["levels"])})


class Reading(NamedTuple):
    """A column and its cells: float64 with NaN where missing (dates: days since 1970), or int64 codes into `levels`.

    Codes: -1 missing, -2 a word that is not among the levels.
    """

    column: Column
    data: np.ndarray
    notes: tuple[str, ...] = ()


def declared_kind(name: str, kind: str | Kind) -> Kind:
    """The kind a user names for a column.

    >>> declared_kind("zip", "category")
    <Kind.CATEGORY: 'category'>
    """
    names = [k.value for k in Kind]
    text = kind.value if isinstance(kind, Kind) else str(kind)
    if text not in names:
        raise UsageError(
            f"column '{name}' is declared to be '{text}'",
            needs="a kind of column",
            found=repr(text),
            fix=nearest(text, names),
        )
    return Kind(text)


def infer(
    name: str,
    values: np.ma.MaskedArray,
    *,
    declared: Kind | None = None,
    decimal: str = ".",
    index: np.ndarray | None = None,
) -> Reading:
    """The kind of a column and its cells, with the reason in words.

    index: where each row stood in the source, for messages.

    >>> infer("size", np.ma.array(["small", "large", "small"], mask=False, dtype=object)).column.reason
    '2 distinct words in 3 rows'
    """
    cells = words(values) if values.dtype == object else values
    notes = _marker_notes(name, cells.markers) if isinstance(cells, Words) else ()
    if declared is None:
        kind, form, reason, more = _decide(name, cells, decimal, index)
        notes += more
    else:
        kind, form, reason = declared, _form(cells, declared, decimal), "declared"
    column = Column(name, kind, reason, used=kind in INPUT_KINDS, form=form)
    data, levels, more = _cells(column, cells, index)
    missing = data == -1 if data.dtype == np.int64 else ~np.isfinite(data)
    distinct = np.flatnonzero(np.bincount(data[~missing])) if data.dtype == np.int64 else distinct_of(data[~missing])
    if not len(distinct):
        column = replace(column, kind=Kind.CONSTANT, used=False, reason="no values at all")
    elif kind is Kind.NUMBER:
        rows = len(data) if declared is None else 0
        column = _number_or_not(column, distinct, rows, gaps=bool(missing.any()))
    if declared is None and column.used and _ID_NAME.fullmatch(name) and (data.dtype == np.int64 or _whole(distinct)):
        together = f"where its rows belong together, split by it and leave it out: --split group:{name} --drop {name}"
        more += (f"column {name}: {len(distinct):,} identifiers in {len(data):,} rows; {together}",)
    summary = _summary(column, data[~missing], levels)
    counts = replace(column, missing=int(missing.sum()), distinct=len(distinct), levels=levels, summary=summary)
    return Reading(counts, data, notes + more)


def read_as(column: Column, values: np.ma.MaskedArray, *, index: np.ndarray | None = None) -> Reading:
    """New cells of a known column: the same kind, levels and way of writing.

    >>> size = Column("size", Kind.CATEGORY, "", levels=("large", "small"))
    >>> read_as(size, np.ma.array(["small", "tiny", None], mask=[0, 0, 1], dtype=object)).data
    array([ 1, -2, -1])
    """
    cells = words(values) if values.dtype == object else values
    if column.kind is not Kind.CATEGORY:
        data, _, notes = _cells(column, cells, index)
        return Reading(column, data, notes)
    known = {w: i for i, w in enumerate(column.levels)}
    texts = as_words(cells)
    spoken = [canonical(w) for w in texts.levels] if column.form == "number" else texts.levels
    lookup = np.array([known.get(w, -2) for w in spoken] + [-1], np.int64)
    codes = lookup[texts.codes]
    unseen = [w for w, code in zip(texts.levels, lookup, strict=False) if code == -2]
    rows = int((codes == -2).sum())
    notes = ()
    if unseen and rows:
        shown = ", ".join(unseen[:5]) + (", …" if len(unseen) > 5 else "")
        values_ = f"{len(unseen):,} unseen value{'s' * (len(unseen) > 1)}"
        notes = (f"column {column.name}: {rows:,} row{'s' * (rows > 1)} with {values_}: {shown}",)
    return Reading(column, codes, notes)


def _decide(
    name: str, cells: Words | np.ma.MaskedArray, decimal: str, index: np.ndarray | None
) -> tuple[Kind, str, str, tuple[str, ...]]:
    """Kind, form, reason and notes of a column nobody declared."""
    if not isinstance(cells, Words):
        return _decide_typed(cells)
    levels, present = cells.levels, int((cells.codes >= 0).sum())
    notes: tuple[str, ...] = ()
    if not levels:
        return Kind.CONSTANT, "", "no values at all", notes
    if len(levels) == 1 and present == len(cells.codes):
        return Kind.CONSTANT, "", f"{quoted(levels[0])} in every row", notes
    if (form := number_form(levels, decimal)) is not None:
        return Kind.NUMBER, form, "numbers written as text", notes
    if len(levels) < 8 and frozenset(w.casefold() for w in levels) in _PAIRS:
        return Kind.BOOLEAN, "", f"only {' and '.join(quoted(w) for w in sort_levels(levels)[:2])}", notes
    dates = [w for w in levels if w not in NUMBER_MARKERS]
    if dates and (found := date_form(dates)):
        form, ambiguous = found
        if ambiguous:
            doubt = f"{quoted(dates[0])} could be day/month or month/day; it was read as {form}"
            notes += (f"column {name}: {doubt}. Write ISO dates (2020-01-31) to be sure",)
        return Kind.DATE, form, f"dates written {form}", notes
    if all(map(_UUID.fullmatch, levels)):
        return Kind.IDENTIFIER, "", f"universally unique identifiers, such as {quoted(levels[0])}", notes
    notes += _nearly_numbers(name, cells, index)
    looked_at = levels[:1000]
    wordy = sum(w.count(" ") + 1 for w in looked_at) / len(looked_at) >= 3
    many = f"{len(levels):,} distinct word{'s' * (len(levels) > 1)} in {present:,} rows"
    if wordy and (len(levels) == present or (len(levels) > 50 and len(levels) > present / 2)):
        return Kind.TEXT, "", f"free text: {len(levels):,} distinct sentences in {present:,} rows", notes
    if 1 < len(levels) == present or (len(levels) > 50 and len(levels) > 0.9 * present):
        return Kind.IDENTIFIER, "", f"{many}: a name for nearly every row", notes
    if number_form([w.lstrip("+-0") or "0" for w in levels]) is not None:
        return Kind.CATEGORY, "", f"{len(levels):,} distinct codes with zeros in front in {present:,} rows", notes
    return Kind.CATEGORY, "", many, notes


def _decide_typed(cells: np.ma.MaskedArray) -> tuple[Kind, str, str, tuple[str, ...]]:
    present = cells.compressed()
    if not len(present):
        return Kind.CONSTANT, "", "no values at all", ()
    if cells.dtype == np.bool_:
        if len(present) == len(cells) and present.all() == present.any():
            return Kind.CONSTANT, "", f"{str(bool(present[0])).lower()} in every row", ()
        return Kind.BOOLEAN, "", "true and false", ()
    if cells.dtype.kind == "M":
        if len(present) == len(cells) and present.min() == present.max():
            return Kind.CONSTANT, "", f"{date_text(present[0])} in every row", ()
        return Kind.DATE, "", "dates", ()
    return Kind.NUMBER, "", "", ()


def _number_or_not(column: Column, distinct: np.ndarray, rows: int, *, gaps: bool) -> Column:
    """A column of numbers may yet be constant, or count or name its rows; but not one that is declared (rows = 0)."""
    n, low, high = len(distinct), distinct[0], distinct[-1]
    if n == 1 and not gaps and rows:
        return replace(column, kind=Kind.CONSTANT, used=False, reason=f"{low:g} in every row")
    if n == rows and _whole(distinct):
        if low in {0, 1} and high - low == n - 1:
            reason = f"the whole numbers from {low:.0f} to {high:,.0f}, each once: a row counter"
            return replace(column, kind=Kind.IDENTIFIER, used=False, reason=reason)
        if _ID_NAME.fullmatch(column.name):
            reason = f"{n:,} whole numbers, all different, under the name of an identifier"
            return replace(column, kind=Kind.IDENTIFIER, used=False, reason=reason)
    kind = f"{column.reason}: " if column.reason else ""
    return replace(column, reason=f"{kind}{n:,} distinct number{'s' * (n > 1)} from {low:g} to {high:g}")


def _whole(x: np.ndarray) -> bool:
    return bool((x == np.floor(x)).all())


def _form(cells: Words | np.ma.MaskedArray, kind: Kind, decimal: str) -> str:
    """How the cells of a declared column are written."""
    if not isinstance(cells, Words):
        return "number" if kind is Kind.CATEGORY and cells.dtype.kind in "if" else ""
    if kind is Kind.NUMBER:
        # one bad word must not hide how the others are written; the bad one is named by its row later
        forms = ("", "decimal comma", "thousands") if decimal == "," else ("", "thousands", "decimal comma")
        fits = {f: sum(1 for w in cells.levels if NUMBER_FORMS[f].fullmatch(w)) for f in forms}
        return max(forms, key=lambda f: fits[f])
    if kind is Kind.DATE:
        found = date_form([w for w in cells.levels if w not in NUMBER_MARKERS], most=True)
        return found[0] if found else ISO
    return ""


def _cells(
    column: Column, cells: Words | np.ma.MaskedArray, index: np.ndarray | None
) -> tuple[np.ndarray, tuple[str, ...], tuple[str, ...]]:
    """Cells as numbers or codes, the levels found, and notes."""
    match column.kind:
        case Kind.NUMBER:
            return as_numbers(column.name, cells, column.form, index), (), _number_notes(column, cells)
        case Kind.BOOLEAN:
            return as_booleans(column.name, cells, index), truth_words(cells), ()
        case Kind.DATE:
            return as_dates(column.name, cells, column.form, index), (), ()
        case Kind.CATEGORY:
            texts = as_words(cells)
            levels = sort_levels(texts.levels)
            rank = {w: i for i, w in enumerate(levels)}
            lookup = np.array([rank[w] for w in texts.levels] + [-1], np.int64)
            return lookup[texts.codes], tuple(levels), ()
        case _:
            return cells.codes if isinstance(cells, Words) else as_float(cells), (), ()


def _summary(column: Column, x: np.ndarray, levels: tuple[str, ...]) -> dict[str, float | str]:
    """A few plain values of the cells that are there."""
    if not len(x):
        return {}
    match column.kind:
        case Kind.NUMBER:
            with np.errstate(over="ignore"):
                return {"min": float(x.min()), "mean": float(x.mean()), "max": float(x.max()), "sd": float(x.std())}
        case Kind.DATE:
            return {"first": iso(x.min()), "last": iso(x.max())}
        case Kind.BOOLEAN:
            return {"true": float(x.mean())}
        case Kind.CATEGORY:
            counts = np.bincount(x)
            return {"most": levels[int(counts.argmax())], "rows": int(counts.max())}
        case _:
            return {}


def _marker_notes(name: str, markers: Mapping[str, int]) -> tuple[str, ...]:
    if not markers:
        return ()
    return (f"column {name}: " + " and ".join(f"{n:,} '{w}'" for w, n in markers.items()) + " read as missing",)


def _number_notes(column: Column, cells: Words | np.ma.MaskedArray) -> tuple[str, ...]:
    """What was taken off, or taken as missing, to read words as numbers."""
    if not isinstance(cells, Words):
        return ()
    counts = np.bincount(cells.codes[cells.codes >= 0], minlength=len(cells.levels))
    dashes = {w: int(n) for w, n in zip(cells.levels, counts, strict=True) if w in NUMBER_MARKERS}
    notes = _marker_notes(column.name, dashes)
    if any(w.endswith("%") for w in cells.levels):
        notes += (f"column {column.name}: the % sign was taken off, 12 % became 12",)
    if column.form:
        comma = "separating thousands" if column.form == "thousands" else "the decimal sign"
        shown = next((w for w in cells.levels if "," in w), cells.levels[0])
        notes += (f"column {column.name}: the comma in {quoted(shown)} was read as {comma}",)
    return notes


def _nearly_numbers(name: str, cells: Words, index: np.ndarray | None) -> tuple[str, ...]:
    """A note where a few words keep a column from being numbers."""
    if not any(map(NUMBER_FORMS[""].fullmatch, cells.levels[:100])):
        return ()
    odd = np.array([not NUMBER_FORMS[""].fullmatch(w) for w in cells.levels] + [False])
    rows = odd[cells.codes]
    if not rows.any() or rows.sum() > (cells.codes >= 0).sum() / 10:
        return ()
    word, n = quoted(cells.levels[cells.codes[int(rows.argmax())]]), int(rows.sum())
    numbers = int((~rows & (cells.codes >= 0)).sum())
    share = f"{numbers:,} cells hold numbers, {n:,} do{'es' * (n == 1)} not"
    mend = "mend or empty those cells to have a column of numbers"
    return (f"column {name} was read as words: {share}, the first {word} in row {first_row(rows, index)}; {mend}",)
