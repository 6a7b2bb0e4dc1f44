"""The few elementwise operations that steps are made of, one pass over memory each where torch has such an operation.

A scalar here is a Python float, a 0-dimensional tensor (lifted by vmap or not), or a tensor that broadcasts: a column
(R, 1) of learning rates over a stack (R, P) of replicas.
"""

from __future__ import annotations

from typing import TypeAlias

import torch
from torch import Tensor

Scalar: TypeAlias = float | Tensor


def alike(c: Scalar, like: Tensor) -> Scalar:
    """C in the dtype of `like`: hyperparameters are float64, and a column of them would upcast float32 weights."""
    return c.to(like.dtype) if isinstance(c, Tensor) else c


def mix(a: Tensor, b: Tensor, c: Scalar) -> Tensor:
    """A + c (b − a)."""
    return torch.lerp(a, b, alike(c, a))


def plus(a: Tensor, b: Tensor, c: Scalar) -> Tensor:
    """A + c b."""
    return torch.addcmul(a, b, c.to(a.dtype)) if isinstance(c, Tensor) else torch.add(a, b, alpha=c)


def minus(a: Tensor, b: Tensor, c: Scalar) -> Tensor:
    """A − c b."""
    return torch.addcmul(a, b, c.to(a.dtype), value=-1) if isinstance(c, Tensor) else torch.add(a, b, alpha=-c)


def minus_ratio(a: Tensor, b: Tensor, d: Tensor, c: Scalar) -> Tensor:
    """A − c b / d."""
    return (
        torch.addcdiv(a, b * c.to(a.dtype), d, value=-1) if isinstance(c, Tensor) else torch.addcdiv(a, b, d, value=-c)
    )


def root(a: Tensor, c: Scalar) -> Tensor:
    """√a + c."""
    r = a.sqrt()
    # in place saves memory traffic, but vmap refuses to write a lifted c into an r that is not lifted
    return r + c.to(a.dtype) if isinstance(c, Tensor) else r.add_(c)


def plus_product(a: Tensor, b: Tensor, d: Tensor, c: Scalar) -> Tensor:
    """A + c b d."""
    return a + alike(c, a) * b * d if isinstance(c, Tensor) else torch.addcmul(a, b, d, value=c)


def constant(c: Scalar, like: Tensor) -> Tensor:
    """C as a tensor of the dtype of `like`."""
    return c.to(like.dtype) if isinstance(c, Tensor) else like.new_tensor(c)


def scaled(a: Tensor, c: Scalar) -> Tensor:
    """C a; a number scales in place, for an `a` that nobody else holds."""
    return a * alike(c, a) if isinstance(c, Tensor) else a.mul_(c)


def shifted(a: Tensor, c: Scalar) -> Tensor:
    """A + c; a number shifts in place, for an `a` that nobody else holds."""
    return a + alike(c, a) if isinstance(c, Tensor) else a.add_(c)


def within(a: Tensor, limit: Scalar) -> Tensor:
    """A, cut to ± limit; a number cuts in place, for an `a` that nobody else holds."""
    if isinstance(limit, Tensor):
        limit = limit.to(a.dtype)
        return a.clamp(-limit, limit)
    return a.clamp_(-limit, limit)


def largest(a: Scalar, b: Scalar) -> Scalar:
    """The larger of two."""
    if isinstance(a, Tensor) or isinstance(b, Tensor):
        return torch.maximum(*(torch.as_tensor(c, dtype=torch.float64) for c in (a, b)))
    return max(a, b)
