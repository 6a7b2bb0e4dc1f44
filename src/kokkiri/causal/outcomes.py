"""The outcome under each level of a treatment: candidates, cross-fitted and mixed by how well they foretell."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from kokkiri.causal.arms import Arms
from kokkiri.causal.crossfit import Fitted, Learner, Rows, Sets, crossfit, outputs_of
from kokkiri.causal.lines import lines
from kokkiri.herd import Herd
from kokkiri.likelihoods import Bernoulli, Gaussian
from kokkiri.numerics.random import philox
from kokkiri.numerics.stacking import stacking
from kokkiri.types import Likelihood

GUESS = 2  # folds of a quick look for the noise


class Outcomes(NamedTuple):
    """mean: (1 + B, K, n), the whole sets together and each replicate. features: (M, F, n, K C) what the mixture says
    of every row, on the scale of the network's outputs. weights: of the candidates, over all rows.
    noise: root mean square out of fold, in the units of y. fold: (M, n) of the whole sets. parts: what can
    predict other inputs.
    """

    mean: Tensor
    features: Tensor
    weights: dict[str, float]
    noise: float
    fold: Tensor
    parts: tuple[Part, ...] = ()
    units: tuple[float, float] = (0.0, 1.0)

    def at(self, x: Tensor, inputs: Tensor, sets: Sets) -> Tensor:
        """(K, n) means at other inputs of the same rows, each by the replicas that have not seen the row."""
        total = torch.zeros(self.mean.shape[1:], dtype=torch.float64)
        for weight, arms, herd, raw in self.parts:
            seen = x if raw else inputs
            for m in range(sets.whole):
                for f in range(sets.folds):
                    rows, r = sets.fold[m] == f, m * sets.folds + f
                    found = _bound(arms, herd, r).mean(herd[r](seen[rows]))[0]
                    total[:, rows] += weight[:, None] / sets.whole * found
        return total * self.units[1] + self.units[0]

    def foretold(self, x: Tensor, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """(K, n) means and (R, n, K C) features of rows that no replica has seen, R replicas of the whole sets."""
        total, features = [], []
        for weight, arms, herd, raw in self.parts:
            each = outputs_of(herd, x if raw else inputs)
            said = torch.stack([_bound(arms, herd, r).mean(each[r : r + 1])[0] for r in range(len(herd))])
            total.append(weight[:, None] * said.mean(0))
            features.append(_weighed(each, weight, arms.code()))
        return torch.stack(total).sum(0) * self.units[1] + self.units[0], torch.stack(features).sum(0)


class Part(NamedTuple):
    """A candidate that is in the mixture: its weight (K,), likelihood, replicas of the whole sets, and which inputs."""

    weight: Tensor
    arms: Arms
    herd: Herd
    raw: bool


@dataclass(frozen=True)
class _Units:
    """y = shift + scale · z, where the likelihood may be moved."""

    shift: float
    scale: float


def outcomes(
    x: Tensor, inputs: Tensor, t: Tensor, y: Tensor, likelihood: Likelihood, levels: int, sets: Sets,
    learners: Sequence[Learner], seed: int, noise: float | None = None,
) -> Outcomes:  # fmt: skip
    """Cross-fits the candidates. x: raw inputs, (n, ...), for a caller's network; inputs: scaled, for the others.

    noise: of a normal outcome, where it is known.
    """
    moves = likelihood.location_scale
    units = _Units(float(y.mean()), float(y.std()) or 1.0) if moves else _Units(0.0, 1.0)
    z = (y - units.shift) / units.scale
    target = torch.stack([t.double(), z], 1)
    own: Any = replace(likelihood, scale=1.0, learn=False) if isinstance(likelihood, Gaussian) else likelihood
    fitted: dict[str, list[Fitted]] = {}
    arms: dict[str, Arms] = {}
    said: dict[str, Tensor] = {}
    whole, rest = sets.part(0, sets.whole), sets.part(sets.whole, len(sets.fold))
    order = sorted(learners, key=lambda one: one.name != "linear")  # the line first: it says how much noise at the most
    log_p = []
    for one in order:
        rows = Rows(x if one.raw else inputs, target)
        if isinstance(own, Gaussian):
            most = _rms(said["linear"].mean(0), t, z) if "linear" in said else 0.7
            quick = noise is None and one.name != "linear"
            scale = (
                _guess(rows, whole, one, own, levels, most, seed)
                if quick
                else (noise or most * units.scale) / units.scale
            )
            own = replace(own, scale=max(scale, 1e-3))
        arms[one.name] = Arms(own, levels)
        fitted[one.name] = [_fitted(rows, whole, one, arms[one.name], seed)]
        said[one.name] = _means(arms[one.name], fitted[one.name][0], whole)
        log_p.append(_log_density(arms[one.name], fitted[one.name][0], whole, said[one.name], rows))
    pi = _mixed(torch.stack(log_p), t, levels)  # (candidates, K)
    share = torch.bincount(t, minlength=levels).double() / len(t)
    weights = dict(zip(said, (pi @ share).tolist(), strict=True))
    used = [one for one in order if weights[one.name] > 0]
    if len(rest.fold):
        for one in used:
            rows = Rows(x if one.raw else inputs, target)
            fitted[one.name].append(_fitted(rows, rest, one, arms[one.name], seed, first=sets.whole))
    of = dict(zip(said, pi, strict=True))
    code = Arms(own, levels).code()
    each = {one.name: torch.cat([f.outputs for f in fitted[one.name]]) for one in used}
    features = torch.stack([_weighed(outputs, of[name], code) for name, outputs in each.items()]).sum(0)
    mean = torch.stack([of[one.name][:, None] * said[one.name].mean(0, keepdim=True) for one in used]).sum(0)
    if len(rest.fold):
        again = [of[one.name][:, None] * _means(arms[one.name], fitted[one.name][1], rest) for one in used]
        mean = torch.cat([mean, torch.stack(again).sum(0)])
    found = mean * units.scale + units.shift
    parts = tuple(Part(of[one.name], arms[one.name], fitted[one.name][0].herd, one.raw) for one in used)
    rms = float((y - found[0].gather(0, t[None])[0]).square().mean().sqrt())
    return Outcomes(found, features, weights, rms, whole.fold, parts, (units.shift, units.scale))


def _fitted(rows: Rows, sets: Sets, one: Learner, arms: Arms, seed: int, first: int = 0) -> Fitted:
    """Replicas of a candidate: solved where a line has normal noise, trained otherwise."""
    if one.name == "linear" and isinstance(arms.inner, Gaussian):
        return lines(rows, sets, one, arms)
    return crossfit(rows, sets, one, arms, seed, first=first)


def _mixed(log_p: Tensor, t: Tensor, levels: int) -> Tensor:
    """(candidates, K) weights: a line may be right for some levels and wrong for others."""
    return torch.stack([stacking(log_p[:, t == k]) for k in range(levels)], 1)


def _weighed(outputs: Tensor, pi: Tensor, code: Tensor) -> Tensor:
    """Outputs (..., K C) whose arm k counts π_k: (code⁻¹ diag(π) code) o, set by set."""
    change = torch.linalg.solve(code.double(), pi[:, None] * code.double())
    return torch.einsum("kj,...jc->...kc", change, outputs.double().unflatten(-1, (len(code), -1))).flatten(-2)


def drawn(likelihood: Likelihood, mean: Tensor, noise: float, residual: Tensor, rng: torch.Generator) -> Tensor:
    """(n,) outcomes with these means: normal, 0 or 1, counts spread as the rows' were, or with the rows' residuals.

    noise, residual (n,): out of fold. Residuals get either sign (the wild bootstrap of Wu 1986), so that noise is where
    it was; counts are Poisson with a gamma distributed rate whose variance makes up for what Poisson's does not.
    """
    if isinstance(likelihood, Gaussian):
        return mean + noise * torch.randn(len(mean), generator=rng, dtype=torch.float64)
    if isinstance(likelihood, Bernoulli):
        return (torch.rand(len(mean), generator=rng, dtype=torch.float64) < mean).double()
    if likelihood.discrete:
        rate = mean.clamp(min=1e-6)
        more = float((residual.square() - rate).sum() / rate.square().sum())
        if more > 1e-3:
            number = int(torch.randint(2**62, (1,), generator=rng))
            gamma = philox(number, "rates").gamma(1 / more, size=len(rate))
            rate = rate * more * torch.from_numpy(gamma)
        return torch.poisson(rate, generator=rng)
    return mean + residual * (2.0 * torch.randint(2, (len(mean),), generator=rng).double() - 1)


def _guess(rows: Rows, sets: Sets, one: Learner, own: Gaussian, levels: int, most: float, seed: int) -> float:
    """The noise: root mean square out of fold of a quick look at two folds, or `most` if that is less.

    A noise that is learned beside flexible weights shrinks with their errors on the rows that they were fitted to.
    """
    some = min(GUESS, sets.folds)
    arms = Arms(replace(own, scale=max(most, 1e-3)), levels)
    part = _Part(sets.part(0, 1), some)
    got = crossfit(rows, part, replace(one, steps=max(one.steps // 2, 1)), arms, seed)  # type: ignore[arg-type]
    mean = arms.mean(part.unseen(got.outputs))[0]
    seen = sets.fold[0] < some
    t, z = rows.y[seen, 0].long(), rows.y[seen, 1]
    return max(1e-3, min(most, _rms(mean[:, seen], t, z)))


class _Part(NamedTuple):
    """The first few folds of some sets."""

    sets: Sets
    folds: int

    @property
    def fold(self) -> Tensor:
        return self.sets.fold

    @property
    def starts(self) -> int:
        return self.sets.starts

    def masks(self) -> Tensor:
        return self.sets.masks().unflatten(0, (len(self.fold), -1))[:, : self.folds].flatten(0, 1)

    def unseen(self, values: Tensor) -> Tensor:
        """Rows of other folds are given to the last one; nobody looks at them."""
        return Sets(self.fold.clamp(max=self.folds - 1), self.sets.weight, self.folds, 1).unseen(values)


def _rms(mean: Tensor, t: Tensor, z: Tensor) -> float:
    """Root mean square of z less the mean of its level; mean (K, n)."""
    return float((z - mean.gather(0, t[None])[0]).square().mean().sqrt())


def _means(arms: Arms, fitted: Fitted, sets: Sets) -> Tensor:
    """(M, K, n) mean outcomes out of fold."""
    out = []
    for m in range(len(sets.fold)):
        said = torch.empty(arms.levels, sets.fold.shape[1], dtype=torch.float64)
        for f in range(sets.folds):
            rows = sets.fold[m] == f
            bound = _bound(arms, fitted.herd, m * sets.folds + f)
            said[:, rows] = bound.mean(fitted.outputs[m, f][rows][None])[0]
        out.append(said)
    return torch.stack(out)


def _bound(arms: Arms, herd: Herd, replica: int) -> Arms:
    own = {name: v[replica] for name, v in herd.likelihood_params().items()}
    return arms.bind(own) if own else arms


def _log_density(arms: Arms, fitted: Fitted, sets: Sets, mean: Tensor, rows: Rows) -> Tensor:
    """(n,) log of the whole sets' mean density of each row; for a normal of fixed noise, each level's best noise."""
    if isinstance(arms.inner, Gaussian) and not arms.inner.learn:
        t, z = rows.y[:, 0].long(), rows.y[:, 1]
        away = z - mean[: sets.whole].mean(0).gather(0, t[None])[0]
        many = torch.bincount(t, minlength=arms.levels).clamp(min=1).double()
        s = (torch.zeros_like(many).index_add(0, t, away.square()) / many).sqrt().clamp(min=1e-6)[t]
        return -0.5 * (away / s).square() - s.log() - 0.5 * math.log(2 * math.pi)
    out = []
    for m in range(sets.whole):
        log_p = torch.empty(len(rows), dtype=torch.float64)
        for f in range(sets.folds):
            own = sets.fold[m] == f
            bound = _bound(arms, fitted.herd, m * sets.folds + f)
            log_p[own] = bound.log_prob(fitted.outputs[m, f][own], rows.y[own]).double()
        out.append(log_p)
    return torch.stack(out).logsumexp(0) - math.log(sets.whole)
