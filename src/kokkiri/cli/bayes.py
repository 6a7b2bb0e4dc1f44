"""kokkiri bayes: Bayes' rule for discrete hypotheses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from tyro.conf import UseAppendAction, arg

from kokkiri.cli.values import numbers_by_name, picture_at, say, warnings_as_notes, write_picture
from kokkiri.errors import UsageError


@dataclass(frozen=True)
class Bayes:
    """Bayes' rule: how probable each hypothesis is after what was observed.

    Prior, likelihood, evidence and posterior in one table; several observations are taken in turn, each posterior the
    prior of the next. Probabilities are numbers, fractions or percentages: 0.25, 1/4, 25%.
    """

    prior: Annotated[str, arg(metavar="NAME=P,NAME=P")]
    """How probable each hypothesis is beforehand; they add up to 1."""
    likelihood: Annotated[tuple[tuple[str, ...], ...], UseAppendAction, arg(metavar="NAME=P,NAME=P")] = ()
    """How probable what was observed is under each hypothesis; once for each observation."""
    out: Annotated[str | None, arg(metavar="FILE.svg")] = None
    """Where to draw it."""
    debug: bool = False
    """Show the whole traceback of an error."""

    def run(self) -> int:
        """Gives the exit code."""
        from kokkiri.exact import Hypotheses

        path = picture_at(self.out)
        observed = [numbers_by_name("--likelihood", text) for texts in self.likelihood for text in texts]
        if not observed:
            raise UsageError(
                "nothing was observed", needs="how probable it was under each hypothesis", found="no --likelihood",
                fix="--likelihood ill=0.99,well=0.01",
            )  # fmt: skip
        with warnings_as_notes():
            rule = Hypotheses(numbers_by_name("--prior", self.prior)).update(*observed)
            say([str(rule)])
            if path is not None:
                write_picture(path, rule.picture())
        return 0
