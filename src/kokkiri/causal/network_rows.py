"""Rows as networks are given them: the first ones, and those that come later, by the same codes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from kokkiri.causal.asked import Asked, must_be_new
from kokkiri.causal.covariates import Covariates, encoded
from kokkiri.causal.design import worth_of
from kokkiri.causal.rare_levels import Rare
from kokkiri.causal.settings import levels_of
from kokkiri.causal.variables import GONE, Columns, Rows, Variable
from kokkiri.data.columns import Column, Kind
from kokkiri.data.encoders import TensorEncoder, fit_tensor
from kokkiri.errors import DataError, Unsupported
from kokkiri.phrases import joined


class Block(NamedTuple):
    """t: (n,) numbers of levels, y: (n,), x: (n, ...). by: (n,) number of the group, or the value of the column along
    which the effect is asked for, if it is.
    """

    t: Tensor
    y: Tensor
    x: Tensor
    by: Tensor | None = None

    def and_then(self, more: Block) -> Block:
        """Both."""
        by = None if self.by is None or more.by is None else torch.cat([self.by, more.by])
        return Block(torch.cat([self.t, more.t]), torch.cat([self.y, more.y]), torch.cat([self.x, more.x]), by)


NO_RARE = Rare()


@dataclass(frozen=True, eq=False)
class Reader:
    """How rows become blocks. inputs: the encoder of columns, or of a tensor of that name, None
    for tokens, which stay as they are. columns: all that are looked
    at, as they were found first. groups: values of the column of groups. rare: settings that are one, the last
    of `levels`.
    """

    asked: Asked
    columns: tuple[Column, ...]
    levels: tuple[str, ...]
    inputs: Covariates | tuple[str, TensorEncoder | None]
    groups: tuple[str, ...] = ()
    rare: Rare = NO_RARE

    @property
    def names(self) -> tuple[str, ...]:
        """Of encoded columns; pixels have none."""
        return self.inputs.names if isinstance(self.inputs, Covariates) else ()

    def block(self, rows: Rows) -> Block:
        """Raises DataError where a value is new."""
        names, t = levels_of(self.asked, rows)
        named = [self.levels[-1] if name in self.rare.together else name for name in names]
        place = torch.tensor([self._known(name, self.levels, "treatment") for name in named])
        kept = {c.name: c for c in self.columns}[self.asked.outcome]
        y = worth_of(rows.variables[self.asked.outcome], kept, self.asked.event)
        return Block(place[t], y, self._inputs(rows), self._by(rows))

    def new(self, what: Any, sources: tuple[str, ...], *, force: bool) -> tuple[Block, Rows]:
        """Rows that were not there before."""
        kinds: dict[str, str | Kind] = {c.name: c.kind for c in self.columns if c.kind is not Kind.IDENTIFIER}
        columns = Columns(what, kinds=kinds)
        must_be_new(sources, columns, force=force)
        for name in self._every():
            columns.must_have(name, "one of the variables of the effect")
        rows = columns.rows(self._every()).with_values((*self.asked.treatments, self.asked.outcome))
        return self.block(rows), rows

    def _every(self) -> list[str]:
        return [c.name for c in self.columns] + ([] if isinstance(self.inputs, Covariates) else [self.inputs[0]])

    def _inputs(self, rows: Rows) -> Tensor:
        if isinstance(self.inputs, Covariates):
            return self.inputs.of(rows)
        name, encoder = self.inputs
        assert rows.tensors is not None
        if encoder is None:
            return rows.tensors[name]
        return encoder({"x": _numbers(rows.tensors[name])})

    def _by(self, rows: Rows) -> Tensor | None:
        name = self.asked.group or self.asked.along
        if not name:
            return None
        if self.asked.along:
            return rows.variables[name].cells.to(torch.float64)
        named, own = groups_of(rows.variables[name])
        return torch.tensor([self._known(v, self.groups, f"'{name}'") for v in named])[own]

    def _known(self, name: str, known: Sequence[str], what: str) -> int:
        if name not in known:
            raise DataError(f"the new rows have another {what}", needs=joined(list(known)), found=name,
                            fix="call kk.do on all rows together")  # fmt: skip
        return known.index(name)


def reader_of(asked: Asked, rows: Rows, adjust: Sequence[str], rare: Rare, *, tokens: bool = False) -> Reader:
    """The reader of these rows and of others like them."""
    levels = tuple(name for name in levels_of(asked, rows)[0] if name not in rare.together)
    levels += (rare.name,) * bool(rare.together)
    by = asked.group or asked.along
    inputs = _inputs_of(rows, adjust, tokens=tokens)
    named = [*asked.treatments, asked.outcome, *([by] if by else [])]
    if isinstance(inputs, Covariates):
        named += [c.name for c in inputs.columns]
    columns = tuple(rows.variables[name].column for name in dict.fromkeys(named))
    return Reader(asked, columns, levels, inputs, _groups_of(asked, rows), rare)


def _inputs_of(rows: Rows, adjust: Sequence[str], *, tokens: bool) -> Covariates | tuple[str, TensorEncoder | None]:
    tensors = [name for name in adjust if rows.tensors and name in rows.tensors]
    if tensors and rows.tensors is not None:
        if len(tensors) < len(adjust):
            raise Unsupported(
                "pictures and columns cannot be adjusted for together", needs="one or the other",
                found=joined(list(adjust)), fix="leave the columns out, or put them into the tensor",
            )  # fmt: skip
        return tensors[0], None if tokens else fit_tensor(_numbers(rows.tensors[tensors[0]]))
    covariates, _ = encoded(rows, adjust)
    if not covariates.names:
        raise DataError(
            "nothing that is adjusted for varies", needs="a column with two values",
            found=joined(list(adjust)) or "nothing", fix="method='means', where the treatment was drawn by lot",
        )  # fmt: skip
    return covariates


def _groups_of(asked: Asked, rows: Rows) -> tuple[str, ...]:
    if asked.along:
        variable = rows.variables[asked.along]
        if not variable.numeric or bool(variable.missing.any()):
            raise DataError(
                f"there is no curve along '{variable.name}'", needs="a column of numbers, without gaps",
                found=variable.column.reason, fix=f"group:{variable.name} for groups",
            )  # fmt: skip
    return groups_of(rows.variables[asked.group])[0] if asked.group else ()


def groups_of(variable: Variable) -> tuple[tuple[str, ...], Tensor]:
    """Names of groups, and (n,) numbers: the levels, and after them that a value is missing, where one is."""
    coded = variable.coded()
    if coded is None:
        raise Unsupported(f"'{variable.name}' makes no groups", needs="a column of few values",
                          found=variable.column.reason, fix="cut it into categories")  # fmt: skip
    names = (*coded.levels, GONE) if bool((coded.codes < 0).any()) else coded.levels
    return names, coded.codes % len(names)  # -1, what is missing, is the last of them


def _numbers(raw: Tensor) -> Tensor:
    return raw.float() if raw.dtype == torch.uint8 else raw
