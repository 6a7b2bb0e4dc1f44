"""Refuters: what they cost beside DoWhy with EconML, and whom they convict.
    python benchmarks/refuters.py [--peer PYTHON] [--only cost,right,wrong,full]

cost: five refuters with 100 replicates each, 2,000 rows, ten covariates; CPU seconds of one process with one thread,
children included, three times in turn with the peer. kokkiri: `effect.refute()` of an effect by networks, heads solved
again on their frozen features. Peer: DoWhy 0.14 with EconML's LinearDML of gradient boosting (five folds, its defaults
otherwise), n_jobs=1, two simulations a refuter, extrapolated linearly to 100: each simulation fits everything anew, so
that its cost is per simulation. --peer is a Python that has both.
right: how many right estimates the five refuters together convict, over simulated sets whose effect is known, by
method; the bar is 5 %. Beside them DoWhy's placebo refuter on its own propensity weighting, the estimate being right.
wrong: how many wrong ones are convicted, for mistakes of known kinds.
full: the same replicates with all networks trained anew beside heads solved again, 1,000 rows; what the shortcut costs
in precision: mean difference in posterior standard deviations, ratio of the replicates' spread, correlation.
Written to benchmarks/results/refuters.json and .md; --only keeps what the file has of the other parts.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import torch

import kokkiri as kk
from kokkiri.causal.refits import hidden_layers
from kokkiri.causal.refute import refuted
from kokkiri.causal.replicates import NAMES, as_they_are, replicates
from kokkiri.causal.solvers import LinearSolver, heads_solver, predictions, some
from kokkiri.numerics.heads import Precisions, solve
from kokkiri.numerics.one_step import Estimates, estimates, parts
from kokkiri.numerics.random import philox

RESULTS = Path(__file__).parent / "results"
SIMULATIONS, PEER_SIMULATIONS, ROUNDS = 100, 2, 3
BARS = {"times less CPU": 50.0, "right ones convicted": 0.05}
PEER = """
import json, logging, sys, time, warnings
warnings.filterwarnings("ignore"); logging.disable(logging.WARNING)
import numpy as np, pandas as pd
from dowhy import CausalModel
from sklearn.ensemble import GradientBoostingClassifier, GradientBoostingRegressor
what, path, k = sys.argv[1], sys.argv[2], int(sys.argv[3])
def cpu():
    import resource
    both = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(r.ru_utime + r.ru_stime for r in both)
out = []
for data in np.load(path)["sets"]:
    p = data.shape[1] - 2
    df = pd.DataFrame(data, columns=[f"x{i}" for i in range(p)] + ["t", "y"]); df["t"] = df["t"].astype(int)
    model = CausalModel(df, treatment="t", outcome="y", common_causes=[f"x{i}" for i in range(p)])
    estimand = model.identify_effect(proceed_when_unidentifiable=True)
    began = cpu()
    if what == "cost":
        settings = {"model_y": GradientBoostingRegressor(), "model_t": GradientBoostingClassifier(),
                    "discrete_treatment": True, "cv": 5, "random_state": 0}
        effect = model.estimate_effect(
            estimand, method_name="backdoor.econml.dml.LinearDML", control_value=0, treatment_value=1,
            target_units="ate", method_params={"init_params": settings, "fit_params": {}})
        found = {"estimate": effect.value, "fit": cpu() - began}
        for name, options in {"placebo": {"method_name": "placebo_treatment_refuter", "placebo_type": "permute"},
                              "cause": {"method_name": "random_common_cause"},
                              "subset": {"method_name": "data_subset_refuter", "subset_fraction": 0.8},
                              "dummy": {"method_name": "dummy_outcome_refuter"},
                              "bootstrap": {"method_name": "bootstrap_refuter"}}.items():
            began = cpu()
            model.refute_estimate(estimand, effect, num_simulations=k, **options)
            found[name] = (cpu() - began) / k
    else:
        df["t"] = df["t"].astype(bool)
        effect = model.estimate_effect(estimand, method_name="backdoor.propensity_score_weighting")
        r = model.refute_estimate(estimand, effect, method_name="placebo_treatment_refuter", placebo_type="permute",
                                  num_simulations=k, random_seed=0)
        found = {"estimate": float(effect.value), "placebo": float(r.new_effect),
                 "p": float(r.refutation_result["p_value"])}
    out.append(found)
print("RESULT" + json.dumps(out))
"""


def columns(n, p, seed, nonlinear=True):
    """Right for adjustment: the propensity is between 5 and 95 %, the effect 1."""
    rng = philox(seed, "refuters")
    x = rng.normal(size=(n, p))
    e = 1 / (1 + np.exp(-np.clip(1.2 * np.sin(x[:, 0]) - 0.5 * x[:, 1] if nonlinear else x[:, 0], -2.5, 2.5)))
    t = (rng.random(n) < e).astype(int)
    mean = np.sin(2 * x[:, 0]) + x[:, 1] ** 2 / 2 + 0.5 * x[:, 2] if nonlinear else x[:, 0] + 0.5 * x[:, 1]
    return x, t, mean + t + rng.normal(size=n)


def data_of(x, t, y):
    return {f"x{i}": x[:, i] for i in range(x.shape[1])} | {"t": t, "y": y}


def effect_of(x, t, y, method, seed=0):
    adjust = tuple(f"x{i}" for i in range(x.shape[1]))
    return kk.do(data_of(x, t, y), {"t": 1}, versus={"t": 0}, outcome="y", adjust=adjust, method=method, seed=seed)


def ask_peer(python, what, sets, k):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sets.npz"
        np.savez(path, sets=np.stack([np.column_stack(s) for s in sets]))
        done = subprocess.run([python, "-c", PEER, what, str(path), str(k)], capture_output=True, text=True, check=True)
    return json.loads(done.stdout[done.stdout.index("RESULT") + 6 :])


# -- cost --------------------------------------------------------------------------------------------------------------


def cost(peer):
    ours, theirs = [], []
    for seed in range(ROUNDS):
        sample = columns(2000, 10, seed)
        began = time.process_time()
        effect = effect_of(*sample, "networks", seed)
        fit = time.process_time() - began
        began = time.process_time()
        found = effect.refute(simulations=SIMULATIONS, seed=seed)
        ours.append({"fit": fit, "refute": time.process_time() - began, "convicted": found.convicted})
        print("ours", ours[-1])
        if peer:
            answer = ask_peer(peer, "cost", [sample], PEER_SIMULATIONS)[0]
            theirs.append(answer)
            print("peer", answer)
    out = {"rows": 2000, "covariates": 10, "ours": ours, "peer": theirs}
    if peer:
        total = [SIMULATIONS * sum(answer[name] for name in NAMES) for answer in theirs]
        ratios = [b / a["refute"] for a, b in zip(ours, total, strict=True)]
        out |= {"peer seconds": total, "ratio": statistics.median(ratios), "ratios": ratios}
    return out


# -- right estimates ---------------------------------------------------------------------------------------------------


def table_set(n, seed):
    rng = philox(seed, "table")
    a = rng.integers(0, 3, n)
    t = (rng.random(n) < 0.25 + 0.25 * a).astype(int)
    y = (rng.random(n) < 0.2 + 0.15 * a + 0.2 * t).astype(int)
    return kk.do(
        {"a": a.astype(str), "t": t, "y": y}, {"t": 1}, versus={"t": 0}, outcome="y", adjust="a", method="discrete"
    )


def front_door_set(n, seed):
    rng = philox(seed, "front door")
    u = rng.integers(0, 2, n)
    t = (rng.random(n) < 0.25 + 0.5 * u).astype(int)
    m = (rng.random(n) < 0.2 + 0.6 * t).astype(int)
    y = (rng.random(n) < 0.2 + 0.3 * m + 0.3 * u).astype(int)
    return kk.do({"t": t, "m": m, "y": y}, {"t": 1}, versus={"t": 0}, outcome="y", graph="t -> m; m -> y; t <-> y")


def instrument_set(n, seed):
    rng = philox(seed, "instrument")
    z, u = rng.normal(size=n), rng.normal(size=n)
    d = 0.7 * z + u + rng.normal(size=n)
    data = {"z": z, "d": d, "y": d + 2 * u + rng.normal(size=n)}
    return kk.do(data, {"d": 1}, versus={"d": 0}, outcome="y", graph="z -> d; d -> y; d <-> y", method="instrument")


MAKERS = {
    "table, adjustment, n = 500": (200, lambda seed: table_set(500, seed)),
    "table, front door, n = 1,000": (200, lambda seed: front_door_set(1000, seed)),
    "linear, n = 300": (200, lambda seed: effect_of(*columns(300, 3, seed, nonlinear=False), "linear", seed)),
    "instrument, n = 500": (200, lambda seed: instrument_set(500, seed)),
    "networks, n = 500": (40, lambda seed: effect_of(*columns(500, 5, seed), "networks", seed)),
    "networks, n = 60": (40, lambda seed: effect_of(*columns(60, 3, seed), "networks", seed)),
}


def right(peer):
    out = {}
    for name, (sets, make) in MAKERS.items():
        guilty, who, began = 0, Counter(), time.process_time()
        for seed in range(sets):
            found = make(seed).refute(simulations=SIMULATIONS, seed=seed)
            guilty += found.convicted
            who.update(line.refuter for line in found.lines if line.convicted)
        out[name] = {"sets": sets, "convicted": guilty, "by": dict(who), "seconds": time.process_time() - began}
        print(name, out[name])
    if peer:
        sets = [columns(1000, 3, seed, nonlinear=False) for seed in range(20)]
        found = ask_peer(peer, "placebo", sets, 20)
        out["DoWhy's placebo, propensity weighting, n = 1,000"] = {
            "sets": len(found), "convicted": sum(f["p"] < 0.05 for f in found), "by": {"placebo": len(found)},
            "estimates": [f["estimate"] for f in found], "placebos": [f["placebo"] for f in found],
        }  # fmt: skip
        print(out["DoWhy's placebo, propensity weighting, n = 1,000"])
    return out


# -- wrong estimates ---------------------------------------------------------------------------------------------------


def heads_set(seed, n=1000):
    x, t, y = columns(n, 3, seed, nonlinear=False)
    x, t, y, w = torch.as_tensor(x), torch.as_tensor(t), torch.as_tensor(y), torch.ones(n, dtype=torch.float64)
    solver = heads_solver(x, torch.arange(n) % 5, t, y, w, levels=2, level=1, versus=0)
    return solver, solver.rows(t, y, w)


def judged(solver, rows, seed, narrow=1.0):
    base = solver(as_they_are(rows))
    return refuted(solver, rows, estimate=float(base.estimate[0]), sd=float(base.se[0]) / narrow, method="", seed=seed)


def stale(seed):
    """Weights by the propensity of the treatments as they were, whatever the placebo: DoWhy's issue 1728."""
    solver, rows = heads_set(seed)
    old = solve(solver.frozen, 2, as_they_are(rows), solver.prior).propensity
    nothing = torch.zeros(1, 2, len(rows.outcome), dtype=torch.float64)

    def weighting(given):
        found = estimates(parts(given.treatment, given.outcome, nothing, old, 1, 0), given.weight)
        return found if given.extra is None else Estimates(*(v.expand(len(given.extra)) for v in found))

    return judged(weighting, rows, seed)


def blind(seed):
    """Neither outcome nor propensity sees the covariates: priors of infinite precision."""
    solver, rows = heads_set(seed)
    none = Precisions(torch.full((5, 2), 1e9, dtype=torch.float64), torch.full((5,), 1e9, dtype=torch.float64))
    return judged(type(solver)(solver.frozen, 2, none, 1, 0), rows, seed)


def nervous(seed):
    """An estimate that any column may move by three standard errors."""
    solver, rows = heads_set(seed)

    def moved(given):
        found = solver(given._replace(extra=None))
        if given.extra is None:
            return found
        shift = 3 * found.se * given.extra.mean(1) * given.extra.shape[1] ** 0.5
        return Estimates(found.estimate + shift, found.se.expand_as(shift))

    return judged(moved, rows, seed)


def narrow(seed):
    return judged(*heads_set(seed), seed, narrow=2.5)


def uncorrected(seed):
    method = kk.causal.Networks(correction="none")
    return effect_of(*columns(500, 5, seed), method, seed).refute(seed=seed)


def straight(seed):
    """A straight line where the covariate acts by its square, on treatment and outcome."""
    rng = philox(seed, "straight")
    a = rng.normal(size=500)
    t = (rng.random(500) < 1 / (1 + np.exp(1 - a**2))).astype(int)
    data = {"a": a, "t": t, "y": a**2 + t + rng.normal(size=500)}
    return kk.do(data, {"t": 1}, versus={"t": 0}, outcome="y", adjust="a", method="linear").refute(seed=seed)


WRONG = {
    "straight line where the cause is bent": (50, straight),
    "propensity of another treatment (stale)": (50, stale),
    "adjustment that sees nothing": (50, blind),
    "estimate that noise moves": (50, nervous),
    "interval 2.5 times too narrow": (50, narrow),
    "networks without correction": (10, uncorrected),
}


def wrong(_):
    out = {}
    for name, (sets, make) in WRONG.items():
        guilty, who = 0, Counter()
        for seed in range(sets):
            found = make(seed)
            guilty += found.convicted
            who.update(line.refuter for line in found.lines if line.convicted)
        out[name] = {"sets": sets, "convicted": guilty, "by": dict(who)}
        print(name, out[name])
    return out


# -- heads beside networks trained anew --------------------------------------------------------------------------------


def full(_, n=1000, many=50):
    x, t, y = columns(n, 5, 0)
    effect = effect_of(x, t, y, "networks")
    nuisances = effect.nuisances
    weight = torch.ones(n, dtype=torch.float64)
    features = {
        "predictions": predictions(nuisances.outcome, nuisances.propensity),
        "hidden layer": hidden_layers(effect.origin.crossfit, effect.origin.block.x),
    }
    solvers = {
        name: heads_solver(phi, nuisances.fold, nuisances.t, nuisances.y, weight, levels=2, level=1, versus=0,
                           floor=effect.facts["least propensity"])
        for name, phi in features.items()
    }  # fmt: skip
    rows = LinearSolver(effect.ground.x, 2, (1, 0)).rows(nuisances.t, nuisances.y, weight)
    out = {"rows": n, "replicates": many, "sd": effect.sd}
    for name in NAMES:
        made = some(replicates(name, rows, SIMULATIONS, 0), 0, many)
        began = time.process_time()
        anew = effect.origin.refit(made, effect.level, effect.versus).estimate
        out[name] = {"anew sd": float(anew.std()), "seconds anew": (time.process_time() - began) / many}
        for which, solver in solvers.items():
            began = time.process_time()
            heads = solver(made).estimate
            out[name][which] = {
                "seconds": (time.process_time() - began) / many, "off": float((heads - anew).mean()) / effect.sd,
                "spread": float(heads.std() / anew.std()), "correlation": float(np.corrcoef(heads, anew)[0, 1]),
            }  # fmt: skip
        print(name, out[name])
    return out


def table(head, rows):
    return ["", f"| {' | '.join(head)} |", "|---" * len(head) + "|", *(f"| {' | '.join(row)} |" for row in rows), ""]


def of_cost(c):
    peer = c.get("ratios")
    yield f"Five refuters, {SIMULATIONS} replicates each, {c['rows']:,} rows, {c['covariates']} columns; CPU seconds."
    head = ("round", "kokkiri: refute", "kokkiri: the effect itself", "DoWhy with EconML, extrapolated", "times")
    yield from table(head, [
        (str(k + 1), f"{a['refute']:.2f}", f"{a['fit']:.1f}",
         *((f"{c['peer seconds'][k]:,.0f}", f"{c['ratios'][k]:,.0f}") if peer else ("", "")))
        for k, a in enumerate(c["ours"])
    ])  # fmt: skip
    if peer:
        yield f"Median {c['ratio']:,.0f} times less CPU (bar: {BARS['times less CPU']:.0f}). The peer ran"
        yield f"{PEER_SIMULATIONS} simulations of each refuter; 100 of each are extrapolated linearly."


def of_verdicts(found):
    yield from table(("estimate", "sets", "convicted", "by"), [
        (name, str(v["sets"]), f"{v['convicted']} ({100 * v['convicted'] / v['sets']:.1f} %)",
         ", ".join(f"{NAMES[k]} {n}" for k, n in v["by"].items()))
        for name, v in found.items()
    ])  # fmt: skip


def of_full(f):
    yield f"{f['replicates']} replicates, the same for both, {f['rows']:,} rows. Off: in posterior standard deviations."
    yield "Spread: heads over anew, known to a tenth or so. Noise as a cause moves either less than a new start does."
    head = ("refuter", "heads on", "off", "spread", "correlation", "CPU s", "CPU s anew")
    yield from table(head, [
        (NAMES[name], which, f"{h['off']:+.2f}", f"{h['spread']:.2f}", f"{h['correlation']:.2f}", f"{h['seconds']:.4f}",
         f"{f[name]['seconds anew']:.2f}")
        for name in NAMES
        for which, h in f[name].items() if isinstance(h, dict)
    ])  # fmt: skip


def markdown(r):
    parts_ = {
        "cost": ("Cost", of_cost), "right": ("Right estimates convicted by any of the five (bar: 5 %)", of_verdicts),
        "wrong": ("Wrong estimates convicted", of_verdicts),
        "full": ("Heads solved again beside networks trained anew", of_full),
    }  # fmt: skip
    lines = ["# Refuters", ""]
    for name, (title, write) in parts_.items():
        if name in r:
            lines += [f"## {title}", "", *write(r[name]), ""]
    v = r["versions"]
    lines += [
        f"kokkiri {v['kokkiri']}, torch {v['torch']}, Python {v['python']}, one thread. Written by",
        "`python benchmarks/refuters.py`.",
    ]
    return "\n".join(lines).replace("\n\n\n", "\n\n") + "\n"


def run():
    options = argparse.ArgumentParser()
    options.add_argument("--peer", default="")
    options.add_argument("--only", default="cost,right,wrong,full")
    given = options.parse_args()
    torch.set_num_threads(1)
    path = RESULTS / "refuters.json"
    found = json.loads(path.read_text()) if path.exists() else {}
    found["versions"] = {"kokkiri": kk.__version__, "torch": torch.__version__, "python": platform.python_version()}
    for name in given.only.split(","):
        found[name] = {"cost": cost, "right": right, "wrong": wrong, "full": full}[name](given.peer)
        path.write_text(json.dumps(found, indent=1))
        (RESULTS / "refuters.md").write_text(markdown(found))
    print(markdown(found))


if __name__ == "__main__":
    sys.exit(run())
