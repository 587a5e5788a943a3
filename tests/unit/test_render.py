"""How answers look."""

from __future__ import annotations

import json
import os
import sys
from datetime import UTC, datetime, timedelta, timezone

import pytest

from gitvault.cli import render
from gitvault.core.models import Difference, Problem, Project, Snapshot, SnapshotId
from gitvault.core.models.reports import Move
from gitvault.core.utils.sizes import difference

TIME = datetime(2026, 1, 2, 4, 4, 5, 999_999, timezone(timedelta(hours=1)))


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1024 * 1024 - 1, "1.0 MiB"),
        (4_718_592, "4.5 MiB"),
        (3 << 30, "3.0 GiB"),
        (5 << 40, "5.0 TiB"),
    ],
)
def test_sizes(count: int, expected: str) -> None:
    assert render.size(count) == expected


@pytest.mark.parametrize(
    ("before", "after", "expected"), [(2048, 0, "2.0 KiB less"), (1, 1, "0 B less"), (0, 9, "9 B more")]
)
def test_differences_of_sizes(before: int, after: int, expected: str) -> None:
    assert difference(before, after) == expected


def test_differences_are_lists_of_paths() -> None:
    found = Difference((b"a",), (b"caf\xe9",), (), (Move(b"x", b"y"),))
    assert render.difference_document(found) == {
        "added": ["a"],
        "changed": ["caf\\xe9"],
        "deleted": [],
        "moved": [{"from": "x", "to": "y"}],
    }


def test_counts_and_durations() -> None:
    assert render.plural(1, "file") == "1 file"
    assert render.plural(1234, "file") == "1,234 files"
    assert [render.seconds(n) for n in (0.844, 12.3, 200)] == ["0.84 s", "12 s", "3 min 20 s"]


def test_times_are_iso_8601_in_utc() -> None:
    assert render.iso(TIME) == "2026-01-02T03:04:05Z"
    assert render.iso_ns(1_767_323_045 * 10**9 + 1) == "2026-01-02T03:04:05Z"


@pytest.mark.parametrize("ns", [-(1 << 63), (1 << 63) - 1, 10**22, -(10**22)])
def test_a_files_time_that_no_calendar_has_does_not_break_a_list(ns: int) -> None:
    assert render.iso_ns(ns).endswith("Z")
    assert render.local_ns(ns)


def test_people_see_the_systems_time() -> None:
    assert render.local(TIME) == TIME.astimezone().strftime("%Y-%m-%d %H:%M")


@pytest.mark.skipif(sys.platform == "win32", reason="file names there are UTF-16")
def test_a_path_that_is_not_utf_8_is_escaped_in_json() -> None:
    assert render.disk_text(os.fsdecode(b"/tmp/caf\xe9")) == "/tmp/caf\\xe9"


def test_control_characters_never_reach_the_terminal() -> None:
    assert render.line("a\x1b[2Jb\nc\x9b") == "a\\x1b[2Jb\\x0ac\\xc2\\x9b"
    assert render.subject("  first\x07 line\nsecond") == "first\\x07 line"
    assert render.subject(" \n ") == ""


def test_no_control_character_is_raw_in_json() -> None:
    text = render.json_text({"a\x7f": ["\x1b[2J\x9b", "\u00e9"]})
    assert text == '{"a\\u007f": ["\\u001b[2J\\u009b", "\u00e9"]}'
    assert json.loads(text) == {"a\x7f": ["\x1b[2J\x9b", "\u00e9"]}


def test_an_error_names_its_file_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert render.error_text(PermissionError(13, "Permission denied", "/v")) == "/v: Permission denied"
    assert render.error_text(PermissionError(13, "Permission denied", b"/v")) == "/v: Permission denied"
    assert render.error_text(OSError("odd")) == "odd"
    assert render.error_text(TimeoutError()) == "TimeoutError"
    assert render.error_text(ValueError("v")) == "v"
    render.say("two\nlines\x1b")
    assert capsys.readouterr().err == "git-vault: two\\x0alines\\x1b\n"


def test_a_table_is_aligned() -> None:
    assert list(render.table([("a", "1", "x"), ("bbb", "22", "")], right=(1,))) == ["a     1  x", "bbb  22"]


def test_problems_are_all_in_json_and_twenty_for_people() -> None:
    problems = [Problem(b"f%d\xff" % n, "vanished\n") for n in range(25)]
    assert render.problems_document(problems)[24] == {"path": "f24\\xff", "reason": "vanished\n"}
    lines = list(render.problems_lines(problems))
    assert lines[:2] == ["  25 problems:", "    f0\\xff: vanished\\x0a"]
    assert lines[-1] == "    and 5 more; --json lists all"
    assert len(lines) == 22
    assert list(render.problems_lines([])) == []
    assert list(render.problems_lines([Problem(b"a/b.psd", "b.psd: cut off")]))[1] == "    a/b.psd: cut off"


def test_records_in_json() -> None:
    assert render.project_document(Project("acme", "/p/acme", "studio", TIME)) == {
        "name": "acme",
        "path": "/p/acme",
        "host": "studio",
        "added": "2026-01-02T03:04:05Z",
        "client": "",
        "stack": "",
        "phase": "",
        "tags": [],
        "relations": [],
        "mode": "protect",
        "archived": False,
    }
    snapshot = Snapshot(SnapshotId("a" * 40), "acme", TIME, "why", ("t",), {"k": "v"}, 2, 3, "studio", "manual")
    assert render.snapshot_document(snapshot) == {
        "snapshot": "a" * 40,
        "project": "acme",
        "time": "2026-01-02T03:04:05Z",
        "message": "why",
        "tags": ["t"],
        "metadata": {"k": "v"},
        "files": 2,
        "bytes": 3,
        "host": "studio",
        "trigger": "manual",
        "restored_from": None,
    }
    assert len(snapshot.id[: render.SHORT]) == 12


def test_time_is_shown_in_utc_whatever_zone_it_came_in() -> None:
    assert render.iso(datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)) == "2026-01-02T03:04:05Z"
