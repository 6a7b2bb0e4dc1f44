"""Tables as they were read: files and SQL through DuckDB, SQLite files.

Every door gives the same thing, a `RawTable` of five types of cell, and says what is wrong with a file in the file's
own terms: its name, the line, the byte.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import math
import re
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kokkiri.data.core import Source
from kokkiri.data.delimited import CSV_SUFFIXES, csv_query, plain_text
from kokkiri.errors import DataError, FormatError, UsageError, nearest

if TYPE_CHECKING:
    import duckdb

SQL = re.compile(r"\s*(select|with|from)\s", re.IGNORECASE)
_SUFFIXES = dict.fromkeys(CSV_SUFFIXES, "CSV") | {
    ".parquet": "Parquet", ".pq": "Parquet",
    ".json": "JSON", ".jsonl": "JSON", ".ndjson": "JSON",
    ".db": "SQLite", ".sqlite": "SQLite", ".sqlite3": "SQLite",
}  # fmt: skip
_MAGIC = {  # how files begin that are not text
    b"PAR1": "Parquet",
    b"SQLite format 3\0": "SQLite",
    b"PK\x03\x04": "zip or Excel",
    b"\x89PNG": "PNG image",
    b"\xff\xd8\xff": "JPEG image",
    b"%PDF": "PDF",
    b"\xd0\xcf\x11\xe0": "old Excel",
    b"\xfd7zXZ": "xz",
    b"BZh": "bzip2",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\x89HDF": "HDF5",
    b"ARROW1": "Arrow",
}
READS = "CSV, TSV (also .gz), Parquet, JSON, JSON lines, SQLite, or SQL in quotes"


@dataclass(frozen=True)
class RawTable:
    """Columns as they were read.

    values: by name, (N,) masked arrays of bool, int64, float64, datetime64[us], or objects that are str; NaN is masked.
    index: where each row stood in the source. decimal: "," if the file has shown that it writes 1,5 for one and a half.
    kinds: what the door itself knows of its columns (those of an array are numbers).
    """

    names: tuple[str, ...]
    values: Mapping[str, np.ma.MaskedArray]
    rows: int
    source: Source
    notes: tuple[str, ...] = ()
    index: np.ndarray | None = None
    decimal: str = "."
    kinds: Mapping[str, str] = field(default_factory=dict)

    def take(self, keep: np.ndarray) -> RawTable:
        """Only the rows where `keep` holds."""
        index = np.arange(self.rows) if self.index is None else self.index
        values = {name: v[keep] for name, v in self.values.items()}
        return replace(self, values=values, rows=int(keep.sum()), index=index[keep])


def read_file(
    path: Path,
    *,
    table: str | None = None,
    encoding: str = "utf-8",
    words: Iterable[str] = (),
    decimal: str = ".",
) -> RawTable:
    """A file of any of the formats, by its name and its first bytes.

    table: which table of a SQLite file. words: columns of a CSV file not to be taken for numbers ("501" may be a code).
    decimal: the decimal sign of a CSV file, where it is known.
    """
    kind = _kind_of(path)
    if table is not None and kind != "SQLite":
        raise UsageError(
            f"{path} has no tables to choose from",
            needs="a SQLite file where a table is named",
            found=f"a {kind} file and table '{table}'",
            fix="leave the table out",
        )
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    source = Source(str(path), sha256)
    if kind == "SQLite":
        found = _sqlite(path, table, encoding, source)
    elif kind == "Parquet":
        found = _duckdb_file(path, f"read_parquet({quoted_path(path)})", kind, source)
    elif kind == "JSON":
        with plain_text(path, encoding) as text:
            call = f"read_json_auto({quoted_path(text.path)}, compression='{text.compression}')"
            found = _duckdb_file(path, call, kind, source)
    else:
        found = _csv(path, encoding, words, decimal, source)
    if not found.rows:
        raise DataError(
            f"{path} has column names and no rows",
            needs="at least one row",
            found=f"the columns {', '.join(found.names[:8])}" + (", …" if len(found.names) > 8 else ""),
            fix="add the rows, or choose another file",
        )
    return found


def read_sql(query: str) -> RawTable:
    """The answer of a query over files: `SELECT * FROM 'trial.csv' WHERE age > 17`.

    >>> read_sql("SELECT i AS a, i * 0.5 AS b FROM range(3) t(i)").values["b"].tolist()
    [0.0, 0.5, 1.0]
    """
    import duckdb

    def refuse(found: str, fix: str) -> DataError:
        return DataError("the SQL query cannot be answered", needs="one SELECT over files", found=found, fix=fix)

    with _connection() as connection:
        try:
            statements = connection.extract_statements(query)
            if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
                raise refuse("other statements too", "leave only the SELECT, without a semicolon")
            names, values = _fetch(connection, query.strip().rstrip(";"))
        except duckdb.Error as error:
            fix = "mend the query; files stand in single quotes: FROM 'trial.csv'"
            if "xtension" in str(error):
                fix = "a SQLite file is read by itself, with a table; of other databases export CSV or Parquet"
            raise refuse(_first_line(error), fix) from None
    return table_of(names, values, Source("SQL: " + " ".join(query.split())))


def table_of(names: Sequence[str], values: Sequence[np.ma.MaskedArray], source: Source) -> RawTable:
    """A table, its source completed by the number of rows and, where no file has one, a SHA-256 of the cells."""
    if repeated := [n for i, n in enumerate(names) if n in names[:i]]:
        raise duplicates(source.name, repeated)
    if not names:
        raise DataError(f"{source.name} has no columns", needs="at least one", found="none", fix="choose other data")
    rows = len(values[0])
    source = replace(source, rows=rows, sha256=source.sha256 or _digest(names, values))
    return RawTable(tuple(names), dict(zip(names, values, strict=True)), rows, source)


def missing_file(path: Path) -> DataError:
    """The error for a path where nothing is."""
    folder = path.parent
    there = sorted(p.name for p in folder.iterdir() if not p.name.startswith(".")) if folder.is_dir() else []
    return DataError(
        f"there is no file {path}",
        needs=f"a file that exists: {READS}",
        found=f"{len(there):,} names in the folder {folder}" if folder.is_dir() else f"no folder {folder} either",
        fix=nearest(path.name, there) if there else "look at the path",
    )


def quoted_path(path: Path) -> str:
    """A path as a SQL string that stands for itself: DuckDB takes *, ? and [ for patterns."""
    return "'" + re.sub(r"([*?\[])", r"[\1]", str(path)).replace("'", "''") + "'"


def _kind_of(path: Path) -> str:
    try:
        with path.open("rb") as file:
            head = file.read(1024)
    except OSError as error:
        raise DataError(
            f"{path} cannot be opened",
            needs="a file that may be read",
            found=str(error.strerror),
            fix="look at its rights",
        ) from None
    suffix = next((s for s in reversed(path.suffixes) if s.lower() != ".gz"), "").lower()
    named = _SUFFIXES.get(suffix)
    if not head:
        raise FormatError(
            f"{path} is empty", needs="a header and rows", found="0 bytes", fix="save or download it again"
        )
    magic = next((kind for start, kind in _MAGIC.items() if head.startswith(start)), None)
    if magic in {"Parquet", "SQLite"} and named in {None, magic}:
        return magic
    begins = f"it begins like a {magic} file" if magic else f"it begins with {head[:8]!r}"
    if magic or named in {"Parquet", "SQLite"}:
        known = next((s for s, kind in _SUFFIXES.items() if kind == magic), None)
        fix = f"rename it to {path.stem}{known}" if known else f"save it as one of {READS}"
        raise FormatError(f"{path} is not a {named or 'CSV'} file", needs=f"{named or READS}", found=begins, fix=fix)
    if named is None and b"\0" in head and head[:2] not in {b"\xff\xfe", b"\xfe\xff", b"\x1f\x8b"}:
        raise FormatError(f"{path} is no table", needs=READS, found=begins, fix="choose another file")
    return named or "CSV"


def _csv(path: Path, encoding: str, words: Iterable[str], decimal: str, source: Source) -> RawTable:
    import duckdb

    with plain_text(path, encoding) as text, _connection() as connection:
        dialect = text.dialect(path, decimal)
        if repeated := sorted({n for i, n in enumerate(dialect.names) if n in dialect.names[:i]}):
            raise duplicates(str(path), repeated)
        values, last = None, ""
        # types come from the first rows; where a later row belies them, from all; ends of line may be mixed
        for options in ("", ", sample_size=-1", ", sample_size=-1, strict_mode=false"):
            try:
                _, values = _fetch(connection, csv_query(quoted_path(text.path), text, dialect, words) + options + ")")
                break
            except duckdb.Error as error:
                last = _first_line(error)
                if not isinstance(error, duckdb.ConversionException):
                    text.refuse_ragged(path, dialect)
        if values is None:
            raise FormatError(f"{path} cannot be read as CSV", needs="rows of cells", found=last, fix="mend that line")
    found = table_of(dialect.names, values, source)
    return replace(found, decimal=dialect.decimal, notes=dialect.notes)


def _duckdb_file(path: Path, call: str, kind: str, source: Source) -> RawTable:
    import duckdb

    with _connection() as connection:
        try:
            names, values = _fetch(connection, f"FROM {call}")
        except duckdb.Error as error:
            raise FormatError(
                f"{path} cannot be read as {kind}",
                needs=f"a whole {kind} file" + (", a list of objects or one object a line" if kind == "JSON" else ""),
                found=_first_line(error),
                fix="save or download it again",
            ) from None
    return table_of(names, values, source)


def _connection() -> duckdb.DuckDBPyConnection:
    """A database in memory that fetches no extensions."""
    import duckdb

    return duckdb.connect(
        ":memory:", config={"autoinstall_known_extensions": False, "autoload_known_extensions": False}
    )


def _fetch(connection: duckdb.DuckDBPyConnection, query: str) -> tuple[list[str], list[np.ma.MaskedArray]]:
    """Names and cells of a query, every type of DuckDB's brought to one of ours."""
    relation = connection.sql(query)
    casts = [_cast(f"c{i}", str(t)) for i, t in enumerate(relation.types)]
    aliases = ", ".join(f"c{i}" for i in range(len(casts)))
    answer = connection.sql(f"FROM ({query}) AS t({aliases}) SELECT {', '.join(casts)}").fetchnumpy()
    return list(relation.columns), [normal(answer[f"c{i}"]) for i in range(len(casts))]


def _cast(cell: str, kind: str) -> str:
    kind = kind.partition("(")[0]
    if kind in {"BOOLEAN", "VARCHAR"}:
        return cell
    if kind in {"TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER"}:
        return f"{cell}::BIGINT AS {cell}"
    if kind in {"UBIGINT", "HUGEINT", "UHUGEINT", "FLOAT", "DOUBLE", "DECIMAL"}:
        return f"{cell}::DOUBLE AS {cell}"
    if kind == "DATE" or kind.startswith("TIMESTAMP"):
        return f"make_timestamp(epoch_us({cell})) AS {cell}"  # needs no extension, also with a time zone
    return f"{cell}::VARCHAR AS {cell}"


def _sqlite(path: Path, table: str | None, encoding: str, source: Source) -> RawTable:
    connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
    connection.text_factory = lambda raw: raw.decode(encoding)
    try:
        names, records, table = _sqlite_records(connection, path, table)
    except sqlite3.DatabaseError as error:
        raise FormatError(
            f"{path} cannot be read as SQLite", needs="a whole SQLite file", found=str(error), fix="copy it again"
        ) from None
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} has words that are not {encoding}",
            needs=f"words in {encoding}",
            found=f"byte 0x{error.object[error.start]:02x}",
            fix="name the encoding: --encoding latin-1",
        ) from None
    finally:
        connection.close()
    columns = list(zip(*records, strict=True)) if records else [() for _ in names]
    return table_of(names, [normal(objects(list(c))) for c in columns], replace(source, name=f"{path}:{table}"))


def _sqlite_records(
    connection: sqlite3.Connection, path: Path, table: str | None
) -> tuple[list[str], list[tuple[Any, ...]], str]:
    listing = "SELECT name FROM sqlite_master WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite@_%' ESCAPE '@'"
    tables = [name for (name,) in connection.execute(listing)]
    if table is None and len(tables) == 1:
        table = tables[0]
    if table is None or table not in tables:
        raise DataError(
            f"{path}: which table?" if table is None else f"{path} has no table '{table}'",
            needs="the name of one table",
            found=f"{len(tables)} tables",
            fix=f"--table NAME; {nearest(table or '', tables)}",
        )
    own = table.replace('"', '""')
    cursor = connection.execute(f'SELECT * FROM "{own}"')  # ruff: ignore[hardcoded-sql-expression]  a name of its own
    return [column[0] for column in cursor.description], cursor.fetchall(), table


def objects(cells: list[Any]) -> np.ma.MaskedArray | np.ndarray:
    """Python values as the narrowest type of cell that holds them all."""
    kinds = set(map(type, cells)) - {type(None)}
    missing = np.fromiter((c is None for c in cells), bool, len(cells))
    number = {bool, int, float, np.bool_, np.int64, np.int32, np.float64, np.float32}
    if kinds and kinds <= {bool, np.bool_}:
        return np.ma.array([bool(c) for c in cells], mask=missing)
    if kinds and kinds <= number - {float, np.float64, np.float32} and all(c is None or abs(c) < 2**63 for c in cells):
        return np.ma.array([c or 0 for c in cells], mask=missing, dtype=np.int64)
    if kinds <= number:
        return np.ma.array([np.nan if c is None else float(c) for c in cells], mask=missing, dtype=np.float64)
    if kinds <= {dt.date, dt.datetime}:
        moments = [_naive(c) for c in cells]
        return np.ma.array(np.array(moments, dtype="datetime64[us]"), mask=missing)
    words = np.empty(len(cells), object)
    words[:] = [None if c is None or (isinstance(c, float) and math.isnan(c)) else str(c) for c in cells]
    return words


def _naive(moment: dt.date | None) -> dt.date | None:
    if isinstance(moment, dt.datetime) and moment.tzinfo is not None:
        return moment.astimezone(dt.UTC).replace(tzinfo=None)
    return moment


def normal(values: np.ndarray) -> np.ma.MaskedArray:
    """A masked array of one of the five types, with a whole mask."""
    mask = np.ma.getmaskarray(values).copy()
    data = np.ma.getdata(values)
    match data.dtype.kind:
        case "b":
            pass
        case "i" | "u" if data.dtype != np.uint64:
            data = data.astype(np.int64)
        case "f" | "u":
            data = data.astype(np.float64)
            mask |= np.isnan(data)
        case "M":
            data = data.astype("datetime64[us]")
            mask |= np.isnat(data)
        case "m":
            data = data.astype("timedelta64[us]").astype(np.int64) / 86_400e6
        case "U" | "S":
            data = (np.char.decode(data, "utf-8") if data.dtype.kind == "S" else data).astype(object)
        case "O":
            mask |= np.equal(data, np.array(None, object)).astype(bool)
        case _:
            raise DataError(
                f"cells of type {data.dtype} cannot be read",
                needs="numbers, words, booleans or dates",
                found=str(data.dtype),
                fix="turn them into real numbers first",
            )
    return np.ma.MaskedArray(data, mask=mask)


def _digest(names: Sequence[str], values: Sequence[np.ma.MaskedArray]) -> str:
    digest = hashlib.sha256()
    for name, cells in zip(names, values, strict=True):
        digest.update(f"{name}\0{cells.dtype}\0".encode())
        digest.update(np.ma.getmaskarray(cells).tobytes())
        digest.update("\0".join(map(str, cells.data)).encode() if cells.dtype == object else cells.data.tobytes())
    return digest.hexdigest()


def duplicates(where: str, names: Sequence[str]) -> DataError:
    """The error for columns of one name."""
    return DataError(
        f"{where} has columns of one name",
        needs="a name of its own for each column",
        found=f"more than once: {', '.join(names[:8])}" + (", …" if len(names) > 8 else ""),
        fix="rename them in the header; a query over a file numbers them: \"SELECT * FROM 'file.csv'\"",
    )


def _first_line(error: Exception) -> str:
    """What DuckDB says, without its advice."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return re.sub(r"^[A-Za-z ]*Error: ", "", lines[0]) if lines else type(error).__name__
