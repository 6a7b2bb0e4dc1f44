"""Checks that whoever writes a block of their own can run on it; kokkiri's own blocks pass the same ones.

Each raises AssertionError, saying what was to hold and what was found. Stochastic claims fail by chance once in a
million.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call, grad, hessian, jvp, vmap

from kokkiri.numerics.random import generator
from kokkiri.posteriors.linearised import output_moments
from kokkiri.training.flat import flatten, layout
from kokkiri.types import Likelihood, Params, Predictive
from kokkiri.verbs import predict

_P_VALUE = 1e-6
_ROWS = 5


def check_likelihood(likelihood: Likelihood, *, classes: int = 0, seed: int = 0) -> None:
    """Whether a likelihood of one target keeps its promises, at random outputs in float64.

    It sums or integrates to one; its curvature is E[score scoreᵀ], the Fisher information; log_prob can be lifted by
    torch.func.vmap and differentiated; binding its initial parameters changes nothing, and other ones change replicas
    alone; `check` takes what it draws; float32 outputs of ±100 give finite values and gradients; its predictive is the
    mixture of it over draws, and passes `check_predictive`. classes: how many the target has, 0 for values and counts.

    >>> from kokkiri.likelihoods import Poisson
    >>> check_likelihood(Poisson())
    """
    rng = generator(seed, "check_likelihood")
    width = likelihood.outputs(classes or 1)
    output = torch.randn(_ROWS, width, generator=rng, dtype=torch.float64)
    support, mass = _support(likelihood, output, classes)
    log_p = torch.stack([likelihood.log_prob(output, y) for y in support])
    _equal("log_prob sums or integrates to one", (mass * log_p.exp()).sum(0), torch.ones(_ROWS), 1e-7)

    one = lambda f, y: likelihood.log_prob(f[None], y[None])[0]
    score = vmap(vmap(grad(one)), (None, 0))(output, support)
    fisher = torch.einsum("nb,nbi,nbj->bij", mass * log_p.exp(), score, score)
    _equal("curvature is the Fisher information", likelihood.curvature(output), fisher, 1e-6)

    y = likelihood.predictive(output[None]).sample(1, seed=seed)[0]
    likelihood.check(y, width)
    leaf = output.clone().requires_grad_()
    likelihood.log_prob(leaf, y).sum().backward()
    _equal("vmap(grad) is the gradient", vmap(grad(one))(output, y), leaf.grad, 1e-10)
    _check_parameters(likelihood, output, y, rng)
    for extreme in (-100.0, 100.0):
        far = torch.full((_ROWS, width), extreme).requires_grad_()
        value = likelihood.log_prob(far, y.double() if y.is_floating_point() else y)
        value.sum().backward()
        _must(value.dtype == torch.float32, "log_prob keeps the dtype of the output", value.dtype)
        _must(bool(value.isfinite().all()), f"log_prob is finite at {extreme}", value)
        _must(
            bool(far.grad is not None and far.grad.isfinite().all()), f"its gradient is finite at {extreme}", far.grad
        )

    outputs = torch.randn(3, _ROWS, width, generator=rng, dtype=torch.float64)
    weights = torch.randn(3, generator=rng, dtype=torch.float64)
    prediction = likelihood.predictive(outputs, weights)
    each = torch.stack([likelihood.log_prob(f, y) for f in outputs])
    mixed = torch.logsumexp(each + torch.log_softmax(weights, 0)[:, None], 0)
    _equal("the predictive is the mixture over draws", prediction.log_prob(y), mixed, 1e-8)
    check_predictive(prediction, discrete=likelihood.discrete, seed=seed)


def check_predictive(predictive: Predictive, *, discrete: bool, seed: int = 0, n: int = 4000) -> None:
    """Whether the parts of a prediction fit together.

    variance = aleatoric + epistemic; samples follow quantile (values) or log_prob (counts, classes: one target), are a
    function of the seed, and leave the global generator alone; the density integrates to q2 - q1 between quantiles;
    `interval` is the central one.

    >>> from kokkiri.likelihoods import Categorical
    >>> check_predictive(Categorical().predictive(torch.zeros(2, 4, 3)), discrete=True)
    """
    _equal("variance = aleatoric + epistemic", predictive.variance, predictive.aleatoric + predictive.epistemic, 1e-10)
    before = torch.get_rng_state()
    sample, again = (predictive.sample(n, seed=seed) for _ in range(2))
    _must(torch.equal(sample, again), "sample is a function of its seed", "two different samples")
    _must(not torch.equal(sample, predictive.sample(n, seed=seed + 1)), "another seed, another sample", "the same one")
    _must(torch.equal(before, torch.get_rng_state()), "torch's global generator is left alone", "another state")
    if discrete:
        _check_frequencies(predictive, sample)
    else:
        _check_quantiles(predictive, sample)


def check_posterior(post: Any, x: Any = None, *, seed: int = 0) -> None:
    """Whether a posterior keeps its promises. x: some encoded rows; drawn from N(0, 1) where none are given.

    A draw is a herd of as many models as were asked for, with the names and shapes of the posterior's own, a function
    of the seed, and leaves the global generators of torch and numpy alone; points are drawn as often as their weights
    say; the density integrates to one (up to 300 parameters that vary); predictions pass `check_predictive`; where they
    linearise the network, their variance is that of drawn linear models.

    >>> import kokkiri as kk
    >>> data = kk.read("breast-cancer")
    >>> net = kk.networks.MLP(data.inputs, [2], 1)
    >>> check_posterior(kk.fit(data, net, kk.Bernoulli(), posterior=kk.Laplace(), steps=50, progress=False))
    """
    some = next(iter(post.herd.params.values()))
    if x is None:
        x = torch.randn(_ROWS, *post.form.inputs.shape, generator=generator(seed, "check_posterior"), dtype=some.dtype)
    _check_draws(post, seed)
    if getattr(post, "precision", ()):
        fixed = any(len(p.free) < layout(post.herd.params).size for p in post.precision)
        for one in [_component(post, r) for r in range(len(post.herd))] if fixed else [post]:
            _check_density(one, seed)
    else:
        _check_frequencies_of_points(post, seed)
    check_predictive(predict(post, x), discrete=post.likelihood.discrete, seed=seed)
    if getattr(post, "linear", False):
        _check_linear_variance(post, x, seed)


def _check_draws(post: Any, seed: int) -> None:
    before, other = torch.get_rng_state(), np.random.get_state(legacy=False)  # ruff: ignore[numpy-legacy-random]
    one, again, another = (post.draw(3, seed=s) for s in (seed, seed, seed + 1))
    _must(torch.equal(before, torch.get_rng_state()), "torch's global generator is left alone", "another state")
    after = np.random.get_state(legacy=False)  # ruff: ignore[numpy-legacy-random] - to see that nothing used it
    same = other["state"]["pos"] == after["state"]["pos"] and bool(
        (other["state"]["key"] == after["state"]["key"]).all()
    )
    _must(same, "numpy's global generator is left alone", "another state")
    _must(len(one) == 3, "draw(3) is a herd of three", len(one))
    _must(len(post.draw(1, seed=seed)) == 1, "draw(1) is a herd of one", len(post.draw(1, seed=seed)))
    shapes = lambda tree: {name: (3, *t.shape[1:]) for name, t in tree.items()}
    same = shapes(one.params) == shapes(post.herd.params)
    _must(same, "a draw has the posterior's names and shapes", shapes(one.params))
    same = shapes(post.herd.buffers).items() <= shapes(one.buffers).items()  # of its own it may have more
    _must(same, "a draw has the posterior's buffers", shapes(one.buffers))
    for name, t in one.params.items():
        _must(t.dtype == post.herd.params[name].dtype, f"a draw of {name} keeps its dtype", t.dtype)
        _must(bool(t.isfinite().all()), f"a draw of {name} is finite", t)
        _must(torch.equal(t, again.params[name]), "a draw is a function of its seed", f"another {name}")
    if getattr(post, "precision", ()):
        differs = any(not torch.equal(t, another.params[name]) for name, t in one.params.items())
        _must(differs, "another seed, another draw", "the same one")


def _check_frequencies_of_points(post: Any, seed: int, n: int = 2000) -> None:
    """Where every draw is one of the points; dropout and the like have more."""
    flat = lambda herd: torch.cat([t.reshape(len(t), -1) for t in herd.params.values()], 1)
    points, weights = flat(post.herd), getattr(post, "log_weight", None)
    if weights is None or getattr(post, "draws", ""):
        return
    nearest = (flat(post.draw(n, seed=seed))[:, None] == points).all(2)
    _must(bool(nearest.any(1).all()), "a draw is one of the points", "another one")
    kinds = nearest.double() / nearest.sum(1, keepdim=True)  # points that are equal share
    expected = n * weights.exp()
    often = expected >= 5  # the usual least expectation of a chi-square cell
    square = ((kinds.sum(0) - expected)[often] ** 2 / expected[often]).sum()
    p_value = _chi_square(square, max(int(often.sum()) - 1, 1)).item()
    _must(p_value > _P_VALUE, "points are drawn by weight", f"p-value {p_value:.1e}")


def _check_density(post: Any, seed: int, n: int = 500) -> None:
    """E[q / p] = 1 over draws from p, for q a narrower normal at one of its peaks."""
    where = layout(post.herd.params)
    drawn = flatten(post.draw(n, seed=seed).params, where).double()
    free = (drawn.std(0) > 0).nonzero()[:, 0]
    if not 0 < len(free) <= 300:
        return

    def log_p(theta: Tensor, rest: Tensor) -> Tensor:
        whole = rest.index_put((free,), theta)
        return post.log_prob({name: t[0] for name, t in where.views(whole[None]).items()})

    said = torch.stack([log_p(row[free], row) for row in drawn])
    peak = drawn[said.argmax()]
    precision = -hessian(log_p)(peak[free], peak) / 0.9
    centre = peak[free] + torch.linalg.solve(0.9 * precision, grad(log_p)(peak[free], peak))
    offset = drawn[:, free] - centre
    log_q = 0.5 * (torch.logdet(precision) - len(free) * np.log(2 * np.pi) - (offset @ precision * offset).sum(1))
    ratio = (log_q - said).exp()
    z = (ratio.mean() - 1) / (ratio.std() / n**0.5)
    p_value = torch.special.erfc(z.abs() / 2**0.5).item()
    _must(p_value > _P_VALUE, "the density integrates to one", f"{ratio.mean():.3f}, p-value {p_value:.1e}")


def _check_linear_variance(post: Any, x: Any, seed: int, n: int = 1000) -> None:
    """Of each component: f + J (θ - θ_r) at draws of θ, against the moments that predictions are made of."""
    mean, covariance = output_moments(post.herd, post.precision, x, post.offset)
    variance = covariance.diagonal(dim1=2, dim2=3) if covariance.ndim == 4 else covariance
    where = layout(post.herd.params)
    for r in range(len(post.herd)):
        one = _component(post, r)
        drawn = flatten(one.draw(n, seed=seed).params, where).double()
        module = post.herd.module(r).double()
        start = {name: p.detach() for name, p in module.named_parameters() if name in where.names}
        rows = x.double() if x.is_floating_point() else x
        run = lambda own, module=module, rows=rows: functional_call(module, own, (rows,))
        views = where.views(drawn - flatten(one.herd.params, where).double())
        along = vmap(lambda step, run=run, start=start: jvp(run, (start,), (step,)))
        outputs = torch.stack(along({name: views[name] for name in start})).sum(0)  # (n, B, C)
        square = ((outputs - outputs.mean(0)) ** 2).sum(0) / variance[r].clamp(min=1e-300)
        p_value = torch.minimum(_chi_square(square, n - 1), 1 - _chi_square(square, n - 1)).min().item()
        many = square.numel() * len(post.herd)
        _must(p_value * many > _P_VALUE, "predictions vary as drawn linear models do", f"p-value {p_value:.1e}")
        z = (outputs.mean(0) - mean[r]) / (variance[r] / n).sqrt().clamp(min=1e-300)
        p_value = torch.special.erfc(z.abs().max() / 2**0.5).item()
        _must(p_value * many > _P_VALUE, "predictions are where drawn linear models are", f"p-value {p_value:.1e}")


def _component(post: Any, r: int) -> Any:
    """One Gaussian of a mixture."""
    offset = None if post.offset is None else post.offset[r : r + 1]
    noise = None if post.noise is None else post.noise[r : r + 1]
    only = torch.zeros(1, dtype=torch.float64)
    return replace(
        post, herd=post.herd[[r]], precision=(post.precision[r],), log_weight=only, offset=offset, noise=noise
    )


def _chi_square(square: Tensor, freedom: int) -> Tensor:
    """The chance of more than that."""
    return torch.special.gammaincc(torch.full_like(square, freedom / 2), square / 2)


def _check_parameters(likelihood: Likelihood, output: Tensor, y: Tensor, rng: torch.Generator) -> None:
    start = {name: t.double() for name, t in likelihood.parameters().items()}
    bound, free = likelihood.bind(start).log_prob(output, y), likelihood.log_prob(output, y)
    _equal("binding the initial parameters changes nothing", bound, free, 1e-6)  # they may be given in float32
    if not start:
        return
    noise = lambda t: torch.randn(3, *t.shape, generator=rng, dtype=torch.float64)
    herd = {name: t + 0.3 * noise(t) for name, t in start.items()}
    value = lambda own: likelihood.bind(own).log_prob(output, y)
    alone: list[Params] = [{name: t[r] for name, t in herd.items()} for r in range(3)]
    each = torch.stack([value(own) for own in alone])
    _equal("replicas in one vmap are the replicas one by one", vmap(value)(herd), each, 1e-10)
    slopes = vmap(grad(lambda own: value(own).sum()))(herd)
    for name, slope in slopes.items():
        _must(bool(slope.isfinite().all() and (slope != 0).all()), f"{name} has a gradient", slope)
    together = likelihood.bind(herd).predictive(output.expand(3, *output.shape)).log_prob(y)
    _equal("each draw predicts with its own parameters", together, torch.logsumexp(each, 0) - np.log(3), 1e-8)


def _support(likelihood: Likelihood, output: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Points (N, B) and their masses, so that sums over them are expectations' sums or integrals."""
    if classes:
        points = torch.arange(classes)[:, None].expand(classes, len(output))
        return points, torch.ones(points.shape, dtype=torch.float64)
    prediction = likelihood.predictive(output[None])
    if likelihood.discrete:
        most = 2 * int(prediction.quantile(1 - 1e-12).amax()) + 50
        points = torch.arange(most, dtype=torch.float64)[:, None].expand(most, len(output))
        return points, torch.ones(points.shape, dtype=torch.float64)
    # y = centre ± spread sinh(u): panels end at the centre, where a density may have a kink, and reach far out
    centre = prediction.quantile(0.5)
    spread = prediction.quantile(0.75) - prediction.quantile(0.25)
    u, weight = _panels(torch.linspace(0, 40, 41, dtype=torch.float64))
    side, mass = spread * torch.sinh(u)[:, None], spread * (weight * torch.cosh(u))[:, None]
    return torch.cat([centre - side, centre + side]), torch.cat([mass, mass])


def _panels(edges: Tensor) -> tuple[Tensor, Tensor]:
    """Gauss-Legendre points and weights between neighbouring edges: (K + 1, ...) -> (20 K, ...) each."""
    knots, weights = (
        torch.from_numpy(t).reshape(-1, *[1] * (edges.ndim - 1)) for t in np.polynomial.legendre.leggauss(20)
    )
    half = edges.diff(dim=0)[:, None] / 2
    return (edges[:-1, None] + half * (knots + 1)).flatten(0, 1), (half * weights).flatten(0, 1)


def _check_frequencies(predictive: Predictive, sample: Tensor) -> None:
    n, rows = sample.shape
    values = torch.unique(sample)
    p = torch.stack([predictive.log_prob(v.expand(rows)) for v in values]).exp()
    counts = torch.stack([(sample == v).double().sum(0) for v in values])
    for b in range(rows):
        often = p[:, b] * n >= 5  # the usual least expectation of a chi-square cell
        expected, found = p[often, b] * n, counts[often, b]
        rest = n - expected.sum()
        cells = int(often.sum()) - 1
        statistic = ((found - expected) ** 2 / expected).sum()
        if rest > 5:
            statistic, cells = statistic + (n - found.sum() - rest) ** 2 / rest, cells + 1
        if cells:
            p_value = torch.special.gammaincc(torch.tensor(cells / 2, dtype=torch.float64), statistic / 2).item()
            _must(p_value * rows > _P_VALUE, f"samples of row {b} follow log_prob", f"p-value {p_value:.1e}")


def _check_quantiles(predictive: Predictive, sample: Tensor) -> None:
    levels = [k / 20 for k in range(1, 20)]
    edges = torch.stack([predictive.quantile(q) for q in levels])
    _must(bool((edges.diff(dim=0) > 0).all()), "quantile rises with q", edges)
    low, high = predictive.interval(0.9)
    _equal("interval(0.9) leaves 5 % below", low, edges[0], 1e-8)
    _equal("interval(0.9) leaves 5 % above", high, edges[-1], 1e-8)
    n = len(sample)
    cell = (sample[None] > edges[:, None]).sum(0)
    counts = torch.stack([(cell == k).double().sum(0) for k in range(20)])
    statistic = ((counts - n / 20) ** 2 / (n / 20)).sum(0)
    p_value = torch.special.gammaincc(torch.full_like(statistic, 19 / 2), statistic / 2)
    _must(bool(p_value.min() * p_value.numel() > _P_VALUE), "samples follow quantile", f"p-value {p_value.min():.1e}")
    if edges.ndim > 2:
        return  # log_prob is of all targets together
    points, mass = _panels(edges)
    density = torch.stack([predictive.log_prob(y) for y in points]).exp()
    inside = (mass * density).sum(0)
    _equal("the density integrates to q2 - q1", inside, torch.full_like(inside, 0.9), 1e-4)  # kinks cost digits


def _equal(what: str, found: Tensor, wanted: Tensor | None, tolerance: float) -> None:
    if wanted is None or found.shape != wanted.shape:
        raise AssertionError(f"{what}: shapes\n  found   {found.shape} and {None if wanted is None else wanted.shape}")
    near = (found.double() - wanted).abs() <= tolerance * (1 + wanted.double().abs())
    same = near | (found == wanted)  # infinite on both sides
    _must(bool(same.all()), what, f"{found} and {wanted}")


def _must(holds: bool, what: str, found: object) -> None:
    if not holds:
        raise AssertionError(f"{what}\n  found   {found}")
