"""The chunk index is a cache: whatever happens to it, the packs decide."""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gitvault.core.models import ChunkId
from gitvault.core.storage import frames
from gitvault.core.storage.index import ChunkIndex, PackSummary
from gitvault.core.storage.packs import PackWriter, Table, read_table
from gitvault.core.utils.files import Disk
from gitvault.errors import StorageFullError, UnsupportedFormatVersion


def chunk_id(data: bytes) -> ChunkId:
    return ChunkId(hashlib.sha256(data).digest())


def write_pack(
    folder: Path, *contents: bytes, level: int = 0, rows: Sequence[tuple[str, tuple[ChunkId, ...]]] = ()
) -> Path:
    (folder / "tmp").mkdir(exist_ok=True)
    with ThreadPoolExecutor(1) as background:
        writer = PackWriter(folder / "tmp", "new.zpk", Disk(), background, level=level)
        for data in contents:
            writer.add(frames.compress(data, 3), [(chunk_id(data), len(data))], ())
        writer.add_manifest(hashlib.sha256(b"".join(contents)).hexdigest(), tuple(map(chunk_id, contents)))
        for oid, parts in rows:
            writer.add_manifest(oid, parts)
        writer.seal()
        return folder / writer.publish(folder)


def written(folder: Path, *contents: bytes) -> Table:
    """The table of a pack as who writes it has it."""
    with ThreadPoolExecutor(1) as background:
        writer = PackWriter(folder / "tmp", "other.zpk", Disk(), background)
        for data in contents:
            writer.add(frames.compress(data, 3), [(chunk_id(data), len(data))], ())
        writer.drop()
        return writer.table


def found(index: ChunkIndex, *contents: bytes) -> set[bytes]:
    places = index.find([chunk_id(data) for data in contents])
    return {data for data in contents if chunk_id(data) in places}


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "chunks.db"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "chunks").mkdir()
    return tmp_path / "chunks"


def test_a_place_leads_to_the_bytes(folder: Path, cache: Path) -> None:
    write_pack(folder, b"one", b"two")
    index = ChunkIndex(folder, cache, Disk())
    place = index.find([chunk_id(b"two")])[chunk_id(b"two")]
    data = frames.decompress(place.pack.read(place.frame), place.frame.length)
    assert data[place.inner : place.inner + place.length] == b"two"
    assert index.manifests(hashlib.sha256(b"onetwo").hexdigest()) == [(chunk_id(b"one"), chunk_id(b"two"))]
    assert index.counts() == (1, 2)


def test_packs_that_come_and_go_are_noticed(folder: Path, cache: Path) -> None:
    index = ChunkIndex(folder, cache, Disk())
    assert found(index, b"one", b"two") == set()
    first = write_pack(folder, b"one")
    assert index.refresh(force=True)
    assert found(index, b"one", b"two") == {b"one"}
    write_pack(folder, b"two")
    index.refresh(force=True)
    assert found(index, b"one", b"two") == {b"one", b"two"}
    first.unlink()
    index.refresh(force=True)
    assert found(index, b"one", b"two") == {b"two"}
    assert index.counts() == (1, 1)


def test_a_chunk_in_two_packs_survives_the_loss_of_one(folder: Path, cache: Path) -> None:
    index = ChunkIndex(folder, cache, Disk())
    packs = [write_pack(folder, b"both"), write_pack(folder, b"both", b"more")]
    index.refresh(force=True)
    for gone in packs:
        content = gone.read_bytes()
        gone.unlink()
        index.refresh(force=True)
        assert found(index, b"both") == {b"both"}
        gone.write_bytes(content)
        index.refresh(force=True)


def test_another_process_finds_the_same(folder: Path, cache: Path) -> None:
    write_pack(folder, b"one")
    first = ChunkIndex(folder, cache, Disk())
    assert found(first, b"one") == {b"one"}
    second = ChunkIndex(folder, cache, Disk())
    assert found(second, b"one") == {b"one"}
    write_pack(folder, b"two")
    for index in (first, second):
        index.refresh(force=True)
        assert found(index, b"one", b"two") == {b"one", b"two"}


def test_what_was_proven_is_remembered_and_not_made_up(folder: Path, cache: Path) -> None:
    index = ChunkIndex(folder, cache, Disk())

    def proven(data: bytes) -> tuple[int | None, int]:
        place = index.find([chunk_id(data)])[chunk_id(data)]
        return place.frame.proven, frames.checksum(place.pack.read(place.frame))

    first = write_pack(folder, b"one")
    index.add(first.name, written(folder, b"one"))
    assert len(set(proven(b"one"))) == 1
    # Another thread may see the pack before the one that wrote it says what is in it.
    second = write_pack(folder, b"two")
    index.refresh(force=True)
    assert proven(b"two")[0] is None
    index.add(second.name, written(folder, b"two"))
    assert len(set(proven(b"two"))) == 1
    assert index.table(second.name).frames[0].proven == proven(b"two")[1]
    index.rebuild()
    assert proven(b"one")[0] is proven(b"two")[0] is None


@pytest.mark.parametrize("harm", ["missing", "text", "cut", "other version", "is a folder", "cache is a file"])
def test_a_cache_that_is_of_no_use_costs_only_time(folder: Path, cache: Path, harm: str) -> None:
    write_pack(folder, b"one", b"two")
    index = ChunkIndex(folder, cache, Disk())
    assert found(index, b"one") == {b"one"}
    index.close()
    if harm == "missing":
        cache.unlink()
    elif harm == "text":
        cache.write_text("this is no database\n" * 1000)
    elif harm == "cut":
        cache.write_bytes(cache.read_bytes()[:5000])
    elif harm == "other version":
        database = sqlite3.connect(cache)
        database.execute("DROP TABLE chunk")
        database.execute("PRAGMA user_version = 99")
        database.close()
    else:
        cache.unlink()
        if harm == "is a folder":
            (cache / "inside").mkdir(parents=True)
        else:
            cache.parent.rmdir()
            cache.parent.write_text("in the way")
    assert found(index, b"one", b"two", b"three") == {b"one", b"two"}


@pytest.mark.parametrize("table", ["chunk", "pack", "frame", "manifest"])
def test_a_table_lost_under_an_open_index_is_made_again(folder: Path, cache: Path, table: str) -> None:
    write_pack(folder, b"one")
    index = ChunkIndex(folder, cache, Disk())
    assert found(index, b"one") == {b"one"}
    database = sqlite3.connect(cache)
    database.execute(f"DROP TABLE {table}")
    database.close()
    write_pack(folder, b"two")
    index.refresh(force=True)
    assert found(index, b"one", b"two") == {b"one", b"two"}
    assert len(index.manifests(hashlib.sha256(b"one").hexdigest())) == 1


def test_a_full_disk_costs_the_cache_and_nothing_else(folder: Path, cache: Path) -> None:
    class FullDisk(Disk):
        def make_folder(self, path: Path, mode: int = 0o700) -> None:
            raise StorageFullError(str(path))

        def unlink(self, path: Path) -> None:
            raise OSError(28, "No space left on device")

    write_pack(folder, b"one")
    assert found(ChunkIndex(folder, cache, FullDisk()), b"one") == {b"one"}
    assert not cache.exists()


def test_an_unreadable_pack_is_remembered_and_the_others_serve(folder: Path, cache: Path) -> None:
    write_pack(folder, b"one")
    broken = write_pack(folder, b"two")
    broken.write_bytes(broken.read_bytes()[:100])
    index = ChunkIndex(folder, cache, Disk())
    assert found(index, b"one", b"two") == {b"one"}
    assert set(index.unreadable) == {broken.name}
    broken.unlink()
    index.refresh(force=True)
    assert not index.unreadable


def test_a_pack_of_a_newer_format_stops_with_a_clear_error(folder: Path, cache: Path) -> None:
    pack = write_pack(folder, b"one")
    pack.write_bytes(pack.read_bytes().replace(b"gitvault pack 1", b"gitvault pack 2"))
    with pytest.raises(UnsupportedFormatVersion):
        ChunkIndex(folder, cache, Disk()).find([chunk_id(b"one")])


def test_rows_of_packs_long_gone_do_not_pile_up(folder: Path, cache: Path) -> None:
    index = ChunkIndex(folder, cache, Disk())
    old = write_pack(folder, *(os.urandom(10) for _ in range(1000)))
    assert index.counts() == (1, 1000)
    index.close()
    old.unlink()
    write_pack(folder, b"new")
    index = ChunkIndex(folder, cache, Disk())
    assert found(index, b"new") == {b"new"}
    index.close()
    database = sqlite3.connect(cache)
    assert database.execute("SELECT count(*) FROM chunk").fetchone() == (1,)
    database.close()


def test_the_room_of_packs_that_went_is_given_back(folder: Path, cache: Path) -> None:
    """After upkeep, half of the file was about packs that were no more."""
    index = ChunkIndex(folder, cache, Disk())
    old = write_pack(folder, *(b"old %d" % n for n in range(5000)))
    damaged = write_pack(folder, b"damaged")
    write_pack(folder, *(b"kept %d" % n for n in range(50)))
    assert found(index, b"old 1", b"damaged", b"kept 1") == {b"old 1", b"damaged", b"kept 1"}
    index.close()
    large = cache.stat().st_size
    assert found(index, b"kept 1") == {b"kept 1"}
    damaged.write_bytes(b"no pack any more")
    old.unlink()
    index.compact()
    assert not index.table(old.name).chunks
    assert len(index.table(damaged.name).chunks) == 1, "what is known of one that lost its table is worth keeping"
    assert found(index, b"old 1", b"kept 1") == {b"kept 1"}
    index.close()
    assert cache.stat().st_size < large / 10
    assert found(index, b"kept 1") == {b"kept 1"}
    index.close()


def test_rebuilding_starts_from_the_packs(folder: Path, cache: Path) -> None:
    write_pack(folder, b"one")
    index = ChunkIndex(folder, cache, Disk())
    assert found(index, b"one") == {b"one"}
    index._database.execute("UPDATE frame SET start = 1")  # type: ignore[union-attr]
    index.rebuild()
    place = index.find([chunk_id(b"one")])[chunk_id(b"one")]
    assert frames.decompress(place.pack.read(place.frame), 3) == b"one"


def test_packs_are_told_in_the_order_of_their_arrival(folder: Path, cache: Path) -> None:
    index = ChunkIndex(folder, cache, Disk())
    assert index.packs() == []
    names = []
    for n in range(5):
        names.append(write_pack(folder, b"content %d" % n, level=n).name)
        index.refresh(force=True)
    summaries = index.packs()
    assert [pack.name for pack in summaries] == names
    assert [pack.level for pack in summaries] == list(range(5))
    assert [pack.number for pack in summaries] == sorted(pack.number for pack in summaries)
    assert {pack.size for pack in summaries} == {len(frames.compress(b"content 0", 3))}
    # An object that finds the file made says the same, and one that makes its own knows levels and sizes too.
    assert ChunkIndex(folder, cache, Disk()).packs() == summaries
    anew = ChunkIndex(folder, None, Disk()).packs()
    assert {(pack.name, pack.level, pack.size) for pack in anew} == {(p.name, p.level, p.size) for p in summaries}
    (folder / names[2]).unlink()
    assert isinstance(summaries[0], PackSummary)
    assert index.packs() == summaries[:2] + summaries[3:]


def test_packs_can_be_left_out(folder: Path, cache: Path) -> None:
    first, second = write_pack(folder, b"one", b"both"), write_pack(folder, b"both", b"two")
    index = ChunkIndex(folder, cache, Disk())
    ids = {data: chunk_id(data) for data in (b"one", b"two", b"both")}
    assert index.find(ids.values(), without=[first.name]).keys() == {ids[b"two"], ids[b"both"]}
    assert index.find(ids.values(), without=[second.name]).keys() == {ids[b"one"], ids[b"both"]}
    assert index.find([ids[b"both"]], without={second.name})[ids[b"both"]].pack.path == first
    assert not index.find(ids.values(), without={first.name, second.name})
    assert index.find(ids.values(), without=["no pack"]).keys() == set(ids.values())
    oid = hashlib.sha256(b"oneboth").hexdigest()
    assert index.manifests(oid, without=[second.name]) == [(ids[b"one"], ids[b"both"])]
    assert index.manifests(oid, without=[first.name]) == []


def test_packs_are_left_out_also_when_the_file_is_lost_meanwhile(folder: Path, cache: Path) -> None:
    """All is made anew then, with other numbers."""
    index = ChunkIndex(folder, cache, Disk())
    packs = []
    for n in range(6):
        packs.append(write_pack(folder, b"both", b"%d" % n))
        index.refresh(force=True)
    index._database.execute("DROP TABLE frame")  # type: ignore[union-attr]
    place = index.find([chunk_id(b"both")], without=[pack.name for pack in packs[1:]])[chunk_id(b"both")]
    assert place.pack.path == packs[0]


def test_every_place_of_a_chunk_is_known(folder: Path, cache: Path) -> None:
    """In several packs, and in several frames of one."""
    first, second = write_pack(folder, b"x", b"y", b"x"), write_pack(folder, b"x")
    index = ChunkIndex(folder, cache, Disk())
    found = [(place.pack.path, place.frame.number) for place in index.places(chunk_id(b"x"))]
    assert sorted(found) == sorted([(first, 0), (first, 2), (second, 0)])
    assert index.places(chunk_id(b"z")) == []


def test_every_manifest_of_a_file_in_one_pack_is_known(folder: Path, cache: Path) -> None:
    oid = "12" * 32
    rows = [(oid, (chunk_id(b"a"),)), (oid, (chunk_id(b"b"), chunk_id(b"c")))]
    write_pack(folder, b"x", rows=rows)
    assert sorted(ChunkIndex(folder, cache, Disk()).manifests(oid)) == sorted(parts for _, parts in rows)


def test_changes_are_counted_when_packs_come_and_go(folder: Path, cache: Path) -> None:
    """So that a reader knows whether looking again may help."""
    index = ChunkIndex(folder, cache, Disk())
    seen = [index.changes]
    first = write_pack(folder, b"one")
    index.refresh(force=True)
    seen.append(index.changes)
    first.unlink()
    index.refresh(force=True)
    seen.append(index.changes)
    assert seen[0] < seen[1] < seen[2]
    index.refresh(force=True)
    assert index.changes == seen[2]


def test_a_sound_pack_in_a_damaged_ones_place_is_taken_in(folder: Path, cache: Path) -> None:
    pack = write_pack(folder, b"one")
    sound = pack.read_bytes()
    pack.write_bytes(sound[:30])
    index = ChunkIndex(folder, cache, Disk())
    assert found(index, b"one") == set() and pack.name in index.unreadable
    pack.write_bytes(sound)
    index.add(pack.name, read_table(pack))
    assert found(index, b"one") == {b"one"}
    assert not index.unreadable and index.counts() == (1, 1)


def test_damaged_packs_are_remembered_until_all_have_been_read(folder: Path, cache: Path) -> None:
    index = ChunkIndex(folder, cache, Disk())
    index.note_damaged(["a.zpk", "b.zpk"])
    index.close()
    again = ChunkIndex(folder, cache, Disk())
    assert again.damaged() == {"a.zpk", "b.zpk"}
    again.forget_damaged()
    assert again.damaged() == set()
    again.close()
