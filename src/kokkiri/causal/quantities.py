"""What effects are made of: numbers with their posteriors, groups, curves, and the rows behind them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from kokkiri.exact.distributions import StudentT
from kokkiri.exact.intervals import drawn_interval, must_be_level


@dataclass(frozen=True, eq=False)
class Quantity:
    """What is believed of one number: (S,) draws of it; its law where there is a closed form, or at least its mean.

    moments: whether it has a mean at all; a ratio of normals has none, and its `centre` is the median.

    >>> import torch
    >>> quantity = Quantity(torch.linspace(-1, 3, 4001, dtype=torch.float64))
    >>> round(quantity.mean, 3), round(quantity.probability(above=0.0), 2), [round(v, 2) for v in quantity.interval()]
    (1.0, 0.75, [-0.9, 2.9])
    """

    draws: Tensor
    law: StudentT | None = None
    known_mean: float | None = None
    moments: bool = True

    @property
    def mean(self) -> float:
        """The posterior mean; nan where there is none."""
        if not self.moments:
            return math.nan
        if self.law is not None:
            return float(self.law.mean)
        return float(self.draws.mean()) if self.known_mean is None else self.known_mean

    @property
    def median(self) -> float:
        """Half of the posterior lies on either side."""
        return float(self.law.location) if self.law is not None else float(self.draws.median())

    @property
    def centre(self) -> float:
        """The mean, or the median where there is no mean."""
        return self.mean if self.moments else self.median

    @property
    def sd(self) -> float:
        """The posterior standard deviation; nan where there is none."""
        if not self.moments:
            return math.nan
        return float(self.law.sd) if self.law is not None else float(self.draws.std())

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """The central interval."""
        must_be_level(level)
        if self.law is not None:
            low, high = self.law.interval(level)
            return float(low), float(high)
        found = drawn_interval(self.draws, 0.0, level)
        return found.low, found.high

    def error(self, level: float = 0.95) -> float:
        """The Monte Carlo standard error of the interval's ends; 0 for a closed form."""
        return 0.0 if self.law is not None else drawn_interval(self.draws, 0.0, level).error

    def probability(self, above: float = 0.0) -> float:
        """P(the number > above)."""
        if self.law is not None:
            return float(self.law.survival(above))
        return float((self.draws > above).double().mean())


class Law(NamedTuple):
    """K numbers whose differences are Student t: location (K,), scale² (K, K), degrees of freedom."""

    location: Tensor
    scale: Tensor
    df: Tensor

    def contrast(self, i: int, j: int) -> StudentT:
        """The law of number i less number j."""
        square = self.scale[i, i] + self.scale[j, j] - 2 * self.scale[i, j]
        return StudentT(self.location[i] - self.location[j], square.clamp(min=1e-300).sqrt(), self.df)


class Group(NamedTuple):
    """The effect among rows with one value of a column: E[Y(k)] in (S, K) draws, E[Y | t = k] in others, the share of
    the rows.
    """

    column: str
    value: str
    share: float
    means: Tensor
    seen: Tensor
    law: Law | None = None


class Curve(NamedTuple):
    """Dose and response: E[Y(t)] in (S, V) draws at V values of the treatment, and E[Y | t] beside it, if known."""

    values: Tensor
    means: Tensor
    seen: Tensor | None = None


class Sample(NamedTuple):
    """The rows an effect comes from, in any order. t: (n,) number of the level (or the value of a treatment without
    levels); y: (n,); x: (n, p) what was adjusted for, encoded, with names; z: (n, q) instruments, if there are any.
    """

    t: Tensor
    y: Tensor
    x: Tensor
    names: tuple[str, ...]
    z: Tensor | None = None
