"""Every StorageManager keeps the same promises: one suite over the chunk store and a strict one in memory."""

from __future__ import annotations

import hashlib
import io
import random
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

import pytest

from gitvault.core.chunking import AssetAware, FixedSize, RollingHash
from gitvault.core.interfaces import Extent, Progress, StorageManager
from gitvault.core.models import ChunkId, Pointer, StorageSize, VerifyReport
from gitvault.core.storage.store import ChunkStore
from gitvault.errors import CorruptionError, NotFoundError

Open = Callable[[], StorageManager]


class MemoryStore:
    """StorageManager in its simplest form: whole contents in dictionaries. `disk` is what a power cut leaves."""

    def __init__(self, disk: dict[ChunkId, bytes]) -> None:
        self._disk = disk
        self._new: dict[ChunkId, bytes] = {}

    def store_file(
        self, source: BinaryIO | Path, *, base: Pointer | None = None, file_extension: str | None = None
    ) -> Pointer:
        data = source.read_bytes() if isinstance(source, Path) else source.read()
        if data:
            self.store_chunk(data)
        return Pointer(hashlib.sha256(data).hexdigest(), len(data))

    def retrieve_file(self, pointer: Pointer, target: BinaryIO) -> None:
        for chunk, _ in self.chunks(pointer):
            target.write(self.retrieve_chunk(chunk))

    def store_chunk(self, data: bytes) -> ChunkId:
        chunk = ChunkId(hashlib.sha256(data).digest())
        if chunk not in self._disk:
            self._new[chunk] = data
        return chunk

    def retrieve_chunk(self, chunk: ChunkId) -> bytes:
        try:
            return self._new.get(chunk) or self._disk[chunk]
        except KeyError:
            raise NotFoundError(chunk.hex()) from None

    def has(self, pointer: Pointer) -> bool:
        try:
            self.chunks(pointer)
        except (NotFoundError, CorruptionError):
            return False
        return True

    def chunks(self, pointer: Pointer) -> Sequence[tuple[ChunkId, int]]:
        if pointer.oid == hashlib.sha256().hexdigest():
            return []
        try:
            chunk = ChunkId(bytes.fromhex(pointer.oid))
        except ValueError:
            raise NotFoundError(pointer.oid) from None
        if len(self.retrieve_chunk(chunk)) != pointer.size:
            raise CorruptionError(pointer.oid)
        return [(chunk, pointer.size)]

    def flush(self) -> int:
        added = sum(map(len, self._new.values()))
        self._disk.update(self._new)
        self._new.clear()
        return added

    def discard(self) -> None:
        self._new.clear()

    def verify(
        self, *, data: bool = False, extent: Extent | None = None, progress: Progress | None = None
    ) -> VerifyReport:
        if progress is not None:
            progress("checking", 1, 1)
        return VerifyReport(len(self._disk), sum(map(len, self._disk.values())))

    def get_storage_size(self) -> StorageSize:
        both = self._disk | self._new
        return StorageSize(1, len(both), sum(map(len, both.values())))


STRATEGIES = {"fixed": FixedSize, "rolling-hash": RollingHash, "asset-aware": AssetAware}


@pytest.fixture(params=["memory", *STRATEGIES])
def reopen(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    """Opens the same store once more, as another process would."""
    disk: dict[ChunkId, bytes] = {}

    def open_it() -> StorageManager:
        if request.param == "memory":
            return MemoryStore(disk)
        store = ChunkStore(tmp_path / "chunks", cache=tmp_path / "cache", strategy=STRATEGIES[request.param]())
        request.addfinalizer(store.close)
        return store

    return open_it


@pytest.fixture
def store(reopen: Open) -> StorageManager:
    return reopen()


def content(store: StorageManager, pointer: Pointer) -> bytes:
    target = io.BytesIO()
    store.retrieve_file(pointer, target)
    return target.getvalue()


def save(store: StorageManager, data: bytes, base: Pointer | None = None) -> Pointer:
    return store.store_file(io.BytesIO(data), base=base)


NOISE = random.Random(1).randbytes(20_000_000)
CONTENTS = [b"", b"x", b"text\n" * 100_000, NOISE[:100_000], NOISE[:5_000_000], bytes(3_000_000), NOISE]


@pytest.mark.parametrize("data", CONTENTS, ids=len)
def test_content_comes_back_at_once_and_after_flush_by_others(reopen: Open, data: bytes) -> None:
    store = reopen()
    pointer = save(store, data)
    assert pointer == Pointer(hashlib.sha256(data).hexdigest(), len(data))
    assert store.has(pointer)
    assert content(store, pointer) == data
    store.flush()
    assert content(reopen(), pointer) == data
    assert sum(length for _, length in store.chunks(pointer)) == len(data)
    assert b"".join(store.retrieve_chunk(chunk) for chunk, _ in store.chunks(pointer)) == data


def test_a_path_and_a_stream_are_the_same(store: StorageManager, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(NOISE[:300_000])
    with (tmp_path / "file").open("rb") as stream:
        assert store.store_file(stream) == store.store_file(tmp_path / "file", file_extension=".bin")


def test_known_content_writes_nothing(reopen: Open) -> None:
    store = reopen()
    pointers = [save(store, data) for data in CONTENTS]
    assert store.flush() > 0
    before = store.get_storage_size()
    for again in (store, reopen()):
        assert [save(again, data) for data in CONTENTS] == pointers
        assert again.flush() == 0
        assert again.get_storage_size() == before


def test_every_version_of_a_chain_comes_back(reopen: Open) -> None:
    """More versions than deltas may stand on each other."""
    store = reopen()
    data = bytearray(NOISE[:3_000_000])
    versions: list[tuple[Pointer, bytes]] = []
    rng = random.Random(2)
    for _ in range(20):
        for _ in range(3):
            at = rng.randrange(len(data))
            data[at : at + 100] = rng.randbytes(rng.randrange(300))
        versions.append((save(store, bytes(data), versions[-1][0] if versions else None), bytes(data)))
        store.flush()
    fresh = reopen()
    for pointer, wanted in reversed(versions):
        assert content(fresh, pointer) == wanted


def test_a_base_that_does_not_exist_is_only_a_lost_hint(store: StorageManager) -> None:
    pointer = save(store, NOISE[:1_000_000], Pointer("0" * 64, 5_000_000))
    assert content(store, pointer) == NOISE[:1_000_000]


def test_missing_content_is_not_found(store: StorageManager) -> None:
    pointer = Pointer(hashlib.sha256(b"never stored").hexdigest(), 12)
    assert not store.has(pointer)
    with pytest.raises(NotFoundError):
        store.chunks(pointer)
    with pytest.raises(NotFoundError):
        content(store, pointer)
    with pytest.raises(NotFoundError):
        store.retrieve_chunk(ChunkId(bytes.fromhex(pointer.oid)))


def test_an_oid_that_is_no_hash_is_not_found(store: StorageManager) -> None:
    with pytest.raises(NotFoundError):
        store.chunks(Pointer("../../etc/passwd", 12))


@pytest.mark.parametrize("size", [50_000, 3_000_000])
def test_the_right_hash_with_the_wrong_size_is_corruption(store: StorageManager, size: int) -> None:
    pointer = save(store, NOISE[:size])
    wrong = Pointer(pointer.oid, size + 1)
    assert not store.has(wrong)
    with pytest.raises(CorruptionError):
        content(store, wrong)


def test_single_chunks_can_be_kept(reopen: Open) -> None:
    store = reopen()
    chunk = store.store_chunk(b"a chunk")
    assert chunk == hashlib.sha256(b"a chunk").digest()
    assert store.retrieve_chunk(chunk) == b"a chunk"
    store.flush()
    assert reopen().retrieve_chunk(chunk) == b"a chunk"


def test_discard_forgets_what_was_not_flushed(reopen: Open) -> None:
    store = reopen()
    kept = save(store, NOISE[:500_000])
    store.flush()
    dropped = save(store, NOISE[500_000:2_000_000], kept)
    store.discard()
    assert store.has(kept) and not store.has(dropped)
    assert store.flush() == 0
    assert save(store, NOISE[500_000:2_000_000]) == dropped
    store.flush()
    fresh = reopen()
    assert content(fresh, kept) + content(fresh, dropped) == NOISE[:2_000_000]


def test_nothing_unflushed_is_seen_by_others(reopen: Open) -> None:
    pointer = save(reopen(), NOISE[:500_000])
    assert not reopen().has(pointer)


def test_an_empty_store_is_sound_and_flushes(store: StorageManager) -> None:
    assert store.flush() == 0
    assert store.verify(data=True).ok
    assert store.get_storage_size().bytes == 0


def test_verify_counts_what_it_looked_at_and_tells_how_far_it_is(store: StorageManager) -> None:
    save(store, NOISE[:500_000])
    store.flush()
    told: list[tuple[str, int, int]] = []
    report = store.verify(data=True, progress=lambda *step: told.append(step))
    assert report.ok and report.objects_checked > 0 and report.bytes_checked >= 500_000
    assert told[-1][1] == told[-1][2] > 0


def test_several_threads_store_the_same_and_different_files(reopen: Open) -> None:
    store = reopen()
    parts = [NOISE[i * 300_000 : i * 300_000 + 2_000_000] for i in range(12)] * 3
    with ThreadPoolExecutor(6) as pool:
        pointers = list(pool.map(lambda data: save(store, data), parts))
        assert list(pool.map(lambda pointer: content(store, pointer), pointers)) == parts
    added = store.flush()
    assert added == pytest.approx(store.get_storage_size().bytes, rel=0.01)
    fresh = reopen()
    assert [content(fresh, pointer) for pointer in pointers] == parts


class Interrupted(io.RawIOBase):
    """A stream that fails in the middle, as a file on a lost network drive does."""

    def __init__(self, data: bytes) -> None:
        self._data = io.BytesIO(data)

    def read(self, size: int = -1, /) -> bytes:
        data = self._data.read(min(size, 70_000) if size >= 0 else -1)
        if not data or size < 0:
            raise OSError(5, "Input/output error")
        return data


def test_an_error_while_reading_one_file_is_raised_and_harms_no_other(reopen: Open) -> None:
    store = reopen()
    with pytest.raises(OSError, match="Input/output"):
        store.store_file(Interrupted(NOISE))  # type: ignore[arg-type]
    pointer = save(store, NOISE)
    store.flush()
    assert content(reopen(), pointer) == NOISE


def test_short_reads_are_not_the_end(store: StorageManager) -> None:
    class Slow(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            return super().read(min(size, 100_000) if size is not None and size >= 0 else -1)

    assert content(store, store.store_file(Slow(NOISE[:1_000_000]))) == NOISE[:1_000_000]
