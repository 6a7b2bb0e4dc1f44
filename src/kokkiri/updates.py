"""The verb `update`: new rows into a posterior, with what was checked on the way."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from kokkiri.curvature import Diagonal, Full, Kronecker, Structure
from kokkiri.data.core import Data
from kokkiri.errors import DataError, Unsupported, UsageError
from kokkiri.herd import Herd
from kokkiri.numerics.operators import Products, Rotated
from kokkiri.optimizers import Adam, Cosine, WarmUp
from kokkiri.posteriors.particles import Particles
from kokkiri.posteriors.updating import Moved, free_names, linear_in, moved, retrained
from kokkiri.records import Evidence, Status, Update
from kokkiri.training.flat import layout
from kokkiri.training.plan import Plan
from kokkiri.types import Optimizer
from kokkiri.verbs import check_target, interruptible, predict, progress_bar, rows_for

LEVELS = ("exact", "local", "full")
DRIFT = 3.0  # standard errors


def update(
    post: Particles,
    data: Any,
    *,
    level: str | None = None,
    optimizer: Optimizer | None = None,
    steps: int | None = None,
    epochs: float | None = None,
    batch: int | None = None,
    columns: int | None = None,
    remove: bool = False,
    force: bool = False,
    seed: int = 0,
    progress: bool = True,
) -> Particles:
    """The posterior after new data, its prior the posterior before: nothing is trained from nothing.

    level: "exact" (Bayes' rule itself: what is free is linear in the outputs and the noise is normal and known),
    "local" (of the network linearised at the old mode: what is known is kept) or "full" (descent of the network on the
    new rows under the posterior as prior, for `steps` or `epochs`). None: exact where it is, full where steps, epochs
    or an optimizer are named, else local. The record's `gap` says by how many nats the network itself differs from its
    linearisation on the new rows: where that is large, a full update or a new fit on all rows will do better. Each
    Gaussian of a mixture learns the rows, and its weight is multiplied by p(new | old) under it. columns: see
    `kk.Laplace`. remove: takes rows out again (exact only). force: learns rows a second time, or rows that are older
    than what was learnt.

    Raises DataError for rows that were learnt already or are older, Unsupported for posteriors without a spread.

    >>> import torch, kokkiri as kk
    >>> data = kk.read("concrete")
    >>> old, new = data.rows(torch.arange(800)), data.rows(torch.arange(800, 1030))
    >>> net = kk.networks.MLP(data.inputs, [], 1)
    >>> recipe = kk.Laplace("full", tune="never")
    >>> post = kk.fit(old, net, kk.Gaussian(0.6, learn=False), posterior=recipe, progress=False)
    >>> kk.update(post, new, progress=False).record.updates[0].level
    'exact'
    """
    began, clock = time.process_time(), time.perf_counter()
    if level is not None and level not in LEVELS:
        raise UsageError(
            f"there is no level {level!r}", needs=" or ".join(LEVELS), found=level, fix="level=None chooses"
        )
    if not post.precision:
        raise Unsupported(
            f"{post!r} cannot be updated", needs="a posterior with a spread: it says how firmly each weight is known",
            found="points", fix="fit with posterior=kk.Laplace(); on the command line: --posterior laplace",
        )  # fmt: skip
    rows = rows_for(post, data)
    check_target(post.likelihood, rows)
    assert rows.y is not None
    digest, until = digest_of(rows), last_days(rows)
    if not force:
        _refuse(post, rows, digest, until, remove=remove)
    said = predict(post, rows).log_prob(rows.y).double()
    results = _moved(
        post, rows, level, remove=remove, columns=columns, seed=seed, optimizer=optimizer, steps=steps, epochs=epochs,
        batch=batch, progress=progress,
    )  # fmt: skip
    evidences = torch.tensor([m.evidence for m in results], dtype=torch.float64)
    herd = _herd(post.herd, results)
    chained = float(torch.logsumexp(post.log_weight + evidences, 0))
    if not math.isfinite(chained):
        raise DataError(
            "the update gave no finite evidence", needs="rows that the old posterior holds possible",
            found=Status.INFINITE_EVIDENCE.value,
            fix="look at the rows; kk.predict(post, rows) shows which are impossible",
        )  # fmt: skip
    entry = _entry(post, rows, results, said, chained, digest, until, time.process_time() - began)
    record = replace(
        post.record, updates=(*post.record.updates, entry), seconds=post.record.seconds + entry.seconds,
        wall=post.record.wall + time.perf_counter() - clock, notes=_notes(post, rows, entry),
    )  # fmt: skip
    old = post.evidence
    evidence = None
    if old is not None:
        method = f"{old.method}, {'' if entry.exact else 'approximately '}chained"
        n = old.rows - len(rows) if remove else old.rows + len(rows)
        evidence = Evidence(old.nats + chained, n, method.replace(", chained, ", ", "), old.exact and entry.exact)
    weight = torch.log_softmax(post.log_weight + evidences, 0)
    precision, offset = tuple(m.precision for m in results), torch.stack([m.offset for m in results])
    return replace(
        post, herd=herd, log_weight=weight, precision=precision, record=record, evidence=evidence,
        offset=offset if bool(offset.any()) else None,
    )  # fmt: skip


def recommended(post: Particles, data: Data) -> str:
    """Which level an update with these rows would take, for the asking."""
    x = data.batch(torch.arange(min(3, len(data)))).x
    return "exact" if linear_in(post.herd, post.precision[0], post.likelihood, x) else "local"


def digest_of(data: Data) -> str:
    """SHA-256 of the rows themselves: inputs as read, and targets."""
    digest = hashlib.sha256()
    for name in sorted(n for n in data.raw if not n.startswith("row:")):
        digest.update(name.encode())
        digest.update(data.raw[name].detach().cpu().contiguous().numpy().tobytes())
    if data.y is not None:
        digest.update(data.y.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def last_days(data: Data) -> dict[str, float]:
    """The last day in each column of dates, counted from 1970."""
    if data.schema is None:
        return {}
    names = [c.name for c in data.schema.columns if c.kind.value == "date" and c.used and c.name in data.raw]
    last = {n: data.raw[n].double() for n in names}
    return {n: float(t[t.isfinite()].max()) for n, t in last.items() if bool(t.isfinite().any())}


def _refuse(post: Particles, rows: Data, digest: str, until: Mapping[str, float], *, remove: bool) -> None:
    known = {u.sha256: u.source for u in post.record.updates} | {
        str(post.record.data.get("rows sha256", "")): "the fit"
    }
    if digest in known and not remove:
        raise DataError(
            f"the posterior has learnt these rows of {rows.source.name} already", needs="rows that are new",
            found=f"the rows of {known[digest]}",
            fix="leave them out; --force learns them a second time, and is too sure",
        )  # fmt: skip
    learnt = dict(post.record.data.get("until", {}))
    for u in post.record.updates:
        learnt |= {n: max(day, learnt.get(n, day)) for n, day in u.until.items()}
    for name, day in until.items():
        if name in learnt and day < learnt[name] and not remove:
            raise DataError(
                f"{rows.source.name} is older than what the posterior has learnt",
                needs=f"rows with {name} after the last",
                found=f"{name} ends {learnt[name] - day:,.0f} days before",
                fix="update in the order of time, or --force",
            )  # fmt: skip


def _moved(
    post: Particles, rows: Data, level: str | None, *, remove: bool, columns: int | None, seed: int,
    optimizer: Optimizer | None, steps: int | None, epochs: float | None, batch: int | None, progress: bool,
) -> list[Moved]:  # fmt: skip
    structure, layers = structure_of(post), tuple(free_names(post.herd, post.precision[0]))
    exact = recommended(post, rows) == "exact"
    if level == "exact" and not exact:
        raise Unsupported(
            "this posterior has no exact update", needs="outputs linear in what is free, and Gaussian(learn=False)",
            found=repr(post), fix="level=None, or Laplace('full', layers='last') with a known noise",
        )  # fmt: skip
    if remove and not exact:
        raise Unsupported(
            "rows can be removed exactly or not at all", needs="a linear or last-layer posterior with known noise",
            found=repr(post), fix="fit again without the rows",
        )  # fmt: skip
    offsets = torch.zeros(len(post.herd), layout(post.herd.params).size, dtype=torch.float64)
    offsets = offsets if post.offset is None else post.offset
    descends = optimizer is not None or steps is not None or epochs is not None
    how = level or ("exact" if exact else "full" if descends else "local")
    many = range(len(post.herd))
    if how != "full":
        return [
            moved(
                post.herd, r, rows, post.likelihood, post.precision[r], offsets[r], structure, layers, level=how,
                columns=columns, seed=seed, remove=remove,
            )
            for r in many
        ]  # fmt: skip
    plan = _plan(len(rows), steps, epochs, batch, seed)
    found = []
    with interruptible() as stopped:
        for r in many:
            with progress_bar(plan.steps, f"update {r + 1} of {len(many)}", shown=progress) as watch:
                found.append(
                    retrained(
                        post.herd, r, rows, post.likelihood, post.precision[r], offsets[r], structure, layers,
                        optimizer=optimizer or Adam(lr=1e-3), plan=plan, columns=columns, watch=watch, stop=stopped,
                    )
                )  # fmt: skip
    return found


def structure_of(post: Particles) -> Structure:
    """The structure that a posterior's precision has."""
    blocks = [b for index, b in post.precision[0].parts if int(index.min()) < layout(post.herd.params).split]
    if any(isinstance(b, Products) for b in blocks):
        return Kronecker()
    if all(isinstance(b, Rotated) and b.left is None and b.right is None for b in blocks):
        return Diagonal()
    if any(isinstance(b, Rotated) for b in blocks):
        return Kronecker(corrected=True)
    return Full()


def _plan(n: int, steps: int | None, epochs: float | None, batch: int | None, seed: int) -> Plan:
    size = min(n, batch or (32 if n < 1000 else 128 if n < 20000 else 256))
    each = math.ceil(n / size)
    wide = 100 if n < 1000 else 40 if n < 20000 else 10
    return Plan(steps or max(200, round((epochs or wide) * each)), size, seed, schedule=WarmUp(0.05, Cosine()))


def _herd(herd: Herd, results: list[Moved]) -> Herd:
    where = layout(herd.params)
    flat = torch.stack([m.theta for m in results])
    own: dict[str, Tensor] = where.views(flat)
    return replace(herd, params={n: own[n].to(t.dtype).clone() for n, t in herd.params.items()}, weight=None)


def _entry(
    post: Particles, rows: Data, results: list[Moved], said: Tensor, chained: float, digest: str,
    until: dict[str, float], seconds: float,
) -> Update:  # fmt: skip
    mean, se = float(said.mean()), float(said.std() / len(said) ** 0.5) if len(said) > 1 else math.nan
    expected, expected_se = _expected(post)
    drift = None
    if expected is not None and math.isfinite(se):
        drift = (mean - expected) / max(math.hypot(se, expected_se), 1e-12)
    levels = {m.level for m in results}
    level = next(x for x in reversed(LEVELS) if x in levels)
    gaps = [m.gap for m in results if math.isfinite(m.gap)]
    return Update(
        rows.source.name, digest, len(rows), level, chained, mean, se, expected, drift, max(gaps) if gaps else None,
        level == "exact", seconds, until,
    )  # fmt: skip


def _expected(post: Particles) -> tuple[float | None, float]:
    """What rows that the model had not seen were predicted with: of the last update, else of the report's test rows."""
    if post.record.updates:
        last = post.record.updates[-1]
        return last.per_row, last.se if math.isfinite(last.se) else 0.0
    found = post.facts.get("evaluation")
    if found is None:
        return None, 0.0
    return float(found["log_likelihood"]["value"]), float(found["log_likelihood"]["se"] or 0.0)


def _notes(post: Particles, rows: Data, entry: Update) -> tuple[str, ...]:
    notes = list(post.record.notes)
    if entry.drift is not None and entry.drift < -DRIFT:
        notes.append(
            f"{entry.source}: its rows are predicted worse than expected, {entry.per_row:.3f} nats a row against "
            f"{entry.expected:.3f} ({-entry.drift:.1f} standard errors): the world, or the data, may have changed"
        )
    notes += [n for n in rows.notes if n not in notes]
    return tuple(notes)
