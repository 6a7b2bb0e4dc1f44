"""kokkiri predict: new rows through a model."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Annotated

from tyro.conf import Positional, arg

from kokkiri.errors import UsageError


@dataclass(frozen=True)
class Predict:
    """Predict new rows with a model, each with how sure it is.

    Columns are found by name; the target need not be there, and where it is the predictions are scored.
    """

    model: Annotated[Positional[str], arg(metavar="MODEL")]
    """The folder that `kokkiri fit` wrote."""
    data: Annotated[Positional[str], arg(metavar="DATA")]
    """A file of rows, SQL, a folder of pictures, or a named data set."""
    out: Annotated[str | None, arg(metavar="FILE")] = None
    """Where to write the predictions as CSV (default: to the terminal)."""
    level: Annotated[float, arg(metavar="P")] = 0.9
    """Probability that an interval holds the truth."""
    table: Annotated[str | None, arg(metavar="NAME")] = None
    """Which table of a SQLite file."""
    encoding: Annotated[str, arg(metavar="NAME")] = "utf-8"
    """Encoding of a text file."""
    network: Annotated[str | None, arg(metavar="FILE.PY:NAME")] = None
    """The network, where it is one of your own."""
    quiet: bool = False
    """Print errors only."""
    debug: bool = False
    """Show the whole traceback of an error."""

    def run(self) -> int:
        """Gives the exit code."""
        from kokkiri.cli.networks import own_network
        from kokkiri.evaluation import evaluate
        from kokkiri.report import predictions, words
        from kokkiri.verbs import load, predict, rows_for

        if not 0 < self.level < 1:
            raise UsageError(
                f"no interval holds a probability of {self.level:g}", needs="a probability between 0 and 1",
                found=f"--level {self.level:g}", fix="--level 0.9",
            )  # fmt: skip
        post = load(self.model, None if self.network is None else own_network(self.network))
        data = rows_for(post, self.data, table=self.table, encoding=self.encoding)
        predictive = predict(post, data)
        target = post.form.target
        say = (lambda _text: None) if self.quiet else lambda text: sys.stderr.write(text + "\n")
        for note in data.notes:
            say(f"! {note}")
        if self.out is None:
            header, lines = predictions.table(predictive, data, target, self.level)
            show_table(header, lines)
        else:
            predictions.write(self.out, predictive, data, target, self.level)
            say(f"{len(data):,} predictions written to {self.out}")
        if data.y is not None:
            found = evaluate(predictive, data.y, target)
            measures = [found.headline, found.log_likelihood]
            say(
                "; ".join(f"{m.name} {words.full(m)}" for m in measures)
                + f", on {len(data):,} rows with a known target"
            )
            if data.source.sha256 and data.source.sha256 == post.record.data.get("sha256"):
                say("! the model was fitted on rows of this very file: its report has the honest figures")
        return 0


def show_table(header: list[str], lines: list[list[object]]) -> None:
    """A table on a terminal, CSV in a pipe."""
    import csv

    if not sys.stdout.isatty():
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(lines)
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in header:
        table.add_column(name, justify="right")
    for line in lines[:50]:
        table.add_row(*(f"{v:.4g}" if isinstance(v, float) else str(v) for v in line))
    console = Console(markup=False, emoji=False, highlight=False)
    console.print(table)
    if len(lines) > 50:
        console.print(f"… {len(lines) - 50:,} rows more: --out predictions.csv")
