"""What any model has to beat: the frequencies of the classes or the mean, and a linear model.

Both see the training rows that the model saw, and nothing else.
"""

from __future__ import annotations

import torch
from torch import Tensor

from kokkiri.data.core import Data, Target
from kokkiri.evaluation.linear import Linear, log_frequencies, ridge_regression, softmax_regression
from kokkiri.numerics.distributions import Normal
from kokkiri.numerics.random import permutation
from kokkiri.predictive import Classes, Mixture
from kokkiri.types import Predictive

FULL_ENTRIES, SUBSET = 20_000_000, 5_000  # more numbers than the first: the linear model is fitted to a subset of rows


def baselines(train: Data, test: Data, target: Target, *, seed: int = 0) -> list[tuple[str, Predictive]]:
    """Names and predictions for the rows of `test`: ("majority class" or "mean", then "linear model").

    A linear model of many numbers is fitted to fewer rows, and its name says to how many.
    """
    assert train.y is not None, "baselines learn from known targets"
    y, n = train.y, len(train)
    simple = _majority(y, len(test), target) if target.kind == "category" else _mean(y.double(), len(test))
    subset = SUBSET if n > SUBSET and n * train.inputs.width > FULL_ENTRIES else n
    rows = permutation(n, seed, "baseline")[:subset]
    x, y = _matrix(train, rows), y[rows]
    if target.kind == "category":
        model = softmax_regression(x, y, target.classes, seed=seed)
        linear = _classes(_apply(model, test))
    else:
        columns = [ridge_regression(x, column) for column in y.double().reshape(len(y), -1).T]
        means = _apply(Linear(torch.cat([c.weight for c in columns], 1), torch.cat([c.bias for c in columns])), test)
        linear = _normals(means, torch.stack([c.noise for c in columns]))
    name = "linear model" if subset == n else f"linear model ({subset:,} rows)"
    return [("majority class" if target.kind == "category" else "mean", simple), (name, linear)]


def _majority(y: Tensor, rows: int, target: Target) -> Predictive:
    return _classes(log_frequencies(y, target.classes).expand(rows, -1))


def _mean(y: Tensor, rows: int) -> Predictive:
    columns = y.reshape(len(y), -1)
    return _normals(columns.mean(0).expand(rows, -1), columns.std(0))


def _classes(logits: Tensor) -> Predictive:
    return Classes(logits.log_softmax(1)[None], torch.zeros(1))


def _normals(mean: Tensor, sd: Tensor) -> Predictive:
    """(B, T), (T,): independent normals."""
    smallest = torch.finfo(torch.float64).tiny ** 0.25  # a target without spread still has a density
    return Mixture(Normal(mean[None], sd.clamp(min=smallest).log().expand(mean.shape)[None]), torch.zeros(1))


def _matrix(data: Data, rows: Tensor) -> Tensor:
    parts = [data.batch(index).x.flatten(1).double() for index in rows.split(8192)]
    return torch.cat(parts)


def _apply(model: Linear, data: Data) -> Tensor:
    rows = torch.arange(len(data))
    return torch.cat([_matrix(data, index) @ model.weight + model.bias for index in rows.split(8192)])
