"""Image formats: IDX (MNIST's), CIFAR binary, folders of pictures. What a header says is checked before it is believed.

Files may be plain, gzip or xz: the first bytes tell, not the name.
"""

from __future__ import annotations

import contextlib
import gzip
import lzma
import math
import re
import struct
import tarfile
import warnings
import zlib
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from kokkiri.errors import DataError, FormatError, nearest

if TYPE_CHECKING:
    from PIL import Image

IDX_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: "i2", 0x0C: "i4", 0x0D: "f4", 0x0E: "f8"}  # big-endian on disk
CIFAR_RECORD = 1 + 3 * 32 * 32
CIFAR_IMAGES = 60_000
PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm")
PARTS = {"train": "train", "val": "validation", "valid": "validation", "validation": "validation", "test": "test"}
IMAGE_BYTES = 16 << 30  # a folder that would need more memory than this is refused with a smaller size as the mend
CHUNK = 1 << 20

_CORRUPT = (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile, tarfile.TarError)


class _Stream(Protocol):
    """Bytes, one piece after the other."""

    def read(self, n: int, /) -> bytes: ...


class ImageFolder(NamedTuple):
    """Pictures read from a folder.

    images: uint8 (N, C, H, W). labels: int64 (N,) into `levels`, or None where the folder has no classes. files: names
    relative to the folder. test: row numbers of root/test, or None. notes: what was changed or left out.
    """

    images: Tensor
    labels: Tensor | None
    levels: tuple[str, ...]
    files: tuple[str, ...]
    test: Tensor | None
    notes: tuple[str, ...]


def read_idx(path: str | Path) -> Tensor:
    """An IDX file as a tensor of the type and shape that its header states.

    Layout: two zero bytes, a type code, the rank, rank big-endian uint32 sizes, the items, big-endian, row by row.
    Source: LeCun, Cortes & Burges, "The MNIST database of handwritten digits", section "File formats".

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder, "two.idx")
    ...     _ = file.write_bytes(bytes([0, 0, 0x08, 1, 0, 0, 0, 2, 7, 9]))
    ...     read_idx(file)
    tensor([7, 9], dtype=torch.uint8)
    """
    path = Path(path)
    with _opened(path) as stream:
        magic = stream.read(4)
        if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in IDX_TYPES:
            raise FormatError(
                f"{path} is not an IDX file",
                needs="first bytes 00 00, a type code (08 09 0b 0c 0d 0e), the rank",
                found=f"{magic.hex(' ') or 'an empty file'}",
                fix="download it again, or read it as what it is",
            )
        rank = magic[3]
        header = stream.read(4 * rank)
        if len(header) < 4 * rank:
            raise _truncated(path, f"{4 + 4 * rank} bytes of header", f"{4 + len(header)}")
        shape = struct.unpack(f">{rank}I", header)
        if rank > 32 or math.prod(max(n, 1) for n in shape) > 1 << 60:
            raise FormatError(
                f"{path} claims a shape that no tensor can have",
                needs="at most 32 sizes, at most 2^60 items",
                found=" x ".join(map(str, shape[:8])) + (" x …" if rank > 8 else ""),
                fix="download it again",
            )
        kind = np.dtype(IDX_TYPES[magic[2]])
        needed = math.prod(shape) * kind.itemsize
        items = f"for {' x '.join(map(str, shape))} items of {kind.itemsize} bytes"
        payload = _read_exactly(stream, path, needed, items)
    array = np.frombuffer(payload, dtype=kind.newbyteorder(">")).reshape(shape)
    return torch.from_numpy(array if kind.itemsize == 1 else array.astype(kind))


def read_labelled_idx(images: str | Path, labels: str | Path) -> tuple[Tensor, Tensor]:
    """Two IDX files that belong together: images uint8 (N, 1, H, W) and labels int64 (N,).

    >>> home = Path(__file__).parent / "embedded"
    >>> x, y = read_labelled_idx(home / "digits-images-idx3-ubyte.gz", home / "digits-labels-idx1-ubyte.gz")
    >>> tuple(x.shape), y[:4].tolist()
    ((1797, 1, 8, 8), [0, 1, 2, 3])
    """
    x, y = read_idx(images), read_idx(labels)
    if x.dtype != torch.uint8 or x.ndim != 3:
        raise FormatError(
            f"{images} does not hold grey images",
            needs="unsigned bytes of shape (N, H, W)",
            found=f"{str(x.dtype).removeprefix('torch.')} of shape {tuple(x.shape)}",
            fix="give the file of images first, the file of labels second",
        )
    if y.ndim != 1 or len(x) != len(y):
        raise FormatError(
            f"{labels} does not fit {Path(images).name}",
            needs=f"{len(x)} labels, one an image",
            found=f"labels of shape {tuple(y.shape)}",
            fix="take both files from the same part (train with train, t10k with t10k)",
        )
    return x[:, None], y.long()


def read_cifar10(paths: Sequence[str | Path]) -> tuple[Tensor, Tensor]:
    """CIFAR-10 binary files, one after the other: images uint8 (N, 3, 32, 32), labels int64 (N,).

    A record is one label byte and 3 x 32 x 32 pixel bytes: red, green, blue, each row by row.
    Source: Krizhevsky 2009, "Learning multiple layers of features from tiny images", and its web page.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder, "one.bin")
    ...     _ = file.write_bytes(bytes([7]) + bytes(3072))
    ...     images, labels = read_cifar10([file])
    >>> tuple(images.shape), labels.tolist()
    ((1, 3, 32, 32), [7])
    """
    records = []
    for path in map(Path, paths):
        with _opened(path) as stream:
            records.append(_cifar_records(stream, str(path)))
    return _cifar_tensors(records)


def read_cifar10_archive(path: str | Path) -> tuple[Tensor, Tensor, Tensor]:
    """The publisher's cifar-10-binary.tar.gz: images uint8 (N, 3, 32, 32), labels int64 (N,), rows of the test part.

    Members are read in memory and nothing is unpacked, so no name in the archive can lead outside of it.
    """
    path = Path(path)
    parts: dict[str, np.ndarray] = {}
    with _readable(path), tarfile.open(path, "r|*") as archive:  # a stream: seeking back in a .gz reads it all again
        for member in archive:
            name = member.name.rsplit("/", 1)[-1]
            if member.isreg() and re.fullmatch(r"(data_batch_\d|test_batch)\.bin", name):
                stream = archive.extractfile(member)
                assert stream is not None  # a regular file has content
                parts[name] = _cifar_records(stream, f"{path}: {name}")
    train = sorted(name for name in parts if name.startswith("data"))
    if not train or "test_batch.bin" not in parts:
        raise FormatError(
            f"{path} is not the binary version of CIFAR-10",
            needs="members data_batch_1.bin … data_batch_5.bin and test_batch.bin",
            found=", ".join(parts) or "none of them",
            fix="download cifar-10-binary.tar.gz (not -python, not -matlab)",
        )
    images, labels = _cifar_tensors([*(parts[name] for name in train), parts["test_batch.bin"]])
    return images, labels, torch.arange(len(labels) - len(parts["test_batch.bin"]), len(labels))


def read_images(
    folder: str | Path, size: int | tuple[int, int] | None = None, channels: int | None = None
) -> ImageFolder:
    """Pictures in folder/CLASS/*, in folder/{train,test}/CLASS/*, or (without labels) in the folder itself.

    size: (height, width), or one number for both; None takes the size of the pictures, or their median where they
    differ. channels: 1 grey, 3 colour; None takes 1 if every picture is grey.

    >>> import tempfile
    >>> from PIL import Image
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Image.new("L", (6, 4)).save(Path(folder, "1.png"))
    ...     tuple(read_images(folder).images.shape)
    (1, 1, 4, 6)
    """
    root = Path(folder)
    rows, skipped = _pictures(root)
    levels = tuple(sorted({level for _, level, _ in rows if level is not None}, key=_natural))
    wanted = (size, size) if isinstance(size, int) else size
    sizes, modes = zip(*(_look(root / name) for name, _, _ in rows), strict=True)
    height, width = wanted or tuple(round(float(np.median([s[i] for s in sizes]))) for i in (0, 1))
    channels = channels or (1 if all(_grey(mode) for mode in modes) else 3)
    if channels not in {1, 3} or min(height, width) < 1:
        raise DataError(
            f"images of {channels} channels, {height} x {width} pixels, cannot be made",
            needs="1 or 3 channels, at least 1 x 1 pixels",
            fix="channels=3, size=(64, 64)",
        )
    if (needed := len(rows) * channels * height * width) > IMAGE_BYTES:
        raise DataError(
            f"{root} does not fit in memory at {height} x {width} pixels",
            needs=f"at most {readable_size(IMAGE_BYTES)}",
            found=f"{len(rows)} pictures, {readable_size(needed)}",
            fix="a smaller size, such as size=(64, 64)",
        )
    images = np.empty((len(rows), channels, height, width), dtype=np.uint8)
    for i, (name, _, _) in enumerate(rows):
        images[i] = _decode(root / name, channels, (height, width))

    notes = []
    if resized := sum(s != (height, width) for s in sizes):
        why = "the size that was asked for" if wanted else "the median size"
        notes.append(f"{resized} of {len(rows)} pictures were resized to {height} x {width}, {why}")
    if channels == 1 and (coloured := sum(not _grey(mode) for mode in modes)):
        notes.append(f"{coloured} colour pictures were turned into grey ones")
    if clear := sum(mode in {"RGBA", "LA", "PA", "RGBa", "La"} for mode in modes):
        notes.append(f"the transparency of {clear} pictures was dropped")
    if validation := sum(part == "validation" for _, _, part in rows):
        notes.append(f"the {validation} validation pictures count as training pictures")
    if skipped:
        notes.append(f"{len(skipped)} files are no pictures and were left out, such as {skipped[0]}")
    test = torch.tensor([i for i, (_, _, part) in enumerate(rows) if part == "test"], dtype=torch.int64)
    number = {level: i for i, level in enumerate(levels)}
    return ImageFolder(
        images=torch.from_numpy(images),
        labels=torch.tensor([number[level] for _, level, _ in rows if level is not None]) if levels else None,
        levels=levels,
        files=tuple(name for name, _, _ in rows),
        test=test if len(test) else None,
        notes=tuple(notes),
    )


def readable_size(n: float) -> str:
    """A number of bytes for people.

    >>> readable_size(61), readable_size(9_912_422)
    ('61 B', '9.9 MB')
    """
    if n < 1000:
        return f"{n:.0f} B"
    for power, unit in ((3, "kB"), (6, "MB")):
        if n < 10 ** (power + 3):
            return f"{n / 10**power:.1f} {unit}"
    return f"{n / 1e9:,.1f} GB"


def _pictures(root: Path) -> tuple[list[tuple[str, str | None, str]], list[str]]:
    """(name, class or None, part) of every picture below `root`, in a fixed order, and the names that were skipped."""
    with _readable(root):
        root.stat()
        if not root.is_dir():
            raise DataError(
                f"{root} is not a folder",
                needs="a folder of class folders with pictures",
                found="a file",
                fix="give the folder around it",
            )
        top = _folders(root)
    parts = [(PARTS.get(folder.name.casefold(), ""), folder) for folder in top]
    if any(part == "train" for part, _ in parts) and all(part for part, _ in parts):
        order = tuple(PARTS.values()).index
        parts.sort(key=lambda home: order(home[0]))
        homes = [(c, c.name, part) for part, folder in parts for c in _folders(folder)]
    elif top:
        homes = [(folder, folder.name, "") for folder in top]
    else:
        homes = [(root, None, "")]
    rows, skipped, seen = [], [], {}
    for home, level, part in homes:
        inside = sorted(home.rglob("*") if level is not None else home.iterdir())
        files = [f for f in inside if f.is_file() and not any(p.startswith(".") for p in f.relative_to(root).parts)]
        for file in files:
            name = file.relative_to(root).as_posix()
            if file.suffix.lower() in PICTURES:
                rows.append((name, level, part))
                seen.setdefault(level, set()).add(part)
            else:
                skipped.append(name)
    if not rows:
        raise DataError(
            f"{root} holds no pictures",
            needs=f"folder/CLASS/*.png (or {', '.join(s[1:] for s in PICTURES[1:])})",
            found=", ".join(f.name for f in sorted(root.iterdir())[:5]) or "an empty folder",
            fix="one folder a class, with its pictures in it",
        )
    if only_test := [level for level, where in seen.items() if where == {"test"}]:
        raise DataError(
            f"{root}/test has classes that no other part of {root} has",
            needs="every class among the training pictures",
            found=", ".join(map(str, only_test)),
            fix="spell the class folders alike, or move some pictures to train",
        )
    return rows, skipped


def _folders(root: Path) -> list[Path]:
    return sorted((f for f in root.iterdir() if f.is_dir() and f.name[0] != "."), key=lambda f: _natural(f.name))


def _natural(name: str) -> list[tuple[int, int | str]]:
    """Class 2 comes before class 10."""
    return [(0, int(part)) if part.isdecimal() else (1, part) for part in re.split(r"(\d+)", name) if part]


@contextlib.contextmanager
def _decoding(path: Path) -> Generator[Image.Image, None, None]:
    """A picture, opened; whatever Pillow raises while it is used becomes a FormatError that names the file."""
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd metadata is no concern of ours …
            warnings.simplefilter("error", Image.DecompressionBombWarning)  # … a picture of 10^8 pixels is
            with Image.open(path) as image:
                yield image
    except (*_CORRUPT, OSError, ValueError, SyntaxError, struct.error, IndexError, MemoryError) as error:
        raise _unreadable(path, error) from error
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> FormatError:
    return FormatError(
        f"{path} cannot be decoded",
        needs="a whole picture that Pillow can read",
        found=str(error).splitlines()[0] if str(error) else type(error).__name__,
        fix="replace the file or take it out of the folder",
    )


def _look(path: Path) -> tuple[tuple[int, int], str]:
    """(height, width) as it is to be seen, and the colour mode, from the header alone."""
    with _decoding(path) as image:
        width, height = image.size
        turned = image.format == "JPEG" and image.getexif().get(0x0112, 1) >= 5  # EXIF: rotated by a quarter
        return (width, height) if turned else (height, width), image.mode


def _grey(mode: str) -> bool:
    return mode in {"1", "L", "LA", "La"} or mode.startswith("I")


def _decode(path: Path, channels: int, size: tuple[int, int]) -> np.ndarray:
    """One picture, (C, H, W) uint8, upright."""
    from PIL import Image, ImageOps

    with _decoding(path) as image:
        upright = ImageOps.exif_transpose(image) if image.format == "JPEG" else image
        if upright.mode.startswith("I"):  # 16-bit grey: Pillow's own conversion would clip at 255
            upright = Image.fromarray((np.asarray(upright).clip(0, 65535) // 257).astype(np.uint8))
        picture = upright.convert("L" if channels == 1 else "RGB")
        height, width = size
        if picture.size != (width, height):
            picture = picture.resize((width, height), Image.Resampling.BILINEAR)
        pixels = np.asarray(picture)
    return pixels[None] if channels == 1 else pixels.transpose(2, 0, 1)


def _cifar_records(stream: _Stream, name: str) -> np.ndarray:
    """(n, 3073) bytes; a stream longer than the whole of CIFAR-10 is not read to its end."""
    content, limit = bytearray(), CIFAR_IMAGES * CIFAR_RECORD
    while len(content) <= limit and (chunk := stream.read(CHUNK)):
        content += chunk
    if not content or len(content) > limit or len(content) % CIFAR_RECORD:
        more = "more than " if len(content) > limit else ""
        raise FormatError(
            f"{name} is not a CIFAR-10 binary file, or was cut",
            needs=f"a multiple of {CIFAR_RECORD} bytes (1 label + 3 x 32 x 32), at most {limit:,}",
            found=f"{more}{min(len(content), limit):,} bytes",
            fix="download it again",
        )
    records = np.frombuffer(content, dtype=np.uint8).reshape(-1, CIFAR_RECORD)
    if records[:, 0].max() > 9:
        row = int((records[:, 0] > 9).argmax())
        raise FormatError(
            f"{name} is not a CIFAR-10 binary file",
            needs="labels 0 to 9",
            found=f"label {records[row, 0]} in record {row}",
            fix="download it again (CIFAR-100 has another layout)",
        )
    return records


def _cifar_tensors(parts: list[np.ndarray]) -> tuple[Tensor, Tensor]:
    labels = torch.cat([torch.from_numpy(part[:, 0].astype(np.int64)) for part in parts])
    return torch.from_numpy(np.concatenate([part[:, 1:] for part in parts])).reshape(-1, 3, 32, 32), labels


@contextlib.contextmanager
def _readable(path: Path) -> Generator[None, None, None]:
    """Trouble with the file as such, in words."""
    try:
        yield
    except FileNotFoundError as error:
        around = path.parent if path.parent.is_dir() else None
        raise DataError(
            f"there is no file {path}",
            needs="a file that exists",
            found="no such folder" if around is None else "no such name in its folder",
            fix=nearest(path.name, sorted(f.name for f in around.iterdir())) if around else "look at the path",
        ) from error
    except IsADirectoryError as error:
        raise DataError(f"{path} is a folder", needs="a file", found="a folder", fix="name a file in it") from error
    except PermissionError as error:
        raise DataError(
            f"{path} cannot be read", needs="permission to read it", found=str(error), fix=f"chmod u+r {path}"
        ) from error
    except _CORRUPT as error:
        raise FormatError(
            f"{path} is damaged: it cannot be decompressed",
            needs="a whole file",
            found=f"{error or type(error).__name__}".splitlines()[0],
            fix="download it again",
        ) from error


@contextlib.contextmanager
def _opened(path: Path) -> Generator[_Stream, None, None]:
    """The content of a file, uncompressed."""
    with _readable(path), path.open("rb") as file:
        magic = file.read(6)
        file.seek(0)
        if magic[:2] == b"\x1f\x8b":
            with gzip.open(file) as stream:
                yield stream
        elif magic == b"\xfd7zXZ\0":
            with lzma.open(file) as stream:
                yield stream
        else:
            yield file


def _read_exactly(stream: _Stream, path: Path, needed: int, why: str) -> bytearray:
    """`needed` bytes and then the end. Memory grows with what arrives, so a lying header cannot claim any."""
    content = bytearray()
    while len(content) < needed and (chunk := stream.read(min(CHUNK, needed - len(content)))):
        content += chunk
    if len(content) < needed:
        raise _truncated(path, f"{needed:,} bytes {why}", f"{len(content):,}")
    if stream.read(1):
        raise FormatError(
            f"{path} is longer than its header says",
            needs=f"{needed:,} bytes {why}",
            found="more",
            fix="download it again",
        )
    return content


def _truncated(path: Path, needs: str, found: str) -> FormatError:
    return FormatError(f"{path} was cut", needs=needs, found=f"{found} bytes, then the end", fix="download it again")
