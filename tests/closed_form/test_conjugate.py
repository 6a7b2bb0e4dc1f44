"""Conjugate families against textbooks, scipy.stats, quadrature, and themselves at extreme parameters."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest
import scipy.integrate
import scipy.stats
import torch
from conjugate_cases import FAMILIES, log_prob, numbers

import kokkiri as kk
from kokkiri.exact import (
    BetaBernoulli,
    DirichletCategorical,
    GammaExponential,
    GammaPoisson,
    LinearRegression,
    NormalInverseGamma,
    NormalInverseWishart,
    NormalKnownVariance,
)


def close(found, wanted, rtol=1e-10, atol=1e-12):
    np.testing.assert_allclose(np.asarray(found), wanted, rtol=rtol, atol=atol)


def quad(f, *ends):
    value, error = scipy.integrate.quad(f, *ends, epsabs=0, epsrel=1e-12, limit=400)
    assert error < 1e-10 * abs(value)
    return value


def around(dist):
    """Ends that hold all but 1e-16 of a posterior."""
    return dist.ppf(1e-16), dist.isf(1e-16)


def test_gelmans_placenta_previa():
    """Gelman et al. 2013, section 2.4: 437 girls among 980 births, a uniform prior."""
    post = BetaBernoulli(1, 1).update_statistics(successes=437, failures=543)
    assert numbers(post) == {"a": 438, "b": 544}
    close(post.mean, 0.446, atol=5e-4, rtol=0)
    close(post.variance.sqrt(), 0.016, atol=5e-4, rtol=0)
    close(torch.stack(post.interval(0.95)), [0.415, 0.477], atol=5e-4, rtol=0)


def test_gelmans_asthma_deaths():
    """Gelman et al. 2013, section 2.6: 3 deaths among 200,000 people, then 30 in ten times as much; Gamma(3, 5)."""
    one = GammaPoisson(3, 5).update([3], exposure=[2.0])
    ten = GammaPoisson(3, 5).update([30], exposure=[20.0])
    assert numbers(one) == {"shape": 6, "rate": 7}
    assert numbers(ten) == {"shape": 33, "rate": 25}
    close([one.mean, ten.mean], [0.86, 1.32], atol=5e-3, rtol=0)
    assert one.history.prior.rate == 5


def test_a_normal_mean_is_the_average_weighted_with_precisions():
    post = NormalKnownVariance(mean=10, variance=4, noise=8).update([14.0, 16.0])
    close([post.mean, post.variance], [(10 / 4 + 30 / 8) / (1 / 4 + 2 / 8), 1 / (1 / 4 + 2 / 8)])


EVIDENCES = {
    "BetaBernoulli": lambda: (
        BetaBernoulli(2.5, 0.7).log_evidence([1, 0, 1, 1]),
        quad(lambda p: scipy.stats.beta(2.5, 0.7).pdf(p) * p**3 * (1 - p), 0, 1),
    ),
    "GammaPoisson": lambda: (
        GammaPoisson(2.5, 0.7).log_evidence([3, 0, 5], exposure=[1.0, 0.5, 2.0]),
        quad(
            lambda r: scipy.stats.gamma(2.5, scale=1 / 0.7).pdf(r)
            * np.prod(scipy.stats.poisson.pmf([3, 0, 5], r * np.array([1, 0.5, 2]))),
            0, 60,
        ),
    ),
    "GammaExponential": lambda: (
        GammaExponential(2.5, 0.7).log_evidence([3.0, 0.2]),
        quad(lambda r: scipy.stats.gamma(2.5, scale=1 / 0.7).pdf(r) * r * r * np.exp(-3.2 * r), 0, 60),
    ),
    "NormalKnownVariance": lambda: (
        NormalKnownVariance(1.0, 2.0, 3.0).log_evidence([3.0, -1.0, 2.0]),
        quad(lambda m: scipy.stats.norm(1, 2**0.5).pdf(m) * np.prod(scipy.stats.norm.pdf([3, -1, 2], m, 3**0.5)),
             -30, 30),
    ),
    "NormalInverseGamma": lambda: (
        NormalInverseGamma(1.0, 2.0, 3.0, 4.0).log_evidence([3.0, -1.0, 2.0]),
        quad(
            lambda v: scipy.stats.invgamma(3, scale=4).pdf(v)
            * scipy.stats.multivariate_normal.pdf([3, -1, 2], [1, 1, 1], v * (np.eye(3) + 0.5)),
            0, 0.5,
        )
        + quad(
            lambda v: scipy.stats.invgamma(3, scale=4).pdf(v)
            * scipy.stats.multivariate_normal.pdf([3, -1, 2], [1, 1, 1], v * (np.eye(3) + 0.5)),
            0.5, np.inf,
        ),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", EVIDENCES)
def test_the_evidence_is_the_integral_of_prior_times_likelihood(name):
    found, wanted = EVIDENCES[name]()
    close(found, math.log(wanted))


def test_the_evidence_of_classes_is_that_of_their_counts_over_the_number_of_orders():
    y, alpha = [0, 2, 2, 1, 2], [0.5, 1.5, 3.0]
    orders = math.factorial(5) / math.factorial(3)
    wanted = scipy.stats.dirichlet_multinomial(alpha, 5).logpmf([1, 1, 3]) - math.log(orders)
    close(DirichletCategorical(alpha).log_evidence(y), wanted)


def test_the_evidence_of_a_regression_is_a_multivariate_t():
    rng = np.random.default_rng(0)
    x, y, precision = rng.standard_normal((7, 2)), rng.standard_normal(7), np.array([[2.0, 0.3], [0.3, 1.0]])
    prior = LinearRegression([1.0, -1.0], precision, shape=2.5, rate=1.5)
    spread = 1.5 / 2.5 * (np.eye(7) + x @ np.linalg.inv(precision) @ x.T)
    close(prior.log_evidence(x, y), scipy.stats.multivariate_t(x @ [1, -1], spread, 5).logpdf(y))


def test_the_posterior_of_a_regression_is_ridge_regression():
    rng = np.random.default_rng(1)
    x, y = rng.standard_normal((9, 3)), rng.standard_normal(9)
    post = LinearRegression.ridge(3, precision=0.5, shape=2.0, rate=3.0).update(x, y)
    ridge = np.linalg.solve(x.T @ x + 0.5 * np.eye(3), x.T @ y)
    close(post.location, ridge)
    close(post.precision, x.T @ x + 0.5 * np.eye(3))
    close([post.shape, post.rate], [2 + 4.5, 3 + 0.5 * (((y - x @ ridge) ** 2).sum() + 0.5 * (ridge**2).sum())])
    new = rng.standard_normal((4, 3))
    spread = np.einsum("nd,de,ne->n", new, np.linalg.inv(post.precision), new)
    wanted = scipy.stats.t(2 * 6.5, new @ ridge, np.sqrt(post.rate.item() / 6.5 * (1 + spread)))
    close(post.predictive(new).log_prob([0.0, 1.0, 2.0, 3.0]), wanted.logpdf([0, 1, 2, 3]))


def test_a_regression_on_ones_alone_is_a_normal_with_unknown_variance():
    y = np.array([3.0, -1.0, 2.0, 7.0])
    line = LinearRegression([1.0], [[2.0]], 3.0, 4.0).update(np.ones((4, 1)), y)
    plain = NormalInverseGamma(1.0, 2.0, 3.0, 4.0).update(y)
    close(line.location[0], plain.location)
    close(line.precision[0, 0], plain.strength)
    close([line.shape, line.rate], [plain.shape, plain.rate])
    close(line.history.log_evidence, plain.history.log_evidence)
    close(line.divergence(line.history.prior), plain.divergence(plain.history.prior))
    close(line.predictive([[1.0]]).log_prob([0.3]), plain.predictive().log_prob([0.3]))
    close(line.predictive([[1.0]]).epistemic, [plain.predictive().epistemic])


def test_one_coordinate_of_an_inverse_wishart_is_an_inverse_gamma():
    y = np.array([3.0, -1.0, 2.0, 7.0])
    wide = NormalInverseWishart([1.0], 2.0, 6.0, [[8.0]]).update(y[:, None])
    plain = NormalInverseGamma(1.0, 2.0, 3.0, 4.0).update(y)
    close([wide.location[0], wide.strength], [plain.location, plain.strength])
    close([wide.degrees / 2, wide.scale[0, 0] / 2], [plain.shape, plain.rate])
    close(wide.history.log_evidence, plain.history.log_evidence)
    close(wide.divergence(wide.history.prior), plain.divergence(plain.history.prior))
    close(wide.log_prob([0.5], [[2.0]]), plain.log_prob(0.5, 2.0))
    close(wide.mode.covariance[0, 0], plain.mode.variance * (5 + 1.5) / ((wide.degrees + 3) / 2))


def test_the_evidence_of_rows_is_a_matrix_t():
    rng = np.random.default_rng(2)
    y, scale = rng.standard_normal((4, 2)), np.array([[2.0, 0.5], [0.5, 1.0]])
    prior = NormalInverseWishart([1.0, -1.0], 2.0, 5.0, scale)
    rows = np.eye(4) + 0.5
    wanted = scipy.stats.matrix_t(np.tile([1.0, -1.0], (4, 1)), rows, scale, df=4).logpdf(y)
    close(prior.log_evidence(y), wanted)


@pytest.mark.parametrize("name", FAMILIES)
def test_predictions_are_the_likelihood_averaged_over_draws(name):
    """Against 200,000 draws of the posterior, to five standard errors; the closed forms are tested row by row."""
    case, rng = FAMILIES[name], np.random.default_rng(3)
    prior = case.prior(rng)
    theta = tuple(np.asarray(t) for t in case.parameters(prior, rng))
    data, new = case.rows(theta, 6, rng), case.rows(theta, 1, rng)
    post = prior.update(*data)
    drawn = post.draw(200_000, seed=0)
    drawn = (drawn.numpy(),) if isinstance(drawn, torch.Tensor) else tuple(t.numpy() for t in drawn)
    drawn = (*drawn, np.broadcast_to(post.noise, drawn[0].shape)) if name == "NormalKnownVariance" else drawn
    wide = tuple(np.broadcast_to(v, (200_000, *v.shape)) for v in new)
    likelihood = np.exp(case.likelihood(drawn, *wide))[:, 0]
    match name:
        case "GammaPoisson":
            found = post.predictive(new[1][0]).log_prob(new[0][0])
        case "LinearRegression":
            found = post.predictive(new[0]).log_prob(new[1])[0]
        case _:
            found = post.predictive().log_prob(new[0][0])
    error = likelihood.std() / math.sqrt(len(likelihood))
    assert abs(likelihood.mean() - math.exp(found)) < 5 * error


@pytest.mark.parametrize("name", FAMILIES)
def test_maximum_likelihood_is_the_highest_point_of_the_likelihood(name):
    case, rng = FAMILIES[name], np.random.default_rng(4)
    prior = case.prior(rng)
    theta = tuple(np.asarray(t) for t in case.parameters(prior, rng))
    data = case.rows(theta, 20, rng)
    best = prior.maximum_likelihood(*data)
    best = (best.numpy(),) if isinstance(best, torch.Tensor) else tuple(t.numpy() for t in best)
    known = (theta[1],) if name == "NormalKnownVariance" else ()
    top = case.likelihood((*best, *known), *data).sum()
    for _ in range(50):
        other = tuple(b * np.exp(0.05 * rng.standard_normal()) for b in best)
        if name == "DirichletCategorical":
            p = best[0] * np.exp(0.05 * rng.standard_normal(4))
            other = (p / p.sum(),)
        if name == "BetaBernoulli":
            other = (np.clip(other[0], 1e-9, 1 - 1e-9),)
        assert case.likelihood((*other, *known), *data).sum() <= top + 1e-9


@pytest.mark.parametrize("name", FAMILIES)
def test_maximum_a_posteriori_is_the_highest_point_of_the_posterior(name):
    case, rng = FAMILIES[name], np.random.default_rng(4)
    prior = case.prior(rng)
    theta = tuple(np.asarray(t) for t in case.parameters(prior, rng))
    post = prior.update(*case.rows(theta, 20, rng))
    best = post.mode if isinstance(post.mode, tuple) else (post.mode,)
    assert not post.why_no_mode
    top = log_prob(post, best)
    for _ in range(50):
        other = tuple(b * math.exp(0.05 * rng.standard_normal()) for b in best)
        if name == "DirichletCategorical":
            p = best[0].numpy() * np.exp(0.05 * rng.standard_normal(4))
            other = (p / p.sum(),)
        assert log_prob(post, other) <= top + 1e-9


def test_without_rows_there_is_no_maximum_of_the_likelihood():
    none = np.zeros(0)
    assert BetaBernoulli(1, 1).maximum_likelihood(none).isnan()
    assert DirichletCategorical([1, 1]).maximum_likelihood(none).isnan().all()
    assert GammaPoisson(1, 1).maximum_likelihood(none).isnan()
    assert GammaExponential(1, 1).maximum_likelihood(none).isnan()
    assert NormalKnownVariance(0, 1, 1).maximum_likelihood(none).isnan()
    for found in (
        NormalInverseGamma(0, 1, 1, 1).maximum_likelihood(none),
        LinearRegression.ridge(2).maximum_likelihood(np.zeros((0, 2)), none),
        NormalInverseWishart([0, 0], 1, 4, np.eye(2)).maximum_likelihood(np.zeros((0, 2))),
    ):
        assert all(t.isnan().all() for t in found)


def test_a_likelihood_without_bound_has_no_maximum():
    """One value, equal values, as many rows as unknowns, rows along a line: the variance would be 0."""
    assert NormalInverseGamma(0, 1, 1, 1).maximum_likelihood([3.0]).variance.isnan()
    assert NormalInverseGamma(0, 1, 1, 1).maximum_likelihood([3.0, 3.0]).variance.isnan()
    assert NormalInverseGamma(0, 1, 1, 1).maximum_likelihood([3.0, 3.0]).mean == 3
    exact = LinearRegression.ridge(2).maximum_likelihood([[1.0, 0.0], [1.0, 1.0]], [1.0, 3.0])
    close(exact.weights, [1, 2])
    assert exact.variance.isnan()
    collinear = LinearRegression.ridge(2).maximum_likelihood([[1.0, 2.0], [2.0, 4.0], [3.0, 6.0]], [1.0, 2.0, 4.0])
    assert collinear.weights.isnan().all()
    assert NormalInverseWishart([0, 0], 1, 4, np.eye(2)).maximum_likelihood(np.eye(2)).covariance.isnan().all()
    assert GammaExponential(1, 1).maximum_likelihood([0.0, 0.0]) == math.inf


def test_no_mode_is_said_in_words():
    assert "flat: every value is as good" in BetaBernoulli(1, 1).why_no_mode
    assert "towards 0 or 1" in BetaBernoulli(0.5, 2).why_no_mode
    assert "flat" in DirichletCategorical([1, 1, 1]).why_no_mode
    assert "below 1" in DirichletCategorical([0.5, 1, 3]).why_no_mode
    assert "towards 0, where shape < 1" in GammaPoisson(0.5, 1).why_no_mode
    assert "towards 0, where shape < 1" in GammaExponential(0.5, 1).why_no_mode
    assert BetaBernoulli([1, 0.5, 3], [1, 0.5, 3]).why_no_mode.count("none where") == 2
    assert "mode: none where the density is flat" in str(BetaBernoulli(1, 1))


@pytest.mark.parametrize("name", FAMILIES)
def test_no_rows_change_nothing(name):
    case, rng = FAMILIES[name], np.random.default_rng(0)
    prior = case.prior(rng)
    theta = tuple(np.asarray(t) for t in case.parameters(prior, rng))
    post = prior.update(*case.rows(theta, 0, rng))
    for key, value in numbers(post).items():
        close(value, numbers(prior)[key])
    close([post.history.rows, post.history.log_evidence, post.divergence(prior)], [0, 0, 0])


STATISTICS = {
    "BetaBernoulli": lambda y: {"successes": y.sum(-1), "failures": (1 - y).sum(-1)},
    "DirichletCategorical": lambda y: {"counts": np.bincount(y, minlength=4)},
    "GammaExponential": lambda y: {"events": len(y), "time": y.sum()},
    "NormalKnownVariance": lambda y: {"n": len(y), "mean": y.mean(), "scatter": ((y - y.mean()) ** 2).sum()},
    "NormalInverseGamma": lambda y: {"n": len(y), "mean": y.mean(), "scatter": ((y - y.mean()) ** 2).sum()},
    "NormalInverseWishart": lambda y: {
        "n": len(y), "mean": y.mean(0), "scatter": (y - y.mean(0)).T @ (y - y.mean(0)),
    },
}  # fmt: skip


@pytest.mark.parametrize("name", STATISTICS)
def test_sufficient_statistics_are_worth_the_rows(name):
    case, rng = FAMILIES[name], np.random.default_rng(6)
    prior = case.prior(rng)
    theta = tuple(np.asarray(t) for t in case.parameters(prior, rng))
    (y,) = case.rows(theta, 9, rng)
    found, wanted = prior.update_statistics(**STATISTICS[name](y)), prior.update(y)
    for key, value in numbers(wanted).items():
        close(numbers(found)[key], value)
    close(found.history.log_evidence, wanted.history.log_evidence)
    close(found.history.rows, 9)


def test_events_and_exposure_are_one_count():
    found = GammaPoisson(2, 3).update_statistics(events=17, exposure=4.0)
    wanted = GammaPoisson(2, 3).update([17], exposure=[4.0])
    assert numbers(found) == numbers(wanted)
    assert found.history.rows == 1
    close(found.history.log_evidence, GammaPoisson(2, 3).predictive(4.0).log_prob(17))


def test_times_that_were_cut_short_count_without_an_event():
    """The likelihood of an event at y is λ e^(-λy), that of none until c is e^(-λc)."""
    post = GammaExponential(2, 5).update_statistics(events=2, time=3.0 + 4.0 + 10.0)
    wanted = quad(lambda r: scipy.stats.gamma(2, scale=1 / 5).pdf(r) * r**2 * np.exp(-17 * r), 0, 50)
    close(post.history.log_evidence, math.log(wanted))


def test_predictions_of_several_rows_are_sums():
    post, n = BetaBernoulli(2, 3).update([1, 0, 1]), 200_000
    p, rates = post.draw(n, seed=0).numpy(), GammaPoisson(3, 2).draw(n, seed=1).numpy()
    ks = np.arange(6)
    found = post.predictive(trials=5).log_prob(ks).exp()
    sampled = scipy.stats.binom.pmf(ks[:, None], 5, p)
    np.testing.assert_array_less(np.abs(sampled.mean(1) - found.numpy()), 5 * sampled.std(1) / n**0.5)
    found = GammaPoisson(3, 2).predictive(exposure=5).log_prob(ks).exp()
    sampled = scipy.stats.poisson.pmf(ks[:, None], 5 * rates)
    np.testing.assert_array_less(np.abs(sampled.mean(1) - found.numpy()), 5 * sampled.std(1) / n**0.5)
    counts = DirichletCategorical([1.0, 2.0, 3.0]).predictive(trials=4)
    close(counts.log_prob([1, 1, 2]), scipy.stats.dirichlet_multinomial([1, 2, 3], 4).logpmf([1, 1, 2]))


EXTREME = (1e-8, 1.0, 1e8)


@pytest.mark.parametrize("a", EXTREME)
@pytest.mark.parametrize("b", EXTREME)
def test_evidence_keeps_its_digits_for_extreme_priors_and_a_million_million_rows(a, b):
    lg = mpmath.loggamma
    with mpmath.workdps(60):
        A, B = mpmath.mpf(a), mpmath.mpf(b)
        for s, f in ((0, 0), (1, 0), (0, 7), (10**12, 0), (10**12, 10**12), (3, 10**12)):
            beta = lg(A + s) + lg(B + f) - lg(A + B + s + f) - lg(A) - lg(B) + lg(A + B)
            found = BetaBernoulli(a, b).update_statistics(s, f).history.log_evidence
            close(found, float(beta))
            close(DirichletCategorical([a, b]).update_statistics([s, f]).history.log_evidence, float(beta))
            T = mpmath.mpf(f) + mpmath.mpf("0.5")
            gamma = lg(A + s) - lg(A) + A * mpmath.log(B) - (A + s) * mpmath.log(B + T)
            found = GammaExponential(a, b).update_statistics(s, f + 0.5).history.log_evidence
            close(found, float(gamma), rtol=1e-9)
            counted = gamma + s * mpmath.log(T) - lg(s + 1)
            close(GammaPoisson(a, b).log_evidence([s], [f + 0.5]), float(counted), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("a", EXTREME)
@pytest.mark.parametrize("b", EXTREME)
@pytest.mark.parametrize("k", EXTREME)
def test_normal_evidence_keeps_its_digits_for_extreme_priors(a, b, k):
    y = [3.0, -1.0, 2.0]
    with mpmath.workdps(60):
        A, B, K, M = (mpmath.mpf(v) for v in (a, b, k, 0.5))
        mean = sum(map(mpmath.mpf, y)) / 3
        scatter = sum((v - mean) ** 2 for v in y) + K * 3 / (K + 3) * (mean - M) ** 2
        lg, log = mpmath.loggamma, mpmath.log
        unknown = lg(A + 1.5) - lg(A) + A * log(B) - (A + 1.5) * log(B + scatter / 2)
        wanted = float(unknown + (log(K) - log(K + 3)) / 2 - 1.5 * log(2 * mpmath.pi))
        close(NormalInverseGamma(0.5, k, a, b).log_evidence(y), wanted)
        close(LinearRegression([0.5], [[k]], a, b).log_evidence(np.ones((3, 1)), y), wanted, rtol=1e-9)
        known = 3 * log(2 * mpmath.pi * B) + log(1 + 3 * A / B) + sum((v - mean) ** 2 for v in y) / B
        known += 3 * (mean - M) ** 2 / (B + 3 * A)
        close(NormalKnownVariance(0.5, a, b).log_evidence(y), float(-known / 2))


@pytest.mark.parametrize("degrees", [1.0 + 1e-8, 3.0, 1e8])
@pytest.mark.parametrize("size", EXTREME)
@pytest.mark.parametrize("k", EXTREME)
def test_multivariate_evidence_keeps_its_digits_for_extreme_priors(degrees, size, k):
    y = np.array([[3.0, 1.0], [-1.0, 0.5], [2.0, 2.0]])
    with mpmath.workdps(60):
        nu, K, S = map(mpmath.mpf, (degrees, k, size))
        rows = [mpmath.matrix([mpmath.mpf(float(v)) for v in row]) for row in y]
        mean = (rows[0] + rows[1] + rows[2]) / 3
        scale = S * mpmath.eye(2)
        after = scale + K * 3 / (K + 3) * mean * mean.T
        for row in rows:
            after += (row - mean) * (row - mean).T
        lg, log = mpmath.loggamma, mpmath.log
        wanted = sum(lg((nu + 3 - i) / 2) - lg((nu - i) / 2) for i in (0, 1)) - 3 * log(mpmath.pi)
        wanted += nu / 2 * log(mpmath.det(scale)) - (nu + 3) / 2 * log(mpmath.det(after)) + log(K) - log(K + 3)
        close(NormalInverseWishart([0, 0], k, degrees, size * np.eye(2)).log_evidence(y), float(wanted), rtol=1e-9)


def test_values_far_from_zero_keep_their_digits():
    rng = np.random.default_rng(0)
    small = np.round(rng.standard_normal(100) * 64) / 64  # exact in float64 beside 2^30
    far = small + 2.0**30
    near = NormalInverseGamma(0.0, 1.0, 1.0, 1.0).update(small)
    moved = NormalInverseGamma(2.0**30, 1.0, 1.0, 1.0).update(far)
    close(moved.rate, near.rate, rtol=1e-9)  # their mean has an ulp of 1e-7
    close(moved.location - 2.0**30, near.location, atol=1e-6)
    close(moved.history.log_evidence, near.history.log_evidence, rtol=1e-9)
    ones = np.ones((100, 1))
    line = LinearRegression([2.0**30], [[1.0]], 1.0, 1.0).update(ones, far)
    close(line.rate, near.rate, rtol=1e-9)
    vague = NormalInverseGamma(0.0, 1e-12, 1.0, 1.0).update(far)
    close(vague.rate, 1 + 0.5 * ((small - small.mean()) ** 2).sum() + 0.5e-12 * far.mean() ** 2, rtol=1e-9)


def test_rows_of_zeros_and_single_rows_have_finite_answers():
    for a in EXTREME:
        for post in (
            BetaBernoulli(a, a).update(np.zeros(50)),
            GammaPoisson(a, a).update(np.zeros(50)),
            GammaExponential(a, a).update(np.zeros(50)),
            NormalKnownVariance(0, a, a).update(np.zeros(50)),
            NormalInverseGamma(0, a, a, a).update(np.zeros(50)),
            NormalInverseGamma(0, a, a, a).update([3.0]),
            LinearRegression.ridge(2, a, a, a).update(np.zeros((50, 2)), np.zeros(50)),
            NormalInverseWishart([0, 0], a, 2, a * np.eye(2)).update(np.zeros((50, 2))),
        ):
            assert post.history.log_evidence.isfinite()
            for dist in post.marginals.values():
                low, high = dist.interval(0.95)
                assert (low <= high).all()
            assert str(post)


def test_rows_may_be_lists_arrays_tensors_frames_or_booleans():
    import pandas as pd

    wanted = BetaBernoulli(1, 1).update([1, 0, 1])
    for y in ((1, 0, 1), np.array([True, False, True]), torch.tensor([1, 0, 1]), pd.Series([1, 0, 1])):
        assert numbers(BetaBernoulli(1, 1).update(y)) == numbers(wanted)
    assert BetaBernoulli(1, 1).update(1).a == 2
    named = DirichletCategorical([1, 1], names=["no", "yes"])
    for y in (["yes", "no", "yes"], np.array(["yes", "no", "yes"]), pd.Series(["yes", "no", "yes"]), [1, 0, 1]):
        assert named.update(y).concentration.tolist() == [2, 3]
    assert named.update("yes").concentration.tolist() == [1, 2]


def test_a_value_is_never_changed():
    prior = BetaBernoulli(1, 1)
    prior.update([1, 1, 1])
    assert prior.a == 1
    with pytest.raises(AttributeError):
        prior.a = 3  # pyright: ignore[reportAttributeAccessIssue]


def test_predictions_keep_the_protocol_of_predictions():
    for post in (BetaBernoulli(1, 1), GammaPoisson(2, 1), GammaExponential(3, 1), NormalKnownVariance(0, 1, 1),
                 NormalInverseGamma(0, 1, 2, 1), NormalInverseWishart([0, 0], 1, 5, np.eye(2))):  # fmt: skip
        found = post.predictive()
        assert isinstance(found, kk.types.Predictive)
        close(found.aleatoric + found.epistemic, found.variance)


BAD = {
    "not binary": (lambda: BetaBernoulli(1, 1).update([0, 1, 2]), kk.DataError, "y in row 2 (rows count from 0)"),
    "nan": (lambda: BetaBernoulli(1, 1).update([0, math.nan]), kk.DataError, "found   nan"),
    "several": (
        lambda: NormalInverseGamma(0, 1, 1, 1).update([math.inf, 1, math.nan]), kk.DataError, "and 1 more such row",
    ),
    "in a batch": (lambda: BetaBernoulli([1, 1], 1).update([[0, 1], [0, 7]]), kk.DataError, "row 1 of family (1,)"),
    "half a count": (lambda: GammaPoisson(1, 1).update([1.5]), kk.DataError, "whole numbers >= 0"),
    "negative count": (lambda: GammaPoisson(1, 1).update([-1]), kk.DataError, "whole numbers >= 0"),
    "negative time": (lambda: GammaExponential(1, 1).update([-0.5]), kk.DataError, "finite numbers >= 0"),
    "class": (lambda: DirichletCategorical([1, 1]).update([0, 2]), kk.DataError, "class numbers 0 to 1"),
    "unknown name": (
        lambda: DirichletCategorical([1, 1], names=["red", "green"]).update(["red", "grene"]),
        kk.DataError, "did you mean 'green'?",
    ),
    "names without names": (
        lambda: DirichletCategorical([1, 1]).update(["red"]), kk.UsageError, "y that is not made of numbers",
    ),
    "names of classes": (lambda: DirichletCategorical([1, 1], names=["a"]), kk.ShapeError, "2 different names"),
    "text": (lambda: NormalInverseGamma(0, 1, 1, 1).update("many"), kk.UsageError, "not made of numbers"),
    "improper": (lambda: BetaBernoulli(0, 0), kk.UsageError, "Jeffreys' prior"),
    "improper gamma": (lambda: GammaPoisson(0, 0), kk.UsageError, "no distribution"),
    "improper dirichlet": (lambda: DirichletCategorical([1, 0]), kk.UsageError, "concentration > 0"),
    "improper normal": (lambda: NormalInverseGamma(0, 0, 1, 1), kk.UsageError, "strength > 0"),
    "flat mean": (lambda: NormalKnownVariance(0, math.inf, 1), kk.UsageError, "a variance is > 0 and finite"),
    "exposure": (lambda: GammaPoisson(1, 1).update([1], exposure=[0]), kk.UsageError, "finite numbers > 0"),
    "exposures": (lambda: GammaPoisson(1, 1).update([1, 2, 3], exposure=[1, 2]), kk.ShapeError, "one for each count"),
    "negative weight": (lambda: BetaBernoulli(1, 1).update([1], weight=[-1]), kk.UsageError, "downdate"),
    "weights": (lambda: BetaBernoulli(1, 1).update([1, 0, 1], weight=[1, 2]), kk.ShapeError, "weight (2,)"),
    "batch": (lambda: BetaBernoulli([1, 1, 1], 1).update(np.ones((2, 5))), kk.ShapeError, "y of shape (3, N)"),
    "statistics": (lambda: BetaBernoulli(1, 1).update_statistics(-1, 2), kk.DataError, "successes = -1"),
    "statistics of a batch": (
        lambda: BetaBernoulli([1, 1, 1], 1).update_statistics([1, 2], 2), kk.ShapeError, "do not fit",
    ),
    "scatter": (
        lambda: NormalInverseWishart([0, 0], 1, 4, np.eye(2)).update_statistics(3, [0, 0], -np.eye(2)),
        kk.DataError, "positive semi-definite",
    ),
    "coordinates": (
        lambda: NormalInverseWishart([0, 0], 1, 4, np.eye(2)).update(np.ones((5, 3))), kk.ShapeError, "(..., N, 2)",
    ),
    "a location too long": (
        lambda: NormalInverseWishart([0, 0, 0], 1, 4, np.eye(2)), kk.ShapeError, "beside a matrix of 2 x 2",
    ),
    "degrees": (lambda: NormalInverseWishart([0, 0], 1, 1, np.eye(2)), kk.UsageError, "df > 1"),
    "precision": (
        lambda: LinearRegression([0, 0], [[1, 2], [2, 1]], 1, 1), kk.NotPositiveDefinite, "no covariance",
    ),
    "fewer y": (lambda: LinearRegression.ridge(2).update(np.ones((3, 2)), [1, 2]), kk.ShapeError, "do not fit"),
    "nan in x": (
        lambda: LinearRegression.ridge(2).update([[1, 2], [1, math.nan]], [1, 2]), kk.DataError, "learn x in row 1",
    ),
    "inputs": (lambda: LinearRegression.ridge(2).predictive([[1, 2, 3]]), kk.ShapeError, "x (..., N, 2)"),
    "never learnt": (lambda: BetaBernoulli(1, 1).update([1, 0]).downdate([1, 1]), kk.DataError, "has not learnt"),
    "nothing left": (lambda: BetaBernoulli(1, 1).downdate([1]), kk.DataError, "nothing would be left"),
    "values never learnt": (
        lambda: NormalInverseGamma(0, 1, 1, 1).update([1, 2, 3]).downdate([90.0]), kk.DataError, "has not learnt",
    ),
    "rows never learnt": (
        lambda: LinearRegression.ridge(2).update(np.eye(2), [1, 2]).downdate([[3.0, 3.0]], [1]),
        kk.DataError, "has not learnt",
    ),
    "vectors never learnt": (
        lambda: NormalInverseWishart([0, 0], 1, 4, np.eye(2)).update(np.eye(2)).downdate([[30.0, 3.0]]),
        kk.DataError, "has not learnt",
    ),
    "parameter of a picture": (
        lambda: NormalInverseGamma(0, 1, 1, 1).picture(parameter="sd"), kk.UsageError, "'mean' or 'variance'",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_input_gets_four_lines(case):
    call, kind, says = BAD[case]
    with pytest.raises(kind) as error:
        call()
    assert type(error.value) is kind
    assert says in str(error.value)
    assert len(str(error.value).splitlines()) == 4


@pytest.mark.parametrize("name", FAMILIES)
def test_families_print_as_tables_of_eighty_columns(name):
    case, rng = FAMILIES[name], np.random.default_rng(0)
    for batch in ((), (3,), (40,)):
        prior = case.prior(rng, batch)
        theta = tuple(np.asarray(t) for t in case.parameters(prior, rng))
        post = prior.update(*case.rows(theta, 5, rng))
        for family in (prior, post):
            text = str(family)
            assert max(map(len, text.splitlines())) <= 80
            assert "nan" not in text
            assert len(text.splitlines()) < 30
        assert "no rows learnt: this is a prior" in str(prior)
        assert "log evidence" in " ".join(str(post).split())
        assert len(repr(post)) <= 90


@pytest.mark.parametrize("name", FAMILIES)
def test_families_draw_themselves_beside_what_they_were(name):
    case, rng = FAMILIES[name], np.random.default_rng(0)
    for batch in ((), (3,), (40,)):
        prior = case.prior(rng, batch)
        theta = tuple(np.asarray(t) for t in case.parameters(prior, rng))
        middle = prior.update(*case.rows(theta, 2, rng))
        post = middle.update(*case.rows(theta, 5, rng))
        pictures = [prior.picture(), post.picture(), post.picture(prior, middle)]
        assert all(svg.startswith("<svg") for svg in pictures)
        assert "before any row" in pictures[0]
        assert "after 7 rows" in pictures[1]
        assert "after 2 rows" in pictures[2]


def test_pictures_of_poles_and_certainties_can_be_drawn():
    for post in (BetaBernoulli(0.5, 0.5), BetaBernoulli(1e8, 1e8), BetaBernoulli(1e-8, 1e-8), GammaPoisson(0.01, 1.0),
                 NormalInverseGamma(0, 1, 0.1, 1), NormalKnownVariance(1e9, 1e-8, 1.0)):  # fmt: skip
        assert post.picture().startswith("<svg")
