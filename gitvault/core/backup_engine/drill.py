"""The restore drill: files got back the way RESCUE.md says, compared with what gitvault itself gives back."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from random import Random, SystemRandom
from tempfile import TemporaryDirectory

from gitvault.core.interfaces import Progress, StorageManager
from gitvault.core.models import Affected, Defect, ObjectId, SnapshotId
from gitvault.core.utils.names import from_tree_name, to_line
from gitvault.core.utils.process import run
from gitvault.core.versioning import contents
from gitvault.core.versioning.history import GitHistory
from gitvault.core.versioning.objects import MODE_TREE
from gitvault.errors import CorruptionError, NotFoundError, ToolFailed

# Random walks that end in a folder without files.
_TRIES = 20


def drill(
    history: GitHistory,
    store: StorageManager,
    count: int,
    chance: Random | None = None,
    progress: Progress | None = None,
) -> tuple[int, list[Defect]]:
    """Rescue `count` files that `chance` picks; how many there were to pick, and what went wrong.

    Raises ToolMissing where git, sh or zstd is not installed.
    """
    chance = chance or SystemRandom()
    # Commits, since git is asked for them.
    snapshots = [
        (project, SnapshotId(oid.hex()))
        for project in history.projects()
        if (tip := history.tip(project))
        for oid in history.chain(tip)
    ]
    picked = [pick for _ in range(count if snapshots else 0) if (pick := _pick(history, chance, snapshots))]
    defects = []
    with TemporaryDirectory(prefix="gitvault-drill-") as work:
        for number, (project, snapshot, stored) in enumerate(picked):
            if progress:
                progress("rescuing", number, len(picked))
            path = b"/".join(map(from_tree_name, stored))
            reason = _compare(history, store, snapshot, stored, Path(work))
            if reason:
                defects.append(Defect("drill", to_line(path), reason, (Affected(project, snapshot, path),)))
    return len(picked), defects


def _pick(
    history: GitHistory, chance: Random, snapshots: list[tuple[str, SnapshotId]]
) -> tuple[str, SnapshotId, list[bytes]] | None:
    """A file by its names in git's trees: a walk down from a random snapshot, for listing one whole takes too long."""
    for _ in range(_TRIES):
        project, snapshot = chance.choice(snapshots)
        at: ObjectId | None = history.trees(snapshot, damaged=lambda _: None)[0]
        stored: list[bytes] = []
        while entries := sorted(history.tree(at).items()):
            name, (mode, at) = chance.choice(entries)
            stored.append(name)
            if mode != MODE_TREE:
                return project, snapshot, stored
    return None


def _compare(history: GitHistory, store: StorageManager, snapshot: SnapshotId, stored: list[bytes], work: Path) -> str:
    """What is wrong with a file, or nothing."""
    ours = work / "ours"
    try:
        path = b"/".join(map(from_tree_name, stored))
        entry = contents.find_file(history, snapshot, path, lambda _: None)
        with ours.open("wb") as file:
            if entry.pointer:
                store.retrieve_file(entry.pointer, file)
            else:
                file.write(history.blob(entry.blob))
    except (CorruptionError, NotFoundError) as error:
        return str(error)
    try:
        theirs = _rescued(history.git_dir, history.locate(snapshot), path, work)
    except ToolFailed as error:
        return f"the way of RESCUE.md fails: {error}"
    digests = [_digest(file) for file in (ours, theirs)]
    return "" if digests[0] == digests[1] else f"the way of RESCUE.md gives {digests[1]}, expected {digests[0]}"


def _rescued(vault: Path, commit: ObjectId, path: bytes, work: Path) -> Path:
    """Get a file back by the vault's own script; where it is. Raises ToolFailed, ToolMissing."""
    # It knows whole snapshots only.
    folder = work / commit.hex()
    if not folder.exists():
        # 1: something was damaged, which may be another file.
        run(["sh", vault / "rescue.sh", "restore", commit.hex(), folder], ok=(0, 1))
    return Path(os.fsdecode(os.path.join(os.fsencode(folder), path)))


def _digest(path: Path) -> str:
    """A file's SHA-256; a symlink's is that of the path it names."""
    if path.is_symlink():
        return hashlib.sha256(os.fsencode(os.readlink(path))).hexdigest()
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return "nothing"
