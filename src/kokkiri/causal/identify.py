"""From a graph and a question to a formula: the simplest that is right, or a refusal that says what would help."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kokkiri.causal.adjustment import Question, check_adjustment, measured, optimal_adjustment_set, question
from kokkiri.causal.estimand import Estimand
from kokkiri.causal.expression import Covariances, Expression, Fraction, case_by_case, probability, product, total
from kokkiri.causal.front_door import front_door
from kokkiri.causal.graph import Graph, Names, as_names
from kokkiri.causal.identification import HedgeFound, Step, identified
from kokkiri.causal.instruments import instruments
from kokkiri.causal.reading import GraphLike, graph_of
from kokkiri.causal.remedies import not_identified
from kokkiri.causal.separation import directed_path
from kokkiri.causal.verify import LIMIT, Check, check_adjusted, check_formula, check_instruments
from kokkiri.errors import UsageError

AMONG = {
    "all": "no other valid set is more precise in large samples",
    "ancestors": "no other valid set of causes of treatment or outcome is more precise in large samples",
    "": "",
}


def identify(
    graph: GraphLike,
    treatment: Names,
    outcome: Names,
    given: Names = (),
    *,
    adjust: Names | None = None,
    linear: bool = False,
) -> Estimand:
    """P(outcome | do(treatment), given) as a formula of what is observed, checked on random models.

    Adjustment is preferred, with the most precise set; then the front-door formula; then whatever the complete
    algorithms ID and IDC find. `adjust` asks for adjustment by these variables, and is refused where that would be
    wrong. With `linear` an instrument will do where nothing else does, unless covariates are given: in linear models
    they make no difference. Otherwise `NotIdentified` says what would help.

    >>> print(identify("age -> {dose, outcome}; dose -> outcome", "dose", "outcome").formula)
    Σ_age P(outcome | age, dose) P(age)
    """
    source = graph_of(graph)
    asked = question(source, treatment, outcome, given)
    _refuse_backwards(asked)
    if adjust is not None:
        check_adjustment(source, treatment, outcome, adjust, given)
        return _back_door(source, asked, measured(source, asked.graph, as_names(adjust)) & ~asked.c, "as was asked")
    masks = asked.graph.masks
    if not masks.descendants(asked.x) & (asked.y | asked.c):
        return _no_effect(source, asked)
    best = optimal_adjustment_set(source, treatment, outcome, given=given)
    if best is not None:
        return _back_door(source, asked, asked.graph.mask(best.variables), AMONG[best.among])
    if not asked.c and (mediators := front_door(asked)) is not None:
        return _front_door(source, asked, mediators)
    try:
        return _general(source, asked)
    except HedgeFound as hedge:
        if linear and not asked.c and (found := instruments(source, treatment, outcome)):
            names = asked.graph.names
            above = Covariances(found[0].variables, names(asked.y), found[0].given)
            below = Covariances(found[0].variables, names(asked.x), found[0].given)
            formula = Fraction(above, below)
            check = check_instruments(asked.graph, formula, asked.x, asked.y)
            note = "only if all effects are linear; without that an instrument gives bounds"
            return _estimand(source, asked, "instrument", formula, (), check, instruments=found[0], note=note)
        raise not_identified(source, asked, hedge) from None


def _refuse_backwards(asked: Question) -> None:
    masks, names = asked.graph.masks, asked.graph.names
    backwards = asked.y & masks.ancestors(asked.x) & ~masks.descendants(asked.x)
    if backwards:
        outcome, treatments = names(backwards)[0], names(asked.x)
        path = directed_path(asked.graph, outcome, treatments)
        raise UsageError(
            f"'{outcome}' acts on '{path.nodes[-1] if path else ''}', and cannot be an effect of it",
            needs="an outcome that comes after the treatment", found=str(path),
            fix="exchange treatment and outcome, or turn the arrow that is wrong",
        )  # fmt: skip


def _estimand(
    source: Graph, asked: Question, kind: str, formula: Expression, steps: Iterable[Step], check: Check, **more: Any
) -> Estimand:
    x, y, c = (asked.graph.names(m) for m in (asked.x, asked.y, asked.c))
    return Estimand(source, x, y, c, kind, formula, tuple(steps), check, **more)


def _no_effect(source: Graph, asked: Question) -> Estimand:
    names = asked.graph.names
    formula = probability(names(asked.y), names(asked.c))
    query = probability(names(asked.y), names(asked.c), names(asked.x))
    check = check_formula(asked.graph, formula, asked.x, asked.y, asked.c)
    reason = f"no directed path leads from {', '.join(names(asked.x))} to it (rule 3)"
    return _estimand(source, asked, "no effect", formula, [Step(query, formula, reason)], check)


def _back_door(source: Graph, asked: Question, z: int, note: str) -> Estimand:
    names = asked.graph.names
    x, y, c, zs = (names(m) for m in (asked.x, asked.y, asked.c, z))
    xs, inner = ", ".join(x), probability(y, (*x, *zs, *c))
    formula = total(zs, product(inner, probability(zs, c))) if zs else inner
    query, seen = probability(y, c, x), f" given {', '.join((*zs, *c))}" if zs or c else ""
    blocked = f"no path that enters {xs} from behind is open{seen}: seen is as good as set (rule 2)"
    if asked.graph.masks.descendants(asked.x) & z:
        reason = f"{{{', '.join(zs)}}} blocks every path that is not causal, and is on none that is, or behind it"
        steps = [Step(query, formula, f"{reason} (complete adjustment criterion)")]
    elif zs:
        steps = [
            Step(
                query,
                case_by_case(zs, probability(y, (*zs, *c), x), probability(zs, c, x)),
                "one case for each value",
            ),
            Step(probability(zs, c, x), probability(zs, c), f"{xs} does not act on {', '.join(zs)} (rule 3)"),
            Step(probability(y, (*zs, *c), x), inner, blocked),
            Step(query, formula, "putting the parts together"),
        ]
    else:
        steps = [Step(query, formula, blocked)]
    size = (asked.x | asked.y | asked.c | z).bit_count()
    check = (
        check_adjusted(asked.graph, asked.x, asked.y, z | asked.c) if size > LIMIT
        else check_formula(asked.graph, formula, asked.x, asked.y, asked.c)
    )  # fmt: skip
    return _estimand(source, asked, "back-door", formula, steps, check, adjustment=zs, note=note)


def _front_door(source: Graph, asked: Question, m: int) -> Estimand:
    names = asked.graph.names
    x, y, ms = names(asked.x), names(asked.y), names(m)
    xs, via = ", ".join(x), ", ".join(ms)
    query = probability(y, (), x)
    first, second = probability(ms, x), total(x, product(probability(y, (*ms, *x)), probability(x)))
    formula = total(ms, product(first, second))
    set_both = probability(y, (), ms)
    steps = [
        Step(query, case_by_case(ms, probability(ms, (), x), probability(y, ms, x)), "one case for each value"),
        Step(probability(ms, (), x), first, f"no path enters {xs} from behind and reaches {via} open (rule 2)"),
        Step(probability(y, ms, x), set_both,
             f"{xs} blocks every path that enters {via} from behind (rule 2), and acts only through {via} (rule 3)"),
        Step(set_both, second, f"adjustment of the effect of {via} for {xs}"),
        Step(query, formula, "putting the parts together"),
    ]  # fmt: skip
    check = check_formula(asked.graph, formula, asked.x, asked.y, 0)
    return _estimand(source, asked, "front-door", formula, steps, check, mediators=ms)


def _general(source: Graph, asked: Question) -> Estimand:
    """What ID or IDC finds in the part of the graph that can matter."""
    inside = asked.graph.names(asked.graph.masks.ancestors(asked.x | asked.y | asked.c))
    part = asked.graph.subgraph(inside)
    x, y, c = (part.mask(asked.graph.names(m)) for m in (asked.x, asked.y, asked.c))
    try:
        found = identified(part, y, x, c)
    except HedgeFound as hedge:
        raise HedgeFound(*(asked.graph.mask(part.names(m)) for m in (hedge.larger, hedge.smaller))) from None
    check = check_formula(asked.graph, found.expression, asked.x, asked.y, asked.c)
    return _estimand(source, asked, "general", found.expression, found.steps, check)
