"""What repositories that are stored as they lie still hold of what was purged is said: of each, in which snapshots."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest
from conftest import called
from repositories import WritingHg, cloned, commit, git

from gitvault.core.backup_engine.forget import Instead, Replacement, forget, search
from gitvault.core.models import Held, ObjectId, Pointer
from gitvault.core.versioning.odb import ObjectStore
from gitvault.errors import StorageFullError, ToolMissing
from gitvault.vault import Vault, area
from gitvault.vcs import svn_store
from gitvault.vcs.protect.inside import Inside, is_meant, listed
from gitvault.vcs.protect.repository import Repository
from gitvault.vcs.whole import _Looking, look

pytestmark = pytest.mark.needs("git")

SECRET = "-----BEGIN KEY-----\nof nobody\n"


def said(vault: Vault, *patterns: str, yes: bool = False) -> dict[bytes, tuple[bytes, ...]]:
    """Repositories, and what they hold."""
    report = vault.forget(patterns, yes=yes)
    assert not [one for one in report.held if one.reason], report.held
    return {one.repository: one.paths for one in report.held}


def test_history_of_a_git_repository_stored_whole(vault: Vault, tmp_path: Path) -> None:
    """The work tree has not had it for long; a stash, a commit that nothing leads to and the index do."""
    work = cloned(tmp_path)
    before = commit(work, "a.txt", "two\n")
    commit(work, "conf/key.pem", SECRET)
    commit(work, "conf/key.pem", SECRET + "amended away\n")
    git(work, "reset", "-q", "--hard", before)
    (work / "large").write_bytes(random.Random(1).randbytes(200_000))
    git(work, "add", "large")
    git(work, "commit", "-q", "-m", "a pack that goes to the chunk store")
    git(work, "repack", "-q", "-a", "-d", "--keep-unreachable")
    (work / "staged.pem").write_text(SECRET + "staged\n")
    git(work, "add", "staged.pem")
    (work / "staged.pem").unlink()
    git(work, "init", "-q", "--bare", "bare.git")
    git(work, "push", "-q", work / "bare.git", f"{before}:refs/heads/main")
    vault.add_project(work, "shop", mode="full")
    first = vault.create_snapshot(work).snapshot
    (work / "b.txt").write_text("b")
    second = vault.create_snapshot(work).snapshot

    found = {b".git": (b"conf/key.pem", b"staged.pem")}
    assert said(vault, "*.pem") == found
    assert said(vault, "/conf/") == {b".git": (b"conf",)}
    assert said(vault, "*.key") == {}
    assert said(vault, "a.txt") == {b".git": (b"a.txt",), b"bare.git": (b"bare.git/a.txt",)}
    report = vault.forget(["*.pem"], yes=True)
    assert report.done and not report.paths
    assert report.held == (Held("shop", b".git", (b"conf/key.pem", b"staged.pem"), (second, first)),)
    assert look(vault.history, vault.store.retrieve_file, ["shop"], search(vault.history, ["*.pem"], ["shop"])[0]) == (
        report.held,
        {},
    )

    told = called(["--vault", str(vault.path), "forget", "--path", "*.pem", "--yes"], tmp_path)
    assert told.returncode == 1
    assert "shop:.git, stored in 2 snapshots, still holds conf/key.pem, staged.pem" in told.stdout
    # The way out: forget that folder, too.
    assert said(vault, "*.pem", "/.git/") == {}
    assert said(vault, "*.pem", "/.git/", yes=True) == {}
    assert called(["--vault", str(vault.path), "forget", "--path", "*.pem", "--yes"], tmp_path).returncode == 0


def everything(repository: Path) -> set[bytes]:
    """The content of every object of a repository, its trees listed."""
    oids = git(repository, "cat-file", "--batch-all-objects", "--batch-check=%(objectname)").split()
    command = ["git", "-C", str(repository), "cat-file", "-p"]
    return {subprocess.run([*command, oid], check=True, capture_output=True).stdout for oid in oids}


def test_history_of_a_git_repository_stored_whole_is_written_anew(vault: Vault, tmp_path: Path) -> None:
    """Loose objects, a small pack and one in the chunk store, a stash, the index: commits stay, only that goes."""
    work = cloned(tmp_path)
    commit(work, "conf/key.pem", SECRET)
    (work / "large").write_bytes(random.Random(1).randbytes(200_000))
    git(work, "add", "large")
    git(work, "commit", "-q", "-m", "large")
    git(work, "repack", "-q", "-a", "-d", "-b")
    git(work, "multi-pack-index", "write")
    (packed,) = (work / ".git" / "objects" / "pack").glob("*.pack")
    packed.with_suffix(".keep").write_text("mine")
    vault.add_project(work, "shop", mode="full")
    first = vault.create_snapshot(work).snapshot
    commit(work, "conf/key.pem", SECRET + "newer\n")
    commit(work, "conf/copy.txt", SECRET + "newer\n")
    (work / "conf" / "key.pem").write_text(SECRET + "stashed\n")
    (work / "a.txt").write_text("stashed too\n")
    git(work, "stash", "push", "-q")
    git(work, "repack", "-q", "-d")
    git(work, "rm", "-q", "conf/key.pem")
    git(work, "commit", "-q", "-m", "away")
    (work / "staged.pem").write_text(SECRET + "staged\n")
    git(work, "add", "staged.pem")
    (work / "staged.pem").unlink()
    second = vault.create_snapshot(work).snapshot
    before = everything(work)
    log = git(work, "log", "--all", "--format=%H %s")
    there = {entry.path: entry for entry in vault.history.entries(first, b".git/objects/pack")}
    large = there[b".git/objects/pack/" + packed.name.encode()]
    assert large.pointer

    would = vault.forget(["*.pem"], repositories=True)
    assert b".git/objects/pack/" + packed.name.encode() in {path for _, path in would.paths}
    assert not would.done and said(vault, "*.pem") == {b".git": (b"conf/key.pem", b"staged.pem")}
    # What is at another path as well stays until that is forgotten, too.
    report = vault.forget(["*.pem"], repositories=True, yes=True)
    assert said(vault, "*.pem") == {b".git": (b"conf/key.pem",)}
    assert (
        [one.paths for one in report.held]
        == [(b"conf/key.pem",)]
        == [one.paths for one in vault.forget(["*.pem"], repositories=True).held]
    )
    told = called(
        ["--vault", str(vault.path), "forget", "--path", "*.pem", "--path", "copy.txt", "--repositories"], tmp_path
    )
    assert told.returncode == 0 and "would be forgotten" in told.stdout
    again = vault.forget(["*.pem", "copy.txt"], repositories=True, yes=True)
    assert not again.held and again.done and said(vault, "*.pem", "copy.txt") == {}

    vault.sweep()
    assert not vault.store.has(large.pointer) and not vault.history.objects.contains(large.blob)
    assert not vault.verify(data=True).defects
    for number, snapshot in enumerate((first, second)):
        folder = tmp_path / f"again{number}"
        assert not vault.restore_snapshot(snapshot, folder).problems
        git(folder, "log", "--all", "-p", "--format=%H", "--", "a.txt", "large")
        held = everything(folder)
        assert not [text for text in held if b"of nobody" in text] and held <= before
        assert len(list((folder / ".git" / "objects" / "pack").glob("*.keep"))) == 1
        assert vault.get_snapshot_info(snapshot).files == sum(
            entry.kind != "folder" for entry in vault.history.entries(snapshot)
        )
    assert held == {text for text in before if b"of nobody" not in text}
    assert git(folder, "log", "--all", "--format=%H %s") == log
    assert git(folder, "show", "stash@{0}:a.txt") == "stashed too"
    assert (folder / "large").read_bytes() == (work / "large").read_bytes()


@pytest.mark.needs("git-lfs")
def test_copies_of_git_lfs_go_too(vault: Vault, tmp_path: Path) -> None:
    """In the mode protect as in any other: they lie in .git by their content."""
    work = cloned(tmp_path)
    git(work, "lfs", "install", "--local")
    git(work, "lfs", "track", "*.bin")
    large = {name: random.Random(number).randbytes(80_000) for number, name in enumerate(("key.bin", "other.bin"))}
    for name, content in large.items():
        (work / name).write_bytes(content)
    (work / "small.bin").write_text("small")
    git(work, "add", ".")
    git(work, "commit", "-q", "-m", "all")
    git(work, "push", "-q")
    snapshot = vault.create_snapshot(work).snapshot
    copies = {oid: next(work.rglob(f"lfs/objects/*/*/{hashlib.sha256(large[oid]).hexdigest()}")) for oid in large}
    assert said(vault, "key.bin") == {b".git": (os.fsencode(copies["key.bin"].relative_to(work)),)}
    assert not vault.forget(["key.bin"], repositories=True).held
    assert not vault.forget(["key.bin"], repositories=True, yes=True).held
    vault.restore_snapshot(snapshot, tmp_path / "again")
    held = {file.name for file in (tmp_path / "again").rglob("lfs/objects/*/*/*")}
    assert held == {copies["other.bin"].name, hashlib.sha256(b"small").hexdigest()}
    vault.sweep()
    assert not vault.store.has(Pointer(copies["key.bin"].name, 80_000))
    assert vault.store.has(Pointer(copies["other.bin"].name, 80_000))


@pytest.mark.needs("git-lfs")
@pytest.mark.parametrize("mode", ["full", "protect"])
def test_copies_of_git_lfs_that_stay_are_told_also_when_it_is_done(vault: Vault, tmp_path: Path, mode: str) -> None:
    work = cloned(tmp_path)
    git(work, "lfs", "install", "--local")
    git(work, "lfs", "track", "*.bin")
    (work / "key.bin").write_bytes(random.Random(1).randbytes(80_000))
    git(work, "add", ".")
    git(work, "commit", "-q", "-m", "all")
    vault.add_project(work, "shop", mode=mode)
    vault.create_snapshot(work)
    [copy] = work.rglob("lfs/objects/*/*/*")
    would = said(vault, "key.bin")
    assert os.fsencode(copy.relative_to(work)) in would[b".git"]
    told = called(["--vault", str(vault.path), "forget", "--path", "key.bin", "--yes"], tmp_path)
    assert told.returncode == 1 and os.fsdecode(copy.relative_to(work)) in told.stdout
    assert "copies of git-lfs go by their own paths, as they stand here; with --repositories" in told.stdout
    # The way out.
    assert said(vault, *map(os.fsdecode, would[b".git"]), yes=True).keys() <= {b".git"}
    assert not [entry for entry in vault.entries("shop", recursive=True) if entry.path.endswith(copy.name.encode())]


def test_a_pack_of_nothing_else_goes_and_a_bare_project_too(vault: Vault, tmp_path: Path) -> None:
    work = cloned(tmp_path)
    commit(work, "key.pem", SECRET)
    git(work, "push", "-q")
    bare = tmp_path / "work.git"
    oid = git(bare, "rev-parse", "main:key.pem")
    git(bare, "unpack-objects", "-q", ok=False)
    subprocess.run(
        ["git", "pack-objects", "-q", "objects/pack/pack"],
        input=oid.encode(),
        cwd=bare,
        check=True,
        capture_output=True,
    )
    git(bare, "prune-packed")
    vault.add_project(bare, "bare")
    snapshot = vault.create_snapshot(bare).snapshot
    assert said(vault, "/key.pem") == {b"": (b"key.pem",)}
    report = vault.forget(["/key.pem"], repositories=True, yes=True)
    assert not report.held and len(report.paths) >= 2
    vault.restore_snapshot(snapshot, tmp_path / "again")
    assert git(tmp_path / "again", "show", "main:a.txt") == "one"
    assert not list((tmp_path / "again" / "objects" / "pack").glob("*.pack"))


def test_what_takes_the_place_of_a_file_is_as_old_and_not_there_twice(vault: Vault, tmp_path: Path) -> None:
    work = tmp_path / "p"
    work.mkdir()
    (work / "a").write_text("a")
    (work / "there").write_text("there")
    (work / "a").chmod(0o600)
    snapshot = vault.create_snapshot(work).snapshot
    seen = (work / "a").stat()
    instead: Instead = {b"a": (Replacement(b"new", b"anew", 4), Replacement(b"there", b"other", 5))}
    found, report = both = search(vault.history, ["nothing"], ["p"], None, instead)
    assert (report.paths, found.matches(b"a", False), found.matches(b"a", True)) == ((("p", b"a"),), True, False)
    now = datetime(2026, 1, 1, tzinfo=UTC)
    forget(vault.history, both, ["p"], now=now, host="here", clear=lambda _: None)
    vault.restore_snapshot(snapshot, tmp_path / "again")
    again = {file.name: file.read_text() for file in (tmp_path / "again").iterdir()}
    assert again == {"new": "anew", "there": "there"}
    placed = (tmp_path / "again" / "new").stat()
    assert (placed.st_mode, placed.st_mtime_ns) == (seen.st_mode, seen.st_mtime_ns)


def test_a_disk_that_is_full_stops_it_before_anything_moves(
    vault: Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = cloned(tmp_path)
    commit(work, "key.pem", SECRET)
    git(work, "repack", "-q", "-a", "-d")
    vault.add_project(work, "shop", mode="full")
    vault.create_snapshot(work)

    def full(*_: object) -> bytes:
        raise StorageFullError("no room")

    assert area.in_git(vault, b"as it is") == b"as it is"
    before = vault.history.refs.list("refs/")
    with monkeypatch.context() as patch:
        patch.setattr(area, "in_git", full)
        with pytest.raises(StorageFullError):
            vault.forget(["*.pem"], repositories=True, yes=True)
    assert vault.history.refs.list("refs/") == before
    assert said(vault, "*.pem") == {b".git": (b"key.pem",)}


def test_submodules_and_repositories_that_cannot_be_read(vault: Vault, tmp_path: Path) -> None:
    lib = cloned(tmp_path, "lib")
    commit(lib, "keys/a.pem", SECRET)
    git(lib, "push", "-q")
    work = cloned(tmp_path)
    git(work, "submodule", "add", "-q", tmp_path / "lib.git", "libs/lib")
    vault.add_project(work, "shop", mode="full")
    vault.create_snapshot(work)
    assert said(vault, "/libs/lib/keys/") == {b".git/modules/libs/lib": (b"libs/lib/keys",)}
    for file in (work / ".git" / "objects").rglob("*"):
        if file.is_file():
            file.chmod(0o600)
            file.write_bytes(b"damaged")
    vault.create_snapshot(work)
    report = vault.forget(["*.pem"])
    (broken,) = (one for one in report.held if one.reason)
    assert (broken.repository, broken.paths) == (b".git", ())
    told = called(["--vault", str(vault.path), "forget", "--path", "*.pem"], tmp_path)
    assert told.returncode == 1 and "shop:.git, stored in 1 snapshot, cannot be looked into (" in told.stdout


@pytest.mark.needs("hg")
def test_hg_stored_whole_and_its_bundles(vault: Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("alone", "origin"):
        (tmp_path / name).mkdir()
    with WritingHg() as hg:
        for name in ("alone", "origin"):
            folder = tmp_path / name
            hg.run(tmp_path, "init", name)
            (folder / "odd.hg").mkdir()
            (folder / "odd.hg" / "Key.pem").write_text(SECRET)
            (folder / "a.txt").write_text("a")
            hg.run(folder, "commit", "-A", "-m", "all", "--cwd", str(folder))
        hg.run(tmp_path, "clone", str(tmp_path / "origin"), str(tmp_path / "work"))
        work = tmp_path / "work"
        (work / "local.pem").write_text(SECRET)
        (work / "changelog").write_text("a file of that name")
        hg.run(work, "commit", "-A", "-m", "not pushed", "--cwd", str(work))
        hg.run(work, "remove", "local.pem", "--cwd", str(work))
        hg.run(work, "commit", "-m", "and gone again", "--cwd", str(work))
    for name in ("alone", "work"):
        vault.add_project(tmp_path / name)
        vault.create_snapshot(tmp_path / name)
    report = vault.forget(["*.pem"], yes=True)
    assert {(one.project, one.repository, one.paths, one.reason) for one in report.held} == {
        ("alone", b".hg", (b"odd.hg/Key.pem",), ""),
        ("work", b".hg", (b"local.pem",), ""),
    }
    assert said(vault, "/changelog") == {b".hg": (b"changelog",)}
    assert said(vault, "/manifest") == {}

    def missing(*_: object, **__: object) -> bytes:
        raise ToolMissing("hg: not installed")

    (tmp_path / "alone" / ".hg" / "store" / "fncache").unlink()
    vault.create_snapshot(tmp_path / "alone")
    with monkeypatch.context() as patch:
        patch.setattr("gitvault.vcs.hg.run", missing)
        report = vault.forget(["*.pem"])
    assert {(one.project, one.paths, one.reason, len(one.snapshots)) for one in report.held} == {
        ("alone", (b"odd.hg/Key.pem",), "its list of files (fncache) is not there", 2),
        ("work", (), "hg: not installed", 1),
    }


@pytest.mark.needs("svn")
def test_svn_stored_whole(vault: Vault, tmp_path: Path) -> None:
    def svn(*words: str | Path) -> None:
        subprocess.run([*map(str, words)], cwd=tmp_path, check=True, capture_output=True)

    svn("svnadmin", "create", tmp_path / "repo")
    svn("svn", "checkout", "-q", (tmp_path / "repo").as_uri(), "work")
    work = tmp_path / "work"
    (work / "key.pem").write_text(SECRET)
    (work / "a.txt").write_text("a")
    svn("svn", "add", "-q", work / "key.pem", work / "a.txt")
    svn("svn", "commit", "-q", "-m", "all", work)
    vault.add_project(work, mode="full")
    vault.create_snapshot(work)
    assert {path for path, _ in svn_store.held(work)} == {b"key.pem", b"a.txt"}
    (work / "same.txt").write_text(SECRET)
    svn("svn", "add", "-q", work / "same.txt")
    svn("svn", "commit", "-q", "-m", "the same", work)
    second = vault.create_snapshot(work).snapshot
    assert said(vault, "*.pem", yes=True) == {b".svn": (b"key.pem",)}
    assert said(vault, "*.pem", "/.svn/pristine/") == {}
    assert vault.forget(["*.pem"], repositories=True).held
    assert not vault.forget(["*.pem", "same.txt"], repositories=True, yes=True).held
    vault.restore_snapshot(second, tmp_path / "again")
    texts = list((tmp_path / "again" / ".svn" / "pristine").rglob("*.svn-base"))
    assert [text.read_text() for text in texts] == ["a"]
    assert (tmp_path / "again" / "a.txt").read_text() == "a"


def test_names_of_a_hostile_vault_lead_nowhere(tmp_path: Path) -> None:
    class Hostile:
        def tree(self, oid: bytes) -> dict[bytes, tuple[int, bytes]]:
            names = (b"%2E%2E%2Fevil", b"%2E%2E", b"..", b"%2Fevil", b"good")
            return {name: (0o100644, b"x") for name in names}

        def blob(self, oid: bytes) -> bytes:
            return b"content"

    looking = _Looking(Hostile(), lambda *_: None, lambda *_: False, (), None)  # type: ignore[arg-type]
    looking._put(ObjectId(b"x"), tmp_path / "objects")
    assert [file.name for file in tmp_path.rglob("*")] == ["objects", "good"]


def test_every_commit_of_a_repository_is_walked_each_tree_once(tmp_path: Path) -> None:
    def matches(path: bytes, is_folder: bool) -> bool:
        return is_folder and path == b"shop/keys"

    work = cloned(tmp_path)
    for number in range(3):
        commit(work, "keys/a", f"{number}")
    place = Repository(str(work / ".git"), str(work / ".git"))
    with ObjectStore(work / ".git" / "objects") as objects:
        inside = Inside(objects, matches)
        inside.walk_all(place, b"shop/")
    assert inside.paths == {b"shop/keys"} and len(inside.meant) == 3 and len(inside.kept) == 1
    assert sorted(kind for _, kind in listed(place)) == [b"blob"] * 4 + [b"commit"] * 4 + [b"tree"] * 7
    assert is_meant(b"shop/keys/a", matches) and is_meant(b"shop/keys", matches, folder=True)
    assert not is_meant(b"shop/keys", matches) and not is_meant(b"", matches, folder=True)
