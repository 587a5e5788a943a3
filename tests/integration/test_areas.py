"""Records of personas: kept under a ref of their own, whole, never changed, joined when vaults meet."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path

import pytest

from gitvault.core.versioning import areas
from gitvault.errors import ExistsError, GitVaultError, NotFoundError
from gitvault.vault import Vault
from gitvault.vault.area import Area


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    return Vault.create(tmp_path / "vault.git")


def git(vault: Vault, *arguments: str) -> str:
    command = ["git", f"--git-dir={vault.path}", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_what_is_added_is_read_back_and_git_shows_it(vault: Vault, tmp_path: Path) -> None:
    large = tmp_path / "brush.bin"
    large.write_bytes(random.Random(1).randbytes(300_000))
    like = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 3\n"
    area = vault.area("workspaces")
    area.add({b"krita/1/record.json": b"{}\n", b"krita/1/files/brush.bin": large}, "Krita's workspace")
    area.add({b"krita/2/like": like, b"krita/2/.git/x": b"y", b"empty": b""}, "Another")
    brush, record = b"krita/1/files/brush.bin", b"krita/1/record.json"
    assert set(area.paths()) == {b"krita/2/.git/x", b"empty", brush, record, b"krita/2/like"}
    assert list(area.paths(b"krita/1/files")) == [b"krita/1/files/brush.bin"]
    assert list(area.paths(b"blender")) == []
    assert area.read(b"krita/1/files/brush.bin") == large.read_bytes()
    assert area.read(b"krita/2/like") == like
    assert area.read(b"empty") == b""
    pointer = vault.history.pointer_at(areas.find(vault.history, "workspaces", b"krita/1/files/brush.bin"))
    assert pointer and pointer.size == 300_000
    with open(tmp_path / "out", "wb") as out:
        area.write_to(b"krita/1/files/brush.bin", out)
    assert (tmp_path / "out").read_bytes() == large.read_bytes()
    assert areas.is_area(f"refs/vault/{areas.AREAS[0]}/x") and not areas.is_area("refs/vault/catalog")
    assert git(vault, "show", "refs/vault/workspaces:krita/1/record.json") == "{}\n"
    assert git(vault, "log", "--format=%s", "refs/vault/workspaces").split("\n")[0] == "Another"
    git(vault, "fsck", "--full", "--strict")


def test_the_records_of_a_name_are_found_without_the_others(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    area = vault.area("workspaces")
    here = {b"krita/%d/record.json" % number: b"%d" % number for number in (1, 2)}
    others = dict.fromkeys((b"krita/1/files/a/record.json", b"krita/record.json", b"krita/3/.git/x"), b"other")
    area.add({**here, **others, b"gimp/4/record.json/x": b"a folder"}, "several")
    assert list(area.named(b"record.json", depth=2)) == sorted(here.items())
    assert list(area.named(b"record.json", b"krita")) == sorted(here.items())
    assert list(area.named(b".git", b"krita/3", depth=0)) == []
    assert list(area.named(b"record.json", b"blender")) == []
    read: list[object] = []
    tree = type(vault.history).tree
    monkeypatch.setattr(type(vault.history), "tree", lambda history, oid: read.append(oid) or tree(history, oid))
    assert [path for path, _ in areas.named(vault.history, "workspaces", b"record.json", depth=2)] == sorted(here)
    # The top, two applications, four workspaces; no folder of files.
    assert len(read) == 7


def test_a_record_never_changes(vault: Vault) -> None:
    area = vault.area("feedback/shop")
    area.add({b"a/b": b"1"}, "first")
    area.add({b"a/b": b"1", b"a/c": b"2"}, "the same again, and more")
    for wrong in ({b"a/b": b"2"}, {b"a": b"2"}, {b"a/b/c": b"2"}, {b"x": b"", b"x/y": b""}, {b"x/y": b"", b"x": b""}):
        with pytest.raises(ExistsError):
            area.add(wrong, "no")
    with pytest.raises(GitVaultError, match="not the path of a record"):
        area.add({b"../up": b""}, "no")
    with pytest.raises(NotFoundError, match="no such record"):
        area.read(b"a")
    with pytest.raises(GitVaultError, match="not an area"):
        Area(vault, "secrets")
    assert sorted(area.paths()) == [b"a/b", b"a/c"]


def test_a_sweep_keeps_what_records_need_and_verify_misses_what_is_gone(vault: Vault) -> None:
    kept, gone = (random.Random(seed).randbytes(200_000) for seed in (2, 3))
    area = vault.area("playtests/game")
    area.add({b"1/save.bin": kept, b"2/save.bin": gone, b"2/text": b"what a player said"}, "two")
    vault.sweep()
    assert area.read(b"1/save.bin") == kept
    said = git(vault, "rev-parse", "refs/vault/playtests/game:2/text").strip()
    area.erase([b"2"], "forget the second")
    area.erase([b"1/none", b"9"], "nothing")
    vault.area("playtests/other").erase([b"1"], "nothing there")
    assert list(area.paths()) == [b"1/save.bin"]
    freed = vault.sweep().bytes_freed
    assert freed > 150_000
    assert subprocess.run(["git", f"--git-dir={vault.path}", "cat-file", "-e", said], capture_output=True).returncode
    assert vault.verify(data=True).ok
    for pack in (vault.path / "chunks").glob("**/*.zpk"):
        pack.unlink()
    vault.close()
    assert any(defect.kind == "pointer" for defect in vault.verify().defects)
    area.erase([b"1"], "all")
    assert list(area.paths()) == []


def test_two_vaults_have_the_records_of_both_however_they_meet(tmp_path: Path) -> None:
    ours, theirs = (Vault.create(tmp_path / name) for name in ("ours.git", "theirs.git"))
    ours.area("feedback/game").add({b"segments/1": b"one", b"old": b"both"}, "here")
    ours.copy_to(theirs.path)
    theirs.close()
    ours.area("feedback/game").add({b"segments/2": b"two", b"here/large": bytes(1) + b"x" * 100_000}, "here")
    theirs.area("feedback/game").add({b"segments/3": b"three"}, "there")
    for source, target in ((ours, theirs), (theirs, ours), (ours, theirs), (theirs, ours)):
        report = source.copy_to(target.path)
        assert not report.left
        target.close()
    for vault in (ours, theirs):
        found = vault.area("feedback/game")
        assert sorted(found.paths()) == [b"here/large", b"old", b"segments/1", b"segments/2", b"segments/3"]
        assert found.read(b"here/large")[1:] == b"x" * 100_000
    heads = [areas.tree_of(vault.history, "feedback/game") for vault in (ours, theirs)]
    assert heads[0] == heads[1]
