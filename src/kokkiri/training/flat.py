"""One flat tensor for all parameters of a model, so that an optimizer's step is a few operations, not a few a layer."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from kokkiri.errors import Unsupported
from kokkiri.types import LIKELIHOOD_PREFIX, Params


@dataclass(frozen=True)
class Layout:
    """Where each parameter lies in the flat tensor: the network's first, then the likelihood's."""

    names: tuple[str, ...]
    shapes: tuple[torch.Size, ...]
    starts: tuple[int, ...]
    split: int  # where the likelihood's begin
    size: int

    def views(self, flat: Tensor) -> Params:
        """(..., P) -> name -> (..., *shape), all sharing the flat tensor's memory."""
        ends = (*self.starts[1:], self.size)
        rows = flat.shape[:-1]
        parts = zip(self.names, self.shapes, self.starts, ends, strict=True)
        return {name: flat[..., a:b].unflatten(-1, shape or (1,)).view((*rows, *shape)) for name, shape, a, b in parts}

    def blocks(self, flat: Tensor) -> Params:
        """(..., P) -> the two blocks that an elementwise optimizer or prior takes in place of the many parameters."""
        if self.split == self.size:
            return {"": flat}
        return {"": flat[..., : self.split], LIKELIHOOD_PREFIX: flat[..., self.split :]}


def layout(params: Params) -> Layout:
    """The layout of one model whose stacked parameters, (R, ...) each, are given."""
    dtypes = {t.dtype for t in params.values()}
    if len(dtypes) > 1:
        raise Unsupported(
            "the network's parameters have several dtypes",
            needs="one dtype for all trained parameters",
            found=", ".join(sorted(str(d) for d in dtypes)),
            fix="network.float(), or network.double()",
        )
    names = sorted(params, key=lambda name: name.startswith(LIKELIHOOD_PREFIX))  # stable: the network's order is kept
    shapes = tuple(params[name].shape[1:] for name in names)
    starts, at, split = [], 0, None
    for name, shape in zip(names, shapes, strict=True):
        if name.startswith(LIKELIHOOD_PREFIX) and split is None:
            split = at
        starts.append(at)
        at += math.prod(shape)
    return Layout(tuple(names), shapes, tuple(starts), at if split is None else split, at)


def flatten(params: Params, where: Layout) -> Tensor:
    """Name -> (R, ...) to (R, P), a copy."""
    return torch.cat(
        [params[name].flatten(1) if params[name].ndim > 1 else params[name][:, None] for name in where.names], 1
    )
