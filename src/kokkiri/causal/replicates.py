"""The five replicates that a right estimate must survive, made of rows: what is shuffled, added or left out.

- placebo: treatments are dealt anew by lot. Nothing is left of the effect, nor of what confounds it.
- cause: one more column of noise beside what is adjusted for.
- subset: a share of the rows.
- dummy: outcomes are dealt anew among rows of which the covariates, without the treatment, make one expect the same.
  What covariates say of the outcome stays; what the treatment does is gone, whatever the kind of outcome.
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
    """What replicates are made of: (n,) numbers of treatment levels (or values), outcomes, weights of rows, and what
    the covariates alone make one expect of the outcome. coins: whether noise is 0 or 1, for tables of counts.
    """

    treatment: Tensor
    outcome: Tensor
    weight: Tensor
    expected: Tensor
    coins: bool = False


def as_they_are(rows: Table) -> Replicates:
    """One replicate: the rows themselves."""
    return Replicates(rows.treatment.unsqueeze(0), rows.outcome.unsqueeze(0), rows.weight.unsqueeze(0))


def replicates(
    refuter: str, rows: Table, simulations: int, seed: int, share: float = SHARE, portion: int = 0
) -> Replicates:
    """(simulations, n) of one of NAMES; what does not vary has one row. portion: which of several, if not all at once.

    >>> rows = Table(*(torch.arange(4) % 2, torch.arange(4.0), torch.ones(4), torch.zeros(4)))
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
        return same._replace(outcome=rows.outcome[alike(rows.expected, torch.stack([uniform(), uniform()]))])
    assert refuter == "bootstrap", refuter
    exponential = -torch.log1p(-uniform())
    return same._replace(weight=exponential / exponential.mean(-1, keepdim=True) * rows.weight)


def alike(expected: Tensor, uniform: Tensor) -> Tensor:
    """(R, n) orders that change rows over with others of nearly the same expectation: neighbours in blocks of about
    √n / 2, whose borders, and the order of equals, differ from one replicate to the next. uniform: (2, R, n).

    >>> first, second = torch.tensor([[0.9, 0.1, 0.2, 0.9]]), torch.tensor([[0.0, 0.5, 0.7, 0.2]])
    >>> alike(torch.tensor([0.0, 0.0, 9.0, 9.0]), torch.stack([first, second]))[0].tolist()
    [1, 0, 2, 3]
    """
    n = len(expected)
    size = max(2, round(n**0.5 / 2))
    place = expected.unique(return_inverse=True)[1]
    order = (place + uniform[1]).argsort(-1)
    border = (uniform[0].sum(-1, keepdim=True) % 1 * size).floor()
    block = ((torch.arange(n) + border) / size).floor()
    within = (block + uniform[0]).argsort(-1)  # places in the order: a permutation of each block
    return torch.empty_like(within).scatter_(1, order, order.gather(1, within))
