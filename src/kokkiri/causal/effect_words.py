"""Effects as plain text of at most 80 columns. What goes along with a treatment is never called its effect."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from torch import Tensor

from kokkiri import phrases
from kokkiri.causal.estimand import KINDS, WIDTH, wrapped
from kokkiri.causal.expression import Covariances, Fraction, probability, product, total
from kokkiri.causal.formulas import unicode
from kokkiri.causal.quantities import Quantity

if TYPE_CHECKING:
    from kokkiri.causal.effect import Effect
    from kokkiri.causal.quantities import Curve

SHOWN = 12  # levels or groups
PLACES = 5  # of a curve
WIDE = 26  # of the first column
DISTRUST = "Do not trust this number: see the warnings at the end."
NO_REFUTERS = "refuters are not made for doses by networks"
PLAIN = {"yes", "no", "true", "false"}  # words that do not say of what


def text(effect: Effect, level: float = 0.95) -> str:
    """Header, table, groups, how it was computed, warnings."""
    checks = checked(effect)
    doubt = distrusted(effect, checks)
    parts = [header(effect) + (f"\n{DISTRUST}" if doubt else ""), main_table(effect, level)]
    if effect.groups:
        parts.append(group_table(effect, level))
    if effect.curve is not None:
        parts.append(curve_table(effect.curve, effect.treatment, "done: mean", level, decimals(effect)))
    if effect.along is not None:
        parts.append(curve_table(effect.along[1], effect.along[0], "effect: mean", level, decimals(effect)))
    lines, warnings = how(effect), list(effect.warnings)
    for name, found in checks:
        warnings += found.warnings
        if not any(w.startswith(found.verdict) for w in found.warnings):  # what is loud is said once
            lines += wrapped(found.verdict, f"  {name:<9}", " " * 11)
    parts.append("\n".join(lines))
    if warnings:
        parts.append("\n".join(line for w in warnings for line in wrapped(w, "! ", "  ")))
    return "\n\n".join(parts)


def distrusted(effect: Effect, checks: Sequence[tuple[str, Any]]) -> bool:
    """Whether the number must not be believed: by its overlap, or because a warning says so."""
    overlap = dict(checks).get("overlap")
    bad = overlap is not None and overlap.grade in {"bad", "none"}
    return bad or any("do not trust" in w for w in effect.warnings)


def checked(effect: Effect) -> list[tuple[str, Any]]:
    """Overlap and balance, where something was adjusted for by weights or could have been."""
    if effect.sample is None or effect.instruments or not (effect.sample.names or effect.nuisances is not None):
        return []
    both = [("overlap", effect.overlap), ("balance", effect.balance if effect.sample.names else None)]
    return [(name, found) for name, found in both if found is not None]


def header(effect: Effect) -> str:
    """The question in words."""
    whose = "" if effect.whom == "average" else f" among those who had {had(effect)}"
    what = f"probability of {effect.outcome} = {effect.event}" if effect.event else f"mean of {effect.outcome}"
    asked = f"the effect of {effect.treatment} on the {what}{whose}"
    rows = f"{phrases.count(effect.rows, 'row')}{of_source(effect)}"
    return "\n".join(wrapped(f"{asked}, from {rows}", "", "  "))


def had(effect: Effect) -> str:
    """The setting of those whose effect is asked for."""
    return spoken(effect, effect.level if effect.whom == "treated" else effect.versus)


def spoken(effect: Effect, level: int) -> str:
    """A setting as people say it: the bare level, with its column where it does not speak for itself."""
    word = effect.levels[level]
    speaks = any(c.isalpha() for c in word) and word.casefold() not in PLAIN
    return word if speaks or len(effect.treatments) > 1 else f"{effect.treatment} = {word}"


def whose(effect: Effect) -> str:
    """Whose mean stands in place of that over all rows; "" for the average over all."""
    z = effect.adjust if effect.estimand is None else effect.estimand.adjustment
    if effect.whom == "average" or not z:
        return ""
    names = ", ".join(z)
    return f"among those who had {had(effect)}: P({names} | {had(effect)}) in place of P({names})"


def unmeasured(effect: Effect) -> str:
    """What is to be said of overlap where it is not measured: of a treatment that is a number."""
    z = effect.adjust if effect.estimand is None else effect.estimand.adjustment
    if effect.instruments or effect.curve is None or effect.near is not None or not z:
        return ""
    if effect.estimand is not None and effect.estimand.instruments:
        return ""
    return (f"not measured, since {effect.treatment} is a number: where few rows that are alike have a value, the "
            "model alone speaks")  # fmt: skip


def of_source(effect: Effect) -> str:
    """Where the rows came from, if that has a name."""
    name, more = str(effect.facts.get("source", "")), int(effect.facts.get("updates", 0))
    if name in {"", "arrays", "an array"}:
        return ""
    name = PurePath(name).name or name  # of a file its name: the way to it may be longer than a line
    return f" of {name}" + (f" and {phrases.count(more, 'update')}" if more else "")


def main_table(effect: Effect, level: float = 0.95) -> str:
    """What was seen beside what doing does: levels, difference, interval, probability."""
    goes, does = effect.association, effect.effect
    digits = decimals(effect)
    number = lambda v: phrases.plain(float(v), digits)
    pair = f"{effect.levels[effect.level]} - {effect.levels[effect.versus]}"
    if len(pair) > WIDE - 2:
        pair = "difference"
    name = effect.treatment if len(effect.treatment) <= WIDE else ""
    rows: list[list[str]] = [[name, "seen: no effect", "done: the effect"]]
    if effect.plugin is not None and effect.seen_plugin is not None:
        rows.append([effect.plugin_name, "", ""])
        rows += _levels(effect, effect.seen_plugin, effect.plugin, digits)
        rows.append([f"  {pair}", *(number(v[effect.level] - v[effect.versus])
                                    for v in (effect.seen_plugin, effect.plugin))])  # fmt: skip
    rows.append(["posterior", "", ""])
    rows += _levels(effect, _centres(effect, effect.seen, effect.exact_seen), _centres(effect, effect.means,
                    effect.exact_means), digits)  # fmt: skip
    rows.append([f"  {pair}", number(goes.centre), number(does.centre)])
    rows.append([f"    {100 * level:g} % interval", *(between(q, level, digits) for q in (goes, does))])
    rows.append(["    P(difference > 0)", *(sure(q.probability()) for q in (goes, does))])
    return phrases.table(rows[0], rows[1:])


def group_table(effect: Effect, level: float = 0.95) -> str:
    """The effect in each group."""
    digits = decimals(effect)
    rows = []
    for group, q in zip(effect.groups[:SHOWN], effect.group_effects.values(), strict=False):
        rows.append([f"{group.column} = {group.value}", phrases.percent(group.share), phrases.plain(q.centre, digits),
                     between(q, level, digits), sure(q.probability())])  # fmt: skip
    more = len(effect.groups) - SHOWN
    found = phrases.table(["effect among", "rows", "mean", f"{100 * level:g} % interval", "P(> 0)"], rows)
    return found + (f"\nand {phrases.count(more, 'more group')}" if more > 0 else "")


def curve_table(curve: Curve, column: str, name: str, level: float, digits: int) -> str:
    """A few places of a curve, with the interval of each."""
    places = [round(k * (len(curve.values) - 1) / (PLACES - 1)) for k in range(PLACES)]
    rows = []
    for k in places:
        low, high = Quantity(curve.means[:, k]).interval(level)
        ends = f"[{phrases.plain(low, digits)}, {phrases.plain(high, digits)}]"
        rows.append([
            phrases.plain(float(curve.values[k])),
            phrases.plain(float(curve.means[:, k].mean()), digits),
            ends,
        ])
    return phrases.table([column, name, f"{100 * level:g} % interval"], rows)


def how(effect: Effect) -> list[str]:
    """Formula, right, method, and what was noticed."""
    lines, estimand = wrapped(formula(effect), "", "    "), effect.estimand
    if estimand is not None and len(estimand.steps) > 1:
        lines += estimand.derivation.split("\n")
    rows = [("by", right(effect)), ("whose", whose(effect))]
    if estimand is not None:
        rows += [("graph", graph_line(effect)), ("note", estimand.note), ("checked", str(estimand.check))]
    rows += [("method", f"{effect.method}; {effect.exact}")]
    if len(effect.levels) > 2:
        pair = f"{effect.levels[effect.level]} against {effect.levels[effect.versus]}"
        rows.append(("levels", f"{pair}; there are {phrases.joined(list(effect.levels))}"))
    rows += [
        ("overlap", unmeasured(effect)),
        ("refuted", f"not tried: {NO_REFUTERS}" if effect.near is not None else ""),
    ]
    rows += [("noted", note) for note in effect.notes]
    for name, words in rows:
        lines += wrapped(words, f"  {name:<9}", " " * 11) if words else []
    return lines


def graph_line(effect: Effect) -> str:
    """The arrows, or how many there are."""
    assert effect.estimand is not None
    arrows = str(effect.estimand.graph)
    return arrows if len(arrows) <= 4 * WIDTH else repr(effect.estimand.graph)


def formula(effect: Effect) -> str:
    """P(y | do(t)) = …"""
    if effect.estimand is not None:
        return f"{effect.estimand.query} = {effect.estimand.formula}"
    if effect.instruments:
        x, y, z = (", ".join(n) for n in (effect.treatments, [effect.outcome], effect.instruments))
        slope = f"d E({y} | do({x})) / d {x}" if len(effect.treatments) == 1 else f"slopes of E({y} | do({x}))"
        above, below = (
            Covariances(effect.instruments, n, effect.adjust) for n in ((effect.outcome,), effect.treatments)
        )
        if len(effect.instruments) == len(effect.treatments):
            return f"{slope} = {unicode(Fraction(above, below))}"
        return f"{slope} by two stages of least squares, the first of {x} on {z}"
    query = probability([effect.outcome], (), effect.treatments)
    inner = probability([effect.outcome], [*effect.treatments, *effect.adjust])
    z = effect.adjust
    found = total(z, product(inner, probability(z))) if z else inner
    order = (*z, *effect.treatments, effect.outcome)
    return f"{unicode(query, order)} = {unicode(found, order)}"


def right(effect: Effect) -> str:
    """By what right the number is called an effect."""
    if effect.estimand is None and effect.instruments:
        what = f"instrument {', '.join(effect.instruments)}"
        what += f" given {', '.join(effect.adjust)}" if effect.adjust else ""
        alone = f"it reaches {effect.outcome} through {effect.treatment} alone"
        return f"{what}, as you declared: data cannot test that {alone}"
    if effect.estimand is None:
        what = f"adjustment for {', '.join(effect.adjust)}" if effect.adjust else "no adjustment"
        return f"{what}, as you declared: data cannot test that nothing else acts on both"
    by = KINDS[effect.estimand.kind]
    by += f" for {', '.join(effect.estimand.adjustment)}" if effect.estimand.adjustment else ""
    if effect.estimand.kind == "back-door" and not effect.estimand.adjustment:
        by = "no adjustment is needed"
    by += f" through {', '.join(effect.estimand.mediators)}" if effect.estimand.mediators else ""
    by += f": {effect.estimand.instruments}" if effect.estimand.instruments else ""
    return f"{by}, as the graph has it: right if the graph is"


def decimals(effect: Effect) -> int:
    """So many that the interval is seen to three digits; four for probabilities."""
    import math

    low, high = effect.interval()
    width = (high - low) / 4
    if not 0 < width < math.inf:
        return 4 if effect.event else 3
    return max(0, min(8, 2 - math.floor(math.log10(width))))


def between(quantity: Quantity, level: float, digits: int) -> str:
    """The interval."""
    low, high = quantity.interval(level)
    return f"[{phrases.plain(low, digits)}, {phrases.plain(high, digits)}]"


def sure(p: float) -> str:
    """A probability to four digits, and never a certainty.

    >>> sure(0.93764), sure(1.0), sure(0.0)
    ('0.9376', '> 0.9999', '< 0.0001')
    """
    if p < 1e-4:
        return "< 0.0001"
    return "> 0.9999" if p > 0.9999 else f"{p:.4f}"


def _levels(
    effect: Effect, seen: Sequence[float] | Tensor, done: Sequence[float] | Tensor, digits: int
) -> list[list[str]]:
    """The two that are compared, and others as far as there is room."""
    first = [effect.level, effect.versus]
    order = [*first, *(k for k in range(len(effect.levels)) if k not in first)][:SHOWN]
    return [[f"  {effect.levels[k]}", phrases.plain(float(seen[k]), digits), phrases.plain(float(done[k]), digits)]
            for k in order]  # fmt: skip


def _centres(effect: Effect, draws: Tensor, exact: Tensor | None) -> Tensor:
    if exact is not None:
        return exact
    return draws.mean(0) if effect.moments else draws.median(0).values
