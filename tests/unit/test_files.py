"""The door to the disk: what is written is whole, what is read is left alone, a full disk has a name."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path

import pytest

from gitvault.core.utils.files import HAS_DIR_FD, Disk, full_disk_named, open_source, read_link
from gitvault.errors import StorageFullError

posix = pytest.mark.skipif(not HAS_DIR_FD, reason="needs calls relative to a folder")


def test_write_durably_replaces_in_one_step(tmp_path: Path) -> None:
    path = tmp_path / "config"
    disk = Disk()
    disk.write_durably(path, b"one")
    disk.write_durably(path, b"two")
    assert path.read_bytes() == b"two"
    assert [p.name for p in tmp_path.iterdir()] == ["config"]


def test_write_durably_leaves_the_old_content_when_it_fails(tmp_path: Path) -> None:
    class Full(Disk):
        def rename(self, source: Path, target: Path) -> None:
            with full_disk_named(target.parent):
                raise OSError(errno.ENOSPC, "No space left on device")

    path = tmp_path / "config"
    path.write_bytes(b"one")
    with pytest.raises(StorageFullError, match="no space left on the disk; free some space and run again"):
        Full().write_durably(path, b"two")
    assert path.read_bytes() == b"one"
    assert [p.name for p in tmp_path.iterdir()] == ["config"]


def test_only_a_full_disk_is_called_one(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="Input/output error"), full_disk_named(tmp_path):
        raise OSError(errno.EIO, os.strerror(errno.EIO))


def test_a_new_file_never_takes_a_name_that_is_there(tmp_path: Path) -> None:
    (tmp_path / "pack").write_bytes(b"theirs")
    with pytest.raises(FileExistsError):
        Disk().create(tmp_path / "pack")
    assert (tmp_path / "pack").read_bytes() == b"theirs"


def test_folder_sync_hides_no_input_output_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(fd: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", broken)
    if sys.platform == "linux":
        with pytest.raises(OSError, match="Input/output error"):
            Disk().sync_folder(tmp_path)

    def unsupported(fd: int) -> None:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    monkeypatch.setattr(os, "fsync", unsupported)
    Disk().sync_folder(tmp_path)


def test_remove_folder(tmp_path: Path) -> None:
    folder = tmp_path / "scratch"
    folder.mkdir()
    (folder / "made by git").write_bytes(b"x")
    (folder / "made by git").chmod(0o444)
    Disk().remove_folder(folder)
    assert (folder / "made by git").read_bytes() == b"x"
    Disk().unlink(folder / "made by git")
    Disk().remove_folder(folder)
    assert not folder.exists()
    Disk().remove_folder(folder)


@posix
def test_reading_leaves_the_access_time(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"content")
    os.utime(path, ns=(1_000_000_000, 2_000_000_000))
    fd = open_source(str(path))
    assert os.read(fd, 100) == b"content"
    os.close(fd)
    if sys.platform == "linux":
        assert path.stat().st_atime_ns == 1_000_000_000


@posix
def test_a_symlink_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "link").symlink_to("file")
    with pytest.raises(OSError, match="symbolic links"):
        open_source(str(tmp_path / "link"))
    assert read_link(str(tmp_path / "link")) == b"file"


@posix
def test_a_fifo_in_a_files_place_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    os.close(open_source(str(tmp_path / "fifo")))


@posix
def test_paths_longer_than_the_system_takes_in_one_call(tmp_path: Path) -> None:
    here = os.open(tmp_path, os.O_RDONLY)
    path = str(tmp_path)
    for _ in range(30):
        os.mkdir("d" * 200, dir_fd=here)
        below = os.open("d" * 200, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here, path = below, f"{path}/{'d' * 200}"
    fd = os.open("file", os.O_WRONLY | os.O_CREAT, dir_fd=here)
    os.write(fd, b"deep")
    os.close(fd)
    os.symlink("target", "link", dir_fd=here)
    os.close(here)
    assert len(path) > 4096
    fd = open_source(f"{path}/file")
    assert os.read(fd, 10) == b"deep"
    os.close(fd)
    assert read_link(f"{path}/link") == b"target"
    with pytest.raises(FileNotFoundError):
        open_source(f"{path}/nothing")
    with pytest.raises(OSError, match="File name too long"):
        open_source("n" * 5000)
    with pytest.raises(OSError, match="File name too long"):
        read_link("n" * 5000)
