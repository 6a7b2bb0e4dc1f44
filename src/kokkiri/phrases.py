"""Numbers, counts and times as people write them."""

from __future__ import annotations

import datetime as dt
import math


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
