"""A remote of git, behind `git http-backend`: clone, fetch and restore, with the large files elsewhere or nowhere."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from away import edit, fill, made, quiet
from git_server import served
from trees import differences

from gitvault.cli.main import Session
from gitvault.cli.remote import large_of, of_git
from gitvault.errors import ConfigError, NotFoundError
from gitvault.remotes import git, settings
from gitvault.vault import Vault


def bare(path: Path) -> None:
    subprocess.run(["git", "init", "--bare", "-q", path], check=True)
    subprocess.run(["git", "-C", path, "config", "http.receivepack", "true"], check=True)


@pytest.fixture
def host(tmp_path: Path) -> Iterator[str]:
    bare(tmp_path / "host" / "hub.git")
    with served(tmp_path / "host") as url:
        yield f"{url}/hub.git"


@pytest.fixture
def work(tmp_path: Path) -> Path:
    fill(tmp_path / "work", 1)
    return tmp_path / "work"


def pushed_to(command, host: str, place: Path, work: Path) -> None:  # type: ignore[no-untyped-def]
    """Two snapshots, pushed to git and to a folder."""
    command("snapshot", work)
    edit(work, 500)
    (work / "src" / "file1.txt").write_text("changed\n")
    command("snapshot", work)
    assert command("remote", "add", "bulk", place).returncode == 0
    assert command("remote", "add", "hub", host, "--chunks", "bulk").returncode == 0
    assert command("push", "hub").returncode == 0
    assert command("push", "bulk").returncode == 0


def test_a_clone_with_the_large_files_elsewhere_is_whole(tmp_path: Path, command, host: str, work: Path) -> None:  # type: ignore[no-untyped-def]
    place = tmp_path / "place"
    pushed_to(command, host, place, work)
    clone = tmp_path / "c.git"
    done = json.loads(command("clone", host, clone, "--chunks", place, "--json").stdout)
    assert (done["snapshots"], done["large"]) == (2, {"files": 0, "bytes": 0})
    at = ("--vault", clone)
    assert command(*at, "verify", "--data").returncode == 0
    command(*at, "restore", "work", "--to", tmp_path / "out")
    assert differences(work, tmp_path / "out") == {}
    edit(work, 900)
    command("snapshot", work)
    command("push", "hub")
    command("push", "bulk")
    assert json.loads(command(*at, "fetch", "origin", "--json").stdout)["snapshots"] == 1
    command(*at, "restore", "work", "--to", tmp_path / "out2")
    assert differences(work, tmp_path / "out2") == {}


def test_a_clone_of_git_alone_says_what_it_lacks(tmp_path: Path, command, host: str, work: Path) -> None:  # type: ignore[no-untyped-def]
    place = tmp_path / "place"
    pushed_to(command, host, place, work)
    clone = tmp_path / "c.git"
    shown = command("clone", host, clone)
    assert shown.returncode == 0
    assert "2 large files, 390.6 KiB, not here: git has none" in shown.stdout
    at = ("--vault", clone)
    assert command(*at, "log", "work").stdout.count("work: ") == 2
    done = command(*at, "restore", "work", "--to", tmp_path / "out")
    assert done.returncode == 1
    assert "large.bin" in done.stdout + done.stderr
    assert set(differences(work, tmp_path / "out")) == {b"large.bin"}
    assert json.loads(command(*at, "fetch", "origin", "--json").stdout)["snapshots"] == 0


def test_a_file_is_restored_without_a_vault(tmp_path: Path, command, host: str, work: Path) -> None:  # type: ignore[no-untyped-def]
    place = tmp_path / "place"
    pushed_to(command, host, place, work)
    none = ("--vault", tmp_path / "none.git", "restore", "--remote", host)
    assert command(*none, "work~1", "src/file1.txt", "--to", tmp_path / "a").returncode == 0
    assert (tmp_path / "a" / "src" / "file1.txt").read_text() == "text 1 1\n" * 30
    assert command(*none, "work", "large.bin", "--to", tmp_path / "b").returncode == 1
    assert command(*none, "work", "large.bin", "--chunks", place, "--to", tmp_path / "c").returncode == 0
    assert command("restore", "--remote", "hub", "work", "large.bin", "--to", tmp_path / "d").returncode == 0
    for folder in "c", "d":
        assert (tmp_path / folder / "large.bin").read_bytes() == (work / "large.bin").read_bytes()
    assert command(*none[:-1], place, "work", "--chunks", place, "--to", tmp_path / "e").returncode == 129
    assert command("clone", place, tmp_path / "f.git", "--chunks", place).returncode == 129
    assert command("clone", host, tmp_path / "f.git", "--inspect").returncode == 129


def test_which_remotes_are_of_git(tmp_path: Path) -> None:
    session = Session(None, creates=False, quiet=True)
    for url, is_git in (("https://host/x.git", True), ("me@host:x.git", True), ("s3://b/x", False), ("/folder", False)):
        told = of_git(session, url)
        assert (told is not None and told.url == url) is is_git
    with large_of(session, None) as (told, remote):
        assert (told, remote) == (None, None)
    with large_of(session, str(tmp_path)) as (told, remote):
        assert told is not None
        assert told.url == str(tmp_path)


def test_two_machines_go_separate_ways_on_a_host(tmp_path: Path, host: str, work: Path) -> None:
    fill(tmp_path / "b" / "work", 9)
    with made(tmp_path / "one.git", "desk") as one, made(tmp_path / "two.git", "laptop") as two:
        for vault, folder in (one, work), (two, tmp_path / "b" / "work"):
            vault.create_snapshot(folder)
            settings.add(vault.path, "hub", {"url": host})
            git.push(vault, settings.get(vault.path, "hub"))
        report = git.fetch(two, settings.get(two.path, "hub"), None, progress=quiet)
        assert report.lines == ("work@hub",)
        assert report.large == (2, 209_000)
        assert two.history.projects() == ["work", "work@hub"]
        # Nothing comes twice.
        assert git.fetch(two, settings.get(two.path, "hub"), None, progress=quiet).refs == 0
        assert not list(two.path.glob("tmp/*"))


def test_what_is_no_vault_is_not_taken(tmp_path: Path, host: str, work: Path) -> None:
    subprocess.run(["git", "init", "-q", "-b", "main", tmp_path / "plain"], check=True)
    who = ["-c", "user.name=x", "-c", "user.email=x@y"]
    subprocess.run(["git", *who, "-C", tmp_path / "plain", "commit", "-q", "--allow-empty", "-m", "x"], check=True)
    subprocess.run(["git", "-C", tmp_path / "plain", "push", "-q", host, "main"], check=True)
    with pytest.raises(NotFoundError, match="no vault there"):
        git.clone(host, tmp_path / "c.git", None, {}, progress=quiet)
    assert not (tmp_path / "c.git").exists()
    with Vault.create(tmp_path / "c.git") as vault, pytest.raises(ConfigError, match="password"):
        settings.add(vault.path, "hub", {"url": "https://me:secret@example.com/x.git"})
