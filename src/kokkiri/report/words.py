"""Numbers as text: as many digits as their uncertainty leaves, and the sentence that a run comes down to."""

from __future__ import annotations

import math

from kokkiri.data.core import Target
from kokkiri.evaluation.compare import Comparison
from kokkiri.evaluation.values import Alternatives, Evaluation, Measure
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


def alternatives(table: Alternatives) -> list[str]:
    """What has to be known to read the table of repairs, a sentence or two each."""
    if table.left_out:
        return [f"Temperature scaling and conformal prediction are left out: {table.left_out}."]
    cut = "whole groups at random" if table.grouped else "at random"
    sizes = " and ".join(f"{n:,}" for n in table.halves)
    said = [
        f"Repairs learn from one half of the test rows and are judged on the other, both ways: {sizes} rows, cut {cut}."
    ]
    if table.factors:
        what = "Temperatures" if table.kind == "category" else "Its spread was multiplied by"
        said.append(f"{what} {' and '.join(map(full, table.factors))}: {_factors(table)}.")
    sets = "sets" if table.kind == "category" else "intervals"
    empty = " Where the model is surer than was asked for, sets may be empty." if table.kind == "category" else ""
    said.append(
        f"Conformal {sets} hold what they promise whatever the model, on average over rows; they have no density, so "
        f"that their scores are blank.{empty}"
    )
    return said


def alternative_columns(table: Alternatives) -> list[tuple[str, str]]:
    """Heads of the columns, in two lines each."""
    level = percent(table.level, 0)
    if table.kind == "category":
        last = (
            ("Brier", "score"),
            ("calibration", "error"),
            (f"its {level} sets", "hold"),
            ("classes", "in a set"),
        )
    else:
        last = (("", "CRPS"), ("calibration", "error"), (f"its {level} intervals", "hold"), ("mean", "width"))
    return [("log-", "likelihood"), *last]


def alternative_decimals(table: Alternatives) -> list[int | None]:
    """So many decimals for all numbers of a column: the model's; of sizes those of the least sure line that has any."""
    model = table.lines[0]
    sizes = [d for line in table.lines if (d := decimals_of(line.size)) is not None]
    known = [m for m in (model.log_likelihood, model.score, model.calibration) if m is not None]
    return [*map(decimals_of, known), min(sizes, default=2)]


def _factors(table: Alternatives) -> str:
    """What the halves agree on."""
    if all(f.low is not None and f.low > 1 for f in table.factors):
        return "both above 1, it was too sure"
    if all(f.high is not None and f.high < 1 for f in table.factors):
        return "both below 1, it was too unsure"
    if any(f.low is not None and f.high is not None and f.low <= 1 <= f.high for f in table.factors):
        return "1, which changes nothing, is not ruled out"
    return "the halves do not agree"


def novelty(evaluation: Evaluation) -> str:
    """Whether the model knows when it does not know, in one sentence; "" where that was not measured."""
    measure = None if evaluation.uncertainty is None else evaluation.uncertainty.novelty
    if measure is None:
        return ""
    what = "Rows that never were (test rows, the values of each column dealt out anew)"
    return f"{what} are told from real ones by its epistemic uncertainty: AUROC {full(measure)}, 0.5 is guessing."
