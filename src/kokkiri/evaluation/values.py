"""What an evaluation holds: plain numbers, each with its uncertainty, that go to JSON and back."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from kokkiri.evaluation.plain import from_plain, to_plain


@dataclass(frozen=True)
class Measure:
    """A number and how sure it is: a standard error `se`, or a 95 % interval from `low` to `high`, or neither.

    unit: "proportion" (printed as a percentage), "nats per row", "target" (the units of what is predicted), or "".
    """

    name: str
    value: float
    unit: str = ""
    low: float | None = None
    high: float | None = None
    se: float | None = None


@dataclass(frozen=True)
class Calibration:
    """Probabilities that were said against frequencies that were seen, in groups of equally many rows.

    what: the event in words. error: ECE = Σ_k n_k / n |frequency_k - probability_k|. by_chance, by_chance_high: mean
    and 95 % quantile of the error that exactly right probabilities would show on as many rows.
    """

    what: str
    probability: tuple[float, ...]
    frequency: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    rows: tuple[int, ...]
    error: Measure
    by_chance: float
    by_chance_high: float

    @property
    def as_good_as_right(self) -> bool:
        """Whether these rows cannot tell the probabilities from right ones (one-sided, 5 %)."""
        return self.error.value <= self.by_chance_high


@dataclass(frozen=True)
class CalibrationError:
    """A calibration error by the definition of most published tables, and what right probabilities would show."""

    name: str
    error: Measure
    by_chance: float
    by_chance_high: float


@dataclass(frozen=True)
class ClassScore:
    """One class against all others: precision = right / predicted, recall = right / present."""

    level: str
    rows: int
    predicted: int
    precision: Measure
    recall: Measure


@dataclass(frozen=True)
class TwoClasses:
    """The two ways to be wrong. Type I: a false alarm, `positive` said though it is not; type II: a miss.

    type_one = false alarms / negatives, type_two = misses / positives; `positive` is said where it is more probable.
    """

    positive: str
    negative: str
    positives: int
    negatives: int
    false_alarms: int
    misses: int
    type_one: Measure
    type_two: Measure


@dataclass(frozen=True)
class ClassErrors:
    """Errors by class. confusion: rows are true classes, columns predicted ones. published: see `CalibrationError`."""

    levels: tuple[str, ...]
    confusion: tuple[tuple[int, ...], ...]
    scores: tuple[ClassScore, ...]
    calibration: Calibration
    two: TwoClasses | None = None
    published: tuple[CalibrationError, ...] = ()


@dataclass(frozen=True)
class Coverage:
    """How many of the central intervals of probability `level` held the truth, and how wide they were on average."""

    level: float
    covered: Measure
    width: float


@dataclass(frozen=True)
class Residuals:
    """y - prediction: mean (the bias), standard deviation, and the quantiles at 5, 25, 50, 75 and 95 %."""

    bias: Measure
    sd: float
    quantiles: tuple[float, ...]


@dataclass(frozen=True)
class Points:
    """Some rows for the picture: number of the test row, truth, prediction, and its 90 % interval."""

    row: tuple[int, ...]
    observed: tuple[float, ...]
    predicted: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


@dataclass(frozen=True)
class NumberErrors:
    """Errors of numbers. pit: how many rows had the truth in each tenth of their predicted distribution."""

    coverage: tuple[Coverage, ...]
    residuals: Residuals
    pit: tuple[int, ...]
    points: Points

    def at(self, level: float) -> Coverage:
        """The coverage of the intervals of that level."""
        return next(c for c in self.coverage if math.isclose(c.level, level))


@dataclass(frozen=True)
class Uncertainty:
    """Where the predicted variance comes from, in groups of rows from the surest to the least sure.

    aleatoric + epistemic = predicted variance, summed over classes for a category; observed: the mean squared error of
    the same rows (for a category the Brier score), which is what a right prediction would have them add up to.
    novelty: how well epistemic uncertainty tells shuffled rows from real ones (see `out_of_distribution.shuffled`).
    """

    rows: tuple[int, ...]
    aleatoric: tuple[float, ...]
    epistemic: tuple[float, ...]
    observed: tuple[float, ...]
    epistemic_share: float
    novelty: Measure | None = None


@dataclass(frozen=True)
class Alternative:
    """One way to say how sure one is. What it does not have is None: conformal sets come without a density.

    score: Brier score, or CRPS. calibration: the calibration error, of numbers ∫|F(u) - u| du of the PIT. coverage: how
    many of its sets of probability `Alternatives.level` held the truth. size: their mean width, or number of classes.
    """

    name: str
    log_likelihood: Measure | None
    score: Measure | None
    calibration: Measure | None
    coverage: Measure
    size: Measure


@dataclass(frozen=True)
class Alternatives:
    """The model in the first line, then the usual repairs of it, then the baselines, all on the same rows.

    halves: sizes of the two parts of the rows, each judged with what the other taught. factors: what each half found
    (`Recalibration.factor`). grouped: whether the halves keep groups whole. left_out: why repairs are missing.
    """

    kind: str
    level: float
    rows: int
    lines: tuple[Alternative, ...]
    halves: tuple[int, ...] = ()
    factors: tuple[Measure, ...] = ()
    grouped: bool = False
    left_out: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain values, as `json.dumps` takes them."""
        return to_plain(self)

    @staticmethod
    def from_json(plain: dict[str, Any]) -> Alternatives:
        """The table that `to_json` wrote."""
        return from_plain(Alternatives, plain)


@dataclass(frozen=True)
class Evaluation:
    """How good a prediction was on `rows` rows. headline: the metric that matters beside the log-likelihood."""

    target: str
    kind: str
    rows: int
    headline: Measure
    log_likelihood: Measure
    metrics: tuple[Measure, ...] = ()
    classes: ClassErrors | None = None
    numbers: NumberErrors | None = None
    uncertainty: Uncertainty | None = None

    def metric(self, name: str) -> Measure:
        """The metric of that name, the headline and the log-likelihood among them."""
        return next(m for m in (self.headline, self.log_likelihood, *self.metrics) if m.name == name)

    def to_json(self) -> dict[str, Any]:
        """Plain values, as `json.dumps` takes them."""
        return to_plain(self)

    @staticmethod
    def from_json(plain: dict[str, Any]) -> Evaluation:
        """The evaluation that `to_json` wrote."""
        return from_plain(Evaluation, plain)
