"""The probability of each level of a treatment: candidates, cross-fitted, mixed by log-likelihood, and calibrated."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from kokkiri.causal.crossfit import Fitted, Learner, Rows, Sets, crossfit
from kokkiri.herd import Herd
from kokkiri.likelihoods import Bernoulli, Categorical
from kokkiri.numerics.logistic import logistic, probabilities
from kokkiri.numerics.stacking import Platt, platt, stacking

WEAK, STRONG = 3.0, 30.0  # precisions of the weights of standardised inputs


class Scale(NamedTuple):
    """x → (x - mean) / unit, 0 where a column was constant."""

    mean: Tensor
    unit: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """(..., n, D), standardised as the first rows were."""
        return (x - self.mean) / torch.where(self.unit > 1e-9, self.unit, 1.0) * (self.unit > 1e-9)


def scale_of(x: Tensor) -> Scale:
    """Of columns (..., n, D), so that they have mean 0 and standard deviation 1."""
    return Scale(x.mean(-2, keepdim=True), x.std(-2, correction=0, keepdim=True))


class Candidate(NamedTuple):
    """A logistic regression, or a network. said, line: whether it looks at predicted outcomes, and at the inputs.
    beta: (M F, K - 1, D), or None; herd: a network's replicas. Those of the whole sets come first.
    """

    weight: float
    said: bool
    line: bool
    beta: Tensor | None = None
    herd: Herd | None = None


class Propensities(NamedTuple):
    """probability: (1 + B, K, n), of the whole sets together and of each replicate. score, constant: mean
    log-likelihood out of fold, of this and of the levels' shares alone. mend: the calibration. candidates, said, line:
    what can foretell other rows.
    """

    probability: Tensor
    weights: dict[str, float]
    mend: Platt
    score: float
    constant: float
    candidates: tuple[Candidate, ...]
    said: Scale
    line: Scale | None
    raw: bool

    @property
    def slope(self) -> float:
        """Of the calibration."""
        return self.mend.slope

    def foretold(self, x: Tensor, inputs: Tensor, features: Tensor) -> Tensor:
        """(K, n) for rows that no replica has seen: the mean over the replicas of the whole sets.

        features: (R, n, D) what those of the outcome's model say.
        """
        many, n = features.shape[:2]
        said = Scale(self.said.mean[:many], self.said.unit[:many])(features.double())
        line = None if self.line is None else self.line(inputs.double()[None])
        levels, total = self.probability.shape[1], 0.0
        for one in self.candidates:
            if one.herd is not None:
                each = _levels(one.herd[list(range(many))](x if self.raw else inputs).double(), levels)
            else:
                assert one.beta is not None
                each = probabilities(_design(said if one.said else None, line if one.line else None, n),
                                     one.beta[:many]).mT  # fmt: skip
            total = total + one.weight * each.mean(0)
        assert isinstance(total, Tensor)
        return self.mend(total.mT)


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
    flat = features.flatten(0, 1).double()
    few = inputs.ndim == 2 and inputs.is_floating_point() and inputs.shape[1] <= n / 5
    said_scale, line_scale = scale_of(flat), scale_of(inputs.double()[None]) if few else None
    said, line = said_scale(flat), None if line_scale is None else line_scale(inputs.double()[None])
    kinds: dict[str, tuple[bool, bool, float]] = {"constant": (False, False, 0.0), "outcome": (True, False, 0.0)}
    if line is not None:
        for name, ridge in (("weak", WEAK), ("strong", STRONG)):
            kinds[f"linear ({name})"] = False, True, ridge
            kinds[f"linear and outcome ({name})"] = True, True, ridge
    each: dict[str, Tensor] = {}
    betas: dict[str, Tensor] = {}
    wanted = {*kinds, "network"} if only is None else only
    for name, (looks, straight, ridge) in kinds.items():
        if name not in wanted:
            continue
        design = _design(said if looks else None, line if straight else None, n)
        precision = [1.0] * (said.shape[2] * looks) + [ridge] * (0 if line is None else line.shape[2] * straight)
        betas[name] = logistic(design, t, levels, masks, torch.tensor([*precision, 0.0]))
        each[name] = sets.unseen(probabilities(design, betas[name]).mT.unflatten(0, (-1, sets.folds)))
    whole, rest = sets.part(0, sets.whole), sets.part(sets.whole, len(sets.fold))
    seen = x if network.raw else inputs
    fitted = _network(seen, t, levels, whole, network, seed) if "network" in wanted else None
    own = [] if fitted is None else [whole.unseen(_levels(fitted.outputs.double(), levels))]
    first = torch.stack([p[: sets.whole].mean(0) for p in (*each.values(), *own)]).mT  # (candidates, K, n)
    log_p = first.gather(1, t.expand(len(first), 1, n)).squeeze(1).clamp(min=1e-12).log()
    names = [*each, *(["network"] if own else [])]
    pi = dict(zip(names, stacking(log_p, weight).tolist(), strict=True))
    if own and (pi["network"] > 0 or len(names) == 1):
        if len(rest.fold):
            again = _network(seen, t, levels, rest, network, seed, sets.whole)
            own.append(rest.unseen(_levels(again.outputs.double(), levels)))
        each["network"] = torch.cat(own)
    mixed = torch.stack([pi[name] * p for name, p in each.items()]).sum(0).mT  # (M, K, n)
    mixed = torch.cat([mixed[: sets.whole].mean(0, keepdim=True), mixed[sets.whole :]])
    mend = platt(mixed[0], t, weight)
    found = mend(mixed)
    shares = (torch.bincount(t, minlength=levels).double() / n).log()[t]
    score = float(found[0].gather(0, t[None])[0].log().mean())
    candidates = [Candidate(pi[name], *kinds[name][:2], beta=beta) for name, beta in betas.items() if pi[name] > 0]
    if fitted is not None and pi["network"] > 0:
        candidates.append(Candidate(pi["network"], said=False, line=False, herd=fitted.herd))
    return Propensities(found, pi, mend, score, float(shares.mean()), tuple(candidates), said_scale, line_scale,
                        network.raw)  # fmt: skip


def _network(inputs: Tensor, t: Tensor, levels: int, sets: Sets, network: Learner, seed: int, first: int = 0) -> Fitted:
    likelihood = Bernoulli() if levels == 2 else Categorical()
    return crossfit(Rows(inputs, t), sets, network, likelihood, seed + 1, levels, first)


def _levels(output: Tensor, levels: int) -> Tensor:
    """(..., C) of a network -> (..., K) probabilities."""
    if levels > 2:
        return torch.softmax(output, -1)
    return torch.cat([torch.sigmoid(-output), torch.sigmoid(output)], -1)


def _design(said: Tensor | None, line: Tensor | None, n: int) -> Tensor:
    """(R or 1, n, D): predicted outcomes, inputs, a one."""
    many = 1 if said is None else len(said)
    one = torch.ones(many, n, 1, dtype=torch.float64)
    return torch.cat([v.expand(many, -1, -1) for v in (said, line) if v is not None] + [one], 2)
