"""Questions to Bayesian networks beside pyAgrum.  python benchmarks/bayesian_networks.py [--peer SITE-PACKAGES]

CPU microseconds a question, one thread, round-robin in one process; median over networks and rounds, and [least,
greatest] of the ratio within a round. "30 variables": random networks of two states and 45 arrows, five of them; and
Alarm. Eight variables are known, their states drawn anew for every question from rows of the network itself. "one": the
probabilities of one variable, the last that is not known; "all": those of every variable. pyAgrum 3.3.1 is its lazy
propagation, the engine and its junction tree kept, states changed by chgEvidence and targets set, which is its fastest
way. kokkiri is network.given, the plan kept; a batch is 10,000 rows handed in at once. "different rows": fifteen known
variables, and no row twice. "first question": from tables in memory to the answer, junction tree or plan included. The
answers are compared with pyAgrum's (1e-10) before anything is timed. pyAgrum is taken from --peer, a folder that is put
at the end of the path, where it is not installed.
Written to benchmarks/results/bayesian_networks.json and .md.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import time
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import torch

import kokkiri as kk
from kokkiri.exact.networks.random_networks import random_network

RESULTS = Path(__file__).parent / "results"
ROWS, ASKED, ROUNDS, KNOWN, MORE = 10_000, 200, 5, 8, 15
DIFFERENT = ", different rows"
BARS = {"batch, one": 100.0, "single, one": 1 / 3, "first, one": 1 / 3}


def to_pyagrum(gum, net):
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


class Asked:
    """One network, its questions, and both ways to answer them."""

    def __init__(self, gum, net, seed, known=KNOWN, distinct=False):
        names = net.structure.names
        rng = np.random.default_rng(seed)
        self.net = net
        self.known = [names[i] for i in sorted(rng.choice(len(names), known, replace=False))]
        free = [n for n in names if n not in self.known]
        self.one, self.all = free[-1:], free
        drawn = net.draw(ROWS * (200 if distinct else 1), seed=seed)
        codes = torch.stack([drawn[n] for n in self.known], 1)
        if distinct:
            codes = torch.unique(codes, dim=0)
            codes = codes[torch.randperm(len(codes), generator=torch.Generator().manual_seed(seed))[:ROWS]]
        self.codes = codes
        self.rows = {n: codes[:, k].contiguous() for k, n in enumerate(self.known)}
        states = {v.name: v.states for v in net.structure.variables}
        self.cases = [{n: states[n][k] for n, k in zip(self.known, row, strict=True)} for row in codes[:ASKED].tolist()]
        self.different = len(torch.unique(codes, dim=0))
        self.other = to_pyagrum(gum, net)
        self.engines = {}
        for which in ("one", "all"):
            engine = gum.LazyPropagation(self.other)
            for n in getattr(self, which):
                engine.addTarget(n)
            engine.setEvidence(self.cases[0])
            engine.makeInference()
            self.engines[which] = engine

    def pyagrum(self, which, case):
        engine = self.engines[which]
        for name, state in case.items():
            engine.chgEvidence(name, state)
        engine.makeInference()
        return [engine.posterior(n).tolist() for n in getattr(self, which)]

    def ours(self, which, case):
        found = self.net.given(case, of=getattr(self, which))
        return [found[n].tolist() for n in getattr(self, which)]

    def batch(self, which):
        return self.net.given(self.rows, of=getattr(self, which))

    def check(self):
        many = self.batch("all")
        for k, case in enumerate(self.cases[:40]):
            theirs = self.pyagrum("all", case)
            for name, a, b in zip(self.all, theirs, self.ours("all", case), strict=True):
                np.testing.assert_allclose(a, b, rtol=0, atol=1e-10)
                np.testing.assert_allclose(many[name][k], a, rtol=0, atol=1e-10)


def timed(function, *arguments):
    began = time.process_time()
    function(*arguments)
    return 1e6 * (time.process_time() - began)


def measure(asked, rounds):
    """Microseconds a question: {question: [(pyAgrum, kokkiri), …]}, a pair a round."""
    found = {}
    for _ in range(rounds):
        for which in ("one", "all"):
            cases = asked.cases if which == "one" else asked.cases[:60]
            theirs, mine = [], []
            for case in cases:  # turn and turn about
                theirs.append(timed(asked.pyagrum, which, case))
                mine.append(timed(asked.ours, which, case))
            them = statistics.median(theirs)
            found.setdefault(f"single, {which}", []).append((them, statistics.median(mine)))
            found.setdefault(f"batch, {which}", []).append((them, timed(asked.batch, which) / len(asked.codes)))
    return found


def first_question(gum, net, case, one):
    """From a network that was read to the first answer: junction tree, or plan."""

    def theirs():
        engine = gum.LazyPropagation(other)
        engine.addTarget(one)
        engine.setEvidence(case)
        engine.makeInference()
        return engine.posterior(one).tolist()

    def mine():
        fresh.structure.plans.clear()
        return fresh.given(case, of=one)[one].tolist()

    other, fresh = to_pyagrum(gum, net), net
    return timed(theirs), timed(mine)


def main(gum, rounds):
    gum.setNumberOfThreads(1)
    torch.set_num_threads(1)
    nets = [random_network(30, seed, arrows=1.5) for seed in range(5)]
    groups = {
        "30 variables": [Asked(gum, net, k) for k, net in enumerate(nets)],
        f"30 variables{DIFFERENT}": [Asked(gum, net, k, MORE, distinct=True) for k, net in enumerate(nets)],
        "Alarm": [Asked(gum, kk.exact.read_network("alarm"), 0)],
    }
    table = {}
    for name, asked in groups.items():
        pairs = {}
        for one in asked:
            one.check()
            for question, found in measure(one, rounds).items():
                pairs.setdefault(question, []).extend(found)
        first = [first_question(gum, a.net, a.cases[0], a.one[0]) for a in asked for _ in range(rounds)]
        pairs["first, one"] = first
        table[name] = {
            "different rows": [a.different for a in asked], "rows": [len(a.codes) for a in asked],
            "questions": {q: summary(p) for q, p in sorted(pairs.items())},
        }  # fmt: skip
    return table


def summary(pairs):
    ratios = [a / b for a, b in pairs]
    return {
        "pyagrum_us": statistics.median(a for a, _ in pairs), "kokkiri_us": statistics.median(b for _, b in pairs),
        "ratio": statistics.median(ratios), "least": min(ratios), "greatest": max(ratios), "pairs": pairs,
    }  # fmt: skip


WORDS = {
    "single": "one case",
    "batch": "10,000 rows",
    "first": "first question",
}


def number(value):
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def written(table, versions):
    head = "| question | pyAgrum, µs | kokkiri, µs | pyAgrum / kokkiri |"
    lines = [__doc__, versions, "", head, "|---|---|---|---|"]
    for name, found in table.items():
        for question, s in found["questions"].items():
            how, what = question.split(", ")
            words = f"{name.removesuffix(DIFFERENT)}: {what} asked for, {WORDS[how]}"
            if name.endswith(DIFFERENT):
                words = words.replace("rows", "different rows") if how == "batch" else f"{words}, {MORE} known"
            ratio = f"{number(s['ratio'])} [{number(s['least'])}, {number(s['greatest'])}]"
            lines.append(f"| {words} | {number(s['pyagrum_us'])} | {number(s['kokkiri_us'])} | {ratio} |")
    lines.append("")
    for name, found in table.items():
        few, many = (f"{f(found['different rows']):,}" for f in (min, max))
        some = few if few == many else f"{few} to {many}"
        lines.append(f"{name}: {some} different rows among {ROWS:,}; equal rows are computed once.")
    lines.append("")
    for question, bar in BARS.items():
        ratios = [table[name]["questions"][question]["ratio"] for name in list(table)[:2]]
        met = "met" if min(ratios) >= bar else "missed"
        values = " and ".join(map(number, ratios))
        lines.append(f"Bar: {question}, pyAgrum / kokkiri at least {number(bar)}: {met} ({values} on 30 variables).")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--peer", help="a folder of packages in which pyagrum is")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args()
    sys.path += [options.peer] if options.peer else []
    import pyagrum

    found = main(pyagrum, options.rounds)
    versions = f"pyAgrum {pyagrum.__version__}, numpy {np.__version__}, torch {torch.__version__}, {platform.machine()}"
    text = written(found, versions)
    (RESULTS / "bayesian_networks.json").write_text(json.dumps({"versions": versions, "networks": found}) + "\n")
    (RESULTS / "bayesian_networks.md").write_text(text)
    print(text)
