"""A prior under which few weights matter: Cauchy on those that see the inputs, normal on the others."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from kokkiri.errors import UsageError
from kokkiri.priors.normal import LIKELIHOOD_SD
from kokkiri.types import LIKELIHOOD_PREFIX, Params


@dataclass(frozen=True)
class Cauchy:
    """log p(θ) = Σ_i -log(π s_i) - log(1 + (θ_i / s_i)²) for weights with a scale s, N(0, 1 / precision) for the rest.

    scales: pairs of a group and its scale; a group is a parameter's name, or what it begins with up to a dot. Biases
    have N(0, `spread`²).

    Most of a Cauchy density lies near 0, and its tails are so heavy that a weight which matters is hardly pulled: the
    mode is sparse, as under automatic relevance determination with the relevances integrated out (Tipping 2001, "Sparse
    Bayesian learning and the relevance vector machine", eq. 32). So a network of twenty inputs of which three matter
    learns nearly as fast as one of three.

    >>> prior = Cauchy((("hidden.0.weight", 0.1),))
    >>> prior.log_prob({"hidden.0.weight": torch.zeros(1, 1)}, prior.hyperparameters())  # -log(π / 10)
    tensor(1.1579, dtype=torch.float64)
    """

    elementwise: ClassVar[bool] = False

    scales: tuple[tuple[str, float], ...]
    precision: float = 1.0
    spread: float = 10.0

    def __post_init__(self) -> None:
        """Refuses what is no scale."""
        wrong = [s for s in (*(s for _, s in self.scales), self.precision, self.spread) if not 0 < s < math.inf]
        if wrong or not self.scales:
            raise UsageError(
                f"Cauchy got {wrong[0]!r}" if wrong else "Cauchy got no scales",
                needs="finite numbers > 0, and a scale for one group at least",
                found=repr(self.scales),
                fix="Cauchy((('hidden.0.weight', 0.1),))",
            )

    def hyperparameters(self) -> dict[str, Tensor]:
        """The precision of the normal part, and what all scales are multiplied by."""
        return {
            "precision": torch.tensor(self.precision, dtype=torch.float64),
            "scale": torch.ones((), dtype=torch.float64),
        }

    def scale_of(self, name: str) -> float | None:
        """The scale of a parameter, by the longest group that fits; None for what is normal."""
        fits = [(g, s) for g, s in self.scales if name == g or name.startswith(g + ".")]
        return max(fits, key=lambda pair: len(pair[0]))[1] if fits else None

    def log_prob(self, params: Params, hyper: dict[str, Any]) -> Tensor:
        """() nats."""
        total = torch.zeros((), dtype=torch.float64)
        for name, t in params.items():
            scale = self.scale_of(name)
            if scale is not None:
                s = torch.as_tensor(scale * hyper["scale"], dtype=torch.float64)
                total = total - t.numel() * (math.pi * s).log() - torch.log1p((t / s).square()).sum()
            else:
                precision = torch.as_tensor(self._precision(name, hyper), dtype=torch.float64)
                size = t.numel() * (precision.log() - math.log(2 * math.pi))
                total = total + 0.5 * (size - precision * t.square().sum())
        return total

    def gradient(self, params: Params, hyper: dict[str, Any]) -> Params:
        """-2θ / (s² + θ²), and -λθ; hyperparameters are numbers, or one a replica."""
        out = {}
        for name, t in params.items():
            scale = self.scale_of(name)
            if scale is None:
                out[name] = -_along(self._precision(name, hyper), t) * t
            else:
                s = _along(scale * hyper["scale"], t)
                out[name] = -2 * t / (s * s + t * t)
        return out

    def precision_at(self, params: Params, hyper: dict[str, Any]) -> Params:
        """-d² log p / dθ², entry by entry; where a Cauchy density is not concave, its slope's secant, 2 / (s² + θ²)."""
        out = {}
        for name, t in params.items():
            scale = self.scale_of(name)
            if scale is None:
                out[name] = torch.ones_like(t) * _along(self._precision(name, hyper), t)
            else:
                s = _along(scale * hyper["scale"], t)
                out[name] = 2 / (s * s + t * t)
        return out

    def config(self) -> dict[str, Any]:
        """Plain values for `from_config`."""
        return {
            "name": "Cauchy",
            "scales": [[g, float(s)] for g, s in self.scales],
            "precision": float(self.precision),
            "spread": float(self.spread),
        }

    def _precision(self, name: str, hyper: dict[str, Any]) -> Any:
        if name.startswith(LIKELIHOOD_PREFIX):
            return LIKELIHOOD_SD**-2
        return self.spread**-2 if name.rpartition(".")[2] == "bias" else hyper["precision"]


def _along(value: Any, t: Tensor) -> Any:
    """A number for each replica, (R,) or (R, 1), as it meets (R, ...)."""
    if not isinstance(value, Tensor) or value.ndim == 0:
        return value
    return value.reshape(len(value), *[1] * (t.ndim - 1)).to(t.dtype)
