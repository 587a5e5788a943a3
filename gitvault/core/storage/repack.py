"""Upkeep of the chunk store: many small packs into few, and compressed harder, now that nobody waits.

In rounds of limited size. New packs are written and durable before an old one moves; the old ones go to `trash/`,
where readers still look, and are deleted when everything in them has been read back without them. A kill at any
point leaves every chunk in a pack, at worst in two, which the next run notices: of what stands alone, and of deltas
with the same chunks and bases, one is kept. Other copies stay: what one is coded against may be coded against another.
"""

from __future__ import annotations

import os
import secrets
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from gitvault.core.interfaces import Progress
from gitvault.core.models import ChunkId
from gitvault.core.storage import frames
from gitvault.core.storage.appender import PACK_SIZE
from gitvault.core.storage.index import ChunkIndex, PackSummary
from gitvault.core.storage.packs import PACK_NAME, Chunk, Frame, Pack, PackWriter, Table, by_frame, read_table
from gitvault.core.storage.reader import ChunkReader
from gitvault.core.utils.files import Disk
from gitvault.errors import ContentMissing, CorruptionError, NotFoundError, ToolStopped

IDLE_LEVEL = 9
"""In the background: 60 MB/s a core, and most of what the highest level gains."""
FULL_LEVEL = 18
"""When asked for: 4 MB/s a core where it gains anything. Meshes 24 % and textures 15 % smaller than at 9."""

JOINED = 4 << 20
"""Neighbouring frames become one up to this length: at level 18 samples take 9 % less than in frames of 1 MiB,
textures, meshes and records 1 to 5 %."""

_SMALL = PACK_SIZE // 4
# Small packs that are worth a run nobody asked for, and bytes that are.
_MANY = 16
_ENOUGH = 128 << 20
# Old and new are on the disk together for one round.
_ROUND = 1 << 30
_IN_FLIGHT = 16
_SAMPLE = 64 << 10
_NOT_WORTH_IT = 0.97

_Recoded = tuple[Frame, list[Chunk], bytes]
"""A frame, its number and place not yet those of the new pack; its chunks; its bytes."""


@dataclass(frozen=True, slots=True)
class StoreRepack:
    """What was done; sizes are bytes of frames."""

    packs_before: int
    packs_after: int
    bytes_before: int
    bytes_after: int
    damaged: tuple[str, ...] = ()
    """Names of packs that were left as they are, because something in them cannot be read."""

    def summary(self) -> str:
        """One line for people."""
        text = (
            f"{self.packs_before} packs of {self.bytes_before >> 20} MiB are now "
            f"{self.packs_after} of {self.bytes_after >> 20} MiB"
        )
        return text + (f"; {len(self.damaged)} damaged left alone, run git-vault verify" if self.damaged else "")


def due(index: ChunkIndex, *, asked: bool) -> list[PackSummary]:
    """The packs that a repack would rewrite; none when it does not pay. `asked`: anything to gain is reason enough."""
    # Nobody is to start again and again what a damaged pack will stop.
    hopeless = set() if asked else index.damaged()
    packs = [pack for pack in index.packs() if pack.name not in hopeless]
    level = FULL_LEVEL if asked else IDLE_LEVEL
    fresh = [pack for pack in packs if pack.level < level]
    small = [pack for pack in packs if pack.size < _SMALL]
    if not asked and sum(pack.size for pack in fresh) < _ENOUGH:
        fresh = []
    if len(small) < (2 if asked else _MANY):
        small = []
    return sorted({*fresh, *small}, key=lambda pack: pack.number)


def repack(
    folder: Path,
    index: ChunkIndex,
    disk: Disk,
    *,
    asked: bool,
    progress: Progress | None = None,
    stop: Callable[[], bool] | None = None,
) -> StoreRepack | None:
    """Do what is due; None when nothing was. For whoever holds the vault's lock.

    Raises ToolStopped when `stop` says so, StorageFullError, OSError, and CorruptionError when what was written does
    not read back: the store is then as before.
    """
    _empty_trash(folder, index, disk)
    packs = due(index, asked=asked)
    if not packs:
        return None
    damaged = sorted(index.unreadable)
    total = sum(pack.size for pack in packs)
    after: dict[str, int] = {}
    written = 0
    left: list[PackSummary] = []
    for due_now in _rounds(packs):
        group = [*left, *due_now]
        run = _Round(folder, index, disk, FULL_LEVEL if asked else IDLE_LEVEL, {pack.name for pack in group})
        try:
            # Of two copies the one that took more work is kept.
            for pack in sorted(group, key=lambda pack: -pack.level):
                if progress:
                    progress("compressing packs", written, total)
                run.rewrite(pack.name, stop)
                written += pack.size if pack not in left else 0
            run.publish()
        except BaseException:
            run.abandon()
            raise
        run.replace()
        damaged += run.damaged
        index.note_damaged(run.damaged)
        names = {pack.name for pack in left}
        after = {name: size for name, size in after.items() if name not in names} | run.made
        after |= {pack.name: pack.size for pack in group if pack.name in run.damaged}
        # What did not fill a pack goes on with the next round.
        left = [pack for pack in index.packs() if pack.name in run.made and pack.size < _SMALL]
    if progress:
        progress("compressing packs", total, total)
    return StoreRepack(len(packs), len(after), total, sum(after.values()), tuple(damaged))


def _rounds(packs: Iterable[PackSummary]) -> Iterator[list[PackSummary]]:
    group: list[PackSummary] = []
    for pack in packs:
        if group and sum(p.size for p in group) + pack.size > _ROUND:
            yield group
            group = []
        group.append(pack)
    if group:
        yield group


class _Unreadable(Exception):
    """A frame of an old pack; what goes wrong with a new one is something else."""


class _Round:
    """The packs `old` become new ones of `level`."""

    def __init__(self, folder: Path, index: ChunkIndex, disk: Disk, level: int, old: set[str]) -> None:
        self.made: dict[str, int] = {}
        """The packs that hold it now, with the bytes of their frames."""
        self.damaged: list[str] = []
        self._folder = folder
        self._index = index
        self._disk = disk
        self._level = level
        self._old = old
        self._tables: dict[str, Table] = {}
        self._written: set[tuple[object, ...]] = set()
        self._plain: set[ChunkId] = set()
        self._new: list[Path] = []
        self._reader = ChunkReader(folder, index, disk)
        self._writer: PackWriter | None = None
        self._background = ThreadPoolExecutor(1, "pack-write")
        self._pool = ThreadPoolExecutor(min(os.cpu_count() or 1, 8), "repack")

    def rewrite(self, name: str, stop: Callable[[], bool] | None) -> None:
        """Write what is in a pack into new ones; one that is damaged stays, for who can repair it."""
        pack = Pack(self._folder / name)
        try:
            table = _table(pack.path)
            recoded = list(self._recoded(pack, table, stop))
        except _Unreadable:
            self.damaged.append(name)
            return
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
            _move(moved, self._folder, trash, self._disk)
            self._index.refresh(force=True)
            for name in moved:
                _prove(self._tables[name], self._folder, self._index, self._disk)
        except BaseException:
            if gone := [name for name in moved if not (self._folder / name).exists()]:
                _move(gone, trash, self._folder, self._disk)
            self.abandon()
            raise
        for name in moved:
            self._disk.unlink(trash / name)

    def _recoded(self, pack: Pack, table: Table, stop: Callable[[], bool] | None) -> Iterator[_Recoded]:
        """What is not in another pack as well, as it is stored from now on."""
        harder = table.level < self._level
        waiting: deque[Future[list[_Recoded]]] = deque()
        for parts in _neighbours(self._needed(table, stop), JOINED if harder else 0):
            waiting.append(self._pool.submit(self._recode, pack, parts, harder))
            if len(waiting) > _IN_FLIGHT:
                yield from waiting.popleft().result()
        for future in waiting:
            yield from future.result()

    def _needed(self, table: Table, stop: Callable[[], bool] | None) -> Iterator[tuple[Frame, list[Chunk]]]:
        for frame, chunks in by_frame(table):
            if stop is not None and stop():
                raise ToolStopped("repacking the chunk store: another run wants the vault; the next one goes on")
            # What a run that was killed has written already.
            if chunks and not self._is_written(frame, chunks) and not self._is_elsewhere(frame, chunks):
                yield frame, chunks

    def _recode(self, pack: Pack, parts: list[tuple[Frame, list[Chunk]]], harder: bool) -> list[_Recoded]:
        decoded = [self._read(pack, frame, chunks) for frame, chunks in parts]
        old = [(frame, chunks, stored) for (frame, chunks), (_, _, stored) in zip(parts, decoded, strict=True)]
        data = b"".join(data for data, _, _ in decoded)
        size = sum(len(stored) for _, _, stored in old)
        _, dictionary, _ = decoded[0]
        first = parts[0][0]
        if not harder or _is_noise(first):
            return old
        level = self._level
        middle = data[len(data) // 2 :][:_SAMPLE]
        if level > IDLE_LEVEL and len(frames.compress(middle, level)) > 0.98 * len(frames.compress(middle, IDLE_LEVEL)):
            # Records and most delta-coded frames: a hundred times the work for nothing.
            level = IDLE_LEVEL
        best = frames.compress(data, level, dictionary)
        frames.check(best, len(data), dictionary)
        if len(best) >= size:
            return old
        joined: list[Chunk] = []
        start = 0
        for frame, chunks in parts:
            joined += (replace(chunk, inner=start + chunk.inner) for chunk in chunks)
            start += frame.length
        return [(replace(first, length=len(data)), joined, best)]

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


def _empty_trash(folder: Path, index: ChunkIndex, disk: Disk) -> None:
    """Delete what an earlier run moved there and did not come to delete; anything else stays, readers look there."""
    for path in sorted((folder / "trash").glob("*.zpk")):
        if PACK_NAME.fullmatch(path.name):
            try:
                _prove(read_table(path), folder, index, disk)
            except (CorruptionError, NotFoundError, OSError):
                continue
            disk.unlink(path)


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


def _move(names: Sequence[str], source: Path, target: Path, disk: Disk) -> None:
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
