"""Writing beneath a folder and nowhere else."""

from __future__ import annotations

import gc
import os
import sys
from pathlib import Path

import pytest

from gitvault.core.utils import target
from gitvault.core.utils.target import Descent, TargetFolder, discard, is_plain, write_all, write_holes

pytestmark = [pytest.mark.disk, pytest.mark.skipif(sys.platform == "win32", reason="POSIX calls")]


@pytest.mark.parametrize("name", [b"", b".", b"..", b"a/b", b"/", b"a\0"])
def test_what_is_no_name_in_a_folder(name: bytes, tmp_path: Path) -> None:
    assert not is_plain(name)
    with TargetFolder.open(tmp_path) as folder:
        for method in (folder.create, folder.enter, folder.mkdir, folder.lstat, folder.unlink, folder.rmdir):
            with pytest.raises(ValueError, match="is not a name in a folder"):
                method(name)
        with pytest.raises(ValueError, match="is not a name in a folder"):
            folder.rename(b"good", name)
    assert all(map(is_plain, (b"a", b"...", b"..a", b"\\", b"\n", b"\xff")))


def test_no_symlink_is_entered_or_written_through(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "inside").mkdir()
    os.symlink("../outside", tmp_path / "inside/folder")
    os.symlink("../outside/file", tmp_path / "inside/file")
    with TargetFolder.open(tmp_path / "inside") as folder:
        for look in (folder.enter, folder.descend):
            with pytest.raises(OSError):
                look(b"folder")
        with pytest.raises(FileExistsError):
            folder.create(b"file")
        found = folder.lstat(b"folder")
        assert found and found.st_nlink == 1
    assert list((tmp_path / "outside").iterdir()) == []


def test_the_folder_stays_the_same_when_its_name_is_given_to_another(tmp_path: Path) -> None:
    """Between opening and writing somebody replaces the folder by a link: it is still written to the folder."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "here").mkdir()
    with TargetFolder.open(tmp_path / "here") as folder:
        os.rename(tmp_path / "here", tmp_path / "moved")
        os.symlink("elsewhere", tmp_path / "here")
        os.close(folder.create(b"file"))
    assert [p.name for p in (tmp_path / "moved").iterdir()] == ["file"]


def test_a_folder_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    with TargetFolder.open(tmp_path) as folder:
        folder.mkdir(b"new")
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700


def test_the_ways_without_descriptors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Windows: every name is checked and joined."""
    monkeypatch.setattr(target, "HAS_DIR_FD", False)
    with TargetFolder.open(tmp_path) as folder:
        folder.mkdir(b"sub")
        with folder.enter(b"sub") as sub:
            os.close(sub.create(b"one"))
            folder.link(sub, b"one", b"two")
            sub.rename(b"one", b"three")
            sub.symlink(b"three", b"link")
            sub.set_times(None, 5)
        folder.set_times(b"two", 7)
        folder.set_owner(b"two", (os.getuid(), os.getgid()))
        discard(folder, b"missing")
        with pytest.raises(NotADirectoryError):
            folder.enter(b"two")
        with folder.descend(b"sub") as sub:
            assert sub.path() == str(tmp_path / "sub")
            sub.unlink(b"link")
            sub.unlink(b"three")
        assert (tmp_path / "two").stat().st_mtime_ns == 7
        folder.rmdir(b"sub")
    assert [p.name for p in tmp_path.iterdir()] == ["two"]


@pytest.mark.parametrize(
    "data",
    [b"", b"\0", bytes(4096), bytes(10_000), b"x" + bytes(8191) + b"y", bytes(4096) + b"x" * 5000 + bytes(5000)],
    ids=["nothing", "one", "block", "zeros", "between", "mixed"],
)
def test_holes_read_as_the_zeros_they_stand_for(data: bytes, tmp_path: Path) -> None:
    with TargetFolder.open(tmp_path) as folder:
        fd = folder.create(b"file")
        write_all(fd, b"abc")
        write_holes(fd, data)
        write_holes(fd, data)
        os.ftruncate(fd, 3 + 2 * len(data))
        os.close(fd)
    assert (tmp_path / "file").read_bytes() == b"abc" + data + data


def test_a_descent_reaches_every_folder_with_few_open_files(tmp_path: Path) -> None:
    depth = 300
    deep = b"/".join([b"d"] * depth)
    gc.collect()
    with TargetFolder.open(tmp_path) as root:
        at = root.descend(b"")
        for _ in range(depth):
            with at:
                at.mkdir(b"d")
                at.mkdir(b"side")
                at = at.enter(b"d")
        at.close()
        before = len(os.listdir("/proc/self/fd")) if sys.platform == "linux" else 0
        with Descent(root) as descent:
            for path in (deep, deep[:-2], b"d/side", deep + b"/../side", b"", b"d/d/side", deep):
                if b".." in path:
                    with pytest.raises(ValueError, match="not a name"):
                        descent.to(path)
                    continue
                with descent.to(path) as found:
                    assert os.path.samestat(os.fstat(found.fd), os.stat(tmp_path / os.fsdecode(path)))
            with pytest.raises(FileNotFoundError):
                descent.to(deep + b"/none")
            if sys.platform == "linux":
                assert len(os.listdir("/proc/self/fd")) - before < 80
        if sys.platform == "linux":
            assert len(os.listdir("/proc/self/fd")) == before, "all are closed"
