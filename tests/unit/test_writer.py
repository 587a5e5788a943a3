"""The parts of a restore that write one folder, each by itself."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from trees import contents, write

from gitvault.core.backup_engine.writer import Alike, FolderWriter, Job, Selection, Task, Workers, Written
from gitvault.core.models import Entry, Problem
from gitvault.core.utils.target import TargetFolder
from gitvault.core.versioning.meta import Attributes
from gitvault.vault import Vault

EVERYTHING = Selection((), ())


@pytest.fixture
def root(tmp_path: Path) -> Iterator[TargetFolder]:
    (tmp_path / "back").mkdir()
    with TargetFolder.open(tmp_path / "back") as opened:
        yield opened


@pytest.fixture
def problems() -> list[Problem]:
    return []


@pytest.fixture
def writer(vault: Vault, root: TargetFolder, problems: list[Problem]) -> Iterator[FolderWriter]:
    with FolderWriter(vault.history, root, EVERYTHING, True, problems) as made:
        yield made


def test_what_is_selected() -> None:
    assert Selection.of([b"/src//", b"./art/x"], [b"src/lib/"]) == Selection((b"src", b"art/x"), (b"src/lib",))
    assert Selection.of([b"src", b"/"], []) == EVERYTHING
    some = Selection((b"src", b"art/x"), (b"src/lib",))
    covered = [path for path in (b"src", b"src/a", b"srcs", b"src/lib/a", b"art", b"art/x") if some.covers(path)]
    assert covered == [b"src", b"src/a", b"art/x"]
    entered = [path for path in (b"", b"src", b"src/lib", b"art", b"art/x/y", b"other") if some.enters(path)]
    assert entered == [b"", b"src", b"art", b"art/x/y"]
    assert EVERYTHING.covers(b"anything")
    assert EVERYTHING.enters(b"any/where")


def test_what_is_in_the_way_is_replaced_unless_it_holds_something(
    root: TargetFolder, writer: FolderWriter, tmp_path: Path
) -> None:
    write(tmp_path / "back", {"file": b"x", "full/file": b"y"})
    (tmp_path / "back/empty").mkdir()
    assert writer.in_the_way(root, b"file")
    assert not writer.in_the_way(root, b"nothing")
    assert not writer.in_the_way(root, b"empty")
    with pytest.raises(OSError, match=os.strerror(errno.ENOTEMPTY)):
        writer.in_the_way(root, b"full")
    writer.clear(root, b"file")
    writer.clear(root, b"nothing")
    assert contents(tmp_path / "back") == {b"full/file": b"y"}


def test_names_of_files_that_are_not_whole_differ(writer: FolderWriter) -> None:
    made = {writer.temporary_name() for _ in range(3)}
    assert len(made) == 3
    assert all(name.startswith(b".gitvault-") for name in made)


def test_attributes_of_files_and_folders(
    root: TargetFolder, writer: FolderWriter, tmp_path: Path, problems: list[Problem]
) -> None:
    write(tmp_path / "back", {"folder/file": b"x"})
    said = Attributes(b"file", "file", 0o640, 10**18, (os.getuid(), os.getgid()), 1)
    job = Job(b"folder/file", b"file", Entry(b"file", "file", 0o640, 1, 10**18, b"\1" * 20), said)
    with writer.opened(b"folder", "not restored", b"folder") as folder:
        assert folder
        fd = os.open(tmp_path / "back/folder/file", os.O_WRONLY)
        writer.file_attributes(fd, folder, b"file", job)
        os.close(fd)
    writer.folder_attributes(b"folder", b"folder", Attributes(b"", "folder", 0o750, 2 * 10**18, said.owner, 0))
    file, below = (tmp_path / "back/folder/file").stat(), (tmp_path / "back/folder").stat()
    assert (stat.S_IMODE(file.st_mode), file.st_mtime_ns) == (0o640, 10**18)
    assert (stat.S_IMODE(below.st_mode), below.st_mtime_ns) == (0o750, 2 * 10**18)
    writer.folder_attributes(b"nowhere", b"nowhere", said)
    assert problems == [
        Problem(b"nowhere", "attributes of the folder not restored: No such file or directory"),
    ]


def test_a_paths_trouble_is_a_problem_and_a_full_disk_is_not(writer: FolderWriter, problems: list[Problem]) -> None:
    writer.failed(b"a", "not restored", OSError(errno.EACCES, "Permission denied"))
    assert problems == [Problem(b"a", "not restored: Permission denied")]
    with pytest.raises(OSError, match="No space left"):
        writer.failed(b"a", "not restored", OSError(errno.ENOSPC, "No space left on device"))


def test_small_files_of_one_folder(
    vault: Vault, root: TargetFolder, writer: FolderWriter, tmp_path: Path, problems: list[Problem]
) -> None:
    vault.create_snapshot(write(tmp_path / "acme", {"a": b"same", "b": b"same", "c": b"other"}))
    entries = {entry.path: entry for entry in vault.entries("acme")}
    jobs: dict[bytes, list[Job]] = {b"\7" * 20: [Job(b"gone", b"gone", entries[b"a"], None)]}
    for name, entry in entries.items():
        jobs.setdefault(entry.blob, []).append(Job(name, name, entry, None))
    assert writer.write_small(root, jobs) == (3, 13)
    assert contents(tmp_path / "back") == {b"a": b"same", b"b": b"same", b"c": b"other"}
    assert [problem.path for problem in problems] == [b"gone"]


def test_names_that_may_be_one_are_left_until_the_earlier_are_there(
    vault: Vault, root: TargetFolder, writer: FolderWriter, tmp_path: Path
) -> None:
    vault.create_snapshot(write(tmp_path / "acme", {"A": b"1", "a": b"22", "b": b"333"}))
    tree, meta_tree = vault.history.trees(vault.resolve("acme"))
    done = writer.write([Task(b"", tree, meta_tree, True)])
    assert (done.files, done.size) == (2, 4)
    [left] = done.alike
    assert isinstance(left, Alike)
    assert (left.path, left.item[0].path, left.earlier) == (b"", b"a", [b"A"])
    more = Written()
    writer.write_entries(root, Task(left.path, tree, meta_tree, True, left.folder), [left.item], more)
    assert (more.files, more.size, more.alike) == (1, 2, [])
    assert contents(tmp_path / "back") == {b"A": b"1", b"a": b"22", b"b": b"333"}


def test_workers_take_the_tasks_nearest_to_the_root(
    vault: Vault, root: TargetFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vault.create_snapshot(write(tmp_path / "acme", {f"{name}/file": name.encode() for name in "abcd"}))
    pending = [Task(e.path, e.blob, None, True) for e in vault.entries("acme")]
    for task in pending:
        root.mkdir(task.path)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    workers = Workers(vault.path, root, EVERYTHING, False)
    workers.give(pending)
    assert (len(pending), workers.busy(), workers.running()) == (4, False, False), "none is started yet"
    workers.start()
    workers.start()
    workers.give(pending)
    assert [task.path for task in pending] == [b"d"], "a half, and a half of the rest"
    workers.give(pending, everything=True)
    assert pending == []
    written = []
    while workers.busy():
        written += workers.replies(wait=True)
    assert [(each.files, each.size) for each in written] == [(2, 2), (1, 1), (1, 1)]
    assert contents(tmp_path / "back") == {b"%c/file" % name: b"%c" % name for name in b"abcd"}
    assert list(workers.replies(wait=True)) == [], "nothing is under way"
    workers.close()
