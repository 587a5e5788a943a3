"""The work tree of one checkout while a project is walked: which files are as its base has them, and which are gone.

The base is what version control holds of each path, as an index of git says it: the index itself, or one made of what
an hg or svn checkout has at its revision. Files are looked at and hashed, so that no stat that has grown old, no flag
and no conversion can tell otherwise.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
import time
from collections.abc import Iterable
from contextlib import suppress

from gitvault.core.backup_engine.trees import Walked
from gitvault.core.stat_cache import racy_ns
from gitvault.core.utils.files import list_source, open_source, read_link
from gitvault.core.versioning import index
from gitvault.core.versioning.index import IndexEntry
from gitvault.core.versioning.indexed import Indexed
from gitvault.core.versioning.objects import object_id

_AT_ONCE = 1 << 20
_STRANGE = re.compile(rb"(?:\A|/)(?:\.{0,2})(?:/|\Z)|\0")


class WorkTree:
    """The checkout in `folder`, which is at `path` in the project, with its base."""

    def __init__(self, folder: str, path: bytes, tracked: Indexed) -> None:
        self.folder = folder
        self.tracked = tracked
        self._path = path
        self._visited: set[bytes] = set()
        self._present: dict[bytes, set[bytes]] = {}

    def digest(self, folder: bytes) -> bytes:
        """Changes with what the base has in a folder of the checkout; of its top, with all that the base has.

        What a walk leaves out because nobody touched it then is looked at for the base having changed.
        """
        return self.tracked.digest(folder) + (self.tracked.checksum if not folder else b"")

    def visited(self, folder: bytes) -> None:
        """A walk comes by a folder of the checkout."""
        if self.tracked.knows(folder):
            self._visited.add(folder)

    def present(self, folder: bytes, name: bytes) -> None:
        """A folder, which a walk looks at, has a file or symlink of this name."""
        self._present.setdefault(folder, set()).add(name)

    @property
    def was_met(self) -> bool:
        """Whether a walk came by its top folder."""
        return b"" in self._visited

    def is_base(self, folder: bytes, name: bytes) -> tuple[bool, bool]:
        """Whether a file or symlink is as the base has it; whether the look at it may have been late.

        A file written in the very moment it is hashed may have the same stat and other bytes.
        """
        entry = self.tracked.files(folder).get(name)
        if entry is None or not entry.is_file:
            return False, False
        return _is_as_tracked(os.path.join(self.folder, os.fsdecode(entry.path)), entry)

    def deleted(self, walked: Walked, before: Iterable[bytes] | None) -> tuple[bytes, ...]:
        """The paths that the base has and the disk has not, sorted. After the walk.

        `before`: those of the last snapshot, which hold in folders that are as they were then; None: there is none.
        """
        found: set[bytes] = set()
        changed = self._visited
        if before is not None:
            changed = {folder for folder in self._visited if self._in_project(folder) in walked.changed}
            for path in before:
                folder, _, name = path.rpartition(b"/")
                if folder not in changed and name in self.tracked.expected(folder):
                    found.add(path)
        for folder in changed:
            if expected := self.tracked.expected(folder):
                prefix = folder + b"/" if folder else b""
                present = self._present.get(folder)
                if present is None:
                    present = set(_names(os.path.join(self.folder, os.fsdecode(folder))))
                found.update(prefix + name for name in expected if name not in present)
        if len(self._visited) < len(self.tracked):
            self._look_for_folders(found, b"")
        # What a damaged or hostile base names is not to spoil the record.
        return tuple(sorted(path for path in found if not _STRANGE.search(path)))

    def _in_project(self, folder: bytes) -> bytes:
        return self._path + b"/" + folder if self._path and folder else self._path or folder

    def _look_for_folders(self, deleted: set[bytes], folder: bytes) -> None:
        """Where the base has a folder that no walk came by, there may be nothing, or a file."""
        for name in self.tracked.below(folder) if folder in self._visited else ():
            inner = folder + b"/" + name if folder else name
            if inner in self._visited:
                self._look_for_folders(deleted, inner)
                continue
            path = os.path.join(self.folder, os.fsdecode(inner))
            if os.path.islink(path) or not os.path.isdir(path):
                self._lose(deleted, inner)

    def _lose(self, deleted: set[bytes], folder: bytes) -> None:
        """A folder that is no longer there."""
        deleted.update(folder + b"/" + name for name in self.tracked.expected(folder))
        for name in self.tracked.below(folder):
            self._lose(deleted, folder + b"/" + name)


def _names(folder: str) -> list[bytes]:
    with suppress(OSError):
        return list(map(os.fsencode, list_source(folder)))
    return []


def _is_as_tracked(path: str, entry: IndexEntry) -> tuple[bool, bool]:
    try:
        if entry.mode == index.MODE_SYMLINK:
            found = os.lstat(path)
            same = stat.S_ISLNK(found.st_mode) and object_id(b"blob", read_link(path)) == entry.blob
            return same, same and racy_ns(found, time.time_ns()) > 0
        fd = open_source(path)
    except OSError:
        return False, False
    with open(fd, "rb", buffering=0) as file:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
            return False, False
        if (entry.mode == index.MODE_EXECUTABLE) != bool(found.st_mode & 0o100):
            return False, False
        now = time.time_ns()
        digest = hashlib.sha1(b"blob %d\0" % found.st_size, usedforsecurity=False)
        try:
            while data := file.read(_AT_ONCE):
                digest.update(data)
        except OSError:
            return False, False
        same = digest.digest() == entry.blob
        return same, same and racy_ns(found, now) > 0
