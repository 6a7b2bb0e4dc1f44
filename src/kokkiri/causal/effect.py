"""What an action does to an outcome: the posterior of the effect, and what goes along without being one."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from torch import Tensor

from kokkiri.causal.estimand import Estimand
from kokkiri.errors import Unsupported, UsageError, nearest
from kokkiri.exact.distributions import StudentT
from kokkiri.exact.intervals import drawn_interval, must_be_level

if TYPE_CHECKING:
    from kokkiri.causal.balance import Balance
    from kokkiri.causal.overlap import Overlap
    from kokkiri.causal.refutation import Refutation
    from kokkiri.causal.sensitivity import Sensitivity


@dataclass(frozen=True, eq=False)
class Quantity:
    """What is believed of one number: (S,) draws of it; its law where there is a closed form, or at least its mean.

    moments: whether it has a mean at all; a ratio of normals has none, and its `centre` is the median.

    >>> import torch
    >>> quantity = Quantity(torch.linspace(-1, 3, 4001, dtype=torch.float64))
    >>> round(quantity.mean, 3), round(quantity.probability(above=0.0), 2), [round(v, 2) for v in quantity.interval()]
    (1.0, 0.75, [-0.9, 2.9])
    """

    draws: Tensor
    law: StudentT | None = None
    known_mean: float | None = None
    moments: bool = True

    @property
    def mean(self) -> float:
        """The posterior mean; nan where there is none."""
        if not self.moments:
            return math.nan
        if self.law is not None:
            return float(self.law.mean)
        return float(self.draws.mean()) if self.known_mean is None else self.known_mean

    @property
    def median(self) -> float:
        """Half of the posterior lies on either side."""
        return float(self.law.location) if self.law is not None else float(self.draws.median())

    @property
    def centre(self) -> float:
        """The mean, or the median where there is no mean."""
        return self.mean if self.moments else self.median

    @property
    def sd(self) -> float:
        """The posterior standard deviation; nan where there is none."""
        if not self.moments:
            return math.nan
        return float(self.law.sd) if self.law is not None else float(self.draws.std())

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """The central interval."""
        must_be_level(level)
        if self.law is not None:
            low, high = self.law.interval(level)
            return float(low), float(high)
        found = drawn_interval(self.draws, 0.0, level)
        return found.low, found.high

    def error(self, level: float = 0.95) -> float:
        """The Monte Carlo standard error of the interval's ends; 0 for a closed form."""
        return 0.0 if self.law is not None else drawn_interval(self.draws, 0.0, level).error

    def probability(self, above: float = 0.0) -> float:
        """P(the number > above)."""
        if self.law is not None:
            return float(self.law.survival(above))
        return float((self.draws > above).double().mean())


class Law(NamedTuple):
    """K numbers whose differences are Student t: location (K,), scale² (K, K), degrees of freedom."""

    location: Tensor
    scale: Tensor
    df: Tensor

    def contrast(self, i: int, j: int) -> StudentT:
        """The law of number i less number j."""
        square = self.scale[i, i] + self.scale[j, j] - 2 * self.scale[i, j]
        return StudentT(self.location[i] - self.location[j], square.clamp(min=1e-300).sqrt(), self.df)


class Group(NamedTuple):
    """The effect among rows with one value of a column: E[Y(k)] in (S, K) draws, E[Y | t = k] in others, the share of
    the rows.
    """

    column: str
    value: str
    share: float
    means: Tensor
    seen: Tensor
    law: Law | None = None


class Curve(NamedTuple):
    """Dose and response: E[Y(t)] in (S, V) draws at V values of the treatment, and E[Y | t] beside it, if known."""

    values: Tensor
    means: Tensor
    seen: Tensor | None = None


class Sample(NamedTuple):
    """The rows an effect comes from, in any order. t: (n,) number of the level (or the value of a treatment without
    levels); y: (n,); x: (n, p) what was adjusted for, encoded, with names; z: (n, q) instruments, if there are any.
    """

    t: Tensor
    y: Tensor
    x: Tensor
    names: tuple[str, ...]
    z: Tensor | None = None


class Origin(Protocol):
    """What an effect was computed from, in sums that more rows can be added to."""

    def more(self, effect: Effect, new: Any, *, force: bool = False) -> Effect:
        """The effect from the old rows and the new ones together."""
        ...


@dataclass(frozen=True, eq=False, repr=False)
class Effect:  # noqa: PLR0904 - one value that answers for itself
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
    warnings: what must be read with the number. facts: plain values of the record.
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
    sample: Sample | None = None
    nuisances: Any = None
    origin: Origin | None = None
    warnings: tuple[str, ...] = ()
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
        """The same with another pair of levels."""
        i, j = (self._number(v) for v in (level, versus))
        if i == j:
            raise UsageError("an effect compares two levels", needs="two that differ", found=f"{level} twice",
                             fix=f"there are: {', '.join(self.levels)}")  # fmt: skip
        return replace(self, level=i, versus=j)

    def update(self, new: Any, *, force: bool = False) -> Effect:
        """The effect after new rows, the effect so far its prior: equal to that of all rows together.

        force: counts rows a second time.
        """
        if self.origin is None:
            raise Unsupported(
                "this effect keeps no sums that new rows could be added to", needs="a discrete, linear or instrument "
                "effect, or one of networks with frozen features", found=self.method, fix="call kk.do on all rows",
            )  # fmt: skip
        found = self.origin.more(self, new, force=force)
        times = int(self.facts.get("updates", 0)) + 1
        return replace(found, facts={**self.facts, **found.facts, "updates": times})

    def _number(self, level: str | float) -> int:
        name = level if isinstance(level, str) else f"{level:g}"
        if name not in self.levels:
            raise UsageError(f"'{name}' is no level of {self.treatment}", needs="one of its levels", found=repr(name),
                             fix=nearest(name, self.levels))  # fmt: skip
        return self.levels.index(name)

    # -- whether to believe it -----------------------------------------------------------------------------------------

    @property
    def overlap(self) -> Overlap | None:
        """Whether rows of both settings are alike; None for a treatment that is a number, or without adjustment."""
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

    # -- as text and picture -------------------------------------------------------------------------------------------

    @property
    def formula(self) -> str:
        """What is computed: the estimand's formula, or the one that the declared adjustment stands for."""
        from kokkiri.causal.effect_words import formula

        return formula(self)

    def picture(self) -> str:
        """The posterior of the effect with the association beside it, as SVG text."""
        from kokkiri.causal.effect_pictures import posterior

        return posterior(self)

    def __str__(self) -> str:
        from kokkiri.causal.effect_words import text

        return text(self)

    def __repr__(self) -> str:
        low, high = self.interval()
        pair = f"{self.levels[self.level]} against {self.levels[self.versus]}"
        return (
            f"Effect(do({self.treatment}) on {self.outcome}, {pair}: {self.effect.centre:.4g} [{low:.4g}, {high:.4g}])"
        )
