"""In which order to sum out the labels of a product of tensors: greedy orders, tried from several sides.

Summing a label joins all tensors that bear it into one over the labels of any of them. The best order is NP-hard to
find (Arnborg, Corneil & Proskurowski 1987, "Complexity of finding embeddings in a k-tree"); greedy ones are good
(Kjærulff 1990, "Triangulation of graphs: algorithms giving small total state space"): the label next whose table is
smallest (weight), or that joins fewest labels that were apart (fill). Sets of labels are the bits of one integer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from kokkiri.numerics.random import philox

FEW, ENOUGH = 2000, 50_000  # entries: below, the sums take less time than a second order, or a search, would
TRIES = 24  # orders with ties, and near ties, broken at random


class Order(NamedTuple):
    """Labels in the order in which they are summed, and the entries of all tables that are made on the way."""

    labels: tuple[int, ...]
    entries: float


def order(scopes: Iterable[Sequence[int]], sizes: Sequence[int], keep: Iterable[int] = ()) -> Order:
    """An order in which to sum all labels of `scopes` but those in `keep`; sizes: how many values each label has.

    >>> order([(0,), (0, 1), (1, 2)], [2, 2, 2], keep=[2])
    Order(labels=(0, 1), entries=8.0)
    """
    near = neighbours(scopes, len(sizes))
    free = [i for i, bits in enumerate(near) if bits]
    for label in keep:
        free.remove(label)
    logs = [math.log2(n) for n in sizes]
    best = _greedy(near, free, logs, _by_fill)
    if best.entries <= FEW:
        return best
    best = min(best, _greedy(near, free, logs, _by_weight), key=lambda o: o.entries)
    if best.entries <= ENOUGH:
        return best
    for k in range(TRIES):
        rng = philox(k, "elimination order", len(free))
        jitter = [1 + 0.4 * float(u) for u in rng.random(len(sizes))]
        score = (_by_fill, _by_weight)[k % 2]
        found = _greedy(near, free, logs, score, jitter, give_up=best.entries)
        best = min(best, found, key=lambda o: o.entries)
    return best


def neighbours(scopes: Iterable[Sequence[int]], labels: int) -> list[int]:
    """For each label the labels that stand beside it in some scope, itself included, as bits; 0 where it is nowhere.

    >>> neighbours([(0, 2)], 3)
    [5, 0, 5]
    """
    near = [0] * labels
    for scope in scopes:
        bits = sum(1 << label for label in scope)
        for label in scope:
            near[label] |= bits
    return near


def members(bits: int) -> list[int]:
    """The labels of a set.

    >>> members(0b1010)
    [1, 3]
    """
    found = []
    while bits:
        low = bits & -bits
        found.append(low.bit_length() - 1)
        bits ^= low
    return found


Score = Callable[[int, list[int], Sequence[float]], float]


def _greedy(
    near: list[int],
    free: list[int],
    logs: Sequence[float],
    score: Score,
    jitter: Sequence[float] | None = None,
    give_up: float = math.inf,
) -> Order:
    """The label of least score next, each time; `give_up`: when so many entries are reached."""
    near, left = list(near), set(free)
    scores = {i: score(i, near, logs) for i in free}
    done, entries = [], 0.0
    while left and entries < give_up:
        best = min(left, key=lambda i: (scores[i] * (jitter[i] if jitter else 1.0), i))
        left.remove(best)
        done.append(best)
        clique = near[best]
        around = members(clique)
        entries += 2.0 ** sum(logs[i] for i in around)
        rest = clique & ~(1 << best)
        touched = rest
        for i in around:
            if i != best:
                joined = (near[i] | rest) & ~(1 << best)
                if joined & ~near[i]:  # where two neighbours are joined the fill changes one step further away, too
                    touched |= joined
                near[i] = joined
        near[best] = 0
        for i in members(touched):
            if i in left:
                scores[i] = score(i, near, logs)
    return Order(tuple(done), math.inf if left else entries)


def _by_weight(label: int, near: list[int], logs: Sequence[float]) -> float:
    """The logarithm of the entries of the table that summing makes."""
    return sum(logs[i] for i in members(near[label]))


def _by_fill(label: int, near: list[int], logs: Sequence[float]) -> float:
    """Pairs of neighbours that were apart, each with the entries of a table over it; the weight decides ties."""
    bits, fill = near[label], 0.0
    around = members(bits)
    for i in around:
        if missing := bits & ~near[i]:
            fill += 2.0 ** logs[i] * sum(2.0 ** logs[j] for j in members(missing))
    return fill + 1e-6 * sum(map(logs.__getitem__, around))
