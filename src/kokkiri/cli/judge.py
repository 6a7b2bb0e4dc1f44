"""What `fit` leaves beside the model: predictions of the rows set apart, the report, and a summary for the terminal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from kokkiri.data.core import Data
from kokkiri.data.splits import group_column
from kokkiri.evaluation import (
    Evaluation,
    alternatives,
    baselines,
    comparison,
    evaluate,
    out_of_distribution,
    separation,
    shuffled,
)
from kokkiri.posteriors import Particles
from kokkiri.report import page, predictions, terminal
from kokkiri.report.facts import data_facts, model_facts
from kokkiri.types import Predictive
from kokkiri.verbs import predict

SHUFFLED_ROWS, SHUFFLED_NUMBERS = 2000, 20_000_000  # of test rows whose columns are dealt out anew


def judge(
    post: Particles, train: Data, test: Data, folder: Path, *, command: str, groups: str | None = None
) -> tuple[dict[str, Any], Callable[[Path], None]]:
    """Writes predictions.csv and report.html; gives the facts that model.json keeps, and what prints the summary.

    The latter takes the folder where the files end up. groups: the column whose equal values were kept together.
    """
    target = post.form.target
    assert test.y is not None
    predictive = predict(post, test)
    found = _with_novelty(evaluate(predictive, test.y, target), post, predictive, test)
    rows = [("this model", predictive), *baselines(train, test, target)]
    together = None if groups is None else group_column(test, groups)
    repaired = alternatives(rows, test.y, target, groups=together)
    lines = replace(comparison(rows, test.y, target), alternatives=repaired)
    x = train.batch(torch.arange(1)).x
    data = data_facts(train, test)
    model = model_facts(post.herd.module(), x, replicas=len(post.herd), command=command)
    record = replace(post.record, notes=tuple(n for n in post.record.notes if n not in data.notes))
    predictions.write(folder / "predictions.csv", predictive, test, target)
    page.write(folder / "report.html", record, found, lines, data, model)

    def summary(out: Path) -> None:
        files = [("model", out), ("predictions", out / "predictions.csv"), ("report", out / "report.html")]
        terminal.summary(record, found, lines, data, model, files=[(name, str(path)) for name, path in files])

    facts = {"evaluation": found, "comparison": lines, "data": data, "model": model}
    return {name: value.to_json() for name, value in facts.items()}, summary


def _with_novelty(found: Evaluation, post: Particles, predictive: Predictive, test: Data) -> Evaluation:
    """Adds how well the model tells shuffled rows from real ones, where its draws differ at all."""
    if found.uncertainty is None or not found.uncertainty.epistemic_share > 0:
        return found
    some = torch.arange(min(len(test), max(50, SHUFFLED_NUMBERS // test.inputs.width), SHUFFLED_ROWS))
    strange = predict(post, shuffled(test.batch(some).x, test.inputs))
    measure = separation(out_of_distribution(predictive), out_of_distribution(strange))
    return replace(found, uncertainty=replace(found.uncertainty, novelty=measure))
