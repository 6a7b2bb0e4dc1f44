"""Stacking, calibration and logistic regressions against scipy and scikit-learn."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression

from kokkiri.numerics.logistic import logistic, probabilities
from kokkiri.numerics.stacking import platt, stacking


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_stacking_maximises_the_log_score_of_the_mixture():
    log_p = draw(3, 400) + torch.tensor([0.0, 0.1, -0.2], dtype=torch.float64)[:, None]
    p = log_p.exp().numpy()
    objective = lambda u: -np.log(np.exp(u) @ p / np.exp(u).sum()).sum()
    best = minimize(objective, np.zeros(3), tol=1e-12)
    pi = stacking(log_p)
    assert float(pi.sum()) == pytest.approx(1.0)
    assert float(-(pi @ log_p.exp()).log().sum()) <= best.fun + 1e-2
    heavy = torch.arange(400) % 2
    twice = torch.cat([log_p, log_p[:, heavy == 1]], 1)
    assert torch.allclose(stacking(log_p, 1.0 + heavy), stacking(twice), atol=1e-6)


def test_one_that_is_always_better_gets_all():
    log_p = draw(1, 50).expand(3, 50) + torch.tensor([0.0, 0.3, -0.1], dtype=torch.float64)[:, None]
    assert stacking(log_p).tolist() == [0.0, 1.0, 0.0]


@pytest.mark.parametrize("levels", [2, 3])
def test_logistic_regressions_are_those_of_scikit_learn(levels):
    x, t = draw(2, 200, 3), torch.arange(200) % levels
    x = x + t[:, None]
    weight = torch.rand(2, 200, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    design = torch.cat([x, torch.ones(2, 200, 1, dtype=torch.float64)], 2)
    beta = logistic(design, t, levels, weight, torch.tensor([1e-9, 1e-9, 1e-9, 0.0], dtype=torch.float64))
    found = probabilities(design, beta)
    for r in range(2):
        model = LogisticRegression(C=1e9, tol=1e-10, max_iter=2000).fit(x[r], t, sample_weight=weight[r])
        assert np.allclose(found[r].T.numpy(), model.predict_proba(x[r]), atol=1e-5)


def test_the_penalty_is_that_of_a_normal_prior():
    x, t = draw(100, 2), (draw(100, seed=2) > 0).long()
    precision = torch.tensor([3.0, 0.5], dtype=torch.float64)
    beta = logistic(x[None], t, 2, torch.ones(1, 100), precision)[0, 0]
    slope = x.T @ (t - torch.sigmoid(x @ beta)) - precision * beta
    assert float(slope.abs().max()) < 1e-6


def test_classes_that_lines_divide_leave_finite_coefficients():
    x = torch.linspace(-1, 1, 40, dtype=torch.float64)[None, :, None]
    beta = logistic(x, (x[0, :, 0] > 0).long(), 2, torch.ones(1, 40), torch.tensor([1e-3], dtype=torch.float64))
    assert bool(beta.isfinite().all())


@pytest.mark.parametrize("levels", [2, 3])
def test_calibration_undoes_what_was_done_to_probabilities(levels):
    logits = 1.5 * draw(levels, 60_000)
    true = torch.softmax(logits, 0)
    uniform = torch.rand(60_000, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    t = (uniform > true.cumsum(0)).sum(0).clamp(max=levels - 1)
    sure = torch.softmax(2 * logits + torch.arange(levels)[:, None], 0)
    mend = platt(sure, t)
    assert mend.slope == pytest.approx(0.5, abs=0.02)
    assert torch.allclose(mend(sure), true, atol=0.02)
    again = platt(mend(sure), t)
    assert again.slope == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize("levels", [2, 3])
@pytest.mark.parametrize("sure", [2.0, 4.0, 7.0])
def test_probabilities_that_are_far_too_sure_are_mended_all_the_same(levels, sure):
    logits = draw(levels, 2000)
    uniform = torch.rand(2000, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    t = (uniform > torch.softmax(0.2 * logits, 0).cumsum(0)).sum(0).clamp(max=levels - 1)
    found = platt(torch.softmax(logits, 0), t)
    again = platt(torch.softmax(sure * logits, 0), t, prior=sure**-2)
    at = lambda mend, p: float(mend(p).gather(0, t[None])[0].log().sum())
    assert again.slope * sure == pytest.approx(found.slope, abs=0.01)
    assert at(again, torch.softmax(sure * logits, 0)) == pytest.approx(at(found, torch.softmax(logits, 0)), abs=0.5)


def test_calibrated_probabilities_add_up_to_the_levels_that_were_seen():
    p = torch.softmax(draw(3, 300), 0)
    t = torch.arange(300) % 3
    weight = 0.5 + (torch.arange(300) % 2)
    found = platt(p, t, weight)(p)
    had = torch.nn.functional.one_hot(t, 3).T
    assert torch.allclose((weight * found).sum(1), (weight * had).sum(1).double(), atol=1e-5)
