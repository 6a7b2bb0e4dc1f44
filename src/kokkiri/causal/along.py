"""How an effect changes along a column of numbers: the best curve through the rows' corrected differences."""

from __future__ import annotations

import torch

from kokkiri.causal.quantities import Curve
from kokkiri.causal.variables import Variable
from kokkiri.errors import DataError
from kokkiri.numerics.dose import knots_of
from kokkiri.numerics.effects import Nuisances
from kokkiri.numerics.projection import projected, pseudo_outcomes, spline

PLACES, KNOTS, DRAWS = 41, 4, 2000


def along(nuisances: Nuisances, variable: Variable, level: int, versus: int, seed: int) -> Curve:
    """The effect of level against versus as a natural spline of the column, from its 2.5 to its 97.5 % quantile."""
    if not variable.numeric or bool(variable.missing.any()):
        raise DataError(
            f"there is no curve along '{variable.name}'", needs="a column of numbers, without gaps",
            found=variable.column.reason, fix=f"group:{variable.name} for groups",
        )  # fmt: skip
    x = variable.cells.to(torch.float64)
    knots = knots_of(x, KNOTS)
    if len(knots) < 2:
        raise DataError(f"'{variable.name}' hardly varies", needs="values that differ", found=variable.column.reason,
                        fix="another column")  # fmt: skip
    weights = projected(pseudo_outcomes(nuisances, level, versus), spline(x, knots), DRAWS, seed, ridge=1e-9)
    values = torch.linspace(float(knots[0]), float(knots[-1]), PLACES, dtype=torch.float64)
    return Curve(values, weights @ spline(values, knots).T)
