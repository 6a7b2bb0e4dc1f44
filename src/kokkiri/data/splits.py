"""Which rows to learn from and which to be judged by. What is judged is never seen by an encoder or a choice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from kokkiri.data.core import Data, Inputs
from kokkiri.data.encoders import TableEncoder, TensorEncoder, inputs
from kokkiri.data.images import ImageEncoder
from kokkiri.data.tables import ROW, Schema
from kokkiri.errors import DataError, UsageError, nearest
from kokkiri.numerics.random import permutation


def split(
    data: Data,
    test: float = 0.2,
    *,
    seed: int = 0,
    stratify: bool | None = None,
    group: str | None = None,
    time: str | None = None,
    rows: Tensor | Sequence[int] | None = None,
    published: int | None = 0,
) -> tuple[Data, Data]:
    """(training rows, test rows): encoder, shift and scale are fitted anew on the training rows alone.

    test: share of the rows. stratify: each class with the same share in both parts; by default for classes. group: a
    column whose equal values stay together. time: a column whose last part is the test part. rows: the test rows
    themselves, as numbers or as truth values. published: which of the splits that came with the data; where there is
    one and nothing else is asked for it is taken, and None leaves it alone.

    >>> from kokkiri.data.frames import open_table
    >>> from kokkiri.data.tables import table_data
    >>> data = table_data(open_table({"x": np.arange(40) * 0.5, "y": [0, 1, 0, 0] * 10}), "y")
    >>> train, test = split(data, 0.25)
    >>> len(train), len(test), test.y.double().mean().item(), test.encoder is train.encoder
    (30, 10, 0.2, True)
    """
    asked = {"stratify": stratify or None, "group": group, "time": time, "rows": rows}
    named = [name for name, value in asked.items() if value is not None]
    if len(named) > 1:
        raise UsageError(
            "one split, one rule",
            needs="one of stratify, group, time, rows",
            found=" and ".join(named),
            fix="choose one",
        )
    n = len(data)
    if rows is not None:
        keep, out = given_split(n, rows)
    elif group is not None:
        keep, out = random_split(n, test, seed, groups=group_column(data, group))
    elif time is not None:
        keep, out = time_split(_column(data, time), test)
    elif published is not None and data.published and stratify is None:
        keep, out = given_split(n, _published(data, published))
    else:
        classes = data.target is not None and data.target.kind == "category" and data.y is not None
        if stratify and not classes:
            raise UsageError(
                "only classes can be stratified",
                needs="a target of classes",
                found="numbers" if data.target is not None else "no target",
                fix="leave it out: rows of numbers are split at random",
            )
        keep, out = random_split(n, test, seed, y=data.y if classes and stratify is not False else None)
    return refit(data.rows(keep), data.rows(out))


def group_column(data: Data, name: str) -> Tensor:
    """(N,) the values of a column that rows are grouped by."""
    values = _column(data, name)
    # rows without a group are one: NaN would be many
    return torch.where(torch.isnan(values), torch.inf, values) if values.is_floating_point() else values


def refit(train: Data, test: Data) -> tuple[Data, Data]:
    """The same rows with the encoder, shift and scale of the training rows, which alone have been seen."""
    encoder, shape = train.encoder, train.inputs
    if isinstance(encoder, TableEncoder | TensorEncoder | ImageEncoder):
        encoder = encoder.refit(train.raw)
        shape = inputs(encoder) if not isinstance(encoder, ImageEncoder) else Inputs(train.inputs.shape)
    target = train.target
    if target is not None and target.kind == "number" and train.y is not None:
        y = train.y.double()
        scale = float(y.std(correction=0))
        count = bool((y >= 0).all() and (y == y.floor()).all())
        target = replace(target, shift=float(y.mean()), scale=scale if scale > 0 else 1.0, count=count)
    schema = train.schema
    if isinstance(schema, Schema) and target is not None:
        schema = replace(schema, target=target)
    fitted = {"encoder": encoder, "inputs": shape, "target": target, "schema": schema, "_cache": {}}
    return replace(train, **fitted), replace(test, **fitted | {"_cache": {}})


def random_split(
    n: int, fraction: float, seed: int, *, y: Tensor | None = None, groups: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """(rows to keep, rows to set apart), both in order, `fraction` of n set apart.

    y: (n,) class numbers: each class gives its share, rounded so that the total is right; a class of one row stays.
    groups: (n,) whole groups are set apart, in random order, until the share is reached as nearly as they allow.

    >>> keep, out = random_split(10, 0.3, seed=0)
    >>> len(keep), len(out), sorted(torch.cat([keep, out]).tolist()) == list(range(10))
    (7, 3, True)
    """
    _must_split(n, fraction)
    order = permutation(n, seed, "split")
    wanted = min(max(round(n * fraction), 1), n - 1)
    if groups is not None:
        out = _whole_groups(groups, wanted, seed)
    elif y is not None:
        out = _stratified(y, order, wanted)
    else:
        out = torch.zeros(n, dtype=torch.bool)
        out[order[:wanted]] = True
    return _sides(out)


def time_split(time: Tensor, fraction: float) -> tuple[Tensor, Tensor]:
    """(earlier rows, later rows): every row set apart is later than every row kept.

    >>> time_split(torch.tensor([3.0, 1.0, 2.0, 2.0]), 0.25)
    (tensor([1, 2, 3]), tensor([0]))
    """
    n = len(time)
    _must_split(n, fraction)
    if not time.is_floating_point():
        raise DataError(
            "words have no order in time", needs="dates or numbers", found="words", fix="write dates as 2020-01-31"
        )
    if (gone := torch.isnan(time)).any():
        raise DataError(
            f"the time is missing in {int(gone.sum()):,} rows",
            needs="a time in every row",
            found=f"none in row {int(gone.long().argmax()) + 1:,} of the data",
            fix="leave those rows out, or split at random",
        )
    start = time.sort().values[n - min(max(round(n * fraction), 1), n - 1)]
    out = time >= start
    if out.all():  # as many rows share the first moment as were to be kept
        out = time > start
    if not out.any():
        raise DataError(
            "the time is the same in all rows",
            needs="two moments",
            found="one",
            fix="split by another column, or at random",
        )
    return _sides(out)


def given_split(n: int, rows: Tensor | Sequence[int]) -> tuple[Tensor, Tensor]:
    """(all other rows, `rows`), which are row numbers or a truth value for each row.

    >>> given_split(4, [2])
    (tensor([0, 1, 3]), tensor([2]))
    """
    chosen = torch.as_tensor(rows)
    if chosen.dtype == torch.bool and len(chosen) == n:
        out = chosen
    else:
        numbers = chosen.to(torch.int64)
        if not len(numbers) or int(numbers.min()) < 0 or int(numbers.max()) >= n:
            raise UsageError(
                "the test rows are not rows of the data",
                needs=f"row numbers from 0 to {n - 1:,}, at least one",
                found=f"{int(numbers.min()):,} to {int(numbers.max()):,}" if len(numbers) else "none",
                fix="count rows from 0, without the header",
            )
        out = torch.zeros(n, dtype=torch.bool)
        out[numbers] = True
    if out.all() or not out.any():
        raise UsageError(
            "one part of the split is empty",
            needs="rows in both",
            found=f"{int(out.sum()):,} of {n:,} set apart",
            fix="other rows",
        )
    return _sides(out)


def folds(n: int, k: int, seed: int, *, y: Tensor | None = None, groups: Tensor | None = None) -> Tensor:
    """(n,) fold numbers 0 … k-1, as even as can be: within each class if y is given; no group in two folds.

    >>> torch.bincount(folds(10, 3, seed=0)).tolist()
    [4, 3, 3]
    """
    units = len(torch.unique(groups)) if groups is not None else n
    if not 2 <= k <= units:
        raise UsageError(
            f"{k} folds cannot be made", needs=f"2 to {units} folds", found=str(k), fix=f"{min(5, units)} folds"
        )
    order = permutation(n, seed, "folds")
    if groups is not None:
        return _folds_of_groups(groups, k, seed)
    if y is not None:
        order = order[y[order].argsort(stable=True)]  # dealt class by class, the deal never begins anew
    number = torch.empty(n, dtype=torch.int64)
    number[order] = torch.arange(n) % k
    return number


def _must_split(n: int, fraction: float) -> None:
    if n < 2:
        raise DataError("one row cannot be split", needs="two rows", found=f"{n} row{'s' * (n != 1)}", fix="add rows")
    if not 0 < fraction < 1:
        raise UsageError(
            f"a share of {fraction:g} of the rows cannot be set apart",
            needs="a share between 0 and 1",
            found=f"{fraction:g}",
            fix="0.2 sets a fifth apart",
        )


def _sides(out: Tensor) -> tuple[Tensor, Tensor]:
    return (~out).nonzero()[:, 0], out.nonzero()[:, 0]


def _stratified(y: Tensor, order: Tensor, wanted: int) -> Tensor:
    """Largest remainders: class c gives the whole part of its share, and the largest fractions one more."""
    n = len(y)
    _, codes, counts = torch.unique(y, return_inverse=True, return_counts=True)
    share = counts.double() * wanted / n
    take = share.floor().long()
    for c in (share - take).argsort(descending=True, stable=True).tolist():
        if int(take.sum()) < wanted and int(take[c]) < int(counts[c]) - 1:
            take[c] += 1
    grouped = order[codes[order].argsort(stable=True)]
    first = torch.cumsum(counts, 0) - counts
    rank = torch.arange(n) - first[codes[grouped]]
    out = torch.zeros(n, dtype=torch.bool)
    out[grouped[rank < take[codes[grouped]]]] = True
    if not out.any():  # every class has a single row
        out[order[:wanted]] = True
    return out


def _whole_groups(groups: Tensor, wanted: int, seed: int) -> Tensor:
    _, codes, counts = torch.unique(groups, return_inverse=True, return_counts=True)
    if len(counts) < 2:
        raise DataError(
            "all rows are of one group", needs="two groups", found="one", fix="split by another column, or at random"
        )
    chosen = torch.zeros(len(counts), dtype=torch.bool)
    have = 0
    for g in permutation(len(counts), seed, "groups").tolist():
        size = int(counts[g])
        if abs(have + size - wanted) < abs(have - wanted) and int(chosen.sum()) < len(counts) - 1:
            chosen[g] = True
            have += size
    if not have:  # every group is larger than twice the share
        chosen[int(counts.argmin())] = True
    return chosen[codes]


def _folds_of_groups(groups: Tensor, k: int, seed: int) -> Tensor:
    """Longest first, each group to the smallest fold: Graham 1969, "Bounds on multiprocessing timing anomalies"."""
    _, codes, counts = torch.unique(groups, return_inverse=True, return_counts=True)
    shuffled = permutation(len(counts), seed, "folds")
    rank = shuffled[counts[shuffled].argsort(descending=True, stable=True)]
    sizes, place = np.zeros(k, np.int64), torch.empty(len(counts), dtype=torch.int64)
    for g in rank.tolist():
        fold = int(sizes.argmin())
        place[g] = fold
        sizes[fold] += int(counts[g])
    return place[codes]


def _published(data: Data, number: int) -> Tensor:
    if not 0 <= number < len(data.published):
        raise UsageError(
            f"there is no published split {number}",
            needs=f"0 to {len(data.published) - 1}",
            found=str(number),
            fix="published=0",
        )
    return data.published[number]


def _column(data: Data, name: str) -> Tensor:
    """The values of a column of the table, used or left out; words as codes."""
    columns = data.schema.columns if isinstance(data.schema, Schema) else ()
    if ROW + name in data.raw:
        return data.raw[ROW + name]
    for block, kinds in {"number": {"number", "boolean"}, "category": {"category"}, "date": {"date"}}.items():
        there = [c.name for c in columns if c.used and c.kind.value in kinds]
        if name in there:
            return data.raw[block][:, there.index(name)]
    names = [c.name for c in columns]
    raise DataError(
        f"there is no column '{name}' to split by",
        needs="a column of the table that is not constant, other than the target",
        found=f"{len(names)} columns" if names else "data that are no table",
        fix=nearest(name, names),
    )
