"""Beliefs as pictures: the density of one number before and after its rows, or intervals of many numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import starmap
from typing import Any

import torch
from torch import Tensor

from kokkiri import drawing
from kokkiri.errors import UsageError
from kokkiri.exact.conjugate import words
from kokkiri.exact.distributions import StudentT

POINTS = 400
MOST = 24  # intervals below one another
LEVEL = 0.95


def draw(parameter: str, family: Any, stages: Sequence[Any], names: Sequence[str] = (), level: float = LEVEL) -> str:
    """SVG text: the prior (or the stages given), then the family itself; names: of them all, for the legend."""
    if parameter not in family.marginals:
        raise UsageError(
            f"{family!r} has no parameter '{parameter}'",
            needs=" or ".join(f"'{name}'" for name in family.marginals),
            found=f"'{parameter}'",
            fix=f"picture(parameter='{next(iter(family.marginals))}')",
        )
    own = [] if family.history.prior is None else [family.history.prior]
    told = [*(stages or own), family]
    shown, names = [one.marginals[parameter] for one in told], [*names] or [_name(one) for one in told]
    labels = words.labels_of(family, parameter, shown[-1].mean)
    slopes = [k for k, label in enumerate(labels) if label != "weight of intercept"]  # that has another unit
    if 0 < len(slopes) < len(labels):
        labels, shown = [labels[k] for k in slopes], [_some(dist, slopes) for dist in shown]
    if shown[-1].mean.numel() == 1:
        return densities(labels[0], names, shown, level)
    return intervals(labels, names[-2:], shown[-2:], parameter, level)


def _some(dist: StudentT, places: Sequence[int]) -> StudentT:
    """Some of the weights of one regression."""
    fields = (dist.location, dist.scale, dist.df, dist.ignorance)
    return StudentT(*(t[..., list(places)] for t in fields))


def densities(parameter: str, names: Sequence[str], dists: Sequence[Any], level: float) -> str:
    """Densities over one another, the last of them in colour with its central interval shaded."""
    low, high = _range(dists)
    x = torch.linspace(low, high, POINTS + 2, dtype=torch.float64)[1:-1]
    with drawing.axes("belief", height=3.4, width=6.0) as (axes, save):
        curves = [dist.log_prob(x).exp().reshape(-1) for dist in dists]
        for k, (name, y) in enumerate(zip(names, curves, strict=True)):
            last = k == len(dists) - 1
            first = k == 0 and len(dists) > 1
            style = {"color": drawing.FIRST, "linewidth": 2.2} if last else {"color": drawing.MUTED, "linewidth": 1.2}
            fade = 1.0 if last or first else 0.35 + 0.5 * k / len(dists)
            axes.plot(x, y, label=name, linestyle="--" if first else "-", alpha=fade, **style)
        ends = [float(v) for v in dists[-1].interval(level)]
        inside = (x >= ends[0]) & (x <= ends[1])
        axes.fill_between(x[inside], curves[-1][inside], color=drawing.FIRST, alpha=0.18, linewidth=0)
        top = max(starmap(_top, zip(dists, curves, strict=True)))
        axes.set_ylim(0, 1.08 * top)
        axes.set_xlim(low, high)
        axes.set_xlabel(parameter)
        axes.set_ylabel("density")
        axes.legend(loc="best")
        return save()


def intervals(labels: Sequence[str], names: Sequence[str], dists: Sequence[Any], parameter: str, level: float) -> str:
    """Central intervals below one another, those of the prior pale behind those of the posterior."""
    shown = labels[:MOST]
    with drawing.axes("beliefs", height=1.2 + 0.26 * len(shown), width=6.0) as (axes, save):
        for name, dist, last in zip(names, dists, [False] * (len(dists) - 1) + [True], strict=True):
            low, high = (t.expand(dist.mean.shape).reshape(-1)[:MOST] for t in dist.interval(level))
            mean = dist.mean.reshape(-1)[:MOST]
            y = torch.arange(len(mean), dtype=torch.float64)
            colour = drawing.FIRST if last else drawing.MUTED
            axes.hlines(y if last else y + 0.25, low, high, color=colour, linewidth=2.4 if last else 1.2, label=name)
            axes.plot(mean, y if last else y + 0.25, "o", color=colour, markersize=4.5 if last else 3)
        axes.set_xlim(*_limits(dists, level))
        axes.set_yticks(range(len(shown)), shown)
        axes.set_ylim(len(shown) - 0.4, -0.6)
        more = f", {len(labels) - MOST:,} more not drawn" if len(labels) > MOST else ""
        axes.set_xlabel(f"{parameter}, {100 * level:g} % intervals{more}")
        axes.grid(visible=False, axis="y")
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, 1.0 + 0.5 / len(shown)), ncols=2)
        return save()


def _name(family: Any) -> str:
    if family.history.prior is None:
        return "before any row"
    return f"after {words.spread(family.history.rows)}"


def _range(dists: Sequence[Any]) -> tuple[float, float]:
    """Where the last density is, the stages before it as far as they leave room to see it, the first one less so."""
    low, high = (float(v) for v in dists[-1].interval(0.98))
    width, (least, most) = high - low, (float(v) for v in dists[-1].interval(1.0))  # the support
    left, right = max(low - 0.4 * width, least), min(high + 0.4 * width, most)
    for place, dist in enumerate(dists[:-1]):
        room = (5.0 if place else 1.5) * width
        ends = [float(v) for v in dist.interval(0.98)]
        left, right = min(left, max(ends[0], low - room)), max(right, min(ends[1], high + room))
    return left, right if right > left else left + max(abs(left), 1.0) * 1e-9


def _limits(dists: Sequence[Any], level: float) -> tuple[float, float]:
    """Of intervals: all of the last, and as much of the ones before as leaves room to see it."""
    ends = [torch.stack([t.expand(d.mean.shape).reshape(-1)[:MOST] for t in d.interval(level)]) for d in dists]
    low, high = float(ends[-1].min()), float(ends[-1].max())
    room = (high - low) or 1.0
    left, right = (min(float(e[0].min()) for e in ends), max(float(e[1].max()) for e in ends))
    return max(low - 0.4 * room, left) - 0.04 * room, min(high + 0.4 * room, right) + 0.04 * room


def _top(dist: Any, y: Tensor) -> float:
    """The highest point; where the density has a pole at an end of its support, the highest a little away from it."""
    ends = torch.stack(dist.interval(1.0)).reshape(-1)
    pole = any(math.isfinite(end) and float(dist.log_prob(end)) == math.inf for end in ends.tolist())
    cut = len(y) // 50
    top = float((y[cut:-cut] if pole else y).max())
    return top if math.isfinite(top) and top > 0 else 1.0
