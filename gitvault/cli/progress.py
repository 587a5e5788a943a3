"""A progress bar on standard error: only when that is a terminal, and only for work that takes a moment."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

# Importing rich.progress takes some 180 ms: work that is over by then never pays for it.
PATIENCE = 0.4
_REDRAW = 0.1
# What is counted in bytes; all else in things.
_IN_BYTES = frozenset({"saving", "restoring", "copying", "fetching", "reading"})


class Bar:
    """A `gitvault.core.interfaces.Progress` that draws."""

    def __init__(self, quiet: bool = False) -> None:
        self._active = not quiet and sys.stderr.isatty()
        self._due = time.monotonic() + PATIENCE
        self._what = ""
        self._drawn: tuple[Progress, TaskID] | None = None

    def __call__(self, what: str, done: int, total: int) -> None:
        """Take note; draw when it is time."""
        if not self._active or time.monotonic() < self._due:
            return
        if what != self._what:
            self._erase()
            self._drawn = _drawing(what)
            self._what = what
        if self._drawn is not None:
            progress, task = self._drawn
            progress.update(task, completed=done, total=total or None, refresh=True)
        self._due = time.monotonic() + _REDRAW

    def close(self) -> None:
        """Take the bar off the screen; nothing is drawn from now on."""
        self._active = False
        self._erase()

    def _erase(self) -> None:
        if self._drawn is not None:
            self._drawn[0].stop()
            self._drawn = None


def _drawing(what: str) -> tuple[Progress, TaskID]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    counts: tuple[ProgressColumn, ...] = (MofNCompleteColumn(),)
    if what in _IN_BYTES:
        counts = DownloadColumn(binary_units=True), TransferSpeedColumn()
    progress = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=None),
        *counts,
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
        # A thread that draws would keep this process from being copied for the second processor.
        auto_refresh=False,
    )
    progress.start()
    return progress, progress.add_task(what, total=None)
