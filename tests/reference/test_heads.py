"""Heads on frozen features beside scikit-learn's ridge and logistic regressions, one replicate at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression, Ridge

from kokkiri.causal.solvers import LinearSolver, heads_solver
from kokkiri.numerics.heads import Frozen, Precisions, Replicates, freeze, precisions, solve
from kokkiri.numerics.one_step import estimates, parts
from kokkiri.numerics.random import generator

FOLDS = 3


def rows(n: int, levels: int, seed: int = 0) -> tuple[torch.Tensor, ...]:
    rng = generator(seed, "rows")
    x = torch.randn(n, 4, generator=rng, dtype=torch.float64)
    score = torch.stack([x[:, 0] * k - 0.3 * x[:, 1] * k for k in range(levels)], 1)
    t = torch.multinomial(torch.softmax(score, 1), 1, generator=rng).squeeze(1)
    y = x[:, 0] + t + torch.randn(n, generator=rng, dtype=torch.float64)
    return x, t, y, torch.arange(n) % FOLDS


@pytest.mark.parametrize("levels", [2, 3])
@pytest.mark.parametrize("own", [False, True])
def test_each_replicate_is_what_scikit_learn_fits(levels: int, own: bool):
    x, t, y, fold = rows(240, levels)
    features = torch.stack([x + 0.1 * f for f in range(FOLDS)]) ** 2 + x if own else x
    frozen = freeze(features, fold)
    rng = generator(1, "replicates")
    weight = torch.rand(4, 240, generator=rng, dtype=torch.float64) + 0.1
    treatment = torch.stack([t[torch.randperm(240, generator=rng)] for _ in range(4)])
    outcome = y + torch.randn(4, 240, generator=rng, dtype=torch.float64)
    extra = torch.randn(4, 240, generator=rng, dtype=torch.float64)
    ridges = torch.rand(FOLDS, levels, generator=rng).double() * 5 + 1
    prior = Precisions(ridges, torch.tensor([2.0, 5.0, 9.0]).double())
    found = solve(frozen, levels, Replicates(treatment, outcome, weight, extra), prior)
    for r in range(4):
        for f in range(FOLDS):
            phi = torch.cat([frozen.features[f if own else 0][:, 1:], extra[r].unsqueeze(1)], 1).numpy()
            learn, held = (fold != f).numpy(), (fold == f).numpy()
            for k in range(levels):
                some = learn & (treatment[r] == k).numpy()
                ridge = Ridge(alpha=float(prior.outcome[f, k])).fit(phi[some], outcome[r][some], weight[r][some])
                np.testing.assert_allclose(found.outcome[r, k, held], ridge.predict(phi[held]), atol=1e-9)
            if levels == 2:
                logistic = LogisticRegression(C=1 / float(prior.treatment[f]), tol=1e-10, max_iter=2000)
                logistic.fit(phi[learn], treatment[r][learn], weight[r][learn])
                np.testing.assert_allclose(found.propensity[r, :, held].T, logistic.predict_proba(phi[held]), atol=1e-6)


def test_several_levels_are_where_the_slope_of_the_penalised_likelihood_is_zero():
    x, t, y, fold = rows(300, 3)
    frozen = freeze(x, fold)
    prior = Precisions(torch.ones(FOLDS, 3).double(), torch.full((FOLDS,), 4.0).double())
    w = torch.ones(1, 300).double()
    p = solve(frozen, 3, Replicates(t[None], y[None], w), prior).propensity[0]
    torch.testing.assert_close(p.sum(0), torch.ones(300).double())
    # a descent by torch on the same objective, for the rows of the first fold
    phi, learn = frozen.features[0], fold != 0
    beta = torch.zeros(2, 5, dtype=torch.float64, requires_grad=True)
    descent = torch.optim.LBFGS([beta], max_iter=500, tolerance_grad=1e-10, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        descent.zero_grad()
        logits = torch.nn.functional.pad(phi[learn] @ beta.mT, (1, 0))
        value = torch.nn.functional.cross_entropy(logits, t[learn], reduction="sum") + 2.0 * beta[:, 1:].square().sum()
        value.backward()
        return value

    descent.step(loss)
    expected = torch.softmax(torch.nn.functional.pad(phi @ beta.detach().mT, (1, 0)), 1)[fold == 0].mT
    torch.testing.assert_close(p[:, fold == 0], expected, rtol=0, atol=1e-5)


def test_a_replicate_alone_is_the_same_as_among_others():
    x, t, y, fold = rows(200, 2)
    frozen = freeze(x, fold)
    prior = precisions(frozen, 2, t, y, torch.ones(200))
    weight = torch.rand(5, 200, generator=generator(2, "weights"), dtype=torch.float64)
    together = solve(frozen, 2, Replicates(t[None], y[None], weight), prior)
    for r in range(5):
        alone = solve(frozen, 2, Replicates(t[None], y[None], weight[r : r + 1]), prior)
        torch.testing.assert_close(alone.outcome[0], together.outcome[r], rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(alone.propensity[0], together.propensity[r], rtol=1e-8, atol=1e-8)


def test_precisions_are_where_the_evidence_is_greatest():
    # the linear evidence in closed form, by a multivariate normal, against a grid
    x, t, y, fold = rows(90, 2, seed=3)
    frozen = freeze(x, fold)
    found = precisions(frozen, 2, t, y, torch.ones(90))
    learn = (fold != 1) & (t == 0)
    phi, target = frozen.features[0][learn][:, 1:], y[learn]
    n = len(target)
    centre = torch.eye(n).double() - 1 / n

    def evidence(ratio: float) -> float:
        basis = torch.linalg.eigh(centre)[1][:, 1:]  # contrasts: the flat intercept is integrated out
        shape = basis.mT @ (torch.eye(n).double() + phi @ phi.mT / ratio) @ basis
        z = basis.mT @ target
        return float(-0.5 * torch.logdet(shape) - 0.5 * (n - 1) * torch.log(z @ torch.linalg.solve(shape, z)))

    best = evidence(float(found.outcome[1, 0]))
    assert all(evidence(float(found.outcome[1, 0]) * factor) <= best + 1e-3 for factor in (0.5, 0.8, 1.25, 2.0))


def test_a_treatment_dealt_by_lot_gets_a_propensity_that_hardly_varies():
    x, _, y, fold = rows(600, 2)
    t = torch.randint(0, 2, (600,), generator=generator(4, "lot"))
    frozen = freeze(x, fold)
    prior = precisions(frozen, 2, t, y, torch.ones(600))
    p = solve(frozen, 2, Replicates(t[None], y[None], torch.ones(1, 600)), prior).propensity[0, 1]
    assert float(p.std()) < 0.03


@pytest.mark.parametrize("whom", ["average", "treated", "untreated"])
def test_parts_are_unbiased_with_the_right_propensity_whatever_the_outcome_model(whom: str):
    n, rng = 60_000, generator(5, "parts")
    x = torch.randn(n, generator=rng, dtype=torch.float64)
    e = torch.sigmoid(x)
    t = (torch.rand(n, generator=rng, dtype=torch.float64) < e).long()
    tau = 1 + x
    y = x + tau * t + torch.randn(n, generator=rng, dtype=torch.float64)
    among = {"average": torch.ones(n).double(), "treated": e, "untreated": 1 - e}[whom]
    truth = float((among * tau).mean() / among.mean())
    propensity = torch.stack([1 - e, e])[None]
    for outcome in (torch.zeros(1, 2, n).double(), torch.stack([x, 1 + 2 * x])[None]):
        found = estimates(parts(t[None], y[None], outcome, propensity, 1, 0, whom), torch.ones(1, n).double())
        assert abs(float(found.estimate) - truth) < 4 * float(found.se)


def test_the_linear_solver_is_least_squares_and_two_stages():
    rng = np.random.default_rng(6)
    n = 300
    x, z = rng.normal(size=(n, 2)), rng.normal(size=n)
    t = z + x[:, 0] + rng.normal(size=n)
    y = 2 * t + x[:, 1] + rng.normal(size=n)
    f64 = lambda a: torch.as_tensor(a, dtype=torch.float64)
    given = Replicates(f64(t)[None], f64(y)[None], torch.ones(1, n).double())
    columns = np.column_stack([np.ones(n), x, t])
    beta, rest = np.linalg.lstsq(columns, y, rcond=None)[:2]
    se = np.sqrt(rest[0] / (n - 4) * np.linalg.inv(columns.T @ columns)[3, 3])
    found = LinearSolver(f64(x), 0, (1.0, 0.0))(given)
    np.testing.assert_allclose([float(found.estimate), float(found.se)], [beta[3], se], rtol=1e-9)
    stage = np.column_stack([np.ones(n), x, z])
    fitted = stage @ np.linalg.lstsq(stage, columns, rcond=None)[0]
    two = np.linalg.lstsq(fitted, y, rcond=None)[0]
    se = np.sqrt(((y - columns @ two) ** 2).sum() / (n - 4) * np.linalg.inv(fitted.T @ fitted)[3, 3])
    found = LinearSolver(f64(x), 0, (1.0, 0.0), instruments=f64(z)[:, None])(given)
    np.testing.assert_allclose([float(found.estimate), float(found.se)], [two[3], se], rtol=1e-9)


def test_weights_of_rows_are_rows():
    x, t, y, fold = rows(120, 2)
    twice = torch.cat([torch.arange(120), torch.arange(40)])
    weight = torch.bincount(twice, minlength=120).double()
    prior = Precisions(torch.ones(FOLDS, 2).double(), torch.ones(FOLDS).double())
    frozen = freeze(x, fold)
    light = solve(frozen, 2, Replicates(t[None], y[None], weight[None]), prior)
    heavy = solve(Frozen(frozen.features[:, twice], fold[twice]), 2,
                  Replicates(t[twice][None], y[twice][None], torch.ones(1, 160).double()), prior)  # fmt: skip
    torch.testing.assert_close(light.outcome[..., twice], heavy.outcome, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(light.propensity[..., twice], heavy.propensity, rtol=1e-8, atol=1e-8)


def test_the_propensity_is_solved_anew_for_each_replicate():
    x, t, y, fold = rows(1500, 2, seed=7)
    solver = heads_solver(x, fold, t, y, torch.ones(1500).double(), levels=2, level=1, versus=0)
    dealt = t[torch.randperm(1500, generator=generator(8, "deal"))]
    given = Replicates(torch.stack([t, dealt]), y[None], torch.ones(1, 1500).double())
    p = solve(solver.frozen, 2, given, solver.prior).propensity[:, 1]
    assert float(p[0].std()) > 0.15
    assert float(p[1].std()) < 0.05
