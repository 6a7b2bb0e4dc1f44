"""Cells of a column as they were read, and as numbers.

Cells come as one of five types (see `sources.RawTable`): booleans, int64, float64, datetime64, or words. Words are
looked at once each, never cell by cell, so that a million rows cost as much as the distinct words among them.
"""

from __future__ import annotations

import re
from functools import partial
from typing import NamedTuple

import numpy as np

from kokkiri.data.dates import ISO, days_of, iso
from kokkiri.errors import DataError

MARKERS = frozenset({"", "NA", "N/A", "n/a", "#N/A", "<NA>", "NaN", "nan", "null", "NULL", "?"})  # no value
NUMBER_MARKERS = frozenset({"-", "--", ".", "none", "None", "NONE"})  # no value where the others are numbers or dates
TRUTH = {"true": 1, "false": 0, "yes": 1, "no": 0, "y": 1, "n": 0, "t": 1, "f": 0, "on": 1, "off": 0, "1": 1, "0": 0}

_PLAIN = r"[+-]?(?:(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|[iI]nf(?:inity)?)"
NUMBER_FORMS = {  # how numbers are written as text; a % sign may follow each
    "": re.compile(rf"{_PLAIN}\s*%?"),
    "thousands": re.compile(rf"(?:[+-]?\d{{1,3}}(?:,\d{{3}})+(?:\.\d+)?|{_PLAIN})\s*%?"),
    "decimal comma": re.compile(r"[+-]?(?:\d+|\d{1,3}(?:\.\d{3})+)(?:,\d+)?(?:[eE][+-]?\d+)?\s*%?"),
}
_LEADING_ZERO = re.compile(r"[+-]?0\d")


class Words(NamedTuple):
    """Words once each, in order of appearance, the code of each cell (-1 missing), and what was taken as missing."""

    codes: np.ndarray
    levels: list[str]
    markers: dict[str, int]


def words(values: np.ma.MaskedArray) -> Words:
    """Each word once: stripped of spaces around it, the usual signs for "no value" taken out.

    >>> words(np.ma.array(["a", " b", "?", "a"], mask=[0, 0, 0, 0], dtype=object))
    Words(codes=array([ 0,  1, -1,  0]), levels=['a', 'b'], markers={'?': 1})
    """
    bare = values.data.copy()
    bare[np.ma.getmaskarray(values)] = None
    cells = bare.tolist()
    raw = [w for w in dict.fromkeys(cells) if w is not None]
    position: dict[str | None, int] = dict(zip(raw, range(len(raw)), strict=True))
    position[None] = -1
    same = len(raw) == len(cells)
    codes = np.arange(len(raw)) if same else np.fromiter(map(position.__getitem__, cells), np.int64, len(cells))
    stripped = [w.strip() for w in raw]
    if stripped == raw and MARKERS.isdisjoint(raw):
        return Words(codes, raw, {})
    kept = {w: i for i, w in enumerate(w for w in dict.fromkeys(stripped) if w not in MARKERS)}
    lookup = np.array([*(kept.get(w, -1) for w in stripped), -1], np.int64)  # the last entry is where code -1 looks
    counts = np.bincount(codes[codes >= 0], minlength=len(raw))
    markers: dict[str, int] = {}
    for word, n in zip(stripped, counts.tolist(), strict=True):
        if word in MARKERS and word:  # of an empty cell there is nothing to tell
            markers[word] = markers.get(word, 0) + n
    return Words(lookup[codes], list(kept), dict(sorted(markers.items())))


def distinct_of(x: np.ndarray) -> np.ndarray:
    """The different values of x, in order. (numpy.unique hashes since 2.3, which is several times slower on numbers.)

    >>> distinct_of(np.array([3.0, 1.0, 3.0])).tolist()
    [1.0, 3.0]
    """
    ordered = np.sort(x)
    return ordered[np.concatenate([[True], ordered[1:] != ordered[:-1]])] if len(ordered) else ordered


def number_form(levels: list[str], decimal: str = ".") -> str | None:
    """How words write numbers: "", "thousands" ("1,234.5") or "decimal comma" ("1.234,5"); None if they do not.

    A comma before exactly three digits everywhere is taken as a separator of thousands, unless the file has shown that
    its decimal sign is the comma. Zeros in front ("00501") make a code, not a number.

    >>> number_form(["1,234", "12"]), number_form(["1,5"]), number_form(["1,234"], decimal=","), number_form(["007"])
    ('thousands', 'decimal comma', 'decimal comma', None)
    """
    kept = [w for w in levels if w not in NUMBER_MARKERS]
    if not kept or any(map(_LEADING_ZERO.match, kept)):
        return None
    for form in ("", "decimal comma", "thousands") if decimal == "," else ("", "thousands", "decimal comma"):
        if all(map(NUMBER_FORMS[form].fullmatch, kept)):
            return form
    return None


def sort_levels(levels: list[str]) -> list[str]:
    """Numbers by size, words by letter.

    >>> sort_levels(["10", "9"]), sort_levels(["b", "A", "c"])
    (['9', '10'], ['A', 'b', 'c'])
    """
    if all(map(NUMBER_FORMS[""].fullmatch, levels)):
        return sorted(levels, key=lambda w: (_number(w, ""), w))
    return sorted(levels, key=lambda w: (w.casefold(), w))


def first_row(mask: np.ndarray, index: np.ndarray | None = None) -> int:
    """The number, counted from 1, of the first row where `mask` holds."""
    row = int(mask.argmax())
    return int(row if index is None else index[row]) + 1


def as_numbers(name: str, cells: Words | np.ma.MaskedArray, form: str, index: np.ndarray | None) -> np.ndarray:
    """float64 with NaN where missing; a cell that is no number is an error that names its row."""
    refuse = partial(_refuse_first, name, "number", cells, "a number, or an empty cell where there is none", index)
    if not isinstance(cells, Words):
        if cells.dtype.kind == "M":
            refuse(~np.ma.getmaskarray(cells))
        return as_float(cells)
    regex, plain = NUMBER_FORMS[form], NUMBER_FORMS[""]
    numbers = np.full(len(cells.levels) + 1, np.nan)
    bad = np.zeros(len(cells.levels) + 1, bool)
    for i, word in enumerate(cells.levels):
        if regex.fullmatch(word):
            numbers[i] = _number(word, form)
        elif plain.fullmatch(word):
            numbers[i] = _number(word, "")
        else:
            bad[i] = word not in NUMBER_MARKERS
    refuse(bad[cells.codes])
    return numbers[cells.codes]


def as_booleans(name: str, cells: Words | np.ma.MaskedArray, index: np.ndarray | None) -> np.ndarray:
    """0.0, 1.0, or NaN where missing."""
    refuse = partial(_refuse_first, name, "boolean", cells, "true or false, yes or no, 1 or 0", index)
    if not isinstance(cells, Words):
        x = as_float(cells)
        refuse(~np.isnan(x) & (x != 0) & (x != 1))
        return x
    truth = [TRUTH.get(w.casefold(), np.nan) for w in cells.levels]
    refuse(np.isnan([*truth, 0])[cells.codes])
    return np.array([*truth, np.nan], np.float64)[cells.codes]


def as_dates(name: str, cells: Words | np.ma.MaskedArray, form: str, index: np.ndarray | None) -> np.ndarray:
    """Days since 1970 with NaN where missing; ISO dates are understood whatever the form."""
    refuse = partial(_refuse_first, name, "date", cells, f"a date, written {form or ISO}", index)
    if not isinstance(cells, Words):
        if cells.dtype.kind != "M":
            refuse(~np.ma.getmaskarray(cells))
        return as_float(cells)
    days = days_of(cells.levels, form or ISO)
    if np.isnan(days).any():
        days = np.where(np.isnan(days), days_of(cells.levels, ISO), days)
    bad = np.isnan(days) & np.array([w not in NUMBER_MARKERS for w in cells.levels], bool)
    refuse(np.append(bad, False)[cells.codes])
    return np.append(days, np.nan)[cells.codes]


def as_words(cells: Words | np.ma.MaskedArray) -> Words:
    """Cells as words: numbers without needless decimals, so that 1.0 in one file is 1 in another."""
    if isinstance(cells, Words):
        return cells
    missing = np.ma.getmaskarray(cells)
    there = cells.data[~missing]
    distinct = distinct_of(there)
    codes = np.full(len(cells), -1, np.int64)
    codes[~missing] = np.searchsorted(distinct, there)
    match cells.dtype.kind:
        case "b":
            levels = [str(bool(v)).lower() for v in distinct]
        case "M":
            levels = [date_text(v) for v in distinct]
        case _:
            levels = [_number_text(float(v)) if cells.dtype.kind == "f" else str(v) for v in distinct]
    return Words(codes, levels, {})


def truth_words(cells: Words | np.ma.MaskedArray) -> tuple[str, str]:
    """The words for false and for true."""
    if not isinstance(cells, Words):
        return ("false", "true") if cells.dtype.kind == "b" else ("0", "1")
    spoken = {TRUTH[w.casefold()]: w for w in reversed(cells.levels)}  # the first word for each
    return spoken.get(0, "false"), spoken.get(1, "true")


def as_float(cells: np.ma.MaskedArray) -> np.ndarray:
    """float64 with NaN where missing; dates as days."""
    x = cells.data.astype(np.int64) / 86_400e6 if cells.dtype.kind == "M" else cells.data.astype(np.float64)
    return np.where(np.ma.getmaskarray(cells), np.nan, x)


def canonical(word: str) -> str:
    """A number as `as_words` writes it; any other word as it is."""
    return _number_text(_number(word, "")) if NUMBER_FORMS[""].fullmatch(word) else word


def quoted(word: str) -> str:
    """A word for a message, cut where it is long."""
    return f"'{word}'" if len(word) <= 40 else f"'{word[:37]}…'"


def _refuse_first(
    name: str,
    kind: str,
    cells: Words | np.ma.MaskedArray,
    needs: str,
    index: np.ndarray | None,
    bad: np.ndarray,
) -> None:
    if not bad.any():
        return
    at, count = int(bad.argmax()), int(bad.sum())
    value = quoted(
        cells.levels[cells.codes[at]] if isinstance(cells, Words) else as_words(cells[at : at + 1]).levels[0]
    )
    more = f", and {count - 1:,} more such cell{'s' * (count > 2)}" if count > 1 else ""
    raise DataError(
        f"column '{name}' is a {kind}, but row {first_row(bad, index):,} is not",
        needs=needs,
        found=f"row {first_row(bad, index):,}: {value}{more}",
        fix=f"mend the cell or empty it; where the words mean something, --kind {name}=category",
    )


def _number(word: str, form: str) -> float:
    word = word.rstrip("%").rstrip()
    if form == "decimal comma":
        word = word.replace(".", "").replace(",", ".")
    return float(word.replace(",", ""))


def _number_text(x: float) -> str:
    return str(int(x)) if x.is_integer() else repr(x)


def date_text(value: np.datetime64) -> str:
    """2020-01-31, with the time of day if it has one."""
    return iso(value.astype("datetime64[us]").astype(np.int64) / 86_400e6)
