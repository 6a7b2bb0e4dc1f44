"""Axes whose pictures are SVG text: their colours are variables of the page around them, or carried along in a file.

Values draw themselves through `axes`, and give the text; `file_of` makes a file of it that stands alone.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# matplotlib must be given colours; each of these is replaced by a variable of the page's style sheet
INK, MUTED, GRID, FIRST, SECOND, PAPER = "#010203", "#010204", "#010205", "#010206", "#010207", "#010208"
VARIABLES = {INK: "--ink", MUTED: "--muted", GRID: "--rule", FIRST: "--first", SECOND: "--second", PAPER: "--paper"}
STYLE: Any = {
    "svg.fonttype": "none", "text.parse_math": False, "axes.unicode_minus": True,
    "font.family": "sans-serif", "font.sans-serif": ["DejaVu Sans"],
    "font.size": 10, "axes.labelsize": 10, "legend.fontsize": 9, "xtick.labelsize": 9, "ytick.labelsize": 9,
    "text.color": INK, "axes.labelcolor": INK, "xtick.labelcolor": INK, "ytick.labelcolor": INK,
    "axes.edgecolor": MUTED, "xtick.color": MUTED, "ytick.color": MUTED, "axes.linewidth": 0.8,
    "axes.grid": True, "grid.color": GRID, "grid.linewidth": 0.7, "axes.axisbelow": True,
    "axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False,
    "axes.facecolor": "none", "figure.facecolor": "none",
}  # fmt: skip


@contextmanager
def axes(name: str, height: float = 4.0, width: float = 4.8) -> Generator[tuple[Axes, Callable[[], str]]]:
    """Axes of the size of a phone, and what turns them into SVG. No pyplot: its figures are global."""
    with panels(name, 1, height, width) as ((ax,), save):
        yield ax, save


@contextmanager
def panels(
    name: str, columns: int, height: float = 3.6, width: float = 7.6
) -> Generator[tuple[list[Axes], Callable[[], str]]]:
    """The same with several axes side by side."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    # a name in letters that the font lacks is laid out by guess; browsers have the letters
    with mpl.rc_context({**STYLE, "svg.hashsalt": name}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure = Figure(figsize=(width, height), layout="constrained")

        def save() -> str:
            buffer = io.StringIO()
            silent = dict.fromkeys(("Creator", "Date", "Format", "Type"))
            figure.savefig(buffer, format="svg", transparent=True, metadata=silent)
            return _inline(buffer.getvalue(), name)

        yield [figure.add_subplot(1, columns, k + 1) for k in range(columns)], save


def _inline(svg: str, name: str) -> str:
    """From an SVG file to an element of a page: no prolog, no size of its own, identifiers that other pictures lack."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r' (width|height)="[\d.]+pt"| xmlns(:xlink)?="[^"]*"| version="[\d.]+"', "", svg, count=5)
    svg = re.sub(r"\s*<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = svg.replace("url(#", f"url(#{name}-").replace('xlink:href="#', f'href="#{name}-')
    svg = re.sub(r"#01020[3-8]", lambda m: f"var({VARIABLES[m[0]]})", svg)
    svg = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font-size: \1", svg)
    return re.sub(r"font-family: [^;\"]*;?", "", svg).strip()


ALONE = """<style>
svg{--ink:#1d2125;--muted:#68707a;--rule:#e2dfd8;--first:#1f6098;--second:#c4570a;--paper:#fbfaf7;
font-family:system-ui,-apple-system,"Segoe UI","DejaVu Sans",sans-serif;background:var(--paper)}
@media (prefers-color-scheme:dark){svg{--ink:#e7e5df;--muted:#9aa2ab;--rule:#32383e;--first:#7db8ec;--second:#f2a25c;
--paper:#15181b}}</style>"""


def file_of(svg: str) -> str:
    """The picture as a file of its own: with a name space, a size, and colours for light and dark.

    >>> file_of('<svg viewBox="0 0 4 2"><g/></svg>').splitlines()[0]
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 4 2"><style>'
    """
    end = svg.index(">") + 1
    head = svg[:end]
    if "xmlns=" not in head:
        head = head.replace("<svg", '<svg xmlns="http://www.w3.org/2000/svg"', 1)
    return f"{head}{ALONE}{svg[end:]}\n"
