"""Tables that are in memory already: data frames of any library, arrays, tensors, lists. And the door to all tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from kokkiri.data.core import Source
from kokkiri.data.sources import (
    READS,
    SQL,
    RawTable,
    duplicates,
    missing_file,
    normal,
    objects,
    read_file,
    read_sql,
    table_of,
)
from kokkiri.errors import DataError

if TYPE_CHECKING:
    import narwhals as nw


def open_table(
    what: Any,
    *,
    table: str | None = None,
    encoding: str = "utf-8",
    words: Iterable[str] = (),
    decimal: str = ".",
) -> RawTable:
    """A table from wherever it is: a file, SQL, a data frame, an array of two axes, a dict of columns, a list of rows.

    >>> open_table([{"age": 31, "city": "Oslo"}, {"age": 12}]).values["city"].tolist()
    ['Oslo', None]
    """
    match what:
        case RawTable():
            return what
        case str() | Path():
            path = Path(what)
            if isinstance(what, str) and SQL.match(what) and not (len(what) < 256 and path.exists()):
                return read_sql(what)
            if not path.exists():
                raise missing_file(path)
            if path.is_dir():
                raise DataError(
                    f"{path} is a folder", needs=f"a file: {READS}", found="a folder", fix="name a file in it"
                )
            return read_file(path, table=table, encoding=encoding, words=words, decimal=decimal)
        case Tensor() | np.ndarray():
            return read_matrix(what)
        case Mapping():
            return read_columns(what)
        case list() if what and all(isinstance(row, Mapping) for row in what):
            names = dict.fromkeys(name for row in what for name in row)
            return read_columns({name: [row.get(name) for row in what] for name in names})
        case _:
            return read_frame(what)


def read_matrix(x: Tensor | np.ndarray) -> RawTable:
    """(N, P) numbers: columns x0, x1, …, all of them inputs whatever they look like.

    >>> read_matrix(np.eye(2)).names
    ('x0', 'x1')
    """
    array = as_array(x)
    if array.ndim not in {1, 2} or 0 in array.shape:
        raise DataError(
            f"an array of shape {array.shape} is no table",
            needs="(N, P): a row for each datum, a column for each variable",
            found=str(array.shape),
            fix="x.reshape(len(x), -1)",
        )
    array = array.reshape(len(array), -1)
    names = [f"x{i}" for i in range(array.shape[1])]
    found = table_of(names, [cells_of(n, array[:, i]) for i, n in enumerate(names)], Source("an array"))
    kinds = {n: "number" for n in names if found.values[n].dtype.kind in "if"}
    return replace(found, kinds=kinds)


def as_array(x: Any) -> np.ndarray:
    """A tensor or an array, as an array of a type that numpy has."""
    if not isinstance(x, Tensor):
        return np.asarray(x)
    bare = x.detach().cpu()
    return (bare.float() if bare.dtype in {torch.bfloat16, torch.float16} else bare).numpy()


def read_frame(frame: Any) -> RawTable:
    """A data frame of pandas, polars, Arrow, or any library that narwhals knows.

    >>> import polars
    >>> read_frame(polars.DataFrame({"age": [31, None], "city": ["Oslo", "Bergen"]})).values["age"].tolist()
    [31, None]
    """
    import narwhals as nw

    try:
        native = nw.from_native(frame)
    except TypeError:
        raise DataError(
            f"cannot read a {type(frame).__name__}",
            needs=f"a file ({READS}), a data frame, arrays, or a map-style torch Dataset",
            found=f"a {type(frame).__module__}.{type(frame).__qualname__}",
            fix="a dict of arrays always works: kk.read({'age': ages, 'y': y}, target='y')",
        ) from None
    except nw.exceptions.DuplicateError as error:
        raise duplicates("the data frame", [str(error).splitlines()[0]]) from None
    eager = native.collect() if isinstance(native, nw.LazyFrame) else native
    names = [str(name) for name in eager.columns]
    library = str(eager.implementation).rsplit(".", maxsplit=1)[-1].lower()
    return table_of(names, [_series(eager[name]) for name in eager.columns], Source(f"a {library} data frame"))


def read_columns(columns: Mapping[str, Any]) -> RawTable:
    """Arrays, tensors or lists by name, one a column.

    >>> read_columns({"a": [1, None, 3], "b": ["x", "y", "z"]}).values["a"].tolist()
    [1, None, 3]
    """
    names, values = [str(n) for n in columns], [cells_of(str(n), v) for n, v in columns.items()]
    lengths = {n: len(v) for n, v in zip(names, values, strict=True)}
    if len(set(lengths.values())) > 1:
        raise DataError(
            "the columns do not have the same number of rows",
            needs="one length",
            found=", ".join(f"{n}: {k:,}" for n, k in list(lengths.items())[:8]),
            fix="take all columns from the same rows",
        )
    return table_of(names, values, Source("arrays"))


def cells_of(name: str, values: Any) -> np.ma.MaskedArray:
    """One column of whatever numpy understands as the five types of cell."""
    if isinstance(values, Tensor | np.ndarray):
        array = values if isinstance(values, np.ma.MaskedArray) else as_array(values)
    else:
        array = objects(list(values) if isinstance(values, Iterable) and not isinstance(values, str) else [values])
    if array.ndim != 1:
        raise DataError(
            f"column '{name}' is not a column",
            needs="one value a row",
            found=f"an array of shape {array.shape}",
            fix=f"give each of its columns a name of its own: '{name}0': x[:, 0], …",
        )
    return normal(objects(array.tolist()) if array.dtype == object else array)


def _series(series: nw.Series[Any]) -> np.ma.MaskedArray:
    """A column of a data frame."""
    import narwhals as nw

    missing = np.asarray(series.is_null().to_numpy(), bool)
    kind = series.dtype
    if kind == nw.Boolean:
        return normal(np.ma.array(series.fill_null(value=False).to_numpy().astype(bool), mask=missing))
    if kind.is_integer() and kind != nw.UInt64:
        return normal(np.ma.array(series.fill_null(0).to_numpy().astype(np.int64), mask=missing))
    if kind.is_numeric():
        return normal(np.ma.array(series.cast(nw.Float64).to_numpy().astype(np.float64), mask=missing))
    if kind == nw.Date or isinstance(kind, nw.Datetime):
        if isinstance(kind, nw.Datetime) and kind.time_zone:
            series = series.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
        return normal(np.ma.array(series.to_numpy().astype("datetime64[us]"), mask=missing))
    cells = series.to_list()
    return normal(objects([None if gone else cell for cell, gone in zip(cells, missing, strict=True)]))
