"""What status says of a file, a folder and a project, and since when."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from trees import write

from gitvault.core import stat_cache
from gitvault.core.backup_engine import status
from gitvault.core.models import PathState, SnapshotId
from gitvault.core.utils.files import open_source
from gitvault.vault import Vault

LARGE = bytes(range(256)) * 400


@pytest.fixture
def vault(vault: Vault) -> Iterator[Vault]:
    with (vault.path / "config").open("a") as config:
        config.write("\tignore = *.tmp\n\tignore = build/\n")
    with Vault.open(vault.path) as opened:
        yield opened


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return write(
        tmp_path / "acme",
        {"a.txt": b"one", "src/b.c": b"two", "art/large.bin": LARGE, "link": "a.txt", "x.tmp": b"", "build/out": b""},
    )


@pytest.fixture
def first(vault: Vault, project: Path) -> SnapshotId:
    return vault.create_snapshot(project).snapshot


def state(vault: Vault, path: Path | str, *, scan: bool = False) -> PathState:
    [found] = vault.status([path], scan=scan)
    assert found.path == str(path)
    return found


def brief(vault: Vault, path: Path, *, scan: bool = False) -> tuple[str, str | None]:
    found = state(vault, path, scan=scan)
    return found.state, found.snapshot


# -- files ---------------------------------------------------------------------------------------


def test_saved_since_the_snapshot_that_first_held_it(vault: Vault, project: Path, first: SnapshotId) -> None:
    write(project, {"src/b.c": b"changed"})
    second = vault.create_snapshot(project).snapshot
    write(project, {"src/new.c": b""})
    vault.create_snapshot(project)
    for name in ("a.txt", "art/large.bin", "link"):
        assert brief(vault, project / name) == ("saved", first)
    assert brief(vault, project / "src/b.c") == ("saved", second)


def test_before_the_first_snapshot_what_is_there_is_new_and_nothing_else(vault: Vault, tmp_path: Path) -> None:
    (tmp_path / "fresh").mkdir()
    (tmp_path / "fresh/a").write_bytes(b"a")
    vault.add_project(tmp_path / "fresh")
    assert brief(vault, tmp_path / "fresh/a") == ("new", None)
    assert brief(vault, tmp_path / "fresh/typo") == ("unknown", None)


def test_since_counts_back_only_without_a_break(vault: Vault, project: Path, first: SnapshotId) -> None:
    write(project, {"a.txt": b"other"})
    vault.create_snapshot(project)
    write(project, {"a.txt": b"one"})
    third = vault.create_snapshot(project).snapshot
    assert brief(vault, project / "a.txt") == ("saved", third)


def test_since_is_the_same_after_the_cache_was_deleted(vault: Vault, project: Path, first: SnapshotId) -> None:
    write(project, {"src/b.c": b"changed"})
    second = vault.create_snapshot(project).snapshot
    shutil.rmtree(vault.path / "cache")
    assert vault.create_snapshot(project).unchanged
    assert brief(vault, project / "a.txt") == ("saved", first)
    assert brief(vault, project / "art/large.bin") == ("saved", first)
    assert brief(vault, project / "src/b.c") == ("saved", second)


def test_changed_names_the_snapshot_with_the_last_saved_state(vault: Vault, project: Path, first: SnapshotId) -> None:
    for name, content in (("a.txt", b"ONE"), ("src/b.c", b"longer than two"), ("art/large.bin", LARGE + b"!")):
        write(project, {name: content})
        assert brief(vault, project / name) == ("changed", first)


def test_a_touched_file_is_still_saved(vault: Vault, project: Path, first: SnapshotId) -> None:
    for name in ("a.txt", "art/large.bin"):
        os.utime(project / name)
        found = state(vault, project / name)
        assert (found.state, found.snapshot) == ("saved", first)
        assert "attributes changed" in found.reason
    os.unlink(project / "link")
    os.symlink("a.txt", project / "link")
    assert brief(vault, project / "link") == ("saved", first)
    os.unlink(project / "link")
    os.symlink("b.txt", project / "link")
    assert brief(vault, project / "link") == ("changed", first)


def test_what_became_something_else_is_changed(vault: Vault, project: Path, first: SnapshotId) -> None:
    (project / "a.txt").unlink()
    os.symlink("one", project / "a.txt")
    assert brief(vault, project / "a.txt") == ("changed", first)
    (project / "a.txt").unlink()
    (project / "a.txt").mkdir()
    assert state(vault, project / "a.txt").state == "changed"
    shutil.rmtree(project / "src")
    write(project, {"src": b"now a file"})
    assert state(vault, project / "src").state == "changed"


def test_new_deleted_excluded_unknown(vault: Vault, project: Path, first: SnapshotId, tmp_path: Path) -> None:
    write(project, {"new.txt": b"", "folder/new": b"", "later.tmp": b""})
    (project / "a.txt").unlink()
    shutil.rmtree(project / "src")
    os.mkfifo(project / "fifo")
    assert brief(vault, project / "new.txt") == ("new", None)
    assert brief(vault, project / "folder/new") == ("new", None)
    assert brief(vault, project / "a.txt") == ("deleted", first)
    assert brief(vault, project / "src/b.c") == ("deleted", first)
    assert state(vault, project / "later.tmp").reason == "left out by vault.ignore = *.tmp"
    assert state(vault, project / "build/out").reason == "left out by vault.ignore = build/"
    assert state(vault, project / "build").state == "excluded"
    assert brief(vault, project / "fifo") == ("excluded", None)
    assert brief(vault, project / "never was") == ("unknown", None)
    assert brief(vault, tmp_path / "elsewhere") == ("unknown", None)
    assert state(vault, tmp_path).reason == "in no project; git-vault add or snapshot its folder"
    assert "no such file or folder, and in no project" in state(vault, tmp_path / "mistyped").reason


def test_a_fifo_that_takes_a_files_place_is_not_read(
    vault: Vault, project: Path, first: SnapshotId, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipes: list[int] = []

    def swapped(path: str) -> int:
        os.unlink(path)
        os.mkfifo(path)
        pipes.append(os.open(path, os.O_RDWR | os.O_NONBLOCK))
        os.write(pipes[0], b"one")
        return open_source(path)

    monkeypatch.setattr(status, "open_source", swapped)
    os.utime(project / "a.txt")
    assert brief(vault, project / "a.txt") == ("changed", first)
    left = os.read(pipes[0], 100)
    os.close(pipes[0])
    assert left == b"one"


def test_symlinked_ways_to_a_file(vault: Vault, project: Path, first: SnapshotId, tmp_path: Path) -> None:
    os.symlink(project, tmp_path / "alias")
    os.symlink(project / "src", tmp_path / "sources")
    os.symlink(project / "a.txt", tmp_path / "shortcut")
    assert brief(vault, tmp_path / "alias/src/b.c") == ("saved", first)
    assert brief(vault, tmp_path / "sources/b.c") == ("saved", first)
    assert brief(vault, tmp_path / "shortcut") == ("saved", first)
    assert brief(vault, tmp_path / "alias") == ("saved", first)
    assert brief(vault, project / "src/../a.txt") == ("saved", first)


def test_the_inner_of_two_projects_answers(vault: Vault, project: Path, first: SnapshotId) -> None:
    inner = vault.create_snapshot(project / "src").snapshot
    write(project, {"src/b.c": b"changed"})
    inner = vault.create_snapshot(project / "src").snapshot
    assert brief(vault, project / "src/b.c") == ("saved", inner)


def test_names_that_are_not_utf_8(vault: Vault, project: Path) -> None:
    name = os.fsdecode(b"caf\xe9\n")
    write(project, {name: b"x"})
    taken = vault.create_snapshot(project).snapshot
    [found] = vault.status([project / name])
    assert (found.path, found.state, found.snapshot) == (f"{project}/caf\\xe9\n", "saved", taken)


# -- folders and projects ------------------------------------------------------------------------


def test_a_folder_is_told_of_as_last_seen_with_its_age(vault: Vault, project: Path, first: SnapshotId) -> None:
    write(project, {"src/b.c": b"changed"})
    later = datetime.now(UTC) + timedelta(hours=5)
    with Vault.open(vault.path, now=lambda: later) as vault:
        for path in (project, project / "src"):
            assert brief(vault, path) == ("saved", first)
            assert state(vault, path).reason == f"as of the last look 5 hours ago{status.SCAN_LOOKS}"
        (project / "fresh").mkdir()
        assert brief(vault, project / "fresh") == ("new", None)
        assert state(vault, project / "fresh").reason.endswith(status.SCAN_LOOKS)


def test_scan_looks_now(vault: Vault, project: Path, first: SnapshotId) -> None:
    assert state(vault, project, scan=True) == PathState(str(project), "saved", first, "looked at now")
    write(project, {"src/b.c": b"changed!", "src/new": b"", "more/x": b"", "more/y": b"", "z.tmp": b""})
    (project / "a.txt").unlink()
    shutil.rmtree(project / "art")
    found = state(vault, project, scan=True)
    assert (found.state, found.reason) == ("changed", "3 new, 1 changed, 2 deleted since the newest snapshot")
    assert state(vault, project / "src", scan=True).reason == "1 new, 1 changed since the newest snapshot"
    assert state(vault, project / "more", scan=True).state == "new"
    taken = vault.create_snapshot(project).snapshot
    assert brief(vault, project, scan=True) == ("saved", taken)


def test_a_deleted_folder(vault: Vault, project: Path, first: SnapshotId) -> None:
    shutil.rmtree(project / "src")
    for scan in (False, True):
        assert brief(vault, project / "src", scan=scan) == ("deleted", first)


def test_nothing_named_is_every_project(vault: Vault, project: Path, first: SnapshotId, tmp_path: Path) -> None:
    write(tmp_path / "other", {"x": b""})
    other = vault.create_snapshot(tmp_path / "other").snapshot
    write(tmp_path / "third", {"x": b""})
    vault.add_project(tmp_path / "third")
    assert [(s.path, s.state, s.snapshot) for s in vault.status()] == [
        (str(project), "saved", first),
        (str(tmp_path / "other"), "saved", other),
        (str(tmp_path / "third"), "new", None),
    ]


def test_a_project_whose_last_run_had_problems_is_not_called_saved(vault: Vault, project: Path) -> None:
    os.mkfifo(project / "pipe")
    taken = vault.create_snapshot(project).snapshot
    found = state(vault, project)
    assert (found.state, found.snapshot) == ("changed", taken)
    assert "1 paths could not be saved" in found.reason


def test_without_the_cache_files_are_compared_by_content(vault: Vault, project: Path, first: SnapshotId) -> None:
    """Caches may be deleted at any time: the answer for a file stays right."""
    shutil.rmtree(vault.path / "cache")
    write(project, {"src/b.c": b"changed", "new": b""})
    assert brief(vault, project / "a.txt") == ("saved", first)
    assert brief(vault, project / "link") == ("saved", first)
    assert brief(vault, project / "src/b.c") == ("changed", first)
    assert brief(vault, project / "new") == ("new", None)
    found = state(vault, project)
    assert found.state == "unknown"
    assert "next snapshot" in found.reason or "--scan" in found.reason


def test_a_vault_on_a_read_only_medium_knows_what_was_seen(
    vault: Vault, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vault.create_snapshot(project)

    def refused(path: Path) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    monkeypatch.setattr(stat_cache, "create_private", refused)
    assert brief(vault, project)[0] == "saved"
