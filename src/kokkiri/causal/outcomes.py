"""The outcome under each level of a treatment: candidates, cross-fitted and mixed by how well they foretell."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from kokkiri.causal.arms import Arms
from kokkiri.causal.crossfit import ROWS, Fitted, Learner, Rows, Sets, crossfit
from kokkiri.herd import Herd
from kokkiri.likelihoods import Gaussian
from kokkiri.numerics.stacking import stacking
from kokkiri.types import Likelihood

GUESS = 2  # folds of a quick look for the noise


class Outcomes(NamedTuple):
    """mean: (1 + B, K, n), the whole sets together and each replicate. features: (M, F, n, K C) what the mixture says
    of every row, on the scale of the network's outputs. hidden: (F, n, D). weights: of the candidates.
    """

    mean: Tensor
    features: Tensor
    hidden: Tensor
    weights: dict[str, float]
    noise: float


@dataclass(frozen=True)
class _Units:
    """y = shift + scale · z, where the likelihood may be moved."""

    shift: float
    scale: float


def outcomes(
    x: Tensor, inputs: Tensor, t: Tensor, y: Tensor, likelihood: Likelihood, levels: int, sets: Sets,
    learners: Sequence[Learner], seed: int,
) -> Outcomes:  # fmt: skip
    """Cross-fits the candidates. x: raw inputs, (n, ...), for a caller's network; inputs: scaled, for the others."""
    moves = likelihood.location_scale
    units = _Units(float(y.mean()), float(y.std()) or 1.0) if moves else _Units(0.0, 1.0)
    z = (y - units.shift) / units.scale
    target = torch.stack([t.double(), z], 1)
    own: Any = replace(likelihood, scale=1.0, learn=False) if isinstance(likelihood, Gaussian) else likelihood
    fitted: list[Fitted] = []
    order = sorted(learners, key=lambda one: one.name != "linear")  # the line first: it says how much noise at the most
    known: dict[str, tuple[Arms, Tensor, Tensor]] = {}
    for one in order:
        rows = Rows(x if one.raw else inputs, target)
        if isinstance(own, Gaussian) and one.name != "linear":
            own = replace(own, scale=_guess(rows, sets, one, own, levels, t, z, known, seed))
        arms = Arms(own, levels)
        got = crossfit(rows, sets, one, arms, seed)
        fitted.append(got)
        mean = _means(arms, got, sets)
        known[one.name] = arms, mean, _log_density(arms, got, sets, mean, rows)
    each = [known[one.name] for one in order]
    pi = stacking(torch.stack([log_p for _, _, log_p in each]))
    mean = sum(float(w) * m for w, (_, m, _) in zip(pi, each, strict=True))
    features = sum(float(w) * f.outputs for w, f in zip(pi, fitted, strict=True))
    assert isinstance(mean, Tensor)
    assert isinstance(features, Tensor)
    whole = mean[: sets.whole].mean(0, keepdim=True)
    found = torch.cat([whole, mean[sets.whole :]]) * units.scale + units.shift
    deepest = fitted[-1].herd[list(range(sets.folds))]
    noise = float((y - found[0].gather(0, t[None])[0]).square().mean().sqrt())
    phi = hidden(deepest, x if order[-1].raw else inputs)
    return Outcomes(found, features, phi, dict(zip([o.name for o in order], pi.tolist(), strict=True)), noise)


def hidden(herd: Herd, x: Tensor) -> Tensor:
    """(R, n, D) what goes into the last affine map of each replica; beside it the inputs, where they are few."""
    out = []
    for r in range(len(herd)):
        module, seen = herd.module(r), []
        last = [m for m in module.modules() if isinstance(m, nn.Linear) and m.out_features == _width(module)][-1:]
        skip = getattr(module, "skip", None)
        at = getattr(module, "output", None) if isinstance(getattr(module, "output", None), nn.Linear) else None
        where = at if at is not None else last[0] if last else None
        if where is None:
            return x.flatten(1).expand(len(herd), -1, -1)
        handle = where.register_forward_pre_hook(lambda _m, args, seen=seen: seen.append(args[0].detach()))
        with torch.no_grad():
            for start in range(0, len(x), ROWS):
                module(x[start : start + ROWS])
        handle.remove()
        phi = torch.cat(seen)
        out.append(torch.cat([phi, x.flatten(1)], 1) if skip is not None else phi)
    return torch.stack(out)


def _width(module: nn.Module) -> int:
    linear = [m for m in module.modules() if isinstance(m, nn.Linear)]
    return linear[-1].out_features if linear else -1


def _guess(
    rows: Rows, sets: Sets, one: Learner, own: Gaussian, levels: int, t: Tensor, z: Tensor, known: Any, seed: int
) -> float:
    """The noise: root mean square out of fold of a quick look at two folds, or of the line if that is less.

    A noise that is learned beside flexible weights shrinks with their errors on the rows that they were fitted to.
    """
    line = known.get("linear")
    start = 0.7 if line is None else _rms(line[1][: sets.whole].mean(0), t, z)
    some = min(GUESS, sets.folds)
    quick = Sets(sets.fold[:1], sets.weight[:1], sets.folds, 1)
    arms = Arms(replace(own, scale=max(start, 1e-3)), levels)
    part = _Part(quick, some)
    got = crossfit(rows, part, replace(one, steps=max(one.steps // 2, 1)), arms, seed)  # type: ignore[arg-type]
    mean = arms.mean(part.unseen(got.outputs))[0]
    seen = sets.fold[0] < some
    found = _rms(mean[:, seen], t[seen], z[seen])
    return max(1e-3, min(start, found) if line is not None else found)


class _Part(NamedTuple):
    """The first few folds of some sets."""

    sets: Sets
    folds: int

    @property
    def fold(self) -> Tensor:
        return self.sets.fold

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
    """(n,) log of the whole sets' mean density of each row; for a normal of fixed noise, its own best noise."""
    if isinstance(arms.inner, Gaussian) and not arms.inner.learn:
        t, z = rows.y[:, 0].long(), rows.y[:, 1]
        away = z - mean[: sets.whole].mean(0).gather(0, t[None])[0]
        s = float(away.square().mean().sqrt()) or 1e-6
        return -0.5 * (away / s).square() - math.log(s) - 0.5 * math.log(2 * math.pi)
    out = []
    for m in range(sets.whole):
        log_p = torch.empty(len(rows), dtype=torch.float64)
        for f in range(sets.folds):
            own = sets.fold[m] == f
            bound = _bound(arms, fitted.herd, m * sets.folds + f)
            log_p[own] = bound.log_prob(fitted.outputs[m, f][own], rows.y[own]).double()
        out.append(log_p)
    return torch.stack(out).logsumexp(0) - math.log(sets.whole)
