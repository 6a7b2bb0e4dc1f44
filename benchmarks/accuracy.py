"""How well does `kokkiri fit` with no flags predict?  python benchmarks/accuracy.py [--splits 5]

Test log-likelihood (nats per row, higher is better) and the metric that matters, over the standard splits of the UCI sets
and five random ones of the others, beside scikit-learn's defaults: MLPClassifier / MLPRegressor, HistGradientBoosting*,
and a linear model, each behind the same encoder. A regressor's density is a Gaussian around its prediction, whose standard
deviation comes from the residuals of five-fold cross-validation on the training rows. Written to
benchmarks/results/accuracy.json and accuracy.md.
"""

import argparse
import json
import math
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import torch

import kokkiri as kk

RESULTS = Path(__file__).parent / "results"
SETS = ("breast-cancer", "digits", "concrete", "energy", "wine-quality-red")


def peers(kind, seed):
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
    from sklearn.linear_model import LinearRegression, LogisticRegression
    from sklearn.neural_network import MLPClassifier, MLPRegressor

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


def peer_score(model, kind, train, test):
    from sklearn.model_selection import KFold, cross_val_predict

    x, y, xt, yt = (t.numpy() for t in (train.x.flatten(1), train.y, test.x.flatten(1), test.y))
    if kind == "category":
        model.fit(x, y)
        p = np.clip(model.predict_proba(xt)[np.arange(len(yt)), yt], 1e-300, None)
        return np.log(p).mean(), (model.predict(xt) == yt).mean()
    shift, scale = y.mean(), y.std()  # MLPRegressor does not standardise its target; all get the same help
    z = (y - shift) / scale
    out = cross_val_predict(model, x, z, cv=KFold(5, shuffle=True, random_state=0))
    sd = math.sqrt(((out - z) ** 2).mean()) * scale
    error = yt - (model.fit(x, z).predict(xt) * scale + shift)
    return (-0.5 * (error / sd) ** 2 - math.log(sd) - 0.5 * math.log(2 * math.pi)).mean(), math.sqrt((error**2).mean())


def ours(train, test, seed):
    post = kk.fit(train, seed=seed, progress=False)
    predictive = kk.predict(post, test)
    ll = predictive.log_prob(test.y).mean().item()
    if test.target.kind == "category":
        metric = (predictive.mean.argmax(-1) == test.y).double().mean().item()
    else:
        metric = (predictive.mean - test.y).square().mean().sqrt().item()
    chosen = next(c for c in post.record.candidates if c.chosen)
    return ll, metric, chosen.name


def main(names, splits):
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")  # scikit-learn's default MLP says that 200 iterations were too few
    rows = []
    for name in names:
        data = kk.read(name)
        for s in range(splits):
            given = {"published": s} if data.published else {"test": 0.2, "seed": s}
            train, test = kk.split(data, **given)
            began = time.process_time()
            ll, metric, chosen = ours(train, test, s)
            rows.append({
                "data": name,
                "split": s,
                "model": "kokkiri",
                "ll": ll,
                "metric": metric,
                "seconds": time.process_time() - began,
                "chosen": chosen,
            })
            print(rows[-1], flush=True)
            for peer, model in peers(test.target.kind, s).items():
                began = time.process_time()
                ll, metric = peer_score(model, test.target.kind, train, test)
                rows.append({
                    "data": name,
                    "split": s,
                    "model": peer,
                    "ll": float(ll),
                    "metric": float(metric),
                    "seconds": time.process_time() - began,
                })
                print(rows[-1], flush=True)
    return rows


def table(rows):
    models = list(dict.fromkeys(r["model"] for r in rows))
    lines = ["| data | " + " | ".join(models) + " |", "|---|" + "---|" * len(models)]
    for name in dict.fromkeys(r["data"] for r in rows):
        cells = []
        for model in models:
            own = [r for r in rows if r["data"] == name and r["model"] == model]
            ll = np.array([r["ll"] for r in own])
            se = ll.std(ddof=1) / math.sqrt(len(ll)) if len(ll) > 1 else float("nan")
            cells.append(
                f"{ll.mean():.3f} ± {se:.3f} ({np.mean([r['metric'] for r in own]):.3f}, {np.median([r['seconds'] for r in own]):.0f} s)"
            )
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
        (RESULTS / "accuracy.json").write_text(
            json.dumps(
                {"command": "python benchmarks/accuracy.py", "versions": kk.store.versions(), "rows": found}, indent=1
            )
        )
        (RESULTS / "accuracy.md").write_text(
            f"{__doc__}\nMean over splits ± standard error (accuracy or RMSE, CPU seconds a fit).\n\n{table(found)}\n"
        )
    sys.exit(0)
