"""Several networks from several starts (Lakshminarayanan et al. 2017, "Simple and scalable predictive uncertainty")."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from kokkiri.errors import UsageError
from kokkiri.herd import Herd, herd
from kokkiri.posteriors.members import member_seeds
from kokkiri.posteriors.recipe import Approximation, Run, Trained, even


@dataclass(frozen=True)
class Ensemble:
    """`size` networks of equal weight, each from its own initial weights.

    folds: with early stopping the rows are cut into so many folds, and each network is stopped by the one it has not
    seen, together with the others that have not seen it: by the mixture of their predictions. So all rows are used by
    some network, and every row is predicted by networks that have not seen it. 0: all networks see all rows but a
    share that stops them.

    >>> Ensemble(10).fold.tolist()
    [0, 1, 2, 3, 4, 0, 1, 2, 3, 4]
    """

    size: int = 5
    folds: int = 5

    def __post_init__(self) -> None:
        """Refuses what is no ensemble."""
        if self.size < 2:
            raise UsageError(
                f"Ensemble(size={self.size})",
                needs="at least 2 members",
                found=str(self.size),
                fix="Ensemble(5), or Point()",
            )
        if self.folds == 1 or self.folds < 0:
            raise UsageError(f"Ensemble(folds={self.folds})", needs="0, or 2 and more", fix=f"Ensemble({self.size})")

    @property
    def stops(self) -> bool:
        """Held-out rows stop the training."""
        return True

    @property
    def fold(self) -> Tensor:
        """(size,) which fold each network does not see."""
        return torch.arange(self.size) % max(1, min(self.folds, self.size))

    def herd(self, make: nn.Module | Callable[[], nn.Module], *, seed: int) -> Herd:
        """`size` replicas."""
        return herd(make, seed=member_seeds(seed, self.size))

    def prepare(self, run: Run) -> Run:
        """As it is."""
        return run

    def finish(self, trained: Trained) -> Approximation:
        """Points of equal weight."""
        return Approximation(trained.herd, even(len(trained.herd)))
