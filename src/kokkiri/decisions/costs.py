"""What wrong decisions about two classes cost, and the threshold of least expected cost."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from kokkiri.errors import UsageError
from kokkiri.exact.probabilities import numbers, probability

LEAVE, ACT, REJECT = 0, 1, 2
ACTIONS = ("leave", "act", "reject")  # by number


@dataclass(frozen=True)
class Costs:
    """Of a false alarm (type I error), of a miss (type II error), and of leaving the decision to somebody else.

    In one unit, whatever it is; right decisions cost nothing. reject: None where one has to decide.

    >>> Costs(false_alarm=1.0, miss=9.0).threshold
    0.1
    """

    false_alarm: float
    miss: float
    reject: float | None = None

    def __post_init__(self) -> None:
        for name in ("false_alarm", "miss", "reject"):
            value, words = getattr(self, name), {"reject": "rejection"}.get(name, name.replace("_", " "))
            if value is not None and not (isinstance(value, int | float) and 0 <= value < math.inf):
                raise UsageError(
                    f"the cost of a {words} cannot be {value}", needs="a finite number, 0 or more", found=str(value),
                    fix="costs are losses: what would be gained by it is a cost of the alternative",
                )  # fmt: skip
        if not self.false_alarm and not self.miss:
            raise UsageError(
                "no error costs anything", needs="a cost above 0 for a false alarm or a miss", found="0 for both",
                fix="false_alarm=1, miss=9: a miss is nine times as bad",
            )  # fmt: skip

    @property
    def threshold(self) -> float:
        """The probability from which acting costs less than leaving: c_I / (c_I + c_II).

        Acting costs (1 - p) c_I in expectation, leaving p c_II. Source: Berger 1985, "Statistical decision theory and
        Bayesian analysis", 4.4.3; Elkan 2001, "The foundations of cost-sensitive learning", eq. 2.
        """
        return self.false_alarm / (self.false_alarm + self.miss)

    @property
    def rejected(self) -> tuple[float, float]:
        """Probabilities between which a row is rejected: (t, t) where nothing is.

        Chow's rule: where the cheaper of acting and leaving still costs more than rejecting. Source: Chow 1970, "On
        optimum recognition error and reject tradeoff".
        """
        t = self.threshold
        if self.reject is None or self.reject >= t * self.miss:
            return t, t
        return self.reject / self.miss, 1 - self.reject / self.false_alarm

    @property
    def matrix(self) -> Tensor:
        """(2, 2) costs, or (3, 2) with rejection: a row an action (leave, act, reject), columns negative, positive."""
        rows = [[0.0, self.miss], [self.false_alarm, 0.0]]
        return torch.tensor(rows if self.reject is None else [*rows, [self.reject] * 2], dtype=torch.float64)

    def decide(self, p: Any) -> Tensor:
        """(...) probabilities of the positive class -> (...) 0 leave, 1 act, 2 reject, of least expected cost.

        >>> Costs(1.0, 1.0, reject=0.2).decide([0.1, 0.3, 0.9]).tolist()
        [0, 2, 1]
        """
        p = probability("a probability", numbers("the probabilities", p))
        low, high = self.rejected
        return self.at(p, low, high)

    def at(self, p: Tensor, low: float, high: float) -> Tensor:
        """Decisions at thresholds: leave below the lower, act from the higher on, reject between."""
        leave, act, reject = (torch.tensor(k) for k in (LEAVE, ACT, REJECT))
        return torch.where(p >= high, act, torch.where(p < low, leave, reject))

    def expected(self, p: Tensor, action: Tensor) -> Tensor:
        """(...) expected cost of decisions under probabilities of the positive class."""
        reject = torch.full_like(p, self.reject or 0.0)
        return torch.where(
            action == ACT, (1 - p) * self.false_alarm, torch.where(action == LEAVE, p * self.miss, reject)
        )


def threshold(utility: Any) -> float:
    """The probability of the positive class from which acting is worth more, for any two actions and two classes.

    utility: (2, 2), rows leave and act, columns negative and positive; both actions must be the better one somewhere.

    >>> threshold([[0.0, -9.0], [-1.0, 0.0]])
    0.1
    """
    u = numbers("the utility", utility)
    if u.shape != (2, 2) or not bool(u.isfinite().all()):
        raise UsageError(
            f"no threshold for utilities {tuple(u.shape)}", needs="finite numbers (2, 2): leave and act, negative and"
            " positive", found=str(utility)[:60], fix="kk.decisions.best takes any number of actions and classes",
        )  # fmt: skip
    alarm, hit = float(u[0, 0] - u[1, 0]), float(u[1, 1] - u[0, 1])  # what acting loses on a negative, gains else
    if alarm < 0 or hit < 0 or alarm + hit == 0:
        raise UsageError(
            "one action is never the better one",
            needs="leaving worth as much or more on negatives, acting on positives",
            found=f"acting is worth {-alarm:+g} on a negative and {hit:+g} on a positive",
            fix="then there is nothing to decide; or the rows are in another order: leave, act",
        )  # fmt: skip
    return alarm / (alarm + hit)
