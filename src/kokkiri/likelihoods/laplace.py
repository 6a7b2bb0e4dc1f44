"""Double-exponential noise: mean absolute error, normalised. Its mode is the median, which outliers do not move."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from kokkiri.likelihoods import arguments
from kokkiri.numerics.distributions import Laplace as Distribution
from kokkiri.predictive import Mixture, normalised
from kokkiri.types import Params, Score


@dataclass(frozen=True)
class Laplace:
    """log p(y | f) = -|y - f| / b - log 2b, summed over T independent targets.

    scale: b, or where it starts when `learn`ed; in the target's units, one for all targets, within e^±20. The learned
    parameter is log b. The standard deviation is √2 b.

    >>> Laplace(scale=0.5).log_prob(torch.zeros(1, 1), torch.ones(1))
    tensor([-2.])
    """

    location_scale: ClassVar[bool] = True
    discrete: ClassVar[bool] = False

    scale: float = 1.0
    learn: bool = True
    log_scale: Tensor | None = field(default=None, repr=False, compare=False)  # set by `bind`

    def __post_init__(self) -> None:
        arguments.positive("Laplace", "scale", self.scale)

    def outputs(self, targets: int) -> int:
        """The mean of each target."""
        return targets

    def parameters(self) -> Params:
        """The start of log b, unless b is fixed."""
        return {"log_scale": torch.tensor(math.log(self.scale))} if self.learn else {}

    def bind(self, parameters: Params) -> Laplace:
        """The same with this log b: () of one model, or (S,) of S draws for `predictive`."""
        given = arguments.bound("Laplace", ("log_scale",) if self.learn else (), parameters)
        return replace(self, log_scale=given["log_scale"]) if given else self

    def check(self, y: Tensor, outputs: int | None = None) -> None:  # ruff: ignore[unused-method-argument]
        """Raises DataError at the first row that is not finite."""
        arguments.finite("Laplace", y)

    def log_prob(self, output: Tensor, y: Tensor) -> Tensor:
        """(B, T), (B, T) or (B,) -> (B,) nats."""
        return self._given(output).log_prob(arguments.targets("Laplace", output, y)).sum(-1)

    def score(self, output: Tensor, y: Tensor) -> Score:
        """d/df = sign(y - f) / b, d/d log b = |y - f| / b - 1."""
        given = self._given(output)
        inverse = torch.exp(-given.log_scale)
        z = (arguments.column(y).to(output.dtype) - output) * inverse
        size = z.abs()
        log_prob = (-size - (given.log_scale + math.log(2))).sum(-1)
        return Score(log_prob, z.sign() * inverse, {"log_scale": (size - 1).sum(-1)} if self.learn else {})

    def curvature(self, output: Tensor) -> Tensor:
        """I / b²: E[score²]. (The second derivative is 0 but at y = f, where there is none, and tells nothing.)"""
        return torch.diag_embed((-2 * self._given(output).log_scale).exp().expand_as(output))

    def predictive(self, outputs: Tensor, weights: Tensor | None = None) -> Mixture:
        """(S, B, T) and log weights (S,) -> a mixture of S Laplace distributions."""
        given = self._given(arguments.draws("Laplace", outputs))
        return Mixture(given, normalised(weights, len(outputs), outputs))

    def config(self) -> dict[str, Any]:
        """Plain values for `from_config`; what was learned is among the model's params."""
        return {"name": "Laplace", "scale": float(self.scale), "learn": self.learn}

    def _given(self, output: Tensor) -> Distribution:
        return Distribution(output, arguments.learned(self.log_scale, math.log(self.scale), output))
