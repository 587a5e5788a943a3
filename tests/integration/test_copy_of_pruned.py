"""Copies between vaults of which one was pruned: nothing that was removed comes back, and refs move all or none."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from disks import CountedDisk
from trees import write

from gitvault import config
from gitvault.core.backup_engine.retention import Retention
from gitvault.core.models import ObjectId, SnapshotId
from gitvault.core.utils.files import Disk
from gitvault.core.utils.lock import VaultLock
from gitvault.core.versioning import operations
from gitvault.core.versioning.history import OPERATIONS
from gitvault.core.versioning.operations import PENDING, RefMove, removed
from gitvault.errors import LockedError
from gitvault.vault import Vault

START = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def clock() -> Iterator[datetime]:
    return (START + timedelta(minutes=n) for n in range(100_000))


@pytest.fixture
def vault(vault: Vault, clock: Iterator[datetime]) -> Vault:
    return Vault.open(vault.path, now=lambda: next(clock))


def take(vault: Vault, project: Path, *states: int) -> list[SnapshotId]:
    found = []
    for state in states:
        write(project, {"a": b"%d" % state, "sub/b": b"b%d" % state})
        found.append(vault.create_snapshot(project).snapshot)
    return found


def ids(path: Path) -> list[SnapshotId]:
    """A project's snapshots, oldest first."""
    with Vault.open(path) as vault:
        assert vault.verify(data=True).ok
        return [snapshot.id for snapshot in vault.history.list_versions("acme")][::-1]


def test_the_record_lists_what_is_gone_until_that_is_undone(vault: Vault, tmp_path: Path) -> None:
    taken = take(vault, tmp_path / "acme", *range(5))
    vault.prune(Retention(last=2), yes=True)
    [operation] = vault.operations()
    assert set(operation.removed) == set(taken[:3]) == removed(vault.history)
    assert json.loads(vault.history.read_file(OPERATIONS, b"operation.json"))["removed"]
    vault.undo()
    assert removed(vault.history) == set()
    vault.undo()
    assert removed(vault.history) == set(taken[:3])
    vault.forget(["sub/"], yes=True)
    assert vault.operations()[0].removed == ()


def test_a_copy_follows_a_prune_whatever_came_between(vault: Vault, tmp_path: Path) -> None:
    """Also where the newest snapshot there is one that was removed here, and swept."""
    second = tmp_path / "second.git"
    taken = take(vault, tmp_path / "acme", 0, 1, 2)
    vault.copy_to(second)
    taken += take(vault, tmp_path / "acme", 3, 4)
    vault.prune(Retention(last=1), yes=True)
    vault.sweep()
    assert vault.copy_to(second).left == ()
    assert ids(second) == ids(vault.path) == taken[-1:]


def test_what_was_removed_does_not_come_back_from_a_copy(vault: Vault, tmp_path: Path) -> None:
    second = tmp_path / "second.git"
    taken = take(vault, tmp_path / "acme", 0, 1, 2)
    vault.copy_to(second)
    vault.prune(Retention(last=1), yes=True)
    vault.sweep()
    with Vault.open(second) as other:
        config.set(second, "vault.maintenance", "off")
        # It has nothing that is not known here.
        assert other.copy_to(vault.path).left == ()
        assert ids(vault.path) == taken[-1:]
        new = take(other, tmp_path / "acme", 7)
        [left] = other.copy_to(vault.path).left
        assert left.project == "acme" and not left.damaged
        assert left.reason.startswith(
            f"2 of its snapshots were removed from {vault.path}, {min(taken[:2])} for one; git-vault prune"
        )
        assert ids(vault.path) == taken[-1:]
        other.prune(Retention(last=2), yes=True)
        assert other.copy_to(vault.path).left == ()
    assert ids(vault.path) == [taken[-1], *new]


def test_a_prune_of_the_copy_alone_is_undone_by_the_next(vault: Vault, tmp_path: Path) -> None:
    """A second vault must not stop being one by that."""
    second = tmp_path / "second.git"
    taken = take(vault, tmp_path / "acme", 0, 1, 2)
    vault.copy_to(second)
    with Vault.open(second) as other:
        other.prune(Retention(last=1), yes=True)
    taken += take(vault, tmp_path / "acme", 3)
    assert vault.copy_to(second).left == ()
    assert ids(second) == taken


def test_what_was_taken_back_may_come(vault: Vault, tmp_path: Path) -> None:
    second = tmp_path / "second.git"
    taken = take(vault, tmp_path / "acme", 0, 1, 2)
    vault.copy_to(second)
    vault.prune(Retention(last=1), yes=True)
    vault.undo()
    with Vault.open(second) as other:
        taken += take(other, tmp_path / "acme", 7)
        assert other.copy_to(vault.path).left == ()
    assert ids(vault.path) == taken


class Stopped(BaseException):
    """The process is killed here."""


class Killing(CountedDisk):
    def __init__(self, left: int = 1 << 30) -> None:
        self.left = self.all = left

    def count(self) -> None:
        if not self.left:
            raise Stopped
        self.left -= 1

    def unlink(self, path: Path) -> None:
        self.count()
        super().unlink(path)


def refs_of(path: Path) -> dict[str, ObjectId]:
    with Vault.open(path) as vault:
        return vault.history.refs.list()


def test_its_refs_move_all_or_none(vault: Vault, tmp_path: Path) -> None:
    second, kept = tmp_path / "second.git", tmp_path / "kept.git"
    for project in ("acme", "other"):
        take(vault, tmp_path / project, 0, 1)
    vault.copy_to(kept)
    config.set(kept, "vault.maintenance", "off")
    for project in ("acme", "other", "third"):
        take(vault, tmp_path / project, 2, 3)
    vault.forget(["sub/"], yes=True)
    before = refs_of(kept)
    # Where copies are is noted here once, which the runs that are killed need not do again.
    shutil.copytree(kept, second)
    vault.copy_to(second)
    shutil.rmtree(second)
    shutil.copytree(kept, second)
    counting = Killing()
    with Vault.open(vault.path, disk=counting) as counted:
        assert counted.copy_to(second).refs == 6
    after = refs_of(second)
    assert OPERATIONS not in after
    last = counting.all - counting.left
    seen = set()
    for left in range(20, last, 4):
        shutil.rmtree(second)
        shutil.copytree(kept, second)
        with Vault.open(vault.path, disk=Killing(left)) as dying, pytest.raises(Stopped):
            dying.copy_to(second)
        pending = (second / PENDING).exists()
        for lock in [second / "HEAD.lock", *second.rglob("refs/**/*.lock")]:
            lock.unlink(missing_ok=True)
        now = {ref: oid.hex() for ref, oid in refs_of(second).items()}
        seen.add((pending, now.keys() == after.keys()))
        records = (operations.TOMBSTONES, "refs/vault/catalog")
        for state in (before, after):
            if all(now.get(ref) == oid.hex() for ref, oid in state.items() if ref not in records):
                break
        else:
            raise AssertionError(f"half of it, after operation {left}: {now}")
        assert not (second / PENDING).exists()
        assert vault.copy_to(second).left == ()
    assert seen == {(False, False), (True, True), (False, True)}


def test_another_machine_that_took_over_meanwhile_keeps_its_refs(vault: Vault, tmp_path: Path) -> None:
    """Not even the first thing that says that refs will move is written."""
    second = tmp_path / "second.git"
    take(vault, tmp_path / "acme", 0)

    class Overtaken(Disk):
        def write_durably(self, path: Path, content: bytes) -> None:
            assert path.name != PENDING
            super().write_durably(path, content)

        def rename(self, source: Path, target: Path) -> None:
            super().rename(source, target)
            if target.suffix == ".pack":
                (second / "vault.lease").write_bytes(b'{"token": "x", "host": "other"}\n' + b"0" * 20 + b"\n")

    with Vault.open(vault.path, disk=Overtaken()) as slow, pytest.raises(LockedError, match="taken over by"):
        slow.copy_to(second)
    (second / "vault.lease").unlink()
    assert VaultLock.holder(second / "vault.lock") is None
    assert refs_of(second) == {}


def test_refs_that_are_elsewhere_move_nothing(vault: Vault, tmp_path: Path) -> None:
    [snapshot] = take(vault, tmp_path / "acme", 0)
    oid = ObjectId(bytes.fromhex(snapshot))
    with pytest.raises(LockedError, match=r"refs/x: expected no such ref, found"):
        vault.history.refs.update("refs/x", oid)
        operations.move(vault.history, "try", [RefMove("refs/y", None, oid), RefMove("refs/x", None, oid)])
    assert vault.history.refs.read("refs/y") is None
    operations.move(vault.history, "try", [RefMove("refs/y", None, oid), RefMove("refs/x", oid, None)])
    assert (vault.history.refs.read("refs/y"), vault.history.refs.read("refs/x")) == (oid, None)
