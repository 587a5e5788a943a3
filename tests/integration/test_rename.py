"""A project gets another name: its history goes with it, under the same ids, and all of it or nothing moves."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from trees import differences, write

from gitvault.core.backup_engine.retention import Retention
from gitvault.core.models import SnapshotId
from gitvault.core.versioning import catalog
from gitvault.core.versioning.edits import Edit
from gitvault.core.versioning.history import HEADS, META
from gitvault.errors import ExistsError, GitVaultError, LockedError, NotFoundError
from gitvault.vault import Vault

Command = Callable[..., subprocess.CompletedProcess[str]]


def git(vault: Vault, *words: str) -> str:
    return subprocess.check_output(["git", "--git-dir", vault.path, *words], text=True).strip()


@pytest.fixture
def taken(tmp_path: Path, vault: Vault) -> list[SnapshotId]:
    """Two snapshots of acme, with a tag of each kind and a note on the first, and one of another project."""
    found = []
    for number in range(2):
        write(tmp_path / "acme", {"a": b"%d" % number, "big.bin": b"\0" * 100_000, "sub/b": b"b"})
        found.append(vault.create_snapshot(tmp_path / "acme").snapshot)
        vault.restore_snapshot(found[-1], tmp_path / f"{number}")
    vault.create_snapshot(write(tmp_path / "other", {"x": b"x"}))
    git(vault, "tag", "-a", "-m", "t", "acme/first", found[0])
    git(vault, "tag", "acme/light", found[1])
    git(vault, "notes", "--ref", "vault/feedback", "add", "-m", "n", found[0])
    return found


def assert_named(vault: Vault, name: str, gone: str, ids: list[SnapshotId], tmp_path: Path) -> None:
    """The project has that name in every respect, and its snapshots give back what was saved."""
    assert [found.id for found in vault.history.list_versions(name)] == ids[::-1]
    assert {found.project for found in vault.history.list_versions(name)} == {name}
    assert vault.project(name).path == str(tmp_path / "acme")
    assert vault.resolve(name) == ids[-1] and vault.resolve(ids[0][:12]) == ids[0]
    refs = vault.history.refs.list()
    assert not [ref for ref in refs if f"/{gone}" in ref and not ref.startswith("refs/vault/undo/")]
    assert {HEADS + name, META + name, f"refs/tags/{name}/first", f"refs/tags/{name}/light"} <= refs.keys()
    for tag, at in (("first", ids[0]), ("light", ids[1])):
        assert vault.history.identify(vault.history.peel(refs[f"refs/tags/{name}/{tag}"])) == at
    commit = vault.history.locate(ids[0]).hex()
    assert git(vault, "notes", "--ref", "vault/feedback", "show", commit) == "n"
    with pytest.raises(NotFoundError):
        vault.resolve(gone)
    for number, name_of in enumerate(ids[:2]):
        back = tmp_path / f"back-{name}-{number}-{len(ids)}"
        vault.restore_snapshot(name_of, back)
        assert differences(tmp_path / f"{number}", back) == {}
    assert vault.verify(data=True).ok
    git(vault, "fsck", "--strict")


def test_everything_has_the_new_name_and_the_old_ids(vault: Vault, taken: list[SnapshotId], tmp_path: Path) -> None:
    trees = [vault.history.trees(name) for name in taken]
    done = vault.rename_project("acme", "beta")
    assert (done.what, done.renamed) == ("rename", (("acme", "beta"),))
    assert_named(vault, "beta", "acme", taken, tmp_path)
    assert [vault.history.trees(name) for name in taken] == trees
    assert vault.resolve("other")


def test_the_next_snapshot_goes_on_and_reads_only_what_changed(
    vault: Vault, taken: list[SnapshotId], tmp_path: Path
) -> None:
    vault.rename_project("acme", "beta")
    assert vault.create_snapshot(tmp_path / "acme").unchanged
    write(tmp_path / "acme", {"a": b"new"})
    report = vault.create_snapshot(tmp_path / "acme")
    assert (report.project, report.changed, report.bytes_read) == ("beta", 1, 3)
    assert [state.state for state in vault.status([tmp_path / "acme"])] == ["saved"]
    assert [found.id for found in vault.history.list_versions("beta")] == [report.snapshot, *taken[::-1]]


def test_undo_gives_the_old_name_back_with_what_was_saved_since(
    vault: Vault, taken: list[SnapshotId], tmp_path: Path
) -> None:
    before = vault.history.refs.list("refs/heads/")
    vault.rename_project("acme", "beta")
    vault.undo()
    assert vault.history.refs.list("refs/heads/") == before
    assert_named(vault, "acme", "beta", taken, tmp_path)
    vault.undo()
    assert_named(vault, "beta", "acme", taken, tmp_path)
    write(tmp_path / "acme", {"a": b"since"})
    since = vault.create_snapshot(tmp_path / "acme").snapshot
    git(vault, "tag", "beta/since", vault.history.locate(since).hex())
    vault.add_project(write(tmp_path / "third", {"x": b"x"}))
    undone = vault.undo(2)
    assert undone.undoes == (3, 2) and undone.renamed == ()
    assert_named(vault, "beta", "acme", [*taken, since], tmp_path)
    vault.undo(4)
    assert_named(vault, "acme", "beta", [*taken, since], tmp_path)
    assert vault.history.peel(vault.history.refs.list()["refs/tags/acme/since"]) == vault.history.locate(since)
    assert vault.project("third")


def test_undo_through_a_rename_and_a_prune(vault: Vault, taken: list[SnapshotId], tmp_path: Path) -> None:
    vault.prune(Retention(last=1), projects=["acme"], yes=True)
    vault.rename_project("acme", "beta")
    vault.rename_project("beta", "gamma")
    vault.undo(3)
    assert_named(vault, "acme", "gamma", taken, tmp_path)


def test_a_name_that_another_project_took_is_not_given_back(
    vault: Vault, taken: list[SnapshotId], tmp_path: Path
) -> None:
    vault.rename_project("acme", "beta")
    vault.create_snapshot(write(tmp_path / "else", {"x": b"x"}), project="acme")
    refs = vault.history.refs.list()
    with pytest.raises(GitVaultError, match="acme: is the name of another project by now"):
        vault.undo()
    assert vault.history.refs.list() == refs


def test_a_project_that_was_never_saved(vault: Vault, tmp_path: Path) -> None:
    vault.add_project(write(tmp_path / "new", {"x": b"x"}))
    vault.rename_project("new", "newer")
    assert [project.name for project in vault.projects()] == ["newer"]
    vault.undo()
    assert [project.name for project in vault.projects()] == ["new"]


def test_on_every_machine(vault: Vault, taken: list[SnapshotId]) -> None:
    """A project is one chain of snapshots, whichever machines save it."""
    listed = vault.projects()
    catalog.save(vault.history, [*listed, replace(vault.project("acme"), host="couch")], "Add acme")
    vault.rename_project("acme", "beta")
    assert sorted((p.name, p.host == "couch") for p in vault.projects()) == [
        ("beta", False),
        ("beta", True),
        ("other", False),
    ]


@pytest.mark.parametrize("new", ["other", "Other", "ACME", "acme", " ", "n" * 300, "tagged"])
def test_names_that_it_cannot_have(new: str, vault: Vault, taken: list[SnapshotId]) -> None:
    git(vault, "tag", "tagged/x", taken[0])
    refs = vault.history.refs.list()
    with pytest.raises(GitVaultError) as wrong:
        vault.rename_project("acme", new)
    assert isinstance(wrong.value, ExistsError) == (new.strip() != "" and len(new) < 300)
    with pytest.raises(NotFoundError, match="nothing: no such project"):
        vault.rename_project("nothing", "new")
    assert vault.history.refs.list() == refs


def test_a_clone_checks_out_the_renamed_branch(vault: Vault, taken: list[SnapshotId], tmp_path: Path) -> None:
    git(vault, "symbolic-ref", "HEAD", "refs/heads/acme")
    vault.rename_project("acme", "beta")
    assert git(vault, "symbolic-ref", "HEAD") == "refs/heads/beta"
    subprocess.run(["git", "clone", "-q", vault.path, tmp_path / "clone"], check=True)
    assert (tmp_path / "clone" / "a").read_bytes() == b"1"
    vault.undo()
    assert git(vault, "symbolic-ref", "HEAD") == "refs/heads/acme"


def test_a_snapshot_that_waited_for_a_rename_makes_no_second_project(
    vault: Vault, taken: list[SnapshotId], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = vault.project("acme")
    vault.rename_project("acme", "beta")
    monkeypatch.setattr(Vault, "add_project", lambda *_: known)
    with pytest.raises(LockedError, match="acme: got another name meanwhile; run again"):
        vault.create_snapshot(tmp_path / "acme")
    assert vault.history.tip("acme") is None


def test_commits_of_other_tools_come_along(vault: Vault, taken: list[SnapshotId], tmp_path: Path) -> None:
    subprocess.run(["git", "clone", "-q", "-b", "acme", vault.path, tmp_path / "clone"], check=True)
    write(tmp_path / "clone", {"by-hand": b"x"})
    for words in (["add", "."], ["commit", "-qm", "By hand"], ["push", "-q"]):
        subprocess.run(["git", "-C", tmp_path / "clone", *words], check=True)
    by_hand = SnapshotId(git(vault, "rev-parse", "acme"))
    vault.rename_project("acme", "beta")
    newest = vault.get_snapshot_info("beta")
    assert (newest.id, newest.message.split("\n")[0]) == (by_hand, "By hand")
    assert vault.verify(data=True).ok


def test_on_the_command_line(vault: Vault, taken: list[SnapshotId], command: Command) -> None:
    done = json.loads(command("projects", "rename", "acme", "beta", "--json").stdout)
    assert done == {"old": "acme", "new": "beta", "operation": 1}
    assert "rename" in command("op", "log").stdout
    assert command("projects", "rename", "beta", "acme").stdout == "beta is now acme\n"
    for words, code in ((["rename", "acme"], 129), (["rename"], 129), (["remove"], 129)):
        assert command("projects", *words).returncode == code
    assert command("projects", "rename", "none", "x").returncode == 128


def said(vault: Vault, name: str, text: str) -> None:
    """A record in each area that a game's project has."""
    for kind in ("feedback", "builds"):
        vault.area(f"{kind}/{name}").add({f"{text}.txt".encode(): text.encode()}, text)


def held(vault: Vault, name: str) -> dict[str, list[bytes]]:
    return {kind: list(vault.area(f"{kind}/{name}").paths()) for kind in ("feedback", "builds")}


def test_records_go_along_there_and_back(vault: Vault, taken: list[SnapshotId]) -> None:
    said(vault, "acme", "one")
    said(vault, "other", "theirs")
    before = vault.history.refs.list("refs/vault/feedback/")
    vault.rename_project("acme", "beta")
    assert held(vault, "beta") == {"feedback": [b"one.txt"], "builds": [b"one.txt"]}
    assert set(vault.history.refs.list("refs/vault/feedback/")) == {
        "refs/vault/feedback/beta",
        "refs/vault/feedback/other",
    }
    said(vault, "beta", "two")
    vault.undo()
    assert held(vault, "acme") == {"feedback": [b"one.txt", b"two.txt"], "builds": [b"one.txt", b"two.txt"]}
    assert vault.history.refs.list("refs/vault/feedback/").keys() == before.keys()
    vault.undo()
    assert held(vault, "beta")["feedback"] == [b"one.txt", b"two.txt"]
    assert vault.verify(data=True).ok


def test_records_that_came_under_the_old_name_are_joined_when_it_comes_back(
    vault: Vault, taken: list[SnapshotId]
) -> None:
    """As a machine brings them that has not heard of the new name."""
    said(vault, "acme", "one")
    vault.rename_project("acme", "beta")
    said(vault, "beta", "two")
    said(vault, "acme", "late")
    vault.undo()
    assert held(vault, "acme")["feedback"] == [b"late.txt", b"one.txt", b"two.txt"]
    assert held(vault, "beta")["feedback"] == []
    vault.sweep()
    assert vault.verify(data=True).ok


def test_a_name_under_which_there_are_records_is_taken(vault: Vault, taken: list[SnapshotId]) -> None:
    said(vault, "shut", "theirs")
    with pytest.raises(ExistsError, match="shut: has snapshots, tags or records already"):
        vault.rename_project("acme", "shut")


def test_records_outlive_a_prune_and_a_removed_project(vault: Vault, taken: list[SnapshotId], tmp_path: Path) -> None:
    said(vault, "acme", "one")
    vault.prune(Retention(last=1), projects=["acme"], yes=True)
    vault.edit_projects(["acme"], Edit({"removed": True}))
    vault.sweep()
    assert held(vault, "acme") == {"feedback": [b"one.txt"], "builds": [b"one.txt"]}
    assert vault.verify(data=True).ok


def test_a_copy_of_one_project_takes_its_records_and_nobody_elses(
    vault: Vault, taken: list[SnapshotId], tmp_path: Path
) -> None:
    said(vault, "acme", "one")
    said(vault, "other", "theirs")
    vault.area("workspaces").add({b"krita/1": b"everybody's"}, "a workspace")
    vault.copy_to(tmp_path / "copy.git", projects=["acme"])
    with Vault.open(tmp_path / "copy.git") as copy:
        assert held(copy, "acme") == {"feedback": [b"one.txt"], "builds": [b"one.txt"]}
        assert held(copy, "other") == {"feedback": [], "builds": []}
        assert list(copy.area("workspaces").paths()) == [b"krita/1"]
