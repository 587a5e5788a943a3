"""A vault that holds a part of a remote, and fetches what is asked of it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from operator import itemgetter
from pathlib import Path
from tempfile import TemporaryDirectory

from gitvault import config
from gitvault.core.interfaces import Progress
from gitvault.core.models import ChunkId, ObjectId, Pointer, RestoreReport
from gitvault.core.storage import manifests
from gitvault.core.storage.packs import Chunk, Frame
from gitvault.core.utils.files import FleetingDisk
from gitvault.core.versioning.history import HEADS
from gitvault.core.versioning.packfile import NewPack, publish
from gitvault.errors import CorruptionError, ExistsError, GitVaultError, NotFoundError
from gitvault.remotes.fetch import demand_vault, joined, store_part, under
from gitvault.remotes.index import Index, Part, Row, chunk_id
from gitvault.remotes.records import Record
from gitvault.remotes.remote import THREADS, Remote
from gitvault.remotes.views import write_refs
from gitvault.vault import Vault

# Frames that lie closer are fetched together: a request costs what 64 KiB and more take.
_GAP = 256 << 10
_LONGEST = 8 << 20
# Bytes of frames that are in memory at once.
_BATCH = 32 << 20
# Bytes of files that are looked up at once.
_ROUND = 1 << 30
# No chain that a vault writes is longer.
_DEEPEST = 64


def open_partial(remote: Remote, records: Iterable[Record], folder: Path) -> tuple[Vault, _Source]:
    """A new vault in `folder` with the refs of these records, the first of which counts where several differ.

    Another line of a project is called NAME@MACHINE. What is read of it comes from the remote when it is asked for.
    """
    ordered = list(records)
    vault = Vault.create(folder, disk=FleetingDisk())
    write_refs(vault.path, merged_refs(ordered), vault.disk)
    return vault, attach(vault, remote, remote.index(ordered))


def merged_refs(records: Iterable[Record]) -> dict[str, ObjectId]:
    """The refs of several machines."""
    refs: dict[str, ObjectId] = {}
    for record in records:
        for ref, oid in record.refs.items():
            for name in (
                ref,
                under(ref, f"%s@{record.machine}".__mod__),
                under(ref, f"%s@{record.machine}.{record.number}".__mod__),
            ):
                if refs.setdefault(name, oid) == oid or not ref.startswith(HEADS):
                    break
    return refs


def attach(vault: Vault, remote: Remote, index: Index) -> _Source:
    """Let what the vault lacks come from the remote; what brings it."""
    source = _Source(vault, remote, index)
    vault.history.objects.fetch = source.fetch_objects
    vault.store.fetch = source.fetch_file
    return source


def clone_to_inspect(
    remote: Remote, url: str, folder: Path, extra: Mapping[str, str | tuple[str, ...]]
) -> tuple[Vault, tuple[str, ...]]:
    """A vault, open, with the refs of a remote, which becomes its `origin`; and what was skipped there.

    The rest comes when it is asked for, see `inspecting`. Errors as in `clone`; ExistsError for a whole vault.
    """
    vault = joined(folder, {"origin": {"url": url, "id": demand_vault(remote), **extra}})
    if vault.history.refs.list() and not vault.config.inspects:
        raise ExistsError(f"{folder}: a whole vault; name a folder that does not exist yet")
    config.set(vault.path, "vault.inspects", "origin")
    vault.__dict__.pop("config", None)
    return vault, refresh(vault, remote)


def refresh(vault: Vault, remote: Remote) -> tuple[str, ...]:
    """Let a vault that inspects have the refs that are there now; what was skipped there."""
    newest = _newest(remote, remote.vault_id())
    skipped = remote.demand(newest)
    write_refs(vault.path, merged_refs(newest), vault.disk)
    return skipped


def _newest(remote: Remote, vault: str) -> list[Record]:
    """Each machine's newest record, the newest of them first."""
    return sorted(remote.records(vault).values(), key=lambda record: record.time, reverse=True)


@contextmanager
def inspecting(vault: Vault, open_it: Callable[[], Remote]) -> Iterator[None]:
    """Meanwhile what a vault lacks comes from a remote, which is opened when something is first missing."""
    lock = threading.Lock()
    with ExitStack() as held:

        def source() -> None:
            with lock:
                # Another thread of a restore may have been quicker.
                if vault.store.fetch == first_file:
                    attach_newest(vault, held.enter_context(open_it()))

        def first_object(prefix: str) -> bool:
            source()
            return vault.history.objects.fetch is not None and vault.history.objects.fetch(prefix)

        def first_file(pointer: Pointer) -> None:
            source()
            if vault.store.fetch:
                vault.store.fetch(pointer)

        vault.history.objects.fetch, vault.store.fetch = first_object, first_file
        yield


def attach_newest(vault: Vault, remote: Remote) -> None:
    """Let what the vault lacks come from what a remote holds now. Errors as of a `fetch`."""
    newest = _newest(remote, demand_vault(remote))
    remote.demand(newest)
    attach(vault, remote, remote.index(newest))


class _Source:
    """Brings what is asked for; the threads of a restore ask too."""

    def __init__(self, vault: Vault, remote: Remote, index: Index) -> None:
        self._vault = vault
        self._remote = remote
        self._index = index
        self._brought: set[str] = set()
        self._lock = threading.RLock()

    def fetch_objects(self, prefix: str) -> bool:
        """Bring the packs with the git objects whose ids begin so; whether there is one."""
        with self._lock:
            return self._publish(self._index.packs_of(prefix))

    def fetch_many(self, oids: Collection[ObjectId]) -> None:
        """Bring the packs with these git objects, several at once."""
        with self._lock:
            rows = self._index.find([oid.hex() for oid in oids]).values()
            self._publish(list({row.part.name: row.part for row in rows if row.kind == "g"}.values()))

    def fetch_file(self, pointer: Pointer) -> None:
        """Bring what a file's content stands on; nothing when it is not there."""
        self.fetch_files([pointer])

    def fetch_files(self, pointers: Collection[Pointer]) -> None:
        """The same for many."""
        with self._lock:
            store = self._vault.store
            rows = self._index.find([pointer.oid for pointer in pointers])
            parts = {oid: row.manifest() for oid, row in rows.items() if row.kind == "m"}
            hints = {one: hint for row in rows.values() if row.kind == "m" for one, hint in row.hints().items()}
            self._bring([part for each in parts.values() for part in each], hints)
            wanted = [chunk_id(oid) for oid, row in rows.items() if row.kind == "c"]
            for oid, each in parts.items():
                wanted += [chunk for chunk, _ in manifests.decode(b"".join(map(store.retrieve_chunk, each)), oid)]
            self._bring(wanted, hints)
            target = store.target()
            for oid, each in parts.items():
                target.add_manifest(oid, each)
            target.flush()

    def _publish(self, parts: Collection[Part]) -> bool:
        wanted = [part for part in parts if part.name not in self._brought]
        failed: list[GitVaultError] = []
        work = partial(store_part, self._vault)
        for part, ready in self._remote.fetch(wanted, work, lambda _, error: failed.append(error)):
            assert isinstance(ready, NewPack)
            publish(ready, self._vault.path / "objects" / "pack", self._vault.disk)
            self._brought.add(part.name)
        if failed:
            raise failed[0]
        self._vault.history.objects.refresh()
        return bool(wanted)

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
        frames: dict[tuple[str, int], tuple[Row, list[Chunk]]] = {}
        wanted = set(chunks)
        known: set[ChunkId] = set()
        depth = 0
        while wanted := wanted - known - set(self._vault.store.known(wanted)):
            if (depth := depth + 1) > _DEEPEST:
                raise CorruptionError(f"{self._remote.shown}: more than {_DEEPEST} frames stand on each other")
            ids = {chunk.hex() for chunk in wanted}
            found = {one: hints[one] for one in ids & hints.keys()}
            found |= self._index.find(ids - found.keys())
            bases: set[ChunkId] = set()
            for chunk in wanted:
                row = found.get(chunk.hex())
                if row is None or row.kind != "c":
                    raise NotFoundError(f"{self._remote.shown}: no chunk {chunk.hex()} there; verify the remote")
                frame = row.frame()
                frames.setdefault((row.part.name, frame.offset), (row, []))[1].append(row.chunk(chunk))
                bases.update(frame.bases)
            known |= wanted
            wanted = bases
        target = self._vault.store.target()
        # As they lie there: those that are near each other come in one request.
        batch: dict[tuple[str, int], Frame] = {}
        size = 0
        for number, (key, (row, _)) in enumerate(sorted(frames.items(), key=itemgetter(0)), 1):
            batch[key] = row.frame()
            size += batch[key].stored
            if size >= _BATCH or number == len(frames):
                for name, stored in self._read(batch).items():
                    target.add(0, batch[name], stored, frames[name][1])
                batch, size = {}, 0
        target.flush()

    def _read(self, frames: Mapping[tuple[str, int], Frame]) -> dict[tuple[str, int], bytes]:
        """The bytes of frames, each by its part and offset."""

        def fetch(span: tuple[str, int, int]) -> bytes:
            name, start, stop = span
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
                    read[part, offset] = data[offset - start : offset - start + frame.stored]
        return read


def _spans(frames: Mapping[tuple[str, int], Frame]) -> Iterator[tuple[str, int, int]]:
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


def restore(
    remote: Remote,
    vault: str,
    snapshot: str,
    target: str,
    *,
    paths: Collection[bytes] = (),
    excluded: Collection[bytes] = (),
    overwrite: bool = False,
    progress: Progress,
) -> RestoreReport:
    """Restore of a remote what is asked for, fetching only what that needs. `vault`: its id, when that is known.

    A snapshot that no newest record leads to is looked for in older ones. Raises NotFoundError, RemoteError and its
    kinds, CorruptionError, and what a restore raises.
    """
    there = demand_vault(remote)
    if vault and there != vault:
        raise NotFoundError(f"{remote.shown}: holds another vault, {there}")
    newest = _newest(remote, there)
    remote.demand(newest)
    with ExitStack() as held:

        def opened(records: Iterable[Record]) -> tuple[Vault, _Source]:
            folder = held.enter_context(TemporaryDirectory(prefix="gitvault-"))
            part, source = open_partial(remote, records, Path(folder) / "vault.git")
            return held.enter_context(part), source

        part, source = opened(newest)
        try:
            found = part.resolve(snapshot)
        except NotFoundError:
            part, source = opened(remote.every_record(there))
            found = part.resolve(snapshot)
        _fetch_ahead(part, source, found, paths, excluded)
        return part.restore_snapshot(
            found, target, paths=paths, excluded_paths=excluded, overwrite=overwrite, progress=progress
        )


def _fetch_ahead(
    part: Vault, source: _Source, snapshot: str, paths: Collection[bytes], excluded: Collection[bytes]
) -> None:
    """Bring what a restore will ask for, many at a time: one by one each would wait for the server."""
    blobs: list[ObjectId] = []
    pointers: dict[str, Pointer] = {}
    size = 0
    for path in paths or [b""]:
        # What is not there, or damaged, the restore tells.
        with suppress(NotFoundError, CorruptionError):
            for entry in part.entries(snapshot, path, recursive=True, damaged=lambda _: None):
                if any(entry.path == out or entry.path.startswith(out + b"/") for out in excluded):
                    continue
                if entry.pointer:
                    pointers[entry.pointer.oid] = entry.pointer
                    size += entry.pointer.size
                elif entry.blob:
                    blobs.append(entry.blob)
                if size >= _ROUND:
                    source.fetch_files(pointers.values())
                    pointers, size = {}, 0
    here = part.history.objects.contains
    source.fetch_many([blob for blob in blobs if not here(blob)])
    source.fetch_files(pointers.values())
