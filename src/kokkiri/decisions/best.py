"""The action of highest expected utility, over whatever says how probable things are."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from kokkiri.decisions.prevalence import log_probabilities
from kokkiri.errors import ShapeError, UsageError
from kokkiri.exact.experiment import Beliefs
from kokkiri.exact.hypotheses import BayesRule, Hypotheses
from kokkiri.exact.probabilities import by_name, numbers
from kokkiri.phrases import count, cut, plain, table
from kokkiri.predictive import Classes
from kokkiri.types import Predictive

DRAWS = 4096
SHOWN = 10


@dataclass(frozen=True, eq=False, repr=False)
class Best:
    """Expected utilities of A actions for B rows, and the best of them.

    expected: (B, A). perfect: (B,), the expected utility if one knew beforehand. error: (B, A), Monte Carlo standard
    errors, and gap_error: (B,), that of the best over the second best (actions are judged on the same draws); 0 where
    nothing was drawn. Beliefs without a batch axis are one row.
    """

    actions: tuple[Any, ...]
    expected: Tensor
    perfect: Tensor
    error: Tensor
    gap_error: Tensor

    def __len__(self) -> int:
        return len(self.expected)

    def __repr__(self) -> str:
        return f"Best({count(len(self), 'row')}, {count(len(self.actions), 'action')})"

    def __str__(self) -> str:
        names = [cut(str(a), 10) for a in self.actions[:5]]
        rows = []
        for i in range(min(len(self), SHOWN)):
            values = [plain(v) for v in self.expected[i, :5].tolist()]
            rows.append([str(i + 1), cut(str(self.action[i]), 10), *values])
        rest = len(self) - len(rows)
        more = f"\n… {count(rest, 'row')} more" if rest > 0 else ""
        drawn = float(self.error.max()) if len(self) else 0.0
        more += f"\nMonte Carlo standard error at most {plain(drawn)}" if drawn else ""
        return "expected utility\n" + table(["row", "best", *names], rows, left=2) + more

    @property
    def index(self) -> Tensor:
        """(B,) which action is best."""
        return self.expected.argmax(-1)

    @property
    def action(self) -> list[Any]:
        """The best action of each row."""
        return [self.actions[k] for k in self.index.tolist()]

    @property
    def utility(self) -> Tensor:
        """(B,) expected utility of the best action."""
        return self.expected.amax(-1)

    @property
    def gap(self) -> Tensor:
        """(B,) how much better the best is than the second best; ∞ for one action alone."""
        if len(self.actions) == 1:
            return torch.full_like(self.utility, math.inf)
        first, second = self.expected.topk(2, -1).values.unbind(-1)
        return first - second

    @property
    def sure(self) -> Tensor:
        """(B,) whether the draws leave no doubt which is best: a gap of more than three standard errors."""
        return self.gap > 3 * self.gap_error

    @property
    def value_of_knowing(self) -> Tensor:
        """(B,) >= 0: the expected value of perfect information, what knowing the outcome beforehand would be worth."""
        return (self.perfect - self.utility).clamp(min=0.0)


def best(
    beliefs: Predictive | Beliefs | Tensor,
    utility: Any,
    actions: Iterable[Any] | Mapping[str, Any] | None = None,
    *,
    draws: int = DRAWS,
    seed: int = 0,
) -> Best:
    """The action of highest expected utility, E[U(a, y)], for each row.

    Classes (a classifier's prediction, `Hypotheses`, `BayesRule`, or a tensor of probabilities (B, C)): utility is a
    matrix (A, C), or by action, then by hypothesis or as a list over classes; costs are utilities below 0. Exact.

    Numbers (a regression's prediction): utility is a function of (action, y), y a tensor (draws, B), elementwise;
    `actions` are its first arguments, by name if they have names. Averaged over draws of the predictive, the same for
    all actions.

    >>> best(torch.tensor([[0.95, 0.05]]), {"treat": [-1.0, 0.0], "wait": [0.0, -9.0]}).action
    ['wait']
    """
    if callable(utility):
        return _of_numbers(beliefs, utility, actions, draws, seed)
    if isinstance(beliefs, Hypotheses | BayesRule):
        p, names = beliefs.log_probability.exp(), tuple(beliefs.names)
    else:
        p, names = log_probabilities(beliefs).exp(), ()
    found, matrix = matrix_of(utility, p.shape[-1], names)
    p = p.reshape(-1, p.shape[-1])
    if actions is not None:
        found = tuple(actions)
        if len(found) != len(matrix):
            raise ShapeError(
                f"{len(found)} actions for utilities {tuple(matrix.shape)}", needs="a name for each row of utilities",
                found=", ".join(map(str, found))[:80], fix=f"{len(matrix)} names",
            )  # fmt: skip
    expected = p @ matrix.T
    return Best(found, expected, p @ matrix.amax(0), torch.zeros_like(expected), torch.zeros(len(p)).double())


def matrix_of(utility: Any, classes: int, names: Sequence[str] = ()) -> tuple[tuple[Any, ...], Tensor]:
    """The actions, and (A, C) utilities: from a matrix, or by action and then by name or as a list."""
    if isinstance(utility, Mapping):
        actions = tuple(utility)
        rows = []
        for action in actions:
            what, row = f"the utility of '{action}'", utility[action]
            rows.append(by_name(what, row, names) if isinstance(row, Mapping) else numbers(what, row))
        same = {tuple(row.shape) for row in rows}
        matrix = torch.stack(rows) if len(same) == 1 else torch.empty(0)
    else:
        matrix = numbers("the utility", utility)
        actions = tuple(f"action {i}" for i in range(1, len(matrix) + 1)) if matrix.ndim == 2 else ()
    if matrix.ndim != 2 or matrix.shape[1] != classes or not len(matrix):
        raise ShapeError(
            f"utilities {tuple(matrix.shape)} for {classes} classes", needs=f"(A, {classes}): a row for each action",
            found=f"{len(actions)} actions" + (f", classes {', '.join(names[:6])}" if names else ""),
            fix='{"treat": [-1.0, 0.0], "wait": [0.0, -9.0]}',
        )  # fmt: skip
    if not bool(matrix.isfinite().all()):
        raise UsageError(
            "a utility is not finite", needs="finite numbers", found=str(float(matrix[~matrix.isfinite()][0])),
            fix="a large number in place of infinity; no class is then decisive however improbable",
        )  # fmt: skip
    return actions, matrix


def _of_numbers(
    beliefs: Any, utility: Callable[[Any, Tensor], Any], actions: Any, draws: int, seed: int
) -> Best:  # fmt: skip
    if isinstance(beliefs, Classes | Hypotheses | BayesRule | Tensor) or not hasattr(beliefs, "sample"):
        raise UsageError(
            "a function cannot be the utility of classes", needs="a matrix (A, C) of utilities",
            found=repr(utility)[:60],
            fix='{"treat": [-1.0, 0.0], "wait": [0.0, -9.0]}',
        )  # fmt: skip
    named = dict(actions) if isinstance(actions, Mapping) else {}
    values = list(named.values()) if named else list(actions if actions is not None else [])
    if not values or draws < 2:
        raise UsageError(
            "there is nothing to choose from" if not values else f"{draws} draws have no error",
            needs="actions, and two draws or more", found=f"{count(len(values), 'action')}, {count(draws, 'draw')}",
            fix="best(predictive, utility, actions=[0, 10, 20])",
        )  # fmt: skip
    y = beliefs.sample(draws, seed=seed)
    drawn = []
    for action in values:
        u = torch.as_tensor(utility(action, y), dtype=torch.float64)
        if u.shape != y.shape[:2] or not bool(u.isfinite().all()):
            raise ShapeError(
                f"the utility of {action!r} has shape {tuple(u.shape)}" if u.shape != y.shape[:2]
                else f"the utility of {action!r} is not finite", needs=f"finite numbers {tuple(y.shape[:2])}, one for"
                " each draw and row", found=f"y was {tuple(y.shape)}", fix="utility = lambda action, y: …, elementwise",
            )  # fmt: skip
        drawn.append(u)
    u = torch.stack(drawn, -1)  # (S, B, A)
    expected, root = u.mean(0), draws**0.5
    error, gap_error = u.std(0) / root, torch.zeros(u.shape[1], dtype=torch.float64)
    if len(values) > 1:
        top = expected.topk(2, -1).indices
        pair = u.gather(-1, top.expand(draws, *top.shape))
        gap_error = (pair[..., 0] - pair[..., 1]).std(0) / root
    return Best(tuple(named) if named else tuple(values), expected, u.amax(-1).mean(0), error, gap_error)
