"""Mercurial: its command server, asked about a user's repository with none of the repository's settings in force."""

from __future__ import annotations

import atexit
import contextlib
import os
import re
import struct
import threading
from pathlib import Path

from gitvault.core.utils import process
from gitvault.errors import ToolFailed, ToolTimeout

LIMIT = 60.0
"""Seconds that one question may take."""

# Neither the repository's settings (hooks, aliases, extensions: programs) nor the user's, which are there for people.
# What a repository cannot be read without, such as largefiles, hg itself loads from the list of its requirements.
_ALONE = {"HGRCSKIPREPO": "1", "HGRCPATH": "", "HGPLAIN": "1", "HGENCODING": "utf-8"}
_READ_ONLY = Path(__file__).with_name("hg_readonly.py")
_SERVE = (
    *("hg", "serve", "--cmdserver", "pipe"),
    *("--config", "ui.interactive=no", "--config", f"extensions.gitvault={_READ_ONLY}"),
)

BUILT_ON = "public() and (parents() + parents(roots(not public())))"
"""The public changesets that what is here builds on: where it comes from has to have them."""


class Server:
    """One `hg serve`: starting hg takes 0.3 s, asking it when it runs 5 ms and more. Safe to use from several threads.

    It is started by the first question, and again when it is gone.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: process.Program | None = None

    def ask(self, folder: Path, *arguments: str, timeout: float = LIMIT) -> bytes:
        """What hg says about the repository in a folder. Raises ToolMissing, ToolFailed, ToolTimeout."""
        with self._lock:
            running = self._running()
            expired = threading.Event()

            def expire() -> None:
                expired.set()
                process.end(running)

            alarm = threading.Timer(timeout, expire)
            alarm.start()
            try:
                said, code, told = self._exchange(running, ("--cwd", os.fspath(folder), "-R", ".", *arguments))
            except (OSError, struct.error):
                self._drop()
                if expired.is_set():
                    raise ToolTimeout(f"hg {arguments[0]}: no answer after {timeout:g} seconds; it was ended") from None
                raise ToolFailed(f"hg {arguments[0]}", -1, "its command server ended") from None
            finally:
                alarm.cancel()
        if code:
            raise ToolFailed(f"hg {arguments[0]}", code, told.decode("utf-8", "replace"))
        return said

    def close(self) -> None:
        """End it."""
        with self._lock:
            self._drop()

    def _drop(self) -> None:
        if self._process:
            with self._process as gone:
                process.end(gone)
            self._process = None

    def _running(self) -> process.Program:
        if self._process and self._process.poll() is not None:
            self._drop()
        if self._process is None:
            self._process = process.start(_SERVE, variables=_ALONE)
            with contextlib.suppress(OSError, struct.error):
                _message(self._process)
        return self._process

    def _exchange(self, running: process.Program, arguments: tuple[str, ...]) -> tuple[bytes, int, bytes]:
        assert running.stdin
        packed = b"\0".join(map(os.fsencode, arguments))
        running.stdin.write(b"runcommand\n" + struct.pack(">I", len(packed)) + packed)
        running.stdin.flush()
        said: dict[bytes, list[bytes]] = {b"o": [], b"e": []}
        while True:
            channel, data = _message(running)
            if channel == b"r":
                return b"".join(said[b"o"]), struct.unpack(">i", data)[0], b"".join(said[b"e"])
            said.setdefault(channel, []).append(data)


def _message(running: process.Program) -> tuple[bytes, bytes]:
    """One message of the server; a channel with a capital letter asks for input, which there is none of."""
    assert running.stdout and running.stdin
    head = running.stdout.read(5)
    channel, length = struct.unpack(">cI", head)
    if channel.isupper():
        running.stdin.write(struct.pack(">I", 0))
        running.stdin.flush()
        return channel, b""
    return channel, running.stdout.read(length)


SERVER = Server()
"""The one of this process; started when a repository of hg is met."""
atexit.register(SERVER.close)


def run(folder: Path, *arguments: str, timeout: float = 10 * LIMIT) -> bytes:
    """A command that may write, into a repository of our own making. Raises ToolMissing, ToolFailed, ToolTimeout."""
    command = ["hg", "--config", "ui.interactive=no", *arguments]
    return process.run(command, cwd=folder, variables=_ALONE, timeout=timeout)


def remotes_of(folder: Path) -> dict[str, str]:
    """The paths of `.hg/hgrc` by their names."""
    found: dict[str, str] = {}
    for file in (shared_of(folder) / "hgrc", folder / ".hg" / "hgrc"):
        section = ""
        with contextlib.suppress(OSError):
            for line in file.read_text("utf-8", "surrogateescape").splitlines():
                if match := re.match(r"\[([^\[\]]+)\]", line):
                    section = match[1]
                elif section == "paths" and (match := re.match(r"([^=\s:#;][^=:\s]*)\s*=\s*(\S.*)", line)):
                    found[match[1]] = match[2].strip()
    return found


def built_on(folder: Path, server: Server) -> tuple[str, ...]:
    """What BUILT_ON says. Raises ToolError."""
    return tuple(server.ask(folder, "log", "-r", BUILT_ON, "-T", "{node}\\n").decode().split())


def told(error: ToolFailed) -> str:
    """What hg gave as the reason, in one line."""
    lines = [line for line in error.stderr.splitlines() if line.startswith("abort: ")] or [str(error)]
    return lines[0].removeprefix("abort: ")


def shared_of(folder: Path) -> Path:
    """The `.hg` that holds the store: another's for what `hg share` made."""
    own = folder / ".hg"
    with contextlib.suppress(OSError):
        return own / (own / "sharedpath").read_text("utf-8", "surrogateescape").rstrip("\n")
    return own
