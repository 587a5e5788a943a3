"""The watcher as people run it: sessions saved, one for a vault, killed, started again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gitvault.core.touched import ask
from gitvault.core.utils.lock import only_one
from gitvault.errors import LockedError, NotFoundError, ToolMissing
from gitvault.personas.code.activity import detector
from gitvault.personas.code.activity.detector import Around, Timing
from gitvault.personas.code.activity.heartbeat import FILE
from gitvault.personas.code.activity.settings import Settings
from gitvault.personas.code.activity.watcher import LOCK, Watcher
from gitvault.vault import Vault

ROOT = Path(__file__).parent.parent.parent
Command = Callable[..., subprocess.CompletedProcess[str]]


def until(true: Callable[[], object], seconds: float = 120) -> None:
    """Wait for something to be so."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come to be"
        time.sleep(0.05)


class Process:
    """`git-vault watch --json` in a process of its own."""

    def __init__(self, vault: Path, *projects: str) -> None:
        words = [sys.executable, "-m", "gitvault", "--vault", str(vault), "watch", "--json", *projects]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONFAULTHANDLER": "1"}
        self.process = subprocess.Popen(
            words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, cwd=vault
        )
        assert self.process.stdout and self.process.stderr
        self.lines: list[str] = []

    def until(self, event: str) -> dict[str, str]:
        """Read until something happened."""
        assert self.process.stdout
        for line in self.process.stdout:
            self.lines.append(line)
            happened = json.loads(line.strip().strip("[],"))
            if happened["event"] == event:
                return happened  # type: ignore[no-any-return]
        raise AssertionError(f"no {event} in {self.lines}")

    def end(self, how: int = signal.SIGTERM) -> tuple[int, list[dict[str, str]]]:
        """Stop it; its exit code and the document it printed."""
        self.process.send_signal(how)
        out, said = self.process.communicate(timeout=60)
        assert "Traceback" not in said
        self.lines.append(out)
        return self.process.returncode, json.loads("".join(self.lines)) if how != signal.SIGKILL else []


@pytest.fixture
def start(vault: Vault) -> Iterator[Callable[..., Process]]:
    with (vault.path / "config").open("a") as config:
        config.write('[vault "watch"]\n\tquiet = 1\n')
    started: list[Process] = []

    def run(*projects: str) -> Process:
        started.append(Process(vault.path, *projects))
        return started[-1]

    yield run
    for process in started:
        process.process.kill()
        process.process.communicate()


@pytest.fixture
def work(vault: Vault, tmp_path: Path) -> Path:
    """A registered project."""
    root = tmp_path / "work"
    (root / "src").mkdir(parents=True)
    (root / "src" / "a.py").write_text("1")
    vault.add_project(root)
    return root


def save(path: Path, text: str) -> None:
    """As an editor does it."""
    path.with_name(f".{path.name}.tmp").write_text(text)
    os.replace(path.with_name(f".{path.name}.tmp"), path)


def test_a_session_is_saved_and_the_watcher_ends_when_told(
    vault: Vault, work: Path, start: Callable[..., Process]
) -> None:
    watcher = start()
    assert watcher.until("snapshot")["detail"] == "the watcher begins"
    save(work / "src" / "a.py", "2")
    save(work / "src" / "b.py", "3")
    assert watcher.until("session")["project"] == "work"
    saved = watcher.until("snapshot")
    assert "of quiet in a session" in saved["detail"]
    snapshot = vault.get_snapshot_info(saved["snapshot"])
    assert (snapshot.trigger, snapshot.message) == ("session", "work: 1 new, 1 changed")
    code, document = watcher.end()
    assert code == 0
    assert [one["event"] for one in document] == ["watching", "snapshot", "session", "snapshot"]
    assert not (vault.path / "cache" / "watch.sock").exists()


def test_a_vault_has_one_watcher(vault: Vault, work: Path, start: Callable[..., Process], command: Command) -> None:
    watcher = start()
    watcher.until("watching")
    second = command("watch")
    assert second.returncode == 11
    assert f"{vault.path}: has a watcher already" in second.stderr
    with pytest.raises(LockedError), only_one(vault.path / "cache" / LOCK, "busy"):
        pass
    assert command("watch", "nonsense").returncode == 128
    with pytest.raises(NotFoundError):
        Watcher(vault, ["nonsense"], Settings())


def test_a_watcher_that_was_killed_is_started_again_and_saves_what_was_missed(
    vault: Vault, work: Path, start: Callable[..., Process]
) -> None:
    first = start()
    first.until("snapshot")
    save(work / "src" / "a.py", "changed, and not saved yet")
    first.end(signal.SIGKILL)
    save(work / "src" / "b.py", "changed while nobody watched")
    assert vault.create_snapshot(work).new == 1
    save(work / "src" / "b.py", "changed again")
    second = start()
    caught_up = second.until("snapshot")
    assert caught_up["detail"] == "the watcher begins"
    assert vault.get_snapshot_info(caught_up["snapshot"]).message == "work: 1 changed"
    assert second.end(signal.SIGINT)[0] == 0


def test_what_a_kill_leaves_unsaved_is_younger_than_the_window(
    vault: Vault, work: Path, start: Callable[..., Process]
) -> None:
    """No session, no quiet: a change waits for the interval and no longer."""
    with (vault.path / "config").open("a") as config:
        config.write("\tinterval = 5\n")
    watcher = start()
    watcher.until("snapshot")
    began = time.monotonic()
    save(work / "src" / "a.py", "alone")
    assert watcher.until("snapshot")["detail"].startswith("unsaved for ")
    # The window is 10 s, and a busy machine needs longer for anything; without the setting it is a quarter of an hour.
    assert 5 <= time.monotonic() - began < 120
    watcher.end(signal.SIGKILL)


@pytest.mark.needs("git")
def test_a_rebase_is_waited_for_and_a_commit_saved(vault: Vault, work: Path, start: Callable[..., Process]) -> None:
    def git(*words: str) -> None:
        subprocess.run(["git", "-C", work, *words], check=True, capture_output=True)

    git("init")
    watcher = start()
    watcher.until("snapshot")
    (work / ".git" / "rebase-merge").mkdir()
    save(work / "src" / "a.py", "half way")
    save(work / "src" / "b.py", "half way")
    before = vault.get_snapshot_info("work").id
    time.sleep(5)
    assert vault.get_snapshot_info("work").id == before
    git("add", ".")
    git("commit", "-m", "done")
    (work / ".git" / "rebase-merge").rmdir()
    assert watcher.until("snapshot")["detail"] == "a commit or a change of branch"


def test_heartbeats_by_socket_and_by_file(
    vault: Vault, work: Path, start: Callable[..., Process], command: Command
) -> None:
    caches = vault.path / "cache"
    watcher = start()
    watcher.until("snapshot")
    assert command("service", "status").returncode == 0
    beat = {"entity": str(work / "src" / "a.py"), "time": time.time(), "is_write": False}
    assert ask(caches, beat) == {"taken": 1}
    assert watcher.until("session")["detail"] == "begins"
    assert ask(caches, {**beat, "entity": "/elsewhere/x"}) == {"taken": 0}
    state = ask(caches, {"state": True})
    assert state and state["projects"][0]["session"] is True
    with (caches / FILE).open("a") as file:
        file.write(json.dumps({**beat, "is_write": True}) + "\n")
    watcher.end()


def test_a_project_that_is_added_is_watched(
    vault: Vault, work: Path, tmp_path: Path, start: Callable[..., Process]
) -> None:
    watcher = start()
    watcher.until("snapshot")
    other = tmp_path / "other"
    other.mkdir()
    (other / "x").write_text("1")
    vault.create_snapshot(other)
    assert watcher.until("watching")["project"] == "other"


def test_a_snapshot_that_fails_is_said_and_tried_again(vault: Vault, work: Path, start: Callable[..., Process]) -> None:
    watcher = start()
    watcher.until("snapshot")
    for name in sorted(os.listdir(work / "src")):
        (work / "src" / name).unlink()
    (work / "src").rmdir()
    work.rmdir()
    failed = watcher.until("failed")
    assert failed["project"] == "work" and "work" in failed["detail"]


def test_watchfiles_tells_of_changes_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What other systems are watched with."""
    from gitvault.core.patterns import Patterns
    from gitvault.personas.code.activity.watchfiles import Watchfiles

    (tmp_path / "out" / "deep").mkdir(parents=True)
    (tmp_path / ".git").mkdir()
    source = Watchfiles(tmp_path, Patterns(["out/"]))
    try:
        found: dict[bytes, bool] = {}

        # It does not say from when on it watches.
        def both() -> bool:
            (tmp_path / "a.py").write_text("1")
            (tmp_path / "out" / "deep" / "x.o").write_text("1")
            source.check()
            found.update((notice.path, notice.kept) for notice in source.read())
            return {b"a.py", b"out/deep/x.o"} <= found.keys()

        until(both)
        assert (found[b"a.py"], found[b"out/deep/x.o"]) == (True, False)
        assert set(source.repositories) == {b".git"}
        assert source.fileno() >= 0
    finally:
        source.close()
    monkeypatch.setitem(sys.modules, "watchfiles", None)
    with pytest.raises(ToolMissing, match="pip install gitvault"):
        Watchfiles(tmp_path, Patterns())


def test_without_any_source_projects_are_looked_at_at_intervals(
    vault: Vault, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gitvault.personas.code.activity import watcher as module

    def none(*_: object) -> None:
        raise ToolMissing("watchfiles: not installed; pip install gitvault[code]")

    monkeypatch.setattr(module, "_source", none)
    watcher = Watcher(vault, (), Settings())
    happened = watcher.run()
    assert next(happened).event == "watching"
    assert "it is looked at every 15 minutes" in next(happened).detail
    assert next(happened).event == "snapshot"
    watcher.stop()
    assert list(happened) == []


def test_what_is_worth_saving_seldom_waits_and_the_busier_project_is_first(
    vault: Vault, work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`[every]` of a user: such a file alone has no snapshot taken before its time; any other takes it along."""
    (work / ".gitvault.toml").write_text('[every]\nasset = "4 hours"\n')
    busy = tmp_path / "zoo"
    busy.mkdir()
    for text in "123":
        (busy / "a").write_text(text)
        vault.create_snapshot(busy)
    now = [1000.0]
    watcher = Watcher(
        vault,
        (),
        Settings(Timing(quiet=60, interval=900), 86_400),
        clock=lambda: now[0],
        surroundings=lambda _: Around(),
    )
    started: list[tuple[str, str]] = []

    def start(watched: Any, reason: str, *, scan: bool = False) -> None:
        watcher._take_in(watched)
        watched.state, watched.due, watched.later = detector.taken(watched.state), "", float("inf")
        started.append((watched.project.name, reason))

    monkeypatch.setattr(watcher, "_start_snapshot", start)
    watcher._follow_catalog()
    watcher._step()
    assert [name for name, _ in started] == ["zoo", "work"], "three snapshots of late, and none"

    def after(seconds: float) -> list[tuple[str, str]]:
        started.clear()
        for watched in watcher._watched.values():
            watcher._take_in(watched)
        now[0] += seconds
        watcher._step()
        return started

    after(10_000)
    (work / "film.mp4").write_bytes(b"\0" * 100)
    assert after(14_000) == []
    assert after(500) == [("work", "what is saved seldom has waited long enough")]
    (work / "film.mp4").write_bytes(b"\1" * 100)
    assert after(1000) == []
    (work / "src" / "a.py").write_text("2")
    [(name, reason)] = after(1000)
    assert name == "work" and "seldom" not in reason
    assert after(15_000) == [], "the film was saved with it"
    (work / ".gitvault.toml").write_text("[every\n")
    after(1000)
    (work / "film.mp4").write_bytes(b"\2" * 100)
    assert after(1000), "what cannot be understood delays nothing"
    watcher._close()
