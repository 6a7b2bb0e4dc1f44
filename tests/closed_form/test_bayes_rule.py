"""Bayes' rule against fractions, worked by hand and by simulation; what it refuses."""

from __future__ import annotations

import math
import re
import warnings
import xml.etree.ElementTree as ET
from fractions import Fraction
from functools import partial

import numpy as np
import pytest
import scipy.stats
import torch

import kokkiri as kk
from kokkiri.errors import DataError, KokkiriError, ShapeError, UsageError
from kokkiri.exact import BayesRule, CromwellWarning, Experiment, Hypotheses
from kokkiri.numerics import log_space
from kokkiri.numerics.random import philox

f64 = partial(torch.tensor, dtype=torch.float64)
EXACT = {"rtol": 1e-12, "atol": 0.0}
ILL = {"ill": 0.1, "well": 0.9}
POSITIVE = {"ill": 0.99, "well": 0.01}
TEST = {"ill": {"+": 0.99, "-": 0.01}, "well": {"+": 0.01, "-": 0.99}}


def by_fractions(prior, *likelihoods):
    """(posterior, evidence) in rational numbers."""
    joint = [Fraction(p) for p in prior]
    for likelihood in likelihoods:
        joint = [j * Fraction(v) for j, v in zip(joint, likelihood, strict=True)]
    return [float(j / sum(joint)) for j in joint], float(sum(joint))


def test_the_screening_number_of_the_textbook():
    rule = Hypotheses(ILL).update(POSITIVE)
    assert math.isclose(rule["ill"], 0.099 / 0.108, rel_tol=1e-12)
    assert math.isclose(rule.evidence, 0.108, rel_tol=1e-12)
    assert f"{float(rule['ill']):.4f}" == "0.9167"


def test_a_second_positive_test_starts_from_the_first_ones_posterior():
    once = Hypotheses(ILL).update(POSITIVE)
    twice = once.update(POSITIVE)
    again = Hypotheses(once.posterior, ("ill", "well")).update(POSITIVE)
    assert math.isclose(twice["ill"], 0.1 * 0.99**2 / (0.1 * 0.99**2 + 0.9 * 0.01**2), rel_tol=1e-12)
    torch.testing.assert_close(again.posterior, twice.posterior, **EXACT)


def test_five_hypotheses_and_three_observations_equal_rational_arithmetic():
    rng = philox(0, "fractions")
    prior = rng.dirichlet(np.ones(5))
    seen = rng.random((3, 5))
    rule = Hypotheses(prior / prior.sum()).update(*seen)
    posterior, evidence = by_fractions(prior, *seen)
    torch.testing.assert_close(rule.posterior, f64(posterior), rtol=1e-12, atol=0)
    assert math.isclose(rule.evidence, evidence, rel_tol=1e-12)
    assert math.isclose(rule.expected_likelihood, evidence, rel_tol=1e-12)


def test_evidence_is_the_mean_likelihood_of_hypotheses_drawn_from_the_prior():
    p, likelihood = np.array([0.2, 0.5, 0.3]), np.array([0.9, 0.1, 0.4])
    drawn = likelihood[philox(1, "prior draws").choice(3, 40_000, p=p)]
    evidence = float(Hypotheses(p).update(likelihood).evidence)
    assert scipy.stats.ttest_1samp(drawn, evidence).pvalue > 1e-6
    assert scipy.stats.ttest_1samp(drawn, evidence + 0.01).pvalue < 1e-6  # the test could fail


def test_evidence_of_a_sequence_is_the_product_of_its_forecasts():
    rule = Hypotheses(ILL).update(POSITIVE, POSITIVE, {"ill": 0.01, "well": 0.99})
    assert math.isclose(rule.forecasts.prod(), rule.evidence, rel_tol=1e-12)
    assert math.isclose(rule.forecasts[0], 0.108, rel_tol=1e-12)


def test_the_path_runs_from_the_prior_to_the_posterior():
    rule = Hypotheses(ILL).update(POSITIVE, POSITIVE)
    assert rule.path.shape == (3, 2)
    torch.testing.assert_close(rule.path[0], rule.prior)
    torch.testing.assert_close(rule.path[1], Hypotheses(ILL).update(POSITIVE).posterior, **EXACT)
    torch.testing.assert_close(rule.path[2], rule.posterior, **EXACT)


def test_odds_and_bayes_factors_of_the_textbook():
    rule = Hypotheses(ILL).update(POSITIVE)
    assert math.isclose(rule.hypotheses.odds("ill"), 1 / 9, rel_tol=1e-12)
    assert math.isclose(rule.bayes_factor("ill"), 99, rel_tol=1e-12)
    assert math.isclose(rule.bayes_factor("ill", "well"), 99, rel_tol=1e-12)
    assert math.isclose(rule.odds("ill"), 11, rel_tol=1e-12)
    assert math.isclose(rule.bayes_factor("ill", log=True), math.log(99), rel_tol=1e-12)
    assert math.isclose(rule.odds("ill", "well", log=True), math.log(11), rel_tol=1e-12)


def test_an_experiment_forecasts_and_is_observed_by_name_and_by_number():
    test, prior = Experiment(TEST), Hypotheses(ILL)
    torch.testing.assert_close(test.forecast(prior), f64([0.108, 0.892]), **EXACT)
    named, numbered = prior.observe(test, "+", "-"), prior.observe(test, 0, 1)
    torch.testing.assert_close(named.posterior, numbered.posterior, **EXACT)
    torch.testing.assert_close(test.forecast(named).sum(), f64(1.0), **EXACT)


def test_the_lines_of_an_experiment_are_found_by_name():
    turned = Experiment({"well": TEST["well"], "ill": TEST["ill"]})
    torch.testing.assert_close(Hypotheses(ILL).observe(turned, "+")["ill"], Hypotheses(ILL).update(POSITIVE)["ill"])


def test_tiny_priors_keep_their_digits():
    rule = Hypotheses({"a": 1e-300, "b": 1.0}).update({"a": 1.0, "b": 1e-300})
    torch.testing.assert_close(rule.posterior, f64([0.5, 0.5]), rtol=1e-10, atol=0)
    far = Hypotheses({"a": 0.5, "b": 0.5}).update(*[{"a": 1e-3, "b": 1e-2}] * 500)
    assert math.isclose(far.log_posterior[0], -500 * math.log(10), rel_tol=1e-10)
    assert math.isclose(far.log_evidence, 500 * math.log(1e-2) - math.log(2), rel_tol=1e-10)
    assert "1 - 10^-500.0" in str(far)


def test_complement_and_odds_of_logs_keep_their_digits_at_both_ends():
    p = f64([1e-300, 1e-12, 0.3, 0.5, 0.9])
    rest = f64([-1e-300, math.log1p(-1e-12), math.log(0.7), math.log(0.5), math.log1p(-0.9)])
    torch.testing.assert_close(log_space.log_complement(p.log()), rest, rtol=1e-13, atol=0)
    torch.testing.assert_close(log_space.log_complement(rest[:2]), p[:2].log(), rtol=1e-13, atol=0)
    torch.testing.assert_close(log_space.from_log_odds(log_space.log_odds(p.log())), p.log(), rtol=1e-12, atol=0)
    ends = log_space.log_odds(f64([-math.inf, 0.0]))
    assert ends.tolist() == [-math.inf, math.inf]
    assert log_space.from_log_odds(ends).exp().tolist() == [0.0, 1.0]


def test_names_may_be_numbers():
    rule = Hypotheses({1: 0.5, 2: 0.5}).update({2: 0.1, 1: 0.3})
    assert math.isclose(rule["1"], 0.75, rel_tol=1e-12)


def test_a_posterior_near_one_is_told_from_certainty():
    found = log_space.bayes(f64([0.0, -690.0]), torch.zeros(2).double())
    assert found.log_posterior[0] == -math.exp(-690.0)


def test_densities_go_in_as_logarithms():
    x = f64([-1.0, 0.5, 3.0])
    logs = torch.stack([torch.distributions.Normal(m, 0.01).log_prob(x) for m in (0.0, 0.5)], -1)
    rule = Hypotheses([0.5, 0.5], ("zero", "half")).update(logs, log=True)
    assert rule.posterior.shape == (3, 2)
    assert rule.most_probable == ["zero", "half", "half"]
    assert float(rule.likelihood.max()) > 1


def test_certain_priors_are_allowed_with_cromwells_warning_and_never_move():
    with pytest.warns(CromwellWarning, match="'ill' is 0: no evidence"):
        prior = Hypotheses({"ill": 0.0, "well": 1.0})
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # one warning, where the prior is named
        after = prior.update(POSITIVE).update(POSITIVE)
    assert after.posterior.tolist() == [0.0, 1.0]


def test_a_likelihood_of_zero_excludes_without_a_warning():
    rule = Hypotheses(ILL).update({"ill": 0.0, "well": 0.3})
    assert rule.posterior.tolist() == [0.0, 1.0]
    assert rule.update({"ill": 1.0, "well": 1e-9}).posterior.tolist() == [0.0, 1.0]


def test_values_print_themselves_in_eighty_columns_and_draw_themselves():
    names = [f"a hypothesis with a very long name, number {i}" for i in range(12)]
    p = torch.full((12,), 1 / 12).double()
    rules = [
        Hypotheses(ILL).update(POSITIVE),
        Hypotheses(ILL).update(*[POSITIVE] * 40),
        Hypotheses(p, names).update(torch.linspace(0.1, 0.9, 12).double()),
        Hypotheses(ILL).update(torch.rand(30, 2, generator=torch.Generator().manual_seed(0))),
        Hypotheses(ILL).update({"ill": -900.0, "well": -800.0}, log=True),
    ]
    rules += [rules[2].update(p), Hypotheses(p.expand(30, 12), names).update(p)]
    table = Experiment(p.expand(12, 12), names, [f"an outcome that is long, number {i}" for i in range(12)])
    for value in (*rules, Hypotheses(ILL), Hypotheses(p, names), Experiment(TEST), table):
        assert max(map(len, str(value).splitlines())) <= 80, value
        assert len(repr(value)) < 800
    for rule in rules:
        drawn = ET.fromstring(kk.drawing.file_of(rule.picture()))
        assert drawn.tag.endswith("svg")
    assert re.search(r"ill +0\.1000 +0\.9900 +0\.0990 +0\.9167", str(rules[0]))
    assert "… 20 cases more" in str(rules[3])


PRIOR = Hypotheses(ILL)
REFUSED = {
    "adds up to 0.9": (UsageError, lambda: Hypotheses({"a": 0.1, "b": 0.8}), "a=0.1111,b=0.8889"),
    "cannot be -0.1": (UsageError, lambda: Hypotheses({"a": 1.1, "b": -0.1}), "from 0 to 1"),
    "cannot be nan": (UsageError, lambda: Hypotheses([math.nan, 1.0]), "from 0 to 1"),
    "percent": (UsageError, lambda: Hypotheses({"a": 10, "b": 90}), "0.1, if that was meant in percent"),
    "one hypothesis": (ShapeError, lambda: Hypotheses({"a": 1.0}), "two hypotheses or more"),
    "the same name": (ShapeError, lambda: Hypotheses([0.5, 0.5], ("a", "a")), "a name of its own"),
    "too few names": (ShapeError, lambda: Hypotheses([0.5, 0.5], ("a", "b", "c")), "3 hypotheses"),
    "no numbers": (UsageError, lambda: Hypotheses({"a": "x", "b": 1}), "a number"),
    "unknown name": (UsageError, lambda: PRIOR.update({"il": 1, "well": 1}), "did you mean 'ill'?"),
    "missing name": (UsageError, lambda: PRIOR.update({"ill": 1}), "add well"),
    "unknown name asked for": (UsageError, lambda: PRIOR["wel"], "did you mean 'well'?"),
    "likelihood above 1": (UsageError, lambda: PRIOR.update({"ill": 2, "well": 1}), "log=True"),
    "likelihood below 0": (UsageError, lambda: PRIOR.update({"ill": -1, "well": 1}), "from 0 to 1"),
    "infinite density": (UsageError, lambda: PRIOR.update([math.inf, 0.0], log=True), "-inf for what is impossible"),
    "impossible": (DataError, lambda: PRIOR.update({"ill": 0, "well": 0}), "likelihoods of 0"),
    "impossible in turn": (
        DataError, lambda: PRIOR.update({"ill": 0, "well": 1}, {"ill": 1, "well": 0}), "its evidence is 0",
    ),
    "impossible case": (DataError, lambda: PRIOR.update([[0.5, 0.5], [0.0, 0.0]]), "in case 2"),
    "three values": (ShapeError, lambda: PRIOR.update([0.1, 0.2, 0.3]), "(..., 2)"),
    "cases that do not fit": (
        ShapeError, lambda: PRIOR.update(torch.rand(5, 2)).update(torch.rand(4, 2)), "(5, 2) so far",
    ),
    "unknown outcome": (UsageError, lambda: PRIOR.observe(Experiment(TEST), "++"), "did you mean '+'?"),
    "outcome number": (UsageError, lambda: PRIOR.observe(Experiment(TEST), 2), "from 0 to 1"),
    "outcome of floats": (UsageError, lambda: PRIOR.observe(Experiment(TEST), torch.rand(2)), "float32"),
    "other hypotheses": (
        UsageError, lambda: Hypotheses({"ill": 0.5, "dead": 0.5}).observe(Experiment(TEST), "+"), "hypothesis 'dead'",
    ),
    "more hypotheses": (
        UsageError,
        lambda: PRIOR.observe(Experiment({**TEST, "dead": {"+": 0.5, "-": 0.5}}), "+"), "give dead a prior",
    ),
    "line of an experiment": (UsageError, lambda: Experiment({"a": {"+": 0.5, "-": 0.4}, "b": TEST["ill"]}), "'a'"),
    "no table": (ShapeError, lambda: Experiment([0.5, 0.5]), "a line for each"),
    "ragged table": (UsageError, lambda: Experiment({"a": {"+": 1.0}, "b": {"+": 0.5, "-": 0.5}}), "outcome '-'"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_bad_input_gets_four_lines(what):
    kind, call, says = REFUSED[what]
    with pytest.raises(KokkiriError) as caught:
        call()
    assert type(caught.value) is kind
    lines = str(caught.value).splitlines()
    assert [line.split()[0] for line in lines[1:]] == ["needs", "found", "fix"]
    assert says in str(caught.value)


def test_a_prior_of_zero_makes_evidence_for_it_impossible():
    with pytest.warns(CromwellWarning):
        prior = Hypotheses({"ill": 0, "well": 1})
    with pytest.raises(DataError, match="only where the prior is 0"):
        prior.update({"ill": 1, "well": 0})


def test_the_value_that_bayes_rule_gives_is_public():
    assert isinstance(kk.exact.Hypotheses(ILL).update(POSITIVE), BayesRule)
    assert kk.exact.BayesRule is BayesRule
