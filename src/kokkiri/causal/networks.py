"""Outcome and propensity by networks, each row's by networks that have not seen it, and replicates of both.

What the one-step correction needs is that the product of the two errors be small. So

- few inputs are believed to matter until rows say otherwise (`priors.Cauchy`), and the network may be steep: a sparse
  network of steep units learns a threshold that a smooth one smears;
- candidates are mixed by how well they foretell rows out of fold (`numerics.stacking`), linear models always among
  them: for the outcome, and for the propensity, which may be a function of the predicted outcome itself, as where
  those are treated who need it;
- the propensity is calibrated out of fold, and raised to a published least;
- the whole procedure is repeated on treatments and outcomes drawn from what it found, which tells the product that
  remains (`effects.remainder`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from kokkiri.causal.crossfit import Learner, sets_of
from kokkiri.causal.foretelling import STEEP, Foreteller, Steepness
from kokkiri.causal.outcomes import Outcomes, drawn, outcomes
from kokkiri.causal.propensities import Propensities, propensities
from kokkiri.errors import DataError, ShapeError, UsageError
from kokkiri.likelihoods import Bernoulli, Gaussian
from kokkiri.networks import MLP
from kokkiri.numerics.effects import Nuisances, least_propensity
from kokkiri.numerics.random import generator, key
from kokkiri.priors import Cauchy, Normal
from kokkiri.types import Likelihood

WIDTH = 32
SCALE = 0.02  # of the prior on weights of standardised inputs, per unit of steepness
FLAT = 0.02  # precision of a trained line's prior, under which levels may differ by several log-odds
WHOLE = 4000  # rows up to which every step sees all of them


@dataclass(frozen=True, eq=False)
class CrossFit:
    """Nuisances with how they came about.

    outcome, propensity: weight of each candidate. slope: of the propensity's calibration, below 1 where it was too
    sure. raised: rows whose probability of some level was raised to `least`. score: out of fold, nats a row, of the
    propensity, and of the best guess without inputs. foreteller: says both of other rows. facts: plain values.
    """

    nuisances: Nuisances
    outcome: Mapping[str, float]
    propensity: Mapping[str, float]
    slope: float
    raised: int
    least: float
    score: tuple[float, float]
    foreteller: Foreteller
    facts: Mapping[str, Any] = field(default_factory=dict)


def network_nuisances(
    x: Tensor,
    t: Tensor,
    y: Tensor,
    likelihood: Likelihood | None = None,
    *,
    levels: int | None = None,
    network: Callable[[int], nn.Module] | None = None,
    propensity: Callable[[int], nn.Module] | None = None,
    folds: int | None = None,
    repetitions: int = 2,
    replicates: int = 2,
    weight: Tensor | None = None,
    groups: Tensor | None = None,
    steps: int = 300,
    seed: int = 0,
) -> CrossFit:
    """Cross-fitted predictions of outcome and treatment.

    x: (n, ...) encoded inputs; tokens (n, L), where `network` embeds them. t: (n,) numbers 0 … levels - 1. y: (n,).
    likelihood: of the outcome; Bernoulli for zeros and ones and Gaussian otherwise. network, propensity: functions that
    make a network of so many outputs (any nn.Module); sparse multilayer perceptrons by default. repetitions: complete
    cross-fits that are averaged. replicates: how often all is repeated on drawn treatments and outcomes. weight: (n,)
    how much each row counts. groups: (n,) rows of one group are never in two folds. steps: of training.

    >>> g = torch.Generator().manual_seed(0)
    >>> x = torch.randn(200, 3, generator=g)
    >>> t = (torch.rand(200, generator=g) < torch.sigmoid(x[:, 0])).long()
    >>> y = x[:, 0] + t + 0.5 * torch.randn(200, generator=g)
    >>> found = network_nuisances(x, t, y, folds=2, repetitions=1, replicates=0, steps=100)
    >>> found.nuisances.outcome.shape, found.nuisances.propensity.sum(0).allclose(torch.ones(200, dtype=torch.float64))
    (torch.Size([2, 200]), True)
    """
    began = time.process_time()
    x, t, y, likelihood, levels = _checked(x, t, y, likelihood, levels)
    x = whole(x, network) if network is not None and embedded(network) else x.float()
    n = len(y)
    folds = folds or 5
    fewest = int(torch.bincount(t, minlength=levels).min())
    if not 2 <= folds <= max(2, min(fewest, n // 2)):
        folds = max(2, min(folds, fewest))
    steepness = steepness_of(x) if is_columns(x) else None
    inputs = x if steepness is None else steepness(x)
    learners = learners_of(x, n, steps, network)
    task = _Task(x, inputs, levels, folds, learners, learner("network", propensity, x, n, steps), weight, groups)
    made, treated = _once(task, t, y, likelihood, repetitions, seed)
    least = least_propensity(n)
    p, own = treated.probability[0], None if weight is None else weight.double()
    nuisances = Nuisances(t, y, own, made.fold[0], made.mean[0], p, least=least)
    again = [_again(task, nuisances, made, treated, likelihood, key(seed, "again", b) >> 1) for b in range(replicates)]
    if again:
        nuisances = nuisances._replace(
            outcome_draws=torch.stack([one.mean[0] for one, _ in again]),
            propensity_draws=torch.stack([one.probability[0] for _, one in again]),
        )
    facts = {
        "rows": n, "folds": folds, "repetitions": repetitions, "replicates": replicates, "steps": steps,
        "networks": (repetitions + replicates) * folds, "likelihood": type(likelihood).__name__, "seed": seed,
        "processor seconds": time.process_time() - began, "noise": made.noise,
    }  # fmt: skip
    return CrossFit(
        nuisances, made.weights, treated.weights, treated.slope, int((p < least).any(0).sum()), least,
        (treated.score, treated.constant), Foreteller(steepness, ((made, treated), *again)), facts,
    )  # fmt: skip


class _Task(NamedTuple):
    """What repetitions share."""

    x: Tensor
    inputs: Tensor
    levels: int
    folds: int
    learners: list[Learner]
    propensity: Learner
    weight: Tensor | None
    groups: Tensor | None


def _once(
    task: _Task, t: Tensor, y: Tensor, likelihood: Likelihood, repetitions: int, seed: int,
    before: tuple[Outcomes, Propensities] | None = None,
) -> tuple[Outcomes, Propensities]:  # fmt: skip
    """Outcomes and propensities of some rows. before: a run whose choices are kept, candidates and noise."""
    strata = t * 2 + (y == y.max()).long() if isinstance(likelihood, Bernoulli) else t
    sets = sets_of(len(t), task.folds, repetitions, 0, seed, strata=strata, weight=task.weight, groups=task.groups)
    used = task.learners if before is None else [one for one in task.learners if before[0].weights[one.name] > 0]
    noise = None if before is None else before[0].noise
    made = outcomes(task.x, task.inputs, t, y, likelihood, task.levels, sets, used, seed, noise)
    names = None if before is None else {name for name, w in before[1].weights.items() if w > 0}
    treated = propensities(
        task.x, task.inputs, t, task.levels, sets, made.features, task.propensity, seed, task.weight, names
    )
    return made, treated


def _again(
    task: _Task, found: Nuisances, made: Outcomes, treated: Propensities, likelihood: Likelihood, seed: int
) -> tuple[Outcomes, Propensities]:
    """What the procedure makes of rows whose truth is `found`."""
    rng = generator(seed, "drawn rows")
    uniform = torch.rand(len(found.t), generator=rng, dtype=torch.float64)
    t = (uniform > found.propensity.cumsum(0)).sum(0).clamp(max=task.levels - 1)
    if int(torch.bincount(t, minlength=task.levels).min()) < task.folds:
        t = found.t  # a level that hardly anybody has would be lost
    rest = found.y - found.outcome.gather(0, found.t[None])[0]
    y = drawn(likelihood, found.outcome.gather(0, t[None])[0], made.noise, rest, rng)
    return _once(task, t, y, likelihood, 1, seed, (made, treated))


def is_columns(x: Tensor) -> bool:
    """Whether inputs are numbers in columns, and no pictures or tokens."""
    return x.ndim == 2 and x.is_floating_point()


def embedded(make: Callable[[int], nn.Module]) -> int:
    """How many different tokens such a network knows; 0 for one that embeds nothing, whose inputs are numbers."""
    sizes = [m.num_embeddings for m in make(1).modules() if isinstance(m, nn.Embedding | nn.EmbeddingBag)]
    return min(sizes, default=0)


def whole(x: Tensor, make: Callable[[int], nn.Module]) -> Tensor:
    """Tokens (n, L), int64. Raises where there are others than the network knows."""
    size, tokens = embedded(make), x.long()
    low, high = (int(v) for v in (tokens.min(), tokens.max())) if tokens.numel() else (0, 0)
    if low < 0 or high >= size or bool((tokens != x).any()):
        raise DataError("the network has no embedding for some tokens", needs=f"whole numbers from 0 to {size - 1}",
                        found=f"{float(x.min()):g} to {float(x.max()):g}", fix="an nn.Embedding with more rows"
                        )  # fmt: skip
    return tokens


def steep(x: Tensor) -> Tensor:
    """The columns of x as networks are given them."""
    return steepness_of(x)(x)


def steepness_of(x: Tensor) -> Steepness:
    """Columns are centred and divided by their standard deviation, times STEEP; zeros and ones by half their distance.

    A rare category would be far out if it were divided by its own small deviation.
    """
    x = x.double()
    mean, sd = x.mean(0), x.std(0, correction=0)
    spread = x.amax(0) - x.amin(0)
    two = torch.tensor([len(column.unique()) <= 2 for column in x.T], dtype=torch.bool)
    unit = torch.where(two, torch.maximum(sd, spread / 4), sd)
    return Steepness(mean, torch.where(unit > 0, unit, 1.0))


def learner(name: str, make: Callable[[int], nn.Module] | None, x: Tensor, n: int, steps: int) -> Learner:
    """The default network, or the caller's."""
    batch = None if n <= WHOLE else WHOLE // 2
    if make is not None:
        return Learner(name, make, Normal(1.0), steps, None if n <= 256 else 128, 3e-3, raw=True)
    if not is_columns(x):
        raise UsageError("there is no default network for inputs of several axes", needs="a function that makes one",
                         found=f"x {tuple(x.shape)}", fix="network=lambda outputs: kk.networks.ConvNet(…)")  # fmt: skip
    width = x.shape[1]
    scales = (("hidden.0.weight", SCALE / STEEP**0.5), ("skip.weight", SCALE / STEEP))
    make = lambda outputs: MLP(width, [WIDTH], outputs, activation="tanh", skip=True)
    return Learner(name, make, Cauchy(scales, precision=20.0, spread=3.0), steps, batch, 0.15)


def learners_of(x: Tensor, n: int, steps: int, network: Callable[[int], nn.Module] | None = None) -> list[Learner]:
    """The candidates for an outcome: a network, and a line where the inputs are few."""
    found = [learner("network", network, x, n, steps)]
    if is_columns(x) and x.shape[1] <= n / 5:
        width = x.shape[1]
        line = Learner("linear", lambda outputs: MLP(width, [], outputs), Normal(FLAT), min(steps, 300), None, 0.2)
        found.append(line)
    return found


def _checked(
    x: Tensor, t: Tensor, y: Tensor, likelihood: Likelihood | None, levels: int | None
) -> tuple[Tensor, Tensor, Tensor, Likelihood, int]:
    n = len(y)
    if len(x) != n or t.shape != (n,) or y.ndim != 1:
        raise ShapeError("inputs, treatments and outcomes do not belong together", needs="x (n, …), t (n,), y (n,)",
                         found=f"{tuple(x.shape)}, {tuple(t.shape)}, {tuple(y.shape)}", fix="one row each")  # fmt: skip
    t, y = t.long(), y.double()
    if not bool(y.isfinite().all()) or not bool(torch.as_tensor(x).isfinite().all()):
        raise DataError("some numbers are missing", needs="finite inputs and outcomes",
                        found=f"{int((~y.isfinite()).sum())} other outcomes", fix="leave those rows out")  # fmt: skip
    levels = levels or max(2, int(t.max()) + 1)
    counts = torch.bincount(t, minlength=levels)
    if len(counts) > levels or int(counts.min()) < 2:
        few = int(counts.argmin())
        raise DataError(f"treatment {few} is seen in {int(counts.min())} rows", needs="two rows of every level",
                        found=str(counts.tolist()), fix="leave it out, or join it to another")  # fmt: skip
    if likelihood is None:
        likelihood = Bernoulli() if bool(((y == 0) | (y == 1)).all()) and len(y.unique()) == 2 else Gaussian()
    likelihood.check(y)
    return x, t, y, likelihood, levels
