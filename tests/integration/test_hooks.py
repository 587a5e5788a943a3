"""Hooks: a commit is saved in the background, and nobody else's hooks are touched."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from gitvault.core.utils.files import Disk
from gitvault.errors import NotFoundError
from gitvault.personas.code.activity import hooks
from gitvault.personas.code.activity.hooks import MARK, NAMES, Found, shim, snippet
from gitvault.vault import Vault

ROOT = Path(__file__).parent.parent.parent
Command = Callable[..., subprocess.CompletedProcess[str]]
pytestmark = pytest.mark.needs("git")


def git(folder: Path, *words: str) -> str:
    return subprocess.run(
        ["git", "-C", folder, *words],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ).stdout


def commit(folder: Path, message: str) -> None:
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", message)


def until(true: Callable[[], object], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come to be"
        time.sleep(0.05)


@pytest.fixture
def work(vault: Vault, tmp_path: Path) -> Path:
    """A project that is a git checkout with a commit."""
    root = tmp_path / "work"
    root.mkdir()
    git(root, "init", "-q")
    (root / "a").write_text("1")
    commit(root, "first")
    vault.add_project(root)
    return root


def files(root: Path) -> dict[str, bytes]:
    return {name: (root / ".git" / "hooks" / name).read_bytes() for name in os.listdir(root / ".git" / "hooks")}


def snapshots(vault: Vault) -> list[str]:
    return [snapshot.trigger for snapshot in vault.list_snapshots()]


def test_a_commit_is_saved(vault: Vault, work: Path, command: Command) -> None:
    done = command("hook", "install", "work", "--json")
    assert (done.returncode, json.loads(done.stdout)["installed"]) == (0, list(NAMES))
    for name in NAMES:
        assert os.access(work / ".git" / "hooks" / name, os.X_OK)
    assert json.loads(command("hook", "status", "work", "--json").stdout)["installed"] == list(NAMES)
    (work / "a").write_text("2")
    commit(work, "second")
    until(lambda: snapshots(vault) == ["post-commit"])
    done = command("hook", "uninstall", "work", "--json")
    assert json.loads(done.stdout)["removed"] == list(NAMES)
    assert command("hook", "status", "work").returncode == 1
    (work / "a").write_text("3")
    commit(work, "third")
    assert git(work, "config", "--get-regexp", ".*").count("hookspath") == 0


def test_a_linked_worktrees_hook_saves_its_own_project(
    vault: Vault, work: Path, tmp_path: Path, command: Command
) -> None:
    """git exports GIT_DIR there."""
    linked = tmp_path / "linked"
    git(work, "worktree", "add", "-q", str(linked))
    vault.add_project(linked)
    assert command("hook", "install", "linked").returncode == 0
    (linked / "b").write_text("1")
    before = git(work, "for-each-ref")
    commit(linked, "in the worktree")
    until(lambda: vault.list_snapshots())
    assert [s.project for s in vault.list_snapshots()] == ["linked"]
    assert git(work, "for-each-ref", "refs/heads/main") in before
    assert "vault" not in git(work, "for-each-ref")


@pytest.mark.parametrize("how", ["hookspath", "hook", "husky", "lefthook", "pre-commit"])
def test_other_managers_hooks_stay_as_they_are(vault: Vault, work: Path, command: Command, how: str) -> None:
    if how == "hookspath":
        git(work, "config", "core.hooksPath", ".husky/_")
    elif how == "hook":
        (work / ".git" / "hooks" / "post-commit").write_text("#!/bin/sh\necho mine\n")
    else:
        name = {"husky": ".husky", "lefthook": "lefthook.yml", "pre-commit": ".pre-commit-config.yaml"}[how]
        (work / name).mkdir() if how == "husky" else (work / name).write_text("")
    before, config = files(work), (work / ".git" / "config").read_bytes()
    done = command("hook", "install", "work", "--json")
    assert done.returncode == 1
    answer = json.loads(done.stdout)
    assert answer["in_the_way"] and "hook run HOOK" in answer["snippet"]
    assert "add to them" in command("hook", "install", "work").stdout
    assert (files(work), (work / ".git" / "config").read_bytes()) == (before, config)


def test_where_there_is_no_repository(vault: Vault, tmp_path: Path, command: Command) -> None:
    assert command("hook", "install", tmp_path).returncode == 128
    with pytest.raises(NotFoundError, match="in no git repository"):
        hooks.look(tmp_path)
    assert command("hook", "run", "nonsense").returncode == 129
    assert command("hook", "install", "a", "b").returncode == 129
    assert hooks.run(vault, tmp_path, "post-commit") is None
    git(tmp_path, "init", "-q")
    assert hooks.look(tmp_path) == Found(str(tmp_path / ".git" / "hooks"), (), "")


@pytest.mark.needs("hg")
def test_mercurial_is_told_by_a_snippet(vault: Vault, tmp_path: Path, command: Command) -> None:
    root = tmp_path / "work"
    subprocess.run(["hg", "init", root], check=True)
    done = command("hook", "install", "work", "--json")
    assert done.returncode == 1
    with (root / ".hg" / "hgrc").open("a") as hgrc:
        hgrc.write(json.loads(done.stdout)["snippet"] + "\n")
    vault.add_project(root)
    (root / "a").write_text("1")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run(["hg", "-R", root, "commit", "-A", "-q", "-m", "x", "-u", "me"], check=True, env=environment)
    until(lambda: snapshots(vault) == ["commit"])


def test_in_the_middle_of_a_rebase_nothing_is_saved_and_at_its_end_once(vault: Vault, work: Path) -> None:
    (work / ".git" / "rebase-merge").mkdir()
    assert hooks.run(vault, work, "post-commit") is None

    waited: list[float] = []

    def sleep(seconds: float) -> None:
        waited.append(seconds)
        if len(waited) == 3:
            (work / ".git" / "rebase-merge").rmdir()

    report = hooks.run(vault, work, "post-rewrite", sleep)
    assert report and len(waited) == 3
    assert vault.get_snapshot_info(report.snapshot).trigger == "post-rewrite"
    (work / ".git" / "rebase-merge").mkdir()
    assert hooks.run(vault, work, "post-rewrite", lambda seconds: None) is None


def test_of_many_hooks_at_once_the_first_does_the_work(vault: Vault, work: Path) -> None:
    words = [sys.executable, "-m", "gitvault", "--vault", str(vault.path), "hook", "run", "post-commit", "--json"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    several = [subprocess.Popen(words, cwd=work, env=environment, stdout=subprocess.PIPE) for _ in range(4)]
    said = [json.loads(process.communicate(timeout=60)[0])["snapshot"] for process in several]
    assert any(said)
    assert len(vault.list_snapshots()) == 1
    assert vault.create_snapshot(work).unchanged


def test_the_frameworks_checks(tmp_path: Path, command: Command) -> None:
    (tmp_path / "big.bin").write_bytes(bytes(2000))
    (tmp_path / "ok.txt").write_text("text")
    (tmp_path / "id_rsa").write_text("-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----\n")
    done = command("hook", "run", "check-large", "--limit", "1000", "ok.txt", "big.bin", "gone", "--json")
    assert (done.returncode, json.loads(done.stdout)) == (1, {"large": ["big.bin"]})
    done = command("hook", "run", "check-secrets", "ok.txt", "id_rsa", "gone")
    assert done.returncode == 1 and done.stdout.startswith("id_rsa: ") and "ok.txt" not in done.stdout
    assert command("hook", "run", "check-secrets", "ok.txt").returncode == 0
    assert hooks.too_large(["ok.txt"]) == [] and hooks.secrets([]) == []


def test_the_framework_saves_in_the_background(vault: Vault, work: Path, command: Command) -> None:
    assert command("hook", "run", "--detach", "snapshot", cwd=work, env={}).returncode == 0
    until(lambda: snapshots(vault) == ["snapshot"])


def test_the_shims_beside_the_package_are_what_is_installed() -> None:
    for name in NAMES:
        file = ROOT / "hooks" / name
        assert file.read_text() == shim(name, ["git-vault"]) and MARK in file.read_text()
        assert os.access(file, os.X_OK)
    assert (ROOT / "hooks" / "hgrc").read_text().endswith(snippet(["git-vault"], "hg") + "\n")
    declared = (ROOT / ".pre-commit-hooks.yaml").read_text()
    for name in ("vault-snapshot", "vault-check-large", "vault-check-secrets"):
        assert f"- id: {name}\n" in declared


def test_a_commit_is_not_held_up(work: Path, tmp_path: Path) -> None:
    """What runs takes seconds; the hook waits for nothing and takes a few milliseconds of the processor."""
    import resource

    slow = tmp_path / "slow"
    slow.write_text("#!/bin/sh\nsleep 3\n")
    slow.chmod(0o755)
    hooks.install(work, [str(slow)], Disk())

    def took() -> tuple[float, float]:
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        subprocess.run([work / ".git" / "hooks" / "post-commit"], check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return used, time.perf_counter() - began

    used, waited = zip(*(took() for _ in range(15)), strict=True)
    assert min(used) < 0.02
    assert min(waited) < 2
