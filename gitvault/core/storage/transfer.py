"""Large files from one store into another: the frames they lie in, as they are stored.

A frame comes after all it is coded against, so that every pack has its bases when it gets its name. It is checked
twice: where it comes from it is decoded, or has the checksum it had when it was; and it is read back where it went
before the pack there gets a name. What a killed run has brought over is there for the next one. Upkeep may move packs
in the source meanwhile: what is still missing is looked up again.
"""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from gitvault.core.interfaces import Progress
from gitvault.core.models import ChunkId
from gitvault.core.storage import frames
from gitvault.core.storage.appender import PACK_SIZE
from gitvault.core.storage.index import ChunkIndex, Place
from gitvault.core.storage.packs import Chunk, Frame, Pack, PackWriter, Table, by_frame, read_table
from gitvault.core.storage.reader import ChunkReader
from gitvault.core.utils.files import Disk
from gitvault.errors import ContentMissing, CorruptionError

# Bytes of frames that are looked up before they are copied: bounds what is remembered, and what has to be looked up
# again when packs move.
_ROUND = 1 << 30
# Upkeep in the source replaces packs once per round of its own; each time what is missing is looked up anew.
_ATTEMPTS = 5
_IN_FLIGHT = 16
_LEVEL = 3
_FrameKey = tuple[Path, int]


@dataclass(frozen=True, slots=True)
class Content:
    """A file by its hash: the chunks that hold its manifest (none for a file of one chunk), and its own."""

    oid: str
    parts: Sequence[ChunkId]
    chunks: Sequence[ChunkId]


@dataclass(frozen=True, slots=True)
class _Planned:
    place: Place
    depth: int
    """How many frames that are copied too it stands on, in a row."""
    alone: bool
    """Whether it is coded anew, against nothing."""


class Target(Protocol):
    """Where frames are copied to. For one thread."""

    def there(self, chunks: Collection[ChunkId]) -> Collection[ChunkId]:
        """Those of the chunks that are there."""
        ...

    def has_manifest(self, oid: str, parts: tuple[ChunkId, ...]) -> bool:
        """Whether the file's manifest of these chunks is there, or was added."""
        ...

    def add(self, level: int, frame: Frame, stored: bytes, chunks: Sequence[Chunk]) -> None:
        """Take a frame, from a pack of that level, that comes after all it is coded against."""
        ...

    def add_manifest(self, oid: str, parts: tuple[ChunkId, ...]) -> None:
        """Take a manifest, after all it names."""
        ...

    def flush(self) -> None:
        """Make durable what was added, also what an earlier run did not come to."""
        ...


class Transfer:
    """Copies from where `reader` reads into `target`.

    For one thread that holds the lock of the vault `target` is in. After an error what was copied stays: it is whole.
    """

    def __init__(
        self, source: ChunkIndex, reader: ChunkReader, target: Target, progress: Progress, deepest: int = 0
    ) -> None:
        """`deepest`: of so many frames that stand on each other one goes alone; 0: none does."""
        self._deepest = deepest
        self._source = source
        self._reader = reader
        self._target = target
        self._progress = progress
        self._files: list[Content] = []
        self._plan: dict[_FrameKey, _Planned] = {}
        self._planned = 0
        self._tables: dict[Path, Table] = {}

    def add(self, file: Content) -> None:
        """Copy a file's content, now or at the next `flush`. Raises CorruptionError, StorageFullError, OSError."""
        self._look_up(file)
        self._files.append(file)
        if self._planned >= _ROUND:
            self.flush()

    def flush(self) -> None:
        """Copy what was added; durable when this returns. Errors as in `add`."""
        try:
            for attempt in range(1, _ATTEMPTS + 1):
                try:
                    self._copy()
                    return
                except (FileNotFoundError, CorruptionError):
                    # Packs were moved, or a frame is damaged of which there may be another copy.
                    if attempt == _ATTEMPTS:
                        raise
                self._source.refresh(force=True)
                self._plan, self._planned, self._tables = {}, 0, {}
                for file in self._files:
                    self._look_up(file)
        except FileNotFoundError as error:
            raise ContentMissing(f"{error.filename}: gone while it was copied; run again") from error
        finally:
            self._files, self._plan, self._planned, self._tables = [], {}, 0, {}

    def _look_up(self, file: Content) -> None:
        self._plan_for([*file.parts, *file.chunks], ())

    def _plan_for(self, chunks: Sequence[ChunkId], above: tuple[_FrameKey, ...]) -> int:
        """Plan the frames of those chunks that are not there yet, and what they stand on; the depth of the deepest."""
        there = self._target.there(set(chunks))
        missing = [chunk for chunk in dict.fromkeys(chunks) if chunk not in there]
        places = self._reader.locate(missing, above) if missing else {}
        deepest = 0
        for place in places.values():
            key = place.pack.path, place.frame.number
            if key not in self._plan:
                alone = self._goes_alone(place)
                bases = () if alone else place.frame.bases
                depth = self._plan_for(bases, (*above, key)) + 1 if bases else 1
                self._plan[key] = _Planned(place, depth, alone)
                self._planned += place.frame.stored
            deepest = max(deepest, self._plan[key].depth)
        return deepest

    def _copy(self) -> None:
        threads = min(os.cpu_count() or 1, 8)
        done = 0
        with ThreadPoolExecutor(threads, "copy") as pool:
            try:
                for level, frame, chunks, stored in self._read(pool):
                    self._target.add(level, frame, stored, chunks)
                    done += len(stored)
                    self._progress("copying", done, self._planned)
                for file in self._files:
                    # Last, when all it names is there.
                    if file.parts and not self._target.has_manifest(file.oid, tuple(file.parts)):
                        self._target.add_manifest(file.oid, tuple(file.parts))
            finally:
                # Also after an error: each frame that was written has what it stands on.
                self._target.flush()

    def _read(self, pool: ThreadPoolExecutor) -> Iterator[tuple[int, Frame, list[Chunk], bytes]]:
        """The planned frames with their pack's level, their chunks and their bytes, bases first."""
        waiting: deque[tuple[int, list[Chunk], Future[tuple[Frame, bytes]]]] = deque()

        def take() -> tuple[int, Frame, list[Chunk], bytes]:
            level, chunks, made = waiting.popleft()
            frame, stored = made.result()
            return level, frame, chunks, stored

        depths: dict[int, dict[Path, list[int]]] = {}
        for (path, number), planned in self._plan.items():
            depths.setdefault(planned.depth, {}).setdefault(path, []).append(number)
        try:
            for _, packs in sorted(depths.items()):
                # One level a pack; and one pack behind the other, as it lies on the disk.
                for path in sorted(packs, key=lambda path: (self._table(path).level, path)):
                    table = self._table(path)
                    contents = list(by_frame(table))
                    for number in sorted(packs[path]):
                        frame, chunks = contents[number]
                        planned = self._plan[path, number]
                        waiting.append((table.level, chunks, pool.submit(self._stored, planned, frame, chunks)))
                        if len(waiting) > _IN_FLIGHT:
                            yield take()
            while waiting:
                yield take()
        finally:
            for *_, future in waiting:
                future.cancel()

    def _goes_alone(self, place: Place) -> bool:
        return bool(self._deepest and place.frame.bases) and self._reader.depth(place) % self._deepest == 0

    def _stored(self, planned: _Planned, frame: Frame, chunks: list[Chunk]) -> tuple[Frame, bytes]:
        """A frame as it goes there."""
        pack = planned.place.pack
        if planned.alone:
            data, _ = self._reader.decode(pack, frame, chunks)
            return replace(frame, bases=(), proven=None), frames.compress(data, _LEVEL)
        # The table says what counts; that it was proven, the index alone remembers.
        known = planned.place.frame if planned.place.frame == frame else frame
        stored, proven = self._reader.stored(pack, known, chunks)
        return replace(frame, proven=proven), stored

    def _table(self, path: Path) -> Table:
        if path not in self._tables:
            self._tables[path] = read_table(path)
        return self._tables[path]


class PackFolder:
    """A Target: the packs in a folder, of which `index` knows what is there."""

    def __init__(self, folder: Path, index: ChunkIndex, disk: Disk) -> None:
        self.packs = self.chunks = self.bytes = 0
        """Written so far; bytes are those of whole packs."""
        self._folder = folder
        self._index = index
        self._disk = disk
        self._writer: PackWriter | None = None
        self._background: ThreadPoolExecutor | None = None
        self._written = hashlib.sha256()

    def there(self, chunks: Collection[ChunkId]) -> Collection[ChunkId]:
        """See Target."""
        return self._index.known(chunks)

    def has_manifest(self, oid: str, parts: tuple[ChunkId, ...]) -> bool:
        """See Target."""
        fresh = self._writer.manifests if self._writer is not None else {}
        return oid in fresh or parts in self._index.manifests(oid)

    def add(self, level: int, frame: Frame, stored: bytes, chunks: Sequence[Chunk]) -> None:
        """See Target. Raises StorageFullError, OSError, also for what does not read back."""
        writer = self._writer
        if writer is not None and (writer.size >= PACK_SIZE or writer.table.level != level):
            self._publish()
        self._open(level).add_copy(frame, stored, chunks)
        self._written.update(stored)

    def add_manifest(self, oid: str, parts: tuple[ChunkId, ...]) -> None:
        """See Target."""
        self._open(0).add_manifest(oid, parts)

    def flush(self) -> None:
        """See Target. Errors as in `add`."""
        self._publish()
        if self._folder.exists():
            # Also when nothing was written: a killed run may have renamed packs and not come this far.
            self._disk.sync_folder(self._folder)

    def _open(self, level: int) -> PackWriter:
        if self._writer is None:
            folder = self._folder / "tmp"
            self._disk.make_folder(folder)
            self._written = hashlib.sha256()
            self._background = ThreadPoolExecutor(1, "pack-write")
            name = f"{secrets.token_hex(16)}.zpk"
            self._writer = PackWriter(folder, name, self._disk, self._background, level=level)
        return self._writer

    def _publish(self) -> None:
        writer, self._writer = self._writer, None
        if writer is None or self._background is None:
            return
        table, expected = writer.table, self._written.digest()
        try:
            writer.seal()
            name = writer.publish(self._folder, prove=lambda path: _prove(path, table, expected))
        except BaseException:
            writer.drop()
            raise
        finally:
            self._background.shutdown()
        self._index.add(name, table)
        self.packs += 1
        self.chunks += len(table.chunks)
        self.bytes += writer.size


def _prove(path: Path, table: Table, expected: bytes) -> None:
    """Read back what was written and synced. Raises OSError: it is the disk's fault, nothing stored is damaged."""
    pack = Pack(path)
    found = hashlib.sha256()
    for frame in table.frames:
        found.update(pack.read(frame))
    if found.digest() != expected or read_table(path) != table:
        raise OSError(errno.EIO, "does not read back as it was written; check this disk", str(path))
