"""The examiner passes what is right and fails what is not."""

from dataclasses import replace

import pytest
import torch

import kokkiri as kk


@pytest.fixture(scope="module")
def linear():
    data = kk.read("concrete")
    train, test = data.rows(torch.arange(0, 900, 3)), data.rows(torch.arange(900, 1030))
    torch_net = lambda: kk.networks.MLP(data.inputs, [], 1)
    post = kk.fit(train, torch_net, kk.Gaussian(), posterior=kk.Laplace("full"), steps=2000, progress=False)
    return post, train, test


def passed(found):
    return {line.question: line.passed for line in found.lines}


def test_a_linear_model_passes_what_can_be_exact(linear):
    post, train, _ = linear
    found = passed(kk.check(post, train, simulations=30))
    assert found["curvature of one datum is exact"] is True
    assert found["the centre is a mode"] is True
    assert found["evidence obeys the chain rule"] is True
    assert found["simulated truths are covered"] is True


def test_a_centre_that_is_no_mode_is_told(linear):
    post, train, _ = linear
    off = {n: t + 0.3 for n, t in post.herd.params.items()}
    assert passed(kk.check(replace(post, herd=replace(post.herd, params=off)), train))["the centre is a mode"] is False


def test_intervals_that_are_too_narrow_are_told(linear):
    post, train, test = linear
    narrow = {n: t - 1.5 if n.endswith("log_scale") else t for n, t in post.herd.params.items()}
    sharp = replace(post, herd=replace(post.herd, params=narrow))
    assert passed(kk.check(sharp, train, test=test))["90 % intervals hold on test rows"] is False


@pytest.mark.slow
def test_hamiltonian_monte_carlo_agrees_with_an_exact_posterior(linear):
    post, train, test = linear
    few = test.rows(torch.arange(20))
    found = kk.check(post, train, test=few, hamiltonian=True)
    assert passed(found)["mean against Hamiltonian Monte Carlo"] is True
    assert passed(found)["spread against it"] is True
    assert "Hamiltonian" in str(found)
    assert all(len(line) <= 84 for line in str(found).splitlines())


def test_points_have_nothing_to_examine(linear):
    post, train, _ = linear
    with pytest.raises(kk.Unsupported, match="nothing to examine"):
        kk.check(replace(post, precision=()), train)


def test_draws_go_to_arviz(linear):
    arviz = pytest.importorskip("arviz")
    post, _, _ = linear
    found = kk.to_arviz(post, 50, seed=1)
    assert set(found.posterior.data_vars) == set(post.herd.params)
    assert found.posterior["output.weight"].shape[:2] == (1, 50)
    assert arviz is not None
