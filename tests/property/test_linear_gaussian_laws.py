"""The laws of exact updating, for random rows, priors and noises."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kokkiri.errors import NotPositiveDefinite
from kokkiri.numerics.linear_evidence import maximise_evidence
from kokkiri.numerics.linear_gaussian import fit
from kokkiri.numerics.linear_priors import Diagonal, Full, InverseGamma, Known
from kokkiri.numerics.linear_recursive import recursive
from kokkiri.numerics.linear_statistics import Statistics, combine
from kokkiri.numerics.random import philox

EXACT = {"rtol": 1e-10, "atol": 1e-10}


def problem(seed, rows, features, targets):
    """Rows, a prior and a noise of any kind, by turns of the seed."""
    rng = philox(seed, "test linear laws", rows, features, targets)
    normal = lambda *shape: torch.from_numpy(rng.standard_normal(shape))
    phi = normal(rows, features) * torch.from_numpy(10.0 ** rng.uniform(-1, 1, features))
    y = phi @ normal(features, targets) + normal(rows, targets)
    precision = torch.from_numpy(10.0 ** rng.uniform(-2, 1, features))
    mean = normal(features, targets)
    square = normal(features, features)
    priors = (Diagonal(precision[0]), Diagonal(precision, mean), Full(square @ square.mT + torch.diag(precision), mean))
    shape, rate = (torch.from_numpy(10.0 ** rng.uniform(-0.5, 1, n)) for n in (1, targets))
    noises = (Known(shape[0]), InverseGamma(shape[0], rate))
    return phi, y, priors[seed % 3], noises[seed % 2], rng


def agree(a, b):
    """In posterior and evidence."""
    torch.testing.assert_close(a.mean, b.mean, **EXACT)
    torch.testing.assert_close(a.covariance, b.covariance, **EXACT)
    torch.testing.assert_close(a.log_evidence, b.log_evidence, **EXACT)


laws = lambda f: settings(deadline=None, max_examples=60)(
    given(st.integers(0, 10**6), st.integers(0, 30), st.integers(1, 8), st.integers(1, 3))(f)
)


@laws
def test_an_update_is_a_fit_of_all_rows_in_any_batches_and_any_order(seed, rows, features, targets):
    phi, y, prior, noise, rng = problem(seed, rows, features, targets)
    whole = fit(phi, y, prior, noise)
    order = torch.from_numpy(rng.permutation(rows))
    parts = order.split(max(1, int(rng.integers(1, rows + 2))))
    model, statistics = fit(phi[:0], y[:0], prior, noise), [Statistics.empty(features, targets)]
    for part in parts:
        model = model.update(phi[part], y[part])
        statistics.append(Statistics.empty(features, targets).add(phi[part], y[part]))
    agree(model, whole)
    together = combine(*statistics)
    torch.testing.assert_close(together.gram, whole.statistics.gram, **EXACT)
    torch.testing.assert_close(together.moment, whole.statistics.moment, **EXACT)
    torch.testing.assert_close(together.square, whole.statistics.square, **EXACT)
    assert together.n == rows


@laws
def test_the_evidence_of_batches_given_those_before_adds_up(seed, rows, features, targets):
    phi, y, prior, noise, rng = problem(seed, rows, features, targets)
    cut = int(rng.integers(0, rows + 1))
    first = fit(phi[:cut], y[:cut], prior, noise)
    both = fit(phi, y, prior, noise)
    torch.testing.assert_close(first.log_evidence + first.log_joint(phi[cut:], y[cut:]), both.log_evidence, **EXACT)
    # one row at a time, by the predictive of single targets
    step, total = recursive(fit(phi[:0], y[:0], prior, noise)), torch.zeros(targets, dtype=torch.float64)
    for i in range(rows):
        if isinstance(noise, Known) or float(noise.shape) > 0.5:
            total = total + step.predict(phi[i]).log_prob(y[i])[0]
            step = step.update(phi[i], y[i])
            torch.testing.assert_close(step.log_evidence, total, **EXACT)


@laws
def test_a_condensed_model_answers_as_the_model_it_was_made_from(seed, rows, features, targets):
    phi, y, prior, noise, rng = problem(seed, rows + 1, features, targets)
    cut = int(rng.integers(0, rows + 1))
    old = fit(phi[:cut], y[:cut], prior, noise)
    ours, theirs = old.condensed().update(phi[cut:], y[cut:]), old.update(phi[cut:], y[cut:])
    torch.testing.assert_close(ours.mean, theirs.mean, **EXACT)
    torch.testing.assert_close(ours.covariance, theirs.covariance, **EXACT)
    torch.testing.assert_close(ours.predict(phi).log_prob(y), theirs.predict(phi).log_prob(y), **EXACT)


@laws
def test_a_weight_counts_a_row(seed, rows, features, targets):
    phi, y, prior, noise, rng = problem(seed, rows, features, targets)
    counts = torch.from_numpy(rng.integers(0, 4, rows))
    weighted = fit(phi, y, prior, noise, counts)
    repeated = fit(phi.repeat_interleave(counts, 0), y.repeat_interleave(counts, 0), prior, noise)
    agree(weighted, repeated)
    halves = fit(phi, y, prior, noise, 0.5 * counts).update(phi, y, 0.5 * counts)
    agree(halves, repeated)
    assert weighted.statistics.n == counts.sum()
    double = Statistics.empty(features, targets).add(phi, y, counts).scaled(2.0)
    torch.testing.assert_close(double.gram, fit(phi, y, prior, noise, 2 * counts).statistics.gram, **EXACT)
    assert double.n == 2 * counts.sum()


@laws
def test_removing_undoes_updating(seed, rows, features, targets):
    phi, y, prior, noise, rng = problem(seed, rows, features, targets)
    weights = torch.from_numpy(rng.uniform(0, 2, rows))
    gone = torch.from_numpy(rng.random(rows) < rng.random())
    whole = fit(phi, y, prior, noise, weights)
    left = whole.remove(phi[gone], y[gone], weights[gone])
    # the digits that are left are those of the larger sum
    expected = fit(phi[~gone], y[~gone], prior, noise, weights[~gone])
    torch.testing.assert_close(left.mean, expected.mean, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(left.log_evidence, expected.log_evidence, rtol=1e-8, atol=1e-8)
    back = left.update(phi[gone], y[gone], weights[gone])
    torch.testing.assert_close(back.mean, whole.mean, rtol=1e-8, atol=1e-8)
    unchecked = whole.remove(phi[gone], y[gone], weights[gone], check=False)
    torch.testing.assert_close(unchecked.mean, left.mean, rtol=1e-8, atol=1e-8)


@laws
def test_removing_every_row_leaves_exactly_nothing(seed, rows, features, targets):
    phi, y, _, _, rng = problem(seed, rows, features, targets)
    statistics = Statistics.empty(features, targets).add(phi, y)
    order = torch.from_numpy(rng.permutation(rows))
    for part in order.split(max(1, rows // 3)):
        statistics = statistics.remove(phi[part], y[part])
    assert statistics.n == 0
    assert not statistics.gram.any()
    assert not statistics.moment.any()
    assert not statistics.square.any()


@laws
def test_rows_that_cannot_have_been_there_are_not_removed(seed, rows, features, targets):
    phi, y, prior, noise, _ = problem(seed, rows, features, targets)
    model = fit(phi, y, prior, noise)
    far = 1.001 * model.statistics.gram.diagonal().max().sqrt() + 1
    with pytest.raises(NotPositiveDefinite, match="removed"):  # more of a feature than all rows have
        model.remove(far * torch.eye(features, dtype=torch.float64)[:1], torch.zeros(1, targets))
    with pytest.raises(NotPositiveDefinite, match="removed"):  # more of a target than all rows have
        model.remove(torch.zeros(1, features), 1.001 * model.statistics.square.sqrt()[None] + 1)
    with pytest.raises(NotPositiveDefinite, match="removed"):  # more rows than there are
        model.remove(torch.zeros(rows + 1, features), torch.zeros(rows + 1, targets))
    if 0 < rows <= features:  # rows span what was seen, exactly: any other direction is news
        with pytest.raises(NotPositiveDefinite, match="removed"):
            model.remove(phi[:1], y[:1] + 0.1 * (1 + y[:1].abs()))
    if rows:
        with pytest.raises(NotPositiveDefinite, match="removed"):  # the same row too often
            model.remove(phi[:1].expand(rows + 1, -1), y[:1].expand(rows + 1, -1))


@laws
def test_turned_features_and_stretched_targets_change_only_what_they_must(seed, rows, features, targets):
    phi, y, _, noise, rng = problem(seed, rows, features, targets)
    turn = torch.linalg.qr(torch.from_numpy(rng.standard_normal((features, features))))[0]
    prior = Diagonal(torch.tensor(0.7, dtype=torch.float64))
    ours, theirs = fit(phi, y, prior, noise), fit(phi @ turn, y, prior, noise)
    torch.testing.assert_close(ours.log_evidence, theirs.log_evidence, **EXACT)
    torch.testing.assert_close(ours.mean, turn @ theirs.mean, **EXACT)
    c = 10.0 ** float(rng.uniform(-2, 2))  # units of the targets: the density gets the Jacobian c^-n
    if isinstance(noise, Known):
        factor = torch.tensor(c**-2, dtype=torch.float64)
        stretched = fit(phi, c * y, prior.scaled(factor), Known(noise.precision * factor))
    else:
        stretched = fit(phi, c * y, prior, InverseGamma(noise.shape, noise.rate * c * c))
    torch.testing.assert_close(stretched.log_evidence, ours.log_evidence - rows * math.log(c), **EXACT)
    torch.testing.assert_close(stretched.mean, c * ours.mean, **EXACT)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**6), st.integers(1, 40), st.integers(1, 8), st.integers(1, 3))
def test_the_best_evidence_is_one_that_a_model_has_and_none_nearby_is_better(seed, rows, features, targets):
    phi, y, prior, noise, _ = problem(seed, rows, features, targets)
    for keep_noise in (False, True):
        best = maximise_evidence(fit(phi, y, prior, noise), keep_noise=keep_noise)
        assert all(v.isfinite().all() for v in (best.factor, best.log_evidence, best.effective))
        if best.no_noise or best.no_signal:
            continue
        value = best.model.log_evidence.sum()
        torch.testing.assert_close(best.log_evidence, value, rtol=1e-9, atol=1e-9)
        assert 0 <= best.effective <= min(rows, features) + 1e-9
        found = best.model
        others = [(f, 1.0) for f in (0.5, 0.99, 1.01, 2.0, 1e3, 1e-3)]
        if isinstance(noise, Known) and not keep_noise:
            others += [(f, g) for f in (0.9, 1.0, 1.1) for g in (0.5, 0.99, 1.01, 2.0)]
        for f, g in others:
            factor = torch.tensor(f, dtype=torch.float64)
            other = Known(found.noise.precision * g) if isinstance(noise, Known) else found.noise
            there = fit(phi, y, found.prior.scaled(factor), other).log_evidence.sum()
            assert there <= value + 1e-9 * (1 + value.abs())
