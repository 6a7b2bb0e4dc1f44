"""Sets that keep two sides of an undirected graph apart: the nearest to a side, and all minimal ones.

The graph is the one in which two ancestors are joined when they are ends of a path of colliders (see `separation`). It
is kept as groups of nodes that are all joined, a district and its parents each, so that it is as small as the causal
graph. Some nodes may not be used (latent, or forbidden): ways lead through them, and no separator holds them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from kokkiri.causal.masks import Masks, bits


@dataclass(frozen=True)
class Joined:
    """`groups[g]` are nodes that are all joined; `groups_of[v]` are the groups of v; `usable` may be in a separator."""

    groups: tuple[int, ...]
    groups_of: tuple[int, ...]
    usable: int

    def spread(self, start: int, stop: int) -> int:
        """Everything that ways from `start` touch when they end at `stop`: the nodes at which they end as well."""
        seen = frontier = start
        used, first = 0, start
        while frontier:
            low = frontier & -frontier
            frontier ^= low
            if low & stop and not low & first:
                continue
            new_groups = self.groups_of[low.bit_length() - 1] & ~used
            used |= new_groups
            for g in bits(new_groups):
                frontier |= self.groups[g] & ~seen
                seen |= self.groups[g]
        return seen


def joined(masks: Masks, ends: int, usable: int, fixed: int = 0) -> Joined:
    """The ancestors of `ends` and `fixed`, in groups; what is fixed is conditioned on, so that no way leads through."""
    inside = masks.ancestors(ends | fixed)
    districts = masks.districts(inside)
    groups = tuple((d | masks.parents_of(d)) & inside & ~fixed for d in districts)
    groups_of = [0] * len(masks.parents)
    for g, group in enumerate(groups):
        for v in bits(group):
            groups_of[v] |= 1 << g
    return Joined(groups, tuple(groups_of), usable & inside & ~fixed & ~ends)


def nearest_separator(graph: Joined, x: int, y: int) -> int | None:
    """All usable nodes that are joined to y, directly or through unusable ones. None where x is, too."""
    touched = graph.spread(y, graph.usable | x)
    return None if touched & x else touched & graph.usable


def minimal_part(graph: Joined, separator: int, x: int) -> int:
    """The part of a separator that ways from x reach. Of one that is nearest to the other side it is minimal."""
    return graph.spread(x, separator) & separator


def minimal_separators(graph: Joined, x: int, y: int) -> Iterator[int]:
    """Every minimal separator once, beginning near x (Shen & Liang 1997, "Efficient enumeration of all minimal
    separators in a graph"): each follows from one that is nearer to x by stepping over one of its nodes.
    """
    first = nearest_separator(graph, y, x)
    if first is None:
        return
    first = minimal_part(graph, first, y)
    seen, queue = {first}, deque([first])
    while queue:
        separator = queue.popleft()
        yield separator
        side = graph.spread(x, separator) & ~separator
        for v in bits(separator):
            over = side | 1 << v
            touched = graph.spread(over, graph.usable & ~over | y)
            if touched & y:
                continue
            new = minimal_part(graph, touched & graph.usable & ~over, y)
            if new not in seen:
                seen.add(new)
                queue.append(new)
