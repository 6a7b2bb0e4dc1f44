"""Linear models against the Gaussians and Student t's that they are, written out in full over the rows (scipy)."""

import math

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from kokkiri.errors import NotPositiveDefinite, ShapeError, UsageError
from kokkiri.numerics.distributions import Normal, StudentT
from kokkiri.numerics.linear_evidence import maximise_evidence
from kokkiri.numerics.linear_gaussian import LinearGaussian, fit
from kokkiri.numerics.linear_priors import Diagonal, Full, InverseGamma, Known
from kokkiri.numerics.linear_recursive import recursive
from kokkiri.numerics.linear_statistics import Statistics
from kokkiri.numerics.random import philox

EXACT = {"rtol": 1e-10, "atol": 1e-10}
D, T, N = 4, 2, 9
KNOWN = Known(torch.tensor(3.7, dtype=torch.float64))
UNKNOWN = InverseGamma(torch.tensor(2.5, dtype=torch.float64), torch.tensor([0.8, 1.9], dtype=torch.float64))


def made(n, seed, features=D, targets=T):
    rng = philox(seed, "test linear gaussian")
    phi = torch.from_numpy(rng.standard_normal((n, features)))
    weights = torch.from_numpy(rng.standard_normal((features, targets)))
    return phi, phi @ weights + 0.4 * torch.from_numpy(rng.standard_normal((n, targets)))


def a_matrix():
    half, _ = made(7, 90)
    return half.mT @ half + 0.1 * torch.eye(D, dtype=torch.float64)


PRIORS = {
    "scalar": Diagonal(torch.tensor(0.6, dtype=torch.float64)),
    "vector": Diagonal(torch.tensor([0.2, 1.0, 3.0, 0.05], dtype=torch.float64), made(D, 91)[0][:, :T]),
    "matrix": Full(a_matrix(), made(D, 92)[0][:, :T]),
}
each_prior = pytest.mark.parametrize("prior", PRIORS.values(), ids=PRIORS.keys())
each_noise = pytest.mark.parametrize("noise", [KNOWN, UNKNOWN], ids=["known", "unknown"])


def prior_moments(prior):
    """Mean (D, T) and covariance (D, D), the latter in units of σ² where that is unknown."""
    covariance = torch.linalg.inv(prior.plus(KNOWN.unit, torch.zeros(D, D, dtype=torch.float64)))
    return (torch.zeros(D, T, dtype=torch.float64) if prior.mean is None else prior.mean), covariance


def marginal(phi, prior, noise, t):
    """The joint density of the rows of target t, with the weights integrated out, by scipy."""
    mean, covariance = prior_moments(prior)
    location = (phi @ mean[:, t]).numpy()
    shape = phi @ covariance @ phi.mT
    eye = torch.eye(len(phi), dtype=torch.float64)
    if isinstance(noise, Known):
        return stats.multivariate_normal(location, (shape + eye / noise.precision).numpy())
    scale = noise.rate.expand(T)[t] / noise.shape * (shape + eye)
    return stats.multivariate_t(location, scale.numpy(), df=2 * float(noise.shape))


@each_noise
@each_prior
def test_the_evidence_is_the_density_of_the_rows(prior, noise):
    phi, y = made(N, 0)
    expected = [marginal(phi, prior, noise, t).logpdf(y[:, t].numpy()) for t in range(T)]
    torch.testing.assert_close(fit(phi, y, prior, noise).log_evidence, torch.tensor(expected), **EXACT)


@each_noise
@each_prior
def test_the_joint_density_of_new_rows_is_that_of_the_predictive_and_obeys_the_chain_rule(prior, noise):
    (phi, y), (phi_new, y_new) = made(N, 1), made(5, 2)
    old = fit(phi, y, prior, noise)
    given = old.log_joint(phi_new, y_new)
    torch.testing.assert_close(old.log_evidence + given, old.update(phi_new, y_new).log_evidence, **EXACT)

    # by scipy: p(new, old) / p(old), and the same from mean and covariance of the predictive
    rows, values = torch.cat([phi, phi_new]), torch.cat([y, y_new])
    for t in range(T):
        both = marginal(rows, prior, noise, t).logpdf(values[:, t].numpy())
        alone = marginal(phi, prior, noise, t).logpdf(y[:, t].numpy())
        assert math.isclose(given[t], both - alone, rel_tol=1e-10, abs_tol=1e-10)
    if isinstance(noise, Known):
        covariance = phi_new @ old.covariance @ phi_new.mT + torch.eye(5, dtype=torch.float64) / noise.precision
        density = stats.multivariate_normal((phi_new @ old.mean[:, 0]).numpy(), covariance.numpy())
        assert math.isclose(given[0], density.logpdf(y_new[:, 0].numpy()), rel_tol=1e-10)


@each_noise
@each_prior
def test_the_posterior_is_that_of_the_joint_gaussian_of_weights_and_rows(prior, noise):
    """Conditioning by Schur complements, in the space of rows: another formula than the one in use."""
    phi, y = made(N, 3)
    mean, covariance = prior_moments(prior)
    unit = noise.precision if isinstance(noise, Known) else torch.tensor(1.0, dtype=torch.float64)
    gain = covariance @ phi.mT @ torch.linalg.inv(phi @ covariance @ phi.mT + torch.eye(N, dtype=torch.float64) / unit)
    model = fit(phi, y, prior, noise)
    torch.testing.assert_close(model.mean, mean + gain @ (y - phi @ mean), **EXACT)
    torch.testing.assert_close(model.covariance, covariance - gain @ phi @ covariance, **EXACT)
    torch.testing.assert_close(torch.linalg.inv(model.covariance), model.precision, **EXACT)


@each_noise
@each_prior
def test_the_predictive_is_the_ratio_of_two_evidences(prior, noise):
    (phi, y), (phi_new, y_new) = made(N, 4), made(3, 5)
    model = fit(phi, y, prior, noise)
    density = model.predict(phi_new)
    assert isinstance(density, Normal if isinstance(noise, Known) else StudentT)
    for i in range(3):
        for t in range(T):
            both = marginal(torch.cat([phi, phi_new[i : i + 1]]), prior, noise, t)
            top = both.logpdf(torch.cat([y[:, t], y_new[i : i + 1, t]]).numpy())
            expected = top - marginal(phi, prior, noise, t).logpdf(y[:, t].numpy())
            assert math.isclose(density.log_prob(y_new)[i, t], expected, rel_tol=1e-10, abs_tol=1e-10)


@each_prior
def test_aleatoric_and_epistemic_variance_add_up_to_that_of_the_predictive(prior):
    phi, y = made(N, 6)
    new, _ = made(3, 7)
    for noise in (KNOWN, UNKNOWN):
        model = fit(phi, y, prior, noise)
        aleatoric, epistemic = model.variances(new)
        total = (aleatoric + epistemic).expand(3, T)
        torch.testing.assert_close(total, model.predict(new).variance.expand(3, T), **EXACT)
        expected = ((new @ model.covariance) * new).sum(1, keepdim=True)
        if noise is KNOWN:
            torch.testing.assert_close(aleatoric.squeeze(), 1 / KNOWN.precision, **EXACT)
        else:
            expected = expected * model.posterior_noise.rate / (model.posterior_noise.shape - 1)
        torch.testing.assert_close(epistemic, expected, **EXACT)


def test_the_evidence_of_an_unknown_noise_is_the_average_over_known_ones():
    """log ∫ p(y | σ²) IG(σ²) dσ² by quadrature; given σ², the prior precision is Λ₀ / σ²."""
    phi, y = made(5, 8)
    prior, noise = PRIORS["scalar"], UNKNOWN
    a, b = float(noise.shape), float(noise.rate[0])

    def integrand(log_variance):
        precision = torch.tensor(math.exp(-log_variance), dtype=torch.float64)
        known = fit(phi, y[:, 0], prior.scaled(precision), Known(precision)).log_evidence.item()
        return math.exp(known + stats.invgamma(a, scale=b).logpdf(math.exp(log_variance)) + log_variance)

    value, _ = integrate.quad(integrand, -8, 8, epsabs=0, epsrel=1e-11, limit=200)
    expected = fit(phi, y, prior, noise).log_evidence[0].item()
    assert math.isclose(math.log(value), expected, rel_tol=1e-9)


def test_no_rows_give_the_prior_back():
    new, _ = made(3, 9)
    for noise in (KNOWN, UNKNOWN):
        model = fit(torch.zeros(0, D), torch.zeros(0, T), PRIORS["matrix"], noise)
        torch.testing.assert_close(model.mean, PRIORS["matrix"].mean, **EXACT)
        torch.testing.assert_close(model.log_evidence, torch.zeros(T, dtype=torch.float64), **EXACT)
        torch.testing.assert_close(model.quality.log_ratio, torch.zeros((), dtype=torch.float64), **EXACT)
    density = model.predict(new)
    torch.testing.assert_close(density.df.squeeze(), 2 * UNKNOWN.shape, **EXACT)


def test_rows_one_by_one_give_what_one_fit_gives_with_and_without_outer_products_that_wait():
    for features in (3, 300):
        phi, y = made(70, 10, features)
        for noise in (KNOWN, UNKNOWN):
            empty = fit(phi[:0], y[:0], Diagonal(torch.tensor(0.7, dtype=torch.float64)), noise)
            state = recursive(empty)
            for i in range(70):
                state = state.update(phi[i], y[i], weight=2.0 if i == 3 else 1.0)
            weights = torch.ones(70, dtype=torch.float64)
            weights[3] = 2
            whole = empty.update(phi, y, weights)
            assert (state.pending is not None) == (features == 300)
            assert state.n == 71
            torch.testing.assert_close(state.mean, whole.mean, **EXACT)
            torch.testing.assert_close(state.covariance, whole.covariance, **EXACT)
            torch.testing.assert_close(state.log_evidence, whole.log_evidence, **EXACT)
            ours, theirs = state.predict(phi[0]), whole.predict(phi[:1])
            torch.testing.assert_close(ours.mean, theirs.mean, **EXACT)
            torch.testing.assert_close(ours.variance, theirs.variance, **EXACT)


def test_rows_that_wait_are_copies_and_count_as_soon_as_something_is_asked():
    phi, y = made(200, 31)
    empty = fit(phi[:0], y[:0], PRIORS["matrix"], UNKNOWN)
    model, buffer, target = empty, torch.empty(1, D, dtype=torch.float64), torch.empty(1, T, dtype=torch.float64)
    waited = 0
    for i in range(100):
        buffer.copy_(phi[i : i + 1])
        target.copy_(y[i : i + 1])
        model = model.update(buffer, target)
        waited = max(waited, len(model.waiting))
        assert model.statistics.n == i + 1
        if i % 30 == 7:  # asked in between, and not asked
            torch.testing.assert_close(model.mean, empty.update(phi[: i + 1], y[: i + 1]).mean, **EXACT)
    buffer.fill_(math.nan)
    blocks = empty
    for part in torch.arange(100).split(13):
        blocks = blocks.update(phi[part], y[part])
        waited = max(waited, len(blocks.waiting))
    mixed = blocks.update(phi[100:103], y[100:103]).update(phi[103:], y[103:]).remove(phi[100:], y[100:])
    for other in (model, blocks, mixed):
        torch.testing.assert_close(other.log_evidence, empty.update(phi[:100], y[:100]).log_evidence, **EXACT)
        torch.testing.assert_close(other.mean, empty.update(phi[:100], y[:100]).mean, **EXACT)
    assert 1 < waited <= 64
    with pytest.raises(ShapeError, match="do not fit"):
        empty.update(phi[:1, :2], y[:1])


def test_a_recursive_model_goes_on_from_a_fit():
    phi, y = made(N, 11)
    state = recursive(fit(phi[:5], y[:5], PRIORS["vector"], UNKNOWN))
    for i in range(5, N):
        state = state.update(phi[i], y[i])
    whole = fit(phi, y, PRIORS["vector"], UNKNOWN)
    torch.testing.assert_close(state.mean, whole.mean, **EXACT)
    torch.testing.assert_close(state.log_evidence, whole.log_evidence, **EXACT)


def test_models_side_by_side_are_the_models_alone():
    phi, y = (torch.stack(v) for v in zip(*(made(N, s) for s in (20, 21, 22)), strict=True))
    weights = torch.from_numpy(philox(0, "test weights").uniform(0, 2, (3, N)))
    noises = [
        Known(torch.tensor([0.5, 1.0, 9.0], dtype=torch.float64)),
        InverseGamma(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([[1.0], [2.0], [0.1]])),
        KNOWN,
        UNKNOWN,
    ]
    alone_of = [
        lambda r: Known(noises[0].precision[r]),
        lambda r: InverseGamma(noises[1].shape[r], noises[1].rate[r]),
        lambda r: KNOWN,
        lambda r: UNKNOWN,
    ]
    factor = torch.tensor([0.3, 1.0, 7.0], dtype=torch.float64)
    for given in PRIORS.values():
        prior = given.scaled(factor)
        for noise, alone_noise in zip(noises, alone_of, strict=True):
            model = fit(phi, y, prior, noise, weights)
            density, (aleatoric, epistemic) = model.predict(phi[:, :2]), model.variances(phi[:, :2])
            draws, best = model.draw(5, philox(0, "test draws")), maximise_evidence(model)
            joint = model.log_joint(phi[:, :3], y[:, :3])
            assert draws.shape == (5, 3, D, T)
            for r in range(3):
                alone = fit(phi[r], y[r], given.scaled(factor[r]), alone_noise(r), weights[r])
                torch.testing.assert_close(model.mean[r], alone.mean, **EXACT)
                torch.testing.assert_close(model.covariance[r], alone.covariance, **EXACT)
                torch.testing.assert_close(model.log_evidence[r], alone.log_evidence, **EXACT)
                torch.testing.assert_close(joint[r], alone.log_joint(phi[r, :3], y[r, :3]), **EXACT)
                variance = (aleatoric + epistemic)[r].expand(2, T)
                torch.testing.assert_close(variance, sum(alone.variances(phi[r, :2])).expand(2, T), **EXACT)
                p, q = density.log_prob(y[:, :2])[r], alone.predict(phi[r, :2]).log_prob(y[r, :2])
                torch.testing.assert_close(p, q, **EXACT)
                single = maximise_evidence(alone)
                torch.testing.assert_close(best.factor[r], single.factor, rtol=1e-7, atol=0)
                torch.testing.assert_close(best.log_evidence[r], single.log_evidence, **EXACT)


def test_one_design_under_many_weights_or_many_targets_is_models_side_by_side():
    phi, y = made(N, 32)
    weights = torch.from_numpy(philox(1, "test weights").dirichlet(np.ones(N), 5) * N)  # a Bayesian bootstrap
    for noise in (KNOWN, UNKNOWN):
        model = fit(phi, y, PRIORS["vector"], noise, weights)
        left = model.remove(phi[:2], y[:2], weights[:, :2])
        for r in range(5):
            alone = fit(phi, y, PRIORS["vector"], noise, weights[r])
            torch.testing.assert_close(model.mean[r], alone.mean, **EXACT)
            torch.testing.assert_close(model.log_evidence[r], alone.log_evidence, **EXACT)
            rest = fit(phi[2:], y[2:], PRIORS["vector"], noise, weights[r, 2:])
            torch.testing.assert_close(left.mean[r], rest.mean, **EXACT)
    targets = torch.stack([y, 2 * y, -y])
    together = fit(phi, targets, PRIORS["vector"], KNOWN)
    for r in range(3):
        torch.testing.assert_close(together.mean[r], fit(phi, targets[r], PRIORS["vector"], KNOWN).mean, **EXACT)


def test_targets_with_noises_of_their_own_are_models_side_by_side():
    phi, y = made(N, 23)
    apart = Statistics.empty(D, T).add(phi, y).by_target()
    beta = torch.tensor([2.0, 30.0], dtype=torch.float64)
    model = LinearGaussian(apart, PRIORS["scalar"], Known(beta))
    for t in range(T):
        alone = fit(phi, y[:, t], PRIORS["scalar"], Known(beta[t]))
        torch.testing.assert_close(model.mean[t], alone.mean, **EXACT)
        torch.testing.assert_close(model.log_evidence[t], alone.log_evidence, **EXACT)


def test_rows_are_removed_from_one_target_as_from_all():
    phi, y = made(N, 30)
    both = Statistics.empty(D, T).add(phi, y)
    left = both.remove(phi[:3], y[:3]).by_target()
    apart = both.by_target().remove(phi[:3], y[:3].mT.unsqueeze(-1))  # phi (3, D), y (T, 3, 1)
    assert left.removed.shape == (T, D + 2)
    for name in ("gram", "moment", "square", "n", "removed"):
        torch.testing.assert_close(getattr(left, name), getattr(apart, name), **EXACT)


def test_shifted_statistics_are_those_of_shifted_targets():
    phi, y = made(N, 24)
    w = made(D, 25)[0][:, :T]
    ours, theirs = Statistics.empty(D, T).add(phi, y).shifted(w), Statistics.empty(D, T).add(phi, y - phi @ w)
    torch.testing.assert_close(ours.moment, theirs.moment, **EXACT)
    torch.testing.assert_close(ours.square, theirs.square, **EXACT)


def test_a_flat_prior_has_a_posterior_and_no_evidence():
    phi, y = made(N, 26)
    for noise in (KNOWN, UNKNOWN):
        model = fit(phi, y, Diagonal(torch.tensor([0.0, 1.0, 1.0, 1.0])), noise)
        assert model.mean.isfinite().all()
        assert (model.log_evidence == -math.inf).all()
    least_squares = torch.linalg.lstsq(phi, y).solution
    torch.testing.assert_close(fit(phi, y, Diagonal(torch.tensor(0.0)), KNOWN).mean, least_squares, **EXACT)
    with pytest.raises(NotPositiveDefinite, match="Cholesky"):
        _ = fit(phi[:2], y[:2], Diagonal(torch.tensor(0.0)), KNOWN).mean


@pytest.mark.parametrize("noise", [KNOWN, UNKNOWN], ids=["known", "unknown"])
def test_draws_have_the_moments_of_the_posterior(noise):
    """z-scores of mean and covariance over 40,000 draws: 4.7 standard errors are one false alarm in 10⁴ runs of 40."""
    phi, y = made(N, 27)
    model = fit(phi, y, PRIORS["matrix"], noise)
    draws = model.draw(40_000, philox(3, "test draws"))
    spread = model.covariance
    for t in range(T):
        scale = 1.0 if noise is KNOWN else model.posterior_noise.rate[t] / (model.posterior_noise.shape - 1)
        white = torch.linalg.solve(torch.linalg.cholesky(spread * scale), (draws[..., t] - model.mean[:, t]).mT)
        assert (white.mean(1).abs() * 200 < 4.7).all()
        products = white[:, None] * white[None]
        expected = torch.eye(D, dtype=torch.float64)
        assert ((products.mean(-1) - expected).abs() < 4.7 * products.std(-1) / 200).all()


def test_the_noise_that_is_drawn_is_inverse_gamma_and_each_weight_a_student_t():
    """Kolmogorov and Smirnov, p > 10⁻⁴ with a fixed seed."""
    phi, y = made(N, 28)
    model = fit(phi, y, PRIORS["scalar"], UNKNOWN)
    after = model.posterior_noise
    noise = after.draw(5000, philox(4, "test noise"))[:, 1].numpy()
    assert stats.kstest(noise, stats.invgamma(float(after.shape), scale=float(after.rate[1])).cdf).pvalue > 1e-4
    draws = model.draw(5000, philox(5, "test draws"))[:, 2, 1].numpy()
    scale = math.sqrt(after.rate[1] / after.shape * model.covariance[2, 2])
    expected = stats.t(2 * float(after.shape), loc=float(model.mean[2, 1]), scale=scale)
    assert stats.kstest(draws, expected.cdf).pvalue > 1e-4
    normal = stats.t(2 * float(after.shape), loc=float(model.mean[2, 1]), scale=1.1 * scale)
    assert stats.kstest(draws, normal.cdf).pvalue < 1e-2  # the test has the power to see ten per cent


def test_wrong_numbers_and_shapes_are_refused_in_words():
    one = torch.tensor(1.0)
    with pytest.raises(ShapeError, match="do not fit"):
        fit(torch.zeros(3, D), torch.zeros(4, T), PRIORS["scalar"], KNOWN)
    with pytest.raises(ShapeError, match="do not fit"):
        Statistics.empty(D, T).add(torch.zeros(3, D + 1), torch.zeros(3, T))
    with pytest.raises(ShapeError, match="do not fit"):
        Statistics.empty(D, T).add(torch.zeros(3, D), torch.zeros(3, T), torch.ones(2))
    with pytest.raises(ShapeError, match="prior"):
        fit(torch.zeros(3, D), torch.zeros(3, T), Diagonal(torch.ones(D + 1)), KNOWN)
    with pytest.raises(UsageError, match="positive"):
        Known(-one)
    with pytest.raises(UsageError, match="positive"):
        InverseGamma(one, 0 * one)
    with pytest.raises(NotPositiveDefinite, match="prior"):
        Diagonal(-one)
    with pytest.raises(NotPositiveDefinite, match="prior"):
        Full(-torch.eye(D))
    with pytest.raises(NotPositiveDefinite, match="finite"):
        _ = fit(torch.full((3, D), math.nan), torch.zeros(3, T), PRIORS["scalar"], KNOWN).mean
    with pytest.raises(UsageError, match="without a mean"):
        fit(torch.zeros(0, D), torch.zeros(0, T), PRIORS["scalar"], InverseGamma(one / 4, one)).predict(
            torch.ones(1, D)
        )
    state = recursive(fit(torch.zeros(0, D), torch.zeros(0, T), PRIORS["scalar"], KNOWN))
    with pytest.raises(ShapeError, match="one row"):
        state.update(torch.ones(2, D), torch.ones(2, T))
    with pytest.raises(UsageError, match="remove"):
        state.update(torch.ones(D), torch.ones(T), weight=-1.0)
    with pytest.raises(ShapeError, match="side by side"):
        recursive(fit(torch.zeros(2, 1, D), torch.zeros(2, 1, T), PRIORS["scalar"], KNOWN))
    with pytest.raises(UsageError, match="no rows"):
        maximise_evidence(fit(torch.zeros(0, D), torch.zeros(0, T), PRIORS["scalar"], KNOWN))
    with pytest.raises(UsageError, match="flat"):
        maximise_evidence(fit(*made(N, 0), Diagonal(torch.tensor(0.0)), KNOWN))


def test_single_precision_goes_in_and_double_comes_out():
    phi, y = made(N, 29)
    mean = made(D, 33)[0][:, :T]
    for prior in (Diagonal(torch.tensor(0.5), mean.float()), Full(a_matrix().float(), mean.float())):
        single = fit(phi.float(), y.float(), prior, Known(torch.tensor(0.3)))
        double = fit(phi.float().double(), y.float().double(), prior, Known(torch.tensor(0.3).double()))
        assert single.mean.dtype == single.prior.mean.dtype == torch.float64
        assert single.log_evidence.tolist() == double.log_evidence.tolist()


def test_a_matrix_that_is_not_symmetric_counts_as_its_symmetric_part():
    phi, y = made(N, 34)
    skew = torch.triu(torch.ones(D, D, dtype=torch.float64), 1)
    ours = fit(phi, y, Full(a_matrix() + 0.1 * (skew - skew.mT)), KNOWN)
    theirs = fit(phi, y, Full(a_matrix()), KNOWN)
    torch.testing.assert_close(ours.mean, theirs.mean, **EXACT)
    torch.testing.assert_close(ours.log_evidence, theirs.log_evidence, **EXACT)
