"""What would help where an effect is not identified: what to measure, what to assume, what is known."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice, starmap

from kokkiri.causal.adjustment import Question, question
from kokkiri.causal.bounds import Bounds
from kokkiri.causal.expression import probability
from kokkiri.causal.formulas import unicode
from kokkiri.causal.graph import Graph
from kokkiri.causal.identification import HedgeFound, identified
from kokkiri.causal.instruments import instruments
from kokkiri.causal.masks import bits
from kokkiri.causal.witness import witness
from kokkiri.errors import NotIdentified
from kokkiri.phrases import joined

DEEP, SHOWN = 3, 3  # measurements in one proposal, proposals of a kind
RUNS, NODES = 200, 20_000  # identifications that are tried, and nodes that these may have together
LARGE = 200  # nodes; beyond, instruments have to be asked for


@dataclass(frozen=True)
class Remedy:
    """One thing that would identify the effect, or bound it.

    `kind` is "measure" (the latent nodes in `variables`), "hidden cause" (the bidirected edges in `edges`, whose causes
    would have to be measured), "mediator" (something measured on the arrows in `edges`), "instrument" (in a linear
    model) or "bounds".
    """

    kind: str
    text: str
    variables: tuple[str, ...] = ()
    edges: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        return self.text


Found = tuple[frozenset[str], frozenset[tuple[str, str]]]  # latent nodes to measure, bidirected edges to resolve


def not_identified(source: Graph, asked: Question, hedge: HedgeFound) -> NotIdentified:
    """The refusal: the hedge, and what would help. `source` may have latent nodes, `asked` is about its projection."""
    graph, names = asked.graph, asked.graph.names
    larger, smaller = names(hedge.larger), names(hedge.smaller)
    tied = [f"{a} <-> {b}" for a, b in graph.bidirected if {a, b} <= set(larger)]
    bounds = Bounds(names(asked.x), names(asked.y), names(asked.c))
    found = remedies(source, asked, hedge)
    query = unicode(probability(names(asked.y), names(asked.c), names(asked.x)), graph.order)
    return NotIdentified(
        f"{query} is not identified: models that agree on all that is observed disagree about it",
        needs="treatments that hidden causes do not tie to what they act on (no hedge)",
        found=f"{{{joined([*larger])}}} hang together by {joined(tied, 4)}, and {{{joined([*smaller])}}} "
        f"{'still do' if len(smaller) > 1 else 'is left'} once {', '.join(names(asked.x))} is set",
        fix="; or ".join(r.text for r in found),
        hedge=(larger, smaller), remedies=found, bounds=bounds,
        witness=lambda: witness(graph, (hedge.larger, hedge.smaller), asked.x, asked.y, asked.c),
    )  # fmt: skip


def remedies(source: Graph, asked: Question, hedge: HedgeFound) -> tuple[Remedy, ...]:
    """What would help, the least to measure first; bounds at the end, which are there in any case."""
    treatment, outcome = asked.graph.names(asked.x), asked.graph.names(asked.y)
    found: list[Remedy] = []
    found += list(starmap(_measured, islice(_measurements(source, asked, hedge), SHOWN)))
    found += _mediator(source, asked)
    if not asked.c and len(source.nodes) <= LARGE:
        found += [
            Remedy("instrument", f"in a linear model use the instrument {i} (linear=True)", i.variables)
            for i in instruments(source, treatment, outcome)[:1]
        ]
    bounds = Bounds(treatment, outcome, asked.graph.names(asked.c))
    return (*found, Remedy("bounds", f"bound it: {bounds}"))


def _measured(latent: frozenset[str], edges: frozenset[tuple[str, str]]) -> Remedy:
    words = sorted(latent)
    words += [f"what acts on both {a} and {b} ({a} <-> {b})" for a, b in sorted(edges)]
    kind = "hidden cause" if edges else "measure"
    return Remedy(kind, f"measure {' and '.join(words)}", tuple(sorted(latent)), tuple(sorted(edges)))


def _measurements(source: Graph, asked: Question, hedge: HedgeFound) -> Iterator[Found]:
    """Smallest sets of hidden causes whose measurement identifies the effect.

    A bidirected edge whose cause is measured may be left out: given the cause, the rest of the model lacks it. Every
    hedge that turns up has to be broken, and only latent nodes that act on it, or edges within it, can break it.
    """
    empty: Found = (frozenset(), frozenset())
    queue, seen, runs, minimal = deque([(empty, hedge)]), {empty}, 0, list[Found]()
    while queue and runs < min(RUNS, NODES // len(source.nodes)):
        (latent, edges), last = queue.popleft()
        if len(latent) + len(edges) == DEEP:
            continue
        tied = asked.graph.names(last.larger)
        hidden = [v for v in source.ancestors(tied) if v in set(source.latent)] if source.latent else []
        near = {*tied, *hidden}
        options: list[Found] = [(frozenset([v]), frozenset()) for v in hidden]
        options += [(frozenset(), frozenset([e])) for e in source.bidirected if near.issuperset(e)]
        for more_latent, more_edges in options:
            new = latent | more_latent, edges | more_edges
            if new in seen or any(v <= new[0] and e <= new[1] for v, e in minimal):
                continue
            seen.add(new)
            runs += 1
            graph = source.observe(new[0])
            graph = replace(graph, bidirected=tuple(e for e in graph.bidirected if e not in new[1]))
            failed = _hedge(graph, asked)
            if failed is None:
                minimal.append(new)
                yield new
            else:
                queue.append((new, failed))


def _mediator(source: Graph, asked: Question) -> list[Remedy]:
    """One arrow out of a treatment on which something measured would identify the effect."""
    graph = asked.graph
    towards = graph.masks.ancestors(asked.y)
    if {*source.latent} & {*source.descendants(graph.names(asked.x))} & {*source.ancestors(graph.names(asked.y))}:
        return []  # there is one already, and the measurements speak of it
    for v in bits(asked.x):
        for w in bits(graph.masks.children[v] & towards):
            a, b = graph.nodes[v], graph.nodes[w]
            between = f"between {a} and {b}"
            if between in graph.index:
                continue
            rest = tuple(e for e in graph.directed if e != (a, b))
            split = Graph((*graph.nodes, between), (*rest, (a, between), (between, b)), graph.bidirected)
            if _hedge(split, asked) is None:
                text = f"measure what carries the effect from {a} to {b}, if no hidden cause acts on it"
                return [Remedy("mediator", text, edges=((a, b),))]
    return []


def _hedge(graph: Graph, asked: Question) -> HedgeFound | None:
    """The hedge of the same question in another graph, in the numbers of the projection that was asked about."""
    names = asked.graph.names
    new = question(graph, names(asked.x), names(asked.y), names(asked.c))
    try:
        identified(new.graph, new.y, new.x, new.c)
    except HedgeFound as failed:
        known = [n for n in new.graph.names(failed.larger) if n in asked.graph.index]
        return HedgeFound(asked.graph.mask(known), 0)
    return None
