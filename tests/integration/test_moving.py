"""Moving in from restic, borg, git and dated folders, each with the real program, and out again."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from trees import differences, write

from gitvault.core.models import Filter, Snapshot
from gitvault.core.utils.names import file_name
from gitvault.errors import ExistsError, NotFoundError
from gitvault.moving.borg import BorgSource
from gitvault.moving.export import export
from gitvault.moving.folders import FolderSource
from gitvault.moving.move_in import KEY, Moved, move_in
from gitvault.moving.restic import ResticSource
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
