"""The history of hg and svn checkouts is searched as that of git ones is: read by their clients, each revision once."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from repositories import WritingHg

from gitvault.core.utils.files import Disk
from gitvault.core.versioning.objects import object_id
from gitvault.personas.code.search import answers, foreign
from gitvault.personas.code.search.index import Index
from gitvault.personas.code.search.model import Hit, IndexState, Query
from gitvault.vault import Vault
from gitvault.vcs import hg
from gitvault.vcs.state import Checkout


def tool(folder: Path, *command: str, ok: bool = True) -> str:
    environment = {**os.environ, "HGUSER": "Mariana <m@x>", "HGPLAIN": "1", "HGRCPATH": ""}
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment)
    assert done.returncode == 0 or not ok, done.stderr
    return done.stdout.strip()


@pytest.fixture
def index(vault: Vault) -> Iterator[Index]:
    with answers.index_of(vault) as index:
        yield index


def up_to_date(vault: Vault, index: Index) -> IndexState:
    done = answers.bring_up(vault, index, patience=60)
    assert done.problems == () and done.waiting == 0
    return done


def next_second() -> None:
    """What happens in one second has no order: times of versions are whole ones."""
    time.sleep(1.01)


def lives(index: Index, text: str) -> list[tuple[str, str, str | None]]:
    """Path, version that brought it, version that took it away."""
    hits: list[Hit] = list(index.find(Query(text, fixed=True)))
    return sorted((os.fsdecode(h.path), h.introduced.id, h.removed.id if h.removed else None) for h in hits)


def read(checkout: Path, vcs: str, into: Path, now: int = 0) -> int:
    return foreign.update(Checkout(checkout, vcs), into, Disk(), lambda: False, now)


def tree_at(into: Path, name: str) -> dict[str, str]:
    commit = foreign.commit_of(into, name)
    listed = tool(into, "git", "ls-tree", "-r", commit)
    return {line.split("\t")[1].strip('"'): line.split()[2] for line in listed.splitlines()}


@pytest.fixture(scope="module")
def hg_pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone with a merge, an unmerged head, a rename, a removal and a binary file."""
    folder = tmp_path_factory.mktemp("hg")
    theirs = folder / "theirs"
    (theirs / "lib").mkdir(parents=True)
    tool(theirs, "hg", "init")
    with WritingHg() as hg_of:

        def commit(message: str, *, user: str = "Mariana <m@x>", **files: str | None) -> None:
            for name, text in files.items():
                path = theirs / name.replace("_", "/")
                path.unlink() if text is None else path.write_text(text)
            hg_of.run(theirs, "commit", "-q", "-A", "-m", message, "-u", user)

        commit("one\nmore", a="alpha one\n", lib_b='say "hello"\n')
        commit("two", user="bare", a="alpha one\nalpha two\n")
        (theirs / "bin").write_bytes(bytes(range(256)) * 10)
        (theirs / 'od"d \\name').write_text("odd line\n")
        commit("binary")
        hg_of.run(theirs, "update", "-q", "1")
        commit("side", lib_b='say "hello"\nfrom the side\n')
        hg_of.run(theirs, "merge", "-q", "2")
        commit("merged")
        hg_of.run(theirs, "rename", "-q", "lib/b", "lib/c")
        commit("renamed", a=None)
        hg_of.run(theirs, "update", "-q", "0")
        commit("unmerged", lib_b="only on the other head\n")
        hg_of.run(theirs, "update", "-q", "5")
        hg_of.run(theirs, "clone", "-q", "-u", "5", str(theirs), str(folder / "work"))
    return folder


def nodes(work: Path) -> list[str]:
    return hg.SERVER.ask(work, "log", "-r", "all()", "-T", "{node}\\n").decode().split()


@pytest.mark.needs("hg")
def test_every_changeset_of_hg_is_read_as_it_is(hg_pair: Path, tmp_path: Path) -> None:
    work, into = hg_pair / "work", tmp_path / "history"
    assert read(work, "hg", into) == 0 and foreign.is_read(into)
    known = nodes(work)
    for node in known:
        expected = {}
        for name in hg.SERVER.ask(work, "files", "-r", node).decode().splitlines():
            text = hg.SERVER.ask(work, "cat", "-r", node, f"path:{name}")
            expected[name.replace("\\", "\\\\").replace('"', '\\"')] = object_id(b"blob", text).hex()
        assert tree_at(into, node) == expected
    form = "--format=%an|%ae|%s|%P"
    said = tool(into, "git", "log", "--no-walk", form, *(foreign.commit_of(into, node) for node in known[:2]))
    first = foreign.commit_of(into, known[0])
    assert set(said.splitlines()) == {"Mariana|m@x|one|", f"bare||two|{first}"}
    merged = tool(into, "git", "rev-list", "--parents", "-n1", foreign.commit_of(into, known[4])).split()
    assert merged[1:] == [foreign.commit_of(into, known[at]) for at in (3, 2)]
    assert tool(into, "git", "rev-parse", "HEAD") == foreign.commit_of(into, known[5])
    tool(into, "git", "fsck", "--strict")
    server = hg.SERVER
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(server, "ask", lambda *_, **__: pytest.fail("asked though nothing is new"))
        assert read(work, "hg", into) == 0


@pytest.mark.needs("hg")
def test_the_past_of_an_hg_project_is_in_its_changesets_and_snapshots(
    hg_pair: Path, vault: Vault, index: Index, tmp_path: Path
) -> None:
    work = tmp_path / "work"
    shutil.copytree(hg_pair / "work", work)
    vault.create_snapshot(work)
    up_to_date(vault, index)
    known = nodes(work)
    assert lives(index, "alpha two") == [("a", known[1], known[5])]
    assert lives(index, "only on the other head") == [("lib/b", known[6], None)]
    (hit,) = index.find(Query("from the side", fixed=True, alive=True))
    assert (hit.introduced.author, hit.introduced.subject, hit.introduced.snapshot) == ("Mariana", "renamed", False)
    (work / "lib" / "c").write_text("from the side\nedited here\n")
    next_second()
    edited = vault.create_snapshot(work).snapshot
    up_to_date(vault, index)
    assert lives(index, "edited here") == [("lib/c", edited, None)]
    tool(work, "hg", "commit", "-q", "-m", "the edit")
    (work / "new").write_text("not committed\n")
    next_second()
    later = vault.create_snapshot(work).snapshot
    up_to_date(vault, index)
    assert lives(index, "edited here") == [("lib/c", edited, None)], "when it was committed it did not go and come"
    assert lives(index, "not committed") == [("new", later, None)]
    assert lives(index, 'say "hello"')[-1][2] == edited
    assert not [hit for hit in index.find(Query("dirstate")) if hit.path.startswith(b".hg/")]
    vault.forget(["new"], yes=True)
    assert not (vault.path / "cache" / "histories").exists()


@pytest.mark.needs("svn")
def test_the_past_of_an_svn_project_is_in_its_revisions(vault: Vault, index: Index, tmp_path: Path) -> None:
    tool(tmp_path, "svnadmin", "create", "theirs")
    url = f"file://{tmp_path}/theirs"
    tool(tmp_path, "svn", "mkdir", "-q", "-m", "begin", f"{url}/trunk", f"{url}/tags")
    tool(tmp_path, "svn", "checkout", "-q", f"{url}/trunk", "work")
    work = tmp_path / "work"
    (work / "lib").mkdir()
    (work / "lib" / "a b.txt").write_text("first line\nsecond line\n")
    (work / "id").write_text("$Id$\n")
    tool(work, "svn", "add", "-q", "lib", "id")
    tool(work, "svn", "propset", "-q", "svn:keywords", "Id", "id")
    tool(work, "svn", "commit", "-q", "-m", "two\nmore")
    (work / "lib" / "a b.txt").write_text("first line\n")
    tool(work, "svn", "commit", "-q", "-m", "three")
    tool(work, "svn", "update", "-q")
    tool(work, "svn", "copy", "-q", "lib", "copied")
    tool(work, "svn", "delete", "-q", "lib")
    tool(work, "svn", "commit", "-q", "-m", "moved a folder")
    into = tmp_path / "history"
    calls = 0

    def twice() -> bool:
        nonlocal calls
        calls += 1
        return calls > 1

    left = foreign.update(Checkout(work, "svn"), into, Disk(), twice, 0)
    assert left == 2 and not foreign.is_read(into), "what a run could not finish counts for nothing yet"
    assert read(work, "svn", into) == 0 and foreign.is_read(into)
    assert set(tree_at(into, "r2")) == {"lib/a b.txt", "id"} and set(tree_at(into, "r4")) == {"copied/a b.txt", "id"}
    vault.create_snapshot(work)
    up_to_date(vault, index)
    assert lives(index, "second line") == [("lib/a b.txt", "r2", "r3")]
    assert lives(index, "first line") == [("copied/a b.txt", "r4", None), ("lib/a b.txt", "r2", "r4")]
    (version,) = index.pickaxe(Query("second line", fixed=True))[1:]
    assert (version.id, version.subject) == ("r2", "two") and version.author
    (work / "copied" / "a b.txt").write_text("first line\nthird line\n")
    snapshot = vault.create_snapshot(work).snapshot
    tool(work, "svn", "commit", "-q", "-m", "five")
    next_second()
    vault.create_snapshot(work)
    up_to_date(vault, index)
    assert lives(index, "third line") == [("copied/a b.txt", snapshot, None)]
    tool(work, "svn", "switch", "-q", "--ignore-ancestry", f"{url}/tags")
    assert read(work, "svn", into) == 0 and foreign.commit_of(into, "r2") == "", "another folder is another history"


@pytest.mark.needs("svn")
def test_a_history_that_cannot_be_read_is_said_and_the_rest_is_searched(
    vault: Vault, index: Index, tmp_path: Path
) -> None:
    tool(tmp_path, "svnadmin", "create", "theirs")
    tool(tmp_path, "svn", "checkout", "-q", f"file://{tmp_path}/theirs", "work")
    (tmp_path / "work" / "new").write_text("a line of its own\n")
    snapshot = vault.create_snapshot(tmp_path / "work").snapshot
    (tmp_path / "theirs").rename(tmp_path / "away")
    done = answers.bring_up(vault, index)
    (said,) = done.problems
    assert said.startswith("work: its svn history cannot be read: E")
    assert lives(index, "a line of its own") == [("new", snapshot, None)]
    (tmp_path / "away").rename(tmp_path / "theirs")
    up_to_date(vault, index)
    assert lives(index, "a line of its own") == [("new", snapshot, None)]
