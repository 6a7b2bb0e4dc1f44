"""What is asked of some data: treatments and their settings, an outcome, whose effect, and by what right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import starmap
from shlex import quote
from typing import Any

from kokkiri.causal.estimand import Estimand
from kokkiri.causal.variables import FEW, Coded, Columns, Rows, Variable
from kokkiri.data.columns import Kind
from kokkiri.errors import DataError, UsageError, nearest
from kokkiri.phrases import count, joined

Value = str | float | int | bool
WHOM = ("average", "treated", "untreated")
# words that say that nothing was done
BASELINES = frozenset(("control", "controls", "placebo", "none", "no", "never", "untreated", "baseline", "usual",
                       "standard", "reference", "sham", "false", "off", "0"))  # fmt: skip


@dataclass(frozen=True, eq=False)
class Asked:
    """The question, with names that the data have. level, versus: a value for each treatment, None until chosen.

    group: a column of categories, along: one of numbers, by which the effect is asked for besides. estimand: the
    formula that a graph gives, or None where `adjust` was declared. conditional: the formula among rows with equal
    `given`. instruments: declared ones. interact: columns by which the effect may differ in a linear model.
    prior: how many rows each cell of a table counts before any is seen.
    """

    treatments: tuple[str, ...]
    level: tuple[Value, ...] | None
    versus: tuple[Value, ...] | None
    outcome: str
    event: str
    whom: str = "average"
    group: str = ""
    along: str = ""
    estimand: Estimand | None = None
    conditional: Estimand | None = None
    adjust: tuple[str, ...] = ()
    instruments: tuple[str, ...] = ()
    interact: tuple[str, ...] = ()
    prior: float = 1.0
    seed: int = 0

    @property
    def given(self) -> tuple[str, ...]:
        """The column by which the effect is asked for, if there is one."""
        return tuple(name for name in (self.group, self.along) if name)


def settings(treatment: Any, versus: Any) -> tuple[tuple[str, ...], tuple[Value, ...] | None, tuple[Value, ...] | None]:
    """Names, what they are set to, and what that is compared with.

    >>> settings({"dose": 1}, 0), settings({"a": 1, "b": 0}, {"a": 0, "b": 0}), settings("dose", None)
    ((('dose',), (1,), (0,)), (('a', 'b'), (1, 0), (0, 0)), (('dose',), None, None))
    """
    if isinstance(treatment, str):
        names: tuple[str, ...] = (treatment,)
        level = None
    elif isinstance(treatment, Mapping) and treatment:
        names, level = tuple(treatment), tuple(treatment.values())
    else:
        raise UsageError("do got no treatment", needs='a column with the value it is set to, {"dose": 1}',
                         found=repr(treatment), fix='kk.do(data, {"dose": 1}, versus={"dose": 0}, …)')  # fmt: skip
    if versus is None:
        return names, level, None
    other = dict(versus) if isinstance(versus, Mapping) else {names[0]: versus}
    if set(other) != set(names):
        raise UsageError("do compares settings of different columns", needs=f"versus for {joined(list(names))}",
                         found=joined(list(other)), fix="name the same columns in both")  # fmt: skip
    return names, level, tuple(other[name] for name in names)


def event_of(variable: Variable, asked: str) -> str:
    """The value of the outcome whose probability is meant; "" where the outcome is a number.

    Raises where there are several, and none is named.
    """
    coded = variable.coded()
    categories = variable.column.kind in {Kind.CATEGORY, Kind.BOOLEAN} and coded is not None
    if variable.column.kind in {Kind.TEXT, Kind.DATE} or not (categories or variable.numeric or variable.constant):
        raise DataError(f"the outcome '{variable.name}' has no mean and no classes", needs="numbers or categories",
                        found=variable.column.reason, fix="choose another outcome")  # fmt: skip
    if asked:
        levels = () if coded is None else coded.levels
        if coded is None:
            raise UsageError(f"'{variable.name}' is a number, and no probability of one value is asked of it",
                             needs="categories, or few numbers", found=variable.column.reason,
                             fix=f"{variable.name} alone, for its mean")  # fmt: skip
        if asked not in levels:
            raise UsageError(f"'{variable.name}' is never '{asked}'", needs="one of its values", found=repr(asked),
                             fix=nearest(asked, levels))  # fmt: skip
        return asked
    if not categories or coded is None or len(coded.levels) < 2:
        return ""
    if coded.worth is not None and variable.column.kind is not Kind.BOOLEAN:
        return ""
    if len(coded.levels) > 2:
        raise UsageError(
            f"'{variable.name}' has {len(coded.levels)} values that are no numbers: the probability of which is meant?",
            needs="one of them", found=joined(list(coded.levels)),
            fix=f"{variable.name}={coded.levels[-1]} as the outcome"
            + (", or numbers in place of these words" if len(coded.levels) > FEW else ""),
        )  # fmt: skip
    if variable.column.kind is Kind.BOOLEAN:
        return coded.levels[-1]
    spoken = [level for level in coded.levels if level.casefold() not in BASELINES]
    return spoken[0] if len(spoken) == 1 else coded.levels[-1]


def index_of(variable: Variable, coded: Coded, value: Value) -> int:
    """The number of a level, given as its name or as the number that it is."""
    text = str(value).casefold() if isinstance(value, bool) else str(value)
    if text in coded.levels:
        return coded.levels.index(text)
    try:
        number = float(value)
    except ValueError:
        number = None
    if number is not None and coded.worth is not None and bool((coded.worth == number).any()):
        return int((coded.worth == number).nonzero()[0])
    folded = [level.casefold() for level in coded.levels]
    if folded.count(text.casefold()) == 1:
        return folded.index(text.casefold())
    raise DataError(
        f"'{variable.name}' is never {text} in these rows: nothing is known of what that does", needs="a level that "
        "occurs", found=f"{variable.name} = {text}", fix=nearest(text, coded.levels),
    )  # fmt: skip


def pair_of(asked: Asked, variables: Sequence[Variable], coded: Sequence[Coded]) -> tuple[list[int], list[int]]:
    """Numbers of the levels that are compared, one for each treatment; what was left open is chosen, or asked for."""
    level, versus = asked.level, asked.versus
    if level is not None and versus is not None:
        i, j = (list(starmap(index_of, zip(variables, coded, side, strict=True))) for side in (level, versus))
        must_differ(i, j, level)
        return i, j
    variable, levels = variables[0], coded[0].levels
    if len(coded) > 1 or len(levels) != 2:
        named = " and ".join(f"'{v.name}'" for v in variables)
        raise UsageError(
            f"{named}: which two settings are compared?", needs="a setting, and what it is compared with",
            found="; ".join(f"{v.name}: {joined(list(c.levels))}" for v, c in zip(variables, coded, strict=True)),
            fix=f"--set {quote(f'{variable.name}={levels[-1]}')} --versus {quote(f'{variable.name}={levels[0]}')}",
        )  # fmt: skip
    if level is not None or versus is not None:
        side = level if level is not None else versus
        i = index_of(variable, coded[0], side[0])  # type: ignore[index]
        return ([i], [1 - i]) if level is not None else ([1 - i], [i])
    if variable.column.kind is Kind.CATEGORY and coded[0].worth is None:
        none = [k for k, name in enumerate(levels) if name.casefold() in BASELINES]
        i = 1 - none[0] if len(none) == 1 else 0  # in the order of letters: A against B
        return [i], [1 - i]
    return [1], [0]


def must_differ(level: Sequence[Any], versus: Sequence[Any], shown: Sequence[Value]) -> None:
    """An error where a setting is compared with itself."""
    if list(level) == list(versus):
        raise UsageError("an effect compares two settings", needs="two that differ",
                         found=f"{', '.join(map(str, shown))} in both", fix="another --set or --versus")  # fmt: skip


def must_vary(rows: Rows, name: str, role: str) -> None:
    """An error where a column has one value."""
    variable = rows.variables[name]
    if variable.constant:
        reason = variable.column.reason
        found = f"one value in the {count(rows.size, 'row')} that are left" if rows.lost else reason
        raise DataError(
            f"the {role} '{name}' does not vary", needs="two values that differ", found=found,
            fix=f"choose another {role}, or rows where it varies",
        )  # fmt: skip


def must_be_settable(variable: Variable) -> None:
    """An error for treatments that are neither numbers nor categories."""
    kind = variable.column.kind
    if kind in {Kind.DATE, Kind.TEXT} or (kind is Kind.IDENTIFIER and not variable.cells.is_floating_point()):
        raise DataError(
            f"the treatment '{variable.name}' is neither a number nor a category", needs="something that can be set",
            found=variable.column.reason,
            fix="a number, such as days since a start" if kind is Kind.DATE else "choose another treatment",
        )  # fmt: skip


def must_be_new(seen: tuple[str, ...], columns: Columns, *, force: bool) -> None:
    """An error where rows come a second time."""
    if columns.digest and columns.digest in seen and not force:
        raise DataError(
            f"{columns.source.name} was learnt already", needs="rows that are new",
            found=f"SHA-256 {columns.digest[:12]}…", fix="leave them out; force=True counts them twice",
        )  # fmt: skip
