"""Laplace's approximation: a Gaussian around each mode, as sharp as the log joint is curved there (MacKay 1992)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from kokkiri.curvature import Curvature, Full, Kronecker, Structure, ggn, named
from kokkiri.curvature.ggn import replica_module, wanted
from kokkiri.curvature.structures import name_of
from kokkiri.errors import KokkiriError, UsageError
from kokkiri.herd import Herd, herd
from kokkiri.numerics.operators import Blocks
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
from kokkiri.posteriors.expected import expected_curvature
from kokkiri.posteriors.members import member_seeds
from kokkiri.posteriors.modes import at_mode
from kokkiri.posteriors.recipe import Approximation, Run, Trained, even
from kokkiri.posteriors.updating import linear_in
from kokkiri.priors import Flat, GroupedNormal, Normal
from kokkiri.priors.grouped import PREFIX, groups_of
from kokkiri.records import Evidence, Status
from kokkiri.training.flat import layout
from kokkiri.types import LIKELIHOOD_PREFIX, Prior

TUNE = ("during", "after", "never")
GROUPS = ("layer", "tensor", "one")
WEIGHTS = ("even", "evidence")
LOOKS = 10  # at the evidence during a run; eight serve as well as twenty
# Precisions that modes start from, in multiples of the prior's own. Evidence has several summits, and each start finds
# another: from 1 many parameters are determined, from 20, which is about that of initial weights, few. On UCI data
# (benchmarks/uci.py) either is much better on some set than on others, and the mixture of both on all.
STARTS = (20.0, 5.0, 1.0)
COLLAPSED = -9.0  # log of a noise scale in units of the target's spread: float32 tells no smaller residuals apart


@dataclass(frozen=True)
class Laplace:
    """p(θ | D) ~ sum_r w_r N(θ_r, (G_r + Λ)⁻¹): a Gaussian around each of `size` modes.

    structure: "full", "kronecker", "ekfac", "diagonal", "low-rank", or a value of kk.curvature. layers: None for all,
    "last", or prefixes of parameter names; the others are held at the mode. tune: when evidence chooses the precisions
    of the prior and the noise: "during" training, so that the mode belongs to its prior; "after"; "never". groups: one
    precision for each "layer", each "tensor", or "one". columns: random columns of the likelihood's curvature instead
    of all of them (1: a Monte-Carlo Fisher). sample: rows that the curvature is estimated from. weights: of several
    modes, "even", or each its "evidence". starts: precisions that the modes start from, in turn; (): 20, 5 and 1 times
    that of a `Normal`, or those of a `GroupedNormal`. expected: so many draws of the Gaussian, over which the curvature
    is averaged in place of that at the mode (`posteriors.expected`).

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
    expected: int = 0

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

    def prepare(self, run: Run) -> Run:
        """A precision for each group, started where `starts` says, and what moves it while the networks are trained.

        Ten looks, from a tenth of the run to nine tenths. Raises UsageError for priors without a precision to choose.
        """
        prior = self._grouped(run.prior, run.herd)
        models, tuner = run.herd, None
        if isinstance(prior, GroupedNormal) and self.tune != "never":
            spread = STARTS if isinstance(run.prior, Normal) and self.tune == "during" else (1.0,)
            each = lambda p: self.starts or tuple(k * p for k in spread)
            column = lambda p: torch.tensor(
                [each(p)[r % len(each(p))] for r in range(len(models))], dtype=torch.float64
            )
            models = replace(models, hyper={**models.hyper, **{PREFIX + g: column(p) for g, p in prior.precisions}})
        if isinstance(prior, GroupedNormal) and self.tune == "during":
            every = max(1, round(0.8 * run.plan.steps / LOOKS))
            tuner = EvidenceTuner(
                run.data, run.likelihood, prior, self._structure, self._layers, self.columns, self.sample,
                max(1, run.plan.steps // 10), every, run.plan.seed, device=run.plan.device,
            )  # fmt: skip
        return replace(run, herd=models, prior=prior, tuner=tuner)

    def _grouped(self, prior: Prior, models: Herd) -> Prior:
        if isinstance(prior, Flat):
            raise UsageError(
                "a flat prior has no evidence", needs="a prior that can be normalised", found="Flat()",
                fix="kk.Normal(1.0)",
            )  # fmt: skip
        if self.tune == "never" or isinstance(prior, GroupedNormal):
            return prior
        if not isinstance(prior, Normal):
            raise UsageError(
                f"evidence cannot choose the precision of {type(prior).__name__}",
                needs="kk.Normal or kk.GroupedNormal", found=type(prior).__name__, fix="Laplace(tune='never')",
            )  # fmt: skip
        names = [n for n in models.params if not n.startswith(LIKELIHOOD_PREFIX)]
        by = "layer" if self.groups == "tensor" and isinstance(self.structure, Kronecker) else self.groups
        groups = dict.fromkeys(groups_of(names, by).values())
        return GroupedNormal(tuple((g, prior.precision) for g in groups))

    @property
    def _structure(self) -> Structure:
        assert not isinstance(self.structure, str)
        return self.structure

    @property
    def _layers(self) -> tuple[str, ...] | None:
        return None if self.layers is None else tuple(self.layers)

    def finish(self, trained: Trained) -> Approximation:
        """The Gaussians, their evidence, and their weights.

        A curvature that is not finite, or no peak, leaves points, and a status that says so.
        """
        models, run, prior = trained.herd, trained.run, trained.run.prior
        hyper = {n: t.clone() for n, t in models.hyper.items()}
        spreads: list[Blocks] = []
        values: list[float] = []
        found: list[Curvature] = []
        for r in range(len(models)):
            weight = None if models.weight is None else models.weight[r]
            try:
                if isinstance(self.structure, Full) and weight is None and self.sample is None:
                    models = self._climbed(models, run, prior, r)
                curvature = self._curvature(models, run, r, weight)
                if self.tune == "after" and isinstance(prior, GroupedNormal):
                    for g, p in self._after(models, prior, r, curvature.matrix).items():
                        hyper[PREFIX + g][r] = p
                    models = replace(models, hyper=hyper)
                precision = _sharpened(curvature.matrix, prior_precision(models, prior, r))
                peaked = bool(precision.logdet().isfinite())
            except KokkiriError:
                raise
            except ValueError:  # not finite
                return _points(models, prior)
            if not peaked:
                return _points(models, prior)
            if self.expected:
                curve = lambda one, rows: self._curvature(one, replace(run, data=rows), 0, None)
                averaged = expected_curvature(
                    models, r, run.data, precision, curve, draws=self.expected, seed=run.plan.seed
                )
                precision = _sharpened(averaged, prior_precision(models, prior, r))
            found.append(curvature)
            spreads.append(precision)
            own = joint(models, run.data, run.likelihood, prior, r, weight=weight, free=precision.free)
            values.append(laplace_evidence(own, precision))
        some = run.data.batch(torch.arange(min(3, len(run.data)))).x
        linear = all(f.exact for f in found) and linear_in(models, spreads[0], run.likelihood, some)
        return self._approximation(models, prior, tuple(spreads), values, found, len(run.data), linear=linear)

    def _climbed(self, models: Herd, run: Run, prior: Prior, r: int) -> Herd:
        """The last steps to the mode, which descent only comes near; where the whole matrix is at hand they are few."""
        names = [n for n in models.params if not n.startswith(LIKELIHOOD_PREFIX)]
        if self.layers is not None:
            module = replica_module(models, r)
            names = list(wanted(module, self._layers, run.data.batch(torch.arange(min(3, len(run.data)))).x))
        curve = lambda one: ggn(one, run.data, run.likelihood, self._structure, layers=names, seed=run.plan.seed)
        theta = at_mode(models, r, run.data, run.likelihood, prior, names, curve)
        own = layout(models.params).views(theta[None])
        params = {n: t.clone() for n, t in models.params.items()}
        for n, t in params.items():
            t[r] = own[n][0].to(t)
        return replace(models, params=params)

    def _curvature(self, models: Herd, run: Run, r: int, weight: Tensor | None) -> Curvature:
        return ggn(
            models, run.data, run.likelihood, self._structure, replica=r, layers=self._layers, columns=self.columns,
            sample=self.sample, weight=weight, seed=run.plan.seed, device=run.plan.device,
        )  # fmt: skip

    def _approximation(
        self,
        models: Herd,
        prior: Prior,
        spreads: tuple[Blocks, ...],
        values: list[float],
        found: list[Curvature],
        n: int,
        *,
        linear: bool,
    ) -> Approximation:
        each = torch.tensor(values, dtype=torch.float64)
        finite = bool(each.isfinite().all())
        log_weight = torch.log_softmax(each, 0) if self.weights == "evidence" and finite else even(len(each))
        total = float(torch.logsumexp(each, 0)) - math.log(len(each))
        name = name_of(self._structure) + ("" if self.layers is None else f", layers {', '.join(self.layers)}")
        whole = linear and len(spreads[0].free) == layout(models.params).size  # then the log joint is quadratic
        evidence = Evidence(total, n, f"laplace, {name}", whole, tuple(values)) if finite else None
        modes = "the mode" if len(each) == 1 else f"each of {len(each)} modes"
        blocks = "the exact Gauss-Newton matrix" if all(f.exact for f in found) else _said(found[0], name)
        notes = list(dict.fromkeys(note for f in found for note in f.notes))
        if self.tune == "after":
            notes.append("the prior was chosen after training: the mode is not quite its own")
        status = None if finite else Status.INFINITE_EVIDENCE
        scale = models.params.get(LIKELIHOOD_PREFIX + "log_scale")
        if scale is not None and bool((scale < COLLAPSED).any()):
            status = Status.NOISE_COLLAPSED
        exact = f"approximate: a Gaussian around {modes}; {blocks}"
        if linear:
            given = "" if whole else f" for layers {', '.join(self.layers or ())}, given the features"
            exact = f"exact{given}: outputs are linear in what is free, the noise is normal and known"
        return Approximation(
            models, log_weight, spreads, linear=True, evidence=evidence, prior=prior, status=status, exact=exact,
            notes=(*notes, *(() if status is None else (status.value,))),
        )  # fmt: skip

    def _after(self, models: Herd, prior: GroupedNormal, r: int, matrix: Any) -> dict[str, float]:
        theta = flat_of(replica_params(models, r), layout(models.params))
        free = torch.cat([index for index, _ in matrix.parts])
        indices = {g: i for g, i in group_indices(models, prior, free).items() if len(i)}
        hyper = hyper_of(models, prior, r)
        return precisions(matrix, theta, {g: float(hyper[PREFIX + g]) for g in indices}, indices, steps=100)[0]


def _points(models: Herd, prior: Prior) -> Approximation:
    return Approximation(
        models, even(len(models)), prior=prior, status=Status.INDEFINITE, exact="points: no curvature",
        notes=(Status.INDEFINITE.value,),
    )  # fmt: skip


def _sharpened(matrix: Blocks, precision: Tensor) -> Blocks:
    try:
        return matrix.plus(precision)
    except ValueError as error:
        raise UsageError(
            "the prior's precision differs within a layer too large for that", needs="one precision for a layer",
            found=str(error), fix="Laplace(groups='layer'), or structure='diagonal'",
        ) from error  # fmt: skip


def _said(found: Curvature, name: str) -> str:
    forms: dict[str, int] = {}
    for k in found.known:
        forms[k.form] = forms.get(k.form, 0) + 1
    blocks = ", ".join(f"{n} {form} block{'s' * (n > 1)}" for form, n in forms.items())
    random = "" if found.columns is None else f", from {found.columns} random column{'s' * (found.columns > 1)}"
    return f"{name} curvature ({blocks}{random})"
