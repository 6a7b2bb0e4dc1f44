"""Pictures of an evaluation: SVG text whose colours are the page's variables, so that they follow light and dark."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from kokkiri.drawing import FIRST, INK, MUTED, PAPER, SECOND, axes
from kokkiri.evaluation.values import Calibration, ClassErrors, Coverage, Measure, Points, Uncertainty
from kokkiri.records import Curve

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_CLASSES = 30  # a matrix of more has cells too small to see


def learning_curves(curve: Curve) -> str:
    """Nats per row against steps: training and held-out rows, a thin line a replica, a dot at the best step."""
    with axes("curves") as (ax, save):
        for color, lines, name in ((MUTED, curve.train, "training rows"), (FIRST, curve.held_out, "held-out rows")):
            width, alpha = (1.6, 0.9) if len(lines) < 4 else (0.9, 0.6)
            for i, values in enumerate(lines):
                marker = "o" if len(curve.steps) == 1 else None
                label = name if i == 0 else None
                ax.plot(curve.steps, values, color=color, linewidth=width, alpha=alpha, label=label, marker=marker)
        best = [
            (step, values[curve.steps.index(step)])
            for step, values in zip(curve.best, curve.held_out or curve.train, strict=False)
            if step in curve.steps
        ]
        if best:
            ax.plot(*zip(*best, strict=True), "o", color=SECOND, markersize=5, label="weights kept", zorder=3)
        values = sorted(v for line in (*curve.train, *curve.held_out) for v in line if math.isfinite(v))
        if len(values) > 20:  # the first steps are far below and would flatten all that follows
            low, high = values[len(values) // 20], values[-1]
            ax.set_ylim(low - 0.05 * (high - low) - 1e-9, high + 0.08 * (high - low) + 1e-9)
        ax.set(xlabel="step", ylabel="log-likelihood, nats per row")
        ax.figure.legend(loc="outside upper left", ncols=3)
        return save()


def reliability(calibration: Calibration) -> str:
    """Observed frequency against predicted probability, with 95 % intervals; the diagonal is perfect."""
    with axes("reliability") as (ax, save):
        _diagonal(ax, 0, 1)
        p, f = calibration.probability, calibration.frequency
        below = [max(0.0, a - b) for a, b in zip(f, calibration.low, strict=True)]
        above = [max(0.0, b - a) for a, b in zip(f, calibration.high, strict=True)]
        ax.errorbar(p, f, yerr=[below, above], fmt="o-", color=FIRST, markersize=5, linewidth=1.2, elinewidth=1)
        ax.set(
            xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), xlabel=f"predicted {calibration.what}", ylabel="observed frequency"
        )
        ax.set_aspect("equal")
        _percent_axes(ax)
        return save()


def confusion(classes: ClassErrors) -> str:
    """Counts of true against predicted classes, shaded by the share of each true class; "" for more than 30 classes."""
    n = len(classes.levels)
    if n > MOST_CLASSES:
        return ""
    from matplotlib.patches import Rectangle

    names = [level if len(level) <= 14 else f"{level[:8]}…{level[-5:]}" for level in classes.levels]
    with axes("confusion", height=4.0 if n < 14 else 5.0) as (ax, save):
        size = 10 if n <= 6 else 8 if n <= 12 else 5
        for i, row in enumerate(classes.confusion):
            total = max(sum(row), 1)
            for j, k in enumerate(row):
                color, share = (FIRST if i == j else SECOND), k / total
                ax.add_patch(Rectangle((j - 0.5, i - 0.5), 1, 1, facecolor=color, alpha=0.85 * share**0.5, linewidth=0))
                if k and n <= 20:
                    ink = PAPER if share > 0.4 else INK
                    ax.text(j, i, f"{k:,}", ha="center", va="center", color=ink, fontsize=size)
        ax.set(xlim=(-0.5, n - 0.5), ylim=(n - 0.5, -0.5), xlabel="predicted", ylabel="true")
        size = 9 if n <= 12 else 6
        ax.set_xticks(range(n), names, rotation=0 if n * max(map(len, names)) <= 40 else 90, fontsize=size)
        ax.set_yticks(range(n), names, fontsize=size)
        ax.grid(visible=False)
        ax.set_aspect("equal")
        return save()


def predicted_observed(points: Points, target: str) -> str:
    """Prediction with its 90 % interval against the truth; a bar that misses the diagonal missed the truth."""
    with axes("predictions") as (ax, save):
        values = [v for v in (*points.observed, *points.predicted) if math.isfinite(v)] or [0.0, 1.0]
        _diagonal(ax, min(values), max(values))
        held = [a <= y <= b for y, a, b in zip(points.observed, points.low, points.high, strict=True)]
        for color, wanted, label in ((FIRST, True, "interval holds the truth"), (SECOND, False, "misses it")):
            rows = [i for i, h in enumerate(held) if h == wanted]
            x, y = [points.observed[i] for i in rows], [points.predicted[i] for i in rows]
            ax.vlines(
                x, [points.low[i] for i in rows], [points.high[i] for i in rows], color=color, linewidth=0.7, alpha=0.35
            )
            ax.plot(x, y, "o", color=color, markersize=3, alpha=0.85, label=label if rows else None)
        ax.set(xlabel=f"observed {_short(target)}", ylabel=f"predicted {_short(target)}")
        ax.legend(loc="upper left")
        return save()


def residuals(points: Points, target: str) -> str:
    """Observed minus predicted against predicted: a trend or a funnel is something that the model has not learnt."""
    with axes("residuals") as (ax, save):
        ax.axhline(0, color=MUTED, linewidth=1)
        left = [y - f for y, f in zip(points.observed, points.predicted, strict=True)]
        ax.plot(points.predicted, left, "o", color=FIRST, markersize=3, alpha=0.6)
        ax.set(xlabel=f"predicted {_short(target)}", ylabel="observed − predicted")
        return save()


def coverage(levels: Sequence[Coverage]) -> str:
    """The share of truths inside the central intervals against the share that was promised."""
    with axes("coverage") as (ax, save):
        _diagonal(ax, 0.4, 1)
        said, seen = [c.level for c in levels], [c.covered.value for c in levels]
        ax.errorbar(
            said, seen, yerr=_bars([c.covered for c in levels]), fmt="o-", color=FIRST, markersize=5, elinewidth=1
        )
        ax.set(xlabel="probability of the interval", ylabel="truths inside it", xlim=(0.42, 1.0))
        _percent_axes(ax)
        return save()


def pit(counts: Sequence[int]) -> str:
    """Where the truth fell in its predicted distribution, by tenths: level is right, U too sure, ∩ too unsure."""
    with axes("pit") as (ax, save):
        n, expected = sum(counts), sum(counts) / len(counts)
        ax.bar([(k + 0.5) / len(counts) for k in range(len(counts))], counts, 0.092, color=FIRST, alpha=0.7)
        spread = 1.96 * math.sqrt(max(expected * (1 - expected / max(n, 1)), 0.0))
        for height, dashes in ((expected, "-"), (expected - spread, (0, (4, 3))), (expected + spread, (0, (4, 3)))):
            ax.axhline(height, color=INK, linewidth=0.9, linestyle=dashes)
        ax.set(xlabel="predicted probability of a smaller value", ylabel="test rows", xlim=(0, 1))
        return save()


def uncertainty(u: Uncertainty, kind: str) -> str:
    """Predicted variance of each group of rows, split in two, beside the squared error that was seen."""
    with axes("uncertainty") as (ax, save):
        groups = range(1, len(u.rows) + 1)
        seen, measure = ("Brier score", "Brier score") if kind == "category" else ("squared error", "variance")
        ax.bar(groups, u.aleatoric, 0.75, color=FIRST, alpha=0.75, label="aleatoric: noise in the data")
        more = "epistemic: more data would help"
        ax.bar(groups, u.epistemic, 0.75, bottom=u.aleatoric, color=SECOND, alpha=0.85, label=more)
        ax.plot(groups, u.observed, "D", color=INK, markersize=4.5, label=f"{seen} seen", clip_on=False, zorder=3)
        ax.set_xlabel("test rows, from the surest to the least sure", labelpad=10)
        ax.set_ylabel(measure)
        ax.set_xticks([])
        ax.set_ylim(bottom=0)
        ax.figure.legend(loc="outside upper left", ncols=1)
        return save()


# -- parts ----------------------------------------------------------------------------------------------------------


def _diagonal(ax: Axes, low: float, high: float) -> None:
    ax.plot([low, high], [low, high], color=MUTED, linewidth=1, linestyle=(0, (4, 3)))


def _percent_axes(ax: Axes) -> None:
    from matplotlib.ticker import PercentFormatter

    ax.xaxis.set_major_formatter(PercentFormatter(1.0, 0, " %"))
    ax.yaxis.set_major_formatter(PercentFormatter(1.0, 0, " %"))


def _bars(measures: Sequence[Measure]) -> list[list[float]]:
    """Lengths of error bars below and above; none where a measure has no interval."""
    low = [m.value - (m.value if m.low is None else m.low) for m in measures]
    high = [(m.value if m.high is None else m.high) - m.value for m in measures]
    return [[max(v, 0.0) for v in low], [max(v, 0.0) for v in high]]


def _short(name: str) -> str:
    return name if len(name) <= 32 else name[:31] + "…"
