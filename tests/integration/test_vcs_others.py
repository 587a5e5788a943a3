"""What of hg and svn checkouts exists only on this machine; Perforce, Plastic and Fossil are recognised."""

from __future__ import annotations

import errno
import os
import shutil
import struct
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gitvault.core.patterns import Patterns
from gitvault.core.utils import process
from gitvault.core.utils.files import Disk
from gitvault.errors import ToolFailed, ToolMissing, ToolTimeout
from gitvault.vault import Vault
from gitvault.vcs import hg, hg_readonly, hg_state, lean, others, svn
from gitvault.vcs.find import MARKERS, Finder, checkout_at
from gitvault.vcs.look import read_state
from gitvault.vcs.state import Asking, Checkout, State


def tool(folder: Path, *command: str) -> str:
    environment = {**os.environ, "HGUSER": "me", "HGPLAIN": "1", "HGRCPATH": "", "USER": "me"}
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def look(work: Path, *left_out: str) -> State:
    checkout = checkout_at(work)
    assert checkout
    asking = Asking(datetime.now(UTC), timedelta(days=7), work.parent / "cache", Disk())
    return read_state(checkout, Finder(work, Patterns(left_out)), asking)


def everything(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    """Each entry of a folder: mode, time and content."""
    return {
        str(file): (file.lstat().st_mode, file.lstat().st_mtime_ns, file.read_bytes() if file.is_file() else b"")
        for file in sorted(folder.rglob("*"))
    }


@pytest.fixture(scope="session")
def hg_pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository and its clone; each start of hg costs 0.3 s."""
    folder = tmp_path_factory.mktemp("hg")
    (folder / "theirs").mkdir()
    tool(folder / "theirs", "hg", "init")
    (folder / "theirs" / "a.txt").write_text("one\n")
    tool(folder / "theirs", "hg", "commit", "-q", "-A", "-m", "one")
    tool(folder, "hg", "clone", "-q", "theirs", "work")
    return folder


@pytest.fixture
def hg_work(tmp_path: Path, hg_pair: Path) -> Path:
    for name in ("theirs", "work"):
        shutil.copytree(hg_pair / name, tmp_path / name)
    (tmp_path / "work" / ".hg" / "hgrc").write_text(f"[paths]\ndefault = {tmp_path / 'theirs'}\n")
    return tmp_path / "work"


@pytest.fixture
def svn_work(tmp_path: Path) -> Path:
    tool(tmp_path, "svnadmin", "create", "theirs")
    tool(tmp_path, "svn", "checkout", "-q", f"file://{tmp_path}/theirs", "work")
    work = tmp_path / "work"
    (work / "trunk").mkdir()
    (work / "trunk" / "a.txt").write_text("one\n")
    (work / "trunk" / "b.txt").write_text("one\n")
    tool(work, "svn", "add", "-q", "trunk")
    tool(work, "svn", "commit", "-q", "-m", "one")
    tool(work, "svn", "update", "-q")
    return work


@pytest.mark.needs("hg")
def test_hg_counts_what_is_not_public_and_not_committed(hg_work: Path) -> None:
    assert look(hg_work).safe
    assert look(hg_work).base == tool(hg_work, "hg", "log", "-r", ".", "-T", "{node}")
    (hg_work / "a.txt").write_text("two\n")
    tool(hg_work, "hg", "commit", "-q", "-m", "two")
    tool(hg_work, "hg", "bookmark", "idea")
    (hg_work / "a.txt").write_text("three\n")
    tool(hg_work, "hg", "commit", "-q", "-m", "three")
    (hg_work / ".hgignore").write_text("syntax: glob\n*.log\n.env\n")
    for name in ("x.log", ".env", "new\n\xe9"):
        (hg_work / name).write_text("x")
    (hg_work / "a.txt").unlink()
    found = look(hg_work, "*.log")
    assert (sum(found.unpushed.values()), found.modified, found.untracked) == (2, 1, 3)
    assert hg_work / ".env" in found.local and hg_work / ".hg" / "dirstate" in found.local
    assert found.branch == "default" and found.remotes == ("default",)


@pytest.mark.needs("hg")
def test_hg_shelves_local_tags_patches_and_merges(hg_work: Path) -> None:
    tool(hg_work, "hg", "tag", "--local", "mine")
    (hg_work / "a.txt").write_text("two\n")
    tool(hg_work, "hg", "--config", "extensions.shelve=", "shelve")
    (hg_work / "a.txt").write_text("ours\n")
    tool(hg_work, "hg", "commit", "-q", "-m", "ours")
    tool(hg_work, "hg", "update", "-q", "0")
    (hg_work / "a.txt").write_text("theirs\n")
    tool(hg_work, "hg", "commit", "-q", "-m", "theirs")
    subprocess.run(["hg", "merge", "-q", "--tool", ":fail"], cwd=hg_work, capture_output=True)
    found = look(hg_work)
    assert (found.stashes, found.tags, found.operation, found.conflicts) == (1, ("mine",), "merge", 1)


@pytest.mark.needs("hg")
def test_hg_without_a_path_or_with_one_that_is_gone_has_everything_only_here(hg_work: Path) -> None:
    shutil.rmtree(hg_work.parent / "theirs")
    found = look(hg_work)
    assert found.trouble == f"default is gone: {hg_work.parent / 'theirs'}" and sum(found.unpushed.values()) == 1
    (hg_work / ".hg" / "hgrc").unlink()
    assert look(hg_work).remotes == () and sum(look(hg_work).unpushed.values()) == 1


def test_what_hg_may_not_write_is_named() -> None:
    """hg 7 takes a refused lock for a defect of its own where no file is named."""
    with pytest.raises(OSError, match=os.strerror(errno.EROFS)) as refused:
        hg_readonly._refuse(None, b"whose", b"wlock", again=True)
    assert refused.value.filename == b"wlock"
    with pytest.raises(OSError, match=os.strerror(errno.EROFS)) as refused:
        hg_readonly._refuse()
    assert refused.value.filename == b""


@pytest.mark.needs("hg")
def test_nothing_that_an_hg_repository_names_is_run_and_nothing_is_written(hg_work: Path) -> None:
    ran = hg_work.parent / "ran"
    (hg_work.parent / "evil.py").write_text(f"open({str(ran)!r}, 'w')\n")
    lines = ["[extensions]", f"evil = {hg_work.parent / 'evil.py'}", "[hooks]"]
    lines += [f"pre-{name} = touch {ran}" for name in ("status", "log", "serve", "resolve")]
    lines += ["[alias]", *(f"{name} = !touch {ran}" for name in ("status", "log", "serve", "resolve"))]
    for name in ("hgrc", "hgrc-not-shared"):
        (hg_work / ".hg" / name).write_text("\n".join([*lines, "[paths]", "default = ../theirs", ""]))
    (hg_work / "a.txt").write_text("two\n")
    assert hg_readonly.uisetup
    shutil.rmtree(hg_work / ".hg" / "wcache")
    shutil.rmtree(hg_work / ".hg" / "cache")
    before = everything(hg_work)
    found = look(hg_work)
    assert (found.modified, found.trouble) == (1, "") and not ran.exists()
    assert everything(hg_work) == before, "see hg_readonly"


@pytest.mark.needs("hg")
def test_hg_checkouts_inside_and_damaged_ones(hg_work: Path) -> None:
    tool(hg_work, "hg", "init", "inner")
    assert look(hg_work).nested == (Checkout(hg_work / "inner", "hg"),)
    (hg_work / ".hg" / "requires").write_text("no-such-thing\n")
    assert look(hg_work).trouble.startswith("hg cannot read it: repository requires features unknown")


@pytest.mark.needs("hg")
def test_one_command_server_answers_and_is_started_again_when_it_is_gone(hg_work: Path) -> None:
    server = hg.Server()
    try:
        assert server.ask(hg_work, "root").strip() == os.fsencode(hg_work)
        running: process.Program | None = server._process
        assert running
        assert server.ask(hg_work, "root") and server._process is running
        process.end(running)
        running.wait()
        assert server.ask(hg_work, "root").strip() == os.fsencode(hg_work)
        with pytest.raises(ToolFailed, match="no-such-command failed with code 255"):
            server.ask(hg_work, "no-such-command")
        with pytest.raises(ToolTimeout, match="no answer after"):
            # A pipe that nobody writes into.
            os.mkfifo(hg_work / ".hg" / "bookmarks")
            server.ask(hg_work, "log", "-T", "{bookmarks}", timeout=0.5)
        assert server.ask(hg_work, "root").strip() == os.fsencode(hg_work)
        with pytest.MonkeyPatch.context() as patched, pytest.raises(ToolFailed, match="-1"):
            patched.setattr(server, "_exchange", lambda *_: struct.unpack(">I", b""))
            server.ask(hg_work, "root")
    finally:
        server.close()
    assert running.returncode is not None


@pytest.mark.needs("svn")
def test_svn_counts_changes_and_what_is_not_under_it(svn_work: Path) -> None:
    found = look(svn_work)
    assert found.safe and found.base == "1" and found.remotes == (f"file://{svn_work.parent}/theirs",)
    (svn_work / "trunk" / "a.txt").write_text("two\n")
    (svn_work / "trunk" / "b.txt").unlink()
    tool(svn_work, "svn", "propset", "-q", "svn:ignore", "*.log\n.env", "trunk")
    for name in ("x.log", ".env", "new"):
        (svn_work / "trunk" / name).write_text("x")
    (svn_work / "folder" / "deep").mkdir(parents=True)
    (svn_work / "folder" / "deep" / "x").write_text("x")
    tool(svn_work, "hg", "init", "inner") if shutil.which("hg") else None
    before = everything(svn_work)
    found = look(svn_work, "*.log")
    assert everything(svn_work) == before
    assert (found.modified, found.untracked, found.safe) == (3, 3, False)
    assert svn_work / "folder" / "deep" / "x" in found.local
    assert [checkout.path for checkout in found.nested] == ([svn_work / "inner"] if shutil.which("hg") else [])


@pytest.mark.needs("svn")
def test_svn_conflicts_and_a_repository_that_is_gone(svn_work: Path) -> None:
    tool(svn_work.parent, "svn", "checkout", "-q", f"file://{svn_work.parent}/theirs", "other")
    (svn_work.parent / "other" / "trunk" / "a.txt").write_text("theirs\n")
    tool(svn_work.parent / "other", "svn", "commit", "-q", "-m", "theirs")
    (svn_work / "trunk" / "a.txt").write_text("ours\n")
    tool(svn_work, "svn", "update", "-q", "--accept", "postpone")
    assert look(svn_work).conflicts == 1
    shutil.rmtree(svn_work.parent / "theirs")
    assert look(svn_work).trouble == f"its repository is gone: file://{svn_work.parent}/theirs"
    (svn_work / ".svn" / "wc.db").write_bytes(b"nonsense")
    assert look(svn_work).trouble.startswith("svn cannot read it: E")


def test_a_tool_that_is_not_installed_is_said_and_the_rest_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    for vcs in ("hg", "svn", "git"):
        (tmp_path / vcs / f".{vcs}").mkdir(parents=True)
        if vcs == "hg":
            with pytest.raises(ToolMissing, match="hg: not found; install it"):
                hg.Server().ask(tmp_path / vcs, "root")
            asking = Asking(datetime.now(UTC), timedelta(days=7), tmp_path / "cache", Disk())
            found = hg_state.state(Checkout(tmp_path / vcs, vcs), Finder(tmp_path, Patterns()), asking, hg.Server())
        else:
            found = look(tmp_path / vcs)
        assert found.trouble.startswith(f"{vcs}: not found; install it") and not found.safe


def test_an_answer_of_svn_that_is_no_xml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake(tmp_path / "bin", "svn", "echo hello")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    with pytest.raises(ToolFailed, match="its answer is no XML"):
        svn.ask(tmp_path, "info")
    (tmp_path / ".svn").mkdir()
    assert "its answer is no XML" in look(tmp_path).trouble


def fake(folder: Path, name: str, script: str) -> None:
    """A client program that does what a script says and nothing else."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


P4 = """
[ "$1" = "-ztag" ] || exit 9
case "$2" in
info) echo "... userName mariana"; echo "... clientName acme-ws"; echo "... clientStream //acme/main";;
changes) [ "$*" = "-ztag changes -m1 ./...#have" ] || exit 9; echo "... change 4711";;
*) exit 9;;
esac
"""
CM = """
[ "$*" = "status --header --machinereadable" ] || exit 9
echo "STATUS 42 game localhost:8087"
"""


def test_clients_streams_and_revisions_are_recorded_when_the_program_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake(tmp_path / "bin", "p4", P4)
    fake(tmp_path / "bin", "cm", CM)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    (tmp_path / "p4").mkdir()
    (tmp_path / "p4" / ".p4config").write_text("P4CLIENT=acme-ws\n")
    perforce = Checkout(tmp_path / "p4", "perforce")
    assert others.described(perforce) == {"client": "acme-ws", "stream": "//acme/main", "revision": "4711"}
    (tmp_path / "cm" / ".plastic").mkdir(parents=True)
    (tmp_path / "cm" / ".plastic" / "plastic.workspace").write_text("acme\r\n0f3b\r\n")
    plastic = Checkout(tmp_path / "cm", "plastic")
    assert others.described(plastic) == {"client": "acme", "revision": "42", "stream": "game@localhost:8087"}
    found = look(tmp_path / "cm")
    assert (found.base, found.trouble) == ("42", "Plastic SCM is not asked what its server has")
    fake(tmp_path / "bin", "p4", f"touch {tmp_path / 'ran'}")
    (tmp_path / "p4" / ".p4config").write_text("P4CLIENT=x\n p4port = rsh:evil\n")
    assert others.described(perforce) == {} and not (tmp_path / "ran").exists()
    assert others.described(Checkout(tmp_path / "none", "plastic")) == {}


@pytest.mark.needs("fossil")
def test_fossil_is_recognised_described_and_saved_whole(
    tmp_path: Path, vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of it is written; what comes back is a workspace in which fossil sees the same changes."""
    monkeypatch.setenv("USER", "me")
    tool(tmp_path, "fossil", "init", "r.fossil")
    work = tmp_path / "work"
    work.mkdir()
    tool(work, "fossil", "open", "../r.fossil")
    for name in ("a.txt", "b.txt"):
        (work / name).write_text("one\n")
    tool(work, "fossil", "add", "a.txt", "b.txt")
    tool(work, "fossil", "commit", "-m", "all", "--branch", "feature", "--no-warnings")
    (work / "a.txt").write_text("one\ntwo\n")
    (work / "new.txt").write_text("not added\n")
    (work / "b.txt").unlink()
    tool(work, "fossil", "changes")
    repository = tmp_path / "r.fossil"
    before = everything(work), repository.read_bytes(), repository.stat().st_mtime_ns

    checkout = checkout_at(work)
    assert checkout and checkout.vcs == "fossil"
    said = others.described(checkout)
    report = vault.create_snapshot(work)
    (verdict,) = vault.vcs_status()
    assert (everything(work), repository.read_bytes(), repository.stat().st_mtime_ns) == before
    tree, _ = vault.history.trees(report.snapshot, lambda _: None)
    (recorded,) = lean.attached(vault.history, tree)
    assert (recorded.record.vcs, recorded.record.client, recorded.record.revision, recorded.record.branch) == (
        *("fossil", said["client"], said["revision"], said["stream"]),
    )
    assert said["client"] == str(tmp_path / "r.fossil") and said["stream"] == "feature" and len(said["revision"]) >= 40
    assert not verdict.safe and "Fossil is not asked what its server has" in verdict.reason
    changes = tool(work, "fossil", "changes", "--differ")
    again = tmp_path / "again"
    vault.restore_snapshot(report.snapshot, again)
    assert {file.name: file.read_bytes() for file in again.iterdir()} == {
        file.name: file.read_bytes() for file in work.iterdir()
    }
    assert tool(again, "fossil", "changes", "--differ") == changes
    assert changes.split() == ["EDITED", "a.txt", "MISSING", "b.txt", "EXTRA", "new.txt"]


@pytest.mark.parametrize("marker", sorted(MARKERS))
def test_markers(tmp_path: Path, marker: str) -> None:
    (tmp_path / "a" / marker).mkdir(parents=True)
    assert checkout_at(tmp_path / "a") == Checkout(tmp_path / "a", MARKERS[marker])
    assert checkout_at(tmp_path) is None and checkout_at(tmp_path / "none") is None


def test_a_project_of_several_checkouts_is_looked_through_once_each_and_pruned(tmp_path: Path) -> None:
    for name in ("one/.git", "two/.hg", "node_modules/x/.git", "deep/er/.svn", "one/inner/.git"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "loose.txt").write_text("x")
    (tmp_path / "bare.git" / "objects").mkdir(parents=True)
    (tmp_path / "bare.git" / "refs").mkdir()
    (tmp_path / "bare.git" / "HEAD").write_text("ref: x\n")
    finder = Finder(tmp_path, Patterns(["node_modules"]))
    found = list(finder.look())
    checkouts = {str(c.path.relative_to(tmp_path)): c.vcs for c in found if isinstance(c, Checkout)}
    assert checkouts == {"one": "git", "two": "hg", "deep/er": "svn", "bare.git": "git"}
    assert [path for path in found if not isinstance(path, Checkout)] == [b"loose.txt"]
    assert finder.omits(b"node_modules/x/y", False) and not finder.omits(b"one/y", False)
    assert list(finder.inside(Checkout(tmp_path / "one", "git"))) == [Checkout(tmp_path / "one" / "inner", "git")]
    assert finder.inner(tmp_path) == b"" and finder.inner(tmp_path / "one") == b"one/"
