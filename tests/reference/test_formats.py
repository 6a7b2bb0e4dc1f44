"""Image formats against slow, obvious twins, and what damaged files get."""

from __future__ import annotations

import gzip
import io
import lzma
import struct
import tarfile
import tracemalloc
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from kokkiri.data import formats
from kokkiri.data.formats import read_cifar10, read_cifar10_archive, read_idx, read_images, read_labelled_idx
from kokkiri.errors import DataError, FormatError

PACKERS = {"plain": bytes, "gz": gzip.compress, "xz": lzma.compress}
CODES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def idx_bytes(array: np.ndarray, code: int = 0x08) -> bytes:
    return (
        bytes([0, 0, code, array.ndim])
        + struct.pack(f">{array.ndim}I", *array.shape)
        + array.astype(CODES[code]).tobytes()
    )


def four_lines(error: pytest.ExceptionInfo, *words: str) -> None:
    text = str(error.value)
    assert [line.split()[0] for line in text.splitlines()[1:]] == ["needs", "found", "fix"]
    for word in words:
        assert word in text


def refused(path, reader, *words: str, error: type = FormatError) -> None:
    with pytest.raises(error) as caught:
        reader(path)
    four_lines(caught, path.name, *words)


@pytest.mark.parametrize("packed", PACKERS)
@pytest.mark.parametrize("code", CODES)
def test_idx_of_every_type_is_what_numpy_wrote_whatever_the_name_says(tmp_path, code, packed):
    array = np.random.default_rng(0).integers(-100, 100, (3, 2, 4)).astype(CODES[code])
    file = tmp_path / "no-telling-suffix"
    file.write_bytes(PACKERS[packed](idx_bytes(array, code)))
    x = read_idx(file)
    assert x.numpy().dtype == np.dtype(CODES[code]).newbyteorder("=")
    assert np.array_equal(x.numpy(), array)


@pytest.mark.parametrize("shape", [(), (0,), (5,), (2, 1, 3, 2)])
def test_idx_of_every_rank_keeps_its_shape(tmp_path, shape):
    file = tmp_path / "a.idx"
    file.write_bytes(idx_bytes(np.ones(shape)))
    assert torch.equal(read_idx(file), torch.ones(shape, dtype=torch.uint8))


@pytest.mark.parametrize("packed", PACKERS)
def test_a_truncated_idx_says_how_many_bytes_it_needs_and_has(tmp_path, packed):
    file = tmp_path / "cut.idx"
    file.write_bytes(PACKERS[packed](idx_bytes(np.zeros((10, 28, 28)))[:-840]))
    refused(file, read_idx, "was cut", "7,840 bytes for 10 x 28 x 28 items of 1 bytes", "found   7,000 bytes")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", ["is not an IDX file", "an empty file"]),
        (b"\0\0\x08", ["is not an IDX file"]),
        (b"age,y\n1,2\n", ["is not an IDX file", "61 67 65 2c"]),
        (bytes([0, 0, 0x0A, 1, 0, 0, 0, 0]), ["is not an IDX file", "00 00 0a 01"]),
        (bytes([0, 0, 0x08, 3, 0, 0, 0, 1]), ["was cut", "16 bytes of header"]),
        (idx_bytes(np.zeros(3)) + b"\0", ["longer than its header says", "3 bytes"]),
        (bytes([0, 0, 0x08, 200]) + b"\0\0\0\x01" * 200, ["a shape that no tensor can have"]),
        (bytes([0, 0, 0x08, 4]) + b"\0\0\0\0" + b"\xff" * 12, ["a shape that no tensor can have"]),
    ],
)
def test_what_is_no_idx_file_is_refused(tmp_path, content, words):
    file = tmp_path / "bad.idx"
    file.write_bytes(content)
    refused(file, read_idx, *words)


@pytest.mark.parametrize("packed", PACKERS)
def test_a_header_that_claims_a_terabyte_costs_no_memory(tmp_path, packed):
    file = tmp_path / "lie.idx"
    file.write_bytes(PACKERS[packed](bytes([0, 0, 0x08, 2]) + struct.pack(">II", 10**6, 10**6) + bytes(1000)))
    tracemalloc.start()
    refused(file, read_idx, "1,000,000,000,000 bytes", "1,000 bytes")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20e6


@pytest.mark.parametrize("packed", ["gz", "xz"])
@pytest.mark.parametrize("damage", ["cut", "flipped"])
def test_a_damaged_archive_is_named(tmp_path, packed, damage):
    content = PACKERS[packed](idx_bytes(np.random.default_rng(0).integers(0, 255, (50, 28, 28))))
    middle = len(content) // 2
    file = tmp_path / f"train.{packed}"
    file.write_bytes(content[:middle] if damage == "cut" else content[:middle] + b"\xaa" * 64 + content[middle + 64 :])
    refused(file, read_idx, "damaged", "a whole file")


def test_files_that_are_not_there_are_named_with_the_nearest_that_are(tmp_path):
    (tmp_path / "train-images.gz").write_bytes(b"")
    refused(tmp_path / "train-imagse.gz", read_idx, "did you mean 'train-images.gz'?", error=DataError)
    refused(tmp_path / "no" / "such", read_idx, "no such folder", error=DataError)
    refused(tmp_path, read_idx, "is a folder", error=DataError)


def test_images_and_labels_must_belong_together(tmp_path):
    images, labels, numbers = tmp_path / "images", tmp_path / "labels", tmp_path / "numbers"
    images.write_bytes(idx_bytes(np.arange(24).reshape(3, 2, 4)))
    numbers.write_bytes(idx_bytes(np.zeros((3, 2, 4)), 0x0D))
    labels.write_bytes(idx_bytes(np.array([2, 0, 1])))
    x, y = read_labelled_idx(images, labels)
    assert x.shape == (3, 1, 2, 4)
    assert x.flatten().tolist() == list(range(24))
    assert y.tolist() == [2, 0, 1]
    assert y.dtype == torch.int64
    labels.write_bytes(idx_bytes(np.array([2, 0])))
    refused(labels, lambda file: read_labelled_idx(images, file), "3 labels", "shape (2,)")
    refused(labels, lambda file: read_labelled_idx(file, images), "does not hold grey images", "(2,)")
    refused(numbers, lambda file: read_labelled_idx(file, labels), "does not hold grey images", "float32")


def cifar_bytes(n: int, seed: int) -> tuple[bytes, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    images, labels = rng.integers(0, 256, (n, 3, 32, 32), dtype=np.uint8), rng.integers(0, 10, n)
    return (
        b"".join(bytes([label]) + image.tobytes() for label, image in zip(labels, images, strict=True)),
        images,
        labels,
    )


@pytest.mark.parametrize("packed", PACKERS)
def test_cifar_files_are_read_one_after_the_other(tmp_path, packed):
    contents = [cifar_bytes(n, n) for n in (3, 2)]
    paths = [tmp_path / f"{i}.bin" for i in range(2)]
    for path, (content, _, _) in zip(paths, contents, strict=True):
        path.write_bytes(PACKERS[packed](content))
    images, labels = read_cifar10(paths)
    assert np.array_equal(images.numpy(), np.concatenate([c[1] for c in contents]))
    assert np.array_equal(labels.numpy(), np.concatenate([c[2] for c in contents]))


def test_what_is_no_cifar_file_is_refused(tmp_path):
    content, _, _ = cifar_bytes(2, 0)
    for name, bad, words in [
        ("cut.bin", content[:-1], ["3073", "6,145 bytes"]),
        ("empty.bin", b"", ["0 bytes"]),
        ("label.bin", content[:3073] + b"\x0a" + content[3074:], ["label 10 in record 1"]),
    ]:
        (tmp_path / name).write_bytes(bad)
        refused(tmp_path / name, lambda file: read_cifar10([file]), *words)


def test_a_cifar_file_that_unpacks_without_end_is_not_read_to_its_end(tmp_path, monkeypatch):
    monkeypatch.setattr(formats, "CIFAR_IMAGES", 10)
    bomb = tmp_path / "bomb.bin"
    bomb.write_bytes(gzip.compress(bytes(30 << 20)))
    tracemalloc.start()
    refused(bomb, lambda file: read_cifar10([file]), "more than 30,730 bytes")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10e6


def archive(path, members: dict[str, bytes], mode: str = "w:gz") -> None:
    with tarfile.open(path, mode) as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        link = tarfile.TarInfo("data_batch_5.bin")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
        tar.addfile(link)


def test_the_publishers_archive_is_read_without_being_unpacked(tmp_path):
    train = {f"cifar-10-batches-bin/data_batch_{i}.bin": cifar_bytes(2, i) for i in (2, 1)}
    test = cifar_bytes(3, 9)
    file = tmp_path / "inside" / "cifar-10-binary.tar.gz"
    file.parent.mkdir()
    archive(
        file,
        {"cifar-10-batches-bin/readme.html": b"hello", "../escaped/test_batch.bin": test[0]}
        | {name: c[0] for name, c in train.items()}
        | {"../../outside.txt": b"!"},
    )
    images, labels, rows = read_cifar10_archive(file)
    parts = [train["cifar-10-batches-bin/data_batch_1.bin"], train["cifar-10-batches-bin/data_batch_2.bin"], test]
    assert np.array_equal(images.numpy(), np.concatenate([p[1] for p in parts]))
    assert np.array_equal(labels.numpy(), np.concatenate([p[2] for p in parts]))
    assert rows.tolist() == [4, 5, 6]
    assert [f.name for f in tmp_path.rglob("*")] == ["inside", "cifar-10-binary.tar.gz"]


def test_another_archive_or_a_cut_one_is_refused(tmp_path):
    file = tmp_path / "cifar.tar.gz"
    archive(file, {"cifar-10-batches-py/data_batch_1": b"pickle"})
    refused(file, read_cifar10_archive, "is not the binary version", "none of them")
    archive(file, {f"data_batch_{i}.bin": cifar_bytes(20, i)[0] for i in (1, 2)})
    refused(file, read_cifar10_archive, "is not the binary version", "data_batch_1.bin, data_batch_2.bin")
    file.write_bytes(file.read_bytes()[:90_000])
    refused(file, read_cifar10_archive, "damaged")
    file.write_bytes(b"not a tar file at all")
    refused(file, read_cifar10_archive, "damaged")


def save(path, array: np.ndarray, **options) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)


@pytest.fixture
def colours():
    rng = np.random.default_rng(0)
    return lambda h=4, w=6: rng.integers(0, 256, (h, w, 3), dtype=np.uint8)


def test_a_folder_of_classes_is_read_pixel_by_pixel(tmp_path, colours):
    pictures = {"cat/b.png": colours(), "cat/a.PNG": colours(), "dog/c.bmp": colours(), "dog/deep/d.png": colours()}
    for name, array in pictures.items():
        save(tmp_path / name, array)
    (tmp_path / "dog" / "notes.txt").write_text("hello")
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "cat" / ".DS_Store").write_text("")
    folder = read_images(tmp_path)
    assert folder.levels == ("cat", "dog")
    assert folder.files == ("cat/a.PNG", "cat/b.png", "dog/c.bmp", "dog/deep/d.png")
    assert folder.labels.tolist() == [0, 0, 1, 1]
    assert folder.test is None
    for image, name in zip(folder.images, folder.files, strict=True):
        assert np.array_equal(image.permute(1, 2, 0).numpy(), pictures[name])
    assert folder.notes == ("1 files are no pictures and were left out, such as dog/notes.txt",)


def test_train_and_test_folders_share_their_classes_and_tell_the_test_rows(tmp_path, colours):
    for name in ("train/10/a.png", "train/9/b.png", "val/9/c.png", "test/10/d.png", "test/9/e.png"):
        save(tmp_path / name, colours())
    folder = read_images(tmp_path)
    assert folder.levels == ("9", "10")  # as numbers, not as words
    assert [folder.files[i] for i in folder.test] == ["test/9/e.png", "test/10/d.png"]
    assert [folder.levels[i] for i in folder.labels] == [name.split("/")[1] for name in folder.files]
    assert folder.notes == ("the 1 validation pictures count as training pictures",)
    save(tmp_path / "test" / "11" / "f.png", colours())
    refused(tmp_path / "test", lambda _: read_images(tmp_path), "classes that no other part", "11", error=DataError)


def test_pictures_without_classes_have_no_labels(tmp_path, colours):
    save(tmp_path / "one.png", colours())
    folder = read_images(tmp_path)
    assert folder.labels is None
    assert folder.levels == ()


def test_pictures_of_many_sizes_become_those_of_the_median_and_a_note_says_so(tmp_path, colours):
    for i, (h, w) in enumerate([(4, 10), (6, 8), (20, 30)]):
        save(tmp_path / "c" / f"{i}.png", colours(h, w))
    folder = read_images(tmp_path)
    assert folder.images.shape == (3, 3, 6, 10)
    assert folder.notes == ("3 of 3 pictures were resized to 6 x 10, the median size",)
    twin = Image.open(tmp_path / "c" / "2.png").resize((10, 6), Image.Resampling.BILINEAR)
    assert np.array_equal(folder.images[2].permute(1, 2, 0).numpy(), np.asarray(twin))
    assert read_images(tmp_path, size=5).images.shape == (3, 3, 5, 5)
    assert read_images(tmp_path, size=(4, 10)).notes == (
        "2 of 3 pictures were resized to 4 x 10, the size that was asked for",
    )


def test_grey_pictures_have_one_channel_and_16_bits_are_scaled_not_clipped(tmp_path):
    save(tmp_path / "c" / "a.png", np.array([[0, 100], [200, 255]], dtype=np.uint8))
    save(tmp_path / "c" / "b.png", np.array([[0, 257 * 7], [512, 65535]], dtype=np.uint16))
    folder = read_images(tmp_path)
    assert folder.images[:, 0].tolist() == [[[0, 100], [200, 255]], [[0, 7], [1, 255]]]
    assert read_images(tmp_path, channels=3).images.shape == (2, 3, 2, 2)


def test_colour_and_transparency_are_dropped_with_a_note(tmp_path, colours):
    save(tmp_path / "c" / "a.png", np.dstack([colours(), np.full((4, 6), 9, np.uint8)]))
    folder = read_images(tmp_path, channels=1)
    assert folder.images.shape == (1, 1, 4, 6)
    assert folder.notes == (
        "1 colour pictures were turned into grey ones",
        "the transparency of 1 pictures was dropped",
    )


def test_a_photograph_is_turned_upright(tmp_path):
    array = np.zeros((8, 16, 3), dtype=np.uint8)
    array[:, :8] = 255  # left half white; turned by 90 degrees clockwise the upper half
    exif = Image.Exif()
    exif[0x0112] = 6
    save(tmp_path / "c" / "photo.jpg", array, exif=exif, quality=100)
    image = read_images(tmp_path).images[0]
    assert image.shape == (3, 16, 8)
    assert image[:, :7].min() > 200
    assert image[:, 9:].max() < 50


@pytest.mark.parametrize("damage", ["cut", "text", "empty"])
def test_a_picture_that_cannot_be_decoded_is_named(tmp_path, colours, damage):
    save(tmp_path / "c" / "good.png", colours())
    bad = tmp_path / "c" / "bad.jpg"
    save(bad, colours(64, 64))
    bad.write_bytes({"cut": bad.read_bytes()[:700], "text": b"hello", "empty": b""}[damage])
    refused(bad, lambda _: read_images(tmp_path), "c/bad.jpg cannot be decoded")


@pytest.mark.parametrize("side", [10_000, 100_000])
def test_a_picture_whose_header_claims_a_hundred_million_pixels_or_more_is_refused(tmp_path, side):
    header, body = b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0), b"IDAT" + zlib.compress(b"\0")
    chunks = [struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in (header, body)]
    bomb = tmp_path / "c" / "bomb.png"
    bomb.parent.mkdir()
    bomb.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))
    refused(bomb, lambda _: read_images(tmp_path), "c/bomb.png cannot be decoded", "exceeds limit")


def test_a_folder_that_would_not_fit_in_memory_is_refused_before_it_is_read(tmp_path, colours):
    save(tmp_path / "c" / "a.png", colours())
    reader = lambda _: read_images(tmp_path, size=100_000)
    refused(tmp_path, reader, "does not fit in memory", "30.0 GB", "size=(64, 64)", error=DataError)


def test_a_folder_without_pictures_and_a_file_in_its_place_are_refused(tmp_path):
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "table.csv").write_text("a\n1\n")
    refused(tmp_path, read_images, "holds no pictures", "folder/CLASS/*.png", error=DataError)
    refused(tmp_path / "c" / "table.csv", read_images, "is not a folder", error=DataError)
    refused(tmp_path / "d", read_images, "there is no file", "there are: c", error=DataError)
    refused(tmp_path, lambda p: read_images(p, size=0), error=DataError)
