"""Small data that tests share."""

import torch
from torch import nn

import kokkiri as kk
from kokkiri.data.core import Data, Inputs, Source, Target
from kokkiri.posteriors.recipe import Run, Trained


class Raw(nn.Module):
    """The encoder of data that need none."""

    def forward(self, raw):
        return raw["x"]


def data_of(x, y, kind="number", levels=()):
    return Data({"x": x}, y, Raw(), Inputs(tuple(x.shape[1:])), Target("y", kind, levels), Source("test"))


def some_numbers(n=40, seed=0, dtype=torch.float32):
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 3, generator=g, dtype=torch.float64)
    y = torch.sin(x[:, 0]) + 0.3 * torch.randn(n, generator=g, dtype=torch.float64)
    return data_of(x.to(dtype), y.to(dtype))


def trained(recipe, net, data, *, steps, likelihood=None, optimizer=None, prior=None, schedule=None, seed=0, **more):
    """A run of a recipe, as it is handed to `finish`."""
    run = Run(
        recipe.herd(net, seed=seed), data, likelihood or kk.Gaussian(), optimizer or kk.Adam(1e-2),
        prior or kk.Normal(1.0), kk.Plan(steps, seed=seed, schedule=schedule or kk.Cosine(), **more),
    )  # fmt: skip
    run = recipe.prepare(run)
    kept = []
    for last in kk.train(run.herd, data, run.likelihood, run.optimizer, run.prior, run.plan, tuner=run.tuner):
        if run.keep is not None and (some := run.keep(last)) is not None:
            kept.append(some)
    return Trained(last.herd, run, last, tuple(kept))


def fitted(recipe, net, data, **more):
    """What a recipe makes of some data."""
    return recipe.finish(trained(recipe, net, data, **more))
