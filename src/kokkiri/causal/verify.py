"""Every estimand is compared with the truth in random models of its graph before anybody uses it.

A model is drawn in which each bidirected edge is a hidden cause of its own, P(v) is computed and the hidden causes are
forgotten; what the formula makes of P(v) must be what the model says under do(x). The models are of the graph onto
which the variables of the formula project: all that a formula can be wrong about is in it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from kokkiri.causal.expression import Expression, probability, variables
from kokkiri.causal.graph import Graph
from kokkiri.causal.linear import linear_value, partial_covariance, random_linear
from kokkiri.causal.models import random_models, thinned
from kokkiri.causal.tables import evaluate

MODELS = 3
LIMIT = 12  # variables of a table of probabilities
TOLERANCE = 1e-7  # rounding grows where events are rare; a wrong formula is off by 1e-2


@dataclass(frozen=True)
class Check:
    """How many random models, of which kind, and the largest difference from the truth."""

    models: int
    kind: str
    error: float

    def __str__(self) -> str:
        if not self.models:
            return f"not compared with the truth: {self.kind}"
        return f"equal to the truth in {self.models} random {self.kind} models, to {self.error:.0e}"


def check_formula(
    graph: Graph, expression: Expression, treatment: int, outcome: int, given: int, seed: int = 0
) -> Check:
    """Compares a formula of probabilities with P(outcome | do(treatment), given), in a graph without latent nodes."""
    keep = graph.names(treatment | outcome | given | graph.mask(variables(expression)))
    x, y, z = (graph.names(m) for m in (treatment, outcome, given))
    if len(keep) > LIMIT:
        return Check(0, f"it has {len(keep)} variables, and tables of at most {LIMIT} are made", 0.0)
    small = graph.projected(keep)
    thin = [thinned(small, seed + i) for i in range(MODELS)]
    batches = [(small, MODELS)] if all(t == small for t in thin) else [(t, 1) for t in thin]
    worst = 0.0
    for i, (part, models) in enumerate(batches):
        model = random_models(part, models, seed + i)
        # the table of P(v | do(x)) has x as an axis: what is set stands behind the bar
        truth = evaluate(probability(y, (*x, *z)), model.joint(x), part.nodes)
        worst = max(worst, float((evaluate(expression, model.joint(), part.nodes) - truth).abs().max()))
    return _judged(Check(MODELS, "discrete", worst), expression)


def check_adjusted(graph: Graph, treatment: int, outcome: int, adjusted: int, seed: int = 0) -> Check:
    """Compares what adjustment gives in random linear models with their total effects: for sets of any size."""
    small = graph.projected(graph.names(treatment | outcome | adjusted))
    x, y, z = ([small.index[name] for name in graph.names(m)] for m in (treatment, outcome, adjusted))
    worst = 0.0
    for i in range(MODELS):
        model = random_linear(small, seed + i)
        below, above = (partial_covariance(model.covariance, x, side, z) for side in (x, y))
        worst = max(worst, float((torch.linalg.solve(below, above) - model.total(y, x).mT).abs().max()))
    return _judged(Check(MODELS, "linear", worst), f"adjustment for {graph.names(adjusted)}")


def check_instruments(graph: Graph, expression: Expression, treatment: int, outcome: int, seed: int = 0) -> Check:
    """Compares the ratio of covariances with the total effects of random linear models."""
    small = graph.projected(graph.names(treatment | outcome | graph.mask(variables(expression))))
    x, y = ([small.index[name] for name in graph.names(m)] for m in (treatment, outcome))
    worst = 0.0
    for i in range(MODELS):
        model = random_linear(small, seed + i)
        found = linear_value(expression, model.covariance, small.nodes)
        worst = max(worst, float((found - model.total(y, x).mT).abs().max()))
    return _judged(Check(MODELS, "linear", worst), expression)


def _judged(check: Check, formula: object) -> Check:
    if not check.error < TOLERANCE:  # nan is wrong, too
        raise AssertionError(f"a formula is wrong, which is a defect of kokkiri: {formula} is off by {check.error:.2g}")
    return check
