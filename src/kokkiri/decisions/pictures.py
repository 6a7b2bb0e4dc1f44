"""Cost against threshold."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kokkiri.drawing import FIRST, INK, MUTED, SECOND, axes

if TYPE_CHECKING:
    from kokkiri.decisions.decide import Decisions

RARE = 0.05  # thresholds nearer to 0 or 1 are drawn on a scale of log-odds


def cost_picture(made: Decisions) -> str:
    """Cost a row for each threshold, with a band of its posterior interval; acting always and never are its ends.

    The upright line is the threshold that was chosen, from the costs alone; the dot is the model as it is, at one half.
    """
    curve, t = made.curve(), made.costs.threshold
    rare = not RARE < t < 1 - RARE
    with axes("cost", height=4.0, width=5.6) as (ax, save):
        some = (curve.threshold > 3e-4) & (curve.threshold < 1 - 3e-4) if rare else curve.threshold >= 0
        x = curve.threshold[some]
        if made.y is not None:
            ax.fill_between(x, curve.low[some], curve.high[some], color=FIRST, alpha=0.2, linewidth=0, step="post")
        what = "labelled rows" if made.y is not None else "by the model itself"
        ax.plot(x, curve.cost[some], color=FIRST, linewidth=1.8, drawstyle="steps-post", label=what)
        _, half, always, never = made.strategies
        for way, dashes in ((always, (0, (6, 3))), (never, (0, (1, 2)))):
            ax.axhline(way.cost.value, color=MUTED, linewidth=1.2, linestyle=dashes, label=way.name)
        low, high = made.costs.rejected
        if low < high:
            ax.axvspan(low, high, color=SECOND, alpha=0.12, linewidth=0, label="rejected")
        ax.axvline(t, color=SECOND, linewidth=1.4, label=f"chosen: {t:.3g}")
        ax.plot([_half_at(made)], [half.cost.value], "o", color=INK, markersize=5, label="model's own 0.5", zorder=4)
        if rare:
            ax.set_xscale("logit")
            ax.xaxis.set_major_formatter(lambda v, _: f"{v:.3g}")
            ax.xaxis.set_minor_formatter(lambda _v, _: "")
        ax.set(xlabel=f"threshold: act from this P({_short(made.levels[1])}) on", ylabel="cost a row", ylim=(0, None))
        ax.figure.legend(loc="outside upper left", ncols=3)
        return save()


def _half_at(made: Decisions) -> float:
    """Where one half of the model's own probability lies once the prevalence is corrected."""
    if made.trained_at is None:
        return 0.5
    odds = made.prevalence / (1 - made.prevalence) / (made.trained_at / (1 - made.trained_at))
    return odds / (1 + odds)


def _short(name: str) -> str:
    return name if len(name) <= 20 else name[:19] + "…"
