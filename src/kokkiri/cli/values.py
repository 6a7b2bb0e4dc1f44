"""What commands share that are about numbers: probabilities as people type them, pictures as files."""

from __future__ import annotations

import math
import sys
import warnings
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

from kokkiri.errors import UsageError


def number_of(flag: str, text: str) -> float:
    """A number, a fraction, or a percentage.

    >>> number_of("--prevalence", "0.25"), number_of("--prevalence", "1/4"), number_of("--prevalence", "25%")
    (0.25, 0.25, 0.25)
    """
    above, slash, below = text.strip().removesuffix("%").partition("/")
    try:
        value = float(above) / (float(below) if slash else 1.0) / (100 if text.strip().endswith("%") else 1)
    except (ValueError, ZeroDivisionError):
        value = math.nan
    if not math.isfinite(value):
        raise UsageError(
            f"cannot read {flag} {text}", needs="a number, a fraction or a percentage", found=repr(text),
            fix=f"{flag} 0.1, {flag} 1/10 or {flag} 10%",
        )  # fmt: skip
    return value


def numbers_by_name(flag: str, text: str) -> dict[str, float]:
    """Names with numbers, commas between them.

    >>> numbers_by_name("--prior", "ill=0.1,well=0.9")
    {'ill': 0.1, 'well': 0.9}
    """
    out: dict[str, float] = {}
    for part in filter(None, (p.strip() for p in text.split(","))):
        name, equals, value = (p.strip() for p in part.rpartition("="))
        if not equals or not name:
            raise UsageError(
                f"cannot read {flag} {text}", needs="NAME=NUMBER, commas between them", found=repr(part),
                fix=f"{flag} ill=0.1,well=0.9",
            )  # fmt: skip
        if name in out:
            raise UsageError(
                f"{flag} names '{name}' twice", needs="each name once", found=text, fix="leave one of them out"
            )
        out[name] = number_of(f"{flag} {name}=", value)
    return out


def picture_at(out: str | None, flag: str = "--out") -> Path | None:
    """Where a picture goes, before anything is computed."""
    if out is not None and Path(out).suffix != ".svg":
        raise UsageError(
            f"{flag} {out} names no picture", needs="a file whose name ends in .svg", found=out,
            fix=f"{flag} {Path(out).stem or 'picture'}.svg",
        )  # fmt: skip
    return None if out is None else Path(out)


def write_picture(path: Path, svg: str) -> None:
    """An SVG file that stands alone, and a line that says where."""
    from kokkiri.drawing import file_of
    from kokkiri.training.checkpoints import write_atomically

    write_atomically(path, file_of(svg).encode())
    sys.stderr.write(f"{path}\n")


def say(lines: Sequence[str]) -> None:
    """Paragraphs to standard output; a terminal of another encoding gets question marks, not a crash."""
    text = "\n\n".join(lines) + "\n"
    encoding = sys.stdout.encoding or "utf-8"
    sys.stdout.write(text.encode(encoding, "replace").decode(encoding))


@contextmanager
def warnings_as_notes() -> Generator[None]:
    """Warnings become lines of standard error."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    for text in dict.fromkeys(str(w.message) for w in caught):
        sys.stderr.write(f"! {text}\n")
