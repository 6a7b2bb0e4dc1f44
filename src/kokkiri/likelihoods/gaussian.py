"""Normal noise of one standard deviation: mean squared error, normalised."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from kokkiri.likelihoods import arguments
from kokkiri.numerics import special
from kokkiri.numerics.distributions import Normal
from kokkiri.predictive import Mixture, normalised
from kokkiri.types import Params, Score


@dataclass(frozen=True)
class Gaussian:
    """log p(y | f) = -½ ((y - f) / σ)² - log σ - ½ log 2π, summed over T independent targets.

    scale: σ, or where it starts when `learn`ed; in the target's units, one for all targets, within e^±20. The learned
    parameter is log σ. With σ fixed, maximum likelihood is least squares: -log p = squared error / 2σ² + const.

    >>> likelihood = Gaussian(scale=0.5)
    >>> likelihood.log_prob(torch.zeros(1, 1), torch.zeros(1))
    tensor([-0.2258])
    >>> likelihood.parameters()
    {'log_scale': tensor(-0.6931)}
    """

    location_scale: ClassVar[bool] = True
    discrete: ClassVar[bool] = False

    scale: float = 1.0
    learn: bool = True
    log_scale: Tensor | None = field(default=None, repr=False, compare=False)  # set by `bind`

    def __post_init__(self) -> None:
        arguments.positive("Gaussian", "scale", self.scale)

    def outputs(self, targets: int) -> int:
        """The mean of each target."""
        return targets

    def parameters(self) -> Params:
        """The start of log σ, unless σ is fixed."""
        return {"log_scale": torch.tensor(math.log(self.scale))} if self.learn else {}

    def bind(self, parameters: Params) -> Gaussian:
        """The same with this log σ: () of one model, or (S,) of S draws for `predictive`."""
        given = arguments.bound("Gaussian", ("log_scale",) if self.learn else (), parameters)
        return replace(self, log_scale=given["log_scale"]) if given else self

    def check(self, y: Tensor, outputs: int | None = None) -> None:  # ruff: ignore[unused-method-argument]
        """Raises DataError at the first row that is not finite."""
        arguments.finite("Gaussian", y)

    def log_prob(self, output: Tensor, y: Tensor) -> Tensor:
        """(B, T), (B, T) or (B,) -> (B,) nats."""
        return self._given(output).log_prob(arguments.targets("Gaussian", output, y)).sum(-1)

    def score(self, output: Tensor, y: Tensor) -> Score:
        """With z = (y - f) / σ: d/df = z / σ, d/d log σ = z² - 1."""
        given = self._given(output)
        inverse = torch.exp(-given.log_scale)
        z = (arguments.column(y).to(output.dtype) - output) * inverse
        square = z * z
        log_prob = (-0.5 * square - (given.log_scale + special.HALF_LOG_2PI)).sum(-1)
        return Score(log_prob, z * inverse, {"log_scale": (square - 1).sum(-1)} if self.learn else {})

    def curvature(self, output: Tensor) -> Tensor:
        """I / σ², the Hessian everywhere."""
        return torch.diag_embed((-2 * self._given(output).log_scale).exp().expand_as(output))

    def predictive(self, outputs: Tensor, weights: Tensor | None = None) -> Mixture:
        """(S, B, T) and log weights (S,) -> a mixture of S normals."""
        given = self._given(arguments.draws("Gaussian", outputs))
        return Mixture(given, normalised(weights, len(outputs), outputs))

    def marginal(self, outputs: Tensor, variance: Tensor, weights: Tensor | None = None) -> Mixture:
        """The predictive where draw s of the output is itself N(outputs, variance), (S, B, T) each: N(f, σ² + v)."""
        given = self._given(arguments.draws("Gaussian", outputs))
        noise = (2 * given.log_scale).exp().expand_as(given.location)
        total = Normal(given.location, 0.5 * (noise + variance.double()).log())
        return Mixture(total, normalised(weights, len(outputs), outputs), within=variance.double())

    def config(self) -> dict[str, Any]:
        """Plain values for `from_config`; what was learned is among the model's params."""
        return {"name": "Gaussian", "scale": float(self.scale), "learn": self.learn}

    def _given(self, output: Tensor) -> Normal:
        return Normal(output, arguments.learned(self.log_scale, math.log(self.scale), output))
