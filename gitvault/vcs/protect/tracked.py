"""What an index says, folder by folder. Read from the index once; while that stays as it is, from a cache.

50,000 entries take 0.3 s to read, sort and hash in Python and 15 ms to get back.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import msgpack

from gitvault.core.utils.files import Disk
from gitvault.core.versioning.objects import object_id
from gitvault.errors import StorageFullError
from gitvault.vcs.protect import index, record
from gitvault.vcs.protect.index import IndexEntry

# Fewer are read as fast as a cache.
_CACHED_FROM = 2000
_FORM = 2


class Folder(NamedTuple):
    """A folder of a checkout."""

    digest: bytes
    """Of all that the index says of its files."""
    expected: Sequence[bytes]
    """Names of files that are on the disk unless they were deleted there."""
    below: Sequence[bytes]
    """Names of its folders."""


_NOTHING = Folder(b"", (), ())


class Tracked:
    """An index. `data`: its bytes, nothing for a checkout without one. Raises UnreadableIndex."""

    def __init__(self, data: bytes, cache: TrackedCache) -> None:
        self._data = data
        known = cache.load(data[-20:])
        if known is None:
            known = self._digested()
            if len(self.entries) >= _CACHED_FROM:
                cache.save(data[-20:], known)
        self.checksum = known.checksum
        """Of the plain form."""
        self.pieces = known.pieces
        """The names under which that is attached to a snapshot, and the ids of their blobs."""
        self.links = known.links
        """Paths of submodules."""
        self._folders = known.folders

    def folder(self, path: bytes) -> Folder:
        """What it says of a folder; nothing where it knows of none."""
        found = self._folders.get(path)
        return Folder(*found) if found else _NOTHING

    def knows(self, path: bytes) -> bool:
        """Whether it knows of a folder; of the top it does always."""
        return path in self._folders

    def __len__(self) -> int:
        """How many folders it knows of."""
        return len(self._folders)

    @cached_property
    def entries(self) -> list[IndexEntry]:
        """All of it, in git's order."""
        return index.parse(self._data) if self._data else []

    @cached_property
    def plain(self) -> bytes:
        """Its plain form."""
        return index.encode(self.entries)

    def files(self, folder: bytes) -> dict[bytes, IndexEntry]:
        """The entries of a folder by name; of those in conflict the last."""
        return self._by_folder.get(folder, {})

    @cached_property
    def _by_folder(self) -> dict[bytes, dict[bytes, IndexEntry]]:
        found: dict[bytes, dict[bytes, IndexEntry]] = {}
        for entry in self.entries:
            folder, _, name = entry.path.rpartition(b"/")
            found.setdefault(folder, {})[name] = entry
        return found

    def _digested(self) -> _Known:
        below: dict[bytes, list[bytes]] = {}
        met: set[bytes] = set()
        for folder in self._by_folder:
            while folder and folder not in met:
                met.add(folder)
                folder, _, name = folder.rpartition(b"/")
                below.setdefault(folder, []).append(name)
        folders = {}
        for folder in met | {b""}:
            said = [b"%d %s %d %d %s" % (e[1], e[2], e[4], e[5], e[0]) for e in self.files(folder).values()]
            digest = hashlib.sha1(b"\0".join(said), usedforsecurity=False).digest()
            expected = [name for name, entry in self.files(folder).items() if entry.is_expected]
            folders[folder] = digest, expected, below.get(folder, [])
        pieces = [(name, object_id(b"blob", piece)) for name, piece in record.pieces(record.INDEX, self.plain)]
        links = [entry.path for entry in self.entries if entry.mode == index.MODE_GITLINK]
        return _Known(self.plain[-20:], pieces, links, folders)


class _Known(NamedTuple):
    """What is cached."""

    checksum: bytes
    pieces: Sequence[tuple[bytes, bytes]]
    links: Sequence[bytes]
    folders: Mapping[bytes, tuple[bytes, Sequence[bytes], Sequence[bytes]]]


class TrackedCache:
    """What was made of the index of one checkout. A damaged file is as good as none."""

    def __init__(self, folder: Path, checkout: str, disk: Disk) -> None:
        """`folder`: the vault's for caches."""
        self._disk = disk
        name = hashlib.sha1(os.fsencode(checkout), usedforsecurity=False).hexdigest()
        self._file = folder / f"index-{name}"

    def load(self, checksum: bytes) -> _Known | None:
        """What was made of the index with this checksum."""
        try:
            data = self._file.read_bytes()
        except OSError:
            return None
        head, packed = data[:40], data[40:]
        if head != checksum + hashlib.sha1(packed, usedforsecurity=False).digest() or not any(checksum):
            return None
        form, *known = msgpack.unpackb(
            packed, unicode_errors="surrogateescape", use_list=False, strict_map_key=False, max_map_len=len(packed)
        )
        return _Known(*known) if form == _FORM else None

    def save(self, checksum: bytes, known: _Known) -> None:
        """Keep it; where that cannot be, it is made again."""
        packed = msgpack.packb((_FORM, *known), unicode_errors="surrogateescape")
        head = checksum + hashlib.sha1(packed, usedforsecurity=False).digest()
        temporary = self._file.with_name(f"{self._file.name}.{os.getpid()}.tmp")
        with suppress(OSError, StorageFullError):
            self._disk.make_folder(self._file.parent)
            self._disk.unlink(temporary)
            with self._disk.create(temporary) as file:
                file.write(head + packed)
            # Not synced: its checksum tells whether it came through a power cut.
            self._disk.rename(temporary, self._file)
