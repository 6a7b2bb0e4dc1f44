"""Laws of Bayes' rule for random hypotheses: sums, order, odds, cases, information that never hurts."""

from __future__ import annotations

import math

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kokkiri.exact import Experiment, Hypotheses, Screening
from kokkiri.numerics import log_space

LAW = settings(max_examples=60, deadline=None)


def probabilities(rng, *shape, low=-12.0):
    """Between 10^low and 1, some of them at the ends of the range."""
    return torch.from_numpy(10 ** rng.uniform(low, 0, shape))


def problem(seed, hypotheses, observations, low=-12.0):
    rng = np.random.default_rng(seed)
    prior = probabilities(rng, hypotheses, low=low)
    return Hypotheses(prior / prior.sum()), probabilities(rng, observations, hypotheses, low=low)


sizes = {"seed": st.integers(0, 10**6), "h": st.integers(2, 6), "t": st.integers(1, 5)}


@LAW
@given(**sizes)
def test_posteriors_add_up_to_one_and_both_evidences_agree(seed, h, t):
    prior, seen = problem(seed, h, t)
    rule = prior.update(*seen)
    torch.testing.assert_close(rule.posterior.sum(), torch.tensor(1.0).double(), rtol=1e-12, atol=0)
    torch.testing.assert_close(rule.log_evidence, rule.log_expected_likelihood, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(rule.log_evidence, rule.forecasts.log().sum(), rtol=1e-10, atol=1e-10)
    rebuilt = rule.hypotheses.log_prior + rule.log_likelihood - rule.log_evidence
    torch.testing.assert_close(rebuilt, rule.log_posterior, rtol=1e-12, atol=1e-12)


@LAW
@given(**sizes)
def test_the_order_of_observations_does_not_matter(seed, h, t):
    prior, seen = problem(seed, h, t)
    order = np.random.default_rng(seed).permutation(t)
    forward, other = prior.update(*seen), prior.update(*seen[order])
    torch.testing.assert_close(forward.log_posterior, other.log_posterior, rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(forward.log_evidence, other.log_evidence, rtol=1e-11, atol=1e-11)


@LAW
@given(**sizes)
def test_one_at_a_time_is_all_at_once(seed, h, t):
    prior, seen = problem(seed, h, t)
    step = prior.update(seen[0])
    for x in seen[1:]:
        step = step.update(x)
    torch.testing.assert_close(step.log_posterior, prior.update(*seen).log_posterior, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(step.path[-1], step.posterior, rtol=1e-10, atol=0)


@LAW
@given(**sizes)
def test_odds_times_bayes_factor_are_the_posterior_odds(seed, h, t):
    prior, seen = problem(seed, h, t)
    rule = prior.update(*seen)
    for name in prior.names:
        for against in (None, *(n for n in prior.names if n != name)):
            by_factor = prior.odds(name, against, log=True) + rule.bayes_factor(name, against, log=True)
            torch.testing.assert_close(by_factor, rule.odds(name, against, log=True), rtol=1e-10, atol=1e-10)
            if against is None:
                p = rule.odds(name) / (1 + rule.odds(name))
                torch.testing.assert_close(p, rule[name], rtol=1e-9, atol=0)


@LAW
@given(**sizes)
def test_cases_in_a_batch_are_cases_one_by_one(seed, h, t):
    rng = np.random.default_rng(seed)
    priors = probabilities(rng, 4, h)
    priors = priors / priors.sum(-1, keepdim=True)
    seen = probabilities(rng, t, 4, h)
    together = Hypotheses(priors).update(*seen)
    for i in range(4):
        alone = Hypotheses(priors[i]).update(*seen[:, i])
        torch.testing.assert_close(together.posterior[i], alone.posterior, rtol=1e-13, atol=0)
        torch.testing.assert_close(together.log_evidence[i], alone.log_evidence, rtol=1e-13, atol=0)
        torch.testing.assert_close(together.forecasts[:, i], alone.forecasts, rtol=1e-12, atol=0)
        torch.testing.assert_close(together.bayes_factor("H1")[i], alone.bayes_factor("H1"), rtol=1e-12, atol=0)


@LAW
@given(**sizes)
def test_probabilities_of_1e_300_are_as_good_as_any(seed, h, t):
    prior, seen = problem(seed, h, t, low=-300.0)
    rule = prior.update(*seen)
    shift = math.log(1e-290)  # a common factor of all likelihoods changes the evidence alone
    far = prior.update(*(seen.log() + shift), log=True)
    torch.testing.assert_close(far.log_posterior, rule.log_posterior, rtol=1e-11, atol=1e-9)
    torch.testing.assert_close(far.log_evidence, rule.log_evidence + t * shift, rtol=1e-11, atol=1e-9)
    assert bool(rule.log_posterior.isfinite().all())


@LAW
@given(p=st.floats(-300, 0).map(lambda e: 10**e), q=st.floats(-16, -0.01).map(lambda e: 1 - 10**e))
def test_log_odds_go_there_and_back(p, q):
    for value in (p, q):
        log_p = torch.tensor(math.log(value)).double()
        torch.testing.assert_close(log_space.from_log_odds(log_space.log_odds(log_p)), log_p, rtol=1e-9, atol=1e-16)


@LAW
@given(**sizes)
def test_what_is_expected_of_the_posterior_is_the_prior(seed, h, t):
    rng = np.random.default_rng(seed)
    table = torch.from_numpy(rng.dirichlet(np.ones(t + 1), h))
    prior = Hypotheses(torch.from_numpy(rng.dirichlet(np.ones(h))))
    test = Experiment(table, prior.names)
    after = torch.stack([prior.observe(test, k).posterior for k in test.outcomes])
    torch.testing.assert_close(test.forecast(prior) @ after, prior.prior, rtol=1e-11, atol=1e-14)
    every = prior.observe(test, torch.arange(t + 1))
    torch.testing.assert_close(every.posterior, after, rtol=1e-13, atol=0)


rates = {"p": st.floats(1e-6, 1 - 1e-6), "s": st.floats(0.001, 0.999), "f": st.floats(0.001, 0.999)}


@LAW
@given(**rates)
def test_screening_is_bayes_rule(p, s, f):
    test = Screening(p, s, f)
    positive, negative = (test.hypotheses.observe(test.experiment, k) for k in ("positive", "negative"))
    torch.testing.assert_close(test.precision, positive["ill"], rtol=1e-10, atol=0)
    torch.testing.assert_close(test.after_negative, negative["ill"], rtol=1e-10, atol=0)
    torch.testing.assert_close(test.positive, positive.evidence, rtol=1e-11, atol=0)
    torch.testing.assert_close(test.ratio_positive, positive.bayes_factor("ill"), rtol=1e-11, atol=0)
    torch.testing.assert_close(test.ratio_negative, negative.bayes_factor("ill"), rtol=1e-11, atol=0)


@LAW
@given(**rates, other=st.floats(0.001, 0.999), share=st.floats(0, 1))
def test_two_dependent_tests_keep_each_tests_own_rates(p, s, f, other, share):
    first, second = Screening(p, s, f), Screening(p, other, f)
    spread = math.sqrt(s * (1 - s) * other * (1 - other))
    low, high = max(-s * other, -(1 - s) * (1 - other)) / spread, min(s * (1 - other), (1 - s) * other) / spread
    two = first.second(second, dependence=(low + share * (high - low), 0.0))
    torch.testing.assert_close(two.if_ill.sum(-1)[0], first.sensitivity, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(two.if_ill.sum(-2)[0], second.sensitivity, rtol=1e-9, atol=1e-12)
    total = sum(two.probability(a, b) * two.after(a, b).nan_to_num() for a in (True, False) for b in (True, False))
    torch.testing.assert_close(total, first.prevalence, rtol=1e-9, atol=1e-12)
