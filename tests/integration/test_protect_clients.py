"""hg and svn checkouts in the mode protect: what the server has is not stored; all of it is shown and comes back."""

from __future__ import annotations

import io
import os
import shutil
import socket
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from repositories import WritingHg

from gitvault.core.backup_engine.trees import Walked
from gitvault.core.beside import Beside
from gitvault.core.models import PROTECTED, SnapshotId
from gitvault.core.patterns import Patterns
from gitvault.core.utils.files import Disk
from gitvault.core.versioning import index
from gitvault.core.versioning.indexed import Indexes
from gitvault.core.versioning.objects import object_id
from gitvault.errors import CorruptionError, NotFoundError, ToolFailed
from gitvault.vault import Vault
from gitvault.vcs import client_sources, hg, hg_store, lean, remotes, servers, svn_store
from gitvault.vcs.carried import Carried, Left
from gitvault.vcs.protect.rules import Protecting
from gitvault.vcs.protect.view import View
from gitvault.vcs.servers import Served, Server

WEEK = timedelta(days=7)


def tool(folder: Path, *command: str, ok: bool = True) -> str:
    environment = {**os.environ, "HGUSER": "me", "HGPLAIN": "1", "HGRCPATH": ""}
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment)
    assert done.returncode == 0 or not ok, done.stderr
    return done.stdout.strip()


def says(work: Path, *words: str) -> str:
    """What hg says; the one that runs."""
    return os.fsdecode(hg.SERVER.ask(work, *words)).strip()


def held(vault: Vault, snapshot: str) -> set[str]:
    """The files that a snapshot stores, but for a checkout's own folder."""
    entries = vault.history.entries(SnapshotId(snapshot), recursive=True)
    paths = {os.fsdecode(entry.path) for entry in entries if entry.kind != "folder"}
    return {path for path in paths if not {".hg", ".svn", ".git"} & set(path.split("/"))}


def shown(vault: Vault, snapshot: str) -> dict[str, bytes]:
    """The files that it shows, with their contents."""
    found = {}
    for entry in vault.entries(snapshot, recursive=True):
        path = os.fsdecode(entry.path)
        if entry.kind != "folder" and not {".hg", ".svn", ".git"} & set(path.split("/")):
            out = io.BytesIO()
            vault.read_file(snapshot, entry.path, out)
            found[path] = out.getvalue()
    return found


def tree(folder: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(folder)): os.readlink(file).encode() if file.is_symlink() else file.read_bytes()
        for file in folder.rglob("*")
        if (file.is_symlink() or file.is_file()) and not {".svn", ".hg", ".git"} & set(file.relative_to(folder).parts)
    }


def everything(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(file): (file.lstat().st_mtime_ns, file.read_bytes() if file.is_file() else b"")
        for file in sorted(folder.rglob("*"))
    }


def attached(vault: Vault, snapshot: str) -> lean.Attached:
    (found,) = View(vault.history, SnapshotId(snapshot)).carried
    return found


def free_port() -> int:
    with closing(socket.socket()) as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def wait_for(port: int) -> None:
    for _ in range(200):
        with closing(socket.socket()) as one:
            if one.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise AssertionError(f"nobody listens at {port}")


@pytest.fixture(scope="module")
def hg_pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository and its clone, which is at a changeset that nobody else has."""
    folder = tmp_path_factory.mktemp("hg")
    theirs = folder / "theirs"
    (theirs / "lib").mkdir(parents=True)
    tool(theirs, "hg", "init")
    for name in ("a", "lib/b", "lib/with space", "run"):
        (theirs / name).write_text(f"{name}\n" * 50)
    (theirs / "run").chmod(0o755)
    (theirs / "link").symlink_to("a")
    (theirs / "empty").write_text("")
    (theirs / "framed").write_bytes(b"3 a\nxyz5 lib/b\n\0\xff")
    with WritingHg() as hg_of:
        hg_of.run(theirs, "commit", "-q", "-A", "-m", "one")
        hg_of.run(theirs, "clone", "-q", str(theirs), str(folder / "work"))
        (folder / "work" / "a").write_text("draft\n")
        hg_of.run(folder / "work", "commit", "-q", "-m", "draft")
    return folder


@pytest.fixture
def hg_work(hg_pair: Path, tmp_path: Path) -> Path:
    for name in ("theirs", "work"):
        shutil.copytree(hg_pair / name, tmp_path / name, symlinks=True)
    (tmp_path / "work" / ".hg" / "hgrc").write_text(f"[paths]\ndefault = {tmp_path / 'theirs'}\n")
    return tmp_path / "work"


@pytest.mark.needs("hg")
def test_an_hg_checkout_is_shown_whole_while_its_server_has_most_of_it(hg_work: Path, vault: Vault) -> None:
    before = everything(hg_work)
    first = vault.create_snapshot(hg_work).snapshot
    assert everything(hg_work) == before
    assert held(vault, first) == set() and shown(vault, first) == tree(hg_work)
    kinds = {os.fsdecode(entry.path): (entry.kind, entry.mode) for entry in vault.entries(first, recursive=True)}
    assert kinds["link"][0] == "symlink" and kinds["run"] == ("file", 0o755) and kinds["lib"][0] == "folder"
    assert "link" in {os.fsdecode(entry.path) for entry in vault.entries(first)}
    (state,) = vault.status([hg_work / "lib" / "b"])
    assert state.state == "saved" and state.reason.startswith(f"{PROTECTED}hg: at ")
    stat = os.stat(hg_work / "lib" / "b")
    (hg_work / "lib" / "b").write_bytes(b"X" + (hg_work / "lib" / "b").read_bytes()[1:])
    os.utime(hg_work / "lib" / "b", ns=(stat.st_atime_ns, stat.st_mtime_ns))
    (hg_work / "run").chmod(0o644)
    (hg_work / "lib" / "with space").unlink()
    second = vault.create_snapshot(hg_work)
    assert held(vault, second.snapshot) == {"lib/b", "run"} and shown(vault, second.snapshot) == tree(hg_work)
    change = vault.get_version_diff(first, second.snapshot)
    assert {b"lib/b", b"run"} <= set(change.changed) and change.deleted == (b"lib/with space",)


@pytest.mark.needs("hg")
def test_what_is_committed_leaves_hg_snapshots_without_being_deleted(hg_work: Path, vault: Vault) -> None:
    (hg_work / "a").write_text("changed\n")
    (hg_work / "new").write_text("new\n")
    first = vault.create_snapshot(hg_work).snapshot
    assert held(vault, first) == {"a", "new"}
    with WritingHg() as hg_of:
        hg_of.run(hg_work, "commit", "-q", "-A", "-m", "two")
    second = vault.create_snapshot(hg_work)
    assert held(vault, second.snapshot) == set() and shown(vault, second.snapshot) == tree(hg_work)
    assert vault.get_version_diff(first, second.snapshot).deleted == ()
    with WritingHg() as hg_of:
        hg_of.run(hg_work, "update", "-q", "0")
    third = vault.create_snapshot(hg_work).snapshot
    assert shown(vault, third) == tree(hg_work) and shown(vault, first)["a"] == b"changed\n"
    assert vault.create_snapshot(hg_work).unchanged and vault.verify().ok


@pytest.mark.needs("hg")
def test_files_of_a_draft_come_from_the_bundle_when_the_hg_checkout_is_gone(
    hg_work: Path, vault: Vault, tmp_path: Path
) -> None:
    (hg_work / "untracked").write_text("?\n")
    expected = tree(hg_work)
    snapshot = vault.create_snapshot(hg_work).snapshot
    shutil.rmtree(hg_work)
    out = io.BytesIO()
    vault.read_file(snapshot, b"a", out)
    assert out.getvalue() == b"draft\n"
    done = vault.restore_snapshot(snapshot, tmp_path / "part", paths=["lib", "untracked"])
    assert not done.problems and set(tree(tmp_path / "part")) == {"lib/b", "lib/with space", "untracked"}
    assert not (tmp_path / "part" / ".hg").exists()
    assert not vault.restore_snapshot(snapshot, tmp_path / "out").problems
    assert tree(tmp_path / "out") == expected and says(tmp_path / "out", "status") == "? untracked"
    shutil.rmtree(hg_work.parent / "theirs")
    with pytest.raises(NotFoundError, match="hg protected it, and nobody has it any more"):
        vault.read_file(snapshot, b"lib/b", io.BytesIO())
    (defect,) = vault.verify().defects
    assert defect.kind == "base" and "is gone" in defect.reason


@pytest.mark.needs("hg")
def test_one_file_restored_in_place_leaves_the_hg_repository_alone(hg_work: Path, vault: Vault) -> None:
    snapshot = vault.create_snapshot(hg_work).snapshot
    (hg_work / "lib" / "b").write_text("spoilt\n")
    before = everything(hg_work / ".hg")
    assert not vault.restore_snapshot(snapshot, paths=["lib/b"]).problems
    assert (hg_work / "lib" / "b").read_text() == "lib/b\n" * 50
    assert everything(hg_work / ".hg") == before


@pytest.mark.needs("hg")
def test_an_hg_server_without_what_is_built_on_is_not_relied_on(hg_work: Path, vault: Vault) -> None:
    shutil.rmtree(hg_work.parent / "theirs")
    tool(hg_work.parent, "hg", "init", "theirs")
    report = vault.create_snapshot(hg_work)
    assert ": stored in full: changeset " in report.notes[0] and "is no longer on default" in report.notes[0]
    assert set(tree(hg_work)) == held(vault, report.snapshot)
    (found,) = vault.vcs_status()
    assert not found.safe and "is no longer on default" in found.reason
    assert not vault.restore_snapshot(report.snapshot, hg_work.parent / "out").problems
    assert says(hg_work.parent / "out", "status") == ""


@pytest.mark.needs("hg")
def test_the_verdict_knows_that_the_vault_has_what_only_an_hg_checkout_had(hg_work: Path, vault: Vault) -> None:
    os.utime(hg_work / ".hg" / "store" / "00changelog.i", (1, 1))
    (hg_work / "lib" / "b").write_text("changed\n")
    vault.create_snapshot(hg_work)
    (found,) = vault.vcs_status()
    assert (found.unpushed_commits, found.modified) == (1, 1)
    assert "the vault has had all of it for" in found.reason
    os.utime(hg_work / ".hg" / "store" / "00changelog.i")
    assert "not the latest changes" in vault.vcs_status()[0].reason, "there may be new changesets"


@pytest.mark.needs("hg")
def test_the_rules_of_a_project_ask_an_hg_checkout_file_by_file(hg_work: Path, vault: Vault) -> None:
    server = hg.Server()

    def made(doubt: str) -> Carried:
        protecting = Protecting(
            str(hg_work),
            Patterns(["*.log"]),
            history=vault.history,
            tip=None,
            standing=lambda _: remotes.Standing(()),
            served=lambda _: Served(doubt, Beside()),
            indexes=Indexes(),
            now=0,
            asked=server,
        )
        scope = protecting.scope(b"", protecting.marks(os.listdir(hg_work)), None)
        assert scope.omits(b"x.log", False) and not scope.omits(b"x.txt", False)
        (found,) = protecting.carried
        return found

    try:
        carried = made("")
        reason, _ = carried.protects(b"", b"a")
        assert reason.startswith(f"{PROTECTED}hg: at ") and reason.endswith(" on default")
        assert carried.protects(b"", b"none") == ("", False) and list(carried.note()) == []
        assert carried.left == {b".hg": Left(hg_store.CACHES), b".hg/store": Left(hg_store.KEPT, all_but=True)}
        assert [name for name, _ in carried.attachments(Walked())] == [b"local.hg.000", b"index.000", b"checkout.json"]
        silent = made("it has not answered")
        assert silent.protects(b"", b"a") == ("", False) and silent.left == {}
        assert list(silent.note()) == [".: stored in full: it has not answered"]
        assert [name for name, _ in silent.attachments(Walked())] == [b"checkout.json"]
    finally:
        server.close()
    assert View(vault.history, vault.create_snapshot(hg_work.parent / "theirs").snapshot).is_plain


@pytest.mark.needs("hg")
def test_hg_files_are_read_once_and_then_only_what_differs(hg_work: Path) -> None:
    server = hg.Server()
    asked: list[tuple[str, ...]] = []
    ask = server.ask
    server.ask = lambda folder, *words, **more: asked.append(words) or ask(folder, *words, **more)  # type: ignore
    try:
        old, new = (says(hg_work, "log", "-r", revision, "-T", "{node}") for revision in ("0", "1"))
        first = hg_store.base_of(hg_work, server, old, {}, "")
        assert [entry.path for entry in first] == sorted(entry.path for entry in first) and len(first) == 7
        known = {entry.path: entry for entry in first}
        assert hg_store.base_of(hg_work, server, old, known, old) == first
        asked.clear()
        second = hg_store.base_of(hg_work, server, new, known, old)
        assert {a.path for a, b in zip(first, second, strict=True) if a != b} == {b"a"}
        assert len([words for words in asked if words[0] == "cat"]) == 1
        assert hg_store.base_of(hg_work, server, new, known, "1" * 40) == second, "a changeset that was stripped"
        assert hg_store.base_of(hg_work, server, "", {}, "") == []
        found = dict(hg_store.contents(hg_work, server, new, [b"framed", b"empty", b"none"]))
        assert found == {b"framed": b"3 a\nxyz5 lib/b\n\0\xff", b"empty": b""}
        hg_store.scratch_copy(str(hg_work.parent / "theirs"), hg_work, b"", hg_work.parent / "scratch")
        assert dict(hg_store.contents(hg_work.parent / "scratch", server, old, [b"empty"])) == {b"empty": b""}
        with pytest.raises(ToolFailed):
            list(hg_store.contents(hg_work, server, "1" * 40, [b"a"]))
    finally:
        server.close()


@pytest.fixture(scope="module")
def svn_pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with a dozen files of a trunk at several revisions, and a working copy of that."""
    folder = tmp_path_factory.mktemp("svn")
    tool(folder, "svnadmin", "create", "theirs")
    (folder / "theirs" / "conf" / "svnserve.conf").write_text("[general]\nanon-access = write\n")
    tool(folder, "svn", "mkdir", "-q", "-m", "begin", f"file://{folder}/theirs/trunk")
    tool(folder, "svn", "checkout", "-q", f"file://{folder}/theirs/trunk", "work")
    work = folder / "work"
    (work / "src").mkdir()
    for number in range(12):
        (work / "src" / f"file {number}.txt").write_text(f"{number}\n" * 40)
    (work / "run").write_text("#!/bin/sh\n")
    (work / "run").chmod(0o755)
    (work / "link").symlink_to("run")
    (work / "id.txt").write_text("$Id$\n")
    tool(work, "svn", "add", "-q", "src", "run", "link", "id.txt")
    tool(work, "svn", "propset", "-q", "svn:keywords", "Id", "id.txt")
    tool(work, "svn", "commit", "-q", "-m", "one")
    (work / "src" / "file 1.txt").write_text("newer\n")
    tool(work, "svn", "commit", "-q", "-m", "two")
    return folder


@pytest.fixture
def svn_work(svn_pair: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "svn"
    for name in ("theirs", "work"):
        shutil.copytree(svn_pair / name, folder / name, symlinks=True)
    tool(folder / "work", "svn", "relocate", f"file://{svn_pair}/theirs", f"file://{folder}/theirs")
    return folder / "work"


@pytest.mark.needs("svn")
def test_a_working_copy_of_svn_is_shown_whole_while_its_server_has_most_of_it(
    svn_work: Path, vault: Vault, tmp_path: Path
) -> None:
    before = everything(svn_work)
    first = vault.create_snapshot(svn_work).snapshot
    assert everything(svn_work) == before
    # A symlink costs nothing, and a keyword that is filled in is not what the server has.
    assert held(vault, first) == {"link", "id.txt"} and shown(vault, first) == tree(svn_work)
    (state,) = vault.status([svn_work / "run"])
    assert state.state == "saved" and state.reason.startswith(f"{PROTECTED}svn: at r1 on trunk")
    stat = os.stat(svn_work / "run")
    (svn_work / "run").write_text("#!/bin/xx\n")
    os.utime(svn_work / "run", ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert not [line for line in tool(svn_work, "svn", "status").splitlines() if "run" in line], "svn does not see it"
    tool(svn_work, "svn", "propset", "-q", "color", "red", "src")
    tool(svn_work, "svn", "changelist", "-q", "mine", "src/file 2.txt")
    second = vault.create_snapshot(svn_work).snapshot
    assert held(vault, second) == {"link", "id.txt", "run"} and shown(vault, second) == tree(svn_work)
    assert {b"run", b".svn/wc.db"} == set(vault.get_version_diff(first, second).changed)
    (svn_work / "src" / "file 3.txt").write_text("changed\n")
    assert held(vault, vault.create_snapshot(svn_work).snapshot) == {"link", "id.txt", "run", "src/file 3.txt"}
    tool(svn_work, "svn", "commit", "-q", "-m", "three", "src/file 3.txt")
    last = vault.create_snapshot(svn_work).snapshot
    assert held(vault, last) == {"link", "id.txt", "run"} and shown(vault, last) == tree(svn_work)
    status = tool(svn_work, "svn", "status", "-v").replace(str(svn_work), "")
    assert not vault.restore_snapshot(last, tmp_path / "out").problems
    assert tool(tmp_path / "out", "svn", "status", "-v").replace(str(tmp_path / "out"), "") == status
    assert vault.create_snapshot(svn_work).unchanged and vault.verify().ok


@pytest.fixture
def served(svn_work: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """The working copy's repository behind svnserve: its URL, and the server."""
    port = free_port()
    command = ["svnserve", "--daemon", "--foreground", "--listen-host", "127.0.0.1", "--listen-port", str(port)]
    server = subprocess.Popen([*command, "--root", str(svn_work.parent)])
    try:
        wait_for(port)
        url = f"svn://127.0.0.1:{port}/theirs"
        tool(svn_work, "svn", "relocate", f"file://{svn_work.parent}/theirs", url)
        yield url, server
    finally:
        server.kill()
        server.wait()


@pytest.mark.needs("svn", "svnserve")
def test_many_files_come_from_svnserve_with_one_question(
    svn_work: Path, served: tuple[str, subprocess.Popen[bytes]], vault: Vault, tmp_path: Path
) -> None:
    url, server = served
    expected = tree(svn_work)
    snapshot = vault.create_snapshot(svn_work).snapshot
    found = attached(vault, snapshot)
    assert (found.record.url, found.record.branch, found.record.revision) == (url, "trunk", "1")
    shutil.rmtree(svn_work)
    assert not vault.restore_snapshot(snapshot, tmp_path / "out").problems
    assert tree(tmp_path / "out") == expected and tool(tmp_path / "out", "svn", "status") == ""
    server.kill()
    server.wait()
    with (
        client_sources.ClientSources(vault.history, found) as sources,
        pytest.raises(NotFoundError, match=r"svn protected it.* is gone; svn://.*: E170013"),
    ):
        sources.read(object_id(b"blob", b"newer\n"))
    with client_sources.ClientSources(vault.history, found, fetch=False) as sources:
        assert list(sources.read_many([object_id(b"blob", b"newer\n")])) == []
    entries = lean.entries_of(vault.history, found)
    failed: list[str] = []
    texts = svn_store.decode_texts(b"".join(b"%040d 1 trunk/x\0" % n for n, _ in enumerate(entries)), entries)
    assert list(svn_store.asked_texts(url, texts, failed)) == [] and len(failed) == 1
    with pytest.raises(ToolFailed, match="Can't connect"):
        svn_store.export(url, "trunk", 1, tmp_path / "export")
    assert list(svn_store.kept_texts(tmp_path / "out", texts)) == [(text.entry.blob, b"") for text in texts]


@pytest.mark.needs("svn", "svnserve")
def test_an_svn_server_that_is_silent_or_lost_revisions_is_not_relied_on(
    svn_work: Path, served: tuple[str, subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    url, process = served
    cache, disk, now = tmp_path / "cache", Disk(), datetime.now(UTC)
    uuid = svn_store.about(svn_work)["uuid"]
    good = Server(svn_work, "svn", url, ("1",), uuid)
    assert remotes.is_due(svn_work, now, cache)
    for server, reason in (
        (good, ""),
        (Server(svn_work, "svn", url, ("99",), uuid), "revision 99 is no longer on its repository"),
        (Server(svn_work, "svn", url, ("1",), "another"), "revision 1 is no longer on its repository"),
    ):
        servers.probe(server, now, cache, disk)
        assert servers.doubt(server, now, WEEK, cache) == reason
    assert not remotes.is_due(svn_work, now, cache)
    servers.probe(good, now, cache, disk)
    assert servers.answered(good, cache) == now.timestamp()
    process.kill()
    process.wait()
    servers.probe(good, now + WEEK / 2, cache, disk)
    assert servers.doubt(good, now + WEEK / 2, WEEK, cache) == ""
    assert "has not answered (E170013: " in servers.doubt(good, now + 2 * WEEK, WEEK, cache)
    assert servers.doubt(Server(svn_work, "svn", f"{url}2", ("1",), uuid), now + 2 * WEEK, WEEK, cache) == ""


@pytest.mark.needs("svn", "svnserve")
def test_vcs_status_asks_an_svn_server_when_it_is_told_to(
    svn_work: Path, served: tuple[str, subprocess.Popen[bytes]], vault: Vault
) -> None:
    url, process = served
    vault.add_project(svn_work)
    began = time.time() - 30 * 86_400
    for name in ("format", "entries"):
        os.utime(svn_work / ".svn" / name, (began, began))
    (found,) = vault.vcs_status()
    assert found.safe and found.reason == f"all of it is on {url} (as of 30 days ago)"
    (found,) = vault.vcs_status(probe=True)
    assert found.safe and "seconds ago)" in found.reason
    process.kill()
    process.wait()
    assert vault.vcs_status(probe=True)[0].safe, "it answered a moment ago"
    with Vault.open(vault.path, now=lambda: datetime.now(UTC) + 2 * WEEK) as again:
        (found,) = again.vcs_status()
        assert not found.safe and "its repository has not answered (E170013: " in found.reason
        report = again.create_snapshot(svn_work)
    assert report.notes[0].startswith(".: stored in full: its repository has not answered")
    assert held(vault, report.snapshot) == set(tree(svn_work))


@pytest.mark.needs("svn")
def test_an_svn_repository_that_was_put_back_or_replaced_is_not_relied_on(svn_work: Path, vault: Vault) -> None:
    assert vault.create_snapshot(svn_work).notes == ()
    current = svn_work.parent / "theirs" / "db" / "current"
    current.write_text("0\n")
    report = vault.create_snapshot(svn_work)
    assert report.notes == (".: stored in full: revision 1 is no longer on its repository",)
    assert held(vault, report.snapshot) == set(tree(svn_work))
    current.unlink()
    assert vault.create_snapshot(svn_work).notes == (), "of another kind of repository nothing is known"


@pytest.mark.needs("hg")
def test_an_hg_server_is_asked_outside_the_checkout(hg_work: Path, tmp_path: Path) -> None:
    port = free_port()
    command = ["hg", "serve", "--address", "127.0.0.1", "--port", str(port), "-R", str(hg_work.parent / "theirs")]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    cache, disk, now = tmp_path / "cache", Disk(), datetime.now(UTC)
    try:
        wait_for(port)
        public, draft = (says(hg_work, "log", "-r", revision, "-T", "{node}") for revision in ("0", "1"))
        assert hg.built_on(hg_work, hg.SERVER) == (public,)
        good = Server(hg_work, "hg", f"http://127.0.0.1:{port}", (public,))
        servers.probe(good, now, cache, disk)
        assert servers.doubt(good, now, WEEK, cache) == "" and servers.answered(good, cache) == now.timestamp()
        bad = Server(hg_work, "hg", good.url, (draft,))
        servers.probe(bad, now, cache, disk)
        assert servers.doubt(bad, now, WEEK, cache) == f"changeset {draft[:12]} is no longer on default"
    finally:
        process.kill()
        process.wait()
    servers.probe(good, now, cache, disk)
    assert "default has not answered (error: Connection refused" in servers.doubt(good, now + 2 * WEEK, WEEK, cache)
    damaged = tmp_path / "damaged"
    (damaged / ".hg").mkdir(parents=True)
    (damaged / ".hg" / "requires").write_text("no-such-thing\n")
    said = servers.doubt(Server(hg_work, "hg", str(damaged), (public,)), now, WEEK, cache)
    assert said.startswith("default cannot be read: repository requires features unknown")
    (tmp_path / "one.hg").write_bytes(b"HG20")
    bundle = Server(hg_work, "hg", str(tmp_path / "one.hg"), (public,))
    assert servers.doubt(bundle, now, WEEK, cache) == "", "what a bundle has is not looked at"
    assert good.place() is None and Server(hg_work, "hg", "../x").place() == hg_work / "../x"
    servers.probe(Server(hg_work, "hg", str(tmp_path)), now, cache, disk)


def test_an_answer_that_refused_says_so(tmp_path: Path) -> None:
    disk, now = Disk(), datetime.now(UTC)
    server = Server(tmp_path, "svn", "svn+nothing://host/x", ("1",))
    answer = remotes.Answer(servers.digest_of(server.url), now.timestamp(), 0, "E170001: Authorization failed", True)
    remotes.keep(tmp_path, {"default": answer}, tmp_path / "cache", disk)
    said = servers.doubt(server, now, WEEK, tmp_path / "cache")
    assert said == "its repository refused: E170001: Authorization failed (its last answer: never)"


@pytest.mark.needs("svn")
def test_what_is_known_of_svn_texts_is_read_again_only_when_it_changed(svn_work: Path, tmp_path: Path) -> None:
    state = svn_store.state_of(svn_work)
    texts = svn_store.base_of(svn_work, {})
    assert state and svn_store.state_of(svn_work) == state and len(texts) == 14
    assert {text.entry.path for text in texts if text.entry.mode == index.MODE_EXECUTABLE} == {b"run"}
    shutil.rmtree(svn_work / ".svn" / "pristine")
    assert svn_store.base_of(svn_work, {}) == [], "a file whose text cannot be looked at is stored"
    assert svn_store.base_of(svn_work, {text.entry.path: text for text in texts}) == texts
    database = sqlite3.connect(svn_work / ".svn" / "wc.db")
    with database:
        database.execute("UPDATE nodes SET last_mod_time = 7 WHERE local_relpath = ''")
    database.close()
    assert svn_store.state_of(svn_work) != state
    (svn_work / ".svn" / "wc.db-journal").write_bytes(b"x")
    assert svn_store.state_of(svn_work) == ""
    packed = svn_store.encode_texts(texts)
    assert svn_store.decode_texts(packed, [text.entry for text in texts]) == texts
    for wrong in (packed[:-50], b"x y z\0" * 14):
        with pytest.raises(CorruptionError, match="the texts of an svn checkout"):
            svn_store.decode_texts(wrong, [text.entry for text in texts])
    failed: list[str] = []
    assert list(svn_store.asked_texts("--evil", texts[:2], failed)) == [] and "not a repository's URL" in failed[0]
    mixed = [text._replace(place=f"/{text.place}" if number else text.place) for number, text in enumerate(texts)]
    failed.clear()
    assert list(svn_store.asked_texts("file:///none", mixed, failed)) == [] and len(failed) == 1


@pytest.mark.needs("hg", "svn")
def test_checkouts_of_all_kinds_in_one_project(hg_work: Path, svn_work: Path, vault: Vault, tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    hg_work.rename(project / "one")
    svn_work.rename(project / "two")
    (project / "loose").write_text("x")
    (project / "one" / "a").write_text("changed\n")
    snapshot = vault.create_snapshot(project).snapshot
    assert held(vault, snapshot) == {"loose", "one/a", "two/link", "two/id.txt"}
    assert shown(vault, snapshot) == tree(project)
    assert not vault.restore_snapshot(snapshot, tmp_path / "out").problems
    assert tree(tmp_path / "out") == tree(project)
    assert says(tmp_path / "out" / "one", "status") == "M a"
    assert tool(tmp_path / "out" / "two", "svn", "status") == ""


@pytest.mark.needs("hg")
def test_what_is_under_way_in_hg_comes_back(hg_work: Path, vault: Vault, tmp_path: Path) -> None:
    """A merge with a conflict, a queue of patches, a shelf, local tags, bookmarks, an outer head."""
    more = ("--config", "extensions.mq=", "--config", "extensions.shelve=")
    (hg_work / "framed").write_text("shelved\n")
    with WritingHg() as hg_of:
        hg_of.run(hg_work, *more, "shelve")
        hg_of.run(hg_work, "bookmark", "-r", "0", "old")
        hg_of.run(hg_work, "tag", "--local", "mine")
        hg_of.run(hg_work, "update", "-q", "0")
        (hg_work / "a").write_text("another draft\n")
        hg_of.run(hg_work, "commit", "-q", "-m", "another head")
        for words in (("qinit",), ("qnew", "-m", "a patch", "first"), ("qpop", "-q")):
            hg_of.run(hg_work, *more, *words)
    subprocess.run(["hg", "merge", "-q", "--tool", ":fail", "1"], cwd=hg_work, capture_output=True)
    (hg_work / "untracked").write_text("?\n")

    def state(work: Path) -> list[str]:
        listed = ("status", "resolve --list", "bookmarks", "tags", "heads -T {node}{phase}\\n", "summary", "id -i")
        said = [says(work, *words.split()) for words in listed]
        # An extension would stay with the server of this process.
        return [*said, tool(work, "hg", *more, "qseries"), tool(work, "hg", *more, "shelve", "--list").split("(")[0]]

    expected = state(hg_work)
    assert "U a" in expected[1] and "mine" in expected[3] and expected[-2] == "first"
    report = vault.create_snapshot(hg_work)
    assert report.notes == ()
    hg_work.rename(tmp_path / "away")
    assert not vault.restore_snapshot(report.snapshot, tmp_path / "out").problems
    assert state(tmp_path / "out") == expected and tree(tmp_path / "out") == tree(tmp_path / "away")
    with WritingHg() as hg_of:
        hg_of.run(tmp_path / "out", "update", "-q", "-C", ".")
        hg_of.run(tmp_path / "out", *more, "unshelve", "-q")
    assert (tmp_path / "out" / "framed").read_text() == "shelved\n"


@pytest.mark.needs("svn")
def test_conflicts_and_mixed_revisions_of_svn_come_back(svn_work: Path, vault: Vault, tmp_path: Path) -> None:
    url = f"file://{svn_work.parent}/theirs/trunk"
    tool(tmp_path, "svn", "checkout", "-q", url, "other")
    other = tmp_path / "other"
    (other / "src" / "file 1.txt").write_text("theirs\n")
    tool(other, "svn", "delete", "-q", "src/file 2.txt")
    (other / "src" / "file 4.txt").write_text("only newer\n")
    tool(other, "svn", "commit", "-q", "-m", "theirs")
    (svn_work / "src" / "file 1.txt").write_text("ours\n")
    (svn_work / "src" / "file 2.txt").write_text("edited, deleted there\n")
    tool(svn_work, "svn", "delete", "-q", "src/file 5.txt")
    tool(svn_work, "svn", "move", "-q", "src/file 6.txt", "moved.txt")
    tool(svn_work, "svn", "propset", "-q", "color", "red", "run")
    tool(svn_work, "svn", "changelist", "-q", "list", "src/file 7.txt")
    tool(svn_work, "svn", "update", "-q", "--accept", "postpone", "src")

    def state(work: Path) -> list[str]:
        listed = ("status -v", "diff", "info -R", "propget -R color")
        return [tool(work, "svn", *words.split()).replace(str(work), "WORK") for words in listed]

    expected = state(svn_work)
    assert ">   local file edit, incoming file delete" in expected[0] and "C " in expected[0]
    snapshot = vault.create_snapshot(svn_work).snapshot
    assert shown(vault, snapshot) == tree(svn_work)
    svn_work.rename(tmp_path / "away")
    assert not vault.restore_snapshot(snapshot, tmp_path / "out").problems
    assert state(tmp_path / "out") == expected and tree(tmp_path / "out") == tree(tmp_path / "away")
    tool(tmp_path / "out", "svn", "revert", "-q", "-R", ".")
    assert tool(tmp_path / "out", "svn", "status", "-q").split() == [
        "---",
        "Changelist",
        "'list':",
        "src/file",
        "7.txt",
    ]
