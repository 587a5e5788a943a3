"""`vcs status`: if this machine were lost now, what would be lost?"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from repositories import cloned, commit, git

from gitvault.core.utils import device, process
from gitvault.errors import NotFoundError
from gitvault.vault import Vault
from gitvault.vcs.verdict import Safety

# What device a folder is on counts here.
pytestmark = pytest.mark.disk

Command = Callable[..., "subprocess.CompletedProcess[str]"]
KEYS = ["project", "path", "vcs", "safe", "modified", "untracked", "unpushed_commits", "stashes", "reason"]


@pytest.fixture
def work(tmp_path: Path, vault: Vault) -> Path:
    work = cloned(tmp_path)
    vault.add_project(work)
    return work


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on another device, as far as anybody can tell."""
    shm = Path("/dev/shm")
    if not shm.is_dir() or device.same_device(shm, Path.cwd()):
        pytest.skip("no second file system to write to")
    folder = shm / f"gitvault-{id(monkeypatch)}"
    folder.mkdir()
    yield folder
    shutil.rmtree(folder)


def verdict(vault: Vault, *names: str) -> Safety:
    """The verdict on one project; times are written N."""
    (found,) = vault.vcs_status(names)
    return replace(found, reason=re.sub(r"\d+ (seconds|minutes)", "N", found.reason))


def test_the_form_that_other_programs_use(work: Path, command: Command) -> None:
    done = command("vcs", "status", "--json")
    (one,) = json.loads(done.stdout)
    assert list(one) == KEYS and done.returncode == 0
    assert (one["project"], one["path"], one["vcs"], one["safe"]) == ("work", str(work), "git", True)
    (work / "a.txt").write_text("two\n")
    git(work, "stash")
    (work / "a.txt").write_text("three\n")
    git(work, "commit", "-q", "-a", "-m", "three")
    (work / "a.txt").write_text("four\n")
    (work / "new").write_text("x")
    done = command("vcs", "status", "work", "--json")
    (one,) = json.loads(done.stdout)
    counts = [one[key] for key in ("safe", "modified", "untracked", "unpushed_commits", "stashes")]
    assert done.returncode == 1 and counts == [False, 1, 1, 1, 1]
    said = "1 unpushed commit on main; 1 modified file; 1 untracked file; 1 stash; not in the vault yet"
    assert one["reason"] == said
    assert command("vcs", "status").stdout == f"UNSAFE  work  git  {said}\n"


def test_a_project_that_nobody_knows(work: Path, vault: Vault, command: Command) -> None:
    with pytest.raises(NotFoundError, match="nobody: no such project; git-vault projects lists them"):
        vault.vcs_status(["nobody"])
    name = vault.projects()[0].name
    with pytest.raises(NotFoundError, match=rf"{name}e: no such project \(did you mean {name}\?\); git-vault"):
        vault.vcs_status([f"{name}e"])
    vault.create_snapshot(work)
    with pytest.raises(NotFoundError, match=rf"milestone or date \(did you mean {name}\?\); git-vault log"):
        vault.resolve(f"{name}e~3")
    assert command("vcs", "status", "nobody").returncode == 128
    assert command("vcs").returncode == 129


def test_the_vault_has_it_counts_on_another_device_only(work: Path, vault: Vault, elsewhere: Path) -> None:
    (work / "new").write_text("x")
    assert verdict(vault).reason.endswith("; not in the vault yet")
    vault.create_snapshot(work)
    found = verdict(vault)
    assert not found.safe and found.reason.endswith("; the vault has had all of it for N, on this device")
    vault.copy_to(elsewhere / "copy.git")
    found = verdict(vault)
    assert found.safe and found.reason.endswith(f", on another device: {elsewhere / 'copy.git'}")
    (work / "new").write_text("changed")
    found = verdict(vault)
    assert not found.safe and found.reason.endswith("; the vault has the state of N ago, not the latest changes")
    vault.create_snapshot(work)
    assert not verdict(vault).safe, "the copy has an older snapshot"
    shutil.rmtree(elsewhere / "copy.git")
    assert not verdict(vault).safe, "the copy is gone"


def test_a_vault_that_is_itself_on_another_device_counts(tmp_path: Path, elsewhere: Path) -> None:
    work = cloned(tmp_path)
    (work / "new").write_text("x")
    with Vault.create(elsewhere / "vault.git") as vault:
        vault.create_snapshot(work)
        assert verdict(vault).safe


def test_what_changed_since_the_snapshot_is_noticed_whatever_it_is(work: Path, vault: Vault) -> None:
    (work / "a.txt").write_text("two\n")
    vault.create_snapshot(work)
    for change in (
        lambda: (work / "a.txt").write_text("three\n"),
        lambda: git(work, "add", "a.txt"),
        lambda: git(work, "commit", "-q", "-m", "three"),
        lambda: git(work, "branch", "idea"),
        lambda: git(work, "tag", "v1"),
        lambda: (work / "a.txt").write_text("four\n") and git(work, "stash"),
    ):
        change()
        assert "not the latest changes" in verdict(vault).reason
        vault.create_snapshot(work)
        assert "the vault has had all of it" in verdict(vault).reason


def test_files_under_no_version_control_are_only_here(tmp_path: Path, vault: Vault, elsewhere: Path) -> None:
    plain = tmp_path / "plain"
    (plain / "deep").mkdir(parents=True)
    for name in ("a", "deep/b"):
        (plain / name).write_text("x")
    vault.create_snapshot(plain)
    found = verdict(vault)
    assert (found.vcs, found.safe, found.untracked) == (None, False, 2)
    assert found.reason == "2 files under no version control; the vault has had all of it for N, on this device"
    vault.copy_to(elsewhere / "copy.git")
    assert verdict(vault).safe
    (plain / "deep" / "b").write_text("changed")
    assert not verdict(vault).safe


def test_several_checkouts_in_one_project_are_one_line(tmp_path: Path, vault: Vault) -> None:
    client = tmp_path / "client"
    client.mkdir()
    for name in ("api", "web", "app", "doc"):
        work = cloned(client / name, "work")
        shutil.move(client / name / "work.git", tmp_path / f"{name}.git")
        git(work, "remote", "set-url", "origin", str(tmp_path / f"{name}.git"))
    vault.add_project(client)
    assert verdict(vault).safe and verdict(vault).vcs == "git"
    commit(client / "web" / "work", text="2\n")
    (client / "api" / "work" / "x").write_text("x")
    found = verdict(vault)
    assert (found.unpushed_commits, found.untracked) == (1, 1)
    assert found.reason.startswith("in api/work: 1 untracked file; in web/work: 1 unpushed commit on main; ")
    for name in ("doc", "app"):
        (client / name / "work" / "x").write_text("x")
    assert "; and 1 more checkout; " in verdict(vault).reason


def test_a_nested_repository_makes_the_project_unsafe(work: Path, vault: Vault) -> None:
    git(work, "init", "-q", "scratch")
    commit(work / "scratch")
    found = verdict(vault)
    assert not found.safe and found.reason.startswith("in scratch: no remote has its 1 commit; ")


def test_a_damaged_repository_is_one_clear_line_and_the_rest_works(
    work: Path, tmp_path: Path, vault: Vault, command: Command
) -> None:
    vault.add_project(cloned(tmp_path, "other"))
    (work / ".git" / "HEAD").write_text("nonsense")
    done = command("vcs", "status")
    first, second = done.stdout.splitlines()
    assert first.split() == ["safe", "other", "git", *first.split()[3:]]
    assert second.startswith("UNSAFE  work   git  git cannot read it: not a git repository")
    assert done.returncode == 1 and done.stderr == ""


def test_a_folder_that_is_gone(work: Path, vault: Vault) -> None:
    vault.create_snapshot(work)
    shutil.rmtree(work)
    found = verdict(vault)
    assert not found.safe
    assert found.reason == f"{work}: no such folder; the vault has had all of it for N, on this device"


def test_no_projects_yet(command: Command) -> None:
    done = command("vcs", "status")
    assert done.returncode == 0 and done.stdout.startswith("no projects yet")
    assert json.loads(command("vcs", "status", "--json").stdout) == []


def test_probing_asks_the_remotes_and_remembers(work: Path, vault: Vault, command: Command) -> None:
    git(work, "remote", "set-url", "origin", "http://127.0.0.1:9/none.git")
    assert command("vcs", "status", "--probe").returncode == 0, "it has time to come back"
    assert list((vault.path / "cache").glob("remotes-*.json"))
    vault_config = vault.path / "config"
    vault_config.write_text(vault_config.read_text() + "\tremoteTimeout = 0h\n")
    done = command("vcs", "status")
    assert done.returncode == 1 and "origin has not answered since" in done.stdout


def test_after_a_snapshot_remotes_are_asked_in_the_background_once_a_day(
    work: Path, vault: Vault, monkeypatch: pytest.MonkeyPatch, command: Command
) -> None:
    started: list[list[str]] = []
    monkeypatch.setattr(process, "start_detached", started.append)
    vault.create_snapshot(work)
    assert not started, "upkeep is off here"
    config = vault.path / "config"
    config.write_text(config.read_text().replace("maintenance = off", "maintenance = auto"))
    with Vault.open(vault.path) as again:
        again.create_snapshot(work)
        assert started == [["-m", "gitvault", *started[0][2:]]]
        assert command(*started[0][4:]).returncode == 0
        again.create_snapshot(work)
        assert len(started) == 1


def test_names_that_are_no_text_and_look_like_commands(tmp_path: Path, vault: Vault, command: Command) -> None:
    work = cloned(tmp_path)
    git(work, "switch", "-q", "-c", "we\u202eird")
    commit(work, "b.txt")
    vault.add_project(work)
    assert "\u202e" not in command("vcs", "status").stdout + command("vcs", "status", "--json").stdout


def test_disks_beneath_partitions_and_volumes_are_one_device(tmp_path: Path) -> None:
    blocks: dict[str, Any] = {
        "sda": None,
        "sda/sda1": "partition",
        "sda/sda2": "partition",
        "sdb": None,
        "dm-0": "sda/sda2",
    }
    for name, kind in blocks.items():
        (tmp_path / "devices" / name / "slaves").mkdir(parents=True)
        if kind == "partition":
            (tmp_path / "devices" / name / "partition").touch()
        elif kind:
            (tmp_path / "devices" / name / "slaves" / "below").symlink_to(tmp_path / "devices" / kind)
    for number, name in enumerate(blocks):
        (tmp_path / f"8:{number}").symlink_to(tmp_path / "devices" / name)
    found = [device._disks(os.makedev(8, number), tmp_path) for number in range(len(blocks))]
    assert found == [{"sda"}, {"sda"}, {"sda"}, {"sdb"}, {"sda"}]
    assert device._disks(os.makedev(9, 0), tmp_path) == frozenset()


def test_a_safety_is_a_record(work: Path, vault: Vault) -> None:
    found = verdict(vault)
    assert replace(found, checkouts=()) == Safety("work", str(work), "git", True, 0, 0, 0, 0, found.reason)
    assert found.reason.startswith("all of it is on origin (as of ")
