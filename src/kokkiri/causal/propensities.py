"""The probability of each level of a treatment: candidates, cross-fitted, mixed by log-likelihood, and calibrated."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from kokkiri.causal.crossfit import Learner, Rows, Sets, crossfit
from kokkiri.likelihoods import Bernoulli, Categorical
from kokkiri.numerics.logistic import logistic, probabilities
from kokkiri.numerics.stacking import platt, stacking

WEAK, STRONG = 3.0, 30.0  # precisions of the weights of standardised inputs


class Propensities(NamedTuple):
    """probability: (1 + B, K, n), of the whole sets together and of each replicate. score, constant: mean
    log-likelihood out of fold, of this and of the levels' shares alone. slope: of the calibration.
    """

    probability: Tensor
    weights: dict[str, float]
    slope: float
    score: float
    constant: float


def propensities(
    x: Tensor, inputs: Tensor, t: Tensor, levels: int, sets: Sets, features: Tensor, network: Learner, seed: int,
    weight: Tensor | None = None, only: set[str] | None = None,
) -> Propensities:  # fmt: skip
    """Cross-fits logistic models of inputs, of the predicted outcome, and of both, and a network.

    features: (M, F, n, D) what each replica of the outcome's model says of all rows. Where rows are treated for what is
    expected of them, these few numbers say what many inputs would have to, and they were learned from the outcome,
    which tells more than the treatment does. They are functions of the inputs with errors that do not depend on the
    treatment of a row out of fold. only: names of the candidates, None for all.
    """
    n, masks = len(t), sets.masks()
    one = torch.ones(1, n, 1, dtype=torch.float64)
    said = _standard(features.flatten(0, 1).double())  # (M F, n, D)
    line = _standard(inputs.double()[None]) if inputs.ndim == 2 and inputs.shape[1] <= n / 5 else None
    designs: dict[str, tuple[Tensor, list[float]]] = {"constant": (one, [])}
    designs["outcome"] = torch.cat([said, one.expand(len(said), n, 1)], 2), [1.0] * said.shape[2]
    if line is not None:
        p = line.shape[2]
        wide = line.expand(len(said), n, p)
        both = torch.cat([said, wide, one.expand(len(said), n, 1)], 2)
        for name, ridge in (("weak", WEAK), ("strong", STRONG)):
            designs[f"linear, {name}"] = torch.cat([line, one], 2), [ridge] * p
            designs[f"linear and outcome, {name}"] = both, [1.0] * said.shape[2] + [ridge] * p
    each: dict[str, Tensor] = {}
    wanted = {*designs, "network"} if only is None else only
    for name, (design, ridge) in designs.items():
        if name not in wanted:
            continue
        beta = logistic(design, t, levels, masks, torch.tensor([*ridge, 0.0]))
        each[name] = sets.unseen(probabilities(design, beta).mT.unflatten(0, (-1, sets.folds)))
    whole, rest = sets.part(0, sets.whole), sets.part(sets.whole, len(sets.fold))
    seen = x if network.raw else inputs
    own = [_network(seen, t, levels, whole, network, seed)] if "network" in wanted else []
    first = torch.stack([p[: sets.whole].mean(0) for p in (*each.values(), *own)]).mT  # (candidates, K, n)
    log_p = first.gather(1, t.expand(len(first), 1, n)).squeeze(1).clamp(min=1e-12).log()
    names = [*each, *(["network"] if own else [])]
    pi = dict(zip(names, stacking(log_p, weight).tolist(), strict=True))
    if own and (pi["network"] > 0 or len(names) == 1):
        again = [_network(seen, t, levels, rest, network, seed, sets.whole)] if len(rest.fold) else []
        each["network"] = torch.cat([*own, *again])
    mixed = torch.stack([pi[name] * p for name, p in each.items()]).sum(0).mT  # (M, K, n)
    mixed = torch.cat([mixed[: sets.whole].mean(0, keepdim=True), mixed[sets.whole :]])
    mend = platt(mixed[0], t, weight)
    found = mend(mixed)
    shares = (torch.bincount(t, minlength=levels).double() / n).log()[t]
    score = float(found[0].gather(0, t[None])[0].log().mean())
    return Propensities(found, pi, mend.slope, score, float(shares.mean()))


def _network(inputs: Tensor, t: Tensor, levels: int, sets: Sets, network: Learner, seed: int, first: int = 0) -> Tensor:
    """(M, n, K)."""
    likelihood = Bernoulli() if levels == 2 else Categorical()
    got = crossfit(Rows(inputs, t), sets, network, likelihood, seed + 1, levels, first)
    output = sets.unseen(got.outputs).double()
    if levels > 2:
        return torch.softmax(output, -1)
    return torch.cat([torch.sigmoid(-output), torch.sigmoid(output)], -1)


def _standard(x: Tensor) -> Tensor:
    """Columns of (..., n, D) with mean 0 and standard deviation 1; constant ones become 0."""
    mean, sd = x.mean(-2, keepdim=True), x.std(-2, correction=0, keepdim=True)
    return (x - mean) / torch.where(sd > 1e-9, sd, 1.0) * (sd > 1e-9)
