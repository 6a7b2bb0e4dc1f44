"""kokkiri query: what a Bayesian network believes, given what is known."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, UseAppendAction, arg

from kokkiri.cli.values import picture_at, say, write_picture
from kokkiri.errors import UsageError

if TYPE_CHECKING:
    from kokkiri.exact import BayesianNetwork, Beliefs


@dataclass(frozen=True)
class Query:
    """Ask a Bayesian network: how probable is each state of each variable, given what is known? Exactly.

    With a file of rows, each row is evidence: columns are found by name, empty cells are not known.
    """

    model: Annotated[Positional[str], arg(metavar="NETWORK")]
    """A .bif file, or one that comes along: asia, alarm."""
    data: Annotated[Positional[str | None], arg(metavar="ROWS")] = None
    """A file of rows of evidence, where it is not one case alone."""
    given: Annotated[tuple[tuple[str, ...], ...], UseAppendAction, arg(metavar="NAME=STATE,NAME=STATE")] = ()
    """What is known."""
    of: Annotated[str | None, arg(metavar="NAME,NAME")] = None
    """The variables that are asked about (default: all that are not known)."""
    explain: bool = False
    """The states of all variables that are most probable together."""
    out: Annotated[str | None, arg(metavar="FILE.csv")] = None
    """Where to write the answers for rows (default: to the terminal)."""
    picture: Annotated[str | None, arg(metavar="FILE.svg")] = None
    """Where to draw the network with its beliefs."""
    debug: bool = False
    """Show the whole traceback of an error."""

    def run(self) -> int:
        """Gives the exit code."""
        from kokkiri.exact import read_network

        path = picture_at(self.picture, "--picture")
        if self.data is None and self.out is not None:
            raise UsageError(
                f"--out {self.out} is for rows of evidence", needs="a file of rows", found="no ROWS",
                fix="--picture FILE.svg draws one case; > FILE keeps what is printed",
            )  # fmt: skip
        if self.data is not None and path is not None:
            raise UsageError("rows of evidence are no picture", needs="one case", found=f"{self.data} and --picture",
                             fix="draw one row: --given NAME=STATE,… --picture FILE.svg")  # fmt: skip
        network = read_network(self.model)
        for note in network.notes:
            sys.stderr.write(f"! {note}\n")
        known = _states([text for texts in self.given for text in texts])
        asked = None if self.of is None else [name.strip() for name in self.of.split(",") if name.strip()]
        if self.data is not None:
            self._answer_rows(network, known, asked)
            return 0
        beliefs = network.given(known, of=asked)
        say([str(beliefs), *([str(beliefs.most_probable())] if self.explain else [])])
        if path is not None:
            write_picture(path, beliefs.picture())
        return 0

    def _answer_rows(self, network: BayesianNetwork, known: dict[str, str], asked: Sequence[str] | None) -> None:
        from kokkiri.cli.predict import show_table
        from kokkiri.exact.networks.beliefs import beliefs_of_rows
        from kokkiri.exact.networks.evidence import case_of, rows_of, with_case
        from kokkiri.training.checkpoints import write_atomically

        what = network.structure
        rows = with_case(what, rows_of(what, Path(self.data or "")), case_of(what, known))
        if rows.others:
            sys.stderr.write(f"! columns that are no variables are left aside: {', '.join(rows.others)}\n")
        seen = {what.variables[i].name for i in rows.columns}
        of = [name for name in what.names if name not in seen] if asked is None else asked
        for name in of:
            what.number(name)
        beliefs = beliefs_of_rows(network, rows, () if self.explain else of)
        header, lines = _explanations(beliefs, of) if self.explain else _answers(beliefs, of)
        if self.out is None:
            show_table(header, lines)
            return
        paper = io.StringIO()
        csv.writer(paper, lineterminator="\n").writerows([header, *lines])
        write_atomically(Path(self.out), paper.getvalue().encode())
        sys.stderr.write(f"{len(lines):,} rows written to {self.out}\n")


def _states(texts: Sequence[str]) -> dict[str, str]:
    """Names with states, commas between them; a piece without = belongs to the state before it."""
    pieces: list[str] = []
    for text in texts:
        for k, piece in enumerate(text.split(",")):
            if k and "=" not in piece and piece.strip():
                pieces[-1] += f",{piece}"
            elif piece.strip():
                pieces.append(piece)
    found: dict[str, str] = {}
    for piece in pieces:
        name, equals, state = (p.strip() for p in piece.partition("="))
        if not equals or not name or not state:
            raise UsageError(f"cannot read --given {piece.strip()}", needs="NAME=STATE, commas between them",
                             found=repr(piece.strip()), fix="--given smoke=yes,xray=no")  # fmt: skip
        if found.get(name, state) != state:
            raise UsageError(f"--given says two things of '{name}'", needs="one state for each variable",
                             found=f"{found[name]} and {state}", fix="leave one of them out")  # fmt: skip
        found[name] = state
    return found


def _answers(beliefs: Beliefs, of: Sequence[str]) -> tuple[list[str], list[list[object]]]:
    """For each row the most probable state of each variable, the probabilities of all, and log p(evidence)."""
    what, header, columns = beliefs.network.structure, ["row"], []
    for name in of:
        states = what.variables[what.index[name]].states
        header += [name, *(f"p({name}={state})" for state in states)]
        p = beliefs[name]
        columns.append([states[k] for k in p.argmax(1).tolist()])
        columns += [[float(f"{v:.6g}") for v in column] for column in p.T.tolist()]
    header.append("log p(evidence)")
    columns.append([float(f"{v:.6f}") for v in beliefs.log_evidence.tolist()])
    return header, [[k, *line] for k, line in enumerate(zip(*columns, strict=True), start=1)]


def _explanations(beliefs: Beliefs, of: Sequence[str]) -> tuple[list[str], list[list[object]]]:
    """For each row the states of variables that are most probable together, and log p(them | evidence)."""
    best, what = beliefs.most_probable(), beliefs.network.structure
    columns: list[Sequence[object]] = []
    for name in of:
        states = what.variables[what.index[name]].states
        columns.append([states[k] for k in best.codes[name].tolist()])
    columns += [[float(f"{v:.6f}") for v in nats.tolist()] for nats in (best.log_prob, beliefs.log_evidence)]
    lines = [[k, *line] for k, line in enumerate(zip(*columns, strict=True), start=1)]
    return ["row", *of, "log p(explanation)", "log p(evidence)"], lines
