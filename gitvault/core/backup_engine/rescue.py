"""What lies in every vault so that it can be read without gitvault: the text and the two scripts."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from gitvault.core.utils.files import Disk

SOURCES = {"RESCUE.md": "docs/rescue.md", "rescue.sh": "rescue/rescue.sh", "rescue.py": "rescue/rescue.py"}
"""Each file of the vault, and where it lies in this package."""


_SEAL = re.compile(rb"(?:# |<!-- )gitvault wrote all above, of the SHA-256 ([0-9a-f]{64})(?: -->)?\n")


def texts() -> dict[str, bytes]:
    """What the files of a vault are to hold, by their name in it."""
    from importlib.resources import files

    package = files("gitvault")
    return {name: _sealed(name, package.joinpath(source).read_bytes()) for name, source in SOURCES.items()}


def _sealed(name: str, text: bytes) -> bytes:
    """The text, and what tells a whole one of another gitvault from a damaged one."""
    seal = f"gitvault wrote all above, of the SHA-256 {hashlib.sha256(text).hexdigest()}"
    return text + (f"<!-- {seal} -->\n" if name.endswith(".md") else f"# {seal}\n").encode()


def is_whole(text: bytes) -> bool:
    """Whether a gitvault of some version wrote a text, and it is as it was."""
    above, _, last = text.removesuffix(b"\n").rpartition(b"\n")
    seal = _SEAL.fullmatch(last + b"\n")
    said = seal[1].decode() if seal else ""
    return said == hashlib.sha256(above + b"\n").hexdigest()


def outdated(vault: Path) -> list[str]:
    """The files that are whole and of another gitvault. Raises OSError."""
    found = {name: (vault / name, text) for name, text in texts().items() if (vault / name).is_file()}
    return [name for name, (path, text) in found.items() if (now := path.read_bytes()) != text and is_whole(now)]


def refresh(vault: Path, disk: Disk) -> list[str]:
    """Write those that are missing, damaged or of another gitvault; their names. Raises OSError, StorageFullError."""
    written = []
    for name, text in texts().items():
        path = vault / name
        if not path.is_file() or path.read_bytes() != text:
            disk.write_durably(path, text)
            written.append(name)
    return written
