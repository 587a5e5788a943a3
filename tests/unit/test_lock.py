"""One writer at a time, on this machine and on all that share the file system."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gitvault.core.utils import lock
from gitvault.core.utils.files import Disk, NewFile
from gitvault.core.utils.lock import BEAT_SECONDS, STALE_SECONDS, VaultLock, this_machine, this_system
from gitvault.core.utils.process import in_child
from gitvault.errors import GitVaultError, LockedError, StorageFullError


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


# -- machines that share the file system: the kernel's locks keep nobody of another machine out ------------------


@pytest.fixture
def share(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel's lock is always free: its holder is on another machine."""
    monkeypatch.setattr(lock, "_try_lock", lambda fd: True)


class Looks:
    """Time that passes while somebody waits; every `beat` seconds the holder counts on, if it lives."""

    def __init__(self, lease: Path, beat: float = 0) -> None:
        self.total = 0.0
        self.beat = beat
        self._lease = lease
        self._last = 0.0
        self._count = 0

    def __call__(self, seconds: float) -> None:
        self.total += seconds
        if self.beat and self.total >= self._last + self.beat:
            self._last = self.total
            self._count += 1
            head = self._lease.read_bytes().partition(b"\n")[0]
            self._lease.write_bytes(head + b"\n%020d\n" % self._count)


def left_by(machine: str, path: Path, system: str = "") -> Path:
    """The lease of a holder on `machine` that was killed."""
    holder = VaultLock(path, "snapshot of acme", 0, host="attic", machine=machine, system=system, beat=1000)
    with holder:
        content = path.with_suffix(".lease").read_bytes()
    path.with_suffix(".lease").write_bytes(content)
    return path.with_suffix(".lease")


def test_a_lease_says_who_has_it_and_is_gone_afterwards(tmp_path: Path) -> None:
    path = tmp_path / "vault.lock"
    assert VaultLock.holder(path) is None
    with VaultLock(path, "prune", 0, host="desk", machine="M") as held:
        text, counter, end = (tmp_path / "vault.lease").read_bytes().split(b"\n")
        assert json.loads(text).keys() == {"token", "machine", "system", "host", "pid", "purpose", "since"}
        assert (counter, end) == (b"0" * 20, b"")
        assert str(VaultLock.holder(path)).startswith(f"process {os.getpid()} on desk (prune, since ")
        held.assert_held()
    assert [path.name for path in tmp_path.iterdir()] == ["vault.lock"]


def test_a_dead_holder_of_this_machine_is_seen_at_once(tmp_path: Path) -> None:
    lease = left_by("M", tmp_path / "lock")
    looks = Looks(lease)
    shut_out: list[bool] = []
    fence = lambda: shut_out.append(lease.exists())  # noqa: E731
    for _ in range(2):
        with VaultLock(tmp_path / "lock", "x", 0, machine="M", sleep=looks, fence=fence) as held:
            held.assert_held()
    assert shut_out == [True], "once, with the lease"
    assert looks.total == 0
    assert not lease.exists()


@pytest.mark.parametrize(
    ("run", "system", "at_once"),
    [("boot-2 fd01", "S", True), ("boot-1 fd02", "S", False), ("boot-2 fd01", "T", False), ("boot-2 fd01", "", False)],
)
def test_what_a_power_cut_left_is_seen_at_once(run: str, system: str, at_once: bool, tmp_path: Path) -> None:
    """Of the same computer, which was started anew since; and of no other, nor through another mount."""
    lease = left_by("boot-1 fd01", tmp_path / "lock", system="S")
    looks = Looks(lease)
    with VaultLock(tmp_path / "lock", "x", 0, machine=run, system=system, sleep=looks) as held:
        held.assert_held()
    assert looks.total == 0 if at_once else looks.total > 59


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere it may be unknown")
def test_a_computer_is_known_again_and_not_by_what_is_to_stay_private(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "_installation", lambda: "0123456789abcdef")
    assert this_system() == this_system() and "0123" not in this_system()
    before = this_system()
    monkeypatch.setattr(lock.platform, "node", lambda: "another name")
    assert this_system() != before
    monkeypatch.setattr(lock, "_installation", lambda: "")
    assert this_system() == ""


@pytest.mark.parametrize("machine", ["M", ""])
@pytest.mark.usefixtures("share")
def test_a_counter_that_stands_still_is_stale_after_a_minute_of_looks(machine: str, tmp_path: Path) -> None:
    """Whatever the timeout is, or nobody with a short one would ever get in; and no clock has a say."""
    for other in ("N", ""):
        lease = left_by(other, tmp_path / "lock")
        os.utime(lease, (4e9, 4e9))
        looks = Looks(lease)
        with VaultLock(tmp_path / "lock", "x", 0, machine=machine, sleep=looks):
            assert [path.name for path in tmp_path.glob("lock.*")] == ["lock.lease"]
        assert 59.5 < looks.total < 60.5


@pytest.mark.usefixtures("share")
def test_an_owner_whose_counter_goes_on_is_never_taken_for_dead(tmp_path: Path) -> None:
    lease = left_by("N", tmp_path / "lock")
    for timeout, least, most in ((600, 599, 601), (0, 58, 61)):
        # As slow as can be, on a share that hands writes on late.
        looks = Looks(lease, beat=59)
        with (
            pytest.raises(LockedError, match=r"locked by process \d+ on attic \(snapshot of acme"),
            VaultLock(tmp_path / "lock", "x", timeout, machine="M", sleep=looks),
        ):
            pass
        assert least < looks.total < most
        assert lease.exists()


@pytest.mark.usefixtures("share")
def test_the_counter_of_a_live_holder_goes_on_also_after_errors(tmp_path: Path) -> None:
    class Flaky(Disk):
        broken = 0

        def replace_tail(self, path: Path, head: bytes, tail: bytes) -> None:
            if self.broken < 3:
                self.broken += 1
                raise OSError(errno.EIO, "Input/output error")
            super().replace_tail(path, head, tail)

    disk = Flaky()
    with VaultLock(tmp_path / "lock", "x", 0, machine="N", disk=disk, beat=0.02) as first:
        second = VaultLock(tmp_path / "lock", "y", 1.5, machine="M", stale=1)
        with pytest.raises(LockedError), second:
            pass
        assert disk.broken == 3
        first.assert_held()
        assert int((tmp_path / "lock.lease").read_bytes().split(b"\n")[1]) > 5


@pytest.mark.usefixtures("share")
def test_a_holder_that_stood_still_for_too_long_is_told(tmp_path: Path) -> None:
    with VaultLock(tmp_path / "lock", "x", 0, host="laptop", machine="M", beat=1000) as suspended:
        with VaultLock(tmp_path / "lock", "y", 0, host="desk", machine="N", sleep=Looks(tmp_path)) as second:
            second.assert_held()
            with pytest.raises(LockedError, match=r"taken over by process \d+ on desk \(y, .*run it again"):
                suspended.assert_held()
            # Its counter must not go into the other's lease.
            Disk().replace_tail(tmp_path / "lock.lease", b'{"token": "other', b"9")
            second.assert_held()
        with pytest.raises(LockedError, match="taken over by another process"):
            suspended.assert_held()
    assert not (tmp_path / "lock.lease").exists()


@pytest.mark.parametrize("links", [True, False], ids=["links", "no links"])
@pytest.mark.usefixtures("share")
def test_an_owner_that_goes_on_at_the_last_moment_keeps_its_lease(links: bool, tmp_path: Path) -> None:
    """Its counter moves after the last look, before the lease is taken away."""

    class Late(Disk):
        moved = False

        def rename(self, source: Path, target: Path) -> None:
            if not self.moved:
                self.moved = True
                source.write_bytes(source.read_bytes()[:-2] + b"9\n")
            super().rename(source, target)

        def link(self, source: Path, target: Path) -> None:
            if not links:
                raise OSError(errno.EPERM, "no hard links")
            super().link(source, target)

    lease = left_by("N", tmp_path / "lock")
    looks = Looks(lease)
    with VaultLock(tmp_path / "lock", "x", 200, machine="M", disk=Late(), sleep=looks):
        assert 119 < looks.total < 121
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]


@pytest.mark.usefixtures("share")
def test_of_two_who_find_it_stale_one_gets_it(tmp_path: Path) -> None:
    lease = left_by("N", tmp_path / "lock")
    quick = VaultLock(tmp_path / "lock", "quick", 0, machine="Q", sleep=Looks(lease), beat=1000)

    class Slow(Disk):
        """Between its last look and its rename the other takes the lease."""

        def rename(self, source: Path, target: Path) -> None:
            if not looks.beat:
                quick.__enter__()
                looks.beat = 5
            super().rename(source, target)

    looks = Looks(lease)
    with pytest.raises(LockedError, match=r"\(quick"):
        VaultLock(tmp_path / "lock", "slow", 0, machine="S", disk=Slow(), sleep=looks).__enter__()
    quick.assert_held()
    quick.__exit__()
    assert not lease.exists()


@pytest.mark.usefixtures("share")
def test_a_lease_that_was_taken_away_too_soon_comes_back(tmp_path: Path) -> None:
    """Another one who waited for the same dead owner takes the new lease away just when it is there."""
    lease = left_by("N", tmp_path / "lock")
    aside = tmp_path / "lock.lease.other"

    class Early(Disk):
        def create(self, path: Path, mode: int = 0o600) -> NewFile:
            made = super().create(path, mode)
            made.close = lambda: (NewFile.close(made), os.rename(lease, aside))  # type: ignore[method-assign]
            return made

    back = lambda seconds: os.rename(aside, lease) if aside.exists() else None  # noqa: E731
    with VaultLock(tmp_path / "lock", "x", 0, machine="N", disk=Early(), sleep=back) as held:
        assert not lease.exists()
        held.assert_held()
        assert lease.exists()


@pytest.mark.usefixtures("share")
def test_a_lease_that_cannot_be_put_back_is_lost_and_its_owner_told(tmp_path: Path) -> None:
    third = VaultLock(tmp_path / "lock", "third", 0, machine="T", beat=1000)
    first = VaultLock(tmp_path / "lock", "first", 0, machine="F", beat=1000, sleep=lambda _: None)
    first.__enter__()

    class Unlucky(Disk):
        def rename(self, source: Path, target: Path) -> None:
            source.write_bytes(source.read_bytes()[:-2] + b"9\n")
            super().rename(source, target)
            third.__enter__()

    with pytest.raises(LockedError, match=r"\(third"):
        looks = Looks(tmp_path / "lock.lease", beat=7)
        VaultLock(tmp_path / "lock", "second", 0, machine="S", disk=Unlucky(), sleep=looks, stale=5).__enter__()
    third.assert_held()
    with pytest.raises(LockedError, match=r"\(third"):
        first.assert_held()
    third.__exit__()
    first.__exit__()


@pytest.mark.usefixtures("share")
def test_a_lease_that_its_owner_has_open_is_tried_again(tmp_path: Path) -> None:
    """As on Windows, where nobody can rename what somebody writes."""

    class Windows(Disk):
        refused = 0

        def rename(self, source: Path, target: Path) -> None:
            if self.refused < 2:
                self.refused += 1
                raise PermissionError(errno.EACCES, "in use")
            super().rename(source, target)

    left_by("N", tmp_path / "lock")
    with VaultLock(tmp_path / "lock", "x", 0, machine="M", disk=Windows(), sleep=Looks(tmp_path)) as held:
        held.assert_held()


def test_whoever_comes_next_shuts_out_whom_a_killed_taker_did_not(tmp_path: Path) -> None:
    """The taker was killed, or failed, between taking the old lease away and shutting its owner out."""
    (tmp_path / "lock.lease.0123").write_bytes(b"left")

    def fail() -> None:
        raise OSError(errno.EIO, "Input/output error")

    with pytest.raises(OSError, match="Input/output"), VaultLock(tmp_path / "lock", "x", 0, fence=fail):
        pass
    shut_out: list[str] = []
    for _ in range(2):
        with VaultLock(tmp_path / "lock", "x", 0, fence=lambda: shut_out.append("now")):
            assert {path.name for path in tmp_path.iterdir()} == {"lock", "lock.lease"}
    assert shut_out == ["now"]


@pytest.mark.parametrize("content", [b"", b"nonsense", b"[]\n", b'{"machine": 7}\n', b"\xff", b"[" * 10_000])
@pytest.mark.usefixtures("share")
def test_a_lease_of_nonsense_is_stale_in_time(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "lock.lease").write_bytes(content)
    looks = Looks(tmp_path)
    with VaultLock(tmp_path / "lock", "x", 0, machine="M", sleep=looks):
        assert looks.total > 59


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no FIFOs")
@pytest.mark.usefixtures("share")
def test_nobody_waits_for_the_writer_of_a_fifo(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "lock.lease")
    assert VaultLock.holder(tmp_path / "lock") == "another process"
    with VaultLock(tmp_path / "lock", "x", 0, machine="M", sleep=Looks(tmp_path)) as held:
        held.assert_held()


def test_without_locks_of_the_kernel_the_lease_is_all_there_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The owner may be another process of this machine."""

    def unsupported(fd: int) -> bool:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(lock, "_try_lock", unsupported)
    with VaultLock(tmp_path / "lock", "x", 0, machine="M", beat=1000) as first:
        looks = Looks(tmp_path / "lock.lease", beat=5)
        with pytest.raises(LockedError), VaultLock(tmp_path / "lock", "y", 0, machine="M", sleep=looks):
            pass
        first.assert_held()
    left_by("M", tmp_path / "lock")
    looks = Looks(tmp_path)
    with VaultLock(tmp_path / "lock", "y", 0, machine="M", sleep=looks):
        assert looks.total > 59

    def fails(fd: int) -> bool:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(lock, "_try_lock", fails)
    with pytest.raises(OSError, match="Input/output"), VaultLock(tmp_path / "lock", "y", 0):
        pass


class Full(Disk):
    """Without room for a lease: for its name, or for its content."""

    def __init__(self, names: bool) -> None:
        self.full = True
        self._names = names

    def create(self, path: Path, mode: int = 0o600) -> NewFile:
        if self.full and self._names:
            raise StorageFullError("full")
        made = super().create(path, mode)
        if self.full:
            made.write = refuse  # type: ignore[method-assign]
        return made


def refuse(data: object) -> None:
    raise StorageFullError("full")


@pytest.mark.parametrize("names", [True, False])
def test_a_full_disk_can_be_locked(names: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Full(names)
    with VaultLock(tmp_path / "lock", "prune", 0, disk=disk, machine="M", beat=0.02) as held:
        assert [path.name for path in tmp_path.iterdir()] == ["lock"]
        held.assert_held()
        with pytest.raises(LockedError), VaultLock(tmp_path / "lock", "y", 0):
            pass
        held.assert_held()
        # As soon as there is room, other machines see it too.
        disk.full = False
        end = time.monotonic() + 120
        while not (tmp_path / "lock.lease").exists() and time.monotonic() < end:
            time.sleep(0.01)
        held.assert_held()
        assert (tmp_path / "lock.lease").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]
    monkeypatch.setattr(lock, "_try_lock", lambda fd: True)
    disk.full = True
    with VaultLock(tmp_path / "lock", "prune", 0, disk=disk, machine="M", beat=1000) as held:
        with VaultLock(tmp_path / "lock", "y", 0, machine="N"), pytest.raises(LockedError, match=r"\(y,"):
            held.assert_held()
        held.assert_held()


def test_a_dead_lease_on_a_full_disk_is_not_taken_for_a_live_one(tmp_path: Path) -> None:
    """Where a file system looks for room before it sees that the name is taken."""
    lease = left_by("M", tmp_path / "lock")
    with VaultLock(tmp_path / "lock", "sweep", 0, disk=Full(True), machine="M", beat=1000) as held:
        held.assert_held()
        assert not lease.exists()


def test_a_full_disk_without_locks_of_the_kernel_cannot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(fd: int) -> bool:
        raise OSError(errno.ENOTSUP, "Operation not supported")

    monkeypatch.setattr(lock, "_try_lock", unsupported)
    with pytest.raises(StorageFullError), VaultLock(tmp_path / "lock", "prune", 0, disk=Full(True)):
        pass


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES, errno.ENOTSUP])
def test_where_nothing_can_be_created_that_is_said(code: int, tmp_path: Path) -> None:
    class Refusing(Disk):
        def create(self, path: Path, mode: int = 0o600) -> NewFile:
            raise OSError(code, os.strerror(code))

    with (
        pytest.raises(GitVaultError, match=rf"^{tmp_path}: cannot be written to \({os.strerror(code)}\); mount it"),
        VaultLock(tmp_path / "lock", "x", 0, disk=Refusing()),
    ):
        pass
    # It is free again.
    with VaultLock(tmp_path / "lock", "x", 0):
        pass


def test_errors_that_mean_nothing_special_are_raised_as_they_are(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), VaultLock(tmp_path / "no such folder" / "lock", "x", 0, machine="M"):
        pass

    class Dying(Disk):
        def create(self, path: Path, mode: int = 0o600) -> NewFile:
            made = super().create(path, mode)
            made.write = self._fail  # type: ignore[method-assign]
            return made

        def _fail(self, data: object) -> None:
            raise OSError(errno.EIO, "Input/output error")

    with pytest.raises(OSError, match="Input/output"), VaultLock(tmp_path / "lock", "x", 0, disk=Dying()):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]


def test_long_names_are_cut_and_strange_ones_kept(tmp_path: Path) -> None:
    with VaultLock(tmp_path / "lock", "\U0001f600" * 5000, 0, host="\udcff" * 5000, machine="M") as held:
        held.assert_held()
        assert (tmp_path / "lock.lease").stat().st_size < 4096
        assert VaultLock.holder(tmp_path / "lock")


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_who_was_killed_by_force_blocks_nobody(tmp_path: Path) -> None:
    child = holding(tmp_path / "lock")
    child.kill()
    child.communicate()
    assert (tmp_path / "lock.lease").exists()
    slept: list[float] = []
    with VaultLock(tmp_path / "lock", "y", 0, sleep=slept.append):
        pass
    assert slept == []


def holding(path: Path, then: str = "time.sleep(60)") -> subprocess.Popen[bytes]:
    program = (
        "import sys, time; from pathlib import Path; from gitvault.core.utils.lock import VaultLock\n"
        f"VaultLock(Path(sys.argv[1]), 'x', 0, beat=0.01).__enter__(); print('held', flush=True); {then}\n"
    )
    child = subprocess.Popen([sys.executable, "-c", program, path], stdout=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stdout.readline() == b"held\n"
    return child


def test_the_counting_keeps_no_process_alive(tmp_path: Path) -> None:
    child = holding(tmp_path / "lock", "time.sleep(0.1)")
    assert child.wait(timeout=120) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="processes are copied on Linux only")
def test_the_counting_is_no_obstacle_to_copying_the_process(tmp_path: Path) -> None:
    with VaultLock(tmp_path / "lock", "x", 0, beat=0.001):
        for _ in range(20):
            child = in_child(lambda: b"said")
            assert child is not None
            assert child.result() == b"said"


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere it may be unknown")
def test_this_machine_is_the_same_for_all_its_processes_and_not_a_name(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from gitvault.core.utils.lock import this_machine\n"
        "print(this_machine(Path(sys.argv[1])))"
    )
    said = subprocess.run([sys.executable, "-c", program, tmp_path], capture_output=True, check=True, text=True).stdout
    assert said.strip() == this_machine(tmp_path) != ""
    if Path("/proc").stat().st_dev != tmp_path.stat().st_dev:
        assert this_machine(Path("/proc")) != this_machine(tmp_path)


def test_a_machine_that_has_no_name_is_nobodys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "_system_run", lambda: "")
    assert this_machine(tmp_path) == ""


def test_the_times_are_those_of_the_document() -> None:
    text = " ".join((Path(lock.__file__).parents[2] / "docs" / "format.md").read_text("utf-8").split())
    assert f"next number at least every {BEAT_SECONDS:.0f} seconds" in text
    assert f"looked at the file for at least {STALE_SECONDS:.0f} seconds" in text
    assert BEAT_SECONDS * 10 <= STALE_SECONDS


def test_taking_a_lease_and_giving_it_back_takes_no_time(tmp_path: Path) -> None:
    """Under 1 ms; what a snapshot of nothing new takes is 100 times that."""
    times = []
    for _ in range(30):
        started = time.perf_counter()
        with VaultLock(tmp_path / "lock", "x", 0) as held:
            held.assert_held()
        times.append(time.perf_counter() - started)
    # Those that nothing else disturbs.
    assert min(times) < 0.02
