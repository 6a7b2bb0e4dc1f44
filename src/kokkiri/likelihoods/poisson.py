"""Counts whose variance is their mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from kokkiri.likelihoods import arguments
from kokkiri.numerics import distributions
from kokkiri.numerics.distributions import LOG_RATE_HIGHEST, LOG_RATE_LOWEST
from kokkiri.predictive import Mixture, normalised
from kokkiri.types import Params


@dataclass(frozen=True)
class Poisson:
    """log p(y | f) = y f - e^f - log y! for y in 0, 1, 2, …, summed over T independent targets; f is the log rate.

    f is clamped to [-80, 30]: e^30 is 10¹³ events, and beyond it float32 overflows in the squares of gradients.

    >>> Poisson().log_prob(torch.zeros(2, 1), torch.tensor([0, 3]))
    tensor([-1.0000, -2.7918])
    """

    location_scale: ClassVar[bool] = False
    discrete: ClassVar[bool] = True

    def outputs(self, targets: int) -> int:
        """The log rate of each target."""
        return targets

    def parameters(self) -> Params:
        """None: the network gives all."""
        return {}

    def bind(self, parameters: Params) -> Poisson:
        """Itself."""
        arguments.bound("Poisson", (), parameters)
        return self

    def check(self, y: Tensor, outputs: int | None = None) -> None:  # ruff: ignore[unused-method-argument]
        """Raises DataError at the first row that is not a whole number >= 0."""
        arguments.counts("Poisson", y)

    def log_prob(self, output: Tensor, y: Tensor) -> Tensor:
        """(B, T), (B, T) or (B,) -> (B,) nats."""
        return _given(output).log_prob(arguments.targets("Poisson", output, y)).sum(-1)

    def curvature(self, output: Tensor) -> Tensor:
        """diag(e^f), the Hessian everywhere; 0 for an f that is clamped."""
        moves = (output >= LOG_RATE_LOWEST) & (output <= LOG_RATE_HIGHEST)
        return torch.diag_embed(torch.where(moves, _given(output).mean, 0.0))

    def predictive(self, outputs: Tensor, weights: Tensor | None = None) -> Mixture:
        """(S, B, T) and log weights (S,) -> a mixture of S Poisson distributions."""
        return Mixture(_given(arguments.draws("Poisson", outputs)), normalised(weights, len(outputs), outputs))

    def config(self) -> dict[str, Any]:
        """Plain values for `from_config`."""
        return {"name": "Poisson"}


def _given(output: Tensor) -> distributions.Poisson:
    return distributions.Poisson(output.clamp(LOG_RATE_LOWEST, LOG_RATE_HIGHEST))
