"""One writer at a time: a lock that the system releases when its holder ends, however it ends."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from gitvault.core.utils.names import to_line
from gitvault.errors import LockedError

_POLL_SECONDS = 0.1


class VaultLock:
    """The writer's lock of a vault; a context manager.

    `purpose`, `host`: what the holder does and where, for those who wait. `timeout`: seconds to wait.
    `waiting` is called once, with a sentence, when there is something to wait for.
    """

    def __init__(
        self,
        path: Path,
        purpose: str,
        timeout: float,
        *,
        host: str = "",
        waiting: Callable[[str], None] | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._path = path
        self._purpose = purpose
        self._timeout = timeout
        self._host = host
        self._waiting = waiting
        self._sleep = sleep
        self._fd = -1

    def __enter__(self) -> VaultLock:
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)
        try:
            waited = 0.0
            while not _try_lock(fd):
                # On a full disk whoever holds it is waited for all the same.
                with contextlib.suppress(OSError):
                    self.wanted(self._path).touch()
                if waited >= self._timeout:
                    raise LockedError(
                        f"{self._path.parent}: locked by {self._holder(fd)}; "
                        "wait for it to end, or raise vault.lockTimeout"
                    )
                if not waited and self._waiting:
                    self._waiting(f"waiting for {self._holder(fd)}")
                self._sleep(_POLL_SECONDS)
                waited += _POLL_SECONDS
            about = {
                "pid": os.getpid(),
                "host": self._host,
                "purpose": self._purpose,
                "since": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            }
            # Only for people: nothing is decided by it, so it need not be durable, and a full disk need not have it.
            with contextlib.suppress(OSError):
                os.ftruncate(fd, 0)
                os.lseek(fd, 0, os.SEEK_SET)
                os.write(fd, json.dumps(about).encode())
        except BaseException:
            os.close(fd)
            raise
        finally:
            self.wanted(self._path).unlink(missing_ok=True)
        self._fd = fd
        return self

    def __exit__(self, *exc: object) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    @staticmethod
    def wanted(path: Path) -> Path:
        """A file that is there while somebody waits for the lock at `path`: a holder that can, gives way."""
        return path.with_name(f"{path.name}.wanted")

    @staticmethod
    def _holder(fd: int) -> str:
        try:
            os.lseek(fd, 0, os.SEEK_SET)
            about = json.loads(os.read(fd, 4096))
            return to_line(
                f"process {about['pid']} on {about['host']} ({about['purpose']}, since {about['since']})".encode()
            )
        except (OSError, ValueError, KeyError, TypeError):
            return "another process"


def _try_lock(fd: int) -> bool:
    try:
        if sys.platform == "win32":
            import msvcrt

            # A byte behind the text, so that others can read who holds it.
            os.lseek(fd, 1 << 20, os.SEEK_SET)
            msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
            os.lseek(fd, 0, os.SEEK_SET)
        else:
            import fcntl

            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except (BlockingIOError, PermissionError):
        return False
