"""Counts that vary more than a Poisson's."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from kokkiri.likelihoods import arguments
from kokkiri.numerics import distributions
from kokkiri.numerics.distributions import LOG_RATE_HIGHEST, LOG_RATE_LOWEST
from kokkiri.predictive import Mixture, normalised
from kokkiri.types import Params


@dataclass(frozen=True)
class NegativeBinomial:
    """log p(y | f) = log Γ(y+r) - log Γ(r) - log y! + r log(r / (r+μ)) + y log(μ / (r+μ)) with μ = e^f and r = 1/α.

    Summed over T independent targets. dispersion: α, or where it starts when `learn`ed: the variance is μ + α μ², a
    Poisson's as α -> 0. The learned parameter is log α, within ±20; f is clamped to [-80, 30] as in Poisson.
    Source: Cameron and Trivedi 1986, "Econometric models based on count data", the model they call Negbin II.

    >>> NegativeBinomial().log_prob(torch.zeros(2, 1), torch.tensor([0, 1]))  # geometric: ½, ¼, …
    tensor([-0.6931, -1.3863])
    """

    location_scale: ClassVar[bool] = False
    discrete: ClassVar[bool] = True

    dispersion: float = 1.0
    learn: bool = True
    log_dispersion: Tensor | None = field(default=None, repr=False, compare=False)  # set by `bind`

    def __post_init__(self) -> None:
        arguments.positive("NegativeBinomial", "dispersion", self.dispersion)

    def outputs(self, targets: int) -> int:
        """The log mean of each target."""
        return targets

    def parameters(self) -> Params:
        """The start of log α, unless α is fixed."""
        return {"log_dispersion": torch.tensor(math.log(self.dispersion))} if self.learn else {}

    def bind(self, parameters: Params) -> NegativeBinomial:
        """The same with this log α: () of one model, or (S,) of S draws for `predictive`."""
        given = arguments.bound("NegativeBinomial", ("log_dispersion",) if self.learn else (), parameters)
        return replace(self, log_dispersion=given["log_dispersion"]) if given else self

    def check(self, y: Tensor, outputs: int | None = None) -> None:  # ruff: ignore[unused-method-argument]
        """Raises DataError at the first row that is not a whole number >= 0."""
        arguments.counts("NegativeBinomial", y)

    def log_prob(self, output: Tensor, y: Tensor) -> Tensor:
        """(B, T), (B, T) or (B,) -> (B,) nats."""
        return self._given(output).log_prob(arguments.targets("NegativeBinomial", output, y)).sum(-1)

    def curvature(self, output: Tensor) -> Tensor:
        """diag(μ / (1 + αμ)), expected: the second derivative itself depends on y. 0 for an f that is clamped."""
        given = self._given(output)
        moves = (output >= LOG_RATE_LOWEST) & (output <= LOG_RATE_HIGHEST)
        return torch.diag_embed(torch.where(moves, 1 / (torch.exp(-given.log_mean) + given.log_dispersion.exp()), 0.0))

    def predictive(self, outputs: Tensor, weights: Tensor | None = None) -> Mixture:
        """(S, B, T) and log weights (S,) -> a mixture of S negative binomial distributions."""
        given = self._given(arguments.draws("NegativeBinomial", outputs))
        return Mixture(given, normalised(weights, len(outputs), outputs))

    def config(self) -> dict[str, Any]:
        """Plain values for `from_config`; what was learned is among the model's params."""
        return {"name": "NegativeBinomial", "dispersion": float(self.dispersion), "learn": self.learn}

    def _given(self, output: Tensor) -> distributions.NegativeBinomial:
        log_mean = output.clamp(LOG_RATE_LOWEST, LOG_RATE_HIGHEST)
        return distributions.NegativeBinomial(
            log_mean, arguments.learned(self.log_dispersion, math.log(self.dispersion), output)
        )
