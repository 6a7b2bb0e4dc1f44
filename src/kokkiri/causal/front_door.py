"""The front-door criterion: a set M that carries the whole effect, and whose own causes are not hidden.

M satisfies it relative to (x, y) when M cuts every directed path from x to y, no path enters x from behind and reaches
M open, and x blocks every path that enters M from behind and reaches y (Pearl 1995, "Causal diagrams for empirical
research"). Then P(y | do(x)) = Σ_m P(m | x) Σ_x' P(y | m, x') P(x').
"""

from __future__ import annotations

from kokkiri.causal.adjustment import Question, question
from kokkiri.causal.graph import Names
from kokkiri.causal.masks import bits
from kokkiri.causal.reading import GraphLike
from kokkiri.causal.separation import reachable


def front_door_set(graph: GraphLike, treatment: Names, outcome: Names) -> tuple[str, ...] | None:
    """A set that satisfies the front-door criterion, none of which could be left out; None where there is none.

    >>> front_door_set("smoking -> tar -> cancer; smoking <-> cancer", "smoking", "cancer")
    ('tar',)
    """
    asked = question(graph, treatment, outcome)
    found = front_door(asked)
    return None if found is None else asked.graph.names(found)


def front_door(asked: Question) -> int | None:
    """`front_door_set`, as bits.

    The largest set that fulfils the second and third condition is found by throwing out what breaks them: a larger set
    cuts more ways out of itself, so that what breaks the third condition once goes on breaking it as others leave. If
    the largest does not cut all directed paths, no set does (Jeong, Tian & Bareinboim 2022, "Finding and listing
    front-door adjustment sets").
    """
    masks, x, y = asked.graph.masks, asked.x, asked.y
    largest = _unconfounded_with_outcome(asked, _unconfounded_with_treatment(asked, masks.all & ~(x | y)))
    if not cuts(asked, largest):
        return None
    on_path = masks.descendants(x) & masks.ancestors(y)  # what is not goes first
    smallest, before = largest, -1
    while smallest != before:
        before = smallest
        for v in (*bits(before & ~on_path), *bits(before & on_path)):
            fewer = smallest & ~(1 << v)
            if cuts(asked, fewer) and _unconfounded_with_outcome(asked, fewer) == fewer:
                smallest = fewer
    return smallest


def is_front_door(asked: Question, m: int) -> bool:
    """Whether a set satisfies the criterion."""
    return (
        cuts(asked, m)
        and _unconfounded_with_treatment(asked, m) == m
        and _unconfounded_with_outcome(asked, m) == m
    )  # fmt: skip


def cuts(asked: Question, m: int) -> bool:
    """Whether every directed path from x to y goes through m."""
    return not asked.graph.masks.descendants(asked.x, ~m) & asked.y


def _unconfounded_with_treatment(asked: Question, m: int) -> int:
    """Those of m to which no path from behind x is open."""
    return m & ~reachable(asked.graph.masks.cut(out_of=asked.x), asked.x, 0)


def _unconfounded_with_outcome(asked: Question, m: int) -> int:
    """The largest part of m from behind which x blocks every path to y."""
    while True:
        kept = m & ~reachable(asked.graph.masks.cut(out_of=m), asked.y, asked.x)
        if kept == m:
            return m
        m = kept
