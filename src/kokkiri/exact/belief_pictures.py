"""Bayes' rule as a picture: areas, and what they become."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from kokkiri.drawing import FIRST, INK, MUTED, PAPER, SECOND, panels

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from kokkiri.exact.hypotheses import BayesRule

NAMED = 8  # more hypotheses than this have no room for their names


def rule_picture(rule: BayesRule) -> str:
    """Left: a bar for each hypothesis, as wide as its prior and as high as its likelihood: its area is their product.

    All areas together are the evidence, which is also the mean height, dashed. Right: each area's share of it, the
    posterior, beside the prior; or the beliefs along the way, where there was more than one observation. Of many cases
    the first is drawn.
    """
    prior = rule.prior.reshape(-1, len(rule.names))[0].tolist()
    likelihood = rule.log_likelihood.reshape(-1, len(rule.names))[0]
    top = float(likelihood.max())
    unit = 1.0 if -5 < top <= 0 else 0.0  # likelihoods of many data are drawn against the largest
    heights = (likelihood - (0.0 if unit else top)).exp().tolist()
    with panels("bayes", 2) as ((left, right), save):
        _areas(left, rule.names, prior, heights, "likelihood" if unit else "likelihood / the largest")
        if len(rule.log_likelihoods) > 1 and len(rule.names) <= NAMED:
            _path(right, rule)
        else:
            _before_after(right, rule.names, prior, rule.posterior.reshape(-1, len(rule.names))[0].tolist())
        return save()


def _areas(ax: Axes, names: tuple[str, ...], prior: list[float], heights: list[float], what: str) -> None:
    from matplotlib.patches import Rectangle

    start, last, row, rows = 0.0, -1.0, 0, 1
    for name, width, height in zip(names, prior, heights, strict=True):
        ax.add_patch(Rectangle((start, 0), width, height, facecolor=FIRST, alpha=0.75, edgecolor=PAPER, linewidth=1))
        middle = start + width / 2
        row = (row + 1) % 3 if middle - last < 0.02 * (len(name) + 4) else 0  # a name that would touch the last one
        rows, last, start = max(rows, row + 1), middle, start + width
        if len(names) <= NAMED:
            ax.annotate(
                name, (middle, 0), xytext=(0, -18 - 11 * row), textcoords="offset points", ha="center", va="top",
                color=INK, fontsize=9,
            )  # fmt: skip
    mean = sum(p * h for p, h in zip(prior, heights, strict=True))
    ax.axhline(mean, color=SECOND, linewidth=1.4, linestyle=(0, (4, 3)))
    said = f"evidence {mean:.3g} = all areas = mean height" if what == "likelihood" else "mean height"
    ax.annotate(
        said, (1, mean), xytext=(0, 3), textcoords="offset points", ha="right", va="bottom", color=SECOND, fontsize=9,
        bbox={"facecolor": PAPER, "alpha": 0.8, "linewidth": 0, "pad": 1},
    )  # fmt: skip
    ax.set(xlim=(0, 1), ylim=(0, 1.12 * max(heights)), ylabel=f"height: {what}")
    ax.set_xlabel("width: prior", labelpad=8 + 11 * rows if len(names) <= NAMED else 4)


def _before_after(ax: Axes, names: tuple[str, ...], prior: list[float], posterior: list[float]) -> None:
    many, place = len(names) > NAMED, range(len(names))
    ax.bar([k - 0.2 for k in place], prior, 0.4, color=MUTED, alpha=0.55, label="prior")
    bars = ax.bar([k + 0.2 for k in place], posterior, 0.4, color=FIRST, alpha=0.9, label="posterior")
    if many:
        every = max(1, len(names) // 6)
        ax.set_xticks(place[::every], [n if len(n) < 9 else n[:7] + "…" for n in names[::every]])
    else:
        ax.bar_label(bars, [f"{p:.3g}" for p in posterior], fontsize=8, color=INK, padding=2)
        ax.set_xticks(place, [n if len(n) < 13 else n[:11] + "…" for n in names])
    ax.set(ylim=(0, 1.2 * max(*prior, *posterior)), ylabel="probability")
    ax.grid(axis="x", visible=False)
    ax.legend(loc="upper center", ncols=2)


def _path(ax: Axes, rule: BayesRule) -> None:
    path = rule.path
    path = path.reshape(len(path), -1, len(rule.names))[:, 0]
    steps = torch.arange(len(path)).tolist()
    for rank, k in enumerate(path[-1].argsort(descending=True).tolist()):
        color = (FIRST, SECOND)[rank] if rank < 2 else MUTED
        dashes = "-" if rank < 2 else ("--", "-.", ":")[rank % 3]
        marker = "o" if len(steps) <= 30 else None
        ax.plot(steps, path[:, k], color=color, linestyle=dashes, marker=marker, markersize=4, label=rule.names[k])
    ax.set(ylim=(-0.03, 1.03), ylabel="probability", xlabel="observations")
    ax.set_xticks(steps if len(steps) <= 12 else steps[:: max(1, len(steps) // 8)])
    ax.legend(loc="best")
