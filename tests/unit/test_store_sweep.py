"""Sweeping the chunk store: what is needed comes back byte for byte, what is not gives its space back."""

from __future__ import annotations

import contextlib
import hashlib
import random
import shutil
import tracemalloc
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from chunk_stores import content, open_store, packs, save
from disks import CountedDisk
from hypothesis import given, settings
from hypothesis import strategies as st

from gitvault.core.models import ChunkId, Pointer
from gitvault.core.storage import frames
from gitvault.core.storage.census import Census, PackBalance
from gitvault.core.storage.condemned import acquit, condemn, condemned
from gitvault.core.storage.index import ChunkIndex
from gitvault.core.storage.packs import Chunk, Frame, PackWriter, Table, by_frame, read_table
from gitvault.core.storage.reader import ChunkReader
from gitvault.core.storage.rounds import JOINED, Round, empty_trash, move
from gitvault.core.storage.sweep import StoreSweep, take_census
from gitvault.core.utils.files import Disk
from gitvault.errors import ContentMissing, CorruptionError, LockedError, StorageFullError

NOISE = random.Random(41).randbytes(4_000_000)


def stored(folder: Path) -> int:
    return sum(path.stat().st_size for path in packs(folder))


def listing(folder: Path) -> dict[str, bytes]:
    found = (path for path in (folder / "chunks").rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def decoded(folder: Path) -> bytes:
    """Everything that all packs, wherever they lie, hold."""
    index = ChunkIndex(folder / "chunks", None, Disk())
    reader = ChunkReader(folder / "chunks", index, Disk())
    try:
        parts = [
            reader.read([chunk.id for chunk in chunks])
            for path in (folder / "chunks").rglob("*.zpk")
            for _, chunks in by_frame(read_table(path))
        ]
        return b"".join(bytes(piece) for part in parts for piece in part)
    finally:
        reader.close()
        index.close()


def run_sweep(
    folder: Path,
    live: Iterable[Pointer],
    disk: Disk | None = None,
    *,
    strict: bool = False,
    unmoved: Callable[[], bool] = lambda: True,
) -> StoreSweep | None:
    with open_store(folder, disk) as store:
        census = store.census(bytes.fromhex(pointer.oid) for pointer in live)
        return store.sweep(census, strict=strict, unmoved=unmoved)


def assert_whole(folder: Path, contents: dict[Pointer, bytes]) -> None:
    """A store that knows nothing of what happened reads everything, and nothing is left lying about."""
    shutil.rmtree(folder / "cache", ignore_errors=True)
    with open_store(folder) as store:
        for pointer, data in contents.items():
            assert content(store, pointer) == data
        assert store.verify(data=True).ok


def assert_tidy(folder: Path) -> None:
    left = [path.name for path in (folder / "chunks").rglob("*") if path.is_file() and path not in packs(folder)]
    assert not left


def fill(folder: Path) -> list[tuple[Pointer, bytes]]:
    """Eight packs: versions of a file of many chunks, coded against each other, and files of their own."""
    saved: list[tuple[Pointer, bytes]] = []
    with open_store(folder) as store:
        data = bytearray(NOISE[:1_200_000])
        pointer = None
        for n in range(8):
            at = n * 140_000
            data[at : at + 60] = b"edit %02d" % n * 8 + b"." * (60 - 56)
            # Half of a gap is new, so that what is coded against the past is more than a few bytes.
            data[at + 60_000 : at + 90_000] = NOISE[2_000_000 + n * 30_000 : 2_030_000 + n * 30_000]
            pointer = save(store, bytes(data), pointer)
            saved.append((pointer, bytes(data)))
            own = NOISE[2_500_000 + n * 150_000 : 2_640_000 + n * 150_000]
            saved.append((save(store, own), own))
            store.flush()
    return saved


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[tuple[Pointer, bytes]]]:
    folder = tmp_path_factory.mktemp("filled")
    return folder, fill(folder)


@pytest.fixture
def saved(filled: tuple[Path, list[tuple[Pointer, bytes]]], tmp_path: Path) -> list[tuple[Pointer, bytes]]:
    """What is in a store below `tmp_path`."""
    shutil.copytree(filled[0], tmp_path, dirs_exist_ok=True)
    return filled[1]


def test_what_nothing_needs_gives_its_space_back(saved: list[tuple[Pointer, bytes]], tmp_path: Path) -> None:
    before = stored(tmp_path)
    live = dict(saved[8:])
    done = run_sweep(tmp_path, live)
    assert done is not None and not done.waiting
    assert done.bytes_before - done.bytes_after > 4 * 140_000
    assert done.packs_before == 8 and " less" in done.summary()
    assert before - stored(tmp_path) > 4 * 140_000
    assert_whole(tmp_path, live)
    assert_tidy(tmp_path)
    with open_store(tmp_path) as store:
        assert not store.has(saved[1][0])
        # What comes back is stored again, and read.
        assert save(store, saved[1][1]) == saved[1][0]
        store.flush()
    assert_whole(tmp_path, live | dict(saved[1:2]))


def test_where_all_is_needed_nothing_is_written(saved: list[tuple[Pointer, bytes]], tmp_path: Path) -> None:
    class ReadOnly(Disk):
        def create_uncached(self, path: Path) -> None:  # type: ignore[override]
            raise AssertionError(path)

        create = create_uncached  # type: ignore[assignment]

        def unlink(self, path: Path) -> None:
            assert path.parent.name == "cache"
            super().unlink(path)

    before = listing(tmp_path)
    assert run_sweep(tmp_path, dict(saved), ReadOnly()) is None
    assert listing(tmp_path) == before
    run_sweep(tmp_path, dict(saved[:6]))
    before = listing(tmp_path)
    assert run_sweep(tmp_path, dict(saved[:6]), ReadOnly()) is None, "the first sweep did not do all"
    assert listing(tmp_path) == before


def test_without_anything_needed_all_goes_and_nothing_is_written(
    saved: list[tuple[Pointer, bytes]], tmp_path: Path
) -> None:
    class NoPacks(Disk):
        def create_uncached(self, path: Path) -> None:  # type: ignore[override]
            raise AssertionError(path)

    assert run_sweep(tmp_path, [], NoPacks()) is not None
    assert not packs(tmp_path)
    assert_tidy(tmp_path)


@pytest.mark.parametrize("kept", [[0], [14], [15], [2, 9, 14], [4, 6, 8, 10], list(range(16))])
def test_after_a_strict_sweep_nothing_else_is_stored(
    saved: list[tuple[Pointer, bytes]], tmp_path: Path, kept: list[int]
) -> None:
    """As after something was to be forgotten: not in part of a frame, not as a base."""
    live = dict(saved[n] for n in kept)
    run_sweep(tmp_path, live, strict=True)
    assert_whole(tmp_path, live)
    assert_tidy(tmp_path)
    everything = decoded(tmp_path)
    for n, (_, data) in enumerate(saved):
        if n % 2 and n not in kept:
            assert data[1000:1040] not in everything
    with open_store(tmp_path) as store:
        needed = {chunk for pointer in live for chunk, _ in store.chunks(pointer)}
        parts = {part for path in packs(tmp_path) for _, parts in read_table(path).manifests for part in parts}
    assert {chunk.id for path in packs(tmp_path) for chunk in read_table(path).chunks} <= needed | parts
    assert run_sweep(tmp_path, live, strict=True) is None


class Killed(BaseException):
    """The process is gone."""


class DyingDisk(CountedDisk):
    """Dies, or has no more room, after some operations."""

    def __init__(self, left: int, error: BaseException) -> None:
        self.left = left
        self.error = error

    def count(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise self.error

    def unlink(self, path: Path) -> None:
        if isinstance(self.error, Killed):
            self.count()
        super().unlink(path)


def operations(folder: Path, live: Collection[Pointer], scratch: Path, *, strict: bool) -> int:
    shutil.copytree(folder, scratch)
    disk = DyingDisk(100_000, Killed())
    run_sweep(scratch, live, disk, strict=strict)
    return 100_000 - disk.left


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("error", [Killed(), StorageFullError("test: no space left on the disk")], ids=["kill", "full"])
def test_at_any_operation_it_may_end_and_the_next_sweep_ends_it(
    saved: list[tuple[Pointer, bytes]],
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    error: BaseException,
    strict: bool,
) -> None:
    live = dict(saved[n] for n in (4, 5, 9, 14))
    scratch = tmp_path_factory.mktemp("scratch")
    count = operations(tmp_path, live, scratch / "counted", strict=strict)
    expected = stored(scratch / "counted")
    assert count > 20
    for at in range(0, count, 5):
        folder = scratch / f"at{at}"
        shutil.copytree(tmp_path, folder)
        with contextlib.suppress(Killed, StorageFullError):
            run_sweep(folder, live, DyingDisk(at, error), strict=strict)
        with open_store(folder) as store:
            for pointer, data in live.items():
                assert content(store, pointer) == data, at
            # Who saves now relies on nothing that is about to go.
            again = save(store, saved[1][1])
            store.flush()
        # As the vault does.
        shutil.rmtree(folder / "chunks" / "tmp")
        run_sweep(folder, [*live, again], strict=strict)
        assert_whole(folder, live | dict(saved[1:2]))
        assert_tidy(folder)
        assert stored(folder) < expected + 150_000, at
        shutil.rmtree(folder)


def test_a_ref_that_moved_meanwhile_stops_it_and_all_is_as_before(
    saved: list[tuple[Pointer, bytes]], tmp_path: Path
) -> None:
    before = listing(tmp_path)
    with pytest.raises(LockedError, match="another program moved a ref"):
        run_sweep(tmp_path, dict(saved[8:]), unmoved=lambda: False)
    assert listing(tmp_path) == before
    assert_whole(tmp_path, dict(saved))


def test_what_cannot_be_read_stops_it_before_anything_moves(saved: list[tuple[Pointer, bytes]], tmp_path: Path) -> None:
    """A pack without a table, a file without its manifest, a chunk that is gone: its needs are not known."""
    victim = packs(tmp_path)[0]
    data = victim.read_bytes()
    victim.write_bytes(data[:-200])
    end = data.rfind(b"gitvault table ")
    offset = int(data[end + 15 : end + 35])
    victim.write_bytes(data[:offset])
    before = listing(tmp_path)
    with pytest.raises(CorruptionError, match=victim.name):
        run_sweep(tmp_path, [])
    assert listing(tmp_path) == before
    victim.unlink()
    before = listing(tmp_path)
    with pytest.raises(CorruptionError):
        run_sweep(tmp_path, dict(saved))
    assert listing(tmp_path) == before


def test_a_folder_that_cannot_be_listed_is_not_an_empty_one(
    saved: list[tuple[Pointer, bytes]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(self: Path) -> list[Path]:
        raise OSError(5, "Input/output error")

    before = listing(tmp_path)
    with open_store(tmp_path) as store:
        monkeypatch.setattr(Path, "iterdir", fails)
        with pytest.raises(OSError, match="Input/output"):
            store.census([])
        monkeypatch.undo()
    assert listing(tmp_path) == before


def test_who_stores_does_not_rely_on_condemned_packs_and_who_reads_may(
    saved: list[tuple[Pointer, bytes]], tmp_path: Path
) -> None:
    chunks = tmp_path / "chunks"
    pointer, data = saved[1]
    condemn(chunks, [path.name for path in packs(tmp_path)], Disk())
    assert condemned(chunks) == {path.name for path in packs(tmp_path)}
    with open_store(tmp_path) as store:
        assert store.retrieve_chunk(ChunkId(bytes.fromhex(pointer.oid))) == data
        assert not store.has(pointer)
        before = set(packs(tmp_path))
        assert save(store, data) == pointer
        store.flush()
        (fresh,) = set(packs(tmp_path)) - before
        assert store.has(pointer)
    acquit(chunks, Disk())
    assert not condemned(chunks)
    (chunks / "condemned").write_bytes(b"../../etc/passwd\n\xff\n" + fresh.name.encode() + b"\n")
    assert condemned(chunks) == {fresh.name}
    empty_trash(chunks, ChunkIndex(chunks, None, Disk()), Disk())
    assert not (chunks / "condemned").exists(), "the run that wrote it is over"


@pytest.mark.parametrize("more", [b"more", b""], ids=["some chunks", "a whole file"])
def test_a_pack_that_is_condemned_while_it_is_relied_on_stops_the_run(
    saved: list[tuple[Pointer, bytes]], tmp_path: Path, more: bytes
) -> None:
    """Its lock was taken for stale: nothing may be acknowledged."""
    with open_store(tmp_path) as store:
        save(store, saved[0][1] + more)
        condemn(tmp_path / "chunks", [path.name for path in packs(tmp_path)], Disk())
        with pytest.raises(CorruptionError, match="were relied on and it is gone; run again"):
            store.flush()
        store.discard()
    acquit(tmp_path / "chunks", Disk())


@pytest.mark.parametrize("goes", ["condemned", "gone"])
def test_a_pack_that_only_names_a_manifest_is_relied_on_too(tmp_path: Path, goes: str) -> None:
    """As upkeep leaves them: the row in one pack, all that it names in another."""
    data = NOISE[:1_000_000]
    with open_store(tmp_path / "elsewhere") as other:
        pointer = save(other, data)
        made = other.content(pointer)
        chunks = [other.retrieve_chunk(chunk) for chunk in (*made.chunks, *made.parts)]
    with open_store(tmp_path) as store:
        for chunk in chunks:
            store.store_chunk(chunk)
        store.flush()
        before = set(packs(tmp_path))
        store._appender.add_manifest(pointer.oid, made.parts)
        store.flush()
        (naming,) = set(packs(tmp_path)) - before
        assert store.has(pointer)
    with open_store(tmp_path) as store:
        assert save(store, data) == pointer
        if goes == "gone":
            naming.unlink()
        else:
            condemn(tmp_path / "chunks", [naming.name], Disk())
        with pytest.raises(CorruptionError, match="were relied on and it is gone; run again"):
            store.flush()
        store.discard()
    with open_store(tmp_path) as store:
        assert save(store, data) == pointer
        store.flush()
        assert content(store, pointer) == data
    if goes == "gone":
        return
    with open_store(tmp_path) as store:
        empty_trash(tmp_path / "chunks", store._index, Disk())
    assert_whole(tmp_path, {pointer: data})


def test_packs_are_condemned_before_the_first_moves_and_until_the_last_is_gone(
    saved: list[tuple[Pointer, bytes]], tmp_path: Path
) -> None:
    seen = []

    class Watching(Disk):
        def rename(self, source: Path, target: Path) -> None:
            if target.parent.name == "trash":
                assert source.name in condemned(source.parent)
                seen.append(source.name)
            super().rename(source, target)

        def unlink(self, path: Path) -> None:
            if path.parent.name == "trash":
                assert path.name in condemned(path.parent.parent)
            super().unlink(path)

    before = {path.name for path in packs(tmp_path)}
    run_sweep(tmp_path, dict(saved[6:8]), Watching())
    assert set(seen) == before - {path.name for path in packs(tmp_path)}


def test_condemned_packs_are_all_gone_or_all_back(saved: list[tuple[Pointer, bytes]], tmp_path: Path) -> None:
    """One that is coded against another must not be relied on when that is gone."""
    chunks = tmp_path / "chunks"
    names = [path.name for path in packs(tmp_path)]
    condemn(chunks, names[:4], Disk())
    # Killed while they moved: one is in both folders.
    move(names[:2], chunks, chunks / "trash", Disk())
    shutil.copy(chunks / names[2], chunks / "trash" / names[2])
    with open_store(tmp_path) as store:
        empty_trash(chunks, store._index, Disk())
    assert [path.name for path in packs(tmp_path)] == names
    assert_whole(tmp_path, dict(saved))
    assert_tidy(tmp_path)

    # Killed while they were deleted: what is left counts for nothing.
    condemn(chunks, names[:4], Disk())
    move(names[:3], chunks, chunks / "trash", Disk())
    (chunks / "trash" / names[0]).unlink()
    with open_store(tmp_path) as store:
        assert not [defect for defect in store.verify(data=False).defects if defect.object in names[:4]]
        empty_trash(chunks, store._index, Disk())
    assert [path.name for path in packs(tmp_path)] == names[4:]
    assert_tidy(tmp_path)


@pytest.mark.parametrize("how", ["saved", "copied"])
def test_what_is_stored_again_byte_for_byte_does_not_go_with_a_killed_run(tmp_path: Path, how: str) -> None:
    """Its pack would have had the name of one that was on its way out."""
    contents: dict[Pointer, bytes] = {}
    for data in (NOISE[:100_000], NOISE[1_000_000:1_300_000]):
        with open_store(tmp_path) as store:
            contents[save(store, data)] = data
            store.flush()
    chunks = tmp_path / "chunks"
    names = [path.name for path in packs(tmp_path)]
    shutil.copytree(chunks, tmp_path / "elsewhere" / "chunks")
    condemn(chunks, names, Disk())
    move(names, chunks, chunks / "trash", Disk())
    # Killed between the first and the second that it deleted, which is what comes again.
    pointer = next(one for one in contents if one.oid in _oids(chunks / "trash" / names[1]))
    (chunks / "trash" / names[0]).unlink()
    with open_store(tmp_path) as store:
        if how == "saved":
            save(store, contents[pointer])
            store.flush()
        else:
            with open_store(tmp_path / "elsewhere") as other:
                transfer = other.transfer_to(store.target(), lambda *said: None)
                other.copy_file(pointer, transfer)
                transfer.flush()
        assert store.has(pointer)
    with open_store(tmp_path) as store:
        empty_trash(chunks, store._index, Disk())
        run_sweep(tmp_path, [pointer])
    assert_whole(tmp_path, {pointer: contents[pointer]})
    shutil.rmtree(tmp_path / "elsewhere")
    assert_tidy(tmp_path)


def _oids(pack: Path) -> set[str]:
    table = read_table(pack)
    return {chunk.id.hex() for chunk in table.chunks} | {oid for oid, _ in table.manifests}


def test_what_a_killed_run_left_in_the_trash_is_judged_again(
    saved: list[tuple[Pointer, bytes]], tmp_path: Path
) -> None:
    chunks = tmp_path / "chunks"
    names = [path.name for path in packs(tmp_path)]
    move(names[:5], chunks, chunks / "trash", Disk())
    (chunks / "trash" / ("0" * 64 + ".zpk")).write_bytes(b"no pack")
    live = dict(saved[:4])
    run_sweep(tmp_path, live)
    (chunks / "trash" / ("0" * 64 + ".zpk")).unlink()
    assert_whole(tmp_path, live)
    assert_tidy(tmp_path)
    run_sweep(tmp_path, [])
    assert not packs(tmp_path)


def test_when_nobody_can_say_what_is_needed_all_stays_but_what_was_forgotten(
    saved: list[tuple[Pointer, bytes]], tmp_path: Path
) -> None:
    before = listing(tmp_path)
    lost = bytes.fromhex(saved[0][0].oid)
    with open_store(tmp_path) as store:
        census = store.census([], lost=[lost])
        assert census.is_lost(ChunkId(lost)) and not census.is_lost(ChunkId(bytes(32)))
        store.need_all(census, [])
        assert store.sweep(census, strict=True, unmoved=lambda: True) is None
    assert listing(tmp_path) == before


def test_a_pack_with_damage_in_what_is_needed_stays(saved: list[tuple[Pointer, bytes]], tmp_path: Path) -> None:
    """For who can repair it; the rest of the sweep goes on."""
    live = dict(saved[n] for n in (1, 15))
    name = next(p for p in packs(tmp_path) if any(c.id.hex() == saved[1][0].oid for c in read_table(p).chunks))
    table = read_table(name)
    place = next(chunk for chunk in table.chunks if chunk.id.hex() == saved[1][0].oid)
    data = bytearray(name.read_bytes())
    data[table.frames[place.frame].offset + 1000] ^= 1
    name.write_bytes(data)
    assert run_sweep(tmp_path, live) is not None
    assert packs(tmp_path).count(name) == 1 and len(packs(tmp_path)) == 2
    with open_store(tmp_path) as store:
        assert content(store, saved[15][0]) == saved[15][1]


def test_a_copy_that_is_not_needed_goes_only_when_the_other_is_sound(tmp_path: Path) -> None:
    chunks = tmp_path / "chunks"
    (chunks / "tmp").mkdir(parents=True)
    wanted, other = NOISE[:50_000], NOISE[50_000:90_000]
    ids = [(ChunkId(hashlib.sha256(data).digest()), len(data)) for data in (wanted, other)]
    made = []
    for parts, listed in ((wanted + other, ids), (wanted, ids[:1])):
        with ThreadPoolExecutor(1) as background:
            writer = PackWriter(chunks / "tmp", "new.zpk", Disk(), background)
            writer.add(frames.compress(parts, 1), listed, ())
            writer.seal()
            made.append(chunks / writer.publish(chunks))
    long, short = made
    data = bytearray(short.read_bytes())
    data[30_000] ^= 1
    short.write_bytes(data)
    live = {Pointer(ids[0][0].hex(), 50_000): wanted}
    with pytest.raises(CorruptionError):
        run_sweep(tmp_path, live)
    assert long.exists() and not condemned(chunks)
    with open_store(tmp_path) as store:
        assert content(store, next(iter(live))) == wanted
    data[30_000] ^= 1
    short.write_bytes(data)
    run_sweep(tmp_path, live)
    assert not long.exists()
    shutil.rmtree(chunks / "tmp")
    assert_whole(tmp_path, live)


def test_a_full_disk_still_lets_go_what_is_all_dead(saved: list[tuple[Pointer, bytes]], tmp_path: Path) -> None:
    class Full(Disk):
        def create_uncached(self, path: Path) -> None:  # type: ignore[override]
            raise StorageFullError("test: no space left on the disk")

    live = dict(saved[n] for n in (1, 3))
    before = stored(tmp_path)
    done = run_sweep(tmp_path, live, Full())
    assert done is not None and done.waiting and "wait for free space" in done.summary()
    assert stored(tmp_path) < before
    assert_whole(tmp_path, live)
    with pytest.raises(StorageFullError):
        run_sweep(tmp_path, live, Full())
    assert run_sweep(tmp_path, live) is not None
    assert_whole(tmp_path, live)
    assert stored(tmp_path) < 320_000


def test_a_round_writes_only_what_is_needed(saved: list[tuple[Pointer, bytes]], tmp_path: Path) -> None:
    chunks = tmp_path / "chunks"
    index = ChunkIndex(chunks, None, Disk())
    census = take_census(chunks, index, Disk())
    reader = ChunkReader(chunks, index, Disk())
    census.need(bytes.fromhex(saved[1][0].oid), lambda parts: b"".join(reader.read(parts)))
    census.settle()
    (mixed,) = (pack for pack in census.balance() if pack.live)
    assert isinstance(mixed, PackBalance) and not mixed.is_dead and mixed.dead
    done = Round(chunks, index, Disk(), mixed.level, {mixed.name}, census)
    done.rewrite(mixed.name)
    done.publish()
    done.replace()
    assert not done.damaged and JOINED
    (name,) = done.made
    assert [chunk.id.hex() for chunk in read_table(chunks / name).chunks] == [saved[1][0].oid]
    plain = Round(chunks, index, Disk(), 9, ())
    plain.write_plain(name, {0}, lambda chunk: True)
    plain.publish()
    assert plain.made
    plain.abandon()
    reader.close()
    index.close()


# -- the census on its own -----------------------------------------------------------------------


def chunk_id(number: int) -> ChunkId:
    return ChunkId(hashlib.sha256(b"%d" % number).digest())


def table_of(rows: list[tuple[list[int], list[int]]]) -> Table:
    """Frames, each with chunks and bases; each chunk is 100 bytes, each frame stored in 100."""
    table = Table()
    for number, (inside, bases) in enumerate(rows):
        length = 100 * len(inside)
        table.frames.append(Frame(number, 24 + 100 * number, 100, length, tuple(map(chunk_id, bases))))
        for at, chunk in enumerate(inside):
            table.chunks.append(Chunk(chunk_id(chunk), number, 100 * at, 100))
    return table


def settled(tables: dict[str, list[tuple[list[int], list[int]]]], needed: Iterable[int]) -> Census:
    census = Census()
    for name, rows in tables.items():
        census.add(name, table_of(rows))
    for number in needed:
        census.need(chunk_id(number), lambda parts: b"")
    census.settle()
    return census


def test_needed_is_the_closure_over_bases() -> None:
    census = settled({"a": [([1], []), ([2], [1]), ([9], [])], "b": [([3], [2]), ([4], [9])]}, [3])
    assert census.frames("a") == {0, 1} and census.frames("b") == {0}
    assert census.needs(chunk_id(1)) and not census.needs(chunk_id(9)) and not census.needs(chunk_id(77))
    assert not census.needs_manifest("00" * 32)
    balance = {pack.name: pack for pack in census.balance()}
    assert (balance["a"].live, balance["a"].dead, balance["a"].propped) == (200, 100, 200)
    assert not balance["b"].propped and not balance["b"].holes


def test_a_pack_waits_for_what_is_coded_against_it() -> None:
    """Needed or not: who stores the same again would rely on it."""
    census = settled({"a": [([1], [])], "b": [([2], [1]), ([3], [])]}, [3])
    assert census.together(["a"]) == set()
    assert census.together(["a", "b"]) == {"a", "b"}
    census.gone(["b"])
    assert census.together(["a"]) == {"a"}


def test_of_several_copies_one_that_stands_alone_is_enough() -> None:
    """Deltas that differ all stay where there is none: one may be coded against another."""
    census = settled({"a": [([1], []), ([2], [1])], "b": [([2], [])]}, [2])
    assert not census.frames("a") and census.frames("b") == {0}
    census = settled({"a": [([1], []), ([2], [1])], "b": [([3], []), ([2], [3])], "c": [([2], [3])]}, [2])
    assert census.frames("a") == {0, 1} and census.frames("b") == {0}
    assert len(census.frames("b")) + len(census.frames("c")) == 2


def test_a_frame_is_taken_apart_when_its_base_leaves() -> None:
    census = settled({"a": [([1, 2, 3], [])], "b": [([4], [1]), ([5], [4])]}, [2, 5])
    apart = census.dissolve({"a"}, {"a"}, deltas=False)
    assert apart == {"a": {0}, "b": {0}}, "what 4 is coded against leaves, and 4 is needed for 5"
    assert not census.needs(chunk_id(1)) and census.needs(chunk_id(4))
    census.add("c", table_of([([2], []), ([4], [])]))
    census.retire(apart)
    census.settle()
    assert not census.frames("a") and census.frames("b") == {1} and census.frames("c") == {0, 1}


def test_what_is_in_no_pack_is_said() -> None:
    census = Census()
    census.add("a", table_of([([1], [2])]))
    with pytest.raises(ContentMissing, match="not whole in the chunk store"):
        census.need(chunk_id(2), lambda parts: b"")
    census.need(chunk_id(1), lambda parts: b"")
    with pytest.raises(ContentMissing, match=f"chunk {chunk_id(2).hex()}: in no pack"):
        census.settle()


@pytest.mark.parametrize("count", [16_000, pytest.param(1_000_000, marks=pytest.mark.deep)])
def test_a_million_chunks_fit_into_memory(count: int) -> None:
    """Each in a frame of its own and coded against another: less than 400 MiB for 10^6."""

    def table(start: int) -> Table:
        made = Table()
        for number in range(8000):
            bases = (chunk_id(start + number - 1),) if number % 16 else ()
            made.frames.append(Frame(number, 0, 1000 + number, 100_000 + number, bases))
            made.chunks.append(Chunk(chunk_id(start + number), number, 0, 100_000))
        return made

    census = Census()
    tracemalloc.start()
    try:
        for start in range(0, count, 8000):
            census.add(f"{start}", table(start))
        for number in range(0, count, 2):
            census.need(chunk_id(number), lambda parts: b"")
        census.settle()
        assert sum(1 for _ in census.balance()) == len(range(0, count, 8000))
        census.dissolve({"0"}, {"0"}, deltas=True)
        assert tracemalloc.get_traced_memory()[1] < 400 * count
    finally:
        tracemalloc.stop()


@settings(max_examples=15)
@given(seed=st.integers(0, 10**9), count=st.integers(1, 10))
def test_whatever_is_needed_is_kept(tmp_path_factory: pytest.TempPathFactory, seed: int, count: int) -> None:
    """Versions of files in any order, coded against any earlier one; then any of them are needed, twice."""
    folder = tmp_path_factory.mktemp("any")
    rng = random.Random(seed)
    contents: dict[Pointer, bytes] = {}
    with open_store(folder) as store:
        for _ in range(count):
            base = rng.choice(list(contents)) if contents and rng.random() < 0.8 else None
            fresh = NOISE[rng.randrange(3_000_000) :][: rng.randrange(1, 700_000)]
            text = bytearray(contents[base] if base else fresh)
            at = rng.randrange(len(text))
            text[at : at + rng.randrange(40_000)] = NOISE[rng.randrange(3_000_000) :][: rng.randrange(1, 60_000)]
            contents[save(store, bytes(text), base)] = bytes(text)
            if rng.random() < 0.6:
                store.flush()
        store.flush()
    for _ in range(2):
        contents = {pointer: text for pointer, text in contents.items() if rng.random() < 0.6}
        run_sweep(folder, contents, strict=rng.random() < 0.4)
        assert_whole(folder, contents)
        assert_tidy(folder)
    shutil.rmtree(folder)


def test_where_it_is_not_known_what_a_lost_file_needs_all_stays_but_what_was_forgotten(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        kept, torn, other, forgotten = (save(store, NOISE[at : at + 400_000]) for at in range(0, 1_600_000, 400_000))
        store.flush()
        everything = {chunk.id for path in packs(tmp_path) for chunk in read_table(path).chunks}
        theirs = {chunk for chunk, _ in store.chunks(forgotten)}
        missing = ChunkId(hashlib.sha256(b"its chunks are not there").digest())
        wanted = [bytes.fromhex(kept.oid), missing]
        with pytest.raises(ContentMissing):
            store.census(wanted)
        census = store.census(wanted, lost=[missing])
        assert census.torn == [missing] and census.is_lost(missing) and not census.is_lost(ChunkId(b"x" * 32))
        store.need_all(census, [bytes.fromhex(forgotten.oid)])
        assert store.sweep(census, strict=True, unmoved=lambda: True)
        left = {chunk.id for path in packs(tmp_path) for chunk in read_table(path).chunks}
        assert theirs and not left & theirs
        assert everything - left >= theirs
        for file in (kept, torn, other):
            assert hashlib.sha256(content(store, file)).hexdigest() == file.oid
        again = take_census(tmp_path / "chunks", ChunkIndex(tmp_path / "chunks", None, Disk()), Disk())
        again.need_all([], lambda parts: b"")
        again.settle()
        assert not any(pack.dead for pack in again.balance())
