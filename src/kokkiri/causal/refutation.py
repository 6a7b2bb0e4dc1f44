"""An honest attempt to break an estimate: what replicates of the data say of it, with plain verdicts.

Each refuter asks one thing that must hold if estimate and interval are right. What is held against them allows for
the replicates' own scatter, and for how far a good estimator of few rows may miss; with R refuters each verdict is at
level 0.05 / R (Bonferroni), so that a right estimate is convicted by any of them once in twenty times at the most.

- placebo: without an effect, the effects found must scatter around 0, no farther than half their spread, and their
  spread must be that which their standard errors claim, within a quarter.
- cause: a column of noise must not move the estimate by half its standard deviation.
- subset: estimates from a share f of the rows must scatter about that of all by √((1 - f) / f) posterior standard
  deviations (Politis & Romano 1994), within half of that, and around it, within half a standard deviation.
- dummy: an outcome on which the treatment cannot act must have no effect within its own standard error.
- bootstrap: estimates from rows weighted anew must scatter as the posterior does, within half of it, and around the
  estimate, within half a standard deviation.

An estimate that passes is not proved: no refuter sees a hidden common cause. That is what sensitivity asks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from kokkiri import phrases
from kokkiri.causal.estimand import wrapped
from kokkiri.causal.replicates import NAMES, SHARE
from kokkiri.numerics.one_step import Estimates

LEVEL = 0.05
BIAS = 0.5  # of a standard deviation: a 95 % interval off by that still covers 92 %
WIDER = 1.25  # scatter over what is claimed, for the estimator itself: 88 %
MANY = 80  # rows of a setting from which on replicates' models are as good as those of all rows
SCATTER = 1.5  # the same against the posterior, whose model may differ: a 95 % interval covers 81 %


@dataclass(frozen=True, eq=False)
class Line:
    """One refuter. expected, spread: what a right estimate gives; draws: what the replicates gave, ses: their standard
    errors. convicted: why in words, "" if it passes. full: some of the same replicates with everything fitted anew.
    moments: whether they have a mean; else the median stands for it, and the quartiles for the standard deviation.
    """

    refuter: str
    expected: float
    spread: float
    draws: Tensor
    ses: Tensor
    convicted: str = ""
    full: Tensor | None = None
    moments: bool = True

    @property
    def name(self) -> str:
        """As people say it."""
        return NAMES[self.refuter]

    @property
    def mean(self) -> float:
        """Of the replicates."""
        return float(self.draws.mean() if self.moments else self.draws.median())

    @property
    def sd(self) -> float:
        """Of the replicates."""
        return scatter(self.draws, moments=self.moments)

    def beside(self, full: Tensor) -> Line:
        """The same with the answers of a few replicates that were fitted anew."""
        return replace(self, full=full)

    @property
    def holds(self) -> int:
        """In how many replicates the 95 % interval contains what is expected."""
        return int(((self.draws - self.expected).abs() <= 1.959964 * self.ses).sum())

    @property
    def verdict(self) -> str:
        """One word."""
        return "convicts" if self.convicted else "passes"


@dataclass(frozen=True, eq=False)
class Refutation:
    """What the refuters say. estimate, sd: of the posterior; base: what the estimator of the replicates gives for the
    rows as they are. skipped: refuters that do not apply, with the reason. method: in words. share: of a subset.
    """

    estimate: float
    sd: float
    base: float
    lines: tuple[Line, ...]
    method: str
    beyond: float
    skipped: tuple[tuple[str, str], ...] = ()
    share: float = SHARE
    notes: tuple[str, ...] = ()

    @property
    def convicted(self) -> bool:
        """Whether any refuter convicts."""
        return any(line.convicted for line in self.lines)

    @property
    def verdict(self) -> str:
        """In one sentence."""
        guilty = [line.name for line in self.lines if line.convicted]
        if guilty:
            return f"convicted by {' and '.join(guilty)}: do not trust the number or its interval"
        return "nothing convicts it; hidden common causes are beyond these, see sensitivity"

    @property
    def gaps(self) -> list[str]:
        """How far replicates with everything fitted anew are from these."""
        found = []
        for line in self.lines:
            if line.full is not None:
                same = line.draws[: len(line.full)]
                off = float((line.full - same).mean()) / self.sd
                ratio = float(line.full.std() / same.std()) if len(same) > 2 else math.nan
                spread = (
                    "" if math.isnan(ratio) else f"; their scatter is {phrases.plain(ratio, 2)} times that of these"
                )
                many = phrases.count(len(same), "replicate")
                found.append(f"{line.name}: {many} with everything fitted anew, off by {off:+.2f} posterior standard "
                             f"deviations{spread}")  # fmt: skip
        return found

    def rows(self) -> list[tuple[str, str, str, str]]:
        """Refuter, what is expected, what was found, verdict."""
        scale = max(self.sd, 1e-300)
        digits = max(0, min(8, 2 - math.floor(math.log10(scale)))) if math.isfinite(scale) else 3
        # what is smaller than the last digit is rounding, not a number with a power of ten
        kept = lambda v: 0.0 if abs(v) < 0.5 * 10.0**-digits else v
        number = lambda v: phrases.plain(kept(v), digits)
        out = []
        for line in self.lines:
            name = f"{line.name} ({100 * self.share:g} %)" if line.refuter == "subset" else line.name
            expected = "0" if line.refuter in {"placebo", "dummy"} else number(line.expected)
            if line.refuter in {"subset", "bootstrap"}:
                expected += f" ± {number(line.spread)}"
            out.append((name, expected, f"{number(line.mean)} ± {number(line.sd)}", line.verdict))
        return out

    def remarks(self) -> list[str]:
        """Why convicted, what was skipped, gaps, notes."""
        found = [f"{line.name}: {line.convicted}" for line in self.lines if line.convicted]
        for line in self.lines:
            if line.refuter == "placebo":
                inside = f"{line.holds} of {len(line.draws)} placebo intervals hold 0"
                larger = f"the effect itself is larger than {phrases.percent(self.beyond, 0)} of the placebos"
                found.append(f"{inside}; {larger}")
        found += [f"{NAMES[name]} left out: {reason}" for name, reason in self.skipped]
        return [*found, *self.gaps, *self.notes]

    def picture(self) -> str:
        """Replicates of each refuter beside what is expected, as SVG text."""
        from kokkiri.causal.check_pictures import refutation

        return refutation(self)

    def __str__(self) -> str:
        table = phrases.table(["refuter", "expected", "found", "verdict"], self.rows())
        lines = wrapped(self.verdict, "", "  ")
        for remark in self.remarks():
            lines += wrapped(remark, "- ", "  ")
        return f"{table}\n\n" + "\n".join([*lines, *wrapped(f"replicates: {self.method}", "- ", "  ")])

    def __repr__(self) -> str:
        return f"Refutation({', '.join(f'{line.refuter} {line.verdict}' for line in self.lines)})"


def eased(rows: int) -> float:
    """How many times wider limits are where the replicates' own models have so few rows of a setting.

    What noise in a handful of rows does to them falls with the root of the rows; from MANY rows on it is nothing beside
    the limits (benchmarks/refuters.py, "right").

    >>> eased(200), round(eased(15), 2)
    (1.0, 2.31)
    """
    return max(1.0, math.sqrt(MANY / max(rows, 1)))


class Claim(NamedTuple):
    """What is held against a line: the posterior standard deviation, z of the level of each verdict, and how many times
    wider the limits are than with many rows.
    """

    sd: float
    z: float
    ease: float = 1.0


def scatter(draws: Tensor, *, moments: bool = True) -> float:
    """The standard deviation, or that of a normal with the same quartiles.

    >>> scatter(torch.tensor([1.0, 3.0])), round(scatter(torch.linspace(-1, 1, 101), moments=False), 3)
    (1.414..., 0.741)
    """
    if len(draws) < 2:
        return math.nan
    if moments:
        return float(draws.std())
    low, high = torch.quantile(draws, torch.tensor([0.25, 0.75], dtype=draws.dtype))
    return float(high - low) / 1.3489795


def judged(
    refuter: str,
    found: Estimates,
    base: float,
    sd: float,
    refuters: int,
    *,
    share: float = SHARE,
    moments: bool = True,
    ease: float = 1.0,
) -> Line:
    """The line of one refuter. base: the estimator on the rows as they are; sd: of the posterior; ease: see `eased`."""
    z = float(torch.special.ndtri(torch.tensor(1 - LEVEL / (2 * max(refuters, 1)), dtype=torch.float64)))
    draws, ses = (v.detach().double() for v in found)
    spread = float(ses.square().mean().sqrt() if moments else ses.median())
    if refuter in {"subset", "bootstrap"}:
        spread = sd * (math.sqrt((1 - share) / share) if refuter == "subset" else 1.0)
    line = Line(refuter, 0.0 if refuter in {"placebo", "dummy"} else base, spread, draws, ses, moments=moments)
    if not bool(draws.isfinite().all()):
        return replace(line, convicted="some replicates have no estimate: the rows are too few, or too alike")
    return replace(line, convicted=_RULES[refuter](line, Claim(sd, z, ease)))


def _placebo(line: Line, claim: Claim) -> str:
    if abs(line.mean) > (BIAS + claim.z / math.sqrt(len(line.draws))) * line.sd:
        found = f"{phrases.plain(line.mean)}, {abs(line.mean) / line.sd:.1f} times the spread"
        return f"a treatment dealt by lot has an effect of {found}: the estimator finds effects where none are"
    return _too_narrow(line, WIDER, claim, "that its standard errors claim")


def _cause(line: Line, claim: Claim) -> str:
    moved = math.hypot(line.mean - line.expected, line.sd) / claim.sd
    if moved <= BIAS * claim.ease:
        return ""
    return f"a column of noise moves the estimate by {moved:.1f} posterior standard deviations: it is not stable"


def _subset(line: Line, claim: Claim) -> str:
    return _off(line, claim, "fewer rows give another answer") or _too_narrow(
        line, SCATTER, claim, "that the posterior leads one to expect of fewer rows"
    )


def _dummy(line: Line, claim: Claim) -> str:
    score = abs(float((line.draws / line.ses).mean()))
    if score <= claim.z + claim.z / math.sqrt(len(line.draws)):
        return ""
    found = f"{phrases.plain(line.mean)}, {score:.1f} standard errors"
    return f"an outcome on which the treatment cannot act has an effect of {found}: adjustment leaves what acts on both"


def _bootstrap(line: Line, claim: Claim) -> str:
    return _off(line, claim, "rows weighted anew give another answer") or _too_narrow(
        line, SCATTER, claim, "of the posterior"
    )


def _off(line: Line, claim: Claim, meaning: str) -> str:
    away = abs(line.mean - line.expected)
    if away <= BIAS * claim.ease * claim.sd + claim.z * line.sd / math.sqrt(len(line.draws)):
        return ""
    return f"{meaning}, off by {away / claim.sd:.1f} posterior standard deviations: the estimate is biased"


def _too_narrow(line: Line, allowed: float, claim: Claim, whose: str) -> str:
    """Whether the scatter exceeds the claim: its own relative error is 1 / √(2 n)."""
    ratio = line.sd / line.spread if line.spread > 0 else math.inf
    if ratio * (1 - claim.z / math.sqrt(2 * len(line.draws))) <= 1 + (allowed - 1) * claim.ease:
        return ""
    return f"estimates scatter {ratio:.1f} times as much as the spread {whose}: the interval is too narrow"


_RULES = {"placebo": _placebo, "cause": _cause, "subset": _subset, "dummy": _dummy, "bootstrap": _bootstrap}


def larger_than_placebos(estimate: float, placebo: Sequence[Line]) -> float:
    """The share of placebo effects that the estimate exceeds in size; nan without any."""
    return float((placebo[0].draws.abs() < abs(estimate)).double().mean()) if placebo else math.nan
