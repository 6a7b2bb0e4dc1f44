"""A posterior that is a weighted set of parameter vectors: a point is one, an ensemble a few."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from kokkiri.data.core import Data, Inputs, Target
from kokkiri.herd import Herd
from kokkiri.numerics.random import generator
from kokkiri.records import Record
from kokkiri.types import Likelihood, Prior


@dataclass(frozen=True)
class Form:
    """How a raw row becomes what the network takes, and what its answer means. Stored with the model."""

    encoder: nn.Module
    inputs: Inputs
    target: Target
    schema: Any = None


def form(data: Data) -> Form:
    """The form of some data."""
    if data.target is None:
        raise ValueError("data without a target have no form")
    return Form(data.encoder, data.inputs, data.target, data.schema)


@dataclass(frozen=True)
class Particles:
    """p(params | data) ~ sum_r exp(log_weight_r) delta(params - params_r).

    herd: the R parameter vectors. log_weight: (R,), normalised, nats. likelihood: in the target's own units.
    Its spread is that of its particles: a Point has none, and reports no ignorance of the model.
    """

    herd: Herd
    log_weight: Tensor
    likelihood: Likelihood
    prior: Prior
    form: Form
    record: Record
    facts: Mapping[str, Any] = field(default_factory=dict)  # what a page needs beside: evaluation, comparison

    def __repr__(self) -> str:
        kind = "Point" if len(self.herd) == 1 else f"Ensemble of {len(self.herd)}"
        size = sum(t[0].numel() for t in self.herd.params.values())
        return f"{kind}({type(self.herd.network).__name__}, {size:,} parameters, {self.likelihood!r})"

    def draw(self, n: int, *, seed: int) -> Herd:
        """N parameter vectors, drawn with replacement by weight."""
        rows = torch.multinomial(self.log_weight.exp(), n, replacement=True, generator=generator(seed, "draw"))
        return self.herd[rows]

    def bound(self) -> Likelihood:
        """The likelihood with each particle's own noise, (R,) each."""
        return self.likelihood.bind(self.herd.likelihood_params())
