"""The Bayesian bootstrap with everything solved again in each draw: heads in closed form, or whole networks.

In a draw the rows have Dirichlet weights, for the models as for the mean of the score. Heads (lines on what the first
networks predict, which stays) are one batch of ridge and logistic regressions, whose priors are found by evidence;
whole networks are a herd, many times the work, and the yardstick for the heads.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from kokkiri.causal.crossfit import ROWS, Sets
from kokkiri.causal.networks import CrossFit, embedded, is_columns, learner, learners_of, steep, whole
from kokkiri.causal.outcomes import outcomes
from kokkiri.causal.propensities import propensities
from kokkiri.causal.solvers import heads_solver, predictions
from kokkiri.likelihoods import Bernoulli, Gaussian
from kokkiri.numerics.effects import dirichlet
from kokkiri.numerics.heads import Replicates
from kokkiri.numerics.one_step import estimates, parts
from kokkiri.numerics.random import key
from kokkiri.types import Likelihood

CHUNK = 50  # draws at once


def head_draws(found: CrossFit, draws: int, seed: int = 0, *, x: Tensor | None = None) -> Tensor:
    """(draws,) of the average effect of level 1 against 0, outcome and propensity solved anew in each draw on what the
    networks predict out of fold.

    x: the inputs, for heads on the networks' last hidden layers instead, which have learnt noise by heart that the
    heads then weigh anew: draws scatter more (benchmarks/results/refuters.md).
    """
    n = found.nuisances
    features = predictions(n.outcome, n.propensity) if x is None else hidden_layers(found, x)
    weight = torch.ones_like(n.y) if n.weight is None else n.weight
    solver = heads_solver(features, n.fold, n.t, n.y, weight, levels=n.levels, level=1, versus=0, floor=n.least)
    return solver(Replicates(n.t[None], n.y[None], dirichlet(len(n.y), draws, seed, n.weight))).estimate


def network_draws(
    found: CrossFit, x: Tensor, draws: int, seed: int = 0, *,
    likelihood: Likelihood | None = None, network: Callable[[int], nn.Module] | None = None,
    propensity: Callable[[int], nn.Module] | None = None,
) -> Tensor:  # fmt: skip
    """(draws,) of the same, all networks trained anew in each draw: as many as the cross-fit has. x, …: as they were.

    Folds and initial weights are the same in all draws, which so differ in their rows' weights and in nothing else.
    """
    nuisances, steps = found.nuisances, found.facts["steps"]
    out: list[Tensor] = []
    n, t, y, levels = len(nuisances.y), nuisances.t, nuisances.y, nuisances.levels
    if likelihood is None:
        likelihood = Bernoulli() if bool(((y == 0) | (y == 1)).all()) else Gaussian()
    x = whole(x, network) if network is not None and embedded(network) else x.float()
    inputs, own = steep(x) if is_columns(x) else x, key(seed, "refit") >> 1
    used = [one for one in learners_of(x, n, steps, network) if found.outcome[one.name] > 0]
    names = {name for name, w in found.propensity.items() if w > 0}
    fold = found.foreteller.runs[0][0].fold
    many, net = len(fold), learner("network", propensity, x, n, steps)
    for w in dirichlet(n, draws, seed, nuisances.weight).split(max(1, CHUNK // many)):
        each = fold.repeat(len(w), 1), w.float().repeat_interleave(many, 0)
        sets = Sets(*each, found.facts["folds"], 1, starts=many)
        made = outcomes(x, inputs, t, y, likelihood, levels, sets, used, own, found.facts["noise"])
        treated = propensities(x, inputs, t, levels, sets, made.features, net, own, None, names)
        mu, e = (v.unflatten(0, (len(w), many)).mean(1) for v in (made.mean, treated.probability))
        out.append(estimates(parts(t[None], y[None], mu, e, 1, 0, floor=nuisances.least), w).estimate)
    return torch.cat(out)


def hidden_layers(found: CrossFit, x: Tensor) -> Tensor:
    """(F, n, D) what goes into the last affine map of the first cross-fit's networks; beside it the inputs, where a
    network adds them there.
    """
    foreteller = found.foreteller
    part = foreteller.runs[0][0].parts[-1]
    seen = x if part.raw else foreteller.inputs(x)
    return torch.stack([_into_last(part.herd.module(r), seen) for r in range(int(found.facts["folds"]))])


def _into_last(module: nn.Module, x: Tensor) -> Tensor:
    """(n, D) of one network; the inputs where it has no affine map."""
    affine = [m for m in module.modules() if isinstance(m, nn.Linear)]
    output = getattr(module, "output", None)
    last = output if isinstance(output, nn.Linear) else affine[-1] if affine else None
    if last is None:
        return x.flatten(1)
    into: list[Tensor] = []
    handle = last.register_forward_pre_hook(lambda _module, args: into.append(args[0].detach()))
    with torch.no_grad():
        for rows in x.split(ROWS):
            module(rows)
    handle.remove()
    skip = [x.flatten(1)] if getattr(module, "skip", None) is not None else []
    return torch.cat([torch.cat(into), *skip], 1)
