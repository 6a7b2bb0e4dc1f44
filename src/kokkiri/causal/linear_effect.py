"""Effects in a linear model, in closed form: y = a + τ t + γᵀx + noise, all of whose posterior is Student t.

The noise is normal with one variance for all rows, the prior flat (p ∝ 1/σ²), so that intervals are those of least
squares. What the effect is right about is what adjustment for x is right about, if the mean of y is this line. Sums of
squares are all that is kept of the rows; new rows are added to them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from kokkiri.causal import straight
from kokkiri.causal.asked import Asked, Value, must_be_new
from kokkiri.causal.design import Design, beyond, chosen, design_of, label
from kokkiri.causal.effect import Effect
from kokkiri.causal.quantities import Curve, Group, Law, Sample
from kokkiri.causal.variables import Columns, Rows
from kokkiri.data.columns import Kind
from kokkiri.errors import DataError, Unsupported
from kokkiri.numerics.random import philox
from kokkiri.numerics.regressions import Regression, mean_draws, regression
from kokkiri.phrases import count

DRAWS, NUMBERS = 2**16, 2**24
CURVE = 41, 4096  # places, draws
LEAST = 3  # degrees of freedom: with fewer, a Student t has no variance, and the effect no standard deviation


@dataclass(frozen=True, eq=False)
class LinearOrigin:
    """Sums of squares with the question. pair: the settings that are compared."""

    asked: Asked
    design: Design
    gram: Tensor
    pair: tuple[tuple[Value, ...], tuple[Value, ...]]
    adjust: tuple[str, ...]
    sources: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def more(self, effect: Effect, new: Any, *, force: bool = False) -> Effect:
        """The effect from the old sums and the new ones."""
        matrix, rows, sha256 = matrix_of_new(self.design, self.asked, self.sources, new, force=force)
        origin = replace(self, gram=self.gram + matrix.mT @ matrix, sources=(*self.sources, sha256), notes=rows.notes)
        found = computed(origin, joined(effect.sample, sample_of(self.design, matrix, self.adjust)))
        found = replace(found, warnings=(*rows.lost, *found.warnings))
        if found.levels == effect.levels:
            return replace(found, level=effect.level, versus=effect.versus)
        return found


def matrix_of_new(
    design: Design, asked: Asked, sources: tuple[str, ...], new: Any, *, force: bool
) -> tuple[Tensor, Rows, str]:
    """New rows as the matrix of an old design."""
    known = {c.name: c for c in (*design.covariates.columns, *design.instruments.columns, design.outcome,
                                 *(t.column for t in design.treatments))}  # fmt: skip
    columns = Columns(new, kinds={n: c.kind for n, c in known.items() if c.kind is not Kind.IDENTIFIER})
    must_be_new(sources, columns, force=force)
    for name in known:
        columns.must_have(name, "one of the variables of the effect")
    rows = columns.rows(tuple(known)).with_values((*asked.treatments, asked.outcome))
    return design.of(rows), rows, columns.digest


def linear(asked: Asked, rows: Rows, adjust: Sequence[str]) -> Effect:
    """The posterior of the effect in a linear model with these covariates."""
    extra = asked.conditional.adjustment if asked.conditional is not None else ()
    every = tuple(dict.fromkeys((*adjust, *asked.interact, *extra, *asked.given)))
    asked = replace(asked, interact=tuple(dict.fromkeys((*asked.interact, *asked.given))))
    design, matrix = design_of(asked, rows, every)
    pair = chosen(asked, rows, design.treatments)
    origin = LinearOrigin(asked, design, matrix.mT @ matrix, pair, tuple(adjust), (rows.digest,), rows.notes)
    return computed(origin, sample_of(design, matrix, adjust))


def computed(origin: LinearOrigin, sample: Sample | None) -> Effect:
    """The effect of some sums."""
    asked, design, gram, places = origin.asked, origin.design, origin.gram, origin.design.places
    model = _Model(origin, own_interactions(origin))
    found = model.fit
    _must_be_enough(found)
    names, settings = asked.treatments, _settings(origin)
    levels = tuple(label(names, s) for s in settings)
    level, versus = (levels.index(label(names, side)) for side in origin.pair)
    _must_be_estimable(origin, found, model.features(settings), level, versus, levels)
    rng = philox(asked.seed, "linear effect")
    n = max(1000, min(DRAWS, NUMBERS // len(found.weights)))
    weights = found.draw(n, rng)
    whose = model.whose(level, versus)
    averages = mean_draws(gram, model.averaged, whose, n, rng)
    means = model.levels(weights, settings, averages) + design.centre
    plain = regression(gram, [0, *places["t"]], places["y"][0])
    t = torch.stack([torch.cat([torch.ones(1, dtype=torch.float64), design.setting(s)]) for s in settings])
    seen = plain.draw(n, rng) @ t.mT + design.centre
    centre = gram[whose, model.averaged] / gram[whose, whose]
    # draws of the weights do not depend on those of the averages, so that the mean of a product is that of the means
    exact_means = model.at(settings, centre) @ found.weights + design.centre
    law = Law(*found.within(model.features(settings))) if not model.interact else None
    rows = round(float(gram[0, 0]))
    warnings = beyond(design.treatments, *origin.pair)
    if asked.event:
        warnings.append("a straight line for a probability: it may leave 0 to 1, and its noise is not one variance; "
                        "--method discrete or networks know better")  # fmt: skip
    how = "Student t, flat prior" if law is not None else f"{n:,} draws, flat prior"
    warnings += straight.warning(sample, ", ".join(names), asked.outcome)
    exact = (f"exact for a straight line with normal noise of one variance: {how}, {float(found.df):,.0f} degrees of "
             "freedom")  # fmt: skip
    return Effect(
        treatments=names, outcome=asked.outcome, event=asked.event, levels=levels, level=level, versus=versus,
        means=means, seen=seen, method="linear", exact=exact, rows=rows, whom=asked.whom, estimand=asked.estimand,
        adjust=asked.adjust, law=law, seen_law=Law(*plain.within(t)), exact_means=exact_means,
        exact_seen=t @ plain.weights + design.centre, groups=_groups(origin, settings, n),
        curve=_curve(origin, model, weights[: CURVE[1]], averages[: CURVE[1]]), sample=sample, origin=origin,
        warnings=tuple(warnings), notes=origin.notes,
        facts={"rows": rows, "coefficients": len(found.kept), "degrees of freedom": float(found.df), "seed": asked.seed,
               "noise": float((found.residual / found.df).sqrt())},
    )  # fmt: skip


def own_interactions(origin: LinearOrigin) -> list[int]:
    """Places in x that interact with the treatment for the whole effect: not those that only make groups."""
    asked = origin.asked
    wanted = [n for n in asked.interact if n not in asked.given]
    return origin.design.columns_of(wanted)


def _settings(origin: LinearOrigin) -> list[tuple[Value, ...]]:
    """All levels of a single treatment of categories; else the two that are compared."""
    treatments = origin.design.treatments
    if len(treatments) == 1 and treatments[0].levels:
        return [(level,) for level in treatments[0].levels]
    return list(origin.pair)


class _Model:
    """The regression of the effect, with what its columns are: (1, x, t, t x) of the columns that are adjusted for."""

    def __init__(self, origin: LinearOrigin, interact: Sequence[int], adjust: Sequence[str] | None = None) -> None:
        design, places = origin.design, origin.design.places
        names = origin.adjust if adjust is None else adjust
        self.origin, self.interact = origin, list(interact)
        self.x = sorted({*design.columns_of(names), *interact})
        width = len(places["t"])
        every = list(design.interact)
        # t x is laid out treatment column by treatment column
        self.tx = [places["tx"][j * len(every) + every.index(i)] for j in range(width) for i in self.interact]
        columns = [0, *(places["x"][i] for i in self.x), *places["t"], *self.tx]
        self.averaged = [places["x"][i] for i in self.x]
        self.fit = regression(origin.gram, columns, places["y"][0])

    def features(self, settings: Sequence[Sequence[Value]]) -> Tensor:
        """(K, d) at the mean of the covariates."""
        gram = self.origin.gram
        return self.at(settings, gram[0, self.averaged] / gram[0, 0])

    def at(self, settings: Sequence[Sequence[Value]], x: Tensor) -> Tensor:
        """(K, d) at some x (p,)."""
        inside = x[[self.x.index(i) for i in self.interact]]
        rows = []
        for setting in settings:
            t = self.origin.design.setting(setting)
            rows.append(torch.cat([x.new_ones(1), x, t, torch.outer(t, inside).flatten()]))
        return torch.stack(rows)

    def levels(self, weights: Tensor, settings: Sequence[Sequence[Value]], averages: Tensor) -> Tensor:
        """(n, K) means, of weights (n, d) and averages of the covariates (n, p)."""
        p, width = len(self.x), len(self.origin.design.places["t"])
        base = weights[:, 0] + (weights[:, 1 : 1 + p] * averages).sum(1)
        own, both = weights[:, 1 + p : 1 + p + width], weights[:, 1 + p + width :]
        inside = averages[:, [self.x.index(i) for i in self.interact]]
        slope = own + (both.reshape(len(weights), width, -1) * inside.unsqueeze(1)).sum(2)
        return torch.stack([base + slope @ self.origin.design.setting(s) for s in settings], 1)

    def whose(self, level: int, versus: int) -> int:
        """The column that says whose covariates are averaged: 0 for all rows."""
        asked, treatments = self.origin.asked, self.origin.design.treatments
        if asked.whom == "average":
            return 0
        if len(treatments) != 1 or not treatments[0].levels:
            raise Unsupported(
                f"there are no {asked.whom} here", needs="one treatment, with levels",
                found=", ".join(f"{t.column.name}: {t.column.reason}" for t in treatments), fix="the average effect",
            )  # fmt: skip
        return self.origin.design.places["t"][level if asked.whom == "treated" else versus]


def _must_be_enough(found: Regression) -> None:
    """An error where so few rows are left that the posterior has no variance."""
    df = int(found.df)
    if df < LEAST:
        rank = len(found.kept)
        raise DataError(
            "there are too few rows for a straight line: its posterior has no variance",
            needs=f"{rank + LEAST} rows, {LEAST} more than the {count(rank, 'coefficient')}",
            found=count(rank + df, "row"), fix="adjust for fewer columns, or collect more rows",
        )  # fmt: skip


def _must_be_estimable(
    origin: LinearOrigin, found: Regression, features: Tensor, level: int, versus: int, levels: Sequence[str]
) -> None:
    """An error where the covariates determine the treatment: nothing is left to compare."""
    difference = features[level] - features[versus]
    if bool(found.estimable(difference.unsqueeze(0))):
        return
    z, t = ", ".join(origin.adjust), ", ".join(origin.asked.treatments)
    raise DataError(
        "no overlap at all: what is adjusted for determines the treatment",
        needs=f"rows alike in {z} with {levels[level]} and with {levels[versus]}",
        found=f"{t} is a sum of the columns {z}",
        fix="adjust for less, if that is right; else these data say nothing about this effect",
    )


def _groups(origin: LinearOrigin, settings: Sequence[Sequence[Value]], n: int) -> tuple[Group, ...]:
    """The effect at each value of a column of categories, by the products of treatment and column."""
    asked, design, gram = origin.asked, origin.design, origin.gram
    if not asked.group:
        return ()
    span = design.columns_of([asked.group])
    column = next((c for c in design.covariates.columns if c.name == asked.group), None)
    if column is None or column.kind is not Kind.CATEGORY:
        raise Unsupported(
            f"'{asked.group}' makes no groups", needs="a column of categories that varies",
            found=column.reason if column is not None else "one value", fix=f"--kind {asked.group}=category",
        )  # fmt: skip
    adjust = asked.conditional.adjustment if asked.conditional is not None else origin.adjust
    model = _Model(origin, span, (*adjust, asked.group))
    _must_be_enough(model.fit)
    rng = philox(asked.seed, "linear groups")
    weights = model.fit.draw(n, rng)
    plain = _Model(origin, span, (asked.group,))
    plain_weights = plain.fit.draw(n, rng)
    out = []
    for i in span:
        one = design.places["x"][i]
        inside = mean_draws(gram, model.averaged, one, n, rng)
        centre = gram[one, model.averaged] / gram[one, one]
        features = model.at(settings, centre)
        value = design.covariates.names[i].removeprefix(f"{asked.group} = ")
        difference = features - features[:1]
        if not bool(model.fit.estimable(difference).all()):
            raise DataError(
                f"no overlap where {asked.group} is {value}: all its rows have one treatment", needs="both treatments",
                found="one", fix="other groups, or the average effect",
            )  # fmt: skip
        here = torch.zeros(len(plain.x), dtype=torch.float64)
        here[plain.x.index(i)] = 1.0
        out.append(Group(asked.group, value, float(gram[one, one] / gram[0, 0]),
                         model.levels(weights, settings, inside) + design.centre,
                         plain_weights @ plain.at(settings, here).mT + design.centre,
                         Law(*model.fit.within(features))))  # fmt: skip
    return tuple(out)


def _curve(origin: LinearOrigin, model: _Model, weights: Tensor, averages: Tensor) -> Curve | None:
    """Dose and response, for one treatment that is a number."""
    treatments = origin.design.treatments
    if len(treatments) != 1 or treatments[0].levels:
        return None
    values = torch.linspace(treatments[0].low, treatments[0].high, CURVE[0], dtype=torch.float64)
    means = model.levels(weights, [(v,) for v in values.tolist()], averages) + origin.design.centre
    return Curve(values, means)


def sample_of(design: Design, matrix: Tensor, adjust: Sequence[str]) -> Sample:
    """The rows of a design's matrix."""
    places = design.places
    x = design.columns_of(adjust)
    t = matrix[:, places["t"]]
    if len(design.treatments) == 1 and design.treatments[0].levels:
        t = t.argmax(1)
    else:
        t = t[:, 0] + design.treatments[0].shift
    y = matrix[:, places["y"][0]] + design.centre
    z = matrix[:, places["z"]] if places["z"] else None
    return Sample(t, y, matrix[:, [places["x"][i] for i in x]], tuple(design.covariates.names[i] for i in x), z)


def joined(old: Sample | None, new: Sample) -> Sample | None:
    """All rows together."""
    if old is None:
        return None
    z = None if old.z is None or new.z is None else torch.cat([old.z, new.z])
    t, y, x = (torch.cat(pair) for pair in zip(old[:3], new[:3], strict=True))
    return Sample(t, y, x, old.names, z)
