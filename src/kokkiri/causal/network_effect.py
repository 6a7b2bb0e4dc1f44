"""Effects by networks: whatever their shape, outcome and treatment are learnt, and the effect is corrected for both.

Each row is predicted by networks that have not seen it; the one-step correction takes out, to first order, what their
errors do to the effect, and the Bayesian bootstrap of the corrected rows is its posterior (`numerics.effects`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from kokkiri.causal.along import along
from kokkiri.causal.asked import Asked
from kokkiri.causal.covariates import encoded
from kokkiri.causal.design import worth_of
from kokkiri.causal.effect import Effect
from kokkiri.causal.networks import CrossFit, network_nuisances
from kokkiri.causal.quantities import Curve, Group, Sample
from kokkiri.causal.settings import settings_of
from kokkiri.causal.solvers import how_many
from kokkiri.causal.variables import Rows
from kokkiri.data.encoders import fit_tensor
from kokkiri.errors import DataError, Unsupported, UsageError
from kokkiri.numerics.effects import Kind, Nuisances, dirichlet, plug_in, posterior
from kokkiri.numerics.heads import Replicates
from kokkiri.numerics.one_step import Estimates, estimates, parts
from kokkiri.numerics.targeted import targeted_posterior
from kokkiri.phrases import count, joined, percent, plain
from kokkiri.types import Likelihood

DRAWS = 4000
FAR = 2.0  # posterior standard deviations between plug-in and correction, from which on neither is to be trusted
SURE = 0.7  # slope of the propensity's calibration below which it was too sure of itself
FEW = 10  # rows of a level below which nothing is learnt of it
CORRECTIONS = ("one-step", "targeted", "none")


@dataclass(frozen=True)
class Networks:
    """The method, with its settings.

    network, propensity: functions that make a network of so many outputs (any nn.Module), for the outcome and for the
    treatment; by default small ones that believe few inputs to matter. likelihood: of the outcome. folds, repetitions:
    of the cross-fit. replicates: how often all is repeated on drawn outcomes, which tells what errors remain. steps: of
    training. correction: "one-step", "targeted" (the predictions themselves are moved), or "none" (whose intervals are
    too narrow). What is None is left to `network_nuisances`.
    """

    network: Callable[[int], nn.Module] | None = None
    propensity: Callable[[int], nn.Module] | None = None
    likelihood: Likelihood | None = None
    folds: int | None = None
    repetitions: int | None = None
    replicates: int | None = None
    steps: int | None = None
    correction: str = "one-step"

    def __post_init__(self) -> None:
        if self.correction not in CORRECTIONS:
            raise UsageError(f"there is no correction '{self.correction}'", needs=joined([*CORRECTIONS]),
                             found=repr(self.correction), fix='correction="one-step"')  # fmt: skip

    def fit(self, x: Tensor, t: Tensor, y: Tensor, levels: int, seed: int, **more: Any) -> CrossFit:
        """Nuisances with these settings; `more` goes before them."""
        wanted = {name: getattr(self, name) for name in ("folds", "repetitions", "replicates", "steps")}
        given = {name: value for name, value in wanted.items() if value is not None} | more
        return network_nuisances(
            x,
            t,
            y,
            self.likelihood,
            levels=levels,
            network=self.network,
            propensity=self.propensity,
            seed=seed,
            **given,
        )


@dataclass(frozen=True, eq=False)
class NetworkOrigin:
    """What was given to the networks. features: (F, n, D) of their last hidden layer, for heads solved again."""

    x: Tensor
    features: Tensor
    level: int
    versus: int
    levels: int
    whom: str
    method: Networks
    seed: int
    floor: float
    facts: Mapping[str, Any] = field(default_factory=dict)

    def more(self, effect: Effect, new: Any, *, force: bool = False) -> Effect:
        """Networks would have to be trained again."""
        del new, force
        raise Unsupported(
            "an effect of networks has no sums that new rows could be added to",
            needs="discrete, means, linear or instrument", found=effect.method, fix="call kk.do on all rows together",
        )  # fmt: skip

    def refit(self, given: Replicates) -> Estimates:
        """Effects of replicates, each with networks of its own."""
        found: list[Estimates] = []
        many = how_many(given)
        at = lambda tensor, r: tensor[r if len(tensor) > 1 else 0]
        if given.extra is not None and self.x.ndim > 2:
            raise Unsupported("pictures take no further column", needs="columns", found=str(tuple(self.x.shape)),
                              fix="other refuters than 'cause'")  # fmt: skip
        for r in range(many):
            t, y, w = (at(v, r) for v in given[:3])
            x = self.x if given.extra is None else torch.cat([self.x, at(given.extra, r).to(self.x)[:, None]], 1)
            kept = w > 0
            fit = self.method.fit(
                x[kept], t[kept], y[kept], self.levels, self.seed + 1 + r, repetitions=1, replicates=0, weight=w[kept]
            ).nuisances
            rows = parts(fit.t[None], fit.y[None], fit.outcome[None], fit.propensity[None], self.level, self.versus,
                         self.whom, self.floor)  # fmt: skip
            found.append(estimates(rows, w[kept][None].double()))
        return Estimates(*(torch.cat(column) for column in zip(*found, strict=True)))


def networks(asked: Asked, rows: Rows, adjust: Sequence[str], method: Networks) -> Effect:
    """The posterior of the effect by networks."""
    levels, t, level, version = settings_of(asked, rows)
    _must_suffice(t, levels)
    outcome = rows.variables[asked.outcome]
    y = worth_of(outcome, outcome.column, asked.event)
    x, names = _inputs(rows, adjust)
    more = {} if method.correction == "one-step" else {"replicates": 0}
    crossfit = method.fit(x, t, y, len(levels), asked.seed, **more)
    nuisances = crossfit.nuisances
    whom: Kind = "average" if asked.whom == "average" else ("level", level if asked.whom == "treated" else version)
    draw = _drawer(method, asked.seed)
    means, plugin = draw(nuisances, whom), plug_in(nuisances, whom)
    groups = _groups(asked, rows, nuisances, draw)
    sample = Sample(t, y, torch.empty(len(t), 0) if x.ndim > 2 else x, names)
    warnings, notes, facts = told(crossfit, means, plugin, level, version, method)
    origin = NetworkOrigin(
        x, crossfit.features, level, version, len(levels), asked.whom, method, asked.seed, crossfit.least
    )
    return Effect(
        treatments=asked.treatments, outcome=asked.outcome, event=asked.event, levels=levels, level=level,
        versus=version, means=means, seen=seen_draws(nuisances, asked.seed), method="networks",
        exact=_exact(crossfit, method), rows=len(t), whom=asked.whom, estimand=asked.estimand, adjust=asked.adjust,
        plugin=plugin, seen_plugin=_seen_means(t, y, len(levels)), plugin_name="without correction", groups=groups,
        along=_along(asked, rows, nuisances, level, version), sample=sample, nuisances=nuisances, origin=origin,
        warnings=warnings, notes=(*rows.notes, *notes),
        facts={"seed": asked.seed, **facts},
    )  # fmt: skip


def _inputs(rows: Rows, adjust: Sequence[str]) -> tuple[Tensor, tuple[str, ...]]:
    """What the networks are given, and names of its columns."""
    tensors = [name for name in adjust if rows.tensors and name in rows.tensors]
    if tensors and rows.tensors is not None:
        if len(tensors) < len(adjust):
            raise Unsupported(
                "pictures and columns cannot be adjusted for together", needs="one or the other",
                found=joined(list(adjust)), fix="leave the columns out, or put them into the tensor",
            )  # fmt: skip
        raw = rows.tensors[tensors[0]]
        raw = raw.float() if raw.dtype == torch.uint8 else raw
        return fit_tensor(raw)({"x": raw}), ()  # pixels have no names
    covariates, x = encoded(rows, adjust)
    if not covariates.names:
        raise DataError(
            "nothing that is adjusted for varies", needs="a column with two values",
            found=joined(list(adjust)) or "nothing", fix="method='means', where the treatment was drawn by lot",
        )  # fmt: skip
    return x, covariates.names


def _must_suffice(t: Tensor, levels: Sequence[str]) -> None:
    """An error where a level has hardly any rows."""
    counts = torch.bincount(t, minlength=len(levels))
    few = int(counts.argmin())
    if int(counts[few]) < FEW:
        raise DataError(
            f"there are too few rows with {levels[few]} for networks", needs=f"{FEW} rows of each level",
            found=f"{int(counts[few])} of {len(t):,}", fix="--method linear, or leave those rows out",
        )  # fmt: skip


def _drawer(method: Networks, seed: int) -> Callable[[Nuisances, Kind], Tensor]:
    """(S, K) draws of the means of those whom the effect is about."""
    if method.correction == "one-step":
        return lambda nuisances, whom: posterior(nuisances, whom, DRAWS, seed)
    if method.correction == "targeted":
        return lambda nuisances, whom: targeted_posterior(nuisances, whom, DRAWS // 4, seed)
    return lambda nuisances, whom: _uncorrected(nuisances, whom, seed)


def _uncorrected(nuisances: Nuisances, whom: Kind, seed: int) -> Tensor:
    """The outcome model alone, over rows that are drawn anew."""
    out = [
        torch.stack([plug_in(nuisances._replace(weight=one), whom) for one in w])
        for w in dirichlet(len(nuisances.t), DRAWS // 4, seed, nuisances.weight).split(100)
    ]
    return torch.cat(out)


def _seen_means(t: Tensor, y: Tensor, levels: int) -> Tensor:
    had = torch.nn.functional.one_hot(t, levels).double()
    return (had * y[:, None]).sum(0) / had.sum(0)


def seen_draws(nuisances: Nuisances, seed: int) -> Tensor:
    """(S, K) of E[Y | t]: the Bayesian bootstrap of the levels' means, with the weights that the effect has."""
    had = torch.nn.functional.one_hot(nuisances.t, nuisances.levels).double()
    out = []
    for k, start in enumerate(range(0, DRAWS, 500)):
        w = dirichlet(len(had), min(500, DRAWS - start), seed + 7919 * k, nuisances.weight)
        out.append((w @ (had * nuisances.y[:, None])) / (w @ had))
    return torch.cat(out)


def _along(asked: Asked, rows: Rows, nuisances: Nuisances, level: int, versus: int) -> tuple[str, Curve] | None:
    if not asked.along:
        return None
    return asked.along, along(nuisances, rows.variables[asked.along], level, versus, asked.seed)


def _groups(
    asked: Asked, rows: Rows, nuisances: Nuisances, draw: Callable[[Nuisances, Kind], Tensor]
) -> tuple[Group, ...]:
    """The effect among rows with each value of a column."""
    if not asked.group:
        return ()
    coded = rows.variables[asked.group].coded()
    if coded is None:
        raise Unsupported(f"'{asked.group}' makes no groups", needs="a column of few values",
                          found=rows.variables[asked.group].column.reason, fix="cut it into categories")  # fmt: skip
    out = []
    for k, value in enumerate(coded.levels):
        inside = coded.codes == k
        own = torch.bincount(nuisances.t[inside], minlength=nuisances.levels)
        if int(own.min()) < 2:
            raise DataError(
                f"too few rows where {asked.group} is {value}", needs="two rows of each level in each group",
                found=joined(list(map(str, own.tolist()))), fix="larger groups, or the average effect",
            )  # fmt: skip
        there = nuisances._replace(weight=inside.double() + 1e-12)
        out.append(Group(asked.group, value, float(inside.double().mean()), draw(nuisances, inside.double()),
                         seen_draws(there, asked.seed)))  # fmt: skip
    return tuple(out)


def _exact(crossfit: CrossFit, method: Networks) -> str:
    facts = crossfit.facts
    how = {"one-step": "one-step correction and Bayesian bootstrap", "targeted": "targeted predictions, bootstrapped",
           "none": "no correction, only rows are drawn anew: too narrow"}[method.correction]  # fmt: skip
    many = count(int(facts["networks"]), "network")
    return f"approximate: {how}; {many} of {facts['folds']} folds, each row by those that have not seen it"


def told(
    crossfit: CrossFit, means: Tensor, plugin: Tensor, level: int, versus: int, method: Networks
) -> tuple[tuple[str, ...], tuple[str, ...], dict[str, Any]]:
    """Warnings, notes and facts of a cross-fit."""
    draws = means[:, level] - means[:, versus]
    gap = float(plugin[level] - plugin[versus]) - float(draws.mean())
    spread = float(draws.std())
    warnings = []
    if method.correction == "none":
        warnings.append("without correction the interval is too narrow: it knows nothing of the networks' errors")
    elif abs(gap) > FAR * spread:
        warnings.append(f"the correction moves the effect by {abs(gap) / spread:.1f} posterior standard deviations: "
                        "one of the two models is wrong; do not trust the number alone")  # fmt: skip
    if crossfit.slope < SURE:
        warnings.append(f"the propensity was too sure of itself before calibration: slope {crossfit.slope:.2f}")
    mixed = lambda weights: joined([f"{name} {percent(w, 0)}" for name, w in weights.items() if w > 0.005])
    notes = [f"outcome: {mixed(crossfit.outcome)}; treatment: {mixed(crossfit.propensity)}"]
    ours, guess = crossfit.score
    notes.append(f"the treatment is foretold at {plain(ours)} nats a row, {plain(guess)} without looking")
    facts = {**crossfit.facts, "gap": gap, "calibration slope": crossfit.slope, "clipped": crossfit.raised,
             "least propensity": crossfit.least, "outcome candidates": dict(crossfit.outcome),
             "propensity candidates": dict(crossfit.propensity)}  # fmt: skip
    assert math.isfinite(gap)
    return tuple(warnings), tuple(notes), facts
