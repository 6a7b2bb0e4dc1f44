"""A causal graph as SVG: causes to the left of effects, hidden causes as dashed curves.

Colours are variables of the page around (`kokkiri.drawing`): the treatment has the first, the outcome the second, what
is adjusted for is filled, latent nodes have a dashed outline.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from html import escape
from itertools import pairwise

from kokkiri.causal.graph import Graph, Names
from kokkiri.numerics.layout import place

LETTER, HEIGHT, PAD, GAP = 7.4, 30.0, 12.0, 34.0  # pixels at 13 px type
STYLE = {
    "treatment": 'fill="var(--first)" fill-opacity=".14" stroke="var(--first)" stroke-width="1.8"',
    "outcome": 'fill="var(--second)" fill-opacity=".14" stroke="var(--second)" stroke-width="1.8"',
    "adjusted": 'fill="var(--muted)" fill-opacity=".3" stroke="var(--ink)" stroke-width="1.2"',
    "latent": 'fill="none" stroke="var(--muted)" stroke-dasharray="4 3"',
    "": 'fill="var(--paper)" stroke="var(--muted)"',
}
Point = tuple[float, float]


def picture(graph: Graph, treatment: Names = (), outcome: Names = (), adjusted: Names = ()) -> str:
    """SVG text of the graph.

    >>> svg = picture(Graph(("dose", "outcome"), (("dose", "outcome"),), (("dose", "outcome"),)), "dose", "outcome")
    >>> svg.startswith("<svg viewBox"), svg.count("<path"), svg.count("<rect")
    (True, 3, 2)
    """
    roles = dict.fromkeys(graph.latent, "latent")
    for role, names in (("adjusted", adjusted), ("outcome", outcome), ("treatment", treatment)):
        roles |= dict.fromkeys(graph.names(graph.mask(names)), role)
    boxes = [(max(HEIGHT, len(name) * LETTER + 2 * PAD), HEIGHT) for name in graph.nodes]
    edges = [(graph.index[a], graph.index[b]) for a, b in graph.directed]
    # the layout goes downwards: here down is right, so that a box is as deep as its name is long
    placed = place([(h + GAP, w) for w, h in boxes], edges)
    centres = [(y, x) for x, y in placed.centres]
    key = hashlib.sha256(f"{graph}{roles}".encode()).hexdigest()[:8]
    arrow = f"arrow-{key}"
    curves = [_bend(graph.index[a], graph.index[b], centres, boxes) for a, b in graph.bidirected]
    reach = [p for curve in curves for p in _points(*curve)] + [(y, x) for chain in placed.chains for x, y in chain]
    reach += [(x + s * w / 2, y + s * h / 2) for (x, y), (w, h) in zip(centres, boxes, strict=True) for s in (-1, 1)]
    left, top = (min(p[i] for p in reach) - PAD for i in (0, 1))
    width, height = (max(p[i] for p in reach) + PAD - low for i, low in ((0, left), (1, top)))
    parts = [
        f'<svg viewBox="{left:.0f} {top:.0f} {width:.0f} {height:.0f}" style="max-width:{1.25 * width:.0f}px"',
        f'role="img" aria-label="causal graph: {escape(str(graph))}">',
        f'<defs><marker id="{arrow}" viewBox="0 0 8 8" refX="7.5" refY="4" markerWidth="7" markerHeight="7"',
        'orient="auto-start-reverse"><path d="M0 .6L8 4L0 7.4z" fill="var(--ink)"/></marker></defs>',
    ]
    ends = f'marker-end="url(#{arrow})"'
    for (a, b), chain in zip(edges, placed.chains, strict=True):
        path = _arrow([(y, x) for x, y in chain], boxes[a], boxes[b])
        parts.append(f'<path d="{path}" fill="none" stroke="var(--ink)" stroke-width="1.3" {ends}/>')
    for (a, b), (start, control, end) in zip(graph.bidirected, curves, strict=True):
        (x0, y0), (x1, y1) = (_border(p, control, boxes[graph.index[n]]) for p, n in ((start, a), (end, b)))
        path = f"M{x0:.1f} {y0:.1f}Q{control[0]:.1f} {control[1]:.1f} {x1:.1f} {y1:.1f}"
        parts.append(
            f'<path d="{path}" fill="none" stroke="var(--muted)" stroke-width="1.3" stroke-dasharray="5 4" '
            f'marker-start="url(#{arrow})" {ends}/>'
        )
    for name, (x, y), (w, h) in zip(graph.nodes, centres, boxes, strict=True):
        style = STYLE[roles.get(name, "")]
        parts.append(f'<rect x="{x - w / 2:.1f}" y="{y - h / 2:.1f}" width="{w:.1f}" height="{h:.1f}" rx="8" {style}/>')
        ink = "--muted" if roles.get(name) == "latent" else "--ink"
        parts.append(f'<text x="{x:.1f}" y="{y + 4.5:.1f}" font-size="13" text-anchor="middle" fill="var({ink})">'
                     f"{escape(name)}</text>")  # fmt: skip
    return "\n".join([*parts, "</svg>"])


def _arrow(chain: Sequence[Point], box_from: tuple[float, float], box_to: tuple[float, float]) -> str:
    """A path through points, from the border of a box to that of another."""
    points = list(chain)
    if len(points) == 2:
        (x0, y0), (x1, y1) = _border(points[0], points[1], box_from), _border(points[1], points[0], box_to)
        return f"M{x0:.1f} {y0:.1f}L{x1:.1f} {y1:.1f}"
    points[0], points[-1] = _side(points[0], points[1], box_from, 1), _side(points[-1], points[-2], box_to, -1)
    path = f"M{points[0][0]:.1f} {points[0][1]:.1f}"
    for (x0, y0), (x1, y1) in pairwise(points):
        middle = (x0 + x1) / 2
        path += f"C{middle:.1f} {y0:.1f} {middle:.1f} {y1:.1f} {x1:.1f} {y1:.1f}"
    return path


def _side(centre: Point, towards: Point, box: tuple[float, float], sign: int) -> Point:
    """A point on the right (1) or left (-1) side of a box, a little up or down to where the way goes on."""
    shift = max(-box[1] / 4, min(box[1] / 4, (towards[1] - centre[1]) / 4))
    return centre[0] + sign * (box[0] / 2 + 1.5), centre[1] + shift


def _border(centre: Point, towards: Point, box: tuple[float, float]) -> Point:
    """Where the way from a centre to a point leaves the box."""
    dx, dy = towards[0] - centre[0], towards[1] - centre[1]
    far = max(abs(dx) / (box[0] / 2 + 1.5), abs(dy) / (box[1] / 2 + 1.5), 1e-9)
    return centre[0] + dx / far, centre[1] + dy / far


def _bend(i: int, j: int, centres: Sequence[Point], boxes: Sequence[tuple[float, float]]) -> tuple[Point, Point, Point]:
    """Start, control and end of a curve beside the straight way: the flattest one that touches no other box."""
    a, b = centres[i], centres[j]
    length = math.dist(a, b) or 1.0
    middle, normal = ((a[0] + b[0]) / 2, (a[1] + b[1]) / 2), ((a[1] - b[1]) / length, (b[0] - a[0]) / length)
    others = [(c, box) for k, (c, box) in enumerate(zip(centres, boxes, strict=True)) if k not in {i, j}]

    def cost(curve: tuple[Point, Point, Point]) -> tuple[float, float]:
        on_box = lambda p: sum(abs(p[0] - c[0]) < w / 2 + 5 and abs(p[1] - c[1]) < h / 2 + 5 for c, (w, h) in others)
        crowd = sum(1 / (20 + math.dist(c, curve[1])) for c, _ in others)
        return sum(map(on_box, _points(*curve))) + math.dist(curve[1], middle) / 200 + crowd, curve[1][1]

    sizes = [side * (34 + factor * length) for factor in (0.28, 0.55, 0.9) for side in (-1, 1)]
    return min(((a, (middle[0] + s * normal[0], middle[1] + s * normal[1]), b) for s in sizes), key=cost)


def _points(start: Point, control: Point, end: Point) -> list[Point]:
    """Places along a quadratic curve."""
    at = lambda t, k: (1 - t) ** 2 * start[k] + 2 * t * (1 - t) * control[k] + t**2 * end[k]
    return [(at(t / 16, 0), at(t / 16, 1)) for t in range(17)]
