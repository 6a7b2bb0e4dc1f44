"""The laws of conjugate families, for random priors and rows: any batches in any order, the chain rule, calibration."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
import torch
from conjugate_cases import FAMILIES, log_prob, numbers
from hypothesis import given, settings
from hypothesis import strategies as st

EXACT = {"rtol": 1e-10, "atol": 1e-10}


def laws(*more):
    def decorate(test):
        drawn = given(st.integers(0, 10**6), st.integers(0, 30), *more)(test)
        return pytest.mark.parametrize("name", FAMILIES)(settings(deadline=None, max_examples=15)(drawn))

    return decorate


def problem(name, seed, rows, batch=()):
    """A prior, one draw of its parameters, rows that follow from it, and the case itself."""
    rng, case = np.random.default_rng([seed, rows]), FAMILIES[name]
    prior = case.prior(rng, batch)
    theta = tuple(np.asarray(t) for t in case.parameters(prior, rng))
    return case, prior, theta, case.rows(theta, rows, rng), rng


def taken(case, data, index):
    return tuple(np.take(values, index, axis) for values, axis in zip(data, case.axes, strict=True))


def same(found, wanted, **tolerance):
    mine, theirs = numbers(found), numbers(wanted)
    assert mine.keys() == theirs.keys()
    for key, value in mine.items():
        torch.testing.assert_close(value, theirs[key], **(tolerance or EXACT), msg=lambda m, key=key: f"{key}: {m}")
    torch.testing.assert_close(found.history.rows, wanted.history.rows, **EXACT)
    torch.testing.assert_close(found.history.log_evidence, wanted.history.log_evidence, **(tolerance or EXACT))


@laws()
def test_batches_in_any_order_equal_the_whole(name, seed, rows):
    case, prior, _, data, rng = problem(name, seed, rows)
    order = rng.permutation(rows)
    post = prior
    for part in np.array_split(order, max(1, int(rng.integers(1, rows + 2)))):
        post = post.update(*taken(case, data, part))
    same(post, prior.update(*data))


@laws()
def test_evidence_obeys_the_chain_rule(name, seed, rows):
    case, prior, _, data, _ = problem(name, seed, rows)
    half = rows // 2
    first, second = taken(case, data, np.arange(half)), taken(case, data, np.arange(half, rows))
    together = prior.log_evidence(*first) + prior.update(*first).log_evidence(*second)
    torch.testing.assert_close(together, prior.log_evidence(*data), **EXACT)


@laws()
def test_prior_times_likelihood_is_posterior_times_evidence_at_any_parameter(name, seed, rows):
    """Bayes' rule: log p(θ) + log p(y | θ) = log p(θ | y) + log p(y), for a θ that has nothing to do with the rows."""
    case, prior, _, data, rng = problem(name, seed, rows)
    theta = tuple(np.asarray(t) for t in case.parameters(prior, rng))
    left = log_prob(prior, theta) + case.likelihood(theta, *data).sum(-1)
    right = log_prob(prior.update(*data), theta) + prior.log_evidence(*data)
    torch.testing.assert_close(right, left, **EXACT)


@laws()
def test_the_evidence_is_the_product_of_predictions_row_by_row(name, seed, rows):
    rows = rows // 3
    case, post, _, data, _ = problem(name, seed, rows)
    total = torch.zeros(())
    whole = post.log_evidence(*data)
    for row in range(rows):
        one = taken(case, data, [row])
        match name:
            case "GammaPoisson":
                total = total + post.predictive(one[1][0]).log_prob(one[0][0])
            case "LinearRegression":
                total = total + post.predictive(one[0]).log_prob(one[1])[0]
            case _:
                total = total + post.predictive().log_prob(one[0][0])
        post = post.update(*one)
    torch.testing.assert_close(total.double(), whole, **EXACT)


@laws()
def test_rows_that_are_taken_out_were_never_there(name, seed, rows):
    case, prior, _, data, _ = problem(name, seed, rows + 2)
    kept, gone = taken(case, data, np.arange(2)), taken(case, data, np.arange(2, rows + 2))
    same(prior.update(*data).downdate(*gone), prior.update(*kept), rtol=1e-8, atol=1e-8)


@laws()
def test_a_weight_counts_a_row(name, seed, rows):
    case, prior, _, data, rng = problem(name, seed, rows + 1)
    weight = rng.integers(0, 4, rows + 1)
    repeated = taken(case, data, np.repeat(np.arange(rows + 1), weight))
    same(prior.update(*data, weight=weight), prior.update(*repeated), rtol=1e-9, atol=1e-9)


@laws()
def test_whatever_stands_in_a_row_of_weight_zero_does_not_count(name, seed, rows):
    case, prior, _, data, _rng = problem(name, seed, rows)
    more = lambda v, axis: np.full((*v.shape[:axis], 3, *v.shape[v.ndim + axis + 1 :]), np.nan)
    wider = tuple(np.concatenate([v, more(v, axis)], axis) for v, axis in zip(data, case.axes, strict=True))
    weight = np.concatenate([np.ones(rows), np.zeros(3)])
    same(prior.update(*wider, weight=weight), prior.update(*data))


@laws()
def test_a_batch_is_its_members_side_by_side(name, seed, rows):
    _case, priors, _, data, _rng = problem(name, seed, rows, batch=(3,))
    post = priors.update(*data)
    assert post.batch == (3,)
    draws = post.draw(5, seed=0)
    assert all(t.shape[:2] == (5, 3) for t in ([draws] if isinstance(draws, torch.Tensor) else draws))
    assert post.divergence(priors).shape == (3,)
    for k in range(3):
        one = type(priors)(**{key: value[k] for key, value in numbers(priors).items()})
        own = one.update(*(values[k] for values in data))
        for key, value in numbers(own).items():
            torch.testing.assert_close(numbers(post)[key][k], value, **EXACT)
        torch.testing.assert_close(post.history.log_evidence[k], own.history.log_evidence, **EXACT)
        torch.testing.assert_close(post.divergence(priors)[k], own.divergence(one), **EXACT)


@laws()
def test_one_prior_may_meet_the_rows_of_many(name, seed, rows):
    case, prior, theta, _, rng = problem(name, seed, rows)
    many = tuple(np.broadcast_to(t, (4, *np.shape(t))) for t in theta)
    data = case.rows(many, rows, rng)
    post = prior.update(*data)
    assert post.batch == (4,)
    same_row = prior.update(*(values[2] for values in data))
    for key, value in numbers(same_row).items():
        torch.testing.assert_close(numbers(post)[key][2], value, **EXACT)


@laws()
def test_a_divergence_is_zero_from_itself_and_never_negative(name, seed, rows):
    _, prior, _, data, _ = problem(name, seed, rows + 1)
    post = prior.update(*data)
    torch.testing.assert_close(post.divergence(post), torch.zeros(()).double(), **EXACT)
    assert post.divergence(prior) >= 0
    assert prior.divergence(post) >= 0


@pytest.mark.parametrize("name", FAMILIES)
def test_a_divergence_is_the_mean_of_the_difference_of_log_densities(name):
    _case, prior, _, data, _rng = problem(name, 5, 4)
    post, n = prior.update(*data), 40_000
    drawn = post.draw(n, seed=1)
    theta = (drawn,) if isinstance(drawn, torch.Tensor) else tuple(drawn)
    difference = post.log_prob(*theta) - prior.log_prob(*theta)
    error = (difference.mean() - post.divergence(prior)) / (difference.std() / n**0.5)
    assert abs(error) < 5


def ranks(case, batch, rows, draws, rng, seed):
    """(K, batch): of each parameter among draws of its posterior, after rows that follow from it."""
    prior = case.prior(rng, ())
    wide = type(prior)(**{k: v.expand(batch, *v.shape) for k, v in numbers(prior).items()})
    theta = case.parameters(wide, rng)
    post = wide.update(*case.rows(theta, rows, rng))
    drawn = post.draw(draws, seed=seed)
    drawn = (drawn,) if isinstance(drawn, torch.Tensor) else tuple(drawn)
    out = []
    for truth, found in zip(theta, drawn, strict=False):  # a known noise is not drawn
        flat = found.reshape(draws, batch, -1).numpy()
        out += list((flat < truth.reshape(batch, -1)).sum(0).T)
    return np.array(out)


@pytest.mark.parametrize("rows", [0, 1, 12])
@pytest.mark.parametrize("name", FAMILIES)
def test_simulation_based_calibration_ranks_are_uniform(name, rows):
    """Talts et al. 2018, "Validating Bayesian inference algorithms with simulation-based calibration".

    A parameter from the prior, rows from it: its rank among 99 draws of the posterior is uniform on 0 … 99.
    """
    rng = np.random.default_rng([7, rows])
    found = ranks(FAMILIES[name], batch=4000, rows=rows, draws=99, rng=rng, seed=rows)
    for parameter in found:
        counts = np.bincount(parameter // 5, minlength=20)
        assert scipy.stats.chisquare(counts).pvalue > 1e-6
    assert len(found) >= 1


def test_simulation_based_calibration_notices_a_posterior_that_is_too_sure():
    """The test above can fail: rows that count one and a half times, and a prior that is not that of the draws."""
    case, rng = FAMILIES["GammaPoisson"], np.random.default_rng(0)
    prior = case.prior(rng, ())
    wide = type(prior)(prior.shape.expand(4000), prior.rate.expand(4000))
    theta = case.parameters(wide, rng)
    y, exposure = case.rows(theta, 12, rng)
    for wrong in (
        wide.update(y, exposure, np.full(12, 1.5)),
        type(prior)(wide.shape, 1.5 * wide.rate).update(y, exposure),
    ):
        rank = (wrong.draw(99, seed=0).numpy() < theta[0]).sum(0)
        assert scipy.stats.chisquare(np.bincount(rank // 5, minlength=20)).pvalue < 1e-6
