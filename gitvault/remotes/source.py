"""What a vault lacks, from a remote: packs of git whole; of the chunk store whole packs where most of one is wanted,
else the frames.

A pack or a frame is published when all that it is coded against is here.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from itertools import chain, count, pairwise
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple

from gitvault.core.models import ChunkId, ObjectId, Pointer
from gitvault.core.storage import manifests
from gitvault.core.storage.packs import Chunk, Frame
from gitvault.core.versioning.arrivals import Arrivals
from gitvault.core.versioning.packfile import NewPack, publish
from gitvault.errors import ContentMissing, CorruptionError, GitVaultError, NotFoundError, RemoteError
from gitvault.remotes.fetch import NewChunks, StoredPack, index_some, store_part
from gitvault.remotes.fetcher import Fetcher
from gitvault.remotes.index import Index, Part, Row, chunk_id
from gitvault.remotes.places import Content
from gitvault.remotes.remote import CHUNKS, GIT, THREADS, Remote, in_order
from gitvault.vault import Vault

# Frames that lie closer are fetched together: a request costs what 64 KiB and more take.
_GAP = 256 << 10
_LONGEST = 8 << 20
# Bytes of frames that are in memory at once.
_BATCH = 32 << 20
# No chain that a vault writes is longer.
_DEEPEST = 64
# A pack of which one part in so many is wanted comes whole: as it is, it need not be taken apart and checked again.
_DENSE = 2
# Bytes of files from which on all packs of a sealed remote come whole: a part of one costs as much.
_MANY = 64 << 20
# Bytes of files, and files, that are brought while those before are restored: at first few, so that it begins soon.
_FIRST_ROUND = 32 << 20
_ROUND = 256 << 20
_ROUND_FILES = 1000
# Small files whose packs are looked for first, those of two packs; then twice as many each time: of the packs of later
# pushes each time some is wanted.
_LOOKED_FOR = 4000

_Key = tuple[str, int]
_Frames = dict[_Key, tuple[Row, list[Chunk]]]


class Wanted(NamedTuple):
    """What a restore will ask for of a folder itself, by the folder's path."""

    folder: bytes
    blobs: list[ObjectId]
    files: list[Pointer]
    """Large ones."""


@dataclass(frozen=True, slots=True)
class _Plan:
    """What to bring for some files."""

    single: list[ChunkId]
    """Files of one chunk."""
    manifests: Mapping[str, tuple[ChunkId, ...]]
    """Of the others, of which chunks the manifest consists."""
    hints: Mapping[str, Row]

    def parts(self) -> list[ChunkId]:
        return [part for each in self.manifests.values() for part in each]


class Source:
    """Brings what is asked for; the threads of a restore ask too."""

    def __init__(self, vault: Vault, remote: Remote, index: Index) -> None:
        self._vault = vault
        self._remote = remote
        self.index = index
        self._brought: set[str] = set()
        # Packs of git that could not be had, and why.
        self._lost: dict[str, CorruptionError] = {}
        self._lock = threading.RLock()
        # Whether `ahead` does not know its files yet; those that it is still to bring, and those that it brought.
        self._walking = False
        self._coming: set[str] = set()
        self._came: set[str] = set()
        # In which round each comes, and the last of which one was asked for.
        self._rounds: dict[str, int] = {}
        self._reached = 0
        self._arrived = threading.Condition()
        self._ended = False
        self._problem: RemoteError | None = None
        # There is one where packs come whole whatever is wanted of them.
        self._fetcher: Fetcher | None = None

    def fetch_objects(self, prefix: str) -> bool:
        """Bring the packs with the git objects whose ids begin so; whether there is one."""
        with self._lock:
            parts = self.index.packs_of(prefix)
            self._publish(parts)
            return bool(parts)

    def fetch_many(self, oids: Collection[ObjectId]) -> None:
        """Bring the packs with those of these git objects that are not here, several at once."""
        here = self._vault.history.objects.contains
        with self._lock:
            rows = self.index.find([oid.hex() for oid in oids if not here(oid)]).values()
            # Whoever may put can write a row that leads elsewhere.
            self._publish(list({row.part.name: row.part for row in rows if row.part.name.startswith(GIT)}.values()))

    def _fetch_folders(self, wanted: Iterable[Wanted], files: dict[str, Pointer], arrivals: Arrivals) -> None:
        """Bring the small files of folders while these are still being walked; the large ones are noted in `files`."""
        route = _Route()
        begun: dict[Part, Future[Path]] = {}

        def steps() -> Iterator[_Step]:
            for some in _batches(wanted):
                if self._ended:
                    return
                files.update((pointer.oid, pointer) for each in some for pointer in each.files)
                with self._lock:
                    rows = self.index.find([blob.hex() for each in some for blob in each.blobs])
                found = {
                    folder: [(blob, row) for blob in blobs if (row := rows.get(blob.hex())) and self._lacks(row)]
                    for folder, blobs, _ in some
                }
                following, needs = route.go_on(found)
                arrivals.expect(needs, sum(len(each.blobs) for each in some))
                yield from following

        def submit(step: _Step) -> Future[Path]:
            if first := begun.get(step.part):
                return pool.submit(self._index_more, first, step.offsets)
            begun[step.part] = pool.submit(self._store_some, step)
            return begun[step.part]

        def lost(step: _Step, error: GitVaultError) -> None:
            self._lose(step.part, error)

        with ThreadPoolExecutor(self._remote.at_once, "remote-get") as pool:
            for step, _ in in_order(steps(), submit, self._remote.at_once, lost):
                arrivals.come(step.number)
                if self._ended:
                    return
        self._vault.history.objects.refresh()

    def _store_some(self, step: _Step) -> Path:
        """Fetch a pack of git for some of its objects; where it is."""
        with self._remote.transfers:
            ready = store_part(self._vault, step.part, self._remote.get(step.part.name), step.offsets)
        assert isinstance(ready, NewPack)
        folder = self._vault.path / "objects" / "pack"
        publish(ready, folder, self._vault.disk)
        if step.offsets is None:
            self._brought.add(step.part.name)
        return folder / f"{ready.name}.pack"

    def _index_more(self, pack: Future[Path], offsets: Mapping[ObjectId, int] | None) -> Path:
        """Let more objects of a pack be found that was fetched for others."""
        there = pack.result()
        index_some(self._vault, there, offsets or {})
        return there

    def _lacks(self, row: Row) -> bool:
        # Whoever may put can write a row that leads elsewhere.
        name = row.part.name
        return name.startswith(GIT) and name not in self._brought and name not in self._lost

    def fetch_file(self, pointer: Pointer) -> None:
        """Bring what a file's content stands on; nothing when it is not there."""
        with self._arrived:
            self._arrived.wait_for(lambda: not self._walking)
            self._reached = max(self._reached, self._rounds.get(pointer.oid, 0))
            self._arrived.notify_all()
            self._arrived.wait_for(lambda: pointer.oid not in self._coming)
        if self._problem:
            # It was tried long enough.
            raise self._problem
        # To look for every chunk of what came just now took a tenth of a restore's processor time.
        if pointer.oid not in self._came and not self._vault.store.has(pointer):
            self.fetch_files([pointer])

    def fetch_files(self, pointers: Collection[Pointer]) -> None:
        """The same for many."""
        self._fetch_round(None, pointers, [])

    def _planned(self, pointers: Collection[Pointer]) -> _Plan:
        rows = self.index.find([pointer.oid for pointer in pointers])
        hints = {one: hint for row in rows.values() if row.kind == "m" for one, hint in row.hints().items()}
        return _Plan(
            [chunk_id(oid) for oid, row in rows.items() if row.kind == "c"],
            {oid: row.manifest() for oid, row in rows.items() if row.kind == "m"},
            hints,
        )

    def _gather(self, plan: _Plan, following: _Plan) -> None:
        """Bring files whose manifests are here, and the manifests of those that follow."""
        store = self._vault.store
        wanted = plan.single + following.parts()
        for oid, each in plan.manifests.items():
            wanted += [chunk for chunk, _ in manifests.decode(b"".join(map(store.retrieve_chunk, each)), oid)]
        self._bring(wanted, {**plan.hints, **following.hints})
        target = store.target()
        for oid, each in plan.manifests.items():
            if not store.has_manifest(oid):
                target.add_manifest(oid, each)
        target.flush()

    @contextmanager
    def ahead(self, wanted: Iterable[Wanted]) -> Iterator[None]:
        """Meanwhile walk what is wanted and bring it: first all small files, told by the vault's `objects.arrivals`,
        then the large ones, in the order that it tells there; who asks for one waits for it.
        """
        objects = self._vault.history.objects
        arrivals = objects.arrivals = Arrivals()
        self._walking = True
        with ExitStack() as held:
            held.callback(self._end_fetcher)
            pool = held.enter_context(ThreadPoolExecutor(1, "remote-ahead"))
            pool.submit(self._ahead, wanted, arrivals)
            try:
                yield
            finally:
                with self._arrived:
                    self._ended = True
                    self._arrived.notify_all()
                objects.arrivals = None

    def _ahead(self, wanted: Iterable[Wanted], arrivals: Arrivals) -> None:
        files: dict[str, Pointer] = {}
        try:
            with suppress(CorruptionError, NotFoundError, OSError, ValueError, IndexError):
                self._fetch_folders(wanted, files, arrivals)
            arrivals.end()
            places = self._places(files)
            with self._lock:
                parts = self.index.parts()
            ordered = [files[oid] for oid in sorted(files, key=_order(places, parts))]
            rounds = list(_rounds(ordered))
            self._expect(ordered, places, rounds)
            arrivals.plan(pointer.oid for pointer in ordered)
            plan: _Plan | None = None
            for number, (some, next_ones) in enumerate(pairwise(chain(rounds, [[]]))):
                known, plan = plan, None
                if self._fetcher:
                    self._await_readers(number - 2)
                # Whoever asks for what did not come is told why.
                with suppress(CorruptionError, NotFoundError, OSError, ValueError, IndexError):
                    if not self._ended:
                        plan = self._fetch_round(known, some, next_ones)
                        self._came.update(pointer.oid for pointer in some)
                with self._arrived:
                    self._coming.difference_update(pointer.oid for pointer in some)
                    self._arrived.notify_all()
        except RemoteError as error:
            self._problem = error
            arrivals.end(error)
        finally:
            arrivals.end()
            arrivals.plan(())
            with self._arrived:
                self._coming.clear()
                self._walking = False
                self._arrived.notify_all()

    def _await_readers(self, number: int) -> None:
        """Return when a file of that round was asked for: what comes long before it is read takes memory."""
        with self._arrived:
            self._arrived.wait_for(lambda: self._ended or self._reached >= number)

    def _places(self, files: Mapping[str, Pointer]) -> dict[str, Row]:
        """Where a chunk of each file lies, as far as that can be said."""
        with self._lock:
            rows = self.index.find(files)
            # A manifest lies behind the end of its file; what says so, in the last pack of all that was pushed with it.
            with suppress(ValueError):
                held = {
                    oid: parts[0].hex() for oid, row in rows.items() if row.kind == "m" and (parts := row.manifest())
                }
                chunks = self.index.find(held.values())
                rows |= {oid: chunks[chunk] for oid, chunk in held.items() if chunk in chunks}
        return {oid: row for oid, row in rows.items() if row.kind == "c" and row.part.name.startswith(CHUNKS)}

    def _expect(
        self, files: Collection[Pointer], places: Mapping[str, Row], rounds: Sequence[Collection[Pointer]]
    ) -> None:
        if self._remote.is_sealed and sum(pointer.size for pointer in files) >= _MANY:
            parts = {places[pointer.oid].part: None for pointer in files if pointer.oid in places}
            self._fetcher = Fetcher(self._vault, self._remote, parts)
        with self._arrived:
            # Whoever waits for the walk to end tells next which round it waits for.
            self._rounds = {pointer.oid: number for number, some in enumerate(rounds) for pointer in some}
            self._coming = {pointer.oid for pointer in files}
            self._walking = False
            self._arrived.notify_all()

    def _end_fetcher(self) -> None:
        if self._fetcher:
            self._fetcher.close()

    def _fetch_round(self, plan: _Plan | None, some: Collection[Pointer], next_ones: Collection[Pointer]) -> _Plan:
        """Bring some files, and of the next ones the manifests: by themselves these are few, and waited for.

        `plan`: of `some`, whose manifests are here; None: they are not. The plan of the next ones.
        """
        with self._lock:
            if plan is None:
                plan = self._planned(some)
                self._bring(plan.parts(), plan.hints)
            following = self._planned(next_ones)
            self._gather(plan, following)
            return following

    def _publish(self, parts: Collection[Part]) -> None:
        """Fetch packs of git, but for those that were. Raises why the first that cannot be had is missing."""
        wanted = [part for part in parts if part.name not in self._brought and part.name not in self._lost]
        for part, ready in self._remote.fetch(wanted, partial(store_part, self._vault), self._lose):
            assert isinstance(ready, NewPack)
            publish(ready, self._vault.path / "objects" / "pack", self._vault.disk)
            self._brought.add(part.name)
        self._vault.history.objects.refresh()
        for part in parts:
            if part.name in self._lost:
                raise self._lost[part.name].with_traceback(None)

    def _lose(self, part: Part, error: GitVaultError) -> None:
        self._lost[part.name] = error if isinstance(error, CorruptionError) else ContentMissing(str(error))

    def _bring(self, chunks: Collection[ChunkId], hints: Mapping[str, Row]) -> None:
        """Fetch the frames of those chunks that are not here, and all these are coded against.

        `hints`: where they were once, by id.
        """
        try:
            self._bring_from(chunks, hints)
        except (CorruptionError, NotFoundError, ValueError, IndexError):
            if not hints:
                raise
            self._bring_from(chunks, {})

    def _bring_from(self, chunks: Collection[ChunkId], hints: Mapping[str, Row]) -> None:
        if self._fetcher:
            # What each stands on is asked of the packs: of 70,000 chunks no frame need be looked at.
            with suppress(CorruptionError, NotFoundError, ValueError, IndexError):
                self._bring_whole({row.part: None for _, row in self._rows(chunks, hints) if row.part.size})
        frames = self._frames(chunks, hints)
        with suppress(CorruptionError, NotFoundError, ValueError, IndexError):
            self._bring_whole(self._dense(frames))
        self._copy({key: found for key, found in frames.items() if key[0] not in self._brought})

    def _dense(self, frames: _Frames) -> list[Part]:
        """The parts of which so much is wanted that they come whole."""
        sizes: dict[Part, int] = defaultdict(int)
        for row, _ in frames.values():
            sizes[row.part] += row.frame().stored
        return [part for part, size in sizes.items() if part.size and (self._fetcher or size * _DENSE >= part.size)]

    def _bring_whole(self, wanted: Collection[Part]) -> None:
        """Fetch packs of the chunk store as they are, published when all they are coded against is here too.

        What cannot be had is left out. Raises CorruptionError, NotFoundError where that is what others stand on.
        """
        disk, folder = self._vault.disk, self._vault.path / "chunks"
        disk.make_folder(folder / "tmp")
        ready: dict[str, NewChunks] = {}
        own: set[ChunkId] = set()
        bases: set[ChunkId] = set()
        tried: set[Part] = set()
        lacking: _Frames = {}
        try:
            while wanted := [part for part in wanted if part not in tried]:
                tried.update(wanted)
                for part, pack in self._fetched(wanted):
                    assert isinstance(pack, NewChunks)
                    ready[part.name] = pack
                    own.update(chunk.id for chunk in pack.table.chunks)
                    bases.update(base for frame in pack.table.frames for base in frame.bases)
                lacking = self._frames(bases - own, {}, own)
                wanted = self._dense(lacking)
            self._copy(lacking)
            for name, pack in ready.items():
                if not pack.held:
                    disk.rename(pack.path, folder / pack.name)
                self._vault.store.came(pack.name, pack.table, pack.held)
                self._brought.add(name)
        finally:
            for name, pack in ready.items():
                if name not in self._brought:
                    disk.unlink(pack.path)

    def _fetched(self, wanted: Collection[Part]) -> Iterator[tuple[Part, StoredPack]]:
        """Those that can be had, stored."""
        if self._fetcher:
            return self._fetcher.fetch(wanted, lambda part, error: None)
        return self._remote.fetch(wanted, partial(store_part, self._vault), lambda part, error: None)

    def _frames(self, chunks: Collection[ChunkId], hints: Mapping[str, Row], here: Collection[ChunkId] = ()) -> _Frames:
        """Where the chunks lie that are not here, and all that these are coded against. `here`: more that are."""
        frames: _Frames = {}
        wanted = set(chunks)
        known = set(here)
        depth = 0
        while rows := self._rows(wanted - known, hints):
            if (depth := depth + 1) > _DEEPEST:
                raise CorruptionError(f"{self._remote.shown}: more than {_DEEPEST} frames stand on each other")
            bases: set[ChunkId] = set()
            for chunk, row in rows:
                try:
                    frame, inner = row.frame(), row.chunk(chunk)
                except (ValueError, IndexError) as error:
                    raise CorruptionError(f"{self._remote.shown}: no row for {chunk.hex()}: {error}") from error
                frames.setdefault((row.part.name, frame.offset), (row, []))[1].append(inner)
                bases.update(frame.bases)
            known |= wanted
            wanted = bases
        return frames

    def _rows(self, chunks: Collection[ChunkId], hints: Mapping[str, Row]) -> list[tuple[ChunkId, Row]]:
        """Where those chunks are that are not here. Raises NotFoundError."""
        wanted = set(chunks) - set(self._vault.store.known(chunks))
        ids = {chunk.hex() for chunk in wanted}
        found = {one: hints[one] for one in ids & hints.keys()}
        found |= self.index.find(ids - found.keys())
        for one in ids:
            if one not in found or found[one].kind != "c":
                raise NotFoundError(f"{self._remote.shown}: no chunk {one} there; verify the remote")
        return [(chunk, found[chunk.hex()]) for chunk in wanted]

    def _copy(self, frames: _Frames) -> None:
        """Bring frames one by one."""
        target = self._vault.store.target()
        # As they lie there: those that are near each other come in one request.
        batch: dict[_Key, Frame] = {}
        size = 0
        for number, (key, (row, _)) in enumerate(sorted(frames.items(), key=itemgetter(0)), 1):
            batch[key] = row.frame()
            size += batch[key].stored
            if size >= _BATCH or number == len(frames):
                for name, stored in self._read(batch).items():
                    target.add(0, batch[name], stored, frames[name][1])
                batch, size = {}, 0
        target.flush()

    def _read(self, frames: Mapping[_Key, Frame]) -> dict[_Key, bytes]:
        """The bytes of frames, each by its part and offset."""

        def fetch(span: tuple[str, int, int]) -> Content:
            name, start, stop = span
            with self._remote.transfers:
                data = self._remote.place.get(name, start, stop - start)
                if len(data) != stop - start:
                    data = self._remote.get(name)[start:stop]
            return data

        spans = list(_spans(frames))
        with ThreadPoolExecutor(THREADS, "remote-get") as pool:
            found = dict(zip(spans, pool.map(fetch, spans), strict=True))
        read = {}
        for (name, start, stop), data in found.items():
            for (part, offset), frame in frames.items():
                if part == name and start <= offset < stop:
                    read[part, offset] = bytes(data[offset - start : offset - start + frame.stored])
        return read


def _order(places: Mapping[str, Row], parts: Iterable[str]) -> Callable[[str], tuple[int, list[int]]]:
    """A key to sort files by, as they lie in the packs there, these as they were pushed: those of a round lie in few.

    By path the first 32 MiB of 4.5 GB were in packs of 600 MB; by the packs' names each pack of a large file lay among
    others, and was needed again later.
    """
    numbers = {part: number for number, part in enumerate(parts)}

    def place(oid: str) -> tuple[int, list[int]]:
        row = places.get(oid)
        # Where its frame begins, and it in that.
        return (
            (numbers[row.part.name], [int(word) for word in row.words[:4:3] if word.isdecimal()]) if row else (-1, [])
        )

    return place


class _Step(NamedTuple):
    """Some objects of a pack of git, by where they begin in it; None: all of it."""

    number: int
    part: Part
    offsets: dict[ObjectId, int] | None


class _Route:
    """What a walk needs of which packs, in steps that are numbered from 1."""

    def __init__(self) -> None:
        self._count = count(1)
        # In which step an object comes, and a pack of which the index does not say what begins where.
        self._steps: dict[ObjectId, int] = {}
        self._whole: dict[Part, int] = {}

    def go_on(self, folders: Mapping[bytes, Iterable[tuple[ObjectId, Row]]]) -> tuple[list[_Step], dict[bytes, int]]:
        """The steps for more folders with what they hold, and the last that each folder needs, 0 for none."""
        steps: dict[Part, _Step] = {}
        needs = dict.fromkeys(folders, 0)
        for folder, found in folders.items():
            for oid, row in found:
                number = self._steps.get(oid) or self._whole.get(row.part)
                if not number:
                    offset = row.offset()
                    step = steps.get(row.part)
                    if step is None:
                        step = steps[row.part] = _Step(next(self._count), row.part, None if offset is None else {})
                    number = step.number
                    if step.offsets is None or offset is None:
                        self._whole[row.part] = number
                    else:
                        step.offsets[oid] = offset
                        self._steps[oid] = number
                needs[folder] = max(number, needs[folder])
        return list(steps.values()), needs


def _batches(wanted: Iterable[Wanted]) -> Iterator[list[Wanted]]:
    some: list[Wanted] = []
    size, limit = 0, _LOOKED_FOR
    for each in wanted:
        some.append(each)
        size += len(each.blobs)
        if size >= limit:
            yield some
            some, size, limit = [], 0, 2 * limit
    yield some


def _rounds(pointers: Iterable[Pointer]) -> Iterator[list[Pointer]]:
    some: list[Pointer] = []
    size, limit = 0, min(_FIRST_ROUND, _ROUND)
    for pointer in pointers:
        some.append(pointer)
        size += pointer.size
        if size >= limit or len(some) >= _ROUND_FILES:
            yield some
            some, size, limit = [], 0, min(2 * limit, _ROUND)
    yield some


def _spans(frames: Mapping[_Key, Frame]) -> Iterator[tuple[str, int, int]]:
    """Stretches of parts that hold all the frames: name, first byte, end."""
    last: tuple[str, int, int] | None = None
    for (name, offset), frame in sorted(frames.items(), key=lambda item: item[0]):
        stop = offset + frame.stored
        if last and last[0] == name and offset - last[2] <= _GAP and stop - last[1] <= _LONGEST:
            last = (name, last[1], max(stop, last[2]))
        else:
            if last:
                yield last
            last = (name, offset, stop)
    if last:
        yield last
