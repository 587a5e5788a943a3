"""Writing beneath a folder and nowhere else.

On POSIX every step is relative to an opened folder and follows no symlink, so that neither a name stored
in a vault nor a link put in the way while a restore runs can lead outside. Windows has no such calls:
there, each name is checked and joined to the folder's path.
"""

from __future__ import annotations

import contextlib
import os
import stat
import sys
from pathlib import Path

from gitvault.core.utils.files import HAS_DIR_FD

_FOLDER = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
_NEW = (
    os.O_WRONLY
    | os.O_CREAT
    | os.O_EXCL
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_BINARY", 0)
)


def is_plain(name: bytes) -> bool:
    """Whether `name` is the name of something in a folder, not a way out of it."""
    if sys.platform == "win32" and (b"\\" in name or b":" in name):
        # A path, a drive or a stream.
        return False
    return name not in (b"", b".", b"..") and b"/" not in name and b"\0" not in name


class TargetFolder:
    """An opened folder. Every name given to a method is one component; others raise ValueError."""

    def __init__(self, path: str, fd: int) -> None:
        self._path = path
        self.fd = fd

    @classmethod
    def open(cls, path: Path) -> TargetFolder:
        """Open the folder that a person named; it must exist."""
        if not HAS_DIR_FD:
            return cls(os.fspath(path), -1)
        return cls(os.fspath(path), os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))

    def enter(self, name: bytes) -> TargetFolder:
        """Open a folder in this one. Raises OSError when it is missing or no folder (a symlink is none)."""
        text = self._checked(name)
        below = os.path.join(self._path, text)
        if not HAS_DIR_FD:
            if not stat.S_ISDIR(os.lstat(below).st_mode):
                raise NotADirectoryError(20, "Not a directory", below)
            return TargetFolder(below, -1)
        return TargetFolder(below, os.open(text, _FOLDER, dir_fd=self.fd))

    def descend(self, path: bytes) -> TargetFolder:
        """Open the folder at a path of any length below this one; b"" opens this folder again."""
        at = TargetFolder(self._path, os.dup(self.fd) if HAS_DIR_FD else -1)
        for name in path.split(b"/") if path else ():
            with at:
                at = at.enter(name)
        return at

    def lstat(self, name: bytes) -> os.stat_result | None:
        """What has this name; None when nothing has."""
        path, where = self._where(name)
        try:
            return os.stat(path, follow_symlinks=False, **where)
        except FileNotFoundError:
            return None

    def mkdir(self, name: bytes) -> None:
        """Make a folder that only this user can enter."""
        path, where = self._where(name)
        os.mkdir(path, 0o700, **where)

    def create(self, name: bytes) -> int:
        """A descriptor that writes a new file. Raises FileExistsError."""
        path, where = self._where(name)
        return os.open(path, _NEW, 0o600, **where)

    def symlink(self, target: bytes, name: bytes) -> None:
        """Make a symlink. Raises FileExistsError."""
        path, where = self._where(name)
        os.symlink(os.fsdecode(target), path, dir_fd=where.get("dir_fd"))

    def link(self, source: TargetFolder, source_name: bytes, name: bytes) -> None:
        """Give a file that another folder holds a second name here. Raises FileExistsError."""
        path, where = self._where(name)
        old, _ = source._where(source_name)
        if where:
            os.link(old, path, src_dir_fd=source.fd, dst_dir_fd=self.fd, follow_symlinks=False)
        else:
            os.link(old, path)

    def rename(self, old: bytes, new: bytes) -> None:
        """Rename within this folder, replacing a file of the new name."""
        path, where = self._where(new)
        if where:
            os.replace(self._checked(old), path, src_dir_fd=self.fd, dst_dir_fd=self.fd)
        else:
            os.replace(os.path.join(self._path, self._checked(old)), path)

    def unlink(self, name: bytes) -> None:
        """Remove a file or symlink."""
        path, where = self._where(name)
        os.unlink(path, **where)

    def rmdir(self, name: bytes) -> None:
        """Remove an empty folder."""
        path, where = self._where(name)
        os.rmdir(path, **where)

    def set_times(self, name: bytes | None, mtime_ns: int) -> None:
        """Set modification time (and access time) of an entry, not following a symlink; None: of the folder itself."""
        if name is None:
            os.utime(self.fd if HAS_DIR_FD else self._path, ns=(mtime_ns, mtime_ns))
            return
        path, where = self._where(name)
        if os.utime in os.supports_follow_symlinks:
            os.utime(path, ns=(mtime_ns, mtime_ns), dir_fd=where.get("dir_fd"), follow_symlinks=False)

    def set_owner(self, name: bytes, owner: tuple[int, int]) -> None:
        """Set the owner of an entry, not following a symlink."""
        path, where = self._where(name)
        os.chown(path, *owner, follow_symlinks=False, **where)

    def path(self) -> str:
        """For messages, and for calls that take no descriptor."""
        return self._path

    def close(self) -> None:
        """Close; harmless when closed."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def __enter__(self) -> TargetFolder:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _checked(self, name: bytes) -> str:
        if not is_plain(name):
            raise ValueError(f"{name!r} is not a name in a folder")
        return os.fsdecode(name)

    def _where(self, name: bytes) -> tuple[str, dict[str, int]]:
        text = self._checked(name)
        if HAS_DIR_FD:
            return text, {"dir_fd": self.fd}
        return os.path.join(self._path, text), {}


class Descent:
    """Folders below a root, opened one after another in an order where the next is near the last.

    Folders on the way stay open, so that the next one costs a step; below `_ALL_OPEN` levels only every 32nd
    does: a path of 4,000 bytes can be 2,000 folders, and a process may have no more than 1,024 files open.
    """

    def __init__(self, root: TargetFolder) -> None:
        """`root` is left open."""
        self._open: list[tuple[bytes, int, TargetFolder]] = [(b"", 0, root.descend(b""))]

    def to(self, path: bytes) -> TargetFolder:
        """The folder at `path`, for the caller to close. Raises OSError when it is missing or no folder."""
        while not _leads_to(self._open[-1][0], path):
            self._open.pop()[2].close()
        near, depth, at = self._open[-1]
        at = at.descend(b"")
        for name in path[len(near) :].split(b"/") if path != near else ():
            if not name:
                continue
            with at:
                at = at.enter(name)
            near = near + b"/" + name if near else name
            depth += 1
            if depth < _ALL_OPEN or not depth % 32:
                self._open.append((near, depth, at.descend(b"")))
        return at

    def close(self) -> None:
        """Close what is open."""
        while self._open:
            self._open.pop()[2].close()

    def __enter__(self) -> Descent:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


_ALL_OPEN = 64


def _leads_to(folder: bytes, path: bytes) -> bool:
    return not folder or path == folder or path.startswith(folder + b"/")


def write_holes(fd: int, data: bytes | memoryview, block: int = 4096) -> None:
    """Write at the file's position, leaving holes for blocks of zeros; the caller sets the length in the end."""
    zero = bytes(block)
    view = memoryview(data)
    start = 0
    for at in range(0, len(view), block):
        if view[at : at + block] == zero[: len(view) - at]:
            if start < at:
                write_all(fd, view[start:at])
            os.lseek(fd, min(block, len(view) - at), os.SEEK_CUR)
            start = at + block
    if start < len(view):
        write_all(fd, view[start:])


def write_all(fd: int, data: bytes | memoryview) -> None:
    """Write everything at the file's position."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def discard(folder: TargetFolder, name: bytes) -> None:
    """Remove a half-written file if it is there."""
    with contextlib.suppress(OSError):
        folder.unlink(name)
