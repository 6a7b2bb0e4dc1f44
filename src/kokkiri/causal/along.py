"""How an effect changes along a column of numbers: the best curve through the rows' corrected differences."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from kokkiri.causal.quantities import Curve
from kokkiri.errors import DataError
from kokkiri.numerics.dose import knots_of
from kokkiri.numerics.effects import Nuisances
from kokkiri.numerics.projection import projected, pseudo_outcomes, spline

if TYPE_CHECKING:
    from kokkiri.causal.effect import Effect

PLACES, KNOTS, DRAWS = 41, 4, 2000


def along(nuisances: Nuisances, x: Tensor, name: str, level: int, versus: int, seed: int) -> Curve:
    """The effect of level against versus as a natural spline of x (n,), from its 2.5 to its 97.5 % quantile."""
    knots = knots_of(x, KNOTS)
    if len(knots) < 2:
        raise DataError(f"'{name}' hardly varies", needs="values that differ", found=f"{len(x.unique())} of them",
                        fix="another column")  # fmt: skip
    weights = projected(pseudo_outcomes(nuisances, level, versus), spline(x, knots), DRAWS, seed, ridge=1e-9)
    values = torch.linspace(float(knots[0]), float(knots[-1]), PLACES, dtype=torch.float64)
    return Curve(values, weights @ spline(values, knots).T)


def along_of(effect: Effect) -> tuple[str, Curve] | None:
    """The curve of the two levels that the effect compares now."""
    origin: Any = effect.origin
    name = origin.reader.asked.along
    return name, along(effect.nuisances, origin.block.by, name, effect.level, effect.versus, origin.reader.asked.seed)
