"""Which snapshot a name means on a remote of several machines, also where one of them means harm."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pyrage
import pytest
from away import Counted, fill, made, opened, pushed, quiet, remote_of, told_of
from servers import S3
from trees import contents

from gitvault.cli import main
from gitvault.cli.remote import hidden_lines
from gitvault.core.backup_engine.retention import Retention
from gitvault.core.models import ObjectId
from gitvault.core.versioning.naming import named_project
from gitvault.remotes import fetch, lines, partial, records, settings
from gitvault.remotes.opening import open_remote
from gitvault.remotes.push import push
from gitvault.remotes.records import Record
from gitvault.vault import Vault


@pytest.fixture
def desk(tmp_path: Path, place: Counted) -> Iterator[Vault]:
    """`work` in three snapshots with other files, each pushed."""
    (tmp_path / "work").mkdir()
    with made(tmp_path / "desk.git", "desk") as vault:
        for seed in (1, 2, 3):
            fill(tmp_path / "work", seed, size=20_000)
            vault.create_snapshot(tmp_path / "work")
            pushed(vault, place)
        yield vault


def joined(place: Counted, folder: Path, machine: str, hour: int) -> Vault:
    vault, _ = fetch.clone(remote_of(None, place), "/nowhere", folder, {}, progress=quiet)
    vault.close()
    return opened(folder, machine, hour)


def sent(vault: Vault, place: Counted) -> None:
    push(vault, remote_of(vault, place, "origin"), settings.get(vault.path, "origin"), progress=quiet)


def restored(place: Counted, name: str, target: Path) -> tuple[str, list[str]]:
    """What a restore without a vault took, and what it said of lines that are hidden."""
    remote = remote_of(None, place)
    report = partial.restore(remote, told_of(), name, str(target), progress=quiet)
    assert not report.problems
    return report.snapshot, list(remote.hidden)


def put(place: Counted, record: Record) -> None:
    place.put(records.name_of(record), record.encode())


def only(place: Counted, vault: Vault) -> Record:
    [record] = remote_of(None, place).records(vault.config.id).values()
    return record


def first(place: Counted, vault: Vault) -> Record:
    return next(one for one in remote_of(None, place).every_record(vault.config.id) if one.number == 1)


def test_the_newest_counts_and_not_who_pushed_last(desk: Vault, place: Counted, tmp_path: Path) -> None:
    with joined(place, tmp_path / "laptop.git", "laptop", 9) as laptop:
        fill(tmp_path / "work", 4, size=20_000)
        newest = desk.create_snapshot(tmp_path / "work").snapshot
        pushed(desk, place)
        (tmp_path / "other").mkdir()
        fill(tmp_path / "other", 5, size=20_000)
        laptop.create_snapshot(tmp_path / "other")
        # It knows nothing of the snapshot that the desk pushed since.
        sent(laptop, place)
    assert restored(place, "work", tmp_path / "out") == (newest, [])
    assert contents(tmp_path / "out") == contents(tmp_path / "work")
    look, _ = partial.clone_to_inspect(remote_of(None, place), "/nowhere", tmp_path / "look.git", {})
    with look:
        assert look.history.projects() == ["other", "work"]
        assert look.resolve("work") == newest


def test_lines_that_went_separate_ways_keep_their_names_and_times(desk: Vault, place: Counted, tmp_path: Path) -> None:
    with joined(place, tmp_path / "laptop.git", "laptop", 9) as laptop:
        fill(tmp_path / "work", 4, size=20_000)
        os.utime(tmp_path / "work" / "mid.bin", (1_600_000_000, 1_600_000_000))
        mine = desk.create_snapshot(tmp_path / "work").snapshot
        pushed(desk, place)
        (tmp_path / "mine").mkdir()
        fill(tmp_path / "mine", 5, size=20_000)
        laptop.move_project("work", tmp_path / "mine")
        theirs = laptop.create_snapshot(tmp_path / "mine", project="work").snapshot
        sent(laptop, place)
    assert restored(place, "work", tmp_path / "one")[0] == theirs
    assert restored(place, "work@desk", tmp_path / "two")[0] == mine
    assert (tmp_path / "two" / "mid.bin").stat().st_mtime == 1_600_000_000


HARM = ("no refs", "no runs", "an older state", "refs to nothing", "another history")


def harm(kind: str, place: Counted, desk: Vault, folder: Path) -> None:
    """A record in the proper form that follows the desk's newest."""
    mine, oldest = only(place, desk), first(place, desk)
    following = replace(mine, number=mine.number + 1, previous=records.digest(mine))
    if kind == "no refs":
        put(place, replace(following, refs={}, runs=()))
    elif kind == "no runs":
        put(place, replace(following, runs=()))
    elif kind == "an older state":
        put(place, replace(following, refs=oldest.refs, runs=oldest.runs))
    elif kind == "refs to nothing":
        put(place, replace(following, refs=dict.fromkeys(mine.refs, ObjectId(bytes(20)))))
    else:
        (folder / "work").mkdir(parents=True)
        fill(folder / "work", 9, size=20_000)
        with made(folder / "evil.git", "desk", 9) as evil:
            evil.create_snapshot(folder / "work")
            other = Counted(folder / "place")
            pushed(evil, other)
            theirs = only(other, evil)
        for stored in list(other.names()):
            if not stored.name.startswith(("machines/", "vault")):
                place.put(stored.name, other.get(stored.name))
        put(place, replace(following, refs=theirs.refs, runs=theirs.runs))


@pytest.mark.parametrize("kind", HARM)
def test_a_record_in_the_proper_form_hides_no_snapshot(kind: str, desk: Vault, place: Counted, tmp_path: Path) -> None:
    wanted = desk.list_snapshots()[0].id
    harm(kind, place, desk, tmp_path / "evil")
    name = "work"
    look, _ = partial.clone_to_inspect(remote := remote_of(None, place), "/nowhere", tmp_path / "look.git", {})
    with look:
        if kind == "another history":
            name = next(line for line in look.history.projects() if line.startswith("work@desk"))
        assert look.resolve(name) == wanted
        if kind != "no runs":
            assert [wanted in one for one in remote.hidden] == [True]
        with partial.inspecting(look, lambda: remote_of(look, place)):
            look.restore_snapshot(name, tmp_path / "looked")
    assert contents(tmp_path / "looked") == contents(tmp_path / "work")
    taken, hidden = restored(place, "work", tmp_path / "out")
    if kind == "another history":
        # Which of two is meant nobody can tell: the other one is named.
        assert (taken == wanted, [wanted in one for one in hidden]) == (False, [True])
        assert restored(place, wanted, tmp_path / "again")[0] == wanted
    else:
        assert taken == wanted
        assert contents(tmp_path / "out") == contents(tmp_path / "work")
    # A snapshot before it too.
    assert restored(place, f"{wanted}~1", tmp_path / "before")[0] == desk.list_snapshots()[1].id


def test_many_records_hide_no_snapshot_of_another_day(desk: Vault, place: Counted, tmp_path: Path) -> None:
    wanted = desk.list_snapshots()[0].id
    for path in (tmp_path / "place" / "machines").rglob("*"):
        os.utime(path, (path.stat().st_atime - 90_000, path.stat().st_mtime - 90_000))
    mine, oldest = only(place, desk), first(place, desk)
    for number in range(1, 40):
        put(place, replace(oldest, number=mine.number + number))
    place.requests.clear()
    assert restored(place, "work", tmp_path / "out") == (wanted, [f"work of desk, {mine.time}: {wanted}"])
    # Without a sign of harm a look is at few.
    remote = remote_of(None, place)
    there, listed = remote.look(remote.vault_id)
    assert there == desk.config.id
    asked = list(remote.earlier_records(there, [replace(oldest, number=42)], listed))
    assert len(asked) == 5
    assert mine in asked


def test_what_a_machine_removed_does_not_come_back(desk: Vault, place: Counted, tmp_path: Path) -> None:
    fill(tmp_path / "work", 4, size=20_000)
    gone = desk.create_snapshot(tmp_path / "work").snapshot
    pushed(desk, place)
    fill(tmp_path / "work", 5, size=20_000)
    newest = desk.create_snapshot(tmp_path / "work").snapshot
    desk.prune(Retention(last=1), yes=True)
    pushed(desk, place)
    assert [snapshot.id for snapshot in desk.list_snapshots()] == [newest]
    assert restored(place, "work", tmp_path / "out") == (newest, [])
    look, _ = partial.clone_to_inspect(remote := remote_of(None, place), "/nowhere", tmp_path / "look.git", {})
    with look:
        assert look.history.projects() == ["work"]
        assert gone not in " ".join(remote.hidden)


def test_what_a_name_starts_from(desk: Vault) -> None:
    for name in ("work", "work~", "work~2", "work@{yesterday}"):
        assert named_project(desk.history, name) == "work"
    for name in ("works", "", "~1", desk.list_snapshots()[0].id, "2026-01-01"):
        assert named_project(desk.history, name) == ""


def test_lines_by_what_is_read_of_them(desk: Vault, place: Counted) -> None:
    mine, oldest = only(place, desk), first(place, desk)
    same: lines.Leading = lines.leading(desk.history, [mine], [mine])
    assert (same.tips, same.records, same.hidden, same.unread) == ({}, [], [], False)
    behind = lines.leading(desk.history, [mine], [oldest])
    assert behind.tips == {"refs/heads/work": [mine.refs["refs/heads/work"]]}
    assert lines.leading(desk.history, [mine], [oldest], "other").tips == {}
    ahead = lines.leading(desk.history, [oldest], [mine], "work")
    assert [record for record, _ in ahead.records] == [mine]
    nothing = replace(mine, refs={"refs/heads/work": ObjectId(bytes(20))})
    assert lines.leading(desk.history, [nothing], []).tips == {}
    lost = lines.leading(desk.history, [nothing], [mine])
    assert (lost.unread, len(lost.hidden)) == (True, 1)
    [shown] = hidden_lines(lost.hidden)
    assert shown.endswith(f"work of desk, {mine.time}: {mine.refs['refs/heads/work'].hex()}")
    assert list(remote_of(None, place).read_records([records.name_of(mine), "machines/x"], mine.vault)) == [mine]


@pytest.mark.needs("radosgw")
def test_who_may_only_put_hides_no_snapshot_by_a_record(
    s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On a real server, encrypted: an attacker with the laptop's credentials, settings and key of the names."""

    def run(*words: str | Path) -> str:
        capsys.readouterr()
        assert main.main([str(word) for word in words]) == 0
        return capsys.readouterr().out

    def become(user: str) -> None:
        for key, value in s3.environment(user).items():
            monkeypatch.setenv(key, value)

    url = f"s3://{s3.bucket(locks=True, append_only=True)}/vault"
    key = pyrage.x25519.Identity.generate()
    (tmp_path / "key").write_text(f"{key}\n")
    laptop = tmp_path / "laptop.git"
    become("owner")
    run("init", laptop)
    run("--vault", laptop, "remote", "add", "off", url, "--encrypt", str(key.to_public()), "--retain", "1d")
    become("pusher")
    (tmp_path / "work").mkdir()
    for seed in (1, 2):
        fill(tmp_path / "work", seed, size=20_000)
        run("--vault", laptop, "snapshot", tmp_path / "work")
        run("--vault", laptop, "push", "off")
    with Vault.open(laptop) as vault:
        wanted = [snapshot.id for snapshot in vault.list_snapshots()]
        told = settings.get(laptop, "off")
        with open_remote(told, s3.environment("pusher"), vault=laptop) as remote:
            mine = remote.last_own(told.id, told.chain, None)[0]
            assert mine
            for number in range(1, 4):
                forged = replace(mine, number=mine.number + number, refs={} if number % 2 else mine.refs, runs=())
                remote.place.put(records.name_of(forged), forged.encode())
    become("owner")
    at = ("--remote", url, "--identity", tmp_path / "key")
    said = json.loads(run("restore", *at, "work", "--to", tmp_path / "out", "--json"))
    assert said["snapshot"] == wanted[0]
    assert [wanted[0] in line for line in said["hidden"]] == [True]
    assert contents(tmp_path / "out") == contents(tmp_path / "work")
    shown = run("clone", "--inspect", url, tmp_path / "look.git", "--identity", tmp_path / "key")
    assert f"its newest record leaves this out, it counts all the same: work of {mine.machine}" in shown
    listed = json.loads(run("--vault", tmp_path / "look.git", "log", "work", "--json"))
    assert [snapshot["snapshot"] for snapshot in listed] == wanted
    run("--vault", tmp_path / "look.git", "restore", "work", "--to", tmp_path / "looked")
    assert contents(tmp_path / "looked") == contents(tmp_path / "work")


def test_a_look_asks_for_little_however_many_records_there_are(desk: Vault, place: Counted, tmp_path: Path) -> None:
    for seed in range(10, 40):
        fill(tmp_path / "work", seed, size=3_000)
        desk.create_snapshot(tmp_path / "work")
        pushed(desk, place)
    place.requests.clear()
    report = partial.restore(
        remote_of(None, place), told_of(), "work", str(tmp_path / "out"), paths=[b"mid.bin"], progress=quiet
    )
    assert report.files == 1
    assert place.requests["get"] + place.requests["list"] <= 30
