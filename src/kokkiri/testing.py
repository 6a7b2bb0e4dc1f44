"""Checks that whoever writes a block of their own can run on it; kokkiri's own blocks pass the same ones.

Each raises AssertionError, saying what was to hold and what was found. Stochastic claims fail by chance once in a
million.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.func import grad, vmap

from kokkiri.numerics.random import generator
from kokkiri.types import Likelihood, Params, Predictive

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
