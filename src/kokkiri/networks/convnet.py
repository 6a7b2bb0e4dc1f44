"""Convolutional networks."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from torch import Tensor, nn

from kokkiri.errors import ShapeError, UsageError
from kokkiri.networks import arguments
from kokkiri.networks.activations import activation as activation_named
from kokkiri.networks.activations import initialise, initialise_output

SMALLEST = 4  # pixels: no pooling below this, so that 8x8 digits are pooled once and 28x28 ones twice


class ConvNet(nn.Module):
    """For each entry of `channels` a 3x3 convolution, max-pooling, an activation; then a dense layer and the output.

    The plan of LeNet-5 (LeCun et al. 1998, "Gradient-based learning applied to document recognition", figure 2), with
    padding, max-pooling in place of trained averages, and dropout before the output. Pooling takes place where it
    leaves at least 4 pixels a side; `features` is the shape that the dense layer is given. Weights start as in `MLP`.

    >>> import torch
    >>> ConvNet((1, 28, 28), 10)(torch.zeros(2, 1, 28, 28)).shape
    torch.Size([2, 10])
    >>> ConvNet((1, 28, 28), 10).features, ConvNet((1, 8, 8), 10).features
    ((64, 7, 7), (64, 4, 4))
    """

    def __init__(
        self,
        inputs: arguments.InputsLike,
        outputs: int,
        *,
        channels: Sequence[int] = (32, 64),
        dense: int = 128,
        dropout: float = 0.0,
        activation: str = "relu",
        pool: int = 2,
    ) -> None:
        super().__init__()
        inputs = arguments.inputs_of("ConvNet", inputs)
        if len(inputs.shape) != 3:
            raise UsageError(
                "ConvNet cannot be made with these inputs",
                needs="the shape (C, H, W) of an image",
                found=f"shape {inputs.shape}",
                fix=f"(1, {inputs.shape[0]}, {inputs.shape[1]})" if len(inputs.shape) == 2 else "kk.networks.MLP",
            )
        outputs = arguments.whole_number("ConvNet", "outputs", outputs, "10")
        channels = arguments.whole_numbers("ConvNet", "channels", channels, "(32, 64)")
        dense = arguments.whole_number("ConvNet", "dense", dense, "128")
        dropout = arguments.fraction("ConvNet", "dropout", dropout, "0.1")
        pool = arguments.whole_number("ConvNet", "pool", pool, "2")
        self.settings: dict[str, Any] = {
            "inputs": arguments.plain(inputs),
            "outputs": outputs,
            "channels": list(channels),
            "dense": dense,
            "dropout": dropout,
            "activation": activation,
            "pool": pool,
        }
        self.inputs = inputs
        self.activation = activation_named("ConvNet", activation)
        self.dropout = nn.Dropout(dropout) if dropout else None
        self.pool = nn.MaxPool2d(pool)
        first, height, width = inputs.shape
        sizes = [first, *channels]
        convolutions = [nn.Conv2d(i, o, 3, padding=1) for i, o in pairwise(sizes)]
        self.convolutions = nn.ModuleList(convolutions)
        self.pooled: list[bool] = []
        for _ in channels:
            self.pooled.append(pool > 1 and min(height, width) // pool >= SMALLEST)
            height, width = (height // pool, width // pool) if self.pooled[-1] else (height, width)
        self.features = (channels[-1], height, width)
        self.dense = nn.Linear(channels[-1] * height * width, dense)
        self.output = nn.Linear(dense, outputs)
        for i, layer in enumerate((*convolutions, self.dense)):
            initialise(layer, activation, first=i == 0)
        initialise_output(self.output)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, outputs)."""
        if x.ndim != 4 or tuple(x.shape[1:]) != self.inputs.shape:
            batch = x.ndim == 4
            raise ShapeError(
                f"ConvNet got x {tuple(x.shape)}",
                needs=f"x (B, {', '.join(str(n) for n in self.inputs.shape)})",
                found=f"images {tuple(x.shape[1:])}" if batch else f"{x.ndim} axes",
                fix=f"kk.networks.ConvNet({tuple(x.shape[1:])}, …)"
                if batch
                else f"x.reshape(-1, *{self.inputs.shape})",
            )
        for layer, pooled in zip(self.convolutions, self.pooled, strict=True):
            x = layer(x)
            x = self.activation(self.pool(x) if pooled else x)  # in this order: fewer pixels to activate
        h = self.activation(self.dense(x.flatten(1)))
        return self.output(h if self.dropout is None else self.dropout(h))
