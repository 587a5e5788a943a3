"""Restoring with worker processes: the same result as alone, and every way in which they can end."""

from __future__ import annotations

import errno
import io
import os
import pickle
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from damage import lose
from trees import contents, differences, write

from gitvault.core.backup_engine import restore, writer
from gitvault.core.backup_engine.writer import FolderWriter, Selection, Task, Workers, Written
from gitvault.core.models import Problem
from gitvault.core.utils.target import TargetFolder
from gitvault.errors import GitVaultError
from gitvault.vault import Vault

EVERYTHING = Selection((), ())


@pytest.fixture
def project(tmp_path: Path, vault: Vault) -> Path:
    """A folder of many folders, with all that one writer leaves to another, and its snapshot."""
    names = [f"{a}/{b}/{c}.txt" for a in range(6) for b in "abcdef" for c in "xyz"]
    files: dict[str | bytes, bytes | str] = {name: name.encode() for name in names}
    files |= {"5/large.bin": bytes(range(256)) * 400, "3/c/link": "../../0/a/x.txt"}
    root = write(tmp_path / "acme", files)
    os.link(root / "0/a/x.txt", root / "5/f/other name")
    os.link(root / "5/large.bin", root / "1/large.bin")
    (root / "2/empty").mkdir()
    os.utime(root / "4/d", ns=(10**18, 10**18))
    (root / "4/d").chmod(0o500)
    vault.create_snapshot(root)
    return root


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Workers from the first file on; the folders that they were given."""
    paths: list[bytes] = []
    real = writer._Worker.submit

    def submit(self: writer._Worker, tasks: list[Task]) -> None:
        paths.extend(task.path for task in tasks)
        real(self, tasks)

    monkeypatch.setattr(restore, "_WORKERS_FROM", 0)
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    monkeypatch.setattr(writer._Worker, "submit", submit)
    return paths


def test_workers_and_this_process_restore_the_same(
    project: Path, vault: Vault, tmp_path: Path, given: list[bytes]
) -> None:
    done = vault.restore_snapshot("acme", tmp_path / "back")
    assert given, "workers wrote some of it"
    assert done.problems == ()
    assert not differences(project, tmp_path / "back")
    assert os.path.samefile(tmp_path / "back/0/a/x.txt", tmp_path / "back/5/f/other name")
    size = sum(len(data) for data in contents(project).values())
    linked = (project / "0/a/x.txt").stat().st_size + (project / "1/large.bin").stat().st_size
    assert (done.files, done.bytes) == (6 * 6 * 3 + 4, size - linked)


def test_what_is_selected_and_what_is_in_the_way_hold_for_workers_too(
    project: Path, vault: Vault, tmp_path: Path, given: list[bytes]
) -> None:
    back = tmp_path / "back"
    vault.restore_snapshot("acme", back, paths=["1", "2", "3"], excluded_paths=["2/b"])
    expected = {p for p in contents(project) if p[:1] in b"123" and not p.startswith(b"2/b/")}
    assert contents(back).keys() == expected
    (back / "1/a/x.txt").write_bytes(b"today's")
    (back / "1/b/mine").write_bytes(b"my own")
    vault.restore_snapshot("acme", back, overwrite=True)
    assert contents(back) == contents(project) | {b"1/b/mine": b"my own"}
    assert given


def test_a_worker_names_what_it_could_not_restore(
    project: Path, vault: Vault, tmp_path: Path, given: list[bytes]
) -> None:
    entry = {e.path: e for e in vault.entries("acme", recursive=True)}
    lost = [b"0/f/z.txt", b"2/c/y.txt", b"5/e/x.txt"]
    lose(vault, *(entry[path].blob for path in lost), entry[b"3/d"].blob)
    done = vault.restore_snapshot("acme", tmp_path / "back")
    assert [p.path for p in done.problems] == sorted([*lost, b"3/d"])
    missing = {*lost, b"3/d/x.txt", b"3/d/y.txt", b"3/d/z.txt"}
    assert contents(tmp_path / "back").keys() == contents(project).keys() - missing
    assert given


def test_a_killed_worker_is_a_clear_error(
    project: Path, vault: Vault, tmp_path: Path, given: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Workers.give

    def give(self: Workers, pending: list[Task], *, everything: bool = False) -> None:
        for worker in self._workers:
            worker._process.kill()
        real(self, pending, everything=everything)

    monkeypatch.setattr(Workers, "give", give)
    expected = "a worker process ended unexpectedly; not all is restored, run again with --overwrite"
    with pytest.raises(GitVaultError, match=expected):
        vault.restore_snapshot("acme", tmp_path / "back")
    monkeypatch.undo()
    vault.restore_snapshot("acme", tmp_path / "back", overwrite=True)
    assert contents(tmp_path / "back") == contents(project)


def test_one_core_needs_no_workers(
    project: Path, vault: Vault, tmp_path: Path, given: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    vault.restore_snapshot("acme", tmp_path / "back")
    assert not given
    assert contents(tmp_path / "back") == contents(project)


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
@pytest.mark.no_cover  # whose tracer, interrupted, waits for itself
def test_an_interrupted_restore_leaves_whole_files_and_no_process(project: Path, vault: Vault, tmp_path: Path) -> None:
    """Ctrl-C goes to every process of the terminal's group."""
    program = f"""
        import os, time
        from gitvault.core.backup_engine import restore
        from gitvault.core.utils.target import TargetFolder
        from gitvault.vault import Vault

        def slowly(self, name, real=TargetFolder.create):
            print("writing", flush=True)
            time.sleep(1)
            return real(self, name)

        TargetFolder.create = slowly
        restore._WORKERS_FROM = 0
        os.cpu_count = lambda: 3
        Vault.open({os.fspath(vault.path)!r}).restore_snapshot("acme", {os.fspath(tmp_path / "back")!r})
    """
    command = [sys.executable, "-c", textwrap.dedent(program)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True) as process:
        assert process.stdout
        process.stdout.readline()
        deadline = time.monotonic() + 120
        while len(contents(tmp_path / "back")) < 10 and time.monotonic() < deadline:
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=120)
    last = said.decode().splitlines()[-1]
    # That its worker is gone may reach the process before the signal does.
    assert last == "KeyboardInterrupt" or "a worker process ended unexpectedly" in last
    assert said.decode().count("Traceback") == 1, "the workers say nothing"
    saved = contents(project)
    assert all(saved[path] == data for path, data in contents(tmp_path / "back").items())
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)


# -- a worker by itself --------------------------------------------------------------------------


def spoken(vault: Vault, back: Path, *messages: object, identity: tuple[int, int] | None = None) -> list[object]:
    """What a worker answers."""
    found = back.stat()
    settings = (vault.path, os.fspath(back), identity or (found.st_dev, found.st_ino), EVERYTHING, False)
    requests = io.BytesIO(b"".join(map(pickle.dumps, (settings, *messages))))
    replies = io.BytesIO()
    writer.serve(requests, replies)
    replies.seek(0)
    answers = []
    while replies.tell() < len(replies.getvalue()):
        answers.append(pickle.load(replies))
    return answers


def test_a_worker_says_what_it_wrote_and_what_it_left(project: Path, vault: Vault, tmp_path: Path) -> None:
    back = tmp_path / "back"
    back.mkdir()
    root = Task(b"", *vault.history.trees(vault.resolve("acme")), True)
    [first] = spoken(vault, back, [root])
    assert isinstance(first, Written)
    assert [task.path for task in first.below] == [b"0", b"1", b"2", b"3", b"4", b"5"]
    (back / "5/a").mkdir(parents=True)
    (back / "5/a/x.txt").write_text("in the way")
    [_, second, third] = spoken(vault, back, [root], first.below, [Task(b"5/a", *missing(vault), True)])
    assert isinstance(second, Written)
    assert [job.path for job in second.left] == [b"1/large.bin", b"5/large.bin"]
    assert isinstance(third, Written)
    [problem] = third.problems
    assert problem.path == b"5/a"


def missing(vault: Vault) -> tuple[bytes, None]:
    return b"\1" * 20, None


def test_a_worker_whose_parent_is_gone_ends(vault: Vault) -> None:
    replies = io.BytesIO()
    writer.serve(io.BytesIO(), replies)
    assert replies.getvalue() == b""


def test_a_worker_does_not_write_into_another_folder_of_the_name(project: Path, vault: Vault, tmp_path: Path) -> None:
    (tmp_path / "back").mkdir()
    root = Task(b"", *vault.history.trees(vault.resolve("acme")), True)
    [error] = spoken(vault, tmp_path / "back", [root], identity=(1, 2))
    assert isinstance(error, GitVaultError)
    assert str(error) == f"{tmp_path / 'back'}: has become another folder meanwhile; restore again"
    assert contents(tmp_path / "back") == {}


def test_a_worker_on_a_full_disk_says_so(
    project: Path, vault: Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "back/0/a").mkdir(parents=True)
    entry = {e.path: e for e in vault.entries("acme", recursive=True)}
    monkeypatch.setattr(writer, "write_all", full)
    [error] = spoken(vault, tmp_path / "back", [Task(b"0/a", entry[b"0/a"].blob, None, True)])
    assert isinstance(error, OSError)
    assert error.errno == errno.ENOSPC
    assert contents(tmp_path / "back") == {}, "nothing half-written is left"


def test_one_writer_by_itself(project: Path, vault: Vault, tmp_path: Path) -> None:
    (tmp_path / "back").mkdir()
    problems: list[Problem] = []
    entry = {e.path: e for e in vault.entries("acme", recursive=True)}
    with (
        TargetFolder.open(tmp_path / "back") as root,
        FolderWriter(vault.history, root, Selection((b"x.txt",), ()), False, problems) as alone,
    ):
        folder = entry[b"1/c"].blob
        done = alone.write([Task(b"", folder, None, True), Task(b"nowhere", folder, None, True)])
    assert contents(tmp_path / "back") == {b"x.txt": b"1/c/x.txt"}
    assert (done.files, done.size) == (1, 9)
    assert [problem.path for problem in problems] == [b"nowhere"]
