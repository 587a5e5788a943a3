"""What is said of a project and depends on more than its folder, and whether that is still as it was.

No watcher of the project tells of such things: a repository that lies elsewhere, the user's settings of git, a remote
that is a folder, time that has passed. Nothing here is evidence: whoever doubts looks at everything.
"""

from __future__ import annotations

import hashlib
import math
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass

import msgpack

from gitvault.core.stat_cache import racy_ns

_MOST = 5_000
"""Files and folders that are looked at: some 10 ms."""


@dataclass(frozen=True, slots=True)
class Beside:
    """Places outside of a project that something about it depends on; absolute paths."""

    files: frozenset[str] = frozenset()
    """They count by their stat, whether anything is there or not."""
    folders: frozenset[str] = frozenset()
    """They count with all that is below them, but for git's objects."""
    until: float = math.inf
    """When time alone changes what is said, in seconds since 1970."""

    def __or__(self, other: Beside) -> Beside:
        """Both of them."""
        return Beside(self.files | other.files, self.folders | other.folders, min(self.until, other.until))

    @classmethod
    def of(cls, noted: bytes) -> Beside | None:
        """What was noted; None where that is nothing, or damaged."""
        found = _read(noted)
        return found[0] if found else None

    def noted(self, read_ns: int) -> bytes:
        """How all of it is now, for `still`; b"" when something may have changed since `read_ns`, or is too much.

        `read_ns`: when the first of it was read, in nanoseconds since 1970.
        """
        if not (digest := self._digest(read_ns)):
            return b""
        return msgpack.packb(  # type: ignore[no-any-return]
            (sorted(self.files), sorted(self.folders), self.until, digest), unicode_errors="surrogateescape"
        )

    def _digest(self, read_ns: int) -> bytes:
        looked = list(self._look(read_ns))
        if len(looked) > _MOST or b"" in looked:
            return b""
        return hashlib.sha1(b"\0".join(looked), usedforsecurity=False).digest()

    def _look(self, read_ns: int) -> Iterator[bytes]:
        """A line for each place; b"" for one whose stat cannot be relied on, and nothing after it."""
        pending = [(path, path in self.folders) for path in sorted(self.files | self.folders)]
        for count, (path, with_content) in enumerate(pending):
            yield (said := _state(path, read_ns, with_content))
            if not said or count > _MOST:
                return
            if with_content and os.path.isdir(path):
                try:
                    with os.scandir(path) as listed:
                        inside = sorted((e.path, e.is_dir(follow_symlinks=False)) for e in listed)
                except OSError:
                    yield b""
                    return
                pending += [one for one in inside if os.path.basename(one[0]) != "objects"]


def still(noted: bytes, now: float) -> bool:
    """Whether everything is as it was noted, and it is not yet too late; `now`: in seconds since 1970."""
    found = _read(noted)
    return found is not None and now < found[0].until and found[0]._digest(0) == found[1]


def _read(noted: bytes) -> tuple[Beside, bytes] | None:
    """With the digest of what is there."""
    try:
        files, folders, until, digest = msgpack.unpackb(noted, unicode_errors="surrogateescape", use_list=False)
        if not all(os.path.isabs(path) and "\0" not in path for path in (*files, *folders)):
            return None
        # Of a number `bytes` would make that many.
        if not isinstance(digest, bytes):
            return None
        return Beside(frozenset(files), frozenset(folders), float(until)), digest
    except (ValueError, TypeError, OverflowError, msgpack.UnpackException):
        return None


def _state(path: str, read_ns: int, is_folder: bool) -> bytes:
    """What is at a path and, for a link, behind it."""
    parts = [os.fsencode(path)]
    for look in (os.lstat, os.stat):
        try:
            found = look(path)
        except (FileNotFoundError, NotADirectoryError):
            parts.append(b"nothing")
            if not is_folder:
                break
            # It may have been there a moment ago, which the folder around it tells.
            found = _around(path)
        except OSError:
            return b""
        else:
            parts.append(b"%d %d %d %d" % (found.st_ctime_ns, found.st_mtime_ns, found.st_size, found.st_ino))
        if read_ns and racy_ns(found, read_ns):
            return b""
        if not stat.S_ISLNK(found.st_mode):
            break
    return b" ".join(parts)


def _around(path: str) -> os.stat_result:
    """The stat of the innermost folder around a path."""
    while True:
        path = os.path.dirname(path)
        try:
            return os.stat(path)
        except OSError:
            if path == os.path.dirname(path):
                raise
