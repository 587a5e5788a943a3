"""Packs from elsewhere, for a vault that does not outlive the reading: their files go when they were read whole.

A file that is gone before the system writes it back costs no disk, and its memory serves the next. Whoever wants
something of it after all has it asked for again.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from gitvault.core.storage.packs import Frame, Pack, Table
from gitvault.core.utils.files import Disk

# Packs that were read whole and stay: frames of several files are read several times.
_KEPT = 8


class HeldPack(Pack):
    """One of them, of a Shelf."""

    def __init__(self, path: Path, table: Table, shelf: Shelf, again: Callable[[], bytes | memoryview]) -> None:
        """`again`: gets the content once more."""
        super().__init__(path)
        self._unread = {frame.number for frame in table.frames}
        self._shelf = shelf
        self._again = again

    def read(self, frame: Frame) -> bytes:
        """See Pack; what `again` raises."""
        try:
            data = super().read(frame)
        except FileNotFoundError:
            self._shelf.store(self.path, self._again)
            data = super().read(frame)
        if self._unread:
            self._unread.discard(frame.number)
            if not self._unread:
                self._shelf.let_go(self.path)
        return data


class Shelf:
    """Where they are. Safe to call from several threads."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self._lock = threading.Lock()
        self._read: deque[Path] = deque()

    def store(self, path: Path, content: Callable[[], bytes | memoryview]) -> None:
        """Write a pack, if it is not there. Raises StorageFullError, OSError, what `content` raises."""
        with self._lock:
            if not path.exists():
                data = content()
                with self._disk.create(path) as file:
                    file.write(data)
                    file.sync()

    def let_go(self, path: Path) -> None:
        """That one was read whole."""
        with self._lock:
            self._read.append(path)
            if len(self._read) > _KEPT:
                # Where somebody reads it, as some systems forbid it, it stays.
                with suppress(OSError):
                    self._disk.unlink(self._read.popleft())
