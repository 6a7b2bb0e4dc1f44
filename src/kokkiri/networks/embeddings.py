"""Embeddings for categories."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from kokkiri.data.core import Group, Inputs
from kokkiri.errors import ShapeError, UsageError
from kokkiri.networks import arguments


def large_categories(inputs: Inputs, limit: int) -> list[Group]:
    """The categories with more than `limit` columns."""
    return [g for g in inputs.groups if g.kind == "category" and g.stop - g.start > limit]


class Embeddings(nn.Module):
    """(B, width) -> (B, width'): each category with more than `limit` one-hot columns becomes a short learned vector.

    A category with k columns gets min(50, round(1.6 k^0.56)) numbers (Howard et al., fastai, `emb_sz_rule`, whose bound
    of 600 is 50 here); the columns in between pass through, in their order. A row without a one (an unseen level) gets
    zeros. A one-hot row times a matrix is what `nn.Embedding` looks up. Weights start at N(0, 1 / numbers), so that a
    vector is about as long as the one-hot row that it stands for.

    >>> from kokkiri.data import core
    >>> city = core.Group("city", 1, 13, "category")
    >>> Embeddings(core.Inputs((14,), (city,)))(torch.zeros(5, 14)).shape  # 12 columns become 6
    torch.Size([5, 8])
    """

    def __init__(self, inputs: arguments.InputsLike, limit: int = 10) -> None:
        super().__init__()
        inputs = arguments.inputs_of("Embeddings", inputs)
        limit = arguments.whole_number("Embeddings", "limit", limit, "10")
        groups = sorted(large_categories(inputs, limit), key=lambda g: g.start)
        edges = [0, *(edge for g in groups for edge in (g.start, g.stop)), inputs.width]
        if len(inputs.shape) != 1 or edges != sorted(edges):
            raise UsageError(
                "Embeddings cannot be made with these inputs",
                needs="the columns of a table, in groups that do not overlap",
                found=f"shape {inputs.shape}, groups {[(g.name, g.start, g.stop) for g in groups]}",
                fix="Embeddings(data.inputs)",
            )
        self.settings: dict[str, Any] = {"inputs": arguments.plain(inputs), "limit": limit}
        self.inputs = inputs
        self.edges = tuple(edges)  # passed, embedded, passed, embedded, …, passed
        self.categories = nn.ModuleList()
        width = inputs.width
        for g in groups:
            levels = g.stop - g.start
            size = min(50, round(1.6 * levels**0.56))
            layer = nn.Linear(levels, size, bias=False)
            nn.init.normal_(layer.weight, std=1 / math.sqrt(size))
            self.categories.append(layer)
            width += size - levels
        self.width = width

    def forward(self, x: Tensor) -> Tensor:
        """(B, width) -> (B, self.width)."""
        if x.ndim != 2 or x.shape[1] != self.inputs.width:
            raise ShapeError(
                f"Embeddings got x {tuple(x.shape)}",
                needs=f"x (B, {self.inputs.width})",
                found=f"x {tuple(x.shape)}",
                fix="the inputs of the data at hand: Embeddings(data.inputs)",
            )
        parts = []
        for i, layer in enumerate(self.categories):
            passed, start, stop = self.edges[2 * i : 2 * i + 3]
            parts += [x[:, passed:start], layer(x[:, start:stop])]
        return torch.cat([*parts, x[:, self.edges[-2] :]], dim=1)
