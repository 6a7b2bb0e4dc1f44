"""A posterior as a weighted set of parameter vectors, each with a Gaussian around it or none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from kokkiri.data.core import Data, Inputs, Target
from kokkiri.errors import Unsupported
from kokkiri.herd import Herd
from kokkiri.numerics.operators import Blocks, gaussian_log_density
from kokkiri.numerics.random import generator
from kokkiri.records import Evidence, Record
from kokkiri.training.flat import flatten, layout
from kokkiri.types import Likelihood, Params, Prior


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
    """p(params | data) ~ sum_r exp(log_weight_r) N(params | params_r, precision_r⁻¹), or points without a precision.

    herd: the R centres; its `hyper` holds what evidence chose for each. log_weight: (R,), normalised, nats. likelihood:
    in the target's own units. precision: of each Gaussian, over the flat vector of parameters. linear: predictions
    linearise the network around each centre; else they run it at draws. evidence: log p(data), where it is known.
    offset: (R, P), how far each Gaussian's mean has moved, by local updates, from the centre where the network is
    linearised. draws: "" where draws come from the Gaussians; "dropout": masks of the network's own dropout.
    A Point has no spread, and reports no ignorance of the model.
    """

    herd: Herd
    log_weight: Tensor
    likelihood: Likelihood
    prior: Prior
    form: Form
    record: Record
    facts: Mapping[str, Any] = field(default_factory=dict)  # what a page needs beside: evaluation, comparison
    precision: tuple[Blocks, ...] = ()
    linear: bool = False
    evidence: Evidence | None = None
    draws: str = ""
    offset: Tensor | None = None
    noise: Tensor | None = None

    def __repr__(self) -> str:
        many = len(self.herd)
        kind = "Point" if many == 1 else f"Ensemble of {many}"
        if self.precision:
            kind = "Gaussian" if many == 1 else f"Mixture of {many} Gaussians"
        if self.draws:
            kind = self.draws.capitalize()
        size = sum(t[0].numel() for t in self.herd.params.values())
        return f"{kind}({type(self.herd.network).__name__}, {size:,} parameters, {self.likelihood!r})"

    def draw(self, n: int, *, seed: int) -> Herd:
        """N parameter vectors: a centre by weight, and a step from it. Parameters that are held fixed do not move."""
        if self.draws == "dropout":
            from kokkiri.posteriors.dropout import masked

            return masked(self.herd, n, seed=seed)
        rows, steps = self.steps(n, seed=seed)
        some = replace(self.herd, hyper={})[rows]
        if not self.precision:
            return replace(some, axes={"draw": n})
        where = layout(some.params)
        flat = flatten(some.params, where) + steps.to(next(iter(some.params.values())))
        return replace(some, params={n: t.clone() for n, t in where.views(flat).items()}, axes={"draw": n})

    def steps(self, n: int, *, seed: int) -> tuple[Tensor, Tensor]:
        """Which centre each of n draws belongs to, (n,), and how far it lies from there, (n, P) float64."""
        rows = torch.multinomial(self.log_weight.exp(), n, replacement=True, generator=generator(seed, "draw"))
        out = torch.zeros(n, layout(self.herd.params).size, dtype=torch.float64)
        if self.precision:
            for r in rows.unique().tolist():
                mine = (rows == r).nonzero()[:, 0]
                step = self.precision[r].sample(len(mine), generator(seed, "step of a draw", r)).double()
                out[mine] = step if self.offset is None else step + self.offset[r]
        return rows, out

    def bound(self) -> Likelihood:
        """The likelihood with each particle's own noise, (R,) each."""
        return self.likelihood.bind(self.herd.likelihood_params())

    def log_prob(self, params: Params) -> Tensor:
        """Log density of one model's parameters, () nats: a posterior is a prior for what comes next.

        Of the free ones, where some are held fixed. Raises Unsupported for points, whose density is no number, and for
        several Gaussians around different values of what is held fixed.
        """
        if not self.precision:
            raise Unsupported(
                "points have no density", needs="a posterior with a spread", found=repr(self),
                fix="posterior=kk.Laplace()",
            )  # fmt: skip
        where = layout(self.herd.params)
        if len(self.herd) > 1 and any(len(p.free) < where.size for p in self.precision):
            raise Unsupported(
                "this mixture has no density", needs="components that are free in the same parameters, or a single one",
                found=f"{len(self.herd)} components, each with other values of what is held fixed",
                fix="layers=None, or look at each component: replace(post, herd=post.herd[[r]], …)",
            )  # fmt: skip
        flat = torch.cat([params[n].reshape(-1).double() for n in where.names])
        centres = flatten(self.herd.params, where).double() + (0.0 if self.offset is None else self.offset)
        each = [gaussian_log_density(p, flat - c) for p, c in zip(self.precision, centres, strict=True)]
        return torch.logsumexp(torch.stack(each) + self.log_weight, 0)
