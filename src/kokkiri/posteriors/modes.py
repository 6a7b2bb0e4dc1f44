"""The last steps to a mode. Descent ends near it; a Gaussian belongs at it.

    θ <- θ + (H + μ I)⁻¹ g,   g the gradient of the log joint, H its Gauss-Newton matrix

μ is raised until the log joint rises (Levenberg 1944, Marquardt 1963).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from kokkiri.curvature import Curvature
from kokkiri.herd import Herd
from kokkiri.posteriors.evidence import flat_of, hyper_of, joint, prior_precision, replica_params
from kokkiri.posteriors.updating import tangent_of, with_theta
from kokkiri.training.flat import layout
from kokkiri.training.objective import prior_gradient
from kokkiri.types import LIKELIHOOD_PREFIX, Likelihood, Prior

ENOUGH = 0.05  # nats that a whole step promises: it is the last, and exact where the log joint is quadratic
STEPS = 40


def at_mode(
    herd: Herd, replica: int, data: Any, likelihood: Likelihood, prior: Prior, layers: Sequence[str],
    curvature: Callable[[Herd], Curvature],
) -> Tensor:  # fmt: skip
    """(P,) the replica's parameters after Newton steps on its log joint, noise where evidence wants it.

    curvature: of a herd of one. The freedom γ that a tuner found pulls at log σ, as it did in training.
    """
    where = layout(herd.params)
    theta = flat_of(replica_params(herd, replica), where)
    hyper = hyper_of(herd, prior, replica)
    freedom = float(hyper.get("freedom", 0.0))
    scale = LIKELIHOOD_PREFIX + "log_scale"
    one = lambda theta: _with_hyper(with_theta(herd, replica, theta), herd, replica)
    value = lambda h: (
        joint(h, data, likelihood, prior, 0) + (freedom * float(h.params[scale]) if scale in h.params else 0.0)
    )
    now, damping = one(theta), 0.0
    best = value(now)
    free = torch.zeros(where.size, dtype=torch.bool)
    for _ in range(STEPS):
        precision = curvature(now).matrix.plus(prior_precision(now, prior, 0))
        free[precision.free] = True
        slope = tangent_of(now, 0, data, likelihood, layers).gradient(torch.zeros_like(theta))
        slope = slope + flat_of(prior_gradient(prior, replica_params(now, 0), hyper), where)
        slope = torch.where(free, slope, 0.0)
        last = 0.5 * float(slope @ precision.solve(slope)) < ENOUGH
        least = 1e-4 * float(precision.diagonal()[free].mean())
        for _ in range(1 if last else 12):
            move = (precision.plus(damping) if damping else precision).solve(slope)
            tried = one(theta + move)
            if (reached := value(tried)) > best:
                break
            damping = max(4 * damping, least)
        else:
            break
        theta, now, best, damping = theta + move, tried, reached, damping / 4 if damping > least else 0.0
        if last:
            break
    return theta


def _with_hyper(one: Herd, herd: Herd, replica: int) -> Herd:
    from dataclasses import replace

    return replace(one, hyper={n: t[replica : replica + 1] for n, t in herd.hyper.items()})
