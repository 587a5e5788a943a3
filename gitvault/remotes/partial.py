"""A vault that holds a part of a remote, and fetches what is asked of it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from gitvault.core.interfaces import Progress
from gitvault.core.models import ChunkId, ObjectId, Pointer, RestoreReport
from gitvault.core.storage import manifests
from gitvault.core.storage.packs import Chunk, Frame
from gitvault.core.versioning.history import HEADS
from gitvault.core.versioning.packfile import NewPack, publish
from gitvault.errors import CorruptionError, NotFoundError
from gitvault.remotes.fetch import store_part, under, write_refs
from gitvault.remotes.index import Index, Row, chunk_id
from gitvault.remotes.records import Record
from gitvault.remotes.remote import THREADS, Remote
from gitvault.vault import Vault

# Frames that lie closer are fetched together: a request costs what 64 KiB and more take.
_GAP = 256 << 10
_LONGEST = 8 << 20
# No chain that a vault writes is longer.
_DEEPEST = 64


def open_partial(remote: Remote, records: Iterable[Record], folder: Path, **options: object) -> Vault:
    """A new vault in `folder` with the refs of these records, the first of which counts where several differ.

    Another line of a project is called NAME@MACHINE. What is read of it comes from the remote when it is asked for.
    """
    ordered = list(records)
    vault = Vault.create(folder, **options)
    write_refs(vault.path, merged_refs(ordered))
    attach(vault, remote, remote.index(ordered))
    return vault


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


def attach(vault: Vault, remote: Remote, index: Index) -> None:
    """Let what the vault lacks come from the remote."""
    source = _Source(vault, remote, index)
    vault.history.objects.fetch = source.fetch_objects
    vault.store.fetch = source.fetch_file


class _Source:
    def __init__(self, vault: Vault, remote: Remote, index: Index) -> None:
        self._vault = vault
        self._remote = remote
        self._index = index
        self._brought: set[str] = set()

    def fetch_objects(self, prefix: str) -> bool:
        """Bring the packs with the git objects whose ids begin so; whether there is one."""
        wanted = {part.name: part for part in self._index.packs_of(prefix) if part.name not in self._brought}
        for part in wanted.values():
            ready = store_part(self._vault, part, self._remote.get(part.name))
            assert isinstance(ready, NewPack)
            publish(ready, self._vault.path / "objects" / "pack", self._vault.disk)
            self._brought.add(part.name)
        return bool(wanted)

    def fetch_file(self, pointer: Pointer) -> None:
        """Bring what a file's content stands on; nothing when it is not there."""
        row = self._index.find([pointer.oid]).get(pointer.oid)
        if row is None:
            return
        store = self._vault.store
        target = store.target()
        if row.kind == "m":
            parts = tuple(map(chunk_id, row.words))
            self._bring(parts)
            text = b"".join(map(store.retrieve_chunk, parts))
            self._bring([chunk for chunk, _ in manifests.decode(text, pointer.oid)])
            target.add_manifest(pointer.oid, parts)
            target.flush()
        else:
            self._bring([chunk_id(pointer.oid)])

    def _bring(self, chunks: Collection[ChunkId]) -> None:
        """Fetch the frames of those chunks that are not here, and all these are coded against."""
        frames: dict[tuple[str, int], tuple[Row, list[Chunk]]] = {}
        wanted = set(chunks)
        known: set[ChunkId] = set()
        depth = 0
        while wanted := wanted - known - set(self._vault.store.known(wanted)):
            if (depth := depth + 1) > _DEEPEST:
                raise CorruptionError(f"{self._remote.shown}: more than {_DEEPEST} frames stand on each other")
            found = self._index.find([chunk.hex() for chunk in wanted])
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
        stored = self._read({key: row.frame() for key, (row, _) in frames.items()})
        target = self._vault.store.target()
        # What others are coded against was met last.
        for key, (row, held) in reversed(frames.items()):
            target.add(0, row.frame(), stored[key], held)
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
    there = remote.vault_id()
    if not there or (vault and there != vault):
        raise NotFoundError(f"{remote.shown}: {f'holds another vault, {there}' if there else 'no vault there'}")
    newest = sorted(remote.records(there).values(), key=lambda record: record.time, reverse=True)
    remote.demand(newest)
    with ExitStack() as held:

        def opened(records: Iterable[Record]) -> Vault:
            folder = held.enter_context(TemporaryDirectory(prefix="gitvault-"))
            return held.enter_context(open_partial(remote, records, Path(folder) / "vault.git"))

        part = opened(newest)
        try:
            found = part.resolve(snapshot)
        except NotFoundError:
            part = opened(remote.every_record(there))
            found = part.resolve(snapshot)
        return part.restore_snapshot(
            found, target, paths=paths, excluded_paths=excluded, overwrite=overwrite, progress=progress
        )
