"""What is descended. The only module that knows how many rows there are.

    log p(data, params) = sum_i w_i log p(y_i | f(x_i)) + log p(params)          in nats, summed over data
    cost                = -log p(data, params) / W,   W = sum_i w_i              so that lr does not depend on n

A batch of B rows drawn from N estimates the sum without bias when its rows count N / B times.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from kokkiri.types import Params, Prior


def batch_scale(rows: int, batch: int, total: Any) -> Any:
    """By how much the sum over a batch is multiplied to estimate the mean over the data: N / (B W), as W is."""
    return rows / (batch * total)


def log_joint(log_likelihood: Tensor, weight: Tensor | None, prior: Prior, params: Params, hyper: Params) -> Tensor:
    """sum_i w_i log p(y_i | output_i) + log p(params) for all rows of one model; () nats.

    log_likelihood: (N,). weight: (N,) or None for ones. hyper: what `prior.hyperparameters()` names.
    """
    total = log_likelihood.sum() if weight is None else (weight * log_likelihood).sum()
    return total + prior.log_prob(params, hyper)


def prior_gradient(prior: Prior, params: Params, hyper: Params) -> Params:
    """The gradient of log p(params): in closed form where the prior offers it, else by automatic differentiation."""
    closed = getattr(prior, "gradient", None)
    if closed is not None:
        return closed(params, hyper)
    return torch.func.grad(prior.log_prob)(params, hyper)
