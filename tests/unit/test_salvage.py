"""What can be had from damaged packs, of git and of chunks, when nothing but objects' own hashes can be believed."""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Iterable
from pathlib import Path

import pytest
from trees import write

from gitvault import config
from gitvault.core.backup_engine.rejoin import Chains
from gitvault.core.chunking import AssetAware
from gitvault.core.models import ChunkId, ObjectId
from gitvault.core.storage.index import ChunkIndex
from gitvault.core.storage.packs import read_table
from gitvault.core.storage.reader import ChunkReader
from gitvault.core.storage.repack import due
from gitvault.core.storage.salvage import Help, Said, add_chunks, packs_in
from gitvault.core.storage.salvage import is_sound as is_sound_store_pack
from gitvault.core.storage.store import ChunkStore
from gitvault.core.utils.files import Disk, copy_file, set_aside
from gitvault.core.versioning.history import GitHistory
from gitvault.core.versioning.objects import object_id
from gitvault.core.versioning.odb import ObjectStore
from gitvault.core.versioning.salvage import (
    all_commits,
    fetch,
    fits,
    from_store,
    is_sound,
    make_index,
    newest,
    project_of,
    readable,
)
from gitvault.errors import UnsupportedFormatVersion
from gitvault.vault import Vault

NOISE = random.Random(9).randbytes(400_000)
QUIET: Said = lambda kind, name, how: None  # noqa: E731


# -- git ---------------------------------------------------------------------------------------------


@pytest.fixture
def history(vault: Vault, tmp_path: Path) -> GitHistory:
    """Two versions in one pack without deltas each, and then as git packs them."""
    for version in range(2):
        write(tmp_path / "acme", {f"f{n}": b"text %d %d\n" % (n, version) * 40 for n in range(60)})
        vault.create_snapshot(tmp_path / "acme")
    vault.maintain()
    return vault.history


def the_pack(history: GitHistory) -> Path:
    (found,) = (history.git_dir / "objects" / "pack").glob("*.pack")
    return found


def ids(pack: Path, index: Path, temporary: Path) -> set[ObjectId]:
    return {object_id(kind, data) for kind, data in readable(pack, index, temporary, Disk())}


def test_soundness(history: GitHistory, tmp_path: Path) -> None:
    pack = the_pack(history)
    index = pack.with_suffix(".idx")
    assert is_sound(pack) and fits(index, pack)
    assert make_index(pack, tmp_path / "new.idx") == index.read_bytes()
    assert not is_sound(tmp_path / "missing.pack") and not fits(tmp_path / "missing.idx", pack)
    (tmp_path / "short.pack").write_bytes(b"PACK")
    assert not is_sound(tmp_path / "short.pack")


@pytest.mark.parametrize("lost", ["neither", "index", "half the index", "both are hurt"])
def test_all_but_what_is_damaged_is_read(history: GitHistory, tmp_path: Path, lost: str) -> None:
    pack, index = tmp_path / "x.pack", tmp_path / "x.idx"
    copy_file(the_pack(history), pack, Disk())
    copy_file(the_pack(history).with_suffix(".idx"), index, Disk())
    every = ids(pack, index, tmp_path / "tmp.idx")
    assert len(every) > 120
    data = bytearray(pack.read_bytes())
    data[len(data) // 2] ^= 0x55
    pack.write_bytes(data)
    if lost == "index":
        index.unlink()
    elif lost == "half the index":
        os.truncate(index, index.stat().st_size // 2)
    elif lost == "both are hurt":
        content = bytearray(index.read_bytes())
        content[-500:-300] = bytes(200)
        index.write_bytes(content)
    left = ids(pack, index, tmp_path / "tmp.idx") & every
    # One object, and the few that are deltas of it.
    assert len(every) - 12 <= len(left) < len(every)


def test_nothing_is_read_from_nothing(tmp_path: Path) -> None:
    (tmp_path / "x.pack").write_bytes(b"")
    assert ids(tmp_path / "x.pack", tmp_path / "x.idx", tmp_path / "tmp.idx") == set()
    (tmp_path / "x.pack").write_bytes(NOISE)
    assert ids(tmp_path / "x.pack", tmp_path / "x.idx", tmp_path / "tmp.idx") == set()


def test_missing_objects_come_with_all_that_is_missing_below_them(history: GitHistory, tmp_path: Path) -> None:
    with Vault.create(tmp_path / "empty.git") as empty, ObjectStore(history.git_dir / "objects") as source:
        tip = history.tip("acme")
        assert tip
        wrong = from_store(empty.history.objects)
        got = fetch(empty.history, [tip, ObjectId(bytes(20))], [wrong, from_store(source)])
        assert set(got.values()) == {1}
        every = ids(the_pack(history), the_pack(history).with_suffix(".idx"), tmp_path / "tmp.idx")
        # All but the catalog's.
        assert got.keys() <= every and len(got) >= len(every) - 5
        assert empty.history.commit(tip) == history.commit(tip)
        assert fetch(empty.history, [ObjectId(bytes(20))], [from_store(source)]) == {}


def test_commits_are_found_without_refs(history: GitHistory) -> None:
    tip = history.tip("acme")
    assert tip
    found = all_commits(history.objects, history.git_dir / "objects" / "pack")
    mine = {oid: commit for oid, commit in found.items() if project_of(commit) == "acme"}
    assert set(mine) == set(history.chain(tip))
    assert newest(mine) == tip
    assert newest({}) is None
    assert {project_of(commit) for commit in found.values()} == {"acme", None}


def test_a_project_without_its_branch(history: GitHistory) -> None:
    assert history.headless() == {}
    history.refs.delete("refs/heads/acme")
    assert history.headless().keys() == {"acme"}


def test_sound_refs_and_chains_stay_as_they_are(history: GitHistory) -> None:
    before = history.refs.list()
    chains = Chains(history, [], QUIET, Disk())
    chains.mend_refs()
    chains.mend_chains()
    assert history.refs.list() == before and chains.lost == []
    assert chains.snapshots.keys() == {"acme"} and len(chains.commits) > 2


# -- chunks ------------------------------------------------------------------------------------------


def open_store(folder: Path) -> ChunkStore:
    return ChunkStore(folder / "chunks", cache=folder / "cache", strategy=AssetAware(), threads=2)


def filled(folder: Path, *contents: bytes) -> list[Path]:
    with open_store(folder) as store:
        for data in contents:
            (folder / "source").write_bytes(data)
            store.store_file(folder / "source")
            store.flush()
    return packs_in(folder / "chunks")


def no_help(folder: Path, chunks: Iterable[tuple[bytes, str]] = ()) -> Help:
    aside = folder / "aside"
    return Help(lambda path: "", lambda wanted: chunks, lambda path: set_aside(path, aside, Disk()))


def test_a_file_is_cut_as_it_is_stored(tmp_path: Path) -> None:
    big = NOISE * 45
    (tmp_path / "big").write_bytes(big)
    with open_store(tmp_path) as store:
        pieces = list(store.cut(tmp_path / "big"))
        assert b"".join(pieces) == big
        pointer = store.store_file(tmp_path / "big")
        assert [hashlib.sha256(piece).digest() for piece in pieces] == [chunk for chunk, _ in store.chunks(pointer)]
        (tmp_path / "none").write_bytes(b"")
        assert list(store.cut(tmp_path / "none")) == []


def test_a_pack_without_its_table_gives_what_the_index_remembers(tmp_path: Path) -> None:
    """Also when readers have doubted the index in between."""
    (pack,) = filled(tmp_path, NOISE)
    table = read_table(pack)
    os.truncate(pack, table.frames[-1].offset)
    with open_store(tmp_path) as store:
        store._index.rebuild()
        store._index.rebuild()
        remembered = store._index.table(pack.name)
        assert (remembered.frames, remembered.manifests) == (table.frames, table.manifests)
        store.salvage(no_help(tmp_path), QUIET)
        assert store._index.table("0" * 64 + ".zpk").frames == []
        left = {chunk.id for path in packs_in(tmp_path / "chunks") for chunk in read_table(path).chunks}
    assert left == {chunk.id for chunk in table.chunks if chunk.frame != table.frames[-1].number}
    assert [path.name for path in (tmp_path / "aside").iterdir()] == [pack.name]


def test_a_pack_of_a_newer_format_is_not_set_aside(tmp_path: Path) -> None:
    (pack,) = filled(tmp_path, NOISE[:1000])
    data = pack.read_bytes()
    pack.write_bytes(data.replace(b"gitvault pack 1", b"gitvault pack 3", 1))
    with open_store(tmp_path) as store, pytest.raises(UnsupportedFormatVersion):
        store.salvage(no_help(tmp_path), QUIET)
    assert pack.exists()

    def whole(path: Path) -> str:
        path.write_bytes(data)
        return "a copy"

    said: list[tuple[str, str, str]] = []
    with open_store(tmp_path) as store:
        help_ = Help(whole, lambda wanted: (), lambda path: None)
        store.salvage(help_, lambda *words: said.append(words))
    assert said == [("pack", pack.name, "a copy")]


def test_chunks_are_added_once_and_only_the_wanted(tmp_path: Path) -> None:
    one, other = NOISE[:500], NOISE[500:900]
    wanted = {ChunkId(hashlib.sha256(one).digest()), ChunkId(bytes(32))}
    given = [(one, "here"), (one, "there"), (other, "junk")]
    (tmp_path / "chunks").mkdir()
    assert add_chunks(tmp_path / "chunks", wanted, Disk(), no_help(tmp_path, given), QUIET) == 1
    with open_store(tmp_path) as store:
        assert store.retrieve_chunk(ChunkId(hashlib.sha256(one).digest())) == one
        assert store.add_chunks(set(), no_help(tmp_path, given), QUIET) == 0
    (pack,) = packs_in(tmp_path / "chunks")
    assert len(read_table(pack).chunks) == 1
    index = ChunkIndex(tmp_path / "chunks", None, Disk())
    assert is_sound_store_pack(pack, ChunkReader(tmp_path / "chunks", index, Disk()))
    index.close()


def test_damaged_packs_do_not_start_upkeep_again_and_again(tmp_path: Path) -> None:
    packs = filled(tmp_path, *(NOISE[n * 2000 : n * 2000 + 1500] for n in range(17)))
    for pack in packs:
        data = bytearray(pack.read_bytes())
        data[100] ^= 1
        pack.write_bytes(data)
    with open_store(tmp_path) as store:
        assert store.repack_due()
        report = store.repack(asked=False)
        assert report and len(report.damaged) == 17
        assert store._index.damaged() == set(report.damaged)
        assert not store.repack_due() and not due(store._index, asked=False)
        assert due(store._index, asked=True)
        store._index.note_damaged([])
    with open_store(tmp_path) as store:
        assert not store.repack_due()


# -- files and settings ------------------------------------------------------------------------------


def test_what_is_set_aside_takes_no_other_files_place(tmp_path: Path) -> None:
    for number in (1, 2):
        (tmp_path / "a").write_bytes(b"%d" % number)
        set_aside(tmp_path / "a", tmp_path / "aside", Disk())
    set_aside(tmp_path / "a", tmp_path / "aside", Disk())
    assert {path.name: path.read_bytes() for path in (tmp_path / "aside").iterdir()} == {"a": b"1", "a.2": b"2"}


@pytest.mark.parametrize(
    ("name", "value", "known"),
    [("avgChunk", "64k", True), ("avgchunk", "lots", False), ("bzre", "true", False), ("formatVersion", "1", False)],
)
def test_which_lines_are_settings(name: str, value: str, known: bool) -> None:
    assert config.is_setting(name, value) is known
