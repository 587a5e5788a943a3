"""The one door to the disk: every byte the vault writes passes through `Disk`.

Nothing else in the package renames, syncs or unlinks, so that one object decides what
"durable" means here and a test can record, fail or kill at any single operation.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from gitvault.errors import StorageFullError

_NOATIME = getattr(os, "O_NOATIME", 0)
_CLOEXEC = getattr(os, "O_CLOEXEC", 0)
_NOFOLLOW = getattr(os, "O_NOFOLLOW", 0)
# Opening a FIFO that took a file's place must not wait for a writer.
_READ = os.O_RDONLY | _CLOEXEC | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | _NOFOLLOW
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _CLOEXEC | getattr(os, "O_BINARY", 0) | _NOFOLLOW
HAS_DIR_FD = os.open in os.supports_dir_fd and os.scandir in os.supports_fd


def open_source(path: str | bytes, dir_fd: int | None = None) -> int:
    """A descriptor that reads a user's file or folder, without touching its access time where the OS allows it."""
    try:
        return os.open(path, _READ | _NOATIME, dir_fd=dir_fd)
    except PermissionError:
        # Only the owner may use O_NOATIME, everyone else gets EPERM.
        return os.open(path, _READ, dir_fd=dir_fd)
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG or not HAS_DIR_FD:
            raise
    with _parent_of_long(path, dir_fd) as (parent, name):
        return open_source(name, parent)


def read_link(path: str) -> bytes:
    """A symlink's target."""
    try:
        return os.readlink(os.fsencode(path))
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG or not HAS_DIR_FD:
            raise
    with _parent_of_long(path, None) as (parent, name):
        return os.readlink(os.fsencode(name), dir_fd=parent)


@contextlib.contextmanager
def _parent_of_long(path: str | bytes, dir_fd: int | None) -> Iterator[tuple[int, str | bytes]]:
    """The opened parent of a path that is longer than the system takes in one call, and the last name."""
    head, tail = os.path.split(path)
    if not head or head == path:
        # One name that no file system holds: there is no way round that.
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), path)
    fd = open_source(head, dir_fd)
    try:
        yield fd, tail
    finally:
        os.close(fd)


@contextlib.contextmanager
def full_disk_named(what: Path) -> Iterator[None]:
    """Turn "no space left" into StorageFullError, naming where."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFullError(
                f"{what}: no space left on the disk; free some space and run again, nothing saved before is affected"
            ) from error
        raise


class NewFile:
    """A file being written; its bytes count only after `sync`."""

    def __init__(self, path: Path, mode: int) -> None:
        self.path = path
        self.size = 0
        self._fd = os.open(path, _CREATE, mode)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append all of `data`."""
        view = memoryview(data)
        with full_disk_named(self.path.parent):
            while view:
                written = os.write(self._fd, view)
                self.size += written
                view = view[written:]

    def overwrite(self, offset: int, data: bytes) -> None:
        """Replace bytes written before; `offset` and `data` lie within them. Writing goes on at the end."""
        os.lseek(self._fd, offset, os.SEEK_SET)
        os.write(self._fd, data)
        os.lseek(self._fd, 0, os.SEEK_END)

    def sync(self) -> None:
        """Return when the content is on the medium."""
        with full_disk_named(self.path.parent):
            _sync(self._fd)

    def close(self) -> None:
        """Close; harmless when closed."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> NewFile:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class Disk:
    """What the vault asks of a file system. Every method either happened or raised OSError."""

    def create(self, path: Path, mode: int = 0o600) -> NewFile:
        """A new file; FileExistsError when the name is taken."""
        with full_disk_named(path.parent):
            return NewFile(path, mode)

    def rename(self, source: Path, target: Path) -> None:
        """Give a closed file its final name, replacing what had it; durable after `sync_folder`."""
        with full_disk_named(target.parent):
            os.replace(source, target)

    def link(self, source: Path, target: Path) -> None:
        """Give a file a second name; OSError where the file system has no hard links."""
        os.link(source, target)

    def sync_file(self, path: Path) -> None:
        """Make durable what another program wrote; git leaves its packs read-only, which would forbid it."""
        os.chmod(path, 0o600)
        fd = os.open(path, os.O_RDWR | _CLOEXEC | getattr(os, "O_BINARY", 0))
        try:
            _sync(fd)
        finally:
            os.close(fd)

    def sync_folder(self, path: Path) -> None:
        """Make the names in a folder durable. Systems without folder sync are left alone, I/O errors are not."""
        if sys.platform == "win32":
            return
        fd = os.open(path, os.O_RDONLY | _CLOEXEC)
        try:
            _sync(fd)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOTSUP):
                raise
        finally:
            os.close(fd)

    def make_folder(self, path: Path, mode: int = 0o700) -> None:
        """Make a folder and its parents; an existing one is fine."""
        with full_disk_named(path):
            path.mkdir(mode=mode, parents=True, exist_ok=True)

    def remove_folder(self, path: Path) -> None:
        """Remove a folder; one that is missing or not empty is left as it is."""
        with contextlib.suppress(FileNotFoundError):
            try:
                path.rmdir()
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise

    def unlink(self, path: Path) -> None:
        """Remove a file; a missing one is fine."""
        if sys.platform == "win32":
            # Windows refuses to remove what is read-only, as git's packs are.
            with contextlib.suppress(FileNotFoundError):
                os.chmod(path, 0o600)
        path.unlink(missing_ok=True)

    def write_durably(self, path: Path, data: bytes, mode: int = 0o600) -> None:
        """Replace a file's content in one step: temporary file, sync, rename, folder sync."""
        temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
        self.unlink(temporary)
        try:
            with self.create(temporary, mode) as new:
                new.write(data)
                new.sync()
            self.rename(temporary, path)
        except BaseException:
            self.unlink(temporary)
            raise
        self.sync_folder(path.parent)


def _sync(fd: int) -> None:
    if sys.platform == "darwin":
        import fcntl

        # fsync on macOS leaves data in the drive's cache.
        try:
            fcntl.fcntl(fd, fcntl.F_FULLFSYNC)
            return
        except OSError as error:
            if error.errno not in (errno.ENOTSUP, errno.ENOTTY, errno.EINVAL):
                raise
    os.fsync(fd)
