"""Two classes from one logit: logistic regression."""

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
class Bernoulli:
    """log p(y | f) = y log σ(f) + (1 - y) log σ(-f) for y in {0, 1}, σ the logistic function: binary cross entropy.

    >>> Bernoulli().log_prob(torch.tensor([[0.0], [200.0]]), torch.tensor([1, 0]))
    tensor([  -0.6931, -200.0000])
    """

    location_scale: ClassVar[bool] = False
    discrete: ClassVar[bool] = True

    def outputs(self, targets: int) -> int:
        """One logit, for one target of 0 and 1 or, as for `Categorical`, two classes."""
        if targets not in {1, 2}:
            raise Unsupported(
                f"Bernoulli cannot tell {targets} classes apart",
                needs="two classes",
                found=str(targets),
                fix="kk.Categorical()",
            )
        return 1

    def parameters(self) -> Params:
        """None: the network gives all."""
        return {}

    def bind(self, parameters: Params) -> Bernoulli:
        """Itself."""
        arguments.bound("Bernoulli", (), parameters)
        return self

    def check(self, y: Tensor, outputs: int | None = None) -> None:  # ruff: ignore[unused-method-argument]
        """Raises DataError at the first row that is neither 0 nor 1."""
        arguments.support("Bernoulli", y, (y == 0) | (y == 1), "0 or 1", "kk.Categorical() takes any number of classes")

    def log_prob(self, output: Tensor, y: Tensor) -> Tensor:
        """(B, 1), (B,) -> (B,) nats."""
        arguments.one_per_row("Bernoulli", output, y, outputs=1)
        return _log_sigmoid((2 * y.to(output.dtype) - 1) * output.squeeze(-1))

    def score(self, output: Tensor, y: Tensor) -> Score:
        """d/df = y - σ(f)."""
        y = arguments.column(y).to(output.dtype)
        return Score(_log_sigmoid((2 * y - 1) * output).squeeze(-1), y - torch.sigmoid(output), {})

    def curvature(self, output: Tensor) -> Tensor:
        """(B, 1, 1): σ(f) σ(-f), the Hessian everywhere."""
        return (torch.sigmoid(output) * torch.sigmoid(-output))[..., None]

    def predictive(self, outputs: Tensor, weights: Tensor | None = None) -> Classes:
        """(S, B, 1) and log weights (S,) -> probabilities of class 0 and class 1."""
        arguments.single("Bernoulli", outputs)
        logit = arguments.draws("Bernoulli", outputs)
        both = torch.cat([_log_sigmoid(-logit), _log_sigmoid(logit)], -1)
        return Classes(both, normalised(weights, len(outputs), outputs))

    def config(self) -> dict[str, Any]:
        """Plain values for `from_config`."""
        return {"name": "Bernoulli"}


def _log_sigmoid(f: Tensor) -> Tensor:
    """Torch's own warns when it is differentiated twice under vmap."""
    return -torch.logaddexp(torch.zeros_like(f), -f)
