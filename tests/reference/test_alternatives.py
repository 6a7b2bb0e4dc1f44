"""Repairs of predictions, and the table of them, on simulated rows whose truth is known."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from scipy import stats

from kokkiri.data.core import Group, Inputs, Target
from kokkiri.errors import DataError, ShapeError, Unsupported
from kokkiri.evaluation import (
    Alternatives,
    Comparison,
    ConformalIntervals,
    ConformalSets,
    Recalibration,
    alternatives,
    comparison,
    conformal_intervals,
    conformal_sets,
    evaluate,
    out_of_distribution,
    recalibrated,
    recalibration_for,
    separation,
    shuffled,
)
from kokkiri.evaluation.scoring import crps_of
from kokkiri.likelihoods import Poisson
from kokkiri.numerics import scores
from kokkiri.numerics.distributions import Laplace, Normal, StudentT
from kokkiri.numerics.random import philox
from kokkiri.predictive import Classes, Mixture

EXACT = {"rtol": 1e-10, "atol": 1e-12}
KIND, HEIGHT = Target("kind", "category", tuple("abcd")), Target("height", "number")


def even(draws: int) -> torch.Tensor:
    return torch.full((draws,), 1 / draws, dtype=torch.float64).log()


def classes(n: int, seed: int, draws: int = 1, factor: float = 1.0):
    """Predictions of four classes, right but for a factor on the logits of their mean, and the truth."""
    rng = philox(seed, "test classes", n)
    logits = torch.from_numpy(1.5 * rng.normal(size=(1, n, 4)) + 0.5 * rng.normal(size=(draws, n, 4)))
    said = Classes(logits.log_softmax(2), even(draws))
    y = (torch.from_numpy(rng.random((n, 1))) > said.mean.cumsum(1)).sum(1).clamp(max=3)
    return (said if factor == 1 else recalibrated(said, 1 / factor)), y


def numbers(n: int, seed: int, draws: int = 3, sd: float = 1.0, targets: int = 1):
    """Mixtures of three normals, and truths whose distance from the mean is `sd` times what they say."""
    rng = philox(seed, "test numbers", n)
    location = 1e4 + torch.from_numpy(rng.normal(size=(1, n, targets)) + 0.7 * rng.normal(size=(draws, n, targets)))
    log_scale = torch.from_numpy(rng.uniform(-1, 0.5, (1, n, targets))).expand(draws, n, targets)
    said = Mixture(Normal(location, log_scale), even(draws))
    y = said.mean + sd * (said.sample(1, seed=seed)[0] - said.mean)
    return said, y


def plausible(held: int, n: int, p: float) -> bool:
    return stats.binomtest(held, n, p).pvalue > 1e-6


# -- temperature and stretch -----------------------------------------------------------------------------------------


def test_right_predictions_get_a_factor_within_its_sampling_error_of_one():
    for make, count in ((classes, 300), (numbers, 300)):
        z = []
        for seed in range(40):
            said, y = make(count, seed)
            if isinstance(said, Mixture):  # rows are independent only if each has a draw of its own
                rng = philox(seed, "test rows")
                which = torch.from_numpy(rng.integers(0, 3, count))
                parts = said.components
                mean, sd = parts.location[which, torch.arange(count), 0], parts.log_scale[0, :, 0].exp()
                y = mean + sd * torch.from_numpy(rng.normal(size=count))
            found = recalibration_for(said, y)
            z.append(math.log(found.factor) / found.log_error)
        assert np.abs(z).max() < 5
        assert stats.chi2(40).sf(np.square(z).sum()) > 1e-4, make
        assert stats.chi2(40).cdf(np.square(z).sum()) > 1e-4, make


def test_logits_times_three_get_a_temperature_of_three_and_spreads_of_a_third_a_factor_of_three():
    said, y = classes(4000, 0, factor=3.0)
    found = recalibration_for(said, y)
    assert abs(math.log(found.factor / 3)) < 4 * found.log_error
    assert found.log_error < 0.03
    assert found.rows == 4000
    said, y = numbers(4000, 0, draws=1, sd=3.0)
    found = recalibration_for(said, y)
    assert abs(math.log(found.factor / 3)) < 4 * found.log_error
    torch.testing.assert_close(found.apply(said).sd, found.factor * said.sd, **EXACT)


def test_a_temperature_is_applied_to_the_mean_of_the_draws_and_keeps_the_most_probable_class():
    said, _ = classes(50, 1, draws=5)
    mended = recalibrated(said, 2.0)
    expected = said.mean.sqrt() / said.mean.sqrt().sum(1, keepdim=True)
    torch.testing.assert_close(mended.mean, expected, **EXACT)
    assert torch.equal(mended.label, said.label)
    torch.testing.assert_close(recalibrated(said, 1.0).mean, said.mean, **EXACT)


def test_each_row_may_have_a_factor_of_its_own():
    said, _ = classes(6, 2, draws=2)
    c = torch.tensor([0.5, 2.0, 1.0, 3.0, 1.0, 0.1])
    for i in range(6):
        torch.testing.assert_close(recalibrated(said, c).mean[i], recalibrated(said, float(c[i])).mean[i], **EXACT)
    said, _ = numbers(6, 2)
    torch.testing.assert_close(recalibrated(said, c).sd, c.double() * said.sd, **EXACT)


@pytest.mark.parametrize("family", [Normal, Laplace, StudentT])
@pytest.mark.parametrize("targets", [1, 2])
def test_a_stretched_mixture_is_the_distribution_of_mean_plus_factor_times_the_rest(family, targets):
    normal, y = numbers(9, 3, targets=targets)
    extra = (torch.full_like(normal.components.location, 1.5),) if family is StudentT else ()
    said = Mixture(family(*normal.components, *extra), normal.log_weights, torch.tensor(5.0), torch.tensor(2.0))
    mended, m = recalibrated(said, 1.7), said.mean
    y = 5 + 2 * y
    torch.testing.assert_close(mended.mean, m, **EXACT)
    torch.testing.assert_close(mended.epistemic, 1.7**2 * said.epistemic, **EXACT)
    torch.testing.assert_close(mended.aleatoric, 1.7**2 * said.aleatoric, **EXACT)
    torch.testing.assert_close(mended.quantile(0.1), m + 1.7 * (said.quantile(0.1) - m), rtol=1e-9, atol=1e-9)
    expected = said.log_prob(m + (y - m) / 1.7) - targets * math.log(1.7)
    torch.testing.assert_close(mended.log_prob(y), expected, rtol=1e-8, atol=1e-8)


def test_what_a_component_does_not_know_is_stretched_with_the_rest():
    said, _ = numbers(9, 3)
    within = 0.3 * said.components.variance
    said = Mixture(said.components, said.log_weights, torch.tensor(5.0), torch.tensor(2.0), within)
    mended = recalibrated(said, 1.7)
    assert (said.epistemic > 4 * 0.1 * said.components.variance.amin(0)[:, 0]).all()
    torch.testing.assert_close(mended.epistemic, 1.7**2 * said.epistemic, **EXACT)
    torch.testing.assert_close(mended.aleatoric, 1.7**2 * said.aleatoric, **EXACT)
    torch.testing.assert_close(out_of_distribution(mended), out_of_distribution(said), **EXACT)
    alone = Mixture(Normal(*(t[:1] for t in said.components)), torch.zeros(1), within=within[:1])
    torch.testing.assert_close(
        out_of_distribution(alone), torch.full((9,), (0.3 / 0.7) ** 0.5, dtype=torch.float64), **EXACT
    )


def test_counts_cannot_be_stretched_and_say_what_can_be_had_instead():
    with pytest.raises(Unsupported, match="conformal_intervals"):
        recalibration_for(Poisson().predictive(torch.zeros(1, 5, 1)), torch.ones(5))


def test_targets_of_other_rows_are_refused():
    said, y = classes(30, 4)
    with pytest.raises(ShapeError):
        recalibration_for(said, y[:9])
    with pytest.raises(DataError, match="no class"):
        recalibration_for(said, y + 3)
    with pytest.raises(ShapeError):
        conformal_sets(said, y[:9])
    said, y = numbers(30, 4)
    with pytest.raises(ShapeError):
        conformal_intervals(said, y[:9])
    with pytest.raises(ShapeError):
        recalibration_for(said, y[:9])


# -- conformal -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by_quantiles", [False, True])
def test_conformal_intervals_hold_what_they_promise_though_the_model_is_wrong(by_quantiles):
    """Each trial is one exchangeable draw of n + 1 rows, so that the trials are independent."""
    held, trials, n = 0, 300, 39
    for seed in range(trials):
        said, _ = numbers(n + 1, seed)
        noise = philox(seed, "test noise").standard_t(2, n + 1)
        y = said.mean + 3 * torch.from_numpy(noise)
        taught = conformal_intervals(said.rows(slice(0, n)), y[:n], 0.8, by_quantiles=by_quantiles)
        low, high = taught.interval(said.rows(slice(n, n + 1)))
        held += int(low[0] <= y[n] <= high[0])
    assert stats.binomtest(held, trials, 0.8, alternative="less").pvalue > 1e-4
    assert stats.binomtest(held, trials, 0.8 + 1 / (n + 1), alternative="greater").pvalue > 1e-4
    own = sum(int(a <= b <= c) for a, b, c in zip(*[said.interval(0.8)[0], y, said.interval(0.8)[1]], strict=True))
    assert stats.binomtest(own, n + 1, 0.8).pvalue < 1e-3  # those of the model itself do not


@pytest.mark.parametrize("adaptive", [False, True])
def test_conformal_sets_hold_what_they_promise_though_the_model_is_wrong(adaptive):
    held, trials, n = 0, 300, 39
    for seed in range(trials):
        said, y = classes(n + 1, seed)
        wrong = recalibrated(said, 0.1)
        taught = conformal_sets(wrong.rows(slice(0, n)), y[:n], 0.8, adaptive=adaptive, seed=seed)
        held += int(taught.sets(wrong.rows(slice(n, n + 1)), seed=seed)[0, y[n]])
    assert stats.binomtest(held, trials, 0.8, alternative="less").pvalue > 1e-4
    assert stats.binomtest(held, trials, 0.8 + 1 / (n + 1), alternative="greater").pvalue > 1e-4


def test_adaptive_sets_of_right_predictions_have_their_mass_and_simple_ones_are_smaller():
    said, y = classes(6000, 5)
    taught, judged = said.rows(slice(0, 3000)), said.rows(slice(3000, 6000))
    adaptive = conformal_sets(taught, y[:3000], 0.9)
    simple = conformal_sets(taught, y[:3000], 0.9, adaptive=False)
    assert abs(adaptive.threshold - 0.9) < 4 * math.sqrt(0.09 / 3000)
    sets = [c.sets(judged) for c in (adaptive, simple)]
    for s in sets:
        held = int(s.gather(1, y[3000:, None]).sum())
        assert abs(held / 3000 - 0.9) < 5 * math.sqrt(2 * 0.09 / 3000)  # the threshold errs as much as the count
    assert sets[1].sum() < sets[0].sum()


def test_intervals_of_right_predictions_are_as_wide_as_their_own():
    said, y = numbers(4000, 6, draws=1)
    taught = conformal_intervals(said, y, 0.9)
    assert taught.thresholds[0] == pytest.approx(1.645, abs=0.08)
    by_quantiles = conformal_intervals(said, y, 0.9, by_quantiles=True)
    assert by_quantiles.thresholds[0] == pytest.approx(0, abs=0.08)


def test_each_target_has_a_threshold_of_its_own():
    said, y = numbers(60, 7, targets=2)
    y = torch.stack([y[:, 0], said.mean[:, 1] + 4 * (y[:, 1] - said.mean[:, 1])], 1)
    taught = conformal_intervals(said, y)
    assert taught.thresholds[1] > 2 * taught.thresholds[0]
    low, high = taught.interval(said)
    assert low.shape == high.shape == (60, 2)
    assert ((low <= y) & (y <= high)).sum(0).tolist() == [55, 55]  # ⌈61 · 0.9⌉


def test_noise_without_a_variance_has_an_interval_to_scale_by():
    zero = torch.zeros(1, 40, 1, dtype=torch.float64)
    said = Mixture(StudentT(zero, zero, zero - 1), torch.zeros(1))
    low, high = conformal_intervals(said, torch.linspace(-3, 3, 40).double(), 0.5).interval(said)
    assert (high - low).isfinite().all()


def test_too_few_rows_give_everything_and_none_an_error():
    said, y = numbers(8, 8)
    low, high = conformal_intervals(said, y, 0.9).interval(said)
    assert low.tolist() == [-math.inf] * 8
    assert high.tolist() == [math.inf] * 8
    kinds, k = classes(8, 8)
    assert conformal_sets(kinds, k, 0.9).sets(kinds).all()
    with pytest.raises(DataError, match="needs   0 < level < 1 and rows, 9 at least"):
        conformal_intervals(said.rows(slice(0, 0)), y[:0], 0.9)


def test_what_was_learnt_survives_json():
    said, y = numbers(60, 9, targets=2)
    kinds, k = classes(60, 9)
    few, none = conformal_intervals(said.rows(slice(0, 3)), y[:3]), Recalibration(1.0, math.nan, 3)
    for value in (conformal_intervals(said, y), few, conformal_sets(kinds, k), recalibration_for(kinds, k)):
        assert type(value).from_json(json.loads(json.dumps(value.to_json(), allow_nan=False))) == value
    assert math.isnan(Recalibration.from_json(json.loads(json.dumps(none.to_json(), allow_nan=False))).log_error)
    assert {type(v) for v in (few, conformal_sets(kinds, k))} == {ConformalIntervals, ConformalSets}


# -- the table -------------------------------------------------------------------------------------------------------


def test_the_table_shows_that_repairs_mend_a_model_that_is_too_sure():
    said, y = classes(2000, 10, factor=4.0)
    flat = Classes(torch.full((1, 2000, 4), -math.log(4)), torch.zeros(1))
    table = alternatives([("model", said), ("flat", flat)], y, KIND)
    model, scaled, adaptive, simple, other = table.lines
    assert [line.name for line in table.lines] == [
        "model", "temperature scaling", "conformal, adaptive", "conformal, simple", "flat",
    ]  # fmt: skip
    assert scaled.log_likelihood.value > model.log_likelihood.value + 0.1
    assert scaled.score.value < model.score.value
    assert scaled.calibration.value < 0.5 * model.calibration.value
    assert model.calibration == evaluate(said, y, KIND).classes.calibration.error
    assert model.coverage.high < 0.9
    for line in (adaptive, simple):
        assert line.coverage.low < 0.9 < line.coverage.high + 0.02
        assert (line.log_likelihood, line.score, line.calibration) == (None, None, None)
    assert all(f.low < 4 < f.high for f in table.factors)
    assert table.halves == (1000, 1000)
    assert other.size.value == 4
    assert not table.left_out


def test_the_table_of_numbers_shows_the_same():
    said, y = numbers(1500, 11, draws=1, sd=2.5)
    table = alternatives([("model", said)], y, HEIGHT)
    model, scaled, by_sd, by_quantiles = table.lines
    assert scaled.log_likelihood.value > model.log_likelihood.value + 0.1
    assert scaled.score.value < model.score.value
    assert scaled.calibration.value < 0.3 * model.calibration.value
    assert model.score.value == pytest.approx(evaluate(said, y, HEIGHT).metric("CRPS").value)
    for line in (scaled, by_sd, by_quantiles):
        assert plausible(round(line.coverage.value * 1500), 1500, 0.9)
        assert line.size.value > 2 * model.size.value
    assert all(f.low < 2.5 < f.high for f in table.factors)


def test_no_row_has_a_say_in_what_it_is_judged_by():
    """A truth moved away changes the other half's thresholds, and its own row's verdict, but not its own threshold."""
    said, y = numbers(101, 12)
    before = alternatives([("model", said)], y, HEIGHT)
    moved = y.clone()
    moved[7] += 1e6
    after = alternatives([("model", said)], moved, HEIGHT)
    changed = [a != b for a, b in zip(before.factors, after.factors, strict=True)]
    assert sorted(changed) == [False, True]
    assert sorted(before.halves) == [50, 51]


def test_rows_of_one_group_stay_in_one_half():
    said, y = classes(400, 13)
    groups = torch.arange(400) // 8
    table = alternatives([("model", said)], y, KIND, groups=groups)
    assert table.grouped
    assert sum(table.halves) == 400
    assert all(n % 8 == 0 for n in table.halves)
    one = alternatives([("model", said)], y, KIND, groups=torch.zeros(400))
    assert "leave groups whole" in one.left_out
    assert [line.name for line in one.lines] == ["model"]


def test_few_rows_and_what_is_not_finite_leave_the_repairs_out_and_say_why():
    said, y = numbers(39, 14)
    table = alternatives([("model", said), ("same", said)], y, HEIGHT)
    assert [line.name for line in table.lines] == ["model", "same"]
    assert table.left_out == "39 test rows do not give two halves of 20"
    assert table.halves == table.factors == ()
    assert alternatives([("model", said.rows(slice(0, 1)))], y[:1], HEIGHT).left_out
    said, y = numbers(60, 14)
    broken = Mixture(Normal(said.components.location * math.nan, said.components.log_scale), said.log_weights)
    table = alternatives([("model", broken)], y, HEIGHT)
    assert "finite" in table.left_out
    assert math.isnan(table.lines[0].log_likelihood.value)


def test_counts_have_conformal_lines_and_no_rescaled_one():
    log_rate = torch.from_numpy(philox(0, "test counts").normal(size=(3, 120, 1)))
    said = Poisson().predictive(log_rate)
    y = said.sample(1, seed=0)[0]
    table = alternatives([("model", said)], y, HEIGHT)
    assert [line.name for line in table.lines] == ["model", "conformal, scaled", "conformal, quantiles"]
    assert table.factors == ()
    assert table.lines[0].calibration.value < 0.1


def test_two_targets_have_a_table_too():
    said, y = numbers(200, 15, targets=2)
    table = alternatives([("model", said)], y, HEIGHT)
    assert len(table.lines) == 4
    assert round(table.lines[2].coverage.value * 400) == pytest.approx(360, abs=40)


@pytest.mark.parametrize(
    "made", [(*classes(120, 16, draws=2), KIND), (*numbers(30, 16), HEIGHT)], ids=["classes", "few"]
)
def test_the_table_survives_json_alone_and_in_a_comparison(made):
    said, y, target = made
    table = alternatives([("model", said)], y, target)
    assert Alternatives.from_json(json.loads(json.dumps(table.to_json(), allow_nan=False))) == table
    whole = Comparison(comparison([("model", said)], y, target).lines, len(y), table)
    plain = json.loads(json.dumps(whole.to_json(), allow_nan=False))
    assert Comparison.from_json(plain) == whole
    del plain["alternatives"]  # as written before there were any
    assert Comparison.from_json(plain).alternatives is None


def test_published_calibration_errors_survive_json_and_tell_right_from_wrong():
    said, y = classes(2000, 17, factor=3.0)
    found = evaluate(said, y, KIND)
    again = type(found).from_json(json.loads(json.dumps(found.to_json(), allow_nan=False)))
    assert again == found
    assert [e.name for e in found.classes.published] == [
        "ECE, 15 bins of equal width", "ECE, 15 bins of equal mass", "ECE of all classes, 15 bins each",
    ]  # fmt: skip
    for e in found.classes.published:
        assert e.error.low <= e.error.value <= e.error.high
        assert e.error.value > e.by_chance_high > e.by_chance
    right, truth = classes(2000, 17)
    for e in evaluate(right, truth, KIND).classes.published:
        assert e.error.value < 2 * e.by_chance


def test_the_crps_of_normals_is_exact_in_the_units_of_the_target_and_near_that_of_draws():
    said, y = numbers(300, 18, targets=2)
    said = Mixture(said.components, said.log_weights, torch.tensor([1e9, 0.0]), torch.tensor([1e-3, 5.0]))
    y = torch.tensor([1e9, 0.0]) + torch.tensor([1e-3, 5.0], dtype=torch.float64) * y
    exact = crps_of(said, y)
    drawn = scores.crps_samples(said.sample(4000, seed=0), y)
    ratio = exact.mean(0) / drawn.mean(0)
    np.testing.assert_allclose(ratio, 1, atol=0.02)  # the error of 4000 shared draws is about 1 %


# -- out of distribution ---------------------------------------------------------------------------------------------


def test_disagreement_is_strange_and_known_noise_is_not():
    agreed, torn = [[0.5, 0.5], [0.5, 0.5]], [[0.99, 0.01], [0.01, 0.99]]
    said = Classes(torch.tensor([agreed, torn]).transpose(0, 1).log(), even(2))
    score = out_of_distribution(said)
    assert score[0] == pytest.approx(0, abs=1e-7)
    assert score[1] > 0.6
    location = torch.tensor([[0.0, -3.0], [0.0, 3.0]])[..., None]
    numbers_ = Mixture(Normal(location, torch.tensor([5.0, 0.0]).reshape(1, 2, 1).expand(2, 2, 1)), said.log_weights)
    torch.testing.assert_close(out_of_distribution(numbers_), torch.tensor([0.0, 3.0]).double(), rtol=1e-6, atol=1e-6)


def test_several_targets_add_up_and_noise_without_variance_is_measured_by_its_scale():
    location = torch.tensor([[-3.0, -4.0], [3.0, 4.0]])[:, None]
    zero, weights = torch.zeros_like(location), even(2)
    assert out_of_distribution(Mixture(Normal(location, zero), weights)).tolist() == pytest.approx([5.0], rel=1e-6)
    wild = Mixture(StudentT(location, zero, zero - 1), weights, torch.tensor(0.0), torch.tensor(2.0))
    assert wild.aleatoric.isinf().all()
    assert out_of_distribution(wild).tolist() == pytest.approx([5.0], rel=1e-6)


def test_a_single_network_cannot_tell():
    said, _ = classes(50, 19)
    found = separation(out_of_distribution(said), out_of_distribution(said))
    assert (found.value, found.low) == (0.5, None)


def test_separation_is_auroc_with_delongs_interval():
    rng = philox(20, "test separation")
    inside, outside = torch.from_numpy(rng.normal(size=200)), torch.from_numpy(1 + rng.normal(size=100))
    found = separation(inside, outside)
    value, error = scores.auroc(torch.cat([inside, outside]), torch.arange(300) >= 200)
    assert math.isclose(found.value, value)
    assert found.high - found.low == pytest.approx(2 * 1.959964 * float(error))
    assert found.low < stats.norm.cdf(1 / math.sqrt(2)) < found.high


def test_perfect_separation_has_an_interval_that_knows_how_few_rows_there_were():
    found = separation(torch.zeros(10), torch.ones(30))
    assert (found.value, found.high) == (1.0, 1.0)
    assert found.low == pytest.approx(stats.beta.ppf(0.025, 10, 1))  # Clopper & Pearson, 10 of 10
    assert math.isclose(separation(torch.ones(10), torch.zeros(30)).high, 1 - found.low)
    assert separation(torch.zeros(1), torch.ones(1)).low == pytest.approx(0.025)
    with pytest.raises(DataError, match="both kinds"):
        separation(torch.zeros(0), torch.ones(3))


def test_shuffled_rows_have_the_columns_of_the_real_ones_and_none_of_their_rows():
    x = torch.stack([torch.arange(100.0) + 1000 * k for k in range(5)], 1)
    groups = (Group("a", 0, 1, "number"), Group("b", 1, 3, "category"), Group("a", 3, 4, "missing"))
    new = shuffled(x, Inputs((5,), groups))
    assert torch.equal(new.sort(0).values, x)
    rank = new % 1000
    assert torch.equal(rank[:, 1], rank[:, 2])
    assert torch.equal(rank[:, 0], rank[:, 3])
    for a, b in ((0, 1), (0, 4), (1, 4)):
        assert (rank[:, a] == rank[:, b]).sum() < 10
    assert torch.equal(new, shuffled(x, Inputs((5,), groups)))
    assert not torch.equal(new, shuffled(x, Inputs((5,), groups), seed=1))
    pictures = shuffled(x.reshape(100, 1, 1, 5), Inputs((1, 1, 5)))
    assert pictures.shape == (100, 1, 1, 5)
    assert len({tuple(r) for r in (pictures.reshape(100, 5) % 1000).T.tolist()}) == 5
