"""What lies in every vault so that it can be read without gitvault: the text and the two scripts."""

from __future__ import annotations

from pathlib import Path

from gitvault.core.utils.files import Disk

SOURCES = {"RESCUE.md": "docs/rescue.md", "rescue.sh": "rescue/rescue.sh", "rescue.py": "rescue/rescue.py"}
"""Each file of the vault, and where it lies in this package."""


def texts() -> dict[str, bytes]:
    """What the files of a vault are to hold, by their name in it."""
    from importlib.resources import files

    package = files("gitvault")
    return {name: package.joinpath(source).read_bytes() for name, source in SOURCES.items()}


def refresh(vault: Path, disk: Disk) -> list[str]:
    """Write those that are missing, damaged or of another gitvault; their names. Raises OSError, StorageFullError."""
    written = []
    for name, text in texts().items():
        path = vault / name
        if not path.is_file() or path.read_bytes() != text:
            disk.write_durably(path, text)
            written.append(name)
    return written
