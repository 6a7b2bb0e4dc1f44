"""Bayesian networks by brute force: the whole joint distribution, and questions answered by summing it."""

import math
import string

import numpy as np
import torch

import kokkiri as kk
from kokkiri.exact.networks.random_networks import random_network
from kokkiri.numerics.random import philox


def joint_of(net):
    """p(x_1, …, x_n) with an axis for each variable."""
    letters = string.ascii_letters
    terms = ",".join("".join(letters[i] for i in family) for family in net.structure.families)
    whole = letters[: len(net.structure.names)]
    return torch.einsum(f"{terms}->{whole}", *net.tables.values())


def at_evidence(joint, case):
    """The joint where the case holds, axes kept: zero elsewhere."""
    keep = torch.ones_like(joint)
    for i, k in case.items():
        there = torch.zeros(joint.shape[i], dtype=joint.dtype)
        there[k] = 1
        keep = keep * there.reshape([-1 if j == i else 1 for j in range(joint.ndim)])
    return joint * keep


def marginals_of(joint):
    """Of each variable, normalised."""
    return [over(joint, [i]) / joint.sum() for i in range(joint.ndim)]


def over(joint, some):
    """Summed over all axes but some, which keep their order."""
    rest = [j for j in range(joint.ndim) if j not in some]
    return joint.sum(rest) if rest else joint  # torch sums over everything where no axis is named


def a_network(seed, most=6):
    """A small random network, with zeros in some tables, and its variables in any order."""
    rng = philox(seed, "test a network")
    n = int(rng.integers(1, most + 1))
    net = random_network(n, seed, arrows=float(rng.uniform(0.5, 2.0)), states=[1, 2, 3] if seed % 3 == 0 else [2, 3])
    tables = {}
    for name, table in net.tables.items():
        tables[name] = table
        if rng.random() < 0.3 and table.shape[-1] > 1:
            some = table * torch.from_numpy((rng.random(table.shape) < 0.6).astype(float))
            some = torch.where(some.sum(-1, keepdim=True) > 0, some, 1.0)
            tables[name] = some / some.sum(-1, keepdim=True)
    order = rng.permutation(n).tolist()
    structure = kk.exact.Structure(tuple(net.structure.variables[i] for i in order))
    return kk.exact.BayesianNetwork(structure, tables), rng


def some_evidence(net, rng, most=None):
    """Evidence that is possible: some variables of a draw, by number and by name."""
    n = len(net.structure.names)
    drawn = net.draw(1, seed=int(rng.integers(2**31)))
    k = int(rng.integers(0, (n if most is None else min(most, n)) + 1))
    case = {int(i): int(drawn[net.structure.names[i]][0]) for i in rng.choice(n, k, replace=False)}
    return case, named(net, case)


def named(net, case):
    return {net.structure.variables[i].name: net.structure.variables[i].states[k] for i, k in case.items()}


def hidden_markov(steps, seed, states=3, signs=4, concentration=1.0):
    """z0 -> z1 -> …, z_t -> y_t, with its start, transitions and emissions as arrays."""
    rng = philox(seed, "test hidden Markov")
    start = rng.dirichlet(np.full(states, concentration))
    move = rng.dirichlet(np.full(states, concentration), states)
    show = rng.dirichlet(np.full(signs, concentration), states)
    arrows = "; ".join([f"z{t} -> z{t + 1}" for t in range(steps - 1)] + [f"z{t} -> y{t}" for t in range(steps)])
    tables = {"z0": start} | {f"z{t}": move for t in range(1, steps)} | {f"y{t}": show for t in range(steps)}
    seen = rng.integers(0, signs, steps).tolist()
    return kk.exact.bayesian_network(arrows, tables), start, move, show, seen


def forward_algorithm(start, move, show, seen):
    """log p(seen), and p(last state | seen), with the usual rescaling (Rabiner 1989)."""
    belief, total = start * show[:, seen[0]], 0.0
    for y in seen[1:]:
        total += math.log(belief.sum())
        belief = (belief / belief.sum()) @ move * show[:, y]
    return total + math.log(belief.sum()), belief / belief.sum()


def viterbi(start, move, show, seen):
    """The most probable states and log p(states, seen)."""
    with np.errstate(divide="ignore"):
        score, back = np.log(start) + np.log(show[:, seen[0]]), []
        for y in seen[1:]:
            through = score[:, None] + np.log(move)
            back.append(through.argmax(0))
            score = through.max(0) + np.log(show[:, y])
    path = [int(score.argmax())]
    for best in reversed(back):
        path.append(int(best[path[-1]]))
    return path[::-1], float(score.max())
