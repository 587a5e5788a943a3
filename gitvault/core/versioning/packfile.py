"""Git packs, written: one pass, no deltas, deflated at the speed of isal, indexed here.

A pack and its index are written and synced in a temporary folder; `publish` then gives them their
names, the pack first and durably, so that no index is ever visible without its pack.
"""

from __future__ import annotations

import hashlib
import os
import sys
import zlib
from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

from gitvault.core.models import ObjectId
from gitvault.core.utils.files import Disk, NewFile
from gitvault.core.versioning.objects import KIND_CODES, object_id

try:
    from isal.isal_zlib import compress, crc32

    # 21 us for a source file of 8 KB instead of 33 at level 1, for 11 % more bytes until upkeep deflates anew. Smaller
    # ones gain less, and level 0 begins each with a table of 110 bytes.
    _FASTEST = 0
except ImportError:  # no wheel for this platform: zlib does the same, 4x slower
    from zlib import compress, crc32

    _FASTEST = 1

_FASTEST_FROM = 2048
_HEADER_SIZE = 12
_BUFFER = 1 << 20
_FIRST_64BIT_OFFSET = 0x80000000


def deflate(data: bytes | bytearray | memoryview) -> bytes:
    """`data` as a zlib stream, for `PackWriter.add_deflated`; releases the GIL."""
    found = compress(data, _FASTEST if len(data) >= _FASTEST_FROM else 1)
    if len(found) <= len(data):
        return found
    # The fastest level makes a PNG of 3 KB up to 22 % larger; stored, it grows by 11 bytes.
    stored = zlib.compress(data, 0)
    return min(found, stored, key=len)


@dataclass(frozen=True, slots=True)
class NewPack:
    """A finished pack and its index, synced, under temporary names."""

    name: str
    """`pack-<40 hex digits>`, the digits being the pack's own checksum."""
    pack: Path
    index: Path
    objects: int
    bytes: int
    """Of pack and index together."""


class PackWriter:
    """Collects objects into one pack below `folder`. For one thread; deflating may be done elsewhere."""

    def __init__(self, folder: Path, disk: Disk) -> None:
        """Nothing is written before the first object."""
        self._folder = folder
        self._disk = disk
        # oid -> offset << 32 | crc: one integer costs half of what a tuple does (140 bytes an object in all)
        self._entries: dict[ObjectId, int] = {}
        self._buffer = bytearray()
        self._file: NewFile | None = None
        self.size = _HEADER_SIZE
        """Bytes of the pack so far."""

    def __contains__(self, oid: object) -> bool:
        return oid in self._entries

    def __len__(self) -> int:
        return len(self._entries)

    def start(self, oid: ObjectId) -> int | None:
        """Where an object begins in the pack; None when it is not in it."""
        entry = self._entries.get(oid)
        return None if entry is None else entry >> 32

    def add(self, kind: bytes, data: bytes | bytearray | memoryview) -> ObjectId:
        """Add an object unless the pack holds it; its id. Raises StorageFullError."""
        oid = object_id(kind, data)
        if oid not in self._entries:
            self.add_deflated(kind, oid, len(data), deflate(data))
        return oid

    def add_deflated(self, kind: bytes, oid: ObjectId, size: int, deflated: bytes) -> None:
        """Add an object that was hashed and deflated elsewhere; one that the pack holds is ignored.

        `size`: of the content before it was deflated. Raises StorageFullError.
        """
        if oid in self._entries:
            return
        byte = KIND_CODES[kind] << 4 | size & 15
        size >>= 4
        header = bytearray()
        while size:
            header.append(byte | 128)
            byte = size & 127
            size >>= 7
        header.append(byte)
        self.add_packed(oid, (header, deflated))

    def add_packed(self, oid: ObjectId, parts: Iterable[bytes | bytearray]) -> None:
        """Add an object as packs hold it, in any number of pieces; `size` is where it will begin.

        A delta's base is the caller's affair. Raises StorageFullError.
        """
        start = self.size
        crc = 0
        for part in parts:
            crc = crc32(part, crc)
            self._buffer += part
            self.size += len(part)
            self._spill()
        self._entries[oid] = start << 32 | crc

    def finish(self) -> NewPack | None:
        """Write index and checksums and sync both files; None when nothing was added.

        The writer is empty afterwards and can be used for the next pack. Raises StorageFullError.
        """
        from concurrent.futures import ThreadPoolExecutor

        if not self._entries:
            return None
        file = self._flush()
        file.overwrite(0, _pack_header(len(self._entries)))
        # The checksum covers the count in the header, so it takes a second pass: made while the disk syncs.
        with ThreadPoolExecutor(1) as other:
            synced = other.submit(file.sync)
            checksum = _checksum(file.path)
            synced.result()
        file.write(checksum)
        file.sync()
        file.close()
        index = encode_index(self._entries, checksum)
        index_path = file.path.with_suffix(".idx")
        with self._disk.create(index_path) as index_file:
            index_file.write(index)
            index_file.sync()
        name = f"pack-{checksum.hex()}"
        done = NewPack(name, file.path, index_path, len(self._entries), file.size + len(index))
        self._reset()
        return done

    def abandon(self) -> None:
        """Drop everything added since the last `finish`; harmless when that is nothing."""
        if self._file is not None:
            self._file.close()
            self._disk.unlink(self._file.path)
            self._disk.unlink(self._file.path.with_suffix(".idx"))
        self._reset()

    def _spill(self) -> None:
        if len(self._buffer) >= _BUFFER:
            self._flush()

    def _flush(self) -> NewFile:
        if self._file is None:
            self._file = self._disk.create(self._folder / f"{os.urandom(8).hex()}.pack")
            self._file.write(_pack_header(0))
        self._file.write(self._buffer)
        self._buffer = bytearray()
        return self._file

    def _reset(self) -> None:
        self._entries = {}
        self._buffer = bytearray()
        self._file = None
        self.size = _HEADER_SIZE


class PackInMemory(PackWriter):
    """Collects objects into a pack that is for elsewhere and never becomes a file here."""

    def __init__(self) -> None:
        super().__init__(Path(), Disk())

    def take(self) -> tuple[bytes, dict[ObjectId, int]]:
        """The pack and where each object begins in it; the writer is empty afterwards."""
        content = _pack_header(len(self._entries)) + bytes(self._buffer)
        offsets = {oid: entry >> 32 for oid, entry in self._entries.items()}
        self._reset()
        return content + hashlib.sha1(content).digest(), offsets

    def _spill(self) -> None:
        pass


def publish(pack: NewPack, folder: Path, disk: Disk) -> None:
    """Move a finished pack into `folder` (objects/pack); durable when this returns.

    A pack that is there already has the same content and is kept: it may be mapped by a reader.
    """
    for source, name in ((pack.pack, f"{pack.name}.pack"), (pack.index, f"{pack.name}.idx")):
        target = folder / name
        if target.exists():
            disk.unlink(source)
        else:
            disk.rename(source, target)
        disk.sync_folder(folder)


def encode_index(entries: Mapping[ObjectId, int], pack_checksum: bytes) -> bytes:
    """A version 2 pack index, byte for byte what `git index-pack` writes.

    `entries`: id -> offset << 32 | CRC-32 of the packed object.
    """
    oids = sorted(entries)
    per_first_byte = [0] * 256
    for oid in oids:
        per_first_byte[oid[0]] += 1
    crcs = array("I")
    offsets = array("I")
    large = array("Q")
    for oid in oids:
        offset, crc = divmod(entries[oid], 1 << 32)
        crcs.append(crc)
        if offset < _FIRST_64BIT_OFFSET:
            offsets.append(offset)
        else:
            offsets.append(_FIRST_64BIT_OFFSET | len(large))
            large.append(offset)
    fanout = array("I", accumulate(per_first_byte))
    content = b"".join(
        (
            b"\xfftOc\x00\x00\x00\x02",
            _big_endian(fanout),
            *oids,
            _big_endian(crcs),
            _big_endian(offsets),
            _big_endian(large),
            pack_checksum,
        )
    )
    return content + hashlib.sha1(content).digest()


def _big_endian(values: array[int]) -> bytes:
    if sys.byteorder == "little":
        values.byteswap()
    return values.tobytes()


def _pack_header(count: int) -> bytes:
    return b"PACK\x00\x00\x00\x02" + count.to_bytes(4, "big")


def _checksum(path: Path) -> bytes:
    with open(path, "rb", buffering=0) as file:
        return hashlib.file_digest(file, "sha1").digest()
