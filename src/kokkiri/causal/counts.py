"""Rows of categories as a table of counts, to which more rows can be added, and joint tables that may lie behind it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from kokkiri.causal.variables import GONE, Coded
from kokkiri.data.cells import sort_levels
from kokkiri.errors import UsageError
from kokkiri.numerics.random import philox

NUMBERS = 2**22  # cells times draws that are looked at
DRAWS = 2**19, 2**12  # at the most, at the least
AT_ONCE = 2**15  # numbers that lie in memory together: so few stay in the cache
LEAST_PRIOR = 0.05  # of a cell: with less, the draws of empty cells are zero to the last bit, and 0/0 follows


@dataclass(frozen=True, eq=False)
class Counts:
    """How many rows have each combination: (c₁, …, c_k), an axis for each of `names`, with its `levels` in order.

    >>> of = lambda codes, *levels: Coded(torch.tensor(codes), levels, None)
    >>> table = Counts.of({"sex": of([0, 1, 1], "f", "m"), "dose": of([0, 0, 1], "5", "9")})
    >>> table.cells.tolist(), table.plus(table).over(("dose",)).cells.tolist()
    ([[1.0, 0.0], [1.0, 1.0]], [4.0, 2.0])
    """

    names: tuple[str, ...]
    levels: tuple[tuple[str, ...], ...]
    cells: Tensor

    @staticmethod
    def of(coded: Mapping[str, Coded]) -> Counts:
        """The table of some rows; a missing value is a level of its own."""
        names, levels, index = tuple(coded), [], torch.zeros((), dtype=torch.int64)
        for c in coded.values():
            gone = bool((c.codes < 0).any())
            levels.append((*c.levels, GONE) if gone else c.levels)
            index = index * len(levels[-1]) + torch.where(c.codes < 0, len(c.levels), c.codes)
        shape = tuple(len(ls) for ls in levels)
        size = int(torch.Size(shape).numel())
        return Counts(names, tuple(levels), torch.bincount(index.reshape(-1), minlength=size).double().reshape(shape))

    def plus(self, other: Counts) -> Counts:
        """All rows together; levels that one of the tables lacks are taken in."""
        both = [_merged(a, other.levels[other.names.index(n)]) for n, a in zip(self.names, self.levels, strict=True)]
        return Counts(self.names, tuple(both), self.among(both) + other.over(self.names).among(both))

    def over(self, names: Sequence[str]) -> Counts:
        """Of some of the variables, in this order."""
        kept = [n for n in self.names if n in set(names)]
        away = [i for i, n in enumerate(self.names) if n not in kept]
        cells = self.cells.sum(away) if away else self.cells
        order = [kept.index(n) for n in names]
        levels = tuple(self.levels[self.names.index(n)] for n in names)
        return Counts(tuple(names), levels, cells.permute(order))

    @property
    def rows(self) -> int:
        """How many there are."""
        return round(float(self.cells.sum()))

    @property
    def size(self) -> int:
        """How many cells."""
        return self.cells.numel()

    @cached_property
    def axis(self) -> dict[str, int]:
        """Of each variable."""
        return {name: i for i, name in enumerate(self.names)}

    def worth(self, name: str, event: str) -> Tensor:
        """(c,) what each level of a variable counts: 1 for the event, or the number that it is."""
        levels = self.levels[self.axis[name]]
        values = [float(level == event) for level in levels] if event else [float(level) for level in levels]
        return torch.tensor(values, dtype=torch.float64)

    def expanded(self) -> dict[str, Tensor]:
        """(N,) numbers of levels, a row for each that was counted."""
        places = self.cells.nonzero()
        times = self.cells[tuple(places.T)].round().to(torch.int64)
        return {name: places[:, i].repeat_interleave(times) for i, name in enumerate(self.names)}

    def posterior_mean(self, prior: float) -> Tensor:
        """The joint table that is expected."""
        cells = self.cells + prior
        return cells / cells.sum()

    @property
    def draws(self) -> int:
        """How many joint tables are drawn."""
        return max(DRAWS[1], min(DRAWS[0], NUMBERS // self.size))

    def posterior(self, prior: float, seed: int) -> Iterator[Tensor]:
        """Joint tables from the Dirichlet posterior, (s, c₁, …, c_k) at a time: gamma draws over their sum.

        prior: how many rows each cell counts for before any was seen; 1 takes all tables for equally probable.
        """
        must_be_prior(prior)
        rng, left = philox(seed, "joint tables"), self.draws
        shape = (self.cells + prior).reshape(-1, 1).numpy()
        while left:
            n = min(left, max(1, AT_ONCE // self.size))
            # draws lie side by side in memory, so that sums over cells go through them in long strides
            gamma = torch.from_numpy(rng.standard_gamma(shape, (self.size, n)))
            yield (gamma / gamma.sum(0)).reshape(*self.cells.shape, n).movedim(-1, 0)
            left -= n

    def among(self, levels: Sequence[Sequence[str]]) -> Tensor:
        """The cells among more levels."""
        cells = self.cells
        for axis, (old, new) in enumerate(zip(self.levels, levels, strict=True)):
            wide = cells.new_zeros((*cells.shape[:axis], len(new), *cells.shape[axis + 1 :]))
            cells = wide.index_copy(axis, torch.tensor([list(new).index(level) for level in old]), cells)
        return cells


def must_be_prior(prior: float) -> None:
    """An error for a concentration that no Dirichlet distribution has, or none that can be drawn from."""
    if not LEAST_PRIOR <= prior < float("inf"):
        raise UsageError(f"prior={prior:g} is no weight of a cell", needs=f"a number of rows, at least {LEAST_PRIOR:g}",
                         found=f"{prior:g}", fix="prior=1 takes all joint tables for equally probable")  # fmt: skip


def _merged(a: Sequence[str], b: Sequence[str]) -> tuple[str, ...]:
    """Levels of both, in the order in which one table of all rows would have them."""
    if tuple(a) == tuple(b):
        return tuple(a)
    every = [level for level in dict.fromkeys((*a, *b)) if level != GONE]
    return (*sort_levels(every), *((GONE,) if GONE in {*a, *b} else ()))
