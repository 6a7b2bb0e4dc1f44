"""Maximum likelihood, maximum a posteriori, posterior: one network, three answers.  python benchmarks/estimates.py

Compressive strength of plain concrete after 28 days against its ratio of water to cement: the 60 different mixes of
`concrete` without slag, fly ash and superplasticizer. 15 random mixes to learn from, 45 to judge by, 20 such splits.
The network has one hidden layer of 10 tanh units; all have 5,000 steps of Adam on all 15 rows, and none is stopped
early. Maximum likelihood has a flat prior, maximum a posteriori N(0, 1) on every weight; the posterior is
`kk.Laplace("full")`, its prior precisions and its noise chosen by evidence. Medians over the splits and [quartiles].
Written to benchmarks/results/estimates.json and estimates.md, and the first split to docs/pictures/estimates.png.
"""

import json
import time
from operator import itemgetter
from pathlib import Path

import numpy as np
import pandas as pd
import torch

import kokkiri as kk

ROOT = Path(__file__).parent.parent
RESULTS, PICTURE = ROOT / "benchmarks" / "results", ROOT / "docs" / "pictures" / "estimates.png"
LEARN, SPLITS, WIDTH, WIDTHS = 15, 20, 10, (1, 2, 5, 10, 20, 50)
ESTIMATES = {
    "maximum likelihood": (kk.Flat(), kk.Point()),
    "maximum a posteriori": (kk.Normal(1.0), kk.Point()),
    "posterior": (kk.Normal(1.0), kk.Laplace("full")),
}


def mixes():
    whole = pd.read_csv(ROOT / "src" / "kokkiri" / "data" / "embedded" / "concrete.csv").drop_duplicates()
    plain = whole[(whole.slag == 0) & (whole.fly_ash == 0) & (whole.superplasticizer == 0) & (whole.age == 28)]
    return pd.DataFrame({"ratio": plain.water / plain.cement, "strength": plain.strength})


def split(frame, seed):
    order = np.random.default_rng(seed).permutation(len(frame))
    return (kk.read(frame.iloc[some], "strength") for some in (order[:LEARN], order[LEARN:]))


def fit(train, name, width=WIDTH):
    prior, posterior = ESTIMATES[name]
    network = kk.networks.MLP(train.inputs, [width], 1, activation="tanh")
    return kk.fit(
        train, network, kk.Gaussian(), kk.Adam(lr=1e-2), prior=prior, posterior=posterior, steps=5000, batch=LEARN,
        patience=None, progress=False,
    )  # fmt: skip


def judged(post, train, test):
    said, seen = kk.predict(post, test), kk.predict(post, train)
    low, high = said.interval(0.9)
    return {
        "train": seen.log_prob(train.y).mean().item(),
        "test": said.log_prob(test.y).mean().item(),
        "rmse": (said.mean - test.y).square().mean().sqrt().item(),
        "inside": ((test.y >= low) & (test.y <= high)).double().mean().item(),
        "width": (high - low).mean().item(),
        "evidence": post.evidence.nats if post.evidence is not None else None,
    }


def draw(posts, train, test):
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    ratio = np.linspace(0.26, 0.92, 300)
    fig, axes = plt.subplots(1, 3, figsize=(10.4, 3.5), sharex=True, sharey=True, layout="constrained")
    for ax, (name, post) in zip(axes, posts.items(), strict=True):
        said = kk.predict(post, pd.DataFrame({"ratio": ratio}))
        low, high = said.interval(0.9)
        ax.fill_between(ratio, low, high, color="#2f6f9f", alpha=0.18, linewidth=0)
        if post.precision:  # the noise alone, so that the rest of the band is seen to be ignorance
            noise = 1.645 * said.aleatoric.sqrt()
            ax.plot(ratio, said.mean - noise, "--", ratio, said.mean + noise, "--", color="#2f6f9f", linewidth=0.8)
        ax.plot(ratio, said.mean, color="#2f6f9f", linewidth=1.8)
        for data, color, face, label in ((test, "#999999", "none", "unseen"), (train, "#c2410c", "#c2410c", "learnt")):
            x = data.raw["number"][:, 0]
            ax.scatter(x, data.y, s=20, facecolors=face, edgecolors=color, linewidths=1, label=label, zorder=3)
        ax.set(title=name, xlabel="water / cement", xlim=(0.26, 0.92), ylim=(0, 90))
        ax.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("strength after 28 days, MPa")
    axes[0].legend(frameon=False, loc="upper right")
    PICTURE.parent.mkdir(exist_ok=True)
    fig.savefig(PICTURE, dpi=100, pil_kwargs={"optimize": True})


def quartiles(values, form):
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
    return f"{middle:{form}} [{low:{form}}, {high:{form}}]"


def main():
    torch.set_num_threads(1)
    frame, rows, began = mixes(), [], time.process_time()
    for s in range(SPLITS):
        train, test = split(frame, s)
        posts = {name: fit(train, name) for name in ESTIMATES}
        if s == 0:
            draw(posts, train, test)
        rows += [{"split": s, "estimate": name, "units": WIDTH, **judged(p, train, test)} for name, p in posts.items()]
        for width in WIDTHS:
            post = posts["posterior"] if width == WIDTH else fit(train, "posterior", width)
            rows.append({"split": s, "estimate": "by width", "units": width, **judged(post, train, test)})
        print(f"split {s}, {time.process_time() - began:.0f} CPU s", flush=True)
    return rows


def table(rows):
    lines = [
        "| estimate | learnt rows, nats each | unseen rows, nats each | RMSE, MPa | 90 % intervals hold | width, MPa |",
        "|---|---|---|---|---|---|",
    ]
    for name in ESTIMATES:
        own = [r for r in rows if r["estimate"] == name]
        cell = lambda key, form, own=own: quartiles([r[key] for r in own], form)
        share = np.mean([r["inside"] for r in own])
        lines.append(
            f"| {name} | {cell('train', '.2f')} | {cell('test', '.2f')} | {cell('rmse', '.1f')} | "
            f"{100 * share:.0f} % | {cell('width', '.1f')} |"
        )
    lines += ["", "The posterior, by the width of the hidden layer:", ""]
    lines += [
        "| hidden units | evidence, nats | unseen rows, nats each | splits in which evidence is highest |",
        "|---|---|---|---|",
    ]
    own = [r for r in rows if r["estimate"] == "by width"]
    best = [max((r for r in own if r["split"] == s), key=itemgetter("evidence"))["units"] for s in range(SPLITS)]
    for width in WIDTHS:
        some = [r for r in own if r["units"] == width]
        evidence, test = (
            quartiles([r[key] for r in some], form) for key, form in (("evidence", ".1f"), ("test", ".2f"))
        )
        lines.append(f"| {width} | {evidence} | {test} | {best.count(width)} |")
    return lines


if __name__ == "__main__":
    found = main()
    text = "\n".join(table(found))
    print(text)
    RESULTS.mkdir(exist_ok=True)
    kept = {"command": "python benchmarks/estimates.py", "versions": kk.store.versions(), "rows": found}
    (RESULTS / "estimates.json").write_text(json.dumps(kept, indent=1) + "\n")
    (RESULTS / "estimates.md").write_text(f"{__doc__}\n{text}\n")
