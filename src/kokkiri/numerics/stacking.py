"""Weights of several predictions by how well they foretold rows that they had not seen, and one map that mends them."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

_STEPS, _CLOSE = 500, 1e-7  # of EM: how many, and when to stop (nats a row)
_NEWTON = 50


def stacking(log_densities: Tensor, weight: Tensor | None = None) -> Tensor:
    """(M,) weights ≥ 0 that add up to 1 and maximise Σ_i w_i log Σ_m π_m p_m(y_i); log_densities (M, n), nats.

    The sum is concave in π, and expectation-maximisation climbs it: π_m becomes the mean share of m in the mixture.
    Source: Yao, Vehtari, Simpson & Gelman 2018, "Using stacking to average Bayesian predictive distributions", eq. 4;
    of probabilities out of fold, the super learner of van der Laan, Polley & Hubbard 2007.

    >>> stacking(torch.tensor([[0.9, 0.9, 0.9], [0.1, 0.2, 0.3]]).log())
    tensor([1., 0.], dtype=torch.float64)
    """
    log_p = log_densities.double()
    w = torch.ones_like(log_p[0]) if weight is None else weight.double()
    w = w / w.sum()
    pi = torch.full((len(log_p),), 1.0 / len(log_p), dtype=torch.float64)
    best = (log_p * w).sum(1)
    before = -torch.inf
    for _ in range(_STEPS):
        joint = log_p + pi.log().unsqueeze(1)
        total = joint.logsumexp(0)
        value = float((w * total).sum())
        pi = (w * (joint - total).exp()).sum(1)
        if value - before < _CLOSE:
            break
        before = value
    pi = torch.where(pi < 1e-3, 0.0, pi)  # what EM has not yet driven to zero
    alone = int(best.argmax())
    if float(best[alone]) >= before - _CLOSE:
        return torch.nn.functional.one_hot(torch.tensor(alone), len(pi)).double()
    return pi / pi.sum()


class Platt(NamedTuple):
    """p_k → softmax(slope · log p_k + shift_k). slope 1 and shifts 0: nothing to mend; a slope below 1: too sure."""

    slope: float
    shift: Tensor  # (K,), the first 0

    def __call__(self, p: Tensor) -> Tensor:
        """(..., K, n) probabilities, mended."""
        return torch.softmax(self.slope * p.clamp(min=1e-12).log() + self.shift.to(p).unsqueeze(-1), -2)


def platt(p: Tensor, t: Tensor, weight: Tensor | None = None, prior: float = 1.0) -> Platt:
    """The map that maximises the log-likelihood of t (n,) for p (K, n), with prior N(1, 1 / prior) on the slope.

    Source: Platt 1999, "Probabilistic outputs for support vector machines", eq. 2; for K classes Guo et al. 2017.

    >>> t = torch.tensor([0] * 30 + [1] * 10)
    >>> p = platt(torch.full((2, 40), 0.5), t)(torch.full((2, 1), 0.5, dtype=torch.float64))
    >>> p[1].item()  # the share of ones
    0.25...
    """
    levels, n = p.shape
    log_p = p.double().clamp(min=1e-12).log()
    log_p = log_p - log_p[:1]
    had = torch.nn.functional.one_hot(t.long(), levels).T.double()[1:]
    w = torch.ones(n, dtype=torch.float64) if weight is None else weight.double() / weight.double().mean()
    theta = torch.zeros(levels, dtype=torch.float64)
    theta[0] = 1.0
    logits = lambda v: v[0] * log_p + torch.nn.functional.pad(v[1:], (1, 0)).unsqueeze(1)
    own = t.long().unsqueeze(0)
    value = lambda v: float((w * torch.log_softmax(logits(v), 0).gather(0, own)[0]).sum() - prior * (v[0] - 1) ** 2 / 2)
    best = value(theta)
    for _ in range(_NEWTON):
        q = torch.softmax(logits(theta), 0)[1:]
        # d log-odds / d theta: (n, K - 1, K)
        design = torch.cat(
            [log_p[1:].T.unsqueeze(-1), torch.eye(levels - 1, dtype=torch.float64).expand(n, -1, -1)], -1
        )
        slope = torch.einsum("n,kn,nkd->d", w, had - q, design)
        slope[0] -= prior * (theta[0] - 1)
        cover = torch.diag_embed(q.T) - q.T.unsqueeze(-1) * q.T.unsqueeze(-2)
        curve = torch.einsum("n,nkd,nkl,nle->de", w, design, cover, design)
        curve[0, 0] += prior
        curve += 1e-9 * n * torch.eye(levels, dtype=torch.float64)
        step = torch.linalg.solve(curve, slope)
        step = step / max(1.0, float(step.abs().max()) / 2)
        # where probabilities are far too sure a whole step leads past the maximum, and the next one farther
        while (found := value(theta + step)) < best and float(step.abs().max()) > 1e-10:
            step = step / 2
        if float(step.abs().max()) <= 1e-10:
            break
        theta, best = theta + step, found
    return Platt(float(theta[0]), torch.cat([torch.zeros(1, dtype=torch.float64), theta[1:]]))
