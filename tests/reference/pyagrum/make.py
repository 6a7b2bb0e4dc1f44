"""Marginals and evidence by pyAgrum's lazy propagation, for tests.  python tests/reference/pyagrum/make.py

Needs pyagrum 3.3.1 (and numpy, torch and kokkiri beside it). Writes answers.json: of each network the marginals of all
variables for a few cases of evidence, taken from draws of the network. Networks: Asia, Alarm, five random ones of 50.
"""

import json
import math
from pathlib import Path

import numpy as np

import kokkiri as kk
from kokkiri.exact.networks.random_networks import random_network
from kokkiri.numerics.random import philox

HERE = Path(__file__).parent
CASES = 3


def networks():
    yield "asia", kk.exact.read_network("asia")
    yield "alarm", kk.exact.read_network("alarm")
    for seed in range(5):
        yield f"random {seed}", random_network(50, seed, arrows=1.4, states=[2, 3, 4])


def cases(net):
    """Evidence on none, on a few, and on a third of the variables."""
    names = net.structure.names
    for k in range(CASES):
        rng = philox(k, "evidence for pyAgrum", len(names))
        drawn = net.draw(1, seed=k)
        some = sorted(rng.choice(len(names), (0, min(4, len(names) // 3), len(names) // 3)[k], replace=False).tolist())
        yield {names[i]: net.structure.variables[i].states[int(drawn[names[i]])] for i in some}


def to_pyagrum(net):
    """The same network there, table by table, so that no file format stands between."""
    import pyagrum as gum

    other = gum.BayesNet(net.name)
    for v in net.structure.variables:
        other.add(gum.LabelizedVariable(v.name, v.name, list(v.states)))
    for parent, child in net.structure.arrows:
        other.addArc(parent, child)
    for v in net.structure.variables:
        for at in np.ndindex(*net.structure.shape(v.name)[:-1]):
            row = net.tables[v.name][at].tolist()
            if v.parents:
                other.cpt(v.name)[{p: int(k) for p, k in zip(v.parents, at, strict=True)}] = row
            else:
                other.cpt(v.name)[:] = row
    return other


def answers(net):
    import pyagrum as gum

    other, found = to_pyagrum(net), []
    for case in cases(net):
        engine = gum.LazyPropagation(other)
        engine.setEvidence(case)
        engine.makeInference()
        marginals = {name: engine.posterior(name).tolist() for name in net.structure.names}
        found.append({"evidence": case, "log_evidence": math.log(engine.evidenceProbability()), "marginals": marginals})
    return found


if __name__ == "__main__":
    import pyagrum as gum

    gum.setNumberOfThreads(1)
    every = {name: answers(net) for name, net in networks()}
    text = json.dumps({"pyagrum": gum.__version__, "networks": every})
    (HERE / "answers.json").write_text(text.replace('{"evidence"', '\n{"evidence"') + "\n")
    print(f"{len(text):,} characters")
