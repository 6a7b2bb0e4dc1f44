"""C classes from C logits: cross entropy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from kokkiri.errors import Unsupported
from kokkiri.likelihoods import arguments
from kokkiri.predictive import Classes, normalised
from kokkiri.types import Params, Score


@dataclass(frozen=True)
class Categorical:
    """log p(y | f) = f_y - log sum_c e^(f_c) for class numbers y in 0 … C-1: softmax cross entropy.

    >>> Categorical().log_prob(torch.tensor([[0.0, 0.0, 1000.0]]), torch.tensor([1]))
    tensor([-1000.])
    """

    location_scale: ClassVar[bool] = False
    discrete: ClassVar[bool] = True

    def outputs(self, targets: int) -> int:
        """A logit for each of `targets` classes."""
        if targets < 2:
            raise Unsupported(
                f"Categorical cannot tell {targets} class{'es' * (targets != 1)} apart",
                needs="two classes or more",
                found=str(targets),
                fix="kk.Bernoulli() for a target of 0 and 1",
            )
        return targets

    def parameters(self) -> Params:
        """None: the network gives all."""
        return {}

    def bind(self, parameters: Params) -> Categorical:
        """Itself."""
        arguments.bound("Categorical", (), parameters)
        return self

    def check(self, y: Tensor, outputs: int | None = None) -> None:
        """Raises DataError at the first row that is not a class number below `outputs`."""
        inside = (y >= 0) & (y == y.long())
        needs = "class numbers 0, 1, 2, …"
        if outputs is not None:
            inside, needs = inside & (y < outputs), f"class numbers 0 to {outputs - 1}"
        arguments.support("Categorical", y, inside, needs, "number the classes from 0; one output a class")

    def log_prob(self, output: Tensor, y: Tensor) -> Tensor:
        """(B, C), (B,) -> (B,) nats."""
        arguments.one_per_row("Categorical", output, y, outputs=None)
        return torch.log_softmax(output, -1).gather(-1, y.long()[:, None]).squeeze(-1)

    def score(self, output: Tensor, y: Tensor) -> Score:
        """d/df = 1[c = y] - softmax(f)."""
        logs = torch.log_softmax(output, -1)
        index = y.long()[:, None].expand(*output.shape[:-1], 1)
        slope = -logs.exp()
        return Score(
            logs.gather(-1, index).squeeze(-1), slope.scatter_add(-1, index, torch.ones_like(logs[..., :1])), {}
        )

    def curvature(self, output: Tensor) -> Tensor:
        """diag(p) - p pᵀ, the Hessian everywhere."""
        p = torch.softmax(output, -1)
        return torch.diag_embed(p) - p[..., :, None] * p[..., None, :]

    def root(self, output: Tensor) -> Tensor:
        """S (B, C, C-1) with S Sᵀ the curvature, which has rank C-1.

        R = diag(√p) - p √pᵀ has R Rᵀ = curvature and R √p = 0; turned by the reflection that takes √p to the last axis,
        its last column vanishes, and is left out. With v = √p / (1 + √p_C) what is left is -p vᵀ beside the diagonal
        v (1 - p + √p_C), and its last row -(p_C + √p_C) vᵀ: no difference of near numbers.
        """
        p = torch.softmax(output, -1)
        last = p[..., -1:].sqrt()
        v = p[..., :-1].sqrt() / (1 + last)
        root = p[..., :, None] * -v[..., None, :]
        root[..., :-1, :].diagonal(dim1=-2, dim2=-1).copy_(v * (1 - p[..., :-1] + last))
        root[..., -1, :] = -(p[..., -1:] + last) * v
        return root

    def predictive(self, outputs: Tensor, weights: Tensor | None = None) -> Classes:
        """(S, B, C) and log weights (S,) -> class probabilities, the mean over draws of each draw's softmax."""
        logits = arguments.draws("Categorical", outputs)
        return Classes(torch.log_softmax(logits, -1), normalised(weights, len(outputs), outputs))

    def config(self) -> dict[str, Any]:
        """Plain values for `from_config`."""
        return {"name": "Categorical"}
