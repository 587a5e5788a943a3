"""One writer at a time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from gitvault.core.utils.lock import VaultLock
from gitvault.errors import LockedError


def test_the_second_waits_in_vain_and_is_told_who_holds_it(tmp_path: Path) -> None:
    said: list[str] = []
    slept: list[float] = []
    with VaultLock(tmp_path / "lock", "snapshot of acme", 0, host="desk"):
        second = VaultLock(tmp_path / "lock", "maintain", 0.5, waiting=said.append, sleep=slept.append)
        holder = rf"process {os.getpid()} on desk \(snapshot of acme, since \d{{4}}-.*Z\)"
        with pytest.raises(LockedError, match=rf"^{tmp_path}: locked by {holder}; wait for it to end"), second:
            pass
    assert len(said) == 1 and said[0].startswith(f"waiting for process {os.getpid()}")
    assert 0.4 < sum(slept) < 0.7
    with VaultLock(tmp_path / "lock", "x", 0), VaultLock(tmp_path / "other", "y", 0):
        pass


def test_without_waiting_nothing_is_said_but_the_error(tmp_path: Path) -> None:
    said: list[str] = []
    with (
        VaultLock(tmp_path / "lock", "x", 0),
        pytest.raises(LockedError),
        VaultLock(tmp_path / "lock", "y", 0, waiting=said.append),
    ):
        pass
    assert said == []


def test_the_second_gets_it_when_the_first_ends(tmp_path: Path) -> None:
    first = VaultLock(tmp_path / "lock", "x", 0)
    first.__enter__()
    with VaultLock(tmp_path / "lock", "y", 5, sleep=lambda _: first.__exit__(None, None, None)):
        pass


def test_a_holder_that_was_killed_holds_nothing(tmp_path: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path; from gitvault.core.utils.lock import VaultLock\n"
        "with VaultLock(Path(sys.argv[1]), 'x', 0):\n    print('held', flush=True); time.sleep(60)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", program, tmp_path / "lock"], stdout=subprocess.PIPE)
    assert child.stdout and child.stdout.readline() == b"held\n"
    with pytest.raises(LockedError), VaultLock(tmp_path / "lock", "y", 0):
        pass
    child.send_signal(signal.SIGTERM)
    child.communicate()
    with VaultLock(tmp_path / "lock", "y", 0):
        pass


@pytest.mark.parametrize("text", [b"", b"nonsense", b"[]", b'{"pid": 1}', b"\xff"])
def test_a_holder_that_cannot_be_named(text: bytes, tmp_path: Path) -> None:
    with VaultLock(tmp_path / "lock", "x", 0):
        (tmp_path / "lock.lease").write_bytes(text)
        with pytest.raises(LockedError, match="locked by another process"), VaultLock(tmp_path / "lock", "y", 0):
            pass
