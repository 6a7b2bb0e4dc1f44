"""Pictures of the checks: propensities of both arms, the love plot, replicates of refuters, bounds by hidden bias."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from kokkiri.drawing import FIRST, GRID, INK, MUTED, SECOND, axes

if TYPE_CHECKING:
    from kokkiri.causal.balance import Balance
    from kokkiri.causal.overlap import Overlap
    from kokkiri.causal.refutation import Refutation
    from kokkiri.causal.sensitivity import Sensitivity

NAME = 24  # letters of a covariate's name
WIDTH = 5.2


def overlap(of: Overlap) -> str:
    """How probable the compared level was, for rows that had it upwards and for the others downwards."""
    from kokkiri.causal.overlap import THIN

    with axes("overlap", height=3.2, width=WIDTH) as (ax, save):
        counts = [np.asarray(a.counts, dtype=float) for a in (of.level, of.versus)]
        width = 1 / len(counts[0])
        centres = (np.arange(len(counts[0])) + 0.5) * width
        for c, colour, arm, side in zip(counts, (FIRST, SECOND), (of.level, of.versus), (1, -1), strict=True):
            ax.bar(centres, side * c, 0.92 * width, color=colour, alpha=0.85, linewidth=0, label=f"had {arm.name}")
        ax.axhline(0, color=INK, linewidth=0.8)
        for edge in (THIN, 1 - THIN):
            ax.axvline(edge, color=MUTED, linewidth=0.9, linestyle="--")
        ax.set_xlim(0, 1)
        ax.yaxis.set_major_formatter(lambda v, _: f"{abs(v):,.0f}")
        ax.set_xlabel(f"probability of {of.level.name}, given the covariates")
        ax.set_ylabel("rows")
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, 1.17), ncols=2)
        return save()


def balance(of: Balance) -> str:
    """The love plot."""
    from kokkiri.causal.balance import LIMIT, SHOWN

    order = of.order[:SHOWN][::-1]
    with axes("balance", height=1.3 + 0.25 * max(len(order), 4), width=WIDTH) as (ax, save):
        y = np.arange(len(order))
        before, after, chance = (v[order].numpy() for v in (of.before, of.after, 1.959964 * of.chance))
        ax.hlines(y, before, after, color=GRID, linewidth=1.6)
        ax.hlines(y, after - chance, after + chance, color=FIRST, linewidth=1.0, alpha=0.6)
        ax.scatter(before, y, s=26, facecolors="none", edgecolors=SECOND, linewidths=1.4, label="before", zorder=3)
        ax.scatter(after, y, s=28, color=FIRST, label="after weighting", zorder=3)
        ax.axvline(0, color=INK, linewidth=0.8)
        for edge in (-LIMIT, LIMIT):
            ax.axvline(edge, color=MUTED, linewidth=0.9, linestyle="--")
        ax.set_yticks(y, [_cut(of.names[i]) for i in order])
        ax.set_ylim(-0.6, len(order) - 0.4)
        ax.grid(visible=False, axis="y")
        ax.set_xlabel("difference of means, in standard deviations")
        ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
        return save()


def refutation(of: Refutation) -> str:
    """A line for each refuter: what is expected, with its spread, and the replicates."""
    lines = of.lines[::-1]
    with axes("refutation", height=1.1 + 0.62 * max(len(lines), 2), width=WIDTH) as (ax, save):
        for k, line in enumerate(lines):
            draws = np.sort(line.draws.numpy())
            finite = draws[np.isfinite(draws)]
            shift = 0.22 * np.sin(np.arange(len(finite)) * 2.399963)  # the golden angle: no two neighbours overlap
            colour = SECOND if line.convicted else FIRST
            ax.scatter(finite, k + 0.7 * shift, s=7, color=colour, alpha=0.55, linewidths=0, zorder=2)
            reach = 1.959964 * line.spread if line.refuter != "cause" else 0.5 * of.sd
            ax.hlines(k - 0.3, line.expected - reach, line.expected + reach, color=INK, linewidth=1.4, zorder=3)
            ax.vlines(line.expected, k - 0.38, k + 0.3, color=INK, linewidth=1.4, zorder=3)
        names = [line.name + (" convicts" if line.convicted else "") for line in lines]
        ax.set_yticks(range(len(lines)), names)
        ax.set_ylim(-0.6, len(lines) - 0.5)
        ax.axvline(0, color=MUTED, linewidth=0.9, linestyle=":")
        ax.grid(visible=False, axis="y")
        ax.locator_params(axis="x", nbins=6)
        ax.set_xlabel("effect found in each replicate")
        return save()


def sensitivity(of: Sensitivity) -> str:
    """The effect's bounds as a hidden cause may shift the odds of treatment more and more."""
    bounds = of.bounds
    assert bounds is not None
    with axes("sensitivity", height=3.2, width=WIDTH) as (ax, save):
        x = bounds.factors.numpy()
        far = _far(of)
        near = x <= far
        least, greatest, low, high = (v.numpy()[near] for v in (bounds.least, bounds.greatest, bounds.low, bounds.high))
        x = x[near]
        ax.fill_between(x, low, high, color=FIRST, alpha=0.14, linewidth=0, label="with 95 % of the posterior")
        ax.fill_between(x, least, greatest, color=FIRST, alpha=0.34, linewidth=0, label="bounds of the effect")
        ax.axhline(0, color=INK, linewidth=0.9, linestyle=":")
        ax.plot([1.0], [least[0]], "o", color=FIRST, markersize=5)
        ax.set_xscale("log")
        ticks = [v for v in (1, 1.2, 1.5, 2, 3, 4, 5, 7, 10) if v <= far * 1.001]
        ax.set_xticks(ticks, [f"{v:g}" for v in ticks])
        ax.set_xticks([], minor=True)
        ax.set_xlim(1.0, far)
        ax.set_xlabel("Λ: factor on the odds of treatment")
        ax.set_ylabel("effect")
        ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
        return save()


def _far(of: Sensitivity) -> float:
    """As far as the bounds are of interest: somewhat beyond where the interval holds zero."""
    at = next((m for m in of.measures if m.kind == "marginal"), None)
    if at is None or not np.isfinite(at.at):
        return 10.0
    return float(min(10.0, max(2.0, 1.4 * at.at)))


def _cut(name: str) -> str:
    """Long names lose their middle: what tells them apart is often at the end."""
    return name if len(name) <= NAME else f"{name[: NAME // 2]}…{name[-(NAME // 2 - 1) :]}"
