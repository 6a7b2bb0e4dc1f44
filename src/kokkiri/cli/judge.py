"""What `fit` leaves beside the model: predictions of the rows set apart, the report, and the summary on the terminal."""

from __future__ import annotations

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


def judge(post: Particles, train: Data, test: Data, out: Path, *, command: str, quiet: bool) -> dict[str, Any]:
    """Writes predictions.csv and report.html, prints the summary, and gives the facts that model.json keeps."""
    target = post.form.target
    assert test.y is not None
    predictive = predict(post, test)
    found = evaluate(predictive, test.y, target)
    lines = comparison([("this model", predictive), *baselines(train, test, target)], test.y, target)
    x = train.batch(torch.arange(1)).x
    data = data_facts(train, test)
    model = model_facts(post.herd.module(), x, replicas=len(post.herd), command=command)
    record = replace(post.record, notes=tuple(n for n in post.record.notes if n not in data.notes))
    written = predictions.write(out / "predictions.csv", predictive, test, target)
    report = page.write(out / "report.html", record, found, lines, data, model)
    if not quiet:
        files = [("model", str(out)), ("predictions", str(written)), ("report", str(report))]
        terminal.summary(record, found, lines, data, model, files=files)
    return {
        "evaluation": found.to_json(), "comparison": lines.to_json(), "data": data.to_json(), "model": model.to_json()
    }  # fmt: skip
