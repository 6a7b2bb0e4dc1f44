"""A run with dropout and augmentation that prints the SHA-256 of its weights; `test_resume` kills it again and again.

python cut.py FOLDER CHECKPOINT_SECONDS
"""

import hashlib
import sys
from pathlib import Path

import torch

from kokkiri.data.augment import Augment
from kokkiri.data.named import load
from kokkiri.herd import herd
from kokkiri.likelihoods import Categorical
from kokkiri.networks import ConvNet
from kokkiri.optimizers import Adam, Cosine
from kokkiri.priors import Normal
from kokkiri.training import Plan, train


def main(folder, seconds, steps=180):
    torch.set_num_threads(1)
    data = load("digits")
    rows, held_out = data.rows(torch.arange(1400)), data.rows(torch.arange(1400, 1797))
    network = herd(lambda: ConvNet(data.inputs, 10, channels=(4, 8), dense=16, dropout=0.3), seed=range(2))
    plan = Plan(steps=steps, batch=64, schedule=Cosine(), augment=Augment(shift=1), every=7, patience=20, clip=1.0)
    moments = train(
        network, rows, Categorical(), Adam(lr=3e-3), Normal(), plan, held_out=held_out,
        checkpoints=Path(folder) if folder else None, checkpoint_seconds=seconds,
    )  # fmt: skip
    *_, last = moments
    digest = hashlib.sha256()
    for name in sorted(last.herd.params):
        digest.update(last.herd.params[name].numpy().tobytes())
    digest.update(repr((last.curve().steps, last.curve().best)).encode())
    print(digest.hexdigest(), last.resumed, last.step)


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
