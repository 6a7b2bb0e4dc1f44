"""What it is worth to learn more before one decides."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from kokkiri.decisions.best import matrix_of
from kokkiri.decisions.costs import ACTIONS, Costs
from kokkiri.errors import UsageError
from kokkiri.exact.experiment import Beliefs, Experiment
from kokkiri.exact.screening import Screening
from kokkiri.numerics import log_space
from kokkiri.phrases import count, cut, plain, probability, table


@dataclass(frozen=True, eq=False, repr=False)
class Information:
    """An experiment before a decision. Leading axes are cases.

    before: (...), expected utility of deciding now; informed: (...), of deciding after the experiment, its price not
    counted; perfect: (...), of deciding in full knowledge. now: (...), number of the best action now. Of K outcomes:
    probability (..., K), what is believed then, posterior (..., K, H), and the best action, then (..., K).
    """

    actions: tuple[Any, ...]
    names: tuple[str, ...]
    outcomes: tuple[str, ...]
    price: float
    before: Tensor
    informed: Tensor
    perfect: Tensor
    now: Tensor
    probability: Tensor
    posterior: Tensor
    then: Tensor

    def __repr__(self) -> str:
        if self.before.ndim:
            return f"Information({count(self.before.numel(), 'case')})"
        return f"Information(value {plain(float(self.value))}, price {plain(self.price)})"

    def __str__(self) -> str:
        if self.before.ndim:
            worth = int(self.worth.sum())
            return f"{count(self.before.numel(), 'case')}: the experiment is worth its price in {worth:,} of them"
        rows = []
        for k, name in enumerate(self.outcomes):
            p = float(self.probability[k])
            after = [probability(v) for v in self.posterior[k, :3].tolist()] if p else ["never"] * len(self.names[:3])
            rows.append([name, probability(p), *after, cut(str(self.actions[int(self.then[k])]), 12)])
        head = ["outcome", "P(outcome)", *(f"P({cut(n, 9)})" for n in self.names[:3]), "best action"]
        lines = [
            ["decide now", plain(float(self.before)), cut(str(self.actions[int(self.now)]), 30)],
            ["after the experiment", plain(float(self.informed)), ""],
            ["with perfect knowledge", plain(float(self.perfect)), ""],
        ]
        price = f"; its price {plain(self.price)}: {'worth it' if self.worth else 'not worth it'}" if self.price else ""
        said = f"Value of the experiment {plain(float(self.value))}{price}.\n"
        said += f"Value of perfect knowledge {plain(float(self.value_of_knowing))}."
        return "\n\n".join([table(head, rows), table(["expected utility", "", "best action"], lines), said])

    @property
    def value(self) -> Tensor:
        """(...) >= 0: the expected value of sample information."""
        return (self.informed - self.before).clamp(min=0.0)

    @property
    def value_of_knowing(self) -> Tensor:
        """(...) >= value: the expected value of perfect information."""
        return (self.perfect - self.before).clamp(min=0.0)

    @property
    def worth(self) -> Tensor:
        """(...) whether the experiment is worth more than it costs."""
        return self.value > self.price


def perfect_information(beliefs: Beliefs, utility: Any) -> Tensor:
    """(...) what it is worth to know the truth before one decides: E[max_a U(a, h)] - max_a E[U(a, h)] >= 0.

    utility: a matrix (A, H), or by action, then by hypothesis. No experiment is worth more.

    >>> from kokkiri.exact import Hypotheses
    >>> ill = Hypotheses({"ill": 0.1, "well": 0.9})
    >>> round(perfect_information(ill, {"treat": {"ill": 0, "well": -1}, "wait": {"ill": -20, "well": 0}}).item(), 12)
    0.9
    """
    p = beliefs.log_probability.exp()
    _, matrix = matrix_of(utility, p.shape[-1], tuple(beliefs.names))
    return (p @ matrix.amax(0) - (p @ matrix.T).amax(-1)).clamp(min=0.0)


def sample_information(beliefs: Beliefs, experiment: Experiment, utility: Any, *, price: float = 0.0) -> Information:
    """What an experiment is worth before one decides: Σ_x p(x) max_a E[U(a, h) | x] - max_a E[U(a, h)] >= 0.

    utility: as above, the price of the experiment not counted in it, but in the same unit. Source: Raiffa & Schlaifer
    1961, "Applied statistical decision theory", 4.5.

    >>> from kokkiri.exact import Screening
    >>> test = Screening(0.1, 0.99, 0.01)
    >>> found = sample_information(test.hypotheses, test.experiment, {"treat": [0, -1], "wait": [-20, 0]}, price=0.1)
    >>> round(found.value.item(), 12), found.worth.item()
    (0.871, True)
    """
    if not 0 <= price < math.inf:
        raise UsageError(
            f"an experiment cannot cost {price:g}", needs="a price of 0 or more", found=f"{price:g}", fix="price=0"
        )
    log_p, names = beliefs.log_probability, tuple(beliefs.names)
    actions, matrix = matrix_of(utility, len(names), names)
    likelihood = torch.stack([experiment.log_likelihood(k, names) for k in experiment.outcomes])  # (K, H)
    found = log_space.bayes(log_p[..., None, :], likelihood)
    p, posterior, chance = log_p.exp(), found.log_posterior.exp(), found.log_evidence.exp()
    each = posterior @ matrix.T  # (..., K, A)
    now = p @ matrix.T
    return Information(
        actions, names, tuple(experiment.outcomes), float(price), before=now.amax(-1),
        informed=(chance * each.amax(-1)).sum(-1), perfect=p @ matrix.amax(0), now=now.argmax(-1), probability=chance,
        posterior=posterior, then=each.argmax(-1),
    )  # fmt: skip


def value_of_test(test: Screening, costs: Costs, *, price: float = 0.0, twice: bool = False) -> Information:
    """What a screening test is worth to somebody who must act or leave; twice: two of them, independent given illness.

    >>> round(value_of_test(Screening(0.1, 0.99, 0.01), Costs(false_alarm=1, miss=20)).value.item(), 12)
    0.871
    """
    experiment = test.second().experiment if twice else test.experiment
    utility = dict(zip(ACTIONS, -costs.matrix.flip(-1), strict=False))  # hypotheses: ill before well
    return sample_information(test.hypotheses, experiment, utility, price=price)
