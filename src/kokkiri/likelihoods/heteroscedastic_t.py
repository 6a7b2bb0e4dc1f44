"""Student's t noise whose scale the network says, too: noise that depends on the inputs, and tails that forgive."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from kokkiri.likelihoods import arguments
from kokkiri.numerics import distributions
from kokkiri.numerics.distributions import LOG_SCALE_LIMIT
from kokkiri.predictive import Mixture, normalised
from kokkiri.types import Params, Score


@dataclass(frozen=True)
class HeteroscedasticStudentT:
    """As `StudentT` with a σ of its own for every row: the output is (f_1 … f_T, s_1 … s_T) with s = log σ.

    df: ν > 1, or where it starts when `learn`ed, as log(ν - 1); one for all rows. `HeteroscedasticGaussian` is its
    limit for large ν, and `StudentT` that of a constant s. One surprising row costs a Gaussian the square of its
    distance and a t its logarithm, so that an s which is too small somewhere is not ruinous.
    s is clamped to ±20, log(ν - 1) to [-10, 20], as there.

    >>> HeteroscedasticStudentT(df=3.0).log_prob(torch.tensor([[0.0, 1.0]]), torch.zeros(1))
    tensor([-2.0009])
    """

    location_scale: ClassVar[bool] = True
    discrete: ClassVar[bool] = False

    df: float = 4.0
    learn: bool = True
    log_excess_df: Tensor | None = field(default=None, repr=False, compare=False)  # set by `bind`

    def __post_init__(self) -> None:
        arguments.positive("HeteroscedasticStudentT", "df", self.df, above=1.0)

    def outputs(self, targets: int) -> int:
        """A centre and a log scale of each target."""
        return 2 * targets

    def parameters(self) -> Params:
        """The start of log(ν - 1), unless ν is fixed."""
        return {"log_excess_df": torch.tensor(math.log(self.df - 1))} if self.learn else {}

    def bind(self, parameters: Params) -> HeteroscedasticStudentT:
        """The same with this log(ν - 1): () of one model, or (S,) of S draws for `predictive`."""
        owner, names = "HeteroscedasticStudentT", ("log_excess_df",) if self.learn else ()
        given = arguments.bound(owner, names, parameters)
        return replace(self, **given) if given else self

    def check(self, y: Tensor, outputs: int | None = None) -> None:  # ruff: ignore[unused-method-argument]
        """Raises DataError at the first row that is not finite."""
        arguments.finite("HeteroscedasticStudentT", y)

    def log_prob(self, output: Tensor, y: Tensor) -> Tensor:
        """(B, 2T), (B, T) or (B,) -> (B,) nats."""
        y = arguments.targets("HeteroscedasticStudentT", output, y, per_target=2)
        return self._given(output).log_prob(y).sum(-1)

    def score(self, output: Tensor, y: Tensor) -> Score:
        """See `distributions.StudentT.slopes`; 0 for an s that is clamped."""
        log_prob, centre, scale, excess = self._given(output).slopes(arguments.column(y))
        moves = output.chunk(2, -1)[1].abs() <= LOG_SCALE_LIMIT
        slopes = {"log_excess_df": excess.sum(-1)} if self.learn else {}
        return Score(log_prob.sum(-1), torch.cat([centre, scale * moves], -1), slopes)

    def curvature(self, output: Tensor) -> Tensor:
        """diag((ν+1) / ((ν+3) σ²) …, 2ν / (ν+3) …), expected (Lange et al. 1989); 0 for an s that is clamped."""
        given = self._given(output)
        moves = (output.chunk(2, -1)[1].abs() <= LOG_SCALE_LIMIT).to(output.dtype)
        centre = (given.df + 1) / (given.df + 3) * (-2 * given.log_scale).exp()
        return torch.diag_embed(torch.cat([centre, (2 * given.df / (given.df + 3)).expand_as(centre) * moves], -1))

    def predictive(self, outputs: Tensor, weights: Tensor | None = None) -> Mixture:
        """(S, B, 2T) and log weights (S,) -> a mixture of S t distributions."""
        given = self._given(arguments.draws("HeteroscedasticStudentT", outputs, per_target=2))
        return Mixture(given, normalised(weights, len(outputs), outputs))

    def config(self) -> dict[str, Any]:
        """Plain values for `from_config`; what was learned is among the model's params."""
        return {"name": "HeteroscedasticStudentT", "df": float(self.df), "learn": self.learn}

    def _given(self, output: Tensor) -> distributions.StudentT:
        centre, log_scale = output.chunk(2, -1)
        start, lowest = math.log(self.df - 1), distributions.LOG_EXCESS_LOWEST
        excess = arguments.learned(self.log_excess_df, start, output, lowest)
        return distributions.StudentT(centre, log_scale.clamp(-LOG_SCALE_LIMIT, LOG_SCALE_LIMIT), excess)
