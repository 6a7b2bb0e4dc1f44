"""Graphs in GML (Himsolt 1997): nested lists of keys and values."""

from __future__ import annotations

import html
import re
from typing import Any

from kokkiri.causal.draft import Draft, heads_of, is_latent, undirected
from kokkiri.causal.graph import Graph
from kokkiri.errors import GraphError

TOKEN = re.compile(r'"[^"]*"|\[|\]|[^\s\[\]"]+')
Pairs = list[tuple[str, Any]]


def parse_gml(text: str) -> Graph:
    """A graph in GML: nodes are named by their labels, or by their numbers where they have none.

    An edge with `dir "both"` or `bidirected 1` is bidirected, a node with `observed "no"` or `latent 1` latent.

    >>> print(parse_gml('graph [directed 1 node [id 0 label "age"] node [id 1] edge [source 0 target 1]]'))
    age -> 1
    """
    tokens = TOKEN.findall(re.sub(r"^\s*#[^\n]*", "", text, flags=re.MULTILINE))
    pairs, end = _pairs(tokens, 0)
    if end < len(tokens):
        raise _cut("']' without '['")
    graphs = [value for key, value in pairs if key.lower() == "graph" and isinstance(value, list)]
    if len(graphs) != 1:
        raise _cut(f"{len(graphs)} of them")
    return _graph(graphs[0])


def _graph(pairs: Pairs) -> Graph:
    if str(dict(pairs).get("directed", 0)) != "1":
        raise undirected("a graph without `directed 1`")
    draft, names = Draft(), {}
    for key, value in pairs:
        if key == "node":
            node = dict(value)
            number = node.get("id", node.get("label"))
            names[number] = str(node.get("label", number))
            if names[number] in draft.nodes:
                raise GraphError(f"the node '{names[number]}' is there twice", needs="labels that differ",
                                 fix="rename one of them")  # fmt: skip
            draft.node(names[number], latent=is_latent(node))
    for key, value in pairs:
        if key == "edge":
            edge = dict(value)
            ends = [edge.get("source"), edge.get("target")]
            if any(end not in names for end in ends):
                raise GraphError("an edge ends at no node", needs="source and target among the ids of the nodes",
                                 found=f"{ends[0]} -> {ends[1]}", fix="add the node, or mend the edge")  # fmt: skip
            a, b = names[ends[0]], names[ends[1]]
            draft.join([a], heads_of(edge, (False, True), f"{a} -> {b}"), [b])
    return draft.graph()


def _pairs(tokens: list[str], at: int) -> tuple[Pairs, int]:
    """Keys and values up to the end of this list, and where it ends."""
    found: Pairs = []
    while at < len(tokens) and tokens[at] != "]":
        if at + 1 >= len(tokens):
            raise _cut(f"'{tokens[at]}' at the end")
        key, value = tokens[at], tokens[at + 1]
        if value == "[":
            inside, at = _pairs(tokens, at + 2)
            if at >= len(tokens):
                raise _cut("a '[' that is not closed")
            found.append((key, inside))
            at += 1
        else:
            found.append((key, html.unescape(value[1:-1]) if value.startswith('"') else value))
            at += 2
    return found, at


def _cut(found: str) -> GraphError:
    return GraphError("this is no whole graph in GML", needs="graph [ directed 1 node [ … ] edge [ … ] ]", found=found,
                      fix="write the file again, for instance by networkx.write_gml")  # fmt: skip
