"""One round of upkeep: packs become new ones, and go when everything that was wanted of them is read without them."""

from __future__ import annotations

import os
import secrets
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

from gitvault.core.models import ChunkId
from gitvault.core.storage import frames
from gitvault.core.storage.appender import PACK_SIZE
from gitvault.core.storage.census import Census
from gitvault.core.storage.condemned import acquit, condemn, condemned
from gitvault.core.storage.index import ChunkIndex
from gitvault.core.storage.packs import PACK_NAME, Chunk, Frame, Pack, PackWriter, Table, by_frame, read_table
from gitvault.core.storage.reader import ChunkReader
from gitvault.core.utils.files import Disk
from gitvault.errors import ContentMissing, CorruptionError, LockedError, NotFoundError, StorageFullError, ToolStopped

IDLE_LEVEL = 9
"""In the background: 60 MB/s a core, and most of what the highest level gains."""

JOINED = 4 << 20
"""Neighbouring frames become one up to this length: at level 18 samples take 9 % less than in frames of 1 MiB,
textures, meshes and records 1 to 5 %. Above `IDLE_LEVEL` twice that: samples 3.5 % less again."""

_IN_FLIGHT = 16
# What is tried: of samples (sound) 64 KiB in 4 MiB often showed no gain, where level 18 takes 5 % off the whole.
_SAMPLE = 64 << 10
_SAMPLED = 32
_NOT_WORTH_IT = 0.97

_Recoded = tuple[Frame, list[Chunk], bytes]
"""A frame, its number and place not yet those of the new pack; its chunks; its bytes."""


class _Unreadable(Exception):
    """A frame of an old pack; what goes wrong with a new one is something else."""


class Round:
    """Some packs become new ones of `level`. Used in the order of its methods; the vault's lock is held.

    `old`: all packs that will go, so that nothing is left out because one of them has it. `live`: what is needed, the
    rest is not written; without it, everything. `unmoved`: whether that is so still, asked before anything is deleted.
    """

    def __init__(
        self,
        folder: Path,
        index: ChunkIndex,
        disk: Disk,
        level: int,
        old: Collection[str],
        live: Census | None = None,
        unmoved: Callable[[], bool] = lambda: True,
    ) -> None:
        self.made: dict[str, int] = {}
        """The packs that hold it now, with the bytes of their frames."""
        self.damaged: list[str] = []
        self._folder = folder
        self._index = index
        self._disk = disk
        self._level = level
        self._old = old
        self._live = live
        self._unmoved = unmoved
        self._tables: dict[str, Table] = {}
        self._written: set[tuple[object, ...]] = set()
        self._plain: set[ChunkId] = set()
        self._unread: set[ChunkId] = set()
        self._new: list[Path] = []
        self._reader = ChunkReader(folder, index, disk)
        self._writer: PackWriter | None = None
        self._background = ThreadPoolExecutor(1, "pack-write")
        self._pool = ThreadPoolExecutor(min(os.cpu_count() or 1, 8), "repack")

    def rewrite(self, name: str, stop: Callable[[], bool] | None = None) -> None:
        """Write what is in a pack into new ones; one that is damaged stays, for who can repair it."""
        pack = Pack(self._folder / name)
        live = self._live.frames(name) if self._live else None
        try:
            table = _table(pack.path)
            recoded = list(self._recoded(pack, table, live, stop))
        except _Unreadable:
            self.damaged.append(name)
            return
        table = self._owed(table)
        for frame, chunks, stored in recoded:
            if not self._is_written(frame, chunks):
                self._open().add_copy(frame, stored, chunks)
                self._written.add(_content(frame, chunks))
                self._plain.update(() if frame.bases else (chunk.id for chunk in chunks))
        for manifest in table.manifests:
            oid, parts = manifest
            if manifest not in self._written and parts not in self._index.manifests(oid, without=self._old):
                self._open().add_manifest(oid, parts)
                self._written.add(manifest)
        self._tables[name] = table

    def write_plain(self, name: str, numbers: Collection[int], wanted: Callable[[ChunkId], bool]) -> None:
        """Write the chunks that are `wanted` of some frames of a pack once more, coded against nothing.

        The pack stays. One that is damaged: see `damaged`, nothing of it is written.
        """
        pack = Pack(self._folder / name)
        try:
            parts = [part for part in by_frame(_table(pack.path)) if part[0].number in numbers]
            tasks = (partial(self._plainly, pack, frame, chunks, wanted) for frame, chunks in parts)
            recoded = list(self._in_order(tasks))
        except _Unreadable:
            self.damaged.append(name)
            return
        for frame, chunks, stored in recoded:
            self._open().add_copy(frame, stored, chunks)

    def publish(self) -> None:
        """Make the new packs durable."""
        self._seal()
        self._pool.shutdown()
        self._background.shutdown()
        self._reader.close()

    def abandon(self) -> None:
        """As if nothing had been done. The last first: one may be coded against those before it."""
        self._pool.shutdown(cancel_futures=True)
        self._background.shutdown()
        self._reader.close()
        if self._writer is not None:
            self._writer.drop()
        for path in reversed(self._new):
            self._disk.unlink(path)
        self._index.refresh(force=True)

    def replace(self) -> None:
        """Let the old packs go, when all in them is found without them; whatever is raised, they are back."""
        trash = self._folder / "trash"
        moved = [name for name in self._tables if name not in self.made]
        if not moved:
            return
        try:
            condemn(self._folder, moved, self._disk)
            move(moved, self._folder, trash, self._disk)
            self._index.refresh(force=True)
            for name in moved:
                _prove(self._tables[name], self._folder, self._index, self._disk)
            if not self._unmoved():
                raise LockedError(f"{self._folder}: another program moved a ref meanwhile; nothing is lost, run again")
        except BaseException:
            if gone := [name for name in moved if not (self._folder / name).exists()]:
                move(gone, trash, self._folder, self._disk)
            acquit(self._folder, self._disk)
            self.abandon()
            raise
        for name in moved:
            self._disk.unlink(trash / name)
        # All of it is gone before any of it counts again: what is coded against what has gone must not come back.
        # Where that cannot be made sure of it stays condemned, and the next run ends this one.
        with suppress(OSError, StorageFullError):
            self._disk.sync_folder(trash)
            acquit(self._folder, self._disk)

    def _owed(self, table: Table) -> Table:
        """What of a pack must be found without it."""
        live = self._live
        if live is None:
            return table
        chunks = [chunk for chunk in table.chunks if live.needs(chunk.id) and chunk.id not in self._unread]
        return replace(table, chunks=chunks, manifests=[row for row in table.manifests if live.needs_manifest(row[0])])

    def _recoded(
        self, pack: Pack, table: Table, live: Collection[int] | None, stop: Callable[[], bool] | None
    ) -> Iterator[_Recoded]:
        """What is not in another pack as well, as it is stored from now on. `live`: only these frames."""
        harder = table.level < self._level
        limit = JOINED * (1 + (self._level > IDLE_LEVEL)) if harder else 0
        needed = self._needed(table, live, stop)
        yield from self._in_order(partial(self._recode, pack, parts, harder) for parts in _neighbours(needed, limit))

    def _in_order(self, tasks: Iterable[Callable[[], list[_Recoded]]]) -> Iterator[_Recoded]:
        waiting: deque[Future[list[_Recoded]]] = deque()
        for task in tasks:
            waiting.append(self._pool.submit(task))
            if len(waiting) > _IN_FLIGHT:
                yield from waiting.popleft().result()
        for future in waiting:
            yield from future.result()

    def _needed(
        self, table: Table, live: Collection[int] | None, stop: Callable[[], bool] | None
    ) -> Iterator[tuple[Frame, list[Chunk]]]:
        for frame, chunks in by_frame(table):
            if live is not None and frame.number not in live:
                continue
            if stop is not None and stop():
                raise ToolStopped("repacking the chunk store: another run wants the vault; the next one goes on")
            # What a run that was killed has written already.
            if chunks and not self._is_written(frame, chunks) and not self._is_elsewhere(frame, chunks):
                yield frame, chunks

    def _recode(self, pack: Pack, parts: list[tuple[Frame, list[Chunk]]], harder: bool) -> list[_Recoded]:
        try:
            decoded = [self._read(pack, frame, chunks) for frame, chunks in parts]
        except _Unreadable:
            frame, chunks = parts[0]
            lost = {chunk.id for chunk in chunks}
            if not (frame.bases and self._live and any(map(self._live.is_lost, lost))):
                raise
            # What it stands on is known to be missing: as it is, it can be read again when that comes back.
            self._unread |= lost
            return [(frame, chunks, pack.read(frame))]
        old = [(frame, chunks, stored) for (frame, chunks), (_, _, stored) in zip(parts, decoded, strict=True)]
        data = b"".join(data for data, _, _ in decoded)
        size = sum(len(stored) for _, _, stored in old)
        _, dictionary, _ = decoded[0]
        first = parts[0][0]
        if not harder or _is_noise(first):
            return old
        best = self._compress(data, dictionary)
        if len(best) >= size:
            return old
        joined: list[Chunk] = []
        start = 0
        for frame, chunks in parts:
            joined += (replace(chunk, inner=start + chunk.inner) for chunk in chunks)
            start += frame.length
        return [(replace(first, length=len(data)), joined, best)]

    def _plainly(
        self, pack: Pack, frame: Frame, chunks: list[Chunk], wanted: Callable[[ChunkId], bool]
    ) -> list[_Recoded]:
        data, _, _ = self._read(pack, frame, chunks)
        pieces: list[bytes] = []
        placed: list[Chunk] = []
        start = 0
        for chunk in chunks:
            if wanted(chunk.id):
                pieces.append(data[chunk.inner : chunk.inner + chunk.length])
                placed.append(replace(chunk, inner=start))
                start += chunk.length
        best = self._compress(b"".join(pieces), b"")
        return [(Frame(0, 0, len(best), start), placed, best)]

    def _compress(self, data: bytes, dictionary: bytes) -> bytes:
        level = self._level
        middle = data[len(data) // 2 :][: max(len(data) // _SAMPLED, _SAMPLE)]
        if level > IDLE_LEVEL and len(frames.compress(middle, level)) > 0.98 * len(frames.compress(middle, IDLE_LEVEL)):
            # Records and most delta-coded frames: a hundred times the work for nothing.
            level = IDLE_LEVEL
        best = frames.compress(data, level, dictionary)
        frames.check(best, len(data), dictionary)
        return best

    def _read(self, pack: Pack, frame: Frame, chunks: list[Chunk]) -> tuple[bytes, bytes, bytes]:
        """A frame's content, what it is coded against, and what is stored."""
        try:
            return *self._reader.decode(pack, frame, chunks), pack.read(frame)
        except (CorruptionError, NotFoundError, OSError) as error:
            raise _Unreadable from error

    def _is_written(self, frame: Frame, chunks: Sequence[Chunk]) -> bool:
        if frame.bases:
            return _content(frame, chunks) in self._written
        return all(chunk.id in self._plain for chunk in chunks)

    def _is_elsewhere(self, frame: Frame, chunks: Sequence[Chunk]) -> bool:
        """Whether packs that stay have the same, and it is sound."""
        places = self._index.find({chunk.id for chunk in chunks}, without=self._old)
        if len(places) < len({chunk.id for chunk in chunks}):
            return False
        copies = {(place.pack, place.frame) for place in places.values()}
        if any(copy.bases != frame.bases for _, copy in copies) or (frame.bases and len(copies) > 1):
            return False
        return not any(
            any(self._reader.check_frame(place.pack, place.frame, [Chunk(chunk, 0, place.inner, place.length)]))
            for chunk, place in places.items()
        )

    def _open(self) -> PackWriter:
        if self._writer is not None and self._writer.size >= PACK_SIZE:
            self._seal()
        if self._writer is None:
            folder = self._folder / "tmp"
            self._disk.make_folder(folder)
            name = f"{secrets.token_hex(16)}.zpk"
            self._writer = PackWriter(folder, name, self._disk, self._background, level=self._level)
        return self._writer

    def _seal(self) -> None:
        writer = self._writer
        if writer is None:
            return
        name = writer.seal()
        if name in self._tables:
            # Nothing has changed: the old one, which has been read whole, stays.
            writer.drop()
        else:
            # Before it has the name: what fails behind the rename must find it.
            self._new.append(self._folder / name)
            writer.publish(self._folder)
            self._index.add(name, writer.table)
        self.made[name] = sum(frame.stored for frame in writer.table.frames)
        self._writer = None


def empty_trash(folder: Path, index: ChunkIndex, disk: Disk) -> None:
    """Delete what an earlier run moved there and did not come to delete; anything else stays, readers look there."""
    settle(folder, index, disk)
    for path in sorted((folder / "trash").glob("*.zpk")):
        if PACK_NAME.fullmatch(path.name):
            try:
                _prove(read_table(path), folder, index, disk)
            except (CorruptionError, NotFoundError, OSError):
                continue
            disk.unlink(path)


def settle(folder: Path, index: ChunkIndex, disk: Disk) -> None:
    """A run that was killed while packs went: they are all gone, or all back and count again. With the lock held.

    Some of them may be coded against others, so none may be relied on when one of them is not there.
    """
    trash = folder / "trash"
    names = sorted(condemned(folder))
    if not names:
        return
    if all((folder / name).exists() or (trash / name).exists() for name in names):
        if away := [name for name in names if not (folder / name).exists()]:
            move(away, trash, folder, disk)
    else:
        # What is needed of them was durable elsewhere before they were condemned.
        for name in names:
            disk.unlink(folder / name)
            disk.unlink(trash / name)
        disk.sync_folder(folder)
        if trash.exists():
            disk.sync_folder(trash)
    acquit(folder, disk)
    index.refresh(force=True)


def _prove(table: Table, folder: Path, index: ChunkIndex, disk: Disk) -> None:
    """Read all that was in a pack which is not in `folder` any more. Raises CorruptionError, ContentMissing."""
    reader = ChunkReader(folder, index, disk, trash=False)
    try:
        for _, chunks in by_frame(table):
            reader.read([chunk.id for chunk in chunks])
        for oid, parts in table.manifests:
            if parts not in index.manifests(oid):
                raise ContentMissing(f"manifest {oid}: in no pack; run git-vault verify")
    finally:
        reader.close()


def move(names: Sequence[str], source: Path, target: Path, disk: Disk) -> None:
    """Move packs from one folder to the other, durably."""
    disk.make_folder(target)
    for name in names:
        disk.rename(source / name, target / name)
    # First where they came to: they must not be gone from both.
    disk.sync_folder(target)
    disk.sync_folder(source)


def _table(path: Path) -> Table:
    try:
        return read_table(path, strict=True)
    except (CorruptionError, OSError) as error:
        raise _Unreadable from error


def _neighbours(parts: Iterable[tuple[Frame, list[Chunk]]], limit: int) -> Iterator[list[tuple[Frame, list[Chunk]]]]:
    """Frames that can become one, in order: of those that stand alone and compress, up to `limit` bytes together."""
    together: list[tuple[Frame, list[Chunk]]] = []
    size = 0
    for frame, chunks in parts:
        alone = frame.bases or _is_noise(frame)
        if together and (alone or size + frame.length > limit):
            yield together
            together, size = [], 0
        if alone:
            yield [(frame, chunks)]
        else:
            together.append((frame, chunks))
            size += frame.length
    if together:
        yield together


def _is_noise(frame: Frame) -> bool:
    """Whether it stands alone and no level makes it smaller."""
    return not frame.bases and frame.stored > _NOT_WORTH_IT * frame.length


def _content(frame: Frame, chunks: Sequence[Chunk]) -> tuple[object, ...]:
    """The same for a frame and its copy in another pack, however hard that is compressed."""
    return frame.bases, tuple((chunk.id, chunk.inner) for chunk in chunks)
