"""Importing kokkiri costs little, changes nothing, and shows exactly the public names."""

from __future__ import annotations

import subprocess
import sys
from types import ModuleType

import kokkiri

HEAVY = ("duckdb", "narwhals", "PIL", "matplotlib", "jinja2", "rich", "tyro", "pandas", "polars", "scipy", "sklearn")


def said(script):
    """What a script prints in a fresh process, its warnings turned into errors."""
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", script],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_all_lists_every_public_name_once():
    public = {name for name in vars(kokkiri) if not name.startswith("_")} - {"annotations"}
    inner = {name for name in public if isinstance(vars(kokkiri)[name], ModuleType)} - set(kokkiri.__all__)
    assert sorted(kokkiri.__all__) == sorted(public - inner)
    assert inner >= {"numerics", "training", "verbs"}


def test_importing_kokkiri_imports_nothing_heavy():
    loaded = said("import sys, kokkiri; print(*sys.modules)")
    assert "kokkiri.verbs" in loaded
    assert [name for name in HEAVY if name in loaded] == []


def test_importing_the_command_imports_nothing_heavy():
    loaded = said("import sys, kokkiri.cli.main; print(*sys.modules)")
    assert [name for name in HEAVY if name in loaded] == []


STATE = """
import logging, os, signal, sys, warnings
import numpy, torch

def state():
    return [
        torch.get_rng_state().tolist(), repr(numpy.random.get_state()), torch.get_default_dtype(),
        torch.get_num_threads(), torch.is_grad_enabled(), torch.get_float32_matmul_precision(),
        torch.are_deterministic_algorithms_enabled(), torch.backends.mkldnn.enabled, torch.backends.cudnn.benchmark,
        logging.getLogger().level, len(logging.getLogger().handlers), signal.getsignal(signal.SIGINT),
        list(warnings.filters), dict(os.environ), sys.excepthook,
    ]

before = state()
import kokkiri
print(*(a == b for a, b in zip(before, state(), strict=True)))
"""


def test_importing_kokkiri_changes_no_global_state():
    same = said(STATE)
    assert len(same) == 15
    assert set(same) == {"True"}
