"""What is adjusted for, looked at before anything is computed: gaps, constants, names of rows, effects of treatment."""

from __future__ import annotations

from collections.abc import Sequence

from kokkiri import phrases
from kokkiri.causal.asked import Asked
from kokkiri.causal.estimand import Estimand
from kokkiri.causal.graph import Graph
from kokkiri.causal.separation import directed_path
from kokkiri.causal.variables import Rows, Variable
from kokkiri.data.columns import Kind
from kokkiri.errors import DataError, UsageError

LONELY = 0.2  # share of rows whose category no other row has, from which on a category compares little


def names_of(asked: Asked) -> tuple[str, ...]:
    """All columns that are adjusted for, whether declared or found by the graph."""
    names = [*asked.adjust, *asked.interact]
    for estimand in (asked.estimand, asked.conditional):
        if isinstance(estimand, Estimand):
            names += estimand.adjustment
            names += estimand.instruments.given if estimand.instruments else ()
    return tuple(dict.fromkeys(names))


def must_come_before(graph: Graph, treatments: Sequence[str], adjust: Sequence[str], given: Sequence[str] = ()) -> None:
    """An error, with the path, where the treatment acts on something that was to be adjusted for, or to make groups.

    What lies on no causal path to the outcome might be adjusted for. It never helps, though, and is wrong as soon as
    the graph lacks one cause that it shares with the outcome. Groups by what the treatment acts on hold others when it
    is set otherwise, so that their difference is no effect on anybody.

    >>> must_come_before(Graph(("dose", "fever"), (("dose", "fever"),)), ["dose"], ["fever"])
    Traceback (most recent call last):
      ...
    kokkiri.errors.UsageError: 'fever' comes after dose, and is not adjusted for
      needs   columns on which dose does not act
      found   dose → fever
      fix     leave it out
    """
    for name in (*adjust, *given):
        if name in graph.nodes and (path := directed_path(graph, treatments, name)):
            of = path.nodes[0]
            role = "makes no groups of its effect" if name in given else "is not adjusted for"
            raise UsageError(f"'{name}' comes after {of}, and {role}", needs=f"columns on which {of} does not act",
                             found=str(path), fix="leave it out")  # fmt: skip


def beside(asked: Asked) -> list[str]:
    """A warning where the effect is asked for by a column that was not declared, and is adjusted for all the same."""
    if asked.estimand is not None:
        return []  # the graph was asked
    t = ", ".join(asked.treatments)
    return [f"an effect by {name} is adjusted for it, too: right only if {t} does not act on {name}"
            for name in asked.given if name not in asked.adjust]  # fmt: skip


def noticed(rows: Rows, names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Warnings, and notes, about columns that are adjusted for. Raises DataError for one without any value.

    >>> from kokkiri.causal.variables import Columns
    >>> data = {"city": ["a", "b", "a", "b"], "land": ["x"] * 4, "age": [31.0, None, 45.0, 50.0]}
    >>> for note in noticed(Columns(data).rows(list(data)), list(data))[1]:
    ...     print(note)
    land has one value: adjusting for it changes nothing
    1 row has no value of age (25.0 %): that it is missing is adjusted for in its place
    """
    warnings, notes = [], []
    for v in (rows.variables[name] for name in names if name in rows.variables):
        gone = int(v.missing.sum())
        if gone == rows.size:
            raise DataError(f"'{v.name}' has no values to adjust for", needs="values",
                            found=f"{phrases.count(rows.size, 'row')}, none with one", fix="leave it out")  # fmt: skip
        if gone:
            many, share = phrases.count(gone, "row"), phrases.percent(gone / rows.size)
            notes.append(f"{many} {'has' if gone == 1 else 'have'} no value of {v.name} ({share}): that it is missing "
                         "is adjusted for in its place")  # fmt: skip
        elif v.constant:
            notes.append(f"{v.name} has one value: adjusting for it changes nothing")
        if (lonely := _lonely(v)) > LONELY:
            warnings.append(f"{phrases.percent(lonely)} of the rows share their {v.name} with no other: nobody like "
                            "them is there to compare with, so that adjusting for it does little")  # fmt: skip
    return warnings, notes


def _lonely(v: Variable) -> float:
    """The share of rows whose category no other row has."""
    if v.column.kind is not Kind.CATEGORY or v.cells.is_floating_point():
        return 0.0
    there = v.cells[~v.missing]
    return float((there.bincount() == 1).sum()) / max(1, len(there))
