"""Multilayer perceptrons."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise, starmap
from typing import Any

from torch import Tensor, nn

from kokkiri.errors import ShapeError, UsageError
from kokkiri.networks import arguments
from kokkiri.networks.activations import activation as activation_named
from kokkiri.networks.activations import initialise, initialise_output
from kokkiri.networks.embeddings import Embeddings, large_categories

EMBEDDED_ABOVE = 10  # one-hot columns of a category


class MLP(nn.Module):
    """h ← dropout(σ(norm(W h + b))) for each hidden width, then output = V h + c.

    inputs: a width, a shape (flattened), or `data.inputs`. widths: [] makes a linear model.
    norm: LayerNorm (Ba, Kiros & Hinton 2016, eq. 4) before the activation.
    residual: h is added to what a layer makes of it, wherever the two are equally wide (He et al. 2016, "Deep residual
    learning for image recognition", eq. 1).
    skip: a linear map of the inputs is added to the output, so that the linear model is a special case; without hidden
    layers the network is one already.
    embed: categories with more than 10 columns go through `Embeddings`; where there are any, that is the default.

    Weights start as `activations.initialise` says; those of the output (and of the skip) ten times smaller than
    variance 1 / fan_in asks for, with no bias, so that an untrained network says nearly nothing. Drawn from torch's
    global generator, as in every nn.Module.

    >>> import torch
    >>> MLP(8, [64, 64], 3)(torch.zeros(5, 8)).shape
    torch.Size([5, 3])
    >>> [name for name, _ in MLP((1, 28, 28), [16], 10, skip=True).named_parameters()]
    ['hidden.0.weight', 'hidden.0.bias', 'output.weight', 'output.bias', 'skip.weight']
    """

    def __init__(
        self,
        inputs: arguments.InputsLike,
        widths: Sequence[int],
        outputs: int,
        *,
        activation: str = "relu",
        dropout: float = 0.0,
        norm: bool = False,
        residual: bool = False,
        skip: bool = False,
        embed: bool | None = None,
    ) -> None:
        super().__init__()
        inputs = arguments.inputs_of("MLP", inputs)
        widths = arguments.whole_numbers("MLP", "widths", widths, "[64, 64]", least=0)
        outputs = arguments.whole_number("MLP", "outputs", outputs, "1")
        dropout = arguments.fraction("MLP", "dropout", dropout, "0.1")
        large = large_categories(inputs, EMBEDDED_ABOVE)
        if embed and not large:
            raise UsageError(
                "MLP has nothing to embed",
                needs=f"inputs with a category of more than {EMBEDDED_ABOVE} columns",
                found=f"{len(inputs.groups)} groups of columns, none so large",
                fix="leave embed out, or MLP(data.inputs, …)",
            )
        self.settings: dict[str, Any] = {
            "inputs": arguments.plain(inputs),
            "widths": list(widths),
            "outputs": outputs,
            "activation": activation,
            "dropout": dropout,
            "norm": arguments.flag("MLP", "norm", norm),
            "residual": arguments.flag("MLP", "residual", residual),
            "skip": arguments.flag("MLP", "skip", skip),
            "embed": None if embed is None else arguments.flag("MLP", "embed", embed),
        }
        self.inputs, self.residual = inputs, residual
        self.activation = activation_named("MLP", activation)
        self.dropout = nn.Dropout(dropout) if dropout else None
        self.embed = Embeddings(inputs, EMBEDDED_ABOVE) if large and embed is not False else None
        sizes = [self.embed.width if self.embed is not None else inputs.width, *widths]
        hidden = list(starmap(nn.Linear, pairwise(sizes)))
        self.hidden = nn.ModuleList(hidden)
        self.norms = nn.ModuleList([nn.LayerNorm(o) for o in widths]) if norm else None
        self.output = nn.Linear(sizes[-1], outputs)
        self.skip = nn.Linear(sizes[0], outputs, bias=False) if skip and widths else None
        for i, layer in enumerate(hidden):
            initialise(layer, activation, first=i == 0)
        for layer in (self.output, self.skip):
            if layer is not None:
                initialise_output(layer)

    def forward(self, x: Tensor) -> Tensor:
        """(B, *inputs.shape) or (B, width) -> (B, outputs)."""
        width = self.inputs.width
        x = x.flatten(1) if x.ndim > 2 else x
        if x.ndim != 2 or x.shape[1] != width:
            raise ShapeError(
                f"MLP got x {tuple(x.shape)}",
                needs=f"x (B, {width})"
                if len(self.inputs.shape) == 1
                else f"x (B, {width}) or (B, *{self.inputs.shape})",
                found=f"{x.shape[1]} numbers a row" if x.ndim == 2 else "no batch axis",
                fix=f"kk.networks.MLP({x.shape[1]}, …), or rows of {width} numbers" if x.ndim == 2 else "x[None]",
            )
        h = x = self.embed(x) if self.embed is not None else x
        for i, layer in enumerate(self.hidden):
            f = layer(h)
            f = self.activation(f if self.norms is None else self.norms[i](f))
            f = f if self.dropout is None else self.dropout(f)
            h = h + f if self.residual and layer.in_features == layer.out_features else f
        return self.output(h) if self.skip is None else self.output(h) + self.skip(x)
