"""Packs: what the writer writes the reader reads, and crafted or damaged ones raise, never crash."""

from __future__ import annotations

import hashlib
import os
import random
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from packed import entry

from gitvault.core.models import ObjectId
from gitvault.core.utils.files import Disk
from gitvault.core.versioning import packreader
from gitvault.core.versioning.objects import object_id
from gitvault.core.versioning.odb import ObjectStore
from gitvault.core.versioning.packfile import PackWriter, deflate, encode_index, publish
from gitvault.core.versioning.packreader import BaseCache, Pack, apply_delta
from gitvault.errors import ChecksumMismatch, ContentMissing, CorruptionError, GitVaultError

X = object_id(b"blob", b"x")
Y = object_id(b"blob", b"y")


@pytest.fixture
def objects(tmp_path: Path) -> Path:
    for name in ("objects/pack", "tmp"):
        (tmp_path / name).mkdir(parents=True)
    return tmp_path / "objects"


def write(objects: Path, *blobs: bytes) -> list[ObjectId]:
    writer = PackWriter(objects.parent / "tmp", Disk())
    ids = [writer.add(b"blob", blob) for blob in blobs]
    pack = writer.finish()
    assert pack is not None
    publish(pack, objects / "pack", Disk())
    return ids


def blob(data: bytes) -> bytes:
    return entry(3, len(data), zlib.compress(data))


def delta(base: ObjectId, data: bytes) -> bytes:
    return entry(7, len(data), base + zlib.compress(data))


def craft(objects: Path, *entries: tuple[ObjectId, bytes], shift: int = 0) -> None:
    """A pack with whatever it is given under sound checksums."""
    body = b"PACK\x00\x00\x00\x02" + len(entries).to_bytes(4, "big")
    places = {}
    for oid, raw in entries:
        places[oid] = len(body) + shift << 32 | zlib.crc32(raw)
        body += raw
    checksum = hashlib.sha1(body).digest()
    path = objects / "pack" / f"pack-{checksum.hex()}.pack"
    path.write_bytes(body + checksum)
    path.with_suffix(".idx").write_bytes(encode_index(places, checksum))


def damage(objects: Path, suffix: str, change: Callable[[bytes], bytes]) -> None:
    (path,) = (objects / "pack").glob(f"*{suffix}")
    path.write_bytes(change(path.read_bytes()))


def test_objects_come_back_with_their_sizes(objects: Path) -> None:
    blobs = [b"", b"x", os.urandom(100_000), b"ab" * 3_000_000]
    ids = write(objects, *blobs)
    with ObjectStore(objects) as store:
        assert [store.read(oid) for oid in ids] == [(b"blob", data) for data in blobs]
        assert [store.size(oid) for oid in ids] == [len(data) for data in blobs]
        (path,) = (objects / "pack").glob("*.pack")
        assert sum(store.stored_size(oid) for oid in ids) == path.stat().st_size - 32
        assert store.stored_size(ids[3]) < 100_000 < store.stored_size(ids[2])
        assert {oid: data for oid, _, data in store.read_many(reversed(ids))} == dict(zip(ids, blobs, strict=True))


def test_writer_takes_each_object_once_and_can_be_used_again(objects: Path) -> None:
    writer = PackWriter(objects.parent / "tmp", Disk())
    assert writer.finish() is None
    assert writer.add(b"blob", b"x") == writer.add(b"blob", memoryview(b"x")) == X
    writer.add_deflated(b"blob", X, 1, deflate(b"x"))
    assert X in writer and Y not in writer and len(writer) == 1
    first = writer.finish()
    assert first is not None and first.objects == 1
    assert first.bytes == first.pack.stat().st_size + first.index.stat().st_size
    assert X not in writer
    writer.add_deflated(b"blob", Y, 1, deflate(b"y"))
    second = writer.finish()
    assert second is not None and second.name != first.name


def test_what_does_not_deflate_hardly_grows() -> None:
    # As a PNG of 3 KB does: some bytes more often than others, none of them predictable.
    chance = random.Random(1)
    for size in (500, 3000, 70_000):
        data = bytes(chance.choices(range(256), k=size))
        assert len(deflate(data)) <= size + 11 + 5 * (size // 65535)
        assert zlib.decompress(deflate(data)) == data
    assert len(deflate(b"text " * 1000)) < 500


def test_writer_takes_packed_objects_in_pieces(objects: Path) -> None:
    data = os.urandom(3 << 20)
    raw = blob(data)
    writer = PackWriter(objects.parent / "tmp", Disk())
    writer.add(b"blob", b"x")
    start = writer.size
    writer.add_packed(object_id(b"blob", data), (raw[i : i + 700_000] for i in range(0, len(raw), 700_000)))
    assert writer.size == start + len(raw)
    pack = writer.finish()
    assert pack is not None
    publish(pack, objects / "pack", Disk())
    (index,) = (objects / "pack").glob("*.idx")
    opened = Pack(index)
    end = start + len(raw)
    assert list(opened.entries()) == [(12, start, X), (start, end, object_id(b"blob", data))]
    assert opened.read(start, BaseCache(1 << 20)) == (b"blob", data)
    opened.close()


def test_abandoned_pack_leaves_nothing(objects: Path) -> None:
    writer = PackWriter(objects.parent / "tmp", Disk())
    writer.abandon()
    writer.add(b"blob", os.urandom(3 << 20))
    assert os.listdir(objects.parent / "tmp")
    writer.abandon()
    assert os.listdir(objects.parent / "tmp") == []
    assert writer.finish() is None


class Recorder(Disk):
    """Notes what is asked of the disk."""

    def __init__(self) -> None:
        self.steps: list[str] = []

    def rename(self, source: Path, target: Path) -> None:
        self.steps.append(f"rename {target.suffix}")
        super().rename(source, target)

    def sync_folder(self, path: Path) -> None:
        self.steps.append("sync")
        super().sync_folder(path)


def test_pack_is_durable_before_its_index_is_visible(objects: Path) -> None:
    disk = Recorder()
    writer = PackWriter(objects.parent / "tmp", disk)
    writer.add(b"blob", b"x")
    pack = writer.finish()
    assert pack is not None
    publish(pack, objects / "pack", disk)
    assert disk.steps == ["rename .pack", "sync", "rename .idx", "sync"]


def test_publishing_the_same_pack_again_is_fine(objects: Path) -> None:
    (oid,) = write(objects, b"x")
    with ObjectStore(objects) as store:
        store.read(oid)
        assert write(objects, b"x") == [oid]
        assert os.listdir(objects.parent / "tmp") == []
        assert store.read(oid) == (b"blob", b"x")


def test_pack_without_index_left_by_a_kill_is_completed(objects: Path) -> None:
    (oid,) = write(objects, b"x")
    (index,) = (objects / "pack").glob("*.idx")
    index.unlink()
    assert not ObjectStore(objects).contains(oid)
    write(objects, b"x")
    assert ObjectStore(objects).contains(oid)


def test_reader_finds_packs_that_appear_and_survives_those_that_go(objects: Path) -> None:
    (old,) = write(objects, b"old")
    with ObjectStore(objects) as store:
        assert store.contains(old)
        (new,) = write(objects, b"new")
        assert not store.contains(new)
        assert store.read(new) == (b"blob", b"new")
        assert store.contains(new)
        # As repack does: everything in a new pack, the old ones gone before they were ever mapped.
        gone = list((objects / "pack").iterdir())
        write(objects, b"old", b"new", b"more")
        for path in gone:
            path.unlink()
        assert store.read(old) == (b"blob", b"old")
        assert store.size(new) == 3
        assert [data for _, _, data in store.read_many([old, new])] == [b"old", b"new"]


def test_missing_objects_are_named(objects: Path) -> None:
    (x,) = write(objects, b"x")
    with ObjectStore(objects) as store:
        for ask in (store.read, store.size, store.stored_size):
            with pytest.raises(ContentMissing, match=Y.hex()):
                ask(Y)
        with pytest.raises(ContentMissing, match=Y.hex()):
            list(store.read_many([Y]))
        failures: list[ObjectId] = []
        found = list(store.read_many([x, Y], failed=lambda oid, _: failures.append(oid)))
        assert [oid for oid, _, _ in found] == [x]
        assert failures == [Y]


def test_store_without_folders_is_empty(tmp_path: Path) -> None:
    assert not ObjectStore(tmp_path / "none").contains(X)


def test_closed_store_opens_again(objects: Path) -> None:
    (oid,) = write(objects, b"x")
    store = ObjectStore(objects)
    store.read(oid)
    store.close()
    assert store.read(oid) == (b"blob", b"x")
    store.close()


def test_prefix_finds_packed_and_loose_ids(objects: Path) -> None:
    ids = write(objects, *(b"%d" % i for i in range(600)))
    loose = object_id(b"blob", b"loose")
    path = objects / loose.hex()[:2] / loose.hex()[2:]
    path.parent.mkdir()
    path.write_bytes(zlib.compress(b"blob 5\0loose"))
    (path.parent / "tmp_obj_1").write_bytes(b"")
    everything = sorted({*ids, loose})
    with ObjectStore(objects) as store:
        for prefix in ("0", "a1", loose.hex()[:3], loose.hex(), ids[7].hex().upper()):
            assert store.find_prefix(prefix) == [oid for oid in everything if oid.hex().startswith(prefix.lower())]
        for prefix in ("", "xyz", "0" * 41):
            with pytest.raises(GitVaultError, match="not the beginning of an id"):
                store.find_prefix(prefix)
        assert store.contains(loose) and store.read(loose) == (b"blob", b"loose")
        assert store.size(loose) == 5 and store.stored_size(loose) == path.stat().st_size


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"not deflated", "cannot be inflated"),
        (zlib.compress(b"blob 5\0loos"), "malformed"),
        (zlib.compress(b"blob 5\0loose!"), "malformed"),
        (zlib.compress(b"blob 5\0loose")[:-4], "malformed"),
        (zlib.compress(b"blip 5\0loose"), "malformed"),
        (zlib.compress(b"blob 99999999999\0loose"), "malformed"),
        (zlib.compress(b"blob -5\0loose"), "malformed"),
        (b"", "malformed"),
    ],
)
def test_damaged_loose_object_is_corruption(objects: Path, content: bytes, message: str) -> None:
    path = objects / X.hex()[:2] / X.hex()[2:]
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(CorruptionError, match=message):
        ObjectStore(objects).read(X)


def test_loose_object_larger_than_the_first_read(objects: Path) -> None:
    data = os.urandom(200_000)
    oid = object_id(b"blob", data)
    path = objects / oid.hex()[:2] / oid.hex()[2:]
    path.parent.mkdir()
    path.write_bytes(zlib.compress(b"blob 200000\0" + data))
    assert ObjectStore(objects).read(oid) == (b"blob", data)


def test_content_with_another_hash_is_a_mismatch(objects: Path) -> None:
    craft(objects, (X, blob(b"y")))
    with ObjectStore(objects) as store:
        with pytest.raises(ChecksumMismatch, match=X.hex()) as caught:
            store.read(X)
        assert caught.value.actual == Y.hex()
        assert store.read(X, verify=False) == (b"blob", b"y")
        failures: list[GitVaultError] = []
        assert list(store.read_many([X], failed=lambda _, error: failures.append(error))) == []
        assert len(failures) == 1


def test_sound_copy_is_used_when_another_is_damaged(objects: Path) -> None:
    craft(objects, (X, blob(b"y")), (Y, blob(b"y")))
    write(objects, b"x")
    with ObjectStore(objects) as store:
        assert store.read(X) == (b"blob", b"x")
        assert list(store.read_many([X])) == [(X, b"blob", b"x")]


def test_many_small_packs_answer_as_one_however_much_is_asked(objects: Path) -> None:
    blobs = [[b"%d of %d" % (n, pack) for n in range(200)] for pack in range(10)]
    ids = [write(objects, *each, b"in all") for each in blobs]
    shared = ids[0][-1]
    # A damaged copy in the first pack that is asked.
    craft(objects, (shared, blob(b"other")), *((object_id(b"blob", bytes([n])), blob(bytes([n]))) for n in range(250)))
    absent = object_id(b"blob", b"nowhere")
    with ObjectStore(objects) as store:
        # From the first search, which looks into each pack, to those that look into none.
        for number in range(200):
            for pack in range(10):
                oid = ids[pack][number]
                assert store.contains(oid)
                assert store.read(oid) == (b"blob", blobs[pack][number])
                assert store.size(oid) == len(blobs[pack][number])
            assert not store.contains(absent)
        assert store.read(shared) == (b"blob", b"in all")
        assert list(store.read_many([shared])) == [(shared, b"blob", b"in all")]
        every = [oid for each in ids for oid in each[:-1]]
        assert {data for _, _, data in store.read_many(every)} == {data for each in blobs for data in each}
        assert sorted(len(found) for _, found in store.by_pack(every)) == [200] * 10
        # One that comes later.
        (new,) = write(objects, b"new")
        assert not store.contains(new)
        assert store.read(new) == (b"blob", b"new")
        assert store.contains(new)
        with pytest.raises(ContentMissing):
            store.read(absent)


def test_deltas_are_applied_in_chains(objects: Path) -> None:
    data = [b"base " * 100]
    ids = [object_id(b"blob", data[0])]
    entries = [(ids[0], blob(data[0]))]
    for i in range(60):
        before = data[-1]
        size = len(before) + 2
        step = bytearray(number(len(before)) + number(size))
        step += b"\xb0" + len(before).to_bytes(2, "little") + b"\x02" + b"%02d" % i
        data.append(before + b"%02d" % i)
        oid = object_id(b"blob", data[-1])
        entries.append((oid, delta(ids[-1], bytes(step))))
        ids.append(oid)
    craft(objects, *entries)
    with ObjectStore(objects) as store:
        assert store.size(ids[-1]) == 620
        assert store.read(ids[-1]) == (b"blob", data[-1])
        assert {data for _, _, data in store.read_many(ids)} == set(data)


def number(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def copy(start: int, length: int) -> bytes:
    """The long form: every byte of both numbers."""
    return b"\xff" + start.to_bytes(4, "little") + length.to_bytes(3, "little")


def test_delta_copies_in_every_form() -> None:
    base = bytes(range(256)) * 300
    head = number(len(base))
    assert apply_delta(base, head + number(3) + b"\x90\x03") == base[:3]
    assert apply_delta(base, head + number(3) + b"\x91\x05\x03") == base[5:8]
    assert apply_delta(base, head + number(3) + b"\x93\x05\x01\x03") == base[261:264]
    assert apply_delta(base, head + number(256) + b"\xb1\x05\x00\x01") == base[5:261]
    assert apply_delta(base, head + number(256) + b"\xb3\x05\x01\x00\x01") == base[261:517]
    assert apply_delta(base, head + number(70_000) + copy(1, 70_000)) == base[1:70_001]
    # no size at all means 64 KiB
    assert apply_delta(base, head + number(65_536) + b"\x80") == base[:65_536]
    assert apply_delta(base, head + number(5) + b"\x02hi\x90\x03") == b"hi" + base[:3]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "middle"),
        (b"\x04\x01", "expects a base of 4"),
        (b"\x03" + number(1 << 40), "claims"),
        (b"\x03" + b"\x80" * 12, "malformed size"),
        (b"\x03\x03\x00", "unknown instruction"),
        (b"\x03\x03\x91\x01\x03", "beyond its base"),
        (b"\x03\x02\x90\x03", "too much"),
        (b"\x03\x04\x90\x03", "should make 4 bytes, it makes 3"),
        (b"\x03\x05\x05abc", "should make"),
        (b"\x03\x03\x91\x01", "middle"),
        (b"\x03\x03\xff\x01", "middle"),
    ],
)
def test_malformed_delta_is_corruption(data: bytes, message: str) -> None:
    with pytest.raises(CorruptionError, match=message):
        apply_delta(b"abc", data)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (entry(3, 2, zlib.compress(b"x")), "expected 2 bytes, found 1"),
        (entry(3, 1, zlib.compress(b"x" * 5_000_000)), "expected 1 bytes"),
        (entry(3, 1, zlib.compress(b"x")[:-3]), "expected 1 bytes|inflated"),
        (entry(3, 1, b"no deflate stream"), "cannot be inflated"),
        (entry(3, 1 << 40, zlib.compress(b"x")), "cannot hold"),
        (entry(3, 1 << 30, zlib.compress(b"x")), "cannot hold"),
        (b"\xff" * 40, "malformed header"),
        (b"\xff\xff", "malformed header"),
        (entry(5, 1, zlib.compress(b"x")), "unknown type 5"),
        (entry(7, 4, Y + zlib.compress(b"\x01\x01\x90\x01")), "base .* is not in the pack"),
        (entry(6, 4, b"\x05" + zlib.compress(b"\x01\x01\x90\x01")), "base lies outside"),
        (entry(6, 4, b"\x00" + zlib.compress(b"\x01\x01\x90\x01")), "base lies outside"),
        (entry(6, 4, b"\xff" * 30), "base lies outside"),
        (delta(X, b"\x01\x01\x90\x01"), "round in circles"),
    ],
)
def test_crafted_object_is_corruption(objects: Path, raw: bytes, message: str) -> None:
    craft(objects, (X, raw))
    with pytest.raises(CorruptionError, match=message):
        ObjectStore(objects).read(X)


def test_crafted_delta_is_corruption(objects: Path) -> None:
    craft(objects, (X, delta(Y, b"\x05")), (Y, blob(b"y")))
    with pytest.raises(CorruptionError, match="object at 12: delta ends"):
        ObjectStore(objects).read(X)
    with pytest.raises(CorruptionError, match="delta without sizes"):
        ObjectStore(objects).size(X)


def test_size_of_a_delta_that_cannot_be_inflated_is_corruption(objects: Path) -> None:
    craft(objects, (X, entry(7, 4, Y + b"no deflate stream")), (Y, blob(b"y")))
    with pytest.raises(CorruptionError, match="delta without sizes"):
        ObjectStore(objects).size(X)


def test_offset_outside_the_pack_is_corruption(objects: Path) -> None:
    craft(objects, (X, blob(b"x")), shift=1 << 33)
    with pytest.raises(CorruptionError, match="lies outside"):
        ObjectStore(objects).read(X)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: b"", "not a version 2 pack index"),
        (lambda data: b"\xfftOc\x00\x00\x00\x03" + data[8:], "not a version 2"),
        (lambda data: data[:-1], "do not fit"),
        (lambda data: data[:1032] + data[1052:], "do not fit"),
        (lambda data: data[:1028] + b"\xff" * 4 + data[1032:], "do not fit"),
        (lambda data: data[:8] + b"\xff" * 4 + data[12:], "do not fit"),
        (lambda data: data[:-44] + b"\x80\x00\x00\x07" + data[-40:], "beyond its table"),
        (lambda data: data[:-40] + bytes(40), "do not belong together"),
    ],
)
def test_damaged_index_is_corruption(objects: Path, change: Callable[[bytes], bytes], message: str) -> None:
    (oid,) = write(objects, b"x")
    damage(objects, ".idx", change)
    with pytest.raises(CorruptionError, match=message):
        ObjectStore(objects).read(oid)


def test_damaged_index_hides_only_its_own_pack(objects: Path) -> None:
    (x,) = write(objects, b"x")
    damage(objects, ".idx", lambda data: data[:-1])
    (y,) = write(objects, b"y")
    with ObjectStore(objects) as store:
        assert store.read(y) == (b"blob", b"y")
        assert [str(error).partition(": ")[2][:8] for error in store.damaged()] == ["size and"]
        assert not store.contains(x)
        with pytest.raises(CorruptionError, match="do not fit"):
            store.size(x)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: b"", "empty"),
        (lambda data: data[:20], "do not belong together"),
        (lambda data: data[:8] + b"\x00\x00\x00\x09" + data[12:], "do not belong together"),
        (lambda data: data[:14] + b"\x00\x00" + data[16:], "inflated|expected"),
    ],
)
def test_damaged_pack_is_corruption(objects: Path, change: Callable[[bytes], bytes], message: str) -> None:
    (oid,) = write(objects, b"some text that is long enough")
    damage(objects, ".pack", change)
    with pytest.raises(CorruptionError, match=message):
        ObjectStore(objects).read(oid)


def test_large_index_is_mapped(objects: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packreader, "_READ_INDEX", 1000)
    ids = write(objects, b"x", b"y")
    with ObjectStore(objects) as store:
        assert [store.read(oid)[1] for oid in ids] == [b"x", b"y"]


def test_offsets_over_2_gib_are_kept_in_the_index(tmp_path: Path) -> None:
    places = {X: 12 << 32 | 7, Y: 5 << 33 << 32 | 8}
    (tmp_path / "p.idx").write_bytes(encode_index(places, bytes(20)))
    pack = Pack(tmp_path / "p.idx")
    assert (pack.find(X), pack.find(Y)) == (12, 5 << 33)
    assert list(pack.ids()) == sorted([X, Y])
    pack.close()


@pytest.mark.skipif(sys.platform == "win32", reason="needs a file with holes")
def test_object_behind_4_gib_is_read(objects: Path) -> None:
    raw = blob(b"x")
    path = objects / "pack" / "pack-0.pack"
    with open(path, "wb") as file:
        file.write(b"PACK\x00\x00\x00\x02\x00\x00\x00\x01")
        file.seek(5 << 30)
        file.write(raw + bytes(20))
    path.with_suffix(".idx").write_bytes(encode_index({X: 5 << 30 << 32 | zlib.crc32(raw)}, bytes(20)))
    with ObjectStore(objects) as store:
        assert store.read(X) == (b"blob", b"x")
        assert store.stored_size(X) == len(raw)


def test_base_cache_keeps_to_its_limit() -> None:
    cache = BaseCache(1000)
    cache.put((0, 0), (b"blob", bytes(500)))
    assert cache.get((0, 0)) is None
    for i in range(20):
        cache.put((0, i), (b"blob", bytes(100)))
        cache.get((0, 0))
        cache.put((0, i), (b"blob", bytes(100)))
    assert [i for i in range(20) if cache.get((0, i))] == [0, *range(11, 20)]


def test_many_objects_of_a_pack_are_found_by_a_table_as_far_as_there_is_room(
    objects: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    oids = write(objects, *(b"%d" % number for number in range(200)))
    [index] = objects.glob("pack/*.idx")
    before = Pack(index)
    offsets = [before.find(oid) for oid in oids]
    for _ in range(2):
        # As often as one likes: what is closed gives its room back.
        monkeypatch.setattr(packreader, "_TABLES", sum(pack.count for pack in Pack._tabled) + 200)
        quick, slow = Pack(index), Pack(index)
        assert [quick.find(oid) for oid in oids] == offsets
        assert quick.find(bytes(20)) is None
        assert quick._table
        assert [slow.find(oid) for oid in oids] == offsets
        assert slow._table is None, "there was no room for a second one"
        assert sorted(quick.find_many([*oids, ObjectId(bytes(20))])) == sorted(zip(offsets, oids, strict=True))
        quick.close()
        assert [slow.find(oid) for oid in oids] == offsets
        assert slow._table
        slow.close()
    before.close()
