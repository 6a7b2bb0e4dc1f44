"""How a run goes, as one value."""

from __future__ import annotations

from dataclasses import dataclass, field

from kokkiri.data.augment import Augment
from kokkiri.errors import UsageError
from kokkiri.optimizers.schedules import Constant
from kokkiri.types import Schedule


@dataclass(frozen=True)
class Plan:
    """What all replicas of a run share.

    steps: how many steps of descent. batch: rows a step; None: all of them. schedule: the learning rate's factor.
    clip: the largest norm of a replica's gradient. augment: how training inputs are varied. every: steps between two
    looks at the held-out rows (default: an epoch). patience: looks without improvement after which a replica stops and
    its best weights are kept; None: never, the last weights are kept. threads: of the processor (default: one for small
    networks). device: "cpu", "cuda", "cuda:1".
    """

    steps: int
    batch: int | None = 128
    seed: int = 0
    schedule: Schedule = field(default_factory=Constant)
    clip: float | None = None
    augment: Augment | None = None
    every: int | None = None
    patience: int | None = None
    threads: int | None = None
    device: str = "cpu"

    def __post_init__(self) -> None:
        """Refuses what cannot be run."""
        for name, value in (
            ("steps", self.steps),
            ("batch", self.batch),
            ("every", self.every),
            ("threads", self.threads),
        ):
            if value is not None and value < (0 if name == "steps" else 1):
                raise UsageError(f"{name}={value}", needs="a whole number of at least 1", fix=f"{name}=100")
        if self.clip is not None and not self.clip > 0:
            raise UsageError(f"clip={self.clip}", needs="a positive norm", fix="clip=1.0, or None for no clipping")
