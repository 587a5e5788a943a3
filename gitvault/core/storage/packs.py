"""The pack file `<sha256 of its table>.zpk`: zstd frames, then a text table that says what is where.

    skippable frame   `gitvault pack 1\\n`
    zstd frames       each a run of one or more chunks
    skippable frame   the table, itself a zstd frame
    skippable frame   the table again
    skippable frame   `gitvault table OFFSET LENGTH\\n`, both 20 digits: the first table's zstd frame

so that `zstd -d` of a whole pack decodes every frame that stands alone. The table's rows:

    frame N OFFSET STORED LENGTH [BASE ...]   N counts from 0; with bases, chunk ids: their bytes joined are the
                                              dictionary (`zstd -d --patch-from`)
    chunk ID N INNER LENGTH                   ID, the SHA-256 of the LENGTH bytes at INNER in frame N
    manifest OID CHUNK [CHUNK ...]            OID, the SHA-256 of a whole file; the chunks joined are its manifest
    level N                                   upkeep has compressed the frames at N where that gained anything
    end SHA256                                of all rows before
"""

from __future__ import annotations

import hashlib
import os
import re
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field, replace
from itertools import accumulate
from pathlib import Path
from typing import BinaryIO

from gitvault.core.models import ChunkId
from gitvault.core.storage import frames
from gitvault.core.utils.files import Disk, open_plain
from gitvault.errors import CorruptionError, UnsupportedFormatVersion

MAX_CHUNK = 16 << 20
"""No chunk, and so no frame, is longer, in bytes."""

MAX_STORED = 2 * MAX_CHUNK
"""No frame takes more in a pack, in bytes: zstd adds less than a hundredth to what it cannot compress."""

MAX_DICTIONARY = 64 << 20
"""No frame's bases are longer together, in bytes."""

PACK_NAME = re.compile(r"[0-9a-f]{64}\.zpk")

_SKIPPABLE = (0x184D2A57).to_bytes(4, "little")
_SEARCHED = 64 << 20
_MAX_TABLE = 256 << 20
_ZSTD = bytes.fromhex("28b52ffd")
# A pack has two tables; 64 MiB of nothing but marks would be copied eight million times.
_TRIES = 64
# Half the size, of random digits; higher levels gain nothing.
_TABLE_LEVEL = 1
# Handed to the thread that writes at once: frame by frame, waking it took the interpreter from the others, who wait
# for it then, in a third of the samples.
_BATCH = 4 << 20
_TRAILER = re.compile(rb"gitvault table ([0-9]{20}) ([0-9]{20})\n")
_TRAILER_LENGTH = 57


def _skippable(content: bytes) -> bytes:
    return _SKIPPABLE + len(content).to_bytes(4, "little") + content


_HEAD = _skippable(b"gitvault pack 1\n")


@dataclass(frozen=True, slots=True)
class Frame:
    """One zstd frame of a pack: `stored` bytes at `offset` that decode to `length` bytes."""

    number: int
    offset: int
    stored: int
    length: int
    bases: tuple[ChunkId, ...] = ()
    proven: int | None = field(default=None, compare=False)
    """`frames.checksum` of what is stored, taken when it was seen to decode as it should; None: not known."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """One chunk of a pack: `length` bytes at `inner` in the decoded frame number `frame`."""

    id: ChunkId
    frame: int
    inner: int
    length: int


@dataclass(frozen=True, slots=True)
class Table:
    """What a pack holds."""

    frames: list[Frame] = field(default_factory=list)
    chunks: list[Chunk] = field(default_factory=list)
    manifests: list[tuple[str, tuple[ChunkId, ...]]] = field(default_factory=list)
    level: int = 0
    """The zstd level that upkeep has brought the frames to; 0: they are as they were saved."""


def by_frame(table: Table) -> Iterator[tuple[Frame, list[Chunk]]]:
    """Each frame with the chunks in it."""
    chunks: list[list[Chunk]] = [[] for _ in table.frames]
    for chunk in table.chunks:
        chunks[chunk.frame].append(chunk)
    yield from zip(table.frames, chunks, strict=True)


def format_table(table: Table) -> bytes:
    """The table's text."""
    lines = [
        f"frame {f.number} {f.offset} {f.stored} {f.length}" + "".join(f" {base.hex()}" for base in f.bases)
        for f in table.frames
    ]
    lines += [f"chunk {c.id.hex()} {c.frame} {c.inner} {c.length}" for c in table.chunks]
    lines += [f"manifest {oid}" + "".join(f" {part.hex()}" for part in parts) for oid, parts in table.manifests]
    lines += [f"level {table.level}"] if table.level else []
    text = "".join(f"{line}\n" for line in lines).encode()
    return text + f"end {hashlib.sha256(text).hexdigest()}\n".encode()


def _end(packed: bytes, offset: int) -> bytes:
    """What follows the frames of a pack, which end at `offset`; `packed`: its table, compressed."""
    return _skippable(packed) * 2 + _skippable(f"gitvault table {offset + 8:020d} {len(packed):020d}\n".encode())


def table_hash(text: bytes) -> str:
    """What the last row of a table says, and the pack is named by: the SHA-256 of the rows before it, in hex."""
    return text[-65:-1].decode("ascii", "replace")


def parse_table(text: bytes, pack: str, stop: int) -> Table:
    """The rows of a table whose frames end at `stop`; `pack` names it in errors.

    Raises CorruptionError for anything that cannot be true, UnsupportedFormatVersion for a row of an unknown kind.
    """
    end = text.rfind(b"end ")
    if end < 0 or text[end:] != f"end {hashlib.sha256(text[:end]).hexdigest()}\n".encode():
        raise CorruptionError(f"{pack}: the table does not have its hash; run git-vault verify")
    table = Table()
    level = 0
    expected = len(_HEAD)
    for line in text[:end].decode("ascii", "replace").splitlines():
        kind, *words = line.split(" ")
        try:
            if kind == "frame":
                number, offset, stored, length = map(int, words[:4])
                if number != len(table.frames) or offset != expected or not 0 <= length <= MAX_CHUNK:
                    raise ValueError
                if not 1 <= stored <= MAX_STORED:
                    raise ValueError
                expected = offset + stored
                table.frames.append(Frame(number, offset, stored, length, tuple(map(_chunk_id, words[4:]))))
            elif kind == "chunk":
                chunk, frame, inner, length = _chunk_id(words[0]), *map(int, words[1:])
                if frame not in range(len(table.frames)) or inner < 0 or length < 1:
                    raise ValueError
                if inner + length > table.frames[frame].length:
                    raise ValueError
                table.chunks.append(Chunk(chunk, frame, inner, length))
            elif kind == "manifest":
                table.manifests.append((_chunk_id(words[0]).hex(), tuple(map(_chunk_id, words[1:]))))
            elif kind == "level":
                (level,) = map(int, words)
                if not 1 <= level <= 22:
                    raise ValueError
            else:
                raise UnsupportedFormatVersion(
                    f"{pack}: a row of the unknown kind {kind!r}; a newer gitvault wrote it, update this one"
                )
        except (ValueError, IndexError) as error:
            raise CorruptionError(f"{pack}: impossible row {line[:200]!r}; run git-vault verify") from error
    if expected > stop:
        raise CorruptionError(f"{pack}: its frames end at {expected}, the table begins at {stop}; run git-vault verify")
    return replace(table, level=level)


def _chunk_id(digits: str) -> ChunkId:
    chunk = bytes.fromhex(digits)
    if len(chunk) != 32:
        raise ValueError
    return ChunkId(chunk)


def read_table(path: Path, *, strict: bool = False) -> Table:
    """What a finished pack holds; `strict`: also when trailer and both tables are there, only if they agree.

    Raises CorruptionError, UnsupportedFormatVersion, OSError.
    """
    with open_plain(path) as file:
        size = file.seek(0, os.SEEK_END)
        head = _at(file, 0, len(_HEAD))
        if head != _HEAD and head.startswith(_HEAD[:-2]):
            raise UnsupportedFormatVersion(f"{path.name}: a newer gitvault wrote it, update this one")
        trailer = _TRAILER.fullmatch(_at(file, max(0, size - _TRAILER_LENGTH), _TRAILER_LENGTH))
        if head != _HEAD and (strict or not trailer):
            raise CorruptionError(f"{path.name}: it does not begin like a pack; run git-vault verify")
        offset, length = (int(trailer[1]), int(trailer[2])) if trailer else (0, 0)
        sound = offset >= len(_HEAD) + 8 and offset + 2 * length + 16 + _TRAILER_LENGTH == size
        copies: Iterable[tuple[bytes, int]]
        if sound and length <= _MAX_TABLE:
            copies = [(_at(file, at, length), at - 8) for at in (offset, offset + length + 8)]
            if strict and _at(file, offset - 8, size) != _end(copies[0][0], offset - 8):
                raise CorruptionError(f"{path.name}: the two copies of its table differ; run git-vault verify --repair")
        elif strict:
            raise CorruptionError(f"{path.name}: it does not end like a pack; run git-vault verify --repair")
        else:
            copies = _search_tables(file, size)
        problem: CorruptionError | None = None
        for packed, stop in copies:
            try:
                text = _unpack(packed, path.name)
                if strict and table_hash(text) != path.stem:
                    raise CorruptionError(f"{path.name}: its table has the hash {table_hash(text)}, not its name")
                return parse_table(text, path.name, stop)
            except UnsupportedFormatVersion:
                raise
            except CorruptionError as error:
                problem = error
    raise problem or CorruptionError(f"{path.name}: it has no table, perhaps it was cut short; run git-vault verify")


def _unpack(packed: bytes, pack: str) -> bytes:
    try:
        return frames.decompress_up_to(packed, _MAX_TABLE)
    except CorruptionError as error:
        raise CorruptionError(f"{pack}: the table cannot be decoded; run git-vault verify") from error


def _search_tables(file: BinaryIO, size: int) -> Iterator[tuple[bytes, int]]:
    """What may be tables in a pack with a damaged end, each with its offset, from the end backwards."""
    start = max(0, size - _SEARCHED)
    tail = _at(file, start, _SEARCHED)
    at = len(tail)
    tries = _TRIES
    # What only looks like a mark, inside of something compressed, has no table behind it.
    while tries and (at := tail.rfind(_SKIPPABLE, 0, at)) >= 0:
        if tail.startswith(_ZSTD, at + 8):
            tries -= 1
            length = int.from_bytes(tail[at + 4 : at + 8], "little")
            yield tail[at + 8 : at + 8 + length], start + at


def _at(file: BinaryIO, offset: int, length: int) -> bytes:
    file.seek(offset)
    return file.read(length)


class Pack:
    """A pack file that can be read. Safe to call from several threads."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()

    def read(self, frame: Frame) -> bytes:
        """The frame as it is stored. Raises CorruptionError when the file ends before it, OSError."""
        # Opening costs 10 us per frame of up to 1 MiB, and no limit on open files has to be minded.
        with self._lock:
            # Not while it is renamed; reading is for all threads at once, they often want the same pack.
            file = open_plain(self.path, buffering=0)
        with file:
            file.seek(frame.offset)
            data = file.read(frame.stored)
        if len(data) != frame.stored:
            raise CorruptionError(f"{self.path.name}: cut short at {frame.offset + len(data)}; run git-vault verify")
        return data


class PackInMemory:
    """A pack being put together that is for elsewhere and never becomes a file here."""

    def __init__(self, level: int = 0) -> None:
        self.table = Table(level=level)
        self.places: dict[ChunkId, Chunk] = {}
        self.manifests: dict[str, tuple[ChunkId, ...]] = {}
        self.size = 0
        self._parts: list[bytes] = []
        self._append(_HEAD)

    def add_copy(self, frame: Frame, data: bytes, chunks: Sequence[Chunk]) -> None:
        """Append `data`, which decodes to the same as another pack's `frame`, with that one's `chunks`."""
        number = len(self.table.frames)
        self.table.frames.append(replace(frame, number=number, offset=self.size, stored=len(data)))
        for chunk in chunks:
            place = Chunk(chunk.id, number, chunk.inner, chunk.length)
            self.table.chunks.append(place)
            self.places[chunk.id] = place
        self._append(data)

    def add_manifest(self, oid: str, parts: tuple[ChunkId, ...]) -> None:
        """Say which chunks hold the manifest of the file `oid`."""
        self.table.manifests.append((oid, parts))
        self.manifests[oid] = parts

    def seal(self, *, unlike: Collection[str] = ()) -> str:
        """Append table and trailer; nothing can be added any more. The name that it will have.

        `unlike`: names that it must not have; a frame of nothing gives it another.
        """
        text = format_table(self.table)
        while f"{table_hash(text)}.zpk" in unlike:
            nothing = frames.compress(b"", _TABLE_LEVEL)
            self.add_copy(Frame(0, 0, len(nothing), 0), nothing, ())
            text = format_table(self.table)
        packed = frames.compress(text, _TABLE_LEVEL)
        frames.check(packed, len(text))
        self._append(_end(packed, self.size))
        return f"{table_hash(text)}.zpk"

    def content(self) -> bytes:
        """What was put together so far."""
        return b"".join(self._parts)

    def _append(self, data: bytes) -> None:
        self.size += len(data)
        self._write(data)

    def _write(self, data: bytes) -> None:
        self._parts.append(data)


class PackWriter(PackInMemory, Pack):
    """A pack being written; what was added can be read at once. `add*`, `seal` and `drop` are for one thread at a time.

    `background` runs one task at a time, in order: writing there leaves the callers to compress.
    """

    def __init__(self, folder: Path, name: str, disk: Disk, background: Executor, *, level: int = 0) -> None:
        Pack.__init__(self, folder / name)
        self._temporary = self.path
        self._disk = disk
        self._file = disk.create_uncached(self.path)
        self._name = ""
        self._background = background
        self._last: Future[None] | None = None
        self._held: list[bytes] = []
        self._held_size = 0
        self._handing = threading.Lock()
        # What is not yet written is held in memory: as many batches.
        self._slots = threading.BoundedSemaphore(8)
        PackInMemory.__init__(self, level)

    def add(self, frame: bytes, chunks: Sequence[tuple[ChunkId, int]], bases: Sequence[ChunkId]) -> None:
        """Append a frame that was seen to decode to `chunks`, in order."""
        ends = list(accumulate((size for _, size in chunks), initial=0))
        placed = [Chunk(chunk, 0, inner, size) for (chunk, size), inner in zip(chunks, ends, strict=False)]
        proven = frames.checksum(frame)
        self.add_copy(Frame(0, 0, len(frame), ends[-1], tuple(bases), proven), frame, placed)

    def seal(self, *, unlike: Collection[str] = ()) -> str:
        """See PackInMemory."""
        self._name = super().seal(unlike=unlike)
        return self._name

    def publish(self, folder: Path, *, prove: Callable[[Path], None] | None = None) -> str:
        """Make the sealed pack durable and give it its name in `folder`; the name.

        `prove` looks at the file before it has the name, and raises to keep it from getting it.
        """
        self._settle()
        self._file.sync()
        if prove is not None:
            prove(self.path)
        self._file.close()
        with self._lock:
            self._disk.rename(self.path, folder / self._name)
            self.path = folder / self._name
        self._disk.sync_folder(folder)
        return self._name

    def drop(self) -> None:
        """Forget what was written; a pack that has its final name keeps it."""
        if self._last is not None:
            self._last.exception()
        self._file.close()
        self._disk.unlink(self._temporary)

    def read(self, frame: Frame) -> bytes:
        """The frame as it is stored, also when it is still on its way to the disk."""
        self._settle()
        with self._lock:
            # Once published, it is a pack like any other.
            data = self._file.read(frame.offset, frame.stored) if self.path == self._temporary else b""
        return data or super().read(frame)

    def _settle(self) -> None:
        with self._handing:
            if self._held:
                self._hand_over()
            last = self._last
        if last is not None:
            last.result()

    def _write(self, data: bytes) -> None:
        with self._handing:
            self._held.append(data)
            self._held_size += len(data)
            if self._held_size >= _BATCH:
                self._hand_over()

    def _hand_over(self) -> None:
        if self._last is not None and self._last.done():
            self._last.result()
        self._slots.acquire()
        held, self._held, self._held_size = self._held, [], 0
        self._last = self._background.submit(self._write_now, self._last, held)

    def _write_now(self, before: Future[None] | None, held: Iterable[bytes]) -> None:
        try:
            # After a failed write nothing behind it counts.
            if before is not None:
                before.result()
            for data in held:
                self._file.write(data)
        finally:
            self._slots.release()
