"""What is purged goes from the bundles of commits that were never pushed too, and nothing else of them does."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from repositories import cloned, commit, git

from gitvault.core.models import SnapshotId
from gitvault.errors import CorruptionError
from gitvault.vault import Vault
from gitvault.vcs.protect import record, repository
from gitvault.vcs.protect.purge import Bundles

pytestmark = pytest.mark.needs("git")

SECRET = "-----BEGIN KEY-----\nof nobody\n"


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A clone: a secret in a commit that was never pushed, one in a stash, one in the index, and other work."""
    work = cloned(tmp_path)
    commit(work, "conf/key.pem", SECRET)
    commit(work, "b.txt", "unpushed\n")
    (work / "a.txt").write_text("stashed\n")
    (work / "stash.pem").write_text(SECRET + "stashed\n")
    git(work, "stash", "push", "-q", "-u")
    (work / "staged.pem").write_text(SECRET + "staged\n")
    git(work, "add", "staged.pem")
    (work / "staged.pem").write_text("not any more\n")
    return work


def bundles(vault: Vault, snapshot: SnapshotId) -> list[bytes]:
    """The packs of the bundles that are attached to a snapshot."""
    tree = vault.history.commit(vault.history.locate(snapshot)).tree
    found = record.attached(vault.history, tree)
    return [
        repository.packed_in(one.joined(vault.history, record.part_name(number)))
        for one in found
        for number in range(len(one.record.parts))
    ]


def contents(packs: list[bytes], tmp_path: Path) -> dict[str, bytes]:
    """What packs hold, by id."""
    place = tmp_path / "unpacked.git"
    shutil.rmtree(place, ignore_errors=True)
    git(tmp_path, "init", "-q", "--bare", place)
    for pack in packs:
        subprocess.run(["git", "index-pack", "--stdin"], cwd=place, input=pack, check=True, capture_output=True)
    listed = git(place, "cat-file", "--batch-all-objects", "--batch-check=%(objectname) %(objecttype)")
    return {
        oid: subprocess.run(["git", "cat-file", kind, oid], cwd=place, check=True, capture_output=True).stdout
        for oid, kind in (line.split() for line in listed.splitlines())
    }


def test_secrets_go_and_commits_stay(vault: Vault, work: Path, tmp_path: Path) -> None:
    first = vault.create_snapshot(work).snapshot
    commit(work, "c.txt", "later\n")
    second = vault.create_snapshot(work).snapshot
    before = contents(bundles(vault, second), tmp_path)
    assert sum(SECRET.encode() in data for data in before.values()) == 3
    told = vault.forget(["*.pem"])
    assert {path for _, path in told.paths} == {b"conf/key.pem", b"staged.pem", b"stash.pem"}
    assert set(told.snapshots) == {first, second} and not told.done
    assert contents(bundles(vault, second), tmp_path) == before

    vault.forget(["*.pem"], yes=True)
    after = contents(bundles(vault, second), tmp_path)
    assert after == {oid: data for oid, data in before.items() if SECRET.encode() not in data}
    vault.sweep()
    assert vault.verify(data=True).ok
    held = subprocess.run(
        ["git", f"--git-dir={vault.path}", "cat-file", "--batch-all-objects", "--batch", "--unordered"],
        capture_output=True,
        check=True,
    ).stdout
    assert b"BEGIN KEY" not in held
    # Nothing is left to do.
    assert vault.forget(["*.pem"]).paths == ()

    shutil.move(work, tmp_path / "lost")
    report = vault.restore_snapshot(second, tmp_path / "back")
    assert report.problems == ()
    back = tmp_path / "back"
    assert not (back / "conf/key.pem").exists() and not (back / "staged.pem").exists()
    assert (back / "c.txt").read_text() == "later\n"
    assert git(back, "log", "--format=%H") == git(tmp_path / "lost", "log", "--format=%H")
    assert git(back, "show", "HEAD:b.txt") == "unpushed"
    assert not git(back, "cat-file", "-t", "HEAD:conf/key.pem", ok=False)
    assert git(back, "show", "stash@{0}:a.txt") == "stashed"


def test_what_is_elsewhere_too_stays_there(vault: Vault, work: Path, tmp_path: Path) -> None:
    commit(work, "docs/example.txt", SECRET)
    snapshot = vault.create_snapshot(work).snapshot
    vault.forget(["/conf/"], yes=True)
    held = contents(bundles(vault, snapshot), tmp_path)
    assert SECRET.encode() in held.values()
    shutil.move(work, tmp_path / "lost")
    vault.restore_snapshot(snapshot, tmp_path / "back")
    assert (tmp_path / "back/docs/example.txt").read_text() == SECRET
    assert not (tmp_path / "back/conf").exists()


def test_a_checkout_in_a_folder_that_goes(vault: Vault, tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    commit(cloned(project, "libs"), "key.pem", SECRET)
    (project / "note").write_text("stays")
    snapshot = vault.create_snapshot(project).snapshot
    assert bundles(vault, snapshot)
    vault.forget(["/libs/", "/libs.git/"], yes=True)
    assert bundles(vault, snapshot) == []
    vault.restore_snapshot(snapshot, tmp_path / "back")
    assert [path.name for path in (tmp_path / "back").iterdir()] == ["note"]


@pytest.mark.parametrize("grown", [False, True])
def test_what_is_still_in_the_checkout_is_saved_again_and_said(
    grown: bool, vault: Vault, work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing builds on bundles that are not whole."""
    monkeypatch.setattr("gitvault.vcs.protect.checkout._ANEW_UP_TO", 0 if grown else 1 << 20)
    vault.create_snapshot(work)
    vault.forget(["*.pem"], yes=True)
    if grown:
        commit(work, "more.txt", "more\n")
    report = vault.create_snapshot(work)
    held = contents(bundles(vault, report.snapshot), tmp_path)
    assert sum(SECRET.encode() in data for data in held.values()) == 3
    shutil.move(work, tmp_path / "lost")
    assert vault.restore_snapshot(report.snapshot, tmp_path / "back").problems == ()
    assert (tmp_path / "back/conf/key.pem").read_text() == SECRET
    assert git(tmp_path / "back", "fsck", "--connectivity-only") == ""


def test_a_secret_that_left_the_checkout_does_not_come_back(vault: Vault, work: Path, tmp_path: Path) -> None:
    vault.create_snapshot(work)
    vault.forget(["*.pem"], yes=True)
    (work / "staged.pem").unlink()
    git(work, "stash", "drop", "-q")
    git(work, "reset", "-q", "--hard", "origin/main")
    git(work, "reflog", "expire", "--expire=now", "--all")
    git(work, "gc", "-q", "--prune=now")
    snapshot = vault.create_snapshot(work).snapshot
    assert not any(SECRET.encode() in data for data in contents(bundles(vault, snapshot), tmp_path).values())


def test_a_bundle_that_is_none(vault: Vault, work: Path) -> None:
    """Nobody knows what it holds: nothing is removed."""
    snapshot = vault.create_snapshot(work).snapshot
    history = vault.history
    top = history.tree(history.commit(history.locate(snapshot)).tree)[b"%00vcs"][1]
    pack = history.new_pack()
    junk = pack.add(b"blob", b"# v2 git bundle\n\nPACK?")
    files = {name: oid for name, (_, oid) in history.tree(history.tree(top)[b"0"][1]).items()}
    from gitvault.core.versioning.objects import MODE_FILE, MODE_TREE, encode_tree

    name = next(name for name in files if name.startswith(b"local-00"))
    inner = pack.add(b"tree", encode_tree([(n, MODE_FILE, junk if n == name else oid) for n, oid in files.items()]))
    outer = pack.add(b"tree", encode_tree([(b"0", MODE_TREE, inner)]))
    made = pack.finish()
    assert made
    history.publish([made])
    with pytest.raises(CorruptionError, match=r"local-00\.bundle cannot be read"):
        Bundles(history).look(outer, lambda path, folder: path.endswith(b".pem"))
