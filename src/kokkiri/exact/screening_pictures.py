"""Precision against prevalence and against the false-positive rate."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from kokkiri.drawing import FIRST, INK, MUTED, SECOND, panels
from kokkiri.errors import Unsupported
from kokkiri.exact.screening import Screening, posterior

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from kokkiri.exact.screening_counts import ScreeningCounts

POINTS, DRAWS = 121, 2000


def screening_picture(test: Screening, counted: ScreeningCounts | None = None) -> str:
    """Left: how often a positive result is right, by how many are ill; right: by how often the well test positive.

    The dot is the test at hand. The thin line on the left has ten times the false-positive rate, that on the right a
    tenth of the prevalence. Bands: posterior intervals, where the rates were counted.
    """
    if test.prevalence.ndim:
        raise Unsupported(
            "many tests are not one picture", needs="a screening of numbers",
            found=f"tensors {tuple(test.prevalence.shape)}", fix="draw one of them",
        )  # fmt: skip
    p, s, f = (float(v) for v in (test.prevalence, test.sensitivity, test.false_positive))
    with panels("screening", 2) as ((left, right), save):
        low = min(1e-3, p / 10)
        x = torch.logspace(torch.log10(torch.tensor(low)).item(), 0, POINTS, dtype=torch.float64)[:-1]
        far = min(10 * f, 1.0) or 0.01
        left.plot(x, _curve(x, s, far), color=SECOND, linewidth=1.2, label=f"false positives {100 * far:.3g} %")
        left.plot(x, _curve(x, s, f), color=FIRST, linewidth=2, label=f"false positives {100 * f:.3g} %")
        if counted is not None:
            _band(left, x, counted, by="prevalence")
        _finish(left, "prevalence", p, float(test.precision), low, down=-12)
        low = min(1e-3, f / 10) if f else 1e-3
        x = torch.logspace(torch.log10(torch.tensor(low)).item(), 0, POINTS, dtype=torch.float64)
        right.plot(x, _curve(p / 10, s, x), color=SECOND, linewidth=1.2, label=f"prevalence {10 * p:.3g} %")
        right.plot(x, _curve(p, s, x), color=FIRST, linewidth=2, label=f"prevalence {100 * p:.3g} %")
        if counted is not None:
            _band(right, x, counted, by="alarms")
        _finish(right, "false-positive rate", f, float(test.precision), low, down=4)
        left.set_ylabel("precision: P(ill | positive)")
        return save()


def _curve(prevalence: Tensor | float, s: Tensor | float, f: Tensor | float) -> Tensor:
    return posterior(*(torch.as_tensor(v, dtype=torch.float64) for v in (prevalence, s, f)))


def _band(ax: Axes, x: Tensor, counted: ScreeningCounts, by: str) -> None:
    some = counted.draws
    p, s, f = (t[:DRAWS, None] for t in (some.prevalence, some.sensitivity, some.false_positive))
    lines = _curve(x, s, f) if by == "prevalence" else _curve(p, s, x)
    tail = (1 - counted.level) / 2
    low, high = lines.quantile(torch.tensor([tail, 1 - tail], dtype=torch.float64), dim=0)
    ax.fill_between(x, low, high, color=FIRST, alpha=0.2, linewidth=0)


def _finish(ax: Axes, what: str, x: float, y: float, low: float, down: float) -> None:
    from matplotlib.ticker import FuncFormatter, PercentFormatter

    if not math.isnan(y):  # it is where there never is a positive result
        ax.plot([max(x, low)], [y], "o", color=INK, markersize=6, zorder=4, clip_on=False)
        ax.annotate(
            f"{100 * y:.3g} %", (max(x, low), y), xytext=(8, down), textcoords="offset points", color=INK, fontsize=9
        )
    ax.set_xscale("log")
    ax.set(xlim=(low, 1), ylim=(0, 1.03), xlabel=what)
    ax.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{100 * v:g} %"))
    ax.yaxis.set_major_formatter(PercentFormatter(1.0, 0, " %"))
    ax.grid(which="minor", visible=False)
    ax.axhline(0.5, color=MUTED, linewidth=0.8, linestyle=(0, (4, 3)))
    ax.legend(loc="best")
