"""Screening tests: how often a positive result is right, and what it costs that some are not.

Two hypotheses, ill and well, and two results, positive and negative. The words of statistics for the same numbers:
precision is P(ill | positive), recall (or sensitivity) is P(positive | ill); the type I error is a false alarm,
P(positive | well), and the type II error a miss, P(negative | ill).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from kokkiri.errors import ShapeError, Unsupported, UsageError
from kokkiri.exact import screening_words as words
from kokkiri.exact.experiment import Experiment
from kokkiri.exact.hypotheses import Hypotheses
from kokkiri.exact.probabilities import numbers, probability
from kokkiri.numerics import log_space


class Frequencies(NamedTuple):
    """How many of so many people are to be expected in each of the four groups."""

    people: int
    true_positives: Tensor
    false_negatives: Tensor
    false_positives: Tensor
    true_negatives: Tensor


@dataclass(frozen=True, eq=False, repr=False)
class Screening:
    """A test for ill or well, among people of whom a known share is ill. Numbers, or tensors that broadcast.

    prevalence: P(ill), neither 0 nor 1. sensitivity: P(positive | ill). false_positive: P(positive | well).

    >>> test = Screening(0.1, 0.99, 0.01)
    >>> round(test.precision.item(), 4), round(test.second().after(True, True).item(), 4)
    (0.9167, 0.9991)
    """

    prevalence: Any
    sensitivity: Any
    false_positive: Any

    def __post_init__(self) -> None:
        given = (
            probability("the prevalence", self.prevalence, inside=True),
            probability("the sensitivity", self.sensitivity),
            probability("the false-positive rate", self.false_positive),
        )
        for name, value in zip(("prevalence", "sensitivity", "false_positive"), together(*given), strict=True):
            object.__setattr__(self, name, value)

    def __repr__(self) -> str:
        return words.short(self)

    def __str__(self) -> str:
        return words.screening_text(self)

    @property
    def precision(self) -> Tensor:
        """P(ill | positive), the posterior after a positive result; NaN where there never is one."""
        return self._after(self.sensitivity, self.false_positive)

    @property
    def recall(self) -> Tensor:
        """P(positive | ill), the sensitivity."""
        return self.sensitivity

    @property
    def specificity(self) -> Tensor:
        """P(negative | well)."""
        return 1 - self.false_positive

    @property
    def type_one(self) -> Tensor:
        """P(positive | well), a false alarm: the false-positive rate."""
        return self.false_positive

    @property
    def type_two(self) -> Tensor:
        """P(negative | ill), a miss."""
        return 1 - self.sensitivity

    @property
    def after_positive(self) -> Tensor:
        """P(ill | positive): the precision."""
        return self.precision

    @property
    def after_negative(self) -> Tensor:
        """P(ill | negative); NaN where there never is a negative result."""
        return self._after(1 - self.sensitivity, 1 - self.false_positive)

    @property
    def positive(self) -> Tensor:
        """P(positive): the evidence of a positive result."""
        return self.prevalence * self.sensitivity + (1 - self.prevalence) * self.false_positive

    @property
    def accuracy(self) -> Tensor:
        """P(the result is right). Saying "well" of everybody reaches 1 - prevalence."""
        return self.prevalence * self.sensitivity + (1 - self.prevalence) * (1 - self.false_positive)

    @property
    def ratio_positive(self) -> Tensor:
        """The likelihood ratio of a positive result, P(positive | ill) / P(positive | well): its Bayes factor."""
        return self.sensitivity / self.false_positive

    @property
    def ratio_negative(self) -> Tensor:
        """The likelihood ratio of a negative result, P(negative | ill) / P(negative | well)."""
        return (1 - self.sensitivity) / (1 - self.false_positive)

    @property
    def hypotheses(self) -> Hypotheses:
        """Ill and well, with the prevalence as prior."""
        return Hypotheses(torch.stack((self.prevalence, 1 - self.prevalence), -1), ("ill", "well"))

    @property
    def experiment(self) -> Experiment:
        """The test as a table of outcomes; of one test, not of many."""
        if self.prevalence.ndim:
            raise Unsupported(
                "many tests are not one experiment", needs="a screening of numbers",
                found=f"tensors {tuple(self.prevalence.shape)}", fix="one Screening for each",
            )  # fmt: skip
        rates = torch.stack((self.sensitivity, self.false_positive))
        return Experiment(torch.stack((rates, 1 - rates), -1), ("ill", "well"), ("positive", "negative"))

    def frequencies(self, people: int) -> Frequencies:
        """How many of so many people are to be expected in each group."""
        ill, well = people * self.prevalence, people * (1 - self.prevalence)
        positives = ill * self.sensitivity, well * self.false_positive
        return Frequencies(people, positives[0], ill - positives[0], positives[1], well - positives[1])

    def second(self, test: Screening | None = None, dependence: Any = 0.0) -> SecondTest:
        """A second test of the same people: another one (its prevalence does not count), or the same once more.

        dependence: the correlation of the two results among the ill and among the well alike, or a pair of them; 0:
        independent given the illness; 1, of a test with itself: the second says what the first said.
        """
        other = self if test is None else test
        pair = numbers("the dependence", dependence)
        if pair.shape not in {(), (2,)}:
            raise ShapeError(
                f"a dependence of shape {tuple(pair.shape)}", needs="one correlation, or two: of the ill, of the well",
                found=str(dependence)[:60], fix="dependence=(0.3, 0.1)",
            )  # fmt: skip
        ill, well = pair.expand(2)
        return SecondTest(self, other, ill, well)

    def picture(self) -> str:
        """Precision against prevalence and against the false-positive rate, as SVG text."""
        from kokkiri.exact.screening_pictures import screening_picture

        return screening_picture(self)

    def _after(self, if_ill: Tensor, if_well: Tensor) -> Tensor:
        return posterior(self.prevalence, if_ill, if_well)


@dataclass(frozen=True, eq=False, repr=False)
class SecondTest:
    """Two tests of the same people. among_ill, among_well: correlations of their results, 0 for independent ones.

    Given the illness, P(+, +) = p q + ρ √(p (1-p) q (1-q)) for rates p and q of positives, and so on (Vacek 1985, "The
    effect of conditional dependence on the evaluation of diagnostic tests").
    """

    first: Screening
    other: Screening
    among_ill: Tensor
    among_well: Tensor
    if_ill: Tensor = field(init=False)  # (..., 2, 2): P(results | ill), positive before negative
    if_well: Tensor = field(init=False)

    def __post_init__(self) -> None:
        a, b = self.first, self.other
        object.__setattr__(self, "if_ill", _joint(a.sensitivity, b.sensitivity, self.among_ill, "ill"))
        object.__setattr__(self, "if_well", _joint(a.false_positive, b.false_positive, self.among_well, "well"))

    def __repr__(self) -> str:
        return f"SecondTest({self.first!r}, {self.other!r}, {float(self.among_ill):g}, {float(self.among_well):g})"

    def __str__(self) -> str:
        return words.second_text(self)

    def after(self, first: bool, second: bool) -> Tensor:
        """P(ill | both results), True for positive; NaN where these results never come."""
        i, j = 1 - int(first), 1 - int(second)
        return posterior(self.first.prevalence, self.if_ill[..., i, j], self.if_well[..., i, j])

    def probability(self, first: bool, second: bool) -> Tensor:
        """P(these results)."""
        i, j = 1 - int(first), 1 - int(second)
        return self.first.prevalence * self.if_ill[..., i, j] + (1 - self.first.prevalence) * self.if_well[..., i, j]

    @property
    def experiment(self) -> Experiment:
        """Both tests as one experiment with four outcomes."""
        rows = torch.stack((self.if_ill.flatten(-2), self.if_well.flatten(-2)))
        return Experiment(rows, ("ill", "well"), ("+ +", "+ -", "- +", "- -"))

    @property
    def both(self) -> Screening:
        """Positive where both are: fewer false alarms, more misses."""
        return Screening(self.first.prevalence, self.if_ill[..., 0, 0], self.if_well[..., 0, 0])

    @property
    def either(self) -> Screening:
        """Positive where one of them is: fewer misses, more false alarms."""
        return Screening(self.first.prevalence, 1 - self.if_ill[..., 1, 1], 1 - self.if_well[..., 1, 1])


def posterior(prevalence: Tensor, if_ill: Tensor, if_well: Tensor) -> Tensor:
    """P(ill | result) from P(result | ill) and P(result | well), by odds; NaN where the result never comes."""
    odds = log_space.log_odds(prevalence.log()) + if_ill.log() - if_well.log()
    return log_space.from_log_odds(odds).exp()


def together(*values: Tensor) -> tuple[Tensor, ...]:
    """Tensors of one shape, or an error that names theirs."""
    try:
        return tuple(torch.broadcast_tensors(*values))
    except RuntimeError as error:
        raise ShapeError(
            "prevalence, sensitivity and false-positive rate do not fit together",
            needs="numbers, or tensors that broadcast", found=", ".join(str(tuple(v.shape)) for v in values),
            fix="one value a case for each of them",
        ) from error  # fmt: skip


def _joint(p: Tensor, q: Tensor, correlation: Tensor, whom: str) -> Tensor:
    """(..., 2, 2): probabilities of both results for rates p and q of positives."""
    shift = correlation * (p * (1 - p) * q * (1 - q)).sqrt()
    cells = torch.stack((p * q + shift, p * (1 - q) - shift, (1 - p) * q - shift, (1 - p) * (1 - q) + shift), -1)
    if not bool((cells >= -1e-12).all()):
        spread = (p * (1 - p) * q * (1 - q)).sqrt()
        low = float((torch.maximum(-p * q, -(1 - p) * (1 - q)) / spread).max())
        high = float((torch.minimum(p * (1 - q), (1 - p) * q) / spread).min())
        raise UsageError(
            f"results of the {whom} cannot have a correlation of {float(correlation):g}",
            needs=f"a dependence between {low:.3g} and {high:.3g} for these rates", found=f"{float(correlation):g}",
            fix="0 for tests that are independent given the illness",
        )  # fmt: skip
    return cells.clamp(min=0.0, max=1.0).unflatten(-1, (2, 2))
