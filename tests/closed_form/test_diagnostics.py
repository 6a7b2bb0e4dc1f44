"""R-hat, effective sample sizes and Pareto smoothing against formulas."""

from __future__ import annotations

import math

import pytest
import torch

from kokkiri.errors import ShapeError
from kokkiri.numerics import diagnostics
from kokkiri.numerics.random import generator


def normals(*shape, seed=0):
    return torch.randn(*shape, generator=generator(seed, "test diagnostics"), dtype=torch.float64)


def autoregression(phi, chains, draws, seed=0):
    """Stationary x_t = φ x_{t-1} + e_t, unit variance."""
    e = normals(chains, draws, seed=seed) * math.sqrt(1 - phi**2)
    x = [e[:, 0] / math.sqrt(1 - phi**2)]
    for t in range(1, draws):
        x.append(phi * x[-1] + e[:, t])
    return torch.stack(x, 1)


def test_r_hat_is_the_formula_on_normal_scores_written_out():
    x = normals(3, 11)
    halves = [h for chain in x.tolist() for h in (chain[:5], chain[-5:])]
    median = sum(sorted(v for h in halves for v in h)[14:16]) / 2
    found = []
    for values in (halves, [[abs(v - median) for v in h] for h in halves]):
        everything = sorted(v for h in values for v in h)
        rank = torch.tensor([[everything.index(v) + 1 for v in h] for h in values], dtype=torch.float64)
        z = torch.distributions.Normal(torch.zeros((), dtype=torch.float64), 1.0).icdf((rank - 0.375) / 30.25)
        within, between = z.var(1).mean(), 5 * z.mean(1).var()
        found.append(((4 / 5 * within + between / 5) / within).sqrt())
    torch.testing.assert_close(diagnostics.r_hat(x), max(found), rtol=1e-10, atol=0)


def test_r_hat_sees_a_chain_elsewhere_and_a_chain_of_another_spread_and_is_one_for_equal_chains():
    x = normals(4, 1000)
    assert 0.999 < float(diagnostics.r_hat(x)) < 1.01
    assert float(diagnostics.r_hat(torch.cat([x[:3], x[3:] + 1]))) > 1.05
    assert float(diagnostics.r_hat(torch.cat([x[:3], x[3:] * 3]))) > 1.05
    assert float(diagnostics.r_hat(torch.cat([x[:3] - 5, x[3:] + 5]))) > 1.5


def test_r_hat_does_not_change_under_a_monotone_map():
    x = normals(4, 200) + 0.2 * torch.arange(4)[:, None]
    torch.testing.assert_close(
        diagnostics.bulk_effective_sample_size(x), diagnostics.bulk_effective_sample_size(x.exp())
    )


@pytest.mark.parametrize("phi", [0.0, 0.5, 0.9, -0.5])
def test_the_effective_size_of_an_autoregression_is_n_times_one_minus_phi_over_one_plus_phi(phi):
    sizes = torch.stack([diagnostics.effective_sample_size(autoregression(phi, 4, 4000, seed)) for seed in range(20)])
    wanted = 16000 * (1 - phi) / (1 + phi)
    error = float(sizes.std()) / math.sqrt(20)
    # truncating the sum of autocorrelations where they sink into noise biases τ by a few hundredths
    assert abs(float(sizes.mean()) - wanted) < 4 * error + 0.05 * wanted


def test_the_tail_size_is_the_smaller_of_the_sizes_of_the_two_indicators():
    x = autoregression(0.7, 4, 500)
    flat = x.flatten()
    sizes = [diagnostics.effective_sample_size((x <= torch.quantile(flat, q)).double()) for q in (0.05, 0.95)]
    torch.testing.assert_close(diagnostics.tail_effective_sample_size(x), min(sizes))


def test_quantities_are_judged_one_by_one():
    x = torch.stack([autoregression(phi, 4, 300, i) for i, phi in enumerate((0.0, 0.5, 0.9))], -1)
    for diagnose in (
        diagnostics.r_hat,
        diagnostics.effective_sample_size,
        diagnostics.bulk_effective_sample_size,
        diagnostics.tail_effective_sample_size,
    ):
        together = diagnose(x.unsqueeze(-1))
        assert together.shape == (3, 1)
        torch.testing.assert_close(together[:, 0], torch.stack([diagnose(x[..., i]) for i in range(3)]))


def test_what_never_changes_has_r_hat_one_and_what_differs_between_chains_only_has_infinity():
    still = torch.ones(4, 50)
    assert math.isclose(diagnostics.r_hat(still), 1.0)
    assert math.isclose(diagnostics.effective_sample_size(still), 200.0)
    apart = torch.arange(4.0)[:, None].expand(4, 50)
    assert math.isinf(float(diagnostics.r_hat(apart)))


def test_too_few_draws_are_refused():
    with pytest.raises(ShapeError, match="at least 4 draws"):
        diagnostics.r_hat(torch.zeros(4, 3))
    with pytest.raises(ShapeError, match="one axis"):
        diagnostics.effective_sample_size(torch.zeros(4))


@pytest.mark.parametrize("shape", [-0.3, 0.0, 0.4, 0.9, 1.5])
def test_a_pareto_tail_is_found_within_the_error_of_maximum_likelihood(shape):
    n, z = 2000, []
    for seed in range(20):
        u = torch.rand(n, generator=generator(seed, "test pareto"), dtype=torch.float64)
        x = -u.log() if shape == 0 else (u**-shape - 1) / shape
        z.append((diagnostics.fit_pareto(2.5 * x).shape - shape) / ((1 + shape) / math.sqrt(n)))
    z = torch.tensor(z)
    assert float(z.abs().max()) < 4.5  # of 20 standard normals: 1e-4
    assert abs(float(z.mean())) < 4 / math.sqrt(20) + 0.5  # the weak prior's pull
    assert abs(diagnostics.fit_pareto(2.5 * x).scale - 2.5) < 0.4


@pytest.mark.parametrize("rate", [0.3, 0.5, 0.8])
def test_k_hat_of_exponentials_is_one_minus_the_ratio_of_their_rates(rate):
    # p = Exp(rate), q = Exp(1): p/q = rate e^((1 - rate) x), whose tail is t^(-1 / (1 - rate)) exactly
    x = -torch.rand(20000, generator=generator(0, "test exponentials"), dtype=torch.float64).log()
    smoothed = diagnostics.pareto_smoothed(math.log(rate) + (1 - rate) * x)
    assert abs(smoothed.k_hat - (1 - rate)) < 4 * (2 - rate) / math.sqrt(425)
    if rate >= 0.5:  # a finite variance
        assert abs(float((smoothed.log_weight.exp() * x).sum()) - 1 / rate) < 0.1 / rate


def test_smoothing_keeps_the_order_of_the_weights_leaves_the_bulk_alone_and_tames_the_largest():
    x = -torch.rand(4000, generator=generator(1, "test exponentials"), dtype=torch.float64).log()
    raw = 0.8 * x
    smoothed = diagnostics.pareto_smoothed(raw)
    torch.testing.assert_close(float(smoothed.log_weight.exp().sum()), 1.0)
    assert torch.equal(smoothed.log_weight[raw.argsort()].diff() < 0, torch.zeros(3999, dtype=torch.bool))
    bulk = raw.argsort()[:3000]
    difference = smoothed.log_weight[bulk] - raw[bulk]
    assert float(difference.max() - difference.min()) < 1e-9
    plain = torch.softmax(raw, 0)
    assert smoothed.effective > float(1 / plain.square().sum())


def test_equal_weights_stay_equal_and_k_hat_says_that_there_is_no_tail():
    smoothed = diagnostics.pareto_smoothed(torch.zeros(100))
    torch.testing.assert_close(smoothed.log_weight, torch.full((100,), -math.log(100), dtype=torch.float64))
    assert math.isclose(smoothed.effective, 100.0)
    assert smoothed.k_hat == -math.inf


def test_a_draw_where_the_target_has_no_density_weighs_nothing():
    ratio = torch.zeros(50, dtype=torch.float64)
    ratio[3] = -math.inf
    assert diagnostics.pareto_smoothed(ratio).log_weight[3] == -math.inf
    with pytest.raises(ShapeError, match="finite"):
        diagnostics.pareto_smoothed(torch.full((5,), -math.inf))
