"""A Bayesian network as a picture: a box for each variable with its marginals as bars, arrows from parents to children.

What is known is drawn in a second colour; a thin line across each bar stands where it was before the evidence.
"""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from kokkiri.errors import Unsupported
from kokkiri.exact.networks.evidence import Rows
from kokkiri.numerics.layout import curve, place
from kokkiri.phrases import percent

if TYPE_CHECKING:
    from kokkiri.exact.networks.beliefs import Beliefs

LETTER, CAPITAL, SMALL = 7.6, 7.8, 6.2  # pixels of a letter of a name, and of a state
HEAD, LINE, PAD = 22, 17, 9  # heights of a name and of a state, and the room around them
BAR, NUMBER = 56, 52  # widths of a bar that is full, and of the percentage beside it
STATES = 8  # so many are drawn, the most probable ones
TEXT = 18  # letters of a name that are drawn

STYLE = """
.kk-bn text{fill:var(--ink);font:12px system-ui,-apple-system,"Segoe UI","DejaVu Sans",sans-serif}
.kk-bn .name{font-weight:600;text-anchor:middle}.kk-bn .state,.kk-bn .value{font-size:11px;fill:var(--muted)}
.kk-bn .value{text-anchor:end}.kk-bn .box{fill:var(--paper);stroke:var(--muted);stroke-width:1}
.kk-bn .known .box{stroke:var(--second);stroke-width:1.6}.kk-bn .room{fill:var(--rule)}
.kk-bn .bar{fill:var(--first)}.kk-bn .known .bar{fill:var(--second)}
.kk-bn .before{stroke:var(--ink);stroke-width:1.2}
.kk-bn .arrow{fill:none;stroke:var(--muted);stroke-width:1.2}.kk-bn marker path{fill:var(--muted)}
"""


SVG = """<svg class="kk-bn" viewBox="0 0 {w} {h}" width="{w}" height="{h}" role="img" aria-label="{label}">
<style>{style}</style><defs><marker id="kk-bn-arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7"
 markerHeight="7" orient="auto"><path d="M0 0L8 4L0 8z"/></marker></defs>"""


def draw(beliefs: Beliefs) -> str:
    """The graph with beliefs before and after the evidence, as the text of an SVG (`drawing.file_of` makes a file).

    >>> from kokkiri.exact.networks.bif import read_network
    >>> svg = read_network("asia").given(smoke="yes").picture()
    >>> svg.count('class="box"'), svg.count('class="arrow"'), "100.0 %" in svg
    (8, 8, True)
    """
    network = beliefs.network
    what = network.structure
    if isinstance(beliefs.evidence, Rows):
        raise Unsupported(
            "rows of evidence are no picture", needs="one case", found=f"{len(beliefs.evidence.codes):,} rows",
            fix="network.given(one row).picture()",
        )  # fmt: skip
    after = (beliefs if all(name in beliefs.marginals for name in what.names) else beliefs.about()).marginals
    told = bool(beliefs.evidence or beliefs.soft)
    before = network.prior.marginals if told else {}
    sizes = [_size(v.name, v.states) for v in what.variables]
    numbered = [(what.index[a], what.index[b]) for a, b in what.arrows]
    centres, chains, (width, height) = place(sizes, numbered, upright=True)
    label = escape(f"{network.name} given {beliefs.known}" if told else network.name, quote=True)
    parts = [
        SVG.format(w=f"{width:.0f}", h=f"{height:.0f}", label=label, style=STYLE),
    ]
    for (a, b), chain in zip(what.arrows, chains, strict=True):
        path = curve(chain, sizes[what.index[a]][1], sizes[what.index[b]][1])
        parts.append(f'<path class="arrow" d="{path}" marker-end="url(#kk-bn-arrow)"/>')
    for i, v in enumerate(what.variables):
        (x, y), (w, h) = centres[i], sizes[i]
        left, top = x - w / 2, y - h / 2
        parts += [
            f'<g class="{"known" if i in beliefs.evidence else "free"}">',
            f'<rect class="box" x="{left:.1f}" y="{top:.1f}" width="{w:.1f}" height="{h:.1f}" rx="5"/>',
            f'<text class="name" x="{x:.1f}" y="{top + 16:.1f}">{escape(_cut(v.name))}</text>',
        ]
        p = after[v.name].tolist()
        shown = sorted(sorted(range(len(p)), key=lambda k, p=p: -p[k])[:STATES])
        prior = before[v.name].tolist() if told and i not in beliefs.evidence else None
        for row, k in enumerate(shown):
            line = top + HEAD + LINE * row
            start = left + w - PAD - NUMBER - BAR
            parts += [
                f'<text class="state" x="{left + PAD:.1f}" y="{line + 12:.1f}">{escape(_cut(v.states[k]))}</text>',
                f'<rect class="room" x="{start:.1f}" y="{line + 3:.1f}" width="{BAR}" height="10" rx="1"/>',
                f'<rect class="bar" x="{start:.1f}" y="{line + 3:.1f}" width="{BAR * p[k]:.2f}" height="10" rx="1"/>',
                f'<text class="value" x="{left + w - PAD:.1f}" y="{line + 12:.1f}">{escape(_percent(p[k]))}</text>',
            ]
            if prior is not None:
                at = start + BAR * prior[k]
                parts.append(f'<path class="before" d="M{at:.2f} {line + 1:.1f}V{line + 15:.1f}"/>')
        parts.append("</g>")
    return "\n".join([*parts, "</svg>"])


def _size(name: str, states: tuple[str, ...]) -> tuple[float, float]:
    wide = lambda text: sum(CAPITAL if letter.isupper() else SMALL for letter in _cut(text))
    widest = max(map(wide, states)) + 6 + BAR + NUMBER
    return max(len(_cut(name)) * LETTER, widest) + 2 * PAD, HEAD + LINE * min(len(states), STATES) + PAD / 2


def _percent(p: float) -> str:
    """What is not certain does not look so."""
    return "< 0.1 %" if 0 < p < 0.0005 else "> 99.9 %" if 0.9995 <= p < 1 else percent(p)


def _cut(name: str) -> str:
    return name if len(name) <= TEXT else name[: TEXT - 1] + "…"
