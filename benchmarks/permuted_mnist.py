"""Never forgets: 10 tasks of permuted MNIST in a row, by `kk.update` alone.  python benchmarks/permuted_mnist.py

Task t shows all 60,000 images with their 784 pixels permuted by numpy.random.RandomState(t).permutation(784), task 0
as they are. One network for all tasks, MLP 784-100-100-10, one head of 10 classes; no task is named, no row of an old
task is seen again, no temperature is tuned. `kk.fit` of task 0 under N(0, 1) with a Laplace posterior, then
`kk.update(post, task, level="full", epochs=10, columns=1)`: descent under the old posterior as prior. Batches of 256,
Adam (lr 1e-3), 10 epochs a task for all methods. Accuracy on the 10,000 test images of every task so far, of the
network at the mode; at the end also of the posterior's prediction.

Products apart: the penalty's gradient is exact in every Kronecker product of every task, sum_k B_k X A_k, one product
more a task. One eigenbasis: EKFAC, re-projected after each task, so that a step costs the same for ever. The curvature
is averaged over four draws of the Gaussian (`kk.Laplace(expected=4)`, the default of `update`), or taken at the mode
alone. Plain training goes on with no memory at all. Local: of the network linearised after task 0, one more task.

Bar: 0.95 after 10 tasks (Kronecker, lambda = 1). Others: 0.951 (Kronecker, factors averaged), 0.767 (diagonal), 0.489
(plain) at 10 epochs a task; 0.96 (Laplace Redux, Daxberger et al. 2021, evidence, 100 epochs a task). CPU seconds of
one thread, the prediction of the new rows before they are learnt included, the accuracies not.
--only NAME runs one method and keeps the others' rows. Written to benchmarks/results/permuted_mnist.json and .md.
"""

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

import kokkiri as kk
from kokkiri.numerics.calibration import expected_calibration_error
from kokkiri.optimizers import Adam, Cosine, WarmUp
from kokkiri.training.plan import Plan

RESULTS = Path(__file__).parent / "results"
BAR = 0.95
METHODS = {
    "Kronecker, products apart": ("kronecker", 4),
    "Kronecker, products apart, at the mode": ("kronecker", 0),
    "EKFAC, one eigenbasis": ("ekfac", 4),
    "EKFAC, one eigenbasis, at the mode": ("ekfac", 0),
    "diagonal": ("diagonal", 4),
    "diagonal, at the mode": ("diagonal", 0),
    "plain training": (None, 0),
}


def permuted(data, t):
    """The same images with their pixels in another order."""
    if t == 0:
        return data
    order = torch.from_numpy(np.random.RandomState(t).permutation(784))
    image = data.raw["image"].flatten(1)[:, order].reshape(-1, 1, 28, 28)
    return replace(data, raw={"image": image}, source=replace(data.source, name=f"task {t}"), _cache={})


def network(data):
    torch.manual_seed(0)
    return kk.networks.MLP(data.inputs, [100, 100], 10)


def accuracies(herd, test, tasks):
    """Of the network itself, on every task so far."""
    with torch.no_grad():
        return [float((herd(permuted(test, t).x)[0].argmax(1) == test.y).double().mean()) for t in range(tasks)]


def predicted(post, test, tasks):
    """Of the posterior's prediction: accuracy, nats a row, calibration error (15 bins), means over the tasks."""
    rows = []
    for t in range(tasks):
        p = kk.predict(post, permuted(test, t))
        confidence, label = p.mean.max(1)
        right = label == test.y
        found = right.double().mean(), p.log_prob(test.y).mean(), expected_calibration_error(confidence, right)
        rows.append([float(v) for v in found])
    return dict(zip(("accuracy", "log_likelihood", "calibration_error"), np.mean(rows, 0).tolist(), strict=True))


def bayesian(train, test, options, structure, expected):
    """A fit, then nothing but updates."""
    began = time.process_time()
    recipe = kk.Laplace(structure, columns=1, tune="never", expected=expected)
    post = kk.fit(
        train, network(train), kk.Categorical(), Adam(lr=1e-3), prior=kk.Normal(1.0), posterior=recipe,
        epochs=options.epochs, batch=256, patience=None, threads=1, progress=False,
    )  # fmt: skip
    for t in range(options.tasks):
        task = permuted(train, t)
        if t:
            began = time.process_time()
            post = kk.update(
                post, task, level="full", optimizer=Adam(lr=1e-3), epochs=options.epochs, batch=256, columns=1,
                expected=expected, progress=False,
            )  # fmt: skip
        yield time.process_time() - began, accuracies(post.herd, test, t + 1), post


def plain(train, test, options):
    """The same steps, and nothing remembered."""
    steps = max(200, round(options.epochs * -(-len(train) // 256)))
    plan = Plan(steps, 256, schedule=WarmUp(0.05, Cosine()), threads=1)
    models = kk.herd(network(train))
    for t in range(options.tasks):
        task = permuted(train, t)
        began = time.process_time()
        for moment in kk.train(models, task, kk.Categorical(), Adam(lr=1e-3), kk.priors.Flat(), plan):
            models = moment.herd if moment.done else models
        yield time.process_time() - began, accuracies(models, test, t + 1), None


def measure(name, train, test, options, note):
    structure, expected = METHODS[name]
    runs = bayesian(train, test, options, structure, expected) if structure else plain(train, test, options)
    seconds, each, post = [], [], None
    for used, found, last in runs:
        post = last
        seconds.append(used)
        each.append(found)
        print(name, len(each), f"{np.mean(found):.4f}", [f"{a:.4f}" for a in found], f"{used:.1f} s", flush=True)
        note(name, {"seconds": seconds, "accuracy": each})
    if post is not None:
        note(name, {"seconds": seconds, "accuracy": each, "predicted": predicted(post, test, options.tasks)})


def local(train, test, options):
    """One more task in the network linearised after the first."""
    two = argparse.Namespace(tasks=1, epochs=options.epochs)
    _, _, post = next(bayesian(train, test, two, "kronecker", 4))
    began = time.process_time()
    post = kk.update(post, permuted(train, 1), level="local", columns=1, progress=False)
    used = time.process_time() - began
    found = [float((kk.predict(post, permuted(test, t)).label == test.y).double().mean()) for t in range(2)]
    return {"seconds": [used], "accuracy": [found], "gap": post.record.updates[-1].gap}


def table(found):
    lines = ["| | mean of all tasks | first task | last task | CPU s | last update CPU s |"]
    lines.append("|---|" + "---|" * 5)
    for name in (n for n in METHODS if n in found):
        last = found[name]["accuracy"][-1]
        mean = np.mean(last)
        bar = f" (bar {BAR}: {'met' if mean >= BAR else 'missed'})" if name == next(iter(METHODS)) else ""
        seconds = found[name]["seconds"]
        cells = [f"{mean:.4f}{bar}", f"{last[0]:.4f}", f"{last[-1]:.4f}", f"{sum(seconds):.0f}", f"{seconds[-1]:.1f}"]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    head = ["", "Mean accuracy over the tasks learnt so far:", ""]
    tasks = max(len(f["accuracy"]) for f in found.values())
    head.append("| after task | " + " | ".join(str(t + 1) for t in range(tasks)) + " |")
    lines += [*head, "|---|" + "---|" * tasks]
    for name in (n for n in METHODS if n in found):
        lines.append(f"| {name} | " + " | ".join(f"{np.mean(a):.4f}" for a in found[name]["accuracy"]) + " |")
    lines += ["", "The posterior's prediction after the last task, means over all tasks:", ""]
    lines += ["| | accuracy | nats a row | calibration error |", "|---|---|---|---|"]
    for name in (n for n in METHODS if "predicted" in found.get(n, {})):
        p = found[name]["predicted"]
        numbers = f"{p['accuracy']:.4f} | {p['log_likelihood']:.4f} | {p['calibration_error']:.4f}"
        lines.append(f"| {name} | {numbers} |")
    if "local" in found:
        first, second = found["local"]["accuracy"][-1]
        used, gap = found["local"]["seconds"][-1], found["local"]["gap"]
        line = f"first task {first:.4f}, second task {second:.4f}, {used:.0f} CPU s; gap {gap:,.0f} nats"
        lines += ["", f"Local update with the second task: {line}."]
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=[*METHODS, "local"])
    parser.add_argument("--tasks", type=int, default=10)
    parser.add_argument("--rows", type=int, default=60_000)
    parser.add_argument("--epochs", type=float, default=10)
    options = parser.parse_args()
    torch.set_num_threads(1)
    whole = kk.read("mnist")
    test, train = whole.rows(whole.published[0]), whole.rows(torch.arange(options.rows))
    path = RESULTS / "permuted_mnist.json"

    def note(name, value):
        """Others may be writing, too: a method's rows are put beside what is there now."""
        if (options.tasks, options.rows, options.epochs) != (10, 60_000, 10):
            return
        kept = json.loads(path.read_text()) if path.exists() else {}
        found = {**kept.get("methods", {}), name: value}
        page = {"methods": found, "versions": kk.store.versions()}
        path.write_text(json.dumps(page, indent=1) + "\n")
        path.with_suffix(".md").write_text(f"{__doc__}\n{table(found)}\n")

    for name in [options.only] if options.only else [*METHODS, "local"]:
        if name == "local":
            found = local(train, test, options)
            print(name, found, flush=True)
            note(name, found)
        else:
            measure(name, train, test, options, note)
