"""Images as data: raw bytes in memory, standardised by a small encoder when a batch is taken."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kokkiri.data.core import Data, Inputs, Source, Target
from kokkiri.data.formats import read_idx, read_images, read_labelled_idx
from kokkiri.errors import FormatError, ShapeError

CHUNK_BYTES = 1 << 24  # of images whose bytes are counted at once


class ImageEncoder(nn.Module):
    """x = (image / 255 − mean) / std, channel by channel: uint8 (B, C, H, W) -> (B, C, H, W) of the buffers' type.

    mean, std: (C,), of pixels in [0, 1]; a channel that never changes is only shifted.

    >>> encoder = ImageEncoder(torch.tensor([0.5]), torch.tensor([0.25]))
    >>> encoder({"image": torch.full((1, 1, 1, 2), 255, dtype=torch.uint8)}).flatten().tolist()
    [2.0, 2.0]
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean.clone())
        self.register_buffer("std", std.clone())

    def forward(self, raw: Mapping[str, Tensor]) -> Tensor:
        """Standardise raw["image"]."""
        image = raw["image"]
        if image.ndim != 4 or image.shape[1] != len(self.mean):  # one channel would broadcast over three
            raise ShapeError(
                "the images are not like those of the training rows",
                needs=f"(B, {len(self.mean)}, H, W)",
                found=str(tuple(image.shape)),
                fix=f"read them with channels={len(self.mean)}",
            )
        pixels = image.to(self.mean.dtype) / 255
        return (pixels - self.mean[:, None, None]) / self.std[:, None, None]

    def refit(self, raw: Mapping[str, Tensor]) -> ImageEncoder:
        """An encoder whose statistics are those of raw["image"]."""
        return fit_encoder(raw["image"])

    def config(self) -> dict[str, Any]:
        """Plain values that, with the state_dict, make the encoder again."""
        return {"encoder": "image", "channels": len(self.mean)}


def from_config(config: Mapping[str, Any]) -> ImageEncoder:
    """The encoder that `config()` described; its buffers wait for `load_state_dict`.

    >>> from_config({"encoder": "image", "channels": 3}).mean.shape
    torch.Size([3])
    """
    channels = int(config["channels"])
    return ImageEncoder(torch.zeros(channels), torch.ones(channels))


def fit_encoder(images: Tensor, rows: Tensor | None = None) -> ImageEncoder:
    """Mean and standard deviation of each channel of uint8 (N, C, H, W), over `rows` alone if they are given.

    They come from a histogram of the 256 values, so they are exact, do not depend on the order, and no float copy is
    made: with n_v pixels of value v, mean = Σ n_v v / n and var = Σ n_v v² / n − mean².

    >>> fit_encoder(torch.tensor([0, 255], dtype=torch.uint8).reshape(2, 1, 1, 1)).std
    tensor([0.5000])
    """
    if images.ndim != 4 or images.dtype != torch.uint8:
        raise ShapeError(
            "these are not images",
            needs="uint8 (N, C, H, W)",
            found=f"{str(images.dtype).removeprefix('torch.')} {tuple(images.shape)}",
            fix="images of one size, as bytes, channels before height",
        )
    channels = images.shape[1]
    counts = torch.zeros(channels, 256, dtype=torch.int64)
    n = len(images) if rows is None else len(rows)
    step = max(1, CHUNK_BYTES // max(1, images[0].numel() if len(images) else 1))
    for start in range(0, n, step):
        part = images[start : start + step] if rows is None else images[rows[start : start + step]]
        for channel in range(channels):
            counts[channel] += torch.bincount(part[:, channel].flatten(), minlength=256)
    # integers below 2^53 throughout (10^11 pixels), so float64 holds them exactly
    values = torch.arange(256, dtype=torch.float64)
    total = counts.sum(1).clamp(min=1).double()
    mean = (counts.double() @ values) / total
    variance = (counts.double() * (values - mean[:, None]) ** 2).sum(1) / total
    std = torch.where(variance > 0, variance.sqrt(), 255.0)
    return ImageEncoder((mean / 255).float(), (std / 255).float())


def image_data(
    images: Tensor,
    labels: Tensor | None,
    levels: Sequence[str],
    source: Source,
    *,
    published: Sequence[Tensor] = (),
    statistics_rows: Tensor | None = None,
    notes: Sequence[str] = (),
    target: str = "class",
) -> Data:
    """Data of uint8 images (N, C, H, W) and class numbers (N,) into `levels`.

    published: row numbers of the test sets that the authors set apart. statistics_rows: the rows that mean and standard
    deviation are taken from; by default all but those of the first published test set.

    >>> pixels = torch.randint(256, (6, 1, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    >>> data = image_data(pixels, torch.tensor([0, 1, 0, 1, 0, 1]), ["cat", "dog"], Source("six"))
    >>> data.inputs.shape, data.target.levels, tuple(data.batch(torch.tensor([0, 5])).x.shape)
    ((1, 4, 4), ('cat', 'dog'), (2, 1, 4, 4))
    """
    if labels is not None and len(labels) != len(images):
        raise ShapeError(
            "images and labels do not belong together",
            needs=f"{len(images)} labels, one an image",
            found=f"{len(labels)} labels",
            fix="take both from the same files",
        )
    if statistics_rows is None and published:
        keep = torch.ones(len(images), dtype=torch.bool)
        keep[published[0]] = False
        statistics_rows = keep.nonzero()[:, 0]
    return Data(
        raw={"image": images},
        y=labels,
        encoder=fit_encoder(images, statistics_rows),
        inputs=Inputs(tuple(images.shape[1:])),
        target=None if labels is None else Target(target, "category", tuple(levels), reason=f"{len(levels)} classes"),
        source=source if source.rows else replace(source, rows=len(images)),
        notes=tuple(notes),
        row_index=torch.arange(len(images)),
        published=tuple(published),
    )


def refit(data: Data, rows: Tensor) -> ImageEncoder:
    """The encoder that `data` would have if only `rows` had been seen.

    >>> data = image_data(torch.arange(4, dtype=torch.uint8).reshape(4, 1, 1, 1) * 51, None, (), Source("four"))
    >>> refit(data, torch.tensor([1, 3])).mean
    tensor([0.4000])
    """
    return fit_encoder(data.raw["image"], rows)


def idx_data(path: str | Path, *, name: str = "", licence: str = "", citation: str = "") -> Data:
    """An IDX file of grey images as data; its labels come from the file named alike ("images-idx3" -> "labels-idx1").

    >>> home = Path(__file__).parent / "embedded"
    >>> data = idx_data(home / "digits-images-idx3-ubyte.gz")
    >>> data.inputs.shape, data.target.classes
    ((1, 8, 8), 10)
    """
    path = Path(path)
    twin = path.with_name(path.name.replace("images", "labels").replace("idx3", "idx1"))
    if twin != path and twin.exists():
        images, labels = read_labelled_idx(path, twin)
        notes = (f"labels from {twin.name}",)
    else:
        images, labels, notes = read_idx(path), None, (f"no file {twin.name}: the images have no labels",)
        if images.dtype != torch.uint8 or images.ndim != 3:
            raise FormatError(
                f"{path} does not hold grey images",
                needs="unsigned bytes of shape (N, H, W)",
                found=f"{str(images.dtype).removeprefix('torch.')} of shape {tuple(images.shape)}",
                fix="name the file of images; its labels are found beside it",
            )
        images = images[:, None]
    digest = hashlib.sha256(images.numpy().tobytes())
    digest.update(labels.numpy().tobytes() if labels is not None else b"")
    levels = [str(i) for i in range(int(labels.max()) + 1)] if labels is not None and len(labels) else []
    source = Source(name or path.name, digest.hexdigest(), len(images), licence, citation)
    return image_data(images, labels, levels, source, notes=notes)


def folder_data(
    path: str | Path,
    size: int | tuple[int, int] | None = None,
    channels: int | None = None,
    *,
    name: str = "",
    licence: str = "",
    citation: str = "",
) -> Data:
    """A folder of pictures as data (see `formats.read_images`); pictures in folder/test are the published test set.

    >>> import tempfile
    >>> from PIL import Image
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ("cat", "dog"):
    ...         Path(folder, name).mkdir()
    ...         Image.new("RGB", (6, 4)).save(Path(folder, name, "1.png"))
    ...     data = folder_data(folder)
    >>> data.inputs.shape, data.target.levels
    ((3, 4, 6), ('cat', 'dog'))
    """
    folder = read_images(path, size, channels)
    digest = hashlib.sha256()  # of names and pixels, so that the same pictures have it wherever they lie
    for file, image in zip(folder.files, folder.images, strict=True):
        digest.update(f"{file}\0".encode())
        digest.update(image.numpy().tobytes())
    source = Source(name or Path(path).resolve().name, digest.hexdigest(), len(folder.files), licence, citation)
    published = () if folder.test is None else (folder.test,)
    return image_data(folder.images, folder.labels, folder.levels, source, published=published, notes=folder.notes)
