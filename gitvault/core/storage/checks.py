"""Verification of a whole store from its packs alone; the chunk index is not asked."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator
from concurrent.futures import Executor, Future
from pathlib import Path

from gitvault.core.interfaces import Extent, Progress
from gitvault.core.models import Defect, VerifyReport
from gitvault.core.storage.condemned import condemned
from gitvault.core.storage.index import ChunkIndex
from gitvault.core.storage.packs import PACK_NAME, Chunk, Frame, Pack, Table, by_frame, read_table
from gitvault.core.storage.reader import ChunkReader
from gitvault.core.utils.files import Disk
from gitvault.errors import CorruptionError, NotFoundError, UnsupportedFormatVersion

_IN_FLIGHT = 32


def verify(
    folder: Path, disk: Disk, pool: Executor, *, data: bool, extent: Extent | None, progress: Progress | None
) -> tuple[VerifyReport, set[str]]:
    """Check every pack in `folder`: see StorageManager.verify; and the packs in which something cannot be read.

    Raises UnsupportedFormatVersion for a pack that a newer gitvault wrote.
    """
    # A private index, made from the tables just now, finds bases and chunks in bounded memory.
    index = ChunkIndex(folder, None, disk)
    reader = ChunkReader(folder, index, disk)
    try:
        defects: list[Defect] = []
        damaged: set[str] = set()
        checked = 0
        size = 0
        seen: set[Path] = set()
        while packs := _packs(folder, seen):
            for number, path in enumerate(packs, len(seen)):
                if progress is not None:
                    progress("checking packs", number, len(seen) + len(packs))
                read: list[tuple[Frame, list[Chunk]]] = []
                try:
                    table = read_table(path, strict=True)
                    read = list(_wanted(path, table, extent)) if data else []
                    found = list(_check_content(path, read, reader, pool))
                    unread = bool(found)
                    found += _check_bases(path, table, {frame.number for frame, _ in read}, index)
                    found += _check_manifests(table, index, reader)
                except UnsupportedFormatVersion:
                    raise
                except (CorruptionError, OSError) as error:
                    table, read, found, unread = Table(), [], [Defect("pack", path.name, str(error))], True
                if found and (not path.exists() or path.name in condemned(folder)):
                    # Upkeep has replaced it, or was killed doing so; what was in it is checked where it is now.
                    continue
                defects += found
                damaged.update([path.name] if unread else [])
                checked += len(table.chunks) + len(table.manifests)
                size += sum(frame.length for frame, _ in read) if data else sum(f.stored for f in table.frames)
                if data and extent is not None and not found:
                    extent.read(path.name)
            seen.update(packs)
        if progress is not None:
            progress("checking packs", len(seen), len(seen))
        return VerifyReport(checked, size, tuple(defects)), damaged
    finally:
        reader.close()
        index.close()


def check_pack(path: Path, reader: ChunkReader, pool: Executor) -> list[Defect]:
    """What is wrong with the chunks of one pack, all of which are read; their bases are where `reader` finds them.

    Raises CorruptionError when the pack itself cannot be read, UnsupportedFormatVersion, OSError.
    """
    return list(_check_content(path, list(by_frame(read_table(path, strict=True))), reader, pool))


def _packs(folder: Path, seen: Collection[Path]) -> list[Path]:
    return sorted(p for p in folder.glob("*.zpk") if PACK_NAME.fullmatch(p.name) and p not in seen)


def _wanted(path: Path, table: Table, extent: Extent | None) -> Iterator[tuple[Frame, list[Chunk]]]:
    """The frames to read. One belongs to the share of its first chunk: so it does when upkeep has moved it."""
    if extent is None:
        yield from by_frame(table)
    elif not extent.was_read(path.name):
        yield from ((frame, chunks) for frame, chunks in by_frame(table) if chunks and extent.wants(chunks[0].id))


def _check_content(
    path: Path, frames: list[tuple[Frame, list[Chunk]]], reader: ChunkReader, pool: Executor
) -> Iterator[Defect]:
    pack = Pack(path)
    waiting: deque[tuple[list[Chunk], Future[list[str]]]] = deque()

    def collect() -> Iterator[Defect]:
        chunks, future = waiting.popleft()
        for chunk, reason in zip(chunks, future.result(), strict=True):
            if reason:
                yield Defect("chunk", chunk.id.hex(), reason)

    for frame, chunks in frames:
        waiting.append((chunks, pool.submit(reader.check_frame, pack, frame, chunks)))
        if len(waiting) > _IN_FLIGHT:
            yield from collect()
    while waiting:
        yield from collect()


def _check_bases(path: Path, table: Table, read: Collection[int], index: ChunkIndex) -> Iterator[Defect]:
    """Of the frames that are not `read`, which needs their bases."""
    for frame, chunks in by_frame(table):
        if frame.number in read:
            continue
        missing = set(frame.bases) - index.find(frame.bases).keys() if frame.bases else set()
        for base in sorted(missing):
            for chunk in chunks:
                yield Defect("chunk", chunk.id.hex(), f"{path.name}: it is coded against {base.hex()}, in no pack")


def _check_manifests(table: Table, index: ChunkIndex, reader: ChunkReader) -> Iterator[Defect]:
    for oid, parts in table.manifests:
        try:
            chunks = reader.manifest(oid, parts)
        except (CorruptionError, NotFoundError) as error:
            yield Defect("manifest", oid, str(error))
            continue
        found = index.find({chunk for chunk, _ in chunks})
        wrong = [chunk for chunk, length in chunks if chunk not in found or found[chunk].length != length]
        for chunk in dict.fromkeys(wrong):
            yield Defect("chunk", chunk.hex(), f"in no pack, or of another length; the file {oid} needs it")
