"""Dates as text, in the forms that tables hold, to days since 1970-01-01 (UTC)."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone

import numpy as np

_CLOCK = (
    r"(?:[T ]\s*(?P<hour>\d{1,2}):(?P<minute>\d{2})(?::(?P<second>\d{2})(?:[.,](?P<fraction>\d{1,9}))?)?"
    r"\s*(?P<zone>Z|[+-]\d{2}:?\d{2})?)?"
)
DATE_FORMS = {  # 31 January 2020 at the line ends
    "year-month-day": re.compile(
        rf"(?P<year>\d{{4}})([-/.])(?P<month>\d{{1,2}})\2(?P<day>\d{{1,2}}){_CLOCK}"
    ),  # 2020-01-31
    "day.month.year": re.compile(rf"(?P<day>\d{{1,2}})\.(?P<month>\d{{1,2}})\.(?P<year>\d{{4}}){_CLOCK}"),  # 31.01.2020
    "month/day/year": re.compile(
        rf"(?P<month>\d{{1,2}})([-/])(?P<day>\d{{1,2}})\2(?P<year>\d{{4}}){_CLOCK}"
    ),  # 1/31/2020
    "day/month/year": re.compile(
        rf"(?P<day>\d{{1,2}})([-/])(?P<month>\d{{1,2}})\2(?P<year>\d{{4}}){_CLOCK}"
    ),  # 31/1/2020
    "day month year": re.compile(
        rf"(?P<day>\d{{1,2}})[- ](?P<month>[A-Za-z]{{3,9}})\.?[- ](?P<year>\d{{4}}){_CLOCK}"
    ),  # 31 Jan 2020
    "month day, year": re.compile(
        rf"(?P<month>[A-Za-z]{{3,9}})\.? (?P<day>\d{{1,2}}),? (?P<year>\d{{4}}){_CLOCK}"
    ),  # Jan 31, 2020
}
ISO = "year-month-day"
_SORTABLE = re.compile(r"\d{4}-\d{2}-\d{2}(?:[T ]\d{2}:\d{2}(?::\d{2}(?:\.\d{1,6})?)?)?")  # what numpy parses at once
_MONTHS = (
    "january", "february", "march", "april", "may", "june",
    "july", "august", "september", "october", "november", "december",
)  # fmt: skip
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def date_form(levels: list[str], *, most: bool = False) -> tuple[str, bool] | None:
    """The form that every word has (with `most`, that most have), and whether day and month could be swapped.

    >>> date_form(["31/1/2020", "1/2/2020"]), date_form(["1/2/2020"]), date_form(["soon"])
    (('day/month/year', False), ('month/day/year', True), None)
    """
    parsed = {form: np.isfinite(days_of(levels, form)) for form in _candidates(levels, most=most)}
    fits = {form: ok.mean() for form, ok in parsed.items() if ok.all() or (most and ok.any())}
    if not fits:
        return None
    best = max(fits, key=lambda form: fits[form])
    return best, {"month/day/year", "day/month/year"} <= {form for form, fit in fits.items() if fit == fits[best]}


def days_of(levels: list[str], form: str) -> np.ndarray:
    """Days since 1970-01-01 of each word, NaN where it is no date of that form.

    >>> days_of(["1970-01-02 12:00", "1970-13-01"], "year-month-day").tolist()
    [1.5, nan]
    """
    if form == ISO and all(map(_SORTABLE.fullmatch, levels)):
        try:
            return np.array(levels, dtype="datetime64[us]").astype(np.int64) / 86_400e6
        except ValueError:  # a 31 February among them: look one by one
            pass
    return np.array([_days(word, DATE_FORMS[form]) for word in levels], dtype=np.float64)


def iso(days: float) -> str:
    """A date as text, with the time of day if it has one.

    >>> iso(1.0), iso(1.5)
    ('1970-01-02', '1970-01-02 12:00:00')
    """
    text = str(np.datetime64(round(days * 86_400), "s")).replace("T", " ")
    return text.removesuffix(" 00:00:00")


def _candidates(levels: list[str], *, most: bool) -> list[str]:
    """The forms that the first word has: most columns of words are ruled out by one look."""
    looked_at = levels if most else levels[:1]
    return [form for form, regex in DATE_FORMS.items() if any(map(regex.fullmatch, looked_at))]


def _days(word: str, regex: re.Pattern[str]) -> float:
    match = regex.fullmatch(word)
    if match is None:
        return np.nan
    part = match.groupdict()
    month = part["month"]
    if not month.isdigit():
        named = [i for i, m in enumerate(_MONTHS, 1) if m.startswith(month.casefold())]
        if len(named) != 1:
            return np.nan
        month = named[0]
    try:
        moment = datetime(
            int(part["year"]), int(month), int(part["day"]),
            int(part["hour"] or 0), int(part["minute"] or 0), int(part["second"] or 0),
            int((part["fraction"] or "0").ljust(6, "0")[:6]), _zone(part["zone"]),
        )  # fmt: skip
    except ValueError:
        return np.nan
    return (moment - _EPOCH) / timedelta(days=1)


def _zone(text: str | None) -> timezone:
    if text in {None, "Z"}:
        return UTC
    assert text is not None
    sign = -1 if text[0] == "-" else 1
    return timezone(sign * timedelta(hours=int(text[1:3]), minutes=int(text[-2:])))
