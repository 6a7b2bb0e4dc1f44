"""The few shapes that values have, and the protocols that blocks keep.

Shape letters, everywhere: R replicas, N data, B batch, C outputs, P parameters, S draws.
All densities are natural logarithms (nats), summed over data, never averaged, unless a name says so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol, TypeAlias, runtime_checkable

from torch import Tensor

if TYPE_CHECKING:
    from kokkiri.herd import Herd
    from kokkiri.records import Record

Params: TypeAlias = dict[str, Tensor]  # one model; the names of named_parameters()
State: TypeAlias = dict[str, Any]  # an optimizer's memory: a tree of dicts of tensors, one model

LIKELIHOOD_PREFIX = "likelihood."  # parameters of the likelihood live among a model's params under this name


class Batch(NamedTuple):
    """Some data: inputs, targets, and which rows they were."""

    x: Any  # (B, ...) a tensor, or whatever the network takes
    y: Tensor  # (B,) class numbers or values; (B, T) several values


class Score(NamedTuple):
    """log p(y | output) with its first derivatives; every leading axis before B is a replica's."""

    log_prob: Tensor  # (..., B) nats
    output: Tensor  # (..., B, C), d log p / d output
    parameters: Params  # name -> (..., B), d log p / d what the likelihood learns


@runtime_checkable
class Predictive(Protocol):
    """p(y | x, data) for B inputs, each a mixture over S draws of the parameters.

    By the law of total variance: variance = aleatoric + epistemic, the mean over draws of the variance and the variance
    over draws of the mean. More data shrink the second only.
    """

    @property
    def mean(self) -> Tensor: ...  # (B,), (B, T), or class probabilities (B, C)
    @property
    def variance(self) -> Tensor: ...
    @property
    def aleatoric(self) -> Tensor: ...
    @property
    def epistemic(self) -> Tensor: ...
    def log_prob(self, y: Tensor) -> Tensor: ...  # (B,) nats
    def quantile(self, q: float) -> Tensor: ...
    def interval(self, level: float) -> tuple[Tensor, Tensor]: ...  # central: equal mass left out on both sides
    def sample(self, n: int, *, seed: int) -> Tensor: ...  # (n, B, ...)


@runtime_checkable
class Likelihood(Protocol):
    """The loss, normalised: p(y | output).

    `parameters` are what the likelihood itself learns (a noise scale); they are stored among the model's params under
    `LIKELIHOOD_PREFIX` and put back by `bind`, so that they are herded, given a prior and updated like the rest.

    A likelihood may offer `score(output, y) -> Score`, its derivatives in closed form, for R replicas at once: output
    (R, B, C), bound to parameters of (R,); automatic differentiation finds them otherwise, at several times the cost.
    Where `log_prob` clamps a parameter, its score is that of the clamped value: the way back.
    """

    location_scale: ClassVar[bool]  # whether y may be shifted and scaled (see likelihoods.Rescaled)
    discrete: ClassVar[bool]  # whether log_prob is the log of a probability (else of a density)

    def outputs(self, targets: int) -> int: ...  # how many numbers the network must give for `targets` of them
    def parameters(self) -> Params: ...  # initial values, unconstrained; {} if there are none
    def bind(self, parameters: Params) -> Likelihood: ...
    def check(self, y: Tensor, outputs: int | None = None) -> None: ...  # DataError at the first y out of the support
    def log_prob(self, output: Tensor, y: Tensor) -> Tensor: ...  # (B, C), (B, ...) -> (B,) nats
    def curvature(self, output: Tensor) -> Tensor: ...  # (B, C) -> (B, C, C), Fisher information of the output, PSD
    def predictive(self, outputs: Tensor, weights: Tensor | None = None) -> Predictive: ...  # (S, B, C), log (S,)


@runtime_checkable
class Prior(Protocol):
    """A normalised density over the parameters of one model. Weight decay is the Normal one.

    Where `elementwise`, it may be handed flat tensors in place of the model's, those of the likelihood apart. A prior
    may offer `gradient(params, hyper) -> Params`, of log_prob; otherwise automatic differentiation finds it.
    """

    elementwise: ClassVar[bool]

    def hyperparameters(self) -> dict[str, Tensor]: ...  # what a sweep may vary, 0-dimensional each
    def log_prob(self, params: Params, hyper: dict[str, Tensor]) -> Tensor: ...  # () nats


@runtime_checkable
class Posterior(Protocol):
    """What `fit` returns."""

    @property
    def herd(self) -> Herd: ...
    @property
    def likelihood(self) -> Likelihood: ...
    @property
    def record(self) -> Record: ...
    def draw(self, n: int, *, seed: int) -> Herd: ...


@runtime_checkable
class Optimizer(Protocol):
    """A step of descent, a pure function written for ONE model; the herd lifts it.

    `step` descends `grads`. It may be handed one flat tensor in place of the model's many: whatever is elementwise may
    not look at the names; what is not (`elementwise = False`) is handed the model's own tensors.

    An elementwise optimizer may offer `look(params, state, hyper, noise) -> (params, state)`: where it wants the next
    gradient, given standard normal noise. It then takes the prior, a Gaussian, apart from the gradient: `grads` are of
    the mean -log-likelihood alone, and `hyper` holds "rows" (the weight N of all rows), "decay" (-d² log prior / N,
    over the flat tensor) and, where it is not 0, "pull" (the prior's gradient over N, plus decay · params).
    """

    elementwise: ClassVar[bool]
    full_batch: ClassVar[bool]  # whether it is meant for all rows at once

    def hyperparameters(self) -> dict[str, Tensor]: ...  # what a sweep may vary, 0-dimensional each, "lr" among them
    def init(self, params: Params) -> State: ...
    def step(self, params: Params, grads: Params, state: State, hyper: dict[str, Tensor]) -> tuple[Params, State]: ...


@runtime_checkable
class Schedule(Protocol):
    """How the learning rate moves: a factor for step `step` (counted from 0) of `steps`."""

    def __call__(self, step: int, steps: int) -> float: ...
