"""Approximations to a small posterior as plain functions of a `Problem`: what each costs and what it says of f.

Costs are counted in gradients: evaluations of the log joint's gradient at one parameter vector, all rows; a Jacobian of
all rows counts as the number of rows' worth of gradients that it takes, one (each row is passed back once).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.func import functional_call, jacrev, vmap

from kokkiri.numerics import hamiltonian
from kokkiri.numerics.diagnostics import pareto_smoothed
from kokkiri.numerics.random import generator
from kokkiri.training.engines import of_network
from yardstick.problems import Problem


@dataclass(frozen=True)
class Modes:
    """Modes (R, P) of the log joint, the Cholesky factors (R, P, P) of the precisions there, log evidence (R,) nats."""

    theta: Tensor
    factor: Tensor
    log_evidence: Tensor
    gradients: int


def ascend(p: Problem, theta: Tensor, steps: int, lr: float = 0.05) -> Tensor:
    """Adam (0.9, 0.99) on all rows, the rate falling linearly to a twentieth; (R, P) -> (R, P)."""
    slope = p.log_density().gradient
    first, second = torch.zeros_like(theta), torch.zeros_like(theta)
    for k in range(1, steps + 1):
        g = slope(theta)
        first, second = torch.lerp(g, first, 0.9), torch.lerp(g * g, second, 0.99)
        rate = lr * (1 - 0.95 * k / steps)
        theta = theta + rate * (first / (1 - 0.9**k)) / ((second / (1 - 0.99**k)).sqrt() + 1e-8)
    return theta


def jacobian(p: Problem, theta: Tensor, x: Tensor) -> Tensor:
    """(R, P) -> df/dθ at x, (R, N, P); the noise's column is zero."""
    where = p.where
    f = lambda t, row: functional_call(p.network, of_network(where.views(t)), (row[None],))[0, 0]
    return vmap(vmap(jacrev(f), (None, 0)), (0, None))(theta, x)


def precision(p: Problem, theta: Tensor) -> Tensor:
    """(R, P, P): Gauss-Newton of the likelihood and the prior. log σ: 2N, its Fisher information, and its prior."""
    j = jacobian(p, theta, p.x)
    out = j.mT @ j * (-2 * theta[:, -1]).exp()[:, None, None]
    prior = torch.full((p.size,), p.prior.precision, dtype=theta.dtype)
    prior[-1] = 2 * len(p.y) + 3.0**-2
    return out + torch.diag(prior)


def laplace(p: Problem, r: int, seed: int, steps: int = 1500, polish: int = 10) -> Modes:
    """R modes of the joint: Adam, then damped Gauss-Newton steps that may only rise. log evidence by Laplace."""
    density = p.log_density()
    theta = ascend(p, p.from_prior(r, seed), steps)
    value, g = density(theta)
    damping = torch.full((r, 1), 1e-3, dtype=theta.dtype)
    eye = torch.eye(p.size, dtype=theta.dtype)
    for _ in range(polish):
        step = torch.linalg.solve(precision(p, theta) + damping[..., None] * eye, g[..., None])[..., 0]
        new_value, new_g = density(theta + step)
        better = new_value > value
        theta = torch.where(better[:, None], theta + step, theta)
        value, g = torch.where(better, new_value, value), torch.where(better[:, None], new_g, g)
        damping = torch.where(better[:, None], damping * 0.3, damping * 10)
    factor = torch.linalg.cholesky(precision(p, theta))
    half = factor.diagonal(dim1=1, dim2=2).log().sum(1)
    return Modes(theta, factor, value + 0.5 * p.size * math.log(2 * math.pi) - half, r * (steps + 2 * polish + 2))


def noise_by_evidence(p: Problem, r: int, seed: int, rounds: int = 12, steps: int = 150) -> Modes:
    """As `laplace`, but σ² = |y - f|² / (N - γ) with γ the number of well determined parameters (MacKay 1992, eq. 4.9),

    between rounds of ascent in the weights: the joint's own mode in σ fits the noise, too.
    """
    density = p.log_density()
    theta = p.from_prior(r, seed)
    for _ in range(rounds):
        kept = theta[:, -1].clone()
        held = lambda t, kept=kept: torch.cat([t[:, :-1], kept[:, None]], 1)
        theta = held(_ascend_weights(p, theta, steps))
        j = jacobian(p, theta, p.x)[..., :-1]
        eigenvalues = torch.linalg.eigvalsh(j @ j.mT) * (-2 * theta[:, -1:]).exp()
        gamma = (eigenvalues.clamp(min=0) / (eigenvalues.clamp(min=0) + p.prior.precision)).sum(1)
        residual = (p.y - p.f(theta, p.x)).square().sum(1)
        theta[:, -1] = 0.5 * (residual / (len(p.y) - gamma)).log()
    value = density(theta)[0]
    factor = torch.linalg.cholesky(precision(p, theta))
    half = factor.diagonal(dim1=1, dim2=2).log().sum(1)
    log_evidence = value + 0.5 * p.size * math.log(2 * math.pi) - half
    return Modes(theta, factor, log_evidence, r * rounds * (steps + 2))


def _ascend_weights(p: Problem, theta: Tensor, steps: int) -> Tensor:
    slope, rate = p.log_density().gradient, 0.05
    first, second = torch.zeros_like(theta), torch.zeros_like(theta)
    for k in range(1, steps + 1):
        g = slope(theta)
        g[:, -1] = 0
        first, second = torch.lerp(g, first, 0.9), torch.lerp(g * g, second, 0.99)
        size = rate * (1 - 0.95 * k / steps)
        theta = theta + size * (first / (1 - 0.9**k)) / ((second / (1 - 0.99**k)).sqrt() + 1e-8)
    return theta


def distinct(p: Problem, modes: Modes) -> Modes:
    """One of each set of modes that are the same function, permuted: f within 1e-2 rms, evidence within 0.1 nats."""
    order = modes.log_evidence.argsort(descending=True)
    f, kept = p.f(modes.theta), []
    for r in order.tolist():
        same = [
            k for k in kept
            if (f[r] - f[k]).square().mean() < 1e-4 and (modes.log_evidence[r] - modes.log_evidence[k]).abs() < 0.1
        ]  # fmt: skip
        if not same:
            kept.append(r)
    return Modes(modes.theta[kept], modes.factor[kept], modes.log_evidence[kept], modes.gradients)


def some(modes: Modes, count: int) -> Modes:
    """The first of them, and their share of the cost."""
    share = modes.gradients * count // len(modes.theta)
    return Modes(modes.theta[:count], modes.factor[:count], modes.log_evidence[:count], share)


def linearised(p: Problem, modes: Modes, log_weight: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and sd (G,) of the mixture of N(f(θ_r), J Λ⁻¹ Jᵀ): as Laplace predicts best (Immer et al. 2021)."""
    j, f, w = jacobian(p, modes.theta, p.grid), p.f(modes.theta), torch.softmax(log_weight, 0)
    variance = torch.linalg.solve_triangular(modes.factor, j.mT, upper=False).square().sum(1)
    mean = w @ f
    return mean, (w @ (variance + (f - mean).square())).sqrt()


def mixture_draws(p: Problem, modes: Modes, log_weight: Tensor, s: int, seed: int) -> tuple[Tensor, Tensor]:
    """S draws (S, P) of the mixture of Gaussians, and the log density of the mixture there (S,)."""
    g = generator(seed, "yardstick mixture")
    rows = torch.multinomial(torch.softmax(log_weight, 0), s, replacement=True, generator=g)
    z = torch.randn(s, p.size, 1, generator=g, dtype=torch.float64)
    theta = modes.theta[rows] + torch.linalg.solve_triangular(modes.factor[rows].mT, z, upper=True)[..., 0]
    off = theta[:, None] - modes.theta  # (S, R, P)
    z = torch.einsum("rij,sri->srj", modes.factor, off)
    half = modes.factor.diagonal(dim1=1, dim2=2).log().sum(1)
    each = half - 0.5 * z.square().sum(-1) - 0.5 * p.size * math.log(2 * math.pi)
    return theta, torch.logsumexp(each + torch.log_softmax(log_weight, 0), 1)


def reweighted(p: Problem, modes: Modes, s: int, seed: int) -> tuple[Tensor, Tensor, float, float]:
    """S draws of the mixture, f of them (S, G), their smoothed log weights, k-hat and effective number."""
    theta, log_q = mixture_draws(p, modes, modes.log_evidence, s, seed)
    found = pareto_smoothed(p.log_density()(theta)[0] - log_q)
    return p.f(theta), found.log_weight, found.k_hat, found.effective


def short_chains(p: Problem, start: Tensor, warm_up: int, draws: int, seed: int, length: float = 1.0):
    """Lockstep Hamiltonian Monte Carlo from given starts: draws f (R S, G), and what was drawn."""
    chains = hamiltonian.sample(p.log_density(), start, draws=draws, warm_up=warm_up, seed=seed, length=length)
    return p.f(chains.draws.flatten(0, 1)), chains


def tempered(p: Problem, particles: int, rungs: int, seed: int, steps: int = 10) -> tuple[Tensor, int]:
    """Sequential Monte Carlo from prior to posterior (Del Moral, Doucet & Jasra 2006), particles in one batch.

    Temperatures are chosen so that the effective number falls to half; a lockstep trajectory moves all particles at
    each. Gives θ (S, P) and the gradients it took.
    """
    density = p.log_density()
    g = generator(seed, "yardstick tempered")
    theta = torch.randn(particles, p.size, generator=g, dtype=torch.float64)
    theta[:, -1] *= 3.0
    scale = torch.ones(p.size, dtype=torch.float64)
    precision_of_prior = torch.ones(p.size, dtype=torch.float64)
    precision_of_prior[-1] = 3.0**-2
    prior = lambda t: -0.5 * (precision_of_prior * t * t).sum(1)

    def at(beta: float):
        def target(t: Tensor) -> tuple[Tensor, Tensor]:
            value, slope = density(t)
            own = -precision_of_prior * t
            return beta * (value - prior(t)) + prior(t), beta * (slope - own) + own

        return target

    beta, step, used = 0.0, 0.1, particles
    like = density(theta)[0] - prior(theta)
    while beta < 1.0:
        low, high = 0.0, 1.0 - beta
        for _ in range(50):
            middle = 0.5 * (low + high)
            w = torch.softmax(middle * like, 0)
            low, high = (middle, high) if float(1 / w.square().sum()) > 0.5 * particles else (low, middle)
        move = high if high > (1.0 - beta) * (1 - 1e-9) else low
        w = torch.softmax(move * like, 0)
        beta = min(1.0, beta + move)
        rows = torch.multinomial(w, particles, replacement=True, generator=g)
        theta = theta[rows]
        target = at(beta)
        point = hamiltonian.Point(theta, *target(theta))
        scale = theta.std(0).clamp(min=1e-3)
        for _ in range(rungs):
            v = torch.randn(theta.shape, generator=g, dtype=torch.float64)
            new, end = hamiltonian.leapfrog(target, point, v, step * scale, steps)
            used += particles * (steps + 1)
            gain = (new.log_density - 0.5 * end.square().sum(1)) - (point.log_density - 0.5 * v.square().sum(1))
            chance = torch.where(torch.isfinite(gain), gain, -math.inf).clamp(max=0).exp()
            accept = torch.rand(particles, generator=g, dtype=torch.float64) < chance
            point = hamiltonian.Point(
                torch.where(accept[:, None], new.theta, point.theta),
                torch.where(accept, new.log_density, point.log_density),
                torch.where(accept[:, None], new.gradient, point.gradient),
            )
            step *= math.exp(0.3 * (float(chance.mean()) - 0.75))
        theta = point.theta
        like = density(theta)[0] - prior(theta)
    return theta, used
