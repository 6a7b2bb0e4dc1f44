"""Treatments with levels: what all their settings are called, which one each row had, and which two are compared."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import torch
from torch import Tensor

from kokkiri.causal.asked import Asked, pair_of
from kokkiri.causal.design import label
from kokkiri.causal.variables import Coded, Rows
from kokkiri.errors import DataError, Unsupported


def levels_of(asked: Asked, rows: Rows) -> tuple[tuple[str, ...], Tensor]:
    """Names of the settings that occur, and (n,) numbers of the rows' own.

    >>> from kokkiri.causal.variables import Columns
    >>> rows = Columns({"dose": [0, 2, 2], "diet": ["low", "low", "high"]}).rows(["dose", "diet"])
    >>> levels_of(Asked(("dose", "diet"), None, None, "y", ""), rows)
    (('dose=0, diet=low', 'dose=2, diet=high', 'dose=2, diet=low'), tensor([0, 2, 1]))
    """
    coded = _coded(asked, rows)
    every = list(product(*(c.levels for c in coded)))
    t = torch.zeros(rows.size, dtype=torch.int64)
    for c in coded:
        t = t * len(c.levels) + c.codes
    there, own = t.unique(return_inverse=True)
    return tuple(label(asked.treatments, every[k]) for k in there.tolist()), own


def settings_of(asked: Asked, rows: Rows) -> tuple[tuple[str, ...], Tensor, int, int]:
    """The same, with the numbers of the two settings that are compared."""
    coded, (names, t) = _coded(asked, rows), levels_of(asked, rows)
    out = []
    for side in pair_of(asked, [rows.variables[name] for name in asked.treatments], coded):
        wanted = label(asked.treatments, [c.levels[k] for c, k in zip(coded, side, strict=True)])
        if wanted not in names:
            raise DataError(f"no row has {wanted}", needs="rows of both settings", found="none",
                            fix="compare settings that occur")  # fmt: skip
        out.append(names.index(wanted))
    return names, t, out[0], out[1]


def _coded(asked: Asked, rows: Rows) -> Sequence[Coded]:
    found = []
    for name in asked.treatments:
        v = rows.variables[name]
        c = v.coded()
        if c is None:
            raise Unsupported(
                f"the treatment '{name}' has too many values for levels", needs="a treatment with levels",
                found=v.column.reason, fix="--method linear, for a straight line of dose and response",
            )  # fmt: skip
        found.append(c)
    return found
