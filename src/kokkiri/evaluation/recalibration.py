"""The usual repairs of finished predictions, from rows that nothing was trained on: temperature, and conformal sets."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from kokkiri.errors import DataError, Unsupported
from kokkiri.evaluation.plain import from_plain, to_plain
from kokkiri.numerics import conformal, recalibration
from kokkiri.numerics.distributions import Laplace, Normal, StudentT
from kokkiri.numerics.random import philox
from kokkiri.predictive import Classes, Mixture
from kokkiri.types import Predictive

PRIOR_ROWS = 1.0  # what speaks for T = 1 beside the rows: see numerics.recalibration.temperature


@dataclass(frozen=True)
class Recalibration:
    """One factor: classes have p ∝ p^(1/factor), their temperature; numbers a spread about the mean times factor.

    log_error: standard error of log factor, NaN where unknown. rows: how many it was fitted to.
    """

    factor: float
    log_error: float
    rows: int

    def apply(self, predictive: Predictive) -> Predictive:
        """The mended prediction, for whatever rows."""
        return recalibrated(predictive, self.factor)

    def to_json(self) -> dict[str, Any]:
        """Plain values, as `json.dumps` takes them."""
        return to_plain(self)

    @staticmethod
    def from_json(plain: dict[str, Any]) -> Recalibration:
        """The recalibration that `to_json` wrote."""
        return from_plain(Recalibration, plain)


def recalibration_for(predictive: Predictive, y: Tensor) -> Recalibration:
    """The factor of highest likelihood on rows that nothing was trained on; of classes as if one row more spoke for 1.

    Temperature scaling (Guo et al. 2017) works on log-probabilities of the mixture, not draw by draw: pooled first,
    then mended (Rahaman & Thiery 2021, "Uncertainty quantification and deep ensembles"). Counts cannot be stretched.

    >>> sure = Classes(3 * torch.tensor([[[0.8, 0.2]]]).log().expand(1, 40, 2), torch.zeros(1))
    >>> y = torch.tensor([0, 0, 0, 0, 1] * 8)
    >>> found = recalibration_for(Classes(sure.log_probabilities.log_softmax(2), torch.zeros(1)), y)
    >>> round(found.factor, 2), found.rows  # said 64 : 1, seen 4 : 1, and 64^(1/3) is 4
    (2.85, 40)
    """
    predictive.log_prob(y)  # refuses targets of other rows or classes
    if _classes(predictive):
        found = recalibration.temperature(log_probabilities(predictive), y, prior=PRIOR_ROWS)
    else:
        mixture = _stretchable(predictive)
        mean = mixture.mean
        y = y.double().reshape(mean.shape)
        found = recalibration.stretch(lambda r: mixture.log_prob(mean + r), y - mean)
    return Recalibration(found.value, found.log_error, len(y))


def recalibrated(predictive: Predictive, factor: float | Tensor) -> Predictive:
    """The prediction mended by one factor, or by one for each row, (B,): `Classes` of one draw, or a `Mixture`.

    Draws of numbers are stretched about the common mean, so that both parts of the variance grow by factor².
    """
    c = torch.as_tensor(factor, dtype=torch.float64)
    if _classes(predictive):
        logits = log_probabilities(predictive) / c.reshape(-1, 1)
        return Classes(logits.log_softmax(1)[None], torch.zeros(1))
    mixture = _stretchable(predictive)
    parts: Any = mixture.components
    c = c.reshape(-1, 1)
    weights = mixture.log_weights.exp().reshape(-1, 1, 1)
    centre = (weights * parts.location).sum(0)
    parts = parts._replace(location=centre + c * (parts.location - centre), log_scale=parts.log_scale + c.log())
    within = None if mixture.within is None else c**2 * mixture.within
    return replace(mixture, components=parts, within=within)


def log_probabilities(predictive: Predictive) -> Tensor:
    """(B, C) log of the class probabilities, finite where their exponentials would be 0."""
    rows, classes = predictive.mean.shape
    columns = [predictive.log_prob(torch.full((rows,), c)) for c in range(classes)]
    return torch.stack(columns, 1).double()


def _classes(predictive: Predictive) -> bool:
    """Classes, or anything else that gives the entropy of classes."""
    return isinstance(predictive, Classes) or hasattr(predictive, "entropy")


def _stretchable(predictive: Predictive) -> Mixture:
    if isinstance(predictive, Mixture) and isinstance(predictive.components, Normal | Laplace | StudentT):
        return predictive
    raise Unsupported(
        f"the spread of {predictive!r} is not free",
        needs="classes, or a mixture of normal, Laplace or Student-t distributions",
        found="counts, whose spread belongs to their mean" if isinstance(predictive, Mixture) else "something else",
        fix="conformal_intervals: they need no density",
    )


# -- conformal -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ConformalIntervals:
    """Intervals of a number that hold `level` of the truths for exchangeable rows, whatever the model.

    by_quantiles: the model's own central intervals, moved outwards (or inwards) by `thresholds`; else mean ± threshold
    times the model's spread. thresholds: one a target; ∞ where the rows were too few for `level`.
    """

    level: float
    by_quantiles: bool
    thresholds: tuple[float, ...]
    rows: int

    def interval(self, predictive: Predictive) -> tuple[Tensor, Tensor]:
        """(B,) or (B, T) lower and upper ends for the rows of a prediction by the same model."""
        q = torch.tensor(self.thresholds, dtype=torch.float64)
        q = q if predictive.mean.ndim == 2 else q[0]
        if self.by_quantiles:
            low, high = predictive.interval(self.level)
            return conformal.widened(low.double(), high.double(), q)
        mean, spread = _centre(predictive, self.level)
        return mean - q * spread, mean + q * spread

    def to_json(self) -> dict[str, Any]:
        """Plain values, as `json.dumps` takes them."""
        return to_plain(self)

    @staticmethod
    def from_json(plain: dict[str, Any]) -> ConformalIntervals:
        """The intervals that `to_json` wrote."""
        return from_plain(ConformalIntervals, plain)


@dataclass(frozen=True)
class ConformalSets:
    """Sets of classes that hold `level` of the truths for exchangeable rows, whatever the model.

    adaptive: large where the model is unsure, by a random number a row; else all classes of probability >= 1 -
    threshold, the smallest sets on average, which may fail one kind of row more than another.
    """

    level: float
    adaptive: bool
    threshold: float
    rows: int

    def sets(self, predictive: Predictive, *, seed: int = 0) -> Tensor:
        """(B, C) bool, for the rows of a prediction by the same model."""
        return _class_scores(predictive, self.adaptive, seed, "prediction") <= self.threshold

    def to_json(self) -> dict[str, Any]:
        """Plain values, as `json.dumps` takes them."""
        return to_plain(self)

    @staticmethod
    def from_json(plain: dict[str, Any]) -> ConformalSets:
        """The sets that `to_json` wrote."""
        return from_plain(ConformalSets, plain)


def conformal_intervals(
    predictive: Predictive, y: Tensor, level: float = 0.9, *, by_quantiles: bool = False
) -> ConformalIntervals:
    """Split conformal prediction of numbers, from rows (B,) or (B, T) that nothing was trained on.

    Source: Lei et al. 2018, section 5.2; by quantiles Romano, Patterson & Candès 2019.

    >>> p = Mixture(Normal(torch.zeros(1, 9, 1), torch.zeros(1, 9, 1)), torch.zeros(1))
    >>> conformal_intervals(p, torch.arange(1.0, 10.0), 0.8).interval(p)[1][0]  # the 8th of 9
    tensor(8., dtype=torch.float64)
    """
    _some(predictive, y, level)
    y = y.double().reshape(predictive.mean.shape)
    if by_quantiles:
        low, high = predictive.interval(level)
        scores = conformal.excess(y, low.double(), high.double())
    else:
        scores = conformal.distance(y, *_centre(predictive, level))
    q = conformal.threshold(scores.reshape(len(y), -1), level)
    return ConformalIntervals(level, by_quantiles, tuple(q.tolist()), len(y))


def conformal_sets(
    predictive: Predictive, y: Tensor, level: float = 0.9, *, adaptive: bool = True, seed: int = 0
) -> ConformalSets:
    """Split conformal prediction of classes, from rows (B,) that nothing was trained on.

    Source: Romano, Sesia & Candès 2020, algorithm 1; not adaptive Sadinle, Lei & Wasserman 2019.
    """
    _some(predictive, y, level)
    scores = _class_scores(predictive, adaptive, seed, "calibration").gather(1, y.long()[:, None])[:, 0]
    return ConformalSets(level, adaptive, float(conformal.threshold(scores, level)), len(y))


def _class_scores(predictive: Predictive, adaptive: bool, seed: int, purpose: str) -> Tensor:
    p = predictive.mean.double()
    if not adaptive:
        return conformal.doubt(p)
    return conformal.adaptive(p, torch.from_numpy(philox(seed, f"conformal {purpose}").random(len(p))).to(p.device))


def _centre(predictive: Predictive, level: float) -> tuple[Tensor, Tensor]:
    """Mean and spread: the standard deviation, or half an interval where one is infinite (Student-t of few df)."""
    sd = predictive.variance.double().sqrt()
    if not sd.isfinite().all():
        low, high = predictive.interval(level)
        sd = (high - low).double() / 2
    return predictive.mean.double(), sd


def _some(predictive: Predictive, y: Tensor, level: float) -> None:
    predictive.log_prob(y)  # refuses targets of other rows or classes
    if not len(y) or not 0 < level < 1:
        needed = math.ceil(level / (1 - level) - 1e-9) if 0 < level < 1 else 1
        raise DataError(
            "conformal prediction has nothing to learn from",
            needs=f"0 < level < 1 and rows, {needed} at least for finite sets",
            found=f"level {level!r} and {len(y)} rows",
            fix="rows that were not trained on, and level=0.9",
        )
