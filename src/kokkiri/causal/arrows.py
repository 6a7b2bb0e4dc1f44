"""Arrow strings: `age -> dose; dose <-> outcome`.

Statements end with a semicolon or a line. A statement is a chain of names and arrows (`->`, `<-`, `<->`, or → ← ↔); a
name alone declares a node, `[latent]` after it one that was not measured; `{a, b} -> c` has an arrow from each. Names
may hold spaces; those with signs that mean something stand between double quotes. ` #` begins a remark.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from kokkiri.causal.draft import ARROWS, Draft, is_latent, undirected
from kokkiri.causal.graph import Graph
from kokkiri.errors import GraphError

TOKEN = re.compile(
    r"""(?P<remark>(?:^|(?<=\s))\#[^\n]*|^[ \t]*//[^\n]*)
    |(?P<name>"(?:[^"\\]|\\.)*")
    |(?P<wrong>-{2,}>|<-{2,}>?|--|=>|<=)
    |(?P<arrow><->|->|<-|[→←↔])
    |(?P<end>[;\r\n])
    |(?P<open>\{)|(?P<close>\})|(?P<comma>,)
    |(?P<attributes>\[[^\]\n]*\])
    |(?P<space>[ \t]+(?=\#))
    |(?P<text>(?:(?!->|<-|--|=>|<=|\s\#)[^;\r\n{},\[\]"→←↔])+)
    |(?P<odd>.)""",
    re.VERBOSE | re.MULTILINE,
)
ESCAPED = {"n": "\n", "r": "\r"}


def parse_arrows(text: str) -> Graph:
    """An arrow string as a graph.

    >>> print(parse_arrows("{age, sex} -> dose -> outcome <- age; dose <-> outcome; U [latent]"))
    age; sex; dose; outcome; U; age -> dose; age -> outcome; sex -> dose; dose -> outcome; dose <-> outcome; U [latent]
    """
    draft, statement = Draft(), []
    for token in [*_tokens(text), ("end", ";")]:
        after_arrow = statement and statement[-1][0] == "arrow"
        in_braces = sum({"open": 1, "close": -1}.get(kind, 0) for kind, _ in statement) > 0
        if token[0] != "end":
            statement.append(token)
        elif token[1] == ";" or not (after_arrow or in_braces):  # a line may end after an arrow or inside braces
            _statement(statement, draft)
            statement = []
    return draft.graph()


def _tokens(text: str) -> list[tuple[str, str]]:
    found = []
    for match in TOKEN.finditer(text):
        kind, piece = match.lastgroup or "odd", match[0]
        if kind == "wrong":
            raise undirected(piece) if piece == "--" else GraphError(
                f"'{piece}' is no arrow", needs="->, <- or <->", found=_line(text, match.start()),
                fix="write one of these, or the name that holds it between double quotes",
            )  # fmt: skip
        if kind == "odd":
            raise GraphError(f"'{piece}' is out of place", needs="names and arrows", found=_line(text, match.start()),
                             fix='close what was opened; names with such signs stand between "quotes"')  # fmt: skip
        if kind == "name":
            found.append(("name", re.sub(r"\\(.)", lambda m: ESCAPED.get(m[1], m[1]), piece[1:-1])))
        elif kind == "text" and piece.strip():
            found.append(("name", piece.strip()))
        elif kind not in {"text", "remark", "space"}:
            found.append((kind, piece))
    return found


def _statement(tokens: Sequence[tuple[str, str]], draft: Draft) -> None:
    if not tokens:
        return
    shown, rest = "".join(_shown(t) for t in tokens).strip(), list(tokens)
    attributes = {}
    if rest[-1][0] == "attributes":
        words = [w.partition("=") for w in rest.pop()[1][1:-1].split(",")]
        attributes = {key.strip(): value.strip(" \"'") for key, _, value in words}
    terms, arrows = [_term(rest, shown)], []
    while rest:
        if rest[0][0] != "arrow":
            raise _odd(rest[0], shown)
        arrows.append(ARROWS[rest.pop(0)[1]])
        terms.append(_term(rest, shown))
    for name in terms[0] if not arrows else ():
        draft.node(name, latent=is_latent(attributes))
    for left, heads, right in zip(terms, arrows, terms[1:], strict=False):
        draft.join(left, heads, right)


def _term(rest: list[tuple[str, str]], shown: str) -> list[str]:
    """One name, or several between braces; they are taken off the front."""
    if rest and rest[0][0] == "name":
        return [rest.pop(0)[1]]
    kinds = [kind for kind, _ in rest]
    if kinds[:1] == ["open"] and "close" not in kinds:
        raise GraphError(f"'{{' is not closed in: {shown}", needs="{a, b}", found=shown,
                         fix="write } behind the last name of the group")  # fmt: skip
    if kinds[:1] != ["open"]:
        raise _odd(rest[0] if rest else ("end", "the end"), shown)
    end = kinds.index("close")
    inside, rest[:] = rest[1:end], rest[end + 1 :]
    names = [text for kind, text in inside if kind == "name"]
    if not names or any(kind not in {"name", "comma"} for kind, _ in inside):
        raise GraphError(f"braces hold no list of names: {shown}", needs="{a, b}", found=shown,
                         fix="write names and commas between the braces")  # fmt: skip
    return names


def _odd(token: tuple[str, str], shown: str) -> GraphError:
    comma = token[0] == "comma"
    return GraphError(
        f"'{token[1]}' is out of place in: {shown}", needs="a name, then an arrow and a name, and so on", found=shown,
        fix="write {a, b} -> c for several causes, and ; between statements" if comma
        else "write for instance: age -> dose; dose <-> outcome",
    )  # fmt: skip


def _shown(token: tuple[str, str]) -> str:
    return f" {token[1]} " if token[0] in {"arrow", "attributes"} else token[1] + " " * (token[0] == "comma")


def _line(text: str, at: int) -> str:
    return text[text.rfind("\n", 0, at) + 1 :].partition("\n")[0].strip()
