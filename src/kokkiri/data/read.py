"""The one door: whatever holds data, made ready to fit."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset, TensorDataset

from kokkiri.data.columns import Kind, declared_kind
from kokkiri.data.core import Data, Source, Target
from kokkiri.data.encoders import fit_tensor, inputs
from kokkiri.data.frames import as_array, cells_of, open_table, read_matrix
from kokkiri.data.images import folder_data, idx_data, image_data
from kokkiri.data.sources import SQL, RawTable, table_of
from kokkiri.data.tables import table_data
from kokkiri.data.targets import outcome_of, with_target
from kokkiri.errors import DataError, UsageError, nearest

IDX = re.compile(r"[.-](idx|ubyte)(\.gz)?$")  # train-images-idx3-ubyte.gz


def read(
    what: Any,
    target: str | None = None,
    *,
    y: Any = None,
    kinds: Mapping[str, str | Kind] | None = None,
    drop: Iterable[str] = (),
    table: str | None = None,
    encoding: str = "utf-8",
    name: str | None = None,
    licence: str = "",
    citation: str = "",
    published: Sequence[Tensor] = (),
    drop_missing_target: bool = False,
    size: int | tuple[int, int] | None = None,
) -> Data:
    """Data to learn from, out of whatever holds them.

    what: a named data set ("mnist"); a file (CSV, TSV, Parquet, JSON, JSON lines, SQLite, IDX); SQL over files; a
    folder of images; a data frame of any library; a dict of columns; an array of inputs with `y`; a map-style torch
    Dataset of (x, y) pairs. target: the column to predict. kinds: what a column is, where the guess is wrong. drop:
    columns that are no inputs. size: (height, width) that the images of a folder are brought to.

    >>> query = "SELECT i / 2 AS dose, i % 3 > 0 AS recovered FROM range(30) t(i)"
    >>> data = read(query, "recovered")
    >>> data.target.kind, data.target.levels, len(data)
    ('category', ('false', 'true'), 30)
    """
    about = {"name": name, "licence": licence, "citation": citation}
    options = {
        "kinds": kinds, "drop": tuple(drop), "drop_missing_target": drop_missing_target, "published": tuple(published)
    }  # fmt: skip
    if isinstance(what, str) and not SQL.match(what) and (named := _named(what, target, options)) is not None:
        return named
    if isinstance(what, str | Path) and Path(what).is_dir():
        _as_it_is("a folder of images", target, options)
        return folder_data(what, size, name=name or "", licence=licence, citation=citation)
    if isinstance(what, str | Path) and IDX.search(Path(what).name) and Path(what).is_file():
        _as_it_is("a file of images", target, options)
        return idx_data(what, name=name or "", licence=licence, citation=citation)
    if isinstance(what, Dataset):
        what, y = _pairs(what)
    elif isinstance(what, tuple) and len(what) == 2 and y is None:
        what, y = what
    if y is not None or (isinstance(what, Tensor | np.ndarray) and what.ndim > 2):
        x = as_array(what) if isinstance(what, Tensor | np.ndarray) else None
        if x is not None and x.ndim > 2:
            _as_it_is("an array of more than two axes", target if target != "y" else None, options)
            data = _tensor_data(x, y, kinds)
            return replace(data, source=_about(data.source, about), published=tuple(published))
        what, target = _with_y(what, y), target or "y"
    found = open_table(what, table=table, encoding=encoding, words=_categories(kinds))
    return table_data(replace(found, source=_about(found.source, about)), target, **options)


def _named(what: str, target: str | None, options: Mapping[str, Any]) -> Data | None:
    """A named data set, unless `what` is a file; an error for what is neither."""
    path = Path(what)
    bare = path.name == what and not path.suffix
    if path.is_file() or (path.exists() and not bare) or not bare:
        return None
    from kokkiri.data import named

    names = [dataset.name for dataset in named.DATA_SETS]
    if what in names:
        data = named.load(what)
        own = data.target.name if data.target is not None else None
        if target not in {None, own}:
            raise UsageError(
                f"the data set '{what}' has a target of its own",
                needs=f"target '{own}'",
                found=f"'{target}'",
                fix=f"leave the target out, or save its rows to a file and read that: {own} would be an input then",
            )
        _as_it_is(f"the data set '{what}'", None, options)
        return data
    if path.exists():
        return None
    there = sorted(p.name for p in Path().iterdir() if not p.name.startswith("."))
    raise DataError(
        f"there is no data set and no file '{what}'",
        needs="a named data set, or a file that exists",
        found=f"{len(names)} data sets, {len(there):,} names in this folder",
        fix=nearest(what, [*names, *there]),
    )


def _as_it_is(what: str, target: str | None, options: Mapping[str, Any]) -> None:
    """Columns can be declared and dropped only in a table of the user's own; beside an array, `y` can be declared."""
    given = ["drop"] if options["drop"] else []
    given += ["kinds"] if set(options["kinds"] or ()) - {"y"} else []
    given += ["target"] if target is not None else []
    if given:
        raise UsageError(
            f"{what} is read as it is", needs="a table of your own", found=", ".join(given), fix=f"leave out {given[0]}"
        )


def _about(source: Source, about: Mapping[str, str | None]) -> Source:
    return replace(source, **{key: value for key, value in about.items() if value})


def _categories(kinds: Mapping[str, str | Kind] | None) -> tuple[str, ...]:
    """Columns whose cells are words, however much they look like numbers."""
    return tuple(n for n, k in (kinds or {}).items() if declared_kind(n, k) is Kind.CATEGORY)


def _with_y(what: Any, y: Any) -> RawTable:
    """A table of inputs, and the target beside it."""
    inputs_ = read_matrix(what) if isinstance(what, Tensor | np.ndarray) else open_table(what)
    values = as_array(y) if isinstance(y, Tensor | np.ndarray) else y
    if isinstance(values, np.ndarray) and values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if isinstance(values, np.ndarray) and values.ndim != 1:
        raise DataError(
            f"y of shape {values.shape} beside a table",
            needs=f"one value a row: ({inputs_.rows:,},)",
            found=str(values.shape),
            fix="one column of y at a time: y[:, 0]",
        )
    if "y" in inputs_.names:
        raise UsageError(
            "there is a column 'y' already", needs="y once", found="a column and an array", fix="target='y', without y="
        )
    cells = cells_of("y", values)
    _must_match(inputs_.rows, len(cells))
    source = replace(
        inputs_.source, sha256="" if inputs_.source.name in {"an array", "arrays"} else inputs_.source.sha256
    )
    joined = table_of((*inputs_.names, "y"), [*inputs_.values.values(), cells], source)
    return replace(joined, kinds=inputs_.kinds, notes=inputs_.notes, decimal=inputs_.decimal)


def _must_match(rows: int, targets: int) -> None:
    if rows != targets:
        raise DataError(
            "x and y do not belong together",
            needs=f"{rows:,} targets, one a row",
            found=f"{targets:,} targets",
            fix="take both from the same rows",
        )


def _tensor_data(x: np.ndarray, y: Any, kinds: Mapping[str, str | Kind] | None) -> Data:
    """Inputs of more than one axis: bytes of images, or numbers of any shape."""
    if x.dtype.kind not in "biuf":
        raise DataError(
            f"x of type {x.dtype} cannot be an input", needs="numbers", found=str(x.dtype), fix="turn them into numbers"
        )
    target, values, notes = None, None, ()
    if y is not None:
        target, values, notes = _tensor_target(y, len(x), kinds)
    rows = len(x)
    digest = table_of(("x",), [np.ma.MaskedArray(x.reshape(-1), mask=False)], Source("")).source.sha256
    source = Source("arrays", digest, rows)
    if x.dtype == np.uint8 and x.ndim == 4 and x.shape[1] in {1, 3}:
        data = image_data(torch.from_numpy(x.copy()), values, target.levels if target else (), source)
        return replace(data, target=target, notes=notes)
    raw = torch.from_numpy(np.ascontiguousarray(x, np.float32 if x.dtype.kind != "f" or x.itemsize < 8 else np.float64))
    encoder = fit_tensor(raw)
    return Data(
        raw={"x": raw},
        y=values,
        encoder=encoder,
        inputs=inputs(encoder),
        target=target,
        source=source,
        notes=notes,
        row_index=torch.arange(rows),
    )


def _tensor_target(y: Any, rows: int, kinds: Mapping[str, str | Kind] | None) -> tuple[Target, Tensor, tuple[str, ...]]:
    declared = declared_kind("y", kinds["y"]) if kinds and "y" in kinds else None
    values = as_array(y) if isinstance(y, Tensor | np.ndarray) else np.asarray(y)
    _must_match(rows, len(values))
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim > 1:
        many = values.astype(np.float64)
        if not np.isfinite(many).all():
            raise DataError(
                "y is not finite", needs="numbers", found="NaN or infinity", fix="leave those rows out of x and y"
            )
        spread = float(many.std())
        reason = f"{' x '.join(map(str, values.shape[1:]))} numbers a row"
        return Target("y", "number", (), float(many.mean()), spread or 1.0, reason), torch.from_numpy(many), ()
    found = table_of(("y",), [cells_of("y", values)], Source("y"))
    _, reading, notes = with_target(found, "y", declared, drop=False)
    target, _, codes = outcome_of(reading, declared)
    return target, torch.from_numpy(codes), notes


def _pairs(dataset: Dataset[Any]) -> tuple[Any, Any]:
    """A map-style Dataset of (x, y) pairs as two arrays."""
    if isinstance(dataset, TensorDataset) and len(dataset.tensors) == 2:
        return dataset.tensors
    if isinstance(dataset, IterableDataset):
        raise DataError(
            f"{type(dataset).__name__} is an iterable Dataset",
            needs="a map-style Dataset: __len__ and __getitem__",
            found="one that can only be gone through",
            fix="kk.read(list of rows), or write it to a file first",
        )
    items = [dataset[i] for i in range(len(dataset))]  # pyright: ignore[reportArgumentType]
    if not items or not all(isinstance(item, tuple | list) and len(item) == 2 for item in items):
        raise DataError(
            f"{type(dataset).__name__} does not give pairs",
            needs="(x, y) at each index, at least one",
            found=f"{type(items[0]).__name__}" if items else "no items",
            fix="give x and y alone: kk.read(x, y=y)",
        )
    xs, ys = zip(*items, strict=True)
    shapes = {tuple(np.shape(x)) for x in xs}
    if len(shapes) > 1:
        raise DataError(
            f"{type(dataset).__name__} gives x of different shapes",
            needs="one shape",
            found=", ".join(map(str, sorted(shapes, key=str)[:4])),
            fix="crop, pad or resize in its transform",
        )
    x = np.stack([as_array(x) for x in xs])
    if not isinstance(xs[0], Tensor | np.ndarray) and x.dtype == np.uint8 and x.ndim in {3, 4}:
        x = x[:, None] if x.ndim == 3 else x.transpose(0, 3, 1, 2)  # pictures of Pillow's have their channels last
    return x, np.stack([as_array(y) for y in ys])
