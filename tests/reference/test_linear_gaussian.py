"""The best evidence against slow optimisers, MacKay's iteration and scikit-learn; and what has no best."""

import math

import numpy as np
import pytest
import torch
from scipy import optimize, stats

from kokkiri.numerics.linear_evidence import maximise_evidence
from kokkiri.numerics.linear_gaussian import LinearGaussian, fit
from kokkiri.numerics.linear_priors import Diagonal, Full, InverseGamma, Known
from kokkiri.numerics.linear_statistics import Statistics
from kokkiri.numerics.random import philox

ONE = torch.tensor(1.0, dtype=torch.float64)


def made(n, features, targets, noise, seed):
    rng = philox(seed, "test best evidence")
    phi = torch.from_numpy(rng.standard_normal((n, features)) * np.geomspace(0.1, 3, features))
    return phi, phi @ torch.from_numpy(rng.standard_normal((features, targets))) + noise * torch.from_numpy(
        rng.standard_normal((n, targets))
    )


def slow_evidence(phi, y, alpha, beta):
    """Over the rows, by scipy: no statistics, no eigenvalues."""
    covariance = (phi @ phi.mT / alpha + torch.eye(len(phi), dtype=torch.float64) / beta).numpy()
    try:
        return stats.multivariate_normal(np.zeros(len(phi)), covariance).logpdf(y.mT.numpy()).sum()
    except np.linalg.LinAlgError:  # too far out for it
        return -math.inf


@pytest.mark.parametrize(("n", "features", "targets"), [(30, 5, 1), (30, 5, 3), (40, 40, 1), (21, 20, 2)])
def test_prior_and_noise_are_those_that_a_slow_optimiser_finds_on_the_rows(n, features, targets):
    phi, y = made(n, features, targets, 0.5, n)
    best = maximise_evidence(fit(phi, y, Diagonal(ONE), Known(ONE)))
    assert not best.no_noise
    assert not best.no_signal
    found = optimize.minimize(
        lambda v: -slow_evidence(phi, y, *np.exp(v)),
        np.zeros(2),
        method="Nelder-Mead",
        options={"xatol": 1e-9, "fatol": 1e-13, "maxiter": 2000},
    )
    expected = np.exp(found.x)
    assert math.isclose(best.log_evidence, -found.fun, rel_tol=1e-10, abs_tol=1e-10)
    assert math.isclose(best.factor, expected[0], rel_tol=1e-5)  # Nelder-Mead cannot see less: 1e-12 of the top
    assert math.isclose(best.model.noise.precision, expected[1], rel_tol=1e-5)
    ours = slow_evidence(phi, y, float(best.factor), float(best.model.noise.precision))
    assert math.isclose(best.log_evidence, ours, rel_tol=1e-10, abs_tol=1e-10)


def test_a_known_noise_and_a_marginalised_one_find_the_prior_that_a_slow_search_finds():
    phi, y = made(25, 6, 2, 0.5, 1)
    for noise in (Known(4 * ONE), InverseGamma(2 * ONE, torch.tensor([0.3, 3.0], dtype=torch.float64))):
        model = fit(phi, y, Full(phi.mT @ phi / 25, phi[:6, :2]), noise)
        best = maximise_evidence(model, keep_noise=True)
        value = lambda u, m=model: (
            -LinearGaussian(m.statistics, m.prior.scaled(torch.tensor(math.exp(u), dtype=torch.float64)), m.noise)
            .log_evidence.sum()
            .item()
        )
        found = optimize.minimize_scalar(value, bracket=(-3, 3), tol=1e-10)
        assert math.isclose(math.log(best.factor), found.x, abs_tol=1e-6)
        assert math.isclose(best.log_evidence, -found.fun, rel_tol=1e-10)


def test_the_best_evidence_is_where_mackays_iteration_stands_still():
    phi, y = made(40, 7, 1, 0.7, 2)
    alpha, beta = ONE, ONE
    for _ in range(3000):
        model = fit(phi, y, Diagonal(alpha), Known(beta))
        gamma = 7 - alpha * model.covariance.trace()
        alpha, beta = gamma / model.mean.square().sum(), (40 - gamma) / (y - phi @ model.mean).square().sum()
    best = maximise_evidence(fit(phi, y, Diagonal(ONE), Known(ONE)))
    assert math.isclose(best.factor, alpha, rel_tol=1e-9)
    assert math.isclose(best.model.noise.precision, beta, rel_tol=1e-9)
    assert math.isclose(best.effective, gamma, rel_tol=1e-9)


def test_scikit_learns_bayesian_ridge_finds_the_same():
    from sklearn.linear_model import BayesianRidge

    phi, y = made(60, 6, 1, 0.5, 3)
    theirs = BayesianRidge(
        alpha_1=0, alpha_2=0, lambda_1=0, lambda_2=0, fit_intercept=False, tol=1e-13, max_iter=5000, compute_score=True
    ).fit(phi.numpy(), y[:, 0].numpy())
    best = maximise_evidence(fit(phi, y, Diagonal(ONE), Known(ONE)))
    assert math.isclose(best.model.noise.precision, theirs.alpha_, rel_tol=1e-8)
    assert math.isclose(best.factor, theirs.lambda_, rel_tol=1e-8)
    assert math.isclose(best.log_evidence, theirs.scores_[-1], rel_tol=1e-10)
    new, _ = made(5, 6, 1, 0.5, 4)
    mean, deviation = theirs.predict(new.numpy(), return_std=True)
    density = best.model.predict(new)
    np.testing.assert_allclose(density.mean[:, 0].numpy(), mean, rtol=1e-8)
    np.testing.assert_allclose(density.variance.sqrt()[:, 0].numpy(), deviation, rtol=1e-8)


@pytest.mark.parametrize(("rest", "higher"), [(0.03, 0), (0.1, 1)])
def test_of_two_peaks_the_higher_is_found_whatever_the_start(rest, higher):
    """A strong and a weak feature, with signal in both: the evidence has a peak with the weak one and one without."""
    phi = torch.zeros(10, 2, dtype=torch.float64)
    phi[0, 0], phi[1, 1] = 1.0, 1e-2
    y = torch.cat([torch.tensor([1.0, 0.3]), torch.full((8,), rest)]).double()[:, None]
    ratios = torch.logspace(-9, 3, 301, dtype=torch.float64)
    beta = lambda rho: 10 / (y.square().sum() - ((phi.mT @ y)[:, 0].square() / (rho + phi.square().sum(0))).sum())
    curve = np.array([slow_evidence(phi, y, float(r * beta(r)), float(beta(r))) for r in ratios])
    peaks = np.flatnonzero((curve[1:-1] > curve[:-2]) & (curve[1:-1] > curve[2:])) + 1
    assert len(peaks) == 2
    assert curve[peaks].argmax() == higher
    best = maximise_evidence(fit(phi, y, Diagonal(ONE), Known(ONE)))
    ratio = float(best.factor / best.model.noise.precision)
    assert abs(math.log10(ratio / ratios[peaks[higher]])) < 0.05
    assert curve.max() <= best.log_evidence <= curve.max() + 0.01
    far = maximise_evidence(fit(phi, y, Diagonal(1e9 * ONE), Known(1e-9 * ONE)))
    assert math.isclose(far.factor * 1e9, best.factor, rel_tol=1e-9)
    assert math.isclose(far.log_evidence, best.log_evidence, rel_tol=1e-12)


def finite(best):
    """No table gets a NaN, whatever the flags say."""
    model = best.model
    numbers = [best.factor, best.log_evidence, best.effective, model.noise.precision, model.mean, model.log_evidence]
    return all(bool(v.isfinite().all()) for v in [*numbers, *model.variances(model.mean.mT)])


def test_a_perfect_fit_is_named_and_leaves_finite_numbers():
    phi, _ = made(30, 4, 1, 0, 5)
    w = torch.tensor([[1.0], [-2.0], [0.5], [3.0]], dtype=torch.float64)
    best = maximise_evidence(fit(phi, phi @ w, Diagonal(ONE), Known(ONE)))
    assert best.no_noise
    assert not best.no_signal
    assert finite(best)
    torch.testing.assert_close(best.model.mean, w, rtol=1e-6, atol=1e-6)
    noisy = phi @ w + 1e-3 * made(30, 1, 1, 0, 6)[0]
    assert not maximise_evidence(fit(phi, noisy, Diagonal(ONE), Known(ONE))).no_noise  # small is not none


def test_features_that_explain_nothing_are_named_and_leave_finite_numbers():
    phi, _ = made(40, 3, 1, 0, 7)
    y = torch.from_numpy(philox(8, "test nothing").standard_normal((40, 1)))
    y = y - phi @ torch.linalg.lstsq(phi, y).solution  # orthogonal to all features
    best = maximise_evidence(fit(phi, y, Diagonal(ONE), Known(ONE)))
    assert best.no_signal
    assert not best.no_noise
    assert finite(best)
    assert math.isclose(best.model.noise.precision, 40 / y.square().sum(), rel_tol=1e-6)
    assert best.effective < 1e-6


@pytest.mark.parametrize(
    ("phi", "y"),
    [
        (torch.zeros(5, 2), torch.arange(5.0)),
        (torch.randn(5, 2, generator=torch.Generator().manual_seed(0)), torch.zeros(5)),
        (torch.zeros(5, 2), torch.zeros(5)),
        (torch.ones(4, 3), torch.full((4,), 2.0)),
        (1e-150 * torch.ones(4, 1).double(), torch.arange(4.0)),
        (1e100 * torch.ones(4, 1).double(), torch.arange(4.0)),
    ],
    ids=["no features", "no targets", "nothing", "one feature three times", "tiny", "huge"],
)
def test_degenerate_rows_give_flags_and_finite_numbers(phi, y):
    for noise in (Known(ONE), InverseGamma(ONE, ONE)):
        best = maximise_evidence(fit(phi, y, Diagonal(ONE), noise))
        assert all(v.isfinite().all() for v in (best.factor, best.log_evidence, best.effective))
        if isinstance(noise, Known):
            perfect = not y.any() or bool((y == y[0]).all() and phi.any())
            assert bool(best.no_noise) == perfect
            assert bool(best.no_signal) == (not (phi.any() and y.any()))
            assert best.model.noise.precision.isfinite()


def test_rows_that_more_features_can_meet_perfectly_have_no_noise_and_mackays_prior():
    """The evidence grows towards a noise of 0, where the weights alone pay for the rows: N(0, ΦΦᵀ / α)."""
    phi, y = made(12, 20, 1, 0.5, 12)
    best = maximise_evidence(fit(phi, y, Diagonal(ONE), Known(ONE)))
    assert best.no_noise
    assert finite(best)
    limit = 12 / (phi.mT @ torch.linalg.solve(phi @ phi.mT, y)).square().sum()
    assert math.isclose(best.factor, limit, rel_tol=1e-6)
    least = stats.multivariate_normal(np.zeros(12), (phi @ phi.mT / limit).numpy()).logpdf(y[:, 0].numpy())
    # held at errors of 1e-12 of the targets, whose rounding is 1e-15: 1e-3 nats a row
    assert math.isclose(best.log_evidence, least, abs_tol=0.012)
    assert math.isclose(best.log_evidence, best.model.log_evidence, abs_tol=0.012)
    for beta in (1.0, 10.0, 100.0, 1e4):
        alpha = maximise_evidence(fit(phi, y, Diagonal(ONE), Known(beta * ONE)), keep_noise=True)
        assert alpha.log_evidence < least


def test_each_target_can_have_its_own_prior_and_noise():
    phi, y = made(50, 5, 1, 0.1, 10)
    _, other = made(50, 5, 1, 2.0, 11)
    both = torch.cat([y, other], 1)
    apart = LinearGaussian(Statistics.empty(5, 2).add(phi, both).by_target(), Diagonal(ONE), Known(ONE))
    best = maximise_evidence(apart)
    for t in range(2):
        alone = maximise_evidence(fit(phi, both[:, t], Diagonal(ONE), Known(ONE)))
        assert math.isclose(best.factor[t], alone.factor, rel_tol=1e-9)
        assert math.isclose(best.model.noise.precision[t], alone.model.noise.precision, rel_tol=1e-9)
        torch.testing.assert_close(best.model.mean[t], alone.model.mean, rtol=1e-9, atol=1e-11)
