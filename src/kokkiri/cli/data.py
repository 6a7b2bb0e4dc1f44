"""`kokkiri data list | fetch | verify`: the data sets that are known by name."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import Positional, arg

from kokkiri.data.formats import readable_size
from kokkiri.data.named import DATA_SETS, DataSet, Found, find, locate, look, verify
from kokkiri.errors import DataError, KokkiriError, UsageError

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True)
class Data:
    """List the data sets that are known by name, bring them to this machine, or check every byte of them."""

    action: Annotated[Positional[Literal["list", "fetch", "verify"]], arg(metavar="list|fetch|verify")]
    """What to do."""
    names: Annotated[Positional[tuple[str, ...]], arg(metavar="NAME")] = ()
    """Which data sets; fetch takes "all", verify checks all that are here unless some are named."""

    def run(self) -> int:
        """Gives the exit code."""
        if self.action == "list":
            return list_data()
        return fetch_data(self.names) if self.action == "fetch" else verify_data(self.names)


def list_data() -> int:
    """Print a table of all named data sets and where they are. Returns the exit code."""
    table = _table("name", "what", "task", "rows", "size", "where", "licence")
    notes = []
    for dataset in DATA_SETS:
        found = look(dataset)
        where = found.place if found else "to be downloaded"
        if found and found.layout.note:
            notes.append(f"{dataset.name}: {found.layout.note}")
        size = readable_size(_size(dataset, found))
        rows = (found and found.layout.rows) or dataset.rows
        table.add_row(dataset.name, dataset.title, dataset.task, f"{rows:,}", size, where, dataset.licence)
    _show(table, notes)
    return 0


def fetch_data(names: Sequence[str]) -> int:
    """Bring these data sets to this machine and check them; "all" means all. Returns the exit code."""
    if not names:
        every = ", ".join(dataset.name for dataset in DATA_SETS)
        _complain(UsageError("which data sets?", needs="names, or 'all'", found="none", fix=f"there are: {every}"))
        return 2
    return _each([dataset.name for dataset in DATA_SETS] if list(names) == ["all"] else names, _fetched)


def verify_data(names: Sequence[str]) -> int:
    """Read every byte of these data sets and compare with the SHA-256; by default of all that are here.

    Returns the exit code: 2 if a file is wrong or, where data sets are named, missing.
    """
    return _each(names or [dataset.name for dataset in DATA_SETS if look(dataset)], _verified)


def _fetched(dataset: DataSet) -> tuple[Found | None, str]:
    locate(dataset)
    return look(dataset), "ready"


def _verified(dataset: DataSet) -> tuple[Found | None, str]:
    found = verify(dataset)
    if found is None:
        raise DataError(
            f"'{dataset.name}' is not here",
            needs="its files",
            found="none in $KOKKIRI_DATA or the cache",
            fix=f"kokkiri data fetch {dataset.name}",
        )
    known = all(file.sha256 for file in found.layout.files)
    return found, "every byte is right" if known else "no SHA-256 is known to compare with"


def _each(names: Sequence[str], task: Callable[[DataSet], tuple[Found | None, str]]) -> int:
    """Do it for every name; one that fails does not keep the others from being done."""
    table, notes, failures = _table("name", "state", "size", "where", "folder"), [], []
    for name in names:
        try:
            dataset = find(name)
            found, state = task(dataset)
        except KokkiriError as error:
            failures.append(error)
            continue
        size = readable_size(_size(dataset, found))
        table.add_row(name, state, size, found.place if found else "", str(found.paths[0].parent) if found else "")
        if found and found.layout.note:
            notes.append(f"{name}: {found.layout.note}")
    if table.row_count:
        _show(table, notes)
    for error in failures:
        _complain(error)
    return 2 if failures else 0


def _complain(error: KokkiriError) -> None:
    sys.stderr.write(f"kokkiri.{type(error).__name__}: {error}\n")


def _size(dataset: DataSet, found: Found | None) -> int:
    return sum(path.stat().st_size for path in found.paths) if found else sum(file.size for file in dataset.files)


def _table(*columns: str) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, justify="right" if column in {"rows", "size"} else "left", no_wrap=column == "name")
    return table


def _show(table: Table, notes: Sequence[str]) -> None:
    from rich.console import Console

    width = None if sys.stdout.isatty() else 200  # a pipe has no width to wrap at
    console = Console(width=width, markup=False, emoji=False, highlight=False)  # a folder may be called [red]
    console.print(table)
    for note in notes:
        console.print(note, soft_wrap=True)
