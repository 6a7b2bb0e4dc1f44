"""Effects as pictures: the posterior with the association beside it, groups, dose and response."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from kokkiri.drawing import FIRST, INK, MUTED, axes
from kokkiri.numerics.projection import band

if TYPE_CHECKING:
    from kokkiri.causal.effect import Effect
    from kokkiri.causal.quantities import Curve, Quantity

POINTS = 201
TAIL = 2e-3  # of the draws, on each side, that is not drawn


def posterior(effect: Effect, level: float = 0.95) -> str:
    """Two densities: what doing does, its interval shaded, and what goes along with what was seen."""
    does, goes = effect.effect, effect.association
    with axes("effect", height=3.0, width=6.4) as (ax, save):
        for q, colour, name in ((goes, MUTED, "goes along: no effect"), (does, FIRST, "effect")):
            x, density = density_of(q)
            ax.plot(x, density, color=colour, linewidth=1.8, label=name)
            if q is does:
                low, high = q.interval(level)
                inside = (x >= low) & (x <= high)
                ax.fill_between(x[inside], density[inside], color=colour, alpha=0.18, linewidth=0)
                ax.axvline(q.centre, color=colour, linewidth=1.0)
        ax.axvline(0.0, color=INK, linewidth=0.9, linestyle=":")
        ax.set_yticks([])
        ax.grid(visible=False)
        ax.set_ylim(bottom=0)
        pair = f"{effect.levels[effect.level]} - {effect.levels[effect.versus]}"
        what = f"P({effect.outcome} = {effect.event})" if effect.event else f"mean of {effect.outcome}"
        ax.set_xlabel(f"{what}: {pair}")
        ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)  # above: curves are anywhere below
        return save()


def density_of(quantity: Quantity) -> tuple[np.ndarray, np.ndarray]:
    """Places and heights of a curve: of the law, or smoothed from the draws."""
    if quantity.law is not None:
        low, high = quantity.interval(1 - 2 * TAIL)
        x = torch.linspace(low, high, POINTS, dtype=torch.float64)
        return x.numpy(), quantity.law.log_prob(x).exp().numpy()
    return smoothed(quantity.draws)


def smoothed(draws: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """A histogram under a Gaussian kernel of half as much again as Silverman's width, without the outermost draws.

    >>> x, height = smoothed(torch.randn(20_000, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))
    >>> bool(abs(height.max() - 0.39) < 0.02), bool(abs((height[1:] * (x[1:] - x[:-1])).sum() - 1) < 0.02)
    (True, True)
    """
    sample = draws[torch.linspace(0, len(draws) - 1, min(len(draws), 50_000)).long()].double()
    ends = torch.tensor([TAIL, 0.25, 0.75, 1 - TAIL], dtype=torch.float64)
    low, first, third, high = torch.quantile(sample, ends).tolist()
    if high <= low:
        return np.array([low - 1e-9, low, low + 1e-9]), np.array([0.0, 1.0, 0.0])
    width = 1.4 * max((third - first) / 1.349, (high - low) / 100) * len(sample) ** -0.2
    edges = np.linspace(low - 3 * width, high + 3 * width, 4 * POINTS + 1)
    heights, _ = np.histogram(sample.numpy(), edges)
    step = edges[1] - edges[0]
    reach = int(4 * width / step) + 1
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) * step / width) ** 2)
    smooth = np.convolve(heights, kernel / kernel.sum(), mode="same") / (len(sample) * step)
    return (edges[:-1] + edges[1:]) / 2, smooth


def groups(effect: Effect, level: float = 0.95) -> str:
    """The effect in each group, with its interval; the effect among all as a line."""
    found = effect.group_effects
    with axes("groups", height=0.9 + 0.35 * len(found), width=6.4) as (ax, save):
        for k, q in enumerate(found.values()):
            low, high = q.interval(level)
            ax.plot([low, high], [k, k], color=FIRST, linewidth=1.6)
            ax.plot([q.centre], [k], "o", color=FIRST, markersize=5)
        ax.axvline(effect.effect.centre, color=MUTED, linewidth=1.0)
        ax.axvline(0.0, color=INK, linewidth=0.9, linestyle=":")
        ax.set_yticks(range(len(found)), [f"{effect.groups[0].column} = {value}" for value in found])
        ax.set_ylim(len(found) - 0.5, -0.5)
        ax.grid(visible=False, axis="y")
        ax.set_xlabel(f"effect of {effect.treatment} on {effect.outcome}, {100 * level:g} % intervals")
        return save()


def dose_response(effect: Effect, level: float = 0.95) -> str:
    """E[Y | do(t)] at each value of the treatment, with bands; what was seen beside it."""
    assert effect.curve is not None
    marks = effect.sample.t if effect.sample is not None and effect.sample.t.is_floating_point() else None
    up = f"P({effect.outcome} = {effect.event} | do)" if effect.event else f"{effect.outcome} | do"
    return _curve("dose", effect.curve, marks, level, effect.treatment, up, zero=False)


def along(effect: Effect, level: float = 0.95) -> str:
    """The contrast at each value of a column, with bands."""
    assert effect.along is not None
    name, curve = effect.along
    pair = f"{effect.levels[effect.level]} - {effect.levels[effect.versus]}"
    return _curve("along", curve, None, level, name, f"effect of {effect.treatment}: {pair}", zero=True)


def _curve(
    name: str, curve: Curve, marks: Tensor | None, level: float, across: str, up: str, *, zero: bool
) -> str:  # fmt: skip
    """A mean; within the inner band each point, within the outer the whole curve, with a probability of `level`."""
    x, found = curve.values.numpy(), band(curve.means, level)
    with axes(name, height=3.6, width=6.4) as (ax, save):
        ax.fill_between(x, found.lowest.numpy(), found.highest.numpy(), color=FIRST, alpha=0.1, linewidth=0)
        ax.fill_between(x, found.low.numpy(), found.high.numpy(), color=FIRST, alpha=0.2, linewidth=0)
        ax.plot(x, found.mean.numpy(), color=FIRST, linewidth=1.8, label="effect" if zero else "done")
        if curve.seen is not None:
            seen = curve.seen.median(0).values.numpy()
            ax.plot(x, seen, color=MUTED, linewidth=1.4, linestyle="--", label="seen: no effect")
        if zero:
            ax.axhline(0.0, color=INK, linewidth=0.9, linestyle=":")
        if marks is not None:
            inside = marks[(marks >= x[0]) & (marks <= x[-1])][:1000].numpy()
            low, high = ax.get_ylim()
            ax.plot(inside, np.full(len(inside), low), "|", color=MUTED, alpha=0.3, markersize=8)
            ax.set_ylim(low, high)
        ax.set_xlabel(across)
        ax.set_ylabel(up)
        ax.legend(loc="best")
        return save()
