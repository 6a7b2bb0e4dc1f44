"""What tells rows that a model has learnt from rows that it has not: a digest of them, and the days they span."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import torch

from kokkiri.data.core import Data
from kokkiri.data.encoders import TableEncoder

CHUNK = 65536  # rows at a time


def digest_of(data: Data) -> str:
    """SHA-256 of the rows as they were read, inputs and targets, whatever their order.

    >>> from kokkiri.data.read import read
    >>> data = read("kidney-stones")
    >>> digest_of(data) == digest_of(data.rows(torch.arange(len(data)).flip(0)))
    True
    """
    names = sorted(n for n in data.raw if not n.startswith("row:"))
    digest = hashlib.sha256(" ".join(names).encode())
    for row in sorted(hashlib.sha256(row).digest() for row in _rows(data, names)):
        digest.update(row)
    return digest.hexdigest()


def days_of(data: Data) -> tuple[dict[str, float], dict[str, float]]:
    """The first and the last day in each column of dates, counted from 1970; a column without any is left out."""
    if not isinstance(data.encoder, TableEncoder) or "date" not in data.raw:
        return {}, {}
    first, last = {}, {}
    for k, column in enumerate(data.encoder.layout.dates):
        days = data.raw["date"][:, k]
        days = days[days.isfinite()]
        if len(days):
            first[column.name], last[column.name] = float(days.min()), float(days.max())
    return first, last


def _rows(data: Data, names: list[str]) -> Iterator[bytes]:
    """The bytes of each row."""
    parts = [data.raw[n] for n in names] + ([] if data.y is None else [data.y])
    for index in torch.arange(len(data)).split(CHUNK):
        flat = [t[index, None].detach().cpu().contiguous().flatten(1).view(torch.uint8) for t in parts]
        yield from (row.tobytes() for row in torch.cat(flat, 1).numpy())
