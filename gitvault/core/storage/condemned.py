"""The packs that are about to go: written down, durably, before the first of them moves.

Nobody who stores something may rely on them from then on, also if the lock of whoever wrote the list was taken for
stale: what is in them is as good as not there, and stored again. Who reads may still find something in them.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from gitvault.core.storage.packs import PACK_NAME
from gitvault.core.utils.files import Disk

_NAME = "condemned"


def condemn(folder: Path, packs: Iterable[str], disk: Disk) -> None:
    """Let these be the condemned packs of `folder`, durably."""
    disk.write_durably(folder / _NAME, "".join(f"{name}\n" for name in sorted(packs)).encode())


def condemned(folder: Path) -> frozenset[str]:
    """The names of the condemned packs. Raises OSError."""
    try:
        # Mostly missing, and asked for whenever something is found: pathlib says so in 24 us, this in 10.
        with open(os.path.join(folder, _NAME), encoding="ascii", errors="replace") as file:
            return frozenset(line for line in file.read().splitlines() if PACK_NAME.fullmatch(line))
    except FileNotFoundError:
        return frozenset()


def acquit(folder: Path, disk: Disk) -> None:
    """What is left of them counts again. For the holder of the lock, when no run is at it; see rounds.settle."""
    if (folder / _NAME).exists():
        disk.unlink(folder / _NAME)
