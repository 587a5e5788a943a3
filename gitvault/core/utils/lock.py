"""One writer at a time, on one machine and on several that share a file system.

The kernel's lock on `vault.lock` keeps the processes of one machine apart; it is gone however its holder ends. A
network share may keep such locks to each machine. So whoever has it also creates `vault.lease`, in which a counter
goes up as long as the holder runs. No two clocks are compared: who waits counts its own looks at a counter that stands
still, and a machine that was suspended finds before it publishes anything that its lease is not there any more.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import platform
import secrets
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from gitvault.core.utils.files import Disk, open_source
from gitvault.core.utils.names import to_line
from gitvault.core.utils.process import FORK_SAFE
from gitvault.errors import GitVaultError, LockedError, StorageFullError

BEAT_SECONDS = 5.0
STALE_SECONDS = 60.0
"""A lease of another machine whose counter stood still for so long has no owner any more."""

_POLL_SECONDS = 0.1
# Of what it says for people; a letter takes up to 12 bytes, and all of it is less than a reader reads.
_MAX_TEXT = 150
_MAX_LEASE = 4096
_NO_KERNEL_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)
_NOT_WRITABLE = (errno.EROFS, errno.EACCES, errno.EPERM, *_NO_KERNEL_LOCKS)


class VaultLock:
    """The writer's lock of a vault; a context manager.

    `path`: of the kernel's lock, the lease is beside it. `purpose`, `host`: what the holder does and where, for those
    who wait. `machine`: see `this_machine`. `timeout`: seconds to wait for one that lives; whether a holder on another
    machine lives is seen within `beat` seconds of its, or else `stale` of one's own. `waiting` is called once, with a
    sentence, when there is something to wait for. `fence` is called before the lock is had when the holder before did
    not give it back: it sees to it that this one, if it was taken for dead wrongly, can do nothing any more.
    """

    def __init__(
        self,
        path: Path,
        purpose: str,
        timeout: float,
        *,
        host: str = "",
        machine: str | None = None,
        system: str | None = None,
        disk: Disk | None = None,
        waiting: Callable[[str], None] | None = None,
        fence: Callable[[], None] = lambda: None,
        sleep: Callable[[float], None] = time.sleep,
        beat: float = BEAT_SECONDS,
        stale: float = STALE_SECONDS,
    ) -> None:
        self._path = path
        self._lease = _lease(path)
        self._purpose = purpose
        self._timeout = timeout
        self._host = host
        self._machine = this_machine(path.parent) if machine is None else machine
        self._system = this_system() if machine is None and system is None else system or ""
        self._disk = disk or Disk()
        self._waiting = waiting
        self._fence = fence
        self._sleep = sleep
        self._beat = beat
        self._stale = stale
        self._fd = -1
        self._waited = 0.0
        self._token = secrets.token_hex(16)
        self._head = b""
        self._written = False
        # On a disk that was too full at first, the thread makes the lease while others look at it.
        self._making = threading.Lock()
        self._ended = threading.Event()
        self._beating: threading.Thread | None = None

    def __enter__(self) -> VaultLock:
        with self._clear_errors():
            self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)
        try:
            alone_here = self._take_kernel_lock()
            with self._clear_errors():
                self._take_lease(alone_here)
            self._shut_out()
        except BaseException:
            self.__exit__()
            raise
        finally:
            with contextlib.suppress(OSError):
                self.wanted(self._path).unlink(missing_ok=True)
        self._beating = threading.Thread(target=self._keep_beating, name=f"{FORK_SAFE}-lease", daemon=True)
        self._beating.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._ended.set()
        if self._beating:
            # Not for ever: on a share that is gone its write may never return.
            self._beating.join(1)
        try:
            # What cannot be removed has the same effect as a kill: its counter stands still.
            with contextlib.suppress(OSError):
                if self._written and (self._read() or b"").startswith(self._head):
                    self._disk.unlink(self._lease)
        finally:
            self._written = False
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1

    def assert_held(self) -> None:
        """Call right before what only the holder may do. Raises LockedError when another machine took over."""
        with self._making:
            content, written = self._read(), self._written
        if content is None and not written:
            return
        if content is None:
            # Somebody took it for stale, has it aside, sees that it is not and is putting it back.
            self._sleep(10 * _POLL_SECONDS)
            content = self._read()
        if not written or content is None or not content.startswith(self._head):
            other = self.holder(self._path) or "another process"
            raise LockedError(
                f"{self._path.parent}: taken over by {other} while this run stood still for over {self._stale:.0f} s; "
                "it published nothing since, run it again"
            )

    @staticmethod
    def wanted(path: Path) -> Path:
        """A file that is there while somebody waits for the lock at `path`: a holder that can, gives way."""
        return path.with_name(f"{path.name}.wanted")

    @staticmethod
    def holder(path: Path) -> str | None:
        """Who has the lease beside the lock at `path`, for people; None when there is no lease."""
        try:
            content = _read(_lease(path))
            if content is None:
                return None
            about = json.loads(content.partition(b"\n")[0])
            return to_line(
                f"process {about['pid']} on {about['host']} ({about['purpose']}, since {about['since']})".encode()
            )
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return "another process"

    # -- taking ----------------------------------------------------------------------------------

    def _take_kernel_lock(self) -> bool:
        """False where the file system has no such locks."""
        try:
            while not _try_lock(self._fd):
                self._pause()
        except OSError as error:
            if error.errno not in _NO_KERNEL_LOCKS:
                raise
            return False
        return True

    def _take_lease(self, alone_here: bool) -> None:
        """`alone_here`: no other process of this machine has it."""
        seen: bytes | None = None
        still = 0.0
        alive = False
        while not self._create(alone_here):
            content = self._read()
            if content is None:
                # Given back this moment; where it seems so again and again, the timeout ends it.
                alive = self._waited > 0
            elif content != seen:
                alive = seen is not None
                still = 0.0
            seen = content
            dead = content is not None and alone_here and self._is_dead(content)
            if content is not None and (dead or still >= self._stale) and self._break(content):
                continue
            # One that cannot tell yet waits on: with a short timeout nobody would ever find out.
            self._pause(alive=alive)
            # Its own looks, not the time between them: a machine that slept did not look.
            still += _POLL_SECONDS

    def _is_dead(self, content: bytes) -> bool:
        """Whether its owner was a process of this machine, or of this computer before it was started anew."""
        machine, system = _said(content, "machine"), _said(content, "system")
        if self._machine and machine == self._machine:
            return True
        runs = [name.partition(" ")[0] for name in (self._machine, machine)]
        return bool(self._system and system == self._system and all(runs) and runs[0] != runs[1])

    def _create(self, alone_here: bool) -> bool:
        """False when there is a lease."""
        about = {
            "token": self._token,
            "machine": self._machine,
            "system": self._system,
            "host": self._host[:_MAX_TEXT],
            "pid": os.getpid(),
            "purpose": self._purpose[:_MAX_TEXT],
            "since": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
        head = json.dumps(about).encode() + b"\n"
        try:
            file = self._disk.create(self._lease)
            try:
                # Never synced: after a power cut nobody holds it, whether it is there or not.
                with file:
                    file.write(head + _counter(0))
            except BaseException:
                self._disk.unlink(self._lease)
                raise
        except FileExistsError:
            return False
        except StorageFullError:
            if self._read() is not None:
                # Where room is looked for before names: a lease that nobody has any more must go first.
                return False
            # What frees space must run on a full disk: then the kernel's lock alone, until there is room.
            if not alone_here:
                raise
            return True
        self._head, self._written = head, True
        return True

    def _break(self, content: bytes) -> bool:
        """Take away a lease that was seen to stand still at `content`; False when it could not be moved."""
        aside = self._lease.with_name(f"{self._lease.name}.{secrets.token_hex(16)}")
        try:
            self._disk.rename(self._lease, aside)
            if _read(aside) != content:
                # It went on between the last look and the rename, or is another one by now.
                self._put_back(aside)
                self._disk.unlink(aside)
        except FileNotFoundError:
            return True
        except PermissionError:
            # Windows, while its owner writes it.
            return False
        return True

    def _put_back(self, aside: Path) -> None:
        try:
            self._disk.link(aside, self._lease)
        except FileExistsError:
            # Somebody was quicker; its owner finds that out before it publishes.
            return
        except OSError:
            # No hard links here.
            if not self._lease.exists():
                self._disk.rename(aside, self._lease)

    def _shut_out(self) -> None:
        """What is left aside tells whoever gets the lease that somebody has to be shut out yet."""
        found = self._lease.parent.glob(f"{self._lease.name}.*")
        # Not one's own, which somebody is about to put back.
        left = [aside for aside in found if self._token.encode() not in (_read(aside) or b"")]
        if left:
            self._fence()
        for aside in left:
            self._disk.unlink(aside)

    def _pause(self, *, alive: bool = True) -> None:
        holder = self.holder(self._path) or "another process"
        with contextlib.suppress(OSError):
            self.wanted(self._path).touch()
        if self._waited >= self._timeout and alive:
            raise LockedError(
                f"{self._path.parent}: locked by {holder}; wait for it to end, or raise vault.lockTimeout"
            )
        if not self._waited and self._waiting:
            self._waiting(f"waiting for {holder}")
        self._sleep(_POLL_SECONDS)
        self._waited += _POLL_SECONDS

    @contextlib.contextmanager
    def _clear_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno not in _NOT_WRITABLE:
                raise
            raise GitVaultError(
                f"{self._path.parent}: cannot be written to ({error.strerror}); mount it writable, "
                "on a file system that can create files exclusively and rename them"
            ) from error

    # -- holding ---------------------------------------------------------------------------------

    def _keep_beating(self) -> None:
        beats = 0
        while not self._ended.wait(self._beat):
            beats += 1
            # A share that is away for a while: `assert_held` finds out whether it was for too long.
            with contextlib.suppress(OSError, StorageFullError):
                if self._written:
                    self._disk.replace_tail(self._lease, self._head, _counter(beats))
                else:
                    with self._making:
                        self._create(alone_here=True)

    def _read(self) -> bytes | None:
        return _read(self._lease)


@contextlib.contextmanager
def only_one(path: Path, busy: str) -> Iterator[None]:
    """Be the only process of this machine that holds the file `path`, which is made. Raises LockedError(busy)."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)
    try:
        if not _try_lock(fd):
            raise LockedError(busy)
        yield
    finally:
        os.close(fd)


def this_machine(folder: Path) -> str:
    """What two processes have in common when the kernel keeps them apart by its locks in `folder`; "" if unknown.

    Not a name: two machines may have the same. It is that of the system's present run, and of the mounted device.
    """
    run = _system_run()
    return f"{run} {folder.stat().st_dev:x}" if run else ""


def _system_run() -> str:
    if sys.platform == "darwin":
        import ctypes

        answer = ctypes.create_string_buffer(64)
        size = ctypes.c_size_t(64)
        failed = ctypes.CDLL(None).sysctlbyname(b"kern.bootsessionuuid", answer, ctypes.byref(size), None, 0)
        return "" if failed else answer.value.decode()
    if sys.platform == "win32":
        import winreg

        with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, r"SOFTWARE\Microsoft\Cryptography") as key:
            return f"{winreg.QueryValueEx(key, 'MachineGuid')[0]} {platform.node()}"
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def this_system() -> str:
    """What stays of a computer when it is started anew: a hash of the id and the name it was given; "" if unknown.

    Two that are copies of each other, name and all, have the same.
    """
    installed = _installation()
    return hashlib.sha256(f"gitvault {installed} {platform.node()}".encode()).hexdigest()[:32] if installed else ""


def _installation() -> str:
    if sys.platform == "darwin":
        import ctypes

        answer = ctypes.create_string_buffer(16)
        no_time = (ctypes.c_long * 2)(5, 0)
        return "" if ctypes.CDLL(None).gethostuuid(answer, no_time) else answer.raw.hex()
    if sys.platform == "win32":
        # It knows no name of a run: see `_system_run`.
        return ""
    try:
        return Path("/etc/machine-id").read_text().strip()
    except OSError:
        return ""


def _lease(lock: Path) -> Path:
    return lock.with_suffix(".lease")


def _counter(beats: int) -> bytes:
    return b"%020d\n" % beats


def _said(content: bytes, key: str) -> str:
    try:
        found = json.loads(content.partition(b"\n")[0])[key]
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""
    return found if isinstance(found, str) else ""


def _read(path: Path) -> bytes | None:
    """None when there is no such file."""
    try:
        fd = open_source(os.fspath(path))
        try:
            return os.read(fd, _MAX_LEASE)
        finally:
            os.close(fd)
    except OSError as error:
        # ESTALE: a share's word for a file that was removed meanwhile.
        if error.errno in (errno.ENOENT, errno.ESTALE):
            return None
        raise


def _try_lock(fd: int) -> bool:
    try:
        if sys.platform == "win32":
            import msvcrt

            # A byte that is never there, so that whoever copies the file reads it.
            os.lseek(fd, 1 << 20, os.SEEK_SET)
            msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except (BlockingIOError, PermissionError):
        return False
