"""kokkiri do: what happens to an outcome when a treatment is set, rather than seen."""

from __future__ import annotations

import csv
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import Positional, arg

from kokkiri.cli.values import say, write_picture
from kokkiri.errors import UsageError

if TYPE_CHECKING:
    from kokkiri.causal.effect import Effect


@dataclass(frozen=True)
class Do:
    """What would happen if we acted? The effect of a treatment on an outcome, with its posterior, from rows and from
    what is known of the causes: a graph, or the columns that act on both.

    What merely goes along with the treatment is shown beside it, and is never called an effect.
    """

    data: Annotated[Positional[str], arg(metavar="DATA")]
    """A file of rows, SQL, or a named data set."""
    treatment: Annotated[str | None, arg(metavar="COLUMN")] = None
    """The column that is set."""
    outcome: Annotated[str | None, arg(metavar="COLUMN")] = None
    """The column that is acted upon; COLUMN=VALUE for the probability of one value."""
    graph: Annotated[str | None, arg(metavar="GRAPH")] = None
    """What acts on what: "age -> {dose, outcome}; dose -> outcome"; or a file (arrows, dagitty, DOT, GML)."""
    adjust: Annotated[str | None, arg(metavar="COLUMN,COLUMN")] = None
    """The columns that act on both; "" where the treatment was drawn by lot. Data cannot test this."""
    instrument: Annotated[str | None, arg(metavar="COLUMN,COLUMN")] = None
    """Columns that act on the outcome through the treatment alone. Data cannot test this either."""
    set: Annotated[str | None, arg(metavar="COLUMN=VALUE")] = None
    """What the treatment is set to; several with commas between them."""
    versus: Annotated[str | None, arg(metavar="COLUMN=VALUE")] = None
    """What that is compared with."""
    estimand: Annotated[str, arg(metavar="WHOSE")] = "average"
    """Whose effect: average, treated, untreated; group:COLUMN, that of each group, too; along:COLUMN, a curve of it."""
    method: Annotated[str | None, arg(metavar="NAME")] = None
    """discrete (exact, from counts), means (treatment drawn by lot), linear, instrument, networks; else what fits."""
    interact: Annotated[str | None, arg(metavar="COLUMN,COLUMN")] = None
    """Columns by which a linear effect may differ."""
    prior: Annotated[float, arg(metavar="ROWS")] = 1.0
    """How many rows each cell of a table of counts stands for before any is seen."""
    out: Annotated[str | None, arg(metavar="FILE.html|FILE.svg")] = None
    """Where to write the report, or the picture."""
    level: Annotated[float, arg(metavar="P")] = 0.95
    """Probability of the intervals."""
    kind: Annotated[tuple[str, ...], arg(metavar="COLUMN=KIND")] = ()
    """What a column is: number, category, boolean, date."""
    table: Annotated[str | None, arg(metavar="NAME")] = None
    """Which table of a SQLite file."""
    encoding: Annotated[str, arg(metavar="NAME")] = "utf-8"
    """Encoding of a text file."""
    seed: Annotated[int, arg(metavar="N")] = 0
    """Everything random is a function of this."""
    debug: bool = False
    """Show the whole traceback of an error."""

    def run(self, given: Sequence[str] = ()) -> int:
        """Gives the exit code. given: the command line, for the report."""
        from kokkiri.causal.effect_words import text
        from kokkiri.cli.fit import declared_pair
        from kokkiri.effects import do
        from kokkiri.exact.intervals import must_be_level

        path = _out(self.out)
        must_be_level(self.level)
        treatment, versus = _settings(self.treatment or _treatment_of(self.data), self.set, self.versus)
        effect = do(
            self.data, treatment, versus=versus, outcome=_outcome(self.outcome), graph=self.graph,
            adjust=None if self.adjust is None else _names(self.adjust), estimand=_estimand(self.estimand),
            method=self.method, instruments=_names(self.instrument or ""), interact=_names(self.interact or ""),
            prior=self.prior, kinds=dict(declared_pair(k) for k in self.kind) or None, table=self.table,
            encoding=self.encoding, seed=self.seed,
        )  # fmt: skip
        say([text(effect, self.level)])
        if path is not None:
            write(path, effect, shlex.join(["kokkiri", *given]) if given else "", self.level)
        return 0


def write(path: Path, effect: Effect, command: str = "", level: float = 0.95) -> None:
    """The report, or the picture."""
    if path.suffix == ".svg":
        from kokkiri.causal.effect_pictures import posterior

        write_picture(path, posterior(effect, level))
        return
    from kokkiri.report.effect import write as write_page

    write_page(path, effect, command=command, level=level)
    sys.stderr.write(f"{path}\n")


def _out(out: str | None) -> Path | None:
    if out is not None and Path(out).suffix not in {".html", ".svg"}:
        raise UsageError(f"--out {out} names no report and no picture", needs="a file whose name ends in .html or .svg",
                         found=out, fix=f"--out {Path(out).stem or 'effect'}.html")  # fmt: skip
    return None if out is None else Path(out)


def _treatment_of(data: str) -> str | None:
    """The treatment that a named data set brings along."""
    from kokkiri.data.named import DATA_SETS

    return next((d.treatment or None for d in DATA_SETS if d.name == data), None)


def _names(text: str) -> tuple[str, ...]:
    """Names with commas between them; one that holds a comma stands between quotes, as in a CSV file.

    >>> _names("age, size"), _names(""), _names('"size, cm",age')
    (('age', 'size'), (), ('size, cm', 'age'))
    """
    return tuple(name.strip() for line in csv.reader([text], skipinitialspace=True) for name in line if name.strip())


def _estimand(text: str) -> str | tuple[str, str]:
    kind, colon, column = text.partition(":")
    return (kind, column) if colon else text


def _outcome(text: str | None) -> str | dict[str, str] | None:
    if text is None:
        return None
    name, equals, value = text.partition("=")
    return {name.strip(): value.strip()} if equals else text.strip()


def _settings(treatment: str | None, level: str | None, versus: str | None) -> tuple[Any, Any]:
    """What `do` is given for --treatment, --set and --versus."""
    names = _names(treatment or "")
    one, other = _assigned("--set", level, names), _assigned("--versus", versus, names)
    if one is None and other is None:
        return (treatment.strip() if len(names) == 1 and treatment is not None else _unset(names)), None
    known = names or tuple((one or other or {}).keys())
    for flag, side in (("--set", one), ("--versus", other)):
        if side is not None and set(side) != set(known):
            raise UsageError(f"{flag} does not set the treatment", needs=f"{', '.join(f'{n}=VALUE' for n in known)}",
                             found=f"{flag} {', '.join(side)}", fix="name the same columns in all three")  # fmt: skip
    if one is None:
        raise UsageError("what is the treatment set to?", needs="--set beside --versus", found="--versus alone",
                         fix=f"--set {known[0]}=VALUE")  # fmt: skip
    return one, other


def _unset(names: Sequence[str]) -> None:
    if len(names) > 1:
        raise UsageError("several treatments are set together, to what?", needs="--set and --versus",
                         found=", ".join(names),
                         fix=f"--set {','.join(f'{n}=VALUE' for n in names)} --versus …")  # fmt: skip


def _assigned(flag: str, text: str | None, names: Sequence[str]) -> dict[str, str] | None:
    """COLUMN=VALUE, commas between them; a value alone is that of the only treatment."""
    if text is None:
        return None
    if "=" not in text and len(names) == 1:
        return {names[0]: text.strip()}
    found: dict[str, str] = {}
    for part in text.split(","):
        name, equals, value = (p.strip() for p in part.partition("="))
        if not equals or not name or not value:
            raise UsageError(f"cannot read {flag} {text}", needs="COLUMN=VALUE, commas between them", found=repr(part),
                             fix=f"{flag} {names[0] if names else 'dose'}=1")  # fmt: skip
        found[name] = value
    return found
