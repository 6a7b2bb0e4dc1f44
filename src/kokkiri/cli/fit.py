"""kokkiri fit: from raw data to a trained network, its predictions and its report."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import Positional, arg

from kokkiri.cli.folder import CHECKPOINTS, all_or_nothing, kept, place
from kokkiri.errors import UsageError, nearest

if TYPE_CHECKING:
    from kokkiri.data.augment import Augment
    from kokkiri.data.core import Data


def _text(name: str, *, aliases: tuple[str, ...] = ()) -> Any:
    return arg(metavar=name, aliases=aliases)


@dataclass(frozen=True)
class Fit:
    """Train a network on a table, on pictures, or on a named data set; write the model, its predictions and its report.

    With --target alone everything else is chosen: the kinds of the columns are read off the data, a few networks and
    likelihoods are tried, and the one that best predicts rows it has not seen is kept. The rows set apart for the
    report (--test) are seen by nothing until the end.
    """

    data: Annotated[Positional[str], _text("DATA")]
    """A file (CSV, TSV, Parquet, JSON lines, SQLite, images as IDX), a folder of pictures, SQL, or a named data set
    (see `kokkiri data list`)."""
    target: Annotated[str | None, _text("COLUMN")] = None
    """The column to predict."""
    out: Annotated[str | None, _text("FOLDER")] = None
    """Where to write the model (default: NAME-model)."""
    likelihood: Annotated[str | None, _text("NAME", aliases=("--loss",))] = None
    """gaussian (mse), laplace (mae), student-t, heteroscedastic, bernoulli, categorical (cross-entropy), poisson,
    negative-binomial."""
    network: Annotated[str | None, _text("NETWORK")] = None
    """linear, mlp:64,64, convnet:16,32, or file.py:name for a module (or a function that makes one) of your own."""
    optimizer: Annotated[str | None, _text("NAME")] = None
    """adam, adamw, sgd, momentum, nesterov, rmsprop, adagrad, gradient-descent."""
    lr: Annotated[float | None, _text("RATE")] = None
    """Learning rate."""
    schedule: Annotated[str | None, _text("NAME")] = None
    """constant, step (a tenth at 50 % and 75 %), cosine, warm-up."""
    steps: Annotated[int | None, _text("N")] = None
    """Steps of descent, at the most."""
    epochs: Annotated[float | None, _text("N")] = None
    """The same in passes over the data."""
    batch: Annotated[int | None, _text("ROWS")] = None
    """Rows a step."""
    patience: Annotated[int | None, _text("LOOKS")] = None
    """Looks at held-out rows without improvement before stopping; 0: never stop, and train on all rows."""
    precision: Annotated[float | None, _text("P")] = None
    """Precision of the Normal prior over the weights: weight decay of P / n."""
    clip: Annotated[float | None, _text("NORM")] = None
    """Largest norm of a gradient."""
    augment: Annotated[str | None, _text("HOW")] = None
    """Vary training pictures: shift:2, flip, or shift:4,flip."""
    posterior: Annotated[str | None, _text("NAME")] = None
    """point, ensemble:5, laplace (laplace:ekfac, laplace:full:last, laplace:kronecker:x5), last-layer, swag, dropout,
    variational, hamiltonian, langevin."""
    test: Annotated[float, _text("SHARE")] = 0.2
    """Share of the rows set apart for the report."""
    split: Annotated[str | None, _text("HOW")] = None
    """How the test rows are chosen: random, stratified, group:COLUMN, time:COLUMN, published:0."""
    kind: Annotated[tuple[str, ...], _text("COLUMN=KIND")] = ()
    """What a column is: number, category, boolean, date."""
    drop: Annotated[tuple[str, ...], _text("COLUMN")] = ()
    """Columns to leave out."""
    drop_missing_target: bool = False
    """Leave out rows whose target is missing."""
    table: Annotated[str | None, _text("NAME")] = None
    """Which table of a SQLite file."""
    encoding: Annotated[str, _text("NAME")] = "utf-8"
    """Encoding of a text file."""
    seed: Annotated[int, _text("N")] = 0
    """Everything random is a function of this."""
    threads: Annotated[int | None, _text("N")] = None
    """Threads of the processor (default: one for small networks)."""
    device: Annotated[str, _text("NAME")] = "cpu"
    """cpu, cuda, cuda:1."""
    overwrite: bool = False
    """Replace the model that stands at --out."""
    quiet: bool = False
    """Print errors only."""
    debug: bool = False
    """Show the whole traceback of an error."""

    def run(self, given: Sequence[str] = ()) -> int:
        """The whole job; gives the exit code. given: the command line, for the provenance and to go on by."""
        from dataclasses import replace

        from kokkiri.cli.judge import judge
        from kokkiri.verbs import fit, save

        out = self._folder()
        train, test = self._rows()
        wishes = self._wishes(train)
        say = (lambda _text: None) if self.quiet else lambda text: sys.stderr.write(text + "\n")
        say(f"{train.source.name}: {len(train):,} rows to learn from, {len(test):,} set apart for the report")
        if kept(out):
            say(f"resuming from {out / CHECKPOINTS}")
        with all_or_nothing(out) as folder:
            post = fit(train, checkpoints=out / CHECKPOINTS, progress=not self.quiet, **wishes)
            command = shlex.join(["kokkiri", *given])
            facts, summary = judge(post, train, test, folder, command=command, groups=wishes["groups"])
            save(replace(post, facts=facts), folder)
        if not self.quiet:
            summary(out)
        if post.record.status.name == "INTERRUPTED":
            again = shlex.join(["kokkiri", *(a for a in given if a != "--overwrite")])
            sys.stderr.write(f"interrupted: {out} holds the model of the moment\n  to go on   {again}\n")
            return 130
        shutil.rmtree(out / CHECKPOINTS, ignore_errors=True)
        return 0

    def _rows(self) -> tuple[Data, Data]:
        from kokkiri import likelihoods
        from kokkiri.data.read import read
        from kokkiri.data.splits import split
        from kokkiri.verbs import check_target

        kinds, rule = dict(declared_pair(k) for k in self.kind), _split(self.split)
        data = read(
            self.data, self.target, kinds=kinds or None, drop=self.drop, table=self.table, encoding=self.encoding,
            drop_missing_target=self.drop_missing_target,
        )  # fmt: skip
        check_target(None if self.likelihood is None else likelihoods.named(self.likelihood), data)
        if rule.get("published") is not None and not data.published:
            raise UsageError(
                f"{data.source.name} came without a split", needs="data whose authors set test rows apart",
                found=f"--split {self.split}", fix="--split random, or leave it out",
            )  # fmt: skip
        return split(data, self.test, seed=self.seed, **rule)

    def _wishes(self, train: Data) -> dict[str, Any]:
        from kokkiri import likelihoods, optimizers, priors
        from kokkiri.cli.networks import network_named
        from kokkiri.cli.posteriors import posterior_named
        from kokkiri.posteriors import Dropout
        from kokkiri.posteriors.dropout import RATE

        wishes: dict[str, Any] = {
            "steps": self.steps, "epochs": self.epochs, "batch": self.batch, "lr": self.lr, "clip": self.clip,
            "seed": self.seed, "threads": self.threads, "device": self.device,
            "groups": (self.split or "").removeprefix("group:") if (self.split or "").startswith("group:") else None,
        }  # fmt: skip
        if self.patience is not None:
            wishes["patience"] = self.patience or None
        if self.likelihood is not None:
            wishes["likelihood"] = likelihoods.named(self.likelihood)
        if self.optimizer is not None:
            wishes["optimizer"] = optimizers.named(self.optimizer, **({} if self.lr is None else {"lr": self.lr}))
        if self.schedule is not None:
            wishes["schedule"] = optimizers.schedule_named(self.schedule)
        if self.precision is not None:
            wishes["prior"] = priors.Normal(self.precision)
        if self.posterior is not None:
            wishes["posterior"] = posterior_named(self.posterior)
        if self.augment is not None:
            wishes["augment"] = augment_named(self.augment)
        if self.network is not None:
            drops = isinstance(wishes.get("posterior"), Dropout)  # whose draws are of the network's own dropout
            wishes["network"] = network_named(self.network, train, dropout=RATE if drops else 0.0)
        return wishes

    def _folder(self) -> Path:
        from kokkiri.data.sources import SQL

        name = "query" if SQL.match(self.data) else Path(self.data).name.partition(".")[0]
        return place(Path(self.out or f"{name or 'data'}-model"), overwrite=self.overwrite)


def augment_named(text: str) -> Augment:
    """shift:2, flip, or both with a comma between them.

    >>> augment_named("shift:4,flip")
    Augment(shift=4, flip=True)
    """
    from kokkiri.data.augment import Augment

    shift, flip = 0, False
    for part in text.split(","):
        name, _, value = part.strip().partition(":")
        if name == "flip" and not value:
            flip = True
        elif name == "shift" and value.isdigit():
            shift = int(value)
        else:
            raise UsageError(
                f"cannot read --augment {text!r}", needs="shift:PIXELS, flip", found=part, fix="--augment shift:2,flip"
            )
    return Augment(shift, flip)


def declared_pair(text: str) -> tuple[str, str]:
    """COLUMN=KIND.

    >>> declared_pair("zip=category")
    ('zip', 'category')
    """
    name, equals, kind = text.rpartition("=")
    if not equals:
        raise UsageError(f"cannot read --kind {text!r}", needs="COLUMN=KIND", found=text, fix="--kind zip=category")
    return name, kind


def _split(text: str | None) -> dict[str, Any]:
    if text is None:
        return {}
    kind, _, value = text.partition(":")
    match kind:
        case "random":
            return {"stratify": False, "published": None}
        case "stratified":
            return {"stratify": True, "published": None}
        case "group" if value:
            return {"group": value}
        case "time" if value:
            return {"time": value}
        case "published" if value.isdigit():
            return {"published": int(value)}
    raise UsageError(
        f"cannot read --split {text!r}", needs="random, stratified, group:COLUMN, time:COLUMN or published:0",
        found=text, fix=nearest(kind, ["random", "stratified", "group:COLUMN", "time:COLUMN", "published:0"]),
    )  # fmt: skip
