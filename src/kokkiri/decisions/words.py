"""Decisions as text of at most 80 columns."""

from __future__ import annotations

import math
import textwrap
from typing import TYPE_CHECKING

from kokkiri.phrases import count, percent, plain, probability, table

if TYPE_CHECKING:
    from kokkiri.decisions.decide import Decisions, Strategy
    from kokkiri.exact.intervals import Interval

DOUBT = 3.0  # standard deviations by which mean probability and prevalence may differ by chance


def decisions_text(made: Decisions) -> str:
    """What was chosen and why, both errors, costs beside the simple ways, and what to mind."""
    labelled = made.y is not None
    ways = made.strategies
    rows = [[s.name, _share(s.type_one), _share(s.type_two), _cost(s.cost)] for s in ways]
    header = ["way to decide", "type I, %", "type II, %", "cost a row"]
    errors = f"Type I error: acting on '{made.levels[0]}'; type II: leaving '{made.levels[1]}'. "
    if labelled:
        positives = int(made.y.sum()) if made.y is not None else 0
        errors += "Rows that are rejected are neither. " if made.costs.reject is not None else ""
        errors += (
            f"From {positives:,} labelled rows of '{made.levels[1]}' and {len(made) - positives:,} of "
            f"'{made.levels[0]}', with {percent(made.level, 0)} posterior intervals."
        )
    else:
        errors += "No row has a label: these are the errors that the model's own probabilities expect."
    settings = "\n".join(textwrap.fill(line, 80, subsequent_indent=" " * 12) for line in _settings(made))
    return "\n\n".join([
        settings, _wrap(_counts(made)), table(header, rows), _wrap(errors), *map(_wrap, _minds(made, ways)),
    ])  # fmt: skip


def _settings(made: Decisions) -> list[str]:
    c, low_high = made.costs, made.costs.rejected
    price = f"false alarm {plain(c.false_alarm)}, miss {plain(c.miss)}"
    price += "" if c.reject is None else f", reject {plain(c.reject)}"
    act = f"from P({made.levels[1]}) = {probability(low_high[1])} on"
    if low_high[0] < low_high[1]:
        act += f", leave below {probability(low_high[0])}, reject between"
    lines = [f"costs       {price}", f"act         {act}"]
    share = percent(made.prevalence, 1 if 0.01 <= made.prevalence <= 0.99 else 3)
    if made.trained_at is None:
        return [f"prevalence  {share}, of these rows; nothing is corrected", *lines]
    if math.isclose(made.prevalence, made.trained_at):
        return [f"prevalence  {share}, as among the training rows", *lines]
    old = percent(made.trained_at, 1 if 0.01 <= made.trained_at <= 0.99 else 3)
    odds = made.prevalence / (1 - made.prevalence) / (made.trained_at / (1 - made.trained_at))
    return [f"prevalence  {share}, {old} among the training rows: odds times {plain(odds)}", *lines]


def _counts(made: Decisions) -> str:
    leave, act, reject = made.counts
    said = f"Act on {act:,} of {count(len(made), 'row')}, leave {leave:,}"
    return said + (f", reject {reject:,}." if made.costs.reject is not None else ".")


def _minds(made: Decisions, ways: tuple[Strategy, ...]) -> list[str]:
    """Whether it is better than deciding at one half, where the cheapest threshold lies, and what does not fit."""
    out = []
    chosen, half = ways[:2]
    same = bool((made.action == made.by_half).all())
    if same:
        out.append("The model's own probabilities at 0.5 decide the same.")
    elif made.y is not None:
        p = made.cheaper
        chance = "more than 0.999" if p > 0.999 else "less than 0.001" if p < 0.001 else f"{p:.3f}"
        out.append(f"Cheaper than the model's own probabilities at 0.5 with probability {chance}.")
    if made.y is not None:
        curve = made.curve(draws=0)
        best = int(curve.cost.argmin())
        out.append(
            f"Looking back, {probability(float(curve.threshold[best]))} would have been the cheapest threshold on "
            f"these rows, at {plain(float(curve.cost[best]))} a row; chosen and judged by the same rows, it looks "
            "better than it is."
        )
    else:
        saved = half.cost.value - chosen.cost.value
        if not same:
            out.append(f"By its own account that saves {plain(saved)} a row against its probabilities at 0.5.")
        p = made.probability
        spread = float((p * (1 - p)).sum().sqrt()) / len(p)
        mean = float(p.mean())
        if abs(mean - made.prevalence) > DOUBT * max(spread, 1e-12) and len(p) > 1:
            out.append(
                f"! The mean probability of these rows is {percent(mean)}, the prevalence {percent(made.prevalence)}: "
                "they are no sample of those whom the prevalence is about, or one of the two is wrong."
            )
    return out


def _share(value: Interval) -> str:
    said = plain(100 * value.value, 1)
    if math.isnan(value.low):
        return said
    if value.low == value.high:
        return plain(100 * value.value, 0)
    return f"{said} [{plain(100 * value.low, 1)}, {plain(100 * value.high, 1)}]"


def _cost(value: Interval) -> str:
    said = plain(value.value)
    if math.isnan(value.low) or value.low == value.high:
        return said
    return f"{said} [{plain(value.low)}, {plain(value.high)}]"


def _wrap(text: str) -> str:
    return textwrap.fill(text, 80)
