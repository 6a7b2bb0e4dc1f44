"""Screening tests against the textbook, scipy's Beta, quadrature and simulation; what is refused."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from functools import partial
from itertools import product

import numpy as np
import pytest
import scipy.stats
import torch
from scipy.integrate import quad

import kokkiri as kk
from kokkiri.errors import KokkiriError, ShapeError, Unsupported, UsageError
from kokkiri.exact import Screening, ScreeningCounts, screening_counts
from kokkiri.exact.intervals import beta_interval, drawn_interval
from kokkiri.exact.screening_words import RESULTS, natural
from kokkiri.numerics.random import philox

f64 = partial(torch.tensor, dtype=torch.float64)
close = partial(math.isclose, rel_tol=1e-12)
TEST = Screening(0.1, 0.99, 0.01)


def test_the_numbers_of_the_mission():
    assert close(TEST.precision, 0.099 / 0.108)
    assert close(Screening(0.1, 0.99, 0.1).precision, 0.099 / 0.189)
    assert close(TEST.second().after(first=True, second=True), 0.09801 / 0.0981)
    assert close(TEST.after_negative, 0.001 / 0.892)
    assert f"{float(TEST.precision):.4f} {float(Screening(0.1, 0.99, 0.1).precision):.3f}" == "0.9167 0.524"


def test_precision_falls_as_the_false_positive_rate_rises_and_as_prevalence_falls():
    by_alarms = Screening(0.1, 0.99, torch.logspace(-4, 0, 50, dtype=torch.float64)).precision
    by_prevalence = Screening(torch.logspace(-6, -0.01, 50, dtype=torch.float64), 0.99, 0.01).precision
    assert bool((by_alarms.diff() < 0).all())
    assert bool((by_prevalence.diff() > 0).all())


def test_errors_of_both_types_and_likelihood_ratios_are_named_as_such():
    test = Screening(0.2, 0.8, 0.05)
    assert close(test.type_one, 0.05)
    assert close(test.type_two, 0.2)
    assert close(test.recall, 0.8)
    assert close(test.specificity, 0.95)
    assert close(test.ratio_positive, 16)
    assert close(test.ratio_negative, 0.2 / 0.95)
    assert close(test.accuracy, 0.2 * 0.8 + 0.8 * 0.95)
    assert close(test.positive, 0.2 * 0.8 + 0.8 * 0.05)


def test_natural_frequencies_are_those_of_the_textbook():
    f = TEST.frequencies(1000)
    torch.testing.assert_close(torch.stack(f[1:]), f64([99.0, 1.0, 9.0, 891.0]), rtol=1e-12, atol=0)
    said = natural(TEST)
    for part in ("Of 1,000 people, 100 are ill", "99 of them test positive", "108 who test positive", "91.7 %"):
        assert part in said


def test_so_many_people_are_named_that_each_group_has_some():
    assert natural(Screening(0.001, 0.99, 0.01)).startswith("Of 100,000 people, 100 are ill: 99 of them")
    assert natural(Screening(0.01, 0.85, 0.05)).startswith("Of 10,000 people, 100 are ill: 85 of them")
    assert not natural(Screening(1e-200, 0.85, 0.05))


def test_rates_may_be_tensors_and_each_case_is_as_if_alone():
    prevalence, alarms = f64([[0.1], [0.5]]), f64([0.01, 0.1, 0.3])
    many = Screening(prevalence, 0.9, alarms)
    for i, j in product(range(2), range(3)):
        alone = Screening(prevalence[i, 0], 0.9, alarms[j])
        for name in ("precision", "after_negative", "ratio_positive", "accuracy"):
            torch.testing.assert_close(getattr(many, name)[i, j], getattr(alone, name), rtol=1e-14, atol=0)
        two, one = many.second(dependence=0.3), alone.second(dependence=0.3)
        torch.testing.assert_close(two.if_ill[i, j], one.if_ill, rtol=1e-14, atol=0)


def test_certain_tests_are_certain_and_results_that_never_come_have_no_posterior():
    sure = Screening(0.3, 1.0, 0.0)
    assert (float(sure.precision), float(sure.after_negative)) == (1.0, 0.0)
    never = Screening(0.3, 0.0, 0.0)
    assert math.isnan(never.precision)
    assert close(never.after_negative, 0.3)
    assert "never comes" in str(never)


def test_a_dependent_second_test_says_less_and_a_repeated_one_nothing():
    after = [float(TEST.second(dependence=r).after(first=True, second=True)) for r in (0.0, 0.2, 0.5, 1.0)]
    assert after == sorted(after, reverse=True)
    assert math.isclose(after[-1], TEST.precision, rel_tol=1e-9)


def test_correlated_results_have_the_correlation_that_was_asked_for():
    first, second = Screening(0.3, 0.8, 0.2), Screening(0.3, 0.7, 0.1)
    table = first.second(second, dependence=(0.4, -0.1)).if_ill
    p, q = table.sum(1)[0], table.sum(0)[0]
    correlation = (table[0, 0] - p * q) / (p * (1 - p) * q * (1 - q)).sqrt()
    assert close(correlation, 0.4)
    well = first.second(second, dependence=(0.4, -0.1)).if_well
    assert math.isclose((well[0, 0] - 0.02) / math.sqrt(0.2 * 0.8 * 0.1 * 0.9), -0.1, rel_tol=1e-10)


def test_two_tests_make_one_that_is_positive_twice_or_once():
    two = TEST.second()
    assert math.isclose(two.both.type_one, 1e-4, rel_tol=1e-10)
    assert close(two.both.recall, 0.99**2)
    assert close(two.either.type_one, 1 - 0.99**2)
    assert math.isclose(two.either.type_two, 1e-4, rel_tol=1e-9)


def test_people_who_are_simulated_test_twice_as_often_as_is_said():
    rng, n = philox(0, "two tests"), 200_000
    ill = rng.random(n) < 0.3
    trait = rng.random(n)  # what both results hang on
    rate = np.where(ill, 0.8, 0.2)
    same = rng.random(n) < 0.5  # with one half the second result is the first
    first = trait < rate
    second = np.where(same, first, rng.random(n) < rate)
    two = Screening(0.3, 0.8, 0.2).second(dependence=0.5)
    for a, b in RESULTS:
        seen = (first == a) & (second == b)
        said = float(two.probability(a, b))
        assert scipy.stats.binomtest(int(seen.sum()), n, said).pvalue > 1e-6
        assert scipy.stats.binomtest(int((seen & ill).sum()), int(seen.sum()), float(two.after(a, b))).pvalue > 1e-6


# -- counts ----------------------------------------------------------------------------------------------------------


def test_rates_that_were_counted_have_betas_quantiles():
    test = ScreeningCounts(95, 5, 10, 190, prevalence=0.1, level=0.9)
    pairs = (
        (test.recall, (96, 6)), (test.type_two, (6, 96)), (test.type_one, (11, 191)), (test.specificity, (191, 11)),
    )  # fmt: skip
    for found, shape in pairs:
        beta = scipy.stats.beta(*shape)
        assert math.isclose(found.value, beta.mean(), rel_tol=1e-12)
        assert math.isclose(found.low, beta.ppf(0.05), rel_tol=1e-9)
        assert math.isclose(found.high, beta.ppf(0.95), rel_tol=1e-9)
        assert found.error == 0


def test_people_who_are_a_sample_have_a_dirichlet_and_precision_a_beta():
    test = ScreeningCounts(95, 5, 10, 190)
    assert math.isclose(test.precision.low, scipy.stats.beta(96, 11).ppf(0.025), rel_tol=1e-9)
    assert math.isclose(test.after_negative.high, scipy.stats.beta(6, 191).ppf(0.975), rel_tol=1e-9)
    assert close(test.rates.precision, 96 / 107)
    drawn = test.interval(lambda t: t.precision)
    assert abs(drawn.low - test.precision.low) < 6 * drawn.error
    assert abs(drawn.high - test.precision.high) < 6 * drawn.error
    assert drawn.error < 0.02 * (drawn.high - drawn.low)


def test_the_interval_of_precision_at_a_known_prevalence_is_that_of_quadrature():
    """P(precision <= x) = P(s / f <= odds of x / prior odds), by integrating over the false-positive rate."""
    test = ScreeningCounts(45, 5, 10, 90, prevalence=0.1)
    s, f = scipy.stats.beta(46, 6), scipy.stats.beta(11, 91)

    def below(x):
        ratio = x / (1 - x) / (0.1 / 0.9)
        return quad(lambda v: f.pdf(v) * s.cdf(ratio * v), 0, 1, limit=200, points=[0.1])[0]

    found = test.precision
    density = (below(found.low + 1e-4) - below(found.low - 1e-4)) / 2e-4
    assert abs(below(found.low) - 0.025) < 6 * found.error * density
    density = (below(found.high + 1e-4) - below(found.high - 1e-4)) / 2e-4
    assert abs(below(found.high) - 0.975) < 6 * found.error * density


def test_the_value_is_the_probability_of_the_next_person():
    test = ScreeningCounts(45, 5, 10, 90, prevalence=0.1)
    s, f = 46 / 52, 11 / 102
    assert close(test.precision.value, 0.1 * s / (0.1 * s + 0.9 * f))
    assert close(test.ratio_positive.value, s / f)
    both = test.second()[True, True]
    squares = (46 * 47 / (52 * 53), 11 * 12 / (102 * 103))  # second moments of both Betas
    exact = 0.1 * squares[0] / (0.1 * squares[0] + 0.9 * squares[1])
    assert math.isclose(both.value, exact, rel_tol=5e-3)
    assert both.low < exact < both.high


@pytest.mark.parametrize("known", [np.float32(0.25), np.float64(0.25), torch.tensor(0.25)], ids=repr)
def test_a_known_prevalence_may_be_a_number_of_any_kind(known):
    assert (
        ScreeningCounts(9, 1, 2, 8, prevalence=known).precision
        == ScreeningCounts(9, 1, 2, 8, prevalence=0.25).precision
    )


def test_a_prevalence_that_was_counted_widens_the_interval():
    known = ScreeningCounts(95, 5, 10, 190, prevalence=0.1).precision
    counted = ScreeningCounts(95, 5, 10, 190, prevalence=(10, 100)).precision
    assert counted.high - counted.low > 1.3 * (known.high - known.low)


def test_intervals_hold_the_truth_as_often_as_they_say(monkeypatch):
    """Over tests drawn from the prior; p(precision) at a known prevalence, so that nothing here is in closed form."""
    monkeypatch.setattr(screening_counts, "DRAWS", 2000)
    rng, held, n = philox(0, "coverage"), 0, 200
    for i in range(n):
        s, f = rng.random(2)
        a, b = rng.binomial(40, s), rng.binomial(60, f)
        found = ScreeningCounts(int(a), int(40 - a), int(b), int(60 - b), prevalence=0.2, level=0.9, seed=i).precision
        held += found.low <= float(Screening(0.2, s, f).precision) <= found.high
    assert scipy.stats.binomtest(held, n, 0.9).pvalue > 1e-6
    assert scipy.stats.binomtest(held, n, 0.6).pvalue < 1e-6  # the test could fail


def test_the_same_seed_gives_the_same_interval_and_the_global_state_is_left_alone():
    before = (torch.get_rng_state(), repr(np.random.get_state()))
    one, two, other = (ScreeningCounts(9, 1, 2, 8, prevalence=0.1, seed=s).precision for s in (3, 3, 4))
    assert one == two != other
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == repr(np.random.get_state())


def test_intervals_of_draws_are_their_quantiles_with_the_error_of_ranks():
    found = drawn_interval(torch.from_numpy(philox(0, "draws").standard_normal(50_000)), 0.0, 0.95)
    assert abs(found.low + 1.95996) < 5 * found.error
    expected = math.sqrt(0.025 * 0.975 / 50_000) / scipy.stats.norm.pdf(1.95996)
    assert 0.5 * expected < found.error < 2 * expected


def test_betas_of_few_and_of_many_counts_have_intervals():
    for a, b in ((1.0, 1.0), (0.5, 0.5), (1.0, 1e6), (3e4, 2e4)):
        found = beta_interval(a, b, 0.95)
        assert math.isclose(found.low, scipy.stats.beta(a, b).ppf(0.025), rel_tol=1e-8)
        assert math.isclose(found.high, scipy.stats.beta(a, b).ppf(0.975), rel_tol=1e-8)


def test_tests_print_themselves_in_eighty_columns_and_draw_themselves():
    odd = [Screening(0.5, 0.5, 0.5), Screening(1e-9, 0.2, 0.9), Screening(0.5, 0.0, 0.0), Screening(1e-7, 1, 1e-9)]
    counted = [ScreeningCounts(95, 5, 10, 190), ScreeningCounts(0, 9, 5, 0, prevalence=(3, 1_000_000))]
    for test in (TEST, *odd, *counted):
        assert max(map(len, str(test).splitlines())) <= 80, test
        assert ET.fromstring(kk.drawing.file_of(test.picture())).tag.endswith("svg")
    for test in (TEST, *odd[:3]):
        assert max(map(len, str(test.second()).splitlines())) <= 80
    assert "! The test says nothing" in str(odd[0])
    assert "! The test is positive more often among the well" in str(odd[1])
    assert "… 5 cases more" in str(Screening(torch.full((15,), 0.1), 0.9, 0.1))


REFUSED = {
    "prevalence 0": (UsageError, lambda: Screening(0, 0.9, 0.1), "above 0 and below 1"),
    "prevalence 1": (UsageError, lambda: Screening(1, 0.9, 0.1), "above 0 and below 1"),
    "percent": (UsageError, lambda: Screening(0.1, 99, 0.1), "0.99, if that was meant in percent"),
    "below 0": (UsageError, lambda: Screening(0.1, 0.9, -0.1), "from 0 to 1"),
    "no number": (UsageError, lambda: Screening(0.1, "high", 0.1), "'high'"),
    "shapes": (ShapeError, lambda: Screening(torch.rand(3), torch.rand(4), 0.1), "(3,), (4,), ()"),
    "many experiments": (Unsupported, lambda: Screening(torch.rand(3), 0.9, 0.1).experiment, "(3,)"),
    "many pictures": (Unsupported, lambda: Screening(torch.rand(3), 0.9, 0.1).picture(), "(3,)"),
    "three dependences": (ShapeError, lambda: TEST.second(dependence=[0.1, 0.1, 0.1]), "one correlation, or two"),
    "dependence too large": (UsageError, lambda: TEST.second(dependence=1.1), "between -0.0101 and 1"),
    "dependence too small": (UsageError, lambda: TEST.second(dependence=(0, -0.5)), "of the well"),
    "negative count": (UsageError, lambda: ScreeningCounts(-1, 5, 5, 5), "-1 true positives"),
    "half a person": (UsageError, lambda: ScreeningCounts(1, 5, 5.5, 5), "5.5 false positives"),
    "nobody": (UsageError, lambda: ScreeningCounts(0, 0, 0, 0), "nobody was counted"),
    "prior": (UsageError, lambda: ScreeningCounts(1, 1, 1, 1, prior=0.0), "no prior"),
    "level": (UsageError, lambda: ScreeningCounts(1, 1, 1, 1, level=95), "0.95, if that was meant in percent"),
    "more ill than people": (UsageError, lambda: ScreeningCounts(1, 1, 1, 1, prevalence=(5, 3)), "5 of 3"),
    "no pair": (UsageError, lambda: ScreeningCounts(1, 1, 1, 1, prevalence=(5, 30, 3)), "(12, 1000)"),
    "prevalence of a shape": (UsageError, lambda: ScreeningCounts(1, 1, 1, 1, prevalence=torch.rand(3)), "one number"),
    "counted prevalence 0": (UsageError, lambda: ScreeningCounts(1, 1, 1, 1, prevalence=0.0), "above 0 and below 1"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_bad_input_gets_four_lines(what):
    kind, call, says = REFUSED[what]
    with pytest.raises(KokkiriError) as caught:
        call()
    assert type(caught.value) is kind
    assert [line.split()[0] for line in str(caught.value).splitlines()[1:]] == ["needs", "found", "fix"]
    assert says in str(caught.value)
