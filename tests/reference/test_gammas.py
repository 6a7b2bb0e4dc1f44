"""Ratios of gamma functions against mpmath with 60 digits, at parameters where lgamma has lost them all."""

from __future__ import annotations

import random

import mpmath
import numpy as np
import pytest
import torch

from kokkiri.numerics import gammas

PRIORS = (1e-8, 1e-3, 0.5, 1.0, 3.7, 1e3, 1e8)
COUNTS = (0.0, 1.0, 2.0, 17.0, 1e6, 1e12)
lg = mpmath.loggamma


def t(*values):
    return torch.tensor(values if len(values) > 1 else values[0], dtype=torch.float64)


def close(found, wanted, rtol=1e-13):
    np.testing.assert_allclose(found.item(), float(wanted), rtol=rtol, atol=rtol)


pytestmark = pytest.mark.usefixtures("sixty_digits")


@pytest.fixture
def sixty_digits():
    with mpmath.workdps(60):
        yield


@pytest.mark.parametrize("a", PRIORS)
def test_a_rising_factorial_is_the_quotient_of_gammas(a):
    for n in COUNTS:
        close(gammas.log_rising(t(a), t(n)), lg(mpmath.mpf(a) + mpmath.mpf(n)) - lg(mpmath.mpf(a)))
    for n in (-0.3 * a, 0.7 * a):
        close(gammas.log_rising(t(a), t(n)), lg(mpmath.mpf(a) + mpmath.mpf(n)) - lg(mpmath.mpf(a)))


@pytest.mark.parametrize("a", PRIORS)
def test_the_integral_over_a_gamma_rate(a):
    for b in PRIORS:
        for n in COUNTS:
            for total in (0.0, 1e-8, 1.0, 1e3, 1e12, 1e20):
                A, B, N, T = map(mpmath.mpf, (a, b, n, total))
                wanted = lg(A + N) - lg(A) + A * mpmath.log(B) - (A + N) * mpmath.log(B + T)
                close(gammas.log_gamma_update(t(a), t(b), t(n), t(total)), wanted, rtol=1e-12)


@pytest.mark.parametrize("n", COUNTS)
def test_poisson_probabilities(n):
    for mean in (1e-300, 1e-8, 1.0, 1e6, 1e12, 1e12 + 1e6, 1e13):
        wanted = mpmath.mpf(n) * mpmath.log(mean) - mpmath.mpf(mean) - lg(mpmath.mpf(n) + 1)
        close(gammas.poisson_log_prob(t(n), t(mean)), wanted)


@pytest.mark.parametrize("a", PRIORS)
def test_two_classes_keep_their_digits(a):
    for b in PRIORS:
        for n in COUNTS:
            for m in COUNTS:
                A, B, N, M = map(mpmath.mpf, (a, b, n, m))
                wanted = lg(A + N) + lg(B + M) - lg(A + B + N + M) - lg(A) - lg(B) + lg(A + B)
                close(gammas.dirichlet_log_evidence(t(a, b), t(n, m)), wanted)
                orders = lg(N + M + 1) - lg(N + 1) - lg(M + 1)
                close(gammas.dirichlet_multinomial_log_prob(t(a, b), t(n, m)), wanted + orders)


def test_many_classes_keep_their_digits():
    random.seed(0)
    for _ in range(300):
        classes = random.choice([3, 5, 9])
        alpha = [10 ** random.uniform(-8, 8) for _ in range(classes)]
        counts = [float(random.choice([0, 0, 1, round(10 ** random.uniform(0, 12))])) for _ in range(classes)]
        A, N = [mpmath.mpf(x) for x in alpha], [mpmath.mpf(x) for x in counts]
        wanted = sum(lg(x + y) - lg(x) for x, y in zip(A, N, strict=True)) - lg(sum(A) + sum(N)) + lg(sum(A))
        close(gammas.dirichlet_log_evidence(t(*alpha), t(*counts)), wanted)
        orders = lg(sum(N) + 1) - sum(lg(x + 1) for x in N)
        close(gammas.dirichlet_multinomial_log_prob(t(*alpha), t(*counts)), wanted + orders)


def test_densities_of_gamma_student_t_and_dirichlet():
    for a in PRIORS:
        for x in (1e-300, 1e-8, 1.0, a, 1e3, 1e12):
            A, X = mpmath.mpf(a), mpmath.mpf(x)
            close(gammas.log_gamma_power(t(a), t(x)), A * mpmath.log(X) - X - lg(A))
            density = lg((A + 1) / 2) - lg(A / 2) - mpmath.log(A * mpmath.pi) / 2
            density -= (A + 1) / 2 * mpmath.log(1 + X * X / A)
            close(gammas.student_t_log_prob(t(x), t(a)), density)
    close(gammas.student_t_log_prob(t(1e200), t(3.0)), -4 * mpmath.log(mpmath.mpf(10) ** 200) + mpmath.log(
        6 * mpmath.sqrt(3) / mpmath.pi
    ))  # fmt: skip
    p = t(0.2, 0.5, 0.3)
    for alpha in ((1e-8, 1.0, 1e8), (1e8, 2e8, 3e8), (0.5, 0.5, 0.5)):
        A = [mpmath.mpf(x) for x in alpha]
        P = [mpmath.mpf(1) / 5, mpmath.mpf(1) / 2, mpmath.mpf(3) / 10]
        wanted = sum((a - 1) * mpmath.log(x) for a, x in zip(A, P, strict=True)) + lg(sum(A)) - sum(map(lg, A))
        close(gammas.dirichlet_log_prob(t(*alpha), p), wanted, rtol=1e-12)


def test_the_sum_of_others_takes_nothing_from_anything():
    x = t(1e20, 1.0, 2.0, 1e-20)
    assert gammas.sum_of_others(x).tolist() == [3.0, 1e20, 1e20, 1e20]
    assert gammas.sum_of_others(t(1.0, 1e-20)).tolist() == [1e-20, 1.0]
