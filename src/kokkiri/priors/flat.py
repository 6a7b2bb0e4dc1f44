"""No prior: maximum likelihood."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from kokkiri.types import Params


@dataclass(frozen=True)
class Flat:
    """log p(θ) = 0, the improper uniform density: the mode of the posterior is the maximum of the likelihood.

    It does not integrate to one, so that the evidence of a model with it is undefined.

    >>> Flat().log_prob({"w": torch.ones(2)}, {})
    tensor(0.)
    """

    elementwise: ClassVar[bool] = True

    def hyperparameters(self) -> dict[str, Tensor]:
        """None."""
        return {}

    def log_prob(self, params: Params, hyper: dict[str, Any]) -> Tensor:  # ruff: ignore[unused-method-argument]
        """() zero."""
        some = next(iter(params.values()), torch.zeros(()))
        return some.new_zeros(())

    def gradient(self, params: Params, hyper: dict[str, Any]) -> Params:  # ruff: ignore[unused-method-argument]
        """Zero everywhere."""
        return {name: torch.zeros_like(t) for name, t in params.items()}

    def precision_at(self, params: Params, hyper: dict[str, Any]) -> Params:  # ruff: ignore[unused-method-argument]
        """Zero everywhere."""
        return {name: torch.zeros_like(t) for name, t in params.items()}

    def config(self) -> dict[str, Any]:
        """Plain values for `from_config`."""
        return {"name": "Flat"}
