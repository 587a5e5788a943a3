"""The one door to the disk: every byte the vault writes passes through `Disk`.

Nothing else in the package renames, syncs or unlinks, so that one object decides what
"durable" means here and a test can record, fail or kill at any single operation.
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import stat
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from gitvault.errors import CorruptionError, StorageFullError

_NOATIME = getattr(os, "O_NOATIME", 0)
_CLOEXEC = getattr(os, "O_CLOEXEC", 0)
_NOFOLLOW = getattr(os, "O_NOFOLLOW", 0)
# Opening a FIFO that took a file's place must not wait for a writer.
_READ = os.O_RDONLY | _CLOEXEC | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | _NOFOLLOW
_DIRECT = getattr(os, "O_DIRECT", 0)
_BLOCK = 4 << 20
_ALIGNED = 4096
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


@contextlib.contextmanager
def scan_source(path: str | os.PathLike[str]) -> Iterator[Iterator[os.DirEntry[str]]]:
    """The entries of a user's folder, without touching its access time where the OS allows it. Raises OSError.

    Each entry's `path` is no more than its name.
    """
    if os.scandir not in os.supports_fd:
        with os.scandir(path) as listed:
            yield listed
        return
    fd = open_source(os.fspath(path))
    try:
        with os.scandir(fd) as listed:
            yield listed
    finally:
        os.close(fd)


def list_source(path: str | os.PathLike[str]) -> list[str]:
    """The names in a user's folder, likewise. Raises OSError."""
    with scan_source(path) as listed:
        return [entry.name for entry in listed]


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


def is_full(error: OSError) -> bool:
    """Whether it says that the disk, or the user's share of it, is full."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


@contextlib.contextmanager
def full_disk_named(what: Path) -> Iterator[None]:
    """Turn "no space left" into StorageFullError, naming where."""
    try:
        yield
    except OSError as error:
        if is_full(error):
            raise StorageFullError(
                f"{what}: no space left on the disk; free some space and run again, nothing saved before is affected"
            ) from error
        raise


def open_plain(path: Path, *, buffering: int = -1) -> BinaryIO:
    """A regular file for reading, links followed.

    Raises CorruptionError for what is none: a pipe would have its reader wait, a device has no end. OSError.
    """
    fd = os.open(path, _READ & ~_NOFOLLOW)
    try:
        kind = stat.S_IFMT(os.fstat(fd).st_mode)
        if kind == stat.S_IFDIR:
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
        if kind != stat.S_IFREG:
            raise CorruptionError(f"{path}: expected a file; restore it from a copy")
        return open(fd, "rb", buffering=buffering)
    except BaseException:
        os.close(fd)
        raise


def read_plain(path: Path, limit: int) -> bytes:
    """What `open_plain` opens, whole. Raises CorruptionError also for more than `limit` bytes."""
    with open_plain(path) as file:
        if os.fstat(file.fileno()).st_size > limit:
            raise CorruptionError(f"{path}: expected a file of at most {limit} bytes; restore it from a copy")
        return file.read(limit)


def create_private(path: Path) -> None:
    """An empty file for its owner alone, for a library that opens it by name; one that is there stays as it is.

    Raises OSError, also for a symlink in its place.
    """
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | _CLOEXEC | _NOFOLLOW, 0o600))


class NewFile:
    """A file being written; its bytes count only after `sync`."""

    def __init__(self, path: Path, mode: int) -> None:
        self.path = path
        self.size = 0
        self._fd = os.open(path, _CREATE, mode)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append all of `data`."""
        self.size += self._put(data)

    def read(self, offset: int, length: int) -> bytes:
        """Bytes written before; fewer where the file ends."""
        with self.path.open("rb", buffering=0) as file:
            file.seek(offset)
            return file.read(length)

    def overwrite(self, offset: int, data: bytes) -> None:
        """Replace bytes written before; `offset` and `data` lie within them. Writing goes on at the end."""
        os.lseek(self._fd, offset, os.SEEK_SET)
        self._put(data)
        os.lseek(self._fd, 0, os.SEEK_END)

    def fill(self, size: int) -> None:
        """Let the file be `size` bytes, whatever they are, that the disk has set aside; for a new file."""
        with full_disk_named(self.path.parent):
            if sys.platform == "linux":
                os.posix_fallocate(self._fd, 0, size)
                self.size = size
            else:
                # Zeros may take no room.
                self.write(os.urandom(size))

    def _put(self, data: bytes | bytearray | memoryview) -> int:
        view = memoryview(data)
        with full_disk_named(self.path.parent):
            while view:
                view = view[os.write(self._fd, view) :]
        return len(data)

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


def _aligned(size: int) -> memoryview:
    """Memory that begins with a page."""
    if sys.platform == "win32":
        return memoryview(mmap.mmap(-1, size))
    # Python's default is shared memory, which costs as much again.
    return memoryview(mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))


# Used again: new pages have to be cleared by the system, a third of what writing them costs.
_spare: list[memoryview] = []
_CLOSED = memoryview(b"")


class DirectWriter:
    """Appends to an opened file past the page cache, where the system lets it: for much that is not read soon.

    2 GB took 0.2 s of processor instead of 0.7, and of 2 to 4 where memory had to be found for them first; and
    what the user works with stays in memory. For one thread.
    """

    def __init__(self, fd: int) -> None:
        """`fd`: at the end of a file whose length is a multiple of 4096."""
        self._fd = fd
        # Direct writes want aligned memory, offsets and lengths.
        try:
            self._buffer = _spare.pop()
        except IndexError:
            self._buffer = _aligned(_BLOCK)
        self._direct = _set_direct(fd, True)
        self.held = 0
        """Bytes at the end that are not in the file yet."""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append all of `data`, sooner or later."""
        view = memoryview(data)
        while view:
            taken = min(len(view), _BLOCK - self.held)
            self._buffer[self.held : self.held + taken] = view[:taken]
            self.held += taken
            view = view[taken:]
            if self.held == _BLOCK:
                self._put(0, _BLOCK)
                self.held = 0

    def tail(self, start: int, stop: int) -> bytes:
        """A part of what is held."""
        return bytes(self._buffer[start:stop])

    def finish(self) -> None:
        """Write what is held; no more can be appended."""
        whole = self.held - self.held % _ALIGNED
        try:
            self._put(0, whole)
            self._direct = self._direct and _set_direct(self._fd, False)
            self._put(whole, self.held)
        finally:
            self.close()

    def close(self) -> None:
        """Drop what is held; the file stays open."""
        self.held = 0
        if len(_spare) < 4 and self._buffer:
            _spare.append(self._buffer)
        self._buffer = _CLOSED

    def _put(self, start: int, stop: int) -> None:
        view = self._buffer[start:stop]
        while view:
            try:
                view = view[os.write(self._fd, view) :]
            except OSError as error:
                # A file system that takes the flag and not the write, or the rest of a block it took in part.
                if error.errno != errno.EINVAL or not self._direct:
                    raise
                self._direct = _set_direct(self._fd, False)


class UncachedFile(NewFile):
    """A new file written by a DirectWriter. One thread writes, others may read what was written."""

    def __init__(self, path: Path, mode: int) -> None:
        super().__init__(path, mode)
        self._lock = threading.Lock()
        self._writer = DirectWriter(self._fd)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append all of `data`."""
        with self._lock, full_disk_named(self.path.parent):
            self._writer.write(data)
            self.size += len(data)

    def read(self, offset: int, length: int) -> bytes:
        """Bytes written before; fewer where the file ends."""
        with self._lock:
            start = self.size - self._writer.held
            stop = min(offset + length, self.size)
            inside = self._writer.tail(max(offset - start, 0), stop - start) if stop > start else b""
        return super().read(offset, min(length, start - offset)) + inside if offset < start else inside

    def sync(self) -> None:
        """Return when the content is on the medium; nothing can be written any more."""
        with self._lock, full_disk_named(self.path.parent):
            self._writer.finish()
        super().sync()

    def close(self) -> None:
        """Close; harmless when closed."""
        with self._lock:
            self._writer.close()
        super().close()


def _set_direct(fd: int, wanted: bool) -> bool:
    """Whether writes go past the page cache from now on."""
    if not _DIRECT:
        return False
    import fcntl

    flags = fcntl.fcntl(fd, fcntl.F_GETFL)
    with contextlib.suppress(OSError):
        fcntl.fcntl(fd, fcntl.F_SETFL, flags | _DIRECT if wanted else flags & ~_DIRECT)
        return wanted
    return False


class Disk:
    """What the vault asks of a file system. Every method either happened or raised OSError."""

    def create(self, path: Path, mode: int = 0o600) -> NewFile:
        """A new file; FileExistsError when the name is taken."""
        with full_disk_named(path.parent):
            return NewFile(path, mode)

    def create_uncached(self, path: Path) -> NewFile:
        """The same for large content that is not read soon: written in large pieces, past the page cache."""
        with full_disk_named(path.parent):
            return UncachedFile(path, 0o600)

    def rename(self, source: Path, target: Path) -> None:
        """Give a closed file its final name, replacing what had it; durable after `sync_folder`."""
        with full_disk_named(target.parent):
            os.replace(source, target)

    def sync_file(self, path: Path) -> None:
        """Make durable what somebody else wrote into a file."""
        fd = os.open(path, os.O_RDWR | _CLOEXEC | _NOFOLLOW)
        try:
            _sync(fd)
        finally:
            os.close(fd)

    def link(self, source: Path, target: Path) -> None:
        """Give a file a second name; OSError where the file system has no hard links."""
        os.link(source, target)

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
        if path.is_dir():
            return
        with full_disk_named(path):
            # Not `parents=True`, which makes those for everybody.
            if not path.parent.exists():
                self.make_folder(path.parent, mode)
            path.mkdir(mode=mode, exist_ok=True)

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

    def replace_tail(self, path: Path, head: bytes, tail: bytes) -> None:
        """Write `tail` in place behind `head`, in a file that begins so; another one stays as it is. Not durable."""
        # Opened anew each time: closing is what makes a network share hand the bytes on.
        fd = os.open(path, os.O_RDWR | _CLOEXEC | _NOFOLLOW | getattr(os, "O_BINARY", 0))
        try:
            if os.read(fd, len(head)) == head:
                os.write(fd, tail)
        finally:
            os.close(fd)

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


class _FleetingFile(NewFile):
    def sync(self) -> None:
        """Nothing: it is gone before anybody could miss it."""


class FleetingDisk(Disk):
    """For folders that do not outlive the process: nothing waits for the medium."""

    def create(self, path: Path, mode: int = 0o600) -> NewFile:
        """A new file; FileExistsError when the name is taken."""
        with full_disk_named(path.parent):
            return _FleetingFile(path, mode)

    def create_uncached(self, path: Path) -> NewFile:
        """The same: it is read soon."""
        return self.create(path)

    def sync_file(self, path: Path) -> None:
        """Nothing."""

    def sync_folder(self, path: Path) -> None:
        """Nothing."""


def set_aside(path: Path, folder: Path, disk: Disk) -> Path:
    """Move a file into `folder`, durably, under its name or, when that is taken, with a number; where it is now.

    A missing one is fine.
    """
    target = folder / path.name
    number = 1
    while target.exists():
        number += 1
        target = folder / f"{path.name}.{number}"
    if path.exists():
        disk.make_folder(folder)
        disk.rename(path, target)
        # First where it came to: it must not be gone from both.
        disk.sync_folder(folder)
        disk.sync_folder(path.parent)
    return target


def copy_file(source: Path, target: Path, disk: Disk) -> None:
    """Write a new file with the content of another, synced. Raises StorageFullError, OSError."""
    with source.open("rb", buffering=0) as file, disk.create(target) as new:
        while data := file.read(1 << 20):
            new.write(data)
        new.sync()


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
