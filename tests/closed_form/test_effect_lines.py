"""Straight lines for outcomes: solved for each level, with the precision of greatest evidence."""

import numpy as np
import torch

from kokkiri.causal.arms import Arms
from kokkiri.causal.crossfit import Rows, sets_of
from kokkiri.causal.lines import lines
from kokkiri.causal.networks import learners_of, network_nuisances, steep
from kokkiri.causal.outcomes import outcomes
from kokkiri.likelihoods import Bernoulli, Gaussian
from kokkiri.numerics.heads import Frozen, ridges


def rows(n=120, p=3, seed=0):
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(n, p, generator=g, dtype=torch.float64)
    t = (torch.rand(n, generator=g) < 0.3).long()
    noise = 0.5 * torch.randn(n, generator=g, dtype=torch.float64)
    return x, t, torch.where(t == 1, 4 - 2 * x[:, 0], x[:, 0]) + noise


def test_ridges_are_those_of_greatest_evidence_for_each_fold_and_level():
    x, t, y = rows()
    fold, weight = torch.arange(len(y)) % 3, torch.rand(len(y), generator=torch.Generator().manual_seed(1)) + 0.5
    phi = torch.cat([torch.ones_like(x[:, :1]), x], 1)
    found = ridges(Frozen(phi[None], fold), 2, t, y, weight)
    assert found.shape == (3, 2, 4)
    for f in range(3):
        for k in range(2):
            at = ((fold != f) & (t == k)).numpy()
            a, b, w = phi.numpy()[at], y.numpy()[at], weight.double().numpy()[at]

            def evidence(log_ratio, a=a, b=b, w=w):
                ridge = np.diag([0, 1, 1, 1]) * np.exp(log_ratio)
                gram = (a * w[:, None]).T @ a + ridge
                beta = np.linalg.solve(gram, (a * w[:, None]).T @ b)
                rest = (w * (b - a @ beta) ** 2).sum() + beta @ ridge @ beta
                value = 1.5 * log_ratio - 0.5 * np.linalg.slogdet(gram)[1] - 0.5 * (w.sum() - 1) * np.log(rest)
                return value, beta

            grid = np.linspace(-14, 14, 1121)
            best = evidence(grid[np.argmax([evidence(v)[0] for v in grid])])[1]
            np.testing.assert_allclose(found[f, k].numpy(), best, atol=8e-3)  # precisions are found on a grid


def test_lines_say_of_rows_left_out_what_the_coefficients_say():
    x, t, y = rows()
    inputs = steep(x)
    sets = sets_of(len(y), 4, 2, 1, 0, strata=t)
    one = next(one for one in learners_of(x, len(y), 10) if one.name == "linear")
    arms = Arms(Gaussian(learn=False), 2)
    fitted = lines(Rows(inputs, torch.stack([t.double(), y], 1)), sets, one, arms)
    assert fitted.outputs.shape == (3, 4, len(y), 2)
    z = inputs.double()
    phi = torch.cat([torch.ones_like(z[:, :1]), (z - z.mean(0)) / z.std(0, correction=0)], 1)
    for m in range(3):
        beta = ridges(Frozen(phi[None], sets.fold[m]), 2, t, y, sets.weight[m])
        said = torch.stack([arms.mean(fitted.outputs[m, f][None])[0] for f in range(4)])
        torch.testing.assert_close(said, beta @ phi.T, atol=1e-5, rtol=1e-5)


def test_a_treatment_that_turns_everything_round_is_learnt_as_two_lines():
    x, t, y = rows(n=300, seed=3)
    found = network_nuisances(x, t, y, replicates=0, seed=1)
    truth = torch.stack([x[:, 0], 4 - 2 * x[:, 0]])
    error = (found.nuisances.outcome - truth).square().mean(1).sqrt()
    assert float(error.max()) < 0.2
    assert found.outcome["linear"] > 0.5


def test_each_level_has_weights_of_its_own():
    g = torch.Generator().manual_seed(5)
    x = torch.randn(600, 2, generator=g, dtype=torch.float64)
    t = (torch.rand(600, generator=g) < 0.5).long()
    bent = 3 * (x[:, 0] > 0).double()
    y = torch.where(t == 1, x[:, 1], bent) + 0.3 * torch.randn(600, generator=g, dtype=torch.float64)
    found = network_nuisances(x, t, y, replicates=0, seed=1)
    assert 0.3 < found.outcome["linear"] < 0.7
    error = (found.nuisances.outcome - torch.stack([bent, x[:, 1]])).square().mean(1).sqrt()
    assert float(error[1]) < 0.1
    assert float(error[0]) < 0.7


def test_a_trained_line_of_log_odds_reaches_large_effects():
    g = torch.Generator().manual_seed(0)
    x = torch.randn(1000, 4, generator=g)
    t = (torch.rand(1000, generator=g) < 0.3).long()
    p = torch.stack([x[:, 0] - 2, 2 - x[:, 0] + x[:, 1]]).double().sigmoid()
    y = (torch.rand(1000, generator=g) < p.gather(0, t[None])[0]).double()
    sets = sets_of(1000, 3, 1, 0, 0, strata=t)
    line = [one for one in learners_of(x, 1000, 300) if one.name == "linear"]
    found = outcomes(x, steep(x), t, y, Bernoulli(), 2, sets, line, 0).mean[0]
    error = (found - p).square().mean(1).sqrt()
    assert float(error.max()) < 0.06  # logistic regressions of each level have 0.03
