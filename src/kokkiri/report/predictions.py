"""Predictions as a CSV file: a line a row, with how sure the model is."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

from torch import Tensor

from kokkiri.data.core import Data, Target
from kokkiri.predictive import Classes
from kokkiri.training.checkpoints import write_atomically


def table(predictive: Any, data: Data, target: Target, level: float = 0.9) -> tuple[list[str], list[list[Any]]]:
    """(header, lines). row: where it stood in the source, counted from 1.

    Classes: the most probable one, the probability of each, and ignorance: the mutual information of class and draw,
    nats. Numbers: mean, standard deviation, the central interval of probability `level`, and the two parts of the
    standard deviation: noise (aleatoric) and ignorance (epistemic).
    """
    header, columns = ["row"], [(_index(data) + 1).tolist()]
    if data.y is not None:
        header.append(target.name)
        columns.append([target.levels[int(v)] for v in data.y] if target.levels else data.y.tolist())
    if isinstance(predictive, Classes):
        header += [f"{target.name} (predicted)", *(f"p({level_name})" for level_name in target.levels)]
        columns.append([target.levels[int(k)] for k in predictive.label])
        columns += [_digits(c) for c in predictive.mean.unbind(1)]
        header.append("ignorance")
        columns.append(_digits(predictive.mutual_information))
    else:
        low, high = predictive.interval(level)
        sd = f"{100 * level:g} %"
        header += [f"{target.name} (mean)", "sd", f"low {sd}", f"high {sd}", "sd noise", "sd ignorance"]
        parts = (predictive.mean, predictive.sd, low, high, predictive.aleatoric.sqrt(), predictive.epistemic.sqrt())
        columns += [_digits(c) for c in parts]
    return header, [list(line) for line in zip(*columns, strict=True)]


def write(path: str | Path, predictive: Any, data: Data, target: Target, level: float = 0.9) -> Path:
    """Writes `table` as CSV, whole or not at all."""
    header, lines = table(predictive, data, target, level)
    paper = io.StringIO()
    writer = csv.writer(paper, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(lines)
    write_atomically(Path(path), paper.getvalue().encode())
    return Path(path)


def _index(data: Data) -> Tensor:
    import torch

    return data.row_index if data.row_index is not None else torch.arange(len(data))


def _digits(column: Tensor) -> list[Any]:
    """Six significant digits: more would claim to be known."""
    rows = column.tolist()
    return [[float(f"{v:.6g}") for v in r] if isinstance(r, list) else float(f"{r:.6g}") for r in rows]
