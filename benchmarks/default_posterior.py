"""Which posterior should `kokkiri fit` make when nothing is said?  python benchmarks/default_posterior.py

`kk.fit` chooses network, likelihood and optimizer by itself, as the command does; only the posterior differs. The
default, an ensemble whose members are each stopped by a fold of their own, stands against mixtures of Gaussians around
five modes, trained on all rows and regularised by evidence. Two splits: the published ones of the UCI sets, random
fifths of the others.

Test log-likelihood, nats per row; the difference from the default, paired over splits; accuracy or RMSE; coverage of
95 % intervals, or the calibration error of the largest probability; AUROC of the epistemic part for rows whose columns
were shuffled; CPU seconds of one thread. Means over splits. Rows that are there are kept; --anew forgets them. Written
to benchmarks/results/default_posterior.json and .md.
"""

import argparse
import json
import math
import statistics
import time
import warnings
from pathlib import Path

import torch

import kokkiri as kk
from kokkiri.evaluation.out_of_distribution import out_of_distribution, separation, shuffled
from kokkiri.numerics.calibration import expected_calibration_error

RESULTS = Path(__file__).parent / "results"
SETS = ("breast-cancer", "digits", "concrete", "energy", "wine-quality-red")
SPLITS, DEFAULT = 2, "default"
POSTERIORS = {
    DEFAULT: None,
    "laplace:ekfac:x5": kk.Laplace("ekfac", size=5),
    "laplace:kronecker:x5": kk.Laplace("kronecker", size=5),
}


def judged(post, test):
    p, y = kk.predict(post, test), test.y
    x = test.batch(torch.arange(len(test))).x
    strange = kk.predict(post, shuffled(x, test.inputs))
    if test.target.kind == "category":
        probability = p.mean if p.mean.ndim == 2 else torch.stack([1 - p.mean, p.mean], 1)
        confidence, label = probability.max(1)
        right = label == y
        metric, calibration = float(right.double().mean()), float(expected_calibration_error(confidence, right))
    else:
        low, high = p.interval(0.95)
        metric = float((p.mean - y).square().mean().sqrt())
        calibration = float(((low <= y) & (y <= high)).double().mean())
    return {
        "nats": float(p.log_prob(y).mean()),
        "metric": metric,
        "calibration": calibration,
        "strange": separation(out_of_distribution(p), out_of_distribution(strange)).value,
    }


def main(sets, rows, keep):
    torch.set_num_threads(1)
    for split in range(SPLITS):
        for name in sets:
            data = kk.read(name)
            train, test = kk.split(data, published=split) if data.published else kk.split(data, 0.2, seed=split)
            for title, recipe in POSTERIORS.items():
                if any((r["data"], r["split"], r["posterior"]) == (name, split, title) for r in rows):
                    continue
                began = time.process_time()
                post = kk.fit(train, posterior=recipe, seed=split, threads=1, progress=False)
                row = {"data": name, "split": split, "posterior": title, "seconds": time.process_time() - began}
                rows.append({**row, **judged(post, test)})
                keep(rows)
                print(rows[-1], flush=True)
    return rows


def table(rows):
    lines = ["| | posterior | nats per row | against default | metric | calibration | strangers | CPU s |"]
    lines.append("|---|" + "---|" * 7)
    for name in SETS:
        for title in POSTERIORS:
            own = [r for r in rows if (r["data"], r["posterior"]) == (name, title)]
            if not own:
                continue
            base = {r["split"]: r["nats"] for r in rows if (r["data"], r["posterior"]) == (name, DEFAULT)}
            gained = [r["nats"] - base[r["split"]] for r in own if r["split"] in base]
            se = statistics.stdev(gained) / math.sqrt(len(gained)) if len(gained) > 1 else math.nan
            mean = lambda key, own=own: statistics.fmean(r[key] for r in own)
            against = "" if title == DEFAULT else f"{statistics.fmean(gained):+.3f} ± {se:.3f}"
            cells = [f"{mean('nats'):.3f}", against, *(f"{mean(k):.3f}" for k in ("metric", "calibration", "strange"))]
            lines.append(f"| {name} | `{title}` | " + " | ".join(cells) + f" | {mean('seconds'):.0f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", default=SETS)
    parser.add_argument("--anew", action="store_true")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    path = RESULTS / "default_posterior.json"
    before = json.loads(path.read_text())["rows"] if path.exists() and not options.anew else []

    def keep(rows):
        kept = {"command": "python benchmarks/default_posterior.py", "versions": kk.store.versions(), "rows": rows}
        path.write_text(json.dumps(kept, indent=1) + "\n")
        (RESULTS / "default_posterior.md").write_text(f"{__doc__}\n{table(rows)}\n")

    found = main(options.only, before, keep)
    keep(found)
    print(table(found))
