"""The chunk store: what an edit costs, and what is said and kept when the disk, the packs or a strategy fail."""

from __future__ import annotations

import contextlib
import hashlib
import io
import itertools
import os
import random
import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from chunk_stores import content, open_store, save
from disks import CountedDisk

from gitvault.core.chunking import AssetAware, RollingHash
from gitvault.core.models import ChunkId, ChunkPlan, Pointer
from gitvault.core.storage import appender, frames
from gitvault.core.storage.deltas import Alignment
from gitvault.core.storage.packs import Frame, Pack, format_table, read_table, table_hash
from gitvault.core.storage.store import ChunkStore
from gitvault.core.utils.files import Disk
from gitvault.errors import (
    ChecksumMismatch,
    CorruptionError,
    GitVaultError,
    LockedError,
    NotFoundError,
    StorageFullError,
    UnsupportedFormatVersion,
)

NOISE = random.Random(7).randbytes(12_000_000)

Open = Callable[..., ChunkStore]


@pytest.fixture
def reopen(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    def open_it(disk: Disk | None = None, strategy: RollingHash | AssetAware | None = None) -> ChunkStore:
        store = ChunkStore(
            tmp_path / "chunks", cache=tmp_path / "cache", strategy=strategy or AssetAware(), disk=disk, threads=2
        )
        request.addfinalizer(store.close)
        return store

    return open_it


def packs(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "chunks").glob("*.zpk"))


# -- what an edit costs ------------------------------------------------------------------------------


def test_small_edits_cost_little_more_than_themselves(reopen: Open) -> None:
    store = reopen()
    first = save(store, NOISE)
    store.flush()
    data = bytearray(NOISE)
    for at in range(500_000, len(data), 1_000_000):
        data[at : at + 10] = b"an insertion of 30 characters!"
    pointer = save(store, bytes(data), first)
    assert store.flush() < 20_000
    assert content(store, pointer) == data


def test_edits_all_over_a_file_that_shares_no_chunk_are_coded_against_it(reopen: Open) -> None:
    """An uncompressed texture after one brush stroke or a change of colour."""
    store = reopen()
    first = save(store, NOISE)
    store.flush()
    data = bytearray(NOISE)
    for at in range(0, len(data), 20_000):
        data[at] ^= 1
    pointer = save(store, bytes(data), first)
    assert store.flush() < 100_000
    assert not {chunk for chunk, _ in store.chunks(first)} & {chunk for chunk, _ in store.chunks(pointer)}
    assert content(store, pointer) == data


@pytest.mark.parametrize("shared", [True, False])
def test_a_new_part_does_not_hide_that_the_rest_is_old(reopen: Open, shared: bool) -> None:
    """Eight megabytes of new content, then small changes: with known chunks between, and with none."""
    store = reopen()
    old = random.Random(8).randbytes(40_000_000)
    first = save(store, old)
    store.flush()
    data = bytearray(NOISE[:8_000_000] + old[8_000_000:])
    for at in range(16_000_000 if shared else 8_000_000, len(data), 50_000):
        data[at] ^= 1
    save(store, bytes(data), first)
    assert store.flush() < (8_400_000 if shared else 24_000_000)


def test_what_was_already_compressed_is_not_tried(reopen: Open) -> None:
    store = reopen()
    jpeg = b"\xff\xd8\xff\xe0" + NOISE[:1_000_000]
    first = save(store, jpeg)
    store.flush()
    save(store, jpeg[:100] + b"!" + jpeg[101:], first)
    store.flush()
    assert not any(frame.bases for path in (store._folder).glob("*.zpk") for frame in read_table(path).frames)


@pytest.mark.parametrize(("size", "limit"), [(1_000_000, 16), (9_000_000, 8)])
def test_chains_of_deltas_are_short(reopen: Open, tmp_path: Path, size: int, limit: int) -> None:
    """Else the hundredth version would be read through a hundred frames."""
    store = reopen()
    data = bytearray(NOISE[:size])
    pointer = None
    depths: dict[ChunkId, int] = {}
    for n in range(limit + 4):
        data[700_000] = n
        pointer = save(store, bytes(data), pointer)
        content_chunks = {chunk for chunk, _ in store.chunks(pointer)}
        depths |= {c: store._reader.depth(place) for c, place in store._appender.find(content_chunks).items()}
    assert max(depths.values()) == limit


def test_manifests_of_new_versions_are_coded_against_the_old(reopen: Open) -> None:
    """The list of a 4 GiB file's chunks is 2 MB of hashes that do not compress."""
    store = reopen(strategy=RollingHash(256, 1024, 4096))
    first = save(store, NOISE[:4_000_000])
    whole = store.flush()
    save(store, NOISE[:2_000_000] + b"!" + NOISE[2_000_001:4_000_000], first)
    assert store.flush() < whole / 300


def test_the_share_of_each_file_adds_up_to_what_is_stored(reopen: Open) -> None:
    store = reopen()
    pointers = [save(store, NOISE[:3_000_000]), save(store, NOISE[:2_000_000]), save(store, bytes(1_000_000))]
    store.flush()
    assert store.stored_size(pointers[2]) < 1000
    counted: set[ChunkId] = set()
    shares = [store.stored_size(pointer, counted) for pointer in pointers]
    assert sum(shares) == pytest.approx(store.get_storage_size().bytes, rel=0.01)
    assert store.stored_size(pointers[0], counted) == 0


def test_full_packs_are_finished_while_work_goes_on(
    reopen: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill loses at most the last pack."""
    monkeypatch.setattr(appender, "PACK_SIZE", 1 << 20)
    store = reopen()
    pointer = save(store, NOISE)
    assert store.get_storage_size().packs >= 6
    assert store.flush() == sum(path.stat().st_size for path in packs(tmp_path))
    assert store.get_storage_size().packs == len(packs(tmp_path)) >= 6
    assert content(reopen(), pointer) == NOISE


@pytest.mark.parametrize("size", [0, (16 << 20) + 1])
def test_a_chunk_has_a_sensible_size(reopen: Open, size: int) -> None:
    with pytest.raises(ValueError, match="expected 1 to 16777216"):
        reopen().store_chunk(bytes(size))


# -- strategies that fail ----------------------------------------------------------------------------


class FaultyChunking(AssetAware):
    """Repeats bytes, makes empty or endless chunks, or raises."""

    fault = ""

    def chunk_data(
        self, buffer: memoryview, file_extension: str | None = None, plan: ChunkPlan | None = None
    ) -> Iterator[memoryview]:
        if self.fault == "raises":
            raise GitVaultError("this strategy raises")
        if self.fault == "empty":
            yield buffer[:0]
        yield buffer
        if self.fault == "repeats":
            yield buffer[:1]


@pytest.mark.parametrize(
    ("fault", "data"),
    [
        ("repeats", NOISE[:100_000]),
        ("empty", NOISE[:100_000]),
        ("raises", NOISE[:100_000]),
        ("too long", NOISE + NOISE),
    ],
)
def test_a_faulty_strategy_is_named_and_harms_nothing(
    reopen: Open, monkeypatch: pytest.MonkeyPatch, fault: str, data: bytes
) -> None:
    monkeypatch.setattr(FaultyChunking, "fault", fault)
    store = reopen(strategy=FaultyChunking(max_size=16 << 20))
    with pytest.raises(GitVaultError, match="strategy"):
        save(store, data)
    store.discard()
    assert store.flush() == 0
    healthy = reopen()
    assert content(healthy, save(healthy, data)) == data


# -- damage ------------------------------------------------------------------------------------------


def flip(path: Path, offset: int) -> None:
    content = bytearray(path.read_bytes())
    content[offset] ^= 0xFF
    path.chmod(0o600)
    path.write_bytes(content)


def test_flipped_bits_are_found_wherever_they_are(reopen: Open, tmp_path: Path) -> None:
    """No byte of a pack may change unnoticed by `verify --data`, and no read returns wrong bytes."""
    store = reopen()
    saved = {save(store, data): data for data in (b"hello " * 5000, NOISE[:300_000], NOISE[400_000:401_000])}
    store.flush()
    store.close()
    (pack,) = packs(tmp_path)
    sound = pack.read_bytes()
    rng = random.Random(3)
    for offset in [0, 5, 9, 30, len(sound) - 1, len(sound) - 60, *(rng.randrange(len(sound)) for _ in range(25))]:
        flip(pack, offset)
        with reopen() as harmed:
            assert not harmed.verify(data=True).ok, offset
            for pointer, data in saved.items():
                with contextlib.suppress(CorruptionError, NotFoundError):
                    assert content(harmed, pointer) == data
        pack.write_bytes(sound)
        (tmp_path / "cache" / "chunks.db").unlink(missing_ok=True)
    assert reopen().verify(data=True).ok


def test_defects_name_the_chunks_and_files_that_are_harmed(reopen: Open, tmp_path: Path) -> None:
    store = reopen()
    harmed, sound = save(store, NOISE[:50_000]), save(store, NOISE[50_000:100_000])
    store.flush()
    flip(packs(tmp_path)[0], 20_000)
    report = store.verify(data=True)
    assert ("chunk", harmed.oid) in {(defect.kind, defect.object) for defect in report.defects}
    assert sound.oid not in {defect.object for defect in report.defects}
    assert store.verify().ok
    fresh = reopen()
    with pytest.raises(CorruptionError):
        content(fresh, harmed)
    assert content(fresh, sound) == NOISE[50_000:100_000]


def test_a_lost_pack_is_found_without_reading_data_and_mended_by_saving_again(reopen: Open, tmp_path: Path) -> None:
    store = reopen()
    first = save(store, NOISE[:2_000_000])
    store.flush()
    (pack,) = packs(tmp_path)
    second = save(store, NOISE[:1_000_000] + b"!" + NOISE[1_000_000:2_000_000], first)
    store.flush()
    store.close()
    pack.unlink()
    store = reopen()
    assert "chunk" in {defect.kind for defect in store.verify().defects}
    assert not store.has(first)
    for pointer in (first, second):
        with pytest.raises(NotFoundError):
            content(store, pointer)
    assert save(store, NOISE[:2_000_000]) == first
    store.flush()
    assert content(reopen(), first) == NOISE[:2_000_000]
    assert content(reopen(), second) == NOISE[:1_000_000] + b"!" + NOISE[1_000_000:2_000_000]
    assert reopen().verify(data=True).ok


def test_a_cut_pack_is_a_defect_and_its_content_is_called_damaged(reopen: Open, tmp_path: Path) -> None:
    store = reopen()
    pointer = save(store, NOISE[:100_000])
    store.flush()
    store.close()
    (pack,) = packs(tmp_path)
    pack.write_bytes(pack.read_bytes()[:50_000])
    (tmp_path / "cache" / "chunks.db").unlink()
    store = reopen()
    assert [(defect.kind, defect.object) for defect in store.verify().defects] == [("pack", pack.name)]
    with pytest.raises(CorruptionError, match=pack.name):
        content(store, pointer)


def test_a_damaged_past_does_not_keep_the_present_from_being_saved(reopen: Open, tmp_path: Path) -> None:
    store = reopen()
    first = save(store, NOISE[:3_000_000])
    store.flush()
    store.close()
    flip(packs(tmp_path)[0], 1_500_000)
    store = reopen()
    data = NOISE[:1_499_000] + b"edited" + NOISE[1_499_000:3_000_000]
    second = save(store, data, first)
    store.flush()
    fresh = reopen()
    with pytest.raises(CorruptionError):
        content(fresh, first)
    assert len(content(fresh, save(fresh, data[:1_000_000]))) == 1_000_000
    assert second.size == len(data)


def forge(folder: Path, rows: Callable[[ChunkId], str], data: bytes, dictionary: bytes = b"") -> Path:
    """A pack that says what `rows` makes of a frame with `data`."""
    chunk = ChunkId(hashlib.sha256(data).digest())
    frame = frames.compress(data, 3, dictionary)
    head = b"\x57\x2a\x4d\x18\x10\0\0\0gitvault pack 1\n"
    text = rows(chunk).replace("STORED", str(len(frame))).replace("LENGTH", str(len(data))).encode()
    text += f"end {hashlib.sha256(text).hexdigest()}\n".encode()
    packed = frames.compress(text, 3)
    block = b"\x57\x2a\x4d\x18" + len(packed).to_bytes(4, "little") + packed
    trailer = f"gitvault table {len(head) + len(frame) + 8:020d} {len(packed):020d}\n".encode()
    content = head + frame + block * 2 + b"\x57\x2a\x4d\x18" + len(trailer).to_bytes(4, "little") + trailer
    folder.mkdir(exist_ok=True)
    path = folder / f"{table_hash(text)}.zpk"
    path.write_bytes(content)
    return path


def test_a_chunk_that_is_not_what_its_id_says_is_refused(reopen: Open, tmp_path: Path) -> None:
    wrong = hashlib.sha256(b"promised").digest()
    forge(tmp_path / "chunks", lambda _: f"frame 0 24 STORED LENGTH\nchunk {wrong.hex()} 0 0 LENGTH\n", b"delivered")
    with pytest.raises(ChecksumMismatch) as caught:
        reopen().retrieve_chunk(ChunkId(wrong))
    assert caught.value.expected == wrong.hex()
    assert caught.value.actual == hashlib.sha256(b"delivered").hexdigest()


def test_a_frame_that_stands_on_itself_ends_in_an_error(reopen: Open, tmp_path: Path) -> None:
    path = forge(
        tmp_path / "chunks",
        lambda chunk: f"frame 0 24 STORED LENGTH {chunk.hex()}\nchunk {chunk.hex()} 0 0 LENGTH\n",
        b"snake",
    )
    chunk = ChunkId(hashlib.sha256(b"snake").digest())
    with pytest.raises(CorruptionError, match="stand on each other"):
        reopen().retrieve_chunk(chunk)
    assert not reopen().verify(data=True).ok
    assert path.exists()


def test_a_dictionary_of_unbounded_size_is_refused(reopen: Open, tmp_path: Path) -> None:
    store = reopen()
    base = store.store_chunk(bytes(16 << 20))
    store.flush()
    forge(
        tmp_path / "chunks",
        lambda chunk: f"frame 0 24 STORED LENGTH {' '.join([base.hex()] * 5)}\nchunk {chunk.hex()} 0 0 LENGTH\n",
        b"greedy",
    )
    with pytest.raises(CorruptionError, match="more than 64 MiB"):
        reopen().retrieve_chunk(ChunkId(hashlib.sha256(b"greedy").digest()))


@pytest.mark.parametrize("text", [b"no manifest", b"0" * 64 + b" 5\nrest"])
def test_a_manifest_that_is_none_is_damage(reopen: Open, tmp_path: Path, text: bytes) -> None:
    oid = "12" * 32
    forge(
        tmp_path / "chunks",
        lambda chunk: f"frame 0 24 STORED LENGTH\nchunk {chunk.hex()} 0 0 LENGTH\nmanifest {oid} {chunk.hex()}\n",
        text,
    )
    store = reopen()
    with pytest.raises(CorruptionError, match="not a list of chunks"):
        store.chunks(Pointer(oid, 5))
    assert not store.has(Pointer(oid, 5))
    assert [(defect.kind, defect.object) for defect in store.verify().defects] == [("manifest", oid)]


def test_a_manifest_of_another_file_is_found_out_at_the_end(reopen: Open, tmp_path: Path) -> None:
    store = reopen()
    parts = [(store.store_chunk(data), len(data)) for data in (b"one", b"two")]
    store.flush()
    oid = hashlib.sha256(b"twoone").hexdigest()
    forge(
        tmp_path / "chunks",
        lambda chunk: f"frame 0 24 STORED LENGTH\nchunk {chunk.hex()} 0 0 LENGTH\nmanifest {oid} {chunk.hex()}\n",
        "".join(f"{part.hex()} {length}\n" for part, length in parts).encode(),
    )
    with pytest.raises(ChecksumMismatch, match=oid):
        content(reopen(), Pointer(oid, 6))


def test_a_pointer_of_no_bytes_with_the_hash_of_some_is_damage(reopen: Open) -> None:
    with pytest.raises(CorruptionError, match="0 bytes"):
        reopen().chunks(Pointer("12" * 32, 0))


def test_a_pack_of_a_newer_format_stops_verify_with_a_clear_error(reopen: Open, tmp_path: Path) -> None:
    forge(tmp_path / "chunks", lambda chunk: "frame 0 24 STORED LENGTH\nstream 0\n", b"data")
    with pytest.raises(UnsupportedFormatVersion, match="'stream'"):
        reopen().verify()


def test_a_pack_that_disappears_while_it_is_read_is_not_found(reopen: Open, tmp_path: Path) -> None:
    store = reopen()
    pointer = save(store, NOISE[:1000])
    store.flush()
    assert store.has(pointer)
    os.utime(tmp_path / "chunks")
    place = store._index.find([ChunkId(bytes.fromhex(pointer.oid))])[ChunkId(bytes.fromhex(pointer.oid))]
    packs(tmp_path)[0].unlink()
    with pytest.raises(NotFoundError, match="the pack is gone"):
        store._reader.decode(place.pack, place.frame, [])


def test_a_wrong_index_is_noticed_and_made_again(reopen: Open) -> None:
    store = reopen()
    pointer = save(store, NOISE[:3_000_000])
    store.flush()
    store.close()
    store = reopen()
    assert store.has(pointer)
    store._index._database.execute("UPDATE frame SET start = start + 1")  # type: ignore[union-attr]
    assert content(store, pointer) == NOISE[:3_000_000]


@pytest.mark.parametrize("table", ["manifest", "chunk", "frame"])
@pytest.mark.parametrize("size", [50_000, 3_000_000], ids=["one chunk", "many"])
def test_an_index_that_has_lost_rows_is_made_again(table: str, size: int, reopen: Open) -> None:
    store = reopen()
    pointer = save(store, NOISE[:size])
    store.flush()
    store.close()
    store = reopen()
    assert store.has(pointer)
    store._index._database.execute(f"DELETE FROM {table}")  # type: ignore[union-attr]
    assert content(store, pointer) == NOISE[:size]
    missing = Pointer("0" * 64, size)
    with pytest.raises(NotFoundError, match="in no pack; run git-vault verify"):
        store.chunks(missing)
    assert not store._reader.mistrust(), "once is enough"


def test_content_in_the_trash_can_still_be_read_but_is_not_relied_on(reopen: Open, tmp_path: Path) -> None:
    """Sweep moves packs there; whoever was reading goes on, whoever saves stores anew."""
    store = reopen()
    pointer = save(store, NOISE[:50_000])
    store.flush()
    (pack,) = packs(tmp_path)
    trash = tmp_path / "chunks" / "trash"
    trash.mkdir()
    pack.rename(trash / pack.name)
    fresh = reopen()
    assert not fresh.has(pointer)
    assert fresh.retrieve_chunk(ChunkId(bytes.fromhex(pointer.oid))) == NOISE[:50_000]
    assert save(fresh, NOISE[:50_000]) == pointer
    assert fresh.flush() > 50_000


def test_a_pack_relied_on_that_vanishes_before_flush_is_an_error(reopen: Open, tmp_path: Path) -> None:
    """Another process swept it: the snapshot must not be acknowledged."""
    store = reopen()
    save(store, NOISE[:50_000])
    store.flush()
    store.store_chunk(NOISE[:50_000])
    packs(tmp_path)[0].unlink()
    with pytest.raises(CorruptionError, match="relied on and it is gone"):
        store.flush()


# -- disks that fail ---------------------------------------------------------------------------------


class FailingDisk(CountedDisk):
    """Fails at the n-th operation and, as a full disk does, at every later one that needs space."""

    def __init__(self, at: int) -> None:
        self.left = at

    def count(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise StorageFullError("test: no space left on the disk")

    def make_folder(self, path: Path, mode: int = 0o700) -> None:
        self.count()
        super().make_folder(path, mode)


def test_a_failure_at_any_operation_is_raised_and_loses_nothing_saved_before(
    reopen: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(appender, "PACK_SIZE", 1 << 20)
    before = reopen()
    kept = save(before, NOISE[:500_000])
    before.flush()
    data = NOISE[500_000:3_500_000]
    at = 0
    while True:
        disk = FailingDisk(at)
        store = reopen(disk)
        try:
            pointers = [save(store, data, kept), save(store, data[:100_000])]
            store.flush()
            break
        except StorageFullError:
            with pytest.raises(StorageFullError):
                store.flush()
            disk.left = 1 << 30
            store.discard()
            assert not list((tmp_path / "chunks" / "tmp").glob("*")), at
            # After `discard` the same object works again.
            assert content(store, save(store, data[:200_000])) == data[:200_000]
            store.close()
        fresh = reopen()
        assert content(fresh, kept) == NOISE[:500_000]
        assert fresh.verify(data=True).ok, at
        fresh.close()
        at += 1
    assert at > 8
    fresh = reopen()
    assert [content(fresh, pointer) for pointer in pointers] == [data, data[:100_000]]


def test_whoever_relied_on_a_chunk_that_could_not_be_written_learns_of_it(reopen: Open) -> None:
    """Two threads store the same content; the one that does the work fails."""
    disk = FailingDisk(1 << 30)
    store = reopen(disk)
    started = threading.Event()

    class Waits(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            data = super().read(size)
            if not data:
                started.set()
            return data

    save(store, NOISE[:10])
    disk.left = 0
    outcomes: list[BaseException | Pointer] = []

    def work() -> None:
        try:
            outcomes.append(store.store_file(Waits(NOISE)))
        except StorageFullError as error:
            outcomes.append(error)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    with pytest.raises(StorageFullError):
        store.flush()
    disk.left = 1 << 30
    store.discard()
    pointer = save(store, NOISE)
    store.flush()
    assert content(reopen(), pointer) == NOISE


def test_packs_that_others_may_rely_on_stay_where_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that another machine took over from drops what it did; the other may have found its packs meanwhile."""
    monkeypatch.setattr(appender, "PACK_SIZE", 1 << 20)
    taken_over = False

    def guard() -> None:
        if taken_over:
            raise LockedError("taken over")

    for taken_over in (False, True):
        chunks = tmp_path / str(taken_over)
        with ChunkStore(chunks, cache=tmp_path / "cache", strategy=AssetAware(), threads=2, guard=guard) as store:
            save(store, random.Random(5).randbytes(5 << 20))
            store.discard()
        assert bool(list(chunks.glob("*.zpk"))) is taken_over
        assert bool(list(chunks.glob("trash/*.zpk"))) is not taken_over


def test_an_interrupt_in_the_middle_of_a_file_lets_nobody_wait_forever(
    reopen: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = reopen()
    first = save(store, NOISE[:1_000_000])
    store.flush()
    second = NOISE[:500_000] + NOISE[2_000_000:3_000_000]

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    for name, remembered in (("bases", False), ("position", True)):
        with monkeypatch.context() as patch:
            patch.setattr(Alignment, name, interrupted)
            with pytest.raises(KeyboardInterrupt):
                save(store, second + second[::-1], first)
        if remembered:
            with pytest.raises(GitVaultError, match="interrupted"):
                save(store, second)
            store.discard()
        assert content(store, save(store, second)) == second
        store.discard()


def test_memory_that_lies_is_noticed_before_anything_counts(reopen: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    store = reopen()
    compress = frames.compress

    def flipped(data: bytes, level: int, dictionary: bytes = b"") -> bytes:
        frame = compress(data, level, dictionary)
        return frame[:-20] + bytes([frame[-20] ^ 1]) + frame[-19:]

    with monkeypatch.context() as patch:
        patch.setattr(frames, "compress", flipped)
        with pytest.raises(CorruptionError, match="memory"):
            save(store, NOISE[:100_000])
    with pytest.raises(CorruptionError):
        store.flush()


def test_leftovers_of_killed_runs_are_removed_when_they_are_old(reopen: Open, tmp_path: Path) -> None:
    folder = tmp_path / "chunks" / "tmp"
    folder.mkdir(parents=True)
    old, young = folder / "old.zpk", folder / "young.zpk"
    for path in (old, young):
        path.write_bytes(b"unfinished")
    os.utime(old, (0, 0))
    save(reopen(), NOISE[:1000])
    assert not old.exists() and young.exists()


def test_closing_without_flush_leaves_nothing(reopen: Open, tmp_path: Path) -> None:
    with reopen() as store:
        save(store, NOISE[:1_000_000])
    assert not list((tmp_path / "chunks" / "tmp").iterdir())
    assert not packs(tmp_path)


def test_the_table_says_what_pack_files_hold(reopen: Open, tmp_path: Path) -> None:
    """What rescue scripts rely on: rows of three kinds and an end."""
    store = reopen()
    save(store, NOISE[:2_000_000])
    store.flush()
    table = read_table(packs(tmp_path)[0])
    kinds = {line.split()[0] for line in format_table(table).decode().splitlines()}
    assert kinds == {"frame", "chunk", "manifest", "end"}
    assert all(isinstance(frame, Frame) and frame.length <= 1 << 20 for frame in table.frames)
    assert re.fullmatch(rb"\x28\xb5\x2f\xfd", Pack(packs(tmp_path)[0]).read(table.frames[0])[:4])


def test_a_frame_that_several_want_at_once_is_decoded_once(reopen: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """After upkeep neighbouring files lie in one frame, and are restored at the same time."""
    store = reopen()
    pointer = save(store, b"\0" + NOISE[:50_000])
    store.flush()
    decode, second, counted = frames.decompress, threading.Event(), itertools.count(1)

    def counting(frame: bytes, length: int, dictionary: bytes = b"") -> bytes:
        if next(counted) > 1:
            second.set()
        # The others come meanwhile, if they can.
        second.wait(0.5)
        return decode(frame, length, dictionary)

    monkeypatch.setattr(frames, "decompress", counting)
    with ThreadPoolExecutor(4) as threads:
        assert len(set(threads.map(lambda _: content(store, pointer), range(4)))) == 1
    assert not second.is_set()


def test_files_are_told_as_they_lie(tmp_path: Path) -> None:
    """Of one chunk and of several; what is nowhere, or cannot be, comes first and stops nothing."""
    with open_store(tmp_path) as store:
        files = []
        for number in range(6):
            data = random.Random(number).randbytes(9_000_000 if number % 2 else 700_000)
            files.append(save(store, data))
            if number % 3 == 2:
                store.flush()
        halves = [set(files[:3]), set(files[3:])]
        odd = [Pointer("0" * 64, 5), Pointer("no hash", 5)]
        told = store.as_they_lie([*reversed(files), *odd])
        assert set(told[:2]) == set(odd)
        # One pack behind the other, and in a pack as they were saved.
        assert sorted([set(told[2:5]), set(told[5:])], key=halves.index) == halves
        assert told.index(files[3]) < told.index(files[5])
