"""How far the replay is: a bar on a terminal, else a line every ten seconds."""

import sys
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

_LINE_EVERY_SECONDS = 10.0


class Bar:
    """Counts orders; `note` is what a person wants to know besides."""

    def __init__(self, *, total: int, console: Console) -> None:
        self._total = total
        self._console = console
        self._began = time.monotonic()
        self._done_at_start = 0
        self._last_line = self._began
        self._task: TaskID | None = None
        self._bar = Progress(
            TextColumn("{task.fields[note]}"),
            BarColumn(),
            TextColumn("{task.completed}/{task.total} orders, {task.fields[rate]:.0f}/s"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=not sys.stdout.isatty(),
        )

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def begin(self, done: int) -> None:
        """That many were done before."""
        self._began = time.monotonic()
        self._done_at_start = done
        self._task = self._bar.add_task("", total=self._total, completed=done, note="", rate=0.0)

    def show(self, done: int, note: str) -> None:
        """So many are done now."""
        now = time.monotonic()
        rate = (done - self._done_at_start) / max(now - self._began, 0.001)
        if self._task is not None:
            self._bar.update(self._task, completed=done, note=note, rate=rate)
        if self._bar.disable and now - self._last_line >= _LINE_EVERY_SECONDS:
            self._last_line = now
            self._console.print(f"{note}  {done}/{self._total} orders, {rate:.0f}/s", markup=False, soft_wrap=True)
