"""Whether a straight line is a straight line: what the square of a treatment adds to it."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from kokkiri.causal.quantities import Sample

BENT = 4.0  # standard errors: one straight line in 16,000 is called bent


def bend(sample: Sample) -> float:
    """The coefficient of t² in the least squares of y on (1, x, t, t²), in standard errors; 0 where it cannot be seen.

    >>> t = torch.linspace(-1.0, 1.0, 200, dtype=torch.float64)
    >>> noise = 0.1 * torch.randn(200, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    >>> x = torch.empty(200, 0)
    >>> [round(bend(Sample(t, y + noise, x, ())), 1) for y in (t, t + t**2)]
    [-0.4, 42.2]
    """
    t = sample.t.double()
    x = torch.cat([torch.ones_like(t).unsqueeze(1), sample.x.double(), t.unsqueeze(1)], 1)
    square, y = _left(torch.stack([(t - t.mean()).square(), sample.y.double()], 1), x).unbind(1)
    free = len(t) - x.shape[1] - 1
    size = float(square.square().sum() * y.square().sum())
    if free < 1 or size <= 0 or float(square.square().sum()) < 1e-9 * float((t - t.mean()).pow(4).sum()):
        return 0.0
    r = float(square @ y) / math.sqrt(size)
    return r * math.sqrt(free / max(1e-12, 1 - r**2))


def warning(sample: Sample | None, treatment: str, outcome: str) -> tuple[str, ...]:
    """What is to be said of a line that bends."""
    if sample is None or not sample.t.is_floating_point() or sample.t.ndim != 1:
        return ()
    z = bend(sample)
    if abs(z) < BENT:
        return ()
    found = (f"{outcome} is no straight line in {treatment}: its square is {abs(z):.1f} standard errors from nothing, "
             "so that neither the number nor its interval holds")  # fmt: skip
    return (f"{found}; --method networks draws the curve" if sample.names else found,)


def _left(of: Tensor, x: Tensor) -> Tensor:
    """(n, q) what least squares on x (n, p), of any rank, leave."""
    q, r = torch.linalg.qr(x / x.square().mean(0).sqrt().clamp(min=1e-300))
    q = q[:, r.diagonal().abs() > 1e-9 * math.sqrt(len(x))]
    return of - q @ (q.mT @ of)
