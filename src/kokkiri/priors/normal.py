"""The Gaussian prior: weight decay, normalised."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from kokkiri.errors import UsageError
from kokkiri.types import LIKELIHOOD_PREFIX, Params

LIKELIHOOD_SD = 3.0  # of the logs that likelihoods learn


@dataclass(frozen=True)
class Normal:
    """log p(θ) = sum_i [½ log λ - ½ log 2π - ½ λ θ_i²] over the network's parameters, λ the precision.

    Its gradient -λθ is weight decay of λ / n in a loss averaged over n rows. What the likelihood learns (logs of
    scales, see `types.LIKELIHOOD_PREFIX`) has N(0, 3²) whatever λ is: weakly informative, a noise scale within e^±6
    of one, which for a standardised target is its own.

    >>> Normal(precision=4.0).log_prob({"w": torch.zeros(2)}, {"precision": 4.0})
    tensor(-0.4516)
    """

    elementwise: ClassVar[bool] = True  # may be handed flat tensors, the likelihood's apart, in place of the model's

    precision: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.precision < math.inf:
            raise UsageError(
                f"Normal got precision={self.precision!r}",
                needs="a finite precision > 0",
                found=repr(self.precision),
                fix="Normal(1.0), or Flat() for no prior at all",
            )

    def hyperparameters(self) -> dict[str, Tensor]:
        """What a sweep may vary, and evidence will choose."""
        return {"precision": torch.tensor(self.precision, dtype=torch.float64)}

    def log_prob(self, params: Params, hyper: dict[str, Any]) -> Tensor:
        """() nats. hyper: the precision, a number or a 0-dimensional tensor."""
        weights = [t for name, t in params.items() if not name.startswith(LIKELIHOOD_PREFIX)]
        scales = [t for name, t in params.items() if name.startswith(LIKELIHOOD_PREFIX)]
        return _gaussian(weights, hyper["precision"]) + _gaussian(scales, LIKELIHOOD_SD**-2)

    def gradient(self, params: Params, hyper: dict[str, Any]) -> Params:
        """Of `log_prob`, in closed form: -λθ."""
        fixed = LIKELIHOOD_SD**-2
        of = lambda name: -(fixed if name.startswith(LIKELIHOOD_PREFIX) else hyper["precision"])
        return {name: of(name) * t for name, t in params.items()}

    def precision_at(self, params: Params, hyper: dict[str, Any]) -> Params:
        """-d² log p / dθ², entry by entry."""
        fixed = LIKELIHOOD_SD**-2
        of = lambda name: fixed if name.startswith(LIKELIHOOD_PREFIX) else hyper["precision"]
        return {name: torch.ones_like(t) * of(name) for name, t in params.items()}

    def config(self) -> dict[str, Any]:
        """Plain values for `from_config`."""
        return {"name": "Normal", "precision": float(self.precision)}


def _gaussian(tensors: list[Tensor], precision: Tensor | float) -> Tensor:
    if not tensors:
        return torch.zeros(())
    size = sum(t.numel() for t in tensors)
    squares = torch.stack([(t * t).sum() for t in tensors]).sum()
    log_precision = precision.log() if isinstance(precision, Tensor) else math.log(precision)
    return 0.5 * size * (log_precision - math.log(2 * math.pi)) - 0.5 * precision * squares
