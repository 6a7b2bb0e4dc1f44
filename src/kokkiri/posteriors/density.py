"""The log joint density as a function of flat parameter vectors, many at once, with its gradient.

    log p(data, params) = sum_i w_i log p(y_i | f(x_i)) + log p(params)        nats, summed over data

What samplers sample is exp of it. Networks of affine maps and nonlinearities go through the hand-written products of
`training.dense`, where the prior is elementwise and offers its gradient; others through `vmap`, at several times the
cost.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from kokkiri.networks.dense import Operation, program
from kokkiri.training.dense import backward, forward
from kokkiri.training.engines import of_likelihood, of_network
from kokkiri.training.flat import Layout
from kokkiri.training.objective import prior_gradient
from kokkiri.types import LIKELIHOOD_PREFIX, Likelihood, Params, Prior

# θ (R, P), x, y (B, ...), a factor: () or (B,) -> factor · log p(y | f(x)) (R, B) nats; d (sum of it + log p(θ)) / dθ
Slopes: TypeAlias = Callable[[Tensor, Any, Tensor, Tensor | float], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Density:
    """θ (R, P) -> log p(data, θ_r) (R,) and its gradient (R, P); `gradient` alone is cheaper."""

    value_and_gradient: Callable[[Tensor], tuple[Tensor, Tensor]]
    gradient: Callable[[Tensor], Tensor]

    def __call__(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """Both."""
        return self.value_and_gradient(theta)


def log_density(
    network: nn.Module,
    where: Layout,
    likelihood: Likelihood,
    prior: Prior,
    x: Any,
    y: Tensor,
    *,
    buffers: Params | None = None,
    weight: Tensor | None = None,
    hyper: Mapping[str, Tensor] | None = None,
) -> Density:
    """The joint density of all N rows under one network.

    where: how θ is laid out (`training.flat.layout`). x, y: all rows. buffers: of one model, shared by all R. weight:
    (N,), how much each row counts; None: once. hyper: the prior's hyperparameters, () each; None: its own.
    """
    slopes = joint_slopes(network, where, likelihood, prior, buffers=buffers, hyper=hyper)
    held = held_hyper(prior, hyper)
    of_prior = vmap(lambda params: prior.log_prob(params, held))
    split = where.blocks if prior.elementwise else where.views
    factor = 1.0 if weight is None else weight

    @torch.no_grad()
    def value_and_gradient(theta: Tensor) -> tuple[Tensor, Tensor]:
        ll, gradient = slopes(theta, x, y, factor)
        return ll.sum(1) + of_prior(split(theta)), gradient

    return Density(value_and_gradient, lambda theta: slopes(theta, x, y, factor)[1])


def joint_slopes(
    network: nn.Module,
    where: Layout,
    likelihood: Likelihood,
    prior: Prior,
    *,
    buffers: Params | None = None,
    hyper: Mapping[str, Tensor] | None = None,
) -> Slopes:
    """The gradient of the log joint from some rows, each counted `factor` times: N / B for B rows of N."""
    held = held_hyper(prior, hyper)
    operations = None if buffers else program(network)
    if operations is not None and prior.elementwise and hasattr(prior, "gradient"):
        return _by_hand(operations, where, likelihood, prior, held)
    module, buffers = copy.deepcopy(network).eval(), buffers or {}

    def one(params: Params, x: Any, y: Tensor, factor: Tensor | float) -> tuple[Tensor, Tensor]:
        output = functional_call(module, (of_network(params), buffers), (x,))
        ll = factor * likelihood.bind(of_likelihood(params)).log_prob(output, y)
        return ll.sum() + prior.log_prob(params, held), ll.detach()

    lifted = vmap(grad(one, has_aux=True), (0, None, None, None))

    def slopes(theta: Tensor, x: Any, y: Tensor, factor: Tensor | float) -> tuple[Tensor, Tensor]:
        grads, ll = lifted(where.views(theta), x, y, factor)
        return ll, torch.cat([grads[name].reshape(len(theta), -1) for name in where.names], 1)

    return slopes


def held_hyper(prior: Prior, hyper: Mapping[str, Tensor] | None) -> dict[str, Tensor]:
    """What is given of the prior's hyperparameters, its own for the others."""
    return {name: (hyper or {}).get(name, value) for name, value in prior.hyperparameters().items()}


def _by_hand(operations: tuple[Operation, ...], where: Layout, likelihood: Any, prior: Prior, hyper: Params) -> Slopes:
    numbers: Any = {name: t.item() for name, t in hyper.items()}  # what all replicas share costs nothing to broadcast

    def summed(output: Tensor, phi: Params, y: Tensor, factor: Tensor | float) -> tuple[Tensor, Tensor]:
        ll = factor * likelihood.bind(phi).log_prob(output, y)
        return ll.sum(), ll

    by_autograd = vmap(grad(summed, (0, 1), has_aux=True), (0, 0, None, None))

    @torch.no_grad()
    def slopes(theta: Tensor, x: Any, y: Tensor, factor: Tensor | float) -> tuple[Tensor, Tensor]:
        gradient = torch.empty_like(theta)
        params, slots = where.views(theta), where.views(gradient)
        output, tape = forward(operations, params, x.flatten(1), training=False)
        phi = of_likelihood(params)
        score = likelihood.bind(phi).score(output, y) if hasattr(likelihood, "score") else None
        if score is None:
            (at_output, at_phi), ll = by_autograd(output, phi, y, factor)
        else:
            column = factor[:, None] if isinstance(factor, Tensor) and factor.ndim else factor
            at_output, ll = column * score.output, factor * score.log_prob
            at_phi = {name: (factor * g).sum(1) for name, g in score.parameters.items()}
        backward(operations, params, slots, tape, at_output)
        for name, g in at_phi.items():
            slots[LIKELIHOOD_PREFIX + name].copy_(g)
        blocks = where.blocks(gradient)
        for name, pull in prior_gradient(prior, where.blocks(theta), numbers).items():
            blocks[name].add_(pull)
        return ll, gradient

    return slopes
