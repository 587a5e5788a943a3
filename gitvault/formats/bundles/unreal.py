"""Unreal's .pak, versions 1 to 11: the index at its end and what it leads to."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha1, sha256
from pathlib import Path

from gitvault.formats.bundles.records import MOST, Asset, Bundle, kind_of_name
from gitvault.formats.mapping import mapped

_FOOT = struct.Struct("<2I2Q20s")
_MAGIC = 0x5A6F12E1
_NAMED = 32
_LONGEST = 1 << 16
_ENCODED = 10
"""From this version on entries are packed into bits, and names stand in an index of their own."""


@dataclass(frozen=True, slots=True)
class _Foot:
    version: int
    index: int
    length: int
    hash: bytes
    encrypted: bool
    narrow: bool
    """Whether the compression of an entry takes one byte: between 4.22 and 4.23."""


@dataclass(frozen=True, slots=True)
class _Entry:
    offset: int
    packed: int
    size: int
    blocks: int
    """How many are listed before the data."""
    compressed: bool
    encrypted: bool
    deleted: bool = False


def read(path: Path) -> Bundle:
    """What is in a pak. Raises UnsupportedMedia."""
    with mapped(path) as view:
        foot = _foot(view)
        version = f"pak {foot.version}"
        if foot.encrypted:
            return Bundle("unreal", version, (), "its index is encrypted")
        index = _checked(view, foot.index, foot.length, foot.hash, "its index")
        entries = _encoded(view, index) if foot.version >= _ENCODED else _plain(index, foot)
        return _bundle(view, foot, version, entries)


def _bundle(view: memoryview, foot: _Foot, version: str, entries: Iterator[tuple[str, _Entry]]) -> Bundle:
    assets, damaged, hidden = [], [], 0
    for name, entry in entries:
        if entry.deleted:
            continue
        digest = ""
        if entry.encrypted:
            hidden += 1
        else:
            start = entry.offset + _header(foot, entry)
            data = view[start : start + entry.packed]
            said = bytes(view[entry.offset :][_hash_at(foot) : _hash_at(foot) + 20])
            if len(data) != entry.packed or (any(said) and sha1(data).digest() != said):
                damaged.append(name)
            digest = sha256(data).hexdigest()
        assets.append(Asset(name, kind_of_name(name), entry.size, digest))
    opaque = f"{hidden} of its files are encrypted" if hidden else ""
    return Bundle("unreal", version, tuple(assets), opaque, tuple(damaged))


def _foot(view: memoryview) -> _Foot:
    # Names of compressions stand behind the rest from version 8 on: four, then five; in version 9 one byte before them.
    for behind, versions in ((0, range(1, 8)), (4 * _NAMED, (8,)), (5 * _NAMED, (8, 10, 11)), (5 * _NAMED + 1, (9,))):
        at = len(view) - behind - _FOOT.size
        if at < 0:
            continue
        magic, version, index, length, digest = _FOOT.unpack_from(view, at)
        if magic == _MAGIC and version in versions:
            return _Foot(version, index, length, digest, version >= 4 and view[at - 1] == 1, behind == 4 * _NAMED)
    raise ValueError("no end as a pak has it")


def _checked(view: memoryview, start: int, length: int, digest: bytes, what: str) -> memoryview:
    found = view[start : start + length]
    if len(found) != length or sha1(found).digest() != digest:
        raise ValueError(f"{what} is not what its checksum says")
    return found


class _Cursor:
    """Reads numbers and texts one after the other."""

    def __init__(self, view: memoryview) -> None:
        self._view = view
        self.at = 0

    def take(self, form: str) -> int:
        (found,) = struct.unpack_from(f"<{form}", self._view, self.at)
        self.at += struct.calcsize(form)
        return int(found)

    def count(self) -> int:
        found = self.take("I")
        if found > MOST:
            raise ValueError(f"{found} entries")
        return found

    def text(self) -> str:
        length = self.take("i")
        size = length if length >= 0 else -2 * length
        if size > _LONGEST:
            raise ValueError(f"a name of {size} bytes")
        raw = bytes(self._view[self.at : self.at + size])
        self.at += size
        return raw.decode("utf-8" if length >= 0 else "utf-16-le", "replace").rstrip("\0")

    def skip(self, size: int) -> memoryview:
        found = self._view[self.at : self.at + size]
        self.at += size
        return found

    def entry(self, foot: _Foot) -> _Entry:
        offset, packed, size = self.take("Q"), self.take("Q"), self.take("Q")
        compressed = bool(self.take("B" if foot.narrow else "I"))
        self.skip(20 + 8 * (foot.version == 1))
        blocks = flags = 0
        if foot.version >= 3:
            if compressed:
                blocks = self.count()
                self.skip(16 * blocks)
            flags = self.take("B")
            self.skip(4)
        return _Entry(offset, packed, size, blocks, compressed, bool(flags & 1), bool(flags & 2))


def _plain(index: memoryview, foot: _Foot) -> Iterator[tuple[str, _Entry]]:
    cursor = _Cursor(index)
    mount = _mounted(cursor.text())
    for _ in range(cursor.count()):
        name = cursor.text()
        yield mount + name, cursor.entry(foot)


def _encoded(view: memoryview, index: memoryview) -> Iterator[tuple[str, _Entry]]:
    cursor = _Cursor(index)
    mount = _mounted(cursor.text())
    cursor.count()
    cursor.skip(8)
    if cursor.take("I"):
        cursor.skip(36)
    if not cursor.take("I"):
        raise ValueError("it was written without the names of its files")
    start, length = cursor.take("Q"), cursor.take("Q")
    folders = _Cursor(_checked(view, start, length, bytes(cursor.skip(20)), "its list of folders"))
    packed = cursor.skip(cursor.take("I"))
    for _ in range(folders.count()):
        folder = folders.text().lstrip("/")
        for _ in range(folders.count()):
            name = folders.text()
            place = folders.take("i")
            if place < 0:
                raise ValueError(f"{name}: its entry is in a form that no writer is known to use")
            yield mount + folder + name, _decoded(packed[place:])


def _decoded(packed: memoryview) -> _Entry:
    cursor = _Cursor(packed)
    flags = cursor.take("I")
    if flags & 0x3F == 0x3F:
        cursor.skip(4)
    compressed = bool(flags >> 23 & 0x3F)
    offset = cursor.take("I" if flags >> 31 & 1 else "Q")
    size = cursor.take("I" if flags >> 30 & 1 else "Q")
    stored = cursor.take("I" if flags >> 29 & 1 else "Q") if compressed else size
    return _Entry(offset, stored, size, flags >> 6 & 0xFFFF, compressed, bool(flags >> 22 & 1))


def _mounted(point: str) -> str:
    """What the mount point adds to names, without the way up from the program's folder."""
    while point.startswith(("../", "/")):
        point = point.partition("/")[2]
    return point


def _hash_at(foot: _Foot) -> int:
    """Where in an entry, as it stands before its data, the hash of that is."""
    return 24 + (1 if foot.narrow else 4) + 8 * (foot.version == 1)


def _header(foot: _Foot, entry: _Entry) -> int:
    size = _hash_at(foot) + 20
    if foot.version >= 3:
        size += 5 + (4 + 16 * entry.blocks if entry.compressed else 0)
    return size
