"""update against dense linear algebra in float64: Bayes' rule for linear models, and for linearised networks."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import optimize, stats
from tests_support import data_of
from torch import nn
from torch.func import functional_call, jacrev

import kokkiri as kk
from kokkiri.data.core import Target
from kokkiri.errors import NotPositiveDefinite, Unsupported
from kokkiri.posteriors import updating
from kokkiri.training.flat import flatten, layout

SIGMA = 0.4
EXACT = kk.Laplace("full", tune="never")


def rows(n, seed=0, width=3, dtype=torch.float64):
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(n, width, generator=g, dtype=torch.float64)
    y = torch.sin(2 * x[:, 0]) + 0.5 * x[:, 1] + SIGMA * torch.randn(n, generator=g, dtype=torch.float64)
    data = data_of(x.to(dtype), 2 + 3 * y)
    return replace(data, target=Target("y", "number", (), 2.0, 3.0))


def cut(data, *sizes):
    """The data in consecutive batches."""
    edges = np.cumsum([0, *sizes])
    assert edges[-1] == len(data)
    return [data.rows(torch.arange(a, b)) for a, b in itertools.pairwise(edges)]


def linear(width=3):
    torch.manual_seed(0)
    return nn.Linear(width, 1).double()


def mlp(outputs=1, seed=1):
    if seed is not None:
        torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, outputs)).double()


def fit(data, network, likelihood=None, posterior=EXACT, steps=300, **more):
    likelihood = likelihood or kk.Gaussian(SIGMA, learn=False)
    more = {"patience": None, "batch": len(data), "progress": False, **more}
    return kk.fit(data, network, likelihood, posterior=posterior, steps=steps, **more)


def update(post, data, **more):
    return kk.update(post, data, progress=False, **more)


def flat(herd):
    return flatten(herd.params, layout(herd.params)).double()


def dense_of(post, r=0):
    return post.precision[r].dense().double()


def z_of(data):
    """The targets in the network's units."""
    return (data.y - data.target.shift) / data.target.scale


def evidence_of(f, j, precision, data):
    """log N(z | f, σ² + J H⁻¹ Jᵀ), in the units of y."""
    cover = j @ torch.linalg.solve(precision, j.T) + SIGMA**2 * torch.eye(len(j), dtype=torch.float64)
    normal = stats.multivariate_normal(f.numpy(), cover.numpy())
    return normal.logpdf(z_of(data).numpy()) - len(data) * math.log(data.target.scale)


def outputs_and_jacobian(post, x, r=0):
    """f (N, C) and J (N, C, P) of a replica where it is linearised, by automatic differentiation."""
    module = post.herd.module(r)
    own = {n: p.detach() for n, p in module.named_parameters()}
    run = lambda params: functional_call(module, params, (x,))
    j = jacrev(run)(own)
    where = layout(post.herd.params)
    names = [n for n in where.names if n in own]
    return run(own).detach(), torch.cat([j[n].flatten(2) for n in names], 2)


def same_posterior(one, other, new, tolerance=1e-8):
    assert torch.allclose(flat(one.herd), flat(other.herd), rtol=tolerance, atol=tolerance)
    for r in range(len(one.herd)):
        assert torch.allclose(dense_of(one, r), dense_of(other, r), rtol=tolerance, atol=tolerance)
    assert torch.allclose(one.log_weight, other.log_weight, atol=tolerance)
    a, b = kk.predict(one, new), kk.predict(other, new)
    assert torch.allclose(a.mean, b.mean, rtol=tolerance, atol=tolerance)
    assert torch.allclose(a.epistemic, b.epistemic, rtol=tolerance, atol=tolerance)
    assert torch.allclose(a.log_prob(new.y), b.log_prob(new.y), rtol=tolerance, atol=tolerance)
    assert one.evidence.nats == pytest.approx(other.evidence.nats, abs=tolerance)
    assert one.evidence.rows == other.evidence.rows


# what is exact


def test_updating_a_linear_model_with_new_rows_is_fitting_all_rows_at_once():
    data, new = rows(90), rows(20, seed=1)
    a, b = cut(data, 60, 30)
    updated = update(fit(a, linear()), b)
    assert updated.record.updates[0].level == "exact"
    assert updated.record.updates[0].exact
    same_posterior(updated, fit(data, linear()), new)


def test_the_posterior_of_a_linear_model_is_the_textbooks():
    data, new = rows(50), rows(10, seed=1)
    post = fit(data, linear())
    x = torch.cat([data.batch(torch.arange(50)).x, torch.ones(50, 1, dtype=torch.float64)], 1)
    precision = torch.eye(4, dtype=torch.float64) + x.T @ x / SIGMA**2
    mean = torch.linalg.solve(precision, x.T @ z_of(data) / SIGMA**2)
    assert torch.allclose(flat(post.herd)[0], mean, atol=1e-9)
    assert torch.allclose(dense_of(post), precision, rtol=1e-12)
    prior = torch.eye(4, dtype=torch.float64)
    assert post.evidence.nats == pytest.approx(evidence_of(torch.zeros(50), x, prior, data), abs=1e-8)
    assert post.evidence.exact
    assert post.record.posterior.startswith("exact")
    x = torch.cat([new.batch(torch.arange(10)).x, torch.ones(10, 1, dtype=torch.float64)], 1)
    said = kk.predict(post, new)
    assert torch.allclose(said.mean, 2 + 3 * x @ mean, atol=1e-8)
    epistemic = 9 * ((x @ torch.linalg.inv(precision)) * x).sum(1)
    assert torch.allclose(said.epistemic, epistemic, rtol=1e-8)
    assert torch.allclose(said.aleatoric, torch.full_like(epistemic, 9 * SIGMA**2), rtol=1e-8)


def test_the_evidence_is_chained():
    a, b = cut(rows(90), 60, 30)
    first = fit(a, linear())
    x = torch.cat([b.batch(torch.arange(30)).x, torch.ones(30, 1, dtype=torch.float64)], 1)
    entry = update(first, b).record.updates[0]
    assert entry.nats == pytest.approx(evidence_of(x @ flat(first.herd)[0], x, dense_of(first), b), abs=1e-8)
    whole = fit(rows(90), linear()).evidence.nats
    assert first.evidence.nats + entry.nats == pytest.approx(whole, abs=1e-8)


def test_the_order_of_the_batches_does_not_matter():
    first, *batches = cut(rows(100), 20, 30, 10, 40)
    post, new = fit(first, linear()), rows(20, seed=1)
    ends = []
    for order in ([0, 1, 2], [2, 0, 1], [1, 2, 0]):
        learnt = post
        for k in order:
            learnt = update(learnt, batches[k])
        ends.append(learnt)
    same_posterior(ends[0], ends[1], new)
    same_posterior(ends[0], ends[2], new)


def test_ten_batches_are_the_whole():
    data, new = rows(110), rows(20, seed=1)
    first, *batches = cut(data, *[10] * 11)
    post = fit(first, linear())
    for batch in batches:
        post = update(post, batch)
    assert len(post.record.updates) == 10
    assert post.evidence.rows == 110
    same_posterior(post, fit(data, linear()), new)


def test_a_row_at_a_time_is_the_whole():
    data, new = rows(36), rows(20, seed=1)
    first, *single = cut(data, 30, *[1] * 6)
    post = fit(first, linear())
    for row in single:
        post = update(post, row)
    same_posterior(post, fit(data, linear()), new)


def test_fewer_rows_than_parameters_are_exact_too():
    data, new = rows(40, width=60), rows(10, seed=1, width=60)
    a, b, c = cut(data, 8, 12, 20)
    post = fit(a, linear(60), steps=2000)
    assert type(post.precision[0].parts[0][1]).__name__ == "LowRank"
    post = update(update(post, b), c)
    assert [u.level for u in post.record.updates] == ["exact", "exact"]
    same_posterior(post, fit(data, linear(60), steps=2000), new)


@pytest.mark.parametrize("structure", ["diagonal", "kronecker", "ekfac", "low-rank"])
def test_what_leaves_part_of_the_matrix_out_is_not_called_exact(structure):
    a, b = cut(rows(90), 60, 30)
    post = fit(a, nn.Sequential(linear()), posterior=kk.Laplace(structure, tune="never"))
    if structure == "low-rank":  # of four parameters, one direction
        post = fit(a, linear(), posterior=kk.Laplace(kk.curvature.TopEigen(1), tune="never"))
    assert post.record.posterior.startswith("approximate")
    assert not post.evidence.exact
    assert update(post, b).record.updates[0].level == "local"
    with pytest.raises(Unsupported, match="no exact update"):
        update(post, b, level="exact")
    with pytest.raises(Unsupported, match="removed exactly or not at all"):
        update(post, a, remove=True)


def test_removing_rows_undoes_learning_them():
    data, new = rows(90), rows(20, seed=1)
    a, b = cut(data, 60, 30)
    before = fit(a, linear())
    after = update(update(before, b), b, remove=True)
    same_posterior(after, before, new)
    assert [u.removed for u in after.record.updates] == [False, True]
    same_posterior(update(after, b), fit(data, linear()), new)  # and they may be learnt again


def test_rows_of_the_fit_can_be_taken_out():
    data, new = rows(90), rows(20, seed=1)
    keep, out = cut(data, 70, 20)
    less = update(fit(data, linear()), out, remove=True)
    same_posterior(less, fit(keep, linear()), new)
    assert any("no batch of the record's" in note for note in less.record.notes)


def test_rows_that_were_never_learnt_cannot_be_removed():
    strange = rows(5, seed=3)
    strange = replace(strange, raw={"x": 1000 * strange.raw["x"]})
    with pytest.raises(NotPositiveDefinite, match="cannot forget these rows") as error:
        update(fit(rows(30), linear()), strange, remove=True)
    assert str(error.value).count("\n") == 3


def test_a_last_layer_with_known_noise_is_exact():
    data, new = rows(100), rows(20, seed=1)
    a, b = cut(data, 60, 40)
    post = fit(a, mlp(), posterior=kk.Laplace("full", layers="last", tune="never"), steps=500)
    updated = update(post, b)
    assert post.record.posterior.startswith("exact for layers last, given the features")
    assert not post.evidence.exact
    assert updated.record.updates[0].level == "exact"
    features = lambda d: torch.cat([
        post.herd.module()[:2](d.batch(torch.arange(len(d))).x).detach(), torch.ones(len(d), 1, dtype=torch.float64)
    ], 1)  # fmt: skip
    phi = features(data)
    precision = torch.eye(5, dtype=torch.float64) + phi.T @ phi / SIGMA**2
    mean = torch.linalg.solve(precision, phi.T @ z_of(data) / SIGMA**2)
    head = torch.cat([updated.herd.params["2.weight"].flatten(), updated.herd.params["2.bias"].flatten()])
    assert torch.allclose(head, mean, atol=1e-8)
    for name in ("0.weight", "0.bias"):
        assert torch.equal(updated.herd.params[name], post.herd.params[name])
    said, phi = kk.predict(updated, new), features(new)
    assert torch.allclose(said.mean, 2 + 3 * phi @ mean, atol=1e-8)
    assert torch.allclose(said.epistemic, 9 * (phi @ torch.linalg.inv(precision) * phi).sum(1), rtol=1e-8)


def test_the_weights_of_a_mixture_follow_bayes_rule():
    a, b = cut(rows(100), 60, 40)
    recipe = kk.Laplace("full", layers="last", tune="never", size=3, weights="evidence")
    post = fit(a, lambda: mlp(seed=None), posterior=recipe, steps=100)
    updated = update(post, b)
    each = []
    for r in range(3):
        f, j = outputs_and_jacobian(post, b.batch(torch.arange(40)).x, r)
        head = post.precision[r].free
        h = post.precision[r].parts[0][1].dense()
        each.append(evidence_of(f[:, 0], j[:, 0][:, head], h, b))
    each = torch.tensor(each)
    assert each.std() > 0.01
    assert torch.allclose(updated.log_weight, torch.log_softmax(post.log_weight + each, 0), atol=1e-8)
    chained = torch.logsumexp(post.log_weight + each, 0)
    assert updated.record.updates[0].nats == pytest.approx(chained.item(), abs=1e-8)
    joint = kk.predict(post, b).log_prob(b.y).sum()  # row by row, not together: another number
    assert not math.isclose(joint, chained, abs_tol=1e-3)


def test_every_batch_leaves_less_to_be_known():
    first, *batches = cut(rows(100), 20, 20, 20, 40)
    new, post = rows(30, seed=1), fit(rows(100).rows(torch.arange(20)), linear())
    spread = kk.predict(post, new).epistemic
    for batch in batches:
        post = update(post, batch)
        less = kk.predict(post, new).epistemic
        assert (less < spread).all()
        spread = less
    assert len(first) == 20


# the local level


@pytest.fixture
def far(monkeypatch):
    """The place of linearisation stays where it is, however near the mean."""
    monkeypatch.setattr(updating, "GAP", -1.0)


@pytest.mark.usefixtures("far")
def test_a_local_update_is_bayes_rule_in_the_linearised_network():
    a, b, c = cut(rows(110), 60, 30, 20)
    post = fit(a, mlp(), steps=500)
    assert update(post, b).record.updates[0].level == "local"
    learnt = update(update(post, b), c)
    both = rows(110).rows(torch.arange(60, 110))
    f, j = (t[:, 0] for t in outputs_and_jacobian(post, both.batch(torch.arange(50)).x))
    precision = dense_of(post) + j.T @ j / SIGMA**2
    step = torch.linalg.solve(precision, j.T @ (z_of(both) - f) / SIGMA**2)
    assert torch.equal(flat(learnt.herd), flat(post.herd))
    assert torch.allclose(learnt.offset[0], step, atol=1e-8)
    assert torch.allclose(dense_of(learnt), precision, rtol=1e-8)
    nats = sum(u.nats for u in learnt.record.updates)
    assert nats == pytest.approx(evidence_of(f, j, dense_of(post), both), abs=1e-8)
    for some in (a, rows(20, seed=1)):  # what it says of old rows moves as far as the linear model says
        f, j = (t[:, 0] for t in outputs_and_jacobian(post, some.batch(torch.arange(len(some))).x))
        said = kk.predict(learnt, some)
        assert torch.allclose(said.mean, 2 + 3 * (f + j @ step), atol=1e-8)
        assert torch.allclose(said.epistemic, 9 * (j @ torch.linalg.inv(precision) * j).sum(1), rtol=1e-7)


@pytest.mark.usefixtures("far")
def test_draws_of_a_moved_posterior_are_around_its_mean():
    a, b = cut(rows(90), 60, 30)
    learnt = update(fit(a, mlp(), steps=500), b)
    drawn = flat(learnt.draw(4000, seed=0))
    mean = flat(learnt.herd)[0] + learnt.offset[0]
    cover = torch.linalg.inv(dense_of(learnt))
    z = (drawn.mean(0) - mean) / (cover.diagonal() / 4000).sqrt()
    assert z.square().sum() < stats.chi2.ppf(1 - 1e-6, len(mean)) * 3  # correlated: at most so many times over
    centred = drawn - drawn.mean(0)
    square = (centred @ dense_of(learnt) * centred).sum()
    assert stats.chi2.sf(square, 3999 * len(mean)) > 1e-6
    assert stats.chi2.cdf(square, 3999 * len(mean)) > 1e-6


def test_a_mean_that_hardly_moves_takes_the_place_of_linearisation_along():
    a, b = cut(rows(63), 60, 3)
    post = fit(a, mlp(), steps=500)
    learnt = update(post, b)
    entry = learnt.record.updates[0]
    assert abs(entry.gap) <= updating.GAP
    assert learnt.offset is None
    f, j = (t[:, 0] for t in outputs_and_jacobian(post, b.batch(torch.arange(3)).x))
    precision = dense_of(post) + j.T @ j / SIGMA**2
    step = torch.linalg.solve(precision, j.T @ (z_of(b) - f) / SIGMA**2)
    assert torch.allclose(flat(learnt.herd)[0], flat(post.herd)[0] + step, atol=1e-8)


def test_the_gap_is_what_the_network_itself_would_say_less():
    a, b = cut(rows(90), 60, 30)
    post = fit(a, mlp(), steps=500)
    learnt = update(post, b)
    offset = torch.zeros(21, dtype=torch.float64) if learnt.offset is None else learnt.offset[0]
    where = layout(post.herd.params)
    theta = flat(learnt.herd)[0] + offset
    there = replace(post.herd, params={n: t.clone() for n, t in where.views(theta[None]).items()})
    f, j = (t[:, 0] for t in outputs_and_jacobian(post, b.batch(torch.arange(30)).x))
    gaussian = torch.distributions.Normal(f + j @ (theta - flat(post.herd)[0]), SIGMA)
    itself = torch.distributions.Normal(there(b.batch(torch.arange(30)).x)[0, :, 0], SIGMA)
    gap = (gaussian.log_prob(z_of(b)) - itself.log_prob(z_of(b))).sum()
    assert learnt.record.updates[0].gap == pytest.approx(gap.item(), abs=1e-8)


def classes(n, k, seed=0):
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 3, generator=g, dtype=torch.float64)
    score = torch.stack([x[:, 0], x[:, 1] - x[:, 0] ** 2, x[:, 2]], 1)[:, :k]
    y = torch.multinomial((2 * score).softmax(1), 1, generator=g)[:, 0]
    return data_of(x, y, "category", tuple("abc"[:k]))


@pytest.mark.usefixtures("far")
@pytest.mark.parametrize(("likelihood", "k", "outputs"), [(kk.Bernoulli(), 2, 1), (kk.Categorical(), 3, 3)])
def test_a_local_update_with_classes_is_at_the_mode_of_the_linearised_log_joint(likelihood, k, outputs):
    a, b = cut(classes(110, k), 70, 40)
    post = fit(a, mlp(outputs), likelihood, steps=500)
    learnt = update(post, b)
    f, j = outputs_and_jacobian(post, b.batch(torch.arange(40)).x)
    h = dense_of(post)

    def value(step):
        step = torch.tensor(step, dtype=torch.float64, requires_grad=True)
        total = -likelihood.log_prob(f + j @ step, b.y).sum() + 0.5 * step @ h @ step
        return total.item(), torch.autograd.grad(total, step)[0].numpy()

    best = optimize.minimize(value, np.zeros(len(h)), jac=True, method="BFGS", options={"gtol": 1e-9})
    mode = torch.tensor(best.x)
    spread = torch.linalg.inv(h).diagonal().sqrt()
    assert ((learnt.offset[0] - mode) / spread).abs().max() < 0.02  # it stops where a hundredth of a nat is left
    at = learnt.offset[0]
    precision = h + torch.einsum("ncp,ncd,ndq->pq", j, likelihood.curvature(f + j @ at), j)
    assert torch.allclose(dense_of(learnt), precision, rtol=1e-7, atol=1e-7)
    joint = likelihood.log_prob(f + j @ at, b.y).sum() - 0.5 * at @ h @ at + 0.5 * torch.logdet(h)
    nats = joint - 0.5 * torch.logdet(precision)
    assert learnt.record.updates[0].nats == pytest.approx(nats.item(), abs=1e-7)


@pytest.mark.usefixtures("far")
def test_a_noise_that_is_learnt_moves_with_the_weights_to_the_mode_of_both():
    a, b = cut(rows(110), 70, 40)
    b = replace(b, y=b.y + 3 * torch.randn(40, generator=torch.Generator().manual_seed(5), dtype=torch.float64))
    post = fit(a, mlp(), kk.Gaussian(0.5), kk.Laplace("full", tune="never"), steps=1500)
    learnt = update(post, b)
    f, j = (t[:, 0] for t in outputs_and_jacobian(post, b.batch(torch.arange(40)).x))
    h, size = dense_of(post), len(dense_of(post)) - 1
    start = post.herd.params["likelihood.log_scale"].item()

    def value(step):
        step = torch.tensor(step, dtype=torch.float64, requires_grad=True)
        normal = torch.distributions.Normal(f + j @ step[:size], (start + step[size]).exp())
        total = -normal.log_prob(z_of(b)).sum() + 0.5 * step @ h @ step
        return total.item(), torch.autograd.grad(total, step)[0].numpy()

    best = optimize.minimize(value, np.zeros(size + 1), jac=True, method="BFGS", options={"gtol": 1e-9})
    moved = learnt.herd.params["likelihood.log_scale"].item() - start
    assert moved > 0.1  # the new rows are noisier
    assert moved == pytest.approx(best.x[size], abs=0.02)
    spread = torch.linalg.inv(h).diagonal().sqrt()[:size]
    assert ((learnt.offset[0][:size] - torch.tensor(best.x[:size])) / spread).abs().max() < 0.05
    assert learnt.offset[0][size] == 0  # the noise is where it is said to be


@pytest.mark.parametrize("structure", ["kronecker", "ekfac", "diagonal"])
def test_local_updates_in_every_structure_raise_the_joint_and_keep_the_old_rows(structure):
    a, b = cut(rows(400), 300, 100)
    post = fit(a, mlp(), posterior=kk.Laplace(structure, tune="never"), steps=1500)
    shifted = replace(b, y=b.y + 6)  # another world: the new rows pull
    learnt = update(post, shifted)
    before, after = (kk.predict(p, shifted).log_prob(shifted.y).mean() for p in (post, learnt))
    assert after > before + 0.1
    plain = fit(shifted, post.herd.module(), posterior=kk.Point(), steps=300)
    kept, lost = (kk.predict(p, a).log_prob(a.y).mean() for p in (learnt, plain))
    assert kept > lost + 0.1


# the full level


@pytest.mark.parametrize("structure", ["full", "kronecker", "ekfac", "diagonal", "low-rank"])
@pytest.mark.parametrize("layers", [None, "last"])
def test_the_gradient_of_a_remembered_posterior_is_that_of_its_log_density(structure, layers):
    a, b = cut(rows(90), 60, 30)
    post = fit(a, mlp(), posterior=kk.Laplace(structure, layers=layers, tune="never"), steps=200)
    post = update(post, b, level="local")  # two Kronecker products, kept apart
    where = layout(post.herd.params)
    belief = updating.Remembered(flat(post.herd)[0], post.precision[0], where)
    g = torch.Generator().manual_seed(0)
    herd = {n: torch.randn(3, *t.shape[1:], generator=g, dtype=torch.float64) for n, t in post.herd.params.items()}
    together = belief.gradient(herd, {})
    for r in range(3):
        one = {n: t[r].clone().requires_grad_() for n, t in herd.items()}
        slopes = torch.autograd.grad(belief.log_prob(one, {}), list(one.values()), allow_unused=True)
        alone = belief.gradient({n: t.detach() for n, t in one.items()}, {})
        for (name, t), slope in zip(one.items(), slopes, strict=True):
            wanted = torch.zeros_like(t) if slope is None else slope
            assert torch.allclose(alone[name], wanted, rtol=1e-10, atol=1e-10), name
            assert torch.allclose(together[name][r], wanted, rtol=1e-10, atol=1e-10), name
    held = [n for n in where.names if n.startswith("0.")]
    assert all(bool((together[n] == 0).all()) for n in held) == (layers == "last")


@pytest.mark.parametrize("structure", ["full", "kronecker"])
def test_a_remembered_posterior_is_a_density(structure):
    post = fit(rows(60), linear(), posterior=kk.Laplace(structure, tune="never"))
    belief = updating.Remembered(flat(post.herd)[0], post.precision[0], layout(post.herd.params))
    precision = dense_of(post)
    normal = stats.multivariate_normal(flat(post.herd)[0].numpy(), torch.linalg.inv(precision).numpy())
    theta = flat(post.herd)[0] + 0.1
    params = {n: t[0] for n, t in layout(post.herd.params).views(theta[None]).items()}
    assert belief.log_prob(params, {}).item() == pytest.approx(normal.logpdf(theta.numpy()), abs=1e-6)


def test_the_full_level_descends_to_bayes_rule_where_that_is_known():
    data, new = rows(90), rows(20, seed=1)
    a, b = cut(data, 60, 30)
    post = fit(a, linear())
    learnt = update(post, b, level="full", optimizer=kk.Adam(lr=1e-2), steps=6000, batch=30)
    assert learnt.record.updates[0].level == "full"
    assert not learnt.record.updates[0].exact
    same_posterior(learnt, fit(data, linear()), new, tolerance=1e-4)


def test_steps_or_an_optimizer_ask_for_the_full_level_and_it_is_a_function_of_its_seed():
    a, b = cut(rows(90), 60, 30)
    post = fit(a, mlp(), steps=300)
    state = torch.get_rng_state()
    one, again, other = (update(post, b, steps=50, batch=10, seed=s) for s in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    assert one.record.updates[0].level == "full"
    assert torch.equal(flat(one.herd), flat(again.herd))
    assert not torch.equal(flat(one.herd), flat(other.herd))


def test_the_full_level_keeps_to_the_old_posterior_where_new_rows_say_nothing():
    a = rows(60)
    post = fit(a, mlp(), posterior=kk.Laplace("full", tune="never"), steps=3000)
    one = replace(a.rows(torch.arange(1)), y=kk.predict(post, a.rows(torch.arange(1))).mean)  # as it is expected
    learnt = update(post, one, level="full", steps=300)
    spread = torch.linalg.inv(dense_of(post)).diagonal().sqrt()
    assert ((flat(learnt.herd) - flat(post.herd))[0] / spread).abs().max() < 0.05
