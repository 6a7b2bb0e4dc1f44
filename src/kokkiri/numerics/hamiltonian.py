"""Hamiltonian Monte Carlo for R chains in lockstep: every gradient is one batch over all of them.

    H(θ, v) = -log p(θ) + ½ |v|²                     v: the velocity of θ / s, s the scale of each coordinate
    leapfrog    v ← v + ½ ε s ∇log p(θ);   θ ← θ + ε s v;   v ← v + ½ ε s ∇log p(θ)           (Neal 2011, eq. 5.18-20)
    accept      with probability min(1, exp(H(θ, v) - H(θ', v')))                               (Neal 2011, eq. 5.21)

All chains take the same number of steps. A trajectory that ends where it turns (NUTS) would have the batch wait for its
longest, and spends half its gradients on asking. During warm-up all chains together settle

- the step ε by dual averaging (Hoffman & Gelman 2014, "The no-U-turn sampler", eq. 6) to a mean acceptance;
- the scales s from the variance within chains (between them it would measure modes), in windows that double;
- the length T of a trajectory, by what moves furthest per gradient: lengths t are jittered over (0, 2T) by a Halton
  sequence, so that no period is met (Hoffman, Radul & Sountsov 2021, "An adaptive-MCMC scheme for setting trajectory
  lengths in Hamiltonian Monte Carlo", section 3.1), so every iteration is a look at the expected squared jump J(t) =
  E |θ' - θ|² in scales (Pasarica & Gelman 2010, "Adaptively scaling the Metropolis algorithm using expected squared
  jumped distance"), and T maximises the mean jump per mean length, ∫ J dt over (0, 2T) / 2T².

Every random number is a function of (seed, iteration); no global state is touched.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from kokkiri.errors import ShapeError, UsageError
from kokkiri.numerics.random import generator

LogDensity: TypeAlias = Callable[[Tensor], tuple[Tensor, Tensor]]  # (R, P) -> (R,) nats, (R, P)

DIVERGED = 1000.0  # nats of energy that no sound trajectory gains
FIRST_STEP = 0.01
FIRST_LENGTH = 1.0  # in scales: a sixth of the period of a normal
SHORTEST_WINDOW = 20  # iterations; from fewer no scale is learnt
LOOKS = 32  # the last trajectories, from which the length is judged


class Point(NamedTuple):
    """Where the chains are: theta (R, P), log_density (R,), gradient (R, P)."""

    theta: Tensor
    log_density: Tensor
    gradient: Tensor


@dataclass(frozen=True)
class Chains:
    """What was drawn, and how.

    draws: (R, S, P). log_density: (R, S) nats. acceptance: mean probability over the S iterations. step: ε. length: T,
    the mean length of a trajectory, in scales. scale: (P,). divergences: how many of the R S trajectories gained more
    than 1000 nats of energy, or met a number that is none: where there are any, ask for a higher acceptance. gradients:
    evaluations of density and gradient at one θ, those of the warm-up included.
    """

    draws: Tensor
    log_density: Tensor
    acceptance: float
    step: float
    length: float
    scale: Tensor
    divergences: int
    gradients: int


def sample(
    log_density: LogDensity,
    start: Tensor,
    *,
    draws: int,
    warm_up: int,
    seed: int,
    acceptance: float = 0.8,
    length: float | None = None,
    most: int = 1000,
) -> Chains:
    """R chains of `draws` each, after `warm_up` iterations that are thrown away.

    log_density: (R, P) -> log p (R,) up to a constant, and its gradient (R, P). start: (R, P), where log p is finite;
    best where the mass is, or near modes. acceptance: what the step is tuned to. length: T; None: found in a warm-up of
    at least 60 iterations, 1 in a shorter one. most: steps of a trajectory.

    >>> sd = torch.tensor([1.0, 10.0], dtype=torch.float64)
    >>> normal = lambda θ: (-0.5 * (θ / sd).square().sum(1), -θ / sd**2)
    >>> chains = sample(normal, torch.zeros(8, 2, dtype=torch.float64), draws=300, warm_up=200, seed=0)
    >>> chains.draws.shape, [round(s) for s in chains.draws.flatten(0, 1).std(0).tolist()]
    (torch.Size([8, 300, 2]), [1, 10])
    """
    at = _checked(log_density, start, draws, warm_up)
    (r, p), like = start.shape, {"dtype": start.dtype, "device": start.device}
    normal = lambda i: torch.randn(r, p, generator=generator(seed, "velocity", i), dtype=start.dtype).to(**like)
    scale, windows = start.new_ones(p), _windows(warm_up)
    first, gradients = _first_step(log_density, at, normal(-1), acceptance)
    pace = _averaging(first)
    log_length = math.log(length or FIRST_LENGTH)
    looks: list[tuple[float, float]] = []
    spread: _Welford | None = None
    step, kept, density = first, start.new_empty(draws, r, p), start.new_empty(draws, r)
    accepted, diverged = 0.0, 0
    for i in range(warm_up + draws):
        steps = max(1, min(most, math.ceil(2 * halton(i + 1) * math.exp(log_length) / step)))
        velocity, time = normal(i), steps * step
        new, end = leapfrog(log_density, at, velocity, step * scale, steps)
        gradients += r * steps
        gain = (new.log_density - 0.5 * end.square().sum(1)) - (at.log_density - 0.5 * velocity.square().sum(1))
        gain = torch.where(torch.isfinite(gain), gain, -math.inf)
        probability = gain.clamp(max=0).exp()
        u = torch.rand(r, generator=generator(seed, "accept", i), dtype=start.dtype).to(**like)
        before, at = at, _choose(u < probability, new, at)
        if i >= warm_up:
            kept[i - warm_up], density[i - warm_up] = at.theta, at.log_density
            accepted += float(probability.mean()) / draws
            diverged += int((gain < -DIVERGED).sum())
            continue
        pace = _averaged(pace, float(probability.mean()) - acceptance)
        step = math.exp(pace.log_step)
        if windows and i >= windows[0]:
            spread = _Welford(1, at.theta, torch.zeros_like(start)) if spread is None else _added(spread, at.theta)
            if length is None:
                jump = ((new.theta - before.theta) / scale).square().sum(1)
                sound = probability > 0.01  # the weighted mean over these: how far what would be accepted moves
                if bool(sound.any()):
                    looks.append((time, float((probability * jump)[sound].sum() / probability[sound].sum())))
                if len(looks) >= LOOKS // 2:
                    move = math.log(_best_length(looks[-LOOKS:])) - log_length
                    log_length += 0.1 * min(max(move, -1.0), 1.0)
                    log_length = min(max(log_length, math.log(step)), math.log(most * step / 2))
            if i + 1 in windows[1:]:
                old, scale = scale, _scales(spread)
                ratio = float((old / scale).log().mean())
                pace, spread = _averaging(math.exp(pace.smooth + ratio)), None
                step = math.exp(pace.log_step)
                looks = []
                if length is None and i + 1 == windows[1]:  # what was found in units of no meaning
                    log_length = math.log(FIRST_LENGTH)
        if i == warm_up - 1:
            step = math.exp(pace.smooth)
    return Chains(kept.transpose(0, 1), density.T, accepted, step, math.exp(log_length), scale, diverged, gradients)


def leapfrog(
    log_density: LogDensity, at: Point, velocity: Tensor, step: Tensor | float, steps: int
) -> tuple[Point, Tensor]:
    """`steps` steps of ε s = `step`, (P,) or one for all; gives where it ends and the velocity there.

    Reversible: from there with the velocity turned round it comes back. Its energy is in error by O(ε²). A density may
    offer `gradient(theta)`, which is asked on the way.
    """
    slope = getattr(log_density, "gradient", None) or (lambda theta: log_density(theta)[1])
    theta, velocity = at.theta, velocity + 0.5 * step * at.gradient
    for _ in range(steps - 1):
        theta = theta + step * velocity
        velocity = velocity + step * slope(theta)
    theta = theta + step * velocity
    value, gradient = log_density(theta)
    return Point(theta, value, gradient), velocity + 0.5 * step * gradient


def halton(i: int, base: int = 2) -> float:
    """The i-th number of the sequence that fills (0, 1) evenly, i from 1.

    >>> [halton(i) for i in range(1, 6)]
    [0.5, 0.25, 0.75, 0.125, 0.625]
    """
    out, share = 0.0, 1.0
    while i > 0:
        share /= base
        out += share * (i % base)
        i //= base
    return out


class _Averaging(NamedTuple):
    """Dual averaging of the log step: where it is drawn to, the mean gap in acceptance, now, and averaged."""

    centre: float
    gap: float
    log_step: float
    smooth: float
    iterations: int


def _averaging(step: float) -> _Averaging:
    return _Averaging(math.log(10 * step), 0.0, math.log(step), math.log(step), 0)


def _averaged(now: _Averaging, excess: float) -> _Averaging:
    """One iteration whose acceptance was `excess` above the wanted; γ = 0.05, t0 = 10, κ = 0.75 as in the paper."""
    m = now.iterations + 1
    gap = now.gap + (-excess - now.gap) / (m + 10)
    log_step = now.centre - math.sqrt(m) / 0.05 * gap
    weight = m**-0.75
    return _Averaging(now.centre, gap, log_step, weight * log_step + (1 - weight) * now.smooth, m)


class _Welford(NamedTuple):
    """Running mean and sum of squares about it, of each chain: (R, P)."""

    iterations: int
    mean: Tensor
    squares: Tensor


def _added(now: _Welford, theta: Tensor) -> _Welford:
    n = now.iterations + 1
    off = theta - now.mean
    mean = now.mean + off / n
    return _Welford(n, mean, now.squares + off * (theta - mean))


def _scales(seen: _Welford) -> Tensor:
    """(P,) standard deviations within chains, drawn a little towards a small one, as if by five draws more (Stan)."""
    n = (seen.iterations - 1) * len(seen.mean)
    return ((seen.squares.sum(0) + 5e-3) / (n + 5)).sqrt()


def _best_length(looks: list[tuple[float, float]]) -> float:
    """The T with the largest ∫ J dt over (0, 2T) per 2T², by trapezia; more than was looked at, if it rises there.

    >>> looks = [(0.1 * k, 1 - math.cos(0.1 * k)) for k in range(1, 100)]  # of a normal
    >>> round(_best_length(looks), 2), _best_length(looks[:20]) > 1.0  # 1 / u - sin(u) / u², u = 2T: half of 3.14
    (1.55, True)
    """
    area, best, at, before, last = 0.0, -1.0, 0.0, 0.0, 0.0
    for t, jump in sorted(looks):
        area += 0.5 * (jump + last) * (t - before)
        if 2 * area / t**2 > best:
            best, at = 2 * area / t**2, t
        before, last = t, jump
    return 0.5 * at if at < before else 1.5 * at


def _windows(warm_up: int) -> list[int]:
    """Where windows for the scales begin, and where each ends: after a tenth, doubling, until nine tenths."""
    if warm_up < 3 * SHORTEST_WINDOW:
        return []
    ends, size, last = [warm_up // 10], max(SHORTEST_WINDOW, warm_up // 20), warm_up - warm_up // 10
    while ends[-1] < last:
        ends.append(ends[-1] + size if ends[-1] + 3 * size <= last else last)
        size *= 2
    return ends


def _first_step(log_density: LogDensity, at: Point, velocity: Tensor, acceptance: float) -> tuple[float, int]:
    """Doubled or halved until one leapfrog crosses the wanted acceptance (Hoffman & Gelman 2014, Algorithm 4)."""
    step, grows, gradients = FIRST_STEP, None, len(velocity)
    for _ in range(40):
        new, end = leapfrog(log_density, at, velocity, step, 1)
        gradients += len(velocity)
        gain = (new.log_density - 0.5 * end.square().sum(1)) - (at.log_density - 0.5 * velocity.square().sum(1))
        good = float(torch.where(torch.isfinite(gain), gain, -math.inf).clamp(max=0).exp().mean()) > acceptance
        if grows is not None and good != grows:
            break
        grows = good
        step *= 2.0 if good else 0.5
    return step, gradients


def _choose(accept: Tensor, new: Point, old: Point) -> Point:
    column = accept[:, None]
    return Point(
        torch.where(column, new.theta, old.theta),
        torch.where(accept, new.log_density, old.log_density),
        torch.where(column, new.gradient, old.gradient),
    )


def _checked(log_density: LogDensity, start: Tensor, draws: int, warm_up: int) -> Point:
    if start.ndim != 2:
        raise ShapeError(f"sample got start {tuple(start.shape)}", needs="(chains, parameters)", fix="start[None]")
    if draws < 1 or warm_up < 1:
        raise UsageError(
            f"sample got draws={draws}, warm_up={warm_up}",
            needs="at least one of each: the step is found in the warm-up",
            fix="draws=1000, warm_up=500",
        )
    at = Point(start, *log_density(start))
    bad = ~(torch.isfinite(at.log_density) & torch.isfinite(at.gradient).all(1))
    if bool(bad.any()):
        chain = int(bad.nonzero()[0])
        raise UsageError(
            f"chain {chain} starts where nothing can be said of log p",
            needs="starts with a finite log density and gradient",
            found=f"log p = {at.log_density[chain].item()}",
            fix="starts from the prior, or from a descent",
        )
    return at
