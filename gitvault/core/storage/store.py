"""The chunk store: large content as chunks in packs, each chunk once. Works on its own, without a vault."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import stat
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, ParamSpec, TypeVar

from gitvault.core.interfaces import ChunkingStrategy, Extent, Progress
from gitvault.core.models import ChunkId, ChunkPlan, Pointer
from gitvault.core.storage import manifests
from gitvault.core.storage.appender import PackAppender
from gitvault.core.storage.index import ChunkIndex
from gitvault.core.storage.intake import Intake
from gitvault.core.storage.packs import MAX_CHUNK
from gitvault.core.storage.reader import ChunkReader
from gitvault.core.utils.files import Disk, open_source
from gitvault.errors import ChecksumMismatch, CorruptionError, GitVaultError, NotFoundError

if TYPE_CHECKING:
    # Upkeep's are imported where they are used: a snapshot does without, and starts 15 ms sooner.
    from gitvault.core.models import StorageSize, VerifyReport
    from gitvault.core.storage import repack, sweep
    from gitvault.core.storage.census import Census
    from gitvault.core.storage.packs import Pack, Table
    from gitvault.core.storage.salvage import Help, Said
    from gitvault.core.storage.transfer import Content, PackFolder, Target, Transfer

_P = ParamSpec("_P")
_T = TypeVar("_T")
# Of a file: the chunks of its manifest, none for a file of one chunk; its own, each with its length.
_Layout = tuple[Sequence[ChunkId], Sequence[tuple[ChunkId, int]]]

WINDOW = 8 << 20
"""How much of a file is read at a time. Files up to this size are stored by the calling thread alone."""

_HEAD = 64 << 10
_READ_BATCH = 4 << 20
_READ_AHEAD = 4

_EMPTY = hashlib.sha256().hexdigest()
_EMPTY_OID = bytes.fromhex(_EMPTY)
_OID = re.compile(r"[0-9a-f]{64}")

# A line is 72 bytes and half of it does not compress: small chunks, so that an edit costs few of them.
_MANIFEST_CUTS = 8 << 10, 32 << 10, 128 << 10
# Below these sizes a frame of its own costs more than it saves: with and without a manifest to be coded against.
_SMALL_WITH_BASE = 2 << 10
_SMALL = 64 << 10


class ChunkStore:
    """Keeps large content in the packs of one folder. Safe to call from several threads at once.

    One object writes at a time: the caller holds a lock. Any number read.
    """

    def __init__(
        self,
        folder: Path,
        *,
        cache: Path,
        strategy: ChunkingStrategy,
        level: int = 1,
        disk: Disk | None = None,
        threads: int | None = None,
        guard: Callable[[], None] = lambda: None,
        admit: Callable[[int], None] = lambda size: None,
    ) -> None:
        """`folder`: of the packs. `cache`: a folder for what can be made anew. Both are made when needed.

        `level`: zstd's, for what the strategy does not judge. `threads`: workers for large files.
        `guard` raises LockedError when this process may not write any more, because another has taken over. `admit`:
        told the bytes of each new pack before it gets its name; raises StorageFullError to keep it out.
        """
        self._folder = folder
        self._strategy = strategy
        self._level = level
        self._disk = disk or Disk()
        self._index = ChunkIndex(folder, cache / "chunks.db", self._disk)
        self._appender = PackAppender(folder, self._index, self._disk, level, guard=guard, admit=admit)
        self._reader = ChunkReader(folder, self._index, self._disk, self._appender.find)
        self.fetch: Callable[[Pointer], None] | None = None
        """Told of each file before it is read, to bring it if it is not here; for a store that is a part of another."""
        self._pool = ThreadPoolExecutor(threads or min(os.cpu_count() or 1, 8), "chunk-store")

    def store_file(
        self, source: BinaryIO | Path, *, base: Pointer | None = None, file_extension: str | None = None
    ) -> Pointer:
        """See StorageManager."""
        with _opened(source) as (stream, size):
            window = _read(stream, WINDOW if size is None else min(WINDOW, size + 1))
            whole = hashlib.sha256(window)
            ended = len(window) < WINDOW
            only = None
            if ended:
                size = len(window)
                pointer = Pointer(whole.hexdigest(), size)
                if self._keeps(pointer, relied=True):
                    return pointer
                only = _only_chunk(pointer)
            plan = self._strategy.plan(window[:_HEAD], size, file_extension)
            known = self._past(base) if plan.delta else []
            intake = Intake(self._appender, self._reader, _Now() if ended else self._pool, plan, known)
            # Hashing the whole takes as long as reading and cutting it: a thread for each fills two cores.
            with _Now() if ended else ThreadPoolExecutor(1, "whole-hash") as hasher:
                hashed = hasher.submit(whole.update, b"")
                try:
                    while not ended:
                        lengths = self._cut(memoryview(window), file_extension, plan)
                        # The last cut may move when more is seen.
                        rest = window[len(window) - lengths.pop() :]
                        intake.add(memoryview(window), lengths)
                        wanted = max(WINDOW, 2 * plan.max_size)
                        more = _read(stream, wanted)
                        hashed.result()
                        hashed = hasher.submit(whole.update, more)
                        ended = len(more) < wanted
                        window = rest + more
                    intake.add(memoryview(window), self._cut(memoryview(window), file_extension, plan), only)
                    intake.finish()
                except BaseException as error:
                    intake.abandon(error)
                    raise
        pointer = Pointer(whole.hexdigest(), intake.size)
        if len(intake.chunks) > 1 and not self._complete(pointer, relied=True):
            self._store_manifest(pointer, intake.chunks, base)
        return pointer

    def retrieve_file(self, pointer: Pointer, target: BinaryIO) -> None:
        """See StorageManager."""
        chunks = self.chunks(pointer)
        if len(chunks) < 2:
            # The only chunk's hash is the file's.
            for chunk, _ in chunks:
                _write(target, self._reader.read([chunk])[0])
            return
        whole = hashlib.sha256()
        for pieces in self._read_ahead(chunks, self._pool if pointer.size > WINDOW else _Now()):
            for data in pieces:
                whole.update(data)
                _write(target, data)
        if whole.hexdigest() != pointer.oid:
            # Which chunk it is: the first whose own hash is wrong raises here.
            for chunk, _ in chunks:
                self._reader.read([chunk])
            raise ChecksumMismatch(f"file {pointer.oid}", pointer.oid, whole.hexdigest())

    def store_chunk(self, data: bytes) -> ChunkId:
        """See StorageManager. Raises ValueError for no bytes and for more than 16 MiB."""
        if not 0 < len(data) <= MAX_CHUNK:
            raise ValueError(f"a chunk of {len(data)} bytes: expected 1 to {MAX_CHUNK}")
        intake = Intake(self._appender, self._reader, _Now(), self._plain_plan(), [])
        intake.add(memoryview(data), [len(data)])
        intake.finish()
        return intake.chunks[0][0]

    def retrieve_chunk(self, chunk: ChunkId) -> bytes:
        """See StorageManager."""
        return bytes(self._reader.read([chunk])[0])

    def has(self, pointer: Pointer) -> bool:
        """See StorageManager."""
        return self._keeps(pointer)

    def _keeps(self, pointer: Pointer, *, relied: bool = False) -> bool:
        """`relied`: see PackAppender.find."""
        return self._kept(pointer, relied=relied) is not None

    def _kept(self, pointer: Pointer, *, relied: bool = False) -> _Layout | None:
        """How a file lies of which everything is there; None where anything is not. `relied`: see PackAppender.find."""
        if pointer.size == 0:
            return ((), []) if pointer.oid == _EMPTY else None
        chunk = _only_chunk(pointer)
        place = self._appender.find([chunk], relied=relied).get(chunk)
        if place is not None and place.length == pointer.size:
            return (), [(chunk, pointer.size)]
        return self._complete(pointer, relied=relied)

    def chunks(self, pointer: Pointer) -> Sequence[tuple[ChunkId, int]]:
        """See StorageManager."""
        return self._layout(pointer)[1]

    def _layout(self, pointer: Pointer) -> _Layout:
        if pointer.size == 0:
            if pointer.oid != _EMPTY:
                raise CorruptionError(f"pointer {pointer.oid}: no content of 0 bytes has this hash")
            return (), []
        chunk = _only_chunk(pointer)
        if self.fetch:
            self.fetch(pointer)
        place = self._appender.find([chunk]).get(chunk)
        if place is not None and place.length == pointer.size:
            return (), [(chunk, pointer.size)]
        problem: GitVaultError | None = None
        for parts in self._appender.manifests(pointer.oid):
            try:
                return parts, self._manifest(pointer, parts)
            except (NotFoundError, CorruptionError) as error:
                problem = error
        if problem is None and self._reader.mistrust():
            return self._layout(pointer)
        if problem is None:
            # One that the index does not know yet, or why there is none.
            self._reader.read([chunk])
        found = place.length if place is not None else "none"
        raise problem or CorruptionError(f"file {pointer.oid}: expected {pointer.size} bytes, found {found}")

    def flush(self) -> int:
        """See StorageManager."""
        return self._appender.flush()

    def discard(self) -> None:
        """See StorageManager."""
        self._appender.discard()
        self._reader.forget()

    def verify(
        self, *, data: bool = False, extent: Extent | None = None, progress: Progress | None = None
    ) -> VerifyReport:
        """See StorageManager; only what was flushed is looked at."""
        from gitvault.core.storage import checks

        report, damaged = checks.verify(
            self._folder, self._disk, self._pool, data=data, extent=extent, progress=progress
        )
        if data and extent is None:
            self._index.forget_damaged()
        self._index.note_damaged(damaged)
        return report

    def get_storage_size(self) -> StorageSize:
        """See StorageManager."""
        from gitvault.core.models import StorageSize

        packs, chunks = self._index.counts()
        fresh_packs, fresh_chunks, fresh_bytes = self._appender.unpublished()
        sizes = (path.stat().st_size for path in self._folder.glob("*.zpk"))
        return StorageSize(packs + fresh_packs, chunks + fresh_chunks, sum(sizes) + fresh_bytes)

    def stored_size(self, pointer: Pointer, counted: set[ChunkId] | None = None) -> int:
        """The file's share of what its chunks take on disk, in bytes.

        Chunks in `counted` cost nothing, the others are added to it: pass one set for several files that share.
        Raises NotFoundError, CorruptionError.
        """
        ids = {chunk for chunk, _ in self.chunks(pointer)} - (counted or set())
        if counted is not None:
            counted |= ids
        places = self._appender.find(ids).values()
        return round(sum(place.frame.stored * place.length / place.frame.length for place in places))

    def repack_due(self) -> bool:
        """Whether upkeep that nobody asked for pays."""
        from gitvault.core.storage import repack

        return bool(repack.due(self._index, asked=False))

    def repack(
        self, *, asked: bool, progress: Progress | None = None, stop: Callable[[], bool] | None = None
    ) -> repack.StoreRepack | None:
        """Do the upkeep that is due: see repack.repack."""
        from gitvault.core.storage import repack

        return repack.repack(self._folder, self._index, self._disk, asked=asked, progress=progress, stop=stop)

    def census(self, files: Iterable[bytes], *, lost: Collection[bytes] = ()) -> Census:
        """What is needed of the packs for the files of these SHA-256s; for `sweep`, and as that with the lock held.

        `lost`: files and chunks that are known not to be whole; what is there of them is needed.
        Raises CorruptionError, ContentMissing when a pack, or one of the files, cannot be read: nothing may go then.
        """
        from gitvault.core.storage import sweep

        census = sweep.take_census(self._folder, self._index, self._disk, lost)
        for oid in files:
            if oid != _EMPTY_OID:
                census.need(oid, self._joined)
        return census

    def need_all(self, census: Census, but: Collection[bytes]) -> None:
        """Let everything be needed but what only the files `but` hold: when nobody can say what is not."""
        census.need_all(but, self._joined)

    def _joined(self, parts: Sequence[ChunkId]) -> bytes:
        return b"".join(self._reader.read(parts))

    def sweep(
        self, census: Census, *, strict: bool, unmoved: Callable[[], bool], progress: Progress | None = None
    ) -> sweep.StoreSweep | None:
        """Remove what the census has no need for: see sweep.sweep."""
        from gitvault.core.storage import sweep

        try:
            return sweep.sweep(
                self._folder, self._index, self._disk, census, strict=strict, unmoved=unmoved, progress=progress
            )
        finally:
            self._reader.forget()

    def cut(self, source: Path, file_extension: str | None = None) -> Iterator[bytes]:
        """The chunks that a file would be stored as. Raises OSError."""
        with _opened(source) as (stream, size):
            window = _read(stream, WINDOW)
            plan = self._strategy.plan(window[:_HEAD], size, file_extension)
            ended = len(window) < WINDOW
            while True:
                lengths = self._cut(memoryview(window), file_extension, plan)
                # The last cut may move when more is seen.
                rest = 0 if ended or not lengths else lengths.pop()
                at = 0
                for length in lengths:
                    yield window[at : at + length]
                    at += length
                if ended:
                    return
                wanted = max(WINDOW, 2 * plan.max_size)
                more = _read(stream, wanted)
                ended = len(more) < wanted
                window = window[len(window) - rest :] + more

    def salvage(self, others: Help, said: Said) -> None:
        """Leave only sound packs, and in them all that can be had: see salvage.salvage. Nothing may be unflushed."""
        from gitvault.core.storage import salvage

        self.settle()
        salvage.salvage(self._folder, self._index, self._disk, others, said)
        self._reader.forget()

    def unsound(self, names: Collection[str]) -> dict[str, str]:
        """Read these packs, which came from elsewhere; those that do not hold what they say, and why. The lock is held.

        Raises UnsupportedFormatVersion, OSError.
        """
        from gitvault.core.storage import checks

        self._index.refresh(force=True)
        found: dict[str, str] = {}
        for name in names:
            try:
                defects = checks.check_pack(self._folder / name, self._reader, self._pool)
            except CorruptionError as error:
                found[name] = str(error)
                continue
            if defects:
                found[name] = f"{defects[0].object}: {defects[0].reason}"
        return found

    def add_chunks(self, wanted: set[ChunkId], others: Help, said: Said) -> int:
        """Store, durably, those of `wanted` that can be had elsewhere; how many."""
        from gitvault.core.storage import salvage

        return salvage.add_chunks(self._folder, wanted, self._disk, others, said)

    def known(self, chunks: Collection[ChunkId]) -> Collection[ChunkId]:
        """Those of the chunks that are in a pack."""
        return self._index.known(chunks)

    def came(self, name: str, table: Table, held: Pack | None = None) -> None:
        """A pack that is in the folder now, or `held` elsewhere, and what is in it: it need not be read for that."""
        self._index.add(name, table, held)

    def has_manifest(self, oid: str) -> bool:
        """Whether some manifest of the file is in a pack, complete or not."""
        return bool(self._index.manifests(oid))

    def settle(self) -> None:
        """End a sweep or an upkeep that was killed; the lock is held.

        Before packs come in as they are elsewhere: one that was about to go here would go after all.
        """
        from gitvault.core.storage import rounds

        rounds.settle(self._folder, self._index, self._disk)

    def target(self) -> PackFolder:
        """Where files of another store are copied to, as new packs of this one; the lock is held."""
        from gitvault.core.storage.transfer import PackFolder

        self.settle()
        return PackFolder(self._folder, self._index, self._disk)

    def transfer_to(self, target: Target, progress: Progress, *, deepest: int = 0) -> Transfer:
        """What copies from here to elsewhere, see `copy_file` and Transfer. Only what was flushed is seen."""
        from gitvault.core.storage.transfer import Transfer

        return Transfer(self._index, self._reader, target, progress, deepest)

    def copy_file(self, pointer: Pointer, transfer: Transfer) -> None:
        """Copy a file's content; durable after `transfer.flush`. Raises CorruptionError, StorageFullError, OSError."""
        transfer.add(self.content(pointer))

    def as_they_lie(self, pointers: Iterable[Pointer]) -> list[Pointer]:
        """Files in the order in which they lie in the packs, by a chunk of each; those that are nowhere come first."""
        listed = list(pointers)
        oids = [pointer.oid for pointer in listed if _OID.fullmatch(pointer.oid)]
        some = {oid: ChunkId(bytes.fromhex(oid)) for oid in oids}
        # Behind the end of a file of several chunks lies its manifest.
        some |= {oid: parts[0] for oid in oids for parts in self._index.manifests(oid)[:1] if parts}
        places = self._index.find(some.values())

        def place(pointer: Pointer) -> tuple[str, int, int]:
            found = places.get(some[pointer.oid]) if pointer.oid in some else None
            return (found.pack.path.name, found.frame.offset, found.inner) if found else ("", 0, 0)

        return sorted(listed, key=place)

    def content(self, pointer: Pointer) -> Content:
        """Which chunks a file consists of. Raises NotFoundError, CorruptionError."""
        from gitvault.core.storage.transfer import Content

        parts, chunks = self._layout(pointer)
        return Content(pointer.oid, parts, [chunk for chunk, _ in chunks])

    def close(self) -> None:
        """Drop what was not flushed, end the threads, close the files."""
        self._pool.shutdown()
        self._appender.close()
        self._reader.close()
        self._index.close()

    def __enter__(self) -> ChunkStore:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _cut(self, window: memoryview, file_extension: str | None, plan: ChunkPlan) -> list[int]:
        lengths = [len(piece) for piece in self._strategy.chunk_data(window, file_extension, plan)]
        if sum(lengths) != len(window) or not all(0 < length <= MAX_CHUNK for length in lengths):
            raise GitVaultError(
                f"chunking strategy {self._strategy.name!r}: its {len(lengths)} slices do not make up the "
                f"{len(window)} bytes it was given; choose another vault.chunkingStrategy"
            )
        return lengths

    def _past(self, base: Pointer | None) -> Sequence[tuple[ChunkId, int]]:
        """The previous version's chunks; none when they cannot be had, delta coding is only a hope."""
        if base is None:
            return []
        try:
            return self.chunks(base)
        except (NotFoundError, CorruptionError):
            return []

    def _plain_plan(self) -> ChunkPlan:
        return ChunkPlan(MAX_CHUNK, MAX_CHUNK, MAX_CHUNK, self._level, False, "as it is")

    def _complete(self, pointer: Pointer, *, relied: bool = False) -> _Layout | None:
        """How a file lies of which some manifest, and everything that names, is there."""
        for parts in self._appender.manifests(pointer.oid, relied=relied):
            if len(self._appender.find(set(parts), relied=relied)) < len(set(parts)):
                continue
            with contextlib.suppress(NotFoundError, CorruptionError):
                chunks = self._manifest(pointer, parts)
                ids = {chunk for chunk, _ in chunks}
                if len(self._appender.find(ids, relied=relied)) == len(ids):
                    return parts, chunks
        return None

    def _manifest(self, pointer: Pointer, parts: Sequence[ChunkId]) -> list[tuple[ChunkId, int]]:
        chunks = self._reader.manifest(pointer.oid, parts)
        size = sum(length for _, length in chunks)
        if size != pointer.size:
            raise CorruptionError(f"file {pointer.oid}: expected {pointer.size} bytes, its manifest lists {size}")
        return chunks

    def _store_manifest(self, pointer: Pointer, chunks: list[tuple[ChunkId, int]], base: Pointer | None) -> None:
        text = manifests.encode(chunks)
        earlier = self._manifest_parts(base)
        if len(text) < (_SMALL_WITH_BASE if earlier else _SMALL):
            chunk = ChunkId(hashlib.sha256(text).digest())
            mine, elsewhere = self._appender.claim([chunk])
            self._appender.add_manifest(pointer.oid, (chunk,), (chunk, text) if mine else None)
            self._appender.wait_for(elsewhere)
            return
        plan = ChunkPlan(*_MANIFEST_CUTS, self._level, True, "manifest")
        intake = Intake(self._appender, self._reader, _Now(), plan, earlier)
        intake.add(memoryview(text), self._cut(memoryview(text), None, plan))
        intake.finish()
        self._appender.add_manifest(pointer.oid, tuple(part for part, _ in intake.chunks))

    def _manifest_parts(self, base: Pointer | None) -> list[tuple[ChunkId, int]]:
        for parts in self._appender.manifests(base.oid) if base else ():
            places = self._appender.find(set(parts))
            if all(part in places for part in parts):
                return [(part, places[part].length) for part in parts]
        return []

    def _read_ahead(self, chunks: Sequence[tuple[ChunkId, int]], pool: Executor) -> Iterator[list[memoryview]]:
        """The chunks' bytes in order, decoded by the pool a few batches ahead; the caller checks the whole."""
        waiting: deque[Future[list[memoryview]]] = deque()
        batch: list[ChunkId] = []
        size = 0
        for number, (chunk, length) in enumerate(chunks, 1):
            batch.append(chunk)
            size += length
            if size >= _READ_BATCH or number == len(chunks):
                waiting.append(pool.submit(self._reader.pieces, batch))
                batch, size = [], 0
            if len(waiting) > _READ_AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


class _Now(Executor):
    """Does it at once: for content too small to be worth another thread."""

    def submit(self, fn: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> Future[_T]:
        """The finished call."""
        done: Future[_T] = Future()
        try:
            done.set_result(fn(*args, **kwargs))
        except Exception as error:
            done.set_exception(error)
        return done


def _only_chunk(pointer: Pointer) -> ChunkId:
    """The chunk id that the file has if it is one chunk."""
    if not _OID.fullmatch(pointer.oid):
        raise NotFoundError(f"file {pointer.oid!r}: not a SHA-256 in lower-case hex")
    return ChunkId(bytes.fromhex(pointer.oid))


@contextlib.contextmanager
def _opened(source: BinaryIO | Path) -> Iterator[tuple[BinaryIO, int | None]]:
    """The stream to read, and how much is left in it when that is known."""
    if isinstance(source, Path):
        with os.fdopen(open_source(str(source)), "rb", buffering=0) as stream, _opened(stream) as opened:
            yield opened
        return
    size = None
    # A stream without a descriptor says so in one of these ways.
    with contextlib.suppress(AttributeError, OSError):
        found = os.fstat(source.fileno())
        if stat.S_ISREG(found.st_mode):
            size = max(0, found.st_size - source.tell())
    yield source, size


def _read(stream: BinaryIO, size: int) -> bytes:
    """The next `size` bytes, fewer at the stream's end only."""
    data = stream.read(size)
    if len(data) in (0, size):
        return data
    parts = [data]
    missing = size - len(data)
    while missing and (data := stream.read(missing)):
        parts.append(data)
        missing -= len(data)
    return b"".join(parts)


def _write(target: BinaryIO, data: memoryview) -> None:
    """All of it: an unbuffered file may take less at a time."""
    while data:
        count = target.write(data)
        data = data[count:] if count is not None else data[:0]
