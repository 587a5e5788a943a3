"""What of a git checkout exists only on this machine, in every state that a checkout can be in."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from repositories import cloned, commit, git

from gitvault.core.patterns import Patterns
from gitvault.core.utils.files import Disk
from gitvault.vcs import git as vcs_git
from gitvault.vcs import git_state
from gitvault.vcs.find import Finder, checkout_at
from gitvault.vcs.state import Checkout, State


@pytest.fixture
def work(tmp_path: Path) -> Path:
    return cloned(tmp_path)


def look(work: Path, *left_out: str, probe: bool = False) -> State:
    checkout = checkout_at(work)
    assert checkout
    asking = git_state.Asking(datetime.now(UTC), timedelta(days=7), work.parent / "cache", Disk(), probe)
    return git_state.state(checkout, Finder(work, Patterns(left_out)), asking)


def everything(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    """Each file of a folder: mode, time and content."""
    return {
        str(file): (file.lstat().st_mode, file.lstat().st_mtime_ns, file.read_bytes())
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def test_what_is_pushed_is_safe(work: Path) -> None:
    found = look(work)
    assert found.safe and found.branch == "main" and found.base == git(work, "rev-parse", "HEAD")
    assert found.remotes == ("origin",) and found.answered


def test_what_is_not_committed_is_counted_each_file_once(work: Path) -> None:
    commit(work, "b.txt")
    git(work, "push", "-q")
    (work / "a.txt").write_text("staged\n")
    git(work, "add", "a.txt")
    (work / "a.txt").write_text("and changed again\n")
    (work / "b.txt").unlink()
    (work / "new").mkdir()
    (work / "new" / "c.txt").write_text("x")
    (work / "new" / "d\n\xe9.txt").write_text("x")
    found = look(work)
    assert (found.modified, found.staged, found.untracked, found.safe) == (2, 1, 2, False)
    assert work / "new" / "d\n\xe9.txt" in found.local and work / ".git" / "index" in found.local


def test_ignored_files_count_when_the_vault_keeps_them(work: Path) -> None:
    commit(work, ".gitignore", "node_modules/\n.env\n*.log\n")
    git(work, "push", "-q")
    (work / "node_modules" / "deep").mkdir(parents=True)
    (work / "node_modules" / "deep" / "x.js").write_text("x")
    (work / "a.log").write_text("x")
    (work / ".env").write_text("SECRET=1")
    found = look(work, "node_modules", "*.log")
    assert found.untracked == 1 and work / ".env" in found.local
    assert look(work).untracked == 3, "nothing is left out: all count"
    assert look(work, "node_modules", "*.log", ".env").safe


def test_commits_no_remote_has_are_counted_by_branch(work: Path) -> None:
    commit(work, text="2\n")
    git(work, "switch", "-q", "-c", "fix-login")
    commit(work, text="3\n")
    commit(work, text="4\n")
    found = look(work)
    assert dict(found.unpushed) == {"fix-login": 2, "main": 1} and found.branches == ("fix-login",)
    git(work, "switch", "-q", "main")
    assert dict(look(work).unpushed) == {"main": 1, "fix-login": 2}
    git(work, "push", "-q", "origin", "main", "fix-login")
    assert look(work).safe


def test_stashes_are_not_commits_to_push(work: Path) -> None:
    for text in ("2\n", "3\n"):
        (work / "a.txt").write_text(text)
        git(work, "stash")
    found = look(work)
    assert (found.stashes, dict(found.unpushed), found.safe) == (2, {}, False)


def test_a_branch_that_only_names_a_pushed_commit_is_local_until_a_remote_has_it(work: Path) -> None:
    git(work, "branch", "idea")
    assert look(work).branches == ("idea",)
    git(work, "push", "-q", "origin", "idea:theirs")
    git(work, "config", "branch.idea.remote", "origin")
    git(work, "config", "branch.idea.merge", "refs/heads/theirs")
    assert look(work).safe, "it follows a branch of another name"
    git(work.parent / "work.git", "branch", "-q", "-D", "theirs")
    assert look(work).branches == ("idea",), "and that is gone"


def test_a_tag_is_local_until_a_remote_has_it(work: Path) -> None:
    git(work, "tag", "v1")
    git(work, "tag", "-a", "v2", "-m", "two")
    assert look(work).tags == ("v1", "v2")
    git(work, "push", "-q", "origin", "v1")
    assert look(work).tags == ("v2",)
    git(work, "push", "-q", "--tags")
    assert look(work).safe


def test_tags_that_came_with_the_clone_need_no_answer(work: Path) -> None:
    git(work, "tag", "v1")
    git(work, "push", "-q", "--tags")
    git(work.parent, "clone", "-q", "work.git", "other")
    other = work.parent / "other"
    git(other, "remote", "set-url", "origin", "http://127.0.0.1:9/none.git")
    assert look(other).tags == ()
    git(other, "tag", "v2")
    assert look(other).tags == ("v2",)
    old = datetime.now().timestamp() + 60
    os.utime(other / ".git" / "packed-refs", (old, old))
    assert look(other).tags == ("v1", "v2"), "packed since: it may be anybody's"


def test_notes_are_commits_that_a_remote_may_have(work: Path) -> None:
    git(work, "notes", "add", "-m", "remember")
    assert dict(look(work).unpushed) == {"notes/commits": 1}
    git(work, "push", "-q", "origin", "refs/notes/commits")
    assert look(work).safe


def test_without_a_remote_all_of_it_is_only_here(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q", "lone")
    lone = tmp_path / "lone"
    assert look(lone).safe, "nothing to lose yet"
    assert look(lone).base == "" and look(lone).branch == "main"
    (lone / "x").write_text("x")
    assert look(lone).untracked == 1
    commit(lone)
    commit(lone, text="2\n")
    assert dict(look(lone).unpushed) == {"main": 2}


def test_refs_of_a_remote_that_was_removed_are_no_evidence(work: Path) -> None:
    git(work, "config", "--remove-section", "remote.origin")
    assert sum(look(work).unpushed.values()) == 1


def test_a_remote_that_is_gone_makes_it_unsafe(work: Path) -> None:
    shutil.rmtree(work.parent / "work.git")
    found = look(work)
    assert not found.safe and found.trouble == f"origin is gone: {work.parent / 'work.git'}"


def test_a_detached_head_with_own_commits(work: Path) -> None:
    git(work, "checkout", "-q", "--detach")
    assert look(work).safe and look(work).branch == ""
    commit(work, text="2\n")
    assert dict(look(work).unpushed) == {"a detached HEAD": 1}


@pytest.mark.parametrize("operation", ["merge", "rebase", "cherry-pick", "revert"])
def test_the_middle_of_an_operation(work: Path, operation: str) -> None:
    git(work, "switch", "-q", "-c", "other")
    theirs = commit(work, text="theirs\n")
    git(work, "switch", "-q", "main")
    commit(work, text="ours\n")
    commit(work, text="more\n")
    target = "main~1" if operation == "revert" else theirs
    done = subprocess.run(
        ["git", operation, target], cwd=work, capture_output=True, env={**os.environ, "EDITOR": "true"}
    )
    assert done.returncode
    found = look(work)
    assert (found.operation, found.conflicts, found.modified, found.safe) == (operation, 1, 1, False)


def test_linked_worktrees_share_what_is_not_pushed(work: Path) -> None:
    linked = work.parent / "linked"
    git(work, "worktree", "add", "-q", "--detach", linked)
    commit(linked, text="2\n")
    (linked / "x").write_text("x")
    assert dict(look(work).unpushed) == {"a detached HEAD": 1} and look(work).untracked == 0
    found = look(linked)
    assert dict(found.unpushed) == {"a detached HEAD": 1} and found.untracked == 1


def test_submodules_and_nested_repositories_are_told_of_and_not_counted(work: Path) -> None:
    library = cloned(work.parent / "lib-home", "lib")
    git(work, "submodule", "--quiet", "add", f"{library}.git", "lib")
    git(work, "commit", "-q", "-m", "with lib")
    git(work, "push", "-q")
    git(work, "init", "-q", "scratch")
    commit(work / "scratch")
    (work / ".gitignore").write_text("ignored/\n")
    git(work, "init", "-q", "ignored/deep")
    commit(work / "ignored" / "deep")
    commit(work, ".gitignore", "ignored/\n")
    git(work, "push", "-q")
    found = look(work)
    assert found.safe
    nested = {(checkout.path, checkout.vcs) for checkout in found.nested}
    assert nested == {(work / name, "git") for name in ("lib", "scratch", "ignored/deep")}
    commit(work / "lib", text="2\n")
    assert look(work).modified == 1, "the submodule is at another commit"
    inner = git_state.state(
        Checkout(work / "lib", "git"),
        Finder(work, Patterns()),
        git_state.Asking(datetime.now(UTC), timedelta(days=7), work.parent / "cache", Disk()),
    )
    assert dict(inner.unpushed) == {"main": 1}


def test_shallow_and_sparse_and_single_branch_clones(work: Path) -> None:
    commit(work, "dir/b.txt")
    git(work, "push", "-q")
    url = f"file://{work.parent / 'work.git'}"
    git(work.parent, "clone", "-q", "--depth=1", url, "shallow")
    shallow = work.parent / "shallow"
    assert look(shallow).safe and look(shallow).notes == ("a shallow clone",)
    git(shallow, "sparse-checkout", "set", "nowhere")
    assert not (shallow / "dir").exists() and look(shallow).safe
    commit(shallow, "c.txt")
    assert dict(look(shallow).unpushed) == {"main": 1}


def test_bare_repositories_and_mirrors(work: Path) -> None:
    bare = work.parent / "work.git"
    found = look(bare)
    assert found.checkout.bare and dict(found.unpushed) == {"main": 1}
    git(work.parent, "clone", "-q", "--mirror", "work.git", "mirror.git")
    assert look(work.parent / "mirror.git").safe
    git(work.parent, "clone", "-q", "--bare", "work.git", "again.git")
    assert look(work.parent / "again.git").safe


def test_files_git_was_told_not_to_look_at(work: Path) -> None:
    for name, flag in (("a.txt", "--skip-worktree"), ("b.txt", "--assume-unchanged")):
        commit(work, name, "as it came\n")
        git(work, "update-index", flag, name)
    git(work, "push", "-q")
    assert look(work).safe
    for name in ("a.txt", "b.txt"):
        (work / name).write_text("my own settings\n")
    assert git(work, "status", "--porcelain") == ""
    assert look(work).modified == 2


@pytest.mark.needs("git-lfs")
def test_lfs_files_as_they_were_checked_out_are_not_modified(work: Path) -> None:
    git(work, "lfs", "install", "--local")
    git(work, "lfs", "track", "*.bin")
    (work / "x.bin").write_bytes(os.urandom(5000))
    git(work, "add", ".")
    git(work, "commit", "-q", "-m", "lfs")
    git(work, "push", "-q")
    (work / "x.bin").touch()
    assert look(work).safe
    (work / "x.bin").write_bytes(os.urandom(5000))
    assert look(work).modified == 1


def test_a_checkout_that_is_damaged_is_trouble_and_nothing_is_raised(work: Path) -> None:
    (work / ".git" / "HEAD").write_text("nonsense\n")
    assert look(work).trouble == "git cannot read it: not a git repository (or any of the parent directories): .git"
    (work / ".git" / "HEAD").write_text("ref: refs/heads/main\n")
    (work / ".git" / "index").write_bytes(b"DIRC nonsense")
    assert look(work).trouble.startswith("git cannot read it: ")
    (work / ".git" / "config").write_text("[core\n")
    assert look(work).trouble.startswith("git cannot read it: bad config line 1")
    shutil.rmtree(work / ".git")
    (work / ".git").mkdir()
    assert look(work).trouble.startswith("git cannot read it: not a git repository")


def test_a_damaged_repository_is_never_taken_for_the_one_around_it(work: Path) -> None:
    git(work, "init", "-q", "inner")
    (work / "inner" / ".git" / "HEAD").unlink()
    assert look(work / "inner").trouble.startswith("git cannot read it: not a git repository")


def test_nothing_the_repository_names_is_run_and_nothing_is_written(work: Path) -> None:
    ran = work.parent / "ran"
    script = work.parent / "evil"
    script.write_text(f"#!/bin/sh\necho $0 $* >> {ran}\ncat\n")
    script.chmod(0o755)
    commit(work, ".gitattributes", "*.txt filter=bad diff=bad\n*.md filter=a=b.c\n")
    (work / "x.md").write_text("x")
    git(work, "add", "x.md")
    hooks = work / ".git" / "hooks"
    hooks.mkdir(exist_ok=True)
    for name in ("post-index-change", "pre-commit", "fsmonitor-watchman", "reference-transaction", "post-checkout"):
        shutil.copy(script, hooks / name)
    keys = ["core.fsmonitor", "core.sshCommand", "core.pager", "core.editor", "diff.external", "gpg.program"]
    keys += ["core.alternateRefsCommand", "filter.bad.clean", "filter.bad.smudge", "filter.bad.process"]
    keys += ["filter.a=b.c.clean", "filter.a=b.c.process", "diff.bad.textconv", "diff.bad.command", "log.showSignature"]
    for key in keys:
        git(work, "config", key, "true" if "show" in key else str(script))
    git(work, "config", "filter.bad.required", "true")
    for key in ("status", "log", "rev-list", "for-each-ref", "ls-files", "cat-file", "config"):
        git(work, "config", f"alias.{key}", f"!{script}")
    for name in ("a.txt", "x.md"):
        (work / name).write_text("changed\n")
        os.utime(work / name)
    ran.unlink(missing_ok=True)
    before = everything(work)
    found = look(work)
    assert not ran.exists(), ran.read_text()
    assert (found.modified, found.trouble) == (2, "")
    assert everything(work) == before


def test_what_a_partial_clone_lacks_is_not_fetched(work: Path) -> None:
    git(work.parent / "work.git", "config", "uploadpack.allowFilter", "true")
    git(work.parent, "clone", "-q", "--filter=tree:0", f"file://{work.parent / 'work.git'}", "partial")
    partial = work.parent / "partial"
    count = len(list((partial / ".git" / "objects").rglob("*")))
    assert look(partial).safe
    assert len(list((partial / ".git" / "objects").rglob("*"))) == count


def test_a_folder_git_may_not_read(work: Path) -> None:
    if os.geteuid() == 0:
        os.chown(work, 65534, 65534)
        os.chown(work / ".git", 65534, 65534)
        assert look(work).trouble.startswith("git cannot read it: detected dubious ownership")


def test_the_settings_and_refs_as_git_has_them(work: Path) -> None:
    git(work, "config", "--add", "x.Y z.key", "a\nb")
    settings = vcs_git.settings_of(work)
    assert settings["x.Y z.key"] == ["a\nb"]
    git(work, "config", "include.path", "more")
    (work / ".git" / "more").write_text("[x]\n\tmore = yes\n")
    git(work, "config", "core.excludesFile", "~/ignored")
    found, files = vcs_git.settings_and_files(work)
    assert found["x.more"] == ["yes"] and "core.fsmonitor" not in found, "what we ask with is no setting of the user's"
    assert files >= {os.fspath(work / ".git" / name) for name in ("config", "more")}
    assert files >= {os.path.expanduser(name) for name in ("~/.gitconfig", "~/.config/git/ignore", "~/ignored")}
    assert set(vcs_git.refs_of(work)) == {"refs/heads/main", "refs/remotes/origin/main"}
    assert stat.S_ISDIR(vcs_git.own_folder(work).stat().st_mode)
    assert vcs_git.common_folder(work) == vcs_git.own_folder(work) == vcs_git.own_folder(work / ".git")
