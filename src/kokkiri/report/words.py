"""Numbers as text: as many digits as their uncertainty leaves, and the sentence that a run comes down to."""

from __future__ import annotations

import math

from kokkiri.data.core import Target
from kokkiri.evaluation.compare import Comparison
from kokkiri.evaluation.values import Evaluation, Measure
from kokkiri.phrases import count, percent, plain


def value(measure: Measure, decimals: int | None = None) -> str:
    """The number alone, to the digits that its uncertainty leaves, or to so many decimals.

    >>> value(Measure("log-likelihood", -0.41234, "nats per row", se=0.0181))
    '-0.412'
    """
    if measure.unit == "proportion":
        return percent(measure.value, decimals or decimals_of(measure) or 1)
    return plain(measure.value, decimals_of(measure) if decimals is None else decimals)


def full(measure: Measure, decimals: int | None = None) -> str:
    """The number and how sure it is: ± one standard error, or the 95 % interval in brackets.

    >>> full(Measure("accuracy", 0.97368, "proportion", 0.9255, 0.9910))
    '97.4 % [92.5, 99.1]'
    >>> full(Measure("log-likelihood", -0.41234, "nats per row", se=0.0181))
    '-0.412 ± 0.018'
    """
    decimals, number = decimals_of(measure) if decimals is None else decimals, value(measure, decimals)
    if not math.isfinite(measure.value):
        return number
    if measure.se is not None and math.isfinite(measure.se):
        return f"{number} ± {plain(measure.se, decimals)}"
    if measure.low is None or measure.high is None:
        return number
    return f"{number} [{', '.join(range_of(measure, decimals))}]"


def range_of(measure: Measure, decimals: int | None = None) -> tuple[str, str]:
    """The ends of the interval, without a unit; of a proportion in percent."""
    decimals = decimals_of(measure) if decimals is None else decimals
    assert measure.low is not None
    assert measure.high is not None
    factor = 100 if measure.unit == "proportion" else 1
    return plain(factor * measure.low, decimals), plain(factor * measure.high, decimals)


def decimals_of(measure: Measure) -> int | None:
    """Decimals that show the standard error, or half the interval, with two digits; of a percentage one or two."""
    spread = measure.se
    if spread is None and measure.low is not None and measure.high is not None:
        spread = (measure.high - measure.low) / 2
    if measure.unit == "proportion":
        return 2 if spread is not None and spread < 0.005 else 1
    if spread is None or not math.isfinite(spread) or spread <= 0:
        return None
    return min(6, max(0, 1 - math.floor(math.log10(spread))))


def sentence(evaluation: Evaluation, comparison: Comparison, target: Target) -> str:
    """What came out, in one sentence."""
    others = ", ".join(f"{line.name} {value(line.measures[0])}" for line in comparison.lines[1:])
    rows = f"{count(evaluation.rows, 'test row')} it had never seen"
    others = f" ({others})" if others else ""
    headline = value(evaluation.headline)
    if target.kind == "category":
        return f"Right in {headline} of {rows}{others}."
    if evaluation.headline.name == "R²":
        return f"Explains {headline} of the variance (R²) of {rows}{others}."
    r2 = evaluation.metric("R²").value
    share = f"; it explains {percent(r2)} of their variance" if r2 > 0 else "; no better than their own mean"
    return f"Off by {headline} (root mean square, in units of {target.name}) on {rows}{others}{share}."


def calibration(evaluation: Evaluation) -> str:
    """Whether the probabilities can be believed, in one sentence."""
    if evaluation.classes is not None:
        c = evaluation.classes.calibration
        verdict = (
            "these rows cannot tell its probabilities from right ones"
            if c.as_good_as_right
            else "more than chance explains"
        )
        chance = f"right ones would show {percent(c.by_chance)} by chance, rarely more than {percent(c.by_chance_high)}"
        return f"Its probabilities are off by {full(c.error)} on average (calibration error); {chance}: {verdict}."
    assert evaluation.numbers is not None
    nine = evaluation.numbers.at(0.9)
    low, high = nine.covered.low or 0.0, nine.covered.high or 1.0
    verdict = (
        "as they should"
        if low <= 0.9 <= high
        else "too few: it is too sure"
        if high < 0.9
        else "too many: it is too unsure"
    )
    return f"Its 90 % intervals held {full(nine.covered)} of the truths: {verdict}."
