"""One door for graphs: a value, a text, a file, or a graph of networkx."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, TypeAlias

from kokkiri.causal.arrows import parse_arrows
from kokkiri.causal.dot import parse_dot
from kokkiri.causal.draft import Draft, heads_of, is_latent, undirected
from kokkiri.causal.gml import parse_gml
from kokkiri.causal.graph import Graph, Names
from kokkiri.errors import GraphError, nearest
from kokkiri.phrases import count

GraphLike: TypeAlias = Graph | str | Path | Any  # a graph, text, the name of a file, or a networkx graph
SUFFIXES = {".dot", ".gv", ".gml", ".dag", ".dagitty", ".graph", ".txt"}
BRACED = re.compile(r"\s*(?:strict\s+)?(?:digraph|graph|dag|mag|pdag|pag)\b\s*(?:\"[^\"]*\"|\w*)\s*\{", re.IGNORECASE)
BRACKETED = re.compile(r"\s*(?:(?:creator|version|comment)\b[^\n]*\n\s*)*graph\s*\[\s*(?:\w+\s+\S|\])", re.IGNORECASE)
REMARKS = re.compile(r"\A(?:\s*(?:#|//)[^\n]*\n|\s*/\*.*?\*/)*", re.DOTALL)


def graph_of(source: GraphLike, latent: Names = ()) -> Graph:
    """A causal graph from an arrow string, dagitty's text, DOT, GML, a file of one of these, or a graph of networkx.

    The format is told from the text. `latent` declares further nodes that nobody measured.

    >>> graph_of("age -> {dose, outcome}; dose -> outcome", latent="age").observed
    ('dose', 'outcome')
    >>> graph_of("dag { age -> dose }") == graph_of("digraph { age -> dose }") == graph_of("age -> dose")
    True
    """
    if isinstance(source, Graph):
        graph = source
    elif isinstance(source, Path):
        graph = _parsed(_text(source))
    elif isinstance(source, str):
        graph = _parsed(_text(Path(source)) if _is_file_name(source) else source)
    elif all(hasattr(source, name) for name in ("nodes", "edges", "is_directed")):
        graph = _from_networkx(source)
    else:
        raise GraphError(
            f"a {type(source).__name__} is no graph", needs="a Graph, text, the name of a file, or a networkx graph",
            found=repr(source)[:60], fix='write for instance "age -> dose; dose <-> outcome"',
        )  # fmt: skip
    return graph.hide(latent) if latent else graph


def _parsed(text: str) -> Graph:
    body = REMARKS.sub("", text)
    if BRACED.match(body):
        graph = parse_dot(body)
    elif BRACKETED.match(body):
        graph = parse_gml(body)
    else:
        graph = parse_arrows(text)
    if not graph.nodes:
        raise GraphError("the graph is empty", needs="variables and arrows", found=repr(text[:40]),
                         fix='write for instance "age -> dose; dose <-> outcome"')  # fmt: skip
    return graph


def _is_file_name(text: str) -> bool:
    if "\n" in text or any(arrow in text for arrow in ("->", "<-", "→", "←", "↔", "{", "[")) or len(text) > 1000:
        return False
    return Path(text).suffix.lower() in SUFFIXES or ("\0" not in text and Path(text).is_file())


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except FileNotFoundError as error:
        raise _missing(path) from error
    except (OSError, UnicodeDecodeError) as error:
        raise GraphError(f"the graph {path} cannot be read", needs="a text file in UTF-8", found=str(error),
                         fix="look at the name; graphs can also be given as text") from error  # fmt: skip


def _missing(path: Path) -> GraphError:
    """No such file, with the nearest of its folder."""
    folder = path.parent
    there = sorted(p.name for p in folder.iterdir() if p.is_file() and p.name[0] != ".") if folder.is_dir() else []
    alike = [name for name in there if Path(name).suffix.lower() in SUFFIXES] or there
    found = f"{count(len(there), 'other file')} in this folder" if folder.is_dir() else f"no folder {folder}"
    fix = nearest(path.name, alike) if there else 'another name, or text: "age -> {dose, outcome}"'
    return GraphError(f"there is no file {path}", needs="a file of a graph, or its text", found=found, fix=fix)


def _from_networkx(source: Any) -> Graph:
    """Nodes and edges of anything that looks like a networkx graph; pgmpy's have a set `latents` besides."""
    if not source.is_directed():
        raise undirected(f"a {type(source).__name__}")
    hidden, draft, names = set(getattr(source, "latents", ())), Draft(), {}
    for node, attributes in source.nodes(data=True):
        names[node] = str(node)
        if names[node] in draft.nodes:
            raise GraphError(f"two nodes are called '{names[node]}'", needs="names that differ as text",
                             found=repr(node), fix="rename one of them")  # fmt: skip
        draft.node(names[node], latent=node in hidden or is_latent(attributes))
    for a, b, attributes in source.edges(data=True):
        heads = heads_of(attributes, (False, True), f"{a} -> {b}")
        draft.join([names[a]], heads, [names[b]])
    return draft.graph()
