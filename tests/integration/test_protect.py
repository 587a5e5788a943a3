"""Snapshots of git checkouts in the mode `protect`: nothing is lost, and what a remote has is not stored again."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from repositories import cloned, commit, git

from gitvault.errors import CorruptionError, ExistsError, NotFoundError
from gitvault.vault import Vault
from gitvault.vcs.protect import record
from gitvault.vcs.protect.repository import without_credentials

Change = Callable[[Path], object]


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A clone with some history, of which all is pushed."""
    work = cloned(tmp_path)
    for number in range(3):
        commit(work, f"src/{number}.c", f"int n = {number};\n", f"file {number}")
    commit(work, "src/deep/a b.h", "deep\n")
    (work / "src" / "link").symlink_to("0.c")
    (work / "run.sh").write_text("#!/bin/sh\n")
    (work / "run.sh").chmod(0o755)
    git(work, "add", ".")
    git(work, "commit", "-q", "-m", "link and script")
    git(work, "push", "-q")
    return work


def files(folder: Path) -> dict[str, tuple[int, bytes]]:
    """The files of a work tree; of their modes what git knows."""
    found = {}
    for place, folders, names in os.walk(folder):
        if ".git" in folders:
            folders.remove(".git")
        for name in [*names, *(name for name in folders if os.path.islink(os.path.join(place, name)))]:
            path = os.path.join(place, name)
            relative = os.path.relpath(path, folder)
            if os.path.islink(path):
                found[relative] = 0, os.readlink(path).encode()
            elif name != ".git":
                found[relative] = os.stat(path).st_mode & 0o100, Path(path).read_bytes()
    return found


def facts(folder: Path) -> dict[str, object]:
    """All that a restored checkout has to have in common with the one that was saved."""
    stashes = git(folder, "stash", "list", "--format=%H", ok=False).split()
    return {
        "files": files(folder),
        "status": git(folder, "--no-optional-locks", "status", "--porcelain=v2", "-b", "--ignored", "-uall"),
        "index": git(folder, "ls-files", "--stage"),
        "flags": git(folder, "ls-files", "-v"),
        "refs": git(folder, "for-each-ref", "--format=%(refname) %(objectname) %(symref)"),
        "head": git(folder, "symbolic-ref", "HEAD", ok=False) or git(folder, "rev-parse", "HEAD"),
        "stashes": [git(folder, "show", "--format=raw", "-m", stash) for stash in stashes],
        "reflog": git(folder, "reflog", "--all", ok=False),
        "config": (folder / ".git" / "config").read_text() if (folder / ".git").is_dir() else "",
        "whole": git(folder, "fsck", "--connectivity-only", "--no-dangling"),
    }


# -- every state that a checkout can be in -----------------------------------------------------------


def dirty(work: Path) -> None:
    (work / "src" / "0.c").write_text("int n = 10;\n")
    git(work, "add", "src/0.c")
    (work / "src" / "0.c").write_text("int n = 11;\n")
    (work / "src" / "1.c").unlink()
    git(work, "rm", "-q", "--cached", "src/2.c")
    (work / "run.sh").chmod(0o644)
    (work / "new.txt").write_text("new\n")
    (work / "src" / "link").unlink()
    (work / "src" / "link").symlink_to("2.c")


def unpushed(work: Path) -> None:
    commit(work, "b.txt", "unpushed\n")
    git(work, "tag", "light")
    git(work, "tag", "-a", "-m", "heavy", "heavy")
    git(work, "switch", "-q", "-c", "topic", "HEAD~1")
    commit(work, "c.txt", "on a branch\n")


def stashes(work: Path) -> None:
    for number in range(3):
        (work / "a.txt").write_text(f"stashed {number}\n")
        (work / f"u{number}").write_text("untracked\n")
        git(work, "stash", "push", "-q", "-u", "-m", f"number {number}")


def amended(work: Path) -> None:
    commit(work, "b.txt", "first try\n")
    git(work, "commit", "-q", "--amend", "-m", "second try")


def detached(work: Path) -> None:
    git(work, "checkout", "-q", "--detach", "HEAD~1")
    commit(work, "d.txt", "on no branch\n")


def _forked(work: Path) -> None:
    git(work, "switch", "-q", "-c", "topic", "HEAD~1")
    commit(work, "src/0.c", "theirs\n")
    commit(work, "other.txt", "theirs\n")
    git(work, "switch", "-q", "main")
    commit(work, "src/0.c", "ours\n")


def merging(work: Path) -> None:
    _forked(work)
    git(work, "merge", "topic", ok=False)


def rebasing(work: Path) -> None:
    _forked(work)
    git(work, "rebase", "topic", ok=False)


def picking(work: Path) -> None:
    _forked(work)
    git(work, "cherry-pick", "topic~1", ok=False)


def bisecting(work: Path) -> None:
    git(work, "bisect", "start", "HEAD", "HEAD~4")


def ignored(work: Path) -> None:
    (work / ".gitignore").write_text("*.log\n.env\n")
    (work / ".env").write_text("SECRET=1\n")
    (work / "x.log").write_text("log\n")


def intended(work: Path) -> None:
    (work / "later.txt").write_text("later\n")
    git(work, "add", "-N", "later.txt")


def assumed(work: Path) -> None:
    """git says that nothing changed: it was told not to look."""
    git(work, "update-index", "--assume-unchanged", "a.txt")
    (work / "a.txt").write_text("changed behind git's back\n")


def converted(work: Path) -> None:
    """Clean for git, but not the bytes of the blob."""
    (work / ".gitattributes").write_text("*.txt text eol=crlf\n*.c ident\n*.u16 working-tree-encoding=UTF-16\n")
    (work / "w.txt").write_bytes(b"one\r\ntwo\r\n")
    (work / "i.c").write_text("/* $Id$ */\n")
    (work / "e.u16").write_bytes("text\n".encode("utf-16"))
    git(work, "add", ".")
    git(work, "commit", "-q", "-m", "converted")
    git(work, "push", "-q")
    (work / "i.c").unlink()
    git(work, "checkout", "i.c")


def filtered(work: Path) -> None:
    git(work, "config", "filter.rot.clean", "tr a-z n-za-m")
    git(work, "config", "filter.rot.smudge", "tr a-z n-za-m")
    (work / ".gitattributes").write_text("*.rot filter=rot\n")
    (work / "x.rot").write_text("as large as before\n")
    git(work, "add", ".")
    git(work, "commit", "-q", "-m", "filtered")
    git(work, "push", "-q")


def lfs(work: Path) -> None:
    git(work, "lfs", "install", "--local")
    git(work, "lfs", "track", "*.bin")
    for name in ("large.bin", "other.bin"):
        (work / name).write_bytes(name.encode() * 20_000)
    git(work, "add", ".")
    git(work, "commit", "-q", "-m", "lfs")
    git(work, "push", "-q")
    (work / "large.bin").write_bytes(b"staged" * 20_000)
    git(work, "add", "large.bin")
    (work / "other.bin").write_bytes(b"changed" * 20_000)


def sparse(work: Path) -> None:
    git(work, "sparse-checkout", "set", "--no-cone", "/*", "!/src/deep/")


def sparse_index(work: Path) -> None:
    git(work, "sparse-checkout", "set", "--cone", "--sparse-index", "docs")


def swapped(work: Path) -> None:
    """A file where git has a folder, and the other way round."""
    shutil.rmtree(work / "src" / "deep")
    (work / "src" / "deep").write_text("a file now\n")
    (work / "a.txt").unlink()
    (work / "a.txt").mkdir()
    (work / "a.txt" / "inside").write_text("a folder now\n")


def gone(work: Path) -> None:
    shutil.rmtree(work / "src")


def orphan(work: Path) -> None:
    git(work, "switch", "-q", "--orphan", "fresh")
    (work / "fresh.txt").write_text("fresh\n")
    git(work, "add", "fresh.txt")


def version_4(work: Path) -> None:
    git(work, "update-index", "--index-version", "4")
    commit(work, "src/deep/er/x", "4\n")


def strange_names(work: Path) -> None:
    for name in (b"tab\there", b"new\nline", b"latin\xe9", b'quote"', b"%41", b"back\\slash"):
        Path(os.fsdecode(os.fsencode(work) + b"/" + name)).write_bytes(name)
    git(work, "add", ".")
    git(work, "commit", "-q", "-m", "names")
    git(work, "push", "-q")
    Path(os.fsdecode(os.fsencode(work) + b"/latin\xe9")).unlink()


def packed_refs(work: Path) -> None:
    unpushed(work)
    git(work, "pack-refs", "--all")


def staged_only(work: Path) -> None:
    """A blob that is in the index and nowhere else."""
    (work / "a.txt").write_text("staged\n")
    git(work, "add", "a.txt")
    (work / "a.txt").write_text("one\n")


def nothing(work: Path) -> None:
    pass


STATES = [
    *(nothing, dirty, unpushed, stashes, amended, detached, merging, rebasing, picking, bisecting, ignored),
    *(intended, assumed, converted, filtered, sparse, sparse_index, swapped, gone, orphan, version_4),
    *(strange_names, packed_refs, staged_only, pytest.param(lfs, marks=pytest.mark.needs("git-lfs"), id="lfs")),
]


@pytest.mark.parametrize("change", STATES, ids=lambda change: getattr(change, "__name__", None))
def test_a_checkout_comes_back_from_its_remote_as_it_was(
    change: Change, work: Path, vault: Vault, tmp_path: Path
) -> None:
    change(work)
    before = facts(work)
    report = vault.create_snapshot(work)
    # What git ignores is none of this: the policy says what of it is left out.
    left = [path for path in work.rglob("*.log")]
    assert (len(report.notes), report.problems) == (len(left), ())
    assert vault.create_snapshot(work).unchanged
    assert facts(work) == before
    work.rename(tmp_path / "lost")
    restored = vault.restore_snapshot("work", tmp_path / "again")
    assert restored.problems == ()
    for path in left:
        (tmp_path / "again" / path.relative_to(work)).write_bytes(
            (tmp_path / "lost" / path.relative_to(work)).read_bytes()
        )
    assert facts(tmp_path / "again") == before
    assert vault.verify(data=True).ok


def test_a_checkout_comes_back_from_where_it_was_without_its_remote(work: Path, vault: Vault, tmp_path: Path) -> None:
    for change in (stashes, unpushed, dirty):
        change(work)
    before = facts(work)
    vault.create_snapshot(work)
    (tmp_path / "work.git").rename(tmp_path / "gone.git")
    assert vault.restore_snapshot("work", tmp_path / "again").problems == ()
    assert facts(tmp_path / "again") == before
    assert vault.verify().ok


def test_restored_over_itself_it_is_what_it_was(work: Path, vault: Vault) -> None:
    for change in (stashes, unpushed, dirty):
        change(work)
    before = facts(work)
    vault.create_snapshot(work)
    git(work, "reset", "-q", "--hard", "HEAD~1")
    git(work, "stash", "clear")
    (work / "src" / "1.c").unlink()
    vault.restore_snapshot("work~0", None)
    # What came since is not taken away: the file that was deleted then has come back with the reset.
    (work / "src" / "1.c").unlink(missing_ok=True)
    assert facts(work)["status"] == before["status"]
    assert facts(work)["stashes"] == before["stashes"]


def test_what_nobody_has_any_more_is_told_and_the_rest_comes_back(work: Path, vault: Vault, tmp_path: Path) -> None:
    unpushed(work)
    dirty(work)
    changed = (work / "src" / "0.c").read_bytes()
    tip = git(work, "rev-parse", "HEAD")
    snapshot = vault.create_snapshot(work).snapshot
    shutil.rmtree(work)
    shutil.rmtree(tmp_path / "work.git")
    defects = vault.verify().defects
    assert [(defect.kind, defect.affects[0].snapshot) for defect in defects] == [("base", snapshot)]
    assert "is gone" in defects[0].reason
    report = vault.restore_snapshot("work", tmp_path / "again")
    assert {problem.path for problem in report.problems} == {b"", b"a.txt", b"src/deep/a b.h"}
    again = tmp_path / "again"
    assert (again / "src" / "0.c").read_bytes() == changed
    # On the branch, and in a bundle that is whole without what it builds on.
    assert (again / "c.txt").read_text() == "on a branch\n"
    assert git(again, "cat-file", "-t", tip) == "commit"


def test_of_a_clean_checkout_only_small_things_are_stored(work: Path, vault: Vault) -> None:
    (work / "big.bin").write_bytes(os.urandom(3_000_000))
    git(work, "add", "big.bin")
    git(work, "commit", "-q", "-m", "big")
    git(work, "push", "-q")
    report = vault.create_snapshot(work)
    assert report.bytes_stored < 100_000
    (work / "b.txt").write_text("unpushed\n")
    git(work, "add", "b.txt")
    git(work, "commit", "-q", "-m", "small")
    report = vault.create_snapshot(work)
    assert report.bytes_stored < 20_000
    assert report.deleted == 0


def test_a_file_that_is_committed_is_not_deleted(work: Path, vault: Vault) -> None:
    (work / "a.txt").write_text("changed\n")
    assert vault.create_snapshot(work).changed == 0
    git(work, "commit", "-q", "-a", "-m", "now git has it")
    assert vault.create_snapshot(work).deleted == 0
    (work / "a.txt").unlink()
    vault.create_snapshot(work)
    assert vault.get_version_diff("work~1", "work").deleted == (b"a.txt",)


@pytest.mark.parametrize("why", ["no remote", "never fetched", "remote gone", "sha256", "split index", "corrupt"])
def test_what_no_remote_has_is_stored_in_full_and_said(why: str, work: Path, vault: Vault, tmp_path: Path) -> None:
    unpushed(work)
    dirty(work)
    if why == "no remote":
        git(work, "remote", "remove", "origin")
    elif why == "never fetched":
        git(work, "update-ref", "-d", "refs/remotes/origin/main")
    elif why == "remote gone":
        (tmp_path / "work.git").rename(tmp_path / "away.git")
    elif why == "sha256":
        shutil.rmtree(work / ".git")
        git(work, "init", "-q", "--object-format=sha256")
        git(work, "add", ".")
        git(work, "commit", "-q", "-m", "sha256")
    elif why == "split index":
        git(work, "update-index", "--split-index")
    elif why == "corrupt":
        tip = git(work, "rev-parse", "HEAD~1")
        (work / ".git" / "objects" / tip[:2] / tip[2:]).unlink()
    report = vault.create_snapshot(work)
    assert [note for note in report.notes if note.startswith(".: stored in full: ")], report.notes
    before = files(work), {p: p.read_bytes() for p in (work / ".git" / "objects").rglob("*") if p.is_file()}
    work.rename(tmp_path / "lost")
    assert vault.restore_snapshot("work", tmp_path / "work").problems == ()
    assert (files(work), {p: p.read_bytes() for p in (work / ".git" / "objects").rglob("*") if p.is_file()}) == before
    if why != "corrupt":
        assert git(work, "status", "--porcelain=v2", "-b") == git(tmp_path / "lost", "status", "--porcelain=v2", "-b")


def test_a_base_that_was_forced_off_the_remote_is_stored_in_full(work: Path, vault: Vault, tmp_path: Path) -> None:
    base = git(work, "rev-parse", "HEAD")
    unpushed(work)
    assert vault.create_snapshot(work).notes == ()
    git(tmp_path, "clone", "-q", "work.git", "other")
    git(tmp_path / "other", "reset", "-q", "--hard", "HEAD~3")
    commit(tmp_path / "other", "rewritten.txt")
    git(tmp_path / "other", "push", "-q", "--force")
    git(tmp_path / "work.git", "reflog", "expire", "--all", "--expire=now")
    git(tmp_path / "work.git", "gc", "-q", "--prune=now")
    report = vault.create_snapshot(work)
    assert report.notes == (f".: stored in full: commit {base[:12]} is no longer on origin",)
    before = facts(work)
    work.rename(tmp_path / "lost")
    assert vault.restore_snapshot("work", tmp_path / "again").problems == ()
    assert facts(tmp_path / "again") == before
    # The snapshot before relies on a commit that is in the checkout only now, which is away.
    assert [defect.kind for defect in vault.verify().defects] == ["base"]


def test_nothing_of_the_repository_is_run_and_nothing_in_it_changes(work: Path, vault: Vault, tmp_path: Path) -> None:
    converted(work)
    dirty(work)
    trap = tmp_path / "trap"
    script = tmp_path / "script"
    script.write_text(f"#!/bin/sh\necho $0 >> {trap}\ncat\n")
    script.chmod(0o755)
    for name in ("post-checkout", "post-index-change", "reference-transaction", "fsmonitor-watchman", "pre-auto-gc"):
        shutil.copy(script, work / ".git" / "hooks" / name)
    for key in (
        *("core.fsmonitor", "filter.x.clean", "filter.x.smudge", "filter.x.process", "core.sshCommand"),
        *(
            "core.pager",
            "core.editor",
            "diff.external",
            "credential.helper",
            "uploadpack.packObjectsHook",
            "gpg.program",
        ),
    ):
        git(work, "config", key, str(script))
    git(work, "config", "alias.for-each-ref", f"!{script}")
    (work / ".git" / "info" / "attributes").write_text("* filter=x diff=x\n")

    def whole() -> dict[Path, tuple[int, int]]:
        return {path: (path.lstat().st_mtime_ns, path.lstat().st_ino) for path in (work / ".git").rglob("*")}

    before = whole()
    vault.create_snapshot(work)
    vault.status([work / "a.txt"])
    vault.restore_snapshot("work", tmp_path / "again")
    vault.verify()
    assert whole() == before
    assert not trap.exists()


def test_a_submodule_and_a_nested_checkout_come_back(work: Path, vault: Vault, tmp_path: Path) -> None:
    library = cloned(tmp_path / "libs", "lib")
    git(work, "submodule", "--quiet", "add", str(tmp_path / "libs" / "lib.git"), "ext/lib")
    git(work, "commit", "-q", "-m", "with a submodule")
    git(work, "push", "-q")
    sub = work / "ext" / "lib"
    commit(sub, "sub.txt", "unpushed in the submodule\n")
    (sub / "a.txt").write_text("changed in the submodule\n")
    git(work, "clone", "-q", str(tmp_path / "libs" / "lib.git"), "nested")
    commit(work / "nested", "n.txt", "unpushed in the nested one\n")
    (work / ".git" / "info" / "exclude").write_text("/nested/\n")
    places = ("", "ext/lib", "nested")
    before = [facts(work / place) for place in places]
    assert vault.create_snapshot(work).notes == ()
    assert vault.create_snapshot(work).unchanged
    work.rename(tmp_path / "lost")
    shutil.rmtree(library)
    report = vault.restore_snapshot("work", tmp_path / "again")
    assert report.problems == ()
    assert [facts(tmp_path / "again" / place) for place in places] == before
    assert str(tmp_path / "again") in git(tmp_path / "again" / "ext" / "lib", "rev-parse", "--absolute-git-dir")


def test_a_worktree_comes_back_beside_its_repository_and_alone(work: Path, vault: Vault, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    work.rename(home / "main")
    git(home / "main", "worktree", "add", "-q", "-b", "side", str(home / "side"))
    commit(home / "side", "s.txt", "unpushed\n")
    (home / "side" / "a.txt").write_text("staged\n")
    git(home / "side", "add", "a.txt")
    (home / "side" / "a.txt").write_text("changed\n")
    before = [facts(home / name) for name in ("main", "side")]
    assert vault.create_snapshot(home, project="both").notes == ()
    assert vault.create_snapshot(home / "side", project="alone").notes == ()
    home.rename(tmp_path / "lost")
    assert vault.restore_snapshot("both", tmp_path / "both").problems == ()
    assert [facts(tmp_path / "both" / name) for name in ("main", "side")] == before
    assert str(tmp_path / "both" / "main") in git(tmp_path / "both" / "side", "rev-parse", "--absolute-git-dir")
    assert vault.restore_snapshot("alone", tmp_path / "alone").problems == ()
    alone, side = facts(tmp_path / "alone"), before[1]
    assert (tmp_path / "alone" / ".git").is_dir()
    for fact in ("files", "status", "index", "refs", "head", "stashes"):
        assert alone[fact] == side[fact], fact


def test_a_worktree_without_a_remote_has_its_objects_in_the_snapshot(work: Path, vault: Vault, tmp_path: Path) -> None:
    git(work, "remote", "remove", "origin")
    git(work, "worktree", "add", "-q", "-b", "side", str(tmp_path / "side"))
    commit(tmp_path / "side", "s.txt", "only here\n")
    before = facts(tmp_path / "side")
    assert vault.create_snapshot(tmp_path / "side").notes == (".: stored in full: it has no remote",)
    (tmp_path / "side").rename(tmp_path / "lost")
    work.rename(tmp_path / "lost too")
    assert vault.restore_snapshot("side", tmp_path / "again").problems == ()
    after = facts(tmp_path / "again")
    for fact in ("files", "status", "index", "refs", "head"):
        assert after[fact] == before[fact], fact


def test_shallow_and_borrowing_clones_come_back(work: Path, vault: Vault, tmp_path: Path) -> None:
    git(tmp_path, "clone", "-q", "--depth=2", f"file://{tmp_path}/work.git", "shallow")
    git(tmp_path, "clone", "-q", "--reference", str(work), str(tmp_path / "work.git"), "borrows")
    for name in ("shallow", "borrows"):
        unpushed(tmp_path / name) if name == "borrows" else commit(tmp_path / name, "b.txt", "unpushed\n")
        dirty(tmp_path / name)
        before = facts(tmp_path / name)
        assert vault.create_snapshot(tmp_path / name).notes == ()
        (tmp_path / name).rename(tmp_path / "lost" if name == "shallow" else tmp_path / "lost too")
        assert vault.restore_snapshot(name, tmp_path / "again" / name).problems == ()
        assert facts(tmp_path / "again" / name) == before


def test_a_bare_repository_and_a_folder_called_git_are_files(work: Path, vault: Vault, tmp_path: Path) -> None:
    git(work, "init", "-q", "--bare", "bare.git")
    git(work, "push", "-q", "bare.git", "main")
    (work / "odd" / ".git").mkdir(parents=True)
    (work / "odd" / ".git" / "index.lock").write_text("no repository\n")
    vault.create_snapshot(work)
    vault.restore_snapshot("work", tmp_path / "again")
    assert git(tmp_path / "again" / "bare.git", "rev-parse", "main") == git(work, "rev-parse", "main")
    assert (tmp_path / "again" / "odd" / ".git" / "index.lock").exists()


def test_the_merged_view(work: Path, vault: Vault, tmp_path: Path) -> None:
    from io import BytesIO

    unpushed(work)
    dirty(work)
    vault.create_snapshot(work)
    listed = [e.path for e in vault.entries("work", recursive=True) if not e.path.startswith(b".git/")]
    there = {os.fsencode(path) for path in files(work)}
    assert {path for path in listed if path not in (b".git", b"src", b"src/deep")} == there
    assert listed == sorted(listed, key=lambda path: path.split(b"/"))
    assert [e.path for e in vault.entries("work", b"src/deep")] == [b"src/deep/a b.h"]
    assert [e.path for e in vault.entries("work", b"src")] == [b"src/0.c", b"src/2.c", b"src/deep", b"src/link"]

    def content(snapshot: str, path: bytes) -> bytes:
        out = BytesIO()
        vault.read_file(snapshot, path, out)
        return out.getvalue()

    for path in there:
        where = os.fsencode(work) + b"/" + path
        expected = os.readlink(where) if os.path.islink(where) else Path(os.fsdecode(where)).read_bytes()
        assert content("work", path) == expected
    report = vault.restore_snapshot("work", tmp_path / "one", paths=["src/deep/a b.h"])
    assert report.files == 1
    assert files(tmp_path / "one") == {"src/deep/a b.h": (0, b"deep\n")}
    with pytest.raises(NotFoundError):
        vault.restore_snapshot("work", tmp_path / "none", paths=["src/1.c"])
    with pytest.raises(ExistsError):
        vault.restore_snapshot("work", tmp_path / "one", paths=["src/deep"])
    git(work, "checkout", "-q", "--", ".")
    git(work, "mv", "src/deep/a b.h", "src/moved.h")
    vault.create_snapshot(work)
    found = vault.get_version_diff("work~1", "work")
    visible = [path for path in found.changed if not path.startswith(b".git/")]
    assert (found.added, visible) == ((b"src/1.c",), [b"run.sh", b"src/0.c", b"src/link"])
    assert [(move.source, move.target) for move in found.moved] == [(b"src/deep/a b.h", b"src/moved.h")]
    # The base of both from the remote alone.
    work.rename(tmp_path / "lost")
    assert content("work~1", b"src/deep/a b.h") == b"deep\n"


def test_status_of_what_git_keeps(work: Path, vault: Vault) -> None:
    commit(work, "b.txt", "unpushed\n")
    vault.create_snapshot(work)

    def state(name: str) -> tuple[str, str]:
        (found,) = vault.status([work / name])
        return found.state, found.reason

    tip = git(work, "rev-parse", "--short=12", "HEAD")
    assert state("a.txt") == ("saved", f"protected by git: at {tip} on main")
    (work / "a.txt").write_text("changed\n")
    assert state("a.txt")[0] == "changed"
    git(work, "commit", "-q", "-a", "-m", "in git, and in no snapshot")
    assert state("a.txt")[0] == "changed"
    commit(work, "new.txt", "in git, and in no snapshot\n")
    assert state("new.txt")[0] == "new"
    (work / "src" / "0.c").unlink()
    assert state("src/0.c")[0] == "deleted"
    vault.create_snapshot(work)
    assert state("a.txt")[0] == state("new.txt")[0] == "saved"
    assert vault.status([work], scan=True)[0].state == "saved"


def test_modes(work: Path, vault: Vault, tmp_path: Path, command: Callable[..., object]) -> None:
    def names() -> set[bytes]:
        stored = vault.history.entries(vault.resolve("work"), recursive=True)
        return {entry.path for entry in stored if entry.kind != "folder"}

    vault.create_snapshot(work)
    assert b"a.txt" not in names()
    for mode in ("full", "ignore-vcs", "protect"):
        assert vault.add_project(work, mode=mode).mode == mode
        assert vault.project("work").mode == mode
        vault.create_snapshot(work)
        assert (b"a.txt" in names()) == (mode != "protect")
        assert (b".git/HEAD" in names()) == (mode != "ignore-vcs")
        assert any(name.startswith(b".git/objects/") for name in names()) == (mode == "full")
        target = tmp_path / mode
        assert vault.restore_snapshot("work", target).problems == ()
        assert files(target) == files(work)
        assert (target / ".git").exists() == (mode != "ignore-vcs")


def test_what_grows_is_added_not_stored_again(work: Path, vault: Vault, tmp_path: Path) -> None:
    (work / "big.bin").write_bytes(os.urandom(2_000_000))
    commit(work, "b.txt", "b\n")
    git(work, "add", ".")
    git(work, "commit", "-q", "-m", "big and unpushed")
    assert vault.create_snapshot(work).bytes_stored > 2_000_000
    for number in range(3):
        commit(work, f"more{number}.txt", "more\n")
        assert vault.create_snapshot(work).bytes_stored < 20_000
    before = facts(work)
    work.rename(tmp_path / "lost")
    assert vault.restore_snapshot("work", tmp_path / "again").problems == ()
    assert facts(tmp_path / "again") == before


def test_a_commit_during_the_walk_is_in_the_snapshot(
    work: Path, vault: Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gitvault.core.backup_engine import snapshot

    real = snapshot.walk

    def walk(*arguments: object, **options: object) -> object:
        for number, folder in enumerate(real(*arguments, **options)):
            if number == 1:
                commit(work, "src/zz.txt", "made meanwhile\n")
            yield folder

    monkeypatch.setattr(snapshot, "walk", walk)
    vault.create_snapshot(work)
    monkeypatch.undo()
    tip = git(work, "rev-parse", "HEAD")
    work.rename(tmp_path / "lost")
    vault.restore_snapshot("work", tmp_path / "again")
    assert git(tmp_path / "again", "cat-file", "-t", tip) == "commit"
    assert git(tmp_path / "again", "fsck", "--connectivity-only", "--no-dangling") == ""


def test_credentials_are_not_in_the_record(work: Path, vault: Vault) -> None:
    git(work, "remote", "add", "other", "https://me:token@example.invalid/x.git")
    vault.create_snapshot(work)
    (attached,) = record.attached(vault.history, vault.history.trees(vault.resolve("work"))[0])
    assert attached.record.remotes["other"] == "https://example.invalid/x.git"
    assert without_credentials("ssh://me:pw@host/x") == "ssh://me@host/x"
    assert without_credentials("git@host:x.git") == "git@host:x.git"


def test_tags_that_the_remote_has_are_not_stored(work: Path, vault: Vault) -> None:
    git(work, "switch", "-q", "-c", "release")
    (work / "big.bin").write_bytes(os.urandom(400_000))
    git(work, "add", ".")
    git(work, "commit", "-q", "-m", "only a tag leads here")
    git(work, "tag", "-a", "-m", "version 1", "v1")
    git(work, "push", "-q", "origin", "v1")
    git(work, "switch", "-q", "main")
    git(work, "branch", "-q", "-D", "release")
    git(work, "reflog", "expire", "--expire=now", "--all")
    assert vault.create_snapshot(work).bytes_stored < 100_000


def test_what_only_a_lost_remote_has_is_stored(work: Path, vault: Vault, tmp_path: Path) -> None:
    git(tmp_path, "init", "-q", "--bare", "second.git")
    git(work, "remote", "add", "second", str(tmp_path / "second.git"))
    git(work, "switch", "-q", "-c", "theirs")
    commit(work, "t.txt", "on the second remote only\n")
    git(work, "push", "-q", "second", "theirs")
    git(work, "switch", "-q", "main")
    git(work, "branch", "-q", "-D", "theirs")
    git(work, "reflog", "expire", "--expire=now", "--all")
    shutil.rmtree(tmp_path / "second.git")
    before = facts(work)
    assert vault.create_snapshot(work).notes == ()
    work.rename(tmp_path / "lost")
    assert vault.restore_snapshot("work", tmp_path / "again").problems == ()
    assert facts(tmp_path / "again") == before


@pytest.mark.needs("zstd", "awk")
@pytest.mark.parametrize("script", ["rescue.sh", "rescue.py"])
def test_a_checkout_is_made_again_without_gitvault(script: str, work: Path, vault: Vault, tmp_path: Path) -> None:
    """As version-control.md says it."""
    stashes(work)
    unpushed(work)
    dirty(work)
    before = facts(work)
    snapshot = vault.create_snapshot(work).snapshot
    again = tmp_path / "again"
    runner = "sh" if script.endswith(".sh") else sys.executable
    done = subprocess.run(
        [runner, vault.path / script, "restore", snapshot, again], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    attached = again / ".gitvault-vcs" / "0"
    git(tmp_path, "clone", "-q", "work.git", "other")
    git(tmp_path / "other", "bundle", "unbundle", str(attached / "local-00.bundle.000"))
    (tmp_path / "other" / ".git" / "objects").rename(again / ".git" / "objects")
    shutil.copy(attached / "index.000", again / ".git" / "index")
    deleted = json.loads((attached / "record.json").read_bytes())["deleted"]
    shutil.rmtree(again / ".gitvault-vcs")
    git(again, "checkout-index", "--all", "--quiet", ok=False)
    for name in deleted:
        (again / name).unlink()
    git(again, "update-index", "-q", "--refresh", ok=False)
    assert facts(again) == before


def test_what_version_control_has_is_read_back_too(work: Path, vault: Vault) -> None:
    """A milestone's proof: the files of the base count, and one that nobody has any more is named."""
    (work / "new.txt").write_text("new\n")
    vault.create_snapshot(work)
    shutil.copy(work / "a.txt", work / "b.txt")
    git(work, "add", "b.txt")
    git(work, "commit", "-q", "-m", "the same twice")
    git(work, "push", "-q")
    vault.create_snapshot(work)
    told: list[int] = []
    listed = [entry.size for entry in vault.entries("work", recursive=True) if entry.kind == "file"]
    assert vault.read_back("work", lambda what, done, total: told.append(total - done)) == sum(listed)
    assert told[-1] == 0 and len(listed) > len(files(work))
    shutil.rmtree(work / ".git")
    shutil.rmtree(work.parent / "work.git")
    with pytest.raises(CorruptionError, match=r"\w+: [0-9a-f]{40}: git protected it, and nobody has it any more"):
        vault.read_back("work")
