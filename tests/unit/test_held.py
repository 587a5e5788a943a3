"""Packs whose files go when they were read whole."""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from chunk_stores import content, open_store, packs, save

from gitvault.core.models import Pointer
from gitvault.core.storage import held
from gitvault.core.storage.held import HeldPack, Shelf
from gitvault.core.storage.packs import Pack, read_table
from gitvault.core.storage.store import ChunkStore
from gitvault.core.utils.files import Disk, FleetingDisk
from gitvault.errors import RemoteUnreachable


class Elsewhere:
    """Packs of a store, each asked for by its name."""

    def __init__(self, folder: Path, count: int) -> None:
        self.asked: Counter[str] = Counter()
        self.files: list[tuple[Pointer, bytes]] = []
        with open_store(folder) as store:
            for number in range(count):
                data = random.Random(number).randbytes(3_000_000)
                self.files.append((save(store, data), data))
                store.flush()
        self.packs = packs(folder)
        assert len(self.packs) == count

    def again(self, path: Path) -> Callable[[], bytes]:
        def get() -> bytes:
            self.asked[path.name] += 1
            return path.read_bytes()

        return get


def take(there: Elsewhere, folder: Path, store: ChunkStore, disk: Disk) -> dict[str, HeldPack]:
    """All packs, held by another store."""
    (folder / "aside").mkdir()
    shelf = Shelf(disk)
    found = {}
    for path in there.packs:
        table = read_table(path)
        mine = folder / "aside" / path.name
        shelf.store(mine, path.read_bytes)
        found[path.name] = HeldPack(mine, table, shelf, there.again(path))
        store.came(path.name, table, found[path.name])
    return found


def test_what_was_read_whole_goes_but_for_the_last_few_and_can_be_had_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = Elsewhere(tmp_path / "there", held._KEPT + 4)
    with open_store(tmp_path / "here") as store:
        take(there, tmp_path, store, FleetingDisk())
        for pointer, data in there.files:
            assert content(store, pointer) == data
        assert len(os.listdir(tmp_path / "aside")) == held._KEPT
        assert not there.asked
    # Each frame is decoded anew.
    monkeypatch.setattr("gitvault.core.storage.reader._CACHE_BYTES", 1)
    with open_store(tmp_path / "here2") as store:
        (tmp_path / "aside").rename(tmp_path / "aside1")
        take(there, tmp_path, store, FleetingDisk())
        for _ in range(3):
            for pointer, data in there.files:
                assert content(store, pointer) == data
        # What somebody wanted again stays.
        assert set(there.asked.values()) == {1}


def test_what_was_not_read_whole_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held, "_KEPT", 0)
    there = Elsewhere(tmp_path / "there", 2)
    with open_store(tmp_path / "here") as store:
        first, second = take(there, tmp_path, store, FleetingDisk()).values()
        frames = read_table(first.path).frames
        assert len(frames) > 1
        original = Pack(there.packs[0])
        for frame in frames[1:]:
            assert first.read(frame) == original.read(frame)
        assert first.path.exists()
        assert first.read(frames[0]) == original.read(frames[0])
        assert not first.path.exists()
        assert first.read(frames[0]) == original.read(frames[0])
        assert there.asked == {there.packs[0].name: 1}
        assert second.path.exists()


def test_the_index_made_anew_knows_packs_whose_files_are_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held, "_KEPT", 0)
    there = Elsewhere(tmp_path / "there", 3)
    with open_store(tmp_path / "here") as store:
        take(there, tmp_path, store, FleetingDisk())
        for pointer, data in there.files[:2]:
            assert content(store, pointer) == data
        assert len(os.listdir(tmp_path / "aside")) == 1
        store._index.refresh(force=True)
        store._index.rebuild()
        for pointer, data in there.files:
            assert content(store, pointer) == data


def test_an_index_that_is_lost_finds_what_is_still_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = Elsewhere(tmp_path / "there", 2)
    with open_store(tmp_path / "here") as store:
        first, _ = take(there, tmp_path, store, FleetingDisk()).values()
        # As after an error of its database.
        store._index._reset(None)
        for pointer, data in there.files:
            assert content(store, pointer) == data
        first.path.unlink()
        store._index._reset(None)
        assert store.known([chunk.id for chunk in read_table(there.packs[1]).chunks])
        assert not store.known([chunk.id for chunk in read_table(there.packs[0]).chunks])


def test_a_file_that_cannot_go_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held, "_KEPT", 0)

    class Held(FleetingDisk):
        def unlink(self, path: Path) -> None:
            raise PermissionError(13, "in use", str(path))

    there = Elsewhere(tmp_path / "there", 1)
    with open_store(tmp_path / "here") as store:
        take(there, tmp_path, store, Held())
        [(pointer, data)] = there.files
        assert content(store, pointer) == data
        assert content(store, pointer) == data
    assert not there.asked


def test_what_cannot_be_had_again_says_why(tmp_path: Path) -> None:
    there = Elsewhere(tmp_path / "there", 1)

    def gone() -> bytes:
        raise RemoteUnreachable("the cable")

    pack = HeldPack(tmp_path / "pack", table := read_table(there.packs[0]), Shelf(FleetingDisk()), gone)
    with pytest.raises(RemoteUnreachable, match="the cable"):
        pack.read(table.frames[0])
    assert not (tmp_path / "pack").exists()


def test_the_first_read_goes_first(tmp_path: Path) -> None:
    shelf = Shelf(FleetingDisk())
    names = [str(number) for number in range(held._KEPT + 2)]
    for name in names:
        shelf.store(tmp_path / name, lambda: b"pack")
    for name in names:
        shelf.let_go(tmp_path / name)
    assert {path.name for path in tmp_path.iterdir()} == set(names[2:])
