"""One network for all levels of a treatment: what they share, and what each does on top."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from kokkiri.predictive import normalised
from kokkiri.types import Params, Score

SHRINK = 10**-0.5  # of contrasts against what is shared: a prior that holds effects ten times more alike than outcomes


@dataclass(frozen=True)
class Arms:
    """log p(y | output of the row's own arm), for y (B, 2) that holds (level, y).

    The network gives K C numbers, which are K sets of C: the first is what all levels share, the others are contrasts.
    Arm k's output is the sum over sets of code[k, j] o_j with code (K, K): ones, then centred contrasts, orthogonal.
    Under one prior for all of the network's last layer, levels are then alike until rows say otherwise, and the arm
    with few rows learns from the others.

    >>> from kokkiri.likelihoods import Gaussian
    >>> arms = Arms(Gaussian(learn=False), 2)
    >>> arms.outputs(1), arms.code()
    (2, tensor([[ 1.0000, -0.1581],
            [ 1.0000,  0.1581]]))
    """

    location_scale: ClassVar[bool] = False
    discrete: ClassVar[bool] = False

    inner: Any
    levels: int

    def code(self) -> Tensor:
        """(K, K), float32."""
        k = self.levels
        j = torch.arange(1, k).to(torch.float32)
        row = torch.arange(k)[:, None]
        contrast = torch.where(row < j, -1 / (j + 1), torch.where(row == j, j / (j + 1), 0.0))
        return torch.cat([torch.ones(k, 1), contrast * SHRINK], 1)

    def outputs(self, targets: int) -> int:
        """A set for each level."""
        return self.levels * self.inner.outputs(targets)

    def parameters(self) -> Params:
        """The inner one's: all arms share a noise scale."""
        return self.inner.parameters()

    def bind(self, parameters: Params) -> Arms:
        """Binds the inner one."""
        return replace(self, inner=self.inner.bind(parameters))

    def check(self, y: Tensor, outputs: int | None = None) -> None:  # ruff: ignore[unused-method-argument]
        """As the inner one's."""
        self.inner.check(y[:, 1])

    def of_arm(self, output: Tensor, k: int) -> Tensor:
        """(..., B, K C) -> (..., B, C), what the network says of every row under level k."""
        return torch.einsum("...kc,k->...c", self._sets(output), self.code()[k].to(output))

    def log_prob(self, output: Tensor, y: Tensor) -> Tensor:
        """(B, K C), (B, 2) -> (B,) nats."""
        return self.inner.log_prob(self._own(output, y), y[..., 1])

    def score(self, output: Tensor, y: Tensor) -> Score | None:
        """The inner one's, sent back to the sets; None where it has none."""
        if not hasattr(self.inner, "score"):
            return None
        found = self.inner.score(self._own(output, y), y[..., 1])
        if found is None:
            return None
        back = self.code().to(output)[y[..., 0].long()].unsqueeze(-1) * found.output.unsqueeze(-2)
        return Score(found.log_prob, back.flatten(-2), found.parameters)

    def curvature(self, output: Tensor) -> Tensor:
        """The mean over the arms of the inner one's, of the outputs of all."""
        total: Tensor | float = 0.0
        for k in range(self.levels):
            each, code = self.inner.curvature(self.of_arm(output, k)), self.code()[k].to(output)
            total = total + torch.einsum("j,...cd,l->...jcld", code, each, code).flatten(-4, -3).flatten(-2, -1)
        assert isinstance(total, Tensor)
        return total / self.levels

    def predictive(self, outputs: Tensor, weights: Tensor | None = None) -> Any:
        """Of level 0; see `mean` for all."""
        return self.inner.predictive(self.of_arm(outputs, 0), normalised(weights, len(outputs), outputs))

    def mean(self, outputs: Tensor) -> Tensor:
        """(S, B, K C) -> (S, K, B) mean outcomes under each level, float64. The inner likelihood may be bound to S."""
        inner = self.inner
        found = []
        for k in range(self.levels):
            own = self.of_arm(outputs, k)
            found.append(torch.stack([_mean(_one(inner, s), own[s : s + 1]) for s in range(len(own))]))
        return torch.stack(found, 1)

    def _sets(self, output: Tensor) -> Tensor:
        return output.unflatten(-1, (self.levels, -1))

    def _own(self, output: Tensor, y: Tensor) -> Tensor:
        code = self.code().to(output)[y[..., 0].long()]
        return (self._sets(output) * code.unsqueeze(-1)).sum(-2)


def _one(inner: Any, s: int) -> Any:
    """The inner likelihood of draw s, where it is bound to many."""
    names = [n for n in vars(inner) if isinstance(getattr(inner, n), Tensor) and getattr(inner, n).ndim == 1]
    if hasattr(inner, "inner"):
        return replace(inner, inner=_one(inner.inner, s))
    return replace(inner, **{n: getattr(inner, n)[s : s + 1] for n in names}) if names else inner


def _mean(inner: Any, output: Tensor) -> Tensor:
    found = inner.predictive(output)
    mean = found.mean.double()
    if getattr(inner, "discrete", False) and mean.ndim == 2 and mean.shape[-1] == 2:  # probabilities of classes 0 and 1
        return mean[:, 1]
    return mean.reshape(len(mean), -1)[:, 0]
