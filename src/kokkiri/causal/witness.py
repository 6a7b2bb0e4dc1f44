"""Two models that agree on everything that is observed and disagree about the effect: why no formula can exist.

The construction is that of Shpitser & Pearl 2006 ("Identification of joint interventional distributions").
In the larger district of a hedge every hidden cause is a fair coin with two children, and every variable the parity of
the causes that act on it along a forest; in the second model the smaller district listens to itself alone. Seen from
outside, the parity of the roots is even in both: every coin counts twice. An intervention on the larger district cuts
some coins off at one end, so that the parity becomes a fair coin in the first model, and stays even in the second. A
second bit carries the parity of the roots down to the outcome.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product

from kokkiri.causal.graph import Graph
from kokkiri.causal.masks import bits, mask_of

LARGEST = 16  # nodes that share coins
Distribution = dict[tuple[int, ...], float]


@dataclass(frozen=True)
class Witness:
    """The two models, of a graph without latent nodes. Every variable has the values 0 … 3: two bits.

    `coins` are the bidirected edges that have a coin, `next_in` the child that each node of the larger district acts
    on, `carries_to` the child to which a node hands the parity of the roots.
    """

    graph: Graph
    treatment: tuple[str, ...]
    outcome: tuple[str, ...]
    given: tuple[str, ...]
    larger: int
    smaller: int
    coins: tuple[tuple[int, int], ...]
    next_in: Mapping[int, int]
    carries_to: Mapping[int, int]

    def observed(self, second: bool = False) -> Distribution:
        """P(v) of all nodes in their order, for the first or the second model."""
        return self._distribution(second, 0)

    def effect(self, second: bool = False) -> Distribution:
        """P(outcome | do(treatment = 0), given) with the values of the outcome and of what is given as the key."""
        wanted = [self.graph.index[n] for n in (*self.outcome, *self.given)]
        k, joint, norm = len(self.outcome), dict[tuple[int, ...], float](), dict[tuple[int, ...], float]()
        for values, p in self._distribution(second, self.graph.mask(self.treatment)).items():
            key = tuple(values[i] for i in wanted)
            joint[key] = joint.get(key, 0.0) + p
            norm[key[k:]] = norm.get(key[k:], 0.0) + p
        return {key: p / norm[key[k:]] for key, p in joint.items()}

    def _distribution(self, second: bool, fixed: int) -> Distribution:
        order = self.graph.masks.order()
        roots = mask_of(v for v in bits(self.larger) if v not in self.next_in)
        found: Counter[tuple[int, ...]] = Counter()
        for tosses in product((0, 1), repeat=len(self.coins)):
            hedge, carried = [0] * len(order), [0] * len(order)
            for (a, b), toss in zip(self.coins, tosses, strict=True):
                for v in (a, b):
                    if not (second and self.smaller >> v & 1 and not self.smaller >> (a + b - v) & 1):
                        hedge[v] ^= toss
            for v in order:
                if fixed >> v & 1:
                    hedge[v] = carried[v] = 0
                child = self.next_in.get(v)
                if child is not None and not (second and self.smaller >> child & 1 and not self.smaller >> v & 1):
                    hedge[child] ^= hedge[v]
                if v in self.carries_to:
                    carried[self.carries_to[v]] ^= carried[v] ^ (hedge[v] if roots >> v & 1 else 0)
            found[tuple(h + 2 * c for h, c in zip(hedge, carried, strict=True))] += 1
        return {values: n / 2 ** len(self.coins) for values, n in found.items()}

    def __str__(self) -> str:
        names = ", ".join(self.outcome)
        do = ", ".join(f"{n} = 0" for n in self.treatment)
        lines = [f"two models with the same P({', '.join(self.graph.nodes)}); under do({do}):"]
        one, two = self.effect(), self.effect(second=True)
        for key in sorted(one.keys() | two.keys()):
            values = ", ".join(map(str, key))
            lines.append(f"  P({names}{(self.given and ', ' + ', '.join(self.given)) or ''} = {values}) is "
                         f"{one.get(key, 0):g} in the first, {two.get(key, 0):g} in the second")  # fmt: skip
        return "\n".join(lines)


def witness(graph: Graph, hedge: tuple[int, int], x: int, y: int, z: int = 0) -> Witness | None:
    """The two models for a hedge that `identified` found for P(y | do(x), z).

    None where they agree about a conditional effect although they disagree about the joint one that it comes from, and
    where the larger district has more than 16 nodes: the models are made by going through all coins.

    >>> graph = Graph(("x", "y"), (("x", "y"),), (("x", "y"),))
    >>> print(witness(graph, (0b11, 0b10), 0b01, 0b10))
    two models with the same P(x, y); under do(x = 0):
      P(y = 0) is 0.5 in the first, 1 in the second
      P(y = 1) is 0.5 in the first, 0 in the second
    """
    larger, smaller = hedge
    if larger.bit_count() > LARGEST:
        return None
    masks = graph.masks
    coins, joined = [], {v: v for v in bits(larger)}  # a tree of bidirected edges, on the smaller district too

    def end_of(v: int) -> int:
        while joined[v] != v:
            v = joined[v]
        return v

    for inside in (smaller, larger):
        for a in bits(inside):
            for b in bits(masks.siblings[a] & inside):
                if end_of(a) != end_of(b):
                    joined[end_of(a)] = end_of(b)
                    coins.append((a, b))
    next_in = {}
    for v in bits(larger):
        inside = smaller if smaller >> v & 1 else larger
        if children := masks.children[v] & inside:
            next_in[v] = next(bits(children))
    carries_to, reached = {}, y | z
    while new := [v for v in bits(masks.all & ~reached & ~x) if masks.children[v] & reached]:
        for v in new:
            carries_to[v] = next(bits(masks.children[v] & reached))
        reached |= mask_of(new)
    found = Witness(
        graph, graph.names(x), graph.names(y), graph.names(z), larger, smaller, tuple(coins), next_in, carries_to
    )
    return found if found.effect() != found.effect(second=True) else None
