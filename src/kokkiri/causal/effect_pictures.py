"""Effects as pictures: the posterior with the association beside it, groups, dose and response."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from kokkiri.drawing import FIRST, GRID, INK, MUTED, SECOND, axes

if TYPE_CHECKING:
    from kokkiri.causal.effect import Effect
    from kokkiri.causal.quantities import Quantity

POINTS = 201
TAIL = 2e-3  # of the draws, on each side, that is not drawn


def posterior(effect: Effect) -> str:
    """Two densities: what doing does, and what goes along with what was seen."""
    does, goes = effect.effect, effect.association
    with axes("effect", height=3.0, width=6.4) as (ax, save):
        for q, colour, name in ((goes, MUTED, "goes along: no effect"), (does, FIRST, "effect")):
            x, density = density_of(q)
            ax.plot(x, density, color=colour, linewidth=1.8, label=name)
            if q is does:
                low, high = q.interval()
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
        ax.legend(loc="upper right")
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


def groups(effect: Effect) -> str:
    """The effect in each group, with its interval; the effect among all as a line."""
    found = effect.group_effects
    with axes("groups", height=0.9 + 0.35 * len(found), width=6.4) as (ax, save):
        for k, q in enumerate(found.values()):
            low, high = q.interval()
            ax.plot([low, high], [k, k], color=FIRST, linewidth=1.6)
            ax.plot([q.centre], [k], "o", color=FIRST, markersize=5)
        ax.axvline(effect.effect.centre, color=MUTED, linewidth=1.0)
        ax.axvline(0.0, color=INK, linewidth=0.9, linestyle=":")
        ax.set_yticks(range(len(found)), [f"{effect.groups[0].column} = {value}" for value in found])
        ax.set_ylim(len(found) - 0.5, -0.5)
        ax.grid(visible=False, axis="y")
        ax.set_xlabel(f"effect of {effect.treatment} on {effect.outcome}, 95 % intervals")
        return save()


def dose_response(effect: Effect, level: float = 0.95) -> str:
    """E[Y | do(t)] at each value of the treatment, with a band."""
    curve = effect.curve
    assert curve is not None
    x = curve.values.numpy()
    tail = (1 - level) / 2
    ends = torch.quantile(curve.means, torch.tensor([tail, 0.5, 1 - tail], dtype=torch.float64), dim=0).numpy()
    with axes("dose", height=3.6, width=6.4) as (ax, save):
        ax.fill_between(x, ends[0], ends[2], color=FIRST, alpha=0.18, linewidth=0)
        ax.plot(x, ends[1], color=FIRST, linewidth=1.8, label="done")
        if curve.seen is not None:
            ax.plot(x, curve.seen.median(0).values.numpy(), color=SECOND, linewidth=1.4, linestyle="--", label="seen")
        if effect.sample is not None and effect.sample.t.is_floating_point():
            marks = effect.sample.t[:2000].numpy()
            ax.plot(marks, np.full(len(marks), ax.get_ylim()[0]), "|", color=GRID, markersize=8)
        ax.set_xlabel(effect.treatment)
        ax.set_ylabel(f"P({effect.outcome} = {effect.event} | do)" if effect.event else f"{effect.outcome} | do")
        ax.legend(loc="best")
        return save()
