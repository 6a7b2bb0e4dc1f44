"""Downloads over real sockets: cut, resumed, wrong, refused. The server lives in a thread of the test."""

from __future__ import annotations

import errno
import hashlib
import http.server
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from kokkiri.data import download
from kokkiri.data.download import cache_folder, fetch
from kokkiri.errors import ChecksumError, DataError, OutputError

CONTENT = bytes(range(256)) * 8192  # 2 MiB
SHA256 = hashlib.sha256(CONTENT).hexdigest()
HALF = len(CONTENT) // 2


class Server:
    """Serves `content`. ranges: whether it understands Range. cuts: bytes after which each coming answer breaks off."""

    def __init__(self, content: bytes = CONTENT, *, ranges: bool = True, cuts: tuple[int, ...] = (), status: int = 200):
        self.content, self.ranges, self.cuts, self.status = content, ranges, list(cuts), status
        self.asked: list[str | None] = []  # the Range header of each request
        self.hold = threading.Event()  # set: an answer that breaks off keeps the connection open
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                outer.answer(self)

            def log_message(self, *args):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/file.bin"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})

    def answer(self, request) -> None:
        asked = request.headers["Range"]
        self.asked.append(asked)
        start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1]) if asked and self.ranges else 0
        if self.status != 200:
            request.send_error(self.status)
            return
        if start >= len(self.content):
            request.send_response(416)
            request.send_header("Content-Range", f"bytes */{len(self.content)}")
            request.send_header("Content-Length", "0")
            request.end_headers()
            return
        body = self.content[start:]
        request.send_response(206 if start else 200)
        if start:
            request.send_header("Content-Range", f"bytes {start}-{len(self.content) - 1}/{len(self.content)}")
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        cut = self.cuts.pop(0) if self.cuts else len(body)
        request.wfile.write(body[:cut])
        request.wfile.flush()
        if cut < len(body) and self.hold.is_set():
            deadline = time.monotonic() + 20
            while self.hold.is_set() and time.monotonic() < deadline:
                time.sleep(0.01)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *error):
        self.hold.clear()
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


pytestmark = pytest.mark.usefixtures("plain_environment")


@pytest.fixture
def plain_environment(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    for name in ("FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "set" / "file.bin"


def get(servers, path, *, size: int | None = len(CONTENT), sha256: str = SHA256) -> Path:
    return fetch([s.url for s in servers], sha256, path, size=size, quiet=True)


def left(path: Path) -> set[str]:
    return {file.name for file in path.parent.iterdir() if not file.name.endswith(".lock")}


def test_a_file_arrives_whole_and_nothing_else_stays(path):
    with Server() as server:
        assert get([server], path) == path
    assert path.read_bytes() == CONTENT
    assert [file.name for file in path.parent.iterdir()] == ["file.bin"]
    assert server.asked == [None]


def test_a_connection_that_is_cut_is_taken_up_where_it_broke(path):
    with Server(cuts=(HALF, 1000)) as server:
        get([server], path)
    assert path.read_bytes() == CONTENT
    assert server.asked == [None, f"bytes={HALF}-", f"bytes={HALF + 1000}-"]


@pytest.mark.parametrize("size", [len(CONTENT), None])
def test_what_an_earlier_run_has_left_is_not_downloaded_again(path, size):
    path.parent.mkdir()
    path.with_name("file.bin.part").write_bytes(CONTENT[:HALF])
    with Server() as server:
        get([server], path, size=size)
    assert path.read_bytes() == CONTENT
    assert server.asked == [f"bytes={HALF}-"]


@pytest.mark.parametrize("size", [len(CONTENT), None])
def test_a_part_that_is_whole_already_is_only_verified(path, size):
    path.parent.mkdir()
    path.with_name("file.bin.part").write_bytes(CONTENT)
    with Server() as server:
        get([server], path, size=size)
    assert path.read_bytes() == CONTENT
    assert server.asked == ([] if size else [f"bytes={len(CONTENT)}-"])


def test_a_server_that_knows_no_ranges_sends_everything_and_the_file_is_still_right(path):
    path.parent.mkdir()
    path.with_name("file.bin.part").write_bytes(CONTENT[:HALF])
    with Server(ranges=False) as server:
        get([server], path)
    assert path.read_bytes() == CONTENT
    assert server.asked == [f"bytes={HALF}-"]


@pytest.mark.parametrize("size", [len(CONTENT), None])
def test_a_part_longer_than_the_file_is_thrown_away(path, size):
    path.parent.mkdir()
    path.with_name("file.bin.part").write_bytes(CONTENT + b"more")
    with Server() as server:
        get([server], path, size=size)
    assert path.read_bytes() == CONTENT
    assert server.asked == ([None] if size else [f"bytes={len(CONTENT) + 4}-", None])


def test_a_part_of_another_file_is_found_out_and_started_anew(path):
    path.parent.mkdir()
    path.with_name("file.bin.part").write_bytes(b"x" * HALF)
    with Server() as server:
        get([server], path)
    assert path.read_bytes() == CONTENT
    assert server.asked == [f"bytes={HALF}-", None]


def test_the_wrong_bytes_are_named_by_both_digests_and_do_not_stay(path):
    wrong = b"x" * len(CONTENT)
    with Server(wrong) as server, pytest.raises(ChecksumError) as error:
        get([server], path)
    text = str(error.value)
    assert SHA256 in text
    assert hashlib.sha256(wrong).hexdigest() in text
    assert "$KOKKIRI_DATA/set/file.bin" in text
    assert left(path) == set()
    assert server.asked == [None]


def test_an_answer_of_another_length_is_not_even_read(path):
    with Server(b"<html>please log in</html>") as server, pytest.raises(DataError, match="26 bytes, not of 2,097,152"):
        get([server], path)
    assert left(path) == set()


def test_the_next_address_is_tried_when_one_is_dead_missing_or_wrong(path):
    with Server() as gone, Server(status=404) as missing, Server(b"y" * len(CONTENT)) as wrong, Server() as good:
        gone.server.socket.close()
        get([gone, missing, wrong, good], path)
        assert path.read_bytes() == CONTENT
        assert (len(missing.asked), len(wrong.asked), len(good.asked)) == (1, 1, 1)
        gone.server.socket = socket.socket()  # for the shutdown to close


def test_without_a_network_the_addresses_and_the_place_for_the_file_are_named(path):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/file.bin"
    with pytest.raises(DataError) as error:
        fetch([url], SHA256, path, quiet=True)
    lines = str(error.value).splitlines()
    assert [line.split()[0] for line in lines[1:]] == ["needs", "found", "fix"]
    assert url in lines[2]
    assert "refused" in lines[2]
    assert "$KOKKIRI_DATA/set/file.bin" in lines[3]
    assert left(path) == set()


def test_a_missing_page_and_an_odd_address_are_named(path):
    with Server(status=404) as server, pytest.raises(DataError, match="HTTP 404 Not Found"):
        get([server], path)
    with pytest.raises(DataError, match="not an http or https address"):
        fetch(["file:///etc/hostname"], SHA256, path, quiet=True)


def test_a_server_that_always_cuts_is_given_up_and_what_came_is_kept(path):
    with Server(cuts=(100,) * 50) as server, pytest.raises(DataError, match=f"cut {download.ATTEMPTS} times"):
        get([server], path)
    assert path.with_name("file.bin.part").read_bytes() == CONTENT[: 100 * download.ATTEMPTS]
    assert not path.exists()


def test_a_full_disk_keeps_what_came_says_how_much_is_missing_and_goes_on_later(path, monkeypatch):
    written, write = 0, download._write

    def until_full(file, chunk):
        nonlocal written
        write(file, chunk)
        written += len(chunk)
        if written >= HALF:
            raise OSError(errno.ENOSPC, "No space left on device")

    with Server() as server:
        with monkeypatch.context() as patch:
            patch.setattr(download, "_write", until_full)
            with pytest.raises(OutputError) as error:
                get([server], path)
        text = str(error.value)
        kept = path.with_name("file.bin.part").stat().st_size
        assert kept == written >= HALF
        assert f"needs   {(len(CONTENT) - kept) / 1e6:.1f} MB more" in text
        assert "GB free" in text or "MB free" in text
        assert "KOKKIRI_CACHE" in text
        assert not path.exists()
        get([server], path)
    assert path.read_bytes() == CONTENT
    assert server.asked == [None, f"bytes={kept}-"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_disk_that_is_truly_full_is_an_output_error(path):
    path.parent.mkdir()
    path.with_name("file.bin.part").symlink_to("/dev/full")
    with Server() as server, pytest.raises(OutputError, match="the disk is full"):
        get([server], path)


def test_a_file_that_cannot_fit_is_not_begun(path, monkeypatch):
    monkeypatch.setattr(download.shutil, "disk_usage", lambda _: SimpleNamespace(total=100, used=90, free=10))
    with Server() as server, pytest.raises(OutputError, match=r"(?s)needs   2\.1 MB more.*10 B free"):
        get([server], path)
    assert server.asked == []


def test_a_folder_that_cannot_be_written_is_an_output_error(tmp_path):
    (tmp_path / "set").write_text("a file where a folder should be")
    with pytest.raises(OutputError, match="KOKKIRI_CACHE"):
        fetch(["http://127.0.0.1:1/x"], SHA256, tmp_path / "set" / "file.bin", quiet=True)


def test_a_run_that_is_killed_leaves_nothing_in_place_and_goes_on(path):
    code = "import sys; from kokkiri.data.download import fetch; fetch([sys.argv[1]], sys.argv[2], sys.argv[3])"
    part = path.with_name("file.bin.part")
    with Server(cuts=(HALF,)) as server:
        server.hold.set()
        run = subprocess.Popen([sys.executable, "-c", code, server.url, SHA256, str(path)], stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while not (part.exists() and part.stat().st_size == HALF):
            assert time.monotonic() < deadline
            assert run.poll() is None
            time.sleep(0.01)
        os.kill(run.pid, signal.SIGKILL)
        run.wait()
        server.hold.clear()
        assert not path.exists()
        get([server], path)
    assert path.read_bytes() == CONTENT
    assert server.asked == [None, f"bytes={HALF}-"]


def test_two_that_want_the_same_file_fetch_it_once(path):
    pytest.importorskip("fcntl")
    with Server() as server:
        threads = [threading.Thread(target=get, args=([server], path)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert path.read_bytes() == CONTENT
    assert server.asked == [None]


def test_progress_is_plain_lines_where_there_is_no_terminal_and_nothing_when_quiet(path, capsys):
    with Server() as server:
        fetch([server.url], SHA256, path, quiet=True)
        assert capsys.readouterr() == ("", "")
        path.unlink()
        fetch([server.url], SHA256, path, size=len(CONTENT))
    out, err = capsys.readouterr()
    assert not out
    assert err.splitlines() == [f"file.bin: 2.1 MB from {server.url}", "file.bin: 2.1 MB of 2.1 MB"]
    assert "\x1b" not in err


def test_progress_is_a_bar_on_a_terminal(path, monkeypatch, capsys):
    for name, value in {"FORCE_COLOR": "1", "TERM": "xterm", "COLUMNS": "100"}.items():
        monkeypatch.setenv(name, value)  # rich takes it for a terminal
    with Server() as server:
        fetch([server.url], SHA256, path, size=len(CONTENT))
    err = capsys.readouterr().err
    assert "file.bin" in err
    assert "2.1/2.1 MB" in err


def test_the_cache_is_where_the_environment_says(monkeypatch, tmp_path):
    monkeypatch.setenv("KOKKIRI_CACHE", str(tmp_path / "own"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "own"
    monkeypatch.delenv("KOKKIRI_CACHE")
    assert cache_folder() == tmp_path / "xdg" / "kokkiri"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "kokkiri"
