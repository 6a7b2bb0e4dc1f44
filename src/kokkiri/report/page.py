"""The report: one HTML file that needs no network and no script."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from kokkiri import phrases
from kokkiri.evaluation.compare import Comparison
from kokkiri.evaluation.values import ClassErrors, Evaluation, Measure, NumberErrors, Uncertainty
from kokkiri.records import Record
from kokkiri.report import candidates, pictures, words
from kokkiri.report.facts import DataFacts, ModelFacts
from kokkiri.report.graph import draw
from kokkiri.report.terminal import columns_decimals, warnings
from kokkiri.training.checkpoints import write_atomically

READING = {
    "log-likelihood": "mean log-probability of the truth; higher is better",
    "accuracy": "share of rows whose most probable class is the true one",
    "balanced accuracy": "mean of the recalls: every class counts the same",
    "AUROC": "chance that a positive row ranks above a negative one; 0.5 is guessing",
    "average precision": "precision averaged over recall; its floor is the share of positives",
    "Brier score": "squared distance of the probabilities from the truth; 0 is best, 2 worst",
    "RMSE": "root of the mean squared error; large errors count most",
    "R²": "share of the variance that is explained; 0 is as good as the mean",
    "mean absolute error": "the mean distance from the truth",
    "median absolute error": "half of the rows are nearer than this; outliers do not move it",
    "CRPS": "distance of the whole predicted distribution from the truth; 0 is best",
}


@dataclass(frozen=True)
class Picture:
    """An SVG and the line under it that says how to read it."""

    svg: str
    title: str
    caption: str


def write(
    path: str | Path,
    record: Record,
    evaluation: Evaluation,
    comparison: Comparison,
    data: DataFacts,
    model: ModelFacts | None = None,
) -> Path:
    """Write the report of a run to `path`, whole or not at all. Raises OutputError where it cannot be written."""
    path = Path(path)
    write_atomically(path, html(record, evaluation, comparison, data, model).encode())
    return path


def html(
    record: Record, evaluation: Evaluation, comparison: Comparison, data: DataFacts, model: ModelFacts | None = None
) -> str:
    """The page as text. Everything that came from the user is escaped."""
    from jinja2 import Environment, StrictUndefined

    folder = resources.files("kokkiri.report") / "templates"
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {
        "full": lambda *a: _minus(words.full(*a)),
        "value": lambda *a: _minus(words.value(*a)),
        "plain": lambda *a: _minus(phrases.plain(*a)),
        "range": lambda m: _minus(" to ".join(words.range_of(m))),
        "percent": phrases.percent,
        "duration": phrases.duration,
        "reading": lambda name: READING.get(re.sub(r" of target \d+$", "", name), ""),
    }
    return environment.from_string((folder / "page.html").read_text("utf-8")).render(
        style=(folder / "page.css").read_text("utf-8"),
        record=record,
        evaluation=evaluation,
        comparison=comparison,
        data=data,
        model=model or ModelFacts(),
        graph=draw(model.graph) if model and model.graph else "",
        sentence=_minus(words.sentence(evaluation, comparison, data.target)),
        calibration=_minus(words.calibration(evaluation)),
        novelty=_minus(words.novelty(evaluation)),
        **_alternatives(comparison),
        warnings=warnings(record, data),
        digits=columns_decimals(comparison),
        figures=_figures(evaluation),
        curves=_curves(record),
        errors=_errors(evaluation),
        candidates=candidates.ordered(record.candidates),
        judge=candidates.judge(record.candidates),
        disagreement=_minus(candidates.disagreement(record.candidates)),
    )


def _alternatives(comparison: Comparison) -> dict[str, Any]:
    """What the table of repairs is written with."""
    table = comparison.alternatives
    if table is None:
        return {}
    columns = words.alternative_columns(table)[1:]
    d = words.alternative_decimals(table)
    return {
        "repairs": [_minus(line) for line in words.alternatives(table)],
        "columns": columns,
        "labels": ["log-likelihood, nats per row", *(" ".join(filter(None, head)) for head in columns)],
        "places": [*d[:3], None, d[3]],
    }


def _figures(evaluation: Evaluation) -> list[Measure]:
    """The few numbers that stand large at the top."""
    if evaluation.classes is None:
        assert evaluation.numbers is not None
        nine = evaluation.numbers.at(0.9).covered
        held = Measure("of truths inside 90 % intervals", nine.value, nine.unit, nine.low, nine.high)
        r2 = [m for m in evaluation.metrics if m.name == "R²"]
        return [evaluation.headline, *r2, held, evaluation.log_likelihood]
    two = evaluation.classes.two
    errors = [] if two is None else [two.type_one, two.type_two]
    return [evaluation.headline, *errors, evaluation.classes.calibration.error, evaluation.log_likelihood]


def _curves(record: Record) -> list[Picture]:
    if not record.curve.steps:
        return []
    lines = len(record.curve.held_out or record.curve.train)
    caption = (
        f"{'One line' if lines == 1 else f'{lines} lines, one a replica'}: higher is better. Where the held-out line "
        "falls while training still rises, the network learns its rows by heart; the weights of the marked step "
        "were kept. The first steps may lie below the picture."
    )
    return [Picture(pictures.learning_curves(record.curve), "Learning", caption)]


def _errors(evaluation: Evaluation) -> list[Picture]:
    made: list[Picture] = []
    if evaluation.classes is not None:
        made += _class_pictures(evaluation.classes)
    if evaluation.numbers is not None:
        made += _number_pictures(evaluation.numbers, evaluation.target)
    if evaluation.uncertainty is not None:
        made.append(_uncertainty_picture(evaluation.uncertainty, evaluation.kind))
    return made


def _class_pictures(c: ClassErrors) -> list[Picture]:
    matrix, size = pictures.confusion(c), sum(c.calibration.rows) // len(c.calibration.rows)
    reliability = Picture(
        pictures.reliability(c.calibration),
        "Can its probabilities be believed?",
        f"Groups of about {size} rows each: what was said against what was seen, with 95 % intervals. On the dashed "
        "line 70 % means 70 %; below it more was promised than came.",
    )
    if not matrix:
        return [reliability]
    caption = "A row is a true class, a column what was predicted; the diagonal is right. Shades are shares of the row."
    return [Picture(matrix, "Which classes are taken for which", caption), reliability]


def _number_pictures(n: NumberErrors, target: str) -> list[Picture]:
    return [
        Picture(
            pictures.predicted_observed(n.points, target),
            "Predicted against observed",
            f"{phrases.count(len(n.points.row), 'test row')} with 90 % intervals: a bar that misses the dashed line "
            "missed the truth.",
        ),
        Picture(
            pictures.residuals(n.points, target),
            "What is left over",
            "A trend would be something still to learn; a funnel means that some rows are noisier than others.",
        ),
        Picture(
            pictures.coverage(n.coverage),
            "Do intervals hold what they promise?",
            "On the dashed line they do; below it they are too narrow. Bars are 95 % intervals.",
        ),
        Picture(
            pictures.pit(n.pit),
            "Where truths fall in their predictions",
            "Level is right, but for chance, which stays between the dashed lines. U-shaped: too sure. Humped: too "
            "unsure. Tilted: biased.",
        ),
    ]


def _uncertainty_picture(u: Uncertainty, kind: str) -> Picture:
    share = f"{phrases.percent(u.epistemic_share)} of it is" if u.epistemic_share else "none of it is"
    caption = (
        f"Predicted variance in {phrases.count(len(u.rows), 'group')} of rows; {share} epistemic, the part that more "
        "data would remove. Diamonds at the height of the bars: the uncertainty is as large as the errors are."
    )
    if not u.epistemic_share:
        caption += " A single network knows nothing of its own ignorance; an ensemble does."
    return Picture(pictures.uncertainty(u, kind), "Where the uncertainty comes from", caption)


def _minus(text: str) -> str:
    """A minus sign where ASCII has a hyphen.

    >>> _minus("-0.5 [-0.6, -0.4], a-b")
    '−0.5 [−0.6, −0.4], a-b'
    """
    return re.sub(r"(?<![\w-])-(?=[\d∞i])", "−", text)
