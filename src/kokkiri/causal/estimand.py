"""What an effect is computed from: a formula of observed probabilities, how it was derived, and that it is right."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from kokkiri.causal.expression import Expression, probability
from kokkiri.causal.formulas import latex, unicode
from kokkiri.causal.graph import Graph
from kokkiri.causal.identification import Step
from kokkiri.causal.instruments import Instruments
from kokkiri.causal.tables import evaluate
from kokkiri.causal.verify import Check

WIDTH = 80
KINDS = {
    "no effect": "no directed path leads from the treatment to the outcome",
    "back-door": "adjustment",
    "front-door": "the front-door formula",
    "general": "the general algorithm",
    "instrument": "an instrument, for linear models only",
}


@dataclass(frozen=True)
class Estimand:
    """P(outcome | do(treatment), given) as a formula of what is observed.

    `kind` is one of KINDS. `adjustment` are the variables of a back-door formula, `mediators` those of a front-door
    formula, `instruments` those of a linear model. `note` says what else is worth knowing.
    """

    graph: Graph
    treatment: tuple[str, ...]
    outcome: tuple[str, ...]
    given: tuple[str, ...]
    kind: str
    expression: Expression
    steps: tuple[Step, ...]
    check: Check
    adjustment: tuple[str, ...] = ()
    mediators: tuple[str, ...] = ()
    instruments: Instruments | None = None
    note: str = ""

    @property
    def free(self) -> tuple[str, ...]:
        """Variables of the formula on whose values the effect does not depend: any will do."""
        asked = {*self.treatment, *self.outcome, *self.given}
        return tuple(name for name in self.graph.nodes if name in self.expression.free and name not in asked)

    @property
    def query(self) -> str:
        """What was asked: P(outcome | do(treatment), given), or its slope in a linear model."""
        if self.kind == "instrument":
            x, y = ", ".join(self.treatment), ", ".join(self.outcome)
            return f"d E({y} | do({x})) / d {x}" if len(self.treatment) == 1 else f"slopes of E({y} | do({x}))"
        return unicode(probability(self.outcome, self.given, self.treatment), self.graph.order)

    @property
    def formula(self) -> str:
        """The formula in Unicode, on one line."""
        return unicode(self.expression, self.graph.order)

    @property
    def latex(self) -> str:
        """The formula in LaTeX."""
        return latex(self.expression, self.graph.order)

    @property
    def derivation(self) -> str:
        """Why the formula is the effect: equations, and under each the reason."""
        lines = []
        for i, step in enumerate(self.steps, start=1):
            left, right = (unicode(e, self.graph.order) for e in (step.left, step.right))
            lines += wrapped(f"{left} = {right}", f"{i:2}. ", "      ")
            lines += wrapped(step.reason, "    ", "    ")
        return "\n".join(lines)

    def evaluate(self, joint: Tensor, names: Sequence[str]) -> Tensor:
        """The effect for joint probabilities (*batch, c₁, …, c_k) of variables of these names.

        The result has the axes of the joint, of size one where the effect does not depend on a variable: along the
        outcome it adds up to one. What does not matter (`free`) is averaged over.
        """
        value = evaluate(self.expression, joint, names)
        if not self.free:
            return value
        weights = evaluate(probability(self.free), joint, names)
        return (value * weights).sum([list(names).index(name) - len(names) for name in self.free], keepdim=True)

    def picture(self) -> str:
        """The graph as SVG text, with treatment, outcome and what is adjusted for in colour."""
        used = (*self.adjustment, *self.mediators, *(self.instruments.variables if self.instruments else ()))
        return self.graph.picture(self.treatment, self.outcome, used)

    def __str__(self) -> str:
        lines = wrapped(f"{self.query} = {self.formula}", "", "    ")
        by = KINDS[self.kind]
        by += f" for {', '.join(self.adjustment)}" if self.adjustment else ""
        by += f" through {', '.join(self.mediators)}" if self.mediators else ""
        by += f": {self.instruments}" if self.instruments else ""
        rows = [("by", by), ("note", self.note), ("any value", ", ".join(self.free)), ("checked", str(self.check))]
        for name, text in rows:
            lines += wrapped(text, f"  {name:<10}", " " * 12) if text else []
        return "\n".join([*lines, "", self.derivation] if self.steps else lines)

    def __repr__(self) -> str:
        return f"Estimand({self.query} = {self.formula})"


def wrapped(text: str, first: str, rest: str) -> list[str]:
    """Lines of at most 80 columns, broken between terms and not within them where that can be helped.

    >>> print(*wrapped("Σ_m P(m | x) Σ_x′ " + "P(y | x′, m) " * 6, "1. ", "   "), sep="|")
    1. Σ_m P(m | x) Σ_x′ P(y | x′, m) P(y | x′, m) P(y | x′, m) P(y | x′, m)|   P(y | x′, m) P(y | x′, m)
    """
    depth, glued = 0, []
    for sign in text:
        depth += (sign in "({") - (sign in ")}")
        glued.append("\0" if sign == " " and depth > 0 else sign)
    whole = re.sub(r"(Σ_[^ ]+) ", "\\1\0", "".join(glued))  # the sign of a sum goes with what it sums
    fits = all(len(word) <= WIDTH - len(rest) for word in whole.split(" "))
    lines = textwrap.wrap(
        whole if fits else text, WIDTH, initial_indent=first, subsequent_indent=rest, break_long_words=False,
        break_on_hyphens=False,
    )  # fmt: skip
    return [line.replace("\0", " ") for line in lines]
