"""Operations: all refs move or none, whatever happens on the way; the record says what did."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from disks import CountedDisk
from trees import contents, write

from gitvault.core.backup_engine.retention import Retention
from gitvault.core.models import ObjectId, SnapshotId
from gitvault.core.utils.files import Disk
from gitvault.core.versioning import operations
from gitvault.core.versioning.history import GitHistory
from gitvault.core.versioning.objects import EMPTY_TREE, Commit
from gitvault.core.versioning.operations import PENDING, UNDO, Operation, RefMove
from gitvault.core.versioning.refs import RefStore
from gitvault.core.versioning.rewrite import Change, Content, Rewrite, unchanged
from gitvault.errors import CorruptionError, LockedError, StorageFullError
from gitvault.vault import Vault

NOW = datetime(2024, 3, 10, 12, 0, tzinfo=UTC)
A, B, C = (ObjectId(letter * 20) for letter in (b"a", b"b", b"c"))


class Killed(BaseException):
    """What a killed process would not live to see."""


class DyingDisk(CountedDisk):
    """Does the first `left` operations and nothing ever after."""

    def __init__(self, left: int, error: BaseException) -> None:
        self.left = left
        self.error = error
        self.done = 0

    def count(self) -> None:
        self.done += 1
        if self.done > self.left:
            raise self.error

    def unlink(self, path: Path) -> None:
        self.count()
        super().unlink(path)


def refs_of(path: Path) -> dict[str, ObjectId]:
    return RefStore(path, Disk()).list()


def git(path: Path, *words: str) -> None:
    subprocess.run(["git", f"--git-dir={path}", *words], capture_output=True, check=True)


def reopen(path: Path, disk: Disk | None = None) -> Vault:
    for lock in path.glob("**/*.lock"):
        # git's locks of single refs are not what is looked at here.
        if lock.name != "vault.lock":
            lock.unlink()
    return Vault.open(path, now=lambda: NOW, disk=disk)


@pytest.fixture
def stage(tmp_path: Path, vault: Vault) -> tuple[Path, list[SnapshotId]]:
    """A vault with two projects, four snapshots of one, a tag, a note and a packed ref."""
    vault.create_snapshot(write(tmp_path / "other", {"b": b"other", "key.pem": b"1"}))
    taken = []
    for number in range(4):
        folder = write(tmp_path / "acme", {"a": b"%d" % number, "key.pem": b"secret"})
        taken.append(vault.create_snapshot(folder).snapshot)
    git(vault.path, "notes", "add", "-m", "n", taken[2])
    git(vault.path, "tag", "-a", "-m", "t", "acme/gone", taken[0])
    git(vault.path, "pack-refs", "--all")
    git(vault.path, "tag", "-a", "-m", "t", "acme/stays", taken[3])
    vault.close()
    return vault.path, taken


def prune(vault: Vault) -> None:
    vault.prune(Retention(last=2), yes=True)


def forget(vault: Vault) -> None:
    vault.forget(["*.pem"], yes=True)


def undo(vault: Vault) -> None:
    vault.undo()


def rename(vault: Vault) -> None:
    vault.rename_project("acme", "beta")


@pytest.mark.parametrize(
    ("first", "work"), [(None, prune), (prune, undo), (prune, forget), (None, rename), (rename, undo)]
)
def test_killed_anywhere_it_is_all_or_nothing(
    stage: tuple[Path, list[SnapshotId]],
    tmp_path: Path,
    first: Callable[[Vault], None] | None,
    work: Callable[[Vault], None],
    request: pytest.FixtureRequest,
) -> None:
    """Every operation of the disk with --deep, else eight of them."""
    deep = request.config.getoption("--deep")
    source = stage[0]
    if first:
        with reopen(source) as vault:
            first(vault)
    whole = tmp_path / "whole.git"
    shutil.copytree(source, whole)
    old = refs_of(whole)
    disk = DyingDisk(10**9, Killed())
    with reopen(whole, disk) as vault:
        work(vault)
    new = refs_of(whole)
    assert old != new
    assert not (whole / PENDING).exists()
    outcomes = []
    pending: list[Path] = []
    for left in range(0, disk.done, 1 if deep else disk.done // 8):
        path = tmp_path / f"{left}.git"
        shutil.copytree(source, path)
        with pytest.raises(Killed), reopen(path, DyingDisk(left, Killed())) as vault:
            work(vault)
        if (path / PENDING).exists():
            shutil.copytree(path, tmp_path / f"pending{left}.git")
            pending.append(tmp_path / f"pending{left}.git")
        reopen(path).close()
        found = refs_of(path)
        assert found in (old, new), left
        outcomes.append(found == new)
        assert not (path / PENDING).exists()
        shutil.rmtree(path)
    assert len(pending) > (4 if deep else 1)
    # Once it is done, it stays so: nothing that was decided is undecided later.
    assert outcomes == sorted(outcomes)
    # Killed again while it is completed, and again.
    path = pending[len(pending) // 2]
    for left in range(0, 200, 3 if deep else 20):
        try:
            vault = reopen(path, DyingDisk(left, Killed()))
        except Killed:
            continue
        vault.close()
        break
    else:
        pytest.fail("never completed")
    reopen(path).close()
    assert refs_of(path) == new
    with reopen(path) as vault:
        assert vault.verify(data=True).ok
        assert vault.create_snapshot(tmp_path / "acme").problems == ()
    git(path, "fsck", "--strict")


def test_a_full_disk_is_no_half_operation(stage: tuple[Path, list[SnapshotId]], tmp_path: Path) -> None:
    """The error is told, and the vault is as it was or goes on when there is room again."""
    path, taken = stage
    old = refs_of(path)
    for left in range(0, 30, 4):
        with reopen(path, DyingDisk(left, StorageFullError("full"))) as vault:
            with pytest.raises(StorageFullError):
                prune(vault)
            # Whoever reads is not kept from it.
            assert len(vault.list_snapshots()) in (5, 3)
        if (path / PENDING).exists():
            break
        assert refs_of(path) == old
    else:
        pytest.fail("the refs never began to move")
    with Vault.open(path, disk=DyingDisk(0, OSError("dead"))) as vault:
        assert vault.restore_snapshot(taken[3], tmp_path / "back").problems == ()
    assert contents(tmp_path / "back") == {b"a": b"3", b"key.pem": b"secret"}
    with reopen(path) as vault:
        assert len(vault.list_snapshots()) == 3


def test_a_reader_waits_for_nobody(stage: tuple[Path, list[SnapshotId]]) -> None:
    """The lock is held: who opens the vault reads on, and completes nothing."""
    path, _ = stage
    with reopen(path) as writer, writer._lock("a long run"):
        (path / PENDING).write_text(json.dumps({"number": 1, "refs": [], "what": "prune"}))
        with Vault.open(path) as reader:
            assert len(reader.list_snapshots()) == 5
        assert (path / PENDING).exists()
    reopen(path).close()
    assert not (path / PENDING).exists()


# -- the pending file ----------------------------------------------------------------------------


@pytest.fixture
def bare(tmp_path: Path) -> tuple[Path, RefStore]:
    (tmp_path / "refs" / "heads").mkdir(parents=True)
    (tmp_path / "HEAD").write_text("ref: refs/heads/main\n")
    return tmp_path, RefStore(tmp_path, Disk())


def pend(path: Path, *moves: tuple[str, ObjectId | None, ObjectId | None]) -> None:
    refs = [{"ref": ref, "old": old and old.hex(), "new": new and new.hex()} for ref, old, new in moves]
    (path / PENDING).write_text(json.dumps({"number": 1, "what": "prune", "refs": refs}))


def test_completing_moves_what_has_not_moved(bare: tuple[Path, RefStore]) -> None:
    path, refs = bare
    refs.update("refs/heads/old", A)
    refs.update("refs/heads/new", B)
    refs.update("refs/heads/goes", A)
    moves = [(f"refs/heads/{name}", A, B) for name in ("old", "new")]
    pend(path, *moves, ("refs/heads/made", None, C), ("refs/heads/goes", A, None), ("refs/heads/gone", A, None))
    operations.complete(path, refs, Disk())
    assert refs.list() == {"refs/heads/made": C, "refs/heads/new": B, "refs/heads/old": B}
    assert not (path / PENDING).exists()
    operations.complete(path, refs, Disk())


def test_what_has_moved_is_synced_all_the_same(bare: tuple[Path, RefStore]) -> None:
    """The run that moved it may have been killed before it synced: only then may the file go."""
    path, refs = bare
    synced: list[Path] = []

    class Told(Disk):
        def sync_folder(self, folder: Path) -> None:
            assert (path / PENDING).exists() or folder == path
            synced.append(folder.relative_to(path))
            super().sync_folder(folder)

    refs.update("refs/vault/undo/1/0", B)
    pend(path, ("refs/vault/undo/1/0", None, B), ("refs/heads/gone", A, None))
    operations.complete(path, RefStore(path, Told()), Told())
    assert {Path("refs/vault/undo/1"), Path("refs/vault"), Path("refs/heads"), Path()} <= set(synced)
    assert synced[-1] == Path()


def test_a_ref_at_neither_value_stops_it_before_anything_moves(bare: tuple[Path, RefStore]) -> None:
    path, refs = bare
    refs.update("refs/heads/a", A)
    refs.update("refs/heads/b", C)
    pend(path, ("refs/heads/a", A, B), ("refs/heads/b", A, B))
    with pytest.raises(CorruptionError, match=f"refs/heads/b: .*expected {A.hex()} or {B.hex()}, found {C.hex()}"):
        operations.complete(path, refs, Disk())
    assert refs.list() == {"refs/heads/a": A, "refs/heads/b": C}
    assert (path / PENDING).exists()
    refs.update("refs/heads/b", A)
    operations.complete(path, refs, Disk())
    assert refs.list() == {"refs/heads/a": B, "refs/heads/b": B}


def test_what_was_restored_meanwhile_is_said_as_the_reader_said_it(bare: tuple[Path, RefStore]) -> None:
    """Those refs are written without the lock."""
    path, refs = bare
    refs.update("refs/vault/restored/x", C)
    pend(path, ("refs/vault/restored/x", A, B))
    operations.complete(path, refs, Disk())
    assert refs.list() == {"refs/vault/restored/x": C}


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff", b"[]", b"{}", b'{"refs":[{"ref":"refs/x","old":"aa","new":null}]}', b'{"refs":[{"ref":"refs/x"}]}'],
)
def test_a_file_that_cannot_be_read_is_named(bare: tuple[Path, RefStore], content: bytes) -> None:
    path, refs = bare
    (path / PENDING).write_bytes(content)
    with pytest.raises(CorruptionError, match=f"{PENDING}: cannot be read .*; move it away"):
        operations.complete(path, refs, Disk())


def test_damage_keeps_writers_out_and_no_reader(stage: tuple[Path, list[SnapshotId]], tmp_path: Path) -> None:
    path, taken = stage
    (path / PENDING).write_text("nonsense")
    with Vault.open(path) as vault:
        assert vault.resolve("acme") == taken[3]
        with pytest.raises(CorruptionError, match=PENDING):
            vault.create_snapshot(tmp_path / "acme")
        assert [defect.object for defect in vault.verify().defects] == [PENDING]


# -- the record ----------------------------------------------------------------------------------


def test_the_record(stage: tuple[Path, list[SnapshotId]]) -> None:
    with reopen(stage[0]) as vault:
        history = vault.history
        with Rewrite(history) as rewrite:
            rewrite.lead("refs/heads/x", history.tip("acme"))
            done = operations.perform(
                history, "try", rewrite.pack, rewrite.moves, time=NOW, host="h\u00e9", kept=[history.tip("acme")] * 2
            )
        assert list(operations.log(history)) == [done]
        assert done == Operation(
            1,
            "try",
            NOW,
            "h\u00e9",
            (RefMove("refs/heads/x", None, history.tip("acme")),),
            (history.tip("acme"),),
        )
        assert operations.can_undo(history, done)
        assert history.refs.list(UNDO) == {f"{UNDO}1/0": history.tip("acme")}
        history.refs.delete(f"{UNDO}1/0")
        assert not operations.can_undo(history, done)


def test_a_ref_that_another_program_moved_stops_it(stage: tuple[Path, list[SnapshotId]]) -> None:
    with reopen(stage[0]) as vault:
        history = vault.history
        before = history.refs.list()
        with (
            Rewrite(history) as rewrite,
            pytest.raises(LockedError, match=f"refs/heads/acme: expected {A.hex()}, found "),
        ):
            moves = [RefMove("refs/heads/acme", A, B), RefMove("refs/heads/other", None, B)]
            operations.perform(history, "try", rewrite.pack, moves, time=NOW, host="h")
        assert history.refs.list() == before
        assert not (stage[0] / PENDING).exists()


@pytest.mark.parametrize("content", [b"[]\n", b"{}\n", b"\xff", b'{"number":"x"}\n', None])
def test_a_record_that_cannot_be_read_is_named(stage: tuple[Path, list[SnapshotId]], content: bytes | None) -> None:
    with reopen(stage[0]) as vault:
        name = b"other" if content is None else b"operation.json"
        vault.history.write_file(operations.OPERATIONS, name, content or b"", "by hand")
        with pytest.raises(CorruptionError, match=r"refs/vault/operations: .* cannot be read"):
            vault.operations()
        # It is only the record.
        assert vault.resolve("acme") == stage[1][3]
        (stage[0] / "refs" / "vault" / "operations").write_text("nonsense")
        assert vault.history.has_rewritten()
        assert vault.get_snapshot_info(stage[1][2]).project == "acme"


def emptied(_name: SnapshotId, _commit: Commit, meta: Commit | None) -> Content:
    return Content(EMPTY_TREE, meta.tree if meta else None, {"Vault-Files": "0"})


def test_a_chain_put_upon_another(stage: tuple[Path, list[SnapshotId]]) -> None:
    """Rewrite alone: what does not change is the same commit, what comes after a change has a new one and its id."""
    with reopen(stage[0]) as vault:
        history: GitHistory = vault.history
        chain = list(history.walk(history.tip("acme")))[::-1]
        same: Change = unchanged
        with Rewrite(history) as rewrite:
            assert rewrite.chain(chain, same)[0] == chain[-1][0]
            assert len(rewrite.pack) == 0
            rewrite.project("acme", unchanged)
            assert rewrite.moves == []
            tip, _ = rewrite.chain(chain[2:], unchanged)
            assert tip not in (None, chain[-1][0])
            assert len(rewrite.pack) == 4
        with Rewrite(history) as rewrite:
            goes = stage[1][1]
            rewrite.project("acme", lambda name, commit, meta: None if name == goes else emptied(name, commit, meta))
            rewrite.follow()
            assert "refs/tags/acme/stays" in {move.ref for move in rewrite.moves}
            rewrite.stands(SnapshotId("x"), A, B)
            assert rewrite.places[SnapshotId("x")] == B
            assert rewrite.places[goes] is None
            assert history.tip("acme") in rewrite.lost
            parent, commit = history.add_file(rewrite.pack, "refs/vault/x", b"x", b"content", "why")
            assert parent is None
            assert history.add_commit(rewrite.pack, EMPTY_TREE, commit, "why") in rewrite.pack


def test_a_tag_that_names_nothing_is_left_alone(stage: tuple[Path, list[SnapshotId]]) -> None:
    path, _ = stage
    with reopen(path) as vault:
        history = vault.history
        pack = history.new_pack()
        bad = pack.add(b"tag", b"nonsense\n")
        lost = pack.add(b"tag", b"object " + b"ab" * 20 + b"\ntype commit\ntag x\n\nx\n")
        made = pack.finish()
        assert made
        history.publish([made])
        history.refs.update("refs/tags/acme/bad", bad)
        history.refs.update("refs/tags/acme/lost", lost)
        prune(vault)
        left = history.refs.list("refs/tags/acme/")
        assert (left["refs/tags/acme/bad"], left["refs/tags/acme/lost"]) == (bad, lost)
        assert "refs/tags/acme/gone" not in left
        with pytest.raises(CorruptionError, match="a tag that names no object"):
            history.peel(bad)
        # Where tags decide what stays, one that cannot be read is a listing that failed.
        with pytest.raises(CorruptionError, match="a tag that names no object"):
            vault.prune(Retention(last=1, milestones=True), yes=True)
