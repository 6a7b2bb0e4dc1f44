"""The same runs on a graphics card.  python benchmarks/gpu.py [FOLDER FOR THE RESULT]

First that the card gives the processor's answer (float64), then seconds by the clock: a ConvNet on MNIST, and herds of
the MLP 20-64-64-1 at batch 128, replica-steps a second by the number of replicas. Needs CUDA and, for MNIST, its files.
"""

import json
import sys
import time
from pathlib import Path

import torch
from overhead import made

import kokkiri as kk
from kokkiri.data.core import Data, Inputs, Source


class Raw(torch.nn.Module):
    def forward(self, raw):
        return raw["x"]


def last(*arguments, **options):
    *_, moment = kk.train(*arguments, **options)
    return moment


def agreement():
    """Largest |difference| of the weights after 30 steps, over the largest |weight|, by engine."""
    g = torch.Generator().manual_seed(0)
    x = torch.randn(200, 20, generator=g, dtype=torch.float64)
    data = Data({"x": x}, x[:, 0].sin(), Raw(), Inputs((20,)), kk.Target("y", "number"), Source("made"))
    herd = kk.sweep(kk.herd(lambda: kk.networks.MLP(20, [16], 1, norm=True).double(), seed=range(3)), lr=[1e-3, 1e-2])
    run = lambda device, engine: last(
        herd, data, kk.Gaussian(), kk.Adam(), kk.Normal(), kk.Plan(30, 64, clip=1.0, device=device), engine=engine
    )
    found = {}
    for engine in (kk.Loop(), kk.Stack(), kk.Dense()):
        a, b = (run(device, engine).herd.params for device in ("cpu", "cuda"))
        found[engine.name] = max(float((a[n] - b[n]).abs().max() / a[n].abs().max()) for n in a)
    return found


def herds():
    data, rows = made(10_000, 0), []
    for replicas in (1, 16, 128, 1024):
        herd = kk.herd(lambda: kk.networks.MLP(20, [64, 64], 1), seed=range(replicas))
        for device in ("cpu", "cuda"):
            steps = 400 if device == "cuda" else max(20, 800 // replicas)
            plan = kk.Plan(steps, 128, device=device, threads=1)
            last(herd, data, kk.Gaussian(), kk.Adam(), kk.Normal(), kk.Plan(20, 128, device=device, threads=1))  # warm
            began = time.perf_counter()
            last(herd, data, kk.Gaussian(), kk.Adam(), kk.Normal(), plan)
            seconds = time.perf_counter() - began
            rows.append({"replicas": replicas, "device": device, "replica_steps_a_second": replicas * steps / seconds})
            print(rows[-1], flush=True)
    return rows


def mnist():
    train, test = kk.read("mnist").split()
    network = kk.networks.ConvNet(train.inputs, 10, channels=(16, 32), dropout=0.25)
    began = time.perf_counter()
    post = kk.fit(train, network, kk.Categorical(), kk.Adam(), epochs=6, batch=256, device="cuda", progress=False)
    seconds = time.perf_counter() - began
    right = (kk.predict(post, test).label == test.y).double().mean().item()
    return {"seconds": seconds, "accuracy": right, "epochs": 6}


if __name__ == "__main__":
    name = torch.cuda.get_device_name()
    found = {"device": name, "command": "python benchmarks/gpu.py", "torch": torch.__version__}
    found["relative difference from the CPU"] = agreement()
    print(found, flush=True)
    found["mnist"] = mnist()
    print(found["mnist"], flush=True)
    found["herds"] = herds()
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "results"
    (folder / "gpu.json").write_text(json.dumps(found, indent=1) + "\n")
