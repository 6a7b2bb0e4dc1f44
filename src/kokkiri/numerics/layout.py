"""Where the boxes of a directed graph stand: in layers, near their neighbours, without touching one another.

Boxes stand in layers by their longest path from the sources, are ordered within a layer by the barycentres of their
neighbours (Sugiyama, Tagawa & Toda 1981, "Methods for visual understanding of hierarchical system structures"), and are
then placed as near to their neighbours as the boxes' widths allow. All lengths are in pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

GAP_X, GAP_Y = 22, 38
BEND = 4.0  # long edges run straight, and boxes make room for them


class Placed(NamedTuple):
    """Centres of the boxes, the points that each edge goes through from box to box, and the size of the picture."""

    centres: list[tuple[float, float]]
    chains: list[list[tuple[float, float]]]
    size: tuple[float, float]


def layers(boxes: int, edges: Sequence[tuple[int, int]]) -> list[int]:
    """The layer of each box: the length of its longest path from a source; sources stand right above their first use.

    >>> layers(4, [(0, 2), (2, 3), (1, 3)])
    [0, 1, 1, 2]
    """
    after: list[list[int]] = [[] for _ in range(boxes)]
    waits = [0] * boxes
    for a, b in edges:
        after[a].append(b)
        waits[b] += 1
    layer = [0] * boxes
    ready = [i for i, n in enumerate(waits) if n == 0]
    sources = list(ready)
    while ready:
        i = ready.pop()
        for j in after[i]:
            layer[j] = max(layer[j], layer[i] + 1)
            waits[j] -= 1
            if waits[j] == 0:
                ready.append(j)
    for i in sources:
        layer[i] = min((layer[j] for j in after[i]), default=1) - 1
    return layer


def place(
    sizes: Sequence[tuple[float, float]],
    edges: Sequence[tuple[int, int]],
    weights: Sequence[float] | None = None,
    *,
    upright: bool = False,
) -> Placed:
    """A place for each box of these sizes (width, height); edges (from, to) lead downwards.

    weights: how strongly each box pulls to the middle of its neighbours; those of little weight make room. upright:
    long edges pass the rows between at right angles, so that they do not lean into boxes that are high.

    >>> place([(40.0, 20.0), (40.0, 20.0)], [(0, 1)]).centres
    [(42.0, 29.0), (42.0, 87.0)]
    """
    layer, all_sizes = layers(len(sizes), edges), list(sizes)
    rows: list[list[int]] = [[] for _ in range(max(layer) + 1)]
    for i, k in enumerate(layer):
        rows[k].append(i)
    chains: list[list[int]] = []  # an edge over several layers bends at a point in each, which is placed like a box
    for a, b in edges:
        bends = list(range(len(all_sizes), len(all_sizes) + layer[b] - layer[a] - 1))
        for k, i in enumerate(bends, layer[a] + 1):
            all_sizes.append((2.0, 0.0))
            rows[k].append(i)
        chains.append([a, *bends, b])
    near: tuple[list[list[int]], list[list[int]]] = ([[] for _ in all_sizes], [[] for _ in all_sizes])  # above, below
    for chain in chains:
        for a, b in pairwise(chain):
            near[1][a].append(b)
            near[0][b].append(a)
    x = [0.0] * len(all_sizes)
    weight = [1.0] * len(sizes) if weights is None else list(weights)
    weight += [BEND] * (len(all_sizes) - len(weight))
    for row in rows:
        _spread(row, {i: float(k) for k, i in enumerate(row)}, all_sizes, weight, x)
    for sweep in range(24):
        side = sweep % 2
        for row in rows if side == 0 else reversed(rows):
            if sweep < 10:  # first the order, from one side; then the places, from both
                wish = {i: _barycentre(near[side][i] or near[1 - side][i] or [i], weight, x) for i in row}
                row.sort(key=lambda i, wish=wish: wish[i])
            else:
                wish = {i: _barycentre([*near[0][i], *near[1][i]] or [i], weight, x) for i in row}
            _spread(row, wish, all_sizes, weight, x)
    left = min(x[i] - all_sizes[i][0] / 2 for i in range(len(all_sizes))) - GAP_X
    heights = [max(all_sizes[i][1] for i in row) for row in rows]
    tops = [GAP_Y / 2 + sum(heights[:k]) + k * GAP_Y for k in range(len(rows))]
    y = {i: tops[k] + heights[k] / 2 for k, row in enumerate(rows) for i in row}
    width = max(x[i] + all_sizes[i][0] / 2 for i in range(len(all_sizes))) - left + GAP_X
    centres = [(x[i] - left, y[i]) for i in range(len(sizes))]
    row_of = {i: k for k, row in enumerate(rows) for i in row}
    sides = lambda i: (0.0, heights[row_of[i]]) if upright else (heights[row_of[i]] / 2,)
    through = lambda i: [(x[i] - left, tops[row_of[i]] + side) for side in sides(i)]
    points = [[centres[a], *(p for i in bends for p in through(i)), centres[b]] for a, *bends, b in chains]
    return Placed(centres, points, (width, tops[-1] + heights[-1] + GAP_Y / 2))


def curve(chain: Sequence[tuple[float, float]], above: float, below: float) -> str:
    """The path of an edge as SVG: from the lower side of a box to the upper side of another, of these heights.

    >>> curve([(0, 10), (0, 60)], 20, 20)
    'M0.0 20.0C0.0 35.0 0.0 35.0 0.0 50.0'
    """
    points = list(chain)
    points[0] = (points[0][0], points[0][1] + above / 2)
    points[-1] = (points[-1][0], points[-1][1] - below / 2)
    path = f"M{points[0][0]:.1f} {points[0][1]:.1f}"
    for (x0, y0), (x1, y1) in pairwise(points):
        middle = (y0 + y1) / 2
        path += f"C{x0:.1f} {middle:.1f} {x1:.1f} {middle:.1f} {x1:.1f} {y1:.1f}"
    return path


def _spread(
    row: list[int], wish: Mapping[int, float], sizes: list[tuple[float, float]], weight: list[float], x: list[float]
) -> None:
    """Places in this order, apart, that minimise Σ w_i (x_i - wish_i)²: neighbours that collide are pooled."""
    offsets, total = [], 0.0
    for k, i in enumerate(row):
        total += (sizes[row[k - 1]][0] + sizes[i][0]) / 2 + GAP_X if k else 0.0
        offsets.append(total)
    pools: list[tuple[float, float, int]] = []  # place, weight, how many
    for i, offset in zip(row, offsets, strict=True):
        pools.append((wish[i] - offset, weight[i], 1))
        while len(pools) > 1 and pools[-2][0] > pools[-1][0]:
            (a, v, m), (b, w, n) = pools[-2:]
            pools[-2:] = [((a * v + b * w) / (v + w), v + w, m + n)]
    places = (place for place, _, n in pools for _ in range(n))
    for i, offset, at in zip(row, offsets, places, strict=True):
        x[i] = at + offset


def _barycentre(neighbours: list[int], weight: list[float], x: list[float]) -> float:
    return sum(weight[j] * x[j] for j in neighbours) / sum(weight[j] for j in neighbours)
