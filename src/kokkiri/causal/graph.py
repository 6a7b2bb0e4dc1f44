"""A causal graph: arrows for causes, bidirected edges for hidden common causes, and nodes that nobody measured.

`a -> b` says that a may act on b directly, `a <-> b` that something unmeasured acts on both. What is left out is the
claim: no arrow, no direct effect; no bidirected edge, no common cause. A node may also be declared latent; `projected`
then says the same with the measured nodes alone (Verma & Pearl 1990; Evans 2016, "Graphs for margins of Bayesian
networks", where the order in which latents are taken out is shown not to matter).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from kokkiri.causal.masks import Masks, bits, mask_of
from kokkiri.errors import GraphError, UsageError, nearest
from kokkiri.phrases import count

if TYPE_CHECKING:
    from collections.abc import Mapping

Names = str | Iterable[str]
# what means something in an arrow string
SPECIAL = re.compile(r"""[;,"{}\[\]\r\n→←↔]|--|[-=]>|<[-=]|\s\#|^\#|^//|^\s|\s$""")


@dataclass(frozen=True)
class Graph:
    """Nodes by name, directed edges (cause, effect), bidirected edges, and which nodes are latent.

    Names are any text. Edges are put in the order of the nodes, and each is kept once. A cycle is refused and shown.

    >>> graph = Graph(("age", "dose", "outcome"), (("age", "dose"), ("dose", "outcome")), (("outcome", "age"),))
    >>> graph.ancestors("outcome"), graph.districts()
    (('age', 'dose', 'outcome'), (('age', 'outcome'), ('dose',)))
    >>> print(graph)
    age -> dose; dose -> outcome; age <-> outcome
    """

    nodes: tuple[str, ...]
    directed: tuple[tuple[str, str], ...] = ()
    bidirected: tuple[tuple[str, str], ...] = ()
    latent: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        nodes = tuple(self.nodes)
        index = {name: i for i, name in enumerate(nodes)}
        for name in nodes:
            if not isinstance(name, str) or not name.strip():
                raise GraphError(f"{name!r} is no name of a node", needs="text that is not blank", found=repr(name))
        if len(index) < len(nodes):
            twice = next(n for i, n in enumerate(nodes) if index[n] != i)
            raise GraphError(f"the node '{twice}' is there twice", needs="names that differ", fix="rename one of them")
        for a, b in (*self.directed, *self.bidirected):
            for end in (a, b):
                if end not in index:
                    raise GraphError(f"an edge ends at '{end}', which is no node", needs="both ends among the nodes",
                                     found=f"'{a}' and '{b}'", fix=nearest(str(end), nodes))  # fmt: skip
            if a == b:
                raise GraphError(f"'{a}' has an edge to itself", needs="two ends", found=f"{a} -> {a}",
                                 fix="leave it out: every variable has causes of its own")  # fmt: skip
        place = lambda edge: (index[edge[0]], index[edge[1]])
        both = {(a, b) if index[a] < index[b] else (b, a) for a, b in self.bidirected}
        for field, value in (
            ("nodes", nodes),
            ("directed", tuple(sorted({(a, b) for a, b in self.directed}, key=place))),
            ("bidirected", tuple(sorted(both, key=place))),
            ("latent", _known(self.latent, index)),
        ):
            object.__setattr__(self, field, value)
        if len(self.masks.order()) < len(nodes):
            cycle = " -> ".join(self._cycle())
            raise GraphError(
                "the graph has a cycle", needs="no variable that acts on itself, by whatever way", found=cycle,
                fix="turn or leave out one of these arrows; for two that share a hidden cause write a <-> b",
            )  # fmt: skip

    # -- as numbers ----------------------------------------------------------------------------------------------------

    @cached_property
    def index(self) -> Mapping[str, int]:
        """The number of each node."""
        return {name: i for i, name in enumerate(self.nodes)}

    @cached_property
    def masks(self) -> Masks:
        """Parents, children and siblings of each node as bits of integers."""
        parents, children, siblings = ([0] * len(self.nodes) for _ in range(3))
        for a, b in self.directed:
            i, j = self.index[a], self.index[b]
            parents[j] |= 1 << i
            children[i] |= 1 << j
        for a, b in self.bidirected:
            i, j = self.index[a], self.index[b]
            siblings[i] |= 1 << j
            siblings[j] |= 1 << i
        return Masks(tuple(parents), tuple(children), tuple(siblings))

    def mask(self, names: Names) -> int:
        """Names as bits; a name that is no node is refused, with the nearest."""
        return mask_of(self.index[name] for name in _known(names, self.index))

    def names(self, mask: int) -> tuple[str, ...]:
        """Bits as names, in the order of the nodes."""
        return tuple(self.nodes[i] for i in bits(mask))

    # -- questions -----------------------------------------------------------------------------------------------------

    @property
    def observed(self) -> tuple[str, ...]:
        """The nodes that are not latent."""
        hidden = set(self.latent)
        return tuple(name for name in self.nodes if name not in hidden)

    @property
    def order(self) -> tuple[str, ...]:
        """All nodes, causes before effects."""
        return tuple(self.nodes[i] for i in self.masks.order())

    def parents(self, of: Names) -> tuple[str, ...]:
        """The direct causes of any of these."""
        return self.names(self.masks.parents_of(self.mask(of)))

    def ancestors(self, of: Names) -> tuple[str, ...]:
        """These and all that act on them, directly or not."""
        return self.names(self.masks.ancestors(self.mask(of)))

    def descendants(self, of: Names) -> tuple[str, ...]:
        """These and all that they act on, directly or not."""
        return self.names(self.masks.descendants(self.mask(of)))

    def districts(self) -> tuple[tuple[str, ...], ...]:
        """The parts that hang together by bidirected edges, called districts or c-components."""
        return tuple(self.names(d) for d in self.masks.districts())

    # -- other graphs --------------------------------------------------------------------------------------------------

    def hide(self, names: Names) -> Graph:
        """The same graph with more nodes declared latent."""
        return replace(self, latent=(*self.latent, *_known(names, self.index)))

    def observe(self, names: Names) -> Graph:
        """The same graph with some nodes measured."""
        seen = set(_known(names, self.index))
        return replace(self, latent=tuple(name for name in self.latent if name not in seen))

    def subgraph(self, names: Names) -> Graph:
        """Some nodes, and the edges between them."""
        keep = set(_known(names, self.index))
        inside = lambda edges: tuple(e for e in edges if keep.issuperset(e))
        return Graph(
            tuple(n for n in self.nodes if n in keep), inside(self.directed), inside(self.bidirected),
            tuple(n for n in self.latent if n in keep),
        )  # fmt: skip

    def without_arrows_into(self, names: Names) -> Graph:
        """The graph after an intervention: nothing acts on these any more, hidden causes included."""
        cut = set(_known(names, self.index))
        both = tuple(e for e in self.bidirected if cut.isdisjoint(e))
        return replace(self, directed=tuple(e for e in self.directed if e[1] not in cut), bidirected=both)

    def without_arrows_out_of(self, names: Names) -> Graph:
        """The graph in which these act on nothing."""
        cut = set(_known(names, self.index))
        return replace(self, directed=tuple(e for e in self.directed if e[0] not in cut))

    def projected(self, onto: Names | None = None) -> Graph:
        """The graph of the measured nodes (or of some nodes) alone, by latent projection.

        a -> L -> b becomes a -> b, and what shares a latent, or is reached from a hidden cause through latents, is
        joined by a bidirected edge.

        >>> Graph(("a", "L", "b", "c"), (("a", "L"), ("L", "b"), ("L", "c")), latent=("L",)).projected().bidirected
        (('b', 'c'),)
        """
        keep = self.mask(self.observed if onto is None else onto)
        gone = self.masks.all & ~keep
        if not gone:
            return self if not self.latent else replace(self, latent=())
        parents, children, siblings = (list(m) for m in (self.masks.parents, self.masks.children, self.masks.siblings))
        for v in bits(gone):
            above, below, beside = parents[v], children[v], siblings[v]
            for child in bits(below):
                parents[child] = (parents[child] | above) & ~(1 << v)
                siblings[child] |= (below | beside) & ~(1 << child)
            for parent in bits(above):
                children[parent] = (children[parent] | below) & ~(1 << v)
            for sibling in bits(beside):
                siblings[sibling] = (siblings[sibling] | below) & ~(1 << v | 1 << sibling)
        name = self.nodes
        directed = tuple((name[a], name[b]) for b in bits(keep) for a in bits(parents[b] & keep))
        bidirected = tuple((name[a], name[b]) for b in bits(keep) for a in bits(siblings[b] & keep) if a < b)
        return Graph(self.names(keep), directed, bidirected)

    # -- as text -------------------------------------------------------------------------------------------------------

    def __str__(self) -> str:
        """An arrow string that `graph_of` reads back."""
        arrows = [f"{quoted(a)} -> {quoted(b)}" for a, b in self.directed]
        arrows += [f"{quoted(a)} <-> {quoted(b)}" for a, b in self.bidirected]
        seen = tuple(dict.fromkeys(name for edge in (*self.directed, *self.bidirected) for name in edge))
        alone = self.nodes if seen != self.nodes[: len(seen)] else self.nodes[len(seen) :]
        hidden = [f"{quoted(name)} [latent]" for name in self.latent]
        lone = [quoted(name) for name in alone]
        return "; ".join([*lone, *arrows, *hidden] if seen != self.nodes[: len(seen)] else [*arrows, *lone, *hidden])

    def __repr__(self) -> str:
        parts = [count(len(self.nodes), "node"), count(len(self.directed), "arrow")]
        if self.bidirected:
            parts.append(f"{len(self.bidirected)} bidirected")
        if self.latent:
            parts.append(f"{len(self.latent)} latent")
        return f"Graph({', '.join(parts)})"

    def picture(self, treatment: Names = (), outcome: Names = (), adjusted: Names = ()) -> str:
        """The graph as SVG text; `kokkiri.drawing.file_of` makes a file of it."""
        from kokkiri.causal.drawing import picture

        return picture(self, treatment, outcome, adjusted)

    def _cycle(self) -> list[str]:
        """The names along one cycle, the first repeated at the end: upwards among what no order reaches."""
        stuck = self.masks.all & ~mask_of(self.masks.order())
        way = [next(bits(stuck))]
        while len(set(way)) == len(way):
            way.append(next(bits(self.masks.parents[way[-1]] & stuck)))
        loop = way[way.index(way[-1]) :]
        return [self.nodes[i] for i in reversed(loop)]


def as_names(names: Names) -> tuple[str, ...]:
    """One name or several, each once.

    >>> as_names("age"), as_names(["age", "dose", "age"])
    (('age',), ('age', 'dose'))
    """
    return (names,) if isinstance(names, str) else tuple(dict.fromkeys(names))


def _known(names: Names, index: Mapping[str, int]) -> tuple[str, ...]:
    """Names in the order of the nodes."""
    given = as_names(names)
    for name in given:
        if name not in index:
            raise UsageError(f"'{name}' is no variable of the graph", needs="one of its nodes", found=repr(name),
                             fix=nearest(str(name), index))  # fmt: skip
    return tuple(sorted(given, key=index.__getitem__))


def quoted(name: str) -> str:
    """A name as it stands in an arrow string: between quotes where it holds a sign that means something there."""
    escaped = name.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\r", "\\r")
    return f'"{escaped}"' if SPECIAL.search(name) else name
