"""New data: yesterday's posterior is today's prior.

    log p(θ | old, new) = log p(new | θ) + log p(θ | old) + const,    log p(θ | old) ~ log N(θ | θ_0, H_0⁻¹)

Three levels, each said in the record:
    exact    one Newton step, where the model is linear in what moves and the noise is normal and known: Bayes' rule
    local    Newton steps of the network linearised at the old mode: its mean moves, the place of linearisation stays,
             and nothing is forgotten that the linear model knows (the old Gaussian is its own posterior); seconds
    full     descent of the network itself on the new data under the posterior as prior; the mode may go far
The precision becomes H_0 + G_new; Kronecker products of several batches are kept apart. The evidence is chained:
log p(new | old) = log p(new | θ') + log N(θ' | θ_0, H_0⁻¹) + ½ P log 2π - ½ log |H_0 + G_new|.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from kokkiri.curvature import Structure, ggn
from kokkiri.curvature.collect import Collector, collector
from kokkiri.curvature.ggn import chunk_rows, flat_index, last_layer, replica_module, tangent
from kokkiri.curvature.plan import PROBE
from kokkiri.errors import NotPositiveDefinite, Unsupported
from kokkiri.herd import Herd
from kokkiri.likelihoods import Gaussian, Rescaled
from kokkiri.numerics.operators import (
    Block,
    Blocks,
    Dense,
    LowRank,
    Rotated,
    blocks_added,
    diagonal,
    gaussian_log_density,
    symmetric,
)
from kokkiri.posteriors.evidence import flat_of, laplace_evidence, log_likelihoods, replica_params, with_theta
from kokkiri.posteriors.expected import expected_curvature
from kokkiri.training.flat import Layout, layout
from kokkiri.training.loop import Moment, train
from kokkiri.training.plan import Plan
from kokkiri.types import LIKELIHOOD_PREFIX, Likelihood, Optimizer, Params

GAP = 0.5  # nats that linearising may cost on the new rows; up to there the place of linearisation moves with the mean
STEPS = 10  # Newton steps at the most
CHUNK = 1024


@dataclass(frozen=True)
class Moved:
    """One replica after an update. evidence: log p(new | old), nats.

    noise: (2,), shape and rate of what is known of σ², where it is integrated out. theta: (P,) where the network is
    linearised. offset: (P,) from there to the mean. gap: by how many nats the network itself, moved so far, would
    say less of the new rows than the linearised one.
    """

    theta: Tensor
    offset: Tensor
    precision: Blocks
    evidence: float
    gap: float
    level: str
    diverged: bool = False
    noise: Tensor | None = None


@dataclass(frozen=True)
class Remembered:
    """A prior that is a posterior: log N(θ | centre, H⁻¹) over the free parameters of a model, in a known order.

    For training under: its gradient is -H (θ - centre), exact in all Kronecker products that H keeps apart.
    """

    elementwise: ClassVar[bool] = False

    centre: Tensor  # (P,)
    precision: Blocks
    where: Layout

    def __repr__(self) -> str:
        return f"Remembered({self.where.size:,} parameters)"

    def hyperparameters(self) -> dict[str, Tensor]:
        """None."""
        return {}

    def log_prob(self, params: Params, hyper: Params) -> Tensor:  # ruff: ignore[unused-method-argument]
        """() nats; log 0 is not said of parameters that were held fixed and moved."""
        offset = flat_of(params, self.where) - self.centre.to(params[self.where.names[0]])
        return gaussian_log_density(self.precision.to(offset.detach()), offset)

    def gradient(self, params: Params, hyper: Params) -> Params:  # ruff: ignore[unused-method-argument]
        """Of log_prob; (R, ...) where a herd is handed over."""
        first = params[self.where.names[0]]
        lead = first.shape[: first.ndim - len(self.where.shapes[0])]
        flat = torch.cat([params[n].reshape(*lead, -1) for n in self.where.names], -1)
        return self.where.views(-self.precision.mv(flat - self.centre))


def linear_in(herd: Herd, precision: Blocks, likelihood: Likelihood, x: Any) -> bool:
    """Whether the outputs are linear in all that is free, and the noise normal and known: one step is Bayes' rule."""
    inner = likelihood.inner if isinstance(likelihood, Rescaled) else likelihood
    if not isinstance(inner, Gaussian) or inner.learn:
        return False
    from kokkiri.errors import UsageError

    try:
        last = set(last_layer(replica_module(herd, 0), x))
    except UsageError:
        return False
    return set(free_names(herd, precision)) <= last


def is_whole(block: Block, prior: Tensor) -> bool:
    """Whether a block of a precision can hold the whole matrix, nothing left out. prior: its part of the prior's."""
    match block:
        case Dense():
            return True
        case LowRank():  # of fewer rows than parameters: what is beside the vectors is the prior's alone
            return torch.allclose(block.rest, prior.to(block.rest), rtol=1e-6, atol=0.0)
        case _:
            return block.size == 1


def free_names(herd: Herd, precision: Blocks) -> list[str]:
    """Names of the parameters that are not held fixed."""
    where = layout(herd.params)
    free = torch.zeros(where.size, dtype=torch.bool)
    free[precision.free] = True
    index = flat_index(where)
    return [n for n in where.names if bool(free[index(n)].any())]


@dataclass(frozen=True)
class Tangent:
    """A network linearised at a replica, and the likelihood of data under it: what local steps climb.

    What the likelihood itself learns is not linearised: its part of an offset is added to its parameters.
    """

    herd: Herd  # of one replica
    data: Any
    likelihood: Likelihood
    collect: Collector
    size: int  # rows a chunk

    def log_likelihood(self, offset: Tensor) -> float:
        """Sum of log p(y | f + J offset), nats."""
        bound = self.bound(offset)
        total = 0.0
        with torch.no_grad():
            for index in torch.arange(len(self.data)).split(self.size):
                x, y = self.data.batch(index)
                total += float(bound.log_prob(tangent(self.collect, x, offset)[0].double(), y).sum())
        return total

    def gradient(self, offset: Tensor) -> Tensor:
        """(P,) of it, float64."""
        where = layout(self.herd.params)
        out = torch.zeros(where.size, dtype=torch.float64)
        phi = {n: t.requires_grad_() for n, t in self._phi(offset).items()}
        for index in torch.arange(len(self.data)).split(self.size):
            x, y = self.data.batch(index)
            outputs, pieces = tangent(self.collect, x, offset)
            leaf = outputs.double().detach().requires_grad_()
            value = self.likelihood.bind(phi).log_prob(leaf, y).sum()
            slope, *own = torch.autograd.grad(value, [leaf, *phi.values()])
            with torch.no_grad():
                for name, piece in pieces.items():
                    out[self.collect.plan.index[name]] += piece.mixed(slope[..., None].to(outputs)).total().double()
                for name, g in zip(phi, own, strict=True):
                    out[flat_index(where)(LIKELIHOOD_PREFIX + name)] += g
        return out

    def bound(self, offset: Tensor) -> Likelihood:
        """The likelihood with its parameters moved."""
        return self.likelihood.bind(self._phi(offset))

    def at(self, offset: Tensor) -> Herd:
        """The replica with its likelihood's parameters moved, its network where it was."""
        own = {
            LIKELIHOOD_PREFIX + n: t[None].to(self.herd.params[LIKELIHOOD_PREFIX + n])
            for n, t in self._phi(offset).items()
        }
        return replace(self.herd, params=self.herd.params | own)

    def _phi(self, offset: Tensor) -> Params:
        index = flat_index(layout(self.herd.params))
        step = lambda n: offset[index(LIKELIHOOD_PREFIX + n)]
        return {n: (t[0].double() + step(n)).detach() for n, t in self.herd.likelihood_params().items()}


def tangent_of(herd: Herd, replica: int, data: Any, likelihood: Likelihood, names: Sequence[str]) -> Tangent:
    """A replica's linearisation, in the named parameters of the network."""
    one = herd[replica]
    module, x = replica_module(one, 0), data.batch(torch.arange(min(PROBE, len(data)))).x
    own = tuple(n for n in names if not n.startswith(LIKELIHOOD_PREFIX))
    collect = collector(module, x, own, flat_index(layout(herd.params)))
    with torch.no_grad():
        wide = module(x[:1]).shape[-1]
    size = chunk_rows(module, collect.plan, x, columns=wide, budget=None, dense=False)
    return Tangent(one, data, likelihood, collect, min(CHUNK, size))


def moved(
    herd: Herd, replica: int, data: Any, likelihood: Likelihood, prior: Blocks, offset: Tensor, structure: Structure,
    layers: Sequence[str], *, level: str, columns: int | None, seed: int, remove: bool = False, fold: bool = True,
) -> Moved:  # fmt: skip
    """The exact or the local level for one replica. remove: the rows are taken out instead of put in (exact only).

    fold: whether the place of linearisation follows the mean where that costs next to nothing.

    Newton's method in the linearised model, each step halved until it gains. Raises NotPositiveDefinite where rows are
    removed that were never learnt.
    """
    where = layout(herd.params)
    model = tangent_of(herd, replica, data, likelihood, layers)
    sign = -1.0 if remove else 1.0
    free = torch.zeros(where.size, dtype=torch.bool)
    free[prior.free] = True

    def curvature(now: Tensor) -> Blocks:
        return ggn(
            model.at(now), data, likelihood, structure, layers=layers, columns=columns, seed=seed, offset=now * network
        ).matrix

    network = (torch.arange(where.size) < where.split).double()
    value = lambda now: sign * model.log_likelihood(now) - 0.5 * float((now - offset) @ prior.mv(now - offset))
    now, precision = offset, _combined(prior, curvature(offset), remove=remove)
    best = value(now)
    for _ in range(1 if level == "exact" else STEPS):
        slope = torch.where(free, sign * model.gradient(now) - prior.mv(now - offset), 0.0)
        move = precision.solve(slope)
        size = 1.0
        while level != "exact" and size > 1e-3 and not value(now + size * move) >= best:
            size /= 2
        now, before = now + size * move, best
        best = value(now)
        if level != "exact":
            precision = _combined(prior, curvature(now), remove=remove)
        if best - before < 1e-2:  # nats: nothing is left to gain
            break
    likelihood_at = sign * model.log_likelihood(now)
    evidence = laplace_evidence(likelihood_at + float(gaussian_log_density(prior, now - offset)), precision)
    theta = flat_of(replica_params(herd, replica), where)
    if not fold:
        return Moved(theta, now, precision, evidence, math.nan, level)
    itself = sign * float(log_likelihoods(with_theta(herd, replica, theta + now), data, likelihood, 0).sum())
    gap = likelihood_at - itself
    if level == "exact" or abs(gap) <= GAP:
        return Moved(theta + now, torch.zeros_like(now), precision, evidence, gap, level)
    of_likelihood = now * (1 - network)  # is where it is said to be: nothing of it was linearised
    return Moved(theta + of_likelihood, now * network, precision, evidence, gap, level)


def retrained(
    herd: Herd, replica: int, data: Any, likelihood: Likelihood, prior: Blocks, offset: Tensor, structure: Structure,
    layers: Sequence[str], *, optimizer: Optimizer, plan: Plan, columns: int | None,
    expected: int, watch: Callable[[Moment], None] | None, stop: Callable[[], bool],
) -> Moved:  # fmt: skip
    """The full level for one replica: descent under the posterior as prior, then the new curvature at the new mode.

    expected: draws over which that curvature is averaged; 0: at the mode alone.
    """
    where = layout(herd.params)
    centre = flat_of(replica_params(herd, replica), where) + offset
    one = replace(with_theta(herd, replica, centre), hyper={}, weight=None, axes={"replica": 1})
    some = next(iter(one.params.values()))
    there = torch.empty(0, dtype=some.dtype, device=plan.device)
    belief = Remembered(centre.to(there), slim(prior, there), where)
    last: Moment | None = None
    for moment in train(one, data, likelihood, optimizer, belief, plan, stop=stop):
        last = moment
        if watch is not None:
            watch(moment)
    assert last is not None
    made = last.herd
    theta = flat_of(replica_params(made, 0), where)
    held = torch.ones(where.size, dtype=torch.bool)
    held[prior.free] = False
    theta = torch.where(held, centre, theta)
    here = with_theta(herd, replica, theta)
    curve = lambda one, rows: ggn(
        one, rows, likelihood, structure, layers=layers, columns=columns, seed=plan.seed, device=plan.device
    )
    precision = _added(prior, curve(here, data).matrix)
    if expected:
        averaged = expected_curvature(here, 0, data, precision, curve, draws=expected, seed=plan.seed)
        precision = _added(prior, averaged)
    value = float(log_likelihoods(with_theta(herd, replica, theta), data, likelihood, 0).sum())
    evidence = laplace_evidence(value + float(gaussian_log_density(prior, theta - centre)), precision)
    return Moved(theta, torch.zeros_like(theta), precision, evidence, math.nan, "full", bool(last.diverged))


def slim(prior: Blocks, like: Tensor) -> Blocks:
    """The matrix in the network's dtype, for products alone."""
    return prior.to(like)


def _added(prior: Blocks, new: Blocks) -> Blocks:
    """The sum. A diagonal precision is cut into the blocks of the new one; any other must have them.

    Raises Unsupported where it has not.
    """
    if [index.tolist() for index, _ in prior.parts] == [index.tolist() for index, _ in new.parts]:
        return blocks_added(prior, new)
    if not all(isinstance(b, Rotated) and b.left is None and b.right is None for _, b in prior.parts):
        raise Unsupported(
            "the curvature of new rows cannot be added to this posterior",
            needs="the precision of Laplace, LastLayer or Variational",
            found=", ".join(dict.fromkeys(type(b).__name__ for _, b in prior.parts)), fix="posterior=kk.Laplace()",
        )  # fmt: skip
    along = prior.diagonal()
    plain = lambda block: isinstance(block, Rotated) and block.left is None and block.right is None
    form = lambda own, block: diagonal(own) if plain(block) else symmetric(torch.diag(own))
    cut = Blocks(prior.size, tuple((index, form(along[index], block)) for index, block in new.parts))
    return blocks_added(cut, new)


def _combined(prior: Blocks, new: Blocks, *, remove: bool) -> Blocks:
    if not remove:
        return _added(prior, new)
    parts = []
    for (index, old), (_, own) in zip(prior.parts, new.parts, strict=True):
        matrix = old.dense() - own.dense()
        if float(torch.linalg.eigvalsh(matrix)[0]) <= 0:
            raise NotPositiveDefinite(
                "the posterior cannot forget these rows", needs="rows that it has learnt",
                found="a precision that would become negative", fix="remove rows of the data that were fitted",
            )  # fmt: skip
        parts.append((index, Dense(matrix)))
    return Blocks(prior.size, tuple(parts))
