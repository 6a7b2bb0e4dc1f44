"""What may be observed: a table of the probabilities of outcomes under each hypothesis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from kokkiri.errors import ShapeError, UsageError
from kokkiri.exact.probabilities import by_name, distribution, numbers, place_of, probability
from kokkiri.numerics import log_space
from kokkiri.phrases import count, cut
from kokkiri.phrases import probability as shown
from kokkiri.phrases import table as aligned

WIDE = 4  # so many outcomes have a column of their own


class Beliefs(Protocol):
    """Whatever gives probabilities to named hypotheses: `Hypotheses`, `BayesRule`."""

    @property
    def names(self) -> Sequence[str]:
        """Of the H hypotheses."""
        ...

    @property
    def log_probability(self) -> Tensor:
        """(..., H), what is believed now."""
        ...


@dataclass(frozen=True, eq=False, repr=False)
class Experiment:
    """What may come out, and how probable each outcome is under each hypothesis: p(outcome | h).

    table: by hypothesis, then by outcome; or a tensor (H, K), with `names` of the hypotheses and `outcomes` if they
    have any. Each hypothesis's line adds up to one.

    >>> die = Experiment({"fair": {"six": 1 / 6, "other": 5 / 6}, "loaded": {"six": 0.5, "other": 0.5}})
    >>> print(die)
    p(outcome | h)     six   other
    fair            0.1667  0.8333
    loaded          0.5000  0.5000
    """

    table: Any
    names: Sequence[str] = ()
    outcomes: Sequence[str] = ()

    def __post_init__(self) -> None:
        names, outcomes, given = tuple(self.names), tuple(self.outcomes), self.table
        if isinstance(given, Mapping):
            lines = [line for line in given.values() if isinstance(line, Mapping)]
            names = names or tuple(map(str, given))
            outcomes = outcomes or tuple(map(str, lines[0] if lines else ()))
            values = torch.empty(0)
            if len(lines) == len(given) == len(names) and outcomes:
                rows = [by_name(f"the line of '{n}'", given[n], outcomes, "outcome") for n in names]
                values = torch.stack(rows) if all(row.ndim == 1 for row in rows) else values
        else:
            values = numbers("the table", given)
            if values.ndim == 2:
                names = names or tuple(f"H{i}" for i in range(1, len(values) + 1))
                outcomes = outcomes or tuple(str(i) for i in range(1, values.shape[1] + 1))
        if values.shape != (len(names), len(outcomes)) or len(names) < 2 or not outcomes:
            raise ShapeError(
                "this is no table of outcomes",
                needs="a line for each of two hypotheses or more, with a probability for each outcome",
                found=f"{len(names)} hypotheses, {len(outcomes)} outcomes, probabilities {tuple(values.shape)}",
                fix='Experiment({"ill": {"+": 0.99, "-": 0.01}, "well": {"+": 0.01, "-": 0.99}})',
            )  # fmt: skip
        checked = probability("the probability of an outcome", values)
        rows = [distribution(f"the line of '{n}'", line, outcomes) for n, line in zip(names, checked, strict=True)]
        for name, value in (("names", names), ("outcomes", outcomes), ("table", torch.stack(rows))):
            object.__setattr__(self, name, value)

    def __repr__(self) -> str:
        return f"Experiment({', '.join(self.outcomes[:6])} | {', '.join(self.names[:6])})"

    def __str__(self) -> str:
        rows = [[n, *map(shown, line)] for n, line in zip(self.names, self.table[:, :WIDE].tolist(), strict=True)]
        rest = len(self.outcomes) - WIDE
        more = f"\n… and {count(rest, 'outcome')} more" if rest > 0 else ""
        return aligned(["p(outcome | h)", *(cut(o, 12) for o in self.outcomes[:WIDE])], rows) + more

    def log_likelihood(self, outcome: Any, names: Sequence[str] = ()) -> Tensor:
        """Log p(outcome | h), (..., H), of an outcome by its name, or of a tensor (...) of outcome numbers.

        names: the order of the hypotheses that is wanted.
        """
        table = self._in_order(names).log()
        if isinstance(outcome, str):
            return table[:, place_of(outcome, self.outcomes, "outcome")]
        index = torch.as_tensor(outcome)
        whole = not index.is_floating_point() and index.dtype != torch.bool
        if not whole or bool(((index < 0) | (index >= len(self.outcomes))).any()):
            raise UsageError(
                "this is no outcome of the experiment",
                needs=f"one of {', '.join(self.outcomes[:8])}, or whole numbers from 0 to {len(self.outcomes) - 1}",
                found=str(outcome) if index.ndim == 0 else f"a tensor of {index.dtype}, {tuple(index.shape)}",
                fix=f"observe(experiment, '{self.outcomes[0]}')",
            )  # fmt: skip
        return table.T[index]

    def forecast(self, beliefs: Beliefs) -> Tensor:
        """p(outcome), (..., K), under what is believed now."""
        table = self._in_order(beliefs.names).log()
        return log_space.expected(table.T, beliefs.log_probability[..., None, :]).exp()

    def _in_order(self, names: Sequence[str]) -> Tensor:
        """The table, its lines in the order of `names`."""
        order = [place_of(n, self.names) for n in names] if names else list(range(len(self.names)))
        if len(order) != len(self.names):
            extra = [n for n in self.names if n not in names]
            raise UsageError(
                "the experiment and the prior are about different hypotheses", needs=", ".join(names),
                found=", ".join(self.names), fix=f"give {', '.join(extra)} a prior, or leave that line out",
            )  # fmt: skip
        return self.table[order]
