"""What is known of the repositories that hg and svn checkouts come from: `vcs.remotes` for these.

One that is a folder of this machine is looked at each time. Others are asked by `hg identify` and `svn info`, outside
the checkout, so that none of its settings counts; the user's own do. What they answer is kept in the vault's cache.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import re
import tempfile
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from urllib.parse import unquote

from gitvault.core.beside import Beside
from gitvault.core.utils import dates, process
from gitvault.core.utils.files import Disk
from gitvault.errors import ToolError, ToolFailed
from gitvault.vcs import hg, remotes, svn
from gitvault.vcs.remotes import PATIENCE, Answer

_NAME = "default"
# Written once, by the clone or checkout: the server answered then.
_BEGUN = {"hg": (".hg/requires", ".hg/00changelog.i"), "svn": (".svn/format", ".svn/entries")}
# Of a repository that is a folder: what changes with its history.
_TELLING = {"hg": (".hg/store/00changelog.i", ".hg/store/phaseroots"), "svn": ("db/current", "db/uuid")}
_UNKNOWN = re.compile(r"unknown revision|No such revision|E160006|E195020")


@dataclass(frozen=True, slots=True)
class Server:
    """Where a checkout comes from, and what it builds on there."""

    folder: Path
    """The checkout's."""
    vcs: str
    url: str
    relied: tuple[str, ...] = ()
    """Changesets, or the revision, that it has to have."""
    uuid: str = ""
    """Of svn: the repository's."""

    def place(self) -> Path | None:
        """Where it is when it is a folder of this machine; else None."""
        if self.url.startswith("file://"):
            return Path(unquote(self.url.removeprefix("file://")))
        return self.folder / self.url if self.url and "://" not in self.url else None


@dataclass(frozen=True, slots=True)
class Served:
    """What is known of a server now."""

    doubt: str
    """Why what it had cannot be relied on any more; "" when it can."""
    beside: Beside
    """What that depends on."""


def served(server: Server, now: datetime, limit: timedelta, cache: Path, *, asked: hg.Server = hg.SERVER) -> Served:
    """What is known of a server, see `doubt`. Raises ToolMissing."""
    said = doubt(server, now, limit, cache, asked=asked)
    if place := server.place():
        files = _TELLING[server.vcs] if place.is_dir() else ()
        paths = (place, *(place / name for name in files))
        return Served(said, Beside(frozenset(os.path.normpath(path) for path in paths)))
    answer = remotes.load(server.folder, cache).get(_NAME, Answer())
    # Until then its silence is no matter.
    until = answered(server, cache) + limit.total_seconds() if answer.trouble and not said else math.inf
    return Served(said, Beside(frozenset((os.fspath(remotes.answers_file(server.folder, cache)),)), until=until))


def doubt(server: Server, now: datetime, limit: timedelta, cache: Path, *, asked: hg.Server = hg.SERVER) -> str:
    """Why what a server had cannot be relied on any more; "" when it can.

    `limit`: for how long it may fail to answer. Raises ToolMissing.
    """
    if place := server.place():
        return _doubt_of_folder(server, place, asked)
    answer = remotes.load(server.folder, cache).get(_NAME, Answer())
    if answer.url != digest_of(server.url):
        return ""
    if lost := [oid for oid in answer.lost if oid in server.relied]:
        return f"{_revision(server, lost[0])} is no longer on {_shown(server)}"
    last = answered(server, cache)
    if not answer.trouble or now.timestamp() - last < limit.total_seconds():
        return ""
    since = f"{dates.age(now.timestamp() - last)} ago" if last else "never"
    if answer.refused:
        return f"{_shown(server)} refused: {answer.trouble} (its last answer: {since})"
    return f"{_shown(server)} has not answered ({answer.trouble}; its last answer: {since})"


def answered(server: Server, cache: Path) -> float:
    """When a server last answered, in seconds since 1970; 0: not known."""
    answer = remotes.load(server.folder, cache).get(_NAME, Answer())
    found = [answer.answered if answer.url == digest_of(server.url) else 0.0]
    for name in _BEGUN[server.vcs]:
        with contextlib.suppress(OSError):
            found.append((server.folder / name).stat().st_mtime)
    return max(found)


def probe(server: Server, now: datetime, cache: Path, disk: Disk) -> None:
    """Ask a server, and keep what it answered. Raises OSError, StorageFullError."""
    if not server.url or server.place():
        return
    before = remotes.load(server.folder, cache).get(_NAME, Answer())
    known = before if before.url == digest_of(server.url) else Answer(digest_of(server.url))
    asked = now.timestamp()
    try:
        lost = tuple(one for one in server.relied or ("",) if not _has(server, one))
        answer = Answer(known.url, asked, asked, "", False, {}, lost)
    except ToolFailed as error:
        said = svn.told(error) if server.vcs == "svn" else hg.told(error)
        answer = replace(known, asked=asked, trouble=said, refused=bool(remotes.REFUSED.search(error.stderr)))
    except ToolError as error:
        answer = replace(known, asked=asked, trouble=str(error), refused=False)
    remotes.keep(server.folder, {_NAME: answer}, cache, disk)


def _has(server: Server, wanted: str) -> bool:
    """Whether a server has a revision; without one, whether it answers. Raises ToolError."""
    revision = ("-r", wanted) if wanted else ()
    if server.vcs == "hg":
        command = ["hg", "--config", "ui.interactive=no", "identify", "--id", *revision, "--", server.url]
    else:
        command = ["svn", "info", "--non-interactive", "--show-item", "repos-uuid", *revision, "--", server.url]
    with tempfile.TemporaryDirectory(prefix="gitvault-") as nowhere:
        try:
            said = process.run(command, cwd=Path(nowhere), timeout=PATIENCE, variables=_ALONE)
        except ToolFailed as error:
            if wanted and _UNKNOWN.search(error.stderr):
                return False
            raise
    return server.vcs == "hg" or not server.uuid or said.decode("ascii", "replace").strip() == server.uuid


_ALONE = {"HGPLAIN": "1", "SSH_ASKPASS_REQUIRE": "never"}


def _doubt_of_folder(server: Server, place: Path, asked: hg.Server) -> str:
    if not place.exists():
        return f"{_NAME} is gone: {server.url}" if server.vcs == "hg" else f"its repository is gone: {server.url}"
    for wanted in server.relied:
        try:
            has = _hg_has(place, wanted, asked) if server.vcs == "hg" else _svn_has(server, place, wanted)
        except ToolFailed as error:
            return f"{_shown(server)} cannot be read: {hg.told(error)}"
        if not has:
            return f"{_revision(server, wanted)} is no longer on {_shown(server)}"
    return ""


def _hg_has(place: Path, wanted: str, asked: hg.Server) -> bool:
    if not (place / ".hg").is_dir():
        # A bundle: what it has is not looked at.
        return True
    try:
        return bool(asked.ask(place, "log", "-r", wanted, "-T", "x"))
    except ToolFailed as error:
        if _UNKNOWN.search(error.stderr):
            return False
        raise


def _svn_has(server: Server, place: Path, wanted: str) -> bool:
    """By the files of a repository; of one of another kind nothing is known."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        uuid = (place / "db" / "uuid").read_text("ascii").split()[0]
        youngest = int((place / "db" / "current").read_text("ascii").split()[0])
        return uuid == server.uuid and youngest >= int(wanted)
    return True


def _revision(server: Server, revision: str) -> str:
    return f"changeset {revision[:12]}" if server.vcs == "hg" else f"revision {revision}"


def _shown(server: Server) -> str:
    return _NAME if server.vcs == "hg" else "its repository"


def digest_of(url: str) -> str:
    """Under which an answer of it is kept: URLs may hold passwords."""
    return hashlib.sha1(os.fsencode(url), usedforsecurity=False).hexdigest()
