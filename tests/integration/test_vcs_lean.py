"""Snapshots of hg and svn checkouts: without what their servers have, and whole again after a restore."""

from __future__ import annotations

import json
import os
import re
import shutil
import sqlite3
import subprocess
from pathlib import Path

import pytest

from gitvault.core.models import SnapshotId
from gitvault.core.patterns import Patterns
from gitvault.errors import CorruptionError
from gitvault.vault import Vault
from gitvault.vcs import hg, hg_store, lean, svn_store


def tool(folder: Path, *command: str, ok: bool = True) -> str:
    environment = {**os.environ, "HGUSER": "me", "HGPLAIN": "1", "HGRCPATH": ""}
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment)
    assert done.returncode == 0 or not ok, done.stderr
    return done.stdout.strip()


def stored(vault: Vault, snapshot: str) -> set[str]:
    """Every path that a snapshot holds."""
    return {os.fsdecode(entry.path) for entry in vault.history.entries(SnapshotId(snapshot), recursive=True)}


def record_of(vault: Vault, snapshot: str) -> lean.Record:
    ((record, _),) = lean.attached(vault.history, SnapshotId(snapshot))
    return record


@pytest.fixture(scope="session")
def svn_pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working copy with every kind of change, and its repository."""
    folder = tmp_path_factory.mktemp("svn")
    tool(folder, "svnadmin", "create", "theirs")
    tool(folder, "svn", "checkout", "-q", f"file://{folder}/theirs", "work")
    work = folder / "work"
    (work / "trunk").mkdir()
    for name in ("a", "b", "c", "d", "same", "also the same"):
        (work / "trunk" / f"{name}.txt").write_text("x\n" * 100 if "same" in name else f"{name}\n" * 100)
    tool(work, "svn", "add", "-q", "trunk")
    tool(work, "svn", "commit", "-q", "-m", "one")
    tool(work, "svn", "propset", "-q", "svn:keywords", "Id", "trunk/same.txt")
    tool(work, "svn", "commit", "-q", "-m", "two")
    (work / "trunk" / "a.txt").write_text("changed\n")
    tool(work, "svn", "delete", "-q", "trunk/b.txt")
    (work / "trunk" / "c.txt").unlink()
    (work / "trunk" / "new.txt").write_text("added\n")
    tool(work, "svn", "add", "-q", "trunk/new.txt")
    tool(work, "svn", "copy", "-q", "trunk/d.txt", "trunk/copied.txt")
    tool(work, "svn", "propset", "-q", "color", "red", "trunk/d.txt")
    tool(work, "svn", "changelist", "-q", "mine", "trunk/d.txt")
    (work / "trunk" / "unversioned.txt").write_text("?\n")
    return folder


@pytest.fixture
def svn_work(svn_pair: Path) -> Path:
    """One working copy for all: it is never written."""
    return svn_pair / "work"


def svn_state(work: Path) -> list[str]:
    said = [tool(work, "svn", *words.split()) for words in ("status -v", "diff", "propget -R color", "info -R")]
    return [text.replace(str(work), "WORK") for text in said]


def tree(folder: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in folder.rglob("*")
        if file.is_file() and not {".svn", ".hg"} & set(file.relative_to(folder).parts)
    }


@pytest.mark.needs("svn")
def test_an_svn_checkout_is_saved_without_its_pristine_texts_and_comes_back(
    svn_work: Path, vault: Vault, tmp_path: Path
) -> None:
    before = tree(svn_work / ".svn")
    report = vault.create_snapshot(svn_work)
    assert tree(svn_work / ".svn") == before and report.notes == ()
    assert not [path for path in stored(vault, report.snapshot) if path.startswith((".svn/pristine", ".svn/tmp"))]
    record = record_of(vault, report.snapshot)
    assert (record.vcs, record.url, record.revision) == ("svn", f"file://{svn_work.parent}/theirs", "0")
    done = vault.restore_snapshot(report.snapshot, tmp_path / "out")
    assert not done.problems
    assert svn_state(tmp_path / "out") == svn_state(svn_work) and tree(tmp_path / "out") == tree(svn_work)
    tool(tmp_path / "out", "svn", "revert", "-q", "-R", ".")
    assert vault.create_snapshot(svn_work).unchanged
    assert vault.verify().ok


@pytest.mark.needs("svn")
def test_svn_texts_come_from_the_repository_when_the_checkout_is_gone_and_from_it_when_that_is(
    svn_pair: Path, vault: Vault, tmp_path: Path
) -> None:
    folder = tmp_path / "pair"
    shutil.copytree(svn_pair, folder)
    work = folder / "work"
    tool(work, "svn", "relocate", f"file://{svn_pair}/theirs", f"file://{folder}/theirs")
    snapshot = vault.create_snapshot(work).snapshot
    expected = svn_state(work)
    (folder / "theirs").rename(folder / "away")
    assert not vault.restore_snapshot(snapshot, tmp_path / "one").problems
    (folder / "away").rename(folder / "theirs")
    shutil.rmtree(work)
    assert not vault.restore_snapshot(snapshot, tmp_path / "two").problems
    assert svn_state(tmp_path / "one") == svn_state(tmp_path / "two") == expected
    shutil.rmtree(folder)
    problems = vault.restore_snapshot(snapshot, tmp_path / "three").problems
    assert len(problems) == 1 and "texts of its .svn are not restored: svn cat" in problems[0].reason
    assert tree(tmp_path / "three") == tree(tmp_path / "two"), "every file is there all the same"


@pytest.mark.needs("svn")
def test_an_svn_checkout_whose_repository_is_gone_is_stored_in_full(
    svn_pair: Path, vault: Vault, tmp_path: Path
) -> None:
    shutil.copytree(svn_pair / "work", tmp_path / "work")
    tool(tmp_path / "work", "svn", "status")
    database = sqlite3.connect(tmp_path / "work" / ".svn" / "wc.db")
    with database:
        database.execute("UPDATE repository SET root = 'file:///gone/theirs'")
    database.close()
    report = vault.create_snapshot(tmp_path / "work")
    assert report.notes == (".: stored in full: its repository is gone: file:///gone/theirs",)
    assert any(path.startswith(".svn/pristine/") for path in stored(vault, report.snapshot))
    assert not vault.restore_snapshot(report.snapshot, tmp_path / "out").problems
    assert tool(tmp_path / "out", "svn", "status") == tool(tmp_path / "work", "svn", "status")


@pytest.mark.needs("svn")
def test_an_svn_text_that_only_this_checkout_has_is_saved(svn_pair: Path, vault: Vault, tmp_path: Path) -> None:
    shutil.copytree(svn_pair / "work", tmp_path / "work")
    database = sqlite3.connect(tmp_path / "work" / ".svn" / "wc.db")
    with database:
        query = "SELECT checksum FROM nodes WHERE local_relpath = 'trunk/a.txt'"
        ((checksum,),) = database.execute(query).fetchall()
        database.execute("UPDATE nodes SET repos_path = NULL, repos_id = NULL WHERE local_relpath = 'trunk/a.txt'")
    database.close()
    digest = checksum.removeprefix("$sha1$")
    name = f"{digest[:2]}/{digest}.svn-base"
    assert svn_store.only_here(tmp_path / "work") == {name.encode()}
    report = vault.create_snapshot(tmp_path / "work")
    kept = [path for path in stored(vault, report.snapshot) if path.startswith(".svn/pristine/")]
    assert sorted(kept) == [f".svn/pristine/{digest[:2]}", f".svn/pristine/{name}"]


@pytest.mark.needs("svn")
def test_svn_databases_that_are_damaged_or_from_elsewhere(svn_pair: Path, vault: Vault, tmp_path: Path) -> None:
    work = tmp_path / "work"
    shutil.copytree(svn_pair / "work", work)
    snapshot = vault.create_snapshot(work).snapshot
    database = sqlite3.connect(work / ".svn" / "wc.db")
    with database:
        database.execute("PRAGMA foreign_keys = OFF")
        database.execute("UPDATE pristine SET compression = 1")
    with pytest.raises(ValueError, match="compressed in a way"):
        svn_store.only_here(work)
    with database:
        database.execute("UPDATE pristine SET compression = NULL, checksum = '../../evil' || checksum")
        database.execute("UPDATE repository SET root = '--evil'")
    database.close()
    with pytest.raises(ValueError, match="is no checksum"):
        svn_store.only_here(work)
    (problem,) = svn_store.complete(work, tmp_path)
    assert problem.startswith("its .svn/wc.db cannot be read: '../../evil")
    (work / ".svn" / "wc.db").write_bytes(b"nonsense" * 1000)
    report = vault.create_snapshot(work)
    assert report.notes[0].startswith(".: stored in full: file is not a database")
    out = tmp_path / "out"
    vault.restore_snapshot(snapshot, out)
    shutil.rmtree(out / ".svn" / "pristine")
    (out / ".svn" / "wc.db").chmod(0o600)
    database = sqlite3.connect(out / ".svn" / "wc.db")
    with database:
        database.execute("UPDATE repository SET root = '--evil'")
    database.close()
    shutil.rmtree(out / "trunk")
    (problem,) = svn_store.complete(out, tmp_path / "none")
    assert "--evil: not a repository's URL" in problem


@pytest.fixture(scope="session")
def hg_pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone with every kind of change, and what it was cloned from. Never written."""
    folder = tmp_path_factory.mktemp("hg")
    (folder / "theirs").mkdir()
    tool(folder / "theirs", "hg", "init")
    for name in ("a", "b", "c"):
        (folder / "theirs" / name).write_text(f"{name}\n" * 100)
    tool(folder / "theirs", "hg", "commit", "-q", "-A", "-m", "one")
    tool(folder, "hg", "clone", "-q", "theirs", "work")
    work = folder / "work"
    tool(work, "hg", "bookmark", "idea")
    (work / "a").write_text("draft\n")
    tool(work, "hg", "commit", "-q", "-m", "draft")
    (work / "a").write_text("secret\n")
    tool(work, "hg", "commit", "-q", "--secret", "-m", "secret")
    (work / "b").write_text("shelved\n")
    tool(work, "hg", "--config", "extensions.shelve=", "shelve")
    (work / "a").write_text("changed\n")
    (work / "new").write_text("new\n")
    tool(work, "hg", "add", "new")
    tool(work, "hg", "remove", "c")
    (work / "unknown").write_text("?\n")
    return folder


def hg_state(work: Path) -> list[str]:
    commands = ("status", "log -T {node}:{phase}:{bookmarks}:{branch}\\n", "bookmarks", "shelve --list", "summary")
    said = [tool(work, "hg", "--config", "extensions.shelve=", *words.split()) for words in commands]
    return [re.sub(r"\(\w+ ago\) *", "", text) for text in said]


@pytest.mark.needs("hg")
def test_an_hg_checkout_is_saved_without_its_store_and_comes_back(hg_pair: Path, vault: Vault, tmp_path: Path) -> None:
    work = hg_pair / "work"
    report = vault.create_snapshot(work)
    held = stored(vault, report.snapshot)
    assert report.notes == ()
    assert {".hg/dirstate", ".hg/store/phaseroots", ".hg/bookmarks"} <= held
    assert not [path for path in held if path.startswith((".hg/store/0", ".hg/store/data", ".hg/cache"))]
    ((record, local),) = lean.attached(vault.history, report.snapshot)
    assert (record.vcs, record.url) == ("hg", str(hg_pair / "theirs")) and local.startswith(b"HG20")
    assert vault.create_snapshot(work).unchanged
    done = vault.restore_snapshot(report.snapshot, tmp_path / "out")
    assert not done.problems
    assert hg_state(tmp_path / "out") == hg_state(work) and tree(tmp_path / "out") == tree(work)
    tool(tmp_path / "out", "hg", "verify", "-q")
    expected = hg_state(work)
    moved = hg_pair / "moved"
    work.rename(moved)
    (hg_pair / "theirs").rename(hg_pair / "away")
    try:
        (problem,) = vault.restore_snapshot(report.snapshot, tmp_path / "none").problems
        assert problem.reason.startswith("its .hg/store is not restored: ")
        moved.rename(work)
        assert not vault.restore_snapshot(report.snapshot, tmp_path / "home").problems
        assert hg_state(tmp_path / "home") == expected
    finally:
        (hg_pair / "away").rename(hg_pair / "theirs")


@pytest.mark.needs("hg")
def test_hg_checkouts_that_have_to_be_stored_in_full(hg_pair: Path, vault: Vault, tmp_path: Path) -> None:
    work = tmp_path / "work"
    shutil.copytree(hg_pair / "work", work)
    for change, reason in (
        (lambda: (work / ".hg" / "hgrc").write_text("[paths]\ndefault = /gone\n"), "default is gone: /gone"),
        (lambda: (work / ".hg" / "hgrc").unlink(), "it has no default path"),
        (lambda: (work / ".hg" / "requires").write_text("store\nlargefiles\n"), "it needs largefiles"),
    ):
        change()
        report = vault.create_snapshot(work)
        assert report.notes == (f".: stored in full: {reason}",)
        assert ".hg/store/00changelog.i" in stored(vault, report.snapshot)
    alone = tmp_path / "alone"
    tool(tmp_path, "hg", "init", "alone")
    (alone / ".hg" / "hgrc").write_text(f"[paths]\ndefault = {hg_pair / 'theirs'}\n")
    with pytest.raises(ValueError, match="nothing of it was ever pushed or pulled"):
        hg_store.place_of(alone, hg.SERVER)
    place = hg_store.place_of(hg_pair / "work", hg.SERVER)
    assert place == hg_store.Place(str(hg_pair / "theirs"), place.base, "default", True)
    assert hg_store.bundle(hg_pair / "work", hg.SERVER) == hg_store.bundle(hg_pair / "work", hg.SERVER)
    assert not hg_store.CACHES & hg_store.KEPT


def test_a_tool_that_is_missing_is_said_once(vault: Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    git = shutil.which("git")
    assert git
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "git").symlink_to(git)
    project = tmp_path / "project"
    for name in ("one", "two"):
        (project / name / ".hg").mkdir(parents=True)
        (project / name / ".hg" / "hgrc").write_text("[paths]\ndefault = https://example.invalid/x\n")
    hg.SERVER.close()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    report = vault.create_snapshot(project)
    assert report.notes == ("hg: not found; install it and make sure it is on PATH",)
    assert {"one/.hg/hgrc", "two/.hg/hgrc"} <= stored(vault, report.snapshot)


def test_other_workspaces_are_saved_whole_with_what_their_program_says(vault: Vault, tmp_path: Path) -> None:
    work = tmp_path / "work"
    (work / ".plastic").mkdir(parents=True)
    (work / ".plastic" / "plastic.workspace").write_text("acme\n")
    snapshot = vault.create_snapshot(work).snapshot
    assert ".plastic/plastic.workspace" in stored(vault, snapshot)
    assert record_of(vault, snapshot).vcs == "plastic"


def test_a_record_is_read_as_it_was_written_and_nothing_else(tmp_path: Path) -> None:
    record = lean.Record("svn", "a/b", "/home/x", "svn://host", "trunk", "4", "", "")
    assert lean.decode(lean.encode(record)) == record
    good = json.loads(lean.encode(record))
    for wrong in ({"version": 2}, {"path": "../x"}, {"path": 3}, {"more": "x"}):
        with pytest.raises(CorruptionError, match="a checkout's record in the snapshot cannot be read"):
            lean.decode(json.dumps({**good, **wrong}).encode())
    with pytest.raises(CorruptionError):
        lean.decode(b"[]")


@pytest.mark.needs("svn")
def test_a_restore_never_follows_a_link_in_the_place_of_a_checkouts_folder(
    svn_work: Path, vault: Vault, tmp_path: Path
) -> None:
    snapshot = vault.create_snapshot(svn_work).snapshot
    out, other = tmp_path / "out", tmp_path / "other"
    vault.restore_snapshot(snapshot, out)
    (out / ".svn").rename(other)
    shutil.rmtree(other / "pristine")
    (out / ".svn").symlink_to(other)
    assert lean.complete(vault.history, snapshot, out) == [] and not (other / "pristine").exists()


def test_rules_around_rules_ask_the_inner_ones(tmp_path: Path, vault: Vault) -> None:
    rules = lean.Lean(str(tmp_path), Patterns(["*.log"]), vault.history, None)
    scope = rules.scope(b"", rules.marks(["a", ".hg"]), None)
    assert scope.omits(b"a.log", False) and not scope.omits(b"a", False)
