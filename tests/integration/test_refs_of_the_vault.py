"""Every ref below `refs/vault/`: checked by verify, healed by repair, carried by copy, or the document says why not."""

from __future__ import annotations

import re
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from damage import lose
from trees import write

from gitvault import config
from gitvault.core.backup_engine.retention import Retention
from gitvault.core.models import Defect, ObjectId
from gitvault.core.versioning import losses, operations
from gitvault.vault import Vault

NAMES = ("catalog", "lost", "meta/acme", "operations", "restored/", "tombstones", "undo/")
START = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def full(vault: Vault, tmp_path: Path) -> Vault:
    """A vault with a ref of each kind; what was saved is no longer where it was."""
    clock = (START + timedelta(minutes=n) for n in range(10_000))
    full = Vault.open(vault.path, now=lambda: next(clock))
    project = tmp_path / "acme"
    for n in range(5):
        write(project, {"a": b"%d" % n, "secret": b"s%d" % n, "sub/b": b"b%d" % n})
        full.create_snapshot(project)
    full.forget(["secret"], yes=True)
    full.prune(Retention(last=3), yes=True)
    full.restore_snapshot("acme~1", tmp_path / "back")
    losses.save(full.history, [Defect("blob", "ab" * 20, "missing")])
    shutil.rmtree(project)
    return full


def ref(vault: Vault, name: str) -> tuple[str, ObjectId]:
    return next(iter(vault.history.refs.list(f"refs/vault/{name}").items()))


def test_these_are_all_that_the_document_has(full: Vault) -> None:
    document = (Path(__file__).parents[2] / "gitvault" / "docs" / "format.md").read_text("utf-8")
    written = {match[1].lower() for match in re.finditer(r"\| `refs/vault/([a-z]+)", document)}
    assert written == {name.partition("/")[0] for name in NAMES}
    found = {name.split("/")[2] for name in full.history.refs.list("refs/vault/")}
    assert found == written


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("how", ["garbage", "lost", "both"])
def test_a_damaged_one_is_found_and_healed_or_goes(name: str, how: str, full: Vault, tmp_path: Path) -> None:
    at, value = ref(full, name)
    if how != "garbage":
        lose(full, value)
    full.close()
    if how != "lost":
        (full.path / at).write_text("garbage")
    assert not full.verify().ok
    report = full.verify(repair=True)
    assert report.repaired or report.quarantined
    with Vault.open(full.path) as fresh:
        after = fresh.verify(data=True)
        assert after.ok, after.defects
        now = fresh.history.refs.read(at)
        if how == "garbage" and name not in ("lost", "restored/", "undo/"):
            assert now == value
        # It works on.
        write(tmp_path / "acme", {"a": b"new"})
        fresh.create_snapshot(tmp_path / "acme")
        fresh.prune(Retention(last=1), yes=True)
        fresh.undo()
        fresh.sweep()
        assert fresh.verify(data=True).ok


@pytest.mark.parametrize("name", NAMES)
def test_a_copy_gives_back_what_it_has(name: str, full: Vault, tmp_path: Path) -> None:
    shutil.copytree(full.path, tmp_path / "second.git")
    at, value = ref(full, name)
    lose(full, value)
    full.close()
    (full.path / at).write_text("garbage")
    if name != "undo/":
        # Nothing but the damaged ref says that this object is wanted.
        assert full.verify(repair=True, copies=[tmp_path / "second.git"]).repaired
        assert full.verify(data=True).ok


def test_lost_records_in_the_middle_cost_only_those(full: Vault, tmp_path: Path) -> None:
    """The newest operation and all that was forgotten are still known."""
    _, newest = ref(full, "operations")
    before = operations.tombstones(full.history)
    older = full.history.commit(newest).parents[0]
    blob = full.history.tree(full.history.commit(older).tree)[operations.RECORD_FILE][1]
    lose(full, older, blob)
    report = full.verify(repair=True)
    assert report.repaired
    assert full.verify(data=True).ok
    assert [operation.what for operation in full.operations()] == ["prune"]
    assert operations.tombstones(full.history) == before
    assert full.undo().what == "undo"
    with Vault.create(tmp_path / "second.git") as second:
        config.set(second.path, "vault.maintenance", "off")
    assert full.copy_to(tmp_path / "second.git").left == ()
    with Vault.open(tmp_path / "second.git") as second:
        assert operations.tombstones(second.history) == before
        own = ("lost", "operations", "restored", "undo")
        assert not {name.split("/")[2] for name in second.history.refs.list("refs/vault/")} & set(own)


def test_a_snapshot_that_only_undo_needs(full: Vault) -> None:
    """Lost, it costs the way back and nothing else."""
    at, value = ref(full, "undo/")
    parent = full.history.commit(value).parents[0] if not at.endswith("meta") else value
    lose(full, parent)
    assert not full.verify(repair=True).ok
    assert full.verify(data=True).ok
    full.sweep()
    report = full.verify(data=True)
    assert report.ok and {loss.object for loss in report.quarantined} <= {parent.hex()}
