"""git's index: versions 2 to 4 read, 2 and 3 written, SHA-1 only.

What a snapshot keeps of it is its *plain* form: entries without the stat of files, no extension but `sdir`. So it
changes when what is staged does, not when git looks at a file again, and stock git reads it all the same.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from gitvault.core.models import ObjectId
from gitvault.errors import CorruptionError, GitVaultError

MODE_TREE = 0o040000
MODE_FILE = 0o100644
MODE_EXECUTABLE = 0o100755
MODE_SYMLINK = 0o120000
MODE_GITLINK = 0o160000
_FILES = (MODE_FILE, MODE_EXECUTABLE, MODE_SYMLINK)

_EXTENDED = 0x4000
_SKIP_WORKTREE = 0x4000
_STAGE_SHIFT = 12
_LONG_NAME = 0xFFF
# mode, uid, gid, size, id, flags: what follows the two times, device and inode of an entry.
_ENTRY = struct.Struct(">I8xI20sH")
_STAT_BYTES = 24
_HEAD_BYTES = _STAT_BYTES + _ENTRY.size
_HEADER = struct.Struct(">4sII")
_TIMES = struct.Struct(">10I")
_ENTRIES_MAX = 20_000_000


class IndexEntry(NamedTuple):
    """One line of the index."""

    path: bytes
    mode: int
    blob: ObjectId
    size: int
    """Of the file when git last looked; 0: not known."""
    flags: int
    """The 16 bits of the entry without the length of its name: assume-valid and the stage."""
    extended: int
    """The 16 bits that follow in version 3: skip-worktree, intent-to-add."""

    @property
    def stage(self) -> int:
        """0, or 1 to 3 of a conflict."""
        return self.flags >> _STAGE_SHIFT & 3

    @property
    def is_expected(self) -> bool:
        """Whether a file that is not on the disk was deleted there: a sparse checkout leaves out others."""
        return self.mode in _FILES and not self.stage and not self.extended & _SKIP_WORKTREE

    @property
    def is_file(self) -> bool:
        """Whether git checks it out as a file or symlink with this very content."""
        return not (self.extended or self.stage) and self.mode in _FILES


class UnreadableIndex(GitVaultError):
    """An index that this module does not read: split, with SHA-256, of an unknown version, or damaged."""


def parse(data: bytes) -> list[IndexEntry]:
    """The entries in git's order. Raises UnreadableIndex."""
    try:
        return _parse(data)
    except (struct.error, ValueError, IndexError) as error:
        raise UnreadableIndex(f"its index cannot be read ({error})") from error


def _parse(data: bytes) -> list[IndexEntry]:
    magic, version, count = _HEADER.unpack_from(data)
    if magic != b"DIRC" or version not in (2, 3, 4) or count > _ENTRIES_MAX:
        raise UnreadableIndex("its index is of a kind that is not known here")
    checksum = data[-20:]
    if checksum != bytes(20) and hashlib.sha1(data[:-20], usedforsecurity=False).digest() != checksum:
        raise UnreadableIndex("its index is damaged or has SHA-256")
    out: list[IndexEntry] = []
    at = _HEADER.size
    unpack = _ENTRY.unpack_from
    path = b""
    for _ in range(count):
        mode, size, blob, bits = unpack(data, at + _STAT_BYTES)
        name_at = at + _HEAD_BYTES
        extended = 0
        if bits & _EXTENDED:
            extended = int.from_bytes(data[name_at : name_at + 2], "big")
            name_at += 2
        if version == 4:
            drop, name_at = _varint(data, name_at)
            end = data.index(b"\0", name_at)
            path = path[: len(path) - drop] + data[name_at:end]
            at = end + 1
        else:
            length = bits & _LONG_NAME
            end = name_at + length if length < _LONG_NAME else data.index(b"\0", name_at)
            path = data[name_at:end]
            at += (end - at + 8) & ~7
        out.append(IndexEntry(path, mode, ObjectId(blob), size, bits & 0xB000, extended))
    while at < len(data) - 20:
        kind = data[at : at + 4]
        if kind == b"link":
            raise UnreadableIndex("its index is split in two files")
        at += 8 + int.from_bytes(data[at + 4 : at + 8], "big")
    if not all(entry.path for entry in out):
        raise ValueError("an entry has no name")
    return out


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """git's offset encoding, as in packs."""
    byte = data[at]
    at += 1
    value = byte & 127
    while byte & 128:
        byte = data[at]
        at += 1
        value = (value + 1 << 7) | (byte & 127)
    return value, at


def encode(entries: Iterable[IndexEntry], stats: Mapping[bytes, tuple[int, ...]] | None = None) -> bytes:
    """An index of these entries, in their order.

    `stats`: by path the ten numbers of an entry that describe its file, as 32 bits each: ctime and mtime (seconds,
    nanoseconds), device, inode, mode, uid, gid, size. Others have none, so that git reads the file again.
    """
    stats = stats or {}
    body: list[bytes] = []
    count = 0
    version = 2
    sparse = False
    add = body.append
    pack = struct.Struct(">24xI8xI20sH").pack
    for path, mode, blob, size, flags, extended in entries:
        count += 1
        bits = flags | min(len(path), _LONG_NAME)
        sparse = sparse or mode == MODE_TREE
        more = b""
        if extended:
            version = 3
            bits |= _EXTENDED
            more = extended.to_bytes(2, "big")
        found = stats.get(path)
        if found is None:
            add(pack(mode, size, blob, bits))
        else:
            add(_TIMES.pack(*found[:6], mode, *found[7:]) + blob + bits.to_bytes(2, "big"))
        length = _HEAD_BYTES + len(more) + len(path)
        add(more + path + bytes(8 - length % 8))
    if sparse:
        add(b"sdir" + bytes(4))
    data = _HEADER.pack(b"DIRC", version, count) + b"".join(body)
    return data + hashlib.sha1(data, usedforsecurity=False).digest()


def decode_plain(data: bytes) -> list[IndexEntry]:
    """The entries of an index that a snapshot holds. Raises CorruptionError."""
    try:
        return parse(data)
    except UnreadableIndex as error:
        raise CorruptionError(f"the index in the snapshot: {error}; run git-vault verify --data") from error


def paths(data: bytes, whole: list[bytes]) -> Iterator[bytes]:
    """The paths of an index, also of a split one and with SHA-256; folders that it does not list go to `whole`.

    Raises ValueError, IndexError.
    """
    version = int.from_bytes(data[4:8], "big")
    if data[:4] != b"DIRC" or version not in (2, 3, 4):
        raise ValueError(f"begins with {data[:4]!r}, version {version}")
    count = int.from_bytes(data[8:12], "big")
    # Before the name there are ten numbers, a hash and two bytes of flags.
    flags = 40 + _hash_width(data)
    at, previous = 12, b""
    find = data.find
    for _ in range(count):
        start = at + flags + 2
        if version > 2 and data[at + flags] & 0x40:
            start += 2
        if version == 4:
            strip = 0
            while (byte := data[start]) & 0x80:
                strip = (strip + (byte & 0x7F) + 1) << 7
                start += 1
            strip += byte
            start += 1
            end = find(b"\0", start)
            path = previous[: len(previous) - strip] + data[start:end]
            previous = path
            at = end + 1
        else:
            end = find(b"\0", start)
            path = data[start:end]
            # Padded with 1 to 8 NULs to a multiple of eight.
            at += (end - at + 8) & ~7
        if end < 0:
            raise ValueError("ends in the middle of an entry")
        if path[-1:] == b"/":
            path = path[:-1]
            whole.append(path)
        if path:
            yield path
        elif b"link" not in data:
            # Only an index that adds to another one has entries without a name.
            raise ValueError("an entry has no name")


def _hash_width(data: bytes) -> int:
    """20 for SHA-1, 32 for SHA-256: the file's end is its own hash, or zeros."""
    for width, algorithm in ((20, hashlib.sha1), (32, hashlib.sha256)):
        tail = data[-width:]
        if tail == algorithm(data[:-width], usedforsecurity=False).digest():
            return width
    if data[-20:] == bytes(20):
        # index.skipHash: told by nothing but the entries' shape; SHA-256 is rare enough to say so.
        return 20
    raise ValueError("its checksum is wrong")


def shared_index(data: bytes) -> str:
    """The hex name of the index that a split one adds to."""
    width = _hash_width(data)
    at = data.rfind(b"link\0\0\0", 0, len(data) - width)
    if at < 0:
        return ""
    name = data[at + 8 : at + 8 + width]
    return name.hex() if any(name) else ""
