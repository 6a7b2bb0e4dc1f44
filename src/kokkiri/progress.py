"""Live progress that costs less than one percent of the time it measures, without a thread.

Every refresh is timed, and the next one comes 200 times that later at the earliest.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Self, TextIO

from kokkiri.phrases import duration, plain

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID
    from torch import Tensor

WIDTH = 100
SPARING = 200  # time between two refreshes over the time one takes: half a percent at most
TERMINAL_SECONDS, PLAIN_SECONDS = 0.1, 10.0  # and never more often than this


class Progress:
    """`with Progress(total, "training") as progress: progress.update(step, train=…, held_out=…)`.

    train, held_out: nats per row, numbers or 0-dimensional tensors; a tensor is looked at only when something is drawn.
    On a terminal a bar that redraws itself; elsewhere lines, one in ten seconds at most beside the first and last.
    start: the step that a resumed run begins from, so that the time left is judged by what this run did.

    >>> import io
    >>> lines = io.StringIO()
    >>> with Progress(2, "training", file=lines) as progress:
    ...     progress.update(1, train=-0.5)
    ...     progress.update(2, train=-0.4, held_out=-0.45)
    >>> print(lines.getvalue())  # doctest: +ELLIPSIS
    training 1/2 · train -0.500 nats per row
    training 2/2 · train -0.400 · held out -0.450 nats per row · done in ... s
    <BLANKLINE>
    """

    __slots__ = (
        "_bar",
        "_begun",
        "_clock",
        "_cpu",
        "_drawn",
        "_every",
        "_file",
        "_held_out",
        "_label",
        "_next",
        "_start",
        "_step",
        "_task",
        "_total",
        "_train",
    )  # fmt: skip

    def __init__(
        self,
        total: int,
        label: str,
        *,
        start: int = 0,
        file: TextIO | None = None,
        clock: Callable[[], float] = time.perf_counter,
        cpu: Callable[[], float] = time.process_time,
    ) -> None:
        self._total, self._label, self._start, self._step = total, label, start, start
        self._file = file or sys.stderr
        self._clock, self._cpu = clock, cpu
        self._train: float | Tensor | None = None
        self._held_out: float | Tensor | None = None
        self._bar: RichProgress | None = None
        self._task: TaskID | None = None
        self._drawn = -1  # the step last drawn
        self._begun = self._next = clock()
        self._every = TERMINAL_SECONDS if self._file.isatty() else PLAIN_SECONDS

    def __enter__(self) -> Self:
        if self._file.isatty():
            self._bar, self._task = _bar(self._file, self._label, self._total)
            self._bar.start()
        self._begun = self._next = self._clock()
        return self

    def __exit__(self, *_: object) -> None:
        if self._step != self._drawn:
            self._draw()
        if self._bar:
            self._bar.stop()

    def update(
        self,
        step: int,
        train: float | Tensor | None = None,
        held_out: float | Tensor | None = None,
        note: str | None = None,
    ) -> None:
        """Say how far the run is. Draws now and then; a note is shown at once."""
        self._step = step
        if train is not None:
            self._train = train
        if held_out is not None:
            self._held_out = held_out
        if note is not None:
            self._say(note)
        if self._clock() >= self._next or (step >= self._total and step != self._drawn):
            self._draw()

    def _draw(self) -> None:
        clock, cpu = self._clock(), self._cpu()
        if self._bar:
            assert self._task is not None
            self._bar.update(self._task, completed=self._step, values=self._values(), left=self._left(clock))
            self._bar.refresh()
        elif self._step != self._drawn:
            self._line(clock)
        self._drawn = self._step
        now = self._clock()
        self._next = now + max(self._every, SPARING * max(now - clock, self._cpu() - cpu))

    def _say(self, note: str) -> None:
        if self._bar:
            self._bar.console.print(note, markup=False, highlight=False)
        else:
            self._file.write(note + "\n")

    def _line(self, clock: float) -> None:
        parts = [f"{self._label} {self._step:,}/{self._total:,}", *filter(None, (self._values(), self._left(clock)))]
        self._file.write(" · ".join(parts) + "\n")
        self._file.flush()

    def _values(self) -> str:
        named = (("train", self._train), ("held out", self._held_out))
        text = " · ".join(f"{name} {plain(float(value), 3)}" for name, value in named if value is not None)
        return text and text + (" nats/row" if self._bar else " nats per row")

    def _left(self, clock: float) -> str:
        done, elapsed = self._step - self._start, clock - self._begun
        if self._step >= self._total:
            return f"done in {duration(elapsed)}"
        if done <= 0 or elapsed < 1:
            return ""
        left = elapsed / done * (self._total - self._step)
        return f"{timedelta(seconds=round(left))} left" if self._bar else f"{duration(left)} left"


def _bar(file: TextIO, label: str, total: int) -> tuple[RichProgress, TaskID]:
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as RichProgress
    from rich.table import Column

    # the bar gives way to the numbers: at 80 columns all of them stand in one line
    text = lambda template: TextColumn(template, markup=False, table_column=Column(no_wrap=True))
    columns = (
        text("{task.description}"),
        BarColumn(None, table_column=Column(ratio=1)),
        text("{task.completed}/{task.total}"),
        text("{task.fields[values]}"),
        text("{task.fields[left]}"),
    )
    console = Console(file=file)
    console.width = min(console.width, WIDTH)
    bar = RichProgress(*columns, console=console, auto_refresh=False, expand=True)
    return bar, bar.add_task(label, total=total, values="", left="")
