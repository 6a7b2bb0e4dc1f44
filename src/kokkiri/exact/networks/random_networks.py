"""Random networks, to try things on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from kokkiri.errors import UsageError
from kokkiri.exact.networks.network import BayesianNetwork
from kokkiri.exact.networks.structure import Structure, Variable
from kokkiri.numerics.random import philox


def random_network(
    variables: int,
    seed: int = 0,
    *,
    arrows: float = 1.3,
    parents: int = 3,
    states: int | Sequence[int] = 2,
    concentration: float = 1.0,
) -> BayesianNetwork:
    """A network named x0, x1, …: random arrows from earlier to later ones, rows of tables Dirichlet(concentration).

    arrows: how many for each variable, on average. parents: at most so many of one variable. states: how many each has,
    or what to choose from at random.

    >>> random_network(5, seed=1)
    BayesianNetwork(random: 5 variables, 6 arrows, 32 probabilities)
    """
    choices = [states] if isinstance(states, int) else list(states)
    if variables < 1 or parents < 0 or not choices or min(choices) < 1:
        raise UsageError(
            "there is no such random network", needs="a variable or more, and a state or more",
            found=f"{variables} variables, {parents} parents, states {states}", fix="such as random_network(30)",
        )  # fmt: skip
    rng = philox(seed, "random network", variables)
    sizes = [int(rng.choice(choices)) for _ in range(variables)]
    above: list[list[int]] = [[] for _ in range(variables)]
    pairs = [(a, b) for b in range(variables) for a in range(b)]
    left = round(arrows * variables)
    for k in rng.permutation(len(pairs)).tolist():
        a, b = pairs[k]
        if left and len(above[b]) < parents:
            above[b].append(a)
            left -= 1
    named = [
        Variable(f"x{i}", tuple(f"s{k}" for k in range(sizes[i])), tuple(f"x{p}" for p in sorted(above[i])))
        for i in range(variables)
    ]
    tables = {}
    for i, v in enumerate(named):
        shape = tuple(sizes[p] for p in sorted(above[i]))
        tables[v.name] = torch.from_numpy(np.asarray(rng.dirichlet(np.full(sizes[i], concentration), shape or None)))
    return BayesianNetwork(Structure(tuple(named)), tables, "random")
