"""How near does each approximation come to the exact posterior of a small network, and at what cost?

    python benchmarks/yardstick.py --reference    long chains, by our sampler and by NumPyro's NUTS (some minutes)
    python benchmarks/yardstick.py                the table, against them

Two networks (`yardstick/problems.py`): `wave`, 1 input, 50 rows with a gap, 10 tanh units, 32 parameters; `concrete`,
8 inputs, 120 rows, 8 tanh units, 82 parameters; prior N(0, 1), noise learnt. Compared is the function f(x) alone, at 61
points from -3 to 3 and at 100 rows that were not trained on: the error of its mean in standard deviations of the
posterior (root mean square over inputs), and the ratio of standard deviations (median, and root mean square). The bar:
an error of at most 0.3 and both ratios within 0.8 and 1.25, for a tenth of what NUTS costs.

The yardstick of cost is NumPyro's NUTS as it comes: 4 chains of 1000 + 1000, float64, one thread. Cost is gradients of
the log joint at one parameter vector, and CPU seconds of the process; those of NUTS contain its compilation, a few
seconds. Shorter runs of NUTS stand beside it: who needs no more than the bar need not wait for 1000 draws. Rows that
begin with "kk." are `kk.fit` with that posterior and nothing else said. Several seeds: the median error (the worst),
medians of ratios and costs. Written to benchmarks/results/yardstick.json and yardstick.md.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

import numpy as np
import torch
from yardstick import methods, problems
from yardstick.nuts import nuts

import kokkiri as kk
from kokkiri.numerics import diagnostics, hamiltonian
from kokkiri.posteriors.linearised import output_moments

RESULTS = Path(__file__).parent / "results"
LONG = {"chains": 32, "warm_up": 500, "draws": 1500}
CLIMB = 50  # steps of ascent before Hamiltonian Monte Carlo
SHORT_NUTS = ((50, 25), (100, 50), (250, 250))
SHORT_CHAINS = ((32, 4, 4), (32, 8, 8), (64, 8, 8), (64, 16, 16))  # chains, warm-up, draws
RECIPES = {
    "kk.Laplace('full')": kk.Laplace("full"),
    "kk.Laplace('full', size=16, weights='evidence')": kk.Laplace("full", size=16, weights="evidence"),
    "kk.Hamiltonian()": kk.Hamiltonian(),
    "kk.Langevin()": kk.Langevin(),
}


def describe(f, gradients, seconds):
    """f (chains, draws, G) -> effective numbers at the inputs, and what they cost."""
    effective = diagnostics.effective_sample_size(f)
    return {
        "r_hat": float(diagnostics.r_hat(f).max()),
        "effective": float(effective.median()),
        "effective_least": float(effective.min()),
        "gradients": gradients,
        "seconds": seconds,
        "per_1000_gradients": 1000 * float(effective.median()) / gradients,
        "per_second": float(effective.median()) / seconds,
    }


def make_reference(name):
    """Long chains of both samplers, their agreement, and the pooled moments of f."""
    p = problems.problem(name)
    clock = time.process_time()
    start = methods.ascend(p, p.starts(LONG["chains"], 0), CLIMB)
    chains = hamiltonian.sample(p.log_density(), start, draws=LONG["draws"], warm_up=LONG["warm_up"], seed=0)
    seconds = time.process_time() - clock
    ours = p.f(chains.draws.flatten(0, 1)).reshape(*chains.draws.shape[:2], -1)
    facts = {"hamiltonian": describe(ours, chains.gradients + CLIMB * LONG["chains"], seconds)}
    facts["hamiltonian"] |= {
        key: getattr(chains, key) for key in ("acceptance", "step", "length", "divergences")
    }  # fmt: skip
    theirs, thetas = [], [chains.draws.flatten(0, 1)]
    for seed in (0, 1):
        run = nuts(p, seed=seed)
        f = p.f(run.draws.flatten(0, 1)).reshape(*run.draws.shape[:2], -1)
        facts[f"nuts {seed}"] = describe(f, run.gradients, run.seconds)
        theirs.append(f.flatten(0, 1))
        thetas.append(run.draws.flatten(0, 1))
    near = lambda a, b: vars(problems.distance(a, problems.Reference(*problems.moments(b))))
    flat, half = ours.flatten(0, 1), LONG["chains"] // 2
    facts["agreement"] = {
        "two runs of NUTS": near(*theirs),
        "two halves of our chains": near(ours[:half].flatten(0, 1), ours[half:].flatten(0, 1)),
        "ours and NUTS": near(flat, torch.cat(theirs)),
    }
    both = torch.cat([flat[:: len(flat) // 8000][:8000], *theirs])  # as many of ours as of theirs
    mean, sd = problems.moments(both)
    some = torch.cat([t[:: len(t) // 200][:200] for t in thetas]).float()
    problems.REFERENCES.mkdir(exist_ok=True)
    kept = {"mean": mean.numpy(), "sd": sd.numpy(), "draws": some.numpy(), "facts": np.array(json.dumps(facts))}
    np.savez_compressed(problems.REFERENCES / f"{name}.npz", **kept)
    print(json.dumps({name: facts}, indent=1), flush=True)


def rows(p, truth, seed):
    """name -> (distance, gradients, CPU seconds, k-hat) of every method but NUTS."""
    out = {}

    def add(name, found, gradients, clock, k_hat=None, before=0.0):
        out[name] = (found, gradients, time.process_time() - clock + before, k_hat)
        print(seed, name, found, gradients, round(out[name][2], 2), k_hat, flush=True)

    for label, climb in (("", methods.laplace), (", noise by evidence", methods.noise_by_evidence)):
        for count in (1, 5):
            clock = time.process_time()
            modes = climb(p, count, seed)
            found = problems.moments_distance(*methods.linearised(p, modes, torch.zeros(count).double()), truth)
            add(f"Laplace, {count} mode{'s' * (count > 1)}{label}", found, modes.gradients, clock)
        clock = time.process_time()
        modes = climb(p, 64, seed)
        only = methods.distinct(p, modes)
        fitted = time.process_time() - clock
        mixtures = {"equal weights": (modes, torch.zeros(64).double()), "by evidence": (only, only.log_evidence)}
        for name, (some, weight) in mixtures.items():
            clock = time.process_time()
            found = problems.moments_distance(*methods.linearised(p, some, weight), truth)
            add(f"Laplace, 64 modes, {name}{label}", found, modes.gradients, clock, before=fitted)
        clock, used = time.process_time(), modes.gradients + 2000
        f, weight, k_hat, _ = methods.reweighted(p, only, 2000, seed)
        name = f"Laplace, 64 modes, 2000 draws re-weighted{label}"
        add(name, problems.distance(f, truth, weight), used, clock, k_hat, before=fitted)
        clock = time.process_time()
        f, chains = methods.short_chains(p, modes.theta, 8, 8, seed)
        used = modes.gradients + chains.gradients
        add(f"64 modes{label}, 8 + 8 trajectories", problems.distance(f, truth), used, clock, before=fitted)
    clock = time.process_time()
    theta, used = methods.tempered(p, 256, 3, seed)
    add("sequential Monte Carlo, 256 particles", problems.distance(p.f(theta), truth), used, clock)
    for r, warm_up, draws in SHORT_CHAINS:
        clock = time.process_time()
        start = methods.ascend(p, p.starts(r, seed), CLIMB)
        f, chains = methods.short_chains(p, start, warm_up, draws, seed)
        name = f"{r} networks after {CLIMB} steps, {warm_up} + {draws} trajectories"
        add(name, problems.distance(f, truth), chains.gradients + CLIMB * r, clock)
    for name, recipe in RECIPES.items():
        clock = time.process_time()
        found = of_posterior(fitted_by(p, recipe, seed), p, truth)
        add(name, found, None, clock)
    return out


def fitted_by(p, recipe, seed):
    """`kk.fit` with a recipe."""
    network = kk.networks.MLP(p.x.shape[1], p.network.settings["widths"], 1, activation="tanh")
    return kk.fit(
        p.data, network, p.likelihood, prior=p.prior, posterior=recipe, progress=False, seed=seed, threads=1
    )  # fmt: skip


def of_posterior(post, p, truth):
    """The distance of a fitted posterior: in closed form where it is Gaussians around modes."""
    x = p.grid.float()
    if not post.linear:
        return problems.distance(post.herd(x)[..., 0].double(), truth)
    centre, covariance = output_moments(post.herd, post.precision, x)
    centre, variance = centre[..., 0].double(), covariance.double().reshape(len(centre), len(x))
    weight = post.log_weight.exp()
    mean = weight @ centre
    return problems.moments_distance(mean, (weight @ (variance + (centre - mean).square())).sqrt(), truth)


def nuts_rows(p, truth, seed):
    """The same of NUTS cut short."""
    out = {}
    for warm_up, draws in SHORT_NUTS:
        run = nuts(p, warm_up=warm_up, draws=draws, seed=seed + 10)
        found = problems.distance(p.f(run.draws.flatten(0, 1)), truth)
        out[f"NUTS, 4 x ({warm_up} + {draws})"] = (found, run.gradients, run.seconds, None)
        print(seed, warm_up, draws, found, run.gradients, run.seconds, flush=True)
    return out


def gather(found):
    """What several seeds say of one method."""
    distances, gradients, seconds, k_hats = zip(*found, strict=True)
    errors, both = [d.error for d in distances], [r for d in distances for r in (d.ratio, d.ratio_rms)]
    middle = lambda values: None if values[0] is None else statistics.median(values)
    return {
        "error": middle(errors),
        "error_worst": max(errors),
        "ratio": middle([d.ratio for d in distances]),
        "ratio_rms": middle([d.ratio_rms for d in distances]),
        "ratios": [min(both), max(both)],
        "reached": sum(d.reached for d in distances),
        "seeds": len(distances),
        "gradients": middle(gradients),
        "seconds": middle(seconds),
        "k_hat": middle(k_hats),
    }


def main(seeds, names):
    path = RESULTS / "yardstick.json"
    results = json.loads(path.read_text()) if path.exists() else {}
    for name in names:
        p, truth = problems.problem(name), problems.reference(name)
        with np.load(problems.REFERENCES / f"{name}.npz") as kept:
            facts = json.loads(str(kept["facts"]))
        table = {}
        for seed in range(seeds):
            found = rows(p, truth, seed) | (nuts_rows(p, truth, seed) if seed < 2 else {})
            for key, value in found.items():
                table.setdefault(key, []).append(value)
        results[name] = {"reference": facts, "methods": {key: gather(value) for key, value in table.items()}}
    return results


def cells(*values):
    return "| " + " | ".join(values) + " |"


def of_method(key, m, cost, seconds):
    """A line of the table."""
    k_hat = "" if m["k_hat"] is None else f"{m['k_hat']:.1f}"
    used = ("", "") if m["gradients"] is None else (f"{m['gradients']:,.0f}", f"1/{cost / m['gradients']:.0f}")
    return cells(
        key, f"{m['error']:.2f} ({m['error_worst']:.2f})", f"{m['ratio']:.2f} / {m['ratio_rms']:.2f}",
        f"{m['reached']} of {m['seeds']}", *used, f"{m['seconds']:.1f}", f"1/{seconds / m['seconds']:.0f}", k_hat,
    )  # fmt: skip


def of_chains(label, w):
    """A line of the table of long chains."""
    return cells(
        label, f"{w['r_hat']:.3f}", f"{w['effective']:,.0f} ({w['effective_least']:,.0f})",
        f"{w['per_1000_gradients']:.2f}", f"{w['per_second']:.0f}", f"{w['gradients']:,}", f"{w['seconds']:.0f}",
    )  # fmt: skip


def page(results):
    lines = [__doc__]
    head = ("method", "error (worst)", "ratio of sd, median / rms", "bar reached", "gradients", "of NUTS'", "CPU s")
    chains = ("long chains", "R-hat, worst", "effective draws, median (least)", "per 1000 gradients", "per CPU s")
    for name, found in results.items():
        facts = found["reference"]
        whole = [facts["nuts 0"], facts["nuts 1"]]
        cost, seconds = (sum(w[k] for w in whole) / 2 for k in ("gradients", "seconds"))
        two = facts["agreement"]["two runs of NUTS"]
        lines += [f"## {name}\n", cells(*head, "of NUTS'", "k-hat"), cells(*["---"] * 9)]
        lines += [of_method(key, m, cost, seconds) for key, m in found["methods"].items()]
        ratio = f"{two['ratio']:.2f} / {two['ratio_rms']:.2f}"
        label = "NUTS, 4 x (1000 + 1000), against another such run"
        lines += [cells(label, f"{two['error']:.2f}", ratio, "", f"{cost:,.0f}", "1", f"{seconds:.1f}", "1", ""), ""]
        lines += [cells(*chains, "gradients", "CPU s"), cells(*["---"] * 7)]
        long = " + ".join(str(LONG[k]) for k in ("warm_up", "draws"))
        lines += [of_chains(f"ours, {LONG['chains']} x ({long})", facts["hamiltonian"])]
        lines += [of_chains(f"NUTS, 4 x (1000 + 1000), seed {s}", w) for s, w in enumerate(whole)]
        told = [f"{k}: error {v['error']:.3f}, ratio {v['ratio']:.3f}" for k, v in facts["agreement"].items()]
        lines += ["", "Agreement. " + "; ".join(told) + ".", ""]
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--reference", action="store_true")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--only", choices=problems.NAMES)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    some = [arguments.only] if arguments.only else list(problems.NAMES)
    if arguments.reference:
        for one in some:
            make_reference(one)
    else:
        found = main(arguments.seeds, some)
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / "yardstick.json").write_text(json.dumps(found, indent=1) + "\n")
        (RESULTS / "yardstick.md").write_text(page(found))
