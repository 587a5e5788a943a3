"""What was seen of repositories when they were saved last: one that is as it was needs no git to say so."""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from pathlib import Path

from gitvault.core.beside import Beside, still
from gitvault.core.utils.files import Disk
from gitvault.errors import StorageFullError

_STATE = 40


class Memory:
    """A cache. A damaged file in it is as good as none."""

    def __init__(self, folder: Path, disk: Disk, now: float) -> None:
        """`folder`: the vault's for caches. `now`: in seconds since 1970."""
        self._folder = folder
        self._disk = disk
        self._now = now

    def beside(self, git_dir: str, state: str) -> Beside | None:
        """What the answers of a repository in that state depended on, if all of that is as it was; else None."""
        with suppress(OSError):
            said = self._file(git_dir).read_bytes()
            if state and said[:_STATE] == state.encode() and still(said[_STATE:], self._now):
                return Beside.of(said[_STATE:])
        return None

    def keep(self, git_dir: str, state: str, beside: Beside, read_ns: int) -> None:
        """Remember a state, and what it depended on; `read_ns`: when the first of that was read."""
        file = self._file(git_dir)
        temporary = file.with_name(f"{file.name}.{os.getpid()}.tmp")
        noted = beside.noted(read_ns)
        with suppress(OSError, StorageFullError):
            self._disk.make_folder(file.parent)
            self._disk.unlink(temporary)
            with self._disk.create(temporary) as made:
                made.write(state.encode() + noted)
            # Not synced: what does not come through a power cut is no msgpack, or not as things are.
            self._disk.rename(temporary, file)

    def _file(self, git_dir: str) -> Path:
        return self._folder / f"repository-{hashlib.sha1(os.fsencode(git_dir), usedforsecurity=False).hexdigest()}"
