"""Sensitivity: how strong a hidden common cause must be to undo an effect, each measure with its posterior.

Every measure is a number that each draw of the posterior has: how strong the cause must be for that draw's effect to
become zero, and nothing where the draw is on the other side already. Its value at the posterior mean says what explains
the effect away; the lower end of its 95 % interval is the strength at which the effect's own interval reaches zero.

- E-value: risk ratios of the hidden cause with treatment and with outcome (VanderWeele & Ding 2017).
- robustness value: its partial R² with both (Cinelli & Hazlett 2020; Chernozhukov et al. 2022 without a linear model).
- Λ: the factor by which it may shift anybody's odds of treatment, by sharp bounds (Dorn, Guo & Kallus 2024).
- Γ: the factor by which the odds of two rows that look alike may differ, by signed ranks of matched pairs (Rosenbaum
  2002), of outcomes less their predictions without treatment.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from kokkiri import phrases
from kokkiri.causal.estimand import wrapped
from kokkiri.exact.intervals import drawn_interval

KINDS = {
    "e-value": "E-value",
    "robustness": "robustness value",
    "marginal": "marginal sensitivity Λ",
    "rosenbaum": "Rosenbaum's Γ",
}
NOTHING = {"e-value": 1.0, "robustness": 0.0, "marginal": 1.0, "rosenbaum": 1.0}


@dataclass(frozen=True, eq=False)
class Measure:
    """One of KINDS. at: for the posterior mean; draws: (S,) of it. note: on what scale, or by what other rule."""

    kind: str
    at: float
    draws: Tensor
    note: str = ""

    @property
    def name(self) -> str:
        """As people say it."""
        return KINDS[self.kind]

    @property
    def interval(self) -> tuple[float, float]:
        """The central 95 % interval; its lower end is where that of the effect reaches zero."""
        if not bool(self.draws.isfinite().all()):
            ends = torch.tensor([0.025, 0.975], dtype=self.draws.dtype)
            low, high = torch.quantile(self.draws, ends, interpolation="lower").tolist()
            return low, high
        found = drawn_interval(self.draws, NOTHING[self.kind], 0.95)
        return found.low, found.high

    @property
    def meaning(self) -> str:
        """In words: what would explain the effect away, and what would make its interval reach zero."""
        at, low = self.number(self.at), self.interval[0]
        nothing = low <= NOTHING[self.kind] * (1 + 1e-9) + 1e-9
        reach = "" if nothing else f"; from {self.number(low)} on the interval holds zero"
        says = {
            "e-value": f"a hidden cause with risk ratios of {at} with treatment and outcome explains it away",
            "robustness": f"one that explains {at} of what is left of both, treatment and outcome, explains it away",
            "marginal": f"one that shifts the odds of treatment by a factor of {at} at the most may explain it away",
            "rosenbaum": f"one by which the odds of two alike differ by a factor of {at} may explain it away",
        }
        return f"{says[self.kind]}{reach}"

    def number(self, value: float) -> str:
        """As it is printed."""
        if self.kind == "robustness":
            return phrases.percent(value)
        return f"over {self._top:g}" if value == float("inf") else phrases.plain(value, 2)

    @property
    def _top(self) -> float:
        finite = self.draws[self.draws.isfinite()]
        return max(10.0, float(finite.max())) if len(finite) else 10.0


@dataclass(frozen=True, eq=False)
class Bounds:
    """Of the effect under the marginal sensitivity model: factors Λ (L,), the least and the greatest effect (L,), and
    with the posterior around them: 2.5 % of the least and 97.5 % of the greatest.
    """

    factors: Tensor
    least: Tensor
    greatest: Tensor
    low: Tensor
    high: Tensor


@dataclass(frozen=True)
class Benchmark:
    """The measured covariate that would matter most if it were hidden: its partial R² with treatment and outcome."""

    name: str
    treatment: float
    outcome: float


@dataclass(frozen=True, eq=False)
class Sensitivity:
    """Measures of one effect. estimate: its posterior mean. bounds: for the picture. benchmark: what a measured
    covariate does, for comparison. left_out: measures that do not apply, with the reason.
    """

    estimate: float
    measures: tuple[Measure, ...]
    bounds: Bounds | None = None
    benchmark: Benchmark | None = None
    left_out: tuple[tuple[str, str], ...] = ()

    def __getitem__(self, kind: str) -> Measure:
        """One of the measures."""
        return next(m for m in self.measures if m.kind == kind)

    @property
    def verdict(self) -> str:
        """In one sentence."""
        if not self.measures:
            return "no measure of hidden common causes applies"
        first = self.measures[0]
        if first.interval[0] <= NOTHING[first.kind] + 1e-9:
            return "the interval of the effect holds zero as it is: no hidden cause is needed to explain it away"
        if self.benchmark is None or not any(m.kind == "robustness" for m in self.measures):
            return first.meaning
        value, b = self["robustness"], self.benchmark
        # the bias of a cause with these partial R², in the units of that which undoes the effect (eq. 13)
        stronger = b.outcome * b.treatment / max(1 - b.treatment, 1e-12) >= value.at**2 / max(1 - value.at, 1e-12)
        told = f"one as strong as {b.name}, the strongest that was measured, would{'' if stronger else ' not'}"
        shares = f"{phrases.percent(b.treatment)} with treatment, {phrases.percent(b.outcome)} with outcome"
        return f"a hidden cause with a partial R² of {value.number(value.at)} undoes the effect; {told}: {shares}"

    def rows(self) -> list[list[str]]:
        """A line for each measure."""
        out = []
        for m in self.measures:
            low, high = m.interval
            out.append([m.name, m.number(m.at), f"{m.number(low)} to {m.number(high)}", m.number(NOTHING[m.kind])])
        return out

    def remarks(self) -> list[str]:
        """What each number means, notes, and what was left out."""
        return [*(f"{m.name}: {m.meaning}" for m in self.measures), *self.asides()]

    def asides(self) -> list[str]:
        """Notes, and what was left out."""
        found = [f"{m.name}: {m.note}" for m in self.measures if m.note]
        reasons = dict.fromkeys(why for _, why in self.left_out)
        for reason in reasons:
            names = phrases.joined([KINDS[kind] for kind, why in self.left_out if why == reason])
            found.append(f"left out: {names}: {reason}")
        return found

    def picture(self) -> str:
        """Bounds of the effect by Λ, as SVG text; "" without them."""
        from kokkiri.causal.check_pictures import sensitivity

        return sensitivity(self) if self.bounds is not None else ""

    def __str__(self) -> str:
        lines = wrapped(self.verdict, "", "  ")
        for remark in self.remarks():
            lines += wrapped(remark, "- ", "  ")
        table = phrases.table(["undone by", "at the mean", "95 % interval", "nothing is"], self.rows())
        return f"{table}\n\n" + "\n".join(lines) if self.measures else "\n".join(lines)
