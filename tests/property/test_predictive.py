"""Laws of predictions: total variance, draws, quantiles, samples, batches."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from kokkiri import types
from kokkiri.errors import DataError, KokkiriError, ShapeError, Unsupported, UsageError
from kokkiri.likelihoods import (
    Bernoulli,
    Categorical,
    Gaussian,
    HeteroscedasticGaussian,
    HeteroscedasticStudentT,
    Laplace,
    NegativeBinomial,
    Poisson,
    Rescaled,
    StudentT,
)
from kokkiri.numerics.distributions import Normal
from kokkiri.predictive import Classes, Mixture, concatenate, normalised

VALUES = [
    Gaussian(0.7),
    Laplace(0.7),
    StudentT(0.7, 5.0),
    HeteroscedasticGaussian(),
    HeteroscedasticStudentT(5.0),
    Rescaled(Gaussian(), 5.0, 2.0),
]
COUNTS = [Poisson(), NegativeBinomial(0.5)]
CLASSES = [Bernoulli(), Categorical()]
WIDTH = {Categorical: 3, HeteroscedasticGaussian: 2, HeteroscedasticStudentT: 2}

quick = settings(max_examples=12, deadline=None)
numbers = st.floats(-3, 3, width=32)


def outputs(likelihood, draws=4, rows=3):
    return arrays(np.float64, (draws, rows, WIDTH.get(type(likelihood), 1)), elements=numbers).map(torch.from_numpy)


def log_weights(draws=4):
    return arrays(np.float64, (draws,), elements=numbers).map(torch.from_numpy)


def close(found, wanted, rtol=1e-10, atol=1e-10):
    torch.testing.assert_close(found, wanted, rtol=rtol, atol=atol)


def pictures(prediction):
    """All that a prediction says, as tensors."""
    y = prediction.sample(1, seed=0)[0]
    yield from (
        prediction.mean,
        prediction.variance,
        prediction.aleatoric,
        prediction.epistemic,
        prediction.log_prob(y),
    )
    if isinstance(prediction, Classes):
        yield from (prediction.entropy, prediction.expected_entropy)
    else:
        yield from (prediction.cdf(y), prediction.quantile(0.3))


@pytest.mark.parametrize("likelihood", [*VALUES, *COUNTS], ids=repr)
@given(data=st.data())
@quick
def test_the_variance_is_the_mean_of_variances_plus_the_variance_of_means(likelihood, data):
    f, w = data.draw(outputs(likelihood)), data.draw(log_weights())
    prediction = likelihood.predictive(f, w)
    alone = [likelihood.predictive(f[[s]]) for s in range(len(f))]
    p = torch.softmax(w, 0)[:, None]
    means, variances = torch.stack([a.mean for a in alone]), torch.stack([a.variance for a in alone])
    centre = (p * means).sum(0)
    close(prediction.mean, centre)
    close(prediction.aleatoric, (p * variances).sum(0))
    close(prediction.epistemic, (p * (means - centre) ** 2).sum(0))
    close(prediction.variance, (p * (variances + means**2)).sum(0) - centre**2, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("likelihood", CLASSES, ids=repr)
@given(data=st.data())
@quick
def test_uncertainty_about_classes_adds_up(likelihood, data):
    prediction = likelihood.predictive(data.draw(outputs(likelihood)), data.draw(log_weights()))
    p = prediction.mean
    close(p.sum(-1), torch.ones(3, dtype=torch.float64))
    close(prediction.variance, p * (1 - p))
    assert (prediction.epistemic >= 0).all()
    close(prediction.entropy, prediction.expected_entropy + prediction.mutual_information)
    assert (prediction.mutual_information >= 0).all()
    assert (prediction.entropy <= math.log(p.shape[1]) + 1e-12).all()
    every = torch.stack([prediction.log_prob(torch.full((3,), c)) for c in range(p.shape[1])], 1)
    close(every.exp(), p)
    assert torch.equal(prediction.label, p.argmax(1))


@pytest.mark.parametrize("likelihood", [*VALUES, *COUNTS, *CLASSES], ids=repr)
@given(data=st.data())
@quick
def test_identical_draws_are_one_draw_and_their_order_does_not_matter(likelihood, data):
    f, w = data.draw(outputs(likelihood)), data.draw(log_weights())
    same, one = likelihood.predictive(f[:1].expand(4, -1, -1), w), likelihood.predictive(f[:1])
    y = one.sample(1, seed=0)[0]
    close(same.mean, one.mean)
    close(same.variance, one.variance)
    close(same.log_prob(y), one.log_prob(y))
    close(same.epistemic, torch.zeros_like(one.mean))
    order = torch.randperm(4, generator=torch.Generator().manual_seed(1))
    this, that = likelihood.predictive(f, w), likelihood.predictive(f[order], w[order] + 7.0)  # weights are normalised
    close(this.mean, that.mean)
    close(this.variance, that.variance)
    close(this.log_prob(y), that.log_prob(y))


@pytest.mark.parametrize("likelihood", [*VALUES, *COUNTS, *CLASSES], ids=repr)
@given(data=st.data())
@quick
def test_a_draw_of_no_weight_is_absent_and_one_twice_as_heavy_counts_twice(likelihood, data):
    f = data.draw(outputs(likelihood, draws=2))
    absent = likelihood.predictive(f, torch.tensor([0.0, -800.0]))
    alone = likelihood.predictive(f[:1])
    heavy = likelihood.predictive(f, torch.tensor([2.0, 1.0], dtype=torch.float64).log())
    twice = likelihood.predictive(f[[0, 0, 1]])
    y = alone.sample(1, seed=0)[0]
    for this, that in ((absent, alone), (heavy, twice)):
        close(this.mean, that.mean)
        close(this.variance, that.variance)
        close(this.log_prob(y), that.log_prob(y))


@pytest.mark.parametrize("likelihood", VALUES, ids=repr)
@given(data=st.data(), q=st.floats(1e-9, 1 - 1e-9))
@quick
def test_the_quantile_inverts_the_distribution_function_of_values(likelihood, data, q):
    prediction = likelihood.predictive(data.draw(outputs(likelihood)), data.draw(log_weights()))
    y = prediction.quantile(q)
    assert torch.allclose(prediction.cdf(y), torch.full((3,), q, dtype=torch.float64), rtol=1e-7, atol=1e-12)
    assert (prediction.quantile(min(q * 1.01, 1 - 1e-9)) >= y - 1e-9).all()


@pytest.mark.parametrize("likelihood", COUNTS, ids=repr)
@given(data=st.data(), q=st.floats(1e-9, 1 - 1e-9))
@quick
def test_the_quantile_of_counts_is_the_first_to_reach_the_level(likelihood, data, q):
    prediction = likelihood.predictive(data.draw(outputs(likelihood)), data.draw(log_weights()))
    k = prediction.quantile(q)
    assert torch.equal(k, k.round())
    assert (prediction.cdf(k) >= q - 1e-12).all()
    assert (prediction.cdf(k - 1) < q).all()
    level = prediction.cdf(k)[0].item()
    if level < 1:
        assert prediction.quantile(level)[0] == k[0]


def test_quantiles_are_found_between_far_and_narrow_modes_and_deep_in_heavy_tails():
    far = Mixture(
        Normal(torch.tensor([[[-1e6]], [[0.0]], [[1e6]]]), torch.tensor([[[-6.0]], [[0.0]], [[-6.0]]])),
        normalised(torch.tensor([0.0, 0.0, 0.0]), 3, torch.zeros(())),
    )
    for q in (0.1, 0.4, 0.5, 0.6, 0.9):
        close(far.cdf(far.quantile(q)).item(), q, rtol=1e-5)
    heavy = StudentT(df=1.01).predictive(torch.zeros(1, 1, 1))
    for q in (1e-12, 1 - 1e-12):
        close(heavy.quantile(q).item(), float(scipy.stats.t(1.01).ppf(q)), rtol=1e-6, atol=0)  # 1 - q has 4 digits


def test_the_quantile_of_a_prediction_that_is_not_a_number_is_not_a_number():
    broken = Gaussian().predictive(torch.tensor([[[math.nan], [0.0]]]))
    assert broken.quantile(0.3).isnan().tolist() == [True, False]
    assert Poisson().predictive(torch.tensor([[[math.nan], [0.0]]])).quantile(0.9)[1] == 2


@pytest.mark.parametrize("likelihood", VALUES, ids=repr)
def test_samples_of_values_follow_the_distribution_function(likelihood):
    f = torch.linspace(-1, 1, 3 * 2 * WIDTH.get(type(likelihood), 1)).reshape(3, 2, -1)
    prediction = likelihood.predictive(f, torch.tensor([0.0, 1.0, -1.0]))
    sample = prediction.sample(2000, seed=5)
    assert sample.shape == (2000, 2)
    for row in range(2):
        one = prediction.rows(slice(row, row + 1))
        cdf = lambda y, one=one: concatenate([one] * len(y)).cdf(torch.as_tensor(y)).numpy()
        assert scipy.stats.kstest(np.asarray(sample[:200, row]), cdf).pvalue > 1e-6
        uniform = np.searchsorted([one.quantile(k / 20).item() for k in range(1, 20)], np.asarray(sample[:, row]))
        assert scipy.stats.chisquare(np.bincount(uniform, minlength=20)).pvalue > 1e-6


@pytest.mark.parametrize("likelihood", [*COUNTS, *CLASSES], ids=repr)
def test_samples_of_counts_and_classes_follow_their_probabilities(likelihood):
    f = torch.linspace(-1, 1, 3 * WIDTH.get(type(likelihood), 1)).reshape(3, 1, -1)
    prediction = likelihood.predictive(f, torch.tensor([0.0, 1.0, -1.0]))
    sample = prediction.sample(4000, seed=5)[:, 0].long()
    most = WIDTH.get(type(likelihood), 2) if isinstance(prediction, Classes) else 8
    p = np.array([prediction.log_prob(torch.tensor([k])).exp().item() for k in range(most)])
    counts = np.bincount(sample, minlength=most)
    found, wanted = np.append(counts[:most], counts[most:].sum()), np.append(p, max(1 - p.sum(), 0.0)) * 4000
    some = wanted > 1
    assert scipy.stats.chisquare(found[some], wanted[some] * found[some].sum() / wanted[some].sum()).pvalue > 1e-6
    assert (found[~some] < 20).all()


def test_one_draw_of_the_parameters_serves_all_rows_of_a_sample():
    f = torch.tensor([-50.0, 50.0])[:, None, None].expand(2, 4, 1)
    values = Gaussian().predictive(f).sample(200, seed=0)
    assert ((values > 0).all(1) | (values < 0).all(1)).all()
    assert 50 < (values[:, 0] > 0).sum() < 150
    classes = Bernoulli().predictive(f).sample(200, seed=0)
    assert ((classes == 1).all(1) | (classes == 0).all(1)).all()


def test_samples_are_a_function_of_the_seed_and_touch_no_global_state():
    prediction = StudentT().predictive(torch.zeros(2, 3, 1))
    torch_before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()
    assert torch.equal(prediction.sample(5, seed=1), prediction.sample(5, seed=1))
    assert not torch.equal(prediction.sample(5, seed=1), prediction.sample(5, seed=2))
    assert torch.equal(torch_before, torch.get_rng_state())
    assert (numpy_before == np.random.get_state()[1]).all()


@pytest.mark.parametrize("likelihood", [*VALUES, *COUNTS, *CLASSES], ids=repr)
@given(data=st.data())
@settings(max_examples=4, deadline=None)
def test_a_prediction_in_batches_is_the_prediction_at_once(likelihood, data):
    f, w = data.draw(outputs(likelihood, rows=5)), data.draw(log_weights())
    whole = likelihood.predictive(f, w)
    parts = concatenate([likelihood.predictive(f[:, :2], w), likelihood.predictive(f[:, 2:], w)])
    assert len(whole) == len(parts) == 5
    for this, that in zip(pictures(whole), pictures(parts), strict=True):
        close(this, that)
    index = torch.tensor([4, 0, 0])
    for this, that in zip(pictures(whole.rows(index)), pictures(likelihood.predictive(f[:, index], w)), strict=True):
        close(this, that)


def test_several_targets_are_predicted_each_by_itself_and_judged_together():
    f = torch.tensor([[[0.0, 1.0]], [[2.0, -1.0]]], dtype=torch.float64)
    prediction = Gaussian().predictive(f)
    for shape in (
        prediction.mean,
        prediction.quantile(0.3),
        prediction.interval(0.8)[0],
        prediction.sample(1, seed=0)[0],
    ):
        assert shape.shape == (1, 2)
    y = torch.tensor([[0.5, 0.5]], dtype=torch.float64)
    each = torch.stack([Gaussian().log_prob(f[s], y) for s in range(2)])
    close(prediction.log_prob(y), torch.logsumexp(each, 0) - math.log(2))  # not the sum of marginals
    for k in range(2):
        close(prediction.quantile(0.3)[:, k], Gaussian().predictive(f[..., [k]]).quantile(0.3))


@given(
    p=arrays(np.float64, (4, 6), elements=st.floats(0.01, 1)).map(
        lambda a: torch.from_numpy(a / a.sum(1, keepdims=True))
    ),
    level=st.floats(0.05, 0.99),
)
@quick
def test_the_prediction_set_has_the_level_and_no_class_to_spare(p, level):
    chosen = Classes(p.log()[None], torch.zeros(1)).prediction_set(level)
    mass = (p * chosen).sum(1)
    assert (mass >= level - 1e-9).all()
    least = torch.where(chosen, p, math.inf).amin(1)
    assert (mass - least < level + 1e-9).all()
    assert (least >= torch.where(chosen, 0.0, p).amax(1)).all()


def test_a_class_that_is_excluded_keeps_a_finite_log_probability():
    prediction = Categorical().predictive(torch.tensor([[[0.0, 5000.0]]]))
    assert prediction.log_prob(torch.tensor([0])).item() == -5000
    assert prediction.entropy.item() == 0
    certain = Classes(torch.tensor([[[0.0, -math.inf]]]), torch.zeros(1))
    assert certain.entropy.item() == certain.variance.sum().item() == 0


def test_predictions_keep_the_protocol():
    assert isinstance(Gaussian().predictive(torch.zeros(1, 1, 1)), types.Predictive)
    assert isinstance(Categorical().predictive(torch.zeros(1, 1, 2)), types.Predictive)


def gaussian(draws=2, rows=3):
    return Gaussian().predictive(torch.zeros(draws, rows, 1))


@pytest.mark.parametrize(
    ("error", "call"),
    [
        (UsageError, lambda: gaussian().quantile(0.0)),
        (UsageError, lambda: gaussian().interval(1.0)),
        (UsageError, lambda: gaussian().sample(0, seed=0)),
        (ShapeError, lambda: gaussian().log_prob(torch.zeros(2))),
        (ShapeError, lambda: gaussian().cdf(torch.zeros(3, 2))),
        (ShapeError, lambda: Gaussian().predictive(torch.zeros(2, 3, 1), torch.zeros(3))),
        (ShapeError, lambda: Gaussian().predictive(torch.zeros(3, 1))),
        (ShapeError, lambda: concatenate([gaussian(2), gaussian(3)])),
        (ShapeError, lambda: concatenate([gaussian(), Laplace().predictive(torch.zeros(2, 3, 1))])),
        (ShapeError, lambda: concatenate([gaussian(), Rescaled(Gaussian(), 1.0).predictive(torch.zeros(2, 3, 1))])),
        (ShapeError, lambda: concatenate([gaussian(), Bernoulli().predictive(torch.zeros(2, 3, 1))])),
        (ShapeError, lambda: Classes(torch.zeros(3, 2), torch.zeros(3))),
        (ShapeError, lambda: Mixture(Normal(torch.zeros(3, 2), torch.zeros(3, 2)), torch.zeros(3))),
        (Unsupported, lambda: Bernoulli().predictive(torch.zeros(1, 1, 1)).interval(0.9)),
        (Unsupported, lambda: Bernoulli().predictive(torch.zeros(1, 1, 1)).quantile(0.9)),
        (Unsupported, lambda: Poisson().predictive(torch.zeros(1, 1, 1)).rescaled(torch.zeros(()), torch.ones(()))),
        (UsageError, lambda: Bernoulli().predictive(torch.zeros(1, 1, 1)).prediction_set(1.5)),
        (ShapeError, lambda: Bernoulli().predictive(torch.zeros(1, 2, 1)).log_prob(torch.zeros(1))),
        (DataError, lambda: Bernoulli().predictive(torch.zeros(1, 2, 1)).log_prob(torch.tensor([0, 2]))),
    ],
)
def test_what_a_prediction_cannot_answer_is_refused(error, call):
    with pytest.raises(error) as refusal:
        call()
    assert isinstance(refusal.value, KokkiriError)
    assert refusal.value.needs


def test_a_refusal_of_an_interval_of_classes_names_the_prediction_set():
    with pytest.raises(Unsupported, match="prediction_set"):
        Bernoulli().predictive(torch.zeros(1, 1, 1)).interval(0.9)
