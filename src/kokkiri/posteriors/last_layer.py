"""The last layer exactly: weights and noise of a linear map over the network's features, both integrated out.

    y = φ(x)ᵀ w + ε,  ε ~ N(0, σ²),  w | σ² ~ N(0, σ² / α),  σ² ~ InverseGamma(a₀, b₀)
    => w | σ², D normal, σ² | D InverseGamma(a, b), y* | D Student's t with 2a degrees of freedom
                                                    (Bishop 2006, exercises 3.12 and 3.13; Murphy 2012, section 7.6.3)

α is where the exact evidence log p(y | φ) is highest. Exact given the features φ, which stay where training left them;
an update is Bayes' rule itself, with the features fixed, and rows can be taken out again.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from kokkiri.curvature.ggn import flat_index, last_layer, replica_module
from kokkiri.curvature.plan import run as watched
from kokkiri.data.core import Data
from kokkiri.errors import Unsupported, UsageError
from kokkiri.herd import Herd, herd
from kokkiri.likelihoods import Gaussian, Rescaled
from kokkiri.numerics.distributions import StudentT
from kokkiri.numerics.linear_evidence import maximise_evidence
from kokkiri.numerics.linear_gaussian import LinearGaussian, fit
from kokkiri.numerics.linear_priors import Diagonal, Full, InverseGamma
from kokkiri.numerics.operators import Blocks, Dense
from kokkiri.posteriors.members import member_seeds
from kokkiri.posteriors.recipe import Approximation, Run, Trained, even
from kokkiri.predictive import Mixture, normalised
from kokkiri.records import Evidence, Status
from kokkiri.training.flat import layout
from kokkiri.types import LIKELIHOOD_PREFIX, Likelihood

SHAPE = 1e-3  # a₀ and b₀: nearly flat in log σ, and proper
METHOD = "student's t of the last layer, given its features"
CHUNK = 8192


@dataclass(frozen=True)
class LastLayer:
    """An exact posterior over the last linear map and the noise, given the features of `size` trained networks.

    For one number with Gaussian noise and a network that ends in nn.Linear. Predictions are Student's t; the evidence
    is exact given the features; so is every update.

    >>> LastLayer(size=5)
    LastLayer(size=5)
    """

    size: int = 1

    def __post_init__(self) -> None:
        """Refuses what is no number of networks."""
        if self.size < 1:
            raise UsageError(f"LastLayer(size={self.size})", needs="a whole number of at least 1", found=str(self.size))

    @property
    def folds(self) -> int:
        """None: a share of the rows stops the training."""
        return 0

    @property
    def stops(self) -> bool:
        """Held-out rows stop the training of the features."""
        return True

    def herd(self, make: nn.Module | Callable[[], nn.Module], *, seed: int) -> Herd:
        """`size` replicas; a single one keeps the weights of a network that is handed in."""
        if self.size == 1 and isinstance(make, nn.Module):
            return herd(make)
        return herd(make, seed=member_seeds(seed, self.size))

    def prepare(self, run: Run) -> Run:
        """As it is, where the likelihood is a Gaussian of one target.

        Raises Unsupported for others.
        """
        inner = run.likelihood.inner if isinstance(run.likelihood, Rescaled) else run.likelihood
        y = run.data.y
        if not isinstance(inner, Gaussian) or not inner.learn or (y is not None and y.ndim == 2 and y.shape[1] > 1):
            raise Unsupported(
                "the last layer is exact for one number with normal noise", needs="kk.Gaussian() and one target",
                found=repr(run.likelihood), fix="posterior=kk.Laplace('full', layers='last')",
            )  # fmt: skip
        return run

    def finish(self, trained: Trained) -> Approximation:
        """Solves for the last layer of each network."""
        models, data = trained.herd, trained.run.data
        shift, scale = units(trained.run.likelihood)
        params = {n: t.clone() for n, t in models.params.items()}
        spreads, noises, values, flags = [], [], [], []
        for r in range(len(models)):
            phi, names = features(models, r, data)
            y = (data.y.double().reshape(-1, 1) - shift) / scale
            small = torch.tensor([SHAPE], dtype=torch.float64)
            start = fit(phi, y, Diagonal(torch.ones(1, dtype=torch.float64)), InverseGamma(small[0], small))
            best = maximise_evidence(start)
            flags += ["no noise"] * bool(best.no_noise) + ["no signal"] * bool(best.no_signal)
            spread, noise = _put(params, r, best.model, names, models)
            spreads.append(spread)
            noises.append(noise)
            values.append(float(best.log_evidence) - len(data) * math.log(scale))
        each = torch.tensor(values, dtype=torch.float64)
        total = float(torch.logsumexp(each, 0)) - math.log(len(each))
        status = Status.NOISE_COLLAPSED if "no noise" in flags else None
        return Approximation(
            replace(models, params=params), even(len(models)), tuple(spreads), linear=True, status=status,
            evidence=Evidence(total, len(data), METHOD, each=tuple(values)),
            exact="exact for the last layer and its noise, given the features; the features are a point",
            notes=() if status is None else (status.value,), facts={"noise": torch.stack(noises)},
        )  # fmt: skip


def learnt(
    models: Herd, precision: tuple[Blocks, ...], noise: Tensor, likelihood: Likelihood, data: Data, *, remove: bool
) -> tuple[Herd, tuple[Blocks, ...], Tensor, list[float]]:  # fmt: skip
    """After new rows, or without rows that were learnt: the same by Bayes' rule, and log p(new | old) of each one."""
    assert data.y is not None
    shift, scale = units(likelihood)
    params = {n: t.clone() for n, t in models.params.items()}
    spreads, noises, values = [], [], []
    y = (data.y.double().reshape(-1, 1) - shift) / scale
    for r in range(len(models)):
        phi, names = features(models, r, data)
        shape, rate = noise[r]
        block = precision[r].parts[0][1]
        unit = block.dense() * (rate / shape)  # in units of σ²
        mean = _mean(models, r, names)
        size = len(data)
        if remove:
            moment, own = unit @ mean - phi.mT @ y, unit - phi.mT @ phi
            prior_mean = torch.linalg.solve(own, moment)
            before = Full(own, prior_mean)  # refuses what would not be a precision
            lost = (y - phi @ mean).square().sum() + ((prior_mean - mean) * (own @ (prior_mean - mean))).sum()
            old = InverseGamma(shape - size / 2, (rate - lost / 2).reshape(1))
            model = fit(phi, y, before, old)
            values.append(-float(model.log_evidence) + size * math.log(scale))
            model = fit(phi[:0], y[:0], before, old)
        else:
            model = fit(phi, y, Full(unit, mean), InverseGamma(shape, rate.reshape(1)))
            values.append(float(model.log_evidence) - size * math.log(scale))
        spread, own_noise = _put(params, r, model, names, models)
        spreads.append(spread)
        noises.append(own_noise)
    return replace(models, params=params), tuple(spreads), torch.stack(noises), values


def marginalised(likelihood: Likelihood, mean: Tensor, variance: Tensor, noise: Tensor, log_weight: Tensor) -> Mixture:
    """Student's t with 2a degrees of freedom, scale² = b/a + v, of each network: (R, B, 1) means and variances."""
    shift, scale = units(likelihood)
    shape, rate = noise.double().T[:, :, None, None]
    variance = variance.double().clamp(min=0)
    spread = (rate / shape + variance).log() / 2
    excess = (2 * shape - 1).clamp(min=1e-4).log().expand_as(spread)
    heavier = (shape / (shape - 1)).clamp(min=1.0)  # df / (df - 2)
    found = Mixture(
        StudentT(mean.double(), spread, excess), normalised(log_weight, len(mean), mean), within=variance * heavier
    )  # fmt: skip
    tensor = lambda v: torch.tensor(v, dtype=torch.float64)
    return found.rescaled(tensor(shift), tensor(scale))


def units(likelihood: Likelihood) -> tuple[float, float]:
    """(shift, scale) between the target and what the network answers."""
    if not isinstance(likelihood, Rescaled):
        return 0.0, 1.0
    one = lambda v: float(v[0] if isinstance(v, tuple) else v)
    return one(likelihood.shift), one(likelihood.scale)


def features(models: Herd, replica: int, data: Data) -> tuple[Tensor, tuple[str, ...]]:
    """(N, D) what the last linear map is given, float64, a one for its bias at the end; and its parameters' names."""
    module = replica_module(models, replica)
    names = last_layer(module, data.batch(torch.arange(min(3, len(data)))).x)
    parts = []
    for index in torch.arange(len(data)).split(CHUNK):
        tape, _ = watched(module, data.batch(index).x, copies=False)
        parts.append(tape.uses[-1].input.double())
    phi = torch.cat(parts)
    return (torch.cat([phi, phi.new_ones(len(phi), 1)], 1) if len(names) == 2 else phi), names


def _mean(models: Herd, replica: int, names: tuple[str, ...]) -> Tensor:
    return torch.cat([models.params[n][replica].double().reshape(-1) for n in names])[:, None]


def _put(
    params: dict[str, Tensor], replica: int, model: LinearGaussian, names: tuple[str, ...], models: Herd
) -> tuple[Blocks, Tensor]:  # fmt: skip
    """Writes the mean into the last layer; gives the precision of its weights at the mean noise, and (a, b)."""
    mean, found = model.mean[:, 0], model.posterior_noise
    assert isinstance(found, InverseGamma)
    noise = torch.stack([found.shape.reshape(()), found.rate.reshape(())])
    index = flat_index(layout(models.params))
    start = 0
    for n in names:
        size = params[n][replica].numel()
        params[n][replica] = mean[start : start + size].reshape(params[n][replica].shape).to(params[n])
        start += size
    scale = LIKELIHOOD_PREFIX + "log_scale"
    if scale in params:
        params[scale][replica] = 0.5 * (noise[1] / noise[0]).log().to(params[scale])
    where = torch.cat([index(n).reshape(-1) for n in names])
    return Blocks(layout(models.params).size, ((where, Dense(model.precision * (noise[0] / noise[1]))),)), noise
