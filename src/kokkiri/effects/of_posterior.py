"""Effects from a posterior that `fit` gave: its network says what each row's outcome would be under each setting.

Draws of the parameters carry what the posterior does not know of the outcome; rows under Dirichlet weights what is not
known of the population. The plug-in of both is biased by whatever made the network smooth, so that it is corrected by
a cross-fitted propensity, draw by draw (Yiu, Fong, Holmes & Rousseau 2023, arXiv 2306.06059).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from kokkiri.causal.asked import Asked, Value, pair_of
from kokkiri.causal.covariates import encoded
from kokkiri.causal.design import label, worth_of
from kokkiri.causal.effect import Effect
from kokkiri.causal.network_effect import DRAWS, Networks, seen_draws, seen_means, told
from kokkiri.causal.network_rows import groups_of
from kokkiri.causal.quantities import Curve, Group, Sample
from kokkiri.causal.variables import Rows, Variable
from kokkiri.data.columns import Column, Kind
from kokkiri.data.core import Data
from kokkiri.errors import DataError, Unsupported, UsageError, nearest
from kokkiri.numerics.effects import Kind as Whom
from kokkiri.numerics.effects import Nuisances, average, dirichlet, scores
from kokkiri.phrases import count, joined
from kokkiri.posteriors import Particles
from kokkiri.predictive import Classes, Mixture
from kokkiri.verbs import predict

PARAMETERS = 200  # draws of the posterior
PLACES = 25  # of a dose-response curve


@dataclass(frozen=True, eq=False)
class Answers:
    """(S, n) mean outcomes of rows under a setting, by S draws of the posterior."""

    post: Particles
    rows: Data
    names: tuple[str, ...]
    event: str
    seed: int

    def under(self, setting: Sequence[float]) -> Tensor:
        """With the treatments set: numbers, or codes of levels."""
        return mean_of(predict(self.post, with_columns(self.rows, self.names, setting), draws=PARAMETERS,
                               seed=self.seed), self.post, self.event)  # fmt: skip


def mean_of(found: Any, post: Particles, event: str) -> Tensor:
    """(S, n) means of each draw, or probabilities of the event."""
    if isinstance(found, Classes):
        levels = post.form.target.levels
        if event not in levels:
            raise UsageError(f"'{post.form.target.name}' is never '{event}'", needs="one of its classes", found=event,
                             fix=nearest(event, levels))  # fmt: skip
        return found.probabilities[:, :, levels.index(event)]
    if isinstance(found, Mixture):
        return (found.shift + found.scale * found.components.mean)[:, :, 0]
    raise Unsupported(f"{found!r} has no mean that do could take", needs="a Mixture or Classes", found=repr(found),
                      fix="a likelihood of kokkiri's")  # fmt: skip


def with_columns(rows: Data, names: Sequence[str], setting: Sequence[float]) -> Data:
    """The rows with some inputs set: raw values, or codes."""
    raw = dict(rows.raw)
    for name, value in zip(names, setting, strict=True):
        block, place = place_of(rows, name)
        changed = raw[block].clone()
        changed[:, place] = value
        raw[block] = changed
    return replace(rows, raw=raw, _cache={})


def place_of(rows: Data, name: str) -> tuple[str, int]:
    """Where a column stands in the raw tensors."""
    used = [c for c in rows.schema.columns if c.used]
    column = next((c for c in used if c.name == name), None)
    if column is None:
        raise UsageError(
            f"the model does not look at '{name}', so that setting it changes nothing", needs="one of its inputs",
            found=name, fix=nearest(name, [c.name for c in used]),
        )  # fmt: skip
    blocks = {"number": {Kind.NUMBER, Kind.BOOLEAN}, "category": {Kind.CATEGORY}, "date": {Kind.DATE}}
    block = next(b for b, kinds in blocks.items() if column.kind in kinds)
    return block, [c.name for c in used if c.kind in blocks[block]].index(name)


def inputs_of(post: Particles) -> tuple[str, ...]:
    """The columns that a model looks at."""
    if post.form.schema is None:
        raise Unsupported(
            "this model's inputs have no names", needs="a model of a table", found=f"inputs {post.form.inputs.shape}",
            fix="kk.do on the data, with network= as a function that makes the network",
        )  # fmt: skip
    return tuple(c.name for c in post.form.schema.columns if c.used)


def of_posterior(asked: Asked, post: Particles, data: Data, rows: Rows, method: Networks) -> Effect:
    """The posterior of the effect with the network of `post` as the model of the outcome."""
    if asked.along:
        raise Unsupported(f"a posterior draws no curve along '{asked.along}'", needs="kk.do on the data", found="a "
                          "posterior of fit", fix=f"method='networks', or groups: ('group', '{asked.along}')"
                          )  # fmt: skip
    answers = Answers(post, data, asked.treatments, asked.event, asked.seed)
    variables = [rows.variables[name] for name in asked.treatments]
    numeric = [v for v in variables if v.numeric and v.coded(2) is None]
    y = worth_of(rows.variables[asked.outcome], rows.variables[asked.outcome].column, asked.event)
    if numeric:
        return _doses(asked, answers, variables, y)
    return _levels(asked, answers, variables, rows, y, method)


def _levels(
    asked: Asked, answers: Answers, variables: Sequence[Variable], rows: Rows, y: Tensor, method: Networks
) -> Effect:
    if len(variables) > 1:
        raise Unsupported("a posterior answers for one treatment with levels", needs="one column",
                          found=joined(list(asked.treatments)), fix="numbers, or kk.do on the data")  # fmt: skip
    v = variables[0]
    coded = v.coded()
    assert coded is not None
    (i,), (j,) = pair_of(asked, variables, [coded])
    own = _column(answers.rows, v.name)
    mu = torch.stack([answers.under([_raw(own, k, coded.levels[k], coded.worth)]) for k in range(len(coded.levels))], 1)
    others = [name for name in inputs_of(answers.post) if name != v.name]
    covariates, x = encoded(rows, others)
    if not covariates.names:
        raise Unsupported("the model looks at nothing but the treatment", needs="other inputs", found=v.name,
                          fix='kk.do on the data, with adjust=""')  # fmt: skip
    crossfit = method.fit(x, coded.codes, y, len(coded.levels), asked.seed, repetitions=1, replicates=0)
    nuisances = crossfit.nuisances._replace(outcome=mu.mean(0), outcome_draws=None, propensity_draws=None)
    crossfit = replace(crossfit, nuisances=nuisances, outcome={"the posterior": 1.0})
    whom: Whom = "average" if asked.whom == "average" else ("level", i if asked.whom == "treated" else j)
    about = _about(coded.codes, whom)
    draw = lambda mask: _corrected(nuisances, mu, mask, asked.seed, method.correction)
    means = draw(whom)
    plugin = (nuisances.outcome * about).sum(1) / about.sum()
    warnings, notes, facts = told(crossfit, means, plugin, i, j, method)
    groups = _groups(asked, rows, nuisances, draw)
    return Effect(
        treatments=asked.treatments, outcome=asked.outcome, event=asked.event, levels=coded.levels, level=i, versus=j,
        means=means, seen=seen_draws(nuisances, asked.seed), method="networks",
        exact=f"approximate: a posterior of fit, {count(PARAMETERS, 'draw')} of its parameters, corrected draw by draw",
        rows=len(y), whom=asked.whom, estimand=asked.estimand, adjust=asked.adjust, plugin=plugin,
        seen_plugin=seen_means(coded.codes, y, len(coded.levels)), plugin_name="without correction", groups=groups,
        sample=Sample(coded.codes, y, x, covariates.names), nuisances=nuisances,
        warnings=(*_warnings(answers.post, answers.rows), *warnings), notes=(*rows.notes, *notes[-1:]),
        facts={"seed": asked.seed, **facts},
    )  # fmt: skip


def _doses(asked: Asked, answers: Answers, variables: Sequence[Variable], y: Tensor) -> Effect:
    """Treatments that are numbers: the plug-in alone, at the two settings and, for one treatment, along a curve."""
    if asked.whom != "average" or asked.group:
        raise Unsupported("there are no treated of a treatment that is a number", needs="the average effect",
                          found=asked.whom, fix="leave the estimand out")  # fmt: skip
    if words := [v.name for v in variables if v.column.kind is Kind.CATEGORY]:
        raise Unsupported("a posterior does not set numbers and levels together", needs="treatments that are numbers",
                          found=f"levels of {joined(words)}", fix="one treatment at a time, or kk.do on the data"
                          )  # fmt: skip
    if asked.level is None or asked.versus is None:
        cells = variables[0].cells
        raise UsageError(
            f"'{variables[0].name}' is a number: which two settings are compared?", needs="a setting, and another",
            found=f"{float(cells.min()):g} to {float(cells.max()):g}",
            fix=f"{{'{variables[0].name}': {float(cells.max()):g}}}, versus={float(cells.min()):g}",
        )  # fmt: skip
    sides = [_numbers(side, variables) for side in (asked.level, asked.versus)]
    means = torch.stack([_bootstrapped(answers.under(side), asked.seed) for side in sides], 1)
    plugin = torch.stack([answers.under(side).mean() for side in sides])
    curve = None
    if len(variables) == 1:
        cells = variables[0].cells.double()
        values = torch.linspace(float(cells.min()), float(cells.max()), PLACES, dtype=torch.float64)
        band = torch.stack([_bootstrapped(answers.under([v]), asked.seed) for v in values.tolist()], 1)
        curve = Curve(values, band)
    t = torch.stack([v.cells.double() for v in variables], 1)
    away = torch.tensor([[s - float(t[:, k].mean()) for k, s in enumerate(side)] for side in sides])
    seen = _line(t, y, away, asked.seed)
    beyond = [
        f"{v.name} = {s:g} lies outside the rows: the network is guessing there"
        for side in sides for v, s in zip(variables, side, strict=True)
        if not float(v.cells.min()) <= s <= float(v.cells.max())
    ]  # fmt: skip
    told_ = "without correction: the interval knows nothing of what made the network smooth, and may be too narrow"
    names = tuple(label(asked.treatments, side) for side in sides)
    return Effect(
        treatments=asked.treatments, outcome=asked.outcome, event=asked.event, levels=names, level=0, versus=1,
        means=means, seen=seen, method="networks",
        exact=f"approximate: a posterior of fit, {count(PARAMETERS, 'draw')} of its parameters; no correction",
        rows=len(y), estimand=asked.estimand, adjust=asked.adjust, curve=curve,
        facts={"seed": asked.seed, "plugin": plugin.tolist()},
        warnings=(*_warnings(answers.post, answers.rows), told_, *beyond),
    )  # fmt: skip


def _line(t: Tensor, y: Tensor, away: Tensor, seed: int) -> Tensor:
    """(S, 2) what goes along with the two settings, on a straight line under Dirichlet weights."""
    x = torch.cat([torch.ones(len(t), 1, dtype=torch.float64), t - t.mean(0)], 1)
    features = torch.cat([torch.ones(2, 1, dtype=torch.float64), away.double()], 1)
    out = []
    for w in dirichlet(len(t), DRAWS, seed).split(200):
        gram, moment = torch.einsum("sn,np,nq->spq", w, x, x), (w * y) @ x
        out.append(torch.linalg.solve(gram, moment) @ features.mT)
    return torch.cat(out)


def _bootstrapped(mu: Tensor, seed: int) -> Tensor:
    """(DRAWS,) means over rows that are drawn anew, each draw of parameters in its turn; mu (S, n)."""
    drawn = dirichlet(mu.shape[1], DRAWS, seed).split(len(mu))
    return torch.cat([(w * mu[: len(w)]).mean(1) for w in drawn])


def _corrected(nuisances: Nuisances, mu: Tensor, whom: Whom, seed: int, correction: str) -> Tensor:
    """(DRAWS, K); mu (S, K, n): for each draw of parameters the one-step correction under weights of its own."""
    if correction == "targeted":
        raise Unsupported("a posterior of fit is corrected by one step", needs='correction="one-step" or "none"',
                          found=correction, fix='correction="one-step"')  # fmt: skip
    each = DRAWS // len(mu)
    out = []
    for s, outcome in enumerate(mu):
        w = dirichlet(len(nuisances.t), each, seed + 104_729 * s, nuisances.weight)
        if correction == "none":
            w = w * _about(nuisances.t, whom)
            out.append(w @ outcome.mT / w.sum(1, keepdim=True))
        else:
            out.append(average(scores(nuisances._replace(outcome=outcome), whom), w))
    return torch.cat(out)


def _about(t: Tensor, whom: Whom) -> Tensor:
    """(n,) rows that the effect is about."""
    if isinstance(whom, Tensor):
        return whom
    return torch.ones(len(t), dtype=torch.float64) if whom == "average" else (t == int(whom[1])).double()


def _groups(
    asked: Asked, rows: Rows, nuisances: Nuisances, draw: Callable[[Whom], Tensor]
) -> tuple[Group, ...]:  # fmt: skip
    if not asked.group:
        return ()
    out = []
    names, own = groups_of(rows.variables[asked.group])
    for k, value in enumerate(names):
        inside = (own == k).double()
        seen = seen_draws(nuisances._replace(weight=inside + 1e-12), asked.seed)
        out.append(Group(asked.group, value, float(inside.mean()), draw(inside), seen))
    return tuple(out)


def _numbers(side: Sequence[Value], variables: Sequence[Variable]) -> list[float]:
    try:
        return [float(v) for v in side]
    except ValueError:
        raise UsageError(f"{joined([v.name for v in variables])} cannot be set to {side}", needs="numbers",
                         found=repr(side), fix="a number for each") from None  # fmt: skip


def _column(data: Data, name: str) -> Column:
    return next(c for c in data.schema.columns if c.name == name)


def _raw(column: Column, code: int, level: str, worth: Tensor | None) -> float:
    """A level as the raw tensors of the model's rows have it."""
    if column.kind is Kind.CATEGORY:
        if level not in column.levels:
            raise DataError(f"the model never saw {column.name} = {level}", needs="levels of its training rows",
                            found=level, fix=nearest(level, column.levels))  # fmt: skip
        return float(column.levels.index(level))
    return float(code) if worth is None else float(worth[code])


def _warnings(post: Particles, data: Data) -> list[str]:
    found = []
    if len(post.herd) == 1 and not post.precision and not post.draws:
        found.append("a single network says nothing of its own ignorance: the interval is too narrow")
    if data.source.sha256 and data.source.sha256 == post.record.data.get("sha256"):
        found.append("the model was fitted on rows of this very file: it knows their outcomes, and the correction "
                     "is too small")  # fmt: skip
    return found
