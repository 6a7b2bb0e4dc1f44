"""Effects among categories, exactly: a formula of joint probabilities evaluated on draws of the joint table.

The rows are draws from a table P(v₁, …, v_k) whose prior is Dirichlet, every cell counting `prior` rows (1: all tables
are equally probable); the posterior is Dirichlet with the counts added, and the posterior of an identified effect is
the distribution of its formula under it. No model of how variables act comes in. New rows are more counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product as every
from typing import Any

import torch
from torch import Tensor

from kokkiri.causal.asked import Asked, must_be_new, pair_of
from kokkiri.causal.counts import Counts
from kokkiri.causal.effect import Effect
from kokkiri.causal.expression import probability, variables
from kokkiri.causal.quantities import Group, Sample
from kokkiri.causal.table_effects import Evaluator, done
from kokkiri.causal.tables import evaluate
from kokkiri.causal.variables import Coded, Columns, Rows, Variable
from kokkiri.data.columns import Column, Kind
from kokkiri.errors import DataError, Unsupported
from kokkiri.phrases import count, joined, percent, plain

ROWS_A_CELL = 10  # so many rows a cell at the least, for the method to be chosen: the prior then weighs a tenth at most
CELLS = 2**14
# The prior draws the mean of numbers to the middle of their values, be they many or rare: a table of counts from 0 to 9
# with ten rows a cell makes 1.85 of 1.71. A hundredth of the weight moves the mean by a hundredth of the way.
ROWS_A_NUMBER = 100
MOVED, MOVED_MEAN = 0.1, 0.02  # posterior standard deviations of the effect, standard deviations of the outcome
WEIGHTY = 0.1  # share of prior in the posterior from which on it is mentioned
BY_MEANS = {"no effect", "back-door", "front-door"}  # formulas whose factors are independent under a Dirichlet


@dataclass(frozen=True, eq=False)
class DiscreteOrigin:
    """Counts that more rows can be added to, with the question. columns: how the cells of each variable are read."""

    asked: Asked
    counts: Counts
    columns: Mapping[str, Column]
    level: tuple[str, ...]
    versus: tuple[str, ...]
    sources: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def more(self, effect: Effect, new: Any, *, force: bool = False) -> Effect:
        """The effect from the old counts and the new ones."""
        columns = Columns(
            new, kinds={name: c.kind for name, c in self.columns.items() if c.kind is not Kind.IDENTIFIER}
        )
        must_be_new(self.sources, columns, force=force)
        for name in self.counts.names:
            columns.must_have(name, "one of the variables of the effect")
        rows = columns.rows(self.counts.names).with_values((*self.asked.treatments, self.asked.outcome))
        coded = {name: _coded_alike(v, self.columns[name]) for name, v in rows.variables.items()}
        both = self.counts.plus(Counts.of(coded))
        origin = replace(self, counts=both, sources=(*self.sources, columns.digest), notes=rows.notes)
        found = computed(origin)
        i, j = effect.levels[effect.level], effect.levels[effect.versus]
        level, versus = found.levels.index(i), found.levels.index(j)
        return replace(found, level=level, versus=versus, warnings=(*rows.lost, *found.warnings))


def _coded_alike(variable: Variable, known: Column) -> Coded:
    """New cells under the old names of levels: yes is yes, however it is written."""
    column = variable.column
    if known.kind is Kind.BOOLEAN:
        column = replace(column, kind=Kind.BOOLEAN, levels=known.levels)
    found = replace(variable, column=column).coded(CELLS)
    if found is None:
        raise DataError(f"the new cells of '{known.name}' are no categories", needs=known.reason,
                        found=column.reason, fix="rows like the first ones")  # fmt: skip
    return found


def needed(asked: Asked) -> tuple[str, ...]:
    """The variables whose joint table the effect is a function of, the treatments first."""
    names = [*asked.treatments, asked.outcome]
    for estimand in (asked.estimand, asked.conditional):
        names += [] if estimand is None else [n for n in estimand.graph.nodes if n in variables(estimand.expression)]
    return tuple(dict.fromkeys((*names, *asked.adjust, *asked.given)))


def why_not(asked: Asked, rows: Rows, limit: int = CELLS) -> str:
    """Why the effect is not one of a table, in words; "" if it is. limit: of cells."""
    cells = 1
    for name in needed(asked):
        if rows.tensors and name in rows.tensors:
            return f"'{name}' is no column of a table"
        coded = rows.variables[name].coded()
        if coded is None:
            return f"'{name}' has too many values to be counted: {rows.variables[name].column.reason}"
        cells *= len(coded.levels) + bool((coded.codes < 0).any())
    return f"the table of {joined(list(needed(asked)))} has {cells:,} cells" if cells > limit else ""


def enough(asked: Asked, rows: Rows) -> int:
    """How many cells a table may have to be chosen by itself: fewer where the outcome is a number of several values."""
    coded = rows.variables[asked.outcome].coded()
    numbers = not asked.event and coded is not None and len(coded.levels) > 2
    a_cell = max(ROWS_A_CELL, ROWS_A_NUMBER * asked.prior) if numbers else ROWS_A_CELL
    return min(CELLS, max(1, int(rows.size / a_cell)))


def discrete(asked: Asked, rows: Rows) -> Effect:
    """The posterior of the effect from rows of categories."""
    if reason := why_not(asked, rows):
        raise Unsupported(f"the effect cannot be counted: {reason}", needs="categories, with few combinations",
                          found=f"{count(rows.size, 'row')}", fix="another method: linear, networks")  # fmt: skip
    names = needed(asked)
    coded = {name: c for name in names if (c := rows.variables[name].coded()) is not None}
    treatments = [rows.variables[name] for name in asked.treatments]
    pairs = pair_of(asked, treatments, [coded[name] for name in asked.treatments])
    level, versus = (tuple(coded[n].levels[k] for n, k in zip(asked.treatments, side, strict=True)) for side in pairs)
    columns = {name: rows.variables[name].column for name in names}
    origin = DiscreteOrigin(asked, Counts.of(coded), columns, level, versus, (rows.digest,), rows.notes)
    return computed(origin)


def computed(origin: DiscreteOrigin) -> Effect:
    """The effect of some counts."""
    asked, counts = origin.asked, origin.counts
    names = tuple(
        n for n in counts.names if n not in asked.given or n in needed(replace(asked, group="", conditional=None))
    )
    own = counts.over(names)
    levels = [own.levels[own.axis[n]] for n in asked.treatments]
    labels = tuple(_label(asked.treatments, setting) for setting in every(*levels))
    level, versus = (labels.index(_label(asked.treatments, side)) for side in (origin.level, origin.versus))
    warnings = list(_support(origin, own, level, versus, labels))
    whom = Evaluator(asked, own, level, versus)
    drawn = [(whom.done(joint), whom.seen(joint)) for joint in own.posterior(asked.prior, asked.seed)]
    means, seen = (torch.cat(part) for part in zip(*drawn, strict=True))
    frequencies, expected = own.cells / own.rows, own.posterior_mean(asked.prior)
    kind = asked.estimand.kind if asked.estimand is not None else "back-door"
    without, with_prior = (whom.done(table[None])[0] for table in (frequencies, expected))
    warnings += _moved(asked, own, without, with_prior, means, level, versus, labels)
    weight = own.size * asked.prior
    if weight > WEIGHTY * own.rows:
        warnings.append(
            f"the prior counts as {weight:,.0f} rows beside {own.rows:,}: {count(own.size, 'cell')} are many; "
            "a smaller prior= says less, fewer variables say more"
        )
    if own.size != int((own.cells > 0).sum()):
        empty = int((own.cells == 0).sum())
        note = (f"{count(empty, 'cell')} of {own.size:,} without a row: only the prior speaks there",)
    else:
        note = ()
    return Effect(
        treatments=asked.treatments, outcome=asked.outcome, event=asked.event, levels=labels, level=level,
        versus=versus, means=means, seen=seen, method="discrete", exact=_exact(asked, own), rows=own.rows,
        whom=asked.whom, estimand=asked.estimand, adjust=asked.adjust, plugin=without,
        seen_plugin=whom.seen(frequencies[None])[0], plugin_name="the counts as they are",
        exact_means=with_prior if kind in BY_MEANS else None,
        exact_seen=whom.seen(expected[None])[0], groups=_groups(asked, counts), sample=_sample(asked, own),
        origin=origin, warnings=tuple(warnings), notes=(*origin.notes, *note),
        facts={"cells": own.size, "prior": asked.prior, "draws": len(means), "rows": own.rows, "seed": asked.seed},
    )  # fmt: skip


def _label(names: Sequence[str], setting: Sequence[str]) -> str:
    return setting[0] if len(setting) == 1 else ", ".join(f"{n}={v}" for n, v in zip(names, setting, strict=True))


def _exact(asked: Asked, own: Counts) -> str:
    prior = f"Dirichlet({asked.prior:g})"
    return f"exact but for {own.draws:,} draws: {count(own.size, 'cell')}, {prior} over the joint table"


def _groups(asked: Asked, counts: Counts) -> tuple[Group, ...]:
    """The effect among rows with each value of the group's column."""
    if not asked.group:
        return ()
    whom = Evaluator(replace(asked, whom="average"), counts, 0, 1)
    axis = counts.axis[asked.group] + 1
    means, seen = [], []
    of = probability([asked.outcome], [*asked.treatments, asked.group])
    for joint in counts.posterior(asked.prior, asked.seed):
        table = done(asked.conditional, asked, joint, counts.names, asked.given)
        both = evaluate(of, joint, counts.names)
        size = len(counts.levels[axis - 1])
        at = lambda t, k: t.narrow(axis, k if t.shape[axis] > 1 else 0, 1)
        means.append(torch.stack([whom.mean(at(table, k)) for k in range(size)], 1))
        seen.append(torch.stack([whom.mean(at(both, k)) for k in range(size)], 1))
    done_, seen_ = torch.cat(means), torch.cat(seen)
    rows = counts.over((asked.group,))
    shares = (rows.cells / rows.rows).tolist()
    return tuple(
        Group(asked.group, value, shares[k], done_[:, k], seen_[:, k]) for k, value in enumerate(rows.levels[0])
    )


def _support(origin: DiscreteOrigin, own: Counts, level: int, versus: int, labels: Sequence[str]) -> list[str]:
    """What is said where nobody with some values of the adjusted variables had one of the settings."""
    asked = origin.asked
    z = asked.adjust if asked.estimand is None else asked.estimand.adjustment
    by = own.over((*asked.treatments, *z)).cells.reshape(len(labels), -1)
    for k in (level, versus):
        if not by[k].sum():
            raise DataError(f"no row has {asked.treatments[0]} = {labels[k]}", needs="rows of both settings",
                            found="none", fix="compare settings that occur")  # fmt: skip
    if not z or (asked.estimand is not None and asked.estimand.kind != "back-door"):
        return []
    there = (by[level] > 0) & (by[versus] > 0)
    people = by.sum(0)
    lost = float(people[~there].sum() / people.sum())
    if not there.any():
        raise DataError(
            f"no overlap at all: wherever {', '.join(z)} agree, all rows have the same treatment",
            needs=f"rows with {labels[level]} and rows with {labels[versus]} that are alike in what is adjusted for",
            found=f"{count(int((people > 0).sum()), 'combination')} of {', '.join(z)}, none with both",
            fix="adjust for less, if that is right; else these data say nothing about this effect",
        )  # fmt: skip
    if not lost:
        return []
    told = f"no overlap for {percent(lost)} of the rows: nobody like them in {', '.join(z)} had the other setting"
    return [f"{told}; for them the prior speaks, not the data"]


def _moved(
    asked: Asked, own: Counts, without: Tensor, with_prior: Tensor, means: Tensor, level: int, versus: int,
    labels: Sequence[str],
) -> list[str]:  # fmt: skip
    """What is said where the prior moves the effect, or a mean that is compared. without, with_prior: (K,)."""
    shift = with_prior - without
    spread = float((means[:, level] - means[:, versus]).std())
    effect, off = float(shift[level] - shift[versus]), "a smaller prior= moves it less, another method not at all"
    if abs(effect) > MOVED * spread:  # not where there is no plug-in, which is nan
        far = f"{plain(effect)}, {abs(effect) / spread:.1f} posterior standard deviations"
        return [f"the prior moves the effect by {far}: {off}"]
    worth, y = own.worth(asked.outcome, asked.event), own.over((asked.outcome,)).cells / own.rows
    sd = float(((worth - (worth * y).sum()).square() * y).sum().sqrt())
    k = max((level, versus), key=lambda k: abs(float(shift[k])))
    if abs(float(shift[k])) > MOVED_MEAN * sd:
        from_to = f"from {plain(float(without[k]))} to {plain(float(with_prior[k]))}, to the middle of its values"
        return [f"the prior moves the mean of {asked.outcome} with {labels[k]} {from_to}: {off}"]
    return []


def _sample(asked: Asked, own: Counts) -> Sample:
    """The rows again, out of their counts."""
    rows = own.expanded()
    t = torch.zeros_like(rows[asked.outcome])
    for name in asked.treatments:
        t = t * len(own.levels[own.axis[name]]) + rows[name]
    z = asked.adjust if asked.estimand is None else asked.estimand.adjustment
    blocks, names = [], []
    for name in z:
        levels = own.levels[own.axis[name]]
        blocks.append(torch.nn.functional.one_hot(rows[name], len(levels)).double())
        names += [f"{name} = {level}" for level in levels]
    x = torch.cat(blocks, 1) if blocks else torch.empty(len(t), 0, dtype=torch.float64)
    return Sample(t, own.worth(asked.outcome, asked.event)[rows[asked.outcome]], x, tuple(names))
