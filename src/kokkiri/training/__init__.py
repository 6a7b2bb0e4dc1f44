"""The only loop, its engines, stopping, checkpoints."""

from __future__ import annotations

from kokkiri.training.dense import Dense
from kokkiri.training.engines import Engine, Loop, Stack
from kokkiri.training.loop import Moment, train
from kokkiri.training.plan import Plan

__all__ = ["Dense", "Engine", "Loop", "Moment", "Plan", "Stack", "train"]
