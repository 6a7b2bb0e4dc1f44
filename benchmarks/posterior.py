r"""What does a posterior cost, beside training and beside laplace-torch?  python benchmarks/posterior.py [--rounds 3]

MNIST (KOKKIRI_DATA), CPU seconds of one thread, round-robin in one process, median and [least, greatest] of the ratios
within a round, on a machine that others used too. Equal answers come first. The half that needs the peer is left out
where it is not installed; to have both in one environment, whose torch must not be moved:

    python -m venv peer && peer/bin/pip install torch==2.13.0 && peer/bin/pip install -e .
    peer/bin/pip install --no-deps laplace-torch==0.3 curvlinops-for-pytorch==3.0.1 backpack-for-pytorch==1.7.1 \
        asdfghjkl==0.1a4 opt-einsum torchmetrics lightning-utilities einconv unfoldNd linear_operator jaxtyping
    peer/bin/pip install scipy tqdm einops packaging && peer/bin/python benchmarks/posterior.py

laplace-torch is given tensors in memory, cut into slices, no DataLoader. It runs with its default backend (curvlinops),
and in rows of their own with BackPACK, its fastest. Where it would take hours it is given fewer rows, and its time is
scaled by their number: those rows say so. Written to benchmarks/results/posterior.json and posterior.md.
"""

import argparse
import copy
import importlib.util
import json
import math
import resource
import statistics
import subprocess
import sys
import time
import warnings
from itertools import pairwise
from pathlib import Path

import torch
from torch import nn

import kokkiri as kk
from kokkiri.curvature import Diagonal, Full, Kronecker, ggn
from kokkiri.data.core import Data, Inputs, Source
from kokkiri.posteriors.evidence import flat_of, group_indices, precisions, replica_params
from kokkiri.posteriors.linearised import averaged, output_moments
from kokkiri.priors import GroupedNormal
from kokkiri.priors.grouped import groups_of
from kokkiri.training.flat import layout

RESULTS = Path(__file__).parent / "results"
BATCH, ROWS = 128, 10_000
WIDTHS = {"784-128-10": (128,), "784-256-256-10": (256, 256)}
PEER = importlib.util.find_spec("laplace") is not None
ONE = torch.zeros(1, dtype=torch.float64)  # log weight of a single Gaussian


class Raw(nn.Module):
    def forward(self, raw):
        return raw["x"]


class Slices:
    """What laplace-torch takes for a loader: slices of tensors."""

    def __init__(self, x, y, batch):
        self.x, self.y, self.batch, self.dataset = x, y, batch, range(len(x))

    def __iter__(self):
        return iter(zip(self.x.split(self.batch), self.y.split(self.batch), strict=True))

    def __len__(self):
        return math.ceil(len(self.x) / self.batch)


def data_of(x, y, classes=10):
    target = kk.Target("y", "category", tuple(map(str, range(classes)))) if classes else kk.Target("y", "number")
    return Data({"x": x}, y, Raw(), Inputs(tuple(x.shape[1:])), target, Source("made"))


def digits():
    train, test = kk.split(kk.read("mnist"), published=0)
    return (train.x, train.y), (test.x, test.y)


def mlp(widths, inputs=784, outputs=10):
    sizes, parts = [inputs, *widths], []
    for before, after in pairwise(sizes):
        parts += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*parts, nn.Linear(sizes[-1], outputs))


def lenet():
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10),
    )  # fmt: skip


def epoch(model, x, y):
    """The loop that users write, tensors in memory."""
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    for rows in torch.randperm(len(x)).split(BATCH):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x[rows]), y[rows]).backward()
        optimizer.step()


def own_epoch(model, data):
    plan = kk.Plan(-(-len(data) // BATCH), BATCH)
    for _ in kk.train(kk.herd(model), data, kk.Categorical(), kk.Adam(), kk.Normal(), plan):
        pass


def trained(model, x, y, epochs):
    torch.manual_seed(0)
    for part in model.modules():
        if hasattr(part, "reset_parameters"):
            part.reset_parameters()
    for _ in range(epochs):
        epoch(model, x, y)
    return model.eval()


def timed(rounds, variants):
    """name -> CPU seconds of each round, all variants in turn."""
    seconds = {name: [] for name in variants}
    for _ in range(rounds):
        for name, (run, scale) in variants.items():
            began = time.process_time()
            run()
            seconds[name].append((time.process_time() - began) * scale)
    return seconds


def over(some, others):
    ratios = [a / b for a, b in zip(some, others, strict=True)]
    return {"median": statistics.median(ratios), "least": min(ratios), "greatest": max(ratios)}


def peaks():
    """MB that a fit needs beyond what a fresh process holds before it: 784-128-10, random weights and rows."""
    rows = []
    for task in ("diagonal, exact", "Kronecker, exact"):
        found = {}
        for who in ("kokkiri", "laplace-torch"):
            command = [sys.executable, "-W", "ignore", __file__, "--peak", who, task]
            found[who] = float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        rows.append({"network": "784-128-10", "task": task, **found})
    return rows


def peak(who, task):
    torch.manual_seed(0)
    model, x, y = mlp((128,)), torch.randn(ROWS, 784), torch.randint(0, 10, (ROWS,))
    few = slice(0, 200 if task.startswith("diagonal") else ROWS)
    herd, data = kk.herd(model), data_of(x, y)
    runs = {
        ("kokkiri", "diagonal, exact"): lambda: ggn(herd, data, kk.Categorical(), Diagonal()),
        ("kokkiri", "Kronecker, exact"): lambda: ggn(herd, data, kk.Categorical(), Kronecker()),
        ("laplace-torch", "diagonal, exact"): lambda: peer(model, x[few], y[few], "diag", batch=100),
        ("laplace-torch", "Kronecker, exact"): lambda: peer(model, x, y, "kron"),
    }
    if who != "kokkiri":
        pass  # its imports are no part of the peak
    assert data.x is not None
    used = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    before = used()
    runs[who, task]()
    return used() - before


# --- the cost contract: in epochs, and in forward passes


BARS = {"diagonal, exact": 0.6, "Kronecker, Monte Carlo": 1.2, "Kronecker, exact": 2.0}
BARS |= {"last layer, full, probit": 4.0, "whole network, Kronecker, probit": 20.0}


def in_epochs(name, rounds, train):
    x, y = train[0].flatten(1), train[1]
    model, data = trained(mlp(WIDTHS[name]), x, y, 2), data_of(x, y)
    herd, likelihood = kk.herd(model), kk.Categorical()
    fit = lambda structure, **more: ggn(herd, data, likelihood, structure, **more)
    large = name != "784-128-10"
    seconds = timed(rounds, {
        "plain epoch": (lambda: epoch(mlp(WIDTHS[name]), x, y), 1),
        "kokkiri epoch": (lambda: own_epoch(mlp(WIDTHS[name]), data), 1),
        "diagonal, exact": (lambda: fit(Diagonal()), 1),
        "Kronecker, Monte Carlo": (lambda: fit(Kronecker(), columns=1), 1),
        "Kronecker, Monte Carlo, a tenth of the rows": (lambda: fit(Kronecker(), columns=1, sample=len(x) // 10), 1),
        "Kronecker, exact": (lambda: fit(Kronecker()), 1),
        **({} if large else {"EKFAC": (lambda: fit(Kronecker(corrected=True)), 1)}),
        "last layer, full": (lambda: fit(Full(), layers=("last",)), 1),
    })  # fmt: skip
    own = lambda found: {"own epochs": over(found, seconds["kokkiri epoch"])}
    return [row(name, task, found, seconds["plain epoch"]) | own(found) for task, found in seconds.items()]


def in_forward_passes(name, rounds, train, test):
    x, y, inputs = train[0].flatten(1), train[1], test[0].flatten(1)
    model, data = trained(mlp(WIDTHS[name]), x, y, 2), data_of(x, y)
    herd, likelihood = kk.herd(model), kk.Categorical()
    last = ggn(herd, data, likelihood, Full(), layers=("last",), sample=5000).matrix.plus(1.0)
    whole = ggn(herd, data, likelihood, Kronecker(), columns=1, sample=5000).matrix.plus(1.0)
    for integral in ("probit", "points"):  # the factors of a full matrix are made once and kept
        predicted(herd, last, inputs[:10], integral)

    def forward():
        with torch.no_grad():
            model(inputs)

    seconds = timed(rounds, {
        "plain forward pass": (lambda: [forward() for _ in range(5)], 0.2),
        "last layer, full, probit": (lambda: predicted(herd, last, inputs), 1),
        "whole network, Kronecker, probit": (lambda: predicted(herd, whole, inputs), 1),
        "last layer, full, covariances and points": (lambda: predicted(herd, last, inputs, "points"), 1),
        "whole network, Kronecker, covariances and points": (lambda: predicted(herd, whole, inputs, "points"), 1),
    })  # fmt: skip
    return [row(name, task, found, seconds["plain forward pass"]) for task, found in seconds.items()]


def row(name, task, seconds, base):
    ratio = over(seconds, base)
    return {"network": name, "task": task, "seconds": statistics.median(seconds), "ratio": ratio, "bar": BARS.get(task)}


def predicted(herd, precision, inputs, integral="probit"):
    mean, spread = output_moments(herd, (precision,), inputs, apart=integral == "probit")
    return averaged(kk.Categorical(), mean, spread, ONE, integral=integral).mean


# --- against laplace-torch


def peer(model, x, y, structure, subset="all", batch=500, likelihood="classification", **more):
    from laplace import Laplace

    fitted = Laplace(copy.deepcopy(model), likelihood, subset_of_weights=subset, hessian_structure=structure, **more)
    fitted.fit(Slices(x, y, batch))
    return fitted


def peer_predicts(fitted, x, batch=100):
    return torch.cat([fitted(part, pred_type="glm", link_approx="probit") for part in x.split(batch)])


def monte_carlo():
    from laplace.curvature import CurvlinopsGGN

    return {"backend": CurvlinopsGGN, "backend_kwargs": {"stochastic": True}}


def backpack():
    from laplace.curvature import BackPackGGN

    return {"backend": BackPackGGN}


def relative(a, b):
    return float((a - b).abs().max() / b.abs().max())


def agreement(model, x, y, test):
    """The largest differences of the answers, each relative to the largest entry of the peer's."""
    few, data, likelihood = (x[:200], y[:200]), data_of(x[:1000], y[:1000]), kk.Categorical()
    herd, found = kk.herd(model), {}
    ours = ggn(herd, data_of(*few), likelihood, Diagonal()).matrix.diagonal()
    found["diagonal, 200 rows"] = relative(ours, peer(model, *few, "diag", batch=100).H.double())
    whole = ggn(herd, data, likelihood, Kronecker())
    theirs = peer(model, x[:1000], y[:1000], "kron", batch=1000)
    factors, apart = theirs.H_facs.kfacs[::2], []
    for (_, block), known, (b, a) in zip(whole.matrix.parts, whole.known, factors, strict=True):
        own_b, own_a = block.terms[0]
        own_b, own_a = own_b * known.ratio * whole.rows, own_a[:-1, :-1] / whole.rows
        apart += [relative(own_b, b.double()), relative(own_a, a.double())]
    found["Kronecker factors, before the trace is set, without the bias; 1,000 rows in one batch"] = max(apart)
    inputs = test[:200]
    _, ours = output_moments(herd, (whole.matrix.plus(1.0),), inputs)
    _, variance = theirs._glm_predictive_distribution(inputs)  # ruff: ignore[private-member-access] - no public way to it
    off = (ours[0].diagonal(dim1=1, dim2=2) / variance.diagonal(dim1=1, dim2=2) - 1).abs()
    found["variances of logits, Kronecker, median: ours has the exact trace and the bias joined"] = float(off.median())
    found["variances of logits, Kronecker, largest"] = float(off.max())
    last = ggn(herd, data, likelihood, Full(), layers=("last",)).matrix
    theirs = peer(model, x[:1000], y[:1000], "full", "last_layer")
    order = last.parts[0][0].argsort()
    found["last layer, full matrix, 1,000 rows"] = relative(last.parts[0][1].matrix[order][:, order], theirs.H.double())
    ours = predicted(herd, last.plus(1.0), test[:1000])
    found["last layer, probit probabilities, absolute"] = float((ours - peer_predicts(theirs, test[:1000])).abs().max())
    return found


def against(name, rounds, train, test):
    x, y, inputs = train[0].flatten(1)[:ROWS], train[1][:ROWS], test[0].flatten(1)
    model = trained(mlp(WIDTHS[name]), train[0].flatten(1), train[1], 2)
    same = agreement(model, x, y, inputs)
    herd, data, likelihood = kk.herd(model), data_of(x, y), kk.Categorical()
    fit = lambda structure, **more: lambda: ggn(herd, data, likelihood, structure, **more)
    some = 200 if name == "784-128-10" else 50
    seen = 100 if name == "784-128-10" else 20
    whole = ggn(herd, data, likelihood, Kronecker())
    last = ggn(herd, data, likelihood, Full(), layers=("last",)).matrix.plus(1.0)
    their_whole, their_last = peer(model, x, y, "kron"), peer(model, x, y, "full", "last_layer")
    theta, prior = flat_of(replica_params(herd, 0), layout(herd.params)), GroupedNormal(
        tuple((g, 1.0) for g in dict.fromkeys(groups_of(list(herd.params), "layer").values()))
    )  # fmt: skip
    where = group_indices(herd, prior, torch.cat([index for index, _ in whole.matrix.parts]))
    start = dict.fromkeys(where, 1.0)
    scaled = lambda n, of: f", from {n} rows" if n < of else ""
    tasks = [
        ("diagonal, exact" + scaled(some, ROWS), fit(Diagonal()),
         lambda: peer(model, x[:some], y[:some], "diag", batch=100), ROWS / some, 500),
        ("diagonal, exact, BackPACK", fit(Diagonal()), lambda: peer(model, x, y, "diag", **backpack()), 1, None),
        ("Kronecker, exact", fit(Kronecker()), lambda: peer(model, x, y, "kron"), 1, 2.5),
        ("Kronecker, exact, BackPACK", fit(Kronecker()), lambda: peer(model, x, y, "kron", **backpack()), 1, None),
        ("Kronecker, Monte Carlo", fit(Kronecker(), columns=1),
         lambda: peer(model, x, y, "kron", **monte_carlo()), 1, 2.5),
        ("last layer, full", fit(Full(), layers=("last",)), lambda: peer(model, x, y, "full", "last_layer"), 1, 5),
        ("predict 10,000, last layer" + scaled(2000, ROWS), lambda: predicted(herd, last, inputs),
         lambda: peer_predicts(their_last, inputs[:2000]), 5, 20),
        ("predict 10,000, whole network, Kronecker" + scaled(seen, ROWS),
         lambda: predicted(herd, whole.matrix.plus(1.0), inputs),
         lambda: peer_predicts(their_whole, inputs[:seen], 20), ROWS / seen, 500),
        ("100 steps of the prior's precisions, Kronecker",
         lambda: precisions(whole.matrix, theta, start, where, steps=100),
         lambda: their_whole.optimize_prior_precision(method="marglik", n_steps=100), 1, None),
    ]  # fmt: skip
    return same, compared(name, rounds, tasks)


def compared(name, rounds, tasks):
    rows = []
    for task, ours, theirs, scale, bar in tasks:
        found = timed(rounds, {"kokkiri": (ours, 1), "laplace-torch": (theirs, scale)})
        row = {"network": name, "task": task, **{who: statistics.median(s) for who, s in found.items()}}
        rows.append(row | {"ratio": over(found["laplace-torch"], found["kokkiri"]), "bar": bar})
        print(said(rows[-1]), flush=True)
    return rows


def others(rounds, train):
    """A small convolutional network, and a full matrix of a small regression."""
    x, y = train[0][:2000], train[1][:2000]
    model = trained(lenet(), train[0][:ROWS], train[1][:ROWS], 1)
    herd, data = kk.herd(model), data_of(x, y)
    fit = lambda structure, **more: lambda: ggn(herd, data, kk.Categorical(), structure, **more)
    kron = lambda **more: lambda: peer(model, x, y, "kron", batch=200, **more)
    tasks = [
        ("Kronecker, exact, 2,000 rows", fit(Kronecker()), kron(), 1, None),
        ("Kronecker, Monte Carlo, 2,000 rows", fit(Kronecker(), columns=1), kron(**monte_carlo()), 1, None),
        ("last layer, full, 2,000 rows", fit(Full(), layers=("last",)),
         lambda: peer(model, x, y, "full", "last_layer", batch=200), 1, None),
    ]  # fmt: skip
    rows = compared("LeNet", rounds, tasks)
    epochs = timed(rounds, {
        "plain epoch": (lambda: epoch(lenet(), x, y), 1), "diagonal, exact": (fit(Diagonal()), 1),
        "Kronecker, Monte Carlo": (fit(Kronecker(), columns=1), 1), "Kronecker, exact": (fit(Kronecker()), 1),
        "EKFAC": (fit(Kronecker(corrected=True)), 1),
    })  # fmt: skip
    costs = [row("LeNet, 2,000 rows", task, found, epochs["plain epoch"]) for task, found in epochs.items()]
    for found in costs:
        found["bar"] = None
    torch.manual_seed(0)
    x = torch.randn(500, 20)
    y, small = torch.sin(x[:, :1]), mlp((64, 64), 20, 1)
    herd, data, gaussian = kk.herd(small), data_of(x, y[:, 0].double(), 0), kk.Gaussian(learn=False)
    ours = lambda: ggn(herd, data, gaussian, Full())
    theirs = lambda: peer(small, x, y, "full", batch=500, likelihood="regression")
    found = ours().matrix
    order = found.parts[0][0].argsort()
    same = relative(found.parts[0][1].dense()[order][:, order], theirs().H.double())
    rows += compared("20-64-64-1", 1, [("full matrix of 5,569 parameters, 500 rows", ours, theirs, 1, None)])
    return {"full matrix, 500 rows": same}, rows, costs


# --- results


def spread(ratio):
    digits = 0 if ratio["median"] >= 100 else 1 if ratio["median"] >= 10 else 2
    return f"{ratio['median']:,.{digits}f} [{ratio['least']:,.{digits}f}..{ratio['greatest']:,.{digits}f}]"


def said(row):
    bar = "" if row["bar"] is None else f"{row['bar']:g}"
    return (
        f"| {row['network']} | {row['task']} | {row['kokkiri']:.3g} s | {row['laplace-torch']:.3g} s "
        f"| {spread(row['ratio'])} | {bar} |"
    )


def cost(row):
    own = spread(row["own epochs"]) if "own epochs" in row else ""
    bar = "" if row["bar"] is None else f"{row['bar']:g}"
    return f"| {row['network']} | {row['task']} | {row['seconds']:.3g} s | {spread(row['ratio'])} | {own} | {bar} |"


def page(found):
    out = [__doc__, "## In epochs and forward passes", ""]
    out += ["All 60,000 training rows, and 10,000 inputs to predict. A ratio is to the plain epoch, or to the plain"]
    out += ["forward pass; beside it, to an epoch of kokkiri's own training.", ""]
    out += ["| network | task | kokkiri | ratio | own epochs | at most |", "|---|---|---|---|---|---|"]
    out += [cost(row) for key in (*OURS, "costs of others") for row in found.get(key, [])]
    if "peer" in found or "peer of others" in found:
        out += ["", "## Equal answers", "", "| network | what | difference |", "|---|---|---|"]
        same = {**found.get("agreement", {}), "20-64-64-1": found.get("agreement of others", {})}
        for name, differences in same.items():
            out += [f"| {name} | {what} | {off:.2g} |" for what, off in differences.items()]
        out += ["", "## Beside laplace-torch", "", "10,000 rows and inputs, where nothing else is said.", ""]
        out += ["| network | task | kokkiri | laplace-torch | ratio | at least |", "|---|---|---|---|---|---|"]
        out += [said(row) for key in ("peer", "peer of others") for row in found.get(key, [])]
    if "memory" in found:
        out += ["", "## Memory beyond what the process starts with", "",
                "| network | task | kokkiri | laplace-torch |", "|---|---|---|---|"]  # fmt: skip
        out += [f"| {r['network']} | {r['task']} | {r['kokkiri']:.0f} MB | {r['laplace-torch']:.0f} MB |"
                for r in found["memory"]]  # fmt: skip
    return "\n".join([*out, ""])


def fits(rounds):
    train, _ = digits()
    return {"fits": printed([r for name in WIDTHS for r in in_epochs(name, rounds, train)])}


def predictions(rounds):
    train, test = digits()
    return {"predictions": printed([r for name in WIDTHS for r in in_forward_passes(name, rounds, train, test)])}


def printed(rows):
    print("\n".join(map(cost, rows)), flush=True)
    return rows


def beside(rounds):
    train, test = digits()
    found = {"agreement": {}, "peer": []}
    for name in WIDTHS:
        found["agreement"][name], rows = against(name, rounds, train, test)
        found["peer"] += rows
    return found


def small(rounds):
    train, _ = digits()
    same, rows, costs = others(rounds, train)
    return {"agreement of others": same, "peer of others": rows, "costs of others": costs}


PARTS = {
    "fits": fits, "predictions": predictions, "beside": beside, "others": small,
    "memory": lambda _: {"memory": peaks()},
}  # fmt: skip
OURS = ("fits", "predictions")


def versions():
    from importlib.metadata import version

    names = ("laplace-torch", "curvlinops-for-pytorch", "backpack-for-pytorch") if PEER else ()
    return {"torch": torch.__version__, **{name: version(name) for name in names}}


def main(rounds, only):
    """Runs the parts, and writes what they found beside what was found of the others before."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    for part in only:
        if part not in OURS and not PEER:
            print(f"{part}: left out, since laplace-torch is not installed. How to have it:\n{__doc__}")
            continue
        found = PARTS[part](rounds)
        path = RESULTS / "posterior.json"
        RESULTS.mkdir(exist_ok=True)
        old = json.loads(path.read_text()) if path.exists() else {}
        new = {**old, "versions": {**old.get("versions", {}), **versions()}, **found}
        path.write_text(json.dumps(new, indent=1) + "\n")
        path.with_suffix(".md").write_text(page(new))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="*", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--peak", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.peak:
        torch.set_num_threads(1)
        print(peak(*given.peak))
    else:
        main(given.rounds, given.only)
