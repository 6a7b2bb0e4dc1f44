"""What to try when the user leaves it open, and which of it to keep.

A few configurations are trained, all on the training rows alone, and judged by the log-likelihood of rows that they
have not seen: out-of-fold where the data are small enough to train an ensemble of five on folds, a held-out tenth
otherwise.
Only rules and held-out scores decide, no clock: the same data and seed give the same choice on any machine.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from kokkiri.data.core import Inputs, Target
from kokkiri.errors import UsageError
from kokkiri.experiments.configuration import Configuration, Outcome
from kokkiri.likelihoods import (
    Bernoulli,
    Categorical,
    Gaussian,
    HeteroscedasticGaussian,
    HeteroscedasticStudentT,
    StudentT,
)
from kokkiri.networks import MLP, ConvNet
from kokkiri.optimizers import Adam, Cosine, WarmUp
from kokkiri.posteriors.dropout import RATE, Dropout
from kokkiri.posteriors.ensemble import Ensemble
from kokkiri.posteriors.point import Point
from kokkiri.posteriors.recipe import Recipe
from kokkiri.priors import Normal
from kokkiri.records import Candidate
from kokkiri.training.plan import Plan
from kokkiri.types import Likelihood, Optimizer, Prior, Schedule

COARSE = 50  # distinct values up to which a number is not treated as continuous
QUICK = 4  # a quick look takes this part of the steps
SMALL = 4e12  # FLOP a candidate's ensemble may cost; beyond it one network is trained


@dataclass(frozen=True)
class Wishes:
    """What the user has fixed; None is open."""

    network: nn.Module | Callable[[], nn.Module] | None = None
    likelihood: Likelihood | None = None
    optimizer: Optimizer | None = None
    prior: Prior | None = None
    posterior: Recipe | None = None
    steps: int | None = None
    epochs: float | None = None
    batch: int | None = None
    lr: float | None = None
    schedule: Schedule | None = None
    clip: float | None = None
    augment: Any = None
    patience: int | str | None = "open"
    held_out: float = 0.1
    seed: int = 0
    threads: int | None = None
    device: str = "cpu"


@dataclass(frozen=True)
class Choice:
    """What to try: first `quick` ones, each with a quarter of the steps; then the finalists. reasons: by setting."""

    quick: tuple[Configuration, ...]
    reasons: dict[str, str]
    precisions: tuple[float, ...] = ()  # of the prior, to be tried on the best

    def finalists(self, outcomes: Sequence[Outcome]) -> tuple[Configuration, ...]:
        """With all their steps: the best, at every precision, and the second best. A single one is its own finalist."""
        if not outcomes:
            return self.quick
        order = sorted(range(len(outcomes)), key=lambda i: -_score(outcomes[i]))
        best, *others = (self.quick[i] for i in order)
        tried = [replace(best, prior=Normal(p), name=f"{best.name}, precision {p:g}") for p in self.precisions] or [
            best
        ]
        second = [replace(c, name=f"{c.name}, precision 1" if self.precisions else c.name) for c in others[:1]]
        return (*tried, *second)

    @property
    def open(self) -> bool:
        """Whether there is anything to choose."""
        return len(self.quick) > 1


def quickly(configuration: Configuration) -> Configuration:
    """The same with a quarter of the steps, its schedule shrunk with them; a point, where rows stop no training."""
    plan = configuration.plan
    posterior = configuration.posterior if configuration.posterior.stops else Point()
    steps = max(1, plan.steps // QUICK)
    patience = None if plan.patience is None else max(5, plan.patience // QUICK)
    return replace(
        configuration,
        plan=replace(plan, steps=steps, patience=patience),
        posterior=posterior,
        name=f"{configuration.name} (quick)",
    )


def _score(outcome: Outcome) -> float:
    return outcome.held_out if math.isfinite(outcome.held_out) else -math.inf


def flop_per_row(network: nn.Module, inputs: Inputs) -> float:
    """Floating-point operations of one row's forward pass, counted on a row of zeros."""
    from torch.utils.flop_counter import FlopCounterMode

    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        some = next(network.parameters(), torch.zeros(()))
        network.eval()(torch.zeros(1, *inputs.shape, dtype=some.dtype))
    return float(counter.get_total_flops())


def likelihoods_for(target: Target, y: Tensor) -> tuple[tuple[Likelihood, ...], str]:
    """The likelihoods worth trying for a target, and why.

    A number that takes few values is no draw from a density: one with heavy tails could pile up on those values, and
    its log-likelihood would rise without bound while its predictions grew no better.
    """
    if target.kind == "category":
        if target.classes == 2:
            return (Bernoulli(),), "the target has two classes"
        return (Categorical(),), f"the target has {target.classes} classes"
    values = len(y.unique())
    if values <= COARSE:
        return (Gaussian(), HeteroscedasticGaussian()), f"the target is a number of {values} values only"
    return (Gaussian(), HeteroscedasticStudentT(), StudentT()), "the target is a number"


def candidates(data: Any, wishes: Wishes) -> Choice:
    """The configurations to try for some training data."""
    inputs, target, n = data.inputs, data.target, len(data)
    reasons: dict[str, str] = {}
    asked, why = (
        likelihoods_for(target, data.y) if wishes.likelihood is None else ((wishes.likelihood,), "as you asked")
    )
    reasons["likelihood"] = why
    targets = 1 if data.y is None or data.y.ndim == 1 else data.y.shape[1]
    outputs = lambda likelihood: likelihood.outputs(target.classes or targets)
    images = len(inputs.shape) == 3
    drops = RATE if isinstance(wishes.posterior, Dropout) else 0.0
    nets = _networks(inputs, images, drops) if wishes.network is None else [(_title(wishes.network), wishes.network)]
    reasons["network"] = (
        "as you asked"
        if wishes.network is not None
        else (
            "pictures: convolutions see neighbouring pixels together"
            if images
            else "a table: dense layers over its columns"
        )
    )
    whole = wishes.optimizer is not None and wishes.optimizer.full_batch and wishes.batch is None
    batch = n if whole else min(n, wishes.batch or _batch(n))
    tried = []
    for name, make in nets:
        # a linear model is the yardstick, and the widest network need not try what the narrower one does
        for likelihood in (
            asked[:1] if name == "linear" else asked[1:2] if name == "MLP 128-128" and asked[1:] else asked
        ):
            built = partial(make, outputs(likelihood)) if _sized(make) else make
            tried.append((f"{name}, {_word(likelihood)}", built, likelihood))
    probe = [_made(built) for _, built, _ in tried]
    cost = max(6 * sum(p.numel() for p in m.parameters()) + 3 * flop_per_row(m, inputs) for m in probe)
    epochs = wishes.epochs or _epochs(n, images)
    ensemble = cost * n * epochs * 5 <= SMALL and n >= 50
    posterior = wishes.posterior or (Ensemble(5) if ensemble else Point())
    reasons["posterior"] = (
        "as you asked"
        if wishes.posterior is not None
        else ("five networks on five folds fit the budget" if ensemble else "one network: the data are large")
    )
    per_epoch = math.ceil(n / min(batch, n))
    steps = wishes.steps or max(200, round(epochs * per_epoch))
    every = max(per_epoch, 20) if n < 20000 else per_epoch
    patience = max(10, steps // every // 4) if isinstance(wishes.patience, str) else wishes.patience
    plan = Plan(
        steps, batch, wishes.seed, wishes.schedule or WarmUp(0.05, Cosine()), wishes.clip, wishes.augment, every,
        patience, wishes.threads, wishes.device,
    )  # fmt: skip
    reasons["steps"] = (
        "as you asked" if wishes.steps else f"{steps / per_epoch:.0f} passes over {n:,} rows, at the most"
    )
    grows = "all rows: the optimizer is meant for them" if whole else f"grows with the number of rows ({n:,})"
    reasons["batch"] = "as you asked" if wishes.batch else grows
    reasons["schedule"] = (
        "as you asked" if wishes.schedule else "rises for a twentieth of the steps, then falls to zero"
    )
    rate = wishes.lr or (1e-3 if images else 1e-2 if n < 20000 else 3e-3)
    optimizer = wishes.optimizer or Adam(lr=rate)
    reasons["optimizer"] = "as you asked" if wishes.optimizer else "insensitive to the scale of the gradients"
    reasons["prior"] = "as you asked" if wishes.prior else "weak" if images else ""
    made = tuple(
        Configuration(built, likelihood, optimizer, wishes.prior or Normal(1.0), posterior, plan, wishes.held_out, name)
        for name, built, likelihood in tried
    )
    if len(made) > 1 and plan.patience is None:
        raise UsageError(
            "without held-out rows there is nothing to choose by",
            needs="patience, or everything fixed: network and likelihood",
            found=f"no patience, and {len(made)} configurations to choose from",
            fix="leave patience out, or give a network and a likelihood",
        )
    precisions = (1.0, 10.0) if wishes.prior is None and not images and len(made) > 1 and posterior.stops else ()
    return Choice(made, reasons, precisions)


def best(outcomes: list[Outcome]) -> int:
    """Which outcome to keep: of the highest held-out log-likelihood, or evidence where no rows were held out.

    Evidence is compared per row of what it was trained on, which is all rows.
    """
    if not any(len(o.rows) for o in outcomes):
        return max(range(len(outcomes)), key=lambda i: evidence_of(outcomes[i]))
    return max(range(len(outcomes)), key=lambda i: _score(outcomes[i]))


def evidence_of(outcome: Outcome) -> float:
    """Log p(data) of an outcome's posterior, nats; -inf where there is none."""
    found = outcome.approximation.evidence if outcome.approximation is not None else None
    return found.nats if found is not None and math.isfinite(found.nats) else -math.inf


def table(outcomes: list[Outcome], chosen: int) -> tuple[Candidate, ...]:
    """The outcomes as the report shows them."""
    size = lambda o: sum(t[0].numel() for t in o.herd.params.values())
    return tuple(
        Candidate(
            o.configuration.name,
            o.held_out,
            o.se,
            o.seconds,
            size(o),
            i == chosen,
            evidence_of(o) if math.isfinite(evidence_of(o)) else None,
        )
        for i, o in enumerate(outcomes)
    )


def _networks(inputs: Inputs, images: bool, dropout: float) -> list[tuple[str, Callable[[int], nn.Module]]]:
    if images:
        return [
            ("ConvNet 16-32", lambda outputs: ConvNet(inputs, outputs, channels=(16, 32), dropout=0.25)),
            ("MLP 256-128", lambda outputs: MLP(inputs, [256, 128], outputs, dropout=0.2)),
        ]
    return [
        *([] if dropout else [("linear", lambda outputs: MLP(inputs, [], outputs))]),
        ("MLP 64-64", lambda outputs: MLP(inputs, [64, 64], outputs, skip=True, dropout=dropout)),
        ("MLP 128-128", lambda outputs: MLP(inputs, [128, 128], outputs, skip=True, dropout=dropout)),
    ]


def _sized(make: nn.Module | Callable[..., nn.Module]) -> bool:
    """Whether a function makes networks of any number of outputs, which is then its one argument."""
    if isinstance(make, nn.Module):
        return False
    needed = [p for p in inspect.signature(make).parameters.values() if p.default is p.empty]
    if len(needed) > 1:
        raise UsageError(
            "cannot make this network", needs="a function of nothing, or of the number of outputs",
            found=", ".join(p.name for p in needed), fix="lambda outputs: …",
        )  # fmt: skip
    return bool(needed)


def _title(network: nn.Module | Callable[..., nn.Module]) -> str:
    return type(network).__name__ if isinstance(network, nn.Module) else getattr(network, "__name__", "network")


def _made(make: nn.Module | Callable[[], nn.Module]) -> nn.Module:
    if isinstance(make, nn.Module):
        return make
    with torch.random.fork_rng(devices=[]):
        return make()


def _batch(n: int) -> int:
    return 32 if n < 1000 else 64 if n < 4000 else 128 if n < 20000 else 256 if n < 200000 else 512


def _epochs(n: int, images: bool) -> float:
    if images:
        return 6 if n > 20000 else 60
    return 300 if n < 1000 else 200 if n < 4000 else 100 if n < 20000 else 40 if n < 200000 else 10


def _word(likelihood: Likelihood) -> str:
    return repr(likelihood).partition("(")[0]
