"""Overlap, balance, refutation and sensitivity of an effect, whatever its method."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from kokkiri.causal import measures
from kokkiri.causal.balance import Balance, balance_of
from kokkiri.causal.discrete import needed
from kokkiri.causal.effect_words import NO_REFUTERS, spoken
from kokkiri.causal.ground import Ground
from kokkiri.causal.overlap import Overlap, overlap_of
from kokkiri.causal.refutation import Refutation, eased
from kokkiri.causal.refute import SIMULATIONS, must_have_rows, refuted
from kokkiri.causal.replicates import NAMES, SHARE
from kokkiri.causal.sensitivity import KINDS, Measure, Sensitivity
from kokkiri.causal.solvers import LinearSolver, heads_solver, predictions
from kokkiri.causal.table_solver import table_solver
from kokkiri.errors import Unsupported, UsageError

if TYPE_CHECKING:
    from kokkiri.causal.effect import Effect

FEW = 15  # rows of a setting below which heads of networks, with four weights each, judge nothing
NO_PLACEBO = "a treatment dealt by lot leaves the instrument nothing to act through"


def overlap(effect: Effect) -> Overlap | None:
    """Whether rows of both settings are alike; None where nothing is weighted (a straight line of a number)."""
    if effect.near is not None:
        near = effect.near
        return replace(near, level=near.versus, versus=near.level) if effect.level else near
    ground = effect.ground
    if isinstance(ground, str) or ground.propensity is None:
        return None
    least = float(effect.facts.get("least propensity", 0.0))
    raised = (ground.propensity[[ground.level, ground.versus]] < least).any(0)  # others are compared with nothing
    names = spoken(effect, effect.level), spoken(effect, effect.versus)
    return overlap_of(
        ground.t, ground.propensity, level=ground.level, versus=ground.versus, names=names,
        outcome=ground.outcome, whom=ground.whom, clipped=int(raised.sum()),
    )  # fmt: skip


def balance(effect: Effect) -> Balance | None:
    """Covariates of both arms before and after weighting; None where nothing is weighted."""
    ground = effect.ground
    if isinstance(ground, str) or ground.propensity is None:
        return None
    kept = [i for c in measures.columns_by_name(ground.names).values() for i in (c[:1] if _opposites(ground, c) else c)]
    return balance_of(
        ground.x[:, kept], [ground.names[i] for i in kept], ground.t, ground.propensity,
        level=ground.level, versus=ground.versus, whom=ground.whom,
    )  # fmt: skip


def _opposites(ground: Ground, columns: Sequence[int]) -> bool:
    """Whether two columns say the same: a category of two values."""
    return len(columns) == 2 and bool((ground.x[:, columns].sum(1) == 1).all())


def refute(
    effect: Effect,
    refuters: Sequence[str] = (),
    *,
    simulations: int = SIMULATIONS,
    share: float = SHARE,
    seed: int = 0,
    full: int = 0,
) -> Refutation:
    """The refuters' table. Raises Unsupported for effects that keep no rows, or have several treatments as numbers."""
    refuters = (refuters,) if isinstance(refuters, str) else tuple(refuters) or tuple(NAMES)
    ground = effect.ground
    if isinstance(ground, str):
        raise Unsupported(f"this effect cannot be refuted: {ground}", needs="the rows that it was computed from",
                          found=effect.method, fix="call kk.do on rows")  # fmt: skip
    if len(effect.treatments) > 1 and effect.method in {"linear", "instrument"}:
        raise Unsupported("several treatments at once cannot be dealt anew", needs="one treatment, or categories",
                          found=effect.treatment, fix="one treatment at a time, or method='discrete'")  # fmt: skip
    if effect.method == "networks" and (ground.propensity is None or ground.fold is None):
        raise Unsupported(
            NO_REFUTERS, needs="a treatment with levels, or a straight line", found=f"{effect.treatment}, a number",
            fix="method='linear', or cut the doses into levels",
        )  # fmt: skip
    options: dict[str, Any] = {"refuters": refuters, "simulations": simulations, "share": share, "seed": seed}
    centre = effect.effect.centre
    spread = effect.sd if effect.moments else _half_width(effect)
    if effect.method == "discrete":
        origin: Any = effect.origin
        asked = replace(origin.asked, group="", conditional=None, whom=effect.whom)
        own = origin.counts.over([n for n in origin.counts.names if n in needed(asked)])
        solver = table_solver(asked, own, effect.level, effect.versus)
        rows = solver.rows()
        must_have_rows(rows, effect.level, effect.versus)
        return refuted(solver, rows, estimate=centre, sd=spread, method="the formula on tables of counts", **options)
    if effect.method in {"linear", "instrument", "means"}:
        return _linear(effect, ground, centre, spread, options)
    return _networks(effect, ground, centre, spread, options, full)


def _linear(effect: Effect, ground: Ground, centre: float, spread: float, options: dict[str, Any]) -> Refutation:
    origin: Any = effect.origin
    sample = effect.sample
    assert sample is not None
    levels = 0 if ground.t.is_floating_point() else len(effect.levels)
    t, y = ground.t, ground.y - ground.y.mean()
    pair: tuple[float, float] = ground.level, ground.versus
    if not levels:  # far from zero, a number and the column of ones would be one
        middle = float(t.mean())
        pair = float(origin.pair[effect.level][0]) - middle, float(origin.pair[effect.versus][0]) - middle
        t = t - middle
    solver = LinearSolver(ground.x, levels, pair, _interactions(effect), ground.whom, sample.z)
    rows = solver.rows(t, y, ground.weight)
    if levels:
        must_have_rows(rows, effect.level, effect.versus)
    if effect.method != "instrument":
        return refuted(solver, rows, estimate=centre, sd=spread, method="least squares", **options)
    return refuted(solver, rows, estimate=centre, sd=spread, method="two stages", moments=effect.moments,
                   skipped={"placebo": NO_PLACEBO}, **options)  # fmt: skip


def _networks(
    effect: Effect, ground: Ground, centre: float, spread: float, options: dict[str, Any], full: int
) -> Refutation:
    assert ground.propensity is not None
    assert ground.outcome is not None
    assert ground.fold is not None
    floor = float(effect.facts.get("least propensity", 0.01))
    solver = heads_solver(
        predictions(ground.outcome, ground.propensity), ground.fold, ground.t, ground.y, ground.weight,
        levels=len(effect.levels), level=effect.level, versus=effect.versus, whom=effect.whom, floor=floor,
    )  # fmt: skip
    rows = solver.rows(ground.t, ground.y, ground.weight)
    if ground.names and ground.x.ndim == 2:  # what another model expects, so that networks that learnt little are seen
        bent = LinearSolver(ground.x, len(effect.levels), (ground.level, ground.versus))
        rows = bent.rows(ground.t, ground.y, ground.weight)
    how = "heads solved again on the networks' predictions"
    must_have_rows(rows, effect.level, effect.versus, FEW)
    refit = getattr(effect.origin, "refit", None) if full else None
    if refit is not None:
        refit = partial(refit, level=effect.level, versus=effect.versus, whom=effect.whom)
    few = min(int((rows.treatment == k).sum()) for k in (effect.level, effect.versus))
    ease = eased(few)
    limits = f"one setting has {few} rows: replicates scatter of themselves, and limits are {ease:.1f} times as wide"
    notes = (limits,) if ease > 1 else ()
    return refuted(solver, rows, estimate=centre, sd=spread, method=how, full=refit, full_simulations=full, ease=ease,
                   notes=notes, **options)  # fmt: skip


def sensitivity(effect: Effect, *, draws: int = measures.DRAWS, seed: int = 0) -> Sensitivity:
    """How strong a hidden common cause must be: E-value, robustness value, Λ, Γ, as far as they apply."""
    ground = effect.ground
    centre = effect.effect.centre
    draws = must_be_draws(draws, effect.rows)
    if isinstance(ground, str):
        return Sensitivity(centre, (), left_out=tuple((kind, ground) for kind in KINDS))
    sd = float(ground.y.std())
    kind = effect.estimand.kind if effect.estimand is not None else "back-door"
    if kind != "back-door" or effect.method == "instrument":
        why = "it is about causes that adjustment misses; here the graph's other claims are what must hold"
        return Sensitivity(centre, (), left_out=tuple((k, why) for k in KINDS))
    found: list[Measure] = [measures.of_e_value(effect.means, effect.level, effect.versus, sd, event=ground.event)]
    left_out: list[tuple[str, str]] = []
    bounds = None
    if effect.law is not None:
        law = effect.law.contrast(effect.level, effect.versus)
        scale = float(law.scale) * float(law.df) ** 0.5
        found.append(measures.of_regression(effect.draws, centre, scale))
    elif ground.propensity is not None:
        found.append(measures.of_scores(ground, draws, seed))
    if ground.propensity is None:
        why = "it is for treatments with levels"
        left_out += [(k, why) for k in KINDS if k not in {m.kind for m in found}]
    else:
        odds, bounds = measures.of_odds(ground, draws, seed)
        found.append(odds)
        pairs = measures.of_pairs(ground, draws, seed)
        if isinstance(pairs, str):
            left_out.append(("rosenbaum", pairs))
        else:
            found.append(pairs)
    adjusted = ground.names and (ground.propensity is not None or effect.law is not None)
    return Sensitivity(centre, tuple(found), bounds, measures.strongest(ground) if adjusted else None, tuple(left_out))


def must_be_draws(draws: int, rows: int) -> int:
    """An error for too few draws; fewer where there are very many rows, whose posterior is narrow."""
    if draws < 100:
        raise UsageError(f"draws={draws} says too little", needs="100 at least, to know the ends of an interval",
                         found=str(draws), fix="draws=1000")  # fmt: skip
    return max(200, min(draws, 50_000_000 // max(rows, 1))) if draws > 200 else draws


def _interactions(effect: Effect) -> tuple[int, ...]:
    """Places in the sample's x of the columns that a linear effect may differ by."""
    from kokkiri.causal.linear_effect import LinearOrigin, own_interactions

    if not isinstance(effect.origin, LinearOrigin):
        return ()
    design = effect.origin.design
    places = design.columns_of(effect.origin.adjust)
    return tuple(places.index(i) for i in own_interactions(effect.origin) if i in places)


def _half_width(effect: Effect) -> float:
    low, high = effect.interval()
    return (high - low) / (2 * 1.959964)
