"""The log joint density of a whole data set as a function of flat parameter vectors, many at once, with its gradient.

    log p(data, params) = sum_i w_i log p(y_i | f(x_i)) + log p(params)        nats, summed over data

What samplers sample is exp of it. Networks of affine maps and nonlinearities go through the hand-written products of
`training.dense` where likelihood and prior offer their slopes; others through `vmap`, at several times the cost.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap

from kokkiri.networks.dense import program
from kokkiri.training.dense import backward, forward
from kokkiri.training.engines import of_likelihood, of_network
from kokkiri.training.flat import Layout
from kokkiri.training.objective import log_joint, prior_gradient
from kokkiri.types import LIKELIHOOD_PREFIX, Likelihood, Params, Prior


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
    own = prior.hyperparameters()
    held = {name: (hyper or {}).get(name, value).to(y.device) for name, value in own.items()}
    operations = program(network) if not buffers and isinstance(x, Tensor) else None
    if operations is not None and hasattr(likelihood, "score") and hasattr(prior, "gradient") and prior.elementwise:
        return _by_hand(operations, where, likelihood, prior, x.flatten(1), y, weight, held)
    module, buffers = copy.deepcopy(network).eval(), buffers or {}

    def one(params: Params) -> Tensor:
        output = functional_call(module, (of_network(params), buffers), (x,))
        return log_joint(likelihood.bind(of_likelihood(params)).log_prob(output, y), weight, prior, params, held)

    lifted = vmap(grad_and_value(one))

    def value_and_gradient(theta: Tensor) -> tuple[Tensor, Tensor]:
        grads, value = lifted(where.views(theta))
        return value.detach(), torch.cat([grads[name].reshape(len(theta), -1) for name in where.names], 1)

    return Density(value_and_gradient, lambda theta: value_and_gradient(theta)[1])


def _by_hand(
    operations: Any,
    where: Layout,
    likelihood: Any,
    prior: Prior,
    x: Tensor,
    y: Tensor,
    weight: Tensor | None,
    hyper: Params,
) -> Density:
    of_prior = vmap(lambda params: prior.log_prob(params, hyper))
    numbers: Any = {name: t.item() for name, t in hyper.items()}  # what all replicas share costs nothing to broadcast

    def slopes(theta: Tensor) -> tuple[Tensor, Tensor]:
        """The log-likelihood (R, N) and the gradient of the whole (R, P)."""
        gradient = torch.empty_like(theta)
        params, slots = where.views(theta), where.views(gradient)
        output, tape = forward(operations, params, x, training=False)
        score = likelihood.bind(of_likelihood(params)).score(output, y)
        backward(operations, params, slots, tape, score.output if weight is None else weight[:, None] * score.output)
        for name, g in score.parameters.items():
            slots[LIKELIHOOD_PREFIX + name].copy_((g if weight is None else weight * g).sum(1))
        blocks = where.blocks(gradient)
        for name, pull in prior_gradient(prior, where.blocks(theta), numbers).items():
            blocks[name].add_(pull)
        return score.log_prob if weight is None else weight * score.log_prob, gradient

    @torch.no_grad()
    def value_and_gradient(theta: Tensor) -> tuple[Tensor, Tensor]:
        ll, gradient = slopes(theta)
        return ll.sum(1) + of_prior(where.blocks(theta)), gradient

    @torch.no_grad()
    def gradient(theta: Tensor) -> Tensor:
        return slopes(theta)[1]

    return Density(value_and_gradient, gradient)
