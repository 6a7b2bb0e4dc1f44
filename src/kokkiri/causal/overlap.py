"""Overlap: whether rows with each treatment are alike enough for one to stand for the other, and what if they are not.

Where nobody like a row had the other treatment, its effect is not seen but extrapolated. Three numbers tell: how many
rows the weighted rows of each arm are worth (effective size), how many rows have less than THIN probability of one of
the treatments, and which share of the effect, |μ_a(x) - μ_v(x)| added up, is theirs. A fourth tells whether the
propensity itself is right: weights 1 / e of an arm must add up to all rows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from kokkiri import phrases
from kokkiri.causal.estimand import wrapped
from kokkiri.errors import ShapeError
from kokkiri.numerics.weighting import arm_weights, effective_size

THIN = 0.05  # a probability below which rows like it hardly had that treatment (as in grf)
BINS = 20
FEW, SHARE = 30, 0.3  # effective rows of an arm, and their share of the arm's rows, below which overlap is weak
FEW_NEAR = 15  # the same near a dose, where a curve has support from both sides
HALF, BAD = 0.02, 0.10  # of rows, or of the effect, that rest on extrapolation: from where weak, from where bad
NORMED = 4.0  # standard errors by which the weights of an arm may miss all rows


@dataclass(frozen=True, eq=False)
class Arm:
    """One of the two treatments. rows: that had it; effective: what they are worth once weighted; heaviest: the share
    of the largest weight; total: their weights over all rows, 1 if the propensity is right, with its standard error.
    counts: (BINS,) rows by their probability of the level that is compared.
    """

    name: str
    rows: int
    effective: float
    heaviest: float
    total: float
    se: float
    counts: Tensor


@dataclass(frozen=True, eq=False)
class Overlap:
    """Of two treatments among the rows that an effect is about. beyond: share of these with less than THIN probability
    of a treatment that they are compared with; effect_beyond: the share of the effect that is theirs (nan without
    predictions); clipped: rows whose propensity was raised to a floor. doses: whether two values of a number are
    compared: an arm are the rows near one of them, and a probability is a density over its mean among all rows.
    """

    level: Arm
    versus: Arm
    whom: str
    beyond: float
    effect_beyond: float
    least: float
    clipped: int = 0
    doses: bool = False

    @property
    def grade(self) -> str:
        """Good, weak or bad; none where no row could have had both."""
        resting = max(self.beyond, 0.0 if math.isnan(self.effect_beyond) else self.effect_beyond)
        arms = (self.level, self.versus)
        if self.beyond > 0.99:
            return "none"
        if resting > BAD or min(a.effective for a in arms) < (FEW_NEAR if self.doses else FEW):
            return "bad"
        # among those whose own treatment they are (the treated), an arm is not weighted
        thin = any(a.effective < SHARE * a.rows for a in arms)
        return "weak" if resting > HALF or thin or self.misfit else "good"

    @property
    def misfit(self) -> list[Arm]:
        """Arms whose weights do not add up to all rows: the propensity is off."""
        return [a for a in (self.level, self.versus) if abs(a.total - 1) > max(NORMED * a.se, 0.05)]

    @property
    def verdict(self) -> str:
        """In words."""
        worst = min((self.level, self.versus), key=lambda a: a.effective / max(a.rows, 1))
        worth = f"the {worst.rows:,} rows with {worst.name} are worth {worst.effective:,.0f}"
        share = f"{phrases.percent(self.beyond)} of the rows, and {phrases.percent(self.effect_beyond)} of the effect,"
        if math.isnan(self.effect_beyond):
            share = f"{phrases.percent(self.beyond)} of the rows"
        rest = f"{share} rest on extrapolation"
        if self.grade == "none":
            return "no overlap at all: what is compared never occurs among rows that are alike; this is no effect"
        if self.grade == "bad":
            return f"bad overlap: {rest}; {worth}. Do not trust the number for all rows"
        if self.grade == "weak":
            return f"weak overlap: {rest}; {worth}"
        return f"good overlap: {rest}; {worth}"

    @property
    def warnings(self) -> tuple[str, ...]:
        """What must be read with the effect."""
        found = [self.verdict] if self.grade != "good" else []
        whose = "density of the treatment" if self.doses else "propensity"
        found += [
            f"the weights of {a.name} add up to {a.total:.2f} times the rows, and should to 1.00 ± {a.se:.2f}: the "
            f"{whose} is off, and what is corrected by it" for a in self.misfit
        ]  # fmt: skip
        if self.clipped:
            found.append(
                f"the propensity of {phrases.count(self.clipped, 'row')} was raised to the least that is allowed"
            )
        return tuple(found)

    def picture(self) -> str:
        """Propensities of both arms, one upwards and one downwards, as SVG text."""
        from kokkiri.causal.check_pictures import overlap

        return overlap(self)

    def rows(self) -> list[list[str]]:
        """A line for each arm."""
        both = (self.level, self.versus)
        return [
            [a.name, f"{a.rows:,}", f"{a.effective:,.0f}", phrases.percent(a.heaviest), f"{a.total:.2f} ± {a.se:.2f}"]
            for a in both
        ]

    def __str__(self) -> str:
        table = phrases.table(["arm", "rows", "worth", "largest weight", "weights / rows"], self.rows())
        lines = wrapped(self.verdict, "", "  ")
        for text in self.warnings[1:] if self.grade != "good" else self.warnings:
            lines += wrapped(text, "! ", "  ")
        return f"{table}\n\n" + "\n".join(lines)


def overlap_of(
    treatment: Tensor,
    propensity: Tensor,
    *,
    level: int,
    versus: int,
    names: tuple[str, str] = ("treated", "untreated"),
    outcome: Tensor | None = None,
    whom: str = "average",
    clipped: int = 0,
) -> Overlap:
    """From treatments (n,), propensities (K, n) out of fold, and predictions (K, n) of the outcome.

    >>> t = torch.tensor([0, 1] * 50)
    >>> print(overlap_of(t, torch.full((2, 100), 0.5, dtype=torch.float64), level=1, versus=0).verdict)
    good overlap: 0.0 % of the rows rest on extrapolation; the 50 rows with treated are worth 50
    """
    must_be_probabilities(treatment, propensity, level, versus)
    propensity = propensity.double()
    about = {"average": torch.ones_like(treatment, dtype=torch.bool), "treated": treatment == level}.get(
        whom, treatment == versus
    )
    compared = {"average": (level, versus), "treated": (versus,)}.get(whom, (level,))
    thin = torch.stack([propensity[k] < THIN for k in compared]).any(0)
    beyond = float(thin[about].double().mean())
    effect = math.nan
    if outcome is not None:
        size = (outcome[level] - outcome[versus]).abs()[about].double()
        effect = float(size[thin[about]].sum() / size.sum()) if float(size.sum()) > 0 else beyond
    both = arm_weights(treatment, propensity, level, versus, whom)
    goal = float(about.sum())
    arms = []
    for k, name, w in zip((level, versus), names, both, strict=True):
        had = treatment == k
        inside = w[had]
        total = float(w.sum()) / goal
        se = float((w - about * total).square().sum().sqrt()) / goal
        counts = torch.histc(propensity[level][had], BINS, 0.0, 1.0)
        arms.append(Arm(name, int(had.sum()), float(effective_size(inside)), float(inside.max() / inside.sum()),
                        total, se, counts))  # fmt: skip
    least = float(torch.stack([propensity[k][about].min() for k in compared]).min())
    return Overlap(arms[0], arms[1], whom, beyond, effect, least, clipped)


def must_be_probabilities(treatment: Tensor, propensity: Tensor, level: int, versus: int) -> None:
    """Errors for shapes, for numbers that are no probabilities, and for settings that no row has."""
    if propensity.ndim != 2 or propensity.shape[1] != len(treatment):
        raise ShapeError("propensities do not fit the treatments", needs=f"(levels, {len(treatment)})",
                         found=str(tuple(propensity.shape)), fix="a probability for each level and row")  # fmt: skip
    if not bool(((propensity >= 0) & (propensity <= 1)).all()):
        raise ShapeError("propensities are no probabilities", needs="numbers from 0 to 1", found=phrases.plain(
            float(propensity[~((propensity >= 0) & (propensity <= 1))][0])), fix="softmax of the log-odds")  # fmt: skip
    for k in (level, versus):
        if not 0 <= k < len(propensity) or not bool((treatment == k).any()):
            raise ShapeError(f"no row has treatment {k}", needs="rows of both settings", found="none",
                             fix="settings that occur")  # fmt: skip
