"""What a vault's own names must be before anything is read or removed there: plain folders and files, no links.

A link in their place would have the vault's upkeep empty, lock or overwrite what lies elsewhere; a pipe would
have every reader wait for ever.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

_FOLDERS = (
    "objects",
    "objects/info",
    "objects/pack",
    "refs",
    "refs/heads",
    "refs/notes",
    "refs/tags",
    "refs/vault",
    "refs/vault/meta",
    "info",
    "chunks",
    "chunks/tmp",
    "chunks/trash",
    "tmp",
    "trash",
    "cache",
    "parity",
    "quarantine",
)
_FILES = (
    "config",
    "HEAD",
    "packed-refs",
    "info/attributes",
    "chunks/condemned",
    "operation.pending",
    "reserve",
    "vault.lease",
    "vault.lock",
    "vault.lock.wanted",
    "cache/chunks.db",
    "RESCUE.md",
    "rescue.sh",
    "rescue.py",
)


def misplaced(vault: Path) -> str | None:
    """What stands in the place of a vault's folder or file and is none, as a sentence; None when all is well.

    What is missing is no matter. `vault` itself may be a link.
    """
    base = os.fspath(vault)
    for names, kind, wanted in ((_FOLDERS, stat.S_IFDIR, "folder"), (_FILES, stat.S_IFREG, "file")):
        for name in names:
            path = f"{base}/{name}"
            try:
                found = os.lstat(path)
            except OSError:
                continue
            if stat.S_IFMT(found.st_mode) != kind:
                return f"{path}: expected a plain {wanted} of the vault's own, found {stat.filemode(found.st_mode)}"
    return None


def open_to_others(vault: Path) -> list[Path]:
    """What of a vault others than its owner may read, write or enter; links are not followed."""
    found = [vault] if _shared(os.stat(vault)) else []
    for folder, folders, files in os.walk(vault):
        for name in (*folders, *files):
            path = Path(folder, name)
            st = path.lstat()
            if _shared(st) and not stat.S_ISLNK(st.st_mode):
                found.append(path)
    return found


def _shared(st: os.stat_result) -> bool:
    return bool(st.st_mode & 0o077)
