"""A vault's folder from the outside: what makes it one, the names in it, and what it takes.

What stands there under the vault's own names must be plain folders and files before anything is read or removed: a link
in their place would have the vault's upkeep empty, lock or overwrite what lies elsewhere; a pipe would have every
reader wait for ever.
"""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

from gitvault.core.utils import reserve
from gitvault.core.utils.files import Disk, read_plain
from gitvault.errors import CorruptionError

FORMAT_VERSION = 1
LONGEST = 1 << 20
"""Bytes of a vault's settings."""
LOCK = "vault.lock"
PENDING = "operation.pending"
"""While an operation moves refs, see operations.py."""
WATCH = "watch.sock"
"""In the folder `cache`: the socket that a watcher listens on."""
SEARCH = "cache/search"
"""The index of what was ever in a project; it goes when anything is purged."""
HISTORIES = "cache/histories"
"""What was read of the history of hg and svn checkouts, for the index; it goes with that."""
THUMBNAILS = "cache/thumbnails"
"""Small pictures of what was ever in a project; they go likewise."""

BUNDLES = "cache/bundles"
"""What is in bundles that were ever in a project; it goes with the index."""

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
    SEARCH,
    THUMBNAILS,
    BUNDLES,
    "parity",
    "quarantine",
)
_FILES = (
    "config",
    "HEAD",
    "packed-refs",
    "info/attributes",
    "chunks/condemned",
    PENDING,
    reserve.NAME,
    "vault.lease",
    LOCK,
    f"{LOCK}.wanted",
    "cache/chunks.db",
    "RESCUE.md",
    "rescue.sh",
    "rescue.py",
)


def is_vault(path: Path) -> bool:
    """Whether a folder is a vault: a bare repository whose config names a format of ours."""
    try:
        text = read_plain(path / "config", LONGEST).decode("utf-8", "replace")
    except (OSError, CorruptionError):
        return False
    return (path / "HEAD").is_file() and re.search(r"(?mi)^\s*formatVersion\s*=", text) is not None


def is_damaged(path: Path) -> bool:
    """Whether a folder was a vault with something in it, and its `HEAD` or `config` is not what it was."""
    # `is_dir` raises where one may not look.
    return not is_vault(path) and os.path.isdir(path / "chunks") and any((path / "objects" / "pack").glob("*.pack"))


def disk_usage(vault: Path) -> int:
    """Bytes that a vault's files occupy, caches and the reserve left out."""
    total = 0
    for folder, folders, files in os.walk(vault):
        if Path(folder) == vault:
            folders[:] = [name for name in folders if name != "cache"]
            files = [name for name in files if name != reserve.NAME]
        total += sum(os.lstat(os.path.join(folder, name)).st_size for name in files)
    return total


def packs(vault: Path) -> list[Path]:
    """All packs, of chunks and of git's, the newest first."""
    found = [*(vault / "chunks").glob("*.zpk"), *(vault / "objects" / "pack").glob("*.pack")]
    return sorted(found, key=lambda path: -path.stat().st_mtime_ns)


def clear_temporary(vault: Path, disk: Disk) -> None:
    """Remove what a killed run left unfinished. For whoever holds the lock: nobody else writes there."""
    for pattern in ("tmp/*", "chunks/tmp/*", "*.[0-9]*.tmp"):
        for path in vault.glob(pattern):
            if path.is_file():
                disk.unlink(path)


def clear_search(vault: Path, disk: Disk) -> None:
    """Remove the search index and the like, durably: after a power cut it must not come back with what was purged."""
    folder = vault / SEARCH
    if folder.is_dir():
        for path in folder.iterdir():
            disk.unlink(path)
        disk.sync_folder(folder)
    for top in (HISTORIES, BUNDLES):
        for at, _, names in os.walk(vault / top, topdown=False):
            for name in names:
                disk.unlink(Path(at, name))
            disk.remove_folder(Path(at))
    disk.sync_folder(vault / "cache")


def clear_thumbnails(vault: Path, disk: Disk) -> None:
    """Remove all small pictures, durably, and their folders: whoever is drawing has no place left to put one."""
    top = vault / THUMBNAILS
    for folder in [path for path in top.iterdir() if path.is_dir()] if top.is_dir() else ():
        while folder.is_dir():
            for path in folder.iterdir():
                disk.unlink(path)
            # One that came meanwhile keeps it.
            disk.remove_folder(folder)
        disk.sync_folder(top)


def is_within(path: str, folder: str) -> bool:
    """Whether a path is a folder or in it; both resolved."""
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)


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
