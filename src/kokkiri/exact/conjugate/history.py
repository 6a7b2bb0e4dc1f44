"""Where a family came from: its prior, how many rows it has learnt, and log p of them all."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor

from kokkiri.errors import DataError, NotPositiveDefinite

ROUNDING = 1e-11  # of what was there: rows that are taken out leave that much


class History(NamedTuple):
    """What was learnt since the prior (None for a prior itself).

    rows: the sum of their weights, (...). log_evidence: log p(all of them), (...) nats.
    """

    prior: Any = None
    rows: Tensor = torch.zeros((), dtype=torch.float64)
    log_evidence: Tensor = torch.zeros((), dtype=torch.float64)


NOTHING = History()


def after(family: Any, rows: Tensor, log_evidence: Tensor) -> History:
    """The history with more rows: log p(all) = log p(before) + log p(new | before)."""
    past: History = family.history
    prior = family if past.prior is None else past.prior
    return History(prior, past.rows + rows, past.log_evidence + log_evidence)


def before(family: Any, rows: Tensor, log_evidence: Tensor) -> History:
    """The history without rows that were learnt; log_evidence: log p(them | the others)."""
    past: History = family.history
    if past.prior is None:
        return past
    rest = left(family, past.rows, rows, None, positive=False)
    return History(past.prior, rest, past.log_evidence - log_evidence)


@contextmanager
def possible(family: Any) -> Generator[None]:
    """A matrix that is none any more is a sign of rows that were not there. Raises DataError."""
    try:
        yield
    except NotPositiveDefinite:
        raise _never_learnt(family, "no matrix with a Cholesky factor would be left") from None


def left(family: Any, there: Tensor, gone: Tensor, least: Tensor | None, *, positive: bool = True) -> Tensor:
    """What is left of a sum without some rows: at least what the prior had, or a positive number where it is not known.

    Raises DataError for less than that.
    """
    rest = there - gone
    bound = torch.zeros_like(rest) if least is None else least.expand_as(rest)
    kept = torch.maximum(rest, bound)
    if bool((rest < bound - ROUNDING * there).any()) or (positive and not bool((kept > 0).all())):
        found = "less than its prior would be left" if least is not None else "nothing would be left of it"
        raise _never_learnt(family, found)
    return kept


def _never_learnt(family: Any, found: str) -> DataError:
    return DataError(
        f"{type(family).__name__} cannot take out rows that it has not learnt",
        needs="rows and weights that were learnt before",
        found=found,
        fix="downdate takes out each row once, with the weight that it was learnt with",
    )
