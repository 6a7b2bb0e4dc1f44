"""Sums over short axes of tall tables."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor

_SHORT = 32


def folded(table: Tensor, axes: Iterable[int]) -> Tensor:
    """The sum over some axes, each kept with size one: slice by slice where they are short.

    torch's own sum walks the short axes innermost, and takes ten to twenty times as long on a table with many rows.

    >>> import torch
    >>> folded(torch.arange(12.0).reshape(2, 3, 2), [1, 2])
    tensor([[[15.]],
    <BLANKLINE>
            [[51.]]])
    """
    for axis in axes:
        parts = table.unbind(axis)
        if len(parts) > _SHORT:
            table = table.sum(axis, keepdim=True)
            continue
        total = parts[0]
        for part in parts[1:]:
            total = total + part
        table = total.unsqueeze(axis)
    return table
