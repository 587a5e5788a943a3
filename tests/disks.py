"""Disks that count what is asked of them."""

from __future__ import annotations

from pathlib import Path

from gitvault.core.utils.files import Disk, NewFile


class CountedDisk(Disk):
    """Calls `count` before every operation that a full or dying disk may refuse."""

    def count(self) -> None:
        """One operation comes; raise to keep it from happening."""
        raise NotImplementedError

    def create(self, path: Path, mode: int = 0o600) -> NewFile:
        self.count()
        return _CountedFile(path, mode, self)

    def create_uncached(self, path: Path) -> NewFile:
        return self.create(path)

    def rename(self, source: Path, target: Path) -> None:
        self.count()
        super().rename(source, target)

    def sync_folder(self, path: Path) -> None:
        self.count()
        super().sync_folder(path)


class _CountedFile(NewFile):
    def __init__(self, path: Path, mode: int, disk: CountedDisk) -> None:
        self._disk = disk
        super().__init__(path, mode)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._disk.count()
        super().write(data)

    def sync(self) -> None:
        self._disk.count()
        super().sync()
