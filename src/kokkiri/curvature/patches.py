"""Uses of one parameter in a normal form: the batch first, the places of a shared weight second, groups third."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from kokkiri.curvature.tape import Use

Rule = tuple[str, int]  # how the data lie in a use's tensors: ("axis", d), ("outer", 0): (B T), ("inner", 0): (T B)


def batch_first(t: Tensor, rule: Rule, rows: int) -> Tensor:
    """(..., B, ...) -> (B, T, ...), the other leading axes kept behind it as one."""
    kind, axis = rule
    if kind == "outer":
        return t.unflatten(0, (rows, -1))
    if kind == "inner":
        return t.unflatten(0, (-1, rows)).movedim(1, 0)
    return t.movedim(axis, 0)


def inputs(use: Use, rule: Rule, rows: int) -> Tensor:
    """(B, T, G, i) what a linear map or a convolution multiplied its weight with."""
    if use.kind == "linear":
        x = batch_first(use.input, rule, rows)
        return x.reshape(rows, -1, 1, x.shape[-1])
    x = unfold(use.input, use.settings)  # (B', L, G, i)
    return batch_first(x, rule, rows).reshape(rows, -1, *x.shape[2:])


def outputs(g: Tensor, use: Use, rule: Rule, rows: int) -> Tensor:
    """(K, ...) gradients at a use's output -> (B, K, T, G, o)."""
    k = len(g)
    if use.kind == "convolution":
        groups = use.settings["groups"]
        g = g.flatten(3).unflatten(2, (groups, -1)).permute(0, 1, 4, 2, 3)  # (K, B', L, G, o)
    kind, axis = rule
    if kind == "axis":
        g = g.movedim(axis + 1, 1)
    elif kind == "outer":
        g = g.unflatten(1, (rows, -1))
    else:
        g = g.unflatten(1, (-1, rows)).movedim(2, 1)
    if use.kind == "convolution":
        return g.reshape(k, rows, -1, *g.shape[-2:]).movedim(0, 1)
    return g.reshape(k, rows, -1, 1, g.shape[-1]).movedim(0, 1)


def channels_last(g: Tensor, use: Use, rule: Rule, rows: int) -> Tensor:
    """(K, ...) gradients at the output of a gain or a linear map -> (B, K, T, D)."""
    if use.kind == "scale":
        last = use.settings["last"]
        g = g.flatten(-last) if last else g.movedim(2, -1)
    elif use.kind == "convolution":
        g = g.movedim(2, -1)
    kind, axis = rule
    if kind == "axis":
        g = g.movedim(axis + 1, 1)
    elif kind == "outer":
        g = g.unflatten(1, (rows, -1))
    else:
        g = g.unflatten(1, (-1, rows)).movedim(2, 1)
    return g.reshape(len(g), rows, -1, g.shape[-1]).movedim(0, 1)


def unfold(x: Tensor, settings: Any) -> Tensor:
    """(B, C, *space) -> (B, L, G, C/G · kernel): the patches that a convolution multiplies with its weight."""
    kernel, stride, dilation = settings["kernel"], settings["stride"], settings["dilation"]
    padding, groups = settings["padding"], settings["groups"]
    x = torch.nn.functional.pad(x, [p for p in reversed(padding) for _ in (0, 1)])
    n = len(kernel)
    for d in range(n):
        span = dilation[d] * (kernel[d] - 1) + 1
        x = x.unfold(2 + d, span, stride[d])[..., :: dilation[d]]
    # (B, C, *places, *kernel)
    x = x.unflatten(1, (groups, -1))
    places = range(3, 3 + n)
    x = x.permute(0, *places, 1, 2, *range(3 + n, 3 + 2 * n))
    return x.flatten(-1 - n).flatten(1, n)
