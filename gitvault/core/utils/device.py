"""Whether two paths are lost together: on one device, as far as the system tells."""

from __future__ import annotations

import os
from pathlib import Path


def same_device(a: Path | str, b: Path | str) -> bool:
    """Whether two existing paths lie on one disk; partitions of one disk do. Raises OSError.

    Linux tells which disks are beneath a partition, an encrypted or a logical volume. Where nothing is known beyond
    the file systems' numbers, these count.
    """
    first, second = os.stat(a).st_dev, os.stat(b).st_dev
    return first == second or bool(_disks(first) & _disks(second))


def _disks(device: int, sys: Path = Path("/sys/dev/block")) -> frozenset[str]:
    """The disks beneath a block device, by name; nothing where that cannot be told."""
    try:
        found = (sys / f"{os.major(device)}:{os.minor(device)}").resolve(strict=True)
        return _beneath(found)
    except (OSError, AttributeError):
        return frozenset()


def _beneath(block: Path) -> frozenset[str]:
    lower = block / "slaves"
    below = [entry.resolve() for entry in lower.iterdir()] if lower.is_dir() else []
    if below:
        return frozenset().union(*map(_beneath, below))
    return frozenset((block.parent.name if (block / "partition").exists() else block.name,))
