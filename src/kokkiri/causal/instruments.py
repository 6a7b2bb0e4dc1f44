"""Instruments: what moves the treatment and touches the outcome in no other way. They identify effects of linear
models.

z is an instrument for the effect of x on y given W when z is not separated from x by W, W blocks every path from z to y
that is left without the first arrows of the causal paths from x to y, and neither z nor W is affected by x (Brito &
Pearl 2002, "Generalized instrumental variables"; van der Zander, Textor & Liśkiewicz 2015, "Efficiently finding
conditional instruments for causal inference"). In a linear model the effect then is Cov(z, y | W) / Cov(z, x | W).
Several treatments need as many instruments with a common W, and a matrix Cov(z, x | W) of full rank. Without linearity,
or an assumption in its place, an instrument gives bounds only.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import torch

from kokkiri.causal.adjustment import Question, question
from kokkiri.causal.graph import Names
from kokkiri.causal.linear import partial_covariance, random_linear
from kokkiri.causal.masks import Masks, bits
from kokkiri.causal.reading import GraphLike
from kokkiri.causal.separation import apart
from kokkiri.causal.separators import joined, minimal_separators


@dataclass(frozen=True)
class Instruments:
    """Variables that move the treatments, and what has to be conditioned on."""

    variables: tuple[str, ...]
    given: tuple[str, ...] = ()

    def __str__(self) -> str:
        names = ", ".join(self.variables)
        return f"{names} given {', '.join(self.given)}" if self.given else names


def instruments(graph: GraphLike, treatment: Names, outcome: Names, *, limit: int = 100) -> list[Instruments]:
    """The instruments for the effect in a linear model: those that need no covariates first.

    For one treatment each is one variable; for k treatments each is a set of k. `limit` bounds the sets of covariates
    that are tried for one candidate.

    >>> graph = "season -> lot -> service -> earnings <- season; service <-> earnings"
    >>> print(*instruments(graph, "service", "earnings"))
    lot given season
    """
    asked = question(graph, treatment, outcome)
    found = list(_single(asked, limit) if asked.x.bit_count() == 1 else _several(asked, limit))
    return sorted(found, key=lambda i: (len(i.given), i.variables, i.given))


def _usable(asked: Question) -> int:
    masks = asked.graph.masks
    return masks.all & ~(masks.descendants(asked.x) | masks.descendants(asked.y))


def _covariates(asked: Question, z: int, limit: int) -> Iterator[int]:
    """Minimal sets that separate z from y once the effect is taken out: none, or what separators there are."""
    if apart(asked.back_door, z, asked.y, 0):
        yield 0
        return
    graph = joined(asked.back_door, z | asked.y, _usable(asked) & ~z)
    yield from islice(minimal_separators(graph, z, asked.y), limit)


def _single(asked: Question, limit: int) -> Iterator[Instruments]:
    names = asked.graph.names
    relevant = _connected(asked.graph.masks, asked.x)
    for v in bits(_usable(asked) & relevant):
        z = 1 << v
        for w in _covariates(asked, z, limit):
            if not apart(asked.graph.masks, z, asked.x, w):
                yield Instruments(names(z), names(w))
                break  # separators come near z first, and small ones are as good


def _connected(masks: Masks, x: int) -> int:
    """What hangs together with x by any edges."""
    steps = tuple(p | c | s for p, c, s in zip(masks.parents, masks.children, masks.siblings, strict=True))
    return Masks(steps, steps, steps).ancestors(x)


def _several(asked: Question, limit: int) -> Iterator[Instruments]:
    """As many instruments as treatments, by the rank of their covariance in a random linear model, which is generic."""
    names, k = asked.graph.names, asked.x.bit_count()
    candidates = _usable(asked) & _connected(asked.graph.masks, asked.x)
    model = None
    for w in dict.fromkeys(w for v in bits(candidates) for w in _covariates(asked, 1 << v, limit)):
        good = [v for v in bits(candidates & ~w) if apart(asked.back_door, 1 << v, asked.y, w)]
        if len(good) < k:
            continue
        model = model or random_linear(asked.graph, seed=0)
        chosen: list[int] = []
        for v in good:  # each that adds to the rank
            moved = partial_covariance(model.covariance, [*chosen, v], [*bits(asked.x)], [*bits(w)])
            if int(torch.linalg.matrix_rank(moved, rtol=1e-9)) > len(chosen):
                chosen.append(v)
        if len(chosen) == k:
            yield Instruments(names(sum(1 << v for v in chosen)), names(w))
