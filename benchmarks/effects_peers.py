"""DoubleML and EconML on the data of effects.py:  PEERS/bin/python benchmarks/effects_peers.py 20

Needs numpy, scikit-learn, doubleml and econml, none of kokkiri. So many data sets of each cell; rows are added to
results/effects.json under "peers". Settings are those of the libraries' own examples: five folds, networks of two
layers of 64 with early stopping, boosted trees of scikit-learn, forests of 200 trees, lasso.
With "twins": DoubleML on Twins.
With "cost": processor seconds of one DoubleML fit with networks on 5,000 rows of 20 inputs, printed as JSON.
"""

import fcntl
import json
import sys
import time
import warnings
from pathlib import Path

import effect_data
import numpy as np

RESULTS = Path(__file__).parent / "results" / "effects.json"


def keep(name, row):
    with RESULTS.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        rows = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
        rows.setdefault("peers", {}).setdefault(name, []).append(row)
        new = RESULTS.with_suffix(".new")
        new.write_text(json.dumps(rows).replace("}, {", "},\n{").replace("]}, ", "]},\n"))
        new.replace(RESULTS)


def learners():
    from sklearn.ensemble import (
        HistGradientBoostingClassifier,
        HistGradientBoostingRegressor,
        RandomForestClassifier,
        RandomForestRegressor,
    )
    from sklearn.linear_model import LassoCV, LogisticRegressionCV
    from sklearn.neural_network import MLPClassifier, MLPRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    boosted = HistGradientBoostingRegressor, HistGradientBoostingClassifier
    net = {"hidden_layer_sizes": (64, 64), "early_stopping": True, "random_state": 0}
    forest = {"n_estimators": 200, "min_samples_leaf": 5, "random_state": 0}
    return {
        "networks": tuple(make_pipeline(StandardScaler(), kind(**net)) for kind in (MLPRegressor, MLPClassifier)),
        "boosted trees": tuple(kind(random_state=0) for kind in boosted),
        "forests": (RandomForestRegressor(**forest), RandomForestClassifier(**forest)),
        "lasso": (LassoCV(), LogisticRegressionCV(penalty="l1", solver="liblinear", scoring="neg_log_loss")),
    }  # fmt: skip


def interactive(x, t, y, models):
    import doubleml
    import pandas as pd

    frame = pd.DataFrame(x, columns=[f"x{i}" for i in range(x.shape[1])]).assign(y=y, t=t)
    np.random.seed(0)  # DoubleML draws its folds from the global state
    model = doubleml.DoubleMLIRM(doubleml.DoubleMLData(frame, "y", "t"), *models, n_folds=5)
    model.fit()
    low, high = model.confint().to_numpy()[0]
    return float(model.coef[0]), float(low), float(high)


def linear_dml(x, t, y, models):
    from econml.dml import LinearDML

    model = LinearDML(model_y=models[0], model_t=models[1], discrete_treatment=True, cv=5, random_state=0)
    found = model.fit(y, t, X=x).ate_inference(x)
    return float(found.mean_point), *(float(v) for v in found.conf_int_mean())


def forest_dml(x, t, y, models):
    from econml.dml import CausalForestDML

    model = CausalForestDML(
        model_y=models[0], model_t=models[1], discrete_treatment=True, cv=5, random_state=0, n_jobs=1
    )
    model.fit(y, t, X=x)
    at, se = float(model.ate_[0]), float(model.ate_stderr_[0])
    return at, at - 1.96 * se, at + 1.96 * se


def peers(sets):
    made = learners()
    methods = {f"DoubleML, {name}": (interactive, models) for name, models in made.items()}
    methods["EconML LinearDML, boosted trees"] = linear_dml, made["boosted trees"]
    methods["EconML CausalForestDML, boosted trees"] = forest_dml, made["boosted trees"]
    rows = json.loads(RESULTS.read_text()).get("peers", {}) if RESULTS.exists() else {}
    for number in range(sets):
        for design, n in effect_data.FIRST:
            x, t, y, _, _ = effect_data.simulated(design, n, number)
            for name, (run, models) in methods.items():
                key = f"{design} {n}: {name}"
                if any(row["number"] == number for row in rows.get(key, [])):
                    continue
                began = time.process_time()
                found = run(x, t, y, models)
                keep(key, {"number": number, "interval": [round(v, 5) for v in found],
                           "seconds": round(time.process_time() - began, 2)})  # fmt: skip


def twins():
    """DoubleML on the columns of Twins, none of which is the propensity itself."""
    x, t, y, _ = effect_data.twins()
    for name in ("networks", "boosted trees", "lasso"):
        keep(f"twins: DoubleML, {name}", {"interval": interactive(x, t, y, learners()[name])})


def cost():
    x, t, y = effect_data.wide(5000)
    models = learners()["networks"]
    began = time.process_time()
    found = interactive(x, t, y, models)
    print(json.dumps({"seconds": time.process_time() - began, "interval": found}))


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    if sys.argv[1] in {"cost", "twins"}:
        {"cost": cost, "twins": twins}[sys.argv[1]]()
    else:
        peers(int(sys.argv[1]))
