"""The verbs: fit, predict, save, load."""

from __future__ import annotations

import contextlib
import copy
import math
import signal
import threading
from collections.abc import Callable, Generator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kokkiri import store
from kokkiri.data.core import Data, Target
from kokkiri.data.digest import days_of, digest_of
from kokkiri.data.encoders import TableEncoder
from kokkiri.data.images import folder_data
from kokkiri.data.named import DATA_SETS
from kokkiri.data.read import read
from kokkiri.data.splits import group_column
from kokkiri.data.tables import conform, new_rows
from kokkiri.errors import DataError, UsageError
from kokkiri.experiments.choose import Wishes, best, candidates, quickly, table
from kokkiri.experiments.configuration import Configuration, Outcome, finished, run
from kokkiri.likelihoods import Bernoulli, Categorical
from kokkiri.posteriors import linearised
from kokkiri.posteriors.last_layer import marginalised
from kokkiri.posteriors.particles import Particles, form
from kokkiri.posteriors.recipe import Approximation, Recipe, even
from kokkiri.priors.grouped import PREFIX
from kokkiri.records import Record, Status
from kokkiri.training.engines import Engine
from kokkiri.training.loop import Moment
from kokkiri.types import Likelihood, Optimizer, Predictive, Prior, Schedule

CHUNK = 8192  # rows a forward pass of predict
DRAWS = 32  # of the parameters, where predictions are not linearised


def fit(
    data: Any,
    network: nn.Module | Callable[[], nn.Module] | None = None,
    likelihood: Likelihood | None = None,
    optimizer: Optimizer | None = None,
    *,
    target: str | None = None,
    prior: Prior | None = None,
    posterior: Recipe | None = None,
    steps: int | None = None,
    epochs: float | None = None,
    batch: int | None = None,
    lr: float | None = None,
    schedule: Schedule | None = None,
    clip: float | None = None,
    augment: Any = None,
    patience: int | str | None = "open",
    held_out: float = 0.1,
    groups: str | None = None,
    seed: int = 0,
    engine: Engine | None = None,
    checkpoints: str | Path | None = None,
    threads: int | None = None,
    device: str = "cpu",
    progress: bool = True,
) -> Particles:
    """Trains a network on data, and gives its posterior. What is left open is chosen by held-out log-likelihood.

    data: what `read` gave, or anything `read` takes, with `target` naming what is to be predicted. network: any
    nn.Module (it is copied, and keeps its own initial weights with `Point`), or a function that makes one. patience:
    looks without improvement on held-out rows before training stops; None trains all `steps` on all rows. groups: a
    column whose equal values are never on both sides, of those who learn and those who judge. checkpoints:
    a folder; a run that was killed goes on from there to the same bits. posterior: `Laplace`, `Ensemble`, `Point` or
    any other recipe; with one that evidence regularises (`Laplace`), all rows are trained on and evidence decides
    between candidates. The global random state, the data and the network that was handed in stay as they are.

    >>> import kokkiri as kk
    >>> data = kk.read("digits")
    >>> post = kk.fit(data, kk.networks.MLP(data.inputs, [16], 10), kk.Categorical(), steps=50, progress=False)
    >>> kk.predict(post, data).mean.shape
    torch.Size([1797, 10])
    """
    if not isinstance(data, Data):
        data = read(data, target)
    _check_numbers(steps=steps, epochs=epochs, batch=batch, lr=lr, clip=clip, patience=patience, threads=threads)
    _check_device(device)
    check_target(likelihood, data)
    if augment is not None and len(data.inputs.shape) != 3:
        raise UsageError(
            "only pictures can be augmented", needs="inputs of shape (C, H, W)",
            found=f"inputs of shape {data.inputs.shape}", fix="leave augment out",
        )  # fmt: skip
    if isinstance(network, nn.Module):
        network = copy.deepcopy(network)  # the user's stays as it is: its mode, its buffers
    wishes = Wishes(
        network, likelihood, optimizer, prior, posterior, steps, epochs, batch, lr, schedule, clip, augment, patience,
        held_out, seed, threads, device,
    )  # fmt: skip
    choice = candidates(data, wishes)
    folder = Path(checkpoints) if checkpoints is not None else None
    together = group_column(data, groups) if groups is not None else None
    outcomes: list[Outcome] = []

    def attempt(configuration: Configuration, *, final: bool = False) -> Outcome:
        i = len(outcomes)
        own = folder / f"candidate-{i}" if folder is not None else None
        with progress_bar(configuration.plan.steps, configuration.name, shown=progress) as watch:
            made = run(configuration, data, groups=together, engine=engine, checkpoints=own, watch=watch, stop=stopped)
        outcomes.append(finished(made) if final else made)
        return outcomes[-1]

    with interruptible() as stopped:
        quick = [attempt(quickly(c)) for c in choice.quick if choice.open and not stopped()]
        first = len(outcomes)
        if len(quick) == len(choice.quick) or not choice.open:
            for configuration in choice.finalists(quick):
                if not (stopped() and outcomes):
                    attempt(configuration, final=True)
    finals = outcomes[first:] or outcomes
    chosen = outcomes.index(finals[best(finals)])
    return particles(data, outcomes, chosen, choice.reasons)


def check_target(likelihood: Likelihood | None, data: Data) -> None:
    """Refuses data without a target, and a likelihood that cannot give it: its kind first, then row by row."""
    if data.y is None or data.target is None:
        raise DataError(
            f"{data.source.name} has no target", needs="something to predict", found="inputs alone",
            fix="name its column: --target COLUMN; pictures go into a folder for each class",
        )  # fmt: skip
    if likelihood is None:
        return
    name, target, classes = type(likelihood).__name__, data.target, isinstance(likelihood, Bernoulli | Categorical)
    own = type(likelihood).__module__.startswith("kokkiri.")
    if own and classes != (target.kind == "category"):
        what = f"{target.classes} classes: {', '.join(target.levels[:6])}" if target.classes else "numbers"
        kind = "category" if classes else "number"
        usual = ("bernoulli" if target.classes == 2 else "categorical") if target.classes else "gaussian"
        raise UsageError(
            f"{name} does not fit the target '{target.name}'",
            needs="a target of classes" if classes else "a target of numbers",
            found=what,
            fix=f"--likelihood {usual}"
            + (f", or --kind {target.name}={kind}" if data.schema is not None and _numeric(target) else ""),
        )
    try:
        likelihood.check(data.y)
    except DataError as error:
        row = _first_refused(likelihood, data.y)
        where = int(data.row_index[row]) if data.row_index is not None else row
        raise DataError(
            f"{name} cannot give the target '{target.name}' of {data.source.name} in row {where + 1:,}",
            needs=error.needs, found=error.found, fix=error.fix,
        ) from error  # fmt: skip


def _numeric(target: Target) -> bool:
    return all(level.lstrip("-").replace(".", "", 1).isdigit() for level in target.levels)


def _first_refused(likelihood: Likelihood, y: Tensor) -> int:
    low, high = 0, len(y)
    while high - low > 1:
        middle = (low + high) // 2
        try:
            likelihood.check(y[low:middle])
            low = middle
        except DataError:
            high = middle
    return low


def _check_numbers(**given: float | str | None) -> None:
    for name, value in given.items():
        if value is None or isinstance(value, str):
            continue
        whole = name not in {"epochs", "lr", "clip"}
        if not (1 if whole else 0) <= value < math.inf or not value:
            raise UsageError(
                f"{name} cannot be {value:g}", needs="a whole number of at least 1" if whole else "a positive number",
                found=f"{value:g}", fix=f"another {name}, or none: it is chosen then",
            )  # fmt: skip


def _check_device(device: str) -> None:
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # torch: no such name; built without; no driver
        cards = [f"cuda:{i}" for i in range(torch.cuda.device_count())]
        raise UsageError(
            f"there is no device {device!r} here", needs="a device of this machine, and a torch built for it",
            found=f"there are: {', '.join(['cpu', *cards])}", fix="cpu",
        ) from error  # fmt: skip


def particles(data: Data, outcomes: list[Outcome], chosen: int, reasons: Mapping[str, str]) -> Particles:
    """The posterior that an outcome stands for, with its record."""
    o = outcomes[chosen]
    found = o.approximation or Approximation(o.herd, even(len(o.herd)))
    record = Record(
        status=Status.INTERRUPTED if any(x.status is Status.INTERRUPTED for x in outcomes) else o.status,
        steps=o.steps,
        seconds=sum(x.seconds for x in outcomes),
        wall=sum(x.wall for x in outcomes),
        seed=o.configuration.plan.seed,
        config={**settings(o, reasons, len(outcomes)), **_of_posterior(found)},
        data=data_facts(data),
        versions=store.versions(),
        source=store.source_hash(o.herd.network),
        curve=o.curve,
        candidates=table(outcomes, chosen),
        notes=tuple(dict.fromkeys((*data.notes, *o.notes, *found.notes))),
        posterior=found.exact,
    )
    prior = found.prior or o.configuration.prior
    return Particles(
        found.herd, found.log_weight, o.likelihood, prior, form(data), record, precision=found.precision,
        linear=found.linear, evidence=found.evidence, draws=str(found.facts.get("draws", "")),
        noise=found.facts.get("noise"),
    )  # fmt: skip


def settings(o: Outcome, reasons: Mapping[str, str], tried: int) -> dict[str, tuple[Any, str]]:
    """What a run was, name by name, each with why."""
    c, made = o.configuration, o.trained.run  # a recipe may have changed the run
    by = "held-out log-likelihood" if len(o.rows) else "evidence"
    why = f"best {by} of {tried}" if tried > 1 else ""
    size = sum(t[0].numel() for t in o.herd.params.values())
    values = {
        "likelihood": repr(c.likelihood),
        "network": f"{c.name.split(',')[0]} ({size:,} parameters)",
        "posterior": repr(c.posterior),
        "prior": repr(o.trained.run.prior) if o.trained.run.tuner is None else _moved(o),
        "optimizer": repr(made.optimizer),
        "schedule": repr(made.plan.schedule),
        "steps": made.plan.steps,
        "batch": made.plan.batch or ("all rows" if c.plan.batch else None),
        "patience": made.plan.patience,
        "clip": made.plan.clip,
        "augment": repr(made.plan.augment) if made.plan.augment is not None else None,
    }
    moved = {n for n in ("schedule", "steps", "batch") if getattr(made.plan, n) != getattr(c.plan, n)}
    moved |= {"optimizer"} if made.optimizer != c.optimizer else set()
    given = {**reasons, **dict.fromkeys(moved, "as the posterior wants it")}
    joined = lambda name: "; ".join(
        t for t in (given.get(name, ""), why if name in {"likelihood", "network", "prior"} else "") if t
    )
    return {name: (value, joined(name)) for name, value in values.items() if value is not None}


def _of_posterior(found: Approximation) -> dict[str, tuple[Any, str]]:
    """How exact the posterior is, and its evidence, as the report prints them."""
    out: dict[str, tuple[Any, str]] = {"exactness": (found.exact, "")} if found.exact else {}
    if found.evidence is not None:
        out["evidence"] = (f"{found.evidence.nats:,.1f} nats", f"log p(data), {found.evidence.method}")
    return out


def _moved(o: Outcome) -> str:
    """The precisions that evidence chose."""
    low_high = lambda t: f"{t.min():.2g}" if t.max() / t.min() < 1.1 else f"{t.min():.2g} to {t.max():.2g}"
    each = [f"{n.removeprefix(PREFIX)} {low_high(t)}" for n, t in o.herd.hyper.items() if n.startswith(PREFIX)]
    return f"Normal, precision by evidence: {', '.join(each[:8])}{' …' if len(each) > 8 else ''}"


def data_facts(data: Data) -> dict[str, Any]:
    """Where the data came from and what they were."""
    since, until = days_of(data)
    facts: dict[str, Any] = {
        "source": data.source.name, "sha256": data.source.sha256, "rows": len(data), "source rows": data.source.rows,
        "inputs": list(data.inputs.shape), "target": data.target.name if data.target else "",
        "licence": data.source.licence, "citation": data.source.citation, "rows sha256": digest_of(data),
        "since": since, "until": until, "classes": classes_of(data),
    }  # fmt: skip
    return {k: v for k, v in facts.items() if v or k == "target"}


def classes_of(data: Data) -> dict[str, int]:
    """How many rows each class has; {} where the target is a number."""
    if data.y is None or data.target is None or not data.target.levels:
        return {}
    counts = torch.bincount(data.y.flatten(), minlength=data.target.classes).tolist()
    return dict(zip(data.target.levels, counts, strict=True))


def predict(
    post: Particles, new: Any, *, draws: int | None = None, integral: str = "points", seed: int = 0
) -> Predictive:
    """p(y | x, data) for new rows: `Data`, anything `read` takes, or a tensor of encoded inputs.

    Gaussians around modes are averaged over row by row, through the network linearised at each mode: in closed form for
    Gaussian noise, else at quadrature points, or by the "probit" formula for classes (`integral`). Such rows are right
    one by one; with `draws` so many parameter vectors are drawn, and one draw serves all rows: of the linearised
    network where the posterior is a Gaussian around modes, else of the network itself. Columns are found by name; a
    category that was never seen is accepted and counted in the notes of `rows_for(post, new)`.
    """
    x = new if isinstance(new, Tensor) else None
    data = None if x is not None else rows_for(post, new)
    total = len(x) if x is not None else len(data) if data is not None else 0
    if not total:
        raise DataError("there are no rows to predict", needs="at least one row")
    if integral not in {"points", "probit"}:
        raise UsageError(f"predict got integral={integral!r}", needs="'points' or 'probit'", found=repr(integral))
    if integral == "probit" and not isinstance(post.likelihood, Bernoulli | Categorical):
        raise UsageError(
            "the probit formula is for classes", needs="kk.Bernoulli or kk.Categorical", found=repr(post.likelihood),
            fix="leave integral out: what can be is done in closed form",
        )  # fmt: skip
    batch = lambda index: x[index] if x is not None else data.batch(index).x  # pyright: ignore[reportOptionalMemberAccess]
    rows = torch.arange(total).split(CHUNK)
    if post.linear and post.precision and draws is None:
        apart = integral == "probit"  # it looks at no covariance
        moments = [
            linearised.output_moments(post.herd, post.precision, batch(index), post.offset, apart=apart)
            for index in rows
        ]
        mean, covariance = (torch.cat(part, 1) for part in zip(*moments, strict=True))
        if post.noise is not None:
            variance = covariance[..., 0]
            return marginalised(post.likelihood, mean, variance, post.noise, post.log_weight)
        return linearised.averaged(post.bound(), mean, covariance, post.log_weight, integral=integral)
    if post.linear and post.precision:
        assert draws is not None
        replica, steps = post.steps(draws, seed=seed)
        outputs = torch.cat([linearised.drawn(post.herd, post.precision, batch(i), replica, steps) for i in rows], 1)
        own = {n: t[replica] for n, t in post.herd.likelihood_params().items()}
        return post.likelihood.bind(own).predictive(outputs, even(draws))
    herd, weights = post.herd, post.log_weight
    if post.precision or post.draws or draws is not None:
        herd = post.draw(draws or DRAWS, seed=seed)
        weights = even(len(herd))
    outputs = torch.cat([herd(batch(index)) for index in rows], 1)
    return post.likelihood.bind(herd.likelihood_params()).predictive(outputs, weights)


def rows_for(post: Particles, new: Any, *, table: str | None = None, encoding: str = "utf-8") -> Data:
    """New rows in the form that a model takes, with what was noticed about them in `notes`."""
    own = post.form
    if isinstance(new, Data) and new.encoder is own.encoder:
        return new
    if isinstance(new, str) and not Path(new).exists() and new in {d.name for d in DATA_SETS}:
        new = read(new)
    if isinstance(own.encoder, TableEncoder):
        if isinstance(new, Data):
            return conform(new, own.schema, own.encoder)
        return new_rows(new, own.schema, own.encoder, table=table, encoding=encoding)
    pictures = len(own.inputs.shape) == 3
    if pictures and isinstance(new, str | Path) and Path(new).is_dir():
        data = folder_data(new, own.inputs.shape[1:], own.inputs.shape[0])  # pyright: ignore[reportArgumentType]
    else:
        data = new if isinstance(new, Data) else read(new)
    if data.inputs.shape != own.inputs.shape:
        raise DataError(
            "these rows do not fit the model",
            needs=f"inputs of shape {own.inputs.shape}",
            found=f"inputs of shape {data.inputs.shape}",
            fix="the same kind of data as the model was fitted on",
        )
    return replace(data, y=_classes_of(data, own.target), target=own.target, encoder=own.encoder, _cache={})


def _classes_of(data: Data, target: Target) -> Tensor | None:
    """The class numbers that a model knows its classes by, whatever others the new data count."""
    if data.y is None or data.target is None or data.target.levels == target.levels:
        return data.y
    number = {level: i for i, level in enumerate(target.levels)}
    if strange := [level for level in data.target.levels if level not in number]:
        raise DataError(
            f"{data.source.name} has a class that the model does not know",
            needs=f"one of {', '.join(target.levels[:12])}" if number else "numbers",
            found=f"'{strange[0]}'" + (f" and {len(strange) - 1} others" if len(strange) > 1 else ""),
            fix="leave those rows out, or put them where they have no class: it is needed only to score",
        )
    return torch.tensor([number[level] for level in data.target.levels])[data.y]


def save(post: Particles, path: str | Path) -> Path:
    """Writes the folder of a model: model.json and model.safetensors."""
    return store.save_model(post, path)


def load(
    path: str | Path, network: nn.Module | Callable[[], nn.Module] | None = None, *, trust: bool = False
) -> Particles:
    """Reads the folder of a model. See `store.load_model`."""
    return store.load_model(path, network, trust=trust)


@contextlib.contextmanager
def interruptible() -> Generator[Callable[[], bool], None, None]:
    """The first Ctrl-C asks the run to end in order; the second interrupts at once. SIGTERM asks, too."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return

    def ask(_signal: int, _frame: Any) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()

    kept = {s: signal.signal(s, ask) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked.is_set
    finally:
        for s, handler in kept.items():
            signal.signal(s, handler)


@contextlib.contextmanager
def progress_bar(steps: int, label: str, *, shown: bool) -> Generator[Callable[[Moment], None] | None, None, None]:
    """What is to be called with every moment of a run."""
    if not shown:
        yield None
        return
    from kokkiri.progress import Progress

    with Progress(steps, label) as bar:

        def look(moment: Moment) -> None:
            held = moment.held_out.mean() if moment.held_out is not None else None
            bar.update(moment.step, train=moment.train.mean(), held_out=held)

        yield look
