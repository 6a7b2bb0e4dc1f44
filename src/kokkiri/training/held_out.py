"""Rows that no gradient sees, and how well each replica predicts them."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import vmap

from kokkiri.herd import Herd, load
from kokkiri.training.engines import Engine, Fleet, Job, of_likelihood
from kokkiri.training.plan import Plan
from kokkiri.types import LIKELIHOOD_PREFIX, Likelihood, Params

CHUNK = 4096  # rows a forward pass


@dataclass(frozen=True)
class HeldOut:
    """Rows to judge by.

    data: where the rows are. index: (R, M) which of them each replica is judged on, padded; mask: (R, M) the real ones.
    index None: all rows, for every replica. group: (R,) replicas of one group have seen the same rows, and are judged
    together, by the mixture of their predictions: networks that are each too sure may be right together.
    """

    data: Any
    index: Tensor | None = None
    mask: Tensor | None = None
    group: Tensor | None = None

    def rows(self, replica: int) -> Tensor:
        """Which rows of `data` a replica is judged on."""
        if self.index is None or self.mask is None:
            return torch.arange(len(self.data))
        return self.index[replica][self.mask[replica]]


def held_out_rows(given: Any, data: Any, weight: Tensor | None, plan: Plan) -> HeldOut | None:
    """The data that were given, else each replica's rows of weight zero when it is to be stopped by them."""
    if given is not None:
        return HeldOut(given) if len(given) else None
    if weight is None or plan.patience is None:
        return None
    out = weight == 0
    most = int(out.sum(1).amax())
    if not most:
        return None
    order = torch.argsort(out.int(), dim=1, descending=True, stable=True)[:, :most]  # held-out rows first, in order
    group = torch.unique(out, dim=0, return_inverse=True)[1]
    return HeldOut(data, order, out.gather(1, order), group if len(group.unique()) < len(group) else None)


def score(engine: Engine, job: Job, fleet: Fleet, held: HeldOut) -> Tensor:
    """(R,) mean log-likelihood of each replica, or its group, on its held-out rows; nats per row, evaluation mode."""
    module = copy.deepcopy(job.network).to(job.device).eval()
    params = job.where.views(fleet.flat)
    out, masks = [], []
    with torch.no_grad():
        for rows in torch.arange(len(fleet.flat)).split(engine.chunk):
            own = {n: t[rows.to(t.device)] for n, t in params.items()}
            buffers = {n: t[rows.to(t.device)] for n, t in fleet.buffers.items()}
            index = torch.arange(len(held.data)) if held.index is None else held.index[rows]
            mask = torch.ones(len(rows), len(held.data)) if held.mask is None else held.mask[rows]
            parts = []
            for x, y in _batches(held, index, job.device):
                output = engine.outputs(module, own, buffers, x, shared=index.ndim == 1)
                parts.append(_log_probs(job.likelihood, of_likelihood(own), output, y, shared=index.ndim == 1))
            out.append(torch.cat(parts, 1))
            masks.append(mask)
    values, mask = torch.cat(out), torch.cat(masks)
    if held.group is not None:
        values = _mixed(values, held.group)
    return torch.where(mask.bool(), values, 0.0).sum(1) / mask.sum(1)


def _mixed(values: Tensor, group: Tensor) -> Tensor:
    """(R, M) log-likelihoods -> the same, each the mixture's of its group."""
    same = (group[:, None] == group[None, :]).to(values.dtype)
    pairs = values[None, :, :] + torch.where(same > 0, 0.0, -math.inf)[:, :, None]
    return pairs.logsumexp(1) - same.sum(1).log()[:, None]


def _log_probs(likelihood: Likelihood, phi: Params, output: Tensor, y: Tensor, *, shared: bool) -> Tensor:
    """(R, B, C) -> (R, B), float64 on the CPU."""
    if len(output) == 1:
        own = {n: t[0] for n, t in phi.items()}
        return likelihood.bind(own).log_prob(output[0], y if shared else y[0])[None].double().cpu()
    lifted = vmap(lambda own, o, y: likelihood.bind(own).log_prob(o, y), (0, 0, None if shared else 0))
    return lifted(phi, output, y).double().cpu()


def row_log_likelihoods(herd: Herd, likelihood: Likelihood, held: HeldOut) -> Tensor:
    """(M,) log-likelihood of every row that some replica has not seen, under the mixture of those replicas, nats."""
    module, many = copy.deepcopy(herd.network).eval(), len(herd)
    values = torch.full((many, len(held.data)), -math.inf, dtype=torch.float64)
    with torch.no_grad():
        for r in range(many):
            rows = held.rows(r)
            device = torch.device("cpu")
            values[r, rows] = _alone(module, likelihood, _row(herd.params, r), _row(herd.buffers, r), held, r, device)
    unseen = torch.ones(many, len(held.data)) if held.index is None else torch.zeros(many, len(held.data))
    if held.index is not None and held.mask is not None:
        unseen.scatter_(1, held.index, held.mask.float())
    count = unseen.sum(0)
    mixed = torch.where(unseen.bool(), values, -math.inf).logsumexp(0) - count.log()
    return mixed[count > 0]


def _row(params: Params, r: int) -> Params:
    return {n: t[r] for n, t in params.items()}


def _alone(
    module: nn.Module, likelihood: Likelihood, own: Params, buffers: Params, held: HeldOut, r: int, device: torch.device
) -> Tensor:
    """(M,) log-likelihoods of one replica on its held-out rows, float64 on the CPU."""
    load(module, {n: t for n, t in own.items() if not n.startswith(LIKELIHOOD_PREFIX)} | buffers)
    bound = likelihood.bind(of_likelihood(own))
    parts = [bound.log_prob(module(x), y).double().cpu() for x, y in _batches(held, held.rows(r), device)]
    return torch.cat(parts)


def _batches(held: HeldOut, index: Tensor, device: torch.device) -> Iterator[tuple[Any, Tensor]]:
    for rows in index.split(CHUNK, dim=-1):
        x, y = held.data.batch(rows.reshape(-1))
        x, y = (x.to(device) if isinstance(x, Tensor) else x), y.to(device)
        yield (x.unflatten(0, rows.shape), y.unflatten(0, rows.shape)) if rows.ndim > 1 else (x, y)
