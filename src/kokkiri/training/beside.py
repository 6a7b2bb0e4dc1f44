"""What an optimizer is given that wants its gradient beside the parameters (`Optimizer.look`): noise, and the prior."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from kokkiri.errors import UsageError
from kokkiri.numerics.random import generator, key, step_seed
from kokkiri.training.flat import Layout
from kokkiri.training.objective import prior_gradient
from kokkiri.types import Prior

WINDOW = 1 << 18  # offsets into a table of noise


def noise_table(seed: int, size: int, like: Tensor) -> Tensor:
    """(WINDOW + size,) standard normals, as long as any step of the run may need.

    A fresh normal costs as much as ten passes over memory, so a step takes a stretch of this table instead, at an
    offset of its own (Salimans et al. 2017, "Evolution strategies as a scalable alternative to reinforcement learning",
    section 2: perturbations are then independent within a step, and nearly so between steps).
    """
    random = generator(seed, "noise beside")
    return torch.randn(WINDOW + size, generator=random, dtype=like.dtype).to(like.device)


def noise(table: Tensor, size: int, seed: int, step: int, replicas: Tensor | int) -> Tensor:
    """(size,) the noise of one step of one replica, a view of the table; or (R, size), of some replicas."""
    base = key(seed, "offset of noise")
    if isinstance(replicas, int):
        at = step_seed(base, step, replicas) % WINDOW
        return table[at : at + size]
    rows = [noise(table, size, seed, step, r) for r in replicas.tolist()]
    return rows[0][None] if len(rows) == 1 else torch.stack(rows)


def prior_terms(prior: Prior, where: Layout, flat: Tensor, hyper: Mapping[str, Any], total: Any) -> dict[str, Any]:
    """A Gaussian prior of one model as the optimizer takes it: its precision and its pull, over the weight of all rows.

    flat: (P,), anywhere. -∇log p(θ) / N = δ θ - pull; "pull" is left out where it is 0, as about any prior around 0.
    Raises UsageError for priors whose curvature is not said, since the precision is then no constant.
    """
    split = where.blocks if prior.elementwise else where.views
    at = getattr(prior, "precision_at", None)
    if at is None:
        raise UsageError(
            f"{type(prior).__name__} does not fit an optimizer that learns a Gaussian",
            needs="a Gaussian prior, which offers `precision_at`",
            found=repr(prior),
            fix="kk.Normal(1.0), or kk.Adam()",
        )
    one = lambda tree: torch.cat([tree[name].reshape(-1) for name in split(flat)])
    decay = one(at(split(flat), dict(hyper))) / total
    drawn = one(prior_gradient(prior, split(flat), dict(hyper))) / total
    pull = drawn + decay * flat
    rounding = 1e-5 * (drawn.abs() + (decay * flat).abs())  # of float32, where the two cancel
    pull = torch.where(pull.abs() <= rounding, 0.0, pull)
    terms = {"rows": total, "decay": decay}
    return {**terms, "pull": pull} if bool(pull.any()) else terms
