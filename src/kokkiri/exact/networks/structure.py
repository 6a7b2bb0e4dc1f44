"""What a Bayesian network is before it has numbers: variables, their states, and on whom each depends."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from kokkiri.errors import GraphError, UsageError, nearest

_TOKEN = re.compile(
    r"""(?P<remark>(?:^|[^\S\r\n])\#[^\n]*)|"(?P<name>[^"\n]*)"|(?P<arrow><->|->|<-|[→←↔])|(?P<end>[;\r\n])
    |(?P<brace>[{},])|(?P<text>(?:(?!->|<-|[^\S\r\n]\#)[^;\r\n{},"→←↔])+)|(?P<odd>.)""",
    re.VERBOSE | re.MULTILINE,
)
_SHAFT = {"->": 1, "→": 1, "<-": -1, "←": -1}


@dataclass(frozen=True)
class Variable:
    """A discrete variable: its name, the names of its states, and the variables that it depends on directly."""

    name: str
    states: tuple[str, ...]
    parents: tuple[str, ...] = ()


@dataclass(frozen=True)
class Structure:
    """Variables and who depends on whom: a directed graph without cycles.

    A table of a variable has an axis for each parent, in their order, and one for the variable itself, the last.

    >>> rain = Structure((Variable("rain", ("yes", "no")), Variable("wet", ("yes", "no"), ("rain",))))
    >>> rain.shape("wet"), rain.arrows
    ((2, 2), (('rain', 'wet'),))
    """

    variables: tuple[Variable, ...]

    def __post_init__(self) -> None:
        known: dict[str, Variable] = {}
        for variable in self.variables:
            name = variable.name
            if not isinstance(name, str) or not name.strip():
                raise GraphError(f"{name!r} is no name of a variable", needs="text that is not blank", found=repr(name),
                                 fix="name it")  # fmt: skip
            if name in known:
                raise GraphError(f"the variable '{name}' is there twice", needs="names that differ",
                                 found=f"{len(self.variables):,} variables", fix="rename one of them")  # fmt: skip
            _check_states(variable)
            known[name] = variable
        if not known:
            raise GraphError("a network of no variables", needs="at least one", found="none", fix='such as "a -> b"')
        for variable in self.variables:
            for parent in variable.parents:
                if parent not in known:
                    raise GraphError(
                        f"'{variable.name}' depends on '{parent}', which is no variable",
                        needs="parents among the variables", found=f"'{parent}'", fix=nearest(parent, known),
                    )  # fmt: skip
            if len(set(variable.parents)) < len(variable.parents):
                raise GraphError(f"'{variable.name}' names a parent twice", needs="each parent once",
                                 found=", ".join(variable.parents), fix="leave one of them out")  # fmt: skip
        refuse_cycles({v.name: v.parents for v in self.variables})

    # -- as numbers ----------------------------------------------------------------------------------------------------

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the variables."""
        return tuple(v.name for v in self.variables)

    @cached_property
    def index(self) -> Mapping[str, int]:
        """The number of each variable."""
        return {v.name: i for i, v in enumerate(self.variables)}

    @cached_property
    def codes(self) -> tuple[Mapping[str, int], ...]:
        """For each variable the number of each of its states."""
        return tuple({s: k for k, s in enumerate(v.states)} for v in self.variables)

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """How many states each variable has."""
        return tuple(len(v.states) for v in self.variables)

    @cached_property
    def parents(self) -> tuple[tuple[int, ...], ...]:
        """The numbers of the parents of each variable."""
        return tuple(tuple(self.index[p] for p in v.parents) for v in self.variables)

    @cached_property
    def families(self) -> tuple[tuple[int, ...], ...]:
        """The variables of each table, in the order of its axes: parents, then the variable itself."""
        return tuple((*parents, i) for i, parents in enumerate(self.parents))

    @cached_property
    def order(self) -> tuple[int, ...]:
        """All variables, parents before children."""
        return tuple(self.index[name] for name in _sorted({v.name: v.parents for v in self.variables}))

    @cached_property
    def plans(self) -> dict[Any, Any]:
        """Plans of queries, by what they ask: a memory, not a part of the value."""
        return {}

    @property
    def arrows(self) -> tuple[tuple[str, str], ...]:
        """(parent, child), child by child."""
        return tuple((parent, v.name) for v in self.variables for parent in v.parents)

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a variable's table."""
        return tuple(self.sizes[i] for i in self.families[self.number(name)])

    def number(self, name: str) -> int:
        """The number of a variable; a name that is none is refused, with the nearest."""
        found = self.index.get(name) if isinstance(name, str) else None
        if found is None:
            raise UsageError(f"there is no variable '{name}'", needs="the name of a variable of the network",
                             found=repr(name), fix=nearest(str(name), self.names))  # fmt: skip
        return found

    def ancestors(self, of: Iterable[int]) -> set[int]:
        """These variables, by number, and all that they depend on, directly or not."""
        found: set[int] = set()
        waiting = list(of)
        while waiting:
            i = waiting.pop()
            if i not in found:
                found.add(i)
                waiting.extend(self.parents[i])
        return found

    def __str__(self) -> str:
        """The arrows, as `structure` reads them."""
        above = lambda names: names[0] if len(names) == 1 else f"{{{', '.join(names)}}}"
        return "; ".join(
            f"{above([_quoted(p) for p in v.parents])} -> {_quoted(v.name)}" if v.parents else _quoted(v.name)
            for v in self.variables
        )


def structure(arrows: str | Mapping[str, Sequence[str]] | Structure, states: Mapping[str, Sequence[str]]) -> Structure:
    """Variables and their states, out of an arrow string, or out of the parents of each variable.

    arrows: "age -> dose -> outcome <- age", statements apart by semicolons or lines, `{a, b} -> c` for an arrow from
    each, names with signs in double quotes; or {"outcome": ["dose", "age"], …}. Parents keep the order in which they
    are named. states: the names of each variable's states.

    >>> yes_no = ("yes", "no")
    >>> asia = structure("{smoke, age} -> lung", {"smoke": yes_no, "age": ("old", "young"), "lung": yes_no})
    >>> asia.shape("lung"), str(asia)
    ((2, 2, 2), 'smoke; age; {smoke, age} -> lung')
    """
    if isinstance(arrows, Structure):
        return arrows
    parents = parents_of(arrows)
    for name in states:
        if name not in parents:
            raise UsageError(f"states are given for '{name}', which is no variable", needs="variables of the graph",
                             found=f"'{name}'", fix=nearest(name, parents))  # fmt: skip
    if missing := [name for name in parents if name not in states]:
        raise UsageError(
            f"the states of '{missing[0]}' are not known", needs="the names of every variable's states",
            found=f"states of {', '.join(states) or 'none'}", fix=f'states={{"{missing[0]}": ["yes", "no"], …}}',
        )  # fmt: skip
    return Structure(tuple(Variable(name, tuple(map(str, states[name])), tuple(p)) for name, p in parents.items()))


def parents_of(arrows: str | Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """The parents of every variable that is named, in the order in which they are.

    >>> parents_of("a -> b <- c; b -> d")
    {'a': [], 'b': ['a', 'c'], 'c': [], 'd': ['b']}
    """
    found: dict[str, list[str]] = {}
    if not isinstance(arrows, str):
        for child, parents in arrows.items():
            if isinstance(parents, str):
                raise UsageError(f"the parents of '{child}' are a text", needs="a list of names", found=repr(parents),
                                 fix=f'["{parents}"]')  # fmt: skip
            found.setdefault(child, []).extend(parents)
        for parents in list(arrows.values()):
            for parent in parents:
                found.setdefault(parent, [])
        return found
    for statement in _statements(arrows):
        groups = [g for g in statement if isinstance(g, list)]
        for name in (name for group in groups for name in group):
            found.setdefault(name, [])
        for left, way, right in zip(groups, (w for w in statement if isinstance(w, int)), groups[1:], strict=False):
            causes, effects = (left, right) if way > 0 else (right, left)
            for effect in effects:
                found[effect] += [c for c in causes if c not in found[effect]]
    return found


def refuse_cycles(parents: Mapping[str, Sequence[str]]) -> None:
    """An error that shows the cycle, if there is one.

    >>> refuse_cycles({"a": ["b"], "b": ["a"]})
    Traceback (most recent call last):
    kokkiri.errors.GraphError: the graph has a cycle
      needs   no variable that depends on itself, by whatever way
      found   a -> b -> a
      fix     turn or leave out one of these arrows
    """
    done = set(_sorted(parents))
    if len(done) == len(parents):
        return
    path = [next(name for name in parents if name not in done)]
    while path[-1] not in path[:-1]:
        path.append(next(p for p in parents[path[-1]] if p not in done))
    cycle = path[path.index(path[-1]) :][::-1]
    raise GraphError("the graph has a cycle", needs="no variable that depends on itself, by whatever way",
                     found=" -> ".join(cycle), fix="turn or leave out one of these arrows")  # fmt: skip


def _sorted(parents: Mapping[str, Sequence[str]]) -> list[str]:
    """Parents first; what lies on or behind a cycle is left out."""
    children: dict[str, list[str]] = {name: [] for name in parents}
    waits = {name: len(p) for name, p in parents.items()}
    for name, above in parents.items():
        for parent in above:
            children[parent].append(name)
    ready = [name for name, n in waits.items() if n == 0]
    found: list[str] = []
    while ready:
        found.append(ready.pop(0))
        for child in children[found[-1]]:
            waits[child] -= 1
            if waits[child] == 0:
                ready.append(child)
    return found


def _statements(text: str) -> list[list[Any]]:
    """Each a list of groups of names, and of 1 and -1 for the arrows between them."""
    found: list[list[Any]] = []
    statement: list[Any] = []
    group: list[str] | None = None  # the one whose brace is open
    for match in [*_TOKEN.finditer(text + "\n"), None]:
        kind = "end" if match is None else match.lastgroup or "odd"
        piece = "" if match is None else match[kind].strip()
        wrong = False
        if kind == "arrow" and piece in _SHAFT and group is None and statement and isinstance(statement[-1], list):
            statement.append(_SHAFT[piece])
        elif kind == "name" or (kind == "text" and piece):
            if group is not None:
                group.append(piece)
            else:
                wrong = bool(statement) and isinstance(statement[-1], list)
                statement.append([piece])
        elif kind == "brace" and piece == "{" and group is None:
            wrong = bool(statement) and isinstance(statement[-1], list)
            group = []
        elif kind == "brace" and group is not None and piece in {",", "}"}:
            if piece == "}":
                statement.append(group)
                group = None
        elif kind == "end" and group is None and not (statement and isinstance(statement[-1], int) and match):
            wrong = bool(statement) and isinstance(statement[-1], int)
            found += [statement] if statement else []
            statement = []
        elif kind in {"arrow", "brace", "odd"} or (match is None and group is not None):
            wrong = True
        if wrong:
            at = len(text) if match is None else match.start()
            line = text[:at].count("\n") + 1
            hidden = piece in {"<->", "↔"}
            raise GraphError(
                f"'{piece}' is out of place in the arrows, line {line}" if piece else "the arrows end in the middle",
                needs="names with -> or <- between them, statements apart by ; or a line",
                found=(text.splitlines() or [""])[min(line, len(text.splitlines())) - 1].strip()[:70],
                fix="a hidden common cause is a variable of its own here: a <- hidden -> b" if hidden
                else 'such as "a -> b; {b, c} -> d"; names with signs stand between double quotes',
            )  # fmt: skip
    return found


def _check_states(variable: Variable) -> None:
    states = variable.states
    if not states or len(set(states)) < len(states) or not all(isinstance(s, str) and s.strip() for s in states):
        twice = [s for i, s in enumerate(states) if s in states[:i]]
        raise GraphError(
            f"the states of '{variable.name}' cannot be told apart" if twice else
            f"'{variable.name}' has " + ("states without a name" if states else "no states"),
            needs="at least one state, each with a name of its own",
            found=", ".join(map(repr, states)) or "none", fix='such as ("yes", "no")',
        )  # fmt: skip


def _quoted(name: str) -> str:
    return f'"{name}"' if re.search(r"->|<-|\s#|^#|[;\r\n{},→←↔]|^\s|\s$", name) else name
