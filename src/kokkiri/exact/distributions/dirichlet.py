"""Dirichlet, and the classes and counts that follow from it: what is believed of several proportions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from kokkiri.errors import ShapeError
from kokkiri.exact.distributions import arguments
from kokkiri.exact.distributions.arguments import Numbers
from kokkiri.exact.distributions.beta import Beta
from kokkiri.exact.distributions.counts import BetaBinomial
from kokkiri.exact.distributions.drawing import generator, log_gamma_draws
from kokkiri.numerics.gammas import dirichlet_log_prob, dirichlet_multinomial_log_prob, sum_of_others

SUM = 1e-9  # how far from one proportions may add up


@dataclass(frozen=True, eq=False, repr=False, init=False)
class Dirichlet:
    """Π p_k^(α_k - 1) / B(α) over K proportions that add up to one; concentration α (..., K), K >= 2.

    Source: Kotz, Balakrishnan and Johnson 2000, "Continuous multivariate distributions", chapter 49.

    >>> Dirichlet([1.0, 2.0, 3.0]).mean.tolist()
    [0.16666666666666666, 0.3333333333333333, 0.5]
    """

    concentration: Tensor

    def __init__(self, concentration: Numbers) -> None:
        _settle(self, concentration)

    def __repr__(self) -> str:
        return _shown(self)

    @property
    def mean(self) -> Tensor:
        """E[p_k] = α_k / Σα, (..., K)."""
        return self.concentration / self.concentration.sum(-1, keepdim=True)

    @property
    def variance(self) -> Tensor:
        """Of each proportion, (..., K)."""
        return self.marginal.variance

    @property
    def covariance(self) -> Tensor:
        """(..., K, K)."""
        p, n = self.mean, self.concentration.sum(-1)[..., None, None]
        return (torch.diag_embed(p) - p.unsqueeze(-1) * p.unsqueeze(-2)) / (n + 1)

    @property
    def sd(self) -> Tensor:
        """√variance."""
        return self.variance.sqrt()

    @property
    def mode(self) -> Tensor:
        """(α_k - 1) / Σ(α - 1), (..., K); NaN where the density is flat or grows without bound (an α_k < 1)."""
        up = self.concentration - 1
        return torch.where((up >= 0).all(-1, keepdim=True), up / up.sum(-1, keepdim=True), torch.nan)

    @property
    def marginal(self) -> Beta:
        """Of each proportion by itself, (..., K)."""
        return Beta(self.concentration, sum_of_others(self.concentration))

    def log_prob(self, p: Numbers) -> Tensor:
        """The log density of p (..., K) with respect to its first K - 1 entries, nats; -∞ where it is no such p."""
        p = arguments.numbers("Dirichlet", "p", p)
        _must_have("Dirichlet.log_prob", "p", p, self.concentration)
        inside = (p >= 0).all(-1) & ((p.sum(-1) - 1).abs() < SUM)
        found = dirichlet_log_prob(self.concentration, torch.where(p > 0, p, 1.0))
        edges = torch.where(p == 0, self._at_zero, 0.0).sum(-1)
        return torch.where(p.isnan().any(-1), torch.nan, torch.where(inside, found + edges, -torch.inf))

    @property
    def _at_zero(self) -> Tensor:
        """What p_k = 0 adds: an infinity, or nothing where its power is 0."""
        return torch.where(self.concentration > 1, -torch.inf, torch.where(self.concentration < 1, torch.inf, 0.0))

    def interval(self, level: float = 0.95) -> tuple[Tensor, Tensor]:
        """The central interval of each proportion by itself, (..., K) each."""
        return self.marginal.interval(level)

    def sample(self, n: int, *, seed: int) -> Tensor:
        """(n, ..., K) draws."""
        return torch.softmax(log_gamma_draws(self.concentration, n, seed, "Dirichlet"), -1)


@dataclass(frozen=True, eq=False, repr=False, init=False)
class Categorical:
    """The next class of K, y ~ Categorical(p), p ~ Dirichlet(concentration).

    mean, variance and its two parts are those of the K indicators, (..., K).

    >>> Categorical([1.0, 2.0, 3.0]).log_prob(2).exp().item()
    0.5
    """

    concentration: Tensor

    def __init__(self, concentration: Numbers) -> None:
        _settle(self, concentration)

    def __repr__(self) -> str:
        return _shown(self)

    @property
    def mean(self) -> Tensor:
        """The probability of each class, (..., K)."""
        return self.concentration / self.concentration.sum(-1, keepdim=True)

    @property
    def variance(self) -> Tensor:
        """E[p] (1 - E[p])."""
        return self._indicators.variance

    @property
    def aleatoric(self) -> Tensor:
        """E[p (1 - p)], the variance at known proportions."""
        return self._indicators.aleatoric

    @property
    def epistemic(self) -> Tensor:
        """var(p), ignorance of the proportions."""
        return self._indicators.epistemic

    @property
    def mode(self) -> Tensor:
        """The most probable class, the first of several."""
        return self.concentration.argmax(-1)

    def log_prob(self, y: Numbers) -> Tensor:
        """Of class numbers (...), nats; -∞ for what is no class."""
        y, classes = arguments.numbers("Categorical", "y", y), self.concentration.shape[-1]
        inside = (y >= 0) & (y < classes) & (y == y.round())
        place = torch.where(inside, y, 0.0).long()
        shape = torch.broadcast_shapes(place.shape, self.concentration.shape[:-1])
        logs = self.mean.log().expand(*shape, classes)
        found = torch.gather(logs, -1, place.expand(shape).unsqueeze(-1)).squeeze(-1)
        return torch.where(inside, found, -torch.inf)

    def sample(self, n: int, *, seed: int) -> Tensor:
        """(n, ...) class numbers."""
        size = (arguments.count("Categorical", n), *self.concentration.shape[:-1])
        uniform = torch.as_tensor(generator("Categorical", seed).random(size)).to(self.concentration)
        below = self.mean.cumsum(-1)
        return (uniform.unsqueeze(-1) >= below).sum(-1).clamp(max=self.concentration.shape[-1] - 1)

    @property
    def _indicators(self) -> BetaBinomial:
        return BetaBinomial(1, self.concentration, sum_of_others(self.concentration))


@dataclass(frozen=True, eq=False, repr=False, init=False)
class DirichletMultinomial:
    """How often each of K classes comes in `trials`, with proportions ~ Dirichlet(concentration): (..., K).

    >>> DirichletMultinomial(2, [1.0, 1.0]).log_prob([1, 1]).exp().round(decimals=12).item()
    0.333333333333
    """

    trials: Tensor
    concentration: Tensor

    def __init__(self, trials: Numbers, concentration: Numbers) -> None:
        _settle(self, concentration)
        trials = arguments.numbers("DirichletMultinomial", "trials", trials)
        arguments.put(self, trials=trials)
        BetaBinomial(trials, 1.0, 1.0)  # refuses what is no number of trials

    def __repr__(self) -> str:
        return _shown(self)

    @property
    def mean(self) -> Tensor:
        """(..., K)."""
        return self.marginal.mean

    @property
    def variance(self) -> Tensor:
        """Of the count of each class, (..., K)."""
        return self.marginal.variance

    @property
    def aleatoric(self) -> Tensor:
        """How far each count varies at known proportions."""
        return self.marginal.aleatoric

    @property
    def epistemic(self) -> Tensor:
        """Ignorance of the proportions."""
        return self.marginal.epistemic

    @property
    def marginal(self) -> BetaBinomial:
        """Of the count of each class by itself, (..., K)."""
        return BetaBinomial(self.trials.unsqueeze(-1), self.concentration, sum_of_others(self.concentration))

    def log_prob(self, counts: Numbers) -> Tensor:
        """Of counts (..., K), nats; -∞ where they are none, or do not add up to `trials`."""
        counts = arguments.numbers("DirichletMultinomial", "counts", counts)
        _must_have("DirichletMultinomial.log_prob", "counts", counts, self.concentration)
        inside = ((counts >= 0) & (counts == counts.round())).all(-1) & (counts.sum(-1) == self.trials)
        safe = torch.where(inside.unsqueeze(-1), counts, 0.0)
        wide = torch.broadcast_tensors(self.concentration, safe)
        return torch.where(inside, dirichlet_multinomial_log_prob(*wide), -torch.inf)

    def interval(self, level: float = 0.95) -> tuple[Tensor, Tensor]:
        """The central interval of each count by itself, (..., K) each."""
        return self.marginal.interval(level)

    def sample(self, n: int, *, seed: int) -> Tensor:
        """(n, ..., K) counts."""
        p = Dirichlet(self.concentration).sample(n, seed=seed).cpu().numpy()
        trials = np.broadcast_to(self.trials.cpu().numpy().astype(np.int64), p.shape[:-1])
        p = p / p.sum(-1, keepdims=True)  # numpy refuses sums above 1 by more than rounding
        return torch.as_tensor(generator("DirichletMultinomial", seed).multinomial(trials, p)).to(self.concentration)


def _settle(self: Dirichlet | Categorical | DirichletMultinomial, concentration: Numbers) -> None:
    arguments.settle(
        self,
        positive={"concentration": concentration},
        fix="leave out a class that is impossible; 0.01 for a rare one",
    )
    shape = tuple(self.concentration.shape)
    if not shape or shape[-1] < 2:
        raise ShapeError(
            f"{type(self).__name__} got a concentration of shape {shape}",
            needs="(..., K): one number for each of two classes or more, along the last axis",
            found=f"{shape[-1]} class" if shape else "a single number",
            fix="concentration=[1.0, 1.0, 1.0] for three classes",
        )


def _must_have(owner: str, name: str, value: Tensor, concentration: Tensor) -> None:
    classes = concentration.shape[-1]
    if not value.ndim or value.shape[-1] != classes:
        raise ShapeError(
            f"{owner} got {name} {tuple(value.shape)}",
            needs=f"{name} (..., {classes}), one for each class along the last axis",
            found=f"{value.shape[-1]} along the last axis" if value.ndim else "a single number",
            fix="the classes of the concentration, in the same order",
        )


def _shown(self: Dirichlet | Categorical | DirichletMultinomial) -> str:
    name, shape = type(self).__name__, tuple(self.concentration.shape)
    if self.concentration.ndim > 1 or self.concentration.numel() > 8:
        return f"{name}(concentration {shape})"
    return f"{name}([{', '.join(f'{v:.6g}' for v in self.concentration.tolist())}])"
