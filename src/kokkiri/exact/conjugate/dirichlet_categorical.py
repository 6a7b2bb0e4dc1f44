"""One of several classes: a categorical whose probabilities are not known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import overload

import torch
from torch import Tensor

from kokkiri.errors import DataError, ShapeError, nearest
from kokkiri.exact.conjugate import history, pictures, rows, words
from kokkiri.exact.conjugate.history import NOTHING, History
from kokkiri.exact.distributions import Beta, Categorical, Dirichlet, DirichletMultinomial, arguments
from kokkiri.exact.distributions.arguments import Numbers
from kokkiri.numerics import divergences
from kokkiri.numerics.gammas import dirichlet_log_evidence


@dataclass(frozen=True, eq=False, repr=False, init=False)
class DirichletCategorical:
    """y ~ Categorical(p), p ~ Dirichlet(concentration): rows that are one of K classes.

    concentration: (..., K), > 0; the prior is worth so many rows of each class. After c_k rows of class k it is
    Dirichlet(concentration + c) (Bishop 2006, eq. 2.41). names: of the classes; rows may then be names, too.

    >>> post = DirichletCategorical([1, 1, 1], names=["red", "green", "blue"]).update(["red", "blue", "red"])
    >>> print(post)
    DirichletCategorical([3, 1, 2])
                           mean     sd  2.5 %  97.5 %   mode
    probability of red    0.500  0.189  0.147   0.853  0.667
    probability of green  0.167  0.141  0.005   0.522  0.000
    probability of blue   0.333  0.178  0.053   0.716  0.333
    3 rows learnt since DirichletCategorical([1, 1, 1]): log evidence -3.40 nats;
    0.551 nats of information gained
    """

    concentration: Tensor
    names: tuple[str, ...]
    history: History

    def __init__(self, concentration: Numbers, names: Sequence[str] = (), history: History = NOTHING) -> None:
        arguments.put(
            self, concentration=Dirichlet(concentration).concentration, names=tuple(map(str, names)), history=history
        )
        classes = self.concentration.shape[-1]
        if self.names and (len(self.names) != classes or len(set(self.names)) != classes):
            raise ShapeError(
                f"DirichletCategorical got {len(set(self.names))} different names for {classes} classes",
                needs=f"{classes} different names, or none",
                found=", ".join(self.names[:8]),
                fix="one name for each number of the concentration",
            )

    def __repr__(self) -> str:
        return repr(self._p).replace("Dirichlet", "DirichletCategorical", 1)

    def __str__(self) -> str:
        return words.table(self)

    def update(self, y: Numbers, weight: Numbers | None = None) -> DirichletCategorical:
        """After rows y (..., N), each a class number 0 … K-1 or a name; weight (..., N): how often each counts."""
        return self.update_statistics(self._counts(y, weight))

    def update_statistics(self, counts: Numbers) -> DirichletCategorical:
        """After so many rows of each class, (..., K)."""
        (c,) = rows.total("DirichletCategorical", self.concentration.shape, counts=counts)
        c = c.expand(torch.broadcast_shapes(c.shape, self.concentration.shape))
        past = history.after(self, c.sum(-1), self._log_evidence(c))
        return DirichletCategorical(self.concentration + c, self.names, past)

    def downdate(self, y: Numbers, weight: Numbers | None = None) -> DirichletCategorical:
        """As if these rows had never been learnt. Raises DataError where they cannot have been."""
        c, first = self._counts(y, weight), self.history.prior
        less = DirichletCategorical(
            history.left(self, self.concentration, c, first and first.concentration), self.names
        )
        past = history.before(self, c.sum(-1), less._log_evidence(c))
        return DirichletCategorical(less.concentration, self.names, past)

    def log_evidence(self, y: Numbers, weight: Numbers | None = None) -> Tensor:
        """Log p(these rows, in this order), (...) nats: log B(concentration + c) / B(concentration)."""
        return self._log_evidence(self._counts(y, weight))

    @overload
    def predictive(self) -> Categorical: ...
    @overload
    def predictive(self, trials: Numbers) -> DirichletMultinomial: ...
    def predictive(self, trials: Numbers | None = None) -> Categorical | DirichletMultinomial:
        """The class of the next row; or how often each class comes in the next `trials` rows."""
        if trials is None:
            return Categorical(self.concentration)
        return DirichletMultinomial(trials, self.concentration)

    def maximum_likelihood(self, y: Numbers, weight: Numbers | None = None) -> Tensor:
        """The share of each class, (..., K); NaN without rows."""
        c = self._counts(y, weight)
        return c / c.sum(-1, keepdim=True)

    def log_prob(self, probabilities: Numbers) -> Tensor:
        """The log density of the parameters (..., K), nats."""
        return self._p.log_prob(probabilities)

    def draw(self, n: int, *, seed: int) -> Tensor:
        """Probabilities, (n, ..., K)."""
        return self._p.sample(n, seed=seed)

    def interval(self, level: float = 0.95) -> tuple[Tensor, Tensor]:
        """The central interval of each probability by itself, (..., K) each."""
        return self._p.interval(level)

    def divergence(self, other: DirichletCategorical) -> Tensor:
        """KL(self ‖ other), (...) nats; from its own prior it is what the rows taught."""
        return divergences.dirichlet(*torch.broadcast_tensors(self.concentration, other.concentration))

    def picture(self, *stages: DirichletCategorical) -> str:
        """The intervals of the probabilities, beside those of the prior or of the stage before: SVG text."""
        return pictures.draw("probability", self, stages)

    @property
    def batch(self) -> torch.Size:
        """The axes of families side by side."""
        return self.concentration.shape[:-1]

    @property
    def marginals(self) -> dict[str, Beta]:
        """What is believed of each probability by itself, (..., K), by name."""
        return {"probability": self._p.marginal}

    @property
    def mean(self) -> Tensor:
        """E[p_k], (..., K)."""
        return self._p.mean

    @property
    def variance(self) -> Tensor:
        """var(p_k), (..., K)."""
        return self._p.variance

    @property
    def mode(self) -> Tensor:
        """The maximum a posteriori, (α_k - 1) / Σ (α - 1), (..., K); NaN where there is none (see `why_no_mode`)."""
        return self._p.mode

    @property
    def why_no_mode(self) -> str:
        """In words, where there is none."""
        flat = (self.concentration == 1).all(-1)
        return words.no_mode(self.mode, flat, "the density grows without bound: a concentration is below 1")

    @property
    def _p(self) -> Dirichlet:
        return Dirichlet(self.concentration)

    def _counts(self, y: Numbers, weight: Numbers | None) -> Tensor:
        """(..., K), how often each class came."""
        classes = self.concentration.shape[-1]
        inside = lambda v: (v >= 0) & (v < classes) & (v == v.round())
        support = rows.Support(inside, f"class numbers 0 to {classes - 1}", "class numbers, or a family with `names`")
        found = rows.values("DirichletCategorical", self.batch, self._numbered(y), weight, support)
        place = found.y.long()
        out = torch.zeros(*place.shape[:-1], classes, dtype=torch.float64, device=place.device)
        return out.scatter_add(-1, place, found.weight.contiguous())

    def _numbered(self, y: Numbers) -> Numbers:
        """Names as class numbers."""
        single = isinstance(y, str)
        if not self.names or isinstance(y, Tensor) or not (single or any(isinstance(v, str) for v in _flat(y))):
            return y
        number = {name: i for i, name in enumerate(self.names)}
        told = [str(v) for v in ([y] if single else _flat(y))]
        for row, name in enumerate(told):
            if name not in number:
                raise DataError(
                    f"DirichletCategorical cannot learn y in row {row} (rows count from 0)",
                    needs="one of its classes",
                    found=f"'{name}'",
                    fix=nearest(name, self.names),
                )
        return [number[name] for name in told]

    def _log_evidence(self, counts: Tensor) -> Tensor:
        return dirichlet_log_evidence(*torch.broadcast_tensors(self.concentration, counts))


def _flat(y: Numbers) -> list[object]:
    """One axis of rows, as Python values."""
    values = y.tolist() if hasattr(y, "tolist") else y  # pyright: ignore[reportAttributeAccessIssue]
    return list(values) if isinstance(values, list | tuple) else [values]
