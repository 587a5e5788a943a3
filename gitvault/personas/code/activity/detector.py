"""When a snapshot is due: pure functions over what was noticed and a clock.

Times are seconds of a clock that never goes back. A `State` is what is known of one project; every function gives a new
one. What the figures mean for a crash is in the documentation: whoever changes one changes `sessions.md`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

SESSION_SAVES = 2
SESSION_SECONDS = 120.0
"""So many saves in so many seconds are a session."""
PAUSE_SECONDS = 1800.0
"""A session ends with so long a pause."""
SAME_SAVE_SECONDS = 2.0
"""What happens to a file within this time is one save; a snapshot waits so long after one, lest it be in the middle."""
BURST_FILES = 30
"""More files than this within `SAME_SAVE_SECONDS` are the work of a program."""
OUTPUT_SECONDS = 10.0
"""A build or test run is over when nothing has been put out for so long."""
BUSY_LOAD = 1.5
"""Processes that want to run, for each processor, from which on the machine is busy."""


@dataclass(frozen=True, slots=True)
class Timing:
    """The settings: seconds."""

    quiet: float = 90
    """A session's snapshot is taken when nothing has been saved for so long."""
    interval: float = 900
    """... and at the latest so long after the first change that is in no snapshot."""

    @property
    def window(self) -> float:
        """What is unsaved is never older than this, whatever goes on."""
        return 2 * self.interval


@dataclass(frozen=True, slots=True)
class Notice:
    """Something that changed."""

    path: bytes
    """From the project's folder on."""
    kept: bool = True
    """Whether snapshots hold it: what the rules leave out is a build's output."""


@dataclass(frozen=True, slots=True)
class Around:
    """What else counts when it is decided."""

    operation: str = ""
    """What a version control system is in the middle of."""
    load: float = 0.0
    """Processes that want to run, for each processor."""
    battery: bool = False

    @property
    def strained(self) -> bool:
        """Whether everything should take its time."""
        return self.battery or self.load > BUSY_LOAD


@dataclass(frozen=True, slots=True)
class State:
    """What is known of one project."""

    unsaved_since: float | None = None
    """When the first change was noticed that is in no snapshot."""
    last_change: float = float("-inf")
    last_output: float = float("-inf")
    """Of a build or test run."""
    ran: bool = False
    """A build or test run, or a burst, has been noticed since the last snapshot."""
    ref_changed: bool = False
    saves: tuple[float, ...] = ()
    """Of somebody's, the newest ones."""
    recent: tuple[tuple[bytes, float], ...] = ()
    """Files saved within the last seconds."""
    session_since: float | None = None
    session_saves: int = 0
    last_sign: float = float("-inf")
    """Of somebody being there."""
    editors: frozenset[bytes] = field(default=frozenset())
    """Files that an editor's lock says are open."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do now."""

    snapshot: bool
    reason: str
    """Why, or what is waited for."""
    wake: float | None = None
    """When to decide again if nothing happens; None: not before something does."""


def kind(path: bytes) -> str:
    """What a change of this path means.

    `ref`: a branch or a commit; `vcs`: other state of version control; `editor`: a lock file that says a file is open;
    `scratch`: a step of saving another file; `save`: anything else.
    """
    for marker, refs in _VCS:
        before, found, inner = path.rpartition(marker)
        if found and (not before or before.endswith(b"/")) and (not inner or inner.startswith(b"/")):
            return "ref" if refs.match(inner) else "vcs"
    name = path.rpartition(b"/")[2]
    if _EDITOR.fullmatch(name):
        return "editor"
    return "scratch" if _SCRATCH.fullmatch(name) else "save"


_VCS = (
    (b".git", re.compile(rb"/(HEAD|packed-refs|logs/HEAD|refs/heads/.*(?<!\.lock))$")),
    (b".hg", re.compile(rb"/(bookmarks|branch|dirstate|store/00changelog\.i)$")),
    (b".svn", re.compile(rb"/wc\.db$")),
)
# Emacs, LibreOffice, Vim; then what editors write on the way to a save (Vim's probe 4913, backups, JetBrains, GNOME,
# sed, LibreOffice, Office), and what stands for a file until it is renamed.
_EDITOR = re.compile(rb"\.#.+|\.~lock\..+#|\..+\.sw[a-p]")
_SCRATCH = re.compile(
    rb"4913|.+~|#.+#|.+___jb_(?:tmp|old)___|\.goutputstream-\w+|sed\w{6}|lu\w+\.tmp|~\$.+|~?\w+\.tmp|\..+\.(?:tmp|temp|part|crswap)"
)


def observe(state: State, notices: Iterable[Notice], now: float) -> State:
    """What is known after these changes, all of which happened just now."""
    touched = dict(state.recent)
    saved: set[bytes] = set()
    ref, output = state.ref_changed, state.last_output
    editors = set(state.editors)
    changed = False
    for notice in notices:
        what = kind(notice.path)
        if what == "ref":
            ref = changed = True
        elif what == "editor":
            editors.add(notice.path)
            state = _present(state, now)
        elif what == "vcs" or (what == "scratch" and notice.kept):
            pass
        elif not notice.kept:
            output = now
        else:
            changed = True
            if now - touched.get(notice.path, float("-inf")) > SAME_SAVE_SECONDS:
                saved.add(notice.path)
            touched[notice.path] = now
    recent = tuple((path, at) for path, at in touched.items() if now - at <= SAME_SAVE_SECONDS)[-2 * BURST_FILES :]
    unsaved = state.unsaved_since
    if changed:
        unsaved = now if unsaved is None else unsaved
    known = replace(
        state,
        unsaved_since=unsaved,
        last_change=now if changed else state.last_change,
        last_output=output,
        ran=state.ran or output == now or len(recent) > BURST_FILES,
        ref_changed=ref,
        recent=recent,
        editors=frozenset(editors),
    )
    return _saved(known, len(saved), now) if saved and len(recent) <= BURST_FILES else known


def _saved(state: State, count: int, now: float) -> State:
    """Somebody saved so many files."""
    saves = tuple(at for at in state.saves if now - at <= SESSION_SECONDS) + (now,) * min(count, SESSION_SAVES)
    saves = saves[-SESSION_SAVES:]
    state = _present(state, now)
    begun = state.session_since
    if begun is None and (len(saves) >= SESSION_SAVES or state.editors):
        begun = saves[0]
    # The save that came before it was known to be a session is one of its saves.
    counted = state.session_saves + count if state.session_since is not None else len(saves) * (begun is not None)
    return replace(state, saves=saves, session_since=begun, session_saves=counted)


def _present(state: State, now: float) -> State:
    """Somebody is there; after a long pause it is another session."""
    if now - state.last_sign > PAUSE_SECONDS:
        state = replace(state, session_since=None, session_saves=0, saves=())
    return replace(state, last_sign=now)


def heartbeat(state: State, is_write: bool, now: float) -> State:
    """An editor says that somebody works in it, and whether a file was saved."""
    state = _present(state, now)
    if is_write:
        return _saved(replace(state, last_change=now), 1, now)
    return replace(state, session_since=now if state.session_since is None else state.session_since)


def closed(state: State, editor_lock: bytes) -> State:
    """An editor's lock file went."""
    return replace(state, editors=state.editors - {editor_lock})


def in_session(state: State, now: float) -> bool:
    """Whether somebody is at work."""
    return state.session_since is not None and now - state.last_sign <= PAUSE_SECONDS


def decide(state: State, now: float, around: Around, timing: Timing) -> Decision:
    """Whether a snapshot is due."""
    if state.unsaved_since is None:
        return Decision(False, "nothing changed")
    age = now - state.unsaved_since
    overdue = state.unsaved_since + timing.window
    if now >= overdue:
        return Decision(True, f"unsaved for {_minutes(age)}")
    slower = 2 if around.strained else 1
    if around.operation:
        return Decision(False, f"waiting: {around.operation}", min(overdue, now + OUTPUT_SECONDS))
    if now - state.last_output < OUTPUT_SECONDS:
        return Decision(False, "waiting: a build or test run", min(overdue, state.last_output + OUTPUT_SECONDS))
    settled = state.last_change + SAME_SAVE_SECONDS
    if now < settled:
        return Decision(False, "waiting: files are being written", min(overdue, settled))
    if state.ref_changed:
        return Decision(True, "a commit or a change of branch")
    if state.ran:
        if now - state.last_change >= OUTPUT_SECONDS:
            return Decision(True, "a build, a test run or another program's work")
        return Decision(False, "waiting: another program's work", min(overdue, state.last_change + OUTPUT_SECONDS))
    late = state.unsaved_since + timing.interval * slower
    if now >= late:
        return Decision(True, f"unsaved for {_minutes(age)}")
    if not in_session(state, now):
        return Decision(False, "no session", late)
    quiet = state.last_change + timing.quiet * slower
    if now >= quiet:
        return Decision(True, f"{timing.quiet * slower:.0f} s of quiet in a session")
    return Decision(False, "a session", min(quiet, late))


def taken(state: State) -> State:
    """A snapshot begins: what is noticed from now on may not be in it."""
    return replace(state, unsaved_since=None, ref_changed=False, ran=False)


def failed(state: State, before: State) -> State:
    """The snapshot that began at `before` was not taken: what was unsaved then still is."""
    return replace(state, unsaved_since=before.unsaved_since)


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.0f} minutes" if seconds >= 120 else f"{seconds:.0f} seconds"
