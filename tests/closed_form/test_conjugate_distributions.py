"""Distributions of kokkiri.exact against scipy.stats, at ordinary and extreme parameters."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest
import scipy.special
import scipy.stats
import torch

from kokkiri.errors import NotPositiveDefinite, ShapeError, Unsupported, UsageError
from kokkiri.exact import distributions as d
from kokkiri.numerics.quantiles import beta_log_odds
from kokkiri.numerics.special import incomplete_beta

EXTREME = (1e-8, 1e-3, 0.5, 1.0, 3.7, 1e3, 1e8)
QUANTILES = (1e-6, 0.025, 0.3, 0.5, 0.8, 0.975, 1 - 1e-6)
ROUNDING = {"rtol": 1e-10, "atol": 1e-280}


def close(found, wanted, **tolerance):
    np.testing.assert_allclose(np.asarray(found), wanted, **{**ROUNDING, **tolerance})


def grid(*axes):
    return [np.ravel(x) for x in np.meshgrid(*axes, indexing="ij")]


MODERATE = {
    "beta": (d.Beta, scipy.stats.beta, grid((0.05, 0.5, 1.0, 2.5, 40.0), (0.05, 0.5, 1.0, 3.0, 300.0))),
    "gamma": (d.Gamma, lambda a, b: scipy.stats.gamma(a, scale=1 / b), grid((0.05, 0.5, 1.0, 7.0, 900.0), (0.01, 2.0))),
    "inverse gamma": (
        d.InverseGamma, lambda a, b: scipy.stats.invgamma(a, scale=b), grid((0.3, 1.0, 2.5, 7.0, 900.0), (0.01, 2.0)),
    ),
    "normal": (d.Normal, lambda m, v: scipy.stats.norm(m, np.sqrt(v)), grid((-3.0, 0.0, 1e6), (1e-6, 1.0, 50.0))),
    "student t": (
        d.StudentT, lambda m, s, v: scipy.stats.t(v, m, s), grid((-3.0, 0.0), (0.01, 5.0), (0.3, 1.0, 1.5, 4.0, 200.0)),
    ),
    "lomax": (d.Lomax, lambda a, b: scipy.stats.lomax(a, scale=b), grid((0.3, 1.0, 2.5, 90.0), (0.01, 2.0))),
}  # fmt: skip


@pytest.mark.parametrize("name", MODERATE)
def test_a_density_is_scipys_with_its_distribution_function_and_quantiles(name):
    make, scipys, parameters = MODERATE[name]
    found, wanted = make(*parameters), scipys(*parameters)
    q = np.array(QUANTILES)[:, None]
    x = wanted.ppf(q)
    floor = 1e-200  # scipy's quantiles of tiny shapes end at the smallest float
    some = np.where((x > floor) | (name in {"normal", "student t"}), x, np.nan)
    np.testing.assert_allclose(found.log_prob(x), wanted.logpdf(x), rtol=1e-9, atol=1e-9, equal_nan=True)
    close(found.quantile(q)[~np.isnan(some)], some[~np.isnan(some)])
    close(found.cdf(x), wanted.cdf(x), atol=1e-14)
    close(found.survival(x), wanted.sf(x), atol=1e-14)
    low, high = found.interval(0.95)
    close(low, found.quantile(0.025), rtol=1e-9)
    close(high, found.quantile(0.975), rtol=1e-9)


@pytest.mark.parametrize("name", MODERATE)
def test_the_moments_of_a_density_are_scipys(name):
    make, scipys, parameters = MODERATE[name]
    found, wanted = make(*parameters), scipys(*parameters)
    mean, variance = wanted.mean(), wanted.var()
    df = parameters[-1] if name == "student t" else None
    mean = np.where(df <= 1, np.nan, mean) if df is not None else mean  # scipy says inf of a mean that is not there
    variance = np.where(df <= 1, np.nan, variance) if df is not None else variance
    infinite = name in {"inverse gamma", "lomax"}
    variance = np.where(parameters[0] <= 2, np.inf, variance) if infinite else variance
    mean = np.where(parameters[0] <= 1, np.inf, mean) if infinite else mean
    np.testing.assert_allclose(found.mean, mean, rtol=1e-10, equal_nan=True)
    np.testing.assert_allclose(found.variance, variance, rtol=1e-10, equal_nan=True)
    np.testing.assert_allclose(found.sd, np.sqrt(variance), rtol=1e-10, equal_nan=True)


@pytest.mark.parametrize("name", MODERATE)
def test_draws_have_the_distribution(name):
    make, scipys, parameters = MODERATE[name]
    dist = make(*parameters)
    draws = dist.sample(2000, seed=3)
    assert draws.shape == (2000, len(parameters[0]))
    uniform = scipys(*parameters).cdf(draws.numpy())
    # a beta with b = 0.05 has a sixth of its mass above the largest float below 1
    columns = np.flatnonzero(parameters[1] >= 0.5) if name == "beta" else range(uniform.shape[1])
    p = [scipy.stats.kstest(uniform[:, k], "uniform").pvalue for k in columns]
    assert min(p) > 1e-6 / len(p)
    assert torch.equal(draws, dist.sample(2000, seed=3))
    assert not torch.equal(draws, dist.sample(2000, seed=4))


@pytest.mark.parametrize("a", EXTREME)
def test_densities_keep_their_digits_at_extreme_parameters(a):
    with mpmath.workdps(50):
        for b in EXTREME:
            for x in (1e-12, 0.3, 0.999):
                A, B, X = map(mpmath.mpf, (a, b, x))
                beta = (A - 1) * mpmath.log(X) + (B - 1) * mpmath.log(1 - X) - (
                    mpmath.loggamma(A) + mpmath.loggamma(B) - mpmath.loggamma(A + B)
                )  # fmt: skip
                gamma = A * mpmath.log(B) + (A - 1) * mpmath.log(X) - B * X - mpmath.loggamma(A)
                t = mpmath.loggamma((A + 1) / 2) - mpmath.loggamma(A / 2) - mpmath.log(A * mpmath.pi) / 2 - mpmath.log(
                    B
                ) - (A + 1) / 2 * mpmath.log(1 + (X / B) ** 2 / A)  # fmt: skip
                close(d.Beta(a, b).log_prob(x), float(beta), atol=1e-12)
                close(d.Gamma(a, b).log_prob(x), float(gamma), atol=1e-12)
                close(d.InverseGamma(a, b).log_prob(1 / x), float(gamma + 2 * mpmath.log(X)), atol=1e-12)
                close(d.StudentT(0.0, b, a).log_prob(x), float(t), atol=1e-12)


@pytest.mark.parametrize("a", [0.05, 1.0, 30.0, 3e3, 1e8])
def test_beta_quantiles_have_the_tails_that_they_were_asked_for(a):
    for b in (0.05, 1.0, 30.0, 3e3, 1e8):
        for q in (1e-12, 0.025, 0.5, 0.975, 1 - 1e-9):
            odds = beta_log_odds(*torch.tensor([q, a, b], dtype=torch.float64))
            x, y = torch.sigmoid(odds), torch.sigmoid(-odds)
            if min(x, y) > 1e-300:
                close(incomplete_beta(*torch.tensor([a, b], dtype=torch.float64), x, y), q, atol=1e-15)
                close(d.Beta(a, b).quantile(q), x, rtol=0)


def test_quantiles_below_the_smallest_float_are_zero_and_certain_ones_are_the_ends():
    assert d.Beta(1e-8, 1e-8).quantile([0.025, 0.4, 0.6, 0.975]).tolist() == [0.0, 0.0, 1.0, 1.0]
    assert d.Gamma(1e-8, 1.0).interval(0.95) == (0.0, 0.0)
    assert d.Beta(2, 3).quantile([0.0, 1.0]).tolist() == [0.0, 1.0]
    assert d.Gamma(2, 3).quantile([0.0, 1.0]).tolist() == [0.0, math.inf]
    assert d.InverseGamma(2, 3).quantile([0.0, 1.0]).tolist() == [0.0, math.inf]
    assert d.StudentT(1.0, 2.0, 3.0).quantile([0.0, 0.5, 1.0]).tolist() == [-math.inf, 1.0, math.inf]
    assert d.Normal(1.0, 2.0).quantile([0.0, 0.5, 1.0]).tolist() == [-math.inf, 1.0, math.inf]
    assert d.Lomax(2.0, 2.0).quantile([0.0, 1.0]).tolist() == [0.0, math.inf]


def test_gamma_quantiles_are_right_where_scipys_are_not():
    """At shape 1e8 scipy.stats.gamma.ppf(1e-12) is off by 4e-6; the normal approximation is good to 1e-7."""
    x, a, z = d.Gamma(1e8, 1.0).quantile(1e-12).item(), 1e8, scipy.stats.norm.ppf(1e-12)
    close(x, a + z * math.sqrt(a) + (z * z - 1) / 3, rtol=1e-8)
    with mpmath.workdps(40):
        for shape, q in ((3e3, 1e-300), (1e5, 0.025), (1e5, 1e-30)):
            x = d.Gamma(shape, 1.0).quantile(q).item()
            close(float(mpmath.gammainc(mpmath.mpf(shape), 0, mpmath.mpf(x), regularized=True) / mpmath.mpf(q)), 1.0)


def test_student_t_quantiles_are_right_for_few_degrees_of_freedom_and_far_tails():
    with mpmath.workdps(40):
        for df, q in ((0.05, 1e-12), (0.05, 0.4), (2.5, 1e-200), (1e8, 0.025), (3.0, 0.4999999)):
            x = mpmath.mpf(d.StudentT(0.0, 1.0, df).quantile(q).item())
            tail = mpmath.betainc(mpmath.mpf(df) / 2, 0.5, 0, df / (df + x * x), regularized=True) / 2
            close(float(tail / mpmath.mpf(q)), 1.0)


def test_modes_are_where_the_density_is_highest_or_nan_where_it_has_no_highest_point():
    close(d.Beta([3.0, 1.0, 2.0], [2.0, 4.0, 1.0]).mode, [2 / 3, 0.0, 1.0])
    assert d.Beta([1.0, 0.5, 0.5, 3.0], [1.0, 0.5, 3.0, 0.5]).mode.isnan().all()
    close(d.Gamma([1.0, 3.0], 2.0).mode, [0.0, 1.0])
    assert d.Gamma(0.5, 1.0).mode.isnan()
    close(d.InverseGamma(3.0, 2.0).mode, 0.5)
    close(d.Dirichlet([2.0, 1.0, 3.0]).mode, [1 / 3, 0.0, 2 / 3])
    assert d.Dirichlet([1.0, 1.0]).mode.isnan().all()
    assert d.Dirichlet([0.5, 3.0]).mode.isnan().all()


def test_densities_at_the_ends_of_their_support():
    assert d.Beta([0.5, 1.0, 2.0], [3.0, 3.0, 3.0]).log_prob(0.0).tolist() == [math.inf, math.log(3.0), -math.inf]
    assert d.Beta([3.0, 3.0, 3.0], [0.5, 1.0, 2.0]).log_prob(1.0).tolist() == [math.inf, math.log(3.0), -math.inf]
    assert d.Gamma([0.5, 1.0, 2.0], 3.0).log_prob(0.0).tolist() == [math.inf, math.log(3.0), -math.inf]
    for outside in (-0.1, 1.1, math.inf):
        assert d.Beta(2, 3).log_prob(outside) == -math.inf
    for dist in (d.Gamma(2, 3), d.InverseGamma(2, 3), d.Lomax(2, 3)):
        assert dist.log_prob(-1.0) == -math.inf
        assert dist.cdf(-1.0) == 0
        assert dist.survival(-1.0) == 1
        assert dist.cdf(math.inf) == 1
        assert dist.survival(math.inf) == 0
        assert dist.log_prob(math.nan).isnan()
    assert d.InverseGamma(2, 3).log_prob([0.0, 1e-300, 1e-308]).tolist() == [-math.inf, -3e300, -math.inf]
    assert d.Dirichlet([2.0, 1.0, 1.0]).log_prob([[0.0, 0.5, 0.5], [0.5, 0.5, 0.1]]).tolist() == [-math.inf, -math.inf]


COUNTS = {
    "beta-binomial": (
        d.BetaBinomial, scipy.stats.betabinom, grid((0, 1, 2, 40), (0.05, 1.0, 30.0), (0.5, 1.0, 700.0)), 40,
    ),
    "negative binomial": (
        d.NegativeBinomial,
        lambda a, b, e: scipy.stats.nbinom(a, b / (b + e)), grid((0.05, 1.0, 30.0), (0.5, 20.0), (0.1, 40.0)), 400,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", COUNTS)
def test_a_distribution_of_counts_is_scipys(name):
    make, scipys, parameters, most = COUNTS[name]
    found, wanted = make(*parameters), scipys(*parameters)
    k = np.arange(-1, most + 1)[:, None]
    with np.errstate(divide="ignore"):
        np.testing.assert_allclose(found.log_prob(k), wanted.logpmf(k), rtol=1e-9, atol=1e-9)
    close(found.cdf(k), wanted.cdf(k), rtol=1e-9, atol=1e-13)
    close(found.survival(k), wanted.sf(k), rtol=1e-9, atol=1e-11)  # scipy takes some sums from 1
    close(found.cdf(k) + found.survival(k), np.ones_like(found.cdf(k)))
    close(found.survival(k[:-1]) - found.survival(k[1:]), found.log_prob(k[1:]).exp(), rtol=1e-9, atol=1e-15)
    close(found.mean, wanted.mean())
    close(found.variance, wanted.var(), rtol=1e-9)
    for q in (0.025, 0.31, 0.77, 0.975):
        wide = found.quantile(q)
        assert (found.cdf(wide) >= q).all()
        assert (found.cdf(wide - 1) < q).all()
    assert found.log_prob([0.5] * len(parameters[0])).isneginf().all()


@pytest.mark.parametrize("name", COUNTS)
def test_draws_of_counts_have_the_distribution(name):
    make, scipys, parameters, _ = COUNTS[name]
    draws, rng, theirs = make(*parameters).sample(2000, seed=5).numpy(), np.random.default_rng(0), scipys(*parameters)
    below, at = theirs.cdf(draws - 1), theirs.cdf(draws)
    uniform = below + (at - below) * rng.random(draws.shape)  # the randomised transform
    p = [scipy.stats.kstest(uniform[:, k], "uniform").pvalue for k in range(uniform.shape[1])]
    assert min(p) > 1e-6 / len(p)


def test_log_probabilities_of_counts_keep_their_digits_at_a_million_million():
    n, k, a, b = 10**12, 10**12 // 3, 0.7, 1e8
    with mpmath.workdps(60):
        lg = mpmath.loggamma
        A, B = mpmath.mpf(a), mpmath.mpf(b)
        wanted = lg(n + 1) - lg(k + 1) - lg(n - k + 1) + lg(A + k) + lg(B + n - k) - lg(A + B + n)
        wanted -= lg(A) + lg(B) - lg(A + B)
        close(d.BetaBinomial(n, a, b).log_prob(k), float(wanted))
        close(d.DirichletMultinomial(n, [a, b]).log_prob([k, n - k]), float(wanted))
        for shape, rate in ((1e8, 1e-4), (0.7, 1e-12), (1e-8, 1e8)):
            R, S = mpmath.mpf(shape), mpmath.mpf(rate)
            wanted = lg(n + R) - lg(R) - lg(n + 1) + R * mpmath.log(S / (S + 1)) - n * mpmath.log(S + 1)
            close(d.NegativeBinomial(shape, rate).log_prob(n), float(wanted), atol=1e-9)


def test_the_variance_of_a_prediction_splits_into_noise_and_ignorance():
    """By the law of total variance, against quadrature over the parameter."""
    mean = lambda density, f, *ends: scipy.integrate.quad(lambda x: density.pdf(x) * f(x), *ends)[0]
    beta, gamma = scipy.stats.beta(3, 5), scipy.stats.gamma(7, scale=1 / 2)
    found = d.BetaBinomial(6, 3, 5)
    close(found.aleatoric, mean(beta, lambda p: 6 * p * (1 - p), 0, 1))
    close(found.epistemic, 36 * beta.var())
    found = d.NegativeBinomial(7, 2, 3.0)
    close(found.aleatoric, 3 * gamma.mean())
    close(found.epistemic, 9 * gamma.var())
    found = d.Lomax(7, 2)
    second = mean(gamma, lambda rate: rate**-2, 0, np.inf)
    close(found.aleatoric, second, rtol=1e-8)
    close(found.epistemic, second - mean(gamma, lambda rate: 1 / rate, 0, np.inf) ** 2, rtol=1e-7)
    found = d.Categorical([3.0, 1.0, 4.0])
    close(found.aleatoric + found.epistemic, found.mean * (1 - found.mean))
    close(found.epistemic, d.Dirichlet([3.0, 1.0, 4.0]).variance)


def test_dirichlet_and_its_counts_are_scipys():
    alpha = np.array([0.5, 1.0, 3.0, 0.2])
    found, wanted = d.Dirichlet(alpha), scipy.stats.dirichlet(alpha)
    p = np.array([0.1, 0.2, 0.6, 0.1])
    close(found.log_prob(p), wanted.logpdf(p), rtol=1e-12, atol=1e-12)
    close(found.mean, wanted.mean())
    close(found.variance, wanted.var())
    close(found.covariance, wanted.cov())
    counts = np.array([[2, 0, 3, 1], [0, 0, 0, 6]])
    both, theirs = d.DirichletMultinomial(6, alpha), scipy.stats.dirichlet_multinomial(alpha, 6)
    close(both.log_prob(counts), theirs.logpmf(counts), atol=1e-12)
    close(both.mean, theirs.mean())
    close(both.variance, theirs.var())
    assert both.log_prob([1, 1, 1, 1]) == -math.inf
    low, high = both.interval(0.9)
    close(low, [scipy.stats.betabinom(6, a, alpha.sum() - a).ppf(0.05) for a in alpha])
    close(high, [scipy.stats.betabinom(6, a, alpha.sum() - a).ppf(0.95) for a in alpha])
    close(d.Categorical(alpha).log_prob(np.arange(4)).exp(), alpha / alpha.sum())
    assert d.Categorical(alpha).log_prob([-1.0, 4.0, 1.5]).isneginf().all()


def test_draws_of_classes_and_proportions_have_the_distribution():
    alpha = [0.5, 1.0, 3.0]
    p = d.Dirichlet(alpha).sample(4000, seed=1)
    close(p.sum(-1), np.ones(4000))
    for k in range(3):
        marginal = scipy.stats.beta(alpha[k], sum(alpha) - alpha[k])
        assert scipy.stats.kstest(p[:, k], marginal.cdf).pvalue > 1e-6
    classes = torch.bincount(d.Categorical(alpha).sample(4000, seed=1), minlength=3)
    assert scipy.stats.chisquare(classes, np.array(alpha) / 4.5 * 4000).pvalue > 1e-6
    counts = d.DirichletMultinomial(5, alpha).sample(4000, seed=2)
    assert (counts.sum(-1) == 5).all()
    expected = scipy.stats.betabinom(5, 0.5, 4.0).pmf(np.arange(6)) * 4000
    assert scipy.stats.chisquare(torch.bincount(counts[:, 0].long(), minlength=6), expected).pvalue > 1e-6


def test_dirichlet_draws_of_tiny_concentrations_are_corners_of_the_simplex():
    p = d.Dirichlet([1e-8, 1e-8, 1e-8]).sample(300, seed=0)
    close(p.sum(-1), np.ones(300))
    assert (p.amax(-1) == 1).all()
    assert (p.sum(0) > 60).all()


def covariance(dim, seed=0):
    rng = np.random.default_rng(seed)
    root = rng.standard_normal((dim, dim))
    return root @ root.T + np.eye(dim)


@pytest.mark.parametrize("df", [0.5, 2.5, 7.0, 1e8])
def test_multivariate_t_is_scipys(df):
    rng, scale = np.random.default_rng(1), covariance(3)
    location, rows = rng.standard_normal(3), rng.standard_normal((20, 3)) * 5
    found = d.MultivariateStudentT(location, scale, df)
    wanted = scipy.stats.multivariate_t(location, scale, df).logpdf(rows)
    np.testing.assert_allclose(found.log_prob(rows), wanted, rtol=1e-7 if df > 1e7 else 1e-11)  # scipy's own error
    low, high = found.interval(0.9)
    each = scipy.stats.t(df, location, np.sqrt(np.diag(scale)))
    close(low, each.ppf(0.05), rtol=1e-9)
    close(high, each.ppf(0.95), rtol=1e-9)
    if df > 2:
        close(found.covariance, scale * df / (df - 2))


def test_draws_of_multivariate_t_have_its_marginals_and_its_distances():
    scale = covariance(3)
    dist = d.MultivariateStudentT(np.arange(3.0), scale, 4.5)
    draws = dist.sample(3000, seed=0)
    for k in range(3):
        assert scipy.stats.kstest(draws[:, k], scipy.stats.t(4.5, k, np.sqrt(scale[k, k])).cdf).pvalue > 1e-6
    away = draws - dist.location
    square = (away @ torch.linalg.inv(torch.as_tensor(scale)) * away).sum(-1)
    assert scipy.stats.kstest(square / 3, scipy.stats.f(3, 4.5).cdf).pvalue > 1e-6


def test_inverse_wishart_is_scipys():
    scale, other = covariance(3), covariance(3, seed=5)
    found, wanted = d.InverseWishart(9.5, scale), scipy.stats.invwishart(9.5, scale)
    close(found.log_prob(other), wanted.logpdf(other), rtol=1e-12)
    close(found.mean, wanted.mean())
    close(found.mode, wanted.mode())
    close(found.variance, wanted.var())
    close(d.InverseWishart(5.0, [[3.0]]).log_prob([[0.7]]), d.InverseGamma(2.5, 1.5).log_prob(0.7))
    assert torch.isinf(d.InverseWishart(3.5, scale).mean).all()


def test_draws_of_inverse_wishart_have_its_mean_and_marginals():
    scale = covariance(3)
    dist = d.InverseWishart(9.5, scale)
    draws = dist.sample(4000, seed=0)
    error = (draws.mean(0) - dist.mean).abs() / (dist.variance / 4000).sqrt()
    assert error.max() < 5
    for k in range(3):
        marginal = scipy.stats.invgamma(7.5 / 2, scale=scale[k, k] / 2)
        assert scipy.stats.kstest(draws[:, k, k], marginal.cdf).pvalue > 1e-6
    inverse = torch.linalg.inv(draws)[:, 0, 1]  # an entry off the diagonal of a Wishart
    theirs = scipy.stats.wishart(9.5, np.linalg.inv(scale)).rvs(4000, random_state=0)[:, 0, 1]
    assert scipy.stats.ks_2samp(inverse, theirs).pvalue > 1e-6


def test_every_prediction_keeps_the_protocol_of_predictions():
    from kokkiri.types import Predictive

    for dist in (d.Normal(0, 1), d.StudentT(0, 1, 3), d.Lomax(3, 1), d.BetaBinomial(3, 1, 1), d.NegativeBinomial(2, 1),
                 d.MultivariateStudentT([0.0], [[1.0]], 3.0)):  # fmt: skip
        assert isinstance(dist, Predictive), dist


def test_batches_broadcast_and_print_their_shape():
    batch = d.Beta(torch.ones(3, 1), torch.arange(1.0, 5.0))
    assert batch.mean.shape == (3, 4)
    assert batch.sample(7, seed=0).shape == (7, 3, 4)
    assert repr(batch) == "Beta(batch (3, 4))"
    assert repr(d.NegativeBinomial(2, 3, exposure=0.5)) == "NegativeBinomial(shape=2, rate=3, exposure=0.5)"
    assert repr(d.Dirichlet([1, 2])) == "Dirichlet([1, 2])"


BAD = {
    "zero": (lambda: d.Beta(0, 1), UsageError, "Beta got a = 0"),
    "nan": (lambda: d.Gamma(1.0, math.nan), UsageError, "Gamma got rate = nan"),
    "infinite": (lambda: d.Normal(math.inf, 1.0), UsageError, "Normal got mean = inf"),
    "words": (lambda: d.Beta("one", 1), UsageError, "Beta got a that is not made of numbers"),
    "shapes": (lambda: d.Beta([1, 2], [1, 2, 3]), ShapeError, "the parameters of Beta do not fit together"),
    "percent": (lambda: d.Beta(1, 1).interval(95), UsageError, "level = 0.95"),
    "quantile": (lambda: d.Lomax(1, 1).quantile(-0.1), UsageError, "0 <= q <= 1"),
    "trials": (lambda: d.BetaBinomial(2.5, 1, 1), UsageError, "trials = 2.5"),
    "many trials": (lambda: d.BetaBinomial(10**12, 1, 1).cdf(3), Unsupported, "too many counts to add up"),
    "one class": (lambda: d.Dirichlet([1.0]), ShapeError, "two classes or more"),
    "classes": (lambda: d.Dirichlet([1.0, 1.0]).log_prob([0.2, 0.2, 0.6]), ShapeError, "p (..., 2)"),
    "not symmetric": (
        lambda: d.InverseWishart(5.0, [[1.0, 0.5], [0.0, 1.0]]), NotPositiveDefinite, "differ from their mirror",
    ),
    "not positive": (lambda: d.InverseWishart(5.0, -np.eye(2)), NotPositiveDefinite, "a leading minor"),
    "few degrees": (lambda: d.InverseWishart(0.5, np.eye(2)), UsageError, "df > 1"),
    "not square": (lambda: d.MultivariateStudentT([0.0, 0.0], [[1.0, 2.0]], 3), ShapeError, "scale (..., D, D)"),
    "location": (lambda: d.MultivariateStudentT([0.0], np.eye(2), 3), ShapeError, "does not fit a scale of 2 x 2"),
    "draws": (lambda: d.Beta(1, 1).sample(-1, seed=0), UsageError, "a whole number >= 0"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_arguments_get_four_lines(case):
    call, kind, says = BAD[case]
    with pytest.raises(kind) as error:
        call()
    assert says in str(error.value)
    assert len(str(error.value).splitlines()) == 4
