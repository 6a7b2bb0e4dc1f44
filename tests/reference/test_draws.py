"""Predictions by draws of the parameters: of the linearised network they agree with its closed form."""

import torch
from tests_support import some_numbers

import kokkiri as kk


def fitted(size=1):
    data = some_numbers(60)
    make = lambda: kk.networks.MLP(3, [6], 1, activation="tanh")
    recipe = kk.Laplace("full", size=size)
    return kk.fit(data, make, kk.Gaussian(), posterior=recipe, steps=300, batch=60, progress=False), some_numbers(20, 1)


def test_draws_of_the_linearised_network_have_its_moments():
    post, new = fitted(size=2)
    exact, drawn = kk.predict(post, new.x), kk.predict(post, new.x, draws=4000)
    spread = exact.epistemic.sqrt()
    assert ((drawn.mean - exact.mean).abs() < 6 * spread / 4000**0.5).all()  # six standard errors, twenty rows
    assert torch.allclose(drawn.epistemic / exact.epistemic, torch.ones(20, dtype=torch.float64), atol=0.2)
    assert torch.allclose(drawn.aleatoric, exact.aleatoric, rtol=0.05)


def test_one_draw_serves_all_rows():
    post, new = fitted()
    twice = torch.cat([new.x, new.x])
    outputs = kk.predict(post, twice, draws=5, seed=3).components.location
    assert torch.equal(outputs[:, :20], outputs[:, 20:])
    assert torch.equal(outputs[:, :20], kk.predict(post, new.x, draws=5, seed=3).components.location)


def test_draws_are_steps_from_the_centres():
    post, _ = fitted()
    replica, steps = post.steps(3, seed=1)
    herd = post.draw(3, seed=1)
    moved = torch.cat([t.flatten(1) if t.ndim > 1 else t[:, None] for t in herd.params.values()], 1)
    centre = torch.cat([t.reshape(len(t), -1) for t in post.herd.params.values()], 1)[replica]
    assert torch.allclose(moved, (centre + steps).float(), atol=1e-6)
