"""Laplace's approximation: a Gaussian around each mode, as sharp as the log joint is curved there (MacKay 1992)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from kokkiri.curvature import Full, Kronecker, Structure, ggn, named
from kokkiri.curvature.structures import name_of
from kokkiri.errors import UsageError
from kokkiri.herd import Herd, herd
from kokkiri.posteriors.evidence import (
    EvidenceTuner,
    flat_of,
    group_indices,
    hyper_of,
    joint,
    laplace_evidence,
    precisions,
    prior_precision,
    replica_params,
)
from kokkiri.posteriors.members import member_seeds
from kokkiri.posteriors.recipe import Approximation, Trained, even
from kokkiri.priors import Flat, GroupedNormal, Normal
from kokkiri.priors.grouped import PREFIX, groups_of
from kokkiri.records import Evidence, Status
from kokkiri.training.flat import layout
from kokkiri.training.loop import Moment
from kokkiri.training.plan import Plan
from kokkiri.types import LIKELIHOOD_PREFIX, Likelihood, Optimizer, Prior

TUNE = ("during", "after", "never")
GROUPS = ("layer", "tensor", "one")
WEIGHTS = ("even", "evidence")


@dataclass(frozen=True)
class Laplace:
    """p(θ | D) ~ sum_r w_r N(θ_r, (G_r + Λ)⁻¹): a Gaussian around each of `size` modes.

    structure: "full", "kronecker", "ekfac", "diagonal", "low-rank", or a value of kk.curvature. layers: None for all,
    "last", or prefixes of parameter names; the others are held at the mode. tune: when evidence chooses the precisions of
    the prior and the noise: "during" training, so that the mode belongs to its prior; "after"; "never". groups: one
    precision for each "layer", each "tensor", or "one". columns: random columns of the likelihood's curvature instead of
    all of them (1: a Monte-Carlo Fisher). sample: rows that the curvature is estimated from. weights: of several modes,
    "even", or each its "evidence". starts: precisions that the modes start from, in turn.

    >>> Laplace("kronecker", layers="last")
    Laplace(structure=Kronecker(corrected=False), layers=('last',), ...)
    """

    structure: Structure | str = "kronecker"
    layers: Sequence[str] | str | None = None
    size: int = 1
    tune: str = "during"
    groups: str = "layer"
    columns: int | None = None
    sample: int | None = None
    weights: str = "even"
    starts: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        """Resolves names, and refuses what means nothing."""
        if isinstance(self.structure, str):
            object.__setattr__(self, "structure", named(self.structure))
        if isinstance(self.layers, str):
            object.__setattr__(self, "layers", tuple(self.layers.split(",")))
        for field, known in (("tune", TUNE), ("groups", GROUPS), ("weights", WEIGHTS)):
            if getattr(self, field) not in known:
                raise UsageError(
                    f"Laplace({field}={getattr(self, field)!r})", needs=" or ".join(map(repr, known)),
                    found=repr(getattr(self, field)), fix=f"Laplace({field}={known[0]!r})",
                )  # fmt: skip
        for field in ("size", "columns", "sample"):
            value = getattr(self, field)
            if value is not None and value < 1:
                raise UsageError(f"Laplace({field}={value})", needs="a whole number of at least 1", found=str(value))

    def __repr__(self) -> str:
        more = "" if self.size == 1 else f", size={self.size}"
        return f"Laplace(structure={self.structure!r}, layers={self.layers!r}{more}, ...)"

    @property
    def folds(self) -> int:
        """None: all rows are trained on."""
        return 0

    @property
    def stops(self) -> bool:
        """Whether held-out rows stop the training: not where evidence regularises it."""
        return self.tune != "during"

    def herd(self, make: nn.Module | Callable[[], nn.Module], *, seed: int) -> Herd:
        """`size` replicas; a single one keeps the weights of a network that is handed in."""
        if self.size == 1 and isinstance(make, nn.Module):
            return herd(make)
        return herd(make, seed=member_seeds(seed, self.size))

    def prior(self, prior: Prior, herd: Herd) -> Prior:
        """A Normal prior with a precision a group, where evidence chooses.

        Raises UsageError for priors that have no precision to choose.
        """
        if isinstance(prior, Flat):
            raise UsageError(
                "a flat prior has no evidence",
                needs="a prior that can be normalised",
                found="Flat()",
                fix="kk.Normal(1.0)",
            )
        if self.tune == "never" or isinstance(prior, GroupedNormal):
            return prior
        if not isinstance(prior, Normal):
            raise UsageError(
                f"evidence cannot choose the precision of {type(prior).__name__}", needs="kk.Normal or kk.GroupedNormal",
                found=type(prior).__name__, fix="Laplace(tune='never')",
            )  # fmt: skip
        names = [n for n in herd.params if not n.startswith(LIKELIHOOD_PREFIX)]
        by = "layer" if self.groups == "tensor" and isinstance(self.structure, Kronecker) else self.groups
        groups = dict.fromkeys(groups_of(names, by).values())
        return GroupedNormal(tuple((g, prior.precision) for g in groups))

    def start(self, herd: Herd) -> Herd:
        """The modes' precisions, in turn, where `starts` has some."""
        if not self.starts or self.tune == "never":
            return herd
        column = torch.tensor([self.starts[r % len(self.starts)] for r in range(len(herd))], dtype=torch.float64)
        names = dict.fromkeys(
            groups_of([n for n in herd.params if not n.startswith(LIKELIHOOD_PREFIX)], self.groups).values()
        )
        return replace(herd, hyper={**herd.hyper, **{PREFIX + g: column for g in names}})

    def optimizer(self, optimizer: Optimizer, rows: int) -> Optimizer:  # ruff: ignore[unused-method-argument]
        """The one that was asked for."""
        return optimizer

    def tuner(self, data: Any, likelihood: Likelihood, prior: Prior, plan: Plan) -> EvidenceTuner | None:
        """Twenty looks, from a tenth of the run to nine tenths."""
        if self.tune != "during" or not isinstance(prior, GroupedNormal):
            return None
        every = max(1, round(0.8 * plan.steps / 20))
        return EvidenceTuner(
            data, likelihood, prior, self._structure, self._layers, self.columns, self.sample, max(1, plan.steps // 10), every,
            plan.seed,
        )  # fmt: skip

    def keep(self, plan: Plan) -> Callable[[Moment], bool] | None:  # ruff: ignore[unused-method-argument]
        """Nothing of the way."""
        return None

    @property
    def _structure(self) -> Structure:
        assert not isinstance(self.structure, str)
        return self.structure

    @property
    def _layers(self) -> tuple[str, ...] | None:
        return None if self.layers is None else tuple(self.layers)

    def finish(self, trained: Trained) -> Approximation:
        """The Gaussians, their evidence, and their weights."""
        models, prior = trained.herd, trained.prior
        spreads, evidences, notes, exact = [], [], [], True
        hyper = {n: t.clone() for n, t in models.hyper.items()}
        offsets = []
        for r in range(len(models)):
            weight = None if models.weight is None else models.weight[r]
            curvature = ggn(
                models, trained.data, trained.likelihood, self._structure, replica=r, layers=self._layers,
                columns=self.columns, sample=self.sample, weight=weight, seed=trained.plan.seed,
            )  # fmt: skip
            if self.tune == "after" and isinstance(prior, GroupedNormal):
                own = self._after(models, prior, r, curvature.matrix)
                for g, p in own.items():
                    hyper.setdefault(PREFIX + g, torch.zeros(len(models), dtype=torch.float64))[r] = p
                models = replace(models, hyper=hyper)
            precision = curvature.matrix.plus(prior_precision(models, prior, r))
            value = laplace_evidence(joint(models, trained.data, trained.likelihood, prior, r, weight), precision)
            spreads.append(precision)
            evidences.append(value)
            exact &= curvature.exact
            notes += curvature.notes
            if r == 0:
                offsets = [k for k in curvature.known]
        return self._approximation(
            models, prior, tuple(spreads), evidences, exact, tuple(dict.fromkeys(notes)), trained, offsets
        )

    def _approximation(
        self, models: Herd, prior: Prior, spreads: Any, evidences: list[float], exact: bool, notes: tuple[str, ...],
        trained: Trained, known: Sequence[Any],
    ) -> Approximation:  # fmt: skip
        values = torch.tensor(evidences, dtype=torch.float64)
        finite = bool(values.isfinite().all())
        log_weight = torch.log_softmax(values, 0) if self.weights == "evidence" and finite else even(len(values))
        total = float(torch.logsumexp(values, 0)) - math.log(len(values)) if finite else math.nan
        name = name_of(self._structure)
        layers = "" if self.layers is None else f", layers {', '.join(self.layers)}"
        evidence = (
            Evidence(total, len(trained.data), f"{name} laplace{layers}", each=tuple(evidences)) if finite else None
        )
        blocks = "the exact Gauss-Newton matrix" if exact else f"{name}, {_said(known)}"
        if self.tune == "after":
            notes = (*notes, "the prior was chosen after training: the mode is not quite its own")
        if not finite:
            notes = (*notes, Status.INFINITE_EVIDENCE.value)
        return Approximation(
            models, log_weight, spreads, linear=True, evidence=evidence, prior=prior,
            exact=f"approximate: a Gaussian around {'the mode' if len(values) == 1 else f'each of {len(values)} modes'}, {blocks}",
            notes=notes,
        )  # fmt: skip

    def _after(self, models: Herd, prior: GroupedNormal, r: int, matrix: Any) -> dict[str, float]:
        theta = flat_of(replica_params(models, r), layout(models.params))
        free = torch.cat([index for index, _ in matrix.parts])
        indices = {g: i for g, i in group_indices(models, prior, free).items() if len(i)}
        hyper = hyper_of(models, prior, r)
        return precisions(matrix, theta, {g: float(hyper[PREFIX + g]) for g in indices}, indices, steps=100)[0]


def _said(known: Sequence[Any]) -> str:
    forms: dict[str, int] = {}
    for k in known:
        forms[k.form] = forms.get(k.form, 0) + 1
    return ", ".join(f"{n} {form} block{'s' * (n > 1)}" for form, n in forms.items())


__all__ = ["Full", "Laplace"]
