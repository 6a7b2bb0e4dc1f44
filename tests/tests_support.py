"""Small data that tests share."""

import torch
from torch import nn

from kokkiri.data.core import Data, Inputs, Source, Target


class Raw(nn.Module):
    """The encoder of data that need none."""

    def forward(self, raw):
        return raw["x"]


def data_of(x, y, kind="number", levels=()):
    return Data({"x": x}, y, Raw(), Inputs(tuple(x.shape[1:])), Target("y", kind, levels), Source("test"))


def some_numbers(n=40, seed=0, dtype=torch.float32):
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 3, generator=g, dtype=torch.float64)
    y = torch.sin(x[:, 0]) + 0.3 * torch.randn(n, generator=g, dtype=torch.float64)
    return data_of(x.to(dtype), y.to(dtype))
