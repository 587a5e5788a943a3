"""Several at once: processes of one machine, machines that share a file system, a project that is never still."""

from __future__ import annotations

import functools
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from trees import contents, write

from gitvault.core.utils import lock
from gitvault.core.utils.lock import VaultLock
from gitvault.errors import LockedError
from gitvault.vault import Vault

ROOT = Path(__file__).parent.parent.parent
Command = Callable[..., subprocess.CompletedProcess[str]]
pytestmark = [pytest.mark.needs("git"), pytest.mark.skipif(sys.platform == "win32", reason="signals")]

# Another machine: the kernel there knows nothing of the locks here.
_ELSEWHERE = """
import functools, os, sys, time
from pathlib import Path
from gitvault.core.utils import lock
from gitvault.core.utils.files import Disk
from gitvault.errors import GitVaultError
from gitvault.vault import Vault

machine, vault, project, stop = sys.argv[1:]
lock._try_lock = lambda fd: True
lock.VaultLock = functools.partial(lock.VaultLock, machine=machine, beat=0.1, stale=1)

class Stops(Disk):
    def _pass(self, what, path):
        if stop and stop in f"{what} {path}":
            print("there", flush=True)
            time.sleep(1.5)

    def create(self, path, mode=0o600):
        self._pass("create", path)
        return super().create(path, mode)

    def rename(self, source, target):
        self._pass("rename", target)
        super().rename(source, target)

try:
    with Vault.open(vault, disk=Stops()) as opened:
        print(opened.create_snapshot(project).snapshot)
except GitVaultError as error:
    print(error)
    sys.exit(error.exit_code)
"""


def elsewhere(machine: str, vault: Vault, project: Path, stop: str = "") -> subprocess.Popen[str]:
    """A snapshot by another machine; at the operation `stop` it says so and stands still for a while."""
    return subprocess.Popen(
        [sys.executable, "-c", _ELSEWHERE, machine, vault.path, project, stop],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


@pytest.fixture
def share(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process is another machine too."""
    monkeypatch.setattr(lock, "_try_lock", lambda fd: True)
    elsewhere = functools.partial(VaultLock, machine="here", beat=0.1, stale=1)
    monkeypatch.setattr(lock, "VaultLock", elsewhere)


def sound(vault: Vault) -> None:
    assert vault.verify(data=True).ok
    subprocess.run(["git", "--git-dir", vault.path, "fsck", "--strict"], check=True, capture_output=True)
    left = [path.name for path in (*vault.path.glob("vault.*"), *vault.path.glob("refs/**/*.lock"))]
    assert left == ["vault.lock"]


@pytest.mark.parametrize(
    "stop",
    [
        pytest.param("create tmp", marks=pytest.mark.deep),
        pytest.param("rename objects/pack", marks=pytest.mark.deep),
        "create refs/vault/meta",
        "rename refs/heads",
    ],
)
@pytest.mark.usefixtures("share")
def test_a_suspended_machine_publishes_nothing_when_another_took_over(stop: str, vault: Vault, tmp_path: Path) -> None:
    """Wherever it stood still: before its packs, after them, or between its last look at the lease and the ref."""
    words = stop.split(" ")
    theirs = write(tmp_path / "theirs", {"a": b"theirs", "big": random.Random(1).randbytes(300_000) + bytes(9)})
    ours = write(tmp_path / "ours", {"a": b"ours"})
    vault.create_snapshot(write(tmp_path / "old", {"a": b"old"}))
    vault.add_project(theirs)
    child = elsewhere("laptop", vault, theirs, f"{words[0]} {vault.path / words[1]}")
    assert child.stdout is not None
    assert child.stdout.readline() == "there\n"
    child.send_signal(signal.SIGSTOP)
    vault.create_snapshot(ours)
    before = vault.history.refs.list()
    child.send_signal(signal.SIGCONT)
    said, _ = child.communicate(timeout=120)
    assert child.returncode == LockedError.exit_code, said
    assert "while this run stood still" in said
    assert "run it again" in said
    assert vault.history.refs.list() == before
    assert "refs/heads/theirs" not in before
    sound(vault)
    again = elsewhere("laptop", vault, theirs)
    said, _ = again.communicate(timeout=120)
    assert again.returncode == 0, said
    vault.restore_snapshot("theirs", tmp_path / "back")
    assert contents(tmp_path / "back") == contents(theirs)
    sound(vault)


@pytest.mark.usefixtures("share")
def test_a_machine_that_works_is_waited_for(vault: Vault, tmp_path: Path) -> None:
    """It writes for longer than a lease stays fresh; its counter says that it lives."""
    theirs = write(tmp_path / "theirs", {"a": b"theirs"})
    vault.add_project(theirs)
    child = elsewhere("desk", vault, theirs, f"rename {vault.path / 'refs/heads'}")
    assert child.stdout is not None
    assert child.stdout.readline() == "there\n"
    vault.create_snapshot(write(tmp_path / "ours", {"a": b"ours"}))
    said, _ = child.communicate(timeout=120)
    assert child.returncode == 0, said
    assert {"refs/heads/theirs", "refs/heads/ours"} <= vault.history.refs.list().keys()
    sound(vault)


@pytest.mark.parametrize("shared", [False, True], ids=["one machine", "many machines"])
def test_whoever_comes_gets_a_turn(shared: bool, vault: Vault, command: Command, tmp_path: Path) -> None:
    """Each saves a project of its own, and all save the same one as well."""
    folders = [write(tmp_path / f"p{n}", {"f": b"%d" % n, "same": b"same" * 5000}) for n in range(3)]
    failed: list[str] = []

    def work(number: int) -> None:
        for folder in {folders[number], folders[0]}:
            if shared:
                child = elsewhere(f"m{number}", vault, folder)
                said = child.communicate(timeout=120)[0]
                code = child.returncode
            else:
                done = command("snapshot", folder)
                code, said = done.returncode, done.stderr
            if code:
                failed.append(said)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(folders))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert len(vault.history.refs.list("refs/heads/")) == len(folders) == len(vault.projects())
    for folder in folders:
        vault.restore_snapshot(folder.name, tmp_path / "back" / folder.name)
        assert contents(tmp_path / "back" / folder.name) == contents(folder)
    sound(vault)


@pytest.mark.parametrize("stop", ["create tmp", "rename refs/heads"])
def test_after_a_kill_the_next_one_is_in_at_once(stop: str, vault: Vault, tmp_path: Path) -> None:
    """Also when the kill left a ref's own lock."""
    words = stop.split(" ")
    project = write(tmp_path / "acme", {"a": b"text"})
    vault.add_project(project)
    machine = lock.this_machine(vault.path)
    child = elsewhere(machine, vault, project, f"{words[0]} {vault.path / words[1]}")
    assert child.stdout is not None
    assert child.stdout.readline() == "there\n"
    child.kill()
    child.communicate()
    assert (vault.path / "vault.lease").exists()
    vault.create_snapshot(project)
    vault.restore_snapshot("acme", tmp_path / "back")
    assert contents(tmp_path / "back") == {b"a": b"text"}
    sound(vault)


def test_readers_wait_for_nobody(vault: Vault, command: Command, tmp_path: Path) -> None:
    vault.create_snapshot(write(tmp_path / "acme", {"a": b"text"}))
    with VaultLock(vault.path / "vault.lock", "prune", 0, host="desk"):
        for words in (["ls", "acme"], ["verify"], ["status"]):
            assert command(*words).returncode == 0
        assert "process" in command("doctor").stdout
        assert command("restore", "acme", "--to", tmp_path / "back").returncode == 0
        for words in (["log", "acme"], ["fsck"], ["clone", "-q", "-b", "acme", str(vault.path), str(tmp_path / "c")]):
            subprocess.run(["git", "--git-dir", vault.path, *words], check=True, capture_output=True)
    assert contents(tmp_path / "back") == {b"a": b"text"}


def test_a_project_that_is_never_still_is_saved_every_time(vault: Vault, command: Command, tmp_path: Path) -> None:
    """A build that makes, renames and deletes thousands of files and folders meanwhile."""
    project = write(tmp_path / "acme", {f"src/{n}.c": b"int x%d;" % n for n in range(100)})
    churn = subprocess.Popen([sys.executable, "-c", _BUILD, project], stdout=subprocess.PIPE, text=True)
    assert churn.stdout is not None
    assert churn.stdout.readline() == "started\n"
    try:
        for number in range(2):
            done = command("snapshot", project)
            assert done.returncode in (0, 3), done.stderr
            if number == 1:
                assert command("restore", "acme", "--to", tmp_path / f"back{number}").returncode == 0
                saved = contents(tmp_path / f"back{number}")
                assert all(saved[b"src/%d.c" % n] == b"int x%d;" % n for n in range(100))
    finally:
        churn.terminate()
        made = len(churn.communicate()[0].splitlines())
    assert made > 5, "rounds of thirty files each"
    # Still at last: the next snapshot is exact.
    time.sleep(0.2)
    done = command("snapshot", project)
    assert done.returncode == 0, done.stderr
    vault.restore_snapshot("acme", tmp_path / "last")
    assert contents(tmp_path / "last") == contents(project)
    sound(vault)


_BUILD = """
import os, shutil, sys
root = sys.argv[1] + "/build"
print("started", flush=True)
number = 0
while True:
    number += 1
    print(number, flush=True)
    folder = f"{root}/{number % 3}"
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder + "/deep/er")
    for n in range(30):
        path = f"{folder}/{n}.tmp" if n % 2 else f"{folder}/deep/er/{n}.tmp"
        with open(path, "wb") as file:
            file.write(b"%d" % number * (n * 40))
        os.rename(path, path[:-4] + ".o")
        if n % 5 == 0:
            with open(f"{root}/big", "wb") as file:
                file.write(bytes(n * 2000) + os.urandom(n * 100))
        if n % 7 == 0:
            os.unlink(path[:-4] + ".o")
            os.mkdir(path[:-4] + ".o")
    os.rename(folder, folder + "x")
    os.rename(folder + "x", folder)
"""
