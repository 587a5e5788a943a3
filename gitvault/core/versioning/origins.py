"""Where the content of a folder came from: a ref for each folder that was restored into, until it is saved.

The next snapshot of the folder says so. One ref at a time, so nobody needs the vault's lock to write it.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from gitvault.core.models import ObjectId
from gitvault.core.versioning.refs import RefStore

PREFIX = "refs/vault/restored/"
_KEPT = 100


def ref_of(folder: str) -> str:
    """The ref of a folder, given resolved: one spelling for one folder, whatever symlink leads there."""
    return PREFIX + hashlib.sha1(os.fsencode(folder), usedforsecurity=False).hexdigest()


def note(git_dir: Path, refs: RefStore, folder: str, commit: ObjectId) -> None:
    """Note that a folder holds what a commit does. Raises OSError, StorageFullError, LockedError.

    Most folders that are restored into are never saved: only the newest notes stay.
    """
    refs.update(ref_of(folder), commit)

    def written(ref: str) -> int:
        try:
            return os.stat(git_dir / ref).st_mtime_ns
        except FileNotFoundError:
            # Packed by git, which is a while ago.
            return 0

    for ref in sorted(refs.list(PREFIX), key=written)[:-_KEPT]:
        refs.delete(ref)
