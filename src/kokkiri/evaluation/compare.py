"""A model and its baselines in one table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from kokkiri.data.core import Target
from kokkiri.evaluation.plain import from_plain, to_plain
from kokkiri.evaluation.scoring import headline
from kokkiri.evaluation.values import Alternatives, Measure
from kokkiri.numerics.scores import standard_error
from kokkiri.types import Predictive


@dataclass(frozen=True)
class Compared:
    """One line of the table. difference: log-likelihood minus the model's; negative is worse than the model."""

    name: str
    log_likelihood: Measure
    measures: tuple[Measure, ...]
    difference: Measure | None = None


@dataclass(frozen=True)
class Comparison:
    """The model in the first line, then the others, all on the same rows. alternatives: where they were asked for."""

    lines: tuple[Compared, ...]
    rows: int
    alternatives: Alternatives | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values, as `json.dumps` takes them."""
        return to_plain(self)

    @staticmethod
    def from_json(plain: dict[str, Any]) -> Comparison:
        """The comparison that `to_json` wrote."""
        return from_plain(Comparison, plain)


def comparison(rows: Sequence[tuple[str, Predictive]], y: Tensor, target: Target) -> Comparison:
    """Compare predictions of the same rows; the first is the model.

    Differences are paired by row, se = sd(log p_other - log p_model) / √B: rows that are hard for all cancel.
    """
    y = y.squeeze(1) if y.ndim == 2 and y.shape[1] == 1 else y
    log_probs = [predictive.log_prob(y).double() for _, predictive in rows]
    lines = []
    for (name, predictive), log_prob in zip(rows, log_probs, strict=True):
        difference = None
        if lines:
            difference = _mean("difference to the model", log_prob - log_probs[0])
        lines.append(Compared(name, _mean("log-likelihood", log_prob), headline(predictive, y, target), difference))
    return Comparison(tuple(lines), len(y))


def _mean(name: str, values: Tensor) -> Measure:
    return Measure(name, float(values.mean()), "nats per row", se=float(standard_error(values)))
