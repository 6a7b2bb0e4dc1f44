"""Maximum likelihood, maximum a posteriori and posterior side by side, and the same batch after batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from kokkiri import phrases
from kokkiri.errors import ShapeError, UsageError
from kokkiri.exact.conjugate import pictures, words
from kokkiri.exact.distributions.arguments import numbers

ROUNDING = 1e-9  # relative; of parameters and evidence, after some batches
LEGEND = "likeliest: maximum likelihood, the rows alone; most probable: maximum a posteriori; the rest: the posterior"


@dataclass(frozen=True, eq=False, repr=False)
class Estimates:
    """What some batches of rows say of the parameters of a family.

    stages: the family after each batch; whole: after all rows at once, which is the same to rounding. likeliest: the
    maximum of the likelihood of all rows. names: of the batches. outcome: what a row is called. level: of intervals.
    """

    prior: Any
    stages: tuple[Any, ...]
    whole: Any
    likeliest: Any
    names: tuple[str, ...]
    outcome: str = "y"
    level: float = 0.95

    def __repr__(self) -> str:
        return f"Estimates({self.posterior!r}, {phrases.count(len(self.stages), 'batch', 'batches')})"

    def __str__(self) -> str:
        return f"{self._parameters()}\n\n{self._batches()}"

    @property
    def posterior(self) -> Any:
        """After the last batch."""
        return self.stages[-1]

    @property
    def gap(self) -> float:
        """The largest relative difference between batch after batch and all at once, of parameters and evidence."""
        mine, theirs = _numbers(self.posterior), _numbers(self.whole)
        size = theirs.abs().clamp(min=1.0)
        return float(((mine - theirs).abs() / size).max())

    def picture(self, *, parameter: str | None = None) -> str:
        """What was believed of a parameter before any row, and after each batch: SVG text."""
        drawn, told = parameter or next(iter(self.prior.marginals)), ["before any row"]
        for name, stage in zip(self.names, self.stages, strict=True):
            told.append(f"after {name}, {words.count(stage.history.rows)}")
        return pictures.draw(drawn, self.posterior, (self.prior, *self.stages[:-1]), told, self.level)

    def _parameters(self) -> str:
        post, likeliest = self.posterior, []
        for name, dist in post.marginals.items():
            found = _one_of(self.likeliest, list(post.marginals).index(name))
            found = found.diagonal(dim1=-2, dim2=-1) if found.ndim > dist.mean.ndim else found
            likeliest += found.expand(dist.mean.shape).reshape(-1).tolist()
        lines = words.lines_of(post, self.level)
        spreads = [float(s) for dist in post.marginals.values() for s in dist.sd.reshape(-1)]
        table = [
            [label, words.number(best, spread), mode, *rest]
            for (label, *rest, mode), best, spread in zip(lines, likeliest, spreads, strict=True)
        ]
        header = ["", "likeliest", "most probable", "mean", "sd", *words.ends(self.level)]
        out = [phrases.table(header, table[: words.SHOWN])]
        if len(table) > words.SHOWN:
            out.append(f"and {phrases.count(len(table) - words.SHOWN, 'more line')}")
        out.append(words.wrapped(LEGEND))
        if post.why_no_mode:
            out.append(words.wrapped(f"most probable: {post.why_no_mode}"))
        return "\n".join([*out, *self._next()])

    def _next(self) -> list[str]:
        """The next row, where it is one number; the evidence."""
        past, out = self.posterior.history, []
        if following := words.following(self.posterior):
            low, high = (float(v) for v in following.interval(self.level))
            spread = float(following.sd)
            ends = f"{words.number(low, spread)} to {words.number(high, spread)}"
            if all(v.is_integer() for v in (low, high)):
                ends = f"{low:,.0f} to {high:,.0f}"
            mean = words.number(float(following.mean), spread)
            out.append(
                f"next {self.outcome}: mean {mean}, sd {phrases.plain(spread)}, {100 * self.level:g} % from {ends}"
            )
        gained = phrases.plain(float(self.posterior.divergence(self.prior)))
        evidence = phrases.plain(float(past.log_evidence), 2)
        out.append(f"evidence: log p({words.count(past.rows)}) = {evidence} nats; {gained} nats of information gained")
        return ["", *map(words.wrapped, out)]

    def _batches(self) -> str:
        """How the belief moved, and that it came to the same."""
        first = next(iter(self.prior.marginals))
        place = int(getattr(self.prior, "names", ())[:1] == ("intercept",))  # a slope says more than it
        lines, rows, nats = [], 0.0, 0.0
        told = [("before any row", self.prior), *zip(self.names, self.stages, strict=True)]
        told += [("all at once", self.whole)] if len(self.stages) > 1 else []
        for name, family in told:
            own_rows, own_nats = float(family.history.rows), float(family.history.log_evidence)
            once = family is self.whole
            more = [] if family is self.prior else [own_rows - (0 if once else rows), own_nats - (0 if once else nats)]
            rows, nats = own_rows, own_nats
            shown = words.lines_of(family, self.level)[place]
            counted = [f"{more[0]:,.6g}", phrases.plain(more[1], 2)] if more else ["", ""]
            lines.append([name, *counted, shown[1], shown[3], shown[4]])
        label = words.lines_of(self.prior, self.level)[place][0]
        header = ["", "rows", "log p(rows | before)", label if len(label) < 24 else first, *words.ends(self.level)]
        out = phrases.table(header, lines)
        if len(self.stages) > 1:
            exact = "to rounding" if self.gap < ROUNDING else f"to {self.gap:.1g} of its size"
            says = f"batch after batch came to the same as all at once, {exact}: yesterday's posterior is today's prior"
            out += f"\n{words.wrapped(says)}"
        return out


def estimate(
    prior: Any, *batches: Any, names: Sequence[str] = (), outcome: str = "y", level: float = 0.95
) -> Estimates:
    """What batches of rows say of the parameters of a family, one batch after the other and all at once.

    prior: a family of this module, without batch axes. batches: rows, or a mapping of the arguments of its `update`.

    >>> from kokkiri.exact.conjugate.beta_bernoulli import BetaBernoulli
    >>> found = estimate(BetaBernoulli(1, 1), [1, 0, 1], [1, 1], names=["monday", "tuesday"])
    >>> print(found)
                 likeliest  most probable   mean     sd  2.5 %  97.5 %
    probability      0.800          0.800  0.714  0.160  0.359   0.957
    likeliest: maximum likelihood, the rows alone; most probable: maximum a
    posteriori; the rest: the posterior
    <BLANKLINE>
    next y: mean 0.714, sd 0.452, 95 % from 0 to 1
    evidence: log p(5 rows) = -3.40 nats; 0.485 nats of information gained
    <BLANKLINE>
                    rows  log p(rows | before)  probability  2.5 %  97.5 %
    before any row                                    0.500  0.025   0.975
    monday             3                 -2.48        0.600  0.194   0.932
    tuesday            2                 -0.92        0.714  0.359   0.957
    all at once        5                 -3.40        0.714  0.359   0.957
    batch after batch came to the same as all at once, to rounding: yesterday's
    posterior is today's prior
    """
    if len(prior.batch):
        raise ShapeError(
            f"estimate got {prior!r}", needs="one family", found=f"a batch of {tuple(prior.batch)}",
            fix="update the batch itself: its methods work on all members at once",
        )  # fmt: skip
    if not batches:
        raise UsageError("estimate got no rows", needs="a batch of rows or more", found="none",
                         fix="estimate(prior, [1, 0, 1])")  # fmt: skip
    given = [dict(batch) if isinstance(batch, Mapping) else {"y": batch} for batch in batches]
    if len(names) > len(batches) or any(batch.keys() != given[0].keys() for batch in given):
        raise UsageError(
            "the batches do not belong together", needs="the same arguments of update in each, a name for each at most",
            found=f"{'; '.join(', '.join(batch) for batch in given[:4])}; {len(names)} names", fix="one form for all",
        )  # fmt: skip
    stages = [prior]
    for batch in given:
        stages.append(stages[-1].update(**batch))
    whole = _together(given)
    labels = [*names, *(f"batch {k}" for k in range(len(names) + 1, len(batches) + 1))]
    likeliest = prior.maximum_likelihood(**whole)
    return Estimates(prior, tuple(stages[1:]), prior.update(**whole), likeliest, tuple(labels), outcome, level)


def _together(batches: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """All rows; names of classes stay names."""
    out: dict[str, Any] = {}
    for name in batches[0]:
        parts = [batch[name] for batch in batches]
        if any(isinstance(p, str) or (isinstance(p, Sequence) and any(isinstance(v, str) for v in p)) for p in parts):
            out[name] = [v for p in parts for v in ([p] if isinstance(p, str) else p)]
        else:
            tensors = [numbers("estimate", name, p) for p in parts]
            out[name] = torch.cat([t if t.ndim else t[None] for t in tensors])
    return out


def _one_of(values: Any, index: int) -> Tensor:
    return values if isinstance(values, Tensor) else values[index]


def _numbers(family: Any) -> Tensor:
    """Parameters and evidence in one line."""
    found = [value for value in vars(family).values() if isinstance(value, Tensor)]
    return torch.cat([t.reshape(-1) for t in (*found, family.history.log_evidence)])
