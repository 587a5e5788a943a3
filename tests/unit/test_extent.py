"""How much one verification reads: shares that take turns, and runs that go on where they were interrupted."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gitvault.core.backup_engine import extent
from gitvault.core.backup_engine.extent import ReadExtent
from gitvault.core.utils.files import Disk, NewFile

NOW = datetime(2026, 1, 1, tzinfo=UTC)
DIGESTS = [hashlib.sha256(b"%d" % n).digest() for n in range(1000)]


def make(cache: Path, *, now: datetime = NOW, disk: Disk | None = None, **options: object) -> ReadExtent:
    return ReadExtent(cache, disk or Disk(), now, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("share", [(1, 1), (1, 30), (2, 7), (3, 3)])
def test_shares_take_turns_until_everything_was_read_once(share: tuple[int, int], tmp_path: Path) -> None:
    parts, of = share
    read: list[bytes] = []
    for _ in range(of):
        run = make(tmp_path, share=share)
        read += filter(run.wants, DIGESTS)
        run.finish()
    assert sorted(read) == sorted(DIGESTS * parts)


def test_a_share_is_its_part_of_the_whole(tmp_path: Path) -> None:
    run = make(tmp_path, share=(1, 10))
    assert 60 < sum(map(run.wants, DIGESTS)) < 140
    assert run.said == "part 1 of 10"
    run.finish()
    assert make(tmp_path, share=(1, 10)).said == "part 2 of 10"
    assert make(tmp_path, share=(2, 10)).said == "parts 2, 3 of 10"
    assert make(tmp_path, share=(1, 11)).said == "part 1 of 11"


def test_an_interrupted_share_is_read_again(tmp_path: Path) -> None:
    run = make(tmp_path, share=(1, 10))
    run.read("a.pack")
    run.end()
    again = make(tmp_path, share=(1, 10))
    assert again.said == "part 1 of 10"
    assert not again.was_read("a.pack")


def test_an_interrupted_run_goes_on(tmp_path: Path) -> None:
    run = make(tmp_path)
    assert all(map(run.wants, DIGESTS))
    run.read("a.pack")
    run.end()
    again = make(tmp_path, now=NOW + timedelta(days=1))
    assert (again.was_read("a.pack"), again.was_read("b.pack")) == (True, False)
    assert again.said == "went on where an interrupted run stopped, 1 files"
    again.read("b.pack")
    again.finish()
    assert not make(tmp_path).was_read("a.pack")


def test_a_killed_run_has_told_how_far_it_came(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extent, "_SAVE_SECONDS", -1.0)
    make(tmp_path).read("a.pack")
    assert make(tmp_path).was_read("a.pack")


@pytest.mark.parametrize("later", [timedelta(days=8), timedelta(days=-1)])
def test_what_was_read_long_ago_or_in_the_future_does_not_count(later: timedelta, tmp_path: Path) -> None:
    run = make(tmp_path)
    run.read("a.pack")
    run.end()
    assert not make(tmp_path, now=NOW + later).was_read("a.pack")


def test_restart(tmp_path: Path) -> None:
    run = make(tmp_path)
    run.read("a.pack")
    run.end()
    assert not make(tmp_path, restart=True).was_read("a.pack")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"of":"x","next":0,"since":null,"packs":[]}',
        '{"of":1,"next":0,"since":"2026-01-01T00:00:00","packs":["a"]}',
    ],
)
def test_a_damaged_note_is_as_none(text: str, tmp_path: Path) -> None:
    (tmp_path / "verify.json").write_text(text)
    assert not make(tmp_path).was_read("a")
    assert make(tmp_path, share=(1, 3)).said == "part 1 of 3"


def test_a_share_and_a_whole_run_do_not_disturb_each_other(tmp_path: Path) -> None:
    whole = make(tmp_path)
    whole.read("a.pack")
    whole.end()
    make(tmp_path, share=(1, 5)).finish()
    assert make(tmp_path).was_read("a.pack")
    make(tmp_path).finish()
    assert json.loads((tmp_path / "verify.json").read_text())["next"] == 1


class ReadOnly(Disk):
    def create(self, path: Path, mode: int = 0o600) -> NewFile:
        raise PermissionError(13, "read-only", str(path))


def test_a_vault_that_cannot_be_written_is_verified_all_the_same(tmp_path: Path) -> None:
    run = make(tmp_path, disk=ReadOnly())
    run.read("a.pack")
    run.finish()
    assert not (tmp_path / "verify.json").exists()
