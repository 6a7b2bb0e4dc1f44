"""Every posterior passes the public checks, in every structure and layer; the checks catch what is broken."""

from __future__ import annotations

import functools
from dataclasses import replace

import pytest
import torch
from torch import nn

import kokkiri as kk
from kokkiri import types
from kokkiri.data.encoders import TableEncoder
from kokkiri.posteriors import SWAG, Dropout, Hamiltonian, Langevin, Variational, updating
from kokkiri.posteriors.recipe import Recipe
from kokkiri.testing import check_posterior

STRUCTURES = ("full", "kronecker", "ekfac", "diagonal", "low-rank")
RECIPES = [
    *(kk.Laplace(s) for s in STRUCTURES),
    *(kk.Laplace(s, layers="last") for s in STRUCTURES),
    *(kk.Laplace("kronecker", tune=t) for t in ("after", "never")),
    kk.Laplace("full", size=3),
    kk.Laplace("kronecker", size=3, weights="evidence"),
    kk.Laplace("full", columns=1, sample=50),
    kk.Laplace("diagonal", groups="tensor"),
    kk.LastLayer(size=2),
    SWAG(rank=5),
    Dropout(),
    Dropout(size=2),
    Variational(),
    Variational(size=2),
    Hamiltonian(chains=8, draws=4, warm_up=8),
    Langevin(draws=8, chains=4, cycles=1, steps=200),
    kk.Ensemble(3),
    kk.Point(),
]
OF_NUMBERS = (kk.LastLayer,)  # recipes for one number with normal noise


def table(kind):
    x = torch.randn(120, 3, generator=torch.Generator().manual_seed(0))
    g = torch.Generator().manual_seed(1)
    columns = {f"x{i}": x[:, i].numpy() for i in range(3)}
    score = torch.stack([torch.zeros(120), 2 * x[:, 0], x[:, 1] - x[:, 2] ** 2], 1)
    classes = torch.multinomial(score.softmax(1), 1, generator=g)[:, 0]
    y = {
        "number": (torch.sin(2 * x[:, 0]) + 0.3 * torch.randn(120, generator=g)).numpy(),
        "two": [("no", "yes")[int(c == 1)] for c in classes],
        "three": [("a", "b", "c")[int(c)] for c in classes],
    }[kind]
    return kk.read({**columns, "y": y}, "y")


DATA = {kind: table(kind) for kind in ("number", "two", "three")}
KINDS = {"number": kk.Gaussian(), "two": kk.Bernoulli(), "three": kk.Categorical()}
OUTPUTS = {"number": 1, "two": 1, "three": 3}


def network(kind, dropout=0.0):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return kk.networks.MLP(DATA[kind].inputs, [4], OUTPUTS[kind], activation="tanh", dropout=dropout)


def fit(recipe, kind="number", **more):
    if isinstance(recipe, OF_NUMBERS) and kind != "number":
        pytest.skip("for one number")
    more = {"likelihood": KINDS[kind], "steps": 300, **more}
    net = network(kind, 0.2 if isinstance(recipe, Dropout) else 0.0)
    return kk.fit(DATA[kind], net, posterior=recipe, progress=False, **more)


@pytest.mark.parametrize("recipe", RECIPES, ids=repr)
def test_every_recipe_keeps_the_protocol(recipe):
    assert isinstance(recipe, Recipe)


@pytest.mark.parametrize("recipe", RECIPES, ids=repr)
def test_every_posterior_passes_the_public_checks(recipe):
    post = fit(recipe)
    assert isinstance(post, types.Posterior)
    check_posterior(post)


@pytest.mark.parametrize("kind", ["two", "three"])
@pytest.mark.parametrize("recipe", [r for r in RECIPES if not (isinstance(r, kk.Laplace) and r.layers)], ids=repr)
def test_every_posterior_over_classes_passes_the_public_checks(recipe, kind):
    check_posterior(fit(recipe, kind))


@pytest.mark.parametrize("recipe", RECIPES, ids=repr)
@pytest.mark.parametrize("kind", ["number", "three"])
def test_every_posterior_survives_the_disk(recipe, kind, tmp_path):
    post = fit(recipe, kind, steps=60)
    kk.save(post, tmp_path / "m")
    again, new = kk.load(tmp_path / "m"), DATA[kind].rows(torch.arange(20))
    assert isinstance(again.form.encoder, TableEncoder)
    one, two = (kk.predict(p, new) for p in (post, again))
    assert torch.equal(one.mean, two.mean)
    assert torch.equal(one.epistemic, two.epistemic)
    assert torch.equal(one.log_prob(new.y), two.log_prob(new.y))
    for name, t in post.draw(4, seed=0).params.items():
        assert torch.equal(t, again.draw(4, seed=0).params[name])
    assert again.evidence == post.evidence
    assert again.record.posterior == post.record.posterior


@pytest.mark.parametrize("structure", STRUCTURES)
def test_an_updated_posterior_passes_the_public_checks(structure, monkeypatch):
    monkeypatch.setattr(updating, "GAP", -1.0)  # the place of linearisation stays, however near the mean
    data = DATA["number"]
    old, new = data.rows(torch.arange(80)), data.rows(torch.arange(80, 120))
    post = kk.fit(old, network("number"), kk.Gaussian(), posterior=kk.Laplace(structure), steps=300, progress=False)
    learnt = kk.update(post, replace(new, y=new.y + 1), progress=False)
    assert learnt.offset is not None
    check_posterior(learnt)


@pytest.mark.parametrize("recipe", RECIPES, ids=repr)
def test_the_same_seed_gives_the_same_posterior_and_no_global_state_is_touched(recipe):
    state = torch.get_rng_state()
    one, again = fit(recipe, steps=40), fit(recipe, steps=40)
    assert torch.equal(torch.get_rng_state(), state)
    for name, t in one.draw(2, seed=0).params.items():
        assert torch.equal(t, again.draw(2, seed=0).params[name])
    assert one.evidence == again.evidence


# the checks can fail


class Broken:
    """A posterior with some of its parts replaced."""

    def __init__(self, post, **parts):
        self._post, self._parts = post, parts

    def __getattr__(self, name):
        return self._parts[name] if name in self._parts else getattr(self._post, name)


@functools.cache
def good():
    return fit(kk.Laplace("full"))


def test_a_draw_that_ignores_its_seed_is_caught():
    with pytest.raises(AssertionError, match="another seed, another draw"):
        check_posterior(Broken(good(), draw=lambda n, seed: good().draw(n, seed=0 * seed)))


def test_a_draw_from_the_global_generator_is_caught():
    def draw(n, seed):
        torch.rand(1)
        return good().draw(n, seed=seed)

    with pytest.raises(AssertionError, match="torch's global generator"):
        check_posterior(Broken(good(), draw=draw))


def test_a_draw_of_the_wrong_size_is_caught():
    with pytest.raises(AssertionError, match="herd of three"):
        check_posterior(Broken(good(), draw=lambda n, seed: good().draw(n + 1, seed=seed)))


def test_a_density_that_is_not_normalised_is_caught():
    with pytest.raises(AssertionError, match="integrates to one"):
        check_posterior(Broken(good(), log_prob=lambda params: good().log_prob(params) + 0.3))


def test_draws_that_are_too_narrow_are_caught():
    wide = replace(good(), precision=tuple(p.plus(0.5 * p.diagonal()) for p in good().precision))
    with pytest.raises(AssertionError, match="integrates to one"):
        check_posterior(Broken(good(), draw=wide.draw))


def test_points_that_are_drawn_evenly_against_their_weights_are_caught():
    points = fit(kk.Ensemble(3), steps=20)
    uneven = replace(points, log_weight=torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64).log())
    check_posterior(uneven)
    with pytest.raises(AssertionError, match="drawn by weight"):
        check_posterior(Broken(uneven, draw=points.draw))


def test_a_posterior_of_a_network_of_ones_own_passes():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3), nn.Tanh(), nn.Linear(3, 1))
    post = kk.fit(DATA["number"], net, kk.StudentT(), posterior=kk.Laplace("full"), steps=200, progress=False)
    check_posterior(post)
