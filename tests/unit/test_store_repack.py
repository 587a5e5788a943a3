"""Upkeep of the chunk store: every byte comes back, in fewer and smaller packs, whatever happens in the middle."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import random
import shutil
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from chunk_stores import content, open_store, packs, save
from disks import CountedDisk

from gitvault.core.models import ChunkId, Pointer
from gitvault.core.storage import frames, manifests, repack, rounds
from gitvault.core.storage.index import ChunkIndex, Place
from gitvault.core.storage.packs import PACK_NAME, PackWriter, Table, read_table
from gitvault.core.storage.repack import StoreRepack, due
from gitvault.core.storage.rounds import IDLE_LEVEL
from gitvault.core.utils.files import Disk
from gitvault.errors import CorruptionError, NotFoundError, StorageFullError, ToolStopped

ROOT = Path(__file__).parent.parent.parent
FULL = repack.FULL_LEVEL
NOISE = random.Random(17).randbytes(2_000_000)
_WORDS = [random.Random(n).randbytes(3 + n % 7).hex().encode() for n in range(3000)]


def words(size: int, seed: int) -> bytes:
    """What the highest level compresses better than the lowest."""
    rng = random.Random(seed)
    return b" ".join(rng.choices(_WORDS, k=size // 9))[:size]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The highest level takes five times as long as one between it and the lower, and says nothing more."""
    monkeypatch.setattr(repack, "FULL_LEVEL", 12)


def trash(folder: Path) -> list[Path]:
    return sorted((folder / "chunks" / "trash").glob("*"))


def tables(folder: Path) -> list[Table]:
    return [read_table(path, strict=True) for path in packs(folder)]


def sizes(folder: Path) -> int:
    return sum(path.stat().st_size for path in packs(folder))


def listing(folder: Path) -> dict[str, bytes]:
    """All files but the caches."""
    found = (path for path in (folder / "chunks").rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def assert_whole(folder: Path, contents: dict[Pointer, bytes], *, cached: bool = True) -> None:
    """A store that knows nothing of what happened reads everything."""
    if not cached:
        shutil.rmtree(folder / "cache", ignore_errors=True)
    with open_store(folder) as store:
        for pointer, data in contents.items():
            assert content(store, pointer) == data
        assert store.verify(data=True).ok


def assert_tidy(folder: Path) -> None:
    """No chunk and no manifest twice, nothing in the trash."""
    chunks = Counter(chunk.id for table in tables(folder) for chunk in table.chunks)
    assert not [chunk.hex() for chunk, count in chunks.items() if count > 1]
    rows = Counter(row for table in tables(folder) for row in table.manifests)
    assert not [row for row, count in rows.items() if count > 1]
    assert not trash(folder)


def fill(folder: Path) -> dict[Pointer, bytes]:
    """Five packs: plain frames, chains of deltas, manifests alone and in groups, files of one chunk."""
    contents: dict[Pointer, bytes] = {}
    with open_store(folder) as store:
        data = bytearray(words(300_000, 1))
        pointer = None
        for n in range(5):
            data[40_000 * n + 10_000 : 40_000 * n + 10_040] = NOISE[n * 40 : n * 40 + 40]
            pointer = save(store, bytes(data), pointer)
            contents[pointer] = bytes(data)
            for other in (NOISE[n * 200_000 : n * 200_000 + 190_000], words(5_000, n + 10), words(150_000, n + 20)):
                contents[save(store, other)] = other
            store.flush()
    return contents


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[Pointer, bytes]]:
    folder = tmp_path_factory.mktemp("filled")
    return folder, fill(folder)


@pytest.fixture
def saved(filled: tuple[Path, dict[Pointer, bytes]], tmp_path: Path) -> dict[Pointer, bytes]:
    """What is in a store below `tmp_path`."""
    shutil.copytree(filled[0], tmp_path, dirs_exist_ok=True)
    return filled[1]


def write_pack(
    folder: Path,
    parts: list[tuple[bytes, bytes, list[ChunkId]]],
    rows: list[tuple[str, tuple[ChunkId, ...]]] | None = None,
    level: int = 0,
    disk: Disk | None = None,
) -> Path:
    """A pack of frames (data, dictionary, bases), one chunk each."""
    chunks = folder / "chunks"
    (chunks / "tmp").mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(1) as background:
        writer = PackWriter(chunks / "tmp", "new.zpk", disk or Disk(), background, level=level)
        for data, dictionary, bases in parts:
            writer.add(frames.compress(data, 1, dictionary), [(chunk_id(data), len(data))], bases)
        for oid, ids in rows or []:
            writer.add_manifest(oid, ids)
        writer.seal()
        return chunks / writer.publish(chunks)


def chunk_id(data: bytes) -> ChunkId:
    return ChunkId(hashlib.sha256(data).digest())


def run(folder: Path, *, asked: bool = True, disk: Disk | None = None) -> StoreRepack | None:
    with open_store(folder, disk) as store:
        return store.repack(asked=asked)


# -- what it does ------------------------------------------------------------------------------------


def test_everything_comes_back_from_fewer_and_smaller_packs(
    saved: dict[Pointer, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repack, "FULL_LEVEL", FULL)
    before = sizes(tmp_path)
    old = tables(tmp_path)
    assert sum(bool(frame.bases) for table in old for frame in table.frames) >= 4
    said: list[tuple[str, int, int]] = []
    with open_store(tmp_path) as store:
        report = store.repack(asked=True, progress=lambda *words: said.append(words))
        for pointer, data in saved.items():
            assert content(store, pointer) == data
    assert report
    assert (report.packs_before, report.packs_after, report.damaged) == (5, 1, ())
    assert report.bytes_before == sum(frame.stored for table in old for frame in table.frames)
    (new,) = tables(tmp_path)
    assert report.bytes_after == sum(frame.stored for frame in new.frames)
    assert sizes(tmp_path) < before - 15_000
    assert new.level == repack.FULL_LEVEL
    assert {row for table in old for row in table.manifests} == set(new.manifests)
    assert {chunk.id for table in old for chunk in table.chunks} == {chunk.id for chunk in new.chunks}
    assert {frame.bases for table in old for frame in table.frames} == {frame.bases for frame in new.frames}
    assert said[0][1] == 0 and said[-1] == ("compressing packs", report.bytes_before, report.bytes_before)
    assert "5 packs of" in report.summary() and "damaged" not in report.summary()
    assert_tidy(tmp_path)
    assert_whole(tmp_path, saved)
    assert_whole(tmp_path, saved, cached=False)


def test_chains_of_deltas_over_many_packs_come_back(tmp_path: Path) -> None:
    contents: dict[Pointer, bytes] = {}
    data, pointer = bytearray(words(200_000, 3)), None
    with open_store(tmp_path) as store:
        for n in range(12):
            data[100_000 + n * 3] ^= 1
            pointer = save(store, bytes(data), pointer)
            contents[pointer] = bytes(data)
            store.flush()
        last = [chunk for chunk, _ in store.chunks(pointer or Pointer("", 0))]
        depth = max(store._reader.depth(place) for place in store._index.find(last).values())
        assert depth >= 8
    assert run(tmp_path)
    assert_tidy(tmp_path)
    assert_whole(tmp_path, contents, cached=False)
    with open_store(tmp_path) as store:
        assert max(store._reader.depth(place) for place in store._index.find(last).values()) == depth


def test_every_manifest_of_a_file_stays(tmp_path: Path) -> None:
    one, two = NOISE[:70_000], NOISE[70_000:150_000]
    oid = hashlib.sha256(one + two).hexdigest()
    text = manifests.encode([(chunk_id(one), len(one)), (chunk_id(two), len(two))])
    whole, halves = (chunk_id(text),), (chunk_id(text[:50]), chunk_id(text[50:]))
    write_pack(tmp_path, [(one, b"", []), (two, b"", []), (text, b"", [])], [(oid, whole)])
    write_pack(tmp_path, [(text[:50], b"", []), (text[50:], b"", [])], [(oid, halves)])
    # A third pack that says the same as the first.
    write_pack(tmp_path, [(b"more", b"", [])], [(oid, whole)])
    assert run(tmp_path)
    (table,) = tables(tmp_path)
    assert sorted(table.manifests) == sorted([(oid, whole), (oid, halves)])
    assert_whole(tmp_path, {Pointer(oid, 150_000): one + two}, cached=False)


def test_small_manifests_stay_many_to_a_frame(saved: dict[Pointer, bytes], tmp_path: Path) -> None:
    several = [len(table.chunks) - len(table.frames) for table in tables(tmp_path)]
    assert run(tmp_path)
    (table,) = tables(tmp_path)
    assert len(table.chunks) - len(table.frames) >= sum(several) > 0


def test_neighbours_that_compress_become_one_frame_and_others_do_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Twice that, because somebody asked.
    monkeypatch.setattr(rounds, "JOINED", 50_000)
    texts = [words(30_000, n) for n in range(5)]
    noise = NOISE[:20_000]
    edited = texts[4][:15_000] + b"edited" + texts[4][15_000:]
    base = [chunk_id(texts[4])]
    parts = [*((text, b"", []) for text in texts), (noise, b"", []), (edited, texts[4], base), (b"x" * 9000, b"", [])]
    write_pack(tmp_path, parts)
    assert run(tmp_path)
    (table,) = tables(tmp_path)
    # Three texts fill a frame, two the next; noise and the delta end it.
    assert [frame.length for frame in table.frames] == [90_000, 60_000, 20_000, len(edited), 9000]
    assert [bool(frame.bases) for frame in table.frames] == [False, False, False, True, False]
    with open_store(tmp_path) as store:
        for data in (*texts, noise, edited, b"x" * 9000):
            assert store.retrieve_chunk(chunk_id(data)) == data


def test_chunks_keep_their_place_in_a_frame(tmp_path: Path) -> None:
    """The format lets a frame hold bytes of no chunk, and chunks that overlap."""
    folder = tmp_path / "chunks"
    (folder / "tmp").mkdir(parents=True)
    data = words(9_000, 4)
    with ThreadPoolExecutor(1) as background:
        writer = PackWriter(folder / "tmp", "new.zpk", Disk(), background)
        writer.add(frames.compress(data, 1), [(chunk_id(data), len(data))], ())
        frame = writer.table.frames.pop()
        part = dataclasses.replace(writer.table.chunks.pop(), id=chunk_id(data[100:5000]), inner=100, length=4900)
        other = dataclasses.replace(part, id=chunk_id(data[4000:4500]), inner=4000, length=500)
        writer.size -= frame.stored
        writer.table.frames.append(frame)
        writer.table.chunks.extend([part, other])
        writer.size += frame.stored
        writer.seal()
        writer.publish(folder)
    assert run(tmp_path)
    assert tables(tmp_path)[0].level == repack.FULL_LEVEL
    with open_store(tmp_path) as store:
        assert store.retrieve_chunk(part.id) == data[100:5000]
        assert store.retrieve_chunk(other.id) == data[4000:4500]
        assert store.verify(data=True).ok


def test_packs_are_closed_when_they_are_full(
    saved: dict[Pointer, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However large those were that it came from: a pack is held in memory while it is rewritten."""
    assert run(tmp_path, asked=True)
    assert len(packs(tmp_path)) == 1
    monkeypatch.setattr(rounds, "PACK_SIZE", 100_000)
    monkeypatch.setattr(repack, "FULL_LEVEL", repack.FULL_LEVEL + 1)
    assert run(tmp_path)
    assert len(packs(tmp_path)) >= 5
    assert all(path.stat().st_size < 500_000 for path in packs(tmp_path))
    assert_tidy(tmp_path)
    assert_whole(tmp_path, saved)


def test_in_rounds_when_there_is_much(
    saved: dict[Pointer, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What lies on the disk twice is bounded."""
    monkeypatch.setattr(repack, "_ROUND", 600_000)
    monkeypatch.setattr(repack, "_SMALL", 100_000)
    most = 0
    before = sizes(tmp_path)

    class Watching(Disk):
        def sync_folder(self, path: Path) -> None:
            nonlocal most
            most = max(most, sizes(tmp_path) + sum(path.stat().st_size for path in trash(tmp_path)))
            super().sync_folder(path)

    report = run(tmp_path, disk=Watching())
    assert report and 1 < report.packs_after < 5
    assert most < before + 700_000
    assert report.bytes_after == sum(frame.stored for table in tables(tmp_path) for frame in table.frames)
    assert_tidy(tmp_path)
    assert_whole(tmp_path, saved)


def test_what_does_not_fill_a_pack_goes_on_in_the_next_round(
    saved: dict[Pointer, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else each round would leave a small pack, and a second run would have something to do."""
    monkeypatch.setattr(repack, "_ROUND", 1)
    said: list[tuple[str, int, int]] = []
    with open_store(tmp_path) as store:
        report = store.repack(asked=True, progress=lambda *words: said.append(words))
        assert store.repack(asked=True) is None
    (table,) = tables(tmp_path)
    assert report and (report.packs_before, report.packs_after) == (5, 1)
    assert report.bytes_after == sum(frame.stored for frame in table.frames)
    assert [done for _, done, _ in said] == sorted(done for _, done, _ in said)
    assert said[-1][1] == said[-1][2] == report.bytes_before
    assert_tidy(tmp_path)
    assert_whole(tmp_path, saved)


def test_a_second_run_finds_nothing_to_do_and_writes_nothing(saved: dict[Pointer, bytes], tmp_path: Path) -> None:
    assert run(tmp_path)
    before = listing(tmp_path)
    assert run(tmp_path, disk=DyingDisk(0)) is None
    assert run(tmp_path, asked=False, disk=DyingDisk(0)) is None
    assert listing(tmp_path) == before


def test_an_empty_store_has_nothing_to_do(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        assert not store.repack_due()
        assert store.repack(asked=True) is None
    assert not (tmp_path / "chunks").exists()


def test_when_it_is_due(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked: anything to gain. In the background: enough small packs, or enough bytes not compressed hard yet."""
    (tmp_path / "chunks").mkdir()
    index = ChunkIndex(tmp_path / "chunks", None, Disk())

    def names(*, asked: bool) -> list[str]:
        return [pack.name for pack in due(index, asked=asked)]

    made = [write_pack(tmp_path, [(NOISE[:1000], b"", [])], level=repack.FULL_LEVEL).name]
    assert names(asked=True) == names(asked=False) == []
    made.append(write_pack(tmp_path, [(NOISE[1000:2000], b"", [])], level=IDLE_LEVEL).name)
    assert sorted(names(asked=True)) == sorted(made)
    for n in range(2, 16):
        assert names(asked=False) == []
        made.append(write_pack(tmp_path, [(NOISE[n * 1000 : n * 1000 + 1000], b"", [])], level=IDLE_LEVEL).name)
    assert sorted(names(asked=False)) == sorted(made)
    monkeypatch.setattr(repack, "_SMALL", 10)
    assert names(asked=False) == []
    # Those that upkeep in the background has done already do not count, a full pack of them neither.
    monkeypatch.setattr(repack, "_ENOUGH", 2000)
    made = [write_pack(tmp_path, [(NOISE[20_000:21_000], b"", [])]).name]
    assert names(asked=False) == []
    made.append(write_pack(tmp_path, [(NOISE[21_000:22_000], b"", [])]).name)
    assert sorted(names(asked=False)) == sorted(made)
    index.close()


def test_the_background_takes_the_lower_level_and_keeps_what_was_done_harder(
    saved: dict[Pointer, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(tmp_path)
    hard = {chunk.id: tables(tmp_path)[0].frames[chunk.frame].stored for chunk in tables(tmp_path)[0].chunks}
    with open_store(tmp_path) as store:
        more = words(200_000, 99)
        saved = {**saved, save(store, more): more}
        store.flush()
        assert not store.repack_due()
        assert store.repack(asked=False) is None
        monkeypatch.setattr(repack, "_MANY", 2)
        assert store.repack_due()
        assert store.repack(asked=False)
        assert not store.repack_due()
    (table,) = tables(tmp_path)
    assert table.level == IDLE_LEVEL
    assert {chunk.id: table.frames[chunk.frame].stored for chunk in table.chunks if chunk.id in hard} == hard
    assert_whole(tmp_path, saved)
    # Asked, the rest follows.
    assert run(tmp_path)
    assert tables(tmp_path)[0].level == repack.FULL_LEVEL
    assert_whole(tmp_path, saved)


# -- damage ------------------------------------------------------------------------------------------


def flip(path: Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 0xFF
    path.write_bytes(data)


@pytest.mark.parametrize("where", ["frame", "first table", "both tables", "cut"])
def test_a_damaged_pack_stays_and_is_named_and_the_others_are_done(tmp_path: Path, where: str) -> None:
    contents = {Pointer(chunk_id(data).hex(), 5000): data for data in (words(5000, n) for n in range(4))}
    made = [write_pack(tmp_path, [(data, b"", [])]) for data in contents.values()]
    harmed = made[1]
    data = harmed.read_bytes()
    if where == "frame":
        flip(harmed, 2000)
    elif where == "cut":
        harmed.write_bytes(data[:2000])
    else:
        offset, length = map(int, data[-57:].split()[2:])
        flip(harmed, offset + 20)
        if where == "both tables":
            flip(harmed, offset + length + 8 + 20)
    damaged = harmed.read_bytes()
    report = run(tmp_path)
    assert report and report.damaged == (harmed.name,)
    assert "1 damaged left alone, run git-vault verify" in report.summary()
    assert harmed.read_bytes() == damaged
    assert len(packs(tmp_path)) == 2 and not trash(tmp_path)
    with open_store(tmp_path) as store:
        for pointer, expected in contents.items():
            if pointer.oid != chunk_id(words(5000, 1)).hex():
                assert content(store, pointer) == expected


def test_what_stands_on_something_damaged_stays_too(tmp_path: Path) -> None:
    base = words(5000, 1)
    lost = write_pack(tmp_path, [(base, b"", [])])
    write_pack(tmp_path, [(base + b"!", base, [chunk_id(base)])])
    write_pack(tmp_path, [(b"something else", b"", [])])
    flip(lost, 2000)
    before = listing(tmp_path)
    report = run(tmp_path)
    assert report and len(report.damaged) == 2
    after = listing(tmp_path)
    assert {name: after[name] for name in before if name in after} == {
        name: data for name, data in before.items() if Path(name).name in report.damaged
    }
    # Once the base is there again, all is done.
    flip(lost, 2000)
    report = run(tmp_path)
    assert report and report.packs_after == 1 and not report.damaged
    assert_whole(tmp_path, {Pointer(chunk_id(base + b"!").hex(), 5001): base + b"!"}, cached=False)


def test_when_all_is_damaged_nothing_is_written(tmp_path: Path) -> None:
    for n in range(2):
        flip(write_pack(tmp_path, [(words(5000, n), b"", [])]), 2000)
    before = listing(tmp_path)
    report = run(tmp_path)
    assert report and len(report.damaged) == report.packs_after == 2
    assert report.bytes_before == report.bytes_after
    assert listing(tmp_path) == before


def test_a_damaged_copy_does_not_keep_a_sound_one_from_being_read_or_moved(tmp_path: Path) -> None:
    data = words(5000, 1)
    for first in (True, False):
        folder = tmp_path / str(first)
        one = write_pack(folder, [(data, b"", [])])
        two = write_pack(folder, [(b"and more", b"", []), (data, b"", [])])
        flip(one if first else two, 2000)
        pointer = Pointer(chunk_id(data).hex(), 5000)
        with open_store(folder) as store:
            assert content(store, pointer) == data
            assert not store.verify(data=True).ok
        report = run(folder)
        # Whether it stays depends on which of the two comes first.
        assert report and report.damaged in ((), ((one if first else two).name,))
        for name in report.damaged:
            (folder / "chunks" / name).unlink()
        assert_whole(folder, {pointer: data}, cached=False)


# -- proof -------------------------------------------------------------------------------------------


def test_memory_that_lies_is_noticed_before_anything_is_replaced(
    saved: dict[Pointer, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And is not called damage of the old packs."""
    compress = frames.compress
    before = listing(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(frames, "compress", lambda *what: compress(*what)[:-1] + b"!")
        with pytest.raises(CorruptionError, match="memory"):
            run(tmp_path)
    assert listing(tmp_path) == before
    assert_whole(tmp_path, saved)


def flip_what_was_made(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first frame of each new pack is damaged on the medium, between its sync and its proof."""
    publish = rounds.Round.publish

    def published(self: rounds.Round) -> None:
        old = set(packs(folder))
        publish(self)
        for path in set(packs(folder)) - old:
            flip(path, read_table(path).frames[0].offset + 20)

    monkeypatch.setattr(rounds.Round, "publish", published)


@pytest.mark.parametrize("cached", [True, False])
def test_a_proof_that_fails_puts_the_old_packs_back(
    saved: dict[Pointer, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cached: bool
) -> None:
    """The bad one must go: it would be read instead of them."""
    before = listing(tmp_path)
    with monkeypatch.context() as patch, open_store(tmp_path) as store:
        flip_what_was_made(tmp_path, patch)
        with pytest.raises(CorruptionError):
            store.repack(asked=True)
        assert all(content(store, pointer) == data for pointer, data in saved.items())
    assert listing(tmp_path) == before
    assert_whole(tmp_path, saved, cached=cached)
    assert run(tmp_path)
    assert_tidy(tmp_path)
    assert_whole(tmp_path, saved)


def test_a_proof_that_cannot_be_read_puts_the_old_packs_back(
    saved: dict[Pointer, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A medium's error, or Ctrl-C."""
    before = listing(tmp_path)
    for error in (OSError(5, "Input/output error"), KeyboardInterrupt()):

        def fails(*_: object, error: BaseException = error) -> None:
            raise error

        with monkeypatch.context() as patch:
            patch.setattr(rounds, "_prove", fails)
            with pytest.raises(type(error)):
                run(tmp_path)
        assert listing(tmp_path) == before
    assert_whole(tmp_path, saved)


# -- kills and full disks ----------------------------------------------------------------------------


class Killed(BaseException):
    """The end of the process."""


class DyingDisk(CountedDisk):
    """`die` is called instead of the n-th operation and of all that follow."""

    def __init__(self, at: int, die: Callable[[], None] | None = None) -> None:
        self.left = at
        self._die = die

    def count(self) -> None:
        self.left -= 1
        if self.left < 0:
            if self._die:
                self._die()
            raise Killed

    def make_folder(self, path: Path, mode: int = 0o700) -> None:
        if not path.is_dir():
            self.count()
        super().make_folder(path, mode)

    def unlink(self, path: Path) -> None:
        self.count()
        super().unlink(path)


def small(folder: Path) -> dict[Pointer, bytes]:
    """Three packs with little in them: a file and its two next versions, a file of several chunks each."""
    contents = {}
    with open_store(folder) as store:
        data, pointer = bytearray(words(20_000, 1)), None
        for n in range(3):
            data[1000 * n] ^= 1
            pointer = save(store, bytes(data), pointer)
            other = NOISE[n * 150_000 : n * 150_000 + 140_000]
            contents |= {pointer: bytes(data), save(store, other): other}
            store.flush()
    return contents


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[Pointer, bytes]]:
    folder = tmp_path_factory.mktemp("small")
    return folder, small(folder)


def each_operation(template: Path, tmp_path: Path, work: Callable[[Path, DyingDisk], bool]) -> Iterator[Path]:
    """The store as it is after a kill at the first, second ... operation; until `work` comes to its end."""
    at = 0
    while True:
        folder = tmp_path / str(at)
        shutil.copytree(template, folder)
        ended = work(folder, DyingDisk(at))
        yield folder
        shutil.rmtree(folder)
        if ended:
            break
        at += 1
    assert at > 15


@pytest.mark.no_cover
@pytest.mark.parametrize("cached", [True, False])
def test_a_kill_at_any_operation_loses_nothing_and_the_next_run_finishes(
    template: tuple[Path, dict[Pointer, bytes]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cached: bool
) -> None:
    contents = template[1]
    # Several new packs, so that a kill comes between them.
    monkeypatch.setattr(rounds, "PACK_SIZE", 200_000)

    def work(folder: Path, disk: DyingDisk) -> bool:
        try:
            with open_store(folder, disk) as store:
                store.repack(asked=True)
            return True
        except Killed:
            return False

    for folder in each_operation(template[0], tmp_path, work):
        assert_whole(folder, contents, cached=cached)
        run(folder)
        assert_tidy(folder)
        assert {table.level for table in tables(folder)} == {repack.FULL_LEVEL}
        assert_whole(folder, contents, cached=cached)
        if len(packs(folder)) == 1:
            assert run(folder, disk=DyingDisk(0)) is None


def test_a_kill_while_the_old_packs_are_put_back_loses_nothing(
    template: tuple[Path, dict[Pointer, bytes]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contents = template[1]

    def work(folder: Path, disk: DyingDisk) -> bool:
        with monkeypatch.context() as patch:
            flip_what_was_made(folder, patch)
            try:
                with open_store(folder, disk) as store:
                    store.repack(asked=True)
            except CorruptionError:
                return True
            except Killed:
                return False
        raise AssertionError("the proof did not fail")

    for folder in each_operation(template[0], tmp_path, work):
        with open_store(folder) as store:
            assert all(content(store, pointer) == data for pointer, data in contents.items())


@pytest.mark.parametrize("at", [3, 8, 12, 14, 16, 18])
def test_a_process_that_ends_in_the_middle(
    template: tuple[Path, dict[Pointer, bytes]], tmp_path: Path, at: int
) -> None:
    """Without any of the tidying that an exception still allows."""
    folder = tmp_path / "store"
    shutil.copytree(template[0], folder)
    program = (
        "import os, sys; from pathlib import Path\n"
        "from test_store_repack import DyingDisk, open_store\n"
        f"open_store(Path(sys.argv[1]), DyingDisk({at}, lambda: os._exit(9))).repack(asked=True)"
    )
    tests = Path(__file__).parent
    path = os.pathsep.join(map(str, (ROOT, tests.parent, tests)))
    done = subprocess.run([sys.executable, "-c", program, str(folder)], env={**os.environ, "PYTHONPATH": path})
    assert done.returncode == 9
    assert_whole(folder, template[1])
    run(folder)
    assert_tidy(folder)
    assert_whole(folder, template[1])


def test_a_full_disk_at_any_operation_leaves_the_store_as_it_was(
    template: tuple[Path, dict[Pointer, bytes]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rounds, "PACK_SIZE", 200_000)

    class Full(DyingDisk):
        """Removing things, and giving back what was taken, is possible."""

        def count(self) -> None:
            self.left -= 1
            if self.left == -1:
                raise StorageFullError("test: no space left on the disk")

        def unlink(self, path: Path) -> None:
            Disk.unlink(self, path)

    before = listing(template[0])
    at = 0
    while True:
        folder = tmp_path / str(at)
        shutil.copytree(template[0], folder)
        with open_store(folder, Full(at)) as store:
            try:
                store.repack(asked=True)
                break
            except StorageFullError:
                assert listing(folder) == before, at
                assert all(content(store, pointer) == data for pointer, data in template[1].items())
            assert store.repack(asked=True)
        assert_tidy(folder)
        assert_whole(folder, template[1])
        shutil.rmtree(folder)
        at += 1
    assert at > 12


def test_it_gives_way_with_nothing_left_behind(saved: dict[Pointer, bytes], tmp_path: Path) -> None:
    before = listing(tmp_path)
    with open_store(tmp_path) as store:
        for calls in (0, 1, 7, 20):
            left = iter(range(calls))
            with pytest.raises(ToolStopped, match="another run wants the vault"):
                store.repack(asked=True, stop=lambda left=left: next(left, None) is None)  # type: ignore[misc]
            assert listing(tmp_path) == before
            assert all(content(store, pointer) == data for pointer, data in saved.items())
        assert store.repack(asked=True, stop=lambda: False)
    assert_tidy(tmp_path)
    assert_whole(tmp_path, saved)


# -- what an earlier run left ------------------------------------------------------------------------


def test_trash_is_emptied_only_of_what_is_found_elsewhere(tmp_path: Path) -> None:
    data, text = words(5000, 1), b"list"
    kept = write_pack(tmp_path, [(data, b"", []), (text, b"", [])], [("ab" * 32, (chunk_id(text),))], repack.FULL_LEVEL)
    redundant = write_pack(tmp_path, [(data, b"", [])])
    needed = write_pack(tmp_path, [(data, b"", []), (b"only here", b"", [])])
    listed = write_pack(tmp_path, [(text, b"", [])], [("cd" * 32, (chunk_id(text),))])
    harmed = write_pack(tmp_path, [(b"harmed", b"", [])])
    harmed.write_bytes(harmed.read_bytes()[:60])
    folder = tmp_path / "chunks" / "trash"
    folder.mkdir()
    (folder / "notes.txt").write_text("somebody's")
    for path in (redundant, needed, listed, harmed):
        path.rename(folder / path.name)
    assert run(tmp_path) is None
    assert set(trash(tmp_path)) == {folder / name for name in (needed.name, listed.name, harmed.name, "notes.txt")}
    # A copy that is damaged is none.
    (folder / redundant.name).write_bytes(kept.read_bytes())
    (folder / redundant.name).unlink()
    again = write_pack(tmp_path, [(data, b"", [])])
    again.rename(folder / again.name)
    flip(kept, 2000)
    run(tmp_path)
    assert (folder / again.name).exists()
    with open_store(tmp_path) as store:
        assert store.retrieve_chunk(chunk_id(data)) == data
        assert store.retrieve_chunk(chunk_id(b"only here")) == b"only here"


def test_the_copy_that_took_more_work_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a killed run had compressed is not compressed again, and what comes out may be the pack that is there."""
    contents = small(tmp_path)
    old = {path: path.read_bytes() for path in packs(tmp_path)}
    assert run(tmp_path)
    (new,) = packs(tmp_path)
    done = new.read_bytes()
    for path, data in old.items():
        path.write_bytes(data)

    real = frames.compress

    def compress(data: bytes, level: int, dictionary: bytes = b"") -> bytes:
        # Only the new pack's table.
        assert data.startswith(b"frame "), "compressed again"
        return real(data, level, dictionary)

    with monkeypatch.context() as patch:
        patch.setattr(frames, "compress", compress)
        report = run(tmp_path)
    assert report and report.packs_after == 1
    assert packs(tmp_path) == [new] and new.read_bytes() == done
    assert_tidy(tmp_path)
    assert_whole(tmp_path, contents, cached=False)


def test_one_that_comes_out_as_it_is_stays_when_the_run_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new pack has the name of an old one: undoing the new must not remove it."""
    data = words(5000, 1)
    one = write_pack(tmp_path, [(data, b"", [])], level=repack.FULL_LEVEL)
    write_pack(tmp_path, [(data, b"", [])], level=IDLE_LEVEL)
    before = listing(tmp_path)

    def fails(*_: object) -> None:
        raise CorruptionError("test: no proof")

    with monkeypatch.context() as patch:
        patch.setattr(rounds, "_prove", fails)
        with pytest.raises(CorruptionError, match="no proof"):
            run(tmp_path)
    assert listing(tmp_path) == before
    assert run(tmp_path)
    assert packs(tmp_path) == [one]
    assert_whole(tmp_path, {Pointer(chunk_id(data).hex(), 5000): data}, cached=False)


def test_a_sound_pack_takes_the_place_of_a_damaged_one_of_the_same_name(tmp_path: Path) -> None:
    data = words(5000, 1)
    write_pack(tmp_path, [(data, b"", [])])
    assert run(tmp_path)
    (done,) = packs(tmp_path)
    for harm in (done.read_bytes()[:40], done.read_bytes()[:2000] + b"?" + done.read_bytes()[2001:]):
        done.write_bytes(harm)
        write_pack(tmp_path, [(data, b"", [])])
        assert run(tmp_path)
        assert packs(tmp_path) == [done]
        assert_whole(tmp_path, {Pointer(chunk_id(data).hex(), 5000): data})


# -- chunks in two packs -----------------------------------------------------------------------------


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0), (2, 1, 0)])
@pytest.mark.parametrize("stays", [None, 0, 1, 2])
def test_no_circle_of_deltas_arises_from_a_chunk_in_two_packs(
    tmp_path: Path, order: tuple[int, ...], stays: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """X alone; Y coded against X; X again, coded against Y: of the two X the right one must stay."""
    monkeypatch.setattr(repack, "_SMALL", 1)
    x, y = words(30_000, 1), words(30_000, 1)[:-1] + b"!"
    forms = [(x, b"", []), (y, x, [chunk_id(x)]), (x, y, [chunk_id(y)])]
    (tmp_path / "chunks").mkdir()
    with open_store(tmp_path) as store:
        for n in order:
            write_pack(tmp_path, [forms[n]], level=repack.FULL_LEVEL if n == stays else 0)
            # In the order of their arrival.
            store._index.refresh(force=True)
    pointers = {Pointer(chunk_id(data).hex(), len(data)): data for data in (x, y)}
    assert_whole(tmp_path, pointers)
    assert run(tmp_path)
    assert_whole(tmp_path, pointers)
    assert_whole(tmp_path, pointers, cached=False)
    assert not trash(tmp_path)


# -- readers meanwhile -------------------------------------------------------------------------------


def test_a_reader_opened_before_goes_on_reading(saved: dict[Pointer, bytes], tmp_path: Path) -> None:
    more = words(100_000, 77)
    with open_store(tmp_path) as reader, open_store(tmp_path) as writer:
        for _ in range(2):
            assert all(content(reader, pointer) == data for pointer, data in saved.items())
            reader._reader.forget()
            pointer = save(writer, more)
            saved = {**saved, pointer: more}
            writer.flush()
            assert writer.repack(asked=True)
            more += b"!"
        assert all(content(reader, pointer) == data for pointer, data in saved.items())


def test_a_reader_whose_packs_go_again_and_again_finds_them(saved: dict[Pointer, bytes], tmp_path: Path) -> None:
    """Each time between looking up where a chunk lies and reading it there."""
    with open_store(tmp_path) as reader, open_store(tmp_path) as writer:
        find = reader._reader._find
        times = 0

        def stale(chunks: Collection[ChunkId]) -> dict[ChunkId, Place]:
            nonlocal times
            places = find(chunks)
            if times < 4:
                times += 1
                save(writer, words(1000 + times, times))
                writer.flush()
                assert writer.repack(asked=True)
            return places

        reader._reader._find = stale
        for pointer, data in saved.items():
            assert content(reader, pointer) == data
        assert times == 4


def test_reading_and_verifying_while_packs_are_replaced(saved: dict[Pointer, bytes], tmp_path: Path) -> None:
    failed: list[BaseException] = []
    ended = threading.Event()

    def read() -> None:
        try:
            with open_store(tmp_path) as store:
                while not ended.is_set():
                    store._reader.forget()
                    for pointer, data in saved.items():
                        assert content(store, pointer) == data
                        assert store.has(pointer)
                    assert store.verify(data=True).defects == ()
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    with open_store(tmp_path) as writer:
        for n in range(3):
            save(writer, words(1000, 100 + n))
            writer.flush()
            assert writer.repack(asked=True)
    ended.set()
    for thread in threads:
        thread.join(60)
    assert not failed, failed


def test_verify_does_not_call_a_pack_lost_that_upkeep_replaced(saved: dict[Pointer, bytes], tmp_path: Path) -> None:
    with open_store(tmp_path) as reader, open_store(tmp_path) as writer:
        for data in (False, True):
            save(writer, words(2000, 200 + data))
            writer.flush()
            done: list[StoreRepack | None] = []

            def meanwhile(text: str, number: int, total: int, done: list[StoreRepack | None] = done) -> None:
                if number == 1 and not done:
                    done.append(writer.repack(asked=True))

            report = reader.verify(data=data, progress=meanwhile)
            assert done[0]
            assert report.defects == ()
            assert report.objects_checked > len(tables(tmp_path)[0].chunks)


def test_names_are_those_of_packs(saved: dict[Pointer, bytes], tmp_path: Path) -> None:
    assert run(tmp_path)
    assert all(PACK_NAME.fullmatch(path.name) for path in packs(tmp_path))
    with open_store(tmp_path) as store, pytest.raises(NotFoundError):
        store.retrieve_chunk(chunk_id(b"never saved"))


def test_a_chunk_that_is_not_what_its_id_says_is_not_written_again(tmp_path: Path) -> None:
    """Its frame decodes; a new pack would hide that the content is wrong."""
    chunks = tmp_path / "chunks"
    (chunks / "tmp").mkdir(parents=True)
    with ThreadPoolExecutor(1) as background:
        writer = PackWriter(chunks / "tmp", "new.zpk", Disk(), background)
        writer.add(frames.compress(b"delivered", 1), [(chunk_id(b"promised!"), 9)], ())
        writer.seal()
        name = writer.publish(chunks)
    report = run(tmp_path)
    assert report and report.damaged == (name,)
    assert [path.name for path in packs(tmp_path)] == [name]
