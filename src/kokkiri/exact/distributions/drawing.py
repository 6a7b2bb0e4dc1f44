"""Draws of gammas and normals, as functions of a seed."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from kokkiri.exact.distributions import arguments
from kokkiri.numerics.random import philox


def generator(owner: str, seed: int) -> np.random.Generator:
    """A stream of its own for the draws of one distribution."""
    return philox(seed, f"draws of {owner}")


def log_gamma_draws(shape: Tensor, n: int, seed: int, owner: str) -> Tensor:
    """Log of n draws of Gamma(shape, 1), (n, ...): those of shape 1e-8 are below the smallest float.

    Gamma(a) = Gamma(a + 1) U^(1/a) in distribution (Stuart 1962).
    """
    rng, size = generator(owner, seed), (arguments.count(owner, n), *shape.shape)
    more = torch.from_numpy(np.asarray(rng.standard_gamma(shape.cpu().numpy() + 1, size)))
    uniform = torch.from_numpy(np.asarray(rng.random(size)))
    return (more.log() + torch.log1p(-uniform).to(more) / shape.cpu()).to(shape.device)


def normal_draws(shape: tuple[int, ...], n: int, seed: int, owner: str) -> Tensor:
    """Standard normal, (n, *shape)."""
    size = (arguments.count(owner, n), *shape)
    return torch.from_numpy(np.asarray(generator(owner, seed).standard_normal(size)))
