"""Chunks from one store into another: whole, as they are stored, bases first, from whatever copy is sound."""

from __future__ import annotations

import io
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gitvault.core.chunking import RollingHash
from gitvault.core.models import Pointer
from gitvault.core.storage import reader, transfer
from gitvault.core.storage.packs import Pack, read_table
from gitvault.core.storage.reader import ChunkReader
from gitvault.core.storage.store import ChunkStore
from gitvault.core.storage.transfer import Content, PackFolder, Transfer
from gitvault.errors import ContentMissing, CorruptionError

NOISE = random.Random(11)


def opened(folder: Path) -> ChunkStore:
    return ChunkStore(folder, cache=folder.with_name(f"{folder.name}-cache"), strategy=RollingHash(1024, 4096, 8192))


@pytest.fixture(autouse=True)
def same_noise() -> None:
    """Where chunks are cut must not depend on which tests ran before."""
    NOISE.seed(11)


@pytest.fixture
def source(tmp_path: Path) -> Iterator[ChunkStore]:
    with opened(tmp_path / "source") as store:
        yield store


@pytest.fixture
def target(tmp_path: Path) -> Iterator[ChunkStore]:
    with opened(tmp_path / "target") as store:
        yield store


def versions(store: ChunkStore, count: int, *, packs: bool) -> dict[Pointer, bytes]:
    """Versions of one file, each stored against the one before; `packs`: each in a pack of its own."""
    content = NOISE.randbytes(60_000)
    stored: dict[Pointer, bytes] = {}
    pointer = None
    for number in range(count):
        pointer = store.store_file(io.BytesIO(content), base=pointer)
        stored[pointer] = content
        at = 7_000 * number
        content = content[:at] + b"edit %d" % number + content[at + 3 :]
        if packs:
            store.flush()
    store.flush()
    return stored


def copy(source: ChunkStore, target: ChunkStore, pointers: list[Pointer]) -> PackFolder:
    packs = target.target()
    copying: Transfer = source.transfer_to(packs, lambda what, done, total: None)
    for pointer in pointers:
        source.copy_file(pointer, copying)
    copying.flush()
    return packs


def read(store: ChunkStore, pointer: Pointer) -> bytes:
    out = io.BytesIO()
    store.retrieve_file(pointer, out)
    return out.getvalue()


def tables(folder: Path) -> list[tuple[str, list[bytes]]]:
    return sorted((path.name, [chunk.id for chunk in read_table(path).chunks]) for path in folder.glob("*.zpk"))


@pytest.mark.parametrize("packs", [False, True])
def test_all_versions_arrive_as_small_as_they_are(
    packs: bool, source: ChunkStore, target: ChunkStore, tmp_path: Path
) -> None:
    stored = versions(source, 6, packs=packs)
    done = copy(source, target, list(reversed(stored)))
    assert {pointer: read(target, pointer) for pointer in stored} == stored
    assert target.verify(data=True).defects == ()
    assert done.bytes == sum(path.stat().st_size for path in (tmp_path / "target").glob("*.zpk"))
    assert done.bytes < 1.05 * sum(path.stat().st_size for path in (tmp_path / "source").glob("*.zpk"))
    assert copy(source, target, list(stored)).packs == 0


def test_the_newest_alone_brings_all_it_stands_on_and_no_more(source: ChunkStore, target: ChunkStore) -> None:
    stored = versions(source, 6, packs=True)
    other = source.store_file(io.BytesIO(NOISE.randbytes(50_000)))
    source.flush()
    *_, newest = stored
    copy(source, target, [newest])
    assert read(target, newest) == stored[newest]
    assert target.verify(data=True).defects == ()
    assert not target.has(other)


def test_each_pack_that_is_named_has_what_it_stands_on(
    source: ChunkStore, target: ChunkStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that is killed after any pack leaves only chunks that can be read."""
    monkeypatch.setattr(transfer, "PACK_SIZE", 200)
    stored = versions(source, 6, packs=True)
    checked = 0

    def prove(path: Path, *_: object) -> None:
        nonlocal checked
        checked += 1
        assert target.verify(data=True).defects == ()

    monkeypatch.setattr(transfer, "_prove", prove)
    copy(source, target, list(stored))
    assert checked > 4
    assert target.verify(data=True).defects == ()


def test_rounds_bound_what_is_planned(
    source: ChunkStore, target: ChunkStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(transfer, "_ROUND", 10_000)
    stored = versions(source, 6, packs=False)
    more = {source.store_file(io.BytesIO(data)): data for data in (NOISE.randbytes(20_000) for _ in range(5))}
    source.flush()
    assert copy(source, target, [*stored, *more]).packs > 3
    assert {pointer: read(target, pointer) for pointer in (*stored, *more)} == stored | more
    ids = [chunk for _, chunks in tables(tmp_path / "target") for chunk in chunks]
    assert len(ids) == len(set(ids))


def test_levels_stay_what_upkeep_made_them(source: ChunkStore, target: ChunkStore, tmp_path: Path) -> None:
    old = versions(source, 4, packs=True)
    assert source.repack(asked=True)
    new = versions(source, 2, packs=True)
    copy(source, target, [*old, *new])
    levels = {read_table(path).level for path in (tmp_path / "target").glob("*.zpk")}
    assert levels == {0, *(read_table(path).level for path in (tmp_path / "source").glob("*.zpk"))}
    assert len(levels) == 2
    assert target.verify(data=True).defects == ()


def test_a_damaged_frame_is_replaced_by_another_copy(source: ChunkStore, target: ChunkStore, tmp_path: Path) -> None:
    data = NOISE.randbytes(3_000)
    pointer = source.store_file(io.BytesIO(data))
    source.flush()
    [first] = (tmp_path / "source").glob("*.zpk")
    with opened(tmp_path / "other") as other:
        # The same chunk in a pack of another name: a second one is in it.
        other.store_file(io.BytesIO(data))
        other.store_file(io.BytesIO(NOISE.randbytes(3_000)))
        other.flush()
    [second] = (tmp_path / "other").glob("*.zpk")
    second.rename(first.with_name(second.name))
    [chunk] = [chunk for chunk, _ in source.chunks(pointer)][:1]
    for pack in (first, first.with_name(second.name)):
        place = source._reader.locate([chunk], ((pack, 0),))[chunk]
        assert place.pack.path != pack, "a frame is not read through one that stands on it"
    spoil(first)
    copy(source, target, [pointer])
    assert read(target, pointer) == data


def spoil(pack: Path) -> None:
    data = bytearray(pack.read_bytes())
    for frame in read_table(pack).frames:
        data[frame.offset + frame.stored // 2] ^= 1
    pack.write_bytes(data)


def test_damage_without_another_copy_is_told_and_the_rest_can_go_on(
    source: ChunkStore, target: ChunkStore, tmp_path: Path
) -> None:
    bad = source.store_file(io.BytesIO(NOISE.randbytes(3_000)))
    source.flush()
    listed = source.chunks(bad)
    [pack] = (tmp_path / "source").glob("*.zpk")
    spoil(pack)
    content = NOISE.randbytes(3_000)
    good = source.store_file(io.BytesIO(content))
    source.flush()
    packs = target.target()
    copying = source.transfer_to(packs, lambda what, done, total: None)
    copying.add(Content(bad.oid, (), [chunk for chunk, _ in listed]))
    with pytest.raises(CorruptionError):
        copying.flush()
    source.copy_file(good, copying)
    copying.flush()
    assert read(target, good) == content
    assert not target.has(bad)


def test_what_was_proven_when_it_was_stored_is_known_by_its_checksum(
    source: ChunkStore, target: ChunkStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = [NOISE.randbytes(1_000) for _ in range(3)]
    pointers = [source.store_file(io.BytesIO(data)) for data in content]
    source.flush()
    proven: list[Pack] = []
    check = reader._check
    monkeypatch.setattr(reader, "_check", lambda pack, *rest: (proven.append(pack), check(pack, *rest))[1])
    copy(source, target, pointers)
    assert not proven
    with opened(tmp_path / "second") as second:
        copy(target, second, pointers)
        assert not proven
        assert [read(second, pointer) for pointer in pointers] == content
    # What only the index knows is proven again without it.
    source._index.rebuild()
    with opened(tmp_path / "third") as third:
        copy(source, third, pointers)
        assert len(proven) == len(pointers)


def test_a_pack_that_upkeep_takes_away_is_looked_for_again(
    source: ChunkStore, target: ChunkStore, tmp_path: Path
) -> None:
    stored = versions(source, 3, packs=True)
    packs = target.target()
    copying = source.transfer_to(packs, lambda what, done, total: None)
    for pointer in stored:
        source.copy_file(pointer, copying)
    with opened(tmp_path / "source") as upkeep:
        assert upkeep.repack(asked=True)
    copying.flush()
    assert {pointer: read(target, pointer) for pointer in stored} == stored


def test_a_pack_that_is_always_gone_is_missing(
    source: ChunkStore, target: ChunkStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    [pointer] = versions(source, 1, packs=True)

    def gone(*_: object) -> bytes:
        raise FileNotFoundError(2, "gone", "x.zpk")

    monkeypatch.setattr(ChunkReader, "stored", gone)
    with pytest.raises(ContentMissing, match=r"x\.zpk: gone while it was copied; run again"):
        copy(source, target, [pointer])


def test_content_that_is_nowhere(source: ChunkStore, target: ChunkStore) -> None:
    packs = target.target()
    copying = source.transfer_to(packs, lambda what, done, total: None)
    [pointer] = versions(source, 1, packs=True)
    chunk, _ = source.chunks(pointer)[0]
    with pytest.raises(ContentMissing, match="in no pack"):
        copying.add(Content("0" * 64, (), [type(chunk)(b"\x01" * 32)]))
    copying.flush()
    assert packs.chunks == 0


def test_progress_is_told_in_bytes(source: ChunkStore, target: ChunkStore) -> None:
    said: list[tuple[str, int, int]] = []
    progress: Callable[[str, int, int], None] = lambda *words: said.append(words)  # noqa: E731
    copying = source.transfer_to(target.target(), progress)
    for pointer in versions(source, 2, packs=True):
        source.copy_file(pointer, copying)
    copying.flush()
    assert said[-1][0] == "copying"
    assert said[-1][1] == said[-1][2] > 50_000


def test_of_frames_that_stand_on_each_other_some_go_alone(source: ChunkStore, target: ChunkStore) -> None:
    stored = versions(source, 8, packs=True)
    copying = source.transfer_to(target.target(), lambda what, done, total: None, deepest=2)
    for pointer in stored:
        source.copy_file(pointer, copying)
    copying.flush()

    def deepest(store: ChunkStore) -> int:
        chunks = {chunk for pointer in stored for chunk, _ in store.chunks(pointer)}
        return max(store._reader.depth(place) for place in store._index.find(chunks).values())

    assert deepest(target) < deepest(source)
    for pointer, content in stored.items():
        read = io.BytesIO()
        target.retrieve_file(pointer, read)
        assert read.getvalue() == content
