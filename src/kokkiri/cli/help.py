"""Help as wide as the terminal: what tyro prints above its boxes, the usage and the description, it does not wrap."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Callable
from contextlib import redirect_stdout
from io import BytesIO, TextIOWrapper
from typing import TypeVar

T = TypeVar("T")
ASKED = {"-h", "--help"}


def with_wrapped_help(given: list[str], parse: Callable[[], T]) -> T:
    """What `parse` gives; where help is asked for, what it prints is wrapped, and it ends as it does (SystemExit)."""
    if not ASKED & set(given):
        return parse()
    encoding = sys.stdout.encoding or "utf-8"  # which tells whether there are lines for boxes
    printed = TextIOWrapper(BytesIO(), encoding, write_through=True)
    try:
        with redirect_stdout(printed):
            return parse()
    finally:
        sys.stdout.write(wrapped(printed.buffer.getvalue().decode(encoding), shutil.get_terminal_size().columns))


def wrapped(text: str, width: int) -> str:
    r"""Lines that are too long, broken between words; the second line of a usage is indented.

    >>> print(wrapped("usage: kokkiri do DATA\n\nWhat would happen?", 14))
    usage: kokkiri
      do DATA
    <BLANKLINE>
    What would
    happen?
    """
    out = []
    for line in text.split("\n"):
        indent = "  " if line.startswith("usage:") else ""
        out += textwrap.wrap(line, max(width, 10), subsequent_indent=indent, break_on_hyphens=False) or [line]
    return "\n".join(out)
