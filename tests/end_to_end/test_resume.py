"""A run that is killed goes on to the same bits."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kokkiri.errors import ModelError, OutputError
from kokkiri.herd import herd
from kokkiri.likelihoods import Gaussian
from kokkiri.networks import MLP
from kokkiri.optimizers import Adam
from kokkiri.priors import Normal
from kokkiri.training import Plan, train
from kokkiri.training.checkpoints import last_checkpoint, write_atomically

SCRIPT = Path(__file__).with_name("cut.py")


def start(folder):
    return subprocess.Popen([sys.executable, str(SCRIPT), str(folder), "0"], stdout=subprocess.PIPE, text=True)


def finish(folder):
    process = start(folder)
    out, _ = process.communicate(timeout=300)
    assert process.returncode == 0
    digest, resumed, step = out.split()
    return digest, int(resumed), int(step)


def newest(folder):
    return max((p.name for p in folder.glob("step-*")), default="")


def killed_run(folder, kills, rng):
    """Kills the run `kills` times, each at a random instant after a new checkpoint, often while one is written."""
    for _ in range(kills):
        process, before, began = start(folder), newest(folder), time.monotonic()
        while process.poll() is None and newest(folder) <= before and time.monotonic() - began < 120:
            time.sleep(0.002)
        time.sleep(rng.random() * 0.8)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    return finish(folder)


@pytest.mark.slow
def test_twenty_kills_at_random_instants_end_in_the_same_bits(tmp_path):
    whole = finish(tmp_path / "whole")[0]
    rng, resumed = random.Random(0), []
    for run in range(20):
        digest, step, _ = killed_run(tmp_path / f"cut-{run}", 1, rng)
        assert digest == whole
        resumed.append(step)
    assert sum(s > 0 for s in resumed) >= 15  # else the kills came too early to prove anything
    assert len(set(resumed)) > 5


def test_a_run_killed_twice_ends_in_the_same_bits(tmp_path):
    whole = finish(tmp_path / "whole")[0]
    digest, resumed, _ = killed_run(tmp_path / "cut", 2, random.Random(1))
    assert digest == whole
    assert resumed > 0


def small_run(tmp_path, seed=0, steps=30):
    from tests_support import some_numbers

    network = herd(lambda: MLP(3, [4], 1), seed=range(1))
    plan = Plan(steps=steps, batch=16, seed=seed)
    return train(
        network, some_numbers(), Gaussian(), Adam(), Normal(), plan, checkpoints=tmp_path, checkpoint_seconds=0
    )


def test_two_checkpoints_are_kept_and_a_damaged_one_is_passed_over(tmp_path):
    *_, _last = small_run(tmp_path)
    files = sorted(tmp_path.glob("step-*"))
    assert len(files) == 2
    files[-1].write_bytes(files[-1].read_bytes()[:100])
    resumed = next(small_run(tmp_path)).resumed
    assert 0 < resumed < 30


def test_checkpoints_of_another_run_are_refused(tmp_path):
    *_, _last = small_run(tmp_path)
    with pytest.raises(ModelError, match="another run"):
        next(small_run(tmp_path, seed=1))


def test_a_folder_that_cannot_be_written_is_named_and_nothing_is_left(tmp_path, monkeypatch):
    path = tmp_path / "model.json"

    def full(_fd):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OutputError, match="No space left"):
        write_atomically(path, b"content")
    assert list(tmp_path.iterdir()) == []


def test_an_empty_folder_has_no_checkpoint(tmp_path):
    assert last_checkpoint(tmp_path, "x") is None
