"""Levels of a treatment that hardly any row has: no obstacle to comparing two others.

E[Y(a)] of a level a needs P(a | x), E[Y | a, x], and the x of all rows: which of the other levels a row had does not
come in. So rare levels that are not compared are taken together as one, and the effect stays that among all rows. To
leave their rows out would change whose effect it is, and to take levels for a dose would claim a smooth curve. Rows are
left out only where all others together are too few to be a level.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from kokkiri.errors import DataError
from kokkiri.phrases import count, joined

FEW = 10  # rows of a level below which nothing is learnt of it
OTHERS = "others"


class Rare(NamedTuple):
    """together: names of levels that are one, called `name`. gone: (n,) rows that are left out, if any are. notes,
    warnings: what is to be said of both.
    """

    together: tuple[str, ...] = ()
    name: str = ""
    gone: Tensor | None = None
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def rare_levels(levels: Sequence[str], t: Tensor, level: int, versus: int) -> Rare:
    """What becomes of levels with fewer than FEW rows. Raises DataError where one that is compared is among them.

    >>> t = torch.tensor([0] * 40 + [1] * 30 + [2] * 12 + [3] * 8 + [4] * 5)
    >>> rare_levels("01234", t, 1, 0).together, rare_levels("01234", t[:84], 1, 0).together
    (('3', '4'), ('2', '3'))
    >>> rare_levels("01234", torch.cat([t[:70], t[90:]]), 1, 0).warnings
    ('5 rows with 4 left out: too few to learn from, and not compared; the effect is that among the others',)
    """
    counts = torch.bincount(t, minlength=len(levels)).tolist()
    few = min((level, versus), key=lambda k: counts[k])
    if counts[few] < FEW:
        raise DataError(
            f"there are too few rows with {levels[few]} for networks",
            needs=f"{FEW} rows of each level that is compared", found=f"{counts[few]} of {len(t):,}",
            fix="--method linear, or compare other levels",
        )  # fmt: skip
    others = sorted((k for k in range(len(levels)) if k not in {level, versus} and counts[k]), key=lambda k: counts[k])
    if not others or counts[others[0]] >= FEW:
        return Rare()
    many = sum(counts[k] < FEW for k in others)
    while many < len(others) and sum(counts[k] for k in others[:many]) < FEW:
        many += 1
    rare = sorted(others[:many])
    names, rows = [levels[k] for k in rare], sum(counts[k] for k in rare)
    if rows < FEW:
        gone = f"{count(rows, 'row')} with {joined(names)} left out: too few to learn from, and not compared"
        return Rare(
            (), "", torch.isin(t, torch.tensor(rare)), warnings=(f"{gone}; the effect is that among the others",)
        )
    called = OTHERS
    while called in levels:
        called += "'"
    told = f"levels that few rows have, and that are not compared, are taken together as {called}: "
    told += joined([f"{levels[k]} ({count(counts[k], 'row')})" for k in rare])
    return Rare(tuple(names), called, notes=(f"{told}; the effect is that among all rows",))
