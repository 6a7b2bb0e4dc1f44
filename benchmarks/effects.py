"""Do intervals of effects cover, how wide are they, and what do they cost?

    python benchmarks/effects.py coverage      200 data sets for each of two designs, n = 500 and 2,000
    python benchmarks/effects.py real          IHDP 1-10, Twins, the National Supported Work programme
    python benchmarks/effects.py cost PYTHON   replicates by closed-form heads, beside full refits and DoubleML (whose
                                               environment's python is named)
    python benchmarks/effects.py table         writes results/effects.md from results/effects.json

Rows are kept in results/effects.json, and a run that was cut goes on with the next data set. The default settings are
the same everywhere; they were found on other seeds than those here. benchmarks/effects_peers.py adds rows of DoubleML
and EconML. Width is that of the 95 % interval, beside the interval of the one-step estimator that knows both nuisances.
"""

import fcntl
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import effect_data
import numpy as np
import torch

from kokkiri.causal.networks import network_nuisances
from kokkiri.causal.overlap import overlap_of
from kokkiri.causal.refits import head_draws, network_draws
from kokkiri.numerics import effects
from kokkiri.numerics.effects import Nuisances
from kokkiri.numerics.targeted import targeted_posterior

RESULTS = Path(__file__).parent / "results" / "effects.json"
SETS = 200


def kept():
    return json.loads(RESULTS.read_text()) if RESULTS.exists() else {}


def keep(part, name, row):
    """Adds a row; others may be adding theirs."""
    with RESULTS.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        all_rows = kept()
        all_rows.setdefault(part, {}).setdefault(name, []).append(row)
        text = json.dumps(all_rows)
        new = RESULTS.with_suffix(".new")
        new.write_text(text.replace("}, {", "},\n{").replace("]}, ", "]},\n"))
        new.replace(RESULTS)


def interval(draws):
    """Mean and central 95 % of the contrast of level 1 with level 0, rounded."""
    d = draws[:, 1] - draws[:, 0]
    low, high = torch.quantile(d, torch.tensor([0.025, 0.975], dtype=d.dtype)).tolist()
    return [round(v, 5) for v in (d.mean().item(), low, high)]


def one(design, n, number):
    x, t, y, e, means = effect_data.simulated(design, n, number)
    x, t, y = torch.tensor(x), torch.tensor(t), torch.tensor(y)
    began = time.process_time()
    found = network_nuisances(x, t, y, seed=number)
    nuisances = found.nuisances
    draws = effects.posterior(nuisances, seed=number)
    seconds = time.process_time() - began
    plain = nuisances._replace(outcome_draws=None)
    truth = Nuisances(t, y, None, t, torch.tensor(means), torch.tensor(np.stack([1 - e, e])))
    share = effects.plug_in(nuisances)
    errors = (
        (nuisances.outcome - torch.tensor(means)).square().mean(),
        (nuisances.propensity[1] - torch.tensor(e)).square().mean(),
    )
    return {
        "number": number, "networks": interval(draws),
        "without remainder": interval(effects.posterior(plain, seed=number)),
        "targeted": interval(targeted_posterior(nuisances, draws=1000, seed=number)),
        "plug-in": round(float(share[1] - share[0]), 5), "oracle": interval(effects.posterior(truth, seed=number)),
        "outcome error": round(float(errors[0]), 4), "propensity error": round(float(errors[1]), 5),
        "slope": round(found.slope, 3), "seconds": round(seconds, 2),
        "outcome": {k: round(v, 2) for k, v in found.outcome.items() if v > 0.005},
        "propensity": {k: round(v, 2) for k, v in found.propensity.items() if v > 0.005},
    }  # fmt: skip


def coverage(sets=SETS):
    cells = list(effect_data.FIRST)
    done = {
        cell: {row["number"] for row in kept().get("coverage", {}).get("{} {}".format(*cell), [])} for cell in cells
    }
    for number in range(sets):
        for design, n in cells:
            if number not in done[design, n]:
                keep("coverage", f"{design} {n}", one(design, n, number))


def real():
    before = kept().get("real", {})
    for k in range(1, 11):
        if len(before.get("ihdp", [])) < k:
            x, t, y, means = effect_data.ihdp(k)
            means = torch.tensor(means)
            found = network_nuisances(torch.tensor(x), torch.tensor(t), torch.tensor(y), seed=k)
            nu = found.nuisances
            truth = means[1] - means[0]
            effect = nu.outcome[1] - nu.outcome[0]
            keep("real", "ihdp", {
                "realisation": k, "truth": float(truth.mean()), "networks": interval(effects.posterior(nu, seed=k)),
                "plug-in": float(effect.mean()), "pehe": float((effect - truth).square().mean().sqrt()),
                "spread of effects": float(truth.std()), "seconds": found.facts["processor seconds"],
            })  # fmt: skip
    for name, told in (("twins", False), ("twins, told the propensity", True)):
        if name not in before:
            x, t, y, both = effect_data.twins(told)
            found = network_nuisances(torch.tensor(x), torch.tensor(t), torch.tensor(y), seed=0)
            nu = found.nuisances
            overlap = overlap_of(nu.t, nu.propensity, level=1, versus=0, outcome=nu.outcome)
            keep("real", name, {
                "truth": float((both[1] - both[0]).mean()), "seen": float(y[t == 1].mean() - y[t == 0].mean()),
                "networks": interval(effects.posterior(nu)), "plug-in": float(effects.plug_in(nu).diff()),
                "overlap": overlap.verdict, "grade": overlap.grade, "seconds": found.facts["processor seconds"],
            })  # fmt: skip
    for controls in ("experiment", "cps", "psid"):
        if controls not in before:
            x, t, y = effect_data.programme(controls)
            found = network_nuisances(torch.tensor(x), torch.tensor(t), torch.tensor(y), seed=0)
            nu, treated = found.nuisances, ("level", 1)
            rows = {"rows": len(y), "seen": float(y[t == 1].mean() - y[t == 0].mean())}
            for whom, kind in (("treated", treated), ("average", "average")):
                overlap = overlap_of(nu.t, nu.propensity, level=1, versus=0, outcome=nu.outcome, whom=whom)
                plain = float(effects.plug_in(nu, kind).diff())
                rows[whom] = {"networks": interval(effects.posterior(nu, kind)), "plug-in": plain,
                              "overlap": overlap.verdict, "grade": overlap.grade}  # fmt: skip
            rows["seconds"] = found.facts["processor seconds"]
            rows["outcome"], rows["propensity"] = dict(found.outcome), dict(found.propensity)
            keep("real", controls, rows)


def contrast(draws):
    d = draws[:, 1] - draws[:, 0]
    return {"mean": float(d.mean()), "sd": float(d.std())}


def cost(python, draws=200, whole=100):
    """200 draws three ways, networks trained anew in 100, and DoubleML refitted: processor seconds in one run."""
    x, t, y = (torch.tensor(v) for v in effect_data.wide(5000))
    row = {"draws": draws}

    def timed(name, work):
        began = time.process_time()
        found = work()
        row[name] = {
            "seconds": time.process_time() - began,
            **(contrast(found) if isinstance(found, torch.Tensor) else {}),
        }
        return found

    peer = lambda: json.loads(subprocess.run(
        [python, Path(__file__).with_name("effects_peers.py"), "cost"], capture_output=True, text=True, check=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    ).stdout.splitlines()[-1])  # fmt: skip
    refits = [peer()]
    found = timed("cross-fit", lambda: network_nuisances(x, t, y, seed=1))
    timed("score", lambda: effects.bayesian_bootstrap(effects.scores(found.nuisances), draws, 0))
    timed("posterior", lambda: effects.posterior(found.nuisances, draws=draws))
    refits.append(peer())
    timed("heads", lambda: head_draws(found, draws))
    timed("networks anew", lambda: network_draws(found, x, whole))
    refits.append(peer())
    row["networks anew"]["draws"] = whole
    row["DoubleML, a refit"] = {
        "seconds": float(np.median([r["seconds"] for r in refits])),
        "interval": refits[0]["interval"],
    }
    keep("cost", "5000 rows, 20 inputs", row)


def covered(rows, name, truth):
    at = np.array([row[name] for row in rows])
    inside = (at[:, 1] <= truth) & (truth <= at[:, 2])
    return at[:, 0] - truth, inside, at[:, 2] - at[:, 1]


def line(name, sets, errors, inside, widths, known, seconds):
    low, high = wilson(int(inside.sum()), len(inside))
    share = f"{inside.mean():.3f} [{low:.2f}, {high:.2f}]"
    rmse, width = np.sqrt((errors**2).mean()), widths.mean()
    return [name, sets, f"{errors.mean():+.3f}", f"{rmse:.3f}", share, f"{width:.3f}", f"{width / known:.2f}", seconds]


def wilson(k, n, z=1.96):
    centre, half = (k + z * z / 2) / (n + z * z), z / (n + z * z) * np.sqrt(k * (n - k) / n + z * z / 4)
    return centre - half, centre + half


def markdown(head, rows):
    return [
        "| " + " | ".join(head) + " |",
        "|" + "---|" * len(head),
        *("| " + " | ".join(map(str, r)) + " |" for r in rows),
    ]


def table():
    rows, out = kept(), ["# Effects: coverage, width and cost", "", "Written by benchmarks/effects.py.", ""]
    head = ["estimator", "sets", "bias", "RMSE", "coverage of 95 %", "width", "width / oracle", "CPU s"]
    for cell, found in rows.get("coverage", {}).items():
        truth = effect_data.TRUTH[cell.split()[0]]
        known = covered(found, "oracle", truth)[2].mean()
        seconds = f"{np.mean([r['seconds'] for r in found]):.1f}"
        lines = [line(name, len(found), *covered(found, name, truth), known, seconds if name == "networks" else "")
                 for name in ("oracle", "networks", "without remainder", "targeted")]  # fmt: skip
        for name, theirs in rows.get("peers", {}).items():
            if name.startswith(cell + ": "):
                numbers = {r["number"] for r in theirs}
                same = [r for r in found if r["number"] in numbers]
                if same:
                    beside = covered(same, "oracle", truth)[2].mean()
                    cpu = f"{np.mean([r['seconds'] for r in theirs]):.1f}"
                    lines.append(
                        line(
                            name.split(": ")[1],
                            len(theirs),
                            *covered([{"at": r["interval"]} for r in theirs], "at", truth),
                            beside,
                            cpu,
                        )
                    )
        out += [f"## {cell} rows", "", *markdown(head, lines), ""]
    real = rows.get("real", {})
    if "ihdp" in real:
        error = np.array([abs(r["networks"][0] - r["truth"]) for r in real["ihdp"]])
        pehe = np.array([r["pehe"] for r in real["ihdp"]])
        out += ["## IHDP, realisations 1-10 (out of fold)", "", *markdown(
            ["", "mean", "median"],
            [["error of the average effect", f"{error.mean():.3f}", f"{np.median(error):.3f}"],
             ["root PEHE", f"{pehe.mean():.3f}", f"{np.median(pehe):.3f}"]],
        ), ""]  # fmt: skip
    for name in ("twins", "twins, told the propensity", "experiment", "cps", "psid"):
        for row in real.get(name, []):
            out += [f"## {name}", "", "```", json.dumps(row, indent=1), "```", ""]
    for row in rows.get("cost", {}).get("5000 rows, 20 inputs", []):
        out += ["## Cost, 5,000 rows of 20 inputs", "", "```", json.dumps(row, indent=1), "```", ""]
    RESULTS.with_suffix(".md").write_text("\n".join(out))


if __name__ == "__main__":
    torch.set_num_threads(1)
    match sys.argv[1:]:
        case ["cost", python]:
            cost(python)
        case words:
            for word in words:
                {"coverage": coverage, "real": real, "table": table}[word]()
