"""How long do graphs take, and are their answers right?  python benchmarks/causal_graphs.py

Random graphs of 1,600 nodes, one to four parents each among the 200 nodes before, without and with 100 hidden causes:
CPU milliseconds, medians of seven runs; separation beside networkx. Then P(d | do(v)) for all graphs of four nodes in
one order, 12,288 questions: CPU microseconds of the algorithm with its derivation, how many are identified, and the
largest error of a formula in a random model with hidden causes. Last the check of one formula, for the napkin graph.
Written to benchmarks/results/causal_graphs.json and causal_graphs.md.
"""

import json
import statistics
import time
from itertools import combinations, product
from pathlib import Path

import networkx as nx
import numpy as np
import torch

import kokkiri as kk
from kokkiri.causal import adjustment_sets, graph_of, optimal_adjustment_set, separated
from kokkiri.causal.expression import probability
from kokkiri.causal.identification import HedgeFound, identified
from kokkiri.causal.models import random_models
from kokkiri.causal.tables import evaluate
from kokkiri.causal.verify import check_formula

RESULTS = Path(__file__).parent / "results"
NODES, RUNS = 1600, 7


def milliseconds(work, runs=RUNS):
    took = []
    for _ in range(runs):
        start = time.process_time()
        work()
        took.append(1e3 * (time.process_time() - start))
    return statistics.median(took)


def large(both):
    rng = np.random.default_rng(0)
    lines = [
        f"v{p} -> v{i}"
        for i in range(1, NODES)
        for p in rng.choice(np.arange(max(0, i - 200), i), min(i, int(rng.integers(1, 5))), replace=False)
    ]
    return "\n".join(lines + [f"v{a} <-> v{b}" for a, b in rng.integers(0, NODES, (both, 2)) if a != b])


def with_causes(graph):
    """For networkx, which has no bidirected edges: a node for each hidden cause."""
    other = nx.DiGraph(graph.directed)
    for k, ends in enumerate(graph.bidirected):
        other.add_edges_from((f"cause {k}", end) for end in ends)
    return other


def sizes(both):
    text, x, y = large(both), f"v{NODES // 2}", f"v{NODES - 1}"
    graph = graph_of(text)
    other, given = with_causes(graph), {f"v{i}" for i in range(0, NODES, 3)} - {x, y}
    assert nx.is_d_separator(other, {x}, {y}, given) == separated(graph, x, y, given)
    return {
        "edges": len(graph.directed) + len(graph.bidirected), "hidden causes": len(graph.bidirected),
        "read the text": milliseconds(lambda: graph_of(text)),
        "separation": milliseconds(lambda: separated(graph, x, y, given)),
        "separation, networkx": milliseconds(lambda: nx.is_d_separator(other, {x}, {y}, given)),
        "the optimal adjustment set": milliseconds(lambda: optimal_adjustment_set(graph, x, y)),
        "ten minimal adjustment sets": milliseconds(lambda: adjustment_sets(graph, x, y, limit=10)),
        "identify, with its check": milliseconds(lambda: kk.identify(graph, x, y), runs=3),
    }  # fmt: skip


def all_of_four():
    nodes = ("a", "b", "c", "d")
    pairs = list(combinations(nodes, 2))
    asked = found = 0
    seconds = worst = 0.0
    for i, j in product(range(64), repeat=2):
        graph = kk.Graph(nodes, *(tuple(p for k, p in enumerate(pairs) if n >> k & 1) for n in (i, j)))
        graph.masks  # ruff: ignore[useless-expression]  made once for a graph, not for a question
        model = random_models(graph, 1, seed=64 * i + j)
        for x in "abc":
            asked += 1
            start = time.process_time()
            try:
                formula = identified(graph, graph.mask("d"), graph.mask(x)).expression
            except HedgeFound:
                formula = None
            seconds += time.process_time() - start
            if formula is not None:
                found += 1
                truth = evaluate(probability("d", x), model.joint(x), nodes)
                worst = max(worst, float((evaluate(formula, model.joint(), nodes) - truth).abs().max()))
    return {"questions": asked, "identified": found, "microseconds": 1e6 * seconds / asked, "largest error": worst}


def check():
    graph = graph_of("w -> z -> x -> y; w <-> x; w <-> y")
    x, y = graph.mask("x"), graph.mask("y")
    formula = identified(graph, y, x).expression
    return milliseconds(lambda: check_formula(graph, formula, x, y, 0))


def main():
    torch.set_num_threads(1)
    return {"large": [sizes(0), sizes(100)], "four": all_of_four(), "check": check()}


if __name__ == "__main__":
    found = main()
    (plain, mixed), four = found["large"], found["four"]
    heads = (f"{plain['edges']:,} edges", f"{mixed['edges']:,} edges, {mixed['hidden causes']} hidden causes")
    lines = [f"| {NODES:,} nodes, CPU ms | {' | '.join(heads)} |", "|---|---|---|"]
    lines += [f"| {k} | {plain[k]:.0f} | {mixed[k]:.0f} |" for k in plain if k not in {"edges", "hidden causes"}]
    lines += ["", f"{four['questions']:,} effects on graphs of four nodes: {four['identified']:,} are identified",
              f"{four['microseconds']:.0f} CPU µs a question, largest error of a formula {four['largest error']:.0e}",
              f"check of one formula in three random models: {found['check']:.1f} CPU ms"]  # fmt: skip
    print("\n".join(lines))
    RESULTS.mkdir(exist_ok=True)
    kept = {"command": "python benchmarks/causal_graphs.py", "versions": kk.store.versions(), **found}
    (RESULTS / "causal_graphs.json").write_text(json.dumps(kept, indent=1) + "\n")
    (RESULTS / "causal_graphs.md").write_text(f"{__doc__}\n" + "\n".join(lines) + "\n")
