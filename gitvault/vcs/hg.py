"""Mercurial: its command server, asked about a user's repository with none of the repository's settings in force."""

from __future__ import annotations

import atexit
import contextlib
import os
import re
import struct
import threading
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from gitvault.core.utils import process
from gitvault.errors import ToolError, ToolFailed, ToolTimeout
from gitvault.vcs import find
from gitvault.vcs.state import Checkout, State

if TYPE_CHECKING:
    from gitvault.vcs.find import Finder

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
_OPERATIONS = {
    "rebasestate": "rebase",
    "histedit-state": "histedit",
    "graftstate": "graft",
    "unshelverebasestate": "unshelve",
    "shelvedstate": "unshelve",
    "updatestate": "update",
}


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


def state(checkout: Checkout, finder: Finder, server: Server = SERVER) -> State:
    """Look at a checkout. What cannot be read is its `trouble`, never raised."""
    try:
        return _state(checkout, finder, server)
    except ToolFailed as error:
        return State(checkout, trouble=f"hg cannot read it: {told(error)}")
    except (ToolError, OSError) as error:
        return State(checkout, trouble=str(error))


def run(folder: Path, *arguments: str, timeout: float = 10 * LIMIT) -> bytes:
    """A command that may write, into a repository of our own making. Raises ToolMissing, ToolFailed, ToolTimeout."""
    command = ["hg", "--config", "ui.interactive=no", *arguments]
    return process.run(command, cwd=folder, variables=_ALONE, timeout=timeout)


def remotes_of(folder: Path) -> dict[str, str]:
    """The paths of `.hg/hgrc` by their names."""
    found: dict[str, str] = {}
    for file in (_shared(folder) / "hgrc", folder / ".hg" / "hgrc"):
        section = ""
        with contextlib.suppress(OSError):
            for line in file.read_text("utf-8", "surrogateescape").splitlines():
                if match := re.match(r"\[([^\[\]]+)\]", line):
                    section = match[1]
                elif section == "paths" and (match := re.match(r"([^=\s:#;][^=:\s]*)\s*=\s*(\S.*)", line)):
                    found[match[1]] = match[2].strip()
    return found


def told(error: ToolFailed) -> str:
    """What hg gave as the reason, in one line."""
    lines = [line for line in error.stderr.splitlines() if line.startswith("abort: ")] or [str(error)]
    return lines[0].removeprefix("abort: ")


def _shared(folder: Path) -> Path:
    """The `.hg` that holds the store: another's for what `hg share` made."""
    own = folder / ".hg"
    with contextlib.suppress(OSError):
        return own / (own / "sharedpath").read_text("utf-8", "surrogateescape").rstrip("\n")
    return own


def _state(checkout: Checkout, finder: Finder, server: Server) -> State:
    folder = checkout.path
    own = folder / ".hg"
    remotes = remotes_of(folder)
    # No template writes NUL bytes: fields are lines, and names hold none.
    parents = os.fsdecode(server.ask(folder, "log", "-r", "parents()", "-T", "{node}\\n{branch}\\n")).splitlines()
    listed = [line for line in server.ask(folder, "status", "-mardui0").split(b"\0") if line]
    lost = gone(folder, remotes)
    revisions = "not public()" if remotes and not lost else "all()"
    label = "{if(activebookmark, activebookmark, if(bookmarks, word(0, bookmarks), branch))}\\n"
    unpushed = Counter(os.fsdecode(server.ask(folder, "log", "-r", revisions, "-T", label)).splitlines())
    conflicts = _conflicts(server.ask(folder, "resolve", "-l")) if (own / "merge").is_dir() else 0
    changed = [line[2:] for line in listed if line[:1] in b"MAR!"]
    top = finder.inner(folder)
    others = [
        line[2:]
        for line in listed
        if line[:1] in b"?I" and not finder.omits(top + line[2:].replace(os.fsencode(os.sep), b"/"), False)
    ]
    operation = next((name for file, name in _OPERATIONS.items() if (own / file).exists()), "")
    return State(
        checkout,
        base=parents[0] if parents else "",
        branch=parents[1] if parents else "",
        modified=len(changed),
        conflicts=conflicts,
        untracked=len(others),
        unpushed=dict(unpushed.most_common()),
        stashes=len(list((own / "shelved").glob("*.patch"))) + _patches(own),
        tags=tuple(line.split(" ", 1)[1] for line in _lines(own / "localtags") if " " in line),
        operation=operation or ("merge" if len(parents) > 2 else ""),
        remotes=tuple(remotes),
        trouble=lost,
        local=(*(folder / os.fsdecode(path) for path in (*changed, *others)), *_own_files(own, _shared(folder))),
        nested=tuple(finder.inside(checkout)),
        beside=None if _shared(folder) != own or find.has_rules(folder) else find.places(folder, remotes.values()),
    )


def gone(folder: Path, remotes: dict[str, str]) -> str:
    """Why a repository that this one came from counts as gone: a folder of this machine that is no longer there."""
    url = remotes.get("default", "")
    place = Path(url.removeprefix("file://")) if url.startswith("file://") or "://" not in url else None
    if url and place and not (folder / place).exists():
        return f"default is gone: {place}"
    return ""


def _conflicts(listing: bytes) -> int:
    return sum(line.startswith(b"U ") for line in listing.splitlines())


def _patches(own: Path) -> int:
    """Patches of a queue that are not in the history."""
    return len(_lines(own / "patches" / "series")) - len(_lines(own / "patches" / "status"))


def _lines(file: Path) -> list[str]:
    with contextlib.suppress(OSError):
        return [line for line in file.read_text("utf-8", "surrogateescape").splitlines() if line.strip()]
    return []


def _own_files(own: Path, shared: Path) -> list[Path]:
    """The files that say what commits, bookmarks and shelves there are."""
    names = ("dirstate", "branch", "bookmarks", "localtags", "store/00changelog.i", "store/phaseroots")
    found = [place / name for place in dict.fromkeys((own, shared)) for name in names]
    return [file for file in (*found, *sorted((own / "shelved").glob("*"))) if file.is_file()]
