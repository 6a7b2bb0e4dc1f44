"""What `fit` leaves beside the model: predictions of the rows set apart, the report, and a summary for the terminal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from kokkiri.data.core import Data
from kokkiri.evaluation import baselines, comparison, evaluate
from kokkiri.posteriors import Particles
from kokkiri.report import page, predictions, terminal
from kokkiri.report.facts import data_facts, model_facts
from kokkiri.verbs import predict


def judge(
    post: Particles, train: Data, test: Data, folder: Path, *, command: str
) -> tuple[dict[str, Any], Callable[[Path], None]]:
    """Writes predictions.csv and report.html; gives the facts that model.json keeps, and what prints the summary.

    The latter takes the folder where the files end up.
    """
    target = post.form.target
    assert test.y is not None
    predictive = predict(post, test)
    found = evaluate(predictive, test.y, target)
    lines = comparison([("this model", predictive), *baselines(train, test, target)], test.y, target)
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
