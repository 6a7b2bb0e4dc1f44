"""Effects of networks after more rows: the posterior of all rows together, by the networks of the first ones."""

import numpy as np
import pytest
import torch

import kokkiri as kk
from kokkiri.causal.foretelling import another_rule, drifted, recalibrated
from kokkiri.causal.networks import network_nuisances
from kokkiri.causal.propensities import Propensities
from kokkiri.errors import DataError, UsageError
from kokkiri.numerics.effects import posterior, remainder
from kokkiri.numerics.heads import Frozen, ridges

FAST = kk.causal.Networks(folds=3, repetitions=1, replicates=2, steps=100)
X = ("a", "b")


def rows(n, seed, effect=1.0, rule=1.0):
    rng = np.random.default_rng(seed)
    a, b = rng.standard_normal((2, n))
    t = rng.random(n) < 1 / (1 + np.exp(-rule * a))
    y = np.sin(a) + 0.5 * b + effect * t + 0.5 * rng.standard_normal(n)
    return {"a": a, "b": b, "side": np.where(b > 0, "left", "right"), "t": np.where(t, "yes", "no"), "y": y}


def part(data, start, stop):
    return {name: v[start:stop] for name, v in data.items()}


def asked(data, **more):
    return kk.do(data, {"t": "yes"}, outcome="y", adjust=X, method=FAST, **more)


@pytest.fixture(scope="module")
def first():
    return asked(rows(300, 1))


def test_rows_in_two_parts_are_rows_at_once_to_the_last_digit(first):
    new = rows(500, 2)
    once = first.update(new)
    twice = first.update(part(new, 0, 120)).update(part(new, 120, 500))
    assert once.rows == twice.rows == 800
    torch.testing.assert_close(once.means, twice.means, atol=1e-12, rtol=0)
    torch.testing.assert_close(once.seen, twice.seen, atol=1e-12, rtol=0)
    assert twice.facts["updates"] == 2
    assert once.facts["rows that the networks have seen"] == 300


def test_the_update_is_the_posterior_of_all_scores_with_networks_that_stay(first):
    new = rows(500, 2)
    encoded = first.origin.reader.new(new, (), force=False)[0]
    said = first.origin.crossfit.foreteller(encoded.x)
    old = first.nuisances
    t = torch.tensor((new["t"] == "yes").astype(int))
    pooled = old._replace(
        t=torch.cat([old.t, t]), y=torch.cat([old.y, torch.tensor(new["y"])]),
        fold=torch.cat([old.fold, torch.arange(300, 800) % 3]), outcome=torch.cat([old.outcome, said.outcome], 1),
        propensity=torch.cat([old.propensity, said.propensity], 1),
        outcome_draws=torch.cat([old.outcome_draws, said.outcome_draws], -1),
        propensity_draws=torch.cat([old.propensity_draws, said.propensity_draws], -1),
    )  # fmt: skip
    features = torch.cat([torch.ones(1, 800, dtype=torch.float64), pooled.outcome]).T
    beta = ridges(Frozen(features[None], pooled.fold), 2, pooled.t, pooled.y, torch.ones(800))
    found = (beta[pooled.fold] * features[:, None]).sum(-1).T
    after = first.update(new)
    torch.testing.assert_close(after.nuisances.outcome, found, atol=1e-12, rtol=0)
    moved = after.nuisances.outcome - pooled.outcome
    pooled = pooled._replace(outcome=after.nuisances.outcome, outcome_draws=pooled.outcome_draws + moved)
    torch.testing.assert_close(after.means, posterior(pooled), atol=1e-12, rtol=0)


def test_what_new_rows_are_told_is_the_mean_of_all_replicas():
    g = torch.Generator().manual_seed(0)
    x = torch.randn(200, 3, generator=g)
    t = (torch.rand(200, generator=g) < torch.sigmoid(x[:, 0])).long()
    y = torch.sin(2 * x[:, 0]) + t + 0.3 * torch.randn(200, generator=g)
    found = network_nuisances(x, t, y, folds=3, repetitions=2, replicates=1, steps=60)
    new = torch.randn(50, 3, generator=g)
    said = found.foreteller(new)
    (made, treated), (again, _) = found.foreteller.runs
    assert isinstance(treated, Propensities)
    inputs = found.foreteller.steepness(new)
    for run, told in ((made, said.outcome), (again, said.outcome_draws[0])):
        by_hand = torch.zeros(2, 50, dtype=torch.float64)
        for one in run.parts:
            each = one.arms.mean(one.herd(inputs))
            by_hand += one.weight[:, None] * each.mean(0)
        torch.testing.assert_close(told, by_hand * run.units[1] + run.units[0], atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(said.propensity.sum(0), torch.ones(50, dtype=torch.float64))
    assert said.propensity[1][new[:, 0] > 1].mean() > said.propensity[1][new[:, 0] < -1].mean() + 0.2


def test_known_rows_are_told_what_they_were_told_out_of_fold_but_for_noise(first):
    block = first.origin.block
    said = first.origin.crossfit.foreteller(block.x)
    for new, old in (
        (said.outcome[1], first.nuisances.outcome[1]),
        (said.propensity[1], first.nuisances.propensity[1]),
    ):
        assert np.corrcoef(new, old)[0, 1] > 0.9


def test_more_rows_narrow_the_interval_around_the_truth(first):
    after = first.update(rows(2700, 3))
    assert abs(after.mean - 1.0) < 4 * after.sd
    assert after.sd < 0.6 * first.sd
    assert not after.warnings
    assert any("have seen the first 300 of 3,000 rows" in note for note in after.notes)
    assert after.overlap is not None
    assert not after.refute(simulations=20).convicted


def test_groups_and_curves_are_updated_too():
    data, new = rows(400, 5), rows(400, 6)
    by_side = asked(data, estimand=("group", "side")).update(new)
    assert set(by_side.group_effects) == {"left", "right"}
    assert all(abs(q.mean - 1.0) < 5 * q.sd for q in by_side.group_effects.values())
    assert sum(g.share for g in by_side.groups) == pytest.approx(1.0)
    curve = asked(data, estimand=("along", "b"))
    assert float(curve.update(new).along[1].means.std(0).mean()) < float(curve.along[1].means.std(0).mean())
    treated = asked(data, estimand="treated").update(new)
    assert abs(treated.mean - 1.0) < 4 * treated.sd


def test_pictures_are_updated_with_the_scaling_of_the_first_ones():
    def pictures(n, seed):
        rng = np.random.default_rng(seed)
        x = rng.integers(0, 255, (n, 1, 4, 4)).astype(np.uint8)
        bright = (x.mean((1, 2, 3)) - 127) / 20
        t = (rng.random(n) < 1 / (1 + np.exp(-bright))).astype(int)
        return {"x": torch.from_numpy(x), "t": t, "y": bright + t + 0.3 * rng.standard_normal(n)}

    make = lambda outputs: torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, outputs))
    few = kk.causal.Networks(network=make, propensity=make, folds=2, repetitions=1, replicates=1, steps=300)
    effect = kk.do(pictures(400, 0), {"t": 1}, versus={"t": 0}, outcome="y", adjust="x", method=few)
    after = effect.update(pictures(800, 1))
    assert after.rows == 1200
    assert after.sd < 0.8 * effect.sd
    assert abs(after.mean - 1.0) < 4 * after.sd


def test_another_rule_of_treatment_is_noticed_and_calibrated(first):
    other = rows(1500, 7, rule=-1.0)
    after = first.update(other)
    assert any("another rule" in w for w in after.warnings)
    assert abs(after.mean - 1.0) < 4 * after.sd
    p, t = torch.full((2, 400), 0.5, dtype=torch.float64), torch.arange(400) % 2
    assert another_rule(p, t) is None
    mend = another_rule(p, (torch.arange(400) % 10 == 0).long())
    assert mend is not None
    assert float(mend(p)[1].mean()) == pytest.approx(0.1, abs=1e-3)


def test_replicates_are_calibrated_as_what_they_differ_from(first):
    """Else another rule of treatment would pass for an error of all of them, and be taken off the effect."""
    new = rows(2000, 7, rule=-2.0)
    after = first.update(new)
    rest = remainder(after.nuisances)
    assert float((rest[:, 1] - rest[:, 0]).abs().max()) < 0.05
    x = first.origin.reader.new(new, (), force=False)[0].x
    said = first.origin.crossfit.foreteller(x)
    mended, told = recalibrated(said, torch.tensor((new["t"] == "yes").astype(int)))
    assert len(told) == 1
    same = said._replace(propensity_draws=said.propensity[None])
    again = recalibrated(same, torch.tensor((new["t"] == "yes").astype(int)))[0]
    torch.testing.assert_close(again.propensity_draws[0], mended.propensity, atol=1e-12, rtol=0)


def test_new_treatments_by_the_old_rule_seldom_seem_to_follow_another():
    g = torch.Generator().manual_seed(0)
    alarms = 0
    for _ in range(300):
        e = torch.rand(200, generator=g, dtype=torch.float64) * 0.8 + 0.1
        t = (torch.rand(200, generator=g) < e).long()
        alarms += another_rule(torch.stack([1 - e, e]), t) is not None
    assert alarms <= 3  # 0.3 are expected: four or more have a chance below 0.001


def test_outcomes_of_another_day_are_noticed(first):
    after = first.update(rows(1000, 8, effect=2.0))
    assert any("new outcomes under yes are" in w for w in after.warnings)
    assert not any("under no are" in w for w in after.warnings)


def test_an_old_error_that_new_rows_show_is_no_drift():
    g = torch.Generator().manual_seed(0)
    t = torch.arange(4000) % 2
    y = torch.randn(4000, generator=g, dtype=torch.float64)
    off = torch.full((2, 4000), 0.2, dtype=torch.float64)  # what the first rows did not know any better
    assert not drifted((off[:, :200], t[:200], y[:200]), (off, t, y), ("a", "b"))
    assert len(drifted((off[:, :200], t[:200], y[:200]), (off, t, y + t), ("a", "b"))) == 1
    assert not drifted((off[:, :200], t[:200], y[:200]), (off[:, :4], t[:4], y[:4] + 9), ("a", "b"))


def test_a_contrast_that_was_changed_stays(first):
    turned = first.contrast("no", "yes")
    after = turned.update(rows(300, 9))
    assert (after.level, after.versus) == (turned.level, turned.versus)
    assert after.mean < 0


def test_rows_that_cannot_be_added_are_refused(first):
    new = rows(100, 4)
    after = first.update(new)
    with pytest.raises(DataError, match="learnt already"):
        after.update(new)
    assert after.update(new, force=True).rows == 500
    with pytest.raises(DataError, match="row 3: 'perhaps'"):
        first.update({**new, "t": np.where(new["a"] > 0, "perhaps", "no")})
    letters = lambda data, other: {**data, "t": np.where(data["t"] == "yes", other, "A")}
    two = kk.do(letters(rows(100, 1), "B"), {"t": "B"}, outcome="y", adjust=X, method=FAST)
    with pytest.raises(DataError, match="another treatment"):
        two.update(letters(new, "C"))
    with pytest.raises(UsageError, match="has no column 'b'"):
        first.update({name: v for name, v in new.items() if name != "b"})
    gaps = new["a"].copy()
    gaps[:3] = np.nan
    with pytest.raises(DataError, match="missing values, and the first rows had none"):
        first.update({**new, "a": gaps})
    dose = kk.do({**rows(100, 1), "dose": rows(100, 3)["a"]}, {"dose": 1.0}, versus=0.0, outcome="y", adjust="b",
                 method=FAST)  # fmt: skip
    with pytest.raises(kk.errors.Unsupported, match="keeps no sums"):
        dose.update(new)
