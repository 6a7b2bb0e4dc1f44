"""Where a command writes a model: a place that is free, and files that are there all together or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Generator
from pathlib import Path

from kokkiri.errors import OutputError

CHECKPOINTS = ".checkpoints"


def place(out: Path, *, overwrite: bool) -> Path:
    """The folder, when it may be written to.

    Raises OutputError where a model stands there, or nothing may be written.
    """
    if (out / "model.json").exists() and not kept(out) and not overwrite:
        raise OutputError(
            f"{out} holds a model already", needs="a place of its own for the new one",
            found=", ".join(sorted(p.name for p in out.iterdir())), fix="--overwrite, or another --out",
        )  # fmt: skip
    there = next(p for p in (out, *out.absolute().parents) if p.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise OutputError(
            f"cannot write to {out}", needs="a folder that may be written",
            found=f"{there} {'may not be' if there.is_dir() else 'is a file'}", fix="another --out",
        )  # fmt: skip
    return out


def kept(out: Path) -> bool:
    """Whether a run that was cut left something to go on from."""
    return any((out / CHECKPOINTS).rglob("step-*.safetensors"))


@contextlib.contextmanager
def all_or_nothing(out: Path) -> Generator[Path, None, None]:
    """A folder to write to, whose files are moved to `out` when all of them are whole.

    A run that fails leaves no trace but checkpoints, and those only where they are worth going on from. A model that
    stands at `out` can be read at every instant: the old one until the new one is there (see `store.moved_in`).
    """
    from kokkiri.store import moved_in

    draft, new = out / ".part", [p for p in (out, *out.absolute().parents) if not p.exists()]
    shutil.rmtree(draft, ignore_errors=True)  # what a killed run left
    try:
        yield draft
        moved_in(draft, out)
    except OSError as error:
        raise OutputError(
            f"cannot write to {out}", needs="a folder that may be written", found=error.strerror or str(error),
            fix="another --out",
        ) from error  # fmt: skip
    finally:
        shutil.rmtree(draft, ignore_errors=True)
        if not kept(out):
            shutil.rmtree(out / CHECKPOINTS, ignore_errors=True)
        for folder in new:
            with contextlib.suppress(OSError):
                folder.rmdir()  # only while it is empty
