"""What is known of the variables, as people hand it in, as numbers of states: of one case, or of many rows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from kokkiri.data.cells import MARKERS, TRUTH
from kokkiri.data.frames import open_table
from kokkiri.errors import DataError, ShapeError, UsageError, nearest
from kokkiri.exact.networks.structure import Structure

MISSING = -1


class Rows(NamedTuple):
    """States by number, (N, K) for K variables; MISSING where a cell is not known.

    columns: the numbers of the variables, ascending. others: columns of the table that are no variables.
    """

    columns: tuple[int, ...]
    codes: np.ndarray
    others: tuple[str, ...] = ()

    @property
    def always(self) -> tuple[int, ...]:
        """The variables that are known in all rows."""
        return tuple(i for i, k in zip(self.columns, self.codes.T, strict=True) if bool((k >= 0).all()))

    @property
    def ever(self) -> tuple[int, ...]:
        """The variables that are known in some row."""
        return tuple(i for i, k in zip(self.columns, self.codes.T, strict=True) if bool((k >= 0).any()))

    def states(self, variables: Sequence[int], rows: np.ndarray) -> np.ndarray:
        """(K, n) states of some variables, by number, in some rows."""
        place = {i: k for k, i in enumerate(self.columns)}
        return np.ascontiguousarray(self.codes[rows][:, [place[i] for i in variables]].T)


def is_one_case(evidence: Any) -> bool:
    """Whether evidence is a state for each of some variables, and no table."""
    return evidence is None or (isinstance(evidence, Mapping) and all(map(_is_state, evidence.values())))


def case_of(what: Structure, evidence: Mapping[str, Any] | None) -> dict[int, int]:
    """Evidence of one case: the number of the state for the number of each variable.

    >>> from kokkiri.exact.networks.structure import structure
    >>> coins = structure("a; b", {"a": ("heads", "tails"), "b": ("heads", "tails")})
    >>> case_of(coins, {"b": "tails"})
    {1: 1}
    """
    found: dict[int, int] = {}
    for name, state in (evidence or {}).items():
        i = what.index.get(name, -1)
        if i < 0:
            what.number(name)
        k = what.codes[i].get(state, MISSING)
        found[i] = k if k >= 0 else code_of(what, i, state)
    return found


def code_of(what: Structure, variable: int, state: Any) -> int:
    """The number of a state by its name; numbers and truth values are names, too."""
    names, known = what.variables[variable].states, what.codes[variable]
    if isinstance(state, Tensor):
        state = state.item()
    if isinstance(state, np.generic):
        state = state.item()
    if isinstance(state, bool):
        found = [k for k, name in enumerate(names) if TRUTH.get(name.casefold()) == int(state)]
        if len(found) == 1:
            return found[0]
    elif isinstance(state, float) and state.is_integer():
        state = int(state)
    if str(state) not in known:
        raise UsageError(
            f"'{what.variables[variable].name}' has no state '{state}'", needs="one of its states, by name",
            found=f"'{state}'", fix=nearest(str(state), names),
        )  # fmt: skip
    return known[str(state)]


def rows_of(what: Structure, table: Any) -> Rows:
    """Evidence of many rows, from whatever holds a table: a file, a data frame, a mapping of columns, a list of dicts.

    Cells are names of states; empty ones, and the usual marks, are missing, unless they name a state. Columns that are
    tensors or arrays of integers hold the numbers of states, -1 for missing. In a mapping one state may stand for all
    rows.

    >>> from kokkiri.exact.networks.structure import structure
    >>> coins = structure("a; b", {"a": ("heads", "tails"), "b": ("heads", "tails")})
    >>> rows_of(coins, {"b": ["tails", None], "a": torch.tensor([0, 1])})
    Rows(columns=(0, 1), codes=array([[ 0,  1],
           [ 1, -1]]), others=())
    """
    if isinstance(table, Rows):
        return table
    found: dict[int, np.ndarray] = {}
    scalars: dict[int, int] = {}
    others: list[str] = []
    if isinstance(table, Mapping):
        plain = {}
        for name, column in table.items():
            if name not in what.index:
                others.append(name)
            elif _is_state(column):
                scalars[what.index[name]] = code_of(what, what.index[name], column)
            elif (codes := _as_codes(what, name, column)) is not None:
                found[what.index[name]] = codes
            else:
                plain[name] = column
        table = plain
    if not isinstance(table, Mapping) or table:
        raw = open_table(table, words=what.names)
        for name in raw.names:
            if name in what.index:
                found[what.index[name]] = _column(what, name, raw.values[name])
            else:
                others.append(name)
    lengths = {what.variables[i].name: len(codes) for i, codes in found.items()}
    if len(set(lengths.values())) > 1:
        raise ShapeError("columns of evidence differ in length", needs="a cell for each row in every column",
                         found=", ".join(f"{n} {k:,}" for n, k in lengths.items()), fix="cut or fill them")  # fmt: skip
    if not found:
        raise DataError(
            "no column is a variable of the network", needs=f"columns of {', '.join(what.names[:6])}"
            + (", …" if len(what.names) > 6 else ""),
            found=", ".join(others[:6]) or "no columns", fix=nearest(others[0] if others else "", what.names),
        )  # fmt: skip
    n = next(iter(lengths.values()))
    found |= {i: np.full(n, k) for i, k in scalars.items()}
    columns = tuple(sorted(found))
    return Rows(columns, np.stack([found[i] for i in columns], 1), tuple(others))


def with_case(what: Structure, rows: Rows, case: Mapping[int, int]) -> Rows:
    """The same rows with states that hold in all of them."""
    for i in case:
        if i in rows.columns:
            name = what.variables[i].name
            raise UsageError(f"'{name}' is a column, and is given for all rows, too", needs="one of the two",
                             found=f"'{name}' twice", fix="leave one of them out")  # fmt: skip
    columns = tuple(sorted([*rows.columns, *case]))
    place = {i: rows.codes[:, k] for k, i in enumerate(rows.columns)}
    place |= {i: np.full(len(rows.codes), k) for i, k in case.items()}
    return Rows(columns, np.stack([place[i] for i in columns], 1), rows.others)


def distinct_rows(codes: np.ndarray, sizes: Sequence[int]) -> tuple[np.ndarray, np.ndarray | None]:
    """Each different row once, and where each row is among them; as they are where few are equal. (K, n).

    >>> some, back = distinct_rows(np.array([[1, 0, 1], [0, 1, 0]]), [2, 2])
    >>> some.tolist(), back.tolist()
    ([[0, 1], [1, 0]], [1, 0, 1])
    """
    n = codes.shape[1]
    line, far = np.zeros(n, np.int64), 1
    for column, size in zip(codes, sizes, strict=True):
        line, far = line * size + column, far * size
        if far > 2**62:  # more settings than 64 bits tell apart: they hardly repeat
            return codes, None
    if n and far <= 4 * n:  # few settings: a table of them is quicker than sorting
        there = np.zeros(far, bool)
        there[line] = True
        place = np.cumsum(there) - 1
        first = np.empty(int(place[-1]) + 1, np.int64)
        first[place[line]] = np.arange(n)
        return codes[:, first], place[line]
    _, first, back = np.unique(line, return_index=True, return_inverse=True)
    return (codes, None) if 2 * len(first) > n else (codes[:, first], back)


def soft_of(what: Structure, soft: Mapping[str, Any] | None, hard: Sequence[int]) -> dict[int, np.ndarray]:
    """Soft evidence: likelihoods p(what was seen | state) of each state, (K,) or (N, K), as given or by state."""
    found: dict[int, np.ndarray] = {}
    for name, given in (soft or {}).items():
        i = what.number(name)
        states = what.variables[i].states
        if i in hard:
            raise UsageError(f"'{name}' is known, and soft evidence is given for it, too", needs="one of the two",
                             found=f"'{name}' twice", fix="leave one of them out")  # fmt: skip
        if isinstance(given, Mapping):
            for state in given:
                code_of(what, i, state)
        listed = [given.get(s, math.nan) for s in states] if isinstance(given, Mapping) else given
        values = torch.as_tensor(listed, dtype=torch.float64).detach().cpu().numpy()
        if values.ndim not in {1, 2} or values.shape[-1] != len(states):
            raise ShapeError(
                f"soft evidence for '{name}' has the wrong shape", needs=f"({len(states)},) or (rows, {len(states)})",
                found=str(values.shape), fix=f"a number for each of {', '.join(states)}",
            )  # fmt: skip
        if not bool(((values >= 0) & (values < math.inf)).all()) or not bool((values.max(-1) > 0).all()):
            raise UsageError(
                f"soft evidence for '{name}' is no likelihood", needs="a number >= 0 for each state, not all of them 0",
                found=", ".join(f"{v:g}" for v in values.reshape(-1, len(states))[0]),
                fix="p(what was seen | state), for " + ", ".join(states),
            )  # fmt: skip
        found[i] = values
    return found


def _is_state(value: Any) -> bool:
    if isinstance(value, Tensor | np.ndarray):
        return value.ndim == 0
    return isinstance(value, str | bool | int | float | np.generic)


def _as_codes(what: Structure, name: str, column: Any) -> np.ndarray | None:
    """Numbers of states, where a column is a tensor or an array of integers."""
    if isinstance(column, Tensor):
        column = column.detach().cpu().numpy()
    if not isinstance(column, np.ndarray) or column.dtype.kind not in "iu" or column.ndim != 1:
        return None
    states = len(what.variables[what.index[name]].states)
    if len(column) and not MISSING <= column.min() <= column.max() < states:
        raise UsageError(
            f"'{name}' has states 0 to {states - 1}", needs="their numbers, or -1 for a missing cell",
            found=f"{int(column.min())} to {int(column.max())}", fix="or hand in the names of the states as text",
        )  # fmt: skip
    return column.astype(np.int64)


def _column(what: Structure, name: str, cells: np.ma.MaskedArray) -> np.ndarray:
    """The number of the state in each cell; each word is looked at once."""
    i = what.index[name]
    values, mask = cells.data, np.ma.getmaskarray(cells)
    if values.dtype == object:
        values = np.where(mask, "", values).astype(str)
    words, which = np.unique(values, return_inverse=True)
    codes = np.full(len(words), MISSING)
    seen = np.zeros(len(words), bool)
    seen[which[~mask]] = True
    for k, word in enumerate(words.tolist()):
        text = word.strip() if isinstance(word, str) else word
        if not seen[k] or (text in MARKERS and text not in what.codes[i]):
            continue
        try:
            codes[k] = code_of(what, i, text)
        except UsageError as error:
            row = int(np.flatnonzero((which == k) & ~mask)[0]) + 1
            raise DataError(f"row {row:,}: {error.what}", needs=error.needs, found=error.found, fix=error.fix) from None
    return np.where(mask, MISSING, codes[which])


def described(what: Structure, case: Mapping[int, int]) -> str:
    """Evidence in words.

    >>> from kokkiri.exact.networks.structure import structure
    >>> described(structure("a", {"a": ("heads", "tails")}), {0: 1})
    'a=tails'
    """
    return ", ".join(f"{what.variables[i].name}={what.variables[i].states[k]}" for i, k in case.items())


def path_of(table: Any) -> str:
    """What a table is called in messages."""
    return Path(table).name if isinstance(table, str | Path) else "the evidence"
