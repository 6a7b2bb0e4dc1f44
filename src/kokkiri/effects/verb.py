"""The verb `do`: from data and a graph, or a declared adjustment, to the effect of an action with its posterior."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from shlex import quote as shell
from typing import Any

from torch import nn

from kokkiri.causal.adjusted import beside, must_come_before, names_of, noticed
from kokkiri.causal.asked import Asked, event_of, must_be_settable, must_vary, settings
from kokkiri.causal.discrete import CELLS, discrete, enough, needed, why_not
from kokkiri.causal.dose_effect import doses, is_dose
from kokkiri.causal.effect import Effect
from kokkiri.causal.estimand import Estimand
from kokkiri.causal.graph import Graph, Names, as_names, quoted
from kokkiri.causal.identify import identify
from kokkiri.causal.instrument_effect import instrument
from kokkiri.causal.linear_effect import linear
from kokkiri.causal.means_effect import means
from kokkiri.causal.network_effect import Networks, networks
from kokkiri.causal.reading import graph_of
from kokkiri.causal.variables import Columns, Rows
from kokkiri.data.columns import Kind
from kokkiri.effects.arguments import data_set_of, outcome_of, parts_of, treatment_of, whom_of
from kokkiri.effects.of_posterior import inputs_of, of_posterior
from kokkiri.errors import DataError, NotIdentified, Unsupported, UsageError, nearest
from kokkiri.phrases import joined, percent
from kokkiri.posteriors import Particles
from kokkiri.verbs import rows_for

NONE = 0.9  # share of rows with none like them, from which on nothing is compared
LINE = 0.99  # the same where a straight line was asked for, which may go a long way
METHODS = ("discrete", "means", "linear", "instrument", "networks")


def do(
    *what: Any,
    versus: Mapping[str, Any] | Any = None,
    outcome: str | Mapping[str, str] | None = None,
    graph: Graph | Any = None,
    adjust: Names | None = None,
    estimand: str | tuple[str, str] = "average",
    method: str | Networks | None = None,
    network: Callable[[int], nn.Module] | None = None,
    instruments: Names = (),
    interact: Names = (),
    prior: float = 1.0,
    kinds: Mapping[str, str | Kind] | None = None,
    table: str | None = None,
    encoding: str = "utf-8",
    seed: int = 0,
) -> Effect:
    """What happens to an outcome when a treatment is set, rather than seen.

    what: data and treatment. Data: `Data`, or anything `read` takes. Treatment: {"dose": 1}, the column with the value
    it is set to; several columns are set together; a name alone will do for two levels. Before both may stand a
    posterior of `fit`, which then is the model of the outcome: `do(post, data, {"dose": 1}, …)`.
    versus: what the setting is compared with. outcome: a column (default: the data's target), or {"recovered": "yes"}
    for the probability of a value.
    graph: causes, as `identify` takes them; or adjust: the columns that act on both treatment and outcome, () if none
    does because the treatment was drawn by lot. Without either there is no effect, and none is given. With both, the
    graph judges the adjustment.
    estimand: "average", "treated", "untreated", ("group", column) for the effect in each group besides, or ("along",
    column) for a curve of the effect by a column of numbers.
    method: "discrete" (exact, from a table of counts; chosen where all that matters are categories and there are ten
    rows a cell), "linear", "instrument" (two stages), or "networks". interact: columns by which a linear effect may
    differ. instruments: declared ones. network: makes the networks, any nn.Module, of so many outputs; further settings
    in `kk.causal.Networks(…)` as the method. prior: rows that each cell of a table counts for beforehand.

    Raises NotIdentified where the graph leaves the effect open, UsageError and DataError for what cannot be.

    >>> import kokkiri as kk
    >>> effect = kk.do("kidney-stones", {"treatment": "A"}, versus={"treatment": "B"}, adjust="size")
    >>> round(effect.mean, 4), round(effect.association.mean, 4)
    (0.0515, -0.0452)
    """
    post, data, treatment = parts_of(what)
    known = data_set_of(data)
    if known is not None and kinds:
        raise UsageError(f"the data set '{known.name}' is read as it is", needs="a table of your own",
                         found=f"--kind {joined(list(kinds))}", fix="leave --kind out")  # fmt: skip
    form = None if post is None else rows_for(post, data, table=table, encoding=encoding)
    columns = Columns(data if form is None else form, kinds=kinds, table=table, encoding=encoding)
    names, level, other = settings(treatment if treatment is not None else treatment_of(known), versus)
    if post is not None and outcome is None:
        outcome = post.form.target.name
    target, event = outcome_of(data, known, outcome)
    if graph is None and adjust is None and not as_names(instruments) and known is not None and known.graph:
        graph = known.graph
    whom, group, line = whom_of(estimand)
    for name in names:
        columns.must_have(name, "the treatment")
    columns.must_have(target, "the outcome")
    if target in names:
        raise UsageError(f"'{target}' is treatment and outcome", needs="two columns", found=f"{target} twice",
                         fix="name another column as the outcome")  # fmt: skip
    asked = Asked(
        names, level, other, target, event, whom=whom, group=group, along=line, instruments=as_names(instruments),
        interact=as_names(interact), prior=prior, seed=seed,
    )  # fmt: skip
    for name, role in (*((n, "an instrument") for n in asked.instruments),
                       *((n, "what the effect may differ by") for n in (*asked.interact, *asked.given))):  # fmt: skip
        columns.must_have(name, role)
    for name in asked.given:
        if name in {*names, target}:
            raise UsageError(f"'{name}' makes no groups of its own effect", needs="another column",
                             found=f"{estimand}", fix="leave it out")  # fmt: skip
    options = method if isinstance(method, Networks) else Networks(network)
    method = "networks" if isinstance(method, Networks) or (network is not None and method is None) else method
    if method is not None and method not in METHODS:
        raise UsageError(f"there is no method '{method}'", needs=joined([*METHODS]), found=repr(method),
                         fix=nearest(method, METHODS))  # fmt: skip
    if asked.interact and method != "linear":
        raise UsageError("interact is for linear models", needs="method 'linear'", found=method or "no method",
                         fix="--method linear; networks let the effect differ by all columns, as they are")  # fmt: skip
    own = () if post is None else inputs_of(post)
    if post is not None:
        adjust = _what_it_looks_at(post, names, graph, adjust)
    asked = _by_right(asked, columns, graph, adjust, method)
    rows = columns.rows((*_variables(asked), *own)).with_values((*names, target))
    for name in names:
        must_vary(rows, name, "treatment")
        must_be_settable(rows.variables[name])
    must_vary(rows, target, "outcome")
    if asked.along and rows.variables[asked.along].column.kind is Kind.DATE:
        raise Unsupported(f"there is no curve along dates, as in '{asked.along}'", needs="a column of numbers",
                          found=rows.variables[asked.along].column.reason,
                          fix="a column of days, months or years as numbers")  # fmt: skip
    told, notes = noticed(rows, names_of(asked))
    told += beside(asked)
    asked = replace(asked, event=event_of(rows.variables[target], event))
    if post is not None and form is not None:
        if rows.size < len(form):
            raise DataError(
                "some rows lack the treatment or the outcome", needs="both in every row",
                found=f"{rows.size:,} of {len(form):,} rows have them", fix="leave the others out",
            )  # fmt: skip
        found = of_posterior(asked, post, form, rows, options)
    else:
        found = _estimated(asked, rows, method, options)
    facts = {"source": columns.source.name, "sha256": columns.source.sha256, **found.facts}
    lasting = (*rows.lost, *told)
    warnings = (*lasting, *found.warnings)
    return replace(found, facts=facts, warnings=warnings, lasting=lasting, notes=(*notes, *found.notes))


def _what_it_looks_at(post: Particles, names: Sequence[str], graph: Any, adjust: Names | None) -> Names | None:
    """A network conditions on all its inputs, so that these are what is adjusted for."""
    others = tuple(name for name in inputs_of(post) if name not in names)
    if adjust is None:
        return others if graph is not None else None
    if set(as_names(adjust or ())) != set(others):
        raise UsageError(
            "a posterior adjusts for all that its network looks at", needs=f"adjust={joined(list(others))}",
            found=joined(list(as_names(adjust or ()))) or "nothing",
            fix="name them, or fit it on the columns that are right",
        )  # fmt: skip
    return adjust


def _estimated(asked: Asked, rows: Rows, method: str | None, settings_: Networks) -> Effect:
    """By the method that was asked for, or by the one that fits."""
    kind = asked.estimand.kind if asked.estimand is not None else "back-door"
    if asked.instruments or kind == "instrument":
        if method not in {None, "instrument", "linear"}:
            raise UsageError("instruments are for linear models", needs="method 'instrument'", found=repr(method),
                             fix="leave the method out")  # fmt: skip
        found = asked.estimand.instruments if asked.estimand is not None else None
        z, w = (found.variables, found.given) if found is not None else (asked.instruments, asked.adjust)
        return instrument(asked, rows, z, w)
    if method == "instrument":
        raise UsageError(
            "no instrument is needed, or none is named", needs="an instrument, where nothing else identifies",
            found=f"an effect that {kind} identifies", fix="leave the method out, or name instruments",
        )  # fmt: skip
    counted = kind != "back-door"
    adjust = asked.adjust if asked.estimand is None else asked.estimand.adjustment
    if method is None:
        reason = why_not(asked, rows, CELLS if counted else enough(asked, rows))
        alone = not adjust and not asked.given and asked.whom == "average" and not rows.tensors
        exact = "discrete" if counted or not reason else "means" if alone else "networks"
        method = "networks" if asked.along else exact
    if method == "means":
        if adjust or asked.given:
            raise UsageError("means of levels adjust for nothing", needs="adjust=(), no groups", found=joined(
                [*adjust, *asked.given]), fix="another method")  # fmt: skip
        return means(asked, rows)
    if asked.along and method != "networks":
        raise Unsupported(f"{method} draws no curve along '{asked.along}'", needs="networks", found=method,
                          fix=f"method='networks', or groups: ('group', '{asked.along}')")  # fmt: skip
    if method == "discrete":
        return discrete(asked, rows)
    if counted:
        raise Unsupported(
            f"{method} cannot compute this formula", needs="an effect that adjustment identifies", found=kind,
            fix="method='discrete', with numbers cut into categories",
        )  # fmt: skip
    if method == "linear":
        found = linear(asked, rows.categorical(asked.group) if asked.group else rows, adjust)
        if adjust:
            _must_overlap(found, LINE)
        return found
    extra = asked.conditional.adjustment if asked.conditional is not None else ()
    every = tuple(dict.fromkeys((*adjust, *extra, *asked.given)))
    if is_dose([rows.variables[name] for name in asked.treatments]):
        if asked.given:
            raise Unsupported("doses have no effects by groups with networks", needs="the average effect",
                              found=joined([*asked.given]), fix="--method linear, or leave the groups out")  # fmt: skip
        found = doses(asked, rows, every, settings_)
    else:
        found = networks(asked, rows, every, settings_)
    _must_overlap(found, NONE)
    return found


def _must_overlap(found: Effect, limit: float) -> None:
    """An error where there are no two alike rows with different treatments."""
    overlap = found.overlap
    if overlap is not None and overlap.beyond > limit:
        a, b = found.levels[found.level], found.levels[found.versus]
        raise DataError(
            "no overlap at all: what is adjusted for tells the treatment of every row",
            needs=f"rows that are alike, with {a} and with {b}",
            found=f"{percent(overlap.beyond)} of the rows have none like them with the other",
            fix="adjust for less, if that is right; else these data say nothing about this effect",
        )  # fmt: skip


def _by_right(asked: Asked, columns: Columns, graph: Any, adjust: Names | None, method: str | None) -> Asked:
    """The question with what makes it an effect: a formula, or what the user declares."""
    wanted = None if adjust is None else as_names(adjust or ())
    for name in wanted or ():
        columns.must_have(name, "something to adjust for")
        if name in {*asked.treatments, asked.outcome}:
            raise UsageError(f"'{name}' cannot be adjusted for", needs="columns besides treatment and outcome",
                             found=joined(list(wanted or ())), fix="leave it out")  # fmt: skip
    if graph is None:
        if wanted is None and not asked.instruments:
            raise _refusal(asked, columns)
        return replace(asked, adjust=wanted or ())
    source = graph_of(graph)
    if asked.instruments:
        raise UsageError("a graph finds its instruments itself", needs="a graph, or instruments", found="both",
                         fix="leave the instruments out, or the graph")  # fmt: skip
    for name in source.observed:
        if name not in columns.names:
            raise UsageError(
                f"'{name}' is in the graph, and no column of {columns.source.name}", needs="a column for each variable "
                "that is not latent", found=f"{len(columns.names)} columns",
                fix=f"where nobody measured it, write: {name} [latent]; {nearest(name, columns.names)}",
            )  # fmt: skip
    linear_model = method in {"instrument", "linear"}
    try:
        found = identify(source, asked.treatments, asked.outcome, adjust=wanted, linear=linear_model)
        among = None if not asked.given else identify(source, asked.treatments, asked.outcome, asked.given)
    except NotIdentified as error:
        raise _in_other_words(error) from None
    for name in asked.interact:
        if name not in source.observed:
            raise UsageError(f"'{name}' is no variable of the graph", needs="one of its nodes", found=repr(name),
                             fix=nearest(name, source.observed))  # fmt: skip
    must_come_before(source, asked.treatments, (*(wanted or ()), *asked.interact), asked.given)
    if found.kind == "no effect":
        raise UsageError(
            f"{', '.join(asked.treatments)} does not act on {asked.outcome}, by the graph: the effect is 0, whatever "
            "the data say", needs=f"a directed path to {asked.outcome}", found=str(source)[:200],
            fix="turn an arrow, or add one, if that is wrong",
        )  # fmt: skip
    return replace(asked, estimand=found, conditional=among)


def _refusal(asked: Asked, columns: Columns) -> UsageError:
    """Data alone show what goes along, and no effect."""
    t, y = asked.treatments[0], asked.outcome
    others = [n for n in columns.names if n not in {*asked.treatments, y}]
    z = next((n for n in others if columns.adjustable(n)), "age")
    a, b, c = (quoted(name) for name in (z, t, y))
    return UsageError(
        f"these data alone cannot say what {t} does to {y}: they show what goes along with it",
        needs="a graph of what acts on what, or the columns that act on both",
        found=f"neither; there are: {joined(others)}" if others else "neither",
        fix=f'--graph "{a} -> {{{b}, {c}}}; {b} -> {c}" or --adjust {shell(z)}; --adjust "" where {t} was drawn by lot',
    )


def _in_other_words(error: NotIdentified) -> NotIdentified:
    """The refusal of `identify` in the terms of do."""
    fix = error.fix.replace("(linear=True)", "(--method instrument)")
    return NotIdentified(
        error.what, needs=error.needs, found=error.found, fix=fix,
        hedge=error.hedge, remedies=error.remedies, bounds=error.bounds, witness=error.witness,
    )  # fmt: skip


def _variables(asked: Asked) -> Sequence[str]:
    """All columns that are looked at."""
    names = [*needed(asked), *asked.instruments, *asked.interact]
    for estimand in (asked.estimand, asked.conditional):
        if isinstance(estimand, Estimand):
            names += [*estimand.adjustment, *estimand.mediators]
            names += [*estimand.instruments.variables, *estimand.instruments.given] if estimand.instruments else []
    return tuple(dict.fromkeys(names))
