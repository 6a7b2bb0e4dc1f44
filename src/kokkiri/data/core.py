"""Data: rows of raw tensors, an encoder that turns them into what a network takes, and the targets.

`raw` is what was read (NaN where a number is missing); `encoder`, an `nn.Module` whose statistics come from training
rows alone, makes `x` of it. The encoded rows are kept in memory when they fit, so that a batch costs one gather.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from kokkiri.types import Batch

ENCODED_BYTES = 1 << 30  # encoded rows up to this size are kept; larger data are encoded batch by batch


@dataclass(frozen=True)
class Group:
    """Some neighbouring columns of an encoded row that belong to one column of the table."""

    name: str
    start: int
    stop: int
    kind: str  # "number", "category", "boolean", "date", "missing"


@dataclass(frozen=True)
class Inputs:
    """What a network is given: the shape of one encoded example, and for tables which columns mean what.

    >>> Inputs((8,)).width, Inputs((1, 28, 28)).width
    (8, 784)
    """

    shape: tuple[int, ...]
    groups: tuple[Group, ...] = ()

    @property
    def width(self) -> int:
        """How many numbers one example has."""
        return int(torch.Size(self.shape).numel())


@dataclass(frozen=True)
class Target:
    """What is to be predicted.

    kind: "category" (y holds class numbers, `levels` their names) or "number" (y holds values, float64).
    shift, scale: mean and standard deviation of a number over the training rows; 0 and 1 otherwise.
    reason: why this kind was chosen, for the report.
    """

    name: str
    kind: str
    levels: tuple[str, ...] = ()
    shift: float = 0.0
    scale: float = 1.0
    reason: str = ""
    count: bool = False  # whole numbers >= 0 throughout: Poisson or NegativeBinomial would fit too

    @property
    def classes(self) -> int:
        """How many classes; 0 for a number."""
        return len(self.levels)


@dataclass(frozen=True)
class Source:
    """Where data came from: enough to find them again and to notice that they changed."""

    name: str
    sha256: str = ""
    rows: int = 0
    licence: str = ""
    citation: str = ""


@dataclass(frozen=True)
class Data:
    """A map-style data set: `len`, `data[i] -> (x, y)`, and `batch(index) -> Batch`, the fast road.

    raw: tensors by name, each with the rows along its first axis; `encoder(raw)` gives x, (N, *inputs.shape). Those
        named "row:COLUMN" are no inputs: columns that were left out, which a split may go by.
    y: (N,) int64 class numbers, (N,) or (N, T) float64 values, or None where the target is not known.
    schema: the table's columns as plain values (see `data.columns`), for new files and for the report.
    notes: what was noticed while reading, one sentence each.
    row_index: where each row stood in the source.
    published: sets of rows that the data's authors set apart for testing, one tensor of row numbers a split.
    """

    raw: Mapping[str, Tensor]
    y: Tensor | None
    encoder: nn.Module
    inputs: Inputs
    target: Target | None
    source: Source
    schema: Any = None
    notes: tuple[str, ...] = ()
    row_index: Tensor | None = None
    published: tuple[Tensor, ...] = ()
    _cache: dict[str, Tensor] = field(default_factory=dict, repr=False, compare=False)

    def __len__(self) -> int:
        return len(next(iter(self.raw.values())))

    def __getitem__(self, index: int) -> Batch:
        """One example: x without a batch axis, and its target."""
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        x, y = self.batch(torch.tensor([index % len(self)]))
        return Batch(x[0], y[0])

    def batch(self, index: Tensor) -> Batch:
        """The rows at `index`, encoded."""
        y = self.y[index] if self.y is not None else torch.empty(0)
        x = self.x
        return Batch(x[index] if x is not None else self._encode(index), y)

    @property
    def x(self) -> Tensor | None:
        """All rows encoded, (N, *inputs.shape), or None where they would not fit in memory."""
        if "x" not in self._cache:
            if 4 * len(self) * self.inputs.width > ENCODED_BYTES:
                return None
            whole: Tensor | None = None  # filled in place: the parts and their concatenation would be twice the memory
            for rows in torch.arange(len(self)).split(8192):
                part = self._encode(rows)
                whole = part.new_empty(len(self), *self.inputs.shape) if whole is None else whole
                whole[rows[0] : rows[-1] + 1] = part
            self._cache["x"] = torch.empty(0, *self.inputs.shape) if whole is None else whole
        return self._cache["x"]

    def _encode(self, index: Tensor) -> Tensor:
        with torch.no_grad():
            return self.encoder({name: t[index] for name, t in self.raw.items() if not name.startswith("row:")})

    def rows(self, index: Tensor) -> Data:
        """The same data, only these rows, the encoder unchanged."""
        return replace(
            self,
            raw={name: t[index] for name, t in self.raw.items()},
            y=self.y[index] if self.y is not None else None,
            row_index=self.row_index[index] if self.row_index is not None else index,
            published=(),
            _cache={"x": self._cache["x"][index]} if "x" in self._cache else {},
        )

    def split(self, test: float = 0.2, *, seed: int = 0, **rule: Any) -> tuple[Data, Data]:
        """(training rows, test rows), the encoder fitted anew on the former: see `kokkiri.data.splits.split`."""
        from kokkiri.data.splits import split

        return split(self, test, seed=seed, **rule)
