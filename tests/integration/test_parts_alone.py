"""Each part works without a vault around it: the flows over a bare repository and a chunk store."""

from __future__ import annotations

import io
import os
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from gitvault.core.backup_engine.baseline import last_trees, prepare_cache
from gitvault.core.backup_engine.reading import Job, Limits, NotYet, Outcome, Reader
from gitvault.core.backup_engine.restore import restore_snapshot
from gitvault.core.backup_engine.snapshot import take_snapshot
from gitvault.core.backup_engine.stats import storage_stats
from gitvault.core.backup_engine.status import Places, path_state
from gitvault.core.backup_engine.trees import Alone, Attachment, Done, Stored, Trees, Walked, attach, build_trees
from gitvault.core.backup_engine.verify import verify
from gitvault.core.chunking import AssetAware
from gitvault.core.models import ChunkId, Filter, ObjectId, Project, SnapshotReport
from gitvault.core.patterns import Patterns
from gitvault.core.stat_cache import Row, StatCache, stat_of
from gitvault.core.storage.appender import PackAppender
from gitvault.core.storage.index import ChunkIndex, Place
from gitvault.core.storage.reader import ChunkReader
from gitvault.core.storage.store import ChunkStore
from gitvault.core.utils.files import Disk
from gitvault.core.versioning import catalog
from gitvault.core.versioning.contents import ATTACHED, attached, listing
from gitvault.core.versioning.difference import ReadTree, compare
from gitvault.core.versioning.history import HEADS, META, NO_OBJECT, Details, GitHistory, Recorded, raw
from gitvault.core.versioning.packfile import PackWriter
from gitvault.errors import NotFoundError, StorageFullError, VaultNotFound
from gitvault.vault import Vault, is_vault

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
LIMITS = Limits(inline=1000, whole=1 << 20)


@dataclass
class _With(Alone):
    """Whatever a test attaches."""

    attached: Sequence[tuple[bytes, bytes]]

    def attachments(self, walked: Walked) -> Sequence[tuple[bytes, bytes]]:
        return self.attached


class Parts:
    """A bare repository that stock git made, a chunk store beside it, a cache."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        subprocess.run(["git", "init", "-q", "--bare", folder / "repo.git"], check=True)
        self.history = GitHistory(folder / "repo.git", now=lambda: NOW)
        self.store = ChunkStore(folder / "chunks", cache=folder / "cache", strategy=AssetAware())
        (folder / "cache").mkdir(exist_ok=True)
        self.cache = StatCache(folder / "cache" / "stat.db")
        self.rules = Patterns()

    def save(self, root: Path, attached: Sequence[tuple[bytes, bytes]] = ()) -> SnapshotReport:
        return take_snapshot(
            root,
            Details("acme", "", NOW, 0, 0),
            history=self.history,
            store=self.store,
            cache=self.cache,
            rules=self.rules,
            limits=LIMITS,
            company=_With(attached),
        )


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[Parts]:
    made = Parts(tmp_path)
    yield made
    made.history.close()
    made.store.close()
    made.cache.close()


@pytest.fixture
def project(tmp_path: Path) -> Path:
    root = tmp_path / "acme"
    (root / "src").mkdir(parents=True)
    (root / "src" / "main.c").write_text("int main(void) { return 0; }\n")
    (root / "art.raw").write_bytes(bytes(range(256)) * 100)
    return root


def test_the_flows_need_no_vault(parts: Parts, project: Path, tmp_path: Path) -> None:
    first = parts.save(project)
    assert (first.files, first.new, first.problems) == (2, 2, ())
    assert parts.save(project).unchanged
    (project / "src" / "main.c").write_text("int main(void) { return 1; }\n")
    second = parts.save(project)
    assert (second.changed, second.new) == (1, 0)
    restore_snapshot(first.snapshot, tmp_path / "out", history=parts.history, store=parts.store)
    assert (tmp_path / "out" / "src" / "main.c").read_text() == "int main(void) { return 0; }\n"
    assert (tmp_path / "out" / "art.raw").read_bytes() == bytes(range(256)) * 100
    report = verify(parts.history, parts.store, data=True)
    assert report.ok
    assert report.bytes_checked > 25_600


def test_a_tree_of_attachments(parts: Parts) -> None:
    pack = parts.history.new_pack()
    assert attach(parts.history, pack, []) is None
    blob = pack.add(b"blob", b"held")
    whole: list[Attachment] = [(b"0/a", b"new"), (b"0/b", Stored(blob)), (b"top", b"new")]
    tree = attach(parts.history, pack, whole)
    made = pack.finish()
    assert made is not None
    parts.history.publish([made])
    assert sorted(parts.history.tree(tree)) == [b"0", b"top"]
    assert parts.history.tree(parts.history.tree(tree)[b"0"][1])[b"b"][1] == blob


def test_what_is_attached_belongs_to_the_snapshot_and_is_no_file(parts: Parts, project: Path, tmp_path: Path) -> None:
    plain = parts.save(project)
    first = parts.save(project, [(b"0/record", b"one"), (b"0/bundle", b"pack"), (b"index", b"0")])
    assert (first.unchanged, first.files, first.new) == (False, 2, 0)
    held = subprocess.check_output(
        ["git", "--git-dir", parts.history.git_dir, "show", f"{first.snapshot}:{ATTACHED.decode()}/0/record"]
    )
    assert held == b"one"
    assert parts.save(project, [(b"0/record", b"one"), (b"0/bundle", b"pack"), (b"index", b"0")]).unchanged
    second = parts.save(project, [(b"0/record", b"two")])
    assert not second.unchanged
    assert [entry.path for entry in parts.history.entries(second.snapshot)] == [b"art.raw", b"src", b"src/main.c"]
    assert attached(parts.history, parts.history.trees(plain.snapshot)[0]) is None
    restore_snapshot(second.snapshot, tmp_path / "out", history=parts.history, store=parts.store)
    assert sorted(os.listdir(tmp_path / "out")) == ["art.raw", "src"]
    assert parts.save(project).snapshot not in (first.snapshot, second.snapshot)
    assert verify(parts.history, parts.store, data=True).ok


def test_trees_are_built_from_what_a_walk_leaves(parts: Parts) -> None:
    pack = parts.history.new_pack()
    blob, text = pack.add(b"blob", b"content"), pack.add(b"blob", b"gitvault-meta 1\n")
    folders = [
        Done(b"", [b"sub", b"old"], None, meta_blob=text),
        Done(b"sub", [], None, [(b"file", 0o100644, blob)], text, files=1, size=7),
    ]
    old = Row(b"", b"", pack.add(b"tree", b""), text, text, 3, 9)
    made: Trees = build_trees(parts.history, pack, parts.cache, folders, {b"old": old}, None)
    assert (made.files, made.size, [path for path, _, _ in made.rows]) == (1, 7, [b"sub", b""])
    built = pack.finish()
    assert built is not None
    parts.history.publish([built])
    assert sorted(parts.history.tree(made.tree)) == [b"old", b"sub"]


def test_statistics_count_each_content_once(parts: Parts, project: Path) -> None:
    (project / "copy.raw").write_bytes((project / "art.raw").read_bytes())
    parts.save(project)
    stats = storage_stats(parts.history, parts.store, 1, 1000)
    kinds = {kind.kind: kind for kind in stats.kinds}
    assert stats.logical_bytes == 2 * 25_600 + 29
    assert stats.unique_bytes == 25_600 + 29
    assert stats.ratio == pytest.approx((2 * 25_600 + 29) / 1000)
    assert kinds["image"].files == 1
    assert kinds["image"].stored < 2000
    assert kinds["code"].bytes == 29


def test_a_lost_cache_is_made_again_from_the_trees(parts: Parts, project: Path) -> None:
    first = parts.save(project)
    parent = raw(first.snapshot)
    trees = last_trees(parts.history, parent)
    assert trees is not None
    assert last_trees(parts.history, None) is None
    assert last_trees(parts.history, ObjectId(b"\1" * 20)) is None
    parts.cache.clear()
    assert prepare_cache(parts.cache, parts.history, parent, project) == 1
    row = parts.cache.row(b"src")
    assert row is not None
    assert (row.signature, row.files) == (b"", 1)
    assert parts.cache.entries(b"src")[b"main.c"].blob == parts.history.blob_at(
        parts.history.commit(parent), b"src/main.c"
    )
    again = parts.save(project)
    assert again.unchanged
    assert again.bytes_read == first.bytes_read


def test_status_of_a_path_needs_only_the_parts(parts: Parts, project: Path) -> None:
    first = parts.save(project)
    here = [Project("acme", os.path.realpath(project), "here", NOW)]
    places = Places(
        parts.history, lambda name: StatCache(parts.folder / "cache" / "stat.db"), lambda _: parts.rules, here, NOW
    )
    state = path_state(places, str(project / "src" / "main.c"), False)
    assert (state.state, state.snapshot) == ("saved", first.snapshot)
    assert path_state(places, str(project.parent / "elsewhere"), False).state == "unknown"


def test_a_reader_saves_one_file_into_a_pack(parts: Parts, project: Path, tmp_path: Path) -> None:
    pack = PackWriter(tmp_path, Disk())
    reader = Reader(str(project), LIMITS, pack, None, 1)
    found = stat_of((project / "src" / "main.c").lstat())
    # It was written just now, so that its stat cannot be relied on yet.
    assert isinstance(reader.read(Job(b"src/main.c", found, (0, 0))), NotYet)
    outcome = reader.read(Job(b"src/main.c", found, (0, 0), attempt=3))
    assert isinstance(outcome, Outcome)
    assert subprocess.check_output(["git", "hash-object", project / "src" / "main.c"]).decode().strip() == (
        outcome.blob.hex()
    )
    assert reader.read(Job(b"art.raw", stat_of((project / "art.raw").lstat()), (0, 0))) == Outcome(large=True)
    assert reader.read(Job(b"nothing", found, (0, 0))) == Outcome(gone=True)
    assert reader.read(Job(b"src", found, (0, 0))) == Outcome(problem="cannot be read: Is a directory")
    pack.abandon()


def test_records_and_chains_are_plain_refs(parts: Parts, project: Path) -> None:
    catalog.save(parts.history, [Project("acme", "/x/\udcff", "here", NOW)], "Add acme")
    assert catalog.load(parts.history) == [Project("acme", "/x/\udcff", "here", NOW)]
    git = ["git", f"--git-dir={parts.history.git_dir}"]
    shown = subprocess.check_output([*git, "show", f"{catalog.REF}:{catalog.FILE.decode()}"])
    assert shown.count(b"\n") == 1
    parts.history.write_file("refs/vault/notes", b"a", b"1", "one")
    parts.history.write_file("refs/vault/notes", b"b", b"2", "two")
    assert parts.history.read_file("refs/vault/notes", b"a") == b"1"
    tip = parts.history.refs.read("refs/vault/notes")
    assert tip is not None
    assert len(list(parts.history.chain(tip))) == 2
    first = parts.save(project)
    parts.history.sync_tip("acme")
    refs = parts.history.refs.list()
    assert refs[HEADS + "acme"] == raw(first.snapshot)
    assert META + "acme" in refs


def test_a_folder_lists_what_git_and_the_meta_chain_know(parts: Parts, project: Path) -> None:
    (project / "empty").mkdir()
    first = parts.save(project)
    own, found = listing(parts.history, *parts.history.trees(first.snapshot))
    assert own is not None
    assert own.kind == "folder"
    assert [(entry.path, entry.kind) for entry, _, _ in found] == [
        (b"art.raw", "file"),
        (b"empty", "folder"),
        (b"src", "folder"),
    ]
    assert found[1][0].blob == NO_OBJECT
    assert found[0][0].pointer is not None


def test_a_recorded_snapshot_shows_only_when_its_refs_move(parts: Parts) -> None:
    pack = parts.history.new_pack()
    tree = pack.add(b"tree", b"")
    recorded = parts.history.record(pack, tree, tree, Details("acme", "one", NOW, 0, 0))
    assert isinstance(recorded, Recorded)
    made = pack.finish()
    assert made is not None
    parts.history.publish([made])
    assert parts.history.filtered(Filter()) == []
    parts.history.advance(recorded)
    assert [s.message for s in parts.history.filtered(Filter(limit=1))] == ["one"]


def test_trees_are_compared_through_any_reader() -> None:
    trees = {ObjectId(b"1" * 20): {b"a": (0o100644, ObjectId(b"x" * 20))}, ObjectId(b"2" * 20): {}}
    read: ReadTree = lambda oid: trees[oid] if oid else {}  # noqa: E731 - the name says what it is
    found = compare(read, ObjectId(b"1" * 20), ObjectId(b"2" * 20))
    assert (found.deleted, found.added) == ((b"a",), ())


def test_an_appender_gives_each_chunk_to_one_caller(tmp_path: Path) -> None:
    index = ChunkIndex(tmp_path, None, Disk())
    appender = PackAppender(tmp_path, index, Disk(), 3)
    one, two = ChunkId(b"1" * 32), ChunkId(b"2" * 32)
    assert appender.claim([one]) == ({one}, set())
    assert appender.claim([one, two]) == ({two}, {one})
    appender.give_up([one, two], StorageFullError("full"))
    with pytest.raises(StorageFullError):
        appender.wait_for({one})
    appender.discard()
    assert appender.unpublished() == (0, 0, 0)
    appender.close()
    index.close()


def test_a_chunk_reader_finds_what_a_store_wrote(parts: Parts) -> None:
    pointer = parts.store.store_file(io.BytesIO(b"content" * 1000))
    parts.store.flush()
    index = ChunkIndex(parts.folder / "chunks", None, Disk())
    reader = ChunkReader(parts.folder / "chunks", index, Disk())
    chunk = parts.store.chunks(pointer)[0][0]
    place = index.find([chunk])[chunk]
    assert isinstance(place, Place)
    assert bytes(reader.read([chunk])[0]) == b"content" * 1000
    assert reader.check_frame(place.pack, place.frame, []) == []
    reader.forget()
    with pytest.raises(NotFoundError):
        reader.read([ChunkId(bytes(32))])
    reader.close()
    index.close()


def test_only_a_vault_is_one(vault: Vault, parts: Parts) -> None:
    with pytest.raises(VaultNotFound, match=r"not a vault; make one with: git-vault --vault .* init"):
        Vault.open(parts.history.git_dir)
    assert is_vault(vault.path)
    assert not is_vault(parts.history.git_dir)
    assert not is_vault(parts.folder / "nothing")
