"""Normal noise whose standard deviation the network says, too."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from kokkiri.likelihoods import arguments
from kokkiri.numerics import special
from kokkiri.numerics.distributions import LOG_SCALE_LIMIT, Normal
from kokkiri.predictive import Mixture, normalised
from kokkiri.types import Params, Score


@dataclass(frozen=True)
class HeteroscedasticGaussian:
    """log p(y | μ, s) = -½ ((y - μ) / e^s)² - s - ½ log 2π for an output (μ_1 … μ_T, s_1 … s_T), summed over T targets.

    s, a log standard deviation, is clamped to ±20: past that the squares of gradients overflow in float32.
    Source: Nix and Weigend 1994, "Estimating the mean and variance of the target probability distribution".

    >>> HeteroscedasticGaussian().log_prob(torch.tensor([[0.0, 1.0]]), torch.zeros(1))
    tensor([-1.9189])
    """

    location_scale: ClassVar[bool] = True
    discrete: ClassVar[bool] = False

    def outputs(self, targets: int) -> int:
        """A mean and a log standard deviation of each target."""
        return 2 * targets

    def parameters(self) -> Params:
        """None: the network gives all."""
        return {}

    def bind(self, parameters: Params) -> HeteroscedasticGaussian:
        """Itself."""
        arguments.bound("HeteroscedasticGaussian", (), parameters)
        return self

    def check(self, y: Tensor, outputs: int | None = None) -> None:  # ruff: ignore[unused-method-argument]
        """Raises DataError at the first row that is not finite."""
        arguments.finite("HeteroscedasticGaussian", y)

    def log_prob(self, output: Tensor, y: Tensor) -> Tensor:
        """(B, 2T), (B, T) or (B,) -> (B,) nats."""
        y = arguments.targets("HeteroscedasticGaussian", output, y, per_target=2)
        return _given(output).log_prob(y).sum(-1)

    def score(self, output: Tensor, y: Tensor) -> Score:
        """With z = (y - μ) e^-s: d/dμ = z e^-s, d/ds = z² - 1, 0 where s is clamped."""
        given = _given(output)
        inverse = torch.exp(-given.log_scale)
        z = (arguments.column(y).to(output.dtype) - given.location) * inverse
        square = z * z
        log_prob = (-0.5 * square - given.log_scale - special.HALF_LOG_2PI).sum(-1)
        moves = output.chunk(2, -1)[1].abs() <= LOG_SCALE_LIMIT
        return Score(log_prob, torch.cat([z * inverse, (square - 1) * moves], -1), {})

    def curvature(self, output: Tensor) -> Tensor:
        """diag(e^-2s …, 2 …): means and log standard deviations are orthogonal. 0 for an s that is clamped."""
        s = output.chunk(2, -1)[1]
        moves = (s.abs() <= LOG_SCALE_LIMIT).to(output.dtype)
        return torch.diag_embed(torch.cat([(-2 * _given(output).log_scale).exp(), 2 * moves], -1))

    def predictive(self, outputs: Tensor, weights: Tensor | None = None) -> Mixture:
        """(S, B, 2T) and log weights (S,) -> a mixture of S normals."""
        given = _given(arguments.draws("HeteroscedasticGaussian", outputs, per_target=2))
        return Mixture(given, normalised(weights, len(outputs), outputs))

    def config(self) -> dict[str, Any]:
        """Plain values for `from_config`."""
        return {"name": "HeteroscedasticGaussian"}


def _given(output: Tensor) -> Normal:
    mean, log_sd = output.chunk(2, -1)
    return Normal(mean, log_sd.clamp(-LOG_SCALE_LIMIT, LOG_SCALE_LIMIT))
