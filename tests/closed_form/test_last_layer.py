"""The last layer with its noise integrated out is the Student's t model of its features, and updates by Bayes' rule."""

import math
from dataclasses import replace

import pytest
import torch
from scipy import stats
from tests_support import data_of

import kokkiri as kk
from kokkiri.posteriors.last_layer import SHAPE, features


def rows(n, seed=0):
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 3, generator=g, dtype=torch.float64)
    y = torch.sin(x[:, 0]) + x[:, 1] * 0.3 + 0.2 * torch.randn(n, generator=g, dtype=torch.float64)
    return data_of(x, y)


def network():
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(3)
        return torch.nn.Sequential(torch.nn.Linear(3, 6), torch.nn.Tanh(), torch.nn.Linear(6, 1)).double()


def fitted(data):
    return kk.fit(data, network(), kk.Gaussian(), posterior=kk.LastLayer(), steps=20, patience=None, progress=False)


def same_features(post, data):
    """The posterior that the same features give with all of some rows."""
    raw = features(post.herd, 0, data)[0]
    assert raw.shape == (len(data), 7)
    return raw


def test_predictions_are_the_students_t_of_the_features():
    data, new = rows(40), rows(9, seed=1)
    post = fitted(data)
    phi, star = same_features(post, data), same_features(post, new)
    a, b = post.noise[0]
    weights = torch.cat([post.herd.params["2.weight"][0].reshape(-1), post.herd.params["2.bias"][0]])
    unit = post.precision[0].parts[0][1].dense() * (b / a)
    alpha = (unit - phi.T @ phi).diagonal()
    assert torch.allclose(alpha, alpha[0].expand_as(alpha), rtol=1e-8)  # one precision for all weights
    assert torch.allclose(unit @ weights, phi.T @ data.y, rtol=1e-9)
    assert math.isclose(a.item(), SHAPE + len(data) / 2, rel_tol=1e-12)
    said = kk.predict(post, new)
    scale = (b / a * (1 + (star @ torch.linalg.inv(unit) * star).sum(1))).sqrt()
    truth = stats.t(df=2 * a.item(), loc=(star @ weights).numpy(), scale=scale.numpy())
    assert torch.allclose(said.log_prob(new.y), torch.from_numpy(truth.logpdf(new.y.numpy())), rtol=1e-9)
    assert torch.allclose(said.variance, torch.from_numpy(truth.var()), rtol=1e-9)


def test_the_evidence_is_the_multivariate_t_density_of_the_targets():
    data = rows(25)
    post = fitted(data)
    phi = same_features(post, data)
    a, b = post.noise[0]
    unit = post.precision[0].parts[0][1].dense() * (b / a)
    alpha = (unit - phi.T @ phi).diagonal().mean()
    shape = torch.eye(len(data), dtype=torch.float64) + phi @ phi.T / alpha
    truth = stats.multivariate_t(shape=shape.numpy(), df=2 * SHAPE).logpdf(data.y.numpy())
    assert math.isclose(post.evidence.nats, truth, rel_tol=1e-9)


def test_an_update_is_the_whole_and_can_be_taken_back():
    data = rows(60)
    first, second = data.rows(torch.arange(35)), data.rows(torch.arange(35, 60))
    post = fitted(first)
    alpha_of = post.precision[0].parts[0][1].dense() * (post.noise[0, 1] / post.noise[0, 0])
    both = kk.update(post, second, progress=False)
    assert both.record.updates[0].exact
    phi = same_features(post, data)
    alpha = (alpha_of - same_features(post, first).T @ same_features(post, first)).diagonal().mean()
    unit = alpha * torch.eye(7, dtype=torch.float64) + phi.T @ phi
    mean = torch.linalg.solve(unit, phi.T @ data.y)
    got = torch.cat([both.herd.params["2.weight"][0].reshape(-1), both.herd.params["2.bias"][0]])
    assert torch.allclose(got, mean, atol=1e-10)
    rate = SHAPE + 0.5 * (data.y @ data.y - mean @ unit @ mean)
    assert math.isclose(both.noise[0, 1].item(), rate.item(), rel_tol=1e-10)
    back = kk.update(both, second, remove=True, progress=False)
    assert torch.allclose(back.noise, post.noise, rtol=1e-9)
    assert math.isclose(back.evidence.nats, post.evidence.nats, rel_tol=1e-9)
    for name, t in post.herd.params.items():
        assert torch.allclose(back.herd.params[name], t, atol=1e-9)


def test_other_likelihoods_are_refused():
    with pytest.raises(kk.Unsupported, match="one number with normal noise"):
        kk.fit(rows(20), network(), kk.StudentT(), posterior=kk.LastLayer(), steps=5, patience=None, progress=False)
    with pytest.raises(kk.Unsupported, match="no full update"):
        kk.update(fitted(rows(20)), rows(5, seed=2), level="full", progress=False)


def test_networks_that_do_not_end_in_a_linear_map_are_refused():
    net = torch.nn.Sequential(torch.nn.Linear(3, 1), torch.nn.Tanh()).double()
    with pytest.raises(kk.UsageError, match="does not end in a linear map"):
        kk.fit(rows(20), net, kk.Gaussian(), posterior=kk.LastLayer(), steps=5, patience=None, progress=False)


def test_a_mixture_weighs_its_networks_by_what_they_say_of_new_rows():
    data = rows(50)
    make = network
    post = kk.fit(data, make, kk.Gaussian(), posterior=kk.LastLayer(size=2), steps=10, patience=None, progress=False)
    assert len(post.herd) == 2
    new = rows(15, seed=5)
    learnt = kk.update(post, new, progress=False)
    each = torch.tensor([
        kk.update(
            replace(post, herd=post.herd[r], precision=(post.precision[r],), noise=post.noise[[r]],
                    log_weight=torch.zeros(1, dtype=torch.float64)), new, progress=False,
        ).record.updates[0].nats
        for r in range(2)
    ])  # fmt: skip
    assert torch.allclose(learnt.log_weight, torch.log_softmax(post.log_weight + each, 0), atol=1e-9)
