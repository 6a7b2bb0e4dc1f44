"""The most probable parameters alone (maximum a posteriori): the ordinary way to train a network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from kokkiri.herd import Herd, herd
from kokkiri.posteriors.members import member_seeds
from kokkiri.posteriors.recipe import Approximation, Run, Trained, even


@dataclass(frozen=True)
class Point:
    """One network. `predict` has no epistemic part: nothing is known of what else would have fitted."""

    @property
    def size(self) -> int:
        """One."""
        return 1

    @property
    def folds(self) -> int:
        """None: a share of the rows stops the training."""
        return 0

    @property
    def stops(self) -> bool:
        """Held-out rows stop the training."""
        return True

    def herd(self, make: nn.Module | Callable[[], nn.Module], *, seed: int) -> Herd:
        """One replica: the network with the weights it has, or a new one from the function."""
        return herd(make) if isinstance(make, nn.Module) else herd(make, seed=member_seeds(seed, 1))

    def prepare(self, run: Run) -> Run:
        """As it is."""
        return run

    def finish(self, trained: Trained) -> Approximation:
        """A point."""
        return Approximation(trained.herd, even(len(trained.herd)))
