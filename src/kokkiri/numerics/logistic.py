"""Many multinomial logistic regressions at once, each with its own rows' weights, by Newton's method."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import one_hot, pad

_STEPS, _CLOSE, _LONGEST = 40, 1e-9, 4.0  # of Newton's method; nats; the largest change of a log-odds in a step


def logistic(features: Tensor, t: Tensor, levels: int, weight: Tensor, precision: Tensor) -> Tensor:
    """(R, K - 1, D) coefficients against level 0 that maximise Σ w log p(t | features) - ½ Σ precision β².

    features: (R or 1, n, D); t: (n,) numbers of levels; weight: (R, n); precision: (D,).

    >>> x = torch.ones(1, 4, 1, dtype=torch.float64)
    >>> logistic(x, torch.tensor([0, 1, 1, 1]), 2, torch.ones(1, 4), torch.zeros(1)).exp()  # the odds
    tensor([[[3.0000]]], dtype=torch.float64)
    """
    x, w, ridge = features.double(), weight.double(), precision.double()
    many, rows, width = len(w), x.shape[1], x.shape[2]
    had = one_hot(t.long(), levels).double()[:, 1:]
    beta = torch.zeros(many, levels - 1, width, dtype=torch.float64)
    hessian = torch.empty(many, levels - 1, width, levels - 1, width, dtype=torch.float64)
    x = x.expand(many, rows, width)
    for _ in range(_STEPS):
        p = torch.softmax(pad(x @ beta.mT, (1, 0)), -1)[..., 1:]  # (R, n, K - 1)
        slope = (w.unsqueeze(-1) * (had - p)).mT @ x - ridge * beta
        for i in range(levels - 1):
            for j in range(i, levels - 1):
                share = w * p[..., i] * ((i == j) * 1.0 - p[..., j])
                block = x.mT @ (x * share.unsqueeze(-1))
                hessian[:, i, :, j] = block + (torch.diag(ridge) if i == j else 0.0)
                hessian[:, j, :, i] = hessian[:, i, :, j]
        flat = hessian.reshape(many, (levels - 1) * width, -1)
        flat = flat + 1e-10 * flat.diagonal(dim1=-2, dim2=-1).mean(-1)[:, None, None] * torch.eye(flat.shape[-1])
        step = torch.linalg.solve(flat, slope.reshape(many, -1, 1)).reshape(beta.shape)
        longest = (x @ step.mT).abs().amax((-1, -2))
        beta = beta + (_LONGEST / longest.clamp(min=_LONGEST))[:, None, None] * step
        if float((step * slope).sum((-1, -2)).max()) < _CLOSE * rows:
            break
    return beta


def probabilities(features: Tensor, beta: Tensor) -> Tensor:
    """(R or 1, n, D), (R, K - 1, D) -> (R, K, n)."""
    return torch.softmax(pad(features.double() @ beta.mT, (1, 0)), -1).mT
