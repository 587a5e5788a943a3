"""Objects in a folder: another disk, a network share."""

from __future__ import annotations

import errno
import os
import secrets
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from gitvault.core.utils.files import Disk, open_plain
from gitvault.errors import (
    NotFoundError,
    RemoteFull,
    RemoteRefused,
    RemoteUnreachable,
    StorageFullError,
)
from gitvault.remotes.places import Stored

_TEMPORARY = ".tmp"
_REFUSED = (errno.EACCES, errno.EPERM, errno.ENOTDIR)


class Folder:
    """See Place; tries once."""

    def __init__(self, root: Path, disk: Disk) -> None:
        """The folder is made by the first `put` when the one it is in is there."""
        self.requests: Counter[str] = Counter()
        self._root = root
        self._disk = disk
        self._settled: set[Path] = set()

    def put(self, name: str, content: bytes) -> None:
        """See Place. Durable when this returns."""
        path = self._root / name
        temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}{_TEMPORARY}")
        with self._said(name):
            if not self._root.parent.is_dir():
                # Where a disk is not mounted nothing may be written into the folder it would be mounted on.
                raise RemoteUnreachable(f"{self._root.parent}: not there; mount it, or make the folder")
            self._disk.make_folder(path.parent)
            try:
                with self._disk.create(temporary) as file:
                    file.write(content)
                    file.sync()
                if temporary.read_bytes() != content:
                    raise RemoteUnreachable(f"{temporary}: does not read back as it was written; check that disk")
                self._disk.rename(temporary, path)
            except BaseException:
                with suppress(OSError):
                    self._disk.unlink(temporary)
                raise
            self._disk.sync_folder(path.parent)
            self._settle(path.parent)

    def get(self, name: str, start: int = 0, length: int | None = None) -> bytes:
        """See Place."""
        with self._said(name), open_plain(self._root / name, buffering=0) as file:
            file.seek(start)
            return file.read(-1 if length is None else length)

    def names(self, prefix: str = "") -> Iterator[Stored]:
        """See Place."""
        with self._said(prefix or "."):
            if not self._root.is_dir():
                raise RemoteUnreachable(f"{self._root}: no such folder; mount it, or make it")
            yield from self._below(self._root / prefix, prefix)

    def _settle(self, folder: Path) -> None:
        """Make durable the names of a folder and of those it is in: this process made them, or one that was killed."""
        while folder != self._root.parent and folder not in self._settled:
            self._disk.sync_folder(folder.parent)
            self._settled.add(folder)
            folder = folder.parent

    def _below(self, folder: Path, prefix: str) -> Iterator[Stored]:
        try:
            with os.scandir(folder) as listed:
                entries = sorted(listed, key=lambda entry: entry.name + "/" * entry.is_dir(follow_symlinks=False))
        except FileNotFoundError:
            return
        if prefix.startswith("machines/"):
            # A push was killed after it had named its record: whoever finds that relies on it. One can read what is
            # not one's own, and sync nothing there.
            with suppress(PermissionError):
                self._disk.sync_folder(folder)
                self._settle(folder)
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from self._below(folder / entry.name, f"{prefix}{entry.name}/")
            elif entry.is_file(follow_symlinks=False) and not entry.name.endswith(_TEMPORARY):
                stat = entry.stat(follow_symlinks=False)
                yield Stored(prefix + entry.name, stat.st_size, stat.st_mtime)

    def delete(self, names: Sequence[str]) -> None:
        """See Place."""
        for name in names:
            with self._said(name), suppress(FileNotFoundError):
                self._disk.unlink(self._root / name)
        for folder in {(self._root / name).parent for name in names}:
            with self._said(folder.name), suppress(FileNotFoundError):
                self._disk.sync_folder(folder)

    def versions(self, name: str) -> Iterator[bytes]:
        """See Place: the one there is."""
        with suppress(NotFoundError):
            yield self.get(name)

    def close(self) -> None:
        """See Place."""

    @contextmanager
    def _said(self, name: str) -> Iterator[None]:
        try:
            yield
        except StorageFullError as error:
            raise RemoteFull(f"{self._root}: no space left there; free some, or prune the remote") from error
        except (FileNotFoundError, IsADirectoryError) as error:
            raise NotFoundError(f"{self._root}: no {name} in it") from error
        except OSError as error:
            if error.errno == errno.EROFS:
                raise RemoteRefused(f"{self._root}: {error.strerror}; mount it writable") from error
            if error.errno in _REFUSED:
                raise RemoteRefused(f"{self._root}: {error.strerror}; look at who owns it") from error
            raise RemoteUnreachable(f"{self._root}: {error.strerror or error}; run again when it is back") from error
