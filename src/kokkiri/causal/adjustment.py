"""Which variables must be adjusted for: the complete criterion, minimal sets, and the best one.

Z may be adjusted for, P(y | do(x)) = Σ_z P(y | x, z) P(z), exactly when it holds nothing that is on a causal path from
x to y or behind one, and blocks every path between them that is not causal and meets no other treatment (Shpitser,
VanderWeele & Robins 2010, "On the validity of covariate adjustment"; Perković, Textor, Kalisch & Maathuis 2018,
"Complete graphical characterization and construction of adjustment sets"). The second half is separation in the graph
without the first arrows of causal paths (van der Zander, Liśkiewicz & Textor 2019, "Separators and adjustment sets in
causal graphs"). Latent nodes are projected out first.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from kokkiri.causal.graph import Graph, Names
from kokkiri.causal.masks import Masks, bits
from kokkiri.causal.reading import GraphLike, graph_of
from kokkiri.causal.separation import apart, directed_path, shortest_open
from kokkiri.causal.separators import joined, minimal_separators, nearest_separator
from kokkiri.errors import UsageError


@dataclass(frozen=True)
class AdjustmentSet:
    """Variables to adjust for, and among which sets no other gives an estimate of smaller variance.

    `among` is "all": of all valid sets; "ancestors": of those of ancestors of treatment and outcome, to which all
    minimal sets belong; "" where no such result is known (several treatments or outcomes).
    """

    variables: tuple[str, ...]
    among: str


@dataclass(frozen=True)
class Question:
    """A graph of measured nodes, treatments x, outcomes y, covariates c, and what follows for adjustment."""

    graph: Graph
    x: int
    y: int
    c: int
    forbidden: int  # on causal paths, or behind them
    back_door: Masks  # the graph without the first arrows of causal paths

    @property
    def usable(self) -> int:
        """What may be adjusted for besides the covariates."""
        masks = self.graph.masks
        behind = masks.descendants(self.x) if self.c else 0  # P(z | c) must be the same under do(x)
        return masks.all & ~(self.x | self.y | self.c | self.forbidden | behind)

    def valid(self, z: int) -> bool:
        """Whether z, with the covariates, satisfies the criterion."""
        return not (z & ~self.usable or self._bad_covariate()) and apart(self.back_door, self.x, self.y, z | self.c)

    def possible(self) -> bool:
        """Whether the covariates allow any adjustment."""
        return not self._bad_covariate()

    def _bad_covariate(self) -> int:
        return self.c & self.graph.masks.descendants(self.x)


def question(graph: GraphLike, treatment: Names, outcome: Names, given: Names = ()) -> Question:
    """What is asked, with latent nodes projected out."""
    source = graph_of(graph)
    graph = source.projected()
    x, y, c = (measured(source, graph, names) for names in (treatment, outcome, given))
    if not x or not y:
        raise UsageError("no treatment, or no outcome", needs="one of each", found=f"{treatment!r}, {outcome!r}",
                         fix="name them as they are called in the graph")  # fmt: skip
    if twice := graph.names(x & y | (x | y) & c):
        raise UsageError(f"'{twice[0]}' has two roles", needs="treatments, outcomes and covariates that differ",
                         found=", ".join(twice), fix="leave it out of one of them")  # fmt: skip
    masks = graph.masks
    caused = masks.cut(into=x).descendants(x) & ~x
    on_path = caused & masks.cut(out_of=x).ancestors(y)
    arrows = [(v, w) for v in bits(x) for w in bits(masks.children[v] & on_path)]
    return Question(graph, x, y, c, masks.descendants(on_path), masks.without(arrows))


def measured(source: Graph, graph: Graph, names: Names) -> int:
    """Names as bits of the projected graph; a latent one is refused."""
    source.mask(names)  # refuses what is no node at all
    wanted = (names,) if isinstance(names, str) else tuple(names)
    for name in wanted:
        if name not in graph.index:
            raise UsageError(f"'{name}' is latent", needs="a variable that was measured", found=f"{name} [latent]",
                             fix=f"measure it, and say so: graph.observe('{name}')")  # fmt: skip
    return graph.mask(wanted)


def is_adjustment_set(graph: GraphLike, treatment: Names, outcome: Names, adjust: Names, given: Names = ()) -> bool:
    """Whether adjusting for these identifies the effect, by the complete criterion.

    >>> is_adjustment_set("age -> {dose, outcome}; dose -> outcome", "dose", "outcome", "age")
    True
    """
    asked = question(graph, treatment, outcome, given)
    return asked.valid(measured(graph_of(graph), asked.graph, adjust) & ~asked.c)


def adjustment_sets(
    graph: GraphLike, treatment: Names, outcome: Names, *, given: Names = (), minimal: bool = True, limit: int = 1000
) -> list[tuple[str, ...]]:
    """Sets that may be adjusted for, small ones first; at most `limit` are looked for.

    Minimal ones hold nothing that could be left out. With `given`, sets for the effect among those with equal
    covariates, which are adjusted for besides. No set at all gives an empty list, the empty set a list of one.

    >>> adjustment_sets("dose <- a -> b -> outcome; dose -> outcome", "dose", "outcome")
    [('a',), ('b',)]
    """
    asked = question(graph, treatment, outcome, given)
    found = islice(_minimal_sets(asked) if minimal else _all_sets(asked), limit)
    by_size = sorted(found, key=lambda mask: (mask.bit_count(), [*bits(mask)]))
    return [asked.graph.names(mask) for mask in by_size]


def optimal_adjustment_set(
    graph: GraphLike, treatment: Names, outcome: Names, *, given: Names = ()
) -> AdjustmentSet | None:
    """The valid set with which the effect is estimated most precisely, or None where no set is valid.

    It is what is joined to the outcome once causal paths, latent and forbidden nodes are closed up: without hidden
    causes the parents of the nodes on causal paths, save what is forbidden (Henckel, Perković & Maathuis 2022,
    "Graphical criteria for efficient total effect estimation"; Rotnitzky & Smucler 2020, "Efficient adjustment sets"),
    with them the set of Smucler, Sapienza & Rotnitzky 2022 ("Efficient adjustment sets in causal graphical models with
    hidden variables"). What is smallest is the variance in large samples.

    >>> optimal_adjustment_set("u -> dose; age -> {dose, outcome}; diet -> outcome; dose -> outcome", "dose", "outcome")
    AdjustmentSet(variables=('age', 'diet'), among='all')
    """
    asked = question(graph, treatment, outcome, given)
    if not asked.possible():
        return None
    best = nearest_separator(joined(asked.back_door, asked.x | asked.y, asked.usable, asked.c), asked.x, asked.y)
    if best is None:
        return None
    masks = asked.graph.masks
    ancestral = masks.ancestors(asked.x | asked.y | asked.c)
    single = asked.x.bit_count() == asked.y.bit_count() == 1
    closed = not any(masks.siblings) or not masks.all & ~ancestral & ~asked.forbidden
    return AdjustmentSet(asked.graph.names(best), ("all" if closed else "ancestors") if single else "")


def check_adjustment(graph: GraphLike, treatment: Names, outcome: Names, adjust: Names, given: Names = ()) -> None:
    """Refuses a set that may not be adjusted for, with the path that makes it wrong.

    >>> try:
    ...     check_adjustment("dose -> fever -> outcome", "dose", "outcome", "fever")
    ... except UsageError as error:
    ...     print(error)
    adjusting for 'fever' would take part of the effect of dose on outcome away, or bias it
      needs   nothing that is on a causal path from dose to outcome, or behind one
      found   dose → fever
      fix     leave it out; no adjustment is needed
    """
    source = graph_of(graph)
    asked = question(source, treatment, outcome, given)
    z = measured(source, asked.graph, adjust)
    names = asked.graph.names
    of, on = ", ".join(names(asked.x)), ", ".join(names(asked.y))
    overlap = z & (asked.x | asked.y)
    if overlap:
        raise UsageError(f"'{names(overlap)[0]}' cannot be adjusted for", needs="variables besides those of the effect",
                         found=", ".join(names(z)), fix="leave it out")  # fmt: skip
    z &= ~asked.c
    if wrong := (z | asked.c) & (asked.forbidden | (asked.graph.masks.descendants(asked.x) if asked.c else 0)):
        name = names(wrong)[0]
        raise UsageError(
            f"adjusting for '{name}' would take part of the effect of {of} on {on} away, or bias it",
            needs=f"nothing that is on a causal path from {of} to {on}, or behind one",
            found=str(directed_path(asked.graph, names(asked.x), name)), fix=f"leave it out; {_better(asked)}",
        )  # fmt: skip
    if not asked.valid(z):
        path = shortest_open(asked.graph, asked.back_door, asked.x, asked.y, z | asked.c)
        raise UsageError(
            f"adjusting for {', '.join(names(z)) or 'nothing'} does not give the effect of {of} on {on}",
            needs="every path that is not causal to be blocked", found=f"{path} is open", fix=_better(asked),
        )  # fmt: skip


def _better(asked: Question) -> str:
    best = next(_minimal_sets(asked), None)
    if best is None:
        return "no set of measured variables will do; see what identify says"
    return f"adjust for {', '.join(asked.graph.names(best))}" if best else "no adjustment is needed"


def _minimal_sets(asked: Question) -> Iterator[int]:
    if asked.possible():
        graph = joined(asked.back_door, asked.x | asked.y, asked.usable, asked.c)
        yield from minimal_separators(graph, asked.x, asked.y)


def _all_sets(asked: Question) -> Iterator[int]:
    """Every valid set, by leaving a variable out or taking it in as long as some valid set remains.

    Between I and R lies one exactly when R's ancestors of x, y and I are one (van der Zander et al. 2019), so that no
    branch is entered in vain.
    """
    stack = [(0, asked.usable)] if asked.possible() else []
    while stack:
        inner, outer = stack.pop()
        ancestors = asked.back_door.ancestors(asked.x | asked.y | asked.c | inner)
        if not apart(asked.back_door, asked.x, asked.y, outer & ancestors | asked.c | inner):
            continue
        if inner == outer:
            yield inner
            continue
        free = outer & ~inner
        v = free & -free
        stack.extend(((inner | v, outer), (inner, outer & ~v)))
