"""Refuters: right estimates pass, wrong ones are convicted by the refuter made for them; what is refused."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from kokkiri.causal.effect import Effect
from kokkiri.causal.network_effect import Networks
from kokkiri.causal.refutation import eased
from kokkiri.causal.refute import refuted
from kokkiri.causal.replicates import NAMES, Table, as_they_are, donors, replicates
from kokkiri.causal.solvers import HeadsSolver, heads_solver
from kokkiri.effects import do
from kokkiri.errors import DataError, KokkiriError, Unsupported, UsageError
from kokkiri.numerics.heads import Precisions, Replicates, solve
from kokkiri.numerics.one_step import Estimates, estimates, parts
from kokkiri.numerics.random import philox


def columns(n: int, seed: int, effect: float = 1.0) -> dict[str, np.ndarray]:
    rng = philox(seed, "columns")
    a, b = rng.normal(size=n), rng.normal(size=n)
    t = (rng.random(n) < 1 / (1 + np.exp(-a))).astype(int)
    return {"a": a, "b": b, "t": t, "y": a + 0.5 * b + effect * t + rng.normal(size=n)}


def linear(n: int = 500, seed: int = 0) -> Effect:
    return do(columns(n, seed), {"t": 1}, versus={"t": 0}, outcome="y", adjust=("a", "b"), method="linear")


def dose(n: int = 400, seed: int = 0) -> Effect:
    c = columns(n, seed)
    c["t"] = c["a"] + philox(seed, "dose").normal(size=n)
    c["y"] = c["a"] + c["t"] + philox(seed, "noise").normal(size=n)
    return do(c, {"t": 1}, versus={"t": 0}, outcome="y", adjust=("a", "b"), method="linear")


def instrument(n: int = 400, seed: int = 0) -> Effect:
    rng = philox(seed, "instrument")
    z, u = rng.normal(size=n), rng.normal(size=n)
    d = 0.7 * z + u + rng.normal(size=n)
    data = {"z": z, "d": d, "y": d + 2 * u + rng.normal(size=n)}
    return do(data, {"d": 1}, versus={"d": 0}, outcome="y", graph="z -> d; d -> y; d <-> y", method="instrument")


def categories(n: int = 600, seed: int = 0) -> Effect:
    rng = philox(seed, "categories")
    a = rng.integers(0, 3, n)
    t = (rng.random(n) < 0.25 + 0.25 * a).astype(int)
    y = (rng.random(n) < 0.2 + 0.15 * a + 0.2 * t).astype(int)
    return do(
        {"a": a.astype(str), "t": t, "y": y}, {"t": 1}, versus={"t": 0}, outcome="y", adjust="a", method="discrete"
    )


def front_door(n: int = 800, seed: int = 0) -> Effect:
    rng = philox(seed, "front door")
    u = rng.integers(0, 2, n)
    t = (rng.random(n) < 0.25 + 0.5 * u).astype(int)
    m = (rng.random(n) < 0.2 + 0.6 * t).astype(int)
    y = (rng.random(n) < 0.2 + 0.3 * m + 0.3 * u).astype(int)
    return do({"t": t, "m": m, "y": y}, {"t": 1}, versus={"t": 0}, outcome="y", graph="t -> m; m -> y; t <-> y")


EVERY: tuple[Callable[..., Effect], ...] = (linear, dose, instrument, categories, front_door)


# -- right estimates pass ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", EVERY)
def test_right_estimates_of_every_method_pass(make: Callable[..., Effect]):
    found = make().refute()
    assert not found.convicted, str(found)
    assert len(found.lines) == (4 if make is instrument else 5)
    for line in found.lines:
        if line.refuter in {"placebo", "subset", "bootstrap"}:
            assert 0.75 < line.sd / line.spread < 1.35


@pytest.mark.parametrize("make", [linear, categories])
def test_the_intervals_of_placebos_hold_zero_as_often_as_they_should(make: Callable[..., Effect]):
    found = make().refute("placebo", simulations=1000)
    line = found.lines[0]
    assert abs(line.holds / 1000 - 0.95) < 4 * np.sqrt(0.95 * 0.05 / 1000) + 0.01
    assert abs(line.mean) < 4 * line.sd / np.sqrt(1000)


@pytest.mark.slow
@pytest.mark.parametrize("make", EVERY)
def test_at_most_one_right_estimate_in_twenty_is_convicted(make: Callable[..., Effect]):
    sets = 100
    guilty = sum(make(seed=seed + 1).refute(simulations=60, seed=seed).convicted for seed in range(sets))
    assert guilty / sets <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / sets)


def test_networks_are_refuted_by_their_heads_and_by_training_anew():
    few = Networks(folds=2, repetitions=1, replicates=0, steps=60)
    effect = do(columns(300, 0), {"t": 1}, versus={"t": 0}, outcome="y", adjust=("a", "b"), method=few)
    found = effect.refute(simulations=40, full=3)
    assert not found.convicted, str(found)
    assert "the networks' predictions" in found.method
    assert len(found.gaps) == 5
    by_name = {line.refuter: line for line in found.lines}
    assert abs(found.base - effect.mean) < effect.sd
    for name in ("placebo", "subset", "bootstrap"):
        assert 0.5 < by_name[name].sd / by_name[name].spread < 1.5
    placebo = by_name["placebo"]
    assert float((placebo.full - placebo.draws[:3]).abs().max()) < 2.5 * effect.sd
    for of in (effect.overlap, effect.balance, effect.sensitivity(draws=200)):
        assert max(map(len, str(of).splitlines())) <= 80
        ET.fromstring(of.picture())


def small(rows, seed):
    """Few rows, a third of them treated or more."""
    r = np.random.default_rng(seed)
    a, b = r.standard_normal((2, rows))
    t = (np.argsort(np.argsort(a + 1.5 * r.standard_normal(rows))) >= rows // 2).astype(int)
    return {"a": a, "b": b, "t": t, "y": a + 0.5 * b + t + 0.5 * r.standard_normal(rows)}


def test_few_rows_have_wider_limits_and_fewer_none():
    assert (eased(80), eased(1000)) == (1, 1)
    assert eased(20) == pytest.approx(2.0)
    few = Networks(folds=3, repetitions=1, replicates=1, steps=150)
    about = {"versus": {"t": 0}, "outcome": "y", "adjust": ("a", "b"), "method": few}
    found = [do(small(36, seed), {"t": 1}, **about).refute(simulations=60) for seed in range(12)]
    assert sum(one.convicted for one in found) <= 2  # of right estimates; three have a chance of 0.02 at 5 %
    assert "limits are 2.1 times as wide" in str(found[0]).replace("\n  ", " ")
    with pytest.raises(DataError, match="too few rows to refute"):
        do(small(26, 0), {"t": 1}, **about).refute()


# -- wrong ones do not -------------------------------------------------------------------------------------------------


class Stale:
    """DoWhy's issue 1728: weights by the propensity of the treatments as they were, whatever the placebo."""

    def __init__(self, solver: HeadsSolver, rows: Table) -> None:
        self.solver = solver
        self.old = solve(solver.frozen, 2, as_they_are(rows), solver.prior).propensity

    def __call__(self, given: Replicates) -> Estimates:
        nothing = torch.zeros(1, 2, len(self.solver.frozen.fold), dtype=torch.float64)
        found = parts(given.treatment, given.outcome, nothing, self.old, 1, 0)
        return estimates(found, given.weight)


def heads(n: int = 1000, seed: int = 0, prior: Precisions | None = None) -> tuple[HeadsSolver, Table, Estimates]:
    c = columns(n, seed)
    f64 = lambda name: torch.as_tensor(c[name], dtype=torch.float64)
    x, t, y, w = torch.stack([f64("a"), f64("b")], 1), torch.as_tensor(c["t"]), f64("y"), torch.ones(n).double()
    solver = heads_solver(x, torch.arange(n) % 5, t, y, w, levels=2, level=1, versus=0)
    rows = solver.rows(t, y, w)
    solver = solver if prior is None else replace(solver, prior=prior)
    return solver, rows, solver(as_they_are(rows))


def test_placebos_are_judged_with_a_propensity_of_their_own():
    solver, rows, found = heads()
    right = refuted(solver, rows, estimate=float(found.estimate), sd=float(found.se), method="", refuters=("placebo",))
    assert not right.convicted
    assert abs(right.lines[0].mean) < 0.03
    stale = Stale(solver, rows)
    base = stale(as_they_are(rows))
    wrong = refuted(stale, rows, estimate=float(base.estimate), sd=float(base.se), method="", refuters=("placebo",))
    assert wrong.convicted
    assert abs(wrong.lines[0].mean) > 0.3
    assert "finds effects where none are" in wrong.lines[0].convicted


@pytest.mark.parametrize("refuter", ["subset", "bootstrap"])
def test_an_interval_that_is_too_narrow_is_seen_by_the_scatter(refuter: str):
    solver, rows, found = heads()
    narrow = refuted(
        solver, rows, estimate=float(found.estimate), sd=float(found.se) / 2.5, method="", refuters=(refuter,)
    )
    assert narrow.convicted
    assert "too narrow" in narrow.lines[0].convicted


def test_an_adjustment_that_adjusts_for_too_little_is_seen_by_the_dummy_outcome():
    # heads that are held at zero: neither outcome nor propensity knows the covariates that the dummy outcome comes from
    blind = Precisions(torch.full((5, 2), 1e9, dtype=torch.float64), torch.full((5,), 1e9, dtype=torch.float64))
    solver, rows, found = heads(prior=blind)
    assert abs(float(found.estimate) - 1.0) > 5 * float(found.se)
    judged = refuted(solver, rows, estimate=float(found.estimate), sd=float(found.se), method="")
    guilty = {line.refuter for line in judged.lines if line.convicted}
    assert "dummy" in guilty
    assert "do not trust" in judged.verdict


def test_a_straight_line_where_the_cause_is_bent_is_seen_by_the_dummy_outcome():
    rng = philox(3, "bent")
    a = rng.normal(size=500)
    t = (rng.random(500) < 1 / (1 + np.exp(1 - a**2))).astype(int)
    data = {"a": a, "square": a**2, "t": t, "y": a**2 + t + rng.normal(size=500)}
    ask = lambda adjust: do(data, {"t": 1}, versus={"t": 0}, outcome="y", adjust=adjust, method="linear")
    wrong, right = ask(("a",)), ask(("a", "square"))
    assert wrong.interval()[0] > 1.5  # where the effect is 1
    assert [line.refuter for line in wrong.refute().lines if line.convicted] == ["dummy"]
    assert right.interval()[0] < 1.0 < right.interval()[1]
    assert not right.refute().convicted


def test_an_estimator_that_noise_can_move_is_convicted_by_the_random_cause():
    solver, rows, found = heads(300)

    def nervous(given: Replicates) -> Estimates:
        answer = solver(given._replace(extra=None))
        many = 1 if given.extra is None else len(given.extra)
        shift = torch.zeros(1).double() if given.extra is None else given.extra.mean(1) * 20
        return Estimates(answer.estimate.expand(many) + shift, answer.se.expand(many))

    judged = refuted(nervous, rows, estimate=float(found.estimate), sd=float(found.se), method="", refuters=("cause",))
    assert "not stable" in judged.lines[0].convicted


# -- what replicates are -----------------------------------------------------------------------------------------------


def table(n: int = 300) -> Table:
    _, rows, _ = heads(n)
    return rows


def test_placebos_are_permutations_and_subsets_have_their_share():
    rows = table()
    dealt = replicates("placebo", rows, 50, 0)
    assert bool((dealt.treatment.sum(1) == rows.treatment.sum()).all())
    assert len({tuple(t.tolist()) for t in dealt.treatment}) == 50
    kept = replicates("subset", rows, 50, 0, 0.8).weight
    assert bool((kept.sum(1) == 240).all())
    weights = replicates("bootstrap", rows, 200, 0).weight
    assert abs(float(weights.mean()) - 1) < 1e-9
    assert abs(float(weights.var()) - 1) < 0.05


def test_replicates_depend_on_the_seed_and_on_nothing_else():
    rows = table()
    for name in NAMES:
        first, again, other = (replicates(name, rows, 20, seed) for seed in (1, 1, 2))
        pairs = [(a, b, c) for a, b, c in zip(first, again, other, strict=True) if a is not None]
        assert all(torch.equal(a, b) for a, b, _ in pairs)
        assert any(not torch.equal(a, c) for a, _, c in pairs)


def test_a_dummy_outcome_follows_the_covariates_and_not_the_treatment():
    rows = table(4000)
    y = replicates("dummy", rows, 40, 0).outcome
    x = rows.expected
    slope = ((y - y.mean(1, keepdim=True)) @ (x - x.mean())) / (x - x.mean()).square().sum()
    assert abs(float(slope.mean()) - 1) < 0.05  # what covariates say stays
    rest = y - x
    t = rows.treatment.double()
    design = torch.stack([torch.ones(4000).double(), x, t], 1)
    beta = torch.linalg.lstsq(design, rest.mT).solution[2]
    assert abs(float(beta.mean())) < 0.05  # where the effect was 1
    assert set(y[0].tolist()) <= set(rows.outcome.tolist())  # outcomes stay what they are


def test_donors_are_rows_whose_prediction_is_near():
    rng = philox(1, "donors")
    expected, predicted = (torch.from_numpy(rng.normal(size=2000)) for _ in range(2))
    chosen = donors(expected, predicted, torch.from_numpy(rng.random((2, 30, 2000))))
    inside = expected.abs() < 1.5
    assert float((predicted[chosen] - expected)[:, inside].abs().max()) < 0.15
    ties = donors(torch.zeros(100), torch.zeros(100), torch.from_numpy(rng.random((2, 400, 100))))
    assert bool((torch.bincount(ties.flatten(), minlength=100) > 0).all())  # every equal may be chosen


def test_portions_give_all_simulations(monkeypatch: pytest.MonkeyPatch):
    from kokkiri.causal import refute, solvers

    monkeypatch.setattr(refute, "AT_ONCE", 7 * 300)
    monkeypatch.setattr(solvers, "AT_ONCE", 7 * 300)
    solver, rows, found = heads(300)
    judged = refuted(solver, rows, estimate=float(found.estimate), sd=float(found.se), method="", simulations=25)
    assert [len(line.draws) for line in judged.lines] == [25] * 5
    assert all(len(set(line.draws.tolist())) == 25 for line in judged.lines)


# -- what is said ------------------------------------------------------------------------------------------------------


def test_tables_fit_a_terminal_and_pictures_are_svg():
    for make in (linear, instrument):
        found = make().refute(simulations=30)
        assert max(map(len, str(found).splitlines())) <= 80
        ET.fromstring(found.picture())
    assert "placebo treatment left out" in str(instrument().refute(simulations=30))
    assert "passes" in repr(linear().refute(simulations=30))


def test_full_replicates_are_set_beside_the_others():
    solver, rows, found = heads(300)
    shifted = lambda given: Estimates(solver(given).estimate + 0.5 * float(found.se), solver(given).se)
    judged = refuted(solver, rows, estimate=float(found.estimate), sd=float(found.se), method="", full=shifted,
                     full_simulations=5)  # fmt: skip
    assert all("off by +0.50 posterior standard deviations" in gap for gap in judged.gaps)
    assert all("5 replicates" in gap and "1.00 times" in gap for gap in judged.gaps)


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        ({"refuters": ("placebos",)}, "no refuter 'placebos'"),
        ({"simulations": 3}, "says too little"),
        ({"share": 1.0}, "no subset"),
    ],
)
def test_bad_arguments_are_refused_in_four_lines(arguments: dict, what: str):
    with pytest.raises(UsageError, match=what) as error:
        linear().refute(**arguments)
    assert len(str(error.value).splitlines()) == 4


def test_too_few_rows_and_rows_that_are_gone_are_refused():
    c = columns(30, 0)
    c["t"][:] = 0
    c["t"][:4] = 1
    few = do(c, {"t": 1}, versus={"t": 0}, outcome="y", adjust=("a", "b"), method="linear")
    with pytest.raises(DataError, match="too few rows"):
        few.refute()
    with pytest.raises(Unsupported, match="does not keep its rows"):
        replace(linear(), sample=None).refute()
    both = do(columns(200, 0), {"t": 1, "b": 0.0}, versus={"t": 0, "b": 0.0}, outcome="y", adjust="a", method="linear")
    with pytest.raises(KokkiriError, match="several treatments"):
        both.refute()
