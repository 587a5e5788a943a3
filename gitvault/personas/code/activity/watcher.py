"""The watcher of a vault: takes in what changes in its projects, has snapshots taken, and answers who asks.

One thread. It waits for changes, questions and the end of the snapshot it has started, which is a process of its own at
idle priority; it reads no file's content and writes nothing into the vault but its socket and its lock.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from gitvault.core.models import Filter, Project
from gitvault.core.touched import address, is_socket
from gitvault.core.utils import process
from gitvault.core.utils.layout import WATCH, is_within
from gitvault.core.utils.lock import only_one
from gitvault.core.utils.names import to_line
from gitvault.errors import ConfigError, ToolMissing
from gitvault.personas.code.activity import detector
from gitvault.personas.code.activity.detector import Notice, State
from gitvault.personas.code.activity.heartbeat import FILE, Heartbeat, HeartbeatFile, parse
from gitvault.personas.code.activity.settings import Settings
from gitvault.personas.code.activity.surroundings import around
from gitvault.personas.code.activity.touched_list import TouchedList, relative
from gitvault.policy.explain import spacing

if TYPE_CHECKING:
    from gitvault.core.interfaces import Rules
    from gitvault.personas.code.activity.inotify import Inotify
    from gitvault.personas.code.activity.watchfiles import Watchfiles
    from gitvault.policy.policy import Policy
    from gitvault.vault import Vault

LOCK = "watch.lock"
"""In the vault's folder `cache`: held by the one watcher of the vault."""
_TICK_SECONDS = 5.0
_CHILD_SECONDS = 0.2
_CATALOG_SECONDS = 60.0
_RETRY_SECONDS = 60.0
_LONGEST_QUESTION = 1 << 16
_INCOMPLETE = 3
_RECENTLY = timedelta(days=14)
_MOST_COUNTED = 100
# Changes told at once of which each is looked at: what is worth saving seldom comes one by one.
_MOST_JUDGED = 20


@dataclass(frozen=True, slots=True)
class Happening:
    """What a watcher did or found."""

    time: float
    """Seconds since 1970."""
    project: str
    event: str
    """`watching`, `session`, `snapshot`, `unchanged`, `failed`, `ended` or `note`."""
    detail: str
    snapshot: str | None = None


@dataclass(slots=True)
class _Watched:
    """One project."""

    project: Project
    rules: Policy
    touched: TouchedList
    source: Inotify | Watchfiles | None
    scanned: float
    """When everything in it was last looked at."""
    often: int
    """Its snapshots of the last days: of two that are due the busier one is first."""
    later: float = float("inf")
    """When what is worth saving seldom, and nothing else, has waited long enough."""
    state: State = field(default_factory=State)
    due: str = "the watcher begins"
    """Why a snapshot is to be taken whatever the detector says."""
    not_before: float = float("-inf")
    said_session: bool = False
    said_distrust: bool = False


@dataclass(slots=True)
class _Snapshot:
    """One being taken."""

    watched: _Watched
    reason: str
    before: State
    later: float
    process: Any
    output: IO[bytes]


class Watcher:
    """`run` does it all; `stop` ends it, from a signal's handler or another thread."""

    def __init__(
        self,
        vault: Vault,
        names: Sequence[str],
        settings: Settings,
        *,
        clock: Callable[[], float] = time.monotonic,
        surroundings: Callable[..., detector.Around] = around,
    ) -> None:
        """`names`: of projects; none for all of this machine. Raises NotFoundError for one that is not there."""
        self._vault = vault
        self._names = tuple(names)
        self._settings = settings
        self._clock = clock
        self._surroundings = surroundings
        self.caches = vault.path / "cache"
        self._watched: dict[str, _Watched] = {}
        self._running: _Snapshot | None = None
        self._happened: list[Happening] = []
        self._selector = selectors.DefaultSelector()
        self._bell, self._ringing = socket.socketpair()
        self._bell.setblocking(False)
        self._ringing.setblocking(False)
        self._stopping = False
        self._catalog: tuple[float, object] = (float("-inf"), None)
        for name in names:
            vault.project(name)

    def stop(self) -> None:
        """End, soon; a snapshot under way is waited for."""
        self._stopping = True
        with contextlib.suppress(OSError):
            self._ringing.send(b"\0")

    def run(self) -> Iterator[Happening]:
        """Watch until stopped; what happens, as it happens. Raises LockedError when the vault has a watcher."""
        with contextlib.ExitStack() as stack:
            busy = f"{self._vault.path}: has a watcher already; stop it first, or see: git-vault service status"
            stack.enter_context(only_one(self.caches / LOCK, busy))
            stack.callback(self._close)
            self._selector.register(self._bell, selectors.EVENT_READ, self._hear_bell)
            stack.enter_context(self._listening())
            beats = HeartbeatFile(self.caches / FILE)
            while not self._stopping:
                self._follow_catalog()
                for beat in beats.read(time.time()):
                    self._beat(beat)
                wait = self._step()
                yield from self._told()
                for key, _ in self._selector.select(wait):
                    key.data()
            self._end_snapshot(wait=True)
            yield from self._told()

    # -- the loop's parts ------------------------------------------------------------------------

    def _hear_bell(self) -> None:
        with contextlib.suppress(OSError):
            self._bell.recv(4096)

    def _told(self) -> list[Happening]:
        told, self._happened = self._happened, []
        return told

    def _say(self, watched: _Watched | None, event: str, detail: str, snapshot: str | None = None) -> None:
        name = watched.project.name if watched else ""
        self._happened.append(Happening(time.time(), name, event, detail, snapshot))

    def _step(self) -> float:
        """Do what is due; for how long there is nothing to do unless something happens."""
        self._end_snapshot(wait=False)
        now = self._clock()
        wake = now + _TICK_SECONDS
        for watched in sorted(self._watched.values(), key=lambda one: -one.often):
            self._tell_session(watched, now)
            wake = min(wake, self._consider(watched, now))
        if self._running:
            wake = min(wake, now + _CHILD_SECONDS)
        return max(0.0, wake - now)

    def _consider(self, watched: _Watched, now: float) -> float:
        """Start a snapshot of the project when one is due; when to look again at the latest."""
        if self._running or now < watched.not_before:
            return now + _TICK_SECONDS
        if watched.due:
            self._start_snapshot(watched, watched.due)
            return now
        # Nothing is said of changes: then every look is at everything.
        rescan = self._settings.rescan if watched.source else self._settings.timing.interval
        if watched.state.unsaved_since is None and now < min(watched.scanned + rescan, watched.later):
            return min(watched.scanned + rescan, watched.later)
        surroundings = self._surroundings(watched.source.repositories.values() if watched.source else ())
        decision = detector.decide(watched.state, now, surroundings, self._settings.timing)
        if decision.snapshot:
            self._start_snapshot(watched, decision.reason)
        elif now >= watched.later and not surroundings.operation:
            self._start_snapshot(watched, "what is saved seldom has waited long enough")
        elif now >= watched.scanned + rescan and not surroundings.operation:
            self._start_snapshot(watched, "a look at everything", scan=True)
        return decision.wake if decision.wake is not None else now + _TICK_SECONDS

    def _tell_session(self, watched: _Watched, now: float) -> None:
        there = detector.in_session(watched.state, now)
        if there and not watched.said_session:
            self._say(watched, "session", "begins")
        elif watched.said_session and not there:
            self._say(watched, "ended", f"a session of {watched.state.session_saves} saves")
            watched.state = replace(watched.state, session_since=None, session_saves=0)
        watched.said_session = there
        if watched.touched.distrusted and watched.source and not watched.said_distrust:
            watched.said_distrust = True
            self._say(watched, "note", f"every snapshot looks at everything: {watched.touched.distrusted}")

    # -- projects --------------------------------------------------------------------------------

    def _follow_catalog(self) -> None:
        """Watch the projects that there are by now."""
        now = self._clock()
        if now < self._catalog[0] + _CATALOG_SECONDS:
            return
        found = self._vault.history.refs.read("refs/vault/catalog")
        known, self._catalog = self._catalog[1], (now, found)
        if found == known and self._watched:
            return
        here = self._vault.config.machine
        projects = {p.name: p for p in self._vault.projects() if p.host == here}
        # What is archived is left alone until it is named.
        wanted = {name: p for name, p in projects.items() if name in self._names or not (self._names or p.archived)}
        for name, watched in list(self._watched.items()):
            if wanted.get(name) != watched.project:
                self._forget(watched)
        for name, project in wanted.items():
            if name not in self._watched:
                self._begin(project)

    def _begin(self, project: Project) -> None:
        touched = TouchedList()
        rules = self._vault.policy(project.path, project.mode)
        note = ""
        source: Inotify | Watchfiles | None = None
        try:
            source = _source(Path(project.path), rules, touched, self._vault.path)
        except (OSError, ToolMissing) as error:
            minutes = self._settings.timing.interval / 60
            note = f"changes are not told ({error}); it is looked at every {minutes:.0f} minutes"
            touched.distrust("its changes are not told")
        since = self._vault.now() - _RECENTLY
        often = len(self._vault.history.filtered(Filter(project.name, since=since, limit=_MOST_COUNTED)))
        watched = _Watched(project, rules, touched, source, self._clock(), often)
        self._watched[project.name] = watched
        if source:
            self._selector.register(source, selectors.EVENT_READ, lambda: self._take_in(watched))
        self._say(watched, "watching", to_line(os.fsencode(project.path)))
        if note:
            self._say(watched, "note", note)

    def _forget(self, watched: _Watched) -> None:
        del self._watched[watched.project.name]
        if watched.source:
            self._selector.unregister(watched.source)
            watched.source.close()

    def _take_in(self, watched: _Watched) -> None:
        """What changed."""
        if not watched.source:
            return
        notices = [notice for notice in watched.source.read() if not self._own(watched, notice)]
        notices = [notice for notice in notices if not self._waits(watched, notice, len(notices))]
        if notices:
            state = watched.state
            for notice in notices:
                gone = os.path.join(os.fsencode(watched.project.path), notice.path)
                if notice.path in state.editors and not os.path.lexists(gone):
                    state = detector.closed(state, notice.path)
            watched.state = detector.observe(state, notices, self._clock())

    def _waits(self, watched: _Watched, notice: Notice, among: int) -> bool:
        """Whether a change is worth a snapshot only after a while, which is longer than others wait: users say so."""
        if not notice.kept or among > _MOST_JUDGED or detector.kind(notice.path) != "save":
            return False
        try:
            seconds = spacing(watched.rules, notice.path)
        except ConfigError:
            return False
        if seconds <= self._settings.timing.interval:
            return False
        watched.later = min(watched.later, self._clock() + seconds)
        return True

    def _own(self, watched: _Watched, notice: Notice) -> bool:
        """Whether it is the vault itself that changed, which lies in the project."""
        inside = relative(os.fspath(self._vault.path), watched.project.path)
        return inside is not None and (notice.path == inside or notice.path.startswith(inside + b"/"))

    def _around(self, path: str) -> _Watched | None:
        """The innermost project that a path lies in."""
        real = os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))
        found = [w for w in self._watched.values() if is_within(real, os.path.realpath(w.project.path))]
        return max(found, key=lambda w: len(w.project.path), default=None)

    # -- snapshots -------------------------------------------------------------------------------

    def _start_snapshot(self, watched: _Watched, reason: str, *, scan: bool = False) -> None:
        words = ["-m", "gitvault", "--vault", str(self._vault.path), "snapshot", "--json", "--trigger", "session"]
        words += [*(["--scan"] if scan else []), "--project", watched.project.name, "--", watched.project.path]
        output = tempfile.TemporaryFile()  # noqa: SIM115 (the child writes it, `_end_snapshot` closes it)
        # Before the child runs: what changes from here on may not be in its snapshot.
        self._take_in(watched)
        before, watched.state = watched.state, detector.taken(watched.state)
        later, watched.later = watched.later, float("inf")
        watched.due = ""
        if scan or not watched.source:
            watched.scanned = self._clock()
        started = process.start_idle(words, output)
        self._running = _Snapshot(watched, reason, before, later, started, output)

    def _end_snapshot(self, *, wait: bool) -> None:
        """Take note of the snapshot that was under way, when it is done."""
        running = self._running
        if running is None:
            return
        code = running.process.wait() if wait else running.process.poll()
        if code is None:
            return
        self._running = None
        with running.output as output:
            output.seek(0)
            said = output.read().decode("utf-8", "replace").splitlines()
        watched = running.watched
        document: dict[str, Any] = next((json.loads(line) for line in said if line.startswith("{")), {})
        if code not in (0, _INCOMPLETE) or "snapshot" not in document:
            watched.state = detector.failed(watched.state, running.before)
            watched.later = min(watched.later, running.later)
            watched.not_before = self._clock() + _RETRY_SECONDS
            if running.before.unsaved_since is None and running.later == float("inf"):
                watched.due = running.reason
            self._say(watched, "failed", said[-1] if said else f"snapshot ended with code {code}")
            return
        for note in document["notes"]:
            self._say(watched, "note", note)
        event = "unchanged" if document["unchanged"] else "snapshot"
        if event == "snapshot" or not running.reason.startswith("a look"):
            self._say(watched, event, running.reason, document["snapshot"])

    # -- who asks --------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _listening(self) -> Iterator[None]:
        """Answer at the socket, where the system has such sockets."""
        path = self.caches / WATCH
        if not hasattr(socket, "AF_UNIX"):
            yield
            return
        with socket.socket(socket.AF_UNIX) as server:
            try:
                if is_socket(path):
                    # Of a watcher that was killed: the lock is ours.
                    path.unlink()
                with address(self.caches) as where:
                    server.bind(where)
                os.chmod(path, 0o600)
                server.listen(16)
            except OSError as error:
                self._say(None, "note", f"{path}: nobody can ask the watcher ({error.strerror})")
                yield
                return
            server.setblocking(False)
            self._selector.register(server, selectors.EVENT_READ, lambda: self._accept(server))
            try:
                yield
            finally:
                path.unlink(missing_ok=True)

    def _accept(self, server: socket.socket) -> None:
        try:
            talk, _ = server.accept()
        except OSError:
            return
        talk.settimeout(1.0)
        buffer = bytearray()
        self._selector.register(talk, selectors.EVENT_READ, lambda: self._hear(talk, buffer))

    def _hear(self, talk: socket.socket, buffer: bytearray) -> None:
        try:
            part = talk.recv(_LONGEST_QUESTION)
            buffer += part
            while b"\n" in buffer:
                line, _, rest = bytes(buffer).partition(b"\n")
                buffer[:] = rest
                talk.sendall(json.dumps(self._answer(line)).encode() + b"\n")
        except OSError:
            part = b""
        if not part or len(buffer) > _LONGEST_QUESTION:
            self._selector.unregister(talk)
            talk.close()

    def _answer(self, line: bytes) -> dict[str, object]:
        try:
            question = json.loads(line)
            if isinstance(question, dict) and "root" in question:
                return self._answer_of_project(question)
            if isinstance(question, dict) and "hook" in question:
                return {"taken": self._hook(str(question["hook"]), str(question.get("path", "")))}
            if isinstance(question, dict) and "state" in question:
                return self._said_state()
            return {"taken": sum(map(self._beat, parse(question)))}
        except (ValueError, RecursionError, TypeError) as error:
            return {"error": str(error)}

    def _answer_of_project(self, question: dict[str, Any]) -> dict[str, object]:
        watched = next((w for w in self._watched.values() if w.project.path == question["root"]), None)
        if watched is None:
            # It may be new.
            self._catalog = (float("-inf"), self._catalog[1])
            self._ringing.send(b"\0")
            return {"error": "not watched"}
        if "missed" in question:
            path = to_line(str(question["missed"]).encode("utf-8", "surrogateescape")) or "the project's folder"
            watched.touched.distrust(f"it missed a change in {path}; start the watcher again")
            return {"taken": True}
        if question.get("rules") != watched.rules.digest.hex():
            self._reload(watched.project)
            return {"error": "other rules"}
        self._take_in(watched)
        if watched.source:
            watched.source.check()
        told = watched.touched.answer(str(question["touched"]).encode("utf-8", "replace"))
        return {
            "mark": told.mark.decode(),
            "reason": told.reason,
            "folders": None if told.folders is None else [_text(path) for path in sorted(told.folders)],
            "below": [_text(path) for path in sorted(told.below)],
        }

    def _reload(self, project: Project) -> None:
        """Settings changed: begin with this project anew."""
        self._vault.__dict__.pop("config", None)
        watched = self._watched[project.name]
        if self._running and self._running.watched is watched:
            # Its snapshot is what asks.
            self._running.before = State()
        state, later = watched.state, watched.later
        self._forget(watched)
        self._begin(project)
        fresh = self._watched[project.name]
        fresh.state, fresh.due, fresh.later = state, "", later
        if self._running and self._running.watched is watched:
            self._running.watched = fresh

    def _beat(self, beat: Heartbeat) -> bool:
        watched = self._around(beat.entity)
        if watched:
            watched.state = detector.heartbeat(watched.state, beat.is_write, self._clock())
        return watched is not None

    def _hook(self, name: str, path: str) -> bool:
        """A hook says that something was committed, checked out or rewritten."""
        watched = self._around(path)
        if watched:
            git = Notice(b".hg/bookmarks" if name == "commit" else b".git/HEAD")
            watched.state = detector.observe(watched.state, [git], self._clock())
        return watched is not None

    def _said_state(self) -> dict[str, object]:
        now = self._clock()
        return {
            "process": os.getpid(),
            "projects": [
                {
                    "project": name,
                    "path": watched.project.path,
                    "session": detector.in_session(watched.state, now),
                    "unsaved_seconds": None
                    if watched.state.unsaved_since is None
                    else round(now - watched.state.unsaved_since, 1),
                    "list": watched.touched.distrusted or "kept",
                }
                for name, watched in sorted(self._watched.items())
            ],
        }

    def _close(self) -> None:
        for watched in list(self._watched.values()):
            self._forget(watched)
        for key in list(self._selector.get_map().values()):
            if isinstance(key.fileobj, socket.socket):
                key.fileobj.close()
        self._selector.close()
        self._ringing.close()


def _source(root: Path, rules: Rules, touched: TouchedList, vault: Path) -> Inotify | Watchfiles:
    """Where changes are told. Raises ToolMissing, OSError."""
    if sys.platform == "linux":
        from gitvault.personas.code.activity.inotify import Inotify

        return Inotify(root, rules, touched, vault)
    from gitvault.personas.code.activity.watchfiles import Watchfiles

    touched.distrust("this system does not say when changes were lost")
    return Watchfiles(root, rules)


def _text(path: bytes) -> str:
    return path.decode("utf-8", "surrogateescape")
