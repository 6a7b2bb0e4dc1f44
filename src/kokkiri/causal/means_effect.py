"""Effects of treatments that were drawn by lot, on outcomes that are numbers: means of levels, nothing else.

Each level has a normal outcome with a mean and a variance of its own, both unknown: the posterior of a mean under the
reference prior is Student t (Behrens & Fisher's problem in Bayesian form: Jeffreys 1940; Gelman et al. 2013, "Bayesian
data analysis", sect. 3.2), and of a difference that of draws. With many rows it holds for outcomes of any shape.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from kokkiri.causal.asked import Asked, must_be_new
from kokkiri.causal.design import worth_of
from kokkiri.causal.effect import Effect
from kokkiri.causal.quantities import Sample
from kokkiri.causal.settings import levels_of, settings_of
from kokkiri.causal.variables import Columns, Rows
from kokkiri.data.columns import Column, Kind
from kokkiri.errors import DataError
from kokkiri.numerics.random import philox
from kokkiri.phrases import count

DRAWS = 2**17


@dataclass(frozen=True, eq=False)
class MeansOrigin:
    """Counts, sums and sums of squares of y less `centre`, (3, K), with the question."""

    asked: Asked
    columns: tuple[Column, ...]
    levels: tuple[str, ...]
    sums: Tensor
    centre: float
    sources: tuple[str, ...]

    def more(self, effect: Effect, new: Any, *, force: bool = False) -> Effect:
        """The effect from the old sums and the new ones; a level that is new has sums of its own."""
        columns = Columns(new, kinds={c.name: c.kind for c in self.columns if c.kind is not Kind.IDENTIFIER})
        must_be_new(self.sources, columns, force=force)
        for c in self.columns:
            columns.must_have(c.name, "one of the variables of the effect")
        rows = columns.rows([c.name for c in self.columns]).with_values([c.name for c in self.columns])
        names, t = levels_of(self.asked, rows)
        y = worth_of(rows.variables[self.asked.outcome], self.columns[-1], self.asked.event)
        every = (*self.levels, *(n for n in names if n not in self.levels))
        place = torch.tensor([every.index(n) for n in names])
        sums = torch.nn.functional.pad(self.sums, (0, len(every) - len(self.levels)))
        sums = sums + sums_of(place[t], y - self.centre, len(every))
        origin = replace(self, levels=every, sums=sums, sources=(*self.sources, columns.digest))
        found = computed(origin, effect.level, effect.versus)
        old, empty = effect.sample, torch.empty(effect.rows + len(t), 0, dtype=torch.float64)
        sample = None
        if old is not None:
            sample = Sample(torch.cat([old.t, place[t]]), torch.cat([old.y, y]), empty, ())
        return replace(found, sample=sample, warnings=(*rows.lost, *found.warnings))


def sums_of(t: Tensor, y: Tensor, levels: int) -> Tensor:
    """(3, K) of rows t, y."""
    had = torch.nn.functional.one_hot(t, levels).double()
    return torch.stack([had.sum(0), y @ had, y.square() @ had])


def means(asked: Asked, rows: Rows) -> Effect:
    """The posterior of the effect where nothing is adjusted for."""
    levels, t, level, versus = settings_of(asked, rows)
    outcome = rows.variables[asked.outcome]
    y = worth_of(outcome, outcome.column, asked.event)
    centre = float(y.mean())
    columns = tuple(rows.variables[n].column for n in (*asked.treatments, asked.outcome))
    origin = MeansOrigin(asked, columns, levels, sums_of(t, y - centre, len(levels)), centre, (rows.digest,))
    found = computed(origin, level, versus)
    sample = Sample(t, y, torch.empty(len(t), 0, dtype=torch.float64), ())
    return replace(found, sample=sample, notes=rows.notes)


def computed(origin: MeansOrigin, level: int, versus: int) -> Effect:
    """The effect of some sums."""
    asked, (n, total, square) = origin.asked, origin.sums
    for k in (level, versus):
        if n[k] < 2:
            raise DataError(f"there are too few rows with {origin.levels[k]}", needs="two of each level",
                            found=f"{n[k]:g}", fix="more rows, or levels that are joined")  # fmt: skip
    mean = total / n
    rng = philox(asked.seed, "means of levels")
    drawn = []
    for k in range(len(n)):
        df = max(float(n[k]) - 1, 1.0)  # a level of one row is drawn, and compared with nothing
        spread = ((square[k] - n[k] * mean[k].square()).clamp(min=0) / df / n[k]).sqrt()
        drawn.append(mean[k] + spread * torch.from_numpy(rng.standard_t(df, DRAWS)))
    found = torch.stack(drawn, 1) + origin.centre
    away = (square - n * mean.square()).clamp(min=0)
    alike = [k for k in (level, versus) if float(away[k]) <= 1e-12 * float(away.sum())]
    warnings = [f"all {count(int(n[k]), 'row')} with {origin.levels[k]} have the same {asked.outcome}: their mean is "
                "taken for known, and the interval is too narrow" for k in alike]  # fmt: skip
    rows = round(float(n.sum()))
    return Effect(
        treatments=asked.treatments, outcome=asked.outcome, event=asked.event, levels=origin.levels, level=level,
        versus=versus, means=found, seen=found, method="means",
        exact=f"exact for normal outcomes with a variance for each level: Student t, flat prior, {DRAWS:,} draws",
        rows=rows, whom=asked.whom, estimand=asked.estimand, origin=origin, exact_means=mean + origin.centre,
        exact_seen=mean + origin.centre, moments=bool(n[level] > 2 and n[versus] > 2),
        warnings=tuple(warnings), facts={"rows": rows, "seed": asked.seed},
    )  # fmt: skip
