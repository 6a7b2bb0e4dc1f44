"""Graphs in DOT, and in dagitty's language, which is DOT with arrows both ways.

The grammar is that of https://graphviz.org/doc/info/lang.html without HTML labels. A node is named by its identifier.
`dir=both` makes an edge bidirected, `observed=no` a node latent; dagitty writes `<->` and `[latent]`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from kokkiri.causal.draft import ARROWS, Draft, heads_of, is_latent, undirected
from kokkiri.causal.graph import Graph
from kokkiri.errors import GraphError

HEADER = re.compile(r"\s*(?:strict\s+)?(digraph|graph|dag|mag|pdag|pag)\b", re.IGNORECASE)
REMARK = re.compile(r'("(?:[^"\\]|\\.)*")|/\*.*?\*/|//[^\n]*|^\s*#[^\n]*', re.DOTALL | re.MULTILINE)
TOKEN = re.compile(
    r"""\s*(?:(?P<name>"(?:[^"\\]|\\.)*")|(?P<edge><->|@?-?->|<--?@?|--@?|@-[@-])|(?P<sign>[{}\[\];,=:])
    |(?P<word>[^\s{}\[\];,=:"<>@-]+(?:-(?![->])[^\s{}\[\];,=:"<>@-]+)*)|(?P<odd>\S))""",
    re.VERBOSE,
)


def parse_dot(text: str) -> Graph:
    """A graph in DOT or in dagitty's language.

    >>> print(parse_dot('digraph { age -> {dose outcome}; dose -> outcome [dir=both]; "blood type" }'))
    age -> dose; age -> outcome; dose <-> outcome; blood type
    >>> print(parse_dot("dag { X [exposure] Y [outcome] U [latent] X <- U -> Y X -> Y }"))
    X -> Y; U -> X; U -> Y; U [latent]
    """
    text = REMARK.sub(lambda m: m[1] or " ", text)
    header = HEADER.match(text)
    kind = header[1].lower() if header else ""
    if kind in {"mag", "pdag", "pag"}:
        raise GraphError(
            f"a {kind} stands for several causal graphs", needs="one graph of causes: dag { … } or digraph { … }",
            found=f"{kind} {{ … }}", fix="say who acts on whom; a <-> b where a hidden cause acts on both",
        )  # fmt: skip
    reader = _Reader(_tokens(text))
    while reader.peek() != "{":
        reader.take()
    reader.take("{")
    reader.statements({})
    reader.take("}")
    if reader.peek():
        raise GraphError("something stands after the graph", needs="one graph", found=reader.peek(),
                         fix="give one graph at a time")  # fmt: skip
    return reader.draft.graph()


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str


def _tokens(text: str) -> list[_Token]:
    found = []
    for match in TOKEN.finditer(text):
        kind = match.lastgroup or "odd"
        if kind == "odd":
            raise GraphError(f"'{match[kind]}' is out of place", needs="DOT or dagitty text",
                             found=text[max(0, match.start() - 20) : match.end() + 20].strip(),
                             fix='put names with such signs between "quotes"')  # fmt: skip
        piece = match[kind]
        if kind == "name":  # a quoted name is a name even if it reads like a keyword or a sign
            piece = re.sub(r'\\(["\\])', r"\1", piece[1:-1])
        found.append(_Token(kind, piece))
    return found


@dataclass
class _Reader:
    tokens: list[_Token]
    at: int = 0
    draft: Draft = field(default_factory=Draft)

    def peek(self, ahead: int = 0) -> str:
        """The next sign, edge or word; a quoted name in quotes; nothing at the end."""
        if self.at + ahead >= len(self.tokens):
            return ""
        token = self.tokens[self.at + ahead]
        return f'"{token.text}"' if token.kind == "name" else token.text

    def take(self, wanted: str = "") -> _Token:
        """The next token, which must be this one."""
        if not self.peek() or wanted not in {"", self.peek()}:
            raise GraphError(
                "the graph ends early" if not self.peek() else f"'{self.peek()}' is out of place",
                needs=f"'{wanted}'" if wanted else "{ statements }",
                found=" ".join(t.text for t in self.tokens[max(0, self.at - 4) : self.at + 2]) or "nothing",
                fix="close every { and [, and put names with signs between quotes",
            )  # fmt: skip
        self.at += 1
        return self.tokens[self.at - 1]

    def statements(self, edge_defaults: Mapping[str, str]) -> list[str]:
        """All statements up to a closing brace, and the nodes that they name."""
        defaults, named = dict(edge_defaults), []
        while self.peek() not in {"}", ""}:
            word = self.peek().lower()
            if word in {";", ","}:
                self.take()
            elif word in {"graph", "node", "edge"} and self.peek(1) == "[":
                self.take()
                found = self.attributes()
                defaults |= found if word == "edge" else {}
            elif self.peek(1) == "=" and word not in {"{", "["}:
                self.at += 3  # an attribute of the whole graph
            else:
                named += self.chain(defaults)
        return named

    def chain(self, defaults: Mapping[str, str]) -> list[str]:
        """Names or groups with edges between them, and the attributes behind."""
        start, ends, edges = self.at, [self.group(defaults)], []
        while self.at < len(self.tokens) and self.tokens[self.at].kind == "edge":
            edges.append(self.take().text)
            ends.append(self.group(defaults))
        shown = " ".join(t.text for t in self.tokens[start : self.at])
        attributes = self.attributes()
        for left, edge, right in zip(ends, edges, ends[1:], strict=False):
            if edge not in ARROWS:
                raise undirected(shown)
            self.draft.join(left, heads_of({**defaults, **attributes}, ARROWS[edge], shown), right)
        if not edges:
            for name in ends[0]:
                self.draft.node(name, latent=is_latent(attributes))
        return [name for names in ends for name in names]

    def group(self, defaults: Mapping[str, str]) -> list[str]:
        """One name, or the names in braces."""
        if self.peek().lower() == "subgraph":
            self.take()
            if self.peek() != "{":
                self.take()
        if self.peek() == "{":
            self.take("{")
            names = self.statements(defaults)
            self.take("}")
            return list(dict.fromkeys(names))
        if self.at < len(self.tokens) and self.tokens[self.at].kind not in {"name", "word"}:
            raise GraphError(f"'{self.peek()}' is out of place", needs="a name of a node", found=self.peek(),
                             fix="write for instance: digraph { age -> dose; dose -> outcome }")  # fmt: skip
        name = self.take().text
        while self.peek() == ":":  # a port: where the arrow is drawn to
            self.at += 2
        self.draft.node(name)
        return [name]

    def attributes(self) -> dict[str, str]:
        """Any number of lists [key=value, word]."""
        found: dict[str, str] = {}
        while self.peek() == "[":
            self.take("[")
            while self.peek() != "]":
                key = self.take().text
                if self.peek() == "=":
                    self.take("=")
                    found[key] = self.take().text
                elif key not in {",", ";"}:
                    found[key] = ""
            self.take("]")
        return found
