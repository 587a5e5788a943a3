"""What the watcher is told and tells: heartbeats, settings, surroundings, the list, services' files."""

from __future__ import annotations

import json
import plistlib
import subprocess
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path

import pytest

from gitvault.core.touched import MOST, Touched
from gitvault.core.utils.files import Disk
from gitvault.errors import ConfigError, GitVaultError, ToolMissing
from gitvault.personas.code.activity import service, settings
from gitvault.personas.code.activity.detector import Timing
from gitvault.personas.code.activity.heartbeat import FILE, Heartbeat, HeartbeatFile, parse
from gitvault.personas.code.activity.surroundings import around, on_battery, operation
from gitvault.personas.code.activity.touched_list import TouchedList, relative

# ---------------------------------------------------------------------------------------- heartbeats


def test_heartbeats_are_wakatimes() -> None:
    one = {"entity": "/work/a.py", "type": "file", "time": 1700000000.5, "is_write": True, "project": "acme"}
    assert parse(one) == [Heartbeat("/work/a.py", True, 1700000000.5)]
    assert parse([one, {"entity": "/work/b.py"}])[1] == Heartbeat("/work/b.py", False)


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ("text", "expected an object with `entity`, found str"),
        ({"entity": "a.py"}, "expected an absolute path as `entity`, found 'a.py'"),
        ({}, "expected an absolute path as `entity`, found None"),
        ({"entity": "/a", "time": "now"}, "expected seconds since 1970 as `time`, found 'now'"),
    ],
)
def test_what_is_no_heartbeat_is_named(document: object, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse(document)


def test_the_file_of_heartbeats_is_read_from_where_it_was(tmp_path: Path) -> None:
    path = tmp_path / FILE
    path.write_text(json.dumps({"entity": "/old"}) + "\n")
    file = HeartbeatFile(path)
    assert file.read(1000) == []
    with path.open("a") as out:
        out.write('{"entity": "/new", "time": 990}\nnonsense\n{"entity": "/late", "time": 10}\n{"entity": "/ha')
    assert [beat.entity for beat in file.read(1000)] == ["/new"]
    with path.open("a") as out:
        out.write('lf"}\n')
    assert [beat.entity for beat in file.read(1000)] == ["/half"]
    path.write_text('{"entity": "/anew"}\n')
    assert [beat.entity for beat in file.read(1000)] == ["/anew"]


# ------------------------------------------------------------------------------------------ settings


@pytest.fixture
def frame(tmp_path: Path) -> Path:
    subprocess.run(["git", "init", "-q", "--bare", tmp_path / "v"], check=True)
    return tmp_path / "v"


def test_settings(frame: Path) -> None:
    assert settings.load(frame) == settings.Settings(Timing(90, 900), 1800)
    with (frame / "config").open("a") as config:
        config.write('[vault "watch"]\n\tquiet = 5\n\trescan = 600\n')
    assert settings.load(frame) == settings.Settings(Timing(5, 900), 600)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("quite = 5", "vault.watch.quite: unknown setting; known are vault.watch.quiet, "),
        ("quiet = soon", "vault.watch.quiet: found 'soon', expected a number of seconds from 1 to 3600"),
        ("interval = 0", "from 5 to 86400"),
    ],
)
def test_wrong_settings_are_named(frame: Path, line: str, said: str) -> None:
    with (frame / "config").open("a") as config:
        config.write(f'[vault "watch"]\n\t{line}\n')
    with pytest.raises(ConfigError, match=said):
        settings.load(frame)


# -------------------------------------------------------------------------------------- surroundings


@pytest.mark.parametrize(
    ("marker", "what"),
    [("rebase-merge", "a rebase"), ("MERGE_HEAD", "a merge"), ("index.lock", "git is writing"), ("config", "")],
)
def test_what_version_control_is_in_the_middle_of(tmp_path: Path, marker: str, what: str) -> None:
    (tmp_path / marker).touch()
    assert operation([bytes(tmp_path / "none"), bytes(tmp_path)]) == what
    assert around([bytes(tmp_path)]).operation == what


def test_a_battery_in_use(tmp_path: Path) -> None:
    assert not on_battery(tmp_path)
    (tmp_path / "BAT0").mkdir()
    for status, in_use in (("Discharging\n", True), ("Full\n", False)):
        (tmp_path / "BAT0" / "status").write_text(status)
        assert on_battery(tmp_path) is in_use
        assert around([], tmp_path).battery is in_use


# ------------------------------------------------------------------------------------------ the list


def test_a_list_tells_what_came_after_the_mark() -> None:
    listed = TouchedList()
    first = listed.answer(b"")
    assert first.folders is None
    listed.touch(b"a")
    second = listed.answer(first.mark)
    assert second.folders == {b"a"}
    listed.touch_below(b"b")
    third = listed.answer(second.mark)
    assert (third.folders, third.below) == (frozenset(), {b"b"})


def test_who_asks_with_an_older_mark_is_told_all_since_then() -> None:
    """Snapshots and verdicts ask with marks of their own."""
    listed = TouchedList()
    old = listed.answer(b"")
    listed.touch(b"a")
    new = listed.answer(old.mark)
    listed.touch(b"b")
    assert listed.answer(new.mark).folders == {b"b"}
    assert listed.answer(old.mark).folders == {b"a", b"b"}


def test_a_mark_of_another_list_is_answered_with_everything() -> None:
    listed, other = TouchedList(), TouchedList()
    assert listed.answer(listed.answer(b"").mark).folders == frozenset()
    for mark in (b"nonsense", b"\xff 1", other.answer(b"").mark):
        assert listed.answer(mark).folders is None


def test_what_was_touched_longest_ago_is_forgotten_first() -> None:
    listed = TouchedList()
    marks = [listed.answer(b"").mark]
    for number in range(30_000):
        if number % 500 == 0:
            marks.append(listed.answer(marks[-1]).mark)
        listed.touch(b"%d" % number)
    assert listed.answer(marks[1]).folders is None
    assert listed.answer(marks[-1]).folders == {b"%d" % number for number in range(29_500, 30_000)}


def test_too_much_is_everything() -> None:
    listed = TouchedList()
    mark = listed.answer(b"").mark
    for number in range(MOST + 1):
        listed.touch(b"%d" % number)
    assert "more than 1,000" in listed.answer(mark).reason
    for touch in (listed.touch, listed.touch_below):
        mark = listed.answer(b"").mark
        for number in range(20_001):
            touch(b"%d" % number)
        assert listed.answer(mark).folders is None


def test_doubt_lasts_until_the_next_look_and_distrust_for_good() -> None:
    listed = TouchedList()
    mark = listed.answer(b"").mark
    listed.doubt("who knows")
    answer = listed.answer(mark)
    assert (answer.folders, answer.reason) == (None, "who knows")
    assert listed.answer(answer.mark).folders == frozenset()
    listed.touch_below(b"")
    assert listed.answer(answer.mark).folders is None
    listed.distrust("wrong")
    listed.distrust("wrong again")
    for _ in range(2):
        answer = listed.answer(answer.mark)
        assert (answer.mark, answer.folders, answer.reason) == (b"", None, "wrong")
    assert listed.distrusted == "wrong"


def test_what_an_answer_covers() -> None:
    touched = Touched(b"", frozenset({b"a/b"}), frozenset({b"c"}))
    assert [touched.covers(p) for p in (b"a/b", b"a", b"a/b/c", b"c", b"c/d/e", b"cd")] == [1, 0, 0, 1, 1, 0]
    assert touched.on_the_way() == {b"", b"a", b"a/b", b"c"}
    assert Touched(b"", None).covers(b"anything")


def test_paths_within_a_project() -> None:
    assert relative("/w/p", "/w/p") == b""
    assert relative("/w/p/a/b", "/w/p") == b"a/b"
    assert relative("/w/pq", "/w/p") is None


# ------------------------------------------------------------------------------------------- service

COMMAND = ["/opt/git vault", "--vault", '/va%u"lt & <co>', "watch"]


def test_the_unit_for_systemd(tmp_path: Path) -> None:
    text = service.systemd_unit(COMMAND)
    assert '''ExecStart="/opt/git vault" "--vault" "/va%%u\\"lt & <co>" "watch"''' in text
    assert "Restart=on-failure" in text and "WantedBy=default.target" in text


@pytest.mark.needs("systemd-analyze")
def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    file = tmp_path / "git-vault.service"
    file.write_text(service.systemd_unit(["/bin/true", "--vault", "/a b%c", "watch"]))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--user", file], capture_output=True, text=True, check=False, timeout=120
    )
    assert "git-vault.service" not in done.stderr


def test_the_property_list_for_launchd() -> None:
    read = plistlib.loads(service.launchd_plist(COMMAND).encode())
    assert read["ProgramArguments"] == COMMAND
    assert read["RunAtLoad"] and read["ProcessType"] == "Background"


def test_the_task_for_windows() -> None:
    tree = ET.fromstring(service.task_xml(COMMAND))
    space = "{http://schemas.microsoft.com/windows/2004/02/mit/task}"
    assert tree.findtext(f".//{space}Command") == COMMAND[0]
    assert tree.findtext(f".//{space}Arguments") == '--vault "/va%u"lt & <co>" watch'


@pytest.mark.parametrize(
    ("system", "name", "starts"),
    [
        ("linux", "systemd", ["systemctl --user daemon-reload", "systemctl --user enable --now git-vault.service"]),
        ("darwin", "launchd", ["launchctl load -w FILE"]),
        (
            "win32",
            "task-scheduler",
            ["schtasks /Create /F /TN git-vault watch /XML FILE", "schtasks /Run /TN git-vault watch"],
        ),
    ],
)
def test_a_service_is_installed_and_removed(tmp_path: Path, system: str, name: str, starts: list[str]) -> None:
    ran: list[str] = []

    def run(command: Sequence[str]) -> bytes:
        ran.append(" ".join(command).replace(str(tmp_path), "HOME"))
        return b""

    where = service.place(system, tmp_path, tmp_path / ".config")
    assert where.system == name
    assert service.install(where, COMMAND, Disk(), run) == ""
    assert where.file.read_text() == service.text(name, COMMAND)
    file = str(where.file).replace(str(tmp_path), "HOME")
    assert ran == [start.replace("FILE", file) for start in starts]
    assert service.is_running(where, run)
    assert service.uninstall(where, Disk(), run) == ""
    assert not where.file.exists()


def test_a_service_that_cannot_be_started_is_said(tmp_path: Path) -> None:
    def run(command: Sequence[str]) -> bytes:
        raise ToolMissing("systemctl: not found")

    where = service.place("linux", tmp_path, tmp_path)
    assert service.install(where, COMMAND, Disk(), run) == "systemctl --user daemon-reload: systemctl: not found"
    assert not service.is_running(where, run)
    with pytest.raises(GitVaultError, match="plan9: no manager of services is known there"):
        service.place("plan9", tmp_path, tmp_path)
