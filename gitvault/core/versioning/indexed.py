"""What the indexes of checkouts say, folder by folder: each read once, and while it stays as it is from a cache.

50,000 entries take 0.3 s to read, sort and hash in Python; what is cached of them, 3 ms to get back.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import msgpack

from gitvault.core.stat_cache import Stat, racy_ns, stat_of
from gitvault.core.utils.files import Disk, open_source
from gitvault.core.versioning import index
from gitvault.core.versioning.index import IndexEntry, UnreadableIndex
from gitvault.core.versioning.objects import object_id
from gitvault.errors import StorageFullError

PIECE = 8 << 20
"""Bytes of one file that is attached to a snapshot, at the most: it is held in memory as a whole."""
LONGEST = 1 << 28
"""Bytes of an index: 2 million files."""
# Fewer are read as fast as a cache.
_CACHED_FROM = 500
_FORM = 3
# Of fifty checkouts all of them would take 80 MiB.
_HELD = 3


class _Digest(NamedTuple):
    """What is cached."""

    checksum: bytes
    pieces: Sequence[bytes]
    links: Sequence[bytes]
    whole: Sequence[bytes]
    names: bytes
    folders: Mapping[bytes, bytes]


_EMPTY = _Digest(b"", (), (), (), b"", {b"": b""})


class Indexed:
    """An index, and what is to know of it without reading it. Of a checkout without one it says nothing."""

    def __init__(self, data: bytes | None, known: _Digest) -> None:
        """`data`: None for none."""
        self._data = data
        self._known = known

    @property
    def checksum(self) -> bytes:
        """Of its plain form: changes when anything that is staged does."""
        return self._known.checksum

    @property
    def pieces(self) -> Sequence[bytes]:
        """The ids of the blobs that its plain form is cut into."""
        return self._known.pieces

    @property
    def links(self) -> Sequence[bytes]:
        """Paths of submodules."""
        return self._known.links

    @property
    def whole(self) -> Sequence[bytes]:
        """Folders that a sparse index does not look into."""
        return self._known.whole

    @property
    def names(self) -> bytes:
        """A hash of all paths."""
        return self._known.names

    def digest(self, folder: bytes) -> bytes:
        """Of all that it says of a folder's own entries; b"" where it knows of no such folder."""
        return self._known.folders.get(folder, b"")

    def knows(self, folder: bytes) -> bool:
        """Whether it has something below a folder; of the top it says so always."""
        return folder in self._known.folders

    def __len__(self) -> int:
        """How many folders it knows of."""
        return len(self._known.folders)

    @cached_property
    def entries(self) -> list[IndexEntry]:
        """All of it, in git's order."""
        return [] if self._data is None else index.parse(self._data)

    @cached_property
    def plain(self) -> bytes:
        """Its plain form."""
        return index.encode(self.entries)

    def files(self, folder: bytes) -> Mapping[bytes, IndexEntry]:
        """The entries of a folder by name; of those in conflict the last."""
        return self._by_folder.get(folder, {})

    def expected(self, folder: bytes) -> list[bytes]:
        """Names of a folder's files that are on the disk unless they were deleted there."""
        return [name for name, entry in self.files(folder).items() if entry.is_expected]

    def below(self, folder: bytes) -> Sequence[bytes]:
        """Names of a folder's folders."""
        return self._below.get(folder, ())

    @cached_property
    def _by_folder(self) -> dict[bytes, dict[bytes, IndexEntry]]:
        found: dict[bytes, dict[bytes, IndexEntry]] = {}
        for entry in self.entries:
            folder, _, name = entry.path.rpartition(b"/")
            found.setdefault(folder, {})[name] = entry
        return found

    @cached_property
    def _below(self) -> dict[bytes, list[bytes]]:
        found: dict[bytes, list[bytes]] = {}
        for folder in self._known.folders or _folders(self._by_folder):
            if folder:
                around, _, name = folder.rpartition(b"/")
                found.setdefault(around, []).append(name)
        return found

    def _digested(self) -> _Digest:
        """What is to be cached of it. Raises UnreadableIndex."""
        folders = {}
        met = _folders(self._by_folder)
        below: dict[bytes, list[bytes]] = {}
        for folder in sorted(met - {b""}):
            around, _, name = folder.rpartition(b"/")
            below.setdefault(around, []).append(name)
        for folder in met:
            said = [b"%d %s %d %d %s" % (e[1], e[2], e[4], e[5], e[0]) for e in self.files(folder).values()]
            whole = b"\0".join((*said, b"", *below.get(folder, ())))
            folders[folder] = hashlib.sha1(whole, usedforsecurity=False).digest()
        plain = self.plain
        return _Digest(
            plain[-20:],
            [object_id(b"blob", plain[at : at + PIECE]) for at in range(0, len(plain), PIECE)],
            [entry.path for entry in self.entries if entry.mode == index.MODE_GITLINK],
            [entry.path.rstrip(b"/") for entry in self.entries if entry.mode == index.MODE_TREE],
            hashlib.sha1(b"\0".join([entry.path for entry in self.entries]), usedforsecurity=False).digest(),
            folders,
        )


def _folders(by_folder: Mapping[bytes, object]) -> set[bytes]:
    met = {b""}
    for folder in by_folder:
        while folder not in met:
            met.add(folder)
            folder = folder.rpartition(b"/")[0]
    return met


class Indexes:
    """Reads indexes; for one thread."""

    def __init__(self, cache: Path | None = None, disk: Disk | None = None) -> None:
        """`cache`: the vault's folder for caches, None for none. A damaged file there is as good as none."""
        self._cache = cache
        self._disk = disk or Disk()
        self._held: dict[str, tuple[Stat, Indexed]] = {}

    def read(self, file: str) -> Indexed:
        """An index by its path; nothing where there is none. Raises UnreadableIndex, OSError."""
        try:
            fd = open_source(file)
        except (FileNotFoundError, NotADirectoryError):
            return self._known("", None)
        with open(fd, "rb") as opened:
            found = os.fstat(fd)
            held = self._held.get(file)
            if held and held[0] == stat_of(found):
                return held[1]
            if found.st_size > LONGEST:
                raise UnreadableIndex(f"its index is larger than {LONGEST} bytes")
            data = opened.read(LONGEST)
        made = self._known(file, data)
        if len(self._held) >= _HELD:
            self._held.clear()
        if not racy_ns(found, time.time_ns()):
            self._held[file] = stat_of(found), made
        return made

    def made(self, name: str, data: bytes) -> Indexed:
        """One that is no file: cached under a name. `data`: none for nothing. Raises UnreadableIndex."""
        return self._known(name, data or None)

    def _known(self, file: str, data: bytes | None) -> Indexed:
        kept = self._file(file)
        if data and kept and (known := _load(kept, data[-20:])):
            return Indexed(data, known)
        fresh = Indexed(data, _EMPTY)
        fresh._known = fresh._digested()
        fresh.__dict__.pop("_below", None)
        if data and kept and len(fresh.entries) >= _CACHED_FROM:
            self._save(kept, data[-20:], fresh._known)
        return fresh

    def _file(self, file: str) -> Path | None:
        name = hashlib.sha1(os.fsencode(file), usedforsecurity=False).hexdigest()
        return self._cache / f"index-{name}" if self._cache else None

    def _save(self, kept: Path, checksum: bytes, known: _Digest) -> None:
        """Keep it; where that cannot be, it is made again."""
        packed = msgpack.packb((_FORM, *known))
        head = checksum + hashlib.sha1(packed, usedforsecurity=False).digest()
        temporary = kept.with_name(f"{kept.name}.{os.getpid()}.tmp")
        with suppress(OSError, StorageFullError):
            self._disk.make_folder(kept.parent)
            self._disk.unlink(temporary)
            with self._disk.create(temporary) as file:
                file.write(head + packed)
            # Not synced: its checksum tells whether it came through a power cut.
            self._disk.rename(temporary, kept)


def _load(kept: Path, checksum: bytes) -> _Digest | None:
    """What was made of the index with this checksum."""
    try:
        data = kept.read_bytes()
    except OSError:
        return None
    head, packed = data[:40], data[40:]
    if head != checksum + hashlib.sha1(packed, usedforsecurity=False).digest() or not any(checksum):
        return None
    form, *known = msgpack.unpackb(packed, use_list=False, strict_map_key=False, max_map_len=len(packed))
    return _Digest(*known) if form == _FORM else None
