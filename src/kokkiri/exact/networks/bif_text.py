"""The text of a .bif file taken apart: variables, heads and rows of numbers, each with the line where it stood.

The Bayesian interchange format, version 0.15 (Cozman 1998), and what is written in its name: commas between names and
numbers may be left out, names may stand in quotation marks, a head may have a bar before the parents or none.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from kokkiri.errors import FormatError, nearest

KEYWORDS = ("network", "variable", "probability")
_TOKEN = re.compile(
    r"""\s+|//[^\n]*|/\*.*?\*/|"(?P<quoted>[^"\n]*)"|(?P<sign>[{}()\[\];,|])|(?P<word>[^\s{}()\[\];,|"]+)""", re.DOTALL
)


class Token(NamedTuple):
    """A word or a sign, and its line."""

    text: str
    kind: str  # "word", "sign" or "end"
    line: int


class Declared(NamedTuple):
    """A variable and its states."""

    name: Token
    states: tuple[Token, ...]


class Row(NamedTuple):
    """Numbers: of a setting of the parents, of the whole table, or for all settings that have none ("default")."""

    kind: str  # "setting", "table" or "default"
    setting: tuple[Token, ...]
    numbers: tuple[float, ...]
    line: int


class Head(NamedTuple):
    """A variable, its parents, and the rows of its table."""

    child: Token
    parents: tuple[Token, ...]
    rows: tuple[Row, ...]


class Parsed(NamedTuple):
    """All that a file says."""

    name: str
    variables: tuple[Declared, ...]
    heads: tuple[Head, ...]


def error(source: str, line: int, what: str, needs: str, found: str, fix: str) -> FormatError:
    """Four lines that begin with the place."""
    return FormatError(f"{source}, line {line}: {what}", needs=needs, found=found, fix=fix)


def parse(text: str, source: str) -> Parsed:
    r"""The parts of a .bif file.

    >>> found = parse("variable a { type discrete [ 2 ] { yes, no }; }\nprobability ( a ) { table 0.1 0.9; }", "a.bif")
    >>> found.variables[0].states[1].text, found.heads[0].rows[0].numbers
    ('no', (0.1, 0.9))
    """
    reader = _Reader(_tokens(text, source), source)
    name, variables, heads = "", [], []
    while reader.next.kind != "end":
        keyword = reader.word(" or ".join(KEYWORDS))
        match keyword.text:
            case "network":
                name = reader.take().text if reader.next.kind == "word" else ""
                reader.sign("{")
                while not reader.passes("}"):
                    reader.skip_statement()
            case "variable":
                variables.append(reader.variable())
            case "probability":
                heads.append(reader.head())
            case _:
                raise reader.wrong(keyword, f"'{keyword.text}' begins nothing", ", ".join(KEYWORDS),
                                   nearest(keyword.text, KEYWORDS))  # fmt: skip
    if not variables:
        raise error(source, reader.next.line, "there are no variables", "variable NAME { type discrete [ 2 ] { … }; }",
                    f"{len(heads)} tables" if heads else "nothing", "is it a .bif file?")  # fmt: skip
    return Parsed(name, tuple(variables), tuple(heads))


def _tokens(text: str, source: str) -> list[Token]:
    found: list[Token] = []
    at, line = 0, 1
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None or (match["word"] and match[0].startswith("/*")):
            raise error(
                source, line, "what is opened here is never closed",
                "names between two quotation marks in one line, remarks from /* to */",
                text[at:].splitlines()[0][:60], "close it",
            )  # fmt: skip
        if match["quoted"] is not None:
            found.append(Token(match["quoted"].strip(), "word", line))
        elif match["sign"] or match["word"]:
            found.append(Token(match[0], "sign" if match["sign"] else "word", line))
        line += match[0].count("\n")
        at = match.end()
    return [*found, Token("the end of the file", "end", line)]


@dataclass
class _Reader:
    """A place in the tokens of a file."""

    tokens: list[Token]
    source: str
    at: int = 0

    @property
    def next(self) -> Token:
        return self.tokens[self.at]

    def take(self) -> Token:
        token = self.next
        if token.kind == "end":
            raise self.wrong(token, "the file ends in the middle", "a closing brace", "download or save it again")
        self.at += 1
        return token

    def passes(self, *signs: str) -> bool:
        """Whether one of these signs was next; it is taken then."""
        there = self.next.kind == "sign" and self.next.text in signs
        if there:
            self.at += 1
        return there

    def sign(self, *signs: str) -> Token:
        token = self.take()
        if token.kind != "sign" or token.text not in signs:
            raise self.wrong(
                token, f"'{token.text}' is out of place", " or ".join(signs), "look at the line before, too"
            )
        return token

    def word(self, what: str) -> Token:
        token = self.take()
        if token.kind != "word" or not token.text:
            raise self.wrong(token, f"'{token.text}' is out of place", what, "look at the line before, too")
        return token

    def wrong(self, token: Token, what: str, needs: str, fix: str) -> FormatError:
        here = [t.text for t in self.tokens[:-1] if t.line == token.line]
        return error(self.source, token.line, what, needs, " ".join(here)[:70] or token.text, fix)

    def skip_statement(self) -> None:
        """A property, or whatever else ends with a semicolon."""
        while not self.passes(";"):
            self.take()

    def words_until(self, *ends: str) -> tuple[Token, ...]:
        """Words with commas between them or none, up to one of these signs."""
        found = []
        while not self.passes(*ends):
            if not self.passes(","):
                found.append(self.word(f"a name, or {' or '.join(ends)}"))
        return tuple(found)

    def variable(self) -> Declared:
        name = self.word("the name of a variable")
        self.sign("{")
        states: tuple[Token, ...] | None = None
        while not self.passes("}"):
            keyword = self.word("type, property or }")
            if keyword.text != "type":
                self.skip_statement()
                continue
            kind = self.word("discrete")
            if kind.text != "discrete":
                raise self.wrong(kind, f"'{name.text}' is {kind.text}", "type discrete", "cut it into intervals")
            self.sign("[")
            number = self.word("the number of states")
            self.sign("]")
            self.sign("{")
            states = self.words_until("}")
            self.sign(";")
            if number.text != str(len(states)):
                raise self.wrong(number, f"'{name.text}' should have {number.text} states and has {len(states)}",
                                 "as many names as the brackets say", "correct one of them")  # fmt: skip
        if states is None:
            raise self.wrong(name, f"'{name.text}' has no type", "type discrete [ 2 ] { yes, no };", "add its states")
        return Declared(name, states)

    def head(self) -> Head:
        self.sign("(")
        child = self.word("the name of a variable")
        self.passes("|")
        parents = self.words_until(")")
        self.sign("{")
        rows = []
        while not self.passes("}"):
            token = self.take()
            if token.kind == "sign" and token.text == "(":
                setting = self.words_until(")")
                rows.append(Row("setting", setting, self.numbers(), token.line))
            elif token.text in {"table", "default"} and token.kind == "word":
                rows.append(Row(token.text, (), self.numbers(), token.line))
            elif token.text == "property" and token.kind == "word":
                self.skip_statement()
            else:
                raise self.wrong(token, f"'{token.text}' is out of place", "table, default, property or (",
                                 "rows end with a semicolon")  # fmt: skip
        return Head(child, parents, tuple(rows))

    def numbers(self) -> tuple[float, ...]:
        found = []
        for token in self.words_until(";"):
            try:
                found.append(float(token.text))
            except ValueError:
                raise self.wrong(token, f"'{token.text}' is no number", "probabilities such as 0.25",
                                 "rows end with a semicolon") from None  # fmt: skip
        return tuple(found)


def twice(tokens: Iterable[Token]) -> Token | None:
    """The first that was there before."""
    seen: set[str] = set()
    for token in tokens:
        if token.text in seen:
            return token
        seen.add(token.text)
    return None
