"""kokkiri decide: act on each row or not, at the least expected cost."""

from __future__ import annotations

import csv
import io
import sys
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from kokkiri.cli.values import number_of, picture_at, say, write_picture
from kokkiri.errors import Unsupported, UsageError, nearest

if TYPE_CHECKING:
    from kokkiri.data.core import Target


@dataclass(frozen=True)
class Decide:
    """Decide about rows with a classifier: act from the probability on from which acting costs less than leaving.

    The model's probabilities are corrected for a prevalence that differs from its training rows'. Where the rows are
    labelled, both errors and the cost are shown with intervals; else as the model itself expects them.
    """

    model: Annotated[Positional[str], arg(metavar="MODEL")]
    """The folder that `kokkiri fit` wrote."""
    data: Annotated[Positional[str], arg(metavar="DATA")]
    """A file of rows, SQL, a folder of pictures, or a named data set."""
    cost_false_alarm: Annotated[float, arg(metavar="COST")]
    """Cost of acting on a row that is negative: a type I error."""
    cost_miss: Annotated[float, arg(metavar="COST")]
    """Cost of leaving a row that is positive: a type II error."""
    cost_reject: Annotated[float | None, arg(metavar="COST")] = None
    """Cost of leaving the decision to somebody else (default: every row is decided)."""
    prevalence: Annotated[str | None, arg(metavar="P")] = None
    """Share of positives among those the decisions are for (default: as among the training rows)."""
    training_prevalence: Annotated[str | None, arg(metavar="P")] = None
    """Share of positives among the training rows (default: as the model remembers it)."""
    positive: Annotated[str | None, arg(metavar="CLASS")] = None
    """The class that is acted upon (default: the last of two)."""
    out: Annotated[str | None, arg(metavar="FILE")] = None
    """Where to write the decisions as CSV, a line a row."""
    picture: Annotated[str | None, arg(metavar="FILE.svg")] = None
    """Where to draw cost against threshold."""
    level: Annotated[float, arg(metavar="P")] = 0.95
    """Probability of the intervals."""
    table: Annotated[str | None, arg(metavar="NAME")] = None
    """Which table of a SQLite file."""
    encoding: Annotated[str, arg(metavar="NAME")] = "utf-8"
    """Encoding of a text file."""
    network: Annotated[str | None, arg(metavar="FILE.PY:NAME")] = None
    """The network, where it is one of your own."""
    seed: Annotated[int, arg(metavar="N")] = 0
    """Of the draws behind intervals of costs."""
    debug: bool = False
    """Show the whole traceback of an error."""

    def run(self) -> int:
        """Gives the exit code."""
        from kokkiri.cli.networks import own_network
        from kokkiri.decisions import Costs, decide, training_shares
        from kokkiri.training.checkpoints import write_atomically
        from kokkiri.verbs import load, predict, rows_for

        costs, path = (
            Costs(self.cost_false_alarm, self.cost_miss, self.cost_reject),
            picture_at(self.picture, "--picture"),
        )
        new, old = (
            None if text is None else number_of(flag, text)
            for flag, text in (("--prevalence", self.prevalence), ("--training-prevalence", self.training_prevalence))
        )
        post = load(self.model, None if self.network is None else own_network(self.network))
        place, levels = _positive(post.form.target, self.positive)
        if old is None:
            old = training_shares(post)[post.form.target.levels[place]]
        rows = rows_for(post, self.data, table=self.table, encoding=self.encoding)
        for note in rows.notes:
            sys.stderr.write(f"! {note}\n")
        made = decide(
            predict(post, rows), rows.y, costs=costs, prevalence=new, trained_at=old, positive=place, levels=levels,
            level=self.level, seed=self.seed,
        )  # fmt: skip
        say([fill(f"{rows.source.name}: act where '{post.form.target.name}' is '{levels[1]}'", 80), str(made)])
        if rows.y is not None and rows.source.sha256 and rows.source.sha256 == post.record.data.get("sha256"):
            sys.stderr.write("! the model was fitted on rows of this very file: its errors look too small\n")
        if path is not None:
            write_picture(path, made.picture())
        if self.out is not None:
            header, lines = made.table(rows.row_index)
            paper = io.StringIO()
            csv.writer(paper, lineterminator="\n").writerows([header, *lines])
            write_atomically(Path(self.out), paper.getvalue().encode())
            sys.stderr.write(f"{len(lines):,} decisions written to {self.out}\n")
        return 0


def _positive(target: Target, name: str | None) -> tuple[int, tuple[str, str]]:
    """The number of the class that is acted upon, and the names of both sides."""
    if not target.levels:
        raise Unsupported(
            f"the target '{target.name}' is a number", needs="a model that predicts classes",
            found="a model of numbers", fix="in Python: kk.decisions.best(kk.predict(post, rows), utility, actions)",
        )  # fmt: skip
    if name is None and target.classes > 2:
        raise UsageError(
            f"'{target.name}' has {target.classes} classes: which one is acted upon?", needs="one of them",
            found="no --positive", fix=f"--positive {target.levels[-1]}; a cost for each pair: kk.decisions.best",
        )  # fmt: skip
    if name is not None and name not in target.levels:
        raise UsageError(
            f"'{target.name}' has no class '{name}'", needs="one of its classes", found=f"--positive {name}",
            fix=nearest(name, target.levels),
        )  # fmt: skip
    place = target.classes - 1 if name is None else target.levels.index(name)
    other = target.levels[1 - place] if target.classes == 2 else f"not {target.levels[place]}"
    return place, (other, target.levels[place])
