"""A likelihood of a standardised target, in the units of the target itself."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from kokkiri.errors import ShapeError, Unsupported, UsageError
from kokkiri.predictive import Mixture
from kokkiri.types import Params, Score


@dataclass(frozen=True)
class Rescaled:
    """y = shift + scale · z with z ~ inner: log p(y | f) = log p_inner((y - shift) / scale | f) - sum_t log scale_t.

    The network works on z, which is of order one, and likelihoods are compared in the units of y. z is computed in
    float64: a target near 10⁹ with a spread of 10⁻³ has no digits left in float32.
    inner: a `types.Likelihood` of values whose predictive is a `Mixture`. shift, scale: floats, or one a target.

    >>> from kokkiri.likelihoods import Gaussian
    >>> metres = Rescaled(Gaussian(), shift=100.0, scale=2.0)
    >>> metres.log_prob(torch.zeros(1, 1), torch.tensor([100.0]))  # Gaussian()'s -0.9189 - log 2
    tensor([-1.6121])
    >>> metres.predictive(torch.zeros(1, 1, 1)).mean
    tensor([100.], dtype=torch.float64)
    """

    location_scale: ClassVar[bool] = True
    discrete: ClassVar[bool] = False

    inner: Any
    shift: float | tuple[float, ...] = 0.0
    scale: float | tuple[float, ...] = 1.0

    def __post_init__(self) -> None:
        if not self.inner.location_scale:
            raise Unsupported(
                f"{self.inner!r} cannot be rescaled",
                needs="a likelihood of values",
                found="one of counts or classes",
                fix="leave the target as it is",
            )
        wrong = [s for s in _each(self.scale) if not 0 < s < math.inf]
        wrong += [s for s in _each(self.shift) if not math.isfinite(s)]
        if wrong or not _each(self.scale) or not _each(self.shift):
            raise UsageError(
                f"Rescaled got shift={self.shift!r}, scale={self.scale!r}",
                needs="finite shifts, scales > 0",
                found=", ".join(map(str, wrong)) or "an empty tuple",
                fix="mean and standard deviation of the target, 1 where it is constant",
            )

    def outputs(self, targets: int) -> int:
        """As the inner one's."""
        return self.inner.outputs(targets)

    def parameters(self) -> Params:
        """The inner one's: a noise scale in units of `scale`."""
        return self.inner.parameters()

    def bind(self, parameters: Params) -> Rescaled:
        """Binds the inner one."""
        return replace(self, inner=self.inner.bind(parameters))

    def check(self, y: Tensor, outputs: int | None = None) -> None:
        """As the inner one's."""
        self.inner.check(y, outputs)

    def log_prob(self, output: Tensor, y: Tensor) -> Tensor:
        """(B, C), (B, T) or (B,) -> (B,) nats, densities in the units of y."""
        shift, scale = (self._aligned(v, y) for v in (self.shift, self.scale))
        return self.inner.log_prob(output, (y.double() - shift) / scale) - self._log_volume(y)

    def score(self, output: Tensor, y: Tensor) -> Score | None:
        """The inner one's, of z; None where it has none."""
        if not hasattr(self.inner, "score"):
            return None
        shift, scale = (self._aligned(v, y) for v in (self.shift, self.scale))
        found = self.inner.score(output, (y.double() - shift) / scale)
        return Score(found.log_prob - self._log_volume(y), found.output, found.parameters)

    def curvature(self, output: Tensor) -> Tensor:
        """The inner one's: it is with respect to the output, which has no units."""
        return self.inner.curvature(output)

    def predictive(self, outputs: Tensor, weights: Tensor | None = None) -> Mixture:
        """In the units of y."""
        return self._in_units(self.inner.predictive(outputs, weights), outputs)

    def marginal(self, outputs: Tensor, variance: Tensor, weights: Tensor | None = None) -> Mixture | None:
        """The inner one's, in the units of y; None where it has none."""
        if not hasattr(self.inner, "marginal"):
            return None
        return self._in_units(self.inner.marginal(outputs, variance, weights), outputs)

    def _in_units(self, mixture: Mixture, outputs: Tensor) -> Mixture:
        tensor = lambda v: torch.tensor(v, dtype=torch.float64, device=outputs.device)
        return mixture.rescaled(tensor(self.shift), tensor(self.scale))

    def config(self) -> dict[str, Any]:
        """Plain values for `from_config`."""
        plain = lambda v: list(v) if isinstance(v, tuple) else float(v)
        return {
            "name": "Rescaled",
            "inner": self.inner.config(),
            "shift": plain(self.shift),
            "scale": plain(self.scale),
        }

    def _log_volume(self, y: Tensor) -> float:
        spread = _each(self.scale)
        return sum(math.log(s) for s in spread) * (y.shape[1] if y.ndim == 2 and len(spread) == 1 else 1)

    def _aligned(self, value: float | tuple[float, ...], y: Tensor) -> Tensor | float:
        if not isinstance(value, tuple):
            return value
        if len(value) != (y.shape[1] if y.ndim == 2 else 1):
            raise ShapeError(
                f"Rescaled.log_prob got y {tuple(y.shape)}",
                needs=f"y (B, {len(value)}): one column a shift and scale",
                found=f"{y.shape[1] if y.ndim == 2 else 1} of them",
                fix="give one shift and scale a target, or a single float for all",
            )
        return torch.tensor(value, dtype=torch.float64, device=y.device)


def _each(value: float | tuple[float, ...]) -> tuple[float, ...]:
    return value if isinstance(value, tuple) else (value,)
