"""Rows of evidence with cells missing here and there, as few contractions.

Rows in which the same variables are known go together. Where there are many such patterns it may be less work to do all
rows at once: a variable that is known in some rows only then has a likelihood of 0 and 1 in these, and of 1 for every
state in the others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from kokkiri.exact.networks.evidence import Rows
from kokkiri.exact.networks.query import Query

SETUP = 1e6  # entries that could be multiplied in the time that a contraction takes to be planned, and to begin


class Batch(NamedTuple):
    """Rows of one contraction: (n,) which, the variables that are known in all of them, and likelihoods (n, states)."""

    rows: np.ndarray
    known: tuple[int, ...]
    soft: dict[int, np.ndarray]


def batches_of(
    rows: Rows, sizes: Sequence[int], soft: Mapping[int, np.ndarray], question: Callable[[Batch], Query]
) -> list[Batch]:
    """Rows by what is known in them, or all at once. soft: likelihoods of the user's, (states,) or (N, states).

    question: the plan for a batch, whose size decides.
    """
    groups = by_pattern(rows, soft)
    if len(groups) > 1:
        one = at_once(rows, sizes, soft)
        if question(one).plan.entries * len(rows.codes) <= SETUP * len(groups):
            return [one]
    return groups


def by_pattern(rows: Rows, soft: Mapping[int, np.ndarray]) -> list[Batch]:
    """Rows in which the same cells are known, together.

    >>> seen = Rows((3, 5), np.array([[0, 1], [-1, 1], [1, 0]]))
    >>> [(b.known, b.rows.tolist()) for b in by_pattern(seen, {})]
    [((5,), [1]), ((3, 5), [0, 2])]
    """
    known = rows.codes >= 0
    if known.all():
        return [Batch(np.arange(len(known)), rows.columns, _picked(soft, np.arange(len(known))))]
    patterns, which = np.unique(known, axis=0, return_inverse=True)
    order = np.argsort(which.reshape(-1), kind="stable")
    ends = np.cumsum(np.bincount(which.reshape(-1), minlength=len(patterns)))
    found = []
    for pattern, index in zip(patterns.tolist(), np.split(order, ends[:-1]), strict=True):
        there = tuple(c for c, is_known in zip(rows.columns, pattern, strict=True) if is_known)
        found.append(Batch(index, there, _picked(soft, index)))
    return found


def at_once(rows: Rows, sizes: Sequence[int], soft: Mapping[int, np.ndarray]) -> Batch:
    """All rows in one batch: what is known in some of them has likelihoods of 0 and 1."""
    n, steady = len(rows.codes), rows.always
    likelihoods = _picked(soft, np.arange(n))
    for i in set(rows.ever) - set(steady):
        states = rows.states([i], np.arange(n)).T
        likelihoods[i] = np.where(states < 0, 1.0, states == np.arange(sizes[i])).astype(float)
    return Batch(np.arange(n), steady, likelihoods)


def _picked(soft: Mapping[int, np.ndarray], index: np.ndarray) -> dict[int, np.ndarray]:
    """Likelihoods of some rows, (n, states) each."""
    return {i: s[index] if s.ndim == 2 else np.broadcast_to(s, (len(index), s.shape[-1])) for i, s in soft.items()}
