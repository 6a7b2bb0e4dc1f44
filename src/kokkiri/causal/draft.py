"""What a reader of graphs has seen so far, whatever the format."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import product

from kokkiri.causal.graph import Graph
from kokkiri.errors import GraphError

NO, YES = {"no", "false", "0", "none"}, {"yes", "true", "1", ""}
HIDDEN = {"latent", "unobserved", "hidden"}
ARROWS = {"->": (False, True), "<-": (True, False), "<->": (True, True), "→": (False, True), "←": (True, False)}
ARROWS |= {"↔": (True, True)}  # whether there is a head at the left end, and at the right


@dataclass
class Draft:
    """Nodes in the order of their appearance, and edges between them."""

    nodes: dict[str, None] = field(default_factory=dict)
    directed: list[tuple[str, str]] = field(default_factory=list)
    bidirected: list[tuple[str, str]] = field(default_factory=list)
    latent: list[str] = field(default_factory=list)

    def node(self, name: str, *, latent: bool = False) -> None:
        """A node is there, perhaps latent."""
        self.nodes[name] = None
        if latent:
            self.latent.append(name)

    def join(self, left: Iterable[str], heads: tuple[bool, bool], right: Iterable[str]) -> None:
        """An edge from each on the left to each on the right."""
        left, right = list(left), list(right)
        for name in (*left, *right):
            self.node(name)
        for a, b in product(left, right):
            (self.bidirected if all(heads) else self.directed).append((b, a) if heads == (True, False) else (a, b))

    def graph(self) -> Graph:
        """What was read, as a value that was checked."""
        return Graph(tuple(self.nodes), tuple(self.directed), tuple(self.bidirected), tuple(self.latent))


def is_latent(attributes: Mapping[str, object]) -> bool:
    """Whether attributes of a node say that nobody measured it, in the words of dagitty, DoWhy, ananke, pgmpy or y0.

    >>> is_latent({"latent": ""}), is_latent({"observed": "no"}), is_latent({"label": "U"})
    (True, True, False)
    """
    words = {str(k).strip().lower(): str(v).strip().lower() for k, v in attributes.items()}
    return words.get("observed", "") in NO or any(words.get(name, "no") in YES for name in HIDDEN)


def heads_of(attributes: Mapping[str, object], heads: tuple[bool, bool], shown: str) -> tuple[bool, bool]:
    """The heads of an edge whose attributes may turn it: `dir=both`, `bidirected=1`, `dir=back`.

    >>> heads_of({"dir": "both"}, (False, True), "a -> b")
    (True, True)
    """
    words = {str(k).strip().lower(): str(v).strip().lower() for k, v in attributes.items()}
    direction = words.get("dir", "forward")
    if words.get("bidirected", "no") in YES or direction == "both" or words.get("type") == "bidirected":
        return True, True
    if direction == "back":
        return heads[1], heads[0]
    if direction == "none":
        raise undirected(shown)
    return heads


def undirected(shown: str) -> GraphError:
    """The refusal of an edge that does not say who acts on whom."""
    return GraphError(
        "an edge has no direction", needs="a -> b (a acts on b) or a <-> b (a hidden cause acts on both)",
        found=shown, fix="say which it is; a graph that leaves it open stands for several: try each",
    )  # fmt: skip
