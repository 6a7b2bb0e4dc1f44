"""Tables of conditional probabilities as people write them, checked, as float64 tensors."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import torch
from torch import Tensor

from kokkiri.errors import ShapeError, UsageError, nearest
from kokkiri.exact.networks.structure import Structure, parents_of, refuse_cycles, structure

EXACT = 1e-12  # what adds up to one so nearly is left as it is: to read what was written gives the same bits
SUM = 1e-6  # how far from one a sum may be: six digits of 1/3 are thirds


def with_states(
    arrows: str | Mapping[str, Sequence[str]] | Structure,
    tables: Mapping[str, Any],
    states: Mapping[str, Sequence[str]] | None = None,
) -> Structure:
    """The structure, with states where they are not given taken from the tables: the names in them, or "0", "1", …"""
    if isinstance(arrows, Structure):
        return arrows
    parents = parents_of(arrows)
    refuse_cycles(parents)
    for name in tables:
        if name not in parents:
            raise UsageError(f"there is a table for '{name}', which is no variable", needs="variables of the graph",
                             found=f"'{name}'", fix=nearest(name, parents))  # fmt: skip
    found = {name: tuple(map(str, given)) for name, given in (states or {}).items()}
    for name, table in tables.items():
        if name not in found:
            row = _a_row(table, len(parents[name]))
            found[name] = tuple(map(str, row)) if isinstance(row, Mapping) else tuple(map(str, range(_length(row))))
    return structure(arrows, found)


def checked(what: Structure, tables: Mapping[str, Any], tolerance: float = SUM) -> dict[str, Tensor]:
    """One float64 table for each variable, of its shape, with rows that add up to one.

    Raises UsageError or ShapeError in four lines. tolerance: rows that are so far from one are divided by their sum.

    >>> coin = structure("coin", {"coin": ("heads", "tails")})
    >>> checked(coin, {"coin": {"tails": 0.25, "heads": 0.75}})["coin"].tolist()
    [0.75, 0.25]
    """
    for name in tables:
        what.number(name)
    if missing := [name for name in what.names if name not in tables]:
        parents = what.variables[what.index[missing[0]]].parents
        given = f" given {', '.join(parents)}" if parents else ""
        raise UsageError(
            f"'{missing[0]}' has no table", needs="a table for each variable",
            found=f"{len(tables):,} tables, {len(what.names):,} variables", fix=f"add p({missing[0]}{given})",
        )  # fmt: skip
    return {name: _checked_table(what, name, tables[name], tolerance) for name in what.names}


def _checked_table(what: Structure, name: str, value: Any, tolerance: float) -> Tensor:
    shape = what.shape(name)
    table = _from_names(what, name, value) if isinstance(value, Mapping) else _numbers(name, value)
    if tuple(table.shape) != shape:
        variable = what.variables[what.index[name]]
        axes = [*variable.parents, name]
        raise ShapeError(
            f"the table of '{name}' has the wrong shape",
            needs=" x ".join(f"{n} {axis}" for n, axis in zip(shape, axes, strict=True)),
            found=" x ".join(map(str, table.shape)) or "one number",
            fix="an axis for each parent, in their order, and one for the variable itself, the last",
        )
    wrong = ~((table >= 0) & (table <= 1 + tolerance))  # written so that NaN is wrong, too
    if bool(wrong.any()):
        at = tuple(wrong.nonzero()[0].tolist())
        raise UsageError(
            f"the probability of {_place(what, name, at)} cannot be {float(table[at]):g}",
            needs="a probability, from 0 to 1", found=f"{float(table[at]):g}", fix="look for a sign or a decimal point",
        )  # fmt: skip
    total = table.sum(-1, keepdim=True)
    off = (total - 1).abs()
    if bool((off > tolerance).any()):
        at = tuple((off.squeeze(-1) > tolerance).nonzero()[0].tolist())
        row = table[at]
        states = what.variables[what.index[name]].states
        raise UsageError(
            f"the probabilities of {_place(what, name, at)} add up to {float(row.sum()):.6g}",
            needs="probabilities that add up to 1",
            found=", ".join(f"{s} {v:g}" for s, v in list(zip(states, row.tolist(), strict=True))[:8]),
            fix=", ".join(f"{s} {v:.4g}" for s, v in list(zip(states, (row / row.sum()).tolist(), strict=True))[:8])
            if float(row.sum()) > 0 else "one of them must be possible",
        )  # fmt: skip
    return torch.where(off > EXACT, table / total, table).contiguous()


def _from_names(what: Structure, name: str, value: Mapping[Any, Any]) -> Tensor:
    """A table out of mappings: by state, or by the parents' states (nested, or tuples of them) and then by state."""
    variable = what.variables[what.index[name]]
    parents = [what.variables[what.index[p]] for p in variable.parents]
    rows = []
    for setting in product(*(p.states for p in parents)):
        row = _row(value, setting)
        if row is None:
            given = ", ".join(f"{p.name}={s}" for p, s in zip(parents, setting, strict=True))
            known = [", ".join(map(str, k)) if isinstance(k, tuple) else str(k) for k in value]
            raise UsageError(f"the table of '{name}' has no row for {given}", needs="a row for each setting of parents",
                             found="; ".join(known[:6]) or "none", fix="add it")  # fmt: skip
        if not isinstance(row, Mapping):
            rows.append(_numbers(name, row))
            continue
        by_name = {str(k): v for k, v in row.items()}
        for state in by_name:
            if state not in variable.states:
                raise UsageError(f"'{name}' has no state '{state}'", needs="its states, by their names",
                                 found=f"'{state}'", fix=nearest(state, variable.states))  # fmt: skip
        if missing := [s for s in variable.states if s not in by_name]:
            raise UsageError(f"the table of '{name}' leaves out '{missing[0]}'", needs="a probability for each state",
                             found=", ".join(by_name), fix=f"add '{missing[0]}'")  # fmt: skip
        rows.append(_numbers(name, [by_name[s] for s in variable.states]))
    if len({row.shape for row in rows}) > 1 or rows[0].ndim != 1:
        raise ShapeError(
            f"the rows of the table of '{name}' differ in length", needs=f"{len(variable.states)} numbers in each",
            found=", ".join(sorted({str(tuple(r.shape)) for r in rows})), fix=f"for {', '.join(variable.states)}",
        )  # fmt: skip
    return torch.stack(rows).reshape(*(len(p.states) for p in parents), -1)


def _row(value: Any, setting: tuple[str, ...]) -> Any:
    """The row for a setting of the parents; None if it is not there."""
    if not setting:
        return value
    if not isinstance(value, Mapping):
        return None
    by_name = {tuple(map(str, k)) if isinstance(k, tuple) else (str(k),): v for k, v in value.items()}
    if setting in by_name:
        return by_name[setting]
    return _row(by_name[setting[:1]], setting[1:]) if setting[:1] in by_name else None


def _a_row(table: Any, parents: int) -> Any:
    """Any row of a table, to see its states."""
    while parents and isinstance(table, Mapping) and table:
        key, table = next(iter(table.items()))
        parents -= len(key) if isinstance(key, tuple) else 1
    return table


def _length(row: Any) -> int:
    shape = tuple(_numbers("a table", row).shape)
    return shape[-1] if shape else 1


def _numbers(name: str, value: Any) -> Tensor:
    try:
        return torch.as_tensor(value, dtype=torch.float64, device="cpu").detach()
    except (TypeError, ValueError, RuntimeError):
        raise UsageError(
            f"the table of '{name}' is not made of numbers in rows of one length",
            needs="a tensor, nested lists, or mappings by state", found=" ".join(repr(value).split())[:70],
            fix='such as {"yes": {"yes": 0.9, "no": 0.1}, "no": {"yes": 0.2, "no": 0.8}}',
        ) from None  # fmt: skip


def _place(what: Structure, name: str, at: tuple[int, ...]) -> str:
    """An entry, or a row, in words: "wet=yes given rain=no"."""
    variable = what.variables[what.index[name]]
    own = f"{name}={variable.states[at[-1]]}" if len(at) > len(variable.parents) else f"'{name}'"
    above = [f"{p}={what.variables[what.index[p]].states[k]}" for p, k in zip(variable.parents, at, strict=False)]
    return own + (f" given {', '.join(above)}" if above else "")


def log_floor(table: Tensor) -> float:
    """The logarithm of the least probability that is not zero.

    >>> log_floor(torch.tensor([1.0, 0.0]))
    0.0
    """
    return math.log(float(table[table > 0].min()))
