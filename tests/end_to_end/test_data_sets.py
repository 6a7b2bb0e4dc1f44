"""The named data sets: found, verified, downloaded, read; and the commands that list and check them."""

from __future__ import annotations

import csv
import gzip
import hashlib
import http.server
import importlib.util
import io
import json
import lzma
import os
import socket
import string
import struct
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from kokkiri.cli.data import fetch_data, list_data, verify_data
from kokkiri.data import download, named
from kokkiri.data.named import DATA_SETS, DataSet, File, Layout, find, load, locate, look, verify
from kokkiri.errors import ChecksumError, DataError, FormatError

ROOT = Path(__file__).parents[2]
REAL = os.environ.get("KOKKIRI_DATA", "")
EMBEDDED = [d for d in DATA_SETS if d.layouts[0].embedded]
UCI = ["boston-housing", "energy", "wine-quality-red", "protein"]

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture
def own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("KOKKIRI_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("KOKKIRI_DATA", raising=False)
    monkeypatch.setenv("no_proxy", "*")
    return tmp_path / "cache"


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture
def real_data(monkeypatch):
    """$KOKKIRI_DATA as the environment has it; the sets whose files are not in it are skipped."""

    def needed(name: str) -> DataSet:
        if not REAL:
            pytest.skip("KOKKIRI_DATA is not set")
        monkeypatch.setenv("KOKKIRI_DATA", REAL)
        if look(find(name)) is None:
            pytest.skip(f"$KOKKIRI_DATA has no {name}")
        return find(name)

    return needed


@pytest.fixture
def site(tmp_path):
    """A folder that is served: (folder, address)."""
    folder = tmp_path / "site"
    folder.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=str(folder))

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield folder, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def idx(array: np.ndarray) -> bytes:
    return (
        bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.astype(np.uint8).tobytes()
    )


def small_set(folder: Path, url: str = "", *, parts: int = 2) -> DataSet:
    """A data set like MNIST, with 6 training and 6 test images of 4 x 4 pixels; its files are written to `folder`."""
    files = []
    for part in range(parts):
        rng = np.random.default_rng(part)
        for what, array in [("images", rng.integers(0, 256, (6, 4, 4))), ("labels", np.arange(6) % 3)]:
            content = gzip.compress(idx(array), mtime=0)
            (folder / f"{part}-{what}.gz").write_bytes(content)
            urls = (f"{url}/{part}-{what}.gz",) if url else ()
            files.append(File(f"{part}-{what}.gz", hashlib.sha256(content).hexdigest(), len(content), urls))
    layout = Layout(tuple(files), named._read_idx)
    return DataSet("small", "classification", "", 12, (layout,), "CC0", "us", folder="small", levels=("a", "b", "c"))


@pytest.fixture
def known(monkeypatch):
    """Make a data set known by name for one test."""

    def add(dataset: DataSet) -> DataSet:
        for module in (named, __import__("kokkiri.cli.data", fromlist=["data"])):
            monkeypatch.setattr(module, "DATA_SETS", (*DATA_SETS, dataset))
        return dataset

    return add


@pytest.mark.parametrize("dataset", DATA_SETS, ids=lambda d: d.name)
def test_every_set_says_who_made_it_what_one_may_do_and_what_its_bytes_are(dataset):
    assert dataset.citation
    assert dataset.licence
    assert dataset.task in {"classification", "regression"}
    assert dataset.files
    for file in dataset.files:
        assert len(bytes.fromhex(file.sha256)) == 32
        assert file.size > 0
        assert all(url.startswith(("https://", "http://fashion-mnist.")) for url in file.urls)
        assert file.urls or dataset in EMBEDDED


def test_names_are_unique_and_an_unknown_one_gets_the_nearest():
    assert len({d.name for d in DATA_SETS}) == len(DATA_SETS)
    with pytest.raises(DataError, match="did you mean 'fashion-mnist'"):
        find("fashion_mnist")


def test_the_embedded_sets_are_small_and_their_bytes_are_right():
    assert [d.name for d in EMBEDDED] == ["digits", "breast-cancer", "concrete", "kidney-stones"]
    total = sum(path.stat().st_size for d in EMBEDDED for path in verify(d).paths)
    assert total < 1e6


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("name", [d.name for d in EMBEDDED])
def test_an_embedded_set_needs_no_network_and_no_cache(name, own_cache):
    data = load(name)
    assert len(data) == find(name).rows
    x, y = data.batch(torch.arange(len(data)))
    assert x.shape == (len(data), *data.inputs.shape)
    assert torch.isfinite(x).all()
    assert len(y) == len(data)
    assert (data.source.name, data.source.rows) == (name, len(data))
    assert (data.source.licence, data.source.citation) == (find(name).licence, find(name).citation)
    assert len(data.source.sha256) == 64
    assert not own_cache.exists()


def test_the_script_makes_the_embedded_files_again(monkeypatch):
    spec = importlib.util.spec_from_file_location("make_embedded", ROOT / "benchmarks" / "make_embedded.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    made = script.digits() | script.breast_cancer() | script.kidney_stones()
    if REAL:
        monkeypatch.setenv("KOKKIRI_DATA", REAL)
        made |= script.concrete()
    unpacked = {name: gzip.decompress(content) if name.endswith(".gz") else content for name, content in made.items()}
    for name, content in unpacked.items():
        kept = (ROOT / "src/kokkiri/data/embedded" / name).read_bytes()
        assert content == (gzip.decompress(kept) if name.endswith(".gz") else kept), name


def test_digits_are_scikit_learns():
    twin = pytest.importorskip("sklearn.datasets").load_digits()
    data = load("digits")
    assert np.array_equal(data.raw["image"][:, 0].numpy(), twin.images)
    assert np.array_equal(data.y.numpy(), twin.target)
    assert data.target.levels == tuple(string.digits)
    assert data.published == ()


def rows_of(name: str) -> list[dict[str, str]]:
    (path,) = (p for n, p in locate(find(name)).items() if n.endswith(".csv"))
    return list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"))))


def test_breast_cancer_is_scikit_learns():
    twin = pytest.importorskip("sklearn.datasets").load_breast_cancer()
    rows = rows_of("breast-cancer")
    assert np.array_equal(np.array([list(row.values())[:-1] for row in rows], float), twin.data)
    assert [row["diagnosis"] for row in rows] == [twin.target_names[i] for i in twin.target]
    data = load("breast-cancer")
    assert (data.inputs.width, data.target.levels) == (30, ("benign", "malignant"))
    assert torch.bincount(data.y).tolist() == [357, 212]


def test_kidney_stones_are_the_counts_of_the_paper_and_show_simpsons_paradox():
    rows = rows_of("kidney-stones")
    assert len(rows) == 700

    def rate(**given: str) -> tuple[int, int]:
        chosen = [row for row in rows if all(row[k] == v for k, v in given.items())]
        return sum(row["recovered"] == "yes" for row in chosen), len(chosen)

    assert rate(treatment="A", size="small") == (81, 87)
    assert rate(treatment="A", size="large") == (192, 263)
    assert rate(treatment="B", size="small") == (234, 270)
    assert rate(treatment="B", size="large") == (55, 80)
    assert rate(treatment="A")[0] < rate(treatment="B")[0]
    data = load("kidney-stones")
    assert data.target.levels == ("no", "yes")
    assert torch.bincount(data.y).tolist() == [138, 562]


def test_concrete_is_ucis_with_its_five_splits(real_data):
    rows = rows_of("concrete")
    names = "cement,slag,fly_ash,water,superplasticizer,coarse_aggregate,fine_aggregate,age,strength"
    assert ",".join(rows[0]) == names
    data = load("concrete")
    assert data.target.name == "strength"
    assert data.target.kind == "number"
    assert data.y.tolist() == [float(row["strength"]) for row in rows]
    assert [len(split) for split in data.published] == [103] * 5
    real_data("energy")  # from here on the copy in $KOKKIRI_DATA
    with gzip.open(Path(REAL, "uci", "concrete.csv.gz"), "rt") as file:
        twin = np.array(list(csv.reader(file))[1:], float)
    assert np.array_equal(np.array([list(row.values()) for row in rows], float), twin)
    splits = json.loads(gzip.decompress(Path(REAL, "uci", "concrete.test-splits.json.gz").read_bytes()))
    assert [split.tolist() for split in data.published] == splits


def test_mnist_has_the_rows_and_labels_that_are_known(real_data):
    real_data("mnist")
    data = load("mnist")
    assert data.raw["image"].shape == (70_000, 1, 28, 28)
    assert [split.tolist() for split in data.published] == [list(range(60_000, 70_000))]
    train = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    test = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert torch.bincount(data.y[:60_000]).tolist() == train
    assert torch.bincount(data.y[60_000:]).tolist() == test
    quoted = pytest.approx((0.1307, 0.3081), abs=5e-5)  # of the training images, as in every tutorial
    assert (data.encoder.mean.item(), data.encoder.std.item()) == quoted
    assert data.notes == ()


def test_cifar10_from_a_cut_says_that_it_is_one(real_data):
    found = look(real_data("cifar10"))
    data = load("cifar10")
    assert data.raw["image"].shape[1:] == (3, 32, 32)
    assert data.target.levels[:3] == ("airplane", "automobile", "bird")
    rows = found.layout.rows or 60_000
    assert len(data) == rows
    assert len(data.published[0]) in {2_000, 10_000}
    assert data.published[0].max() == rows - 1
    assert any("a cut of CIFAR-10" in note for note in data.notes) == (rows < 60_000)
    means = data.encoder.mean.tolist()
    assert means == pytest.approx([0.4914, 0.4822, 0.4465], abs=0.01)  # of the whole training set, as widely quoted


@pytest.mark.parametrize("name", UCI)
def test_the_regressions_have_their_rows_target_and_five_splits(real_data, name):
    dataset = real_data(name)
    data = load(name)
    assert len(data) == dataset.rows
    assert data.target.kind == "number"
    sizes = {len(split) for split in data.published}
    assert len(data.published) == 5
    assert sizes == {round(dataset.rows / 10 - 0.5)} or sizes == {round(dataset.rows / 10)}
    assert max(int(split.max()) for split in data.published) < len(data)
    assert (data.source.name, data.source.licence) == (name, dataset.licence)


def test_the_published_text_of_a_regression_gives_the_same_data_as_the_packed_table(tmp_path, monkeypatch):
    monkeypatch.setenv("KOKKIRI_DATA", str(tmp_path))
    rng = np.random.default_rng(0)
    values, splits = rng.normal(size=(20, 3)).round(3), [[3, 1], [0, 19]]
    home = tmp_path / "uci"
    home.mkdir()
    text = "\n".join(" \t".join(map(str, row)) for row in values)
    table = "x0,x1,y\n" + "\n".join(",".join(map(str, row)) for row in values) + "\n"
    packed = {"t.csv.gz": gzip.compress(table.encode()), "t.json.gz": gzip.compress(json.dumps(splits).encode())}
    plain = {"t.txt": text.encode()} | {f"t{i}.txt": "\n".join(map(str, s)).encode() for i, s in enumerate(splits)}
    read = {}
    for contents, reader in ((packed, named._read_table), (plain, named._read_published)):
        for name, content in contents.items():
            (home / name).write_bytes(content)
        files = tuple(File(n, hashlib.sha256(c).hexdigest(), len(c)) for n, c in contents.items())
        dataset = DataSet("t", "regression", "", 20, (Layout(files, reader),), "CC0", "us", folder="uci", target="y")
        read[reader] = reader(dataset, list(locate(dataset).values()))
    one, other = read.values()
    assert torch.equal(one.x, other.x)
    assert one.y.tolist() == other.y.tolist() == values[:, 2].tolist()
    assert [s.tolist() for s in one.published] == [s.tolist() for s in other.published] == splits


def test_a_set_is_downloaded_verified_and_read(site, known, own_cache):
    folder, url = site
    known(small_set(folder, url))
    data = load("small", quiet=True)
    assert len(data) == 12
    assert data.published[0].tolist() == list(range(6, 12))
    assert data.y.tolist() == [0, 1, 2] * 4
    assert np.array_equal(data.raw["image"][:6, 0].numpy(), np.random.default_rng(0).integers(0, 256, (6, 4, 4)))
    assert {file.name for file in (own_cache / "small").iterdir()} == {file.name for file in folder.iterdir()}
    assert look(find("small")).place == "cache"


def test_own_files_come_before_the_cache_and_the_network(tmp_path, monkeypatch, known, site):
    folder, url = site
    dataset = known(small_set(folder, url))
    own = tmp_path / "own" / "small"
    own.mkdir(parents=True)
    small_set(own)
    monkeypatch.setenv("KOKKIRI_DATA", str(own.parent))
    monkeypatch.setattr(named, "fetch", None)
    assert set(locate(dataset).values()) == set(own.iterdir())
    assert look(dataset).place == "$KOKKIRI_DATA"


def test_a_file_is_read_once_for_its_digest_and_again_when_it_changes(tmp_path, monkeypatch):
    own = tmp_path / "small"
    own.mkdir()
    dataset = small_set(own)
    monkeypatch.setenv("KOKKIRI_DATA", str(tmp_path))
    hashed = []
    monkeypatch.setattr(named, "file_sha256", lambda path: hashed.append(path.name) or download.file_sha256(path))
    locate(dataset)
    assert sorted(hashed) == sorted(file.name for file in dataset.files)
    locate(dataset)
    assert len(hashed) == 4
    os.utime(own / "0-labels.gz", ns=(1, 1))
    locate(dataset)
    assert hashed[4:] == ["0-labels.gz"]
    verify(dataset)
    assert len(hashed) == 9


def test_a_memory_of_digests_that_is_damaged_is_no_obstacle(tmp_path, monkeypatch, own_cache):
    (tmp_path / "small").mkdir()
    dataset = small_set(tmp_path / "small")
    monkeypatch.setenv("KOKKIRI_DATA", str(tmp_path))
    own_cache.mkdir()
    for rubbish in ("{", "[]", "3", '{"a": 1}'):
        (own_cache / "verified.json").write_text(rubbish)
        assert len(locate(dataset)) == 4


def test_a_damaged_file_of_ones_own_is_an_error_with_both_digests(tmp_path, monkeypatch):
    own = tmp_path / "small"
    own.mkdir()
    dataset = small_set(own)
    monkeypatch.setenv("KOKKIRI_DATA", str(tmp_path))
    (own / "1-labels.gz").write_bytes(b"spoilt")
    with pytest.raises(ChecksumError) as error:
        locate(dataset)
    for word in ("1-labels.gz", dataset.files[3].sha256, hashlib.sha256(b"spoilt").hexdigest(), "6 B"):
        assert word in str(error.value)


def test_a_damaged_file_in_the_cache_is_fetched_again(site, own_cache):
    folder, url = site
    dataset = small_set(folder, url)
    locate(dataset, quiet=True)
    spoilt = own_cache / "small" / "0-images.gz"
    spoilt.write_bytes(b"spoilt")
    locate(dataset, quiet=True)
    assert spoilt.read_bytes() == (folder / "0-images.gz").read_bytes()


def test_the_same_content_packed_again_is_accepted_where_its_digest_is_known(tmp_path, monkeypatch):
    own = tmp_path / "small"
    own.mkdir()
    dataset = small_set(own)
    again = lzma.compress(gzip.decompress((own / "0-images.gz").read_bytes()))
    (own / "0-images.gz").write_bytes(again)
    monkeypatch.setenv("KOKKIRI_DATA", str(tmp_path))
    with pytest.raises(ChecksumError):
        locate(dataset)
    files = (replace(dataset.files[0], also=(hashlib.sha256(again).hexdigest(),)), *dataset.files[1:])
    dataset = replace(dataset, layouts=(replace(dataset.layouts[0], files=files),))
    data = dataset.layouts[0].read(dataset, list(locate(dataset).values()))
    assert len(data) == 12


def test_a_set_that_no_address_gives_says_where_its_files_go(tmp_path):
    with pytest.raises(DataError, match=r"(?s)0-images\.gz, 0-labels\.gz.*export KOKKIRI_DATA=FOLDER.*FOLDER/small"):
        locate(small_set(tmp_path))


def test_cifar10_in_unknown_packing_must_at_least_be_complete(tmp_path, monkeypatch):
    monkeypatch.setenv("KOKKIRI_DATA", str(tmp_path))
    home = tmp_path / "cifar10"
    home.mkdir()
    record = lambda label: bytes([label]) + bytes(3072)
    for part in [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]:
        (home / f"{part}.bin").write_bytes(b"".join(map(record, range(10))))
    dataset = find("cifar10")
    with pytest.raises(FormatError, match=r"(?s)6,000 images of each.*6 airplanes"):
        load("cifar10")
    data = look(dataset).layout.read(replace(dataset, rows=60), look(dataset).paths)
    assert data.published[0].tolist() == list(range(50, 60))


def test_the_list_names_every_set_and_where_it_is(capsys):
    assert list_data() == 0
    lines = capsys.readouterr().out.splitlines()
    for dataset in DATA_SETS:
        (line,) = (line for line in lines if line.split()[:1] == [dataset.name])
        assert dataset.licence in line
        assert ("package" if dataset in EMBEDDED else "to be downloaded") in line
        assert f"{dataset.rows:,}" in line


def test_verify_finds_the_one_spoilt_file_and_still_checks_the_rest(tmp_path, monkeypatch, known, capsys):
    (tmp_path / "small").mkdir()
    known(small_set(tmp_path / "small"))
    monkeypatch.setenv("KOKKIRI_DATA", str(tmp_path))
    assert verify_data([]) == 0
    assert "small" in capsys.readouterr().out
    (tmp_path / "small" / "0-labels.gz").write_bytes(b"spoilt")
    assert verify_data(["small", "digits"]) == 2
    out, err = capsys.readouterr()
    assert "every byte is right" in out
    assert "digits" in out
    assert err.startswith("kokkiri.ChecksumError: ")
    assert "0-labels.gz" in err
    assert verify_data(["fashion-mnist"]) == 2
    assert "kokkiri data fetch fashion-mnist" in capsys.readouterr().err


def test_fetch_brings_what_is_named_and_refuses_what_is_unknown(site, known, capsys):
    folder, url = site
    known(small_set(folder, url))
    assert fetch_data(["smal", "small", "concrete"]) == 2
    out, err = capsys.readouterr()
    assert "did you mean 'small'?" in err
    assert out.count("ready") == 2
    assert fetch_data(["small"]) == 0
    capsys.readouterr()
    assert fetch_data([]) == 2
    assert "which data sets?" in capsys.readouterr().err
