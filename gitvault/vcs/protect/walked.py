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

from gitvault.core.scan import racy_ns
from gitvault.core.utils.files import open_source, read_link
from gitvault.core.versioning.objects import object_id
from gitvault.vcs.protect import index
from gitvault.vcs.protect.index import IndexEntry
from gitvault.vcs.protect.tracked import Tracked

_AT_ONCE = 1 << 20
_STRANGE = re.compile(rb"(?:\A|/)(?:\.{0,2})(?:/|\Z)|\0")


class Walked:
    """The checkout in `folder`, with its base."""

    def __init__(self, folder: str, tracked: Tracked) -> None:
        self.folder = folder
        self.tracked = tracked
        self._deleted: set[bytes] = set()
        self._visited: set[bytes] = set()

    def seen(self, folder: bytes, names: Iterable[str]) -> None:
        """What a folder of the checkout holds now."""
        said = self.tracked.folder(folder)
        if not said.digest:
            return
        self._visited.add(folder)
        present = set(names)
        prefix = folder + b"/" if folder else b""
        self._deleted.update(prefix + os.fsencode(name) for name in said.expected if name not in present)
        for name in said.below:
            if name not in present:
                self._lose(prefix + os.fsencode(name))

    def is_base(self, folder: bytes, name: bytes) -> tuple[bool, bool]:
        """Whether a file or symlink is as the base has it; whether the look at it may have been late.

        A file written in the very moment it is hashed may have the same stat and other bytes.
        """
        entry = self.tracked.files(folder).get(name)
        if entry is None or not entry.is_file:
            return False, False
        return _is_as_tracked(os.path.join(self.folder, os.fsdecode(entry.path)), entry)

    def deleted(self) -> tuple[bytes, ...]:
        """The paths that the base has and the disk has not, sorted. After the walk."""
        if len(self._visited) < len(self.tracked):
            self._look_for_folders()
        # What a damaged or hostile base names is not to spoil the record.
        return tuple(sorted(path for path in self._deleted if not _STRANGE.search(path)))

    def _look_for_folders(self, folder: bytes = b"") -> None:
        """Where the base has a folder, there may be a file now."""
        for name in map(os.fsencode, self.tracked.folder(folder).below if folder in self._visited else ()):
            inner = folder + b"/" + name if folder else name
            if inner in self._visited:
                self._look_for_folders(inner)
                continue
            path = os.path.join(self.folder, os.fsdecode(inner))
            if os.path.islink(path) or not os.path.isdir(path):
                self._lose(inner)

    def _lose(self, folder: bytes) -> None:
        """A folder that is no longer there."""
        said = self.tracked.folder(folder)
        self._deleted.update(folder + b"/" + os.fsencode(name) for name in said.expected)
        for name in said.below:
            self._lose(folder + b"/" + os.fsencode(name))


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
