"""Effects by instruments, in closed form, for linear models: two stages, how strong the instrument is, and an interval
that holds however weak it is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from kokkiri.causal.asked import Asked, Value
from kokkiri.causal.design import Design, beyond, chosen, design_of, label
from kokkiri.causal.effect import Effect
from kokkiri.causal.linear_effect import CURVE, DRAWS, joined, matrix_of_new, sample_of
from kokkiri.causal.quantities import Curve, Law, Sample
from kokkiri.causal.variables import Rows
from kokkiri.errors import DataError, Unsupported, UsageError
from kokkiri.numerics.random import philox
from kokkiri.numerics.regressions import independent, partialled, regression
from kokkiri.numerics.two_stages import TwoStages
from kokkiri.phrases import plain

WEAK = 10.0  # of the first stage's F (Staiger & Stock 1997, "Instrumental variables regression with weak instruments")


@dataclass(frozen=True, eq=False)
class InstrumentOrigin:
    """Sums of squares of controls, instruments, treatments and outcome, with the question."""

    asked: Asked
    design: Design
    gram: Tensor
    pair: tuple[tuple[Value, ...], tuple[Value, ...]]
    controls: tuple[str, ...]
    instruments: tuple[str, ...]
    sources: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def more(self, effect: Effect, new: Any, *, force: bool = False) -> Effect:
        """The effect from the old sums and the new ones."""
        matrix, rows, sha256 = matrix_of_new(self.design, self.asked, self.sources, new, force=force)
        origin = replace(self, gram=self.gram + matrix.mT @ matrix, sources=(*self.sources, sha256), notes=rows.notes)
        found = computed(origin, joined(effect.sample, sample_of(self.design, matrix, self.controls)))
        found = replace(found, warnings=(*rows.lost, *found.warnings))
        if found.levels == effect.levels:
            return replace(found, level=effect.level, versus=effect.versus)
        return found


def instrument(asked: Asked, rows: Rows, instruments: Sequence[str], controls: Sequence[str]) -> Effect:
    """The posterior of the effect that instruments show, given controls."""
    if asked.whom != "average" or asked.group or asked.interact:
        raise Unsupported(
            "instruments show one effect, the same for all", needs="the average effect, without groups or interactions",
            found=asked.whom if asked.whom != "average" else joined_names((*asked.given, *asked.interact)),
            fix="leave that out",
        )  # fmt: skip
    if both := set(instruments) & {*controls, *asked.treatments, asked.outcome}:
        raise UsageError(f"'{min(both)}' has two roles", needs="instruments that are nothing else",
                         found=joined_names(instruments), fix="leave it out of one of them")  # fmt: skip
    design, matrix = design_of(asked, rows, controls, instruments)
    pair = chosen(asked, rows, design.treatments)
    origin = InstrumentOrigin(asked, design, matrix.mT @ matrix, pair, tuple(controls), tuple(instruments),
                              (rows.digest,), rows.notes)  # fmt: skip
    return computed(origin, sample_of(design, matrix, controls))


def joined_names(names: Sequence[str]) -> str:
    """With commas."""
    return ", ".join(names)


def stages(origin: InstrumentOrigin) -> tuple[TwoStages, list[int]]:
    """The sums with controls taken out, and the places of the treatment columns that are kept (one level is no column).

    Raises DataError where there are fewer instruments than treatments, or too few rows.
    """
    gram, places, names = origin.gram, origin.design.places, ", ".join(origin.instruments)
    z, t, y = places["z"], _columns(origin), places["y"]
    left, rank = partialled(gram, [0, *places["x"]], [*z, *t, *y])
    scale = left.diagonal() / gram.diagonal()[[*z, *t, *y]].clamp(min=1e-300)
    alive = [i for i in range(len(z)) if scale[i] > 1e-9]
    k = [alive[i] for i in independent(left[alive][:, alive]).tolist()] if alive else []
    if len(k) < len(t):
        raise DataError(
            f"{names} cannot tell the effect of {', '.join(origin.asked.treatments)}: there is too little in it",
            needs=f"{len(t)} instrument column{'s' * (len(t) > 1)} that vary beside the controls", found=f"{len(k)}",
            fix="more instruments, or fewer controls",
        )  # fmt: skip
    v = list(range(len(z), len(z) + len(t) + 1))
    df = float(gram[0, 0]) - rank - len(k)
    if df < len(v):
        raise DataError("there are too few rows for these instruments and controls", needs=f"more than {rank + len(k)}",
                        found=f"{float(gram[0, 0]):g}", fix="more rows, or fewer controls")  # fmt: skip
    return TwoStages(left[k][:, k], left[k][:, v], left[v][:, v], df), t


def _columns(origin: InstrumentOrigin) -> list[int]:
    """Treatment columns; of levels the first is what the others are compared with."""
    out, start = [], origin.design.places["t"][0]
    for t in origin.design.treatments:
        out += list(range(start + bool(t.levels), start + t.width))
        start += t.width
    return out


def computed(origin: InstrumentOrigin, sample: Sample | None) -> Effect:
    """The effect of some sums."""
    asked, design, gram, places = origin.asked, origin.design, origin.gram, origin.design.places
    found, columns = stages(origin)
    inside = [i - places["t"][0] for i in columns]
    names = asked.treatments
    single = len(design.treatments) == 1 and bool(design.treatments[0].levels)
    settings = [(level,) for level in design.treatments[0].levels] if single else list(origin.pair)
    levels = tuple(label(names, s) for s in settings)
    level, versus = (levels.index(label(names, side)) for side in origin.pair)
    n = max(1000, min(DRAWS, 2**22 // max(1, len(found.zz))))
    beta = found.draw(n, philox(asked.seed, "two stages"))
    t = torch.stack([design.setting(s) for s in settings])
    away = (t - gram[0, places["t"]] / gram[0, 0])[:, inside]
    centre = design.centre + float(gram[0, places["y"][0]] / gram[0, 0])
    plain_fit = regression(gram, [0, *places["t"]], places["y"][0])
    ones = torch.cat([torch.ones(len(t), 1, dtype=torch.float64), t], 1)
    seen = plain_fit.draw(n, philox(asked.seed, "association")) @ ones.mT + design.centre
    just = len(found.zz) == len(columns)
    strength = found.strength
    given = f" given {', '.join(origin.controls)}" if origin.controls else ""
    facts: dict[str, Any] = {
        "rows": round(float(gram[0, 0])), "instruments": list(origin.instruments), "first-stage F": strength,
        "degrees of freedom": found.df, "seed": asked.seed, "two-stage estimate": found.estimate.tolist(),
        "two-stage standard error": found.standard_errors().tolist(),
    }  # fmt: skip
    notes = [f"instrument {', '.join(origin.instruments)}{given}; the first stage's F is {plain(strength)}"]
    step = t[level] - t[versus]
    if len(columns) == 1:
        size = float(step[inside][0])
        sides = [(min(size * a, size * b), max(size * a, size * b)) for a, b in found.anderson_rubin()]
        facts["Anderson-Rubin"] = sides
        pair = f"{levels[level]} against {levels[versus]}"
        notes.append(f"Anderson and Rubin's 95 % interval of {pair}, good however weak the instrument: "
                     f"{regions(sorted(sides))}")  # fmt: skip
    warnings = beyond(design.treatments, *origin.pair)
    if strength < WEAK:
        told = f"a weak instrument: the first stage's F is {plain(strength)}, and below {WEAK:g} two stages mislead: "
        told += "do not trust the number"
        warnings.insert(0, f"{told}, but Anderson and Rubin's interval" if len(columns) == 1 else told)
    if asked.event:
        warnings.append("a straight line for a probability: it may leave 0 to 1")
    return Effect(
        treatments=names, outcome=asked.outcome, event=asked.event, levels=levels, level=level, versus=versus,
        means=centre + beta @ away.mT, seen=seen, method="instrument", exact="exact but for "
        f"{n:,} draws, for straight lines with normal noise: two stages, flat prior"
        + ("; a ratio has no mean, the median stands" if just else ""),
        rows=facts["rows"], estimand=asked.estimand, adjust=asked.adjust,
        instruments=asked.instruments, moments=not just,
        plugin=centre + found.estimate @ away.mT, seen_plugin=ones @ plain_fit.weights + design.centre,
        plugin_name="least squares, two stages", seen_law=Law(*plain_fit.within(ones)),
        curve=_curve(origin, beta, centre), sample=sample, origin=origin, warnings=tuple(warnings),
        notes=(*origin.notes, *notes), facts=facts,
    )  # fmt: skip


def _curve(origin: InstrumentOrigin, beta: Tensor, centre: float) -> Curve | None:
    design, gram = origin.design, origin.gram
    if len(design.treatments) != 1 or design.treatments[0].levels:
        return None
    one = design.treatments[0]
    values = torch.linspace(one.low, one.high, CURVE[0], dtype=torch.float64)
    away = values - one.shift - float(gram[0, design.places["t"][0]] / gram[0, 0])
    return Curve(values, centre + beta[: CURVE[1], :1] * away)


def regions(parts: Sequence[tuple[float, float]]) -> str:
    """A set of numbers in words.

    >>> regions([(-1.0, 2.5)]), regions([(-math.inf, -3.0), (1.0, math.inf)]), regions([(-math.inf, math.inf)])
    ('[-1.00, 2.50]', 'below -3.00 or above 1.00', 'everything')
    """
    if not parts:
        return "nothing: the instruments contradict one another"
    if len(parts) == 2:
        return f"below {plain(parts[0][1])} or above {plain(parts[1][0])}"
    low, high = parts[0]
    return "everything" if math.isinf(low) and math.isinf(high) else f"[{plain(low)}, {plain(high)}]"
