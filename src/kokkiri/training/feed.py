"""Which rows a step sees: batches by step number, counted, so that any step can be made again."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from kokkiri.errors import DataError
from kokkiri.numerics.random import permutation
from kokkiri.training.plan import Plan

GATHERED_BYTES = 64 << 20  # an epoch of at most this size is put in order at once; a slice a step is then a view


class Feed:
    """step -> (x, y, index): every row once an epoch, in the order that Philox gives (seed, "order", epoch).

    A plain callable with one epoch's order as memory. index is None for the full batch.
    """

    def __init__(self, data: Any, plan: Plan) -> None:
        self.data, self.plan = data, plan
        self.rows = len(data)
        if not self.rows:
            raise DataError("there are no rows to train on", needs="at least one row")
        self.size = min(plan.batch or self.rows, self.rows)
        self.per_epoch = math.ceil(self.rows / self.size)
        self.device = torch.device(plan.device)
        x = data.x
        self._x = x.to(self.device) if isinstance(x, Tensor) else None
        self._y = data.y.to(self.device) if isinstance(x, Tensor) else None
        self._epoch, self._order = -1, torch.empty(0, dtype=torch.int64)
        self._ordered: tuple[Tensor, Tensor] | None = None
        self._gathers = self._x is not None and self._x.numel() * self._x.element_size() <= GATHERED_BYTES

    def __call__(self, step: int) -> tuple[Any, Tensor, Tensor | None]:
        """The batch of one step."""
        epoch, k = divmod(step, self.per_epoch)
        if self.size == self.rows:
            index, (x, y) = None, self._whole()
        else:
            if epoch != self._epoch:
                self._begin(epoch)
            a, b = k * self.size, min((k + 1) * self.size, self.rows)
            index = self._order[a:b]
            x, y = (self._ordered[0][a:b], self._ordered[1][a:b]) if self._ordered else self._take(index)
        if self.plan.augment is not None:
            rows = torch.arange(self.rows) if index is None else index
            x = self.plan.augment(x, rows, seed=self.plan.seed, epoch=epoch)
        return x, y, index

    def _begin(self, epoch: int) -> None:
        self._epoch = epoch
        self._order = permutation(self.rows, self.plan.seed, "order", epoch).to(self.device)
        if self._gathers and self._x is not None and self._y is not None:
            self._ordered = self._x[self._order], self._y[self._order]

    def _take(self, index: Tensor) -> tuple[Any, Tensor]:
        if self._x is not None and self._y is not None:
            return self._x[index], self._y[index]
        x, y = self.data.batch(index.cpu())
        return (x.to(self.device) if isinstance(x, Tensor) else x), y.to(self.device)

    def _whole(self) -> tuple[Any, Tensor]:
        if self._x is not None and self._y is not None:
            return self._x, self._y
        return self._take(torch.arange(self.rows))
