"""Optimizers: pure functions of one model's tensors, each a frozen value; learning-rate schedules; clipping."""

from __future__ import annotations

from kokkiri.optimizers.adagrad import Adagrad
from kokkiri.optimizers.adam import Adam
from kokkiri.optimizers.adamw import AdamW
from kokkiri.optimizers.clipping import clip_by_norm
from kokkiri.optimizers.gradient_descent import GradientDescent
from kokkiri.optimizers.ivon import IVON
from kokkiri.optimizers.momentum import Momentum
from kokkiri.optimizers.names import config, from_config, named
from kokkiri.optimizers.nesterov import Nesterov
from kokkiri.optimizers.rmsprop import RMSprop
from kokkiri.optimizers.schedules import Constant, Cosine, StepDecay, WarmUp
from kokkiri.optimizers.schedules import named as schedule_named
from kokkiri.optimizers.sgd import SGD

__all__ = [
    "IVON",
    "SGD",
    "Adagrad",
    "Adam",
    "AdamW",
    "Constant",
    "Cosine",
    "GradientDescent",
    "Momentum",
    "Nesterov",
    "RMSprop",
    "StepDecay",
    "WarmUp",
    "clip_by_norm",
    "config",
    "from_config",
    "named",
    "schedule_named",
]
