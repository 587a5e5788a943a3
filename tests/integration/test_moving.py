"""Moving in from restic, borg, git and dated folders, each with the real program, and out again."""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
import subprocess
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from trees import differences, write

from gitvault.core.models import Filter, Snapshot
from gitvault.core.utils.names import file_name
from gitvault.errors import ExistsError, GitVaultError, NotFoundError
from gitvault.moving import folders
from gitvault.moving.borg import BorgSource
from gitvault.moving.export import export
from gitvault.moving.folders import FolderSource
from gitvault.moving.move_in import KEY, move_in
from gitvault.moving.restic import ResticSource
from gitvault.moving.source import expect_folder
from gitvault.vault import Vault

Command = Callable[..., subprocess.CompletedProcess[str]]
NOISE = random.Random(8)
BIG = NOISE.randbytes(300_000)
NS = 1_600_000_000_123_456_789


def tool(folder: Path, *words: str | Path) -> str:
    done = subprocess.run(list(map(str, words)), cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def states(folder: Path) -> list[Callable[[], None]]:
    """What makes a folder what it is on three days."""
    base = os.fsencode(folder)

    def first() -> None:
        write(folder, {"src/main.c": b"int main;\n", "art/big.bin": BIG, "link": "src/main.c", "a [x]*?.txt": b"odd\n"})
        os.mkdir(folder / "empty")
        os.link(folder / "src/main.c", folder / "twin.c")
        os.setxattr(folder / "src/main.c", "user.note", b"\xff\x00 bytes")
        os.setxattr(folder / "art", "user.note", b"of a folder")
        os.chmod(folder / "art/big.bin", 0o4750)
        if os.geteuid() == 0:
            os.chown(folder / "art/big.bin", 1234, 99)
            os.chmod(folder / "art/big.bin", 0o4750)
        os.utime(folder / "art/big.bin", ns=(NS, NS))
        os.utime(folder / "art", ns=(NS, NS + 1))
        (folder / "grow").write_bytes(b"1")

    def second() -> None:
        (folder / "src/main.c").write_bytes(b"int main(void);\n")
        shutil.rmtree(folder / "empty")
        (folder / "empty").write_bytes(b"a file now\n")
        os.remove(folder / "link")
        os.mkdir(folder / "link")
        (folder / "link" / "below").write_bytes(b"a folder now\n")
        os.chmod(folder / "grow", 0o600)

    def third() -> None:
        with open(folder / "art/big.bin", "r+b") as file:
            file.seek(150_000)
            file.write(b"changed")
        os.utime(folder / "art/big.bin", ns=(NS, NS))
        shutil.rmtree(folder / "link")
        with open(base + b"/\xc3\xa4 \xe2\x82\xac", "wb") as other:
            other.write(b"")

    return [first, second, third]


@pytest.fixture(scope="module")
def days(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A folder as it was on three days, and whole copies of it."""
    top = tmp_path_factory.mktemp("days")
    folder = top / "work" / "acme"
    for number, change in enumerate(states(folder)):
        change()
        tool(top, "cp", "-a", folder, top / f"day{number}")
    return [top / f"day{number}" for number in range(3)]


def secrets(patch: pytest.MonkeyPatch, folder: Path) -> None:
    for name, value in {
        "RESTIC_PASSWORD": "x", "RESTIC_CACHE_DIR": folder / "cache", "BORG_PASSPHRASE": "x",
        "BORG_BASE_DIR": folder / "borg", "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes",
    }.items():  # fmt: skip
        patch.setenv(name, str(value))


def back_up(days: list[Path], folder: Path, save: Callable[[Path, int], None]) -> None:
    """Let a program save the folder on each day."""
    place = folder / "home" / "acme"
    place.parent.mkdir()
    for number, day in enumerate(days):
        # In place, so that what is not touched stays what it is.
        if number:
            for change in states(place)[number : number + 1]:
                change()
        else:
            tool(folder, "cp", "-a", day, place)
        save(place, number)


@pytest.fixture(scope="module")
def restic(days: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("restic")
    with pytest.MonkeyPatch.context() as patch:
        secrets(patch, folder)
        tool(folder, "restic", "init", "-q", "-r", "repo")

        def save(place: Path, number: int) -> None:
            when = f"2024-03-0{number + 1} 10:00:00"
            named = ["--host", "studio", "--tag", f"day{number}", "--time", when]
            tool(folder, "restic", "-q", "-r", "repo", "backup", *named, place)
            tool(folder, "cp", "-a", place, folder / f"day{number}")

        back_up(days, folder, save)
    return folder


@pytest.fixture(scope="module")
def borg(days: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("borg")
    with pytest.MonkeyPatch.context() as patch:
        secrets(patch, folder)
        tool(folder, "borg", "init", "-e", "repokey", "repo")

        def save(place: Path, number: int) -> None:
            when = f"2024-03-0{number + 1}T10:00:00"
            tool(folder, "borg", "create", "--timestamp", when, f"repo::day{number}", place)
            tool(folder, "cp", "-a", place, folder / f"day{number}")

        back_up(days, folder, save)
    return folder


def snapshots(vault: Vault, project: str) -> list[Snapshot]:
    """The oldest first."""
    return vault.list_snapshots(Filter(project=project))[::-1]


def expect_days(vault: Vault, project: str, folder: Path, out: Path) -> None:
    """The project's snapshots are the three days, each whole."""
    found = snapshots(vault, project)
    assert len(found) == 3
    for number, snapshot in enumerate(found):
        vault.restore_snapshot(snapshot.id, out / str(number))
        assert not differences(folder / f"day{number}", out / str(number))


@pytest.mark.needs("restic")
def test_every_snapshot_of_restic_comes_whole_and_once(
    vault: Vault, restic: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Command
) -> None:
    secrets(monkeypatch, restic)
    done = command("import", "restic", restic / "repo", "--json")
    said = json.loads(done.stdout)
    assert (done.returncode, said["snapshots"], said["skipped"], said["problems"]) == (0, 3, 0, [])
    # Of the later days only what is different is read.
    assert 0 < said["bytes"] < 3 * len(BIG)
    expect_days(vault, "acme", restic, tmp_path / "out")
    found = snapshots(vault, "acme")
    assert [snapshot.time.strftime("%d %H") for snapshot in found] == ["01 10", "02 10", "03 10"]
    assert [snapshot.tags for snapshot in found] == [("day0",), ("day1",), ("day2",)]
    assert {snapshot.host for snapshot in found} == {"studio"}
    assert {snapshot.metadata["import.path"] for snapshot in found} == {str(restic / "home/acme")}
    assert [project.host for project in vault.projects()] == ["studio"]
    assert vault.verify(data=True).ok
    again = json.loads(command("import", "restic", restic / "repo", "--json").stdout)
    assert (again["snapshots"], again["files"], again["skipped"]) == (0, 0, 3)


@pytest.mark.needs("borg")
def test_every_archive_of_borg_comes_whole_and_once(
    vault: Vault, borg: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Command
) -> None:
    secrets(monkeypatch, borg)
    done = command("import", "borg", borg / "repo", "--json")
    said = json.loads(done.stdout)
    assert (done.returncode, said["snapshots"], said["skipped"], said["problems"]) == (0, 3, 0, [])
    expect_days(vault, "acme", borg, tmp_path / "out")
    assert [project.path for project in vault.projects()] == [str(borg / "home/acme")]
    assert [snapshot.time.astimezone().day for snapshot in snapshots(vault, "acme")] == [1, 2, 3]
    assert vault.verify(data=True).ok
    again = json.loads(command("import", "borg", borg / "repo", "--json").stdout)
    assert (again["snapshots"], again["files"], again["skipped"]) == (0, 0, 3)


def test_an_import_goes_on_where_it_was_and_adds_what_is_new(
    vault: Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = dated(tmp_path / "old")

    class Stopped(Exception):
        pass

    read = FolderSource.contents

    def stops(self: FolderSource, copy: object, wanted: object) -> object:
        if copy.name == "acme-2024-03-02":  # type: ignore[attr-defined]
            raise Stopped
        return read(self, copy, wanted)  # type: ignore[arg-type]

    monkeypatch.setattr(FolderSource, "contents", stops)
    # Every snapshot is made visible at once.
    clock = iter(range(0, 100_000, 30))
    with pytest.raises(Stopped):
        move_in(vault, FolderSource([str(old)]), clock=lambda: next(clock))
    assert len(snapshots(vault, "acme")) == 1
    monkeypatch.undo()
    done = move_in(vault, FolderSource([str(old)]))
    assert (done.snapshots, done.skipped) == (2, 1)
    write(old / "acme-2024-03-04", {"new": b"new"})
    done = move_in(vault, FolderSource([str(old)]))
    assert (done.snapshots, done.skipped, done.files) == (1, 3, 1)
    assert [one.metadata[KEY].rpartition("-")[2] for one in snapshots(vault, "acme")] == ["01", "02", "03", "04"]


def dated(folder: Path) -> Path:
    """Three dated copies."""
    for number in range(1, 4):
        write(folder / f"acme-2024-03-0{number}", {"a/same": b"same", "b": b"%d" % number, "big.bin": BIG})
        os.utime(folder / f"acme-2024-03-0{number}" / "big.bin", ns=(NS, NS))
    return folder


def test_copies_in_folders_come_whole_by_their_dates(days: list[Path], vault: Vault, tmp_path: Path) -> None:
    names = ["acme_2024-03-01", "acme 20240302 1530", "acme.2024.03.03"]
    for day, name in zip(days, names, strict=True):
        (tmp_path / "old").mkdir(exist_ok=True)
        tool(tmp_path, "cp", "-a", day, tmp_path / "old" / name)
    done = move_in(vault, FolderSource([str(tmp_path / "old" / "*")]))
    assert (done.snapshots, done.problems) == (3, [])
    found = snapshots(vault, "acme")
    assert [f"{one.time.astimezone():%m-%d %H:%M}" for one in found] == ["03-01 00:00", "03-02 15:30", "03-03 00:00"]
    for day, one in zip(days, found, strict=True):
        vault.restore_snapshot(one.id, tmp_path / "out" / one.id)
        assert not differences(day, tmp_path / "out" / one.id)
    # A project of whose folder nothing is known is not saved by accident.
    assert [project.archived for project in vault.projects()] == [True]


def test_what_is_one_file_in_two_copies_is_read_once(vault: Vault, tmp_path: Path) -> None:
    old = dated(tmp_path / "old")
    shutil.rmtree(old / "acme-2024-03-02")
    tool(old, "cp", "-al", "acme-2024-03-01", "acme-2024-03-02")
    (old / "acme-2024-03-02" / "b").unlink()
    (old / "acme-2024-03-02" / "b").write_bytes(b"two")
    shutil.rmtree(old / "acme-2024-03-03")
    done = move_in(vault, FolderSource([str(old)]))
    assert (done.snapshots, done.files) == (2, 4)
    vault.restore_snapshot("acme", tmp_path / "out")
    assert not differences(old / "acme-2024-03-02", tmp_path / "out").keys() - {b"", b"a", b"a/same", b"big.bin"}


def test_names_without_dates_are_one_project_by_their_newest_file(vault: Vault, tmp_path: Path) -> None:
    for number, name in enumerate(("acme final", "acme v2", "acme v1")):
        write(tmp_path / "old" / name, {"a": name.encode()})
        os.utime(tmp_path / "old" / name / "a", (1e9 - number * 1e6, 1e9 - number * 1e6))
    write(tmp_path / "old", {"notes.txt": b"no copy"})
    done = move_in(vault, FolderSource(sorted(map(str, (tmp_path / "old").iterdir()))))
    assert [problem.path.rpartition(b"/")[2] for problem in done.problems] == [b"notes.txt"]
    assert [one.message for one in snapshots(vault, "acme")] == [
        f"acme: folder acme {n}" for n in ("v1", "v2", "final")
    ]


def test_a_name_without_a_date_does_not_merge_those_that_have_one(
    vault: Vault, tmp_path: Path, command: Command
) -> None:
    for name in ("acme-2024-03-01", "acme-2024-03-02", "other-2024-03-01", "plain v1", "plain v2"):
        write(tmp_path / "old" / name, {"a": name.encode()})
    assert command("import", "folder", *sorted((tmp_path / "old").iterdir())).returncode == 0
    made = {name: len(snapshots(vault, name)) for name in vault.history.projects()}
    assert made == {"acme": 2, "other": 1, "plain": 2}


def test_what_was_exported_comes_back_as_one_project_in_its_order(vault: Vault, tmp_path: Path) -> None:
    """Also of one day, of which the names say no more."""
    (tmp_path / "acme").mkdir()
    for number in range(4):
        (tmp_path / "acme" / "a").write_text(str(number))
        os.utime(tmp_path / "acme" / "a", (1e9 + number, 1e9 + number))
        vault.create_snapshot(tmp_path / "acme")
    export(vault, [f"acme~{number}" for number in (1, 3, 0, 2)], tmp_path / "out", tar=False)
    with Vault.create(tmp_path / "other.git") as other:
        assert move_in(other, FolderSource([str(tmp_path / "out")])).projects == {"acme": 4}
        for number, one in enumerate(snapshots(other, "acme")):
            other.restore_snapshot(one.id, tmp_path / "back" / str(number))
            assert (tmp_path / "back" / str(number) / "a").read_text() == str(number)


def test_an_id_that_begins_like_a_time_is_none(vault: Vault, tmp_path: Path) -> None:
    """One in a hundred does; and a time is read all the same."""
    for number, behind in enumerate(("1027c386bbc4", "0326fb695ffb", "195958d07674", "10-27-13", "102714")):
        write(tmp_path / "out" / f"acme-2026-11-23-{behind}", {"a": b"%d" % number})
        os.utime(tmp_path / "out" / f"acme-2026-11-23-{behind}" / "a", (1e9 + number, 1e9 + number))
    assert move_in(vault, FolderSource([str(tmp_path / "out")])).projects == {"acme": 5}
    times = [one.time.astimezone().strftime("%H:%M:%S") for one in snapshots(vault, "acme")]
    assert times == ["00:00:00", "00:00:00", "00:00:00", "10:27:13", "10:27:14"]


def test_nothing_is_exported_into_the_vault_itself(vault: Vault, tmp_path: Path) -> None:
    before = sorted(os.listdir(vault.path))
    for target in (vault.path, vault.path / "new"):
        with pytest.raises(GitVaultError, match="lies inside the vault; export into another folder"):
            export(vault, [], target, tar=False)
    assert sorted(os.listdir(vault.path)) == before


def test_a_file_is_no_place_to_export_to(vault: Vault, tmp_path: Path) -> None:
    (tmp_path / "acme").mkdir()
    vault.create_snapshot(tmp_path / "acme")
    (tmp_path / "file").write_bytes(b"mine")
    with pytest.raises(ExistsError, match="file: not a folder; name one, or a name that does not exist yet"):
        export(vault, ["acme"], tmp_path / "file", tar=False)
    assert (tmp_path / "file").read_bytes() == b"mine"


def test_each_dated_name_is_a_project_unless_one_is_named(vault: Vault, tmp_path: Path) -> None:
    for name in ("acme-2024-01-01", "beta-2024-01-02", "acme-2024-01-03"):
        write(tmp_path / "old" / name, {"a": name.encode()})
    done = move_in(vault, FolderSource([str(tmp_path / "old")]))
    assert done.projects == {"acme": 2, "beta": 1}
    done = move_in(vault, FolderSource([str(tmp_path / "old")]), project="all")
    assert done.projects == {"all": 3}
    assert [one.time.day for one in snapshots(vault, "all")] == [1, 2, 3]


def test_what_cannot_be_read_or_held_is_told_and_the_rest_comes(
    vault: Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = write(tmp_path / "old" / "acme-2024-01-01", {"a": b"a", "closed/b": b"b", "secret": b"c"})
    os.mkfifo(copy / "pipe")

    def denies(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(path: Any, *rest: Any) -> Any:
            if os.fsencode(path).endswith((b"/secret", b"/closed")):
                raise PermissionError(errno.EACCES, "Permission denied")
            return real(path, *rest)

        return call

    monkeypatch.setattr(os, "scandir", denies(os.scandir))
    monkeypatch.setattr(folders, "open_source", denies(folders.open_source))
    done = move_in(vault, FolderSource([str(copy)]))
    monkeypatch.undo()
    told = {problem.path.rpartition(b"/")[2]: problem.reason for problem in done.problems}
    assert told.keys() == {b"pipe", b"secret", b"closed"}
    assert told[b"secret"] == "cannot be read: Permission denied"
    assert [entry.path for entry in vault.entries("acme", recursive=True)] == [b"a", b"closed"]


def test_a_copy_that_changes_while_it_is_read_is_told_and_left_out(
    vault: Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = write(tmp_path / "old" / "acme-2024-01-01", {"a": b"a", "b": b"bb", "big.bin": BIG})
    read = FolderSource.contents

    def grows(self: FolderSource, one: object, wanted: object) -> object:
        (copy / "b").write_bytes(b"longer")
        (copy / "big.bin").write_bytes(BIG + b"longer")
        return read(self, one, wanted)  # type: ignore[arg-type]

    monkeypatch.setattr(FolderSource, "contents", grows)
    done = move_in(vault, FolderSource([str(copy)]))
    assert [problem.path for problem in done.problems] == [b"b", b"big.bin"]
    assert "expected 2 bytes, found more" in done.problems[0].reason
    assert [entry.path for entry in vault.entries("acme", recursive=True)] == [b"a"]


def test_what_is_no_folder_is_told(tmp_path: Path, command: Command) -> None:
    done = command("import", "folder", tmp_path / "none")
    assert (done.returncode, "no such folder" in done.stderr) == (128, True)
    (tmp_path / "file").write_bytes(b"")
    done = command("import", "folder", tmp_path / "file")
    assert (done.returncode, "no folder; name copies of one" in done.stderr) == (128, True)
    with pytest.raises(NotFoundError, match="no such folder"):
        FolderSource([str(tmp_path / "none")]).copies()


def test_a_project_that_is_here_is_not_mixed_with_another(vault: Vault, tmp_path: Path, command: Command) -> None:
    write(tmp_path / "acme", {"a": b"own"})
    vault.create_snapshot(tmp_path / "acme")
    old = dated(tmp_path / "old")
    assert move_in(vault, FolderSource([str(old)])).projects == {"acme-folder": 3}
    with pytest.raises(ExistsError, match="has newer snapshots than folder acme-2024-03-01"):
        move_in(vault, FolderSource([str(old)]), project="acme")
    assert len(snapshots(vault, "acme")) == 1


def test_what_is_older_than_the_last_import_is_told_not_mixed_in(vault: Vault, tmp_path: Path) -> None:
    old = dated(tmp_path / "old")
    shutil.move(old / "acme-2024-03-02", tmp_path / "acme-2024-03-02")
    assert move_in(vault, FolderSource([str(old)])).snapshots == 2
    shutil.move(tmp_path / "acme-2024-03-02", old / "acme-2024-03-02")
    done = move_in(vault, FolderSource([str(old)]))
    assert (done.snapshots, done.skipped) == (0, 2)
    assert [problem.path for problem in done.problems] == [b"folder acme-2024-03-02"]
    assert done.problems[0].reason.startswith("older than what was imported")


def test_of_several_that_are_too_old_the_first_is_named(vault: Vault, tmp_path: Path) -> None:
    old = dated(tmp_path / "old")
    assert move_in(vault, FolderSource([str(old / "acme-2024-03-03")])).snapshots == 1
    done = move_in(vault, FolderSource([str(old)]))
    assert [problem.path for problem in done.problems] == [b"folder acme-2024-03-01 and 1 more"]


@pytest.mark.needs("borg")
def test_several_paths_of_borg_are_named_like_the_folder_they_have_in_common(
    vault: Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secrets(monkeypatch, tmp_path)
    write(tmp_path / "al", {"r1/x": b"x", "r2/y": b"y"})
    tool(tmp_path, "borg", "init", "-e", "none", "repo")
    tool(tmp_path, "borg", "create", "repo::relative", "al/r1", "./al/r2")
    tool(tmp_path / "al", "borg", "create", "../repo::none", "r1", "r2")
    tool(tmp_path, "borg", "create", "repo::both", "al/r1", tmp_path / "al" / "r2")
    tool(tmp_path, "borg", "create", "repo::absolute", tmp_path / "al" / "r1", tmp_path / "al" / "r2")
    copies = BorgSource(str(tmp_path / "repo")).copies()
    host = copies[0].host
    assert host
    assert [(copy.name, copy.project) for copy in copies] == [
        ("relative", "al"), ("none", host), ("both", host), ("absolute", "al")
    ]  # fmt: skip
    assert move_in(vault, BorgSource(str(tmp_path / "repo"))).snapshots == 4
    assert [entry.path for entry in vault.entries("al", recursive=True)] == [b"r1", b"r1/x", b"r2", b"r2/y"]


@pytest.mark.needs("restic", "borg")
@pytest.mark.parametrize("kind", ["restic", "borg"])
def test_a_line_goes_on_when_its_source_has_forgotten_what_was_imported(
    kind: str, vault: Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Command
) -> None:
    secrets(monkeypatch, tmp_path)
    folder = write(tmp_path / "m", {"a": b"1", "gone": b"2"})
    back_up_with(kind, tmp_path, "m")
    assert command("import", kind, tmp_path / "repo").returncode == 0
    (folder / "gone").unlink()
    (folder / "new").write_bytes(b"3")
    time.sleep(1.1)
    back_up_with(kind, tmp_path, "m")
    if kind == "restic":
        tool(tmp_path, "restic", "-r", "repo", "forget", "--keep-last", "1")
    else:
        tool(tmp_path, "borg", "prune", "--keep-last", "1", "repo")
    said = json.loads(command("import", kind, tmp_path / "repo", "--json").stdout)
    assert (said["snapshots"], said["problems"], vault.history.projects()) == (1, [], ["m"])
    assert [entry.path for entry in vault.entries("m")] == [b"a", b"new"]
    assert [entry.path for entry in vault.entries("m~1")] == [b"a", b"gone"]


def test_dated_copies_may_be_imported_one_by_one(vault: Vault, tmp_path: Path) -> None:
    for name in ("acme-2024-03-01", "acme_20240302"):
        write(tmp_path / "old" / name, {"a": b"a", name: b"b"})
        assert move_in(vault, FolderSource([str(tmp_path / "old" / name)])).projects == {"acme": 1}
    assert [entry.path for entry in vault.entries("acme")] == [b"a", b"acme_20240302"]
    # One from before is never put in between.
    write(tmp_path / "old" / "acme 2024-02-01", {"a": b"a"})
    assert move_in(vault, FolderSource([str(tmp_path / "old" / "acme 2024-02-01")])).projects == {"acme-folder": 1}


def test_an_import_that_came_to_nothing_leaves_no_project_and_the_next_has_its_name(
    vault: Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = dated(tmp_path / "old")
    source = FolderSource([str(old)])
    monkeypatch.setattr(FolderSource, "contents", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        move_in(vault, source)
    monkeypatch.setattr(FolderSource, "contents", lambda *_: iter(()))
    done = move_in(vault, FolderSource([str(old)]))
    assert (len(done.problems), done.projects, vault.projects()) == (3, {}, [])
    monkeypatch.undo()
    assert move_in(vault, FolderSource([str(old)])).projects == {"acme": 3}


def test_a_project_without_snapshots_that_an_import_left_is_gone_on_with(
    vault: Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The power may fail between the two."""
    old = dated(tmp_path / "old")
    with monkeypatch.context() as patch:
        patch.setattr(type(vault.history), "advance", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            move_in(vault, FolderSource([str(old)]))
    assert [(project.name, project.archived) for project in vault.projects()] == [("acme", True)]
    assert vault.history.projects() == []
    assert move_in(vault, FolderSource([str(old)])).projects == {"acme": 3}
    assert len(vault.projects()) == 1


@pytest.mark.needs("restic")
def test_a_damaged_snapshot_of_restic_does_not_hide_the_others(
    vault: Vault, restic: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secrets(monkeypatch, restic)
    monkeypatch.setenv("RESTIC_CACHE_DIR", str(tmp_path / "cache"))
    repository = tmp_path / "repo"
    shutil.copytree(restic / "repo", repository)
    # The largest pack has the content of the first day.
    largest = max(repository.glob("data/*/*"), key=lambda path: path.stat().st_size)
    content = bytearray(largest.read_bytes())
    content[1000] ^= 1
    largest.chmod(0o600)
    largest.write_bytes(content)
    done = move_in(vault, ResticSource(str(repository)))
    assert done.problems
    assert all("not imported: restic" in problem.reason for problem in done.problems)
    assert done.snapshots + len(done.problems) == 3
    for snapshot in vault.list_snapshots():
        number = snapshot.tags[0]
        vault.restore_snapshot(snapshot.id, tmp_path / "out" / number)
        assert not differences(restic / number, tmp_path / "out" / number)


@pytest.mark.deep
@pytest.mark.needs("borg")
def test_a_damaged_archive_of_borg_is_not_imported(
    vault: Vault, borg: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secrets(monkeypatch, borg)
    monkeypatch.setenv("BORG_RELOCATED_REPO_ACCESS_IS_OK", "yes")
    repository = tmp_path / "repo"
    shutil.copytree(borg / "repo", repository)
    segment = max(repository.glob("data/*/*"), key=lambda path: path.stat().st_size)
    content = bytearray(segment.read_bytes())
    content[len(content) // 2] ^= 1
    segment.write_bytes(content)
    done = move_in(vault, BorgSource(str(repository)))
    assert any("Data integrity error" in problem.reason for problem in done.problems)
    assert done.snapshots + len(done.problems) == 3


@pytest.mark.needs("restic", "borg")
def test_what_is_no_repository_of_borg_is_refused_with_its_reason(
    restic: Path, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of which borg says pages: in one that restic made it finds a file of its own name."""
    secrets(monkeypatch, tmp_path)
    (tmp_path / "odd" / "config").mkdir(parents=True)
    for place, reason in (
        (restic / "repo", "UnicodeDecodeError: 'utf-8' codec can't decode byte"),
        (tmp_path / "odd", f"IsADirectoryError: [Errno 21] Is a directory: '{tmp_path / 'odd' / 'config'}'"),
    ):
        done = command("import", "borg", place)
        assert (done.returncode, len(done.stderr.splitlines())) == (128, 1)
        assert f"failed with code 2: {reason}" in done.stderr


@pytest.mark.needs("restic", "borg")
@pytest.mark.parametrize("kind", ["restic", "borg"])
def test_no_repository_or_a_wrong_password_is_one_line(
    kind: str, command: Command, restic: Path, borg: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = {"restic": restic, "borg": borg}[kind]
    secrets(monkeypatch, folder)
    monkeypatch.setenv("RESTIC_CACHE_DIR", str(tmp_path / "cache"))
    done = command("import", kind, tmp_path / "none")
    assert (done.returncode, done.stderr) == (128, f"git-vault: {tmp_path / 'none'}: no such folder\n")
    with pytest.raises(NotFoundError):
        expect_folder(str(tmp_path / "none"))
    expect_folder("sftp:host:/none")
    monkeypatch.setenv("RESTIC_PASSWORD", "wrong")
    monkeypatch.setenv("BORG_PASSPHRASE", "wrong")
    done = command("import", kind, folder / "repo")
    assert done.returncode == 128
    assert len(done.stderr.splitlines()) == 1
    (tmp_path / "empty").mkdir()
    done = command("import", kind, tmp_path / "empty")
    assert (done.returncode, len(done.stderr.splitlines())) == (128, 1)
    assert {"restic": "unable to open config file", "borg": "is not a valid repository"}[kind] in done.stderr


def odd_names(folder: Path) -> Path:
    """A folder of which many names are no UTF-8, two that look the same among them."""
    base = os.fsencode(folder)
    os.makedirs(base + b"/d\xe4r")
    for name, content in {
        b"ok": b"1", b"bad\xe4": b"22", b"bad\xff": b"333", b"bad\xef\xbf\xbd": b"4444", b"d\xe4r/in\nside\xff": b"5",
        b"\xe2\x82 cut": b"6", b"big\xff.bin": BIG,
    }.items():  # fmt: skip
        Path(os.fsdecode(base + b"/" + name)).write_bytes(content)
    os.symlink(b"ok", base + b"/link\xff")
    os.link(base + b"/bad\xe4", base + b"/twin\xe4")
    return folder


def back_up_with(kind: str, folder: Path, place: str) -> None:
    """Save what is named with a program into the folder's repository, which is made when it is missing."""
    new = not (folder / "repo").exists()
    if kind == "restic":
        if new:
            tool(folder, "restic", "init", "-q", "-r", "repo")
        tool(folder, "restic", "-q", "-r", "repo", "backup", place)
    else:
        if new:
            tool(folder, "borg", "init", "-e", "none", "repo")
        tool(folder, "borg", "create", "repo::{now:%H%M%S.%f}", place)


@pytest.mark.needs("restic", "borg")
@pytest.mark.parametrize("kind", ["restic", "borg"])
def test_names_that_are_no_text_come_as_they_are(
    kind: str, vault: Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Command
) -> None:
    """Also those that a program's JSON does not tell apart, also when only one of them is another one later."""
    secrets(monkeypatch, tmp_path)
    folder = odd_names(tmp_path / "m")
    back_up_with(kind, tmp_path, "m")
    tool(tmp_path, "cp", "-a", folder, "first")
    Path(os.fsdecode(os.fsencode(folder) + b"/bad\xff")).write_bytes(b"other")
    os.remove(os.fsencode(folder) + b"/\xe2\x82 cut")
    back_up_with(kind, tmp_path, "m")
    said = json.loads(command("import", kind, tmp_path / "repo", "--json").stdout)
    assert (said["snapshots"], said["problems"]) == (2, [])
    for number, expected in enumerate([tmp_path / "first", folder]):
        vault.restore_snapshot(snapshots(vault, "m")[number].id, tmp_path / "out" / str(number))
        assert not differences(expected, tmp_path / "out" / str(number))


@pytest.mark.needs("restic")
def test_a_folder_whose_name_is_no_text_is_its_project(
    vault: Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secrets(monkeypatch, tmp_path)
    place = os.fsdecode(os.fsencode(tmp_path) + b"/m\xff")
    write(Path(place), {"a/b": b"1"})
    back_up_with("restic", tmp_path, place)
    assert move_in(vault, ResticSource(str(tmp_path / "repo"))).projects == {"m\ufffd": 1}
    assert [entry.path for entry in vault.entries("m\ufffd", recursive=True)] == [b"a", b"a/b"]


@pytest.mark.needs("restic")
def test_a_file_that_is_not_given_is_left_out_and_named(
    vault: Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a restic that prints such names in quotes: what is asked for by the name in its JSON is nowhere."""
    secrets(monkeypatch, tmp_path)
    place = write(tmp_path / "m", {"ok": b"1", "bad\udcff": b"22", "\ufffd": b"333"})
    os.symlink("ok", place / "link\udcff")
    back_up_with("restic", tmp_path, str(place))
    quoting = tmp_path / "bin" / "restic"
    write(quoting.parent, {"restic": b"""#!/bin/sh
case " $* " in *" ls "*) exec RESTIC "$@" | LC_ALL=C sed 's/[^ -~]/?/g' ;; *) exec RESTIC "$@" ;; esac
""".replace(b"RESTIC", os.fsencode(shutil.which("restic") or ""))})  # fmt: skip
    quoting.chmod(0o755)
    monkeypatch.setenv("PATH", f"{quoting.parent}:{os.environ['PATH']}")
    done = move_in(vault, ResticSource(str(tmp_path / "repo")))
    reason = "restic did not give it; left out"
    told = {problem.path.decode(): problem.reason.partition(": ")[2] for problem in done.problems}
    assert (done.snapshots, told) == (1, {"bad\ufffd": reason, "link\ufffd": reason})
    assert [entry.path.decode() for entry in vault.entries("m")] == ["ok", "\ufffd"]
    # When little is different, files are restored by their names.
    (place / "ok").write_bytes(b"other")
    (place / "nin\udcff").write_bytes(b"new")
    back_up_with("restic", tmp_path, str(place))
    done = move_in(vault, ResticSource(str(tmp_path / "repo")))
    assert (done.snapshots, [problem.path.decode() for problem in done.problems]) == (1, ["nin\ufffd"])
    vault.restore_snapshot("m", tmp_path / "out")
    assert (tmp_path / "out" / "ok").read_bytes() == b"other"


# --------------------------------------------------------------------------------------------- out


def test_snapshots_go_out_as_folders_and_as_tar(
    days: list[Path], vault: Vault, tmp_path: Path, command: Command
) -> None:
    source = tmp_path / "acme"
    tool(tmp_path, "cp", "-a", days[0], source)
    first = vault.create_snapshot(source, message="one").snapshot
    (source / "grow").write_bytes(b"more")
    tool(tmp_path, "cp", "-a", source, tmp_path / "second")
    second = vault.create_snapshot(source).snapshot
    day = f"{vault.get_snapshot_info(first).time.astimezone():%Y-%m-%d}"
    said = json.loads(command("export", "acme~1", "acme", "--to", tmp_path / "out", "--json").stdout)
    assert [one["snapshot"] for one in said] == [first, second]
    assert sorted(os.listdir(tmp_path / "out")) == sorted(f"acme-{day}-{one[:12]}" for one in (first, second))
    assert not differences(days[0], tmp_path / "out" / f"acme-{day}-{first[:12]}")
    assert not differences(tmp_path / "second", tmp_path / "out" / f"acme-{day}-{second[:12]}")
    assert command("export", "acme~1", "--tar", "--to", tmp_path / "out").returncode == 0
    packed = tmp_path / "out" / f"acme-{day}-{first[:12]}.tar"
    (tmp_path / "unpacked").mkdir()
    tool(tmp_path / "unpacked", "tar", "--xattrs", "--xattrs-include=*", "-xpf", packed)
    assert not differences(days[0], tmp_path / "unpacked" / f"acme-{day}-{first[:12]}")
    with pytest.raises(ExistsError, match="is there already"):
        export(vault, ["acme"], tmp_path / "out", tar=False)


def test_times_before_1970_go_out_as_tar_with_their_fractions(vault: Vault, tmp_path: Path) -> None:
    times = {"before": -1_500_000_000, "little": -500_000_000, "whole": -2_000_000_000, "after": 1_500_000_000}
    for name, moment in times.items():
        write(tmp_path / "acme", {name: b"a"})
        os.utime(tmp_path / "acme" / name, ns=(moment, moment))
    vault.create_snapshot(tmp_path / "acme")
    (done,) = export(vault, ["acme"], tmp_path / "out", tar=True)
    tool(tmp_path / "out", "tar", "-xpf", done.path, "--strip-components=1")
    assert {name: os.stat(tmp_path / "out" / name).st_mtime_ns for name in times} == times


def test_an_export_that_was_interrupted_leaves_nothing_and_can_be_done_again(
    vault: Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vault.create_snapshot(write(tmp_path / "acme", {"a": b"a", "big.bin": BIG}))
    monkeypatch.setattr(tarfile, "open", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        export(vault, ["acme"], tmp_path / "out", tar=True)
    assert os.listdir(tmp_path / "out") == []
    monkeypatch.undo()
    (done,) = export(vault, ["acme"], tmp_path / "out", tar=True)
    assert os.listdir(tmp_path / "out") == [done.path.name]
    assert (done.files, done.problems) == (2, ())


def test_a_project_of_any_name_is_a_file_anywhere() -> None:
    assert file_name("acme") == "acme"
    assert file_name("a/b:c") == "a%2Fb%3Ac"
