"""Room that a vault keeps for a full disk: a file that is worth nothing but the space it takes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from gitvault.core.utils.files import Disk
from gitvault.errors import StorageFullError

NAME = "reserve"


def keep(vault: Path, size: int, disk: Disk) -> None:
    """Make the reserve of `size` bytes if it is missing and the disk has twice the room; never an error.

    Without a size there is none.
    """
    import shutil

    path = vault / NAME
    with contextlib.suppress(OSError, StorageFullError):
        if not size:
            disk.unlink(path)
            return
        if path.exists() or shutil.disk_usage(vault).free < 2 * size:
            return
        try:
            with disk.create(path) as file:
                file.fill(size)
        except BaseException:
            disk.unlink(path)
            raise


@contextlib.contextmanager
def room(vault: Path, size: int, disk: Disk) -> Iterator[None]:
    """What is done meanwhile may use the reserve, if it has to: when the disk has less room than that."""
    import shutil

    if shutil.disk_usage(vault).free < size:
        disk.unlink(vault / NAME)
    try:
        yield
    finally:
        keep(vault, size, disk)
