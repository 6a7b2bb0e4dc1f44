"""kokkiri update: new rows into a model, whose posterior is their prior."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from kokkiri.cli.folder import all_or_nothing, place


@dataclass(frozen=True)
class Update:
    """Teach a model new rows, without training from nothing: its posterior is the prior of what comes next.

    The model must have a spread (fit it with --posterior laplace). Each new row is first predicted by the model as it
    was, so that a change in the world shows. Rows that were learnt already are refused.
    """

    model: Annotated[Positional[str], arg(metavar="MODEL")]
    """The folder that `kokkiri fit` or `kokkiri update` wrote."""
    data: Annotated[Positional[str], arg(metavar="DATA")]
    """New rows, with their target: a file, SQL, a folder of pictures, or a named data set."""
    out: Annotated[str | None, arg(metavar="FOLDER")] = None
    """Where to write the new model (default: MODEL-updated)."""
    level: Annotated[str | None, arg(metavar="LEVEL")] = None
    """exact, local (steps from the old mode) or full (descent under the old posterior); default: the least that will
    do."""
    steps: Annotated[int | None, arg(metavar="N")] = None
    """Steps of descent of the full level."""
    epochs: Annotated[float | None, arg(metavar="N")] = None
    """The same in passes over the new rows."""
    remove: bool = False
    """Take rows out that were learnt before (exact level only)."""
    table: Annotated[str | None, arg(metavar="NAME")] = None
    """Which table of a SQLite file."""
    encoding: Annotated[str, arg(metavar="NAME")] = "utf-8"
    """Encoding of a text file."""
    network: Annotated[str | None, arg(metavar="FILE.PY:NAME")] = None
    """The network, where it is one of your own."""
    force: bool = False
    """Learn rows a second time, or rows older than what was learnt."""
    overwrite: bool = False
    """Replace the model that stands at --out."""
    seed: Annotated[int, arg(metavar="N")] = 0
    """Everything random is a function of this."""
    quiet: bool = False
    """Print errors only."""
    debug: bool = False
    """Show the whole traceback of an error."""

    def run(self) -> int:
        """Gives the exit code."""
        from kokkiri.cli.networks import own_network
        from kokkiri.report import updated
        from kokkiri.updates import update
        from kokkiri.verbs import load, rows_for, save

        out = place(Path(self.out or f"{self.model.rstrip('/')}-updated"), overwrite=self.overwrite)
        post = load(self.model, None if self.network is None else own_network(self.network))
        rows = rows_for(post, self.data, table=self.table, encoding=self.encoding)
        new = update(
            post, rows, level=self.level, steps=self.steps, epochs=self.epochs, remove=self.remove, force=self.force,
            seed=self.seed, progress=not self.quiet,
        )  # fmt: skip
        with all_or_nothing(out) as folder:
            save(new, folder)
        _set_aside(out)
        if not self.quiet:
            fresh = [note for note in new.record.notes if note not in post.record.notes]
            updated.show(new.record, new.evidence, str(out), notes=fresh)
        return 0


def _set_aside(out: Path) -> None:
    """What was written beside an older model does not speak of the new rows."""
    for name in ("report.html", "predictions.csv"):
        if (out / name).exists():
            (out / name).replace(out / f"before-update-{name}")
