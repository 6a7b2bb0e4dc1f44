"""Two small regression networks whose posterior can be sampled, and what is asked of an approximation to it.

`wave`: one input, 50 rows with a gap in the middle, one hidden layer of 10 tanh units, P = 32. `concrete`: 120 rows of
UCI concrete with 8 inputs, 8 tanh units, P = 82. Weights and biases have the prior N(0, 1), the logarithm of the noise
N(0, 3²): the target is kokkiri's own log joint (`posteriors.density`).

Hidden units may be permuted and their signs turned without changing the function, so parameters are never compared:
only f(x) on inputs that span the data, the gap and what lies outside (`wave`), or rows that were not trained on
(`concrete`). Errors are in standard deviations of the reference:

    error = sqrt(mean over x of ((mean_method - mean_reference) / sd_reference)²)
    ratio = median over x of sd_method / sd_reference, and its root mean square
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import kokkiri as kk
from kokkiri.data.core import Data, Inputs, Source, Target
from kokkiri.networks.dense import program
from kokkiri.numerics.random import generator, permutation
from kokkiri.posteriors.density import Density, log_density
from kokkiri.posteriors.members import member_seeds
from kokkiri.training.dense import forward
from kokkiri.training.engines import of_network
from kokkiri.training.flat import Layout, flatten, layout
from kokkiri.types import LIKELIHOOD_PREFIX

REFERENCES = Path(__file__).parent / "references"
NAMES = ("wave", "concrete")


class Given(torch.nn.Module):
    """The encoder of rows that need none."""

    def forward(self, raw: dict[str, Tensor]) -> Tensor:
        return raw["x"]


@dataclass(frozen=True)
class Problem:
    """A posterior over the P numbers of one network. x (N, D), y (N,), grid (G, D): float64, standardised."""

    name: str
    network: torch.nn.Module
    x: Tensor
    y: Tensor
    grid: Tensor
    likelihood: kk.Gaussian = field(default_factory=kk.Gaussian)
    prior: kk.Normal = field(default_factory=kk.Normal)

    @property
    def where(self) -> Layout:
        params = {name: p.detach()[None] for name, p in self.network.named_parameters()}
        own = {LIKELIHOOD_PREFIX + n: t.double()[None] for n, t in self.likelihood.parameters().items()}
        return layout(params | own)

    @property
    def size(self) -> int:
        return self.where.size

    def log_density(self) -> Density:
        """(R, P) -> the log joint (R,) and its gradient (R, P)."""
        return log_density(self.network, self.where, self.likelihood, self.prior, self.x, self.y)

    def f(self, theta: Tensor, x: Tensor | None = None) -> Tensor:
        """(R, P) -> (R, G), the network's output at the grid, or at x."""
        where, parts = self.where, program(self.network)
        grid = self.grid if x is None else x
        runs = [forward(parts, of_network(where.views(t)), grid, training=False)[0] for t in theta.split(2000)]
        return torch.cat(runs).squeeze(-1)

    def starts(self, r: int, seed: int) -> Tensor:
        """(R, P): networks as kokkiri initialises them, and a noise of the spread of y."""
        models = kk.herd(self.network, seed=member_seeds(seed, r))
        noise = {LIKELIHOOD_PREFIX + "log_scale": torch.zeros(r, dtype=torch.float64)}
        return flatten({n: t.double() for n, t in models.params.items()} | noise, self.where)

    @property
    def data(self) -> Data:
        """The rows as `kk.fit` takes them: float32 inputs, nothing left to encode or to scale."""
        raw = {"x": self.x.float()}
        return Data(raw, self.y, Given(), Inputs((self.x.shape[1],)), Target("y", "number"), Source(self.name))

    def from_prior(self, r: int, seed: int) -> Tensor:
        """(R, P): weights from their prior, and a noise of half the spread of y."""
        theta = torch.randn(r, self.size, generator=generator(seed, "yardstick prior"), dtype=torch.float64)
        theta[:, -1] = math.log(0.5)
        return theta


def problem(name: str) -> Problem:
    """One of NAMES."""
    return {"wave": wave, "concrete": concrete}[name]()


def wave(rows: int = 50, hidden: int = 10) -> Problem:
    """y = sin(2.2 x) + 0.4 x + noise of 0.15, x in [-2, -0.6] and [0.6, 2]; grid from -3 to 3."""
    g = generator(0, "yardstick wave")
    side = torch.rand(rows, generator=g, dtype=torch.float64) * 1.4 + 0.6
    x = torch.where(torch.arange(rows) % 2 == 0, side, -side)[:, None]
    noise = torch.randn(rows, generator=g, dtype=torch.float64)
    y = torch.sin(2.2 * x[:, 0]) + 0.4 * x[:, 0] + 0.15 * noise
    grid = torch.linspace(-3, 3, 61, dtype=torch.float64)[:, None]
    network = kk.networks.MLP(1, [hidden], 1, activation="tanh").double()
    return Problem("wave", network, x, y, grid)


def concrete(rows: int = 120, tests: int = 100, hidden: int = 8) -> Problem:
    """UCI concrete (Yeh 1998), a random part; inputs and target standardised by the training rows."""
    data = kk.read("concrete")
    order = permutation(len(data), 0, "yardstick concrete")
    train, test = data.rows(order[:rows]), data.rows(order[rows : rows + tests])
    raw = train.raw["number"]
    scaled = lambda t: (t - raw.mean(0)) / raw.std(0)
    network = kk.networks.MLP(raw.shape[1], [hidden], 1, activation="tanh").double()
    y = (train.y - train.y.mean()) / train.y.std()
    return Problem("concrete", network, scaled(raw), y, scaled(test.raw["number"]))


@dataclass(frozen=True)
class Reference:
    """Mean and standard deviation of f at each of the G inputs under the posterior, from long runs."""

    mean: Tensor
    sd: Tensor


def reference(name: str) -> Reference:
    """As computed by `benchmarks/yardstick.py --reference` and kept beside this file."""
    with np.load(REFERENCES / f"{name}.npz") as kept:
        return Reference(torch.from_numpy(kept["mean"]), torch.from_numpy(kept["sd"]))


@dataclass(frozen=True)
class Distance:
    """error: of the mean, in reference sd, root mean square over inputs. ratio: of sd, median; ratio_rms: r.m.s."""

    error: float
    ratio: float
    ratio_rms: float

    @property
    def reached(self) -> bool:
        """The bar: a mean within 0.3 sd, a spread within a quarter, by both averages."""
        return self.error <= 0.3 and all(0.8 <= r <= 1.25 for r in (self.ratio, self.ratio_rms))


def moments(f: Tensor, log_weight: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """(S, G) and log weights (S,) -> mean and sd (G,) over draws."""
    w = torch.full((len(f),), 1 / len(f), dtype=f.dtype) if log_weight is None else torch.softmax(log_weight, 0)
    mean = w @ f
    return mean, (w @ (f - mean).square() / (1 - w.square().sum()).clamp(min=1e-12)).sqrt()


def distance(f: Tensor, truth: Reference, log_weight: Tensor | None = None) -> Distance:
    """How far draws f (S, G) with log weights (S,) are from the reference."""
    return moments_distance(*moments(f, log_weight), truth)


def moments_distance(mean: Tensor, sd: Tensor, truth: Reference) -> Distance:
    """The same for a mean and a standard deviation (G,) in closed form."""
    error = ((mean - truth.mean) / truth.sd).square().mean().sqrt()
    ratio = sd / truth.sd
    return Distance(float(error), float(ratio.median()), float(ratio.square().mean().sqrt()))
