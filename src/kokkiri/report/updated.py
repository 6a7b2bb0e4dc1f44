"""What an update did, on one screen."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import TextIO

from kokkiri import phrases
from kokkiri.records import Evidence, Record, Update

SAYS = {
    "exact": "exact: Bayes' rule itself, as if all rows had been fitted at once",
    "local": "local, approximate: Bayes' rule in the network linearised at its mode; what was known is kept",
    "full": "full, approximate: descent on the new rows under the old posterior, their curvature added",
}


def lines(record: Record, evidence: Evidence | None) -> list[tuple[str, str]]:
    """(what, value) of the last update of a record."""
    last: Update = record.updates[-1]
    learnt = int(record.data.get("rows", 0)) + sum(-u.rows if u.removed else u.rows for u in record.updates)
    did = "taken out" if last.removed else "learnt"
    out = [
        (did, f"{phrases.count(last.rows, 'row')} of {last.source}; {learnt:,} in all, {last.seconds:.1f} CPU s"),
        ("level", SAYS[last.level]),
        ("new rows, before", f"{_number(last.per_row, last.se)} nats a row, predicted by the model as it was"),
    ]
    if last.expected is not None:
        out.append(("expected", f"{last.expected:.3f} nats a row{_verdict(last)}"))
    if last.gap is not None and last.level != "exact":
        far = "" if abs(last.gap) <= 0.01 * last.rows else ": a new fit on all rows would find more"
        out.append(("linearised", f"{last.gap:+.2g} nats from the network itself on the new rows{far}"))
    out.append(("log p(new | old)", f"{last.nats:,.1f} nats"))
    if evidence is not None:
        out.append(("log p(all)", f"{evidence.nats:,.1f} nats ({evidence.method})"))
    return out


def show(
    record: Record, evidence: Evidence | None, out: str, *, notes: Sequence[str] = (), file: TextIO | None = None
) -> None:  # fmt: skip
    """Prints the lines, where the model lies, and what was noticed; 80 columns."""
    import textwrap

    paper = sys.stdout if file is None else file
    for name, value in [*lines(record, evidence), ("model", out)]:
        wrapped = textwrap.wrap(value, 60) or [""]
        paper.write(f"{name:<18}{wrapped[0]}\n")
        paper.writelines(f"{'':<18}{more}\n" for more in wrapped[1:])
    for note in notes:
        paper.writelines(line + "\n" for line in textwrap.wrap(f"! {note}", 78))


def _number(value: float, se: float) -> str:
    return f"{value:.3f} ± {se:.3f}" if math.isfinite(se) else f"{value:.3f}"


def _verdict(last: Update) -> str:
    if last.drift is None:
        return ""
    if last.drift < -3:
        return f": {-last.drift:.1f} standard errors short of it"
    return ", as it should be" if last.drift < 3 else ", and more came"
