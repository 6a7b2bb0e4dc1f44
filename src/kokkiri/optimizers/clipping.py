"""Gradient clipping."""

from __future__ import annotations

import torch
from torch import Tensor

from kokkiri.errors import UsageError
from kokkiri.types import Params


def clip_by_norm(grads: Params, limit: float | Tensor | None) -> Params:
    """Scale g by min(1, limit / ‖g‖₂), the norm taken over all tensors together; None leaves them as they are.

    Not elementwise: one flat tensor must hold one model, and a stack of models is clipped under vmap.
    Source: Pascanu, Mikolov & Bengio 2013, "On the difficulty of training recurrent neural networks", algorithm 1. As
    torch.nn.utils.clip_grad_norm_, with its 1e-6 added to the norm, and without writing into the gradients.

    >>> clip_by_norm({"a": torch.tensor([3.0]), "b": torch.tensor([4.0])}, 1.0)
    {'a': tensor([0.6000]), 'b': tensor([0.8000])}
    """
    if limit is None or not grads:
        return grads
    if not isinstance(limit, Tensor) and not limit > 0:
        raise UsageError(
            "gradients cannot be clipped to this norm", needs="limit > 0", found=repr(limit), fix="1.0, or None"
        )
    norms = [torch.linalg.vector_norm(g) for g in grads.values()]
    norm = norms[0] if len(norms) == 1 else torch.linalg.vector_norm(torch.stack(norms))
    factor = (limit / (norm + 1e-6)).clamp(max=1.0)
    return {k: g * factor.to(g.dtype) for k, g in grads.items()}


def clip_rows(grads: Tensor, limit: float | None) -> Tensor:
    """`clip_by_norm` of R models at once, (R, P), each by its own norm.

    >>> clip_rows(torch.tensor([[3.0, 4.0], [0.3, 0.4]]), 1.0)
    tensor([[0.6000, 0.8000],
            [0.3000, 0.4000]])
    """
    if limit is None:
        return grads
    norm = torch.linalg.vector_norm(grads, dim=1, keepdim=True)
    return grads * (limit / (norm + 1e-6)).clamp(max=1.0)
