"""Decisions about rows: probabilities at another prevalence, the threshold of least cost, both errors, the cost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from kokkiri.decisions import words
from kokkiri.decisions.costs import ACT, ACTIONS, LEAVE, REJECT, Costs
from kokkiri.decisions.prevalence import log_probabilities
from kokkiri.errors import DataError, ShapeError, UsageError
from kokkiri.exact.intervals import Interval, beta_interval, drawn_interval, must_be_level
from kokkiri.exact.probabilities import probability
from kokkiri.numerics import log_space
from kokkiri.numerics.random import philox

DRAWS = 100_000
NAN = float("nan")


class Strategy(NamedTuple):
    """A way to decide, its errors and its cost a row; without labels as the model expects them, without intervals."""

    name: str
    type_one: Interval
    type_two: Interval
    cost: Interval


class Curve(NamedTuple):
    """Cost a row against threshold, (K,) each, without rejection; low and high are NaN without labels."""

    threshold: Tensor
    cost: Tensor
    low: Tensor
    high: Tensor


@dataclass(frozen=True, eq=False, repr=False)
class Decisions:
    """What to do about B rows, and what that costs. Made by `decide`.

    levels: names of the negative and the positive class. own: (B,), P(positive) as the model says it, of whose training
    rows a share of trained_at was positive; probability: the same at `prevalence`, at which costs are reckoned. action:
    (B,) 0 leave, 1 act, 2 reject. y: (B,) bool, or None.
    """

    levels: tuple[str, str]
    costs: Costs
    prevalence: float
    trained_at: float | None
    own: Tensor
    probability: Tensor
    action: Tensor
    y: Tensor | None
    level: float
    seed: int

    def __len__(self) -> int:
        return len(self.probability)

    def __repr__(self) -> str:
        return f"Decisions({', '.join(f'{ACTIONS[k]} {n:,}' for k, n in enumerate(self.counts) if n or k < REJECT)})"

    def __str__(self) -> str:
        return words.decisions_text(self)

    @property
    def counts(self) -> list[int]:
        """How many rows to leave, to act on, to reject."""
        return torch.bincount(self.action, minlength=3).tolist()

    @property
    def expected_cost(self) -> Tensor:
        """(B,) of the decision about each row, under its probability."""
        return self.costs.expected(self.probability, self.action)

    @property
    def by_half(self) -> Tensor:
        """(B,) decisions at one half of the model's own probability, corrected for nothing."""
        return (self.own >= 0.5).long()

    @property
    def strategies(self) -> tuple[Strategy, ...]:
        """The decisions, those at one half of the model's own probabilities, acting always, acting never."""
        ways = {
            "chosen": self.action,
            "model's own 0.5": self.by_half,
            "always act": torch.full_like(self.action, ACT),
            "never act": torch.full_like(self.action, LEAVE),
        }
        constant, (low, high) = {"always act", "never act"}, self.costs.rejected
        return tuple(
            self.judge(name, action, constant=name in constant, rejects=name == "chosen" and low < high)
            for name, action in ways.items()
        )

    def judge(self, name: str, action: Tensor, *, constant: bool = False, rejects: bool | None = None) -> Strategy:
        """Errors and cost of any decisions (B,) about these rows.

        constant: they are the same for all rows that ever come. rejects: whether some of those would be rejected; None:
        if some of these are.
        """
        rejects = bool((action == REJECT).any()) if rejects is None else rejects
        if self.y is None:
            p = self.probability
            one = float(((1 - p) * (action == ACT)).sum() / (1 - p).sum())
            two = float((p * (action == LEAVE)).sum() / p.sum())
            cost = float(self.costs.expected(p, action).mean())
            return Strategy(name, *(Interval(v, NAN, NAN) for v in (one, two, cost)))
        if constant:
            one, two = (1.0, 0.0) if int(action[0]) == ACT else (0.0, 1.0)
            cost = self._cost(one, two, 0.0, 0.0)
            return Strategy(name, *(Interval(float(v), float(v), float(v)) for v in (one, two, cost)))
        ill, well = _tally(action[self.y]), _tally(action[~self.y])
        two, one = _share(ill, LEAVE, self.level), _share(well, ACT, self.level)
        if not rejects:
            mean = self._cost(one.value, two.value, 0.0, 0.0)
            drawn = self._cost(_betas(well, ACT, self.seed, "well"), _betas(ill, LEAVE, self.seed, "ill"), 0.0, 0.0)
        else:
            cells = [_dirichlet(k, self.seed, w) for k, w in ((well, "well"), (ill, "ill"))]
            drawn = self._cost(cells[0][:, ACT], cells[1][:, LEAVE], cells[0][:, REJECT], cells[1][:, REJECT])
            means = [[(v + 1) / (sum(k) + 3) for v in k] for k in (well, ill)]
            mean = self._cost(means[0][ACT], means[1][LEAVE], means[0][REJECT], means[1][REJECT])
        return Strategy(name, one, two, drawn_interval(drawn, float(mean), self.level))

    @property
    def cheaper(self) -> float:
        """How probable it is, after these rows, that the decisions cost less than the model's own at one half.

        On the same rows: only those that are decided differently count. NaN without labels, or where no decision
        differs. The two ways together have a Dirichlet posterior in each class, with two rows' worth of prior.
        """
        if self.y is None or bool((self.action == self.by_half).all()):
            return NAN
        price = torch.tensor([0.0, self.costs.false_alarm, self.costs.reject or 0.0]).double()  # of a negative
        miss = torch.tensor([self.costs.miss, 0.0, self.costs.reject or 0.0]).double()
        total = torch.zeros(DRAWS, dtype=torch.float64)
        for whom, each, share in (("well", price, 1 - self.prevalence), ("ill", miss, self.prevalence)):
            rows = self.y if whom == "ill" else ~self.y
            ways = 3 if self.costs.reject is not None else 2
            pairs = torch.bincount(2 * self.action[rows] + self.by_half[rows], minlength=2 * ways).double()
            saved = (each[None, :2] - each[:ways, None]).flatten()  # by the decisions, against those at one half
            prior = 2 / len(saved)
            drawn = torch.from_numpy(philox(self.seed, f"cheaper {whom}").dirichlet((pairs + prior).numpy(), DRAWS))
            total += share * (drawn @ saved)
        return float((total > 0).double().mean())

    def curve(self, points: int = 201, draws: int = 4000) -> Curve:
        """Cost a row against threshold, without rejection; draws: behind the bands, 0 for none."""
        p = self.probability.sort().values
        grid = torch.linspace(0, 1, points, dtype=torch.float64)
        odds = torch.linspace(-8, 8, points, dtype=torch.float64)  # where classes are rare all that matters is near 0
        grid = torch.cat([grid, odds.sigmoid(), torch.tensor([self.costs.threshold]).double()]).sort().values
        if self.y is None:
            above = len(p) - torch.searchsorted(p, grid)
            alarms = torch.cat([torch.zeros(1).double(), (1 - p).flip(0).cumsum(0)])[above]
            misses = p.sum() - torch.cat([torch.zeros(1).double(), p.flip(0).cumsum(0)])[above]
            cost = (self.costs.false_alarm * alarms + self.costs.miss * misses) / len(p)
            return Curve(grid, cost, torch.full_like(cost, NAN), torch.full_like(cost, NAN))
        ill, well = self.probability[self.y].sort().values, self.probability[~self.y].sort().values
        missed = torch.searchsorted(ill, grid).double()
        alarmed = len(well) - torch.searchsorted(well, grid).double()
        cost = self._cost((alarmed + 1) / (len(well) + 2), (missed + 1) / (len(ill) + 2), 0.0, 0.0)
        if not draws:
            return Curve(grid, cost, torch.full_like(cost, NAN), torch.full_like(cost, NAN))
        rng = philox(self.seed, "curve")
        beta = lambda k, n: torch.from_numpy(rng.beta((k + 1).numpy(), (n - k + 1).numpy(), (draws, len(grid))))
        drawn = self._cost(beta(alarmed, len(well)), beta(missed, len(ill)), 0.0, 0.0)
        tail = (1 - self.level) / 2
        low, high = drawn.quantile(torch.tensor([tail, 1 - tail], dtype=torch.float64), 0)
        return Curve(grid, cost, low, high)

    def table(self, row: Tensor | None = None) -> tuple[list[str], list[list[Any]]]:
        """(header, lines): a line a row, as `kokkiri decide --out` writes them. row: their numbers, counted from 0."""
        number = torch.arange(len(self)) if row is None else row
        name = self.levels[1]
        header = ["row", f"p({name}) of the model", f"p({name})", "decision", "expected cost"]
        own, p, cost = (t.tolist() for t in (self.own, self.probability, self.expected_cost))
        done = [ACTIONS[k] for k in self.action.tolist()]
        digits = lambda v: float(f"{v:.6g}")
        columns: list[list[Any]] = [(number + 1).tolist(), [*map(digits, own)], [*map(digits, p)], done]
        columns.append([*map(digits, cost)])
        if self.y is not None:
            header.insert(1, "truth")
            columns.insert(1, [self.levels[int(v)] for v in self.y.tolist()])
        return header, [list(line) for line in zip(*columns, strict=True)]

    def picture(self) -> str:
        """Cost a row against threshold, with the threshold that was chosen, as SVG text."""
        from kokkiri.decisions.pictures import cost_picture

        return cost_picture(self)

    def _cost(self, one: Any, two: Any, rejected_well: Any, rejected_ill: Any) -> Any:
        """A row, at the prevalence, from both errors and the shares that are rejected."""
        pi, c = self.prevalence, self.costs
        out = (1 - pi) * c.false_alarm * one + pi * c.miss * two
        return out if c.reject is None else out + c.reject * ((1 - pi) * rejected_well + pi * rejected_ill)


def decide(
    predictive: Any,
    y: Tensor | None = None,
    *,
    costs: Costs,
    prevalence: float | None = None,
    trained_at: float | None = None,
    positive: int = 1,
    levels: tuple[str, str] = ("negative", "positive"),
    level: float = 0.95,
    seed: int = 0,
) -> Decisions:
    """Act, leave or reject for each row, at the least expected cost. Any classifier's prediction, or a tensor (B, C).

    prevalence: the share of positives among those the decisions are for; the model's probabilities are corrected for it
    (see `corrected`), for which `trained_at`, the share among its training rows, is needed. The threshold follows from
    the costs alone: labels of these rows, y (B,) class numbers, judge it and do not choose it. Errors of both types are
    shares of each class, so that labelled rows may have any mix of classes; costs are put together at the prevalence.
    positive: which class number is acted upon.

    >>> p = torch.tensor([[0.7, 0.3], [0.2, 0.8], [0.99, 0.01]])
    >>> decide(p, costs=Costs(false_alarm=1, miss=4))
    Decisions(leave 1, act 2)
    """
    log_p = log_probabilities(predictive)
    if log_p.ndim != 2 or not len(log_p) or not 0 <= positive < log_p.shape[1]:
        raise ShapeError(
            f"decisions about class {positive} of probabilities {tuple(log_p.shape)}",
            needs="(B, C), one row at least, and one of its classes", found=f"{tuple(log_p.shape)}",
            fix="kk.predict(post, rows), and positive=1 for two classes",
        )  # fmt: skip
    must_be_level(level)
    labels = None if y is None else _labels(y, log_p.shape, positive, levels)
    for name, share in (("the prevalence", prevalence), ("the prevalence among the training rows", trained_at)):
        if share is not None:
            probability(name, share, inside=True)
    if prevalence is not None and trained_at is None:
        raise UsageError(
            "a prevalence alone corrects nothing", needs="the share of positives among the training rows, too",
            found=f"prevalence {prevalence:g}", fix="trained_at=0.5 (--training-prevalence 0.5)",
        )  # fmt: skip
    others = [k for k in range(log_p.shape[1]) if k != positive]
    odds = log_p[:, positive] - torch.logsumexp(log_p[:, others], -1)
    own = log_space.from_log_odds(odds).exp()
    p = own
    if prevalence is not None and trained_at is not None:
        shares = torch.tensor([prevalence, trained_at], dtype=torch.float64).log()
        new, old = log_space.log_odds(shares).unbind()
        p = log_space.from_log_odds(odds + new - old).exp()
    seen = float(labels.double().mean()) if labels is not None else float(p.mean())
    at = prevalence if prevalence is not None else trained_at if trained_at is not None else seen
    return Decisions(levels, costs, float(at), trained_at, own, p, costs.decide(p), labels, level, seed)


def _labels(y: Tensor, shape: torch.Size, positive: int, levels: tuple[str, str]) -> Tensor:
    """(B,) whether each row is positive; both classes must be there, or one of the errors is unknown."""
    if y.shape != (shape[0],) or y.is_floating_point():
        raise ShapeError(
            f"labels {tuple(y.shape)} of {y.dtype} for {shape[0]} rows", needs=f"class numbers ({shape[0]},)",
            found=f"{tuple(y.shape)}, {y.dtype}", fix="the targets of the rows that were predicted",
        )  # fmt: skip
    found = y.bool() if y.dtype == torch.bool else y == positive
    if bool(found.all()) or not bool(found.any()):
        which = levels[1] if bool(found.all()) else f"not {levels[1]}" if levels[0] == "negative" else levels[0]
        raise DataError(
            f"all {len(y):,} rows are '{which}'", needs="labelled rows of both classes: each error is a share of one",
            found="one class", fix="add rows of the other, or leave the labels out: errors are then the model's own",
        )  # fmt: skip
    return found


def _tally(action: Tensor) -> list[int]:
    return torch.bincount(action, minlength=3).tolist()


def _share(tally: list[int], which: int, level: float) -> Interval:
    """The share of one action, Beta(1, 1) beforehand."""
    return beta_interval(tally[which] + 1.0, sum(tally) - tally[which] + 1.0, level)


def _betas(tally: list[int], which: int, seed: int, whom: str) -> Tensor:
    return torch.from_numpy(philox(seed, whom).beta(tally[which] + 1, sum(tally) - tally[which] + 1, DRAWS))


def _dirichlet(tally: list[int], seed: int, whom: str) -> Tensor:
    return torch.from_numpy(philox(seed, whom).dirichlet([k + 1 for k in tally], DRAWS))
