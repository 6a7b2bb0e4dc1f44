"""Laws of the image formats for random inputs."""

from __future__ import annotations

import contextlib
import struct
import tempfile
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import torch
from hypothesis import given, settings
from hypothesis.extra.numpy import array_shapes, arrays

from kokkiri.data.core import Source
from kokkiri.data.formats import read_idx
from kokkiri.data.images import fit_encoder, image_data, refit
from kokkiri.errors import FormatError

IMAGES = arrays(np.uint8, array_shapes(min_dims=4, max_dims=4, min_side=1, max_side=5))


@settings(deadline=None)
@given(st.binary(max_size=60) | st.binary(max_size=40).map(lambda b: b"\0\0" + b))
def test_any_bytes_are_a_tensor_or_a_format_error(content):
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "x")
        file.write_bytes(content)
        with contextlib.suppress(FormatError):
            x = read_idx(file)
            assert 4 + 4 * x.ndim + x.numel() * x.element_size() == len(content)


@settings(deadline=None)
@given(arrays(np.uint8, array_shapes(max_dims=5, max_side=4)))
def test_reading_undoes_writing(array):
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "x")
        file.write_bytes(bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes())
        assert np.array_equal(read_idx(file).numpy(), array)


@settings(deadline=None)
@given(IMAGES)
def test_the_encoder_standardises_each_channel(array):
    images = torch.from_numpy(array)
    encoder = fit_encoder(images)
    flat = images.double().div(255).transpose(0, 1).flatten(1)
    std, mean = torch.std_mean(flat, dim=1, correction=0)
    torch.testing.assert_close(encoder.mean.double(), mean, rtol=1e-6, atol=1e-7)  # float32 buffers
    varied = flat.amax(1) > flat.amin(1)
    torch.testing.assert_close(encoder.std.double()[varied], std[varied], rtol=1e-6, atol=1e-7)
    assert (encoder.std[~varied] == 1).all()


@settings(deadline=None)
@given(IMAGES, st.randoms(use_true_random=False))
def test_statistics_are_to_the_bit_those_of_the_rows_alone_in_any_order(array, random):
    images = torch.from_numpy(array)
    data = image_data(images, None, (), Source("x"))
    rows = random.sample(range(len(images)), random.randint(1, len(images)))
    some, shuffled = torch.tensor(sorted(rows)), torch.tensor(rows)
    alone = fit_encoder(images[some].clone())
    for encoder in (refit(data, some), refit(data, shuffled), data.encoder.refit({"image": images[shuffled]})):
        assert torch.equal(encoder.mean, alone.mean)
        assert torch.equal(encoder.std, alone.std)


@settings(deadline=None)
@given(IMAGES)
def test_a_batch_is_encoded_as_its_rows_are_one_by_one(array):
    data = image_data(torch.from_numpy(array), torch.zeros(len(array), dtype=torch.int64), ["a"], Source("x"))
    together = data.batch(torch.arange(len(data))).x
    assert together.dtype == torch.float32
    assert torch.equal(together, torch.stack([data[i].x for i in range(len(data))]))
