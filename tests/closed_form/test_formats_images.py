"""Images as data: what the encoder computes, and which rows it may look at."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch.overrides import TorchFunctionMode

from kokkiri.data.core import Source
from kokkiri.data.images import ImageEncoder, fit_encoder, folder_data, from_config, image_data
from kokkiri.errors import ShapeError


def test_encoding_is_the_formula():
    encoder = ImageEncoder(torch.tensor([0.2, 0.5], dtype=torch.float64), torch.tensor([0.1, 2.0], dtype=torch.float64))
    image = torch.tensor([[0, 51], [255, 127]], dtype=torch.uint8).reshape(1, 2, 1, 2)
    expected = torch.tensor([[-2.0, 0.0], [0.25, (127 / 255 - 0.5) / 2]], dtype=torch.float64).reshape(1, 2, 1, 2)
    torch.testing.assert_close(encoder({"image": image}), expected, rtol=1e-10, atol=1e-15)


def test_published_test_rows_do_not_reach_the_encoder_unless_they_are_named():
    images = torch.zeros(4, 1, 2, 2, dtype=torch.uint8)
    images[1], images[3] = 255, 100  # rows 2 and 3 are for testing
    labels = torch.tensor([0, 1, 0, 1])
    test = torch.tensor([2, 3])
    data = image_data(images, labels, ["no", "yes"], Source("x"), published=[test])
    assert (data.encoder.mean.item(), data.encoder.std.item()) == (0.5, 0.5)
    assert torch.equal(data.published[0], test)
    assert data.target.levels == ("no", "yes")
    everything = image_data(
        images, labels, ["no", "yes"], Source("x"), published=[test], statistics_rows=torch.arange(4)
    )
    assert everything.encoder.mean.item() == pytest.approx(355 / 4 / 255)


def test_buffers_are_saved_with_the_model():
    encoder = fit_encoder(torch.arange(12, dtype=torch.uint8).reshape(1, 3, 2, 2))
    other = from_config(json.loads(json.dumps(encoder.config())))
    other.load_state_dict(encoder.state_dict())
    assert torch.equal(other.mean, encoder.mean)
    assert set(encoder.state_dict()) == {"mean", "std"}


class Largest(TorchFunctionMode):
    """The size of the largest tensor that any operation returned."""

    nbytes = 0

    def __torch_function__(self, function, types, args=(), kwargs=None):  # ruff: ignore[bad-dunder-method-name]
        result = function(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor):
            self.nbytes = max(self.nbytes, result.nbytes)
        return result


def test_statistics_need_no_float_copy_of_the_images():
    images = torch.zeros(20_000, 1, 40, 40, dtype=torch.uint8)  # 32 MB; float32 would be 128
    with Largest() as watch:
        fit_encoder(images, torch.arange(len(images)))
    assert 1e6 < watch.nbytes < 20e6


def test_grey_statistics_are_not_spread_over_colour_images():
    encoder = ImageEncoder(torch.zeros(1), torch.ones(1))
    with pytest.raises(ShapeError, match=r"(?s)needs   \(B, 1, H, W\).*channels=1"):
        encoder({"image": torch.zeros(2, 3, 4, 4, dtype=torch.uint8)})


@pytest.mark.parametrize("images", [torch.zeros(2, 1, 3, 3), torch.zeros(2, 3, 3, dtype=torch.uint8)])
def test_what_are_no_images_is_refused(images):
    with pytest.raises(ShapeError, match=r"uint8 \(N, C, H, W\)"):
        image_data(images, torch.tensor([0, 1]), ["a", "b"], Source("x"))


def test_labels_must_be_as_many_as_images():
    with pytest.raises(ShapeError, match="2 labels, one an image"):
        image_data(torch.zeros(2, 1, 3, 3, dtype=torch.uint8), torch.tensor([0]), ["a"], Source("x"))


def test_a_folder_becomes_data_with_its_test_part_set_apart(tmp_path):
    for i, name in enumerate(["train/cat/a", "train/dog/b", "test/cat/c"]):
        file = tmp_path / "pets" / f"{name}.png"
        file.parent.mkdir(parents=True)
        Image.fromarray(np.full((4, 4), 50 * i, dtype=np.uint8)).save(file)
    data = folder_data(tmp_path / "pets", licence="CC0")
    assert (len(data), data.inputs.shape, data.target.levels) == (3, (1, 4, 4), ("cat", "dog"))
    assert [p.tolist() for p in data.published] == [[2]]
    assert (data.source.name, data.source.rows, data.source.licence) == ("pets", 3, "CC0")
    assert data.encoder.mean.item() == pytest.approx(25 / 255)
    before = data.source.sha256
    Image.fromarray(np.full((4, 4), 51, dtype=np.uint8)).save(tmp_path / "pets" / "train" / "dog" / "b.png")
    assert folder_data(tmp_path / "pets").source.sha256 != before
