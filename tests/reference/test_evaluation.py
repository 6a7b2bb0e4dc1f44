"""Evaluations against scikit-learn, slow twins and what is known of the numbers they are made from."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from kokkiri.data.core import Data, Inputs, Source, Target
from kokkiri.errors import DataError, ShapeError
from kokkiri.evaluation import Comparison, Evaluation, baseline, baselines, comparison, evaluate, linear
from kokkiri.numerics.random import philox


@dataclass(frozen=True)
class Said:
    """Class probabilities (B, C), as a predictive: the twin of kokkiri's own in a few obvious lines."""

    mean: Tensor

    @property
    def variance(self):
        return self.mean * (1 - self.mean)

    @property
    def aleatoric(self):
        return 0.75 * self.variance

    @property
    def epistemic(self):
        return 0.25 * self.variance

    def log_prob(self, y):
        return self.mean[torch.arange(len(y)), y].log()


@dataclass(frozen=True)
class Normals:
    """Independent normals of the shape of `mean`, as a predictive."""

    mean: Tensor
    sd: Tensor

    @property
    def variance(self):
        return self.sd**2

    @property
    def aleatoric(self):
        return self.variance

    @property
    def epistemic(self):
        return torch.zeros_like(self.variance)

    def log_prob(self, y):
        each = torch.distributions.Normal(self.mean, self.sd, validate_args=False).log_prob(y)
        return each if y.ndim == 1 else each.sum(1)

    def interval(self, level):
        z = torch.special.ndtri(torch.tensor(0.5 + level / 2, dtype=torch.float64))
        return self.mean - z * self.sd, self.mean + z * self.sd

    def sample(self, n, *, seed):
        noise = torch.from_numpy(philox(seed, "test").normal(size=(n, *self.mean.shape)))
        return self.mean + self.sd * noise


def category(c: int, n: int = 400):
    rng = philox(c, "test category")
    p = torch.from_numpy(rng.dirichlet(np.full(c, 0.4), n)) + 1e-3
    p /= p.sum(1, keepdim=True)
    y = (torch.from_numpy(rng.random((n, 1))) > p.cumsum(1)).sum(1).clamp(max=c - 1)
    return Said(p), y, Target("kind", "category", tuple("abcdefgh"[:c]))


def number(n: int = 600):
    rng = philox(0, "test number")
    mean, sd = torch.from_numpy(rng.normal(size=n)), torch.from_numpy(rng.uniform(0.5, 2, n))
    return Normals(mean, sd), mean + sd * torch.from_numpy(rng.normal(size=n)), Target("height", "number")


def plausible(share: float, p: float, n: int) -> bool:
    """Whether a share of n rows can be a draw from a binomial distribution, by a p-value above 1e-6."""
    return stats.binomtest(round(share * n), n, p).pvalue > 1e-6


def test_two_classes_are_measured_as_scikit_learn_does_and_both_errors_are_named():
    from sklearn import metrics

    said, y, target = category(2)
    e, p = evaluate(said, y, target), said.mean
    assert math.isclose(e.headline.value, metrics.accuracy_score(y, p.argmax(1)))
    assert math.isclose(-e.log_likelihood.value, metrics.log_loss(y, p), rel_tol=1e-10)
    assert math.isclose(e.log_likelihood.se, said.log_prob(y).std() / 20, rel_tol=1e-10)
    assert math.isclose(e.metric("AUROC").value, metrics.roc_auc_score(y, p[:, 1]), rel_tol=1e-10)
    assert math.isclose(e.metric("average precision").value, metrics.average_precision_score(y, p[:, 1]), rel_tol=1e-10)
    (tn, fp), (fn, tp) = metrics.confusion_matrix(y, p.argmax(1))
    two = e.classes.two
    assert (two.positive, two.negative, two.false_alarms, two.misses) == ("b", "a", fp, fn)
    assert math.isclose(two.type_one.value, fp / (fp + tn))
    assert math.isclose(two.type_two.value, fn / (fn + tp))
    assert two.type_one.low < two.type_one.value < two.type_one.high
    scored = metrics.classification_report(y, p.argmax(1), output_dict=True)
    for k, s in enumerate(e.classes.scores):
        ours = (s.precision.value, s.recall.value, s.rows)
        assert ours == pytest.approx([scored[str(k)][m] for m in ("precision", "recall", "support")])


def test_many_classes_are_measured_class_by_class():
    from sklearn import metrics

    said, y, target = category(5)
    e, p = evaluate(said, y, target), said.mean
    assert [list(row) for row in e.classes.confusion] == metrics.confusion_matrix(y, p.argmax(1)).tolist()
    assert math.isclose(
        e.metric("balanced accuracy").value, metrics.balanced_accuracy_score(y, p.argmax(1)), rel_tol=1e-10
    )
    assert e.classes.two is None
    assert sum(s.rows for s in e.classes.scores) == sum(s.predicted for s in e.classes.scores) == 400
    assert [s.level for s in e.classes.scores] == list("abcde")


def test_right_probabilities_are_believed_and_wrong_ones_are_not():
    said, y, target = category(2, 2000)
    right = evaluate(said, y, target).classes.calibration
    sure = said.mean**3 / (said.mean**3).sum(1, keepdim=True)
    wrong = evaluate(Said(sure), y, target).classes.calibration
    assert right.as_good_as_right
    assert not wrong.as_good_as_right
    assert sum(right.rows) == 2000
    assert all(low <= f <= high for low, f, high in zip(right.low, right.frequency, right.high, strict=True))


def test_numbers_are_measured_as_scikit_learn_does():
    from sklearn import metrics

    said, y, target = number()
    e = evaluate(said, y, target)
    assert math.isclose(e.headline.value, metrics.root_mean_squared_error(y, said.mean), rel_tol=1e-10)
    assert math.isclose(e.metric("R²").value, metrics.r2_score(y, said.mean), rel_tol=1e-10)
    assert math.isclose(e.metric("mean absolute error").value, metrics.mean_absolute_error(y, said.mean), rel_tol=1e-10)
    assert e.numbers.residuals.bias.value == pytest.approx((y - said.mean).mean().item())
    crps = (y - said.mean) / said.sd
    density = torch.exp(-(crps**2) / 2) / math.sqrt(2 * math.pi)
    exact = said.sd * (crps * (2 * torch.special.ndtr(crps) - 1) + 2 * density - 1 / math.sqrt(math.pi))
    assert e.metric("CRPS").value == pytest.approx(exact.mean().item(), rel=0.02)  # 200 draws a row, 600 rows


def test_intervals_of_the_right_width_hold_what_they_say_and_narrow_ones_less():
    said, y, target = number()
    numbers = evaluate(said, y, target).numbers
    for c in numbers.coverage:
        assert plausible(c.covered.value, c.level, 600)
        assert c.covered.low < c.covered.value < c.covered.high
        assert c.width == pytest.approx(float(np.diff([t.mean() for t in said.interval(c.level)])[0]))
    assert sum(numbers.pit) == 600
    assert max(numbers.pit) < 100  # 60 expected, 7.3 the standard deviation
    narrow = evaluate(Normals(said.mean, said.sd / 2), y, target).numbers
    assert all(c.covered.high < c.level for c in narrow.coverage)
    assert min(narrow.pit[0], narrow.pit[-1]) > 100


def test_points_are_test_rows_at_most_500_and_the_same_each_time():
    said, y, target = number()
    points = evaluate(said, y, target).numbers.points
    assert len(points.row) == len(set(points.row)) == 500
    assert points.observed == tuple(y[list(points.row)].tolist())
    assert points == evaluate(said, y, target).numbers.points
    assert points != evaluate(said, y, target, seed=1).numbers.points


def test_predicted_variance_is_set_against_the_squared_error_it_promises():
    said, y, target = number(2000)
    u = evaluate(said, y, target).uncertainty
    assert u.rows == (200,) * 10
    assert list(u.aleatoric) == sorted(u.aleatoric)
    assert u.epistemic_share == 0
    assert np.corrcoef(u.aleatoric, u.observed)[0, 1] > 0.9
    said, y, target = category(3, 2000)
    u = evaluate(said, y, target).uncertainty
    assert u.epistemic_share == pytest.approx(0.25)
    total = np.add(u.aleatoric, u.epistemic)
    np.testing.assert_allclose(total, u.observed, atol=0.12)  # 200 rows a group, one standard error about 0.03


def test_several_targets_are_measured_one_by_one():
    said, y, target = number(300)
    both = Normals(torch.stack([said.mean, 0 * said.mean], 1), torch.stack([said.sd, said.sd], 1))
    e = evaluate(both, torch.stack([y, y], 1), target)
    alone = evaluate(said, y, target)
    assert e.metric("RMSE of target 1").value == pytest.approx(alone.headline.value)
    assert e.headline.name == "R²"
    assert e.headline.value == pytest.approx((e.metric("R² of target 1").value + e.metric("R² of target 2").value) / 2)
    assert max(e.numbers.points.row) < 300
    assert sum(e.numbers.pit) == 600


@pytest.mark.parametrize("made", [category(2), category(4), number()], ids=["two", "four", "number"])
def test_an_evaluation_survives_json(made):
    said, y, target = made
    e = evaluate(said, y, target)
    assert Evaluation.from_json(json.loads(json.dumps(e.to_json(), allow_nan=False))) == e
    c = comparison([("model", said), ("other", said)], y, target)
    assert Comparison.from_json(json.loads(json.dumps(c.to_json(), allow_nan=False))) == c


def test_certainty_that_was_wrong_is_an_infinite_loss_and_still_plain_json():
    target = Target("kind", "category", ("a", "b"))
    said = Said(torch.tensor([[1.0, 0.0], [0.5, 0.5], [0.2, 0.8]], dtype=torch.float64))
    e = evaluate(said, torch.tensor([1, 0, 1]), target)
    assert e.log_likelihood.value == -math.inf
    assert Evaluation.from_json(json.loads(json.dumps(e.to_json(), allow_nan=False))).log_likelihood.value == -math.inf


def test_one_row_or_one_class_alone_leaves_out_what_cannot_be_known():
    said, y, target = category(2)
    e = evaluate(Said(said.mean[:1]), y[:1], target)
    assert e.log_likelihood.se is None
    assert all(m.name != "AUROC" for m in e.metrics)
    numbers, values, height = number(20)
    assert evaluate(Normals(numbers.mean[:1], numbers.sd[:1]), values[:1], height).numbers.coverage


def test_a_model_that_diverged_is_measured_as_unknown_and_does_not_crash():
    said, y, target = category(2)
    assert math.isnan(evaluate(Said(said.mean * math.nan), y, target).log_likelihood.value)
    said, y, target = number(50)
    e = evaluate(Normals(said.mean * math.nan, said.sd), y, target)
    assert math.isnan(e.headline.value)
    assert json.dumps(e.to_json(), allow_nan=False)


def test_a_prediction_of_other_rows_or_of_none_is_refused():
    said, y, target = category(2)
    with pytest.raises(ShapeError, match="needs"):
        evaluate(said, y[:10], target)
    with pytest.raises(DataError, match="no rows"):
        evaluate(Said(said.mean[:0]), y[:0], target)


def test_differences_to_the_model_are_paired_by_row():
    said, y, target = category(3)
    other = Said((said.mean + 0.1) / 1.3)
    table = comparison([("model", said), ("flatter", other)], y, target)
    paired = other.log_prob(y) - said.log_prob(y)
    assert table.lines[0].difference is None
    assert table.lines[1].difference.value == pytest.approx(paired.mean().item())
    assert table.lines[1].difference.se == pytest.approx(paired.std().item() / 20)
    assert table.lines[1].difference.se < table.lines[1].log_likelihood.se  # what is hard for both cancels
    assert table.rows == 400


# -- baselines -------------------------------------------------------------------------------------------------------


class Same(torch.nn.Module):
    """An encoder that has nothing to do."""

    def forward(self, raw):
        return raw["x"]


def made(x: Tensor, y: Tensor, target: Target) -> Data:
    return Data({"x": x.float()}, y, Same(), Inputs(tuple(x.shape[1:])), target, Source("test"))


def test_softmax_regression_finds_scikit_learns_maximum(monkeypatch):
    from sklearn.linear_model import LogisticRegression

    said, y, _ = category(3)
    x = said.mean.log() + 0.3 * torch.from_numpy(philox(0, "test x").normal(size=(400, 3)))
    x = torch.cat([x, x @ torch.ones(3, 1, dtype=torch.float64)], 1)  # collinear, which the prior has to settle
    for precision in (0.1, 3.0, 1000.0):
        monkeypatch.setattr(linear, "PRECISIONS", (precision,))
        ours = linear.softmax_regression(x, y, 3)
        theirs = LogisticRegression(C=1 / precision, tol=1e-10, max_iter=10_000).fit(x, y)
        np.testing.assert_allclose((x @ ours.weight + ours.bias).softmax(1), theirs.predict_proba(x), atol=1e-5)
        p = (x @ ours.weight + ours.bias).softmax(1)
        gradient = x.T @ (torch.nn.functional.one_hot(y, 3) - p) - precision * ours.weight
        assert gradient.abs().max() < 0.01


def test_the_ridge_leaves_one_out_without_doing_it():
    from sklearn.linear_model import Ridge

    rng = philox(1, "test ridge")
    x = torch.from_numpy(rng.normal(size=(25, 6)))
    y = x @ torch.arange(6.0, dtype=torch.float64) + 3 + 4 * torch.from_numpy(rng.normal(size=25))
    ours = linear.ridge_regression(x, y)
    theirs = Ridge(alpha=ours.precision).fit(x, y)
    np.testing.assert_allclose(ours.weight[:, 0], theirs.coef_, rtol=1e-8)
    np.testing.assert_allclose(ours.bias, theirs.intercept_, rtol=1e-8)
    scores = []
    for precision in np.logspace(-3, 6, 19):
        error = [
            float(y[i] - Ridge(alpha=precision).fit(x[keep], y[keep]).predict(x[[i]])[0])
            for i in range(25)
            for keep in [np.arange(25) != i]
        ]
        scores.append(np.mean(np.square(error)))
    assert ours.noise**2 == pytest.approx(min(scores), rel=1e-8)
    assert ours.precision == pytest.approx(np.logspace(-3, 6, 19)[np.argmin(scores)])


def test_baselines_of_classes_are_frequencies_and_a_linear_model_that_beats_them():
    said, y, target = category(3, 600)
    x = said.mean.log()
    train, test = made(x[:400], y[:400], target), made(x[400:], y[400:], target)
    (name, majority), (other, model) = baselines(train, test, target)
    assert (name, other) == ("majority class", "linear model")
    counts = np.bincount(y[:400], minlength=3)
    np.testing.assert_allclose(majority.mean, np.tile((counts + 1) / 403, (200, 1)), rtol=1e-12)
    assert model.log_prob(y[400:]).mean() > majority.log_prob(y[400:]).mean() + 0.2
    assert evaluate(model, test.y, target).classes.calibration.as_good_as_right


@pytest.mark.parametrize("targets", [1, 2])
def test_baselines_of_numbers_are_the_mean_and_a_ridge_whose_intervals_hold(targets):
    rng = philox(2, "test baselines")
    x = torch.from_numpy(rng.normal(size=(500, 5)))
    y = 1e6 + x @ torch.from_numpy(rng.normal(size=(5, targets))) + torch.from_numpy(rng.normal(size=(500, targets)))
    y = y[:, 0] if targets == 1 else y
    target = Target("height", "number")
    train, test = made(x[:300], y[:300], target), made(x[300:], y[300:], target)
    (name, simple), (_, model) = baselines(train, test, target)
    assert name == "mean"
    torch.testing.assert_close(simple.mean[0], y[:300].mean(0))
    torch.testing.assert_close(simple.variance[0], y[:300].var(0))
    scored = evaluate(model, y[300:], target)
    assert all(plausible(c.covered.value, c.level, 200 * targets) for c in scored.numbers.coverage)
    assert model.log_prob(y[300:]).mean() > simple.log_prob(y[300:]).mean() + 0.2


def test_a_linear_model_of_very_many_numbers_says_on_how_many_rows_it_was_fitted(monkeypatch):
    monkeypatch.setattr(baseline, "FULL_ENTRIES", 500)
    monkeypatch.setattr(baseline, "SUBSET", 100)
    said, y, target = category(2)
    data = made(said.mean.log().reshape(400, 1, 2), y, target)
    assert [name for name, _ in baselines(data, data, target)] == ["majority class", "linear model (100 rows)"]


def test_a_class_that_training_lacks_is_unlikely_and_not_impossible():
    said, y, _ = category(2)
    target = Target("kind", "category", ("a", "b", "c"))
    data = made(said.mean.log(), y, target)
    for _, predictive in baselines(data, data, target):
        assert torch.isfinite(predictive.log_prob(torch.full((400,), 2))).all()
        assert predictive.mean[:, 2].max() < 0.05


def test_a_constant_target_and_constant_columns_do_not_break_the_baselines():
    x, target = torch.zeros(30, 2), Target("height", "number")
    data = made(x, torch.ones(30, dtype=torch.float64), target)
    for _, predictive in baselines(data, data, target):
        assert predictive.mean.tolist() == [1.0] * 30
        assert torch.isfinite(predictive.log_prob(data.y)).all()
