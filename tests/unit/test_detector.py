"""When a snapshot is due, told by events and a clock that tests set."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import pytest

from gitvault.personas.code.activity import detector
from gitvault.personas.code.activity.detector import (
    BURST_FILES,
    BUSY_LOAD,
    OUTPUT_SECONDS,
    PAUSE_SECONDS,
    SAME_SAVE_SECONDS,
    SESSION_SAVES,
    SESSION_SECONDS,
    Around,
    Decision,
    Notice,
    State,
    Timing,
    closed,
    decide,
    failed,
    in_session,
    kind,
    taken,
)

CALM = Around()


@dataclass
class Day:
    """A project, its clock, and the snapshots that would have been taken."""

    timing: Timing = field(default_factory=Timing)
    around: Around = CALM
    now: float = 0.0
    state: State = field(default_factory=State)
    taken: list[tuple[float, str]] = field(default_factory=list)
    oldest: float = 0.0
    """The longest that anything was in no snapshot."""

    def change(self, *paths: str, kept: bool = True) -> None:
        self.state = detector.observe(self.state, [Notice(p.encode(), kept) for p in paths], self.now)

    def heartbeat(self, is_write: bool) -> None:
        self.state = detector.heartbeat(self.state, is_write, self.now)

    def run(self, seconds: float) -> list[str]:
        """Let time go by as the watcher does: from one wake to the next; the reasons of the snapshots taken."""
        end = self.now + seconds
        reasons: list[str] = []
        while True:
            decision = decide(self.state, self.now, self.around, self.timing)
            if self.state.unsaved_since is not None:
                self.oldest = max(self.oldest, self.now - self.state.unsaved_since)
            if decision.snapshot:
                reasons.append(decision.reason)
                self.taken.append((self.now, decision.reason))
                self.state = taken(self.state)
                continue
            wake = end + 1 if decision.wake is None else max(decision.wake, self.now + 0.001)
            if wake > end:
                self.now = end
                return reasons
            self.now = wake


def test_a_session_is_saved_after_90_seconds_of_quiet() -> None:
    day = Day()
    day.change("a.py")
    assert day.run(60) == []
    assert not in_session(day.state, day.now)
    day.change("b.py")
    assert in_session(day.state, day.now)
    assert day.run(89) == []
    assert day.run(2) == ["90 s of quiet in a session"]
    assert day.run(8 * 3600) == []


def test_one_save_is_no_session_and_is_saved_after_15_minutes() -> None:
    day = Day()
    day.change("a.py")
    assert day.run(899) == []
    assert day.run(2) == ["unsaved for 15 minutes"]


def test_saves_further_apart_than_two_minutes_are_no_session() -> None:
    day = Day()
    for _ in range(SESSION_SAVES):
        day.change("a.py")
        assert not in_session(day.state, day.now)
        day.run(SESSION_SECONDS + 1)


def test_work_without_a_pause_is_saved_every_15_minutes() -> None:
    day = Day()
    for _ in range(60):
        day.change("a.py")
        day.run(60)
    assert [at for at, _ in day.taken] == [900, 1800, 2700, 3600]
    assert day.oldest <= 901 + SAME_SAVE_SECONDS


@pytest.mark.parametrize(
    "steps",
    [
        ["4913", "a.py~", "a.py", "a.py"],
        [".a.py.swp", "a.py", ".a.py.swp"],
        ["a.py___jb_tmp___", "a.py___jb_old___", "a.py"],
        [".goutputstream-X1Y2Z3", "a.py"],
        ["sedAbC123", "a.py"],
        [".a.py.tmp", "a.py"],
        ["#a.py#", ".#a.py", "a.py"],
    ],
)
def test_an_atomic_save_is_one_save(steps: list[str]) -> None:
    day = Day()
    for step in steps:
        day.change(step)
        day.now += 0.01
    assert len(day.state.saves) == 1


@pytest.mark.parametrize("lock", [".#a.py", ".~lock.a.odt#", ".a.py.swp", "src/.b.py.swo", "4913"])
def test_a_lock_of_an_editor_is_nothing_to_save(lock: str) -> None:
    day = Day()
    day.change(lock)
    assert day.state.unsaved_since is None
    assert decide(day.state, 9, CALM, day.timing) == Decision(False, "nothing changed")
    assert day.run(3600) == []


def test_with_a_file_open_in_an_editor_the_first_save_begins_the_session() -> None:
    day = Day()
    day.change(".a.py.swp")
    day.change("a.py")
    assert in_session(day.state, day.now)
    assert closed(day.state, b".a.py.swp").editors == frozenset()


@pytest.mark.parametrize(
    ("path", "meaning"),
    [
        (".git/HEAD", "ref"),
        (".git/refs/heads/feature/x", "ref"),
        (".git/refs/heads/main.lock", "vcs"),
        (".git/logs/HEAD", "ref"),
        (".git/packed-refs", "ref"),
        (".git/index.lock", "vcs"),
        (".git", "vcs"),
        ("sub/.git/HEAD", "ref"),
        (".hg/bookmarks", "ref"),
        (".hg/store/00changelog.i", "ref"),
        (".svn/wc.db", "ref"),
        (".gitignore", "save"),
        ("my.git/HEAD", "save"),
        ("src/HEAD", "save"),
        (".env", "save"),
        ("~$report.docx", "scratch"),
        ("notes.tmp.md", "save"),
    ],
)
def test_what_a_path_means(path: str, meaning: str) -> None:
    assert kind(path.encode()) == meaning


def test_a_commit_is_saved_when_it_has_come_to_rest() -> None:
    day = Day()
    day.change("a.py")
    day.run(20)
    day.change(".git/index.lock", ".git/HEAD", ".git/logs/HEAD")
    assert day.run(SAME_SAVE_SECONDS) == ["a commit or a change of branch"]


def test_a_branch_switch_is_one_snapshot_and_no_session() -> None:
    day = Day()
    day.change(".git/HEAD", *(f"src/{n}.py" for n in range(200)))
    assert day.run(600) == ["a commit or a change of branch"]
    assert not in_session(day.state, day.now)


def test_never_in_the_middle_of_a_rebase() -> None:
    day = Day(around=Around(operation="a rebase"))
    for _ in range(20):
        day.change(".git/HEAD", "a.py")
        assert day.run(30) == []
    day.around = CALM
    assert day.run(15) == ["a commit or a change of branch"]


def test_never_in_the_middle_of_a_build_and_soon_after_it() -> None:
    day = Day()
    day.change("a.py")
    for _ in range(100):
        day.change("target/debug/x.o", kept=False)
        assert day.run(OUTPUT_SECONDS - 1) == []
    assert day.run(OUTPUT_SECONDS) == ["a build, a test run or another program's work"]


def test_a_build_that_changes_no_source_is_nothing_to_save() -> None:
    day = Day()
    day.change("target/debug/x.o", kept=False)
    assert day.run(3600) == []


def test_a_burst_is_the_work_of_a_program() -> None:
    day = Day()
    day.change(*(f"generated/{n}.c" for n in range(BURST_FILES + 1)))
    assert not in_session(day.state, day.now)
    assert day.run(OUTPUT_SECONDS) == ["a build, a test run or another program's work"]


def test_the_window_holds_whatever_goes_on() -> None:
    """A build that never ends, a rebase that is never finished."""
    for day, output in ((Day(around=Around(operation="a rebase")), False), (Day(), True)):
        day.change("a.py")
        for _ in range(3 * 720):
            if output:
                day.change("dist/x", kept=False)
            day.run(5)
        assert [at for at, _ in day.taken] == [day.timing.window]
        assert day.oldest == day.timing.window


@pytest.mark.parametrize("around", [Around(load=BUSY_LOAD + 0.1), Around(battery=True)])
def test_a_strained_machine_is_given_time(around: Around) -> None:
    assert around.strained
    day = Day(around=around)
    day.change("a.py")
    day.change("b.py")
    assert day.run(179) == []
    assert day.run(2) == ["180 s of quiet in a session"]
    day.change("c.py")
    day.state = State(unsaved_since=day.now, last_change=day.now)
    assert day.run(1799) == []


def test_heartbeats_make_a_session_and_saves() -> None:
    day = Day()
    day.heartbeat(False)
    assert in_session(day.state, day.now)
    day.change("a.py")
    assert day.run(91) == ["90 s of quiet in a session"]
    day.run(PAUSE_SECONDS)
    assert not in_session(day.state, day.now)
    day.heartbeat(True)
    day.heartbeat(True)
    assert in_session(day.state, day.now)
    assert day.state.unsaved_since is None, "it is the change on disk that is saved"


def test_after_a_long_pause_it_is_another_session() -> None:
    day = Day()
    day.change("a.py")
    day.change("b.py")
    day.run(100)
    first = day.state.session_saves
    assert first == 2
    day.now += PAUSE_SECONDS + 1
    day.change("c.py")
    assert not in_session(day.state, day.now)
    day.now += 5
    day.change("d.py")
    assert in_session(day.state, day.now) and day.state.session_saves == 2


def test_what_a_failed_snapshot_would_have_held_is_still_unsaved() -> None:
    day = Day()
    day.change("a.py")
    before, during = day.state, taken(day.state)
    day.now = 50
    day.state = during
    day.change("b.py")
    assert failed(day.state, before).unsaved_since == 0


def working_day(chance: random.Random) -> Iterator[tuple[float, list[Notice]]]:
    """Eight hours: saves in bouts, test runs, commits, branch switches, meetings."""
    now = 0.0
    while now < 8 * 3600:
        what = chance.random()
        if what < 0.80:
            now += chance.expovariate(1 / 45)
            yield now, [Notice(f"src/m{chance.randrange(40)}.py".encode())]
        elif what < 0.90:
            now += 5
            yield now, [Notice(b"__pycache__/x.pyc", kept=False), Notice(b".pytest_cache/v", kept=False)]
        elif what < 0.95:
            now += 20
            yield now, [Notice(b".git/index.lock"), Notice(b".git/logs/HEAD")]
        elif what < 0.97:
            now += 30
            yield now, [Notice(b".git/HEAD"), *(Notice(f"src/m{n}.py".encode()) for n in range(60))]
        else:
            now += chance.uniform(600, 3600)


def replay(events: Iterable[tuple[float, list[Notice]]]) -> Day:
    """A day, as the detector would have it saved."""
    day = Day()
    for at, notices in events:
        day.run(at - day.now)
        day.state = detector.observe(day.state, notices, day.now)
    day.run(2 * 3600)
    return day


@pytest.mark.parametrize("seed", range(5))
def test_a_working_day(seed: int) -> None:
    """Nothing is unsaved for longer than the window, and the snapshots are few."""
    day = replay(working_day(random.Random(seed)))
    assert 20 < len(day.taken) < 250
    assert day.oldest <= day.timing.window
    assert day.state.unsaved_since is None
