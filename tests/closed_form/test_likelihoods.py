"""Likelihoods and priors against scipy.stats and against automatic differentiation, in float64."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch
from torch.func import grad, hessian, vmap

from kokkiri.errors import UsageError
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
from kokkiri.priors import Flat, Normal
from kokkiri.types import LIKELIHOOD_PREFIX

LEVELS = [1e-6, 0.01, 0.3, 0.5, 0.9, 0.999, 1 - 1e-6]


def t(values):
    return torch.as_tensor(values, dtype=torch.float64)


def close(found, wanted, rtol=1e-10, atol=1e-12):
    np.testing.assert_allclose(np.asarray(found.detach()), np.asarray(wanted), rtol=rtol, atol=atol)


@dataclass(frozen=True)
class Case:
    """A likelihood and the scipy distribution that an output of it stands for."""

    likelihood: Any
    reference: Any  # output (C,) -> frozen scipy distribution
    outputs: tuple[tuple[float, ...], ...]

    def __repr__(self):
        return repr(self.likelihood)


def negative_binomial(alpha):
    return lambda f: scipy.stats.nbinom(1 / alpha, 1 / (1 + alpha * math.exp(f[0])))


CENTRES = ((0.0,), (-3.7,), (1e3,))
LOGS = ((0.0,), (-6.0,), (9.0,))
VALUES = [
    Case(Gaussian(), lambda f: scipy.stats.norm(f[0], 1), CENTRES),
    Case(Gaussian(0.02, learn=False), lambda f: scipy.stats.norm(f[0], 0.02), CENTRES),
    Case(Laplace(3.0), lambda f: scipy.stats.laplace(f[0], 3), CENTRES),
    Case(StudentT(), lambda f: scipy.stats.t(4, f[0], 1), CENTRES),
    Case(StudentT(0.3, 2.5), lambda f: scipy.stats.t(2.5, f[0], 0.3), CENTRES),
    Case(StudentT(2.0, 1.2), lambda f: scipy.stats.t(1.2, f[0], 2), CENTRES),
    Case(StudentT(1.0, 1e5), lambda f: scipy.stats.t(1e5, f[0], 1), CENTRES),
    Case(
        HeteroscedasticGaussian(),
        lambda f: scipy.stats.norm(f[0], math.exp(f[1])),
        ((0.0, 0.0), (2.0, -5.0), (-30.0, 3.0)),
    ),
    Case(
        HeteroscedasticStudentT(5.0),
        lambda f: scipy.stats.t(5.0, f[0], math.exp(f[1])),
        ((0.0, 0.0), (0.7, -1.5), (-2.0, 1.5)),
    ),
    Case(Rescaled(Gaussian(0.5), 40.0, 7.0), lambda f: scipy.stats.norm(40 + 7 * f[0], 3.5), CENTRES),
    Case(Rescaled(Laplace(0.5), 40.0, 7.0), lambda f: scipy.stats.laplace(40 + 7 * f[0], 3.5), CENTRES),
    Case(Rescaled(StudentT(0.5), 40.0, 7.0), lambda f: scipy.stats.t(4, 40 + 7 * f[0], 3.5), CENTRES),
]
COUNTS = [
    Case(Poisson(), lambda f: scipy.stats.poisson(math.exp(f[0])), LOGS),
    Case(NegativeBinomial(), negative_binomial(1.0), LOGS),
    Case(NegativeBinomial(0.05), negative_binomial(0.05), LOGS),
    Case(NegativeBinomial(20.0, learn=False), negative_binomial(20.0), LOGS),
]


def each(case):
    for f in case.outputs:
        yield t([f]), case.reference(f)


@pytest.mark.parametrize("case", VALUES, ids=repr)
def test_densities_moments_cdfs_and_quantiles_of_values_are_scipys(case):
    for output, reference in each(case):
        y = reference.ppf([1e-4, 0.1, 0.5, 0.77, 0.9999])
        outputs = output.expand(len(y), -1)
        prediction = case.likelihood.predictive(outputs[None])
        close(case.likelihood.log_prob(outputs, t(y)), reference.logpdf(y))
        close(prediction.log_prob(t(y)), reference.logpdf(y))
        close(prediction.cdf(t(y)), reference.cdf(y))
        one = prediction.rows(slice(0, 1))
        close(one.mean, [reference.mean()])
        close(one.variance, [reference.var()])
        close(one.sd, [reference.std()])
        close(one.epistemic, [0.0])
        for q in LEVELS:
            close(one.quantile(q), [reference.ppf(q)], rtol=1e-9 if q > 0.99 else 1e-10)  # 1 - q costs scipy digits


@pytest.mark.parametrize("case", COUNTS, ids=repr)
def test_probabilities_moments_cdfs_and_quantiles_of_counts_are_scipys(case):
    for output, reference in each(case):
        y = np.unique(np.concatenate([[0, 1, 2, 5, 40], reference.ppf([0.01, 0.5, 0.99])]))
        outputs = output.expand(len(y), -1)
        prediction = case.likelihood.predictive(outputs[None])
        close(case.likelihood.log_prob(outputs, t(y)), reference.logpmf(y), rtol=1e-9)
        close(case.likelihood.log_prob(outputs, t(y).long()), reference.logpmf(y), rtol=1e-9)
        close(prediction.log_prob(t(y)), reference.logpmf(y), rtol=1e-9)
        close(prediction.cdf(t(y)), reference.cdf(y), rtol=1e-9)
        one = prediction.rows(slice(0, 1))
        close(one.mean, [reference.mean()])
        close(one.variance, [reference.var()])
        assert [one.quantile(q).item() for q in LEVELS] == list(reference.ppf(LEVELS))


def test_classes_have_scipys_probabilities():
    logits = t(np.random.default_rng(0).normal(size=(7, 4)) * 3)
    reference = scipy.special.log_softmax(logits.numpy(), -1)
    y = torch.tensor([0, 1, 2, 3, 0, 1, 2])
    close(Categorical().log_prob(logits, y), reference[np.arange(7), y])
    close(Categorical().predictive(logits[None]).mean, np.exp(reference))
    close(Categorical().predictive(logits[None]).log_prob(y), reference[np.arange(7), y])
    close(
        Bernoulli().log_prob(logits[:, :1], y % 2),
        scipy.stats.bernoulli(scipy.special.expit(logits[:, 0].numpy())).logpmf(y.numpy() % 2),
    )
    both = Bernoulli().predictive(logits[None, :, :1])
    close(both.mean[:, 1], scipy.special.expit(logits[:, 0].numpy()))
    close(both.log_prob(y % 2), Bernoulli().log_prob(logits[:, :1], y % 2))


def test_one_logit_says_what_two_do():
    logit = t([[-2.0], [0.5], [30.0]])
    y = torch.tensor([1, 0, 0])
    close(Bernoulli().log_prob(logit, y), Categorical().log_prob(torch.cat([0 * logit, logit], 1), y))


@pytest.mark.parametrize("likelihood", [Gaussian(), Laplace(2.0), StudentT(), Poisson(), NegativeBinomial()], ids=repr)
def test_targets_of_one_row_add_up(likelihood):
    output, y = t([[0.1, -0.3, 0.9], [1.0, 2.0, 0.0]]), t([[0, 2, 1], [3, 0, 1]])
    parts = sum(likelihood.log_prob(output[:, [k]], y[:, k]) for k in range(3))
    close(likelihood.log_prob(output, y), parts)
    assert likelihood.predictive(output[None]).mean.shape == (2, 3)
    close(likelihood.predictive(output[None]).log_prob(y), parts)


def test_heteroscedastic_outputs_are_all_means_and_then_all_log_deviations():
    output, y = t([[1.0, 2.0, 0.3, -0.4]]), t([[0.5, 0.5]])
    wanted = scipy.stats.norm([1.0, 2.0], np.exp([0.3, -0.4])).logpdf(0.5).sum()
    close(HeteroscedasticGaussian().log_prob(output, y), [wanted])
    close(HeteroscedasticGaussian().predictive(output[None]).mean, [[1.0, 2.0]])


def at(likelihood, output):
    return lambda f, y: likelihood.log_prob(f[None], y[None])[0]


@pytest.mark.parametrize(
    ("likelihood", "output", "support"),
    [
        (Gaussian(0.7), [0.3], [-1.0, 0.0, 2.0]),
        (Bernoulli(), [0.3], [0.0, 1.0]),
        (Categorical(), [0.3, -1.0, 2.0], [0.0, 1.0, 2.0]),
        (Poisson(), [0.3], [0.0, 3.0, 9.0]),
    ],
    ids=repr,
)
def test_for_canonical_likelihoods_curvature_is_minus_the_second_derivative_whatever_y(likelihood, output, support):
    f = t(output)
    second = vmap(hessian(at(likelihood, f)), (None, 0))(f, t(support))
    close(likelihood.curvature(f[None]).expand_as(second), -second)


def grid(reference):
    """Points and masses that integrate or sum functions against a distribution."""
    if isinstance(reference.dist, scipy.stats.rv_discrete):
        k = np.arange(reference.ppf(1 - 1e-14) * 1.5 + 50)
        return t(k), t(reference.pmf(k))
    u, w = np.polynomial.legendre.leggauss(400)
    u, w = 12 * u, 12 * w  # y = centre + spread sinh(u)
    y = reference.median() + reference.std() * np.sinh(u)
    return t(y), t(w * reference.std() * np.cosh(u) * reference.pdf(y))


@pytest.mark.parametrize(
    "case",
    [
        Case(StudentT(0.6, 3.5), lambda f: scipy.stats.t(3.5, f[0], 0.6), ((0.3,),)),
        Case(HeteroscedasticGaussian(), lambda f: scipy.stats.norm(f[0], math.exp(f[1])), ((0.3, -0.8), (0.0, 1.5))),
        Case(
            HeteroscedasticStudentT(5.0), lambda f: scipy.stats.t(5.0, f[0], math.exp(f[1])), ((0.3, -0.8), (0.0, 1.5))
        ),
        Case(NegativeBinomial(0.4), negative_binomial(0.4), ((0.3,), (3.0,))),
        Case(Poisson(), lambda f: scipy.stats.poisson(math.exp(f[0])), ((0.3,), (3.0,))),
    ],
    ids=repr,
)
def test_curvature_is_minus_the_expected_second_derivative(case):
    for output, reference in each(case):
        y, mass = grid(reference)
        second = vmap(hessian(at(case.likelihood, output)), (None, 0))(output[0], y)
        close(case.likelihood.curvature(output)[0], -torch.einsum("n,nij->ij", mass, second), rtol=1e-9, atol=1e-9)


def test_the_curvature_of_laplace_is_the_mean_square_of_its_score():
    score = vmap(grad(at(Laplace(0.5), None)), (None, 0))(t([0.2]), t([-1.0, 1.0, 3.0]))
    close(score.square(), np.full((3, 1), 4.0))  # ±1/b everywhere
    close(Laplace(0.5).curvature(t([[0.2]])), [[[4.0]]])


@pytest.mark.parametrize("likelihood", [Poisson(), NegativeBinomial(), HeteroscedasticGaussian()], ids=repr)
def test_where_an_output_is_clamped_the_curvature_along_it_is_zero(likelihood):
    output = t([[0.0, 50.0]]) if isinstance(likelihood, HeteroscedasticGaussian) else t([[50.0]])
    y = t([1.0])
    slope = grad(lambda f: likelihood.log_prob(f, y).sum())(output)
    assert slope[0, -1] == 0
    assert likelihood.curvature(output)[0, -1, -1] == 0


def test_a_t_with_two_degrees_of_freedom_or_fewer_has_infinite_variance_and_finite_intervals():
    prediction = StudentT(df=2.0).predictive(t([[[0.0]], [[1.0]]]))
    assert prediction.variance.item() == prediction.aleatoric.item() == math.inf
    close(prediction.epistemic, [0.25])
    low, high = prediction.interval(0.9)
    assert math.isfinite(low.item())
    assert math.isfinite(high.item())


def test_a_t_with_many_degrees_of_freedom_is_a_normal():
    y = t([-3.0, 0.0, 4.0])
    close(StudentT(df=4e8).log_prob(0 * y[:, None], y), Gaussian().log_prob(0 * y[:, None], y), rtol=1e-7)


def test_a_negative_binomial_without_dispersion_is_a_poisson():
    f, y = t([[-2.0], [1.0], [4.0]]), t([0, 3, 60])
    close(NegativeBinomial(3e-9).log_prob(f, y), Poisson().log_prob(f, y), rtol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_counts_of_a_million_are_judged_to_the_precision_of_the_dtype(dtype):
    f, y = math.log(1e6), 1_001_000.0
    wanted = scipy.stats.poisson(1e6).logpmf(y)
    found = Poisson().log_prob(torch.tensor([[f]], dtype=dtype), t([y]))
    close(found, [wanted], rtol=1e-3 if dtype == torch.float32 else 1e-8)  # y log f alone rounds to 1 nat in float32


SHIFTED = [Rescaled(Gaussian(), 1e9, 1e-3), Rescaled(Laplace(), 1e9, 1e-3), Rescaled(StudentT(), 1e9, 1e-3)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("likelihood", SHIFTED, ids=repr)
def test_a_target_near_a_thousand_million_with_a_spread_of_a_thousandth_keeps_its_digits(likelihood, dtype):
    reference = {Gaussian: scipy.stats.norm(), Laplace: scipy.stats.laplace(), StudentT: scipy.stats.t(4)}
    inner = reference[type(likelihood.inner)]
    y = t(1e9) + t([-0.002, 0.0, 0.0005])
    z = (y.numpy() - 1e9) / 1e-3  # the subtraction is exact
    wanted = inner.logpdf(z) - math.log(1e-3)
    output = torch.zeros(3, 1, dtype=dtype)
    close(likelihood.log_prob(output, y), wanted, rtol=1e-6 if dtype == torch.float32 else 1e-10)
    prediction = likelihood.predictive(output[None])
    close(prediction.log_prob(y), wanted)
    close(prediction.cdf(y), inner.cdf(z))
    close(prediction.sd, np.full(3, 1e-3 * inner.std()))
    close((prediction.quantile(0.9) - 1e9) / 1e-3, np.full(3, inner.ppf(0.9)), rtol=2e-4)  # 1e9 has steps of 1e-7


def test_rescaling_works_target_by_target_and_twice():
    output, y = t([[0.2, -0.4]]), t([[11.0, 90.0]])
    by_target = Rescaled(Gaussian(0.5), (10.0, 100.0), (2.0, 30.0))
    wanted = scipy.stats.norm([10.4, 88.0], [1.0, 15.0]).logpdf(y).sum()
    close(by_target.log_prob(output, y), [wanted])
    close(by_target.predictive(output[None]).log_prob(y), [wanted])
    close(by_target.predictive(output[None]).mean, [[10.4, 88.0]])
    twice = Rescaled(Rescaled(Gaussian(0.5), 5.0, 2.0), -1.0, 3.0)
    once = Rescaled(Gaussian(0.5), 14.0, 6.0)
    close(twice.log_prob(output[:, :1], y[:, 0]), once.log_prob(output[:, :1], y[:, 0]))
    close(twice.predictive(output[None]).quantile(0.2), once.predictive(output[None]).quantile(0.2))


EXTREMES = [
    (Gaussian(), 1),
    (Laplace(), 1),
    (StudentT(), 1),
    (HeteroscedasticGaussian(), 2),
    (HeteroscedasticStudentT(), 2),
    (Bernoulli(), 1),
    (Categorical(), 3),
    (Poisson(), 1),
    (NegativeBinomial(), 1),
    (Rescaled(StudentT(), 3.0, 2.0), 1),
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("sign", [-1.0, 1.0])
@pytest.mark.parametrize(("likelihood", "width"), EXTREMES, ids=repr)
def test_extreme_outputs_and_scales_give_finite_values_gradients_and_curvatures(likelihood, width, sign, dtype):
    y = torch.tensor([0, 1, 1])
    for size in (100.0, 1e4):
        for at_scale in (-1000.0, 0.0, 1000.0):
            output = sign * size * torch.ones(3, width, dtype=dtype)
            own = {name: torch.tensor(at_scale, dtype=dtype) for name in likelihood.parameters()}
            assert likelihood.bind(own).log_prob(output, y).isfinite().all()
            total = lambda own, f: likelihood.bind(own).log_prob(f, y).sum()
            slopes, at_output = grad(total, argnums=(0, 1))(own, output)
            assert at_output.isfinite().all()
            assert all(slope.isfinite() for slope in slopes.values())
            assert likelihood.bind(own).curvature(output).isfinite().all()
            prediction = likelihood.bind(own).predictive(output[None])
            assert prediction.log_prob(y).isfinite().all()
            assert prediction.mean.isfinite().all()


@pytest.mark.parametrize(
    "make",
    [
        lambda: Gaussian(0.0),
        lambda: Gaussian(-1.0),
        lambda: Laplace(math.nan),
        lambda: StudentT(df=1.0),
        lambda: StudentT(scale=math.inf),
        lambda: NegativeBinomial(0.0),
        lambda: Rescaled(Gaussian(), 0.0, 0.0),
        lambda: Rescaled(Gaussian(), math.nan, 1.0),
        lambda: Rescaled(Gaussian(), (), ()),
        lambda: Normal(0.0),
        lambda: Normal(math.inf),
    ],
)
def test_parameters_outside_their_range_are_refused_with_a_mend(make):
    with pytest.raises(UsageError) as refusal:
        make()
    assert refusal.value.needs
    assert refusal.value.found
    assert refusal.value.fix


def test_the_normal_prior_is_a_product_of_scipys_normals():
    rng = np.random.default_rng(0)
    params = {
        "a.weight": t(rng.normal(size=(3, 2))),
        "b": t(rng.normal(size=4)),
        LIKELIHOOD_PREFIX + "log_scale": t(0.7),
    }
    weights = np.concatenate([params["a.weight"].numpy().ravel(), params["b"].numpy()])
    wanted = scipy.stats.norm(0, 0.5).logpdf(weights).sum() + scipy.stats.norm(0, 3).logpdf(0.7)
    prior = Normal(precision=4.0)
    for hyper in (prior.hyperparameters(), {"precision": 4.0}):
        close(prior.log_prob(params, hyper), wanted)
        found, slopes = prior.gradient(params, hyper), grad(prior.log_prob)(params, hyper)
        for name, slope in slopes.items():
            close(found[name], slope)
    flat = {"": t(weights), LIKELIHOOD_PREFIX: t([0.7])}
    close(prior.log_prob(flat, {"precision": 4.0}), wanted)


def test_the_normal_prior_of_a_herd_has_each_replicas_own_precision():
    params, precisions = {"w": t(np.random.default_rng(1).normal(size=(3, 5)))}, t([0.1, 1.0, 30.0])
    found = vmap(lambda p, h: Normal().log_prob(p, {"precision": h}))(params, precisions)
    wanted = [
        scipy.stats.norm(0, h**-0.5).logpdf(w).sum() for w, h in zip(params["w"], precisions.tolist(), strict=True)
    ]
    close(found, wanted)


def test_the_flat_prior_pulls_nowhere():
    params = {"w": t([1.0, 2.0])}
    assert Flat().log_prob(params, {}).item() == 0
    assert Flat().gradient(params, {})["w"].tolist() == [0, 0]
    assert vmap(lambda p: Flat().log_prob(p, {}))({"w": t([[1.0], [2.0]])}).tolist() == [0, 0]
