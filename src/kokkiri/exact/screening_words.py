"""Screening tests as text of at most 80 columns."""

from __future__ import annotations

import math
import textwrap
from typing import TYPE_CHECKING

from torch import Tensor

from kokkiri.phrases import count, percent, plain, probability, table

if TYPE_CHECKING:
    from kokkiri.exact.intervals import Interval
    from kokkiri.exact.screening import Frequencies, Screening, SecondTest
    from kokkiri.exact.screening_counts import ScreeningCounts

MEANINGS = {
    "precision": "P(ill | positive)",
    "recall": "P(positive | ill), the sensitivity",
    "type I error": "P(positive | well): a false alarm",
    "type II error": "P(negative | ill): a miss",
    "specificity": "P(negative | well)",
    "accuracy": "P(the result is right)",
    "likelihood ratio +": "P(+ | ill) / P(+ | well)",
    "likelihood ratio -": "P(- | ill) / P(- | well)",
}
RESULTS = ((True, True), (True, False), (False, True), (False, False))


def short(test: Screening) -> str:
    """For a repr."""
    if test.prevalence.ndim:
        return f"Screening({count(test.prevalence.numel(), 'case')})"
    values = (test.prevalence, test.sensitivity, test.false_positive)
    return f"Screening({', '.join(f'{float(v):g}' for v in values)})"


def screening_text(test: Screening) -> str:
    """Everything that follows from the three rates."""
    if test.prevalence.ndim:
        return _many(test)
    head = (
        f"prevalence {_percent(test.prevalence)}, sensitivity {_percent(test.sensitivity)}, "
        f"false-positive rate {_percent(test.false_positive)}"
    )
    results = table(
        ["result", "P(result)", "P(ill | result)"],
        [
            ["positive", _p(test.positive), _p(test.after_positive)],
            ["negative", _p(1 - test.positive), _p(test.after_negative)],
        ],
    )
    values = (
        _p(test.precision), _p(test.recall), _p(test.type_one), _p(test.type_two), _p(test.specificity),
        _p(test.accuracy), _ratio(test.ratio_positive), _ratio(test.ratio_negative),
    )  # fmt: skip
    measures = table(
        ["measure", "", "value"], [[*pair, value] for pair, value in zip(MEANINGS.items(), values, strict=True)], left=2
    )
    return "\n\n".join(filter(None, [head, results, measures, wrapped(natural(test)), *remarks(test)]))


def counted_text(test: ScreeningCounts) -> str:
    """The same from counts, each number with its interval."""
    head = (
        f"{count(int(test.ill), 'ill person', 'ill people')}, {int(test.true_positives):,} of them positive; "
        f"{int(test.well):,} well, {int(test.false_positives):,} of them positive. Prevalence {test.says_prevalence}. "
        f"Brackets: {percent(test.level, 0)} posterior intervals."
    )
    rows = lambda pairs: [[name, *of_interval(value)] for name, value in pairs]
    results = table(
        ["result", "P(ill | result)", "interval"],
        rows((("positive", test.after_positive), ("negative", test.after_negative))),
    )
    values = (
        test.precision, test.recall, test.type_one, test.type_two, test.specificity, test.accuracy,
        test.ratio_positive, test.ratio_negative,
    )  # fmt: skip
    lines = [[*pair, *of_interval(value)] for pair, value in zip(MEANINGS.items(), values, strict=True)]
    measures = table(["measure", "", "value", "interval"], lines, left=2)
    people = wrapped(natural(test.rates))
    return "\n\n".join(filter(None, [wrapped(head), results, measures, people, *remarks(test.rates)]))


def second_text(two: SecondTest) -> str:
    """Four results and two ways to make one test of two."""
    rows = [[_name(a, b), _p(two.probability(a, b)), _p(two.after(a, b))] for a, b in RESULTS]
    ways = [
        [name, _p(way.precision), _p(way.recall), _p(way.type_one), _p(way.type_two)]
        for name, way in (("positive twice", two.both), ("positive once at least", two.either))
    ]
    return "\n\n".join([
        wrapped(f"A second test, {dependence_text(two)}"),
        table(["results", "P(results)", "P(ill | results)"], rows),
        table(["act if", "precision", "recall", "type I error", "type II error"], ways),
    ])


def counted_second_text(title: str, found: dict[tuple[bool, bool], Interval]) -> str:
    """The results of two tests whose rates were counted."""
    rows = [[_name(*results), *of_interval(value)] for results, value in found.items()]
    return wrapped(f"A second test, {title}") + "\n\n" + table(["results", "P(ill | results)", "interval"], rows)


def dependence_text(two: SecondTest) -> str:
    """How the second test hangs together with the first."""
    if not two.among_ill and not two.among_well:
        return "independent of the first given the illness"
    if two.among_ill == two.among_well:
        return f"its result correlated with the first's by {float(two.among_ill):g}, given the illness"
    ill, well = float(two.among_ill), float(two.among_well)
    return f"its result correlated with the first's by {ill:g} among the ill, {well:g} among the well"


def natural(test: Screening) -> str:
    """The same in numbers of people, easier to think with (Gigerenzer and Hoffrage 1995); "" where hardly one is ill.

    >>> from kokkiri.exact import Screening
    >>> print(wrapped(natural(Screening(0.1, 0.99, 0.01))))
    Of 1,000 people, 100 are ill: 99 of them test positive and 1 is missed. The
    other 900 are well: 9 of them test positive all the same, false alarms. So of
    108 who test positive 99 are ill: 91.7 %. Of 892 who test negative 1 is ill.
    """
    people = _enough(test)
    hit, missed, alarms, right = whole(test.frequencies(people))
    if not hit + missed or not alarms + right:
        return ""
    positive, negative = hit + alarms, missed + right
    be = lambda n: "is" if n == 1 else "are"
    said = f"Of {people:,} people, {hit + missed:,} {be(hit + missed)} ill: {hit:,} of them test positive and "
    said += f"{missed:,} {be(missed)} missed. The other {alarms + right:,} are well: {alarms:,} of them test positive "
    said += "all the same, false alarms. "
    share = f": {percent(hit / positive)}" if positive else ""
    said += f"So of {positive:,} who test positive {hit:,} {be(hit)} ill{share}. "
    return said + f"Of {negative:,} who test negative {missed:,} {be(missed)} ill."


def remarks(test: Screening) -> list[str]:
    """What is odd about a test, a sentence each."""
    s, f = float(test.sensitivity), float(test.false_positive)
    if s == f:
        return [wrapped("! The test says nothing: it is positive as often among the well as among the ill.")]
    if s < f:
        return [wrapped("! The test is positive more often among the well than among the ill: its answers are turned.")]
    return []


def whole(f: Frequencies) -> tuple[int, int, int, int]:
    """Whole people."""
    hit, missed, alarms, right = (round(float(v)) for v in f[1:])
    return hit, missed, alarms, right


def of_interval(value: Interval) -> tuple[str, str]:
    """A value and its interval, of one number of digits."""
    if max(value.value, value.high) > 1:
        return _ratio(value.value), f"[{_ratio(value.low)}, {_ratio(value.high)}]"
    return probability(value.value), f"[{probability(value.low)}, {probability(value.high)}]"


def wrapped(text: str) -> str:
    """Lines of at most 80 columns."""
    return textwrap.fill(text, 80)


def _enough(test: Screening) -> int:
    """So many people that whole ones tell each group to 5 %."""
    people = 1000
    while people < 10**9:
        cells = test.frequencies(people)[1:]
        if all(not float(v) or abs(round(float(v)) - float(v)) <= 0.05 * float(v) for v in cells):
            break
        people *= 10
    return people


def _many(test: Screening) -> str:
    flat = [t.flatten()[:10].tolist() for t in (test.prevalence, test.sensitivity, test.false_positive)]
    after = [t.flatten()[:10].tolist() for t in (test.after_positive, test.after_negative)]
    rows = [list(map(probability, line)) for line in zip(*flat, *after, strict=True)]
    header = ["prevalence", "sensitivity", "false positive", "P(ill | +)", "P(ill | -)"]
    rest = test.prevalence.numel() - len(rows)
    return table(header, rows, left=0) + (f"\n… {count(rest, 'case')} more" if rest > 0 else "")


def _name(first: bool, second: bool) -> str:
    return ", ".join("positive" if result else "negative" for result in (first, second))


def _p(p: Tensor) -> str:
    return "never comes" if math.isnan(float(p)) else probability(float(p))


def _percent(p: Tensor) -> str:
    return f"{plain(100 * float(p))} %"


def _ratio(value: Tensor | float) -> str:
    return "none" if math.isnan(float(value)) else plain(float(value))
