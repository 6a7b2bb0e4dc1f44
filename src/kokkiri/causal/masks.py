"""Sets of nodes as the bits of an integer, and the walks over a graph that everything else is made of.

A graph here is three tuples with an integer a node: its parents, its children, and its siblings (the other ends of its
bidirected edges). Union, intersection and difference are `|`, `&` and `& ~`; a walk visits every node once and each
visit is a few machine words, so that questions are linear in the size of the graph.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass


def bits(mask: int) -> Iterator[int]:
    """The numbers in a set, ascending.

    >>> list(bits(0b1101))
    [0, 2, 3]
    """
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low


def mask_of(numbers: Iterable[int]) -> int:
    """A set of numbers as an integer.

    >>> mask_of([0, 2, 3])
    13
    """
    mask = 0
    for number in numbers:
        mask |= 1 << number
    return mask


def reach(start: int, steps: tuple[int, ...], within: int = -1, stop: int = 0) -> int:
    """`start` and all that steps lead to from there, without leaving `within` and without going on from `stop`.

    >>> bin(reach(0b001, (0b010, 0b100, 0))), bin(reach(0b001, (0b010, 0b100, 0), stop=0b010))
    ('0b111', '0b11')
    """
    seen = frontier = start & within
    while frontier:
        low = frontier & -frontier
        frontier ^= low
        if low & stop:
            continue
        new = steps[low.bit_length() - 1] & within & ~seen
        seen |= new
        frontier |= new
    return seen


@dataclass(frozen=True)
class Masks:
    """Parents, children and siblings of nodes 0 … n-1. Every set that comes back is an integer."""

    parents: tuple[int, ...]
    children: tuple[int, ...]
    siblings: tuple[int, ...]

    @property
    def all(self) -> int:
        """Every node."""
        return (1 << len(self.parents)) - 1

    def ancestors(self, of: int, within: int = -1, stop: int = 0) -> int:
        """`of` and everything with a directed path to it; through what is in `stop` no path is followed."""
        return reach(of, self.parents, within, stop)

    def descendants(self, of: int, within: int = -1) -> int:
        """`of` and everything that it has a directed path to."""
        return reach(of, self.children, within)

    def parents_of(self, of: int) -> int:
        """The parents of any of these."""
        found = 0
        for v in bits(of):
            found |= self.parents[v]
        return found

    def district(self, of: int, within: int = -1) -> int:
        """`of` and everything that hangs together with it by bidirected edges."""
        return reach(of, self.siblings, within)

    def districts(self, within: int = -1) -> list[int]:
        """The connected parts when only bidirected edges are left, by their lowest node."""
        rest, found = within & self.all, []
        while rest:
            found.append(self.district(rest & -rest, rest))
            rest &= ~found[-1]
        return found

    def order(self) -> list[int]:
        """Nodes, parents before children, lower numbers first. On a cycle, and after it, nodes are left out."""
        waits = [parents.bit_count() for parents in self.parents]
        ready = [v for v, n in enumerate(waits) if n == 0]
        done = []
        while ready:
            v = heapq.heappop(ready)
            done.append(v)
            for child in bits(self.children[v]):
                waits[child] -= 1
                if waits[child] == 0:
                    heapq.heappush(ready, child)
        return done

    def cut(self, into: int = 0, out_of: int = 0) -> Masks:
        """Without the arrows into some nodes (bidirected ones too), and the directed ones out of others.

        These are the graphs of the do-calculus with a line over and under the nodes (Pearl 2009, "Causality", 3.4).
        """
        keep = ~into
        parents = tuple(0 if into >> v & 1 else p & ~out_of for v, p in enumerate(self.parents))
        children = tuple(0 if out_of >> v & 1 else c & keep for v, c in enumerate(self.children))
        siblings = tuple(0 if into >> v & 1 else s & keep for v, s in enumerate(self.siblings))
        return Masks(parents, children, siblings)

    def without(self, arrows: Iterable[tuple[int, int]]) -> Masks:
        """Without some directed edges (from, to)."""
        parents, children = list(self.parents), list(self.children)
        for a, b in arrows:
            parents[b] &= ~(1 << a)
            children[a] &= ~(1 << b)
        return Masks(tuple(parents), tuple(children), self.siblings)
