"""Verify finds every kind of damage and names the project, snapshot and path it costs."""

from __future__ import annotations

import io
import os
import random
import re
import shutil
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from damage import lose
from trees import write

from gitvault.core.models import Affected, Defect, ObjectId, SnapshotId, VerifyReport
from gitvault.core.versioning import repack
from gitvault.core.versioning.contents import find
from gitvault.core.versioning.history import raw
from gitvault.errors import ContentMissing, CorruptionError, ToolFailed
from gitvault.vault import Vault

Command = Callable[..., subprocess.CompletedProcess[str]]
LARGE = random.Random(1).randbytes(300_000)


@pytest.fixture
def taken(vault: Vault, tmp_path: Path) -> list[SnapshotId]:
    """Two snapshots of `acme`, one of `other`, which has a file in common with it."""
    write(tmp_path / "acme", {"a": b"a", "src/b": b"b one", "art/large.bin": LARGE, "art/deep/shared": b"shared"})
    first = vault.create_snapshot(tmp_path / "acme").snapshot
    write(tmp_path / "acme", {"src/b": b"b two"})
    second = vault.create_snapshot(tmp_path / "acme").snapshot
    write(tmp_path / "other", {"x/same": b"shared"})
    return [first, second, vault.create_snapshot(tmp_path / "other").snapshot]


def touched(defect: Defect) -> set[tuple[str, str, bytes]]:
    return {(place.project, place.snapshot, place.path) for place in defect.affects}


def blob(vault: Vault, snapshot: SnapshotId, path: bytes) -> ObjectId:
    return find(vault.history, snapshot, path)[0].blob


def test_a_sound_vault_has_no_defects(vault: Vault, taken: list[SnapshotId]) -> None:
    quick, whole = vault.verify(), vault.verify(data=True)
    assert (quick.ok, whole.ok) == (True, True)
    assert whole.bytes_checked > quick.bytes_checked
    assert quick.objects_checked > 15


def test_an_index_that_has_lost_rows_is_no_loss(vault: Vault, taken: list[SnapshotId]) -> None:
    vault.close()
    with closing(sqlite3.connect(vault.path / "cache" / "chunks.db")) as index, index:
        assert index.execute("DELETE FROM chunk").rowcount
    assert vault.verify(data=True).ok


def test_an_empty_vault_is_sound(vault: Vault) -> None:
    assert vault.verify(data=True) == VerifyReport(0, 0)


def test_progress_is_told(vault: Vault, taken: list[SnapshotId]) -> None:
    seen: list[str] = []
    vault.verify(data=True, progress=lambda what, done, total: seen.append(what))
    assert "checking snapshots" in seen


def test_a_lost_blob_names_each_place_it_is_missing_from(vault: Vault, taken: list[SnapshotId]) -> None:
    first, second, other = taken
    lost = blob(vault, first, b"art/deep/shared")
    lose(vault, lost)
    [defect] = vault.verify().defects
    assert (defect.kind, defect.object) == ("blob", lost.hex())
    assert touched(defect) == {
        ("acme", first, b"art/deep/shared"),
        ("acme", second, b"art/deep/shared"),
        ("other", other, b"x/same"),
    }


def test_a_blob_that_only_an_old_snapshot_has(vault: Vault, taken: list[SnapshotId]) -> None:
    lost = blob(vault, taken[0], b"src/b")
    lose(vault, lost)
    [defect] = vault.verify().defects
    assert defect.affects == (Affected("acme", taken[0], b"src/b"),)


def test_a_lost_tree(vault: Vault, taken: list[SnapshotId]) -> None:
    lost = blob(vault, taken[1], b"art/deep")
    lose(vault, lost)
    defects = vault.verify().defects
    assert [(d.kind, d.object) for d in defects] == [("tree", lost.hex())]
    assert touched(defects[0]) == {("acme", taken[0], b"art/deep"), ("acme", taken[1], b"art/deep")}


@pytest.mark.parametrize("what", ["commit", "tree", "blob"])
def test_a_lost_part_of_the_meta_chain(what: str, vault: Vault, taken: list[SnapshotId]) -> None:
    commit = vault.history.meta_commit(vault.history.commit(raw(taken[1])))
    below = find(vault.history, taken[1], b"src")[1]
    assert commit and below
    top = vault.history.trees(taken[1])[1]
    found = {"commit": commit, "tree": top, "blob": below}
    lose(vault, found[what])
    defects = vault.verify().defects
    path = b"src" if what == "blob" else b""
    assert ("acme", taken[1], path) in set().union(*map(touched, defects))
    assert all(place.snapshot == taken[1] for d in defects for place in d.affects)


def test_a_lost_commit(vault: Vault, taken: list[SnapshotId]) -> None:
    lose(vault, raw(taken[0]))
    defects = vault.verify().defects
    assert [(d.kind, d.object) for d in defects] == [("commit", taken[0])]
    assert touched(defects[0]) == {("acme", taken[0], b"")}


def test_a_ref_that_leads_nowhere(vault: Vault, taken: list[SnapshotId]) -> None:
    (vault.path / "refs/heads/acme").write_text("12" * 20 + "\n")
    [defect] = [d for d in vault.verify().defects if d.kind == "commit"]
    assert touched(defect) == {("acme", SnapshotId("12" * 20), b"")}


def test_a_deleted_meta_ref(vault: Vault, taken: list[SnapshotId], tmp_path: Path) -> None:
    """The commits still name what it named; but a repack would drop it."""
    (vault.path / "refs/vault/meta/acme").unlink()
    [defect] = vault.verify().defects
    assert (defect.kind, defect.object) == ("ref", "refs/vault/meta/acme")
    assert {place.project for place in defect.affects} == {"acme"}
    write(tmp_path / "acme", {"new": b""})
    vault.create_snapshot(tmp_path / "acme")
    assert vault.verify(data=True).ok


def test_a_run_killed_between_its_two_refs_is_no_defect(vault: Vault, taken: list[SnapshotId]) -> None:
    vault.history.refs.update("refs/heads/acme", raw(taken[0]))
    assert vault.verify(data=True).ok


def test_damaged_records(vault: Vault, taken: list[SnapshotId]) -> None:
    [ref] = [ref for ref in vault.history.refs.list("refs/vault/") if "catalog" in ref]
    at = vault.history.refs.read(ref)
    assert at
    lose(vault, at)
    assert ("ref", ref) in {(d.kind, d.object) for d in vault.verify().defects}


def test_chunk_packs_that_are_gone(vault: Vault, taken: list[SnapshotId]) -> None:
    for path in vault.path.glob("chunks/*.zpk"):
        path.unlink()
    vault.close()
    defects = [d for d in vault.verify().defects if d.affects]
    assert [d.kind for d in defects] == ["pointer"]
    assert touched(defects[0]) == {("acme", s, b"art/large.bin") for s in taken[:2]}


def damage(name: str) -> Callable[[Path], None]:
    def flip(path: Path) -> None:
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        write_over(path, bytes(data))

    def write_over(path: Path, data: bytes) -> None:
        os.chmod(path, 0o600)
        path.write_bytes(data)

    return {
        "flipped bit": flip,
        "cut short": lambda path: write_over(path, path.read_bytes()[: path.stat().st_size // 2]),
        "emptied": lambda path: write_over(path, b""),
        "zeros": lambda path: write_over(path, bytes(path.stat().st_size)),
        "gone": lambda path: path.unlink(),
    }[name]


@pytest.mark.parametrize("how", ["flipped bit", "cut short", "emptied", "zeros", "gone"])
@pytest.mark.parametrize("what", ["objects/pack/*.pack", "objects/pack/*.idx", "chunks/*.zpk"])
def test_every_damage_to_every_file_is_found(what: str, how: str, vault: Vault, taken: list[SnapshotId]) -> None:
    """One file at a time, each of its kind; whatever the damage, verify ends with a list, never a crash."""
    vault.close()
    whole = shutil.copytree(vault.path, vault.path.with_name("whole.git"))
    for path in sorted(vault.path.glob(what)):
        damage(how)(path)
        with Vault.open(vault.path) as opened:
            report = opened.verify(data=True)
        assert report.defects, f"{path.name} {how}"
        assert all(d.reason and "\n" not in d.reason for d in report.defects)
        shutil.rmtree(vault.path)
        shutil.copytree(whole, vault.path)
    with Vault.open(vault.path) as opened:
        assert opened.verify(data=True).ok


@pytest.mark.parametrize("spoilt", [False, True], ids=["lost", "spoilt"])
@pytest.mark.parametrize("path", [b"src/b", b"art/deep"], ids=["blob", "tree"])
def test_maintenance_of_a_damaged_vault_names_it_and_leaves_it_alone(
    path: bytes, spoilt: bool, vault: Vault, taken: list[SnapshotId]
) -> None:
    lose(vault, blob(vault, taken[1], path), spoilt=spoilt)
    before = sorted(vault.path.glob("objects/pack/*"))
    with pytest.raises(CorruptionError, match=rf"^{re.escape(str(vault.path))}: [^\n]*; run git-vault verify$"):
        vault.maintain()
    assert sorted(vault.path.glob("objects/pack/*")) == before


def test_what_git_did_not_give_up_by_itself_is_no_damage(
    vault: Vault, taken: list[SnapshotId], monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object, **__: object) -> None:
        raise ToolFailed("git pack-objects", -9, "")

    monkeypatch.setattr(repack, "repack", killed)
    with pytest.raises(ToolFailed, match="code -9"):
        vault.maintain()


@pytest.mark.parametrize("lost", [b"src/b", b"src", b"art/large.bin"])
def test_a_file_whose_content_is_gone_is_damage_not_a_wrong_name(
    lost: bytes, vault: Vault, taken: list[SnapshotId], tmp_path: Path, command: Command
) -> None:
    """A blob, a tree above it, a chunk: exit code 20, also where a wrong name would be 128."""
    path = b"src/b" if lost == b"src" else lost
    if lost == b"art/large.bin":
        vault.close()
        for pack in vault.path.glob("chunks/*.zpk"):
            pack.unlink()
    else:
        lose(vault, blob(vault, taken[1], lost))
    with pytest.raises(ContentMissing, match=r"run git-vault verify$"):
        vault.read_file("acme", path, io.BytesIO())
    done = command("cat", f"acme:{os.fsdecode(path)}")
    assert (done.returncode, done.stdout) == (20, "")
    assert done.stderr.count("\n") == 1
    if lost == b"src":
        shutil.rmtree(vault.path / "cache")
        done = command("status", tmp_path / "acme/src/b")
        assert done.returncode == 20, "whether it is saved cannot be said"


def test_attributes_that_would_change_bytes_on_checkout(vault: Vault, taken: list[SnapshotId]) -> None:
    (vault.path / "info/attributes").write_text("* text=auto\n")
    [defect] = vault.verify().defects
    assert (defect.kind, defect.object) == ("vault", "info/attributes")
