"""kokkiri show: what a model is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import Positional, arg

from kokkiri.phrases import count, date_of, joined

if TYPE_CHECKING:
    from kokkiri.posteriors import Particles


@dataclass(frozen=True)
class Show:
    """Show a model: its layers and parameters, what it was fitted on and how, and how good it was."""

    model: Annotated[Positional[str], arg(metavar="MODEL")]
    """The folder that `kokkiri fit` wrote."""
    network: Annotated[str | None, arg(metavar="FILE.PY:NAME")] = None
    """The network, where it is one of your own."""
    debug: bool = False
    """Show the whole traceback of an error."""

    def run(self) -> int:
        """Gives the exit code."""
        from rich import box
        from rich.console import Console
        from rich.table import Table

        from kokkiri.cli.networks import own_network
        from kokkiri.evaluation import Comparison, Evaluation
        from kokkiri.networks import describe
        from kokkiri.report import words
        from kokkiri.store import read_page
        from kokkiri.verbs import load

        folder = Path(self.model)
        post = load(folder, None if self.network is None else own_network(self.network))
        page, record, target = read_page(folder), post.record, post.form.target
        console = Console(markup=False, emoji=False, highlight=False, width=None if _wide() else 100)
        console.print(f"{folder.name}: {post!r}", style="bold")
        layers = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for name in ("layer", "type", "output", "parameters"):
            layers.add_column(name, justify="right" if name == "parameters" else "left")
        rows = describe(post.herd.module(), post.form.inputs)
        for row in rows:
            layers.add_row(
                row.name, row.type, "" if row.shape is None else str(tuple(row.shape)), f"{row.parameters:,}"
            )
        layers.add_row("", "", "", f"{sum(r.parameters for r in rows):,}")
        console.print(layers)
        grid = Table.grid(padding=(0, 2))
        says = f"{target.name}: " + (
            f"{target.classes} classes, {', '.join(target.levels[:8])}" if target.levels else "a number"
        )
        facts = [
            ("predicts", says),
            (
                "from",
                f"{sum(c.used for c in post.form.schema.columns)} of {len(post.form.schema.columns)} columns"
                if post.form.schema
                else f"inputs of shape {post.form.inputs.shape}",
            ),
        ]
        chosen = {name: pair for name, pair in record.config.items() if name not in {"exactness", "evidence"}}
        facts += [(name, f"{value}: {why}" if why else str(value)) for name, (value, why) in chosen.items()]
        facts += [
            ("trained", f"{record.steps:,} steps, {record.seconds:.1f} CPU s; {record.status.value}"),
            ("seed", str(record.seed)),
        ]
        facts += _posterior(post)
        facts += [(f"data {name}", _plain(name, value)) for name, value in record.data.items() if value not in ({}, "")]
        facts += [("versions", ", ".join(f"{n} {v}" for n, v in record.versions.items()))]
        facts += [("weights SHA-256", page["tensors"]["sha256"]), ("source SHA-256", record.source or "unknown")]
        facts += [("note", note) for note in record.notes]
        for name, text in facts:
            grid.add_row(name, text)
        console.print(grid)
        if "evaluation" in post.facts:
            found = Evaluation.from_json(post.facts["evaluation"])
            beside = Comparison.from_json(post.facts["comparison"])
            console.print()
            before = "Before its updates: " if record.updates else ""
            console.print(before + words.sentence(found, beside, target))
        return 0


def _posterior(post: Particles) -> list[tuple[str, str]]:
    """What is exact, the evidence, and a line for every update."""
    facts = [("exactness", post.record.posterior)] if post.record.posterior else []
    if post.evidence is not None:
        found = post.evidence
        exact = "exact" if found.exact else "approximate"
        rows = count(found.rows, "row")
        facts.append(("evidence", f"log p(data) = {found.nats:,.1f} nats, {rows}; {found.method}; {exact}"))
    for k, u in enumerate(post.record.updates, start=1):
        did = "taken out" if u.removed else "learnt"
        exact = "exact" if u.exact else f"{u.level}, approximate"
        drift = "" if u.drift is None else f", {u.drift:+.1f} standard errors from what was expected"
        what = f"{count(u.rows, 'row')} of {u.source} {did}; {exact}; log p(new | old) {u.nats:,.1f} nats"
        facts.append((f"update {k}", f"{what}; {u.per_row:.3f} nats a row before{drift}"))
    return facts


def _plain(name: str, value: Any) -> str:
    """A value as text; days of columns of dates as dates, rows of classes as counts."""
    if not isinstance(value, dict):
        return str(value)
    if name == "classes":
        return joined([f"{level} {n:,}" for level, n in value.items()])
    return ", ".join(f"{name} {date_of(day)}" for name, day in value.items())


def _wide() -> bool:
    import sys

    return sys.stdout.isatty()
