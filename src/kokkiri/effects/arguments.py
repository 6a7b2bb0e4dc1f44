"""What `do` is given: a posterior or none, data, treatment, outcome, whose effect; or what is wrong with it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kokkiri.causal.asked import WHOM
from kokkiri.data.core import Data
from kokkiri.data.named import DATA_SETS, DataSet
from kokkiri.errors import UsageError
from kokkiri.phrases import joined
from kokkiri.posteriors import Particles


def parts_of(what: tuple[Any, ...]) -> tuple[Particles | None, Any, Any]:
    """A posterior or none, data, and a treatment or none."""
    post = what[0] if what and isinstance(what[0], Particles) else None
    rest = what[1:] if post is not None else what
    if not 1 <= len(rest) <= 2:
        raise UsageError(
            "do takes data and a treatment", needs='do(data, {"dose": 1}), perhaps after a posterior',
            found=f"{len(what)} arguments", fix="name the others: versus=, outcome=, graph=, adjust=",
        )  # fmt: skip
    return post, rest[0], rest[1] if len(rest) == 2 else None


def whom_of(estimand: str | tuple[str, str]) -> tuple[str, str, str]:
    """Whose effect, the column of groups, the column along which."""
    if isinstance(estimand, str) and estimand in WHOM:
        return estimand, "", ""
    if isinstance(estimand, tuple) and len(estimand) == 2 and estimand[0] in {"group", "along"} and estimand[1]:
        kind, column = estimand
        return "average", column if kind == "group" else "", column if kind == "along" else ""
    raise UsageError(
        f"there is no estimand {estimand!r}", needs=f'{joined([*WHOM])}, ("group", column) or ("along", column)',
        found=repr(estimand), fix='estimand="treated", or ("group", "size"); --estimand treated, or group:size',
    )  # fmt: skip


def data_set_of(data: Any) -> DataSet | None:
    """The data set of that name, if there is one."""
    return next((d for d in DATA_SETS if d.name == data), None) if isinstance(data, str) else None


def treatment_of(known: DataSet | None) -> str:
    """The one that a named data set brings along."""
    if known is not None and known.treatment:
        return known.treatment
    raise UsageError("do got no treatment", needs="the column that is set", found="none",
                     fix='kk.do(data, {"dose": 1}, …); on the command line --treatment dose')  # fmt: skip


def outcome_of(data: Any, known: DataSet | None, outcome: str | Mapping[str, str] | None) -> tuple[str, str]:
    """The column and the value that is meant, "" where it is open."""
    if isinstance(outcome, Mapping) and len(outcome) == 1:
        ((name, event),) = outcome.items()
        return name, str(event)
    if isinstance(outcome, str):
        return outcome, ""
    if outcome is None and known is not None:
        return known.target, ""
    if outcome is None and isinstance(data, Data) and data.target is not None:
        return data.target.name, ""
    raise UsageError("do got no outcome", needs="the column that is acted upon", found=repr(outcome),
                     fix='outcome="recovered", or {"recovered": "yes"}; on the command line --outcome')  # fmt: skip
