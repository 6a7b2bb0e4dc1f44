"""SWAG, dropout and the variational Gaussian on real data, through fit, predict, save and load."""

from __future__ import annotations

import pytest
import torch

import kokkiri as kk
from kokkiri.posteriors import SWAG, Dropout, Variational
from kokkiri.testing import check_predictive

RECIPES = [SWAG(), SWAG(rank=5, size=2), Dropout(), Variational(), Variational(size=2)]
STEPS = 1000


def fit(data, recipe, **more):
    net = kk.networks.MLP(data.inputs, [32], 1, dropout=0.1 if isinstance(recipe, Dropout) else 0.0)
    return kk.fit(data, net, kk.Gaussian(), kk.Adam(1e-2), posterior=recipe, progress=False, **{"steps": STEPS, **more})


@pytest.fixture(scope="module")
def concrete():
    """Training and test rows of a published split, and log p of each test row under a point."""
    train, test = kk.split(kk.read("concrete"), published=0)
    return train, test, kk.predict(fit(train, kk.Point()), test).log_prob(test.y)


@pytest.mark.parametrize("recipe", RECIPES, ids=repr)
def test_strength_of_concrete_is_predicted_no_worse_than_by_a_point(recipe, concrete, tmp_path):
    train, test, point = concrete
    post = fit(train, recipe)
    predicted = kk.predict(post, test)
    gain = predicted.log_prob(test.y) - point
    assert gain.mean() > -3 * gain.std() / len(gain) ** 0.5
    assert (predicted.epistemic > 0).all()
    residual = predicted.mean - test.y
    assert residual.square().mean() < 0.35 * test.y.var()
    check_predictive(kk.predict(post, test.batch(torch.arange(5)).x), discrete=False)

    kk.save(post, tmp_path / "model")
    again = kk.load(tmp_path / "model")
    assert torch.equal(kk.predict(again, test).log_prob(test.y), predicted.log_prob(test.y))
    assert again.evidence == post.evidence
    assert (post.evidence is not None) == isinstance(recipe, Variational)


@pytest.mark.parametrize("recipe", RECIPES, ids=repr)
def test_a_draw_answers_for_a_row_whatever_rows_are_beside_it(recipe, concrete):
    train, test, _ = concrete
    drawn = fit(train, recipe, steps=100).draw(6, seed=1)
    x = test.batch(torch.arange(20)).x
    torch.testing.assert_close(drawn(x)[:, 7:8], drawn(x[7:8]), rtol=1e-4, atol=1e-5)
    assert len(torch.unique(drawn(x)[:, 0])) > 3  # two masks may differ in units alone that are silent for a row
