"""How training images are varied: pure functions of a batch and of counter-based uniforms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from kokkiri.numerics.random import uniforms


@dataclass(frozen=True)
class Augment:
    """Shifts by up to `shift` pixels (the border repeated outwards), mirrors left to right.

    The variation of a datum in an epoch is a function of (seed, epoch, datum) alone: not of its batch, not of workers.

    >>> x = torch.arange(9.0).reshape(1, 1, 3, 3)
    >>> Augment(shift=1)(x, torch.tensor([0]), seed=0, epoch=0).shape
    torch.Size([1, 1, 3, 3])
    """

    shift: int = 0
    flip: bool = False
    columns: ClassVar[int] = 3  # uniforms a datum needs: down, right, mirror

    def __call__(self, x: Tensor, index: Tensor, *, seed: int, epoch: int) -> Tensor:
        """(B, C, H, W) -> the same shape; index: (B,) which data they are."""
        u = uniforms(index, self.columns, seed, "augment", epoch).to(x.device)
        if self.flip:
            x = torch.where((u[:, 2] < 0.5)[:, None, None, None], x.flip(-1), x)
        if self.shift:
            x = self._shifted(x, u)
        return x

    def _shifted(self, x: Tensor, u: Tensor) -> Tensor:
        b, c, h, w = x.shape
        k = self.shift
        padded = F.pad(x, (k, k, k, k), mode="replicate")
        down, right = ((u[:, i] * (2 * k + 1)).long() for i in (0, 1))
        rows = (down[:, None] + torch.arange(h, device=x.device))[:, None, :, None]
        columns = (right[:, None] + torch.arange(w, device=x.device))[:, None, None, :]
        which = torch.arange(b, device=x.device)[:, None, None, None]
        channel = torch.arange(c, device=x.device)[None, :, None, None]
        return padded[which, channel, rows, columns]
