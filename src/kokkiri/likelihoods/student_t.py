"""Student's t noise: normal in the middle, with tails that forgive outliers."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from kokkiri.likelihoods import arguments
from kokkiri.numerics import distributions
from kokkiri.predictive import Mixture, normalised
from kokkiri.types import Params, Score


@dataclass(frozen=True)
class StudentT:
    """log p(y | f) = log Γ((ν+1)/2) - log Γ(ν/2) - ½ log νπσ² - (ν+1)/2 log(1 + z²/ν) with z = (y - f) / σ.

    Summed over T independent targets. scale: σ, df: ν > 1, so that the mean exists; or where they start when `learn`ed.
    The learned parameters are log σ and log(ν - 1), the latter within [-10, 20]. The variance is σ² ν / (ν - 2), and
    infinite for ν <= 2: then `variance` and `aleatoric` of a prediction are ∞, while its mean, quantiles and intervals
    are what they should be.
    Source: Lange, Little and Taylor 1989, "Robust statistical modeling using the t distribution".

    >>> StudentT(df=3.0).log_prob(torch.zeros(1, 1), torch.zeros(1))
    tensor([-1.0009])
    """

    location_scale: ClassVar[bool] = True
    discrete: ClassVar[bool] = False

    scale: float = 1.0
    df: float = 4.0
    learn: bool = True
    log_scale: Tensor | None = field(default=None, repr=False, compare=False)  # set by `bind`
    log_excess_df: Tensor | None = field(default=None, repr=False, compare=False)  # set by `bind`

    def __post_init__(self) -> None:
        arguments.positive("StudentT", "scale", self.scale)
        arguments.positive("StudentT", "df", self.df, above=1.0)

    def outputs(self, targets: int) -> int:
        """The centre of each target."""
        return targets

    def parameters(self) -> Params:
        """The starts of log σ and log(ν - 1), unless they are fixed."""
        if not self.learn:
            return {}
        return {
            "log_scale": torch.tensor(math.log(self.scale)),
            "log_excess_df": torch.tensor(math.log(self.df - 1)),
        }

    def bind(self, parameters: Params) -> StudentT:
        """The same with these parameters: () each of one model, or (S,) of S draws for `predictive`."""
        given = arguments.bound("StudentT", ("log_scale", "log_excess_df") if self.learn else (), parameters)
        return replace(self, **given) if given else self

    def check(self, y: Tensor, outputs: int | None = None) -> None:  # ruff: ignore[unused-method-argument]
        """Raises DataError at the first row that is not finite."""
        arguments.finite("StudentT", y)

    def log_prob(self, output: Tensor, y: Tensor) -> Tensor:
        """(B, T), (B, T) or (B,) -> (B,) nats."""
        return self._given(output).log_prob(arguments.targets("StudentT", output, y)).sum(-1)

    def score(self, output: Tensor, y: Tensor) -> Score:
        """See `distributions.StudentT.slopes`."""
        log_prob, centre, scale, excess = self._given(output).slopes(arguments.column(y))
        slopes = {"log_scale": scale.sum(-1), "log_excess_df": excess.sum(-1)} if self.learn else {}
        return Score(log_prob.sum(-1), centre, slopes)

    def curvature(self, output: Tensor) -> Tensor:
        """I (ν+1) / ((ν+3) σ²), expected: the second derivative itself is negative for outliers (Lange et al. 1989)."""
        given = self._given(output)
        information = (given.df + 1) / (given.df + 3) * (-2 * given.log_scale).exp()
        return torch.diag_embed(information.expand_as(output))

    def predictive(self, outputs: Tensor, weights: Tensor | None = None) -> Mixture:
        """(S, B, T) and log weights (S,) -> a mixture of S t distributions."""
        given = self._given(arguments.draws("StudentT", outputs))
        return Mixture(given, normalised(weights, len(outputs), outputs))

    def config(self) -> dict[str, Any]:
        """Plain values for `from_config`; what was learned is among the model's params."""
        return {"name": "StudentT", "scale": float(self.scale), "df": float(self.df), "learn": self.learn}

    def _given(self, output: Tensor) -> distributions.StudentT:
        return distributions.StudentT(
            output,
            arguments.learned(self.log_scale, math.log(self.scale), output),
            arguments.learned(self.log_excess_df, math.log(self.df - 1), output, distributions.LOG_EXCESS_LOWEST),
        )
