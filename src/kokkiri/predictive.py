"""What a posterior says of new inputs: mixtures over S draws of the parameters, in float64.

`Mixture` for values and counts, `Classes` for class numbers. Both keep the protocol `types.Predictive`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from kokkiri.errors import DataError, ShapeError, Unsupported, UsageError
from kokkiri.numerics import mixture
from kokkiri.numerics.distributions import Distribution
from kokkiri.numerics.random import philox


@dataclass(frozen=True, eq=False, repr=False)
class Mixture:
    """p(y) = sum_s w_s p(y | draw s) for B inputs of T targets each; results are (B,) where T = 1 and (B, T) elsewhere.

    components: tensors (S, B, T). log_weights: (S,), normalised. within: (S, B, T), how much of each component's
    variance is ignorance of the parameters rather than noise, where a component is itself an average over them (in
    units of z²; rows of a sample are then drawn apart from one another in that part). y = shift + scale · z, where z is
    what the components are about, (T,) or () each: kept apart so that a target near 10⁹ with a spread of 10⁻³ loses no
    digits.
    Given a draw, targets are independent; moments, cdf and quantiles are those of each target by itself.

    >>> from kokkiri.likelihoods import Gaussian
    >>> p = Gaussian(scale=2.0).predictive(torch.tensor([[[0.0]], [[2.0]]]))  # two draws, one input
    >>> p, p.mean.item(), round(p.aleatoric.item(), 6), p.epistemic.item()
    (Mixture(Normal, draws=2, rows=1, targets=1), 1.0, 4.0, 1.0)
    """

    components: Distribution
    log_weights: Tensor
    shift: Tensor = field(default_factory=lambda: torch.zeros((), dtype=torch.float64))
    scale: Tensor = field(default_factory=lambda: torch.ones((), dtype=torch.float64))
    within: Tensor | None = None

    def __post_init__(self) -> None:
        shape, draws = self.components[0].shape, len(self.log_weights)
        if len(shape) != 3 or shape[0] != draws:
            raise ShapeError(
                f"Mixture got components {tuple(shape)} and {draws} weights", needs="components (S, B, T), weights (S,)"
            )
        wide = [t.double().expand(shape) for t in self.components]
        object.__setattr__(self, "components", type(self.components)(*wide))

    def __repr__(self) -> str:
        s, b, t = self.components[0].shape
        return f"Mixture({type(self.components).__name__}, draws={s}, rows={b}, targets={t})"

    def __len__(self) -> int:
        return self.components[0].shape[1]

    @property
    def mean(self) -> Tensor:
        """E[y]."""
        return self._out(self.shift + self.scale * self._moments.mean)

    @property
    def aleatoric(self) -> Tensor:
        """E_s[var(y | s)]: what remains however much is learnt. ∞ for a StudentT with df <= 2."""
        return self._out(self.scale**2 * (self._moments.aleatoric - self._ignorance))

    @property
    def epistemic(self) -> Tensor:
        """var_s(E[y | s]): the draws' disagreement, which more data shrink."""
        return self._out(self.scale**2 * (self._moments.epistemic + self._ignorance))

    @property
    def variance(self) -> Tensor:
        """The sum of the two."""
        return self.aleatoric + self.epistemic

    @property
    def sd(self) -> Tensor:
        """√variance."""
        return self.variance.sqrt()

    def log_prob(self, y: Tensor) -> Tensor:
        """(B,) nats: log p of all T targets of a row together, in the units of y."""
        z = self._in(y, "log_prob")
        joint = self.components.log_prob(z).sum(-1)
        return mixture.log_average(joint, self.log_weights) - self.scale.log().expand(z.shape[-1]).sum()

    def cdf(self, y: Tensor) -> Tensor:
        """P(Y <= y), each target by itself."""
        return self._out(mixture.average(self.components.cdf(self._in(y, "cdf")), self.log_weights))

    def quantile(self, q: float) -> Tensor:
        """The least y with P(Y <= y) >= q, each target by itself; to 1e-10 of its size or its spread."""
        _fraction("quantile", "q", q)
        return self._out(self.shift + self.scale * mixture.quantile(self.components, self.log_weights, q))

    def interval(self, level: float) -> tuple[Tensor, Tensor]:
        """The central interval: mass (1 - level) / 2 is left out on either side (of counts, at most that)."""
        _fraction("interval", "level", level)
        return self.quantile((1 - level) / 2), self.quantile((1 + level) / 2)

    def sample(self, n: int, *, seed: int) -> Tensor:
        """(n, B) or (n, B, T). One draw of the parameters serves all rows of a sample, so that their sum is right."""
        rng = philox(seed, "predictive sample")
        chosen = _choose(self.log_weights, n, rng)
        picked = type(self.components)(*(t[chosen] for t in self.components))
        return self._out(self.shift + self.scale * picked.sample(rng))

    def rows(self, index: Tensor | slice) -> Mixture:
        """The same for some of the inputs."""
        within = None if self.within is None else self.within[:, index]
        return replace(self, components=type(self.components)(*(t[:, index] for t in self.components)), within=within)

    def rescaled(self, shift: Tensor, scale: Tensor) -> Mixture:
        """The distribution of shift + scale · y, scale > 0."""
        if self.components.discrete:
            raise Unsupported(
                f"{self!r} cannot be rescaled", needs="a density", found="counts", fix="leave the target as it is"
            )
        return replace(self, shift=shift + scale * self.shift, scale=scale * self.scale)

    @property
    def _moments(self) -> mixture.Moments:
        return mixture.moments(self.components.mean, self.components.variance, self.log_weights)

    @property
    def _ignorance(self) -> Tensor | float:
        return 0.0 if self.within is None else mixture.average(self.within.double(), self.log_weights)

    def _in(self, y: Tensor, method: str) -> Tensor:
        b, t = self.components[0].shape[1:]
        if y.shape != (b, t) and not (t == 1 and y.shape == (b,)):
            raise ShapeError(
                f"Mixture.{method} got y {tuple(y.shape)}",
                needs=f"y ({b},)" if t == 1 else f"y ({b}, {t})",
                found=f"{b} rows of {t} targets were predicted",
                fix="pass the targets of the rows that were predicted",
            )
        return (y.double().reshape(b, t) - self.shift) / self.scale

    def _out(self, values: Tensor) -> Tensor:
        return values.squeeze(-1) if values.shape[-1] == 1 else values


@dataclass(frozen=True, eq=False, repr=False)
class Classes:
    """P(class) = sum_s w_s P(class | draw s) for B inputs and C classes.

    log_probabilities: (S, B, C), normalised over classes; logs, so that a class that is all but excluded keeps a finite
    log_prob. log_weights: (S,), normalised. within: (S, B, C), the variance of p over parameters inside each component,
    where a component is itself an average over them.

    >>> p = Classes(torch.tensor([[[0.9, 0.1]], [[0.5, 0.5]]]).log(), torch.tensor([0.5, 0.5]).log())
    >>> p, p.label.item(), round(p.mutual_information.item(), 4)
    (Classes(draws=2, rows=1, classes=2), 0, 0.1017)
    """

    log_probabilities: Tensor
    log_weights: Tensor
    within: Tensor | None = None

    def __post_init__(self) -> None:
        shape, draws = self.log_probabilities.shape, len(self.log_weights)
        if len(shape) != 3 or shape[0] != draws or shape[2] < 2:
            raise ShapeError(
                f"Classes got log_probabilities {tuple(shape)} and {draws} weights",
                needs="log_probabilities (S, B, C) with C >= 2, weights (S,)",
            )
        object.__setattr__(self, "log_probabilities", self.log_probabilities.double())
        object.__setattr__(self, "log_weights", self.log_weights.double())

    def __repr__(self) -> str:
        s, b, c = self.log_probabilities.shape
        return f"Classes(draws={s}, rows={b}, classes={c})"

    def __len__(self) -> int:
        return self.log_probabilities.shape[1]

    @property
    def probabilities(self) -> Tensor:
        """(S, B, C), of each draw."""
        return self.log_probabilities.exp()

    @property
    def mean(self) -> Tensor:
        """(B, C) class probabilities."""
        return mixture.average(self.probabilities, self.log_weights)

    @property
    def aleatoric(self) -> Tensor:
        """(B, C): E_s[p(1 - p)], of the indicator of each class."""
        p = self.probabilities
        return mixture.average(p * (1 - p), self.log_weights) - self._ignorance

    @property
    def epistemic(self) -> Tensor:
        """(B, C): var_s(p)."""
        p = self.probabilities
        return mixture.moments(p, p * (1 - p), self.log_weights).epistemic + self._ignorance

    @property
    def variance(self) -> Tensor:
        """(B, C): aleatoric + epistemic = p(1 - p) with p the mean."""
        return self.aleatoric + self.epistemic

    @property
    def sd(self) -> Tensor:
        """√variance."""
        return self.variance.sqrt()

    @property
    def label(self) -> Tensor:
        """(B,) the most probable class."""
        return self.mean.argmax(-1)

    @property
    def entropy(self) -> Tensor:
        """(B,) nats: H[mean], the total uncertainty = expected_entropy + mutual_information (Depeweg et al. 2018)."""
        return torch.special.entr(self.mean).sum(-1)

    @property
    def expected_entropy(self) -> Tensor:
        """(B,) nats: E_s H[p_s], the part that more data do not take away.

        Inside a component that is an average, H falls by ½ sum_c var(p_c) / p_c, to second order.
        """
        p = self.probabilities
        entropy = torch.special.entr(p).sum(-1)
        if self.within is not None:
            fall = 0.5 * (self.within.double() / p.clamp(min=1e-300)).sum(-1)
            entropy = (entropy - fall).clamp(min=0.0)
        return mixture.average(entropy, self.log_weights)

    @property
    def mutual_information(self) -> Tensor:
        """(B,) nats between class and draw: what knowing the parameters would tell (Houlsby et al. 2011, eq. 2)."""
        return (self.entropy - self.expected_entropy).clamp(min=0.0)  # rounding can leave -1e-17

    def log_prob(self, y: Tensor) -> Tensor:
        """(B,) nats, for class numbers (B,)."""
        b, c = self.log_probabilities.shape[1:]
        if y.shape != (b,):
            raise ShapeError(
                f"Classes.log_prob got y {tuple(y.shape)}",
                needs=f"class numbers ({b},)",
                found=f"{b} rows were predicted",
                fix="pass the targets of the rows that were predicted",
            )
        y = y.long()
        if bool(((y < 0) | (y >= c)).any()):
            row = int(((y < 0) | (y >= c)).nonzero()[0])
            raise DataError(
                f"row {row} of y is no class of this prediction",
                needs=f"class numbers 0 to {c - 1}",
                found=str(int(y[row])),
                fix="encode the targets with the levels of the training data",
            )
        index = y.expand(len(self.log_weights), b)[..., None]
        return mixture.log_average(self.log_probabilities.gather(-1, index).squeeze(-1), self.log_weights)

    def prediction_set(self, level: float) -> Tensor:
        """(B, C) bool: the fewest classes whose probabilities add up to at least `level`."""
        _fraction("prediction_set", "level", level)
        p, order = torch.sort(self.mean, dim=-1, descending=True, stable=True)
        before = p.cumsum(-1) - p
        return torch.zeros_like(p, dtype=torch.bool).scatter(-1, order, before < level - 1e-12)  # sums round

    def quantile(self, q: float) -> Tensor:
        """Refused: classes have no order."""
        raise _unordered("quantile", q)

    def interval(self, level: float) -> tuple[Tensor, Tensor]:
        """Refused: classes have no order."""
        raise _unordered("interval", level)

    def sample(self, n: int, *, seed: int) -> Tensor:
        """(n, B) class numbers. One draw of the parameters serves all rows of a sample, as in `Mixture.sample`."""
        rng = philox(seed, "predictive sample")
        edges = self.probabilities[_choose(self.log_weights, n, rng)].cumsum(-1)
        u = torch.as_tensor(rng.random(edges.shape[:2])).to(edges.device)[..., None] * edges[..., -1:]
        return (u >= edges[..., :-1]).sum(-1)

    def rows(self, index: Tensor | slice) -> Classes:
        """The same for some of the inputs."""
        within = None if self.within is None else self.within[:, index]
        return replace(self, log_probabilities=self.log_probabilities[:, index], within=within)

    @property
    def _ignorance(self) -> Tensor | float:
        return 0.0 if self.within is None else mixture.average(self.within.double(), self.log_weights)


def concatenate(parts: Sequence[Mixture] | Sequence[Classes]) -> Mixture | Classes:
    """One prediction from predictions of successive batches by the same draws.

    >>> p = Classes(torch.zeros(1, 5, 2) - 0.6931471805599453, torch.zeros(1))
    >>> concatenate([p.rows(slice(0, 2)), p.rows(slice(2, 5))])
    Classes(draws=1, rows=5, classes=2)
    """
    first = parts[0]
    if any(not _alike(first, part) for part in parts):
        raise ShapeError(
            "these predictions cannot be concatenated",
            needs="the same family, draws and units in all parts",
            found=", ".join(repr(part) for part in parts[:4]),
            fix="predict all parts with one posterior",
        )
    if isinstance(first, Classes):
        logs = torch.cat([p.log_probabilities for p in parts if isinstance(p, Classes)], 1)
        return replace(first, log_probabilities=logs, within=_joined(parts))
    tensors = zip(*(part.components for part in parts if isinstance(part, Mixture)), strict=True)
    return replace(first, components=type(first.components)(*(torch.cat(t, 1) for t in tensors)), within=_joined(parts))


def _joined(parts: Sequence[Mixture] | Sequence[Classes]) -> Tensor | None:
    some = [p.within for p in parts if p.within is not None]
    return torch.cat(some, 1) if some else None


def _alike(a: Mixture | Classes, b: Mixture | Classes) -> bool:
    if not torch.equal(a.log_weights, b.log_weights) or (a.within is None) != (b.within is None):
        return False
    if isinstance(a, Mixture) and isinstance(b, Mixture):
        units = torch.equal(a.shift, b.shift) and torch.equal(a.scale, b.scale)
        return (
            units and type(a.components) is type(b.components) and a.components[0].shape[2] == b.components[0].shape[2]
        )
    return (
        isinstance(a, Classes)
        and isinstance(b, Classes)
        and a.log_probabilities.shape[2] == b.log_probabilities.shape[2]
    )


def normalised(weights: Tensor | None, draws: int, like: Tensor) -> Tensor:
    """(S,) log weights whose exponentials add up to one, float64; equal ones for None."""
    if weights is None:
        return torch.full((draws,), -math.log(draws), dtype=torch.float64, device=like.device)
    if weights.shape != (draws,):
        raise ShapeError(
            f"{draws} draws got weights {tuple(weights.shape)}",
            needs=f"one log weight a draw, ({draws},)",
            found=f"{weights.numel()} of them",
            fix="weights=None counts all draws equally",
        )
    return torch.log_softmax(weights.detach().double().to(like.device), 0)


def _choose(log_weights: Tensor, n: int, rng: np.random.Generator) -> Tensor:
    if n < 1:
        raise UsageError(f"sample got n={n}", needs="n >= 1", found=str(n), fix="sample(1000, seed=0)")
    weights = log_weights.exp().cpu().numpy()
    return torch.from_numpy(rng.choice(len(weights), n, p=weights / weights.sum())).to(log_weights.device)


def _fraction(method: str, name: str, value: float) -> None:
    if not 0 < value < 1:
        raise UsageError(
            f"{method} got {name}={value!r}", needs=f"0 < {name} < 1", found=repr(value), fix=f"{method}(0.9)"
        )


def _unordered(method: str, value: float) -> Unsupported:
    return Unsupported(
        f"classes have no {method}",
        needs="a target with an order",
        found=f"{method}({value!r}) of class probabilities",
        fix="prediction_set(0.9): the fewest classes with that mass",
    )
