"""What can be had from a chunk store with damaged packs, put where it can be relied on again.

In this order: the whole pack from elsewhere, each lost chunk from elsewhere, and of a pack that stays damaged all that
can be read, in a new one; then it is set aside. A new pack is durable before an old one moves.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

from gitvault.core.models import ChunkId
from gitvault.core.storage import frames
from gitvault.core.storage.appender import PACK_SIZE
from gitvault.core.storage.index import ChunkIndex
from gitvault.core.storage.packs import PACK_NAME, Chunk, Frame, Pack, PackWriter, Table, by_frame, read_table
from gitvault.core.storage.reader import ChunkReader
from gitvault.core.utils.files import Disk
from gitvault.errors import CorruptionError, NotFoundError, UnsupportedFormatVersion

_LEVEL = 3

Said = Callable[[str, str, str], None]
"""Told kind, object and how, of each thing that is sound again."""


@dataclass(frozen=True, slots=True)
class Help:
    """Where else to look for what a store has lost."""

    whole: Callable[[Path], str]
    """Puts a sound copy of a pack in its place; where that came from, "" when there is none."""
    chunks: Callable[[set[ChunkId]], Iterable[tuple[bytes, str]]]
    """Those of the wanted that can be had, and perhaps others, each with where it came from."""
    set_aside: Callable[[Path], object]
    """Moves a pack to where no reader looks."""


def salvage(folder: Path, index: ChunkIndex, disk: Disk, others: Help, said: Said) -> None:
    """Leave only sound packs in `folder`.

    `index`: the store's own, which may remember the table of a pack that has lost it.
    Raises UnsupportedFormatVersion, StorageFullError, OSError.
    """
    changed = False
    while True:
        with closing(ChunkIndex(folder, None, disk)) as fresh:
            # Not the trash: what lies there is not to be relied on.
            reader = ChunkReader(folder, fresh, disk, trash=False)
            damaged = []
            newer: UnsupportedFormatVersion | None = None
            for path in packs_in(folder):
                try:
                    if is_sound(path, reader):
                        continue
                except UnsupportedFormatVersion as error:
                    # One flipped bit can make a version: then there is a copy that says otherwise.
                    newer = error
                damaged.append(path)
            if not damaged:
                break
            changed = True
            healed = {path: how for path in damaged if (how := others.whole(path))}
            for path, how in healed.items():
                said("pack", path.name, how)
            if healed:
                continue
            if newer:
                raise newer
            lost = {chunk.id for path in damaged for _, chunk in _lost(path, _table(path, index), reader)}
            bases = {base for path in damaged for frame in _table(path, index).frames for base in frame.bases}
            wanted = {chunk for chunk in lost | bases if not _reads(chunk, reader)}
            if add_chunks(folder, wanted, disk, others, said):
                continue
            for path in damaged:
                if _rescue(path, _table(path, index), reader, disk) == path.name:
                    said("pack", path.name, "all of its content could be read")
                else:
                    others.set_aside(path)
    if changed:
        index.rebuild()


def packs_in(folder: Path) -> list[Path]:
    """The packs of a folder, by name."""
    return sorted(path for path in folder.glob("*.zpk") if PACK_NAME.fullmatch(path.name))


def is_sound(path: Path, reader: ChunkReader) -> bool:
    """Whether all of a pack can be read, what it is coded against as `reader` finds it.

    Raises UnsupportedFormatVersion.
    """
    try:
        table = read_table(path, strict=True)
    except UnsupportedFormatVersion:
        raise
    except (CorruptionError, OSError):
        return False
    return not any(_lost(path, table, reader))


def add_chunks(folder: Path, wanted: set[ChunkId], disk: Disk, others: Help, said: Said) -> int:
    """Store, durably, those of `wanted` that can be had elsewhere; how many."""
    left = set(wanted)
    with _NewPack(folder, disk, 0) as pack:
        for data, how in others.chunks(set(wanted)) if wanted else ():
            chunk = ChunkId(hashlib.sha256(data).digest())
            if chunk in left:
                left.discard(chunk)
                pack.open().add(frames.compress(data, _LEVEL), [(chunk, len(data))], ())
                said("chunk", chunk.hex(), how)
    return len(wanted) - len(left)


def _rescue(path: Path, table: Table, reader: ChunkReader, disk: Disk) -> str:
    """All that can be read in a damaged pack, as it is stored, in a new one; the last one's name, "" for none.

    That is the damaged one's own when all of it could be read: then the new one is in its place.
    """
    old = Pack(path)
    with _NewPack(path.parent, disk, table.level) as pack:
        for frame, chunks in by_frame(table):
            # Not asked whether it is elsewhere too: that copy may be coded against this one.
            if chunks and not _fails(reader, old, frame, chunks):
                pack.open().add_copy(frame, old.read(frame), chunks)
        for oid, parts in table.manifests:
            if all(_reads(part, reader) for part in parts):
                pack.open().add_manifest(oid, parts)
    return pack.name


class _NewPack:
    """A pack that is begun with the first thing that goes in, and durable when the block ends."""

    def __init__(self, folder: Path, disk: Disk, level: int) -> None:
        self.name = ""
        self._folder = folder
        self._disk = disk
        self._level = level
        self._writer: PackWriter | None = None
        self._background = ThreadPoolExecutor(1, "pack-write")

    def open(self) -> PackWriter:
        if self._writer is not None and self._writer.size >= 2 * PACK_SIZE:
            self._publish()
        if self._writer is None:
            temporary = self._folder / "tmp"
            self._disk.make_folder(temporary)
            name = f"{secrets.token_hex(16)}.zpk"
            self._writer = PackWriter(temporary, name, self._disk, self._background, level=self._level)
        return self._writer

    def _publish(self) -> None:
        if self._writer is not None:
            self._writer.seal()
            self.name = self._writer.publish(self._folder)
            self._writer = None

    def __enter__(self) -> _NewPack:
        return self

    def __exit__(self, kind: type[BaseException] | None, *exc: object) -> None:
        try:
            if kind is None:
                self._publish()
        finally:
            if self._writer is not None:
                self._writer.drop()
            self._background.shutdown()


def _table(path: Path, index: ChunkIndex) -> Table:
    """A damaged pack's table: its own, or as the store's index remembers it; what it says is checked by hashes."""
    try:
        return read_table(path)
    except (CorruptionError, OSError):
        return index.table(path.name)


def _lost(path: Path, table: Table, reader: ChunkReader) -> Iterator[tuple[Frame, Chunk]]:
    """The chunks in frames that cannot be read."""
    pack = Pack(path)
    for frame, chunks in by_frame(table):
        if _fails(reader, pack, frame, chunks):
            yield from ((frame, chunk) for chunk in chunks)


def _fails(reader: ChunkReader, pack: Pack, frame: Frame, chunks: Sequence[Chunk]) -> bool:
    try:
        return any(reader.check_frame(pack, frame, chunks))
    except OSError:
        return True


def _reads(chunk: ChunkId, reader: ChunkReader) -> bool:
    with suppress(CorruptionError, NotFoundError, OSError):
        return bool(reader.read([chunk]))
    return False
