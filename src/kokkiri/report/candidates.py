"""The candidates of a run side by side: their held-out log-likelihood, their evidence, and whether the two agree."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from kokkiri.phrases import plain
from kokkiri.records import Candidate

SMALL = 1.0  # nats of evidence that say nothing: Laplace's own error is larger
QUICK = " (quick)"  # the ending of a quick look's name


def ordered(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Best first: those that no rows were held out for by evidence, then the others by held-out log-likelihood."""
    key = lambda c: (not math.isnan(c.held_out), -(c.evidence or -math.inf) if math.isnan(c.held_out) else -c.held_out)
    return sorted(candidates, key=key)


def judge(candidates: Sequence[Candidate]) -> str:
    """What decided, in a sentence."""
    if any(c.chosen and math.isnan(c.held_out) for c in candidates):
        return (
            "Quick looks were judged by their log-likelihood on held-out training rows, the finals, trained on all "
            "training rows, by their evidence, log p(training rows); the test rows had no say."
        )
    return "Candidates were judged by their log-likelihood on held-out training rows; the test rows had no say."


def paired(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Those that have both figures; a final without held-out rows takes those of its quick look."""
    quick = {c.name.removesuffix(QUICK): c for c in candidates if c.name.endswith(QUICK)}
    both = []
    for c in candidates:
        look = quick.get(c.name)
        if math.isnan(c.held_out) and look is not None:
            c = replace(c, held_out=look.held_out, se=look.se)  # ruff: ignore[redefined-loop-name]
        if c.evidence is not None and math.isfinite(c.held_out):
            both.append(c)
    return both


def disagreement(candidates: Sequence[Candidate]) -> str:
    """Whether evidence and held-out rows agree on the order, in a sentence; "" where fewer than two have both figures.

    >>> a = Candidate("linear", -1.2, 0.1, 1.0, 9, evidence=-130.0)
    >>> b = Candidate("MLP 64", -0.9, 0.1, 2.0, 99, evidence=-150.0)
    >>> disagreement([a, b])
    'Evidence prefers linear, by 20.0 nats in all; held-out rows prefer MLP 64, by 0.300 nats per row.'
    """
    both = paired(candidates)
    if len(both) < 2:
        return ""
    seen = max(both, key=lambda c: c.held_out)
    sure = max(both, key=lambda c: c.evidence or -math.inf)
    assert sure.evidence is not None
    assert seen.evidence is not None
    if seen is not sure:
        gap = seen.held_out - sure.held_out
        chance = ", less than one standard error" if gap < max(seen.se, sure.se) else ""
        if sure.evidence - seen.evidence < SMALL:
            return (
                f"Evidence does not tell {sure.name} from {seen.name} (less than a nat in all); held-out rows prefer "
                f"{seen.name}, by {plain(gap, 3)} nats per row{chance}."
            )
        return (
            f"Evidence prefers {sure.name}, by {plain(sure.evidence - seen.evidence, 1)} nats in all; held-out rows "
            f"prefer {seen.name}, by {plain(gap, 3)} nats per row{chance}."
        )
    rest = [(a, b) for i, a in enumerate(both) for b in both[i + 1 :] if _apart(a, b)]
    if not rest:
        return f"Evidence and held-out rows put the {len(both)} that have both in the same order."
    a, b = rest[0]
    others = f", and of {len(rest) - 1} more pairs" if len(rest) > 2 else ", and of one more pair" if rest[1:] else ""
    return f"Evidence and held-out rows agree on the best, not on the order of {a.name} and {b.name}{others}."


def _apart(a: Candidate, b: Candidate) -> bool:
    assert a.evidence is not None
    assert b.evidence is not None
    return (a.held_out - b.held_out) * (a.evidence - b.evidence) < 0
