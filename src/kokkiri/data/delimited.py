"""CSV files: what is delimiter, header and decimal sign, and which line is to blame."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import re
import tempfile
import zlib
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from kokkiri.errors import DataError, FormatError, UsageError

CSV_SUFFIXES = (".csv", ".tsv", ".tab", ".txt", ".data", ".dat")
_DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
_NUMBER = re.compile(r"\s*[+-]?(?:\d+[.,]?\d*|[.,]\d+)(?:[eE][+-]?\d+)?\s*")
_COMMA = re.compile(r"\s*[+-]?(\d*),(\d+)\s*")
_POINT = re.compile(r"\s*[+-]?\d*\.\d+\s*")
_HEAD = 1 << 16  # characters that delimiter, header and decimal sign are judged by
_CHUNK = 1 << 22


@dataclass(frozen=True)
class Dialect:
    """How a CSV file is written. skip: lines before the header, which are empty or comments."""

    delimiter: str
    names: tuple[str, ...]
    header: bool
    skip: int
    decimal: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Text:
    """A file of text as DuckDB can read it: UTF-8, plain or gzip."""

    path: Path
    compression: str
    head: str  # the first characters
    whole: bool  # whether there are no more

    def dialect(self, name: Path, decimal: str) -> Dialect:
        r"""Delimiter, header and decimal sign, from the first lines.

        >>> head = "age;dose\n31;1,5\n"
        >>> Text(Path("a.csv"), "none", head, whole=True).dialect(Path("a.csv"), ".").decimal
        ','
        """
        lines = self.head.splitlines(keepends=True)
        skip = next((i for i, line in enumerate(lines) if line.strip() and not line.startswith("#")), len(lines))
        body = "".join(lines[skip:]) if self.whole else "".join(lines[skip:-1] or lines[skip:])
        if not body.strip():
            raise FormatError(
                f"{name} has no rows", needs="a header and rows", found="empty lines", fix="save or download it again"
            )
        records = {d: _records(body, d) for d in _DELIMITERS}
        prefer = "\t" if name.suffix.lower() in {".tsv", ".tab"} else ","
        delimiter = max(_DELIMITERS, key=lambda d: (_agreement(records[d]), d == prefer))
        first, *rest = records[delimiter]
        header = not any(map(_NUMBER.fullmatch, first))
        names = [cell.strip() if header else "" for cell in first]
        names = [cell or f"column{i}" for i, cell in enumerate(names)]
        notes = () if header else (f"{name.name} has no header: the columns are named {names[0]} … {names[-1]}",)
        if delimiter != "," and decimal == ".":
            decimal = _decimal([cell for record in rest for cell in record])
        return Dialect(delimiter, tuple(names), header, skip, decimal if delimiter != "," else ".", notes)

    def refuse_ragged(self, name: Path, dialect: Dialect) -> None:
        """An error for the first line with too few or too many cells, if there is one."""
        width, start = len(dialect.names), 0
        with self._open() as file:
            reader = csv.reader(file, delimiter=dialect.delimiter, strict=True)
            try:
                for number, record in enumerate(reader):
                    if number >= dialect.skip and record and len(record) != width:
                        raise DataError(
                            f"{name}: line {start + 1:,} has {_cells(len(record))}, the first has {width}",
                            needs=f"{_cells(width)}, separated by {_DELIMITERS[dialect.delimiter]}, in every line",
                            found=_shortened(dialect.delimiter.join(record)),
                            fix="mend that line; a cell that holds the separator stands in double quotes",
                        )
                    start = reader.line_num
            except csv.Error as error:
                raise FormatError(
                    f"{name}: line {start + 1:,} cannot be read",
                    needs="double quotes that are closed, doubled inside a cell",
                    found=str(error),
                    fix="mend the quotes in that line",
                ) from None

    def _open(self) -> IO[str]:
        if self.compression == "gzip":
            return gzip.open(self.path, "rt", encoding="utf-8-sig", newline="")
        return self.path.open(encoding="utf-8-sig", newline="")


@contextmanager
def plain_text(path: Path, encoding: str) -> Generator[Text, None, None]:
    """The file as UTF-8, each byte looked at: a copy in a temporary folder where its encoding is another."""
    try:
        codec = codecs.lookup(encoding).name
    except LookupError:
        raise UsageError(
            f"'{encoding}' is no encoding", needs="a name of one", found=encoding, fix="utf-8, latin-1, cp1252, utf-16"
        ) from None
    with path.open("rb") as file:
        start = file.read(4)
    gz = start[:2] == b"\x1f\x8b"
    if path.suffix.lower() == ".gz" and not gz:
        raise FormatError(
            f"{path} is not gzip",
            needs="a file that begins with 1f 8b",
            found=start.hex(" "),
            fix="download it again, or rename it",
        )
    with tempfile.TemporaryDirectory() as folder:
        if codec in {"utf-8", "utf-8-sig"}:
            head, whole = _decode(path, "utf-8", None, gz=gz)
            yield Text(path, "gzip" if gz else "none", head.removeprefix("\ufeff"), whole)
        else:
            copy = Path(folder) / "utf-8.txt"
            head, whole = _decode(path, codec, copy, gz=gz)
            yield Text(copy, "none", head.removeprefix("\ufeff"), whole)


def csv_query(source: str, text: Text, dialect: Dialect, words: Iterable[str]) -> str:
    """A call of DuckDB's reader, its last bracket open for more options."""
    names = ", ".join(f"'c{i}'" for i in range(len(dialect.names)))
    fixed = ", ".join(f"'c{i}': 'VARCHAR'" for i, name in enumerate(dialect.names) if name in set(words))
    types = f", types={{{fixed}}}" if fixed else ""
    delimiter = "\\t" if dialect.delimiter == "\t" else dialect.delimiter
    return (
        f"FROM read_csv({source}, compression='{text.compression}', delim='{delimiter}', quote='\"', "
        f"escape='\"', comment='', header={str(dialect.header).lower()}, skip={dialect.skip}, names=[{names}]{types}, "
        f"decimal_separator='{dialect.decimal}', auto_type_candidates=['BIGINT', 'DOUBLE', 'VARCHAR']"
    )


def _decode(path: Path, codec: str, copy: Path | None, *, gz: bool) -> tuple[str, bool]:
    """Decode the whole file, into `copy` if there is one; its first characters, and whether they are all."""
    decoder = codecs.getincrementaldecoder(codec)()
    head: list[str] = []
    taken = line = position = 0
    target = copy.open("w", encoding="utf-8", newline="") if copy else io.StringIO()
    with gzip.open(path) if gz else path.open("rb") as file, target:
        while True:
            try:
                chunk = file.read(_CHUNK)
            except (OSError, EOFError, zlib.error) as error:
                raise FormatError(
                    f"{path} is a damaged gzip file",
                    needs="a file that can be unpacked to its end",
                    found=f"{error} after {position:,} unpacked bytes",
                    fix="download or copy it again",
                ) from None
            pending = decoder.getstate()[0]
            try:
                text = decoder.decode(chunk, final=not chunk)
            except UnicodeDecodeError as error:
                before = (pending + chunk)[: error.start]
                raise _not_text(path, codec, error, line + before.count(b"\n") + 1, position - len(pending)) from None
            if copy:
                target.write(text)
            if taken < _HEAD:
                head.append(text[: _HEAD + 1 - taken])
                taken += len(head[-1])
            if not chunk:
                break
            position += len(chunk)
            line += chunk.count(b"\n")
    start = "".join(head)
    return start[:_HEAD], len(start) <= _HEAD


def _not_text(path: Path, codec: str, error: UnicodeDecodeError, line: int, offset: int) -> DataError:
    byte = error.object[error.start]
    utf16 = offset + error.start == 0 and error.object[:2] in {b"\xff\xfe", b"\xfe\xff"}
    return DataError(
        f"{path}: line {line:,} is not {codec}",
        needs=f"text in {codec}",
        found=f"byte 0x{byte:02x} in line {line:,}, {offset + error.start:,} bytes into the file",
        fix=f"name the encoding: --encoding {'utf-16' if utf16 else 'latin-1'}",
    )


def _records(body: str, delimiter: str) -> list[list[str]]:
    """The first records. A damaged one ends them: it is blamed later, by its line."""
    records: list[list[str]] = []
    try:
        for record in csv.reader(io.StringIO(body, newline=""), delimiter=delimiter, skipinitialspace=True):
            if record:
                records.append(record)
            if len(records) == 500:
                break
    except csv.Error:
        pass
    return records or [[body]]


def _agreement(records: list[list[str]]) -> float:
    """How many records are as wide as the first; nothing is said by a width of one."""
    width = len(records[0])
    return sum(len(r) == width for r in records) / len(records) if width > 1 else 0.0


def _decimal(cells: list[str]) -> str:
    """The decimal sign, a comma only where nothing else can be meant."""
    commas = [m for m in map(_COMMA.fullmatch, cells) if m]
    clear = any(len(m[2]) != 3 or m[1] in {"", "0"} for m in commas)
    return "," if clear and not any(map(_POINT.fullmatch, cells)) else "."


def _cells(n: int) -> str:
    return f"{n} cell{'s' * (n != 1)}"


def _shortened(text: str) -> str:
    return text if len(text) <= 80 else text[:77] + "…"
