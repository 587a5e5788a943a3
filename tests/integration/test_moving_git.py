"""Moving in from git: each commit of a line is a snapshot, LFS content included."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from repositories import commit, git
from trees import contents, write

from gitvault.core.models import Filter, Snapshot
from gitvault.core.versioning.history import HEADS
from gitvault.errors import ExistsError, NotFoundError
from gitvault.moving.git import GitSource
from gitvault.moving.move_in import Moved, move_in
from gitvault.vault import Vault

Command = Callable[..., subprocess.CompletedProcess[str]]
BIG = random.Random(9).randbytes(300_000)


def imported(vault: Vault, repository: Path, branch: str | None = None, project: str | None = None) -> Moved:
    source = GitSource(repository, branch)
    try:
        return move_in(vault, source, project=project)
    finally:
        source.close()


def snapshots(vault: Vault, project: str) -> list[Snapshot]:
    """The oldest first."""
    return vault.list_snapshots(Filter(project=project))[::-1]


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A repository with most of what one can hold, and some commits."""
    folder = tmp_path / "acme"
    folder.mkdir()
    git(folder, "init", "-q")
    write(folder, {"src/main.c": b"int main;\n", "src/deep/a": b"a", "run.sh": b"#!/bin/sh\n", "to": "src/main.c"})
    (folder / "run.sh").chmod(0o755)
    (folder / ".gitattributes").write_text("* text=auto\n")
    day = "2024-03-01T10:00:00+0200"
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "First\n\nWith a body.", GIT_COMMITTER_DATE=day, GIT_AUTHOR_DATE=day)
    git(folder, "tag", "-a", "v1", "-m", "one")
    shutil.rmtree(folder / "src" / "deep")
    (folder / "to").unlink()
    write(folder, {"to/below": b"a folder now\n", "big.bin": BIG, "src/main.c2": b"x", b"\xff name": b"odd\n"})
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "Second")
    git(folder, "commit", "-q", "--allow-empty", "-m", "Third, empty")
    git(folder, "checkout", "-q", "-b", "side", "HEAD~1")
    commit(folder, "side.txt", "side\n", "On the side")
    git(folder, "checkout", "-q", "main")
    git(folder, "merge", "-q", "--no-ff", "-m", "Merge", "side")
    return folder


def test_every_commit_of_the_line_is_a_snapshot_in_order(vault: Vault, work: Path, tmp_path: Path) -> None:
    done = imported(vault, work)
    assert (done.snapshots, done.skipped, done.problems, done.projects) == (4, 0, [], {"acme": 4})
    found = snapshots(vault, "acme")
    line = git(work, "log", "--first-parent", "--reverse", "--format=%H").split()
    assert [one.metadata["import.id"] for one in found] == [f"git:{one}" for one in line]
    assert [one.message for one in found] == ["First\n\nWith a body.", "Second", "Third, empty", "Merge"]
    assert (found[0].tags, found[1].tags) == (("v1",), ())
    assert found[0].time.isoformat() == "2024-03-01T08:00:00+00:00"
    assert found[0].metadata["import.author"] == "A Tester <tester@example.invalid>"
    for one, snapshot in zip(line, found, strict=True):
        out = tmp_path / "out" / one
        git(work, "worktree", "add", "-q", "--detach", tmp_path / "theirs" / one, one)
        (tmp_path / "theirs" / one / ".git").unlink()
        vault.restore_snapshot(snapshot.id, out)
        assert contents(out) == contents(tmp_path / "theirs" / one)
        assert os.access(out / "run.sh", os.X_OK)
        # A file's time is that of the commit that changed it.
        assert (out / "run.sh").stat().st_mtime == found[0].time.timestamp()
    assert not (tmp_path / "out" / line[1] / "src" / "deep").exists()
    assert vault.verify(data=True).ok
    # A branch where nothing is but small files is the same tree.
    first = vault.history.commit(vault.history.locate(found[0].id))
    assert first.tree.hex() == git(work, "rev-parse", f"{line[0]}^{{tree}}")


def test_new_commits_are_added_and_nothing_else(vault: Vault, work: Path) -> None:
    imported(vault, work)
    before = vault.history.refs.list(HEADS)
    again = imported(vault, work)
    assert (again.snapshots, again.skipped, again.files) == (0, 4, 0)
    assert vault.history.refs.list(HEADS) == before
    commit(work, "new.txt", "new\n", "New")
    done = imported(vault, work)
    assert (done.snapshots, done.skipped, done.files) == (1, 4, 1)
    assert [one.message for one in snapshots(vault, "acme")][-2:] == ["Merge", "New"]


def test_another_branch_is_a_project_of_its_own(vault: Vault, work: Path, command: Command) -> None:
    imported(vault, work)
    done = imported(vault, work, "side")
    assert done.projects == {"acme-side": 3}
    assert imported(vault, work, "main").skipped == 4
    refused = command("import", "git", work, "--branch", "none")
    assert (refused.returncode, len(refused.stderr.splitlines())) == (128, 1)


def dated(folder: Path, name: str, day: int) -> str:
    """A commit of a day in January 2024."""
    (folder / name).write_text(name)
    git(folder, "add", name)
    git(folder, "commit", "-q", "-m", name, GIT_COMMITTER_DATE=f"2024-01-{day:02}T10:00:00+0000")
    return git(folder, "rev-parse", "HEAD")


def test_a_line_that_begins_in_a_project_is_not_put_in_between(vault: Vault, tmp_path: Path, command: Command) -> None:
    """Though its first commit is there."""
    work = tmp_path / "od"
    work.mkdir()
    git(work, "init", "-q")
    for day in (1, 2, 3):
        dated(work, f"c{day}", day)
    assert imported(vault, work, project="od").projects == {"od": 3}
    git(work, "checkout", "-q", "-b", "br", "HEAD~2")
    between = dated(work, "z", 2)
    refused = command("import", "git", work, "--branch", "br", "--project", "od")
    assert refused.returncode == ExistsError.exit_code
    said = f"od: has newer snapshots than git {between[:12]}; import under another name"
    assert refused.stderr == f"git-vault: {said}\n"
    assert [one.message for one in snapshots(vault, "od")] == ["c1", "c2", "c3"]
    # What is newer than all goes on, also where a clock was set back, and nothing new is nothing.
    git(work, "checkout", "-q", "main")
    dated(work, "c4", 2)
    assert imported(vault, work, project="od").snapshots == 1
    vault.create_snapshot(work)
    again = imported(vault, work, project="od")
    assert (again.snapshots, again.skipped, again.problems) == (0, 4, [])
    commit(work, "c5", "c5", "c5")
    assert imported(vault, work, project="od").snapshots == 1
    assert [one.message for one in snapshots(vault, "od")][-1] == "c5"


def test_what_is_older_than_an_own_snapshot_gets_a_name_of_its_own(vault: Vault, tmp_path: Path) -> None:
    work = tmp_path / "od"
    work.mkdir()
    git(work, "init", "-q")
    dated(work, "c1", 1)
    imported(vault, work)
    vault.create_snapshot(work)
    dated(work, "c2", 2)
    with pytest.raises(ExistsError, match="od: has newer snapshots"):
        imported(vault, work, project="od")
    assert imported(vault, work).projects == {"od-git": 1}
    dated(work, "c3", 3)
    assert imported(vault, work).projects == {"od-git": 1}
    assert [entry.path for entry in vault.entries("od-git")] == [b"c1", b"c2", b"c3"]
    assert len(snapshots(vault, "od")) == 2


def test_the_repository_is_only_read_and_runs_nothing(vault: Vault, work: Path, tmp_path: Path) -> None:
    trap = tmp_path / "trapped"
    for hook in ("post-checkout", "pre-auto-gc", "reference-transaction", "fsmonitor-watchman"):
        (work / ".git/hooks").mkdir(exist_ok=True)
        (work / ".git/hooks" / hook).write_text(f"#!/bin/sh\ntouch {trap}\n")
        (work / ".git/hooks" / hook).chmod(0o755)
    for key in ("core.fsmonitor", "filter.x.clean", "filter.x.smudge", "diff.x.textconv", "core.pager", "alias.log"):
        git(work, "config", key, f"!touch {trap}" if key.startswith("alias") else f"touch {trap}; cat")
    (work / ".git/info/attributes").write_text("* filter=x diff=x\n")
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in work.rglob("*") if path.is_file()}
    assert imported(vault, work).snapshots == 4
    after = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in work.rglob("*") if path.is_file()}
    assert before == after
    assert not trap.exists()


def test_a_submodule_is_told(vault: Vault, work: Path, tmp_path: Path) -> None:
    git(work, "update-index", "--add", "--cacheinfo", f"160000,{git(work, 'rev-parse', 'HEAD')},lib")
    git(work, "commit", "-q", "-m", "A submodule")
    done = imported(vault, work)
    assert done.snapshots == 5
    assert [problem.path for problem in done.problems] == [b"lib"]
    assert "submodule" in done.problems[0].reason


def test_that_a_shallow_clone_lacks_its_past_is_told_once(
    vault: Vault, work: Path, tmp_path: Path, command: Command
) -> None:
    clone = tmp_path / "cut" / "acme"
    git(tmp_path, "clone", "-q", "--depth", "2", f"file://{work}", clone)
    told = f"{clone}: a shallow clone: what is older is not in it; git fetch --unshallow brings it"
    done = command("import", "git", clone)
    assert (done.returncode, (done.stdout + done.stderr).count(told)) == (1, 1)
    assert [one.message for one in snapshots(vault, "acme")] == ["Third, empty", "Merge"]
    # Then it is another line: the whole one.
    git(clone, "fetch", "-q", "--unshallow")
    whole = imported(vault, clone)
    assert (whole.projects, whole.problems) == ({"acme-git": 4}, [])


def test_a_bare_repository_is_no_folder_that_is_saved(vault: Vault, work: Path, tmp_path: Path) -> None:
    git(tmp_path, "clone", "-q", "--bare", work, "acme.git")
    assert imported(vault, tmp_path / "acme.git").projects == {"acme": 4}
    assert [(project.name, project.archived) for project in vault.projects()] == [("acme", True)]
    # The same line, wherever it lies.
    assert imported(vault, work).skipped == 4


def test_a_checkout_goes_on_where_its_commits_end(vault: Vault, work: Path) -> None:
    imported(vault, work)
    report = vault.create_snapshot(work)
    assert report.project == "acme"
    assert len(snapshots(vault, "acme")) == 5
    commit(work, "new.txt", "new\n", "New")
    assert imported(vault, work).snapshots == 1
    assert vault.verify(data=True).ok
    assert [entry.path for entry in vault.entries("acme") if entry.path == b"new.txt"] == [b"new.txt"]


def test_no_repository_is_one_line(tmp_path: Path, command: Command) -> None:
    with pytest.raises(NotFoundError, match="make a clone first"):
        GitSource(tmp_path / "none").copies()
    (tmp_path / "plain").mkdir()
    with pytest.raises(NotFoundError, match="not a git repository"):
        GitSource(tmp_path / "plain").copies()
    git(tmp_path / "plain", "init", "-q")
    with pytest.raises(NotFoundError, match="no commit on main"):
        GitSource(tmp_path / "plain").copies()
    done = command("import", "git", tmp_path / "plain")
    assert (done.returncode, len(done.stderr.splitlines())) == (128, 1)
    for words in (["git", "a", "b"], ["restic", "a", "--branch", "b"], ["svn", "a"]):
        assert command("import", *words).returncode == 129


def test_a_commit_whose_content_is_gone_is_told(vault: Vault, work: Path) -> None:
    blob = git(work, "rev-parse", "HEAD:big.bin")
    (work / ".git/objects" / blob[:2] / blob[2:]).chmod(0o600)
    (work / ".git/objects" / blob[:2] / blob[2:]).unlink()
    done = imported(vault, work)
    assert done.snapshots == 1
    assert "big.bin: expected a blob, found" in done.problems[0].reason
    assert len(done.problems) == 3


def test_what_follows_a_first_commit_that_cannot_be_read_is_whole(vault: Vault, tmp_path: Path) -> None:
    work = tmp_path / "od"
    work.mkdir()
    git(work, "init", "-q")
    write(work, {"kept": b"kept"})
    git(work, "add", "kept")
    gone = commit(work, "a.txt", "gone\n") and git(work, "rev-parse", "HEAD:a.txt")
    commit(work, "a.txt", "there\n")
    (work / ".git/objects" / gone[:2] / gone[2:]).unlink()
    done = imported(vault, work)
    assert (done.snapshots, len(done.problems)) == (1, 1)
    assert [entry.path for entry in vault.entries("od")] == [b"a.txt", b"kept"]


def test_content_that_has_not_its_hash_is_left_out(vault: Vault, work: Path) -> None:
    for name, content in (("big.bin", BIG[:-1] + b"!"), ("run.sh", b"#!/bin/XX\n")):
        blob = git(work, "rev-parse", f"HEAD:{name}")
        path = work / "forged"
        path.write_bytes(content)
        other = git(work, "hash-object", "-w", "--no-filters", "forged")
        places = [work / ".git/objects" / one[:2] / one[2:] for one in (blob, other)]
        places[0].chmod(0o600)
        shutil.copyfile(places[1], places[0])
    done = imported(vault, work)
    assert {problem.path for problem in done.problems} == {b"big.bin", b"run.sh"}
    assert all("expected the hash blob:" in problem.reason for problem in done.problems)
    assert b"big.bin" not in {entry.path for entry in vault.entries("acme")}


@pytest.fixture
def lfs(tmp_path: Path) -> Path:
    """A clone of a server whose LFS content was not fetched; beside it `work`, where all is."""
    git(tmp_path, "init", "-q", "--bare", "server.git")
    work = tmp_path / "work"
    work.mkdir()
    git(work, "init", "-q")
    git(work, "lfs", "install", "--local")
    git(work, "lfs", "track", "*.bin")
    write(work, {"a.bin": BIG, "empty.bin": b"", "text": b"text\n"})
    git(work, "add", "-A")
    git(work, "commit", "-q", "-m", "One")
    (work / "b.bin").write_bytes(b"small but in LFS")
    git(work, "add", "-A")
    git(work, "commit", "-q", "-m", "Two")
    git(work, "remote", "add", "origin", f"file://{tmp_path}/server.git")
    git(work, "push", "-q", "origin", "main")
    git(tmp_path, "clone", "-q", f"file://{tmp_path}/server.git", "lazy", GIT_LFS_SKIP_SMUDGE="1")
    return tmp_path / "lazy"


@pytest.mark.needs("git-lfs")
def test_lfs_content_comes_along_and_is_fetched_where_it_is_not(vault: Vault, lfs: Path, tmp_path: Path) -> None:
    for repository in (tmp_path / "work", lfs):
        done = imported(vault, repository, project=repository.name)
        assert (done.snapshots, done.problems) == (2, [])
        vault.restore_snapshot(repository.name, tmp_path / "out" / repository.name)
        theirs = {path: data for path, data in contents(tmp_path / "work").items() if not path.startswith(b".git/")}
        assert contents(tmp_path / "out" / repository.name) == theirs
    assert not list(lfs.glob(".git/lfs/objects/*/*/*")), "fetched beside the repository, not into it"


@pytest.mark.needs("git-lfs")
def test_lfs_content_that_is_nowhere_is_told_and_its_pointer_saved(vault: Vault, lfs: Path, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "server.git" / "lfs")
    done = imported(vault, lfs)
    assert done.snapshots == 2
    assert [problem.path for problem in done.problems] == [b"a.bin", b"b.bin"]
    assert all("its pointer is saved" in problem.reason for problem in done.problems)
    vault.restore_snapshot("lazy", tmp_path / "out")
    assert (tmp_path / "out" / "a.bin").read_bytes() == (lfs / "a.bin").read_bytes()
    assert vault.verify(data=True).ok


@pytest.mark.needs("git-lfs")
def test_why_there_is_no_lfs_content_is_told_in_a_few_words(
    vault: Vault, lfs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def told(project: str) -> set[str]:
        """In brackets, of each file."""
        return {
            one.reason.partition("(")[2].partition(")")[0] for one in imported(vault, lfs, project=project).problems
        }

    shutil.rmtree(tmp_path / "server.git" / "lfs")
    assert told("gone") == {f"failed to fetch some objects from 'file://{tmp_path}/server.git'"}
    write(tmp_path / "bin", {})
    (tmp_path / "bin" / "git").symlink_to(shutil.which("git") or "")
    with monkeypatch.context() as patch:
        patch.setenv("PATH", str(tmp_path / "bin"))
        assert told("without") == {"git-lfs is not installed"}
    git(lfs, "remote", "remove", "origin")
    assert told("alone") == {"it has no remote to fetch it from"}
