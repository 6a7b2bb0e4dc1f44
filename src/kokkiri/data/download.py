"""Downloads that can be cut at any instant: resumed, verified, moved into place in one step."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import http.client
import os
import re
import shutil
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import IO

from kokkiri.data.formats import readable_size
from kokkiri.errors import ChecksumError, DataError, OutputError

CHUNK = 1 << 18
TIMEOUT = 30.0  # seconds of silence after which a connection counts as cut
ATTEMPTS = 8  # connections to one server, as long as each of them brings something
LINE_SECONDS = 5.0  # between two lines of progress where there is no terminal

_NETWORK = (OSError, http.client.HTTPException)  # trouble with the disk is an OutputError by then


def cache_folder() -> Path:
    """$KOKKIRI_CACHE, else $XDG_CACHE_HOME/kokkiri, else ~/.cache/kokkiri."""
    if own := os.environ.get("KOKKIRI_CACHE"):
        return Path(own).expanduser()
    xdg = os.environ.get("XDG_CACHE_HOME", "")
    # the XDG specification has relative paths ignored
    return (Path(xdg) if Path(xdg).is_absolute() else Path.home() / ".cache") / "kokkiri"


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fetch(urls: Sequence[str], sha256: str, path: str | Path, *, size: int | None = None, quiet: bool = False) -> Path:
    """The file whose SHA-256 is `sha256`, from the first of `urls` that gives it, at `path`.

    What has arrived lies at `path`.part and is kept when the connection, the process or the disk gives up: the next
    call asks for the rest (HTTP Range). At `path` itself there is never anything but the whole, verified file.
    size: how many bytes there must be, where it is known; an answer of another length is not read.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     here = Path(folder, "a.txt")
    ...     _ = here.write_text("a")
    ...     fetch([], file_sha256(here), here).name  # there already
    'a.txt'
    """
    path = Path(path)
    part = path.with_name(path.name + ".part")
    by_hand = f"put the file by hand at $KOKKIRI_DATA/{path.parent.name}/{path.name}"
    with _writing(part, size):
        path.parent.mkdir(parents=True, exist_ok=True)
    with _alone(path):
        if path.is_file() and file_sha256(path) == sha256:  # another process was faster
            return path
        failures, wrong = [], []
        for url in urls:
            try:
                found = _verified(url, part, sha256, size, quiet=quiet)
            except _NETWORK as error:
                failures.append(f"{url} ({_reason(error)})")
                continue
            if found == sha256:
                with _writing(part, size):
                    _into_place(part, path)
                return path
            wrong.append(f"{found} from {url}")
    if wrong:
        raise ChecksumError(
            f"{path.name} is not the file that was promised; it was thrown away",
            needs=f"SHA-256 {sha256}",
            found="; ".join([f"SHA-256 {w}" for w in wrong] + failures),
            fix=f"try again later; if it stays so, the publisher has changed the file: {by_hand}",
        )
    raise DataError(
        f"{path.name} could not be downloaded",
        needs="a connection to one of the servers that have it",
        found="; ".join(failures) or "no server has it",
        fix=f"run the same again when there is a network (what has come is kept), or {by_hand}",
    )


def _verified(url: str, part: Path, sha256: str, size: int | None, *, quiet: bool) -> str:
    """The digest of what `url` gives; `part` stays only if it is the right one."""
    found = ""
    for _ in range(2):
        resumed = part.is_file() and part.stat().st_size > 0
        _complete(url, part, size, quiet=quiet)
        with _writing(part, size):
            found = file_sha256(part)
            if found == sha256:
                break
            part.unlink()
        if not resumed:  # else the beginning may have been of another file: once more from the start
            break
    return found


def _complete(url: str, part: Path, size: int | None, *, quiet: bool) -> None:
    """Bring `part` to its full length, over as many connections as it takes."""
    for attempt in range(ATTEMPTS):
        have = part.stat().st_size if part.is_file() else 0
        if size is not None and have > size:
            part.unlink()
            have = 0
        if have and have == size:
            return
        _room(part, size, have)
        try:
            if _receive(url, part, have, size, quiet=quiet):
                return
        except _NETWORK:
            if attempt == ATTEMPTS - 1 or not part.is_file() or part.stat().st_size <= have:
                raise
    raise ConnectionError(f"cut {ATTEMPTS} times")


def _receive(url: str, part: Path, have: int, size: int | None, *, quiet: bool) -> bool:
    """One connection: the rest of the file is appended to `part`. Whether it is whole now."""
    if not url.startswith(("https://", "http://")):
        raise OSError("not an http or https address")
    headers = {"User-Agent": "kokkiri"} | ({"Range": f"bytes={have}-"} if have else {})
    try:
        request = urllib.request.Request(url, headers=headers)  # ruff: ignore[suspicious-url-open-usage]  http(s) only
        response = urllib.request.urlopen(request, timeout=TIMEOUT)  # ruff: ignore[suspicious-url-open-usage]  as above
    except urllib.error.HTTPError as error:
        with error:
            if error.code != http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                raise
            if error.headers.get("Content-Range", "") == f"bytes */{have}":
                return True
        with _writing(part, size):
            part.unlink()  # longer than the server's file: the beginning of something else
        return False
    with response:
        if response.status != http.HTTPStatus.PARTIAL_CONTENT:
            have = 0  # the server ignores Range and sends everything
        elif not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            raise OSError("the server sent another part than the one asked for")
        length = response.headers.get("Content-Length", "")
        total = have + int(length) if re.fullmatch(r"\d+", length) else None
        if size is not None and total not in {None, size}:
            raise OSError(f"the server has a file of {total:,} bytes, not of {size:,}")
        with _writing(part, size):
            file = part.open("ab" if have else "wb", buffering=0)
        with file, _progress(part.name.removesuffix(".part"), url, have, total or size, quiet=quiet) as advance:
            while chunk := response.read(CHUNK):
                have += len(chunk)
                if size is not None and have > size:
                    raise OSError(f"the server sends more than {size:,} bytes")
                with _writing(part, size):
                    _write(file, chunk)
                advance(len(chunk))
        return total is None or have == total


def _write(file: IO[bytes], chunk: bytes) -> None:
    view = memoryview(chunk)
    while view:  # an unbuffered file may take a piece at a time
        view = view[file.write(view) :]


def _into_place(part: Path, path: Path) -> None:
    """Rename so that after a power cut there is either the whole file or none."""
    with part.open("rb+") as file:
        os.fsync(file.fileno())
    part.replace(path)
    if os.name == "posix":
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _room(part: Path, size: int | None, have: int) -> None:
    if size is not None and shutil.disk_usage(part.parent).free < size - have:
        raise _full(part, size)


@contextlib.contextmanager
def _writing(part: Path, size: int | None) -> Generator[None, None, None]:
    """Trouble with the disk, in words."""
    try:
        yield
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise _full(part, size) from error
        raise OutputError(
            f"{part.parent} cannot be written to",
            needs="permission to write there",
            found=f"{error.strerror or error}",
            fix="choose another folder: export KOKKIRI_CACHE=…",
        ) from error


def _full(part: Path, size: int | None) -> OutputError:
    have = part.stat().st_size if part.is_file() else 0
    free = shutil.disk_usage(part.parent).free
    return OutputError(
        f"the disk is full: {part.name.removesuffix('.part')} does not fit into {part.parent}",
        needs=f"{readable_size(size - have)} more" if size is not None else "more room",
        found=f"{readable_size(free)} free; {readable_size(have)} have come and are kept",
        fix="make room and run the same again, or choose another folder: export KOKKIRI_CACHE=…",
    )


@contextlib.contextmanager
def _alone(path: Path) -> Generator[None, None, None]:
    """Processes that want the same file (the ranks of one run, say) take turns, where the system has locks."""
    try:
        import fcntl
    except ImportError:
        yield
        return
    with _writing(path, None):
        lock = path.with_name(path.name + ".lock").open("w")
    with lock:
        with contextlib.suppress(OSError):  # some network file systems have no locks
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield  # ruff: ignore[fallible-context-manager]  after an error the lock file stays, so that turns are still taken
        Path(lock.name).unlink(missing_ok=True)  # the file is in place now, where those who wait will find it


@contextlib.contextmanager
def _progress(
    name: str, url: str, have: int, total: int | None, *, quiet: bool
) -> Generator[Callable[[int], None], None, None]:
    """A bar on a terminal, a line now and then elsewhere, on standard error."""
    if quiet:
        yield lambda _: None
        return
    from rich.console import Console

    console = Console(stderr=True)
    if console.is_terminal:
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console) as bar:
            task = bar.add_task(name, total=total, completed=have)
            yield lambda n: bar.advance(task, n)
        return
    last = time.monotonic()
    whole = f" of {readable_size(total)}" if total else ""
    kept = f" ({readable_size(have)} are here already)" if have else ""
    sys.stderr.write(f"{name}:{whole.removeprefix(' of')} from {url}{kept}\n")

    def advance(n: int) -> None:
        nonlocal have, last
        have += n
        if time.monotonic() - last > LINE_SECONDS or have == total:
            last = time.monotonic()
            sys.stderr.write(f"{name}: {readable_size(have)}{whole}\n")

    yield advance


def _reason(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"HTTP {error.code} {error.reason}"
    if isinstance(error, urllib.error.URLError):
        return str(error.reason)
    return str(error) or type(error).__name__
