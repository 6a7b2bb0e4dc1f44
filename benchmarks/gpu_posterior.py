"""Curvature on a graphics card: the same numbers as on the processor, and its cost.  python benchmarks/gpu_posterior.py

Equal answers first: every structure's diagonal of an MLP, a ConvNet and a Transformer layer on the card against the
processor. Then seconds by the clock, synchronised, median of five, of one curvature of all 60,000 MNIST rows beside one
training epoch on the same card (batch 256, kokkiri's own loop). Written to benchmarks/results/gpu_posterior.json, .md.
"""

import json
import statistics
import time
from pathlib import Path

import torch
from torch import nn

import kokkiri as kk
from kokkiri.curvature import Diagonal, Full, Kronecker, TopEigen, ggn
from kokkiri.training.plan import Plan

RESULTS = Path(__file__).parent / "results"
STRUCTURES = {
    "diagonal, exact": (Diagonal(), None), "diagonal, 1 random column": (Diagonal(), 1),
    "kronecker, 1 random column": (Kronecker(), 1), "kronecker, exact": (Kronecker(), None),
    "ekfac, 1 random column": (Kronecker(corrected=True), 1),
}  # fmt: skip


class Words(nn.Module):
    """Rows of a picture as words of a Transformer layer."""

    def __init__(self):
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(28, 4, 64, batch_first=True)
        self.output = nn.Linear(28, 10)

    def forward(self, x):
        return self.output(self.layer(x.reshape(len(x), 28, 28)).mean(1))


def networks(data):
    torch.manual_seed(0)
    return {
        "MLP 784-256-256-10": kk.networks.MLP(data.inputs, [256, 256], 10),
        "ConvNet 16-32": kk.networks.ConvNet(data.inputs, 10, channels=(16, 32)),
        "Transformer layer": Words(),
    }


def timed(what, rounds=5):
    seconds = []
    for _ in range(rounds + 1):
        torch.cuda.synchronize()
        began = time.perf_counter()
        what()
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds[1:])


def main():
    data = kk.read("mnist")
    train = data.rows(torch.arange(60_000))
    few = train.rows(torch.arange(96))
    rows, equal = [], []
    for name, network in networks(data).items():
        herd = kk.herd(network)
        for structure in (Diagonal(), Kronecker(), Kronecker(corrected=True), TopEigen(8)):
            here, there = (
                ggn(herd, few, kk.Categorical(), structure, device=d).matrix.diagonal() for d in ("cpu", "cuda")
            )
            equal.append({
                "network": name, "structure": repr(structure),
                "difference": float((here - there).norm() / here.norm()),
            })  # fmt: skip
        if name == "Transformer layer":
            continue
        last = ggn(herd, few, kk.Categorical(), Full(), layers=("last",), device="cuda").matrix
        own = ggn(herd, few, kk.Categorical(), Full(), layers=("last",)).matrix
        off = float((last.diagonal() - own.diagonal()).norm() / own.diagonal().norm())
        equal.append({"network": name, "structure": "Full(), last layer", "difference": off})
        plan = Plan(steps=235, batch=256, device="cuda", threads=1)
        epoch = timed(lambda h=herd, p=plan: list(kk.train(h, train, kk.Categorical(), kk.Adam(), kk.Normal(), p)), 3)
        for label, (structure, columns) in STRUCTURES.items():
            seconds = timed(
                lambda h=herd, s=structure, c=columns: ggn(h, train, kk.Categorical(), s, columns=c, device="cuda")
            )
            rows.append({"network": name, "curvature": label, "seconds": seconds, "epochs": seconds / epoch})
            print(rows[-1], flush=True)
    return {
        "device": torch.cuda.get_device_name(0), "torch": torch.__version__, "equal": equal, "rows": rows,
        "command": "python benchmarks/gpu_posterior.py",
    }  # fmt: skip


def table(found):
    worst = max(e["difference"] for e in found["equal"])
    same = f"{len(found['equal'])} curvatures on the card and on the processor: diagonals differ by at most {worst:.1e}"
    lines = [
        f"{found['device']}, torch {found['torch']}. {same}, relative.",
        "",
        "| network | curvature of 60,000 rows | seconds | training epochs |",
        "|---|---|---|---|",
    ]
    lines += [f"| {r['network']} | {r['curvature']} | {r['seconds']:.3f} | {r['epochs']:.2f} |" for r in found["rows"]]
    return "\n".join(lines)


if __name__ == "__main__":
    found = main()
    print(table(found))
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "gpu_posterior.json").write_text(json.dumps(found, indent=1) + "\n")
    (RESULTS / "gpu_posterior.md").write_text(f"{__doc__}\n{table(found)}\n")
