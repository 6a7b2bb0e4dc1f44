"""A run on one screen: at most 80 columns, colours on a terminal, plain text elsewhere."""

from __future__ import annotations

import io
import math
import sys
from collections.abc import Iterable, Sequence
from itertools import starmap
from typing import TYPE_CHECKING, TextIO

from kokkiri import phrases
from kokkiri.evaluation.compare import Comparison
from kokkiri.evaluation.values import Alternatives, Evaluation
from kokkiri.records import Candidate, Record, Status
from kokkiri.report import candidates, words
from kokkiri.report.facts import DataFacts, ModelFacts

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

WIDTH = 80


def summary(
    record: Record,
    evaluation: Evaluation,
    comparison: Comparison,
    data: DataFacts,
    model: ModelFacts | None = None,
    *,
    files: Sequence[tuple[str, str]] = (),
    file: TextIO | None = None,
) -> None:
    """Print what came out, what the data were, what was chosen and why, the table with baselines, and what to mind.

    files: (what, where) for the last lines, such as ("report", "model/report.html").
    """
    from rich.console import Console

    out = sys.stdout if file is None else file
    live, paper = out.isatty(), io.StringIO()
    console = Console(
        file=out if live else paper, width=None if live else WIDTH, no_color=None if live else True,
        markup=False, highlight=False, emoji=False,  # names of columns are not ours to interpret
    )  # fmt: skip
    console.width = min(console.width, WIDTH)
    _write(console, record, evaluation, comparison, data, model or ModelFacts(), files)
    if not live:  # a file of another encoding gets question marks, not a crash
        lines = "\n".join(line.rstrip() for line in paper.getvalue().splitlines()) + "\n"
        encoding = out.encoding or "utf-8"
        out.write(lines.encode(encoding, "replace").decode(encoding))


def _write(
    console: Console,
    record: Record,
    evaluation: Evaluation,
    comparison: Comparison,
    data: DataFacts,
    model: ModelFacts,
    files: Sequence[tuple[str, str]],
) -> None:
    show = console.print
    show()
    show(f"{data.source.name} · {data.target.name}", style="dim")
    show(words.sentence(evaluation, comparison, data.target), style="bold")
    for warning in warnings(record, data):
        show(_hanging([("!", warning)], style="bold yellow"))
    show()
    show(_section("Data", data_lines(data)))
    if record.config:
        show("Chosen", style="bold cyan")
        show(
            _hanging([(f"  {name}", _because(f"{choice}", reason)) for name, (choice, reason) in record.config.items()])
        )
    if any(c.evidence is not None for c in record.candidates) and len(record.candidates) > 1:
        show("Candidates", style="bold cyan")
        show(_candidates(candidates.ordered(record.candidates)))
        if said := candidates.disagreement(record.candidates):
            show(_hanging([("", said)], style="dim"))
    size = f"{phrases.count(model.parameters, 'parameter')}" + (
        f" in each of {model.replicas} replicas" if model.replicas > 1 else ""
    )
    took = f"{phrases.count(record.steps, 'step')} in {phrases.duration(record.wall)}; {record.status.value}"
    show(_section("Trained", [f"{size}, {took}" if model.parameters else took]))
    show(f"Results on {phrases.count(evaluation.rows, 'test row')}", style="bold cyan")
    show(_results(comparison))
    show("  ± is one standard error, [ ] a 95 % interval", style="dim")
    says = (words.calibration(evaluation), words.novelty(evaluation))
    show(_section("Errors", [*error_lines(evaluation), *filter(None, says)]))
    if comparison.alternatives is not None:
        show("Beside the usual repairs", style="bold cyan")
        show(_alternatives(comparison.alternatives))
        for line in words.alternatives(comparison.alternatives):
            show(_hanging([("", line)], style="dim"))
    if files:
        show()
        show(_hanging([(what, where) for what, where in files]))
    show()


def warnings(record: Record, data: DataFacts) -> list[str]:
    """What the user should mind: how the run ended if not well, then the notes of the run and of the data."""
    bad = record.status in {Status.INTERRUPTED, Status.NOT_CONVERGED, Status.DIVERGED}
    sentences = ([record.status.value] if bad else []) + [*record.notes, *data.notes]
    return list(dict.fromkeys(s[:1].upper() + s[1:] for s in sentences))


def data_lines(data: DataFacts) -> list[str]:
    """Rows, columns, what was left out, what was missing: a line each."""
    used = [c for c in data.columns if c.used]
    shape = " x ".join(map(str, data.shape))
    what = (
        f"{len(used)} of {phrases.count(len(data.columns), 'column')} used"
        if data.columns
        else f"{shape} numbers per row"
    )
    lines = [
        f"{phrases.count(data.rows, 'row')}, {what}; {data.train_rows:,} to learn from, {data.test_rows:,} to test",
        f"{data.target.name}: {_target(data)}",
    ]
    left_out = [
        f"{c.name} ({c.kind}: {c.reason})" if c.reason else f"{c.name} ({c.kind})" for c in data.columns if not c.used
    ]
    if left_out:
        lines.append(f"left out: {phrases.joined(left_out, 6)}")
    missing = [f"{c.name} {c.missing:,}" for c in used if c.missing]
    if missing:
        lines.append(f"missing values: {phrases.joined(missing, 8)}")
    return lines


def error_lines(evaluation: Evaluation) -> list[str]:
    """Type I and type II errors where there are two classes; else the classes most often missed."""
    if evaluation.classes is None:
        return []
    two = evaluation.classes.two
    if two is not None:
        one, miss = f"{two.false_alarms} of {two.negatives:,}", f"{two.misses} of {two.positives:,}"
        return [
            f"type I, false alarm ({two.positive} said, {two.negative} true): {one}, {words.full(two.type_one)}",
            f"type II, miss ({two.negative} said, {two.positive} true): {miss}, {words.full(two.type_two)}",
        ]
    present = [s for s in evaluation.classes.scores if s.rows]
    worst = sorted(present, key=lambda s: s.recall.value)[:3]
    return ["least often recognised: " + "; ".join(f"{s.level}, {words.full(s.recall)} of {s.rows:,}" for s in worst)]


def columns_decimals(comparison: Comparison) -> list[int | None]:
    """So many decimals for all numbers of a column: the model's, and for differences those of the least sure one."""
    model, *others = comparison.lines
    differences = [d for line in others if line.difference and (d := words.decimals_of(line.difference)) is not None]
    return [
        words.decimals_of(model.log_likelihood),
        min(differences, default=None),
        *map(words.decimals_of, model.measures),
    ]


def _target(data: DataFacts) -> str:
    target = data.target
    what = f"{phrases.count(target.classes, 'class', 'classes')}, {phrases.joined(list(target.levels), 6)}"
    text = (
        what
        if target.kind == "category"
        else f"a number, {phrases.plain(target.shift)} ± {phrases.plain(target.scale)}"
    )
    return f"{text} ({target.reason})" if target.reason else text


def _because(choice: str, reason: str) -> str:
    return f"{choice} - {reason}" if reason else choice


def _section(title: str, lines: Iterable[str]) -> Table:
    from rich.text import Text

    grid = _grid()
    for i, line in enumerate(lines):
        grid.add_row(Text(title if i == 0 else "", style="bold cyan"), Text(line))
    return grid


def _hanging(rows: Sequence[tuple[str, str]], style: str = "") -> Table:
    from rich.text import Text

    grid = _grid()
    for name, text in rows:
        grid.add_row(Text(name, style=style), Text(text, style=style))
    return grid


def _grid() -> Table:
    from rich.table import Table

    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True, max_width=24)
    grid.add_column(overflow="fold")
    return grid


def _results(comparison: Comparison) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    table.add_column("")
    names = [m.name for m in comparison.lines[0].measures]
    for name in ("log-likelihood\nnats per row", "against model\nnats per row", *names):
        table.add_column(name, justify="right", vertical="bottom")
    digits = columns_decimals(comparison)
    for i, line in enumerate(comparison.lines):
        difference = words.full(line.difference, digits[1]) if line.difference else ""
        first, *rest = line.measures
        cells = (f"  {line.name}", words.full(line.log_likelihood, digits[0]), difference, words.full(first, digits[2]))
        cells = (*cells, *starmap(words.value, zip(rest, digits[3:], strict=True)))
        table.add_row(*(Text(c) for c in cells), style="bold" if i == 0 else "")
    return table


def _candidates(ordered: Sequence[Candidate]) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    table.add_column("")
    for name in ("held out\nnats per row", "evidence\nnats", "time"):
        table.add_column(name, justify="right", vertical="bottom")
    for c in ordered:
        seen = "" if math.isnan(c.held_out) else f"{phrases.plain(c.held_out, 3)} ± {phrases.plain(c.se, 3)}"
        known = "" if c.evidence is None else phrases.plain(c.evidence, 1)
        cells = (f"  {c.name}", seen, known, phrases.duration(c.seconds))
        table.add_row(*(Text(t) for t in cells), style="bold" if c.chosen else "")
    return table


def _alternatives(alternatives: Alternatives) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 1, 0, 0), header_style="dim", pad_edge=False)
    table.add_column("")
    for first, second in words.alternative_columns(alternatives):
        name = f"{first}\n{second}" + (", in %" if second == "hold" else "")
        table.add_column(name, justify="right", vertical="bottom")
    digits = words.alternative_decimals(alternatives)
    for i, line in enumerate(alternatives.lines):
        short = (line.log_likelihood, line.score, line.calibration)
        cells = ["" if m is None else words.value(m, d) for m, d in zip(short, digits, strict=False)]
        held = words.full(line.coverage).replace(" %", "")  # the head has it
        cells = [f"  {line.name}", *cells, held, words.value(line.size, digits[3])]
        table.add_row(*(Text(c) for c in cells), style="bold" if i == 0 else "")
    return table
