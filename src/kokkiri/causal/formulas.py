"""Formulas as text: in Unicode for the terminal, in LaTeX for papers.

A variable that a sum binds gets a prime where the same name is in use outside: Σ_x′ P(y | m, x′) P(x′).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kokkiri.causal.expression import Expression

Primes = Mapping[str, int]


def unicode(expression: Expression, order: Sequence[str] = ()) -> str:
    """The formula as one line; variables in a given order, and by name where none is given."""
    return _Writer(PLAIN, {n: i for i, n in enumerate(order)}).write(expression, dict.fromkeys(expression.free, 0))


def latex(expression: Expression, order: Sequence[str] = ()) -> str:
    """The formula in LaTeX, without the dollar signs."""
    return _Writer(LATEX, {n: i for i, n in enumerate(order)}).write(expression, dict.fromkeys(expression.free, 0))


@dataclass(frozen=True)
class Style:
    """What differs between the two. `brackets` says whether a fraction needs them beside other factors."""

    name: Callable[[str, int], str]
    summed: Callable[[Sequence[str]], str]
    divided: Callable[[str, str, bool, bool], str]
    do: Callable[[str], str]
    covariance: str
    inverse: str
    bar: str
    times: str
    brackets: bool


def _plain_sum(names: Sequence[str]) -> str:
    text = ", ".join(names)
    return f"Σ_{text} " if len(names) == 1 and re.fullmatch(r"\w+′*", text) else f"Σ_{{{text}}} "


def _plain_fraction(above: str, below: str, above_simple: bool, below_simple: bool) -> str:
    return f"{above if above_simple else f'[{above}]'} / {below if below_simple else f'[{below}]'}"


def _latex_name(name: str, primes: int) -> str:
    """One letter is a letter, a longer name is text."""
    marks = {"\\": r"\textbackslash{}", "^": r"\^{}", "~": r"\~{}"} | {c: f"\\{c}" for c in "#$%&_{}"}
    text = name if re.fullmatch(r"[A-Za-z]", name) else rf"\text{{{''.join(marks.get(c, c) for c in name)}}}"
    return text + "'" * primes


PLAIN = Style(
    name=lambda name, primes: name + "′" * primes, summed=_plain_sum, divided=_plain_fraction, do="do({})".format,
    covariance="Cov", inverse="⁻¹ ", bar=" | ", times=" ", brackets=True,
)  # fmt: skip
LATEX = Style(
    name=_latex_name, summed=lambda names: rf"\sum_{{{', '.join(names)}}} ",
    divided=lambda above, below, _, __: rf"\frac{{{above}}}{{{below}}}", do=r"\mathrm{{do}}({})".format,
    covariance=r"\mathrm{Cov}", inverse="^{-1} ", bar=r" \mid ", times=r" \, ", brackets=False,
)  # fmt: skip


@dataclass(frozen=True)
class _Writer:
    style: Style
    place: Mapping[str, int]

    def write(self, e: Expression, primes: Primes, *, alone: bool = True) -> str:
        """The text of a part; `primes` are those of the names in scope, `alone` means without neighbours."""
        from kokkiri.causal.expression import ONE, Covariances, Fraction, Probability, Sum

        style = self.style
        if isinstance(e, Probability):
            do = style.do(self._list(e.do, primes)) if e.do else ""
            behind = ", ".join(text for text in (do, self._list(e.given, primes)) if text)
            return f"P({self._list(e.of, primes)}{style.bar + behind if behind else ''})"
        if isinstance(e, Covariances):
            sides = (", ".join(style.name(n, 0) for n in names) for names in (e.rows, e.columns, e.given))
            rows, columns, given = sides
            between = "; " if len(e.rows) + len(e.columns) > 2 else ", "
            return f"{style.covariance}({rows}{between}{columns}{style.bar + given if given else ''})"
        if isinstance(e, Sum):
            inner = {**primes, **{n: primes[n] + 1 if n in primes else 0 for n in e.over}}
            text = style.summed(self._names(e.over, inner)) + self.write(e.of, inner, alone=False)
            return text if alone else f"[{text}]"
        if isinstance(e, Fraction):
            above, below = self.write(e.numerator, primes), self.write(e.denominator, primes)
            if isinstance(e.denominator, Covariances) and len(e.denominator.rows) > 1:
                return below + style.inverse + above
            simple = [isinstance(t, Probability | Covariances) or t == ONE for t in (e.numerator, e.denominator)]
            text = style.divided(above, below, *simple)
            return f"[{text}]" if style.brackets and not alone else text
        parts = sorted(e.factors, key=self._rank)
        last = len(parts) - 1  # a sum at the end needs no brackets
        texts = (self.write(f, primes, alone=i == last and isinstance(f, Sum)) for i, f in enumerate(parts))
        return style.times.join(texts) or "1"

    def _rank(self, e: Expression) -> tuple[bool, bool, list[int], str]:
        """Terms first, effects before causes, sums last."""
        from kokkiri.causal.expression import Probability, Sum

        late = sorted(-self.place.get(n, 0) for n in e.of) if isinstance(e, Probability) else []
        return isinstance(e, Sum), not isinstance(e, Probability), late, e.key

    def _names(self, names: Iterable[str], primes: Primes) -> list[str]:
        by_place = sorted(names, key=lambda n: (self.place.get(n, -1), n))
        return [self.style.name(n, primes.get(n, 0)) for n in by_place]

    def _list(self, names: Iterable[str], primes: Primes) -> str:
        return ", ".join(self._names(names, primes))
