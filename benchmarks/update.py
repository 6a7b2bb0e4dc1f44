"""What does learning one more row cost, exactly?  python benchmarks/update.py  (beside it: pip install river==0.26.1)

Bayesian linear regression with known noise and prior N(0, I), D features, float64. CPU seconds of one thread, all
variants by turns in one process, median of the rounds and [least .. greatest]. Ratios are taken within a round.

Refit: 20,000 rows to the posterior mean. A row: a chain of single rows, each a new immutable value, slicing included.
"waiting" are rows whose mean nobody asks for (matrix products of 64 rows included); "mean after every row" is the
covariance form; "factorised after every row" asks the precision form for its mean each time.
Blocks: 256 rows at a time, solved at the end, or solved after every block. river: learn_one on dictionaries made
beforehand; it finds its mean when asked, which here is once, at the end; learn_many on DataFrames made beforehand.
Written to benchmarks/results/update.json and update.md.
"""

import argparse
import json
import statistics
import time
from importlib.metadata import version
from pathlib import Path

import pandas as pd
import threadpoolctl
import torch
from river.linear_model import BayesianLinearRegression

import kokkiri as kk
from kokkiri.numerics.linear_gaussian import fit
from kokkiri.numerics.linear_priors import Diagonal, Known
from kokkiri.numerics.linear_recursive import recursive
from kokkiri.numerics.random import philox

RESULTS = Path(__file__).parent / "results"
ROWS, BLOCK = 20_000, 256
SIZES = (64, 256, 1024)
CHAIN = {64: 2048, 256: 1024, 1024: 256}  # single rows
FACTORISED = {64: 64, 256: 16, 1024: 3}
BLOCKS = {64: 40, 256: 20, 1024: 6}
PEER = {64: 2000, 256: 600, 1024: 60}  # rows of learn_one
PRIOR, NOISE = Diagonal(torch.tensor(1.0)), Known(torch.tensor(1.0))


def made(rows, features):
    rng = philox(0, "update benchmark", features)
    phi = torch.from_numpy(rng.standard_normal((rows, features)))
    weights = torch.from_numpy(rng.standard_normal((features, 1)))
    return phi, phi @ weights + torch.from_numpy(rng.standard_normal((rows, 1)))


def rows_of(phi, y):
    names = [f"x{i}" for i in range(phi.shape[1])]
    return [
        (dict(zip(names, row, strict=True)), target) for row, (target,) in zip(phi.tolist(), y.tolist(), strict=True)
    ]


def frames_of(phi, y):
    names = [f"x{i}" for i in range(phi.shape[1])]
    return [
        (pd.DataFrame(a.numpy(), columns=names), pd.Series(b[:, 0].numpy()))
        for a, b in zip(phi.split(BLOCK), y.split(BLOCK), strict=True)
    ]


def peer_one(rows):
    model = BayesianLinearRegression(alpha=1, beta=1)
    for x, y in rows:
        model.learn_one(x, y)
    model.predict_one(rows[0][0])
    return model


def peer_many(frames):
    model = BayesianLinearRegression(alpha=1, beta=1)
    for x, y in frames:
        model.learn_many(x, y)
    model.predict_many(frames[0][0].iloc[:1])
    return model


def weights_of(model, features):
    unit = lambda i: {f"x{i}": 1.0}  # the mean has no public name, but predictions are linear in it
    return torch.tensor([[model.predict_one(unit(i))] for i in range(features)], dtype=torch.float64)


def chain(model, phi, y, *, ask):
    for i in range(len(phi)):
        model = model.update(phi[i : i + 1], y[i : i + 1])
        if ask:
            _ = model.mean
    return model


def recursion(state, phi, y):
    for i in range(len(phi)):
        state = state.update(phi[i], y[i])
        _ = state.mean
    return state


def in_blocks(model, phi, y, *, ask):
    for a, b in zip(phi.split(BLOCK), y.split(BLOCK), strict=True):
        model = model.update(a, b)
        if ask:
            _ = model.mean
    _ = model.mean
    return model


def variants(features):
    """Name -> (what is timed, how many rows it learns)."""
    phi, y = made(ROWS, features)
    more, target = made(max(*CHAIN.values(), BLOCK * BLOCKS[features]), features)
    full, empty = fit(phi, y, PRIOR, NOISE), fit(phi[:0], y[:0], PRIOR, NOISE)
    state = recursive(full)
    one, few, many, peers = CHAIN[features], FACTORISED[features], BLOCK * BLOCKS[features], PEER[features]
    rows, frames = rows_of(more[:peers], target[:peers]), frames_of(more[:many], target[:many])
    return {
        "refit on 20,000 rows": (lambda: fit(phi, y, PRIOR, NOISE).mean, 1),
        "one row, waiting": (lambda: chain(full, more[:one], target[:one], ask=False), one),
        "one row, mean after every row": (lambda: recursion(state, more[:one], target[:one]), one),
        "one row, factorised after every row": (lambda: chain(full, more[:few], target[:few], ask=True), few),
        "blocks of 256, solved at the end": (lambda: in_blocks(empty, more[:many], target[:many], ask=False), many),
        "blocks of 256, solved after each": (lambda: in_blocks(empty, more[:many], target[:many], ask=True), many),
        "river learn_one": (lambda: peer_one(rows), peers),
        "river learn_many, blocks of 256": (lambda: peer_many(frames), many),
    }


def agreement(features):
    """Greatest relative difference of the weights, before anything is timed."""
    phi, y = made(4096, features)
    whole = fit(phi, y, PRIOR, NOISE).mean
    away = lambda mean, other: ((mean - other).norm() / other.norm()).item()
    few = PEER[features]
    start = fit(phi[:few], y[:few], PRIOR, NOISE)
    empty = fit(phi[:0], y[:0], PRIOR, NOISE)
    return {
        "blocks of 256 against refit": away(in_blocks(empty, phi, y, ask=True).mean, whole),
        "rows waiting against refit": away(chain(start, phi[few:], y[few:], ask=False).mean, whole),
        "mean after every row against refit": away(recursion(recursive(start), phi[few:], y[few:]).mean, whole),
        "river learn_one against ours": away(weights_of(peer_one(rows_of(phi[:few], y[:few])), features), start.mean),
        "river learn_many against ours": away(weights_of(peer_many(frames_of(phi, y)), features), whole),
    }


def measure(features, rounds):
    runs = variants(features)
    seconds = {name: [] for name in runs}
    for run, _ in runs.values():
        run()  # warm
    for k in range(rounds):
        for name, (run, rows) in runs.items():
            began = time.process_time()
            run()
            seconds[name].append((time.process_time() - began) / rows)
        print(features, k, {n: f"{s[-1] * 1e6:.4g}" for n, s in seconds.items()}, flush=True)
    return seconds


def spread(values, form):
    return f"{form(statistics.median(values))} [{form(min(values))} .. {form(max(values))}]"


def ratio(seconds, over, under):
    return spread(
        [a / b for a, b in zip(seconds[over], seconds[under], strict=True)],
        lambda v: f"{v:,.0f}x" if v >= 10 else f"{v:.2g}x",
    )


def tables(agreed, seconds):
    sizes = list(seconds)
    head = ["| | " + " | ".join(f"D = {d}" for d in sizes) + " |", "|---|" + "---|" * len(sizes)]
    line = lambda name, cells: f"| {name} | " + " | ".join(cells) + " |"
    out = ["Weights agree, relative to their length:", "", *head]
    out += [
        line(name, [f"{agreed[d][name]:.0e}" if agreed[d][name] else "to the bit" for d in sizes])
        for name in agreed[sizes[0]]
    ]
    refit = "refit on 20,000 rows"
    out += ["", "Refit / one more row:", "", *head]
    out.append(line(refit, [spread(seconds[d][refit], lambda v: f"{v * 1e3:.3g} ms") for d in sizes]))
    for name in seconds[sizes[0]]:
        if name.startswith("one row"):
            out.append(line(name, [ratio(seconds[d], refit, name) for d in sizes]))
    out += ["", "Rows a second:", "", *head]
    speed = lambda values: spread([1 / v for v in values], lambda v: f"{v:,.0f}")
    learners = [n for n in seconds[sizes[0]] if n != refit]
    out += [line(name, [speed(seconds[d][name]) for d in sizes]) for name in learners]
    out += ["", "Rows a second / those of river learn_one:", "", *head]
    peer = "river learn_one"
    out += [line(n, [ratio(seconds[d], peer, n) for d in sizes]) for n in learners if n != peer]
    return "\n".join(out)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with threadpoolctl.threadpool_limits(1):
        agreed = {d: agreement(d) for d in SIZES}
        print(json.dumps(agreed, indent=1))
        if max(v for found in agreed.values() for v in found.values()) > 1e-10:
            raise SystemExit("answers differ: nothing to compare")
        seconds = {d: measure(d, options.rounds) for d in SIZES}
    print(tables(agreed, seconds))
    RESULTS.mkdir(exist_ok=True)
    kept = {
        "command": "python benchmarks/update.py",
        "agreement": agreed,
        "seconds a row": seconds,
        "versions": kk.store.versions() | {"river": version("river")},
    }
    (RESULTS / "update.json").write_text(json.dumps(kept, indent=1))
    (RESULTS / "update.md").write_text(f"{__doc__}\n{tables(agreed, seconds)}\n")
