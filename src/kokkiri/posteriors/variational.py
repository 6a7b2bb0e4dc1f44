"""The diagonal Gaussian nearest to the posterior, learnt in place of a point at about the same price."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from kokkiri.errors import UsageError
from kokkiri.herd import Herd, herd
from kokkiri.numerics.operators import Blocks, diagonal
from kokkiri.numerics.random import generator
from kokkiri.optimizers import IVON
from kokkiri.posteriors.evidence import (
    flat_of,
    hyper_of,
    log_likelihoods,
    prior_precision,
    replica_params,
    with_theta,
)
from kokkiri.posteriors.members import member_seeds
from kokkiri.posteriors.recipe import Approximation, Run, Trained, even
from kokkiri.priors import Flat
from kokkiri.records import Evidence, Status
from kokkiri.training.flat import layout
from kokkiri.types import Likelihood, Prior

STEADY = 5.0  # lr N / B: the mean then jitters by about its own σ before the rate falls
CURVATURE = 0.1  # h at the start, nats a row: networks with standardised inputs have less
MEMORY = 0.5  # of the run: a shorter memory lets the spread of whole layers run away, and accuracy with it
WIDEST = 0.1  # σ at the start: wider, few rows would be taught with weights that are mostly noise


@dataclass(frozen=True)
class Variational:
    """q(θ) = sum_r N(θ | m_r, diag σ_r²) / R, each at the highest ELBO = E_q log p(D | θ) - KL(q ‖ p) <= log p(D).

    It is trained by `IVON`, with steps that suit the rows; `fit(optimizer=kk.optimizers.IVON(...))` has the last word.
    All rows are trained on: the prior regularises. Predictions run the network at draws. size: how many such Gaussians,
    from starts of their own. draws: of the ELBO's estimate, in pairs m ± σz.

    What a diagonal cannot say it leaves out: of a Gaussian posterior with precision H it learns σ_i² = 1 / H_ii, which
    is less than the variance (H⁻¹)_ii (Bishop 2006, section 10.1.2). Weights of which the data say little go back to
    the prior.

    >>> import kokkiri as kk
    >>> data = kk.read("breast-cancer")
    >>> net = kk.networks.MLP(data.inputs, [8], 1)
    >>> post = kk.fit(data, net, kk.Bernoulli(), posterior=Variational(), steps=200, progress=False)
    >>> post, post.evidence.method
    (Gaussian(MLP, 257 parameters, Bernoulli()), 'elbo, a lower bound')
    """

    size: int = 1
    draws: int = 16

    def __post_init__(self) -> None:
        """Refuses what means nothing."""
        for name, least in (("size", 1), ("draws", 4)):
            if getattr(self, name) < least:
                raise UsageError(
                    f"Variational({name}={getattr(self, name)})", needs=f"a whole number of at least {least}",
                    found=str(getattr(self, name)), fix="Variational()",
                )  # fmt: skip

    @property
    def folds(self) -> int:
        """None: all rows are trained on."""
        return 0

    @property
    def stops(self) -> bool:
        """Nothing stops the training."""
        return False

    def herd(self, make: nn.Module | Callable[[], nn.Module], *, seed: int) -> Herd:
        """`size` replicas; a single one keeps the weights of a network that is handed in."""
        if self.size == 1 and isinstance(make, nn.Module):
            return herd(make)
        return herd(make, seed=member_seeds(seed, self.size))

    def prepare(self, run: Run) -> Run:
        """IVON in place of another optimizer. Raises UsageError for a prior that is no density."""
        if isinstance(run.prior, Flat):
            raise UsageError(
                "a flat prior has no ELBO",
                needs="a prior that can be normalised",
                found="Flat()",
                fix="kk.Normal(1.0)",
            )
        if isinstance(run.optimizer, IVON):
            return run
        rows = len(run.data)
        share = min(run.plan.batch or rows, rows) / rows
        ivon = IVON(
            lr=min(0.1, STEADY * share), spread=min(WIDEST, (CURVATURE * rows) ** -0.5),
            memory=max(1.0, run.plan.steps * MEMORY),
        )  # fmt: skip
        return replace(run, optimizer=ivon)

    def finish(self, trained: Trained) -> Approximation:
        """The Gaussians and their ELBO; a run that diverged leaves points, and a status that says so."""
        models, run = trained.herd, trained.run
        spread = trained.last.memory["spread"][""].double()
        size = spread.shape[1]
        if not bool(((spread > 0) & spread.isfinite()).all()):
            return Approximation(
                models, even(len(models)), status=Status.DIVERGED, exact="points: no spread was learnt",
                notes=(Status.DIVERGED.value,),
            )  # fmt: skip
        found = [
            elbo(models, run.data, run.likelihood, run.prior, r, spread[r], draws=self.draws, seed=run.plan.seed)
            for r in range(len(models))
        ]
        each = torch.tensor([value for value, _ in found], dtype=torch.float64)
        total = float(torch.logsumexp(each, 0)) - math.log(len(each))
        error = max(e for _, e in found)
        blocks = tuple(Blocks(size, ((torch.arange(size), diagonal(s**-2)),)) for s in spread)
        finite = bool(each.isfinite().all())
        evidence = Evidence(total, len(run.data), "elbo, a lower bound", each=tuple(each.tolist())) if finite else None
        many = "the diagonal Gaussian" if len(each) == 1 else f"{len(each)} diagonal Gaussians"
        notes = (f"the ELBO is known to ± {error:.1f} nats, from {self.draws} draws",)
        return Approximation(
            models, even(len(each)), blocks, linear=False, evidence=evidence,
            status=None if finite else Status.INFINITE_EVIDENCE,
            exact=f"approximate: {many} of the highest ELBO",
            notes=notes if finite else (Status.INFINITE_EVIDENCE.value,),
        )  # fmt: skip


def elbo(
    models: Herd, data: Any, likelihood: Likelihood, prior: Prior, replica: int, spread: Tensor, *, draws: int,
    seed: int,
) -> tuple[float, float]:  # fmt: skip
    """E_q log p(D | θ) + E_q log p(θ) + H(q) for q = N(θ_r, diag spread²), nats, and the standard error of the first.

    The first by `draws` draws in pairs θ_r ± σz, in which all that is linear in z cancels; the others in closed form,
    exact for a Gaussian prior: E_q log p(θ) = log p(θ_r) - ½ sum_i λ_i σ_i².
    """
    where, params = layout(models.params), replica_params(models, replica)
    mean = flat_of(params, where)
    weight = None if models.weight is None else models.weight[replica].double()
    random = generator(seed, "elbo", replica)
    count = lambda rows: (rows if weight is None else weight * rows).sum()
    pairs = []
    for _ in range(draws // 2):
        step = spread * torch.randn(len(mean), generator=random, dtype=torch.float64)
        both = (with_theta(models, replica, mean + sign * step) for sign in (1, -1))
        pairs.append(torch.stack([count(log_likelihoods(h, data, likelihood, 0)) for h in both]).mean())
    values = torch.stack(pairs)
    prior_mean = (
        prior.log_prob(params, hyper_of(models, prior, replica))
        - 0.5 * (prior_precision(models, prior, replica) * spread**2).sum()
    )
    entropy = 0.5 * (1 + (2 * math.pi * spread**2).log()).sum()
    return float(values.mean() + prior_mean + entropy), float(values.std()) / len(values) ** 0.5
