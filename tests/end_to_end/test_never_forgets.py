"""An elephant never forgets: pixel orders learnt one after the other by `update` alone."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import kokkiri as kk
from kokkiri.numerics.random import generator

FOLDER = os.environ.get("KOKKIRI_DATA", "")
TASKS, ROWS, EPOCHS = 3, 6000, 10


def shown(data, task):
    """The same images with their pixels in the order of a task."""
    order = torch.arange(784) if task == 0 else torch.randperm(784, generator=generator(task, "pixels"))
    image = data.raw["image"].flatten(1)[:, order].reshape(-1, 1, 28, 28)
    return replace(data, raw={"image": image}, source=replace(data.source, name=f"task {task}"), _cache={})


@pytest.mark.slow
@pytest.mark.skipif(not Path(FOLDER, "mnist").is_dir(), reason="KOKKIRI_DATA has no mnist")
def test_what_was_learnt_first_is_still_known_after_two_more_tasks():
    train, test = kk.split(kk.read("mnist"), published=0)
    train, test = train.rows(torch.arange(ROWS)), test.rows(torch.arange(2000))
    adam, recipe = kk.Adam(lr=1e-3), kk.Laplace("kronecker", columns=1, tune="never", expected=4)
    more = {"epochs": EPOCHS, "batch": 64, "progress": False}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = kk.networks.MLP(train.inputs, [100], 10)
    first = kk.fit(train, net, kk.Categorical(), adam, prior=kk.Normal(1.0), posterior=recipe, patience=None, **more)
    post = first
    for task in range(1, TASKS):
        post = kk.update(post, shown(train, task), level="full", optimizer=adam, columns=1, **more)
    right = lambda p, task: float((kk.predict(p, shown(test, task)).label == test.y).double().mean())
    before = right(first, 0)
    after = [right(post, task) for task in range(TASKS)]
    assert before > 0.88
    assert after[0] > before - 0.03
    assert min(after) > 0.85

    # with nothing remembered the same network forgets: each task overwrites the one before
    forgetful = net
    for task in range(TASKS):
        rows = shown(train, task)
        last = kk.fit(
            rows, forgetful, kk.Categorical(), adam, prior=kk.Normal(1.0), posterior=kk.Point(), patience=None, **more
        )
        forgetful = last.herd.network
        with torch.no_grad():
            for name, p in forgetful.named_parameters():
                p.copy_(last.herd.params[name][0])
    assert right(last, 0) < after[0] - 0.1
