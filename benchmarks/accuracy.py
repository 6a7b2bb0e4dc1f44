"""How well does `kokkiri fit` with no flags predict?  python benchmarks/accuracy.py

Test log-likelihood (nats per row, higher is better) and the metric that matters (accuracy or RMSE), over the standard
splits of the UCI sets, five random ones of digits and twenty of breast-cancer (whose test sets are small), beside
scikit-learn's defaults: MLPClassifier / MLPRegressor, HistGradientBoosting*, and a linear model, each behind the same
encoder. A regressor's density is a Gaussian around its prediction, with the standard deviation of the residuals of
five-fold cross-validation on the training rows, and its target is standardised. Written to
benchmarks/results/accuracy.json and accuracy.md.
"""

import argparse
import json
import math
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import KFold, cross_val_predict
from sklearn.neural_network import MLPClassifier, MLPRegressor

import kokkiri as kk

RESULTS = Path(__file__).parent / "results"
SETS = ("breast-cancer", "digits", "concrete", "energy", "wine-quality-red")
COMMAND = "python benchmarks/accuracy.py"
MORE = {"breast-cancer": 4}  # times as many splits: 114 test rows leave a standard error of 0.03 nats


def peers(kind, seed):
    if kind == "category":
        return {
            "linear": LogisticRegression(max_iter=1000),
            "sklearn MLP": MLPClassifier(random_state=seed),
            "sklearn HistGradientBoosting": HistGradientBoostingClassifier(random_state=seed),
        }
    return {
        "linear": LinearRegression(),
        "sklearn MLP": MLPRegressor(random_state=seed),
        "sklearn HistGradientBoosting": HistGradientBoostingRegressor(random_state=seed),
    }


def peer_scores(model, kind, train, test):
    x, y, xt, yt = (t.numpy() for t in (train.x.flatten(1), train.y, test.x.flatten(1), test.y))
    if kind == "category":
        model.fit(x, y)
        p = np.clip(model.predict_proba(xt)[np.arange(len(yt)), yt], 1e-300, None)
        return np.log(p).mean(), (model.predict(xt) == yt).mean()
    shift, scale = y.mean(), y.std()
    z = (y - shift) / scale
    out = cross_val_predict(model, x, z, cv=KFold(5, shuffle=True, random_state=0))
    sd = math.sqrt(((out - z) ** 2).mean()) * scale
    error = yt - (model.fit(x, z).predict(xt) * scale + shift)
    density = -0.5 * (error / sd) ** 2 - math.log(sd) - 0.5 * math.log(2 * math.pi)
    return density.mean(), math.sqrt((error**2).mean())


def our_scores(train, test, seed):
    post = kk.fit(train, seed=seed, progress=False)
    predictive = kk.predict(post, test)
    ll = predictive.log_prob(test.y).mean().item()
    if test.target.kind == "category":
        metric = (predictive.mean.argmax(-1) == test.y).double().mean().item()
    else:
        metric = (predictive.mean - test.y).square().mean().sqrt().item()
    return ll, metric, next(c for c in post.record.candidates if c.chosen).name


def main(names, splits):
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")  # scikit-learn's default MLP says that 200 iterations were too few
    rows = []

    def add(began, data, split, model, ll, metric, chosen=""):
        seconds = time.process_time() - began
        row = {"data": data, "split": split, "model": model, "ll": float(ll), "metric": float(metric)}
        rows.append({**row, "seconds": seconds, "chosen": chosen})
        print(f"{data} {split} {model}: {ll:.3f}, {metric:.3f}, {seconds:.1f} s {chosen}", flush=True)

    for name in names:
        data = kk.read(name)
        for s in range(splits * MORE.get(name, 1)):
            train, test = kk.split(data, published=s) if data.published else kk.split(data, 0.2, seed=s)
            began = time.process_time()
            add(began, name, s, "kokkiri", *our_scores(train, test, s))
            for peer, model in peers(test.target.kind, s).items():
                began = time.process_time()
                add(began, name, s, peer, *peer_scores(model, test.target.kind, train, test))
    return rows


def column(rows, name, model, key):
    return np.array([r[key] for r in rows if r["data"] == name and r["model"] == model])


def table(rows):
    """A line a data set; in brackets the metric, and the paired difference of log-likelihoods."""
    models = list(dict.fromkeys(r["model"] for r in rows))
    lines = ["| data | " + " | ".join(models) + " |", "|---|" + "---|" * len(models)]
    for name in dict.fromkeys(r["data"] for r in rows):
        own, cells = column(rows, name, "kokkiri", "ll"), []
        for model in models:
            ll, metric = column(rows, name, model, "ll"), column(rows, name, model, "metric").mean()
            seconds = np.median(column(rows, name, model, "seconds"))
            beside = f"{metric:.3f}, {seconds:.1f} s"
            if model != "kokkiri":
                gap = own - ll
                beside = f"{metric:.3f}; {gap.mean():+.3f} ± {gap.std(ddof=1) / math.sqrt(len(gap)):.3f}"
            cells.append(f"{ll.mean():.3f} ({beside})")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--splits", type=int, default=5)
    parser.add_argument("--only", nargs="*", default=SETS)
    options = parser.parse_args()
    found = main(options.only, options.splits)
    print(table(found))
    if tuple(options.only) == SETS and options.splits == 5:
        RESULTS.mkdir(exist_ok=True)
        kept = {"command": COMMAND, "versions": kk.store.versions(), "rows": found}
        (RESULTS / "accuracy.json").write_text(json.dumps(kept, indent=1) + "\n")
        says = (
            "Mean test log-likelihood over splits; in brackets the metric (accuracy or RMSE) and the CPU seconds "
            "of a fit, or for the peers the paired difference, kokkiri minus peer, ± its standard error over splits."
        )
        (RESULTS / "accuracy.md").write_text(f"{__doc__}\n{says}\n\n{table(found)}\n")
