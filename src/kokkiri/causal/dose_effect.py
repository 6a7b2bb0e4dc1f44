"""Effects of a treatment that is a number, by networks: dose and response with a band, and two doses compared."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from kokkiri.causal.asked import Asked
from kokkiri.causal.covariates import encoded
from kokkiri.causal.design import doses_of, label, worth_of
from kokkiri.causal.dose_overlap import dose_overlap
from kokkiri.causal.doses import GRID, DoseFit, network_doses
from kokkiri.causal.effect import Effect
from kokkiri.causal.network_effect import Networks
from kokkiri.causal.network_words import far_apart, foretold_by
from kokkiri.causal.quantities import Curve, Sample
from kokkiri.causal.variables import Rows, Variable
from kokkiri.errors import DataError, Unsupported, UsageError
from kokkiri.numerics.dose import knots_for, knots_of, response, uncorrected
from kokkiri.numerics.projection import projected, spline
from kokkiri.phrases import count, joined, percent, plain

DRAWS = 2000
TAIL = 0.025  # of the rows on each side, beyond which the curve is hardly seen
FEW = 40  # rows below which no curve is learnt


def is_dose(variables: Sequence[Variable]) -> bool:
    """Whether the only treatment is a number of many values."""
    return len(variables) == 1 and variables[0].numeric and variables[0].coded() is None


def doses(asked: Asked, rows: Rows, adjust: Sequence[str], method: Networks) -> Effect:
    """The posterior of the difference between two doses, and of the whole curve."""
    if asked.whom != "average":
        raise Unsupported("there are no treated of a treatment that is a number", needs="the average effect",
                          found=asked.whom, fix="leave the estimand out")  # fmt: skip
    if method.network is not None or method.correction != "one-step":
        raise Unsupported("doses have networks and a correction of their own", needs="neither network nor correction",
                          found=f"correction={method.correction!r}", fix="method='networks'")  # fmt: skip
    v = rows.variables[asked.treatments[0]]
    level, versus, _ = doses_of(asked, rows)
    y = worth_of(rows.variables[asked.outcome], rows.variables[asked.outcome].column, asked.event)
    t = v.cells.to(torch.float64)
    for value in (level, versus):
        _must_be_among(v.name, value, t)
    if rows.tensors or len(t) < FEW:
        raise DataError("a curve of dose and response needs columns and rows", needs=f"{FEW} rows of columns",
                        found=f"{count(len(t), 'row')} of {joined(list(adjust))}", fix="--method linear")  # fmt: skip
    covariates, x = encoded(rows, adjust)
    if not covariates.names:
        raise UsageError("nothing is adjusted for", needs="columns that act on both", found=joined(list(adjust)) or
                         "none", fix="--method linear, for a straight line")  # fmt: skip
    ends = t.quantile(torch.tensor([TAIL, 1 - TAIL], dtype=torch.float64))
    if float(ends.diff()) <= 0:
        raise DataError(
            f"nearly all rows have {v.name} = {float(ends[0]):g}: there is no curve through them",
            needs=f"doses that differ within the middle {percent(1 - 2 * TAIL)} of the rows",
            found=f"{count(int((t == ends[0]).sum()), 'row')} of {len(t):,} with this one",
            fix="--method linear, or a column that tells whether there was any",
        )  # fmt: skip
    values = torch.linspace(float(ends[0]), float(ends[1]), GRID, dtype=torch.float64)
    grid = torch.cat([values, torch.tensor([level, versus], dtype=torch.float64)])
    wanted = {name: getattr(method, name) for name in ("folds", "repetitions", "steps")}
    given = {name: value for name, value in wanted.items() if value is not None}
    fit = network_doses(x, t, y, method.likelihood, grid=grid, seed=asked.seed, **given)
    drawn, plugin = response(fit.doses, DRAWS, asked.seed), uncorrected(fit.doses)
    seen = _seen(t, y, grid, asked.seed)
    overlap = dose_overlap(v.name, fit.doses, (level, versus), fit.at[GRID:], fit.doses.outcome[GRID:])
    warnings, notes, facts = _told(fit, drawn, plugin, level, versus, ends, v.name)
    names = tuple(label(asked.treatments, [value]) for value in (level, versus))
    return Effect(
        treatments=asked.treatments, outcome=asked.outcome, event=asked.event, levels=names, level=0, versus=1,
        means=drawn[:, GRID:], seen=seen[:, GRID:], method="networks", exact=_exact(fit), rows=len(t),
        estimand=asked.estimand, adjust=asked.adjust, plugin=plugin[GRID:], seen_plugin=seen[:, GRID:].mean(0),
        plugin_name="without correction", curve=Curve(values, drawn[:, :GRID], seen[:, :GRID]),
        sample=Sample(t, y, x, covariates.names), near=overlap, warnings=warnings,
        notes=(*rows.notes, *notes), facts={"seed": asked.seed, **facts},
    )  # fmt: skip


def _must_be_among(name: str, value: float, t: Tensor) -> None:
    """An error for a dose beyond all rows, of which networks and splines know nothing."""
    low, high = float(t.min()), float(t.max())
    if not low <= value <= high:
        raise DataError(
            f"no row is near {name} = {value:g}: networks know nothing of what that does",
            needs="a value among the rows'", found=f"rows from {plain(low)} to {plain(high)}",
            fix="a value between them; --method linear draws its line further, with a warning",
        )  # fmt: skip


def _seen(t: Tensor, y: Tensor, grid: Tensor, seed: int) -> Tensor:
    """(DRAWS, G) of E[Y | t] on a natural spline, under the weights of the curve."""
    knots = knots_of(t, knots_for(len(t)))
    weights = projected(y, spline(t, knots), DRAWS, seed, ridge=1e-9)
    return weights @ spline(grid, knots).T


def _exact(fit: DoseFit) -> str:
    noise = "with a spread that varies" if fit.spread else "with one spread"
    how = f"density of the treatment {noise}, corrected residuals on a spline, Bayesian bootstrap"
    return (
        f"approximate: {how}; {count(int(fit.facts['networks']), 'network')}, each row by those that have not seen it"
    )


def _told(
    fit: DoseFit, drawn: Tensor, plugin: Tensor, level: float, versus: float, ends: Tensor, name: str
) -> tuple[tuple[str, ...], tuple[str, ...], dict[str, Any]]:
    """Warnings, notes, facts."""
    draws = drawn[:, GRID] - drawn[:, GRID + 1]
    gap = float(plugin[GRID] - plugin[GRID + 1]) - float(draws.mean())
    outside = [value for value in (level, versus) if not float(ends[0]) <= value <= float(ends[1])]
    where = f"lies in the outer {percent(TAIL)} of the rows: hardly any row stands for it"
    warnings = [f"{name} = {value:g} {where}" for value in outside]
    warnings += far_apart(gap, float(draws.std()))
    if fit.doses.raised:
        warnings.append(f"the weights of {count(fit.doses.raised, 'row')} were cut: few are like them at their dose")
    notes = foretold_by("the outcome", fit.outcome), foretold_by("the treatment", fit.treatment)
    facts = {**fit.facts, "gap": gap, "outcome candidates": dict(fit.outcome),
             "treatment candidates": dict(fit.treatment)}  # fmt: skip
    return tuple(warnings), notes, facts
