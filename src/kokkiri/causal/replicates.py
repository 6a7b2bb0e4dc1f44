"""The five replicates that a right estimate must survive, made of rows: what is shuffled, added or left out.

- placebo: treatments are dealt anew by lot. Nothing is left of the effect, nor of what confounds it.
- cause: one more column of noise beside what is adjusted for.
- subset: a share of the rows.
- dummy: a row's outcome becomes that of another, of which covariates and treatment make one expect what the covariates
  alone make one expect of this row. What covariates say of the outcome stays; what the treatment does is gone.
- bootstrap: rows weighted anew (Rubin 1981, "The Bayesian bootstrap").
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from kokkiri.numerics.heads import Replicates
from kokkiri.numerics.random import generator

NAMES = {
    "placebo": "placebo treatment",
    "cause": "random common cause",
    "subset": "random subset",
    "dummy": "dummy outcome",
    "bootstrap": "bootstrap",
}
SHARE = 0.8  # of the rows that a subset keeps


class Table(NamedTuple):
    """What replicates are made of: (n,) numbers of treatment levels (or values), outcomes, weights of rows, what the
    covariates alone make one expect of the outcome, and what they make one expect with the treatment that the row had.
    coins: whether noise is 0 or 1, for tables of counts.
    """

    treatment: Tensor
    outcome: Tensor
    weight: Tensor
    expected: Tensor
    predicted: Tensor
    coins: bool = False


def as_they_are(rows: Table) -> Replicates:
    """One replicate: the rows themselves."""
    return Replicates(rows.treatment.unsqueeze(0), rows.outcome.unsqueeze(0), rows.weight.unsqueeze(0))


def replicates(
    refuter: str, rows: Table, simulations: int, seed: int, share: float = SHARE, portion: int = 0
) -> Replicates:
    """(simulations, n) of one of NAMES; what does not vary has one row. portion: which of several, if not all at once.

    >>> rows = Table(*(torch.arange(4) % 2, torch.arange(4.0), torch.ones(4), torch.zeros(4), torch.zeros(4)))
    >>> dealt = replicates("placebo", rows, 3, 0)
    >>> dealt.treatment.sum(1).tolist(), dealt.outcome.shape
    ([2, 2, 2], torch.Size([1, 4]))
    """
    n, rng, same = len(rows.treatment), generator(seed, f"refute {refuter}", portion), as_they_are(rows)
    uniform = lambda: torch.rand(simulations, n, generator=rng, dtype=torch.float64)
    if refuter == "placebo":
        return same._replace(treatment=rows.treatment[uniform().argsort(-1)])
    if refuter == "cause":
        noise = uniform()
        normal = torch.special.ndtri(noise.clamp(1e-12, 1 - 1e-12))
        return same._replace(extra=(noise < 0.5).double() if rows.coins else normal)
    if refuter == "subset":
        keep = torch.zeros(simulations, n, dtype=rows.weight.dtype)
        keep.scatter_(1, uniform().argsort(-1)[:, : max(1, round(share * n))], 1.0)
        return same._replace(weight=keep * rows.weight)
    if refuter == "dummy":
        both = torch.stack([uniform(), uniform()])
        return same._replace(outcome=rows.outcome[donors(rows.expected, rows.predicted, both)])
    assert refuter == "bootstrap", refuter
    exponential = -torch.log1p(-uniform())
    return same._replace(weight=exponential / exponential.mean(-1, keepdim=True) * rows.weight)


def donors(expected: Tensor, predicted: Tensor, uniform: Tensor) -> Tensor:
    """(R, n) rows whose outcomes take the place: one of about √n whose prediction is nearest to what is expected.

    The choice depends on the covariates alone, so that the new outcome knows nothing of the treatment but through them.
    Outcomes stay what they are, be they events, counts or amounts. uniform: (2, R, n); equals are put in any order.

    >>> expected, predicted = torch.tensor([0.0, 9.0, 9.0, 0.0]), torch.tensor([0.0, 0.1, 9.0, 9.1])
    >>> donors(expected, predicted, torch.zeros(2, 1, 4))
    tensor([[0, 1, 1, 0]])
    """
    n = len(expected)
    size = max(2, round(n**0.5))
    value, place = predicted.unique(return_inverse=True)
    order = (place + uniform[1]).argsort(-1)  # by prediction
    start = torch.bincount(place, minlength=len(value)).cumsum(0)
    first = torch.nn.functional.pad(start, (1, 0))
    near = torch.searchsorted(value, expected.to(value.dtype))
    low, high = first[near], first[(near + 1).clamp(max=len(value))]
    middle = torch.where(value[near.clamp(max=len(value) - 1)] == expected, (low + high) // 2, low)
    window = (middle - size // 2).clamp(min=0, max=max(0, n - size))
    return order.gather(-1, window + (uniform[0] * min(size, n)).long())
