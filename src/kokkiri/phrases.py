"""Numbers, counts and times as people write them."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Sequence


def plain(value: float, decimals: int | None = None) -> str:
    """Three significant digits, or so many decimals; thousands are set off.

    >>> plain(0.012345), plain(12345.6), plain(-0.5, 2), plain(1.5e9), plain(float("nan"))
    ('0.0123', '12,346', '-0.50', '1.5e+09', 'unknown')
    """
    if math.isnan(value):
        return "unknown"
    if not math.isfinite(value):
        return "infinity" if value > 0 else "-infinity"
    size = abs(value)
    if size >= 1e7 or 0 < size < 1e-5:
        return f"{value:.3g}"
    if decimals is None:
        decimals = 0 if size == 0 else max(0, 2 - math.floor(math.log10(size)))
    return f"{value:,.{decimals}f}"


def percent(proportion: float, decimals: int = 1) -> str:
    """A share of one, in hundredths.

    >>> percent(0.97368), percent(float("nan"))
    ('97.4 %', 'unknown')
    """
    return "unknown" if math.isnan(proportion) else f"{100 * proportion:.{decimals}f} %"


def probability(p: float) -> str:
    """A probability with what matters of it: four decimals, more near 0 and 1, and never a certainty that is none.

    >>> probability(0.91666), probability(0.99908182), probability(0.0098), probability(1 - 1e-12), probability(1.0)
    ('0.9167', '0.999082', '0.00980', '1 - 1.0e-12', '1')
    """
    if math.isnan(p) or p in {0.0, 1.0}:
        return "unknown" if math.isnan(p) else str(int(p))
    if p < 0.01:
        return f"{p:.2e}" if p < 1e-4 else plain(p)
    rest = 1 - p
    if rest < 1e-8:
        return f"1 - {rest:.1e}"
    return f"{p:.{4 if rest > 0.01 else 2 - math.floor(math.log10(rest))}f}"


def cut(text: str, length: int) -> str:
    """A name that may be too long for its column.

    >>> cut("pneumonia", 9), cut("pneumonia", 6)
    ('pneumonia', 'pneum…')
    """
    return text if len(text) <= length else text[: length - 1] + "…"


def table(header: Sequence[str], rows: Sequence[Sequence[str]], *, left: int = 1, width: int = 80) -> str:
    """Aligned columns of plain text, the first `left` of them to the left; the first is cut where it does not fit.

    >>> print(table(["dose", "mg"], [["low", "5"], ["high", "100"]]))
    dose   mg
    low     5
    high  100
    """
    lines = [list(header), *map(list, rows)]
    wide = [max(map(len, column)) for column in zip(*lines, strict=True)]
    wide[0] = max(4, min(wide[0], width - sum(wide[1:]) - 2 * (len(wide) - 1)))
    pad = lambda k, text: text.ljust(wide[k]) if k < left else text.rjust(wide[k])
    padded = ("  ".join(pad(k, text if k else cut(text, wide[0])) for k, text in enumerate(line)) for line in lines)
    return "\n".join(line.rstrip() for line in padded)


def count(n: int, noun: str, plural: str = "") -> str:
    """How many of what.

    >>> count(1, "row"), count(4000, "row"), count(2, "class", "classes")
    ('1 row', '4,000 rows', '2 classes')
    """
    return f"{n:,} {noun if n == 1 else plural or noun + 's'}"


def joined(words: list[str], limit: int = 12) -> str:
    """The first few, and how many more there are.

    >>> joined(["a", "b"]), joined(["a", "b", "c"], limit=2)
    ('a, b', 'a, b and 1 more')
    """
    rest = len(words) - limit
    return ", ".join(words[:limit]) + (f" and {rest} more" if rest > 0 else "")


def date_of(day: float) -> str:
    """A day counted from 1970.

    >>> date_of(19723.5)
    '2024-01-01'
    """
    return str(dt.date(1970, 1, 1) + dt.timedelta(days=math.floor(day)))


def duration(seconds: float) -> str:
    """A time as one would say it.

    >>> duration(0.42), duration(75), duration(3900)
    ('0.4 s', '1 min 15 s', '1 h 5 min')
    """
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    if seconds < 3600:
        return f"{int(seconds // 60)} min {int(seconds % 60)} s"
    return f"{int(seconds // 3600)} h {int(seconds % 3600 // 60)} min"
