"""What does training cost beside its arithmetic?  python benchmarks/overhead.py

MLP 20-64-64-1, 10,000 rows, batch 128, Adam, 30 epochs; CPU seconds of one thread, round-robin, median of the rounds
and [least, greatest], as ratios within a round. The peers: the loop that users write (a DataLoader, torch.optim.Adam),
the same with tensors in memory and the fused Adam. "everything on" is progress, held-out log-likelihood each epoch,
and checkpoints.
Written to benchmarks/results/overhead.json and overhead.md.
"""

import argparse
import io
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from torch.utils.data import DataLoader, TensorDataset

import kokkiri as kk
from kokkiri.data.core import Data, Inputs, Source
from kokkiri.progress import Progress

RESULTS = Path(__file__).parent / "results"
EPOCHS, ROWS, BATCH = 30, 10_000, 128
STEPS = EPOCHS * -(-ROWS // BATCH)


class Raw(torch.nn.Module):
    def forward(self, raw):
        return raw["x"]


def made(rows, seed):
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, 20, generator=g)
    y = torch.sin(x[:, 0]) + x[:, 1] * x[:, 2] + 0.1 * torch.randn(rows, generator=g)
    return Data({"x": x}, y, Raw(), Inputs((20,)), kk.Target("y", "number"), Source("made"))


def plain():
    return torch.nn.Sequential(
        torch.nn.Linear(20, 64), torch.nn.ReLU(), torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 1)
    )


def dataloader(data, _held):
    model, loss = plain(), torch.nn.MSELoss()
    optimizer = torch.optim.Adam(model.parameters())
    loader = DataLoader(TensorDataset(data.x, data.y[:, None]), BATCH, shuffle=True)
    for _ in range(EPOCHS):
        for x, y in loader:
            optimizer.zero_grad()
            loss(model(x), y).backward()
            optimizer.step()


def in_memory(data, _held):
    model, loss = plain(), torch.nn.MSELoss()
    optimizer = torch.optim.Adam(model.parameters(), fused=True)
    x, y = data.x, data.y[:, None]
    for _ in range(EPOCHS):
        for rows in torch.randperm(ROWS).split(BATCH):
            optimizer.zero_grad()
            loss(model(x[rows]), y[rows]).backward()
            optimizer.step()


def bare(data, _held, engine=None):
    herd = kk.herd(plain())
    for _ in kk.train(
        herd, data, kk.Gaussian(learn=False), kk.Adam(), kk.Normal(), kk.Plan(STEPS, BATCH), engine=engine
    ):
        pass


def everything(data, held):
    herd, plan = kk.herd(plain()), kk.Plan(STEPS, BATCH, patience=100)
    with tempfile.TemporaryDirectory() as folder, Progress(STEPS, "fit", file=Terminal()) as bar:
        moments = kk.train(
            herd, data, kk.Gaussian(learn=False), kk.Adam(), kk.Normal(), plan, held_out=held, checkpoints=Path(folder)
        )
        for m in moments:
            bar.update(m.step, train=m.train[0], held_out=None if m.held_out is None else m.held_out[0])


class Terminal(io.StringIO):
    def isatty(self):
        return True


VARIANTS = {
    "DataLoader loop": dataloader,
    "in memory, fused Adam": in_memory,
    "kokkiri, engine loop": lambda d, h: bare(d, h, kk.Loop()),
    "kokkiri": bare,
    "kokkiri, everything on": everything,
}


def imports(rounds):
    """CPU seconds of `import torch` and of `import kokkiri` after it."""
    code = "import time; c=time.process_time; a=c(); import torch; b=c(); import kokkiri; print(b-a, c()-b)"
    call = lambda: subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    runs = [[float(v) for v in call().split()] for _ in range(rounds)]
    return {"torch": [a for a, _ in runs], "kokkiri beyond torch": [b for _, b in runs]}


def main(rounds):
    torch.set_num_threads(1)
    data, held = made(ROWS, 0), made(1000, 1)
    seconds = {name: [] for name in VARIANTS}
    for run in VARIANTS.values():
        run(data, held)  # warm
    for k in range(rounds):
        for name, run in VARIANTS.items():
            began = time.process_time()
            run(data, held)
            seconds[name].append(time.process_time() - began)
        print(k, {n: round(s[-1] / STEPS * 1e6) for n, s in seconds.items()}, flush=True)
    return seconds, imports(rounds)


def ratio(seconds, over, under):
    r = [a / b for a, b in zip(seconds[over], seconds[under], strict=True)]
    return f"{statistics.median(r):.2f} [{min(r):.2f} .. {max(r):.2f}]"


def table(seconds, start):
    lines = ["| variant | CPU µs a step | DataLoader loop / this |", "|---|---|---|"]
    for name, s in seconds.items():
        per = sorted(v / STEPS * 1e6 for v in s)
        cost = f"{statistics.median(per):.0f} [{per[0]:.0f} .. {per[-1]:.0f}]"
        lines.append(f"| {name} | {cost} | {ratio(seconds, 'DataLoader loop', name)} |")
    lines += ["", f"everything on / bare: {ratio(seconds, 'kokkiri, everything on', 'kokkiri')}"]
    for name, s in start.items():
        lines.append(f"import {name}: {statistics.median(s):.2f} s [{min(s):.2f} .. {max(s):.2f}]")
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    seconds, start = main(options.rounds)
    print(table(seconds, start))
    RESULTS.mkdir(exist_ok=True)
    kept = {
        "command": "python benchmarks/overhead.py",
        "steps": STEPS,
        "seconds": seconds,
        "imports": start,
        "versions": kk.store.versions(),
    }
    (RESULTS / "overhead.json").write_text(json.dumps(kept, indent=1))
    (RESULTS / "overhead.md").write_text(f"{__doc__}\n{table(seconds, start)}\n")
