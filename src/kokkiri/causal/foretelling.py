"""Outcome and propensity of rows that came after the networks were trained, by all of their replicas."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from kokkiri.causal.outcomes import Outcomes
from kokkiri.causal.propensities import Propensities
from kokkiri.numerics.effects import Nuisances
from kokkiri.numerics.heads import Frozen, ridges
from kokkiri.numerics.stacking import Platt, platt
from kokkiri.phrases import plain

STEEP = 6.0  # what standardised inputs are multiplied by, so that units begin steep
SURPRISE = 1e-3  # chance below which new treatments do not follow the old rule
AWAY, FEW = 4.0, 10  # standard errors of a mean from which on new outcomes are not what was foretold; rows for one


class Steepness(NamedTuple):
    """(n, p) inputs → STEEP (x - mean) / unit, float32, as networks are given them."""

    mean: Tensor
    unit: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """Of any rows, as of the first ones."""
        return (STEEP * (x.double() - self.mean) / self.unit).float()


class Foretold(NamedTuple):
    """(K, n) mean outcomes and probabilities of levels, and (B, K, n) what replicates of the procedure say, or None."""

    outcome: Tensor
    propensity: Tensor
    outcome_draws: Tensor | None
    propensity_draws: Tensor | None


@dataclass(frozen=True, eq=False)
class Foreteller:
    """What a cross-fit knows. runs: the one that the effect comes from, then replicates on drawn rows."""

    steepness: Steepness | None
    runs: tuple[tuple[Outcomes, Propensities], ...]

    def inputs(self, x: Tensor) -> Tensor:
        """As the default networks are given them."""
        return x if self.steepness is None else self.steepness(x)

    def __call__(self, x: Tensor) -> Foretold:
        """Of rows that none of the networks has seen, x (n, ...): no fold is left out."""
        x = x.float() if x.is_floating_point() or self.steepness is not None else x
        inputs = self.inputs(x)
        said = []
        for outcome, treatment in self.runs:
            mean, features = outcome.foretold(x, inputs)
            said.append((mean, treatment.foretold(x, inputs, features)))
        mu, e = (torch.stack(each) for each in zip(*said, strict=True))
        return Foretold(mu[0], e[0], mu[1:] if len(mu) > 1 else None, e[1:] if len(e) > 1 else None)


def another_rule(propensity: Tensor, t: Tensor) -> Platt | None:
    """What mends probabilities (K, n) of new rows whose treatments t tell that they were given otherwise, if they do.

    By the likelihood ratio of slope and shifts, twice whose logarithm is χ² with K degrees of freedom (Wilks 1938).
    """
    mend = platt(propensity, t)
    said, own = (p.gather(0, t[None])[0].clamp(min=1e-12).log().sum() for p in (propensity, mend(propensity)))
    chance = torch.special.gammaincc(torch.tensor(len(propensity) / 2, dtype=torch.float64), (own - said).clamp(min=0))
    if float(chance) > SURPRISE:
        return None
    return mend


def recalibrated(said: Foretold, t: Tensor) -> tuple[Foretold, list[str]]:
    """The same by the rule of treatment of the rows themselves. Replicates are mended alike: they differ by errors."""
    mend = another_rule(said.propensity, t)
    if mend is None:
        return said, []
    draws = None if said.propensity_draws is None else mend(said.propensity_draws)
    rule = "the new rows were treated by another rule than the first ones"
    told = f"{rule}: their probabilities were calibrated anew, slope {mend.slope:.2f}"
    return said._replace(propensity=mend(said.propensity), propensity_draws=draws), [told]


def with_heads(nuisances: Nuisances, *, event: bool) -> Nuisances:
    """The outcome under each level as a line in what the networks foretell, solved from all rows out of fold.

    New rows tell where the networks of the first ones were off; the lines are sums over rows, so that rows in parts are
    rows at once. event: means are probabilities. Replicates of the networks keep their distance.
    """
    mu = nuisances.outcome
    phi = torch.cat([torch.ones_like(mu[:1]), mu]).T
    weight = torch.ones_like(nuisances.y) if nuisances.weight is None else nuisances.weight
    beta = ridges(Frozen(phi[None], nuisances.fold), nuisances.levels, nuisances.t, nuisances.y, weight)
    found = torch.einsum("nkd,nd->kn", beta[nuisances.fold], phi)
    found = found.clamp(0.0, 1.0) if event else found
    draws = nuisances.outcome_draws
    return nuisances._replace(outcome=found, outcome_draws=None if draws is None else draws + (found - mu))


def drifted(old: tuple[Tensor, Tensor, Tensor], new: tuple[Tensor, Tensor, Tensor], levels: Sequence[str]) -> list[str]:
    """Levels whose new outcomes are off what was foretold by another amount than the old ones, on average.

    old, new: outcome (K, n), t (n,), y (n,).
    """
    said = []
    for k, name in enumerate(levels):
        rest = [(y - outcome[k])[t == k] for outcome, t, y in (old, new)]
        if min(map(len, rest)) < FEW:
            continue
        away = float(rest[1].mean() - rest[0].mean())
        error = sum(float(r.var()) / len(r) for r in rest) ** 0.5
        if abs(away) > AWAY * error:
            off = f"new outcomes under {name} are {plain(away)} off what was foretold, on average"
            said.append(f"{off}: the days differ, or the networks are wrong")
    return said
