"""The page of an effect: what was asked, what came out, whether to believe it, and what nobody can know."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kokkiri import phrases
from kokkiri.causal import drawing as graph_drawing
from kokkiri.causal import effect_pictures, effect_words
from kokkiri.causal.balance import SHOWN
from kokkiri.errors import KokkiriError
from kokkiri.report.assumptions import assumptions
from kokkiri.training.checkpoints import write_atomically

if TYPE_CHECKING:
    from kokkiri.causal.balance import Balance
    from kokkiri.causal.effect import Effect
    from kokkiri.causal.overlap import Overlap
    from kokkiri.causal.quantities import Quantity
    from kokkiri.causal.refutation import Refutation
    from kokkiri.causal.sensitivity import Sensitivity

CUSTOMS = {
    "placebo treatment": "treatments dealt by lot: nothing may be found",
    "random common cause": "a column of noise beside what is adjusted for: nothing may move",
    "random subset": "fewer rows: the same, but for chance",
    "dummy outcome": "an outcome on which the treatment cannot act: nothing may be found",
    "bootstrap": "rows weighted anew: as far as the posterior is wide",
}


@dataclass(frozen=True)
class Figure:
    """A number that stands large."""

    value: str
    name: str
    range: str = ""


def write(
    path: str | Path,
    effect: Effect,
    *,
    command: str = "",
    level: float = 0.95,
    refutation: Refutation | None = None,
    sensitivity: Sensitivity | None = None,
) -> Path:
    """Write the page to `path`, whole or not at all. What is not given is computed. Raises OutputError."""
    path = Path(path)
    page = html(effect, command=command, level=level, refutation=refutation, sensitivity=sensitivity)
    write_atomically(path, page.encode())
    return path


def html(
    effect: Effect,
    *,
    command: str = "",
    level: float = 0.95,
    refutation: Refutation | None = None,
    sensitivity: Sensitivity | None = None,
) -> str:
    """The page as text. Everything that came from the user is escaped."""
    from jinja2 import Environment, StrictUndefined

    no_refutation = ""
    if refutation is None:
        try:
            refutation = effect.refute()
        except KokkiriError as error:
            no_refutation = f"{error.what}. It needs {error.needs}"
    sensitivity = effect.sensitivity() if sensitivity is None else sensitivity
    noted = [effect.estimand.note] if effect.estimand is not None and effect.estimand.note else []
    checks = dict(effect_words.checked(effect))
    overlap, balance = checks.get("overlap"), checks.get("balance")
    convicted = refutation is not None and refutation.convicted
    distrusted = convicted or effect_words.distrusted(effect, [*checks.items()])
    folder = resources.files("kokkiri.report") / "templates"
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"minus": minus, "formula": formula_html, "plain": lambda *a: minus(phrases.plain(*a))}
    return environment.from_string((folder / "effect.html").read_text("utf-8")).render(
        style=(folder / "page.css").read_text("utf-8") + (folder / "effect.css").read_text("utf-8"),
        effect=effect, command=command, kicker=" · ".join(filter(None, (source(effect), f"do({effect.treatment})"))),
        sentence=minus(sentence(effect, level)), distrusted=distrusted,
        warnings=warnings(effect, overlap, balance, refutation),
        figures=figures(effect, overlap, level), graph=graph(effect), formula=effect.formula,
        right=effect_words.right(effect), seen=seen_and_done(effect, level), heads=heads(effect),
        level=f"{100 * level:g}",
        posterior=effect_pictures.posterior(effect, level), groups=group_rows(effect, level),
        groups_picture=effect_pictures.groups(effect, level) if effect.groups else "",
        dose=effect_pictures.dose_response(effect, level) if effect.curve is not None else "",
        along=effect_pictures.along(effect, level) if effect.along is not None else "",
        whose=effect_words.whose(effect), unmeasured=effect_words.unmeasured(effect),
        overlap=overlap, balance=balance, shown=SHOWN, refutation=refutation, no_refutation=no_refutation,
        customs=CUSTOMS, sensitivity=sensitivity, assumed=assumptions(effect), versions=_versions(),
        notes=[*effect.notes, *noted],
    )  # fmt: skip


def sentence(effect: Effect, level: float = 0.95) -> str:
    """The answer, as one would say it."""
    one, other = effect.levels[effect.level], effect.levels[effect.versus]
    what = f"the probability of {effect.outcome} = {effect.event}" if effect.event else f"the mean of {effect.outcome}"
    among = "" if effect.whom == "average" else f", among rows that had {effect_words.had(effect)}"
    q = effect.effect
    low, high = q.interval(level)
    number = lambda v: phrases.plain(v, max(0, effect_words.decimals(effect) - 1))
    does = f"Setting {effect.treatment} to {one} rather than {other}"
    if len(effect.treatments) > 1:
        does = f"Setting {one} rather than {other}"
    if low < 0 < high:
        open_ = f"whether it does at all is open: {number(low)} to {number(high)}"
        return f"{does} changes {what} by {number(q.centre)}{among}; {open_}"
    ends = f"{number(low)} to {number(high)}" if low >= 0 else f"{number(-high)} to {number(-low)}"
    verb, size = "raises" if low >= 0 else "lowers", number(abs(q.centre))
    return f"{does} {verb} {what} by {size}{among}: by {ends} with a probability of {100 * level:g} %"


def figures(effect: Effect, overlap: Overlap | None, level: float) -> list[Figure]:
    """The few numbers that stand large at the top."""
    digits = effect_words.decimals(effect)
    name = {"average": "effect", "treated": "effect on the treated", "untreated": "effect on the untreated"}
    p = effect.probability()
    sign = "above" if p >= 0.5 else "below"
    found = [
        _figure(effect.effect, name[effect.whom], level, digits),
        Figure(effect_words.sure(max(p, 1 - p)), f"probability that it is {sign} 0"),
        _figure(effect.association, "what goes along, which is no effect", level, digits),
    ]
    if overlap is not None:
        worst = min((overlap.level, overlap.versus), key=lambda a: a.effective / max(a.rows, 1))
        found.append(Figure(f"{worst.effective:,.0f}", f"rows that the {worst.rows:,} with {worst.name} are worth"))
    else:
        found.append(Figure(f"{effect.rows:,}", "rows"))
    return found


def _figure(q: Quantity, name: str, level: float, digits: int) -> Figure:
    low, high = q.interval(level)
    number = lambda v: minus(phrases.plain(v, digits))
    return Figure(number(q.centre), name, f"{number(low)} to {number(high)}")


def warnings(
    effect: Effect, overlap: Overlap | None, balance: Balance | None, refutation: Refutation | None
) -> list[str]:
    """All that must be read with the number."""
    found = list(effect.warnings)
    if refutation is not None and refutation.convicted:
        found.insert(0, refutation.verdict)
    for check in (overlap, balance):
        found += [] if check is None else check.warnings
    return [minus(text[:1].upper() + text[1:]) for text in dict.fromkeys(found)]


def seen_and_done(effect: Effect, level: float) -> list[tuple[str, tuple[str, str], tuple[str, str]]]:
    """A row for each level and the difference: what was seen, what doing does, with intervals."""
    digits = effect_words.decimals(effect)
    first = [effect.level, effect.versus]
    order = [*first, *(k for k in range(len(effect.levels)) if k not in first)][: effect_words.SHOWN]
    told = lambda q: _told(q, level, digits)
    rows = [(effect.levels[k], told(_of_level(effect, "seen", k)), told(_of_level(effect, "done", k))) for k in order]
    pair = f"{effect.levels[effect.level]} − {effect.levels[effect.versus]}"
    return [*rows, (pair, told(effect.association), told(effect.effect))]


def heads(effect: Effect) -> tuple[str, str]:
    """What the two columns hold, as formulas."""
    of = f"P({effect.outcome} = {effect.event}" if effect.event else f"E({effect.outcome}"
    return f"{of} | {effect.treatment})", f"{of} | do({effect.treatment}))"


def _of_level(effect: Effect, which: str, k: int) -> Quantity:
    from kokkiri.causal.quantities import Quantity

    draws, exact = (effect.seen, effect.exact_seen) if which == "seen" else (effect.means, effect.exact_means)
    moments = effect.moments or which == "seen"
    return Quantity(draws[:, k], known_mean=None if exact is None else float(exact[k]), moments=moments)


def _told(q: Quantity, level: float, digits: int) -> tuple[str, str]:
    low, high = q.interval(level)
    number = lambda v: minus(phrases.plain(v, digits))
    return number(q.centre), f"{number(low)} to {number(high)}"


def group_rows(effect: Effect, level: float) -> list[tuple[str, str, str, str, str]]:
    """Group, share of the rows, mean, interval, probability that it is above 0."""
    digits, sure = effect_words.decimals(effect), effect_words.sure
    return [
        (f"{g.column} = {g.value}", phrases.percent(g.share), *_told(q, level, digits), sure(q.probability()))
        for g, q in zip(effect.groups, effect.group_effects.values(), strict=True)
    ]  # fmt: skip


def graph(effect: Effect) -> str:
    """The graph with treatment, outcome and what is adjusted for marked; "" where none was given."""
    if effect.estimand is None:
        return ""
    e = effect.estimand
    return graph_drawing.picture(e.graph, e.treatment, e.outcome, (*e.adjustment, *e.mediators))


def formula_html(text: str) -> Any:
    """A formula with its indices below the line, escaped.

    >>> str(formula_html("Σ_{a, b} P(y | a<b)"))
    'Σ<sub>a, b</sub> P(y | a&lt;b)'
    """
    from markupsafe import Markup, escape

    text = str(escape(text))
    text = re.sub(r"Σ_\{([^}]*)\}", r"Σ<sub>\1</sub>", text)
    return Markup(re.sub(r"Σ_([^\s{]+)", r"Σ<sub>\1</sub>", text))  # ruff: ignore[unsafe-markup-use] - escaped above


def source(effect: Effect) -> str:
    """Where the rows came from, if that has a name."""
    return effect_words.of_source(effect).removeprefix(" of ")


def minus(text: str) -> str:
    """A minus sign where ASCII has a hyphen."""
    return re.sub(r"(?<![\w-])-(?=[\d∞i])", "−", text)


def _versions() -> Sequence[tuple[str, str]]:
    from importlib.metadata import version

    return [(name, version(name)) for name in ("kokkiri", "torch")]
