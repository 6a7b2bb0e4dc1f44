"""The incomplete gamma function and quantiles against scipy.special, and against mpmath where scipy is off."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
import scipy.special
import scipy.stats
import torch

from kokkiri.numerics import quantiles

SHAPES = (1e-8, 1e-3, 0.05, 0.5, 1.0, 2.5, 30.0, 3e3, 1e5)
TAILS = (1e-12, 1e-3, 0.025, 0.3, 0.5, 0.7, 0.975, 1 - 1e-9)
SMALLEST = 1e-290


def t(values):
    return torch.as_tensor(values, dtype=torch.float64)


def close(found, wanted, rtol=1e-10, atol=SMALLEST):
    np.testing.assert_allclose(np.asarray(found), wanted, rtol=rtol, atol=atol)


@pytest.mark.parametrize("a", SHAPES)
def test_the_incomplete_gamma_function_is_scipys(a):
    x = np.array([0.0, 1e-300, 1e-30, 1e-10, 1e-3, 0.3 * a, a, 3 * a, 1.0, 10.0, 1e3, 1e5, np.inf])
    close(quantiles.gamma_cdf(t(x), t(a)), scipy.special.gammainc(a, x), atol=1e-280)
    close(quantiles.gamma_survival(t(x), t(a)), scipy.special.gammaincc(a, x), atol=2e-14)  # of one, for tiny shapes


@pytest.mark.parametrize("a", SHAPES)
def test_beta_quantiles_are_scipys(a):
    for b in SHAPES:
        wanted = scipy.special.betaincinv(a, b, np.array(TAILS))
        close(quantiles.beta_quantile(t(TAILS), t(a), t(b)), wanted, rtol=1e-9)


@pytest.mark.parametrize("a", SHAPES)
def test_gamma_quantiles_are_scipys(a):
    close(quantiles.gamma_quantile(t(TAILS), t(a)), scipy.special.gammaincinv(a, np.array(TAILS)), rtol=1e-9)


@pytest.mark.parametrize("df", [0.3, 0.5, 1.0, 2.5, 30.0, 3e3, 1e5, 1e8])
def test_student_t_quantiles_are_scipys(df):
    close(quantiles.student_t_quantile(t(TAILS), t(df)), scipy.stats.t.ppf(TAILS, df), rtol=1e-9)


def test_tails_that_subtraction_would_lose_are_met():
    """The upper 1e-30 of a beta, a gamma and a t: 1 - 1e-30 is 1."""
    one, tail = t(1.0), t(1e-30)
    with mpmath.workdps(60):
        odds = quantiles.beta_log_odds(one, t(2.0), t(3.0), tail).item()
        y = 1 / (1 + mpmath.exp(mpmath.mpf(odds)))
        close(float(mpmath.betainc(3, 2, 0, y, regularized=True) / mpmath.mpf("1e-30")), 1.0)
        x = mpmath.mpf(quantiles.gamma_quantile(one, t(2.5), tail).item())
        close(float(mpmath.gammainc(mpmath.mpf("2.5"), x, regularized=True) / mpmath.mpf("1e-30")), 1.0)
    close(quantiles.student_t_quantile(one, t(3.0), tail), -quantiles.student_t_quantile(tail, t(3.0)))


def test_quantiles_far_below_the_smallest_float_keep_their_logarithm():
    """P(a, x) = x^a / Γ(a + 1) there."""
    found = quantiles.gamma_log_quantile(t(0.025), t(1e-3))
    close(found, (np.log(0.025) + scipy.special.gammaln(1.001)) / 1e-3)
    found = quantiles.beta_log_odds(t(0.025), t(1e-3), t(2.0))
    close(found, (np.log(0.025) + np.log(1e-3) + scipy.special.betaln(1e-3, 2.0)) / 1e-3)
    close(quantiles.beta_log_odds(t(0.975), t(2.0), t(1e-3)), -found)


def test_many_quantiles_are_found_together():
    rng = np.random.default_rng(0)
    a, b, q = rng.gamma(0.5, 20, 2000), rng.gamma(0.5, 20, 2000), rng.random(2000)
    close(quantiles.beta_quantile(t(q), t(a), t(b)), scipy.special.betaincinv(a, b, q), rtol=1e-8, atol=1e-280)
    close(quantiles.gamma_quantile(t(q), t(a)), scipy.special.gammaincinv(a, q), rtol=1e-8, atol=1e-280)
