"""What posteriors add to one network on MNIST: accuracy, calibration, and knowing what is not a digit.

    python benchmarks/mnist_posterior.py [--fashion FOLDER]

MLP 784-256-256-10, ReLU, trained on all 60,000 images under N(0, 1): 40 epochs of Adam (learning rate 1e-3, batches of
256), no held-out rows, each posterior as it comes but for one random column of the likelihood's curvature in place of
ten. Judged on the 10,000 test images; strangers are the 10,000 test images of Fashion-MNIST (Xiao, Rasul & Vollgraf
2017), read from FOLDER (the Debian package dataset-fashion-mnist puts them there) and standardised as the digits are.

Calibration error: of the largest probability, 15 bins of equal width, with its 95 % interval by chance. AUROC: how well
a score tells digits from clothes: the epistemic part (mutual information of class and parameters), and beside it the
entropy, which a single network has too. Temperature scaling: each half of the test images by the temperature of the
other half. Several networks come from seeds of their own. One seed; of the point network and of the variational
posterior three, medians, the lowest and highest in brackets. CPU seconds of one thread, of a fit and of predicting
10,000 images.

Bars: accuracy within 0.1 point of the point network, calibration error <= 0.01, AUROC of the epistemic part >= 0.95.
Rows that are there are kept, so that a run can be cut; --anew forgets them. Written to benchmarks/results/
mnist_posterior.json and .md.
"""

import argparse
import gzip
import json
import statistics
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

import kokkiri as kk
from kokkiri.evaluation.out_of_distribution import out_of_distribution, separation
from kokkiri.evaluation.recalibration import recalibrated, recalibration_for
from kokkiri.numerics.calibration import expected_calibration_error
from kokkiri.posteriors import SWAG, Dropout, Variational

RESULTS = Path(__file__).parent / "results"
FASHION = Path("/usr/share/datasets/fashion-mnist")
SEEDS, EPOCHS, SCALED = 3, 40, "point, temperature scaled"
AGAIN = ("point", "variational")  # by every seed
METHODS = {
    "point": kk.Point(),
    "ensemble of 5": kk.Ensemble(5, folds=0),
    'Laplace, last layer: `kk.Laplace("full", layers="last")`': kk.Laplace("full", layers="last", columns=1),
    'Laplace: `kk.Laplace("ekfac")`': kk.Laplace("ekfac", columns=1),
    'Laplace, averaged curvature: `kk.Laplace("ekfac", expected=4)`': kk.Laplace("ekfac", columns=1, expected=4),
    'Laplace, diagonal: `kk.Laplace("diagonal")`': kk.Laplace("diagonal", columns=1),
    "SWAG: `kk.posteriors.SWAG()`": SWAG(),
    "dropout of 0.2: `kk.posteriors.Dropout()`": Dropout(),
    "variational: `kk.posteriors.Variational()`": Variational(),
    "5 variational: `kk.posteriors.Variational(size=5)`": Variational(size=5),
}


def strangers(test, folder):
    """Clothes, as rows of the same form as the digits."""
    raw = gzip.decompress((folder / "t10k-images-idx3-ubyte.gz").read_bytes())
    images = torch.from_numpy(np.frombuffer(raw, np.uint8, offset=16).copy()).reshape(-1, 1, 28, 28)
    return replace(test, raw={"image": images}, source=replace(test.source, name="Fashion-MNIST"), _cache={})


def judged(p, q, y):
    """p: of the digits, q: of the clothes."""
    confidence, label = p.mean.max(1)
    right = label == y
    return {
        "accuracy": float(right.double().mean()),
        "nats": float(p.log_prob(y).mean()),
        "calibration_error": float(expected_calibration_error(confidence, right)),
        "epistemic": separation(out_of_distribution(p), out_of_distribution(q)).value,
        "entropy": separation(p.entropy, q.entropy).value,
    }


def scaled(p, q, y):
    """Each half of the digits with the temperature of the other; the clothes with that of the first half."""
    odd = torch.arange(len(y)) % 2 == 1
    taught = [recalibration_for(p.rows(half), y[half]).factor for half in (odd, ~odd)]
    factor = torch.where(odd, taught[1], taught[0])  # each by what the other half taught
    return judged(recalibrated(p, factor), recalibrated(q, factor), y)


def main(rows, folder, keep):
    torch.set_num_threads(1)
    train, test = kk.split(kk.read("mnist"), published=0)
    clothes = strangers(test, folder)
    for seed in range(SEEDS):
        for name, recipe in METHODS.items():
            if seed and not name.startswith(AGAIN):
                continue
            if any((r["seed"], r["method"]) == (seed, name) for r in rows):
                continue
            make = lambda recipe=recipe: kk.networks.MLP(
                train.inputs, [256, 256], 10, dropout=0.2 if isinstance(recipe, Dropout) else 0.0
            )
            began = time.process_time()
            post = kk.fit(
                train, make, kk.Categorical(), kk.Adam(1e-3), prior=kk.Normal(1.0), posterior=recipe, epochs=EPOCHS,
                batch=256, patience=None, threads=1, seed=seed, progress=False,
            )  # fmt: skip
            fitted = time.process_time()
            p, q = kk.predict(post, test), kk.predict(post, clothes)
            used = {"fit": fitted - began, "predict": (time.process_time() - fitted) / 2}
            rows.append({"seed": seed, "method": name, **used, **judged(p, q, test.y)})
            if name == "point":
                rows.append({"seed": seed, "method": SCALED, **used, **scaled(p, q, test.y)})
            keep(rows)
            print({k: round(v, 4) if isinstance(v, float) else v for k, v in rows[-1].items()}, flush=True)
    return rows


def cell(values, form):
    low, high = min(values), max(values)
    if len(values) == 1:
        return format(low, form)
    return f"{format(statistics.median(values), form)} [{format(low, form)} .. {format(high, form)}]"


def table(rows):
    names = ["point", SCALED, *list(METHODS)[1:]]
    of = lambda name, key: [r[key] for r in rows if r["method"] == name]
    point = dict(zip(of("point", "seed"), of("point", "accuracy"), strict=True))
    lines = [
        "| | accuracy, % | against point | nats a row | calibration error | epistemic | entropy | fit | predict | |",
        "|---|" + "---|" * 9,
    ]
    for name in (n for n in names if of(n, "seed")):
        lost = [100 * (a - point[s]) for a, s in zip(of(name, "accuracy"), of(name, "seed"), strict=True)]
        middle = {k: statistics.median(of(name, k)) for k in ("calibration_error", "epistemic")}
        single = name in {"point", SCALED}
        met = statistics.median(lost) >= -0.1 and middle["calibration_error"] <= 0.01 and middle["epistemic"] >= 0.95
        cells = [
            cell([100 * a for a in of(name, "accuracy")], ".2f"), cell(lost, "+.2f"), cell(of(name, "nats"), ".4f"),
            cell(of(name, "calibration_error"), ".4f"), "none" if single else cell(of(name, "epistemic"), ".3f"),
            cell(of(name, "entropy"), ".3f"), f"{statistics.median(of(name, 'fit')):.0f}",
            f"{statistics.median(of(name, 'predict')):.1f}", "all met" if met else "",
        ]  # fmt: skip
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fashion", type=Path, default=FASHION)
    parser.add_argument("--anew", action="store_true")
    options = parser.parse_args()
    path = RESULTS / "mnist_posterior.json"
    before = json.loads(path.read_text())["rows"] if path.exists() and not options.anew else []

    def keep(rows):
        kept = {"command": "python benchmarks/mnist_posterior.py", "versions": kk.store.versions(), "rows": rows}
        path.write_text(json.dumps(kept, indent=1) + "\n")
        (RESULTS / "mnist_posterior.md").write_text(f"{__doc__}\n{table(rows)}\n")

    found = main(before, options.fashion, keep)
    keep(found)
    print(table(found))
