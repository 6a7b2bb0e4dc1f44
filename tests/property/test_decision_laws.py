"""Laws of decisions for random problems: optimal against brute force, information that never hurts, prevalence."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kokkiri import decisions
from kokkiri.decisions import Costs
from kokkiri.exact import Experiment, Hypotheses

LAW = settings(max_examples=60, deadline=None)
seeds = st.integers(0, 10**6)
cost = st.floats(0.01, 100)


def dirichlet(rng, *shape):
    p = torch.from_numpy(rng.dirichlet(np.full(shape[-1], 0.5), shape[:-1] or None)) + 1e-9
    return p / p.sum(-1, keepdim=True)


@LAW
@given(seed=seeds, alarm=cost, miss=cost)
def test_no_threshold_has_a_lower_expected_cost(seed, alarm, miss):
    p = torch.from_numpy(np.random.default_rng(seed).beta(0.5, 0.5, 40))
    costs = Costs(alarm, miss)
    chosen = costs.expected(p, costs.decide(p)).sum()
    for t in (*p.tolist(), 0.0, 2.0):
        assert chosen <= costs.expected(p, (p >= t).long()).sum() * (1 + 1e-12) + 1e-12


@LAW
@given(seed=seeds, alarm=cost, miss=cost, reject=st.floats(0, 100))
def test_no_three_way_decision_of_any_row_costs_less(seed, alarm, miss, reject):
    p = torch.from_numpy(np.random.default_rng(seed).beta(0.5, 0.5, 40))
    costs = Costs(alarm, miss, reject)
    chosen = costs.expected(p, costs.decide(p))
    every = torch.stack([costs.expected(p, torch.full((40,), k)) for k in range(3)])
    torch.testing.assert_close(chosen, every.amin(0), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(every.T, torch.stack((1 - p, p), -1) @ costs.matrix.T, rtol=1e-12, atol=1e-12)


@LAW
@given(seed=seeds, alarm=cost, miss=cost, prevalence=st.floats(0.001, 0.999), trained=st.floats(0.001, 0.999))
def test_moving_the_prevalence_is_moving_the_threshold(seed, alarm, miss, prevalence, trained):
    p = torch.from_numpy(np.random.default_rng(seed).beta(0.5, 0.5, 40)).clamp(1e-9, 1 - 1e-9)
    both, costs = torch.stack((1 - p, p), -1), Costs(alarm, miss)
    made = decisions.decide(both, costs=costs, prevalence=prevalence, trained_at=trained)
    odds = costs.threshold / (1 - costs.threshold) * trained / (1 - trained) * (1 - prevalence) / prevalence
    far = (p / (1 - p) / odds - 1).abs() > 1e-9
    assert torch.equal((p / (1 - p) >= odds)[far], (made.action == 1)[far])


@LAW
@given(seed=seeds, c=st.integers(2, 5))
def test_correcting_there_and_back_changes_nothing_and_steps_add_up(seed, c):
    rng = np.random.default_rng(seed)
    p, a, b, d = dirichlet(rng, 6, c), dirichlet(rng, c), dirichlet(rng, c), dirichlet(rng, c)
    there = decisions.corrected(p, a, b)
    torch.testing.assert_close(there.sum(-1), torch.ones(6).double(), rtol=1e-12, atol=0)
    torch.testing.assert_close(decisions.corrected(there, b, a), p, rtol=1e-7, atol=1e-12)
    torch.testing.assert_close(decisions.corrected(there, b, d), decisions.corrected(p, a, d), rtol=1e-7, atol=1e-12)


@LAW
@given(seed=seeds, h=st.integers(2, 5), k=st.integers(1, 5), a=st.integers(1, 5))
def test_information_is_never_worth_less_than_nothing_nor_more_than_the_truth(seed, h, k, a):
    rng = np.random.default_rng(seed)
    prior = Hypotheses(dirichlet(rng, h))
    experiment = Experiment(dirichlet(rng, h, k), prior.names)
    utility = torch.from_numpy(rng.normal(size=(a, h)))
    found = decisions.sample_information(prior, experiment, utility)
    perfect = decisions.perfect_information(prior, utility)
    assert float(found.informed - found.before) >= -1e-12
    assert float(found.value) <= float(perfect) + 1e-12
    torch.testing.assert_close(found.value_of_knowing, perfect, rtol=1e-10, atol=1e-12)
    truth = Experiment(torch.eye(h, dtype=torch.float64), prior.names)
    told = decisions.sample_information(prior, truth, utility)
    torch.testing.assert_close(told.value, perfect, rtol=1e-9, atol=1e-12)
    nothing = Experiment(torch.full((h, k), 1 / k, dtype=torch.float64), prior.names)
    assert float(decisions.sample_information(prior, nothing, utility).value) < 1e-12


@LAW
@given(seed=seeds, h=st.integers(2, 4), k=st.integers(2, 4), a=st.integers(2, 4))
def test_the_value_of_an_experiment_is_that_of_the_best_of_all_plans(seed, h, k, a):
    rng = np.random.default_rng(seed)
    prior, table = dirichlet(rng, h), dirichlet(rng, h, k)
    utility = torch.from_numpy(rng.normal(size=(a, h)))
    joint = prior[:, None] * table  # (H, K)
    each = utility @ joint  # (A, K): what an action is worth, weighted by the outcome
    plans = torch.cartesian_prod(*[torch.arange(a)] * k).reshape(-1, k)
    worth = each.T[torch.arange(k), plans].sum(-1)
    beliefs = Hypotheses(prior)
    found = decisions.sample_information(beliefs, Experiment(table, beliefs.names), utility)
    torch.testing.assert_close(found.informed, worth.max(), rtol=1e-10, atol=1e-12)


@LAW
@given(seed=seeds, c=st.integers(2, 5), a=st.integers(1, 5))
def test_the_best_action_beats_all_others_and_a_batch_is_its_rows(seed, c, a):
    rng = np.random.default_rng(seed)
    p, utility = dirichlet(rng, 7, c), torch.from_numpy(rng.normal(size=(a, c)))
    found = decisions.best(p, utility)
    assert bool((found.utility[:, None] >= found.expected).all())
    assert bool((found.value_of_knowing >= 0).all())
    for i in range(7):
        alone = decisions.best(p[i : i + 1], utility)
        assert alone.action == [found.action[i]]
        torch.testing.assert_close(alone.expected[0], found.expected[i], rtol=1e-12, atol=1e-14)
