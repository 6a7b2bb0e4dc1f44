"""Several networks from several starts (Lakshminarayanan et al. 2017, "Simple and scalable predictive uncertainty")."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from kokkiri.errors import UsageError
from kokkiri.herd import Herd, herd
from kokkiri.posteriors.members import member_seeds


@dataclass(frozen=True)
class Ensemble:
    """`size` networks of equal weight, each from its own initial weights.

    folds: with early stopping each member is stopped by the fifth (1 / size) of the rows that it has not seen, so that
    all rows are used by some member, and every row is predicted by one that has not seen it.
    """

    size: int = 5
    folds: bool = True

    def __post_init__(self) -> None:
        """Refuses what is no ensemble."""
        if self.size < 2:
            raise UsageError(f"Ensemble(size={self.size})", needs="at least 2 members", fix="Ensemble(5), or Point()")

    def herd(self, make: nn.Module | Callable[[], nn.Module], *, seed: int) -> Herd:
        """`size` replicas."""
        return herd(make, seed=member_seeds(seed, self.size))
