"""Effects by networks: whatever their shape, outcome and treatment are learnt, and the effect is corrected for both.

Each row is predicted by networks that have not seen it; the one-step correction takes out, to first order, what their
errors do to the effect, and the Bayesian bootstrap of the corrected rows is its posterior (`numerics.effects`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from kokkiri.causal.along import along
from kokkiri.causal.asked import Asked
from kokkiri.causal.effect import Effect
from kokkiri.causal.foretelling import drifted, recalibrated, with_heads
from kokkiri.causal.network_rows import Block, Reader, reader_of
from kokkiri.causal.network_words import far_apart, foretold_by, how_well
from kokkiri.causal.networks import CrossFit, embedded, is_columns, network_nuisances, whole
from kokkiri.causal.quantities import Group, Sample
from kokkiri.causal.rare_levels import rare_levels
from kokkiri.causal.settings import settings_of
from kokkiri.causal.solvers import how_many
from kokkiri.causal.variables import Rows
from kokkiri.errors import DataError, Unsupported, UsageError
from kokkiri.numerics.effects import Kind, Nuisances, bootstrap_weights, dirichlet, plug_in, posterior
from kokkiri.numerics.heads import Replicates
from kokkiri.numerics.one_step import Estimates, estimates, parts
from kokkiri.numerics.targeted import targeted_posterior
from kokkiri.phrases import count, joined
from kokkiri.types import Likelihood

DRAWS = 4000
SURE = 0.7  # slope of the propensity's calibration below which it was too sure of itself
LEAST = {"folds": 2, "repetitions": 1, "replicates": 0, "steps": 1}
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
        for name, least in LEAST.items():
            many = getattr(self, name)
            if many is not None and (not isinstance(many, int) or many < least):
                raise UsageError(f"networks have no {name}={many}", needs=f"a whole number of at least {least}",
                                 found=repr(many), fix=f"leave {name} out")  # fmt: skip

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
    """The first rows' networks, which stay, and all rows so far. many: the rows that the networks have seen."""

    reader: Reader
    method: Networks
    crossfit: CrossFit
    block: Block
    nuisances: Nuisances
    many: int
    sources: tuple[str, ...]
    level: int
    versus: int
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def more(self, effect: Effect, new: Any, *, force: bool = False) -> Effect:
        """The effect from the old rows and the new ones, which no network has seen: all foretell them together.

        The posterior is that of all rows' scores, as if they had come at once. The networks stay, what they foretell is
        a feature, and the lines on it are solved from all rows (`with_heads`).
        """
        block, rows = self.reader.new(new, self.sources, force=force)
        if self.method.network is not None and not block.x.is_floating_point():
            whole(block.x, self.method.network)
        said, warnings = recalibrated(self.crossfit.foreteller(block.x), block.t)
        first = self.nuisances.outcome, self.nuisances.t, self.nuisances.y
        warnings = [*rows.lost, *warnings, *drifted(first, (said.outcome, block.t, block.y), effect.levels)]
        n, old = len(block.t), self.nuisances
        fold = (torch.arange(n) + len(old.t)) % int(self.crossfit.facts["folds"])
        both = lambda *pair: torch.cat(pair, -1)
        nuisances = old._replace(
            t=both(old.t, block.t), y=both(old.y, block.y), fold=both(old.fold, fold),
            outcome=both(old.outcome, said.outcome), propensity=both(old.propensity, said.propensity),
            outcome_draws=None if said.outcome_draws is None else both(old.outcome_draws, said.outcome_draws),
            propensity_draws=None if said.propensity_draws is None else both(
                old.propensity_draws, said.propensity_draws
            ),
        )  # fmt: skip
        asked = replace(self.reader.asked, whom=effect.whom)  # as the pair that is compared now calls them
        more = replace(
            self, reader=replace(self.reader, asked=asked), level=effect.level, versus=effect.versus,
            block=self.block.and_then(block), nuisances=nuisances, notes=rows.notes,
            sources=(*self.sources, rows.digest), warnings=(*self.warnings, *warnings),
        )  # fmt: skip
        return computed(more)

    def refit(self, given: Replicates, level: int, versus: int, whom: str = "average") -> Estimates:
        """Effects of replicates, each with networks of its own."""
        found: list[Estimates] = []
        many, x = how_many(given), self.block.x
        asked, levels = self.reader.asked, len(self.reader.levels)
        at = lambda tensor, r: tensor[r if len(tensor) > 1 else 0]
        if given.extra is not None and not is_columns(x):
            raise Unsupported("pictures and tokens take no further column", needs="columns", found=str(tuple(x.shape)),
                              fix="other refuters than 'cause'")  # fmt: skip
        for r in range(many):
            t, y, w = (at(v, r) for v in given[:3])
            own = x if given.extra is None else torch.cat([x, at(given.extra, r).to(x)[:, None]], 1)
            kept = w > 0
            fit = self.method.fit(
                own[kept], t[kept], y[kept], levels, asked.seed + 1 + r, repetitions=1, replicates=0, weight=w[kept]
            ).nuisances
            rows = parts(fit.t[None], fit.y[None], fit.outcome[None], fit.propensity[None], level, versus,
                         whom, self.crossfit.least)  # fmt: skip
            found.append(estimates(rows, w[kept][None].double()))
        return Estimates(*(torch.cat(column) for column in zip(*found, strict=True)))


def networks(asked: Asked, rows: Rows, adjust: Sequence[str], method: Networks) -> Effect:
    """The posterior of the effect by networks."""
    names, t, level, versus = settings_of(asked, rows)
    rare = rare_levels(names, t, level, versus)
    if rare.gone is not None:
        rows = rows.take(~rare.gone)
    tokens = method.network is not None and embedded(method.network) > 0
    reader = reader_of(asked, rows, adjust, rare, tokens=tokens)
    block, levels = reader.block(rows), reader.levels
    level, versus = (levels.index(names[k]) for k in (level, versus))
    more = {} if method.correction == "one-step" else {"replicates": 0}
    crossfit = method.fit(block.x, block.t, block.y, len(levels), asked.seed, **more)
    origin = NetworkOrigin(
        reader, method, crossfit, block, crossfit.nuisances, len(block.t), (rows.digest,), level, versus,
        rare.warnings, rows.notes,
    )  # fmt: skip
    return computed(origin)


def computed(origin: NetworkOrigin) -> Effect:
    """The effect of all rows so far."""
    asked, reader, block = origin.reader.asked, origin.reader, origin.block
    later = len(block.t) > origin.many
    nuisances = with_heads(origin.nuisances, event=bool(asked.event)) if later else origin.nuisances
    method, crossfit, level, versus = origin.method, origin.crossfit, origin.level, origin.versus
    whom: Kind = "average" if asked.whom == "average" else ("level", level if asked.whom == "treated" else versus)
    draw = _drawer(method, asked.seed)
    means, plugin = draw(nuisances, whom), plug_in(nuisances, whom)
    warnings, notes, facts = told(crossfit, means, plugin, level, versus, method)
    if later:
        seen = f"the networks have seen the first {origin.many:,} of {count(len(block.t), 'row')}"
        notes = (*notes, f"{seen}: kk.do on all rows together trains them anew")
        facts = {**facts, "rows": len(block.t), "rows that the networks have seen": origin.many}
    curve = None
    if asked.along and block.by is not None:
        curve = asked.along, along(nuisances, block.by, asked.along, level, versus, asked.seed)
    x = block.x if is_columns(block.x) else torch.empty(len(block.t), 0)
    return Effect(
        treatments=asked.treatments, outcome=asked.outcome, event=asked.event, levels=reader.levels, level=level,
        versus=versus, means=means, seen=seen_draws(nuisances, asked.seed), method="networks",
        exact=_exact(crossfit, method), rows=len(block.t), whom=asked.whom, estimand=asked.estimand,
        adjust=asked.adjust, plugin=plugin, seen_plugin=seen_means(block.t, block.y, len(reader.levels)),
        plugin_name="without correction", groups=_groups(reader, block, nuisances, draw), along=curve,
        sample=Sample(block.t, block.y, x, reader.names), nuisances=nuisances, origin=origin,
        warnings=(*origin.warnings, *warnings), notes=(*origin.notes, *reader.rare.notes, *notes),
        facts={"seed": asked.seed, **facts},
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


def seen_means(t: Tensor, y: Tensor, levels: int) -> Tensor:
    """(K,) mean outcomes of the rows that had each level."""
    had = torch.nn.functional.one_hot(t, levels).double()
    return (had * y[:, None]).sum(0) / had.sum(0)


def seen_draws(nuisances: Nuisances, seed: int) -> Tensor:
    """(S, K) of E[Y | t]: the Bayesian bootstrap of the levels' means, with the weights of the one-step correction."""
    had = torch.nn.functional.one_hot(nuisances.t, nuisances.levels).double()
    weights = bootstrap_weights(len(had), DRAWS, seed, nuisances.weight)
    return torch.cat([(w @ (had * nuisances.y[:, None])) / (w @ had) for w in weights])


def _groups(
    reader: Reader, block: Block, nuisances: Nuisances, draw: Callable[[Nuisances, Kind], Tensor]
) -> tuple[Group, ...]:
    """The effect among rows with each value of a column."""
    out, name = [], reader.asked.group
    for k, value in enumerate(reader.groups):
        inside = block.by == k
        own = torch.bincount(nuisances.t[inside], minlength=nuisances.levels)
        if int(own.min()) < 2:
            raise DataError(
                f"too few rows where {name} is {value}", needs="two rows of each level in each group",
                found=joined(list(map(str, own.tolist()))), fix="larger groups, or the average effect",
            )  # fmt: skip
        there = nuisances._replace(weight=inside.double() + 1e-12)
        out.append(Group(name, value, float(inside.double().mean()), draw(nuisances, inside.double()),
                         seen_draws(there, reader.asked.seed)))  # fmt: skip
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
    else:
        warnings += far_apart(gap, spread)
    if crossfit.slope < SURE:
        warnings.append(f"the propensity was too sure of itself before calibration: slope {crossfit.slope:.2f}")
    notes = (foretold_by("the outcome", crossfit.outcome), foretold_by("the treatment", crossfit.propensity),
             how_well(*crossfit.score))  # fmt: skip
    facts = {**crossfit.facts, "gap": gap, "calibration slope": crossfit.slope, "clipped": crossfit.raised,
             "least propensity": crossfit.least, "outcome candidates": dict(crossfit.outcome),
             "propensity candidates": dict(crossfit.propensity)}  # fmt: skip
    assert math.isfinite(gap)
    return tuple(warnings), notes, facts
