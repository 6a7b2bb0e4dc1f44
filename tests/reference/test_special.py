"""Special functions against scipy.special and scipy.stats, over wide grids."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
import scipy.special
import scipy.stats
import torch

from kokkiri.numerics import special

SIZES = [1e-8, 1e-3, 0.1, 0.5, 1.0, 2.5, 10.0, 99.0, 1e3, 2999.0, 3001.0, 1e4, 1e5, 1e6, 1e8, 1e10]
SMALLEST = 1e-280  # below it float64 has few digits left


def t(values):
    return torch.as_tensor(values, dtype=torch.float64)


def close(found, wanted, rtol=1e-10, atol=SMALLEST):
    np.testing.assert_allclose(found.numpy(), wanted, rtol=rtol, atol=atol)


def around(mean, sd, *more):
    return np.concatenate([mean + sd * np.linspace(-12, 12, 25), more])


@pytest.mark.parametrize("a", SIZES)
def test_incomplete_beta_is_scipys_below_its_mean_to_ten_digits_and_above_it_to_rounding_of_one(a):
    for b in SIZES:
        mean = a / (a + b)
        x = around(mean, np.sqrt(mean * (1 - mean) / (a + b + 1)), 0, 1, 1e-300, 1e-12, 1e-3, 0.5, 0.9, 1 - 1e-12)
        x = x[(x >= 0) & (x <= 1)]
        found, wanted = special.incomplete_beta(t(a), t(b), t(x)), scipy.special.betainc(a, b, x)
        low = x <= (a + 1) / (a + b + 2)  # above, it is 1 minus the other tail
        close(found[low], wanted[low], rtol=1e-10 if a + b < 1e8 else 1e-9)  # scipy's own error there: 2e-10
        close(found, wanted, rtol=1e-10 if a + b < 1e8 else 1e-9, atol=1e-14)


def test_incomplete_beta_uses_a_complement_that_subtraction_would_lose():
    found = special.incomplete_beta(t(3.0), t(0.5), t(1.0), t(1e-30))
    close(1 - found, 1 - scipy.special.betainc(3.0, 0.5, 1.0), atol=1e-14)
    upper = special.incomplete_beta(t(0.5), t(3.0), t(1e-30), t(1.0))
    close(upper, scipy.special.betainc(0.5, 3.0, 1e-30))


def test_stirlings_error_is_log_gamma_minus_stirlings_formula():
    z = np.geomspace(1e-6, 30, 200)
    wanted = scipy.special.gammaln(z) - ((z - 0.5) * np.log(z) - z + 0.5 * np.log(2 * np.pi))
    close(special.stirling_error(t(z)), wanted, atol=1e-13)
    large = np.geomspace(1e3, 1e12, 50)
    close(special.stirling_error(t(large)), 1 / (12 * large) - 1 / (360 * large**3))


def test_log_half_step_is_a_difference_of_log_gammas():
    a = np.geomspace(0.5, 50, 200)
    wanted = scipy.special.gammaln(a + 0.5) - scipy.special.gammaln(a) - 0.5 * np.log(a)
    close(special.log_half_step(t(a)), wanted, atol=1e-13)
    large = np.geomspace(1e3, 1e12, 50)
    close(special.log_half_step(t(large)), -1 / (8 * large) + 1 / (192 * large**3), rtol=1e-9, atol=0)


@pytest.mark.parametrize("function", [special.stirling_error, special.log_half_step])
def test_the_gamma_remainders_have_the_derivative_that_differences_show(function):
    z = t([0.5, 1.0, 3.0, 9.9, 10.1, 40.0]).requires_grad_()
    (slope,) = torch.autograd.grad(function(z).sum(), z)
    h = 1e-5
    with torch.no_grad():
        close(slope, ((function(z + h) - function(z - h)) / (2 * h)).numpy(), rtol=1e-5)


def test_log_ratio_keeps_a_difference_that_the_quotient_loses():
    close(special.log_ratio(t(1e8), t(1e8), t(1e-6)), 1e-14)
    close(special.log_ratio(t(1.0), t(1e200), t(-1e200)), -200 * np.log(10))


def test_the_normal_distribution_function_is_scipys_in_both_tails():
    z = np.linspace(-37, 8, 500)
    close(special.normal_cdf(t(z)), scipy.special.ndtr(z))


@pytest.mark.parametrize("df", [1.0 + 4.5e-5, 1.5, 2.0, 4.0, 7.3, 30.0, 1e3, 1e5, 1e8, 4.8e8])
def test_students_t_distribution_function_is_scipys(df):
    x = np.concatenate([np.linspace(-40, 40, 81), [0, -1e-9, 1e-300, -1e3, -1e8, -1e100, 1e20]])
    close(special.student_t_cdf(t(x), t(df)), scipy.stats.t.cdf(x, df))


def test_students_t_distribution_function_has_limits():
    found = special.student_t_cdf(t([-np.inf, -1e200, 1e200, np.inf]), t(4.0))
    assert found.tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize("rate", [1e-30, 1e-5, 0.3, 1.0, 12.0, 99.5, 1e4])
def test_poissons_distribution_function_is_scipys(rate):
    k = np.unique(np.floor(np.clip(around(rate, np.sqrt(rate), 0, 1, 2, 10, 50), 0, None)))
    close(special.poisson_cdf(t(k), t(rate)), scipy.stats.poisson.cdf(k, rate))
    close(special.poisson_survival(t(k), t(rate)), scipy.stats.poisson.sf(k, rate))


@pytest.mark.parametrize("rate", [1e7, 1e10])
@pytest.mark.parametrize("deviations", [-8, -1, 0, 3, 6])
def test_poissons_distribution_function_is_the_gamma_integral_where_scipys_is_not(rate, deviations):
    """At rate 1e7 scipy.stats.poisson.sf is off by 3 % five standard deviations out."""
    sd = np.sqrt(rate)
    k = np.floor(rate + deviations * sd)
    with mpmath.workdps(40):
        log_gamma = mpmath.loggamma(mpmath.mpf(k) + 1)
        density = lambda x: mpmath.exp(k * mpmath.log(x) - x - log_gamma)
        edges = [mpmath.mpf(rate) + j * sd for j in range(0, 16, 2)]
        below = mpmath.quad(density, edges if deviations < 3 else [mpmath.mpf(rate) - j * sd for j in range(0, 16, 2)])
        wanted = float(below if deviations < 3 else -below)
    function = special.poisson_cdf if deviations < 3 else special.poisson_survival
    close(function(t([k]), t([rate])), [wanted])


@pytest.mark.parametrize("size", [2e-9, 1e-3, 0.5, 1.0, 7.5, 200.0, 1e5])
@pytest.mark.parametrize("mean", [1e-10, 0.3, 5.0, 300.0, 1e5, 1e8])
def test_the_negative_binomials_distribution_function_is_scipys(mean, size):
    sd = np.sqrt(mean + mean**2 / size)
    k = np.unique(np.floor(np.clip(around(mean, min(sd, 1e12), 0, 1, 2, 10, 50), 0, None)))
    p, q = size / (size + mean), mean / (size + mean)
    low, high = scipy.special.betainc, scipy.special.betaincc
    below, above = (low(size, k + 1, p), high(size, k + 1, p)) if p < q else (high(k + 1, size, q), low(k + 1, size, q))
    close(special.negative_binomial_cdf(t(k), t(mean), t(size)), below, atol=3e-14)
    close(special.negative_binomial_survival(t(k), t(mean), t(size)), above, atol=3e-14)


@pytest.mark.parametrize("size", [3e3, 1e6, 4.8e8])
def test_the_negative_binomials_distribution_function_is_the_sum_of_its_probabilities(size):
    mean, k = 5.0, np.arange(12)
    with mpmath.workdps(40):
        r, q = mpmath.mpf(size), mpmath.mpf(mean) / (mpmath.mpf(size) + mean)
        mass = [mpmath.rf(r, int(j)) / mpmath.factorial(int(j)) * (1 - q) ** r * q ** int(j) for j in k]
        wanted = np.array([float(mpmath.fsum(mass[: j + 1])) for j in k])
    close(special.negative_binomial_cdf(t(k), t(mean), t(size)), wanted)
    close(special.negative_binomial_survival(t(k), t(mean), t(size)), 1 - wanted, rtol=1e-10, atol=1e-14)


def test_counts_below_zero_have_no_mass_and_fractions_count_as_the_number_below():
    k, rate, size = t([-1.0, -0.5, 2.9]), t(2.0), t(3.0)
    close(special.poisson_cdf(k, rate), [0, 0, scipy.stats.poisson.cdf(2, 2.0)])
    close(special.poisson_survival(k, rate), [1, 1, scipy.stats.poisson.sf(2, 2.0)])
    close(special.negative_binomial_cdf(k, rate, size), [0, 0, scipy.stats.nbinom.cdf(2, 3.0, 0.6)])
    close(special.negative_binomial_survival(k, rate, size), [1, 1, scipy.stats.nbinom.sf(2, 3.0, 0.6)])
