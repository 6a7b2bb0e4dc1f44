"""The verb `update`: new rows into a posterior, with what was checked on the way."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from kokkiri.curvature import Diagonal, Full, Kronecker, Structure, TopEigen
from kokkiri.data.core import Data
from kokkiri.data.digest import days_of, digest_of
from kokkiri.errors import DataError, Unsupported, UsageError
from kokkiri.herd import Herd
from kokkiri.numerics.operators import Inverse, Products, Rotated
from kokkiri.optimizers import Adam, Cosine, WarmUp
from kokkiri.phrases import date_of
from kokkiri.posteriors.evidence import flat_of, prior_precision, replica_params
from kokkiri.posteriors.last_layer import learnt
from kokkiri.posteriors.particles import Particles
from kokkiri.posteriors.updating import Moved, free_names, is_whole, linear_in, moved, retrained
from kokkiri.records import Evidence, Record, Status, Update
from kokkiri.training.flat import layout
from kokkiri.training.plan import Plan
from kokkiri.types import Optimizer
from kokkiri.verbs import check_target, classes_of, interruptible, predict, progress_bar, rows_for

LEVELS = ("exact", "local", "full")
DRAWS = 4  # of the posterior, over which a full update averages the curvature
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
    expected: int | None = None,
    remove: bool = False,
    force: bool = False,
    seed: int = 0,
    device: str = "cpu",
    progress: bool = True,
) -> Particles:
    """The posterior after new data, its prior the posterior before: nothing is trained from nothing.

    level: "exact" (Bayes' rule itself: what is free is linear in the outputs and the noise is normal and known),
    "local" (of the network linearised at the old mode: what is known is kept) or "full" (descent of the network on the
    new rows under the posterior as prior, for `steps` or `epochs`). None: exact where it is, full where steps, epochs
    or an optimizer are named, else local. The record's `gap` says by how many nats the network itself differs from its
    linearisation on the new rows: where that is large, a full update or a new fit on all rows will do better. Each
    Gaussian of a mixture learns the rows, and its weight is multiplied by p(new | old) under it. columns: see
    `kk.Laplace`. expected: draws over which a full update averages the curvature of the new rows (see `kk.Laplace`;
    default: 4, and 0 where the whole matrix is kept). remove: takes rows out again (exact only). force: learns rows a
    second time, or rows that are older than what was learnt. Interrupted, it raises KeyboardInterrupt: half an update
    is no posterior.

    Raises DataError for rows that were learnt already, rows older than all of a batch that was learnt, and rows without
    a target; Unsupported for posteriors without a spread, and for levels and removals that would not be exact.

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
    spread = {type(block) for precision in post.precision for _, block in precision.parts}
    if not spread or Inverse in spread:
        raise Unsupported(
            f"{post!r} cannot be updated", needs="a precision, which says how firmly each weight is known",
            found="a covariance of low rank" if spread else "points or draws",
            fix="fit with posterior=kk.Laplace(); on the command line: --posterior laplace",
        )  # fmt: skip
    rows = rows_for(post, data)
    if rows.y is None:
        raise DataError(
            f"{rows.source.name} cannot be learnt from", needs=f"the target '{post.form.target.name}' in every row",
            found="; ".join(n for n in rows.notes if "target" in n) or f"no column '{post.form.target.name}'",
            fix="add it, or leave those rows out; kokkiri predict needs none",
        )  # fmt: skip
    if not len(rows):
        raise DataError("there are no rows to learn", needs="at least one row", found="none", fix="hand some over")
    check_target(post.likelihood, rows)
    digest = digest_of(rows)
    forced = "" if remove else _refuse(post.record, rows, digest, force=force)
    said = predict(post, rows).log_prob(rows.y).double()
    results = _moved(
        post, rows, level, remove=remove, columns=columns, seed=seed, optimizer=optimizer, steps=steps, epochs=epochs,
        batch=batch, expected=expected, device=device, progress=progress,
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
    entry = _entry(post, rows, results, said, chained, digest, remove=remove, seconds=time.process_time() - began)
    status = Status.DIVERGED if any(m.diverged for m in results) else post.record.status
    record = replace(
        post.record, updates=(*post.record.updates, entry), seconds=post.record.seconds + entry.seconds, status=status,
        wall=post.record.wall + time.perf_counter() - clock, notes=_notes(post.record, rows, entry, status, forced),
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
        noise=torch.stack([m.noise for m in results if m.noise is not None]) if post.noise is not None else None,
    )  # fmt: skip


def recommended(post: Particles, data: Data) -> str:
    """Which level an update with these rows would take, for the asking.

    "exact" where Bayes' rule is one step, and every block of the precision is the whole matrix: else "local".
    """
    x = data.batch(torch.arange(min(3, len(data)))).x
    linear = linear_in(post.herd, post.precision[0], post.likelihood, x)
    prior = lambda r: prior_precision(post.herd, post.prior, r)
    whole = all(is_whole(block, prior(r)[index]) for r, p in enumerate(post.precision) for index, block in p.parts)
    return "exact" if linear and whole else "local"


def _refuse(record: Record, rows: Data, digest: str, *, force: bool) -> str:
    """Rows that were learnt already, by their digest or by their whole file, and rows out of the order of time.

    Gives what is forced, for the record.
    """
    try:
        _must_be_new(record, rows, digest)
    except DataError as error:
        if not force:
            raise
        return f"forced: {error.what} ({error.found})"
    return ""


def _must_be_new(record: Record, rows: Data, digest: str) -> None:
    batches, files, since = _learnt(record)
    whole = rows.source.sha256 if rows.source.rows and len(rows) >= rows.source.rows else ""
    if digest in batches or (whole and whole in files):
        raise DataError(
            f"the posterior has learnt rows of {rows.source.name} already", needs="rows that are new",
            found=f"the very rows of {batches[digest]}" if digest in batches else f"the file of {files[whole]}",
            fix="leave them out; --force (force=True) learns them a second time, and is too sure then",
        )  # fmt: skip
    for name, last in days_of(rows)[1].items():
        if name in since and last < since[name]:
            raise DataError(
                f"{rows.source.name} is older than rows that the posterior has learnt",
                needs=f"rows whose '{name}' does not end before {date_of(since[name])}",
                found=f"it ends {date_of(last)}",
                fix="update in the order of time, or --force (force=True)",
            )  # fmt: skip


def _learnt(record: Record) -> tuple[dict[str, str], dict[str, str], dict[str, float]]:
    """What is known by now: batches and files by their SHA-256, and the last first day in each column of dates."""
    batches, files = ({str(record.data.get(name, "")): "the fit"} for name in ("rows sha256", "sha256"))
    since = dict(record.data.get("since", {}))
    for k, u in enumerate(record.updates, start=1):
        if u.removed:
            if batches.pop(u.sha256, None):
                files.pop(u.file, None)
            continue
        batches[u.sha256] = files[u.file] = f"update {k}"
        since |= {n: max(day, since.get(n, day)) for n, day in u.since.items()}
    return batches, files, since


def _moved(
    post: Particles, rows: Data, level: str | None, *, remove: bool, columns: int | None, seed: int,
    optimizer: Optimizer | None, steps: int | None, epochs: float | None, batch: int | None, expected: int | None,
    device: str, progress: bool,
) -> list[Moved]:  # fmt: skip
    if post.noise is not None:
        return _last_layer(post, rows, level, post.noise, remove=remove)
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
    how = "exact" if remove else level or ("exact" if exact else "full" if descends else "local")
    many = range(len(post.herd))
    if how != "full":
        return [
            moved(
                post.herd, r, rows, post.likelihood, post.precision[r], offsets[r], structure, layers, level=how,
                columns=None if exact else columns, seed=seed, remove=remove,
            )
            for r in many
        ]  # fmt: skip
    plan = _plan(len(rows), steps, epochs, batch, seed, device)
    average = expected if expected is not None else 0 if isinstance(structure, Full | TopEigen) else DRAWS
    found = []
    with interruptible() as stopped:
        for r in many:
            with progress_bar(plan.steps, f"update {r + 1} of {len(many)}", shown=progress) as watch:
                found.append(
                    retrained(
                        post.herd, r, rows, post.likelihood, post.precision[r], offsets[r], structure, layers,
                        optimizer=optimizer or Adam(lr=1e-3), plan=plan, columns=columns,
                        expected=average, watch=watch, stop=stopped,
                    )
                )  # fmt: skip
        if stopped():
            raise KeyboardInterrupt
    return found


def _last_layer(post: Particles, rows: Data, level: str | None, noise: Tensor, *, remove: bool) -> list[Moved]:
    """Bayes' rule for the last layer and its noise."""
    if level not in {None, "exact"}:
        raise Unsupported(
            f"a LastLayer posterior has no {level} update", needs="level exact, which is all of it", found=str(level),
            fix="leave level out",
        )  # fmt: skip
    herd, spreads, noises, values = learnt(post.herd, post.precision, noise, post.likelihood, rows, remove=remove)
    where = layout(herd.params)
    nought = torch.zeros(where.size, dtype=torch.float64)
    theta = [flat_of(replica_params(herd, r), where) for r in range(len(herd))]
    parts = zip(theta, spreads, values, noises, strict=True)
    return [Moved(t, nought, p, v, 0.0, "exact", noise=n) for t, p, v, n in parts]


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


def _plan(n: int, steps: int | None, epochs: float | None, batch: int | None, seed: int, device: str) -> Plan:
    size = min(n, batch or (32 if n < 1000 else 128 if n < 20000 else 256))
    each = math.ceil(n / size)
    wide = 100 if n < 1000 else 40 if n < 20000 else 10
    steps = steps or max(200, round((epochs or wide) * each))
    return Plan(steps, size, seed, schedule=WarmUp(0.05, Cosine()), device=device)


def _herd(herd: Herd, results: list[Moved]) -> Herd:
    where = layout(herd.params)
    flat = torch.stack([m.theta for m in results])
    own: dict[str, Tensor] = where.views(flat)
    return replace(herd, params={n: own[n].to(t.dtype).clone() for n, t in herd.params.items()}, weight=None)


def _entry(
    post: Particles, rows: Data, results: list[Moved], said: Tensor, chained: float, digest: str, *, remove: bool,
    seconds: float,
) -> Update:  # fmt: skip
    mean, se = float(said.mean()), float(said.std() / len(said) ** 0.5) if len(said) > 1 else math.nan
    expected, expected_se = (None, 0.0) if remove else _expected(post)
    drift = None
    if expected is not None and math.isfinite(se):
        drift = (mean - expected) / max(math.hypot(se, expected_se), 1e-12)
    levels = {m.level for m in results}
    level = next(x for x in reversed(LEVELS) if x in levels)
    gaps = [m.gap for m in results if math.isfinite(m.gap)]
    since, until = days_of(rows)
    return Update(
        rows.source.name, digest, len(rows), level, chained, mean, se, expected, drift, max(gaps) if gaps else None,
        level == "exact", seconds, rows.source.sha256, since, until, remove, classes_of(rows),
    )  # fmt: skip


def _expected(post: Particles) -> tuple[float | None, float]:
    """What rows that the model had not seen were predicted with: of the last update, else of the report's test rows."""
    learnt = [u for u in post.record.updates if not u.removed]
    if learnt:
        return learnt[-1].per_row, learnt[-1].se if math.isfinite(learnt[-1].se) else 0.0
    found = post.facts.get("evaluation")
    if found is None:
        return None, 0.0
    return float(found["log_likelihood"]["value"]), float(found["log_likelihood"]["se"] or 0.0)


def _notes(record: Record, rows: Data, entry: Update, status: Status, forced: str) -> tuple[str, ...]:
    notes = [*record.notes, *rows.notes, *([forced] if forced else [])]
    if entry.drift is not None and entry.drift < -DRIFT:
        notes.append(
            f"{entry.source}: its rows are predicted worse than expected, {entry.per_row:.3f} nats a row against "
            f"{entry.expected:.3f} ({-entry.drift:.1f} standard errors): the world, or the data, may have changed"
        )
    if entry.removed and entry.sha256 not in _learnt(record)[0]:
        notes.append(
            f"{entry.source}: rows were taken out that are no batch of the record's: that they were learnt is given"
        )
    if status is Status.DIVERGED:
        notes.append(f"update with {entry.source}: {status.value}")
    return tuple(dict.fromkeys(notes))
