"""Checkpoints: one safetensors file each, written to a temporary name, fsynced, renamed; the last two are kept.

Nothing needs saving but tensors and integers, since all randomness is counted (see numerics.random). A process killed
at any instant, also while a checkpoint is being written, leaves the one before it whole.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kokkiri.errors import ModelError, OutputError

KEEP = 2


def write_atomically(path: Path, content: bytes) -> None:
    """Either the whole content stands at `path` afterwards, or what stood there before.

    Raises OutputError when it cannot be written: the folder is read-only, the disk is full.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)  # the rename itself must survive a power cut
        finally:
            os.close(folder)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink()
        raise OutputError(
            f"cannot write {path}",
            needs=f"room for {len(content):,} bytes in a folder that may be written",
            found=error.strerror or str(error),
            fix="free some space, or choose another place with --out",
        ) from None


def save_checkpoint(folder: Path, step: int, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Writes `folder`/step-N.safetensors and removes all but the last two."""
    from safetensors.torch import save

    content = save({n: t.detach().cpu().contiguous() for n, t in tensors.items()}, {"facts": json.dumps(facts)})
    write_atomically(folder / f"step-{step:09d}.safetensors", content)
    for old in sorted(folder.glob("step-*.safetensors"))[:-KEEP]:
        old.unlink(missing_ok=True)


def last_checkpoint(folder: Path, fingerprint: str) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """The newest readable checkpoint of the run with this fingerprint; None where there is none.

    A damaged file (a disk that lies about fsync) is passed over for the one before it. Raises ModelError when the
    checkpoints belong to another run.
    """
    from safetensors import SafetensorError, safe_open

    for path in sorted(folder.glob("step-*.safetensors"), reverse=True):
        try:
            with safe_open(path, "pt") as file:
                facts = json.loads((file.metadata() or {})["facts"])
                tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # ruff: ignore[in-dict-keys] - no mapping
        except (SafetensorError, OSError, KeyError, json.JSONDecodeError):
            continue
        if facts["fingerprint"] != fingerprint:
            raise ModelError(
                f"{folder} holds checkpoints of another run",
                needs="the same data, network, optimizer, seed and number of steps",
                found=f"fingerprint {facts['fingerprint'][:12]}, this run has {fingerprint[:12]}",
                fix=f"another --out, or remove {folder}",
            )
        return tensors, facts
    return None


def flatten_tree(tree: Any, prefix: str) -> dict[str, Tensor]:
    """A tree of dicts as one dict; the names are joined by "/"."""
    if isinstance(tree, torch.Tensor):
        return {prefix: tree}
    return {name: t for k, sub in tree.items() for name, t in flatten_tree(sub, f"{prefix}/{k}").items()}


def refill_tree(tree: Any, prefix: str, tensors: Mapping[str, Tensor]) -> Any:
    """The same tree with the tensors that `flatten_tree` took out of it."""
    if isinstance(tree, torch.Tensor):
        return tensors[prefix].to(tree)
    return {k: refill_tree(sub, f"{prefix}/{k}", tensors) for k, sub in tree.items()}
