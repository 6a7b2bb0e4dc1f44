"""A screening test whose rates were counted: everything that follows from them carries its posterior interval."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from kokkiri.errors import UsageError
from kokkiri.exact import screening_words as words
from kokkiri.exact.intervals import Interval, beta_interval, drawn_interval, must_be_level
from kokkiri.exact.probabilities import numbers, probability
from kokkiri.exact.screening import Screening
from kokkiri.numerics.random import philox
from kokkiri.phrases import count, plain

DRAWS = 200_000  # the ends of an interval are then known to half a percent of its width


@dataclass(frozen=True, eq=False, repr=False)
class ScreeningCounts:
    """What became of people whose illness is known, and what that says about a test.

    Sensitivity and false-positive rate have Beta posteriors, Beta(1, 1) beforehand (`prior`: what is added to each
    count). prevalence: None where the people are a sample of those who are screened, so that it is counted, too (all
    four shares are then Dirichlet, and precision is Beta like the rest); a number where it is known; a pair (ill,
    people) where it was counted among others. What has no closed form comes from `draws` of the rates.

    >>> test = ScreeningCounts(95, 5, 10, 190, prevalence=0.1)
    >>> [round(v, 6) for v in test.recall]
    [0.941176, 0.888245, 0.977889, 0.0]
    """

    true_positives: int
    false_negatives: int
    false_positives: int
    true_negatives: int
    prevalence: Any = None
    prior: float = field(default=1.0, kw_only=True)
    level: float = field(default=0.95, kw_only=True)
    seed: int = field(default=0, kw_only=True)
    draws: Screening = field(init=False)  # (S,) draws of the rates from their posterior

    def __post_init__(self) -> None:
        for name in ("true_positives", "false_negatives", "false_positives", "true_negatives"):
            _whole(name.replace("_", " "), getattr(self, name))
        if not self.ill + self.well:
            raise UsageError(
                "nobody was counted", needs="people whose illness is known", found="four counts of 0",
                fix="Screening(prevalence, sensitivity, false_positive), where the rates are known otherwise",
            )  # fmt: skip
        if not self.prior > 0:
            raise UsageError(
                f"prior={self.prior:g} is no prior", needs="a number above 0", found=f"{self.prior:g}",
                fix="1 for uniform rates, 0.5 for Jeffreys's",
            )  # fmt: skip
        must_be_level(self.level)
        if isinstance(self.prevalence, tuple | list):
            _pair(self.prevalence)
        elif self.prevalence is not None:
            known = probability("the prevalence", numbers("the prevalence", self.prevalence), inside=True)
            if known.ndim:
                raise UsageError(
                    f"a prevalence of shape {tuple(known.shape)}", needs="one number, or a pair of counts",
                    found=str(self.prevalence)[:60], fix="prevalence=0.1, or (12, 1000)",
                )  # fmt: skip
        rates = [self._drawn(k, *beta) for k, beta in enumerate((self._prevalence, self._sensitivity, self._alarms))]
        object.__setattr__(self, "draws", Screening(*rates))

    def __repr__(self) -> str:
        cells = (self.true_positives, self.false_negatives, self.false_positives, self.true_negatives)
        return f"ScreeningCounts({', '.join(map(str, cells))}, prevalence {self.says_prevalence})"

    def __str__(self) -> str:
        return words.counted_text(self)

    @property
    def ill(self) -> int:
        """How many were ill."""
        return self.true_positives + self.false_negatives

    @property
    def well(self) -> int:
        """How many were well."""
        return self.false_positives + self.true_negatives

    @property
    def rates(self) -> Screening:
        """The test for the next person: the posterior means of its rates."""
        means = (a / (a + b) for a, b in (self._prevalence, self._sensitivity, self._alarms))
        return Screening(*means)

    @property
    def says_prevalence(self) -> str:
        """Where the prevalence comes from, in words."""
        if self.prevalence is None:
            return "as among these people"
        if isinstance(self.prevalence, tuple | list):
            return f"from {self.prevalence[0]:,} ill of {self.prevalence[1]:,}"
        return f"{plain(100 * float(self.prevalence))} %"

    @property
    def recall(self) -> Interval:
        """P(positive | ill)."""
        return beta_interval(*self._sensitivity, self.level)

    @property
    def specificity(self) -> Interval:
        """P(negative | well)."""
        return beta_interval(self._alarms[1], self._alarms[0], self.level)

    @property
    def type_one(self) -> Interval:
        """P(positive | well), a false alarm."""
        return beta_interval(*self._alarms, self.level)

    @property
    def type_two(self) -> Interval:
        """P(negative | ill), a miss."""
        return beta_interval(self._sensitivity[1], self._sensitivity[0], self.level)

    @property
    def precision(self) -> Interval:
        """P(ill | positive)."""
        if self.prevalence is None:
            return beta_interval(self.true_positives + self.prior, self.false_positives + self.prior, self.level)
        return self.interval(lambda test: test.precision, float(self.rates.precision))

    @property
    def after_positive(self) -> Interval:
        """P(ill | positive): the precision."""
        return self.precision

    @property
    def after_negative(self) -> Interval:
        """P(ill | negative)."""
        if self.prevalence is None:
            return beta_interval(self.false_negatives + self.prior, self.true_negatives + self.prior, self.level)
        return self.interval(lambda test: test.after_negative, float(self.rates.after_negative))

    @property
    def accuracy(self) -> Interval:
        """P(the result is right)."""
        if self.prevalence is None:
            right, wrong = self.true_positives + self.true_negatives, self.false_negatives + self.false_positives
            return beta_interval(right + 2 * self.prior, wrong + 2 * self.prior, self.level)
        return self.interval(lambda test: test.accuracy, float(self.rates.accuracy))

    @property
    def ratio_positive(self) -> Interval:
        """P(positive | ill) / P(positive | well) of the next person."""
        return self.interval(lambda test: test.ratio_positive, float(self.rates.ratio_positive))

    @property
    def ratio_negative(self) -> Interval:
        """P(negative | ill) / P(negative | well) of the next person."""
        return self.interval(lambda test: test.ratio_negative, float(self.rates.ratio_negative))

    def second(self, test: Screening | None = None, dependence: Any = 0.0) -> dict[tuple[bool, bool], Interval]:
        """P(ill | both results) of the same test once more, or of another one; True for positive.

        As `Screening.second`. The rates behind both results are the same, so the second is less of a surprise.
        """
        two = self.draws.second(test, dependence)
        out = {}
        for results in words.RESULTS:
            i, j = (1 - int(r) for r in results)
            ill = float((self.draws.prevalence * two.if_ill[..., i, j]).mean())
            well = float(((1 - self.draws.prevalence) * two.if_well[..., i, j]).mean())
            after = two.after(*results)
            out[results] = drawn_interval(after, ill / (ill + well) if ill + well else float("nan"), self.level)
        return out

    def interval(self, of: Callable[[Screening], Tensor], value: float | None = None) -> Interval:
        """The interval of whatever is computed from the rates; value: of the next person, else the posterior mean."""
        drawn = of(self.draws)
        return drawn_interval(drawn, float(drawn.mean()) if value is None else value, self.level)

    def picture(self) -> str:
        """As `Screening.picture`, with bands of the intervals."""
        from kokkiri.exact.screening_pictures import screening_picture

        return screening_picture(self.rates, self)

    @property
    def _sensitivity(self) -> tuple[float, float]:
        return self.true_positives + self.prior, self.false_negatives + self.prior

    @property
    def _alarms(self) -> tuple[float, float]:
        return self.false_positives + self.prior, self.true_negatives + self.prior

    @property
    def _prevalence(self) -> tuple[float, float]:
        """Parameters of its Beta; a known one is (p, 1 - p) with nothing to draw."""
        if self.prevalence is None:
            return self.ill + 2 * self.prior, self.well + 2 * self.prior
        if isinstance(self.prevalence, tuple | list):
            return self.prevalence[0] + self.prior, self.prevalence[1] - self.prevalence[0] + self.prior
        return float(self.prevalence), 1 - float(self.prevalence)

    def _drawn(self, which: int, a: float, b: float) -> Tensor:
        if which == 0 and self.prevalence is not None and not isinstance(self.prevalence, tuple | list):
            return torch.tensor(a, dtype=torch.float64)
        drawn = torch.from_numpy(philox(self.seed, "screening", which).beta(a, b, DRAWS))
        return drawn.clamp(min=1e-300, max=1 - 1e-16)


def _whole(what: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0 or value != int(value):
        raise UsageError(
            f"there cannot be {value} {what}", needs="whole numbers of people, from 0", found=str(value),
            fix="counts; rates go into Screening(prevalence, sensitivity, false_positive)",
        )  # fmt: skip


def _pair(given: Any) -> None:
    if len(given) != 2:
        raise UsageError(
            "this is no count of ill people", needs="a pair: how many ill, of how many people", found=str(given),
            fix="prevalence=(12, 1000)",
        )  # fmt: skip
    for value in given:
        _whole("people", value)
    if given[0] > given[1] or not given[1]:
        raise UsageError(
            f"{given[0]} of {given[1]} people cannot be ill", needs="how many ill, of how many people",
            found=f"{given[0]} of {given[1]}", fix=f"{count(int(given[1]), 'ill person', 'ill people')} at most",
        )  # fmt: skip
