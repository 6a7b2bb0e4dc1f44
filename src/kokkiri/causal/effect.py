"""What an action does to an outcome: the posterior of the effect, and what goes along without being one."""

# ruff: file-ignore[too-many-public-methods]

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

from torch import Tensor

from kokkiri.causal.estimand import Estimand
from kokkiri.causal.quantities import Curve, Group, Law, Quantity, Sample
from kokkiri.errors import DataError, Unsupported, UsageError, nearest

if TYPE_CHECKING:
    from pathlib import Path

    from kokkiri.causal.balance import Balance
    from kokkiri.causal.ground import Ground
    from kokkiri.causal.overlap import Overlap
    from kokkiri.causal.refutation import Refutation
    from kokkiri.causal.sensitivity import Sensitivity


class Origin(Protocol):
    """What an effect was computed from, in sums that more rows can be added to."""

    def more(self, effect: Effect, new: Any, *, force: bool = False) -> Effect:
        """The effect from the old rows and the new ones together."""
        ...


@dataclass(frozen=True, eq=False, repr=False)
class Effect:
    """E[outcome | do(treatment = level)] less E[outcome | do(treatment = versus)], as a posterior.

    treatments: the columns that are set; treatment gives them as text. outcome: a column; event: the value whose
    probability is meant, "" where the outcome is a number. levels: K names of what the treatments are set to; level and
    versus: numbers of the two that are compared.
    means, seen: (S, K) draws of E[Y(k)] and of E[Y | t = k]; plugin, seen_plugin: (K,) the same without a posterior
    (the counts as they are, the predictions of a network), or None. law, seen_law: closed forms of their differences.
    exact_means, exact_seen: (K,) posterior means in closed form.
    whom: "average", "treated" or "untreated". estimand: the formula, or None where `adjust` (and perhaps `instruments`)
    were declared by the user, which data cannot test. method, exact: in words. rows: how many. sample, nuisances: what
    overlap, balance, refutation and sensitivity look at. groups: effects among rows. curve: a dose-response curve.
    along: a column of numbers, and how the contrast changes with it. near: overlap of two doses.
    warnings: what must be read with the number; lasting: those of them that new rows do not end. facts: plain values of
    the record.
    """

    treatments: tuple[str, ...]
    outcome: str
    event: str
    levels: tuple[str, ...]
    level: int
    versus: int
    means: Tensor
    seen: Tensor
    method: str
    exact: str
    rows: int
    whom: str = "average"
    estimand: Estimand | None = None
    adjust: tuple[str, ...] = ()
    instruments: tuple[str, ...] = ()
    plugin: Tensor | None = None
    seen_plugin: Tensor | None = None
    plugin_name: str = ""
    law: Law | None = None
    seen_law: Law | None = None
    exact_means: Tensor | None = None
    exact_seen: Tensor | None = None
    moments: bool = True
    groups: tuple[Group, ...] = ()
    curve: Curve | None = None
    along: tuple[str, Curve] | None = None
    sample: Sample | None = None
    near: Overlap | None = None
    nuisances: Any = None
    origin: Origin | None = None
    warnings: tuple[str, ...] = ()
    lasting: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        assert self.means.shape[1] == len(self.levels)
        assert self.level != self.versus

    # -- the numbers ---------------------------------------------------------------------------------------------------

    @property
    def treatment(self) -> str:
        """The treatments as text."""
        return ", ".join(self.treatments)

    @property
    def effect(self) -> Quantity:
        """What is believed of the contrast."""
        i, j = self.level, self.versus
        known = None if self.exact_means is None else float(self.exact_means[i] - self.exact_means[j])
        law = None if self.law is None else self.law.contrast(i, j)
        return Quantity(self.draws, law, known, self.moments)

    @property
    def association(self) -> Quantity:
        """E[Y | t = level] - E[Y | t = versus]: what goes along, which is no effect."""
        i, j = self.level, self.versus
        known = None if self.exact_seen is None else float(self.exact_seen[i] - self.exact_seen[j])
        law = None if self.seen_law is None else self.seen_law.contrast(i, j)
        return Quantity(self.conditional, law, known)

    @property
    def draws(self) -> Tensor:
        """(S,) of the contrast."""
        return self.means[:, self.level] - self.means[:, self.versus]

    @property
    def conditional(self) -> Tensor:
        """(S,) of the association."""
        return self.seen[:, self.level] - self.seen[:, self.versus]

    @property
    def mean(self) -> float:
        """The posterior mean of the contrast; nan where there is none."""
        return self.effect.mean

    @property
    def sd(self) -> float:
        """Its posterior standard deviation."""
        return self.effect.sd

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """The central interval of the contrast."""
        return self.effect.interval(level)

    def probability(self, above: float = 0.0) -> float:
        """P(effect > above)."""
        return self.effect.probability(above)

    @property
    def gap(self) -> float:
        """The contrast without a posterior less the posterior's centre; nan where there is no other."""
        if self.plugin is None:
            return math.nan
        return float(self.plugin[self.level] - self.plugin[self.versus]) - self.effect.centre

    @property
    def group_effects(self) -> dict[str, Quantity]:
        """What is believed of the contrast in each group, by its value."""
        i, j = self.level, self.versus
        return {
            g.value: Quantity(g.means[:, i] - g.means[:, j], None if g.law is None else g.law.contrast(i, j))
            for g in self.groups
        }

    # -- other questions of the same rows ------------------------------------------------------------------------------

    def contrast(self, level: str | float, versus: str | float) -> Effect:
        """The same with another pair of levels; facts, notes and warnings stay those of the first pair.

        The effect on the treated stays that on the same rows, and needs their level in the pair.
        """
        from kokkiri.causal.along import along_of

        i, j = (self._number(v) for v in (level, versus))
        if i == j:
            raise UsageError("an effect compares two levels", needs="two that differ", found=f"{level} twice",
                             fix=f"there are: {', '.join(self.levels)}")  # fmt: skip
        self._must_be_seen(i, j)
        found = replace(self, level=i, versus=j, whom=self._whom(i, j))
        return found if self.along is None else replace(found, along=along_of(found))

    def update(self, new: Any, *, force: bool = False) -> Effect:
        """The effect after new rows, the effect so far its prior: equal to that of all rows together.

        force: counts rows a second time.
        """
        if self.origin is None:
            raise Unsupported(
                "this effect keeps no sums that new rows could be added to",
                needs="a method of discrete, means, linear, instrument or networks", found=self.method,
                fix="call kk.do on all rows together",
            )  # fmt: skip
        found = self.origin.more(self, new, force=force)
        times = int(self.facts.get("updates", 0)) + 1
        told = (*self.lasting, *(w for w in found.warnings if w not in self.lasting))
        facts = {**self.facts, **found.facts, "updates": times}
        return replace(found, whom=self.whom, warnings=told, lasting=self.lasting, facts=facts)

    def _must_be_seen(self, *levels: int) -> None:
        """An error for levels of which no row is left, or one where each level has a variance of its own."""
        if self.sample is None or self.sample.t.is_floating_point():
            return
        least = 2 if self.method == "means" else 1
        for k in levels:
            if (many := int((self.sample.t == k).sum())) < least:
                raise DataError(f"too few rows have {self.treatment} = {self.levels[k]}", needs=f"{least} at least",
                                found=f"{many} of {self.rows:,}", fix="compare other levels")  # fmt: skip

    def _whom(self, level: int, versus: int) -> str:
        """Those whom the effect is about, as another pair calls them."""
        if self.whom == "average":
            return self.whom
        those = self.level if self.whom == "treated" else self.versus
        if those not in {level, versus}:
            raise Unsupported(
                f"this is the effect among rows with {self.levels[those]}", needs="a pair that they are one of",
                found=f"{self.levels[level]} against {self.levels[versus]}",
                fix="call kk.do with that pair: its treated are others",
            )  # fmt: skip
        return "treated" if those == level else "untreated"

    def _number(self, level: str | float) -> int:
        from kokkiri.causal.variables import number_name

        name = level if isinstance(level, str) else number_name(float(level))
        if name not in self.levels and self.levels == ("false", "true") and name in {"0", "1"}:
            return int(name)
        if name not in self.levels:
            raise UsageError(f"'{name}' is no level of {self.treatment}", needs="one of its levels", found=repr(name),
                             fix=nearest(name, self.levels))  # fmt: skip
        return self.levels.index(name)

    # -- whether to believe it -----------------------------------------------------------------------------------------

    @cached_property
    def ground(self) -> Ground | str:
        """What the checks look at: rows with predictions and propensities; or why there are none."""
        from kokkiri.causal.ground import ground_of

        return ground_of(self)

    @property
    def overlap(self) -> Overlap | None:
        """Whether rows of both settings are alike; None on a straight line of a number, or without adjustment."""
        from kokkiri.causal.checks import overlap

        return overlap(self)

    @property
    def balance(self) -> Balance | None:
        """Covariates of both arms before and after weighting; None where nothing is weighted."""
        from kokkiri.causal.checks import balance

        return balance(self)

    def refute(
        self, refuters: Sequence[str] = (), *, simulations: int = 100, share: float = 0.8, seed: int = 0, full: int = 0
    ) -> Refutation:
        """An attempt to break it: placebo, cause, subset, dummy, bootstrap (all five, if none is named).

        share: of the rows, for subsets. full: so many replicates of each are fitted anew from the start, besides.
        """
        from kokkiri.causal.checks import refute

        return refute(self, refuters, simulations=simulations, share=share, seed=seed, full=full)

    def sensitivity(self, *, draws: int = 1000, seed: int = 0) -> Sensitivity:
        """How strong a hidden common cause must be to undo it: E-value, robustness value, Λ and Γ, with posteriors."""
        from kokkiri.causal.checks import sensitivity

        return sensitivity(self, draws=draws, seed=seed)

    def report(self, path: str | Path) -> Path:
        """Write the page of this effect, one HTML file: question, graph, formula, posterior, and whether to believe it.

        Raises OutputError where it cannot be written.
        """
        from kokkiri.report.effect import write

        return write(path, self)

    # -- as text and picture -------------------------------------------------------------------------------------------

    @property
    def formula(self) -> str:
        """What is computed: the estimand's formula, or the one that the declared adjustment stands for."""
        from kokkiri.causal.effect_words import formula

        return formula(self)

    def picture(self, of: str = "posterior") -> str:
        """SVG text: the posterior with the association beside it, the "groups", the "curve" of dose and response, or
        how the effect changes "along" a column.
        """
        from kokkiri.causal import effect_pictures as pictures

        kinds = {"posterior": pictures.posterior}
        kinds |= {"groups": pictures.groups} if self.groups else {}
        kinds |= {"curve": pictures.dose_response} if self.curve is not None else {}
        kinds |= {"along": pictures.along} if self.along is not None else {}
        if of not in kinds:
            raise UsageError(f"this effect has no picture of {of!r}", needs="a picture that it has", found=repr(of),
                             fix=nearest(of, kinds))  # fmt: skip
        return kinds[of](self)

    def __str__(self) -> str:
        from kokkiri.causal.effect_words import text

        return text(self)

    def __repr__(self) -> str:
        low, high = self.interval()
        pair = f"{self.levels[self.level]} against {self.levels[self.versus]}"
        return (
            f"Effect(do({self.treatment}) on {self.outcome}, {pair}: {self.effect.centre:.4g} [{low:.4g}, {high:.4g}])"
        )
