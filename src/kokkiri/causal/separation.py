"""What a graph says about independence: m-separation, which is d-separation where no edge is bidirected.

A path is open given Z when no node on it that is passed through (a non-collider) is in Z, and every node at which two
heads meet (a collider) is in Z or has a descendant there (Richardson 2003, "Markov properties for acyclic directed
mixed graphs"). A and B are separated by Z when no path between them is open; then they are independent
given Z in every model of the graph (Verma & Pearl 1988).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from kokkiri.causal.graph import Graph, Names, as_names
from kokkiri.causal.masks import Masks, bits
from kokkiri.causal.reading import GraphLike, graph_of
from kokkiri.errors import UsageError

TAIL, HEAD = 0, 1  # how an edge ends at a node
SIGNS = {(TAIL, HEAD): "→", (HEAD, TAIL): "←", (HEAD, HEAD): "↔"}


@dataclass(frozen=True)
class Path:
    """Nodes with edges between them, `→`, `←` or `↔`.

    >>> print(Path(("dose", "age", "outcome"), ("←", "→")))
    dose ← age → outcome
    """

    nodes: tuple[str, ...]
    edges: tuple[str, ...]

    def __str__(self) -> str:
        return self.nodes[0] + "".join(f" {e} {n}" for e, n in zip(self.edges, self.nodes[1:], strict=True))


def separated(graph: GraphLike, a: Names, b: Names, given: Names = ()) -> bool:
    """Whether every path between a and b is blocked given some variables. Linear in the size of the graph.

    >>> fork = "dose <- age -> outcome"
    >>> separated(fork, "dose", "outcome"), separated(fork, "dose", "outcome", "age")
    (False, True)
    """
    graph = graph_of(graph)
    x, y, z = _disjoint(graph, a, b, given)
    return apart(graph.masks, x, y, z)


def open_path(graph: GraphLike, a: Names, b: Names, given: Names = ()) -> Path | None:
    """A shortest open path between a and b, or None where they are separated.

    >>> print(open_path("dose -> fever <- cold -> outcome", "dose", "outcome", "fever"))
    dose → fever ← cold → outcome
    """
    graph = graph_of(graph)
    x, y, z = _disjoint(graph, a, b, given)
    return shortest_open(graph, graph.masks, x, y, z)


def directed_path(graph: Graph, start: Names, end: Names, avoiding: Names = ()) -> Path | None:
    """A shortest directed path from a node to another, or None.

    >>> print(directed_path(graph_of("a -> b -> c; a -> d -> e -> c"), "a", "c"))
    a → b → c
    """
    goal, shut = graph.mask(end), graph.mask(avoiding)
    came: dict[int, int] = dict.fromkeys(bits(graph.mask(start)), -1)
    queue = deque(came)
    while queue:
        v = queue.popleft()
        if goal >> v & 1:
            way = [v]
            while came[way[-1]] >= 0:
                way.append(came[way[-1]])
            return Path(tuple(graph.nodes[i] for i in reversed(way)), ("→",) * (len(way) - 1))
        for w in bits(graph.masks.children[v] & ~shut):
            if w not in came:
                came[w] = v
                queue.append(w)
    return None


def apart(masks: Masks, x: int, y: int, z: int) -> bool:
    """Whether x and y are separated by z."""
    return not reachable(masks, x, z) & y


def reachable(masks: Masks, x: int, z: int) -> int:
    """X and all nodes outside z to which a path from x is open given z.

    A walk over pairs of a node and the end by which it was entered, of which there are two a node (Shachter 1998,
    "Bayes-ball"): what is entered by a tail is passed through unless it is in z; what is entered by a head leads on to
    children unless it is in z, and to parents and siblings if it is, or acts on, something in z.
    """
    open_collider = masks.ancestors(z)
    by_tail = by_head = 0
    new_tail, new_head = x, 0
    while new_tail or new_head:
        if new_tail:
            low = new_tail & -new_tail
            new_tail ^= low
            by_tail |= low
            down, up = (True, True) if not low & z or low & x else (False, False)
        else:
            low = new_head & -new_head
            new_head ^= low
            by_head |= low
            down, up = not low & z, bool(low & open_collider)
        v = low.bit_length() - 1
        if up:
            new_tail |= masks.parents[v] & ~by_tail
            new_head |= masks.siblings[v] & ~by_head
        if down:
            new_head |= masks.children[v] & ~by_head
    return (by_tail | by_head) & ~z | x


def shortest_open(graph: Graph, masks: Masks, x: int, y: int, z: int) -> Path | None:
    """A shortest path between x and y that z leaves open, in a graph that shares its nodes with `graph`.

    The search runs over pairs of a node and how it was entered. A walk that is shortest visits no node twice: leaving
    out the loop would leave it open.
    """
    collider = masks.ancestors(z)  # a collider is open when it is, or acts on, something in z
    came: dict[tuple[int, int], tuple[tuple[int, int], str] | None] = {(v, TAIL): None for v in bits(x)}
    queue = deque(came)
    while queue:
        state = queue.popleft()
        v, entered = state
        if y >> v & 1:
            return _walk(graph, came, state)
        first = came[state] is None
        through = first or not z >> v & 1
        meets = not first and entered == HEAD and bool(collider >> v & 1)
        for near, mark_here, mark_there in (
            (masks.children[v], TAIL, HEAD), (masks.parents[v], HEAD, TAIL), (masks.siblings[v], HEAD, HEAD),
        ):  # fmt: skip
            is_collider = not first and entered == HEAD and mark_here == HEAD
            if not (meets if is_collider else through):
                continue
            for w in bits(near & ~x):
                if (w, mark_there) not in came:
                    came[w, mark_there] = state, SIGNS[mark_here, mark_there]
                    queue.append((w, mark_there))
    return None


def _walk(
    graph: Graph, came: dict[tuple[int, int], tuple[tuple[int, int], str] | None], state: tuple[int, int]
) -> Path:
    nodes, edges = [graph.nodes[state[0]]], []
    while (before := came[state]) is not None:
        state, sign = before
        nodes.append(graph.nodes[state[0]])
        edges.append(sign)
    return Path(tuple(reversed(nodes)), tuple(reversed(edges)))


def _disjoint(graph: Graph, a: Names, b: Names, given: Names) -> tuple[int, int, int]:
    x, y, z = graph.mask(a), graph.mask(b), graph.mask(given)
    if not x or not y:
        raise UsageError("nothing to separate", needs="two sets of variables, neither empty",
                         found=f"{as_names(a)} and {as_names(b)}", fix="name at least one on each side")  # fmt: skip
    if x & y or (x | y) & z:
        twice = graph.names(x & y | (x | y) & z)
        raise UsageError(f"'{twice[0]}' stands on two sides", needs="three sets without a common variable",
                         found=", ".join(twice), fix="leave it out of one of them")  # fmt: skip
    return x, y, z
