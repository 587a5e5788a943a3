"""The writing side of the store: who stores which new chunk, the pack being filled, and when it is durable."""

from __future__ import annotations

import contextlib
import secrets
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from gitvault.core.models import ChunkId
from gitvault.core.storage import frames
from gitvault.core.storage.condemned import condemned
from gitvault.core.storage.index import ChunkIndex, Place
from gitvault.core.storage.packs import Pack, PackWriter
from gitvault.core.utils.files import Disk
from gitvault.errors import CorruptionError, GitVaultError, LockedError

PACK_SIZE = 64 << 20
"""Bytes after which a pack is closed and the next begun: what a kill can lose."""

_GROUP_SIZE = 256 << 10
# Full packs waiting for their fsync; more would only fill the page cache.
_MAX_UNSYNCED = 4
_LEFTOVER_AGE = 24 * 60 * 60


class PackAppender:
    """Appends frames to packs. Safe to call from several threads.

    After a failed write everything raises the same error until `discard`.
    """

    def __init__(
        self,
        folder: Path,
        index: ChunkIndex,
        disk: Disk,
        level: int,
        *,
        guard: Callable[[], None] = lambda: None,
        admit: Callable[[int], None] = lambda size: None,
    ) -> None:
        """`admit`: told the bytes of each pack before it gets its name; raises StorageFullError to keep it out.

        `guard` raises LockedError when another process has taken over.
        """
        self._admit = admit
        self._folder = folder
        self._index = index
        self._disk = disk
        self._level = level
        self._guard = guard
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._writer: PackWriter | None = None
        self._publishing: list[PackWriter] = []
        self._claimed: set[ChunkId] = set()
        self._group: dict[ChunkId, bytes] = {}
        self._group_manifests: list[tuple[str, tuple[ChunkId, ...]]] = []
        self._failure: GitVaultError | OSError | None = None
        self._published: list[str] = []
        self._relied: set[Pack] = set()
        self._added = 0
        self._tidied = False
        self._writing = ThreadPoolExecutor(1, "pack-write")
        self._syncing = ThreadPoolExecutor(1, "pack-sync")

    def find(self, chunks: Collection[ChunkId], *, relied: bool = False) -> dict[ChunkId, Place]:
        """The places of those chunks that are stored, durable or not, and will stay: condemned packs do not count.

        `relied`: something will stand on them. Packs in which something was found that cannot be read do not count
        either, and `flush` makes sure that the others are still there.
        """
        with self._lock:
            if self._group and not self._group.keys().isdisjoint(chunks):
                with self._writing_allowed():
                    self._write_group()
            found: dict[ChunkId, Place] = {}
            for writer in self._writers():
                for chunk in chunks:
                    place = writer.places.get(chunk)
                    if place is not None:
                        found[chunk] = Place(writer, writer.table.frames[place.frame], place.inner, place.length)
            rest = [chunk for chunk in chunks if chunk not in found] if found else chunks
            # Which packs do not count is asked when one was found: most of what is saved is new.
            if rest and (known := self._index.find(rest)):
                if gone := self._gone(relied):
                    known = self._index.find(rest, without=gone)
                found |= known
            if relied:
                self._relied.update(place.pack for place in found.values())
            return found

    def _gone(self, relied: bool) -> frozenset[str]:
        return condemned(self._folder) | (self._index.damaged() if relied else set())

    def manifests(self, oid: str, *, relied: bool = False) -> list[tuple[ChunkId, ...]]:
        """The candidates for the file's manifest, each as the chunks it consists of. `relied`: see `find`."""
        with self._lock:
            fresh = [writer.manifests[oid] for writer in self._writers() if oid in writer.manifests]
            fresh += [parts for known, parts in self._group_manifests if known == oid]
            if (known := self._index.naming(oid)) and (gone := self._gone(relied)):
                known = self._index.naming(oid, without=gone)
            if relied:
                self._relied.update(pack for pack, _ in known)
            return fresh + [parts for _, parts in known]

    def claim(self, chunks: Collection[ChunkId]) -> tuple[set[ChunkId], set[ChunkId]]:
        """(those the caller must store now, those another caller is about to store).

        What is claimed must be appended or given up, whatever happens; the others: see `wait_for`.
        """
        with self._lock:
            self._check()
            elsewhere = self._claimed.intersection(chunks)
            found = self.find([chunk for chunk in chunks if chunk not in elsewhere], relied=True)
            mine = {chunk for chunk in chunks if chunk not in found and chunk not in elsewhere}
            self._claimed |= mine
            return mine, elsewhere

    def wait_for(self, chunks: set[ChunkId]) -> None:
        """Return when the chunks that others claimed are stored; raises what made that impossible."""
        with self._lock:
            self._changed.wait_for(lambda: self._failure is not None or self._claimed.isdisjoint(chunks))
            self._check()

    def give_up(self, chunks: Iterable[ChunkId], error: BaseException) -> None:
        """Claimed chunks cannot be stored: others may rely on them already, so nothing since `flush` counts."""
        with self._lock:
            self._failure = self._failure or _named(error)
            self._claimed.difference_update(chunks)
            self._changed.notify_all()

    def append(
        self, frame: bytes, chunks: Sequence[tuple[ChunkId, int]], bases: Sequence[tuple[ChunkId, Place]] = ()
    ) -> None:
        """Store a frame that decodes to `chunks`, in order; `bases`: what it is coded against."""
        with self._writing_allowed():
            self._relied.update(place.pack for _, place in bases)
            writer = self._open_writer()
            writer.add(frame, chunks, [base for base, _ in bases])
            self._claimed.difference_update(chunk for chunk, _ in chunks)
            self._changed.notify_all()
            if writer.size >= PACK_SIZE:
                self._seal()

    def add_manifest(self, oid: str, parts: tuple[ChunkId, ...], small: tuple[ChunkId, bytes] | None = None) -> None:
        """Say what the manifest of a file consists of.

        `small`: a claimed chunk of it that is not stored yet; such are compressed many to a frame.
        """
        with self._writing_allowed():
            if small is None:
                self._open_writer().add_manifest(oid, parts)
                return
            self._group[small[0]] = small[1]
            self._group_manifests.append((oid, parts))
            self._claimed.discard(small[0])
            self._changed.notify_all()
            if sum(map(len, self._group.values())) >= _GROUP_SIZE:
                self._write_group()

    def flush(self) -> int:
        """Make everything durable; the bytes added to the disk since the last time."""
        with self._writing_allowed():
            self._seal()
            self._changed.wait_for(lambda: self._failure is not None or not self._publishing)
            self._check()
            going = condemned(self._folder)
            for pack in self._relied:
                if not pack.path.exists() or pack.path.name in going:
                    raise CorruptionError(f"{pack.path.name}: chunks in it were relied on and it is gone; run again")
            # Also when nothing was written: a killed run may have renamed packs and not come this far.
            if self._folder.exists():
                self._disk.sync_folder(self._folder)
            added, self._added = self._added, 0
            self._published.clear()
            self._relied.clear()
            return added

    def discard(self) -> None:
        """Drop everything since the last flush. Finished packs go to the trash, where readers still look."""
        with self._lock:
            writer, self._writer = self._writer, None
            if writer is not None:
                writer.drop()
            self._changed.wait_for(lambda: not self._publishing)
            trash = self._folder / "trash"
            if self._published:
                try:
                    self._guard()
                except (LockedError, OSError):
                    # Whoever writes now may rely on them.
                    self._published.clear()
            # The last first: a pack may be coded against those before it, never the other way round.
            for name in reversed(self._published):
                self._disk.make_folder(trash)
                self._disk.rename(self._folder / name, trash / name)
                self._disk.sync_folder(self._folder)
            self._published.clear()
            self._group.clear()
            self._group_manifests.clear()
            self._claimed.clear()
            self._relied.clear()
            self._added, self._failure = 0, None

    def close(self) -> None:
        """Drop what was not flushed and end the threads."""
        with self._lock:
            writer, self._writer = self._writer, None
            if writer is not None:
                writer.drop()
        self._writing.shutdown()
        self._syncing.shutdown()

    def unpublished(self) -> tuple[int, int, int]:
        """Packs that have no final name yet, and the chunks and bytes in them."""
        with self._lock:
            writers = self._writers()
            return len(writers), sum(len(writer.places) for writer in writers), sum(writer.size for writer in writers)

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure

    @contextlib.contextmanager
    def _writing_allowed(self) -> Iterator[None]:
        """The lock, unless something failed before; what fails now is remembered."""
        with self._lock:
            self._check()
            try:
                yield
            except BaseException as error:
                self._failure = self._failure or _named(error)
                self._changed.notify_all()
                raise

    def _writers(self) -> list[PackWriter]:
        return [*self._publishing, self._writer] if self._writer is not None else self._publishing

    def _open_writer(self) -> PackWriter:
        if self._writer is None:
            folder = self._folder / "tmp"
            self._disk.make_folder(folder)
            self._writer = PackWriter(folder, f"{secrets.token_hex(16)}.zpk", self._disk, self._writing)
            if not self._tidied:
                self._tidied = True
                self._remove_leftovers(self._writer.path)
        return self._writer

    def _remove_leftovers(self, ours: Path) -> None:
        """What killed runs left. Ages are told by the file system's clock, another machine's may be wrong."""
        limit = ours.stat().st_mtime - _LEFTOVER_AGE
        for path in ours.parent.iterdir():
            with contextlib.suppress(FileNotFoundError):
                if path.stat().st_mtime < limit:
                    self._disk.unlink(path)

    def _write_group(self) -> None:
        group, self._group = self._group, {}
        manifests, self._group_manifests = self._group_manifests, []
        writer = self._open_writer()
        if group:
            data = b"".join(group.values())
            frame = frames.compress(data, self._level)
            frames.check(frame, len(data))
            writer.add(frame, [(chunk, len(text)) for chunk, text in group.items()], ())
        for oid, parts in manifests:
            writer.add_manifest(oid, parts)

    def _seal(self) -> None:
        if self._group_manifests:
            self._write_group()
        writer = self._writer
        if writer is None:
            return
        # What is byte for byte a pack that is about to go would go with it.
        writer.seal(unlike=condemned(self._folder))
        self._writer = None
        self._publishing.append(writer)
        self._syncing.submit(self._publish, writer)
        self._changed.wait_for(lambda: self._failure is not None or len(self._publishing) <= _MAX_UNSYNCED)

    def _publish(self, writer: PackWriter) -> None:
        try:
            # A later pack may be coded against this one: after a failure, or a power cut, there must be no later one.
            self._check()
            self._admit(writer.size)
            name = writer.publish(self._folder)
            self._index.add(name, writer.table)
        except BaseException as error:
            try:
                writer.drop()
            finally:
                # Whatever happens: somebody waits for it.
                with self._lock:
                    self._failure = self._failure or _named(error)
                    self._publishing.remove(writer)
                    if writer.path.parent == self._folder:
                        # Renamed, perhaps not durable: `discard` must find it, it may be coded against the one before.
                        self._published.append(writer.path.name)
                    self._changed.notify_all()
            raise
        with self._lock:
            self._publishing.remove(writer)
            self._published.append(name)
            self._added += writer.size
            self._changed.notify_all()


def _named(error: BaseException) -> GitVaultError | OSError:
    if isinstance(error, (GitVaultError, OSError)):
        return error
    return GitVaultError(f"interrupted while writing to the store: {error!r}; run again")
